//! A simple Query amid extended messages: what they began ends before it, or goes on with it.

use crate::error::Error;
use crate::session::Session;

impl Session {
    /// Extended-protocol messages came since the last Sync.
    pub(in crate::session) fn is_amid_batch(&self) -> bool {
        !self.batch.pending.is_empty() || self.leases.iter().any(|held| held.needs_sync)
    }

    /// A simple Query amid extended messages ends what they began. False when one of them failed:
    /// then the Query is skipped like everything else up to Sync.
    pub(in crate::session) async fn end_batch(&mut self) -> Result<bool, Error> {
        if let Err(error) = self.before_query().await {
            return match error.is_told() && !error.is_fatal() {
                true => Ok(false),
                false => self.fail_batch(error).await.map(|()| false),
            };
        }
        self.note_end_of_block();
        if self.batch.implicit
            && let Err(error) = Box::pin(self.end_implicit_block()).await
        {
            self.fail_batch(error).await?;
            return Ok(false);
        }
        self.forget_rejected();
        // The Query may end the transaction in which they were executed.
        let done = std::mem::take(&mut self.batch.done);
        self.note_done(done);
        if let Some(index) = self.joined_by_query() {
            // What was executed so far is one transaction with the Query.
            self.leases[index].needs_sync = false;
            self.batch.active = None;
            return Ok(true);
        }
        for held in &mut self.leases {
            if std::mem::take(&mut held.needs_sync) {
                held.lease.send_sync(false);
                held.lease.settle().await.map_err(Error::fatal)?;
            }
        }
        if self.block.is_none() {
            // It has ended, whatever becomes of the Query.
            self.keep_changes();
        }
        self.batch.active = None;
        Ok(true)
    }

    /// The server on which a simple Query goes on with the transaction that extended messages have
    /// begun. With several servers or a replica, what they began ends before it.
    fn joined_by_query(&self) -> Option<usize> {
        let mut begun = (0..self.leases.len()).filter(|i| self.leases[*i].needs_sync);
        let index = begun.next().filter(|_| begun.next().is_none())?;
        self.leases[index].home.is_none().then_some(index)
    }
}
