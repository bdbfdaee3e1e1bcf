//! Reads on replicas: which server answers one, waiting for a server that is fresh, and telling others of
//! what a session wrote and saw.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use planner::ShardId;

use super::balancer::{self, Load, Pick, ReadReason, Tiebreak};
use super::causal::CausalKeys;
use super::mark::{Home, Mark};
use super::{Cluster, EndpointId, ShardState};
use crate::config::{Balance, Freshness};
use crate::net::{Instant, timeout};

/// How long a read waits for a replica that has what its session saw on another server. Without
/// that, a session that reads without a pause would stay on one server for ever.
pub const SETTLE: Duration = Duration::from_millis(20);

/// One of so many reads is timed, where the choice of a server does not ask for more.
const TIMED: usize = 8;

/// A read under way on a replica, for those who choose by load.
pub struct ReadGuard {
    cluster: Arc<Cluster>,
    shard: ShardId,
    endpoint: EndpointId,
    started: Instant,
}

impl ReadGuard {
    /// The read was answered at `now`; `alone`: no pause of a client's is in that time.
    pub fn answered(&self, now: Instant, alone: bool) {
        let took = now.saturating_duration_since(self.started).as_micros();
        let took = u32::try_from(took).unwrap_or(u32::MAX);
        let load = self.load();
        load.took(took);
        if alone {
            load.tally.took(took);
        }
    }

    fn load(&self) -> &Load {
        &self.cluster.shard(self.shard).loads[usize::from(self.endpoint.0)]
    }
}

impl Drop for ReadGuard {
    fn drop(&mut self) {
        let load = self.load();
        load.reads.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a session does, for those who share what it writes and sees.
pub struct Witness<'a> {
    cluster: &'a Cluster,
    shard: ShardId,
    home: Option<Home>,
    writes: bool,
    key: Option<&'a Arc<str>>,
}

impl Witness<'_> {
    /// It may have done it by now. Asks the clock, and makes no system call.
    pub fn note(&self) {
        let now = Instant::now();
        let mut mark = Mark::default();
        match self.writes {
            true => {
                mark.wrote(now);
                self.cluster.wrote(self.shard, now);
            }
            false => mark.read(now, self.home),
        }
        if let Some(key) = self.key {
            self.cluster.leave_causal(key, self.shard, &mark, now);
        }
    }
}

impl Cluster {
    /// Which server should answer a read now: a replica that is fresh enough for `mark`, else the
    /// primary; `None` when there is neither. Waits for nothing.
    ///
    /// `source` is the same number for each client address.
    pub fn pick_read(&self, shard: ShardId, mark: &mut Mark, source: u64) -> Option<Pick> {
        let state = self.shard(shard);
        let reads = &self.database.reads;
        if !reads.split {
            return balancer::primary(&state.snapshot.load(), ReadReason::SplitOff);
        }
        if reads.freshness == Freshness::Global {
            // What is written from here on it need not see.
            mark.wrote_elsewhere(state.writes.load().last());
        }
        self.pick(state, mark, source)
    }

    fn pick(&self, state: &ShardState, mark: &mut Mark, source: u64) -> Option<Pick> {
        let snapshot = state.snapshot.load();
        let reads = &self.database.reads;
        let turn = state.turn.load(Ordering::Relaxed);
        let tiebreak = Tiebreak { turn, source };
        let pick = balancer::pick_read(&snapshot, mark, reads, &state.loads, tiebreak);
        // Who has no choice takes no turn: else those who have one would come at odd ones, and servers
        // get other shares than they should.
        if pick.is_some_and(|pick| pick.took_turn) {
            state.turn.fetch_add(1, Ordering::Relaxed);
        }
        pick
    }

    /// Counts a read on a replica until the guard is dropped; `None` when nobody asks how many there
    /// are, and it is none of those that are timed in the search of outliers.
    pub fn count_read(self: &Arc<Self>, shard: ShardId, endpoint: EndpointId) -> Option<ReadGuard> {
        let turn = self.shard(shard).turn.load(Ordering::Relaxed);
        match self.database.reads.balance {
            Balance::RoundRobin | Balance::Random | Balance::SourceHash
                if !turn.is_multiple_of(TIMED) =>
            {
                return None;
            }
            Balance::RoundRobin
            | Balance::Random
            | Balance::SourceHash
            | Balance::LeastConnections
            | Balance::Latency => {}
        }
        let guard = ReadGuard {
            cluster: Arc::clone(self),
            shard,
            endpoint,
            started: Instant::now(),
        };
        guard.load().reads.fetch_add(1, Ordering::Relaxed);
        Some(guard)
    }

    /// A transaction that may have written ended at `now`.
    pub fn wrote(&self, shard: ShardId, now: Instant) {
        if self.database.reads.freshness == Freshness::Global {
            self.shard(shard).writes.load().note(now);
        }
    }

    /// Who has to hear of what a session does on a server of `shard`, before its client knows that it is
    /// done and tells others: `None` where nobody has to.
    pub fn witness<'a>(
        &'a self,
        shard: ShardId,
        home: Option<Home>,
        writes: bool,
        key: Option<&'a Arc<str>>,
    ) -> Option<Witness<'a>> {
        let is_global = writes && self.database.reads.freshness == Freshness::Global;
        (is_global || key.is_some()).then_some(Witness {
            cluster: self,
            shard,
            home,
            writes,
            key,
        })
    }

    /// Before a session with a causal key reads: what those with the same key wrote and saw.
    pub fn join_causal(&self, key: &Arc<str>, shard: ShardId, mark: &mut Mark, now: Instant) {
        let snapshot = self.shard(shard).snapshot.load();
        let at = usize::from(shard.0);
        self.with_causal(|keys| keys.demand(key, at, mark, now, &snapshot.samples));
    }

    /// After a session with a causal key did something: `mark` is for those with the same key, too.
    pub fn leave_causal(&self, key: &Arc<str>, shard: ShardId, mark: &Mark, now: Instant) {
        self.with_causal(|keys| keys.left(key, usize::from(shard.0), mark, now));
    }

    pub(super) fn with_causal(&self, act: impl FnOnce(&mut CausalKeys)) {
        // A panic while it was held cannot leave an entry with less than was demanded before.
        let keys = self.causal.load();
        act(&mut keys.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Goes on from `first`, which [`Cluster::pick_read`] answered: waits for a replica that has what
    /// the session wrote (`max_wait`), or what it saw ([`SETTLE`], not often, and only where one is
    /// near enough).
    ///
    /// Cancel safety: yes; the mark may be resolved already.
    pub async fn wait_fresh(
        &self,
        shard: ShardId,
        mark: &mut Mark,
        source: u64,
        first: Pick,
    ) -> Option<Pick> {
        let state = self.shard(shard);
        let saw = |pick: Pick| pick.may_move || pick.reason == ReadReason::SeenNewer;
        let max_wait = self.database.reads.max_wait;
        let home = first.home.map(|home| home.endpoint);
        let is_near = || balancer::is_another_near(&state.snapshot.load(), home, SETTLE);
        let start = Instant::now();
        let settle = match saw(first) && is_near() && mark.waits(start) {
            true => SETTLE,
            false => Duration::ZERO,
        };
        let limit = |pick: Pick| match (pick.may_move, saw(pick)) {
            (true, _) => settle,
            (false, true) => settle.max(max_wait),
            (false, false) => max_wait,
        };
        let mut pick = first;
        if limit(pick).is_zero() {
            return Some(pick);
        }
        if !settle.is_zero() {
            self.metrics.read_settles.increment(1);
        }
        let mut published = state.published.subscribe();
        let picked = loop {
            self.hasten(shard);
            let left = (start + limit(pick)).saturating_duration_since(Instant::now());
            if left.is_zero() || !matches!(timeout(left, published.changed()).await, Ok(Ok(()))) {
                break Some(pick);
            }
            pick = match self.pick(state, mark, source) {
                Some(pick) => pick,
                None => break None,
            };
            if !pick.may_move && !pick.reason.passes_with_time() {
                break Some(pick);
            }
        };
        self.metrics.read_wait_done(start.elapsed());
        picked
    }

    /// Whether `home`, to which a connection was made at `connected_at`, was still the server that it was
    /// when it was chosen: known once a later poll has found it so. Waits [`SETTLE`] for that.
    ///
    /// Cancel safety: yes.
    pub async fn confirm(&self, shard: ShardId, home: Home, connected_at: Instant) -> bool {
        let state = self.shard(shard);
        let mut published = state.published.subscribe();
        let deadline = Instant::now() + SETTLE;
        loop {
            let found = {
                let snapshot = state.snapshot.load();
                let server = &snapshot.servers[usize::from(home.endpoint.0)];
                let polled = server.seen.is_some_and(|seen| seen.started > connected_at);
                (server.incarnation == home.incarnation).then_some(polled)
            };
            match found {
                None => return false,
                Some(true) => return true,
                Some(false) => self.hasten(shard),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !matches!(timeout(left, published.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
    }

    /// A read on a replica has failed for a reason that lies with the server.
    pub fn read_failed(&self, shard: ShardId, endpoint: EndpointId) {
        self.shard(shard).loads[usize::from(endpoint.0)]
            .tally
            .failed();
    }
}
