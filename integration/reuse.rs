//! Reuse of server-side statements for unnamed ones: `reuse_unnamed_statements`.

use ringway::demo::captive::CaptiveCluster;
use ringway::demo::captive::Spec;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::support::wire::{Wire, bind, execute, frame, parse, unnamed};
use crate::support::{self, Ringway};

fn start(cluster: &CaptiveCluster, reuse: bool) -> Ringway {
    let server = cluster.shards[0].primary.port;
    Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\n\
             [users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\nserver_user = \"ringway\"\npool_size = 1\n\
             servers = [\"127.0.0.1:{server}\"]\n\
             reuse_unnamed_statements = {reuse}\n"
        )
    })
}

async fn client(ringway: &Ringway) -> Client {
    let port = ringway.port();
    support::client(&format!("postgresql://ringway@127.0.0.1:{port}/shop")).await
}

/// Parse without a name, Bind, Describe, Execute, Sync.
async fn ask(client: &Client, sql: &str, id: i32) -> Result<Vec<(String, String)>, String> {
    let rows = client.query_typed(sql, &[(&id, Type::INT4)]).await;
    let rows = rows.map_err(|error| error.to_string())?;
    let columns = |row: &tokio_postgres::Row| {
        let columns = row.columns().iter().enumerate();
        let text = |at: usize| match *row.columns()[at].type_() {
            Type::INT4 => row.get::<_, i32>(at).to_string(),
            Type::INT8 => row.get::<_, i64>(at).to_string(),
            _ => row.get::<_, String>(at),
        };
        columns
            .map(|(at, column)| (column.name().to_owned(), text(at)))
            .collect::<Vec<_>>()
    };
    Ok(rows.iter().flat_map(columns).collect())
}

/// Statements of ours that the one server connection has.
async fn prepared(client: &Client) -> String {
    let sql = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'ringway%'";
    let messages = client.simple_query(sql).await.unwrap();
    let row = messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    row.unwrap()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test]
async fn a_repeated_unnamed_statement_is_parsed_once_for_all_clients() {
    let cluster = support::cluster(&Spec::default());
    for (reuse, expected) in [(false, "0"), (true, "1")] {
        let ringway = start(&cluster, reuse);
        let (one, two) = (client(&ringway).await, client(&ringway).await);
        for id in 0..5 {
            for client in [&one, &two] {
                let answer = ask(client, "SELECT $1 + 1 AS more", id).await;
                assert_eq!(answer, Ok(vec![pair("more", &(id + 1).to_string())]));
                // Another text in between, seen too seldom.
                let other = format!("SELECT $1 AS c{id}");
                ask(client, &other, id).await.unwrap();
            }
        }
        assert_eq!(prepared(&one).await, expected, "reuse: {reuse}");
    }
}

#[tokio::test]
async fn a_changed_table_is_answered_as_with_a_fresh_parse() {
    let cluster = support::cluster(&Spec::default());
    let server = &cluster.shards[0].primary;
    server
        .exec("CREATE TABLE t (id int, v int); INSERT INTO t VALUES (1, 10), (2, 20)")
        .unwrap();
    let ringway = start(&cluster, true);
    let client = client(&ringway).await;
    let sql = "SELECT * FROM t WHERE id = $1";
    for _ in 0..6 {
        let answer = ask(&client, sql, 1).await;
        assert_eq!(answer, Ok(vec![pair("id", "1"), pair("v", "10")]));
    }
    assert_eq!(prepared(&client).await, "1");
    // Not through Ringway, so that nothing can have told it.
    server
        .exec("ALTER TABLE t ADD COLUMN w text DEFAULT 'new'")
        .unwrap();
    let wide = || Ok(vec![pair("id", "1"), pair("v", "10"), pair("w", "new")]);
    for _ in 0..6 {
        assert_eq!(ask(&client, sql, 1).await, wide());
    }
    // Several at once: what follows the Bind that failed is sent again with it.
    server
        .exec("ALTER TABLE t ALTER COLUMN v TYPE bigint")
        .unwrap();
    let (first, second) = tokio::join!(ask(&client, sql, 1), ask(&client, sql, 2));
    assert_eq!(first, wide());
    let other = vec![pair("id", "2"), pair("v", "20"), pair("w", "new")];
    assert_eq!(second, Ok(other));
    // An error that a fresh Parse has too is the client's.
    server.exec("DROP TABLE t").unwrap();
    let error = ask(&client, sql, 1).await.unwrap_err();
    assert!(
        error.contains("does not exist") || error.contains("db error"),
        "{error}"
    );
    server.exec("CREATE TABLE t (id int)").unwrap();
    assert_eq!(ask(&client, sql, 1).await, Ok(vec![]));
}

#[tokio::test]
async fn the_time_of_parse_is_not_kept() {
    let cluster = support::cluster(&Spec::default());
    let ringway = start(&cluster, true);
    let client = client(&ringway).await;
    let sql = "SELECT timestamptz 'now'::text AS t, $1 AS n";
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..8 {
        seen.insert(ask(&client, sql, 1).await.unwrap()[0].clone());
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
    assert_eq!(prepared(&client).await, "0");
}

/// One connection, and a text that it knows by a name of Ringway's and that is out of date.
fn out_of_date(cluster: &CaptiveCluster, table: &str) -> (Ringway, Wire, String) {
    let ringway = start(cluster, true);
    let mut wire = Wire::login(ringway.port(), "ringway", "shop").0;
    wire.ask(&format!("CREATE TABLE {table} (a int)"));
    let sql = format!("INSERT INTO {table} (a) VALUES (1) RETURNING *");
    for _ in 0..6 {
        assert_eq!(wire.ask_extended(&[&sql]), "1 INSERT 0 1 I");
    }
    let alter = format!("ALTER TABLE {table} ADD COLUMN b int");
    cluster.shards[0].primary.exec(&alter).unwrap();
    (ringway, wire, sql)
}

#[test]
fn what_is_bound_again_is_no_ones_before_sync() {
    let cluster = support::cluster(&Spec::default());
    let (ringway, mut wire, sql) = out_of_date(&cluster, "rebound");
    let mut next = Wire::login(ringway.port(), "ringway", "shop").0;
    wire.send_bytes(&[unnamed(&sql), frame(b'H', b"")].concat());
    while wire.read().unwrap().tag != b'C' {}
    // Without Sync it is not committed, also if its connection should go on to the next client.
    drop(wire);
    assert_eq!(next.ask("SELECT count(*) FROM rebound"), "6 SELECT 1 I");
    assert_eq!(
        cluster.shards[0]
            .primary
            .exec("SELECT count(*) FROM rebound")
            .unwrap(),
        "6"
    );
}

#[test]
fn a_large_bind_follows_one_that_is_bound_again() {
    let cluster = support::cluster(&Spec::default());
    let (_ringway, mut wire, sql) = out_of_date(&cluster, "before_large");
    let value = "x".repeat(1 << 20);
    let messages = [
        unnamed(&sql),
        parse("big", "SELECT length($1)"),
        bind("", "big", &[&value]),
        execute("", 0),
    ];
    let answer = wire.ask_pipeline(&messages);
    assert!(
        answer.ends_with(" INSERT 0 1 1048576 SELECT 1 I"),
        "{answer}"
    );
    assert_eq!(
        wire.ask("SELECT count(*) FROM before_large"),
        "7 SELECT 1 I"
    );
}
