//! The configuration in force and what was built of it, replaced as a whole by a reload.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::auth::Authenticators;
use crate::config::{Config, PoolSettings, Timeouts, UserLimits};
use crate::error::Error;
use crate::executor::database::{Database, StatementIds};
use crate::net::TlsAcceptor;
use crate::pool::cap::Ledger;

/// One configuration and what was built of it. Replaced as a whole by a reload.
pub struct Directory {
    pub generation: u64,
    pub config: Config,
    pub authenticators: Authenticators,
    pub tls: Option<TlsAcceptor>,
    pub databases: HashMap<String, Arc<Database>>,
    /// `[databases."*"]`.
    pub wildcard: Option<Wildcard>,
    /// The same for all configurations of a process.
    pub ledger: Arc<Ledger>,
    pub statement_ids: Arc<StatementIds>,
}

/// Starts the database of a name, which is not in the configuration.
type MakeDatabase = dyn Fn(&str) -> Result<Arc<Database>, Error> + Send + Sync;

/// Databases for every other name, made when a client asks for one that the servers have.
#[derive(Clone)]
pub struct Wildcard {
    pub config: Arc<crate::config::Database>,
    /// Starts a database of this name.
    pub make: Arc<MakeDatabase>,
    pub made: Arc<Mutex<HashMap<String, Arc<Database>>>>,
}

/// Databases of the wildcard at a time: each of them is watched.
pub(super) const MAX_WILD: usize = 500;

impl Wildcard {
    pub(super) fn made(&self) -> MutexGuard<'_, HashMap<String, Arc<Database>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets databases that have neither clients nor server connections.
    pub fn forget_idle(&self) {
        let is_used = |db: &Arc<Database>| {
            let ordered = db.pools.is_paused() || db.pools.is_disabled();
            Arc::strong_count(db) > 1 || db.pools.is_in_use() || ordered
        };
        self.made().retain(|_, db| is_used(db));
    }
}

impl Directory {
    pub fn database(&self, name: &str) -> Option<Arc<Database>> {
        let made = || self.wildcard.as_ref()?.made().get(name).cloned();
        self.databases.get(name).cloned().or_else(made)
    }

    /// Those that the wildcard has made.
    pub fn wild_databases(&self) -> Vec<Arc<Database>> {
        let made = self.wildcard.as_ref().map(|wildcard| wildcard.made());
        made.map_or_else(Vec::new, |made| made.values().cloned().collect())
    }

    /// Every database, by name.
    pub fn all(&self) -> Vec<Arc<Database>> {
        let mut all: Vec<_> = self.databases.values().cloned().collect();
        all.extend(self.wild_databases());
        all.sort_by(|a, b| a.config.name.cmp(&b.config.name));
        all
    }

    /// The limits of a user's clients in a database.
    pub fn pool_settings(&self, user: &str, db: &Database) -> PoolSettings {
        match self.config.users.get(user) {
            Some(user) => user.limits.apply(&db.config.pool),
            None => db.config.pool.clone(),
        }
    }

    pub fn timeouts(&self, user: &str, db: &Database) -> Timeouts {
        self.pool_settings(user, db).timeouts
    }

    pub(super) fn user_limits(&self, user: &str) -> UserLimits {
        let user = self.config.users.get(user);
        user.map_or_else(UserLimits::default, |user| user.limits)
    }
}
