//! SHOW SHARDS: Ringway's own table.

use super::table::{Cell, Column, Row, int4, text};

#[derive(Debug, Clone)]
pub struct ShardRow {
    pub database: String,
    pub shard: String,
    /// The name on the shard's servers.
    pub dbname: String,
    pub weight: u32,
    /// Slots that the shard owns, of 16,384.
    pub slots: usize,
    /// `host:port`, while one is known.
    pub primary: Option<String>,
    pub replicas: usize,
    /// Replicas that may answer reads now.
    pub replicas_fresh: usize,
    pub connections_active: usize,
    pub connections_idle: usize,
}

impl Row for ShardRow {
    const COLUMNS: &'static [Column] = &[
        text("database"),
        text("shard"),
        text("dbname"),
        int4("weight"),
        int4("slots"),
        text("primary"),
        int4("replicas"),
        int4("replicas_fresh"),
        int4("sv_active"),
        int4("sv_idle"),
    ];

    fn cells(self) -> Vec<Cell> {
        vec![
            self.database.into(),
            self.shard.into(),
            self.dbname.into(),
            self.weight.into(),
            self.slots.into(),
            self.primary.into(),
            self.replicas.into(),
            self.replicas_fresh.into(),
            self.connections_active.into(),
            self.connections_idle.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::printed;
    use super::*;

    #[test]
    fn row() {
        let row = ShardRow {
            database: "shop".into(),
            shard: "s1".into(),
            dbname: "shop_1".into(),
            weight: 1,
            slots: 8_192,
            primary: None,
            replicas: 2,
            replicas_fresh: 3,
            connections_active: 4,
            connections_idle: 5,
        };
        assert_eq!(
            printed([row]),
            "database|shard|dbname|weight|slots|primary|replicas|replicas_fresh|sv_active|sv_idle\n\
             shop|s1|shop_1|1|8192|NULL|2|3|4|5",
        );
    }
}
