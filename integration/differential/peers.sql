# What other sharders answer wrongly, by their sources, documentation and issues, rebuilt for the
# tables of schema.sql. None of it may be answered wrongly here; what is refused says so.

[PgDog: the first key that is found decides for the whole statement]
SELECT name FROM people WHERE id = 1 UNION SELECT name FROM people WHERE id = 2;
SELECT id FROM people WHERE id = 3 UNION ALL SELECT person_id FROM orders WHERE person_id = 4;
SELECT id FROM people WHERE id = 1 INTERSECT SELECT id FROM mid WHERE id = 1;
SELECT id FROM people WHERE id IN (1, 2, 3) EXCEPT SELECT id FROM mid WHERE id = 2;
SELECT id, CASE WHEN id = 5 THEN 'five' END FROM people;
SELECT id, id = 5 FROM people;
SELECT count(*) FILTER (WHERE id = 5), count(*) FROM people;
SELECT sum(qty) FILTER (WHERE person_id = 6), sum(qty) FROM orders;
SELECT p.id, o.id FROM people p LEFT JOIN orders o ON o.person_id = p.id AND o.person_id = 4;
SELECT p.id, o.id FROM people p LEFT JOIN orders o ON o.person_id = 4;
SELECT p.id, o.id FROM orders o RIGHT JOIN people p ON o.person_id = 4 AND p.id = o.person_id;
SELECT p.id, o.id FROM people p, orders o WHERE p.id = 1 AND o.person_id = 2;
SELECT p.id, o.id FROM people p, orders o WHERE p.id = 1 AND o.person_id = 4;
SELECT id FROM people WHERE NOT id = 5;
SELECT id FROM people WHERE id = 5 OR age = 2;
SELECT id FROM people WHERE coalesce(id = 5, true);
SELECT id FROM people WHERE EXISTS (SELECT 1 FROM orders WHERE person_id = 4);
SELECT id FROM people WHERE id IN (SELECT person_id FROM orders WHERE person_id = 4 OR qty = 3);

[PgDog 639: one shard answers a list of keys]
SELECT id FROM people WHERE id IN (1, 2, 3, 4, 5, 6);
SELECT id, name FROM people WHERE id IN ($1, $2, $3);
with: 7, 8, 9
SELECT count(*) FROM orders WHERE person_id IN (1, 2, 3, 4, 6);
SELECT id FROM people WHERE id = ANY ('{1,2,3,4}');
SELECT word FROM words WHERE word IN ('a', 'A', 'ä', '日本');

[PgDog: limits, offsets and order per shard] ordered
SELECT count(*) FROM (SELECT id FROM people LIMIT 5) x;
SELECT id FROM people ORDER BY id OFFSET 40;
SELECT id FROM people ORDER BY id LIMIT 3 OFFSET 39;
SELECT name FROM people ORDER BY id DESC LIMIT 4;
SELECT id FROM people ORDER BY id % 5, id LIMIT 6;
SELECT name FROM people ORDER BY -id LIMIT 3;
SELECT id FROM people ORDER BY age DESC NULLS LAST, id LIMIT 6;
SELECT id FROM people ORDER BY age NULLS FIRST, id LIMIT 9;
SELECT city, id FROM people ORDER BY city, id LIMIT 9;
SELECT id FROM people ORDER BY id LIMIT 1 + 2 OFFSET 4 - 2;
SELECT id FROM people ORDER BY id LIMIT $1 OFFSET $2;
with: 3, 8
SELECT id FROM people ORDER BY span, id LIMIT 5;
SELECT at FROM people ORDER BY at, id LIMIT 5;
SELECT id FROM people ORDER BY ratio DESC, id LIMIT 12;
SELECT id FROM tokens ORDER BY id DESC LIMIT 3;

[PgDog 695, 638, 1172: HAVING, windows and groups per shard] ordered
SELECT age FROM people GROUP BY age HAVING count(*) > 7 ORDER BY age;
SELECT age, count(*) FROM people GROUP BY age HAVING sum(id) > 40 ORDER BY age;
SELECT age + 1, count(*) FROM people GROUP BY age + 1 ORDER BY 1 NULLS FIRST;
SELECT count(*), city FROM people GROUP BY city ORDER BY city;
SELECT max(id), age, min(id) FROM people GROUP BY ok, age ORDER BY 2, 1;
SELECT id, row_number() OVER (ORDER BY id) FROM people ORDER BY id LIMIT 5;
SELECT id, sum(id) OVER (ORDER BY id) FROM people ORDER BY id;
SELECT age, rank() OVER (ORDER BY count(*) DESC, age) FROM people GROUP BY age ORDER BY age;
SELECT round(stddev(age), 10), round(variance(age), 10) FROM people;
SELECT count(DISTINCT age), count(DISTINCT city), sum(DISTINCT age) FROM people;
SELECT avg(age), avg(total) FROM people JOIN orders ON person_id = people.id;
SELECT string_agg(name, ',' ORDER BY id), array_agg(age ORDER BY id) FROM people;
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY age) FROM people;

[PgDog 94, 380, 381, 779: joins, CTEs and subqueries over shards]
SELECT p.id, m.id FROM people p JOIN mid m ON m.people_id = p.id;
SELECT p.id, o.id FROM people p JOIN orders o ON o.qty = p.age;
WITH x AS (SELECT age, count(*) AS n FROM people GROUP BY age) SELECT max(n) FROM x;
WITH big AS (SELECT * FROM orders WHERE total > 6) SELECT p.id, b.id FROM people p JOIN big b ON b.qty = p.age;
SELECT id FROM people WHERE age = (SELECT max(age) FROM people);
SELECT id FROM people WHERE id > (SELECT avg(person_id) FROM orders);
SELECT p.id, c.code FROM people p JOIN countries c ON c.person_id = p.id WHERE c.person_id = 1;
SELECT p.id FROM orders o JOIN people p ON p.id = o.person_id WHERE o.person_id = 4;

[PgDog: a table that nobody declared is no copy of itself] refused
SELECT * FROM stray;
SELECT count(*) FROM stray JOIN people USING (id);

[ShardingSphere 37852, 37770, 34685, 26688: DISTINCT and groups of text] ordered
SELECT DISTINCT age FROM people ORDER BY age;
SELECT DISTINCT city FROM people ORDER BY city;
SELECT count(*) FROM (SELECT DISTINCT city FROM people) x;
SELECT DISTINCT city, age FROM people ORDER BY city, age LIMIT 9;
SELECT city, count(*) FROM people GROUP BY city ORDER BY city;
SELECT term, count(*) FROM terms GROUP BY term ORDER BY term;
SELECT DISTINCT term FROM terms ORDER BY term DESC NULLS LAST;
SELECT term FROM terms ORDER BY term, id;
SELECT lower_, min(id) FROM terms GROUP BY lower_ ORDER BY lower_ LIMIT 7;
SELECT min(term), max(term), max(lower_) FROM terms;
SELECT word FROM words ORDER BY word;
SELECT DISTINCT upper(word) AS w FROM words ORDER BY w;
SELECT term COLLATE "C" FROM terms ORDER BY term COLLATE "C", id;
SELECT DISTINCT ON (age) age, id FROM people ORDER BY age, id;

[ShardingSphere 31657, 17507, 29137: WITH, recursion, windows, grouping sets] ordered
WITH RECURSIVE t AS (SELECT id, 1 AS n FROM people WHERE id = 1 UNION ALL SELECT p.id, n + 1 FROM people p JOIN t ON p.id = t.id + 3) SELECT count(*), max(n) FROM t;
SELECT age, ok, count(*) FROM people GROUP BY CUBE (age, ok) ORDER BY grouping(age, ok), age, ok;
SELECT age, count(*) FROM people GROUP BY ROLLUP (age) ORDER BY age, 2;
SELECT age, ok, count(*) FROM people GROUP BY GROUPING SETS ((age), (ok), ()) ORDER BY grouping(age, ok), 1, 2;
SELECT id, lag(age) OVER (ORDER BY id), ntile(4) OVER (ORDER BY id) FROM people ORDER BY id;
SELECT id, first_value(id) OVER (PARTITION BY age ORDER BY id DESC) FROM people ORDER BY id;

[Vitess 19545, 19539: outer joins with copies, constants that are true] ordered
SELECT c.code, p.id FROM countries c LEFT JOIN people p ON c.person_id = p.id ORDER BY c.code COLLATE "C", p.id;
SELECT c.code, count(p.id) FROM people p RIGHT JOIN countries c ON c.person_id = p.id GROUP BY c.code ORDER BY c.code COLLATE "C";
SELECT c.code, p.id FROM countries c FULL JOIN people p ON c.person_id = p.id WHERE p.id IS NULL OR c.code IS NOT NULL ORDER BY c.code, p.id;
SELECT count(*) FROM countries c LEFT JOIN people p ON false;
SELECT count(*), count(p.id) FROM countries c LEFT JOIN people p ON c.person_id = p.id AND p.age > 100;
SELECT c.code FROM countries c WHERE NOT EXISTS (SELECT 1 FROM people p WHERE p.id = c.person_id) ORDER BY c.code;
SELECT id FROM people WHERE id = 1 OR true ORDER BY id;
SELECT id FROM people WHERE id = 1 OR 1 = 1 ORDER BY id;
SELECT id FROM people WHERE (id = 1 OR true) AND age = 2 ORDER BY id;
SELECT id FROM people WHERE id = 1 AND false;

[Vitess 15625, 12269, 12540, 19530: aggregates and windows] ordered
SELECT avg(age), sum(age) FROM people;
SELECT avg(total) FROM orders WHERE person_id > 100;
SELECT avg(qty) FROM orders GROUP BY note ORDER BY 1;
SELECT sum(total), avg(total), count(total), count(*) FROM orders;
SELECT min(total), max(total) FROM orders WHERE person_id > 1000;
SELECT count(*) FROM orders WHERE person_id > 1000;
SELECT age, avg(score) FROM people WHERE score < 2 GROUP BY age ORDER BY age;
SELECT age, sum(count(*)) OVER (ORDER BY age) FROM people GROUP BY age ORDER BY age;
SELECT count(DISTINCT age), count(DISTINCT ok), min(DISTINCT qty) FROM people JOIN orders ON person_id = people.id;
SELECT p.age, o.qty, count(*) FROM people p LEFT JOIN orders o ON o.qty = p.age GROUP BY p.age, o.qty ORDER BY 1, 2;
SELECT id, (SELECT count(*) FROM orders o WHERE o.qty = p.age) FROM people p ORDER BY id;
SELECT id FROM people p WHERE age > ALL (SELECT qty - 4 FROM orders o WHERE o.person_id = p.id) ORDER BY id;
SELECT p.id, x.n FROM people p, LATERAL (SELECT count(*) AS n FROM orders o WHERE o.qty = p.age) x ORDER BY 1;
SELECT id FROM people NATURAL JOIN tiny ORDER BY id;

[Vitess 17497: equal values of two parameters are known only when they come]
SELECT p.id, o.id FROM people p, orders o WHERE p.id = $1 AND o.person_id = $2;
with: 4, 4
SELECT p.id, o.id FROM people p, orders o WHERE p.id = $1 AND o.person_id = $2;
with: 4, 6
SELECT p.id, o.id FROM people p, orders o WHERE p.id = $1 AND o.person_id = $2;
with: NULL, 4

[Citus 7783, 7684, 7697, 7698, 6872, 8091: DISTINCT ON, outer joins, subqueries] ordered
SELECT DISTINCT ON (city) city, id, age FROM people ORDER BY city, age DESC NULLS LAST, id;
SELECT DISTINCT ON (p.age) p.age, o.id FROM people p LEFT JOIN orders o ON o.person_id = p.id ORDER BY p.age, o.id;
SELECT p.id, o.id FROM people p LEFT JOIN orders o ON p.id = o.person_id AND p.age = 1 ORDER BY 1, 2;
SELECT p.id, c.code FROM people p LEFT JOIN countries c ON p.age = 0 ORDER BY 1, 2;
SELECT c.code, o.id FROM countries c LEFT JOIN orders o ON o.person_id = c.person_id ORDER BY c.code COLLATE "C", 2;
SELECT p.id, m.id FROM people p FULL JOIN mid m ON m.people_id = p.id ORDER BY 1, 2;
SELECT p.id, x.id FROM people p LEFT JOIN (SELECT o.person_id, max(o.id) AS id FROM orders o GROUP BY o.person_id) x ON x.person_id = p.id ORDER BY 1;
SELECT p.id FROM people p LEFT JOIN orders o ON o.person_id = p.id LEFT JOIN items i ON i.order_id = o.id WHERE i.n IS NULL ORDER BY 1;
SELECT count(*) FROM people p WHERE (SELECT count(*) FROM orders o WHERE o.qty = p.rank2) > 5;
SELECT id, (SELECT name FROM countries c WHERE c.person_id = p.id) FROM people p ORDER BY id;

[Citus 4160, SPQR 2232: subqueries off the key, a join with a copy answered by one shard] ordered
SELECT p.id FROM people p WHERE EXISTS (SELECT 1 FROM orders o WHERE o.qty = p.age AND o.person_id <> p.id) ORDER BY 1;
SELECT count(*) FROM people JOIN countries ON countries.person_id = people.id;
SELECT c.code, p.id FROM countries c JOIN people p ON p.id = c.person_id ORDER BY 1;
SELECT count(*) FROM countries, people;
SELECT count(*) FROM countries;

[MyCAT 1451: a word that is not WHERE deletes nothing]
DELETE FROM people wher id = 1;
DELETE FROM people id = 1;
UPDATE people SET age = 1 wher id = 1;
SELECT count(*) FROM people;
