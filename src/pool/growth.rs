//! How many connections a pool has: opening them, closing them, keeping some ready.
//!
//! Every connection, also one that is being opened, is counted in `State::total` and in the pool's
//! caps, and a free one has its place in the [`super::line::Line`]. A connection that is opened belongs to
//! nobody: when it is there, it goes to whoever is first in the queue.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, Weak};

use futures_util::FutureExt;
use tokio::runtime::Handle;

use super::line::Place;
use super::{Amid, Counted, Held, Phase, Pool, Share, State};
use crate::backend::connect::{ConnectTarget, connect};
use crate::backend::server::prepared::PreparedLimits;
use crate::backend::server::{Activity, Identity, Server};
use crate::config::PoolSettings;
use crate::error::Error;
use crate::net::Instant;
use crate::wire::conn::Conn;

/// Logins of one pool under way at once: a burst of clients must neither open its connections one
/// after the other nor throw them all at the server.
const LOGINS_AT_ONCE: u32 = 8;
/// A connection lives this share less than it may, at most: those opened together must not all be
/// opened again together.
const JITTER: f64 = 0.1;

/// An open connection, wherever it is.
pub(super) struct Opened {
    identity: Weak<Identity>,
    /// The share of its life time, and of its idle time, that it is given.
    share: f64,
}

impl Opened {
    pub(super) fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.upgrade()
    }
}

/// Counted as being opened for as long as it lives.
struct Opening(Arc<Pool>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.state().opening -= 1;
    }
}

impl Pool {
    /// Opens connections for those who wait, as many as are allowed now: beyond `pool_size` when one
    /// of them is overdue. False if there are none to open.
    pub(super) fn grow(&self) -> bool {
        let mut has_grown = false;
        while self.open_one(|state| self.wants_one(state)) {
            has_grown = true;
        }
        has_grown
    }

    fn wants_one(&self, state: &State) -> bool {
        let most = match self.overdue.load(Relaxed) {
            0 => state.settings.size,
            _ => state.settings.size + state.settings.reserve_size,
        };
        state.total + state.booked < most
            && self.waiting_in(state.phase) > (state.booked + state.opening) as usize
            && state.may_open()
    }

    /// Those who are served in this phase.
    fn waiting_in(&self, phase: Phase) -> usize {
        match phase {
            Phase::Open => self.waiting(),
            Phase::Paused | Phase::Retired => self.line.waiting_amid(),
            Phase::Gone => 0,
        }
    }

    /// Starts to open one connection if one is `wanted`. False when it is not, or when a cap has no
    /// room for it: the pool stands in line.
    fn open_one(&self, wanted: impl FnOnce(&State) -> bool) -> bool {
        let (Some(pool), Ok(runtime)) = (self.this.upgrade(), Handle::try_current()) else {
            return false;
        };
        {
            // Others look too: what one of them decides on must not be decided on twice.
            let mut state = self.state();
            if !wanted(&state) {
                return false;
            }
            state.booked += 1;
        }
        let share = self.take_share();
        {
            let mut state = self.state();
            state.booked -= 1;
            if share.is_none() {
                return false;
            }
            state.total += 1;
            state.opening += 1;
        }
        let counted = Counted {
            pool: Weak::clone(&self.this),
            share,
        };
        let opening = Opening(pool);
        runtime.spawn(async move {
            let pool = Arc::clone(&opening.0);
            match pool.log_in().await {
                Ok(server) => {
                    let _counted = counted;
                    pool.opened(opening, Box::new(Held { server, _counted }));
                }
                Err(error) => pool.failed(opening, counted, error),
            }
        });
        true
    }

    /// Room in all caps; without any, the pool stands in line.
    fn take_share(&self) -> Option<Share> {
        loop {
            match Share::take(&self.caps) {
                Ok(share) => return Some(share),
                Err(cap) if cap.evict(&self.this) => {}
                Err(cap) => {
                    cap.stand_in_line(&self.this);
                    return None;
                }
            }
        }
    }

    async fn log_in(&self) -> Result<Server, Error> {
        let settings = self.settings();
        let target = ConnectTarget {
            connect_timeout: settings.connect_timeout,
            ..self.target.clone()
        };
        let connected = connect(&target).await.inspect_err(|_| {
            self.server.connect_failures.increment(1);
        })?;
        self.server.connects.increment(1);
        let identity = Identity {
            id: rand::random_range(1..=i32::MAX as u32),
            endpoint: target.endpoint,
            user: target.user,
            pid: connected.pid,
            cancel_key: connected.cancel_key,
            tls: target.tls.filter(|_| connected.stream.is_tls()),
            peer: connected.stream.peer_addr(),
            local: connected.stream.local_addr(),
            connected_at: Instant::now(),
            activity: Activity::default(),
        };
        Ok(Server::new(
            Conn::new(connected.stream, connected.leftover),
            identity,
            connected.parameters.into_iter().collect(),
            PreparedLimits {
                count: settings.max_prepared,
                bytes: settings.max_prepared_bytes,
            },
        ))
    }

    /// A connection is there: the first in the queue gets it.
    fn opened(self: &Arc<Self>, opening: Opening, held: Box<Held>) {
        drop(opening);
        let identity = &held.server.identity;
        let phase = {
            let mut state = self.state();
            state.failure = None;
            let most = state.settings.size + state.settings.reserve_size;
            let is_open = state.phase == Phase::Open;
            identity.activity.close_needed.store(!is_open, Relaxed);
            // Who is not served any more has perhaps asked for it.
            if state.total > most || !is_open && self.waiting_in(state.phase) == 0 {
                return;
            }
            state.phase
        };
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|opened| opened.identity.strong_count() > 0);
            open.push(Opened {
                identity: Arc::downgrade(identity),
                share: 1.0 - rand::random::<f64>() * JITTER,
            });
        }
        if self.connections.add(held).is_ok() {
            self.line.add(1, phase.serves());
        }
        // PAUSE may have come meanwhile, or RESUME, and not have seen it.
        if self.state().phase != phase {
            self.reconnect();
        }
        self.grow();
    }

    fn failed(&self, opening: Opening, counted: Counted, error: Error) {
        // Before the place is free, or who waits would try again at once.
        self.state().failure = Some((Instant::now(), error));
        drop(opening);
        drop(counted);
    }

    /// A connection is gone, or could not be opened.
    pub(super) fn closed(&self) {
        let total = {
            let mut state = self.state();
            state.total -= 1;
            state.total
        };
        // Who waits for that may have begun before a reload took this pool out of use.
        if total == 0 {
            self.line.call_all();
            self.last_closed.notify_waiters();
        }
    }

    /// Takes the idle connections out, and puts back those that `keep` is true for; the one used
    /// last comes first. At most `most` are closed, those unused for longest.
    fn weed(&self, most: usize, mut keep: impl FnMut(&mut Server) -> bool) -> usize {
        let mut closing = Vec::new();
        {
            // Nobody may think that there are none while they are here.
            let state = self.state();
            let mut idle = Vec::new();
            while let Some(place) = self.line.take(Amid::Transaction) {
                let connection = match place {
                    Place::Warm(connection) => Some(Ok(connection)),
                    Place::Idle(_) => self.connections.get_owned().now_or_never(),
                };
                match connection {
                    Some(Ok(connection)) => idle.push(connection),
                    Some(Err(_)) | None => break,
                }
            }
            let mut kept = 0;
            for mut connection in idle.into_iter().rev() {
                let server = &mut connection.server;
                if closing.len() < most && !keep(server) {
                    server.doubt = Some("it was not needed");
                    closing.push(connection);
                } else {
                    kept += 1;
                }
            }
            self.line.add(kept, state.phase.serves());
        }
        closing.len()
    }

    /// Closes the idle connection that was unused for longest; false when there is none.
    pub(super) fn close_one_idle(&self) -> bool {
        self.idle() > 0 && self.weed(1, |_| false) > 0
    }

    fn close_idle(&self) {
        self.weed(usize::MAX, |_| false);
    }

    /// Looks after the connections: closes those that are too old, unused for too long, or lost,
    /// keeps `min_pool_size` of them open, and tries again for those who wait. To be called now and
    /// then.
    ///
    /// `for_all`: every client uses this pool, so connections are kept ready from the start.
    pub fn tend(self: &Arc<Self>, now: Instant, for_all: bool) {
        let settings = self.settings();
        self.mark_old(&settings, now);
        if self.idle() > 0 {
            self.close_unused(&settings, now);
        }
        self.grow();
        if for_all || self.used.load(Relaxed) {
            self.keep_ready(settings.min_size.min(settings.size));
        }
    }

    fn mark_old(&self, settings: &PoolSettings, now: Instant) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (opened, identity) in open.iter().filter_map(|o| Some((o, o.identity()?))) {
            let age = now.duration_since(identity.connected_at);
            if age >= settings.max_lifetime.mul_f64(opened.share) {
                identity.activity.close_needed.store(true, Relaxed);
            }
        }
    }

    fn close_unused(&self, settings: &PoolSettings, now: Instant) {
        self.weed(usize::MAX, |server| {
            !server.identity.activity.close_needed.load(Relaxed) && !server.is_stale()
        });
        let spare = self.state().total.saturating_sub(settings.min_size);
        let share = |server: &Server| {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let same = |opened: &&Opened| {
                std::ptr::eq(opened.identity.as_ptr(), Arc::as_ptr(&server.identity))
            };
            open.iter().find(same).map_or(1.0, |opened| opened.share)
        };
        let is_used = |server: &Server| {
            let unused = server.identity.unused_for(now);
            // Most are: nothing to look up.
            unused < settings.idle_timeout.mul_f64(1.0 - JITTER)
                || unused < settings.idle_timeout.mul_f64(share(server))
        };
        if spare > 0 {
            self.weed(spare as usize, |server| is_used(server));
        }
    }

    fn keep_ready(&self, least: u32) {
        let is_open = |state: &State| state.phase == Phase::Open && state.may_open();
        while self.open_one(|state| is_open(state) && state.total + state.booked < least) {}
    }

    /// Has every connection that is open now closed: idle ones at once, others when they come back.
    pub fn reconnect(&self) {
        self.mark(u32::MAX);
        self.close_idle();
    }

    /// Marks `count` connections to be closed when they come back.
    fn mark(&self, count: u32) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for identity in open
            .iter()
            .filter_map(Opened::identity)
            .take(count as usize)
        {
            identity.activity.close_needed.store(true, Relaxed);
        }
    }

    /// Connections that are to be closed and still open.
    pub fn closing(&self) -> usize {
        let servers = self.servers();
        let marked = |server: &&Arc<Identity>| server.activity.close_needed.load(Relaxed);
        servers.iter().filter(marked).count()
    }

    /// Serves only who is amid a transaction from now on, and closes every connection as soon as
    /// nobody uses it.
    pub fn pause(&self) {
        self.enter(|phase| match phase {
            Phase::Open | Phase::Paused => Phase::Paused,
            Phase::Retired | Phase::Gone => Phase::Gone,
        });
        self.reconnect();
    }

    pub fn resume(self: &Arc<Self>) {
        self.enter(|phase| match phase {
            Phase::Open | Phase::Paused => Phase::Open,
            Phase::Retired | Phase::Gone => phase,
        });
        // Nobody may have come for what was opened in the pause.
        self.close_idle();
        self.grow();
    }

    /// Its sessions end or go elsewhere: what is idle is closed, and what comes back.
    pub fn retire(&self) {
        self.enter(|phase| match phase {
            Phase::Open | Phase::Retired => Phase::Retired,
            Phase::Paused | Phase::Gone => Phase::Gone,
        });
        self.reconnect();
    }

    fn enter(&self, next: impl Fn(Phase) -> Phase) {
        {
            let mut state = self.state();
            state.phase = next(state.phase);
        }
        self.line.call_all();
        self.last_closed.notify_waiters();
    }

    /// The server is down, or is to be used no more as it was: idle connections are closed, others when
    /// they come back, and those who wait are sent elsewhere.
    pub fn leave(&self) {
        self.state().departures += 1;
        self.reconnect();
        self.line.call_all();
    }

    /// As [`Pool::leave`], for one that is no primary any more: nothing is to be written there, not even in
    /// transactions that are open.
    pub fn demote(&self) {
        for identity in self.servers() {
            identity.activity.demoted.store(true, Relaxed);
        }
        self.leave();
    }

    /// The server is there again: what a login found before says nothing any more.
    pub fn forget_failure(&self) {
        if self.state().failure.take().is_some() {
            self.line.call_all();
        }
    }

    /// Waits until no connection is open, as happens in a pause.
    pub async fn all_closed(&self) {
        loop {
            let mut news = std::pin::pin!(self.last_closed.notified());
            news.as_mut().enable();
            if self.state().total == 0 {
                return;
            }
            news.await;
        }
    }

    /// Goes by other limits from now on; what is too much is closed when it comes back.
    pub fn apply(self: &Arc<Self>, settings: PoolSettings) {
        let surplus = {
            let mut state = self.state();
            let most = settings.size + settings.reserve_size;
            state.settings = settings;
            state.total.saturating_sub(most)
        };
        if surplus > 0 {
            let idle = self.weed(surplus as usize, |_| false) as u32;
            self.mark(surplus - idle);
        }
        // Those who wait have other deadlines now, and perhaps room.
        self.line.call_all();
        self.grow();
    }
}

impl Phase {
    /// Whom what is free is for.
    fn serves(self) -> Amid {
        match self {
            Self::Open => Amid::Nothing,
            Self::Paused | Self::Retired | Self::Gone => Amid::Transaction,
        }
    }
}

impl State {
    /// Why it is no use to wait: the last login failed, and there is no connection that could come
    /// back.
    pub(super) fn hopeless(&self) -> Option<Error> {
        if self.total > 0 || self.may_log_in() {
            return None;
        }
        self.failure.as_ref().map(|(_, error)| error.clone())
    }

    fn may_open(&self) -> bool {
        self.booked + self.opening < LOGINS_AT_ONCE && self.may_log_in()
    }

    /// A server that let nobody in is not asked again at once.
    fn may_log_in(&self) -> bool {
        let failed = self.failure.as_ref();
        failed.is_none_or(|(at, _)| at.elapsed() >= self.settings.login_retry)
    }
}
