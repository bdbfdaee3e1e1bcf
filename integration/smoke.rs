//! The shortest way through: psql, a driver and bare frames reach a server and come back.

use tokio_postgres::SimpleQueryMessage;

use crate::support::wire::Wire;
use crate::support::{Ringway, psql};

#[tokio::test]
async fn psql_and_a_driver_come_through() {
    let ringway = Ringway::of_shop().await;
    assert_eq!(psql(&ringway.url(), "SELECT 1"), "1");
    let client = ringway.client().await;
    let row = client
        .query_one("SELECT $1::int + 1", &[&41])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 42);
}

#[tokio::test]
async fn bare_frames_come_through() {
    let ringway = Ringway::of_shop().await;
    let (mut wire, _) = Wire::login(ringway.port(), "raw", "shop");
    wire.query("SELECT 'x' AS a");
    let tags: Vec<char> = wire
        .read_to_ready()
        .iter()
        .map(|f| char::from(f.tag))
        .collect();
    assert_eq!(tags, ['T', 'D', 'C', 'Z']);
}

/// A key can be routed only when the tables are known: until then a statement waits, since any
/// shard but the right one would answer "no rows".
#[tokio::test]
async fn the_first_statement_knows_the_tables() {
    let ringway = Ringway::of_shop().await;
    let client = ringway.client().await;
    for id in 1..=20 {
        let sql = format!("SELECT name FROM customers WHERE id = {id}");
        let rows = client.simple_query(&sql).await.unwrap();
        let found = |m: &SimpleQueryMessage| matches!(m, SimpleQueryMessage::Row(_));
        assert_eq!(rows.iter().filter(|m| found(m)).count(), 1, "customer {id}");
    }
}
