//! Reads on replicas: never older than the session's own writes.

use std::time::Duration;

use ringway::demo::captive::{CaptiveCluster, Spec};
use tokio_postgres::Client;

use crate::support::{self, Ringway};

const LIMIT: Duration = Duration::from_secs(20);

/// A primary and a replica that replays `delay_ms` late, asked so rarely that it owes no answer because
/// the machine is busy with others.
fn start(delay_ms: u32) -> (CaptiveCluster, Ringway) {
    start_with(delay_ms, 1_000, "")
}

/// With more keys of `reads`, each with a comma before it.
fn start_with(delay_ms: u32, poll_ms: u32, more: &str) -> (CaptiveCluster, Ringway) {
    let cluster = support::cluster(&Spec {
        replicas: 1,
        ..Spec::default()
    });
    let shard = &cluster.shards[0];
    shard
        .primary
        .exec("CREATE TABLE t (id int PRIMARY KEY, v int)")
        .unwrap();
    shard
        .primary
        .exec("CREATE FUNCTION next() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'")
        .unwrap();
    cluster.wait_caught_up().unwrap();
    shard.replicas[0]
        .exec(&format!(
            "ALTER SYSTEM SET recovery_min_apply_delay = {delay_ms}"
        ))
        .unwrap();
    shard.replicas[0].exec("SELECT pg_reload_conf()").unwrap();
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n[users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\nservers = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\n\
             reads = {{ split = true, max_lag_ms = 60000, poll_interval_ms = {poll_ms}{more} }}\n",
            shard.primary.port, shard.replicas[0].port
        )
    });
    (cluster, ringway)
}

async fn connect(ringway: &Ringway) -> Client {
    let url = format!("postgresql://ringway@127.0.0.1:{}/shop", ringway.port());
    support::client(&url).await
}

/// The port of the server that answers `SELECT inet_server_port()` with `more` in it.
async fn port(client: &Client, more: &str) -> u16 {
    let sql = format!("SELECT inet_server_port(){more}");
    let row = client.query_one(&sql, &[]).await.unwrap();
    row.get::<_, i32>(0) as u16
}

/// Waits until a new session's reads go to the replica.
async fn wait_for_replica(ringway: &Ringway, replica: u16) {
    let deadline = std::time::Instant::now() + LIMIT;
    let client = connect(ringway).await;
    while port(&client, "").await != replica {
        assert!(
            std::time::Instant::now() < deadline,
            "no read goes to the replica"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_session_reads_what_it_wrote() {
    let (cluster, ringway) = start_with(100, 20, "");
    let shard = &cluster.shards[0];
    wait_for_replica(&ringway, shard.replicas[0].port).await;
    let client = connect(&ringway).await;
    client
        .batch_execute("INSERT INTO t VALUES (1, 0)")
        .await
        .unwrap();
    let update = client
        .prepare("UPDATE t SET v = $1 WHERE id = 1")
        .await
        .unwrap();
    let select = client
        .prepare("SELECT v FROM t WHERE id = 1")
        .await
        .unwrap();
    for v in 1..=100 {
        client.execute(&update, &[&v]).await.unwrap();
        let row = client.query_one(&select, &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), v, "prepared");
        client
            .batch_execute(&format!("UPDATE t SET v = -{v} WHERE id = 1"))
            .await
            .unwrap();
        let rows = client
            .simple_query("SELECT v FROM t WHERE id = 1")
            .await
            .unwrap();
        let found = rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        assert_eq!(found, Some(format!("-{v}").as_str()), "simple");
    }
    // Another session has no mark, and its reads need not wait.
    wait_for_replica(&ringway, shard.replicas[0].port).await;
    // This one returns to the replica once its write has been replayed there.
    let deadline = std::time::Instant::now() + LIMIT;
    while port(&client, "").await != shard.replicas[0].port {
        assert!(
            std::time::Instant::now() < deadline,
            "the mark never passes"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let row = client.query_one(&select, &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), -100, "on the replica");
}

#[tokio::test]
async fn what_may_write_goes_to_the_primary() {
    let (cluster, ringway) = start(0);
    let shard = &cluster.shards[0];
    let (primary, replica) = (shard.primary.port, shard.replicas[0].port);
    wait_for_replica(&ringway, replica).await;
    for (more, expected) in [
        ("", replica),
        (", now(), count(*) FROM t", replica),
        (", next()", primary),
        (", pg_advisory_xact_lock(1)", primary),
    ] {
        // A session of its own each: after a write reads stay on the primary for a while.
        let client = connect(&ringway).await;
        assert_eq!(port(&client, more).await, expected, "{more}");
    }
    let client = connect(&ringway).await;
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(
        port(&client, "").await,
        primary,
        "a transaction may write later"
    );
    client.batch_execute("COMMIT").await.unwrap();
}

/// A standby refuses to be told so.
#[tokio::test]
async fn sessions_whose_transactions_are_serializable_read_on_the_primary() {
    let (cluster, ringway) = start(0);
    let shard = &cluster.shards[0];
    let (primary, replica) = (shard.primary.port, shard.replicas[0].port);
    wait_for_replica(&ringway, replica).await;
    for (set, reset) in [
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "RESET ALL",
        ),
        (
            "SET default_transaction_isolation TO 'SERIALIZABLE'",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        ),
        (
            "SELECT set_config('default_transaction_isolation', 'serializable', false)",
            "RESET default_transaction_isolation",
        ),
    ] {
        let client = connect(&ringway).await;
        client.batch_execute(set).await.unwrap();
        for _ in 0..3 {
            assert_eq!(port(&client, "").await, primary, "{set}");
        }
        client.batch_execute(reset).await.unwrap();
        // set_config may have written, and left a mark.
        let deadline = std::time::Instant::now() + LIMIT;
        while port(&client, "").await != replica {
            let now = std::time::Instant::now();
            assert!(now < deadline, "{reset}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_session_that_only_reads_stays_on_a_replica_that_lags() {
    let (cluster, ringway) = start(200);
    let shard = &cluster.shards[0];
    wait_for_replica(&ringway, shard.replicas[0].port).await;
    let (client, writer) = (connect(&ringway).await, connect(&ringway).await);
    writer
        .batch_execute("INSERT INTO t VALUES (1, 0)")
        .await
        .unwrap();
    for v in 0..20 {
        let sql = format!("UPDATE t SET v = {v} WHERE id = 1");
        writer.batch_execute(&sql).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(port(&client, "").await, shard.replicas[0].port);
    }
}

#[tokio::test]
async fn where_the_primary_never_reads_no_replica_is_an_error() {
    let (mut cluster, ringway) = start_with(0, 20, ", primary_reads = \"never\"");
    let deadline = std::time::Instant::now() + LIMIT;
    // A new client each time: one whose replica is killed goes with it.
    let code = async || {
        let client = connect(&ringway).await;
        let answer = client.query_one("SELECT 1", &[]).await;
        answer
            .err()
            .map(|error| error.code().map(|code| code.code().to_owned()))
    };
    while code().await.is_some() {
        assert!(std::time::Instant::now() < deadline, "no replica serves");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.shards[0].replicas[0].kill9().unwrap();
    while code().await != Some(Some("57P03".to_owned())) {
        assert!(std::time::Instant::now() < deadline, "the primary serves");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let client = connect(&ringway).await;
    let forced = "/* ringway: primary */ SELECT 1";
    client.simple_query(forced).await.unwrap();
}

/// Where a transaction that begins with `begin` runs `statements`, and each of them has to.
async fn ports_in(client: &Client, begin: &str, statements: &[&str]) -> Vec<u16> {
    client.batch_execute(begin).await.unwrap();
    let mut ports = Vec::new();
    for more in statements {
        ports.push(port(client, more).await);
    }
    client.batch_execute("COMMIT").await.unwrap();
    ports
}

#[tokio::test]
async fn a_read_only_transaction_stays_on_one_replica() {
    let (cluster, ringway) = start(0);
    let shard = &cluster.shards[0];
    let (primary, replica) = (shard.primary.port, shard.replicas[0].port);
    wait_for_replica(&ringway, replica).await;
    let reads = &["", ", count(*) FROM t"];
    for begin in [
        "BEGIN READ ONLY",
        "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    ] {
        let client = connect(&ringway).await;
        let ports = ports_in(&client, begin, reads).await;
        assert_eq!(ports, [replica; 2], "{begin}");
    }
    for begin in [
        "BEGIN",
        "BEGIN READ WRITE",
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
    ] {
        let client = connect(&ringway).await;
        let ports = ports_in(&client, begin, reads).await;
        assert_eq!(ports, [primary; 2], "{begin}");
    }
    // What SET says before the first statement holds as well.
    for (set, expected) in [
        ("SET TRANSACTION READ ONLY", replica),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", primary),
        ("SET LOCAL statement_timeout = 10000", primary),
    ] {
        let client = connect(&ringway).await;
        client.batch_execute("BEGIN").await.unwrap();
        assert_eq!(ports_in(&client, set, reads).await, [expected; 2], "{set}");
    }
    for (set, expected) in [
        ("SET TRANSACTION READ WRITE", primary),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", primary),
        ("SET LOCAL statement_timeout = 10000", replica),
        ("SAVEPOINT s", replica),
    ] {
        let client = connect(&ringway).await;
        client.batch_execute("BEGIN READ ONLY").await.unwrap();
        assert_eq!(ports_in(&client, set, reads).await, [expected; 2], "{set}");
    }
    let client = connect(&ringway).await;
    client
        .batch_execute("SET default_transaction_read_only = on")
        .await
        .unwrap();
    // SET may have written, and left a mark.
    let deadline = std::time::Instant::now() + LIMIT;
    while ports_in(&client, "BEGIN", reads).await != [replica; 2] {
        assert!(std::time::Instant::now() < deadline, "by default");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        ports_in(&client, "BEGIN READ WRITE", reads).await[0],
        primary
    );
    // Its own write counts here too.
    let client = connect(&ringway).await;
    shard.replicas[0]
        .exec("SELECT pg_wal_replay_pause()")
        .unwrap();
    client
        .batch_execute("INSERT INTO t VALUES (7, 7)")
        .await
        .unwrap();
    let ports = ports_in(&client, "BEGIN READ ONLY", reads).await;
    assert_eq!(ports, [primary; 2], "the replica lacks the write");
    shard.replicas[0]
        .exec("SELECT pg_wal_replay_resume()")
        .unwrap();
}

#[tokio::test]
async fn a_read_only_transaction_does_all_it_could_on_the_primary() {
    let (cluster, ringway) = start(0);
    let shard = &cluster.shards[0];
    let (primary, replica) = (shard.primary.port, shard.replicas[0].port);
    wait_for_replica(&ringway, replica).await;
    // What may do more than read goes on at the primary, and all after it.
    let client = connect(&ringway).await;
    let ports = ports_in(&client, "BEGIN READ ONLY", &["", ", next()", ""]).await;
    assert_eq!(ports, [replica, primary, primary]);
    let client = connect(&ringway).await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    client.batch_execute(begin).await.unwrap();
    assert_eq!(port(&client, "").await, replica);
    let error = client.query_one("SELECT next()", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "0A000", "another snapshot");
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(
        ports_in(&client, begin, &[", next()", ""]).await,
        [primary; 2],
        "it came first"
    );
    // A write fails as it does on one server, and the transaction with it.
    let client = connect(&ringway).await;
    client.batch_execute("BEGIN READ ONLY").await.unwrap();
    assert_eq!(port(&client, "").await, replica);
    for code in ["25006", "25P02"] {
        let error = client.batch_execute("INSERT INTO t VALUES (1, 1)").await;
        assert_eq!(error.unwrap_err().code().unwrap().code(), code);
    }
    client.batch_execute("ROLLBACK").await.unwrap();
    let client = connect(&ringway).await;
    // Cursors, savepoints and chains belong to the transaction, wherever it is.
    client.batch_execute("BEGIN READ ONLY").await.unwrap();
    client
        .batch_execute("DECLARE c CURSOR FOR SELECT inet_server_port() FROM generate_series(1, 3)")
        .await
        .unwrap();
    for fetch in [
        "FETCH 1 FROM c",
        "SAVEPOINT s",
        "FETCH 1 FROM c",
        "ROLLBACK TO s",
    ] {
        client.batch_execute(fetch).await.unwrap();
    }
    let row = client.query_one("FETCH 1 FROM c", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), i32::from(replica));
    client.batch_execute("COMMIT AND CHAIN").await.unwrap();
    let error = client.batch_execute("INSERT INTO t VALUES (1, 1)").await;
    assert_eq!(error.unwrap_err().code().unwrap().code(), "25006");
    client.batch_execute("ROLLBACK").await.unwrap();
    client
        .batch_execute("INSERT INTO t VALUES (1, 1)")
        .await
        .unwrap();
}

/// A row of SHOW ROUTING.
fn count(ringway: &Ringway, role: &str, reason: &str) -> u64 {
    let url = format!("postgresql://ringway@127.0.0.1:{}/ringway", ringway.port());
    let shown = support::psql(&url, "SHOW ROUTING");
    let mut rows = shown.lines().map(|row| row.split('|').collect::<Vec<_>>());
    let row = rows.find(|row| (row[1], row[2]) == (role, reason));
    row.expect("a row of that reason")[3].parse().unwrap()
}

#[tokio::test]
async fn reads_that_stay_with_what_a_session_keeps_are_counted() {
    let (cluster, ringway) = start(0);
    wait_for_replica(&ringway, cluster.shards[0].replicas[0].port).await;
    let primary = cluster.shards[0].primary.port;
    for (keep, let_go) in [
        ("CREATE TEMPORARY TABLE own (id int)", "DISCARD ALL"),
        ("SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"),
        (
            "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
            "CLOSE c",
        ),
    ] {
        let client = connect(&ringway).await;
        client.batch_execute(keep).await.unwrap();
        let before = count(&ringway, "primary", "pinned");
        for n in 1..=3 {
            assert_eq!(port(&client, "").await, primary, "{keep}");
            // To prepare a statement is to read, too.
            let pinned = count(&ringway, "primary", "pinned") - before;
            assert_eq!(pinned, 2 * n, "{keep}");
        }
        // In a transaction once, as elsewhere.
        client.batch_execute("BEGIN").await.unwrap();
        for _ in 0..3 {
            client.simple_query("SELECT 1").await.unwrap();
        }
        client.batch_execute("COMMIT").await.unwrap();
        client.batch_execute(let_go).await.unwrap();
        client.simple_query("SELECT 1").await.unwrap();
        let pinned = count(&ringway, "primary", "pinned") - before;
        assert_eq!(pinned, 7, "{keep}");
    }
}

#[tokio::test]
async fn transactions_are_counted_by_where_they_read() {
    let (_cluster, ringway) = start(0);
    let client = connect(&ringway).await;
    for begin in ["BEGIN", "BEGIN READ ONLY", "START TRANSACTION READ WRITE"] {
        client.batch_execute(begin).await.unwrap();
        client.simple_query("SELECT 1").await.unwrap();
        client.batch_execute("COMMIT").await.unwrap();
    }
    let kinds = ["primary", "read_only", "until_write", "moved"];
    let counts = kinds.map(|kind| count(&ringway, "transaction", kind));
    assert_eq!(counts, [2, 1, 0, 0]);
}
