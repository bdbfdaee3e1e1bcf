//! Exporters made for PgBouncer, unchanged: Debian's is run where it is installed, the queries of the
//! Prometheus community's and of Datadog's agent are sent as they send them.

use std::process::{Command, Stdio};

use ringway::demo::shop;
use tokio_postgres::SimpleQueryRow;

use crate::admin::{cell, free_port, get, show, wait_for};
use crate::support::{Ringway, client, shop};

/// With a user who may only look and needs no password, as exporters are given.
async fn watched() -> Ringway {
    let cluster = shop().await;
    Ringway::start(|port| {
        let toml = shop::ringway_toml(cluster, port);
        let toml = toml.replace(
            "admin_users =",
            "stats_users = [\"pgbouncer\"]\nadmin_users =",
        );
        toml + "\n[users.pgbouncer]\nauth = \"trust\"\n"
    })
}

/// Asks that a process end when the test does.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// prometheus-pgbouncer-exporter, as Debian packages it: psycopg2, one connection, autocommit.
#[tokio::test]
async fn debians_exporter_finds_all_it_asks_for() {
    let ringway = watched().await;
    let app = ringway.client().await;
    app.query("SELECT count(*) FROM customers", &[])
        .await
        .unwrap();
    let port = free_port();
    let exporter = Command::new("prometheus-pgbouncer-exporter")
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .args([
            "--pgbouncer-host",
            "127.0.0.1",
            "--pgbouncer-user",
            "pgbouncer",
        ])
        .args(["--pgbouncer-port", &ringway.port().to_string()])
        .stdout(Stdio::null())
        .spawn();
    let Ok(exporter) = exporter else {
        println!("skipped: prometheus-pgbouncer-exporter is not installed");
        return;
    };
    let _exporter = Child(exporter);
    wait_for("the exporter listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let (status, text) = get(port, "/metrics");
    assert!(status.contains("200"), "{status}\n{text}");
    for sample in [
        "pgbouncer_databases 1.0",
        "pgbouncer_used_clients ",
        "pgbouncer_free_servers ",
        "pgbouncer_pools ",
        "pgbouncer_dns_pending 0.0",
        "pgbouncer_received_bytes_total{database=\"shop\"} ",
        "pgbouncer_query_microseconds_total{database=\"shop\"} ",
        "pgbouncer_requests_total{database=\"shop\"} ",
        "pgbouncer_active_clients{database=\"shop\",user=\"app\"} 1.0",
        "pgbouncer_waiting_clients{database=\"shop\",user=\"app\"} 0.0",
        "pgbouncer_pool_size{database=\"shop\"} 20.0",
        "pgbouncer_reserve_pool{database=\"shop\"} 0.0",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(sample)),
            "{sample}\n{text}"
        );
    }
}

/// prometheus-pgbouncer-exporter of PyPI, another program than Debian's.
#[tokio::test]
async fn pypis_exporter_finds_all_it_asks_for() {
    let ringway = watched().await;
    let app = ringway.client().await;
    app.query("SELECT count(*) FROM customers", &[])
        .await
        .unwrap();
    let port = free_port();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yml");
    let url = format!(
        "postgresql://pgbouncer@127.0.0.1:{}/pgbouncer",
        ringway.port()
    );
    let config =
        format!("exporter_host: 127.0.0.1\nexporter_port: {port}\npgbouncers:\n  - dsn: {url}\n");
    std::fs::write(&file, config).unwrap();
    let exporter = Command::new("pgbouncer-exporter")
        .arg("--config")
        .arg(&file)
        .stdout(Stdio::null())
        .spawn();
    let Ok(exporter) = exporter else {
        println!(
            "skipped: pgbouncer-exporter (pip install prometheus-pgbouncer-exporter) is not installed"
        );
        return;
    };
    let _exporter = Child(exporter);
    wait_for("the exporter listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let (status, text) = get(port, "/metrics");
    assert!(status.contains("200"), "{status}\n{text}");
    for sample in [
        "pgbouncer_up 1.0",
        "pgbouncer_stats_queries_total{database=\"shop\"} ",
        "pgbouncer_stats_requests_total{database=\"shop\"} ",
        "pgbouncer_stats_waiting_duration_microseconds_total{database=\"shop\"} ",
        "pgbouncer_pools_client_active_connections{database=\"shop\",user=\"app\"} 1.0",
        "pgbouncer_pools_server_idle_connections{database=\"shop\",user=\"app\"} ",
        "pgbouncer_pools_client_maxwait_seconds{database=\"shop\",user=\"app\"} 0.0",
        "pgbouncer_databases_database_pool_size{backend_database=\"shop\",database=\"shop\"} 20.0",
        "pgbouncer_databases_database_reserve_pool_size{",
        "pgbouncer_config_max_client_conn 10000.0",
        "pgbouncer_config_max_user_connections 0.0",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(sample)),
            "{sample}\n{text}"
        );
    }
}

/// What github.com/prometheus-community/pgbouncer_exporter asks, in its order, and how it reads it: by
/// the names of columns, as numbers.
#[tokio::test]
async fn the_communitys_exporter_would_read_every_figure() {
    let ringway = watched().await;
    let app = ringway.client().await;
    app.query("SELECT count(*) FROM customers", &[])
        .await
        .unwrap();
    let url = format!(
        "postgresql://pgbouncer@127.0.0.1:{}/pgbouncer",
        ringway.port()
    );
    let stats = client(&url).await;
    let of = |rows: &[SimpleQueryRow], what: &str, columns: &[&str]| {
        let row = rows.iter().find(|row| row.get(0) == Some("shop"));
        let row = row.unwrap_or_else(|| panic!("no shop in SHOW {what}"));
        for column in columns {
            let value = row
                .get(column)
                .unwrap_or_else(|| panic!("{what}.{column} is NULL"));
            assert!(value.parse::<f64>().is_ok(), "{what}.{column}: {value}");
        }
    };
    show(&stats, "STATS").await;
    let labels = [
        "name",
        "host",
        "port",
        "database",
        "force_user",
        "pool_mode",
    ];
    let databases = show(&stats, "DATABASES;").await;
    for label in labels {
        assert!(databases[0].get(label).is_some(), "{label}");
    }
    of(
        &databases,
        "DATABASES",
        &[
            "pool_size",
            "reserve_pool_size",
            "max_connections",
            "current_connections",
            "paused",
            "disabled",
        ],
    );
    of(
        &show(&stats, "STATS_TOTALS;").await,
        "STATS_TOTALS",
        &[
            "query_count",
            "query_time",
            "bytes_received",
            "bytes_sent",
            "wait_time",
            "xact_count",
            "xact_time",
            "client_parse_count",
            "server_parse_count",
            "bind_count",
        ],
    );
    of(
        &show(&stats, "POOLS;").await,
        "POOLS",
        &[
            "cl_active",
            "cl_active_cancel_req",
            "cl_waiting",
            "cl_waiting_cancel_req",
            "sv_active",
            "sv_active_cancel",
            "sv_being_canceled",
            "sv_idle",
            "sv_used",
            "sv_tested",
            "sv_login",
            "maxwait",
        ],
    );
    let lists = show(&stats, "LISTS;").await;
    for list in [
        "databases",
        "users",
        "pools",
        "free_clients",
        "used_clients",
        "login_clients",
        "free_servers",
        "used_servers",
        "dns_names",
        "dns_zones",
        "dns_queries",
    ] {
        let items = cell(&lists, "items", |row| row.get("list") == Some(list));
        assert!(items.parse::<u64>().is_ok(), "{list}: {items}");
    }
    // Four columns, of which the second is a number for these keys.
    let config = show(&stats, "CONFIG;").await;
    assert_eq!(config[0].columns().len(), 4);
    for key in ["max_client_conn", "max_user_connections"] {
        let value = cell(&config, "value", |row| row.get("key") == Some(key));
        assert!(value.parse::<u64>().is_ok(), "{key}: {value}");
    }
    // Datadog's agent asks for these too, and takes a version for granted that begins with a word.
    assert_eq!(
        cell(&config, "value", |row| row.get("key")
            == Some("max_client_conn")),
        "10000"
    );
    let version = show(&stats, "VERSION").await;
    let version = version[0].get(0).unwrap().to_owned();
    assert!(
        version
            .split(' ')
            .nth(1)
            .is_some_and(|version| version.contains('.')),
        "{version}"
    );
}
