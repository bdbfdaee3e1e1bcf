//! Limits that several pools share: server connections per user, and per database and server.
//!
//! A pool takes from its caps before it opens a connection. When a cap is full, an idle connection
//! of another pool of that cap makes room; when there is none, the pool stands in the cap's line,
//! and connections that come back elsewhere make room for it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Pool;
use super::retired::Retired;
use crate::config::{PoolSettings, User, UserLimits};
use crate::net::Instant;

/// A pool in line waits this long before others that have clients waiting too make room for it:
/// reopening connections costs more than they are worth to short statements.
const PATIENCE: Duration = Duration::from_secs(1);

pub struct Cap {
    /// 0 is no limit.
    limit: AtomicU32,
    used: AtomicU32,
    /// As long as `line`, for a look that takes no lock.
    hungry: AtomicUsize,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    pools: Vec<Weak<Pool>>,
    /// Pools that had to wait for room, and since when.
    line: VecDeque<(Weak<Pool>, Instant)>,
}

impl Cap {
    pub fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicU32::new(limit),
            used: AtomicU32::new(0),
            hungry: AtomicUsize::new(0),
            members: Mutex::default(),
        })
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn join(&self, pool: &Weak<Pool>) {
        let mut members = self.members();
        members.pools.retain(|pool| pool.strong_count() > 0);
        members.pools.push(Weak::clone(pool));
    }

    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    pub fn used(&self) -> u32 {
        self.used.load(Relaxed)
    }

    /// A lower limit holds for connections opened from now on.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Relaxed);
    }

    fn take(&self) -> bool {
        let limit = self.limit();
        let more = |used| (limit == 0 || used < limit).then_some(used + 1);
        self.used.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn give_back(&self) {
        self.used.fetch_sub(1, Relaxed);
    }

    fn has_room(&self) -> bool {
        self.limit() == 0 || self.used() < self.limit()
    }

    /// Lets the first pool in line that can make use of it open a connection.
    pub(super) fn serve_line(&self) {
        while self.hungry.load(Relaxed) > 0 && self.has_room() {
            let first = {
                let mut members = self.members();
                let first = members.line.pop_front();
                self.hungry.store(members.line.len(), Relaxed);
                first
            };
            // Not under the lock: the last owner of a pool gives back its shares.
            let pool = first.and_then(|(pool, _)| pool.upgrade());
            if pool.is_some_and(|pool| pool.waiting() > 0 && pool.grow()) {
                return;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_waited_for(&self) -> bool {
        self.hungry.load(Relaxed) > 0
    }

    /// For a connection that belongs to no pool; `None` when the cap is full and nothing is idle.
    pub fn share(self: &Arc<Self>) -> Option<Share> {
        let caps: Arc<[Arc<Self>]> = [Arc::clone(self)].into();
        loop {
            match Share::take(&caps) {
                Ok(share) => return Some(share),
                Err(cap) if cap.evict(&Weak::new()) => {}
                Err(_) => return None,
            }
        }
    }

    /// Puts a pool in line, unless it stands there.
    pub(super) fn stand_in_line(&self, pool: &Weak<Pool>) {
        let mut members = self.members();
        if !members.line.iter().any(|(other, _)| other.ptr_eq(pool)) {
            members.line.push_back((Weak::clone(pool), Instant::now()));
        }
        self.hungry.store(members.line.len(), Relaxed);
    }

    /// Closes an idle connection of another pool; false when there is none.
    pub(super) fn evict(&self, but: &Weak<Pool>) -> bool {
        let mut pools: Vec<Arc<Pool>> = {
            let members = self.members();
            let others = members.pools.iter().filter(|pool| !pool.ptr_eq(but));
            others.filter_map(Weak::upgrade).collect()
        };
        // The one with most to spare.
        pools.sort_by_key(|pool| std::cmp::Reverse(pool.idle()));
        pools.iter().any(|pool| pool.close_one_idle())
    }

    /// Whether a connection that comes back to `pool` has to make room for another pool.
    pub(super) fn wants_room(&self, pool: &Pool) -> bool {
        if self.hungry.load(Relaxed) == 0 || self.has_room() {
            return false;
        }
        let members = self.members();
        let first = members.line.front();
        first.is_some_and(|(first, since)| {
            !std::ptr::eq(first.as_ptr(), pool)
                && (pool.waiting() == 0 || since.elapsed() > PATIENCE)
        })
    }
}

/// What one connection, open or being opened, takes from its caps; given back when dropped.
pub struct Share(Arc<[Arc<Cap>]>);

impl Share {
    /// # Errors
    /// The cap that is full.
    pub(super) fn take(caps: &Arc<[Arc<Cap>]>) -> Result<Self, Arc<Cap>> {
        for (at, cap) in caps.iter().enumerate() {
            if !cap.take() {
                caps.iter().take(at).for_each(|cap| cap.give_back());
                return Err(Arc::clone(cap));
            }
        }
        Ok(Self(Arc::clone(caps)))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        for cap in self.0.iter() {
            cap.give_back();
        }
        for cap in self.0.iter() {
            cap.serve_line();
        }
    }
}

/// What the configuration says of users, and what there is over all databases: caps, and pools that
/// are no database's any more. One per process.
#[derive(Default)]
pub struct Ledger {
    pub retired: Retired,
    rules: ArcSwap<Rules>,
    users: Mutex<HashMap<String, Arc<Cap>>>,
}

#[derive(Default)]
struct Rules {
    users: BTreeMap<String, UserLimits>,
    /// For users who say nothing else; 0 is no limit.
    max_user_connections: u32,
}

impl Ledger {
    /// A new configuration; caps that are lower now hold for connections opened from now on.
    pub fn apply<'u>(&self, users: impl IntoIterator<Item = &'u User>, max_user_connections: u32) {
        let users = users.into_iter();
        self.rules.store(Arc::new(Rules {
            users: users.map(|user| (user.name.clone(), user.limits)).collect(),
            max_user_connections,
        }));
        let caps = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, cap) in caps.iter() {
            cap.set_limit(self.max_connections(name));
        }
    }

    /// The settings of the pools that log in as `user`.
    pub fn settings(&self, user: &str, database: &PoolSettings) -> PoolSettings {
        match self.rules.load().users.get(user) {
            Some(limits) => limits.apply(database),
            None => database.clone(),
        }
    }

    fn max_connections(&self, user: &str) -> u32 {
        let rules = self.rules.load();
        let own = rules.users.get(user).and_then(|user| user.max_connections);
        own.unwrap_or(rules.max_user_connections)
    }

    /// The cap of all connections that log in as `user`.
    pub fn user(&self, user: &str) -> Arc<Cap> {
        let mut caps = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = self.max_connections(user);
        let cap = caps
            .entry(user.to_owned())
            .or_insert_with(|| Cap::new(limit));
        Arc::clone(cap)
    }
}
