# Statements that show less than they do, over the tables of odd_schema.sql too.

[texts that are equal though their bytes differ]
SELECT count(*) FROM folded GROUP BY word;
SELECT count(*) FROM folded GROUP BY plain COLLATE nocase;
SELECT count(*) FROM folded GROUP BY (plain || '') COLLATE nocase;
SELECT min(id), count(*) FROM folded GROUP BY coalesce(word, 'none');
SELECT lower(word), count(*) FROM (SELECT word FROM folded GROUP BY word) AS words GROUP BY 1;
SELECT count(*) FROM (SELECT DISTINCT word FROM folded) AS words;
SELECT count(DISTINCT word), count(DISTINCT plain), count(DISTINCT plain COLLATE nocase) FROM folded;
SELECT lower(min(plain)), count(*) FROM folded GROUP BY lower(plain);
SELECT plain, count(*) FROM folded GROUP BY plain;
SELECT word COLLATE "C", count(*) FROM folded GROUP BY word COLLATE "C";
SELECT DISTINCT word COLLATE "C" FROM folded;
SELECT count(*) FROM words GROUP BY word COLLATE nocase;
SELECT count(*) FROM words WHERE word = 'A' COLLATE nocase;
SELECT count(*) FROM words a JOIN words b ON a.word = b.word COLLATE nocase;
SELECT n, plain || 'x', count(*) FROM folded GROUP BY 1, 2;

[code that reads tables unseen, refused] refused
SELECT f.alike FROM folded f;
SELECT f.alike FROM folded f WHERE id = 3;
SELECT (f).alike FROM folded f WHERE f.id = 3;
SELECT alike(f) FROM folded f WHERE id = 3;
SELECT 1 @+@ 1;
SELECT n @+@ 1 FROM folded WHERE id = 3;
SELECT id FROM folded WHERE n @+@ 1 > 3;
SELECT 5::fewer;
SELECT CAST(n AS fewer) FROM folded;
SELECT beyond_all(n) FROM folded;
SELECT id, beyond_all(n) FROM folded GROUP BY id;
UPDATE folded SET n = n @+@ 1 WHERE id = 3;

[code that reads no tables]
SELECT n <#> 2 FROM folded WHERE id = 3;
SELECT n <#> 2, tripled(n) FROM folded;
SELECT tripled(n), count(*) FROM folded GROUP BY 1;

[values that are one for a statement, and another one on each shard]
SELECT count(*) FROM people GROUP BY now();
SELECT count(*) FROM people GROUP BY current_timestamp;
SELECT count(*) FROM people GROUP BY pg_backend_pid();
SELECT age, count(*) FROM people GROUP BY age, current_setting('port');
SELECT count(*) FROM people GROUP BY 'people'::regclass::oid;
SELECT count(*) FROM (SELECT DISTINCT now() FROM people) AS x;
SELECT now() IS NULL, count(*) FROM people GROUP BY 1, now();
SELECT seen > now(), count(*) FROM people GROUP BY 1;
SELECT random() < 2, count(*) FROM people GROUP BY 1;

[the order of values that are each shard's own] ordered
SELECT id FROM people ORDER BY now(), id;
SELECT id FROM people ORDER BY current_setting('port'), id LIMIT 5;
SELECT id FROM people ORDER BY age USING <, id USING > LIMIT 5;
SELECT id FROM people ORDER BY id USING >;

[columns of the system] refused
SELECT id FROM people WHERE ctid = '(0,1)';
SELECT a.id FROM people a, orders o WHERE a.id = o.person_id AND a.ctid = '(0,1)';
SELECT id FROM people WHERE xmin::text <> '0';
SELECT count(*) FROM people GROUP BY tableoid;
SELECT DISTINCT tableoid FROM people;
UPDATE people SET age = 1 WHERE ctid = '(0,1)';
DELETE FROM people WHERE ctid = ANY (ARRAY['(0,1)', '(0,2)']::tid[]);

[columns of the system that are told apart]
SELECT count(*) FROM items a JOIN items b ON a.person_id = b.person_id AND a.ctid < b.ctid;
SELECT count(*) FROM people WHERE id = 3 AND xmin::text <> '0';
SELECT tableoid::regclass::text, id FROM people;
DELETE FROM items a USING items b WHERE a.person_id = b.person_id AND a.ctid < b.ctid AND a.ctid > b.ctid;

[conflicts with rows of other shards] refused
INSERT INTO folded (id, email) VALUES (1001, 'e3') ON CONFLICT DO NOTHING;
INSERT INTO folded (id, email) VALUES (1001, 'e3') ON CONFLICT (email) DO NOTHING;
INSERT INTO folded (id, email) VALUES (1001, 'e3') ON CONFLICT ON CONSTRAINT folded_email_key DO NOTHING;
INSERT INTO folded (id, email) VALUES (1001, 'e3'), (1002, 'e4') ON CONFLICT (email) DO UPDATE SET n = 5;
INSERT INTO folded (id, email) SELECT id + 1000, email FROM folded ON CONFLICT (email) DO NOTHING;

[conflicts with rows of the same shard]
INSERT INTO folded (id, email) VALUES (3, 'e3') ON CONFLICT (id) DO NOTHING;
INSERT INTO folded (id, n) VALUES (3, 7), (4, 7) ON CONFLICT ON CONSTRAINT folded_pkey DO UPDATE SET n = excluded.n;
INSERT INTO people (id) VALUES (3), (4) ON CONFLICT DO NOTHING;
SELECT id, n, email FROM folded;

[floats written with fewer digits] refused
SET extra_float_digits = 0;
SET extra_float_digits TO '-10';
SELECT set_config('extra_float_digits', '0', false);

[floats written with all digits]
SET extra_float_digits = 3;
SELECT near, count(*) FROM folded GROUP BY near;
RESET extra_float_digits;
SELECT DISTINCT near FROM folded;
SELECT id FROM folded ORDER BY near;

[NULL in an array is a text where array_nulls is off]
SELECT n FROM words WHERE word = ANY ('{NULL, a}');
SET array_nulls = off;
SELECT n FROM words WHERE word = ANY ('{NULL, a}');
SELECT n FROM words WHERE word = ANY ('{null}');
RESET array_nulls;

[policies that need rows of other shards] refused
SELECT count(*) FROM policed;
SELECT n FROM policed WHERE id = 3;
UPDATE policed SET n = 1 WHERE id = 3;
INSERT INTO policed VALUES (1001, 1);

[policies that need rows of the same shard]
SELECT count(*) FROM tenanted;
SELECT n FROM tenanted WHERE id = 3;
