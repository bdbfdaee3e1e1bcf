//! Servers that refuse, die and come back; pools that are full; configurations that are wrong.

use std::process::Command;
use std::time::Duration;

use ringway::demo::captive::{Spec, StopMode};

use crate::sessions::pooler;
use crate::support;
use crate::support::wire::{Frame, Wire, frame};

const LIMIT: Duration = Duration::from_secs(20);

fn login(port: u16) -> Wire {
    Wire::login(port, "ringway", "shop").0
}

/// SQLSTATE of the answer, or the value of its first row.
fn answer(frames: &[Frame]) -> String {
    let error = frames.iter().find(|frame| frame.tag == b'E');
    let row = frames.iter().find(|frame| frame.tag == b'D');
    match (error, row) {
        (Some(error), _) => error.code(),
        (None, Some(row)) => String::from_utf8_lossy(&row.body[6..]).into_owned(),
        (None, None) => String::new(),
    }
}

fn ask(wire: &mut Wire, sql: &str) -> String {
    wire.query(sql);
    answer(&wire.read_to_ready())
}

#[test]
fn a_stopped_server_is_told_and_found_again() {
    let mut cluster = support::cluster(&Spec::default());
    let ringway = pooler(&cluster, "checkout_timeout_ms = 300\n");
    let mut wire = login(ringway.port());
    assert_eq!(ask(&mut wire, "SELECT 1"), "1");
    cluster.shards[0].primary.stop(StopMode::Fast).unwrap();
    let code = ask(&mut wire, "SELECT 1");
    assert!(
        ["08001", "08006", "57P03"].contains(&code.as_str()),
        "{code}"
    );
    cluster.shards[0].primary.start().unwrap();
    support::wait_until(LIMIT, "the server to be found again", || {
        ask(&mut wire, "SELECT 2") == "2"
    });
}

#[test]
fn a_full_pool_says_so() {
    let cluster = support::cluster(&Spec::default());
    let ringway = pooler(&cluster, "checkout_timeout_ms = 300\n");
    let mut holders = [login(ringway.port()), login(ringway.port())];
    for holder in &mut holders {
        ask(holder, "BEGIN");
        assert_eq!(ask(holder, "SELECT 1"), "1");
    }
    let mut late = login(ringway.port());
    assert_eq!(ask(&mut late, "SELECT 1"), "53300");
    ask(&mut holders[0], "COMMIT");
    assert_eq!(ask(&mut late, "SELECT 1"), "1");
}

#[test]
fn a_backend_that_is_terminated_ends_its_own_statement_only() {
    let cluster = support::cluster(&Spec::default());
    let primary = &cluster.shards[0].primary;
    let ringway = pooler(&cluster, "");
    let (mut victim, mut neighbour) = (login(ringway.port()), login(ringway.port()));
    assert_eq!(ask(&mut neighbour, "SELECT 'n'"), "n");
    victim.query("SELECT pg_sleep(60)");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'";
    primary.wait_for(running, "1", LIMIT).unwrap();
    let terminate = |query: &str| {
        let sql = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query = '{query}'"
        );
        let ended = primary.exec(&sql).unwrap();
        // A backend that is on its way out takes one more query, only to refuse it.
        let left = format!("SELECT count(*) FROM pg_stat_activity WHERE query = '{query}'");
        primary.wait_for(&left, "0", LIMIT).unwrap();
        ended
    };
    assert_eq!(terminate("SELECT pg_sleep(60)"), "1");
    let frames = victim.read_to_ready();
    assert!(
        ["57P01", "08006"].contains(&answer(&frames).as_str()),
        "{frames:?}"
    );
    // Idle in the pool: nobody notices.
    assert_eq!(ask(&mut neighbour, "SELECT 'idle'"), "idle");
    terminate("SELECT ''idle''");
    let left = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT ''idle'''";
    primary.wait_for(left, "0", LIMIT).unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&mut neighbour, "SELECT 'again'"), "again");
    }
    // In a transaction: the client must not believe in it any longer.
    ask(&mut neighbour, "BEGIN");
    assert_eq!(ask(&mut neighbour, "SELECT 'open'"), "open");
    terminate("SELECT ''open''");
    // It may be told before it asks, and then nothing more is read from it.
    let _ = neighbour.try_send(&frame(b'Q', b"SELECT 'open'\0"));
    let frames = neighbour.read_to_ready();
    assert!(
        ["57P01", "08006", ""].contains(&answer(&frames).as_str()),
        "{frames:?}"
    );
    assert_ne!(
        frames.last().map(|f| f.tag),
        Some(b'Z'),
        "the session ends: {frames:?}"
    );
}

#[test]
fn a_backend_that_is_killed_is_told_as_a_lost_connection() {
    let cluster = support::cluster(&Spec::default());
    let primary = &cluster.shards[0].primary;
    let ringway = pooler(&cluster, "");
    let mut victim = login(ringway.port());
    victim.query("SELECT pg_sleep(60)");
    let pid = "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'";
    support::wait_until(LIMIT, "the statement to run", || {
        !primary.exec(pid).unwrap().is_empty()
    });
    let pid = primary.exec(pid).unwrap();
    let kill = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -9 {pid}"))
        .status();
    assert!(kill.unwrap().success());
    let code = answer(&victim.read_to_ready());
    assert!(["57P02", "08006"].contains(&code.as_str()), "{code}");
    // PostgreSQL restarts all its backends after that; Ringway finds it again.
    let mut later = login(ringway.port());
    support::wait_until(LIMIT, "the server to be found again", || {
        ask(&mut later, "SELECT 2") == "2"
    });
}

const FIVE_MISTAKES: &str = r#"
[general]
listen = "nowhere"
max_clientz = 5
[users.app]
password = 7
[databases.shop]
servers = ["127.0.0.1:5432"]
pool_size = 0
pool_mode = "statements"
"#;

#[test]
fn five_mistakes_are_told_at_once_and_nothing_starts() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ringway.toml");
    std::fs::write(&file, FIVE_MISTAKES).unwrap();
    for command in [&["check"][..], &["serve"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_ringway"))
            .args(command)
            .arg("-c")
            .arg(&file)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(!output.status.success(), "{command:?}: {text}");
        for mistake in [
            "listen",
            "max_clients",
            "password",
            "pool_size",
            "pool_mode",
        ] {
            assert!(
                text.contains(mistake),
                "{command:?} misses {mistake}: {text}"
            );
        }
    }
}
