//! Which shard owns which slot, and which keys go by other rules.

use crate::hash;
use crate::key::Datum;
use crate::placement::{Placement, Rule, RuleId};
use crate::ring::{self, SLOTS};

/// A shard's position in the database's configuration, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// A set of shards, in ascending order and without repeats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardSet(Vec<ShardId>);

impl ShardSet {
    pub fn one(shard: ShardId) -> Self {
        Self(vec![shard])
    }

    /// Shards `0..count`.
    pub fn all(count: usize) -> Self {
        Self((0..count as u16).map(ShardId).collect())
    }

    pub fn insert(&mut self, shard: ShardId) {
        if let Err(at) = self.0.binary_search(&shard) {
            self.0.insert(at, shard);
        }
    }

    pub fn contains(&self, shard: ShardId) -> bool {
        self.0.binary_search(&shard).is_ok()
    }

    pub fn intersect(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .copied()
                .filter(|s| other.contains(*s))
                .collect(),
        )
    }

    pub fn extend(&mut self, other: &Self) {
        for shard in &other.0 {
            self.insert(*shard);
        }
    }

    pub fn as_slice(&self) -> &[ShardId] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
