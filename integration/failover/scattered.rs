//! Reads over several shards whose replica dies before the client has seen any of the answer.

use std::process::Command;
use std::time::{Duration, Instant};

use ringway::demo::captive::{CaptiveCluster, Server, Spec};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::LIMIT;
use crate::support::{self, Ringway};

const ROWS: i64 = 100;

fn ringway(cluster: &CaptiveCluster, reads: &str) -> Ringway {
    let mut shards = String::new();
    for (at, shard) in cluster.shards.iter().enumerate() {
        let (primary, replica) = (shard.primary.port, shard.replicas[0].port);
        shards.push_str(&format!(
            "[[databases.shop.shards]]\nname = \"s{at}\"\n\
             servers = [\"127.0.0.1:{primary}\", \"127.0.0.1:{replica}\"]\n"
        ));
    }
    Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n\
             [users.ringway]\nauth = \"trust\"\n[databases.shop]\n\
             [databases.shop.reads]\nsplit = true\nmax_lag_ms = 60000\npoll_interval_ms = 1000\n{reads}\n\
             [databases.shop.tables]\nt = {{ key = \"id\" }}\n{shards}"
        )
    })
}

fn url(ringway: &Ringway, database: &str) -> String {
    format!(
        "postgresql://ringway@127.0.0.1:{}/{database}",
        ringway.port()
    )
}

/// How many rows a client gets, in the protocol asked for; else the SQLSTATE.
async fn ask(client: &Client, sql: &str, extended: bool) -> Result<Vec<String>, String> {
    let code = |error: tokio_postgres::Error| match error.as_db_error() {
        Some(error) => error.code().code().to_owned(),
        None => error.to_string(),
    };
    if extended {
        let rows = client.query(sql, &[]).await.map_err(code)?;
        return Ok(rows
            .iter()
            .map(|row| row.get::<_, i64>(0).to_string())
            .collect());
    }
    let messages = client.simple_query(sql).await.map_err(code)?;
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    Ok(messages.iter().filter_map(row).collect())
}

/// Waits until the pool has so many connections to the replica that are believed to be to a replica.
async fn warm(ringway: &Ringway, replica: &Server, count: usize) {
    let deadline = Instant::now() + LIMIT;
    let mut holders = Vec::new();
    while holders.len() < count {
        assert!(Instant::now() < deadline, "no reads go to the replica");
        let client = support::client(&url(ringway, "shop")).await;
        client.batch_execute("BEGIN READ ONLY").await.unwrap();
        ask(&client, MERGED, false).await.unwrap();
        let held = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";
        if replica.exec(held).unwrap() == (holders.len() + 1).to_string() {
            holders.push(client);
        }
    }
    for client in holders {
        client.batch_execute("COMMIT").await.unwrap();
    }
}

/// A lock on the table that reads on the replica have to wait for, until the client is dropped.
async fn lock(primary: &Server, replica: &Server) -> Client {
    let (client, connection) = primary.connection().connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    // It goes to the replica with what is committed next.
    primary
        .exec("SELECT pg_logical_emit_message(true, 'x', 'x')")
        .unwrap();
    let there = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass::oid AND granted";
    replica.wait_for(there, "1", LIMIT).unwrap();
    client
}

const MERGED_ROWS: &str = "SELECT id::bigint FROM t ORDER BY id";
const MERGED: &str = "SELECT count(*) FROM t";
const GATHERED: &str = "SELECT count(*) FROM t a JOIN t b ON a.v = b.id";

#[tokio::test(flavor = "multi_thread")]
async fn a_query_on_several_shards_outlives_a_replica() {
    let mut cluster = support::cluster(&Spec {
        shards: 2,
        replicas: 1,
        ..Spec::default()
    });
    for shard in &cluster.shards {
        let sql = "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL)";
        shard.primary.exec(sql).unwrap();
    }
    let with = ringway(&cluster, "");
    let without = ringway(&cluster, "retry = false");
    let client = support::client(&url(&with, "shop")).await;
    for id in 1..=ROWS {
        let sql = format!("INSERT INTO t VALUES ({id}, {id})");
        client.batch_execute(&sql).await.unwrap();
    }
    cluster.wait_caught_up().unwrap();
    let shard = &cluster.shards[1];
    let replica = &shard.replicas[0];
    let standing = format!("|127.0.0.1|{}|replica|fresh|", replica.port);
    for (ringway, count) in [(&with, 7), (&without, 1)] {
        support::wait_until(LIMIT, "a fresh replica", || {
            support::psql(&url(ringway, "ringway"), "SHOW REPLICAS").contains(&standing)
        });
        warm(ringway, replica, count).await;
    }
    let mut asked: Vec<JoinHandle<_>> = Vec::new();
    let locked = lock(&shard.primary, replica).await;
    for sql in [MERGED_ROWS, MERGED, GATHERED] {
        for extended in [false, true] {
            let client = support::client(&url(&with, "shop")).await;
            asked.push(tokio::spawn(
                async move { ask(&client, sql, extended).await },
            ));
        }
    }
    let unhelped = support::client(&url(&without, "shop")).await;
    let unhelped = tokio::spawn(async move { ask(&unhelped, MERGED, false).await });
    // A block has its snapshot, or what it was told, on the replica.
    let in_block = support::client(&url(&with, "shop")).await;
    in_block.batch_execute("BEGIN READ ONLY").await.unwrap();
    let in_block = tokio::spawn(async move { ask(&in_block, MERGED, false).await });
    let waiting =
        "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass::oid AND NOT granted";
    replica.wait_for(waiting, "8", LIMIT).unwrap();
    let killed = Instant::now();
    cluster.shards[1].replicas[0].kill9().unwrap();
    drop(locked);
    let all: Vec<String> = (1..=ROWS).map(|id| id.to_string()).collect();
    let count = vec![ROWS.to_string()];
    for (at, asked) in asked.into_iter().enumerate() {
        let answer = tokio::time::timeout(LIMIT, asked).await.unwrap().unwrap();
        let expected = if at < 2 { &all } else { &count };
        assert_eq!(answer.as_ref(), Ok(expected), "{at}");
    }
    eprintln!(
        "queries on several shards, after the death of a replica: {:?}",
        killed.elapsed()
    );
    for lost in [unhelped, in_block] {
        let answer = tokio::time::timeout(LIMIT, lost).await.unwrap().unwrap();
        assert_eq!(answer.unwrap_err(), "08006");
    }
    let shown = support::psql(&url(&with, "ringway"), "SHOW ROUTING");
    assert!(shown.contains("|retry|lost|6|"), "{shown}");
    assert!(killed.elapsed() < super::limit(Duration::from_secs(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_on_several_shards_outlives_the_crash_of_another_process() {
    let cluster = support::cluster(&Spec {
        shards: 2,
        replicas: 1,
        ..Spec::default()
    });
    for shard in &cluster.shards {
        let sql = "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL)";
        shard.primary.exec(sql).unwrap();
    }
    let ringway = ringway(&cluster, "");
    cluster.wait_caught_up().unwrap();
    let shard = &cluster.shards[1];
    let replica = &shard.replicas[0];
    let standing = format!("|127.0.0.1|{}|replica|fresh|", replica.port);
    support::wait_until(LIMIT, "a fresh replica", || {
        support::psql(&url(&ringway, "ringway"), "SHOW REPLICAS").contains(&standing)
    });
    warm(&ringway, replica, 2).await;
    let locked = lock(&shard.primary, replica).await;
    let asked = [MERGED, GATHERED].map(|sql| {
        let url = url(&ringway, "shop");
        tokio::spawn(async move { ask(&support::client(&url).await, sql, false).await })
    });
    let waiting =
        "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass::oid AND NOT granted";
    replica.wait_for(waiting, "2", LIMIT).unwrap();
    let other = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'";
    let other = replica.exec(other).unwrap();
    let status = Command::new("kill").args(["-9", &other]).status();
    assert!(status.unwrap().success());
    drop(locked);
    for asked in asked {
        let answer = tokio::time::timeout(LIMIT, asked).await.unwrap().unwrap();
        assert_eq!(answer, Ok(vec!["0".to_owned()]));
    }
    let shown = support::psql(&url(&ringway, "ringway"), "SHOW ROUTING");
    assert!(shown.contains("|retry|shut_down|2|"), "{shown}");
}
