//! Rows of the admin database about what a database keeps: plans, prepared statements, slots.

use planner::ring::{SLOTS, slot_table};

use super::rows::Look;
use crate::admin::{MemoryRow, PlansRow, PreparedRow, SlotsRow};
use crate::executor::database::Database;

pub fn plans(look: &Look) -> Vec<PlansRow> {
    let row = |db: &Database| {
        let (plans, bytes) = db.plans.usage();
        PlansRow {
            database: db.config.name.clone(),
            plans,
            bytes,
            max_bytes: db.plans.capacity(),
            hits: db.metrics.plan_cache_hits.get(),
            misses: db.metrics.plan_cache_misses.get(),
            catalog_version: db.cluster.catalog_version(),
        }
    };
    look.by_name().iter().map(|db| row(db)).collect()
}

/// Those that most hold first.
pub fn prepared(look: &Look) -> Vec<PreparedRow> {
    let mut rows = Vec::new();
    for db in look.by_name() {
        let mut of_database: Vec<_> = db
            .prepared()
            .into_iter()
            .map(|(statement, holders)| PreparedRow {
                database: db.config.name.clone(),
                name: String::from_utf8_lossy(&statement.id.server_name()).into_owned(),
                is_named: statement.is_named(),
                holders,
                bytes: statement.bytes(),
                is_outdated: statement.is_outdated(),
                statement: planner::digest(&statement.sql).text,
            })
            .collect();
        of_database.sort_by(|a, b| (b.holders, &a.statement).cmp(&(a.holders, &b.statement)));
        rows.extend(of_database);
    }
    rows
}

pub fn memory(look: &Look) -> Vec<MemoryRow> {
    let mut rows = Vec::new();
    for db in look.by_name() {
        let (plans, plan_bytes) = db.plans.usage();
        for (what, items, bytes) in [
            ("plans", plans, plan_bytes),
            (
                "prepared_statements",
                db.prepared().len(),
                db.statement_bytes(),
            ),
        ] {
            rows.push(MemoryRow {
                database: db.config.name.clone(),
                what,
                items,
                bytes,
            });
        }
    }
    rows
}

/// In the order of the slots.
pub fn slots(look: &Look) -> Vec<SlotsRow> {
    look.by_name()
        .iter()
        .flat_map(|db| of_database(db))
        .collect()
}

fn of_database(db: &Database) -> Vec<SlotsRow> {
    let topology = &db.config.topology;
    let by_ring = slot_table(topology.shards());
    let mut rows: Vec<SlotsRow> = Vec::new();
    let mut before = None;
    for slot in 0..SLOTS as u16 {
        let owner = topology.owner(slot);
        let now = (owner, by_ring[usize::from(slot)] != owner);
        match rows.last_mut() {
            Some(row) if before == Some(now) => row.last = slot,
            _ => rows.push(SlotsRow {
                database: db.config.name.clone(),
                first: slot,
                last: slot,
                shard: db.config.shards[usize::from(owner.0)].name.clone(),
                is_moved: now.1,
            }),
        }
        before = Some(now);
    }
    rows
}
