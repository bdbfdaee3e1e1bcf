//! When a setting counts and where: at Execute, on every shard of its transaction, whatever came
//! between Bind and Execute; and that Ringway's own questions are not subject to it.

use crate::isolation::{assert_same, narrow};
use crate::support::process::LIMIT;
use crate::support::wire::{Wire, bind, execute, frame, parse, unnamed};
use crate::support::{self, Ringway};
use crate::transactions::{Two, cluster};

const MEM_A: &str = "SELECT current_setting('work_mem') FROM $t WHERE k = $a";
const MEM_B: &str = "SELECT current_setting('work_mem') FROM $t WHERE k = $b";

#[test]
fn a_set_counts_when_it_is_executed() {
    let two = Two::start("set_executed", "");
    let mut wire = two.login();
    for set in ["SET work_mem = '77MB'", "SET LOCAL work_mem = '77MB'"] {
        wire.ask("BEGIN");
        assert_eq!(two.ask(&mut wire, MEM_A), "4MB SELECT 1 T");
        let bound = [parse("", set), bind("p", "", &[])];
        assert_eq!(wire.ask_pipeline(&bound), "T");
        assert_eq!(two.ask(&mut wire, MEM_B), "4MB SELECT 1 T", "{set}");
        assert_eq!(wire.ask_pipeline(&bound[..1]), "T");
        assert_eq!(wire.ask_pipeline(&[execute("p", 0)]), "SET T");
        for mem in [MEM_A, MEM_B] {
            assert_eq!(two.ask(&mut wire, mem), "77MB SELECT 1 T", "{set}");
        }
        assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
    }
    // A shard that joins later hears of what succeeded alone.
    wire.ask("BEGIN");
    two.ask(&mut wire, MEM_A);
    assert_eq!(wire.ask_extended(&["SAVEPOINT s"]), "SAVEPOINT T");
    assert_eq!(wire.ask_extended(&["SET work_mem = 'much'"]), "22023 E");
    assert_eq!(
        wire.ask_extended(&["ROLLBACK TO s", "SET work_mem = '5MB'"]),
        "ROLLBACK SET T"
    );
    assert_eq!(two.ask(&mut wire, MEM_B), "5MB SELECT 1 T");
    assert_eq!(wire.ask("COMMIT"), "COMMIT I");
    for mem in [MEM_A, MEM_B] {
        assert_eq!(two.ask(&mut wire, mem), "5MB SELECT 1 I");
    }
}

#[test]
fn execute_sets_on_every_shard_or_is_refused() {
    let two = Two::start("execute_sets", "");
    let mut wire = two.login();
    wire.ask("PREPARE s AS SELECT set_config('work_mem', '77MB', false)");
    for extended in [false, true] {
        let mut ask = |sql: &str| match extended {
            false => two.ask(&mut wire, sql),
            true => two.ask_extended(&mut wire, &[sql]),
        };
        assert_eq!(ask("BEGIN"), "BEGIN T");
        ask(MEM_A);
        ask(MEM_B);
        assert_eq!(ask("EXECUTE s"), "0A000 E");
        assert_eq!(ask("ROLLBACK"), "ROLLBACK I");
        assert_eq!(ask("EXECUTE s"), "77MB SELECT 1 I");
        assert_eq!(ask(MEM_A), "77MB SELECT 1 I");
        assert_eq!(ask(MEM_B), "77MB SELECT 1 I");
        assert_eq!(ask("RESET work_mem"), "RESET I");
    }
}

#[test]
fn describing_an_execute_changes_nothing() {
    let ringway = narrow("");
    let (mut own, mut next) = (login(&ringway), login(&ringway));
    own.ask("PREPARE s AS SELECT set_config(lower('App.Who'), 'me', false)");
    let described = [parse("d", "EXECUTE s"), frame(b'D', b"Sd\0")];
    own.ask_pipeline(&described);
    // It leaves its connection as ever: nothing unknown was set.
    own.ask("SELECT set_config('work_mem', '5MB', false)");
    assert_eq!(next.ask("SELECT 1"), "1 SELECT 1 I");
    // Nor does it end what was begun before.
    assert_same("after a write", |wire| {
        wire.ask("CREATE TEMP TABLE t (v int)");
        wire.ask("PREPARE r AS SELECT count(*) FROM t");
        let messages = [
            unnamed("INSERT INTO t VALUES (1)"),
            parse("d", "EXECUTE r"),
            frame(b'D', b"Sd\0"),
            unnamed("EXECUTE r"),
            unnamed("SELECT 1/0"),
        ];
        vec![
            wire.ask_pipeline(&messages),
            wire.ask("SELECT count(*) FROM t"),
            wire.ask("DROP TABLE t"),
        ]
    });
}

#[test]
fn questions_of_ringway_are_not_under_the_clients_settings() {
    let ringway = narrow("checkout_timeout_ms = 3000");
    let (mut own, mut next) = (login(&ringway), login(&ringway));
    for sql in [
        "CREATE SCHEMA IF NOT EXISTS misled",
        // Slow enough for a statement_timeout, were it asked in place of the catalog's.
        "CREATE OR REPLACE FUNCTION misled.pg_backend_pid() RETURNS int LANGUAGE plpgsql \
            AS 'BEGIN PERFORM pg_sleep(1); RETURN 0; END'",
    ] {
        own.ask(sql);
    }
    // What it sends itself may take too long, which is as it should be.
    let patiently = |wire: &mut Wire, sql: &str| loop {
        let answer = wire.ask(sql);
        if !answer.starts_with("57014") {
            return answer;
        }
    };
    for n in 0..20 {
        own.ask("SET search_path = misled, pg_catalog");
        own.ask("BEGIN");
        // Both have the server asked: what is left, and what is set.
        own.ask("CREATE TEMP TABLE t (v int) ON COMMIT DROP");
        own.ask("SELECT set_config('lock_timeout', '1ms', false)");
        own.ask("SELECT set_config('statement_timeout', '1ms', false)");
        if own.ask("COMMIT") == "COMMIT I" {
            assert_eq!(next.ask("SHOW statement_timeout"), "0 SHOW I", "{n}");
            assert_eq!(
                patiently(&mut own, "SHOW lock_timeout"),
                "1ms SHOW I",
                "{n}"
            );
            let shown = patiently(&mut own, "SHOW statement_timeout");
            assert_eq!(shown, "1ms SHOW I", "{n}");
        }
        own.ask("ROLLBACK");
        assert_eq!(patiently(&mut own, "RESET ALL"), "RESET I");
        own.ask("SELECT set_config('statement_timeout', '0', false)");
        assert_eq!(own.ask("SHOW statement_timeout"), "0 SHOW I", "{n}");
        assert_eq!(next.ask("SELECT 1"), "1 SELECT 1 I", "{n}");
    }
}

#[test]
fn what_begins_amid_a_pipeline_takes_in_what_came_before() {
    let begin = || [parse("b", "BEGIN"), bind("b", "b", &[])].concat();
    let end = |verb: &str| [parse("e", verb), bind("e", "e", &[])].concat();
    assert_same("BEGIN bound before a write", |wire| {
        wire.ask("CREATE TABLE IF NOT EXISTS begun (v int)");
        let write = unnamed("INSERT INTO begun VALUES (1)");
        let open = [parse("o", "SELECT 'open'"), bind("o", "o", &[])].concat();
        let messages = [begin(), open, write, execute("b", 0), execute("o", 0)];
        vec![
            wire.ask_pipeline(&messages),
            wire.ask("SELECT count(*) FROM begun"),
            wire.ask("ROLLBACK"),
            wire.ask("SELECT count(*) FROM begun"),
            // Twice is once.
            wire.ask_pipeline(&[
                begin().split_off(parse("b", "BEGIN").len()),
                execute("b", 0),
                unnamed("BEGIN"),
            ]),
            wire.ask("INSERT INTO begun VALUES (1)"),
            wire.ask("ROLLBACK"),
            wire.ask("SELECT count(*) FROM begun"),
        ]
    });
    for verb in ["ROLLBACK", "COMMIT"] {
        assert_same(verb, |wire| {
            wire.ask("CREATE TABLE IF NOT EXISTS ended (v int)");
            wire.ask("TRUNCATE ended");
            let write = |v: i32| unnamed(&format!("INSERT INTO ended VALUES ({v})"));
            let messages = [
                end(verb),
                write(1),
                execute("e", 0),
                write(2),
                unnamed("SELECT 1/0"),
            ];
            vec![
                wire.ask_pipeline(&messages),
                wire.ask("SELECT sum(v) FROM ended"),
            ]
        });
    }
    assert_same("SET bound before BEGIN", |wire| {
        let set = [
            parse("s", "SET LOCAL work_mem = '77MB'"),
            bind("s", "s", &[]),
        ]
        .concat();
        let messages = [set, begin(), execute("b", 0), execute("s", 0)];
        vec![
            wire.ask_pipeline(&messages),
            wire.ask("SHOW work_mem"),
            wire.ask("COMMIT"),
            wire.ask("SHOW work_mem"),
        ]
    });
    assert_same("SET bound before COMMIT", |wire| {
        wire.ask("BEGIN");
        let set = [parse("s", "SET work_mem = '77MB'"), bind("s", "s", &[])].concat();
        let messages = [set, unnamed("COMMIT"), execute("s", 0)];
        vec![wire.ask_pipeline(&messages), wire.ask("SHOW work_mem")]
    });
    assert_same("isolation after a query", |wire| {
        let begin = "BEGIN ISOLATION LEVEL SERIALIZABLE";
        vec![
            wire.ask_extended(&["SELECT 1", begin, "SELECT 2"]),
            wire.ask("SELECT 3"),
            wire.ask("ROLLBACK"),
        ]
    });
}

#[test]
fn a_block_begun_amid_a_pipeline_holds_on_every_shard() {
    let two = Two::start("begun_amid", "");
    let mut wire = two.login();
    let update_b = "UPDATE $t SET v = 9 WHERE k = $b";
    let answer = two.ask_extended(&mut wire, &[MEM_A, "BEGIN", update_b]);
    assert_eq!(answer, "4MB SELECT 1 BEGIN UPDATE 1 T");
    assert_eq!(two.ask(&mut wire, MEM_A), "4MB SELECT 1 T");
    assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
    let read = "SELECT v FROM $t WHERE k = $b";
    assert_eq!(two.ask(&mut wire, read), "0 SELECT 1 I");
}

fn login(ringway: &Ringway) -> Wire {
    crate::isolation::login(ringway.port())
}

/// The answer, once the connection that there is has come back.
fn ask_when_free(wire: &mut Wire, extended: bool, sql: &str) -> String {
    let mut answer = String::new();
    support::wait_until(LIMIT, "the connection", || {
        answer = match extended {
            false => wire.ask(sql),
            true => wire.ask_extended(&[sql]),
        };
        !answer.starts_with("53300 ")
    });
    answer
}

#[test]
fn a_table_made_where_the_path_begins_with_pg_temp_pins() {
    let ringway = narrow("checkout_timeout_ms = 1000");
    let (mut own, mut next) = (login(&ringway), login(&ringway));
    ask_when_free(&mut own, false, "SELECT 1");
    let set = |how: &str, create: &str| (how.to_owned(), create.to_owned());
    for (how, create) in [
        set("SET search_path = pg_temp", "CREATE TABLE t (v int)"),
        set(
            "SET search_path = \"pg_temp\", public",
            "CREATE TABLE t AS SELECT 1 AS v",
        ),
        set("SET search_path = pg_temp, public", "SELECT 1 AS v INTO t"),
        set(
            "SELECT set_config('search_path', 'pg_temp', false)",
            "CREATE TABLE t (v int)",
        ),
        set(
            "SET work_mem = '5MB'",
            "SET search_path = pg_temp; CREATE TABLE t (v int)",
        ),
    ] {
        for extended in [false, true] {
            if extended && create.contains(';') {
                continue;
            }
            let mut ask = |sql: &str| ask_when_free(&mut own, extended, sql);
            ask(&how);
            assert!(ask(&create).ends_with(" I"));
            assert_eq!(next.ask("SELECT 1"), "53300 I", "{how}, {create}");
            assert!(
                ask("SELECT count(*) FROM t").ends_with("SELECT 1 I"),
                "{create}"
            );
            assert_eq!(ask("DROP TABLE t"), "DROP TABLE I");
            let left = ask_when_free(&mut next, false, "SELECT to_regclass('pg_temp.t')");
            assert_eq!(left, " SELECT 1 I");
            ask("RESET ALL");
        }
    }
    ask_when_free(&mut own, false, "SELECT 1");
    own.ask("BEGIN");
    own.ask("SET LOCAL search_path = pg_temp");
    own.ask("CREATE TABLE t (v int)");
    own.ask("COMMIT");
    assert_eq!(next.ask("SELECT 1"), "53300 I");
    own.ask("DISCARD TEMP");
    let free = ask_when_free(&mut next, false, "SELECT 1");
    assert_eq!(free, "1 SELECT 1 I");
}

#[test]
fn a_set_in_another_encoding_is_seen() {
    let ringway = narrow("");
    let (mut own, mut next) = (login(&ringway), login(&ringway));
    let ask = |wire: &mut Wire, sql: &str, extended: bool| {
        let latin: Vec<u8> = sql.chars().map(|c| c as u8).collect();
        match extended {
            false => wire.send(b'Q', &[&latin[..], b"\0"].concat()),
            true => {
                let parse = frame(b'P', &[b"\0", &latin[..], b"\0\0\0"].concat());
                wire.send_bytes(&[parse, bind("", "", &[]), execute("", 0)].concat());
                wire.send(b'S', b"");
            }
        }
        crate::support::wire::digest(&wire.read_to_ready())
    };
    own.ask("SET client_encoding = 'LATIN1'");
    for extended in [false, true] {
        assert_eq!(
            ask(&mut own, "SET work_mem /* é */ = '5MB'", extended),
            "SET I"
        );
        assert_eq!(
            ask(&mut own, "SET application_name = 'é'", extended),
            "SET I"
        );
        assert_eq!(ask(&mut own, "SET app.who = 'é'", extended), "SET I");
        assert_eq!(next.ask("SHOW work_mem"), "4MB SHOW I");
        assert_eq!(
            next.ask("SELECT current_setting('app.who', true)"),
            " SELECT 1 I"
        );
        assert_eq!(own.ask("SHOW work_mem"), "5MB SHOW I");
        assert_eq!(
            own.ask("SELECT length(current_setting('app.who'))"),
            "1 SELECT 1 I"
        );
        assert_eq!(ask(&mut own, "BEGIN -- é", extended), "BEGIN T");
        assert_eq!(
            ask(&mut own, "SET LOCAL work_mem = '6MB' -- é", extended),
            "SET T"
        );
        assert_eq!(own.ask("SHOW work_mem"), "6MB SHOW T");
        assert_eq!(ask(&mut own, "COMMIT -- é", extended), "COMMIT I");
        assert_eq!(next.ask("SHOW work_mem"), "4MB SHOW I");
        assert_eq!(own.ask("SHOW work_mem"), "5MB SHOW I");
        assert_eq!(ask(&mut own, "RESET ALL -- é", extended), "RESET I");
        assert_eq!(own.ask("SHOW work_mem"), "4MB SHOW I");
        assert_eq!(own.ask("SHOW client_encoding"), "UTF8 SHOW I");
        own.ask("SET client_encoding = 'LATIN1'");
    }
}

#[test]
fn errors_name_statements_as_the_client_does() {
    let ringway = narrow("");
    let message = |wire: &mut Wire, messages: &[Vec<u8>]| {
        wire.send_bytes(&messages.concat());
        wire.send(b'S', b"");
        let frames = wire.read_to_ready();
        let error = frames.into_iter().find(|frame| frame.tag == b'E');
        error.map(|error| {
            let fields = error.fields();
            ['S', 'C', 'M', 'D', 'H', 'P'].map(|field| fields.get(&field).cloned())
        })
    };
    let talk = |wire: &mut Wire| {
        let mut told = Vec::new();
        let named = [
            parse("mine", "SELECT $1::int"),
            bind("", "mine", &["1", "2"]),
        ];
        told.push(message(wire, &named));
        told.push(message(wire, &[parse("mine", "SELECT $1::int")]));
        told.push(message(wire, &[parse("twin", "SELECT $1::int")]));
        told.push(message(wire, &[bind("", "twin", &[]), execute("", 0)]));
        told.push(message(wire, &[bind("", "mine", &[]), execute("", 0)]));
        for _ in 0..5 {
            let unnamed = [parse("", "SELECT $1::int + 1"), bind("", "", &[])];
            told.push(message(wire, &unnamed));
        }
        told.push(message(wire, &[unnamed("EXECUTE mine (1, 2)")]));
        wire.query("EXECUTE mine (1, 2)");
        let frames = wire.read_to_ready();
        told.push(Some(
            ['S', 'C', 'M', 'D', 'H', 'P'].map(|field| frames[0].fields().get(&field).cloned()),
        ));
        told
    };
    let direct = talk(&mut login_direct());
    assert_eq!(talk(&mut login(&ringway)), direct);
    let reusing = narrow("reuse_unnamed_statements = true");
    assert_eq!(talk(&mut login(&reusing)), direct);
}

fn login_direct() -> Wire {
    let server = crate::isolation::server();
    crate::isolation::login(server.shards[0].primary.port)
}

#[test]
fn a_statement_on_all_shards_stops_at_its_row_limit() {
    let ringway = Ringway::start(|port| {
        let shard = |at: usize| {
            let server = cluster().shards[at].primary.port;
            format!(
                "[[databases.shop.shards]]\nname = \"s{at}\"\nservers = [\"127.0.0.1:{server}\"]\n"
            )
        };
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n\
             [databases.shop.tables]\nrow_limit = \"reference\"\n{}{}",
            shard(0),
            shard(1)
        )
    });
    let mut direct = login_direct();
    let mut own = login(&ringway);
    for wire in [&mut direct, &mut own] {
        assert_eq!(wire.ask("CREATE TABLE row_limit (v int)"), "CREATE TABLE I");
        wire.ask("INSERT INTO row_limit VALUES (1), (2), (3), (4), (5), (6), (7), (8)");
    }
    let talk = |wire: &mut Wire| {
        let sql = "UPDATE row_limit SET v = v + 1 RETURNING v";
        let open = [parse("", sql), bind("p", "", &[])];
        let limited = |limit: u32| execute("p", limit);
        vec![
            wire.ask_pipeline(&[
                open.concat(),
                limited(3),
                limited(3),
                limited(3),
                limited(3),
            ]),
            wire.ask_pipeline(&[open.concat(), limited(8), limited(0), limited(1)]),
            wire.ask_pipeline(&[open.concat(), limited(7), frame(b'C', b"Pp\0")]),
            wire.ask_pipeline(&[open.concat(), limited(0), limited(0)]),
            wire.ask_pipeline(&[
                parse("", "UPDATE row_limit SET v = 2"),
                bind("p", "", &[]),
                limited(1),
                limited(1),
            ]),
        ]
    };
    let expected = talk(&mut direct);
    assert_eq!(talk(&mut own), expected);
}

#[test]
fn copy_of_a_missing_table_says_so() {
    let two = Two::start("copy_missing", "");
    let mut wire = two.login();
    for sql in [
        "COPY nowhere FROM STDIN",
        "COPY public.nowhere (a, b) FROM STDIN WITH (FORMAT csv)",
        "COPY nowhere TO STDOUT",
    ] {
        assert_eq!(wire.ask(sql), "42P01 I", "{sql}");
        assert_eq!(wire.ask_extended(&[sql]), "42P01 I", "{sql}");
        wire.ask("BEGIN");
        assert_eq!(wire.ask(sql), "42P01 E", "{sql}");
        assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
    }
    assert_eq!(wire.ask("COPY copy_missing TO STDOUT"), "COPY 8 I");
}

#[test]
fn sets_among_other_statements_are_checked_as_well() {
    let two = Two::start("checked_among", "");
    let mut wire = two.login();
    assert_eq!(wire.ask("SET search_path = elsewhere; SELECT 1"), "0A000 I");
    wire.ask("BEGIN");
    assert_eq!(two.ask(&mut wire, MEM_A), "4MB SELECT 1 T");
    let set = "SET LOCAL work_mem = '7MB'; SELECT 1";
    assert_eq!(wire.ask(set), "SET 1 SELECT 1 T");
    // A shard that joins later hears of it.
    assert_eq!(two.ask(&mut wire, MEM_B), "7MB SELECT 1 T");
}

#[test]
fn a_shard_that_joins_late_keeps_its_clients_settings_to_itself() {
    let two = Two::start("joins_late", "pool_size = 1");
    let (mut own, mut next) = (two.login(), two.login());
    for (set, value) in [
        ("SET work_mem = '77MB'", "77MB"),
        ("SELECT set_config('work_mem', '78MB', false)", "78MB"),
    ] {
        assert_eq!(own.ask("BEGIN"), "BEGIN T");
        two.ask(&mut own, MEM_A);
        own.ask(set);
        let there = two.ask(&mut own, MEM_B);
        assert_eq!(there, format!("{value} SELECT 1 T"), "{set}");
        assert_eq!(own.ask("COMMIT"), "COMMIT I");
        for mem in [MEM_A, MEM_B] {
            assert_eq!(two.ask(&mut next, mem), "4MB SELECT 1 I", "{set}");
            let after = two.ask(&mut own, mem);
            assert_eq!(after, format!("{value} SELECT 1 I"), "{set}");
        }
    }
}

#[test]
fn a_commit_that_fails_takes_settings_and_notifications_back() {
    let two = Two::start("deferred", "");
    let checked = "CREATE FUNCTION refused() RETURNS trigger LANGUAGE plpgsql \
        AS $$BEGIN RAISE unique_violation; END$$; \
        CREATE CONSTRAINT TRIGGER refused AFTER UPDATE ON deferred \
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refused()";
    for shard in &cluster().shards {
        shard.primary.exec(checked).unwrap();
    }
    let (mut own, mut sender) = (two.login(), two.login());
    assert_eq!(own.ask("LISTEN bell"), "LISTEN I");
    for extended in [false, true] {
        two.begin_on_both(&mut own);
        own.ask("SET work_mem = '77MB'");
        assert_eq!(own.ask("LISTEN undone"), "LISTEN T");
        // The listeners' shard, so that the same COMMIT decides on both.
        assert_eq!(own.ask("NOTIFY bell, 'never'"), "NOTIFY T");
        let update = two.ask(&mut own, "UPDATE $t SET v = 1 WHERE k = $a");
        assert_eq!(update, "UPDATE 1 T");
        let answer = match extended {
            false => own.ask("COMMIT"),
            true => own.ask_extended(&["COMMIT"]),
        };
        assert_eq!(answer, "23505 I", "extended: {extended}");
        for mem in [MEM_A, MEM_B] {
            assert_eq!(two.ask(&mut own, mem), "4MB SELECT 1 I");
        }
        sender.ask("NOTIFY undone, 'never'");
        sender.ask("NOTIFY bell, 'one'");
        let told = own.read().unwrap();
        assert!(told.tag == b'A' && told.body.ends_with(b"bell\0one\0"));
    }
}

#[test]
fn a_custom_setting_leaves_with_its_client_however_it_was_made() {
    let ringway = narrow("");
    let mut next = login(&ringway);
    let shown = "SELECT 'is ' || coalesce(current_setting('app.who', true), '')";
    for (prepare, run) in [
        (
            "PREPARE p AS SELECT set_config('app.who', 'me', false)",
            "EXECUTE p",
        ),
        (
            "PREPARE p (text) AS SELECT set_config($1, 'me', false)",
            "EXECUTE p ('app.who')",
        ),
        (
            "PREPARE p (text) AS SELECT $1",
            "EXECUTE p (set_config('app.who', 'me', false))",
        ),
    ] {
        for extended in [false, true] {
            let mut own = login(&ringway);
            assert_eq!(own.ask(prepare), "PREPARE I");
            let answer = match extended {
                false => own.ask(run),
                true => own.ask_extended(&[run]),
            };
            assert_eq!(answer, "me SELECT 1 I", "{run}");
            assert_eq!(next.ask(shown), "is  SELECT 1 I", "{run}");
            assert_eq!(own.ask(shown), "is me SELECT 1 I", "{run}");
        }
    }
    for text in [
        "SET app.who = 'me'; SELECT 1",
        "SET app.who = 'me'; COMMIT; SELECT 1/0",
        "BEGIN; SET app.who = 'me'; COMMIT",
    ] {
        let mut own = login(&ringway);
        own.ask(text);
        assert_eq!(next.ask(shown), "is  SELECT 1 I", "{text}");
        assert_eq!(own.ask(shown), "is me SELECT 1 I", "{text}");
    }
}

#[test]
fn reset_is_told_by_its_word_whatever_stands_around_it() {
    let ringway = narrow("");
    let mut own = Wire::connect(ringway.port());
    let startup = [
        ("user", "ringway"),
        ("database", "shop"),
        ("options", "-c work_mem=5MB"),
    ];
    own.send_startup(196_608, &startup);
    own.read_to_ready();
    for (reset, tag) in [
        ("/* as it was */ RESET work_mem", "RESET I"),
        ("-- as it was\nreset work_mem", "RESET I"),
        ("RESET work_mem -- as it was", "RESET I"),
        ("RESET ALL; -- as it was", "RESET I"),
        ("/* as it was */ SET work_mem TO DEFAULT", "SET I"),
    ] {
        for extended in [false, true] {
            own.ask("SET work_mem = '7MB'");
            let answer = match extended {
                false => own.ask(reset),
                true => own.ask_extended(&[reset]),
            };
            assert_eq!(answer, tag, "{reset}");
            assert_eq!(own.ask("SHOW work_mem"), "5MB SHOW I", "{reset}");
        }
    }
}
