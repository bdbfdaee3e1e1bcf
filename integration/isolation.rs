//! One server connection for all clients: what one did is never seen by the next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringway::demo::captive::CaptiveCluster;

use crate::support::wire::{Wire, bind, digest, execute, frame, parse, unnamed};
use crate::support::{self, Ringway};

const LIMIT: Duration = Duration::from_secs(15);

/// A plain server, shared: what a test leaves in it must not meet another's.
pub fn server() -> &'static CaptiveCluster {
    static SERVER: std::sync::OnceLock<CaptiveCluster> = std::sync::OnceLock::new();
    SERVER.get_or_init(|| support::cluster(&Default::default()))
}

/// A Ringway with one connection to the server.
pub fn narrow(more: &str) -> Ringway {
    let server = server().shards[0].primary.port;
    Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n\
             [users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\nservers = [\"127.0.0.1:{server}\"]\npool_size = 1\n{more}"
        )
    })
}

pub fn login(port: u16) -> Wire {
    Wire::login(port, "ringway", "shop").0
}

/// The first word of the answer: its first value or error.
pub fn value(wire: &mut Wire, sql: &str) -> String {
    let answer = wire.ask(sql);
    answer.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn what_a_pipeline_committed_before_it_failed_stays_with_its_client() {
    let ringway = narrow("");
    let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
    let default = value(&mut next, "SHOW work_mem");
    for (set, show, expected, other) in [
        ("SET work_mem = '77MB'", "SHOW work_mem", "77MB", &*default),
        (
            "SET ROLE pg_monitor",
            "SELECT current_user",
            "pg_monitor",
            "ringway",
        ),
    ] {
        let answer = own.ask_extended(&["BEGIN", set, "COMMIT", "SELECT 1/0"]);
        assert_eq!(answer, "BEGIN SET COMMIT 22012 I");
        assert_eq!(value(&mut next, show), other, "{set}");
        assert_eq!(value(&mut own, show), expected, "{set}");
    }
    let answer = own.ask_extended(&["DISCARD ALL", "SELECT 1/0"]);
    assert_eq!(answer, "DISCARD ALL 22012 I");
    for wire in [&mut next, &mut own] {
        assert_eq!(value(wire, "SHOW work_mem"), default);
        assert_eq!(value(wire, "SELECT current_user"), "ringway");
    }
}

#[test]
fn the_end_of_a_block_amid_a_pipeline_settles_its_settings() {
    let ringway = narrow("");
    let default = value(&mut login(ringway.port()), "SHOW work_mem");
    for (end, expected, last) in [
        ("COMMIT", "77MB", "SELECT 1/0"),
        ("COMMIT", "77MB", "SELECT 1"),
        ("ROLLBACK", &*default, "SELECT 1/0"),
        ("ROLLBACK", &*default, "SELECT 1"),
    ] {
        let pipelines = [
            &["BEGIN", "SET work_mem = '77MB'", end, last][..],
            &["SELECT 1", "BEGIN", "SET work_mem = '77MB'"],
            &[end, last],
        ];
        for pipelines in [&pipelines[..1], &pipelines[1..]] {
            let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
            for pipeline in pipelines {
                own.ask_extended(pipeline);
            }
            let what = format!("{end}, {last}, {} pipelines", pipelines.len());
            assert_eq!(value(&mut next, "SHOW work_mem"), default, "{what}");
            assert_eq!(value(&mut own, "SHOW work_mem"), expected, "{what}");
            assert_eq!(value(&mut next, "SHOW work_mem"), default, "{what}");
        }
    }
}

#[test]
fn what_follows_discard_all_in_its_pipeline_stays() {
    let ringway = narrow("");
    let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
    let make = [parse("s", "SELECT 7"), bind("", "s", &[]), execute("", 0)].concat();
    for wire in [&mut own, &mut next] {
        let pipeline = [unnamed("DISCARD ALL"), make.clone()];
        assert_eq!(wire.ask_pipeline(&pipeline), "DISCARD ALL 7 SELECT 1 I");
    }
    for wire in [&mut own, &mut next] {
        let run = [bind("", "s", &[]), execute("", 0)];
        assert_eq!(wire.ask_pipeline(&run), "7 SELECT 1 I");
        assert_eq!(wire.ask_extended(&["DISCARD ALL"]), "DISCARD ALL I");
        assert_eq!(wire.ask_pipeline(&run), "26000 I");
        assert_eq!(
            wire.ask_pipeline(std::slice::from_ref(&make)),
            "7 SELECT 1 I"
        );
    }
}

#[test]
fn a_setting_of_a_pipeline_that_failed_is_nobodys() {
    let ringway = narrow("");
    let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
    let default = value(&mut next, "SHOW work_mem");
    let answer = own.ask_extended(&["SET work_mem = '77MB'", "SELECT 1/0"]);
    assert_eq!(answer, "SET 22012 I");
    for wire in [&mut next, &mut own] {
        assert_eq!(value(wire, "SHOW work_mem"), default);
    }
}

#[test]
fn reset_all_leaves_the_role_and_the_role_leaves_with_its_client() {
    let ringway = narrow("");
    let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
    own.ask("SET ROLE pg_monitor");
    assert_eq!(own.ask("RESET ALL"), "RESET I");
    assert_eq!(value(&mut next, "SELECT current_user"), "ringway");
    assert_eq!(value(&mut own, "SELECT current_user"), "pg_monitor");
    assert_eq!(own.ask("RESET ROLE"), "RESET I");
    for wire in [&mut next, &mut own] {
        assert_eq!(value(wire, "SELECT current_user"), "ringway");
    }
}

#[test]
fn settings_under_savepoints_are_what_postgresql_leaves() {
    let ringway = narrow("");
    let default = value(&mut login(ringway.port()), "SHOW work_mem");
    for (statements, expected) in [
        (
            "SET work_mem = '7MB'; BEGIN; SAVEPOINT s; RESET work_mem; ROLLBACK TO s; COMMIT",
            "7MB",
        ),
        (
            "SET work_mem = '7MB'; BEGIN; SAVEPOINT s; SET work_mem = '8MB'; ROLLBACK TO s; COMMIT",
            "7MB",
        ),
        (
            "SET work_mem = '7MB'; BEGIN; SAVEPOINT s; SET work_mem = '8MB'; RELEASE s; COMMIT",
            "8MB",
        ),
        (
            "SET work_mem = '7MB'; BEGIN; SAVEPOINT s; SET work_mem = '8MB'; ROLLBACK",
            "7MB",
        ),
        (
            "BEGIN; SET work_mem = '7MB'; SAVEPOINT s; SET work_mem = '8MB'; ROLLBACK TO s; COMMIT",
            "7MB",
        ),
    ] {
        for extended in [false, true] {
            let mut own = login(ringway.port());
            for statement in statements.split("; ") {
                let answer = match extended {
                    false => own.ask(statement),
                    true => own.ask_extended(&[statement]),
                };
                let expected = format!("{} ", statement.split(' ').next().unwrap());
                assert!(answer.starts_with(&expected), "{statement}: {answer}");
            }
            assert_eq!(value(&mut own, "SHOW work_mem"), expected, "{statements}");
            // Gone, so that a server connection it kept is cleaned for the next.
            drop(own);
            let mut next = login(ringway.port());
            assert_eq!(value(&mut next, "SHOW work_mem"), default, "{statements}");
        }
    }
}

/// PostgreSQL reads constants when it parses, so a statement depends on the settings of its parser.
#[test]
fn a_shared_statement_is_read_under_its_clients_own_settings() {
    let ringway = narrow("");
    let (mut tokyo, mut york) = (login(ringway.port()), login(ringway.port()));
    tokyo.ask("SET TimeZone = 'Asia/Tokyo'");
    york.ask("SET TimeZone = 'America/New_York'");
    let sql = "SELECT extract(epoch FROM '2024-01-01'::timestamptz)::bigint";
    for wire in [&mut tokyo, &mut york] {
        wire.ask_pipeline(&[parse("s", sql)]);
    }
    let run = [bind("", "s", &[]), execute("", 0)];
    for _ in 0..3 {
        assert_eq!(tokyo.ask_pipeline(&run), "1704034800 SELECT 1 I");
        assert_eq!(york.ask_pipeline(&run), "1704085200 SELECT 1 I");
    }
    // Unlike PostgreSQL, which keeps what it has read; but it must be one of the client's own.
    york.ask("SET TimeZone = 'UTC'");
    let answer = york.ask_pipeline(&run);
    assert!(
        ["1704085200 SELECT 1 I", "1704067200 SELECT 1 I"].contains(&&*answer),
        "{answer}"
    );
    assert_eq!(tokyo.ask_pipeline(&run), "1704034800 SELECT 1 I");
}

#[test]
fn a_late_cancel_request_never_hits_another_client() {
    let ringway = narrow("");
    let (mut hasty, frames) = Wire::login(ringway.port(), "ringway", "shop");
    let key = frames.iter().find(|frame| frame.tag == b'K').unwrap();
    let mut request = 80_877_102u32.to_be_bytes().to_vec();
    request.extend_from_slice(&key.body);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            let mut wire = login(ringway.port());
            while !done.load(Ordering::Relaxed) {
                let answer = wire.ask("SELECT 'b' FROM pg_sleep(0.001)");
                assert_eq!(answer, "b SELECT 1 I");
            }
        });
        for _ in 0..150 {
            hasty.query("SELECT 'a'");
            Wire::connect(ringway.port()).send_untagged(&request);
            let answer = digest(&hasty.read_to_ready());
            assert!(["a SELECT 1 I", "57014 I"].contains(&&*answer), "{answer}");
        }
        done.store(true, Ordering::Relaxed);
        neighbour.join().unwrap();
    });
}

#[test]
fn deallocate_all_in_a_transaction_leaves_everybodys_statements_right() {
    let ringway = narrow("");
    let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
    let make = [parse("s", "SELECT 7"), bind("", "s", &[]), execute("", 0)];
    let run = &make[1..];
    for (end, extended) in [
        ("COMMIT", false),
        ("ROLLBACK", false),
        ("COMMIT", true),
        ("ROLLBACK", true),
    ] {
        assert_eq!(own.ask_pipeline(&make), "7 SELECT 1 I");
        own.ask("BEGIN");
        own.ask("SELECT 1");
        let answer = match extended {
            false => own.ask("DEALLOCATE ALL"),
            true => own.ask_extended(&["DEALLOCATE ALL"]),
        };
        assert_eq!(answer, "DEALLOCATE ALL T");
        assert_eq!(own.ask(end), format!("{end} I"));
        assert_eq!(own.ask_pipeline(run), "26000 I");
        assert_eq!(next.ask_pipeline(&make), "7 SELECT 1 I");
        assert_eq!(next.ask_pipeline(run), "7 SELECT 1 I");
        next.ask_pipeline(&[frame(b'C', b"Ss\0")]);
    }
    // With a statement of SQL's own, which the server knows too.
    own.ask_pipeline(&make);
    assert_eq!(own.ask("PREPARE q AS SELECT 8"), "PREPARE I");
    own.ask("BEGIN");
    assert_eq!(own.ask("DEALLOCATE ALL"), "DEALLOCATE ALL T");
    assert_eq!(own.ask("COMMIT"), "COMMIT I");
    assert_eq!(own.ask("EXECUTE q"), "26000 I");
    assert_eq!(own.ask_pipeline(&make), "7 SELECT 1 I");
    drop(own);
    assert_eq!(next.ask_pipeline(&make), "7 SELECT 1 I");
}

#[test]
fn an_error_amid_eviction_leaves_everybodys_statements_right() {
    let ringway = narrow("max_prepared_statements = 3\n");
    let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
    let named = |n: usize| {
        let (name, sql) = (format!("s{n}"), format!("SELECT {n}"));
        [parse(&name, &sql), bind("", &name, &[]), execute("", 0)].concat()
    };
    let run = |n: usize| [bind("", &format!("s{n}"), &[]), execute("", 0)];
    // Four of them are more than the server keeps; the others come after the error.
    let mut messages: Vec<_> = (0..4).map(named).collect();
    messages.push(unnamed("SELECT 1/0"));
    messages.extend((4..7).map(named));
    for wire in [&mut own, &mut next] {
        assert_eq!(
            wire.ask_pipeline(&messages),
            "0 SELECT 1 1 SELECT 1 2 SELECT 1 3 SELECT 1 22012 I"
        );
    }
    for _ in 0..3 {
        for wire in [&mut own, &mut next] {
            for n in 0..4 {
                assert_eq!(wire.ask_pipeline(&run(n)), format!("{n} SELECT 1 I"));
            }
        }
    }
    for wire in [&mut own, &mut next] {
        assert_eq!(wire.ask_pipeline(&run(5)), "26000 I");
        assert_eq!(wire.ask_pipeline(&[named(5)]), "5 SELECT 1 I");
    }
}

/// Runs the same on PostgreSQL and through Ringway.
pub fn assert_same(what: &str, talk: impl Fn(&mut Wire) -> Vec<String>) {
    let ringway = narrow("");
    let expected = talk(&mut login(server().shards[0].primary.port));
    assert_eq!(talk(&mut login(ringway.port())), expected, "{what}");
}

#[test]
fn a_query_among_extended_messages_is_answered_as_postgresql_does() {
    assert_same("while skipping", |wire| {
        wire.send_bytes(&unnamed("SELECT 1/0"));
        wire.query("SELECT 'ignored'");
        let mut answers = vec![wire.ask_pipeline(&[])];
        answers.push(wire.ask("SELECT 'heard'"));
        answers
    });
    assert_same("after Execute", |wire| {
        wire.send_bytes(&unnamed("SELECT 'extended'"));
        let mut answers = vec![wire.ask("SELECT 'simple'")];
        answers.push(wire.ask_pipeline(&[]));
        answers
    });
    assert_same("after Bind", |wire| {
        wire.send_bytes(&[parse("s", "SELECT 'extended'"), bind("", "s", &[])].concat());
        let mut answers = vec![wire.ask("SELECT 'simple'")];
        answers.push(wire.ask_pipeline(&[bind("", "s", &[]), execute("", 0)]));
        answers
    });
    assert_same("after Parse", |wire| {
        wire.send_bytes(&parse("s", "SELECT 'extended'"));
        let mut answers = vec![wire.ask("SELECT 'simple'")];
        answers.push(wire.ask_pipeline(&[bind("", "s", &[]), execute("", 0)]));
        answers
    });
}

#[test]
fn a_portal_ends_with_its_transaction_as_in_postgresql() {
    for end in ["COMMIT", "ROLLBACK"] {
        assert_same(end, |wire| {
            wire.ask("BEGIN");
            let open = [parse("", "SELECT 1"), bind("p", "", &[])];
            let mut answers = vec![wire.ask_pipeline(&open)];
            answers.push(wire.ask(end));
            answers.push(wire.ask_pipeline(&[execute("p", 0)]));
            answers.push(wire.ask_pipeline(&[frame(b'C', b"Pp\0")]));
            answers.push(wire.ask("SELECT 2"));
            answers
        });
    }
}

#[test]
fn forty_thousand_parameters_are_bound() {
    const COUNT: usize = 40_000;
    let list: Vec<_> = (1..=COUNT).map(|n| format!("${n}::int")).collect();
    let sql = format!("SELECT cardinality(ARRAY[{}])", list.join(","));
    let values = vec!["1"; COUNT];
    assert_same("40,000 parameters", |wire| {
        let messages = [parse("", &sql), bind("", "", &values), execute("", 0)];
        vec![wire.ask_pipeline(&messages), wire.ask("SELECT 2")]
    });
}

#[test]
fn a_terminated_backend_tells_its_client_once() {
    let ringway = narrow("");
    let primary = &server().shards[0].primary;
    for extended in [false, true] {
        let mut wire = login(ringway.port());
        match extended {
            false => wire.query("SELECT pg_sleep(61)"),
            true => wire.send_bytes(&[unnamed("SELECT pg_sleep(61)"), frame(b'S', b"")].concat()),
        }
        terminate(
            primary,
            "query = 'SELECT pg_sleep(61)' AND state = 'active'",
        );
        // The end of the statement, not of the session: nothing of it was answered.
        let frames = wire.read_to_ready();
        assert_eq!(digest(&frames), "57P01 I");
        let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
        assert_eq!(error.fields()[&'S'], "ERROR");
        assert_eq!(wire.ask("SELECT 'next'"), "next SELECT 1 I");
    }
}

/// Ends the one backend of which `condition` holds, once there is one, and waits for its end.
fn terminate(server: &ringway::demo::captive::Server, condition: &str) {
    let count = format!("SELECT count(*) FROM pg_stat_activity WHERE {condition}");
    server.wait_for(&count, "1", LIMIT).unwrap();
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {condition}");
    assert_eq!(server.exec(&end).unwrap(), "t");
    server.wait_for(&count, "0", LIMIT).unwrap();
}

#[test]
fn what_was_sent_for_a_copy_whose_server_died_is_not_run() {
    let ringway = narrow("");
    let primary = &server().shards[0].primary;
    primary
        .exec("CREATE TABLE copied (id text); CREATE TABLE run (id text)")
        .unwrap();
    let mut wire = login(ringway.port());
    wire.query("COPY copied FROM STDIN");
    assert_eq!(wire.read().map(|frame| frame.tag), Some(b'G'));
    let query = frame(b'Q', b"INSERT INTO run VALUES ('data')\0");
    let start = b"half a row, and then ".repeat(1000);
    let data = frame(b'd', &[&start[..], &query[..]].concat());
    let (sent, rest) = data.split_at(data.len() - query.len());
    wire.send_bytes(sent);
    terminate(primary, "query LIKE 'COPY copied%' AND state = 'active'");
    // It may have been closed already.
    let _ = wire.try_send(rest);
    let _ = wire.try_send(&frame(b'c', b""));
    let answer = digest(&wire.read_to_ready());
    assert!(
        ["57P01 end", "08006 end", "end"].contains(&&*answer),
        "{answer}"
    );
    let mut next = login(ringway.port());
    assert_eq!(next.ask("SELECT count(*) FROM run"), "0 SELECT 1 I");
    assert_eq!(next.ask("SELECT count(*) FROM copied"), "0 SELECT 1 I");
}

#[test]
fn what_is_prepared_under_set_local_is_not_shared() {
    let ringway = narrow("");
    let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
    let prepare = "PREPARE at AS SELECT extract(epoch FROM '2026-01-01 00:00'::timestamptz)::text";
    let utc = "SET TimeZone TO 'UTC'";
    for sql in [utc, "BEGIN", "SET LOCAL TimeZone TO 'Asia/Tokyo'", prepare] {
        own.ask(sql);
    }
    let tokyo = value(&mut own, "EXECUTE at");
    own.ask("COMMIT");
    for sql in [utc, prepare] {
        next.ask(sql);
    }
    let there = value(&mut next, "EXECUTE at");
    assert_ne!(there, tokyo);
    assert_eq!(value(&mut own, "EXECUTE at"), there);
}

#[test]
fn a_statement_whose_parse_failed_was_never_made() {
    assert_same("rejected", |wire| {
        let run = |name: &str| [bind("", name, &[]), execute("", 0)].concat();
        let missing = |name: &str| parse(name, "SELECT * FROM nowhere_yet");
        let mut answers = vec![
            wire.ask_pipeline(&[parse("a", "SELECT 1"), missing("b"), parse("c", "SELECT 3")]),
            wire.ask_pipeline(&[run("a")]),
            wire.ask_pipeline(&[run("b")]),
            wire.ask_pipeline(&[run("c")]),
            wire.ask_pipeline(&[parse("b", "SELECT 2"), run("b")]),
            // The same text under two names: one failed, and the other was skipped.
            wire.ask_pipeline(&[missing("d"), missing("e")]),
            wire.ask_pipeline(&[parse("d", "SELECT 4"), parse("e", "SELECT 5"), run("e")]),
        ];
        // The one without a name is gone once a Parse replaces it, also with what fails.
        answers.push(wire.ask_pipeline(&[parse("", "SELECT 6"), parse("", "SELEKT")]));
        answers.push(wire.ask_pipeline(&[run("")]));
        answers.push(wire.ask_pipeline(&[parse("", "SELEKT"), parse("", "SELECT 6")]));
        answers.push(wire.ask_pipeline(&[run("")]));
        // It stays where the Parse was skipped.
        answers.push(wire.ask_pipeline(&[parse("", "SELECT 7")]));
        answers.push(wire.ask_pipeline(&[missing("f"), parse("", "SELECT 8")]));
        answers.push(wire.ask_pipeline(&[run("")]));
        answers.push(wire.ask_pipeline(&[run("a"), run("d")]));
        answers
    });
}
