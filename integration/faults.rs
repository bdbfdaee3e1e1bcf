//! Servers that refuse, die and come back; pools that are full; configurations that are wrong.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use ringway::demo::captive::{CaptiveCluster, Spec, StopMode};

use crate::sessions::pooler;
use crate::support::wire::{Frame, Wire, frame};
use crate::support::{self, Ringway};

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
    let ringway = pooler(&cluster, "");
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
    let ringway = pooler(&cluster, "");
    let mut holders = [login(ringway.port()), login(ringway.port())];
    for holder in &mut holders {
        ask(holder, "BEGIN");
        assert_eq!(ask(holder, "SELECT 1"), "1");
    }
    let mut late = login(ringway.port());
    let told = ringway.impatiently(|| ask(&mut late, "SELECT 1"));
    assert_eq!(told, "53300");
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

/// Between Ringway and a server: where the words `at` would reach it, the server is gone with those of a
/// fast shutdown.
fn shut_down_at(at: &'static [u8]) -> (CaptiveCluster, Ringway) {
    let cluster = support::cluster(&Spec::default());
    let server = cluster.shards[0].primary.port;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let words = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0";
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut server = TcpStream::connect(("127.0.0.1", server)).unwrap();
            let (mut to, mut from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut server, &mut client);
                let _ = client.shutdown(Shutdown::Both);
            });
            std::thread::spawn(move || {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(read @ 1..) = from.read(&mut bytes) {
                    if memchr::memmem::find(&bytes[..read], at).is_some() {
                        let _ = from.write_all(&frame(b'E', words));
                        break;
                    }
                    if to.write_all(&bytes[..read]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    });
    let ringway = Ringway::start(|own| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{own}\"\n[users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\nservers = [\"127.0.0.1:{port}\"]\n"
        )
    });
    (cluster, ringway)
}

#[test]
fn the_last_words_of_a_server_reach_the_client_whatever_they_answer() {
    let (_cluster, ringway) = shut_down_at(b"BEGIN");
    let mut wire = login(ringway.port());
    assert_eq!(ask(&mut wire, "SELECT 1"), "1");
    ask(&mut wire, "BEGIN");
    // The BEGIN goes with the first statement, whose client knows of no answer to it.
    wire.query("CREATE TABLE one (); CREATE TABLE two ()");
    let frames = wire.read_to_ready();
    assert_eq!(answer(&frames), "57P01", "{frames:?}");
    assert_eq!(frames.len(), 1, "the session ends: {frames:?}");
}

#[test]
fn the_last_words_are_not_lost_to_what_the_client_still_sends() {
    let (_cluster, ringway) = shut_down_at(b"the_end");
    let mut wire = login(ringway.port());
    let mut messages = frame(b'Q', b"CREATE TABLE the_end (); CREATE TABLE two ()\0");
    for _ in 0..100 {
        messages.extend(frame(b'Q', &[b' '; 4_096]));
    }
    wire.send_bytes(&messages);
    assert_eq!(wire.read().unwrap().code(), "57P01");
    // A reset would take from the client, or from a load balancer, what it has not read yet.
    assert!(wire.ends_in_order());
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

/// Longer than a connection may take to be made.
#[test]
fn a_login_waits_while_the_schema_is_read() {
    let cluster = support::cluster(&Spec {
        shards: 2,
        ..Spec::default()
    });
    for shard in &cluster.shards {
        shard.primary.exec("CREATE TABLE t (id int)").unwrap();
    }
    let [one, two] = [0, 1].map(|at: usize| cluster.shards[at].primary.port);
    let mut holder = login(two);
    holder.ask("BEGIN");
    let locked = holder.ask("LOCK TABLE pg_catalog.pg_attrdef IN ACCESS EXCLUSIVE MODE");
    assert_eq!(locked, "LOCK TABLE T");
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\nconnect_timeout_ms = 3000\n\
             [databases.shop.tables]\nt = {{ key = \"id\" }}\n\
             [[databases.shop.shards]]\nname = \"s0\"\nservers = [\"127.0.0.1:{one}\"]\n\
             [[databases.shop.shards]]\nname = \"s1\"\nservers = [\"127.0.0.1:{two}\"]\n"
        )
    });
    let waiting = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'pg_attrdef'::regclass \
                   AND NOT granted";
    let server = &cluster.shards[1].primary;
    server.wait_for(waiting, "t", LIMIT).unwrap();
    let port = ringway.port();
    let asked = std::thread::spawn(move || login(port).ask("SELECT count(*) FROM t"));
    std::thread::sleep(Duration::from_secs(4));
    assert!(!asked.is_finished());
    holder.ask("ROLLBACK");
    assert_eq!(asked.join().unwrap(), "0 SELECT 1 I");
}
