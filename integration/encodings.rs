//! Encodings other than UTF-8: bytes pass untouched, and no byte of a character is taken for SQL.

use ringway::demo::captive::{CaptiveCluster, Spec};

use crate::support::wire::{Wire, digest};
use crate::support::{self, Ringway};

const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// Connects to `database` with an encoding, or with the server's own.
fn login(port: u16, database: &str, encoding: Option<&str>) -> Wire {
    let mut wire = Wire::connect(port);
    let mut parameters = vec![("user", "ringway"), ("database", database)];
    parameters.extend(encoding.map(|encoding| ("client_encoding", encoding)));
    wire.send_startup(196_608, &parameters);
    let frames = wire.read_to_ready();
    assert!(frames.iter().all(|frame| frame.tag != b'E'), "{frames:?}");
    wire
}

fn query(wire: &mut Wire, sql: &[u8]) -> Vec<crate::support::wire::Frame> {
    wire.send(b'Q', &[sql, b"\0"].concat());
    wire.read_to_ready()
}

/// A Ringway with a replica that reads go to, before databases in several encodings.
fn cluster() -> CaptiveCluster {
    let cluster = support::cluster(&Spec {
        replicas: 1,
        ..Spec::default()
    });
    let primary = &cluster.shards[0].primary;
    for (database, encoding) in [
        ("ascii", "SQL_ASCII"),
        ("latin", "LATIN1"),
        ("euc", "EUC_JP"),
    ] {
        let sql = format!(
            "CREATE DATABASE {database} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
        );
        primary.exec(&sql).unwrap();
    }
    cluster.wait_caught_up().unwrap();
    cluster
}

fn ringway(cluster: &CaptiveCluster) -> Ringway {
    let shard = &cluster.shards[0];
    let (primary, replica) = (shard.primary.port, shard.replicas[0].port);
    Ringway::start(|port| {
        let mut toml = format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n"
        );
        for database in ["shop", "ascii", "latin", "euc"] {
            toml.push_str(&format!(
                "[databases.{database}]\nservers = [\"127.0.0.1:{primary}\", \"127.0.0.1:{replica}\"]\n\
                 reads = {{ split = true }}\npool_size = 2\n"
            ));
        }
        toml
    })
}

#[test]
fn texts_in_other_encodings_are_answered_as_postgresql_answers_them() {
    let cluster = cluster();
    let ringway = ringway(&cluster);
    // Shift JIS 0x835C and Big5 0xA55C end with a backslash; GBK 0x817C with a bar. After the first
    // constant, what a reader of ASCII would take for the rest of it writes.
    let texts: &[(&str, Option<&str>, &[u8])] = &[
        (
            "shop",
            Some("LATIN1"),
            b"SELECT 'caf\xe9' AS \xe9, E'\xe9\\'\xe9'",
        ),
        (
            "shop",
            Some("SJIS"),
            b"SELECT '\x83\x5c', E'\x83\x5c', lower('A')",
        ),
        (
            "shop",
            Some("SJIS"),
            b"SELECT E'\x83\x5c', nextval('counted'), E'\x83\x5c'",
        ),
        (
            "shop",
            Some("BIG5"),
            b"SELECT E'\xa5\x5c' || nextval('counted') || E'\xa5\x5c'",
        ),
        ("shop", Some("GBK"), b"SELECT '\x81\x7c' AS \x81\x7c"),
        (
            "shop",
            Some("GB18030"),
            b"SELECT '\x81\x30\x81\x30', E'\x81\x5c'",
        ),
        ("shop", Some("EUC_JP"), b"SELECT '\xa4\xa2', E'\xa4\xa2\\''"),
        ("shop", Some("UHC"), b"SELECT '\x81\x41\xb0\xa1'"),
        ("shop", Some("SJIS"), b"SELECT '\x81\x27'"),
        ("shop", Some("UTF8"), b"SELECT '\xff'"),
        ("ascii", None, b"SELECT '\xff\xfe\x80', length('\xff\xfe')"),
        ("ascii", None, b"SELECT 1 AS \xff"),
        ("ascii", None, b"SELECT '\xc3\xa9'"),
        ("latin", None, b"SELECT '\xe9', length('\xe9')"),
        (
            "latin",
            Some("UTF8"),
            b"SELECT '\xc3\xa9', length('\xc3\xa9')",
        ),
        (
            "euc",
            Some("SJIS"),
            b"SELECT '\x83\x5c', length('\x83\x5c')",
        ),
        ("euc", None, b"SELECT '\xa5\xbd'"),
    ];
    let primary = &cluster.shards[0].primary;
    primary.exec("CREATE SEQUENCE counted").unwrap();
    cluster.wait_caught_up().unwrap();
    for (database, encoding, text) in texts {
        let mut answers = Vec::new();
        for port in [primary.port, ringway.port()] {
            primary.exec("SELECT setval('counted', 1)").unwrap();
            let mut wire = login(port, database, *encoding);
            let simple = query(&mut wire, text);
            let parse = [b"\0", *text, b"\0\0\0"].concat();
            wire.send(b'P', &parse);
            wire.send(b'B', b"\0\0\0\0\0\0\0\0");
            wire.send(b'D', b"P\0");
            wire.send(b'E', b"\0\0\0\0\0");
            wire.send(b'S', b"");
            let extended = wire.read_to_ready();
            let shown = |frames: Vec<crate::support::wire::Frame>| -> Vec<_> {
                let kept = frames.into_iter().map(|frame| match frame.tag {
                    // File and line are PostgreSQL's own.
                    b'E' => (b'E', frame.code().into_bytes()),
                    tag => (tag, frame.body),
                });
                kept.collect()
            };
            answers.push((shown(simple), shown(extended)));
        }
        let text = text.escape_ascii();
        assert_eq!(answers[0], answers[1], "{database} {encoding:?}: {text}");
    }
}

#[test]
fn rows_and_copied_data_keep_their_bytes() {
    let cluster = cluster();
    let ringway = ringway(&cluster);
    let mut wire = login(ringway.port(), "latin", None);
    query(&mut wire, b"CREATE TABLE \xe9t\xe9 (v text)");
    wire.query("COPY \"nowhere\" FROM STDIN");
    assert_eq!(digest(&wire.read_to_ready()), "42P01 I");
    wire.send(b'Q', b"COPY \xe9t\xe9 FROM STDIN\0");
    assert_eq!(wire.read().map(|frame| frame.tag), Some(b'G'));
    wire.send(b'd', b"\xe9\xff\n");
    wire.send(b'c', b"");
    assert_eq!(digest(&wire.read_to_ready()), "COPY 1 I");
    let frames = query(&mut wire, b"SELECT v FROM \xe9t\xe9");
    assert_eq!(frames[1].body[6..], *b"\xe9\xff");
    let frames = query(
        &mut wire,
        b"INSERT INTO \xe9t\xe9 VALUES ('\xe0') RETURNING v",
    );
    assert_eq!(frames[1].body[6..], *b"\xe0");
    // Another encoding, set by the client as it goes on; reads of one's own writes included.
    assert_eq!(wire.ask("SET client_encoding = 'UTF8'"), "SET I");
    let frames = query(&mut wire, "SELECT v FROM été ORDER BY v DESC".as_bytes());
    assert_eq!(frames[1].body[6..], *"éÿ".as_bytes());
    support::wait_until(LIMIT, "the reset", || {
        wire.ask("RESET client_encoding") == "RESET I"
    });
    let frames = query(&mut wire, b"SELECT v FROM \xe9t\xe9 ORDER BY v DESC");
    assert_eq!(frames[1].body[6..], *b"\xe9\xff");
}
