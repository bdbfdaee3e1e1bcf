//! What `/status.json` says: for the page, for `ringway top`, for scripts.
//!
//! Names of the configuration, figures, and texts of Ringway's own. No values of statements, no
//! addresses of clients, no secrets: whoever reaches the port may read it.

use serde::{Deserialize, Serialize};

/// The process at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    /// By the process's clock, in milliseconds since 1970, as all that ends in `_at_ms`.
    pub now_at_ms: u64,
    pub uptime_s: u64,
    /// Why no new clients should be sent here, if there is a reason; as `/readyz` says.
    pub unready: Option<String>,
    pub config: ConfigStatus,
    /// Those that are logged in.
    pub clients: usize,
    pub max_clients: usize,
    /// Between two points of a history.
    pub point_s: u64,
    /// By name.
    pub databases: Vec<DatabaseStatus>,
    /// Beyond those in `databases`, which are the busiest.
    pub databases_left_out: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// 1 at the start; every RELOAD and SET that was applied adds one.
    pub version: u64,
    /// RELOAD, SIGHUP or a file that changed; none since the start is null.
    pub last_reload: Option<Reload>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    pub at_ms: u64,
    /// Why it changed nothing. Lines and keys only: values may be secrets, and are in the log.
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatabaseStatus {
    pub name: String,
    pub paused: bool,
    pub disabled: bool,
    pub clients: usize,
    /// Clients that wait for a server connection.
    pub waiting: usize,
    /// How long the first of them has waited.
    pub longest_wait_ms: u64,
    /// What an operator has to know first, the gravest at the top.
    #[serde(default)]
    pub troubles: Vec<Trouble>,
    /// In the order of the configuration.
    pub shards: Vec<ShardStatus>,
    /// By shard, server and user.
    pub pools: Vec<PoolStatus>,
    /// Beyond those in `pools`, which are the busiest.
    pub pools_left_out: usize,
    /// The oldest first.
    pub in_doubt: Vec<InDoubt>,
    pub in_doubt_left_out: usize,
    /// The oldest first.
    pub history: Vec<Point>,
    /// Those that took most time since the start; left out where none are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shapes: Vec<Shape>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Statements fail for it.
    pub grave: bool,
    /// One line, without the database's name.
    pub text: String,
}

/// What is wrong with `shards` by the standing of their servers.
pub fn troubles(shards: &[ShardStatus]) -> Vec<Trouble> {
    let has_primary = |shard: &ShardStatus| shard.servers.iter().any(|s| s.standing == "primary");
    let orphans: Vec<_> = shards
        .iter()
        .filter(|shard| !has_primary(shard))
        .map(|shard| shard.name.as_str())
        .collect();
    let servers = || shards.iter().flat_map(|shard| &shard.servers);
    let unusable = ["down", "fenced", "foreign", "silent", "ejected"];
    let out: Vec<_> = servers()
        .filter(|server| unusable.contains(&server.standing.as_str()))
        .map(|server| format!("{} ({})", server.address, server.standing))
        .collect();
    let out: Vec<_> = out.iter().map(String::as_str).collect();
    let mut troubles = Vec::new();
    if !orphans.is_empty() {
        let text = match shards.len() {
            1 => "no primary: writes wait, and fail after failover_hold_ms".to_owned(),
            all => format!(
                "{} of {all} shards without a primary: {}",
                orphans.len(),
                first(&orphans)
            ),
        };
        troubles.push(Trouble { grave: true, text });
    }
    if !out.is_empty() {
        let text = format!(
            "{} of {} servers out: {}",
            out.len(),
            servers().count(),
            first(&out)
        );
        troubles.push(Trouble { grave: false, text });
    }
    troubles
}

/// The first few of them, and how many more there are.
fn first(names: &[&str]) -> String {
    const FEW: usize = 4;
    let shown = names
        .iter()
        .take(FEW)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(FEW) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Statements that differ in their values only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Without values.
    pub text: String,
    pub calls: u64,
    pub errors: u64,
    pub rows: u64,
    pub total_ms: u64,
    pub mean_us: u64,
    pub p95_us: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    pub name: String,
    pub weight: u32,
    /// Of 16,384.
    pub slots: usize,
    pub servers: Vec<ServerStatus>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// `host:port`, as in the configuration.
    pub address: String,
    /// `primary`, `replica` or `unknown`.
    pub role: String,
    /// What it may be used for, in the words of SHOW REPLICAS.
    pub standing: String,
    pub lag_ms: Option<u64>,
    pub lag_bytes: Option<u64>,
    pub weight: f64,
    pub zone: Option<String>,
    pub times_down: u32,
    /// Why it is down.
    pub error: Option<String>,
    /// Connections that serve a client.
    pub used: u32,
    pub idle: u32,
}

/// The connections to one server as one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    pub user: String,
    pub shard: String,
    pub server: String,
    pub used: u32,
    pub idle: u32,
    /// Being opened.
    pub opening: u32,
    /// Statements that wait for one.
    pub waiting: usize,
    /// `pool_size`, without the reserve.
    pub limit: u32,
}

/// A prepared transaction that no commit of this process is at work on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InDoubt {
    pub shard: String,
    pub transaction: String,
    pub decision_shard: Option<String>,
    pub age_ms: u64,
    /// What recovery made of it last.
    pub note: String,
}

/// What happened in the `point_s` before a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub at_ms: u64,
    pub queries_per_s: f64,
    pub transactions_per_s: f64,
    /// From a statement's arrival to the end of its answer; null when there was none. Exact to a
    /// bucket of `ringway_query_seconds`.
    pub p50_us: Option<u64>,
    pub p95_us: Option<u64>,
    pub p99_us: Option<u64>,
    /// Statements that waited for a server connection at the moment itself.
    pub waiting: usize,
}
