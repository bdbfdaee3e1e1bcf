//! Transactions that end, or go on, where Ringway does not see it: what is set afterwards is
//! PostgreSQL's to say, and is its client's alone.

use crate::isolation::{assert_same, login, narrow, server, value};
use crate::support::wire::{Wire, bind, digest, execute, frame, parse, unnamed};
use crate::transactions::Two;

/// What the statements set, in one value.
const SET: &str = "SELECT concat_ws('|', current_user, current_setting('work_mem'), \
    nullif(current_setting('doubt.a', true), ''), nullif(current_setting('doubt.b', true), ''))";

/// Each is a Query message.
const TALKS: [&[&str]; 20] = [
    &["BEGIN", "SET ROLE pg_monitor", "COMMIT; SELECT 1/0"],
    &["BEGIN", "SET doubt.a = '7'", "COMMIT; SELECT 1/0"],
    &["BEGIN", "SET doubt.a = '7'", "COMMIT; BEGIN", "ROLLBACK"],
    &["BEGIN", "SET doubt.a = '7'", "COMMIT; BEGIN", "COMMIT"],
    &["BEGIN", "SET work_mem = '7MB'", "ROLLBACK; SELECT 1"],
    &["BEGIN", "SET doubt.a = '7'", "ROLLBACK; SELECT 1"],
    &[
        "BEGIN",
        "SAVEPOINT s",
        "SET doubt.a = '7'",
        "ROLLBACK TO s; SELECT 1",
        "COMMIT",
    ],
    &[
        "BEGIN",
        "SAVEPOINT s; SELECT 1",
        "SET doubt.a = '7'",
        "ROLLBACK TO s",
        "COMMIT",
    ],
    &[
        "BEGIN",
        "SAVEPOINT s",
        "SET doubt.a = '7'",
        "SAVEPOINT s; SELECT 1",
        "SET doubt.b = '8'",
        "ROLLBACK TO s",
        "COMMIT",
    ],
    &[
        "SET doubt.a = '7'; PREPARE TRANSACTION 'doubt'; SELECT 1/0",
        "ROLLBACK PREPARED 'doubt'",
    ],
    &[
        "BEGIN",
        "SET doubt.a = '7'",
        "PREPARE TRANSACTION 'doubt'",
        "COMMIT PREPARED 'doubt'",
    ],
    &["BEGIN", "SET doubt.a = '7'", "COMMIT AND CHAIN", "ROLLBACK"],
    &["BEGIN", "SET doubt.a = '7'", "ROLLBACK AND CHAIN", "COMMIT"],
    &[
        "BEGIN",
        "SET doubt.a = '7'",
        "SELECT 1/0",
        "COMMIT AND CHAIN",
        "SET doubt.b = '8'",
        "COMMIT",
    ],
    &[
        "BEGIN",
        "SET doubt.a = '7'",
        "COMMIT; SET work_mem = '7MB'; SELECT 1/0",
    ],
    &["BEGIN; SELECT 1", "SET doubt.a = '7'", "COMMIT"],
    &[
        "SET doubt.a = '7'; BEGIN; SET doubt.b = '8'",
        "ROLLBACK; SELECT 1/0",
    ],
    &["BEGIN", "RESET ROLE", "SET doubt.a = '7'", "END; SELECT 1"],
    &[
        "SET doubt.a = '6'",
        "BEGIN",
        "RESET doubt.a",
        "COMMIT; SELECT 1/0",
    ],
    &[
        "BEGIN",
        "SET doubt.a = '7'",
        "RELEASE nothing; SELECT 1",
        "ROLLBACK",
    ],
];

/// Statements one by one, in either protocol; texts of several are a Query always.
fn talk(wire: &mut Wire, statements: &[&str], extended: bool) {
    for sql in statements {
        match extended && !sql.contains(';') {
            true => wire.ask_extended(&[sql]),
            false => wire.ask(sql),
        };
    }
}

#[test]
fn what_a_text_of_several_statements_commits_is_its_clients_alone() {
    let ringway = narrow("");
    let direct = server().shards[0].primary.port;
    let clean = value(&mut login(direct), SET);
    for statements in TALKS {
        for extended in [false, true] {
            let mut alone = login(direct);
            talk(&mut alone, statements, extended);
            let expected = value(&mut alone, SET);
            let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
            talk(&mut own, statements, extended);
            let what = format!("{statements:?}, extended: {extended}");
            assert_eq!(value(&mut next, SET), clean, "the next after {what}");
            assert_eq!(value(&mut own, SET), expected, "the client of {what}");
            assert_eq!(value(&mut next, SET), clean, "the next after {what}");
            // One that has the same settings by its own doing is given them too.
            for (name, set) in [
                ("doubt.a", "SET doubt.a = '7'"),
                ("doubt.b", "SET doubt.b = '8'"),
            ] {
                let mut like = login(ringway.port());
                like.ask(set);
                let shown = like.ask(&format!("SHOW {name}"));
                assert_eq!(
                    shown,
                    format!("{} SHOW I", &set[set.len() - 2..set.len() - 1]),
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn what_names_a_setting_in_no_usual_way_keeps_its_connection() {
    let ringway = narrow("");
    let clean = value(&mut login(server().shards[0].primary.port), SET);
    for set in [
        "UPDATE pg_settings SET setting = '7168' WHERE name = 'work_mem'",
        "UPDATE pg_catalog.pg_settings AS s SET setting = '7168' FROM pg_class WHERE name = 'work_mem'",
        r#"SET U&"d\006Fubt".a TO '7'"#,
        r#"SET doubt.U&"\0061" = '7'"#,
    ] {
        let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
        assert!(own.ask(set).ends_with(" I"), "{set}");
        let told = ringway.impatiently(|| next.ask("SELECT 1"));
        assert_eq!(told, "53300 I", "{set}");
        assert!(
            ["ringway|4MB|7", "ringway|7MB"].contains(&&*value(&mut own, SET)),
            "{set}"
        );
        drop(own);
        crate::support::wait_until(crate::support::process::LIMIT, "its connection", || {
            value(&mut next, SET) == clean
        });
    }
}

#[test]
fn a_transaction_may_have_any_number_of_savepoints_and_settings() {
    const TIMES: usize = 10_500;
    let talk = |wire: &mut Wire, extended: bool| {
        wire.ask("BEGIN");
        for sql in [
            "SAVEPOINT s",
            "RELEASE SAVEPOINT s",
            "SET LOCAL doubt.b = '8'",
            "SET doubt.a = '7'",
        ] {
            for _ in 0..TIMES / 500 {
                // Of the two that belong together one after the other.
                let pair = match sql {
                    "SAVEPOINT s" => "RELEASE SAVEPOINT s",
                    "RELEASE SAVEPOINT s" => "SAVEPOINT s",
                    _ => sql,
                };
                for _ in 0..250 {
                    let answers = match extended {
                        false => [wire.ask(sql), wire.ask(pair)],
                        true => [wire.ask_extended(&[sql]), wire.ask_extended(&[pair])],
                    };
                    assert!(
                        answers.iter().all(|answer| answer.ends_with(" T")),
                        "{answers:?}"
                    );
                }
                if sql == "RELEASE SAVEPOINT s" {
                    // There is one of them from the loop before.
                    break;
                }
            }
            if sql == "SAVEPOINT s" {
                assert_eq!(wire.ask("SAVEPOINT s"), "SAVEPOINT T");
            }
        }
        assert_eq!(wire.ask("COMMIT"), "COMMIT I");
    };
    let ringway = narrow("");
    for extended in [false, true] {
        let mut own = login(ringway.port());
        talk(&mut own, extended);
        assert_eq!(own.ask("SHOW doubt.a"), "7 SHOW I");
        drop(own);
        assert_eq!(login(ringway.port()).ask("SELECT 1"), "1 SELECT 1 I");
    }
    // A shard that joins later hears of what is left of them.
    let two = Two::start("doubted_savepoints", "");
    let mut own = two.login();
    own.ask("BEGIN");
    two.ask(&mut own, "SELECT v FROM $t WHERE k = $a");
    for _ in 0..6000 {
        own.ask("SAVEPOINT s");
        own.ask("RELEASE s");
    }
    own.ask("SAVEPOINT kept");
    assert_eq!(
        two.ask(&mut own, "UPDATE $t SET v = 9 WHERE k = $b"),
        "UPDATE 1 T"
    );
    assert_eq!(own.ask("ROLLBACK TO kept"), "ROLLBACK T");
    assert_eq!(
        two.ask(&mut own, "SELECT v FROM $t WHERE k = $b"),
        "0 SELECT 1 T"
    );
    assert_eq!(own.ask("COMMIT"), "COMMIT I");
}

#[test]
fn settings_are_bounded_before_they_are_set() {
    let ringway = narrow("");
    let mut own = login(ringway.port());
    let large = "x".repeat(300_000);
    for extended in [false, true] {
        let set = |wire: &mut Wire, name: &str| {
            let sql = format!("SET doubt.{name} = '{large}'");
            match extended {
                false => wire.ask(&sql),
                true => wire.ask_extended(&[&sql]),
            }
        };
        for name in ["a", "b", "c"] {
            assert_eq!(set(&mut own, name), "SET I");
        }
        assert_eq!(set(&mut own, "d"), "53400 I");
        assert_eq!(set(&mut own, "c"), "SET I");
        assert_eq!(own.ask("BEGIN"), "BEGIN T");
        assert_eq!(set(&mut own, "d"), "53400 E");
        assert_eq!(own.ask("ROLLBACK"), "ROLLBACK I");
        assert_eq!(own.ask("RESET ALL"), "RESET I");
        // What is not carried along is the server's to bear.
        assert_eq!(own.ask("BEGIN"), "BEGIN T");
        for _ in 0..5 {
            let sql = format!("SET LOCAL doubt.a = '{large}'");
            assert_eq!(own.ask(&sql), "SET T");
        }
        assert_eq!(own.ask("COMMIT"), "COMMIT I");
    }
    // What only the server knows stays there.
    own.ask("SELECT set_config('doubt.a', repeat('x', 2000000), false)");
    assert_eq!(
        own.ask("SELECT length(current_setting('doubt.a'))"),
        "2000000 SELECT 1 I"
    );
}

#[test]
fn a_query_that_ends_a_pipeline_settles_its_settings() {
    let ringway = narrow("");
    let direct = server().shards[0].primary.port;
    let clean = value(&mut login(direct), SET);
    for query in [
        "SELECT 1",
        "ROLLBACK",
        "COMMIT",
        "SELECT 1/0",
        "COMMIT; SELECT 1/0",
    ] {
        let talk = |wire: &mut Wire| {
            wire.send_bytes(&unnamed("SET doubt.a = '7'"));
            let mut answers = vec![wire.ask(query)];
            answers.push(value(wire, SET));
            answers
        };
        let expected = talk(&mut login(direct));
        let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
        assert_eq!(talk(&mut own), expected, "{query}");
        assert_eq!(value(&mut next, SET), clean, "{query}");
    }
}

#[test]
fn a_table_made_under_a_local_search_path_is_nobody_elses() {
    let ringway = narrow("");
    let mut setup = login(ringway.port());
    setup.ask("CREATE TABLE IF NOT EXISTS doubted (v text)");
    for set in [
        "SELECT set_config('search_path', 'pg_temp', true)",
        "SELECT set_config('Search_Path', 'pg_temp, public', true)",
        "SELECT set_config('search' || '_path', 'pg_temp', true)",
        "SELECT 1; SELECT set_config('search_path', 'pg_temp', true)",
    ] {
        for extended in [false, true] {
            let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
            own.ask("BEGIN");
            talk(&mut own, &[set], extended);
            talk(&mut own, &["CREATE TABLE doubted (v text)"], extended);
            assert_eq!(
                own.ask("INSERT INTO doubted VALUES ('mine')"),
                "INSERT 0 1 T"
            );
            assert_eq!(own.ask("COMMIT"), "COMMIT I");
            // It is kept for its client.
            let told = ringway.impatiently(|| next.ask("SELECT 1"));
            assert_eq!(told, "53300 I", "{set}");
            assert_eq!(own.ask("SELECT v FROM doubted"), "mine SELECT 1 I", "{set}");
            assert_eq!(own.ask("DROP TABLE pg_temp.doubted"), "DROP TABLE I");
            assert_eq!(next.ask("SELECT v FROM doubted"), "SELECT 0 I", "{set}");
        }
    }
    // By a parameter; and what a tenant's own setting costs is nothing.
    let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
    own.ask("BEGIN");
    let set = [
        parse("", "SELECT set_config($1, $2, true)"),
        bind("", "", &["search_path", "pg_temp"]),
        execute("", 0),
    ];
    own.ask_pipeline(&set);
    own.ask("CREATE TABLE doubted (v text)");
    own.ask("COMMIT");
    let told = ringway.impatiently(|| next.ask("SELECT 1"));
    assert_eq!(told, "53300 I");
    own.ask("DISCARD ALL");
    own.ask("BEGIN");
    own.ask("SELECT set_config('doubt.a', '7', true)");
    own.ask("INSERT INTO doubted VALUES ('all')");
    own.ask("COMMIT");
    assert_eq!(next.ask("SELECT v FROM doubted"), "all SELECT 1 I");
    next.ask("DROP TABLE doubted");
}

/// PostgreSQL reads constants when it parses: under the settings of that moment.
#[test]
fn what_is_prepared_in_doubt_is_not_shared() {
    const EPOCH: &str = "SELECT extract(epoch FROM '2026-01-01 00:00'::timestamptz)::bigint";
    const UTC: &str = "1767225600";
    const TOKYO: &str = "1767193200";
    let local = "SELECT set_config('TimeZone', 'Asia/Tokyo', true)";
    let cases: [(&[&str], &str); 6] = [
        (&["BEGIN", local], TOKYO),
        (&["BEGIN; SET TimeZone TO 'Asia/Tokyo'"], TOKYO),
        (&["BEGIN; SET LOCAL TimeZone TO 'Asia/Tokyo'"], TOKYO),
        (
            &["BEGIN", "SET TimeZone TO 'Asia/Tokyo'", "ROLLBACK; BEGIN"],
            UTC,
        ),
        (
            &[
                "BEGIN",
                "SET TimeZone TO 'Asia/Tokyo'",
                "ROLLBACK AND CHAIN",
            ],
            UTC,
        ),
        (
            &[
                "BEGIN",
                "SAVEPOINT s",
                "SET TimeZone TO 'Asia/Tokyo'",
                "ROLLBACK TO s; SELECT 1",
            ],
            UTC,
        ),
    ];
    for (at, (statements, expected)) in cases.iter().enumerate() {
        for extended in [false, true] {
            // One server connection, and a text of its own for each case.
            let ringway = narrow("");
            let sql = format!("{EPOCH} /* {at} */");
            let prepare = |wire: &mut Wire| match extended {
                false => wire.ask(&format!("PREPARE p AS {sql}")),
                true => wire.ask_pipeline(&[parse("p", &sql)]),
            };
            let run = |wire: &mut Wire| match extended {
                false => value(wire, "EXECUTE p"),
                true => {
                    let answer = wire.ask_pipeline(&[bind("", "p", &[]), execute("", 0)]);
                    answer.split(' ').next().unwrap_or_default().to_owned()
                }
            };
            let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
            for wire in [&mut own, &mut next] {
                wire.ask("SET TimeZone TO 'UTC'");
            }
            talk(&mut own, statements, false);
            prepare(&mut own);
            let what = format!("{statements:?}, extended: {extended}");
            assert_eq!(run(&mut own), *expected, "{what}");
            own.ask("ROLLBACK");
            prepare(&mut next);
            assert_eq!(run(&mut next), UTC, "{what}");
            // And one that is in the state that the first one seemed to be in.
            let mut like = login(ringway.port());
            like.ask("SET TimeZone TO 'UTC'");
            for sql in ["BEGIN", "SET TimeZone TO 'Asia/Tokyo'"] {
                like.ask(sql);
            }
            prepare(&mut like);
            assert_eq!(run(&mut like), TOKYO, "{what}");
        }
    }
}

#[test]
fn a_chained_transaction_is_answered_as_postgresql_does() {
    assert_same("chains", |wire| {
        [
            "BEGIN",
            "SET doubt.a = '7'",
            "SELECT 1/0",
            "ROLLBACK AND CHAIN",
            "SET doubt.b = '8'",
            "COMMIT AND CHAIN",
            "SET doubt.b = '9'",
            "ROLLBACK",
            SET,
        ]
        .map(|sql| wire.ask(sql))
        .to_vec()
    });
}

#[test]
fn values_of_settings_are_the_same_on_a_connection_of_another_encoding() {
    let ringway = narrow("");
    let (mut own, mut other) = (login(ringway.port()), login(ringway.port()));
    let shown = |wire: &mut Wire| wire.ask("SELECT current_setting('doubt.a')");
    for extended in [false, true] {
        own.ask("SET client_encoding = 'UTF8'");
        talk(&mut own, &["SET doubt.a = 'é'"], extended);
        assert_eq!(shown(&mut own), "é SELECT 1 I");
        // The connection speaks LATIN1 when the other's setting comes to it.
        other.ask("SET client_encoding = 'LATIN1'");
        assert_eq!(shown(&mut own), "é SELECT 1 I");
        own.ask("BEGIN");
        talk(&mut own, &["SET doubt.a = 'è'"], extended);
        own.ask("COMMIT");
        other.ask("SELECT 1");
        assert_eq!(shown(&mut own), "è SELECT 1 I");
    }
    // A name too.
    assert_eq!(own.ask("SET doubt.ä = 'x'"), "SET I");
    assert_eq!(own.ask("SHOW doubt.ä"), "x SHOW I");
    drop(own);
    assert_eq!(other.ask("SELECT 1"), "1 SELECT 1 I");
}

#[test]
fn values_of_settings_are_the_same_whatever_a_backslash_means() {
    let ringway = narrow("");
    let (mut own, mut other) = (login(ringway.port()), login(ringway.port()));
    let shown = |wire: &mut Wire| {
        wire.query("SELECT current_setting('doubt.a')");
        digest(&wire.read_to_ready())
    };
    own.ask("SET standard_conforming_strings = off");
    own.ask(r"SET doubt.a = 'x\'; SET ROLE pg_monitor; --'");
    let expected = "x'; SET ROLE pg_monitor; -- SELECT 1 I";
    assert_eq!(shown(&mut own), expected);
    assert_eq!(
        value(&mut other, SET),
        value(&mut login(server().shards[0].primary.port), SET)
    );
    assert_eq!(shown(&mut own), expected);
    assert_eq!(value(&mut own, "SELECT current_user"), "ringway");
    own.ask("SET standard_conforming_strings = on");
    own.ask(r"SET doubt.a = 'C:\new'");
    own.ask("SET standard_conforming_strings = off");
    other.ask("SELECT 1");
    assert_eq!(shown(&mut own), r"C:\new SELECT 1 I");
}

/// The same bytes are other characters to clients of other encodings.
#[test]
fn what_is_prepared_in_one_encoding_is_not_run_in_another() {
    let ringway = narrow("");
    let sql = [&b"SELECT '"[..], b"\xE9", b"'"].concat();
    let messages = [
        frame(b'P', &[b"s\0", &sql[..], b"\0\0\0"].concat()),
        bind("", "s", &[]),
        execute("", 0),
    ];
    let shown = |wire: &mut Wire, messages: &[Vec<u8>]| {
        wire.send_bytes(&messages.concat());
        wire.send(b'S', b"");
        let frames = wire.read_to_ready();
        let row = frames.into_iter().find(|frame| frame.tag == b'D');
        row.map(|row| row.body[6..].to_vec())
    };
    let mut wires: Vec<_> = (0..3).map(|_| login(ringway.port())).collect();
    let mut twice = login(ringway.port());
    for (wire, encoding) in wires.iter_mut().zip(["WIN1252", "WIN1251", "LATIN1"]) {
        wire.ask(&format!("SET client_encoding = '{encoding}'"));
        // Converted there and back.
        assert_eq!(
            shown(wire, &messages).as_deref(),
            Some(&b"\xE9"[..]),
            "{encoding}"
        );
        // One that is in that encoding for a transaction only.
        twice.ask("BEGIN");
        twice.ask(&format!("SET LOCAL client_encoding = '{encoding}'"));
        assert_eq!(
            shown(&mut twice, &messages).as_deref(),
            Some(&b"\xE9"[..]),
            "{encoding}"
        );
        twice.ask("DEALLOCATE s");
        twice.ask("ROLLBACK");
    }
    for wire in &mut wires {
        for _ in 0..2 {
            assert_eq!(shown(wire, &messages[1..]).as_deref(), Some(&b"\xE9"[..]));
        }
    }
}

#[test]
fn a_setting_of_its_own_does_not_keep_a_client_from_sharing() {
    let ringway = narrow("");
    let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
    own.ask("SET doubt.a = '1'");
    next.ask("SET doubt.a = '2'");
    let statement = [
        parse("s", "SELECT current_setting('doubt.a') /* shared */"),
        bind("", "s", &[]),
        execute("", 0),
    ];
    let held = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%shared */'";
    assert_eq!(own.ask_pipeline(&statement), "1 SELECT 1 I");
    assert_eq!(own.ask(held), "1 SELECT 1 I");
    assert_eq!(next.ask_pipeline(&statement), "2 SELECT 1 I");
    assert_eq!(own.ask_pipeline(&statement[1..]), "1 SELECT 1 I");
    assert_eq!(own.ask(held), "1 SELECT 1 I");
}

#[test]
fn texts_that_were_replaced_are_not_kept_up_to_sync() {
    const BYTES: usize = 20_000_000;
    let ringway = narrow("max_db_prepared_mib = 64\n");
    let (mut own, mut next) = (login(ringway.port()), login(ringway.port()));
    for n in 0..6 {
        let sql = format!("SELECT {n} /* {} */", "x".repeat(BYTES));
        let messages = [
            parse("", &sql),
            bind("", "", &[]),
            execute("", 0),
            frame(b'H', b""),
        ];
        own.send_bytes(&messages.concat());
        let tags: String = (0..4)
            .map(|_| char::from(own.read().unwrap().tag))
            .collect();
        assert_eq!(tags, "12DC", "{n}");
    }
    own.send(b'S', b"");
    own.read_to_ready();
    // They count for all clients' share.
    assert_eq!(next.ask_pipeline(&[parse("s", "SELECT 1")]), "I");
}
