//! Whole logins over real sockets: our client half against tokio-postgres, hand-written frames
//! and our own server half.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::backend::connect::{ConnectTarget, Connected, connect};
use crate::backend::tls::connector;
use crate::config::{Endpoint, Secret, ServerSecret, TlsMode};
use crate::net::Stream;
use crate::session::auth::{Applicant, Authenticators, authenticate};
use crate::wire::startup::{Opening, TlsOffer, open, refuse};

/// `pencil` with 4096 iterations and the salt of RFC 7677's example.
const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
    $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fn authenticators() -> Authenticators {
    let toml = format!(
        "[users.trusted]\nauth = \"trust\"\n[users.plain]\npassword = \"pencil\"\n\
         [users.spoken]\npassword = \"I\\u00ADX \\u2168\"\n[users.stored]\nverifier = \"{VERIFIER}\"\n\
         [databases.shop]\nservers = [\"127.0.0.1:1\"]\n"
    );
    let config = crate::config::parse(&toml, Path::new("test.toml"), &|_| None);
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    Authenticators::new(&config, &HashMap::new(), None)
}

/// Serves logins on a free port until the test ends. Errors are sent to the client.
async fn serve(tls: Option<TlsAcceptor>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("bound").port();
    let authenticators = authenticators();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let offer = tls.as_ref().map(|acceptor| TlsOffer {
                acceptor,
                required: false,
                crowded: false,
            });
            let _ = log_in(Stream::Tcp(tcp), offer, &authenticators).await;
        }
    });
    port
}

async fn log_in(
    stream: Stream,
    tls: Option<TlsOffer<'_>>,
    authenticators: &Authenticators,
) -> Result<()> {
    let (mut stream, mut buf, opening) = open(stream, tls).await?;
    let Opening::Session(packet) = opening else {
        panic!("cancel request")
    };
    let who = Applicant {
        user: &packet.user,
        database: &packet.database,
        is_replication: false,
    };
    let mut out = BytesMut::new();
    if let Err(error) = authenticate(&mut stream, &mut buf, &mut out, who, authenticators).await {
        refuse(&mut stream, &error).await;
        return Err(error);
    }
    let key = vec![7; cancel_key_len(packet.minor())];
    write_welcome(
        &mut out,
        &Parameters::from([("server_version".to_owned(), "15.0".to_owned())]),
        42,
        &key,
    );
    stream.write_all(&out).await.expect("write");
    stream.flush().await.expect("flush");
    Ok(())
}

fn target(host: &str, port: u16, user: &str, password: &str) -> ConnectTarget {
    ConnectTarget {
        endpoint: Endpoint {
            host: host.to_owned(),
            port,
        },
        dbname: "shop".to_owned(),
        user: user.to_owned(),
        secret: ServerSecret::Password(Secret(password.to_owned())),
        tls: None,
        client_encoding: None,
        connect_timeout: Duration::from_secs(10),
        tcp: Default::default(),
    }
}

fn code(outcome: Result<Connected>) -> String {
    outcome.map_or_else(|error| error.code.to_string(), |_| "00000".to_owned())
}

#[tokio::test]
async fn our_two_halves_agree_on_who_may_log_in() {
    let port = serve(None).await;
    for (user, password, expected) in [
        ("trusted", "anything", "00000"),
        ("plain", "pencil", "00000"),
        ("plain", "Pencil", "28P01"),
        ("stored", "pencil", "00000"),
        ("stored", "", "28P01"),
        ("spoken", "IX IX", "00000"),
        ("nobody", "pencil", "28P01"),
    ] {
        let outcome = connect(&target("127.0.0.1", port, user, password)).await;
        if let Err(error) = &outcome {
            let text = format!("password authentication failed for user \"{user}\"");
            assert_eq!(error.message, text);
        }
        assert_eq!(code(outcome), expected, "{user} with {password:?}");
    }
}

#[tokio::test]
async fn the_welcome_reaches_the_server_half_whole() {
    let port = serve(None).await;
    let connected = connect(&target("127.0.0.1", port, "trusted", ""))
        .await
        .expect("logged in");
    assert_eq!(
        connected.parameters,
        [("server_version".to_owned(), "15.0".to_owned())]
    );
    assert_eq!(
        (connected.pid, &connected.cancel_key[..]),
        (42, &[7; 4][..])
    );
    assert!(connected.leftover.is_empty());
}

#[tokio::test]
async fn tokio_postgres_logs_in_with_the_right_password_only() {
    let port = serve(None).await;
    let log_in = async |user: &str, password: &str| {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(port)
            .user(user)
            .password(password);
        config.connect(tokio_postgres::NoTls).await.map(|_| ())
    };
    log_in("plain", "pencil").await.expect("right password");
    for (user, password) in [("plain", "wrong"), ("nobody", "pencil")] {
        let error = log_in(user, password).await.expect_err("must be refused");
        assert_eq!(
            error.code(),
            Some(&tokio_postgres::error::SqlState::INVALID_PASSWORD)
        );
    }
}

/// A certificate for `localhost` that signs itself, written to files.
fn certificate(dir: &tempfile::TempDir, name: &str) -> ServerTls {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("made");
    let file = |suffix: &str, text: String| -> PathBuf {
        let path = dir.path().join(format!("{name}.{suffix}"));
        std::fs::write(&path, text).expect("written");
        path
    };
    ServerTls {
        certificate: file("crt", made.cert.pem()),
        private_key: file("key", made.key_pair.serialize_pem()),
        required: false,
        client_ca: None,
    }
}

#[tokio::test]
async fn tls_protects_the_login_and_verify_full_checks_who_answers() {
    let dir = tempfile::tempdir().expect("directory");
    let (ours, other) = (certificate(&dir, "ours"), certificate(&dir, "other"));
    let port = serve(Some(tls_acceptor(&ours).expect("usable"))).await;
    for (mode, ca, host, expected) in [
        (TlsMode::Disable, None, "localhost", "00000"),
        (TlsMode::Require, None, "127.0.0.1", "00000"),
        (
            TlsMode::VerifyFull,
            Some(&ours.certificate),
            "localhost",
            "00000",
        ),
        (
            TlsMode::VerifyFull,
            Some(&ours.certificate),
            "127.0.0.1",
            "08001",
        ),
        (
            TlsMode::VerifyFull,
            Some(&other.certificate),
            "localhost",
            "08001",
        ),
        (
            TlsMode::VerifyCa,
            Some(&ours.certificate),
            "127.0.0.1",
            "00000",
        ),
        (
            TlsMode::VerifyCa,
            Some(&other.certificate),
            "localhost",
            "08001",
        ),
    ] {
        let tls = connector(mode, ca.map(PathBuf::as_path), None).expect("usable");
        let target = ConnectTarget {
            tls,
            ..target(host, port, "plain", "pencil")
        };
        let outcome = connect(&target).await;
        if let Ok(connected) = &outcome {
            assert_eq!(
                connected.stream.is_tls(),
                mode != TlsMode::Disable,
                "{mode:?}"
            );
        }
        assert_eq!(code(outcome), expected, "{mode:?} {host}");
    }
}

#[tokio::test]
async fn tls_that_the_server_does_not_have_is_not_done_without() {
    let port = serve(None).await;
    let tls = connector(TlsMode::Require, None, None).expect("usable");
    let target = ConnectTarget {
        tls,
        ..target("127.0.0.1", port, "plain", "pencil")
    };
    assert_eq!(code(connect(&target).await), "08001");
}

#[test]
fn unusable_certificate_files_are_named() {
    let dir = tempfile::tempdir().expect("directory");
    let (ours, other) = (certificate(&dir, "ours"), certificate(&dir, "other"));
    let missing = ServerTls {
        certificate: dir.path().join("absent.crt"),
        ..ours.clone()
    };
    let mismatch = ServerTls {
        private_key: other.private_key,
        ..ours
    };
    for (tls, named) in [(missing, "absent.crt"), (mismatch, "other.key")] {
        let error = tls_acceptor(&tls).expect_err("must be refused");
        assert_eq!(error.code, "F0000");
        assert!(error.message.contains(named), "{error}");
    }
}

/// A client that sends its own frames after the startup packet of `user`.
struct Raw(TcpStream);

impl Raw {
    async fn start(port: u16, user: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("connect");
        let body = [b"\0\x03\0\0user\0", user.as_bytes(), b"\0\0"].concat();
        stream
            .write_u32(body.len() as u32 + 4)
            .await
            .expect("write");
        stream.write_all(&body).await.expect("write");
        Self(stream)
    }

    async fn send(&mut self, frame: &[u8]) {
        self.0.write_all(frame).await.expect("write");
    }

    /// The next frame's tag and body.
    async fn receive(&mut self) -> (u8, Vec<u8>) {
        let tag = self.0.read_u8().await.expect("tag");
        let mut body = vec![0; self.0.read_u32().await.expect("length") as usize - 4];
        self.0.read_exact(&mut body).await.expect("body");
        (tag, body)
    }

    /// The server's first SCRAM message for a client that says `client_first`.
    async fn challenge(&mut self) -> String {
        self.receive().await;
        self.send(&initial(b"SCRAM-SHA-256", b"n,,n=,r=abc")).await;
        let (_, body) = self.receive().await;
        String::from_utf8(body[4..].to_vec()).expect("text")
    }
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    write::frame(&mut out, tag, |out| out.put_slice(body));
    out.to_vec()
}

fn initial(mechanism: &[u8], data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u32).to_be_bytes();
    frame(b'p', &[mechanism, b"\0", &length, data].concat())
}

fn sqlstate(error: &[u8]) -> String {
    let field = error
        .split(|byte| *byte == 0)
        .find(|field| field.first() == Some(&b'C'));
    String::from_utf8_lossy(&field.expect("has a code")[1..]).into_owned()
}

#[tokio::test]
async fn malformed_sasl_messages_are_protocol_errors() {
    let port = serve(None).await;
    let first = b"n,,n=,r=abc";
    let cases: &[Vec<u8>] = &[
        frame(b'p', b""),
        frame(b'p', b"SCRAM-SHA-256"),
        frame(b'p', b"SCRAM-SHA-256\0\0\0"),
        frame(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff"),
        frame(b'p', b"SCRAM-SHA-256\0\0\0\0\x7fn,,n=,r=abc"),
        frame(b'p', b"SCRAM-SHA-256\0\0\0\0\x01n,,n=,r=abc"),
        frame(b'p', b"SCRAM-SHA-256\0\x80\0\0\0"),
        initial(b"SCRAM-SHA-256-PLUS", first),
        initial(b"SCRAM-SHA-256", b""),
        initial(b"SCRAM-SHA-256", b"\xff"),
        initial(b"SCRAM-SHA-256", b"p=tls-server-end-point,,n=,r=abc"),
        frame(b'Q', b"SELECT 1\0"),
        b"p\0\0\0\x03".to_vec(),
        b"p\x7f\xff\xff\xff".to_vec(),
        frame(b'p', &[0; 2000]),
    ];
    for case in cases {
        let mut client = Raw::start(port, "plain").await;
        assert_eq!(client.receive().await.0, b'R');
        client.send(case).await;
        let (tag, body) = client.receive().await;
        let shown = String::from_utf8_lossy(case);
        assert_eq!(
            (tag, sqlstate(&body).as_str()),
            (b'E', "08P01"),
            "{shown:?}"
        );
    }
}

#[tokio::test]
async fn malformed_scram_proofs_are_protocol_errors_and_wrong_ones_are_not() {
    let port = serve(None).await;
    let wrong = BASE64_OF_32_BYTES;
    for (last, expected) in [
        ("c=biws,r={nonce},p={wrong}", "28P01"),
        ("c=biws,r={nonce},p=AAAA", "08P01"),
        ("c=biws,r={nonce},p=!", "08P01"),
        ("c=biws,r={nonce}", "08P01"),
        ("c=eSws,r={nonce},p={wrong}", "08P01"),
        ("c=biws,r=abc,p={wrong}", "08P01"),
        ("", "08P01"),
    ] {
        let mut client = Raw::start(port, "plain").await;
        let challenge = client.challenge().await;
        let nonce = challenge
            .split(',')
            .next()
            .and_then(|r| r.strip_prefix("r="))
            .expect("nonce");
        let last = last.replace("{nonce}", nonce).replace("{wrong}", wrong);
        client.send(&frame(b'p', last.as_bytes())).await;
        let (tag, body) = client.receive().await;
        assert_eq!((tag, sqlstate(&body).as_str()), (b'E', expected), "{last}");
    }
}

const BASE64_OF_32_BYTES: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[tokio::test]
async fn challenges_do_not_tell_whether_a_user_exists() {
    let port = serve(None).await;
    let parameters = async |user: &str| {
        let challenge = Raw::start(port, user).await.challenge().await;
        challenge
            .split_once(",s=")
            .map(|(_, salt)| salt.to_owned())
            .expect("salt")
    };
    for user in ["plain", "nobody"] {
        let (first, again) = (parameters(user).await, parameters(user).await);
        assert_eq!(first, again);
        assert!(
            first.len() == 24 + ",i=4096".len() && first.ends_with(",i=4096"),
            "{first}"
        );
    }
    assert_ne!(parameters("nobody").await, parameters("somebody").await);
}

#[test]
fn clients_of_protocol_3_2_get_a_long_cancel_key() {
    let mut out = BytesMut::new();
    write_welcome(
        &mut out,
        &Parameters::default(),
        5,
        &vec![1; cancel_key_len(2)],
    );
    assert_eq!(out.get_u8(), b'K');
    assert_eq!(out.get_u32(), 4 + 4 + 32);
    assert_eq!(cancel_key_len(0), 4);
}

/// TLS begun without being asked for; `alpn` are the protocols that the client names.
async fn begin_tls(
    tcp: TcpStream,
    alpn: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let tls = connector(TlsMode::Require, None, None).expect("usable");
    let mut tls = rustls::ClientConfig::clone(&tls.expect("TLS"));
    tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("name");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    connector.connect(name, tcp).await
}

/// The startup packet of a user who needs no password, and the first byte of the answer.
async fn first_answer(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) -> u8 {
    let body = b"\0\x03\0\0user\0trusted\0\0";
    let length = (body.len() as u32 + 4).to_be_bytes();
    stream
        .write_all(&[&length[..], body].concat())
        .await
        .expect("sent");
    stream.flush().await.expect("sent");
    stream.read_u8().await.expect("answer")
}

#[tokio::test]
async fn direct_tls_has_to_name_the_protocol() {
    let dir = tempfile::tempdir().expect("directory");
    let port = serve(Some(
        tls_acceptor(&certificate(&dir, "ours")).expect("usable"),
    ))
    .await;
    let dial = async || {
        TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("connected")
    };
    let named = begin_tls(dial().await, &[b"postgresql"]).await;
    assert_eq!(first_answer(named.expect("handshake")).await, b'R');
    let several = begin_tls(dial().await, &[b"http/1.1", b"postgresql"]).await;
    assert_eq!(first_answer(several.expect("handshake")).await, b'R');

    let mut unnamed = begin_tls(dial().await, &[]).await.expect("handshake");
    let mut answer = Vec::new();
    unnamed.read_to_end(&mut answer).await.expect("answer");
    assert_eq!(sqlstate(&answer[5..]), "08P01");

    let other = begin_tls(dial().await, &[b"http/1.1"]).await;
    let error = other.expect_err("no common protocol").to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
}

#[tokio::test]
async fn negotiated_tls_need_not_name_the_protocol() {
    let dir = tempfile::tempdir().expect("directory");
    let port = serve(Some(
        tls_acceptor(&certificate(&dir, "ours")).expect("usable"),
    ))
    .await;
    for alpn in [&[][..], &[b"postgresql".as_slice()]] {
        let mut tcp = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("connected");
        tcp.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])
            .await
            .expect("sent");
        assert_eq!(tcp.read_u8().await.expect("answer"), b'S');
        let stream = begin_tls(tcp, alpn).await.expect("handshake");
        assert_eq!(first_answer(stream).await, b'R');
    }
}
