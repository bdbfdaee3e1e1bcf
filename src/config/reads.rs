//! `[databases.NAME.reads]`: which reads may go to replicas, and to which.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::Endpoint;
use super::database::endpoint;
use super::reader::Section;

#[derive(Debug, Clone, PartialEq)]
pub struct ReadSettings {
    /// False sends everything to the primary.
    pub split: bool,
    pub freshness: Freshness,
    /// A replica further behind serves no reads.
    pub max_lag: Duration,
    /// How long a session that wrote waits for a fresh replica before it reads from the primary.
    pub max_wait: Duration,
    /// How often replicas and primaries are asked for their position.
    pub poll_interval: Duration,
    pub balance: Balance,
    pub primary: PrimaryReads,
    /// Good answers in a row after which a server that was down serves again.
    pub return_after: u32,
    /// A read goes to another server when the first is lost before it has begun to answer.
    pub retry: bool,
    /// How long a replica that comes back takes to get its whole share.
    pub slow_start: Duration,
    /// How long after its own write a session reads from the primary, where servers do not tell their
    /// position in the WAL.
    pub blind: Duration,
    /// How long a replica is not used that is far worse than its siblings, the first time; zero: it is.
    pub eject: Duration,
    /// How often the median of its siblings that is.
    pub outlier_factor: u32,
    /// Of the time of a read, and of failures in a second: what is less is no outlier.
    pub outlier_latency: Duration,
    pub outlier_failures: u32,
    /// How long a causal key that is not used is remembered at least, while there is room.
    pub causal_ttl: Duration,
    /// Shares of servers; who is not named has 1.
    pub weights: BTreeMap<Endpoint, u32>,
    /// Where servers are, by names of the operator's.
    pub zones: BTreeMap<Endpoint, String>,
    /// Where this process is: servers of the same zone answer as long as one of them can.
    pub zone: Option<String>,
}

/// What a read must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// What its session wrote and saw before.
    Session,
    /// Besides, what any session of this process wrote to the database before.
    Global,
    /// Nothing more than `max_lag` says.
    Bounded,
    /// Nothing: any replica that answers will do.
    Off,
}

/// Who among several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    LeastConnections,
    Random,
    /// The same client address goes to the same server.
    SourceHash,
    /// The quicker of two that are drawn.
    Latency,
}

/// When reads that replicas could answer go to the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrimaryReads {
    /// Not even when all replicas are out.
    Never,
    WhenOut,
    /// It takes turns with them.
    Always,
}

impl Default for ReadSettings {
    /// No split: another session's write may reach a replica later than the primary, and an
    /// application has to agree to that.
    fn default() -> Self {
        Self {
            split: false,
            freshness: Freshness::Session,
            max_lag: Duration::from_secs(1),
            max_wait: Duration::ZERO,
            poll_interval: Duration::from_millis(50),
            balance: Balance::RoundRobin,
            primary: PrimaryReads::WhenOut,
            return_after: 3,
            retry: true,
            slow_start: Duration::from_secs(1),
            blind: Duration::from_secs(1),
            eject: Duration::from_secs(5),
            outlier_factor: 4,
            outlier_latency: Duration::from_millis(20),
            outlier_failures: 5,
            causal_ttl: Duration::from_secs(60),
            weights: BTreeMap::new(),
            zones: BTreeMap::new(),
            zone: None,
        }
    }
}

impl ReadSettings {
    pub fn weight(&self, endpoint: &Endpoint) -> u32 {
        self.weights.get(endpoint).copied().unwrap_or(1)
    }

    /// Whether a server is where this process is, or that does not matter.
    pub fn is_near(&self, endpoint: &Endpoint) -> bool {
        self.zone
            .as_ref()
            .is_none_or(|zone| self.zones.get(endpoint) == Some(zone))
    }

    /// Whether a session's reads depend on what it did before.
    pub fn keeps_marks(&self) -> bool {
        self.split
            && match self.freshness {
                Freshness::Session | Freshness::Global => true,
                Freshness::Bounded | Freshness::Off => false,
            }
    }
}

const FRESHNESS: [(&str, Freshness); 4] = [
    ("session", Freshness::Session),
    ("global", Freshness::Global),
    ("bounded", Freshness::Bounded),
    ("off", Freshness::Off),
];
const BALANCE: [(&str, Balance); 5] = [
    ("round_robin", Balance::RoundRobin),
    ("least_connections", Balance::LeastConnections),
    ("random", Balance::Random),
    ("source_hash", Balance::SourceHash),
    ("latency", Balance::Latency),
];
const PRIMARY: [(&str, PrimaryReads); 3] = [
    ("never", PrimaryReads::Never),
    ("when_out", PrimaryReads::WhenOut),
    ("always", PrimaryReads::Always),
];
const WEIGHTS: RangeInclusive<i64> = 0..=1_000;

impl Freshness {
    pub fn name(self) -> &'static str {
        name(self, &FRESHNESS)
    }
}

impl Balance {
    pub fn name(self) -> &'static str {
        name(self, &BALANCE)
    }
}

impl PrimaryReads {
    pub fn name(self) -> &'static str {
        name(self, &PRIMARY)
    }
}

fn name<T: PartialEq>(value: T, names: &[(&'static str, T)]) -> &'static str {
    let found = names.iter().find(|(_, other)| *other == value);
    found.map_or("?", |(name, _)| name)
}

pub(super) fn read(section: &Section<'_>) -> ReadSettings {
    let default = ReadSettings::default();
    ReadSettings {
        split: section.boolean("split").unwrap_or(default.split),
        freshness: section
            .choice("freshness", &FRESHNESS)
            .unwrap_or(default.freshness),
        max_lag: section.millis("max_lag_ms").unwrap_or(default.max_lag),
        max_wait: section
            .millis_or_zero("max_wait_ms")
            .unwrap_or(default.max_wait),
        poll_interval: section
            .millis("poll_interval_ms")
            .unwrap_or(default.poll_interval),
        balance: section
            .choice("balance", &BALANCE)
            .unwrap_or(default.balance),
        primary: section
            .choice("primary_reads", &PRIMARY)
            .unwrap_or(default.primary),
        return_after: section
            .integer("return_after", 1..=100)
            .unwrap_or(default.return_after),
        retry: section.boolean("retry").unwrap_or(default.retry),
        slow_start: section
            .millis_or_zero("slow_start_ms")
            .unwrap_or(default.slow_start),
        blind: section.millis("blind_ms").unwrap_or(default.blind),
        eject: section.millis_or_zero("eject_ms").unwrap_or(default.eject),
        outlier_factor: section
            .integer("outlier_factor", 2..=1000)
            .unwrap_or(default.outlier_factor),
        outlier_latency: section
            .millis("outlier_latency_ms")
            .unwrap_or(default.outlier_latency),
        outlier_failures: section
            .integer("outlier_failures", 1..=100_000)
            .unwrap_or(default.outlier_failures),
        causal_ttl: section
            .millis("causal_ttl_ms")
            .unwrap_or(default.causal_ttl),
        weights: by_server(section, "weights", "a weight from 0 to 1000", |value| {
            let weight: i64 = match value {
                DeValue::Integer(number) => number.as_str().parse().ok()?,
                _ => return None,
            };
            WEIGHTS.contains(&weight).then_some(weight as u32)
        }),
        zones: by_server(
            section,
            "zones",
            "the name of a zone",
            |value| match value {
                DeValue::String(zone) => Some(zone.to_string()),
                _ => None,
            },
        ),
        zone: section.string("zone").map(str::to_owned),
    }
}

/// A table of servers, `{ "10.0.0.1:5432" = … }`.
fn by_server<T>(
    section: &Section<'_>,
    key: &'static str,
    wanted: &str,
    read: impl Fn(&DeValue<'_>) -> Option<T>,
) -> BTreeMap<Endpoint, T> {
    let mut found = BTreeMap::new();
    for entry in section.entries(key).unwrap_or_default() {
        let mistake = |what: String, remedy: String| {
            section.mistakes().add(&entry.place, what, remedy);
        };
        match (endpoint(entry.name), read(entry.value)) {
            (Ok(server), Some(value)) => {
                found.insert(server, value);
            }
            (Err(what), _) => mistake(
                format!("\"{}\" {what}", entry.name),
                "write the server as in servers".to_owned(),
            ),
            (Ok(_), None) => mistake("not possible here".to_owned(), format!("write {wanted}")),
        }
    }
    found
}

/// Tells of weights and zones of servers that are not there.
pub(super) fn check_servers(section: &Section<'_>, reads: &ReadSettings, known: &[&Endpoint]) {
    let named = reads.weights.keys().map(|server| ("weights", server));
    let placed = reads.zones.keys().map(|server| ("zones", server));
    for (key, server) in named.chain(placed) {
        if !known.contains(&server) {
            let what = format!("{server} is not a server of this database");
            section.mistake(key, what, "write the server as in servers");
        }
    }
}
