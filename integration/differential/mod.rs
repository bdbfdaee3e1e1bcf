//! The same rows in one plain PostgreSQL and over two shards, the same SQL: the same answer, or a
//! refusal before anything ran. After every write the tables' rows are compared as well.
//!
//! The statements are in `reads.sql` and `writes.sql`, in the format of the demo's tour. A block
//! without flags must be answered alike, `refused` must be refused, `maybe` may be either (what one
//! protocol can do and the other cannot), `ordered` compares the order of rows too.

use std::fmt::Write;

use planner::Topology;
use planner::ring::SLOTS;
use planner::topology::ShardWeight;
use ringway::demo::answer::{Answer, Protocol, ask};
use ringway::demo::captive::{CaptiveCluster, Server, ShardServers, Spec};
use ringway::demo::tour::{self, Block, Expect, Statement};
use tokio_postgres::Client;

use crate::support::{self, Ringway};

/// A file beside this one, read when the test runs so that new statements need no build.
fn file(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/differential/");
    std::fs::read_to_string(format!("{path}{name}")).unwrap()
}

const SHARDS: usize = 2;

/// Sharded tables with their keys, as the configuration writes them, and where their rows are.
const SHARDED: [(&str, &str, Placed); 15] = [
    ("people", "'id'", Placed::Hashed(Hash::Integer)),
    ("orders", "'person_id'", Placed::Hashed(Hash::Integer)),
    ("items", "'person_id'", Placed::Hashed(Hash::Integer)),
    ("tiny", "'id'", Placed::Hashed(Hash::Integer)),
    ("mid", "'id'", Placed::Hashed(Hash::Integer)),
    ("plots", "'id'", Placed::Hashed(Hash::Integer)),
    ("words", "'word'", Placed::Hashed(Hash::Text)),
    ("nicks", "'nick'", Placed::Hashed(Hash::Text)),
    ("tokens", "'id'", Placed::Hashed(Hash::Uuid)),
    ("\"Mixed Case\"", "'\"Key\"'", Placed::Hashed(Hash::Integer)),
    ("prices", "'price'", Placed::Hashed(Hash::Numeric)),
    ("visits", "'day'", Placed::Hashed(Hash::Date)),
    ("parcels", "['tenant', 'code']", Placed::Hashed(Hash::Pair)),
    (
        "branches",
        "'country', by = 'by_country'",
        Placed::On(["country <> 'DK'", "country = 'DK'"]),
    ),
    (
        "readings",
        "'sensor', by = 'by_sensor'",
        Placed::On([
            "sensor < 10 OR sensor >= 20",
            "sensor >= 10 AND sensor < 20",
        ]),
    ),
];

/// The rules of `branches` and `readings`; sensors from 30 on have no shard.
const PLACEMENTS: &str =
    "by_country = { list = { s0 = ['NO', 'SE'], s1 = ['DK'] }, default = 's0' }
by_sensor = { ranges = [
  { to = 10, shard = 's0' },
  { from = 10, to = 20, shard = 's1' },
  { from = 20, to = 30, shard = 's0' },
] }
";

/// What gives a row its shard.
#[derive(Debug, Clone, Copy)]
enum Placed {
    Hashed(Hash),
    /// By shard, the condition of its rows.
    On([&'static str; SHARDS]),
}

impl Placed {
    /// The condition of rows that do not belong on `shard`.
    fn stranger(self, key: &str, shard: usize) -> String {
        match self {
            Self::Hashed(hash) => {
                let slot = hash.slot(key.trim_matches('\''));
                format!("{slot} NOT IN (SELECT slot FROM placement.owned)")
            }
            Self::On(conditions) => format!("NOT ({})", conditions[shard]),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Hash {
    Integer,
    Text,
    Uuid,
    Numeric,
    Date,
    /// The key of `parcels`.
    Pair,
}

impl Hash {
    /// The slot of `key` by PostgreSQL's own functions.
    fn slot(self, key: &str) -> String {
        const SEED: &str = "8816678312871386365";
        let hash = match self {
            Self::Integer => format!("hashint8extended({key}::bigint, {SEED})"),
            Self::Text => format!("hashtextextended({key}::text COLLATE \"C\", {SEED})"),
            Self::Uuid => format!("uuid_hash_extended({key}, {SEED})"),
            Self::Numeric => format!("hash_numeric_extended({key}, {SEED})"),
            Self::Date => format!("hashint4extended({key} - date '2000-01-01', {SEED})"),
            Self::Pair => {
                // hash_combine64, as far as its last 14 bits need it.
                let first = format!("hashint8extended(tenant, {SEED})");
                let first = format!("((({first} & 2097151) + 370915) & 2097151)");
                let second = format!("hashtextextended(code COLLATE \"C\", {SEED})");
                return format!(
                    "(({first} & 16383) # ((({second} & 16383) + 10467 + ({first} >> 7)) & 16383))"
                );
            }
        };
        format!("((({hash} & 16383) + 10467) & 16383)")
    }
}

/// One plain server, the shards, and Ringway in front of them: one database per protocol, so that
/// each sees the rows that the statements were written for.
struct World {
    plain: CaptiveCluster,
    shards: CaptiveCluster,
    ringway: Ringway,
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Simple => "simple",
        Protocol::Extended => "extended",
    }
}

impl World {
    fn start() -> Self {
        let spec = |shards| Spec {
            shards,
            database: name(Protocol::Simple).to_owned(),
            settings: vec![("timezone".to_owned(), "Europe/Oslo".to_owned())],
            ..Spec::default()
        };
        let (plain, shards) = (support::cluster(&spec(1)), support::cluster(&spec(SHARDS)));
        let (schema, single) = (file("schema.sql"), file("single.sql"));
        for (at, server) in plain.shards.iter().chain(&shards.shards).enumerate() {
            let server = &server.primary;
            let extended = name(Protocol::Extended);
            server
                .exec_in("postgres", &format!("CREATE DATABASE {extended}"))
                .unwrap();
            for database in [name(Protocol::Simple), extended] {
                server.exec_in(database, &schema).unwrap();
                // The plain server, then the shards.
                if at < 2 {
                    server.exec_in(database, &single).unwrap();
                }
                if let Some(shard) = at.checked_sub(1) {
                    server.exec_in(database, &strangers(shard)).unwrap();
                }
            }
        }
        let ringway = Ringway::start(|port| config(&shards, port));
        Self {
            plain,
            shards,
            ringway,
        }
    }

    async fn clients(&self, protocol: Protocol) -> (Client, Client) {
        let url = |port| format!("postgresql://ringway@127.0.0.1:{port}/{}", name(protocol));
        let plain = self.plain.shards[0].primary.port;
        (
            support::client(&url(self.ringway.port())).await,
            support::client(&url(plain)).await,
        )
    }

    /// How the tables' rows differ from the plain server's, and how many rows are on shards that
    /// do not own them.
    fn differences(&self, protocol: Protocol) -> Vec<String> {
        let database = name(protocol);
        let plain = &self.plain.shards[0].primary;
        let mut found = Vec::new();
        let sharded: Vec<&str> = SHARDED.iter().map(|(table, _, _)| *table).collect();
        let mut all = Vec::new();
        for (at, ShardServers { primary, .. }) in self.shards.shards.iter().enumerate() {
            all.extend(rows(primary, database, &sharded));
            let strangers = primary.exec_in(database, &count_of_strangers(at)).unwrap();
            if strangers != "0" {
                found.push(format!("{strangers} rows on shard {at} belong elsewhere"));
            }
            if rows(primary, database, &["countries"]) != rows(plain, database, &["countries"]) {
                found.push(format!("countries of shard {at} differ"));
            }
        }
        all.sort_unstable();
        let mut wanted = rows(plain, database, &sharded);
        wanted.sort_unstable();
        let differs = all.iter().zip(&wanted).find(|(row, wanted)| row != wanted);
        if let Some((row, wanted)) = differs {
            found.push(format!("{row}, not {wanted}"));
        } else if all.len() != wanted.len() {
            found.push(format!("{} sharded rows, not {}", all.len(), wanted.len()));
        }
        let first = &self.shards.shards[0].primary;
        if rows(first, database, &["notes"]) != rows(plain, database, &["notes"]) {
            found.push("notes differ".to_owned());
        }
        found
    }
}

/// The rows of some tables, each with its table's name before it.
fn rows(server: &Server, database: &str, tables: &[&str]) -> Vec<String> {
    let row = |table: &&str| format!("SELECT '{table}: ' || t::text FROM {table} AS t");
    let all: Vec<String> = tables.iter().map(row).collect();
    let sql = format!("{} ORDER BY 1", all.join(" UNION ALL "));
    let answer = server.exec_in(database, &sql).unwrap();
    answer.lines().map(str::to_owned).collect()
}

/// Counts a shard's rows that belong elsewhere.
fn count_of_strangers(shard: usize) -> String {
    let strangers: Vec<String> = SHARDED
        .iter()
        .map(|(table, key, placed)| {
            let stranger = placed.stranger(key, shard);
            format!("SELECT 1 FROM {table} WHERE {stranger}")
        })
        .collect();
    format!(
        "SELECT count(*) FROM ({}) AS rows",
        strangers.join(" UNION ALL ")
    )
}

/// Numbers of the shard's slots, parted by commas.
fn owned(shard: usize) -> String {
    let weight = |at| ShardWeight {
        name: format!("s{at}"),
        weight: 1,
    };
    let topology = Topology::new((0..SHARDS).map(weight).collect(), &[]);
    let owned = (0..SLOTS as u16).filter(|slot| usize::from(topology.owner(*slot).0) == shard);
    let numbers: Vec<String> = owned.map(|slot| slot.to_string()).collect();
    numbers.join(",")
}

/// Notes the shard's slots and removes the rows that belong elsewhere.
fn strangers(shard: usize) -> String {
    let owned = owned(shard);
    let mut sql = format!(
        "CREATE SCHEMA placement;
         CREATE TABLE placement.owned AS SELECT unnest('{{{owned}}}'::bigint[]) AS slot;"
    );
    for (table, key, placed) in SHARDED {
        let stranger = placed.stranger(key, shard);
        let _ = write!(sql, "DELETE FROM {table} WHERE {stranger};");
    }
    sql
}

fn config(shards: &CaptiveCluster, port: u16) -> String {
    let mut toml =
        format!("[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n");
    for protocol in [Protocol::Simple, Protocol::Extended] {
        let database = name(protocol);
        let _ = writeln!(
            toml,
            "[databases.{database}]\nserver_user = \"ringway\"\n\
             [databases.{database}.placements]\n{PLACEMENTS}[databases.{database}.tables]"
        );
        for (table, key, _) in SHARDED {
            let _ = writeln!(toml, "'{table}' = {{ key = {key} }}");
        }
        let _ = writeln!(
            toml,
            "countries = \"reference\"\nnotes = {{ shard = \"s0\" }}\nnumbered = {{ key = \"id\" }}"
        );
        for (at, shard) in shards.shards.iter().enumerate() {
            let _ = writeln!(
                toml,
                "[[databases.{database}.shards]]\nname = \"s{at}\"\nservers = [\"127.0.0.1:{}\"]",
                shard.primary.port
            );
        }
    }
    toml
}

/// Runs one statement on both. The plain server does not see what was refused, so that both keep
/// the same rows; in a transaction block it sees an error instead, as the client did.
async fn run(
    ringway: &Client,
    plain: &Client,
    block: &Block,
    statement: &Statement,
    protocol: Protocol,
    in_block: bool,
) -> Result<(), String> {
    let got = ask(ringway, statement, protocol).await;
    if got.is_refusal() {
        if in_block {
            let _ = plain.batch_execute("refused").await;
        }
        return match block.expect {
            Expect::Same => Err(format!("refused: {}", got.summary())),
            Expect::SameOrRefused | Expect::Refused => Ok(()),
        };
    }
    if block.expect == Expect::Refused {
        let summary = got.summary();
        // To see what it would have had to be.
        let wanted = ask(plain, statement, protocol).await;
        return Err(format!(
            "not refused: {summary}; plain: {}",
            wanted.summary()
        ));
    }
    let wanted = ask(plain, statement, protocol).await;
    let alike = match (&got, &wanted) {
        (
            Answer::Failed { code, message, .. },
            Answer::Failed {
                code: wanted_code,
                message: wanted_message,
                ..
            },
        ) => code == wanted_code && message == wanted_message,
        _ if block.ordered => comparable(&got) == comparable(&wanted),
        _ => comparable(&got).unordered() == comparable(&wanted).unordered(),
    };
    if alike {
        Ok(())
    } else {
        Err(format!("ringway: {} plain: {}", full(&got), full(&wanted)))
    }
}

/// The answer without OIDs of types that are not built in: every database has its own.
fn comparable(answer: &Answer) -> Answer {
    const FIRST_NORMAL_OID: u32 = 16384;
    match answer.clone() {
        Answer::Rows { mut columns, rows } => {
            for (_, type_oid) in &mut columns {
                if *type_oid >= FIRST_NORMAL_OID {
                    *type_oid = 0;
                }
            }
            Answer::Rows { columns, rows }
        }
        other => other,
    }
}

/// An answer with all its rows, shortened.
fn full(answer: &Answer) -> String {
    let Answer::Rows { columns, rows } = answer else {
        return answer.summary();
    };
    let value = |value: &Option<Vec<u8>>| match value {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => "NULL".to_owned(),
    };
    let rows: Vec<String> = rows
        .iter()
        .map(|row| row.iter().map(value).collect::<Vec<_>>().join(","))
        .collect();
    let text = format!("{} rows {columns:?} {}", rows.len(), rows.join(";"));
    text.escape_debug().take(400).collect()
}

/// Runs every block of `text` in both protocols; with `writes`, compares the tables after each.
async fn differences(name_of_file: &str, writes: bool) -> Vec<String> {
    let world = tokio::task::spawn_blocking(World::start).await.unwrap();
    let blocks = tour::parse(&file(name_of_file)).unwrap();
    let mut found = Vec::new();
    for protocol in [Protocol::Simple, Protocol::Extended] {
        let (mut ringway, plain) = world.clients(protocol).await;
        for block in &blocks {
            let mut in_block = false;
            for statement in &block.statements {
                let upper = statement.sql.to_uppercase();
                if upper.starts_with("BEGIN") || upper.starts_with("START") {
                    in_block = true;
                }
                let outcome = run(&ringway, &plain, block, statement, protocol, in_block).await;
                if ["COMMIT", "ROLLBACK", "END", "ABORT"].contains(&upper.as_str()) {
                    in_block = false;
                }
                if let Err(difference) = outcome {
                    found.push(format!(
                        "[{}] {protocol:?}: {}\n        {difference}",
                        block.title, statement.sql
                    ));
                }
                if ringway.is_closed() {
                    found.push(format!("[{}] connection lost", block.title));
                    ringway = world.clients(protocol).await.0;
                }
            }
            if writes && found.is_empty() {
                let rows = world.differences(protocol);
                found.extend(
                    rows.iter()
                        .map(|row| format!("[{}] {protocol:?}: {row}", block.title)),
                );
            }
        }
    }
    found
}

#[tokio::test]
async fn reads_are_answered_as_by_one_server() {
    let found = differences("reads.sql", false).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn writes_leave_the_rows_that_one_server_would_hold() {
    let found = differences("writes.sql", true).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
}
