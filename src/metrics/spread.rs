//! How durations are spread, finely enough for quantiles and small enough for every shape.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::micros;

/// Buckets of an octave; a duration is known to within half of one.
const PARTS: usize = 4;
/// The last octave begins at 2^26 µs, a bit more than a minute; what takes longer counts there.
const LAST: usize = 26;
const BUCKETS: usize = (LAST - 1) * PARTS + PARTS;

/// Counts of durations in microseconds, by octave and quarter of it.
pub struct Spread([AtomicU64; BUCKETS]);

impl Default for Spread {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Spread {
    pub fn record(&self, elapsed: Duration) {
        self.0[bucket(micros(elapsed))].fetch_add(1, Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.0.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// Were there fewer than `few`? Looks at no more buckets than it needs to.
    pub fn is_below(&self, few: u64) -> bool {
        let mut count = 0;
        for bucket in &self.0 {
            count += bucket.load(Relaxed);
            if count >= few {
                return false;
            }
        }
        true
    }

    pub fn clear(&self) {
        self.0.iter().for_each(|bucket| bucket.store(0, Relaxed));
    }

    /// The durations below which these shares of all are, each between 0 and 1; zero without any.
    pub fn quantiles<const N: usize>(&self, shares: [f64; N]) -> [Duration; N] {
        let counts: Vec<u64> = self.0.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        shares.map(|share| {
            let wanted = (share * all as f64).ceil().max(1.0) as u64;
            let mut seen = 0;
            let at = counts.iter().position(|count| {
                seen += count;
                seen >= wanted
            });
            at.map_or(Duration::ZERO, |at| Duration::from_micros(middle(at)))
        })
    }
}

fn bucket(micros: u64) -> usize {
    if micros < PARTS as u64 {
        return micros as usize;
    }
    let octave = micros.ilog2() as usize;
    if octave > LAST {
        return BUCKETS - 1;
    }
    let part = (micros >> (octave - 2)) as usize & (PARTS - 1);
    (octave - 1) * PARTS + part
}

/// Of a bucket, in microseconds.
fn middle(bucket: usize) -> u64 {
    if bucket < PARTS {
        return bucket as u64;
    }
    let (octave, part) = (bucket / PARTS + 1, bucket % PARTS);
    let width = 1_u64 << (octave - 2);
    (PARTS + part) as u64 * width + width / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_known_to_an_eighth() {
        let mut last = 0;
        for micros in (0..100_000).chain([1 << 26, (1 << 27) - 1]) {
            let at = bucket(micros);
            assert!(at >= last && at < BUCKETS);
            last = at;
            let off = middle(at).abs_diff(micros);
            assert!(off * 8 <= micros, "{micros} is taken for {}", middle(at));
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles() {
        let spread = Spread::default();
        assert_eq!(spread.quantiles([0.5]), [Duration::ZERO]);
        for micros in 1..=1000 {
            spread.record(Duration::from_micros(micros));
        }
        for (share, micros) in [(0.5, 500_u64), (0.95, 950), (0.99, 990)] {
            let [found] = spread.quantiles([share]);
            let off = (found.as_micros() as u64).abs_diff(micros);
            assert!(off * 8 <= micros, "{found:?} for {micros}");
        }
        assert!(spread.is_below(1001) && !spread.is_below(1000));
    }
}
