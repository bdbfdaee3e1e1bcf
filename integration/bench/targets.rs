//! What Ringway may cost, and whether it does.

use serde::Serialize;

use crate::commits;
use crate::freshness::{self, Round};
use crate::idle::IdleMemory;
use crate::measure::{CROWD, Case, FIRSTS_CLIENTS, Sample, Samples, figure, median, ratio};
use crate::options::{Mode, Options};
use crate::peers::Peer;
use crate::sorted::{ROWS, Sorted};
use crate::tables::{FirstAnswer, TABLES};
use crate::work::{self, Work, Works};

/// Resident memory with [`IDLE_CLIENTS`] that do nothing, in MB.
const IDLE_LIMIT_MB: f64 = 50.0;
const IDLE_CLIENTS: u32 = 5_000;

/// Throughput with many clients on few server connections must not drop; a drop by less than this
/// cannot be told from noise.
const CROWDED_LEAST: f64 = 0.9;

/// CPU that a megabyte of rows may take, in ms, and in that of the forwarder: it took 0.58 ms where
/// the first was set, and other machines are not as fast.
const BULK_LIMIT_MS: f64 = 0.8;
const BULK_LIMIT: f64 = 1.38;
/// CPU that a login with SCRAM may take, in µs, and in simple transactions of 16 clients through the
/// forwarder: one took 11.2 µs where the first was set.
const LOGIN_LIMIT_US: f64 = 250.0;
const LOGIN_LIMIT: f64 = 22.3;
const LOGIN_CASE: Case = Case {
    mode: Mode::Simple,
    clients: 16,
};

/// What freshness may add to the p50 of a write, in µs.
const ADDED_LIMIT_US: f64 = 50.0;
/// A server is asked for its position every 5 ms at most, and there are a primary and a replica.
const SAMPLES_LIMIT: f64 = 2.0 * 200.0;

/// Resident memory while [`ROWS`] stream in order, in MB.
const SORTED_LIMIT_MB: f64 = 64.0;
/// Seconds from the start to an answer with a catalog of [`TABLES`].
const CATALOG_LIMIT_S: f64 = 2.0;

/// A transaction on two shards to the same on one: Vitess publishes 2.19 for its own.
const TWO_SHARDS: f64 = 1.8;

#[derive(Debug, Serialize)]
pub struct Target {
    pub what: String,
    pub case: Option<Case>,
    /// `None` when a run failed or was not asked for.
    pub value: Option<f64>,
    pub limit: Limit,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Met,
    Missed,
    Unmeasured,
}

impl Target {
    pub fn verdict(&self) -> Verdict {
        let met = match (self.value, self.limit) {
            (None, _) => return Verdict::Unmeasured,
            (Some(value), Limit::AtMost(limit)) => value <= limit,
            (Some(value), Limit::AtLeast(limit)) => value >= limit,
        };
        if met { Verdict::Met } else { Verdict::Missed }
    }
}

/// Every target that these results say something about.
pub fn judge(
    options: &Options,
    samples: &Samples,
    works: &Works,
    rounds: &[Round],
    idle: &[IdleMemory],
) -> Vec<Target> {
    let mut targets = Vec::new();
    for (peer, base) in [
        (Peer::Ringway, Peer::Forwarder),
        (Peer::Ringway, Peer::Pgbouncer),
        (Peer::RingwaySplit, Peer::Ringway),
        (Peer::RingwaySharded, Peer::Ringway),
    ] {
        for &mode in &options.modes {
            let Some(limit) = cpu_limit(base, mode) else {
                continue;
            };
            for &clients in &options.clients {
                let case = Case { mode, clients };
                targets.push(Target {
                    what: format!("CPU, {} ÷ {}", peer.name(), base.name()),
                    case: Some(case),
                    value: ratio(samples, (case, peer), (case, base), |s| s.cpu_us),
                    limit: Limit::AtMost(limit),
                });
            }
        }
    }
    targets.push(crowd(samples));
    for of in [Work::Select, Work::CopyOut, Work::CopyIn] {
        let [own, base] = [Peer::Ringway, Peer::Forwarder].map(|peer| work::cpu(works, of, peer));
        targets.push(Target {
            what: format!("CPU ms per MB, {}", of.name()),
            case: None,
            value: own.map(|own| own * 1e3),
            limit: Limit::AtMost(BULK_LIMIT_MS),
        });
        targets.push(Target {
            what: format!("CPU per MB, Ringway ÷ forwarder, {}", of.name()),
            case: None,
            value: own.zip(base).map(|(own, base)| own / base),
            limit: Limit::AtMost(BULK_LIMIT),
        });
    }
    let login = work::cpu(works, Work::LoginScram, Peer::RingwaySecure).map(|cpu| cpu * 1e6);
    targets.push(Target {
        what: format!("CPU µs per login, {}", Work::LoginScram.name()),
        case: None,
        value: login,
        limit: Limit::AtMost(LOGIN_LIMIT_US),
    });
    let forwarded = figure(samples, LOGIN_CASE, Peer::Forwarder, |s| s.cpu_us);
    targets.push(Target {
        what: format!(
            "CPU per login, in forwarded transactions, {}",
            Work::LoginScram.name()
        ),
        case: None,
        value: login
            .zip(forwarded)
            .map(|(login, forwarded)| login / forwarded),
        limit: Limit::AtMost(LOGIN_LIMIT),
    });
    targets.extend(freshness(rounds));
    targets.extend(
        idle.iter()
            .filter(|idle| idle.peer == Peer::Ringway)
            .map(memory),
    );
    targets
}

/// How many times the CPU of one server's first rows those of 2 and 4 shards may take: somewhat more
/// than they took where this was set.
const FIRSTS_LIMITS: [(Peer, f64); 2] = [(Peer::RingwaySharded, 2.5), (Peer::RingwayFour, 4.5)];

/// What concerns several shards.
pub fn merges(options: &Options, firsts: &Samples, sorted: &[Sorted]) -> Vec<Target> {
    let mut targets = Vec::new();
    for (peer, limit) in FIRSTS_LIMITS {
        for &mode in &options.modes {
            let case = Case {
                mode,
                clients: FIRSTS_CLIENTS,
            };
            let base = Peer::Ringway;
            targets.push(Target {
                what: format!("CPU, first 20 rows, {} ÷ {}", peer.name(), base.name()),
                case: Some(case),
                value: ratio(firsts, (case, peer), (case, base), |s| s.cpu_us),
                limit: Limit::AtMost(limit),
            });
        }
    }
    let peak = sorted.iter().filter_map(|sorted| sorted.peak).max();
    targets.push(Target {
        what: format!("MB resident at most, {ROWS} rows in order"),
        case: None,
        value: peak.map(|bytes| bytes as f64 / 1e6),
        limit: Limit::AtMost(SORTED_LIMIT_MB),
    });
    targets
}

pub fn catalog(starts: &[FirstAnswer]) -> Target {
    Target {
        what: format!("s to the first answer with {TABLES} tables"),
        case: None,
        value: median(starts.iter().map(|start| start.elapsed.as_secs_f64())),
        limit: Limit::AtMost(CATALOG_LIMIT_S),
    }
}

/// How many times the CPU of `base` a transaction may take; `None` where nothing is asked.
fn cpu_limit(base: Peer, mode: Mode) -> Option<f64> {
    match (base, mode) {
        (Peer::Forwarder, Mode::Simple | Mode::Extended) => Some(1.25),
        (Peer::Forwarder, Mode::Prepared) => Some(1.4),
        (Peer::Pgbouncer, Mode::Simple | Mode::Extended) => Some(0.9),
        (Peer::Pgbouncer, Mode::Prepared) => None,
        (Peer::Ringway, Mode::Simple | Mode::Extended | Mode::Prepared) => Some(1.25),
        (
            Peer::Direct
            | Peer::RingwaySplit
            | Peer::RingwayStale
            | Peer::RingwaySharded
            | Peer::RingwayFour
            | Peer::RingwayTables
            | Peer::RingwayReuse
            | Peer::PgbouncerCrowded
            | Peer::RingwayCrowded
            | Peer::PgbouncerSecure
            | Peer::RingwaySecure,
            _,
        ) => None,
    }
}

fn crowd(samples: &Samples) -> Target {
    let [few, many] = CROWD.map(|clients| Case {
        mode: Mode::Simple,
        clients,
    });
    let peer = Peer::RingwayCrowded;
    let tps = |sample: &Sample| Some(sample.tps);
    Target {
        what: format!(
            "throughput on {} server connections ÷ with {} clients",
            CROWD[0], few.clients
        ),
        case: Some(many),
        value: ratio(samples, (many, peer), (few, peer), tps),
        limit: Limit::AtLeast(CROWDED_LEAST),
    }
}

fn freshness(rounds: &[Round]) -> [Target; 3] {
    let target = |what: String, value, limit| Target {
        what,
        case: None,
        value,
        limit: Limit::AtMost(limit),
    };
    let added = |clients: u32, value| {
        let what = format!("µs of freshness in a write's p50, {clients} clients");
        target(what, value, ADDED_LIMIT_US)
    };
    let samples = median(rounds.iter().map(|round| round.samples_per_second));
    [
        added(1, freshness::added(rounds, |round| round.alone)),
        added(
            freshness::CLIENTS,
            freshness::added(rounds, |round| round.crowded),
        ),
        target(
            "positions asked for per second, 2 servers".to_owned(),
            samples,
            SAMPLES_LIMIT,
        ),
    ]
}

pub fn commits(rounds: &[commits::Round]) -> Option<Target> {
    (!rounds.is_empty()).then(|| Target {
        what: "p50 of 4 writes and COMMIT, on 2 shards ÷ on 1".to_owned(),
        case: None,
        value: commits::two_to_one(rounds, |round| round.transaction),
        limit: Limit::AtMost(TWO_SHARDS),
    })
}

fn memory(idle: &IdleMemory) -> Target {
    Target {
        what: format!("MB resident with {} idle clients", idle.clients),
        case: None,
        value: (idle.clients >= IDLE_CLIENTS).then(|| idle.queried as f64 / 1e6),
        limit: Limit::AtMost(IDLE_LIMIT_MB),
    }
}
