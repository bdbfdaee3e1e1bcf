//! A histogram of durations that costs one atomic addition: the exporter's own keep every sample
//! until somebody folds them, which a statement's path cannot afford.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds: from a point query on a warm cache to a report.
const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000, 60_000_000,
];

/// How many durations there were up to each bound; the last bucket has no bound. Their sum is kept
/// by the [`super::Total`] that SHOW STATS reads.
#[derive(Debug, Default)]
pub struct Buckets([AtomicU64; BOUNDS_US.len() + 1]);

/// One for each bucket.
pub type Counts = [u64; BOUNDS_US.len() + 1];

impl Buckets {
    pub fn record(&self, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        // The first are met far more often than the last.
        let bucket = BOUNDS_US.iter().position(|bound| *bound >= micros);
        let bucket = bucket.unwrap_or(BOUNDS_US.len());
        self.0[bucket].fetch_add(1, Relaxed);
    }

    /// How many there were in each bucket.
    pub fn counts(&self) -> Counts {
        std::array::from_fn(|at| self.0[at].load(Relaxed))
    }

    /// Of so many durations of nothing.
    pub fn counts_of_nothing(count: u64) -> Counts {
        let mut counts = Counts::default();
        counts[0] = count;
        counts
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|bucket| bucket.load(Relaxed)).sum()
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
        let both = counts.iter().zip(others);
        for ((bucket, other), bound) in both.zip(bounds.chain(["+Inf".to_owned()])) {
            count += bucket + other;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", seconds(sum_micros));
        let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

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
