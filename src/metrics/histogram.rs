//! A histogram of durations that costs one atomic addition: the exporter's own keep every sample
//! until somebody folds them, which a statement's path cannot afford.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::micros;

/// Upper bounds of the buckets, in microseconds: from a point query on a warm cache to a report.
const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000, 60_000_000,
];

/// How many durations there were up to each bound; the last bucket has no bound. Their sum is kept
/// by the [`super::Total`] that SHOW STATS reads.
#[derive(Debug, Default)]
pub struct Buckets([AtomicU64; BOUNDS_US.len() + 1]);

impl Buckets {
    pub fn record(&self, elapsed: Duration) {
        let micros = micros(elapsed);
        // The first are met far more often than the last.
        let bucket = BOUNDS_US.iter().position(|bound| *bound >= micros);
        let bucket = bucket.unwrap_or(BOUNDS_US.len());
        self.0[bucket].fetch_add(1, Relaxed);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts().sum()
    }

    /// As it is now.
    pub fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|at| self.0[at].load(Relaxed)))
    }

    /// Appends the samples of one series in Prometheus' text format; `labels` as between braces.
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/#histograms-and-summaries>
    pub fn write(&self, out: &mut String, name: &str, labels: &str, sum_micros: u64) {
        self.write_with(&Counts::default(), out, name, labels, sum_micros);
    }

    /// As [`Buckets::write`], with `others` among them.
    pub fn write_with(
        &self,
        others: &Counts,
        out: &mut String,
        name: &str,
        labels: &str,
        sum_micros: u64,
    ) {
        let mut count = 0;
        let bounds = BOUNDS_US.iter().map(|bound| seconds(*bound).to_string());
        let counts = self.counts();
        let both = counts.0.iter().zip(others.0);
        for ((bucket, other), bound) in both.zip(bounds.chain(["+Inf".to_owned()])) {
            count += bucket + other;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", seconds(sum_micros));
        let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
    }
}

/// How many durations each bucket had at one moment, or between two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([u64; BOUNDS_US.len() + 1]);

impl Counts {
    /// Of so many durations of nothing.
    pub fn of_nothing(count: u64) -> Self {
        let mut counts = Self::default();
        counts.0[0] = count;
        counts
    }

    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What came after `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|at| {
            self.0[at].saturating_sub(earlier.0[at])
        }))
    }

    /// The duration that `share` of them, from 0 to 1, stay within; `None` of none. Exact to a bucket,
    /// and straight between its bounds, as Prometheus' `histogram_quantile` has it; beyond the last bound
    /// it is that.
    /// <https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile>
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let all = self.sum();
        if all == 0 {
            return None;
        }
        let wanted = share * all as f64;
        let (mut below, mut low) = (0.0, 0.0);
        for (count, bound) in self.0.iter().zip(BOUNDS_US) {
            let (count, high) = (*count as f64, bound as f64);
            if count > 0.0 && below + count >= wanted {
                let micros = low + (high - low) * (wanted - below) / count;
                return Some(Duration::from_micros(micros as u64));
            }
            (below, low) = (below + count, high);
        }
        Some(Duration::from_micros(low as u64))
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_came_between() {
        let buckets = Buckets::default();
        buckets.record(Duration::from_secs(50));
        let before = buckets.counts();
        assert_eq!(before.since(&before).quantile(0.5), None);
        for _ in 0..90 {
            buckets.record(Duration::from_micros(200));
        }
        for _ in 0..10 {
            buckets.record(Duration::from_millis(4));
        }
        let between = buckets.counts().since(&before);
        let micros = |share| between.quantile(share).unwrap().as_micros();
        assert_eq!(micros(0.45), 100 + 75);
        assert_eq!(micros(0.9), 250);
        assert_eq!(micros(0.95), 2_500 + 1_250);
        buckets.record(Duration::from_secs(600));
        assert_eq!(
            buckets.counts().quantile(1.0),
            Some(Duration::from_secs(60))
        );
    }

    #[test]
    fn a_duration_counts_up_to_its_bound_and_beyond() {
        let buckets = Buckets::default();
        for micros in [0, 100, 101, 60_000_000, 60_000_001] {
            buckets.record(Duration::from_micros(micros));
        }
        let mut text = String::new();
        buckets.write(&mut text, "h", "a=\"b\"", 120_000_202);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), BOUNDS_US.len() + 3);
        assert_eq!(lines[0], "h_bucket{a=\"b\",le=\"0.0001\"} 2");
        assert_eq!(lines[1], "h_bucket{a=\"b\",le=\"0.00025\"} 3");
        assert_eq!(
            lines[15..],
            [
                "h_bucket{a=\"b\",le=\"60\"} 4",
                "h_bucket{a=\"b\",le=\"+Inf\"} 5",
                "h_sum{a=\"b\"} 120.000202",
                "h_count{a=\"b\"} 5",
            ]
        );
    }
}
