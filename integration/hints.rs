//! What a session says about its reads: hints, tokens, causal keys. A replica that does not replay shows
//! who would have read the past; each promise comes with a control that must break it.

use std::time::{Duration, Instant};

use ringway::demo::captive::{CaptiveCluster, Spec};
use tokio_postgres::Client;

use crate::support::{self, Ringway};

const LIMIT: Duration = Duration::from_secs(20);

/// A primary with a replica, and a row.
fn start() -> CaptiveCluster {
    let cluster = support::cluster(&Spec {
        replicas: 1,
        ..Spec::default()
    });
    let shard = &cluster.shards[0];
    let table = "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL); INSERT INTO t VALUES (1, 0)";
    shard.primary.exec(table).unwrap();
    cluster.wait_caught_up().unwrap();
    cluster
}

/// The replica stays at what it has replayed.
fn pause(cluster: &CaptiveCluster) {
    let replica = &cluster.shards[0].replicas[0];
    replica.exec("SELECT pg_wal_replay_pause()").unwrap();
    let state = "SELECT pg_get_wal_replay_pause_state()";
    replica.wait_for(state, "paused", LIMIT).unwrap();
}

fn resume(cluster: &CaptiveCluster) {
    let replica = &cluster.shards[0].replicas[0];
    replica.exec("SELECT pg_wal_replay_resume()").unwrap();
    cluster.wait_caught_up().unwrap();
}

/// `general` is for the first section, `reads` for that of the reads.
fn ringway(cluster: &CaptiveCluster, general: &str, reads: &str) -> Ringway {
    let shard = &cluster.shards[0];
    let (primary, replica) = (shard.primary.port, shard.replicas[0].port);
    Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\n{general}\n[users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\nservers = [\"127.0.0.1:{primary}\", \"127.0.0.1:{replica}\"]\n\
             [databases.shop.reads]\nsplit = true\nmax_lag_ms = 60000\npoll_interval_ms = 20\n{reads}\n"
        )
    })
}

async fn connect(ringway: &Ringway, options: &str) -> Client {
    let port = ringway.port();
    let url = format!("host=127.0.0.1 port={port} user=ringway dbname=shop options='{options}'");
    support::client(&url).await
}

async fn show(client: &Client, name: &str) -> String {
    let row = client.query_one(&format!("SHOW {name}"), &[]).await;
    row.unwrap().get(0)
}

/// What the row holds, and the server that says so.
async fn read(client: &Client, comment: &str) -> (i32, u16) {
    let sql = format!("{comment} SELECT v, inet_server_port() FROM t WHERE id = 1");
    let row = client.query_one(&sql, &[]).await.unwrap();
    (row.get(0), row.get::<_, i32>(1) as u16)
}

async fn write(client: &Client, v: i32) {
    let sql = format!("UPDATE t SET v = {v} WHERE id = 1");
    client.batch_execute(&sql).await.unwrap();
}

async fn code(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let code = error.code().map(|code| code.code().to_owned());
    code.unwrap_or_else(|| error.to_string())
}

async fn until_on(client: &Client, port: u16) {
    let found = async {
        while read(client, "").await.1 != port {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, found)
        .await
        .expect("a read on that server");
}

/// New sessions read until one does not see `v`; `options` are for the attempt of that number.
async fn until_stale(ringway: &Ringway, v: i32, options: impl Fn(u32) -> String) {
    let deadline = Instant::now() + LIMIT;
    for attempt in 0.. {
        let client = connect(ringway, &options(attempt)).await;
        if read(&client, "").await.0 != v {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "the control shows nothing: all see {v}"
        );
    }
}

fn no_options(_: u32) -> String {
    String::new()
}

#[tokio::test]
async fn a_token_carries_freshness_to_another_process() {
    let cluster = start();
    let replica = cluster.shards[0].replicas[0].port;
    let [here, there] = ["", ""].map(|general| ringway(&cluster, general, ""));
    let writer = connect(&here, "").await;
    let [control, set, after] = [
        connect(&there, "").await,
        connect(&there, "").await,
        connect(&there, "").await,
    ];
    let mut opened = None;
    for v in 1..=40 {
        if v % 10 == 1 {
            resume(&cluster);
            for client in [&control, &set, &after] {
                until_on(client, replica).await;
            }
            pause(&cluster);
        }
        write(&writer, v).await;
        let token = show(&writer, "ringway.token").await;
        until_stale(&there, v, no_options).await;
        let sql = format!("SET ringway.token = '{token}'");
        set.batch_execute(&sql).await.unwrap();
        assert_eq!(read(&set, "").await.0, v, "{token}");
        let comment = format!("/* ringway: after={token} */");
        assert_eq!(read(&after, &comment).await.0, v, "{token}");
        if v % 10 == 0 {
            let client = connect(&there, &format!("-c ringway.token={token}")).await;
            assert_eq!(read(&client, "").await.0, v, "{token}");
            opened = Some(client);
        }
    }
    // Nothing keeps them from the replica once it has caught up.
    resume(&cluster);
    for client in [&set, &after, &opened.unwrap()] {
        until_on(client, replica).await;
        assert_eq!(read(client, "").await.0, 40);
    }
    // What a session has only read is in its token, too.
    until_on(&control, replica).await;
    pause(&cluster);
    write(&writer, 41).await;
    let token = show(&writer, "ringway.token").await;
    set.batch_execute(&format!("SET ringway.route = 'after={token}'"))
        .await
        .unwrap();
    assert_eq!(read(&set, "").await.0, 41);
    let passed_on = show(&set, "ringway.token").await;
    let comment = format!("/* ringway: after={passed_on} */");
    assert_eq!(read(&control, &comment).await.0, 41);
}

#[tokio::test]
async fn tokens_bind_in_modes_without_marks() {
    let cluster = start();
    let replica = cluster.shards[0].replicas[0].port;
    for freshness in ["bounded", "off"] {
        let ringway = ringway(&cluster, "", &format!("freshness = \"{freshness}\""));
        let writer = connect(&ringway, "").await;
        let reader = connect(&ringway, "").await;
        until_on(&writer, replica).await;
        let before = read(&reader, "/* ringway: primary */").await.0;
        pause(&cluster);
        for v in before + 1..before + 11 {
            write(&writer, v).await;
            let deadline = Instant::now() + LIMIT;
            while read(&writer, "").await.0 == v {
                assert!(Instant::now() < deadline, "{freshness} promises nothing");
            }
            let token = show(&writer, "ringway.token").await;
            let comment = format!("/* ringway: after={token} */");
            assert_eq!(read(&reader, &comment).await.0, v, "{freshness}");
        }
        resume(&cluster);
    }
}

#[tokio::test]
async fn a_token_of_other_servers_is_refused() {
    let cluster = start();
    let ringway = ringway(&cluster, "", "");
    let client = connect(&ringway, "").await;
    assert_eq!(
        show(&client, "ringway.token").await,
        "1",
        "nothing was done yet"
    );
    write(&client, 1).await;
    let token = show(&client, "ringway.token").await;
    let [shard, system, timeline, lsn] = {
        let fields: Vec<_> = token.strip_prefix("1~").unwrap().split(':').collect();
        <[&str; 4]>::try_from(fields).unwrap().map(str::to_owned)
    };
    for wrong in [
        format!("1~other:{system}:{timeline}:{lsn}"),
        format!("1~{shard}:12345:{timeline}:{lsn}"),
        format!("1~{shard}:{system}:7:{lsn}"),
        format!("2~{shard}:{system}:{timeline}:{lsn}"),
        token[..token.len() / 2].to_owned(),
    ] {
        let sql = format!("SET ringway.token = '{wrong}'");
        assert_eq!(code(&client, &sql).await, "22023", "{sql}");
        let sql = format!("/* ringway: after={wrong} */ SELECT v FROM t");
        assert_eq!(code(&client, &sql).await, "22023", "{sql}");
    }
    assert_eq!(code(&client, "RESET ringway.token").await, "55P02");
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(code(&client, "SHOW ringway.token").await, "25001");
    client.batch_execute("ROLLBACK").await.unwrap();
    client
        .batch_execute("SET ringway.token = '1'")
        .await
        .unwrap();
}

#[tokio::test]
async fn sessions_with_one_causal_key_see_each_others_writes() {
    let cluster = start();
    let replica = cluster.shards[0].replicas[0].port;
    let ringway = ringway(&cluster, "", "");
    let writer = connect(&ringway, "-c ringway.causal_key=user:42").await;
    let reader = connect(&ringway, "").await;
    let sql = "SET ringway.causal_key = 'user:42'";
    reader.batch_execute(sql).await.unwrap();
    assert_eq!(show(&reader, "ringway.causal_key").await, "user:42");
    for v in 1..=40 {
        if v % 10 == 1 {
            resume(&cluster);
            until_on(&reader, replica).await;
            pause(&cluster);
        }
        write(&writer, v).await;
        assert_eq!(read(&reader, "").await.0, v);
        let other = |attempt| format!("-c ringway.causal_key=other:{v}:{attempt}");
        until_stale(&ringway, v, other).await;
    }
    resume(&cluster);
    until_on(&reader, replica).await;
    assert_eq!(read(&reader, "").await.0, 40);
}

#[tokio::test]
async fn a_causal_key_holds_over_processes_that_are_told_of_each_other() {
    let cluster = start();
    let replica = cluster.shards[0].replicas[0].port;
    let here = ringway(&cluster, "", "");
    let directory = tempfile::tempdir().unwrap();
    let general = format!("run_directory = \"{}\"", directory.path().display());
    let there = ringway(&cluster, &general, "");
    let key = "-c ringway.causal_key=user:42";
    let writer = connect(&here, key).await;
    let reader = connect(&there, key).await;
    let control = connect(&there, "").await;
    until_on(&control, replica).await;
    pause(&cluster);
    for v in 1..=40 {
        write(&writer, v).await;
        assert_eq!(read(&reader, "").await.0, v);
        until_stale(&there, v, no_options).await;
    }
}

#[tokio::test]
async fn max_lag_keeps_a_read_off_a_late_replica() {
    let cluster = start();
    let shard = &cluster.shards[0];
    let (primary, replica) = (shard.primary.port, shard.replicas[0].port);
    // Without marks, so that nothing but lag decides.
    let ringway = ringway(&cluster, "", "freshness = \"bounded\"");
    let writer = connect(&ringway, "").await;
    until_on(&writer, replica).await;
    let comment = "/* ringway: max_lag=300ms */";
    pause(&cluster);
    write(&writer, 1).await;
    // From now on the replica falls behind.
    let found = async {
        while read(&connect(&ringway, "").await, comment).await != (1, primary) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, found)
        .await
        .expect("the primary's answer");
    let fresh = connect(&ringway, "").await;
    let found = async {
        while read(&fresh, "").await != (0, replica) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, found)
        .await
        .expect("max_lag_ms allows the replica");
    let sql = "SET ringway.route = 'replica, max_lag=300ms ttl=1h'";
    fresh.batch_execute(sql).await.unwrap();
    assert_eq!(read(&fresh, "").await, (1, primary));
    resume(&cluster);
    until_on(&fresh, replica).await;
    assert_eq!(read(&fresh, "").await.0, 1);
}

#[tokio::test]
async fn hints_hold_for_a_statement_a_transaction_or_a_time() {
    let cluster = start();
    let shard = &cluster.shards[0];
    let (primary, replica) = (shard.primary.port, shard.replicas[0].port);
    let ringway = ringway(&cluster, "", "");
    let client = connect(&ringway, "-c ringway.route=primary").await;
    assert_eq!(show(&client, "ringway.route").await, "primary");
    assert_eq!(read(&client, "").await.1, primary);
    client.batch_execute("RESET ringway.route").await.unwrap();
    until_on(&client, replica).await;
    assert_eq!(read(&client, "/* ringway: primary */").await.1, primary);
    until_on(&client, replica).await;

    client.batch_execute("BEGIN").await.unwrap();
    let sql = "SET LOCAL ringway.route = 'replica'";
    client.batch_execute(sql).await.unwrap();
    assert_eq!(show(&client, "ringway.route").await, "replica");
    assert_eq!(code(&client, "UPDATE t SET v = 5").await, "25006");
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(show(&client, "ringway.route").await, "auto");
    client.batch_execute("UPDATE t SET v = 5").await.unwrap();
    // Outside a block it warns and does nothing.
    client.batch_execute(sql).await.unwrap();
    assert_eq!(show(&client, "ringway.route").await, "auto");

    until_on(&client, replica).await;
    let sql = "SET ringway.route = 'primary ttl=5s'";
    client.batch_execute(sql).await.unwrap();
    assert_eq!(read(&client, "").await.1, primary);
    until_on(&client, replica).await;
    assert_eq!(show(&client, "ringway.route").await, "auto");

    for wrong in [
        "SET ringway.route = 'primry'",
        "SET ringway.route = 'primary, replica'",
        "SET ringway.route = 'max_lag=5'",
        "/* ringway: primary ttl=5s */ SELECT 1",
        "/* ringway: key=1 */ SELECT 1",
        "/* ringway: shard=nowhere */ SELECT 1",
    ] {
        assert_eq!(code(&client, wrong).await, "22023", "{wrong}");
    }
    let sql = "SET ringway.nothing = 1";
    assert_eq!(code(&client, sql).await, "42704");
}

/// What would reach PostgreSQL, where it means nothing, is refused.
#[tokio::test]
async fn settings_of_ringway_among_other_statements_are_refused() {
    let cluster = start();
    let ringway = ringway(&cluster, "", "");
    let client = connect(&ringway, "").await;
    for sql in [
        "SET ringway.route = 'primary'; SELECT 1",
        "SELECT 1; SET LOCAL ringway.route = 'primary'",
        "BEGIN; SET LOCAL ringway.route = 'primary'",
        "SELECT 1; RESET ringway.route",
        "SELECT 1; SHOW ringway.token",
        "SELECT set_config('ringway.route', 'primary', false)",
        "SELECT pg_catalog.set_config('Ringway.Route', 'primary', true)",
        "SELECT 1; SELECT set_config('ringway.causal_key', 'a', false)",
        "WITH x AS (SELECT set_config('ringway.route', 'primary', true)) SELECT FROM x",
    ] {
        assert_eq!(code(&client, sql).await, "0A000", "{sql}");
        let _ = client.batch_execute("ROLLBACK").await;
        if sql.starts_with("SELECT set") || sql.starts_with("SELECT pg") {
            let error = client.query(sql, &[]).await.unwrap_err();
            assert_eq!(error.code().unwrap().code(), "0A000", "prepared: {sql}");
        }
    }
    let sql = "SELECT set_config($1, 'primary', false)";
    let error = client.query(sql, &[&"ringway.route"]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "0A000", "as a parameter");
    // Others are PostgreSQL's, as ever.
    for sql in [
        "SELECT set_config('app.x', 'y', true)",
        "SET app.x = 'y'; SELECT 1",
        "SELECT set_config('app.x', 'y', false)",
    ] {
        client.batch_execute(sql).await.expect(sql);
    }
    assert_eq!(show(&client, "app.x").await, "y");
    assert_eq!(show(&client, "ringway.route").await, "auto");
}

#[tokio::test]
async fn explain_route_tells_what_hints_say() {
    let cluster = support::shop().await;
    let ringway = Ringway::of_shop().await;
    let client = ringway.client().await;
    let explain = async |sql: &str| -> Vec<String> {
        let rows = client.query(sql, &[]).await.expect(sql);
        let lines = rows.iter().map(|row| row.get(0)).collect::<Vec<String>>();
        let simple = support::psql(&ringway.url(), sql);
        if show(&client, "ringway.route").await == "auto" {
            assert_eq!(lines.join("\n"), simple, "{sql}");
        }
        lines
    };
    let has = |lines: &[String], line: &str| lines.iter().any(|other| other == line);
    let select = "SELECT * FROM customers WHERE id = 1";
    let lines = explain(&format!("EXPLAIN (ROUTE) {select}")).await;
    assert!(has(&lines, "role: replica or primary"), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("hints:")));
    for sql in [
        format!("/* ringway: primary */ EXPLAIN (ROUTE) {select}"),
        format!("EXPLAIN (ROUTE) /* ringway: primary */ {select}"),
    ] {
        let lines = explain(&sql).await;
        assert!(has(&lines, "hints: primary"), "{lines:?}");
        assert!(
            has(&lines, "reason: a hint asks for the primary"),
            "{lines:?}"
        );
    }
    assert_eq!(cluster.shards.len(), 2);
    let shard = "s2";
    let sql = format!("EXPLAIN (ROUTE) /* ringway: shard={shard}, replica */ {select}");
    let lines = explain(&sql).await;
    assert!(has(&lines, &format!("shards: {shard}")), "{lines:?}");
    for (hint, refusal) in [
        ("primry", "refused: unknown ringway hint: primry"),
        ("shard=no", "refused: shard \"no\" does not exist"),
        (
            "primary, replica",
            "refused: conflicting ringway hints: primary, replica",
        ),
    ] {
        let lines = explain(&format!("EXPLAIN (ROUTE) /* ringway: {hint} */ {select}")).await;
        assert_eq!(lines[0], refusal);
    }
    client
        .batch_execute("SET ringway.route = 'replica ttl=1h'")
        .await
        .unwrap();
    let lines = explain("EXPLAIN (ROUTE) DELETE FROM customers WHERE id = 1").await;
    assert!(
        lines[0].starts_with("refused: the hint asks for a replica"),
        "{lines:?}"
    );
    let lines = explain(&format!("EXPLAIN (ROUTE) {select}")).await;
    assert!(has(&lines, "hints: replica"), "{lines:?}");
}

/// Each way to say it, in both protocols: wrong hints are errors and nothing runs.
#[tokio::test]
async fn wrong_hints_are_errors_in_all_doors() {
    let cluster = start();
    let ringway = ringway(&cluster, "", "");
    let client = connect(&ringway, "").await;
    for wrong in [
        "primry",
        "primary replica",
        "primary max_lag=1s",
        "max_lag=5",
        "ttl=5s",
        "after=x",
        "shard=main shard=main",
    ] {
        let insert = format!("/* ringway: {wrong} */ INSERT INTO t VALUES (9, 9)");
        assert_eq!(code(&client, &insert).await, "22023", "{insert}");
        let error = client.execute(&insert, &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "22023", "prepared: {insert}");
        for set in ["SET", "SET LOCAL"] {
            let sql = format!("{set} ringway.route = '{wrong}'");
            assert_eq!(code(&client, &sql).await, "22023", "{sql}");
            let error = client.execute(&sql, &[]).await.unwrap_err();
            assert_eq!(error.code().unwrap().code(), "22023", "prepared: {sql}");
        }
        let escaped = wrong.replace(' ', "\\\\ ");
        let port = ringway.port();
        let url = format!(
            "host=127.0.0.1 port={port} user=ringway dbname=shop options='-c ringway.route={escaped}'"
        );
        let error = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
        let error = error.err().expect(wrong);
        assert_eq!(error.code().expect(wrong).code(), "22023", "{url}");
    }
    let row = client
        .query_one("SELECT count(*) FROM t", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 1, "nothing ran");
}

#[tokio::test]
async fn a_key_names_the_shard_that_owns_it() {
    let cluster = support::shop().await;
    let ringway = Ringway::of_shop().await;
    let client = ringway.client().await;
    let mut found = Vec::new();
    for id in 1..=8 {
        let sql = format!("SELECT inet_server_port() FROM customers WHERE id = {id}");
        let sql = format!("/* ringway: primary */ {sql}");
        let owner: i32 = client.query_one(&sql, &[]).await.unwrap().get(0);
        let sql = format!("/* ringway: key={id}, primary */ SELECT inet_server_port()");
        let row = client.query_one(&sql, &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), owner, "key {id}");
        found.push(owner);
    }
    let ports = cluster.shards.iter().map(|shard| shard.primary.port);
    for port in ports {
        assert!(
            found.contains(&i32::from(port)),
            "no key of {port}: {found:?}"
        );
    }
    assert_eq!(
        code(&client, "/* ringway: key=x */ SELECT 1").await,
        "22P02"
    );
}
