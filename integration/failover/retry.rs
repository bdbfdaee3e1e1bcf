//! Single statements that another server has to answer, and what is known of servers that are sick.

use std::process::Command;
use std::time::{Duration, Instant};

use ringway::demo::captive::{CaptiveCluster, Server, Spec};
use tokio_postgres::{Client, NoTls};

use super::LIMIT;
use crate::support::{self, Ringway};

/// A primary with replicas and the table `t`; `next()` writes, and the configuration says that it reads.
fn start(replicas: usize, settings: &[(&str, &str)], more: &str) -> (CaptiveCluster, Ringway) {
    let setting = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let cluster = support::cluster(&Spec {
        replicas,
        settings: settings.iter().map(setting).collect(),
        ..Spec::default()
    });
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0); \
               CREATE FUNCTION next() RETURNS int LANGUAGE sql VOLATILE \
               AS 'UPDATE t SET v = v + 1 WHERE id = 1 RETURNING v'";
    cluster.shards[0].primary.exec(sql).unwrap();
    cluster.wait_caught_up().unwrap();
    let servers: Vec<_> = (cluster.servers())
        .map(|server| format!("\"127.0.0.1:{}\"", server.port))
        .collect();
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n\
             [users.ringway]\nauth = \"trust\"\n[databases.shop]\nservers = [{}]\n\
             functions = {{ next = \"read\" }}\n{more}",
            servers.join(", ")
        )
    });
    (cluster, ringway)
}

const SPLIT: &str = "reads = { split = true, max_lag_ms = 60000, slow_start_ms = 0 }\n";

/// As [`SPLIT`], and no replica is late because a busy machine asks it late.
const STEADY: &str =
    "reads = { split = true, max_lag_ms = 60000, slow_start_ms = 0, poll_interval_ms = 1000 }\n";

fn url(ringway: &Ringway, database: &str) -> String {
    format!(
        "postgresql://ringway@127.0.0.1:{}/{database}",
        ringway.port()
    )
}

async fn connect(ringway: &Ringway) -> Client {
    support::client(&url(ringway, "shop")).await
}

async fn port(client: &Client) -> u16 {
    let row = client.query_one("SELECT inet_server_port()", &[]).await;
    row.unwrap().get::<_, i32>(0) as u16
}

/// Waits until a new session's reads go to the replica.
async fn wait_for(ringway: &Ringway, replica: &Server) {
    let deadline = Instant::now() + LIMIT;
    while port(&connect(ringway).await).await != replica.port {
        assert!(Instant::now() < deadline, "no read goes to the replica");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How often statements were sent again for that reason.
fn retries(ringway: &Ringway, reason: &str) -> u64 {
    let shown = support::psql(&url(ringway, "ringway"), "SHOW ROUTING");
    let mut rows = shown.lines().map(|row| row.split('|').collect::<Vec<_>>());
    let row = rows.find(|row| row[1] == "retry" && row[2] == reason);
    row.expect("a row of that reason")[3].parse().unwrap()
}

/// What ends by itself on every other server alone.
fn endless_on(server: &Server) -> String {
    format!(
        "CASE inet_server_port() WHEN {} THEN \
           (SELECT count(*) FROM generate_series(1, 10000) a, generate_series(1, 10000) b, \
            generate_series(1, 10000) c) ELSE 0 END",
        server.port
    )
}

fn standings(ringway: &Ringway) -> Vec<String> {
    let shown = support::psql(&url(ringway, "ringway"), "SHOW REPLICAS");
    let standing = |row: &str| row.split('|').nth(5).unwrap_or_default().to_owned();
    shown.lines().map(standing).collect()
}

#[tokio::test]
async fn what_a_replica_refuses_to_write_the_primary_answers() {
    let (cluster, ringway) = start(1, &[], STEADY);
    let shard = &cluster.shards[0];
    wait_for(&ringway, &shard.replicas[0]).await;
    // A session that has read nothing yet goes to the replica.
    let client = connect(&ringway).await;
    let rows = client.simple_query("SELECT next()").await.unwrap();
    assert!(
        matches!(&rows[1], tokio_postgres::SimpleQueryMessage::Row(row) if row.get(0) == Some("1"))
    );
    assert_eq!(retries(&ringway, "read_only"), 1);
    let client = connect(&ringway).await;
    let row = client.query_one("SELECT next()", &[]).await.unwrap();
    assert_eq!(
        (row.get::<_, i32>(0), retries(&ringway, "read_only")),
        (2, 2)
    );
    // The session goes on, and what it prepared is there wherever it goes.
    let again = client.prepare("SELECT next() + $1").await.unwrap();
    for v in 3..6 {
        let row = client.query_one(&again, &[&0i32]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), v);
    }
    // A longer message than is kept in the usual buffer.
    let client = connect(&ringway).await;
    let long = format!("SELECT next(), '{}'", "x".repeat(8_000));
    client.simple_query(&long).await.unwrap();
    assert_eq!(shard.primary.exec("SELECT v FROM t").unwrap(), "6");
    // Its own transaction is read only: then that is the answer.
    let client = connect(&ringway).await;
    client.batch_execute("BEGIN READ ONLY").await.unwrap();
    let error = client.query_one("SELECT next()", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25006");
    client.batch_execute("ROLLBACK").await.unwrap();
    let client = connect(&ringway).await;
    client
        .batch_execute("SET default_transaction_read_only = on")
        .await
        .unwrap();
    let write = "/* ringway: primary */ UPDATE t SET v = 9";
    let error = client.batch_execute(write).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25006");
    assert_eq!(shard.primary.exec("SELECT v FROM t").unwrap(), "6");
}

#[tokio::test]
async fn what_recovery_cancels_the_primary_answers() {
    let (cluster, ringway) = start(1, &[("max_standby_streaming_delay", "0")], STEADY);
    let shard = &cluster.shards[0];
    wait_for(&ringway, &shard.replicas[0]).await;
    let client = connect(&ringway).await;
    let slow = format!(
        "SELECT inet_server_port(), (SELECT count(*) FROM t), {}",
        endless_on(&shard.replicas[0])
    );
    let reading = tokio::spawn(async move { client.query_one(&slow, &[]).await });
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT inet_server_port(), (%' \
                   AND state = 'active'";
    let deadline = Instant::now() + LIMIT;
    while shard.replicas[0].exec(running).unwrap() != "1" {
        assert!(Instant::now() < deadline, "the read does not run");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Its replay has to take a lock that the read is in the way of.
    shard
        .primary
        .exec("ALTER TABLE t ADD COLUMN w int")
        .unwrap();
    let row = reading.await.unwrap().unwrap();
    assert_eq!(row.get::<_, i32>(0), i32::from(shard.primary.port));
    assert_eq!(retries(&ringway, "recovery_conflict"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_processes_crash_ends_is_read_elsewhere() {
    let (cluster, ringway) = start(1, &[], STEADY);
    let shard = &cluster.shards[0];
    wait_for(&ringway, &shard.replicas[0]).await;
    let client = connect(&ringway).await;
    let slow = format!(
        "SELECT inet_server_port(), {}",
        endless_on(&shard.replicas[0])
    );
    let running = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE query = '{slow}' AND state = 'active'"
    );
    let reading = tokio::spawn(async move { client.query_one(&slow, &[]).await });
    shard.replicas[0].wait_for(&running, "1", LIMIT).unwrap();
    let other = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'";
    let other = shard.replicas[0].exec(other).unwrap();
    let status = Command::new("kill").args(["-9", &other]).status();
    assert!(status.unwrap().success());
    let row = reading.await.unwrap().unwrap();
    assert_eq!(row.get::<_, i32>(0), i32::from(shard.primary.port));
    assert_eq!(retries(&ringway, "shut_down"), 1);
}

/// Reads of sessions that are new.
async fn ports(ringway: &Ringway, count: usize) -> Vec<u16> {
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(port(&connect(ringway).await).await);
    }
    found
}

fn signal(server: &Server, signal: &str) {
    let pids = format!(
        "kill -{signal} {pid} $(ps -o pid= --ppid {pid})",
        pid = server.pid().unwrap()
    );
    assert!(
        Command::new("sh")
            .arg("-c")
            .arg(pids)
            .status()
            .unwrap()
            .success()
    );
}

#[tokio::test]
async fn a_replica_that_hangs_gets_no_more_reads() {
    let (cluster, ringway) = start(2, &[], SPLIT);
    let (one, two) = (
        &cluster.shards[0].replicas[0],
        &cluster.shards[0].replicas[1],
    );
    wait_for(&ringway, one).await;
    wait_for(&ringway, two).await;
    signal(two, "STOP");
    let stopped = Instant::now();
    support::wait_until(LIMIT, "the replica to be out of rotation", || {
        standings(&ringway)[2] != "fresh"
    });
    let out = stopped.elapsed();
    eprintln!("a replica that hangs is out of rotation after {out:?}");
    assert!(out <= super::limit(Duration::from_millis(250)), "{out:?}");
    assert!(
        ports(&ringway, 10)
            .await
            .iter()
            .all(|port| *port == one.port)
    );
    signal(two, "CONT");
    wait_for(&ringway, two).await;
}

#[tokio::test]
async fn a_wait_in_our_own_queue_is_no_servers_fault() {
    let more = format!("pool_size = 1\n{STEADY}");
    let (cluster, ringway) = start(2, &[], &more);
    let shard = &cluster.shards[0];
    wait_for(&ringway, &shard.replicas[0]).await;
    wait_for(&ringway, &shard.replicas[1]).await;
    // Each holds the only connection to its replica.
    let mut holders = Vec::new();
    let mut held = std::collections::BTreeSet::new();
    while held.len() < 2 {
        let holder = connect(&ringway).await;
        holder.batch_execute("BEGIN READ ONLY").await.unwrap();
        held.insert(port(&holder).await);
        holders.push(holder);
    }
    let waiting = connect(&ringway).await;
    ringway.admin("SET databases.shop.checkout_timeout_ms = 50");
    for _ in 0..50 {
        let _ = waiting.query_one("SELECT 1", &[]).await;
    }
    drop(holders);
    support::wait_until(LIMIT, "all servers in rotation", || {
        standings(&ringway) == ["primary", "fresh", "fresh"]
    });
    let shown = support::psql(&url(&ringway, "ringway"), "SHOW REPLICAS");
    assert!(
        shown.lines().all(|row| row.ends_with("|0")),
        "times_down: {shown}"
    );
}

#[tokio::test]
async fn a_replica_far_slower_than_its_sibling_is_ejected_and_returns() {
    let reads = "reads = { split = true, max_lag_ms = 60000, eject_ms = 1000 }\n";
    let (cluster, ringway) = start(2, &[], reads);
    let shard = &cluster.shards[0];
    let (one, two) = (&shard.replicas[0], &shard.replicas[1]);
    wait_for(&ringway, one).await;
    wait_for(&ringway, two).await;
    // The same statement takes its time on one of them.
    let slow = format!(
        "SELECT CASE inet_server_port() WHEN {} THEN \
           (SELECT count(*) FROM generate_series(1, 300000)) ELSE 0 END",
        two.port
    );
    let ejected = async {
        let deadline = Instant::now() + LIMIT;
        while standings(&ringway)[2] != "ejected" {
            assert!(
                Instant::now() < deadline,
                "nobody is ejected: {:?}",
                standings(&ringway)
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let load = async {
        loop {
            let (client, connection) = tokio_postgres::connect(&url(&ringway, "shop"), NoTls)
                .await
                .unwrap();
            let connection = tokio::spawn(connection);
            for _ in 0..8 {
                client.simple_query(&slow).await.unwrap();
            }
            drop(client);
            connection.await.unwrap().unwrap();
        }
    };
    tokio::select! {
        () = ejected => {}
        () = load => {}
    }
    support::wait_until(LIMIT, "its sibling in rotation", || {
        standings(&ringway)[1] == "fresh"
    });
    wait_for(&ringway, two).await;
}

#[tokio::test]
async fn servers_that_tell_no_positions_are_used_by_time() {
    let more = "reads = { split = true, blind_ms = 300 }\nmonitor_user = \"watcher\"\n";
    let cluster = support::cluster(&Spec {
        replicas: 1,
        ..Spec::default()
    });
    let primary = &cluster.shards[0].primary;
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE ROLE watcher LOGIN; \
               REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM PUBLIC";
    primary.exec(sql).unwrap();
    cluster.wait_caught_up().unwrap();
    let replica = &cluster.shards[0].replicas[0];
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n\
             [users.ringway]\nauth = \"trust\"\n[databases.shop]\n\
             servers = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\n{more}",
            primary.port, replica.port
        )
    });
    wait_for(&ringway, replica).await;
    assert!(ringway.proxy.log().contains("does not tell its position"));
    let client = connect(&ringway).await;
    let wrote = Instant::now();
    client
        .batch_execute("INSERT INTO t VALUES (1, 1)")
        .await
        .unwrap();
    let mut first = None;
    while first.is_none() {
        let is_replica = port(&client).await == replica.port;
        first = is_replica.then(|| wrote.elapsed());
        assert!(
            wrote.elapsed() < LIMIT,
            "the session never returns to the replica"
        );
    }
    assert!(first >= Some(Duration::from_millis(250)), "{first:?}");
    let check = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(["check", "-c"])
        .arg(ringway.config_file())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        text.contains("does not tell its position in the WAL"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_before_its_use_is_replaced() {
    let (_cluster, ringway) = start(1, &[], "pool_size = 1\n");
    let client = connect(&ringway).await;
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await;
    let pid: i32 = pid.unwrap().get(0);
    let signal = |name: &str| {
        let status = Command::new("kill").args([name, &pid.to_string()]).status();
        assert!(status.unwrap().success());
    };
    // It is told of the new setting before it can say that it ends.
    client
        .batch_execute("SET application_name = 'another'")
        .await
        .unwrap();
    let other = connect(&ringway).await;
    signal("-STOP");
    signal("-TERM");
    let answer =
        tokio::spawn(async move { other.simple_query("INSERT INTO t VALUES (2, 0)").await });
    let admin = url(&ringway, "ringway");
    let is_active = move || support::psql(&admin, "SHOW CLIENTS").contains("|shop|none|active|");
    let wait = || support::wait_until(LIMIT, "a statement on the connection", is_active);
    tokio::task::spawn_blocking(wait).await.unwrap();
    signal("-CONT");
    answer.await.unwrap().unwrap();
    let after = client.query_one("SELECT pg_backend_pid()", &[]).await;
    assert_ne!(pid, after.unwrap().get::<_, i32>(0));
}
