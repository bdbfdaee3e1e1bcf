//! Where statements are compared: one plain server, shards that hold the same rows, and Ringway in
//! front of them. Also what says which row belongs on which shard, by PostgreSQL's own functions.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use planner::Topology;
use planner::ring::SLOTS;
use planner::topology::ShardWeight;
use ringway::cluster::two_phase::SCHEMA;
use ringway::demo::answer::Protocol;
use ringway::demo::captive::{CaptiveCluster, ShardServers, Spec};
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

/// A server, by how its databases' URLs begin.
#[derive(Clone)]
struct Server {
    /// `host:port`, as the configuration has it, of the primary and its replicas.
    endpoints: Vec<String>,
}

impl Server {
    fn url(&self, database: &str) -> String {
        format!("{}/{database}", beginning(&self.endpoints[0]))
    }

    fn exec_in(&self, database: &str, sql: &str) -> String {
        support::psql(&self.url(database), sql)
    }
}

/// Of the URL of who serves there. Others' servers ask for a password, which is the same for all.
fn beginning(endpoint: &str) -> String {
    match std::env::var("PGPASSWORD") {
        Ok(password) => format!("postgresql://ringway:{password}@{endpoint}"),
        Err(_) => format!("postgresql://ringway@{endpoint}"),
    }
}

/// One plain server and those that are shards, for all worlds.
struct Servers {
    plain: Server,
    shards: Vec<Server>,
    /// They end with the process.
    _captive: Vec<CaptiveCluster>,
    outside: Option<Outside>,
}

/// A cluster that runs already, and Ringway in front of it.
#[derive(Clone)]
struct Outside {
    /// `host:port` of what stands in front of its processes.
    ringway: String,
    /// `host:port` of each of them.
    processes: Vec<String>,
    /// Its configuration, which worlds are added to.
    config: String,
}

impl Servers {
    /// Started here, or those of the environment: `docker/test` sets `RINGWAY_SUITE` to
    /// `BALANCER PROCESS,… CONFIG PLAIN SHARD…`, where a server is `primary:port,replica:port`.
    fn start() -> Self {
        if let Ok(suite) = std::env::var("RINGWAY_SUITE") {
            return Self::outside(&suite);
        }
        let spec = |shards| Spec {
            shards,
            // The tests' own databases are, see [`fill`].
            initialized: false,
            ..Spec::default()
        };
        let (plain, shards) = (support::cluster(&spec(1)), support::cluster(&spec(4)));
        let servers = |cluster: &CaptiveCluster| -> Vec<Server> {
            let endpoint = |shard: &ShardServers| format!("127.0.0.1:{}", shard.primary.port);
            let of = |shard| Server {
                endpoints: vec![endpoint(shard)],
            };
            cluster.shards.iter().map(of).collect()
        };
        Self {
            plain: servers(&plain).remove(0),
            shards: servers(&shards),
            _captive: vec![plain, shards],
            outside: None,
        }
    }

    fn outside(suite: &str) -> Self {
        let mut words = suite.split_whitespace();
        let mut word = || words.next().expect("RINGWAY_SUITE has five words or more");
        let endpoints = |word: &str| word.split(',').map(str::to_owned).collect();
        let server = |word: &str| Server {
            endpoints: endpoints(word),
        };
        Self {
            outside: Some(Outside {
                ringway: word().to_owned(),
                processes: endpoints(word()),
                config: word().to_owned(),
            }),
            plain: server(word()),
            shards: words.map(server).collect(),
            _captive: Vec::new(),
        }
    }
}

async fn servers() -> &'static Servers {
    static SERVERS: OnceCell<Servers> = OnceCell::const_new();
    let started = || async { tokio::task::spawn_blocking(Servers::start).await.unwrap() };
    SERVERS.get_or_init(started).await
}

/// The Ringway of a world.
enum Proxy {
    Own(Ringway),
    Outside(Outside),
}

impl Proxy {
    /// Serves `databases` over `shards`.
    fn start(servers: &Servers, databases: &[String], shards: &[Server]) -> Self {
        let Some(outside) = &servers.outside else {
            let config = |port| {
                format!(
                    "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n{}",
                    config(databases, shards)
                )
            };
            return Self::Own(Ringway::start(config));
        };
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&outside.config)
            .unwrap();
        file.write_all(config(databases, shards).as_bytes())
            .unwrap();
        // Each process looks at the file by itself.
        let deadline = Instant::now() + Duration::from_secs(90);
        for process in &outside.processes {
            for database in databases {
                let url = format!("{}/{database}", beginning(process));
                loop {
                    let psql = Command::new("psql")
                        .args(["-X", "-q", "-c", "SELECT count(*) FROM people", &url])
                        .output()
                        .unwrap();
                    if psql.status.success() {
                        break;
                    }
                    let told = String::from_utf8_lossy(&psql.stderr);
                    assert!(Instant::now() < deadline, "{url} is not served: {told}");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
        Self::Outside(outside.clone())
    }

    fn endpoint(&self) -> String {
        match self {
            Self::Own(ringway) => format!("127.0.0.1:{}", ringway.port()),
            Self::Outside(outside) => outside.ringway.clone(),
        }
    }
}

/// The plain server, two or four shards, and Ringway in front of them: one database per protocol,
/// so that each sees the rows that the statements were written for.
pub struct World {
    name: String,
    plain: &'static Server,
    shards: &'static [Server],
    proxy: Proxy,
}

impl World {
    /// `name` is the world's own, since its databases are named by it.
    pub async fn start(name: &'static str, shards: usize) -> Self {
        Self::start_with(name, shards, "").await
    }

    /// With what `more` makes of the rows that are on their shards.
    pub async fn start_with(name: &'static str, shards: usize, more: &str) -> Self {
        let more = more.to_owned();
        let servers = servers().await;
        let plain = &servers.plain;
        let shards = &servers.shards[..shards];
        let name = format!("{name}{}", shards.len());
        let start = move || {
            let databases = PROTOCOLS.map(|protocol| database(&name, protocol));
            std::thread::scope(|scope| {
                for database in &databases {
                    let more = more.as_str();
                    scope.spawn(move || fill(plain, database, None, shards.len(), more));
                    for (at, server) in shards.iter().enumerate() {
                        let fill = move || fill(server, database, Some(at), shards.len(), more);
                        scope.spawn(fill);
                    }
                }
            });
            Self {
                proxy: Proxy::start(servers, &databases, shards),
                name,
                plain,
                shards,
            }
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

    /// As [`World::clients`], for messages that are sent together; of servers of this machine.
    pub fn wires(&self, protocol: Protocol) -> (Wire, Wire) {
        let database = database(&self.name, protocol);
        let wire = |endpoint: &str| {
            let (_, port) = endpoint.rsplit_once(':').unwrap();
            Wire::login(port.parse().unwrap(), "ringway", &database).0
        };
        (wire(&self.proxy.endpoint()), wire(&self.plain.endpoints[0]))
    }

    /// `postgresql://…` through Ringway, and of the plain server.
    pub fn urls(&self, protocol: Protocol) -> (String, String) {
        let database = database(&self.name, protocol);
        let ringway = beginning(&self.proxy.endpoint());
        (format!("{ringway}/{database}"), self.plain.url(&database))
    }

    /// Connections to the shards themselves.
    pub async fn shard_clients(&self, protocol: Protocol) -> Vec<Client> {
        let database = database(&self.name, protocol);
        let mut clients = Vec::new();
        for shard in self.shards {
            clients.push(support::client(&shard.url(&database)).await);
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
        for (at, shard) in self.shards.iter().enumerate() {
            all.extend(rows(shard, database, &sharded));
            let strangers = shard.exec_in(database, &count_of_strangers(at, self.shards.len()));
            if strangers != "0" {
                found.push(format!("{strangers} rows on shard {at} belong elsewhere"));
            }
            let countries = ["countries"];
            if rows(shard, database, &countries) != rows(self.plain, database, &countries) {
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
        let first = &self.shards[0];
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
fn fill(server: &Server, database: &str, shard: Option<usize>, shards: usize, more: &str) {
    server.exec_in("postgres", &format!("CREATE DATABASE {database}"));
    let settings = format!("ALTER DATABASE {database} SET timezone = 'Europe/Oslo'");
    server.exec_in("postgres", &settings);
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
    sql += more;
    server.exec_in(database, &sql);
}

/// The rows of some tables, each with its table's name before it.
fn rows(server: &Server, database: &str, tables: &[&str]) -> Vec<String> {
    let row = |table: &&str| format!("SELECT '{table}: ' || t::text FROM {table} AS t");
    let all: Vec<String> = tables.iter().map(row).collect();
    let sql = format!("{} ORDER BY 1", all.join(" UNION ALL "));
    let answer = server.exec_in(database, &sql);
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

fn config(databases: &[String], shards: &[Server]) -> String {
    let placements = if shards.len() == 2 {
        PLACEMENTS_OF_TWO
    } else {
        PLACEMENTS_OF_FOUR
    };
    let mut toml = String::new();
    let password = std::env::var("PGPASSWORD").map_or(String::new(), |password| {
        format!("server_password = \"{password}\"\n")
    });
    for database in databases {
        let _ = writeln!(
            toml,
            "[databases.{database}]\nserver_user = \"ringway\"\n{password}\
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
                "[[databases.{database}.shards]]\nname = \"s{at}\"\nservers = {:?}",
                shard.endpoints
            );
        }
        if shards.iter().any(|shard| shard.endpoints.len() > 1) {
            let _ = writeln!(toml, "[databases.{database}.reads]\nsplit = true");
        }
    }
    toml
}
