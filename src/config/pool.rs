//! How server connections are pooled: `[databases.NAME]` and what `[users.NAME]` says otherwise.

use std::time::Duration;

use super::reader::Section;

/// How long a client keeps a server connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    Transaction,
    /// Until the client leaves.
    Session,
    /// For one statement: transaction blocks are refused.
    Statement,
}

impl PoolMode {
    /// Its word in the file and in PgBouncer's tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Session => "session",
            Self::Statement => "statement",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct PoolSettings {
    pub mode: PoolMode,
    /// Server connections per (endpoint, database, user), over all workers.
    pub size: u32,
    /// Connections that are kept open, for a pool that is or was used.
    pub min_size: u32,
    /// Connections beyond `size` for those who have waited for `reserve_timeout`.
    pub reserve_size: u32,
    pub reserve_timeout: Duration,
    pub checkout_timeout: Duration,
    /// How long a statement that needs a primary waits while its shard has none; zero refuses it at once.
    pub failover_hold: Duration,
    pub connect_timeout: Duration,
    /// After a failed login, how long until the next try.
    pub login_retry: Duration,
    /// Server connections unused for longer are closed.
    pub idle_timeout: Duration,
    /// Server connections older than this are closed when returned.
    pub max_lifetime: Duration,
    /// Prepared statements kept per server connection.
    pub max_prepared: usize,
    /// Bytes of their texts, per server connection.
    pub max_prepared_bytes: usize,
    /// What the named statements of one client may take, in bytes.
    pub max_client_prepared_bytes: usize,
    /// What the texts of all clients' statements may take before none with a name is added, in bytes.
    pub max_db_prepared_bytes: usize,
    /// A text that clients parse again and again without a name is parsed once per connection.
    pub reuse_unnamed: bool,
    /// Connections to one server of the database, over all users; 0 is no limit.
    pub max_connections: u32,
    /// Clients of the database; 0 is no limit.
    pub max_clients: u32,
    pub timeouts: Timeouts,
    /// Statements that take as long are logged; `None` leaves it to `[general]`.
    pub log_min_duration: Option<Duration>,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            mode: PoolMode::Transaction,
            size: 20,
            min_size: 0,
            reserve_size: 0,
            reserve_timeout: Duration::from_secs(5),
            checkout_timeout: Duration::from_secs(10),
            failover_hold: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            login_retry: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(3_600),
            max_prepared: 256,
            max_prepared_bytes: 8 << 20,
            max_client_prepared_bytes: 16 << 20,
            max_db_prepared_bytes: 1 << 30,
            reuse_unnamed: false,
            max_connections: 0,
            max_clients: 0,
            timeouts: Timeouts::default(),
            log_min_duration: None,
        }
    }
}

/// What a client may take its time for; `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// Between transactions.
    pub client_idle: Option<Duration>,
    /// For one statement.
    pub query: Option<Duration>,
    /// Between the statements of a transaction.
    pub idle_transaction: Option<Duration>,
    /// For a transaction as a whole.
    pub transaction: Option<Duration>,
}

impl Timeouts {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// These where they are given, else `other`'s.
    fn or(self, other: Self) -> Self {
        Self {
            client_idle: self.client_idle.or(other.client_idle),
            query: self.query.or(other.query),
            idle_transaction: self.idle_transaction.or(other.idle_transaction),
            transaction: self.transaction.or(other.transaction),
        }
    }
}

/// What `[users.NAME]` says otherwise than the database; `None` leaves it to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserLimits {
    pub mode: Option<PoolMode>,
    pub size: Option<u32>,
    pub reserve_size: Option<u32>,
    /// Server connections that log in as this user, over all databases and servers; 0 is no limit.
    pub max_connections: Option<u32>,
    /// 0 is no limit.
    pub max_clients: Option<u32>,
    pub timeouts: Timeouts,
}

impl UserLimits {
    /// The settings of this user's pools in a database.
    pub fn apply(&self, database: &PoolSettings) -> PoolSettings {
        PoolSettings {
            mode: self.mode.unwrap_or(database.mode),
            size: self.size.unwrap_or(database.size),
            reserve_size: self.reserve_size.unwrap_or(database.reserve_size),
            timeouts: self.timeouts.or(database.timeouts),
            ..database.clone()
        }
    }
}

const MODES: [(&str, PoolMode); 3] = [
    ("transaction", PoolMode::Transaction),
    ("session", PoolMode::Session),
    ("statement", PoolMode::Statement),
];
const MOST: u32 = 100_000;

/// The keys of `[databases.NAME]`.
pub(super) fn settings(section: &Section<'_>) -> PoolSettings {
    let default = PoolSettings::default();
    let count = |key| section.integer(key, 0..=MOST);
    let settings = PoolSettings {
        mode: section.choice("pool_mode", &MODES).unwrap_or(default.mode),
        size: section
            .integer("pool_size", 1..=MOST)
            .unwrap_or(default.size),
        min_size: count("min_pool_size").unwrap_or(default.min_size),
        reserve_size: count("reserve_pool_size").unwrap_or(default.reserve_size),
        reserve_timeout: section
            .millis_or_zero("reserve_pool_timeout_ms")
            .unwrap_or(default.reserve_timeout),
        checkout_timeout: section
            .millis("checkout_timeout_ms")
            .unwrap_or(default.checkout_timeout),
        failover_hold: section
            .millis_or_zero("failover_hold_ms")
            .unwrap_or(default.failover_hold),
        connect_timeout: section
            .millis("connect_timeout_ms")
            .unwrap_or(default.connect_timeout),
        login_retry: section
            .millis("login_retry_ms")
            .unwrap_or(default.login_retry),
        idle_timeout: section
            .seconds("idle_timeout_s")
            .unwrap_or(default.idle_timeout),
        max_lifetime: section
            .seconds("max_lifetime_s")
            .unwrap_or(default.max_lifetime),
        max_prepared: section
            .integer("max_prepared_statements", 1..=1_000_000)
            .map_or(default.max_prepared, |count| count as usize),
        max_prepared_bytes: section
            .mib("max_prepared_mib", 65_536)
            .unwrap_or(default.max_prepared_bytes),
        max_client_prepared_bytes: section
            .mib("max_client_prepared_mib", 65_536)
            .unwrap_or(default.max_client_prepared_bytes),
        max_db_prepared_bytes: section
            .mib("max_db_prepared_mib", 1 << 20)
            .unwrap_or(default.max_db_prepared_bytes),
        reuse_unnamed: section
            .boolean("reuse_unnamed_statements")
            .unwrap_or(default.reuse_unnamed),
        max_connections: count("max_db_connections").unwrap_or(default.max_connections),
        max_clients: section
            .integer("max_db_client_connections", 0..=1_000_000)
            .unwrap_or(default.max_clients),
        timeouts: timeouts(section),
        log_min_duration: section.millis_or_zero("log_min_duration_ms"),
    };
    if settings.min_size > settings.size {
        let what = format!(
            "{} is more than pool_size, {}",
            settings.min_size, settings.size
        );
        section.mistake("min_pool_size", what, "raise pool_size or lower this");
    }
    settings
}

/// The keys of `[users.NAME]` that are about pools.
pub(super) fn user_limits(section: &Section<'_>) -> UserLimits {
    UserLimits {
        mode: section.choice("pool_mode", &MODES),
        size: section.integer("pool_size", 1..=MOST),
        reserve_size: section.integer("reserve_pool_size", 0..=MOST),
        max_connections: section.integer("max_user_connections", 0..=MOST),
        max_clients: section.integer("max_user_client_connections", 0..=1_000_000),
        timeouts: timeouts(section),
    }
}

fn timeouts(section: &Section<'_>) -> Timeouts {
    let some = |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero());
    Timeouts {
        client_idle: some(section.seconds_or_zero("client_idle_timeout_s")),
        query: some(section.millis_or_zero("query_timeout_ms")),
        idle_transaction: some(section.millis_or_zero("idle_transaction_timeout_ms")),
        transaction: some(section.millis_or_zero("transaction_timeout_ms")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_goes_before_its_database() {
        let database = PoolSettings {
            timeouts: Timeouts {
                query: Some(Duration::from_secs(1)),
                transaction: Some(Duration::from_secs(2)),
                ..Timeouts::default()
            },
            ..PoolSettings::default()
        };
        assert_eq!(UserLimits::default().apply(&database), database);
        let user = UserLimits {
            mode: Some(PoolMode::Session),
            size: Some(3),
            timeouts: Timeouts {
                query: Some(Duration::from_secs(9)),
                ..Timeouts::default()
            },
            ..UserLimits::default()
        };
        let both = user.apply(&database);
        assert_eq!((both.mode, both.size), (PoolMode::Session, 3));
        assert_eq!(both.timeouts.query, Some(Duration::from_secs(9)));
        assert_eq!(both.timeouts.transaction, Some(Duration::from_secs(2)));
    }
}
