//! The slow-query log: who, what, where and how long; values only where they are asked for.

use std::time::{Duration, Instant};

use ringway::demo::shop;
use serde_json::Value;

use crate::admin::show;
use crate::support::wire::{Wire, bind, execute, parse};
use crate::support::{Ringway, client, shop, wait_until};

async fn start(general: &str, database: &str) -> Ringway {
    let cluster = shop().await;
    Ringway::start(|port| {
        let general = format!("[general]\nlog_format = \"json\"\n{general}");
        let toml = shop::ringway_toml(cluster, port).replace("[general]", &general);
        toml.replace("[databases.shop]", &format!("[databases.shop]\n{database}"))
            + "\n[users.raw]\nauth = \"trust\"\n"
    })
}

/// The log's slow statements with `text` in them, once there are `count`.
fn slow(ringway: &Ringway, text: &str, count: usize) -> Vec<Value> {
    let lines = || {
        let log = ringway.proxy.log();
        let lines = log.lines().map(serde_json::from_str::<Value>);
        let lines = lines.filter_map(Result::ok);
        let slow = lines.filter(|line| line["target"] == "ringway::slow");
        let slow = slow.filter(|line| line["statement"].as_str().unwrap().contains(text));
        slow.collect::<Vec<_>>()
    };
    let limit = Duration::from_secs(20);
    wait_until(limit, "slow statements", || lines().len() >= count);
    lines()
}

#[tokio::test]
async fn slow_statements_are_logged_by_shape() {
    let ringway = start("", "log_min_duration_ms = 500").await;
    let (mut wire, _) = Wire::login(ringway.port(), "raw", "shop");
    let slowly =
        |rest: &str| format!("SELECT name, pg_sleep(0.6), 'hunter2' FROM customers {rest}");
    let start = Instant::now();
    wire.ask("SELECT 'quick' AS quick");
    let is_quick = start.elapsed() < Duration::from_millis(500);
    wire.ask(&slowly("WHERE id = 7"));
    let fails = "SELECT pg_sleep(0.6), 1 / (id - id) FROM customers WHERE id = $1";
    wire.ask_pipeline(&[parse("", fails), bind("", "", &["7"]), execute("", 0)]);
    let all =
        "SELECT max(id), max(pg_sleep(0.6)::text) FROM (SELECT max(id) AS id FROM customers) AS t";
    wire.ask(all);
    let lines = slow(&ringway, "pg_sleep", 3);
    assert!(!ringway.proxy.log().contains("hunter2"));
    assert!(!is_quick || slow(&ringway, "quick", 0).is_empty());
    let line = &lines[0];
    for (name, expected) in [
        ("database", "shop"),
        ("user", "raw"),
        ("route", "direct"),
        (
            "statement",
            "SELECT name, pg_sleep(?), ? FROM customers WHERE id = ?",
        ),
        ("level", "INFO"),
    ] {
        assert_eq!(line[name], expected, "{line}");
    }
    let number = |name: &str| line[name].as_f64().unwrap();
    assert_eq!(number("rows"), 1.0);
    assert!(number("duration_ms") >= 600.0, "{line}");
    let parts = number("queue_ms") + number("server_ms");
    assert!((parts - number("duration_ms")).abs() < 0.01, "{line}");
    assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(["s1", "s2"].contains(&line["shards"].as_str().unwrap()));
    assert_eq!(line["digest"].as_str().unwrap().len(), 16);
    for absent in ["sqlstate", "sql", "parameters"] {
        assert!(line.get(absent).is_none(), "{line}");
    }
    assert_eq!(lines[1]["sqlstate"], "22012", "{}", lines[1]);
}

#[tokio::test]
async fn values_are_logged_where_they_are_asked_for() {
    let general = "log_min_duration_ms = 0\nlog_values = true";
    let ringway = start(general, "").await;
    let (mut wire, _) = Wire::login(ringway.port(), "raw", "shop");
    wire.ask("SELECT 'a value'");
    let by_id = "SELECT name FROM customers WHERE id = $1";
    wire.ask_pipeline(&[parse("", by_id), bind("", "", &["7"]), execute("", 0)]);
    let lines = slow(&ringway, "", 2);
    assert_eq!(lines[0]["sql"], "SELECT 'a value'");
    assert_eq!(lines[1]["sql"], by_id);
    assert_eq!(lines[1]["parameters"], "$1 = '7'");
}

/// Also where no digests are kept; and the wait for a connection is told apart.
#[tokio::test]
async fn the_queue_is_told_apart() {
    let general = "log_min_duration_ms = 500\nmax_digests = 0";
    let ringway = start(general, "pool_size = 1\ncheckout_timeout_ms = 60000").await;
    let (mut one, _) = Wire::login(ringway.port(), "raw", "shop");
    let (mut other, _) = Wire::login(ringway.port(), "raw", "shop");
    let admin = client(&shop::url(ringway.port(), "ringway")).await;
    one.ask("BEGIN");
    one.ask("SELECT name FROM customers WHERE id = 7 FOR UPDATE");
    let start = Instant::now();
    other.query("UPDATE customers SET name = name WHERE id = 7");
    let waits = async {
        let is_one = |row: &tokio_postgres::SimpleQueryRow| row.get("cl_waiting") == Some("1");
        while !show(&admin, "POOLS").await.iter().any(is_one) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waits = tokio::time::timeout(Duration::from_secs(20), waits).await;
    waits.expect("a queue");
    std::thread::sleep(Duration::from_millis(700));
    one.ask("COMMIT");
    other.read_to_ready();
    let lines = slow(&ringway, "UPDATE customers", 1);
    // It ends with its line, which may be after its answer was read.
    let whole = start.elapsed();
    let line = &lines[0];
    let [queue, server, total] =
        ["queue_ms", "server_ms", "duration_ms"].map(|name| line[name].as_f64().unwrap());
    assert!(queue >= 700.0, "{line}");
    // None of the wait is the server's.
    assert!((queue + server - total).abs() < 0.01, "{line}");
    assert!(total <= whole.as_secs_f64() * 1000.0, "{whole:?}: {line}");
    assert_eq!(
        line["statement"],
        "UPDATE customers SET name = name WHERE id = ?"
    );
    assert!(line.get("sql").is_none(), "{line}");
}
