//! Where statements are compared: one plain server, shards that hold the same rows, and Ringway in
//! front of them. Also what says which row belongs on which shard, by PostgreSQL's own functions.

use std::fmt::Write;

use planner::Topology;
use planner::ring::SLOTS;
use planner::topology::ShardWeight;
use ringway::cluster::two_phase::SCHEMA;
use ringway::demo::answer::Protocol;
use ringway::demo::captive::{CaptiveCluster, Server, ShardServers, Spec};
use tokio::sync::OnceCell;
use tokio_postgres::Client;

use crate::support::wire::Wire;
use crate::support::{self, Ringway};

pub const PROTOCOLS: [Protocol; 2] = [Protocol::Simple, Protocol::Extended];

/// Sharded tables with their keys, as the configuration writes them, and where their rows are.
pub const SHARDED: [(&str, &str, Placed); 20] = [
    ("people", "'id'", Placed::Hashed(Hash::Integer)),
    ("orders", "'person_id'", Placed::Hashed(Hash::Integer)),
    ("items", "'person_id'", Placed::Hashed(Hash::Integer)),
    ("tiny", "'id'", Placed::Hashed(Hash::Integer)),
    ("mid", "'id'", Placed::Hashed(Hash::Integer)),
    ("plots", "'id'", Placed::Hashed(Hash::Integer)),
    ("kinds", "'id'", Placed::Hashed(Hash::Integer)),
    ("terms", "'id'", Placed::Hashed(Hash::Integer)),
    ("words", "'word'", Placed::Hashed(Hash::Text)),
    ("nicks", "'nick'", Placed::Hashed(Hash::Text)),
    ("tokens", "'id'", Placed::Hashed(Hash::Uuid)),
    ("\"Mixed Case\"", "'\"Key\"'", Placed::Hashed(Hash::Integer)),
    ("prices", "'price'", Placed::Hashed(Hash::Numeric)),
    ("visits", "'day'", Placed::Hashed(Hash::Date)),
    ("parcels", "['tenant', 'code']", Placed::Hashed(Hash::Pair)),
    // Before what they refer to.
    ("pets", "'owner_id'", Placed::Hashed(Hash::Integer)),
    ("debts", "'owner_id'", Placed::Hashed(Hash::Integer)),
    ("owners", "'id'", Placed::Hashed(Hash::Integer)),
    (
        "branches",
        "'country', by = 'by_country'",
        Placed::On(&[
            ["country <> 'DK'", "country = 'DK'", "false", "false"],
            [
                "country = 'NO'",
                "country = 'DK'",
                "country = 'SE'",
                "country NOT IN ('NO', 'DK', 'SE')",
            ],
        ]),
    ),
    (
        "readings",
        "'sensor', by = 'by_sensor'",
        Placed::On(&[
            [
                "sensor < 10 OR sensor >= 20",
                "sensor >= 10 AND sensor < 20",
                "false",
                "false",
            ],
            [
                "sensor < 10",
                "sensor >= 10 AND sensor < 20",
                "sensor >= 20 AND sensor < 25",
                "sensor >= 25",
            ],
        ]),
    ),
];

/// The rules of `branches` and `readings` over two shards; sensors from 30 on have no shard.
const PLACEMENTS_OF_TWO: &str =
    "by_country = { list = { s0 = ['NO', 'SE'], s1 = ['DK'] }, default = 's0' }
by_sensor = { ranges = [
  { to = 10, shard = 's0' },
  { from = 10, to = 20, shard = 's1' },
  { from = 20, to = 30, shard = 's0' },
] }
";

/// The same over four.
const PLACEMENTS_OF_FOUR: &str =
    "by_country = { list = { s0 = ['NO'], s1 = ['DK'], s2 = ['SE'] }, default = 's3' }
by_sensor = { ranges = [
  { to = 10, shard = 's0' },
  { from = 10, to = 20, shard = 's1' },
  { from = 20, to = 25, shard = 's2' },
  { from = 25, to = 30, shard = 's3' },
] }
";

/// What gives a row its shard.
#[derive(Debug, Clone, Copy)]
pub enum Placed {
    Hashed(Hash),
    /// The condition of a shard's rows: over two shards, over four.
    On(&'static [[&'static str; 4]; 2]),
}

impl Placed {
    /// The condition of rows that do not belong on `shard` of `shards`.
    fn stranger(self, key: &str, shard: usize, shards: usize) -> String {
        match self {
            Self::Hashed(hash) => {
                let slot = hash.slot(key.trim_matches('\''));
                format!("{slot} NOT IN (SELECT slot FROM placement.owned)")
            }
            Self::On(conditions) => format!("NOT ({})", conditions[shards / 4][shard]),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Hash {
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
            Self::Date => format!(
                "hashint4extended(CASE {key} WHEN 'infinity' THEN 2147483647 WHEN '-infinity' THEN \
                 -2147483648 ELSE {key} - date '2000-01-01' END, {SEED})"
            ),
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

/// One plain server and four that are shards, for all worlds. They end with the process.
struct Servers {
    plain: CaptiveCluster,
    shards: CaptiveCluster,
}

async fn servers() -> &'static Servers {
    static SERVERS: OnceCell<Servers> = OnceCell::const_new();
    let start = || {
        let spec = |shards| Spec {
            shards,
            // The tests' own databases are, see [`fill`].
            initialized: false,
            settings: vec![("timezone".to_owned(), "Europe/Oslo".to_owned())],
            ..Spec::default()
        };
        Servers {
            plain: support::cluster(&spec(1)),
            shards: support::cluster(&spec(4)),
        }
    };
    let started = || async { tokio::task::spawn_blocking(start).await.unwrap() };
    SERVERS.get_or_init(started).await
}

/// The plain server, two or four shards, and Ringway in front of them: one database per protocol,
/// so that each sees the rows that the statements were written for.
pub struct World {
    name: String,
    plain: &'static Server,
    shards: &'static [ShardServers],
    ringway: Ringway,
}

impl World {
    /// `name` is the world's own, since its databases are named by it.
    pub async fn start(name: &'static str, shards: usize) -> Self {
        let servers = servers().await;
        let plain = &servers.plain.shards[0].primary;
        let shards = &servers.shards.shards[..shards];
        let name = format!("{name}{}", shards.len());
        let start = move || {
            let world = |ringway| Self {
                name: name.clone(),
                plain,
                shards,
                ringway,
            };
            let databases = PROTOCOLS.map(|protocol| database(&name, protocol));
            std::thread::scope(|scope| {
                for database in &databases {
                    scope.spawn(|| fill(plain, database, None, shards.len()));
                    for (at, server) in shards.iter().enumerate() {
                        let fill = move || fill(&server.primary, database, Some(at), shards.len());
                        scope.spawn(fill);
                    }
                }
            });
            world(Ringway::start(|port| config(&databases, shards, port)))
        };
        tokio::task::spawn_blocking(start).await.unwrap()
    }

    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// A connection through Ringway, and one to the plain server.
    pub async fn clients(&self, protocol: Protocol) -> (Client, Client) {
        let (ringway, plain) = self.urls(protocol);
        (
            support::client(&ringway).await,
            support::client(&plain).await,
        )
    }

    /// As [`World::clients`], for messages that are sent together.
    pub fn wires(&self, protocol: Protocol) -> (Wire, Wire) {
        let database = database(&self.name, protocol);
        let wire = |port| Wire::login(port, "ringway", &database).0;
        (wire(self.ringway.port()), wire(self.plain.port))
    }

    /// `postgresql://…` through Ringway, and of the plain server.
    pub fn urls(&self, protocol: Protocol) -> (String, String) {
        let database = database(&self.name, protocol);
        let url = |port| format!("postgresql://ringway@127.0.0.1:{port}/{database}");
        (url(self.ringway.port()), url(self.plain.port))
    }

    /// Connections to the shards themselves.
    pub async fn shard_clients(&self, protocol: Protocol) -> Vec<Client> {
        let database = database(&self.name, protocol);
        let mut clients = Vec::new();
        for ShardServers { primary, .. } in self.shards {
            let port = primary.port;
            let url = format!("postgresql://ringway@127.0.0.1:{port}/{database}");
            clients.push(support::client(&url).await);
        }
        clients
    }

    /// How the tables' rows differ from the plain server's, and how many rows are on shards that
    /// do not own them.
    pub fn differences(&self, protocol: Protocol) -> Vec<String> {
        let database = &database(&self.name, protocol);
        let mut found = Vec::new();
        let sharded: Vec<&str> = SHARDED.iter().map(|(table, _, _)| *table).collect();
        let mut all = Vec::new();
        for (at, ShardServers { primary, .. }) in self.shards.iter().enumerate() {
            all.extend(rows(primary, database, &sharded));
            let strangers = primary
                .exec_in(database, &count_of_strangers(at, self.shards.len()))
                .unwrap();
            if strangers != "0" {
                found.push(format!("{strangers} rows on shard {at} belong elsewhere"));
            }
            let countries = ["countries"];
            if rows(primary, database, &countries) != rows(self.plain, database, &countries) {
                found.push(format!("countries of shard {at} differ"));
            }
        }
        all.sort_unstable();
        let mut wanted = rows(self.plain, database, &sharded);
        wanted.sort_unstable();
        let differs = all.iter().zip(&wanted).find(|(row, wanted)| row != wanted);
        if let Some((row, wanted)) = differs {
            found.push(format!("{row}, not {wanted}"));
        } else if all.len() != wanted.len() {
            found.push(format!("{} sharded rows, not {}", all.len(), wanted.len()));
        }
        let first = &self.shards[0].primary;
        if rows(first, database, &["notes"]) != rows(self.plain, database, &["notes"]) {
            found.push("notes differ".to_owned());
        }
        found
    }
}

fn database(world: &str, protocol: Protocol) -> String {
    let protocol = match protocol {
        Protocol::Simple => "simple",
        Protocol::Extended => "extended",
    };
    format!("{world}_{protocol}")
}

/// A file beside this one, read when the test runs so that new statements need no build.
pub fn file(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/differential/");
    std::fs::read_to_string(format!("{path}{name}")).unwrap()
}

/// Makes a database with the rows of one shard, or of all.
fn fill(server: &Server, database: &str, shard: Option<usize>, shards: usize) {
    server
        .exec_in("postgres", &format!("CREATE DATABASE {database}"))
        .unwrap();
    // Types that users make have other OIDs on each server.
    let others = shard.map_or(0, |shard| shard + 1);
    let mut sql = "CREATE TYPE passing AS ENUM (); DROP TYPE passing;".repeat(others);
    // What shards commit together by, also on the plain server: the catalogs tell of it. The user, who
    // has its name, would find it before all else.
    sql += &format!(
        "CREATE SCHEMA ringway; {SCHEMA}; ALTER ROLE ringway IN DATABASE {database} SET search_path = public; \
         SET search_path = public;"
    );
    sql += &file("schema.sql");
    // The table that lives on the first shard only.
    if shard.unwrap_or(0) == 0 {
        sql += &file("single.sql");
    }
    sql += "CREATE SCHEMA placement; CREATE TABLE placement.owned (slot bigint);";
    if let Some(shard) = shard {
        sql += &strangers(shard, shards);
    }
    server.exec_in(database, &sql).unwrap();
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
pub fn count_of_strangers(shard: usize, shards: usize) -> String {
    let strangers: Vec<String> = SHARDED
        .iter()
        .map(|(table, key, placed)| {
            let stranger = placed.stranger(key, shard, shards);
            format!("SELECT 1 FROM {table} WHERE {stranger}")
        })
        .collect();
    format!(
        "SELECT count(*) FROM ({}) AS rows",
        strangers.join(" UNION ALL ")
    )
}

/// Numbers of the shard's slots, parted by commas.
fn owned(shard: usize, shards: usize) -> String {
    let weight = |at| ShardWeight {
        name: format!("s{at}"),
        weight: 1,
    };
    let topology = Topology::new((0..shards).map(weight).collect(), &[]);
    let owned = (0..SLOTS as u16).filter(|slot| usize::from(topology.owner(*slot).0) == shard);
    let numbers: Vec<String> = owned.map(|slot| slot.to_string()).collect();
    numbers.join(",")
}

/// Notes the shard's slots and removes the rows that belong elsewhere.
fn strangers(shard: usize, shards: usize) -> String {
    let owned = owned(shard, shards);
    let mut sql = format!("INSERT INTO placement.owned SELECT unnest('{{{owned}}}'::bigint[]);");
    for (table, key, placed) in SHARDED {
        let stranger = placed.stranger(key, shard, shards);
        let _ = write!(sql, "DELETE FROM {table} WHERE {stranger};");
    }
    sql
}

fn config(databases: &[String], shards: &[ShardServers], port: u16) -> String {
    let placements = if shards.len() == 2 {
        PLACEMENTS_OF_TWO
    } else {
        PLACEMENTS_OF_FOUR
    };
    let mut toml =
        format!("[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n");
    for database in databases {
        let _ = writeln!(
            toml,
            "[databases.{database}]\nserver_user = \"ringway\"\n\
             [databases.{database}.placements]\n{placements}[databases.{database}.tables]"
        );
        for (table, key, _) in SHARDED {
            let _ = writeln!(toml, "'{table}' = {{ key = {key} }}");
        }
        let _ = writeln!(
            toml,
            "countries = \"reference\"\nnotes = {{ shard = \"s0\" }}\nnumbered = {{ key = \"id\" }}"
        );
        for (at, shard) in shards.iter().enumerate() {
            let _ = writeln!(
                toml,
                "[[databases.{database}.shards]]\nname = \"s{at}\"\nservers = [\"127.0.0.1:{}\"]",
                shard.primary.port
            );
        }
    }
    toml
}
