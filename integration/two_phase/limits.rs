//! Time limits and shutdown amid transactions that are on several shards.

use std::time::{Duration, Instant};

use ringway::demo::captive::Signal;

use super::blocks::{ask, keys, script};
use super::{ALL, PREPARED, World, error};
use crate::support::process::LIMIT;
use crate::support::wait_until;
use crate::support::wire::{Wire, digest, frame, parse, unnamed};

const OPEN: &str = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
/// The limit of statements in Ringway.
const LIMITED: Duration = Duration::from_millis(500);
const VALUES: &str = "SELECT min(v) || ' ' || max(v) FROM t";

/// Updates of a row of each shard.
pub(super) fn updates(world: &World) -> Vec<String> {
    let update = |key: &String| format!("UPDATE t SET v = v + 1 WHERE k = {key}");
    keys(world).iter().map(update).collect()
}

/// A client of a shard's server.
pub(super) fn direct(world: &World, shard: usize) -> Wire {
    let primary = &world.cluster.shards[shard].primary;
    Wire::login(primary.port, "ringway", &primary.database).0
}

/// Holds `key` there until it is told to roll back.
fn hold(world: &World, shard: usize, update: &str) -> Wire {
    let mut holder = direct(world, shard);
    assert_eq!(holder.ask("BEGIN"), "BEGIN T");
    assert_eq!(holder.ask(update), "UPDATE 1 T");
    holder
}

/// As [`script`], where each statement is cancelled after `limit`: where another than `late` took as long,
/// it begins anew.
fn script_within(
    limit: Duration,
    wire: &mut Wire,
    extended: bool,
    late: &str,
    steps: &[(&str, &str)],
) {
    for _ in 0..10 {
        let is_through = steps.iter().all(|(sql, answer)| {
            let start = Instant::now();
            let found = ask(wire, extended, sql);
            let is_over = *sql != late && start.elapsed() >= limit;
            let is_slow = is_over && found.starts_with("57014 ");
            assert!(
                is_slow || found == *answer,
                "{sql}, extended: {extended}: {found}"
            );
            !is_slow
        });
        if is_through {
            return;
        }
        let ended = ask(wire, extended, "ROLLBACK");
        assert!(["ROLLBACK I", "57014 I"].contains(&&*ended), "{ended}");
    }
    panic!("other statements than {late} take too long");
}

#[test]
fn a_statement_over_its_time_fails_the_block_on_every_shard() {
    let world = World::start(2, "");
    let plain = world.ringway("plain", "", "", "");
    let keys_of_limited = format!("query_timeout_ms = {}", LIMITED.as_millis());
    let limited = world.ringway("limited", "", &keys_of_limited, "");
    world.fill(&plain, "t");
    let updates = updates(&world);
    let sleep = |key: &str| format!("SELECT pg_sleep(9) FROM t WHERE k = {key}");
    let [a, b] = &keys(&world)[..] else {
        panic!("two shards");
    };
    for proxy in [&plain, &limited] {
        let mut wire = proxy.login();
        // Ringway's limit is of every statement, the servers' is set for the late one.
        let (set, limit) = match std::ptr::eq(proxy, &plain) {
            true => (
                ("SET LOCAL statement_timeout = 150", "SET T"),
                Duration::MAX,
            ),
            false => (("SELECT 1", "1 SELECT 1 T"), LIMITED),
        };
        for extended in [false, true] {
            // On one of its shards, on all, and where one is through and the other waits for a lock.
            let both = "SELECT pg_sleep(9) FROM t".to_owned();
            for (late, held) in [
                (sleep(a), None),
                (sleep(b), None),
                (both, None),
                (ALL.to_owned(), Some(0)),
                (ALL.to_owned(), Some(1)),
            ] {
                let holder = held.map(|shard| {
                    let other = "UPDATE t SET v = 9 WHERE k = (SELECT max(k) FROM t)";
                    hold(&world, shard, other)
                });
                script_within(
                    limit,
                    &mut wire,
                    extended,
                    &late,
                    &[
                        ("BEGIN", "BEGIN T"),
                        (&updates[0], "UPDATE 1 T"),
                        (&updates[1], "UPDATE 1 T"),
                        set,
                        (&late, "57014 E"),
                        (&updates[0], "25P02 E"),
                        (&updates[1], "25P02 E"),
                        ("COMMIT", "ROLLBACK I"),
                    ],
                );
                // It is over everywhere, at once.
                assert_eq!(world.each(VALUES), ["0 0", "0 0"], "{late}");
                drop(holder);
            }
            // A savepoint before it brings all of them back.
            let late = sleep(b);
            script_within(
                limit,
                &mut wire,
                extended,
                &late,
                &[
                    ("BEGIN", "BEGIN T"),
                    (&updates[0], "UPDATE 1 T"),
                    ("SAVEPOINT s", "SAVEPOINT T"),
                    (&updates[1], "UPDATE 1 T"),
                    set,
                    (&late, "57014 E"),
                    ("ROLLBACK TO s", "ROLLBACK T"),
                    (&updates[1], "UPDATE 1 T"),
                    ("ROLLBACK", "ROLLBACK I"),
                ],
            );
        }
        assert_eq!(world.each(VALUES), ["0 0", "0 0"]);
        wait_until(LIMIT, "no open transaction", || {
            world.each(OPEN) == ["0", "0"]
        });
        script_within(limit, &mut wire, false, "", &[(ALL, "UPDATE 64 I")]);
        world.on_all("UPDATE t SET v = 0");
    }
    assert_eq!(world.each(PREPARED), ["0", "0"]);
}

#[test]
fn who_idles_in_a_transaction_leaves_nothing_on_its_shards() {
    let world = World::start(3, "");
    let proxy = world.ringway("proxy", "", "idle_transaction_timeout_ms = 2000", "");
    world.fill(&proxy, "t");
    let updates = updates(&world);
    for extended in [false, true] {
        let mut wire = proxy.login();
        let steps = [
            ("BEGIN", "BEGIN T"),
            (&updates[0], "UPDATE 1 T"),
            (&updates[1], "UPDATE 1 T"),
            ("SELECT min(v) FROM t", "0 SELECT 1 T"),
        ];
        // In one write: what idles is not this client before it is done.
        let message = |(sql, _): &(&str, &str)| match extended {
            false => frame(b'Q', format!("{sql}\0").as_bytes()),
            true => [unnamed(sql), frame(b'S', b"")].concat(),
        };
        let mut messages: Vec<_> = steps.iter().map(message).collect();
        if extended {
            // Half of a pipeline.
            messages.push(parse("", &updates[2]));
        }
        wire.send_bytes(&messages.concat());
        for (sql, answer) in steps {
            let found = digest(&wire.read_to_ready());
            assert_eq!(found, answer, "{sql}, extended: {extended}");
        }
        let said = wire.read().map(|frame| frame.code());
        assert_eq!(said.as_deref(), Some("25P03"), "extended: {extended}");
        assert_eq!(wire.read(), None);
        wait_until(LIMIT, "no open transaction", || {
            world.each(OPEN) == ["0", "0", "0"]
        });
        assert_eq!(world.each(VALUES), ["0 0", "0 0", "0 0"]);
        // The connections are as good as new.
        let mut wire = proxy.login();
        assert_eq!(wire.ask(ALL), "UPDATE 64 I");
        world.on_all("UPDATE t SET v = 0");
    }
    assert_eq!(world.each(PREPARED), ["0", "0", "0"]);
}

#[test]
fn a_shutdown_lets_blocks_end_and_rolls_back_what_does_not() {
    let world = World::start(2, "");
    let mut proxy = world.ringway_of("proxy", "", |port| {
        let config = world.config(port, "", "");
        config.replace("shutdown_timeout_s = 1", "shutdown_timeout_s = 20")
    });
    world.fill(&proxy, "t");
    let updates = updates(&world);
    let begin = |wire: &mut Wire| {
        let statements = [
            ("BEGIN", "BEGIN T"),
            (updates[0].as_str(), "UPDATE 1 T"),
            (updates[1].as_str(), "UPDATE 1 T"),
        ];
        script(wire, false, &statements);
    };
    let mut wire = proxy.login();
    begin(&mut wire);
    proxy.process.signal(Signal::Term);
    proxy.process.wait_for_log("shutting down");
    script(
        &mut wire,
        false,
        &[(&updates[0], "UPDATE 1 T"), ("COMMIT", "COMMIT I")],
    );
    assert!(proxy.process.wait_for_end().success());
    assert_eq!(world.each("SELECT max(v) FROM t"), ["2", "1"]);
    world.on_all("UPDATE t SET v = 0");
    // One idles in its transaction, another one's statement takes longer.
    let mut proxy = world.ringway("again", "", "", "");
    let mut idle = proxy.login();
    begin(&mut idle);
    let mut busy = proxy.login();
    assert_eq!(busy.ask("BEGIN"), "BEGIN T");
    assert_eq!(
        busy.ask("INSERT INTO t VALUES (101, 0), (102, 0), (103, 0), (104, 0)"),
        "INSERT 0 4 T"
    );
    busy.query("SELECT pg_sleep(30) FROM t WHERE k > 100");
    proxy.process.signal(Signal::Term);
    assert!(proxy.process.wait_for_end().success());
    while idle.read().is_some() {}
    wait_until(Duration::from_secs(20), "no open transaction", || {
        let open = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass";
        world.each(open) == ["0", "0"]
    });
    assert_eq!(
        world.each("SELECT count(*) FROM t WHERE k > 100"),
        ["0", "0"]
    );
    assert_eq!(world.each(VALUES), ["0 0", "0 0"]);
    assert_eq!(world.each(PREPARED), ["0", "0"]);
}

/// Where the standby that COMMIT waits for does not come, or comes late.
#[test]
fn a_shutdown_amid_a_commit_leaves_it_on_all_shards_and_nothing_prepared() {
    let world = World::start(2, "");
    let primary = &world.cluster.shards[0].primary;
    let standby = |name: &str| {
        world.on(
            0,
            &format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"),
        );
        world.on(0, "SELECT pg_reload_conf()");
        primary
            .wait_for("SHOW synchronous_standby_names", name, LIMIT)
            .unwrap();
        world.on(0, "CHECKPOINT");
    };
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE wait_event = 'SyncRep' AND query LIKE '%''commit''%'";
    let mut proxy = world.ringway("proxy", "", "", "");
    world.fill(&proxy, "t");
    standby("nobody");
    let mut wire = proxy.login();
    script(
        &mut wire,
        false,
        &[("BEGIN", "BEGIN T"), (ALL, "UPDATE 64 T")],
    );
    wire.query("COMMIT");
    primary.wait_for(waits, "1", LIMIT).unwrap();
    proxy.process.signal(Signal::Term);
    proxy.process.wait_for_log("shutting down");
    // Longer than shutdown_timeout_s.
    std::thread::sleep(Duration::from_millis(1500));
    standby("");
    let frames = wire.read_to_ready();
    assert_eq!(digest(&frames), "COMMIT I", "{}", error(&frames));
    assert!(proxy.process.wait_for_end().success());
    assert_eq!(world.each(PREPARED), ["0", "0"]);
    assert_eq!(world.each(VALUES), ["1 1", "1 1"]);
}
