//! Servers that go away under load: replicas killed, primaries shut down and succeeded, primaries killed
//! and succeeded. Each run also shows the same with what helps turned off, which must hurt: else it
//! proves nothing.
//!
//! The long form (`RINGWAY_SOAK_FAILOVERS=20`) holds the limits that were promised; the gate, on a machine
//! that has other things to do, looser ones.

mod load;
mod retry;
mod scattered;

use std::time::{Duration, Instant};

use ringway::demo::captive::{CaptiveCluster, Server, Spec, StopMode};

use crate::support::{self, Ringway};
use load::{Load, Report};

const LIMIT: Duration = Duration::from_secs(20);
/// How long writes wait for another primary where they are to wait: no busy machine promotes one later.
const HOLD_MS: u32 = 20_000;
const LONG_FORM: &str = "RINGWAY_SOAK_FAILOVERS";

fn switchovers() -> usize {
    let wanted = std::env::var(LONG_FORM).ok();
    wanted.and_then(|count| count.parse().ok()).unwrap_or(2)
}

/// The limit that was promised where it is measured alone, and a generous one elsewhere.
fn limit(promised: Duration) -> Duration {
    match std::env::var_os(LONG_FORM) {
        Some(_) => promised,
        None => LIMIT,
    }
}

fn start(replicas: usize) -> CaptiveCluster {
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let cluster = support::cluster(&Spec {
        replicas,
        settings: vec![setting("wal_keep_size", "256MB")],
        ..Spec::default()
    });
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL); \
               INSERT INTO t SELECT id, 0 FROM generate_series(0, 99) id; \
               CREATE TABLE log (client int, n int, PRIMARY KEY (client, n))";
    cluster.shards[0].primary.exec(sql).unwrap();
    cluster.wait_caught_up().unwrap();
    cluster
}

/// `pool` and `reads`: more keys of the database and of its reads.
fn ringway(cluster: &CaptiveCluster, pool: &str, reads: &str) -> Ringway {
    let servers: Vec<_> = (cluster.servers())
        .map(|server| format!("\"127.0.0.1:{}\"", server.port))
        .collect();
    Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n[users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\nservers = [{}]\npool_size = 8\n{pool}\n\
             [databases.shop.reads]\nsplit = true\nmax_lag_ms = 60000\nslow_start_ms = 0\n{reads}\n",
            servers.join(", ")
        )
    })
}

/// Makes a server that was shut down cleanly follow the one that has taken its place.
fn rejoin(old: &mut Server, primary: &Server) {
    let conninfo = format!(
        "host={} port={} user={} application_name={}",
        primary.dir.display(),
        primary.port,
        primary.superuser,
        old.name
    );
    let settings = [
        ("primary_conninfo", conninfo),
        ("primary_slot_name", String::new()),
    ];
    old.configure(&settings.map(|(name, value)| (name.to_owned(), value)))
        .unwrap();
    std::fs::write(old.data_dir().join("standby.signal"), "").unwrap();
    old.start().unwrap();
}

/// Kills a replica under load and starts it again. Answers what the load saw, its longest read around the
/// death, and how long after its return the replica served a new session.
fn kill_replica(cluster: &mut CaptiveCluster, ringway: &Ringway) -> (Report, Duration, Duration) {
    cluster.shards[0].primary.exec("TRUNCATE log").unwrap();
    let load = Load::start(ringway.port(), 8, 2, 0);
    load.settle();
    let replica = &mut cluster.shards[0].replicas[1];
    let port = replica.port;
    support::wait_until(LIMIT, "reads on both replicas", || {
        load.reads_on(port) > 100
    });
    load.forget_longest_read();
    replica.kill9().unwrap();
    load.settle();
    let stall = load.longest_read();
    replica.start().unwrap();
    let back = Instant::now();
    let url = format!("postgresql://ringway@127.0.0.1:{}/shop", ringway.port());
    support::wait_until(LIMIT, "reads on the replica that is back", || {
        support::psql(&url, "SELECT inet_server_port()") == port.to_string()
    });
    let back = back.elapsed();
    load.settle();
    (load.end(), stall, back)
}

#[test]
fn a_replica_that_is_killed_costs_no_read() {
    let mut cluster = start(2);
    let control = ringway(&cluster, "", "retry = false");
    let mut without = Report::default();
    // Which statements are under way when it dies is a matter of chance.
    for _ in 0..10 {
        let (report, ..) = kill_replica(&mut cluster, &control);
        without.errors.extend(report.errors);
        if !without.errors.is_empty() {
            break;
        }
    }
    eprintln!("a replica killed, without retries: {:?}", without.errors);
    drop(control);
    let ringway = ringway(&cluster, "", "");
    for _ in 0..switchovers() {
        let (report, stall, back) = kill_replica(&mut cluster, &ringway);
        eprintln!(
            "a replica killed: {report}; longest stall {stall:?}, serves again after {back:?}"
        );
        assert!(report.errors.is_empty(), "{report}");
        assert!(stall <= limit(Duration::from_millis(200)), "{stall:?}");
        assert!(back <= limit(Duration::from_secs(2)), "{back:?}");
    }
    assert!(!without.errors.is_empty(), "the load shows nothing");
}

/// Shuts the primary down cleanly, promotes its replica, and has it follow that one. Answers when the
/// replica was promoted.
fn switch_over(cluster: &mut CaptiveCluster) -> Instant {
    let shard = &mut cluster.shards[0];
    shard.primary.stop(StopMode::Fast).unwrap();
    shard.replicas[0].promote().unwrap();
    let promoted = Instant::now();
    std::mem::swap(&mut shard.primary, &mut shard.replicas[0]);
    rejoin(&mut shard.replicas[0], &shard.primary);
    promoted
}

/// Every write that was acknowledged is there, once.
fn check_acknowledged(primary: &Server, report: &Report) {
    let found = primary.exec("SELECT client || ' ' || n FROM log").unwrap();
    let found: std::collections::HashSet<_> = found.lines().collect();
    let lost: Vec<_> = (report.acknowledged.iter())
        .filter(|(client, n)| !found.contains(&*format!("{client} {n}")))
        .collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
}

#[test]
fn a_planned_switchover_is_a_pause() {
    let mut cluster = start(1);
    let control = ringway(&cluster, "failover_hold_ms = 0", "");
    let load = Load::start(control.port(), 4, 4, 0);
    load.settle();
    switch_over(&mut cluster);
    load.settle();
    let without = load.end();
    eprintln!("a planned switchover, without holding: {without}");
    assert!(!without.errors.is_empty(), "the load shows nothing");
    drop(control);
    check_acknowledged(&cluster.shards[0].primary, &without);
    cluster.wait_caught_up().unwrap();
    let ringway = ringway(&cluster, &format!("failover_hold_ms = {HOLD_MS}"), "");
    let mut longest = Duration::ZERO;
    for round in 1..=switchovers() {
        cluster.shards[0].primary.exec("TRUNCATE log").unwrap();
        let load = Load::start(ringway.port(), 4, 4, 0);
        load.settle();
        switch_over(&mut cluster);
        load.settle();
        let report = load.end();
        eprintln!("a planned switchover, {round}: {report}");
        assert!(report.errors.is_empty(), "{report}");
        check_acknowledged(&cluster.shards[0].primary, &report);
        longest = longest.max(report.longest_write);
        cluster.wait_caught_up().unwrap();
    }
    eprintln!(
        "{} planned switchovers: longest pause {longest:?}",
        switchovers()
    );
    assert!(longest <= limit(Duration::from_secs(2)), "{longest:?}");
}

/// As docs/failover.md tells: open transactions end first, and what comes meanwhile waits.
#[test]
fn a_switchover_in_a_pause_fails_not_even_open_transactions() {
    let mut cluster = start(1);
    let ringway = ringway(&cluster, "", "");
    let admin = format!("postgresql://ringway@127.0.0.1:{}/ringway", ringway.port());
    let load = Load::start(ringway.port(), 4, 2, 4);
    load.settle();
    support::psql(&admin, "PAUSE shop");
    switch_over(&mut cluster);
    let before = load.writes();
    support::psql(&admin, "RESUME shop");
    support::wait_until(LIMIT, "writes after the pause", || {
        load.writes() > before + 20
    });
    let report = load.end();
    eprintln!("a planned switchover in a pause: {report}");
    assert!(report.errors.is_empty(), "{report}");
    check_acknowledged(&cluster.shards[0].primary, &report);
    let halves = "SELECT count(*) FROM (SELECT FROM log WHERE client >= 2 \
                  GROUP BY client, n / 2 HAVING count(*) <> 2) half";
    assert_eq!(cluster.shards[0].primary.exec(halves).unwrap(), "0");
    // Without the pause a transaction that is open on the old primary fails.
    let load = Load::start(ringway.port(), 0, 0, 4);
    load.settle();
    switch_over(&mut cluster);
    support::wait_until(LIMIT, "writes after the switchover", || load.writes() > 20);
    let without = load.end();
    eprintln!("a planned switchover without a pause, amid transactions: {without}");
    assert!(!without.errors.is_empty(), "the load shows nothing");
}

/// Kills the primary and promotes its replica. Answers the load's report, and how long after the
/// promotion the first write was acknowledged.
fn fail_over(cluster: &mut CaptiveCluster, hold_ms: u32) -> (Report, Duration) {
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let shard = &mut cluster.shards[0];
    // What the replica has not got would be lost by replication itself.
    let names = "synchronous_standby_names";
    shard.primary.configure(&[setting(names, "*")]).unwrap();
    shard.primary.exec("SELECT pg_reload_conf()").unwrap();
    shard
        .primary
        .wait_for(&format!("SHOW {names}"), "*", LIMIT)
        .unwrap();
    let ringway = ringway(cluster, &format!("failover_hold_ms = {hold_ms}"), "");
    let load = Load::start(ringway.port(), 4, 4, 0);
    load.settle();
    let shard = &mut cluster.shards[0];
    shard.primary.kill9().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    shard.replicas[0].promote().unwrap();
    let (promoted, before) = (Instant::now(), load.writes());
    support::wait_until(LIMIT, "writes to be acknowledged again", || {
        load.writes() > before
    });
    let resumed = promoted.elapsed();
    load.settle();
    // Back as it was: nobody has told it that it is none any more.
    shard.primary.configure(&[setting(names, "")]).unwrap();
    shard.primary.start().unwrap();
    let count = "SELECT count(*), coalesce(max(n), 0) FROM log";
    let isolated = shard.primary.exec(count).unwrap();
    load.settle();
    load.settle();
    assert_eq!(
        shard.primary.exec(count).unwrap(),
        isolated,
        "a write reached the old primary"
    );
    let report = load.end();
    check_acknowledged(&shard.replicas[0], &report);
    let url = format!("postgresql://ringway@127.0.0.1:{}/ringway", ringway.port());
    support::wait_until(LIMIT, "the old primary to be known as such", || {
        let shown = support::psql(&url, "SHOW REPLICAS");
        shown.contains("|fenced|") && shown.contains("|primary|primary|")
    });
    (report, resumed)
}

#[test]
fn a_primary_that_is_killed_is_succeeded_and_never_written_to_again() {
    let (without, _) = fail_over(&mut start(1), 0);
    eprintln!("a primary killed, without holding: {without}");
    let (report, resumed) = fail_over(&mut start(1), HOLD_MS);
    eprintln!("a primary killed: {report}; writes again {resumed:?} after the promotion");
    assert!(resumed <= limit(Duration::from_secs(3)), "{resumed:?}");
    // Those whose answers went down with the server: nobody knows what became of them.
    let unknown = report
        .errors
        .iter()
        .filter(|error| error.starts_with("08006"));
    assert_eq!(unknown.count(), report.errors.len(), "{report}");
    assert!(
        report.errors.len() < without.errors.len(),
        "the load shows nothing"
    );
}
