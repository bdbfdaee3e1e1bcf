//! Query digests: what statements of one shape have cost, and how often they came.
//!
//! A session finds the digest with the plan that it needs anyway, so counting a statement costs a few
//! atomic additions and no look-up, lock or clock of its own. There are at most so many digests; when
//! one more comes, those that were used least lately make room, an eighth of them at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;
use planner::{NamedKey, ShardId};

use super::hot::{HotKey, HotKeys, HotSlots};
use super::spread::Spread;
use super::{RouteKind, Total, Word};

/// Keys that a digest remembers; what it tells of them is right for the hottest few.
const KEYS: usize = 8;
/// Keys that a database remembers over all digests.
const KEYS_OF_ALL: usize = 64;
/// Of how many statements with a key one is looked at, once a digest is no longer young.
const SAMPLE: u64 = 16;
/// A digest with fewer calls has every key looked at.
const YOUNG: u64 = 256;

/// The digests of one database.
pub struct Digests {
    /// 0: none are kept.
    most: usize,
    shards: usize,
    state: Mutex<State>,
    evicted: Total,
    keys: HotKeys,
    pub slots: HotSlots,
}

#[derive(Default)]
struct State {
    by_id: HashMap<u64, Arc<Digest>, RandomState>,
}

/// One shape's.
pub struct Digest {
    id: u64,
    text: Box<str>,
    /// It is one of those that are kept.
    is_kept: AtomicBool,
    /// It had few calls when it was looked at last.
    is_young: AtomicBool,
    spread: Spread,
    micros: Total,
    rows: Total,
    errors: Total,
    /// A bit for each [`RouteKind`] that was met.
    kinds: AtomicU8,
    /// A bit for each shard that was met.
    shards: Box<[AtomicU64]>,
    keys: HotKeys,
    /// Calls up to the last time room was made, and how much it was used until then.
    calls_before: AtomicU64,
    used: AtomicU64,
}

/// What one statement came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// From its arrival to the end of its answer.
    pub elapsed: Duration,
    /// That it returned, or that it changed.
    pub rows: u64,
    pub failed: bool,
}

/// A digest as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct DigestRow {
    /// The same in every process.
    pub id: u64,
    /// The statement without its values.
    pub text: String,
    pub calls: u64,
    pub errors: u64,
    pub rows: u64,
    pub total: Duration,
    /// Within an eighth of the truth; zero without calls.
    pub p50: Duration,
    pub p95: Duration,
    pub p99: Duration,
    pub kinds: Vec<RouteKind>,
    /// Those that it has been sent to.
    pub shards: Vec<ShardId>,
    /// The hottest first.
    pub keys: Vec<HotKey>,
}

impl DigestRow {
    /// Zero without calls.
    pub fn mean(&self) -> Duration {
        let nanos = self.total.as_nanos() / u128::from(self.calls.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Digests {
    /// At most `most` digests, of a database with so many shards.
    pub fn new(most: usize, shards: usize) -> Self {
        Self {
            most,
            shards,
            state: Mutex::default(),
            evicted: Total::default(),
            keys: HotKeys::new(KEYS_OF_ALL),
            slots: HotSlots::new(shards > 1 && most > 0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The digest of a statement, by its text; for when its plan is made. `None` when none are kept.
    pub fn of(&self, sql: &str) -> Option<Arc<Digest>> {
        if self.most == 0 {
            return None;
        }
        let planner::digest::Digest { id, text } = planner::digest(sql.as_bytes());
        let mut state = self.state();
        if let Some(found) = state.by_id.get(&id) {
            return Some(Arc::clone(found));
        }
        let made = Arc::new(Digest::new(id, text, self.shards));
        self.insert(&mut state, &made);
        Some(made)
    }

    fn insert(&self, state: &mut State, digest: &Arc<Digest>) {
        if state.by_id.len() >= self.most {
            self.make_room(state);
        }
        digest.is_kept.store(true, Relaxed);
        state.by_id.insert(digest.id, Arc::clone(digest));
    }

    fn make_room(&self, state: &mut State) {
        let mut used: Vec<(u64, u64)> = state
            .by_id
            .values()
            .map(|digest| (digest.age(), digest.id))
            .collect();
        used.sort_unstable();
        let leave = (self.most / 8).max(1) + state.by_id.len().saturating_sub(self.most);
        for (_, id) in used.into_iter().take(leave) {
            if let Some(digest) = state.by_id.remove(&id) {
                digest.is_kept.store(false, Relaxed);
                digest.clear();
                self.evicted.add(1);
            }
        }
    }

    /// Counts a statement of this digest that went to these shards.
    pub fn count(
        &self,
        digest: &Arc<Digest>,
        kind: RouteKind,
        shards: impl Iterator<Item = ShardId>,
        outcome: Outcome,
    ) {
        if digest.is_kept.load(Relaxed) {
            return digest.count(kind, shards, outcome);
        }
        // It made room for others, and is used again.
        let mut state = self.state();
        match state.by_id.get(&digest.id).map(Arc::clone) {
            Some(other) => other.count(kind, shards, outcome),
            None => {
                self.insert(&mut state, digest);
                digest.count(kind, shards, outcome);
            }
        }
    }

    /// Is the key of a statement of this digest to be looked at? For `drawn`, any number will do.
    /// Answers how many statements it stands for.
    pub fn looks_at_keys(&self, digest: &Digest, drawn: u64) -> Option<u64> {
        if digest.is_young.load(Relaxed) {
            digest
                .is_young
                .store(digest.spread.is_below(YOUNG), Relaxed);
            return Some(1);
        }
        drawn.is_multiple_of(SAMPLE).then_some(SAMPLE)
    }

    /// Counts keys of a statement, which stand for `weight` such statements.
    pub fn count_keys(&self, digest: &Digest, keys: &[NamedKey], weight: u64) {
        for key in keys {
            digest.keys.count(key, weight);
            self.keys.count(key, weight);
            if let Some(slot) = key.slot {
                self.slots.count(slot, weight);
            }
        }
    }

    /// All that were used, those that took the most time first.
    pub fn snapshot(&self) -> Vec<DigestRow> {
        let digests: Vec<_> = self.state().by_id.values().map(Arc::clone).collect();
        let rows = digests.iter().map(|digest| digest.row());
        let mut rows: Vec<_> = rows.filter(|row| row.calls > 0).collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.total), row.id));
        rows
    }

    /// The hottest keys of all statements, the hottest first.
    pub fn hot_keys(&self) -> Vec<HotKey> {
        self.keys.hottest()
    }

    /// How many there are, and how many have made room for others.
    pub fn usage(&self) -> (usize, u64) {
        (self.state().by_id.len(), self.evicted.get())
    }

    /// Begins anew.
    pub fn reset(&self) {
        let state = self.state();
        state.by_id.values().for_each(|digest| digest.clear());
        self.keys.clear();
        self.slots.clear();
    }
}

impl Digest {
    fn new(id: u64, text: String, shards: usize) -> Self {
        Self {
            id,
            text: text.into(),
            is_kept: AtomicBool::new(true),
            is_young: AtomicBool::new(true),
            spread: Spread::default(),
            micros: Total::default(),
            rows: Total::default(),
            errors: Total::default(),
            kinds: AtomicU8::new(0),
            shards: (0..shards.div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
            keys: HotKeys::new(KEYS),
            calls_before: AtomicU64::new(0),
            used: AtomicU64::new(0),
        }
    }

    /// The same in every process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The statement without its values.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn count(&self, kind: RouteKind, shards: impl Iterator<Item = ShardId>, outcome: Outcome) {
        self.spread.record(outcome.elapsed);
        self.micros.add_micros(outcome.elapsed);
        if outcome.rows > 0 {
            self.rows.add(outcome.rows);
        }
        if outcome.failed {
            self.errors.add(1);
        }
        // Looked at first: what others read stays in their caches.
        let bit = 1 << kind.index();
        if self.kinds.load(Relaxed) & bit == 0 {
            self.kinds.fetch_or(bit, Relaxed);
        }
        for shard in shards {
            let bit = 1 << (shard.0 % 64);
            if let Some(word) = self.shards.get(usize::from(shard.0) / 64)
                && word.load(Relaxed) & bit == 0
            {
                word.fetch_or(bit, Relaxed);
            }
        }
    }

    /// How much it was used, of which the past counts for half as much each time.
    fn age(&self) -> u64 {
        let calls = self.spread.count();
        let since = calls.saturating_sub(self.calls_before.swap(calls, Relaxed));
        let used = self.used.load(Relaxed) / 2 + since;
        self.used.store(used, Relaxed);
        used
    }

    fn clear(&self) {
        self.is_young.store(true, Relaxed);
        self.spread.clear();
        for total in [&self.micros, &self.rows, &self.errors] {
            total.clear();
        }
        self.kinds.store(0, Relaxed);
        self.shards.iter().for_each(|word| word.store(0, Relaxed));
        self.keys.clear();
        self.calls_before.store(0, Relaxed);
        self.used.store(0, Relaxed);
    }

    fn row(&self) -> DigestRow {
        let [p50, p95, p99] = self.spread.quantiles([0.5, 0.95, 0.99]);
        let kinds = self.kinds.load(Relaxed);
        let shards = self.shards.iter().zip(0_usize..).flat_map(|(word, at)| {
            let word = word.load(Relaxed);
            (0..64).filter_map(move |bit| {
                let shard = u16::try_from(at * 64 + bit).ok()?;
                (word >> bit & 1 == 1).then_some(ShardId(shard))
            })
        });
        let is_met = |kind: &&RouteKind| kinds >> kind.index() & 1 == 1;
        DigestRow {
            id: self.id,
            text: self.text.to_string(),
            calls: self.spread.count(),
            errors: self.errors.get(),
            rows: self.rows.get(),
            total: Duration::from_micros(self.micros.get()),
            p50,
            p95,
            p99,
            kinds: RouteKind::ALL.iter().filter(is_met).copied().collect(),
            shards: shards.collect(),
            keys: self.keys.hottest(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(digests: &Digests, digest: &Arc<Digest>, micros: u64) {
        let outcome = Outcome {
            elapsed: Duration::from_micros(micros),
            rows: 2,
            failed: micros == 0,
        };
        digests.count(digest, RouteKind::Direct, [ShardId(1)].into_iter(), outcome);
    }

    #[test]
    fn statements_of_one_shape_are_one_row() {
        let digests = Digests::new(10, 2);
        for id in 0..3 {
            let digest = digests.of(&format!("SELECT {id}")).unwrap();
            call(&digests, &digest, 100 * id);
        }
        let other = digests.of("SELECT a").unwrap();
        call(&digests, &other, 1_000);
        let rows = digests.snapshot();
        let texts: Vec<_> = rows.iter().map(|row| row.text.as_str()).collect();
        assert_eq!(texts, ["SELECT a", "SELECT ?"]);
        let row = &rows[1];
        assert_eq!((row.calls, row.errors, row.rows), (3, 1, 6));
        assert_eq!(row.total, Duration::from_micros(300));
        assert_eq!(row.mean(), Duration::from_micros(100));
        assert_eq!(row.kinds, [RouteKind::Direct]);
        assert_eq!(row.shards, [ShardId(1)]);
    }

    #[test]
    fn those_used_least_make_room_and_may_come_back() {
        let digests = Digests::new(8, 1);
        let of = |n: usize| digests.of(&format!("SELECT a{n}")).unwrap();
        let all: Vec<_> = (0..8).map(of).collect();
        for (n, digest) in all.iter().enumerate() {
            (0..=n).for_each(|_| call(&digests, digest, 10));
        }
        call(&digests, &of(8), 10);
        assert_eq!(digests.usage(), (8, 1));
        let is_there = |n: usize| {
            let text = format!("SELECT a{n}");
            digests.snapshot().into_iter().find(|row| row.text == text)
        };
        assert!(is_there(0).is_none() && is_there(8).is_some());
        // Its plan is still cached, and so is the digest with it.
        call(&digests, &all[0], 10);
        assert_eq!(is_there(0).unwrap().calls, 1);
        assert_eq!(digests.usage(), (8, 2));
        // Another came under the same text meanwhile: they are one row.
        let digests = Digests::new(1, 1);
        let old = digests.of("SELECT x").unwrap();
        digests.of("SELECT y").unwrap();
        let new = digests.of("SELECT x").unwrap();
        call(&digests, &old, 10);
        call(&digests, &new, 10);
        assert_eq!(digests.snapshot()[0].calls, 2);
    }

    #[test]
    fn a_reset_begins_anew_and_none_are_kept_where_none_are_wanted() {
        let digests = Digests::new(8, 1);
        let digest = digests.of("SELECT x").unwrap();
        call(&digests, &digest, 10);
        digests.reset();
        assert!(digests.snapshot().is_empty());
        call(&digests, &digest, 10);
        assert_eq!(digests.snapshot()[0].calls, 1);
        assert!(Digests::new(0, 1).of("SELECT x").is_none());
    }

    #[test]
    fn keys_of_young_digests_are_all_counted_then_some() {
        let digests = Digests::new(8, 2);
        let digest = digests.of("SELECT x").unwrap();
        assert_eq!(digests.looks_at_keys(&digest, 3), Some(1));
        (0..YOUNG).for_each(|_| call(&digests, &digest, 10));
        digests.looks_at_keys(&digest, 3);
        assert_eq!(digests.looks_at_keys(&digest, 3), None);
        assert_eq!(digests.looks_at_keys(&digest, 32), Some(SAMPLE));
        let key = NamedKey {
            text: "17".into(),
            slot: Some(5),
            shard: ShardId(1),
        };
        digests.count_keys(&digest, &[key], SAMPLE);
        for keys in [digests.hot_keys(), digests.snapshot()[0].keys.clone()] {
            assert_eq!((keys[0].text.as_str(), keys[0].statements), ("17", SAMPLE));
        }
        assert_eq!(digests.slots.hottest(2), [(5, SAMPLE)]);
    }
}
