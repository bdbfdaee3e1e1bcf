//! Finishing prepared transactions by their decision, and forgetting decisions that nobody needs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use planner::ShardId;
use tokio_postgres::error::SqlState;

use super::{Ability, Gid, Identity, Prepared, Room, TransactionId, TwoPhase};
use crate::cluster::Cluster;
use crate::cluster::control::{self, Failure};
use crate::metrics::Recovery;
use crate::net::{Instant, sleep, timeout, timeout_at};

/// A transaction that was prepared less long ago is left to its coordinator.
const GRACE: Duration = Duration::from_secs(1);
/// For one transaction.
const LIMIT: Duration = Duration::from_secs(5);
/// Before another attempt at a decision.
const RETRY: Duration = Duration::from_millis(100);
/// Between two looks for decisions that nobody needs, at most.
const COLLECT_INTERVAL: Duration = Duration::from_secs(60);
/// How long all shards may take to say what is prepared.
const COLLECT_LIMIT: Duration = Duration::from_secs(10);

const DECISION: &str = "
SELECT (SELECT outcome FROM ringway.decision WHERE id = $1),
       COALESCE((SELECT expires_at > clock_timestamp() FROM ringway.coordinator WHERE id = $2), false)";

/// Waits for a coordinator whose own row is not committed yet.
const ABORT: &str = "
INSERT INTO ringway.decision (id, outcome, shards) VALUES ($1, 'abort', '{}')
    ON CONFLICT (id) DO NOTHING";

const OUTCOME: &str = "SELECT outcome FROM ringway.decision WHERE id = $1";

const OLD_COMMITS: &str = "
SELECT id, shards FROM ringway.decision
 WHERE outcome = 'commit' AND decided_at < clock_timestamp() - $1 * interval '1 millisecond'
 LIMIT 10000";

const FORGET_COMMITS: &str =
    "DELETE FROM ringway.decision WHERE id = ANY($1) AND outcome = 'commit'";

/// A coordinator that sleeps has its transaction open here, since before the row was written.
const FORGET_ABORTS: &str = "
DELETE FROM ringway.decision
 WHERE outcome = 'abort' AND decided_at < clock_timestamp() - $1 * interval '1 millisecond'
   AND xact < txid_snapshot_xmin(txid_current_snapshot())";

const FORGET_COORDINATORS: &str = "
DELETE FROM ringway.coordinator
 WHERE expires_at < clock_timestamp() - $1 * interval '1 millisecond'";

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Commit,
    Abort,
}

impl Outcome {
    fn read(word: &str) -> Result<Self, Failure> {
        match word {
            "commit" => Ok(Self::Commit),
            "abort" => Ok(Self::Abort),
            _ => Err(Failure::Odd("a decision that is neither commit nor abort")),
        }
    }
}

impl Cluster {
    /// A connection to the shard's primary.
    pub(super) async fn recovery_client(
        &self,
        shard: ShardId,
    ) -> Result<bb8::PooledConnection<'_, control::Manager>, Failure> {
        let primary = self.primary(shard);
        let primary = primary.ok_or(Failure::Odd("the shard has no primary"))?;
        let pool = &self.two_phase.room(shard).pools[usize::from(primary.0)];
        Ok(pool.get().await?)
    }

    /// What was decided of a transaction; if nothing was, that it is rolled back.
    async fn decide(&self, shard: ShardId, id: TransactionId) -> Result<Outcome, Failure> {
        let client = self.recovery_client(shard).await?;
        let id = id.to_string();
        client.execute(ABORT, &[&id]).await?;
        let row = client.query_opt(OUTCOME, &[&id]).await?;
        let row = row.ok_or(Failure::Odd(
            "a decision was forgotten while it was asked for",
        ))?;
        Outcome::read(row.try_get(0)?)
    }

    /// As [`Cluster::decide`], again and again until `limit` is over.
    ///
    /// # Errors
    /// Why the shard where it is decided could not be asked.
    pub async fn resolve(
        &self,
        shard: ShardId,
        id: TransactionId,
        limit: Duration,
    ) -> Result<Outcome, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            let failure = match timeout_at(deadline, self.decide(shard, id)).await {
                Ok(Ok(outcome)) => return Ok(outcome),
                Ok(Err(failure)) => failure,
                Err(_) => return Err(Failure::Slow("asking for the decision", limit)),
            };
            if Instant::now() + RETRY > deadline {
                return Err(failure);
            }
            self.hasten(shard);
            sleep(RETRY).await;
        }
    }
}

/// Finishes what is in doubt on one shard, after every look at it.
pub(super) async fn recover(cluster: Arc<Cluster>, shard: ShardId) {
    let two_phase = &cluster.two_phase;
    let room = two_phase.room(shard);
    let mut news = two_phase.looked.subscribe();
    let mut last = None;
    while news.changed().await.is_ok() {
        let look = room.look.load_full();
        if look.asked == last {
            continue;
        }
        last = look.asked;
        let doubtful = two_phase.doubtful(&look);
        let found: HashSet<Gid> = doubtful.iter().map(|prepared| prepared.gid).collect();
        room.notes().retain(|gid, _| found.contains(gid));
        for prepared in doubtful {
            let finished = timeout(LIMIT, finish(&cluster, shard, &prepared)).await;
            let note = match finished {
                Ok(Ok(note)) => note,
                Ok(Err(failure)) => Some(cluster.cannot_finish(room, &prepared.gid, &failure)),
                Err(_) => {
                    let slow = Failure::Slow("finishing it", LIMIT);
                    Some(cluster.cannot_finish(room, &prepared.gid, &slow))
                }
            };
            room.notes().insert(prepared.gid, note);
        }
    }
}

/// Finishes one part, if it is to be finished; says why not.
async fn finish(
    cluster: &Cluster,
    shard: ShardId,
    prepared: &Prepared,
) -> Result<Option<&'static str>, Failure> {
    let two_phase = &cluster.two_phase;
    let gid = &prepared.gid;
    // Not among those that run here, so nobody is at work on it.
    let is_mine = gid.owner == two_phase.owner;
    if prepared.age < GRACE && !is_mine {
        return Ok(Some("left to its coordinator for a moment"));
    }
    let Some(decides) = two_phase.shard_of(gid.decision) else {
        return Ok(Some(
            "no shard of this database that is known has the identity that decides",
        ));
    };
    let (known, is_alive) = {
        let client = cluster.recovery_client(decides).await?;
        let (id, owner) = (gid.transaction.to_string(), gid.owner.to_string());
        let row = client.query_one(DECISION, &[&id, &owner]).await?;
        let known: Option<&str> = row.try_get(0)?;
        (known.map(Outcome::read).transpose()?, row.try_get(1)?)
    };
    let outcome = match (known, is_alive) {
        (Some(outcome), _) => outcome,
        (None, true) if !is_mine => return Ok(Some("its coordinator is alive")),
        (None, true | false) => cluster.decide(decides, gid.transaction).await?,
    };
    let (sql, note, count) = match outcome {
        Outcome::Commit => ("COMMIT PREPARED", "committed", Recovery::Committed),
        Outcome::Abort => ("ROLLBACK PREPARED", "rolled back", Recovery::RolledBack),
    };
    let client = cluster.recovery_client(shard).await?;
    match client.batch_execute(&format!("{sql} '{gid}'")).await {
        Ok(()) => {
            cluster.metrics.recoveries.increment(count);
            let (database, shard) = (&cluster.database.name, &two_phase.room(shard).name);
            tracing::warn!(database, shard, %gid, outcome = note, "finished a transaction in doubt");
            Ok(None)
        }
        // Somebody else was faster.
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Cluster {
    fn cannot_finish(&self, room: &Room, gid: &Gid, failure: &Failure) -> &'static str {
        const NOTE: &str = "could not be finished, as the log tells";
        self.metrics.recoveries.increment(Recovery::Failed);
        // Once per transaction: it is tried again and again.
        if room.notes().get(gid) != Some(&Some(NOTE)) {
            let (database, shard) = (&self.database.name, &room.name);
            tracing::error!(database, shard, %gid, %failure, "cannot finish a transaction in doubt");
        }
        NOTE
    }
}

/// Forgets what was decided on one shard, once nobody can ask for it.
pub(super) async fn collect(cluster: Arc<Cluster>, shard: ShardId) {
    let retention = cluster.two_phase.settings.retention;
    loop {
        sleep(COLLECT_INTERVAL.min(retention)).await;
        let able = matches!(
            cluster.two_phase.room(shard).look.load().ability,
            Ability::Able(_)
        );
        if able && let Err(failure) = forget(&cluster, shard, retention).await {
            let (database, shard) = (&cluster.database.name, &cluster.two_phase.room(shard).name);
            tracing::debug!(database, shard, %failure, "cannot forget old decisions now");
        }
    }
}

async fn forget(cluster: &Cluster, shard: ShardId, retention: Duration) -> Result<(), Failure> {
    let age = retention.as_secs_f64() * 1000.0;
    let old = {
        let client = cluster.recovery_client(shard).await?;
        client.execute(FORGET_ABORTS, &[&age]).await?;
        client.execute(FORGET_COORDINATORS, &[&age]).await?;
        client.query(OLD_COMMITS, &[&age]).await?
    };
    let mut candidates = Vec::with_capacity(old.len());
    for row in &old {
        let (id, shards): (String, Vec<String>) = (row.try_get(0)?, row.try_get(1)?);
        candidates.push((id, shards));
    }
    // They were prepared before they were decided: who is asked from now on, and has none of them, never
    // will have.
    let Some(prepared) = cluster.two_phase.prepared_after(Instant::now()).await else {
        return Ok(());
    };
    let needless = candidates.into_iter().filter(|(id, shards)| {
        let Ok(id) = id.parse::<TransactionId>() else {
            return false;
        };
        let known = |text: &String| {
            let identity = text.parse::<Identity>().ok();
            identity.is_some_and(|identity| cluster.two_phase.shard_of(identity).is_some())
        };
        !prepared.contains(&id) && shards.iter().all(known)
    });
    let needless: Vec<String> = needless.map(|(id, _)| id).collect();
    if !needless.is_empty() {
        let client = cluster.recovery_client(shard).await?;
        client.execute(FORGET_COMMITS, &[&needless]).await?;
    }
    Ok(())
}

impl TwoPhase {
    /// What is prepared on any shard, each asked after `since`; `None` when one does not answer in time.
    async fn prepared_after(&self, since: Instant) -> Option<HashSet<TransactionId>> {
        let mut news = self.looked.subscribe();
        let is_later = |room: &Room| room.look.load().asked.is_some_and(|asked| asked > since);
        while !self.shards.iter().all(is_later) {
            self.shards.iter().for_each(|room| room.hasten.notify_one());
            let changed = timeout_at(since + COLLECT_LIMIT, news.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return None;
            }
        }
        let looks = self.shards.iter().map(|room| room.look.load_full());
        let names = looks.flat_map(|look| {
            let prepared = look.prepared.iter();
            prepared
                .map(|prepared| prepared.gid.transaction)
                .collect::<Vec<_>>()
        });
        Some(names.collect())
    }
}
