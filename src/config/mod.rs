//! Configuration: the TOML as written (`file`), the validated form (here), all mistakes at once.
//!
//! Validated types only: whoever holds a [`Config`] need not check it again.

mod auth;
mod change;
mod commits;
mod database;
mod file;
mod functions;
pub mod hba;
mod listen;
mod placements;
mod policy;
mod pool;
mod reader;
mod reads;
#[cfg(test)]
mod reference;
mod secret;
mod show;
mod tables;
mod tcp;
#[cfg(test)]
mod tests;
mod traces;
mod userlist;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use planner::placement::RuleId;
use planner::{ShardId, Topology};

pub use auth::{AuthQuery, AuthSettings, DEFAULT_AUTH_QUERY, User, default_method};
pub use change::Source;
pub use commits::{CommitSettings, MultiShardCommit};
pub use file::{Env, SourceFile, load, parse};
pub use functions::{FunctionName, FunctionRule};
pub use hba::Method;
pub use listen::{ListenAddress, MAX_PEER_ID};
pub use policy::{Policies, Policy};
pub use pool::{PoolMode, PoolSettings, Timeouts, UserLimits};
pub use reader::{ConfigErrors, Mistake};
pub use reads::{Balance, Freshness, PrimaryReads, ReadSettings, TransactionReads};
pub use secret::{SCRAM_KEY, ScramKeys, ScramVerifier, Secret, ServerSecret, StoredSecret, is_md5};
pub use show::{Entry, diff_needs_restart, entries};
pub use tcp::TcpOptions;
pub use traces::TracingSettings;
pub use userlist::listed_users;

/// The name under which clients reach the admin database.
pub const ADMIN_DATABASE: &str = "ringway";
/// What PgBouncer calls it: exporters and scripts ask for that. A configured database goes before.
pub const PGBOUNCER_DATABASE: &str = "pgbouncer";
/// The section of databases that have no section of their own.
pub const WILDCARD: &str = "*";
/// How often the one server of a wildcard's database is looked at, at most.
const WILDCARD_POLL: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Config {
    pub general: General,
    pub tls: Option<ServerTls>,
    pub auth: AuthSettings,
    /// By user name.
    pub users: BTreeMap<String, User>,
    /// By the name clients connect to.
    pub databases: BTreeMap<String, Arc<Database>>,
    /// Other Ringway processes by their `peer_id`, this one not among them.
    pub peers: BTreeMap<u16, Endpoint>,
    /// The files that it was read from, the configuration file first.
    pub files: Vec<SourceFile>,
    /// What it was made of.
    pub source: Source,
}

impl Config {
    /// Whether other processes may serve the same databases, by what is configured.
    pub fn has_other_processes(&self) -> bool {
        let general = &self.general;
        !self.peers.is_empty() || general.run_directory.is_some() || general.reuse_port
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct General {
    /// Where clients connect.
    pub listen: Vec<ListenAddress>,
    /// Permissions of the socket files that clients connect to.
    pub unix_socket_mode: u32,
    /// Other processes may listen on the same TCP addresses.
    pub reuse_port: bool,
    /// `/metrics`, `/healthz` and `/readyz`; `None` serves no HTTP.
    pub http_listen: Option<SocketAddr>,
    /// Single-threaded runtimes that serve clients; clients are given to them as load needs.
    pub workers: usize,
    pub max_clients: usize,
    /// Server connections per user who says nothing else; 0 is no limit.
    pub max_user_connections: u32,
    /// Clients per user who says nothing else; 0 is no limit.
    pub max_user_clients: u32,
    /// Users who may connect to the admin database `ringway`.
    pub admin_users: Vec<String>,
    /// Users who may connect to it and only look.
    pub stats_users: Vec<String>,
    /// Largest frame other than CopyData accepted from a client, in bytes.
    pub max_message_bytes: usize,
    /// Time a client has for startup and authentication.
    pub login_timeout: Duration,
    /// Of clients' connections, and of those to the servers of databases that say nothing else.
    pub tcp: TcpOptions,
    /// How long to wait for open transactions on SIGTERM.
    pub shutdown_timeout: Duration,
    /// What other processes know this one by: part of the process ids that clients are told.
    pub peer_id: Option<u16>,
    /// Where processes of this machine find each other, for hand-over and CancelRequest.
    pub run_directory: Option<PathBuf>,
    /// How often the files are looked at for a change; `None` leaves it to SIGHUP and RELOAD.
    pub watch_interval: Option<Duration>,
    /// Memory for cached plans, per database, in bytes.
    pub plan_cache_bytes: usize,
    /// Query digests, per database; 0 keeps none.
    pub max_digests: usize,
    /// Memory one statement may use to merge shards' rows, in bytes.
    pub merge_memory_bytes: usize,
    /// Statements that take as long are logged, of databases that say nothing else; `None`: none are.
    pub log_min_duration: Option<Duration>,
    /// With their values.
    pub log_values: bool,
    /// `None`: nothing is traced.
    pub tracing: Option<TracingSettings>,
    pub log_format: LogFormat,
    /// tracing-subscriber's EnvFilter syntax.
    pub log_level: String,
}

impl Default for General {
    fn default() -> Self {
        Self {
            listen: vec![ListenAddress::Tcp(([127, 0, 0, 1], 6432).into())],
            unix_socket_mode: 0o777,
            reuse_port: false,
            http_listen: None,
            workers: 1,
            max_clients: 10_000,
            max_user_connections: 0,
            max_user_clients: 0,
            admin_users: Vec::new(),
            stats_users: Vec::new(),
            max_message_bytes: 64 << 20,
            login_timeout: Duration::from_secs(30),
            tcp: TcpOptions::default(),
            shutdown_timeout: Duration::from_secs(30),
            peer_id: None,
            run_directory: None,
            watch_interval: Some(Duration::from_secs(5)),
            plan_cache_bytes: 32 << 20,
            max_digests: 1_000,
            merge_memory_bytes: 64 << 20,
            log_min_duration: None,
            log_values: false,
            tracing: None,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Certificate shown to clients.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerTls {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    /// Refuse clients that do not ask for TLS.
    pub required: bool,
    /// The authorities that sign clients' certificates; `None` asks clients for none.
    pub client_ca: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    pub name: String,
    pub pool: PoolSettings,
    /// Of connections to its servers.
    pub tcp: TcpOptions,
    /// Credentials for the servers; `None` uses the client's own user name and configured password.
    pub server_user: Option<ServerUser>,
    /// Credentials for health, lag and catalog queries; defaults to `server_user`.
    pub monitor_user: Option<ServerUser>,
    /// How users who are not in the file are found.
    pub auth_query: Option<AuthQuery>,
    pub server_tls: TlsMode,
    /// CA bundle for `verify-ca` and `verify-full`.
    pub server_ca: Option<PathBuf>,
    /// What Ringway shows to servers that ask for a certificate.
    pub server_certificate: Option<ClientCertificate>,
    /// Of these files' bytes: another certificate under the same name is a change.
    pub server_tls_digest: u64,
    pub reads: ReadSettings,
    pub policies: Policies,
    pub commits: CommitSettings,
    /// At least one.
    pub shards: Vec<Shard>,
    pub topology: Topology,
    /// Declared classes; `schema.table`.
    pub tables: BTreeMap<(String, String), TableRule>,
    /// Columns that get an id where an INSERT leaves them out, by (schema, table).
    pub default_ids: BTreeMap<(String, String), String>,
    /// The shard of all tables of a schema that are not declared themselves; `*` is every schema but
    /// public.
    pub schemas: BTreeMap<String, ShardId>,
    /// What functions do, where their volatility does not tell.
    pub functions: BTreeMap<FunctionName, FunctionRule>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServerUser {
    pub name: String,
    pub secret: ServerSecret,
}

/// A certificate and its key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    Disable,
    /// TLS without verifying the certificate, as libpq's `require`.
    Require,
    /// The certificate has to be of an authority that is trusted.
    VerifyCa,
    /// And has to be the server's own.
    VerifyFull,
}

impl TlsMode {
    /// Its word in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Shard {
    pub id: ShardId,
    pub name: String,
    /// Database name on the servers.
    pub dbname: String,
    /// Primary and replicas in any order: roles are observed.
    pub endpoints: Vec<Endpoint>,
}

/// `host:port` of a server; a host that starts with `/` is a directory of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableRule {
    Sharded {
        /// Columns in order; never empty.
        key: Vec<String>,
        /// The rule of the topology that places keys; `None` is by hash.
        by: Option<RuleId>,
    },
    Reference,
    Single(ShardId),
}

impl Database {
    pub fn is_sharded(&self) -> bool {
        self.shards.len() > 1
    }

    /// The name on the servers of a shard, for clients who ask for the database `name`: what the
    /// wildcard does not name is named as the client does.
    pub fn dbname_for<'a>(&'a self, name: &'a str, shard: usize) -> &'a str {
        match self.shards.get(shard) {
            Some(shard) if shard.dbname != WILDCARD => &shard.dbname,
            Some(_) | None => name,
        }
    }

    /// The wildcard as the database `name`.
    pub fn named(&self, name: &str) -> Self {
        let mut database = self.clone();
        name.clone_into(&mut database.name);
        for (at, shard) in database.shards.iter_mut().enumerate() {
            shard.dbname = self.dbname_for(name, at).to_owned();
        }
        // One server has nobody to change roles with.
        if !database.is_sharded() && database.shards.iter().all(|s| s.endpoints.len() == 1) {
            let poll = &mut database.reads.poll_interval;
            *poll = (*poll).max(WILDCARD_POLL);
        }
        database
    }

    /// True if statements that were planned for this database go to the same shards of the other.
    pub fn routes_as(&self, other: &Self) -> bool {
        let names = |database: &Self| -> Vec<String> {
            let shards = database.shards.iter();
            shards.map(|shard| shard.name.clone()).collect()
        };
        match (self.is_sharded(), other.is_sharded()) {
            (false, false) => true,
            (true, true) => {
                let same = names(self) == names(other);
                same && self.topology == other.topology
                    && self.tables == other.tables
                    && self.default_ids == other.default_ids
                    && self.schemas == other.schemas
            }
            (true, false) | (false, true) => false,
        }
    }

    /// True if only the settings of pools differ.
    pub fn differs_in_pool_only(&self, other: &Self) -> bool {
        let same = Self {
            pool: other.pool.clone(),
            ..self.clone()
        };
        same == *other
    }
}
