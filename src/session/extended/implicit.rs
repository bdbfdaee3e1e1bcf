//! A pipeline without a block that writes on several shards: what it has begun on each becomes a block
//! there, which Sync commits on all of them or on none.

use planner::plan::TransactionMode;

use crate::error::Error;
use crate::session::{Block, Session};

impl Session {
    /// Makes one transaction over several shards of what this pipeline has begun and of what follows in it.
    ///
    /// # Errors
    /// 0A000 where the transaction began with a Query or has changed settings; the loss of a server.
    pub(in crate::session) async fn begin_implicit_block(&mut self) -> Result<(), Error> {
        let apart = |held: &crate::session::Enlisted| held.wrote && !held.needs_sync;
        if self.batch.is_between() || self.leases.iter().any(apart) {
            return Err(self.not_one_transaction());
        }
        self.fetch().await?;
        self.check_settings_elsewhere(None)?;
        self.begin_amid("BEGIN", TransactionMode::Primary).await?;
        self.batch.implicit = true;
        Ok(())
    }

    /// Ends it: its COMMIT, unless something in it has failed.
    ///
    /// # Errors
    /// Nothing of it is kept then, unless the error says so.
    pub(super) async fn end_implicit_block(&mut self) -> Result<(), Error> {
        self.batch.implicit = false;
        if !self.batch.skipping && !self.block.is_failed() {
            return self.end_everywhere(true).await.map(drop);
        }
        self.roll_back_block().await
    }

    /// Rolls a block back that has failed, as the client has been told.
    ///
    /// # Errors
    /// FATAL: the loss of a server.
    pub(in crate::session) async fn roll_back_block(&mut self) -> Result<(), Error> {
        for held in self.leases.iter_mut().filter(|held| held.in_block) {
            if std::mem::take(&mut held.needs_sync) {
                held.lease.send_sync(false);
            }
            let lease = &mut held.lease;
            lease.settle().await.map_err(Error::fatal)?;
            // The client has been told of it.
            lease.error = None;
            lease.run_hidden("ROLLBACK").await.map_err(Error::fatal)?;
            held.in_block = false;
        }
        self.block = Block::None;
        self.batch.done.clear();
        self.drop_changes();
        Ok(())
    }
}
