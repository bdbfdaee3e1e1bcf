//! Writes on several shards are committed on all of them or on none, whatever dies and when.

mod blocks;
mod cancels;
mod deadlocks;
mod kills;
mod levels;
mod limits;
mod moves;
mod promoted;
mod state;
mod texts;

use std::time::{Duration, Instant};

use ringway::demo::captive::{CaptiveCluster, Signal, Spec, StopMode, free_port};
use tempfile::TempDir;

use crate::support::process::{LIMIT, Launch, Process};
use crate::support::wire::{Frame, Wire, digest};
use crate::support::{self, wait_until};

/// The longest that anybody waits for nothing to be prepared after everything is back. It takes some
/// seconds at most where nothing else keeps the machine busy.
const RECOVERED: Duration = Duration::from_secs(20);
pub(super) const PREPARED: &str =
    "SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE 'ringway/1/%'";

/// Shards, and Ringway processes in front of them.
pub(super) struct World {
    pub(super) cluster: CaptiveCluster,
    directory: TempDir,
}

/// A Ringway of a test's.
pub(super) struct Proxy {
    process: Process,
    port: u16,
}

impl World {
    /// Each shard has the table `t` with rows for 64 keys and the tables in `more`.
    pub(super) fn start(shards: usize, more: &str) -> Self {
        let spec = Spec {
            shards,
            ..Spec::default()
        };
        Self::of(&spec, more)
    }

    fn of(spec: &Spec, more: &str) -> Self {
        let world = Self {
            cluster: support::cluster(spec),
            directory: tempfile::tempdir().unwrap(),
        };
        let tables = format!("CREATE TABLE t (k bigint PRIMARY KEY, v int NOT NULL); {more}");
        world.on_all(&tables);
        world
    }

    fn on_all(&self, sql: &str) {
        for shard in &self.cluster.shards {
            shard.primary.exec(sql).unwrap();
        }
    }

    fn on(&self, shard: usize, sql: &str) -> String {
        self.cluster.shards[shard].primary.exec(sql).unwrap()
    }

    pub(super) fn each(&self, sql: &str) -> Vec<String> {
        (0..self.cluster.shards.len())
            .map(|shard| self.on(shard, sql))
            .collect()
    }

    fn config(&self, port: u16, keys: &str, tables: &str) -> String {
        let mut config = format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n\
             shutdown_timeout_s = 1\n\
             [users.ringway]\nauth = \"trust\"\n[databases.shop]\nserver_user = \"ringway\"\n{keys}\n\
             [databases.shop.tables]\nt = {{ key = \"k\" }}\n{tables}\n"
        );
        for (at, shard) in self.cluster.shards.iter().enumerate() {
            let servers = [&shard.primary].into_iter().chain(&shard.replicas);
            let servers: Vec<_> = servers
                .map(|s| format!("\"127.0.0.1:{}\"", s.port))
                .collect();
            config.push_str(&format!(
                "[[databases.shop.shards]]\nname = \"s{at}\"\nservers = [{}]\n",
                servers.join(", ")
            ));
        }
        config
    }

    /// `failpoint`: a step of the protocol and what to do there, or nothing.
    pub(super) fn ringway(&self, name: &str, failpoint: &str, keys: &str, tables: &str) -> Proxy {
        self.ringway_of(name, failpoint, |port| self.config(port, keys, tables))
    }

    fn ringway_of(&self, name: &str, failpoint: &str, config: impl FnOnce(u16) -> String) -> Proxy {
        let port = free_port().unwrap();
        let process = Launch {
            directory: self.directory.path(),
            name,
            config: config(port),
            args: &[],
            env: &[("RINGWAY_FAILPOINT", failpoint.to_owned())],
            before: "",
        }
        .start();
        process.wait_for_log("ready");
        Proxy { process, port }
    }

    /// Fills a table by INSERT of many rows over all shards.
    fn fill(&self, proxy: &Proxy, table: &str) {
        let rows: Vec<_> = (1..=64).map(|k| format!("({k}, 0)")).collect();
        let insert = format!("INSERT INTO {table} VALUES {}", rows.join(", "));
        assert_eq!(proxy.login().ask(&insert), "INSERT 0 64 I");
    }

    fn wait_recovered(&self, limit: Duration) {
        wait_until(limit, "nothing to be prepared", || {
            self.each(PREPARED).iter().all(|count| count == "0")
        });
    }
}

impl Proxy {
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn login(&self) -> Wire {
        Wire::login(self.port, "ringway", "shop").0
    }

    /// The rows of an admin command, columns parted by `|`.
    fn show(&self, what: &str) -> String {
        let url = format!("postgresql://ringway@127.0.0.1:{}/ringway", self.port);
        support::psql(&url, what)
    }
}

fn error(frames: &[Frame]) -> String {
    let error = frames.iter().find(|frame| frame.tag == b'E');
    let fields = error.map(Frame::fields).unwrap_or_default();
    let field = |letter| fields.get(&letter).cloned().unwrap_or_default();
    format!(
        "{}: {} {} {}",
        field('C'),
        field('M'),
        field('D'),
        field('H')
    )
}

const ALL: &str = "UPDATE t SET v = v + 1";
const VALUES: &str = "SELECT min(v) || ' ' || max(v) FROM ";

#[test]
fn kill_at_every_step_is_all_or_nothing() {
    const STEPS: [(&str, &[&str]); 5] = [
        ("preparing_second", &["0 0"]),
        ("prepared", &["0 0"]),
        // The server may have had the whole message, or found out that nobody is there.
        ("deciding", &["0 0", "1 1"]),
        ("decided", &["1 1"]),
        ("committing_second", &["1 1"]),
    ];
    let tables =
        STEPS.map(|(step, _)| format!("CREATE TABLE {step} (k bigint PRIMARY KEY, v int);"));
    let world = World::start(3, &tables.concat());
    let keys = STEPS.map(|(step, _)| format!("{step} = {{ key = \"k\" }}\n"));
    let survivor = world.ringway("survivor", "", "", &keys.concat());
    for (step, _) in STEPS {
        world.fill(&survivor, step);
    }
    for (step, _) in STEPS {
        let mut victim = world.ringway(step, &format!("{step}:kill"), "", &keys.concat());
        let mut wire = victim.login();
        wire.query(&format!("UPDATE {step} SET v = v + 1"));
        assert_eq!(wire.read_to_ready(), [], "{step}: no answer");
        assert!(!victim.process.wait_for_end().success());
        std::fs::remove_dir_all(world.directory.path().join(format!("{step}.d"))).unwrap_or(());
    }
    let back = Instant::now();
    world.wait_recovered(RECOVERED);
    println!("recovered after {:?}", back.elapsed());
    for (step, wanted) in STEPS {
        let found = world.each(&format!("{VALUES}{step}"));
        assert!(
            found.iter().all(|shard| *shard == found[0]),
            "{step}: {found:?}"
        );
        assert!(wanted.contains(&found[0].as_str()), "{step}: {found:?}");
    }
    let again = survivor.login().ask("UPDATE prepared SET v = v + 1");
    assert_eq!(again, "UPDATE 64 I", "nothing is locked");
    assert_eq!(survivor.show("SHOW IN_DOUBT"), "");
}

#[test]
fn who_wakes_up_after_a_rollback_cannot_commit() {
    let world = World::start(2, "");
    let keys = "recovery_interval_ms = 200\ndecision_retention_s = 1";
    let survivor = world.ringway("survivor", "", keys, "");
    world.fill(&survivor, "t");
    let mut sleeper = world.ringway("sleeper", "prepared:stop", keys, "");
    let mut wire = sleeper.login();
    wire.query(ALL);
    sleeper.process.wait_for_stop();
    wait_until(LIMIT, "a rollback", || {
        world.on(
            0,
            "SELECT outcome FROM ringway.decision WHERE outcome = 'abort'",
        ) == "abort"
    });
    world.wait_recovered(RECOVERED);
    // Two rounds of forgetting, and the marker stays as long as somebody could wake up.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(
        world.on(
            0,
            "SELECT count(*) FROM ringway.decision WHERE outcome = 'abort'"
        ),
        "1"
    );
    sleeper.process.signal(Signal::Cont);
    let said = error(&wire.read_to_ready());
    assert!(
        said.starts_with("40000: transaction was rolled back on all shards This process"),
        "{said}"
    );
    assert_eq!(world.each("SELECT sum(v) FROM t"), ["0", "0"]);
    wait_until(RECOVERED, "the decisions to be forgotten", || {
        world.each("SELECT count(*) FROM ringway.decision") == ["0", "0"]
    });
    assert_eq!(
        digest(&{
            wire.query(ALL);
            wire.read_to_ready()
        }),
        "UPDATE 64 I"
    );
    assert_eq!(
        world.each("SELECT count(DISTINCT v) || ' ' || min(v) FROM t"),
        ["1 1", "1 1"]
    );
}

#[test]
fn a_decision_that_is_lost_on_the_way_is_asked_for() {
    let world = World::start(2, "");
    let stopped = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name <> 'ringway recovery' AND state = 'idle in transaction'";
    world.fill(&world.ringway("first", "", "", ""), "t");

    // Nothing was decided when the server went: it is rolled back, and the client knows.
    let mut proxy = world.ringway("second", "prepared:stop", "", "");
    let mut wire = proxy.login();
    wire.query(ALL);
    wait_until(LIMIT, "it to be prepared", || world.on(1, PREPARED) == "1");
    proxy.process.wait_for_stop();
    world.on(0, stopped);
    proxy.process.signal(Signal::Cont);
    let said = error(&wire.read_to_ready());
    assert!(
        said.starts_with("40000: transaction was rolled back on all shards"),
        "{said}"
    );
    assert_eq!(world.each(PREPARED), ["0", "0"]);

    // It was decided, and the answer was lost: it is committed, and the client knows.
    world.on(0, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    world.on(0, "SELECT pg_reload_conf()");
    let primary = &world.cluster.shards[0].primary;
    primary
        .wait_for("SHOW synchronous_standby_names", "nobody", LIMIT)
        .unwrap();
    // The checkpointer has heard of it by then: it is the one to tell the others.
    world.on(0, "CHECKPOINT");
    wire.query(ALL);
    let waits = "FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%''commit''%'";
    primary
        .wait_for(&format!("SELECT count(*) {waits}"), "1", LIMIT)
        .unwrap();
    world.on(0, &format!("SELECT pg_terminate_backend(pid) {waits}"));
    world.on(0, "ALTER SYSTEM RESET synchronous_standby_names");
    world.on(0, "SELECT pg_reload_conf()");
    assert_eq!(digest(&wire.read_to_ready()), "UPDATE 64 I");
    assert_eq!(world.each(PREPARED), ["0", "0"]);
    assert_eq!(
        world.each("SELECT count(DISTINCT v) || ' ' || min(v) FROM t"),
        ["1 1", "1 1"]
    );
}

#[test]
fn a_decision_that_nobody_can_tell_is_said_to_be_unknown() {
    let mut world = World::start(2, "");
    let mut proxy = world.ringway("proxy", "", "failover_hold_ms = 100", "");
    world.fill(&proxy, "t");
    drop(proxy);
    proxy = world.ringway("again", "prepared:stop", "failover_hold_ms = 100", "");
    let mut wire = proxy.login();
    wire.query(ALL);
    wait_until(LIMIT, "it to be prepared", || world.on(1, PREPARED) == "1");
    proxy.process.wait_for_stop();
    world.cluster.shards[0]
        .primary
        .stop(StopMode::Immediate)
        .unwrap();
    proxy.process.signal(Signal::Cont);
    let said = error(&wire.read_to_ready());
    assert!(
        said.starts_with("08007: it is not known whether transaction "),
        "{said}"
    );
    wait_until(LIMIT, "it to be in doubt", || {
        proxy.show("SHOW IN_DOUBT").starts_with("shop|s1|")
    });
    world.cluster.shards[0].primary.start().unwrap();
    world.wait_recovered(RECOVERED);
    assert_eq!(world.each("SELECT sum(v) FROM t"), ["0", "0"]);
    let (_, rest) = said.split_once("transaction ").unwrap();
    let id = rest.split(' ').next().unwrap();
    let ask =
        format!("/* ringway: shard=s0 */ SELECT outcome FROM ringway.decision WHERE id = '{id}'");
    assert_eq!(proxy.login().ask(&ask), "abort SELECT 1 I");
}

#[test]
fn what_cannot_be_atomic_is_refused_unless_that_is_not_wanted() {
    let mut world = World::start(2, "CREATE TABLE r (k int PRIMARY KEY, v int);");
    let tables = "r = \"reference\"";
    let proxy = world.ringway("atomic", "", "", tables);
    world.fill(&proxy, "t");
    let schema = "DROP SCHEMA ringway CASCADE";
    world.on(1, schema);
    let mut wire = proxy.login();
    let mut refused = |sql: &str, wanted: &str| {
        let mut said = String::new();
        wait_until(LIMIT, wanted, || {
            wire.query(sql);
            said = error(&wire.read_to_ready());
            said.contains(wanted)
        });
        assert!(
            said.starts_with("55000: shard \"s1\" cannot take part in an atomic commit"),
            "{said}"
        );
        assert!(
            said.contains("multi_shard_commit = \"best_effort\""),
            "{said}"
        );
    };
    world.on_all("DELETE FROM t WHERE v > 0");
    for sql in [
        "DELETE FROM t WHERE v < 0",
        "UPDATE t SET k = k + 1 WHERE v < 0",
        "INSERT INTO r VALUES (1, 1) ON CONFLICT DO NOTHING",
        "COPY t FROM STDIN",
        "CREATE TABLE IF NOT EXISTS r (k int)",
    ] {
        refused(sql, "Schema ringway is missing");
    }
    assert_eq!(world.each("SELECT count(*) FROM r"), ["0", "0"]);
    proxy
        .process
        .wait_for_log("writes on several shards are refused");
    assert_eq!(wire.ask("UPDATE t SET v = 5 WHERE k = 1"), "UPDATE 1 I");
    let best = world.ringway("best", "", "multi_shard_commit = \"best_effort\"", tables);
    assert_eq!(
        best.login().ask("INSERT INTO r VALUES (1, 1)"),
        "INSERT 0 1 I"
    );
    assert_eq!(world.each("SELECT count(*) FROM r"), ["1", "1"]);
    // A constraint that fails at the end, on the second shard: the first keeps what it did.
    world.on(
        1,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON r DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION fail()",
    );
    let mut beside = best.login();
    beside.query("INSERT INTO r VALUES (2, 2)");
    let said = error(&beside.read_to_ready());
    assert!(
        said.starts_with("P0001: no It took effect on 127.0.0.1:"),
        "{said}"
    );
    assert_eq!(world.each("SELECT count(*) FROM r"), ["2", "1"]);
    let check = |name: &str| {
        let path = world.directory.path().join(format!("{name}.toml"));
        let findings = ringway::app::check::check(&path, false).unwrap();
        let wanted = "shop: shard \"s1\" cannot take part in an atomic commit";
        let found = findings
            .iter()
            .find(|finding| finding.text.starts_with(wanted));
        found.map(|finding| finding.kind.name())
    };
    assert_eq!(check("atomic"), Some("mistake"));
    assert_eq!(check("best"), Some("notice"));
    // As soon as it is there, it is used.
    let path = world.directory.path().join("best.toml");
    ringway::app::init::init(&path, &ringway::app::init::Options::default()).unwrap();
    wait_until(LIMIT, "an atomic commit", || wire.ask(ALL) == "UPDATE 64 I");
    assert_eq!(wire.ask("INSERT INTO r VALUES (3, 3)"), "P0001 I");
    assert_eq!(world.each("SELECT count(*) FROM r"), ["2", "1"]);
    let s1 = &mut world.cluster.shards[1].primary;
    let none = ("max_prepared_transactions".to_owned(), "0".to_owned());
    s1.configure(&[none]).unwrap();
    s1.stop(StopMode::Fast).unwrap();
    s1.start().unwrap();
    let mut wire = proxy.login();
    let mut said = String::new();
    wait_until(LIMIT, "a refusal", || {
        wire.query(ALL);
        said = error(&wire.read_to_ready());
        said.contains("max_prepared_transactions is 0")
    });
    assert!(said.starts_with("55000"), "{said}");
}

#[test]
fn what_fails_before_the_decision_leaves_nothing_anywhere() {
    let more = "CREATE TABLE d (k bigint PRIMARY KEY, v int, u int,
                                CONSTRAINT late UNIQUE (u) DEFERRABLE INITIALLY DEFERRED);
                CREATE ROLE other; GRANT ALL ON t TO other;
                CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
                  'BEGIN PERFORM pg_notify(''c'', ''''); RETURN NULL; END';";
    let world = World::start(2, more);
    let proxy = world.ringway("proxy", "", "", "d = { key = \"k\" }");
    world.fill(&proxy, "t");
    let mut wire = proxy.login();
    let insert = "INSERT INTO d VALUES (1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 1, 4)";
    assert_eq!(wire.ask(insert), "INSERT 0 4 I");
    // A constraint that is checked at the end.
    assert_eq!(wire.ask("UPDATE d SET u = 1"), "23505 I");
    assert_eq!(
        world
            .each("SELECT count(*) FROM d WHERE u = 1")
            .concat()
            .len(),
        2
    );
    assert_eq!(wire.ask("SELECT sum(u) FROM d"), "10 SELECT 1 I");
    // What cannot be prepared, on the shard that does not decide.
    world.on(
        1,
        "CREATE TRIGGER tell AFTER UPDATE ON t FOR EACH STATEMENT EXECUTE FUNCTION tell()",
    );
    assert_eq!(wire.ask(ALL), "0A000 I");
    assert_eq!(world.each("SELECT sum(v) FROM t"), ["0", "0"]);
    world.on(1, "DROP TRIGGER tell ON t");
    assert_eq!(world.each(PREPARED), ["0", "0"]);
    // Settings of the client's do not get in the way.
    for (sql, tag) in [
        ("SET ROLE other", "SET I"),
        ("SET synchronous_commit = off", "SET I"),
        (ALL, "UPDATE 64 I"),
        ("SELECT current_user", "other SELECT 1 I"),
        ("RESET ROLE", "RESET I"),
        (ALL, "UPDATE 64 I"),
        (
            "SET default_transaction_isolation = 'serializable'",
            "SET I",
        ),
        (ALL, "UPDATE 64 I"),
    ] {
        assert_eq!(wire.ask(sql), tag, "{sql}");
    }
    assert_eq!(
        world.each("SELECT count(DISTINCT v) || ' ' || min(v) FROM t"),
        ["1 3", "1 3"]
    );
    // Only one shard, or none, has anything to commit.
    let before = world.on(0, "SELECT count(*) FROM ringway.decision");
    let of_one = "UPDATE t SET v = 9 WHERE v > 2 AND v + k = 4";
    assert_eq!(wire.ask(of_one), "UPDATE 1 I");
    assert_eq!(wire.ask("DELETE FROM t WHERE v = 77"), "DELETE 0 I");
    assert_eq!(world.on(0, "SELECT count(*) FROM ringway.decision"), before);
}

#[test]
fn only_names_of_ours_are_touched() {
    let world = World::start(2, "");
    let keys = "recovery_interval_ms = 200";
    let proxy = world.ringway("proxy", "", keys, "");
    let number = "0123456789abcdef0123456789abcdef";
    let identity = world.on(0, "SELECT id FROM ringway.identity");
    let names = [
        "application".to_owned(),
        format!("ringway/2/{number}/{number}/{identity}/1"),
        format!("ringway/1/{number}/{number}/{identity}/01"),
        // Another database's: none of these shards decides.
        format!("ringway/1/{number}/{number}/{number}/1"),
    ];
    for (at, name) in names.iter().enumerate() {
        let sql = format!("BEGIN; INSERT INTO t VALUES ({at}, 0); PREPARE TRANSACTION '{name}'");
        world.on(1, &sql);
    }
    let ours = format!("ringway/1/{number}/{number}/{identity}/1");
    let sql = format!("BEGIN; INSERT INTO t VALUES (9, 0); PREPARE TRANSACTION '{ours}'");
    world.on(1, &sql);
    world.on(1, "CREATE DATABASE other");
    let elsewhere = format!("ringway/1/{number}/{number}/{identity}/2");
    let sql = format!("BEGIN; CREATE TABLE x (); PREPARE TRANSACTION '{elsewhere}'");
    world.cluster.shards[1]
        .primary
        .exec_in("other", &sql)
        .unwrap();
    wait_until(RECOVERED, "ours to be rolled back", || {
        world.on(
            1,
            &format!("SELECT count(*) FROM pg_prepared_xacts WHERE gid = '{ours}'"),
        ) == "0"
    });
    assert_eq!(world.on(1, "SELECT count(*) FROM pg_prepared_xacts"), "5");
    let doubt = proxy.show("SHOW IN_DOUBT");
    assert_eq!(doubt.lines().count(), 1, "{doubt}");
    assert!(doubt.contains("no shard of this database"), "{doubt}");
}
