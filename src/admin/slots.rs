//! SHOW SLOTS: Ringway's own table, which shard owns which slots.

use super::table::{Cell, Column, Row, int4, text};

/// Slots in a row that belong to one shard for one reason.
#[derive(Debug, Clone)]
pub struct SlotsRow {
    pub database: String,
    pub first: u16,
    pub last: u16,
    pub shard: String,
    /// By `slot_overrides`, from another shard of the ring.
    pub is_moved: bool,
}

impl Row for SlotsRow {
    const COLUMNS: &'static [Column] = &[
        text("database"),
        int4("first_slot"),
        int4("last_slot"),
        int4("slots"),
        text("shard"),
        int4("moved"),
    ];

    fn cells(self) -> Vec<Cell> {
        let (first, last) = (u32::from(self.first), u32::from(self.last));
        vec![
            self.database.into(),
            first.into(),
            last.into(),
            (last + 1 - first).into(),
            self.shard.into(),
            self.is_moved.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::printed;
    use super::*;

    #[test]
    fn row() {
        let row = SlotsRow {
            database: "shop".into(),
            first: 7,
            last: 9,
            shard: "s1".into(),
            is_moved: true,
        };
        assert_eq!(
            printed([row]),
            "database|first_slot|last_slot|slots|shard|moved\nshop|7|9|3|s1|1"
        );
    }
}
