//! From pgdog.toml and users.toml, as of 0.1.5x. <https://docs.pgdog.dev/configuration/>

mod reasons;
mod sharded;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Value;

pub(super) use self::reasons::{DATABASE, GENERAL, SECTIONS, USER};
use super::accounts::{self, Account, Admin, Login};
use super::draft::{DatabaseDraft, Draft, Section};
use super::hashed::{self, Numbered};
use super::notes::Notes;
use super::written::{Table, Unit, Zero};
use super::{Sources, read_toml};
use crate::error::{Error, Fault};

const MOST: i64 = 100_000;

/// The two files as one: no section is in both, but `[admin]`, of which users.toml's counts.
#[derive(Default)]
struct Root {
    tables: BTreeMap<String, (String, toml::Table)>,
    lists: BTreeMap<String, Vec<Table>>,
}

pub(super) fn read(
    files: &[PathBuf],
    sources: &mut Sources,
    notes: &Notes,
) -> Result<Draft, Error> {
    let mut root = Root::default();
    let mut main = files.first().cloned().unwrap_or_default();
    for file in files {
        if add(file, &mut root, sources, notes)? {
            main.clone_from(file);
        }
    }
    let beside = main.with_file_name("users.toml");
    if !root.lists.contains_key("users") && !files.contains(&beside) && beside.exists() {
        add(&beside, &mut root, sources, notes)?;
    }
    draft(&root, &main, sources, notes)
}

/// Answers whether it is the file of the databases.
fn add(file: &Path, root: &mut Root, sources: &mut Sources, notes: &Notes) -> Result<bool, Error> {
    let name = Sources::name(file);
    for (key, value) in read_toml(file, sources)? {
        let place = format!("{name}: {key}");
        match (value, SECTIONS.iter().find(|(known, _)| *known == key)) {
            (_, Some((_, why))) => notes.dropped(place, *why),
            (Value::Table(table), None) => {
                root.tables.insert(key, (place, table));
            }
            (Value::Array(items), None) => {
                let list = root.lists.entry(key).or_default();
                for (at, item) in items.iter().enumerate() {
                    match item.as_table() {
                        Some(item) => list.push(Table::of_toml(format!("{place}[{at}]"), item)),
                        None => notes.unknown(format!("{place}[{at}]")),
                    }
                }
            }
            (_, None) => notes.unknown(place),
        }
    }
    Ok(root.lists.contains_key("databases") && !name.contains("users"))
}

impl Root {
    fn table(&self, key: &str) -> Table {
        match self.tables.get(key) {
            Some((place, table)) => Table::of_toml(place.clone(), table),
            None => Table::empty(key),
        }
    }

    fn list(&self, key: &str) -> &[Table] {
        self.lists.get(key).map_or(&[], Vec::as_slice)
    }
}

fn draft(root: &Root, main: &Path, sources: &Sources, notes: &Notes) -> Result<Draft, Error> {
    let mut draft = Draft::default();
    let general = root.table("general");
    settings(&general, &mut draft, notes);
    tcp(&root.table("tcp"), &mut draft.general, notes);
    client_tls(&general, main, sources, &mut draft, notes);
    let common = common(&general, main, sources, notes);
    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, entries) in by_name(root.list("databases")) {
        let (made, names) = database(&name, &entries, &general, &common, notes)?;
        draft.databases.insert(name.clone(), made);
        shards.insert(name, names);
    }
    sharded::read(root, &shards, &mut draft, notes);
    let login = login(&general, notes);
    let accounts = users(root.list("users"), &draft, notes);
    let admin = admin(&root.table("admin"), notes);
    accounts::write(accounts, admin, login, &mut draft, notes);
    general.finish(GENERAL, notes);
    let known = ["general", "tcp", "admin"];
    let known_lists = [
        "databases",
        "users",
        "sharded_tables",
        "sharded_mappings",
        "sharded_schemas",
        "omnisharded_tables",
    ];
    for (key, (place, _)) in root
        .tables
        .iter()
        .filter(|(key, _)| !known.contains(&key.as_str()))
    {
        notes.unknown(format!("{place}: {key}"));
    }
    for (key, _) in root
        .lists
        .iter()
        .filter(|(key, _)| !known_lists.contains(&key.as_str()))
    {
        notes.unknown(format!("[[{key}]]"));
    }
    Ok(draft)
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
        .unwrap_or(6432);
    section.set("listen", hashed::endpoint(&host, port));
    let metrics = general.count("openmetrics_port", 1..=65_535, Zero::Least, notes);
    let health = general.count("healthcheck_port", 1..=65_535, Zero::Least, notes);
    if let Some(port) = metrics.or(health) {
        section.set("http_listen", hashed::endpoint("0.0.0.0", port));
        let place = general.place();
        if let (Some(_), Some(health)) = (metrics, health) {
            let why = "/healthz and /readyz are on the port of the metrics";
            notes.changed(format!("{place}: healthcheck_port = {health}"), why);
        }
        let why =
            "metrics have other names: the dashboard and the alert rules in docker/ know them";
        notes.changed(format!("{place}: port of HTTP {port}"), why);
    }
    section.set_some(
        "workers",
        general.count("workers", 1..=256, Zero::Least, notes),
    );
    let shutdown = general.seconds("shutdown_timeout", Unit::Millis, 0, Zero::Least, notes);
    section.set("shutdown_timeout_s", shutdown.unwrap_or(60));
    let login = general.seconds(
        "client_login_timeout",
        Unit::Millis,
        1,
        Zero::Endless,
        notes,
    );
    section.set("login_timeout_s", login.unwrap_or(60));
    section.set_some("log_format", general.text("log_format"));
    if let Some(level) = general.take("log_level") {
        let words = ["error", "warn", "info", "debug", "trace"];
        match words.contains(&level.text().as_str()) {
            true => section.set("log_level", level.text()),
            false => notes.dropped(
                level.shown(),
                "it names PgDog's modules; Ringway's are ringway::session and so on",
            ),
        }
    }
}

fn tcp(tcp: &Table, section: &mut Section, notes: &Notes) {
    let is_on = tcp.boolean("keepalive", notes);
    let seconds = |key| tcp.seconds(key, Unit::Millis, 1, Zero::Least, notes);
    section.set_some(
        "tcp_keepalive_idle_s",
        seconds("time").map(|s| s.min(32_767)),
    );
    section.set_some(
        "tcp_keepalive_interval_s",
        seconds("interval").map(|s| s.min(32_767)),
    );
    let retries = tcp.count("retries", 1..=127, Zero::Least, notes);
    section.set_some("tcp_keepalive_count", retries);
    let timeout = tcp.count("user_timeout", 0..=i64::from(i32::MAX), Zero::Least, notes);
    section.set_some("tcp_user_timeout_ms", timeout);
    if is_on == Some(false) {
        section.set("tcp_keepalive_idle_s", 0);
    }
    tcp.finish(&[("congestion_control", "absent: the system's")], notes);
}

fn client_tls(general: &Table, main: &Path, sources: &Sources, draft: &mut Draft, notes: &Notes) {
    let keys = [
        ("tls_certificate", "certificate"),
        ("tls_private_key", "private_key"),
    ];
    for (theirs, ours) in keys {
        if let Some(file) = general.text(theirs) {
            draft.tls.set(ours, sources.path(&file, main));
        }
    }
    if let Some(setting) = general.take("tls_client_ca_certificate") {
        draft
            .tls
            .set("client_ca", sources.path(&setting.text(), main));
        let why = "certificates are asked for and checked, but a client may have none: rules with clientcert \
                   require them (docs/authentication.md)";
        notes.changed(setting.shown(), why);
    }
    if general.boolean("tls_client_required", notes) == Some(true) && !draft.tls.is_empty() {
        draft.tls.set("required", true);
    }
}

/// What PgDog says once for all databases, and Ringway in each.
fn common(general: &Table, main: &Path, sources: &Sources, notes: &Notes) -> Section {
    let mut section = Section::default();
    section.set_some("pool_mode", general.text("pooler_mode"));
    let size = ["max_pool_size", "default_pool_size"]
        .into_iter()
        .find_map(|key| general.count(key, 1..=MOST, Zero::Least, notes));
    section.set("pool_size", size.unwrap_or(10));
    let least = general.count("min_pool_size", 0..=MOST, Zero::Least, notes);
    section.set("min_pool_size", least.unwrap_or(1));
    let millis = |key| general.millis(key, Unit::Millis, 1, Zero::Endless, notes);
    section.set(
        "checkout_timeout_ms",
        millis("checkout_timeout").unwrap_or(5_000),
    );
    section.set(
        "connect_timeout_ms",
        millis("connect_timeout").unwrap_or(5_000),
    );
    let seconds = |key| general.seconds(key, Unit::Millis, 1, Zero::Endless, notes);
    section.set("idle_timeout_s", seconds("idle_timeout").unwrap_or(60));
    section.set(
        "max_lifetime_s",
        seconds("server_lifetime").unwrap_or(86_400),
    );
    let limit = |key| general.millis(key, Unit::Millis, 0, Zero::Least, notes);
    section.set_some("query_timeout_ms", limit("query_timeout"));
    section.set_some(
        "idle_transaction_timeout_ms",
        limit("client_idle_in_transaction_timeout"),
    );
    let idle = general.seconds("client_idle_timeout", Unit::Millis, 0, Zero::Least, notes);
    section.set_some("client_idle_timeout_s", idle);
    let prepared = general.count(
        "prepared_statements_limit",
        1..=1_000_000,
        Zero::Endless,
        notes,
    );
    section.set_some("max_prepared_statements", prepared);
    server_tls(general, main, sources, &mut section, notes);
    section
}

fn server_tls(
    general: &Table,
    main: &Path,
    sources: &Sources,
    section: &mut Section,
    notes: &Notes,
) {
    let mode = general.take("tls_verify");
    let name = mode.map_or_else(|| "prefer".to_owned(), |mode| mode.text());
    let verify = match name.as_str() {
        "verify_ca" | "verify_full" => {
            section.set("server_tls", name.replace('_', "-"));
            true
        }
        "none" | "disabled" => false,
        _ => {
            let shown = mode.map_or_else(
                || "tls_verify (not written)".to_owned(),
                |mode| mode.shown(),
            );
            let why = "absent: servers are asked without TLS; write server_tls = \"require\" where they have it";
            notes.dropped(shown, why);
            false
        }
    };
    if let Some(setting) = general.take("tls_server_ca_certificate") {
        match verify {
            true => section.set("server_ca", sources.path(&setting.text(), main)),
            false => notes.dropped(setting.shown(), "not used with this tls_verify"),
        }
    }
}

/// The entries of each database, in the order of the file.
fn by_name(entries: &[Table]) -> BTreeMap<String, Vec<&Table>> {
    let mut databases: BTreeMap<String, Vec<&Table>> = BTreeMap::new();
    for entry in entries {
        let name = entry.text("name").unwrap_or_default();
        databases.entry(name).or_default().push(entry);
    }
    databases
}

/// The database and the names of its shards, none where there is but one.
fn database(
    name: &str,
    entries: &[&Table],
    general: &Table,
    common: &Section,
    notes: &Notes,
) -> Result<(DatabaseDraft, Vec<String>), Error> {
    let mut database = DatabaseDraft::default();
    let mut numbered: BTreeMap<i64, Numbered> = BTreeMap::new();
    let mut weights = toml::Table::new();
    let mut own = Section::default();
    for entry in entries {
        if entry.boolean("resharding_only", notes) == Some(true) {
            notes.dropped(entry.place(), "for resharding only");
            continue;
        }
        let number = entry
            .count("shard", 0..=1_023, Zero::Least, notes)
            .unwrap_or(0);
        let shard = numbered.entry(number).or_default();
        let host = entry.text("host").unwrap_or_default();
        let port = entry
            .count("port", 1..=65_535, Zero::Least, notes)
            .unwrap_or(5432);
        let server = hashed::endpoint(&host, port);
        if let Some(weight) = entry.count("lb_weight", 0..=1_000, Zero::Least, notes) {
            weights.insert(server.clone(), Value::Integer(weight));
        }
        if let Some(role) = entry.take("role") {
            notes.dropped(role.shown(), "not needed: roles are observed");
        }
        shard.servers.push(server);
        let dbname = entry.text("database_name");
        if let (Some(known), Some(dbname)) = (&shard.dbname, &dbname)
            && known != dbname
        {
            let why =
                "another server of the shard has the database under another name, which counts";
            notes.dropped(format!("{}: database_name = {dbname}", entry.place()), why);
        }
        shard.dbname = shard.dbname.take().or(dbname);
        own_settings(entry, &mut own, notes);
        entry.finish(DATABASE, notes);
    }
    if let Some(missing) = (0..numbered.len() as i64).find(|number| !numbered.contains_key(number))
    {
        let message = format!("database \"{name}\" has no shard {missing}");
        let error = Error::new(Fault::Operator, "F0000", message);
        return Err(error.detail("Shards are numbered from 0 on, without a gap."));
    }
    let several = numbered.values().any(|shard| shard.servers.len() > 1);
    let names = hashed::shards(name, numbered.into_values().collect(), &mut database);
    let section = &mut database.settings;
    section.merge(common);
    section.merge(&own);
    fit_min_size(section, notes, name);
    if several {
        reads(general, weights, &mut database.reads, notes);
    }
    if !names.is_empty() {
        several_shards(name, general, &mut database.settings, notes);
    }
    Ok((database, names))
}

fn fit_min_size(section: &mut Section, notes: &Notes, name: &str) {
    let number = |key| section.get(key).and_then(Value::as_integer).unwrap_or(0);
    let (least, size) = (number("min_pool_size"), number("pool_size"));
    if least > size {
        section.set("min_pool_size", size);
        notes.changed(
            format!("database {name}: min_pool_size"),
            format!("{size}, no more than pool_size"),
        );
    }
}

/// What an entry of `[[databases]]` says for the whole database; PgDog takes it of each server.
fn own_settings(entry: &Table, own: &mut Section, notes: &Notes) {
    let mut found = Section::default();
    found.set_some("pool_mode", entry.text("pooler_mode"));
    found.set_some(
        "pool_size",
        entry.count("pool_size", 1..=MOST, Zero::Least, notes),
    );
    found.set_some(
        "min_pool_size",
        entry.count("min_pool_size", 0..=MOST, Zero::Least, notes),
    );
    let seconds = |key| entry.seconds(key, Unit::Millis, 1, Zero::Endless, notes);
    found.set_some("idle_timeout_s", seconds("idle_timeout"));
    found.set_some("max_lifetime_s", seconds("server_lifetime"));
    if let Some(setting) = entry.take("statement_timeout") {
        let limit = entry.millis("statement_timeout", Unit::Millis, 0, Zero::Least, notes);
        found.set_some("query_timeout_ms", limit);
        notes.changed(setting.shown(), reasons::STATEMENT_TIMEOUT);
    }
    if let Some(user) = entry.text("user") {
        found.set("server_user", user);
        found.set_some("server_password", entry.text("password"));
    }
    let mut both = own.clone();
    both.merge(&found);
    let mut other_way = found.clone();
    other_way.merge(own);
    if both.differs(&other_way) {
        let why = "the servers of the database say different things: what the last one says counts for all";
        notes.changed(entry.place(), why);
    }
    *own = both;
}

fn reads(general: &Table, weights: toml::Table, reads: &mut Section, notes: &Notes) {
    reads.set("split", true);
    let split = general.take("read_write_split");
    let name = split.map_or_else(|| "include_primary".to_owned(), |split| split.text());
    match name.as_str() {
        "include_primary" => reads.set("primary_reads", "always"),
        "exclude_primary" => reads.set("primary_reads", "never"),
        "include_primary_if_replica_banned" => {
            reads.set("primary_reads", "when_out");
            let why = "the primary reads when all replicas are out, not when one is";
            notes.changed(format!("read_write_split = {name}"), why);
        }
        _ => {
            reads.set("split", false);
            let why = "absent: all statements go to the primary (split = false)";
            notes.dropped(split.map_or(name, |split| split.shown()), why);
        }
    }
    let strategy = general
        .text("load_balancing_strategy")
        .unwrap_or_else(|| "random".to_owned());
    let balance = match strategy.as_str() {
        "least_active_connections" => "least_connections",
        "round_robin" | "weighted_round_robin" => "round_robin",
        _ => "random",
    };
    reads.set("balance", balance);
    if !weights.is_empty() {
        match strategy.as_str() {
            "weighted_round_robin" => reads.set("weights", weights),
            _ => notes.dropped("lb_weight", "not used without weighted_round_robin"),
        }
    }
    if general.text("read_write_strategy").as_deref() == Some("aggressive") {
        reads.set("transactions", "replica_until_write");
        let why = "a transaction goes on at the primary when it writes (docs/moving.md)";
        notes.changed("read_write_strategy = aggressive", why);
    }
    let lag = general.millis("ban_replica_lag", Unit::Millis, 1, Zero::Endless, notes);
    reads.set_some("max_lag_ms", lag);
}

fn several_shards(name: &str, general: &Table, section: &mut Section, notes: &Notes) {
    if general.boolean("cross_shard_disabled", notes) == Some(true) {
        section.set("scatter_reads", "deny");
        section.set("scatter_writes", "deny");
    }
    let atomic = general.boolean("two_phase_commit", notes) == Some(true);
    if let Some(setting) = general.take("two_phase_commit_auto") {
        notes.dropped(
            setting.shown(),
            "not needed: multi_shard_commit holds for single statements too",
        );
    }
    if !atomic {
        section.set("multi_shard_commit", "best_effort");
        let why = "as before, a commit on several shards may fail on some of them: leave multi_shard_commit out and \
                   set max_prepared_transactions on the servers to have it on all or none (docs/atomic-commits.md)";
        notes.changed(format!("two_phase_commit (off) for database {name}"), why);
    }
}

fn login(general: &Table, notes: &Notes) -> Login {
    let Some(setting) = general.take("auth_type") else {
        return Login::Scram;
    };
    match setting.text().as_str() {
        "scram" => Login::Scram,
        "md5" => Login::Md5,
        "trust" => Login::Trust,
        _ => {
            notes.dropped(
                setting.shown(),
                "absent: users prove themselves by SCRAM-SHA-256",
            );
            Login::Scram
        }
    }
}

fn users(entries: &[Table], draft: &Draft, notes: &Notes) -> Vec<Account> {
    let mut accounts = Vec::new();
    for user in entries {
        let Some(name) = user.text("name") else {
            notes.dropped(user.place(), "the user has no name");
            continue;
        };
        let mut account = Account {
            place: user.place().to_owned(),
            name,
            password: user.text("password"),
            databases: databases_of(user, draft, notes),
            settings: Section::default(),
            server: None,
        };
        let section = &mut account.settings;
        if let Some(setting) = user.take("password_hash") {
            let hash = setting.text();
            match hash.starts_with("SCRAM-SHA-256$") || hash.starts_with("md5") {
                true => section.set("verifier", hash),
                false => notes.dropped(setting.shown(), "not a verifier of pg_authid"),
            }
        }
        several_passwords(user, &mut account.password, notes);
        let section = &mut account.settings;
        section.set_some("pool_mode", user.text("pooler_mode"));
        section.set_some(
            "pool_size",
            user.count("pool_size", 1..=MOST, Zero::Least, notes),
        );
        if let Some(setting) = user.take("statement_timeout") {
            let limit = user.millis("statement_timeout", Unit::Millis, 0, Zero::Least, notes);
            section.set_some("query_timeout_ms", limit);
            notes.changed(setting.shown(), reasons::STATEMENT_TIMEOUT);
        }
        let (server, password) = (user.text("server_user"), user.text("server_password"));
        if server.is_some() || password.is_some() {
            let server = server.unwrap_or_else(|| account.name.clone());
            account.server = Some((server, password.or_else(|| account.password.clone())));
        }
        user.finish(USER, notes);
        accounts.push(account);
    }
    accounts
}

fn databases_of(user: &Table, draft: &Draft, notes: &Notes) -> Vec<String> {
    let one = user.text("database");
    let listed = user
        .take("databases")
        .and_then(|list| list.value().as_array().cloned());
    if user.boolean("all_databases", notes) == Some(true) {
        return draft.databases.keys().cloned().collect();
    }
    let listed = listed.unwrap_or_default();
    match one {
        Some(one) => vec![one],
        None => listed
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
    }
}

/// Ringway keeps one.
fn several_passwords(user: &Table, password: &mut Option<String>, notes: &Notes) {
    let Some(setting) = user.take("passwords") else {
        return;
    };
    let listed = setting.value().as_array().cloned().unwrap_or_default();
    let mut listed = listed
        .iter()
        .filter_map(|one| one.as_str().map(str::to_owned));
    if password.is_none() {
        *password = listed.next();
    }
    if listed.next().is_some() {
        let why = "a user has one password: the first is kept, the others are not";
        notes.dropped(setting.shown(), why);
    }
}

fn admin(admin: &Table, notes: &Notes) -> Option<Admin> {
    if let Some(name) = admin.take("name") {
        notes.dropped(
            name.shown(),
            "the admin database is called ringway, and answers to pgbouncer",
        );
    }
    let name = admin.text("user").unwrap_or_else(|| "admin".to_owned());
    let password = admin.text("password");
    if password.is_none() {
        let why = "no password is written, so nobody may use the admin database: write admin_users";
        notes.dropped("[admin]", why);
    }
    let known = password.map(|password| Admin {
        place: admin.place().to_owned(),
        name,
        password,
    });
    admin.finish(&[], notes);
    known
}
