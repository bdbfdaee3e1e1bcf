//! What sessions share: the configuration in force, who is connected, and whether the process ends.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::auth::Authenticators;
use crate::backend::server::Identity;
use crate::config::{Config, PoolSettings, ServerSecret, Timeouts, UserLimits};
use crate::error::{Error, Fault};
use crate::executor::database::{Database, StatementIds};
use crate::metrics::Metrics;
use crate::net::{self, Instant, TlsAcceptor};
use crate::pool::cap::Ledger;
use crate::spans::Tracer;

use Ordering::{Acquire, Relaxed, Release};

/// What every session of a process shares.
pub struct Shared {
    pub directory: ArcSwap<Directory>,
    /// The directory's generation, for a look that costs nothing.
    pub generation: AtomicU64,
    pub clients: Clients,
    pub metrics: Arc<Metrics>,
    /// What clients' logins gave to log in to servers with, by database and user; the newest wins.
    learned: Mutex<HashMap<(String, String), ServerSecret>>,
    /// Where other processes of this machine reach this one.
    pub own_socket: Option<PathBuf>,
    /// Where spans go; `None`: nothing is traced.
    pub tracer: Option<Arc<Tracer>>,
    started: Instant,
    /// When a full process was last complained of, in seconds after it started, from 1.
    complained: AtomicU64,
    /// Connections that are accepted and not logged in yet.
    arriving: AtomicUsize,
    /// The process is to end: sessions leave as soon as they are between transactions.
    stopping: AtomicBool,
    /// PAUSE without a name: databases that a wildcard makes from now on are paused too.
    pub paused: AtomicBool,
    admitted: Mutex<Admitted>,
    /// Held while a configuration takes another's place, and while an order is given: it must not
    /// go to databases that are being left behind.
    orders: Mutex<()>,
}

/// Clients that are logged in, by user and by database.
#[derive(Default)]
struct Admitted {
    users: HashMap<String, u32>,
    databases: HashMap<String, u32>,
}

/// Bits of a client's process id below its process's `peer_id`: two million clients.
const CLIENT_BITS: u32 = 21;

/// A client that has only just come is served its first statement though the process is to end: it
/// could not know.
const FIRST_STATEMENT: Duration = Duration::from_secs(2);

/// How long a commit over several shards may go on for a session that is to end.
pub const COMMIT_GRACE: Duration = Duration::from_secs(10);

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
const MAX_WILD: usize = 500;

impl Wildcard {
    fn made(&self) -> MutexGuard<'_, HashMap<String, Arc<Database>>> {
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

    fn user_limits(&self, user: &str) -> UserLimits {
        let user = self.config.users.get(user);
        user.map_or_else(UserLimits::default, |user| user.limits)
    }
}

/// The servers that now work for a client: where its CancelRequest goes.
#[derive(Default)]
pub struct CancelSlot(Mutex<Vec<Arc<Identity>>>);

impl CancelSlot {
    pub fn add(&self, server: &Arc<Identity>) {
        if let Ok(mut servers) = self.0.lock() {
            servers.push(Arc::clone(server));
        }
    }

    pub fn clear(&self) {
        if let Ok(mut servers) = self.0.lock() {
            servers.clear();
        }
    }

    /// For SHOW CLIENTS and SHOW SERVERS.
    pub fn servers(&self) -> Vec<Arc<Identity>> {
        self.0
            .lock()
            .map(|servers| servers.clone())
            .unwrap_or_default()
    }

    /// The servers to cancel. Until the [`Cancelling`] is dropped, none of them is given to
    /// another client: the slot is cleared under the same lock before they are given back.
    pub fn cancelling(&self) -> Cancelling {
        let servers = self.0.lock().map(|servers| {
            for server in servers.iter() {
                server.activity.cancels.fetch_add(1, Ordering::Relaxed);
            }
            servers.clone()
        });
        Cancelling(servers.unwrap_or_default())
    }
}

/// Servers with a CancelRequest on its way to them.
pub struct Cancelling(pub Vec<Arc<Identity>>);

impl Cancelling {
    /// Apart, so that each is free when its own request has arrived.
    pub fn apart(mut self) -> Vec<Self> {
        let servers = std::mem::take(&mut self.0).into_iter();
        servers.map(|server| Self(vec![server])).collect()
    }
}

impl Drop for Cancelling {
    fn drop(&mut self) {
        for server in &self.0 {
            server.activity.cancels.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    LoggingIn,
    Idle,
    Active,
    Waiting,
    /// Between the statements of a transaction.
    IdleInTransaction,
    /// Between transactions, with a server connection that stays with it.
    IdleLinked,
    /// A replication connection, for which no time limits hold.
    Replicating,
}

/// Why a session ends at once, whatever it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Killed,
    ClientIdle,
    IdleInTransaction,
    TransactionTimeout,
    /// The statement was cancelled and did not end.
    QueryTimeout,
    DatabaseGone,
}

impl Verdict {
    fn of(code: u8) -> Option<Self> {
        match code {
            0 => None,
            1 => Some(Self::Killed),
            2 => Some(Self::ClientIdle),
            3 => Some(Self::IdleInTransaction),
            4 => Some(Self::TransactionTimeout),
            5 => Some(Self::QueryTimeout),
            _ => Some(Self::DatabaseGone),
        }
    }

    /// It ends the session whatever it does.
    fn is_final(self) -> bool {
        match self {
            Self::Killed | Self::TransactionTimeout | Self::QueryTimeout => true,
            Self::ClientIdle | Self::IdleInTransaction | Self::DatabaseGone => false,
        }
    }

    /// False when the client has become busy before it heard that it was idle for too long.
    fn holds(self, state: ClientState) -> bool {
        self.is_final()
            || match state {
                ClientState::Idle | ClientState::IdleInTransaction | ClientState::IdleLinked => {
                    true
                }
                ClientState::LoggingIn
                | ClientState::Active
                | ClientState::Waiting
                | ClientState::Replicating => false,
            }
    }

    /// PostgreSQL's words where it has them.
    fn error(self) -> Error {
        let (code, message) = match self {
            Self::Killed => return shut_down(),
            Self::ClientIdle => (
                "57P05",
                "terminating connection due to idle-session timeout",
            ),
            Self::IdleInTransaction => (
                "25P03",
                "terminating connection due to idle-in-transaction timeout",
            ),
            Self::TransactionTimeout => {
                ("25P04", "terminating connection due to transaction timeout")
            }
            Self::QueryTimeout => ("57014", "terminating connection due to query timeout"),
            Self::DatabaseGone => (
                "57P01",
                "terminating connection due to configuration change",
            ),
        };
        Error::new(Fault::Operator, code, message).fatal()
    }
}

/// A connected client, for SHOW CLIENTS and CancelRequest.
pub struct ClientInfo {
    pub pid: i32,
    pub key: Vec<u8>,
    pub user: String,
    pub database: String,
    pub application: String,
    pub address: String,
    /// Our end; `None` for a Unix socket.
    pub local: Option<SocketAddr>,
    pub tls: bool,
    pub connected_at: Instant,
    pub cancel: CancelSlot,
    pub pinned: Mutex<Option<&'static str>>,
    /// Prepared statements as of the last Sync or PREPARE, for SHOW CLIENTS.
    pub prepared: AtomicUsize,
    /// What those of a name count for, in bytes.
    pub prepared_bytes: AtomicUsize,
    /// When its last statement came, in microseconds after it connected.
    last_request_us: AtomicU64,
    /// Of its session's task, so that an idle one notices that the process is to end.
    waker: Mutex<Option<Waker>>,
    state: AtomicU8,
    /// When its transaction block was opened, as `last_request_us`; 0 outside of one.
    block_us: AtomicU64,
    /// A [`Verdict`], or 0.
    verdict: AtomicU8,
    /// Its transaction is being committed on several shards.
    commits: AtomicBool,
}

/// A commit over several shards, until it is dropped: who ends the session waits for it a while.
pub struct Committing<'c>(&'c ClientInfo);

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        self.0.commits.store(false, Relaxed);
        if self.0.verdict().is_some() {
            self.0.wake();
        }
    }
}

impl ClientInfo {
    pub fn set(&self, state: ClientState) {
        // With `state()`: who sees Active sees which request that is.
        self.state.store(state as u8, Release);
    }

    pub fn is_logged_in(&self) -> bool {
        self.state() != ClientState::LoggingIn
    }

    /// A statement of its came at `now`. To be called before it is set to Active: a time limit of the
    /// statement before would be held against it otherwise.
    pub fn requested(&self, now: Instant) {
        let since = now.duration_since(self.connected_at);
        self.last_request_us
            .store(since.as_micros() as u64, Relaxed);
    }

    /// How long after it connected its last statement came.
    pub fn last_request(&self) -> Duration {
        Duration::from_micros(self.last_request_us.load(Relaxed))
    }

    /// The block that its last statement opened is open; `false`: it is in none.
    pub fn in_block(&self, open: bool) {
        if !open {
            self.block_us.store(0, Relaxed);
        } else if self.block_us.load(Relaxed) == 0 {
            let since = self.last_request_us.load(Relaxed).max(1);
            self.block_us.store(since, Relaxed);
        }
    }

    /// How long after it connected its open block began.
    pub fn block_start(&self) -> Option<Duration> {
        let since = self.block_us.load(Relaxed);
        (since > 0).then(|| Duration::from_micros(since))
    }

    /// Has its session look whether it is to end, as often as that may be.
    fn wake(&self) {
        if let Ok(waker) = self.waker.lock()
            && let Some(waker) = &*waker
        {
            waker.wake_by_ref();
        }
    }

    /// Ends its session at once. The first verdict holds.
    ///
    /// One on an idle client is not the last word: it may have become busy before it heard of it.
    pub fn end(&self, verdict: Verdict) {
        let next = |code| match Verdict::of(code) {
            Some(before) if before.is_final() || !verdict.is_final() => None,
            Some(_) | None => Some(verdict as u8 + 1),
        };
        let _ = (self.verdict).fetch_update(Ordering::Release, Relaxed, next);
        self.wake();
    }

    fn verdict(&self) -> Option<Verdict> {
        Verdict::of(self.verdict.load(Ordering::Acquire))
    }

    /// Lifts a verdict unless another has taken its place.
    fn lift(&self, verdict: Verdict) {
        let code = verdict as u8 + 1;
        let _ = (self.verdict).compare_exchange(code, 0, Relaxed, Relaxed);
    }

    /// Keeps verdicts from taking a commit apart that is about to be answered.
    pub fn committing(&self) -> Committing<'_> {
        self.commits.store(true, Relaxed);
        Committing(self)
    }

    /// The verdict that ends the session now. One that came too late is lifted.
    fn passed(&self) -> Option<Verdict> {
        loop {
            let verdict = self.verdict()?;
            if verdict.holds(self.state()) {
                return Some(verdict);
            }
            self.lift(verdict);
        }
    }

    /// Does `work` unless a verdict ends it; a commit over several shards may take [`COMMIT_GRACE`]
    /// yet, so that the client learns what became of it. The task must be the one that
    /// [`ClientInfo::attend`] was called in.
    ///
    /// # Errors
    /// FATAL, for the client; `work` is to be dropped then, wherever it was.
    ///
    /// `work` is pinned by who calls: by value it would take its room twice, of each idle client.
    pub async fn unless_ended<T>(
        &self,
        mut work: Pin<&mut impl Future<Output = Result<T, Error>>>,
    ) -> Result<T, Error> {
        let mut grace = None;
        std::future::poll_fn(|cx| {
            let Some(verdict) = self.passed() else {
                return work.as_mut().poll(cx);
            };
            if self.commits.load(Relaxed) {
                let grace = grace.get_or_insert_with(|| Box::pin(net::sleep(COMMIT_GRACE)));
                if grace.as_mut().poll(cx).is_pending() {
                    return work.as_mut().poll(cx);
                }
            }
            Poll::Ready(Err(verdict.error()))
        })
        .await
    }

    /// It came a moment ago and has not asked for anything yet.
    fn is_new(&self) -> bool {
        self.last_request().is_zero() && self.connected_at.elapsed() < FIRST_STATEMENT
    }

    fn register(&self, task: &Waker) {
        if let Ok(mut waker) = self.waker.lock() {
            *waker = Some(task.clone());
        }
    }

    /// Makes the calling task the one that is woken when the process is to end.
    pub async fn attend(&self) {
        std::future::poll_fn(|cx| {
            self.register(cx.waker());
            Poll::Ready(())
        })
        .await;
    }

    pub fn state(&self) -> ClientState {
        match self.state.load(Acquire) {
            1 => ClientState::Idle,
            2 => ClientState::Active,
            3 => ClientState::Waiting,
            4 => ClientState::IdleInTransaction,
            5 => ClientState::IdleLinked,
            6 => ClientState::Replicating,
            _ => ClientState::LoggingIn,
        }
    }
}

/// The connected clients by the process id they were told.
#[derive(Default)]
pub struct Clients(Mutex<HashMap<i32, Arc<ClientInfo>>>);

/// Who a client is, before it has a process id.
pub struct Newcomer {
    pub user: String,
    pub database: String,
    pub application: String,
    pub address: String,
    pub local: Option<SocketAddr>,
    pub tls: bool,
}

/// Takes the client off the list when dropped.
pub struct Registration {
    shared: Arc<Shared>,
    pub info: Arc<ClientInfo>,
    /// It counts against the limits of its user and database.
    admitted: bool,
}

impl Registration {
    /// Counts a client that has proved who it is.
    ///
    /// # Errors
    /// 53300 when its user or its database has too many already.
    pub fn admit(&mut self, directory: &Directory, db: &Database) -> Result<(), Error> {
        let (user, database) = (&self.info.user, &self.info.database);
        let user_limit = directory.user_limits(user).max_clients;
        let user_limit = user_limit.unwrap_or(directory.config.general.max_user_clients);
        let mut admitted = self.shared.admitted();
        let of_user = admitted.users.get(user).copied().unwrap_or_default();
        let of_database = admitted
            .databases
            .get(database)
            .copied()
            .unwrap_or_default();
        let db_limit = db.config.pool.max_clients;
        for (what, name, count, limit, key) in [
            (
                "role",
                user,
                of_user,
                user_limit,
                "max_user_client_connections",
            ),
            (
                "database",
                database,
                of_database,
                db_limit,
                "max_db_client_connections",
            ),
        ] {
            if limit > 0 && count >= limit {
                let message = format!("too many connections for {what} \"{name}\"");
                return Err(Error::new(Fault::Operator, "53300", message)
                    .detail(format!("It has {count} clients, as many as {key} allows.")));
            }
        }
        *admitted.users.entry(user.clone()).or_default() += 1;
        *admitted.databases.entry(database.clone()).or_default() += 1;
        self.admitted = true;
        Ok(())
    }
}

/// One less; a name that nobody has any more is forgotten.
fn count_down(counts: &mut HashMap<String, u32>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.admitted {
            let mut admitted = self.shared.admitted();
            count_down(&mut admitted.users, &self.info.user);
            count_down(&mut admitted.databases, &self.info.database);
        }
        if let Ok(mut clients) = self.shared.clients.0.lock() {
            clients.remove(&self.info.pid);
        }
    }
}

/// Counts a connection that is not logged in yet, until it is dropped.
pub struct Arriving(Arc<Shared>);

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.arriving.fetch_sub(1, Relaxed);
    }
}

impl Shared {
    pub fn new(
        directory: Directory,
        metrics: Arc<Metrics>,
        own_socket: Option<PathBuf>,
        tracer: Option<Arc<Tracer>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            generation: AtomicU64::new(directory.generation),
            directory: ArcSwap::from_pointee(directory),
            clients: Clients::default(),
            metrics,
            learned: Mutex::default(),
            own_socket,
            tracer,
            started: Instant::now(),
            complained: AtomicU64::new(0),
            arriving: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            admitted: Mutex::default(),
            orders: Mutex::default(),
        })
    }

    /// Once in a second: a flood of clients who are refused must not become one of log lines.
    pub fn may_complain(&self) -> bool {
        let now = self.started.elapsed().as_secs() + 1;
        self.complained.swap(now, Relaxed) != now
    }

    /// Keeps the configuration from changing, or orders from being given, until it is dropped.
    pub fn hold_orders(&self) -> MutexGuard<'_, ()> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admitted(&self) -> MutexGuard<'_, Admitted> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database of this name that the wildcard stands for, made now if there is none yet. The
    /// caller has asked a server whether it exists: names are kept.
    ///
    /// # Errors
    /// 53300 when there are too many; what keeps a database from starting.
    pub fn wild_database(&self, wildcard: &Wildcard, name: &str) -> Result<Arc<Database>, Error> {
        let full = |made: &HashMap<_, _>| made.len() >= MAX_WILD;
        if full(&wildcard.made()) {
            wildcard.forget_idle();
        }
        let mut made = wildcard.made();
        if let Some(db) = made.get(name) {
            return Ok(Arc::clone(db));
        }
        if full(&made) {
            let message = "too many databases of the wildcard are in use";
            return Err(Error::new(Fault::Operator, "53300", message)
                .detail(format!("There are {MAX_WILD} of them."))
                .hint("Configure those that are used most by their names."));
        }
        let db = (wildcard.make)(name)?;
        if self.paused.load(Relaxed) {
            db.pools.pause();
        }
        made.insert(name.to_owned(), Arc::clone(&db));
        Ok(db)
    }

    /// To be called for each accepted connection.
    pub fn arriving(self: &Arc<Self>) -> Arriving {
        self.arriving.fetch_add(1, Relaxed);
        Arriving(Arc::clone(self))
    }

    pub fn arriving_count(&self) -> usize {
        self.arriving.load(Relaxed)
    }

    /// Puts a new configuration in force: for new clients at once, for others at their next
    /// transaction.
    pub fn replace(&self, directory: Directory) {
        let generation = directory.generation;
        let old = self.directory.swap(Arc::new(directory));
        let new = self.directory.load();
        for db in old.all() {
            let kept = new.database(&db.config.name);
            if !kept.is_some_and(|kept| Arc::ptr_eq(&kept.hub, &db.hub)) {
                db.hub.retire();
            }
        }
        self.generation.store(generation, Relaxed);
    }

    /// Keeps what a login is worth to servers, for this session and those after it.
    pub fn learn(&self, database: &str, user: &str, secret: ServerSecret) {
        if !secret.is_none()
            && let Ok(mut learned) = self.learned.lock()
        {
            learned.insert((database.to_owned(), user.to_owned()), secret);
        }
    }

    pub fn learned(&self, database: &str, user: &str) -> ServerSecret {
        let key = (database.to_owned(), user.to_owned());
        let learned = self.learned.lock();
        let secret = learned.ok().and_then(|learned| learned.get(&key).cloned());
        secret.unwrap_or(ServerSecret::None)
    }

    /// Has every session end, at once or when its transaction does.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Has every session look whether it is to end.
    pub fn wake_all(&self) {
        for client in self.clients() {
            client.wake();
        }
    }

    /// The process is to end, and this client with it. One that is too new for that is woken again
    /// by [`Self::wake_all`].
    pub fn sends_away(&self, client: &ClientInfo, cx: &Context<'_>) -> bool {
        if self.is_stopping() && client.is_new() {
            client.register(cx.waker());
            return false;
        }
        self.is_stopping()
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits for `wait` unless the client is sent away, now or meanwhile. The task must be the one
    /// that [`ClientInfo::attend`] was called in.
    ///
    /// # Errors
    /// FATAL 57P01 (admin_shutdown) for the client; `wait` is dropped then.
    pub async fn unless_stopping<T>(
        &self,
        client: &ClientInfo,
        wait: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let mut wait = pin!(wait);
        std::future::poll_fn(|cx| match self.sends_away(client, cx) {
            true => Poll::Ready(Err(shut_down())),
            false => wait.as_mut().poll(cx).map(Ok),
        })
        .await
    }

    /// Gives the client a process id that no other has, and a key of `key_len` random bytes.
    pub fn register(self: &Arc<Self>, who: Newcomer, key_len: usize) -> Registration {
        let mut key = vec![0; key_len];
        rand::fill(&mut key[..]);
        let make = |pid| {
            Arc::new(ClientInfo {
                pid,
                key,
                user: who.user,
                database: who.database,
                application: who.application,
                address: who.address,
                local: who.local,
                tls: who.tls,
                connected_at: Instant::now(),
                cancel: CancelSlot::default(),
                pinned: Mutex::new(None),
                prepared: AtomicUsize::new(0),
                prepared_bytes: AtomicUsize::new(0),
                last_request_us: AtomicU64::new(0),
                waker: Mutex::default(),
                state: AtomicU8::new(0),
                block_us: AtomicU64::new(0),
                verdict: AtomicU8::new(0),
                commits: AtomicBool::new(false),
            })
        };
        let peer_id = self.directory.load().config.general.peer_id;
        let info = match self.clients.0.lock() {
            Ok(mut clients) => {
                let mut pid = draw_pid(peer_id);
                while clients.contains_key(&pid) {
                    pid = draw_pid(peer_id);
                }
                let info = make(pid);
                clients.insert(pid, Arc::clone(&info));
                info
            }
            Err(_) => make(1),
        };
        Registration {
            shared: Arc::clone(self),
            info,
            admitted: false,
        }
    }

    /// The servers to cancel for a CancelRequest; none when the key is not the client's.
    pub fn cancel_targets(&self, pid: i32, key: &[u8]) -> Option<Cancelling> {
        let client = self.clients.0.lock().ok()?.get(&pid).cloned()?;
        let is_his = client.key.len() == key.len() && same(&client.key, key);
        is_his.then(|| client.cancel.cancelling())
    }

    pub fn client_count(&self) -> usize {
        self.clients.0.lock().map_or(0, |clients| clients.len())
    }

    pub fn clients(&self) -> Vec<Arc<ClientInfo>> {
        self.clients
            .0
            .lock()
            .map(|clients| clients.values().cloned().collect())
            .unwrap_or_default()
    }
}

/// A process id for a client: positive, with the process's `peer_id` in its upper bits.
fn draw_pid(peer_id: Option<u16>) -> i32 {
    match peer_id {
        None => rand::random_range(1..=i32::MAX),
        Some(id) => i32::from(id) << CLIENT_BITS | rand::random_range(0..1 << CLIENT_BITS),
    }
}

/// The `peer_id` of the process whose client this is, if that process has one.
pub(super) fn peer_of(pid: i32) -> u16 {
    // 31 bits less 21: at most MAX_PEER_ID.
    u16::try_from(pid >> CLIENT_BITS).unwrap_or(0)
}

/// PostgreSQL's words when an administrator stops the server.
pub(super) fn shut_down() -> Error {
    Error::new(
        Fault::Operator,
        "57P01",
        "terminating connection due to administrator command",
    )
    .fatal()
}

/// Takes the same time wherever the keys differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_id_tells_whose_client_it_is() {
        for id in [1, 2, crate::config::MAX_PEER_ID] {
            let pid = draw_pid(Some(id));
            assert!(pid > 0, "{id}: {pid}");
            assert_eq!(peer_of(pid), id);
        }
        assert!(draw_pid(None) > 0);
        assert_eq!(peer_of(-1), 0);
    }
}
