//! What the process knows of itself while it runs: for the admin database and the metrics.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::history::{History, millis};
use super::{keeper, rows};
use crate::admin::session::{State, serve};
use crate::admin::{Change, Order, Show, Shutdown, Table};
use crate::error::{Error, Fault};
use crate::http::status::Reload;
use crate::metrics::Totals;
use crate::net::{self, Instant};
use crate::session::{ClientState, Registration, Shared};
use crate::wire::conn::Conn;

/// The averages of SHOW STATS are of at least one and less than two of these.
pub const PERIOD: Duration = Duration::from_secs(60);
/// How long an admin who must go may take to accept the last error.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where the result of a RELOAD goes.
pub type Answer = oneshot::Sender<Result<(), Error>>;

/// What the control thread does for an admin.
pub enum Errand {
    /// Reads the configuration again, and says what came of it.
    Reload(Answer),
    /// Changes a setting until the next reload.
    Change(Change, Answer),
    Shutdown(Shutdown),
}

pub struct Live {
    pub shared: Arc<Shared>,
    pub started: Instant,
    pub history: History,
    periods: Mutex<Periods>,
    last_reload: Mutex<Option<Reload>>,
    /// To the control thread, where what a configuration starts must run.
    errands: mpsc::Sender<Errand>,
}

/// The totals at the starts of the last full period and of the one that runs.
struct Periods {
    older: Snapshot,
    newer: Snapshot,
}

#[derive(Clone)]
struct Snapshot {
    at: Instant,
    /// By database.
    totals: HashMap<String, Totals>,
}

impl Snapshot {
    fn of(shared: &Shared) -> Self {
        let directory = shared.directory.load();
        let databases = directory.all().into_iter();
        Self {
            at: Instant::now(),
            totals: databases
                .map(|db| (db.config.name.clone(), db.metrics.totals()))
                .collect(),
        }
    }
}

impl Live {
    /// Also where errands come out.
    pub fn new(shared: Arc<Shared>) -> (Arc<Self>, mpsc::Receiver<Errand>) {
        let (errands, receiver) = mpsc::channel(1);
        let start = Snapshot::of(&shared);
        let periods = Mutex::new(Periods {
            older: start.clone(),
            newer: start,
        });
        let history = History::default();
        history.sample(&shared);
        let live = Arc::new(Self {
            shared,
            started: Instant::now(),
            history,
            periods,
            last_reload: Mutex::default(),
            errands,
        });
        (live, receiver)
    }

    /// Ends a period of the averages; to be called every [`PERIOD`].
    pub fn turn_period(&self) {
        let newest = Snapshot::of(&self.shared);
        let mut periods = self.periods.lock().unwrap_or_else(PoisonError::into_inner);
        periods.older = std::mem::replace(&mut periods.newer, newest);
    }

    /// A reload was applied, or changed nothing because of `error`.
    pub fn reloaded(&self, error: Option<String>) {
        let at_ms = millis(SystemTime::now());
        let mut last = self
            .last_reload
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = Some(Reload { at_ms, error });
    }

    pub fn last_reload(&self) -> Option<Reload> {
        let last = self.last_reload.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A database's totals when the averages' time began, and how long ago that was.
    pub fn earlier(&self, database: &str) -> (Totals, Duration) {
        let periods = self.periods.lock().unwrap_or_else(PoisonError::into_inner);
        let older = &periods.older;
        let totals = older.totals.get(database).copied().unwrap_or_default();
        (totals, older.at.elapsed())
    }

    /// Serves a client of the admin database until it leaves or must go.
    pub async fn serve_admin(&self, mut conn: Conn, registration: Registration) {
        registration.info.set(ClientState::Idle);
        // An operator is sent away at once, however new.
        registration.info.requested(Instant::now());
        registration.info.attend().await;
        let admin = Admin {
            live: self,
            user: &registration.info.user,
        };
        let session = serve(&mut conn, &admin);
        let served = self.shared.unless_stopping(&registration.info, session);
        let served = registration.info.unless_ended(pin!(served)).await;
        if let Err(error) = served.and_then(|end| end) {
            tracing::debug!(client = %registration.info.address, %error, "admin session ended");
            error.write_to(&mut conn.outbox);
        }
        // One that does not read its last answers loses them.
        let _ = net::timeout(FAREWELL, conn.end()).await;
        drop(registration);
        conn.linger().await;
    }
}

impl Live {
    async fn send(&self, errand: Errand) -> Result<(), Error> {
        let sent = self.errands.send(errand).await;
        sent.map_err(|_| stopping())
    }
}

fn stopping() -> Error {
    Error::new(Fault::Operator, "57P01", "the process is shutting down")
}

/// A client of the admin database.
struct Admin<'a> {
    live: &'a Live,
    user: &'a str,
}

impl Admin<'_> {
    /// Has the control thread do something, and waits for what comes of it.
    async fn ask(&self, errand: impl FnOnce(Answer) -> Errand) -> Result<(), Error> {
        let (answer, result) = oneshot::channel();
        self.live.send(errand(answer)).await?;
        result.await.map_err(|_| stopping())?
    }
}

impl State for Admin<'_> {
    fn table(&self, show: Show) -> Table {
        rows::table(self.live, show)
    }

    fn may_order(&self) -> bool {
        let directory = self.live.shared.directory.load();
        let admins = &directory.config.general.admin_users;
        admins.iter().any(|admin| admin == self.user)
    }

    async fn reload(&self) -> Result<(), Error> {
        self.ask(Errand::Reload).await
    }

    async fn change(&self, change: &Change) -> Result<(), Error> {
        self.ask(|answer| Errand::Change(change.clone(), answer))
            .await
    }

    async fn obey(&self, order: &Order) -> Result<(), Error> {
        match order {
            Order::Shutdown(ending) => {
                self.live.send(Errand::Shutdown(*ending)).await?;
                // The answer is the end of the connection.
                std::future::pending().await
            }
            order => keeper::obey(&self.live.shared, order).await,
        }
    }
}
