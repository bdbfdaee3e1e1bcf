//! What a server connection has prepared under names of ours, bounded in number and in bytes of text:
//! what was used longest ago makes way.

use std::collections::HashMap;

use ahash::RandomState;

use super::StatementId;

/// How much one server connection keeps prepared.
#[derive(Debug, Clone, Copy)]
pub struct PreparedLimits {
    pub count: usize,
    /// Of the texts together.
    pub bytes: usize,
}

pub struct PreparedSet {
    known: HashMap<StatementId, Known, RandomState>,
    /// Those that could not be prepared again. They make way for none.
    kept: Vec<StatementId>,
    bytes: usize,
    limits: PreparedLimits,
    tick: u64,
}

struct Known {
    bytes: usize,
    used: u64,
}

impl PreparedSet {
    pub fn new(limits: PreparedLimits) -> Self {
        Self {
            known: HashMap::default(),
            kept: Vec::new(),
            bytes: 0,
            limits,
            tick: 0,
        }
    }

    /// True if it is there; it counts as used now.
    pub fn touch(&mut self, id: StatementId) -> bool {
        self.tick += 1;
        match self.known.get_mut(&id) {
            Some(known) => {
                known.used = self.tick;
                true
            }
            None => self.kept.contains(&id),
        }
    }

    pub fn keep(&mut self, id: StatementId) {
        self.kept.push(id);
    }

    /// Who must go before a text of so many bytes joins. One above the whole limit makes nobody
    /// else go, and is the first to go itself.
    pub fn victim(&self, bytes: usize) -> Option<StatementId> {
        let fits = |bytes| bytes <= self.limits.bytes;
        let needed = if fits(bytes) { bytes } else { 0 };
        if self.known.len() < self.limits.count && fits(self.bytes + needed) {
            return None;
        }
        let order = |known: &Known| (fits(known.bytes), known.used);
        let first = self.known.iter().min_by_key(|(_, known)| order(known));
        first.map(|(id, _)| *id)
    }

    pub fn insert(&mut self, id: StatementId, bytes: usize) {
        let used = self.tick;
        let before = self.known.insert(id, Known { bytes, used });
        self.bytes += bytes;
        self.bytes -= before.map_or(0, |before| before.bytes);
    }

    /// The bytes of its text, if it was there.
    pub fn remove(&mut self, id: StatementId) -> Option<usize> {
        self.kept.retain(|kept| *kept != id);
        let known = self.known.remove(&id)?;
        self.bytes -= known.bytes;
        Some(known.bytes)
    }

    pub fn retain(&mut self, is_left: impl Fn(StatementId) -> bool) {
        self.known.retain(|id, _| is_left(*id));
        self.bytes = self.known.values().map(|known| known.bytes).sum();
    }

    pub fn clear(&mut self) {
        self.known.clear();
        self.kept.clear();
        self.bytes = 0;
    }

    /// How many they are, and the bytes of their texts as far as those are known.
    pub fn usage(&self) -> (usize, usize) {
        (self.known.len() + self.kept.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: [u64; 0] = [];

    /// Prepares as a server connection does; says who went for it.
    fn add(set: &mut PreparedSet, id: u64, bytes: usize) -> Vec<u64> {
        let mut gone = Vec::new();
        while let Some(victim) = set.victim(bytes) {
            set.remove(victim);
            gone.push(victim.0);
        }
        set.touch(StatementId(id));
        set.insert(StatementId(id), bytes);
        gone
    }

    #[test]
    fn bytes_are_bounded_and_what_is_used_stays() {
        let mut set = PreparedSet::new(PreparedLimits {
            count: 10,
            bytes: 100,
        });
        for id in 0..4 {
            assert_eq!(add(&mut set, id, 25), NOBODY);
        }
        assert!(set.touch(StatementId(0)));
        assert_eq!(add(&mut set, 4, 30), [1, 2]);
        assert_eq!(set.usage(), (3, 80));
        assert!(!set.touch(StatementId(1)));
    }

    #[test]
    fn what_cannot_be_prepared_again_makes_way_for_none() {
        let mut set = PreparedSet::new(PreparedLimits {
            count: 1,
            bytes: 100,
        });
        set.keep(StatementId(7));
        assert_eq!(add(&mut set, 0, 90), NOBODY);
        assert_eq!(add(&mut set, 1, 90), [0]);
        assert!(set.touch(StatementId(7)));
        assert_eq!(set.remove(StatementId(7)), None);
        assert!(!set.touch(StatementId(7)));
    }

    #[test]
    fn their_number_is_bounded() {
        let mut set = PreparedSet::new(PreparedLimits {
            count: 2,
            bytes: 100,
        });
        assert_eq!(add(&mut set, 0, 1), NOBODY);
        assert_eq!(add(&mut set, 1, 1), NOBODY);
        assert_eq!(add(&mut set, 2, 1), [0]);
    }

    #[test]
    fn a_text_above_the_limit_displaces_nobody_and_goes_first() {
        let mut set = PreparedSet::new(PreparedLimits {
            count: 10,
            bytes: 100,
        });
        assert_eq!(add(&mut set, 0, 90), NOBODY);
        assert_eq!(add(&mut set, 1, 1000), NOBODY);
        assert!(set.touch(StatementId(1)));
        assert_eq!(set.usage(), (2, 1090));
        assert_eq!(add(&mut set, 2, 2000), [1]);
        assert_eq!(add(&mut set, 3, 5), [2]);
        assert_eq!(set.usage(), (2, 95));
    }
}
