-- ringway: simple = { shard = "s1" }
CREATE TABLE simple (id int PRIMARY KEY, v text);
-- ringway: keyed = { key = "id" }
CREATE TABLE keyed (id int PRIMARY KEY, v text, n numeric(10,2));
-- ringway: blocks = { shard = "s1" }
CREATE TABLE blocks (id int PRIMARY KEY, v text);
-- ringway: ext_blocks = { shard = "s2" }
CREATE TABLE ext_blocks (id int PRIMARY KEY, v text);
-- ringway: keyed_blocks = { key = "id" }
CREATE TABLE keyed_blocks (id int PRIMARY KEY, v text);
-- ringway: pipeline = { key = "id" }
CREATE TABLE pipeline (id int PRIMARY KEY, v text);
-- ringway: copied = { shard = "s1" }
CREATE TABLE copied (id int, v text);
-- ringway: copied_ext = { shard = "s2" }
CREATE TABLE copied_ext (id int PRIMARY KEY, v text);
-- ringway: binary_values = { key = "id" }
CREATE TABLE binary_values (id int8 PRIMARY KEY, t text, b bytea, f float8, ok boolean, d date);
-- ringway: portals = { shard = "s1" }
CREATE TABLE portals (id int PRIMARY KEY);
INSERT INTO portals SELECT generate_series(1, 9);
