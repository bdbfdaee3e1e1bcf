//! Pools that a reload has put others in the place of. Sessions and leases keep them alive for as
//! long as they need them; who waits for their end, and who looks after them, finds them here.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Pool;
use crate::net::Instant;

/// One per process.
#[derive(Default)]
pub struct Retired(Mutex<Vec<Entry>>);

struct Entry {
    database: String,
    pool: Weak<Pool>,
}

impl Retired {
    /// Has a pool end: see [`Pool::retire`].
    pub fn retire(&self, database: &str, pool: &Arc<Pool>) {
        pool.retire();
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.pool.strong_count() > 0);
        entries.push(Entry {
            database: database.to_owned(),
            pool: Arc::downgrade(pool),
        });
    }

    /// Those that somebody still has, with the name of their database.
    pub fn pools(&self) -> Vec<(String, Arc<Pool>)> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let living = |entry: &Entry| Some((entry.database.clone(), entry.pool.upgrade()?));
        entries.iter().filter_map(living).collect()
    }

    /// No connection of a database, or of any, is open there.
    pub fn is_closed(&self, database: Option<&str>) -> bool {
        let pools = self.pools();
        let mut theirs = pools
            .iter()
            .filter(|(name, _)| database.is_none_or(|database| database == name));
        theirs.all(|(_, pool)| pool.usage() == (0, 0, 0))
    }

    /// Closes what nobody uses. To be called now and then.
    pub fn tend(&self, now: Instant) {
        for (_, pool) in self.pools() {
            pool.tend(now, false);
        }
    }
}
