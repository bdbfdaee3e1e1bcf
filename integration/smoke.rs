//! The shortest way through: psql, a driver and bare frames reach a server and come back.

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
