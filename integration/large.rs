//! Prepared statements too long to be read: they live on the server that they passed to, and behave
//! as PostgreSQL's own.

use std::time::Duration;

use ringway::demo::captive::{CaptiveCluster, Spec};

use crate::state::pinned;
use crate::support::wire::{Wire, bind, digest, execute, frame, parse, unnamed};
use crate::support::{self, Ringway};

/// More than `max_message_mib` of [`narrow`].
const LONG: usize = 1_100_000;

/// One server connection for all, and messages of at most 1 MiB read whole.
fn narrow() -> (CaptiveCluster, Ringway) {
    let cluster = support::cluster(&Spec::default());
    let server = cluster.shards[0].primary.port;
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n\
             max_message_mib = 1\n\
             [users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\nservers = [\"127.0.0.1:{server}\"]\npool_size = 1\n\
             checkout_timeout_ms = 3000\n"
        )
    });
    (cluster, ringway)
}

/// The Parse of a text made long by what is not SQL.
fn long(name: &str, sql: &str) -> Vec<u8> {
    parse(name, &format!("/*{}*/ {sql}", "x".repeat(LONG)))
}

fn describe(name: &str) -> Vec<u8> {
    frame(b'D', format!("S{name}\0").as_bytes())
}

fn close(name: &str) -> Vec<u8> {
    frame(b'C', format!("S{name}\0").as_bytes())
}

/// Binds and executes without parameters.
fn run(name: &str) -> Vec<u8> {
    [bind("", name, &[]), execute("", 0)].concat()
}

#[derive(Debug)]
enum Say {
    /// Messages, and a Sync after them.
    Pipeline(Vec<Vec<u8>>),
    Query(&'static str),
}

use Say::{Pipeline, Query};

/// Each against PostgreSQL and through Ringway, on one connection.
fn scenes() -> Vec<(&'static str, Vec<Say>)> {
    let once = |name: &str, sql: &str| vec![long(name, sql), run(name)];
    vec![
        (
            "unnamed: lives until the next, or a Query",
            vec![
                Pipeline(once("", "SELECT 1")),
                Pipeline(vec![describe(""), run(""), run("")]),
                Pipeline(once("", "SELECT 2")),
                Pipeline(vec![run("")]),
                Pipeline(vec![unnamed("SELECT 3"), run("")]),
                Pipeline(once("", "SELECT 4")),
                Query("SELECT 5"),
                Pipeline(vec![run("")]),
                Query("SELECT 6"),
            ],
        ),
        (
            "named: with parameters, by SQL too",
            vec![
                Pipeline(vec![long("a", "SELECT $1::int + 1"), describe("a")]),
                Pipeline(vec![
                    bind("p", "a", &["41"]),
                    execute("p", 0),
                    bind("", "a", &["1"]),
                    execute("", 0),
                ]),
                Query("EXECUTE a(7)"),
                Pipeline(vec![unnamed("EXECUTE a(8)")]),
                Pipeline(vec![bind("", "a", &[]), execute("", 0)]),
                Pipeline(vec![close("a"), run("a")]),
                Pipeline(once("a", "SELECT 'new'")),
                Query("DEALLOCATE a"),
                Query("EXECUTE a"),
                Pipeline(once("a", "SELECT 'newer'")),
                Query("DEALLOCATE ALL"),
                Pipeline(vec![run("a")]),
                Pipeline(once("a", "SELECT 'newest'")),
                Query("DISCARD ALL"),
                Pipeline(vec![run("a")]),
            ],
        ),
        (
            "a name in use",
            vec![
                Pipeline(vec![parse("short", "SELECT 1"), long("long", "SELECT 2")]),
                Pipeline(vec![long("short", "SELECT 3"), run("short")]),
                Pipeline(vec![long("long", "SELECT 4"), run("long")]),
                Pipeline(vec![parse("long", "SELECT 5")]),
                Query("PREPARE long AS SELECT 6"),
                Pipeline(vec![run("short"), run("long")]),
            ],
        ),
        (
            "in blocks, failed ones too",
            vec![
                Query("BEGIN"),
                Pipeline(vec![long("kept", "SELECT 1"), run("kept")]),
                Query("SELECT 1 / 0"),
                Pipeline(once("never", "SELECT 2")),
                Pipeline(vec![run("kept")]),
                Pipeline(once("", "ROLLBACK")),
                Pipeline(vec![run("kept")]),
                Pipeline(vec![run("never")]),
                Pipeline(once("", "BEGIN")),
                Pipeline(once("", "SAVEPOINT s")),
                Query("SELECT 1 / 0"),
                Pipeline(once("", "ROLLBACK TO s")),
                Query("SELECT 3"),
                Pipeline(once("", "COMMIT")),
            ],
        ),
        (
            "errors in a pipeline",
            vec![
                Pipeline(vec![parse("", "SELEC"), long("a", "SELECT 1"), run("a")]),
                Pipeline(vec![run("a")]),
                Pipeline(vec![unnamed("SELECT 1"), long("a", "SELEC"), run("a")]),
                Pipeline(vec![run("a")]),
                Pipeline(vec![
                    long("a", "SELECT 2"),
                    unnamed("SELECT 1 / 0"),
                    run("a"),
                ]),
                Pipeline(vec![run("a")]),
                // What is skipped takes nothing's place; what fails does.
                Pipeline(once("", "SELECT 3")),
                Pipeline(vec![parse("b", "SELEC"), long("", "SELECT 4"), run("")]),
                Pipeline(vec![run("")]),
                Pipeline(vec![long("", "SELEC")]),
                Pipeline(vec![run("")]),
                Pipeline(vec![long("c", "SELECT $1"), bind("", "c", &["x", "y"])]),
                Pipeline(vec![long("d", "SELECT 5"), close("d"), run("d")]),
            ],
        ),
        (
            "what they do is the session's",
            vec![
                Pipeline(once("", "SET work_mem = '7MB'")),
                Pipeline(once("", "SELECT set_config('my.own', 'mine', false)")),
                Query("SHOW work_mem"),
                Query("SHOW my.own"),
                Pipeline(once("", "CREATE TEMP TABLE t (v text)")),
                // Nothing waits for CopyInResponse.
                Pipeline(vec![
                    long("", "COPY t FROM STDIN"),
                    run(""),
                    frame(b'd', b"one\n"),
                    frame(b'c', b""),
                ]),
                Query("SELECT count(*) FROM t"),
                Pipeline(vec![
                    unnamed("INSERT INTO t VALUES ('two')"),
                    long("", "SELECT 1 / 0"),
                ]),
                Query("SELECT count(*) FROM t"),
            ],
        ),
    ]
}

fn answers(port: u16, scene: &[Say]) -> Vec<String> {
    let (mut wire, _) = Wire::login(port, "ringway", "shop");
    let said = scene.iter().map(|say| match say {
        Query(sql) => wire.ask(sql),
        Pipeline(messages) => {
            wire.send_bytes(&messages.concat());
            wire.send(b'S', b"");
            let frames = wire.read_to_ready();
            let tags: String = frames.iter().map(|frame| char::from(frame.tag)).collect();
            // Notices come with any statement; what they tell is not looked at here.
            format!("{} {}", tags.replace(['N', 'S'], ""), digest(&frames))
        }
    });
    said.collect()
}

#[test]
fn a_statement_too_long_to_be_read_behaves_as_in_postgresql() {
    let (cluster, ringway) = narrow();
    for (what, scene) in scenes() {
        let expected = answers(cluster.shards[0].primary.port, &scene);
        let found = answers(ringway.port(), &scene);
        for (at, (expected, found)) in expected.iter().zip(&found).enumerate() {
            assert_eq!(found, expected, "{what}: {at}");
        }
        // The next client can have the connection, and finds nothing of it.
        let (mut next, _) = Wire::login(ringway.port(), "ringway", "shop");
        let left = "SELECT current_setting('work_mem') || count(*) FROM pg_prepared_statements";
        assert_eq!(next.ask(left), "4MB0 SELECT 1 I", "{what}");
    }
}

#[test]
fn its_connection_is_kept_only_while_it_is_needed() {
    let (_cluster, ringway) = narrow();
    let (mut wire, _) = Wire::login(ringway.port(), "ringway", "shop");
    let why = "too long";
    // A client has its answer a moment before its connection is looked at.
    let kept = |by: &[&str]| {
        let limit = Duration::from_secs(10);
        support::wait_until(limit, &format!("{by:?}"), || pinned(&ringway) == by);
    };
    let free = || kept(&[]);
    assert_eq!(wire.ask_pipeline(&[long("a", "SELECT 1")]), "I");
    kept(&[why]);
    assert_eq!(wire.ask_pipeline(&[close("a")]), "closed I");
    free();
    wire.ask_pipeline(&[long("", "SELECT 1")]);
    kept(&[why]);
    assert_eq!(wire.ask("SELECT 2"), "2 SELECT 1 I");
    free();
    // One that failed was never made.
    assert_eq!(wire.ask_pipeline(&[long("a", "SELEC")]), "42601 I");
    free();
    // A lock goes, the statement stays.
    wire.ask_pipeline(&[long("a", "SELECT 1")]);
    wire.ask("SELECT pg_advisory_lock(1)");
    wire.ask("SELECT pg_advisory_unlock(1)");
    kept(&[why]);
    assert_eq!(wire.ask_pipeline(&[run("a")]), "1 SELECT 1 I");
    // What it has set cannot be known.
    assert_eq!(wire.ask("DEALLOCATE a"), "DEALLOCATE I");
    kept(&["cannot be read"]);
    // Those that are replaced do not pile up on the server.
    for _ in 0..3 {
        wire.ask_pipeline(&[long("", "SELECT 1"), run("")]);
    }
    let held = "SELECT count(*) FROM pg_prepared_statements";
    assert_eq!(wire.ask_pipeline(&[unnamed(held)]), "1 SELECT 1 I");
    assert_eq!(wire.ask(held), "0 SELECT 1 I");
    assert_eq!(wire.ask("DISCARD ALL"), "DISCARD ALL I");
    free();
}
