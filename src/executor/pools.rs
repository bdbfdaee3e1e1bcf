//! The pools of one database, and what an operator has ordered for it.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use planner::ShardId;
use tokio::sync::Notify;

use super::roles::Order;
use crate::backend::connect::ConnectTarget;
use crate::cluster::EndpointId;
use crate::config::{self, ServerUser};
use crate::metrics::{DatabaseMetrics, ServerMetrics};
use crate::net::Instant;
use crate::pool::cap::{Cap, Ledger, Share};
use crate::pool::{Denied, Pool};

/// One server of the database and the user who logs in there.
pub type Key = (ShardId, EndpointId, String);

/// As whom somebody's statements run.
pub trait AsUser: Sync {
    /// With the password of now. Asked while the pools are locked: who came with one that was replaced
    /// meanwhile must not put an old pool in the place of a new one.
    fn now(&self) -> ServerUser;
}

impl AsUser for ServerUser {
    fn now(&self) -> ServerUser {
        self.clone()
    }
}

pub struct Pools {
    /// Of the database, as clients call it.
    name: String,
    pools: Mutex<HashMap<Key, Arc<Pool>>>,
    /// `max_db_connections` of each server, by shard and endpoint.
    caps: Vec<Vec<Arc<Cap>>>,
    ledger: Arc<Ledger>,
    /// PAUSE: no statement gets a server connection, but those of a transaction that has one.
    /// Changed with `pools` locked.
    paused: AtomicBool,
    /// A reload has put others in their place. Changed with `pools` locked.
    retired: AtomicBool,
    /// DISABLE: no client may log in.
    disabled: AtomicBool,
    /// Every client logs in to the servers as the same user.
    shared: bool,
    /// Resumed or retired.
    news: Notify,
}

impl Pools {
    pub fn new(config: &config::Database, ledger: Arc<Ledger>) -> Self {
        let limit = config.pool.max_connections;
        let of_shard =
            |shard: &config::Shard| shard.endpoints.iter().map(|_| Cap::new(limit)).collect();
        Self {
            name: config.name.clone(),
            pools: Mutex::default(),
            caps: config.shards.iter().map(of_shard).collect(),
            ledger,
            paused: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            disabled: AtomicBool::new(false),
            shared: config.server_user.is_some(),
            news: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool of one server for one user; another one once the user has another password.
    pub(super) fn pool(
        &self,
        (shard, endpoint): (ShardId, EndpointId),
        login: &dyn AsUser,
        target: impl FnOnce(ServerUser) -> ConnectTarget,
        config: &config::Database,
        metrics: &Arc<DatabaseMetrics>,
        server: &Arc<ServerMetrics>,
    ) -> Arc<Pool> {
        let mut pools = self.lock();
        let user = login.now();
        let key = (shard, endpoint, user.name.clone());
        let old = pools.get(&key);
        if let Some(pool) = old.filter(|pool| pool.secret == user.secret) {
            return Arc::clone(pool);
        }
        if let Some(old) = old {
            self.ledger.retired.retire(&self.name, old);
        }
        let of_server = &self.caps[usize::from(shard.0)][usize::from(endpoint.0)];
        let settings = self.ledger.settings(&user.name, &config.pool);
        let caps = [self.ledger.user(&user.name), Arc::clone(of_server)];
        let pool = Pool::new(
            target(user),
            settings,
            Arc::clone(metrics),
            Arc::clone(server),
            caps,
        );
        if self.is_paused() {
            pool.pause();
        }
        if self.retired.load(Relaxed) {
            self.ledger.retired.retire(&self.name, &pool);
        }
        pools.insert(key, Arc::clone(&pool));
        pool
    }

    /// All pools with the shard and server they belong to.
    pub fn all(&self) -> Vec<(ShardId, EndpointId, Arc<Pool>)> {
        let pools = self.lock();
        let pools = pools.iter();
        pools
            .map(|((shard, endpoint, _), pool)| (*shard, *endpoint, Arc::clone(pool)))
            .collect()
    }

    fn each(&self) -> impl Iterator<Item = Arc<Pool>> {
        self.all().into_iter().map(|(_, _, pool)| pool)
    }

    /// Limits of a new configuration, for pools that there are.
    pub fn apply(&self, config: &config::Database) {
        for cap in self.caps.iter().flatten() {
            cap.set_limit(config.pool.max_connections);
        }
        for pool in self.each() {
            let settings = self.ledger.settings(&pool.key.user, &config.pool);
            if settings != pool.settings() {
                pool.apply(settings);
            }
        }
    }

    /// Looks after every pool, and forgets those that nobody uses; see [`Pool::tend`].
    pub fn tend(&self, now: Instant) {
        for pool in self.each() {
            pool.tend(now, self.shared);
        }
        let unused = |pool: &Arc<Pool>| {
            Arc::strong_count(pool) == 1 && pool.usage() == (0, 0, 0) && pool.waiting() == 0
        };
        self.lock().retain(|_, pool| !unused(pool));
    }

    /// A connection is open, or a session waits for one.
    pub fn is_in_use(&self) -> bool {
        self.each()
            .any(|pool| pool.usage() != (0, 0, 0) || pool.waiting() > 0)
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    pub fn is_disabled(&self) -> bool {
        self.disabled.load(Relaxed)
    }

    pub fn disable(&self, disabled: bool) {
        self.disabled.store(disabled, Relaxed);
    }

    /// What was ordered for the database outlives a change of its configuration. These are not in
    /// force yet, or the same.
    pub fn obey_as(&self, old: &Self) {
        self.disable(old.is_disabled());
        if old.is_paused() {
            self.pause();
        }
    }

    /// Lends only to who is amid a transaction from now on, and closes connections as they come
    /// back.
    pub fn pause(&self) {
        let pools = self.lock();
        self.paused.store(true, Relaxed);
        pools.values().for_each(|pool| pool.pause());
    }

    /// False if it was not paused.
    pub fn resume(&self) -> bool {
        let pools = self.lock();
        let was_paused = self.paused.swap(false, Relaxed);
        if was_paused {
            pools.values().for_each(Pool::resume);
            self.news.notify_waiters();
        }
        was_paused
    }

    /// Waits until none of its connections is open, as happens in a pause.
    pub async fn all_closed(&self) {
        for pool in self.each() {
            pool.all_closed().await;
        }
    }

    /// Closes idle connections now, and others when they come back.
    pub fn reconnect(&self) {
        self.each().for_each(|pool| pool.reconnect());
    }

    /// The database is gone or another: what is idle is closed, and what comes back.
    pub fn retire(&self) {
        let pools = self.lock();
        self.retired.store(true, Relaxed);
        for pool in pools.values() {
            self.ledger.retired.retire(&self.name, pool);
        }
        self.news.notify_waiters();
    }

    /// Waits for the end of a pause.
    ///
    /// # Errors
    /// [`Denied::Gone`] if a reload has ended it.
    pub(super) async fn until_lending(&self) -> Result<(), Denied> {
        loop {
            let mut news = pin!(self.news.notified());
            news.as_mut().enable();
            if !self.is_paused() {
                return Ok(());
            }
            if self.retired.load(Relaxed) {
                return Err(Denied::Gone);
            }
            news.await;
        }
    }

    /// A server has another role, is down, or is back.
    pub(super) fn obey(&self, shard: ShardId, endpoint: EndpointId, order: Order) {
        let all = self.all().into_iter();
        for (_, _, pool) in all.filter(|(s, e, _)| (*s, *e) == (shard, endpoint)) {
            match order {
                Order::Demote => pool.demote(),
                Order::Leave => pool.leave(),
                Order::Return => pool.forget_failure(),
            }
        }
    }

    /// Connections that are to be closed and still open.
    pub fn closing(&self) -> usize {
        self.each().map(|pool| pool.closing()).sum()
    }

    /// What a connection that belongs to no pool takes from the caps of its user and its server; `None`
    /// when one is full and nothing under it is idle.
    pub fn shares(&self, shard: ShardId, endpoint: EndpointId, user: &str) -> Option<[Share; 2]> {
        let of_server = &self.caps[usize::from(shard.0)][usize::from(endpoint.0)];
        Some([self.ledger.user(user).share()?, of_server.share()?])
    }

    /// (connections to one server, its cap), for SHOW DATABASES.
    pub fn cap(&self, shard: ShardId, endpoint: EndpointId) -> (u32, u32) {
        let cap = &self.caps[usize::from(shard.0)][usize::from(endpoint.0)];
        (cap.used(), cap.limit())
    }
}
