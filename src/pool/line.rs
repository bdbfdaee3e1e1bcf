//! Who waits for a connection of a pool, in order of asking, and which connections are free.
//!
//! A connection that comes back goes from hand to hand: to the first in line, and only if nobody
//! waits to bb8, where the way in and out costs more. A few that were used last stay here, too.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::task::AbortHandle;

use super::{Amid, Connection, Lease, Pool};
use crate::net::{Instant, sleep_until};

/// Free connections that are not given to bb8 before the next look after the pool.
const WARM: usize = 4;

/// The right to one connection.
pub(super) enum Place {
    Warm(Connection),
    /// It lies in bb8, and is there for those who are amid the same as this.
    Idle(Amid),
}

/// What one in line is called for.
pub(super) enum Call {
    Served(Place),
    /// Something has changed, or it is time.
    Look,
}

#[derive(Default)]
pub(super) struct Line {
    queue: Mutex<Queue>,
    /// As long as the queue, for a look that takes no lock.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    /// Connections in bb8 that anybody may have.
    idle: usize,
    /// Those that were opened while only those amid a transaction are served.
    amid_idle: usize,
    /// Free and not in bb8; the last is the one used last.
    warm: Vec<Connection>,
    /// In order of asking, so by ticket.
    waiting: VecDeque<Waiter>,
    /// Those whose turn has come, and who have not heard of it yet.
    served: Vec<(u64, Place)>,
    /// The ticket of who came last.
    last_ticket: u64,
    alarm: Option<Alarm>,
}

struct Waiter {
    ticket: u64,
    amid: Amid,
    /// When it has to look whether it may go on waiting.
    look_at: Option<Instant>,
    /// It is to look now.
    is_called: bool,
    waker: Option<Waker>,
}

/// The task that calls who has waited for too long: one timer for all, as most do not need it.
struct Alarm {
    at: Instant,
    task: AbortHandle,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Queue {
    fn take(&mut self, amid: Amid) -> Option<Place> {
        if let Some(connection) = self.warm.pop() {
            return Some(Place::Warm(connection));
        }
        let (count, whose) = match (self.idle, amid) {
            (0, Amid::Transaction) => (&mut self.amid_idle, Amid::Transaction),
            (_, Amid::Transaction | Amid::Nothing) => (&mut self.idle, Amid::Nothing),
        };
        *count = count.checked_sub(1)?;
        Some(Place::Idle(whose))
    }

    /// Serves the first who may have it.
    fn serve(&mut self, place: Place) -> Result<Option<Waker>, Place> {
        let first = match place {
            Place::Warm(_) | Place::Idle(Amid::Nothing) => self.waiting.pop_front(),
            Place::Idle(Amid::Transaction) => {
                let is_amid = |waiter: &Waiter| waiter.amid == Amid::Transaction;
                let first = self.waiting.iter().position(is_amid);
                first.and_then(|first| self.waiting.remove(first))
            }
        };
        match first {
            Some(first) => {
                self.served.push((first.ticket, place));
                Ok(first.waker)
            }
            None => Err(place),
        }
    }

    fn waiter(&mut self, ticket: u64) -> Option<&mut Waiter> {
        let is_last = self.waiting.back().is_some_and(|w| w.ticket == ticket);
        let at = match is_last {
            true => Ok(self.waiting.len() - 1),
            false => self.waiting.binary_search_by_key(&ticket, |w| w.ticket),
        };
        self.waiting.get_mut(at.ok()?)
    }

    /// Calls those who `who` is true for; they are to be woken once the queue is free.
    fn call(&mut self, who: impl Fn(&Waiter) -> bool) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for waiter in self.waiting.iter_mut().filter(|w| who(w)) {
            waiter.is_called = true;
            waiter.look_at = None;
            wakers.extend(waiter.waker.take());
        }
        wakers
    }

    fn next_look(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|w| w.look_at).min()
    }
}

impl Line {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait now.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Of these, those amid a transaction.
    pub(super) fn waiting_amid(&self) -> usize {
        let queue = self.queue();
        let amid = queue.waiting.iter().filter(|w| w.amid == Amid::Transaction);
        amid.count()
    }

    /// How many connections are free.
    pub(super) fn free(&self) -> usize {
        let queue = self.queue();
        queue.idle + queue.amid_idle + queue.warm.len()
    }

    /// A free connection; there is none while somebody waits who may have it.
    pub(super) fn take(&self, amid: Amid) -> Option<Place> {
        self.queue().take(amid)
    }

    /// Gives what came back to the first in line, or keeps it.
    pub(super) fn give(&self, connection: Connection) {
        let mut queue = self.queue();
        match queue.serve(Place::Warm(connection)) {
            Ok(waker) => {
                self.waiting.store(queue.waiting.len(), Relaxed);
                drop(queue);
                waker.into_iter().for_each(Waker::wake);
            }
            Err(Place::Warm(connection)) => {
                if queue.warm.len() >= WARM {
                    // Under the lock: whoever has a place in bb8 must find the connection.
                    drop(queue.warm.remove(0));
                    queue.idle += 1;
                }
                queue.warm.push(connection);
            }
            Err(Place::Idle(_)) => {}
        }
    }

    /// `count` connections were put into bb8, for those who are `amid` the same.
    pub(super) fn add(&self, count: usize, amid: Amid) {
        for _ in 0..count {
            let mut queue = self.queue();
            match queue.serve(Place::Idle(amid)) {
                Ok(waker) => {
                    self.waiting.store(queue.waiting.len(), Relaxed);
                    drop(queue);
                    waker.into_iter().for_each(Waker::wake);
                }
                Err(_) if amid == Amid::Transaction => queue.amid_idle += 1,
                Err(_) => queue.idle += 1,
            }
        }
    }

    /// Everybody in line is to look.
    pub(super) fn call_all(&self) {
        let wakers = self.queue().call(|_| true);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Calls those who are to look by now, and sets the alarm anew; answers for when.
    fn ring(&self, now: Instant) -> Option<Instant> {
        // In one go: whoever wants to be called meanwhile must not be taken for called already.
        let (wakers, next) = {
            let mut queue = self.queue();
            let wakers = queue.call(|waiter| waiter.look_at.is_some_and(|at| at <= now));
            let next = queue.next_look();
            match (next, &mut queue.alarm) {
                (Some(at), Some(alarm)) => alarm.at = at,
                (None, alarm) => *alarm = None,
                (Some(_), None) => {}
            }
            (wakers, next)
        };
        wakers.into_iter().for_each(Waker::wake);
        next
    }
}

/// A place in the line; leaving it early costs nobody anything.
pub(super) struct Seat<'p> {
    pool: &'p Arc<Pool>,
    /// `None` once it was served.
    ticket: Option<u64>,
}

impl<'p> Seat<'p> {
    /// Takes a free connection, or the last place in line.
    pub(super) fn or_place(pool: &'p Arc<Pool>, amid: Amid) -> Result<Place, Self> {
        let mut queue = pool.line.queue();
        if let Some(place) = queue.take(amid) {
            return Ok(place);
        }
        queue.last_ticket += 1;
        let ticket = queue.last_ticket;
        queue.waiting.push_back(Waiter {
            ticket,
            amid,
            look_at: None,
            is_called: false,
            waker: None,
        });
        pool.line.waiting.store(queue.waiting.len(), Relaxed);
        Err(Self {
            pool,
            ticket: Some(ticket),
        })
    }

    /// Ready when it is served, or to look. It is to look at `look_at`, too, if it still waits.
    pub(super) fn poll_call(&mut self, cx: &Context<'_>, look_at: Option<Instant>) -> Poll<Call> {
        let Some(ticket) = self.ticket else {
            return Poll::Pending;
        };
        let mut queue = self.pool.line.queue();
        if let Some(at) = queue.served.iter().position(|(of, _)| *of == ticket) {
            self.ticket = None;
            return Poll::Ready(Call::Served(queue.served.swap_remove(at).1));
        }
        let Some(waiter) = queue.waiter(ticket) else {
            return Poll::Pending;
        };
        if std::mem::take(&mut waiter.is_called) {
            return Poll::Ready(Call::Look);
        }
        match &mut waiter.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        waiter.look_at = look_at;
        if let Some(at) = look_at
            && queue.alarm.as_ref().is_none_or(|alarm| at < alarm.at)
        {
            let task = tokio::spawn(ring_at(at, Arc::downgrade(self.pool))).abort_handle();
            queue.alarm = Some(Alarm { at, task });
        }
        Poll::Pending
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else {
            return;
        };
        let place = {
            let line = &self.pool.line;
            let mut queue = line.queue();
            if let Ok(at) = queue.waiting.binary_search_by_key(&ticket, |w| w.ticket) {
                queue.waiting.remove(at);
                line.waiting.store(queue.waiting.len(), Relaxed);
            }
            let at = queue.served.iter().position(|(of, _)| *of == ticket);
            at.map(|at| queue.served.swap_remove(at).1)
        };
        // Its turn had come: now it is that of the next.
        match place {
            Some(Place::Warm(connection)) => drop(Lease::new(self.pool, connection)),
            Some(Place::Idle(amid)) => self.pool.line.add(1, amid),
            None => {}
        }
    }
}

/// Calls those in line when it is time to, for as long as there are any.
async fn ring_at(at: Instant, pool: std::sync::Weak<Pool>) {
    let mut next = Some(at);
    while let Some(at) = next {
        sleep_until(at).await;
        let Some(pool) = pool.upgrade() else {
            return;
        };
        next = pool.line.ring(Instant::now());
    }
}
