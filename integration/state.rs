//! What a session leaves on a server: it follows the client or keeps its connection, and is never
//! another's. Two connections for all.

use std::time::Duration;

use ringway::demo::captive::{CaptiveCluster, Spec};

use crate::sessions::pooler;
use crate::support::wire::{Frame, Wire, bind, execute, parse};
use crate::support::{self, Ringway};

const LIMIT: Duration = Duration::from_secs(15);

fn login(ringway: &Ringway) -> Wire {
    Wire::login(ringway.port(), "ringway", "shop").0
}

/// With one server connection for everybody, so that each client's next statement meets what the
/// others left.
fn narrow() -> (CaptiveCluster, Ringway) {
    narrow_with(&[])
}

/// As [`narrow`], with a schema that is there before anybody looks at it.
fn narrow_with(schema: &[&str]) -> (CaptiveCluster, Ringway) {
    let cluster = support::cluster(&Spec::default());
    for sql in schema {
        cluster.shards[0].primary.exec(sql).unwrap();
    }
    let server = cluster.shards[0].primary.port;
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n\
             [users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\nservers = [\"127.0.0.1:{server}\"]\npool_size = 1\n\
             checkout_timeout_ms = 3000\n"
        )
    });
    (cluster, ringway)
}

/// Runs statements one by one; the answers that differ from the expected ones.
fn check(wire: &mut Wire, cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        assert_eq!(wire.ask(sql), *expected, "{sql}");
    }
}

fn status(frames: &[Frame], name: &str) -> Vec<String> {
    let statuses = frames.iter().filter(|frame| frame.tag == b'S');
    let pairs = statuses.map(|frame| {
        let mut parts = frame
            .body
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy);
        (
            parts.next().unwrap().into_owned(),
            parts.next().unwrap().into_owned(),
        )
    });
    pairs
        .filter(|(known, _)| known == name)
        .map(|(_, value)| value)
        .collect()
}

/// What SHOW CLIENTS says of why a client keeps its server; empty when none does.
pub fn pinned(ringway: &Ringway) -> Vec<String> {
    let mut admin = Wire::login(ringway.port(), "ringway", "ringway").0;
    admin.query("SHOW CLIENTS");
    let frames = admin.read_to_ready();
    let rows = frames.iter().filter(|frame| frame.tag == b'D');
    let reasons = rows.map(|row| {
        let text = String::from_utf8_lossy(&row.body).into_owned();
        let known = ["advisory", "temporary", "WITH HOLD", "LOAD", "PREPARE in"];
        let known = known.into_iter().chain(["too long", "cannot be read"]);
        known.into_iter().find(|why| text.contains(why))
    });
    reasons.flatten().map(str::to_owned).collect()
}

#[test]
fn sql_prepared_statements_follow_their_client() {
    let (_cluster, ringway) = narrow();
    let (mut one, mut two) = (login(&ringway), login(&ringway));
    check(&mut one, &[("PREPARE p AS SELECT 'one'", "PREPARE I")]);
    check(
        &mut two,
        &[("PREPARE p (int, text) AS SELECT $1 + 1, $2", "PREPARE I")],
    );
    check(
        &mut one,
        &[
            ("EXECUTE p", "one SELECT 1 I"),
            ("execute \"p\";", "one SELECT 1 I"),
            ("PREPARE p AS SELECT 2", "42P05 I"),
            ("PREPARE bad AS SELEKT 1", "42601 I"),
            ("PREPARE bad AS SELECT * FROM nowhere", "42P01 I"),
            ("PREPARE bad (nothing) AS SELECT $1", "42704 I"),
            ("EXECUTE bad", "26000 I"),
            // PREPARE is not undone by ROLLBACK.
            ("BEGIN", "BEGIN T"),
            ("PREPARE kept AS SELECT 'kept'", "PREPARE T"),
            ("SELECT 1/0", "22012 E"),
            ("EXECUTE kept", "25P02 E"),
            ("ROLLBACK", "ROLLBACK I"),
            ("EXECUTE kept", "kept SELECT 1 I"),
            ("CREATE TABLE made AS EXECUTE p", "SELECT 1 I"),
            ("SELECT * FROM made", "one SELECT 1 I"),
            ("DEALLOCATE p", "DEALLOCATE I"),
            ("EXECUTE p", "26000 I"),
            ("DEALLOCATE p", "26000 I"),
        ],
    );
    assert!(two.ask("EXECUTE p (1, 'x')").ends_with("SELECT 1 I"));
    assert!(two.ask("EXPLAIN EXECUTE p (1, 'x')").contains("Result"));
    check(
        &mut two,
        &[
            ("DEALLOCATE ALL", "DEALLOCATE ALL I"),
            ("EXECUTE p (1, 'x')", "26000 I"),
        ],
    );
    assert_eq!(pinned(&ringway), [""; 0]);
}

#[test]
fn both_protocols_share_the_names_of_statements() {
    let (_cluster, ringway) = narrow();
    let (mut own, mut other) = (login(&ringway), login(&ringway));
    own.ask("PREPARE sql (int) AS SELECT $1 * 2");
    let run = [bind("", "sql", &["21"]), execute("", 0)];
    assert_eq!(own.ask_pipeline(&run), "42 SELECT 1 I");
    assert_eq!(
        own.ask_pipeline(&[parse("protocol", "SELECT $1::int + 1")]),
        "I"
    );
    other.ask("PREPARE protocol AS SELECT 'another'");
    assert_eq!(own.ask("EXECUTE protocol (41)"), "42 SELECT 1 I");
    assert_eq!(own.ask("PREPARE protocol AS SELECT 1"), "42P05 I");
    let extended = own.ask_extended(&[
        "PREPARE more AS SELECT 'more'",
        "EXECUTE more",
        "EXECUTE sql (1)",
    ]);
    assert_eq!(extended, "PREPARE more SELECT 1 2 SELECT 1 I");
    assert_eq!(own.ask_extended(&["EXECUTE nothing"]), "26000 I");
    // What an EXECUTE returns can be described, and asked for again and again.
    let named = [
        parse("e", "EXECUTE sql (2)"),
        crate::support::wire::frame(b'D', b"Se\0"),
    ];
    own.send_bytes(&named.concat());
    own.send(b'S', b"");
    let tags: String = own
        .read_to_ready()
        .iter()
        .map(|frame| char::from(frame.tag))
        .collect();
    assert_eq!(tags, "1tTZ");
    for _ in 0..2 {
        let run = [bind("", "e", &[]), execute("", 0)];
        assert_eq!(own.ask_pipeline(&run), "4 SELECT 1 I");
        assert_eq!(other.ask("EXECUTE protocol"), "another SELECT 1 I");
    }
    assert_eq!(
        own.ask_extended(&["DEALLOCATE sql", "EXECUTE sql (1)"]),
        "DEALLOCATE 26000 I"
    );
    assert_eq!(own.ask("BEGIN"), "BEGIN T");
    assert_eq!(
        own.ask_extended(&["PREPARE b AS SELECT 1", "EXECUTE b"]),
        "PREPARE 1 SELECT 1 T"
    );
    assert_eq!(own.ask("ROLLBACK"), "ROLLBACK I");
    assert_eq!(own.ask("EXECUTE b"), "1 SELECT 1 I");
}

#[test]
fn one_client_cannot_prepare_without_end() {
    let (_cluster, ringway) = narrow();
    let mut own = login(&ringway);
    let text = format!("SELECT '{}'", "x".repeat(1 << 20));
    let answers: Vec<_> = (0..17)
        .map(|n| own.ask(&format!("PREPARE p{n} AS {text}")))
        .collect();
    assert!(answers.contains(&"PREPARE I".to_owned()));
    assert_eq!(answers.last().map(String::as_str), Some("53400 I"));
    assert_eq!(own.ask_pipeline(&[parse("q", &text)]), "53400 I");
    assert_eq!(own.ask("DEALLOCATE p0"), "DEALLOCATE I");
    assert_eq!(own.ask_pipeline(&[parse("q", &text)]), "I");
}

#[test]
fn set_config_and_its_kin_follow_the_client() {
    let (_cluster, ringway) = narrow();
    let (mut own, mut other) = (login(&ringway), login(&ringway));
    check(
        &mut own,
        &[
            (
                "SELECT set_config('app.user', 'me', false)",
                "me SELECT 1 I",
            ),
            (
                "SELECT set_config('work_mem', '5MB', false)",
                "5MB SELECT 1 I",
            ),
            (
                "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                "SET I",
            ),
            ("SET TIME ZONE INTERVAL '-03:00' HOUR TO MINUTE", "SET I"),
            ("SET DateStyle = 'SQL'", "SET I"),
            ("SET DateStyle = 'DMY'", "SET I"),
            (
                "SET app.text = 'a'; SET statement_timeout = '7s'; SELECT 1",
                "SET SET 1 SELECT 1 I",
            ),
            (
                "BEGIN; SET app.block = 'b'; SAVEPOINT s; SET app.text = 'gone'; ROLLBACK TO s; COMMIT",
                "BEGIN SET SAVEPOINT SET ROLLBACK COMMIT I",
            ),
        ],
    );
    let params = [
        parse("", "SELECT set_config($1, $2, false)"),
        bind("", "", &["app.param", "p"]),
        execute("", 0),
    ];
    assert_eq!(own.ask_pipeline(&params), "p SELECT 1 I");
    // The other gets the same connection and none of it.
    check(
        &mut other,
        &[
            ("SHOW work_mem", "4MB SHOW I"),
            ("SHOW transaction_isolation", "read committed SHOW I"),
            ("SHOW DateStyle", "ISO, MDY SHOW I"),
            ("SHOW statement_timeout", "0 SHOW I"),
            ("SELECT current_setting('app.user', true)", " SELECT 1 I"),
            ("SET work_mem = '9MB'", "SET I"),
            ("SET app.usr = 'other'", "SET I"),
        ],
    );
    check(
        &mut own,
        &[
            ("SELECT current_setting('app.user')", "me SELECT 1 I"),
            ("SHOW work_mem", "5MB SHOW I"),
            ("SHOW transaction_isolation", "serializable SHOW I"),
            ("SHOW TimeZone", "<-03>+03 SHOW I"),
            ("SHOW DateStyle", "SQL, DMY SHOW I"),
            ("SHOW app.text", "a SHOW I"),
            ("SHOW app.block", "b SHOW I"),
            ("SHOW app.param", "p SHOW I"),
            ("SHOW statement_timeout", "7s SHOW I"),
            ("BEGIN", "BEGIN T"),
            (
                "SELECT set_config('work_mem', '6MB', false)",
                "6MB SELECT 1 T",
            ),
            ("ROLLBACK", "ROLLBACK I"),
            ("SHOW work_mem", "5MB SHOW I"),
            (
                "SELECT set_config('work_mem', '6MB', true)",
                "6MB SELECT 1 I",
            ),
            ("SHOW work_mem", "5MB SHOW I"),
            ("RESET ALL", "RESET I"),
            ("SHOW work_mem", "4MB SHOW I"),
            ("SHOW DateStyle", "ISO, MDY SHOW I"),
        ],
    );
    check(&mut other, &[("SHOW work_mem", "9MB SHOW I")]);
    assert_eq!(pinned(&ringway), [""; 0]);
}

#[test]
fn roles_are_set_in_the_order_that_lets_them() {
    let (cluster, ringway) = narrow();
    let primary = &cluster.shards[0].primary;
    primary
        .exec("CREATE ROLE a; CREATE ROLE b; GRANT b TO a")
        .unwrap();
    let (mut own, mut other) = (login(&ringway), login(&ringway));
    check(
        &mut own,
        &[
            ("SET session_replication_role = replica", "SET I"),
            ("SET SESSION AUTHORIZATION a", "SET I"),
            ("SET ROLE b", "SET I"),
        ],
    );
    check(&mut other, &[("SELECT current_user", "ringway SELECT 1 I")]);
    check(
        &mut own,
        &[
            ("SELECT session_user || current_user", "ab SELECT 1 I"),
            ("SHOW session_replication_role", "replica SHOW I"),
            // It ends the role as well.
            ("SET SESSION AUTHORIZATION a", "SET I"),
        ],
    );
    check(
        &mut other,
        &[(
            "SELECT session_user || current_user",
            "ringwayringway SELECT 1 I",
        )],
    );
    check(
        &mut own,
        &[("SELECT session_user || current_user", "aa SELECT 1 I")],
    );
}

#[test]
fn reset_within_a_block_returns_to_the_startup_packet() {
    let (_cluster, ringway) = narrow();
    let mut own = Wire::connect(ringway.port());
    let startup = [
        ("user", "ringway"),
        ("database", "shop"),
        ("TimeZone", "Asia/Tokyo"),
        ("options", "-c work_mem=5MB"),
    ];
    own.send_startup(196_608, &startup);
    own.read_to_ready();
    let mut other = login(&ringway);
    for reset in ["RESET TimeZone", "RESET ALL", "SET TimeZone TO DEFAULT"] {
        own.ask(reset);
        assert_eq!(other.ask("SHOW TimeZone"), "UTC SHOW I", "{reset}");
        check(
            &mut own,
            &[("SET TimeZone = 'UTC'", "SET I"), ("BEGIN", "BEGIN T")],
        );
        own.query(reset);
        let frames = own.read_to_ready();
        assert_eq!(status(&frames, "TimeZone"), ["Asia/Tokyo"], "{reset}");
        check(
            &mut own,
            &[
                ("SHOW TimeZone", "Asia/Tokyo SHOW T"),
                ("ROLLBACK", "ROLLBACK I"),
                ("SHOW TimeZone", "UTC SHOW I"),
                ("BEGIN", "BEGIN T"),
            ],
        );
        own.ask_extended(&[reset]);
        check(
            &mut own,
            &[
                ("SHOW TimeZone", "Asia/Tokyo SHOW T"),
                ("SHOW work_mem", "5MB SHOW T"),
                ("COMMIT", "COMMIT I"),
                ("SHOW TimeZone", "Asia/Tokyo SHOW I"),
            ],
        );
    }
}

#[test]
fn a_reloaded_parameter_reaches_those_who_were_told_another() {
    let (cluster, ringway) = narrow();
    let primary = &cluster.shards[0].primary;
    let (mut own, mut set) = (login(&ringway), login(&ringway));
    set.ask("SET IntervalStyle = 'iso_8601'");
    primary
        .exec("ALTER SYSTEM SET IntervalStyle = 'sql_standard'")
        .unwrap();
    primary.exec("SELECT pg_reload_conf()").unwrap();
    primary
        .wait_for("SHOW IntervalStyle", "sql_standard", LIMIT)
        .unwrap();
    let mut told = Vec::new();
    support::wait_until(LIMIT, "the new value", || {
        own.query("SELECT 1");
        told.extend(status(&own.read_to_ready(), "IntervalStyle"));
        !told.is_empty()
    });
    assert_eq!(told, ["sql_standard"]);
    set.query("SHOW IntervalStyle");
    assert_eq!(status(&set.read_to_ready(), "IntervalStyle"), [""; 0]);
    let (_, frames) = Wire::login(ringway.port(), "ringway", "shop");
    assert_eq!(status(&frames, "IntervalStyle"), ["sql_standard"]);
}

#[test]
fn advisory_locks_exclude_and_let_go() {
    let cluster = support::cluster(&Spec::default());
    let ringway = pooler(&cluster, "checkout_timeout_ms = 3000\n");
    let (mut one, mut two, mut three) = (login(&ringway), login(&ringway), login(&ringway));
    check(
        &mut one,
        &[
            ("SELECT pg_advisory_lock(1)", " SELECT 1 I"),
            ("SELECT pg_advisory_lock(1)", " SELECT 1 I"),
        ],
    );
    check(
        &mut two,
        &[("SELECT pg_try_advisory_lock(1)", "f SELECT 1 I")],
    );
    // That one keeps nothing, so both connections are one's and this one's in turn.
    check(&mut three, &[("SELECT 3", "3 SELECT 1 I")]);
    check(
        &mut one,
        &[("SELECT pg_advisory_unlock(1)", "t SELECT 1 I")],
    );
    check(
        &mut two,
        &[("SELECT pg_try_advisory_lock(1)", "f SELECT 1 I")],
    );
    check(
        &mut one,
        &[("SELECT pg_advisory_unlock(1)", "t SELECT 1 I")],
    );
    check(
        &mut two,
        &[("SELECT pg_try_advisory_lock(1)", "t SELECT 1 I")],
    );
    check(
        &mut one,
        &[
            ("BEGIN", "BEGIN T"),
            ("SELECT pg_advisory_lock(2)", " SELECT 1 T"),
            ("SELECT 1/0", "22012 E"),
            ("ROLLBACK", "ROLLBACK I"),
        ],
    );
    // Locks of a session outlive a rollback.
    check(&mut three, &[("SELECT 3", "53300 I")]);
    check(
        &mut one,
        &[("SELECT pg_advisory_unlock_all()", " SELECT 1 I")],
    );
    check(&mut two, &[("DISCARD ALL", "DISCARD ALL I")]);
    check(
        &mut three,
        &[(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
            "0 SELECT 1 I",
        )],
    );
}

#[test]
fn temporary_tables_and_held_cursors_pin_until_they_are_gone() {
    let (_cluster, ringway) = narrow();
    let (mut own, mut other) = (login(&ringway), login(&ringway));
    let free = |other: &mut Wire| assert_eq!(other.ask("SELECT 1"), "1 SELECT 1 I");
    for (makes, pins, ends) in [
        (
            &["CREATE TEMP TABLE t (i int)"][..],
            "temporary",
            "DROP TABLE t",
        ),
        (&["SELECT 1 AS i INTO TEMP t"], "temporary", "DISCARD TEMP"),
        (
            &["CREATE TEMP TABLE t AS SELECT 1"],
            "temporary",
            "DISCARD ALL",
        ),
        (
            &["DECLARE c CURSOR WITH HOLD FOR SELECT 1"],
            "WITH HOLD",
            "CLOSE c",
        ),
        (
            &["PREPARE a AS SELECT 1; EXECUTE a"],
            "PREPARE in",
            "DEALLOCATE ALL",
        ),
    ] {
        for sql in makes {
            own.ask(sql);
        }
        assert_eq!(pinned(&ringway), [pins], "{makes:?}");
        own.ask(ends);
        // The server is asked once the client has its answer.
        support::wait_until(LIMIT, ends, || pinned(&ringway).is_empty());
        free(&mut other);
    }
    for gone in [
        "BEGIN; CREATE TEMP TABLE t (i int) ON COMMIT DROP; COMMIT",
        "BEGIN; CREATE TEMP TABLE t (i int); ROLLBACK",
        "CREATE TEMP TABLE t (i int) nonsense",
    ] {
        own.ask(gone);
        free(&mut other);
    }
    for sql in [
        "BEGIN",
        "CREATE TEMP TABLE t (i int) ON COMMIT DROP",
        "COMMIT",
    ] {
        own.ask(sql);
    }
    free(&mut other);
    own.ask("LOAD 'plpgsql'");
    own.ask("DISCARD ALL");
    assert_eq!(pinned(&ringway), ["LOAD"]);
    drop(own);
    free(&mut other);
}

#[test]
fn currval_is_never_anothers() {
    let (cluster, ringway) = narrow();
    let primary = &cluster.shards[0].primary;
    primary
        .exec("CREATE SEQUENCE s; CREATE TABLE r (id serial)")
        .unwrap();
    let (mut own, mut other) = (login(&ringway), login(&ringway));
    check(&mut other, &[("SELECT nextval('s')", "1 SELECT 1 I")]);
    check(
        &mut own,
        &[
            ("SELECT currval('s')", "0A000 I"),
            ("SELECT lastval()", "0A000 I"),
            ("BEGIN", "BEGIN T"),
            ("SELECT lastval()", "55000 E"),
            ("ROLLBACK", "ROLLBACK I"),
            ("BEGIN", "BEGIN T"),
            ("INSERT INTO r DEFAULT VALUES", "INSERT 0 1 T"),
            ("SELECT lastval()", "1 SELECT 1 T"),
            ("COMMIT", "COMMIT I"),
            (
                "INSERT INTO r DEFAULT VALUES; SELECT lastval()",
                "INSERT 0 1 2 SELECT 1 I",
            ),
        ],
    );
    assert_eq!(own.ask_extended(&["SELECT lastval()"]), "0A000 I");
    let pipeline = ["INSERT INTO r DEFAULT VALUES", "SELECT currval('r_id_seq')"];
    assert_eq!(own.ask_extended(&pipeline), "INSERT 0 1 3 SELECT 1 I");
}

#[test]
fn a_failed_block_tells_syntax_errors_as_postgresql_does() {
    let (_cluster, ringway) = narrow();
    let mut own = login(&ringway);
    check(
        &mut own,
        &[
            ("BEGIN", "BEGIN T"),
            ("SELECT 1/0", "22012 E"),
            ("SELEKT", "42601 E"),
            ("SELECT 1", "25P02 E"),
            ("PREPARE p AS SELECT 1", "25P02 E"),
            ("SET work_mem = '1MB'", "25P02 E"),
            ("ROLLBACK", "ROLLBACK I"),
        ],
    );
}

#[test]
fn discard_all_keeps_the_unnamed_statement_as_postgresql_does() {
    let (cluster, ringway) = narrow();
    let direct = Wire::login(cluster.shards[0].primary.port, "ringway", "shop").0;
    for mut wire in [direct, login(&ringway)] {
        wire.ask_pipeline(&[
            parse("n", "SELECT 'named'"),
            parse("d", "DISCARD ALL"),
            parse("", "SELECT 'unnamed'"),
        ]);
        assert_eq!(
            wire.ask_pipeline(&[bind("p", "d", &[]), execute("p", 0)]),
            "DISCARD ALL I"
        );
        assert_eq!(
            wire.ask_pipeline(&[bind("", "", &[]), execute("", 0)]),
            "unnamed SELECT 1 I"
        );
        assert_eq!(
            wire.ask_pipeline(&[bind("", "n", &[]), execute("", 0)]),
            "26000 I"
        );
    }
}

#[test]
fn a_setting_that_a_function_makes_reaches_nobody_else() {
    let (_cluster, ringway) = narrow_with(&[
        "CREATE TABLE written (v int)",
        "CREATE TABLE defaulted (v int, w int)",
        "CREATE FUNCTION sets() RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM set_config('work_mem', '9MB', false); RETURN 1; END $$",
        "CREATE FUNCTION sets_stably() RETURNS int STABLE LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM set_config('work_mem', '9MB', false); RETURN 1; END $$",
        "CREATE FUNCTION sets_as_trigger() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM set_config('work_mem', '9MB', false); RETURN NEW; END $$",
        "CREATE PROCEDURE sets_by_call() LANGUAGE plpgsql AS \
         $$ BEGIN SET work_mem = '9MB'; END $$",
        "CREATE VIEW setting AS SELECT sets()",
        "CREATE TRIGGER sets BEFORE INSERT ON written \
         FOR EACH ROW EXECUTE FUNCTION sets_as_trigger()",
        "ALTER TABLE defaulted ALTER w SET DEFAULT sets()",
    ]);
    let (mut one, mut other) = (login(&ringway), login(&ringway));
    for sql in [
        "SELECT sets()",
        "SELECT sets_stably()",
        "SELECT * FROM setting",
        "DO $$ BEGIN SET work_mem = '9MB'; END $$",
        "CALL sets_by_call()",
        "INSERT INTO written VALUES (1)",
        "COPY written FROM PROGRAM 'echo 1'",
        "INSERT INTO defaulted VALUES (1)",
        "INSERT INTO defaulted SELECT * FROM setting",
    ] {
        for extended in [false, true] {
            let answer = match extended {
                true => one.ask_extended(&[sql]),
                false => one.ask(sql),
            };
            assert!(
                answer.ends_with(" I") && !answer.starts_with("42"),
                "{sql}: {answer}"
            );
            assert_eq!(other.ask("SHOW work_mem"), "4MB SHOW I", "{sql}");
        }
    }
}
