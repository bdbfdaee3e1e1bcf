//! The plan cache: by shape, bounded in bytes, emptied when the catalog changes. With each plan it keeps
//! where statements of that shape are counted.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ahash::RandomState;
use planner::Catalog;
use planner::plan::{Plan, PlanOptions, plan};
use planner::shape::Shape;

use crate::cluster::OF_TRANSACTION;
use crate::metrics::Total;
use crate::metrics::digest::{Digest, Digests};

/// Charged per entry besides twice its key: the plan itself and the map's overhead.
const ENTRY_BYTES: usize = 512;

/// Two generations: what is used moves to `young`; when `young` is full it becomes `old`, and the
/// old `old` is forgotten. Every step is O(1), and what is used survives.
#[derive(Default)]
struct Generations {
    version: u64,
    young: HashMap<Box<[u8]>, Planned, RandomState>,
    old: HashMap<Box<[u8]>, Planned, RandomState>,
    young_bytes: usize,
    old_bytes: usize,
}

/// A plan, and where statements that have it are counted.
#[derive(Clone)]
pub struct Planned {
    pub plan: Arc<Plan>,
    /// `None` where no digests are kept.
    pub digest: Option<Arc<Digest>>,
}

pub struct PlanCache {
    capacity: usize,
    digests: Arc<Digests>,
    generations: Mutex<Generations>,
    hits: Arc<Total>,
    misses: Arc<Total>,
}

impl PlanCache {
    /// `capacity` in bytes, over both generations.
    pub fn new(
        capacity: usize,
        digests: Arc<Digests>,
        hits: Arc<Total>,
        misses: Arc<Total>,
    ) -> Self {
        Self {
            capacity,
            digests,
            generations: Mutex::default(),
            hits,
            misses,
        }
    }

    /// The plan of `sql`, whose shape is `shape`; `types` are the parameter types Parse declared.
    pub fn plan(&self, sql: &str, shape: &Shape, types: &[u32], catalog: &Catalog) -> Planned {
        if let Some(found) = self.known(shape, types, catalog.version) {
            return found;
        }
        self.misses.add(1);
        let made = Planned {
            plan: Arc::new(plan(
                sql,
                catalog,
                PlanOptions {
                    param_types: types,
                    ..PlanOptions::default()
                },
            )),
            digest: self.digests.of(sql),
        };
        if is_kept(catalog.version) {
            self.insert(&key(shape, types), catalog.version, &made);
        }
        made
    }

    /// As [`PlanCache::plan`] has made it under this version of the catalog, if it is here.
    pub fn known(&self, shape: &Shape, types: &[u32], version: u64) -> Option<Planned> {
        if !is_kept(version) {
            return None;
        }
        let found = self.lookup(&key(shape, types), version)?;
        self.hits.add(1);
        Some(found)
    }

    fn lookup(&self, key: &[u8], version: u64) -> Option<Planned> {
        let mut generations = self.generations.lock().ok()?;
        if generations.version != version {
            return None;
        }
        if let Some(plan) = generations.young.get(key) {
            return Some(plan.clone());
        }
        let (key, plan) = generations.old.remove_entry(key)?;
        let size = entry_size(&key);
        generations.old_bytes = generations.old_bytes.saturating_sub(size);
        let found = plan.clone();
        self.put(&mut generations, key, plan);
        Some(found)
    }

    fn insert(&self, key: &[u8], version: u64, plan: &Planned) {
        let Ok(mut generations) = self.generations.lock() else {
            return;
        };
        if generations.version != version {
            *generations = Generations {
                version,
                ..Generations::default()
            };
        }
        self.put(&mut generations, key.into(), plan.clone());
    }

    fn put(&self, generations: &mut Generations, key: Box<[u8]>, plan: Planned) {
        let size = entry_size(&key);
        if size > self.capacity / 2 {
            return;
        }
        if generations.young_bytes + size > self.capacity / 2 {
            generations.old = std::mem::take(&mut generations.young);
            generations.old_bytes = std::mem::take(&mut generations.young_bytes);
        }
        if generations.young.insert(key, plan).is_none() {
            generations.young_bytes += size;
        }
    }

    /// Bytes that it may take.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// (entries, bytes charged).
    pub fn usage(&self) -> (usize, usize) {
        self.generations
            .lock()
            .map(|g| (g.young.len() + g.old.len(), g.young_bytes + g.old_bytes))
            .unwrap_or_default()
    }
}

/// Others are one session's, and for a while.
fn is_kept(version: u64) -> bool {
    version < OF_TRANSACTION
}

/// Declared types change what a parameter can be a key for, so they are part of the key.
fn key<'a>(shape: &'a Shape, types: &[u32]) -> Cow<'a, [u8]> {
    if types.iter().all(|t| *t == 0) {
        return Cow::Borrowed(&shape.key);
    }
    let types = types.iter().flat_map(|t| t.to_be_bytes());
    Cow::Owned(shape.key.iter().copied().chain([0]).chain(types).collect())
}

fn entry_size(key: &[u8]) -> usize {
    ENTRY_BYTES + 2 * key.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache and the count of its misses.
    fn cache() -> (PlanCache, Arc<Total>) {
        let misses = Arc::new(Total::default());
        let digests = Arc::new(Digests::new(0, 1));
        let cache = PlanCache::new(64 * 1024, digests, Arc::default(), Arc::clone(&misses));
        (cache, misses)
    }

    fn shape(sql: &str) -> Shape {
        let mut shape = Shape::default();
        shape.scan(sql.as_bytes());
        shape
    }

    #[test]
    fn stays_within_its_bytes_and_keeps_what_is_used() {
        let (cache, misses) = cache();
        let catalog = Catalog::new(1, 1);
        let hot = "SELECT hot FROM t";
        for i in 0..1000 {
            let sql = format!("SELECT c{i} FROM t");
            cache.plan(&sql, &shape(&sql), &[], &catalog);
            cache.plan(hot, &shape(hot), &[], &catalog);
        }
        assert!(cache.usage().1 <= 64 * 1024);
        assert_eq!(misses.get(), 1001, "the hot plan was made once");
    }

    #[test]
    fn a_new_catalog_makes_new_plans() {
        let (cache, misses) = cache();
        let sql = "SELECT 1";
        cache.plan(sql, &shape(sql), &[], &Catalog::new(1, 1));
        cache.plan(sql, &shape(sql), &[], &Catalog::new(2, 1));
        assert_eq!(misses.get(), 2);
    }
}
