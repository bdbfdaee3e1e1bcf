//! PostgreSQL's partition hash: key -> slot, as `satisfies_hash_partition(…, 16384, slot, key)` has it.
//!
//! The functions are those of PostgreSQL's `src/common/hashfn.c` (Bob Jenkins' lookup3 with a
//! 64-bit seed) and `hashint8extended`, `hashtextextended`, `uuid_hash_extended`,
//! `hash_numeric_extended`, which have not changed since PostgreSQL 11: stored partitions depend on
//! them.

use crate::key::{Digits, Numeric};

/// `HASH_PARTITION_SEED` of PostgreSQL's `catalog/partition.h`.
const PARTITION_SEED: u64 = 0x7A5B_2236_7996_DCFD;

/// Slot of a `smallint`, `integer` or `bigint` key (PostgreSQL hashes them alike).
pub fn slot_of_int(key: i64) -> u16 {
    slot_of([hash_int(key)])
}

/// Slot of a `text` or `varchar` key (its bytes; deterministic collations only).
pub fn slot_of_text(key: &[u8]) -> u16 {
    slot_of([hash_text(key)])
}

/// Slot of a `uuid` key.
pub fn slot_of_uuid(key: [u8; 16]) -> u16 {
    slot_of([hash_text(&key)])
}

/// Slot of a row, from the hash of each of its key's columns in order.
pub(crate) fn slot_of(hashes: impl IntoIterator<Item = u64>) -> u16 {
    let row = hashes.into_iter().fold(0, hash_combine64);
    (row & 0x3FFF) as u16
}

/// `hash_combine64`.
fn hash_combine64(a: u64, b: u64) -> u64 {
    a ^ b
        .wrapping_add(0x49A0_F4DD_15E5_A8E3)
        .wrapping_add(a << 54)
        .wrapping_add(a >> 7)
}

/// Hash of an integer of any width; also of a date's days and a timestamp's microseconds.
pub(crate) fn hash_int(key: i64) -> u64 {
    let low = key as u32;
    let high = (key >> 32) as u32;
    // Folds the halves so that a value hashes alike in all three widths.
    let folded = low ^ if key >= 0 { high } else { !high };
    hash_uint32(folded, PARTITION_SEED)
}

/// Hash of the bytes of a text, a `bytea` or a `uuid`.
pub(crate) fn hash_text(key: &[u8]) -> u64 {
    hash_bytes(key, PARTITION_SEED)
}

/// `hash_numeric_extended`.
pub(crate) fn hash_numeric(key: &Numeric) -> u64 {
    match key {
        Numeric::Special => PARTITION_SEED,
        Numeric::Finite(Digits { groups, .. }) if groups.is_empty() => PARTITION_SEED - 1,
        Numeric::Finite(Digits { groups, weight, .. }) => {
            // PostgreSQL hashes its digits as they lie in memory.
            let bytes: Vec<u8> = groups.iter().flat_map(|g| g.to_le_bytes()).collect();
            hash_text(&bytes) ^ i64::from(*weight) as u64
        }
    }
}

/// The three words of lookup3's internal state.
struct State {
    a: u32,
    b: u32,
    c: u32,
}

impl State {
    fn new(length: u32, seed: u64) -> Self {
        let start = 0x9E37_79B9_u32.wrapping_add(length).wrapping_add(3_923_095);
        let mut state = Self {
            a: start,
            b: start,
            c: start,
        };
        if seed != 0 {
            state.add((seed >> 32) as u32, seed as u32, 0);
            state.mix();
        }
        state
    }

    fn add(&mut self, a: u32, b: u32, c: u32) {
        self.a = self.a.wrapping_add(a);
        self.b = self.b.wrapping_add(b);
        self.c = self.c.wrapping_add(c);
    }

    /// `mix` of hashfn.c.
    fn mix(&mut self) {
        let Self {
            mut a,
            mut b,
            mut c,
        } = *self;
        a = a.wrapping_sub(c) ^ c.rotate_left(4);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(6);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(8);
        b = b.wrapping_add(a);
        a = a.wrapping_sub(c) ^ c.rotate_left(16);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(19);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(4);
        b = b.wrapping_add(a);
        *self = Self { a, b, c };
    }

    /// `final` of hashfn.c, then the 64 bits of `b` and `c`.
    fn finish(self) -> u64 {
        let Self {
            mut a,
            mut b,
            mut c,
        } = self;
        c = (c ^ b).wrapping_sub(b.rotate_left(14));
        a = (a ^ c).wrapping_sub(c.rotate_left(11));
        b = (b ^ a).wrapping_sub(a.rotate_left(25));
        c = (c ^ b).wrapping_sub(b.rotate_left(16));
        a = (a ^ c).wrapping_sub(c.rotate_left(4));
        b = (b ^ a).wrapping_sub(a.rotate_left(14));
        c = (c ^ b).wrapping_sub(b.rotate_left(24));
        (u64::from(b) << 32) | u64::from(c)
    }
}

/// `hash_bytes_uint32_extended`.
fn hash_uint32(key: u32, seed: u64) -> u64 {
    let mut state = State::new(4, seed);
    state.add(key, 0, 0);
    state.finish()
}

/// `hash_bytes_extended`, as on a little-endian machine.
pub(crate) fn hash_bytes(key: &[u8], seed: u64) -> u64 {
    let mut state = State::new(key.len() as u32, seed);
    let mut blocks = key.chunks_exact(12);
    for block in &mut blocks {
        state.add(word(&block[..4]), word(&block[4..8]), word(&block[8..]));
        state.mix();
    }
    let rest = blocks.remainder();
    let part = |from: usize, to: usize| word(&rest[from.min(rest.len())..to.min(rest.len())]);
    // The lowest byte of `c` belongs to the length.
    state.add(part(0, 4), part(4, 8), part(8, 11) << 8);
    state.finish()
}

/// Up to four bytes as a little-endian word.
fn word(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, byte| (word << 8) | u32::from(*byte))
}
