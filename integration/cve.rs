//! What went wrong in poolers before, each tried here: CVE-2021-3935 and -23214 (plaintext before
//! TLS), CVE-2025-12819 (search path of the auth query), CVE-2025-2291 (expired passwords), lying
//! lengths, forged cancel keys, SCRAM downgrade, injection through startup parameters and names.

use crate::login::{AS_SUPERUSER, check, cluster, database, sql};
use crate::support::wire::{Frame, Wire, frame};
use crate::support::{self, Ringway};

const VERSION_3: u32 = 196_608;
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// A certificate for `localhost`, and what `[tls]` says of it.
fn tls(directory: &std::path::Path) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (directory.join("s.crt"), directory.join("s.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.key_pair.serialize_pem()).unwrap();
    format!("\n[tls]\ncertificate = {certificate:?}\nprivate_key = {key:?}\n")
}

/// `raw` needs no password; `plain` and `hashed` do, `empty` has none that could be right.
fn ringway(extra: &str) -> Ringway {
    Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nlog_level = \"debug\"\n[users.raw]\n\
             auth = \"trust\"\n[users.plain]\npassword = \"pencil\"\n[users.hashed]\n\
             password = \"pencil\"\nauth = \"md5\"\n{}{extra}",
            database(AS_SUPERUSER)
        )
    })
}

fn startup(user: &str, parameters: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = [("user", user), ("database", "shop")];
    let all = own.iter().chain(parameters);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn start(wire: &mut Wire, user: &str, parameters: &[(&str, &str)]) {
    let owned = startup(user, parameters);
    let borrowed: Vec<_> = owned
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    wire.send_startup(VERSION_3, &borrowed);
}

fn refused(frames: &[Frame]) -> String {
    let last = frames
        .last()
        .unwrap_or_else(|| panic!("closed without a word"));
    assert_eq!(last.tag, b'E', "{frames:?}");
    assert!(frames.iter().all(|frame| frame.tag != b'Z'), "{frames:?}");
    last.code()
}

#[test]
fn plaintext_sent_along_with_the_tls_request_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let ringway = ringway(&tls(directory.path()));
    let query = frame(b'Q', b"INSERT INTO public.canary VALUES (1)\0");
    let session = b"\0\0\0\x24\0\x03\0\0user\0raw\0database\0shop\0\0";
    for smuggled in [&b"x"[..], &session[..], &query[..]] {
        let mut wire = Wire::connect(ringway.port());
        let request = [&[0, 0, 0, 8][..], &SSL_REQUEST, smuggled].concat();
        wire.send_bytes(&request);
        let frames: Vec<_> = std::iter::from_fn(|| wire.read()).collect();
        assert_eq!(refused(&frames), "08P01");
    }
    assert_eq!(
        sql(cluster(), "SELECT count(*) FROM public.canary").trim(),
        "0"
    );
}

#[test]
fn lengths_that_lie_cost_neither_memory_nor_time() {
    let ringway = ringway("");
    for length in [0_u32, 3, 7, 8, 10_005, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let mut wire = Wire::connect(ringway.port());
        wire.send_bytes(&[&length.to_be_bytes()[..], b"\0\x03\0\0"].concat());
        let frames: Vec<_> = std::iter::from_fn(|| wire.read()).collect();
        assert_eq!(refused(&frames), "08P01", "{length}");
    }
    for user in ["plain", "hashed", "nobody"] {
        for length in [0_u32, 3, 0x0010_0000, 0x7fff_ffff, u32::MAX] {
            let mut wire = Wire::connect(ringway.port());
            start(&mut wire, user, &[]);
            assert_eq!(wire.read().unwrap().tag, b'R');
            wire.send_bytes(&[b"p", &length.to_be_bytes()[..]].concat());
            let frames: Vec<_> = std::iter::from_fn(|| wire.read()).collect();
            assert_eq!(refused(&frames), "08P01", "{user} {length}");
        }
    }
}

#[test]
fn a_forged_cancel_request_stops_nothing() {
    let ringway = ringway("");
    let (mut wire, frames) = Wire::login(ringway.port(), "raw", "shop");
    let key = frames.iter().find(|frame| frame.tag == b'K').unwrap();
    let (pid, key) = (key.body[..4].to_vec(), key.body[4..].to_vec());
    wire.query("SELECT pg_sleep(0.5)");
    let other = |key: &[u8]| -> Vec<u8> { key.iter().map(|byte| byte ^ 1).collect() };
    let wrong_pid = other(&pid);
    for (pid, key) in [
        (&pid, other(&key)),
        (&wrong_pid, key.clone()),
        (&pid, vec![0; 4]),
        (&pid, Vec::new()),
        (&pid, [&key[..], &[0]].concat()),
        (&pid, key[..3].to_vec()),
        (&pid, vec![0; 300]),
    ] {
        let mut forger = Wire::connect(ringway.port());
        let code = 80_877_102_u32.to_be_bytes();
        forger.send_untagged(&[&code[..], pid, &key].concat());
        while forger.read().is_some() {}
    }
    assert_eq!(support::wire::digest(&wire.read_to_ready()), " SELECT 1 I");
}

#[test]
fn startup_parameters_are_values_and_nothing_else() {
    let ringway = ringway("");
    let shown = |name: &str, parameters: &[(&str, &str)]| {
        let mut wire = Wire::connect(ringway.port());
        start(&mut wire, "raw", parameters);
        let frames = wire.read_to_ready();
        if frames.last().is_none_or(|frame| frame.tag != b'Z') {
            return refused(&frames);
        }
        wire.query(&format!("SELECT current_setting('{name}')"));
        let row = wire
            .read_to_ready()
            .into_iter()
            .find(|f| f.tag == b'D')
            .unwrap();
        String::from_utf8_lossy(&row.body[6..]).into_owned()
    };
    let tricks = [
        "'; DROP TABLE public.canary; --",
        "\\'; DROP TABLE public.canary; --",
        "x', false); DROP TABLE public.canary; SELECT format('",
        "\\\\', false); DROP TABLE public.canary; --",
        "$$; DROP TABLE public.canary; --",
        "\u{5c}\u{27}",
    ];
    for trick in tricks {
        for off in [
            &[][..],
            &[("standard_conforming_strings", "off")],
            &[("client_encoding", "SJIS")],
        ] {
            let named = [&[("application_name", trick)], off].concat();
            assert_eq!(shown("application_name", &named), trick, "{off:?}");
        }
        let path = shown("search_path", &[("search_path", trick)]);
        assert!(path == trick || path.len() == 5, "{path}");
        let option = format!(
            "-c application_name={}",
            trick.replace('\\', "\\\\").replace(' ', "\\ ")
        );
        assert_eq!(shown("application_name", &[("options", &option)]), trick);
    }
    // A byte that SJIS takes for the first of two stands before the backslash.
    let (two, sjis) = (
        "\u{e8}\\'; DROP TABLE public.canary; --",
        ("client_encoding", "SJIS"),
    );
    let code = shown("application_name", &[("application_name", two), sjis]);
    assert!(!code.is_empty());
    for (name, value, code) in [
        ("options", "-c search_path=public;DROP -D /tmp", "42601"),
        ("options", "-c a'b=1", "42704"),
        ("a'||pg_sleep(1)||'", "1", "42704"),
        ("a\"b", "1", "42704"),
        ("a b", "1", "42704"),
    ] {
        assert_eq!(
            shown("search_path", &[(name, value)]),
            code,
            "{name} {value}"
        );
    }
    assert_eq!(
        sql(cluster(), "SELECT count(*) FROM public.canary").trim(),
        "0"
    );
}

#[test]
fn names_stay_names_in_logs_and_in_sql() {
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nlog_level = \"debug\"\n[auth]\n\
             auth_user = \"ringway\"\nauth_password = \"super\"\n{}",
            database(AS_SUPERUSER)
        )
    });
    for name in [
        "x'; DROP TABLE public.canary; --",
        "x\" OR usename = 'ringway",
        "x\n2026-01-01T00:00:00Z  INFO ringway: forged=1",
        "x\u{1b}[2J",
        "\\",
        "%s%n",
        "ringway ",
        "RINGWAY",
        "\u{130}\u{131}",
        &"n".repeat(200),
        &"\u{e9}".repeat(40),
    ] {
        let mut wire = Wire::connect(ringway.port());
        wire.send_startup(VERSION_3, &[("user", name), ("database", "shop")]);
        assert_eq!(wire.read().unwrap().tag, b'R', "{name}");
        wire.send(b'p', b"SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc");
        let challenge = wire.read().unwrap();
        let challenge = String::from_utf8_lossy(&challenge.body[4..]).into_owned();
        let nonce = challenge.split(',').next().unwrap();
        let last = format!("c=biws,{nonce},p={}=", "A".repeat(43));
        wire.send(b'p', last.as_bytes());
        let frames: Vec<_> = std::iter::from_fn(|| wire.read()).collect();
        assert_eq!(refused(&frames), "28P01", "{name}");
        // And as a database.
        let mut wire = Wire::connect(ringway.port());
        wire.send_startup(VERSION_3, &[("user", "app"), ("database", name)]);
        assert_eq!(wire.read().unwrap().tag, b'R', "{name}");
    }
    // Bytes that are no text at all.
    let mut wire = Wire::connect(ringway.port());
    wire.send_untagged(b"\0\x03\0\0user\0\xff\xfe\0database\0shop\0\0");
    let frames: Vec<_> = std::iter::from_fn(|| wire.read()).collect();
    assert_eq!(refused(&frames), "22021");
    // A zero byte ends a name; the packet makes no sense then.
    let mut wire = Wire::connect(ringway.port());
    wire.send_untagged(b"\0\x03\0\0user\0ring\0way\0");
    let frames: Vec<_> = std::iter::from_fn(|| wire.read()).collect();
    assert_eq!(refused(&frames), "08P01");
    let log = ringway.proxy.log();
    assert!(
        log.lines()
            .all(|line| !line.starts_with("2026-01-01T00:00:00Z")),
        "{log}"
    );
    assert!(!log.contains('\u{1b}'), "{log}");
    assert_eq!(
        sql(cluster(), "SELECT count(*) FROM public.canary").trim(),
        "0"
    );
}

#[test]
fn no_password_is_no_way_in() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("userlist.txt");
    std::fs::write(&list, "\"empty\" \"\"\n").unwrap();
    let ringway = ringway(&format!("[auth]\nusers_file = {list:?}\n"));
    for user in ["plain", "hashed", "empty", "nobody"] {
        let mut wire = Wire::connect(ringway.port());
        start(&mut wire, user, &[]);
        let request = wire.read().unwrap();
        assert_eq!(request.tag, b'R');
        let code = match request.body[3] {
            // md5: an empty response, and one that hashes nothing.
            5 => {
                wire.send(b'p', b"\0");
                "28P01"
            }
            // SCRAM, answered as if it were cleartext.
            _ => {
                wire.send(b'p', b"\0");
                "08P01"
            }
        };
        let frames: Vec<_> = std::iter::from_fn(|| wire.read()).collect();
        assert_eq!(refused(&frames), code, "{user}");
        // And without any response at all: the next message of a session.
        let mut wire = Wire::connect(ringway.port());
        start(&mut wire, user, &[]);
        wire.read().unwrap();
        wire.query("INSERT INTO public.canary VALUES (1)");
        let frames: Vec<_> = std::iter::from_fn(|| wire.read()).collect();
        assert_eq!(refused(&frames), "08P01", "{user}");
    }
    let wrong = Err("password authentication failed for user");
    check(ringway.port(), "user=empty password=x", wrong);
    assert_eq!(
        sql(cluster(), "SELECT count(*) FROM public.canary").trim(),
        "0"
    );
}

/// Whoever may create objects puts a table, an operator and a function where the query's names are
/// looked for first; the client asks for that search path too.
#[test]
fn the_auth_query_reads_no_search_path() {
    sql(
        cluster(),
        "CREATE ROLE path_asker SUPERUSER LOGIN PASSWORD 'asker';
         CREATE ROLE path_user LOGIN PASSWORD 'pencil';
         CREATE ROLE path_old LOGIN PASSWORD 'pencil' VALID UNTIL '2001-01-01';
         CREATE SCHEMA evil;
         CREATE TABLE evil.pg_shadow (usename name, passwd text, valuntil timestamptz);
         INSERT INTO evil.pg_shadow VALUES ('path_user', 'cracked'), ('path_old', 'cracked');
         CREATE FUNCTION evil.always(name, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
         CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.always);
         CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$SELECT '1999-01-01'::timestamptz$$;
         GRANT USAGE ON SCHEMA evil TO public;
         GRANT SELECT ON evil.pg_shadow TO public;
         ALTER ROLE path_asker SET search_path = evil, pg_catalog;
         ALTER DATABASE shop SET search_path = evil, pg_catalog",
    );
    let careless = "auth_query = \"SELECT usename, CASE WHEN valuntil < now() THEN NULL ELSE passwd \
                    END FROM pg_shadow WHERE usename = $1\"\n";
    for query in ["", careless] {
        let ringway = Ringway::start(|port| {
            format!(
                "[general]\nlisten = \"127.0.0.1:{port}\"\n[auth]\nauth_user = \"path_asker\"\n\
                 auth_password = \"asker\"\n{query}{}",
                database(AS_SUPERUSER)
            )
        });
        let wrong = Err("password authentication failed for user");
        for options in ["", "options='-c search_path=evil,pg_catalog'"] {
            for (user, password, expected) in [
                ("path_user", "pencil", Ok("ringway")),
                ("path_user", "cracked", wrong),
                ("path_old", "cracked", wrong),
                // Expired, whatever evil.now() says.
                ("path_old", "pencil", wrong),
            ] {
                let parameters = format!("user={user} password={password} {options}");
                check(ringway.port(), &parameters, expected);
            }
        }
        // Not on connections that clients' statements run on, and not as clients.
        let names =
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'ringway auth'";
        assert_eq!(sql(cluster(), names).trim(), "path_asker");
    }
    sql(cluster(), "ALTER DATABASE shop RESET search_path");
}
