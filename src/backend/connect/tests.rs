//! Servers made of hand-written bytes, over real sockets.

use tokio::net::TcpListener;

use super::*;
use crate::backend::cancel::cancel;
use crate::backend::server::{Activity, Identity};
use crate::config::Secret;
use crate::net::Instant;

const AUTH_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const KEY_DATA: &[u8] = b"K\0\0\0\x0c\0\0\0\x05\0\0\0\x09";
const READY: &[u8] = b"Z\0\0\0\x05I";

/// A server that says each part of `script` after it has read something.
async fn scripted(script: Vec<Vec<u8>>) -> ConnectTarget {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        for reply in script {
            let mut heard = BytesMut::new();
            stream.read_buf(&mut heard).await.expect("read");
            stream.write_all(&reply).await.expect("write");
        }
        stream.shutdown().await.expect("shutdown");
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    ConnectTarget {
        endpoint: Endpoint {
            host: "127.0.0.1".to_owned(),
            port,
        },
        dbname: "shop".to_owned(),
        user: "ann".to_owned(),
        secret: ServerSecret::Password(Secret("pencil".to_owned())),
        tls: None,
        client_encoding: None,
        connect_timeout: Duration::from_secs(10),
        tcp: Default::default(),
    }
}

async fn fail(script: &[&[u8]]) -> Error {
    let target = scripted(script.iter().map(|part| part.to_vec()).collect()).await;
    let error = connect(&target)
        .await
        .err()
        .unwrap_or_else(|| panic!("logged in by {script:?}"));
    let detail = error.detail.as_deref().unwrap_or_default();
    assert!(
        detail.contains(&target.endpoint.to_string()),
        "detail {detail:?}"
    );
    error
}

#[tokio::test]
async fn messages_that_make_no_sense_end_the_login() {
    let sasl = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0".as_slice();
    let cases: &[(&str, &[&[u8]])] = &[
        ("08006", &[b""]),
        ("08006", &[AUTH_OK]),
        ("08P01", &[b"R\0\0\0\x03"]),
        ("08P01", &[b"R\x7f\xff\xff\xff"]),
        ("08P01", &[b"R\xff\xff\xff\xff"]),
        ("08P01", &[b"R\0\0\0\x06\0\0"]),
        ("08P01", &[b"R\0\0\0\x0a\0\0\0\x05ab"]),
        ("08P01", &[READY]),
        ("08P01", &[&[AUTH_OK, READY].concat()]),
        ("08P01", &[&[AUTH_OK, b"K\0\0\0\x04"].concat()]),
        ("08P01", &[&[AUTH_OK, b"S\0\0\0\x06ab"].concat()]),
        ("08P01", &[&[AUTH_OK, b"S\0\0\0\x08a\0\xff\0"].concat()]),
        ("08P01", &[&[AUTH_OK, b"D\0\0\0\x06\0\0"].concat()]),
        ("0A000", &[b"R\0\0\0\x08\0\0\0\x07"]),
        ("0A000", &[b"R\0\0\0\x0f\0\0\0\x0aOTHER\0\0"]),
        // Servers that would have us believe that they checked the password.
        ("08P01", &[sasl, AUTH_OK]),
        ("08P01", &[sasl, b"R\0\0\0\x0a\0\0\0\x0bxx"]),
        (
            "08P01",
            &[b"R\0\0\0\x08\0\0\0\x03", b"R\0\0\0\x08\0\0\0\x03"],
        ),
    ];
    for (code, script) in cases {
        let error = fail(script).await;
        let shown: Vec<_> = script
            .iter()
            .map(|part| part.escape_ascii().to_string())
            .collect();
        assert_eq!(error.code, *code, "{shown:?}: {error}");
    }
}

#[tokio::test]
async fn the_servers_own_error_comes_through() {
    let mut refusal = BytesMut::new();
    Error::new(Fault::Server, "3D000", "database \"shop\" does not exist").write_to(&mut refusal);
    let error = fail(&[&refusal]).await;
    assert_eq!(
        (error.code.as_ref(), error.fault),
        ("3D000", Fault::Operator)
    );
    assert_eq!(error.message, "database \"shop\" does not exist");
}

#[tokio::test]
async fn a_password_that_is_not_configured_is_named() {
    let mut target = scripted(vec![b"R\0\0\0\x08\0\0\0\x03".to_vec()]).await;
    target.secret = ServerSecret::None;
    let error = connect(&target).await.err().expect("must fail");
    assert_eq!(error.code, "28000");
    assert_eq!(
        error.message,
        "no password is configured for server user \"ann\""
    );
}

#[tokio::test]
async fn what_follows_ready_is_kept() {
    let welcome = [
        AUTH_OK,
        b"S\0\0\0\x09a\0bc\0",
        b"N\0\0\0\x05\0",
        KEY_DATA,
        READY,
        b"N",
    ]
    .concat();
    let connected = connect(&scripted(vec![welcome]).await)
        .await
        .expect("logged in");
    assert_eq!(connected.parameters, [("a".to_owned(), "bc".to_owned())]);
    assert_eq!(
        (connected.pid, &connected.cancel_key[..]),
        (5, &[0, 0, 0, 9][..])
    );
    assert_eq!(&connected.leftover[..], b"N");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let mut target = scripted(Vec::new()).await;
    target.endpoint.port = listener.local_addr().expect("bound").port();
    target.connect_timeout = Duration::from_millis(10);
    assert_eq!(
        connect(&target).await.err().expect("must fail").code,
        "08001"
    );
    drop(listener);
    target.connect_timeout = Duration::from_secs(10);
    assert_eq!(
        connect(&target).await.err().expect("must fail").code,
        "08001"
    );
}

#[tokio::test]
async fn a_cancel_request_is_one_packet_and_ends_with_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("bound").port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let mut packet = [0; 16];
        stream.read_exact(&mut packet).await.expect("read");
        packet
    });
    let endpoint = Endpoint {
        host: "127.0.0.1".to_owned(),
        port,
    };
    let identity = Identity {
        id: 1,
        endpoint,
        user: "app".to_owned(),
        pid: 5,
        cancel_key: Bytes::from_static(&[1, 2, 3, 4]),
        tls: None,
        peer: None,
        local: None,
        connected_at: Instant::now(),
        activity: Activity::default(),
    };
    let limit = Duration::from_secs(10);
    cancel(&identity, limit).await.expect("sent");
    let expected = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x05\x01\x02\x03\x04";
    assert_eq!(&server.await.expect("joined"), expected);
}
