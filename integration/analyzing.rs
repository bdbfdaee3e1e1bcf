//! `ringway analyze` and `ringway advise` on the logs and the statistics of a real server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringway::demo::captive::{CaptiveCluster, Spec};
use ringway::demo::shop;
use tempfile::TempDir;
use tokio_postgres::NoTls;

use crate::support::cluster;

/// A plain server that logs in every format, and what was asked of it.
struct Logged {
    cluster: CaptiveCluster,
    directory: TempDir,
}

async fn logged() -> Logged {
    let settings = [
        ("shared_preload_libraries", "pg_stat_statements"),
        ("logging_collector", "on"),
        ("log_destination", "stderr,csvlog,jsonlog"),
        ("log_filename", "all.log"),
        ("log_line_prefix", "%m [%p] %q%u@%d "),
        ("lc_messages", "C"),
    ];
    let spec = Spec {
        settings: settings
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
        ..shop::spec(1, 0)
    };
    let cluster = tokio::task::spawn_blocking(move || cluster(&spec))
        .await
        .unwrap();
    shop::load(&cluster, shop::Size { customers: 2_000 })
        .await
        .unwrap();
    let server = &cluster.shards[0].primary;
    let (mut client, connection) = server.connection().connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let first =
        "ANALYZE; CREATE EXTENSION pg_stat_statements; SET pg_stat_statements.track_utility = off;
                 SET pg_stat_statements.track = 'none'";
    client.batch_execute(first).await.unwrap();
    client
        .batch_execute("SELECT pg_stat_statements_reset()")
        .await
        .unwrap();
    client
        .batch_execute("SET pg_stat_statements.track = 'top'; SET log_statement = 'all'")
        .await
        .unwrap();
    let by_id = client
        .prepare("SELECT name FROM customers WHERE id = $1")
        .await
        .unwrap();
    for id in 1..=30_i64 {
        client.query(&by_id, &[&id]).await.unwrap();
    }
    for (times, sql) in WORK {
        for _ in 0..*times {
            client.batch_execute(sql).await.unwrap();
        }
    }
    let block = client.transaction().await.unwrap();
    block
        .execute(
            "UPDATE orders SET status = $1 WHERE customer_id = $2",
            &[&"sent", &7_i64],
        )
        .await
        .unwrap();
    block.commit().await.unwrap();
    client
        .batch_execute("SET log_statement = 'none'")
        .await
        .unwrap();
    Logged {
        cluster,
        directory: tempfile::tempdir().unwrap(),
    }
}

/// How often, and what.
const WORK: &[(usize, &str)] = &[
    (
        5,
        "SELECT status FROM orders\n WHERE customer_id = 5 /* two\n lines */",
    ),
    (4, "SELECT count(*) FROM orders"),
    (
        3,
        "SELECT id FROM customers WHERE country = 'AT' LIMIT 1 FOR UPDATE",
    ),
    (
        1,
        "SELECT name FROM customers WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8)",
    ),
    (
        2,
        "SELECT c.name, i.product FROM customers c JOIN order_items i ON i.customer_id = c.id WHERE c.id = 9",
    ),
    (
        2,
        "SELECT o.status, n.name FROM orders o JOIN customers c ON c.id = o.customer_id
          JOIN countries n ON n.code = c.country WHERE o.customer_id = 3",
    ),
    (1, "UPDATE countries SET name = 'Austria' WHERE code = 'AT'"),
    (
        1,
        "INSERT INTO customers VALUES (90001, 'x', 'x', 'AT', '2026-01-01', 0), (90002, 'x', 'x', 'AT', '2026-01-01', 0),
          (90003, 'x', 'x', 'AT', '2026-01-01', 0), (90004, 'x', 'x', 'AT', '2026-01-01', 0)",
    ),
    (
        1,
        "PREPARE q (bigint) AS SELECT email FROM customers WHERE id = $1",
    ),
    (2, "EXECUTE q(3)"),
];

impl Logged {
    fn log(&self, ending: &str) -> PathBuf {
        self.cluster.shards[0]
            .primary
            .data_dir()
            .join("log")
            .join(format!("all.{ending}"))
    }

    fn url(&self) -> String {
        let port = self.cluster.shards[0].primary.port;
        format!("postgresql://ringway:captive@127.0.0.1:{port}/shop")
    }

    /// A configuration whose shards nobody has made yet.
    fn config(&self, tables: &str) -> PathBuf {
        let path = self.directory.path().join("ringway.toml");
        let text = format!(
            "[users.app]\npassword = \"app\"\n[databases.shop]\nmonitor_user = \"app\"\n{}\n{tables}\n",
            ["a", "b", "c", "d"]
                .map(|name| format!(
                    "[[databases.shop.shards]]\nname = \"{name}\"\nservers = \"{name}:1\""
                ))
                .join("\n")
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn analyze(&self, config: &Path, log: Option<&Path>) -> String {
        let mut args = vec!["analyze", "-c", config.to_str().unwrap(), "--url"];
        let url = self.url();
        args.push(&url);
        args.extend(log.map(|log| log.to_str().unwrap()));
        run(&args)
    }
}

#[track_caller]
fn run(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Calls by class, from the lines with shares.
fn classes(report: &str) -> BTreeMap<String, u64> {
    let lines = report
        .lines()
        .filter(|line| line.contains(" % ") && !line.starts_with(' '));
    let class = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    lines.filter_map(class).collect()
}

const TABLES: &str = "[databases.shop.tables]\ncustomers = { key = \"id\" }\norders = { key = \"customer_id\" }\n\
    order_items = { key = \"customer_id\" }\ncountries = \"reference\"\nsettings = { shard = \"a\" }\n";

#[tokio::test]
async fn logs_and_statistics_are_labelled_alike() {
    let logged = logged().await;
    let config = logged.config(TABLES);
    let expected = [
        ("direct", 30 + 5 + 2 + 2 + 2 + 1),
        ("everywhere", 1),
        ("merged", 4 + 1),
        ("refused", 3),
        ("split", 1),
    ];
    let expected: BTreeMap<_, _> = expected
        .map(|(name, calls)| (name.to_owned(), calls))
        .into();
    // Constants are gone, so the classes that they tell are found out by samples.
    let live = logged.analyze(&config, None);
    assert_eq!(classes(&live), expected, "{live}");
    for ending in ["log", "csv", "json"] {
        let report = logged.analyze(&config, Some(&logged.log(ending)));
        assert_eq!(classes(&report), expected, "{ending}\n{report}");
        assert!(
            report.contains("database shop: 52 calls of 11 shapes\nrefused"),
            "{report}"
        );
        let refused = "         3   5.8 %  SELECT id FROM customers WHERE country = 'AT' LIMIT 1 FOR UPDATE\n";
        assert!(report.contains(refused), "{report}");
        // The worst comes first.
        let at = |heading: &str| report.find(&format!("\n\n{heading}\n")).unwrap();
        assert!(
            at("refused") < at("merged") && at("merged") < at("direct"),
            "{report}"
        );
    }
    let server = &logged.cluster.shards[0].primary;
    let copy = "COPY (SELECT calls, query FROM pg_stat_statements WHERE query !~ 'pg_|log_' AND query ~* \
                'customers|orders|order_items|countries') TO STDOUT WITH (FORMAT csv, HEADER)";
    let path = logged.directory.path().join("statements.csv");
    std::fs::write(&path, server.exec(copy).unwrap()).unwrap();
    let csv = logged.analyze(&config, Some(&path));
    assert_eq!(classes(&csv), expected, "{csv}");
    // Policies of the configuration are refusals.
    let denied =
        format!("[databases.shop]\nscatter_reads = \"deny\"\nmonitor_user = \"app\"\n{TABLES}");
    let config = logged.config("");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace(
        "[databases.shop]\nmonitor_user = \"app\"\n",
        &denied.replace(TABLES, ""),
    );
    std::fs::write(&config, format!("{text}{TABLES}")).unwrap();
    let report = logged.analyze(&config, Some(&logged.log("json")));
    assert_eq!(classes(&report)["refused"], 3 + 5, "{report}");
    assert!(report.contains("scatter_reads = \"deny\""), "{report}");

    the_advice_holds(&logged);
}

/// What `advise` promises is what `analyze` finds with its snippet.
fn the_advice_holds(logged: &Logged) {
    let url = logged.url();
    let log = logged.log("csv");
    let args = [
        "advise",
        "--url",
        &url,
        "--reference-rows",
        "100",
        log.to_str().unwrap(),
    ];
    let advice = run(&args);
    for line in [
        "countries: 12 rows, 3 calls, 33.3 % of them write",
        "co-located: customers.id = orders.customer_id = order_items.customer_id",
    ] {
        assert!(advice.contains(line), "{line}\n{advice}");
    }
    let only = run(&[&args[..], &["--toml"]].concat());
    for line in [
        "customers = { key = \"id\" }",
        "orders = { key = \"customer_id\" }",
        "order_items = { key = \"customer_id\" }",
    ] {
        assert!(
            only.lines().any(|l| l
                .replace("\"customers\"", "customers")
                .replace("\"orders\"", "orders")
                .replace("\"order_items\"", "order_items")
                == line),
            "{line}\n{only}"
        );
    }
    let config = logged.config(&only);
    run(&["check", "--offline", "-c", config.to_str().unwrap()]);
    let report = logged.analyze(&config, Some(&log));
    let promised = classes(advice.split("with this proposal\n").nth(1).unwrap());
    let mut kept = classes(&report);
    kept.retain(|_, calls| *calls > 0);
    assert_eq!(promised, kept, "{advice}\n{report}");
    let stats = run(&["advise", "--url", &url, "--reference-rows", "100", "--toml"]);
    assert_eq!(stats.lines().count(), only.lines().count(), "{stats}");
}

#[test]
fn what_is_no_log_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("x.log");
    std::fs::write(&log, "nothing\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(["advise", "--url", "postgresql://127.0.0.1:1/x"])
        .arg(&log)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && told.contains("cannot be reached"),
        "{told}"
    );
}
