//! SHOW PLANS: Ringway's own table, the plan cache of each database.

use super::table::{Cell, Column, Row, int4, int8, text};

#[derive(Debug, Clone)]
pub struct PlansRow {
    pub database: String,
    pub plans: usize,
    pub bytes: usize,
    pub max_bytes: usize,
    /// Statements whose plan was there, and those that had to be planned.
    pub hits: u64,
    pub misses: u64,
    /// Plans are of this version of the schema; another one empties the cache.
    pub catalog_version: u64,
}

impl Row for PlansRow {
    const COLUMNS: &'static [Column] = &[
        text("database"),
        int4("plans"),
        int8("bytes"),
        int8("max_bytes"),
        int8("hits"),
        int8("misses"),
        text("hit_percent"),
        int8("catalog_version"),
    ];

    fn cells(self) -> Vec<Cell> {
        let percent = 100.0 * self.hits as f64 / (self.hits + self.misses).max(1) as f64;
        vec![
            self.database.into(),
            self.plans.into(),
            self.bytes.into(),
            self.max_bytes.into(),
            self.hits.into(),
            self.misses.into(),
            format!("{percent:.1}").into(),
            self.catalog_version.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::printed;
    use super::*;

    #[test]
    fn row() {
        let row = PlansRow {
            database: "shop".into(),
            plans: 2,
            bytes: 3,
            max_bytes: 4,
            hits: 5,
            misses: 3,
            catalog_version: 6,
        };
        assert_eq!(
            printed([row]),
            "database|plans|bytes|max_bytes|hits|misses|hit_percent|catalog_version\n\
             shop|2|3|4|5|3|62.5|6"
        );
    }
}
