//! Server connections of one (server, database, user): bb8 behind a fair queue.
//!
//! bb8 keeps the connections that nobody uses; the [`Line`] in front of it knows how many they are,
//! and who waits, so a newcomer never overtakes and nobody waits inside bb8. Connections are opened by
//! [`Pool::grow`] when somebody waits, within the limits, and looked after by [`Pool::tend`].

pub mod cap;
mod growth;
mod line;
pub mod retired;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;

use crate::backend::connect::ConnectTarget;
use crate::backend::server::{Identity, Server};
use crate::config::{PoolSettings, ServerSecret};
use crate::error::{Error, Fault};
use crate::metrics::{DatabaseMetrics, ServerMetrics};
use crate::net::Instant;
use cap::{Cap, Share};
use growth::Opened;
use line::{Call, Line, Place, Seat};

/// Which server connections are interchangeable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolKey {
    pub endpoint: crate::config::Endpoint,
    pub dbname: String,
    pub user: String,
}

/// A connection as bb8 keeps it.
pub struct Held {
    server: Server,
    /// Against its pool and the caps; given back however it ends.
    _counted: Counted,
}

/// What bb8 asks of us.
struct Manager;

impl bb8::ManageConnection for Manager {
    // Boxed: bb8 and sessions move connections about, and a pointer moves for nothing.
    type Connection = Box<Held>;
    type Error = Error;

    /// Never needed: who has a place finds a connection behind it.
    async fn connect(&self) -> Result<Box<Held>, Error> {
        Err(lost_place())
    }

    /// Not used: see [`Pool::checkout`].
    async fn is_valid(&self, _: &mut Box<Held>) -> Result<(), Error> {
        Ok(())
    }

    /// Decided by the lease that ends, so that it and bb8 agree.
    fn has_broken(&self, held: &mut Box<Held>) -> bool {
        held.server.doubt.is_some()
    }
}

fn lost_place() -> Error {
    Error::new(
        Fault::Ringway,
        "XX000",
        "a place in the pool has no connection",
    )
}

pub struct Pool {
    pub key: PoolKey,
    /// What the user logs in with.
    pub secret: ServerSecret,
    target: ConnectTarget,
    metrics: Arc<DatabaseMetrics>,
    server: Arc<ServerMetrics>,
    /// Those who wait, and what is free.
    line: Line,
    /// Of those who wait, those who have done so for so long that the reserve is for them.
    overdue: AtomicUsize,
    connections: bb8::Pool<Manager>,
    state: Mutex<State>,
    /// For those who wait for the last connection to close.
    last_closed: Notify,
    open: Mutex<Vec<Opened>>,
    /// Of its user, and of its database on this server.
    caps: Arc<[Arc<Cap>]>,
    /// A session has used it: only then are connections kept ready for more.
    used: AtomicBool,
    this: Weak<Self>,
}

/// What changes rarely, and is looked at only when somebody waits or a connection opens or closes.
struct State {
    settings: PoolSettings,
    phase: Phase,
    /// Connections that are open or being opened.
    total: u32,
    /// Of these, those being opened.
    opening: u32,
    /// About to be opened: the caps are being asked for room.
    booked: u32,
    failure: Option<(Instant, Error)>,
    /// How often those who waited were sent elsewhere.
    departures: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Who has begun a transaction is still served, since the pause waits for its end; nobody else
    /// is, and what comes back is closed.
    Paused,
    /// Its database is gone from the configuration, or another: who has begun a transaction on it is
    /// still served, and what comes back is closed.
    Retired,
    /// Retired in a pause: nobody is served any more.
    Gone,
}

/// Whether a session holds connections of a pool's database already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amid {
    Nothing,
    /// What it asks for belongs to the same transaction.
    Transaction,
}

/// Why there is no connection to be had.
#[derive(Debug)]
pub enum Denied {
    /// The pool has been retired. Nothing was sent: the session may ask the pool that is there now.
    Gone,
    /// The server has another role now, or is down. Nothing was sent: the session may ask another.
    Moved,
    Error(Error),
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Error(error) => error,
            Denied::Moved => Self::new(
                Fault::Server,
                "57P03",
                "the server has gone while the statement waited for a connection",
            )
            .detail("The statement was not sent to it.")
            .hint("Try again."),
            Denied::Gone => Self::new(
                Fault::Operator,
                "57P03",
                "the servers of the database were changed while the statement waited",
            )
            .detail("It was not sent to any of them.")
            .hint("Roll back, and run the transaction again: it goes to the new servers."),
        }
    }
}

type Connection = bb8::PooledConnection<'static, Manager>;

/// A server connection lent to one session. Dropping it gives it back; one in doubt is closed.
pub struct Lease {
    /// `None` only while it is dropped.
    connection: Option<Connection>,
    pool: Arc<Pool>,
    /// How long its session has waited for it.
    pub waited: Duration,
}

impl Lease {
    fn new(pool: &Arc<Pool>, connection: Connection) -> Self {
        Self {
            connection: Some(connection),
            pool: Arc::clone(pool),
            waited: Duration::ZERO,
        }
    }
}

const HELD: &str = "a lease has its connection until it is dropped";

impl Deref for Lease {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.connection.as_ref().expect(HELD).server
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.connection.as_mut().expect(HELD).server
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let server = &mut connection.server;
        if !server.is_clean() || server.tainted {
            server.doubt.get_or_insert("it was not left clean");
        } else if server.identity.activity.close_needed.load(Relaxed) {
            server.doubt = Some("it was to be closed");
        } else if self.pool.caps.iter().any(|cap| cap.wants_room(&self.pool)) {
            server.doubt = Some("another pool needs the room");
        }
        match server.doubt {
            None => self.pool.line.give(connection),
            Some(_) => drop(connection),
        }
    }
}

/// A connection's mark in the books of its pool, and of the caps.
struct Counted {
    pool: Weak<Pool>,
    share: Option<Share>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let pool = self.pool.upgrade();
        if let Some(pool) = &pool {
            pool.closed();
        }
        // Before its own pool opens another in its place: in a full cap that would cost another pool
        // an idle connection.
        self.share = None;
        if let Some(pool) = pool.filter(|pool| pool.waiting() > 0) {
            pool.grow();
        }
    }
}

impl Pool {
    /// `caps`: those of the user and of the database, which it joins.
    pub fn new(
        target: ConnectTarget,
        settings: PoolSettings,
        metrics: Arc<DatabaseMetrics>,
        server: Arc<ServerMetrics>,
        caps: [Arc<Cap>; 2],
    ) -> Arc<Self> {
        let key = PoolKey {
            endpoint: target.endpoint.clone(),
            dbname: target.dbname.clone(),
            user: target.user.clone(),
        };
        let connections = bb8::Pool::builder()
            // Ours to limit, to open, to test and to age: see the parent, `growth` and the ADR.
            .max_size(u32::MAX)
            .min_idle(Some(0))
            .test_on_check_out(false)
            .retry_connection(false)
            .idle_timeout(None)
            .max_lifetime(None)
            // The most recently used connection has the warmest caches, and the others can age out.
            .queue_strategy(bb8::QueueStrategy::Lifo)
            .build_unchecked(Manager);
        let pool = Arc::new_cyclic(|this| Self {
            key,
            secret: target.secret.clone(),
            target,
            metrics,
            server,
            line: Line::default(),
            overdue: AtomicUsize::new(0),
            connections,
            state: Mutex::new(State {
                settings,
                phase: Phase::Open,
                total: 0,
                opening: 0,
                booked: 0,
                failure: None,
                departures: 0,
            }),
            last_closed: Notify::new(),
            open: Mutex::default(),
            caps: caps.into(),
            used: AtomicBool::new(false),
            this: Weak::clone(this),
        });
        for cap in pool.caps.iter() {
            cap.join(&pool.this);
        }
        pool
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection, if one is free: then nobody waits.
    pub fn try_checkout(self: &Arc<Self>) -> Option<Lease> {
        if self.waiting() > 0 {
            return None;
        }
        while let Some(place) = self.line.take(Amid::Nothing) {
            let lease = self.lend(place).ok()?;
            if lease.is_some() {
                self.metrics.checkout_done(Duration::ZERO);
                return lease;
            }
        }
        None
    }

    /// A connection, in order of asking.
    ///
    /// # Errors
    /// [`Denied::Gone`] from a pool that was retired; 53300 when none came free within
    /// `checkout_timeout`, or why no new one could be opened.
    ///
    /// Cancel safety: dropping the future gives up the place in the queue and loses nothing.
    pub async fn checkout(self: &Arc<Self>, amid: Amid) -> Result<Lease, Denied> {
        let mut waited = Duration::ZERO;
        loop {
            let place = match Seat::or_place(self, amid) {
                Ok(place) => {
                    self.metrics.checkout_done(Duration::ZERO);
                    place
                }
                Err(seat) => {
                    let (place, time) = self.wait(amid, seat).await?;
                    waited += time;
                    place
                }
            };
            if let Some(mut lease) = self.lend(place).map_err(Denied::Error)? {
                lease.waited = waited;
                return Ok(lease);
            }
        }
    }

    /// The connection of a place; `None` if it was closed while it was idle.
    fn lend(self: &Arc<Self>, place: Place) -> Result<Option<Lease>, Error> {
        let connection = match place {
            Place::Warm(connection) => connection,
            Place::Idle(_) => match self.connections.get_owned().now_or_never() {
                Some(Ok(connection)) => connection,
                Some(Err(_)) | None => return Err(lost_place()),
            },
        };
        let mut lease = Lease::new(self, connection);
        if lease.is_stale() {
            lease.doubt = Some("it was closed while idle");
            return Ok(None);
        }
        Ok(Some(lease))
    }

    /// Waits for its turn; answers how long.
    async fn wait(&self, amid: Amid, mut seat: Seat<'_>) -> Result<(Place, Duration), Denied> {
        let asked = Instant::now();
        let (mut start, mut now) = (asked, asked);
        self.used.store(true, Relaxed);
        let (mut departures, mut overdue) = (None, None);
        loop {
            let until = match self.wait_until(start, now, amid, &mut departures, &mut overdue) {
                Wait::Over(denied) => return Err(denied),
                Wait::Until(until) => Some(until),
                // Time stands still in a pause.
                Wait::Paused => None,
            };
            let call = poll_fn(|cx| seat.poll_call(cx, until)).await;
            now = Instant::now();
            match call {
                Call::Served(place) => {
                    let waited = now.duration_since(asked);
                    self.metrics.checkout_done(waited);
                    return Ok((place, waited));
                }
                Call::Look if until.is_none() => start = now,
                Call::Look => {
                    let timeout = self.settings().checkout_timeout;
                    if now.duration_since(start) >= timeout {
                        return Err(Denied::Error(self.timed_out(timeout)));
                    }
                }
            }
        }
    }

    /// Has connections opened for one who has waited from `start` to `now`, and tells until when to
    /// wait. `departures`: those that there were when it came.
    fn wait_until<'p>(
        &'p self,
        start: Instant,
        now: Instant,
        amid: Amid,
        departures: &mut Option<u64>,
        overdue: &mut Option<Waiting<'p>>,
    ) -> Wait {
        let state = self.state();
        if *departures.get_or_insert(state.departures) != state.departures {
            return Wait::Over(Denied::Moved);
        }
        match (state.phase, amid) {
            (Phase::Open, _) | (Phase::Paused | Phase::Retired, Amid::Transaction) => {}
            (Phase::Paused, Amid::Nothing) => return Wait::Paused,
            (Phase::Retired, Amid::Nothing) | (Phase::Gone, _) => {
                return Wait::Over(Denied::Gone);
            }
        }
        let settings = &state.settings;
        let checkout_at = start + settings.checkout_timeout;
        let reserve_at = (settings.reserve_size > 0).then(|| start + settings.reserve_timeout);
        if reserve_at.is_some_and(|at| at <= now) {
            overdue.get_or_insert_with(|| Waiting::new(&self.overdue));
        }
        // In this order: time passes, and who hears of no failure has to find the server asked again.
        if let Some(error) = state.hopeless() {
            return Wait::Over(Denied::Error(error));
        }
        let is_full = state.total + state.booked >= settings.size + settings.reserve_size;
        drop(state);
        if !is_full {
            self.grow();
        }
        Wait::Until(match reserve_at {
            Some(at) if overdue.is_none() => at.min(checkout_at),
            Some(_) | None => checkout_at,
        })
    }

    fn timed_out(&self, timeout: Duration) -> Error {
        let (in_use, idle, opening) = self.usage();
        Error::new(
            Fault::Operator,
            "53300",
            "no server connection became free in time",
        )
        .detail(format!(
            "Of the {} connections to {} for database \"{}\", user \"{}\", {in_use} were in use \
             and {opening} being opened when {} ms were over.",
            in_use + idle + opening,
            self.key.endpoint,
            self.key.dbname,
            self.key.user,
            timeout.as_millis()
        ))
        .hint("Raise pool_size or checkout_timeout_ms, or shorten transactions.")
    }

    /// Connections in use, idle, and being opened.
    pub fn usage(&self) -> (u32, u32, u32) {
        let (total, opening) = {
            let state = self.state();
            (state.total, state.opening)
        };
        let idle = (self.idle() as u32).min(total - opening);
        (total - opening - idle, idle, opening)
    }

    fn idle(&self) -> usize {
        self.line.free()
    }

    /// Sessions waiting for a connection now.
    pub fn waiting(&self) -> usize {
        self.line.waiting()
    }

    /// What it goes by now.
    pub fn settings(&self) -> PoolSettings {
        self.state().settings.clone()
    }

    /// The open connections, for SHOW SERVERS.
    pub fn servers(&self) -> Vec<Arc<Identity>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().filter_map(Opened::identity).collect()
    }
}

/// How a session that finds no place goes on.
enum Wait {
    Until(Instant),
    Paused,
    /// The pool is retired, or the server lets nobody in.
    Over(Denied),
}

/// Counts one who waits for as long as it lives, however its future ends.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
