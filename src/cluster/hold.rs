//! Waiting for a shard to have a primary.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use planner::ShardId;
use tokio::sync::Notify;

use super::{Cluster, EndpointId};
use crate::error::Error;
use crate::metrics::DatabaseMetrics;
use crate::net::{Instant, timeout};

/// Those who wait for the primary of one shard.
#[derive(Debug, Default)]
pub(super) struct Hold {
    held: AtomicUsize,
    /// A primary was found. Wakes all who wait, the first first.
    pub(super) elected: Notify,
}

impl Hold {
    /// Somebody waits: the servers are asked more often.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Relaxed) > 0
    }
}

/// Counts one who waits for as long as it does.
struct Held<'a> {
    hold: &'a Hold,
    metrics: &'a DatabaseMetrics,
    since: Instant,
}

impl<'a> Held<'a> {
    fn new(hold: &'a Hold, metrics: &'a DatabaseMetrics) -> Self {
        hold.held.fetch_add(1, Relaxed);
        metrics.held.increment(1);
        metrics.holding.increment(1.0);
        Self {
            hold,
            metrics,
            since: Instant::now(),
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.hold.held.fetch_sub(1, Relaxed);
        self.metrics.holding.decrement(1.0);
        self.metrics.hold_done(self.since.elapsed());
    }
}

impl Cluster {
    /// The shard's primary, waiting for one until `deadline`. Meanwhile the servers are asked again and
    /// again; when one of them is found to be the primary, all who wait go on at once, in the order in
    /// which they came.
    ///
    /// # Errors
    /// 57P03 (cannot_connect_now), naming the shard and what is wrong with its servers.
    ///
    /// Cancel safety: yes.
    pub async fn primary_or_wait(
        &self,
        shard: ShardId,
        deadline: Instant,
    ) -> Result<EndpointId, Error> {
        if let Some(primary) = self.primary(shard) {
            return Ok(primary);
        }
        let hold = &self.shard(shard).hold;
        let _held = Held::new(hold, &self.metrics);
        loop {
            let mut elected = pin!(hold.elected.notified());
            elected.as_mut().enable();
            if let Some(primary) = self.primary(shard) {
                return Ok(primary);
            }
            self.hasten(shard);
            let left = deadline.saturating_duration_since(Instant::now());
            if timeout(left, elected).await.is_err() {
                return self.primary(shard).ok_or_else(|| self.no_primary(shard));
            }
        }
    }
}
