//! Keys that are none, over both protocols.

use crate::support::Ringway;
use crate::support::wire::Wire;

fn code(wire: &mut Wire) -> String {
    let frames = wire.read_to_ready();
    let error = frames.iter().find(|frame| frame.tag == b'E');
    error.map(|frame| frame.code()).unwrap_or_default()
}

#[tokio::test]
async fn a_key_that_is_null_or_of_another_type_is_refused_as_postgresql_does() {
    let ringway = Ringway::of_shop().await;
    let (mut wire, _) = Wire::login(ringway.port(), "raw", "shop");
    for (sql, expected) in [
        (
            "INSERT INTO customers (id, name) VALUES (NULL, 'x')",
            "23502",
        ),
        (
            "INSERT INTO customers (id, name) VALUES ('abc', 'x')",
            "22P02",
        ),
        ("SELECT * FROM customers WHERE id = 'abc'", "22P02"),
        ("SELECT * FROM customers WHERE id = NULL", ""),
    ] {
        wire.query(sql);
        assert_eq!(code(&mut wire), expected, "{sql}");
    }
    let client = ringway.client().await;
    let select = client
        .prepare("SELECT id FROM customers WHERE id = $1")
        .await
        .unwrap();
    assert!(
        client
            .query(&select, &[&None::<i64>])
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(client.query(&select, &[&1i64]).await.unwrap().len(), 1);
}
