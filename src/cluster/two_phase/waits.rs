//! Which server connections wait for locks: a deadlock over shards is none that a server could see.

use std::time::Duration;

use planner::ShardId;

use crate::cluster::Cluster;
use crate::cluster::control::Failure;

const WAITING: &str = "
SELECT pid FROM pg_stat_activity
 WHERE pid = ANY($1) AND wait_event_type = 'Lock'
   AND clock_timestamp() - query_start >= $2 * interval '1 millisecond'";

impl Cluster {
    /// Of the backends `pids` of the shard's primary, those that wait for a lock in a statement that has
    /// run for `limit`.
    ///
    /// # Errors
    /// Why the primary does not say.
    pub async fn waiting_for_lock(
        &self,
        shard: ShardId,
        pids: &[i32],
        limit: Duration,
    ) -> Result<Vec<i32>, Failure> {
        let client = self.recovery_client(shard).await?;
        let millis = limit.as_secs_f64() * 1000.0;
        let rows = client.query(WAITING, &[&pids, &millis]).await?;
        let pids = rows.iter().map(|row| row.try_get::<_, i32>(0));
        Ok(pids.collect::<Result<_, _>>()?)
    }
}
