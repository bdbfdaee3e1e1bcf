//! One configured database as sessions use it: its cluster, pools, plans and statement names.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};

use planner::ShardId;
use tokio::task::JoinSet;

use super::listen::Hub;
use super::plans::PlanCache;
use super::pools::{AsUser, Pools};
use super::roles;
use crate::backend::connect::ConnectTarget;
use crate::backend::server::{self, Settings, StatementId};
use crate::cluster::{Cluster, EndpointId, MonitorGuard, Standing};
use crate::config::{self, ServerUser};
use crate::error::Error;
use crate::metrics::digest::Digests;
use crate::metrics::{DatabaseMetrics, Metrics, ServerMetrics, ShardMetrics};
use crate::net::{Instant, TlsConnector};
use crate::pool::cap::Ledger;
use crate::pool::{Amid, Denied, Pool};

/// Welcome messages kept: one per combination of startup settings seen.
const MAX_WELCOMES: usize = 256;

pub struct Database {
    pub config: Arc<config::Database>,
    pub cluster: Arc<Cluster>,
    pub plans: Arc<PlanCache>,
    /// What statements have cost, by shape: see [`Digests::snapshot`].
    pub digests: Arc<Digests>,
    pub metrics: Arc<DatabaseMetrics>,
    watched: Arc<Watched>,
    /// Listens for all clients.
    pub hub: Arc<Hub>,
    tls: Option<TlsConnector>,
    pub pools: Arc<Pools>,
    statements: Arc<Statements>,
    /// How often clients have altered something, of which the catalog need not tell.
    altered: Arc<AtomicU64>,
    welcomes: Arc<Mutex<Welcomes>>,
}

/// By server user and the settings a client starts with; with the catalog's version then.
type Welcomes = HashMap<(String, Arc<Settings>), (u64, Parameters)>;

/// ParameterStatus names and values.
pub type Parameters = Arc<server::Parameters>;

impl Database {
    /// Starts watching the servers, on the current runtime.
    ///
    /// # Errors
    /// TLS settings that cannot be used.
    pub fn start(
        config: Arc<config::Database>,
        fallback: Option<&ServerUser>,
        general: &config::General,
        metrics: &Metrics,
        ledger: &Arc<Ledger>,
        ids: &Arc<StatementIds>,
    ) -> Result<Self, Error> {
        let tls = crate::backend::tls::connector(
            config.server_tls,
            config.server_ca.as_deref(),
            config.server_certificate.as_ref(),
        )?;
        let name = &config.name;
        let handles = metrics.database(name);
        let counts = Arc::clone(&handles);
        let (cluster, monitor) = Cluster::start(Arc::clone(&config), fallback, tls.clone(), counts);
        let hub = Hub::start(&config, &cluster, fallback, tls.clone());
        let standings = Standing::ALL.map(Standing::name);
        let of_shard = |shard: &config::Shard| {
            let endpoints = shard.endpoints.iter();
            endpoints
                .map(|endpoint| {
                    Arc::new({
                        let server = endpoint.to_string();
                        metrics.server(name, &shard.name, &server, &standings)
                    })
                })
                .collect()
        };
        let pools = Arc::new(Pools::new(&config, Arc::clone(ledger)));
        let watched = Watched {
            metrics: config.shards.iter().map(of_shard).collect(),
            shards: (config.shards.iter())
                .map(|shard| metrics.shard(name, &shard.name))
                .collect(),
            _monitor: monitor,
            _roles: roles::watch(&cluster, &pools),
        };
        let digests = Arc::new(Digests::new(general.max_digests, config.shards.len()));
        let hits = handles.plan_cache_hits.clone();
        let misses = handles.plan_cache_misses.clone();
        Ok(Self {
            metrics: handles,
            watched: Arc::new(watched),
            pools,
            config,
            cluster,
            hub,
            plans: Arc::new(PlanCache::new(
                general.plan_cache_bytes,
                Arc::clone(&digests),
                hits,
                misses,
            )),
            digests,
            tls,
            statements: Arc::new(Statements {
                ids: Arc::clone(ids),
                ..Statements::default()
            }),
            altered: Arc::default(),
            welcomes: Arc::default(),
        })
    }

    /// This database under another configuration, which differs in the settings of pools only:
    /// everything goes on. The pools that there are follow with [`Pools::apply`].
    pub fn with_pool_settings(&self, config: Arc<config::Database>) -> Self {
        Self {
            config,
            cluster: Arc::clone(&self.cluster),
            hub: Arc::clone(&self.hub),
            plans: Arc::clone(&self.plans),
            digests: Arc::clone(&self.digests),
            metrics: Arc::clone(&self.metrics),
            watched: Arc::clone(&self.watched),
            tls: self.tls.clone(),
            pools: Arc::clone(&self.pools),
            statements: Arc::clone(&self.statements),
            altered: Arc::clone(&self.altered),
            welcomes: Arc::clone(&self.welcomes),
        }
    }

    /// The pool of one server for one server user, made on first use, and anew once a reload gave
    /// the user another password; connections lent by the old pool close when they come back.
    pub fn pool(&self, shard: ShardId, endpoint: EndpointId, login: &dyn AsUser) -> Arc<Pool> {
        let target = |user: ServerUser| ConnectTarget {
            endpoint: self.cluster.endpoint(shard, endpoint).clone(),
            dbname: self.config.shards[shard.0 as usize].dbname.clone(),
            user: user.name,
            secret: user.secret,
            tls: self.tls.clone(),
            // Keys are read as UTF-8.
            client_encoding: self.config.is_sharded().then_some("UTF8"),
            connect_timeout: self.config.pool.connect_timeout,
            tcp: self.config.tcp,
        };
        let server = self.server_metrics(shard, endpoint);
        let place = (shard, endpoint);
        self.pools
            .pool(place, login, target, &self.config, &self.metrics, server)
    }

    /// The primary, once there is one. In a pause that has no limit, since the servers may be down;
    /// but the pause waits for those who are amid a transaction.
    ///
    /// # Errors
    /// [`Denied::Gone`] once a reload has ended the pause; what is wrong with the servers when there
    /// is no primary `failover_hold` after `since`. A pause does not count.
    pub async fn primary_or_wait(
        &self,
        shard: ShardId,
        amid: Amid,
        since: &mut Instant,
    ) -> Result<EndpointId, Denied> {
        if amid == Amid::Nothing && self.pools.is_paused() {
            self.pools.until_lending().await?;
            *since = Instant::now();
        }
        let deadline = *since + self.config.pool.failover_hold;
        let primary = self.cluster.primary_or_wait(shard, deadline).await;
        primary.map_err(Denied::Error)
    }

    /// Every server, in the order of the configuration and of [`Cluster::replica_snapshot`].
    pub fn servers(&self) -> impl Iterator<Item = (ShardId, EndpointId)> {
        self.config.shards.iter().flat_map(|shard| {
            let endpoints = (0..).map(EndpointId).take(shard.endpoints.len());
            endpoints.map(|endpoint| (shard.id, endpoint))
        })
    }

    pub fn server_metrics(&self, shard: ShardId, endpoint: EndpointId) -> &Arc<ServerMetrics> {
        &self.watched.metrics[usize::from(shard.0)][usize::from(endpoint.0)]
    }

    /// `None` of a shard that a reload has taken out.
    pub fn shard_metrics(&self, shard: ShardId) -> Option<&ShardMetrics> {
        let shard = self.watched.shards.get(usize::from(shard.0))?;
        Some(shard)
    }

    /// TLS settings for connections to this database's servers.
    pub fn tls(&self) -> Option<&TlsConnector> {
        self.tls.as_ref()
    }

    /// The id of a (text, types) pair; the same for all who hold it.
    ///
    /// `context`: what else decides what the text means, see [`parse_context`]. `version` of the
    /// catalog: what was parsed before a table changed is not what a new Parse asks for.
    pub fn statement(
        &self,
        sql: &[u8],
        types: &[u32],
        context: &Arc<str>,
        version: u64,
    ) -> Arc<Statement> {
        // Neither ever becomes less.
        let sharing = Sharing::Named(version + self.altered.load(Relaxed));
        self.statements.intern(sql, types, context, sharing)
    }

    /// A client has run what [`may_alter`].
    pub fn note_altered(&self) {
        self.altered.fetch_add(1, Relaxed);
    }

    /// A context that no other text is parsed under.
    pub fn own_context(&self) -> String {
        format!(";{}", self.statements.ids.draw())
    }

    /// As [`Database::statement`], for a text without a name. With a catalog version it is to be
    /// reused: it is kept for the next client that sends it, until the schema changes or others take
    /// its place. Without one it is nobody else's.
    pub fn unnamed_statement(
        &self,
        sql: &[u8],
        types: &[u32],
        context: &Arc<str>,
        version: Option<u64>,
    ) -> Arc<Statement> {
        match version {
            Some(version) => {
                let sharing = Sharing::Unnamed(version);
                self.statements.intern(sql, types, context, sharing)
            }
            None => self.statements.make(sql, types, context, Sharing::Nobody),
        }
    }

    /// What the texts of all statements take that anybody holds, in bytes.
    pub fn statement_bytes(&self) -> usize {
        self.statements.held.load(Relaxed)
    }

    /// Texts that are prepared or kept for the next client, each with how many hold it. Those that belong
    /// to one client alone are not among them.
    pub fn prepared(&self) -> Vec<(Arc<Statement>, usize)> {
        let Ok(known) = self.statements.known.lock() else {
            return Vec::new();
        };
        let alive = known.by_hash.values().filter_map(Weak::upgrade);
        let kept: HashSet<_> = known.kept.iter().map(Arc::as_ptr).collect();
        // Without the one that this look holds, and the one that keeps it.
        let holders = |statement: &Arc<Statement>| {
            let is_kept = kept.contains(&Arc::as_ptr(statement));
            Arc::strong_count(statement).saturating_sub(1 + usize::from(is_kept))
        };
        let with_holders = alive.map(|statement| {
            let holders = holders(&statement);
            (statement, holders)
        });
        with_holders.collect()
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
        let ((_, settings), (version, parameters)) = welcomes.get_key_value(&key)?;
        // What names mean to the user is checked by the catalog.
        let is_checked = !self.config.is_sharded() || *version == self.cluster.catalog_version();
        is_checked.then(|| (Arc::clone(settings), Arc::clone(parameters)))
    }

    /// `version`: the catalog's, before what names mean to the user was checked.
    pub fn remember_welcome(
        &self,
        user: &str,
        settings: &Arc<Settings>,
        parameters: &Parameters,
        version: u64,
    ) {
        if let Ok(mut welcomes) = self.welcomes.lock() {
            if welcomes.len() >= MAX_WELCOMES {
                welcomes.clear();
            }
            welcomes.insert(
                (user.to_owned(), Arc::clone(settings)),
                (version, Arc::clone(parameters)),
            );
        }
    }
}

/// May a statement that changes the schema change the columns of a table that there is? Not all of
/// that is in the catalog.
pub fn may_alter(sql: &[u8]) -> bool {
    let text = std::str::from_utf8(sql).unwrap_or_default();
    let word = planner::leading_words(text, 1).first().copied();
    word.is_some_and(|word| word.eq_ignore_ascii_case("alter"))
}

/// What a server reported to earlier clients is so no more.
impl Database {
    pub fn forget_welcomes(&self) {
        if let Ok(mut welcomes) = self.welcomes.lock() {
            welcomes.clear();
        }
    }
}

/// What is known of the servers, for as long as somebody watches them.
struct Watched {
    /// By shard and endpoint.
    metrics: Vec<Vec<Arc<ServerMetrics>>>,
    shards: Vec<Arc<ShardMetrics>>,
    /// Stops the monitors with the last user of this database.
    _monitor: MonitorGuard,
    /// Tells the pools of what the monitors find.
    _roles: JoinSet<()>,
}

impl Drop for Watched {
    /// What the servers were last is no longer known.
    fn drop(&mut self) {
        self.metrics
            .iter()
            .flatten()
            .for_each(|server| server.retire());
    }
}

/// A statement text under its id. As long as somebody holds it, the id stays.
#[derive(Debug)]
pub struct Statement {
    pub id: StatementId,
    pub sql: Box<[u8]>,
    /// That its Parse declared for its parameters.
    pub types: Box<[u32]>,
    pub context: Arc<str>,
    sharing: Sharing,
    /// A server has said that a table which it names has changed.
    outdated: AtomicBool,
    /// How often clients parsed it without a name.
    parsed: AtomicU32,
    /// [`Statements::held`], of which it is a part.
    held: Arc<AtomicUsize>,
}

/// Whose statement it is too: theirs who parsed it under the same version of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Sharing {
    Nobody,
    Named(u64),
    /// It has no name and is to be reused.
    Unnamed(u64),
}

/// Parsed this often without a name, a text is worth a name of ours.
const WORTH_A_NAME: u32 = 3;
/// Texts without a name that are kept for the next client, in bytes.
const KEPT_BYTES: usize = 4 << 20;
/// Charged per text beside its length.
const STATEMENT_BYTES: usize = 256;

impl Statement {
    pub fn note_parsed(&self) {
        self.parsed.fetch_add(1, Relaxed);
    }

    /// Who parses the text from now on gets another statement. Those who have this one are told of
    /// the change as PostgreSQL tells them, wherever it was parsed before.
    pub fn outdate(&self) {
        self.outdated.store(true, Relaxed);
    }

    pub fn is_worth_a_name(&self) -> bool {
        self.parsed.load(Relaxed) >= WORTH_A_NAME
    }

    /// It has a name at its clients.
    pub fn is_named(&self) -> bool {
        match self.sharing {
            Sharing::Named(_) => true,
            Sharing::Nobody | Sharing::Unnamed(_) => false,
        }
    }

    /// Other clients may have it too, and others still get it.
    pub fn is_shared(&self) -> bool {
        self.sharing != Sharing::Nobody
    }

    pub fn is_outdated(&self) -> bool {
        self.outdated.load(Relaxed)
    }

    /// What it counts for in the limits.
    pub fn bytes(&self) -> usize {
        STATEMENT_BYTES + self.sql.len() + size_of_val(&*self.types)
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes(), Relaxed);
    }
}

/// Settings of PostgreSQL's that do not change what a statement means once it is parsed.
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
    let meaningful = settings.iter().filter(|(name, _)| is_read_at_parse(name));
    meaningful
        .map(|(_, statement)| format!("{statement};"))
        .collect::<String>()
        .into()
}

/// As [`parse_context`] has made `context`, for texts with other characters than ASCII.
pub fn encoded_context(context: &str, settings: &Settings) -> Arc<str> {
    let encoding = settings.get(ENCODING).map_or("", String::as_str);
    format!("{context}encoding {encoding}").into()
}

/// The setting under which characters other than ASCII are read at Parse.
pub const ENCODING: &str = "client_encoding";

/// May a setting of that name change what a text means? Those of users and extensions are read when
/// statements run.
pub fn is_read_at_parse(name: &str) -> bool {
    !name.contains('.') && !MEANINGLESS.contains(&name)
}

/// Where all databases of a process get the ids of statements: a session may hold some of a database
/// that a reload has put another in the place of.
#[derive(Default)]
pub struct StatementIds(AtomicU64);

impl StatementIds {
    fn draw(&self) -> u64 {
        self.0.fetch_add(1, Relaxed)
    }
}

/// Gives equal statements equal ids, over all clients, so that a server prepares each once.
#[derive(Default)]
struct Statements {
    ids: Arc<StatementIds>,
    /// Bytes of all statements alive.
    held: Arc<AtomicUsize>,
    hasher: ahash::RandomState,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// By the hash of what makes them equal. Texts are held by who uses them, not here; of two with
    /// one hash the later is known.
    by_hash: HashMap<u64, Weak<Statement>, ahash::RandomState>,
    /// Those without a name, the oldest first.
    kept: VecDeque<Arc<Statement>>,
    kept_bytes: usize,
}

impl Known {
    fn keep(&mut self, statement: &Arc<Statement>) {
        let bytes = statement.bytes();
        if bytes > KEPT_BYTES {
            return;
        }
        self.kept_bytes += bytes;
        self.kept.push_back(Arc::clone(statement));
        while self.kept_bytes > KEPT_BYTES
            && let Some(oldest) = self.kept.pop_front()
        {
            self.kept_bytes -= oldest.bytes();
        }
    }
}

impl Statements {
    fn make(
        &self,
        sql: &[u8],
        types: &[u32],
        context: &Arc<str>,
        sharing: Sharing,
    ) -> Arc<Statement> {
        let statement = Statement {
            id: StatementId(self.ids.draw()),
            sql: sql.into(),
            types: types.into(),
            context: Arc::clone(context),
            sharing,
            outdated: AtomicBool::new(false),
            parsed: AtomicU32::new(0),
            held: Arc::clone(&self.held),
        };
        self.held.fetch_add(statement.bytes(), Relaxed);
        Arc::new(statement)
    }

    fn intern(
        &self,
        sql: &[u8],
        types: &[u32],
        context: &Arc<str>,
        sharing: Sharing,
    ) -> Arc<Statement> {
        let hash = self.hasher.hash_one((sql, types, context, sharing));
        let Ok(mut known) = self.known.lock() else {
            return self.make(sql, types, context, sharing);
        };
        let is_it = |known: &Arc<Statement>| {
            !known.outdated.load(Relaxed)
                && (&*known.sql, &*known.types, &known.context, known.sharing)
                    == (sql, types, context, sharing)
        };
        let found = known.by_hash.get(&hash).and_then(Weak::upgrade);
        if let Some(found) = found.filter(is_it) {
            return found;
        }
        // Amortised: a sweep at each doubling keeps the map near what is alive.
        if known.by_hash.len() == known.by_hash.capacity() {
            known.by_hash.retain(|_, known| known.strong_count() > 0);
        }
        let statement = self.make(sql, types, context, sharing);
        known.by_hash.insert(hash, Arc::downgrade(&statement));
        if matches!(sharing, Sharing::Unnamed(_)) {
            known.keep(&statement);
        }
        statement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMED: Sharing = Sharing::Named(1);

    #[test]
    fn equal_statements_are_one_and_only_those_in_use_take_memory() {
        let statements = Statements::default();
        let held = || statements.held.load(Relaxed);
        let context: Arc<str> = "".into();
        let one = statements.intern(b"SELECT $1", &[23], &context, NAMED);
        let cost = held();
        let same = statements.intern(b"SELECT $1", &[23], &"".into(), NAMED);
        assert_eq!((same.id, held()), (one.id, cost));
        for other in [
            statements.intern(b"SELECT $1", &[20], &context, NAMED),
            statements.intern(b"SELECT $2", &[23], &context, NAMED),
            statements.intern(b"SELECT $1", &[23], &"SET x = 1;".into(), NAMED),
            statements.make(b"SELECT $1", &[23], &context, NAMED),
            statements.intern(b"SELECT $1", &[23], &context, Sharing::Named(2)),
        ] {
            assert_ne!(other.id, one.id);
        }
        assert_eq!(held(), cost, "the others are gone");
        one.outdate();
        let anew = statements.intern(b"SELECT $1", &[23], &context, NAMED);
        assert_ne!(anew.id, one.id);
        drop(anew);
        let text = vec![b'x'; 100_000];
        for n in 0..1000 {
            statements.intern(&text, &[n], &context, NAMED);
        }
        assert_eq!(held(), cost);
        assert!(statements.known.lock().unwrap().by_hash.len() < 20);
    }

    #[test]
    fn texts_kept_for_the_next_client_are_bounded_in_bytes() {
        let statements = Statements::default();
        let context: Arc<str> = "".into();
        let text = vec![b'x'; 100_000];
        for n in 0..200 {
            statements.intern(&text, &[n], &context, Sharing::Unnamed(1));
            assert!(statements.held.load(Relaxed) <= KEPT_BYTES);
        }
        let last = statements.intern(&text, &[199], &context, Sharing::Unnamed(1));
        assert_eq!(Arc::strong_count(&last), 2, "kept");
        let large = statements.intern(&vec![b'x'; 5 << 20], &[], &context, Sharing::Unnamed(1));
        assert_eq!(Arc::strong_count(&large), 1, "not kept");
        assert_eq!(Arc::strong_count(&last), 2, "displaced by nobody");
    }
}
