//! The primary's WAL position over time, which turns replay positions into lag
//! and freshness marks into positions.

use std::collections::VecDeque;
use std::time::Duration;

use super::lsn::Lsn;
use crate::net::Instant;

/// One or more samples in a row that found the primary's insert position at `lsn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub lsn: Lsn,
    /// When the last of these queries was started. Everything that had been committed before is
    /// below `lsn`.
    pub started: Instant,
}

/// Samples of one primary on one timeline, oldest first.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
}

/// Samples kept. When they are used up, every other one of the older half is dropped, so old
/// times are known more coarsely but never wrongly.
const CAPACITY: usize = 2048;

impl History {
    pub fn clear(&mut self) {
        self.samples.clear();
    }

    /// Records a query that was started at `started` and answered `lsn`.
    pub fn push(&mut self, started: Instant, lsn: Lsn) {
        match self.samples.back_mut() {
            Some(last) if started <= last.started => return,
            // A crash may lose log that was inserted and not yet flushed.
            Some(last) if lsn < last.lsn => self.samples.clear(),
            Some(last) if last.lsn == lsn => {
                last.started = started;
                return;
            }
            Some(_) | None => {}
        }
        if self.samples.len() == CAPACITY {
            self.thin();
        }
        self.samples.push_back(Sample { lsn, started });
    }

    fn thin(&mut self) {
        let mut position = 0;
        self.samples.retain(|_| {
            position += 1;
            position > CAPACITY / 2 || position % 2 == 0
        });
    }

    pub fn newest(&self) -> Option<Sample> {
        self.samples.back().copied()
    }

    /// The last `count` samples, oldest first.
    pub fn recent(&self, count: usize) -> Vec<Sample> {
        let skipped = self.samples.len().saturating_sub(count);
        self.samples.iter().skip(skipped).copied().collect()
    }

    /// How old the data of a replica that has replayed up to `replayed` may be at `now`; `None`
    /// when that position is older than all that is known.
    ///
    /// It is the age of the newest sample that the replica has reached, so it is an upper bound
    /// and grows while the primary cannot be asked. A replica that has reached the newest sample
    /// is given `allowance`, the time that passes between two samples anyway, so that it counts
    /// as not lagging while samples come in.
    pub fn lag(&self, replayed: Lsn, now: Instant, allowance: Duration) -> Option<Duration> {
        let ahead = self
            .samples
            .partition_point(|sample| sample.lsn <= replayed);
        let reached = self.samples.get(ahead.checked_sub(1)?)?;
        let age = now.saturating_duration_since(reached.started);
        if ahead == self.samples.len() {
            Some(age.saturating_sub(allowance))
        } else {
            Some(age)
        }
    }
}

/// The position that bounds everything committed before `instant`, from samples oldest first:
/// that of the first one started after it.
pub fn bound(samples: &[Sample], instant: Instant) -> Option<Lsn> {
    samples
        .iter()
        .find(|sample| sample.started > instant)
        .map(|sample| sample.lsn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A history of (milliseconds, position) after `origin`.
    fn history(origin: Instant, samples: &[(u64, u64)]) -> History {
        let mut history = History::default();
        for (at, lsn) in samples {
            history.push(origin + ms(*at), Lsn::new(*lsn));
        }
        history
    }

    #[test]
    fn lag_is_the_age_of_the_newest_sample_reached() {
        let origin = Instant::now();
        let history = history(origin, &[(0, 100), (50, 200), (100, 300), (150, 300)]);
        let cases = [
            // replayed, now, expected
            (300, 160, Some(0)),
            (300, 250, Some(0)),
            (300, 260, Some(10)),
            (300, 5150, Some(4900)),
            (299, 160, Some(110)),
            (200, 160, Some(110)),
            (100, 160, Some(160)),
            (99, 160, None),
        ];
        for (replayed, now, expected) in cases {
            assert_eq!(
                history.lag(Lsn::new(replayed), origin + ms(now), ms(100)),
                expected.map(ms),
                "replayed {replayed} at {now} ms"
            );
        }
    }

    #[test]
    fn nothing_is_known_without_samples() {
        let now = Instant::now();
        assert_eq!(History::default().lag(Lsn::new(1), now, ms(100)), None);
        assert_eq!(bound(&[], now), None);
    }

    #[test]
    fn a_sample_bounds_only_what_was_written_before_it_started() {
        let origin = Instant::now();
        let samples = history(origin, &[(0, 100), (50, 200), (100, 300), (150, 300)]).recent(9);
        let cases = [
            (0, Some(200)),
            (49, Some(200)),
            (50, Some(300)),
            (149, Some(300)),
            (150, None),
        ];
        for (at, expected) in cases {
            assert_eq!(
                bound(&samples, origin + ms(at)),
                expected.map(Lsn::new),
                "written at {at} ms"
            );
        }
    }

    #[test]
    fn answers_that_arrive_out_of_order_are_dropped() {
        let origin = Instant::now();
        let history = history(origin, &[(50, 200), (20, 150)]);
        assert_eq!(history.recent(9).len(), 1);
        assert_eq!(history.newest().map(|s| s.lsn), Some(Lsn::new(200)));
    }

    #[test]
    fn a_position_that_went_back_starts_the_history_anew() {
        let origin = Instant::now();
        let history = history(origin, &[(0, 100), (50, 200), (60, 190)]);
        let lag = |replayed| history.lag(Lsn::new(replayed), origin + ms(60), ms(0));
        assert_eq!(lag(190), Some(ms(0)));
        assert_eq!(lag(189), None);
    }

    #[test]
    fn a_long_history_stays_bounded_and_never_understates_lag() {
        let origin = Instant::now();
        let count = 10 * CAPACITY as u64;
        let samples: Vec<_> = (0..count).map(|i| (i, i + 1)).collect();
        let history = history(origin, &samples);
        assert!(history.samples.len() <= CAPACITY);
        let now = origin + ms(count);
        for replayed in [1 << 10, 1 << 13, count - 1] {
            let exact = ms(count - (replayed - 1));
            let lag = history.lag(Lsn::new(replayed), now, ms(0));
            assert!(lag.is_none_or(|lag| lag >= exact), "{replayed}: {lag:?}");
        }
    }
}
