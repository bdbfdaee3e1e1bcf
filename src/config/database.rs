//! `[databases.NAME]`: its settings, servers and shards.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use planner::ring::SLOTS;
use planner::topology::ShardWeight;
use planner::{ShardId, Topology};

use super::auth;
use super::file::{SecretKeys, SecretSource, Sources, certificates, private_key};
use super::reader::{Mistakes, Place, Section, did_you_mean};
use super::{
    AuthSettings, ClientCertificate, Database, Endpoint, ReadSettings, ServerSecret, ServerUser,
    Shard, StoredSecret, TcpOptions, TlsMode, User, WILDCARD,
};
use super::{commits, functions, placements, policy, pool, reads, tables, tcp};

const SERVER_SECRET: SecretKeys = SecretKeys {
    plain: "server_password",
    file: "server_password_file",
    env: "server_password_env",
};
const MONITOR_SECRET: SecretKeys = SecretKeys {
    plain: "monitor_password",
    file: "monitor_password_file",
    env: "monitor_password_env",
};

/// The name of the only shard of a database that lists `servers`.
const ONLY_SHARD: &str = "main";
const SERVER_EXAMPLE: &str =
    "write \"host:5432\", \"[::1]:5432\" or \"/var/run/postgresql:5432\" for a Unix socket";

/// Reads one database; `None` when a mistake leaves nothing to go on with.
pub(super) fn read(
    name: &str,
    section: &Section<'_>,
    sources: &Sources<'_>,
    users: &BTreeMap<String, User>,
    auth: &AuthSettings,
    names: &[&str],
    tcp: TcpOptions,
) -> Option<Database> {
    let pool = pool::settings(section);
    if name == WILDCARD && pool.min_size > 0 {
        let what = "databases of the wildcard keep no connections ready";
        section.mistake("min_pool_size", what, "leave it out here");
    }
    let written = section.section("reads");
    let reads = written
        .as_ref()
        .map_or_else(ReadSettings::default, reads::read);
    let auth_query = auth::query(section, sources, users, names, auth.query.as_ref());
    if name == "*"
        && auth_query
            .as_ref()
            .is_some_and(|query| query.dbname.is_none())
    {
        let what = "which database is asked for users is not said";
        section.mistake(
            "auth_query",
            what,
            "write auth_dbname, the name of one with a section",
        );
    }
    let (server_user, monitor_user) = credentials(section, sources);
    let monitor_user = monitor_user
        .or_else(|| auth_query.as_ref().map(|query| query.user.clone()))
        .or_else(|| only_user(users));
    let (server_tls, server_ca) = server_tls(section, sources);
    let server_certificate = server_certificate(section, sources, server_tls);
    let shards = shards(name, section);
    let overrides = slot_overrides(section, &shards);
    let rules = placements::read(section, &shards);
    let (tables, default_ids) = tables::read(section, &shards, &rules);
    let schemas = tables::schemas(section, &shards);
    if monitor_user.is_none() && !section.has("server_user") && !section.has("monitor_user") {
        require_monitor(section, &reads, &shards);
    }
    let (shards, weights): (Vec<Shard>, Vec<ShardWeight>) = shards.into_iter().unzip();
    if let Some(written) = written {
        let servers: Vec<_> = shards.iter().flat_map(|shard| &shard.endpoints).collect();
        reads::check_servers(&written, &reads, &servers);
    }
    if shards.is_empty() {
        return None;
    }
    Some(Database {
        name: name.to_owned(),
        pool,
        tcp: tcp::read(section, tcp),
        server_user,
        monitor_user,
        auth_query,
        server_tls,
        server_tls_digest: digest(&[
            server_ca.as_ref(),
            server_certificate.as_ref().map(|own| &own.certificate),
            server_certificate.as_ref().map(|own| &own.key),
        ]),
        server_ca,
        server_certificate,
        reads,
        policies: policy::read(section),
        commits: commits::read(section),
        shards,
        topology: Topology::new(weights, &overrides).with_rules(rules),
        tables,
        default_ids,
        schemas,
        functions: functions::read(section),
    })
}

fn credentials(
    section: &Section<'_>,
    sources: &Sources<'_>,
) -> (Option<ServerUser>, Option<ServerUser>) {
    let server_user = server_user_of(section, sources, "server_user", &SERVER_SECRET);
    let monitor_user = server_user_of(section, sources, "monitor_user", &MONITOR_SECRET);
    let monitor_user = monitor_user.or_else(|| server_user.clone());
    (server_user, monitor_user)
}

/// The one user, if there is no other and it can log in to servers.
fn only_user(users: &BTreeMap<String, User>) -> Option<ServerUser> {
    let mut users = users.values();
    let (user, None) = (users.next()?, users.next()) else {
        return None;
    };
    let secret = match &user.secret {
        StoredSecret::Plain(secret) => ServerSecret::Password(secret.clone()),
        StoredSecret::None => ServerSecret::None,
        // Control connections log in with a password or without one.
        StoredSecret::Md5(_) | StoredSecret::Scram(_) => return None,
    };
    Some(ServerUser {
        name: user.name.clone(),
        secret,
    })
}

fn server_user_of(
    section: &Section<'_>,
    sources: &Sources<'_>,
    key: &'static str,
    secret: &SecretKeys,
) -> Option<ServerUser> {
    let password = match sources.secret(section, secret) {
        SecretSource::Known(secret) => ServerSecret::Password(secret),
        SecretSource::Absent | SecretSource::Mistaken => ServerSecret::None,
    };
    if !password.is_none() && !section.has(key) {
        let password_key = [secret.plain, secret.file, secret.env];
        let written = password_key.into_iter().find(|key| section.has(key));
        let what = format!("a password without {key}");
        section.mistake(
            written.unwrap_or(secret.plain),
            what,
            format!("write {key} too"),
        );
    }
    Some(ServerUser {
        name: section.string(key)?.to_owned(),
        secret: password,
    })
}

/// Roles, lag and the catalog are asked for by Ringway itself, when no client is there.
fn require_monitor(section: &Section<'_>, reads: &ReadSettings, shards: &[(Shard, ShardWeight)]) {
    let why = if shards.len() > 1 {
        "shards have to be watched"
    } else if reads.split {
        "reads.split has to know the replicas' lag"
    } else if shards.iter().any(|(shard, _)| shard.endpoints.len() > 1) {
        "the primary has to be found among several servers"
    } else {
        return;
    };
    let what = format!("{why}, and there is no user to ask with");
    let remedy = "write server_user or monitor_user, a role that is a member of pg_monitor";
    section.mistakes().add(section.place(), what, remedy);
}

fn server_tls(section: &Section<'_>, sources: &Sources<'_>) -> (TlsMode, Option<PathBuf>) {
    let modes = [
        ("disable", TlsMode::Disable),
        ("require", TlsMode::Require),
        ("verify-ca", TlsMode::VerifyCa),
        ("verify-full", TlsMode::VerifyFull),
    ];
    let mode = section
        .choice("server_tls", &modes)
        .unwrap_or(TlsMode::Disable);
    let ca = sources.pem(section, "server_ca", certificates);
    match mode {
        TlsMode::VerifyCa | TlsMode::VerifyFull if !section.has("server_ca") => {
            let what = format!("{} needs the certificates to trust", mode.name());
            section.mistake(
                "server_tls",
                what,
                "write server_ca, the path of a PEM file",
            );
        }
        TlsMode::Disable | TlsMode::Require if section.has("server_ca") => {
            let what = "server_ca is only used with server_tls = \"verify-ca\" or \"verify-full\"";
            section.mistake("server_ca", what, "write server_tls = \"verify-full\"");
        }
        TlsMode::Disable | TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => {}
    }
    (mode, ca)
}

fn server_certificate(
    section: &Section<'_>,
    sources: &Sources<'_>,
    mode: TlsMode,
) -> Option<ClientCertificate> {
    let certificate = sources.pem(section, "server_certificate", certificates);
    let key = sources.pem(section, "server_key", private_key);
    let (written, missing) = match (certificate, key) {
        (None, None) => return None,
        (Some(certificate), Some(key)) => {
            if mode == TlsMode::Disable {
                let what = "server_certificate is only used with TLS";
                section.mistake("server_certificate", what, "write server_tls");
            }
            return Some(ClientCertificate { certificate, key });
        }
        (Some(_), None) => ("server_certificate", "server_key"),
        (None, Some(_)) => ("server_key", "server_certificate"),
    };
    let what = format!("{written} without {missing}");
    section.mistake(written, what, format!("write {missing} too"));
    None
}

/// Tells the bytes of files from others. A file that cannot be read is a mistake already.
fn digest(files: &[Option<&PathBuf>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files.iter().flatten() {
        std::fs::read(file).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}

/// The shards in the file's order, with what the ring needs of them.
fn shards(database: &str, section: &Section<'_>) -> Vec<(Shard, ShardWeight)> {
    let dbname = section.string("dbname").unwrap_or(database);
    let written = section.sections("shards");
    match (written, section.has("servers")) {
        (None, true) => {
            let endpoints = endpoints(section);
            vec![shard(0, ONLY_SHARD, dbname, endpoints, 1)]
        }
        (Some(sections), false) => named_shards(section, &sections, dbname),
        (None, false) => {
            let remedy =
                "write servers = [\"host:5432\"], or [[databases.NAME.shards]] for several";
            section
                .mistakes()
                .add(section.place(), "the database has no servers", remedy);
            Vec::new()
        }
        (Some(sections), true) => {
            let what = "servers and shards are both given";
            section.mistake("servers", what, "move the servers into a shard");
            named_shards(section, &sections, dbname)
        }
    }
}

fn shard(
    id: u16,
    name: &str,
    dbname: &str,
    endpoints: Vec<Endpoint>,
    weight: u32,
) -> (Shard, ShardWeight) {
    let shard = Shard {
        id: ShardId(id),
        name: name.to_owned(),
        dbname: dbname.to_owned(),
        endpoints,
    };
    (
        shard,
        ShardWeight {
            name: name.to_owned(),
            weight,
        },
    )
}

fn named_shards(
    database: &Section<'_>,
    sections: &[Section<'_>],
    dbname: &str,
) -> Vec<(Shard, ShardWeight)> {
    if sections.is_empty() {
        database.mistake("shards", "no shards", "list at least one");
    }
    if sections.len() > MAX_SHARDS {
        let what = format!(
            "{} shards; at most {MAX_SHARDS} are possible",
            sections.len()
        );
        database.mistake("shards", what, "");
    }
    let mut shards: Vec<(Shard, ShardWeight)> = Vec::with_capacity(sections.len());
    // Keyed by what would hold the same rows twice.
    let mut owners: HashMap<(Endpoint, String), String> = HashMap::new();
    for (id, section) in (0..=u16::MAX).zip(sections) {
        let name = shard_name(section, &shards);
        let dbname = section.string("dbname").unwrap_or(dbname);
        let weight = section.integer("weight", 1..=1_000).unwrap_or(1);
        let endpoints = endpoints(section);
        for endpoint in &endpoints {
            let key = (endpoint.clone(), dbname.to_owned());
            if let Some(owner) = owners.insert(key, name.to_owned()) {
                let what = format!(
                    "database \"{dbname}\" on {endpoint} already belongs to shard \"{owner}\""
                );
                let remedy = "give each shard servers of its own, or another dbname";
                section.mistake("servers", what, remedy);
            }
        }
        shards.push(shard(id, name, dbname, endpoints, weight));
    }
    shards
}

/// Each shard owns at least one slot.
const MAX_SHARDS: usize = 1_024;

fn shard_name<'a>(section: &Section<'a>, earlier: &[(Shard, ShardWeight)]) -> &'a str {
    if !section.has("name") {
        let remedy = "write name = \"s1\"; the name places the shard on the ring, so keep it";
        section
            .mistakes()
            .add(section.place(), "the shard has no name", remedy);
    }
    let name = section.string("name").unwrap_or_default();
    if earlier
        .iter()
        .any(|(shard, _)| shard.name == name && !name.is_empty())
    {
        section.mistake("name", format!("there is a shard \"{name}\" already"), "");
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    {
        let what = format!("\"{name}\" cannot be written in a hint");
        section.mistake("name", what, "use letters, digits, _ and -");
    }
    name
}

fn endpoints(section: &Section<'_>) -> Vec<Endpoint> {
    let written = section.strings("servers");
    if !section.has("servers") || written.as_ref().is_some_and(Vec::is_empty) {
        section.mistake("servers", "no servers", SERVER_EXAMPLE);
    }
    let mut endpoints = Vec::new();
    for (place, text) in written.unwrap_or_default() {
        match endpoint(text) {
            Ok(endpoint) if endpoints.contains(&endpoint) => {
                section
                    .mistakes()
                    .add(&place, format!("{endpoint} is listed twice"), "");
            }
            Ok(endpoint) => endpoints.push(endpoint),
            Err(what) => {
                section
                    .mistakes()
                    .add(&place, format!("\"{text}\" {what}"), SERVER_EXAMPLE);
            }
        }
    }
    endpoints
}

pub(super) fn endpoint(text: &str) -> Result<Endpoint, &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
    let port = port.parse().ok().filter(|port| *port != 0);
    let port: u16 = port.ok_or("has no port from 1 to 65535")?;
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = bracketed.unwrap_or(host);
    if host.is_empty() {
        return Err("has no host");
    }
    if host.contains(':') && bracketed.is_none() {
        return Err("has more than one colon; an IPv6 address needs brackets");
    }
    if bracketed.is_some() && host.parse::<std::net::Ipv6Addr>().is_err() {
        return Err("has no IPv6 address in its brackets");
    }
    if host.contains(char::is_whitespace) || (host.contains('/') && !host.starts_with('/')) {
        return Err("is not a host and port");
    }
    Ok(Endpoint {
        host: host.to_owned(),
        port,
    })
}

/// Slots that were moved by hand, as (slot, shard).
fn slot_overrides(section: &Section<'_>, shards: &[(Shard, ShardWeight)]) -> Vec<(u16, ShardId)> {
    let mut owners: BTreeMap<u16, ShardId> = BTreeMap::new();
    for entry in section.sections("slot_overrides").unwrap_or_default() {
        let shard = named_shard(&entry, "shard", shards);
        let by_remainder = entry.has("modulus") || entry.has("remainder");
        if by_remainder == entry.has("slots") {
            let remedy =
                "write slots = \"0-99\" or a list of such ranges, or modulus and remainder";
            let what = match by_remainder {
                true => "slots are given twice",
                false => "no slots",
            };
            entry.mistake("slots", what, remedy);
        }
        if by_remainder {
            for slot in slots_by_remainder(&entry) {
                let Some(shard) = shard else { continue };
                if owners.insert(slot, shard).is_some() {
                    let what = format!("slot {slot} is in an earlier override too");
                    entry.mistake("remainder", what, "name each slot once");
                    break;
                }
            }
        }
        for (place, text) in entry.strings("slots").unwrap_or_default() {
            let Some((first, last)) = slot_range(text) else {
                let remedy = format!(
                    "write \"0-99\" or \"17\", with slots from 0 to {}",
                    SLOTS - 1
                );
                section
                    .mistakes()
                    .add(&place, format!("\"{text}\" is not a range"), remedy);
                continue;
            };
            let Some(shard) = shard else { continue };
            let taken = (first..=last).filter(|slot| owners.insert(*slot, shard).is_some());
            if let Some(slot) = taken.collect::<Vec<_>>().first() {
                let what = format!("slot {slot} is in an earlier override too");
                section.mistakes().add(&place, what, "name each slot once");
            }
        }
    }
    owners.into_iter().collect()
}

/// The slots that leave `remainder` when divided by `modulus`, which has to divide their number: rows
/// whose hash leaves it are in these slots then, and only in these.
fn slots_by_remainder(entry: &Section<'_>) -> Vec<u16> {
    for key in ["modulus", "remainder"] {
        if !entry.has(key) {
            entry.mistake(key, format!("no {key}"), "write modulus and remainder");
        }
    }
    let modulus = entry.integer("modulus", 1..=SLOTS as u32);
    let remainder = entry.integer("remainder", 0..=SLOTS as u32 - 1);
    let (Some(modulus), Some(remainder)) = (modulus, remainder) else {
        return Vec::new();
    };
    if !modulus.is_power_of_two() {
        let what = format!("{modulus} does not divide the {SLOTS} slots");
        entry.mistake("modulus", what, "write a power of two");
        return Vec::new();
    }
    if remainder >= modulus {
        let what = format!("{remainder} is no remainder of {modulus}");
        entry.mistake("remainder", what, format!("write a number below {modulus}"));
        return Vec::new();
    }
    let slots = (remainder..SLOTS as u32).step_by(modulus as usize);
    slots.filter_map(|slot| u16::try_from(slot).ok()).collect()
}

/// `first-last`, both included, or one slot.
fn slot_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let slot = |text: &str| {
        text.trim()
            .parse::<u16>()
            .ok()
            .filter(|s| usize::from(*s) < SLOTS)
    };
    let (first, last) = (slot(first)?, slot(last)?);
    (first <= last).then_some((first, last))
}

/// The shard that `key` names, which has to be written.
pub(super) fn named_shard(
    section: &Section<'_>,
    key: &'static str,
    shards: &[(Shard, ShardWeight)],
) -> Option<ShardId> {
    let Some(name) = section.string(key) else {
        if !section.has(key) {
            section.mistake(key, "no shard", "write the name of one");
        }
        return None;
    };
    shard_named(section.mistakes(), &section.place_of(key), name, shards)
}

/// The shard called `name`; there being none is a mistake at `place`.
pub(super) fn shard_named(
    mistakes: &Mistakes<'_>,
    place: &Place,
    name: &str,
    shards: &[(Shard, ShardWeight)],
) -> Option<ShardId> {
    let known = shards.iter().find(|(shard, _)| shard.name == name);
    if known.is_none() {
        let mut names: Vec<_> = shards
            .iter()
            .map(|(shard, _)| shard.name.as_str())
            .collect();
        names.dedup();
        let likely = did_you_mean(name, names.iter().copied());
        let remedy = if likely.is_empty() {
            format!("known shards: {}", names.join(", "))
        } else {
            likely
        };
        mistakes.add(place, format!("there is no shard \"{name}\""), remedy);
    }
    known.map(|(shard, _)| shard.id)
}
