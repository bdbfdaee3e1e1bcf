//! Which shard owns which slot, and which keys go by other rules.

use crate::hash;
use crate::key::Datum;
use crate::placement::{Placement, Rule, RuleId};
use crate::ring::{self, SLOTS};

/// A shard's position in the database's configuration, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// A set of shards, in ascending order and without repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSet(Members);

/// Each set has one form only.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Members {
    /// Most routes: nothing is allocated.
    One(ShardId),
    /// None, or at least two.
    Others(Vec<ShardId>),
}

impl Default for ShardSet {
    fn default() -> Self {
        Self(Members::Others(Vec::new()))
    }
}

impl ShardSet {
    pub fn one(shard: ShardId) -> Self {
        Self(Members::One(shard))
    }

    /// Shards `0..count`.
    pub fn all(count: usize) -> Self {
        (0..count as u16).map(ShardId).collect()
    }

    pub fn insert(&mut self, shard: ShardId) {
        let Err(at) = self.as_slice().binary_search(&shard) else {
            return;
        };
        match &mut self.0 {
            Members::Others(shards) if shards.is_empty() => *self = Self::one(shard),
            Members::Others(shards) => shards.insert(at, shard),
            Members::One(other) => {
                let mut shards = vec![*other];
                shards.insert(at, shard);
                self.0 = Members::Others(shards);
            }
        }
    }

    pub fn contains(&self, shard: ShardId) -> bool {
        self.as_slice().binary_search(&shard).is_ok()
    }

    pub fn intersect(&self, other: &Self) -> Self {
        let shards = self.as_slice().iter().copied();
        shards.filter(|shard| other.contains(*shard)).collect()
    }

    pub fn extend(&mut self, other: &Self) {
        for shard in other.as_slice() {
            self.insert(*shard);
        }
    }

    pub fn as_slice(&self) -> &[ShardId] {
        match &self.0 {
            Members::One(shard) => std::slice::from_ref(shard),
            Members::Others(shards) => shards,
        }
    }

    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }
}

impl FromIterator<ShardId> for ShardSet {
    fn from_iter<I: IntoIterator<Item = ShardId>>(shards: I) -> Self {
        let mut set = Self::default();
        for shard in shards {
            set.insert(shard);
        }
        set
    }
}

/// A shard as the ring sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardWeight {
    /// The name places the shard on the ring; renaming it moves its slots.
    pub name: String,
    /// Relative share of the slots, at least 1.
    pub weight: u32,
}

/// The slot table and the rules of one database, fixed for one configuration version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    shards: Vec<ShardWeight>,
    slots: Box<[ShardId]>,
    rules: Vec<Rule>,
}

impl Topology {
    /// Builds the slot table from the ring, then applies the overrides
    /// (slot, shard) for slots that were moved by hand.
    pub fn new(shards: Vec<ShardWeight>, overrides: &[(u16, ShardId)]) -> Self {
        let mut slots = ring::slot_table(&shards);
        for (slot, shard) in overrides {
            if let Some(owner) = slots.get_mut(*slot as usize) {
                *owner = *shard;
            }
        }
        Self {
            shards,
            slots,
            rules: Vec::new(),
        }
    }

    /// With the rules for keys that are not hashed.
    pub fn with_rules(self, rules: Vec<Rule>) -> Self {
        Self { rules, ..self }
    }

    /// By [`RuleId`].
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(crate) fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.rules.get(usize::from(id.0))
    }

    pub fn shards(&self) -> &[ShardWeight] {
        &self.shards
    }

    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The shard that owns `slot`; `slot` must be below [`SLOTS`].
    pub fn owner(&self, slot: u16) -> ShardId {
        self.slots[slot as usize % SLOTS]
    }

    /// The shard of a row by its key; `None` when its rule names none.
    pub(crate) fn owner_of(&self, placement: Placement, key: &[&Datum<'_>]) -> Option<ShardId> {
        match placement {
            Placement::Hash => {
                let slot = hash::slot_of(key.iter().map(|datum| datum.hash()));
                Some(self.owner(slot))
            }
            Placement::Ranges(rule) | Placement::List(rule) => self.rule(rule)?.owner(key.first()?),
        }
    }

    /// How many slots each shard owns, by shard id.
    pub fn slots_per_shard(&self) -> Vec<usize> {
        let mut counts = vec![0; self.shards.len()];
        for shard in &self.slots {
            counts[shard.0 as usize] += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against sets of the standard library, for all insertions of a small world.
    #[test]
    fn sets_of_shards_are_sets() {
        for order in 0..4_u16.pow(4) {
            let shards = [order % 4, order / 4 % 4, order / 16 % 4, order / 64];
            for count in 0..=shards.len() {
                let inserted = &shards[..count];
                let set: ShardSet = inserted.iter().copied().map(ShardId).collect();
                let expected: std::collections::BTreeSet<_> =
                    inserted.iter().copied().map(ShardId).collect();
                let sorted: Vec<ShardId> = expected.iter().copied().collect();
                assert_eq!(set.as_slice(), sorted);
                assert_eq!(set, sorted.iter().rev().copied().collect());
                assert_eq!(set == ShardSet::one(ShardId(0)), sorted == [ShardId(0)]);
                let all = ShardSet::all(4);
                assert_eq!(all.intersect(&set), set);
                let mut extended = set.clone();
                extended.extend(&all);
                assert_eq!(extended, all);
            }
        }
        assert_eq!(ShardSet::all(1), ShardSet::one(ShardId(0)));
        assert!(ShardSet::all(0).is_empty());
    }
}
