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

-- ringway: ordered = { shard = "s1" }
CREATE TABLE ordered (id int PRIMARY KEY, v text);
-- ringway: failing = { shard = "s2" }
CREATE TABLE failing (id int PRIMARY KEY, v text);
-- ringway: implicit = { shard = "s1" }
CREATE TABLE implicit (id int PRIMARY KEY, v text);
-- ringway: interleaved = { shard = "s2" }
CREATE TABLE interleaved (id int PRIMARY KEY);
INSERT INTO interleaved SELECT generate_series(1, 9);
-- ringway: several = { shard = "s1" }
CREATE TABLE several (id int PRIMARY KEY, v text);
-- ringway: copied_odd = { shard = "s1" }
CREATE TABLE copied_odd (id int, v text, w int CHECK (w > 0));
-- ringway: copied_piped = { shard = "s2" }
CREATE TABLE copied_piped (id int PRIMARY KEY, v text);
-- ringway: noticed = { shard = "s1" }
CREATE TABLE noticed (id int PRIMARY KEY);
CREATE FUNCTION notice_row() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE NOTICE '% % of row %', TG_NAME, TG_OP, NEW.id; RETURN NEW; END $$;
CREATE TRIGGER at_once BEFORE INSERT ON noticed FOR EACH ROW EXECUTE FUNCTION notice_row();
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON noticed DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION notice_row();
-- ringway: deferred = { shard = "s2" }
CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
-- ringway: copied_cancel = { shard = "s1" }
CREATE TABLE copied_cancel (id int, v text);
-- ringway: pipelined = { shard = "s1" }
CREATE TABLE pipelined (k int);
-- ringway: scattered = { key = "id" }
CREATE TABLE scattered (id int PRIMARY KEY, n int, v text);
