//! Session mode with reads on replicas: the connection to the primary is the client's own, replicas
//! are borrowed for a transaction each, and nobody can tell.

use std::time::Duration;

use ringway::demo::captive::{CaptiveCluster, Spec};
use tokio_postgres::Client;

use crate::support::{self, Ringway};

struct Stage {
    cluster: CaptiveCluster,
    ringway: Ringway,
}

impl Stage {
    fn start() -> Self {
        Self::start_with(20)
    }

    fn start_with(poll_ms: u32) -> Self {
        let cluster = support::cluster(&Spec {
            replicas: 1,
            ..Spec::default()
        });
        let shard = &cluster.shards[0];
        let sql = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0); \
             CREATE FUNCTION quietly() RETURNS void LANGUAGE plpgsql VOLATILE AS \
             'BEGIN PERFORM set_config(''app.x'', ''set'', false); END'";
        shard.primary.exec(sql).unwrap();
        cluster.wait_caught_up().unwrap();
        // Two connections to the primary, for two clients; one to the replica, which they share.
        let ringway = Ringway::start(|port| {
            format!(
                "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n[users.ringway]\nauth = \"trust\"\n\
                 [databases.shop]\nservers = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\n\
                 pool_size = 2\npool_mode = \"session\"\n\
                 [databases.shop.reads]\nsplit = true\nmax_lag_ms = 60000\npoll_interval_ms = {poll_ms}\n",
                shard.primary.port, shard.replicas[0].port
            )
        });
        Self { cluster, ringway }
    }

    fn primary(&self) -> i32 {
        i32::from(self.cluster.shards[0].primary.port)
    }

    fn replica(&self) -> i32 {
        i32::from(self.cluster.shards[0].replicas[0].port)
    }

    async fn connect(&self) -> Client {
        let port = self.ringway.port();
        support::client(&format!("postgresql://ringway@127.0.0.1:{port}/shop")).await
    }

    /// Waits until the client's reads go to the replica.
    async fn rest(&self, client: &Client) {
        let found = async {
            let mut in_a_row = 0;
            while in_a_row < 3 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                in_a_row = match port(client).await == self.replica() {
                    true => in_a_row + 1,
                    false => 0,
                };
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(20), found).await;
        if found.is_err() {
            let port = self.ringway.port();
            let admin = format!("postgresql://ringway@127.0.0.1:{port}/ringway");
            panic!(
                "no read goes to the replica\n{}",
                support::psql(&admin, "SHOW ROUTING")
            );
        }
    }

    async fn rested(&self) -> Client {
        let client = self.connect().await;
        self.rest(&client).await;
        client
    }
}

async fn port(client: &Client) -> i32 {
    let row = client.query_one("SELECT inet_server_port()", &[]).await;
    row.unwrap().get(0)
}

async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.expect(sql).get(0)
}

#[tokio::test]
async fn a_session_reads_on_a_replica_what_it_wrote_on_its_own_connection() {
    let stage = Stage::start();
    let client = stage.rested().await;
    let pid = "/* ringway: primary */ SELECT pg_backend_pid()::text";
    let first = text(&client, pid).await;
    for v in 1..=30 {
        let sql = format!("UPDATE t SET v = {v} WHERE id = 1");
        match v % 2 {
            0 => client.batch_execute(&sql).await.unwrap(),
            _ => {
                client.execute(&sql, &[]).await.unwrap();
            }
        }
        let row = client.query_one("SELECT v FROM t WHERE id = 1", &[]).await;
        assert_eq!(row.unwrap().get::<_, i32>(0), v);
    }
    stage.rest(&client).await;
    assert_eq!(text(&client, pid).await, first, "it keeps its connection");
    // A write that the replica lacks keeps reads off it.
    let replica = &stage.cluster.shards[0].replicas[0];
    stage.rest(&client).await;
    replica.exec("SELECT pg_wal_replay_pause()").unwrap();
    client.batch_execute("UPDATE t SET v = 99").await.unwrap();
    for _ in 0..5 {
        assert_eq!(text(&client, "SELECT v::text FROM t").await, "99");
        assert_eq!(port(&client).await, stage.primary());
    }
    replica.exec("SELECT pg_wal_replay_resume()").unwrap();
    stage.rest(&client).await;
    // READ ONLY transactions read there, unless it owes an answer just then; others on the primary.
    let read_in = async |begin: &str| {
        stage.rest(&client).await;
        client.batch_execute(begin).await.unwrap();
        let port = port(&client).await;
        client.batch_execute("COMMIT").await.unwrap();
        port
    };
    let on_replica = async { while read_in("BEGIN READ ONLY").await != stage.replica() {} };
    let on_replica = tokio::time::timeout(Duration::from_secs(20), on_replica).await;
    on_replica.expect("a READ ONLY transaction on the replica");
    assert_eq!(read_in("BEGIN").await, stage.primary());
}

#[tokio::test]
async fn what_reads_depend_on_keeps_them_on_the_primary() {
    let stage = Stage::start();
    for (state, check, expected) in [
        (
            "CREATE TEMP TABLE t AS SELECT 7 AS v",
            "SELECT max(v)::text FROM t",
            "7",
        ),
        ("SELECT quietly()", "SELECT current_setting('app.x')", "set"),
        (
            "DO $$ BEGIN PERFORM set_config('app.x', 'set', false); END $$",
            "SELECT current_setting('app.x')",
            "set",
        ),
        (
            "SET search_path = pg_temp, public; CREATE TABLE t AS SELECT 8 AS v",
            "SELECT max(v)::text FROM t",
            "8",
        ),
    ] {
        let client = stage.rested().await;
        client.batch_execute(state).await.unwrap();
        // Longer than a replica needs to catch up.
        tokio::time::sleep(Duration::from_millis(150)).await;
        for _ in 0..3 {
            assert_eq!(text(&client, check).await, expected, "{state}");
            assert_eq!(port(&client).await, stage.primary(), "{state}");
        }
        client.batch_execute("DISCARD ALL").await.unwrap();
        stage.rest(&client).await;
    }
}

#[tokio::test]
async fn settings_statements_and_locks_are_the_sessions_on_both() {
    // So rarely that the replica owes no answer because the machine is busy with others.
    let stage = Stage::start_with(1_000);
    let client = stage.rested().await;
    client
        .batch_execute("SET work_mem = '9MB'; SET application_name = 'mine'")
        .await
        .unwrap();
    client
        .batch_execute(
            "PREPARE p AS SELECT inet_server_port()::text || current_setting('work_mem')",
        )
        .await
        .unwrap();
    let lock = "SELECT pg_advisory_lock(42)";
    client.batch_execute(lock).await.unwrap();
    stage.rest(&client).await;
    let both = "SELECT current_setting('work_mem') || ' ' || current_setting('application_name')";
    assert_eq!(text(&client, both).await, "9MB mine", "on the replica");
    let on_primary = format!("/* ringway: primary */ {both}");
    assert_eq!(text(&client, &on_primary).await, "9MB mine");
    let found = client.simple_query("EXECUTE p").await.unwrap();
    assert!(found.iter().any(|message| matches!(
        message,
        tokio_postgres::SimpleQueryMessage::Row(row) if row.get(0).is_some_and(|value| value.ends_with("9MB"))
    )));
    let prepared = client
        .prepare("SELECT v, inet_server_port() FROM t WHERE id = $1")
        .await
        .unwrap();
    stage.rest(&client).await;
    let row = client.query_one(&prepared, &[&1]).await.unwrap();
    assert_eq!(row.get::<_, i32>(1), stage.replica());
    client.batch_execute("UPDATE t SET v = 3").await.unwrap();
    let row = client.query_one(&prepared, &[&1]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 3);
    // Another client: neither settings nor the lock are its.
    let other = stage.rested().await;
    assert_ne!(text(&other, both).await, "9MB mine");
    let taken = "SELECT pg_try_advisory_lock(42)::text";
    assert_eq!(text(&other, taken).await, "false");
    assert_eq!(
        text(&client, "SELECT pg_advisory_unlock(42)::text").await,
        "true"
    );
    assert_eq!(text(&other, taken).await, "true");
    client.batch_execute("RESET ALL").await.unwrap();
    stage.rest(&client).await;
    assert_eq!(
        text(&client, "SELECT current_setting('work_mem')").await,
        "4MB"
    );
    // Who comes next on these connections finds nothing of it.
    drop(client);
    drop(other);
    for _ in 0..2 {
        let next = stage.rested().await;
        for sql in [both.to_owned(), on_primary.clone()] {
            assert!(text(&next, &sql).await.starts_with("4MB"));
        }
    }
}

/// A replica that goes away takes no session with it that is not reading from it.
#[tokio::test]
async fn a_session_outlives_its_replica() {
    let mut stage = Stage::start();
    let client = stage.rested().await;
    client
        .batch_execute("CREATE TEMP TABLE mine (v int); DISCARD TEMP; UPDATE t SET v = 4")
        .await
        .unwrap();
    client.batch_execute("DISCARD ALL").await.unwrap();
    stage.rest(&client).await;
    stage.cluster.shards[0].replicas[0].kill9().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    // The statement that finds it dead may fail; the session goes on.
    while client.query_one("SELECT v FROM t", &[]).await.is_err() {
        assert!(std::time::Instant::now() < deadline && !client.is_closed());
    }
    assert_eq!(port(&client).await, stage.primary());
}
