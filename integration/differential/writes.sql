# Statements that write, and transactions, by rule. See mod.rs.

[INSERT of one row]
INSERT INTO people (id, name) VALUES (101, 'new');
INSERT INTO people (name, id) VALUES ('new', 102);
INSERT INTO people VALUES (103, 'new');
INSERT INTO people (id) VALUES (-104);
INSERT INTO people (id) VALUES (+105);
INSERT INTO people (id) VALUES ('107');
INSERT INTO people (id) VALUES (' 108 ');
INSERT INTO people (id) VALUES (109::smallint);
INSERT INTO people (id) VALUES ('111.5');
INSERT INTO people (id) VALUES ((113));
INSERT INTO people (id) VALUES (CAST('114' AS bigint));
INSERT INTO people (id) VALUES (NULL);
INSERT INTO people (id, name) VALUES (115);
INSERT INTO people (id) VALUES (116, 'x');
INSERT INTO people (id, nosuch) VALUES (117, 'x');
INSERT INTO people (id, id) VALUES (118, 119);
INSERT INTO people (id) VALUES (101);
INSERT INTO people (id) VALUES (9223372036854775808);
INSERT INTO people (id) VALUES (9223372036854775807);
INSERT INTO people (id) VALUES (-9223372036854775808);
INSERT INTO people AS p (id, age) VALUES (120, 1) RETURNING p.id, age + 1;
INSERT INTO public.people (id) VALUES (121) RETURNING *;
INSERT INTO "people" ("id") VALUES (122);
INSERT INTO people (id, age) VALUES ($1, $2);
with: 123, 5
INSERT INTO people (name, id) VALUES ($2, $1);
with: 126, x
INSERT INTO people (id) VALUES ($1);
with: NULL
INSERT INTO people (id) VALUES ($1::int);
with: 128
INSERT INTO numbered (id, v) VALUES (5, 'x');
INSERT INTO people (id, age) VALUES (132, (SELECT count(*) FROM countries));
INSERT INTO tiny VALUES (100000, 1);
INSERT INTO tiny VALUES (100, 1);
INSERT INTO mid VALUES (3000000000, 'x');
INSERT INTO words (word) VALUES ('new word');
INSERT INTO words (word) VALUES ('trailing  ');
INSERT INTO words (word) VALUES ($1);
with: param 
INSERT INTO words (word) VALUES ($1);
with: Ægir 🙂
INSERT INTO nicks VALUES ('q1', 1);
INSERT INTO nicks VALUES ('toolong', 4);
INSERT INTO tokens (id, owner) VALUES ('B0EEBC99-9C0B-4EF8-BB6D-000000000003', 1);
INSERT INTO tokens (id, owner) VALUES ('{b0eebc99-9c0b-4ef8-bb6d000000000004}', 1);
INSERT INTO tokens (id, owner) VALUES (uuid 'b0eebc99-9c0b-4ef8-bb6d-000000000005', 1) RETURNING id;
INSERT INTO "Mixed Case" ("Key", key) VALUES (100, 5);
INSERT INTO "Mixed Case" (key, "Key") VALUES (101, 6);
INSERT INTO "Mixed Case" VALUES (104, 1, 'x', 2);

[INSERT of one row, refused] refused
INSERT INTO people (id) VALUES (110.0);
INSERT INTO people (id) VALUES (110.5);
INSERT INTO people (id) VALUES (1e2);
INSERT INTO people (id) VALUES (DEFAULT);
INSERT INTO people (name) VALUES ('no key');
INSERT INTO people DEFAULT VALUES;
INSERT INTO people (id, name) OVERRIDING USER VALUE VALUES (129, 'x');
INSERT INTO numbered (id, v) OVERRIDING USER VALUE VALUES (6, 'x');
INSERT INTO numbered (v) VALUES ('x');
INSERT INTO people (id, age) VALUES (130, (SELECT max(age) FROM people));
INSERT INTO people (id, age) VALUES (131, (SELECT age FROM people WHERE id = 131));
INSERT INTO people (id, age) VALUES (134, 1) ORDER BY 1 LIMIT 1;
INSERT INTO people_view (id, name) VALUES (136, 'x');
INSERT INTO words (word) VALUES (18);
INSERT INTO words (word) VALUES (E'tab\there');
INSERT INTO words (word) VALUES (U&'\00e6');
INSERT INTO nicks VALUES ('q2      ', 2);
INSERT INTO nicks VALUES ('q3 ', 3);
INSERT INTO nicks VALUES ($1, 5);
with: q4      
INSERT INTO nicks VALUES ('q56789'::varchar(5), 6);
INSERT INTO nicks VALUES ('q6'::char(5), 6);
INSERT INTO tokens (id, owner) VALUES (gen_random_uuid(), 1);
INSERT INTO "Mixed Case" (key) VALUES (102);
INSERT INTO "Mixed Case" (Key, "order") VALUES (103, 1);

[INSERT of one row, refused in one protocol] maybe
INSERT INTO people (id, age) VALUES ($1, $1);
with: 124
INSERT INTO people (age, id) VALUES ($1, $1);
with: 125
INSERT INTO people (id, age, name) VALUES (6220, $1, 'a'), (6221, 1, $1), (6222, 2, $1), (6223, 3, $1);
with: 5

[INSERT of several rows]
INSERT INTO people (id, age) VALUES (201, 1), (201, 2);
INSERT INTO orders (id, person_id) VALUES (9001, 4), (9002, 4), (9003, 4);
INSERT INTO orders (id, person_id) VALUES (9004, 4), (9005, NULL);
INSERT INTO orders (person_id, id) VALUES ('4', 9008), (4::int, 9009), ($1, 9010);
with: 4
INSERT INTO orders (person_id, id) VALUES (4, 9011), (4);
INSERT INTO orders VALUES (9014, 6, 1.005, 2), (9015, 6, 1.5, 3) RETURNING total, qty * 2;

[INSERT of several rows, refused] refused
INSERT INTO orders (id, person_id) VALUES (9006, 4), (9007, DEFAULT);
INSERT INTO people (id, age) WITH x AS (SELECT 1) VALUES (6208, 1), (6209, 2), (6210, 3), (6211, 4);
INSERT INTO people (id, age) VALUES (6212, 1), (6213, (SELECT max(age) FROM people)), (6214, 1), (6215, 1);
INSERT INTO people (id, age) VALUES (6216, 1), (6217, 2), (6218, 3), (6219, 4) ON CONFLICT (id) DO UPDATE SET id = 1;

[INSERT of rows of several shards] ordered
INSERT INTO people (id, age) VALUES (6001, 1), (6002, 2), (6003, 3), (6004, 4), (6005, 5), (6006, 6);
INSERT INTO people (id, age) VALUES (6011, 1), (6012, 2), (6013, 3), (6014, 4), (6015, 5) RETURNING id, age + 1, name;
INSERT INTO people (age, id) VALUES (1, 6021), (2, '6022'), (3, 6023::int), (4, CAST('6024' AS bigint)) RETURNING *;
INSERT INTO people (id, age, name) VALUES (6031, DEFAULT, 'x''y'), (6032, 1, ')'), (6033, 2, E'\t('), (6034, 3, $$,($$) RETURNING id, age, name;
INSERT INTO people (id, age, name) VALUES ($1, 1, $2), ($3, 2, $4), ($5, 3, $6), ($7, 4, 'it') RETURNING id, age, name;
with: 6041, a, 6042, b, 6043, c, 6044
INSERT INTO people (id, age) VALUES ($1, $5), ($2, $5), ($3, $5), ($4, $5) RETURNING id, age;
with: 6051, 6052, 6053, 6054, 77
INSERT INTO people (id, age) VALUES (6061, 1 + 1), (6062, (SELECT count(*) FROM countries)), (6063, abs(-3)), (6064, NULL) RETURNING id, age;
INSERT INTO people (id, name) /* ( */ VALUES -- a, (b
 (6071, 'a') /* between ) */ , -- (
 (6072, 'b'),
 (6073, 'c'), (6074 -- )
 , 'd') -- after
 RETURNING id, name;
INSERT INTO people (id, age) VALUES (6081, 1), (6082, 2), (6083, 3), (6001, 4) RETURNING id;
SELECT count(*) FROM people WHERE id BETWEEN 6081 AND 6083;
INSERT INTO people (id, age) VALUES (6091, 1), (6092, 'x'), (6093, 2), (6094, 3);
INSERT INTO people (id, age) VALUES (6091, 1), (6092, 1, 1), (6093, 2), (6094, 3);
INSERT INTO people (id, age) VALUES (6091, 1), (6092, generate_series(1, 2)), (6093, 2), (6094, 3);
INSERT INTO people (id, age) VALUES (6091, 1), (6092, nosuch), (6093, 2), (6094, 3);
INSERT INTO people (id, nosuch) VALUES (6091, 1), (6092, 1), (6093, 2), (6094, 3);
INSERT INTO people (id, age) VALUES (6091, 1), (6092, 1), (6093, 2), (6094, 1 / 0);
INSERT INTO people (id) VALUES (6091), (6092), (6093), (NULL);
SELECT count(*) FROM people WHERE id BETWEEN 6091 AND 6094;
INSERT INTO people (id, age) VALUES (6101, 1), (6102, 1), (6103, 1), (6104, 1), (6001, 90) ON CONFLICT DO NOTHING;
INSERT INTO people (id, age) VALUES (6101, 9), (6102, 8), (6103, 7), (6105, 6) ON CONFLICT (id) DO UPDATE SET age = excluded.age + people.age RETURNING id, age;
INSERT INTO people (id, age) VALUES (6101, 9), (6102, 8), (6103, 7), (6101, 6) ON CONFLICT (id) DO UPDATE SET age = excluded.age;
INSERT INTO people AS p (id, age) VALUES (6101, 9), (6102, 8), (6103, 7), (6104, 6) ON CONFLICT (id) DO UPDATE SET age = $1 WHERE p.age > $2 RETURNING p.id, p.age, $3::text;
with: 100, 0, text
INSERT INTO words (word, n) VALUES ('several', 1), ('words', 2), ('of', 3), ('many', 4), ('shards', 5) RETURNING word;
INSERT INTO tokens (id, owner) VALUES ('c0eebc99-9c0b-4ef8-bb6d-000000000001', 1), ('c0eebc99-9c0b-4ef8-bb6d-000000000002', 1), ('c0eebc99-9c0b-4ef8-bb6d-000000000003', 1), ('C0EEBC999C0B4EF8BB6D000000000004', 1) RETURNING id;
INSERT INTO orders (id, person_id) VALUES (9201, 1), (9202, 2), (9203, 3), (9204, 4), (9205, 1), (9206, 2) RETURNING person_id, id;
INSERT INTO numbered VALUES (6001, 'a'), (6002, 'b'), (6003, 'c'), (6004, 'd');

[INSERT of rows of several shards, where fewer are returned than given]
INSERT INTO people (id, age) VALUES (6111, 1), (6001, 2), (6112, 3), (6113, 4), (6114, 5) ON CONFLICT DO NOTHING RETURNING id, age;
INSERT INTO people (id, age) VALUES (6111, 1), (6112, 3), (6113, 4), (6114, 5) ON CONFLICT (id) DO UPDATE SET age = 6 WHERE people.id > 6112 RETURNING id;

[INSERT of rows of several shards in a transaction] maybe
BEGIN;
INSERT INTO people (id, age) VALUES (6121, 1), (6122, 2), (6123, 3), (6124, 4);
COMMIT;
SELECT count(*) FROM people WHERE id BETWEEN 6121 AND 6124;

[INSERT from a query]
INSERT INTO orders (id, person_id) SELECT * FROM (VALUES (9016, 4)) v;
INSERT INTO orders (id, person_id) SELECT id, person_id FROM items WHERE person_id = 4;
INSERT INTO orders (id, person_id) SELECT DISTINCT order_id + 9400, person_id FROM items WHERE person_id = 4;
INSERT INTO people (id, age) SELECT 133, 4;
INSERT INTO people (id, age) SELECT 7001, count(*) FROM countries;
INSERT INTO people (id, name) SELECT '7002', name FROM countries WHERE code = 'no' RETURNING id, name;
INSERT INTO people (id, age) SELECT $1, 4;
with: 7003
INSERT INTO items (order_id, person_id, n) SELECT id, person_id, 7100 FROM orders;
INSERT INTO items (order_id, person_id, n) SELECT o.id, p.id, 7101 FROM orders o JOIN people p ON p.id = o.person_id WHERE p.age > 0 RETURNING order_id, n;
INSERT INTO items (order_id, person_id, n) SELECT max(id), person_id, 7102 FROM orders GROUP BY person_id HAVING count(*) > 1;
INSERT INTO items (person_id, n) SELECT DISTINCT person_id, 7103 FROM orders WHERE qty > $1 ORDER BY 1;
with: 1
INSERT INTO items (order_id, person_id, n) SELECT id, person_id, 7104 FROM orders WHERE person_id = 4 ORDER BY id LIMIT 2;
INSERT INTO people (id, name) SELECT person_id, 'dup' FROM orders;
INSERT INTO people (id, name) SELECT DISTINCT person_id, 'dup' FROM orders WHERE person_id IS NOT NULL ON CONFLICT (id) DO UPDATE SET name = excluded.name || people.age;
INSERT INTO tiny SELECT id, age FROM people WHERE id BETWEEN 7001 AND 7003;

[UPDATE and DELETE with RETURNING over shards]
UPDATE people SET age = age + 1 WHERE age > 3 RETURNING id, age;
UPDATE people SET name = 'r' WHERE id IN (6001, 6002, 6003, 6004) RETURNING *;
UPDATE people p SET name = 'joined' FROM orders o WHERE o.person_id = p.id AND o.id > 9200 RETURNING p.id, o.person_id;
UPDATE people SET name = c.name FROM countries c WHERE c.person_id = people.id RETURNING people.id, c.code, (SELECT count(*) FROM countries);
UPDATE people SET age = $1 WHERE age = $2 RETURNING id, $3::int + age;
with: 41, 5, 1
UPDATE people SET age = 1 / (id - 6003) WHERE id > 6000 RETURNING id;
SELECT count(*) FROM people WHERE age = 0;
UPDATE people SET age = 1 WHERE false RETURNING id;
DELETE FROM people WHERE id BETWEEN 6001 AND 6014 RETURNING id, name, age;
DELETE FROM people p USING orders o WHERE o.person_id = p.id AND o.id = 9203 RETURNING o.id;
DELETE FROM people WHERE id = ANY (ARRAY[6101, 6102, 6103]) RETURNING *;
DELETE FROM people USING countries c WHERE c.person_id = people.id AND people.id > 6000 RETURNING c.code;

[ON CONFLICT]
INSERT INTO people (id, age) VALUES (1, 50) ON CONFLICT DO NOTHING;
INSERT INTO people (id, age) VALUES (1, 51) ON CONFLICT (id) DO UPDATE SET age = excluded.age;
INSERT INTO people (id, age) VALUES (1, 52) ON CONFLICT (id) DO UPDATE SET age = people.age + 1 RETURNING age;
INSERT INTO people (id, age) VALUES (1, 54) ON CONFLICT (id) DO UPDATE SET age = 54 WHERE people.age > 1000;
INSERT INTO people (id, age) VALUES (1, 54) ON CONFLICT (id) DO UPDATE SET age = 55 WHERE people.id = 2;
INSERT INTO people (id, age) VALUES (1, 54) ON CONFLICT ON CONSTRAINT people_pkey DO NOTHING;
INSERT INTO people (id, age) VALUES (1, 54), (1, 55) ON CONFLICT (id) DO UPDATE SET age = excluded.age;

[ON CONFLICT, refused] refused
INSERT INTO people (id, age) VALUES (1, 53) ON CONFLICT (id) DO UPDATE SET id = 77;
INSERT INTO people (id, age) VALUES (1, 53) ON CONFLICT (id) DO UPDATE SET (age, id) = (1, 78);
INSERT INTO people (id, age) VALUES (1, 53) ON CONFLICT (id) DO UPDATE SET (age, id) = (SELECT 1, 78);
INSERT INTO people (id, age) VALUES (1, 54) ON CONFLICT (id) DO UPDATE SET age = (SELECT max(age) FROM people);
INSERT INTO countries VALUES ('no', 'Norge') ON CONFLICT (code) DO UPDATE SET name = excluded.name;

[UPDATE]
UPDATE people SET age = 60 WHERE id = 3;
UPDATE people SET age = 61 WHERE id IN (3, 4, 5);
UPDATE people SET age = age + 1;
UPDATE people SET age = 62 WHERE age > 1;
UPDATE people SET age = 63 WHERE id = 3 OR age = 62;
UPDATE people SET age = 64 WHERE id = 3 AND id = 4;
UPDATE people SET age = 65 WHERE NOT id = 3 AND id < 6;
UPDATE people SET age = CASE WHEN id = 3 THEN 1 ELSE 2 END WHERE id BETWEEN 1 AND 9;
UPDATE people SET (age, name) = (1, 'pair') WHERE id = 6;
UPDATE people SET (age, name) = ROW(2, 'row') WHERE id = 6;
UPDATE people SET (age, name) = (SELECT 3, 'query') WHERE id = 6;
UPDATE people SET age = DEFAULT WHERE id = 7;
UPDATE people AS p SET age = 66 WHERE p.id = 8;
UPDATE people p SET age = 66 WHERE p.id = 8;
UPDATE people SET age = 67 WHERE people.id = 9 RETURNING id, age;
UPDATE people SET age = 68 WHERE id IN (9, 10, 11) RETURNING id, age;
UPDATE people SET age = NULL WHERE id = NULL;
UPDATE people SET age = (SELECT max(v) FROM tiny WHERE id = 3) WHERE id = 3;
UPDATE people SET age = (SELECT count(*) FROM countries) WHERE id = 3;
UPDATE people SET age = (SELECT count(*) FROM countries);
UPDATE people SET age = random() * 0 WHERE id > 5;
UPDATE people SET name = 'u' FROM orders WHERE orders.person_id = people.id AND people.id = 12;
UPDATE people SET name = 'v' FROM orders WHERE orders.person_id = people.id;
UPDATE people SET name = c.name FROM countries c WHERE c.person_id = people.id;
UPDATE people SET name = c.name FROM countries c WHERE c.person_id = people.id AND people.id = 1;
UPDATE orders o SET note = 'joined' FROM people p JOIN items i ON i.person_id = p.id WHERE o.person_id = p.id AND p.age > 0;
UPDATE orders SET total = total * 1.1 WHERE person_id = $1;
with: 4
UPDATE orders SET total = $2 WHERE person_id = $1 AND id > $3;
with: 6, 7.005, 0
UPDATE "Mixed Case" SET "order" = 9 WHERE "Key" = 3;
UPDATE "Mixed Case" SET key = 9 WHERE "Key" = 3;
UPDATE words SET n = n + 1 WHERE word = 'a';
UPDATE words SET n = n + 1 WHERE word IN ('a', 'A', 'ä');
UPDATE tokens SET label = 'z' WHERE id = 'a0eebc99-9c0b-4ef8-bb6d-000000000003';
UPDATE countries SET area = area + 1;
UPDATE countries SET area = area + 1 WHERE code = 'no' RETURNING *;
UPDATE countries SET area = (SELECT count(*) FROM countries);
UPDATE countries SET name = to_char(area, '999.9') WHERE code = 'dk';
UPDATE countries SET name = upper(name) || coalesce(name, 'x');
UPDATE notes SET what = 'changed' WHERE id = 3;
UPDATE nosuch SET age = 1 WHERE id = 3;
UPDATE people SET nosuch = 1 WHERE id = 3;

[UPDATE, refused] refused
UPDATE people SET U&"\0069d" = 300 WHERE id = 3;
UPDATE people SET name = n.what FROM notes n WHERE n.person_id = people.id;
UPDATE countries SET area = random();
UPDATE countries SET made = now();
UPDATE countries SET made = CURRENT_TIMESTAMP;
UPDATE countries SET made = statement_timestamp() WHERE code = 'no';
UPDATE countries SET made = DEFAULT WHERE code = 'no';
UPDATE countries SET area = (SELECT count(*) FROM people);
UPDATE countries SET area = 7 FROM people WHERE people.id = countries.person_id;
UPDATE countries SET area = pg_backend_pid() WHERE code = 'no';
UPDATE countries SET name = inet_server_port()::text WHERE code = 'no';
UPDATE countries SET name = ctid::text WHERE code = 'no';
UPDATE people SET age = 1 WHERE CURRENT OF c;

[UPDATE, where keys may be on one shard] maybe
UPDATE people SET name = 'x' FROM orders o WHERE people.id = 13 AND o.person_id = 14;

[DELETE]
DELETE FROM people WHERE id = 20;
DELETE FROM people WHERE id IN (21, 22) RETURNING id;
DELETE FROM people WHERE id = 23 RETURNING *;
DELETE FROM people p WHERE p.id = 24;
DELETE FROM people AS p USING orders o WHERE o.person_id = p.id AND p.id = 16;
DELETE FROM people USING orders WHERE orders.person_id = people.id AND orders.id > 200;
DELETE FROM people USING countries c WHERE c.person_id = people.id AND c.code = 'dk';
DELETE FROM items WHERE person_id = 4 AND n IS NULL;
DELETE FROM items WHERE n IS NULL;
DELETE FROM items WHERE person_id = 6 AND order_id IN (SELECT id FROM orders WHERE person_id = 6);
DELETE FROM orders WHERE NOT person_id = 4 AND qty = 3;
DELETE FROM orders WHERE person_id = 4 AND qty = 99 OR qty = 2;
DELETE FROM people WHERE false;
DELETE FROM people WHERE id = NULL;
DELETE FROM tiny WHERE v = 2;
DELETE FROM tiny;
DELETE FROM countries WHERE code = 'xx' RETURNING name;
DELETE FROM notes WHERE id = 4;

[DELETE, refused] refused
DELETE FROM items WHERE ctid IN (SELECT ctid FROM items LIMIT 1);
DELETE FROM countries WHERE code IN (SELECT name FROM people);
DELETE FROM countries WHERE ctid = (SELECT min(ctid) FROM countries);

[INSERT into tables that every shard has]
INSERT INTO countries VALUES ('se', 'Sweden', 450, 3, '2020-01-01');
INSERT INTO countries (code, name, made) VALUES ('fi', 'Finland', '2020-01-01') RETURNING code;
INSERT INTO countries (code, area, made) SELECT code || '2', area, made FROM countries;
INSERT INTO countries VALUES ('no', 'twice', 1, 1, '2020-01-01');
INSERT INTO notes VALUES (100, 3, 'new') RETURNING id;
INSERT INTO notes SELECT id + 200, person_id, what FROM notes;
INSERT INTO countries (code, area, made) SELECT name, id, '2020-01-01' FROM people WHERE id = 3;

[INSERT into tables that every shard has, refused] refused
INSERT INTO countries (code) VALUES ('zz');
INSERT INTO countries (code, made) VALUES ('zy', DEFAULT);
INSERT INTO countries (code, made) VALUES ('zx', now());
INSERT INTO countries (code, made) VALUES ('zw', CURRENT_DATE);
INSERT INTO countries VALUES ('zv', 'short');
INSERT INTO countries (code, area, made) VALUES ('zu', random(), '2020-01-01');
INSERT INTO stray VALUES (2, 'b');

[COPY from the client]
COPY people (id, name, age) FROM STDIN;
8001	text	1
8002	\N	\N
8003	a\tb\\c	3
8004	\x41\102	4
\N8005	x	5
\.
COPY people (id, name, age) FROM STDIN;
8001	text	1
8002	\N	\N
8003	a\tb\\c	3
8004	\x41\102	4
\x38005	x	5
8006	y\
z	6
\.
COPY people (age, id) FROM STDIN WITH (FORMAT text, DELIMITER '|', NULL 'none');
1|8011
none|8012
3| 8013
4|8014
\.
COPY people (id, name) FROM STDIN WITH (FORMAT csv, HEADER);
id,"na
me"
8021,"a ""quoted"", b"
8022,
8023,""
8024,"two
lines"
\.
COPY people (id, name) FROM STDIN DELIMITER ';' NULL AS 'x' CSV HEADER QUOTE AS '''' ESCAPE E'\\';
id;name
8031;'a\';b'
8032;x
8033;'x'
8034;"
\.
COPY people (id, age) FROM STDIN WHERE age > 2;
8041	1
8042	2
8043	3
8044	4
\.
COPY words (word, n) FROM STDIN;
copied one	1
copied two	2
copied three	3
kopiert fünf	5
\.
COPY tokens (id, owner) FROM STDIN (FORMAT csv);
d0eebc99-9c0b-4ef8-bb6d-000000000001,1
{D0EEBC99-9c0b-4ef8-bb6d-000000000002},2
d0eebc999c0b4ef8bb6d000000000003,3
\.
COPY orders (id, person_id) FROM STDIN;
9301	1
9302	2
9303	3
9304	4
\.
COPY countries (code, name, made) FROM STDIN;
c1	Copied	2020-01-01
c2	\N	2020-01-02
\.
COPY people (id, age) FROM STDIN;
\.

[COPY to the client]
COPY people TO STDOUT;
COPY people (id, name) TO STDOUT (FORMAT csv, HEADER);
COPY people (id, name) TO STDOUT CSV HEADER FORCE QUOTE name;
COPY people (id, name) TO STDOUT WITH DELIMITER '|' NULL 'none';
COPY (SELECT id, name FROM people WHERE id > 8000) TO STDOUT;
COPY (SELECT p.id, o.id FROM people p JOIN orders o ON o.person_id = p.id) TO STDOUT (FORMAT csv, HEADER true);
COPY (SELECT id FROM people WHERE id IN (1, 2, 3, 4, 5)) TO STDOUT;
COPY countries TO STDOUT;
COPY people (nosuch) TO STDOUT;
COPY (SELECT 1 / (id - 8001) FROM people WHERE id > 8000) TO STDOUT;

[COPY in a transaction]
BEGIN;
COPY people (id) TO STDOUT;
COMMIT;

[writes inside WITH, MERGE and others]
WITH made AS (INSERT INTO notes VALUES (300, 1, 'w') RETURNING id) SELECT id FROM made;
MERGE INTO notes n USING (VALUES (3)) v (id) ON n.id = v.id WHEN MATCHED THEN UPDATE SET what = 'merged';
CREATE MATERIALIZED VIEW copied AS SELECT count(*) FROM people;
COPY notes FROM STDIN;
400	1	copied
\.
SELECT count(*) FROM people;
SELECT count(*) FROM orders;
SELECT setval('numbered_id_seq', 10);
SELECT nextval('numbered_id_seq');
TRUNCATE words;
SELECT count(*) FROM words;
ALTER TABLE mid ADD COLUMN extra integer DEFAULT 5;
SELECT id, extra FROM mid WHERE id = 3;
SELECT sum(extra) FROM mid;
SELECT * FROM mid;
DROP TABLE nicks_nosuch;

[writes inside WITH, of one shard]
WITH gone AS (DELETE FROM orders WHERE person_id = 7 RETURNING id) SELECT count(*) FROM gone;
WITH gone AS (DELETE FROM orders WHERE person_id = 7 RETURNING id) SELECT count(*) FROM gone;
WITH made AS (INSERT INTO people (id) VALUES (401) RETURNING id) SELECT id FROM made;
WITH made AS (INSERT INTO people (id) VALUES (401) RETURNING id) SELECT id FROM made;
WITH made AS (INSERT INTO people (id) VALUES (402) RETURNING id) INSERT INTO orders (id, person_id) VALUES (9100, 402);
WITH made AS (INSERT INTO people (id) VALUES (405) RETURNING id) INSERT INTO orders (id, person_id) SELECT 9101, id FROM made RETURNING *;
WITH x AS (SELECT 1) INSERT INTO people (id) VALUES (404);
WITH x AS (SELECT 5 AS n) UPDATE people SET age = x.n FROM x WHERE people.id = 6;
WITH u AS (UPDATE people SET age = 9 WHERE id = 8 RETURNING id) UPDATE orders SET qty = 9 WHERE person_id = 8;
WITH moved AS (DELETE FROM orders WHERE person_id = 11 RETURNING *) INSERT INTO items (order_id, person_id, sku, n) SELECT id, person_id, 'moved', qty FROM moved;
WITH moved AS (DELETE FROM items WHERE person_id = 11 RETURNING person_id AS who, order_id), kept AS (SELECT * FROM moved WHERE order_id > 0) INSERT INTO orders (person_id, id) SELECT DISTINCT who, order_id FROM kept;
WITH moved AS (DELETE FROM orders WHERE person_id = 12 RETURNING *) INSERT INTO orders SELECT * FROM moved;
WITH moved AS (UPDATE people SET age = 3 WHERE id = 14 RETURNING *) INSERT INTO orders (id, person_id, qty) SELECT 9102, m.id, m.age FROM moved m RETURNING qty;
WITH picked AS (SELECT id FROM orders WHERE person_id = 13 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) UPDATE orders o SET note = 'picked' FROM picked WHERE o.id = picked.id AND o.person_id = 13 RETURNING o.id;
WITH gone AS (DELETE FROM orders WHERE person_id = 13 AND note = 'picked' RETURNING person_id) SELECT c.name FROM gone LEFT JOIN countries c ON c.person_id = gone.person_id;
WITH v AS (SELECT 3 AS age) MERGE INTO people p USING v ON p.id = 16 WHEN MATCHED THEN UPDATE SET age = v.age WHEN NOT MATCHED THEN INSERT (id) VALUES (16);
WITH RECURSIVE up AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM up WHERE n < 200), gone AS (DELETE FROM orders WHERE person_id = 17 AND id IN (SELECT n FROM up) RETURNING id) SELECT count(*) FROM gone;

[writes inside WITH, of one shard or several] maybe
WITH u AS (UPDATE people SET age = 9 WHERE id = 8 RETURNING id) UPDATE orders SET qty = 9 WHERE person_id = 9;
WITH moved AS (DELETE FROM orders WHERE person_id IN (18, 19) RETURNING *) INSERT INTO items (order_id, person_id) SELECT id, person_id FROM moved;
WITH v AS (SELECT 3 AS id) MERGE INTO people p USING v ON p.id = v.id WHEN MATCHED THEN UPDATE SET age = 1;

[MERGE of constants, by key]
MERGE INTO people p USING (VALUES (3)) v (id) ON p.id = v.id WHEN MATCHED THEN UPDATE SET age = 1;
MERGE INTO people p USING (SELECT 5 AS id, 'five' AS name) v ON v.id = p.id WHEN MATCHED THEN UPDATE SET name = v.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, v.name);
MERGE INTO people p USING (SELECT 771 AS id, 'new' AS name) v ON v.id = p.id WHEN MATCHED THEN UPDATE SET name = v.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, v.name);
MERGE INTO people p USING (SELECT 771 AS id, 'again' AS name) v ON v.id = p.id WHEN MATCHED THEN UPDATE SET name = v.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (id, name);
MERGE INTO people p USING (VALUES (771, 1), (771, 2)) v (id, n) ON p.id = v.id WHEN MATCHED THEN UPDATE SET age = v.n;
MERGE INTO people USING (VALUES (771, 1), (771, 2)) v (key, n) ON id = key AND age = n WHEN MATCHED THEN DELETE WHEN NOT MATCHED AND n = 7 THEN INSERT (id) VALUES (key);
MERGE INTO people p USING (VALUES (1), (2), (3), (4), (5), (771)) v (id) ON p.id = v.id WHEN MATCHED AND p.id < 4 THEN UPDATE SET age = p.age + 1 WHEN MATCHED AND p.id = 771 THEN DELETE WHEN MATCHED THEN DO NOTHING;
MERGE INTO people p USING (VALUES (1), (1 + 1)) v (id) ON p.id = v.id WHEN MATCHED THEN UPDATE SET score = score + 1;
MERGE INTO people p USING (VALUES ('1')) v (id) ON p.id = v.id WHEN MATCHED THEN DELETE;
MERGE INTO orders o USING (VALUES (4, 9400, 2.5)) v (person, id, total) ON o.person_id = v.person AND o.id = v.id WHEN MATCHED THEN UPDATE SET total = v.total WHEN NOT MATCHED THEN INSERT (id, person_id, total) VALUES (v.id, v.person, v.total);
MERGE INTO orders o USING (VALUES (4, 9400, 2.5)) v (person, id, total) ON o.person_id = v.person AND o.id = v.id WHEN MATCHED AND o.total = v.total THEN DELETE;
MERGE INTO words w USING (SELECT 'ny' AS word) v ON w.word = v.word WHEN NOT MATCHED THEN INSERT (word, n) VALUES (v.word, 3);
MERGE INTO words w USING (SELECT 'ny' AS word) v ON w.word = v.word WHEN MATCHED THEN DELETE;
MERGE INTO tokens t USING (SELECT 'a0eebc99-9c0b-4ef8-bb6d-000000000003'::uuid AS id) v ON t.id = v.id WHEN MATCHED THEN UPDATE SET label = 'found';
MERGE INTO nosuch n USING (VALUES (1)) v (id) ON n.id = v.id WHEN MATCHED THEN DELETE;
MERGE INTO people p USING (VALUES (3)) v (id) ON p.id = v.id WHEN MATCHED THEN UPDATE SET nosuch = 1;

[MERGE of constants of several shards]
MERGE INTO people p USING (VALUES (781), (782), (783), (784), (785)) v (id) ON p.id = v.id WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (VALUES (781, 'a'), (782, NULL), (3, 'c'), (4, 'd'), (786, 'e')) v (id, name) ON p.id = v.id WHEN MATCHED THEN UPDATE SET name = v.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, v.name);
MERGE INTO people p USING (VALUES (781, 1), (782, 2.5), (783, NULL), (787, 7)) v (id, n) ON p.id = v.id WHEN MATCHED THEN UPDATE SET age = v.n / 2, score = v.n / 2 WHEN NOT MATCHED AND v.n > 6 THEN INSERT (id, score) VALUES (v.id, v.n / 2);
MERGE INTO people AS p USING (VALUES (781, 1), (3000000000, 2)) v (id, n) ON v.id = p.id AND p.age > v.n WHEN MATCHED THEN DELETE WHEN NOT MATCHED AND v.id > 800 THEN INSERT VALUES (v.id, pg_typeof(v.id)::text) WHEN NOT MATCHED THEN DO NOTHING;
MERGE INTO people p USING (VALUES ($1::bigint, $2), ($3, $4), ($5, $6)) v (id, name) ON p.id = v.id WHEN MATCHED THEN UPDATE SET name = v.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, v.name);
with: 783, x, 784, y, 788, NULL
MERGE INTO people p USING (VALUES ($1::bigint, $2::int), ($3, $4)) v (id, n) ON p.id = v.id WHEN MATCHED AND p.id < $5 THEN DELETE WHEN MATCHED THEN UPDATE SET age = v.n + $6 WHEN NOT MATCHED THEN INSERT (id, age) VALUES (v.id, v.n * $6);
with: 784, 1, 789, 2, 785, 3
MERGE INTO people p USING (VALUES (781), (782), (783)) v (id) ON p.id = v.id WHEN MATCHED AND p.id = 782 THEN DO NOTHING WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (SELECT v.id::bigint AS id, upper(n) AS name FROM (VALUES ('790', 'a'), ('791', 'b'), ('792', 'c')) v (id, n) WHERE n <> 'b') s ON p.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name);
MERGE INTO people p USING (SELECT id, count(*) AS n FROM (VALUES (793), (794), (793)) v (id) GROUP BY id) s ON p.id = s.id WHEN MATCHED THEN UPDATE SET age = s.n WHEN NOT MATCHED THEN INSERT (id, age) VALUES (s.id, s.n);
MERGE INTO people p USING (VALUES (793), (794), (795)) v ON p.id = v.column1 WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (v.column1);
MERGE INTO people p USING (VALUES (793, 1), (794, 2), (793, 3)) v (id, n) ON p.id = v.id WHEN NOT MATCHED THEN INSERT (id, age) VALUES (v.id, v.n);
MERGE INTO people p USING (VALUES (3, 1), (4, 2), (3, 3)) v (id, n) ON p.id = v.id WHEN MATCHED THEN UPDATE SET age = v.n WHEN NOT MATCHED THEN INSERT (id, age) VALUES (v.id, v.n);
MERGE INTO people USING (VALUES (5, 1), (6, 2), (796, 3)) v ("Key", n) ON id = "Key" WHEN MATCHED THEN UPDATE SET age = n WHEN NOT MATCHED THEN INSERT (id, age) VALUES ("Key", n);
MERGE INTO people p USING (VALUES (5, 1), (6, 2), (797, 3)) "V 1" (id, n) ON p.id = "V 1".id WHEN MATCHED THEN UPDATE SET age = (SELECT count(*) FROM countries) + n, city = (SELECT name FROM countries c WHERE c.person_id = "V 1".n) WHEN NOT MATCHED THEN INSERT (id, age) VALUES ("V 1".id, n);
MERGE INTO people p USING (VALUES (5, 1), (6)) v (id, n) ON p.id = v.id WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (VALUES (5, 1), (6, 2)) v (id, n) ON p.id = v.id WHEN NOT MATCHED THEN INSERT (id, age) VALUES (v.id, v.nosuch);
MERGE INTO people p USING (VALUES (5, 1), (6, 0), (7, 2)) v (id, n) ON p.id = v.id WHEN MATCHED THEN UPDATE SET age = 1 / v.n WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (VALUES ('5'), ('6')) v (id) ON p.id = v.id WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (VALUES (5, 'x'), (6, 1)) v (id, n) ON p.id = v.id WHEN NOT MATCHED THEN INSERT (id, age) VALUES (v.id, v.n);
MERGE INTO tiny t USING (VALUES (99999, 1), (3, 2), (4, 3)) v (id, v) ON t.id = v.id WHEN MATCHED THEN UPDATE SET v = v.v WHEN NOT MATCHED AND v.v > 1 THEN INSERT (id, v) VALUES (v.id, v.v);
MERGE INTO tiny t USING (VALUES (99999, 1), (3, 2), (4, 3)) v (id, v) ON t.id = v.id WHEN MATCHED THEN UPDATE SET v = v.v WHEN NOT MATCHED THEN INSERT (id, v) VALUES (v.id, v.v);
MERGE INTO words w USING (VALUES ('a', 1), ('n1 ', 2), ('n2', 3), ('n3', 4)) v (word, n) ON w.word = v.word WHEN MATCHED THEN UPDATE SET n = v.n WHEN NOT MATCHED THEN INSERT (word, n) VALUES (v.word, v.n);
MERGE INTO words w USING (VALUES ('n1 '), ('n1'), ('n2'), ('n3')) v (word) ON w.word = v.word WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (word, alt) VALUES (v.word, pg_typeof(v.word)::text);
MERGE INTO words w USING (VALUES ('n1'::varchar), ('n5'), ('n6')) v (word) ON w.word = v.word WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (word, alt) VALUES (v.word, pg_typeof(v.word)::text);
MERGE INTO nicks t USING (VALUES ('n1', 1), ('m1', 2), ('m2', 3), ('n2', 4)) v (nick, n) ON t.nick = v.nick WHEN MATCHED THEN UPDATE SET n = v.n + 100 WHEN NOT MATCHED THEN INSERT (nick, n) VALUES (v.nick, v.n);
MERGE INTO nicks t USING (VALUES ('n1', 1), ('toolong', 2), ('n2', 4)) v (nick, n) ON t.nick = v.nick WHEN MATCHED THEN UPDATE SET n = v.n + 100 WHEN NOT MATCHED THEN INSERT (nick, n) VALUES (v.nick, v.n);
MERGE INTO tokens t USING (VALUES ('a0eebc99-9c0b-4ef8-bb6d-000000000003'::uuid, 1), ('b0eebc99-9c0b-4ef8-bb6d-000000000013', 2), ('B0EEBC99-9C0B-4EF8-BB6D-000000000014', 3)) v (id, owner) ON t.id = v.id WHEN MATCHED THEN UPDATE SET owner = v.owner WHEN NOT MATCHED THEN INSERT (id, owner) VALUES (v.id, v.owner);
MERGE INTO prices t USING (VALUES (1.25, 'a'), (1.250, 'b'), (77.123, 'c'), (78, 'd')) v (price, name) ON t.price = v.price WHEN MATCHED AND v.name <> 'b' THEN UPDATE SET name = v.name WHEN NOT MATCHED AND v.price > 2 THEN INSERT (price, name) VALUES (v.price, v.name);
MERGE INTO visits t USING (VALUES (date '2023-12-21', 'page1', 1), ('2024-12-21', 'page1', 2), ('2024-12-22', 'page2', 3), ('2024-12-23', 'page2', 4)) v (day, page, n) ON t.day = v.day AND t.page = v.page WHEN MATCHED THEN UPDATE SET n = v.n WHEN NOT MATCHED THEN INSERT (day, page, n) VALUES (v.day, v.page, v.n);
MERGE INTO parcels t USING (VALUES (1, 'c1', 1), (2, 'c2', 2), (90, 'x', 3), (91, 'y', 4), (92, 'z', 5)) v (tenant, code, w) ON t.tenant = v.tenant AND t.code = v.code WHEN MATCHED THEN UPDATE SET weight = v.w WHEN NOT MATCHED THEN INSERT (code, tenant, weight) VALUES (v.code, v.tenant, v.w);
MERGE INTO branches t USING (VALUES ('NO', 'b0', 1), ('DK', 'b2', 2), ('SE', 'bx', 3), ('FI', 'by', 4), ('US', 'bz', 5)) v (country, name, n) ON t.country = v.country AND t.name = v.name WHEN MATCHED THEN UPDATE SET staff = v.n WHEN NOT MATCHED THEN INSERT (country, name, staff) VALUES (v.country, v.name, v.n);
MERGE INTO readings t USING (VALUES (1, timestamp '2024-01-01', 1), (15, '2024-01-01', 2), (22, '2024-01-01', 3), (28, '2024-01-01', 4)) v (sensor, at, n) ON t.sensor = v.sensor AND t.at = v.at WHEN MATCHED THEN UPDATE SET value = v.n WHEN NOT MATCHED THEN INSERT (sensor, at, value) VALUES (v.sensor, v.at, v.n);
MERGE INTO plots t USING (VALUES (1, ARRAY[1, 2], ROW(1, 'a')::pair, 5::few), (2, '[4:5]={6,NULL}', NULL, 6), (97, NULL, ROW(NULL, 'x"')::pair, 7)) v (id, spots, pair, f) ON t.id = v.id WHEN MATCHED THEN UPDATE SET spots = v.spots, both_ = v.pair WHEN NOT MATCHED THEN INSERT (id, spots, both_, f) VALUES (v.id, v.spots, v.pair, v.f);
MERGE INTO orders o USING (VALUES (4, 9400, 2.5), (5, 9400, 3.5), (6, 9401, 4.555)) v (person, id, total) ON o.person_id = v.person AND o.id = v.id WHEN MATCHED THEN UPDATE SET total = v.total WHEN NOT MATCHED THEN INSERT (id, person_id, total) VALUES (v.id, v.person, v.total);
MERGE INTO orders o USING (VALUES (4), (5), (6), (NULL)) v (person) ON o.person_id = v.person AND o.id >= 9400 WHEN MATCHED THEN DELETE;
BEGIN;
MERGE INTO people p USING (VALUES (801), (802), (803), (804)) v (id) ON p.id = v.id WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
SAVEPOINT s;
MERGE INTO people p USING (VALUES (801), (802), (803), (805)) v (id) ON p.id = v.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
SELECT id FROM people WHERE id BETWEEN 800 AND 810;
ROLLBACK TO s;
SELECT id FROM people WHERE id BETWEEN 800 AND 810;
COMMIT;

[MERGE of constants that are wider than the key]
MERGE INTO tiny t USING (VALUES ('70000'), (1)) v (id) ON t.id = v.id WHEN MATCHED THEN UPDATE SET v = 5;
MERGE INTO tiny t USING (VALUES ($1), (1)) v (id) ON t.id = v.id WHEN MATCHED THEN UPDATE SET v = 6;
with: 70000
MERGE INTO tiny t USING (VALUES (70000::bigint), (1), (2), (3)) v (id) ON t.id = v.id WHEN MATCHED THEN UPDATE SET v = 7;
MERGE INTO tiny t USING (VALUES ('70000'), (1)) v (id) ON t.id = v.id WHEN MATCHED THEN UPDATE SET v = 8 WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);

[MERGE of constants whose key is NULL]
MERGE INTO people p USING (VALUES (NULL::bigint), (781)) v (id) ON p.id = v.id WHEN MATCHED THEN DELETE;
MERGE INTO people p USING (VALUES (NULL::bigint), (811), (812)) v (id) ON p.id = v.id WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (VALUES (NULL::bigint), (811), (812)) v (id) ON p.id = v.id WHEN NOT MATCHED AND v.id IS NULL THEN DO NOTHING WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (VALUES (NULL::bigint), (811), (812)) v (id) ON p.id = v.id WHEN MATCHED THEN UPDATE SET age = 1 WHEN NOT MATCHED AND v.id > 0 THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (VALUES ($1::bigint), ($2), ($3)) v (id) ON p.id = v.id WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
with: 813, NULL, 814
MERGE INTO people p USING (VALUES ($1::bigint), ($2), ($3)) v (id) ON p.id = v.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED AND v.id IS NULL THEN DO NOTHING WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
with: 813, NULL, 814
MERGE INTO people p USING (VALUES ($1::bigint), ($2)) v (id) ON p.id = v.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED AND v.id > 0 THEN INSERT (id) VALUES (v.id);
with: NULL, NULL
MERGE INTO people p USING (SELECT NULL::bigint AS id WHERE false) v ON p.id = v.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);

[MERGE of arrays]
MERGE INTO people p USING unnest(ARRAY[821, 822, 823, 824]::bigint[], ARRAY['a', 'b', NULL, 'd']) AS s (id, name) ON p.id = s.id WHEN MATCHED THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name);
MERGE INTO people p USING unnest($1::bigint[], $2::text[]) AS s (id, name) ON p.id = s.id WHEN MATCHED THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name);
with: {821,822,825,826}, {x,NULL,"y z",w}
MERGE INTO people p USING unnest($1::bigint[], $2::text[]) AS s (id, name) ON p.id = s.id WHEN MATCHED AND p.id > $3 THEN UPDATE SET name = s.name || $4 WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name || $4);
with: {821,822,827,828}, {x,NULL,"y z",w}, 821, !
MERGE INTO people p USING (SELECT * FROM unnest($1::bigint[], $2::int[]) AS u (id, n) WHERE n > $3) s ON p.id = s.id WHEN MATCHED THEN UPDATE SET age = s.n WHEN NOT MATCHED THEN INSERT (id, age) VALUES (s.id, s.n);
with: {821,822,829,830}, {1,2,3,4}, 1
MERGE INTO people p USING unnest($1::bigint[]) WITH ORDINALITY AS s (id, n) ON p.id = s.id WHEN MATCHED THEN UPDATE SET age = s.n WHEN NOT MATCHED THEN INSERT (id, age) VALUES (s.id, s.n);
with: {821,822,831,832}
MERGE INTO people p USING unnest($1::bigint[]) AS s ON p.id = s WHEN MATCHED THEN UPDATE SET age = 8 WHEN NOT MATCHED THEN INSERT (id, age) VALUES (s, 9);
with: {821,822,833,834}
MERGE INTO people p USING unnest(ARRAY[821, 822, 823, 824]::bigint[]) AS s (s) ON p.id = s.s WHEN MATCHED THEN UPDATE SET name = s::text WHEN NOT MATCHED THEN INSERT (id) VALUES (s);
MERGE INTO people p USING unnest($1::bigint[]) AS s (id) ON p.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id);
with: {}
MERGE INTO people p USING unnest($1::bigint[]) AS s (id) ON p.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id);
with: NULL
MERGE INTO people p USING unnest($1::bigint[]) AS s (id) ON p.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id);
with: {835,836,NULL}
MERGE INTO people p USING unnest($1::bigint[]) AS s (id) ON p.id = s.id WHEN MATCHED THEN DELETE;
with: {821,822,NULL}
MERGE INTO people p USING generate_series(823, 828) s ON p.id = s WHEN MATCHED THEN DELETE;
MERGE INTO people p USING generate_series(841, 846) AS s (id) ON p.id = s.id WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, pg_typeof(s.id)::text);
MERGE INTO people p USING (SELECT (e ->> 'id')::bigint AS id, e ->> 'name' AS name FROM jsonb_array_elements($1::jsonb) e) s ON p.id = s.id WHEN MATCHED THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name);
with: [{"id": 841, "name": "x"}, {"id": 847}, {"id": 848, "name": "z"}]
DELETE FROM people WHERE id > 770;

[MERGE of rows of other shards]
MERGE INTO people p USING (SELECT v::bigint AS id, count(*) AS n FROM tiny WHERE v IS NOT NULL GROUP BY v) s ON p.id = s.id WHEN MATCHED THEN UPDATE SET age = s.n WHEN NOT MATCHED THEN INSERT (id, age) VALUES (s.id, s.n);
MERGE INTO people p USING (SELECT id + 850 AS id, v FROM tiny ORDER BY id LIMIT 5) s ON p.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, age) VALUES (s.id, s.v);
MERGE INTO people p USING (SELECT id + 850 AS id, v FROM tiny ORDER BY id LIMIT 7) s ON p.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, age) VALUES (s.id, s.v);
MERGE INTO tiny t USING tiny s ON t.id = s.v WHEN MATCHED AND s.id = 4 THEN UPDATE SET v = s.id;
DELETE FROM people WHERE id > 770;

[MERGE of rows that no source has, and RETURNING: since PostgreSQL 17]
MERGE INTO tiny t USING (VALUES (1, 10), (2, 20), (77, 30), (78, 40)) v (id, v) ON t.id = v.id WHEN MATCHED THEN UPDATE SET v = v.v WHEN NOT MATCHED THEN INSERT (id, v) VALUES (v.id, v.v) WHEN NOT MATCHED BY SOURCE AND t.id > 5 THEN DELETE;
MERGE INTO tiny t USING (SELECT 1::smallint AS id WHERE false) v ON t.id = v.id WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id) WHEN NOT MATCHED BY SOURCE AND t.id < 0 THEN UPDATE SET v = 99;
MERGE INTO tiny t USING (VALUES (2), (79)) v (id) ON t.id = v.id AND t.v > 0 WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id) WHEN NOT MATCHED BY SOURCE AND t.id IN (1, 2, 77) THEN DELETE RETURNING merge_action(), t.*, v.id;
MERGE INTO tiny t USING unnest($1::smallint[], $2::int[]) AS s (id, n) ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = s.n WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, s.n) RETURNING merge_action(), s.n + 1 AS next, t.id;
with: {2,3,80,81}, {1,2,3,4}
MERGE INTO tiny t USING (VALUES (80, 1), (81, 2)) v (id, v) ON t.id = v.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id, v) VALUES (v.id, v.v) RETURNING *;

[MERGE of rows that live together]
MERGE INTO orders o USING people p ON o.person_id = p.id WHEN MATCHED AND p.age IS NULL THEN UPDATE SET note = p.name;
MERGE INTO orders o USING people p ON o.person_id = p.id AND o.id = 9500 WHEN MATCHED THEN DELETE WHEN NOT MATCHED AND p.id > 0 THEN INSERT (id, person_id, note) VALUES (9500, p.id, p.name);
MERGE INTO orders o USING people p ON o.person_id = p.id AND o.id = 9500 WHEN MATCHED AND p.id < 9 THEN DELETE WHEN MATCHED THEN UPDATE SET qty = p.age WHEN NOT MATCHED THEN DO NOTHING;
MERGE INTO orders o USING (SELECT id, age FROM people WHERE age > 0) p ON o.person_id = p.id AND o.id = 9501 WHEN NOT MATCHED THEN INSERT (id, person_id, qty) VALUES (9501, p.id, p.age);
MERGE INTO orders o USING (SELECT id, age FROM people WHERE id = 7) p ON o.person_id = p.id AND o.id = 9501 WHEN NOT MATCHED THEN INSERT (id, person_id, qty) VALUES (9501, p.id, p.age) WHEN MATCHED THEN DELETE;
MERGE INTO orders o USING people p ON o.person_id = p.id AND p.id = 7 WHEN MATCHED THEN UPDATE SET qty = 70;
MERGE INTO orders o USING (SELECT count(*) AS n FROM people WHERE id = 7) p ON o.person_id = 7 AND o.qty = 70 WHEN MATCHED THEN UPDATE SET qty = p.n WHEN NOT MATCHED THEN INSERT (id, person_id, qty) VALUES (9600, 7, p.n);
MERGE INTO orders o USING countries c ON o.person_id = c.person_id WHEN MATCHED THEN UPDATE SET note = c.name;
MERGE INTO orders o USING countries c ON o.person_id = c.person_id AND o.id % 2 = 0 WHEN MATCHED THEN DELETE;
MERGE INTO people p USING orders o ON p.id = o.person_id WHEN MATCHED THEN UPDATE SET age = o.qty;
DELETE FROM orders WHERE id >= 9400;

[MERGE into a reference table]
MERGE INTO countries c USING (VALUES ('no'), ('fi')) v (code) ON c.code = v.code WHEN MATCHED THEN UPDATE SET area = 1 WHEN NOT MATCHED THEN INSERT (code, made) VALUES (v.code, '2020-01-01');
MERGE INTO countries c USING (VALUES ('fi')) v (code) ON c.code = v.code WHEN MATCHED THEN DELETE;

[MERGE, refused] refused
MERGE INTO people p USING (SELECT age AS id, max(name) AS name FROM people WHERE age IS NOT NULL GROUP BY age) s ON p.id = s.id WHEN MATCHED AND s.name < 'a' THEN DELETE;
MERGE INTO notes n USING people p ON n.id = p.id WHEN MATCHED THEN DELETE;
MERGE INTO people p USING (VALUES (3)) v (id) ON p.id = v.id WHEN MATCHED THEN UPDATE SET id = 1;
MERGE INTO people p USING (VALUES (3)) v (id) ON p.age = v.id WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (VALUES (3)) v (id) ON p.id = v.id WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id + 1);
MERGE INTO people p USING (VALUES (2.5)) v (id) ON p.id = v.id WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO orders o USING people p ON o.person_id = p.id WHEN NOT MATCHED THEN INSERT (id, person_id) VALUES (9700, p.id + 1);
MERGE INTO orders o USING people p ON o.person_id = p.age WHEN MATCHED THEN DELETE;
MERGE INTO orders o USING (SELECT age AS id FROM people) p ON o.person_id = p.id WHEN MATCHED THEN DELETE;
MERGE INTO orders o USING (SELECT id FROM people ORDER BY name LIMIT 3) p ON o.person_id = p.id WHEN MATCHED THEN DELETE;
MERGE INTO orders o USING countries c ON o.person_id = c.person_id WHEN NOT MATCHED THEN INSERT (id, person_id) VALUES (9700, c.person_id);
MERGE INTO orders o USING countries c ON o.person_id = c.person_id WHEN MATCHED AND EXISTS (SELECT FROM people WHERE age = 3) THEN DELETE;
MERGE INTO countries c USING people p ON c.person_id = p.id WHEN MATCHED THEN DELETE;
MERGE INTO people p USING (VALUES (5, 1), (6, 2)) v (id, n) ON p.id = v.id WHEN NOT MATCHED THEN INSERT (id) VALUES (v.n);
MERGE INTO nicks t USING (VALUES ('n1', 1), ('m1', 2), ('m2    ', 3)) v (nick, n) ON t.nick = v.nick WHEN NOT MATCHED THEN INSERT (nick, n) VALUES (v.nick, v.n);
MERGE INTO prices t USING (VALUES (1.25), (1.2504), (77.1234), (78)) v (price) ON t.price = v.price WHEN NOT MATCHED THEN INSERT (price) VALUES (v.price);
MERGE INTO people p USING (VALUES (5, 1), (6, 2)) v (id, n) ON p.id = v.id OR p.age = v.n WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (VALUES (5, 1), (6, 2)) v (id, n) ON p.id = v.id WHEN MATCHED THEN UPDATE SET id = v.n WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (VALUES (5, 1), (6, 2)) v (id, n) ON p.id = v.id WHEN MATCHED AND EXISTS (SELECT FROM orders) THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (VALUES (5, 1), (6, 2), (7, 3), (8, 4), (9, 5)) v (id, n) ON p.id = v.id AND p.ctid <> '(0,1)' WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (VALUES (5, 1), (6, 2), (7, 3), (8, 4), (9, 5)) v (id, n) ON p.id = v.id WHEN MATCHED THEN UPDATE SET city = (SELECT code FROM countries LIMIT 1) WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (VALUES (5, 'a'), (6, 'b')) v (id, n) ON p.id = v.id WHEN NOT MATCHED THEN INSERT (name) VALUES (v.n);
MERGE INTO people p USING (SELECT 2.0 * n AS id FROM generate_series(1, 4) n) v ON p.id = v.id WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (VALUES (5, 'a' COLLATE "C"), (6, 'b'), (7, 'c'), (8, 'd'), (9, 'e')) v (id, n) ON p.id = v.id WHEN MATCHED AND v.n < 'B' THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
MERGE INTO people p USING (SELECT v AS id, max(name) AS name FROM terms, owners, tiny GROUP BY v) s ON p.id = s.id WHEN MATCHED AND s.name < 'B' THEN DELETE WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id);
MERGE INTO countries c USING (VALUES ('se')) v (code) ON c.code = v.code WHEN NOT MATCHED THEN INSERT (code) VALUES (v.code);
MERGE INTO terms t USING (SELECT id + 900 AS id, term FROM terms) s ON t.id = s.id WHEN NOT MATCHED AND s.term < 'a' THEN INSERT (id, term) VALUES (s.id, s.term);
MERGE INTO people p USING unnest(ARRAY[5, 6, 7, 8, 9]::bigint[]) AS s (id) ON p.id = s.id WHEN MATCHED THEN UPDATE SET name = s::text WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id);
MERGE INTO people p USING generate_series(5, 9) AS s (id) ON p.id = s.id WHEN MATCHED THEN UPDATE SET name = to_jsonb(s.*)::text WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id);
MERGE INTO people p USING tiny s ON p.id = s.v WHEN MATCHED AND s.id = 4 THEN UPDATE SET name = pg_typeof(s);

[writes inside WITH, MERGE and others, refused] refused
WITH gone AS (DELETE FROM orders RETURNING id) SELECT count(*) FROM gone;
WITH x AS (SELECT 403 AS id) INSERT INTO people (id) SELECT id FROM x;
WITH gone AS (DELETE FROM orders WHERE person_id = 13 RETURNING *) INSERT INTO people (id) SELECT id FROM gone;
WITH gone AS (DELETE FROM orders WHERE person_id = 13 RETURNING person_id + 1000 AS person_id) INSERT INTO people (id) SELECT person_id FROM gone;
WITH gone AS (DELETE FROM orders WHERE person_id = 13 RETURNING id) SELECT count(*) FROM gone, people;
WITH gone AS (DELETE FROM orders WHERE person_id = 13 RETURNING id) SELECT count(*) FROM gone, notes;
WITH u AS (UPDATE people SET id = 991 WHERE id = 8 RETURNING id) SELECT * FROM u;
WITH picked AS (SELECT id FROM orders ORDER BY id LIMIT 1 FOR UPDATE) UPDATE orders o SET note = 'p' FROM picked WHERE o.id = picked.id AND o.person_id = 13;
WITH x AS (SELECT 5 AS n) UPDATE people SET age = x.n FROM x WHERE people.age = 2;
WITH people AS (SELECT 5 AS n) UPDATE people SET age = 3 WHERE id = 6;
WITH orders AS (SELECT 6 AS person_id) DELETE FROM people USING orders WHERE people.id = orders.person_id;
WITH u AS (UPDATE countries SET area = 1 RETURNING code) SELECT count(*) FROM u;
SELECT * INTO copied FROM people;
CREATE TABLE copied AS SELECT * FROM people;
CREATE TABLE copied AS TABLE countries;
CREATE TEMPORARY TABLE temporary_one (id int);
DO $$ BEGIN DELETE FROM people; END $$;
COPY people (id) FROM '/nosuch';
COPY people TO '/nosuch';
COPY people (name) FROM STDIN;
x
\.
COPY people (id, name) FROM STDIN (FORMAT csv, FORCE_NULL (name));
8900,x
\.
COPY people (id, name) FROM STDIN ENCODING 'latin1';
8901	x
\.
COPY numbered (v) FROM STDIN;
x
\.
COPY countries (code, name) FROM STDIN;
q1	no default
\.
COPY (DELETE FROM people RETURNING id) TO STDOUT;

[a transaction that stays in one shard]
BEGIN;
INSERT INTO people (id, name) VALUES (600, 'tx');
UPDATE people SET age = 5 WHERE id = 600;
SELECT id, age FROM people WHERE id = 600;
SELECT count(*) FROM people WHERE id IN (600, 601, 602, 603);
COMMIT;
SELECT id FROM people WHERE id = 600;

[a transaction that is rolled back]
BEGIN;
DELETE FROM people WHERE id = 600;
SELECT count(*) FROM people;
ROLLBACK;
SELECT count(*) FROM people;

[a transaction with a savepoint and an error]
START TRANSACTION ISOLATION LEVEL REPEATABLE READ;
INSERT INTO people (id) VALUES (610);
SAVEPOINT one;
INSERT INTO people (id) VALUES (610);
SELECT 1;
ROLLBACK TO one;
UPDATE people SET age = 4 WHERE id = 610;
COMMIT;
SELECT age FROM people WHERE id = 610;

[a transaction that would write to two shards] maybe
BEGIN;
INSERT INTO people (id) VALUES (620);
INSERT INTO people (id) VALUES (621);
INSERT INTO people (id) VALUES (622);
INSERT INTO people (id) VALUES (623);
COMMIT;
SELECT id FROM people WHERE id IN (620, 621, 622, 623);

[a transaction that updates all rows] maybe
BEGIN;
UPDATE people SET age = 70;
COMMIT;
SELECT count(*) FROM people WHERE age = 70;

[an error ends a transaction]
BEGIN;
SELECT 1 / 0;
SELECT 1;
COMMIT;
SELECT 1;

[rows by numeric and by date]
INSERT INTO prices (price, name) VALUES (77.125, 'new');
INSERT INTO prices (price, name) VALUES ('78.50', 'new');
INSERT INTO prices VALUES (7.9e1, 'new', 1);
UPDATE prices SET n = 9 WHERE price = 77.1250;
UPDATE prices SET n = n + 1 WHERE price IN (1, 2);
DELETE FROM prices WHERE price = 78.5;
INSERT INTO visits VALUES ('2025-05-05', 'new', 1);
INSERT INTO visits VALUES (date '2025-05-06', 'new', 1);
UPDATE visits SET n = -1 WHERE day = '2025-05-05';
DELETE FROM visits WHERE day BETWEEN '2023-12-24' AND '2023-12-25';
INSERT INTO visits (page, day) VALUES ($1, $2);
with: p, 2025-05-07

[subqueries that are tied to the key of the row that is written]
UPDATE people SET rank2 = 7 WHERE EXISTS (SELECT 1 FROM orders o WHERE o.person_id = people.id AND o.qty = 3);
UPDATE people p SET age = (SELECT count(*) FROM orders o WHERE o.person_id = p.id) WHERE p.age = 1 RETURNING p.id, p.age;
UPDATE people SET age = 3 WHERE id IN (SELECT person_id FROM orders WHERE qty = 4) AND id > 2;
UPDATE people SET nick = 'n9' WHERE id IN (4, 6, 7) AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.person_id = people.id AND o.total > 9);
UPDATE people SET nick = 'n8' WHERE id = 4 AND EXISTS (SELECT 1 FROM orders o WHERE o.person_id = people.id);
DELETE FROM items WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.person_id = items.person_id AND o.id = items.order_id AND o.qty > 1);
DELETE FROM orders o WHERE o.qty = 0 AND o.person_id IN (SELECT p.id FROM people p WHERE p.ok) RETURNING o.id, (SELECT name FROM people p WHERE p.id = o.person_id);

[subqueries that are not tied to the key of the row that is written]
UPDATE people SET rank2 = 7 WHERE EXISTS (SELECT 1 FROM orders o WHERE o.qty = people.age);
UPDATE people SET rank2 = 7 WHERE id NOT IN (SELECT person_id FROM orders);
UPDATE people SET rank2 = 7 WHERE age IN (SELECT person_id FROM orders);
UPDATE people SET age = (SELECT max(qty) FROM orders) WHERE EXISTS (SELECT 1 FROM orders o WHERE o.person_id = people.id);
UPDATE people SET rank2 = 7 WHERE EXISTS (SELECT 1 FROM orders o WHERE o.person_id = people.id AND o.qty > (SELECT avg(qty) FROM orders));
DELETE FROM orders WHERE EXISTS (SELECT 1 FROM people p WHERE p.id = orders.person_id) RETURNING (SELECT count(*) FROM orders);
DELETE FROM parcels p WHERE EXISTS (SELECT 1 FROM parcels q WHERE q.tenant = p.tenant AND q.code = p.code AND q.weight = 40);
DELETE FROM parcels p WHERE EXISTS (SELECT 1 FROM parcels q WHERE q.tenant = p.tenant AND q.weight > p.weight);

[writes of rows of one shard or several that read rows of others]
UPDATE people SET age = (SELECT max(age) FROM people) WHERE id = 3;
UPDATE people SET name = 'w' FROM orders o WHERE o.id = people.id;
UPDATE people SET name = o.note, age = o.qty FROM orders o WHERE o.id = people.id AND o.qty = 1 AND o.id < 20 RETURNING people.id, o.id, o.note;
UPDATE people p SET nick = 'twin' FROM people q WHERE q.city = p.city AND q.id < p.id RETURNING p.id;
UPDATE people SET nick = q.nick FROM (SELECT city, min(nick) AS nick FROM people GROUP BY city) AS q WHERE q.city = people.city RETURNING *;
UPDATE people SET (age, rank2) = (SELECT count(*), max(qty) FROM orders WHERE orders.qty = people.rank2) WHERE id BETWEEN 3 AND 9;
UPDATE people SET feel = (SELECT max(feel) FROM people), born = (SELECT min(born) FROM people WHERE id > 10);
UPDATE people SET age = $1::int + (SELECT count(*) FROM orders WHERE qty = $2::int) WHERE id > $1::int RETURNING id, age;
with: 5, 2
UPDATE "Mixed Case" m SET "order" = (SELECT count(*) FROM "Mixed Case" n WHERE n."order" >= m."order") RETURNING m.*;
UPDATE parcels SET weight = p.age FROM people AS p WHERE p.id = parcels.weight RETURNING parcels.tenant, parcels.code, p.name;
UPDATE branches SET staff = (SELECT sum(staff) FROM branches b WHERE b.country > branches.country);
DELETE FROM people USING orders WHERE orders.id = people.id;
DELETE FROM items WHERE order_id IN (SELECT id FROM orders WHERE person_id = 6);
DELETE FROM items a USING items b WHERE a.n = b.n AND a.person_id > b.person_id RETURNING a.person_id, a.n;
DELETE FROM people p WHERE (SELECT count(*) FROM people q WHERE q.city = p.city) > 6 RETURNING p.id, (SELECT count(*) FROM people);
DELETE FROM tiny USING mid, people WHERE mid.people_id = people.id AND tiny.v = people.age;
UPDATE parcels SET weight = 0 FROM people AS p WHERE p.id = parcels.weight AND p.age = 1 RETURNING p.*;
DELETE FROM people WHERE id = 3 AND 1 / (SELECT count(*) - count(*) FROM orders) = 1;
DELETE FROM people WHERE (SELECT max(nosuch) FROM orders) = 3;
SELECT id, name, age, nick, rank2, feel, born FROM people;

[writes of a table on one shard that read rows of others]
UPDATE notes SET what = p.name FROM people p WHERE p.id = notes.person_id;
UPDATE notes SET what = (SELECT name FROM people ORDER BY id LIMIT 1) WHERE id = 2 RETURNING *;
UPDATE notes AS n SET what = (SELECT string_agg(o.note, ',' ORDER BY o.id, o.note) FROM orders o WHERE o.qty = n.id) WHERE n.id < 5 RETURNING n.id, n.what;
UPDATE notes SET person_id = (SELECT count(*) FROM people) + person_id FROM countries c WHERE c.person_id = notes.person_id;
UPDATE notes SET what = $1 FROM people p WHERE p.id = notes.person_id AND p.id = $2::bigint RETURNING p.name, notes.*;
with: sent, 5
DELETE FROM notes WHERE id = 7 AND EXISTS (SELECT 1 FROM people a, orders b WHERE a.age = b.qty);
DELETE FROM notes n USING people p, orders o WHERE p.id = n.person_id AND o.qty = p.age RETURNING n.id, p.id;
DELETE FROM notes USING people WHERE people.id = notes.person_id;
SELECT * FROM notes;

[writes that read rows of others in a transaction] maybe
BEGIN;
INSERT INTO people (id, age) VALUES (4001, 77);
UPDATE notes SET what = 'seen' WHERE (SELECT max(age) FROM people) = 77;
UPDATE people SET age = 78 WHERE age = (SELECT max(age) FROM people);
SELECT count(*) FROM people WHERE age = 78;
ROLLBACK;

[writes that read rows of others, refused] refused
UPDATE people SET age = n.id FROM notes n WHERE n.person_id = people.id;
UPDATE people SET age = (SELECT age FROM people ORDER BY id LIMIT 1) WHERE id > 3;
UPDATE ONLY notes SET what = 'only' WHERE person_id IN (SELECT id FROM people WHERE age > 0) RETURNING id;
UPDATE notes SET what = 'locked' WHERE id IN (SELECT id FROM people FOR UPDATE);
UPDATE notes SET what = 'where' FROM ONLY people WHERE people.id = notes.id;
DELETE FROM notes USING people p WHERE p.id = notes.id AND p.ctid = '(0,1)';
WITH x AS (SELECT 1) UPDATE notes SET what = 'with' FROM people WHERE people.id = notes.id;
EXPLAIN UPDATE notes SET what = p.name FROM people p WHERE p.id = notes.person_id;

[values that may not be kept as they are, refused] refused
INSERT INTO prices (price, name) VALUES (1.00005, 'rounded');
INSERT INTO visits VALUES ('5/5/2025', 'new', 1);
INSERT INTO visits VALUES ('tomorrow', 'new', 1);
INSERT INTO visits VALUES (current_date, 'new', 1);

[rows by two columns]
INSERT INTO parcels VALUES (9, 'x', 1);
INSERT INTO parcels (code, tenant) VALUES ('y', 9);
UPDATE parcels SET weight = 2 WHERE tenant = 9 AND code = 'x';
UPDATE parcels SET weight = weight + 1 WHERE (tenant, code) IN ((1, 'c1'), (2, 'c2'));
UPDATE parcels SET weight = 0 WHERE tenant = 3;
DELETE FROM parcels WHERE (tenant, code) = (9, 'y');
INSERT INTO parcels VALUES (9, 'x', 3) ON CONFLICT (tenant, code) DO UPDATE SET weight = 30;
INSERT INTO parcels (tenant, code) VALUES (NULL, 'a');

[a column of a key that is set, refused] refused
INSERT INTO parcels (tenant) VALUES (1);

[rows in a list and in ranges]
INSERT INTO branches VALUES ('DK', 'new', 1);
INSERT INTO branches VALUES ('FI', 'new', 1), ('NO', 'new', 2);
UPDATE branches SET staff = 0 WHERE country = 'SE';
UPDATE branches SET staff = staff + 1 WHERE staff > 10;
DELETE FROM branches WHERE country = 'IS' AND staff < 10;
INSERT INTO readings VALUES (9, '2025-01-01', 1);
INSERT INTO readings VALUES (10, '2025-01-01', 1), (19, '2025-01-01', 2);
UPDATE readings SET value = -1 WHERE sensor BETWEEN 8 AND 11;
UPDATE readings SET value = -2 WHERE sensor < 0;
DELETE FROM readings WHERE sensor > 27;
DELETE FROM readings WHERE sensor > 5 AND sensor < 5;

[keys that are computed]
INSERT INTO people (id) VALUES (300 + 12);
INSERT INTO people (id) VALUES (-(-313));
INSERT INTO people (id) VALUES (- -106);

[keys that are computed from parameters, maybe] maybe
INSERT INTO people (id) VALUES ($1 + 1);
with: 126

[syntax by other words]
UPDATE ONLY people SET age = 7 WHERE id = 17 RETURNING id, age;
UPDATE ONLY people SET age = 8 WHERE age = 2;
DELETE FROM ONLY tiny WHERE id = 3;
DELETE FROM ONLY (tiny) WHERE v = 1;
UPDATE people SET tags[1] = 'first', age = 3 WHERE id = 17 RETURNING tags;
UPDATE people SET tags[2:3] = '{a,b}' WHERE age = 3;
UPDATE people SET doc['n'] = '5' WHERE id IN (1, 17);
UPDATE plots SET both_.a = 5, spots[1] = 2 WHERE id = 4;
INSERT INTO people (id, tags[1], tags[2]) VALUES (501, 'a', 'b'), (502, 'c', 'd'), (503, 'e', 'f') RETURNING id, tags;
INSERT INTO numbered (id, v) OVERRIDING SYSTEM VALUE VALUES (601, 'a'), (602, 'b'), (603, 'c');
INSERT INTO people (id, age) VALUES (17, 9), (18, 9), (19, 9) ON CONFLICT (id) WHERE age > 1 DO UPDATE SET age = excluded.age, tags[1] = 'up';
INSERT INTO tiny (id, v) SELECT id, v FROM ONLY tiny WHERE id = 4 ON CONFLICT (id) DO NOTHING;

[syntax by other words, maybe] maybe
INSERT INTO orders (id, person_id) TABLE nosuch;
INSERT INTO people (id) VALUES (17) ON CONFLICT (lower(name)) DO NOTHING;
INSERT INTO numbered (id, v) OVERRIDING USER VALUE VALUES (604, 'a');
INSERT INTO countries (code) VALUES ('se') ON CONFLICT (lower(code)) DO NOTHING;
INSERT INTO mid (id, v) SELECT (ROW(701, 'x')::pair).*;
INSERT INTO tiny VALUES (6, 1) ON CONFLICT (id int2_ops) DO NOTHING;
UPDATE people SET id[1] = 5 WHERE id = 17;
INSERT INTO people (id, age) TABLE tiny;
INSERT INTO people (id, tags[1]) VALUES (135, 'x');
UPDATE people SET tags[1] = 'first' WHERE id = 7;

[integer keys cast to wider ones]
INSERT INTO mid (id, v) VALUES ('31001'::bigint, 'a'), ($1, 'b'), (-CAST(31002 AS int8), 'c') RETURNING id, v;
with: 31003
INSERT INTO mid (id, v) VALUES (31004, 'a'), (99999999999::bigint, 'b');
INSERT INTO mid (id, v) VALUES ('99999999999', 'a'), (31005::bigint, 'b');
INSERT INTO mid (id, v) VALUES ($1::bigint, 'd');
with: 31006
INSERT INTO mid (id, v) SELECT 31007::bigint, 'e';
UPDATE mid SET v = 'f' WHERE id IN (31001::bigint, '31003');
DELETE FROM mid WHERE id = ANY ($1::bigint[]);
with: {31006,99999999999}
