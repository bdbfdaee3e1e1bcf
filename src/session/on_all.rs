//! SAVEPOINT, SET and their kin: what every server of a transaction block has to run, and those that join it later.

use bytes::BytesMut;
use planner::ShardId;
use planner::plan::Savepoint;

use super::Session;
use super::block::aborted;
use super::simple::text_of;
use crate::error::Error;

impl Session {
    /// SAVEPOINT, SET and their kin: every enlisted shard runs them, and those that join later.
    /// False when it failed, as the client was told.
    pub(super) async fn on_all_enlisted(
        &mut self,
        frame: BytesMut,
        savepoint: Option<&Savepoint>,
    ) -> Result<bool, Error> {
        let sql = text_of(&frame).to_owned();
        self.check_prelude(sql.len())?;
        let first = self.first_enlisted().await?;
        self.end_joined(Some(first)).await?;
        self.tell_others(first, &sql).await?;
        self.run_on(first, frame).await?;
        if self.leases[first].lease.error.is_some() {
            return Ok(false);
        }
        self.note_on_all(first, &sql, savepoint);
        Ok(true)
    }

    /// As [`Session::on_all_enlisted`], without the client seeing it.
    pub(super) async fn on_all_quietly(&mut self, sql: &str) -> Result<(), Error> {
        self.check_prelude(sql.len())?;
        let first = self.first_enlisted().await?;
        self.end_joined(None).await?;
        let lease = &mut self.leases[first].lease;
        lease.settle().await?;
        lease.run_hidden(sql).await?;
        self.tell_others(first, sql).await?;
        self.note_on_all(first, sql, None);
        Ok(())
    }

    /// May another server join the open transaction, and have to be told what ran in it?
    fn others_may_join(&self) -> bool {
        self.db.config.is_sharded() || self.block.may_read_on_replica()
    }

    /// # Errors
    /// As [`super::block::Block::check_room`], where others may join.
    pub(super) fn check_prelude(&self, bytes: usize) -> Result<(), Error> {
        match self.others_may_join() {
            true => self.block.check_room(bytes),
            false => Ok(()),
        }
    }

    async fn first_enlisted(&mut self) -> Result<usize, Error> {
        let in_block = self.leases.iter().position(|held| held.in_block);
        let pinned = || self.leases.iter().position(|held| held.pinned.is_some());
        let first = match in_block.or_else(pinned) {
            Some(index) => index,
            None => self.enlist(ShardId(0), self.any_access()).await?,
        };
        if !self.block.is_none() && !self.leases[first].in_block {
            self.enlist(self.leases[first].shard, self.any_access())
                .await?;
        }
        Ok(first)
    }

    /// The others of the block come before the one that answers the client: SET CONSTRAINTS may fail on
    /// any of them.
    pub(super) async fn tell_others(&mut self, first: usize, sql: &str) -> Result<(), Error> {
        for held in self
            .leases
            .iter_mut()
            .enumerate()
            .filter(|(i, held)| *i != first && held.in_block)
            .map(|(_, h)| h)
        {
            held.lease.run_hidden(sql).await?;
        }
        Ok(())
    }

    /// All of the block have run it.
    pub(super) fn note_on_all(&mut self, first: usize, sql: &str, savepoint: Option<&Savepoint>) {
        for held in self.leases.iter_mut().filter(|held| held.in_block) {
            held.ran_set = true;
        }
        self.leases[first].ran_set = true;
        if self.others_may_join() {
            self.block.push(sql.as_bytes(), savepoint);
        }
    }

    /// A block that failed before any server knew of it has no savepoint to return to.
    pub(super) fn check_revivable(&self) -> Result<(), Error> {
        if self.block.is_failed() && !self.leases.iter().any(|held| held.in_block) {
            return Err(aborted());
        }
        Ok(())
    }
}
