//! The TOML as written: from a file's text to a validated [`Config`], or to every mistake in it.
//!
//! Sections of databases are read in `database`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use toml::de::DeTable;
use tracing_subscriber::EnvFilter;

use super::auth;
use super::change::{self, Source};
use super::database;
use super::listen::{self, ListenAddress};
use super::reader::{ConfigErrors, Mistakes, Place, Section, did_you_mean};
use super::tcp;
use super::traces;
use super::{
    ADMIN_DATABASE, AuthSettings, Config, Database, General, LogFormat, Secret, ServerTls,
    TcpOptions, User,
};

const MIB: usize = 1 << 20;
/// A frame's length is a signed 32 bit number.
const MAX_FRAME_MIB: u32 = 2_047;
/// Durations end here, at a year, so that sums with the clock cannot overflow.
const YEAR_S: u32 = 366 * 24 * 60 * 60;

/// Reads an environment variable; a parameter so that tests need not change the process.
pub type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Reads and validates the configuration file at `path`, with the files and environment
/// variables that it names.
///
/// # Errors
/// Every mistake of the file at once; the file that cannot be read is one mistake.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let file = SourceFile::seen(path);
    let text = std::fs::read_to_string(path).map_err(|error| {
        let mistakes = Mistakes::new("");
        mistakes.add(&Place::file(), format!("cannot be read: {error}"), "");
        ConfigErrors {
            file: path.to_owned(),
            mistakes: mistakes.into_vec(),
        }
    })?;
    let mut config = parse(&text, path, &|name| std::env::var(name).ok())?;
    if let Some(first) = config.files.first_mut() {
        *first = file;
    }
    Ok(config)
}

/// A file that a configuration was made of, as it was just before it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    path: PathBuf,
    /// What tells one state of a file from another; `None` for one that cannot be read.
    stamp: Option<(u64, u64, i64, i64)>,
}

impl SourceFile {
    pub fn seen(path: &Path) -> Self {
        // Follows links: what a mounted secret is changed by.
        let file = std::fs::metadata(path).ok();
        Self {
            path: path.to_owned(),
            stamp: file.map(|file| (file.ino(), file.len(), file.mtime(), file.mtime_nsec())),
        }
    }

    /// As it is now.
    pub fn again(&self) -> Self {
        Self::seen(&self.path)
    }
}

/// Validates the text of the configuration file at `path`, to whose directory the paths in it
/// are relative.
///
/// # Errors
/// Every mistake of the file at once.
pub fn parse(text: &str, path: &Path, env: Env<'_>) -> Result<Config, ConfigErrors> {
    let source = Source {
        path: path.to_owned(),
        text: Secret(text.to_owned()),
        changes: Vec::new(),
    };
    made_of(source, env)
}

/// As [`parse`].
pub(super) fn made_of(source: Source, env: Env<'_>) -> Result<Config, ConfigErrors> {
    let mistakes = Mistakes::new(&source.text.0);
    let config = read(&source, env, &mistakes);
    let mistakes = mistakes.into_vec();
    match config {
        Some(config) if mistakes.is_empty() => Ok(config),
        Some(_) | None => Err(ConfigErrors {
            file: source.path,
            mistakes,
        }),
    }
}

/// The configuration as far as it could be understood; it counts only when no mistake was added.
fn read(source: &Source, env: Env<'_>, mistakes: &Mistakes<'_>) -> Option<Config> {
    let path = source.path.as_path();
    let (mut table, errors) = DeTable::parse_recoverable(&source.text.0);
    if !errors.is_empty() {
        // What was not understood would look missing, so nothing else is said.
        errors.iter().for_each(|error| mistakes.add_syntax(error));
        return None;
    }
    change::apply(table.get_mut(), &source.changes);
    let sources = Sources {
        base: path.parent().unwrap_or(Path::new("")),
        env,
        files: RefCell::new(vec![SourceFile::seen(path)]),
    };
    // Sections borrow from the table and report when dropped, hence this order.
    let root = Section::new(Place::file(), table.get_ref(), mistakes);
    let tls = root
        .section("tls")
        .and_then(|section| read_tls(&section, &sources));
    let auth_section = root.section("auth");
    let auth_section = auth_section.as_ref();
    let (users, users_file) = auth::users(&root, auth_section, &sources, tls.as_ref());
    let names = root.names("databases");
    let auth = auth::settings(
        auth_section,
        &sources,
        &users,
        users_file,
        &names,
        tls.as_ref(),
    );
    let general = root.section("general");
    let general = general.map_or_else(General::default, |section| {
        read_general(&section, &users, &auth, env)
    });
    let tracing = root.section("tracing");
    let general = General {
        tracing: tracing.and_then(|section| traces::settings(&section)),
        ..general
    };
    let databases = databases(&root, &sources, &users, &auth, general.tcp);
    let peers = listen::peers(&root, general.peer_id);
    Some(Config {
        general,
        tls,
        auth,
        users,
        databases,
        peers,
        files: sources.files.take(),
        source: source.clone(),
    })
}

fn read_general(
    section: &Section<'_>,
    users: &BTreeMap<String, User>,
    auth: &AuthSettings,
    env: Env<'_>,
) -> General {
    let default = General::default();
    let count = |key, max| section.integer(key, 1..=max).map(|count| count as usize);
    let listen = listen::addresses(section).unwrap_or(default.listen);
    General {
        http_listen: http_address(section, &listen),
        listen,
        unix_socket_mode: listen::socket_mode(section).unwrap_or(default.unix_socket_mode),
        reuse_port: section.boolean("reuse_port").unwrap_or(default.reuse_port),
        workers: workers(section).unwrap_or(default.workers),
        max_clients: count("max_clients", 1_000_000).unwrap_or(default.max_clients),
        max_user_connections: section
            .integer("max_user_connections", 0..=100_000)
            .unwrap_or(default.max_user_connections),
        max_user_clients: section
            .integer("max_user_client_connections", 0..=1_000_000)
            .unwrap_or(default.max_user_clients),
        admin_users: names_of_users("admin_users", section, users, auth),
        stats_users: names_of_users("stats_users", section, users, auth),
        max_message_bytes: section
            .mib("max_message_mib", MAX_FRAME_MIB)
            .unwrap_or(default.max_message_bytes),
        login_timeout: section
            .seconds("login_timeout_s")
            .unwrap_or(default.login_timeout),
        tcp: tcp::read(section, default.tcp),
        shutdown_timeout: section
            .seconds_or_zero("shutdown_timeout_s")
            .unwrap_or(default.shutdown_timeout),
        peer_id: listen::peer_id(section, env),
        run_directory: listen::run_directory(section),
        watch_interval: section
            .seconds_or_zero("watch_interval_s")
            .map_or(default.watch_interval, |time| {
                (!time.is_zero()).then_some(time)
            }),
        plan_cache_bytes: section
            .mib("plan_cache_mib", 65_536)
            .unwrap_or(default.plan_cache_bytes),
        max_digests: section
            .integer("max_digests", 0..=100_000)
            .map_or(default.max_digests, |count| count as usize),
        merge_memory_bytes: section
            .mib("merge_memory_mib", 65_536)
            .unwrap_or(default.merge_memory_bytes),
        log_min_duration: section.millis_or_zero("log_min_duration_ms"),
        log_values: section.boolean("log_values").unwrap_or(default.log_values),
        tracing: default.tracing,
        log_format: section
            .choice(
                "log_format",
                &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            )
            .unwrap_or(default.log_format),
        log_level: log_level(section).unwrap_or(default.log_level),
    }
}

fn log_level(section: &Section<'_>) -> Option<String> {
    let written = section.string("log_level")?;
    if let Err(error) = EnvFilter::builder().parse(written) {
        let remedy = "write error, warn, info, debug or trace, or `info,ringway::pool=debug`";
        section.mistake("log_level", error.to_string(), remedy);
    }
    Some(written.to_owned())
}

fn workers(section: &Section<'_>) -> Option<usize> {
    if !section.is_string("workers") {
        return section
            .integer("workers", 1..=256)
            .map(|count| count as usize);
    }
    section.choice("workers", &[("auto", ())])?;
    Some(std::thread::available_parallelism().map_or(1, |cores| cores.get()))
}

fn names_of_users(
    key: &'static str,
    section: &Section<'_>,
    users: &BTreeMap<String, User>,
    auth: &AuthSettings,
) -> Vec<String> {
    let names = section.strings(key).unwrap_or_default();
    for (place, name) in &names {
        // With a database to ask, any name may turn out to be a user's.
        let may_be_found = auth.query.as_ref().is_some_and(|q| q.dbname.is_some());
        if !users.contains_key(*name) && !may_be_found {
            let likely = did_you_mean(name, users.keys().map(String::as_str));
            let remedy = if likely.is_empty() {
                format!("add [users.{name}]")
            } else {
                likely
            };
            section
                .mistakes()
                .add(place, format!("there is no user \"{name}\""), remedy);
        }
    }
    names.into_iter().map(|(_, name)| name.to_owned()).collect()
}

fn http_address(section: &Section<'_>, listen: &[ListenAddress]) -> Option<SocketAddr> {
    let written = section.strings("http_listen")?;
    if written.len() > 1 {
        section.mistake("http_listen", "more than one address", "write one");
    }
    let (place, text) = written.first()?;
    let Ok(address) = text.parse::<SocketAddr>() else {
        let what = format!("\"{text}\" is not an IP address and port");
        section
            .mistakes()
            .add(place, what, "write \"127.0.0.1:9187\"");
        return None;
    };
    if address.port() != 0 && listen.contains(&ListenAddress::Tcp(address)) {
        let remedy = "give HTTP a port of its own, such as 127.0.0.1:9187";
        section.mistake(
            "http_listen",
            format!("{address} is also in listen"),
            remedy,
        );
    }
    Some(address)
}

fn read_tls(section: &Section<'_>, sources: &Sources<'_>) -> Option<ServerTls> {
    for key in ["certificate", "private_key"] {
        if !section.has(key) {
            section.mistake(
                key,
                format!("{key} is missing"),
                "write the path of a PEM file",
            );
        }
    }
    let certificate = sources.pem(section, "certificate", certificates);
    let private_key = sources.pem(section, "private_key", private_key);
    let required = section.boolean("required").unwrap_or(false);
    let client_ca = sources.pem(section, "client_ca", certificates);
    Some(ServerTls {
        certificate: certificate?,
        private_key: private_key?,
        required,
        client_ca,
    })
}

/// What PEM text lacks to be certificates.
pub(super) fn certificates(pem: &[u8]) -> Result<(), String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => Err("no certificate in it".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn private_key(pem: &[u8]) -> Result<(), String> {
    let key = PrivateKeyDer::from_pem_slice(pem);
    key.map(|_| ()).map_err(|error| error.to_string())
}

fn databases(
    root: &Section<'_>,
    sources: &Sources<'_>,
    users: &BTreeMap<String, User>,
    auth: &AuthSettings,
    tcp: TcpOptions,
) -> BTreeMap<String, Arc<Database>> {
    let mut databases = BTreeMap::new();
    let names = root.names("databases");
    let entries = root.entries("databases");
    if entries.as_ref().is_some_and(Vec::is_empty) {
        let what = "no databases: nothing to connect to";
        root.mistake(
            "databases",
            what,
            "add [databases.NAME] with servers = [\"host:5432\"]",
        );
    }
    for entry in entries.unwrap_or_default() {
        let Some(section) = root.as_section(entry.place, entry.value) else {
            continue;
        };
        if entry.name == ADMIN_DATABASE {
            let what = format!("\"{ADMIN_DATABASE}\" is the name of the admin database");
            let remedy = "choose another name; dbname keeps the name on the servers";
            root.mistakes().add(section.place(), what, remedy);
        }
        if let Some(database) =
            database::read(entry.name, &section, sources, users, auth, &names, tcp)
        {
            databases.insert(entry.name.to_owned(), Arc::new(database));
        }
    }
    databases
}

/// What lies outside the file: where relative paths start, and the environment.
pub(super) struct Sources<'e> {
    base: &'e Path,
    env: Env<'e>,
    /// Every file that was named so far.
    files: RefCell<Vec<SourceFile>>,
}

/// The keys a secret may come from.
pub(super) struct SecretKeys {
    pub(super) plain: &'static str,
    pub(super) file: &'static str,
    pub(super) env: &'static str,
}

/// What became of a secret.
pub(super) enum SecretSource {
    Absent,
    Known(Secret),
    /// Written, but wrongly; the mistake is reported.
    Mistaken,
}

impl Sources<'_> {
    /// Reads a secret from the one source that is written.
    pub(super) fn secret(&self, section: &Section<'_>, keys: &SecretKeys) -> SecretSource {
        let written: Vec<&'static str> = [keys.plain, keys.file, keys.env]
            .into_iter()
            .filter(|key| section.has(key))
            .collect();
        let key = match written[..] {
            [] => return SecretSource::Absent,
            [key] => key,
            [first, second, ..] => {
                let what = format!("the password is given twice, by {first} and by {second}");
                section.mistake(second, what, "keep one of them");
                return SecretSource::Mistaken;
            }
        };
        // A string that is not one is reported by the reader.
        let Some(text) = section.string(key) else {
            return SecretSource::Mistaken;
        };
        let secret = if key == keys.plain {
            Ok(text.to_owned())
        } else if key == keys.file {
            self.secret_file(text)
        } else {
            (self.env)(text).ok_or_else(|| format!("the environment has no variable {text}"))
        };
        match secret {
            Ok(secret) if !secret.is_empty() => SecretSource::Known(Secret(secret)),
            Ok(_) => {
                section.mistake(key, format!("the password in {text} is empty"), "");
                SecretSource::Mistaken
            }
            Err(what) => {
                section.mistake(key, what, "");
                SecretSource::Mistaken
            }
        }
    }

    /// The file's first line: editors end files with a line feed that is not of the password.
    fn secret_file(&self, name: &str) -> Result<String, String> {
        let path = self.path(name);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    pub(super) fn path(&self, written: &str) -> PathBuf {
        let path = self.base.join(written);
        self.files.borrow_mut().push(SourceFile::seen(&path));
        path
    }

    /// The path of a PEM file that `check` finds nothing wrong with; `None` when the key is not
    /// written.
    pub(super) fn pem(
        &self,
        section: &Section<'_>,
        key: &'static str,
        check: fn(&[u8]) -> Result<(), String>,
    ) -> Option<PathBuf> {
        let path = self.path(section.string(key)?);
        let file = std::fs::read(&path).map_err(|error| format!("cannot be read: {error}"));
        let checked = file.and_then(|pem| check(&pem).map_err(|why| format!("is no PEM: {why}")));
        if let Err(what) = checked {
            section.mistake(key, format!("{} {what}", path.display()), "");
        }
        Some(path)
    }
}

impl Section<'_> {
    /// Whole milliseconds, from 1.
    pub(super) fn millis(&self, key: &'static str) -> Option<Duration> {
        self.integer(key, 1..=u32::MAX)
            .map(|ms| Duration::from_millis(u64::from(ms)))
    }

    /// Whole mebibytes, from 1 to `max`, as bytes.
    pub(super) fn mib(&self, key: &'static str, max: u32) -> Option<usize> {
        self.integer(key, 1..=max).map(|mib| mib as usize * MIB)
    }

    /// Whole milliseconds, from 0.
    pub(super) fn millis_or_zero(&self, key: &'static str) -> Option<Duration> {
        self.integer(key, 0..=u32::MAX)
            .map(|ms| Duration::from_millis(u64::from(ms)))
    }

    /// Whole seconds, from 1 to a year.
    pub(super) fn seconds(&self, key: &'static str) -> Option<Duration> {
        self.integer(key, 1..=YEAR_S)
            .map(|s| Duration::from_secs(u64::from(s)))
    }

    /// Whole seconds, from 0 to a year.
    pub(super) fn seconds_or_zero(&self, key: &'static str) -> Option<Duration> {
        self.integer(key, 0..=YEAR_S)
            .map(|s| Duration::from_secs(u64::from(s)))
    }
}
