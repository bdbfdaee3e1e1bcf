# Writes that other sharders get wrong. See peers.sql.

[PgDog: a key in a SET list or in RETURNING limits nothing]
UPDATE orders SET note = CASE WHEN person_id = 4 THEN 'four' ELSE 'other' END;
UPDATE orders SET qty = qty + 1 WHERE qty = 2 RETURNING person_id = 4;
UPDATE orders SET note = 'x' WHERE person_id = 4 OR qty = 3;
DELETE FROM items WHERE NOT person_id = 4 AND n = 1;

[PgDog 259, 981: INSERT of several rows]
INSERT INTO people (id, name) VALUES (501, 'a'), (502, 'b'), (503, 'c'), (504, 'd');
INSERT INTO people (id, name) VALUES ($1, $2), ($3, $4), ($5, $6) RETURNING id, name;
with: 511, x, 512, y, 513, NULL
INSERT INTO people (name, id) VALUES ('a', 501), ('e', 521) ON CONFLICT (id) DO UPDATE SET name = 'again';
INSERT INTO people (id) VALUES (531), (501);

[PgDog: no key is no free choice, Citus 8087 and others: a row does not move by ON CONFLICT] refused
INSERT INTO orders (id, qty) VALUES (1, 2);
INSERT INTO orders (id, person_id) VALUES (1, 4) ON CONFLICT (person_id, id) DO UPDATE SET person_id = 5;

[Citus 8087 and others: a row moves with its key]
UPDATE people SET id = id + 1000;
UPDATE people SET id = 900 WHERE id = 1501;
UPDATE orders SET (person_id, qty) = (1, 2) WHERE person_id = 4 AND id < 0;

[ShardingSphere, Vitess: copies stay equal]
INSERT INTO countries (code, name, made) VALUES ('se', 'Sweden', '2020-01-01');
UPDATE countries SET area = 450 WHERE code = 'se';
UPDATE countries SET name = upper(name) WHERE area > 100 RETURNING code;
DELETE FROM countries WHERE code = 'xx';

[ShardingSphere: copies that would differ] refused
UPDATE countries SET area = random();
INSERT INTO countries (code, made) VALUES ('fi', clock_timestamp());

[Citus, Vitess: rows taken from other rows]
INSERT INTO items (order_id, person_id, sku) SELECT id, person_id, note FROM orders WHERE qty = 1;
INSERT INTO mid (id, v) SELECT people_id, v FROM mid;
INSERT INTO mid (id, v) SELECT people_id + 100, v FROM mid;
DELETE FROM items USING orders WHERE orders.person_id = items.person_id AND orders.id = items.order_id AND orders.qty = 1;
UPDATE orders SET note = p.name FROM people p WHERE p.id = orders.person_id AND p.age = 1;

[Citus, Vitess: rows of other shards are not seen by one, so they are gathered]
DELETE FROM orders WHERE qty > (SELECT avg(qty) FROM orders);
UPDATE orders SET note = m.v FROM mid m WHERE m.people_id = orders.person_id;
