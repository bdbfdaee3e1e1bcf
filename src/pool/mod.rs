//! Server connections of one (server, database, user): bb8 behind a fair queue.
//!
//! bb8 keeps the connections; a FIFO semaphore in front of it keeps the order of those who wait,
//! so a newcomer never overtakes, and a full pool never makes bb8 wait.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::backend::connect::{ConnectTarget, connect};
use crate::backend::server::{Activity, Identity, Server};
use crate::config::{PoolSettings, ServerSecret};
use crate::error::{Error, Fault};
use crate::metrics::{DatabaseMetrics, ServerMetrics};
use crate::net::{Instant, timeout};
use crate::wire::conn::Conn;

/// Which server connections are interchangeable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolKey {
    pub endpoint: crate::config::Endpoint,
    pub dbname: String,
    pub user: String,
}

/// What bb8 asks of us.
pub struct Manager {
    target: ConnectTarget,
    max_prepared: usize,
    server: Arc<ServerMetrics>,
    open: Arc<Mutex<Vec<Weak<Identity>>>>,
}

impl bb8::ManageConnection for Manager {
    // Boxed: bb8 and sessions move connections about, and a pointer moves for nothing.
    type Connection = Box<Server>;
    type Error = Error;

    async fn connect(&self) -> Result<Box<Server>, Error> {
        let connected = connect(&self.target).await.inspect_err(|_| {
            self.server.connect_failures.increment(1);
        })?;
        self.server.connects.increment(1);
        let identity = Identity {
            id: rand::random_range(1..=i32::MAX as u32),
            endpoint: self.target.endpoint.clone(),
            user: self.target.user.clone(),
            pid: connected.pid,
            cancel_key: connected.cancel_key,
            tls: connected.stream.is_tls(),
            peer: connected.stream.peer_addr(),
            local: connected.stream.local_addr(),
            connected_at: Instant::now(),
            activity: Activity::default(),
        };
        let server = Server::new(
            Conn::new(connected.stream, connected.leftover),
            identity,
            connected.parameters.into_iter().collect(),
            self.max_prepared,
        );
        if let Ok(mut open) = self.open.lock() {
            open.retain(|identity| identity.strong_count() > 0);
            open.push(Arc::downgrade(&server.identity));
        }
        Ok(Box::new(server))
    }

    /// Not used: see [`Pool::checkout`].
    async fn is_valid(&self, _: &mut Box<Server>) -> Result<(), Error> {
        Ok(())
    }

    fn has_broken(&self, server: &mut Box<Server>) -> bool {
        !server.is_clean() || server.tainted
    }
}

pub struct Pool {
    pub key: PoolKey,
    /// What the user logs in with.
    pub secret: ServerSecret,
    /// Sessions waiting for a connection now.
    waiting: AtomicUsize,
    metrics: Arc<DatabaseMetrics>,
    settings: PoolSettings,
    connections: bb8::Pool<Manager>,
    queue: Arc<Semaphore>,
    open: Arc<Mutex<Vec<Weak<Identity>>>>,
}

/// A server connection lent to one session. Dropping it gives it back; one in doubt is closed.
pub struct Lease {
    connection: bb8::PooledConnection<'static, Manager>,
    /// Held until the connection is back, so that the limit holds while it is cleaned.
    _place: OwnedSemaphorePermit,
}

impl Deref for Lease {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.connection
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.connection
    }
}

impl Pool {
    pub fn new(
        target: ConnectTarget,
        settings: &PoolSettings,
        metrics: Arc<DatabaseMetrics>,
        server: Arc<ServerMetrics>,
    ) -> Arc<Self> {
        let open = Arc::default();
        let key = PoolKey {
            endpoint: target.endpoint.clone(),
            dbname: target.dbname.clone(),
            user: target.user.clone(),
        };
        let secret = target.secret.clone();
        let manager = Manager {
            target,
            max_prepared: settings.max_prepared.max(1),
            server,
            open: Arc::clone(&open),
        };
        let connections = bb8::Pool::builder()
            .max_size(settings.size)
            .min_idle(Some(0))
            // [`Pool::checkout`] does: bb8 would replace what is stale behind our back, and hide why
            // it cannot.
            .test_on_check_out(false)
            .retry_connection(false)
            .connection_timeout(settings.checkout_timeout)
            .idle_timeout(Some(settings.idle_timeout))
            .max_lifetime(Some(settings.max_lifetime))
            // The most recently used connection has the warmest caches, and the others can age out.
            .queue_strategy(bb8::QueueStrategy::Lifo)
            .build_unchecked(manager);
        Arc::new(Self {
            key,
            secret,
            waiting: AtomicUsize::new(0),
            metrics,
            settings: settings.clone(),
            connections,
            queue: Arc::new(Semaphore::new(settings.size as usize)),
            open,
        })
    }

    /// A connection, in order of asking.
    ///
    /// # Errors
    /// 53300 when none came free within `checkout_timeout`, or why no new one could be opened.
    ///
    /// Cancel safety: dropping the future gives up the place in the queue and loses nothing.
    pub async fn checkout(&self) -> Result<Lease, Error> {
        let place = match Arc::clone(&self.queue).try_acquire_owned() {
            Ok(place) => {
                self.metrics.checkout_done(Duration::ZERO);
                place
            }
            Err(_) => self.wait_for_place().await?,
        };
        let connection = loop {
            if self.connections.state().idle_connections == 0 {
                // Connecting ourselves tells the true reason when it fails; bb8 only times out.
                let server = Box::pin(self.connections.dedicated_connection()).await?;
                // Another lease may have come back meanwhile; then ours is one too many.
                let _ = self.connections.add(server);
            }
            let mut connection = self.connections.get_owned().await.map_err(|e| match e {
                bb8::RunError::User(error) => error,
                bb8::RunError::TimedOut => self.timed_out(),
            })?;
            if !connection.is_stale() {
                break connection;
            }
            connection.doubt = Some("it was closed while idle");
        };
        Ok(Lease {
            connection,
            _place: place,
        })
    }

    async fn wait_for_place(&self) -> Result<OwnedSemaphorePermit, Error> {
        let start = Instant::now();
        let _waiting = Waiting::new(&self.waiting);
        let waited = timeout(
            self.settings.checkout_timeout,
            Arc::clone(&self.queue).acquire_owned(),
        );
        let place = waited
            .await
            .map_err(|_| self.timed_out())?
            .map_err(|_| self.timed_out())?;
        self.metrics.checkout_done(start.elapsed());
        Ok(place)
    }

    fn timed_out(&self) -> Error {
        Error::new(
            Fault::Operator,
            "53300",
            "no server connection became free in time",
        )
        .detail(format!(
            "All {} connections to {} for database \"{}\", user \"{}\" were in use for {} ms.",
            self.settings.size,
            self.key.endpoint,
            self.key.dbname,
            self.key.user,
            self.settings.checkout_timeout.as_millis()
        ))
        .hint("Raise pool_size or checkout_timeout_ms, or shorten transactions.")
    }

    /// (connections in use, connections idle).
    pub fn usage(&self) -> (u32, u32) {
        let state = self.connections.state();
        (
            state.connections.saturating_sub(state.idle_connections),
            state.idle_connections,
        )
    }

    /// Sessions waiting for a connection now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// The open connections, for SHOW SERVERS.
    pub fn servers(&self) -> Vec<Arc<Identity>> {
        self.open
            .lock()
            .map(|open| open.iter().filter_map(Weak::upgrade).collect())
            .unwrap_or_default()
    }
}

/// Counts a waiter for as long as it lives, however its future ends.
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
