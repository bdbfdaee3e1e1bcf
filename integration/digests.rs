//! What Ringway tells of the statements that it has seen: digests, hot keys and slots, in both protocols.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringway::demo::shop;
use tokio_postgres::SimpleQueryMessage;

use crate::admin::{check_with_promtool, free_port, get};
use crate::support::wire::{Wire, bind, execute, parse, unnamed};
use crate::support::{Ringway, client};

type Row = BTreeMap<String, String>;

/// A table of the admin database.
async fn show(ringway: &Ringway, sql: &str) -> Vec<Row> {
    let admin = client(&shop::url(ringway.port(), "ringway")).await;
    let messages = admin.simple_query(sql).await.unwrap();
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let named = |row: tokio_postgres::SimpleQueryRow| {
        let columns = row.columns().iter().enumerate();
        let cell = |(at, column): (usize, &tokio_postgres::SimpleColumn)| {
            let value = row.get(at).unwrap_or("NULL");
            (column.name().to_owned(), value.to_owned())
        };
        columns.map(cell).collect()
    };
    rows.map(named).collect()
}

/// The digest of a statement: the named columns, parted by bars.
async fn digest(ringway: &Ringway, statement: &str, columns: &[&str]) -> String {
    let rows = show(ringway, "SHOW DIGESTS").await;
    let found = rows.iter().find(|row| row["statement"] == statement);
    let row = found.unwrap_or_else(|| panic!("no {statement} among {rows:#?}"));
    let cells: Vec<_> = columns.iter().map(|name| row[*name].as_str()).collect();
    cells.join("|")
}

#[tokio::test]
async fn statements_are_counted_by_shape_in_both_protocols() {
    let ringway = Ringway::of_shop().await;
    let app = ringway.client().await;
    for id in [1, 2, 3, 3] {
        let sql = format!("SELECT name FROM customers WHERE id = {id}");
        app.simple_query(&sql).await.unwrap();
    }
    let by_id = app
        .prepare("SELECT name FROM customers WHERE id = $1")
        .await
        .unwrap();
    for id in [1_i64, 2, 1_000_000] {
        app.query(&by_id, &[&id]).await.unwrap();
    }
    app.simple_query("SELECT count(*) FROM customers")
        .await
        .unwrap();
    app.query("SELECT count(*) FROM customers", &[])
        .await
        .unwrap();
    app.simple_query("SELECT id FROM customers ORDER BY id LIMIT 5")
        .await
        .unwrap();
    app.simple_query("BEGIN").await.unwrap();
    app.simple_query("UPDATE customers SET name = name WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8)")
        .await
        .unwrap();
    app.simple_query("ROLLBACK").await.unwrap();

    let columns = ["calls", "errors", "rows", "routes"];
    for (statement, expected) in [
        ("SELECT name FROM customers WHERE id = ?", "4|0|4|direct"),
        ("SELECT name FROM customers WHERE id = $1", "3|0|2|direct"),
        ("SELECT count(*) FROM customers", "2|0|2|merge"),
        (
            "SELECT id FROM customers ORDER BY id LIMIT ?",
            "1|0|5|merge",
        ),
        (
            "UPDATE customers SET name = name WHERE id IN (?, ...)",
            "1|0|8|broadcast",
        ),
        ("BEGIN", "1|0|0|local"),
    ] {
        assert_eq!(digest(&ringway, statement, &columns).await, expected);
    }
    let merged = digest(&ringway, "SELECT count(*) FROM customers", &["shards"]).await;
    assert_eq!(merged.split(", ").count(), 2, "{merged}");
    let rows = show(&ringway, "SHOW DIGESTS").await;
    let number = |row: &Row, name: &str| row[name].parse::<u64>().unwrap();
    for row in &rows {
        let [p50, p95, p99] = ["p50_us", "p95_us", "p99_us"].map(|name| number(row, name));
        assert!(p50 <= p95 && p95 <= p99 && p50 > 0, "{row:?}");
        let mean = number(row, "total_us") / number(row, "calls");
        assert_eq!(number(row, "mean_us"), mean, "{row:?}");
    }

    show(&ringway, "RESET DIGESTS").await;
    assert!(show(&ringway, "SHOW DIGESTS").await.is_empty());
    app.simple_query("SELECT name FROM customers WHERE id = 9")
        .await
        .unwrap();
    let again = digest(
        &ringway,
        "SELECT name FROM customers WHERE id = ?",
        &columns,
    );
    assert_eq!(again.await, "1|0|1|direct");
}

#[tokio::test]
async fn errors_count_for_the_statement_that_failed() {
    let ringway = Ringway::of_shop().await;
    let app = ringway.client().await;
    let wrong = "SELECT 1 / (id - id) FROM customers WHERE id = ";
    app.simple_query(&format!("{wrong}1")).await.unwrap_err();
    // Refused by Ringway; refused by the server when it parses; cancelled on one of several shards.
    let refused = "UPDATE customers SET id = id + 1, name = 'x' RETURNING random()";
    app.simple_query(refused).await.unwrap_err();
    app.query("SELECT nothing FROM customers WHERE id = $1", &[&1_i64])
        .await
        .unwrap_err();
    app.simple_query("SELECT sum(1 / (id - id)) FROM customers")
        .await
        .unwrap_err();
    let columns = ["calls", "errors", "rows"];
    for (statement, expected) in [
        ("SELECT ? / (id - id) FROM customers WHERE id = ?", "1|1|0"),
        (
            "UPDATE customers SET id = id + ?, name = ? RETURNING random()",
            "1|1|0",
        ),
        ("SELECT nothing FROM customers WHERE id = $1", "1|1|0"),
        ("SELECT sum(? / (id - id)) FROM customers", "1|1|0"),
    ] {
        assert_eq!(digest(&ringway, statement, &columns).await, expected);
    }
}

/// Of a pipeline each Execute counts its own rows; after an error nothing has run.
#[tokio::test]
async fn a_pipelines_statements_are_told_apart() {
    let ringway = Ringway::of_shop().await;
    let (mut wire, _) = Wire::login(ringway.port(), "raw", "shop");
    let series = |name: &str, count: u32| {
        let sql = format!("SELECT {name} FROM generate_series(1, {count}) AS {name}");
        unnamed(&sql)
    };
    wire.ask_pipeline(&[series("a", 3), series("b", 5), series("a", 2)]);
    let division = unnamed("SELECT 1 / 0");
    wire.ask_pipeline(&[series("a", 1), division, series("b", 100)]);
    // In portions.
    let portions = [
        parse("p", "SELECT c FROM generate_series(1, 10) AS c"),
        bind("c", "p", &[]),
        execute("c", 4),
        execute("c", 4),
        execute("c", 4),
    ];
    wire.ask_pipeline(&portions);
    // Rows of several shards, in portions too.
    let portions = [
        parse("q", "SELECT id FROM customers ORDER BY id LIMIT 10"),
        bind("d", "q", &[]),
        execute("d", 8),
        execute("d", 8),
    ];
    wire.ask_pipeline(&portions);
    let columns = ["calls", "errors", "rows"];
    for (statement, expected) in [
        ("SELECT a FROM generate_series(?, ...) AS a", "3|0|6"),
        ("SELECT b FROM generate_series(?, ...) AS b", "1|0|5"),
        ("SELECT ? / ?", "1|1|0"),
        ("SELECT c FROM generate_series(?, ...) AS c", "3|0|10"),
        ("SELECT id FROM customers ORDER BY id LIMIT ?", "2|0|10"),
    ] {
        assert_eq!(digest(&ringway, statement, &columns).await, expected);
    }
}

#[tokio::test]
async fn hot_keys_are_told_and_other_values_are_not() {
    let ringway = Ringway::of_shop().await;
    let app = ringway.client().await;
    for id in 0..40 {
        let id = if id % 2 == 0 { 7 } else { 100 + id };
        let sql = format!("SELECT name FROM customers WHERE id = {id} AND name <> 'hunter2'");
        app.simple_query(&sql).await.unwrap();
    }
    app.simple_query("SET application_name = 'hunter2'")
        .await
        .unwrap();
    app.simple_query("SELECT 'hunter2' FROM customers WHERE id = 7")
        .await
        .unwrap();
    let statement = "SELECT name FROM customers WHERE id = ? AND name <> ?";
    let keys = digest(&ringway, statement, &["keys"]).await;
    assert!(keys.starts_with("7 (50 %)"), "{keys}");
    let hot = show(&ringway, "SHOW HOT_KEYS").await;
    assert_eq!(
        (hot[0]["key"].as_str(), hot[0]["at_least"].as_str()),
        ("7", "21")
    );
    let slots = show(&ringway, "SHOW HOT_SLOTS").await;
    assert_eq!(slots[0]["slot"], hot[0]["slot"]);
    assert_eq!(slots[0]["shard"], hot[0]["shard"]);
    assert_eq!(slots[0]["statements"], "21");
    // Each once, over several shards too, in either protocol.
    let several = "SELECT name FROM customers WHERE id IN (7, 501, 502, 503, 504, 505)";
    app.simple_query(several).await.unwrap();
    app.query(several, &[]).await.unwrap();
    let hot = show(&ringway, "SHOW HOT_KEYS").await;
    let of = |key: &str| hot.iter().find(|row| row["key"] == key).unwrap();
    assert_eq!(
        (
            of("7")["statements"].as_str(),
            of("501")["statements"].as_str()
        ),
        ("23", "2")
    );
    for table in ["DIGESTS", "HOT_KEYS", "HOT_SLOTS"] {
        let told = show(&ringway, &format!("SHOW {table}")).await;
        assert!(!format!("{told:?}").contains("hunter2"), "{told:?}");
    }
}

/// Of many shapes those in use are kept.
#[tokio::test]
async fn shapes_are_bounded_and_may_be_none() {
    let cluster = crate::support::shop().await;
    let with = |setting: &str| {
        Ringway::start(|port| {
            let toml = shop::ringway_toml(cluster, port);
            toml.replace("[general]", &format!("[general]\n{setting}"))
        })
    };
    let ringway = with("max_digests = 8");
    let app = ringway.client().await;
    for n in 0..50 {
        app.simple_query("SELECT hot FROM (VALUES (1)) AS t (hot)")
            .await
            .unwrap();
        app.simple_query(&format!("SELECT 1 AS a{n}"))
            .await
            .unwrap();
    }
    let rows = show(&ringway, "SHOW DIGESTS").await;
    assert!(rows.len() <= 8, "{}", rows.len());
    let hot = "SELECT hot FROM (VALUES (?)) AS t (hot)";
    assert_eq!(digest(&ringway, hot, &["calls"]).await, "50");

    let ringway = with("max_digests = 0");
    let app = ringway.client().await;
    app.query("SELECT name FROM customers WHERE id = $1", &[&1_i64])
        .await
        .unwrap();
    for table in ["DIGESTS", "HOT_KEYS", "HOT_SLOTS"] {
        assert!(show(&ringway, &format!("SHOW {table}")).await.is_empty());
    }
}

/// The sum of the samples whose name and labels hold all of `words`.
fn sample(text: &str, words: &[&str]) -> f64 {
    let is_it =
        |line: &&str| !line.starts_with('#') && words.iter().all(|word| line.contains(word));
    let values = text.lines().filter(is_it).map(|line| {
        let value = line.rsplit(' ').next().unwrap();
        value.parse::<f64>().unwrap()
    });
    values.sum()
}

#[tokio::test]
async fn latencies_slots_and_memory_are_told_by_metrics() {
    let cluster = crate::support::shop().await;
    let http = free_port();
    let ringway = Ringway::start(|port| {
        let general = format!("[general]\nhttp_listen = \"127.0.0.1:{http}\"");
        let toml = shop::ringway_toml(cluster, port).replace("[general]", &general);
        toml.replace("[databases.shop]", "[databases.shop]\npool_size = 1")
    });
    let (one, other) = (ringway.client().await, ringway.client().await);
    let read = "SELECT name FROM customers WHERE id = 7";
    one.simple_query(read).await.unwrap();
    one.simple_query("SELECT * FROM customers ORDER BY name")
        .await
        .unwrap();
    one.batch_execute("BEGIN; ").await.unwrap();
    one.simple_query("UPDATE customers SET name = name WHERE id = 7")
        .await
        .unwrap();
    // It waits for the only connection.
    let write = other.simple_query("UPDATE customers SET name = name WHERE id = 7");
    let waits = async {
        let deadline = Instant::now() + Duration::from_secs(20);
        while show(&ringway, "SHOW POOLS")
            .await
            .iter()
            .all(|pool| pool["cl_waiting"] != "1")
        {
            assert!(Instant::now() < deadline, "nobody waits");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        one.simple_query("COMMIT").await.unwrap();
    };
    let (write, ()) = tokio::join!(write, waits);
    write.unwrap();

    let (_, text) = get(http, "/metrics");
    check_with_promtool(&text);
    let of = |name: &str, words: &[&str]| sample(&text, &[&[name], words].concat());
    let client = |words: &[&str]| of("ringway_shard_client_seconds_count{", words);
    let replica = "role=\"replica\"";
    let primary = "role=\"primary\"";
    assert!(client(&[]) >= 6.0, "{text}");
    for name in ["queue", "server"] {
        let count = of(&format!("ringway_shard_{name}_seconds_count{{"), &[]);
        assert_eq!(count, client(&[]), "{text}");
    }
    assert!(client(&[primary]) >= 3.0 && client(&[replica]) + client(&[primary]) == client(&[]));
    let queued = of("ringway_shard_queue_seconds_sum{", &[primary]);
    assert!((0.04..10.0).contains(&queued), "{queued}\n{text}");
    let server = of("ringway_shard_server_seconds_sum{", &[]);
    let all = of("ringway_shard_client_seconds_sum{", &[]);
    let queued = of("ringway_shard_queue_seconds_sum{", &[]);
    assert!((all - server - queued).abs() < 0.001, "{text}");
    let hot = show(&ringway, "SHOW HOT_SLOTS").await;
    let slot = format!("slot=\"{}\"", hot[0]["slot"]);
    assert_eq!(of("ringway_hot_slot_statements_total{", &[&slot]), 3.0);
    assert!(of("ringway_merge_memory_peak_bytes{", &[]) > 0.0);
    assert_eq!(of("ringway_merge_memory_bytes{", &[]), 0.0);
    assert_eq!(
        of("ringway_merge_memory_limit_bytes ", &[]),
        f64::from(64 << 20)
    );
    assert!(of("ringway_server_connection_limit{", &[]) >= 2.0);
    assert_eq!(of("ringway_client_limit ", &[]), 10_000.0);
    assert!(of("ringway_digests{", &[]) >= 3.0);
}
