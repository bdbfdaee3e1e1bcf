//! The servers as they are: health, roles, lag, the catalog, and which server should answer.
//!
//! One monitor task per server asks it again and again and publishes immutable snapshots; whoever
//! routes reads them without waiting. Roles are observed, not configured. What follows from observations is
//! decided by pure functions ([`shard`], [`balancer`], [`history`], [`catalog::classify`]).
//!
//! It holds no client's connection and runs no client's statement.

pub mod balancer;
pub mod catalog;
mod causal;
pub mod control;
pub mod history;
mod hold;
pub mod ids;
pub mod lsn;
pub mod mark;
mod monitor;
pub mod outliers;
pub mod own;
mod poll;
mod probe;
mod reading;
pub mod shard;
#[cfg(test)]
mod tests;
pub mod token;
pub mod two_phase;

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use planner::{Catalog, ShardId};
use tokio::sync::{Notify, watch};

pub use balancer::{Load, Pick, ReadReason, Role, Tiebreak};
pub use catalog::{Finding, FindingKind, OF_TRANSACTION};
pub use lsn::Lsn;
pub use mark::{Home, Mark};
pub use monitor::MonitorGuard;
pub use probe::Presence;
pub use reading::{ReadGuard, SETTLE, Witness};
pub use shard::{EndpointId, ShardSnapshot, Standing};
pub use token::Token;

use crate::backend::server::Server;
use crate::config::{Database, Endpoint, Freshness, ReadSettings, ServerSecret, ServerUser, Shard};
use crate::error::{Error, Fault};
use crate::metrics::{CommitKind, DatabaseMetrics};
use crate::net::{Instant, TlsConnector, sleep};
use catalog::CatalogRoom;
use causal::CausalKeys;
use control::{ControlPool, Failure};
use hold::Hold;
use ids::IdSource;
use probe::Probe;
use shard::{Demands, Observation, ServerView, ShardRecord};
use two_phase::TwoPhase;

/// What is known of one configured database. Shared over all workers.
pub struct Cluster {
    database: Arc<Database>,
    /// By shard id; at least one.
    shards: Vec<ShardState>,
    catalog: CatalogRoom,
    causal: ArcSwap<Mutex<CausalKeys>>,
    /// Where statements get ids.
    pub ids: IdSource,
    /// There is somebody to ask the servers with.
    is_watched: bool,
    metrics: Arc<DatabaseMetrics>,
    pub two_phase: Arc<TwoPhase>,
}

/// By shard, of those that have one; `None` where it could not be read.
type Epochs = Vec<(ShardId, Option<i64>)>;

/// One shard's record, which the monitor writes, and its published snapshot.
struct ShardState {
    record: Mutex<ShardRecord>,
    snapshot: ArcSwap<ShardSnapshot>,
    /// That of the snapshot: who needs no more of it, as each statement does, takes hold of nothing.
    primary: Primary,
    /// Sent on every publication, for those who wait.
    published: watch::Sender<()>,
    /// By endpoint id.
    servers: Vec<ServerAccess>,
    /// By endpoint id.
    loads: Vec<Load>,
    /// Turns taken by reads over the replicas.
    turn: AtomicUsize,
    writes: ArcSwap<LastWrite>,
    hold: Hold,
}

/// The endpoint id of a primary.
struct Primary(AtomicU32);

impl Primary {
    const NONE: u32 = u32::MAX;

    fn new(primary: Option<EndpointId>) -> Self {
        Self(AtomicU32::new(Self::number(primary)))
    }

    fn number(primary: Option<EndpointId>) -> u32 {
        primary.map_or(Self::NONE, |primary| u32::from(primary.0))
    }

    fn set(&self, primary: Option<EndpointId>) {
        self.0.store(Self::number(primary), Ordering::Release);
    }

    fn get(&self) -> Option<EndpointId> {
        let number = self.0.load(Ordering::Acquire);
        u16::try_from(number).ok().map(EndpointId)
    }
}

/// When the last write of any session ended. A database that a reload makes anew goes on with that
/// of the one before: transactions outlive it.
#[derive(Debug)]
struct LastWrite {
    origin: Instant,
    /// In microseconds after `origin`, rounded up.
    micros: AtomicU64,
}

impl LastWrite {
    /// As if somebody had just written: nobody knows of those before.
    fn now() -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            micros: AtomicU64::new(0),
        })
    }

    fn note(&self, now: Instant) {
        let since = now.saturating_duration_since(self.origin).as_micros() as u64;
        self.micros.fetch_max(since + 1, Ordering::Release);
    }

    fn last(&self) -> Instant {
        self.origin + Duration::from_micros(self.micros.load(Ordering::Acquire))
    }
}

struct ServerAccess {
    control: ControlPool,
    /// Cuts the monitor's pause short.
    hasten: Notify,
    probe: Probe,
}

/// One server for SHOW REPLICAS and metrics.
#[derive(Debug, Clone)]
pub struct ReplicaState {
    pub shard: ShardId,
    pub shard_name: String,
    pub endpoint: Endpoint,
    pub standing: Standing,
    /// How old a replica's data may be; `None` for other servers and when it is not known.
    pub lag: Option<Duration>,
    /// WAL that a replica has still to replay.
    pub lag_bytes: Option<u64>,
    pub replayed: Option<Lsn>,
    pub timeline: Option<u32>,
    /// Its share of the reads that it may answer: 1 unless configured, less in a slow start.
    pub weight: f64,
    pub zone: Option<String>,
    /// How often it was down.
    pub incarnation: u32,
    /// It tells its role and nothing of its position in the WAL.
    pub is_blind: bool,
    /// Why the server is down.
    pub error: Option<String>,
}

impl Cluster {
    /// Starts the monitor tasks on the current runtime; they stop when the guard is dropped.
    ///
    /// Control connections use the database's `monitor_user`, else its `server_user`, else
    /// `fallback`. With none of them the only server that there is counts as the primary as long as
    /// it can be reached, and nothing is known of the schema. `tls` is used for every TCP server when it is given.
    pub fn start(
        database: Arc<Database>,
        fallback: Option<&ServerUser>,
        tls: Option<TlsConnector>,
        metrics: Arc<DatabaseMetrics>,
    ) -> (Arc<Self>, MonitorGuard) {
        let cluster = Arc::new(Self::new(database, fallback, tls, metrics));
        let guard = monitor::start(&cluster);
        (cluster, guard)
    }

    /// Goes on with what `before`, the same database of an earlier configuration, knows of writes: its
    /// transactions may end later.
    pub fn succeed(&self, before: &Self) {
        let names = |of: &Self| -> Vec<_> {
            of.database
                .shards
                .iter()
                .map(|shard| shard.name.clone())
                .collect()
        };
        if names(self) == names(before) {
            self.causal.store(before.causal.load_full());
            self.with_causal(|keys| keys.set_ttl(self.database.reads.causal_ttl));
        }
        for (shard, state) in self.database.shards.iter().zip(&self.shards) {
            let same = before
                .database
                .shards
                .iter()
                .position(|other| other.name == shard.name);
            if let Some(same) = same {
                state.writes.store(before.shards[same].writes.load_full());
            }
        }
    }

    /// A cluster that nobody watches.
    fn new(
        database: Arc<Database>,
        fallback: Option<&ServerUser>,
        tls: Option<TlsConnector>,
        metrics: Arc<DatabaseMetrics>,
    ) -> Self {
        let user = database
            .monitor_user
            .as_ref()
            .or(database.server_user.as_ref())
            .or(fallback);
        let nobody = ServerUser {
            name: String::new(),
            secret: ServerSecret::None,
        };
        let is_watched = user.is_some();
        // Who commits has to be who prepared.
        let finisher = database.server_user.as_ref().or(user).unwrap_or(&nobody);
        let two_phase = TwoPhase::new(&database, finisher, tls.as_ref());
        let user = user.unwrap_or(&nobody);
        let shards = database
            .shards
            .iter()
            .map(|shard| ShardState::new(&database, shard, user, tls.clone()))
            .collect();
        Self {
            catalog: CatalogRoom::new(database.shards.len()),
            causal: ArcSwap::from_pointee(Mutex::new(CausalKeys::new(
                database.shards.len(),
                database.reads.causal_ttl,
                Instant::now(),
            ))),
            shards,
            ids: IdSource::new(),
            is_watched,
            two_phase,
            database,
            metrics,
        }
    }

    /// Whether there is somebody to ask the servers with.
    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// A write on several shards is being committed.
    pub fn count_commit(&self, kind: CommitKind) {
        self.metrics.commits.increment(kind);
    }

    /// Waits until every server was asked once and the catalog was loaded once, whatever came of it.
    pub async fn first_poll(&self) {
        self.all_polled().await;
        if self.is_watched {
            self.catalog.first_load().await;
        }
    }

    /// Waits until every server was asked once, whatever came of it.
    async fn all_polled(&self) {
        for shard in &self.shards {
            let mut published = shard.published.subscribe();
            while !shard.record().is_polled() {
                if published.changed().await.is_err() {
                    return;
                }
            }
        }
    }

    /// The catalog as last loaded; version 0 and empty before that.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.current()
    }

    /// The version of [`Cluster::catalog`], without taking hold of it.
    pub fn catalog_version(&self) -> u64 {
        self.catalog.version()
    }

    /// The catalog as a transaction block sees it that has changed the schema, on the shards of `servers`.
    /// Its version is at least [`OF_TRANSACTION`], and no other's. `moved` tells that others may have changed
    /// the schema since the block began.
    ///
    /// # Errors
    /// A server's, or its loss; a snapshot that may be older than what others have changed.
    pub async fn catalog_within(
        &self,
        servers: &mut [(ShardId, &mut Server)],
        moved: bool,
    ) -> Result<Catalog, Failure> {
        self.catalog.within(self, servers, moved).await
    }

    /// What is wrong between the configured tables and those found, as of the last load.
    pub fn catalog_findings(&self) -> Arc<Vec<Finding>> {
        self.catalog.findings()
    }

    /// Looks for schema changes now; returns when [`Cluster::catalog`] shows everything that was
    /// committed before the call.
    pub async fn reload_catalog(&self) {
        self.catalog.refresh(self).await;
    }

    /// As [`Cluster::reload_catalog`], and has other processes do the same. To be called after DDL.
    pub async fn schema_changed(&self) {
        tokio::join!(self.catalog.count_epochs(self), self.reload_catalog());
    }

    /// What is there of schema `ringway` on a shard; `None` where the shard has no primary.
    pub async fn own_schema(&self, shard: ShardId) -> Option<Result<own::Found, Failure>> {
        let primary = self.primary(shard)?;
        let asked = async {
            let client = self.control(shard, primary).get().await?;
            Ok(own::found(&*client).await?)
        };
        Some(asked.await)
    }

    /// Waits until a shard's epoch is another than in `known`, at most for `limit`; false if it never was.
    async fn epoch_differs(&self, known: &Epochs, pause: Duration, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            sleep(pause).await;
            if self.epochs().await != *known {
                return true;
            }
        }
        false
    }

    async fn epochs(&self) -> Epochs {
        self.catalog.epochs(self).await
    }

    /// Told of every observation of the shard's servers.
    pub fn news(&self, shard: ShardId) -> watch::Receiver<()> {
        self.shard(shard).published.subscribe()
    }

    /// What the shard's servers may be used for now, by endpoint.
    pub fn standings(&self, shard: ShardId) -> Vec<Standing> {
        let snapshot = self.shard(shard).snapshot.load();
        snapshot
            .servers
            .iter()
            .map(|server| server.standing)
            .collect()
    }

    /// Somebody waits for the shard to have a primary.
    fn is_held(&self, shard: ShardId) -> bool {
        self.shard(shard).hold.is_held()
    }

    /// When `endpoint` was asked whether it is the primary, and said so; `None` when it is not.
    pub fn primary_as_of(&self, shard: ShardId, endpoint: EndpointId) -> Option<Instant> {
        let snapshot = self.shard(shard).snapshot.load();
        let primary = snapshot.primary.filter(|primary| *primary == endpoint)?;
        let seen = snapshot.servers[usize::from(primary.0)].seen?;
        Some(seen.started)
    }

    /// The shard's primary, if one is known and up.
    pub fn primary(&self, shard: ShardId) -> Option<EndpointId> {
        self.shard(shard).primary.get()
    }

    /// The address of a server; `endpoint` must be of that shard.
    pub fn endpoint(&self, shard: ShardId, endpoint: EndpointId) -> &Endpoint {
        &self.database.shards[usize::from(shard.0)].endpoints[usize::from(endpoint.0)]
    }

    /// A connection attempt of ours failed for a reason that lies with the server: takes it out
    /// until a later poll over a new connection succeeds.
    pub fn checkout_failed(&self, shard: ShardId, endpoint: EndpointId, reason: String) {
        self.failed(shard, endpoint, reason);
        self.hasten(shard);
    }

    /// A poll of a server is sent.
    fn ask(&self, shard: ShardId, endpoint: EndpointId) {
        self.shard(shard).record().ask(endpoint, Instant::now());
    }

    /// Looks for outliers among the replicas.
    fn weigh(&self) {
        for (shard, state) in self.database.shards.iter().zip(&self.shards) {
            let windows: Vec<_> = state.loads.iter().map(|load| load.tally.take()).collect();
            self.update(shard.id, |record, now| record.weigh(now, &windows));
        }
    }

    /// Every server of the database.
    pub fn replica_snapshot(&self) -> Vec<ReplicaState> {
        let shards = self.database.shards.iter().zip(&self.shards);
        shards
            .flat_map(|(config, state)| {
                let snapshot = state.snapshot.load_full();
                let states: Vec<_> = config
                    .endpoints
                    .iter()
                    .zip(&snapshot.servers)
                    .map(|(endpoint, view)| {
                        ReplicaState::new(config, endpoint, view, &self.database.reads)
                    })
                    .collect();
                states
            })
            .collect()
    }

    fn no_primary(&self, shard: ShardId) -> Error {
        let config = &self.database.shards[usize::from(shard.0)];
        let snapshot = self.shard(shard).snapshot.load();
        let servers: Vec<_> = config
            .endpoints
            .iter()
            .zip(&snapshot.servers)
            // Why a server is down may tell of another client's attempt: it is for the log.
            .map(|(endpoint, view)| format!("{endpoint} is {}", view.standing.name()))
            .collect();
        let message = format!("shard \"{}\" has no primary", config.name);
        Error::new(Fault::Server, "57P03", message)
            .detail(format!("Its servers: {}.", servers.join("; ")))
            .hint("Try again once a server of the shard takes writes.")
    }

    fn shard(&self, shard: ShardId) -> &ShardState {
        &self.shards[usize::from(shard.0)]
    }

    fn control(&self, shard: ShardId, endpoint: EndpointId) -> &ControlPool {
        &self.shard(shard).servers[usize::from(endpoint.0)].control
    }

    fn is_down(&self, shard: ShardId, endpoint: EndpointId) -> bool {
        self.shard(shard).record().is_down(endpoint)
    }

    fn observed(&self, shard: ShardId, endpoint: EndpointId, seen: Observation) {
        self.metrics.position_samples.increment(1);
        self.update(shard, |record, _| record.observe(endpoint, seen));
    }

    fn failed(&self, shard: ShardId, endpoint: EndpointId, error: String) {
        self.update(shard, |record, now| record.fail(endpoint, now, error));
    }

    /// Changes a shard's record and publishes what follows.
    fn update(&self, shard: ShardId, change: impl FnOnce(&mut ShardRecord, Instant)) {
        let state = self.shard(shard);
        let now = Instant::now();
        // The record stays locked until the snapshot is stored, so that snapshots keep its order.
        let mut record = state.record();
        change(&mut record, now);
        let snapshot = Arc::new(record.snapshot(now));
        let before = state.snapshot.swap(Arc::clone(&snapshot));
        state.primary.set(snapshot.primary);
        drop(record);
        state.published.send_replace(());
        if snapshot.primary.is_some() && snapshot.primary != before.primary {
            state.hold.elected.notify_waiters();
        }
        self.log_changes(shard, &before, &snapshot);
    }

    fn log_changes(&self, shard: ShardId, before: &ShardSnapshot, after: &ShardSnapshot) {
        let config = &self.database.shards[usize::from(shard.0)];
        let servers = config.endpoints.iter().zip(&before.servers);
        for ((endpoint, before), after) in servers.zip(&after.servers) {
            if after.is_blind() && !before.is_blind() {
                let (database, shard) = (&self.database.name, &config.name);
                tracing::warn!(
                    database, shard, %endpoint,
                    "server does not tell its position in the WAL: how far replicas are behind is not known, \
                     and after a write a session reads from the primary for blind_ms"
                );
            }
            if before.standing != after.standing {
                log_change(&self.database.name, &config.name, endpoint, before, after);
                if after.standing == Standing::Fenced {
                    self.metrics.fences.increment(1);
                }
                if after.standing == Standing::Ejected {
                    self.metrics.ejections.increment(1);
                }
            }
        }
    }

    /// Which of the shard's servers has this address.
    pub fn endpoint_id(&self, shard: ShardId, endpoint: &Endpoint) -> Option<EndpointId> {
        let endpoints = &self.database.shards[usize::from(shard.0)].endpoints;
        let at = endpoints.iter().position(|other| other == endpoint)?;
        u16::try_from(at).ok().map(EndpointId)
    }

    /// Has the shard's servers asked sooner than their turn.
    pub fn hasten(&self, shard: ShardId) {
        for server in &self.shard(shard).servers {
            server.hasten.notify_one();
        }
    }

    async fn hastened(&self, shard: ShardId, endpoint: EndpointId) {
        let server = &self.shard(shard).servers[usize::from(endpoint.0)];
        server.hasten.notified().await;
    }
}

impl ShardState {
    fn new(
        database: &Database,
        shard: &Shard,
        user: &ServerUser,
        tls: Option<TlsConnector>,
    ) -> Self {
        let reads = &database.reads;
        let server = |endpoint| (reads.weight(endpoint), reads.is_near(endpoint));
        let mut record = ShardRecord::new(Demands {
            max_lag: (reads.freshness != Freshness::Off).then_some(reads.max_lag),
            poll_interval: reads.poll_interval,
            return_after: reads.return_after,
            slow_start: reads.slow_start,
            outliers: outliers::Limits::of(reads),
            servers: shard.endpoints.iter().map(server).collect(),
        });
        let access = |endpoint| ServerAccess {
            control: control::pool(database, &shard.dbname, endpoint, user, tls.clone()),
            hasten: Notify::new(),
            probe: Probe::default(),
        };
        let snapshot = record.snapshot(Instant::now());
        Self {
            primary: Primary::new(snapshot.primary),
            snapshot: ArcSwap::from_pointee(snapshot),
            loads: shard.endpoints.iter().map(|_| Load::default()).collect(),
            turn: AtomicUsize::new(0),
            writes: ArcSwap::new(LastWrite::now()),
            hold: Hold::default(),
            record: Mutex::new(record),
            published: watch::Sender::new(()),
            servers: shard.endpoints.iter().map(access).collect(),
        }
    }

    fn record(&self) -> MutexGuard<'_, ShardRecord> {
        // A panic while it was held cannot leave it half changed in a way that the next poll
        // does not repair.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReplicaState {
    fn new(shard: &Shard, endpoint: &Endpoint, view: &ServerView, reads: &ReadSettings) -> Self {
        Self {
            shard: shard.id,
            shard_name: shard.name.clone(),
            endpoint: endpoint.clone(),
            standing: view.standing,
            lag: view.lag,
            lag_bytes: view.lag_bytes,
            replayed: view.replayed(),
            timeline: view.seen.and_then(|seen| seen.timeline),
            weight: f64::from(view.weight) / f64::from(shard::FULL_WEIGHT),
            zone: reads.zones.get(endpoint).cloned(),
            incarnation: view.incarnation,
            is_blind: view.is_blind(),
            error: view.error.clone(),
        }
    }
}

fn log_change(
    database: &str,
    shard: &str,
    endpoint: &Endpoint,
    before: &ServerView,
    after: &ServerView,
) {
    let (from, to) = (before.standing.name(), after.standing.name());
    let error = after.error.as_deref().unwrap_or_default();
    let lag_ms = after.lag.map(|lag| lag.as_millis() as u64);
    match after.standing {
        Standing::Unknown
        | Standing::Primary
        | Standing::Fresh
        | Standing::Lagging
        | Standing::Returning
        | Standing::Silent => {
            tracing::info!(database, shard, %endpoint, from, to, lag_ms, "server changed standing");
        }
        Standing::Ejected => {
            tracing::warn!(
                database, shard, %endpoint,
                "replica is far slower than its siblings or fails more often; it is not used for a while"
            );
        }
        Standing::Down => {
            tracing::warn!(database, shard, %endpoint, from, error, "server is down");
        }
        Standing::Fenced => {
            tracing::error!(
                database, shard, %endpoint, from,
                "server takes writes but is not the shard's primary; it is not used"
            );
        }
        Standing::Foreign => {
            tracing::warn!(
                database, shard, %endpoint, from,
                "replica follows another system or timeline than the primary; it is not used"
            );
        }
    }
}
