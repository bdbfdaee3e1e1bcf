//! Server connections that stay with a client, or end under it: what it is told, and when.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use ringway::demo::captive::{CaptiveCluster, Server, Spec};

use crate::memory::{peak, process};
use crate::sessions::pooler;
use crate::support::wire::{Frame, Wire, bind, digest, execute, frame, parse, unnamed};
use crate::support::{self, Ringway};

const LIMIT: Duration = Duration::from_secs(20);

fn start(more: &str) -> (CaptiveCluster, Ringway) {
    let cluster = support::cluster(&Spec::default());
    let ringway = pooler(&cluster, more);
    (cluster, ringway)
}

fn login(ringway: &Ringway) -> Wire {
    Wire::login(ringway.port(), "ringway", "shop").0
}

/// Waits for the one backend of which `condition` holds.
fn wait_for_backend(server: &Server, condition: &str) {
    let count = format!("SELECT count(*) FROM pg_stat_activity WHERE {condition}");
    server.wait_for(&count, "1", LIMIT).unwrap();
}

/// The one backend of which `condition` holds, once it does: it may hold for a moment only.
fn terminate(server: &Server, condition: &str) {
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {condition}");
    server.wait_for(&end, "t", LIMIT).unwrap();
}

/// A name of its own that no statement can be prepared for while `holder` has its lock.
fn lock_table(primary: &Server, holder: &mut Wire) {
    primary
        .exec("CREATE TABLE IF NOT EXISTS locked (v int)")
        .unwrap();
    holder.ask("BEGIN");
    assert_eq!(holder.ask("LOCK TABLE locked"), "LOCK TABLE T");
}

#[test]
fn nothing_is_written_into_a_row_whose_server_died() {
    const LENGTH: usize = 30_000_000;
    let (cluster, ringway) = start("");
    let primary = &cluster.shards[0].primary;
    for extended in [false, true] {
        let mut wire = login(&ringway);
        let sql = format!("SELECT repeat('x', {LENGTH})");
        match extended {
            false => wire.query(&sql),
            true => {
                let messages = [parse("", &sql), bind("", "", &[]), execute("", 0)];
                wire.send_bytes(&[messages.concat(), frame(b'S', b"")].concat());
            }
        }
        let amid = "wait_event = 'ClientWrite'";
        terminate(primary, amid);
        let gone = format!("SELECT count(*) FROM pg_stat_activity WHERE {amid}");
        primary.wait_for(&gone, "0", LIMIT).unwrap();
        let bytes = wire.read_to_end();
        let start = memchr::memmem::find(&bytes, b"xxxx").expect("a row's beginning");
        let row = &bytes[start..];
        assert!(row.len() < LENGTH, "the row is whole");
        let end = row.iter().position(|byte| *byte != b'x');
        assert_eq!(
            end,
            None,
            "{:?}",
            end.map(|end| row[end..].escape_ascii().to_string())
        );
    }
}

#[test]
fn a_notification_that_comes_amid_a_question_of_ringways_is_the_clients() {
    let (cluster, ringway) = start("pool_mode = \"session\"");
    let primary = &cluster.shards[0].primary;
    let (mut own, mut holder) = (login(&ringway), login(&ringway));
    assert_eq!(own.ask("LISTEN q"), "LISTEN I");
    for statement in [
        "PREPARE p AS SELECT count(*) FROM locked",
        "PREPARE r AS SELECT 1 FROM locked",
    ] {
        lock_table(primary, &mut holder);
        own.query(statement);
        // Its Parse is one that the client has not sent.
        wait_for_backend(primary, "wait_event_type = 'Lock'");
        primary.exec("NOTIFY q, 'job'").unwrap();
        assert_eq!(holder.ask("COMMIT"), "COMMIT I");
        let frames = own.read_to_ready();
        let notified: Vec<_> = frames.iter().filter(|frame| frame.tag == b'A').collect();
        assert_eq!(notified.len(), 1, "{frames:?}");
        assert_eq!(notified[0].body[4..], *b"q\0job\0");
        assert_eq!(digest(&frames), "PREPARE I");
    }
    // Whoever has the connection next hears of nothing.
    drop(own);
    let mut next = login(&ringway);
    assert_eq!(next.ask("SELECT 1"), "1 SELECT 1 I");
}

#[test]
fn a_client_that_does_not_read_is_read_to_no_longer() {
    const NOTIFICATIONS: usize = 10_000;
    const ALLOWED_KIB: u64 = 16 * 1024;
    let (cluster, ringway) = start("pool_mode = \"session\"\n");
    let primary = &cluster.shards[0].primary;
    let mut own = login(&ringway);
    assert_eq!(own.ask("LISTEN q"), "LISTEN I");
    let pid = process(&ringway);
    let before = peak(pid);
    primary
        .exec(&format!(
            "SELECT count(pg_notify('q', g || repeat('x', 7000))) FROM generate_series(1, {NOTIFICATIONS}) AS g"
        ))
        .unwrap();
    wait_for_backend(primary, "wait_event = 'ClientWrite'");
    assert_eq!(own.read().map(|frame| frame.tag), Some(b'A'));
    let after = peak(pid);
    assert!(after - before < ALLOWED_KIB, "{before} -> {after} KiB");
    // It gets all of them once it does read, and then what it asks.
    own.query("SELECT 'asked'");
    let frames = own.read_to_ready();
    let notified = frames.iter().filter(|frame| frame.tag == b'A').count();
    assert_eq!(notified, NOTIFICATIONS - 1);
    assert_eq!(digest(&frames), "asked SELECT 1 I");
    let after = peak(pid);
    assert!(after - before < ALLOWED_KIB, "{before} -> {after} KiB");
}

#[test]
fn a_session_whose_kept_connection_is_lost_ends() {
    for (mode, keep) in [
        ("session", "SELECT 1"),
        ("transaction", "SELECT pg_advisory_lock(1)"),
    ] {
        let (cluster, ringway) = start(&format!("pool_mode = \"{mode}\""));
        let primary = &cluster.shards[0].primary;
        for extended in [false, true] {
            let (mut own, mut holder) = (login(&ringway), login(&ringway));
            own.ask(keep);
            lock_table(primary, &mut holder);
            let prepare = "PREPARE p AS SELECT count(*) FROM locked";
            match extended {
                false => own.query(prepare),
                true => {
                    own.send_bytes(&[unnamed(prepare), frame(b'S', b"")].concat());
                }
            }
            terminate(primary, "wait_event_type = 'Lock'");
            let answer = own.read_to_ready();
            assert!(
                ["57P01 end", "08006 end"].contains(&&*digest(&answer)),
                "{answer:?}"
            );
            let error = answer.iter().find(|frame| frame.tag == b'E').unwrap();
            assert_eq!(error.fields()[&'S'], "FATAL");
            holder.ask("COMMIT");
        }
    }
}

#[test]
fn deallocate_in_a_text_that_fails_ends_nobodys_session() {
    let (_cluster, ringway) = start("pool_mode = \"session\"\n");
    let mut own = login(&ringway);
    let make = [parse("s", "SELECT 7"), bind("", "s", &[]), execute("", 0)];
    assert_eq!(own.ask_pipeline(&make), "7 SELECT 1 I");
    for text in [
        "DEALLOCATE ALL; SELECT 1/0",
        "SELECT 1/0; DEALLOCATE ALL",
        "DEALLOCATE ringway_0; SELECT 1",
        "DEALLOCATE ringway_1; SELECT 1",
        "DEALLOCATE ringway_2; SELECT 1",
        "DEALLOCATE ringway_3; SELECT 1",
    ] {
        own.ask(text);
        assert_eq!(own.ask_pipeline(&make[1..]), "7 SELECT 1 I", "{text}");
    }
    // In transaction mode, for the next client too.
    let (_cluster, ringway) = start("max_db_connections = 1\n");
    let (mut own, mut next) = (login(&ringway), login(&ringway));
    assert_eq!(next.ask_pipeline(&make), "7 SELECT 1 I");
    for n in 0..5 {
        own.ask(&format!("DEALLOCATE ringway_{n}; SELECT 1"));
        assert_eq!(next.ask_pipeline(&make[1..]), "7 SELECT 1 I");
    }
}

#[test]
fn discard_all_tells_of_no_settings_but_the_clients() {
    let cluster = support::cluster(&Spec {
        settings: vec![
            ("datestyle".into(), "SQL, DMY".into()),
            ("timezone".into(), "Asia/Tokyo".into()),
        ],
        ..Spec::default()
    });
    let ringway = pooler(&cluster, "");
    let connect = |port: u16| {
        let mut wire = Wire::connect(port);
        let startup = [
            ("user", "ringway"),
            ("database", "shop"),
            ("DateStyle", "ISO"),
            ("options", "-c TimeZone=UTC -c DateStyle=German"),
        ];
        wire.send_startup(196_608, &startup);
        wire.read_to_ready();
        wire
    };
    let talk = |wire: &mut Wire| {
        let mut told = Vec::new();
        for (set, extended) in [
            ("SELECT 1", false),
            ("SELECT 1", true),
            ("SET DateStyle = 'German'", false),
            ("SET TimeZone = 'Europe/Paris'", true),
        ] {
            wire.ask(set);
            match extended {
                false => wire.query("DISCARD ALL"),
                true => {
                    wire.send_bytes(&[unnamed("DISCARD ALL"), frame(b'S', b"")].concat());
                }
            }
            let frames = wire.read_to_ready();
            told.push(digest(&frames));
            let status = frames.iter().filter(|frame| frame.tag == b'S');
            told.extend(status.map(|frame| String::from_utf8_lossy(&frame.body).into_owned()));
            told.push(wire.ask("SHOW DateStyle"));
            told.push(wire.ask("SHOW TimeZone"));
            wire.ask("BEGIN");
            told.push(wire.ask("DISCARD ALL"));
            told.push(wire.ask("ROLLBACK"));
        }
        told
    };
    let expected = talk(&mut connect(cluster.shards[0].primary.port));
    assert!(
        expected.contains(&"ISO, DMY SHOW I".to_owned()),
        "{expected:?}"
    );
    assert_eq!(talk(&mut connect(ringway.port())), expected);
}

#[test]
fn a_large_function_call_keeps_the_unnamed_statement() {
    let (cluster, ringway) = start("");
    let oid = cluster.shards[0]
        .primary
        .exec("SELECT 'length(bytea)'::regprocedure::oid")
        .unwrap();
    let talk = |wire: &mut Wire| {
        [10, 400_000].map(|bytes: usize| {
            wire.ask_pipeline(&[parse("", "SELECT 7")]);
            let mut call = oid.parse::<u32>().unwrap().to_be_bytes().to_vec();
            call.extend_from_slice(&[0, 1, 0, 1, 0, 1]);
            call.extend_from_slice(&(bytes as u32).to_be_bytes());
            call.extend_from_slice(&vec![b'x'; bytes]);
            call.extend_from_slice(&[0, 1]);
            wire.send(b'F', &call);
            let called = digest(&wire.read_to_ready());
            (
                called,
                wire.ask_pipeline(&[bind("", "", &[]), execute("", 0)]),
            )
        })
    };
    let expected = talk(&mut Wire::login(cluster.shards[0].primary.port, "ringway", "shop").0);
    assert_eq!(talk(&mut login(&ringway)), expected);
}

/// Passes bytes between clients and a server; once it is `upgraded`, new connections are told of
/// another minor version.
fn relay_with_version(server: u16, upgraded: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut server = TcpStream::connect(("127.0.0.1", server)).unwrap();
            let (mut to, mut from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
            let upgraded = upgraded.load(Relaxed);
            std::thread::spawn(move || {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(read @ 1..) = server.read(&mut bytes) {
                    let name = b"server_version\0";
                    if let Some(at) = memchr::memmem::find(&bytes[..read], name)
                        && upgraded
                    {
                        // The first digit behind the dot of 15.x.
                        let digit = &mut bytes[at + name.len() + 3];
                        *digit = if *digit == b'9' { b'8' } else { *digit + 1 };
                    }
                    if client.write_all(&bytes[..read]).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

#[test]
fn a_new_login_hears_of_a_new_version() {
    let cluster = support::cluster(&Spec::default());
    let primary = &cluster.shards[0].primary;
    let upgraded = Arc::new(AtomicBool::new(false));
    let server = relay_with_version(primary.port, Arc::clone(&upgraded));
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\nservers = [\"127.0.0.1:{server}\"]\npool_size = 1\n"
        )
    });
    let version = |frames: &[Frame]| {
        let status = frames.iter().filter(|frame| frame.tag == b'S');
        let mut bodies = status.map(|frame| String::from_utf8_lossy(&frame.body).into_owned());
        bodies.find_map(|body| body.strip_prefix("server_version\0").map(str::to_owned))
    };
    let (mut own, frames) = Wire::login(ringway.port(), "ringway", "shop");
    let before = version(&frames);
    assert!(before.is_some());
    upgraded.store(true, Relaxed);
    let others =
        "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    primary
        .exec(&format!("SELECT pg_terminate_backend(pid, 10000) {others}"))
        .unwrap();
    support::wait_until(LIMIT, "another connection", || {
        own.query("SELECT 1");
        let frames = own.read_to_ready();
        // It is not told in the midst of its session.
        assert_eq!(version(&frames), None);
        digest(&frames) == "1 SELECT 1 I"
    });
    support::wait_until(LIMIT, "the new version", || {
        assert_eq!(own.ask("SELECT 1"), "1 SELECT 1 I");
        version(&Wire::login(ringway.port(), "ringway", "shop").1) != before
    });
}
