# Rows whose sharding key is set in transaction blocks, by rule. See mod.rs.

[one row, and more of the block before and after]
BEGIN;
UPDATE people SET age = 41 WHERE id = 1;
UPDATE people SET id = 2001, name = 'moved' WHERE id = 1 RETURNING id, name, city, tags, doc, span;
SELECT id, name, age FROM people WHERE id = 2001;
UPDATE people SET age = age + 1 WHERE id = 2001 RETURNING id, age;
INSERT INTO people (id, name) VALUES (1, 'new');
UPDATE people SET id = 2002 WHERE id = 1 RETURNING id, name;
DELETE FROM people WHERE id = 2002 RETURNING name;
SELECT count(*), sum(id) FROM people;
COMMIT;
SELECT id, name, age FROM people WHERE id IN (1, 2001, 2002) ORDER BY id;

[taken back]
BEGIN;
UPDATE people SET id = id + 3000 RETURNING id;
UPDATE people SET id = id - 6000 WHERE id > 3000;
DELETE FROM people WHERE id % 2 = 0;
SELECT count(*), min(id), max(id) FROM people;
ROLLBACK;
SELECT count(*), min(id), max(id) FROM people;

[rows that move twice, and back]
BEGIN;
UPDATE mid SET id = id + 100 RETURNING id;
UPDATE mid SET id = id * 3, v = 'twice' WHERE id % 2 = 0 RETURNING id;
UPDATE mid SET id = id - 100 WHERE id % 2 = 1 RETURNING id;
UPDATE mid SET id = id / 3 - 100 WHERE v = 'twice' RETURNING id, v;
COMMIT;
UPDATE mid SET v = 'v2' WHERE v = 'twice';

[parameters]
START TRANSACTION ISOLATION LEVEL REPEATABLE READ;
UPDATE people SET id = $1 WHERE id = $2 RETURNING id, age;
with: 3001, 2
UPDATE people SET id = $1 + 3000, name = $2 WHERE id = $1;
with: 3, x
UPDATE words SET word = $1 WHERE word = $2 RETURNING word, n;
with: 🙂🙂🙂, 日本
UPDATE orders SET person_id = $1 WHERE person_id = $2 AND id > $3 RETURNING id, total;
with: 41, 1, 0
END;

[savepoints]
BEGIN;
INSERT INTO people (id, name) VALUES (6001, 'kept');
SAVEPOINT a;
UPDATE people SET id = 6002 WHERE id = 6001;
SAVEPOINT b;
UPDATE people SET id = id + 10000 WHERE id > 3;
SELECT count(*), sum(id) FROM people;
ROLLBACK TO b;
SELECT count(*), sum(id) FROM people;
UPDATE people SET id = 6003, name = 'again' WHERE id = 6002 RETURNING id, name;
ROLLBACK TO a;
SELECT id, name FROM people WHERE id > 6000;
UPDATE people SET id = 6004 WHERE id = 6001;
RELEASE a;
UPDATE people SET id = 6005 WHERE id = 6004;
COMMIT;
SELECT id, name FROM people WHERE id > 6000;

[an error of a move, and the way back]
BEGIN;
UPDATE people SET name = 'before' WHERE id = 4;
SAVEPOINT s;
UPDATE people SET id = 5 WHERE id = 4;
SELECT 1;
ROLLBACK TO s;
UPDATE people SET id = NULL WHERE id = 4;
ROLLBACK TO s;
UPDATE people SET id = id / (id - id);
ROLLBACK TO s;
UPDATE people SET id = 7004 WHERE id = 4 RETURNING id, name;
SAVEPOINT s;
UPDATE people SET id = 6 WHERE id = 7004;
UPDATE people SET id = 7005 WHERE id = 7004;
ROLLBACK TO s;
RELEASE s;
SELECT id, name FROM people WHERE id > 7000;
ROLLBACK TO s;
COMMIT;
SELECT id, name FROM people WHERE id IN (4, 7004);

[an error of a move ends the block]
BEGIN;
UPDATE people SET id = 8004 WHERE id = 7004;
UPDATE people SET id = 6 WHERE id = 8004;
UPDATE people SET id = 8005 WHERE id = 6;
COMMIT;
SELECT id, name FROM people WHERE id IN (4, 6, 7004, 8004);
BEGIN;
UPDATE people SET id = 8004, nosuch = 1 WHERE id = 7004;
COMMIT;
BEGIN READ ONLY;
UPDATE people SET id = 8004 WHERE id = 7004;
ROLLBACK;
BEGIN;
UPDATE people SET id = 8004 WHERE id = 7004;
SELECT 1 / 0;
COMMIT;
SELECT id FROM people WHERE id IN (7004, 8004);

[shards that join later know of the settings, and those that move rows keep them]
BEGIN;
SET LOCAL work_mem = '3MB';
SET LOCAL lock_timeout = '7s';
SAVEPOINT a;
SET LOCAL work_mem = '5MB';
UPDATE people SET id = 9001 WHERE id = 5;
SELECT current_setting('work_mem'), current_setting('lock_timeout'), id FROM people WHERE id = 9001;
SELECT current_setting('work_mem'), current_setting('lock_timeout') FROM people WHERE id IN (6, 7, 8, 9, 10);
ROLLBACK TO a;
SELECT current_setting('work_mem'), current_setting('lock_timeout') FROM people WHERE id IN (6, 7, 8, 9, 10);
UPDATE people SET id = 9002 WHERE id = 5;
COMMIT;
SHOW work_mem;
SHOW lock_timeout;

[foreign keys that are checked at once]
BEGIN;
UPDATE pets SET owner_id = 31 WHERE owner_id = 1 RETURNING n, name;
UPDATE pets SET owner_id = owner_id + 1 WHERE owner_id BETWEEN 2 AND 9 RETURNING owner_id, n;
SELECT owner_id, count(*) FROM pets GROUP BY owner_id;
UPDATE pets SET owner_id = 32, name = 'both' WHERE owner_id = 31;
COMMIT;
BEGIN;
UPDATE pets SET owner_id = 33 WHERE owner_id = 32;
INSERT INTO pets VALUES (500, 1, 'no owner');
COMMIT;
BEGIN;
UPDATE pets SET owner_id = 500 WHERE owner_id = 32;
COMMIT;
BEGIN;
UPDATE pets SET owner_id = owner_id + 40;
ROLLBACK;
BEGIN;
INSERT INTO owners VALUES (71), (72), (73);
UPDATE pets SET owner_id = 71 WHERE owner_id = 10;
UPDATE pets SET owner_id = 72 WHERE owner_id = 11;
UPDATE pets SET owner_id = 73 WHERE owner_id IN (71, 72) RETURNING owner_id, n;
DELETE FROM owners WHERE id = 71;
DELETE FROM owners WHERE id = 72;
COMMIT;
BEGIN;
UPDATE pets SET owner_id = 34 WHERE owner_id = 73;
DELETE FROM owners WHERE id = 73;
DELETE FROM owners WHERE id = 34;
COMMIT;
SELECT owner_id, n FROM pets WHERE owner_id > 30;

[foreign keys that the client defers, and does not any more]
BEGIN;
SET CONSTRAINTS pets_owner DEFERRED;
UPDATE pets SET owner_id = 501 WHERE owner_id = 12;
INSERT INTO pets VALUES (502, 1, 'no owner yet');
UPDATE pets SET owner_id = 503 WHERE owner_id IN (501, 502);
INSERT INTO owners VALUES (503);
COMMIT;
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
UPDATE pets SET owner_id = 504 WHERE owner_id = 13;
UPDATE pets SET owner_id = 35 WHERE owner_id = 14;
COMMIT;
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
SAVEPOINT a;
UPDATE pets SET owner_id = 35 WHERE owner_id = 14;
SET CONSTRAINTS ALL IMMEDIATE;
UPDATE pets SET owner_id = 36 WHERE owner_id = 35;
SAVEPOINT b;
UPDATE pets SET owner_id = 505 WHERE owner_id = 15;
ROLLBACK TO b;
UPDATE pets SET owner_id = 37 WHERE owner_id = 15;
ROLLBACK TO a;
UPDATE pets SET owner_id = 506 WHERE owner_id = 15;
UPDATE pets SET owner_id = 38 WHERE owner_id = 506;
COMMIT;
SELECT owner_id, n FROM pets WHERE owner_id > 30;

[foreign keys that are checked at the end]
BEGIN;
UPDATE debts SET owner_id = 601 WHERE owner_id = 1;
UPDATE debts SET owner_id = 602, n = n + 10 WHERE owner_id = 2 RETURNING n;
INSERT INTO owners VALUES (601), (602);
COMMIT;
BEGIN;
UPDATE debts SET owner_id = 603 WHERE owner_id = 3;
COMMIT;
BEGIN;
UPDATE debts SET owner_id = 603 WHERE owner_id = 3;
UPDATE debts SET owner_id = 40 WHERE owner_id = 603;
COMMIT;
BEGIN;
SET CONSTRAINTS debts_owner IMMEDIATE;
UPDATE debts SET owner_id = 41 WHERE owner_id = 4;
UPDATE debts SET owner_id = 604 WHERE owner_id = 5;
COMMIT;
BEGIN;
SET CONSTRAINTS debts_owner IMMEDIATE;
UPDATE debts SET owner_id = owner_id + 50 WHERE owner_id IN (4, 5);
SET CONSTRAINTS debts_owner DEFERRED;
UPDATE debts SET owner_id = 605 WHERE owner_id = 54;
INSERT INTO debts VALUES (606, 1, 1);
INSERT INTO owners VALUES (605), (606);
COMMIT;
SELECT * FROM debts WHERE owner_id > 30;

[constraints that are checked in the end, and earlier]
BEGIN;
UPDATE debts SET owner_id = 607 WHERE owner_id = 10;
SET CONSTRAINTS debts_owner IMMEDIATE;
ROLLBACK;
BEGIN;
UPDATE debts SET owner_id = 42 WHERE owner_id = 10;
SET CONSTRAINTS ALL IMMEDIATE;
UPDATE debts SET owner_id = 43 WHERE owner_id IN (42, 11);
COMMIT;

[keys that are unique only at the end]
BEGIN;
UPDATE debts SET owner_id = 7 WHERE owner_id = 6;
SELECT owner_id, n FROM debts WHERE owner_id IN (6, 7);
UPDATE debts SET owner_id = 6, n = n + 20 WHERE owner_id = 7 AND n < 2 RETURNING n;
UPDATE debts SET n = n + 100 WHERE owner_id = 7 AND amount > 10;
DELETE FROM debts WHERE owner_id = 7 AND amount < 20;
COMMIT;
BEGIN;
UPDATE debts SET owner_id = 9 WHERE owner_id = 8;
COMMIT;
BEGIN;
SET CONSTRAINTS debts_key IMMEDIATE;
UPDATE debts SET owner_id = 9 WHERE owner_id = 8;
COMMIT;
BEGIN;
UPDATE debts SET owner_id = 9 WHERE owner_id = 8;
DELETE FROM debts WHERE owner_id = 9 AND amount IN (1.75, 9.25, 16.75);
COMMIT;
SELECT * FROM debts WHERE owner_id IN (6, 7, 8, 9);

[no row at all]
BEGIN;
UPDATE pets SET owner_id = 700 WHERE owner_id = 699 RETURNING *;
UPDATE pets SET owner_id = owner_id + 1000 WHERE n < 0;
UPDATE people SET id = 700 WHERE id = 699 AND id = 698;
COMMIT;

[refused] refused
UPDATE owners SET id = id + 800;
