//! SHOW TRANSACTIONS and SHOW IN_DOUBT: Ringway's own tables.

use std::time::Duration;

use super::table::{Cell, Column, Row, int4, int8, text};

/// A commit over several shards that is under way in this process.
#[derive(Debug, Clone)]
pub struct TransactionRow {
    pub database: String,
    pub transaction: String,
    pub phase: &'static str,
    pub age: Duration,
    /// That have written; it is decided on the first.
    pub shards: Vec<String>,
}

impl Row for TransactionRow {
    const COLUMNS: &'static [Column] = &[
        text("database"),
        text("transaction"),
        text("phase"),
        int8("age_ms"),
        int4("shard_count"),
        text("decision_shard"),
        text("shards"),
    ];

    fn cells(self) -> Vec<Cell> {
        vec![
            self.database.into(),
            self.transaction.into(),
            self.phase.into(),
            millis(self.age),
            self.shards.len().into(),
            self.shards.first().cloned().into(),
            self.shards.join(", ").into(),
        ]
    }
}

/// A prepared transaction that no commit of this process is at work on.
#[derive(Debug, Clone)]
pub struct InDoubtRow {
    pub database: String,
    /// Where it is prepared.
    pub shard: String,
    pub transaction: String,
    /// Where it is decided, if that is a shard of the database.
    pub decision_shard: Option<String>,
    pub owner: String,
    pub age: Duration,
    /// What recovery made of it last.
    pub note: &'static str,
    /// Its name in pg_prepared_xacts.
    pub gid: String,
}

impl Row for InDoubtRow {
    const COLUMNS: &'static [Column] = &[
        text("database"),
        text("shard"),
        text("transaction"),
        text("decision_shard"),
        text("owner"),
        int8("age_ms"),
        text("note"),
        text("gid"),
    ];

    fn cells(self) -> Vec<Cell> {
        vec![
            self.database.into(),
            self.shard.into(),
            self.transaction.into(),
            self.decision_shard.into(),
            self.owner.into(),
            millis(self.age),
            self.note.into(),
            self.gid.into(),
        ]
    }
}

fn millis(age: Duration) -> Cell {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX).into()
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::printed;
    use super::*;

    #[test]
    fn rows() {
        let running = TransactionRow {
            database: "shop".into(),
            transaction: "0a".into(),
            phase: "deciding",
            age: Duration::from_millis(7),
            shards: vec!["s1".into(), "s2".into()],
        };
        assert_eq!(
            printed([running]),
            "database|transaction|phase|age_ms|shard_count|decision_shard|shards\n\
             shop|0a|deciding|7|2|s1|s1, s2",
        );
        let doubt = InDoubtRow {
            database: "shop".into(),
            shard: "s2".into(),
            transaction: "0a".into(),
            decision_shard: None,
            owner: "0b".into(),
            age: Duration::from_secs(3),
            note: "its coordinator is alive",
            gid: "ringway/1/0a".into(),
        };
        assert_eq!(
            printed([doubt]),
            "database|shard|transaction|decision_shard|owner|age_ms|note|gid\n\
             shop|s2|0a|NULL|0b|3000|its coordinator is alive|ringway/1/0a",
        );
    }
}
