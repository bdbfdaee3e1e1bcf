//! How fresh one session's reads of one shard have to be. Pure: times and samples are arguments.
//!
//! Two promises: a session reads its own writes, and it never sees an older state than it has seen.
//! What it wrote, and what it saw, was in the primary's log before the exchange ended. So the first
//! sample of the primary's position that was started later bounds both, and a replica that has
//! replayed that far may answer. Until then the server that answered the last read may go on: its
//! own state does not go back while it runs.

use std::time::Duration;

use super::history::{Sample, bound};
use super::lsn::Lsn;
use super::shard::EndpointId;
use crate::net::Instant;

/// What a session has written to a shard, and seen of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// A replica must have replayed this far to show what was written, as far as that is known.
    floor: Lsn,
    /// The end of the last write that `floor` covers.
    covered: Option<Instant>,
    /// The end of the last write that no sample has bounded.
    wrote: Option<Instant>,
    read: Option<Seen>,
    /// When it last waited for nothing but what it saw.
    waited: Option<Instant>,
    /// How far behind a replica may be that answers the read at hand, beside what the policy says.
    max_lag: Option<Duration>,
}

/// The last read, which ended at `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    at: Instant,
    /// The replica that answered; `None` is the primary.
    home: Option<Home>,
    /// Another replica must have replayed this far to show what was seen; `None`: not known yet.
    bound: Option<Lsn>,
}

/// The replica that a session reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home {
    pub endpoint: EndpointId,
    /// Of the server: a crash may take it back in time.
    pub incarnation: u32,
    /// When it was chosen, and among which servers ([`super::ShardSnapshot::generation`]).
    pub chosen: Instant,
    pub generation: u32,
}

impl Home {
    fn is_server(self, other: Self) -> bool {
        (self.endpoint, self.incarnation) == (other.endpoint, other.incarnation)
    }
}

impl Seen {
    /// What one of two servers showed, the other may lack.
    fn join(self, other: Self) -> Self {
        let (first, last) = match self.at <= other.at {
            true => (self, other),
            false => (other, self),
        };
        let is_same = |home: &Home| first.home.is_some_and(|other| other.is_server(*home));
        Self {
            at: last.at,
            home: last.home.filter(is_same),
            // Whatever bounds the last bounds the first.
            bound: last
                .bound
                .map(|bound| bound.max(first.bound.unwrap_or_default())),
        }
    }
}

/// Between two waits of one session for nothing but what it saw.
const PATIENCE: Duration = Duration::from_millis(500);

impl Mark {
    /// The session's transaction that may have written ended at `now`, commit and rollback alike.
    pub fn wrote(&mut self, now: Instant) {
        self.wrote = Some(now);
        // It was on the primary, and came after what was read before.
        self.read = None;
    }

    /// Another session's transaction that this one must see ended at `at`.
    pub fn wrote_elsewhere(&mut self, at: Instant) {
        if self.covered.max(self.wrote) < Some(at) {
            self.wrote = Some(at);
        }
    }

    /// A read that `home` answered, or the primary, ended at `now`. Of two servers that answered
    /// until then neither is known to be as far as the other.
    pub fn read(&mut self, now: Instant, home: Option<Home>) {
        let other = self.read.filter(|seen| seen.at == now);
        let home = home.filter(|home| {
            other.is_none_or(|seen| seen.home.is_some_and(|other| other.is_server(*home)))
        });
        self.read = Some(Seen {
            at: now,
            home,
            bound: None,
        });
    }

    /// What is at `lsn` must be seen.
    pub fn at_least(&mut self, lsn: Lsn) {
        self.floor = self.floor.max(lsn);
    }

    /// The read at hand wants no replica that is further behind.
    pub fn within(&mut self, max_lag: Option<Duration>) {
        self.max_lag = max_lag;
    }

    /// All that `other` demands must be seen as well.
    pub fn join(&mut self, other: &Self) {
        self.floor = self.floor.max(other.floor);
        self.covered = self.covered.max(other.covered);
        self.wrote = self
            .wrote
            .max(other.wrote)
            .filter(|at| Some(*at) > self.covered);
        let read = match (self.read, other.read) {
            (Some(one), Some(two)) => Some(one.join(two)),
            (one, two) => one.or(two),
        };
        // What bounds a later write bounds it too.
        self.read = read.filter(|seen| Some(seen.at) > self.covered.max(self.wrote));
    }

    /// Nothing was written or seen yet.
    pub fn is_new(&self) -> bool {
        let nothing = Self {
            max_lag: self.max_lag,
            ..Self::default()
        };
        *self == nothing
    }

    /// The least position that shows all that was written and seen; `None` while it is not known.
    pub fn position(&self) -> Option<Lsn> {
        self.floor()
            .zip(self.elsewhere())
            .map(|(wrote, saw)| wrote.max(saw))
    }

    /// Uses the samples to bound what is not bounded yet.
    pub fn resolve(&mut self, samples: &[Sample]) {
        if let Some(at) = self.wrote
            && let Some(lsn) = bound(samples, at)
        {
            self.floor = self.floor.max(lsn);
            self.covered = Some(at);
            self.wrote = None;
        }
        if let Some(seen) = &mut self.read
            && seen.bound.is_none()
        {
            seen.bound = bound(samples, seen.at);
        }
    }

    /// What was written and seen until then every replica is taken to have. What was seen on the primary
    /// since its last write the session may lose sight of: it would stay there as long as it reads.
    pub(super) fn resolve_until(&mut self, until: Instant) {
        if let Some(at) = self.wrote.filter(|at| *at <= until) {
            self.covered = Some(at);
            self.wrote = None;
        }
        if let Some(seen) = &mut self.read
            && (seen.at <= until || seen.home.is_none() && self.wrote.is_none())
        {
            seen.bound.get_or_insert_default();
        }
    }

    /// Whether it may wait now for nothing but what it saw; if so, it will not soon again.
    pub fn waits(&mut self, now: Instant) -> bool {
        let patient = |waited: Instant| now.saturating_duration_since(waited) >= PATIENCE;
        let waits = self.waited.is_none_or(patient);
        if waits {
            self.waited = Some(now);
        }
        waits
    }

    /// What a replica must have replayed to show all writes; `None` while that is not known. The
    /// replica that answered the last read shows what was seen whatever its position.
    pub(super) fn floor(&self) -> Option<Lsn> {
        self.wrote.is_none().then_some(self.floor)
    }

    pub(super) fn max_lag(&self) -> Option<Duration> {
        self.max_lag
    }

    /// What another replica must have replayed to show what was seen; `None` while that is not known.
    pub(super) fn elsewhere(&self) -> Option<Lsn> {
        self.read.map_or(Some(Lsn::default()), |seen| seen.bound)
    }

    /// The replica that answered the last read.
    pub(super) fn home(&self) -> Option<Home> {
        self.read.and_then(|seen| seen.home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(started: Instant, lsn: u64) -> Sample {
        Sample {
            lsn: Lsn::new(lsn),
            started,
        }
    }

    #[test]
    fn a_write_is_bounded_by_the_first_sample_started_after_it() {
        let t = Instant::now();
        let ms = |count| t + Duration::from_millis(count);
        let mut mark = Mark::default();
        assert_eq!(mark.floor(), Some(Lsn::default()));
        mark.wrote(ms(1));
        assert_eq!(mark.floor(), None);
        mark.resolve(&[sample(ms(0), 400), sample(ms(1), 450)]);
        assert_eq!(mark.floor(), None, "it was under way when the write ended");
        mark.resolve(&[sample(ms(2), 500), sample(ms(3), 900)]);
        assert_eq!(mark.floor(), Some(Lsn::new(500)));
        mark.wrote_elsewhere(ms(1));
        assert_eq!(mark.floor(), Some(Lsn::new(500)), "covered");
        mark.wrote_elsewhere(ms(4));
        assert_eq!(mark.floor(), None);
    }

    #[test]
    fn a_read_ties_the_session_to_its_server_until_it_is_bounded() {
        let t = Instant::now();
        let later = t + Duration::from_millis(1);
        let home = Some(Home {
            endpoint: EndpointId(1),
            incarnation: 7,
            chosen: t,
            generation: 3,
        });
        let mut mark = Mark::default();
        mark.read(t, home);
        assert_eq!((mark.elsewhere(), mark.home()), (None, home));
        assert_eq!(mark.floor(), Some(Lsn::default()), "it wrote nothing");
        mark.resolve(&[sample(later, 500)]);
        assert_eq!(mark.elsewhere(), Some(Lsn::new(500)));
        assert_eq!(mark.floor(), Some(Lsn::default()), "home serves as before");
        assert_eq!(mark.home(), home);
        assert_eq!(mark.position(), Some(Lsn::new(500)));
        mark.read(later, home);
        mark.read(later, None);
        mark.read(later, home);
        assert_eq!(mark.home(), None, "two servers answered");
        mark.wrote(later);
        assert_eq!(mark.home(), None, "the replica has not the write");
        assert_eq!(mark.position(), None);
    }

    #[test]
    fn joined_marks_demand_what_both_do() {
        let t = Instant::now();
        let ms = |count| t + Duration::from_millis(count);
        let home = |id| {
            Some(Home {
                endpoint: EndpointId(id),
                incarnation: 0,
                chosen: t,
                generation: 0,
            })
        };
        let read = |at, home| {
            let mut mark = Mark::default();
            mark.read(ms(at), home);
            mark
        };
        let joined = |mut one: Mark, two: Mark| {
            one.join(&two);
            one
        };
        assert_eq!(joined(read(1, home(1)), read(2, home(1))), read(2, home(1)));
        assert_eq!(joined(read(2, home(1)), read(1, home(2))), read(2, None));
        assert_eq!(joined(Mark::default(), read(1, home(2))), read(1, home(2)));
        let mut wrote = Mark::default();
        wrote.wrote(ms(3));
        assert_eq!(joined(read(2, home(1)), wrote), wrote);
        let after = joined(read(4, home(1)), wrote);
        assert_eq!((after.floor(), after.home()), (None, home(1)));
        let mut known = wrote;
        known.resolve(&[sample(ms(4), 70)]);
        assert_eq!(joined(wrote, known), known, "what is bounded stays bounded");
    }

    #[test]
    fn a_token_raises_the_floor() {
        let mut mark = Mark::default();
        mark.at_least(Lsn::new(70));
        mark.at_least(Lsn::new(60));
        assert_eq!(mark.floor(), Some(Lsn::new(70)));
    }
}
