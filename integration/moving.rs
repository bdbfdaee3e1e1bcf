//! Transactions that read on a replica until they write (`transactions = "replica_until_write"`), and
//! go on at the primary then as if they had been there from the start.

use std::time::{Duration, Instant};

use ringway::demo::captive::{CaptiveCluster, Spec};
use tokio_postgres::Client;

use crate::support::{self, Ringway};

const LIMIT: Duration = Duration::from_secs(20);

/// A primary and a replica with a table, and Ringway with one connection to each, so that who comes
/// next finds what was left.
struct Stage {
    cluster: CaptiveCluster,
    ringway: Ringway,
}

impl Stage {
    /// With so rare polls that no replica owes an answer because the machine is busy with others.
    fn start(reads: &str) -> Self {
        Self::start_with(reads, 1_000)
    }

    fn start_with(reads: &str, poll_ms: u32) -> Self {
        let cluster = support::cluster(&Spec {
            replicas: 1,
            ..Spec::default()
        });
        let shard = &cluster.shards[0];
        let sql = "CREATE TABLE t (id int PRIMARY KEY, v int); \
             INSERT INTO t SELECT id, 0 FROM generate_series(1, 10) id; \
             CREATE FUNCTION next() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'; \
             CREATE FUNCTION bump() RETURNS int LANGUAGE sql VOLATILE \
             AS 'UPDATE t SET v = v + 1 WHERE id = 1 RETURNING v'";
        shard.primary.exec(sql).unwrap();
        cluster.wait_caught_up().unwrap();
        let ringway = Ringway::start(|port| {
            format!(
                "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n[users.ringway]\nauth = \"trust\"\n\
                 [databases.shop]\nservers = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\npool_size = 1\n\
                 [databases.shop.reads]\nsplit = true\nmax_lag_ms = 60000\npoll_interval_ms = {poll_ms}\n{reads}\n",
                shard.primary.port, shard.replicas[0].port
            )
        });
        Self { cluster, ringway }
    }

    fn primary(&self) -> u16 {
        self.cluster.shards[0].primary.port
    }

    fn replica(&self) -> u16 {
        self.cluster.shards[0].replicas[0].port
    }

    async fn connect(&self) -> Client {
        let port = self.ringway.port();
        support::client(&format!("postgresql://ringway@127.0.0.1:{port}/shop")).await
    }

    /// A client whose reads go to the replica.
    async fn rested(&self) -> Client {
        let client = self.connect().await;
        self.rest(&client).await;
        client
    }

    /// Waits until the client's reads go to the replica.
    async fn rest(&self, client: &Client) {
        // A connection opened just now is not believed by a session that has seen something.
        let found = async {
            let mut in_a_row = 0;
            while in_a_row < 3 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                in_a_row = match port(client, "").await == self.replica() {
                    true => in_a_row + 1,
                    false => 0,
                };
            }
        };
        let found = tokio::time::timeout(LIMIT, found).await;
        found.expect("a read on the replica");
    }

    /// Of a reason in SHOW ROUTING, for replicas.
    fn reads_by(&self, reason: &str) -> u64 {
        let url = format!(
            "postgresql://ringway@127.0.0.1:{}/ringway",
            self.ringway.port()
        );
        let rows = support::psql(&url, "SHOW ROUTING");
        let row = rows
            .lines()
            .find(|row| row.starts_with(&format!("shop|replica|{reason}|")));
        let count = row.and_then(|row| row.split('|').nth(3));
        count.and_then(|count| count.parse().ok()).expect("a count")
    }
}

/// The port of the server that answers, as a statement of the simple protocol.
async fn port(client: &Client, more: &str) -> u16 {
    let rows = client
        .simple_query(&format!("SELECT inet_server_port(){more}"))
        .await
        .unwrap();
    let port = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    port.unwrap()
}

async fn code(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.expect_err(sql);
    error.code().expect(sql).code().to_owned()
}

const UNTIL_WRITE: &str = "transactions = \"replica_until_write\"";

#[tokio::test]
async fn a_transaction_reads_on_a_replica_until_it_writes() {
    let stage = Stage::start(UNTIL_WRITE);
    let (primary, replica) = (stage.primary(), stage.replica());
    let client = stage.rested().await;
    let before = stage.reads_by("until_write");
    for write in [
        "UPDATE t SET v = v + 1 WHERE id = 1",
        "SELECT next()",
        "SELECT v FROM t WHERE id = 1 FOR SHARE",
        "SELECT pg_advisory_xact_lock(7)",
        "SELECT now()",
        "SELECT CURRENT_DATE",
        "SELECT 'today'::date",
        "DECLARE c CURSOR FOR SELECT 1",
        "SHOW transaction_read_only",
        "SET TRANSACTION READ WRITE",
        "/* ringway: primary */ SELECT 1",
    ] {
        let client = stage.rested().await;
        client.batch_execute("BEGIN").await.unwrap();
        for more in ["", ", count(*) FROM t"] {
            assert_eq!(port(&client, more).await, replica, "before {write}");
        }
        client.batch_execute(write).await.unwrap();
        assert_eq!(port(&client, "").await, primary, "after {write}");
        client.batch_execute("COMMIT").await.unwrap();
    }
    assert_eq!(stage.reads_by("until_write") - before, 11);
    // One that never writes stays there to its end.
    client.batch_execute("BEGIN").await.unwrap();
    for _ in 0..5 {
        assert_eq!(port(&client, "").await, replica);
    }
    client.batch_execute("COMMIT").await.unwrap();
    // Its own write is seen, in the transaction and after it.
    let client = stage.rested().await;
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(port(&client, "").await, replica);
    client
        .batch_execute("UPDATE t SET v = 77 WHERE id = 2")
        .await
        .unwrap();
    let sql = "SELECT v FROM t WHERE id = 2";
    for end in ["", "COMMIT"] {
        client.batch_execute(end).await.unwrap();
        let row = client.query_one(sql, &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 77, "{end}");
    }
}

#[tokio::test]
async fn by_default_a_transaction_that_may_write_reads_on_the_primary() {
    let stage = Stage::start("");
    let client = stage.rested().await;
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(port(&client, "").await, stage.primary());
    client.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn only_read_committed_transactions_move() {
    let stage = Stage::start(UNTIL_WRITE);
    let (primary, replica) = (stage.primary(), stage.replica());
    for (begin, expected) in [
        ("BEGIN", replica),
        ("BEGIN ISOLATION LEVEL READ COMMITTED", replica),
        (
            "START TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
            replica,
        ),
        (
            "BEGIN; SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
            primary,
        ),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ", primary),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", primary),
        ("BEGIN READ WRITE", primary),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", replica),
    ] {
        let client = stage.rested().await;
        client.batch_execute(begin).await.unwrap();
        assert_eq!(port(&client, "").await, expected, "{begin}");
        client.batch_execute("COMMIT").await.unwrap();
    }
    for (set, expected) in [
        ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", primary),
        ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", replica),
        ("SET TRANSACTION READ WRITE", primary),
        ("SET LOCAL work_mem = '1MB'", replica),
        ("SAVEPOINT s", replica),
    ] {
        let client = stage.rested().await;
        client.batch_execute("BEGIN").await.unwrap();
        client.batch_execute(set).await.unwrap();
        assert_eq!(port(&client, "").await, expected, "{set}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    // What the session says of all its transactions.
    let client = stage.connect().await;
    let set = "SET default_transaction_isolation = 'repeatable read'";
    client.batch_execute(set).await.unwrap();
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(port(&client, "").await, primary);
    client.batch_execute("COMMIT").await.unwrap();
    // On a replica that a reload has given another level meanwhile, the write is refused.
    let late = &stage.cluster.shards[0].replicas[0];
    let client = stage.rested().await;
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(port(&client, "").await, replica);
    client.batch_execute("COMMIT").await.unwrap();
    late.exec("ALTER SYSTEM SET default_transaction_isolation = 'repeatable read'")
        .unwrap();
    late.exec("SELECT pg_reload_conf()").unwrap();
    let refused = async {
        loop {
            // Its own write leaves it on the primary for a while.
            while port(&client, "").await != replica {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            client.batch_execute("BEGIN").await.unwrap();
            if port(&client, "").await == primary {
                // Another connection to the replica, which was asked after the reload.
                client.batch_execute("ROLLBACK").await.unwrap();
                return "it stays on the primary".to_owned();
            }
            let answer = client
                .batch_execute("UPDATE t SET v = 1 WHERE id = 3")
                .await;
            client.batch_execute("ROLLBACK").await.unwrap();
            if let Err(error) = answer {
                return error.code().unwrap().code().to_owned();
            }
        }
    };
    let refused = tokio::time::timeout(LIMIT, refused).await.unwrap();
    assert!(
        ["0A000", "it stays on the primary"].contains(&&*refused),
        "{refused}"
    );
    late.exec("ALTER SYSTEM RESET default_transaction_isolation")
        .unwrap();
    late.exec("SELECT pg_reload_conf()").unwrap();
}

#[tokio::test]
async fn where_another_level_is_the_default_transactions_stay_on_the_primary() {
    let stage = Stage::start(UNTIL_WRITE);
    let primary = &stage.cluster.shards[0].primary;
    primary
        .exec("ALTER ROLE ringway SET default_transaction_isolation = 'repeatable read'")
        .unwrap();
    stage.cluster.wait_caught_up().unwrap();
    let url = format!(
        "postgresql://ringway@127.0.0.1:{}/ringway",
        stage.ringway.port()
    );
    support::psql(&url, "RECONNECT");
    let client = stage.rested().await;
    for _ in 0..3 {
        client.batch_execute("BEGIN").await.unwrap();
        assert_eq!(port(&client, "").await, stage.primary());
        client.batch_execute("COMMIT").await.unwrap();
        // The replica's connection is free for others.
        stage.rested().await;
    }
}

#[tokio::test]
async fn the_primary_hears_of_all_that_came_before() {
    let stage = Stage::start(UNTIL_WRITE);
    let (primary, replica) = (stage.primary(), stage.replica());
    let client = stage.rested().await;
    for sql in [
        "BEGIN",
        "SET LOCAL application_name = 'outer'",
        "SAVEPOINT a",
        "SET LOCAL application_name = 'inner'",
        "SET work_mem = '3MB'",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let name = ", current_setting('application_name')";
    assert_eq!(port(&client, name).await, replica);
    assert_eq!(code(&client, "SELECT 1 / 0").await, "22012");
    assert_eq!(code(&client, "SELECT 1").await, "25P02");
    client.batch_execute("ROLLBACK TO a").await.unwrap();
    assert_eq!(port(&client, "").await, replica);
    client.batch_execute("SAVEPOINT b").await.unwrap();
    client.batch_execute("SET work_mem = '5MB'").await.unwrap();
    client
        .batch_execute("UPDATE t SET v = 5 WHERE id = 4")
        .await
        .unwrap();
    assert_eq!(port(&client, "").await, primary);
    let show = async |name: &str| -> String {
        let row = client.query_one(&format!("SHOW {name}"), &[]).await;
        row.unwrap().get(0)
    };
    assert_eq!(show("application_name").await, "outer");
    assert_eq!(show("work_mem").await, "5MB");
    client.batch_execute("ROLLBACK TO b").await.unwrap();
    assert_ne!(show("work_mem").await, "5MB");
    client
        .batch_execute("UPDATE t SET v = 6 WHERE id = 5; SET work_mem = '7MB'")
        .await
        .unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    let rows = client
        .query("SELECT v FROM t WHERE id IN (4, 5) ORDER BY id", &[])
        .await
        .unwrap();
    let values: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        values,
        [0, 6],
        "what the savepoint undid, and what it did not"
    );
    assert_eq!(show("work_mem").await, "7MB");
    // What was set on the replica was set for nobody else.
    let other = stage.rested().await;
    let found = other
        .query_one(
            "SELECT inet_server_port(), current_setting('work_mem')",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(found.get::<_, i32>(0), i32::from(replica));
    assert_eq!(found.get::<_, &str>(1), "4MB");
}

#[tokio::test]
async fn prepared_statements_move() {
    // What was written is known to be on the replica soon, for the next one to begin there.
    let stage = Stage::start_with(UNTIL_WRITE, 20);
    let (primary, replica) = (i32::from(stage.primary()), i32::from(stage.replica()));
    let mut client = stage.rested().await;
    let read = client
        .prepare("SELECT v, inet_server_port() FROM t WHERE id = $1")
        .await
        .unwrap();
    let write = client
        .prepare("UPDATE t SET v = $2 WHERE id = $1")
        .await
        .unwrap();
    // To describe what writes counts as if it had written.
    stage.rest(&client).await;
    let (start, mut v, mut moved) = (Instant::now(), 0, 0);
    while v < 20 || moved == 0 {
        assert!(start.elapsed() < LIMIT, "none begins on the replica");
        v += 1;
        let transaction = client.transaction().await.unwrap();
        let row = transaction.query_one(&read, &[&6]).await.unwrap();
        moved += usize::from(row.get::<_, i32>(1) == replica);
        transaction.execute(&write, &[&6, &v]).await.unwrap();
        let row = transaction.query_one(&read, &[&6]).await.unwrap();
        assert_eq!((row.get(0), row.get(1)), (v, primary));
        // Described in the transaction, too.
        let row = transaction
            .query_one("SELECT v + $1::int FROM t WHERE id = 6", &[&1])
            .await
            .unwrap();
        assert_eq!(row.get::<_, i32>(0), v + 1);
        transaction.commit().await.unwrap();
    }
}

#[tokio::test]
async fn portals_and_pipelines_move() {
    let stage = Stage::start(UNTIL_WRITE);
    let (primary, replica) = (i32::from(stage.primary()), i32::from(stage.replica()));
    // A portal goes on where it is, with what it showed from the start.
    let mut client = stage.rested().await;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction
        .bind("SELECT id, inet_server_port() FROM t ORDER BY id", &[])
        .await
        .unwrap();
    let rows = transaction.query_portal(&portal, 4).await.unwrap();
    assert_eq!(rows[0].get::<_, i32>(1), replica);
    transaction
        .execute("DELETE FROM t WHERE id = 10", &[])
        .await
        .unwrap();
    let rest = transaction.query_portal(&portal, 0).await.unwrap();
    let ids: Vec<i32> = rest.iter().map(|row| row.get(0)).collect();
    assert_eq!(ids, [5, 6, 7, 8, 9, 10]);
    assert_eq!(rest[0].get::<_, i32>(1), replica);
    let row = transaction
        .query_one("SELECT count(*), inet_server_port() FROM t", &[])
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i32>(1)), (9, primary));
    transaction.commit().await.unwrap();
    let count = client.query_one("SELECT count(*) FROM t", &[]).await;
    assert_eq!(count.unwrap().get::<_, i64>(0), 9);
    // All at once: every answer comes, in order, and the write is committed.
    let client = stage.rested().await;
    let sqls = [
        "SELECT v FROM t WHERE id = 7",
        "UPDATE t SET v = 70 WHERE id = 7 RETURNING v",
        "SELECT v FROM t WHERE id = 7",
    ];
    let mut statements = Vec::new();
    for sql in sqls {
        statements.push(client.prepare(sql).await.unwrap());
    }
    stage.rest(&client).await;
    let (begin, a, b, c, commit) = futures_util::join!(
        client.batch_execute("BEGIN"),
        client.query_one(&statements[0], &[]),
        client.query_one(&statements[1], &[]),
        client.query_one(&statements[2], &[]),
        client.batch_execute("COMMIT"),
    );
    begin.unwrap();
    commit.unwrap();
    let values = [a, b, c].map(|row| row.unwrap().get::<_, i32>(0));
    assert_eq!(values, [0, 70, 70]);
}

#[tokio::test]
async fn a_transaction_begins_on_a_replica_only_with_what_its_session_wrote() {
    let stage = Stage::start(UNTIL_WRITE);
    let replica = &stage.cluster.shards[0].replicas[0];
    let client = stage.rested().await;
    replica.exec("SELECT pg_wal_replay_pause()").unwrap();
    client
        .batch_execute("UPDATE t SET v = 8 WHERE id = 8")
        .await
        .unwrap();
    for _ in 0..3 {
        client.batch_execute("BEGIN").await.unwrap();
        let row = client
            .query_one("SELECT v, inet_server_port() FROM t WHERE id = 8", &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, i32>(0), 8);
        assert_eq!(row.get::<_, i32>(1), i32::from(stage.primary()));
        client.batch_execute("COMMIT").await.unwrap();
    }
    replica.exec("SELECT pg_wal_replay_resume()").unwrap();
    // COMMIT AND CHAIN begins the next transaction where this one ends.
    let client = stage.rested().await;
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(port(&client, "").await, stage.replica());
    client.batch_execute("COMMIT AND CHAIN").await.unwrap();
    client
        .batch_execute("UPDATE t SET v = 9 WHERE id = 9")
        .await
        .unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    let row = client.query_one("SELECT v FROM t WHERE id = 9", &[]).await;
    assert_eq!(row.unwrap().get::<_, i32>(0), 9);
}

/// Nothing gives away that `bump()` writes, and the configuration says that it reads.
#[tokio::test]
async fn a_write_that_only_the_replica_notices_moves_the_transaction() {
    let stage = Stage::start(&format!(
        "{UNTIL_WRITE}\n[databases.shop.functions]\nbump = \"read\""
    ));
    let (primary, replica) = (stage.primary(), stage.replica());
    let value = async |client: &Client| -> i32 {
        let rows = client.simple_query("SELECT bump()").await.unwrap();
        let value = rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        value.unwrap()
    };
    // What it was told before goes with it.
    let client = stage.rested().await;
    for sql in ["BEGIN", "SET LOCAL work_mem = '3MB'", "SAVEPOINT a"] {
        client.batch_execute(sql).await.unwrap();
    }
    assert_eq!(port(&client, "").await, replica);
    assert_eq!(value(&client).await, 1);
    let work_mem = ", current_setting('work_mem')";
    assert_eq!(port(&client, work_mem).await, primary);
    assert_eq!(value(&client).await, 2);
    client.batch_execute("ROLLBACK TO a").await.unwrap();
    assert_eq!(value(&client).await, 1);
    let row = client.query_one("SHOW work_mem", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "3MB");
    client.batch_execute("COMMIT").await.unwrap();
    // As the first statement, where nothing is there to go with it.
    let client = stage.rested().await;
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(value(&client).await, 2);
    client.batch_execute("ROLLBACK").await.unwrap();
    // Prepared before, and in the transaction; and several reads with it in one text.
    let mut client = stage.rested().await;
    let prepared = client.prepare("SELECT bump() + $1::int").await.unwrap();
    stage.rest(&client).await;
    let transaction = client.transaction().await.unwrap();
    let port_of = "SELECT inet_server_port()";
    let row = transaction.query_one(port_of, &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), i32::from(replica));
    let row = transaction.query_one(&prepared, &[&100]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 102);
    let row = transaction.query_one("SELECT bump()", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 3);
    transaction.commit().await.unwrap();
    let client = stage.rested().await;
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(port(&client, "").await, replica);
    client
        .batch_execute("SELECT 1; SELECT bump(); SELECT 2")
        .await
        .unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    let shown = stage.cluster.shards[0]
        .primary
        .exec("SELECT v FROM t WHERE id = 1");
    assert_eq!(shown.unwrap(), "4");
    // It moved, and each time it was counted; the replica's connection is as good as before.
    let admin = format!(
        "postgresql://ringway@127.0.0.1:{}/ringway",
        stage.ringway.port()
    );
    for row in [
        "|retry|read_only|4|",
        "|transaction|until_write|4|",
        "|transaction|moved|3|",
    ] {
        support::wait_until(LIMIT, row, || {
            support::psql(&admin, "SHOW ROUTING").contains(row)
        });
    }
    let opened =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'ringway' AND state LIKE 'idle in%'";
    support::wait_until(LIMIT, "no open transaction", || {
        stage.cluster.shards[0].replicas[0].exec(opened).unwrap() == "0"
    });
    // A portal that is open holds it there, and then the error is the client's.
    let mut client = stage.rested().await;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction
        .bind("SELECT id FROM t ORDER BY id", &[])
        .await
        .unwrap();
    transaction.query_portal(&portal, 2).await.unwrap();
    let error = transaction
        .query_one("SELECT bump()", &[])
        .await
        .unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25006");
    transaction.rollback().await.unwrap();
    // Who said READ ONLY gets what it asked for.
    client.batch_execute("BEGIN READ ONLY").await.unwrap();
    assert_eq!(code(&client, "SELECT bump()").await, "25006");
    client.batch_execute("ROLLBACK").await.unwrap();
}

/// The replica's part of a transaction may be at another level than was thought: it was told to begin so
/// after it had been asked.
#[tokio::test]
async fn a_write_that_only_the_replica_notices_does_not_leave_a_snapshot() {
    let stage = Stage::start(&format!(
        "{UNTIL_WRITE}\n[databases.shop.functions]\nbump = \"read\""
    ));
    let replica = &stage.cluster.shards[0].replicas[0];
    let client = stage.rested().await;
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(port(&client, "").await, replica.port);
    client.batch_execute("COMMIT").await.unwrap();
    stage.rest(&client).await;
    replica
        .exec("ALTER SYSTEM SET default_transaction_isolation = 'repeatable read'")
        .unwrap();
    replica.exec("SELECT pg_reload_conf()").unwrap();
    let isolation = async || {
        let row = client
            .query_one(
                "SELECT inet_server_port(), current_setting('transaction_isolation')",
                &[],
            )
            .await;
        let row = row.unwrap();
        (row.get::<_, i32>(0) as u16, row.get::<_, String>(1))
    };
    let reloaded = async {
        while isolation().await != (replica.port, "repeatable read".to_owned()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, reloaded).await.unwrap();
    client.batch_execute("BEGIN").await.unwrap();
    let (at, level) = isolation().await;
    let answer = client.simple_query("SELECT bump()").await;
    // It may have got another connection, which was asked after the reload.
    if at == replica.port {
        assert_eq!(level, "repeatable read");
        let error = answer.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "0A000");
        assert_eq!(
            stage.cluster.shards[0]
                .primary
                .exec("SELECT v FROM t WHERE id = 1")
                .unwrap(),
            "0"
        );
    }
}
