//! Who waits for whose locks on a server: a deadlock over shards is none that a server could see.

use planner::ShardId;

use crate::cluster::Cluster;
use crate::cluster::control::Failure;

/// `pg_locks` and `pg_blocking_pids` tell every role, unlike `pg_stat_activity`.
const WAITS: &str = "SELECT DISTINCT pid, pg_blocking_pids(pid) FROM pg_locks WHERE NOT granted AND pid IS NOT NULL";

/// A server process that waits for a lock.
pub struct LockWait {
    pub pid: i32,
    /// The processes that hold it, or wait for it before; 0 is a prepared transaction. None: it has just
    /// been granted.
    pub blockers: Vec<i32>,
}

impl Cluster {
    /// All waits for locks on the shard's primary, also of other databases there.
    ///
    /// # Errors
    /// Why the primary does not say.
    pub async fn lock_waits(&self, shard: ShardId) -> Result<Vec<LockWait>, Failure> {
        let client = self.recovery_client(shard).await?;
        let rows = client.query(WAITS, &[]).await?;
        let wait = |row: &tokio_postgres::Row| {
            Ok(LockWait {
                pid: row.try_get(0)?,
                blockers: row.try_get(1)?,
            })
        };
        rows.iter().map(wait).collect()
    }
}
