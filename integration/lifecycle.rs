//! How clients come in and how the process ends: sockets, certificates, bursts, signals.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ringway::demo::captive::{CaptiveCluster, Signal, Spec, free_port};

use crate::support::process::{LIMIT, Launch, Process};
use crate::support::wire::{Wire, frame};
use crate::support::{self, psql, wait_until};

/// One server for all tests here; none of them breaks it.
pub(crate) fn server() -> &'static CaptiveCluster {
    static SERVER: std::sync::OnceLock<CaptiveCluster> = std::sync::OnceLock::new();
    SERVER.get_or_init(|| support::cluster(&Spec::default()))
}

/// A configuration before [`server`]; `general` and `more` are added to their places.
pub(crate) fn config(general: &str, more: &str) -> String {
    let server = server().shards[0].primary.port;
    format!(
        "[general]\n{general}\nadmin_users = [\"ringway\"]\n{more}\n\
         [users.ringway]\nauth = \"trust\"\n\
         [databases.shop]\nservers = [\"127.0.0.1:{server}\"]\npool_size = 4\n"
    )
}

pub(crate) fn start(directory: &Path, name: &str, config: String) -> Process {
    let process = Launch {
        directory,
        name,
        config,
        args: &[],
        env: &[],
        before: "",
    }
    .start();
    process.wait_for_log("ready");
    process
}

/// CancelRequest with what BackendKeyData said.
pub(crate) fn cancel_request(key_data: &[u8]) -> Vec<u8> {
    [&80_877_102_u32.to_be_bytes()[..], key_data].concat()
}

pub(crate) fn wait_for_query(sql: &str) {
    let quoted = sql.replace('\'', "''");
    let running = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE query = '{quoted}' AND state = 'active'"
    );
    let primary = &server().shards[0].primary;
    primary.wait_for(&running, "1", LIMIT).unwrap();
}

#[test]
fn clients_come_over_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let port = free_port().unwrap();
    let general = format!(
        "listen = [\"127.0.0.1:{port}\", \"{}:{port}\"]\nunix_socket_mode = \"0770\"",
        dir.display()
    );
    let config = config(&general, "");
    let mut process = start(dir, "first", config.clone());
    let socket = dir.join(format!(".s.PGSQL.{port}"));
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o770);
    let url = |database: &str| {
        format!(
            "host={} port={port} user=ringway dbname={database}",
            dir.display()
        )
    };
    assert_eq!(psql(&url("shop"), "SELECT 1"), "1");
    let clients = psql(&url("ringway"), "SHOW CLIENTS");
    assert!(clients.contains("|unix|"), "{clients}");

    // CancelRequest comes the same way.
    let (mut wire, frames) = Wire::login_unix(&socket, "ringway", "shop");
    let key = frames.iter().find(|frame| frame.tag == b'K').unwrap();
    wire.query("SELECT pg_sleep(61)");
    wait_for_query("SELECT pg_sleep(61)");
    let mut canceller = Wire::connect_unix(&socket);
    canceller.send_untagged(&cancel_request(&key.body));
    assert_eq!(canceller.read(), None);
    assert_eq!(
        crate::support::wire::digest(&wire.read_to_ready()),
        "57014 I"
    );

    // What a killed process leaves behind is no hindrance; a living one is.
    process.signal(Signal::Kill);
    process.wait_for_end();
    assert!(socket.exists());
    let mut second = start(dir, "second", config.clone());
    assert_eq!(psql(&url("shop"), "SELECT 2"), "2");
    let only_unix = config.replace(&format!("\"127.0.0.1:{port}\", "), "");
    let mut third = Launch {
        directory: dir,
        name: "third",
        config: only_unix,
        args: &[],
        env: &[],
        before: "",
    }
    .start();
    assert!(!third.wait_for_end().success());
    assert!(third.log().contains("cannot listen on"), "{}", third.log());
    assert_eq!(psql(&url("shop"), "SELECT 3"), "3");
    second.signal(Signal::Term);
    assert!(second.wait_for_end().success());
    assert!(!socket.exists(), "a process that ends takes its file along");
}

#[test]
fn a_client_of_protocol_3_2_cancels_with_its_long_key() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let general = format!("listen = \"127.0.0.1:{port}\"");
    let _process = start(directory.path(), "ringway", config(&general, ""));
    let mut wire = Wire::connect(port);
    let who = [("user", "ringway"), ("database", "shop"), ("_pq_.x", "1")];
    wire.send_startup(3 << 16 | 2, &who);
    let frames = wire.read_to_ready();
    // Our version, and the one option that is not known.
    let negotiated = frames.iter().find(|frame| frame.tag == b'v').unwrap();
    assert_eq!(negotiated.body, b"\0\x03\0\x02\0\0\0\x01_pq_.x\0");
    let key = frames.iter().find(|frame| frame.tag == b'K').unwrap();
    assert_eq!(key.body.len(), 4 + 32);
    wire.query("SELECT pg_sleep(62)");
    wait_for_query("SELECT pg_sleep(62)");
    let cancel = |key: &[u8]| {
        let mut canceller = Wire::connect(port);
        canceller.send_untagged(&cancel_request(key));
        assert_eq!(canceller.read(), None);
    };
    cancel(&key.body[..8]);
    cancel(&[&key.body[..], b"x"].concat());
    let mut forged = key.body.clone();
    *forged.last_mut().unwrap() ^= 1;
    cancel(&forged);
    wait_for_query("SELECT pg_sleep(62)");
    cancel(&key.body);
    assert_eq!(
        crate::support::wire::digest(&wire.read_to_ready()),
        "57014 I"
    );
}

/// Connects with verify-full against the certificate of now.
fn verify(directory: &Path, port: u16) -> bool {
    let url = format!(
        "host=localhost port={port} user=ringway dbname=shop sslmode=verify-full sslrootcert={}",
        directory.join("trusted.crt").display()
    );
    let output = std::process::Command::new("psql")
        .args(["-XAtc", "SELECT 1", &url])
        .output()
        .unwrap();
    output.status.success()
}

fn trust_current(directory: &Path) {
    std::fs::copy(directory.join("server.crt"), directory.join("trusted.crt")).unwrap();
}

#[test]
fn a_new_certificate_is_shown_without_a_restart() {
    for (watch, hangup) in [(0, true), (1, false)] {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path();
        support::certificate(dir);
        trust_current(dir);
        let port = free_port().unwrap();
        let general = format!("listen = \"127.0.0.1:{port}\"\nwatch_interval_s = {watch}");
        let tls = "[tls]\ncertificate = \"server.crt\"\nprivate_key = \"server.key\"\n";
        let mut process = start(dir, "ringway", config(&general, tls));
        assert!(verify(dir, port));
        let (mut connected, _) = Wire::login(port, "ringway", "shop");
        let apply = |process: &mut Process| {
            if hangup {
                process.signal(Signal::Hup);
            }
        };

        // A certificate that is none changes nothing and says why.
        let good = std::fs::read(dir.join("server.crt")).unwrap();
        std::fs::write(dir.join("server.crt"), "nonsense").unwrap();
        apply(&mut process);
        process.wait_for_log("the old one stays in force");
        assert!(process.log().contains("server.crt"), "{}", process.log());
        assert!(verify(dir, port));

        std::fs::write(dir.join("server.crt"), good).unwrap();
        support::certificate(dir);
        trust_current(dir);
        apply(&mut process);
        wait_until(LIMIT, "the new certificate", || verify(dir, port));
        assert_eq!(connected.ask("SELECT 1"), "1 SELECT 1 I");
    }
}

#[test]
fn a_new_server_ca_is_trusted_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    support::certificate(dir);
    let cluster = support::cluster(&Spec {
        tls: Some(ringway::demo::captive::Tls {
            certificate: dir.join("server.crt"),
            private_key: dir.join("server.key"),
        }),
        ..Spec::default()
    });
    trust_current(dir);
    let right = std::fs::read(dir.join("trusted.crt")).unwrap();
    support::certificate(dir);
    trust_current(dir);
    let port = free_port().unwrap();
    let config = format!(
        "[general]\nlisten = \"127.0.0.1:{port}\"\nwatch_interval_s = 0\n\
         [users.ringway]\nauth = \"trust\"\n\
         [databases.shop]\nservers = [\"localhost:{}\"]\ncheckout_timeout_ms = 500\n\
         server_tls = \"verify-full\"\nserver_ca = \"trusted.crt\"\n",
        cluster.shards[0].primary.port
    );
    let mut process = start(dir, "ringway", config);
    let url = format!("host=127.0.0.1 port={port} user=ringway dbname=shop");
    let works = || {
        let mut psql = std::process::Command::new("psql");
        let output = psql.args(["-XAtc", "SELECT 1", &url]).output().unwrap();
        output.status.success()
    };
    assert!(
        !works(),
        "another authority signed the server's certificate"
    );
    // The same name, and the configuration file is as it was.
    std::fs::write(dir.join("trusted.crt"), right).unwrap();
    process.signal(Signal::Hup);
    wait_until(LIMIT, "the server", works);
}

/// What became of one client of many.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Served,
    Refused,
    Reset,
}

/// Connects `count` clients at once, each with its startup packet, and waits for all answers.
fn burst(port: u16, count: usize) -> Vec<Fate> {
    let body = b"\0\x03\0\0user\0ringway\0database\0shop\0\0";
    let packet = [&(body.len() as u32 + 4).to_be_bytes()[..], body].concat();
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let _ = stream.write_all(&packet);
        streams.push(stream);
    }
    let fate = |mut stream: TcpStream| {
        let mut tag = [0];
        match stream.read_exact(&mut tag) {
            Ok(()) if tag == *b"R" => Fate::Served,
            Ok(()) => Fate::Refused,
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("a client hangs"),
            Err(_) => Fate::Reset,
        }
    };
    streams.into_iter().map(fate).collect()
}

#[test]
fn a_burst_of_clients_is_served_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    // The clients of this test need open files too.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let count = limit
        .current
        .map_or(5_000, |limit| (limit as usize / 2).min(5_000));
    let general = format!("listen = \"127.0.0.1:{port}\"\nmax_clients = 200");
    let process = start(directory.path(), "ringway", config(&general, ""));
    let fates = burst(port, count);
    let count_of = |wanted: Fate| fates.iter().filter(|fate| **fate == wanted).count();
    assert_eq!(count_of(Fate::Reset), 0, "of {count}");
    assert!(count_of(Fate::Served) >= 200, "{}", count_of(Fate::Served));
    assert!(count_of(Fate::Refused) > 0);
    let url = format!("host=127.0.0.1 port={port} user=ringway dbname=shop");
    wait_until(LIMIT, "the clients to be gone", || {
        let mut psql = std::process::Command::new("psql");
        let output = psql.args(["-XAtc", "SELECT 1", &url]).output().unwrap();
        output.status.success()
    });
    drop(process);
}

#[test]
fn a_full_process_that_is_flooded_does_without_handshakes() {
    let directory = tempfile::tempdir().unwrap();
    support::certificate(directory.path());
    let port = free_port().unwrap();
    let general = format!("listen = \"127.0.0.1:{port}\"\nmax_clients = 5");
    let tls = "[tls]\ncertificate = \"server.crt\"\nprivate_key = \"server.key\"\n";
    let _process = start(directory.path(), "ringway", config(&general, tls));
    let _clients: Vec<_> = (0..5)
        .map(|_| Wire::login(port, "ringway", "shop"))
        .collect();
    // Each asks for TLS and then says nothing more.
    let mut answers = Vec::new();
    let mut flood = Vec::new();
    for _ in 0..100 {
        let mut wire = Wire::connect(port);
        wire.send_untagged(&80_877_103_u32.to_be_bytes());
        answers.push(wire.read_byte());
        flood.push(wire);
    }
    assert_eq!(answers[0], b'S', "one client alone is told through TLS");
    assert_eq!(answers[99], b'E');
    // A CancelRequest is no client.
    let mut canceller = Wire::connect(port);
    canceller.send_untagged(&cancel_request(&[0; 8]));
    assert_eq!(canceller.read(), None);
}

#[test]
fn who_says_nothing_cannot_take_all_open_files() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let general = format!("listen = \"127.0.0.1:{port}\"\nmax_clients = 1\nlogin_timeout_s = 10");
    let _process = start(directory.path(), "ringway", config(&general, ""));
    // The silent ones are open files of this process too.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let silent: Vec<_> = (0..1_001).map(|_| Wire::connect(port)).collect();
    let mut refused = Wire::connect(port);
    let error = refused.read().unwrap();
    assert_eq!((error.tag, error.code()), (b'E', "53300".to_owned()));
    drop(silent);
    wait_until(LIMIT, "room", || {
        let mut wire = Wire::connect(port);
        wire.send_startup(196_608, &[("user", "ringway"), ("database", "shop")]);
        wire.read_to_ready().iter().all(|frame| frame.tag != b'E')
    });
}

#[test]
fn without_open_files_clients_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let general = format!("listen = \"127.0.0.1:{port}\"");
    let process = Launch {
        directory: directory.path(),
        name: "ringway",
        config: config(&general, ""),
        args: &[],
        env: &[],
        before: "ulimit -n 60",
    }
    .start();
    process.wait_for_log("ready");
    assert!(
        process.log().contains("too few open files"),
        "{}",
        process.log()
    );
    let fates = burst(port, 200);
    assert!(fates.contains(&Fate::Served));
    assert!(fates.contains(&Fate::Refused));
    let url = format!("host=127.0.0.1 port={port} user=ringway dbname=shop");
    wait_until(LIMIT, "room", || {
        let mut psql = std::process::Command::new("psql");
        let output = psql.args(["-XAtc", "SELECT 1", &url]).output().unwrap();
        output.status.success()
    });
}

#[test]
fn who_says_nothing_is_disconnected() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let general = format!("listen = \"127.0.0.1:{port}\"\nlogin_timeout_s = 5");
    let _process = start(directory.path(), "ringway", config(&general, ""));
    let mut silent = Wire::connect(port);
    let mut slow = Wire::connect(port);
    slow.send_bytes(&[0, 0, 0]);
    let (mut quick, _) = Wire::login(port, "ringway", "shop");
    assert_eq!(silent.read(), None);
    assert_eq!(slow.read(), None);
    assert_eq!(quick.ask("SELECT 1"), "1 SELECT 1 I");
}

/// The status of an HTTP answer.
pub(crate) fn http_status(port: u16, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return "refused".to_owned();
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_drain_sends_the_idle_away_and_waits_for_transactions() {
    assert!((0..10).any(|_| drain()), "the machine is too slow");
}

/// Whether the newcomer could ask in time.
fn drain() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let (port, http) = (free_port().unwrap(), free_port().unwrap());
    let general = format!(
        "listen = [\"127.0.0.1:{port}\", \"{}:{port}\"]\nhttp_listen = \"127.0.0.1:{http}\"",
        dir.display()
    );
    let mut process = start(dir, "ringway", config(&general, ""));
    let socket = dir.join(format!(".s.PGSQL.{port}"));
    let mut busy = vec![
        Wire::login(port, "ringway", "shop").0,
        Wire::login_unix(&socket, "ringway", "shop").0,
    ];
    for wire in &mut busy {
        assert_eq!(wire.ask("BEGIN"), "BEGIN T");
        assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 T");
    }
    let mut idle = vec![
        Wire::login(port, "ringway", "shop").0,
        Wire::login_unix(&socket, "ringway", "shop").0,
    ];
    for wire in &mut idle {
        assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 I");
    }
    wait_until(LIMIT, "a primary", || http_status(http, "/readyz") == "200");
    // One that has only just come is served once, but not waited for for long.
    let came = Instant::now();
    let (mut newcomer, _) = Wire::login(port, "ringway", "shop");
    let (mut silent, _) = Wire::login(port, "ringway", "shop");
    process.signal(Signal::Term);
    for wire in &mut idle {
        assert_eq!(
            wire.read().map(|frame| frame.code()).as_deref(),
            Some("57P01")
        );
        assert_eq!(wire.read(), None);
    }
    let _ = newcomer.try_send(&frame(b'Q', b"SELECT 'welcome'\0"));
    let answer = crate::support::wire::digest(&newcomer.read_to_ready());
    if came.elapsed() > Duration::from_secs(2) {
        return false;
    }
    assert_eq!(answer, "welcome SELECT 1 I");
    assert_eq!(http_status(http, "/readyz"), "503");
    let farewell = silent.read().map(|frame| frame.code());
    assert_eq!(farewell.as_deref(), Some("57P01"));
    assert!(!socket.exists());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    for wire in &mut busy {
        assert_eq!(wire.ask("SELECT 2"), "2 SELECT 1 T");
        assert!(!process.has_ended());
        assert_eq!(wire.ask("COMMIT"), "COMMIT I");
        assert_eq!(
            wire.read().map(|frame| frame.code()).as_deref(),
            Some("57P01")
        );
    }
    assert!(process.wait_for_end().success());
    true
}

#[test]
fn a_second_signal_ends_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let general = format!("listen = \"127.0.0.1:{port}\"");
    let mut process = start(directory.path(), "ringway", config(&general, ""));
    let (mut wire, _) = Wire::login(port, "ringway", "shop");
    assert_eq!(wire.ask("BEGIN"), "BEGIN T");
    process.signal(Signal::Term);
    process.wait_for_log("shutting down");
    assert!(!process.has_ended());
    process.signal(Signal::Term);
    assert!(process.wait_for_end().success());
    assert_eq!(wire.read(), None);
}

#[test]
fn a_signal_hastens_a_shutdown_that_waits_for_clients_and_spares_transactions() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let general = format!("listen = \"127.0.0.1:{port}\"");
    let mut process = start(directory.path(), "ringway", config(&general, ""));
    let (mut amid, _) = Wire::login(port, "ringway", "shop");
    assert_eq!(amid.ask("BEGIN"), "BEGIN T");
    assert_eq!(amid.ask("SELECT 1"), "1 SELECT 1 T");
    let (mut admin, _) = Wire::login(port, "ringway", "ringway");
    admin.query("SHUTDOWN WAIT_FOR_CLIENTS");
    wait_until(LIMIT, "new clients to be refused", || {
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
    process.signal(Signal::Term);
    process.wait_for_log("shutting down");
    assert_eq!(amid.ask("SELECT 2"), "2 SELECT 1 T");
    assert_eq!(amid.ask("COMMIT"), "COMMIT I");
    assert!(process.wait_for_end().success());
}

#[test]
fn what_is_logged_follows_set_down_to_refused_logins() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    // Two more with passwords, neither of them a role of the server: nobody watches it as one of them.
    let users = "[users.ann]\npassword = \"a\"\n[users.bob]\npassword = \"b\"";
    let config = config(&format!("listen = \"127.0.0.1:{port}\""), users);
    let mut process = start(directory.path(), "told", config);
    let url = |user: &str, database: &str| {
        format!("host=127.0.0.1 port={port} user={user} password=wrong dbname={database}")
    };
    assert_eq!(psql(&url("ringway", "shop"), "SELECT 1"), "1");
    let refused = || {
        let mut psql = std::process::Command::new("psql");
        let output = psql
            .args(["-X", "-c", "SELECT 1", &url("ann", "shop")])
            .output();
        let stderr = String::from_utf8_lossy(&output.unwrap().stderr).into_owned();
        assert!(
            stderr.contains("password authentication failed"),
            "{stderr}"
        );
    };
    refused();
    let level = |level: &str| {
        psql(
            &url("ringway", "ringway"),
            &format!("SET log_level = '{level}'"),
        )
    };
    level("info,ringway::session=debug");
    refused();
    process.wait_for_log("login refused");
    level("info");
    refused();
    process.signal(Signal::Term);
    assert!(process.wait_for_end().success());
    let log = process.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("login refused"))
        .collect();
    let [line] = lines[..] else {
        panic!("{log}");
    };
    for part in ["client=\"127.0.0.1:", "user=\"ann\"", "database=\"shop\""] {
        assert!(line.contains(part), "{line}");
    }
    assert!(
        log.lines()
            .last()
            .is_some_and(|line| line.ends_with("stopped")),
        "{log}"
    );
}
