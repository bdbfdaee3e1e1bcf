# The tour of `ringway demo --check`: every block is answered as one PostgreSQL with all the rows
# answers it, in the simple and in the extended protocol, and leaves the rows as they were.

[a customer by key]
SELECT * FROM customers WHERE id = 4711;
SELECT name, balance FROM customers WHERE id = $1;
with: 17

[a key that nobody has]
SELECT * FROM customers WHERE id = 123456789;
SELECT * FROM customers WHERE id = -1;
SELECT * FROM customers WHERE id = $1;
with: NULL

[keys in a list]
SELECT id, name FROM customers WHERE id IN (1, 2, 3, 4, 5, 99999);
SELECT id, name FROM customers WHERE id = $1 OR id = $2;
with: 10, 20

[a key of the wrong type]
SELECT * FROM customers WHERE id = 'seventeen';

[a table that does not exist]
SELECT * FROM nowhere;

[a column that does not exist]
SELECT nothing FROM customers WHERE id = 1;

[a syntax error]
SELEKT 1;

[no table at all]
SELECT 1 AS one, 'text' AS two, NULL AS three;

[a join of one customer's rows]
SELECT c.name, o.id, o.total, i.product, i.quantity FROM customers c JOIN orders o ON o.customer_id = c.id JOIN order_items i ON i.customer_id = o.customer_id AND i.order_id = o.id WHERE c.id = 4711;
SELECT c.name, o.id FROM customers c, orders o WHERE o.customer_id = c.id AND o.customer_id = $1;
with: 42

[one customer with the reference table]
SELECT c.name, n.name AS country FROM customers c JOIN countries n ON n.code = c.country WHERE c.id = 99;

[an outer join for one customer]
SELECT c.id, o.id FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.status = 'returned' WHERE c.id = 77;

[one customer's windows and subqueries]
SELECT id, sum(total) OVER (ORDER BY id) FROM orders WHERE customer_id = 5;
SELECT name FROM customers c WHERE c.id = 5 AND EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = 5 AND o.customer_id = c.id);

[the reference table]
SELECT * FROM countries;
SELECT count(*) FROM countries;

[the table on a single shard] ordered
SELECT * FROM settings ORDER BY name;

[all rows without order]
SELECT id, status FROM orders WHERE total > 499 AND status = 'paid';

[join on the key over all shards]
SELECT c.country, o.id FROM customers c JOIN orders o ON o.customer_id = c.id WHERE o.total > 499.5;

[join with the reference table over all shards]
SELECT c.id, n.name FROM customers c JOIN countries n ON n.code = c.country WHERE c.balance > 9990;

[order by] ordered
SELECT id, balance FROM customers WHERE balance > 9950 ORDER BY balance DESC, id;
SELECT name, id FROM customers WHERE id < 40 ORDER BY name, id;

[order by what is not selected] ordered
SELECT name FROM customers WHERE id <= 25 ORDER BY id DESC;

[order with nulls] ordered
SELECT customer_id, id, total FROM orders WHERE id <= 60 ORDER BY total DESC NULLS LAST, customer_id, id;
SELECT customer_id, id, total FROM orders WHERE id <= 60 ORDER BY total NULLS FIRST, customer_id, id;

[limit and offset] ordered
SELECT id, balance FROM customers ORDER BY balance DESC, id LIMIT 10;
SELECT id FROM customers ORDER BY id LIMIT 5 OFFSET 5000;
SELECT id FROM customers ORDER BY id LIMIT $1 OFFSET $2;
with: 3, 9998

[limit zero]
SELECT id FROM customers ORDER BY id LIMIT 0;

[aggregates]
SELECT count(*), count(total), sum(total), min(total), max(total) FROM orders;
SELECT avg(balance) FROM customers;
SELECT avg(quantity), sum(quantity) FROM order_items;
SELECT min(placed_at), max(status) FROM orders;

[aggregates of no rows]
SELECT count(*), sum(total), avg(total), min(id) FROM orders WHERE total < 0;

[group by] ordered
SELECT country, count(*), sum(balance), avg(balance) FROM customers GROUP BY country ORDER BY country;
SELECT status, count(total), max(placed_at) FROM orders GROUP BY status ORDER BY count(total) DESC, status;

[group by with a limit] ordered
SELECT product, sum(quantity) AS sold FROM order_items GROUP BY product ORDER BY sold DESC, product LIMIT 3;

[group by the key]
SELECT customer_id, count(*) FROM orders WHERE customer_id < 30 GROUP BY customer_id;

[group by with having] maybe
SELECT country, count(*) FROM customers GROUP BY country HAVING count(*) > 833;

[distinct] maybe
SELECT DISTINCT status FROM orders;

[insert, read, update, delete by key]
INSERT INTO customers VALUES (20001, 'Nova', 'nova@example.com', 'KE', '2026-01-01', 5);
SELECT * FROM customers WHERE id = 20001;
UPDATE customers SET balance = balance * 2 WHERE id = 20001 RETURNING id, balance;
SELECT balance FROM customers WHERE id = 20001;
DELETE FROM customers WHERE id = 20001;
SELECT * FROM customers WHERE id = 20001;

[the same with parameters]
INSERT INTO customers (id, name, email, country, joined_on, balance) VALUES ($1, $2, $3, $4, $5, $6);
with: 20002, O'Neil, oneil@example.com, US, 2026-02-03, 7.25
SELECT * FROM customers WHERE id = $1;
with: 20002
UPDATE customers SET name = $2 WHERE id = $1;
with: 20002, Nobody
DELETE FROM customers WHERE id = $1 RETURNING *;
with: 20002

[a row that is there already]
INSERT INTO customers VALUES (1, 'Twice', 'twice@example.com', 'KE', '2026-01-01', 5);

[a null key]
INSERT INTO customers VALUES (NULL, 'Null', 'null@example.com', 'KE', '2026-01-01', 5);

[a foreign key that is not met]
INSERT INTO orders VALUES (30000, 1, 'new', '2026-01-01 00:00:00+00', 1);

[insert on conflict]
INSERT INTO customers VALUES (1, 'Twice', 'twice@example.com', 'KE', '2026-01-01', 5) ON CONFLICT (id) DO NOTHING;

[a session reads what it wrote] repeat=50
UPDATE customers SET balance = balance + 1 WHERE id = 1234;
SELECT balance FROM customers WHERE id = 1234;
UPDATE customers SET balance = balance - 1 WHERE id = 1234;
SELECT balance FROM customers WHERE id = 1234;

[an update on all shards]
UPDATE orders SET status = 'late' WHERE status = 'new';
SELECT status, count(*) FROM orders GROUP BY status;
UPDATE orders SET status = 'new' WHERE status = 'late';
SELECT count(*) FROM orders WHERE status = 'new';

[a delete on all shards]
DELETE FROM order_items WHERE price < 0;

[a transaction in one shard]
BEGIN;
INSERT INTO orders VALUES (4711, 900001, 'new', '2026-01-01 00:00:00+00', 12.50);
INSERT INTO order_items VALUES (4711, 900001, 1, 'anvil', 2, 6.25);
SELECT count(*), sum(total) FROM orders WHERE customer_id = 4711;
COMMIT;
DELETE FROM order_items WHERE customer_id = 4711 AND order_id = 900001;
DELETE FROM orders WHERE customer_id = 4711 AND id = 900001;
SELECT count(*) FROM orders WHERE customer_id = 4711;

[a transaction rolled back]
BEGIN;
DELETE FROM order_items WHERE customer_id = 4711;
SELECT count(*) FROM order_items WHERE customer_id = 4711;
ROLLBACK;
SELECT count(*) FROM order_items WHERE customer_id = 4711;

[a transaction that failed]
BEGIN;
SELECT 1 / 0 FROM customers WHERE id = 1;
SELECT name FROM customers WHERE id = 1;
COMMIT;
SELECT name FROM customers WHERE id = 1;

[savepoints]
BEGIN;
UPDATE customers SET balance = 0 WHERE id = 8;
SAVEPOINT before;
UPDATE customers SET balance = 1 WHERE id = 8;
ROLLBACK TO SAVEPOINT before;
SELECT balance FROM customers WHERE id = 8;
ROLLBACK;
SELECT balance FROM customers WHERE id = 8;

[copy into the table on a single shard]
COPY settings FROM STDIN;
theme	dark
zone	UTC
\.
SELECT * FROM settings;
COPY settings TO STDOUT;
DELETE FROM settings WHERE name IN ('theme', 'zone');

[a write to the reference table]
UPDATE countries SET name = upper(name) WHERE code = 'NZ';
SELECT * FROM countries WHERE code = 'NZ';
UPDATE countries SET name = 'New Zealand' WHERE code = 'NZ';

[a new table, and away again]
CREATE TABLE visits (customer_id bigint, at timestamptz);
DROP TABLE visits;

[a setting of the session]
SET application_name = 'tour';
SHOW application_name;
RESET application_name;

[gathered: a join that is not on the key]
SELECT count(*) FROM customers a JOIN customers b ON a.balance = b.balance;

[gathered: a window over all shards]
SELECT id, rank() OVER (ORDER BY balance) FROM customers;

[refused: changing the key] refused
UPDATE customers SET id = id + 100000 WHERE id = 1;

[gathered: a subquery over other shards]
SELECT count(*) FROM customers WHERE balance > (SELECT avg(balance) FROM customers);

[gathered: a sharded table joined with a single one]
SELECT count(*) FROM customers c JOIN settings s ON s.name = c.name;
