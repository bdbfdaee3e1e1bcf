# Rows of a query that belong to other shards than those that make them, by rule. See mod.rs.

[each row on the shard of its key]
INSERT INTO people (id, age) SELECT person_id + 20000, qty FROM orders WHERE id % 4 = 1 ON CONFLICT DO NOTHING;
INSERT INTO people (id, age) SELECT id + 1000, v FROM tiny;
INSERT INTO mid (id, v) SELECT people_id + 500, v FROM mid RETURNING id, v;
INSERT INTO people (id, name, age) SELECT max(id) + 30000, 'top', count(*) FROM people;
INSERT INTO people (id, age) SELECT id + 2000, id FROM tiny ORDER BY id LIMIT 3 RETURNING *;
INSERT INTO people (id, age) SELECT id + 2100, id FROM tiny ORDER BY id OFFSET 2 LIMIT $1;
with: 4
INSERT INTO people (id, age) SELECT g + 2200, g FROM generate_series(1, 9) AS g;
INSERT INTO people (id, age) SELECT DISTINCT qty + 2300, qty FROM orders WHERE qty IS NOT NULL;
INSERT INTO people (id, age) SELECT DISTINCT ON (qty) id + 2400, qty FROM orders ORDER BY qty, id;
INSERT INTO people (id, name) SELECT id + 2500, name FROM people WHERE id BETWEEN 1 AND 9 UNION ALL SELECT id + 2600, 'tiny' FROM tiny WHERE id > 0;
INSERT INTO people (id, age) (SELECT id + 2700, v FROM tiny WHERE id > 2);
INSERT INTO people (id, age) WITH some AS (SELECT id, v FROM tiny WHERE id > 2) SELECT id + 2800, v FROM some;
INSERT INTO people (id, age) SELECT a.id + 100 * b.id + 40000, a.v FROM tiny a JOIN mid b ON a.v = b.id WHERE b.id > 0 AND a.id > 0;
INSERT INTO items (order_id, person_id, n) SELECT customers, customers + 1, n FROM (SELECT row_number() OVER (ORDER BY id) AS customers, v AS n FROM tiny) AS numbered_;
INSERT INTO people (id, age) SELECT 50000 + count(*), max(age) FROM people GROUP BY age HAVING count(*) > 1 ON CONFLICT (id) DO NOTHING;
INSERT INTO people (id, name) SELECT id + 51000, (SELECT max(v) FROM mid) FROM tiny WHERE id > 7;
INSERT INTO tiny SELECT id - 100, age FROM people WHERE id BETWEEN 1 AND 5 AND age IS NOT NULL;

[no rows]
INSERT INTO people (id, age) SELECT id + 1, v FROM tiny WHERE v > 100;
INSERT INTO people (id, age) SELECT id + 1, v FROM tiny WHERE v > 100 RETURNING id, name;
INSERT INTO people (id, age) SELECT v, v FROM tiny WHERE id = 3 AND id = 4;

[a table and itself]
INSERT INTO tiny SELECT id + 1000, v FROM tiny;
INSERT INTO mid SELECT id + 1000, v, id FROM mid WHERE id > 0 RETURNING id, people_id;
INSERT INTO terms SELECT id + 100, term, lower_, n FROM terms;
INSERT INTO people SELECT id + 60000, name, city, age, score, ratio, weight, born, seen, at, ok, tags, doc, code, nick, span, clock, rank2, feel, price FROM people WHERE id BETWEEN 1 AND 30;
INSERT INTO kinds SELECT id + 1000, raw, net, cidr_, mac, bits, vbits, plain, span, spans, vector, lsn, zoned, o, c, sys, many, grid, box_, link, whole, big, path_, dates FROM kinds;
INSERT INTO plots SELECT id + 1000, f, spots, place, title, both_ FROM plots;
INSERT INTO words SELECT word || '+', n, alt FROM words;
INSERT INTO words SELECT alt || '-', n, word FROM words WHERE length(word) < 3;
INSERT INTO tokens SELECT gen_random_uuid(), owner, label FROM tokens WHERE owner > 100;
INSERT INTO tokens SELECT ('b' || substr(id::text, 2))::uuid, owner, label FROM tokens;
INSERT INTO visits SELECT day + 1000, page, n FROM visits WHERE n < 20;
INSERT INTO parcels SELECT tenant + 10, code, weight FROM parcels;
INSERT INTO parcels (code, tenant) SELECT code || 'x', tenant + 1 FROM parcels WHERE tenant < 3;
INSERT INTO branches SELECT * FROM branches;
INSERT INTO branches SELECT CASE country WHEN 'NO' THEN 'SE' ELSE 'NO' END, name, staff FROM branches WHERE staff > 10;
INSERT INTO readings SELECT 3 - sensor, at, value FROM readings WHERE value > 5 AND sensor > 0;
INSERT INTO prices SELECT price + 1000, name, n FROM prices WHERE price <> 'NaN' AND price > 0;
INSERT INTO "Mixed Case" ("Key", key) SELECT "Key" + 100, "order" FROM "Mixed Case";

[values are assigned as on one server]
INSERT INTO orders (id, person_id, total, qty) SELECT id + 70000, id + 1, score, age FROM people WHERE id BETWEEN 1 AND 30 AND score < 1000;
INSERT INTO orders (id, person_id, qty) SELECT id + 71000, id + 1, weight FROM people WHERE id BETWEEN 1 AND 30;
INSERT INTO people (id, code, nick) SELECT id + 72000, 'ab', 'cd' FROM people WHERE id BETWEEN 1 AND 10;
INSERT INTO people (id, code) SELECT id + 72100, name FROM people WHERE id BETWEEN 1 AND 30 AND length(name) < 4;
INSERT INTO people (id, nick) SELECT id + 72200, code FROM people WHERE id BETWEEN 1 AND 30;
INSERT INTO people (id, born, at) SELECT id + 72300, seen, born FROM people WHERE id BETWEEN 6 AND 30;
INSERT INTO people (id, doc, tags, span) SELECT id + 72400, '{"a": 1}', '{x,NULL}', '1 day' FROM tiny;
INSERT INTO people (id, born, feel, price, ok) SELECT id + 72500, '2020-02-02', 'happy', '12.5', 'yes' FROM tiny;
INSERT INTO people (id, feel, doc) SELECT id + 72600, NULL, NULL FROM tiny;
INSERT INTO people (id, feel) SELECT id + 72700, $1 FROM tiny;
with: sad
INSERT INTO people (id, born, age) SELECT id + 72800, $1, $2 FROM tiny WHERE id > $2 RETURNING id, born, age;
with: 2021-03-04, 3
INSERT INTO people (id, name) SELECT $1, name FROM people WHERE id > 29 AND id < 31;
with: 72900
INSERT INTO people (id, name) SELECT '73000', name FROM people WHERE id = 6;
INSERT INTO people (id, name) SELECT id + 73100, E'tab\t' || v || $$'$$ FROM mid;
INSERT INTO plots (id, f) SELECT id + 2000, id FROM tiny WHERE id > 0;
INSERT INTO orders (id, person_id) SELECT id + 74000, id FROM tiny RETURNING made, id + 1 AS next, 'x' AS x;
INSERT INTO orders (id, person_id, made) SELECT * FROM (SELECT id + 75000, v + 3, timestamp '2021-01-01' FROM tiny) AS t;
INSERT INTO mid SELECT t.*, 76000 FROM (SELECT id + 76000, 'v' FROM tiny) AS t;
INSERT INTO mid SELECT id + 77000, name FROM people WHERE id BETWEEN 1 AND 20;

[what is wrong is told alike]
INSERT INTO people (id, age) SELECT id + 1, 'x' FROM tiny;
INSERT INTO people (id, age) SELECT id + 1 FROM tiny;
INSERT INTO people (id, age) SELECT id + 1, v, v FROM tiny;
INSERT INTO people (id, nosuch) SELECT id + 1, v FROM tiny;
INSERT INTO people (id, born) SELECT id + 1, v FROM tiny;
INSERT INTO tokens (id) SELECT id::text FROM tokens;
INSERT INTO people (id, age) SELECT v, id FROM tiny;
INSERT INTO people (id, age) SELECT id + 80000, 1 / (id - 3) FROM tiny;
INSERT INTO people (id, nick) SELECT id + 80100, 'much too long for it' FROM tiny;
INSERT INTO orders (id, person_id, total) SELECT id + 80200, id + 1, 1e9 FROM tiny WHERE id = 1 OR id = 2;
INSERT INTO tiny SELECT id * 10000, v FROM tiny WHERE id = 9;
INSERT INTO people (id, age) SELECT NULL, v FROM tiny WHERE id > 5;
INSERT INTO plots (id, f) SELECT id + 3000, NULL FROM tiny WHERE id = 1;
INSERT INTO plots (id, f) SELECT id + 3000, 5000 FROM tiny WHERE id = 1;
INSERT INTO people (id, age) SELECT id % 2 + 81000, id FROM tiny WHERE id = 2 OR id = 4;

[ON CONFLICT]
INSERT INTO people (id, age) SELECT id + 1, 77 FROM tiny ON CONFLICT DO NOTHING;
INSERT INTO people (id, age) SELECT v + 5, max(id) FROM tiny GROUP BY v ON CONFLICT (id) DO UPDATE SET age = excluded.age + people.id, name = 'met' RETURNING id, age, name;
INSERT INTO people AS p (id, age) SELECT v + 5, max(id) FROM tiny GROUP BY v ON CONFLICT (id) DO UPDATE SET age = $1 WHERE p.id > $2 RETURNING p.id, p.age;
with: 78, 5
INSERT INTO people (id, age) SELECT v + 5, id FROM tiny ON CONFLICT (id) DO UPDATE SET age = excluded.age;
INSERT INTO people (id, name) SELECT id + 82000, 'c' FROM tiny ON CONFLICT (id) DO UPDATE SET name = (SELECT max(name) FROM countries);

[into tables that every shard has]
INSERT INTO countries (code, area, made) SELECT 'p' || id, id, '2020-01-01' FROM people WHERE id BETWEEN 1 AND 20;
INSERT INTO countries (code, name, made) SELECT 'q' || id, name, timestamptz '2020-01-01' FROM people WHERE id = 3 RETURNING code, name;
INSERT INTO countries (code, made) SELECT code || '3', made FROM countries WHERE code < 'e' ORDER BY code LIMIT 1;
INSERT INTO countries (code, area, made) SELECT 'm' || v, count(*), '2020-01-01' FROM mid WHERE v IS NOT NULL GROUP BY v ON CONFLICT (code) DO UPDATE SET area = countries.area + excluded.area RETURNING code, area;
INSERT INTO countries (code, area, made) SELECT 'm' || v, count(*), '2020-01-01' FROM mid WHERE v IS NOT NULL GROUP BY v ON CONFLICT (code) DO UPDATE SET area = countries.area + excluded.area RETURNING code, area;
INSERT INTO countries (code, area, made) SELECT 'n' || id, person_id, '2020-01-01' FROM notes;
SELECT code, name, area, person_id FROM countries ORDER BY code;

[into and from tables of one shard]
INSERT INTO notes SELECT id + 400, id, v FROM mid WHERE id > 0;
INSERT INTO notes (id, what) SELECT id + 500, name FROM people WHERE id BETWEEN 1 AND 9 RETURNING id, what;
INSERT INTO notes (id, person_id) SELECT 600 + count(*), max(id) FROM people WHERE id < 10;
INSERT INTO notes SELECT id + 700, id, 'x' FROM people WHERE id = 3;
INSERT INTO people (id, name) SELECT id + 90000, what FROM notes;
INSERT INTO people (id, name) SELECT n.id + 91000, p.name FROM notes n JOIN people p ON p.id = n.person_id WHERE n.id < 10;
SELECT * FROM notes ORDER BY id;

[prepared]
INSERT INTO people (id, age) SELECT id + $1, v + $2::int FROM tiny WHERE id > $3 RETURNING id, age;
with: 92000, 5, 6
INSERT INTO people (id, age) SELECT id + $1, v + $2::int FROM tiny WHERE id > $3 RETURNING id, age;
with: 93000, 6, 7
INSERT INTO people (id, age) SELECT id + $1::bigint, v FROM tiny WHERE id > $2 ON CONFLICT (id) DO UPDATE SET age = $3 RETURNING id, age;
with: 93000, 7, 99
INSERT INTO people (id, name) SELECT id + 94000, $1 FROM tiny WHERE id > 7;
with: NULL

[in a transaction block]
BEGIN;
INSERT INTO people (id, age) SELECT id + 95000, v FROM tiny WHERE id > 0;
INSERT INTO people (id, age) SELECT age + 95100, count(*) FROM people WHERE id > 95000 AND id < 95100 GROUP BY age RETURNING id, age;
SELECT count(*) FROM people WHERE id > 95000;
COMMIT;
BEGIN;
INSERT INTO people (id, age) SELECT id + 96000, v FROM tiny WHERE id > 0;
ROLLBACK;
BEGIN;
SAVEPOINT a;
INSERT INTO people (id, age) SELECT id + 97000, 1 / v FROM tiny;
ROLLBACK TO a;
INSERT INTO people (id, age) SELECT id + 97000, v FROM tiny RETURNING id;
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO people (id, age) SELECT id + 98000, v FROM tiny WHERE id > 0;
COMMIT;

[not gathered] refused
INSERT INTO people (id, age) SELECT id, v FROM tiny FOR UPDATE;
INSERT INTO people (id, age) SELECT nextval('numbered_id_seq'), v FROM tiny;
INSERT INTO people (id, name) SELECT oid, relname FROM pg_class;
INSERT INTO people (id, name) SELECT id, v FROM stray;
INSERT INTO people (id, age) SELECT count_people_volatile() + 1000, v FROM tiny;
INSERT INTO people (name, age) SELECT v, id FROM mid;
INSERT INTO numbered (v) SELECT v FROM mid;
INSERT INTO people (id, age) SELECT n, 1 FROM (SELECT 1000000.5 + v AS n FROM tiny) AS t;
INSERT INTO people (id, age) SELECT id + 1, v FROM tiny ON CONFLICT (id) DO UPDATE SET id = 5;
INSERT INTO people (id, age) SELECT id + 1, v FROM tiny ON CONFLICT (id) DO UPDATE SET age = (SELECT max(v) FROM tiny);
INSERT INTO people (id, age) SELECT id + 1, v FROM tiny RETURNING (SELECT max(v) FROM mid);
INSERT INTO orders (id, person_id) SELECT * FROM (VALUES (9016, 4.5)) v;
INSERT INTO words (word) SELECT code FROM people;
INSERT INTO countries (code, area, made) SELECT name, id, now() FROM people WHERE id = 3 RETURNING now();
INSERT INTO countries (code) SELECT name FROM people;
WITH gone AS (DELETE FROM tiny RETURNING id) INSERT INTO people (id) SELECT id + 1 FROM gone;
