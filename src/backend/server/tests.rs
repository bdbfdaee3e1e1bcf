//! Replies of hand-written bytes.

use std::task::Waker;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::*;
use crate::net::Stream;

/// A connection to the server of this address.
pub fn identity(host: &str, port: u16) -> Identity {
    Identity {
        id: 1,
        endpoint: crate::config::Endpoint {
            host: host.into(),
            port,
        },
        user: "app".into(),
        pid: 1,
        cancel_key: Bytes::new(),
        tls: None,
        peer: None,
        local: None,
        connected_at: Instant::now(),
        activity: Activity::default(),
    }
}

/// A connection, and the server's end of it.
pub fn pair() -> (Server, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    let limits = PreparedLimits {
        count: 2,
        bytes: 1000,
    };
    let conn = Conn::new(Stream::Unix(ours), BytesMut::new());
    (
        Server::new(conn, identity("server", 5432), Parameters::new(), limits),
        theirs,
    )
}

/// What comes of `bytes` that the server sends while nothing is owed, and what the client gets.
async fn unasked(bytes: &[u8]) -> (Poll<Error>, Server, BytesMut) {
    let (mut server, mut theirs) = pair();
    theirs.write_all(bytes).await.expect("written");
    server.conn.fill().await.expect("read");
    let mut out = BytesMut::new();
    let mut cx = Context::from_waker(Waker::noop());
    let polled = server.poll_unasked(&mut cx, &mut out);
    (polled, server, out)
}

#[tokio::test]
async fn what_a_server_says_by_itself_is_passed_on() {
    let mut bytes = BytesMut::new();
    write::parameter_status(&mut bytes, "TimeZone", "UTC");
    write::notice(&mut bytes, "WARNING", "01000", "look", "");
    let (polled, server, out) = unasked(&bytes).await;
    assert!(polled.is_pending());
    assert_eq!(out, bytes);
    assert_eq!(server.doubt, None);
    assert_eq!(
        server.parameters.get("TimeZone").map(String::as_str),
        Some("UTC")
    );
}

#[tokio::test]
async fn a_reply_that_nothing_asked_for_never_reaches_the_client() {
    let mut row = BytesMut::new();
    write::text_row(&mut row, &[Some("another's")]);
    let mut ready = BytesMut::new();
    write::ready(&mut ready, b'I');
    // The length of the third does not cover itself, that of the last is far from what such a frame has.
    for bytes in [
        &row[..],
        &ready[..],
        b"N\0\0\0\x03",
        b"S\x7f\xff\xff\xffTimeZone",
    ] {
        let (polled, server, out) = unasked(bytes).await;
        let Poll::Ready(error) = polled else {
            panic!("{bytes:?} is waited for");
        };
        assert_eq!(error.code, "08P01", "{bytes:?}");
        assert!(error.is_fatal() && server.doubt.is_some(), "{bytes:?}");
        assert!(out.is_empty(), "{bytes:?}");
    }
}

/// Only the beginning of such an error is read: what the client gets has to be whole all the same.
#[tokio::test]
async fn an_error_too_long_to_be_read_reaches_the_client_whole() {
    let (mut server, _theirs) = pair();
    let id = StatementId(7);
    server.expect.push_back(Expect::Bind {
        called: Some((id, (*b"mine").into())),
    });
    let mut error = BytesMut::new();
    write::frame(&mut error, b'E', |out| {
        out.extend_from_slice(b"SERROR\0VERROR\0C0A000\0M");
        out.extend_from_slice(b"prepared statement \"ringway_7\" is too long: ");
        out.extend_from_slice(&vec![b'x'; MAX_CONTROL_FRAME]);
        out.extend_from_slice(b"\0\0");
    });
    server.conn.inbox.extend_from_slice(&error);
    let mut out = BytesMut::new();
    assert_eq!(server.scan(&mut out).ok(), Some(Progress::Done));
    server.flush_approved(&mut out);
    let sent = frame::peek(&out).ok().flatten().map(|header| header.len);
    assert_eq!(sent, Some(out.len()));
    assert!(out.ends_with(b"xx\0\0"));
}

#[test]
fn a_servers_name_for_a_statement_tells_its_number() {
    for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
        let id = StatementId(number);
        let name = id.server_name();
        assert_eq!(*name, *format!("ringway_{number}").as_bytes());
        assert_eq!(StatementId::of_server_name(&name), Some(id));
    }
    assert!(ServerName::default().is_empty());
}

#[tokio::test]
async fn more_rows_than_can_be_counted_are_the_most_that_can_be() {
    let (mut server, _theirs) = pair();
    server.expect.push_back(Expect::Ready { show: true });
    for _ in 0..2 {
        write::frame(&mut server.conn.inbox, b'C', |out| {
            out.extend_from_slice(b"SELECT 18446744073709551615\0");
        });
    }
    assert!(matches!(
        server.scan(&mut BytesMut::new()),
        Ok(Progress::Starved)
    ));
    assert_eq!(server.rows, u64::MAX);
}
