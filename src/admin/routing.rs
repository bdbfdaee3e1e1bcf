//! SHOW ROUTING: Ringway's own table, why reads went where they went, and where transactions read.

use super::table::{Cell, Column, Row, int8, text};

#[derive(Debug, Clone)]
pub struct RoutingRow {
    pub database: String,
    /// Of the server that answered; `retry` for those that had been sent to another before; `transaction`
    /// for blocks, by their kind.
    pub role: &'static str,
    pub reason: &'static str,
    /// Since the process started.
    pub reads: u64,
    /// Reads of the database, or its blocks, whatever the reason.
    pub all: u64,
    /// The reason as a sentence.
    pub meaning: &'static str,
}

impl Row for RoutingRow {
    const COLUMNS: &'static [Column] = &[
        text("database"),
        text("role"),
        text("reason"),
        int8("reads"),
        text("percent"),
        text("meaning"),
    ];

    fn cells(self) -> Vec<Cell> {
        let percent = 100.0 * self.reads as f64 / self.all.max(1) as f64;
        vec![
            self.database.into(),
            self.role.into(),
            self.reason.into(),
            self.reads.into(),
            format!("{percent:.1}").into(),
            self.meaning.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::printed;
    use super::*;

    #[test]
    fn row() {
        let row = |reads, all| RoutingRow {
            database: "shop".into(),
            role: "replica",
            reason: "fresh_replica",
            reads,
            all,
            meaning: "A replica was fresh enough.",
        };
        assert_eq!(
            printed([row(2, 3), row(0, 0)]),
            "database|role|reason|reads|percent|meaning\n\
             shop|replica|fresh_replica|2|66.7|A replica was fresh enough.\n\
             shop|replica|fresh_replica|0|0.0|A replica was fresh enough.",
        );
    }
}
