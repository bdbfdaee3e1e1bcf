//! The admin database, reloads, the HTTP port, the other commands, and the end of the process.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use ringway::admin::Show;
use ringway::demo::captive::{self, Signal};
use ringway::demo::shop;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::support::wire::Wire;
use crate::support::{Ringway, certificate, client, psql, shop};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

fn admin_url(ringway: &Ringway) -> String {
    shop::url(ringway.port(), "ringway")
}

/// A cell by its column's name, of the first row that `is_it` accepts.
pub(crate) fn cell(
    rows: &[tokio_postgres::SimpleQueryRow],
    name: &str,
    is_it: impl Fn(&tokio_postgres::SimpleQueryRow) -> bool,
) -> String {
    let row = rows.iter().find(|row| is_it(row));
    let row = row.unwrap_or_else(|| panic!("no such row among {}", rows.len()));
    row.get(name).unwrap_or("NULL").to_owned()
}

pub(crate) async fn show(
    client: &tokio_postgres::Client,
    table: &str,
) -> Vec<tokio_postgres::SimpleQueryRow> {
    let messages = client.simple_query(&format!("SHOW {table}")).await;
    let messages = messages.unwrap_or_else(|error| panic!("SHOW {table}: {error:?}"));
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.collect()
}

/// Looks until `is_so`, as states of other connections show a moment later.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn every_table_answers_in_both_protocols() {
    let ringway = Ringway::of_shop().await;
    let app = ringway.client().await;
    app.query("SELECT 1", &[]).await.unwrap();
    let admin = client(&admin_url(&ringway)).await;
    for table in Show::ALL {
        let sql = format!("SHOW {}", table.name());
        let printed = psql(&admin_url(&ringway), &sql);
        let statement = admin.prepare(&sql).await.unwrap();
        let names: Vec<_> = statement.columns().iter().map(|c| c.name()).collect();
        let expected: Vec<_> = table.columns().iter().map(|c| c.name).collect();
        assert_eq!(names, expected, "{sql}");
        let rows = admin.query(&statement, &[]).await.unwrap();
        let may_be_empty = matches!(
            table,
            // Nothing is being committed here.
            Show::ActiveSockets
                | Show::DnsHosts
                | Show::DnsZones
                | Show::HotKeys
                | Show::HotSlots
                | Show::InDoubt
                | Show::PeerPools
                | Show::Prepared
                | Show::Peers
                | Show::Transactions
        );
        assert!(!rows.is_empty() || may_be_empty, "{sql}");
        assert!(!printed.is_empty() || may_be_empty, "{sql}");
    }
    let error = admin.simple_query("SHOW POOL").await.err().unwrap();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "42601");
    assert!(
        error
            .hint()
            .unwrap()
            .starts_with("Did you mean SHOW POOLS?")
    );
    admin
        .batch_execute("SET application_name = 'x'")
        .await
        .unwrap();
}

#[tokio::test]
async fn the_tables_show_what_is_going_on() {
    let ringway = Ringway::of_shop().await;
    let app = ringway.client().await;
    let admin = client(&admin_url(&ringway)).await;
    app.batch_execute("BEGIN").await.unwrap();
    let read = "SELECT name FROM customers WHERE id = 1";
    app.simple_query(read).await.unwrap();

    let is_app = |row: &tokio_postgres::SimpleQueryRow| row.get("database") == Some("shop");
    let clients = show(&admin, "CLIENTS").await;
    assert_eq!(cell(&clients, "state", is_app), "active");
    assert_eq!(cell(&clients, "addr", is_app), "127.0.0.1");
    assert_eq!(
        cell(&clients, "local_port", is_app),
        ringway.port().to_string()
    );
    let link = cell(&clients, "link", is_app);
    let servers = show(&admin, "SERVERS").await;
    let linked = |row: &tokio_postgres::SimpleQueryRow| row.get("ptr") == Some(&link);
    assert_eq!(cell(&servers, "state", linked), "active");
    assert_eq!(
        cell(&servers, "link", linked),
        cell(&clients, "ptr", is_app)
    );
    let pools = show(&admin, "POOLS").await;
    assert_eq!(cell(&pools, "sv_active", is_app), "1");
    assert_eq!(cell(&pools, "cl_active", is_app), "1");

    app.batch_execute("COMMIT").await.unwrap();
    app.query(read, &[]).await.unwrap();
    let shards = show(&admin, "SHARDS").await;
    let slots: usize = shards
        .iter()
        .map(|row| row.get("slots").unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!((shards.len(), slots), (2, 16_384));
    let replicas = show(&admin, "REPLICAS").await;
    let is_replica = |row: &tokio_postgres::SimpleQueryRow| row.get("role") == Some("replica");
    let lag = cell(&replicas, "lag_bytes", is_replica);
    assert!(lag.parse::<u64>().is_ok(), "{lag}");
    let stats = show(&admin, "STATS").await;
    let count = |name| cell(&stats, name, is_app).parse::<u64>().unwrap();
    assert!(count("total_query_count") >= 4);
    assert!(count("total_xact_count") >= 2);
    assert!(count("total_received") > 100 && count("total_sent") > 100);
    assert!(count("total_bind_count") >= 1);
}

#[tokio::test]
async fn slots_plans_and_prepared_statements_show() {
    let cluster = shop().await;
    // To the shard that does not own it.
    let weight = |name: &str| planner::topology::ShardWeight {
        name: name.to_owned(),
        weight: 1,
    };
    let owner = planner::ring::slot_table(&[weight("s1"), weight("s2")])[7];
    let other = if owner.0 == 0 { "s2" } else { "s1" };
    let ringway = Ringway::start(|port| {
        let moved =
            format!("[[databases.shop.slot_overrides]]\nslots = \"7\"\nshard = \"{other}\"\n");
        format!("{}\n{moved}", shop::ringway_toml(cluster, port))
    });
    let app = ringway.client().await;
    let admin = client(&admin_url(&ringway)).await;
    let slots = show(&admin, "SLOTS").await;
    let number = |row: &tokio_postgres::SimpleQueryRow, name: &str| {
        row.get(name).unwrap().parse::<usize>().unwrap()
    };
    let mut next = 0;
    for row in &slots {
        assert_eq!(number(row, "first_slot"), next);
        next = number(row, "last_slot") + 1;
        assert_eq!(number(row, "slots"), next - number(row, "first_slot"));
    }
    assert_eq!(next, 16_384);
    let moved: Vec<_> = slots
        .iter()
        .filter(|row| row.get("moved") == Some("1"))
        .collect();
    assert_eq!(moved.len(), 1);
    assert_eq!(
        (moved[0].get("first_slot"), moved[0].get("last_slot")),
        (Some("7"), Some("7"))
    );
    for row in show(&admin, "SHARDS").await {
        let of_shard = slots
            .iter()
            .filter(|slots| slots.get("shard") == row.get("shard"));
        let sum: usize = of_shard.map(|slots| number(slots, "slots")).sum();
        assert_eq!(sum, number(&row, "slots"));
    }

    let sql = "SELECT name FROM customers WHERE id = $1 AND name <> 'no such name'";
    let statement = app.prepare(sql).await.unwrap();
    app.query(&statement, &[&1_i64]).await.unwrap();
    let prepared = show(&admin, "PREPARED").await;
    let is_it = |row: &tokio_postgres::SimpleQueryRow| {
        row.get("statement")
            .unwrap()
            .contains("FROM customers WHERE id")
    };
    assert_eq!(cell(&prepared, "kind", is_it), "named");
    assert_eq!(cell(&prepared, "outdated", is_it), "0");
    assert_ne!(cell(&prepared, "holders", is_it), "0");
    assert!(!cell(&prepared, "statement", is_it).contains("no such name"));
    let is_shop = |row: &tokio_postgres::SimpleQueryRow| row.get("database") == Some("shop");
    let misses = cell(&show(&admin, "PLANS").await, "misses", is_shop);
    for _ in 0..3 {
        app.simple_query("SELECT name FROM customers WHERE id = 5")
            .await
            .unwrap();
    }
    let plans = show(&admin, "PLANS").await;
    let figure = |name| cell(&plans, name, is_shop).parse::<u64>().unwrap();
    assert_eq!(figure("misses"), misses.parse::<u64>().unwrap() + 1);
    assert!(figure("hits") >= 2 && figure("plans") >= 1 && figure("bytes") <= figure("max_bytes"));
    let memory = show(&admin, "MEM").await;
    let used = cell(&memory, "used", |row| row.get("name") == Some("shop.plans"));
    assert_eq!(used, cell(&plans, "plans", is_shop));
}

#[tokio::test]
async fn a_pinned_client_shows_why() {
    let cluster = shop().await;
    let ringway = Ringway::start(|port| {
        let toml = shop::ringway_toml(cluster, port);
        toml.replace("server_user =", "pool_mode = \"session\"\nserver_user =")
    });
    let app = ringway.client().await;
    // A replica would be borrowed.
    let on_primary = "/* ringway: primary */ SELECT 1";
    app.simple_query(on_primary).await.unwrap();
    let admin = client(&admin_url(&ringway)).await;
    let clients = show(&admin, "CLIENTS").await;
    let why = cell(&clients, "pinned", |row| {
        row.get("database") == Some("shop")
    });
    assert_eq!(why, "session pool mode");
}

#[tokio::test]
async fn who_is_no_admin_is_refused() {
    let ringway = Ringway::of_shop().await;
    for name in ["ringway", "pgbouncer"] {
        let url = format!("postgresql://raw@127.0.0.1:{}/{name}", ringway.port());
        let error = tokio_postgres::connect(&url, NoTls).await.err().unwrap();
        assert_eq!(error.code().map(|code| code.code()), Some("42501"));
        let detail = error.as_db_error().and_then(|error| error.detail());
        assert_eq!(
            detail,
            Some("User \"raw\" is neither in admin_users nor in stats_users.")
        );
    }
    // What asks a PgBouncer finds its tables.
    let url = admin_url(&ringway).replace("/ringway", "/pgbouncer");
    assert!(!show(&client(&url).await, "DATABASES").await.is_empty());
}

#[tokio::test]
async fn users_of_statistics_look_and_touch_nothing() {
    let cluster = shop().await;
    let ringway = Ringway::start(|port| {
        let toml = shop::ringway_toml(cluster, port);
        toml.replace(
            "admin_users =",
            "stats_users = [\"raw\", \"app\"]\nadmin_users =",
        ) + "\n[users.raw]\nauth = \"trust\"\n"
    });
    let url = format!("postgresql://raw@127.0.0.1:{}/pgbouncer", ringway.port());
    let stats = client(&url).await;
    assert!(!show(&stats, "CONFIG").await.is_empty());
    assert!(!stats.query("SHOW USERS", &[]).await.unwrap().is_empty());
    stats.batch_execute("SET DateStyle = 'ISO'").await.unwrap();
    for sql in ["SET max_clients = 5", "RELOAD", "PAUSE", "SHUTDOWN"] {
        let simple = stats.batch_execute(sql).await.err().unwrap();
        let extended = stats.execute(sql, &[]).await.err().unwrap();
        for error in [simple, extended] {
            let code = error.code().map(|code| code.code().to_owned());
            assert_eq!(code.as_deref(), Some("42501"), "{sql}: {error:?}");
        }
    }
    // In both lists: an admin. Taken out of one: no more, from the next command on.
    let admin = client(&admin_url(&ringway)).await;
    admin.batch_execute("SET admin_users = []").await.unwrap();
    let error = admin.batch_execute("RESUME").await.err().unwrap();
    assert_eq!(error.code().map(|code| code.code()), Some("42501"));
}

#[tokio::test]
async fn set_changes_a_setting_until_the_next_reload() {
    let ringway = Ringway::of_shop().await;
    let admin = client(&admin_url(&ringway)).await;
    let shown = async |key: &str| {
        let rows = show(&admin, "CONFIG").await;
        cell(&rows, "value", |row| row.get("key") == Some(key))
    };
    let before = shown("general.max_clients").await;
    admin
        .batch_execute("SET databases.shop.pool_size = 3")
        .await
        .unwrap();
    admin.execute("SET max_clients TO '1'", &[]).await.unwrap();
    assert_eq!(shown("general.max_clients").await, "1");
    assert_eq!(shown("databases.shop.pool_size").await, "3");
    let databases = show(&admin, "DATABASES").await;
    let is_shop = |row: &tokio_postgres::SimpleQueryRow| row.get("name") == Some("shop");
    assert_eq!(cell(&databases, "pool_size", is_shop), "3");
    // It is in force: there is one client already.
    let url = shop::url(ringway.port(), "shop");
    let error = tokio_postgres::connect(&url, NoTls).await.err().unwrap();
    assert_eq!(error.code().map(|code| code.code()), Some("53300"));
    for (sql, code) in [
        ("SET max_client_conn = 5", "22023"),
        ("SET max_clients = 'many'", "22023"),
        ("SET workers = 7", "55P02"),
        ("SET ROLE app", "42601"),
    ] {
        let error = admin.batch_execute(sql).await.err().unwrap();
        let told = error.code().map(|code| code.code().to_owned());
        assert_eq!(told.as_deref(), Some(code), "{sql}");
    }
    admin.batch_execute("RELOAD").await.unwrap();
    assert_eq!(shown("general.max_clients").await, before);
    client(&url).await;
}

#[tokio::test]
async fn frames_that_make_no_sense_end_only_their_own_admin_session() {
    let cluster = shop().await;
    let ringway = Ringway::start(|port| {
        let toml = shop::ringway_toml(cluster, port);
        toml.replace("[\"app\"]", "[\"app\", \"raw\"]") + "\n[users.raw]\nauth = \"trust\"\n"
    });
    let admin = client(&admin_url(&ringway)).await;
    let (mut wire, _) = Wire::login(ringway.port(), "raw", "ringway");
    wire.send_bytes(b"Q\0\0\0\x03");
    let frames = wire.read_to_ready();
    assert_eq!(
        frames.last().map(|frame| frame.code()).as_deref(),
        Some("08P01")
    );
    assert!(!show(&admin, "VERSION").await.is_empty());
}

#[tokio::test]
async fn a_reload_applies_a_good_file_and_refuses_a_bad_one() {
    let mut ringway = Ringway::of_shop().await;
    let admin = client(&admin_url(&ringway)).await;
    let app = ringway.client().await;
    let good = std::fs::read_to_string(ringway.config_file()).unwrap();

    let bad = good.replace("[general]", "[general]\nworkres = 2\nmax_clients = 0");
    std::fs::write(ringway.config_file(), bad).unwrap();
    let error = admin.simple_query("RELOAD").await.err().unwrap();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "F0000");
    let detail = error.detail().unwrap();
    for mistake in ["2 mistakes", "workres", "max_clients"] {
        assert!(detail.contains(mistake), "{detail}");
    }
    assert_eq!(show(&admin, "DATABASES").await.len(), 4);
    app.query("SELECT 1", &[]).await.unwrap();

    let twice = format!("{good}\n{}", second_database(&good));
    std::fs::write(ringway.config_file(), &twice).unwrap();
    ringway.proxy.signal(Signal::Hup);
    let url = admin_url(&ringway);
    wait_for("the second database is there", || {
        psql(&url, "SHOW DATABASES").lines().count() == 5
    });
    let other = client(&shop::url(ringway.port(), "second")).await;
    other.query("SELECT 1", &[]).await.unwrap();
    app.query("SELECT 1", &[]).await.unwrap();

    std::fs::write(ringway.config_file(), &good).unwrap();
    admin.batch_execute("RELOAD").await.unwrap();
    assert_eq!(show(&admin, "DATABASES").await.len(), 4);
}

/// A database on the first server of the shop.
fn second_database(toml: &str) -> String {
    let servers = toml.lines().find(|line| line.starts_with("servers = ["));
    let server = servers.and_then(|line| line.split('"').nth(1)).unwrap();
    format!(
        "[databases.second]\nserver_user = \"app\"\nserver_password = \"app\"\n\
         [[databases.second.shards]]\nname = \"only\"\ndbname = \"shop\"\nservers = [\"{server}\"]\n"
    )
}

/// An answer of the HTTP port: status line and body.
pub(crate) fn get(port: u16, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: ringway\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

pub(crate) fn free_port() -> u16 {
    captive::free_port().unwrap()
}

#[tokio::test]
async fn metrics_and_health_over_http() {
    let cluster = shop().await;
    let http = free_port();
    let ringway = Ringway::start(|port| {
        let general = format!("[general]\nhttp_listen = \"127.0.0.1:{http}\"");
        shop::ringway_toml(cluster, port).replace("[general]", &general)
    });
    let app = ringway.client().await;
    app.query("SELECT count(*) FROM customers", &[])
        .await
        .unwrap();
    app.query("SELECT 1 FROM nowhere", &[]).await.err().unwrap();
    assert_eq!(
        get(http, "/healthz"),
        ("HTTP/1.1 200 OK".into(), "ok\n".into())
    );
    wait_for("ready", || get(http, "/readyz").0 == "HTTP/1.1 200 OK");
    let (status, text) = get(http, "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    for sample in [
        "ringway_clients{database=\"shop\"} 1",
        "ringway_client_connections_total{database=\"shop\"} 1",
        "ringway_routes_total{database=\"shop\",kind=\"merge\"} 1",
        "ringway_server_up{",
        "ringway_query_seconds_count{database=\"shop\"} ",
        "ringway_bytes_sent_total{database=\"shop\"} ",
    ] {
        assert!(text.contains(sample), "{sample}\n{text}");
    }
    check_with_promtool(&text);
}

/// Names, kinds and help are as Prometheus wants them; by Debian's package prometheus.
pub fn check_with_promtool(metrics: &str) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(metrics.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut command = Command::new("promtool");
    match command.args(["check", "metrics"]).stdin(file).output() {
        Ok(output) => assert!(output.status.success(), "{output:?}\n{metrics}"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!(
                "skipped: promtool is not installed, so the metrics were not checked with it"
            );
        }
        Err(error) => panic!("promtool: {error}"),
    }
}

#[tokio::test]
async fn termination_lets_an_open_transaction_commit() {
    let mut ringway = Ringway::of_shop().await;
    let (mut idle, _) = Wire::login(ringway.port(), "raw", "shop");
    let (mut busy, _) = Wire::login(ringway.port(), "raw", "shop");
    let admin = client(&admin_url(&ringway)).await;
    let (mut pinned, _) = Wire::login(ringway.port(), "raw", "shop");
    pinned.query("LISTEN news");
    pinned.read_to_ready();
    busy.query("BEGIN");
    busy.read_to_ready();
    busy.query("SELECT name FROM customers WHERE id = 7");
    busy.read_to_ready();
    ringway.proxy.signal(Signal::Term);
    // The idle one is sent off, which also tells that the signal has come.
    let farewell = idle.read().unwrap();
    assert_eq!(farewell.code(), "57P01");
    assert_eq!(idle.read(), None);
    assert_eq!(pinned.read().unwrap().code(), "57P01");
    assert!(admin.simple_query("SHOW VERSION").await.is_err());
    busy.query("COMMIT");
    let frames = busy.read_to_ready();
    let tags: Vec<char> = frames.iter().map(|frame| char::from(frame.tag)).collect();
    assert_eq!(tags, ['C', 'Z']);
    assert_eq!(busy.read().unwrap().code(), "57P01");
    wait_for("the process has ended", || {
        ringway.proxy.check_running().is_err()
    });
}

fn ringway(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(args)
        .output();
    let output = output.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test]
async fn check_tells_everything_in_one_run() {
    let cluster = shop().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ringway.toml");
    let path = file.to_str().unwrap();
    let good = shop::ringway_toml(cluster, 6432);
    std::fs::write(&file, &good).unwrap();
    let (code, out, err) = ringway(&["check", "-c", path]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(out.matches("is the primary").count(), 2, "{out}");
    assert_eq!(out.matches("is a replica").count(), 2, "{out}");

    // A server that nobody listens at, and a rule for a table that does not exist.
    let dead = format!("127.0.0.1:{}", free_port());
    let wrong = good
        .replacen("servers = [", &format!("servers = [\"{dead}\", "), 1)
        .replace(
            "customers = {",
            "custommers = { key = \"id\" }\ncustomers = {",
        );
    std::fs::write(&file, wrong).unwrap();
    let (code, out, _) = ringway(&["check", "-c", path]);
    assert_eq!(code, Some(1), "{out}");
    for mistake in [&dead, "custommers"] {
        let told = |line: &str| line.starts_with("mistake: ") && line.contains(mistake);
        assert!(out.lines().any(told), "{mistake}\n{out}");
    }
    let (code, out, err) = ringway(&["check", "-c", path, "--offline"]);
    assert_eq!(code, Some(0), "{out}{err}");

    // A whole shard that nobody listens at is told once per server, and nothing that follows from it.
    let servers = good.find("servers = [").unwrap();
    let end = servers + good[servers..].find(']').unwrap();
    let wrong = format!("{}servers = [\"{dead}\"{}", &good[..servers], &good[end..]);
    std::fs::write(&file, wrong).unwrap();
    let (code, out, _) = ringway(&["check", "-c", path]);
    assert_eq!(code, Some(1), "{out}");
    let mistakes: Vec<_> = out
        .lines()
        .filter(|line| line.starts_with("mistake: "))
        .collect();
    assert!(
        matches!(mistakes[..], [one] if one.contains(&dead)),
        "{out}"
    );

    // Certificates are loaded as `serve` does.
    let [ours, other] = ["ours", "other"].map(|name| {
        let dir = directory.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        certificate(&dir)
    });
    let (certificate, key) = (ours.certificate, other.private_key);
    let tls = format!("\n[tls]\ncertificate = {certificate:?}\nprivate_key = {key:?}\n");
    std::fs::write(&file, format!("{good}{tls}")).unwrap();
    let (code, out, _) = ringway(&["check", "-c", path, "--offline"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("does not belong to"), "{out}");

    std::fs::write(
        &file,
        good.replace("[general]", "[general]\nworkres = 1\nmax_clients = 0"),
    )
    .unwrap();
    let (code, out, _) = ringway(&["check", "-c", path]);
    assert_eq!(code, Some(1));
    assert_eq!(out.lines().count(), 2, "{out}");
}

#[tokio::test]
async fn explain_reads_the_live_schema() {
    let cluster = shop().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ringway.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, shop::ringway_toml(cluster, 6432)).unwrap();
    let (code, out, err) = ringway(&["explain", "-c", path, "SELECT count(*) FROM orders"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("merge: "), "{out}");
    let (code, _, err) = ringway(&["explain", "-c", path, "-d", "nowhere", "SELECT 1"]);
    assert_eq!(code, Some(1));
    for part in [
        "database \"nowhere\" does not exist",
        "DETAIL:  ",
        "HINT:  ",
    ] {
        assert!(err.contains(part), "{err}");
    }
}
