//! What clients get wrong: each gets PostgreSQL's error, and nobody else notices.

use tokio_postgres::NoTls;

use crate::support::Ringway;
use crate::support::wire::{Wire, frame};

/// Request codes of the frames before startup.
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

#[tokio::test]
async fn logins_fail_as_in_postgresql() {
    let ringway = Ringway::of_shop().await;
    for (credentials, code) in [
        ("app:wrong@{host}/shop", "28P01"),
        ("nobody:app@{host}/shop", "28P01"),
        ("app:app@{host}/nowhere", "3D000"),
    ] {
        let host = format!("127.0.0.1:{}", ringway.port());
        let url = format!("postgresql://{}", credentials.replace("{host}", &host));
        let error = tokio_postgres::connect(&url, NoTls).await.err();
        let found = error.and_then(|e| Some(e.code()?.code().to_owned()));
        assert_eq!(found.as_deref(), Some(code), "{credentials}");
    }
}

#[tokio::test]
async fn encryption_that_is_not_configured_is_declined() {
    let ringway = Ringway::of_shop().await;
    let mut wire = Wire::connect(ringway.port());
    for request in [GSSENC_REQUEST, SSL_REQUEST] {
        wire.send_untagged(&request.to_be_bytes());
        assert_eq!(wire.read_byte(), b'N');
    }
    wire.send_startup(196_608, &[("user", "raw"), ("database", "shop")]);
    let frames = wire.read_to_ready();
    assert_eq!(
        frames.last().map(|frame| frame.tag),
        Some(b'Z'),
        "{frames:?}"
    );
}

#[tokio::test]
async fn a_frame_that_makes_no_sense_ends_its_own_connection_only() {
    let ringway = Ringway::of_shop().await;
    let (mut neighbour, _) = Wire::login(ringway.port(), "raw", "shop");
    // A Bind that announces 32,767 parameters and brings none.
    let lying_bind = [
        frame(b'P', b"\0SELECT $1::int\0\0\0"),
        frame(b'B', b"\0\0\0\0\x7f\xff"),
    ];
    for bytes in [
        b"Q\0\0\0\x03".to_vec(),
        b"Q\x7f\xff\xff\xff".to_vec(),
        b"Q\xff\xff\xff\xff".to_vec(),
        frame(b'Q', b"SELECT 1"),
        frame(b'!', b""),
        lying_bind.concat(),
    ] {
        let (mut wire, _) = Wire::login(ringway.port(), "raw", "shop");
        wire.send_bytes(&bytes);
        wire.send(b'S', b"");
        let frames = wire.read_to_ready();
        let error = frames.iter().find(|frame| frame.tag == b'E');
        assert_eq!(
            error.map(|frame| frame.code()).as_deref(),
            Some("08P01"),
            "{bytes:?}"
        );
        neighbour.query("SELECT 1");
        assert_eq!(
            neighbour.read_to_ready().last().map(|frame| frame.tag),
            Some(b'Z')
        );
    }
}

#[tokio::test]
async fn a_startup_that_lies_ends_its_own_connection_only() {
    let ringway = Ringway::of_shop().await;
    let (mut neighbour, _) = Wire::login(ringway.port(), "raw", "shop");
    let startup = |body: &[u8]| {
        let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes
    };
    for bytes in [
        b"\0\0\0\0".to_vec(),
        b"\0\0\0\x07abc".to_vec(),
        b"\x7f\xff\xff\xff\0\x03\0\0".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        startup(b"\0\x03\0\0user\0raw"),
        startup(b"\0\x03\0\0user"),
        startup(b"\0\x02\0\0user\0raw\0\0"),
        startup(b"\0\x03\0\0\0"),
    ] {
        let mut wire = Wire::connect(ringway.port());
        wire.send_bytes(&bytes);
        let frames = wire.read_to_ready();
        assert!(
            frames.iter().all(|frame| frame.tag == b'E'),
            "{bytes:?}: {frames:?}"
        );
        neighbour.query("SELECT 1");
        assert_eq!(
            neighbour.read_to_ready().last().map(|frame| frame.tag),
            Some(b'Z')
        );
    }
}
