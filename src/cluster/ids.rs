//! Ids that no two processes give: time, worker, sequence.
//!
//! An id has 41 bits of milliseconds since [`EPOCH_MS`], 10 bits of the worker and 12 of a sequence.
//! A process leases a worker for a span of *such* milliseconds, from a row in PostgreSQL (see
//! [`super::own`]): spans of one worker never overlap, so its ids are told apart by the lease alone.
//! No clock is asked whether a lease still holds. The clocks only decide which millisecond of the
//! span is next: the server's at the time of the lease, and how much later it is by a clock of this
//! process that does not step.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use planner::ShardId;
use tokio::sync::{Notify, watch};

use super::Cluster;
use super::control::Failure;
use super::own::{self, Leased};
use crate::error::{Error, Fault};
use crate::net::{Instant, sleep, timeout, timeout_at};

/// 2026-01-01T00:00:00Z, in milliseconds since 1970: where ids begin. They last until 2095.
pub const EPOCH_MS: i64 = 1_767_225_600_000;
/// Workers, from 0.
pub const WORKERS: i32 = 1 << WORKER_BITS;
/// How far a lease reaches beyond the server's clock.
pub const LEASE: Duration = Duration::from_secs(20);

const WORKER_BITS: u32 = 10;
const SEQUENCE_BITS: u32 = 12;
/// A lease with less left is renewed.
const RENEW_BELOW_MS: i64 = LEASE.as_millis() as i64 / 2;
/// A statement waits so long for a lease.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before another attempt after one that failed.
const RETRY: Duration = Duration::from_millis(100);

/// Makes ids of what was leased. Knows of no clock but the instants it is given.
#[derive(Debug, Default)]
struct Generator {
    lease: Option<Lease>,
}

#[derive(Debug)]
struct Lease {
    worker: i32,
    /// The first millisecond that is not its own.
    until_ms: i64,
    /// The server's clock was here …
    server_ms: i64,
    /// … no earlier than this.
    asked: Instant,
    /// The next id's, unless the clock is ahead of it.
    next_ms: i64,
    sequence: i64,
}

impl Generator {
    /// Appends ids until there are `count` of them. False when the lease does not reach so far.
    fn take(&mut self, now: Instant, count: usize, ids: &mut Vec<i64>) -> bool {
        let Some(lease) = &mut self.lease else {
            return ids.len() >= count;
        };
        let later = now.saturating_duration_since(lease.asked).as_millis();
        let clock = lease
            .server_ms
            .saturating_add(i64::try_from(later).unwrap_or(i64::MAX));
        while ids.len() < count {
            if clock > lease.next_ms {
                (lease.next_ms, lease.sequence) = (clock, 0);
            } else if lease.sequence >> SEQUENCE_BITS != 0 {
                (lease.next_ms, lease.sequence) = (lease.next_ms + 1, 0);
            }
            if lease.next_ms >= lease.until_ms {
                return false;
            }
            let of_ms = lease.next_ms << WORKER_BITS | i64::from(lease.worker);
            ids.push(of_ms << SEQUENCE_BITS | lease.sequence);
            lease.sequence += 1;
        }
        true
    }

    /// Milliseconds that are left of the lease.
    fn left(&self, now: Instant) -> i64 {
        self.lease.as_ref().map_or(0, |lease| {
            let later = now.saturating_duration_since(lease.asked).as_millis() as i64;
            lease.until_ms - lease.next_ms.max(lease.server_ms + later)
        })
    }

    /// The worker, and what it was promised.
    fn renewal(&self) -> Option<(i32, i64)> {
        self.lease
            .as_ref()
            .map(|lease| (lease.worker, lease.until_ms))
    }

    /// A lease, new or longer, that was asked for at `asked`.
    fn leased(&mut self, leased: Leased, asked: Instant) {
        let before = self
            .lease
            .take()
            .filter(|lease| lease.worker == leased.worker);
        let (next_ms, sequence) = match before {
            Some(lease) => (lease.next_ms, lease.sequence),
            None => (leased.now_ms, 0),
        };
        self.lease = Some(Lease {
            worker: leased.worker,
            until_ms: leased.until_ms,
            server_ms: leased.now_ms,
            asked,
            next_ms,
            sequence,
        });
    }

    fn lost(&mut self) {
        self.lease = None;
    }
}

/// Where the statements of one database get their ids.
pub struct IdSource {
    /// Of this process's leases, as a uuid.
    owner: String,
    state: Mutex<State>,
    /// The lease ends soon, or is needed.
    wanted: Notify,
    /// Told of every attempt to lease.
    news: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    generator: Generator,
    /// Why the last attempt failed.
    failure: Option<Error>,
    /// The shard with the table of workers, once it was found.
    home: Option<ShardId>,
}

impl IdSource {
    pub(super) fn new() -> Self {
        let random = format!("{:032x}", rand::random::<u128>());
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &random[part]);
        Self {
            owner: parts.join("-"),
            state: Mutex::default(),
            wanted: Notify::new(),
            news: watch::Sender::new(()),
        }
    }

    /// `count` ids that nobody else gets, ascending unless the lease changed meanwhile.
    ///
    /// # Errors
    /// 55000 when no lease can be had, with the reason.
    pub async fn draw(&self, count: usize) -> Result<Vec<i64>, Error> {
        let mut ids = Vec::with_capacity(count);
        if self.take(count, &mut ids) {
            return Ok(ids);
        }
        // An attempt that ends from here on is not missed.
        let mut news = self.news.subscribe();
        let deadline = Instant::now() + PATIENCE;
        while !self.take(count, &mut ids) {
            self.wanted.notify_one();
            if timeout_at(deadline, news.changed()).await.is_err() {
                return Err(none(format!(
                    "No worker could be leased within {PATIENCE:?}."
                )));
            }
            let failure = self.state().failure.clone();
            if let Some(error) = failure {
                return match self.take(count, &mut ids) {
                    true => Ok(ids),
                    false => Err(error),
                };
            }
        }
        Ok(ids)
    }

    fn take(&self, count: usize, ids: &mut Vec<i64>) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let enough = state.generator.take(now, count, ids);
        if state.generator.left(now) < RENEW_BELOW_MS {
            self.wanted.notify_one();
        }
        enough
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half changed in it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leases and renews, as long as ids are drawn.
pub(super) async fn keep_leased(cluster: Arc<Cluster>) {
    let ids = &cluster.ids;
    loop {
        ids.wanted.notified().await;
        if ids.state().generator.left(Instant::now()) >= RENEW_BELOW_MS {
            continue;
        }
        let result = timeout(PATIENCE, lease(&cluster)).await;
        let failure = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(none("The server with the workers does not answer.".into())),
        };
        let failed = failure.is_some();
        let before = std::mem::replace(&mut ids.state().failure, failure.clone());
        let is_new = |error: &Error| before.is_none_or(|before| before.detail != error.detail);
        if let Some(error) = failure.filter(is_new) {
            tracing::warn!(database = cluster.database.name, "no ids: {error}");
        }
        ids.news.send_replace(());
        if failed {
            sleep(RETRY).await;
        }
    }
}

/// A longer lease of the same worker, else one of another.
async fn lease(cluster: &Cluster) -> Result<(), Error> {
    let ids = &cluster.ids;
    let known = ids.state().home;
    let home = match known {
        Some(home) => home,
        None => find_home(cluster).await?,
    };
    let result = lease_at(cluster, home).await;
    // After a failure it may have moved.
    ids.state().home = result.is_ok().then_some(home);
    result.map_err(|failure| none(format!("Leasing a worker failed: {failure}.")))
}

async fn lease_at(cluster: &Cluster, home: ShardId) -> Result<(), Failure> {
    let ids = &cluster.ids;
    let primary = cluster.primary(home);
    let primary = primary.ok_or(Failure::Odd("its shard has no primary"))?;
    let mut client = cluster.control(home, primary).get().await?;
    let renewal = ids.state().generator.renewal();
    if let Some((worker, until_ms)) = renewal {
        let asked = Instant::now();
        let renewed = own::renew(&client, &ids.owner, worker, until_ms).await?;
        let mut state = ids.state();
        match renewed {
            Some(leased) => state.generator.leased(leased, asked),
            None => state.generator.lost(),
        }
        // The server's clock may have been set back, or more ids were drawn than time has passed:
        // another worker's span begins now.
        if state.generator.left(Instant::now()) >= RENEW_BELOW_MS {
            return Ok(());
        }
    }
    let asked = Instant::now();
    let leased = own::lease(&mut client, &ids.owner).await?;
    let leased = leased.ok_or(Failure::Odd(
        "every worker is leased; one comes free in time",
    ))?;
    ids.state().generator.leased(leased, asked);
    Ok(())
}

/// The one shard that has the table of workers. Were there two, both would give the same ids.
async fn find_home(cluster: &Cluster) -> Result<ShardId, Error> {
    if !cluster.is_watched() {
        return Err(none(
            "Nobody is configured with whom Ringway itself could log in.".into(),
        ));
    }
    let mut homes = Vec::new();
    for shard in &cluster.database.shards {
        let unknown = |why: String| {
            none(format!(
                "Whether shard \"{}\" has table ringway.worker is not known: {why}.",
                shard.name
            ))
        };
        let primary = cluster.primary(shard.id);
        let primary = primary.ok_or_else(|| unknown("it has no primary".into()))?;
        let client = cluster.control(shard.id, primary).get().await;
        let client = client.map_err(|error| unknown(Failure::from(error).to_string()))?;
        let has = own::has_workers(&client).await;
        if has.map_err(|error| unknown(Failure::from(error).to_string()))? {
            homes.push(shard);
        }
    }
    match homes.as_slice() {
        [home] => Ok(home.id),
        [] => Err(none("Table ringway.worker does not exist.".into())
            .hint("Run `ringway init` once for this database.")),
        several => {
            let names: Vec<_> = several.iter().map(|shard| &*shard.name).collect();
            Err(none(format!(
                "Table ringway.worker exists on shards {}, and both would give the same ids.",
                names.join(", ")
            ))
            .hint("Drop it on all shards but the one whose workers have been used."))
        }
    }
}

fn none(detail: String) -> Error {
    Error::new(Fault::Operator, "55000", "no ids can be given").detail(detail)
}

#[cfg(test)]
mod tests;
