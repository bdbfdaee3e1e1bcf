-- What calls code or compares by rules that a statement does not show. Made where the rows of schema.sql are on
-- their shards already.
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE folded (id bigint PRIMARY KEY, word text COLLATE nocase, plain text COLLATE "C", email text UNIQUE, near double precision, n integer);
INSERT INTO folded
SELECT id, (ARRAY['Abc', 'aBC', 'abd', 'ABD', NULL, 'z'])[1 + abs(id) % 6], (ARRAY['Abc', 'aBC', 'abd', 'ABD', NULL, 'z'])[1 + abs(id) % 6],
       'e' || id, 1 + id / 1e14, abs(id) % 4 FROM people;
COMMENT ON TABLE folded IS 'ringway: key=id';
CREATE FUNCTION alike(folded) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM folded AS other WHERE other.n = $1.n';
CREATE FUNCTION beyond(integer, integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT $1 + $2 + count(*)::integer FROM folded';
CREATE OPERATOR @+@ (LEFTARG = integer, RIGHTARG = integer, FUNCTION = beyond);
CREATE FUNCTION is_few(integer) RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN RETURN $1 < (SELECT count(*) FROM folded); END';
CREATE DOMAIN fewer AS integer CHECK (is_few(VALUE));
CREATE AGGREGATE beyond_all(integer) (SFUNC = beyond, STYPE = integer, INITCOND = '0');
CREATE FUNCTION tripled(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 3';
CREATE OPERATOR <#> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4mul);
-- Of a policy the shard with a row has all rows, or it has not. (Who asks here is under no policy.)
CREATE TABLE policed (id bigint PRIMARY KEY, n integer);
INSERT INTO policed SELECT id, abs(id) % 4 FROM people;
COMMENT ON TABLE policed IS 'ringway: key=id';
ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
CREATE POLICY counts ON policed USING (n < (SELECT count(*) FROM folded));
CREATE TABLE tenanted (id bigint PRIMARY KEY, n integer);
INSERT INTO tenanted SELECT id, abs(id) % 4 FROM people;
COMMENT ON TABLE tenanted IS 'ringway: key=id';
ALTER TABLE tenanted ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tenanted USING (n > 0 AND EXISTS (SELECT 1 FROM folded AS f WHERE f.id = tenanted.id))
    WITH CHECK (n = current_setting('app.tenant', true)::integer OR id IN (SELECT person_id FROM countries));
