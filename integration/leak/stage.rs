//! Servers and databases for the storm, and the look behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ringway::demo::captive::{CaptiveCluster, Server, Spec};

use crate::support::wire::{Frame, Wire};
use crate::support::{self, Ringway};

pub const POOL_SIZE: usize = 3;
/// Far less than what a client that vanished may have left running would take by itself.
const LIMIT: Duration = Duration::from_secs(20);

/// A database that clients connect to.
pub struct Place {
    pub name: &'static str,
    /// Who may connect.
    pub users: &'static [&'static str],
    /// Whom clients share server connections as; `None`: each user is itself.
    server_user: Option<&'static str>,
    pub sharded: bool,
    /// Of how many clients of the storm it is.
    pub weight: usize,
    toml: &'static str,
}

pub static PLACES: [Place; 5] = [
    Place {
        name: "plain",
        users: &["alice", "bob"],
        server_user: Some("app"),
        sharded: false,
        weight: 3,
        toml: "servers = [$s0]",
    },
    Place {
        name: "split",
        users: &["alice", "bob"],
        server_user: Some("app"),
        sharded: false,
        weight: 2,
        toml: "servers = [$s0]\nreads = { split = true, poll_interval_ms = 50, max_lag_ms = 60000 }",
    },
    Place {
        name: "own",
        users: &["alice", "bob"],
        server_user: None,
        sharded: false,
        weight: 2,
        toml: "servers = [$s0]",
    },
    Place {
        name: "held",
        users: &["alice", "bob"],
        server_user: Some("app"),
        sharded: false,
        weight: 1,
        toml: "servers = [$s0]\npool_mode = \"session\"",
    },
    Place {
        name: "sharded",
        users: &["alice", "bob"],
        server_user: Some("app"),
        sharded: true,
        weight: 2,
        toml: "reads = { split = true, poll_interval_ms = 50, max_lag_ms = 60000 }",
    },
];

impl Place {
    /// Who a client is to the server.
    pub fn role(&self, user: &'static str) -> &'static str {
        self.server_user.unwrap_or(user)
    }
}

/// Two shards with a replica each; databases without shards are on the first.
pub struct Stage {
    pub cluster: CaptiveCluster,
    pub ringway: Ringway,
    /// Of a row on each shard.
    keys: [i64; 2],
}

const ROLES: &str = "
    CREATE ROLE app LOGIN IN ROLE pg_monitor;
    CREATE ROLE alice LOGIN IN ROLE pg_monitor;
    CREATE ROLE bob LOGIN IN ROLE pg_monitor;
    CREATE ROLE leak_role;
    GRANT leak_role TO app, alice, bob;
    CREATE TABLE rows (k bigint PRIMARY KEY, m text);
    CREATE TABLE copied (m text);
    GRANT ALL ON rows, copied TO app, alice, bob, leak_role;
    GRANT ALL ON SCHEMA public TO app, alice, bob, leak_role";

/// What is left on a connection; nothing on one that is as if new. It is not immutable, but then
/// it may be called on a database with shards.
const STATE: &str = "
    CREATE FUNCTION leak_state() RETURNS text LANGUAGE sql IMMUTABLE AS $$
        SELECT string_agg(what, ' ') FROM (
            SELECT name || '=' || setting FROM pg_settings WHERE source = 'session'
            UNION ALL SELECT 'leak.token=' || nullif(current_setting('leak.token', true), '')
            UNION ALL SELECT 'role=' || current_user WHERE current_user <> session_user
            UNION ALL SELECT 'prepared ' || name FROM pg_prepared_statements WHERE from_sql
            UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE is_holdable
            UNION ALL SELECT 'listens ' || channel FROM pg_listening_channels() AS channel
            UNION ALL SELECT 'table ' || relname FROM pg_class
                WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'
            UNION ALL SELECT 'lock ' || objid FROM pg_locks
                WHERE locktype = 'advisory' AND pid = pg_backend_pid()
        ) AS left_over (what)
    $$";

impl Stage {
    pub fn set() -> Self {
        let cluster = support::cluster(&Spec {
            shards: 2,
            replicas: 1,
            ..Spec::default()
        });
        for shard in &cluster.shards {
            shard.primary.exec(ROLES).unwrap();
            shard.primary.exec(STATE).unwrap();
        }
        cluster.wait_caught_up().unwrap();
        let ringway = Ringway::start(|port| config(&cluster, port));
        let mut wire = Wire::login(ringway.port(), "alice", "sharded").0;
        for k in 1..=8 {
            let sql = format!("INSERT INTO rows VALUES ({k}, 'seed')");
            assert_eq!(wire.ask(&sql), "INSERT 0 1 I");
        }
        let keys = [0, 1].map(|at: usize| {
            let sql = "SELECT min(k) FROM rows";
            cluster.shards[at].primary.exec(sql).unwrap()
        });
        Self {
            cluster,
            ringway,
            keys: keys.map(|key| key.parse().unwrap()),
        }
    }

    /// After the storm: every connection is back, and nothing of anybody's is left on it.
    pub fn assert_clean(&self) {
        self.wait_for_pools();
        for server in self.cluster.servers() {
            assert_nothing_held(server);
        }
        for place in &PLACES {
            let shards = if place.sharded { 0..2 } else { 0..1 };
            let by_user = place.server_user.is_none();
            for user in &place.users[..if by_user { place.users.len() } else { 1 }] {
                for shard in shards.clone() {
                    self.assert_pool_is_whole(place, user, shard);
                }
            }
        }
        self.wait_for_pools();
        for shard in &self.cluster.shards {
            for (table, left) in [("rows", "m LIKE 'abandoned%'"), ("copied", "true")] {
                let sql = format!("SELECT count(*) FROM {table} WHERE {left}");
                assert_eq!(shard.primary.exec(&sql).unwrap(), "0", "{sql}");
            }
        }
    }

    /// Nobody has a connection, and nobody waits for one.
    fn wait_for_pools(&self) {
        let mut admin = Wire::login(self.ringway.port(), "admin", "ringway").0;
        let mut last = Vec::new();
        let deadline = std::time::Instant::now() + LIMIT;
        loop {
            let pools = table(&mut admin, "SHOW POOLS");
            let busy = |pool: &BTreeMap<String, String>| {
                let of = |name: &str| pool.get(name).is_some_and(|cell| cell != "0");
                pool["database"] != "ringway"
                    && ["sv_active", "sv_tested", "sv_login", "cl_waiting"].map(of) != [false; 4]
            };
            if !pools.iter().any(busy) {
                return;
            }
            last.clone_from(&pools);
            assert!(std::time::Instant::now() < deadline, "still busy: {last:?}");
            std::thread::yield_now();
        }
    }

    /// All connections of a pool can be had at once, and each is as if it were new.
    fn assert_pool_is_whole(&self, place: &Place, user: &str, shard: usize) {
        let port = self.ringway.port();
        let from = match place.sharded {
            true => format!("FROM rows WHERE k = {}", self.keys[shard]),
            false => String::new(),
        };
        let mut pids = BTreeSet::new();
        let mut wires: Vec<Wire> = Vec::new();
        for _ in 0..POOL_SIZE {
            let mut wire = Wire::login(port, user, place.name).0;
            assert_eq!(wire.ask("BEGIN"), "BEGIN T");
            let pid = wire.ask(&format!("SELECT pg_backend_pid() {from}"));
            assert!(pid.ends_with(" SELECT 1 T"), "{}: {pid}", place.name);
            assert!(pids.insert(pid), "{}: one connection for two", place.name);
            wires.push(wire);
        }
        for wire in &mut wires {
            let answer = wire.ask(&format!("SELECT leak_state() {from}"));
            assert_eq!(answer, " SELECT 1 T", "left on {}", place.name);
            assert_eq!(wire.ask("COMMIT"), "COMMIT I");
        }
    }
}

/// Asked of the server itself: no lock, no open transaction, no temporary table.
fn assert_nothing_held(server: &Server) {
    for sql in [
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
        "SELECT count(*) FROM pg_prepared_xacts",
        "SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'",
        "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'",
        "SELECT count(*) FROM pg_stat_activity WHERE usename IN ('app', 'alice', 'bob') AND state = 'active'",
    ] {
        // What a client that vanished was doing ends a moment later.
        server.wait_for(sql, "0", LIMIT).unwrap();
    }
}

/// Rows of an admin table by the names of its columns.
pub fn table(admin: &mut Wire, sql: &str) -> Vec<BTreeMap<String, String>> {
    admin.query(sql);
    let frames = admin.read_to_ready();
    let mut names = Vec::new();
    let mut rows = Vec::new();
    for frame in &frames {
        match frame.tag {
            b'T' => names = column_names(frame),
            b'D' => rows.push(names.iter().cloned().zip(cells(frame)).collect()),
            b'E' => panic!("{sql}: {:?}", frame.fields()),
            _ => {}
        }
    }
    rows
}

fn column_names(frame: &Frame) -> Vec<String> {
    let mut rest = &frame.body[2..];
    let mut names = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        names.push(String::from_utf8_lossy(&rest[..end]).into_owned());
        // After the name: table, column, type, length, modifier and format.
        rest = &rest[end + 1 + 18..];
    }
    names
}

fn cells(frame: &Frame) -> Vec<String> {
    let mut rest = &frame.body[2..];
    let mut cells = Vec::new();
    while let [a, b, c, d, tail @ ..] = rest {
        // -1 is NULL.
        let len = i32::from_be_bytes([*a, *b, *c, *d]).max(0) as usize;
        cells.push(String::from_utf8_lossy(&tail[..len]).into_owned());
        rest = &tail[len..];
    }
    cells
}

fn config(cluster: &CaptiveCluster, port: u16) -> String {
    let mut toml = format!("[general]\nlisten = \"127.0.0.1:{port}\"\nworkers = 2\n");
    toml.push_str("admin_users = [\"admin\"]\n");
    for user in ["admin", "alice", "bob"] {
        toml.push_str(&format!("[users.{user}]\nauth = \"trust\"\n"));
    }
    let servers = |shard: usize| {
        let shard = &cluster.shards[shard];
        let all = std::iter::once(&shard.primary).chain(&shard.replicas);
        let quoted: Vec<_> = all.map(|s| format!("\"127.0.0.1:{}\"", s.port)).collect();
        quoted.join(", ")
    };
    for place in &PLACES {
        toml.push_str(&format!(
            "[databases.{}]\ndbname = \"shop\"\npool_size = {POOL_SIZE}\nmonitor_user = \"app\"\n{}\n",
            place.name,
            place.toml.replace("$s0", &servers(0))
        ));
        if let Some(user) = place.server_user {
            toml.push_str(&format!("server_user = \"{user}\"\n"));
        }
        if place.sharded {
            toml.push_str(
                "[databases.sharded.tables]\nrows = { key = \"k\" }\ncopied = { shard = \"s0\" }\n",
            );
            for shard in 0..2 {
                toml.push_str(&format!(
                    "[[databases.sharded.shards]]\nname = \"s{shard}\"\nservers = [{}]\n",
                    servers(shard)
                ));
            }
        }
    }
    toml
}
