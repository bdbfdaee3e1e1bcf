//! UPDATE of the sharding key: rows move, or stay where they are with all that was.

use super::{PREPARED, RECOVERED, Wire, World, error};

/// Two keys of table `t`, one of each shard.
fn keys(world: &World) -> (String, String) {
    let least = |shard| world.on(shard, "SELECT min(k) FROM t");
    (least(0), least(1))
}

const TABLES: &str = "
CREATE TABLE r (k bigint PRIMARY KEY);
CREATE TABLE parent (k bigint PRIMARY KEY, to_r bigint REFERENCES r);
CREATE TABLE later (k bigint REFERENCES parent DEFERRABLE, n int, PRIMARY KEY (k, n));
CREATE TABLE at_once (k bigint REFERENCES parent, n int);
CREATE TABLE by_r (k bigint REFERENCES r, n int);
CREATE TABLE made (id bigint GENERATED ALWAYS AS IDENTITY, k bigint PRIMARY KEY, v int DEFAULT 9,
    twice bigint GENERATED ALWAYS AS (k * 2) STORED, gone int, note varchar(4));
ALTER TABLE made DROP COLUMN gone;
CREATE TABLE parts (k bigint, n int, v text, PRIMARY KEY (k, n)) PARTITION BY LIST (n);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 (v text, n int NOT NULL, k bigint NOT NULL);
ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES IN (2);
CREATE TABLE touched (k bigint PRIMARY KEY, name text, changed text);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF (NEW.name <> OLD.name) THEN NEW.changed := upper(OLD.name); END IF; RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON touched FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE doubled (id bigint, k bigint GENERATED ALWAYS AS (id * 2) STORED PRIMARY KEY, v int);
CREATE TABLE wide (k bigint, n int, v text);
CREATE TABLE log (k bigint);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO log VALUES (NEW.k); RETURN NEW; END $$;
CREATE FUNCTION hidden(bigint) RETURNS bigint LANGUAGE sql AS 'INSERT INTO log VALUES ($1) RETURNING k';
CREATE FUNCTION calls() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.k := hidden(NEW.k); RETURN NEW; END $$;
CREATE TABLE writing (k bigint); CREATE TRIGGER log BEFORE UPDATE ON writing FOR EACH ROW EXECUTE FUNCTION log();
CREATE TABLE calling (k bigint); CREATE TRIGGER calls BEFORE UPDATE ON calling FOR EACH ROW EXECUTE FUNCTION calls();
CREATE TABLE inserting (k bigint); CREATE TRIGGER ins BEFORE INSERT ON inserting FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE after (k bigint); CREATE TRIGGER aft AFTER UPDATE ON after FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE ruled (k bigint); CREATE RULE rule AS ON DELETE TO ruled DO INSTEAD NOTHING;
CREATE TABLE rls (k bigint); ALTER TABLE rls ENABLE ROW LEVEL SECURITY;
CREATE TABLE above (k bigint); CREATE TABLE below () INHERITS (above);
CREATE TABLE typed (k bigint, c regclass);
CREATE TABLE named (k bigint CONSTRAINT same REFERENCES parent DEFERRABLE);
CREATE TABLE alike (k bigint CONSTRAINT same REFERENCES parent DEFERRABLE INITIALLY DEFERRED);";

const SHARDED: [&str; 19] = [
    "parent",
    "later",
    "at_once",
    "by_r",
    "made",
    "parts",
    "touched",
    "doubled",
    "wide",
    "writing",
    "calling",
    "inserting",
    "after",
    "ruled",
    "rls",
    "above",
    "typed",
    "named",
    "alike",
];

fn tables() -> String {
    let sharded = SHARDED.map(|table| format!("{table} = {{ key = \"k\" }}\n"));
    format!("r = \"reference\"\n{}", sharded.concat())
}

#[test]
fn rows_move_with_all_that_belongs_to_them() {
    let world = World::start(2, TABLES);
    let proxy = world.ringway("proxy", "", "", &tables());
    world.fill(&proxy, "t");
    let (here, there) = keys(&world);
    let mut wire = proxy.login();
    let mut ask = |sql: &str| wire.ask(&sql.replace("@a", &here).replace("@b", &there));
    for sql in [
        "INSERT INTO r VALUES (@a), (@b)",
        "INSERT INTO parent VALUES (@a, @a), (@b, @b)",
        "INSERT INTO later VALUES (@a, 1), (@a, 2)",
        "INSERT INTO by_r VALUES (@a, 1)",
        "INSERT INTO parts VALUES (@a, 1, 'one'), (@a, 2, NULL)",
        "INSERT INTO touched VALUES (@a, 'old')",
    ] {
        assert!(ask(sql).starts_with("INSERT 0 "), "{sql}");
    }
    world.on(
        0,
        &format!("INSERT INTO made (id, k, v, note) OVERRIDING SYSTEM VALUE VALUES (77, {here}, 0, 'abc ')"),
    );
    // Foreign keys are checked where the rows go.
    let moved = "UPDATE later SET k = @b WHERE k = @a RETURNING n";
    assert_eq!(ask(moved), "1 2 UPDATE 2 I");
    assert_eq!(world.each("SELECT count(*) FROM later"), ["0", "2"]);
    assert_eq!(ask("UPDATE by_r SET k = @b WHERE k = @a"), "UPDATE 1 I");
    assert_eq!(world.each("SELECT count(*) FROM by_r"), ["0", "1"]);
    let made = "UPDATE made SET k = @b WHERE k = @a RETURNING concat_ws(' ', id, v, twice - 2 * @b, note || '.')";
    assert_eq!(ask(made), "77 0 0 abc . UPDATE 1 I");
    let found = world.each("SELECT concat_ws(' ', id, v, twice - 2 * k, note || '.') FROM made");
    assert_eq!(found, ["", "77 0 0 abc ."]);
    assert_eq!(
        ask("UPDATE parts SET k = @b, v = v || '!' WHERE k = @a"),
        "UPDATE 2 I"
    );
    let found = world
        .each("SELECT string_agg(concat(tableoid::regclass, ' ', v), ' ' ORDER BY n) FROM parts");
    assert_eq!(found, ["", "parts_1 one! parts_2 "]);
    let touched = "UPDATE touched SET k = @b, name = 'new' WHERE k = @a RETURNING changed";
    assert_eq!(ask(touched), "OLD UPDATE 1 I");
    assert_eq!(world.each("SELECT changed FROM touched"), ["", "OLD"]);
    // A key that is computed from what is set.
    let [here, there] = [0, 1].map(|at| world.on(at, "SELECT min(k) FROM t WHERE k % 2 = 0"));
    world.on(0, &format!("INSERT INTO doubled VALUES ({here} / 2)"));
    let doubled = |sql: &str| sql.replace("@a", &here).replace("@b", &there);
    for sql in [
        "UPDATE doubled SET id = @b / 2 WHERE k = @a",
        "UPDATE doubled SET v = 3 WHERE k = @b",
    ] {
        assert_eq!(ask(&doubled(sql)), "UPDATE 1 I", "{sql}");
    }
    assert_eq!(
        world.each("SELECT k FROM doubled WHERE v = 3"),
        ["", &there]
    );
    assert_eq!(world.each(PREPARED), ["0", "0"]);

    // Rows that stay are updated where they are, whatever the table has.
    assert_eq!(
        ask("UPDATE parent SET k = @b, to_r = @a WHERE k = @b"),
        "UPDATE 1 I"
    );
}

#[test]
fn an_error_where_rows_arrive_keeps_everything() {
    let world = World::start(2, TABLES);
    let limit = "cross_shard_deadlock_timeout_ms = 300";
    let proxy = world.ringway("proxy", "", limit, &tables());
    world.fill(&proxy, "t");
    let (here, there) = keys(&world);
    let mut wire = proxy.login();
    let fails = |wire: &mut Wire, sql: &str, wanted: &str| {
        let sql = sql.replace("@a", &here).replace("@b", &there);
        wire.query(&sql);
        let frames = wire.read_to_ready();
        let said = error(&frames);
        assert!(said.starts_with(wanted), "{sql}: {said}");
        assert_eq!(
            frames.last().map(|frame| frame.body.as_slice()),
            Some(&b"I"[..])
        );
    };
    let before = world.each("SELECT sum(k) || ' ' || count(*) FROM t");
    fails(
        &mut wire,
        "UPDATE t SET k = @b, v = 5 WHERE k = @a",
        "23505: ",
    );
    fails(&mut wire, "UPDATE t SET k = k % 3 + 1000", "23505: ");
    assert_eq!(
        world.each("SELECT sum(k) || ' ' || count(*) FROM t"),
        before
    );
    world.on(0, &format!("INSERT INTO r VALUES ({here}); INSERT INTO parent VALUES ({here}); INSERT INTO later VALUES ({here}, 1)"));
    // Deferred: it is checked at the commit.
    fails(&mut wire, "UPDATE later SET k = @b WHERE k = @a", "23503: ");
    assert_eq!(world.each("SELECT count(*) FROM later"), ["1", "0"]);
    assert_eq!(world.each(PREPARED), ["0", "0"]);

    // Its servers do not see that it may be one.
    let mut blocker = Wire::login(world.cluster.shards[1].primary.port, "ringway", "shop").0;
    assert_eq!(
        blocker.ask(&format!("BEGIN; DELETE FROM t WHERE k = {there}")),
        "BEGIN DELETE 1 T"
    );
    fails(
        &mut wire,
        "UPDATE t SET k = @b WHERE k = @a",
        "40P01: canceling statement due to a possible deadlock over shards",
    );
    assert_eq!(blocker.ask("ROLLBACK"), "ROLLBACK I");
    assert_eq!(
        world.each("SELECT sum(k) || ' ' || count(*) FROM t"),
        before
    );
}

#[test]
fn a_block_fails_as_a_whole_where_rows_cannot_move() {
    let world = World::start(2, TABLES);
    let limit = "cross_shard_deadlock_timeout_ms = 300";
    let proxy = world.ringway("proxy", "", limit, &tables());
    world.fill(&proxy, "t");
    let (here, there) = keys(&world);
    world.on(
        0,
        &format!("INSERT INTO parent VALUES ({here}); INSERT INTO later VALUES ({here}, 1)"),
    );
    let rows = "SELECT sum(k) || ' ' || sum(v) || ' ' || count(*) FROM t";
    let before = world.each(rows);
    let mut wire = proxy.login();
    let sql = |sql: &str| sql.replace("@a", &here).replace("@b", &there);
    // What arrives waits for another client.
    let mut blocker = Wire::login(world.cluster.shards[1].primary.port, "ringway", "shop").0;
    blocker.ask(&sql("BEGIN; DELETE FROM t WHERE k = @b"));
    for (moves, wanted) in [
        (
            "UPDATE t SET k = @b WHERE k = @a",
            "40P01: canceling statement due to a possible deadlock over shards",
        ),
        // Nobody else knows yet whether that is in the way.
        (
            "ALTER TABLE t ADD w int; UPDATE t SET k = k + 100",
            "0A000: an update of the sharding key cannot follow DDL in its transaction",
        ),
        (
            "UPDATE later SET k = @b WHERE k = @a",
            "23503: insert or update on table \"later\"",
        ),
    ] {
        assert_eq!(wire.ask("BEGIN"), "BEGIN T");
        let wrote = wire.ask(&sql("UPDATE t SET v = v + 1 WHERE k = @a"));
        assert_eq!(wrote, "UPDATE 1 T");
        assert_eq!(wire.ask("SAVEPOINT a"), "SAVEPOINT T");
        let moves = sql(moves);
        let (first, last) = moves.split_once("; ").unwrap_or(("", &moves));
        wire.ask(first);
        wire.query(last);
        let frames = wire.read_to_ready();
        let said = error(&frames);
        assert!(said.starts_with(wanted), "{moves}: {said}");
        assert_eq!(frames.last().unwrap().body, b"E");
        if wanted.starts_with("23503") {
            let named = frames
                .iter()
                .find(|frame| frame.tag == b'E')
                .unwrap()
                .fields();
            assert_eq!(named[&'n'], "later_k_fkey");
            assert_eq!(named[&'t'], "later");
        }
        assert_eq!(wire.ask("SELECT 1"), "25P02 E");
        blocker.ask("ROLLBACK");
        assert_eq!(wire.ask("ROLLBACK TO a"), "ROLLBACK T");
        assert_eq!(
            wire.ask("SELECT sum(v) || '/' || count(*) FROM t"),
            "1/64 SELECT 1 T",
            "{moves}"
        );
        // What was in the way of all that follows DDL is not looked into.
        let again = match wanted.starts_with("0A000") {
            true => ["0A000 E", "25P02 E"],
            false => ["UPDATE 1 T"; 2],
        };
        let there_and_back = [
            "UPDATE t SET k = 2000 WHERE k = @a",
            "UPDATE t SET k = @a WHERE k = 2000",
        ];
        assert_eq!(there_and_back.map(|moves| wire.ask(&sql(moves))), again);
        assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
        assert_eq!(world.each(rows), before, "{moves}");
    }
}

#[test]
fn rows_that_move_are_held_within_the_memory_of_a_statement() {
    let world = World::start(2, TABLES);
    let proxy = world.ringway("proxy", "", "", &tables());
    world.fill(&proxy, "t");
    let (here, there) = keys(&world);
    let sql = |sql: &str| sql.replace("@a", &here).replace("@b", &there);
    // More than a shard's answer to another statement may have.
    let wide = "INSERT INTO wide SELECT @a, n, repeat('x', 1 << 20) FROM generate_series(1, 18) n";
    world.on(0, &sql(wide));
    let there = "UPDATE wide SET k = @b WHERE k = @a";
    let mut wire = proxy.login();
    assert_eq!(wire.ask(&sql(there)), "UPDATE 18 I");
    let rows = "SELECT count(DISTINCT n) || ' ' || coalesce(sum(length(v)), 0) FROM wide";
    let moved = ["0 0", "18 18874368"];
    assert_eq!(world.each(rows), moved);
    proxy.show("SET merge_memory_mib = 1");
    let mut wire = proxy.login();
    for (begin, ready) in [("", "I"), ("BEGIN", "E")] {
        for (back, few) in [
            (
                "UPDATE wide SET k = @a WHERE k = @b",
                "UPDATE wide SET k = @a WHERE n = 0 AND k = @b",
            ),
            (
                "UPDATE wide SET k = k RETURNING v",
                "UPDATE wide SET k = k WHERE n = 0 RETURNING v",
            ),
        ] {
            wire.ask(begin);
            assert!(wire.ask(&sql(few)).starts_with("UPDATE 0 "));
            wire.query(&sql(back));
            let frames = wire.read_to_ready();
            let said = error(&frames);
            assert!(said.starts_with("53200: "), "{said}");
            assert!(said.contains("merge_memory_mib"), "{said}");
            assert_eq!(frames.last().unwrap().body, ready.as_bytes());
            wire.ask("ROLLBACK");
            assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 I");
            assert_eq!(world.each(rows), moved);
        }
    }
}

#[test]
fn tables_whose_rows_cannot_move_say_why() {
    let world = World::start(2, TABLES);
    let proxy = world.ringway("proxy", "", "", &tables());
    let mut wire = proxy.login();
    for (table, why) in [
        (
            "parent",
            "foreign key at_once_k_fkey of at_once refers to it",
        ),
        (
            "at_once",
            "foreign key at_once_k_fkey of it is not deferrable",
        ),
        ("writing", "trigger log fires for more"),
        ("calling", "trigger calls fires for more"),
        ("inserting", "trigger ins fires for more"),
        ("after", "trigger aft fires for more"),
        ("ruled", "rule rule is on its table"),
        ("rls", "its table has row-level security"),
        ("above", "other tables inherit"),
        ("typed", "column c holds the OID"),
        (
            "named",
            "another constraint with the name of its foreign key same",
        ),
    ] {
        wire.query(&format!("UPDATE {table} SET k = k + 1"));
        let said = error(&wire.read_to_ready());
        assert!(
            said.starts_with("0A000: sharding key k cannot be updated"),
            "{table}: {said}"
        );
        assert!(said.contains(why), "{table}: {said}");
    }
    // What changes is seen.
    let wanted = "0A000: sharding key k cannot be updated";
    for (ddl, refused) in [
        ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", true),
        ("ALTER TABLE t DISABLE ROW LEVEL SECURITY", false),
        (
            "CREATE TRIGGER log AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION log()",
            true,
        ),
        ("DROP TRIGGER log ON t", false),
        ("ALTER TABLE by_r ADD FOREIGN KEY (n) REFERENCES t", true),
    ] {
        wire.query(ddl);
        wire.read_to_ready();
        wire.query("UPDATE t SET k = k + 1 WHERE v = 7");
        let said = error(&wire.read_to_ready());
        assert_eq!(said.starts_with(wanted), refused, "{ddl}: {said}");
    }
}

#[test]
fn kills_while_rows_move_lose_and_double_none() {
    const STEPS: [(&str, &str); 2] = [("prepared", "0"), ("decided", "64")];
    let tables =
        STEPS.map(|(step, _)| format!("CREATE TABLE {step} (k bigint PRIMARY KEY, v int);"));
    let world = World::start(2, &tables.concat());
    let keys = STEPS.map(|(step, _)| format!("{step} = {{ key = \"k\" }}\n"));
    let survivor = world.ringway("survivor", "", "", &keys.concat());
    for (step, _) in STEPS {
        world.fill(&survivor, step);
        let mut victim = world.ringway(step, &format!("{step}:kill"), "", &keys.concat());
        let mut wire = victim.login();
        assert_eq!(wire.ask("BEGIN"), "BEGIN T");
        let moved = format!("UPDATE {step} SET k = k + 1000");
        assert_eq!(wire.ask(&moved), "UPDATE 64 T");
        wire.query("COMMIT");
        assert_eq!(wire.read_to_ready(), [], "{step}: no answer");
        assert!(!victim.process.wait_for_end().success());
    }
    world.wait_recovered(RECOVERED);
    let mut wire = survivor.login();
    for (step, moved) in STEPS {
        let count = format!("SELECT count(*) FROM {step}");
        assert_eq!(wire.ask(&count), "64 SELECT 1 I", "{step}");
        let found = wire.ask(&format!("{count} WHERE k > 1000"));
        assert_eq!(found, format!("{moved} SELECT 1 I"), "{step}");
        // Each is found where its key belongs.
        for k in [1, 33, 64] {
            let k = if moved == "0" { k } else { k + 1000 };
            let sql = format!("UPDATE {step} SET v = 1 WHERE k = {k}");
            assert_eq!(wire.ask(&sql), "UPDATE 1 I", "{step}");
        }
    }
}
