//! Why settings of PgDog are not carried over.

type Reasons = &'static [(&'static str, &'static str)];

pub(in crate::import) const STATEMENT_TIMEOUT: &str = "query_timeout_ms: Ringway itself cancels what runs longer, and SET \
                                            statement_timeout does not change that";

const HEALTH: &str =
    "not needed: servers are asked every reads.poll_interval_ms, and one that fails is out at once";
const RESHARDING: &str = "absent: it is of PgDog's resharding";
const PARSER: &str = "not needed: every statement is read, once per shape";
const MIRROR: &str = "absent: there is no mirroring";
const TWO_PHASE: &str =
    "not needed: the decision is a row on a shard, no process keeps a log (docs/atomic-commits.md)";
const SCHEMA: &str = "not needed: the schema is read at the start and again after DDL";
const LSN: &str = "not needed: positions are asked every reads.poll_interval_ms";
const LOGS: &str = "absent at level info: log_level = \"info,ringway::session=debug\"";
const FOLLOWED: &str = "not needed: prepared statements always follow their client";
const ONE_SHARD: &str = "no database has several shards";
const ONE_SERVER: &str = "no shard has more than one server";
const EVERYWHERE: &str = "not needed: tables of the system are read where it makes no difference";

pub(in crate::import) const GENERAL: Reasons = &[
    ("ban_replica_lag", ONE_SERVER),
    (
        "ban_replica_lag_bytes",
        "absent: lag is counted in time (reads.max_lag_ms)",
    ),
    ("ban_timeout", HEALTH),
    ("broadcast_address", SCHEMA),
    ("broadcast_port", SCHEMA),
    (
        "client_connection_recovery",
        "not needed: a client stays connected when no server can be had",
    ),
    (
        "connect_attempt_delay",
        "not needed: login_retry_ms, of the database",
    ),
    (
        "connect_attempts",
        "not needed: login_retry_ms, of the database",
    ),
    (
        "connection_recovery",
        "not needed: what a client leaves behind is rolled back, cancelled or closed",
    ),
    ("cross_shard_disabled", ONE_SHARD),
    ("cutover_last_transaction_delay", RESHARDING),
    ("cutover_replication_lag_threshold", RESHARDING),
    ("cutover_save_config", RESHARDING),
    ("cutover_timeout", RESHARDING),
    ("cutover_timeout_action", RESHARDING),
    ("cutover_traffic_stop_threshold", RESHARDING),
    (
        "dns_ttl",
        "not needed: the system is asked for each new connection, RECONNECT moves the old ones",
    ),
    (
        "dry_run",
        "not needed: `ringway analyze` tells what a sharded database would do with a log",
    ),
    ("expanded_explain", "not needed: EXPLAIN (ROUTE)"),
    ("healthcheck_interval", HEALTH),
    ("healthcheck_timeout", HEALTH),
    ("idle_healthcheck_delay", HEALTH),
    ("idle_healthcheck_interval", HEALTH),
    ("load_balancing_strategy", ONE_SERVER),
    ("load_schema", SCHEMA),
    ("log_connections", LOGS),
    ("log_dedup_threshold", "absent"),
    ("log_dedup_window", "absent"),
    ("log_disconnections", LOGS),
    ("lsn_check_delay", LSN),
    ("lsn_check_interval", LSN),
    ("lsn_check_timeout", LSN),
    ("mirror_exposure", MIRROR),
    ("mirror_queue", MIRROR),
    ("omnisharded_sticky", EVERYWHERE),
    ("openmetrics_namespace", "absent: names begin with ringway_"),
    (
        "passthrough_auth",
        "not needed: [auth] auth_query asks the servers for users who are not listed",
    ),
    ("prepared_statements", FOLLOWED),
    (
        "pub_sub_channel_size",
        "not needed: LISTEN always works (docs/listen.md)",
    ),
    (
        "query_cache_limit",
        "not needed: plan_cache_mib bounds it in bytes",
    ),
    (
        "query_log",
        "absent: log_min_duration_statement on the servers",
    ),
    ("query_parser", PARSER),
    ("query_parser_enabled", PARSER),
    ("query_parser_engine", PARSER),
    ("read_write_split", ONE_SERVER),
    ("read_write_strategy", ONE_SERVER),
    ("regex_parser_limit", PARSER),
    ("reload_schema_on_ddl", SCHEMA),
    ("resharding_copy_format", RESHARDING),
    ("resharding_copy_retry_max_attempts", RESHARDING),
    ("resharding_copy_retry_min_delay", RESHARDING),
    ("resharding_parallel_copies", RESHARDING),
    ("resharding_replication_retry_max_attempts", RESHARDING),
    ("resharding_replication_retry_min_delay", RESHARDING),
    (
        "rollback_timeout",
        "not needed: what a client leaves behind is cancelled until it ends",
    ),
    (
        "server_lifetime_jitter",
        "not needed: connections are closed up to a tenth earlier",
    ),
    (
        "shutdown_termination_timeout",
        "not needed: what still runs after shutdown_timeout_s is cancelled",
    ),
    (
        "stats_period",
        "not needed: averages are of the last one to two minutes",
    ),
    ("system_catalogs", EVERYWHERE),
    ("two_phase_commit", ONE_SHARD),
    ("two_phase_commit_auto", ONE_SHARD),
    ("two_phase_commit_wal_checkpoint_interval", TWO_PHASE),
    ("two_phase_commit_wal_dir", TWO_PHASE),
    ("two_phase_commit_wal_fsync_interval", TWO_PHASE),
    ("two_phase_commit_wal_segment_size", TWO_PHASE),
    (
        "unique_id_function",
        "ids are of ringway.next_id(): docs/ids.md",
    ),
    ("unique_id_min", "ids are of ringway.next_id(): docs/ids.md"),
];

/// Tables and lists of pgdog.toml as wholes.
pub(in crate::import) const SECTIONS: Reasons = &[
    ("control", "absent: it is of PgDog's Enterprise Edition"),
    (
        "manual_queries",
        "absent: hints in the statement, /* ringway: shard=shard_0 */",
    ),
    (
        "memory",
        "not needed: memory has caps in bytes (max_message_mib, merge_memory_mib, plan_cache_mib)",
    ),
    ("mirroring", MIRROR),
    (
        "multi_tenant",
        "absent: scatter_reads, scatter_writes and missing_key = \"deny\" refuse statements without a key",
    ),
    (
        "otel",
        "absent: PgDog's exporter of metrics; Ringway's are scraped from /metrics",
    ),
    ("plugins", "absent: there are no plugins"),
    ("query_stats", "absent: pg_stat_statements on the servers"),
    ("replica_lag", LSN),
    ("replication", RESHARDING),
    (
        "rewrite",
        "not needed: INSERTs are split and rows moved when their key is updated, in one atomic commit",
    ),
    (
        "vault",
        "absent: passwords come from files or the environment (password_file, password_env)",
    ),
];

pub(in crate::import) const DATABASE: Reasons = &[
    (
        "lock_timeout",
        "absent: ALTER ROLE … IN DATABASE … SET lock_timeout on the server",
    ),
    ("password", "there is no user beside it"),
    (
        "read_only",
        "absent: ALTER ROLE … IN DATABASE … SET default_transaction_read_only on the server",
    ),
    (
        "server_lifetime_jitter",
        "not needed: connections are closed up to a tenth earlier",
    ),
];

pub(in crate::import) const USER: Reasons = &[
    (
        "cross_shard_disabled",
        "scatter_reads and scatter_writes are of the database",
    ),
    (
        "identity",
        "clients' certificates are matched by the method cert and a user map (docs/authentication.md)",
    ),
    ("idle_timeout", "idle_timeout_s is of the database"),
    (
        "lock_timeout",
        "absent: ALTER ROLE … SET lock_timeout on the server",
    ),
    (
        "min_pool_size",
        "min_pool_size is of the database, for its server_user",
    ),
    (
        "read_only",
        "absent: ALTER ROLE … SET default_transaction_read_only on the server",
    ),
    (
        "replication_mode",
        "not needed: replication passes where the client asks for it",
    ),
    ("replication_sharding", RESHARDING),
    ("schema_admin", "absent: the schema is read by monitor_user"),
    (
        "server_auth",
        "absent: servers are logged in to with a password or a certificate",
    ),
    (
        "server_iam_region",
        "absent: servers are logged in to with a password or a certificate",
    ),
    ("server_lifetime", "max_lifetime_s is of the database"),
    (
        "server_lifetime_jitter",
        "not needed: connections are closed up to a tenth earlier",
    ),
    ("two_phase_commit", "multi_shard_commit is of the database"),
    (
        "two_phase_commit_auto",
        "multi_shard_commit is of the database",
    ),
    (
        "vault_path",
        "absent: passwords come from files or the environment (password_file, password_env)",
    ),
    (
        "vault_refresh_percent",
        "absent: passwords come from files or the environment (password_file, password_env)",
    ),
];
