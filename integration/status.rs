//! The status page and its JSON: against the tables of the admin database, with a real cluster.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ringway::demo::shop;
use ringway::http::status::{DatabaseStatus, Point, PoolStatus, ServerStatus, Status, Trouble};
use tokio_postgres::SimpleQueryRow;

use crate::admin::{cell, free_port, get, show, wait_for};
use crate::support::{Ringway, client, shop};

fn status(http: u16) -> Status {
    let (line, body) = get(http, "/status.json");
    assert_eq!(line, "HTTP/1.1 200 OK");
    serde_json::from_str(&body).unwrap()
}

fn shop_of(status: Status) -> DatabaseStatus {
    assert_eq!(status.databases.len(), 1);
    status.databases.into_iter().next().unwrap()
}

/// In front of the shared shop, with an HTTP port.
async fn with_http() -> (Ringway, u16) {
    let cluster = shop().await;
    let http = free_port();
    let ringway = Ringway::start(|port| {
        let general = format!("[general]\nhttp_listen = \"127.0.0.1:{http}\"");
        shop::ringway_toml(cluster, port).replace("[general]", &general)
    });
    (ringway, http)
}

/// The server's row of SHOW REPLICAS.
fn is(server: &ServerStatus) -> impl Fn(&SimpleQueryRow) -> bool {
    |row| {
        let address = format!("{}:{}", row.get("host").unwrap(), row.get("port").unwrap());
        address == server.address
    }
}

/// How many queries came between two points.
fn queries(points: &[Point]) -> f64 {
    (points[1].at_ms - points[0].at_ms) as f64 / 1000.0 * points[1].queries_per_s
}

#[tokio::test]
async fn the_status_says_what_the_tables_say() {
    let (ringway, http) = with_http().await;
    // The span of each point after the first is known.
    wait_for("a first point of the history", || {
        !shop_of(status(http)).history.is_empty()
    });
    let app = ringway.client().await;
    for id in 1..=20 {
        app.query(
            "SELECT name FROM customers WHERE id = $1",
            &[&i64::from(id)],
        )
        .await
        .unwrap();
    }
    // Its server connections are used until the block ends.
    app.batch_execute("BEGIN; UPDATE customers SET balance = balance WHERE id = 1")
        .await
        .unwrap();
    let admin = client(&shop::url(ringway.port(), "ringway")).await;
    let of_shop = |row: &SimpleQueryRow| row.get("database") == Some("shop");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let history = shop_of(status(http)).history;
        let seen: f64 = history.windows(2).map(queries).sum();
        let stats = show(&admin, "STATS").await;
        let queries: f64 = cell(&stats, "total_query_count", of_shop).parse().unwrap();
        if queries >= 20.0 && (seen - queries).abs() <= 1.0 {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{seen} of {queries}: {history:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What changes by itself is told alike as soon as both are of the same moment.
    let (whole, shards, replicas, pools) = loop {
        let whole = status(http);
        let shards = show(&admin, "SHARDS").await;
        let replicas = show(&admin, "REPLICAS").await;
        let pools = show(&admin, "POOLS").await;
        let shop = shop_of(whole.clone());
        let mut servers = shop.shards.iter().flat_map(|shard| &shard.servers);
        let sum = |of: fn(&PoolStatus) -> u32| shop.pools.iter().map(of).sum::<u32>().to_string();
        if servers.all(|server| server.standing == cell(&replicas, "standing", is(server)))
            && sum(|pool| pool.used) == cell(&pools, "sv_active", of_shop)
            && sum(|pool| pool.idle) == cell(&pools, "sv_idle", of_shop)
        {
            break (whole, shards, replicas, pools);
        }
        assert!(
            Instant::now() < deadline,
            "{shop:?}, {replicas:?}, {pools:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(whole.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(whole.unready, None);
    assert_eq!(
        (whole.config.version, &whole.config.last_reload),
        (1, &None)
    );
    // The application and the admin.
    assert_eq!(whole.clients, 2);
    let shop = shop_of(whole);
    assert_eq!(
        (shop.name.as_str(), shop.clients, shop.waiting),
        ("shop", 1, 0)
    );

    assert_eq!(shop.shards.len(), shards.len());
    for (shard, row) in shop.shards.iter().zip(&shards) {
        assert_eq!(Some(shard.name.as_str()), row.get("shard"));
        assert_eq!(Some(shard.slots.to_string().as_str()), row.get("slots"));
        assert_eq!(Some(shard.weight.to_string().as_str()), row.get("weight"));
        let used: u32 = shard.servers.iter().map(|server| server.used).sum();
        assert_eq!(Some(used.to_string().as_str()), row.get("sv_active"));
        for server in &shard.servers {
            assert_eq!(server.role, cell(&replicas, "role", is(server)));
            let weight = cell(&replicas, "weight", is(server));
            assert_eq!(server.weight.to_string(), weight);
            assert_eq!(server.lag_ms.is_some(), server.role == "replica");
        }
    }
    assert_eq!(cell(&pools, "sv_active", of_shop), "1");
    let databases = show(&admin, "DATABASES").await;
    let limit = cell(&databases, "pool_size", |row| {
        row.get("name") == Some("shop")
    });
    assert!(
        shop.pools
            .iter()
            .all(|pool| pool.limit.to_string() == limit)
    );

    let busy = shop
        .history
        .iter()
        .find(|point| point.p50_us.is_some())
        .unwrap();
    assert!(
        busy.p50_us <= busy.p95_us && busy.p95_us <= busy.p99_us,
        "{busy:?}"
    );
    app.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn the_page_follows_orders_and_reloads_and_tells_no_values() {
    let (ringway, http) = with_http().await;
    let app = ringway.client().await;
    app.simple_query("SELECT name FROM customers WHERE name = 'a secret of 4711'")
        .await
        .unwrap();
    let admin = client(&shop::url(ringway.port(), "ringway")).await;
    admin.batch_execute("PAUSE shop").await.unwrap();
    assert!(shop_of(status(http)).paused);
    admin.batch_execute("RESUME shop").await.unwrap();
    admin.batch_execute("DISABLE shop").await.unwrap();
    let shop = shop_of(status(http));
    assert_eq!((shop.paused, shop.disabled), (false, true));

    let good = std::fs::read_to_string(ringway.config_file()).unwrap();
    std::fs::write(
        ringway.config_file(),
        good.replace("[general]", "[general]\nworkres = 4711"),
    )
    .unwrap();
    admin.batch_execute("RELOAD").await.unwrap_err();
    let reload = status(http).config.last_reload.unwrap();
    let error = reload.error.unwrap();
    assert_eq!(error, "configuration is not valid: line 2 general.workres");
    std::fs::write(ringway.config_file(), &good).unwrap();
    admin.batch_execute("RELOAD").await.unwrap();
    let config = status(http).config;
    assert_eq!(
        (config.version, config.last_reload.unwrap().error),
        (2, None)
    );

    let (_, json) = get(http, "/status.json");
    let (line, page) = get(http, "/");
    assert_eq!(line, "HTTP/1.1 200 OK");
    assert!(page.contains("fetch(\"status.json\""));
    for told in [&json, &page] {
        // A value, a client's address, a password.
        for secret in ["4711", &app_address(&admin).await, "password"] {
            assert!(!told.contains(secret), "{secret}: {told}");
        }
    }
}

/// Address and port of the shop's client.
async fn app_address(admin: &tokio_postgres::Client) -> String {
    let clients = show(admin, "CLIENTS").await;
    let of_shop = |row: &SimpleQueryRow| row.get("database") == Some("shop");
    cell(&clients, "port", of_shop)
}

#[tokio::test]
async fn a_dead_server_shows_as_down_with_its_reason() {
    let cluster = shop().await;
    let (http, dead) = (free_port(), free_port());
    let _ringway = Ringway::start(|port| {
        let general = format!("[general]\nhttp_listen = \"127.0.0.1:{http}\"");
        let toml = shop::ringway_toml(cluster, port).replace("[general]", &general);
        toml.replacen(
            "servers = [",
            &format!("servers = [\"127.0.0.1:{dead}\", "),
            1,
        )
    });
    let server = || {
        let shop = shop_of(status(http));
        shop.shards[0].servers[0].clone()
    };
    wait_for("the dead server is found so", || {
        server().standing == "down"
    });
    let text = format!("1 of 5 servers out: 127.0.0.1:{dead} (down)");
    let told = vec![Trouble { grave: false, text }];
    wait_for("it is told at the top", || {
        shop_of(status(http)).troubles == told
    });
    let server = server();
    assert_eq!(server.address, format!("127.0.0.1:{dead}"));
    assert!(server.error.is_some_and(|error| error.contains("refused")));
    assert_eq!((server.used, server.lag_ms), (0, None));
}

/// What `ringway top` with these arguments exits with and prints.
fn top(args: &[&str]) -> (Option<i32>, String, String) {
    let program = env!("CARGO_BIN_EXE_ringway");
    let output = Command::new(program).arg("top").args(args).output();
    let output = output.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test]
async fn top_prints_what_the_page_shows_or_that_nobody_answers() {
    let (ringway, http) = with_http().await;
    ringway.client().await.query("SELECT 1", &[]).await.unwrap();
    wait_for("a primary", || get(http, "/readyz").0.ends_with("200 OK"));
    let file = ringway.config_file();
    let url = format!("http://127.0.0.1:{http}/");
    for by in [["-c", file.to_str().unwrap()], ["--url", &url]] {
        let (code, out, err) = top(&[by[0], by[1], "--once"]);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.starts_with("Ringway "), "{out}");
        assert!(out.lines().any(|line| line.starts_with("shop  ")), "{out}");
        assert_eq!(out.matches("✓ primary").count(), 2, "{out}");
        assert!(!out.contains('\u{1b}'), "{out}");
    }
    let (code, _, err) = top(&["--url", &url]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("the output is no terminal; use --once"),
        "{err}"
    );
    let (code, _, err) = top(&[
        "--url",
        &format!("http://127.0.0.1:{}/", free_port()),
        "--once",
    ]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("cannot be reached: Connection refused"),
        "{err}"
    );
    let good = std::fs::read_to_string(&file).unwrap();
    let none: Vec<_> = good
        .lines()
        .filter(|line| !line.starts_with("http_listen"))
        .collect();
    std::fs::write(&file, none.join("\n")).unwrap();
    let (code, _, err) = top(&["-c", file.to_str().unwrap(), "--once"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("http_listen is not set"), "{err}");
}

/// On a terminal of its own, which `script` makes.
#[tokio::test]
async fn top_leaves_the_terminal_when_it_is_told_to() {
    let (_ringway, http) = with_http().await;
    for key in ["q", "\u{3}"] {
        // It has no size of its own.
        let command = format!(
            "stty rows 40 cols 120; exec {} top --url http://127.0.0.1:{http}/",
            env!("CARGO_BIN_EXE_ringway")
        );
        let script = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut script) = script else {
            println!("skipped: there is no script(1)");
            return;
        };
        let mut screen = Vec::new();
        let mut out = script.stdout.take().unwrap();
        let mut some = [0; 4_096];
        // The key comes when it has drawn what it fetched.
        while !String::from_utf8_lossy(&screen).contains("primary") {
            let length = out.read(&mut some).unwrap();
            assert!(length > 0, "{}", String::from_utf8_lossy(&screen));
            screen.extend_from_slice(&some[..length]);
        }
        script
            .stdin
            .take()
            .unwrap()
            .write_all(key.as_bytes())
            .unwrap();
        out.read_to_end(&mut screen).unwrap();
        assert_eq!(script.wait().unwrap().code(), Some(0));
        // The alternate screen is left.
        assert!(String::from_utf8_lossy(&screen).contains("\u{1b}[?1049l"));
    }
}
