//! Statements that run on several shards at once, while something else happens: their client leaves, or
//! others are to see what they have changed.

use std::time::Duration;

use crate::sharded_copy::World;
use crate::support::wire::{Wire, frame, unnamed};

const LIMIT: Duration = Duration::from_secs(20);

/// How many statements of clients run on a shard that `like` names.
fn running(like: &str) -> String {
    format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND query LIKE '{like}' \
         AND pid <> pg_backend_pid()"
    )
}

#[test]
fn what_a_client_leaves_behind_is_cancelled_and_rolled_back() {
    let world = World::start_with("");
    let [first, second] = [0, 1].map(|at| &world.shards.shards[at].primary);
    let mut wire = world.through();
    let values: Vec<String> = (1..=20).map(|id| format!("({id}, 0)")).collect();
    assert_eq!(
        wire.ask(&format!(
            "INSERT INTO t (id, n) VALUES {}",
            values.join(", ")
        )),
        "INSERT 0 20 I"
    );
    let state = "SELECT count(*) || ' ' || sum(n) FROM t";
    let before = world.each(state);
    for (sql, like) in [
        ("UPDATE t SET n = 7", "UPDATE t%"),
        (
            "INSERT INTO t (id) VALUES (101), (102), (103), (104), (105), (106)",
            "INSERT INTO t%",
        ),
        ("ALTER TABLE t ADD COLUMN more integer", "ALTER TABLE t%"),
        ("COPY t TO STDOUT", "COPY t TO%"),
        ("COPY t FROM STDIN", "COPY t FROM%"),
    ] {
        for extended in [false, true] {
            // The second shard waits for this, which the first does not.
            let mut holder = Wire::login(second.port, "ringway", "shop").0;
            assert_eq!(holder.ask("BEGIN"), "BEGIN T");
            assert_eq!(
                holder.ask("LOCK t IN ACCESS EXCLUSIVE MODE"),
                "LOCK TABLE T"
            );
            let mut leaving = world.through();
            match extended {
                true => leaving.send_bytes(&[unnamed(sql), frame(b'S', b"")].concat()),
                false => leaving.query(sql),
            }
            second.wait_for(&running(like), "1", LIMIT).unwrap();
            drop(leaving);
            second.wait_for(&running(like), "0", LIMIT).unwrap();
            first.wait_for(&running(like), "0", LIMIT).unwrap();
            assert_eq!(holder.ask("ROLLBACK"), "ROLLBACK I");
            assert_eq!(world.each(state), before, "{sql}, extended: {extended}");
            let columns = "SELECT count(*) FROM pg_attribute WHERE attname = 'more'";
            assert_eq!(world.each(columns), ["0", "0"], "{sql}");
        }
    }
    // The data of a COPY are sent, and the second shard waits for rows of another transaction.
    let mut holder = Wire::login(second.port, "ringway", "shop").0;
    assert_eq!(holder.ask("BEGIN"), "BEGIN T");
    let same = "INSERT INTO t (id) SELECT id FROM generate_series(201, 220) AS id";
    assert_eq!(holder.ask(same), "INSERT 0 20 T");
    let mut leaving = world.through();
    leaving.query("COPY t (id) FROM STDIN");
    assert_eq!(leaving.read().map(|frame| frame.tag), Some(b'G'));
    let rows: String = (201..=220).map(|id| format!("{id}\n")).collect();
    leaving.send_bytes(&[frame(b'd', rows.as_bytes()), frame(b'c', b"")].concat());
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid'";
    second.wait_for(waits, "1", LIMIT).unwrap();
    drop(leaving);
    second.wait_for(waits, "0", LIMIT).unwrap();
    first.wait_for(&running("COPY t%"), "0", LIMIT).unwrap();
    assert_eq!(holder.ask("ROLLBACK"), "ROLLBACK I");
    assert_eq!(world.each(state), before);
}

#[test]
fn ready_for_query_waits_for_the_schema_to_be_read() {
    let world = World::start_with("schemas = { own = \"s1\" }");
    world.on_shard(1, "CREATE SCHEMA own; CREATE TABLE own.made (id bigint)");
    let known = world
        .through()
        .ask("COMMENT ON TABLE t IS 'known from here on'");
    assert_eq!(known, "COMMENT I");
    let first = &world.shards.shards[0].primary;
    let sync = frame(b'S', b"");
    let ask = |wire: &mut Wire, sql: &str, extended: bool| match extended {
        true => wire.send_bytes(&[unnamed(sql), sync.clone()].concat()),
        false => wire.query(sql),
    };
    for (at, extended, in_block) in [
        (0, false, false),
        (1, true, false),
        (2, false, true),
        (3, true, true),
    ] {
        let mut wire = world.through();
        let alter = format!("ALTER TABLE own.made ADD COLUMN c{at} bigint");
        let mut last = alter.as_str();
        if in_block {
            for sql in ["BEGIN", &alter] {
                ask(&mut wire, sql, extended);
                wire.read_to_ready();
            }
            last = "COMMIT";
        }
        // Whoever reads the schema waits for this on the other shard.
        let mut holder = Wire::login(first.port, "ringway", "shop").0;
        assert_eq!(holder.ask("BEGIN"), "BEGIN T");
        let lock = "LOCK pg_catalog.pg_description IN ACCESS EXCLUSIVE MODE";
        assert_eq!(holder.ask(lock), "LOCK TABLE T");
        ask(&mut wire, last, extended);
        let exists = format!("SELECT count(*) FROM pg_attribute WHERE attname = 'c{at}'");
        let second = &world.shards.shards[1].primary;
        second.wait_for(&exists, "1", LIMIT).unwrap();
        wire.set_limit(Duration::from_millis(300));
        while let Some(frame) = wire.try_read() {
            assert_ne!(frame.tag, b'Z', "{last}, extended: {extended}");
        }
        assert_eq!(holder.ask("ROLLBACK"), "ROLLBACK I");
        wire.set_limit(LIMIT);
        assert_eq!(
            wire.read_to_ready().last().map(|frame| frame.tag),
            Some(b'Z')
        );
    }
}

#[test]
fn what_a_user_repeats_on_every_shard_is_done_on_all_or_none() {
    let world = World::start_with("");
    let mut wire = world.through();
    let all = "/* ringway: shards=all */";
    let exists = |table: &str| format!("SELECT to_regclass('{table}') IS NOT NULL");
    let make = |table: &str| format!("{all} DO $$ BEGIN CREATE TABLE {table} (id bigint); END $$");
    assert_eq!(wire.ask(&make("one")), "DO I");
    assert_eq!(world.each(&exists("one")), ["t", "t"]);
    // The schema was read again.
    let stray = wire.ask("SELECT * FROM one");
    assert!(stray.starts_with("0A000"), "{stray}");
    assert_eq!(wire.ask_extended(&[&make("two")]), "DO I");
    assert_eq!(world.each(&exists("two")), ["t", "t"]);

    world.on_shard(1, "CREATE TABLE three (id bigint)");
    assert_eq!(wire.ask(&make("three")), "42P07 I");
    assert_eq!(world.each(&exists("three")), ["f", "t"]);
    assert_eq!(wire.ask("BEGIN"), "BEGIN T");
    assert_eq!(wire.ask(&make("four")), "DO T");
    assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
    assert_eq!(world.each(&exists("four")), ["f", "f"]);

    let rows = "CREATE FUNCTION fill() RETURNS int LANGUAGE sql AS \
                'INSERT INTO one VALUES (1), (2); SELECT 7'";
    assert_eq!(wire.ask(rows), "CREATE FUNCTION I");
    let code = "CREATE PROCEDURE fill_too() LANGUAGE sql AS 'INSERT INTO one VALUES (3)'";
    assert_eq!(wire.ask(code), "CREATE PROCEDURE I");
    assert!(wire.ask("SELECT fill()").starts_with("0A000"));
    assert_eq!(wire.ask(&format!("{all} SELECT fill()")), "7 SELECT 1 I");
    let called = format!("{all} CALL fill_too()");
    assert_eq!(wire.ask_extended(&[&called]), "CALL I");
    assert_eq!(
        world.each("SELECT string_agg(id::text, ' ' ORDER BY id) FROM one"),
        ["1 2 3", "1 2 3"]
    );
    let copied = format!("{all} CREATE TABLE copied AS SELECT id FROM one");
    assert_eq!(wire.ask(&copied), "SELECT 3 I");
    assert_eq!(world.each("SELECT count(*) FROM copied"), ["3", "3"]);
    let explained = wire.ask(&format!("{all} EXPLAIN (ROUTE) CALL fill_too()"));
    assert!(explained.contains("shards: s0, s1"), "{explained}");

    // A part of the rows would be told as if it were all.
    for sql in [
        "SELECT count(*) FROM t",
        "SELECT 1",
        "UPDATE t SET n = 1",
        "WITH w AS (INSERT INTO t VALUES (1, 1, 'x')) SELECT 1",
        "(WITH w AS (INSERT INTO t VALUES (1, 1, 'x')) SELECT 1)",
        "WITH w AS (INSERT INTO t VALUES (1, 1, 'x') RETURNING *) TABLE w",
        "EXPLAIN ANALYZE INSERT INTO t VALUES (1, 1, 'x')",
        "DELETE FROM ONLY t",
        "MERGE INTO t USING g ON t.id = g.id WHEN MATCHED THEN DELETE",
        "CREATE TEMP TABLE kept (id int)",
        "DO $$ BEGIN END $$; DO $$ BEGIN END $$",
    ] {
        let answer = wire.ask(&format!("{all} {sql}"));
        assert_eq!(answer, "0A000 I", "{sql}");
    }
    assert_eq!(wire.ask("SET ringway.route = 'shards=s1'"), "22023 I");
}

#[test]
fn lock_table_is_held_on_every_shard_up_to_the_end_of_the_block() {
    let world = World::start_with("");
    let mut wire = world.through();
    let held = "SELECT count(*) FROM pg_locks JOIN pg_class c ON c.oid = relation \
                WHERE relname = 't' AND mode = 'ShareLock' AND granted";
    for ask in [
        (|wire, sql| Wire::ask(wire, sql)) as fn(&mut Wire, &str) -> String,
        |wire, sql| wire.ask_extended(&[sql]),
    ] {
        let outside = ask(&mut wire, "LOCK TABLE t IN SHARE MODE");
        assert!(outside.starts_with("25P01"), "{outside}");
        assert_eq!(wire.ask("BEGIN"), "BEGIN T");
        let locked = ask(&mut wire, "LOCK TABLE t, r IN SHARE MODE");
        assert!(locked.ends_with("LOCK TABLE T"), "{locked}");
        assert_eq!(world.each(held), ["1", "1"]);
        let mut other = world.through();
        assert_eq!(other.ask("BEGIN"), "BEGIN T");
        let write = other.ask("LOCK TABLE t IN ROW EXCLUSIVE MODE NOWAIT");
        assert_eq!(write, "55P03 E");
        assert_eq!(other.ask("ROLLBACK"), "ROLLBACK I");
        assert_eq!(wire.ask("COMMIT"), "COMMIT I");
        assert_eq!(world.each(held), ["0", "0"]);
    }
    assert_eq!(
        wire.ask("LOCK TABLE t IN SHARE MODE; SELECT count(*) FROM t"),
        "LOCK TABLE 0 SELECT 1 I"
    );
    assert_eq!(wire.ask("BEGIN"), "BEGIN T");
    assert_eq!(wire.ask("LOCK TABLE nosuch"), "42P01 E");
}
