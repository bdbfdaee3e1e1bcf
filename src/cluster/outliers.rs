//! Replicas that answer, and are worse than their siblings: slower by far, or failing. Pure: what was
//! counted and the time are arguments.
//!
//! Compared are servers with each other, never with a fixed bar: a dear statement is dear everywhere. What
//! counts is measured on a server connection, so a wait in our own queue is nobody's fault here.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::config::ReadSettings;
use crate::net::Instant;

/// What was counted of one server since it was last looked at.
#[derive(Debug, Default)]
pub struct Tally {
    reads: AtomicU32,
    micros: AtomicU64,
    failures: AtomicU32,
}

impl Tally {
    /// A read took this long on its server connection.
    pub fn took(&self, micros: u32) {
        self.reads.fetch_add(1, Relaxed);
        self.micros.fetch_add(u64::from(micros), Relaxed);
    }

    /// A connection was lost amid a read, or the server had an error of its own.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// What was counted since the last time. Reads are kept until there are enough of them: of a server
    /// that is slow there are few.
    pub fn take(&self) -> Window {
        let failures = self.failures.swap(0, Relaxed);
        if self.reads.load(Relaxed) < ENOUGH {
            return Window {
                mean: None,
                failures,
            };
        }
        let reads = self.reads.swap(0, Relaxed);
        let micros = self.micros.swap(0, Relaxed);
        Window {
            mean: Some(Duration::from_micros(micros / u64::from(reads.max(1)))),
            failures,
        }
    }
}

/// What one window says of one server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// Of the time of a read; `None` when there were too few.
    pub mean: Option<Duration>,
    pub failures: u32,
}

/// Fewer reads say nothing.
const ENOUGH: u32 = 5;
/// How long a window is.
pub const WINDOW: Duration = Duration::from_secs(1);
/// No server is ejected for longer.
const LONGEST: Duration = Duration::from_secs(60);
/// After that long in the rotation the next ejection is as short as the first.
const FORGIVEN: Duration = Duration::from_secs(120);

/// What makes an outlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The first ejection; each that follows soon is twice as long.
    pub ejection: Duration,
    /// Times the median of its siblings.
    pub factor: u32,
    /// A server that is quicker is none, whatever its siblings are.
    pub latency: Duration,
    /// A server that fails less often is none. Failures fade: half of them count in the next window.
    pub failures: u32,
}

impl Limits {
    /// `None`: nobody is ejected.
    pub fn of(reads: &ReadSettings) -> Option<Self> {
        let limits = Self {
            ejection: reads.eject,
            factor: reads.outlier_factor,
            latency: reads.outlier_latency,
            failures: reads.outlier_failures,
        };
        (!reads.eject.is_zero()).then_some(limits)
    }
}

/// What is known of one server over the windows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Conduct {
    latency: Option<Duration>,
    failures: f64,
    ejected: Option<Ejection>,
}

/// The last ejection of a server.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ejection {
    until: Instant,
    length: Duration,
}

impl Conduct {
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.ejected.is_some_and(|ejection| now < ejection.until)
    }

    fn add(&mut self, window: Window) {
        self.latency = match (self.latency, window.mean) {
            (Some(before), Some(mean)) => Some((before + mean) / 2),
            (before, mean) => mean.or(before),
        };
        self.failures = self.failures / 2.0 + f64::from(window.failures);
    }

    fn eject(&mut self, now: Instant, limits: &Limits) {
        let length = match self.ejected {
            Some(last) if now < last.until + FORGIVEN => (last.length * 2).min(LONGEST),
            Some(_) | None => limits.ejection,
        };
        // What it was before its return says nothing of what it is then.
        *self = Self {
            ejected: Some(Ejection {
                until: now + length,
                length,
            }),
            ..Self::default()
        };
    }
}

/// Takes in a window of each server and ejects who is an outlier; `replicas` says who answers reads now,
/// but for those ejected. At most half of the replicas are out at once, and one always stays.
pub fn weigh(
    conducts: &mut [Conduct],
    windows: &[Window],
    replicas: &[bool],
    now: Instant,
    limits: &Limits,
) {
    for (conduct, window) in conducts.iter_mut().zip(windows) {
        conduct.add(*window);
    }
    let out = conducts.iter().filter(|one| one.is_ejected(now)).count();
    let serving: Vec<usize> = (0..conducts.len())
        .filter(|at| replicas.get(*at) == Some(&true) && !conducts[*at].is_ejected(now))
        .collect();
    let mut room = ((serving.len() + out) / 2)
        .saturating_sub(out)
        .min(serving.len().saturating_sub(1));
    let mut worst: Vec<(usize, f64)> = serving
        .iter()
        .filter_map(|at| Some((*at, excess(conducts, &serving, *at, limits)?)))
        .collect();
    worst.sort_by(|one, other| other.1.total_cmp(&one.1));
    for (at, _) in worst {
        if room == 0 {
            break;
        }
        conducts[at].eject(now, limits);
        room -= 1;
    }
}

/// By how much a server is worse than it may be; `None` when it is not.
fn excess(conducts: &[Conduct], serving: &[usize], at: usize, limits: &Limits) -> Option<f64> {
    let siblings = || serving.iter().filter(move |other| **other != at);
    let own = conducts[at];
    let factor = f64::from(limits.factor);
    let slow = own.latency.and_then(|latency| {
        let others = siblings().filter_map(|other| conducts[*other].latency);
        let usual = median(others.map(|latency| latency.as_secs_f64()).collect())?;
        let bar = (usual * factor).max(limits.latency.as_secs_f64());
        (latency.as_secs_f64() > bar).then(|| latency.as_secs_f64() / bar)
    });
    let usual = median(siblings().map(|other| conducts[*other].failures).collect())?;
    let bar = (usual * factor).max(f64::from(limits.failures) - 0.5);
    let failing = (own.failures > bar).then(|| own.failures / bar);
    match (slow, failing) {
        (Some(slow), Some(failing)) => Some(slow.max(failing)),
        (slow, failing) => slow.or(failing),
    }
}

/// Of an even number the lower of the two in the middle; `None` of nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        ejection: Duration::from_secs(5),
        factor: 4,
        latency: Duration::from_millis(20),
        failures: 5,
    };

    const NOBODY: [usize; 0] = [];

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// (mean milliseconds, failures) of each server; the first is the primary.
    fn windows(of: &[(u64, u32)]) -> Vec<Window> {
        let window = |(mean, failures): &(u64, u32)| Window {
            mean: Some(ms(*mean)),
            failures: *failures,
        };
        of.iter().map(window).collect()
    }

    /// Which servers are out after one window.
    fn ejected(of: &[(u64, u32)]) -> Vec<usize> {
        let now = Instant::now();
        let mut conducts = vec![Conduct::default(); of.len()];
        let mut replicas = vec![true; of.len()];
        replicas[0] = false;
        weigh(&mut conducts, &windows(of), &replicas, now, &LIMITS);
        (0..of.len())
            .filter(|at| conducts[*at].is_ejected(now))
            .collect()
    }

    #[test]
    fn far_slower_than_the_others_is_out() {
        assert_eq!(ejected(&[(900, 0), (5, 0), (6, 0), (25, 0)]), [3]);
        assert_eq!(
            ejected(&[(1, 0), (5, 0), (6, 0), (19, 0)]),
            NOBODY,
            "quick enough"
        );
        assert_eq!(
            ejected(&[(1, 0), (50, 0), (60, 0), (190, 0)]),
            NOBODY,
            "all are slow"
        );
        assert_eq!(ejected(&[(1, 0), (5, 0), (100, 0)]), [2], "of two");
    }

    #[test]
    fn far_more_failures_than_the_others_is_out() {
        assert_eq!(ejected(&[(1, 0), (1, 0), (1, 0), (1, 5)]), [3]);
        assert_eq!(ejected(&[(1, 0), (1, 0), (1, 0), (1, 4)]), NOBODY, "few");
        assert_eq!(
            ejected(&[(1, 0), (1, 9), (1, 8), (1, 20)]),
            NOBODY,
            "all fail"
        );
        assert_eq!(
            ejected(&[(1, 90), (1, 0), (1, 0)]),
            NOBODY,
            "the primary is not judged"
        );
    }

    #[test]
    fn at_most_half_are_out_and_never_the_last() {
        assert_eq!(ejected(&[(1, 0), (1, 99)]), NOBODY, "the only one");
        let out = ejected(&[(1, 0), (1, 0), (1, 0), (1, 0), (1, 30), (1, 20), (1, 10)]);
        assert_eq!(out, [4, 5, 6]);
        let out = ejected(&[(1, 0), (1, 0), (1, 0), (1, 0), (1, 30), (1, 20)]);
        assert_eq!(out, [4, 5]);
        // Of three one may be out.
        let (now, replicas) = (Instant::now(), [false, true, true, true]);
        let mut conducts = vec![Conduct::default(); 4];
        for (at, of) in [[0, 0, 0, 9], [0, 0, 9, 0]].into_iter().enumerate() {
            let of: Vec<_> = of.iter().map(|failures| (1, *failures)).collect();
            weigh(&mut conducts, &windows(&of), &replicas, now, &LIMITS);
            let out = conducts.iter().filter(|one| one.is_ejected(now)).count();
            assert_eq!(out, 1, "window {at}");
        }
    }

    #[test]
    fn each_ejection_is_longer_until_it_was_good_for_a_while() {
        let start = Instant::now();
        let mut conduct = Conduct::default();
        let mut now = start;
        let mut lengths = Vec::new();
        for _ in 0..6 {
            conduct.eject(now, &LIMITS);
            let length = conduct.ejected.map(|ejection| ejection.length);
            lengths.push(length.unwrap_or_default().as_secs());
            now += Duration::from_secs(61);
            assert!(!conduct.is_ejected(now));
        }
        assert_eq!(lengths, [5, 10, 20, 40, 60, 60]);
        conduct.eject(now + FORGIVEN, &LIMITS);
        let length = conduct.ejected.map(|ejection| ejection.length);
        assert_eq!(length, Some(LIMITS.ejection));
    }

    #[test]
    fn few_reads_say_nothing_and_one_bad_second_little() {
        let tally = Tally::default();
        tally.took(900_000);
        assert_eq!(tally.take(), Window::default());
        (0..4).for_each(|_| tally.took(25_000));
        assert_eq!(
            tally.take().mean,
            Some(ms(200)),
            "the first is not forgotten"
        );
        assert_eq!(tally.take().mean, None);
        // A window between two is not forgotten at once.
        let mut conduct = Conduct::default();
        for mean in [10, 10, 100] {
            conduct.add(Window {
                mean: Some(ms(mean)),
                failures: 0,
            });
        }
        assert_eq!(conduct.latency, Some(ms(55)));
    }
}
