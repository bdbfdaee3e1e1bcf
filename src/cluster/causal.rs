//! Marks that sessions share: those with the same causal key see what any of them wrote and saw.
//! Pure: times and samples are arguments.
//!
//! Memory is bounded, so keys are forgotten. That is never wrong: of a key that is not known here, all
//! must be seen that happened before the last one was forgotten.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::history::Sample;
use super::mark::Mark;
use crate::net::Instant;

/// The marks of one database's causal keys.
#[derive(Debug)]
pub struct CausalKeys {
    /// Used since `since`.
    young: HashMap<Arc<str>, Box<[Mark]>>,
    /// Used in the time before, and not since.
    old: HashMap<Arc<str>, Box<[Mark]>>,
    since: Instant,
    /// No key that is gone was used after this.
    forgot: Instant,
    /// Of `young`.
    bytes: usize,
    shards: usize,
    ttl: Duration,
}

/// What the keys of each of the two generations may take.
const MAX_BYTES: usize = 8 << 20;
/// What an entry takes beside its key and marks, about.
const OVERHEAD: usize = 96;

impl CausalKeys {
    /// Keys that are not used for `ttl` may be forgotten. What other processes did before `now`
    /// counts as forgotten.
    pub fn new(shards: usize, ttl: Duration, now: Instant) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            since: now,
            forgot: now,
            bytes: 0,
            shards,
            ttl,
        }
    }

    pub fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = ttl;
    }

    /// A session with this key is about to read from a shard: what it must see.
    pub fn demand(
        &mut self,
        key: &Arc<str>,
        shard: usize,
        mark: &mut Mark,
        now: Instant,
        samples: &[Sample],
    ) {
        match self.entry(key, now) {
            Some(marks) => {
                marks[shard].resolve(samples);
                mark.join(&marks[shard]);
            }
            None => mark.wrote_elsewhere(self.forgot),
        }
    }

    /// A session with this key has done something in a shard; `mark` is what it has left.
    pub fn left(&mut self, key: &Arc<str>, shard: usize, mark: &Mark, now: Instant) {
        if let Some(marks) = self.entry(key, now) {
            marks[shard].join(mark);
            return;
        }
        let mut first = Mark::default();
        first.wrote_elsewhere(self.forgot);
        let mut marks = vec![first; self.shards].into_boxed_slice();
        marks[shard].join(mark);
        self.insert(Arc::clone(key), marks, now);
    }

    fn entry(&mut self, key: &Arc<str>, now: Instant) -> Option<&mut Box<[Mark]>> {
        if now.saturating_duration_since(self.since) >= self.ttl {
            self.turn(now);
        }
        if !self.young.contains_key(key)
            && let Some((key, marks)) = self.old.remove_entry(key)
        {
            self.insert(key, marks, now);
        }
        self.young.get_mut(key)
    }

    fn insert(&mut self, key: Arc<str>, marks: Box<[Mark]>, now: Instant) {
        let bytes = key.len() + mem::size_of_val(&*marks) + OVERHEAD;
        if self.bytes + bytes > MAX_BYTES {
            self.turn(now);
        }
        self.bytes += bytes;
        self.young.insert(key, marks);
    }

    /// Forgets what was not used since the last turn.
    fn turn(&mut self, now: Instant) {
        self.old = mem::take(&mut self.young);
        self.forgot = self.since;
        self.since = now;
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::lsn::Lsn;
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn one_sessions_write_is_demanded_of_the_other() {
        let t = Instant::now();
        let mut keys = CausalKeys::new(2, ms(1000), t);
        let key: Arc<str> = "user:42".into();
        let mut writer = Mark::default();
        writer.wrote(t + ms(1));
        keys.left(&key, 1, &writer, t + ms(1));
        let samples = [
            Sample {
                lsn: Lsn::new(5),
                started: t + ms(1),
            },
            Sample {
                lsn: Lsn::new(7),
                started: t + ms(2),
            },
        ];
        let floor = |keys: &mut CausalKeys, key: &Arc<str>, shard, now| {
            let mut mark = Mark::default();
            keys.demand(key, shard, &mut mark, now, &samples);
            mark.resolve(&samples);
            mark.position()
        };
        assert_eq!(floor(&mut keys, &key, 1, t + ms(3)), Some(Lsn::new(7)));
        assert_eq!(floor(&mut keys, &key, 0, t + ms(3)), Some(Lsn::new(5)));
        assert_eq!(
            floor(&mut keys, &"another".into(), 1, t + ms(3)),
            Some(Lsn::new(5))
        );
    }

    #[test]
    fn what_is_forgotten_is_demanded_of_all() {
        let t = Instant::now();
        let mut keys = CausalKeys::new(1, ms(1000), t);
        let key: Arc<str> = "user:42".into();
        let mut writer = Mark::default();
        writer.wrote(t + ms(999));
        keys.left(&key, 0, &writer, t + ms(999));
        let other: Arc<str> = "other".into();
        for now in [1000, 2000] {
            keys.left(&other, 0, &Mark::default(), t + ms(now));
        }
        assert!(keys.entry(&key, t + ms(2000)).is_none());
        let mut mark = Mark::default();
        keys.demand(&key, 0, &mut mark, t + ms(2000), &[]);
        mark.resolve(&[Sample {
            lsn: Lsn::new(5),
            started: t + ms(998),
        }]);
        assert_eq!(mark.position(), None, "the write may not be in it");
    }

    #[test]
    fn memory_is_bounded() {
        let t = Instant::now();
        let mut keys = CausalKeys::new(1, ms(1000), t);
        let entry = mem::size_of::<Mark>() + OVERHEAD + 10;
        for number in 0..2 * MAX_BYTES / entry + 10 {
            keys.left(&format!("{number:010}").into(), 0, &Mark::default(), t);
        }
        assert!((keys.young.len() + keys.old.len()) * entry <= 2 * MAX_BYTES);
    }
}
