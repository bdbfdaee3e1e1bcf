//! From pgcat.toml, as of 1.2. <https://github.com/postgresml/pgcat/blob/main/CONFIG.md>

use std::path::Path;

use toml::Value;

use super::accounts::{self, Account, Admin, Login};
use super::draft::{DatabaseDraft, Draft, Section};
use super::hashed::{self, HashedType, Numbered};
use super::notes::Notes;
use super::written::{Table, Unit, Zero};
use super::{Sources, read_toml};
use crate::error::Error;

const MOST: i64 = 100_000;
const FOLLOWED: &str = "not needed: prepared statements always follow their client";
const HEALTH: &str =
    "not needed: servers are asked every reads.poll_interval_ms, and one that fails is out at once";
const DNS: &str =
    "not needed: the system is asked for each new connection, RECONNECT moves the old ones";
const BY_TABLES: &str = "shards are told by the tables' keys and not by what clients say of each statement: \
                         declare the tables; hints are /* ringway: key=17 */ and shard=shard_0";

pub(super) const GENERAL_REASONS: &[(&str, &str)] = &[
    ("ban_time", HEALTH),
    ("dns_cache_enabled", DNS),
    ("dns_max_ttl", DNS),
    ("healthcheck_delay", HEALTH),
    ("healthcheck_timeout", HEALTH),
    (
        "log_client_connections",
        "absent at level info: log_level = \"info,ringway::session=debug\"",
    ),
    (
        "log_client_disconnections",
        "absent at level info: log_level = \"info,ringway::session=debug\"",
    ),
    ("prepared_statements", FOLLOWED),
    (
        "server_round_robin",
        "not needed: of one server the connection used last is taken",
    ),
    (
        "validate_config",
        "not needed: it is always checked, `ringway check` tells all mistakes",
    ),
];

pub(super) const POOL_REASONS: &[(&str, &str)] = &[
    (
        "checkout_failure_limit",
        "absent: who waits too long gets 53300 and stays",
    ),
    (
        "cleanup_server_connections",
        "not needed: DISCARD ALL runs by itself after what does not follow the client",
    ),
    (
        "db_activity_based_routing",
        "not needed: a session's reads see its own writes (docs/fresh-reads.md)",
    ),
    (
        "db_activity_init_delay",
        "not needed: a session's reads see its own writes (docs/fresh-reads.md)",
    ),
    (
        "db_activity_ttl",
        "not needed: a session's reads see its own writes (docs/fresh-reads.md)",
    ),
    ("default_shard", BY_TABLES),
    ("log_client_parameter_status_changes", "absent"),
    ("plugins", "absent: there are no plugins"),
    (
        "query_parser_max_length",
        "not needed: statements are read up to max_message_mib",
    ),
    ("regex_search_limit", BY_TABLES),
    ("shard_id_regex", BY_TABLES),
    ("sharding_key_regex", BY_TABLES),
    (
        "table_mutation_cache_ms_ttl",
        "not needed: a session's reads see its own writes (docs/fresh-reads.md)",
    ),
];

pub(super) fn read(path: &Path, sources: &mut Sources, notes: &Notes) -> Result<Draft, Error> {
    let file = Sources::name(path);
    let root = read_toml(path, sources)?;
    let mut draft = Draft::default();
    let general = Table::of_toml(format!("{file}: general"), &table_of(root.get("general")));
    settings(&general, &mut draft, notes);
    client_tls(&general, path, sources, &mut draft, notes);
    let admin = admin(&general, notes);
    let pools = table_of(root.get("pools"));
    let mut people = Vec::new();
    for (name, pool) in &pools {
        let place = format!("{file}: pools.{name}");
        let Value::Table(pool) = pool else {
            notes.unknown(place);
            continue;
        };
        let pool = Table::of_toml(place, pool);
        let made = database(name, &pool, &general, &mut people, notes);
        draft.databases.insert(name.clone(), made);
    }
    accounts::write(people, admin, Login::Scram, &mut draft, notes);
    notes.changed(
        "password logins",
        "clients are asked by SCRAM-SHA-256 and not by md5",
    );
    general.finish(GENERAL_REASONS, notes);
    rest(&root, &file, notes);
    Ok(draft)
}

/// What is beside the sections that are read.
fn rest(root: &toml::Table, file: &str, notes: &Notes) {
    let known = ["general", "pools"];
    for key in root.keys().filter(|key| !known.contains(&key.as_str())) {
        match key.as_str() {
            "path" => notes.dropped(
                format!("{file}: path"),
                "not needed: `ringway serve -c` names the file",
            ),
            "plugins" => notes.dropped(format!("{file}: plugins"), "absent: there are no plugins"),
            _ => notes.unknown(format!("{file}: {key}")),
        }
    }
}

fn table_of(value: Option<&Value>) -> toml::Table {
    value.and_then(Value::as_table).cloned().unwrap_or_default()
}

fn settings(general: &Table, draft: &mut Draft, notes: &Notes) {
    let section = &mut draft.general;
    let host = general.text("host").unwrap_or_else(|| "0.0.0.0".to_owned());
    let host = if host == "localhost" {
        "127.0.0.1".to_owned()
    } else {
        host
    };
    let port = general
        .count("port", 1..=65_535, Zero::Least, notes)
        .unwrap_or(5432);
    section.set("listen", hashed::endpoint(&host, port));
    let is_on = general.boolean("enable_prometheus_exporter", notes) == Some(true);
    let port = general.count("prometheus_exporter_port", 1..=65_535, Zero::Least, notes);
    let place = general.place();
    match (is_on, port) {
        (true, port) => {
            section.set(
                "http_listen",
                hashed::endpoint("0.0.0.0", port.unwrap_or(9930)),
            );
            let why =
                "metrics have other names: the dashboard and the alert rules in docker/ know them";
            notes.changed(format!("{place}: enable_prometheus_exporter = true"), why);
        }
        (false, Some(port)) => {
            let why = "the exporter is not enabled: http_listen has /metrics";
            notes.dropped(format!("{place}: prometheus_exporter_port = {port}"), why);
        }
        (false, None) => {}
    }
    let workers = general.count("worker_threads", 1..=256, Zero::Least, notes);
    section.set_some("workers", workers);
    let shutdown = general.seconds("shutdown_timeout", Unit::Millis, 0, Zero::Least, notes);
    section.set("shutdown_timeout_s", shutdown.unwrap_or(60));
    let reload = general.seconds("autoreload", Unit::Millis, 0, Zero::Least, notes);
    // Without the key it waits for an order.
    section.set("watch_interval_s", reload.unwrap_or(0));
    let keys = [
        ("tcp_keepalives_idle", "tcp_keepalive_idle_s", 32_767, 5),
        (
            "tcp_keepalives_interval",
            "tcp_keepalive_interval_s",
            32_767,
            5,
        ),
        ("tcp_keepalives_count", "tcp_keepalive_count", 127, 5),
    ];
    for (theirs, ours, most, default) in keys {
        let value = general.count(theirs, 1..=most, Zero::Least, notes);
        section.set(ours, value.unwrap_or(default));
    }
    let user_timeout = general.count(
        "tcp_user_timeout",
        0..=i64::from(i32::MAX),
        Zero::Least,
        notes,
    );
    section.set_some("tcp_user_timeout_ms", user_timeout);
}

fn client_tls(general: &Table, path: &Path, sources: &Sources, draft: &mut Draft, _: &Notes) {
    for (theirs, ours) in [
        ("tls_certificate", "certificate"),
        ("tls_private_key", "private_key"),
    ] {
        if let Some(file) = general.text(theirs) {
            draft.tls.set(ours, sources.path(&file, path));
        }
    }
}

fn admin(general: &Table, notes: &Notes) -> Option<Admin> {
    let (name, password) = (
        general.text("admin_username"),
        general.text("admin_password"),
    );
    for key in ["admin_auth_type"] {
        if let Some(setting) = general.take(key) {
            notes.dropped(setting.shown(), "the admin's method is scram-sha-256");
        }
    }
    Some(Admin {
        place: general.place().to_owned(),
        name: name?,
        password: password?,
    })
}

fn database(
    name: &str,
    pool: &Table,
    general: &Table,
    people: &mut Vec<Account>,
    notes: &Notes,
) -> DatabaseDraft {
    let mut database = DatabaseDraft::default();
    let shards = numbered(pool, notes);
    let several = shards.iter().any(|shard| shard.servers.len() > 1);
    let names = hashed::shards(name, shards, &mut database);
    let section = &mut database.settings;
    section.set_some("pool_mode", pool.text("pool_mode"));
    timeouts(pool, general, section, notes);
    server_tls(general, section, notes);
    if let Some(count) = pool.count(
        "prepared_statements_cache_size",
        0..=1_000_000,
        Zero::Least,
        notes,
    ) {
        section.set_some("max_prepared_statements", (count > 0).then_some(count));
    }
    auth_query(pool, general, section, notes);
    if several {
        reads(pool, &mut database.reads, notes);
    } else {
        for key in [
            "default_role",
            "load_balancing_mode",
            "primary_reads_enabled",
            "query_parser_enabled",
            "query_parser_read_write_splitting",
            "replica_to_primary_failover_enabled",
        ] {
            if let Some(setting) = pool.take(key) {
                notes.dropped(setting.shown(), "no shard has more than one server");
            }
        }
    }
    sharding(pool, &names, &mut database, notes);
    users(name, pool, people, notes);
    pool.finish(POOL_REASONS, notes);
    database
}

/// The shards by their numbers, which have to be 0, 1, 2 …
fn numbered(pool: &Table, notes: &Notes) -> Vec<Numbered> {
    let shards = table_of(pool.take("shards").map(|setting| setting.value()));
    let mut known: Vec<(i64, Numbered)> = Vec::new();
    for (number, shard) in &shards {
        let place = format!("{}.shards.{number}", pool.place());
        let (Ok(number), Value::Table(shard)) = (number.parse::<i64>(), shard) else {
            notes.unknown(place);
            continue;
        };
        let shard = Table::of_toml(place, shard);
        let mut made = Numbered {
            dbname: shard.text("database"),
            servers: Vec::new(),
        };
        let servers = shard
            .take("servers")
            .and_then(|servers| servers.value().as_array());
        for server in servers.into_iter().flatten() {
            match server_of(server) {
                Some(server) => made.servers.push(server),
                None => notes.dropped(
                    format!("{}: servers {server}", shard.place()),
                    "not a host, port and role",
                ),
            }
        }
        if servers.is_some() {
            notes.changed(
                format!("{}: servers", shard.place()),
                "roles are observed, not configured",
            );
        }
        shard.finish(&[("mirrors", "absent: there is no mirroring")], notes);
        known.push((number, made));
    }
    known.sort_by_key(|(number, _)| *number);
    known.into_iter().map(|(_, shard)| shard).collect()
}

/// `[host, port, role]`, or a table of them.
fn server_of(server: &Value) -> Option<String> {
    let (host, port) = match server {
        Value::Array(parts) => (parts.first()?.as_str()?, parts.get(1)?.as_integer()?),
        Value::Table(parts) => (
            parts.get("host")?.as_str()?,
            parts.get("port")?.as_integer()?,
        ),
        _ => return None,
    };
    Some(hashed::endpoint(host, port))
}

fn timeouts(pool: &Table, general: &Table, section: &mut Section, notes: &Notes) {
    // A pool's own value goes before the general one.
    let millis = |key: &str, default: i64| {
        let value = |table: &Table| table.millis(key, Unit::Millis, 1, Zero::Endless, notes);
        let (own, common) = (value(pool), value(general));
        own.or(common).unwrap_or(default)
    };
    section.set("connect_timeout_ms", millis("connect_timeout", 1_000));
    section.set("checkout_timeout_ms", millis("connect_timeout", 1_000));
    let seconds = |key: &str, default: i64| {
        let value = |table: &Table| table.seconds(key, Unit::Millis, 1, Zero::Endless, notes);
        let (own, common) = (value(pool), value(general));
        own.or(common).unwrap_or(default)
    };
    section.set("idle_timeout_s", seconds("idle_timeout", 60));
    section.set("max_lifetime_s", seconds("server_lifetime", 86_400));
    let key = "idle_client_in_transaction_timeout";
    let idle = general.millis(key, Unit::Millis, 0, Zero::Least, notes);
    section.set_some("idle_transaction_timeout_ms", idle.filter(|ms| *ms > 0));
}

fn server_tls(general: &Table, section: &mut Section, notes: &Notes) {
    let wanted = general.boolean("server_tls", notes).unwrap_or(false);
    if wanted {
        section.set("server_tls", "require");
    }
    if let Some(setting) = general.take("verify_server_certificate")
        && setting.text() == "true"
    {
        let why = "servers' certificates are not checked yet: write server_tls = \"verify-full\" and server_ca";
        notes.dropped(setting.shown(), why);
    }
}

fn auth_query(pool: &Table, general: &Table, section: &mut Section, notes: &Notes) {
    let text = |key: &str| {
        let (own, common) = (pool.text(key), general.text(key));
        own.or(common)
    };
    let (query, user, password) = (
        text("auth_query"),
        text("auth_query_user"),
        text("auth_query_password"),
    );
    if let (Some(query), Some(user)) = (query, user) {
        section.set("auth_user", user);
        section.set_some("auth_password", password);
        match query.contains("$1") {
            true => section.set("auth_query", query),
            // PgCat writes the name into the text.
            false => {
                let why = "the user's name has to be $1: the default query, of pg_shadow, is asked";
                notes.dropped(format!("{}: auth_query = {query}", pool.place()), why);
            }
        }
    }
}

fn reads(pool: &Table, reads: &mut Section, notes: &Notes) {
    let parser = pool.boolean("query_parser_enabled", notes).unwrap_or(false);
    let splits = pool
        .boolean("query_parser_read_write_splitting", notes)
        .unwrap_or(parser);
    let role = pool
        .text("default_role")
        .unwrap_or_else(|| "any".to_owned());
    let primary = pool
        .boolean("primary_reads_enabled", notes)
        .unwrap_or(false);
    let balance = pool
        .text("load_balancing_mode")
        .unwrap_or_else(|| "random".to_owned());
    if let Some(setting) = pool.take("replica_to_primary_failover_enabled") {
        notes.dropped(setting.shown(), "not needed: primary_reads = \"when_out\"");
    }
    let setting = format!("{}: default_role = {role}", pool.place());
    let split = match (parser && splits, role.as_str()) {
        (true, _) => true,
        (false, "primary") => false,
        (false, _) => {
            let why = "statements went to any server unread: what provably reads goes to replicas, all else to \
                       the primary";
            notes.changed(setting.clone(), why);
            true
        }
    };
    if parser && role != "any" {
        notes.dropped(
            setting,
            "not needed: what provably reads goes to replicas, all else to the primary",
        );
    }
    reads.set("split", split);
    if split {
        reads.set("primary_reads", if primary { "always" } else { "when_out" });
        let balance = match balance.as_str() {
            "loc" | "LOC" | "least_outstanding_connections" => "least_connections",
            _ => "random",
        };
        reads.set("balance", balance);
    }
}

fn sharding(pool: &Table, names: &[String], database: &mut DatabaseDraft, notes: &Notes) {
    let function = pool.take("sharding_function");
    let key = pool.take("automatic_sharding_key");
    if names.is_empty() {
        for setting in [function, key].into_iter().flatten() {
            notes.dropped(setting.shown(), "the database has one shard");
        }
        return;
    }
    let name = function.map_or_else(|| "pg_bigint_hash".to_owned(), |function| function.text());
    let place = format!("{}: sharding_function = {name}", pool.place());
    let obstacle = match name.to_ascii_lowercase().as_str() {
        "pg_bigint_hash" | "pgbiginthash" => hashed::obstacle(names.len()),
        _ => Some(
            "rows are placed by SHA-1, which no slot of PostgreSQL's hash follows: move them"
                .to_owned(),
        ),
    };
    match (obstacle, key) {
        (Some(why), key) => {
            notes.dropped(place, why.clone());
            if let Some(key) = key {
                notes.dropped(key.shown(), why);
            }
        }
        (None, key) => {
            hashed::adopt(database, names);
            let text = key
                .map(|key| key.text().replace('"', ""))
                .unwrap_or_default();
            match text.rsplit_once('.') {
                Some((table, column)) if table != "*" => {
                    let (table, column) = (hashed::identifier(table), hashed::identifier(column));
                    let _ = hashed::table(database, names, &table, &column, HashedType::Bigint);
                }
                _ => {}
            }
            let why = "every sharded table has to be declared with its key, each other one as \"reference\" or with \
                       its shard; what is not declared is refused by name";
            notes.changed(key.map_or(place, |key| key.shown()), why);
        }
    }
}

fn users(name: &str, pool: &Table, people: &mut Vec<Account>, notes: &Notes) {
    let users = table_of(pool.take("users").map(|setting| setting.value()));
    for (number, user) in &users {
        let place = format!("{}.users.{number}", pool.place());
        let Value::Table(user) = user else {
            notes.unknown(place);
            continue;
        };
        let user = Table::of_toml(place.clone(), user);
        let Some(username) = user.text("username") else {
            notes.dropped(place, "the user has no name");
            continue;
        };
        let mut account = Account {
            place,
            name: username,
            password: user.text("password"),
            databases: vec![name.to_owned()],
            settings: Section::default(),
            server: None,
        };
        let section = &mut account.settings;
        section.set_some("pool_mode", user.text("pool_mode"));
        let size = user.count("pool_size", 1..=MOST, Zero::Least, notes);
        section.set_some("pool_size", size);
        let limit = user.millis("statement_timeout", Unit::Millis, 0, Zero::Least, notes);
        section.set_some("query_timeout_ms", limit.filter(|ms| *ms > 0));
        if let Some(server) = user.text("server_username") {
            account.server = Some((server, user.text("server_password")));
        }
        user.finish(
            &[
                ("auth_type", "clients are asked by SCRAM-SHA-256"),
                (
                    "min_pool_size",
                    "min_pool_size is of the database, for server_user",
                ),
                (
                    "server_password",
                    "there is no server_username: the user's own password is its password there",
                ),
                ("server_lifetime", "max_lifetime_s is of the database"),
                ("connect_timeout", "connect_timeout_ms is of the database"),
                ("idle_timeout", "idle_timeout_s is of the database"),
            ],
            notes,
        );
        people.push(account);
    }
}
