# Statements that read, by rule. See mod.rs.

[one comparison of the key]
SELECT * FROM people WHERE id = 17;
SELECT * FROM people WHERE 17 = id;
SELECT * FROM people WHERE id = -7;
SELECT * FROM people WHERE id = +7;
SELECT * FROM people WHERE id = - 7;
SELECT * FROM people WHERE id = -(7);
SELECT * FROM people WHERE id = - -7;
SELECT * FROM people WHERE (id) = (17);
SELECT * FROM people WHERE ((id = 17));
SELECT * FROM people WHERE id = '17';
SELECT * FROM people WHERE id = ' 17';
SELECT * FROM people WHERE id = '17 ';
SELECT * FROM people WHERE id = '+17';
SELECT * FROM people WHERE id = '-0';
SELECT * FROM people WHERE id = '0x11';
SELECT * FROM people WHERE id = '1e0';
SELECT * FROM people WHERE id = '';
SELECT * FROM people WHERE id = '1_7';
SELECT * FROM people WHERE id = '0b_1_0001';
SELECT * FROM people WHERE id = '0x__11';
SELECT * FROM people WHERE id = '_17';
SELECT * FROM people WHERE id = 1_7;
SELECT * FROM people WHERE id = 17.0;
SELECT * FROM people WHERE id = 17.5;
SELECT * FROM people WHERE id = 1e0;
SELECT * FROM people WHERE id = 0x11;
SELECT * FROM people WHERE id = 17::bigint;
SELECT * FROM people WHERE id = 17::smallint;
SELECT * FROM people WHERE id = '17'::bigint;
SELECT * FROM people WHERE id = CAST('17' AS int);
SELECT * FROM people WHERE id = bigint '17';
SELECT * FROM people WHERE id = int8 '17';
SELECT * FROM people WHERE id = 17::text::bigint;
SELECT * FROM people WHERE id = '17'::text;
SELECT * FROM people WHERE id = 17.4::bigint;
SELECT * FROM people WHERE id = '17.4'::numeric;
SELECT * FROM people WHERE id = -5::bigint;
SELECT * FROM people WHERE id = '-5'::bigint;
SELECT * FROM people WHERE id = E'17';
SELECT * FROM people WHERE id = E'\x31\x37';
SELECT * FROM people WHERE id = U&'\0031\0037';
SELECT * FROM people WHERE id = $$17$$;
SELECT * FROM people WHERE id = $a$17$a$;
SELECT * FROM people WHERE id = '1'
'7';
SELECT * FROM people WHERE id = B'10001'::int;
SELECT * FROM people WHERE id = X'11'::bigint;
SELECT * FROM people WHERE id = 9223372036854775807;
SELECT * FROM people WHERE id = 9223372036854775808;
SELECT * FROM people WHERE id = -9223372036854775808;
SELECT * FROM people WHERE id = '9223372036854775808';
SELECT * FROM people WHERE id = NULL;
SELECT * FROM people WHERE id = NULL::bigint;
SELECT * FROM people WHERE id IS NULL;
SELECT * FROM people WHERE id = 10 + 7;
SELECT * FROM people WHERE id = abs(-17);
SELECT * FROM people WHERE id = (SELECT 17);
SELECT * FROM people WHERE id + 0 = 17;
SELECT * FROM people WHERE id::text = '17';
SELECT * FROM people WHERE id::int = 17;
SELECT * FROM people WHERE abs(id) = 7;
SELECT * FROM people WHERE -id = 7;
SELECT * FROM people WHERE id /* c */ = /* 18 */ 17 -- 19
;
SELECT * FROM people WHERE/**/id=17/**/;
SELECT id, name FROM people WHERE id OPERATOR(pg_catalog.=) 17;
SELECT id FROM people WHERE id IS NOT DISTINCT FROM 17;
SELECT id FROM people WHERE id <=> 17;
SELECT id FROM people WHERE id == 17;
SELECT id FROM people WHERE id BETWEEN 17 AND 17;
SELECT id FROM people WHERE id >= 17 AND id <= 18;
SELECT id FROM people WHERE id <> 17;
SELECT id FROM people WHERE id != 17;
SELECT id FROM people WHERE id LIKE '1';
SELECT id FROM people WHERE id = 17 IS TRUE;
SELECT id FROM people WHERE (id = 17) = true;
SELECT id FROM people WHERE (id = 17) = false;
SELECT id FROM people WHERE (id = 17) IS NOT TRUE;
SELECT id FROM people WHERE (id = 17) IS NOT FALSE;

[one comparison of the key, refused] refused

[combinations of comparisons]
SELECT id FROM people WHERE id = 1 OR id = 2;
SELECT id FROM people WHERE id = 1 OR true;
SELECT id FROM people WHERE id = 1 OR NULL;
SELECT id FROM people WHERE true OR id = 1;
SELECT id FROM people WHERE id = 1 OR name = 'bob2';
SELECT id FROM people WHERE id = 1 OR 1 = 1;
SELECT id FROM people WHERE (id = 1 AND age > 0) OR (id = 2 AND age < 9);
SELECT id FROM people WHERE (id = 1 OR age > 0) AND (id = 2 OR age < 9);
SELECT id FROM people WHERE id = 1 AND id = 2;
SELECT count(*) FROM people WHERE id = 1 AND id = 2;
SELECT id FROM people WHERE NOT id = 1;
SELECT id FROM people WHERE NOT (id = 1 OR id = 2);
SELECT id FROM people WHERE NOT (NOT id = 1);
SELECT id FROM people WHERE id IN (1, 2, 3, NULL);
SELECT id FROM people WHERE id IN (1, NULL);
SELECT id FROM people WHERE id NOT IN (1, 2);
SELECT id FROM people WHERE id NOT IN (1, NULL);
SELECT id FROM people WHERE id IN ('1', '2');
SELECT id FROM people WHERE id IN ('1', 2, 3::smallint);
SELECT id FROM people WHERE id IN (1, 2.0);
SELECT id FROM people WHERE id IN ('1', 2.5);
SELECT id FROM people WHERE id IN (SELECT 1);
SELECT id FROM people WHERE id IN (VALUES (1), (2));
SELECT id FROM people WHERE id IN (1, 1, 1);
SELECT id FROM people WHERE id = ANY ('{1,2}');
SELECT id FROM people WHERE id = ANY ('{1,2}'::bigint[]);
SELECT id FROM people WHERE id = ANY (ARRAY[1, 2]);
SELECT id FROM people WHERE id = ANY (ARRAY[1, NULL]);
SELECT id FROM people WHERE id = ANY (ARRAY[[1, 2], [3, 4]]);
SELECT id FROM people WHERE id = ANY (ARRAY['1', '2']);
SELECT id FROM people WHERE id = ANY (ARRAY[1, 2]::bigint[]);
SELECT id FROM people WHERE id = ANY (ARRAY[]::bigint[]);
SELECT id FROM people WHERE id = SOME (ARRAY[1, 2]);
SELECT id FROM people WHERE id = ALL (ARRAY[1, 1]);
SELECT id FROM people WHERE id = ALL (ARRAY[]::bigint[]);
SELECT id FROM people WHERE id <> ALL (ARRAY[1, 2]);
SELECT id FROM people WHERE id <> ANY (ARRAY[1, 2]);
SELECT id FROM people WHERE (id, age) = (1, -1);
SELECT id FROM people WHERE (id, age) = (1, 2) OR id = 2;
SELECT id FROM people WHERE ROW(id, age) = ROW(1, 2);
SELECT id FROM people WHERE (id, age) IN ((1, -1), (2, 0));
SELECT id FROM people WHERE (id) IN (1, 2);
SELECT id FROM people WHERE (id, age) < (3, 1);
SELECT id FROM people WHERE CASE WHEN id = 1 THEN true ELSE age = 2 END;
SELECT id FROM people WHERE coalesce(id = 1, true);
SELECT id FROM people WHERE age = 2 AND (id = 8 OR id = 9) AND name IS NOT NULL;
SELECT id FROM people WHERE id = 1 AND random() < 2;
SELECT id FROM people WHERE EXISTS (SELECT 1 WHERE people.id = 1);
SELECT id FROM people WHERE (SELECT id = 1);
SELECT id FROM people WHERE (id = 1) IN (true);
SELECT id FROM people WHERE id = 1 = true;
SELECT id FROM people WHERE id = age;
SELECT id FROM people WHERE id = id;
SELECT id FROM people WHERE id = 1 AND 1 / (id - 1) > 0;
SELECT id FROM people WHERE false;
SELECT id FROM people WHERE NULL;

[combinations of comparisons, refused] refused

[comparisons that limit nothing]
SELECT id, id = 5 FROM people;
SELECT CASE WHEN id = 5 THEN 'five' END FROM people;
SELECT count(*) FILTER (WHERE id = 5) FROM people;
SELECT count(*) FILTER (WHERE id = 5), count(*) FROM people;
SELECT sum(age) FILTER (WHERE id IN (1, 2)), avg(age) FILTER (WHERE id > 3) FROM people;
SELECT id FROM people ORDER BY id = 5, id LIMIT 50;
SELECT id FROM people GROUP BY id HAVING id = 5;
SELECT DISTINCT id = 5 FROM people;
SELECT exists (SELECT 1 FROM people WHERE id = 5);
SELECT (SELECT name FROM people WHERE id = 8);
SELECT id, (SELECT count(*) FROM orders WHERE person_id = 5) FROM people WHERE id = 5;
SELECT id, (SELECT count(*) FROM orders WHERE person_id = 6) FROM people WHERE id = 5;

[comparisons that limit nothing, gathered]
SELECT age, count(*) FROM people GROUP BY age HAVING bool_or(id = 5);
SELECT (SELECT name FROM people WHERE id = 8), (SELECT name FROM people WHERE id = 9);
SELECT (SELECT count(*) FROM people), (SELECT name FROM people WHERE id = 9);
SELECT id, (SELECT count(*) FROM orders WHERE person_id = people.id) FROM people WHERE id = 4;
SELECT id, (SELECT count(*) FROM orders) FROM people WHERE id = 4;

[joins]
SELECT p.id, o.id FROM people p JOIN orders o ON o.person_id = p.id;
SELECT p.id, o.id FROM people p JOIN orders o ON o.person_id = p.id WHERE p.id = 4;
SELECT p.id, o.id FROM people p JOIN orders o ON o.person_id = p.id AND p.id = 4;
SELECT p.id, o.id FROM people p JOIN orders o ON o.person_id = p.id AND o.person_id IN (4, 6);
SELECT p.id, o.id FROM people p, orders o WHERE p.id = o.person_id;
SELECT p.id, o.id FROM people p, orders o WHERE p.id = 4 AND o.person_id = 4;
SELECT p.id, o.id FROM people p LEFT JOIN orders o ON o.person_id = p.id;
SELECT p.id, o.id FROM people p LEFT JOIN orders o ON o.person_id = p.id AND o.person_id = 4;
SELECT p.id, o.id FROM people p LEFT JOIN orders o ON o.person_id = 4 WHERE p.id = 4;
SELECT p.id, o.id FROM people p LEFT JOIN orders o ON p.id = 4 AND o.person_id = p.id;
SELECT p.id, o.id FROM people p LEFT JOIN orders o ON o.person_id = p.id WHERE o.person_id = 4;
SELECT p.id, o.id FROM people p LEFT JOIN orders o ON o.person_id = p.id WHERE o.person_id IS NULL;
SELECT p.id, o.id FROM people p RIGHT JOIN orders o ON o.person_id = p.id AND p.id = 4;
SELECT p.id, o.id FROM people p RIGHT JOIN orders o ON o.person_id = p.id WHERE p.id = 4;
SELECT p.id, o.id FROM people p FULL JOIN orders o ON o.person_id = p.id WHERE p.id = 4 AND o.person_id = 4;
SELECT p.id, o.id FROM people p CROSS JOIN orders o WHERE p.id = 4 AND o.person_id = 4;
SELECT person_id, count(*) FROM orders JOIN items USING (person_id) GROUP BY person_id;
SELECT person_id FROM orders JOIN items USING (person_id) WHERE person_id = 4;
SELECT person_id FROM orders LEFT JOIN items USING (person_id) WHERE person_id = 4;
SELECT person_id FROM orders RIGHT JOIN items USING (person_id) WHERE person_id = 4;
SELECT * FROM orders JOIN items USING (person_id) WHERE items.person_id = 4;
SELECT * FROM orders NATURAL JOIN items WHERE orders.person_id = 4 AND items.person_id = 4;
SELECT o.id, i.sku FROM orders o JOIN items i ON o.id = i.order_id AND o.person_id = i.person_id;
SELECT p.id, o.id, i.n FROM people p JOIN orders o ON p.id = o.person_id JOIN items i ON i.person_id = o.person_id AND i.order_id = o.id WHERE p.id = 12;
SELECT p.id, o.id, i.n FROM people p JOIN orders o ON p.id = o.person_id LEFT JOIN items i ON i.person_id = p.id AND i.order_id = o.id;
SELECT p.id, o.id, i.n FROM people p LEFT JOIN (orders o JOIN items i ON i.person_id = o.person_id AND i.order_id = o.id) ON p.id = o.person_id;
SELECT p.id, o.id, i.n FROM (people p LEFT JOIN orders o ON p.id = o.person_id) LEFT JOIN items i ON o.person_id = i.person_id;
SELECT a.id, b.id FROM people a JOIN people b ON a.id = b.id;
SELECT a.id, b.id FROM people a, people b WHERE a.id = 3 AND b.id = 3;
SELECT t.id, m.v FROM tiny t JOIN mid m ON t.id = m.id;
SELECT t.id, m.v FROM tiny t JOIN people m ON t.id = m.id WHERE t.id = 3;
SELECT m.id, p.id FROM mid m JOIN people p ON p.id = m.people_id WHERE m.id = 3 AND p.id = 4;
SELECT p.id, c.code FROM people p JOIN countries c ON c.person_id = p.id;
SELECT p.id, c.code FROM people p LEFT JOIN countries c ON c.person_id = p.id;
SELECT p.id, c.code FROM people p FULL JOIN countries c ON c.person_id = p.id WHERE p.id = 1;
SELECT p.id, c.code FROM countries c LEFT JOIN people p ON c.person_id = p.id AND p.id = 1;
SELECT p.id, c.code FROM countries c LEFT JOIN people p ON c.person_id = p.id WHERE p.id = 1;
SELECT p.id, c.code FROM people p JOIN countries c ON c.person_id = p.id WHERE c.person_id = 1;
SELECT count(*) FROM people, countries;
SELECT count(*) FROM people p, countries c LEFT JOIN countries d ON c.code = d.name;
SELECT count(*) FROM countries a FULL JOIN countries b ON a.code = b.name;
SELECT count(*) FROM countries a FULL JOIN countries b ON a.code = b.name, people;
SELECT * FROM notes WHERE id = 3;
SELECT n.id, c.code FROM notes n LEFT JOIN countries c ON c.person_id = n.person_id;
SELECT * FROM people p JOIN LATERAL (SELECT * FROM orders o WHERE o.person_id = 4) x ON true WHERE p.id = 4;
SELECT p.id, g FROM people p, generate_series(1, 2) g WHERE p.id = 3;
SELECT p.id, t FROM people p CROSS JOIN LATERAL unnest(p.tags) t WHERE p.id = 2;

[joins, gathered]
SELECT j.id FROM (people p JOIN mid m USING (id)) AS j WHERE j::text LIKE '%v1%';
SELECT j::text FROM (people p JOIN mid m ON p.id = m.people_id) AS j;
SELECT length(x::text) FROM (SELECT p.* FROM people p JOIN mid m ON p.id = m.people_id) x;
SELECT p.v, p.id FROM mid p JOIN (SELECT id AS other FROM people p WHERE p.age > 0) q ON q.other = p.people_id;
SELECT a.id, b.id FROM plots a JOIN plots b ON a.id = b.f;
SELECT a.* FROM plots a JOIN mid m ON m.people_id = a.id;
SELECT a::text, b.spots[2], array_lower(a.spots, 1), (a.both_).a FROM plots a JOIN plots b ON a.id = b.f;
SELECT pg_typeof(a.f)::text, pg_typeof(a.both_)::text, pg_typeof(a)::text, a.f + 1 FROM plots a JOIN plots b ON a.id = b.f;
SELECT f, count(*), max(title), array_agg(spots[2] ORDER BY id) FROM plots GROUP BY f HAVING count(*) > 1;
SELECT title, string_agg(id::text, ',' ORDER BY id DESC) FILTER (WHERE f > 1) FROM plots GROUP BY title;
SELECT p::text, o::text FROM people p JOIN orders o ON o.id = p.id WHERE p.id < 20;
SELECT p.*, o.* FROM people p JOIN orders o ON o.id = p.id;
SELECT row_to_json(p) FROM people p JOIN mid m ON m.people_id = p.id;
SELECT (p).name, (o).id FROM people p JOIN orders o ON o.id = p.id;
SELECT p.tags, p.doc, p.feel, p.price, p.span, p.ratio, p.score, p.code, p.at FROM people p JOIN mid m ON m.people_id = p.id;
SELECT a.id, b.id FROM people a JOIN people b ON a.age = b.age AND a.id < b.id WHERE a.city > 'a' AND b.ok;
SELECT a.id, b.id FROM people a LEFT JOIN people b ON a.age = b.id WHERE b.id IS NULL;
SELECT a.id, b.id FROM people a LEFT JOIN people b ON a.age = b.id WHERE b.id IS NULL OR b.name IS NULL;
SELECT a.id, b.v FROM people a FULL JOIN mid b ON a.age = b.id WHERE a.id IS NULL OR b.v = 'v1';
SELECT p.id, m.v FROM people p, mid m WHERE p.id = m.people_id AND p.age BETWEEN 0 AND 1 AND m.v <> 'v2' AND CASE WHEN p.ok THEN true AND p.id > 2 ELSE p.id < 9 END;
SELECT p.id, m.v FROM people p JOIN mid m ON p.id = m.people_id WHERE p.id > $1 AND m.v = $2;
with: 3, v1
SELECT p.id, m.v FROM people p JOIN mid m ON p.id = m.people_id WHERE p.feel = $1 OR m.v IS NULL;
with: happy
SELECT p.id, $1::text, m.v FROM people p JOIN mid m ON p.id = m.people_id WHERE p.age > $2;
with: x, 0
SELECT people.id FROM people JOIN mid ON people.id = mid.people_id WHERE people.name LIKE 'bob%';
SELECT id FROM public.people JOIN (SELECT people_id FROM public.mid) m ON m.people_id = people.id;
SELECT x.k, y.v FROM people AS x (k, n) JOIN mid AS y (k, v) ON x.k = y.k + 1;
SELECT "Key", m.v FROM "Mixed Case" JOIN mid m ON m.people_id = "Mixed Case"."order";
SELECT p.double, p.id FROM (SELECT id, age AS double FROM people) p JOIN mid m ON m.id = p.double;
SELECT p.id FROM people p JOIN mid m ON m.people_id = p.id GROUP BY p.id HAVING count(*) > 0 ORDER BY p.id;
SELECT p.id, nosuch FROM people p JOIN mid m ON m.people_id = p.id;
SELECT p.id FROM people p JOIN mid m ON m.people_id = p.id WHERE 1 / (p.id - p.id) = 1;
SELECT p.id FROM people p JOIN mid m ON m.people_id = p.id WHERE p.id = 'x';
SELECT p.id, o.id FROM people p LEFT JOIN orders o ON o.person_id = 4;
SELECT p.id, o.id FROM people p LEFT JOIN orders o ON p.id = 4;
SELECT p.id, o.id FROM people p FULL JOIN orders o ON o.person_id = p.id;
SELECT p.id, o.id FROM people p FULL JOIN orders o ON o.person_id = p.id WHERE p.id = 4;
SELECT p.id, o.id FROM people p FULL JOIN orders o ON o.person_id = p.id AND p.id = 4;
SELECT person_id FROM orders FULL JOIN items USING (person_id) WHERE person_id = 4;
SELECT person_id, count(*) FROM orders FULL JOIN items USING (person_id) GROUP BY person_id;
SELECT o.id, i.sku FROM orders o JOIN items i ON o.id = i.order_id;
SELECT p.id, o.id, i.n FROM people p LEFT JOIN (orders o JOIN items i ON i.person_id = o.person_id AND o.person_id = 4) ON p.id = 4;
SELECT a.id, b.id FROM people a JOIN people b ON a.id = b.id + 1;
SELECT a.id, b.id FROM people a, people b WHERE a.id = 3;
SELECT t.id, m.id FROM tiny t JOIN mid m ON t.id = m.people_id;
SELECT m.id, p.id FROM mid m JOIN people p ON p.id = m.people_id WHERE m.id = 3;
SELECT w.word, t.label FROM words w JOIN tokens t ON w.word = t.id::text;
SELECT p.id, c.code FROM countries c LEFT JOIN people p ON c.person_id = p.id;
SELECT p.id, c.code FROM people p RIGHT JOIN countries c ON c.person_id = p.id;
SELECT p.id, c.code FROM people p FULL JOIN countries c ON c.person_id = p.id;
SELECT count(*) FROM people, notes;
SELECT n.id, p.id FROM notes n JOIN people p ON p.id = n.person_id WHERE p.id = 3;
SELECT * FROM people p JOIN LATERAL (SELECT * FROM orders o WHERE o.person_id = p.id) x ON true WHERE p.id = 4;
SELECT p.id, g FROM people p, generate_series(1, 2) g;
SELECT p.id, t FROM people p, unnest(p.tags) t;
SELECT j.id FROM (people p JOIN orders o ON p.id = o.person_id) AS j (id) WHERE j.id = 4;
SELECT p.a FROM people AS p (a, b) WHERE p.a = 4;
SELECT p.id FROM people AS p (x, id) WHERE p.id = 'bob1';
SELECT id FROM people AS p (x, id) WHERE id = 'bob1';
SELECT p.id, o.id FROM people p, orders o WHERE p.id = 4 AND o.person_id = 6;
SELECT p.id, o.id FROM people p, orders o WHERE p.id = 4 OR o.person_id = 4;
SELECT p.id, o.id FROM people p JOIN orders o ON p.id = o.id;
SELECT p.id, o.id FROM people p JOIN orders o ON p.id = o.person_id OR p.id = 3;

[names]
SELECT orders.id FROM people orders WHERE orders.id = 3;
SELECT people.id, orders.person_id FROM people orders, orders people WHERE orders.id = 4 AND people.person_id = 4;
SELECT id FROM public.people WHERE public.people.id = 3;
SELECT id FROM public.people WHERE people.id = 3;
SELECT id FROM simple.public.people WHERE id = 3;
SELECT id FROM "people" WHERE "people"."id" = 3;
SELECT ID FROM PEOPLE WHERE Id = 3;
SELECT "ID" FROM people WHERE id = 3;
SELECT * FROM "Mixed Case" WHERE "Key" = 3;
SELECT * FROM "Mixed Case" WHERE Key = 3;
SELECT * FROM "Mixed Case" WHERE "key" = 3;
SELECT * FROM "Mixed Case" m WHERE m."Key" = 3 AND m.key = 4;
SELECT "order", count(*) FROM "Mixed Case" GROUP BY "order";
SELECT * FROM nosuch WHERE id = 3;
SELECT * FROM people, nosuch WHERE people.id = 3;
SELECT count(*) FROM nosuch;
SELECT nosuch FROM people WHERE id = 3;
SELECT nosuch FROM people;
SELECT nosuch.id FROM people WHERE nosuch.id = 3;
SELECT p.id FROM people p WHERE people.id = 3;
SELECT people.id FROM people p WHERE p.id = 3;
TABLE notes;
VALUES (1, 'a'), (2, 'b');
SELECT people::text FROM people WHERE id = 3;
SELECT people.* FROM people WHERE people.id = 3;
SELECT (people).id FROM people WHERE (people).id = 3;
SELECT (p.*).id FROM people p WHERE (p.*).id = 3;
SELECT double(4);
SELECT double(age) FROM people;
SELECT count(*) FROM pg_class WHERE relname = 'people';
SELECT tableoid::regclass::text, id FROM people WHERE id = 3;
SELECT reltuples IS NULL FROM pg_class WHERE relname = 'people';
SELECT "select", max("Key") FROM "Mixed Case" GROUP BY "select";

[names, refused] refused
SELECT "Key" FROM "Mixed Case" WHERE U&"\004Bey" = 3;
SELECT * FROM U&"p\0065ople" WHERE id = 3;
SELECT * FROM stray;
SELECT * FROM people_view WHERE id = 3;
SELECT count(*) FROM people_view;
SELECT * FROM country_view;
SELECT count_people();
SELECT count_people_volatile();
SELECT * FROM count_people();
SELECT id, count_people() FROM people WHERE id = 3;
SELECT code, count_people() FROM countries;
SELECT query_to_xml('SELECT count(*) FROM people', true, false, '');
SELECT table_to_xml('people', true, false, '');
SELECT table_to_xml('people'::regclass, true, false, '') FROM countries;
SELECT * FROM ts_stat('SELECT to_tsvector(''simple'', name) FROM people');
SELECT c.relname, count(p.id) FROM pg_class c, people p WHERE c.relname = 'people' GROUP BY c.relname;
SELECT count(DISTINCT tableoid) FROM people;

[WITH]
WITH x AS (SELECT * FROM people WHERE id = 3) SELECT * FROM x;
WITH people AS (SELECT 3 AS id) SELECT id FROM people WHERE id = 3;
WITH people AS (SELECT * FROM people WHERE id = 3) SELECT count(*) FROM people WHERE id = 3;
WITH orders AS (SELECT 1 AS person_id) SELECT count(*) FROM people JOIN orders ON people.id = orders.person_id WHERE people.id = 1;
WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r;
WITH c AS MATERIALIZED (SELECT * FROM people WHERE id = 7) SELECT id FROM c;
WITH public AS (SELECT 1) SELECT id FROM public.people WHERE id = 3;
WITH x (id) AS (VALUES (1), (2)) SELECT p.id FROM people p JOIN x ON x.id = p.id WHERE p.id = 1;

[locks of rows of one key]
SELECT id, name FROM people WHERE id = 5 FOR UPDATE;
SELECT id, name FROM people WHERE id = 5 FOR NO KEY UPDATE;
SELECT id, name FROM people WHERE id = 5 FOR SHARE NOWAIT;
SELECT o.id FROM people p JOIN orders o ON p.id = o.person_id WHERE p.id = 4 FOR KEY SHARE OF p SKIP LOCKED;
SELECT id FROM notes FOR NO KEY UPDATE;

[locks of rows of several keys]
SELECT id FROM people FOR UPDATE;
SELECT id FROM people WHERE age = 1 FOR NO KEY UPDATE;
SELECT *, age + 1 FROM people WHERE id IN (1, 2, 3, 4, 5) FOR KEY SHARE NOWAIT;
SELECT p.id, o.id, o.total FROM people p JOIN orders o ON o.person_id = p.id WHERE p.age > 0 FOR SHARE OF o SKIP LOCKED;
SELECT p.id FROM people p WHERE EXISTS (SELECT FROM orders o WHERE o.person_id = p.id AND o.qty = 3) FOR UPDATE;
SELECT id FROM people WHERE age = 99 FOR UPDATE;
SELECT 1 / (id - 3) FROM people FOR UPDATE;
SELECT nosuch FROM people FOR UPDATE;
BEGIN;
SELECT id FROM people WHERE id > 3 FOR UPDATE;
SELECT count(*) FROM people;
COMMIT;
BEGIN READ ONLY;
SELECT id FROM people FOR UPDATE;
ROLLBACK;

[locks of rows of several keys, in order] ordered
SELECT id, age FROM people ORDER BY age DESC NULLS LAST, id FOR UPDATE;
SELECT id, name FROM people WHERE id < 9 ORDER BY name, id DESC FOR SHARE;
SELECT born, id FROM people ORDER BY 1, 2 FOR NO KEY UPDATE;

[locks of rows of several keys, refused] refused
SELECT id FROM people LIMIT 3 FOR UPDATE;
SELECT id FROM people ORDER BY id OFFSET 1 FOR UPDATE;
SELECT id FROM people ORDER BY id FETCH FIRST 2 ROWS ONLY FOR UPDATE;
SELECT id FROM people ORDER BY age, id FOR UPDATE;
SELECT count(*) FROM people FOR UPDATE;
SELECT DISTINCT age FROM people FOR UPDATE;
SELECT p.id FROM people p JOIN countries c ON c.code = p.city FOR UPDATE;
SELECT p.id FROM people p JOIN orders o ON o.id = p.id FOR UPDATE;
SELECT id FROM (SELECT id FROM people FOR UPDATE) AS q;
WITH q AS (SELECT id FROM people FOR UPDATE) SELECT * FROM q;

[subqueries and windows within one key]
SELECT id FROM people p WHERE EXISTS (SELECT FROM orders o WHERE o.person_id = p.id AND o.total > 3);
SELECT id FROM people p WHERE NOT EXISTS (SELECT FROM orders o JOIN items i USING (person_id) WHERE p.id = o.person_id);
SELECT age, count(*), sum(id) FROM people p WHERE EXISTS (SELECT FROM orders o WHERE o.person_id = p.id) GROUP BY age;
SELECT p.id, (SELECT o.note FROM orders o WHERE o.person_id = p.id ORDER BY o.total DESC NULLS LAST, o.id LIMIT 1) FROM people p;
SELECT p.id, (SELECT sum(o.total) FROM orders o WHERE o.person_id = p.id) FROM people p;
SELECT p.id, (SELECT sum(p.age)) FROM people p GROUP BY p.id;
SELECT id FROM people p WHERE EXISTS (SELECT FROM orders o WHERE o.person_id = p.id AND EXISTS (SELECT FROM items i WHERE i.person_id = o.person_id AND i.order_id = o.id));
SELECT id FROM people WHERE id IN (SELECT person_id FROM orders WHERE total > 3) AND age > 0;
SELECT id FROM people WHERE id IN (SELECT person_id FROM orders) OR age > 0;
SELECT id FROM people WHERE id NOT IN (SELECT person_id FROM orders);
SELECT id FROM people WHERE (id IN (SELECT person_id FROM orders)) IS NOT TRUE;
SELECT t.id FROM tiny t WHERE t.id IN (SELECT person_id FROM orders);
SELECT t.id FROM tiny t WHERE EXISTS (SELECT FROM orders o WHERE o.person_id = t.id);
SELECT m.id FROM mid m WHERE EXISTS (SELECT FROM orders o WHERE o.person_id = m.people_id);
SELECT id FROM people p WHERE EXISTS (SELECT FROM orders p WHERE p.person_id = p.id);
SELECT id FROM people p WHERE EXISTS (SELECT FROM orders o LEFT JOIN items i ON i.person_id = o.person_id WHERE i.person_id = p.id);
SELECT id FROM people p WHERE EXISTS (SELECT FROM orders o WHERE o.person_id = p.id LIMIT 0);
SELECT id FROM people p WHERE id IN (SELECT person_id FROM orders ORDER BY total DESC, id LIMIT 5);
SELECT id FROM people p WHERE id IN (SELECT max(person_id) FROM orders);
SELECT id FROM people p WHERE id = ANY (SELECT person_id FROM orders);
SELECT id FROM people p WHERE id = (SELECT min(o.person_id) FROM orders o WHERE o.person_id = p.id);
SELECT p.id FROM people p LEFT JOIN orders o ON o.person_id = p.id WHERE NOT EXISTS (SELECT FROM items i WHERE i.person_id = o.person_id);
SELECT id, person_id, rank() OVER (PARTITION BY person_id ORDER BY total NULLS FIRST, id) FROM orders;
SELECT id, sum(total) OVER (PARTITION BY qty, person_id) FROM orders;
SELECT id, sum(total) OVER (PARTITION BY person_id), count(*) OVER () FROM orders;
SELECT DISTINCT person_id, count(*) OVER (PARTITION BY person_id) FROM orders;
SELECT DISTINCT count(*) OVER (PARTITION BY person_id) FROM orders;
SELECT person_id, count(*), rank() OVER (PARTITION BY person_id ORDER BY count(*)) FROM orders GROUP BY person_id, qty;
SELECT o.id, row_number() OVER (PARTITION BY p.id ORDER BY o.id) FROM people p LEFT JOIN orders o ON o.person_id = p.id;
SELECT o.id, row_number() OVER (PARTITION BY o.person_id ORDER BY p.id) FROM people p LEFT JOIN orders o ON o.person_id = p.id WHERE o.id IS NULL;
SELECT id FROM people WHERE age > 0 UNION ALL SELECT person_id FROM orders WHERE qty = 1;
SELECT id, city FROM people UNION ALL (SELECT person_id, note FROM orders UNION ALL SELECT id, v FROM mid);
SELECT id FROM people UNION ALL SELECT person_id FROM countries;
SELECT id FROM people WHERE id = 1 UNION ALL SELECT id FROM people p WHERE EXISTS (SELECT FROM orders o WHERE o.person_id = p.id);
SELECT NULL, id FROM people UNION ALL SELECT 'x', id FROM mid;
SELECT count(*) FROM people UNION ALL SELECT count(*) FROM orders;
SELECT DISTINCT age FROM people UNION ALL SELECT DISTINCT qty FROM orders;

[windows within one key, in order] ordered
SELECT id, person_id, row_number() OVER (PARTITION BY person_id ORDER BY id DESC) AS n FROM orders ORDER BY n, id LIMIT 9;
SELECT id FROM orders ORDER BY sum(total) OVER (PARTITION BY person_id) DESC NULLS LAST, id LIMIT 9 OFFSET 2;
SELECT id FROM people p WHERE EXISTS (SELECT FROM orders o WHERE o.person_id = p.id) ORDER BY age NULLS FIRST, id LIMIT 6 OFFSET 1;

[WITH, gathered]
WITH x AS (SELECT * FROM people) SELECT * FROM x WHERE id = 3;
WITH a AS (SELECT count(*) AS n FROM people), b AS (SELECT count(*) AS n FROM orders) SELECT a.n, b.n FROM a, b;
WITH RECURSIVE r AS (SELECT id FROM people WHERE id = 1 UNION ALL SELECT p.id FROM people p JOIN r ON p.id = r.id + 1) SELECT * FROM r;
WITH c AS (SELECT * FROM countries) SELECT p.id, c.code FROM people p JOIN c ON c.person_id = p.id;
WITH x (id) AS (VALUES (1), (2)) SELECT p.id FROM people p JOIN x ON x.id = p.id;

[WITH, a name that is also a table's, where keys may be on one shard] maybe
WITH people AS (SELECT * FROM orders WHERE person_id = 4) SELECT id FROM people WHERE id = 3;

[WITH, a name that is also a table's, refused] refused
WITH people AS (SELECT 3 AS id) SELECT id FROM people;
WITH people AS (SELECT * FROM people) SELECT count(*) FROM people WHERE id = 3;
WITH orders AS (SELECT 1 AS person_id) SELECT count(*) FROM people JOIN orders ON people.id = orders.person_id;
WITH RECURSIVE people AS (SELECT 1 AS id UNION ALL SELECT id + 1 FROM people WHERE id < 5) SELECT * FROM people;
SELECT * FROM (WITH people AS (SELECT 9 AS id) SELECT id FROM people) p WHERE p.id = 9;

[subqueries]
SELECT * FROM (SELECT * FROM people WHERE id = 3) x;
SELECT id FROM people WHERE id = 4 AND id IN (SELECT person_id FROM orders WHERE person_id = 4);
SELECT id FROM people p WHERE id = 4 AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.person_id = 4);
SELECT id FROM people p WHERE id = 4 AND NOT EXISTS (SELECT 1 FROM orders o WHERE person_id = 4 AND p.id = 5);
SELECT code FROM countries WHERE person_id IN (SELECT id FROM people WHERE id = 1);
SELECT id FROM people WHERE id IN (SELECT person_id FROM countries);
SELECT id FROM people WHERE id NOT IN (SELECT person_id FROM countries WHERE person_id IS NOT NULL);
SELECT id FROM people WHERE EXISTS (SELECT 1 FROM countries WHERE person_id = id);
SELECT id FROM people WHERE name = (SELECT name FROM countries WHERE code = 'no');
SELECT id, (SELECT code FROM countries c WHERE c.person_id = people.id) FROM people;
SELECT array(SELECT id FROM people WHERE id = 3);
SELECT id FROM people WHERE id = 3 AND age IN (SELECT id FROM mid WHERE id = 3);
SELECT 1 WHERE EXISTS (SELECT FROM people WHERE id = 3);
SELECT id FROM people ORDER BY (SELECT 1), id LIMIT 3;

[subqueries, gathered]
SELECT * FROM (SELECT * FROM people) x WHERE id = 3;
SELECT id FROM people WHERE id IN (SELECT max(id) FROM people);
SELECT id FROM people WHERE id = (SELECT max(id) FROM people);
SELECT id FROM people WHERE id = 30 AND id = (SELECT max(id) FROM people);
SELECT id FROM people WHERE id IN (SELECT person_id FROM orders);
SELECT id FROM people WHERE id = 4 AND id IN (SELECT person_id FROM orders);
SELECT id FROM people p WHERE EXISTS (SELECT 1 FROM orders o WHERE o.person_id = p.id);
SELECT id FROM people p WHERE id = 4 AND EXISTS (SELECT 1 FROM orders o WHERE o.person_id = p.id);
SELECT id FROM people WHERE age > (SELECT avg(age) FROM people);
SELECT code FROM countries WHERE person_id IN (SELECT id FROM people);
SELECT (SELECT count(*) FROM countries), count(*) FROM people;
SELECT array(SELECT id FROM people ORDER BY id);
SELECT 1 WHERE EXISTS (SELECT FROM people);
SELECT count(*) FROM (SELECT DISTINCT age FROM people) x;
SELECT count(*) FROM (SELECT person_id, count(*) FROM orders GROUP BY person_id) x;
SELECT max(n) FROM (SELECT person_id, count(*) AS n FROM orders GROUP BY 1) x;
SELECT * FROM people WHERE id = 3 LIMIT (SELECT count(*) FROM people);

[ORDER BY, rows in order] ordered
SELECT id FROM people ORDER BY id;
SELECT id FROM people ORDER BY id DESC;
SELECT id FROM people ORDER BY -id;
SELECT id, age FROM people ORDER BY age, id;
SELECT id, age FROM people ORDER BY age DESC, id;
SELECT id, age FROM people ORDER BY age NULLS FIRST, id;
SELECT id, age FROM people ORDER BY age DESC NULLS LAST, id;
SELECT id, age FROM people ORDER BY age ASC NULLS LAST, id DESC;
SELECT id FROM people ORDER BY age, id;
SELECT id FROM people ORDER BY age DESC NULLS LAST, id LIMIT 5;
SELECT id, name FROM people ORDER BY name, id;
SELECT id, name FROM people ORDER BY name DESC, id;
SELECT id, name FROM people ORDER BY name COLLATE "C", id;
SELECT id, city FROM people ORDER BY city, id;
SELECT id, city FROM people ORDER BY city COLLATE "C", id;
SELECT id, city FROM people ORDER BY city COLLATE "POSIX", id;
SELECT id, score FROM people ORDER BY score, id;
SELECT id, score FROM people ORDER BY score DESC, id;
SELECT id, ratio FROM people ORDER BY ratio, id;
SELECT id, ratio FROM people ORDER BY ratio DESC, id;
SELECT id, weight FROM people ORDER BY weight;
SELECT id, born FROM people ORDER BY born, id;
SELECT id, seen FROM people ORDER BY seen, id;
SELECT id, at FROM people ORDER BY at, id;
SELECT id, at FROM people ORDER BY at DESC, id;
SELECT id, ok FROM people ORDER BY ok, id;
SELECT id, code FROM people ORDER BY code, id;
SELECT id, nick FROM people ORDER BY nick, id;
SELECT id, span FROM people ORDER BY span, id;
SELECT id, clock FROM people ORDER BY clock, id;
SELECT id, rank2 FROM people ORDER BY rank2, id;
SELECT id, ctid IS NULL FROM people ORDER BY id;
SELECT id, name::name FROM people ORDER BY name::name, id;
SELECT id, id::oid FROM people WHERE id > 0 ORDER BY id::oid;
SELECT id, decode('ff', 'hex') FROM people ORDER BY 2, 1;
SELECT id, at::timetz FROM people ORDER BY at::timetz, id;
SELECT id FROM people ORDER BY 1;
SELECT id FROM people ORDER BY (1);
SELECT id, age FROM people ORDER BY 2, 1;
SELECT id, age FROM people ORDER BY 2 DESC NULLS LAST, 1 DESC;
SELECT * FROM people ORDER BY 1;
SELECT * FROM people ORDER BY 4, 1;
SELECT *, id AS other FROM people ORDER BY 1;
SELECT age, * FROM people ORDER BY 1, 2;
SELECT p.*, o.* FROM people p JOIN orders o ON p.id = o.person_id ORDER BY p.id, o.id;
SELECT p.*, o.* FROM people p JOIN orders o ON p.id = o.person_id ORDER BY 1, o.id;
SELECT id FROM people ORDER BY 0;
SELECT id FROM people ORDER BY 'a';
SELECT id FROM people ORDER BY NULL, id;
SELECT id FROM people ORDER BY 1.5;
SELECT id FROM people ORDER BY +1, id;
SELECT id FROM people ORDER BY 1 + 1, id;
SELECT id AS x FROM people ORDER BY x;
SELECT -id AS id FROM people ORDER BY id;
SELECT -id AS id FROM people ORDER BY people.id;
SELECT -id AS id FROM people ORDER BY id + 0;
SELECT -id AS id FROM people ORDER BY id DESC LIMIT 3;
SELECT id, -id AS age FROM people ORDER BY age;
SELECT id, -id AS age FROM people ORDER BY people.age, id;
SELECT age AS id, id AS age FROM people ORDER BY age;
SELECT age AS id, id AS age FROM people ORDER BY id, age;
SELECT id x, age x FROM people ORDER BY x;
SELECT id x, id x FROM people ORDER BY x;
SELECT id, id FROM people ORDER BY id;
SELECT id, age AS id FROM people ORDER BY id;
SELECT *, -id AS id2 FROM people ORDER BY id2;
SELECT *, -id AS id FROM people ORDER BY id;
SELECT id AS "X", age AS x FROM people ORDER BY "X";
SELECT id AS "X", age AS x FROM people ORDER BY X, "X";
SELECT id "order" FROM people ORDER BY "order";
SELECT id + 1 FROM people ORDER BY id + 1;
SELECT id + 1 AS n FROM people ORDER BY n DESC;
SELECT id + 1 AS n FROM people ORDER BY n + 1;
SELECT id % 3 FROM people ORDER BY id % 3, id;
SELECT id FROM people ORDER BY id % 3, id DESC;
SELECT id FROM people ORDER BY id % 3 = 1, id;
SELECT id FROM people ORDER BY age IS NULL, age, id;
SELECT id FROM people ORDER BY coalesce(age, 99), id;
SELECT id FROM people ORDER BY CASE WHEN id = 5 THEN 0 ELSE 1 END, id;
SELECT id FROM people ORDER BY id IN (3, 4) DESC, id;
SELECT id FROM people ORDER BY name IS NOT NULL, id;
SELECT id FROM people ORDER BY name LIKE 'A%', id;
SELECT abs(id), id FROM people ORDER BY abs, id;
SELECT abs(id), id FROM people ORDER BY abs(id), id;
SELECT coalesce(age, 0), id FROM people ORDER BY coalesce, id;
SELECT id::int FROM people ORDER BY int4;
SELECT id::int FROM people ORDER BY id;
SELECT p.id, o.id FROM people p JOIN orders o ON o.person_id = p.id ORDER BY o.id DESC;
SELECT p.id AS pid, o.id AS oid FROM people p JOIN orders o ON o.person_id = p.id ORDER BY pid, oid DESC LIMIT 7;
SELECT p.id, o.total FROM people p LEFT JOIN orders o ON o.person_id = p.id ORDER BY o.total DESC NULLS LAST, p.id, o.id LIMIT 20;
SELECT person_id, o.id, sku FROM orders o JOIN items i USING (person_id) ORDER BY person_id, o.id, sku, i.order_id, i.n;
SELECT word FROM words ORDER BY word COLLATE "C";
SELECT word, n FROM words ORDER BY n;
SELECT id FROM tokens ORDER BY id;
SELECT id, label FROM tokens ORDER BY label DESC, id;
SELECT "Key" FROM "Mixed Case" ORDER BY "Key";
SELECT "Key" AS "order" FROM "Mixed Case" ORDER BY "order";
SELECT "select", "order" FROM "Mixed Case" ORDER BY "select", "order", "Key";
SELECT "Key" FROM "Mixed Case" ORDER BY "Mixed Case"."order", 1;
SELECT code FROM countries ORDER BY code;
SELECT id FROM people WHERE id = 3 FOR UPDATE;

[ORDER BY, rows in order, gathered] ordered
SELECT id, mode() WITHIN GROUP (ORDER BY age) FROM people GROUP BY 1 ORDER BY max(age)::text, 1 LIMIT 10;
SELECT id, percentile_disc(0.5) WITHIN GROUP (ORDER BY age) AS p FROM people GROUP BY id ORDER BY id % 4, id;
SELECT o.* FROM people p JOIN orders o ON p.id = o.person_id ORDER BY id DESC;
SELECT o.* FROM orders o LEFT JOIN orders x ON o.person_id = x.person_id AND o.id = x.id ORDER BY total, id DESC LIMIT 7;
SELECT p.*, o.note FROM people p JOIN orders o ON p.id = o.person_id WHERE p.id IN (1, 2, 3) ORDER BY id, note, o.id;
SELECT id, city AS c FROM people WHERE age > 0 AND id < 25 ORDER BY c DESC, 1 LIMIT 4 OFFSET 2;
SELECT * FROM people ORDER BY city, id LIMIT 3;
SELECT id, unnest(tags) AS t FROM people ORDER BY city, id, t LIMIT 3;
SELECT *, age FROM people ORDER BY 2, city, id LIMIT 3;
SELECT age, * FROM people ORDER BY 1, 4, 2 LIMIT 3;
SELECT -id AS city FROM people ORDER BY city, people.city LIMIT 3;
SELECT id FROM people ORDER BY city, id LIMIT NULL OFFSET 38;
SELECT id FROM people ORDER BY city, id LIMIT 3 OFFSET NULL;
SELECT id FROM people ORDER BY city, id LIMIT -1;
SELECT id FROM people ORDER BY city, id LIMIT 2 OFFSET -1;
SELECT id FROM people ORDER BY city, id LIMIT 9223372036854775807 OFFSET 1;
SELECT id, city FROM people ORDER BY city, id LIMIT $1 OFFSET $2;
with: 4, 3
SELECT id, city FROM people WHERE city > $1 ORDER BY upper(city) DESC, id LIMIT $2;
with: a, 4
SELECT id, feel FROM people WHERE age IN (0, 1) ORDER BY feel DESC NULLS LAST, id FETCH NEXT 4 ROWS ONLY;
SELECT city, id FROM people ORDER BY city, id;
SELECT city, id FROM people ORDER BY city DESC NULLS LAST, id LIMIT 7 OFFSET 3;
SELECT city, count(*), min(city), max(note) FROM people JOIN orders ON person_id = people.id GROUP BY city ORDER BY city DESC;
SELECT age FROM people ORDER BY age NULLS FIRST FETCH FIRST 1 ROW WITH TIES;
SELECT age FROM people ORDER BY age DESC NULLS LAST FETCH FIRST 2 ROWS WITH TIES;
SELECT feel, count(*) FROM people GROUP BY feel ORDER BY feel DESC;
SELECT tags, id FROM people ORDER BY tags, id;
SELECT word, alt FROM words ORDER BY alt, word;
SELECT id FROM people ORDER BY lower(name) DESC, id LIMIT $1;
with: 4
SELECT id FROM people ORDER BY id USING <;
SELECT id FROM people ORDER BY id USING >;
SELECT id, city FROM people ORDER BY city COLLATE "en_US.utf8", id;
SELECT id, city FROM people ORDER BY lower(city), id;
SELECT id, lower(name) FROM people ORDER BY lower(name), id;
SELECT id, name || 'x' FROM people ORDER BY name || 'x', id;
SELECT id, city || '' AS c FROM people ORDER BY c, id;
SELECT id, tags FROM people ORDER BY tags, id;
SELECT id, doc FROM people ORDER BY doc, id;
SELECT id, feel FROM people ORDER BY feel, id;
SELECT id, price FROM people ORDER BY price, id;
SELECT id, (age, id) FROM people ORDER BY (age, id);
SELECT id, ROW(id) FROM people ORDER BY ROW(id);
SELECT id, id::text FROM people ORDER BY id::text;
SELECT id, bit '101' FROM people ORDER BY 2, 1;
SELECT id FROM people ORDER BY 2;
SELECT CASE WHEN true THEN id END FROM people ORDER BY "case";
SELECT id FROM people ORDER BY random() LIMIT 0;

[ORDER BY, rows in order, refused] refused

[ORDER BY, rows in order, refused in one protocol] ordered maybe
SELECT id FROM people ORDER BY $1, id;
with: 1

[LIMIT and OFFSET] ordered
SELECT id FROM people ORDER BY id LIMIT 5;
SELECT id FROM people ORDER BY id LIMIT 0;
SELECT id FROM people ORDER BY id LIMIT NULL;
SELECT id FROM people ORDER BY id LIMIT ALL;
SELECT id FROM people ORDER BY id OFFSET 3;
SELECT id FROM people ORDER BY id OFFSET 0;
SELECT id FROM people ORDER BY id OFFSET NULL;
SELECT id FROM people ORDER BY id OFFSET 1000;
SELECT id FROM people ORDER BY id LIMIT 5 OFFSET 3;
SELECT id FROM people ORDER BY id OFFSET 3 LIMIT 5;
SELECT id FROM people ORDER BY id LIMIT ALL OFFSET 40;
SELECT id FROM people ORDER BY id LIMIT NULL OFFSET 40;
SELECT id FROM people ORDER BY id LIMIT 5 OFFSET NULL;
SELECT id FROM people ORDER BY id LIMIT 0 OFFSET 5;
SELECT id FROM people ORDER BY id LIMIT (5);
SELECT id FROM people ORDER BY id LIMIT '5';
SELECT id FROM people ORDER BY id LIMIT 5::bigint OFFSET 2::int;
SELECT id FROM people ORDER BY id LIMIT -1;
SELECT id FROM people ORDER BY id OFFSET -1;
SELECT id FROM people ORDER BY id LIMIT -1 OFFSET 5;
SELECT id FROM people ORDER BY id LIMIT 5 OFFSET -1;
SELECT id FROM people ORDER BY id LIMIT 9223372036854775807;
SELECT id FROM people ORDER BY id LIMIT 9223372036854775807 OFFSET 1;
SELECT id FROM people ORDER BY id LIMIT '-1' OFFSET 2;
SELECT id FROM people ORDER BY id LIMIT $1;
with: 4
SELECT id FROM people ORDER BY id LIMIT $1 OFFSET $2;
with: 4, 2
SELECT id FROM people ORDER BY id LIMIT $1;
with: NULL
SELECT id FROM people ORDER BY id OFFSET $1;
with: NULL
SELECT id FROM people ORDER BY id LIMIT $1;
with: 0
SELECT id FROM people ORDER BY id LIMIT $1;
with: -1
SELECT id FROM people ORDER BY id LIMIT $1 OFFSET 3;
with: -1
SELECT id FROM people ORDER BY id LIMIT $1::int;
with: 4
SELECT id FROM people WHERE id IN ($1, $2) ORDER BY id LIMIT 1 OFFSET 1;
with: 4, 5
SELECT age, count(*) FROM people GROUP BY age ORDER BY age LIMIT $1;
with: 2
SELECT age, count(*) FROM people GROUP BY age ORDER BY age LIMIT $1 OFFSET $2;
with: 2, 1
SELECT DISTINCT age FROM people ORDER BY age OFFSET $1;
with: 2
SELECT age, count(*) FROM people WHERE id > $1 GROUP BY age ORDER BY age LIMIT $2;
with: 2, 3
SELECT count(*) FROM people LIMIT $1;
with: 0
SELECT id FROM people ORDER BY id LIMIT ALL OFFSET $1;
with: 38
SELECT id FROM people ORDER BY id FETCH FIRST $1 ROWS ONLY;
with: 4
SELECT id FROM people ORDER BY id FETCH FIRST ROW ONLY;
SELECT id FROM people ORDER BY id FETCH FIRST 3 ROWS ONLY;
SELECT id FROM people ORDER BY id FETCH NEXT 3 ROW ONLY;
SELECT id FROM people ORDER BY id OFFSET 3 ROWS FETCH FIRST 3 ROWS ONLY;
SELECT id FROM people ORDER BY id OFFSET 3 FETCH FIRST ROW ONLY;
SELECT id FROM people ORDER BY id OFFSET 1 ROW FETCH NEXT ROWS ONLY;
SELECT id FROM people ORDER BY id FETCH FIRST 3 ROWS ONLY OFFSET 2;
SELECT id FROM people WHERE id = 3 ORDER BY age FETCH FIRST 3 ROWS WITH TIES;
SELECT id FROM people WHERE id IN (1, 2, 3) ORDER BY id LIMIT 2;
SELECT id FROM people WHERE id IN (1, 2, 3) ORDER BY id DESC LIMIT 1 OFFSET 1;
SELECT count(*) FROM people LIMIT 1;
SELECT count(*) FROM people LIMIT 0;
SELECT count(*) FROM people OFFSET 1;
SELECT age, count(*) FROM people GROUP BY age ORDER BY count(*) DESC, age LIMIT 3;
SELECT age, count(*) FROM people GROUP BY age ORDER BY 2 DESC, 1 LIMIT 2 OFFSET 1;
SELECT age, sum(id) AS s FROM people GROUP BY age ORDER BY s DESC, age LIMIT 2;
SELECT age, sum(id) FROM people GROUP BY age ORDER BY sum(id) LIMIT 2;
SELECT age FROM people GROUP BY age ORDER BY sum(id) LIMIT 2;
SELECT age AS a FROM people GROUP BY a ORDER BY a;
SELECT age, count(*) FROM people GROUP BY age ORDER BY age NULLS FIRST;
SELECT age, count(*) FROM people GROUP BY 1 ORDER BY 1 DESC;
SELECT name, count(*) FROM people GROUP BY name ORDER BY name;
SELECT name, count(*) FROM people GROUP BY name ORDER BY 2, 1;
SELECT DISTINCT age FROM people ORDER BY age;
SELECT DISTINCT age FROM people ORDER BY age LIMIT 2;
SELECT DISTINCT age FROM people ORDER BY age DESC NULLS LAST LIMIT 2 OFFSET 1;
SELECT DISTINCT id, age FROM people ORDER BY id LIMIT 4;
SELECT DISTINCT age, ok FROM people ORDER BY ok, age;
SELECT person_id, count(*) FROM orders GROUP BY person_id ORDER BY person_id LIMIT 3;
SELECT person_id, sum(total) FROM orders GROUP BY person_id ORDER BY sum(total) DESC, person_id LIMIT 3;
SELECT person_id, sum(total) AS s FROM orders GROUP BY person_id HAVING count(*) > 3 ORDER BY s, person_id OFFSET 2;
SELECT person_id FROM orders GROUP BY person_id ORDER BY max(total) DESC NULLS LAST, person_id LIMIT 3;
SELECT age FROM people GROUP BY age ORDER BY max(id) DESC, age NULLS FIRST;

[LIMIT and OFFSET, gathered] ordered
SELECT id FROM people ORDER BY id LIMIT 2 + 3;
SELECT id FROM people ORDER BY id LIMIT 2.5;
SELECT id FROM people ORDER BY id LIMIT 1e1;
SELECT id FROM people ORDER BY id LIMIT (SELECT 3);
SELECT age FROM people ORDER BY age FETCH FIRST 3 ROWS WITH TIES;
SELECT count(*) FROM (SELECT id FROM people LIMIT 5) x;
SELECT age FROM people GROUP BY age ORDER BY -age;
SELECT DISTINCT age FROM people ORDER BY id;

SELECT id % 3 AS a, 2 AS b, city FROM people WHERE city = 'Oslo' ORDER BY 2, id % 3, 3, id LIMIT 3;
SELECT concat(city, name), 15 AS b, id FROM people ORDER BY 2, 1, 3 LIMIT 5;
SELECT concat(city, name), -1 AS b, id FROM people ORDER BY b, 1, 3 LIMIT 5;
SELECT concat(city, name), 'x' AS b, id FROM people ORDER BY b, 1, 3 OFFSET 1 FETCH FIRST 4 ROWS ONLY;
SELECT city, 1 AS b FROM people ORDER BY (2) LIMIT 0;
SELECT concat(city), NULL AS b, id FROM people ORDER BY 2 DESC, 3 DESC LIMIT 2;

[LIMIT and OFFSET, refused] refused
SELECT id FROM people ORDER BY id FETCH FIRST (1 + 2) ROWS ONLY;

[LIMIT and OFFSET, refused in one protocol] ordered maybe
SELECT id FROM people ORDER BY id LIMIT $1 OFFSET $1;
with: 4
SELECT id FROM people WHERE age = $1 ORDER BY id LIMIT $1;
with: 2

[aggregates]
SELECT sum(age), min(age), max(age), avg(age) FROM people;
SELECT count(*) FROM people;
SELECT count(age), count(*), count(name) FROM people;
SELECT count(1), count(NULL) FROM people;
SELECT sum(id), avg(id) FROM people;
SELECT sum(ratio) FROM people WHERE id > 5;
SELECT bool_and(ok) FROM people WHERE id > 100;
SELECT count(*) FROM people WHERE id = 3;
SELECT count(*) FROM people WHERE id IN (1, 2, 3);
SELECT count(DISTINCT id) FROM people;
SELECT count(DISTINCT person_id) FROM orders;
SELECT count(ALL age) FROM people;
SELECT array_agg(id) FROM people WHERE id = 3;
SELECT string_agg(name, ',' ORDER BY id) FROM people WHERE id = 3;
SELECT bool_or(age, 2) FROM people WHERE id = 3;
SELECT pg_catalog.count(*) FROM people;
SELECT "count"(*) FROM people;
SELECT COUNT ( * ) FROM people;
SELECT count(people) FROM people;
SELECT count((age, name)) FROM people;
SELECT avg(age) FILTER (WHERE ok), sum(age) FILTER (WHERE NOT ok) FROM people;
SELECT avg(age) AS "avg", avg(id) x FROM people;
SELECT avg(id::numeric(20, 3)) FROM people;
SELECT avg(ratio) FROM people WHERE id IN (6, 13);
SELECT avg(NULL::int) FROM people;
SELECT sum(NULL::numeric), avg(NULL::float8) FROM people;
SELECT sum(9223372036854775807) FROM people;
SELECT sum(2147483647) FROM people;
SELECT avg(9223372036854775807) FROM people;
SELECT sum(1e-20), avg(1e-20) FROM people;
SELECT avg(score) FROM people WHERE score = 1;
SELECT sum(score) FROM people WHERE score = 1;
SELECT avg(0.1) FROM people;
SELECT sum(CASE WHEN id = 3 THEN 1 ELSE 0 END) FROM people;
SELECT count(*) AS count, 'x' AS label, 7, NULL, true FROM people;
SELECT $1, count(*) FROM people;
with: 7
SELECT count(*) FROM people p JOIN orders o ON o.person_id = p.id;
SELECT count(o.id), count(*) FROM people p LEFT JOIN orders o ON o.person_id = p.id;
SELECT count(DISTINCT p.id) FROM people p LEFT JOIN orders o ON o.person_id = p.id;
SELECT count(DISTINCT o.person_id) FROM people p LEFT JOIN orders o ON o.person_id = p.id;
SELECT count(*) FROM people TABLESAMPLE BERNOULLI (100);
SELECT sum(rank2), avg(rank2), min(rank2), max(rank2) FROM people;
SELECT sum(score), min(score), max(score) FROM people;
SELECT sum(total), avg(total), min(total), max(total) FROM orders;
SELECT min(ratio), max(ratio) FROM people;
SELECT min(weight), max(weight) FROM people;
SELECT min(name), max(name) FROM people;
SELECT min(city), max(city) FROM people;
SELECT min(city COLLATE "C"), max(city COLLATE "C") FROM people;
SELECT min(code), max(code) FROM people;
SELECT min(nick), max(nick) FROM people;
SELECT min(born), max(born), min(seen), max(seen), min(at), max(at) FROM people;
SELECT min(clock), max(clock) FROM people;
SELECT min(DISTINCT age), max(DISTINCT age) FROM people;
SELECT max(age) FROM people;
SELECT pg_catalog.max(age) FROM people;
SELECT sum(id % 3), max(id % 3), avg(id % 3) FROM people;
SELECT bit_and(age), bit_or(age), bit_xor(age) FROM people;
SELECT bit_and(id), bit_or(id), bit_xor(id), bit_and(rank2), bit_or(rank2), bit_xor(rank2) FROM people;
SELECT bit_and(-id), bit_or(id * 3), bit_and(DISTINCT age), bit_or(DISTINCT rank2) FROM people;
SELECT bit_and(age) FILTER (WHERE age > 20), bit_or(age) FILTER (WHERE false), bit_xor(id) FROM people;
SELECT bit_and(age), bit_or(age), bit_xor(age) FROM people WHERE id > 1000;
SELECT city, bit_and(id), bit_or(age), bit_xor(rank2) FROM people GROUP BY city;

[aggregates, gathered]
SELECT sum(weight), avg(weight) FROM people WHERE id > 25;
SELECT sum(span), avg(span) FROM people;
SELECT min(tags), max(tags) FROM people;
SELECT min(feel), max(feel) FROM people;
SELECT sum(price), min(price), max(price) FROM people;
SELECT bit_and(age::bit(8)), bit_or(age::bit(8)), bit_xor(age::bit(8)) FROM people;
SELECT bit_xor(DISTINCT age) FROM people;
SELECT count(*), sum(age), min(age), max(age), avg(age), bool_or(ok) FROM people WHERE id > 1000;
SELECT count(*) FROM people HAVING count(*) > 10;
SELECT count(*) FROM people HAVING false;
SELECT 1 FROM people HAVING true;
SELECT sum(age) + 1 FROM people;
SELECT sum(age) / count(*) FROM people;
SELECT -sum(age) FROM people;
SELECT sum(age)::text FROM people;
SELECT coalesce(sum(age), 0) FROM people WHERE id > 1000;
SELECT round(avg(age), 2) FROM people;
SELECT count(DISTINCT age) FROM people;
SELECT sum(DISTINCT age) FROM people;
SELECT avg(DISTINCT age) FROM people;
SELECT array_agg(id ORDER BY id) FROM people;
SELECT string_agg(name, ',' ORDER BY id) FROM people;
SELECT json_agg(id ORDER BY id) FROM people;
SELECT stddev(age), variance(age) FROM people;
SELECT round(corr(age, id)::numeric, 10) FROM people;
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY age) FROM people;
SELECT mode() WITHIN GROUP (ORDER BY age) FROM people;
SELECT rank(5) WITHIN GROUP (ORDER BY id) FROM people;
SELECT dense_rank(5) WITHIN GROUP (ORDER BY id) FROM people;
SELECT percent_rank(5) WITHIN GROUP (ORDER BY id) FROM people;
SELECT cume_dist(5) WITHIN GROUP (ORDER BY id) FROM people;
SELECT count(people.*) FROM people;
SELECT avg(1), sum(1), max(1), min('a') FROM people;
SELECT max(id) - min(id) FROM people;
SELECT count(*), now() IS NOT NULL FROM people;
SELECT count(*), current_date IS NOT NULL FROM people;
SELECT $1::int, count(*) FROM people;
with: 7
SELECT bool_and(ok), bool_or(ok), every(ok) FROM people;

[GROUP BY]
SELECT age, count(*) FROM people GROUP BY age;
SELECT count(*) FROM people GROUP BY age;
SELECT age FROM people GROUP BY age;
SELECT age, ok, count(*), sum(id) FROM people GROUP BY age, ok;
SELECT ok, age, avg(id) FROM people GROUP BY 2, 1;
SELECT age + 1 AS a, count(*) FROM people GROUP BY a;
SELECT id % 3 AS m, count(*) FROM people GROUP BY m;
SELECT name, count(*) FROM people GROUP BY name;
SELECT city, count(*) FROM people GROUP BY city;
SELECT lower(name), count(*) FROM people GROUP BY lower(name);
SELECT lower(name) AS low, count(*) FROM people GROUP BY low;
SELECT score = 1, count(*) FROM people GROUP BY 1;
SELECT ratio, count(*) FROM people GROUP BY ratio;
SELECT count(*) FROM people GROUP BY score;
SELECT count(*) FROM people GROUP BY ratio;
SELECT count(*) FROM people GROUP BY span;
SELECT count(*) FROM people GROUP BY code;
SELECT code, count(*) FROM people GROUP BY code;
SELECT born, count(*) FROM people GROUP BY born;
SELECT seen, count(*) FROM people GROUP BY seen;
SELECT at, count(*) FROM people GROUP BY at;
SELECT ok, count(*) FROM people GROUP BY ok;
SELECT span, count(*) FROM people GROUP BY span;
SELECT clock, count(*) FROM people GROUP BY clock;
SELECT rank2, count(*) FROM people GROUP BY rank2;
SELECT nick, count(*) FROM people GROUP BY nick;
SELECT weight IS NULL, count(*) FROM people GROUP BY weight IS NULL;
SELECT date_trunc('day', seen), count(*) FROM people GROUP BY 1;
SELECT extract(day FROM seen), count(*) FROM people GROUP BY 1;
SELECT person_id, count(*), sum(total), avg(total), string_agg(note, ',' ORDER BY id) FROM orders GROUP BY person_id;
SELECT person_id, note, count(*) FROM orders GROUP BY person_id, note;
SELECT note, count(DISTINCT person_id) FROM orders GROUP BY note;
SELECT note, sum(qty) FILTER (WHERE person_id = 4) FROM orders GROUP BY note;
SELECT note, count(*) FROM orders WHERE person_id IN (1, 2, 3) GROUP BY note;
SELECT note, count(*) FROM orders WHERE person_id = 4 GROUP BY note HAVING count(*) > 0;
SELECT person_id FROM orders GROUP BY person_id HAVING sum(total) > 3;
SELECT p.ok, sum(o.total), count(DISTINCT p.id) FROM people p JOIN orders o ON o.person_id = p.id GROUP BY p.ok;
SELECT o.note, count(*) FROM people p LEFT JOIN orders o ON o.person_id = p.id GROUP BY o.note;
SELECT o.person_id, count(*) FROM people p LEFT JOIN orders o ON o.person_id = p.id GROUP BY o.person_id;
SELECT p.id, p.name, count(o.id) FROM people p LEFT JOIN orders o ON o.person_id = p.id GROUP BY p.id;
SELECT c.name, count(*) FROM people p JOIN countries c ON c.person_id = p.id GROUP BY c.name;
SELECT count(*) FROM people GROUP BY 1;
SELECT age, count(*) FROM people GROUP BY (age);
SELECT 'x', count(*) FROM people GROUP BY 'x'::text;
SELECT 'x' AS k, count(*) FROM people GROUP BY k;
SELECT age, 'x' AS k, 3 FROM people GROUP BY age;
SELECT generate_series(1, 2) AS g, count(*) FROM people GROUP BY g;
SELECT note, count(*), avg(qty), max(total) FROM orders GROUP BY note;
SELECT max(age), name FROM people GROUP BY name, age;

[GROUP BY, gathered]
SELECT age + 1, count(*) FROM people GROUP BY age + 1;
SELECT age + 1, count(*) FROM people GROUP BY age;
SELECT id % 3, count(*) FROM people GROUP BY id % 3;
SELECT id % 3 AS age, count(*) FROM people GROUP BY age;
SELECT lower(name) AS name, count(*) FROM people GROUP BY name;
SELECT count(*) FROM people GROUP BY doc;
SELECT tags, count(*) FROM people GROUP BY tags;
SELECT doc -> 'k', count(*) FROM people GROUP BY doc -> 'k';
SELECT doc ->> 'k', count(*) FROM people GROUP BY doc ->> 'k';
SELECT (doc -> 'n')::int, count(*) FROM people GROUP BY doc -> 'n';
SELECT feel, count(*) FROM people GROUP BY feel;
SELECT price, count(*) FROM people GROUP BY price;
SELECT label, owner, count(*), min(id::text) FROM tokens GROUP BY label, owner;
SELECT note, array_agg(id ORDER BY id) FROM orders GROUP BY note;
SELECT note, count(*) FROM orders GROUP BY note HAVING count(*) > 2;
SELECT note FROM orders GROUP BY note HAVING note IS NOT NULL;
SELECT c.code, count(p.id) FROM countries c LEFT JOIN people p ON c.person_id = p.id GROUP BY c.code;
SELECT age, ok, count(*) FROM people GROUP BY GROUPING SETS ((age), (ok), ());
SELECT age, count(*) FROM people GROUP BY ROLLUP (age);
SELECT age, count(*) FROM people GROUP BY CUBE (age, ok);
SELECT count(*) FROM people GROUP BY ();
SELECT age, name FROM people GROUP BY age;
SELECT age, count(*) FROM people GROUP BY 3;
SELECT age, ok, count(*) FROM people GROUP BY (age, ok);
SELECT sum(count(*)) OVER () FROM people GROUP BY age;
SELECT age, grouping(age) FROM people GROUP BY age;
SELECT "order" + 1, count(*) FROM "Mixed Case" GROUP BY "order" + 1;

[GROUP BY and gathered rows, refused] refused
SELECT p.id, p.name, count(*) FROM people p JOIN mid m ON m.people_id = p.id GROUP BY p.id;
SELECT p.ctid, count(*) FROM people p JOIN mid m ON m.people_id = p.id GROUP BY p.ctid;
SELECT public.people.id FROM people JOIN mid ON people_id = public.people.id;
SELECT pg_column_size(p.name), m.v FROM people p JOIN mid m ON m.people_id = p.id;
SELECT age, count(*) FROM people GROUP BY ALL age;

[DISTINCT]
SELECT DISTINCT age FROM people;
SELECT DISTINCT age, ok FROM people;
SELECT DISTINCT id FROM people;
SELECT DISTINCT person_id FROM orders;
SELECT DISTINCT person_id, note FROM orders;
SELECT DISTINCT note FROM orders;
SELECT DISTINCT * FROM orders;
SELECT DISTINCT name FROM people;
SELECT DISTINCT city FROM people;
SELECT DISTINCT ratio FROM people;
SELECT DISTINCT score IS NULL FROM people;
SELECT DISTINCT code FROM people;
SELECT DISTINCT span FROM people;
SELECT DISTINCT age % 2 FROM people;
SELECT DISTINCT age FROM people WHERE id IN (1, 6, 11);
SELECT DISTINCT o.note FROM people p LEFT JOIN orders o ON o.person_id = p.id;
SELECT DISTINCT o.person_id FROM people p LEFT JOIN orders o ON o.person_id = p.id;
SELECT DISTINCT o.person_id FROM people p LEFT JOIN orders o ON o.person_id = p.id WHERE o.id IS NULL;
SELECT DISTINCT c.name FROM people p, countries c;
SELECT DISTINCT 1 FROM people;
SELECT DISTINCT NULL FROM people;
SELECT DISTINCT true, 'x' FROM people;
SELECT DISTINCT age AS a, age AS b FROM people;
SELECT ALL age FROM people;

[DISTINCT, gathered]
SELECT count(DISTINCT city), count(DISTINCT (age, ok)), sum(DISTINCT score)::bigint FROM people WHERE score < 9;
SELECT age, count(DISTINCT city) FROM people GROUP BY age HAVING count(DISTINCT city) > 2;
SELECT DISTINCT ON (city) city, id FROM people ORDER BY city, id DESC;
SELECT DISTINCT ON (age, ok) age, ok, id, name FROM people ORDER BY age NULLS FIRST, ok DESC, id LIMIT 5;
SELECT DISTINCT ON (age) age, id FROM people ORDER BY age, id;
SELECT DISTINCT ON (id) age, id FROM people ORDER BY id;
SELECT DISTINCT o.* FROM orders o;
SELECT DISTINCT doc - 'n' FROM people;
SELECT DISTINCT count(*) FROM people;
SELECT DISTINCT count(*) FROM people GROUP BY age;
SELECT count(*) FROM people WHERE age IN (SELECT DISTINCT age FROM people WHERE id = 1);

[set operations]
SELECT id FROM people WHERE id = 1 UNION ALL SELECT id FROM people WHERE id = 1;
SELECT id FROM people WHERE id = 1 UNION SELECT id FROM people WHERE id = 1 ORDER BY 1 LIMIT 3;
SELECT id FROM people WHERE id = 1 INTERSECT SELECT id FROM tiny WHERE id = 1;
SELECT id FROM people WHERE id = 1 UNION SELECT 5;
SELECT code FROM countries UNION SELECT name FROM countries;
SELECT code FROM countries UNION ALL SELECT name FROM people WHERE id = 8;
(SELECT id FROM people WHERE id = 1);
SELECT 1 UNION SELECT 2;
VALUES (1) UNION SELECT id FROM people WHERE id = 3;

[set operations, gathered]
SELECT id FROM people UNION SELECT person_id FROM orders;
SELECT id FROM people EXCEPT SELECT person_id FROM orders;
SELECT id FROM people EXCEPT ALL SELECT person_id FROM orders;
SELECT id FROM people INTERSECT SELECT person_id FROM orders;
SELECT id FROM people INTERSECT ALL SELECT person_id FROM orders;
SELECT city FROM people UNION SELECT note FROM orders;
SELECT id, name FROM people WHERE age > 0 UNION ALL SELECT id, v FROM mid WHERE v IS NOT NULL;
(SELECT id FROM people ORDER BY id LIMIT 3) UNION ALL (SELECT id FROM mid ORDER BY id DESC LIMIT 2);
SELECT id FROM people UNION SELECT id FROM mid ORDER BY 1 LIMIT 4 OFFSET 2;
VALUES (1000) UNION SELECT max(id) FROM people;
SELECT id FROM people UNION SELECT id FROM tiny;
SELECT id FROM people WHERE id = 1 UNION SELECT id FROM people WHERE id = 2;
SELECT id FROM people WHERE id = 1 UNION ALL SELECT id FROM people WHERE id = 2;
SELECT id FROM people WHERE id = 1 INTERSECT SELECT id FROM tiny;
SELECT id FROM people WHERE id = 1 EXCEPT SELECT id FROM people WHERE id = 2;
SELECT id FROM people UNION ALL SELECT 5;
(SELECT id FROM people WHERE id = 1) UNION ALL (SELECT id FROM people WHERE id = 3 LIMIT 1);
((SELECT id FROM people ORDER BY id LIMIT 2));
(SELECT id FROM people) ORDER BY id LIMIT 2;
(SELECT id FROM people LIMIT 3) LIMIT 2;

[set operations, refused] refused

[windows and other functions]
SELECT id, row_number() OVER (ORDER BY id) FROM people WHERE id = 4;
SELECT generate_series(1, 3), id FROM people;
SELECT id, unnest(tags) FROM people;
SELECT now() - now(), pg_typeof(id) FROM people;
SELECT id, upper(name), length(city), age * 2, coalesce(name, 'none') FROM people;
SELECT nextval('nosuch');
SELECT 1;
SELECT 1 AS one, 'two' AS two, NULL AS three;
SELECT current_database() IS NOT NULL;
SELECT count(*) FROM generate_series(1, 10);
SELECT * FROM generate_series(1, 3) g WHERE g = 2;
SELECT FROM people WHERE id = 3;
SELECT NULL FROM people;

[windows and other functions, gathered]
SELECT id, lag(age) OVER (ORDER BY id), ntile(4) OVER (ORDER BY id DESC) FROM people;
SELECT id, first_value(city) OVER (PARTITION BY age ORDER BY city DESC, id) FROM people;
SELECT id, sum(score) OVER (PARTITION BY ok ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM people;
SELECT id, count(*) FILTER (WHERE age > 0) OVER (ORDER BY id) FROM people WHERE id BETWEEN -3 AND 12;
SELECT * FROM (SELECT id, age, row_number() OVER (PARTITION BY age ORDER BY id) AS n FROM people) x WHERE n = 1;
SELECT id, row_number() OVER (ORDER BY id) FROM people;
SELECT id, count(*) OVER () FROM people;
SELECT person_id, id, rank() OVER (PARTITION BY person_id ORDER BY total, id) FROM orders;
SELECT id, sum(age) OVER w FROM people WINDOW w AS (ORDER BY id);
SELECT id FROM people ORDER BY row_number() OVER (ORDER BY id DESC);
SELECT generate_series(1, 3), count(*) FROM people;
SELECT random() < 2, count(*) FROM people;
SELECT FROM people;
SELECT FROM people LIMIT 3;

[windows and other functions, refused] refused
SELECT;

[keys of other types]
SELECT * FROM tiny WHERE id = 3;
SELECT * FROM tiny WHERE id = -3;
SELECT * FROM tiny WHERE id = 3::bigint;
SELECT * FROM tiny WHERE id = '3';
SELECT * FROM tiny WHERE id = 99999;
SELECT * FROM tiny WHERE id = '99999';
SELECT * FROM tiny WHERE id IN (3, 99999, 99999999999);
SELECT * FROM tiny WHERE id = 3::numeric;
SELECT * FROM tiny WHERE id = $1;
with: 3
SELECT * FROM tiny WHERE id = $1;
with: NULL
SELECT * FROM tiny WHERE id = $1::bigint;
with: 3
SELECT * FROM mid WHERE id = 3;
SELECT * FROM mid WHERE id = $1;
with: -4
SELECT * FROM mid WHERE id = 3000000000;
SELECT * FROM mid WHERE id = '3000000000';
SELECT * FROM people WHERE id = $1;
with: 3
SELECT * FROM people WHERE id = $1 OR id = $2;
with: 3, 4
SELECT * FROM people WHERE id IN ($1, $2, $3);
with: 3, NULL, 5
SELECT id FROM people WHERE id = ANY ($1);
with: {1,2,3}
SELECT id FROM people WHERE id = ANY ($1::bigint[]);
with: {1,2,NULL}
SELECT id FROM people WHERE id = $1::int;
with: 3
SELECT id FROM people WHERE id = $1::numeric;
with: 3
SELECT id FROM people WHERE id = $1::text::bigint;
with: 3
SELECT id FROM people WHERE id = $1 + 1;
with: 3
SELECT id FROM people WHERE id = -$1;
with: 3
SELECT id FROM people WHERE age = $1 AND id = $1;
with: 1
SELECT id FROM people WHERE id = $1 AND age = $1;
with: 1
SELECT id FROM people WHERE score = $1 AND id = $1;
with: 1
SELECT id FROM people WHERE $1 = id;
with: 3
SELECT id FROM people WHERE id = ($1);
with: 3
SELECT $1::bigint AS x, id FROM people WHERE id = $1;
with: 3
SELECT $1 AS x, id FROM people WHERE id = $1::bigint;
with: 3
SELECT id FROM people WHERE id = $2 AND age > $1;
with: -5, 8
SELECT p.id, o.id FROM people p JOIN orders o ON p.id = o.person_id WHERE p.id = $1 AND o.total > $2;
with: 4, 1
SELECT * FROM words WHERE word = 'a';
SELECT * FROM words WHERE word = 'A';
SELECT * FROM words WHERE word = 'a ';
SELECT * FROM words WHERE word = '';
SELECT * FROM words WHERE word = ' ';
SELECT * FROM words WHERE word = 'it''s';
SELECT * FROM words WHERE word = E'it\'s';
SELECT * FROM words WHERE word = 'back\slash';
SELECT * FROM words WHERE word = E'back\\slash';
SELECT * FROM words WHERE word = E'new\nline';
SELECT * FROM words WHERE word = '日本';
SELECT * FROM words WHERE word = U&'\65E5\672C';
SELECT * FROM words WHERE word = '🙂';
SELECT * FROM words WHERE word = 'é';
SELECT * FROM words WHERE word = U&'e\0301';
SELECT * FROM words WHERE word = $$it's$$;
SELECT * FROM words WHERE word = '--';
SELECT * FROM words WHERE word = '/*';
SELECT * FROM words WHERE word = '$1';
SELECT * FROM words WHERE word = N'a';
SELECT * FROM words WHERE word = 17;
SELECT * FROM words WHERE word = 17::text;
SELECT * FROM words WHERE word = '17'::varchar;
SELECT * FROM words WHERE word = 'abc'::varchar(1);
SELECT * FROM words WHERE word = 'a '::char(2);
SELECT * FROM words WHERE word = 'a'::char;
SELECT * FROM words WHERE word = 'a'::bpchar;
SELECT * FROM words WHERE word = 'a'::name;
SELECT * FROM words WHERE word = 'a' COLLATE "C";
SELECT * FROM words WHERE word COLLATE "C" = 'a';
SELECT * FROM words WHERE word = 'a' || '';
SELECT * FROM words WHERE word ILIKE 'a';
SELECT * FROM words WHERE lower(word) = 'a';
SELECT * FROM words WHERE word IN ('a', 'A', NULL, 'ä');
SELECT * FROM words WHERE word = text 'a';
SELECT * FROM words WHERE word = CAST('a' AS text);
SELECT * FROM words WHERE word = $1;
with: a 
SELECT * FROM words WHERE word = $1::varchar;
with: A
SELECT * FROM words WHERE word = $1::char(3);
with: a
SELECT * FROM words WHERE word = $1::name;
with: a
SELECT * FROM words WHERE word = upper($1);
with: a
SELECT * FROM nicks WHERE nick = 'n3';
SELECT * FROM nicks WHERE nick = 'n3 ';
SELECT * FROM nicks WHERE nick = 'n3'::text;
SELECT * FROM nicks WHERE nick = 'n3'::char(5);
SELECT * FROM nicks WHERE nick = 'n3'::varchar(1);
SELECT * FROM tokens WHERE id = 'a0eebc99-9c0b-4ef8-bb6d-000000000003';
SELECT * FROM tokens WHERE id = 'A0EEBC99-9C0B-4EF8-BB6D-000000000003';
SELECT * FROM tokens WHERE id = '{a0eebc99-9c0b-4ef8-bb6d-000000000003}';
SELECT * FROM tokens WHERE id = 'a0eebc999c0b4ef8bb6d000000000003';
SELECT * FROM tokens WHERE id = 'a0ee-bc99-9c0b-4ef8-bb6d-0000-0000-0003';
SELECT * FROM tokens WHERE id = ' a0eebc99-9c0b-4ef8-bb6d-000000000003';
SELECT * FROM tokens WHERE id = 'a0eebc99-9c0b-4ef8-bb6d-00000000000';
SELECT * FROM tokens WHERE id = 'nonsense';
SELECT * FROM tokens WHERE id = uuid 'a0eebc99-9c0b-4ef8-bb6d-000000000003';
SELECT * FROM tokens WHERE id = 'a0eebc99-9c0b-4ef8-bb6d-000000000003'::uuid;
SELECT * FROM tokens WHERE id::text = 'a0eebc99-9c0b-4ef8-bb6d-000000000003';
SELECT * FROM tokens WHERE id = 'a0eebc99-9c0b-4ef8-bb6d-000000000003'::text;
SELECT * FROM tokens WHERE id IN ('a0eebc99-9c0b-4ef8-bb6d-000000000003', 'a0eebc99-9c0b-4ef8-bb6d-000000000004');
SELECT * FROM tokens WHERE id = $1::text::uuid;
with: a0eebc99-9c0b-4ef8-bb6d-000000000005

[texts that no server accepts]
SELEKT 1;
FOO BAR;
"select" 1;
17;
'text';
SELECT FROM FROM;
SELECT 1 +;
SELECT 'unterminated;
SELECT 1 FROM people WHERE id = ;

[EXPLAIN and COPY of one place]
EXPLAIN (COSTS OFF) SELECT id FROM notes;
COPY (SELECT id FROM people WHERE id = 3) TO STDOUT;
COPY countries TO STDOUT;
COPY notes TO STDOUT;

[COPY of several shards]
COPY (SELECT id FROM people) TO STDOUT;
COPY people TO STDOUT;

[COPY of queries over several shards] ordered
COPY (SELECT id, name, city, tags, doc, score, born, at, feel FROM people ORDER BY id) TO STDOUT;
COPY (SELECT * FROM people ORDER BY id DESC) TO STDOUT (FORMAT csv, HEADER);
COPY (SELECT * FROM people ORDER BY id) TO STDOUT (FORMAT binary);
COPY (SELECT id, tags, doc FROM people ORDER BY id LIMIT 7 OFFSET 2) TO STDOUT (FORMAT csv, HEADER true, NULL 'none', FORCE_QUOTE (id, tags));
COPY (SELECT id, name FROM people ORDER BY id LIMIT 0) TO STDOUT (FORMAT csv, HEADER);
COPY (SELECT id, name FROM people ORDER BY id LIMIT 0) TO STDOUT BINARY;
COPY (SELECT id, name FROM people ORDER BY id LIMIT 0) TO STDOUT;
COPY (SELECT name, id FROM people ORDER BY id) TO STDOUT WITH DELIMITER 'n' NULL AS 'A''b';
COPY (SELECT name, id FROM people ORDER BY id) TO STDOUT CSV HEADER DELIMITER AS 'b' QUOTE 'A' ESCAPE AS 'o' FORCE QUOTE *;
COPY (SELECT name, id FROM people ORDER BY id) TO STDOUT DELIMITER E'\t' CSV NULL '' FORCE QUOTE name;
COPY (SELECT name, id AS name, nick FROM people ORDER BY 2) TO STDOUT (FORMAT csv, FORCE_QUOTE (name), ENCODING 'UTF8');
COPY (SELECT name FROM people ORDER BY id) TO STDOUT (FORMAT csv, NULL 'bob1');
COPY (SELECT '\.' || left(nick, 0) FROM people ORDER BY id LIMIT 3) TO STDOUT CSV;
COPY (SELECT '\.' || left(nick, 0) AS "a,b", id FROM people ORDER BY id LIMIT 3) TO STDOUT CSV HEADER;
COPY (SELECT E'a\tb\nc\rd\\\b\f\v' || id, id FROM people ORDER BY 2) TO STDOUT;
COPY (SELECT E'a\tb\nc\rd\\"\b\f\v' || id, id FROM people ORDER BY 2) TO STDOUT (FORMAT csv);
COPY (SELECT max(id), count(*), sum(age), avg(age) FROM people) TO STDOUT CSV HEADER;
COPY (SELECT max(id), count(*), sum(age), avg(age) FROM people) TO STDOUT (FORMAT 'binary');
COPY (SELECT age, count(*) FROM people GROUP BY age ORDER BY age -- by age
) TO STDOUT;
COPY (SELECT city, count(DISTINCT name) FROM people GROUP BY city ORDER BY city COLLATE "C") TO STDOUT (FORMAT csv);
COPY (SELECT p.id, o.id, n.id FROM people p, orders o, notes n WHERE p.id = o.id ORDER BY 1, 2, o.person_id, 3) TO STDOUT (FORMAT csv, HEADER on);
COPY (SELECT p.id, o.id, o.total FROM people p, orders o WHERE p.id = o.id ORDER BY 1, 2, o.person_id) TO STDOUT BINARY;
COPY (WITH q AS (SELECT id, rank() OVER (ORDER BY age DESC NULLS LAST, id) AS r FROM people) SELECT * FROM q WHERE r < 8 ORDER BY r) TO STDOUT;
COPY ((SELECT id FROM people WHERE id < 3) UNION (SELECT id FROM orders) ORDER BY id) TO STDOUT;
COPY (SELECT FROM people WHERE id > 0 ORDER BY id) TO STDOUT;
COPY (SELECT count(*) FROM people WHERE id IN (1, 2, 3, 4, 5)) TO STDOUT;
COPY (SELECT id FROM people WHERE id IN (1, 2, 3, 4, 5) ORDER BY id DESC LIMIT 2) TO STDOUT;
COPY (SELECT id FROM people WHERE id IN (3) ORDER BY id) TO STDOUT;
COPY (SELECT 1 / (id - 3) FROM people ORDER BY id) TO STDOUT;
COPY (SELECT count(DISTINCT 1 / (id - 3)) FROM people) TO STDOUT;
COPY (SELECT id, nosuch FROM people ORDER BY id) TO STDOUT;
COPY (SELECT id FROM people ORDER BY id) TO STDOUT (FORMAT text, QUOTE '"');
COPY (SELECT id FROM people ORDER BY id) TO STDOUT (FORMAT csv, FORCE_QUOTE (nosuch));
COPY (SELECT id FROM people ORDER BY id) TO STDOUT (FORMAT csv, DELIMITER '"');
COPY (SELECT id FROM people ORDER BY id) TO STDOUT (FORMAT csv, FORMAT text);
COPY (SELECT id FROM people ORDER BY id) TO STDOUT (DELIMITER 'a');
COPY (SELECT id FROM people WHERE id < $1 ORDER BY id) TO STDOUT;
SET DateStyle = 'SQL, DMY';
COPY (SELECT born, at, id FROM people ORDER BY id) TO STDOUT (FORMAT csv);
RESET DateStyle;
BEGIN READ ONLY;
COPY (SELECT id FROM people ORDER BY id LIMIT 1) TO STDOUT;
COPY (SELECT sum(age) FROM people) TO STDOUT;
COMMIT;

[COPY of queries over several shards, without an order]
COPY (SELECT id, name FROM people WHERE id > 3 LIMIT 100) TO STDOUT;
COPY (SELECT DISTINCT age FROM people) TO STDOUT (FORMAT csv);
COPY (VALUES ((SELECT count(*) FROM people)), (1)) TO STDOUT;

[COPY of queries over several shards, refused] refused
COPY (SELECT id FROM people ORDER BY id) TO STDOUT (DELIMITER 'ab');
COPY (SELECT id FROM people ORDER BY id) TO STDOUT (ENCODING 'LATIN1');
COPY (SELECT id FROM people ORDER BY id) TO STDOUT (FORMAT csv, NOSUCH);
COPY (SELECT id FROM people ORDER BY id) TO '/nosuch';
COPY (SELECT id FROM people) TO PROGRAM 'true';
COPY (SELECT sum(length(note)) FROM orders, pg_class WHERE relname = note) TO STDOUT;

[EXPLAIN of several shards, refused] refused
EXPLAIN (COSTS OFF, FORMAT json) SELECT id FROM people;
EXPLAIN (ANALYZE) SELECT count(DISTINCT age) FROM people;
EXPLAIN ANALYZE SELECT id FROM people FOR UPDATE;
EXPLAIN SELECT id FROM people WHERE age > $1;

[not PostgreSQL's]
UPDATE people p JOIN orders o ON o.person_id = p.id SET age = 1;
UPDATE people JOIN notes ON true SET age = 1 WHERE people.id = 3;

[settings that change what a text means] maybe
SHOW standard_conforming_strings;
SET standard_conforming_strings = off;
SELECT id FROM people WHERE name = 'a\' AND id = 3;
RESET standard_conforming_strings;
SET search_path = pg_catalog;
SELECT count(*) FROM people;
RESET search_path;
SET client_encoding = 'LATIN1';
SELECT * FROM words WHERE word = 'a';
RESET client_encoding;

[settings that change how values are written] ordered maybe
SET DateStyle = 'German, DMY';
SELECT born, seen, at FROM people ORDER BY born DESC, id LIMIT 4;
SELECT max(born), min(at) FROM people;
SELECT born, count(*) FROM people GROUP BY born ORDER BY 2 DESC, 1 LIMIT 1;
RESET DateStyle;
SET IntervalStyle = 'iso_8601';
SELECT sum(span) FROM people;
RESET IntervalStyle;
SET timezone = 'America/New_York';
SELECT at, id FROM people ORDER BY at, id LIMIT 4;
SELECT max(at) FROM people;
SELECT date_trunc('day', at), count(*) FROM people GROUP BY 1 ORDER BY 1;
RESET timezone;
SET extra_float_digits = 0;
SELECT max(ratio), min(weight) FROM people WHERE ratio < 100;
SELECT sum(weight) FROM people WHERE id > 25;
RESET extra_float_digits;
SET bytea_output = 'escape';
SELECT id, decode('ff00', 'hex') FROM people ORDER BY id;
RESET bytea_output;

[names of columns against aliases] maybe ordered
SELECT person_id AS note, count(*) FROM orders GROUP BY note ORDER BY 1;
SELECT id AS age, count(*) FROM people GROUP BY age ORDER BY 1;
SELECT age AS id, count(*) FROM people GROUP BY id ORDER BY people.id;
SELECT age AS id, count(*) FROM people GROUP BY id ORDER BY 2, 1;
SELECT person_id p, max(note COLLATE "C") FROM orders GROUP BY p ORDER BY p LIMIT 4;
SELECT person_id % 2 AS person_id, count(*) FROM orders GROUP BY person_id ORDER BY 2, 1;
SELECT note AS person_id, count(*) FROM orders GROUP BY note, orders.person_id ORDER BY orders.person_id, note COLLATE "C";
SELECT max(id) AS id FROM people ORDER BY id;
SELECT max(id) AS id FROM people ORDER BY max(id);
SELECT count(*) c FROM people GROUP BY age ORDER BY c, age;
SELECT count(*) AS age FROM people GROUP BY people.age ORDER BY age;
SELECT count(*) AS age FROM people GROUP BY age ORDER BY people.age;
SELECT count(*) FROM orders GROUP BY person_id ORDER BY person_id DESC LIMIT 2;
SELECT DISTINCT person_id FROM orders ORDER BY person_id DESC LIMIT 3;
SELECT DISTINCT person_id % 2 FROM orders ORDER BY 1;
SELECT DISTINCT person_id % 2 AS person_id FROM orders ORDER BY person_id;
SELECT DISTINCT id + 0 AS id FROM people ORDER BY id LIMIT 3;
SELECT DISTINCT p.age FROM people p JOIN orders o ON p.id = o.person_id ORDER BY p.age;
SELECT DISTINCT p.age AS id FROM people p ORDER BY id;
SELECT id x, -id y FROM people ORDER BY y LIMIT 3;
SELECT id + age total FROM people ORDER BY total NULLS FIRST, id LIMIT 12;
SELECT id "a,b", age "from" FROM people ORDER BY "from" DESC NULLS LAST, "a,b" LIMIT 3;
SELECT id AS limit FROM people ORDER BY id LIMIT 2;
SELECT id AS offset, age AS fetch FROM people ORDER BY offset LIMIT 2;
SELECT p.id AS order, p.age AS group FROM people p ORDER BY "order" LIMIT 2;

[words of clauses inside of items] maybe ordered
SELECT extract(year FROM seen), id FROM people ORDER BY id LIMIT 3;
SELECT substring(name FROM 2 FOR 1), id FROM people ORDER BY id LIMIT 3;
SELECT trim(BOTH FROM name), id FROM people ORDER BY id LIMIT 3;
SELECT trim(LEADING 'A' FROM name) FROM people ORDER BY id DESC LIMIT 3;
SELECT overlay(name PLACING 'x' FROM 1 FOR 2) FROM people ORDER BY id LIMIT 3;
SELECT age IS DISTINCT FROM 2, id FROM people ORDER BY id LIMIT 3;
SELECT id FROM people ORDER BY age IS NOT DISTINCT FROM 1, id LIMIT 8;
SELECT (SELECT 1 ORDER BY 1 LIMIT 1), id FROM people ORDER BY id LIMIT 2;
SELECT ARRAY[id, age], id FROM people ORDER BY id LIMIT 2;
SELECT (ARRAY[id, age])[1] FROM people ORDER BY (ARRAY[id, age])[1] LIMIT 2;
SELECT tags[1:2], id FROM people ORDER BY id LIMIT 2;
SELECT id::bigint AS x, 'it''s, from' AS y FROM people ORDER BY 1 LIMIT 2;
SELECT /* , */ id -- from
  , age /* order by age */ FROM people -- limit 1
 ORDER /**/ BY id LIMIT /* 9 */ 3 -- OFFSET 4
;
SELECT id FROM people WHERE name <> 'order by; limit 1' ORDER BY id LIMIT 2;
SELECT avg(age) a FROM people;
SELECT avg (age) FILTER (WHERE id > 3) AS "avg of" FROM people;
SELECT avg((age)), avg((age + 1) * 2) x, sum((age)) FROM people;
SELECT avg(CASE WHEN age > 0 THEN 1 ELSE 0 END) FROM people;
SELECT avg(age) /* avg(id) */, count(*) FROM people;
SELECT age, avg(id) AS x, count(*) y FROM people GROUP BY age ORDER BY x DESC, y, age LIMIT 3;
SELECT age, avg(id) FROM people GROUP BY age ORDER BY avg(id) DESC NULLS LAST, age LIMIT 3;
SELECT age FROM people GROUP BY age ORDER BY avg(id), age LIMIT 3;
SELECT age, ok FROM people GROUP BY ok, age ORDER BY age, ok LIMIT 5;
SELECT count(*), age FROM people WHERE age = ANY ('{1,2}') GROUP BY age ORDER BY age;
SELECT id FROM people WHERE id IN (1) AND id IN (2) ORDER BY id;
SELECT id FROM people WHERE id IN (1, 2, 3) AND id IN (2, 3, 4) ORDER BY id;
SELECT id FROM people WHERE id IN (1, 2, 3) AND (id = 2 OR id = 9) ORDER BY id DESC;
SELECT 'x' || $1, id FROM people ORDER BY id LIMIT $2;
with: y, 2
SELECT id FROM people WHERE name = $1 AND id = $2;
with: bob1, 17
SELECT sum(age) FROM people WHERE id = ANY ($1) OR id = $2;
with: {1,2,3}, 4

[numeric keys]
SELECT * FROM prices WHERE price = 1.5;
SELECT * FROM prices WHERE price = 1.50000;
SELECT * FROM prices WHERE price = 15e-1;
SELECT * FROM prices WHERE price = -0.25;
SELECT * FROM prices WHERE price = - 3;
SELECT * FROM prices WHERE price = 0;
SELECT * FROM prices WHERE price = '-0.000';
SELECT * FROM prices WHERE price = 'NaN';
SELECT * FROM prices WHERE price = 1000000.5;
SELECT * FROM prices WHERE price = 1.5::numeric;
SELECT * FROM prices WHERE price = 1.6::int;
SELECT * FROM prices WHERE price = '1.5'::numeric(10, 0);
SELECT * FROM prices WHERE price = 1.5::float8;
SELECT * FROM prices WHERE price IN (1, 2.5, '3.25');
SELECT * FROM prices WHERE price = ANY('{1,2.5,NULL}');
SELECT * FROM prices WHERE price = ANY(ARRAY[1, 2]);
SELECT * FROM prices WHERE price = 99999999999999999999999999999999999;
SELECT * FROM prices WHERE price > 9;
SELECT price, count(*) FROM prices GROUP BY price;
SELECT DISTINCT price FROM prices;
SELECT * FROM prices WHERE price = $1;
with: 2.50
SELECT a.price, b.n FROM prices a JOIN prices b ON a.price = b.price;
SELECT * FROM prices WHERE price = 'x';

[date keys]
SELECT * FROM visits WHERE day = '2024-01-01';
SELECT * FROM visits WHERE day = date '2024-01-01';
SELECT * FROM visits WHERE day = '2024-01-01'::date;
SELECT * FROM visits WHERE day = '01/02/2024';
SELECT * FROM visits WHERE day = 'January 1, 2024';
SELECT * FROM visits WHERE day = 'January 2, 2024';
SELECT * FROM visits WHERE day = 'January 3, 2024';
SELECT * FROM visits WHERE day = 'January 4, 2024';
SELECT * FROM visits WHERE day = 'January 5, 2024';
SELECT * FROM visits WHERE day = 'January 6, 2024';
SELECT * FROM visits WHERE day = '20240101';
SELECT * FROM visits WHERE day = '2024-01-01'::timestamp;
SELECT * FROM visits WHERE day = '2024-02-30';
SELECT * FROM visits WHERE day = 'infinity';
SELECT * FROM visits WHERE day IN ('2023-12-31', '2024-01-01', '2024-1-2');
SELECT * FROM visits WHERE day BETWEEN '2023-12-31' AND '2024-01-02';
SELECT * FROM visits WHERE day = date '2023-12-31' + 1;
SELECT * FROM visits WHERE day = ANY('{2024-01-01,2023-12-31}');
SELECT day, count(*), sum(n) FROM visits GROUP BY day;

[dates of visits in order, ordered] ordered
SELECT * FROM visits WHERE day = '2024-01-01' ORDER BY n;
SELECT n FROM visits ORDER BY n LIMIT 7;

[keys of two columns]
SELECT * FROM parcels WHERE tenant = 3 AND code = 'c2';
SELECT * FROM parcels WHERE code = 'c2' AND tenant = 3 AND weight > 0;
SELECT * FROM parcels WHERE tenant = 3;
SELECT * FROM parcels WHERE code = 'c2';
SELECT * FROM parcels WHERE (tenant, code) = (3, 'c2');
SELECT * FROM parcels WHERE (code, tenant) = ('c2', 3);
SELECT * FROM parcels WHERE (tenant, code) IN ((3, 'c2'), (4, 'c1'));
SELECT * FROM parcels WHERE (tenant, code) IN ((3, 'c2'), (4, NULL));
SELECT * FROM parcels WHERE tenant IN (1, 2) AND code IN ('c0', 'c1', 'c9');
SELECT * FROM parcels WHERE (tenant = 1 AND code = 'c1') OR (tenant = 2 AND code = 'c2');
SELECT * FROM parcels WHERE (tenant = 1 AND code = 'c1') OR code = 'c3';
SELECT * FROM parcels WHERE tenant = ANY('{1,2}') AND code = 'c4';
SELECT * FROM parcels WHERE tenant = 1 AND tenant = 2 AND code = 'c1';
SELECT * FROM parcels WHERE tenant = 1 AND code = 'c1' AND code = 'c2';
SELECT * FROM parcels WHERE (tenant, code) < (2, 'c1');
SELECT a.weight, b.weight FROM parcels a JOIN parcels b USING (tenant, code);
SELECT a.weight, b.weight FROM parcels a NATURAL JOIN parcels b;
SELECT a.weight, b.weight FROM parcels a JOIN parcels b ON (a.tenant, a.code) = (b.tenant, b.code) WHERE a.tenant = 2;
SELECT a.weight, b.weight FROM parcels a JOIN parcels b ON a.tenant = b.tenant AND a.code = b.code WHERE a.tenant = 2 AND b.code = 'c1';
SELECT tenant, code, count(*) FROM parcels GROUP BY tenant, code;
SELECT tenant, code, sum(weight) + 1 FROM parcels GROUP BY tenant, code HAVING sum(weight) > 9;
SELECT p.code, p.tenant AS t, array_agg(q.weight ORDER BY q.weight) FROM parcels p LEFT JOIN parcels q ON (p.tenant, p.code) = (q.tenant, q.code) AND q.weight > 20 GROUP BY t, p.code;
SELECT q.code, q.tenant, count(*) FROM parcels p LEFT JOIN parcels q ON (p.tenant, p.code) = (q.tenant, q.code) AND q.weight > 20 GROUP BY q.tenant, q.code HAVING count(*) > 1;
SELECT DISTINCT code, tenant FROM parcels;
SELECT tenant, code, row_number() OVER (PARTITION BY code, tenant ORDER BY weight) FROM parcels;
SELECT tenant, count(*) FROM parcels GROUP BY tenant;
SELECT DISTINCT tenant FROM parcels;
SELECT * FROM parcels WHERE tenant = $1 AND code = $2;
with: 3, c2

[joins of keys of two columns on one of them, gathered]
SELECT a.weight, b.weight FROM parcels a JOIN parcels b ON a.tenant = b.tenant;

[keys in a list]
SELECT * FROM branches WHERE country = 'NO';
SELECT * FROM branches WHERE country = 'DK';
SELECT * FROM branches WHERE country = 'FI';
SELECT * FROM branches WHERE country = 'XX';
SELECT * FROM branches WHERE country IN ('NO', 'SE');
SELECT * FROM branches WHERE country IN ('NO', 'DK');
SELECT * FROM branches WHERE country = ANY('{NO,"FI"}');
SELECT * FROM branches WHERE country > 'IS';
SELECT * FROM branches WHERE country <> 'DK';
SELECT * FROM branches WHERE country IS NULL;
SELECT * FROM branches WHERE country IS NOT DISTINCT FROM 'SE';
SELECT country, count(*), max(staff) FROM branches GROUP BY country;
SELECT a.name, b.name FROM branches a JOIN branches b ON a.country = b.country WHERE a.staff < 5;
SELECT a.name, b.name FROM branches a JOIN branches b ON a.country = b.country WHERE b.country = 'SE';

[tables of different placements, gathered]
SELECT * FROM branches b JOIN words w ON w.word = b.country;
SELECT * FROM readings r JOIN mid m ON m.id = r.sensor;

[keys in ranges]
SELECT * FROM readings WHERE sensor = 9;
SELECT * FROM readings WHERE sensor = 10;
SELECT * FROM readings WHERE sensor = 99;
SELECT count(*) FROM readings WHERE sensor = 99;
SELECT * FROM readings WHERE sensor < 10;
SELECT * FROM readings WHERE sensor <= 10;
SELECT * FROM readings WHERE 20 <= sensor;
SELECT * FROM readings WHERE sensor > 9 AND sensor < 20;
SELECT * FROM readings WHERE sensor BETWEEN 8 AND 11;
SELECT * FROM readings WHERE sensor BETWEEN 11 AND 8;
SELECT * FROM readings WHERE sensor NOT BETWEEN 8 AND 11;
SELECT * FROM readings WHERE sensor < 0 OR sensor >= 25;
SELECT * FROM readings WHERE sensor < 2.5;
SELECT * FROM readings WHERE sensor < '3';
SELECT * FROM readings WHERE sensor < 99999999999;
SELECT * FROM readings WHERE sensor > 99999999999999999999;
SELECT * FROM readings WHERE sensor < NULL;
SELECT * FROM readings WHERE NOT sensor < 10;
SELECT * FROM readings WHERE sensor::bigint > 15;
SELECT * FROM readings WHERE sensor BETWEEN 12 AND 15 AND sensor IN (14, 3);
SELECT sensor, avg(value), count(*) FROM readings WHERE sensor >= 18 GROUP BY sensor;
SELECT a.value, b.value FROM readings a JOIN readings b ON a.sensor = b.sensor AND a.at = b.at WHERE b.sensor < 4;
SELECT * FROM readings WHERE sensor BETWEEN $1 AND $2;
with: 10, 12

[keys in ranges in order, ordered] ordered
SELECT sensor, at FROM readings WHERE sensor > 5 ORDER BY sensor, at LIMIT 20;

[arrays of keys]
SELECT * FROM people WHERE id = ANY('{1,2,3}');
SELECT * FROM people WHERE id = ANY('{}');
SELECT * FROM people WHERE id = ANY('{NULL}');
SELECT * FROM people WHERE id = ANY(NULL);
SELECT * FROM people WHERE id = ANY('{1,2}'::int[]);
SELECT * FROM people WHERE id = ANY('{{1,2},{3,4}}');
SELECT * FROM people WHERE id = ANY('[0:1]={1,2}');
SELECT * FROM people WHERE id = ANY('{1.5}');
SELECT * FROM people WHERE id = SOME('{7}');
SELECT * FROM people WHERE id = ALL('{7}');
SELECT * FROM people WHERE id <> ANY('{7,8}');
SELECT * FROM people WHERE '{7}' = id;
SELECT * FROM words WHERE word = ANY('{a,"b c",NULL,"NULL"}');
SELECT * FROM people WHERE id = ANY('{1,2}') AND id = ANY('{2,3}');

[strings beside numbers are as wide as these]
SELECT id, v FROM tiny WHERE id IN ('70000', 1);
SELECT id, v FROM tiny WHERE id IN ('70000', -1, NULL);
SELECT id, v FROM tiny WHERE id IN ('70000', 1 + 1);
SELECT id, v FROM tiny WHERE id IN ('3000000000', 1);
SELECT id, v FROM tiny WHERE id IN ('70000', NULL);
SELECT id, v FROM tiny WHERE id = ANY (ARRAY['70000', (1)]);
SELECT id, v FROM tiny WHERE id = ANY (ARRAY['70000', 1]::smallint[]);
SELECT id, v FROM mid WHERE id IN ('3000000000', 5000000000, 2);
SELECT id, v FROM tiny WHERE id IN ($1, 7);
with: 70000

[keys that contradict each other]
SELECT * FROM people WHERE id = 1 AND id = 2;
SELECT count(*), sum(age) FROM people WHERE id = 1 AND id = 2;
SELECT p.id, o.id FROM people p LEFT JOIN orders o ON o.person_id = p.id AND o.person_id = 3 WHERE p.id = 4;
SELECT * FROM people WHERE id IN (1, 2, 3) AND id IN (3, 4);

[casts of the key]
SELECT * FROM mid WHERE id::bigint = 7;
SELECT * FROM mid WHERE id::bigint = 7000000000;
SELECT * FROM mid WHERE CAST(id AS bigint) = '7';
SELECT * FROM people WHERE id::int = 7;
SELECT * FROM people WHERE id::text = '7';
SELECT * FROM people WHERE id::numeric = 7.0;
SELECT m.v FROM mid m JOIN people p ON m.id::bigint = p.id;

[keys that are equal through other columns]
SELECT o.id, i.sku FROM orders o, countries c, items i WHERE o.person_id = i.person_id AND o.person_id = 4;
SELECT m.id, p.id FROM mid m, people p, tiny t WHERE m.id = t.id AND t.id = p.id;
SELECT m.id, p.id FROM mid m, people p, tiny t WHERE m.id = t.id AND t.id = p.id AND t.id = 3;
SELECT o.id FROM orders o NATURAL JOIN items i WHERE o.person_id = 4;
SELECT * FROM orders NATURAL JOIN items;
SELECT * FROM orders NATURAL JOIN items WHERE person_id = 4;

[two tables that meet in an outer join's optional side, gathered]
SELECT p.id, m.id, t.v FROM (people p CROSS JOIN mid m) LEFT JOIN tiny t ON t.id = p.id AND t.id = m.id;

[arithmetic on constants]
SELECT * FROM people WHERE id = 10 + 7;
SELECT * FROM people WHERE id = -(-7);
SELECT * FROM people WHERE id = 2 * (3 - 1);
SELECT * FROM people WHERE id IN (1 + 1, 7);
SELECT * FROM people WHERE id = 2000000000 + 2000000000;
SELECT * FROM people WHERE id = 34 / 2;
SELECT * FROM tiny WHERE id = -2147483648 - 1;

[rows of keys and values that are numeric]
SELECT o.id, i.sku FROM orders o JOIN items i ON (o.id, o.person_id) = (i.order_id, i.person_id);
SELECT id FROM people WHERE id IN ('1.0', 99999999999999999999);

[BETWEEN SYMMETRIC of keys in ranges]
SELECT * FROM readings WHERE sensor BETWEEN SYMMETRIC 11 AND 8;
SELECT * FROM readings WHERE sensor BETWEEN SYMMETRIC (11) AND 8;

[subqueries and windows beside keys of two columns and other placements]
SELECT p.code, (SELECT count(*) FROM parcels q WHERE q.tenant = p.tenant) FROM parcels p;
SELECT p.code FROM parcels p WHERE EXISTS (SELECT 1 FROM parcels q WHERE q.tenant = p.tenant AND q.code > p.code);
SELECT p.code FROM parcels p WHERE p.tenant IN (SELECT q.tenant FROM parcels q WHERE q.weight > 3);
SELECT tenant, code, rank() OVER (PARTITION BY tenant ORDER BY weight, code) FROM parcels;
SELECT tenant, code, count(*) OVER (PARTITION BY tenant, code) FROM parcels;
SELECT b.name FROM branches b WHERE b.country IN (SELECT w.word FROM words w);
SELECT b.name, (SELECT count(*) FROM branches c WHERE c.country = b.country) FROM branches b;
SELECT b.name FROM branches b WHERE EXISTS (SELECT 1 FROM branches c WHERE c.country = b.country AND c.name > b.name);
SELECT p.code FROM parcels p WHERE EXISTS (SELECT 1 FROM parcels q WHERE q.tenant = p.tenant AND q.code = p.code AND q.weight > 3);
SELECT b.name, (SELECT count(*) FROM words w WHERE w.word = b.country) FROM branches b;
SELECT m.id, (SELECT count(*) FROM readings r WHERE r.sensor = m.id) FROM mid m;
SELECT r.sensor, (SELECT max(s.value) FROM readings s WHERE s.sensor = r.sensor) FROM readings r WHERE r.sensor < 12;
SELECT r.sensor FROM readings r WHERE r.sensor IN (SELECT m.id FROM mid m) AND r.sensor BETWEEN 5 AND 15;
SELECT sensor, sum(value) OVER (PARTITION BY sensor) FROM readings WHERE sensor >= 8;
SELECT count(DISTINCT value), stddev(sensor) FROM readings WHERE sensor BETWEEN 8 AND 11;
SELECT sensor FROM readings WHERE sensor < 12 UNION SELECT id FROM mid WHERE id IN (1, 2);
SELECT sensor FROM readings UNION ALL SELECT tenant FROM parcels;
SELECT price, count(*) OVER (PARTITION BY price) FROM prices;
SELECT day, count(*) FROM visits WHERE day >= '2020-01-01' GROUP BY day HAVING count(*) > 1;
SELECT count(*) OVER (), day FROM visits WHERE day IN ('2026-01-01', '2026-01-02');
SELECT m.id FROM mid m NATURAL JOIN (SELECT sensor AS id FROM readings) r;
SELECT * FROM (SELECT page, sum(n) AS n FROM visits GROUP BY page) s LIMIT 1000;
SELECT * FROM (SELECT count(*) AS n FROM visits) s LIMIT 1;
SELECT * FROM (SELECT DISTINCT page FROM visits) s LIMIT 1000;
SELECT n FROM visits ORDER BY n, day, page LIMIT (SELECT count(*) - 1 FROM countries);
SELECT tenant FROM parcels GROUP BY tenant ORDER BY (avg(weight)), tenant;

[syntax by other words, of one shard]
SELECT * FROM ONLY people WHERE id = 17;
SELECT * FROM ONLY (people) WHERE id = 17;
SELECT name FROM people * WHERE id = 17;
SELECT name FROM people WHERE id = 17 UNION ALL SELECT v FROM ONLY mid WHERE id = 17;
SELECT id FROM people WHERE id = 17 FETCH FIRST (1 + 1) ROWS ONLY;
SELECT (ROW(o.*)::orders).* FROM orders o WHERE person_id = 17;
SELECT (both_).*, id FROM plots WHERE id = 4;
SELECT (json_populate_record(NULL::pair, doc::json)).* FROM people WHERE id = 17;
SELECT concat(VARIADIC ARRAY[name, city]), format('%s %s', VARIADIC tags) FROM people WHERE id = 17;
SELECT id FROM people WHERE id = 17 AND name::text COLLATE "C" > 'a';
SELECT id, age FROM people WHERE id = 17 AND age BETWEEN SYMMETRIC 5 AND -5;
SELECT id FROM people WHERE id = 17 AND age NOT BETWEEN SYMMETRIC 5 AND 4;
SELECT id FROM people WHERE id = 17 AND name ISNULL;
SELECT id FROM people WHERE id IN (0, 7) AND name ISNULL;
SELECT id, sum(qty) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW) FROM orders WHERE person_id = 17;
SELECT id, count(*) OVER (ORDER BY made RANGE BETWEEN '1 day'::interval PRECEDING AND '1 day'::interval FOLLOWING EXCLUDE TIES) FROM orders WHERE person_id = 17;
SELECT o.id, r.* FROM orders o, ROWS FROM (generate_series(1, 2), unnest(ARRAY['a'])) WITH ORDINALITY AS r WHERE o.person_id = 17;
SELECT o.id, r.* FROM orders o JOIN ROWS FROM (generate_series(1, 2), jsonb_to_record('{"a": 1}') AS (a int)) AS r (n, m) ON true WHERE o.person_id = 17;
SELECT a + 1 FROM people, jsonb_to_record(doc) AS (a int, k int) WHERE people.id = 17;
WITH RECURSIVE t (id, n) AS (SELECT id, 0 FROM orders WHERE person_id = 17 UNION ALL SELECT t.id, n + 1 FROM t WHERE n < 2) SEARCH BREADTH FIRST BY id, n SET place SELECT id, n FROM t ORDER BY place;
WITH RECURSIVE t (n) AS (SELECT qty % 2 FROM orders WHERE person_id = 17 UNION ALL SELECT 1 - n FROM t) CYCLE n SET again TO 'y' DEFAULT 'n' USING way SELECT n, again, way FROM t;
SELECT o.id, both_.person_id FROM orders o JOIN items i USING (person_id) AS both_ WHERE o.person_id = 17;
SELECT qty, note, count(*) FROM orders WHERE person_id = 17 GROUP BY DISTINCT ROLLUP (qty, note), ROLLUP (note);
SELECT inet '10.0.0.1' + id, id FROM people WHERE id = 17;
SELECT name 'x', id FROM people WHERE id = 17;
SELECT pg_typeof(tsvector 'a b') FROM people WHERE id = 17;
SELECT substring(name SIMILAR '%#"o#"%' ESCAPE '#'), trim(BOTH FROM name), trim(FROM name), collation for (name), xmlelement(name a, name) IS DOCUMENT FROM people WHERE id = 17;
SELECT xmlserialize(CONTENT xmlelement(NAME "N", xmlattributes(id AS id), name) AS text), xmlroot(xmlelement(NAME a), VERSION NO VALUE, STANDALONE YES), xmlpi(NAME p) FROM people WHERE id = 17;
SELECT xmlexists('//a' PASSING BY REF ('<a>' || id || '</a>')::xml BY REF) FROM people WHERE id = 17;
SELECT x.* FROM people, LATERAL XMLTABLE('/a' PASSING ('<a>' || people.id || '</a>')::xml COLUMNS n int PATH '.') AS x WHERE people.id = 17;
SELECT id FROM people WHERE id = 17 AND to_tsvector('simple', name) @@ ANY (ARRAY['bob1'::tsquery, 'x']);
SELECT id FROM people WHERE id = 17 AND 17 * ANY (ARRAY[1]);
SELECT id FROM people WHERE id == 17;
SELECT id FROM people WHERE id === 17;
SELECT id FROM people WHERE id = @#@ 17;
TABLE countries;
TABLE ONLY countries;

[syntax by other words, over several shards]
TABLE people;
TABLE ONLY orders;
SELECT id FROM orders UNION ALL (TABLE tiny);
SELECT count(*), max(score) FROM ONLY people;
SELECT name, count(*) FROM ONLY (people) GROUP BY name;
SELECT id FROM people WHERE id BETWEEN SYMMETRIC 9 AND 5;
SELECT id FROM people WHERE id NOT BETWEEN SYMMETRIC 25 AND -9;
SELECT age, count(*) FROM people GROUP BY DISTINCT ROLLUP (age), ROLLUP (age);
SELECT id FROM people WHERE name::text COLLATE "C" > 'b';
SELECT id FROM people WHERE name ISNULL;
SELECT concat(VARIADIC ARRAY[name, city]) FROM people;
SELECT id, sum(age) OVER (ORDER BY id ROWS 1 PRECEDING EXCLUDE CURRENT ROW) FROM people;
SELECT (ROW(o.*)::orders).* FROM orders o;
SELECT o.id, x.person_id FROM orders o JOIN items i USING (person_id) AS x;
SELECT DISTINCT name 'x' FROM people;
SELECT name 'x', count(*) FROM people GROUP BY 1;
SELECT id, a FROM people, jsonb_to_record(doc) AS (a int, k int);

[syntax by other words, over several shards, maybe] maybe ordered
SELECT id FROM people ORDER BY name::text COLLATE "C", id;
SELECT id FROM people ORDER BY id FETCH FIRST (1 + 1) ROWS ONLY;
TABLE people ORDER BY id;
TABLE mid ORDER BY id LIMIT 3;
SELECT id, rank() OVER (ORDER BY id) FROM ONLY people ORDER BY id;
SELECT age, count(*) FROM people GROUP BY DISTINCT age ORDER BY age;
SELECT id, feel::text FROM people ORDER BY feel::text COLLATE "C", id;
SELECT id, id::text FROM people ORDER BY id::text COLLATE "C";
SELECT id, inet '10.0.0.1' + id FROM people ORDER BY 2;
TABLE countries UNION TABLE countries ORDER BY code;
SELECT id FROM people * WHERE id = 3;

[integer keys cast to wider ones]
SELECT id, v FROM mid WHERE id = 5::bigint;
SELECT id, v FROM mid WHERE id = '99999999999'::bigint;
SELECT id, v FROM mid WHERE -CAST(5 AS int8) = id OR id = (-'3'::bigint);
SELECT id, v FROM mid WHERE id IN ('8', $1, bigint '9');
with: 7
SELECT id, v FROM mid WHERE id = $1::bigint;
with: 99999999999
SELECT id, v FROM mid WHERE id = ANY ($1::bigint[]);
with: {5,99999999999,-3}
SELECT id, v FROM mid WHERE id = ANY ('{5,99999999999,-3}'::bigint[]);
SELECT id, v FROM mid WHERE id = ANY (ARRAY['5', '99999999999', NULL]::int8[]);
SELECT id, v FROM mid WHERE id = ANY (ARRAY[5, $1]::int8[]);
with: 99999999999
SELECT id, v FROM mid WHERE id = '99999999999' OR id = 5::bigint;
SELECT sensor, value FROM readings WHERE sensor BETWEEN 5::bigint AND '99999999999'::bigint;
SELECT sensor, value FROM readings WHERE sensor > '-99999999999'::bigint AND sensor < $1::bigint;
with: 99999999999
SELECT id FROM people WHERE id = ANY (ARRAY[5, 6]::smallint[]);
SELECT word FROM words WHERE word = ANY (ARRAY['a', 'b']::text[]);
SELECT age, count(*) FROM people WHERE id < 9 GROUP BY CUBE ((age)::text, (age) + 1), (age);
SELECT age, count(*) FROM people WHERE id = 9 GROUP BY GROUPING SETS (ROLLUP ((age)::text), (age), ());
