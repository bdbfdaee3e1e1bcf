//! What Ringway may cost, and whether it does.

use serde::Serialize;

use crate::idle::IdleMemory;
use crate::measure::{CROWD, Case, Sample, Samples, ratio};
use crate::options::{Mode, Options};
use crate::peers::Peer;

/// Resident memory with [`IDLE_CLIENTS`] that do nothing, in MB.
const IDLE_LIMIT_MB: f64 = 50.0;
const IDLE_CLIENTS: u32 = 5_000;

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
pub fn judge(options: &Options, samples: &Samples, idle: &[IdleMemory]) -> Vec<Target> {
    let mut targets = Vec::new();
    for (peer, base, limits) in [
        (Peer::Ringway, Peer::Forwarder, [1.25, 1.25, 1.4]),
        (Peer::Ringway, Peer::Pgbouncer, [0.9, 0.9, 0.9]),
        (Peer::RingwaySplit, Peer::Ringway, [1.25; 3]),
        (Peer::RingwaySharded, Peer::Ringway, [1.25; 3]),
    ] {
        for &mode in &options.modes {
            if base == Peer::Pgbouncer && mode == Mode::Prepared {
                continue;
            }
            for &clients in &options.clients {
                let case = Case { mode, clients };
                targets.push(Target {
                    what: format!("CPU, {} ÷ {}", peer.name(), base.name()),
                    case: Some(case),
                    value: ratio(samples, (case, peer), (case, base), |s| s.cpu_us),
                    limit: Limit::AtMost(limits[mode as usize]),
                });
            }
        }
    }
    targets.push(crowd(samples));
    targets.extend(
        idle.iter()
            .filter(|idle| idle.peer == Peer::Ringway)
            .map(memory),
    );
    targets
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
            "throughput on 4 server connections ÷ with {} clients",
            few.clients
        ),
        case: Some(many),
        value: ratio(samples, (many, peer), (few, peer), tps),
        limit: Limit::AtLeast(1.0),
    }
}

fn memory(idle: &IdleMemory) -> Target {
    Target {
        what: format!("MB resident with {} idle clients", idle.clients),
        case: None,
        value: (idle.clients >= IDLE_CLIENTS).then(|| idle.connected as f64 / 1e6),
        limit: Limit::AtMost(IDLE_LIMIT_MB),
    }
}
