//! Queries over rows that were gathered from several shards: in transactions, on replicas, by
//! portals, and beyond what may be gathered.

use std::time::{Duration, Instant};

use ringway::demo::shop;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::admin::{free_port, get};
use crate::support::{self, Ringway};

/// Not on the key, so no shard can answer it from its own rows.
const JOIN: &str = "customers a JOIN orders b ON a.id = b.id";

#[tokio::test]
async fn a_statement_is_described_as_one_server_describes_it() {
    let ringway = Ringway::of_shop().await;
    let plain = support::plain_shop().await;
    let plain = support::client(&shop::url(plain.shards[0].primary.port, shop::DATABASE)).await;
    let client = ringway.client().await;
    let sql = format!(
        "SELECT a.*, b.total AS sum, rank() OVER (ORDER BY b.total) FROM {JOIN} WHERE a.country <> $1"
    );
    let told = |statement: &tokio_postgres::Statement| -> Vec<(String, Type, i32)> {
        let columns = statement.columns().iter();
        columns
            .map(|c| (c.name().to_owned(), c.type_().clone(), c.type_modifier()))
            .collect()
    };
    let ours = client.prepare(&sql).await.unwrap();
    let theirs = plain.prepare(&sql).await.unwrap();
    assert_eq!(told(&ours), told(&theirs));
    assert_eq!(ours.params(), theirs.params());
    let rows = client.query(&ours, &[&"nowhere"]).await.unwrap().len();
    assert!(rows > 0);
    assert_eq!(
        rows,
        plain.query(&theirs, &[&"nowhere"]).await.unwrap().len()
    );
}

#[tokio::test]
async fn replicas_gather_and_finish_in_a_read_only_transaction() {
    let cluster = support::shop().await;
    // A replica is not late because a busy machine asks it late.
    let ringway = Ringway::start(|port| {
        let steady = "split = true, poll_interval_ms = 1000, max_lag_ms = 60000";
        shop::ringway_toml(cluster, port).replace("split = true", steady)
    });
    let shards = &cluster.shards;
    let deadline = Instant::now() + Duration::from_secs(20);
    let client = loop {
        // What a session has read on a primary, a replica would have to have.
        let client = ringway.client().await;
        let mut on_replicas = 0;
        for (at, shard) in shards.iter().enumerate() {
            let sql = format!("/* ringway: shard=s{} */ SELECT inet_server_port()", at + 1);
            let row = client.query_one(&sql, &[]).await.unwrap();
            let port: i32 = row.get(0);
            on_replicas += usize::from(port == i32::from(shard.replicas[0].port));
        }
        if on_replicas == shards.len() {
            break client;
        }
        assert!(Instant::now() < deadline, "no reads at all replicas");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    client.batch_execute("BEGIN READ ONLY").await.unwrap();
    let sql = format!("SELECT min(inet_server_port()), count(*) FROM {JOIN}");
    let row = client.query_one(&sql, &[]).await.unwrap();
    let port = row.get::<_, i32>(0) as u16;
    assert!(shards.iter().any(|shard| shard.replicas[0].port == port));
    assert!(row.get::<_, i64>(1) > 0);
    client.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn a_transaction_sees_its_own_rows_and_survives_a_refusal_as_ever() {
    let ringway = Ringway::of_shop().await;
    let client = ringway.client().await;
    let count = format!("SELECT count(*) FROM {JOIN} WHERE a.name = 'gathered'");
    for level in ["READ COMMITTED", "REPEATABLE READ"] {
        let begin = format!("BEGIN ISOLATION LEVEL {level}");
        client.batch_execute(&begin).await.unwrap();
        let update = "UPDATE customers SET name = 'gathered' WHERE id = 1";
        client.batch_execute(update).await.unwrap();
        let row = client.query_one(&count, &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 1, "{level}");
        let broken = format!("SELECT 1 / (a.id - a.id) FROM {JOIN}");
        let error = client.query(&broken, &[]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO));
        let error = client.query("SELECT 1", &[]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
        client.batch_execute("ROLLBACK").await.unwrap();
        let row = client.query_one(&count, &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 0);
    }
}

/// Rows that are at hand before any was sent on, and are more than fits into the client's buffer.
#[tokio::test]
async fn answers_larger_than_buffers_arrive_whole() {
    let ringway = Ringway::of_shop().await;
    let client = ringway.client().await;
    let count = client.query_one("SELECT count(*) FROM orders", &[]).await;
    let count: i64 = count.unwrap().get(0);
    for sql in [
        "SELECT DISTINCT id, customer_id, repeat(status, 300) FROM orders",
        "SELECT id, repeat(status, 300), row_number() OVER (ORDER BY id) FROM orders",
    ] {
        let rows = client.query(sql, &[]).await.unwrap();
        assert_eq!(rows.len() as i64, count, "{sql}");
    }
}

/// Most rows are still with the servers when the portal pauses.
#[tokio::test]
async fn a_portal_gives_its_rows_in_parts() {
    let ringway = Ringway::of_shop().await;
    let mut client = ringway.client().await;
    for sql in [
        &format!("SELECT b.id, repeat(b.status, 900) FROM {JOIN} ORDER BY b.id, b.customer_id"),
        "SELECT id, repeat(status, 900) FROM orders ORDER BY id, customer_id",
    ] {
        let id = |row: &tokio_postgres::Row| row.get::<_, i64>(0);
        let all = client.query(sql, &[]).await.unwrap();
        let wanted: Vec<i64> = all.iter().map(id).collect();
        assert!(wanted.len() > 40, "{} rows", wanted.len());
        let transaction = client.transaction().await.unwrap();
        let portal = transaction.bind(sql, &[]).await.unwrap();
        let mut ids: Vec<i64> = Vec::new();
        loop {
            let rows = transaction.query_portal(&portal, 7).await.unwrap();
            assert!(rows.len() <= 7);
            ids.extend(rows.iter().map(id));
            if rows.len() < 7 {
                break;
            }
        }
        assert_eq!(ids, wanted, "{sql}");
        transaction.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn more_rows_than_may_be_held_are_refused() {
    let cluster = support::shop().await;
    let http = free_port();
    let ringway = Ringway::start(|port| {
        let toml = shop::ringway_toml(cluster, port);
        let general =
            format!("[general]\nmerge_memory_mib = 1\nhttp_listen = \"127.0.0.1:{http}\"\n");
        toml.replacen("[general]\n", &general, 1)
    });
    let client = ringway.client().await;
    let mentions: Vec<String> = (0..40).map(|n| format!("order_items t{n}")).collect();
    let sql = format!("SELECT t0.*, t1.* FROM {} LIMIT 1", mentions.join(", "));
    for _ in 0..2 {
        let error = client.query(&sql, &[]).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code(), &SqlState::OUT_OF_MEMORY, "{error:?}");
        assert!(error.hint().unwrap().contains("merge_memory_mib"));
        let row = client
            .query_one("SELECT count(*) FROM customers", &[])
            .await;
        assert!(row.unwrap().get::<_, i64>(0) > 0);
    }
    // Rows that are locked are held until all shards have given theirs.
    let held = |length: u32| {
        format!("SELECT id, repeat('x', {length}) FROM customers WHERE id <= 100 FOR UPDATE")
    };
    let locked = client.query(&held(100), &[]).await.unwrap().len();
    assert!(locked > 10, "{locked}");
    let long = held((1 << 20) / locked as u32);
    for begin in ["", "BEGIN"] {
        client.batch_execute(begin).await.unwrap();
        let simple = client.simple_query(&long).await.unwrap_err();
        client.batch_execute("ROLLBACK").await.unwrap();
        client.batch_execute(begin).await.unwrap();
        let extended = client.query(&long, &[]).await.unwrap_err();
        client.batch_execute("ROLLBACK").await.unwrap();
        for error in [simple, extended] {
            let error = error.as_db_error().unwrap();
            assert_eq!(error.code(), &SqlState::OUT_OF_MEMORY, "{error:?}");
            assert!(error.hint().unwrap().contains("merge_memory_mib"));
        }
    }
    let rows = client.query(&held(100), &[]).await.unwrap();
    assert_eq!(rows.len(), locked);
    let (_, text) = get(http, "/metrics");
    let sample = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(sample("ringway_merge_memory_peak_bytes{") > f64::from(1 << 20));
    assert_eq!(sample("ringway_merge_memory_bytes{"), 0.0);
}
