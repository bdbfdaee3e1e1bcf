//! SHOW MEM: PgBouncer's columns, for what Ringway keeps beside connections.

use super::table::{Cell, Column, Row, int4, int8, text};

/// One cache of one database. Its items differ in size and are not kept for reuse, so `size` and `free` are
/// NULL.
#[derive(Debug, Clone)]
pub struct MemoryRow {
    pub database: String,
    pub what: &'static str,
    pub items: usize,
    pub bytes: usize,
}

impl Row for MemoryRow {
    const COLUMNS: &'static [Column] = &[
        text("name"),
        int4("size"),
        int4("used"),
        int4("free"),
        int8("memtotal"),
    ];

    fn cells(self) -> Vec<Cell> {
        vec![
            format!("{}.{}", self.database, self.what).into(),
            Cell::Null,
            self.items.into(),
            Cell::Null,
            self.bytes.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::printed;
    use super::*;

    #[test]
    fn row() {
        let row = MemoryRow {
            database: "shop".into(),
            what: "plans",
            items: 3,
            bytes: 4_000,
        };
        assert_eq!(
            printed([row]),
            "name|size|used|free|memtotal\nshop.plans|NULL|3|NULL|4000"
        );
    }
}
