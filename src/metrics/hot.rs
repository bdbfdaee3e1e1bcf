//! The keys and slots that most statements are about, in bounded memory.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use planner::{NamedKey, ShardId};

/// Slots of the ring.
const SLOTS: usize = 16_384;
/// Bytes kept of a key.
const LONGEST_KEY: usize = 64;

/// The hottest of all keys that were counted.
///
/// Space-Saving: a key that is not among those kept takes the place of the one with the lowest count
/// and inherits that count, so that no count is too low, and it is known by how much it may be too
/// high. A key of more than 1/n of all is always among n.
/// (Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements in Data
/// Streams, 2005.)
pub struct HotKeys {
    most: usize,
    kept: Mutex<Vec<HotKey>>,
}

/// A key and how many statements were about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotKey {
    /// As PostgreSQL writes it; its first bytes.
    pub text: String,
    pub slot: Option<u16>,
    pub shard: ShardId,
    /// Never too low, as far as statements are counted and not sampled.
    pub statements: u64,
    /// How many of these may have been about others.
    pub unsure: u64,
}

impl HotKey {
    /// Statements that were surely about it.
    pub fn sure(&self) -> u64 {
        self.statements - self.unsure
    }
}

impl HotKeys {
    /// At most `most` are kept.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            kept: Mutex::default(),
        }
    }

    /// Who would have to wait for another counts nothing: it is a sample anyway.
    pub fn count(&self, key: &NamedKey, weight: u64) {
        let Ok(mut kept) = self.kept.try_lock() else {
            return;
        };
        let text = shortened(&key.text);
        let is_it = |hot: &&mut HotKey| hot.shard == key.shard && hot.text == text;
        if let Some(hot) = kept.iter_mut().find(is_it) {
            hot.statements += weight;
            return;
        }
        let mut hot = HotKey {
            text: text.to_owned(),
            slot: key.slot,
            shard: key.shard,
            statements: weight,
            unsure: 0,
        };
        if kept.len() < self.most {
            kept.push(hot);
        } else if let Some(coldest) = kept.iter_mut().min_by_key(|hot| hot.statements) {
            hot.statements += coldest.statements;
            hot.unsure = coldest.statements;
            *coldest = hot;
        }
    }

    /// Those with the most statements that were surely about them first.
    pub fn hottest(&self) -> Vec<HotKey> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hottest = kept.clone();
        drop(kept);
        hottest.sort_by(|a, b| b.sure().cmp(&a.sure()).then_with(|| a.text.cmp(&b.text)));
        hottest
    }

    pub fn clear(&self) {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_KEY);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Statements by the slot of their key.
pub struct HotSlots(Box<[AtomicU64]>);

impl HotSlots {
    /// Unless they are kept, nothing is counted.
    pub fn new(kept: bool) -> Self {
        let slots = if kept { SLOTS } else { 0 };
        Self((0..slots).map(|_| AtomicU64::new(0)).collect())
    }

    pub fn count(&self, slot: u16, weight: u64) {
        if let Some(count) = self.0.get(usize::from(slot)) {
            count.fetch_add(weight, Relaxed);
        }
    }

    /// The `most` slots with the most statements and how many these were, the most first.
    pub fn hottest(&self, most: usize) -> Vec<(u16, u64)> {
        let counts = (0..).zip(self.0.iter().map(|count| count.load(Relaxed)));
        let mut counts: Vec<(u16, u64)> = counts.filter(|(_, count)| *count > 0).collect();
        counts.sort_by_key(|(slot, count)| (std::cmp::Reverse(*count), *slot));
        counts.truncate(most);
        counts
    }

    pub fn clear(&self) {
        self.0.iter().for_each(|count| count.store(0, Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: String) -> NamedKey {
        NamedKey {
            text,
            slot: Some(1),
            shard: ShardId(0),
        }
    }

    #[test]
    fn a_hot_key_stays_among_thousands_of_others() {
        let keys = HotKeys::new(8);
        for n in 0..10_000 {
            keys.count(&key(n.to_string()), 1);
            if n % 4 == 0 {
                keys.count(&key("hot".into()), 1);
            }
        }
        let hottest = keys.hottest();
        assert_eq!((hottest.len(), hottest[0].text.as_str()), (8, "hot"));
        assert!(hottest[0].statements >= 2_500 && hottest[0].sure() <= 2_500);
        assert!(hottest[0].sure() > 1_500, "{:?}", hottest[0]);
        keys.clear();
        assert!(keys.hottest().is_empty());
    }

    #[test]
    fn long_keys_are_cut_between_characters() {
        let keys = HotKeys::new(8);
        keys.count(&key("é".repeat(100)), 3);
        keys.count(&key("é".repeat(101)), 3);
        let hottest = keys.hottest();
        assert_eq!((hottest[0].text.len(), hottest[0].statements), (64, 6));
    }

    #[test]
    fn the_hottest_slots() {
        let slots = HotSlots::new(true);
        for (slot, weight) in [(5, 2), (16_383, 7), (0, 2), (5, 1)] {
            slots.count(slot, weight);
        }
        assert_eq!(slots.hottest(2), [(16_383, 7), (5, 3)]);
        let none = HotSlots::new(false);
        none.count(5, 1);
        assert!(none.hottest(2).is_empty());
    }
}
