//! The results as a table for people and as JSON for programs.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::commits;
use crate::freshness::Round;
use crate::idle::IdleMemory;
use crate::measure::{Case, Sample, Samples, figure, ratio};
use crate::options::Options;
use crate::peers::Peer;
use crate::sorted::{ROWS, Sorted};
use crate::tables::{FirstAnswer, TABLES};
use crate::targets::{Limit, Target};
use crate::work::{self, Works};

/// Everything that was measured.
pub struct Report<'a> {
    pub options: &'a Options,
    /// Names of what was measured with their versions.
    pub versions: Vec<String>,
    pub samples: Samples,
    /// Of the first rows of a table that is spread.
    pub firsts: Samples,
    pub works: Works,
    pub freshness: Vec<Round>,
    pub commits: Vec<commits::Round>,
    pub sorted: Vec<Sorted>,
    pub tables: Vec<FirstAnswer>,
    pub idle: Vec<IdleMemory>,
    pub targets: Vec<Target>,
}

impl Report<'_> {
    pub fn text(&self) -> String {
        let mut text = self.head();
        runs(&mut text, "pgbench -S", &self.samples);
        runs(&mut text, "the first 20 rows from a key on", &self.firsts);
        self.works(&mut text);
        self.freshness(&mut text);
        self.commits(&mut text);
        self.spread(&mut text);
        self.memory(&mut text);
        self.verdicts(&mut text);
        text
    }

    pub fn json(&self) -> Value {
        let runs = |samples: &Samples| -> Vec<Value> {
            let keys = samples.keys();
            keys.map(|(case, peer)| row(samples, *case, *peer))
                .collect()
        };
        let targets: Vec<Value> = self
            .targets
            .iter()
            .map(|target| {
                let mut value = json!(target);
                value["verdict"] = json!(target.verdict());
                value
            })
            .collect();
        json!({
            "versions": self.versions,
            "options": self.options,
            "rounds": self.options.rounds(),
            "seconds": self.options.seconds(),
            "runs": runs(&self.samples),
            "first_rows": runs(&self.firsts),
            "sorted": self.sorted,
            "tables": self.tables,
            "works": self.works_json(),
            "freshness": self.freshness,
            "commits": self.commits,
            "idle": self.idle,
            "targets": targets,
        })
    }

    fn head(&self) -> String {
        let rounds = self.options.rounds();
        let seconds = self.options.seconds();
        let versions = self.versions.join(" · ");
        format!(
            "{versions}\n\
             8 server connections unless named; medians of {rounds} rounds of \
             {seconds} s, ratios taken within a round\n\n"
        )
    }

    /// Large results, COPY and logins.
    fn works(&self, text: &mut String) {
        for (heading, logins) in [("\nbulk", false), ("\nlogins", true)] {
            let works = self
                .works
                .keys()
                .filter(|(work, _)| work.is_login() == logins);
            let mut works = works.peekable();
            if works.peek().is_none() {
                continue;
            }
            let (rate, cost, scale) = match logins {
                true => ("per s", "CPU µs", 1e6),
                false => ("MB/s", "CPU ms/MB", 1e3),
            };
            let _ = writeln!(text, "{heading:<14}{:<22}{rate:>8}{cost:>11}", "peer");
            for &(work, peer) in works {
                let _ = writeln!(
                    text,
                    "{:<13}{:<22}{:>8}{:>11}",
                    work.name(),
                    peer.name(),
                    number(work::rate(&self.works, work, peer), 0),
                    number(work::cpu(&self.works, work, peer).map(|c| c * scale), 2),
                );
            }
        }
        for ((work, peer), rounds) in &self.works {
            for error in rounds.iter().filter_map(|done| done.as_ref().err()) {
                let _ = writeln!(text, "failed: {}, {}: {error}", work.name(), peer.name());
            }
        }
    }

    fn works_json(&self) -> Vec<Value> {
        let all = self.works.iter();
        all.map(|((work, peer), rounds)| {
            json!({
                "work": work,
                "peer": peer,
                "per_second": work::rate(&self.works, *work, *peer),
                "cpu_seconds_each": work::cpu(&self.works, *work, *peer),
                "rounds": rounds,
            })
        })
        .collect()
    }

    /// Round by round: what is added is small beside what a round differs from the next by.
    fn freshness(&self, text: &mut String) {
        if self.freshness.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\n{:<22}{:>8}{:>8}{:>16}{:>8}{:>14}{:>14}",
            "p50 of a write, µs",
            "1 client",
            "off",
            "16 clients",
            "off",
            "writes per s",
            "asked per s"
        );
        for (at, round) in self.freshness.iter().enumerate() {
            let [alone, alone_off] = round.alone;
            let [crowded, crowded_off] = round.crowded;
            let _ = writeln!(
                text,
                "round {:<16}{alone:>8.0}{alone_off:>8.0}{crowded:>16.0}{crowded_off:>8.0}{:>14.0}{:>14.1}",
                at + 1,
                round.writes_per_second,
                round.samples_per_second
            );
        }
    }

    /// Round by round, on one, two and four shards.
    fn commits(&self, text: &mut String) {
        if self.commits.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\n{:<22}{:>8}{:>8}{:>8}{:>10}{:>8}{:>8}{:>16}{:>8}",
            "p50, 4 writes, µs",
            "1 shard",
            "2",
            "4",
            "COMMIT 1",
            "2",
            "4",
            "transfers per s",
            "mixed"
        );
        for (at, round) in self.commits.iter().enumerate() {
            let [one, two, four] = round.transaction;
            let [commit, of_two, of_four] = round.commit;
            let _ = writeln!(
                text,
                "round {:<16}{one:>8.0}{two:>8.0}{four:>8.0}{commit:>10.0}{of_two:>8.0}{of_four:>8.0}\
                 {:>16.0}{:>8.0}",
                at + 1,
                round.alone,
                round.mixed
            );
        }
    }

    /// What was asked of all shards but once, or of their catalog.
    fn spread(&self, text: &mut String) {
        let seconds = |time: Duration| time.as_secs_f64();
        for sorted in &self.sorted {
            let _ = writeln!(
                text,
                "{ROWS} rows in order, {}: {:.1} s, {} s of CPU, at most {} MB resident",
                sorted.peer.name(),
                seconds(sorted.elapsed),
                number(sorted.cpu.map(seconds), 1),
                number(sorted.peak.map(|bytes| bytes as f64 / 1e6), 1),
            );
        }
        for start in &self.tables {
            let _ = writeln!(
                text,
                "start to first answer with {TABLES} tables: {:.2} s, {:.1} MB resident",
                seconds(start.elapsed),
                start.resident as f64 / 1e6
            );
        }
    }

    fn memory(&self, text: &mut String) {
        if self.idle.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\n{:<18}{:>10}{:>13}{:>13}{:>15}{:>14}",
            "resident MB", "clients", "before", "connected", "queried once", "KiB/client"
        );
        for idle in &self.idle {
            let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
            let _ = writeln!(
                text,
                "{:<18}{:>10}{:>13}{:>13}{:>15}{:>14.1}",
                if idle.tls {
                    format!("{} + TLS", idle.peer.name())
                } else {
                    idle.peer.name().to_owned()
                },
                idle.clients,
                mb(idle.before),
                mb(idle.connected),
                mb(idle.queried),
                idle.kib_per_client()
            );
        }
    }

    fn verdicts(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\n{:<52}{:<9}{:>8}{:>9}{:>9}",
            "target", "mode", "clients", "is", "limit"
        );
        for target in &self.targets {
            let (sign, limit) = match target.limit {
                Limit::AtMost(limit) => ("≤", limit),
                Limit::AtLeast(limit) => ("≥", limit),
            };
            let (mode, clients) = target.case.map_or(("", String::new()), |case| {
                (case.mode.name(), case.clients.to_string())
            });
            let _ = writeln!(
                text,
                "{:<52}{mode:<9}{clients:>8}{:>9}{:>9}  {}",
                target.what,
                number(target.value, 2),
                format!("{sign} {limit}"),
                json!(target.verdict()).as_str().unwrap_or_default(),
            );
        }
    }
}

fn runs(text: &mut String, what: &str, samples: &Samples) {
    if samples.is_empty() {
        return;
    }
    let _ = writeln!(text, "{what}");
    let _ = writeln!(
        text,
        "{:<9}{:>8}  {:<22}{:>8}{:>13}{:>7}{:>11}{:>9}{:>11}{:>9}{:>10}{:>9}{:>9}",
        "mode",
        "clients",
        "peer",
        "CPU µs",
        "range",
        "user",
        "÷ forward",
        "÷ PgB",
        "servers' µs",
        "tps",
        "÷ direct",
        "p50 µs",
        "p99 µs"
    );
    let mut last = None;
    for (case, peer) in samples.keys().copied() {
        if last.replace(case).is_some_and(|last| last != case) {
            text.push('\n');
        }
        let of = |pick: fn(&Sample) -> Option<f64>| figure(samples, case, peer, pick);
        let to = |base, pick: fn(&Sample) -> Option<f64>| {
            ratio(samples, (case, peer), (case, base), pick)
        };
        let _ = writeln!(
            text,
            "{:<9}{:>8}  {:<22}{:>8}{:>13}{:>7}{:>11}{:>9}{:>11}{:>9}{:>10}{:>9}{:>9}",
            case.mode.name(),
            case.clients,
            peer.name(),
            number(of(|s| s.cpu_us), 1),
            range(samples, case, peer),
            number(of(|s| s.user_us), 1),
            number(to(Peer::Forwarder, |s| s.cpu_us), 2),
            number(to(Peer::Pgbouncer, |s| s.cpu_us), 2),
            number(of(|s| Some(s.server_us)), 1),
            number(of(|s| Some(s.tps)), 0),
            number(to(Peer::Direct, |s| Some(s.tps)), 2),
            number(of(|s| Some(s.p50_us)), 0),
            number(of(|s| Some(s.p99_us)), 0),
        );
    }
    failures(text, samples);
    text.push('\n');
}

/// The least and the most CPU that a round took, which tells how noisy the machine was.
fn range(samples: &Samples, case: Case, peer: Peer) -> String {
    let rounds = samples[&(case, peer)].iter().flatten();
    let cpu: Vec<f64> = rounds.filter_map(|sample| sample.cpu_us).collect();
    let least = cpu.iter().copied().reduce(f64::min);
    let most = cpu.iter().copied().reduce(f64::max);
    match least.zip(most) {
        Some((least, most)) => format!("{least:.1}–{most:.1}"),
        None => number(None, 1),
    }
}

fn failures(text: &mut String, samples: &Samples) {
    for ((case, peer), rounds) in samples {
        for (at, sample) in rounds.iter().enumerate() {
            let Err(error) = sample else { continue };
            let (mode, clients) = (case.mode.name(), case.clients);
            let (round, peer) = (at + 1, peer.name());
            let _ = writeln!(
                text,
                "failed: {mode}, {clients}, {peer}, round {round}: {error}"
            );
        }
    }
}

fn row(samples: &Samples, case: Case, peer: Peer) -> Value {
    let of = |pick: fn(&Sample) -> Option<f64>| figure(samples, case, peer, pick);
    let rounds = &samples[&(case, peer)];
    json!({
        "mode": case.mode,
        "clients": case.clients,
        "peer": peer,
        "cpu_us": of(|s| s.cpu_us),
        "user_us": of(|s| s.user_us),
        "server_us": of(|s| Some(s.server_us)),
        "tps": of(|s| Some(s.tps)),
        "tps_to_direct":
            ratio(samples, (case, peer), (case, Peer::Direct), |s| Some(s.tps)),
        "p50_us": of(|s| Some(s.p50_us)),
        "p99_us": of(|s| Some(s.p99_us)),
        "rounds": rounds,
    })
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
}
