//! `[users]` and `[auth]`: who may connect, and how each proves who it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::file::{SecretKeys, SecretSource, Sources};
use super::hba::read::{Flaw, Words, read as read_hba, rule};
use super::hba::{Hba, IdentMaps, METHODS, Method};
use super::reader::{Section, did_you_mean};
use super::secret::{ScramVerifier, Secret, ServerSecret, StoredSecret};
use super::{ServerTls, ServerUser, UserLimits, pool, userlist};

/// PgBouncer's, but for the view: pg_shadow has what is needed, and only roles that may log in.
/// A password that has expired is none. Nothing here depends on the search path.
pub const DEFAULT_AUTH_QUERY: &str = "SELECT usename, CASE WHEN valuntil \
    OPERATOR(pg_catalog.<) pg_catalog.now() THEN NULL ELSE passwd END \
    FROM pg_catalog.pg_shadow WHERE usename OPERATOR(pg_catalog.=) $1";

const USER_SECRET: SecretKeys = SecretKeys {
    plain: "password",
    file: "password_file",
    env: "password_env",
};
const AUTH_SECRET: SecretKeys = SecretKeys {
    plain: "auth_password",
    file: "auth_password_file",
    env: "auth_password_env",
};

#[derive(Debug, Clone, PartialEq)]
pub struct User {
    pub name: String,
    /// How it proves who it is where there is no table of rules.
    pub method: Method,
    pub secret: StoredSecret,
    /// What holds for its pools and clients.
    pub limits: UserLimits,
}

/// `[auth]`, the users aside.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// `None` leaves it to each user's own method.
    pub hba: Option<Hba>,
    pub maps: IdentMaps,
    /// How users who are not in the file are found, for databases that say nothing else.
    pub query: Option<AuthQuery>,
    /// How long what a server said of a user is believed.
    pub query_ttl: Duration,
    /// Users remembered so, at most, per database asked.
    pub query_cache: usize,
    pub hba_file: Option<PathBuf>,
    pub ident_file: Option<PathBuf>,
    pub users_file: Option<PathBuf>,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            hba: None,
            maps: IdentMaps::default(),
            query: None,
            query_ttl: Duration::from_secs(10),
            query_cache: 10_000,
            hba_file: None,
            ident_file: None,
            users_file: None,
        }
    }
}

/// Whom to ask for the secrets of users, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthQuery {
    /// As whom it is asked.
    pub user: ServerUser,
    pub query: String,
    /// The configured database whose servers are asked; `None` is the one the client wants.
    pub dbname: Option<String>,
}

/// Reads `[users]` and the file that `[auth]` names beside it.
pub(super) fn users(
    root: &Section<'_>,
    auth: Option<&Section<'_>>,
    sources: &Sources<'_>,
    tls: Option<&ServerTls>,
) -> (BTreeMap<String, User>, Option<PathBuf>) {
    let (mut listed, users_file) = users_file(auth, sources);
    let mut users = BTreeMap::new();
    let entries = root.entries("users");
    let elsewhere = auth.is_some_and(|auth| auth.has("users_file") || auth.has("auth_user"));
    if entries.as_ref().is_some_and(Vec::is_empty) && !elsewhere {
        let what = "no users: nobody could connect";
        root.mistake("users", what, "add [users.NAME] with a password");
    }
    let has_table = auth.is_some_and(|auth| auth.has("hba_file") || auth.has("hba"));
    for entry in entries.unwrap_or_default() {
        let Some(section) = root.as_section(entry.place, entry.value) else {
            continue;
        };
        if entry.name.is_empty() {
            root.mistakes()
                .add(section.place(), "a user needs a name", "");
        }
        let name = entry.name.to_owned();
        let beside = listed.remove(&name);
        let may_lack = has_table || elsewhere;
        let (method, secret) = client_auth(&section, sources, beside, may_lack);
        if !has_table && let Some((what, remedy)) = lacks_tls(method, tls) {
            section.mistake("auth", what, remedy);
        }
        let limits = pool::user_limits(&section);
        users.insert(
            name.clone(),
            User {
                name,
                method,
                secret,
                limits,
            },
        );
    }
    for (name, secret) in listed {
        let method = default_method(&secret);
        users.insert(
            name.clone(),
            User {
                name,
                method,
                secret,
                limits: UserLimits::default(),
            },
        );
    }
    (users, users_file)
}

/// What TLS a method cannot do without, where no rules say otherwise.
fn lacks_tls(method: Method, tls: Option<&ServerTls>) -> Option<(&'static str, &'static str)> {
    match (method, tls) {
        (Method::Password, None) => Some((
            "\"password\" would be sent in the clear",
            "write [tls], or auth = \"scram-sha-256\"",
        )),
        (Method::Cert, tls) if tls.is_none_or(|tls| tls.client_ca.is_none()) => Some((
            "clients' certificates cannot be checked",
            "write client_ca in [tls], the authority that signed them",
        )),
        (
            Method::Trust
            | Method::Reject
            | Method::Scram
            | Method::Md5
            | Method::Password
            | Method::Cert
            | Method::Peer,
            _,
        ) => None,
    }
}

/// md5 where nothing better is possible.
pub fn default_method(secret: &StoredSecret) -> Method {
    match secret {
        StoredSecret::Md5(_) => Method::Md5,
        StoredSecret::None | StoredSecret::Plain(_) | StoredSecret::Scram(_) => Method::Scram,
    }
}

fn users_file(
    auth: Option<&Section<'_>>,
    sources: &Sources<'_>,
) -> (BTreeMap<String, StoredSecret>, Option<PathBuf>) {
    let Some((auth, (path, text))) =
        auth.and_then(|auth| Some((auth, text_of(auth, "users_file", sources)?)))
    else {
        return (BTreeMap::new(), None);
    };
    let (users, flaws) = userlist::read(&text);
    for flaw in flaws {
        let what = format!("{} line {}: {}", path.display(), flaw.line, flaw.what);
        auth.mistake("users_file", what, flaw.remedy);
    }
    (users, Some(path))
}

/// The path and text of the file that a key names.
fn text_of(
    section: &Section<'_>,
    key: &'static str,
    sources: &Sources<'_>,
) -> Option<(PathBuf, String)> {
    let path = sources.path(section.string(key)?);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some((path, text)),
        Err(error) => {
            let what = format!("{} cannot be read: {error}", path.display());
            section.mistake(key, what, "");
            None
        }
    }
}

/// A user with a mistake still exists, else each mention of it would be a second mistake.
fn client_auth(
    section: &Section<'_>,
    sources: &Sources<'_>,
    listed: Option<StoredSecret>,
    may_lack: bool,
) -> (Method, StoredSecret) {
    let choices = METHODS.map(|(name, method)| (name, method));
    let choices: Vec<_> = choices
        .into_iter()
        .filter(|(_, method)| *method != Method::Reject)
        .collect();
    let method = section.choice("auth", &choices);
    let secret = own_secret(section, sources);
    let is_free = matches!(method, Some(Method::Trust | Method::Cert | Method::Peer));
    if method == Some(Method::Trust) && !matches!(secret, Ok(StoredSecret::None)) {
        let what = "auth = \"trust\" asks for no password, but one is given";
        section.mistake("auth", what, "leave out the one or the other");
    }
    let secret = match (secret, listed) {
        (Ok(StoredSecret::None), Some(listed)) => listed,
        (Ok(_), Some(_)) => {
            let what = "the user's password is in users_file too";
            section
                .mistakes()
                .add(section.place(), what, "keep one of the two");
            StoredSecret::None
        }
        (Ok(StoredSecret::None), None) => {
            let misspelt = section.has("auth") && method.is_none();
            if !is_free && !may_lack && !misspelt {
                let remedy = "write password, password_file, password_env or verifier; \
                              or auth = \"trust\" to let in everyone who can connect";
                section
                    .mistakes()
                    .add(section.place(), "the user has no password", remedy);
            }
            StoredSecret::None
        }
        (Ok(secret), None) => secret,
        (Err(()), _) => StoredSecret::None,
    };
    (method.unwrap_or_else(|| default_method(&secret)), secret)
}

/// The secret that is written with the user; an error is reported already.
fn own_secret(section: &Section<'_>, sources: &Sources<'_>) -> Result<StoredSecret, ()> {
    let password = sources.secret(section, &USER_SECRET);
    let written = section.has("verifier");
    let verifier = section.string("verifier");
    match (password, verifier) {
        (SecretSource::Absent, Some(verifier)) => match StoredSecret::parse(verifier) {
            Ok(secret @ (StoredSecret::Scram(_) | StoredSecret::Md5(_))) => Ok(secret),
            Ok(StoredSecret::Plain(_) | StoredSecret::None) | Err(_) => {
                let what = "not a SCRAM-SHA-256 verifier";
                let remedy =
                    "copy rolpassword from pg_authid: SCRAM-SHA-256$4096:salt$stored:server";
                section.mistake("verifier", what, remedy);
                Err(())
            }
        },
        (SecretSource::Absent, None) if written => Err(()),
        (SecretSource::Absent, None) => Ok(StoredSecret::None),
        (SecretSource::Known(Secret(text)), None) => stored(section, text),
        (SecretSource::Mistaken, None) => Err(()),
        (SecretSource::Known(_) | SecretSource::Mistaken, Some(_)) => {
            section.mistake(
                "verifier",
                "the password is given twice",
                "keep one of the two",
            );
            Err(())
        }
    }
}

/// What stands under `password` is the password itself, unless it is a verifier from a file.
fn stored(section: &Section<'_>, text: String) -> Result<StoredSecret, ()> {
    if section.has("password") {
        return Ok(StoredSecret::Plain(Secret(text)));
    }
    match text.starts_with(ScramVerifier::PREFIX) {
        false => Ok(StoredSecret::Plain(Secret(text))),
        true => StoredSecret::parse(&text).map_err(|what| {
            section
                .mistakes()
                .add(section.place(), what, "copy rolpassword from pg_authid");
        }),
    }
}

/// Reads `[auth]`.
pub(super) fn settings(
    section: Option<&Section<'_>>,
    sources: &Sources<'_>,
    users: &BTreeMap<String, User>,
    users_file: Option<PathBuf>,
    databases: &[&str],
    tls: Option<&ServerTls>,
) -> AuthSettings {
    let default = AuthSettings::default();
    let Some(section) = section else {
        return default;
    };
    let (maps, ident_file) = maps(section, sources);
    let (hba, hba_file) = hba(section, sources, &maps, tls);
    AuthSettings {
        hba,
        maps,
        query: query(section, sources, users, databases, None),
        query_ttl: section
            .seconds_or_zero("auth_query_ttl_s")
            .unwrap_or(default.query_ttl),
        query_cache: section
            .integer("auth_query_cache", 1..=1_000_000)
            .map_or(default.query_cache, |count| count as usize),
        hba_file,
        ident_file,
        users_file,
    }
}

/// The keys of an auth_query, which `[auth]` and each database may have; what is not written is
/// as in `general`.
pub(super) fn query(
    section: &Section<'_>,
    sources: &Sources<'_>,
    users: &BTreeMap<String, User>,
    databases: &[&str],
    general: Option<&AuthQuery>,
) -> Option<AuthQuery> {
    let password = sources.secret(section, &AUTH_SECRET);
    let query = section.string("auth_query").map(str::to_owned);
    let dbname = section.string("auth_dbname").map(str::to_owned);
    if let Some(name) = dbname.as_deref()
        && !databases
            .iter()
            .any(|known| *known == name || *known == "*")
    {
        let remedy = did_you_mean(name, databases.iter().copied());
        let what = format!("there is no database \"{name}\"");
        section.mistake("auth_dbname", what, remedy);
    }
    if let Some(query) = &query
        && !query.contains("$1")
    {
        let what = "the query does not ask for one user";
        section.mistake("auth_query", what, "write $1 where the user's name belongs");
    }
    let user = match section.string("auth_user") {
        Some(name) => {
            let secret = match password {
                SecretSource::Known(secret) => ServerSecret::Password(secret),
                SecretSource::Absent => users
                    .get(name)
                    .map_or(ServerSecret::None, |user| user.secret.for_servers()),
                SecretSource::Mistaken => ServerSecret::None,
            };
            if secret.is_md5() {
                let what = format!("the password of \"{name}\" is only known as md5 hash");
                section.mistake("auth_user", what, "write auth_password");
            }
            Some(ServerUser {
                name: name.to_owned(),
                secret,
            })
        }
        None => {
            if !matches!(password, SecretSource::Absent) {
                let what = "a password without auth_user";
                section
                    .mistakes()
                    .add(section.place(), what, "write auth_user too");
            }
            general.map(|general| general.user.clone())
        }
    };
    let Some(user) = user else {
        for key in ["auth_query", "auth_dbname"] {
            if section.has(key) {
                section.mistake(
                    key,
                    format!("{key} without auth_user"),
                    "write auth_user too",
                );
            }
        }
        return None;
    };
    let query = query.or_else(|| general.map(|general| general.query.clone()));
    Some(AuthQuery {
        user,
        query: query.unwrap_or_else(|| DEFAULT_AUTH_QUERY.to_owned()),
        dbname: dbname.or_else(|| general.and_then(|general| general.dbname.clone())),
    })
}

fn maps(section: &Section<'_>, sources: &Sources<'_>) -> (IdentMaps, Option<PathBuf>) {
    let Some((path, text)) = text_of(section, "ident_file", sources) else {
        return (IdentMaps::default(), None);
    };
    let (maps, flaws) = IdentMaps::read(&text);
    report(section, "ident_file", &path, flaws);
    (maps, Some(path))
}

fn report(section: &Section<'_>, key: &'static str, path: &std::path::Path, flaws: Vec<Flaw>) {
    for flaw in flaws {
        let what = format!("{} line {}: {}", path.display(), flaw.line, flaw.what);
        section.mistake(key, what, flaw.remedy);
    }
}

fn hba(
    section: &Section<'_>,
    sources: &Sources<'_>,
    maps: &IdentMaps,
    tls: Option<&ServerTls>,
) -> (Option<Hba>, Option<PathBuf>) {
    if section.has("hba_file") && section.has("hba") {
        let what = "hba_file and [[auth.hba]] are both given";
        section.mistake("hba_file", what, "keep one of the two");
    }
    let (hba, path) = match text_of(section, "hba_file", sources) {
        Some((path, text)) => {
            let (hba, flaws) = read_hba(&text);
            report(section, "hba_file", &path, flaws);
            (Some(hba), Some(path))
        }
        None => (inline(section), None),
    };
    for rule in hba.iter().flat_map(|hba| &hba.rules) {
        let wrong = |what: String, remedy: &str| {
            let (key, place) = match &path {
                Some(path) => ("hba_file", format!("{} line {}", path.display(), rule.line)),
                None => ("hba", format!("rule {}", rule.line)),
            };
            section.mistake(key, format!("{place}: {what}"), remedy);
        };
        if let Some(map) = rule.map.as_ref().filter(|map| !maps.contains(map)) {
            wrong(
                format!("there is no map \"{map}\""),
                "write it into ident_file",
            );
        }
        let has_ca = tls.is_some_and(|tls| tls.client_ca.is_some());
        if rule.wants_certificate() && !has_ca {
            let remedy = "write client_ca in [tls], the authority that signed them";
            wrong("clients' certificates cannot be checked".to_owned(), remedy);
        }
    }
    (hba, path)
}

/// The rules of `[[auth.hba]]`, numbered as they stand.
fn inline(section: &Section<'_>) -> Option<Hba> {
    use super::hba::Token;
    if !section.has("hba") {
        return None;
    }
    let mut rules = Vec::new();
    for (line, entry) in (1..).zip(section.sections("hba").unwrap_or_default()) {
        // A word here stands for itself as one without quotes does in the file.
        let list = |key| -> Vec<Token> {
            let words = entry.strings(key).unwrap_or_default();
            words.iter().map(|(_, word)| Token::bare(word)).collect()
        };
        for key in ["type", "database", "user", "method"] {
            if !entry.has(key) {
                let what = format!("{key} is missing");
                entry.mistakes().add(entry.place(), what, "");
            }
        }
        let (databases, users) = (list("database"), list("user"));
        let address = entry.string("address").map(Token::bare);
        let mask = entry.string("mask");
        let options = ["map", "clientcert", "clientname"];
        let options = options
            .into_iter()
            .filter_map(|key| Some((key, entry.string(key)?)));
        let (options, transport, method) = (
            options.collect(),
            entry.string("type"),
            entry.string("method"),
        );
        let (Some(transport), Some(method)) = (transport, method) else {
            continue;
        };
        let words = Words {
            line,
            transport,
            databases: &databases,
            users: &users,
            address: address.as_ref().map(|address| (address, mask)),
            method,
            options,
        };
        match rule(&words) {
            Ok(rule) => rules.push(rule),
            Err(whys) => {
                for (what, remedy) in whys {
                    entry.mistakes().add(entry.place(), what, remedy);
                }
            }
        }
    }
    Some(Hba { rules })
}
