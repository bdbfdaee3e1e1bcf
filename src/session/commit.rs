//! Transactions that write on several shards: when a second one may be written, and their end.

use std::sync::Arc;

use planner::ShardId;
use planner::plan::Access;

use super::Session;
use super::block::{Block, Reads};
use super::routed::pick;
use crate::backend::server::Status;
use crate::error::Error;
use crate::executor::participants::Participants;

/// Gives the transaction an id, so that what it tells others is a part of what it commits.
const CLAIM: &str = "SELECT pg_catalog.txid_current()";

impl Session {
    /// Has this transaction written, on other shards than `shard` only?
    pub(super) fn is_second_writer(&self, shard: ShardId) -> bool {
        let mut wrote = self.leases.iter().filter(|held| held.wrote).peekable();
        wrote.peek().is_some() && wrote.all(|held| held.shard != shard)
    }

    /// May these write too, before anything that they write has an effect?
    ///
    /// # Errors
    /// As [`Participants::admit`], where they would not be the only ones.
    pub(super) async fn admit_writers(&mut self, indexes: &[usize]) -> Result<(), Error> {
        let wrote = (0..self.leases.len()).filter(|index| self.leases[*index].wrote);
        let mut all: Vec<usize> = wrote.chain(indexes.iter().copied()).collect();
        all.sort_unstable_by_key(|index| (self.leases[*index].shard, *index));
        all.dedup();
        let mut shards = self.shards_of(&all);
        shards.dedup();
        if shards.len() < 2 {
            return Ok(());
        }
        let mut servers = pick(&mut self.leases, &all);
        let participants = Participants::new(&mut servers, &shards, &self.db.cluster);
        participants.admit().await
    }

    /// Has the open block written on more than one shard, as far as statements tell?
    pub(super) fn wrote_on_several(&self) -> bool {
        let wrote = |held: &&super::Enlisted| held.in_block && held.wrote;
        self.leases.iter().filter(wrote).count() > 1
    }

    /// COMMIT of a block that has written on several shards: on all or on none of them. `None`: it has
    /// not, and nothing was done.
    ///
    /// # Errors
    /// The transaction is over on every shard, and nothing of it is kept, unless the error says otherwise.
    pub(super) async fn commit_together(&mut self) -> Option<Result<(), Error>> {
        if self.block.is_failed() || !self.wrote_on_several() {
            return None;
        }
        let result = self.commit_on_each().await;
        self.block = Block::None;
        self.info.in_block(false);
        for held in self.leases.iter_mut().filter(|held| held.in_block) {
            // What it said of savepoints is not the end of the transaction.
            held.lease.tag.clear();
            held.in_block = false;
            held.needs_sync = false;
            held.wrote = false;
        }
        if result.is_err() {
            if let Some(listening) = &mut self.listening {
                listening.notified = false;
            }
            self.drop_changes();
            self.undo_settings().await;
        }
        Some(result)
    }

    /// After a commit that failed: PREPARE TRANSACTION has made what the transaction had set the
    /// server session's own, and nothing takes that back.
    async fn undo_settings(&mut self) {
        for held in self.leases.iter_mut().filter(|held| held.ran_set) {
            held.ask_settings = false;
            held.lease.applied = Arc::default();
            let reset = "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL";
            if held.lease.run_hidden(reset).await.is_err() {
                let doubt = "its settings could not be taken back";
                held.lease.doubt.get_or_insert(doubt);
            }
        }
    }

    async fn commit_on_each(&mut self) -> Result<(), Error> {
        let claims = self.block.notifies();
        let enlisted: Vec<usize> = (0..self.leases.len())
            .filter(|index| self.leases[*index].in_block)
            .collect();
        for index in &enlisted {
            let held = &mut self.leases[*index];
            // Its BEGIN may be under way; and where a claim fails, the commit does.
            let _ = held.lease.settle().await;
            if claims && held.home.is_none() {
                let _ = held.lease.run_hidden(CLAIM).await;
                held.wrote = true;
            }
        }
        let (mut writers, others): (Vec<usize>, Vec<usize>) = enlisted
            .into_iter()
            .partition(|index| self.leases[*index].wrote);
        writers.sort_unstable_by_key(|index| self.leases[*index].shard);
        // Where they fail, what was read was not to be relied on: nothing is decided yet.
        let mut read = Ok(());
        for index in others {
            let lease = &mut self.leases[index].lease;
            let verb = if read.is_ok() { "COMMIT" } else { "ROLLBACK" };
            if let Err(error) = lease.run_hidden(verb).await {
                read = read.and(Err(error));
                if lease.status != Status::Idle {
                    lease.doubt.get_or_insert("it failed to end a transaction");
                    lease.status = Status::Idle;
                }
            }
        }
        match read {
            Ok(()) => self.commit_on(&writers).await,
            Err(error) => {
                self.roll_back_on(&writers).await;
                Err(error)
            }
        }
    }

    /// Commits what these have in open transactions, in the order of their shards. It is not left half
    /// way by whoever ends this session meanwhile.
    ///
    /// # Errors
    /// A server's, with what stands where.
    pub(super) async fn commit_on(&mut self, indexes: &[usize]) -> Result<(), Error> {
        let shards = self.shards_of(indexes);
        let mut servers = pick(&mut self.leases, indexes);
        let mut participants = Participants::new(&mut servers, &shards, &self.db.cluster);
        let _committing = self.info.committing();
        participants.commit().await
    }

    pub(super) fn shards_of(&self, indexes: &[usize]) -> Vec<ShardId> {
        let shards = indexes.iter().map(|index| self.leases[*index].shard);
        shards.collect()
    }

    /// Connections of the open block to all `shards`, in their order, for a table lock: in a READ ONLY block,
    /// if a standby grants it, where the block reads.
    ///
    /// # Errors
    /// As [`Session::enlist`].
    pub(super) async fn enlist_for_lock(
        &mut self,
        plan: &planner::Plan,
        shards: &planner::ShardSet,
    ) -> Result<Vec<usize>, Error> {
        let access = match self.block.reads() {
            Reads::ReadOnly => plan.access,
            Reads::Primary | Reads::UntilWrite => Access::Primary,
        };
        let mut indexes = Vec::with_capacity(shards.len());
        for shard in shards.as_slice() {
            let index = self.enlist(*shard, access).await?;
            self.leases[index].lease.settle().await?;
            indexes.push(index);
        }
        Ok(indexes)
    }

    /// Connections to all `shards`, in their order, for a statement that writes on each: within the open
    /// block, if there is one.
    ///
    /// # Errors
    /// As [`Session::enlist`]; as [`Session::admit_writers`].
    pub(super) async fn enlist_for_write(
        &mut self,
        plan: &planner::Plan,
        shards: &planner::ShardSet,
    ) -> Result<Vec<usize>, Error> {
        let mut indexes = Vec::with_capacity(shards.len());
        for shard in shards.as_slice() {
            let index = self.enlist(*shard, Access::Primary).await?;
            self.admit(index, &plan.effect).await?;
            indexes.push(index);
        }
        if self.block.is_none() {
            return Ok(indexes);
        }
        for index in &indexes {
            // BEGIN may be under way; its reply must not meet the statement's.
            self.leases[*index].lease.settle().await?;
        }
        self.admit_writers(&indexes).await?;
        for index in &indexes {
            self.leases[*index].wrote = true;
        }
        Ok(indexes)
    }
}
