//! Transactions over two shards: what was acknowledged is there, what failed is not, and the
//! client always knows which.

use std::time::Duration;

use ringway::demo::captive::{CaptiveCluster, Spec};

use crate::support::wire::{Wire, bind, digest, execute, frame, parse, unnamed};
use crate::support::{self, Ringway};

const LIMIT: Duration = Duration::from_secs(20);

/// Two shards, shared: each test has a table of its own.
pub fn cluster() -> &'static CaptiveCluster {
    static CLUSTER: std::sync::OnceLock<CaptiveCluster> = std::sync::OnceLock::new();
    let spec = || Spec {
        shards: 2,
        ..Spec::default()
    };
    CLUSTER.get_or_init(|| support::cluster(&spec()))
}

/// A Ringway before the two shards, and a table of the test's own with rows on both.
pub struct Two {
    ringway: Ringway,
    table: &'static str,
    /// A key of a row on each shard; its `v` is 0.
    a: i64,
    b: i64,
}

impl Two {
    pub fn start(table: &'static str, more: &str) -> Self {
        let shards = &cluster().shards;
        let sql = format!("CREATE TABLE {table} (k bigint PRIMARY KEY, v int)");
        for shard in shards {
            shard.primary.exec(&sql).unwrap();
        }
        let ringway = Ringway::start(|port| config(port, table, more));
        let mut wire = Wire::login(ringway.port(), "ringway", "shop").0;
        for k in 1..=8 {
            let sql = format!("INSERT INTO {table} VALUES ({k}, 0)");
            assert_eq!(wire.ask(&sql), "INSERT 0 1 I");
        }
        let [a, b] = [0, 1].map(|at: usize| {
            let sql = format!("SELECT min(k) FROM {table}");
            shards[at].primary.exec(&sql).unwrap().parse().unwrap()
        });
        Self {
            ringway,
            table,
            a,
            b,
        }
    }

    pub fn login(&self) -> Wire {
        Wire::login(self.ringway.port(), "ringway", "shop").0
    }

    /// `$t`, `$a` and `$b` stand for the table and the keys.
    pub fn sql(&self, text: &str) -> String {
        text.replace("$t", self.table)
            .replace("$a", &self.a.to_string())
            .replace("$b", &self.b.to_string())
    }

    pub fn ask(&self, wire: &mut Wire, text: &str) -> String {
        wire.ask(&self.sql(text))
    }

    pub fn ask_extended(&self, wire: &mut Wire, texts: &[&str]) -> String {
        let texts: Vec<_> = texts.iter().map(|text| self.sql(text)).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        wire.ask_extended(&texts)
    }

    /// Begins a transaction that has read from both shards.
    pub fn begin_on_both(&self, wire: &mut Wire) {
        assert_eq!(wire.ask("BEGIN"), "BEGIN T");
        for key in ["$a", "$b"] {
            let sql = format!("SELECT v FROM $t WHERE k = {key}");
            assert_eq!(self.ask(wire, &sql), "0 SELECT 1 T");
        }
    }

    /// Nothing was written: asked of the servers themselves.
    fn assert_untouched(&self) {
        let sql = self.sql("SELECT coalesce(sum(v), 0) FROM $t");
        for shard in &cluster().shards {
            assert_eq!(shard.primary.exec(&sql).unwrap(), "0");
        }
    }
}

fn config(port: u16, table: &str, more: &str) -> String {
    let mut config = format!(
        "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n\
         [databases.shop]\n{more}\n[databases.shop.tables]\n{table} = {{ key = \"k\" }}\n"
    );
    for (at, shard) in cluster().shards.iter().enumerate() {
        config.push_str(&format!(
            "[[databases.shop.shards]]\nname = \"s{at}\"\nservers = [\"127.0.0.1:{}\"]\n",
            shard.primary.port
        ));
    }
    config
}

const WRITE_A: &str = "UPDATE $t SET v = 1 WHERE k = $a";
const WRITE_B: &str = "UPDATE $t SET v = 1 WHERE k = $b";
const FAIL_A: &str = "SELECT 1/v FROM $t WHERE k = $a";
const READ_B: &str = "SELECT v FROM $t WHERE k = $b";

#[test]
fn a_commit_in_session_mode_reaches_the_shard_that_wrote() {
    let two = Two::start("session_mode", "pool_mode = \"session\"");
    for (value, extended) in [(1, false), (2, true)] {
        let mut wire = two.login();
        // Held from here on, and no part of the transaction.
        two.ask(&mut wire, "SELECT v FROM $t WHERE k = $a");
        let write = format!("UPDATE $t SET v = {value} WHERE k = $b");
        for (sql, tag) in [
            ("BEGIN", "BEGIN T"),
            (&write, "UPDATE 1 T"),
            ("COMMIT", "COMMIT I"),
        ] {
            let answer = match extended {
                false => two.ask(&mut wire, sql),
                true => two.ask_extended(&mut wire, &[sql]),
            };
            assert_eq!(answer, tag);
        }
        let read = two.ask(&mut two.login(), READ_B);
        assert_eq!(read, format!("{value} SELECT 1 I"), "extended: {extended}");
    }
    let mut wire = two.login();
    two.ask(&mut wire, "SELECT v FROM $t WHERE k = $a");
    let answer = two.ask_extended(
        &mut wire,
        &["BEGIN", "UPDATE $t SET v = 3 WHERE k = $b", "COMMIT"],
    );
    assert_eq!(answer, "BEGIN UPDATE 1 COMMIT I");
    assert_eq!(
        two.ask(&mut two.login(), READ_B),
        "3 SELECT 1 I",
        "one pipeline"
    );
}

#[test]
fn a_commit_beside_a_pinned_shard_reaches_the_shard_that_wrote() {
    let two = Two::start("pinned", "");
    let mut wire = two.login();
    // What pins a connection of shard a.
    two.ask(
        &mut wire,
        "SELECT v, pg_advisory_lock(7301) FROM $t WHERE k = $a",
    );
    for (sql, tag) in [
        ("BEGIN", "BEGIN T"),
        (WRITE_B, "UPDATE 1 T"),
        ("COMMIT", "COMMIT I"),
    ] {
        assert_eq!(two.ask_extended(&mut wire, &[sql]), tag);
    }
    assert_eq!(two.ask(&mut two.login(), READ_B), "1 SELECT 1 I");
}

#[test]
fn a_transaction_begun_within_a_text_writes_to_a_second_shard() {
    let two = Two::start("begun_within", "");
    let mut wire = two.login();
    assert_eq!(wire.ask("BEGIN; SELECT 1"), "BEGIN 1 SELECT 1 T");
    assert_eq!(two.ask(&mut wire, WRITE_A), "UPDATE 1 T");
    assert_eq!(two.ask(&mut wire, WRITE_B), "UPDATE 1 T");
    assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
    two.assert_untouched();
}

#[test]
fn a_shard_that_cannot_be_had_fails_the_transaction() {
    let two = Two::start("unavailable", "pool_size = 1\ncheckout_timeout_ms = 3000");
    let (mut holder, mut wire) = (two.login(), two.login());
    holder.ask("BEGIN");
    assert_eq!(two.ask(&mut holder, READ_B), "0 SELECT 1 T");
    for extended in [false, true] {
        let mut ask = |sql: &str| match extended {
            false => two.ask(&mut wire, sql),
            true => two.ask_extended(&mut wire, &[sql]),
        };
        assert_eq!(ask("BEGIN"), "BEGIN T");
        assert_eq!(ask("SELECT count(*) FROM $t"), "53300 E");
        assert_eq!(ask(WRITE_A), "25P02 E");
        assert_eq!(ask("COMMIT"), "ROLLBACK I", "extended: {extended}");
    }
    assert_eq!(holder.ask("COMMIT"), "COMMIT I");
    two.assert_untouched();
}

#[test]
fn a_pipeline_is_one_transaction() {
    let two = Two::start("pipelined", "");
    let mut wire = two.login();
    for texts in [
        &[WRITE_B, FAIL_A][..],
        &[FAIL_A, WRITE_B],
        &["SELECT 1/0", "UPDATE $t SET v = 5"],
        &[WRITE_B, "SELECT 1/v FROM $t"],
        &[WRITE_B, "SELECT 1/0"],
    ] {
        let answer = two.ask_extended(&mut wire, texts);
        assert!(
            ["22012 I", "UPDATE 1 22012 I", "0A000 I", "UPDATE 1 0A000 I"].contains(&&*answer),
            "{texts:?}: {answer}"
        );
        assert!(wire.ask("SELECT 1").starts_with("1 "), "{texts:?}");
        two.assert_untouched();
    }
}

#[test]
fn what_runs_on_all_shards_is_one_transaction_with_its_pipeline() {
    let two = Two::start("last", "");
    let mut wire = two.login();
    let all = two.sql("UPDATE $t SET v = v + 1");
    assert_eq!(
        two.ask_extended(&mut wire, &[&all, "SELECT 1/0"]),
        "UPDATE 8 22012 I"
    );
    two.assert_untouched();
    for (after, answer) in [
        (READ_B, "UPDATE 8 1 SELECT 1 I"),
        ("SET work_mem = '7MB'", "UPDATE 8 SET I"),
        ("COMMIT", "UPDATE 8 COMMIT I"),
    ] {
        assert_eq!(two.ask_extended(&mut wire, &[&all, after]), answer);
    }
    assert_eq!(wire.ask("SHOW work_mem"), "7MB SHOW I");
    // An answer that is asked for before Sync is true as long as nothing fails.
    wire.send_bytes(&[unnamed(&all), frame(b'H', b"")].concat());
    assert_eq!(wire.read().map(|frame| frame.tag), Some(b'1'));
    wire.send(b'S', b"");
    assert_eq!(digest(&wire.read_to_ready()), "UPDATE 8 I");
    // After reads, and with what cannot fail before Sync, which may come later.
    let answer = two.ask_extended(&mut wire, &[READ_B, &all]);
    assert_eq!(answer, "4 SELECT 1 UPDATE 8 I");
    wire.send_bytes(&unnamed(&all));
    let mut other = two.login();
    assert_eq!(other.ask("SELECT 1"), "1 SELECT 1 I");
    wire.send_bytes(&frame(b'C', b"P\0"));
    wire.send(b'S', b"");
    assert_eq!(digest(&wire.read_to_ready()), "UPDATE 8 closed I");
    assert_eq!(two.ask(&mut wire, READ_B), "6 SELECT 1 I");
    // One who leaves instead has changed nothing.
    wire.send_bytes(&unnamed(&all));
    wire.finish_sending();
    while wire.read().is_some() {}
    assert_eq!(two.ask(&mut other, READ_B), "6 SELECT 1 I");
}

#[test]
fn a_setting_of_a_pipeline_is_for_its_own_shard_up_to_sync() {
    let two = Two::start("setting", "");
    let mut wire = two.login();
    let shown = |key: &str| format!("SELECT current_setting('work_mem') FROM $t WHERE k = {key}");
    let [on_a, on_b] = ["$a", "$b"].map(shown);
    let all = "SELECT count(*) FROM $t WHERE current_setting('work_mem') = '4MB'";
    for set in [
        "SET work_mem = '7MB'",
        "SELECT set_config('work_mem', '7MB', false) FROM $t WHERE k = $a",
    ] {
        let tag = match set.starts_with("SET") {
            true => "SET",
            false => "7MB SELECT 1",
        };
        let answer = two.ask_extended(&mut wire, &[&on_a, set, &on_a]);
        assert_eq!(answer, format!("4MB SELECT 1 {tag} 7MB SELECT 1 I"));
        assert_eq!(two.ask_extended(&mut wire, &[&on_b]), "7MB SELECT 1 I");
        assert_eq!(wire.ask("RESET work_mem"), "RESET I");
        for elsewhere in [&on_b, all, "UPDATE $t SET v = 5"] {
            let answer = two.ask_extended(&mut wire, &[&on_a, set, elsewhere]);
            assert_eq!(answer, format!("4MB SELECT 1 {tag} 0A000 I"), "{elsewhere}");
            // It is undone with the rest of the pipeline.
            assert_eq!(wire.ask("SHOW work_mem"), "4MB SHOW I", "{elsewhere}");
        }
    }
    two.assert_untouched();
    let block = ["BEGIN", "SET work_mem = '7MB'", &on_b, &on_a, "ROLLBACK"];
    let answer = two.ask_extended(&mut wire, &block);
    assert_eq!(answer, "BEGIN SET 7MB SELECT 1 7MB SELECT 1 ROLLBACK I");
}

#[test]
fn a_commit_after_an_error_of_the_same_pipeline_is_skipped() {
    let two = Two::start("skipped_commit", "");
    let mut wire = two.login();
    two.begin_on_both(&mut wire);
    assert_eq!(two.ask(&mut wire, WRITE_B), "UPDATE 1 T");
    let answer = two.ask_extended(&mut wire, &[FAIL_A, "COMMIT"]);
    assert_eq!(answer, "22012 E");
    assert_eq!(wire.ask("SELECT 1"), "25P02 E");
    assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
    assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 I");
    two.assert_untouched();
}

#[test]
fn a_refused_statement_fails_the_transaction_for_good() {
    let two = Two::start("refused", "");
    for extended in [false, true] {
        let mut wire = two.login();
        let mut ask = |sql: &str| match extended {
            false => two.ask(&mut wire, sql),
            true => two.ask_extended(&mut wire, &[sql]),
        };
        assert_eq!(ask("BEGIN"), "BEGIN T");
        assert_eq!(ask("SELECT v FROM $t LIMIT 1 FOR UPDATE"), "0A000 E");
        assert_eq!(ask("SAVEPOINT s"), "25P02 E");
        assert_eq!(ask(WRITE_A), "25P02 E");
        assert_eq!(ask("COMMIT"), "ROLLBACK I", "extended: {extended}");
        // With a shard that has written before.
        assert_eq!(ask("BEGIN"), "BEGIN T");
        assert_eq!(ask(WRITE_A), "UPDATE 1 T");
        assert_eq!(ask("SELECT v FROM $t LIMIT 1 FOR UPDATE"), "0A000 E");
        assert_eq!(ask("SAVEPOINT s"), "25P02 E");
        assert_eq!(ask("COMMIT"), "ROLLBACK I", "extended: {extended}");
        two.assert_untouched();
    }
}

#[test]
fn a_merged_read_that_fails_leaves_the_connection_usable() {
    let two = Two::start("merged_error", "");
    for extended in [false, true] {
        let mut wire = two.login();
        let mut ask = |sql: &str| match extended {
            false => two.ask(&mut wire, sql),
            true => two.ask_extended(&mut wire, &[sql]),
        };
        for failing in [
            "SELECT 1/v FROM $t ORDER BY k",
            "SELECT 1/(k - $a) FROM $t ORDER BY k",
            "SELECT sum(1/(k - $b)) FROM $t",
        ] {
            assert_eq!(ask("BEGIN"), "BEGIN T");
            let answer = ask(failing);
            assert!(answer.ends_with("22012 E"), "{failing}: {answer}");
            assert_eq!(ask("SELECT 1"), "25P02 E");
            assert_eq!(ask("ROLLBACK"), "ROLLBACK I");
            assert_eq!(ask("SELECT count(*) FROM $t"), "8 SELECT 1 I");
        }
    }
}

#[test]
fn a_paused_merge_that_lost_its_shard_says_so() {
    let two = Two::start("paused", "");
    for extended in [false, true] {
        let mut wire = two.login();
        wire.ask("BEGIN");
        let open = [
            parse("", &two.sql("SELECT k FROM $t ORDER BY k")),
            bind("p", "", &[]),
            execute("p", 2),
        ];
        assert_eq!(wire.ask_pipeline(&open), "1 2 suspended T");
        let answer = match extended {
            false => two.ask(&mut wire, WRITE_A),
            true => two.ask_extended(&mut wire, &[WRITE_A]),
        };
        assert_eq!(answer, "UPDATE 1 T");
        assert_eq!(wire.ask_pipeline(&[execute("p", 2)]), "0A000 E");
        assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
        two.assert_untouched();
    }
}

#[test]
fn the_end_of_a_failed_transaction_is_its_end_everywhere() {
    let two = Two::start("failed", "");
    for end in ["COMMIT", "ROLLBACK"] {
        for extended in [false, true] {
            let mut wire = two.login();
            two.begin_on_both(&mut wire);
            assert_eq!(two.ask(&mut wire, FAIL_A), "22012 E");
            let answer = match extended {
                false => wire.ask(end),
                true => wire.ask_extended(&[end]),
            };
            assert_eq!(answer, "ROLLBACK I", "{end}, extended: {extended}");
            two.begin_on_both(&mut wire);
            assert_eq!(wire.ask("COMMIT"), "COMMIT I");
            // The shard that wrote is not the one that failed.
            two.begin_on_both(&mut wire);
            assert_eq!(two.ask(&mut wire, WRITE_B), "UPDATE 1 T");
            assert_eq!(two.ask(&mut wire, FAIL_A), "22012 E");
            let answer = match extended {
                false => wire.ask(end),
                true => wire.ask_extended(&[end]),
            };
            assert_eq!(answer, "ROLLBACK I", "{end}, extended: {extended}");
            assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 I");
            two.assert_untouched();
        }
    }
}

#[test]
fn forty_thousand_parameters_reach_their_shard() {
    const COUNT: usize = 40_000;
    let two = Two::start("parameters", "");
    let list: Vec<_> = (2..=COUNT).map(|n| format!("${n}::int")).collect();
    let text = format!(
        "SELECT v + cardinality(ARRAY[{}]) FROM $t WHERE k = $1",
        list.join(",")
    );
    let sql = text.replace("$t", two.table);
    for key in [two.a, two.b] {
        let key = key.to_string();
        let mut values = vec!["1"; COUNT];
        values[0] = &key;
        let messages = [parse("", &sql), bind("", "", &values), execute("", 0)];
        assert_eq!(two.login().ask_pipeline(&messages), "39999 SELECT 1 I");
    }
}

#[test]
fn a_portal_ends_with_its_transaction() {
    let two = Two::start("portals", "");
    for text in [READ_B, "SELECT k FROM $t ORDER BY k"] {
        let mut wire = two.login();
        wire.ask("BEGIN");
        let open = [parse("", &two.sql(text)), bind("p", "", &[])];
        assert_eq!(wire.ask_pipeline(&open), "T");
        assert_eq!(wire.ask("COMMIT"), "COMMIT I");
        assert_eq!(wire.ask_pipeline(&[execute("p", 0)]), "34000 I", "{text}");
        assert_eq!(wire.ask_pipeline(&[frame(b'C', b"Pp\0")]), "closed I");
        assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 I");
    }
}

#[test]
fn settings_that_would_mislead_the_planner_are_refused_in_both_protocols() {
    let two = Two::start("misled", "");
    for set in [
        "SET search_path = elsewhere",
        "SET standard_conforming_strings = off",
        "SET client_encoding = 'LATIN1'",
    ] {
        let mut wire = two.login();
        assert_eq!(wire.ask(set), "0A000 I", "{set}");
        assert_eq!(wire.ask_extended(&[set]), "0A000 I", "{set}");
        assert_eq!(wire.ask("SHOW standard_conforming_strings"), "on SHOW I");
        assert_eq!(wire.ask("SHOW client_encoding"), "UTF8 SHOW I");
    }
}

/// Waits until a new session's reads go to a replica, and answers such a session.
fn reader(ringway: &Ringway, replicas: &[u16]) -> Wire {
    let mut found = None;
    support::wait_until(LIMIT, "reads on a replica", || {
        let mut wire = Wire::login(ringway.port(), "raw", "shop").0;
        let answer = wire.ask("SELECT inet_server_port()");
        let is_replica = replicas
            .iter()
            .any(|port| answer == format!("{port} SELECT 1 I"));
        found = is_replica.then_some(wire);
        is_replica
    });
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_after_a_failed_read_on_a_replica_is_skipped() {
    let ringway = Ringway::of_shop().await;
    let shards = &support::shop().await.shards;
    let replicas: Vec<_> = shards.iter().map(|shard| shard.replicas[0].port).collect();
    let mut wire = reader(&ringway, &replicas);
    let write = "INSERT INTO settings VALUES ('never', 'written')";
    for _ in 0..5 {
        let frames = {
            let messages = [unnamed("SELECT 1/0"), unnamed(write), frame(b'S', b"")];
            wire.send_bytes(&messages.concat());
            wire.read_to_ready()
        };
        assert_eq!(digest(&frames), "22012 I");
        let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
        assert_eq!(error.fields()[&'S'], "ERROR");
    }
    let count = "SELECT count(*) FROM settings WHERE value = 'written'";
    assert_eq!(shards[0].primary.exec(count).unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_would_answer_otherwise_goes_to_the_primary() {
    let shard = &support::shop().await.shards[0];
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.raw]\nauth = \"trust\"\n\
             [databases.shop]\nservers = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\n\
             server_user = \"app\"\nserver_password = \"app\"\nreads = {{ split = true }}\n",
            shard.primary.port, shard.replicas[0].port
        )
    });
    let mut wire = reader(&ringway, &[shard.replicas[0].port]);
    assert_eq!(wire.ask("SHOW transaction_read_only"), "off SHOW I");
    assert_eq!(
        wire.ask_extended(&["SHOW transaction_read_only"]),
        "off SHOW I"
    );
    // A replica would say 25006: it cannot write. The primary knows no such transaction.
    for verb in ["COMMIT", "ROLLBACK"] {
        let sql = format!("{verb} PREPARED 'nobody'");
        assert_eq!(wire.ask(&sql), "42704 I");
        assert_eq!(wire.ask_extended(&[&sql]), "42704 I");
    }
}

#[test]
fn session_state_reaches_every_shard_or_is_refused() {
    let two = Two::start("session_state", "");
    let (mut wire, mut other) = (two.login(), two.login());
    // Both meet on the first shard.
    assert_eq!(other.ask("LISTEN bell"), "LISTEN I");
    assert_eq!(wire.ask("SELECT pg_notify('bell', 'ding')"), " SELECT 1 I");
    assert_eq!(wire.ask("NOTIFY bell, 'dong'"), "NOTIFY I");
    for payload in ["ding", "dong"] {
        let frame = other.read().unwrap();
        assert!(frame.tag == b'A' && String::from_utf8_lossy(&frame.body).contains(payload));
    }
    let lost = "SELECT pg_notify('bell', 'lost') FROM $t WHERE k = $b";
    assert_eq!(two.ask(&mut wire, lost), "0A000 I");
    // EXECUTE goes where its arguments say.
    let prepare = "PREPARE p (bigint) AS SELECT current_setting('app.tenant', true) || k FROM $t WHERE k = $1";
    assert_eq!(two.ask(&mut wire, prepare), "PREPARE I");
    assert_eq!(
        wire.ask("PREPARE q AS SELECT count(*) FROM session_state"),
        "PREPARE I"
    );
    assert_eq!(wire.ask("EXECUTE q"), "0A000 I");
    assert_eq!(two.ask(&mut wire, "EXECUTE p ($a + 0)"), "0A000 I");
    // A setting of the transaction, on both shards; then one of the session.
    for (local, after) in [(true, ""), (false, "5")] {
        assert_eq!(wire.ask("BEGIN"), "BEGIN T");
        two.ask(&mut wire, "SELECT v FROM $t WHERE k = $a");
        let set = format!("SELECT set_config('app.tenant', '5', {local})");
        assert_eq!(wire.ask(&set), "5 SELECT 1 T");
        for key in ["$a", "$b"] {
            let expected = two.sql(&format!("5{key} SELECT 1 T"));
            assert_eq!(two.ask(&mut wire, &format!("EXECUTE p ({key})")), expected);
        }
        assert_eq!(wire.ask("COMMIT"), "COMMIT I");
        for key in ["$a", "$b"] {
            let expected = two.sql(&format!("{after}{key} SELECT 1 I"));
            assert_eq!(two.ask(&mut wire, &format!("EXECUTE p ({key})")), expected);
        }
    }
    for misleading in [
        "SELECT set_config('search_path', 'elsewhere', false)",
        "SELECT set_config('search' || '_path', 'elsewhere', true)",
    ] {
        assert_eq!(wire.ask(misleading), "0A000 I");
        assert_eq!(wire.ask_extended(&[misleading]), "0A000 I");
    }
}

#[test]
fn rows_locked_on_several_shards_are_locked_until_the_end() {
    let two = Two::start("locked", "");
    let (mut wire, mut other) = (two.login(), two.login());
    for extended in [false, true] {
        let ask = |wire: &mut Wire, sql: &str| match extended {
            false => two.ask(wire, sql),
            true => two.ask_extended(wire, &[sql]),
        };
        for end in ["COMMIT", "ROLLBACK"] {
            assert_eq!(ask(&mut wire, "BEGIN"), "BEGIN T");
            let all = "SELECT k FROM $t ORDER BY k DESC FOR UPDATE";
            assert_eq!(ask(&mut wire, all), "8 7 6 5 4 3 2 1 SELECT 8 T");
            for key in ["$a", "$b"] {
                let sql = format!("SELECT v FROM $t WHERE k = {key} FOR SHARE NOWAIT");
                assert_eq!(ask(&mut other, &sql), "55P03 I");
            }
            let sql = "SELECT v FROM $t FOR UPDATE NOWAIT";
            assert_eq!(ask(&mut other, sql), "55P03 I");
            let sql = "SELECT v FROM $t FOR UPDATE SKIP LOCKED";
            assert_eq!(ask(&mut other, sql), "SELECT 0 I");
            assert_eq!(ask(&mut wire, WRITE_A), "UPDATE 1 T");
            assert_eq!(ask(&mut wire, end), format!("{end} I"));
            let sql = "SELECT v FROM $t ORDER BY v FOR NO KEY UPDATE NOWAIT";
            let first = if end == "COMMIT" {
                "0 0 0 0 0 0 0 1"
            } else {
                "0 0 0 0 0 0 0 0"
            };
            assert_eq!(ask(&mut other, sql), format!("{first} SELECT 8 I"));
            assert_eq!(ask(&mut other, "UPDATE $t SET v = 0"), "UPDATE 8 I");
            // One shard has given its locks when the other one refuses: none is kept.
            assert_eq!(ask(&mut other, "BEGIN"), "BEGIN T");
            assert_eq!(ask(&mut other, WRITE_B), "UPDATE 1 T");
            let sql = "SELECT k FROM $t FOR UPDATE NOWAIT";
            assert_eq!(ask(&mut wire, sql), "55P03 I");
            assert_eq!(ask(&mut wire, "BEGIN"), "BEGIN T");
            assert_eq!(ask(&mut wire, "SAVEPOINT s"), "SAVEPOINT T");
            assert_eq!(ask(&mut wire, sql), "55P03 E");
            assert_eq!(ask(&mut wire, "ROLLBACK TO s"), "ROLLBACK T");
            assert_eq!(ask(&mut other, WRITE_A), "UPDATE 1 T");
            assert_eq!(ask(&mut other, "ROLLBACK"), "ROLLBACK I");
            assert_eq!(ask(&mut wire, "COMMIT"), "COMMIT I");
        }
    }
    // A portal gives them in parts.
    let all = two.sql("SELECT k FROM $t ORDER BY k DESC FOR UPDATE");
    assert_eq!(wire.ask("BEGIN"), "BEGIN T");
    let parts = [
        parse("", &all),
        bind("", "", &[]),
        execute("", 3),
        execute("", 0),
    ];
    let said = wire.ask_pipeline(&parts);
    assert_eq!(said, "8 7 6 suspended 5 4 3 2 1 SELECT 5 T");
    assert_eq!(wire.ask("COMMIT"), "COMMIT I");
    // A pipeline is one transaction.
    let pipeline = ["SELECT k FROM $t ORDER BY k FOR UPDATE", WRITE_A];
    let said = two.ask_extended(&mut wire, &pipeline);
    assert_eq!(said, "1 2 3 4 5 6 7 8 SELECT 8 UPDATE 1 I");
    let pipeline = [
        "UPDATE $t SET v = 0",
        "SELECT v FROM $t FOR UPDATE",
        "SELECT 1 / 0",
    ];
    let said = two.ask_extended(&mut wire, &pipeline);
    assert_eq!(said, "UPDATE 8 0 0 0 0 0 0 0 0 SELECT 8 22012 I");
    let sql = "SELECT v FROM $t ORDER BY v FOR UPDATE NOWAIT";
    assert_eq!(two.ask(&mut other, sql), "0 0 0 0 0 0 0 1 SELECT 8 I");
    assert_eq!(two.ask(&mut wire, "UPDATE $t SET v = 0"), "UPDATE 8 I");
    two.assert_untouched();
}

#[test]
fn the_plans_of_all_shards_are_explained() {
    let two = Two::start("explained", "");
    let mut wire = two.login();
    for extended in [false, true] {
        let mut ask = |sql: &str| match extended {
            false => two.ask(&mut wire, sql),
            true => two.ask_extended(&mut wire, &[sql]),
        };
        let said = ask("EXPLAIN (COSTS OFF) SELECT k, v FROM $t ORDER BY v, k LIMIT 3;");
        let head = "Ringway on 2 shards   Step: merge sorted rows by column 2 nulls last, column 1 nulls last   Step: limit 3";
        assert!(said.starts_with(head), "{said}");
        for shard in ["s0", "s1"] {
            let begin = format!(
                "  ->  Shard {shard} runs SELECT k, v FROM explained ORDER BY v, k LIMIT 3         Limit           ->"
            );
            assert!(said.contains(&begin), "{said}");
        }
        assert!(said.ends_with(" EXPLAIN I"), "{said}");
        let said = ask("EXPLAIN ANALYZE SELECT count(*) FROM $t");
        assert_eq!(said.matches("Execution Time").count(), 2, "{said}");
        let said = ask("EXPLAIN SELECT count(DISTINCT v) FROM $t");
        assert_eq!(said.matches("gives SELECT ROW").count(), 2, "{said}");
        assert!(
            said.contains("finishes, here without rows, SELECT count(DISTINCT v) FROM"),
            "{said}"
        );
        assert!(
            said.contains("Function Scan") || said.contains("Result"),
            "{said}"
        );
        let said = ask("EXPLAIN VERBOSE UPDATE $t SET v = 5");
        assert_eq!(
            said.matches("Update on public.explained").count(),
            2,
            "{said}"
        );
        assert_eq!(ask("BEGIN"), "BEGIN T");
        assert_eq!(ask(WRITE_A), "UPDATE 1 T");
        let said = ask("EXPLAIN DELETE FROM $t");
        assert_eq!(said.matches("Delete on explained").count(), 2, "{said}");
        assert!(said.ends_with(" EXPLAIN T"), "{said}");
        assert_eq!(ask("EXPLAIN SELECT nosuch FROM $t ORDER BY k"), "42703 E");
        assert_eq!(ask("ROLLBACK"), "ROLLBACK I");
        assert_eq!(ask("EXPLAIN ANALYZE UPDATE $t SET v = 1"), "0A000 I");
        assert_eq!(ask("EXPLAIN (FORMAT json) SELECT k FROM $t"), "0A000 I");
        assert_eq!(ask("EXPLAIN SELECT nosuch FROM $t"), "42703 I");
    }
    two.assert_untouched();
}
