//! Transactions of several statements that write on several shards: blocks in both protocols, and
//! pipelines.

use std::time::Duration;

use super::{ALL, PREPARED, World, error};
use crate::support::wire::{Wire, digest};

const TOTAL: &str = "SELECT coalesce(sum(v), 0) FROM t";

/// A key of each shard.
pub(super) fn keys(world: &World) -> Vec<String> {
    world.each("SELECT min(k) FROM t")
}

pub(super) fn ask(wire: &mut Wire, extended: bool, sql: &str) -> String {
    match extended {
        false => wire.ask(sql),
        true => wire.ask_extended(&[sql]),
    }
}

pub(super) fn script(wire: &mut Wire, extended: bool, steps: &[(&str, &str)]) {
    for (sql, answer) in steps {
        assert_eq!(
            ask(wire, extended, sql),
            *answer,
            "{sql}, extended: {extended}"
        );
    }
}

pub(super) fn decisions(world: &World) -> String {
    world
        .each("SELECT count(*) FROM ringway.decision WHERE outcome = 'commit'")
        .join(" ")
}

#[test]
fn a_block_over_shards_is_committed_on_all_or_none() {
    let world = World::start(3, "");
    let proxy = world.ringway("proxy", "", "", "");
    world.fill(&proxy, "t");
    let [a, b, c] = &keys(&world)[..] else {
        panic!("three shards");
    };
    let write = |key: &str| format!("UPDATE t SET v = v + 1 WHERE k = {key}");
    let read = |key: &str| format!("SELECT v FROM t WHERE k = {key}");
    let mut wire = proxy.login();
    for extended in [false, true] {
        world.on_all("UPDATE t SET v = 0");
        // One shard writes, another reads: no decision is needed.
        let before = decisions(&world);
        script(
            &mut wire,
            extended,
            &[
                ("BEGIN", "BEGIN T"),
                (&read(b), "0 SELECT 1 T"),
                (&format!("{} FOR UPDATE", read(c)), "0 SELECT 1 T"),
                (&write(a), "UPDATE 1 T"),
                ("COMMIT", "COMMIT I"),
            ],
        );
        assert_eq!(decisions(&world), before);
        assert_eq!(world.each(TOTAL), ["1", "0", "0"]);
        // Two write, the third reads.
        script(
            &mut wire,
            extended,
            &[
                ("BEGIN", "BEGIN T"),
                (&write(c), "UPDATE 1 T"),
                (&read(a), "1 SELECT 1 T"),
                (&write(b), "UPDATE 1 T"),
                (&read(c), "1 SELECT 1 T"),
                ("COMMIT", "COMMIT I"),
            ],
        );
        assert_ne!(decisions(&world), before);
        assert_eq!(world.each(TOTAL), ["1", "1", "1"]);
        // All at once, rows of several shards, one more; and back.
        script(
            &mut wire,
            extended,
            &[
                ("BEGIN", "BEGIN T"),
                (ALL, "UPDATE 64 T"),
                (
                    "INSERT INTO t VALUES (101, 0), (102, 0), (103, 0), (104, 0)",
                    "INSERT 0 4 T",
                ),
                (&write(a), "UPDATE 1 T"),
                ("SELECT count(*) FROM t", "68 SELECT 1 T"),
                ("ROLLBACK", "ROLLBACK I"),
            ],
        );
        assert_eq!(world.each(TOTAL), ["1", "1", "1"]);
        // What fails takes all of it back.
        for failing in [
            "SELECT 1/0",
            "SELECT 1/(k - k) FROM t",
            "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)",
        ] {
            script(
                &mut wire,
                extended,
                &[
                    ("BEGIN", "BEGIN T"),
                    (&write(a), "UPDATE 1 T"),
                    (ALL, "UPDATE 64 T"),
                ],
            );
            let answer = ask(&mut wire, extended, failing);
            assert!(answer.ends_with(" E"), "{failing}: {answer}");
            script(
                &mut wire,
                extended,
                &[
                    (&write(b), "25P02 E"),
                    ("COMMIT", "ROLLBACK I"),
                    ("SELECT 1", "1 SELECT 1 I"),
                ],
            );
            assert_eq!(world.each(TOTAL), ["1", "1", "1"], "{failing}");
        }
        // DDL is a part of it.
        script(
            &mut wire,
            extended,
            &[
                ("BEGIN", "BEGIN T"),
                ("ALTER TABLE t ADD w int", "ALTER TABLE T"),
                (&write(a), "UPDATE 1 T"),
                ("ROLLBACK", "ROLLBACK I"),
            ],
        );
        let columns =
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0";
        assert_eq!(world.each(columns), ["2", "2", "2"]);
    }
    assert_eq!(world.each(PREPARED), ["0", "0", "0"]);
}

#[test]
fn savepoints_and_settings_hold_on_every_shard() {
    let world = World::start(2, "");
    let proxy = world.ringway("proxy", "", "", "");
    world.fill(&proxy, "t");
    let [a, b] = &keys(&world)[..] else {
        panic!("two shards");
    };
    let set = |key: &str, value: i32| format!("UPDATE t SET v = {value} WHERE k = {key}");
    let shown = |key: &str| format!("SELECT current_setting('work_mem') FROM t WHERE k = {key}");
    let mut wire = proxy.login();
    for extended in [false, true] {
        world.on_all("UPDATE t SET v = 0");
        script(
            &mut wire,
            extended,
            &[
                ("BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN T"),
                ("SET LOCAL work_mem = '7MB'", "SET T"),
                (&set(a, 1), "UPDATE 1 T"),
                ("SAVEPOINT s", "SAVEPOINT T"),
                (&set(a, 2), "UPDATE 1 T"),
                // Enlisted after the savepoint.
                (&set(b, 2), "UPDATE 1 T"),
                (&shown(b), "7MB SELECT 1 T"),
                ("SHOW transaction_isolation", "repeatable read SHOW T"),
                ("ROLLBACK TO s", "ROLLBACK T"),
                (&format!("SELECT v FROM t WHERE k = {b}"), "0 SELECT 1 T"),
                (&set(b, 3), "UPDATE 1 T"),
                ("SAVEPOINT u", "SAVEPOINT T"),
                (&set(b, 4), "UPDATE 1 T"),
                ("SELECT 1/0", "22012 E"),
                ("ROLLBACK TO u", "ROLLBACK T"),
                ("RELEASE s", "RELEASE T"),
                ("COMMIT", "COMMIT I"),
                (&shown(a), "4MB SELECT 1 I"),
            ],
        );
        assert_eq!(world.each(TOTAL), ["1", "3"], "extended: {extended}");
        // A setting of the session's is kept with it.
        script(
            &mut wire,
            extended,
            &[
                ("BEGIN", "BEGIN T"),
                (&set(a, 5), "UPDATE 1 T"),
                ("SAVEPOINT s", "SAVEPOINT T"),
                ("ROLLBACK TO s", "ROLLBACK T"),
                ("SET work_mem = '9MB'", "SET T"),
                (&set(b, 5), "UPDATE 1 T"),
                ("COMMIT", "COMMIT I"),
                (&shown(a), "9MB SELECT 1 I"),
                (&shown(b), "9MB SELECT 1 I"),
                ("RESET work_mem", "RESET I"),
            ],
        );
        assert_eq!(world.each(TOTAL), ["5", "5"]);
        // Written and taken back on one of them.
        script(
            &mut wire,
            extended,
            &[
                ("BEGIN", "BEGIN T"),
                (&set(a, 6), "UPDATE 1 T"),
                ("SAVEPOINT s", "SAVEPOINT T"),
                (&set(b, 6), "UPDATE 1 T"),
                ("ROLLBACK TO s", "ROLLBACK T"),
                ("COMMIT", "COMMIT I"),
            ],
        );
        assert_eq!(world.each(TOTAL), ["6", "5"]);
        assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 I");
    }
}

#[test]
fn a_commit_that_fails_on_one_shard_keeps_nothing() {
    let more = "CREATE TABLE d (k bigint PRIMARY KEY, u int,
                                CONSTRAINT late UNIQUE (u) DEFERRABLE INITIALLY DEFERRED);";
    let world = World::start(2, more);
    let proxy = world.ringway("proxy", "", "", "d = { key = \"k\" }");
    world.fill(&proxy, "t");
    let [a, b] = &keys(&world)[..] else {
        panic!("two shards");
    };
    let mut wire = proxy.login();
    let rows: Vec<_> = (1..=64).map(|k| format!("({k}, {k})")).collect();
    assert_eq!(
        wire.ask(&format!("INSERT INTO d VALUES {}", rows.join(", "))),
        "INSERT 0 64 I"
    );
    for extended in [false, true] {
        for failing in [a, b] {
            let row = world.each(&format!("SELECT max(k) FROM d WHERE k <> {failing}"));
            let at = usize::from(failing == b);
            script(
                &mut wire,
                extended,
                &[
                    ("BEGIN", "BEGIN T"),
                    (&format!("UPDATE t SET v = 1 WHERE k = {a}"), "UPDATE 1 T"),
                    (&format!("UPDATE t SET v = 1 WHERE k = {b}"), "UPDATE 1 T"),
                    (
                        &format!("UPDATE d SET u = {} WHERE k = {failing}", row[at]),
                        "UPDATE 1 T",
                    ),
                    ("COMMIT", "23505 I"),
                    ("SELECT 1", "1 SELECT 1 I"),
                ],
            );
            assert_eq!(world.each(TOTAL), ["0", "0"]);
        }
        // What PostgreSQL cannot prepare, on the shard that prepares.
        world.on(
            1,
            "CREATE OR REPLACE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN PERFORM pg_notify(''c'', ''''); RETURN NULL; END';
             CREATE OR REPLACE TRIGGER tell AFTER UPDATE ON t FOR EACH STATEMENT EXECUTE FUNCTION tell()",
        );
        script(
            &mut wire,
            extended,
            &[("BEGIN", "BEGIN T"), (ALL, "UPDATE 64 T")],
        );
        wire.query("COMMIT");
        let said = error(&wire.read_to_ready());
        assert!(
            said.starts_with("0A000: cannot PREPARE a transaction that has executed"),
            "{said}"
        );
        assert!(said.contains("Nothing of it was kept"), "{said}");
        world.on(1, "DROP TRIGGER tell ON t");
        assert_eq!(world.each(TOTAL), ["0", "0"]);
    }
    assert_eq!(world.each(PREPARED), ["0", "0"]);
    assert_eq!(wire.ask(ALL), "UPDATE 64 I", "nothing is locked");
}

#[test]
fn notifications_are_sent_with_the_decision_or_not_at_all() {
    let world = World::start(2, "");
    let proxy = world.ringway("proxy", "", "", "");
    world.fill(&proxy, "t");
    let [a, b] = &keys(&world)[..] else {
        panic!("two shards");
    };
    let mut listener = proxy.login();
    assert_eq!(listener.ask("LISTEN c"), "LISTEN I");
    world.on(
        1,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';
         CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW WHEN (NEW.v = 13) EXECUTE FUNCTION fail()",
    );
    let mut wire = proxy.login();
    for (value, notification, end) in [(13, "never", "P0001 I"), (1, "told", "COMMIT I")] {
        script(
            &mut wire,
            false,
            &[
                ("BEGIN", "BEGIN T"),
                (&format!("NOTIFY c, '{notification}'"), "NOTIFY T"),
                (
                    &format!("UPDATE t SET v = {value} WHERE k = {b}"),
                    "UPDATE 1 T",
                ),
                (&format!("UPDATE t SET v = 1 WHERE k = {a}"), "UPDATE 1 T"),
                ("COMMIT", end),
            ],
        );
    }
    let told = listener.read().unwrap();
    assert!(
        String::from_utf8_lossy(&told.body).contains("told"),
        "the first was taken back"
    );
}

#[test]
fn a_pipeline_over_shards_is_one_transaction() {
    let world = World::start(2, "");
    let proxy = world.ringway("proxy", "", "", "");
    world.fill(&proxy, "t");
    let [a, b] = &keys(&world)[..] else {
        panic!("two shards");
    };
    let [on_a, on_b] = [a, b].map(|key| format!("UPDATE t SET v = v + 1 WHERE k = {key}"));
    let read = format!("SELECT v FROM t WHERE k = {a}");
    let mut wire = proxy.login();
    let before = decisions(&world);
    let answer = wire.ask_extended(&[&on_a, &on_b, &read]);
    assert_eq!(answer, "UPDATE 1 UPDATE 1 1 SELECT 1 I");
    assert_eq!(world.each(TOTAL), ["1", "1"]);
    assert_ne!(decisions(&world), before);
    // Together with what runs on all of them, whatever comes first.
    let answer = wire.ask_extended(&[&on_a, ALL, &on_b]);
    assert_eq!(answer, "UPDATE 1 UPDATE 64 UPDATE 1 I");
    let answer = wire.ask_extended(&[ALL, &on_b]);
    assert_eq!(answer, "UPDATE 64 UPDATE 1 I");
    let after = world.each(TOTAL);
    // What fails takes all of it back.
    for texts in [
        &[&on_a, &on_b, "SELECT 1/0"][..],
        &[&on_b, &on_a, "SELECT 1/(k - k) FROM t", &on_a],
        &[ALL, "SELECT 1/0"],
        &[&on_a, ALL, "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)"],
        &[&on_a, &on_b, "SAVEPOINT s"],
    ] {
        let answer = wire.ask_extended(texts);
        assert!(
            ["22012 I", "23505 I", "25P01 I"]
                .iter()
                .any(|end| answer.ends_with(end)),
            "{texts:?}: {answer}"
        );
        assert_eq!(world.each(TOTAL), after, "{texts:?}");
        assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 I");
    }
    // BEGIN makes a block of it, COMMIT ends it early.
    assert_eq!(
        wire.ask_extended(&[&on_a, &on_b, "BEGIN"]),
        "UPDATE 1 UPDATE 1 BEGIN T"
    );
    assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
    assert_eq!(world.each(TOTAL), after);
    let answer = wire.ask_extended(&[&on_a, &on_b, "COMMIT", "SELECT 1/0"]);
    assert!(answer.ends_with("COMMIT 22012 I"), "{answer}");
    assert_ne!(world.each(TOTAL), after);
    assert_eq!(world.each(PREPARED), ["0", "0"]);
}

#[test]
fn a_second_shard_is_refused_where_they_cannot_commit_together() {
    let world = World::start(2, "");
    let proxy = world.ringway("proxy", "", "", "");
    world.fill(&proxy, "t");
    let [a, b] = &keys(&world)[..] else {
        panic!("two shards");
    };
    let [on_a, on_b] = [a, b].map(|key| format!("UPDATE t SET v = v + 1 WHERE k = {key}"));
    world.on(1, "DROP SCHEMA ringway CASCADE");
    proxy
        .process
        .wait_for_log("writes on several shards are refused");
    for extended in [false, true] {
        let mut wire = proxy.login();
        script(
            &mut wire,
            extended,
            &[
                ("BEGIN", "BEGIN T"),
                (&on_a, "UPDATE 1 T"),
                (&on_b, "55000 E"),
                ("COMMIT", "ROLLBACK I"),
                ("BEGIN", "BEGIN T"),
                (ALL, "55000 E"),
                ("COMMIT", "ROLLBACK I"),
            ],
        );
        assert_eq!(wire.ask_extended(&[&on_a, &on_b]), "UPDATE 1 55000 I");
        assert_eq!(world.each(TOTAL), ["0", "0"]);
    }
    // One after the other, where that is wanted.
    let best = world.ringway("best", "", "multi_shard_commit = \"best_effort\"", "");
    let mut wire = best.login();
    script(
        &mut wire,
        false,
        &[
            ("BEGIN", "BEGIN T"),
            (&on_a, "UPDATE 1 T"),
            (&on_b, "UPDATE 1 T"),
            ("COMMIT", "COMMIT I"),
        ],
    );
    assert_eq!(world.each(TOTAL), ["1", "1"]);
    world.on(
        1,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';
         CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION fail()",
    );
    script(
        &mut wire,
        false,
        &[
            ("BEGIN", "BEGIN T"),
            (&on_a, "UPDATE 1 T"),
            (&on_b, "UPDATE 1 T"),
        ],
    );
    wire.query("COMMIT");
    let frames = wire.read_to_ready();
    let said = error(&frames);
    assert!(
        said.starts_with("P0001: no It took effect on 127.0.0.1:"),
        "{said}"
    );
    assert!(digest(&frames).ends_with(" I"));
    assert_eq!(world.each(TOTAL), ["2", "1"]);
}

#[test]
fn a_client_that_is_killed_amid_its_commit_hears_what_became_of_it() {
    let world = World::start(2, "");
    let proxy = world.ringway("proxy", "", "", "");
    world.fill(&proxy, "t");
    // The decision is made, and waits for a standby that does not come.
    world.on(0, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    world.on(0, "SELECT pg_reload_conf()");
    let primary = &world.cluster.shards[0].primary;
    let limit = Duration::from_secs(20);
    primary
        .wait_for("SHOW synchronous_standby_names", "nobody", limit)
        .unwrap();
    world.on(0, "CHECKPOINT");
    let mut wire = proxy.login();
    script(
        &mut wire,
        false,
        &[("BEGIN", "BEGIN T"), (ALL, "UPDATE 64 T")],
    );
    wire.query("COMMIT");
    let waits = "FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%''commit''%'";
    primary
        .wait_for(&format!("SELECT count(*) {waits}"), "1", limit)
        .unwrap();
    proxy.show("KILL shop");
    world.on(0, "ALTER SYSTEM RESET synchronous_standby_names");
    world.on(0, "SELECT pg_reload_conf()");
    assert_eq!(wire.read().map(|frame| frame.tag), Some(b'C'), "COMMIT");
    while wire.read().is_some() {}
    proxy.show("RESUME shop");
    assert_eq!(world.each(PREPARED), ["0", "0"]);
    assert_eq!(world.each("SELECT min(v) FROM t"), ["1", "1"]);
    // A client that is gone by itself: its commit is finished all the same.
    let mut wire = proxy.login();
    script(
        &mut wire,
        false,
        &[("BEGIN", "BEGIN T"), (ALL, "UPDATE 64 T")],
    );
    wire.query("COMMIT");
    drop(wire);
    super::wait_until(limit, "all or nothing", || {
        let found = world.each("SELECT min(v) FROM t");
        world.each(PREPARED) == ["0", "0"] && (found == ["1", "1"] || found == ["2", "2"])
    });
}

#[test]
fn a_deadlock_over_shards_ends() {
    let world = World::start(2, "");
    let settings = "cross_shard_deadlock_timeout_ms = 300";
    let proxy = world.ringway("proxy", "", settings, "");
    world.fill(&proxy, "t");
    let [a, b] = &keys(&world)[..] else {
        panic!("two shards");
    };
    let [on_a, on_b] = [a, b].map(|key| format!("UPDATE t SET v = v + 1 WHERE k = {key}"));
    let (mut one, mut other) = (proxy.login(), proxy.login());
    // Against another block, and against a statement that runs on all shards by itself.
    for crossing in [&on_a, ALL] {
        let alone = crossing == ALL;
        script(
            &mut one,
            false,
            &[("BEGIN", "BEGIN T"), (&on_b, "UPDATE 1 T")],
        );
        if !alone {
            script(
                &mut other,
                false,
                &[("BEGIN", "BEGIN T"), (&on_a, "UPDATE 1 T")],
            );
        }
        other.query(if alone { crossing } else { &on_b });
        if alone {
            super::wait_until(Duration::from_secs(10), "a wait", || {
                world.on(
                    1,
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
                ) == "1"
            });
        }
        one.query(&on_a);
        let (first, second) = (one.read_to_ready(), other.read_to_ready());
        let said = [&first, &second].map(|frames| error(frames));
        let failed: Vec<_> = said
            .iter()
            .filter(|said| said.starts_with("40P01"))
            .collect();
        assert_eq!(failed.len(), 1, "{said:?}");
        assert!(
            failed[0].contains("due to a deadlock over shards"),
            "{said:?}"
        );
        for wire in [&mut one, &mut other] {
            wire.ask("COMMIT");
            assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 I");
        }
        assert_eq!(world.each(PREPARED), ["0", "0"]);
    }
    // A wait on the only shard of a transaction is no such thing.
    script(
        &mut one,
        false,
        &[("BEGIN", "BEGIN T"), (&on_a, "UPDATE 1 T")],
    );
    other.query(&on_a);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(one.ask("COMMIT"), "COMMIT I");
    assert_eq!(digest(&other.read_to_ready()), "UPDATE 1 I");
}
