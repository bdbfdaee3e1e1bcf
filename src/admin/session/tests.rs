//! The admin protocol over a socket pair, with two rows of one table behind it.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Buf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::admin::UserRow;
use crate::net::Stream;

/// Counts reloads; every second one fails.
#[derive(Default)]
struct Sample {
    reloads: AtomicUsize,
    /// Its client is of `stats_users`.
    only_looks: bool,
}

impl State for Sample {
    fn table(&self, show: Show) -> Table {
        match show {
            Show::Users => Table::of(["app", "ops"].map(|name| UserRow {
                name: name.into(),
                ..UserRow::default()
            })),
            other => Table::empty(other.columns()),
        }
    }

    async fn obey(&self, order: &Order) -> Result<(), Error> {
        match order {
            Order::Pause(_) => Ok(()),
            _ => Err(Error::new(Fault::Client, "55000", "not now")),
        }
    }

    fn may_order(&self) -> bool {
        !self.only_looks
    }

    async fn change(&self, change: &Change) -> Result<(), Error> {
        match change.key.as_str() {
            "general.max_clients" => Ok(()),
            _ => Err(Error::new(Fault::Client, "22023", "no such setting")),
        }
    }

    async fn reload(&self) -> Result<(), Error> {
        match self.reloads.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Ok(()),
            _ => Err(
                Error::new(Fault::Operator, "F0000", "configuration is not valid")
                    .detail("line 3: oops"),
            ),
        }
    }
}

/// Sends everything at once and then leaves; answers what came back, as tags with what matters of
/// their bodies, and how the session ended.
async fn talk(messages: &[u8]) -> (String, Result<(), Error>) {
    talk_to(&Sample::default(), messages).await
}

async fn talk_to(state: &Sample, messages: &[u8]) -> (String, Result<(), Error>) {
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut conn = Conn::new(Stream::Unix(near), BytesMut::new());
    far.write_all(messages).await.unwrap();
    far.shutdown().await.unwrap();
    let end = serve(&mut conn, state).await;
    conn.drain().await.unwrap();
    drop(conn);
    let mut bytes = Vec::new();
    far.read_to_end(&mut bytes).await.unwrap();
    (transcript(&bytes), end)
}

fn transcript(mut bytes: &[u8]) -> String {
    let mut words = Vec::new();
    while let Some((header, body)) = frame::whole(bytes).unwrap() {
        let tag = char::from(header.tag);
        words.push(match tag {
            'C' => format!("C({})", String::from_utf8_lossy(&body[..body.len() - 1])),
            'E' => {
                let code = body.windows(2).position(|pair| pair == b"\0C").unwrap();
                format!("E({})", String::from_utf8_lossy(&body[code + 2..code + 7]))
            }
            'T' => format!("T{}", u16::from_be_bytes([body[0], body[1]])),
            'D' => {
                let length = u32::from_be_bytes([body[2], body[3], body[4], body[5]]) as usize;
                format!("D({})", String::from_utf8_lossy(&body[6..6 + length]))
            }
            other => other.to_string(),
        });
        bytes.advance(header.len);
    }
    words.join(" ")
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    write::frame(&mut out, tag, |out| out.extend_from_slice(body));
    out.to_vec()
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

fn parse_message(name: &str, sql: &str) -> Vec<u8> {
    let body = [name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat();
    message(b'P', &body)
}

/// Without parameters; all columns in `format`.
fn bind(portal: &str, statement: &str, format: u8) -> Vec<u8> {
    let names = [portal.as_bytes(), b"\0", statement.as_bytes(), b"\0"].concat();
    message(
        b'B',
        &[&names[..], b"\0\0\0\0\0\x01", &[0, format]].concat(),
    )
}

fn named(tag: u8, kind: u8, name: &str) -> Vec<u8> {
    message(tag, &[&[kind], name.as_bytes(), b"\0"].concat())
}

fn execute(portal: &str, max_rows: u32) -> Vec<u8> {
    let body = [portal.as_bytes(), b"\0", &max_rows.to_be_bytes()].concat();
    message(b'E', &body)
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

#[tokio::test]
async fn simple_queries() {
    for (sql, answer) in [
        ("SHOW USERS", "T8 D(app) D(ops) C(SHOW) Z"),
        ("show pools;", "T17 C(SHOW) Z"),
        (" ; ", "I Z"),
        ("SET extra_float_digits = 3", "C(SET) Z"),
        ("SET max_clients = 5", "C(SET) Z"),
        ("SET users.app.pool_size = 5", "E(22023) Z"),
        ("SHOW FDS", "E(0A000) Z"),
        ("RELOAD", "C(RELOAD) Z"),
        ("SELECT 1", "E(42601) Z"),
    ] {
        let (got, end) = talk(&query(sql)).await;
        assert_eq!(got, answer, "{sql}");
        assert!(end.is_ok(), "{sql}");
    }
}

#[tokio::test]
async fn a_reload_that_fails_leaves_the_session_usable() {
    let all = [query("RELOAD"), query("RELOAD"), query("SHOW USERS")].concat();
    let (got, end) = talk(&all).await;
    assert_eq!(got, "C(RELOAD) Z E(F0000) Z T8 D(app) D(ops) C(SHOW) Z");
    assert!(end.is_ok());
}

#[tokio::test]
async fn who_may_only_look_gives_no_orders_in_either_protocol() {
    let state = Sample {
        only_looks: true,
        ..Sample::default()
    };
    for (sql, answer) in [
        ("SHOW USERS", "T8 D(app) D(ops) C(SHOW) Z"),
        ("SET extra_float_digits = 3", "C(SET) Z"),
        ("SET max_clients = 5", "E(42501) Z"),
        ("PAUSE", "E(42501) Z"),
        ("RELOAD", "E(42501) Z"),
    ] {
        assert_eq!(talk_to(&state, &query(sql)).await.0, answer, "{sql}");
    }
    let pause = [
        parse_message("", "PAUSE"),
        bind("", "", 0),
        execute("", 0),
        sync(),
    ];
    assert_eq!(talk_to(&state, &pause.concat()).await.0, "1 2 E(42501) Z");
}

#[tokio::test]
async fn extended_queries() {
    let prepared = [
        parse_message("u", "SHOW USERS"),
        named(b'D', b'S', "u"),
        sync(),
        bind("", "u", 1),
        named(b'D', b'P', ""),
        execute("", 1),
        message(b'H', b""),
        execute("", 0),
        execute("", 0),
        sync(),
        bind("", "u", 0),
        execute("", 0),
        named(b'C', b'S', "u"),
        sync(),
        bind("", "u", 0),
        sync(),
    ];
    let (got, end) = talk(&prepared.concat()).await;
    let answers = [
        "1 t T8 Z",
        "2 T8 D(app) s D(ops) C(SHOW) C(SHOW) Z",
        "2 D(app) D(ops) C(SHOW) 3 Z",
        "E(26000) Z",
    ];
    assert_eq!(got, answers.join(" "));
    assert!(end.is_ok());
}

#[tokio::test]
async fn after_an_error_everything_up_to_sync_is_skipped() {
    let failing = [
        parse_message("", "SHOW NOTHING"),
        bind("", "", 0),
        execute("", 0),
        sync(),
        parse_message("", "RELOAD"),
        bind("", "", 0),
        named(b'D', b'P', ""),
        execute("", 0),
        execute("", 0),
        sync(),
    ];
    let (got, end) = talk(&failing.concat()).await;
    assert_eq!(got, "E(42601) Z 1 2 n C(RELOAD) E(55000) Z");
    assert!(end.is_ok());
}

#[tokio::test]
async fn frames_that_make_no_sense_end_the_session() {
    for bytes in [
        b"Q\0\0\0\x03".to_vec(),
        b"Q\x7f\xff\xff\xff".to_vec(),
        message(b'!', b""),
        message(b'p', b"secret\0"),
    ] {
        let (got, end) = talk(&bytes).await;
        assert_eq!(got, "", "{bytes:?}");
        let error = end.err().unwrap();
        assert_eq!((&*error.code, error.is_fatal()), ("08P01", true));
    }
}

#[tokio::test]
async fn messages_that_make_no_sense_inside_are_errors_like_any_other() {
    let bind = message(b'B', b"\0\0\0\0\x7f\xff\0\0");
    let bytes = [message(b'Q', b"SHOW USERS"), bind, sync()].concat();
    let (got, end) = talk(&bytes).await;
    assert_eq!(got, "E(08P01) Z E(08P01) Z");
    assert!(end.is_ok());
}

#[tokio::test]
async fn names_are_bounded() {
    let many: Vec<u8> = (0..=MAX_NAMES)
        .flat_map(|n| parse_message(&n.to_string(), "SHOW USERS"))
        .collect();
    let (got, end) = talk(&many).await;
    assert!(got.ends_with("1 E(53400)"), "{got}");
    assert!(end.is_ok());
}
