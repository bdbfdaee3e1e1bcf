//! Which runs there are, and what each measures.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::Failure;
use crate::load::Load;
use crate::options::{Mode, Options, Part};
use crate::peers::{Peer, Running, Servers};

/// What the peers are compared in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Case {
    pub mode: Mode,
    pub clients: u32,
}

/// One run of pgbench through one peer.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sample {
    pub tps: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// The proxy's CPU time per transaction, user and system; `None` without a proxy.
    pub cpu_us: Option<f64>,
    /// The part of it outside the kernel.
    pub user_us: Option<f64>,
    /// CPU time of all PostgreSQL processes per transaction.
    pub server_us: f64,
}

/// A sample per round, or why there is none.
pub type Samples = BTreeMap<(Case, Peer), Vec<Result<Sample, String>>>;

/// On 20 server connections: as many clients as fit, and as many as crowd.
pub const CROWD: [u32; 2] = [20, 1_000];

/// How many clients ask at once for the first rows.
pub const FIRSTS_CLIENTS: u32 = 16;

/// The cases of the first rows of a table that is spread.
pub fn firsts(options: &Options) -> Vec<(Case, Vec<Peer>)> {
    let modes = options.modes.iter().filter(|_| options.does(Part::Merge));
    let case = |mode: &Mode| {
        let case = Case {
            mode: *mode,
            clients: FIRSTS_CLIENTS,
        };
        let peers = [
            Peer::Direct,
            Peer::Ringway,
            Peer::RingwaySharded,
            Peer::RingwayFour,
        ];
        (case, peers.to_vec())
    };
    modes.map(case).collect()
}

/// The cases with the peers that take part in each.
pub fn cases(options: &Options) -> Vec<(Case, Vec<Peer>)> {
    let mut cases = Vec::new();
    for &mode in &options.modes {
        for &clients in options
            .clients
            .iter()
            .filter(|_| options.does(Part::Queries))
        {
            cases.push((Case { mode, clients }, peers(mode)));
        }
    }
    for clients in CROWD.into_iter().filter(|_| options.does(Part::Crowd)) {
        let mode = Mode::Simple;
        let peers = vec![Peer::PgbouncerCrowded, Peer::RingwayCrowded];
        cases.push((Case { mode, clients }, peers));
    }
    cases
}

fn peers(mode: Mode) -> Vec<Peer> {
    let mut peers = vec![Peer::Direct, Peer::Forwarder];
    match mode {
        Mode::Simple | Mode::Extended => peers.push(Peer::Pgbouncer),
        // Debian 12's PgBouncer 1.18 has no prepared statements in transaction pooling.
        Mode::Prepared => (),
    }
    peers.extend([Peer::Ringway, Peer::RingwaySplit, Peer::RingwaySharded]);
    match mode {
        Mode::Extended => peers.push(Peer::RingwayReuse),
        Mode::Simple | Mode::Prepared => (),
    }
    peers
}

/// All rounds. Within a case the peers take turns, in reverse in every other round, so that a
/// machine that slows down or speeds up favours nobody.
pub fn all(
    (rounds, cases): (u32, &[(Case, Vec<Peer>)]),
    servers: &Servers,
    running: &[Running],
    load: &Load<'_>,
    mut progress: impl FnMut(&str),
) -> Samples {
    let mut samples = Samples::new();
    for round in 0..rounds {
        for (case, peers) in cases {
            let Case { mode, clients } = *case;
            let mode_name = mode.name();
            let round_name = format!("round {}/{rounds}", round + 1);
            progress(&format!("{round_name}: {mode_name}, {clients}"));
            let mut turns = peers.clone();
            if round % 2 == 1 {
                turns.reverse();
            }
            for peer in turns {
                let sample =
                    one(servers, running, peer, *case, load).map_err(|error| error.to_string());
                samples.entry((*case, peer)).or_default().push(sample);
            }
        }
    }
    samples
}

fn one(
    servers: &Servers,
    running: &[Running],
    peer: Peer,
    case: Case,
    load: &Load<'_>,
) -> Result<Sample, Failure> {
    let running = running
        .iter()
        .find(|running| running.peer == peer)
        .ok_or("was not started")?;
    let server_before = servers.cpu_time()?;
    let before = running.cpu_time()?;
    let outcome = load.run(running.port, case.mode, case.clients)?;
    let after = running.cpu_time()?;
    let server = servers.cpu_time()?.saturating_sub(server_before);
    let cpu = before.zip(after).map(|(before, after)| after - before);
    let per_transaction = |time: Duration| time.as_secs_f64() * 1e6 / outcome.transactions as f64;
    Ok(Sample {
        tps: outcome.tps,
        p50_us: outcome.p50_us,
        p99_us: outcome.p99_us,
        cpu_us: cpu.map(|cpu| per_transaction(cpu.total)),
        user_us: cpu.map(|cpu| per_transaction(cpu.user)),
        server_us: per_transaction(server),
    })
}

/// The middle of a figure over the rounds that have it.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        return Some(values[middle]);
    }
    let below = values.get(middle.checked_sub(1)?)?;
    Some((below + values[middle]) / 2.0)
}

/// The median of a figure over the rounds of one peer.
pub fn figure(
    samples: &Samples,
    case: Case,
    peer: Peer,
    of: impl Fn(&Sample) -> Option<f64>,
) -> Option<f64> {
    let rounds = samples.get(&(case, peer))?;
    median(rounds.iter().flatten().filter_map(of))
}

/// The median over the rounds of a figure divided by the same figure of another run in the same
/// round: what slows the machine in one round does not count.
pub fn ratio(
    samples: &Samples,
    (case, peer): (Case, Peer),
    (base_case, base_peer): (Case, Peer),
    of: impl Fn(&Sample) -> Option<f64>,
) -> Option<f64> {
    let ours = samples.get(&(case, peer))?;
    let base = samples.get(&(base_case, base_peer))?;
    let ratios = ours.iter().zip(base).filter_map(|pair| match pair {
        (Ok(ours), Ok(base)) => Some(of(ours)? / of(base)?),
        (Err(_), _) | (_, Err(_)) => None,
    });
    median(ratios)
}
