//! What a client can learn of users it does not know the password of: nothing, since a login that
//! fails says and costs the same whoever it is.

use std::path::Path;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
    $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fn authenticators(method: &str) -> Authenticators {
    let rules = match method {
        "" => String::new(),
        method => format!(
            "[[auth.hba]]\ntype = \"local\"\ndatabase = \"all\"\nuser = \"all\"\nmethod = \"{method}\"\n"
        ),
    };
    let text = format!(
        "{rules}[users.plain]\npassword = \"pencil\"\n[users.stored]\nverifier = \"{VERIFIER}\"\n\
         [users.hashed]\nverifier = \"{}\"\n[databases.shop]\nservers = \"a:1\"\n",
        md5_of("hashed", &Secret("pencil".into()))
    );
    let config = crate::config::parse(&text, Path::new("test.toml"), &|_| None);
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    Authenticators::new(&config, &HashMap::new(), None)
}

/// The frames that a client with a wrong password is sent, as tag, request code and length, and
/// the error that ends it.
async fn transcript(
    authenticators: &Authenticators,
    user: &str,
) -> (Vec<(u8, u32, usize)>, String) {
    let (server, mut client) = UnixStream::pair().expect("a pair");
    let mut stream = Stream::Unix(server);
    let who = Applicant {
        user,
        database: "shop",
        is_replication: false,
    };
    let serve = async {
        let mut buf = BytesMut::new();
        let mut out = BytesMut::new();
        let outcome = authenticate(&mut stream, &mut buf, &mut out, who, authenticators).await;
        assert!(out.is_empty(), "it is not told that it is let in");
        drop(stream);
        outcome.expect_err("must be refused")
    };
    let speak = async {
        let mut seen = Vec::new();
        loop {
            let Ok(tag) = client.read_u8().await else {
                return seen;
            };
            let length = client.read_u32().await.expect("a length") as usize;
            let code = client.read_u32().await.expect("a code");
            let mut data = vec![0; length - 8];
            client.read_exact(&mut data).await.expect("data");
            seen.push((tag, code, length));
            let response = match code {
                3 | 5 => b"md5wrong\0".to_vec(),
                10 => {
                    let first = b"n,,n=,r=abc";
                    let mut body = BytesMut::from(&b"SCRAM-SHA-256\0"[..]);
                    body.put_u32(first.len() as u32);
                    body.put_slice(first);
                    body.to_vec()
                }
                _ => {
                    let challenge = String::from_utf8(data).expect("text");
                    let nonce = challenge.split(',').next().expect("a nonce");
                    format!("c=biws,{nonce},p={}", "A".repeat(43) + "=").into_bytes()
                }
            };
            client.write_u8(b'p').await.expect("written");
            client
                .write_u32(response.len() as u32 + 4)
                .await
                .expect("written");
            client.write_all(&response).await.expect("written");
        }
    };
    let (error, seen) = tokio::join!(serve, speak);
    (seen, format!("{error}").replace(user, "USER"))
}

#[tokio::test]
async fn a_failed_login_has_the_same_messages_whoever_it_is() {
    for (method, known) in [
        ("", "plain"),
        ("", "stored"),
        ("scram-sha-256", "plain"),
        ("scram-sha-256", "hashed"),
        ("md5", "plain"),
        ("md5", "hashed"),
    ] {
        let authenticators = authenticators(method);
        let expected = transcript(&authenticators, known).await;
        let messages = if method == "md5" { 1 } else { 2 };
        assert_eq!(expected.0.len(), messages, "{method} {known}");
        let unknown = transcript(&authenticators, "nobody").await;
        assert_eq!(unknown, expected, "{method} {known}");
        assert!(unknown.1.contains("28P01"), "{}", unknown.1);
    }
}

#[tokio::test]
async fn who_is_unknown_is_asked_as_most_others_are() {
    let md5 = |user: &str| {
        let hash = md5_of(user, &Secret("pencil".into()));
        format!("[users.{user}]\nverifier = \"{hash}\"\n")
    };
    let stored = |user: &str| format!("[users.{user}]\nverifier = \"{VERIFIER}\"\n");
    let rule = "[[auth.hba]]\ntype = \"local\"\ndatabase = \"all\"\nuser = \"all\"\n\
                method = \"md5\"\n";
    for rule in ["", rule] {
        for (users, like) in [
            ([md5("one"), md5("two"), stored("three")], "one"),
            ([stored("one"), stored("two"), md5("three")], "one"),
        ] {
            let text = format!(
                "{rule}{}[databases.shop]\nservers = \"a:1\"\n",
                users.concat()
            );
            let config = crate::config::parse(&text, Path::new("test.toml"), &|_| None);
            let config = config.unwrap_or_else(|errors| panic!("{errors}"));
            let authenticators = Authenticators::new(&config, &HashMap::new(), None);
            let expected = transcript(&authenticators, like).await;
            let unknown = transcript(&authenticators, "nobody").await;
            assert_eq!(unknown, expected, "{text}");
        }
    }
}

/// The work of a login with the password in the clear: one derivation of as many iterations and
/// as long a salt, whoever it is.
#[tokio::test]
async fn a_password_costs_a_derivation_whoever_it_is() {
    let authenticators = authenticators("");
    for (user, password, is_right) in [
        ("plain", "pencil", true),
        ("plain", "wrong", false),
        ("stored", "pencil", true),
        ("stored", "wrong", false),
        ("hashed", "pencil", true),
        ("hashed", "wrong", false),
        ("nobody", "pencil", false),
        ("nobody", "", false),
    ] {
        let known = authenticators.users.get(user).map(Arc::as_ref);
        let attempt = Attempt {
            who: Applicant {
                user,
                database: "shop",
                is_replication: false,
            },
            known,
            authenticators: &authenticators,
            lookup: None,
            tally: authenticators.tally,
        };
        let secret = attempt.check(known, &Secret(password.into())).await;
        assert_eq!(secret.is_some(), is_right, "{user} {password}");
        let (iterations, salt) = (4096, 16);
        let verifier = attempt.to_derive(known);
        assert_eq!(
            (verifier.iterations, verifier.salt.len()),
            (iterations, salt),
            "{user}"
        );
    }
}

/// 1,000 users are not derived anew by a reload.
#[test]
fn a_reload_keeps_the_keys_of_who_did_not_change() {
    let before = authenticators("");
    let text = "[users.plain]\npassword = \"pencil\"\n[users.stored]\npassword = \"other\"\n\
                [databases.shop]\nservers = \"a:1\"\n";
    let config = crate::config::parse(text, Path::new("test.toml"), &|_| None);
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    let after = Authenticators::new(&config, &HashMap::new(), Some(&before));
    let is_kept = |user: &str| Arc::ptr_eq(&before.users[user], &after.users[user]);
    assert!(is_kept("plain") && !is_kept("stored"));
    assert!(!after.users.contains_key("hashed"));
}

#[test]
fn who_is_refused_hears_so_in_postgresqls_words() {
    let hba = |text: &str| Hba {
        rules: crate::config::hba::rules(text),
    };
    let who = Applicant {
        user: "app",
        database: "shop",
        is_replication: false,
    };
    let told = |text: &str, address: Option<&str>, is_tls, who| {
        let address = address.map(|address| address.parse().expect("an address"));
        let error = rule(&hba(text), address, is_tls, who)
            .err()
            .expect("refused");
        assert_eq!(error.code, "28000");
        error.message.to_string()
    };
    assert_eq!(
        told("", Some("10.0.0.1"), false, who),
        "no pg_hba.conf entry for host \"10.0.0.1\", user \"app\", database \"shop\", no encryption"
    );
    assert_eq!(
        told(
            "host all all all reject",
            Some("::ffff:10.0.0.1"),
            true,
            who
        ),
        "pg_hba.conf rejects connection for host \"10.0.0.1\", user \"app\", database \"shop\", \
         SSL encryption"
    );
    assert_eq!(
        told("host all all all trust", None, false, who),
        "no pg_hba.conf entry for host \"[local]\", user \"app\", database \"shop\", no encryption"
    );
    let replica = Applicant {
        is_replication: true,
        ..who
    };
    assert_eq!(
        told("host all all all trust", Some("::1"), false, replica),
        "no pg_hba.conf entry for replication connection from host \"::1\", user \"app\", \
         no encryption"
    );
}
