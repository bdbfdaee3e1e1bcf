//! One configured database as sessions use it: its cluster, pools, plans and statement names.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};

use planner::ShardId;

use super::plans::PlanCache;
use crate::backend::connect::ConnectTarget;
use crate::backend::server::{Settings, StatementId};
use crate::cluster::{Cluster, EndpointId, MonitorGuard};
use crate::config::{self, ServerUser};
use crate::error::Error;
use crate::metrics::{DatabaseMetrics, Metrics, ServerMetrics};
use crate::net::TlsConnector;
use crate::pool::Pool;

/// Welcome messages kept: one per combination of startup settings seen.
const MAX_WELCOMES: usize = 256;

pub struct Database {
    pub config: Arc<config::Database>,
    pub cluster: Arc<Cluster>,
    pub plans: PlanCache,
    pub metrics: Arc<DatabaseMetrics>,
    /// By shard and endpoint.
    server_metrics: Vec<Vec<Arc<ServerMetrics>>>,
    /// Stops the monitors with the last user of this database.
    _monitor: MonitorGuard,
    tls: Option<TlsConnector>,
    pools: Mutex<HashMap<(ShardId, EndpointId, String), Arc<Pool>>>,
    statements: Statements,
    /// By server user and the settings a client starts with.
    welcomes: Mutex<HashMap<(String, Arc<Settings>), Parameters>>,
}

/// ParameterStatus names and values.
pub type Parameters = Arc<Vec<(String, String)>>;

impl Database {
    /// Starts watching the servers, on the current runtime.
    ///
    /// # Errors
    /// TLS settings that cannot be used.
    pub fn start(
        config: Arc<config::Database>,
        fallback: Option<&ServerUser>,
        plan_cache_bytes: usize,
        metrics: &Metrics,
    ) -> Result<Self, Error> {
        let tls = crate::backend::tls::connector(
            config.server_tls,
            config.server_ca.as_deref(),
            config.server_certificate.as_ref(),
        )?;
        let (cluster, monitor) = Cluster::start(Arc::clone(&config), fallback, tls.clone());
        let name = &config.name;
        let handles = metrics.database(name);
        let of_shard = |shard: &config::Shard| {
            let endpoints = shard.endpoints.iter();
            endpoints
                .map(|endpoint| Arc::new(metrics.server(name, &shard.name, &endpoint.to_string())))
                .collect()
        };
        let server_metrics = config.shards.iter().map(of_shard).collect();
        let hits = handles.plan_cache_hits.clone();
        let misses = handles.plan_cache_misses.clone();
        Ok(Self {
            metrics: handles,
            server_metrics,
            config,
            cluster,
            _monitor: monitor,
            plans: PlanCache::new(plan_cache_bytes, hits, misses),
            tls,
            pools: Mutex::default(),
            statements: Statements::default(),
            welcomes: Mutex::default(),
        })
    }

    /// The pool of one server for one server user, made on first use, and anew once a reload gave
    /// the user another password; connections lent by the old pool close when they come back.
    pub fn pool(
        &self,
        shard: ShardId,
        endpoint: EndpointId,
        user: &ServerUser,
    ) -> Result<Arc<Pool>, Error> {
        let mut pools = self.pools.lock().map_err(|_| poisoned())?;
        let key = (shard, endpoint, user.name.clone());
        if let Some(pool) = pools.get(&key)
            && pool.secret == user.secret
        {
            return Ok(Arc::clone(pool));
        }
        let target = ConnectTarget {
            endpoint: self.cluster.endpoint(shard, endpoint).clone(),
            dbname: self.config.shards[shard.0 as usize].dbname.clone(),
            user: user.name.clone(),
            secret: user.secret.clone(),
            tls: self.tls.clone(),
            // Keys are read as UTF-8.
            client_encoding: self.config.is_sharded().then_some("UTF8"),
            connect_timeout: self.config.pool.connect_timeout,
        };
        let pool = Pool::new(
            target,
            &self.config.pool,
            Arc::clone(&self.metrics),
            Arc::clone(self.server_metrics(shard, endpoint)),
        );
        pools.insert(key, Arc::clone(&pool));
        Ok(pool)
    }

    /// Every server, in the order of the configuration and of [`Cluster::replica_snapshot`].
    pub fn servers(&self) -> impl Iterator<Item = (ShardId, EndpointId)> {
        self.config.shards.iter().flat_map(|shard| {
            let endpoints = (0..).map(EndpointId).take(shard.endpoints.len());
            endpoints.map(|endpoint| (shard.id, endpoint))
        })
    }

    pub fn server_metrics(&self, shard: ShardId, endpoint: EndpointId) -> &Arc<ServerMetrics> {
        &self.server_metrics[usize::from(shard.0)][usize::from(endpoint.0)]
    }

    /// TLS settings for connections to this database's servers.
    pub fn tls(&self) -> Option<&TlsConnector> {
        self.tls.as_ref()
    }

    /// All pools with the shard and server they belong to.
    pub fn pools(&self) -> Vec<(ShardId, EndpointId, Arc<Pool>)> {
        self.pools
            .lock()
            .map(|pools| {
                pools
                    .iter()
                    .map(|((s, e, _), p)| (*s, *e, Arc::clone(p)))
                    .collect()
            })
            .unwrap_or_default()
    }

    /// The id of a (text, types) pair; the same for all who hold it.
    ///
    /// `context`: what else decides what the text means, see [`parse_context`].
    pub fn statement(&self, sql: &[u8], types: &[u32], context: &str) -> Arc<Statement> {
        self.statements.intern(sql, types, context)
    }

    /// What a server reported for these settings, and the settings as others have them already:
    /// equal settings are told by their address then.
    pub fn welcome(
        &self,
        user: &str,
        settings: &Arc<Settings>,
    ) -> Option<(Arc<Settings>, Parameters)> {
        let key = (user.to_owned(), Arc::clone(settings));
        let welcomes = self.welcomes.lock().ok()?;
        let ((_, settings), parameters) = welcomes.get_key_value(&key)?;
        Some((Arc::clone(settings), Arc::clone(parameters)))
    }

    pub fn remember_welcome(&self, user: &str, settings: &Arc<Settings>, parameters: &Parameters) {
        if let Ok(mut welcomes) = self.welcomes.lock() {
            if welcomes.len() >= MAX_WELCOMES {
                welcomes.clear();
            }
            welcomes.insert(
                (user.to_owned(), Arc::clone(settings)),
                Arc::clone(parameters),
            );
        }
    }
}

impl Drop for Database {
    /// What its servers were last is no longer known.
    fn drop(&mut self) {
        self.server_metrics
            .iter()
            .flatten()
            .for_each(|server| server.retire());
    }
}

fn poisoned() -> Error {
    Error::new(
        crate::error::Fault::Ringway,
        "XX000",
        "internal lock is poisoned",
    )
}

/// A statement text under its id. As long as somebody holds it, the id stays.
#[derive(Debug)]
pub struct Statement {
    pub id: StatementId,
    pub sql: Box<[u8]>,
    pub types: Box<[u32]>,
    pub context: Box<str>,
}

/// A text with the parameter types that its Parse declared, and the context it was parsed in.
type StatementText = (Box<[u8]>, Box<[u32]>, Box<str>);

/// Settings that do not change what a statement means once it is parsed.
const MEANINGLESS: [&str; 10] = [
    "application_name",
    "client_encoding",
    "client_min_messages",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "statement_timeout",
    "tcp_keepalives_idle",
    "work_mem",
];

/// The settings under which a text is parsed. PostgreSQL folds constants and resolves names at
/// Parse, by time zone, date style, search path and role: clients who differ in them must not
/// share what one of them prepared.
pub fn parse_context(settings: &Settings) -> Arc<str> {
    let meaningful = settings
        .iter()
        .filter(|(name, _)| !MEANINGLESS.contains(&name.as_str()));
    meaningful
        .map(|(_, statement)| format!("{statement};"))
        .collect::<String>()
        .into()
}

/// Gives equal statements equal ids, over all clients, so that a server prepares each once.
#[derive(Default)]
struct Statements {
    next: AtomicU64,
    known: Mutex<HashMap<StatementText, Weak<Statement>>>,
}

impl Statements {
    fn intern(&self, sql: &[u8], types: &[u32], context: &str) -> Arc<Statement> {
        let new = || {
            Arc::new(Statement {
                id: StatementId(self.next.fetch_add(1, Relaxed)),
                sql: sql.into(),
                types: types.into(),
                context: context.into(),
            })
        };
        let Ok(mut known) = self.known.lock() else {
            return new();
        };
        let key: StatementText = (sql.into(), types.into(), context.into());
        if let Some(found) = known.get(&key).and_then(Weak::upgrade) {
            return found;
        }
        // Amortised: a sweep at each doubling keeps the map near what is alive.
        if known.len() == known.capacity() {
            known.retain(|_, statement| statement.strong_count() > 0);
        }
        let statement = new();
        known.insert(key, Arc::downgrade(&statement));
        statement
    }
}
