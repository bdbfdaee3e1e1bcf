//! PostgreSQL's partition hash: key -> slot, as `satisfies_hash_partition(…, 16384, slot, key)` has it.

/// Slot of a `smallint`, `integer` or `bigint` key (PostgreSQL hashes them alike).
pub fn slot_of_int(key: i64) -> u16 {
    let _ = key;
    0
}

/// Slot of a `text` or `varchar` key (its bytes; deterministic collations only).
pub fn slot_of_text(key: &[u8]) -> u16 {
    let _ = key;
    0
}

/// Slot of a `uuid` key.
pub fn slot_of_uuid(key: [u8; 16]) -> u16 {
    let _ = key;
    0
}
