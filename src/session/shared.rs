//! What sessions share: the configuration in force, who is connected, and whether the process ends.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use arc_swap::ArcSwap;

use super::client::{Cancelling, ClientInfo, Newcomer, draw_pid, shut_down};
use super::directory::{Directory, MAX_WILD, Wildcard};
use crate::config::ServerSecret;
use crate::error::{Error, Fault};
use crate::executor::database::Database;
use crate::metrics::Metrics;
use crate::net::Instant;
use crate::spans::Tracer;

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

/// The connected clients by the process id they were told.
#[derive(Default)]
pub struct Clients(Mutex<HashMap<i32, Arc<ClientInfo>>>);

impl Clients {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Arc<ClientInfo>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        self.shared.clients.lock().remove(&self.info.pid);
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
        if !secret.is_none() {
            let key = (database.to_owned(), user.to_owned());
            self.lock_learned().insert(key, secret);
        }
    }

    pub fn learned(&self, database: &str, user: &str) -> ServerSecret {
        let key = (database.to_owned(), user.to_owned());
        let secret = self.lock_learned().get(&key).cloned();
        secret.unwrap_or(ServerSecret::None)
    }

    fn lock_learned(&self) -> MutexGuard<'_, HashMap<(String, String), ServerSecret>> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
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
        let peer_id = self.directory.load().config.general.peer_id;
        let mut clients = self.clients.lock();
        let mut pid = draw_pid(peer_id);
        while clients.contains_key(&pid) {
            pid = draw_pid(peer_id);
        }
        let info = Arc::new(ClientInfo::new(pid, key, who));
        clients.insert(pid, Arc::clone(&info));
        Registration {
            shared: Arc::clone(self),
            info,
            admitted: false,
        }
    }

    /// The servers to cancel for a CancelRequest; none when the key is not the client's.
    pub fn cancel_targets(&self, pid: i32, key: &[u8]) -> Option<Cancelling> {
        let client = self.clients.lock().get(&pid).cloned()?;
        client.has_key(key).then(|| client.cancel.cancelling())
    }

    pub fn client_count(&self) -> usize {
        self.clients.lock().len()
    }

    pub fn clients(&self) -> Vec<Arc<ClientInfo>> {
        self.clients.lock().values().cloned().collect()
    }
}
