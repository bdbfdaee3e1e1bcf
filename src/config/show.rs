//! The configuration as SHOW CONFIG prints it, under the keys of the file and without secrets.

use std::time::Duration;

use super::{
    AuthQuery, AuthSettings, ClientCertificate, CommitSettings, Config, DEFAULT_AUTH_QUERY,
    Database, General, LogFormat, Policies, Policy, PoolSettings, ReadSettings, ServerUser,
    TcpOptions, Timeouts, TlsMode, TracingSettings, UserLimits,
};

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As in the file: `general.listen`, `databases.shop.pool_size`.
    pub key: String,
    pub value: String,
    /// Empty where the setting has none.
    pub default: String,
    /// False when only a restart applies a change.
    pub changeable: bool,
}

/// Every setting in force, in the file's order; secrets show only that they are there.
pub fn entries(config: &Config) -> Vec<Entry> {
    let mut entries = general(&config.general, &General::default());
    let tls = config.tls.as_ref();
    let path = |path: Option<&std::path::PathBuf>| path.map(|p| p.display().to_string());
    entries.extend([
        unset("tls.certificate", path(tls.map(|tls| &tls.certificate))),
        unset("tls.private_key", path(tls.map(|tls| &tls.private_key))),
        setting("tls.required", tls.is_some_and(|tls| tls.required), false),
        unset(
            "tls.client_ca",
            path(tls.and_then(|tls| tls.client_ca.as_ref())),
        ),
    ]);
    entries.extend(auth(&config.auth, &AuthSettings::default()));
    for user in config.users.values() {
        let given = user_limits(&user.limits).into_iter();
        let given = given.filter(|entry| !entry.value.is_empty());
        entries.extend(given.map(|entry| Entry {
            key: format!("users.{}.{}", user.name, entry.key),
            ..entry
        }));
    }
    entries.extend(
        config
            .peers
            .iter()
            .map(|(id, address)| setting(&format!("peers.{id}"), address, "")),
    );
    for database in config.databases.values() {
        let prefix = format!("databases.{}", database.name);
        let settings = database_settings(database);
        entries.extend(settings.into_iter().map(|entry| Entry {
            key: format!("{prefix}.{}", entry.key),
            ..entry
        }));
    }
    entries.extend(names_of_pgbouncer(&config.general));
    entries
}

/// What exporters made for PgBouncer look for, under its names. They are changed under Ringway's own.
fn names_of_pgbouncer(now: &General) -> Vec<Entry> {
    let default = General::default();
    let named = |key, value: &dyn ToString, default: &dyn ToString| {
        restart(setting(key, value.to_string(), default.to_string()))
    };
    vec![
        named("max_client_conn", &now.max_clients, &default.max_clients),
        named(
            "max_user_connections",
            &now.max_user_connections,
            &default.max_user_connections,
        ),
        named(
            "max_user_client_connections",
            &now.max_user_clients,
            &default.max_user_clients,
        ),
    ]
}

/// The keys of settings that differ and that a reload cannot apply.
pub fn diff_needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let default = General::default();
    let old = general(&old.general, &default);
    let new = general(&new.general, &default);
    let changed = old
        .into_iter()
        .zip(new)
        .filter(|(old, new)| old.value != new.value);
    changed
        .filter(|(old, _)| !old.changeable)
        .map(|(old, _)| old.key)
        .collect()
}

fn general(now: &General, default: &General) -> Vec<Entry> {
    let listen = |general: &General| join(general.listen.iter());
    let http = now.http_listen.map(|address| address.to_string());
    let octal = |general: &General| format!("{:04o}", general.unix_socket_mode);
    let traced = |what: fn(&TracingSettings) -> String| now.tracing.as_ref().map(what);
    let watch = |general: &General| general.watch_interval.unwrap_or_default();
    let mut entries = vec![
        restart(setting("general.listen", listen(now), listen(default))),
        restart(unset("general.http_listen", http)),
        restart(setting(
            "general.unix_socket_mode",
            octal(now),
            octal(default),
        )),
        restart(setting(
            "general.reuse_port",
            now.reuse_port,
            default.reuse_port,
        )),
        restart(unset(
            "general.peer_id",
            now.peer_id.map(|id| id.to_string()),
        )),
        restart(unset(
            "general.run_directory",
            now.run_directory
                .as_ref()
                .map(|path| path.display().to_string()),
        )),
        restart(setting("general.workers", now.workers, default.workers)),
        restart(setting("general.log_format", format(now), format(default))),
        setting("general.log_level", &now.log_level, &default.log_level),
        setting("general.max_clients", now.max_clients, default.max_clients),
        setting(
            "general.max_user_connections",
            now.max_user_connections,
            default.max_user_connections,
        ),
        setting(
            "general.max_user_client_connections",
            now.max_user_clients,
            default.max_user_clients,
        ),
        setting("general.admin_users", now.admin_users.join(", "), ""),
        setting("general.stats_users", now.stats_users.join(", "), ""),
        setting(
            "general.max_message_mib",
            mib(now.max_message_bytes),
            mib(default.max_message_bytes),
        ),
        seconds(
            "general.login_timeout_s",
            now.login_timeout,
            default.login_timeout,
        ),
    ];
    let tcp = tcp_options(now.tcp, default.tcp).into_iter();
    entries.extend(tcp.map(|entry| Entry {
        key: format!("general.{}", entry.key),
        ..entry
    }));
    entries.extend([
        seconds(
            "general.shutdown_timeout_s",
            now.shutdown_timeout,
            default.shutdown_timeout,
        ),
        seconds("general.watch_interval_s", watch(now), watch(default)),
        setting(
            "general.plan_cache_mib",
            mib(now.plan_cache_bytes),
            mib(default.plan_cache_bytes),
        ),
        restart(setting(
            "general.max_digests",
            now.max_digests,
            default.max_digests,
        )),
        setting(
            "general.merge_memory_mib",
            mib(now.merge_memory_bytes),
            mib(default.merge_memory_bytes),
        ),
        unset(
            "general.log_min_duration_ms",
            now.log_min_duration
                .map(|time| time.as_millis().to_string()),
        ),
        setting("general.log_values", now.log_values, default.log_values),
        restart(unset("tracing.endpoint", traced(TracingSettings::url))),
        restart(setting(
            "tracing.sample_one_in",
            traced(|to| to.sample_one_in.to_string()).unwrap_or("100".to_owned()),
            100,
        )),
        restart(setting(
            "tracing.service_name",
            traced(|to| to.service_name.clone()).unwrap_or("ringway".to_owned()),
            "ringway",
        )),
    ]);
    entries
}

fn tcp_options(now: TcpOptions, default: TcpOptions) -> [Entry; 4] {
    let timeout = |tcp: TcpOptions| tcp.user_timeout.unwrap_or_default();
    [
        seconds(
            "tcp_keepalive_idle_s",
            now.keepalive_idle,
            default.keepalive_idle,
        ),
        seconds(
            "tcp_keepalive_interval_s",
            now.keepalive_interval,
            default.keepalive_interval,
        ),
        setting(
            "tcp_keepalive_count",
            now.keepalive_count,
            default.keepalive_count,
        ),
        millis("tcp_user_timeout_ms", timeout(now), timeout(default)),
    ]
}

fn auth(now: &AuthSettings, default: &AuthSettings) -> Vec<Entry> {
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.display().to_string());
    let mut entries = vec![
        unset("users_file", path(&now.users_file)),
        unset("hba_file", path(&now.hba_file)),
        unset("ident_file", path(&now.ident_file)),
    ];
    entries.extend(auth_query(now.query.as_ref()));
    entries.extend([
        seconds("auth_query_ttl_s", now.query_ttl, default.query_ttl),
        setting("auth_query_cache", now.query_cache, default.query_cache),
    ]);
    let named = |entry: Entry| Entry {
        key: format!("auth.{}", entry.key),
        ..entry
    };
    entries.into_iter().map(named).collect()
}

fn auth_query(query: Option<&AuthQuery>) -> [Entry; 4] {
    let password = query.filter(|query| !query.user.secret.is_none());
    [
        unset("auth_user", query.map(|query| query.user.name.clone())),
        unset("auth_password", password.map(|_| "***".to_owned())),
        setting(
            "auth_query",
            query.map_or(DEFAULT_AUTH_QUERY, |query| &query.query),
            DEFAULT_AUTH_QUERY,
        ),
        unset("auth_dbname", query.and_then(|query| query.dbname.clone())),
    ]
}

fn database_settings(database: &Database) -> Vec<Entry> {
    let mut entries = pool_settings(&database.pool, &PoolSettings::default());
    entries.extend(tcp_options(database.tcp, TcpOptions::default()));
    entries.extend(read_settings(&database.reads, &ReadSettings::default()));
    let user = |user: &Option<ServerUser>| user.as_ref().map(|user| user.name.clone());
    let password = |user: &Option<ServerUser>| {
        user.as_ref()
            .filter(|user| !user.secret.is_none())
            .map(|_| "***".to_owned())
    };
    let ca = database
        .server_ca
        .as_ref()
        .map(|path| path.display().to_string());
    let file = |of: fn(&ClientCertificate) -> &std::path::PathBuf| {
        let own = database.server_certificate.as_ref();
        own.map(|own| of(own).display().to_string())
    };
    entries.extend([
        unset("server_user", user(&database.server_user)),
        unset("server_password", password(&database.server_user)),
        unset("monitor_user", user(&database.monitor_user)),
        unset("monitor_password", password(&database.monitor_user)),
        setting(
            "server_tls",
            database.server_tls.name(),
            TlsMode::Disable.name(),
        ),
        unset("server_ca", ca),
        unset("server_certificate", file(|own| &own.certificate)),
        unset("server_key", file(|own| &own.key)),
    ]);
    let Policies {
        scatter_reads,
        scatter_writes,
        missing_key,
    } = database.policies;
    entries.extend([
        setting("scatter_reads", scatter_reads.name(), Policy::Allow.name()),
        setting(
            "scatter_writes",
            scatter_writes.name(),
            Policy::Allow.name(),
        ),
        setting("missing_key", missing_key.name(), Policy::Allow.name()),
    ]);
    let (commits, default) = (&database.commits, CommitSettings::default());
    entries.extend([
        setting(
            "multi_shard_commit",
            commits.mode.name(),
            default.mode.name(),
        ),
        millis(
            "recovery_interval_ms",
            commits.recovery_interval,
            default.recovery_interval,
        ),
        seconds("decision_retention_s", commits.retention, default.retention),
        millis(
            "cross_shard_deadlock_timeout_ms",
            commits.deadlock_timeout.unwrap_or_default(),
            default.deadlock_timeout.unwrap_or_default(),
        ),
    ]);
    entries.extend(auth_query(database.auth_query.as_ref()));
    for shard in &database.shards {
        let key = format!("shards.{}", shard.name);
        entries.push(setting(
            &format!("{key}.servers"),
            join(shard.endpoints.iter()),
            "",
        ));
        entries.push(setting(
            &format!("{key}.dbname"),
            &shard.dbname,
            &database.name,
        ));
    }
    for (name, rule) in &database.functions {
        entries.push(setting(&format!("functions.{name}"), rule.name(), ""));
    }
    entries
}

fn pool_settings(now: &PoolSettings, default: &PoolSettings) -> Vec<Entry> {
    let mut entries = vec![
        setting("pool_mode", now.mode.name(), default.mode.name()),
        setting("pool_size", now.size, default.size),
        setting("min_pool_size", now.min_size, default.min_size),
        setting("reserve_pool_size", now.reserve_size, default.reserve_size),
        millis(
            "reserve_pool_timeout_ms",
            now.reserve_timeout,
            default.reserve_timeout,
        ),
        millis(
            "checkout_timeout_ms",
            now.checkout_timeout,
            default.checkout_timeout,
        ),
        millis("failover_hold_ms", now.failover_hold, default.failover_hold),
        millis(
            "connect_timeout_ms",
            now.connect_timeout,
            default.connect_timeout,
        ),
        millis("login_retry_ms", now.login_retry, default.login_retry),
        seconds("idle_timeout_s", now.idle_timeout, default.idle_timeout),
        seconds("max_lifetime_s", now.max_lifetime, default.max_lifetime),
        setting(
            "max_prepared_statements",
            now.max_prepared,
            default.max_prepared,
        ),
        setting(
            "max_prepared_mib",
            mib(now.max_prepared_bytes),
            mib(default.max_prepared_bytes),
        ),
        setting(
            "max_client_prepared_mib",
            mib(now.max_client_prepared_bytes),
            mib(default.max_client_prepared_bytes),
        ),
        setting(
            "max_db_prepared_mib",
            mib(now.max_db_prepared_bytes),
            mib(default.max_db_prepared_bytes),
        ),
        setting(
            "reuse_unnamed_statements",
            now.reuse_unnamed,
            default.reuse_unnamed,
        ),
        setting("max_db_connections", now.max_connections, 0),
        setting("max_db_client_connections", now.max_clients, 0),
    ];
    entries.extend(timeouts(&now.timeouts));
    entries.push(unset(
        "log_min_duration_ms",
        now.log_min_duration
            .map(|time| time.as_millis().to_string()),
    ));
    entries
}

/// 0 is none.
fn timeouts(now: &Timeouts) -> [Entry; 4] {
    let zero = Duration::ZERO;
    [
        seconds(
            "client_idle_timeout_s",
            now.client_idle.unwrap_or(zero),
            zero,
        ),
        millis("query_timeout_ms", now.query.unwrap_or(zero), zero),
        millis(
            "idle_transaction_timeout_ms",
            now.idle_transaction.unwrap_or(zero),
            zero,
        ),
        millis(
            "transaction_timeout_ms",
            now.transaction.unwrap_or(zero),
            zero,
        ),
    ]
}

/// What a user's section says about pools; what it leaves to the database is empty.
fn user_limits(limits: &UserLimits) -> Vec<Entry> {
    let number = |key, value: Option<u32>| unset(key, value.map(|n| n.to_string()));
    let time = |key: &str, value: Option<Duration>| {
        unset(
            key,
            value.map(|time| match key.ends_with("_ms") {
                true => time.as_millis().to_string(),
                false => time.as_secs().to_string(),
            }),
        )
    };
    let mode = limits.mode.map(|mode| mode.name().to_owned());
    vec![
        unset("pool_mode", mode),
        number("pool_size", limits.size),
        number("reserve_pool_size", limits.reserve_size),
        number("max_user_connections", limits.max_connections),
        number("max_user_client_connections", limits.max_clients),
        time("client_idle_timeout_s", limits.timeouts.client_idle),
        time("query_timeout_ms", limits.timeouts.query),
        time(
            "idle_transaction_timeout_ms",
            limits.timeouts.idle_transaction,
        ),
        time("transaction_timeout_ms", limits.timeouts.transaction),
    ]
}

fn read_settings(now: &ReadSettings, default: &ReadSettings) -> Vec<Entry> {
    vec![
        setting("reads.split", now.split, default.split),
        millis("reads.max_lag_ms", now.max_lag, default.max_lag),
        millis("reads.max_wait_ms", now.max_wait, default.max_wait),
        millis(
            "reads.poll_interval_ms",
            now.poll_interval,
            default.poll_interval,
        ),
        setting(
            "reads.freshness",
            now.freshness.name(),
            default.freshness.name(),
        ),
        setting("reads.balance", now.balance.name(), default.balance.name()),
        setting(
            "reads.primary_reads",
            now.primary.name(),
            default.primary.name(),
        ),
        setting(
            "reads.transactions",
            now.transactions.name(),
            default.transactions.name(),
        ),
        setting("reads.return_after", now.return_after, default.return_after),
        setting("reads.retry", now.retry, default.retry),
        millis("reads.slow_start_ms", now.slow_start, default.slow_start),
        millis("reads.blind_ms", now.blind, default.blind),
        millis("reads.eject_ms", now.eject, default.eject),
        setting(
            "reads.outlier_factor",
            now.outlier_factor,
            default.outlier_factor,
        ),
        millis(
            "reads.outlier_latency_ms",
            now.outlier_latency,
            default.outlier_latency,
        ),
        setting(
            "reads.outlier_failures",
            now.outlier_failures,
            default.outlier_failures,
        ),
        millis("reads.causal_ttl_ms", now.causal_ttl, default.causal_ttl),
        setting("reads.zone", now.zone.as_deref().unwrap_or(""), ""),
    ]
}

fn setting(key: &str, value: impl ToString, default: impl ToString) -> Entry {
    Entry {
        key: key.to_owned(),
        value: value.to_string(),
        default: default.to_string(),
        changeable: true,
    }
}

/// A setting without a default.
fn unset(key: &str, value: Option<String>) -> Entry {
    setting(key, value.unwrap_or_default(), "")
}

fn restart(entry: Entry) -> Entry {
    Entry {
        changeable: false,
        ..entry
    }
}

fn seconds(key: &str, value: Duration, default: Duration) -> Entry {
    setting(key, value.as_secs(), default.as_secs())
}

fn millis(key: &str, value: Duration, default: Duration) -> Entry {
    setting(key, value.as_millis(), default.as_millis())
}

fn mib(bytes: usize) -> usize {
    bytes >> 20
}

fn join(items: impl Iterator<Item = impl ToString>) -> String {
    items
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn format(general: &General) -> &'static str {
    match general.log_format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}
