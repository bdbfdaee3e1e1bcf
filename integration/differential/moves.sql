# Rows whose sharding key is set, by rule. See mod.rs.

[one row by its key]
UPDATE people SET id = 1001 WHERE id = 1;
UPDATE people SET id = 1002, name = 'moved', age = age + 1 WHERE id = 2 RETURNING *;
UPDATE people AS p SET id = p.id + 1000 WHERE id = 3 RETURNING p.id, p.name, p.feel;
UPDATE people p SET age = 7, id = -1000 WHERE p.id = 4 RETURNING id + 1 AS next, 'x' || name;
UPDATE people SET id = 1005 WHERE id = 5 /* a comment */ -- and one more
;
UPDATE people SET id = 6 WHERE id = 6 RETURNING id;
UPDATE people SET ID = 1300, "age" = 1 WHERE "id" = 25;
UPDATE people SET "id" = 1301 WHERE id = 26 RETURNING "id";
UPDATE people SET id = id WHERE id = 7 RETURNING id, price, span;
UPDATE people SET id = 8000 WHERE id = 8 AND id = 9;
UPDATE people SET id = 8001 WHERE id = 999999 RETURNING id;
UPDATE people SET (id, age) = (1009, 77) WHERE id = 9 RETURNING id, age;
UPDATE people SET (age, id) = ROW(78, 1010) WHERE id = 10;
UPDATE people SET (age, id) = (SELECT 79, 1011) WHERE id = 11;
UPDATE people SET id = (SELECT 1012) WHERE id = 12;
UPDATE people SET id = (SELECT count(*) + 2000 FROM countries) WHERE id = 13 RETURNING id;
UPDATE people SET id = '1014' WHERE id = 14;
UPDATE people SET id = 1015.4 WHERE id = 15 RETURNING id;
UPDATE people SET id = 5 + 5 * 100 + 11 WHERE id = 16;
UPDATE people SET id = CASE WHEN age > 0 THEN 1017 ELSE 1117 END WHERE id = 17 RETURNING id;
UPDATE people SET name = name || '!', city = DEFAULT, id = 1018 WHERE id = 18 RETURNING id, name, city;
UPDATE mid SET id = 31017::bigint WHERE id = 1::bigint RETURNING id, v;

[one row by parameters]
UPDATE people SET id = $1 WHERE id = $2 RETURNING id, age;
with: 3001, 19
UPDATE people SET id = $1 + 3000, name = $2 WHERE id = $1;
with: 20, x
UPDATE people SET id = $2, age = $3::int WHERE id = $1 RETURNING *, $3::int + 1;
with: 21, 3003, 4
UPDATE people SET id = $1 WHERE id = $1 RETURNING id;
with: 22
UPDATE people SET id = $1::bigint WHERE name = $2 AND id = 23 RETURNING id;
with: 3023, nobody
UPDATE words SET word = $1 WHERE word = $2 RETURNING word, n;
with: 🙂🙂, 🙂
UPDATE orders SET person_id = $1 WHERE person_id = $2 AND id > $3 RETURNING id, total;
with: 41, 1, 0

[rows of several shards]
UPDATE people SET id = id + 10000 WHERE id BETWEEN -9 AND 0 RETURNING id, name, city, score, ratio, weight, born, seen, at, ok, tags, doc, code, nick, span, clock, rank2, feel, price;
UPDATE people SET id = id + 20000, age = 3;
UPDATE people SET id = id - 20000 WHERE age = 3 RETURNING id;
UPDATE people SET id = id + 30000 WHERE false RETURNING id;
UPDATE orders SET person_id = person_id + 100;
UPDATE orders SET person_id = person_id - 100, note = 'back' WHERE qty > 1 RETURNING *;
UPDATE orders o SET person_id = 200 + o.id FROM people p WHERE p.id = o.person_id AND p.age IS NOT NULL RETURNING o.id, o.person_id, p.name, p.id;
UPDATE orders SET person_id = c.area FROM countries c WHERE c.code = 'dk' AND orders.qty = 4 RETURNING orders.person_id, c.code;
UPDATE items SET person_id = 7 WHERE person_id IN (4, 6, 8) RETURNING order_id, sku;
UPDATE items SET person_id = person_id * 2;
UPDATE mid SET id = id + 1000, people_id = NULL RETURNING id, v, people_id;
UPDATE tiny SET id = -id - 20 RETURNING id, v;
UPDATE numbered SET id = id + 100;

[rows of all types]
UPDATE kinds SET id = id + 1000 RETURNING *;
UPDATE terms SET id = id + 1000 RETURNING id, term, lower_;
UPDATE plots SET id = id + 500, title = 'moved' RETURNING id, f, spots, place::text, title, both_::text;
UPDATE words SET word = word || 'x', n = n + 1;
UPDATE words SET word = left(word, -1) RETURNING word;
UPDATE nicks SET nick = 'm' || substr(nick, 2) RETURNING nick;
UPDATE tokens SET id = ('b' || substr(id::text, 2))::uuid RETURNING id, owner;
UPDATE "Mixed Case" SET "Key" = "Key" + 100, "order" = 5 RETURNING "Key", "order", "select", key;
UPDATE "Mixed Case" AS "A b" SET "Key" = key WHERE "A b"."Key" = 105 RETURNING "A b"."Key";
UPDATE prices SET price = price + 1000.125 WHERE price < 5 RETURNING price, name;
UPDATE prices SET price = 'NaN' WHERE name = 'dear' AND price = 1000000.5 AND n = 77;
UPDATE visits SET day = day + 100 RETURNING day, page, n;
UPDATE visits SET day = '2020-02-29' WHERE n < 7 RETURNING day;
UPDATE visits SET day = date '2020-03-01' WHERE day = '2020-02-29';

[rows whose types are not merged in binary format] maybe
UPDATE plots SET id = id + 500 RETURNING both_;

[keys of two columns, lists and ranges]
UPDATE parcels SET code = code || 'z' WHERE tenant = 1 RETURNING *;
UPDATE parcels SET tenant = tenant + 10;
UPDATE parcels SET tenant = 99, code = 'q' WHERE tenant = 12 AND code = 'c1' RETURNING weight;
UPDATE parcels SET weight = -1, tenant = tenant WHERE tenant = 13;
UPDATE branches SET country = 'DK' WHERE country = 'NO' AND staff < 10 RETURNING name;
UPDATE branches SET country = CASE country WHEN 'DK' THEN 'SE' ELSE 'DK' END, staff = staff + 1 RETURNING country, name, staff;
UPDATE readings SET sensor = sensor + 10 WHERE sensor BETWEEN 0 AND 9 RETURNING *;
UPDATE readings SET sensor = 5 WHERE value IS NULL;

[what one server refuses, nothing is moved by]
UPDATE people SET id = 1001 WHERE id = 1002;
UPDATE people SET id = NULL WHERE id = 1002;
UPDATE people SET id = CASE WHEN id > 0 THEN NULL ELSE id END;
UPDATE people SET id = 'abc' WHERE id = 1002;
UPDATE people SET id = id + 1 / (id - 1002) WHERE id > 1000;
UPDATE people SET id = 9223372036854775808 WHERE id = 1002;
UPDATE tiny SET id = 100000 WHERE v = 1;
UPDATE nicks SET nick = 'toolong' WHERE n = 3;
UPDATE plots SET id = id + 1, f = 1001;
UPDATE people SET id = 4000, nosuch = 1 WHERE id = 1002;
UPDATE people SET id = 4000 WHERE nosuch = 1;
UPDATE people SET id = 4000, id = 4001 WHERE id = 1002;
UPDATE people SET id = 4000 WHERE id = 1002 RETURNING nosuch;
UPDATE people SET id = true WHERE id = 1002;
UPDATE orders SET person_id = 55 WHERE person_id = 55;
UPDATE parcels SET tenant = 1, code = 'same' WHERE tenant > 13;

[the rows again, where they are now]
UPDATE people SET id = 1 WHERE id = 1001 RETURNING *;
SELECT id, name, age FROM people WHERE id = 1;
UPDATE people SET id = id + 1, name = 'all' RETURNING id;
DELETE FROM people WHERE id > 10000;
INSERT INTO people (id) VALUES (70001), (70002), (70003), (70004);
UPDATE people SET id = id * 2 WHERE id > 70000 RETURNING id;

[refused] refused
INSERT INTO people (id) VALUES (5000) ON CONFLICT (id) DO UPDATE SET id = 5001;
WITH m AS (UPDATE people SET id = 5000 WHERE id = 1 RETURNING *) SELECT * FROM m;
UPDATE orders SET person_id = (SELECT max(id) FROM people);
UPDATE orders SET person_id = p.id FROM people p WHERE p.age = orders.qty;
UPDATE people SET id = 5000 WHERE age = (SELECT max(age) FROM people);
