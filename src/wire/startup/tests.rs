//! Clients made of hand-written bytes, over real sockets.

use proptest::prelude::*;
use tokio::net::{TcpListener, TcpStream};

use super::*;

const SSL: &[u8] = &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSSENC: &[u8] = &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

async fn pair() -> (TcpStream, Stream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("bound");
    let client = TcpStream::connect(address).await.expect("connect");
    let (server, _) = listener.accept().await.expect("accept");
    (client, Stream::Tcp(server))
}

/// A packet with an honest length.
fn packet(major: u16, minor: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u32(8 + body.len() as u32);
    out.put_u16(major);
    out.put_u16(minor);
    out.put_slice(body);
    out
}

fn cancel_packet(key_len: usize) -> Vec<u8> {
    packet(
        1234,
        5678,
        &[&7_i32.to_be_bytes()[..], &vec![9; key_len]].concat(),
    )
}

/// What comes of a client that sends `bytes` and then nothing more, and what it was answered.
async fn meet(bytes: &[u8], tls: Option<TlsOffer<'_>>) -> (Result<Opening>, Vec<u8>) {
    let (mut client, server) = pair().await;
    client.write_all(bytes).await.expect("write");
    client.shutdown().await.expect("shutdown");
    let outcome = open(server, tls).await.map(|(_, _, opening)| opening);
    let mut reply = Vec::new();
    client.read_to_end(&mut reply).await.expect("read");
    (outcome, reply)
}

async fn session(bytes: &[u8]) -> (StartupPacket, Vec<u8>) {
    match meet(bytes, None).await {
        (Ok(Opening::Session(packet)), reply) => (packet, reply),
        other => panic!("no session: {other:?}"),
    }
}

/// The SQLSTATE of a refusal that also reached the client.
async fn refusal(bytes: &[u8], tls: Option<TlsOffer<'_>>) -> String {
    let (outcome, reply) = meet(bytes, tls).await;
    let error = outcome.expect_err("must be refused");
    let mut expected = BytesMut::new();
    error.write_to(&mut expected);
    assert!(error.is_fatal(), "{error}");
    assert!(
        reply.ends_with(&expected),
        "client got {:?}",
        String::from_utf8_lossy(&reply)
    );
    error.code.to_string()
}

/// An acceptor that no handshake reaches in the tests that use it.
fn acceptor() -> TlsAcceptor {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let resolver = std::sync::Arc::new(rustls::server::ResolvesServerCertUsingSni::new());
    std::sync::Arc::new(
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(resolver),
    )
}

#[tokio::test]
async fn lying_lengths_are_refused() {
    for length in [0, 4, 7, 10_005, 0x7fff_ffff, u32::MAX] {
        let bytes = length.to_be_bytes();
        assert_eq!(refusal(&bytes, None).await, "08P01", "length {length}");
    }
    let mut cut_short = packet(3, 0, b"user\0ann\0\0");
    cut_short.pop();
    assert_eq!(refusal(&cut_short, None).await, "08P01");
}

#[tokio::test]
async fn packets_that_postgresql_refuses_are_refused_with_its_codes() {
    let cases: &[(&str, Vec<u8>)] = &[
        ("28000", packet(3, 0, b"\0")),
        ("28000", packet(3, 0, b"database\0shop\0\0")),
        ("08P01", packet(3, 0, b"")),
        ("08P01", packet(3, 0, b"user\0ann\0")),
        ("08P01", packet(3, 0, b"user\0ann\0\0x")),
        ("08P01", packet(3, 0, b"user\0")),
        ("0A000", packet(2, 0, b"user\0ann\0\0")),
        ("0A000", packet(4, 0, b"user\0ann\0\0")),
        ("22023", packet(3, 0, b"user\0ann\0replication\0o\0\0")),
        ("22021", packet(3, 0, b"user\0\xff\0\0")),
        ("42601", packet(3, 0, b"user\0ann\0options\0-x\0\0")),
        ("42601", packet(3, 0, b"user\0ann\0options\0-c\0\0")),
        ("42601", packet(3, 0, b"user\0ann\0options\0--work_mem\0\0")),
        ("08P01", cancel_packet(3)),
        ("08P01", cancel_packet(257)),
        ("08P01", packet(1234, 5678, b"")),
    ];
    for (code, bytes) in cases {
        assert_eq!(
            &refusal(bytes, None).await,
            code,
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[tokio::test]
async fn parameters_keep_their_order_and_options_are_taken_apart() {
    let body = b"user\0ann\0TimeZone\0UTC\0application_name\0\0\
        options\0-c a.b=1 -csearch_path=x,y --work-mem=1\\ MB -c c=d=e\0replication\0off\0\0";
    let (packet, reply) = session(&packet(3, 0, body)).await;
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect()
    };
    assert_eq!(
        (packet.user.as_str(), packet.database.as_str()),
        ("ann", "ann")
    );
    assert_eq!(
        packet.parameters,
        owned(&[("TimeZone", "UTC"), ("application_name", "")])
    );
    assert_eq!(
        packet.options,
        owned(&[
            ("a.b", "1"),
            ("search_path", "x,y"),
            ("work_mem", "1 MB"),
            ("c", "d=e")
        ])
    );
    assert_eq!(reply, b"");
}

#[tokio::test]
async fn replication_is_asked_for_as_in_postgresql() {
    use Replication::{Logical, Physical};
    for (value, expected) in [
        ("database", Some(Logical)),
        ("true", Some(Physical)),
        ("YES", Some(Physical)),
        ("on", Some(Physical)),
        ("1", Some(Physical)),
        ("f", None),
        ("off", None),
        ("0", None),
    ] {
        let body = format!("user\0ann\0replication\0{value}\0\0");
        let (packet, _) = session(&packet(3, 0, body.as_bytes())).await;
        assert_eq!(packet.replication, expected, "{value}");
    }
}

#[tokio::test]
async fn newer_minors_and_unknown_protocol_options_are_negotiated() {
    let plain = b"user\0ann\0\0".as_slice();
    let option = b"user\0ann\0_pq_.x\0on\0\0".as_slice();
    let none = b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0".as_slice();
    let cases: &[(u16, &[u8], u16, &[u8])] = &[
        (0, plain, 0, b""),
        (2, plain, 2, b""),
        (3, plain, 2, none),
        (9999, plain, 2, none),
        (0, option, 0, b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0"),
        (2, option, 2, b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0"),
    ];
    for (asked, body, agreed, expected) in cases {
        let (packet, reply) = session(&packet(3, *asked, body)).await;
        assert_eq!(
            (packet.minor(), reply.as_slice()),
            (*agreed, *expected),
            "3.{asked}"
        );
        assert_eq!(packet.parameters, []);
    }
}

#[tokio::test]
async fn cancel_requests_carry_keys_of_both_protocols() {
    for key_len in [4, 32, 256] {
        let (outcome, reply) = meet(&cancel_packet(key_len), None).await;
        let key = Bytes::from(vec![9; key_len]);
        let expected = Opening::Cancel {
            pid: 7,
            key,
            forwarded: false,
        };
        assert_eq!(outcome.ok(), Some(expected));
        assert_eq!(reply, b"");
    }
}

#[tokio::test]
async fn data_behind_an_encryption_request_is_refused_unread() {
    let acceptor = acceptor();
    let offer = Some(TlsOffer {
        acceptor: &acceptor,
        required: false,
        crowded: false,
    });
    for (request, tls) in [(SSL, offer), (SSL, None), (GSSENC, None)] {
        let injected = [request, &packet(3, 0, b"user\0ann\0\0")].concat();
        assert_eq!(refusal(&injected, tls).await, "08P01");
        let (_, reply) = meet(&injected, tls).await;
        assert_eq!(reply[0], b'E', "no handshake is offered");
    }
}

#[tokio::test]
async fn encryption_is_declined_once_each_and_in_any_order() {
    for order in [[SSL, GSSENC], [GSSENC, SSL]] {
        let (mut client, server) = pair().await;
        let served = tokio::spawn(async move { open(server, None).await });
        for request in order {
            client.write_all(request).await.expect("write");
            assert_eq!(client.read_u8().await.expect("reply"), b'N');
        }
        client.write_all(order[0]).await.expect("write");
        let error = served.await.expect("joined").err().expect("refused");
        assert_eq!(error.code, "0A000");
        assert!(
            error
                .message
                .starts_with("unsupported frontend protocol 1234."),
            "{error}"
        );
    }
}

#[tokio::test]
async fn sessions_need_tls_where_it_is_required_and_cancel_requests_do_not() {
    let acceptor = acceptor();
    let offer = Some(TlsOffer {
        acceptor: &acceptor,
        required: true,
        crowded: false,
    });
    assert_eq!(
        refusal(&packet(3, 0, b"user\0ann\0\0"), offer).await,
        "28000"
    );
    assert!(meet(&cancel_packet(4), offer).await.0.is_ok());
}

#[tokio::test]
async fn a_packet_may_come_byte_by_byte_and_with_more_behind_it() {
    let (mut client, server) = pair().await;
    client.set_nodelay(true).expect("nodelay");
    let served = tokio::spawn(async move { open(server, None).await });
    let bytes = packet(3, 0, b"user\0ann\0\0");
    let (last, first) = bytes.split_last().expect("not empty");
    for byte in first {
        client.write_all(&[*byte]).await.expect("write");
        tokio::task::yield_now().await;
    }
    client.write_all(&[*last, b'p']).await.expect("write");
    let (mut stream, mut buf, opening) = served.await.expect("joined").expect("opened");
    assert!(matches!(opening, Opening::Session(packet) if packet.user == "ann"));
    client.write_all(b"\0\0\0\x05x").await.expect("write");
    let (tag, body) = read_frame(&mut stream, &mut buf, 100).await.expect("frame");
    assert_eq!((tag, &body[..]), (b'p', &b"x"[..]));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(body: Vec<u8>, options: String) {
        let _ = parse_parameters(&body, 0);
        let _ = parse_cancel(Bytes::from(body), false);
        let _ = parse_options(&options);
    }

    #[test]
    fn quoted_options_come_back(value in "[ a-z\\\\=]{0,12}") {
        let quoted = value.replace('\\', "\\\\").replace(' ', "\\ ");
        let parsed = parse_options(&format!("-c x.y={quoted}")).expect("valid");
        prop_assert_eq!(parsed, [("x.y".to_owned(), value)]);
    }
}
