//! SHOW DIGESTS, SHOW HOT_KEYS and SHOW HOT_SLOTS: Ringway's own tables of what statements cost, and
//! of the sharding keys that they are about.

use std::time::Duration;

use super::table::{Cell, Column, Row, int4, int8, text};

/// Keys of a digest that are shown: those of at least this share of its calls.
const HOT_PERCENT: u64 = 1;
const MOST_KEYS: usize = 5;

#[derive(Debug, Clone)]
pub struct DigestRow {
    pub database: String,
    /// Names of its shards, by id.
    pub shards: Vec<String>,
    pub digest: crate::metrics::digest::DigestRow,
}

#[derive(Debug, Clone)]
pub struct HotKeyRow {
    pub database: String,
    pub shard: String,
    pub key: crate::metrics::hot::HotKey,
}

#[derive(Debug, Clone)]
pub struct HotSlotRow(pub crate::metrics::HotSlot);

impl DigestRow {
    /// Those that surely are hot, with their share of the calls.
    fn keys(&self) -> String {
        let calls = self.digest.calls.max(1);
        let keys = self.digest.keys.iter();
        let hot = keys.filter(|key| key.sure() * 100 >= calls * HOT_PERCENT);
        let hot = hot.take(MOST_KEYS).map(|key| {
            let percent = (key.sure() * 100 / calls).min(100);
            format!("{} ({percent} %)", key.text)
        });
        hot.collect::<Vec<_>>().join(", ")
    }
}

impl Row for DigestRow {
    const COLUMNS: &'static [Column] = &[
        text("database"),
        text("digest"),
        int8("calls"),
        int8("errors"),
        int8("rows"),
        int8("total_us"),
        int8("mean_us"),
        int8("p50_us"),
        int8("p95_us"),
        int8("p99_us"),
        text("routes"),
        text("shards"),
        text("keys"),
        text("statement"),
    ];

    fn cells(self) -> Vec<Cell> {
        let keys = self.keys();
        let digest = self.digest;
        let routes: Vec<_> = digest.kinds.iter().map(|kind| kind.name()).collect();
        let name = |shard: &planner::ShardId| self.shards.get(usize::from(shard.0));
        let shards = digest.shards.iter().filter_map(name);
        let shards: Vec<_> = shards.map(String::as_str).collect();
        vec![
            self.database.into(),
            format!("{:016x}", digest.id).into(),
            digest.calls.into(),
            digest.errors.into(),
            digest.rows.into(),
            micros(digest.total),
            micros(digest.mean()),
            micros(digest.p50),
            micros(digest.p95),
            micros(digest.p99),
            routes.join(", ").into(),
            shards.join(", ").into(),
            keys.into(),
            digest.text.into(),
        ]
    }
}

fn micros(time: Duration) -> Cell {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).into()
}

impl Row for HotKeyRow {
    const COLUMNS: &'static [Column] = &[
        text("database"),
        text("key"),
        text("shard"),
        int4("slot"),
        int8("statements"),
        int8("at_least"),
    ];

    fn cells(self) -> Vec<Cell> {
        let sure = self.key.sure();
        vec![
            self.database.into(),
            self.key.text.into(),
            self.shard.into(),
            self.key.slot.map(u32::from).into(),
            self.key.statements.into(),
            sure.into(),
        ]
    }
}

impl Row for HotSlotRow {
    const COLUMNS: &'static [Column] = &[
        text("database"),
        int4("slot"),
        text("shard"),
        int8("statements"),
    ];

    fn cells(self) -> Vec<Cell> {
        vec![
            self.0.database.into(),
            u32::from(self.0.slot).into(),
            self.0.shard.into(),
            self.0.statements.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use planner::ShardId;

    use super::super::table::tests::printed;
    use super::*;
    use crate::metrics::RouteKind;
    use crate::metrics::hot::HotKey;

    fn key(text: &str, statements: u64, unsure: u64) -> HotKey {
        HotKey {
            text: text.into(),
            slot: Some(7),
            shard: ShardId(1),
            statements,
            unsure,
        }
    }

    #[test]
    fn digest_row() {
        let row = DigestRow {
            database: "shop".into(),
            shards: vec!["s1".into(), "s2".into()],
            digest: crate::metrics::digest::DigestRow {
                id: 0xab,
                text: "SELECT ?".into(),
                calls: 1000,
                errors: 2,
                rows: 3,
                total: Duration::from_millis(50),
                p50: Duration::from_micros(40),
                p95: Duration::from_micros(60),
                p99: Duration::from_micros(70),
                kinds: vec![RouteKind::Direct, RouteKind::Merge],
                shards: vec![ShardId(0), ShardId(1)],
                keys: vec![key("17", 310, 10), key("rare", 900, 895)],
            },
        };
        assert_eq!(
            printed([row]),
            "database|digest|calls|errors|rows|total_us|mean_us|p50_us|p95_us|p99_us|routes|shards|\
             keys|statement\n\
             shop|00000000000000ab|1000|2|3|50000|50|40|60|70|direct, merge|s1, s2|17 (30 %)|SELECT ?",
        );
    }

    #[test]
    fn rows_of_keys_and_slots() {
        let row = HotKeyRow {
            database: "shop".into(),
            shard: "s2".into(),
            key: key("17", 31, 1),
        };
        assert_eq!(
            printed([row]),
            "database|key|shard|slot|statements|at_least\nshop|17|s2|7|31|30"
        );
        let row = HotSlotRow(crate::metrics::HotSlot {
            database: "shop".into(),
            shard: "s2".into(),
            slot: 7,
            statements: 31,
        });
        assert_eq!(
            printed([row]),
            "database|slot|shard|statements\nshop|7|s2|31"
        );
    }
}
