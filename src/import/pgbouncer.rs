//! From pgbouncer.ini, as of 1.25. <https://www.pgbouncer.org/config.html>

use std::collections::BTreeMap;
use std::path::Path;

use super::Sources;
use super::draft::{DatabaseDraft, Draft, Section};
use super::ini::{self, Ini};
use super::notes::Notes;
use super::written::{Table, Unit, Zero};
use crate::config::{StoredSecret, listed_users};
use crate::error::Error;

const MOST: i64 = 100_000;

const NEEDLESS_RESET: &str =
    "not needed: DISCARD ALL runs by itself after what does not follow the client";
const NEEDLESS_CHECK: &str = "not needed: each connection is looked at when it is lent";
const NEEDLESS_DNS: &str =
    "not needed: the system is asked for each new connection, RECONNECT moves the old ones";
const CIPHERS: &str = "absent: the cipher suites are those of rustls, which has no weak ones";
const LOGS: &str = "not needed: logs go to standard error, and systemd keeps the process";
const TLS_VERSIONS: &str = "not needed: TLS 1.2 and 1.3";

/// Why settings of `[pgbouncer]` are not carried over.
pub(super) const REASONS: &[(&str, &str)] = &[
    (
        "application_name_add_host",
        "absent: SHOW CLIENTS has the address",
    ),
    ("auth_ldap_options", "absent: there is no LDAP"),
    (
        "autodb_idle_timeout",
        "not needed: what nobody uses is forgotten when its connections are closed",
    ),
    (
        "cancel_wait_timeout",
        "not needed: a CancelRequest needs no place in a pool",
    ),
    ("client_tls_ciphers", CIPHERS),
    ("client_tls13_ciphers", CIPHERS),
    ("client_tls_dheparams", CIPHERS),
    ("client_tls_ecdhcurve", CIPHERS),
    ("client_tls_protocols", TLS_VERSIONS),
    ("conffile", "not needed: `ringway serve -c` names the file"),
    ("disable_pqexec", "absent"),
    ("dns_max_ttl", NEEDLESS_DNS),
    ("dns_nxdomain_ttl", NEEDLESS_DNS),
    ("dns_zone_check_period", NEEDLESS_DNS),
    (
        "ignore_startup_parameters",
        "not needed: every startup parameter follows its client",
    ),
    ("job_name", "for Windows only"),
    (
        "listen_backlog",
        "not needed: 4,096, or what the system allows",
    ),
    (
        "load_balance_hosts",
        "not needed: writes go to the primary, reads to replicas by reads.balance",
    ),
    (
        "log_connections",
        "absent at level info: log_level = \"info,ringway::session=debug\"",
    ),
    (
        "log_disconnections",
        "absent at level info: log_level = \"info,ringway::session=debug\"",
    ),
    (
        "log_pooler_errors",
        "absent at level info: log_level = \"info,ringway::session=debug\"",
    ),
    ("log_stats", "not needed: /metrics, and SHOW STATS"),
    ("logfile", LOGS),
    ("login_notify_message", "absent"),
    ("pidfile", LOGS),
    ("pkt_buf", "not needed"),
    (
        "pool_idle_timeout",
        "not needed: what nobody uses is forgotten when its connections are closed",
    ),
    ("query_wait_notify", "absent"),
    ("resolv_conf", NEEDLESS_DNS),
    ("sbuf_loopcnt", "not needed"),
    ("scram_iterations", "not needed: verifiers keep their own"),
    ("server_check_delay", NEEDLESS_CHECK),
    ("server_check_query", NEEDLESS_CHECK),
    ("server_fast_close", "absent: KILL_CLIENT sends clients off"),
    ("server_reset_query", NEEDLESS_RESET),
    ("server_reset_query_always", NEEDLESS_RESET),
    (
        "server_round_robin",
        "not needed: of one server the connection used last is taken",
    ),
    ("server_tls_ciphers", CIPHERS),
    ("server_tls13_ciphers", CIPHERS),
    ("server_tls_protocols", TLS_VERSIONS),
    ("service_name", "for Windows only"),
    (
        "stats_period",
        "not needed: averages are of the last one to two minutes",
    ),
    (
        "suspend_timeout",
        "not needed: `ringway serve --take-over` replaces a process",
    ),
    ("syslog", LOGS),
    ("syslog_facility", LOGS),
    ("syslog_ident", LOGS),
    (
        "target_session_attrs",
        "not needed: roles are observed, writes go to the primary",
    ),
    ("tcp_defer_accept", "not needed: login_timeout_s"),
    ("tcp_socket_buffer", "absent: the system's"),
    (
        "track_extra_parameters",
        "not needed: every startup parameter and SET follows its client",
    ),
    (
        "unix_socket_group",
        "absent: systemd's Group=, and the directory's permissions",
    ),
    ("user", "absent: systemd's User="),
];

const ON_THE_SERVER: &str = "absent: ALTER ROLE … IN DATABASE … SET … on the server";

/// The same, of a database.
pub(super) const DATABASE_REASONS: &[(&str, &str)] = &[
    ("client_encoding", ON_THE_SERVER),
    ("connect_query", ON_THE_SERVER),
    ("datestyle", ON_THE_SERVER),
    ("timezone", ON_THE_SERVER),
    (
        "load_balance_hosts",
        "not needed: writes go to the primary, reads to replicas by reads.balance",
    ),
    (
        "target_session_attrs",
        "not needed: roles are observed, writes go to the primary",
    ),
    ("application_name", "not needed: it is the client's own"),
];

/// Reads the file, those that it includes, and the list of users.
pub(super) fn read(path: &Path, sources: &mut Sources, notes: &Notes) -> Result<Draft, Error> {
    let ini = ini::read(path, sources, notes)?;
    let mut draft = Draft::default();
    let settings = &ini.settings;
    general(settings, &mut draft.general, notes);
    client_tls(settings, path, sources, &mut draft, notes);
    let listed = authentication(&ini, path, sources, &mut draft, notes)?;
    let common = common(settings, path, sources, notes);
    for (name, table) in &ini.databases {
        let made = database(name, table, settings, &common, &ini, &listed, notes);
        draft.databases.insert(name.clone(), made);
    }
    for (name, table) in &ini.users {
        let section = draft.users.entry(name.clone()).or_default();
        user(table, section, notes);
    }
    for (id, table) in &ini.peers {
        peer(id, table, &mut draft.peers, notes);
    }
    settings.finish(REASONS, notes);
    Ok(draft)
}

fn general(settings: &Table, general: &mut Section, notes: &Notes) {
    let port = settings
        .text("listen_port")
        .unwrap_or_else(|| "6432".to_owned());
    general.set("listen", listen(settings, &port, notes));
    general.set_some("unix_socket_mode", settings.text("unix_socket_mode"));
    let clients = settings.count("max_client_conn", 1..=1_000_000, Zero::Least, notes);
    // PgBouncer's own defaults where they are others than Ringway's.
    general.set("max_clients", clients.unwrap_or(100));
    for key in ["max_user_connections", "max_user_client_connections"] {
        general.set_some(key, settings.count(key, 0..=MOST, Zero::Least, notes));
    }
    let login = settings.seconds(
        "client_login_timeout",
        Unit::Seconds,
        1,
        Zero::Endless,
        notes,
    );
    general.set("login_timeout_s", login.unwrap_or(60));
    general.set_some("reuse_port", settings.boolean("so_reuseport", notes));
    general.set_some(
        "peer_id",
        settings.count("peer_id", 1..=1_023, Zero::Least, notes),
    );
    keepalive(settings, general, notes);
    if let Some(setting) = settings.take("max_packet_size") {
        notes.changed(
            setting.shown(),
            "max_message_mib bounds what has to be read whole, the rest passes as it comes: its default holds",
        );
    }
    if let Some(setting) = settings.take("verbose")
        && setting.text() != "0"
    {
        notes.changed(setting.shown(), "log_level = \"debug\"");
        general.set("log_level", "debug");
    }
}

fn listen(settings: &Table, port: &str, notes: &Notes) -> Vec<String> {
    let mut addresses = Vec::new();
    if let Some(setting) = settings.take("listen_addr") {
        for address in setting
            .text()
            .split(',')
            .map(str::trim)
            .filter(|a| !a.is_empty())
        {
            let known = match address {
                "*" => {
                    notes.changed(setting.shown(), "0.0.0.0: for IPv6 write \"[::]:port\" too");
                    Some("0.0.0.0".to_owned())
                }
                "localhost" => Some("127.0.0.1".to_owned()),
                _ => address.parse::<std::net::IpAddr>().ok().map(|ip| match ip {
                    std::net::IpAddr::V4(ip) => ip.to_string(),
                    std::net::IpAddr::V6(ip) => format!("[{ip}]"),
                }),
            };
            match known {
                Some(address) => addresses.push(format!("{address}:{port}")),
                None => notes.dropped(
                    format!("listen_addr {address}"),
                    "names are not looked up: write its IP address into listen",
                ),
            }
        }
    }
    match settings.take("unix_socket_dir") {
        Some(setting) if setting.text().starts_with('@') => {
            notes.dropped(setting.shown(), "absent: sockets without a file");
        }
        Some(setting) if !setting.text().is_empty() => {
            addresses.push(format!("{}:{port}", setting.text()));
        }
        Some(_) => {}
        None => notes.changed(
            "unix_socket_dir (not written)",
            "PgBouncer listens in /tmp or /var/run/postgresql, as it was built: add \"/tmp:port\" to listen if \
             clients use that",
        ),
    }
    if addresses.is_empty() {
        notes.changed("listen_addr (not written)", "clients connect to 127.0.0.1");
        addresses.push(format!("127.0.0.1:{port}"));
    }
    addresses
}

fn keepalive(settings: &Table, general: &mut Section, notes: &Notes) {
    let is_on = settings.boolean("tcp_keepalive", notes);
    let mut positive = |key: &str, ours: &str, most: i64| {
        // 0 is the system's value.
        let value = settings.count(key, 0..=most, Zero::Least, notes);
        general.set_some(ours, value.filter(|value| *value > 0));
    };
    positive("tcp_keepidle", "tcp_keepalive_idle_s", 32_767);
    positive("tcp_keepintvl", "tcp_keepalive_interval_s", 32_767);
    positive("tcp_keepcnt", "tcp_keepalive_count", 127);
    positive(
        "tcp_user_timeout",
        "tcp_user_timeout_ms",
        i64::from(i32::MAX),
    );
    if is_on == Some(false) {
        general.set("tcp_keepalive_idle_s", 0);
    }
}

fn client_tls(settings: &Table, path: &Path, sources: &Sources, draft: &mut Draft, notes: &Notes) {
    let mode = settings.take("client_tls_sslmode");
    let name = mode.map_or_else(|| "disable".to_owned(), |mode| mode.text());
    let files = [
        ("client_tls_cert_file", "certificate"),
        ("client_tls_key_file", "private_key"),
        ("client_tls_ca_file", "client_ca"),
    ];
    for (theirs, ours) in files {
        // Nothing behind the sign is its default, no file.
        let Some(setting) = settings.take(theirs).filter(|it| !it.text().is_empty()) else {
            continue;
        };
        match name.as_str() {
            "disable" => notes.dropped(setting.shown(), "client_tls_sslmode is disable"),
            _ => draft.tls.set(ours, sources.path(&setting.text(), path)),
        }
    }
    let Some(mode) = mode else { return };
    match name.as_str() {
        "disable" => {}
        "allow" | "prefer" => {}
        "require" => draft.tls.set("required", true),
        "verify-ca" | "verify-full" => {
            draft.tls.set("required", true);
            notes.changed(
                mode.shown(),
                "certificates are asked for and checked, but a client may have none: rules with clientcert \
                 require them (docs/authentication.md)",
            );
        }
        _ => notes.dropped(mode.shown(), "not a mode"),
    }
}

/// Who may connect; answers the users of `auth_file`.
fn authentication(
    ini: &Ini,
    path: &Path,
    sources: &mut Sources,
    draft: &mut Draft,
    notes: &Notes,
) -> Result<BTreeMap<String, StoredSecret>, Error> {
    let settings = &ini.settings;
    let mut listed = BTreeMap::new();
    if let Some(file) = settings.text("auth_file") {
        let there = sources.path(&file, path);
        let text = sources.text(&path.parent().unwrap_or(Path::new("")).join(&file))?;
        listed = listed_users(&text);
        draft.auth.set("users_file", there);
    }
    for (theirs, ours) in [
        ("auth_hba_file", "hba_file"),
        ("auth_ident_file", "ident_file"),
    ] {
        if let Some(file) = settings.text(theirs) {
            draft.auth.set(ours, sources.path(&file, path));
        }
    }
    let method = settings.take("auth_type");
    let name = method.map_or_else(|| "md5".to_owned(), |method| method.text());
    if name != "hba" {
        for key in ["hba_file", "ident_file"] {
            if let Some(file) = draft.auth.get(key).map(ToString::to_string) {
                let why = "auth_type is not hba: the rules would hold if the key were written";
                notes.dropped(format!("auth_{key} = {file}"), why);
            }
        }
        draft.auth.remove("hba_file");
        draft.auth.remove("ident_file");
    }
    match (name.as_str(), method) {
        ("scram-sha-256" | "hba", _) => {}
        ("md5", _) => {
            let why = "users whose password is kept plain prove it by SCRAM-SHA-256";
            notes.changed("auth_type = md5", why);
        }
        ("plain", Some(method)) if draft.tls.is_empty() => {
            let why = "passwords in the clear need TLS: users prove theirs by SCRAM-SHA-256";
            notes.dropped(method.shown(), why);
        }
        ("trust" | "cert" | "plain", _) => {
            let ours = if name == "plain" {
                "password"
            } else {
                name.as_str()
            };
            for user in listed.keys() {
                draft
                    .users
                    .entry(user.clone())
                    .or_default()
                    .set("auth", ours);
            }
        }
        (_, Some(method)) => {
            let why =
                "absent: users prove themselves by SCRAM-SHA-256 or md5, as their secrets allow";
            notes.dropped(method.shown(), why);
        }
        (_, None) => {}
    }
    let mut auth = std::mem::take(&mut draft.auth);
    auth_query(settings, ini, &mut auth, notes);
    let any_name = auth.get("auth_user").is_some() && auth.get("auth_dbname").is_some();
    draft.auth = auth;
    for key in ["admin_users", "stats_users"] {
        let Some(setting) = settings.take(key) else {
            continue;
        };
        let text = setting.text();
        let names = text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        let (known, others): (Vec<_>, Vec<_>) =
            names.partition(|name| any_name || listed.contains_key(*name));
        if !known.is_empty() {
            draft.general.set(key, known);
        }
        for name in others {
            let why = "the user is not in auth_file, so nobody could log in as it";
            notes.dropped(format!("{key} {name}"), why);
        }
    }
    Ok(listed)
}

/// `auth_user` and its kin, of all databases or of one.
fn auth_query(table: &Table, ini: &Ini, section: &mut Section, notes: &Notes) {
    section.set_some("auth_user", table.text("auth_user"));
    let has_user =
        section.get("auth_user").is_some() || ini.settings.keys().any(|k| k == "auth_user");
    if let Some(setting) = table.take("auth_query") {
        let query = setting.text();
        match has_user && query.contains("$1") {
            true => section.set("auth_query", query),
            false => notes.dropped(setting.shown(), "there is no auth_user, or it has no $1"),
        }
    }
    if let Some(setting) = table.take("auth_dbname") {
        let name = setting.text();
        let known = ini
            .databases
            .iter()
            .any(|(known, _)| *known == name || known == "*");
        match has_user && known {
            true => section.set("auth_dbname", name),
            false => notes.dropped(
                setting.shown(),
                "it is no database of the configuration, or there is no auth_user: write a section for it",
            ),
        }
    }
}

/// What PgBouncer says once for all databases, and Ringway in each.
fn common(settings: &Table, path: &Path, sources: &Sources, notes: &Notes) -> Section {
    let mut section = Section::default();
    let mode = settings
        .text("pool_mode")
        .unwrap_or_else(|| "session".to_owned());
    section.set("pool_mode", mode);
    let count = |key, least| settings.count(key, least..=MOST, Zero::Endless, notes);
    section.set_some("pool_size", count("default_pool_size", 1));
    section.set_some("min_pool_size", count("min_pool_size", 0));
    section.set_some("reserve_pool_size", count("reserve_pool_size", 0));
    let millis = |key, least, zero| settings.millis(key, Unit::Seconds, least, zero, notes);
    let reserve = millis("reserve_pool_timeout", 0, Zero::Endless);
    section.set_some("reserve_pool_timeout_ms", reserve);
    section.set_some("max_db_connections", count("max_db_connections", 0));
    section.set_some(
        "max_db_client_connections",
        count("max_db_client_connections", 0),
    );
    let wait = millis("query_wait_timeout", 1, Zero::Endless);
    section.set("checkout_timeout_ms", wait.unwrap_or(120_000));
    let connect = millis("server_connect_timeout", 1, Zero::Endless);
    section.set("connect_timeout_ms", connect.unwrap_or(15_000));
    let retry = millis("server_login_retry", 1, Zero::Least);
    section.set("login_retry_ms", retry.unwrap_or(15_000));
    let seconds = |key, least, zero| settings.seconds(key, Unit::Seconds, least, zero, notes);
    section.set_some(
        "idle_timeout_s",
        seconds("server_idle_timeout", 1, Zero::Endless),
    );
    section.set_some("max_lifetime_s", seconds("server_lifetime", 1, Zero::Least));
    limits(settings, &mut section, notes);
    if let Some(setting) = settings.take("max_prepared_statements") {
        match setting.text().parse::<i64>() {
            Ok(0) => notes.dropped(
                setting.shown(),
                "prepared statements always follow their client",
            ),
            Ok(count) => section.set("max_prepared_statements", count.clamp(1, 1_000_000)),
            Err(_) => notes.dropped(setting.shown(), "not a number"),
        }
    }
    server_tls(settings, path, sources, &mut section, notes);
    section
}

/// What clients may take their time for.
fn limits(table: &Table, section: &mut Section, notes: &Notes) {
    let millis = |key| table.millis(key, Unit::Seconds, 0, Zero::Least, notes);
    section.set_some("query_timeout_ms", millis("query_timeout"));
    section.set_some(
        "idle_transaction_timeout_ms",
        millis("idle_transaction_timeout"),
    );
    section.set_some("transaction_timeout_ms", millis("transaction_timeout"));
    let idle = table.seconds("client_idle_timeout", Unit::Seconds, 0, Zero::Least, notes);
    section.set_some("client_idle_timeout_s", idle);
}

fn server_tls(
    settings: &Table,
    path: &Path,
    sources: &Sources,
    section: &mut Section,
    notes: &Notes,
) {
    let mode = settings.take("server_tls_sslmode");
    let name = mode.map_or_else(|| "prefer".to_owned(), |mode| mode.text());
    let is_known = ["require", "verify-ca", "verify-full"].contains(&name.as_str());
    match (mode, name.as_str()) {
        (_, "disable") => {}
        (_, _) if is_known => section.set("server_tls", name.as_str()),
        (Some(mode), _) => notes.dropped(
            mode.shown(),
            "absent, as it hides nothing from anybody: servers are asked without TLS; write server_tls = \
             \"require\" where they have it",
        ),
        (None, _) => notes.changed(
            "server_tls_sslmode (not written)",
            "PgBouncer tries TLS first: write server_tls = \"require\" where servers have it",
        ),
    }
    let is_verified = name.starts_with("verify");
    let files = [
        ("server_tls_ca_file", "server_ca", is_verified),
        ("server_tls_cert_file", "server_certificate", is_known),
        ("server_tls_key_file", "server_key", is_known),
    ];
    for (theirs, ours, is_used) in files {
        let Some(setting) = settings.take(theirs).filter(|it| !it.text().is_empty()) else {
            continue;
        };
        match is_used {
            true => section.set(ours, sources.path(&setting.text(), path)),
            false => notes.dropped(setting.shown(), "not used with this server_tls_sslmode"),
        }
    }
}

fn database(
    name: &str,
    table: &Table,
    settings: &Table,
    common: &Section,
    ini: &Ini,
    listed: &BTreeMap<String, StoredSecret>,
    notes: &Notes,
) -> DatabaseDraft {
    let mut database = DatabaseDraft::default();
    let section = &mut database.settings;
    let port = table.text("port").unwrap_or_else(|| "5432".to_owned());
    let hosts = table.text("host").unwrap_or_else(|| {
        let why = "no host: the server's Unix socket is looked for in /var/run/postgresql";
        notes.changed(table.place(), why);
        "/var/run/postgresql".to_owned()
    });
    let hosts: Vec<_> = hosts
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty())
        .collect();
    let ports: Vec<_> = port.split(',').map(str::trim).collect();
    let server = |(at, host): (usize, &&str)| {
        let port = ports.get(at).or(ports.last()).unwrap_or(&"5432");
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    };
    let is_local = hosts.iter().all(|host| host.starts_with('/'));
    if hosts.len() > 1 {
        let why = "connections to several hosts were spread over them: Ringway finds out which one is the \
                   primary, and that gets all but the reads of reads.split";
        notes.changed(table.place(), why);
    }
    section.set(
        "servers",
        hosts.iter().enumerate().map(server).collect::<Vec<_>>(),
    );
    section.set_some(
        "dbname",
        table.text("dbname").filter(|dbname| dbname != name),
    );
    section.merge(common);
    if is_local && section.get("server_tls").is_some() {
        for key in [
            "server_tls",
            "server_ca",
            "server_certificate",
            "server_key",
        ] {
            section.remove(key);
        }
        notes.changed(
            table.place(),
            "without TLS: the server is reached by its Unix socket",
        );
    }
    section.set_some("pool_mode", table.text("pool_mode"));
    let count = |key, least| table.count(key, least..=MOST, Zero::Endless, notes);
    section.set_some("pool_size", count("pool_size", 1));
    section.set_some("min_pool_size", count("min_pool_size", 0));
    for key in ["reserve_pool_size", "reserve_pool"] {
        section.set_some("reserve_pool_size", count(key, 0));
    }
    section.set_some("max_db_connections", count("max_db_connections", 0));
    section.set_some(
        "max_db_client_connections",
        count("max_db_client_connections", 0),
    );
    let lifetime = table.seconds("server_lifetime", Unit::Seconds, 1, Zero::Least, notes);
    section.set_some("max_lifetime_s", lifetime);
    let wait = table.millis("query_wait_timeout", Unit::Seconds, 1, Zero::Endless, notes);
    section.set_some("checkout_timeout_ms", wait);
    limits(table, section, notes);
    fit_min_size(name, section, notes, table);
    auth_query(table, ini, section, notes);
    if name == "*" {
        whom_to_ask(table, ini, section, notes);
    }
    server_user(table, section, listed, notes);
    if hosts.len() > 1 {
        monitor(section, settings, listed, table, notes);
    }
    table.finish(DATABASE_REASONS, notes);
    database
}

/// Which database is asked for users who connect to one without a section: PgBouncer takes that one.
fn whom_to_ask(table: &Table, ini: &Ini, section: &mut Section, notes: &Notes) {
    let common = |key: &str| ini.settings.keys().any(|known| known == key);
    let asks = section.get("auth_user").is_some() || common("auth_user");
    if !asks || section.get("auth_dbname").is_some() || common("auth_dbname") {
        return;
    }
    let host = |table: &Table| (table.text("host"), table.text("port"));
    let same = |(name, other): &&(String, Table)| name != "*" && host(other) == host(table);
    if let Some((name, _)) = ini.databases.iter().find(same) {
        let why = "of the databases without a section one has to be asked for users: the first with a section on \
                   the same server is (auth_dbname)";
        notes.changed(format!("{}: auth_user", table.place()), why);
        section.set("auth_dbname", name.as_str());
    }
}

fn fit_min_size(name: &str, section: &mut Section, notes: &Notes, table: &Table) {
    let number = |key| section.get(key).and_then(toml::Value::as_integer);
    let (least, size) = (
        number("min_pool_size").unwrap_or(0),
        number("pool_size").unwrap_or(20),
    );
    if name == "*" && least > 0 {
        section.remove("min_pool_size");
        notes.dropped(
            format!("{}: min_pool_size", table.place()),
            "databases of the wildcard keep no connections ready",
        );
    } else if least > size {
        section.set("min_pool_size", size);
        notes.changed(
            format!("{}: min_pool_size", table.place()),
            format!("{size}, no more than pool_size"),
        );
    }
}

/// A user that all clients share at the server.
fn server_user(
    table: &Table,
    section: &mut Section,
    listed: &BTreeMap<String, StoredSecret>,
    notes: &Notes,
) {
    let Some(user) = table.text("user") else {
        return;
    };
    let own = table.text("password");
    let password = own.or_else(|| match listed.get(&user) {
        Some(StoredSecret::Plain(secret)) => Some(secret.0.clone()),
        Some(StoredSecret::Md5(_) | StoredSecret::Scram(_)) => {
            notes.changed(
                format!("{}: user = {user}", table.place()),
                "auth_file has no plain password of this user, so write server_password",
            );
            None
        }
        Some(StoredSecret::None) | None => None,
    });
    section.set("server_user", user);
    section.set_some("server_password", password);
}

/// Several servers have to be watched.
fn monitor(
    section: &mut Section,
    settings: &Table,
    listed: &BTreeMap<String, StoredSecret>,
    table: &Table,
    notes: &Notes,
) {
    let asker = settings.take("auth_user").is_some();
    if section.get("server_user").is_some() || section.get("auth_user").is_some() || asker {
        return;
    }
    let plain = listed.iter().find_map(|(name, secret)| match secret {
        StoredSecret::Plain(secret) => Some((name.clone(), secret.0.clone())),
        StoredSecret::Md5(_) | StoredSecret::Scram(_) | StoredSecret::None => None,
    });
    if let Some((name, password)) = plain {
        notes.changed(
            table.place(),
            format!("several servers have to be watched: user {name} is asked for it; better one of pg_monitor"),
        );
        section.set("monitor_user", name);
        section.set("monitor_password", password);
    }
}

fn user(table: &Table, section: &mut Section, notes: &Notes) {
    section.set_some("pool_mode", table.text("pool_mode"));
    let count = |key, least| table.count(key, least..=MOST, Zero::Endless, notes);
    section.set_some("pool_size", count("pool_size", 1));
    for key in [
        "reserve_pool_size",
        "max_user_connections",
        "max_user_client_connections",
    ] {
        section.set_some(key, count(key, 0));
    }
    limits(table, section, notes);
    table.finish(&[], notes);
}

fn peer(id: &str, table: &Table, peers: &mut Section, notes: &Notes) {
    let port = table.text("port").unwrap_or_else(|| "6432".to_owned());
    if let Some(setting) = table.take("pool_size") {
        notes.dropped(setting.shown(), "not needed: a CancelRequest needs no pool");
    }
    match table.text("host") {
        Some(host) => peers.set(id, format!("{host}:{port}")),
        None => notes.dropped(table.place(), "the peer has no host"),
    }
    table.finish(&[], notes);
}
