//! One connected client as others see it: who it is, what it does, which servers work for it, and why it is
//! to end.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_util::future::join_all;

use crate::backend::cancel;
use crate::backend::server::Identity;
use crate::error::{Error, Fault};
use crate::metrics::micros;
use crate::net::{self, Instant};

use Ordering::{Acquire, Relaxed, Release};

/// Bits of a client's process id below its process's `peer_id`: two million clients.
const CLIENT_BITS: u32 = 21;

/// A client that has only just come is served its first statement though the process is to end: it
/// could not know.
const FIRST_STATEMENT: Duration = Duration::from_secs(2);

/// How long a commit over several shards may go on for a session that is to end.
pub const COMMIT_GRACE: Duration = Duration::from_secs(10);

/// Who a client is, before it has a process id.
pub struct Newcomer {
    pub user: String,
    pub database: String,
    pub application: String,
    pub address: String,
    pub local: Option<SocketAddr>,
    pub tls: bool,
}

/// The servers that now work for a client: where its CancelRequest goes.
#[derive(Default)]
pub struct CancelSlot(Mutex<Vec<Arc<Identity>>>);

impl CancelSlot {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Identity>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, server: &Arc<Identity>) {
        self.lock().push(Arc::clone(server));
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    /// For SHOW CLIENTS and SHOW SERVERS.
    pub fn servers(&self) -> Vec<Arc<Identity>> {
        self.lock().clone()
    }

    /// The servers to cancel. Until the [`Cancelling`] is dropped, none of them is given to
    /// another client: the slot is cleared under the same lock before they are given back.
    pub fn cancelling(&self) -> Cancelling {
        let servers = self.lock();
        for server in servers.iter() {
            server.activity.cancels.fetch_add(1, Relaxed);
        }
        Cancelling(servers.clone())
    }
}

/// Servers with a CancelRequest on its way to them.
pub struct Cancelling(pub Vec<Arc<Identity>>);

impl Cancelling {
    /// Sends the requests, all at once: a server that is out of reach must not keep the others at work. Each
    /// may be given to another client when its own has arrived. `why` is for the log.
    pub async fn send(mut self, limit: Duration, why: &'static str) {
        let servers = std::mem::take(&mut self.0).into_iter();
        let each = servers.map(|server| Self(vec![server]));
        let each = each.map(|one| async move {
            for server in &one.0 {
                if let Err(error) = cancel::cancel(server, limit).await {
                    tracing::warn!(%error, why, "cancel request failed");
                }
            }
        });
        join_all(each).await;
    }
}

impl Drop for Cancelling {
    fn drop(&mut self) {
        for server in &self.0 {
            server.activity.cancels.fetch_sub(1, Relaxed);
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
    pinned: Mutex<Option<&'static str>>,
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

    pub(super) fn new(pid: i32, key: Vec<u8>, who: Newcomer) -> Self {
        Self {
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
        }
    }

    /// Whether a CancelRequest with this key is its own.
    pub(super) fn has_key(&self, key: &[u8]) -> bool {
        self.key.len() == key.len() && same(&self.key, key)
    }

    /// Why its server connection stays with it, if one does.
    pub fn pinned(&self) -> Option<&'static str> {
        *self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn tell_pinned(&self, why: Option<&'static str>) {
        *self.pinned.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    pub fn is_logged_in(&self) -> bool {
        self.state() != ClientState::LoggingIn
    }

    /// A statement of its came at `now`. To be called before it is set to Active: a time limit of the
    /// statement before would be held against it otherwise.
    pub fn requested(&self, now: Instant) {
        let since = now.duration_since(self.connected_at);
        self.last_request_us.store(micros(since), Relaxed);
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
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
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
    pub(super) fn is_new(&self) -> bool {
        self.last_request().is_zero() && self.connected_at.elapsed() < FIRST_STATEMENT
    }

    pub(super) fn register(&self, task: &Waker) {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        *waker = Some(task.clone());
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

/// A process id for a client: positive, with the process's `peer_id` in its upper bits.
pub(super) fn draw_pid(peer_id: Option<u16>) -> i32 {
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
    use tokio::net::TcpListener;

    use super::*;
    use crate::backend::server::tests::identity;

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

    #[tokio::test]
    async fn a_server_that_takes_no_cancel_request_does_not_keep_the_others_at_work() {
        let listener = || async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            let port = listener.local_addr().expect("an address").port();
            (listener, Arc::new(identity("127.0.0.1", port)))
        };
        let (_silent, first) = listener().await;
        let (taking, second) = listener().await;
        let slot = CancelSlot::default();
        slot.add(&first);
        slot.add(&second);
        let counts = || [&first, &second].map(|server| server.activity.cancels.load(Relaxed));
        let sending = slot.cancelling().send(Duration::from_secs(60), "a test");
        assert_eq!(counts(), [1, 1]);
        let sending = tokio::spawn(sending);
        let taken = net::timeout(Duration::from_secs(5), taking.accept()).await;
        drop(taken.expect("a request comes").expect("accepted"));
        while counts() != [1, 0] {
            tokio::task::yield_now().await;
        }
        sending.abort();
        assert!(sending.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(counts(), [0, 0]);
    }
}
