//! The weighted consistent-hash ring that fixes the slot table.
//!
//! This algorithm is a promise: another one would move rows. Slot `s` sits on a ring of 2⁶⁴
//! points at `s · 2⁵⁰`. A shard of weight `w` has `4096 · w` virtual nodes; the n-th sits at the
//! hash of its name and n. A slot belongs to the first virtual node at or after it, and to the
//! shard whose name sorts first when two sit on one point. So a new shard takes slots only from
//! where its own virtual nodes land, and no slot moves between the others.

use crate::hash::hash_bytes;
use crate::topology::{ShardId, ShardWeight};

/// Slots of a database: the modulus of PostgreSQL's own hash partitioning.
pub const SLOTS: usize = 16_384;

/// Virtual nodes per unit of weight: enough that equal shards differ by less than 5 % from
/// the mean in slots.
const NODES_PER_WEIGHT: u64 = 4096;

/// Weights above this count as this; it keeps building a table short of a second.
const MAX_WEIGHT: u32 = 1000;

/// 64 - log2([`SLOTS`]).
const SLOT_SHIFT: u32 = 50;

/// The owner of every slot. Depends on names and weights only, not on order of the shards.
/// Without shards, every slot belongs to shard 0.
pub fn slot_table(shards: &[ShardWeight]) -> Box<[ShardId]> {
    // Only the lowest node between a slot and the next one can own the slot.
    let mut first: Vec<Option<(u64, usize)>> = vec![None; SLOTS];
    for (index, shard) in shards.iter().enumerate() {
        for point in nodes(shard) {
            let nearest = &mut first[(point >> SLOT_SHIFT) as usize];
            let closer = nearest.is_none_or(|(at, owner)| {
                (point, shard.name.as_str()) < (at, shards[owner].name.as_str())
            });
            if closer {
                *nearest = Some((point, index));
            }
        }
    }
    let wrapped = first.iter().flatten().next().map_or(0, |(_, owner)| *owner);
    let mut table = vec![ShardId(0); SLOTS].into_boxed_slice();
    let mut owner = wrapped;
    for slot in (0..SLOTS).rev() {
        if let Some((_, index)) = first[slot] {
            owner = index;
        }
        table[slot] = ShardId(owner as u16);
    }
    table
}

/// The points of a shard's virtual nodes.
fn nodes(shard: &ShardWeight) -> impl Iterator<Item = u64> {
    let count = NODES_PER_WEIGHT * u64::from(shard.weight.clamp(1, MAX_WEIGHT));
    let name = shard.name.as_bytes();
    // The n-th node hashes the name with n + 1 as the seed.
    (1..=count).map(|seed| hash_bytes(name, seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equal(names: &[&str]) -> Vec<ShardWeight> {
        names
            .iter()
            .map(|name| ShardWeight {
                name: (*name).into(),
                weight: 1,
            })
            .collect()
    }

    fn counts(table: &[ShardId], shards: usize) -> Vec<usize> {
        let mut counts = vec![0; shards];
        for shard in table {
            counts[shard.0 as usize] += 1;
        }
        counts
    }

    #[test]
    fn a_fourth_shard_takes_a_quarter_and_only_it_gains() {
        for names in [
            ["a", "b", "c", "d"],
            ["shard0", "shard1", "shard2", "shard3"],
            ["eu-west", "eu-north", "us-east", "us-west"],
            ["s1", "s2", "s3", "s4"],
        ] {
            let (old, new) = (slot_table(&equal(&names[..3])), slot_table(&equal(&names)));
            let moved: Vec<_> = (0..SLOTS).filter(|slot| old[*slot] != new[*slot]).collect();
            assert!(
                moved.iter().all(|slot| new[*slot] == ShardId(3)),
                "{names:?}"
            );
            let share = moved.len() as f64 / SLOTS as f64;
            assert!((0.23..=0.27).contains(&share), "{names:?}: {share}");
        }
    }

    #[test]
    fn equal_shards_differ_from_the_mean_by_less_than_five_percent() {
        for count in 1..=12 {
            let names: Vec<_> = (0..count).map(|n| format!("shard{n}")).collect();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let mean = SLOTS as f64 / count as f64;
            for slots in counts(&slot_table(&equal(&names)), count) {
                assert!(
                    (slots as f64 / mean - 1.0).abs() < 0.05,
                    "{count}: {slots} of {mean}"
                );
            }
        }
    }

    #[test]
    fn weights_are_shares() {
        let mut shards = equal(&["small", "large"]);
        shards[1].weight = 3;
        let share = counts(&slot_table(&shards), 2)[1] as f64 / SLOTS as f64;
        assert!((0.73..=0.77).contains(&share), "{share}");
    }

    #[test]
    fn order_of_the_shards_does_not_matter() {
        let (ab, ba) = (
            slot_table(&equal(&["a", "b"])),
            slot_table(&equal(&["b", "a"])),
        );
        assert!((0..SLOTS).all(|slot| ab[slot] != ba[slot]));
    }

    /// Pins the algorithm: these owners may never change.
    #[test]
    fn the_table_is_a_promise() {
        let table = slot_table(&equal(&["a", "b", "c"]));
        let digest = table
            .iter()
            .flat_map(|shard| shard.0.to_le_bytes())
            .collect::<Vec<_>>();
        assert_eq!(hash_bytes(&digest, 0), PROMISED);
    }

    const PROMISED: u64 = 8_365_196_103_048_876_893;
}
