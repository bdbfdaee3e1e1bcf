//! A configuration of each peer is imported, checked and served in front of real servers.

use std::path::{Path, PathBuf};
use std::process::Command;

use ringway::demo::captive::{CaptiveCluster, Server};
use ringway::demo::shop;
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::support::{Ringway, client, cluster, psql};

/// The fixtures of `integration/peers/` with the ports of a cluster, and what `ringway import` says of them.
struct Peers {
    directory: TempDir,
}

impl Peers {
    fn new(cluster: &CaptiveCluster, port: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/peers");
        let replica = |at: usize| {
            let shard = cluster.shards.get(at)?;
            shard.replicas.first().map(|server| server.port)
        };
        let primary = |at: usize| cluster.shards.get(at).map(|shard| shard.primary.port);
        let ports = [
            ("port", Some(port)),
            ("s0", primary(0)),
            ("s1", primary(1)),
            ("r0", replica(0)),
            ("r1", replica(1)),
        ];
        for entry in std::fs::read_dir(fixtures).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let text = ports.iter().fold(text, |text, (name, port)| {
                text.replace(&format!("{{{{{name}}}}}"), &port.unwrap_or(1).to_string())
            });
            std::fs::write(directory.path().join(path.file_name().unwrap()), text).unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The imported configuration, which `ringway check --offline` finds nothing wrong with.
    fn import(&self, names: &[&str]) -> String {
        let out = self.path("ringway.toml");
        let mut command = ringway();
        command.arg("import").arg("-o").arg(&out);
        command.args(names.iter().map(|name| self.path(name)));
        let told = command.output().unwrap();
        let text = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(told.status.success(), "{text}");
        assert!(text.contains("Not carried over:\n- "), "{text}");
        let check = ringway()
            .args(["check", "--offline", "-c"])
            .arg(&out)
            .output()
            .unwrap();
        assert!(
            check.status.success(),
            "{}",
            String::from_utf8_lossy(&check.stdout)
        );
        std::fs::read_to_string(&out).unwrap()
    }
}

fn ringway() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ringway"))
}

/// Starts Ringway with the imported configuration.
fn serve(
    cluster: &CaptiveCluster,
    names: &[&str],
    change: impl Fn(String) -> String,
) -> (Ringway, Peers) {
    let mut peers = None;
    let ringway = Ringway::start(|port| {
        let made = Peers::new(cluster, port);
        // What it names by a relative path lies beside the old configuration.
        let text = made.import(names).replace(
            "\"userlist.txt\"",
            &format!("{:?}", made.path("userlist.txt")),
        );
        peers = Some(made);
        change(text)
    });
    (ringway, peers.unwrap())
}

/// Past Ringway.
async fn direct(server: &Server) -> Client {
    let (client, connection) = server
        .connection()
        .connect(tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

async fn one(client: &Client, sql: &str) -> String {
    let rows = client
        .simple_query(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    let row = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("").to_owned()),
        _ => None,
    });
    row.unwrap_or_default()
}

#[tokio::test]
async fn pgbouncers_is_served() {
    let cluster = tokio::task::spawn_blocking(|| cluster(&shop::spec(1, 0)))
        .await
        .unwrap();
    shop::load(&cluster, shop::Size { customers: 10 })
        .await
        .unwrap();
    let (ringway, _peers) = serve(&cluster, &["pgbouncer.ini"], |text| {
        // The fixture's asker has its password from no list, and Ringway takes it from the environment or here.
        let asker = "auth_user = \"ringway\"\nauth_password = \"captive\"";
        text.replace("auth_user = \"captive\"", asker)
    });
    assert_eq!(psql(&ringway.url(), "SELECT count(*) FROM customers"), "10");
    let of = |database: &str| {
        format!(
            "postgresql://app:app@127.0.0.1:{}/{database}",
            ringway.port()
        )
    };
    // Session mode was PgBouncer's default, transaction mode is the user's own.
    assert_eq!(
        psql(&of("jobs"), "SELECT current_user, current_database()"),
        "app|shop"
    );
    // Statement mode is the database's, and the user's own goes before it, as with PgBouncer.
    let block = psql(&of("reports%20db"), "BEGIN; SELECT 1; COMMIT");
    assert_eq!(block, "1");
    assert_eq!(
        psql(&of("postgres"), "SELECT current_database()"),
        "postgres"
    );
    assert!(psql(&of("pgbouncer"), "SHOW DATABASES").contains("reports db"));
}

const IDS: i64 = 2_000;

/// Two shards whose rows were placed as PgDog and PgCat do, by PostgreSQL's own word for it.
async fn hashed_cluster() -> CaptiveCluster {
    let cluster = tokio::task::spawn_blocking(|| cluster(&shop::spec(2, 1)))
        .await
        .unwrap();
    let keys = [
        ("people", "id bigint", "n - 1000"),
        ("\"Notes\"", "author text", "'author ' || n"),
        (
            "tokens",
            "token uuid",
            "(lpad(to_hex(n * 7919), 8, '0') || '-0000-4000-8000-000000000001')::uuid",
        ),
    ];
    for (at, shard) in cluster.shards.iter().enumerate() {
        let client = direct(&shard.primary).await;
        let mut sql = String::from(
            "CREATE ROLE app LOGIN PASSWORD 'app'; GRANT pg_monitor TO app; CREATE ROLE batch LOGIN PASSWORD 'one';
             CREATE TABLE flags (name text PRIMARY KEY); INSERT INTO flags VALUES ('on');
             CREATE TABLE regions (code text PRIMARY KEY, at int);",
        );
        for (table, column, value) in keys {
            let name = column.split(' ').next().unwrap();
            let parent = format!("parent_{}", table.trim_matches('"').to_lowercase());
            // satisfies_hash_partition is the constraint of a partition: of 2, this shard has one.
            sql += &format!(
                "CREATE TABLE {parent} ({column}, at int) PARTITION BY HASH ({name});
                 CREATE TABLE {table} ({column} PRIMARY KEY, at int);
                 INSERT INTO {table} SELECT key, {at} FROM (SELECT {value} AS key FROM generate_series(1, {IDS}::bigint) n) k
                 WHERE satisfies_hash_partition('{parent}'::regclass, 2, {at}, key);
                 DROP TABLE {parent};"
            );
        }
        sql += "GRANT ALL ON ALL TABLES IN SCHEMA public TO app, batch;";
        client.batch_execute(&sql).await.unwrap();
    }
    cluster.wait_caught_up().unwrap();
    cluster
}

/// A table, its key, the statement that counts misplaced rows, and the n-th key.
type Keyed<'a> = (&'a str, &'a str, &'a str, fn(i64) -> String);

/// What a cluster of `hash % 2` has to answer through Ringway with overrides only.
async fn adopted(ringway: &Ringway, cluster: &CaptiveCluster, tables: &[Keyed<'_>]) {
    let client = client(&ringway.url()).await;
    for (table, key, proof, value) in tables {
        let all = one(&client, &format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(all, IDS.to_string(), "{table}");
        // Each row is found by its key: on the shard that has it.
        for n in (1..=IDS).step_by(7) {
            let sql = format!("SELECT count(*) FROM {table} WHERE {key} = {}", value(n));
            assert_eq!(one(&client, &sql).await, "1", "{sql}");
        }
        // New rows go where the old ones of their hash are.
        for n in IDS + 1..=IDS + 50 {
            let sql = format!("INSERT INTO {table} ({key}) VALUES ({})", value(n));
            client.simple_query(&sql).await.unwrap();
        }
        for (at, shard) in cluster.shards.iter().enumerate() {
            let wrong = shard
                .primary
                .exec(&proof.replace(":shard", &at.to_string()));
            assert_eq!(wrong.unwrap().trim(), "0", "{table} of shard {at}");
        }
    }
}

/// The statements that the import wrote above the tables.
fn proof(config: &str, table: &str) -> String {
    let from = format!("# SELECT count(*) FROM {table} WHERE ");
    let line = config.lines().find(|line| line.starts_with(&from));
    line.unwrap_or_else(|| panic!("{config}"))
        .trim_start_matches("# ")
        .to_owned()
}

#[tokio::test]
async fn pgdogs_and_pgcats_are_served_with_rows_where_they_are() {
    let cluster = hashed_cluster().await;
    let (ringway, _peers) = serve(&cluster, &["pgdog.toml", "users.toml"], |text| text);
    let config = std::fs::read_to_string(ringway.config_file()).unwrap();
    let (people, notes, tokens) = (
        proof(&config, "public.people"),
        proof(&config, "\"Notes\""),
        proof(&config, "tokens"),
    );
    adopted(
        &ringway,
        &cluster,
        &[
            ("people", "id", &people, |n| (n - 1000).to_string()),
            ("\"Notes\"", "author", &notes, |n| format!("'author {n}'")),
            ("tokens", "token", &tokens, |n| {
                format!("'{:08x}-0000-4000-8000-000000000001'", n * 7919)
            }),
        ],
    )
    .await;
    assert_eq!(psql(&ringway.url(), "SELECT name FROM flags"), "on");
    psql(
        &ringway.url(),
        "INSERT INTO regions VALUES ('no', 1), ('dk', 0)",
    );
    for (at, shard) in cluster.shards.iter().enumerate() {
        let rows = shard.primary.exec("SELECT at FROM regions");
        assert_eq!(rows.unwrap().trim(), at.to_string());
    }
    drop(ringway);
    let clean = "DELETE FROM people WHERE at IS NULL";
    for shard in &cluster.shards {
        shard.primary.exec(clean).unwrap();
    }
    cluster.wait_caught_up().unwrap();
    let (ringway, _peers) = serve(&cluster, &["pgcat.toml"], |text| text);
    adopted(
        &ringway,
        &cluster,
        &[("people", "id", &people, |n| (n - 1000).to_string())],
    )
    .await;
    let admin = format!(
        "postgresql://operator:secret@127.0.0.1:{}/pgbouncer",
        ringway.port()
    );
    assert!(psql(&admin, "SHOW DATABASES").contains("shop"));
}
