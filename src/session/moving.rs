//! Transactions that read on a replica, and go on at the primary once they need it: those that are
//! READ ONLY, and, where the operator wants it, all others until they write. A block moves by telling
//! the primary of what it was told so far (`block.rs`).

use planner::ShardId;
use planner::plan::{Access, SetStatement, TransactionMode};

use super::block::{Block, Reads};
use super::{Enlisted, Session};
use crate::backend::server::Settings;
use crate::config::TransactionReads;
use crate::error::Error;
use crate::metrics::BlockKind;
use crate::net::Instant;

const ISOLATION: &str = "default_transaction_isolation";

impl Session {
    /// A transaction that reads on a replica goes on at the primary, unless it has a snapshot to keep.
    ///
    /// # Errors
    /// 0A000 then.
    pub(super) async fn check_may_move(&mut self, shard: ShardId) -> Result<(), Error> {
        let on_replica = |held: &Enlisted| held.shard == shard && held.home.is_some();
        let Some(index) = self.leases.iter().position(on_replica) else {
            return Ok(());
        };
        self.end_extended(index).await?;
        let lease = &mut self.leases[index].lease;
        let rows = lease.ask_hidden("SHOW transaction_isolation").await?;
        let level = rows.first().and_then(|row| row.first()).cloned().flatten();
        if level.is_some_and(|level| is_committed(&level)) {
            return Ok(());
        }
        Err(planner::Refusal::unsupported(
            "this statement in a transaction that reads from a replica",
            "It may do more than read data, and the primary has another snapshot.",
            "Run it first in its transaction, or begin that with READ WRITE.",
        )
        .into())
    }

    /// Before `index` hears of a block that reads on a replica until it writes: only at READ COMMITTED
    /// may its statements see one state after the other. Answers the connection to use, the primary's
    /// where another level is the default.
    ///
    /// # Errors
    /// 0A000 where it has begun on a replica, and has another level on the primary.
    pub(super) async fn check_moves(&mut self, index: usize) -> Result<usize, Error> {
        let shard = self.leases[index].shard;
        let (to_replica, from_replica) = (
            self.leases[index].home.is_some(),
            self.reads_on_replica_of(shard),
        );
        if !(to_replica || from_replica) || self.is_committed(index).await? {
            return Ok(index);
        }
        if from_replica {
            return Err(another_level());
        }
        self.block.stay_on_primary();
        self.reach_primary(shard).await
    }

    /// Whether transactions on this connection are READ COMMITTED unless they say otherwise.
    async fn is_committed(&mut self, index: usize) -> Result<bool, Error> {
        // Of a session that says otherwise no block gets here.
        if self.settings.contains_key(ISOLATION) {
            return Ok(true);
        }
        if let Some(known) = self.leases[index].lease.reads_committed {
            return Ok(known);
        }
        self.end_extended(index).await?;
        let lease = &mut self.leases[index].lease;
        let rows = lease.ask_hidden(&format!("SHOW {ISOLATION}")).await?;
        let level = rows.first().and_then(|row| row.first()).cloned().flatten();
        let committed = level.is_some_and(|level| is_committed(&level));
        lease.reads_committed = Some(committed);
        Ok(committed)
    }

    /// The block goes on at the primary `index`: the replica is let go, unless it has portals of the
    /// client's, which go on there. Answers where `index` is then.
    pub(super) fn moved_to(&mut self, index: usize) -> usize {
        let shard = self.leases[index].shard;
        let on_replica =
            |held: &Enlisted| held.shard == shard && held.home.is_some() && held.in_block;
        let Some(replica) = self.leases.iter().position(on_replica) else {
            return index;
        };
        self.db.metrics.blocks.increment(BlockKind::Moved);
        if self.batch.has_portals_on(replica) || self.leases[replica].pinned.is_some() {
            return index;
        }
        self.let_go(replica, index)
    }

    /// Has a replica forget the block that goes on at `index`, and answers where that is then.
    pub(super) fn let_go(&mut self, replica: usize, index: usize) -> usize {
        let held = self.take_out(replica);
        if let Some(load) = &held.load {
            load.answered(Instant::now(), false);
        }
        let mut lease = held.lease;
        lease.mailbox = None;
        lease.executes = None;
        tokio::spawn(async move {
            // What was set there is set on the primary now. One that fails is closed.
            if lease.run_hidden("ROLLBACK").await.is_err() {
                lease.doubt.get_or_insert("it failed to end a transaction");
            }
        });
        index - usize::from(replica < index)
    }

    /// Takes a connection out of this session's hands, which no cancel request of its client is to meet again.
    fn take_out(&mut self, index: usize) -> Enlisted {
        let held = self.remove(index);
        self.batch.forget_lease(index);
        self.info.cancel.clear();
        for held in &self.leases {
            self.info.cancel.add(&held.lease.identity);
        }
        held
    }

    /// Gives back a connection that was only asked something: its shard has no part in what is under way.
    pub(super) fn return_unused(&mut self, index: usize) {
        let held = self.take_out(index);
        self.give_back(held);
    }

    /// A block that reads there begins, with this text.
    pub(super) fn begin_block(&mut self, sql: &[u8], reads: Reads) {
        self.block = Block::begin(sql, reads);
        self.batch.own_since = self.db.cluster.catalog_version();
        self.db.metrics.blocks.increment(match reads {
            Reads::Primary => BlockKind::Primary,
            Reads::ReadOnly => BlockKind::ReadOnly,
            Reads::UntilWrite => BlockKind::UntilWrite,
        });
    }

    /// Where a transaction that begins with `mode` may read.
    pub(super) fn block_reads(&self, mode: TransactionMode) -> Reads {
        let read_only = || match is_read_only(&self.settings) {
            true => Some(Reads::ReadOnly),
            false => None,
        };
        let until_write = || match self.db.config.reads.transactions {
            TransactionReads::ReplicaUntilWrite if has_default_isolation(&self.settings) => {
                Reads::UntilWrite
            }
            TransactionReads::ReplicaUntilWrite | TransactionReads::Primary => Reads::Primary,
        };
        match mode {
            TransactionMode::Primary => Reads::Primary,
            _ if is_serializable(&self.settings) => Reads::Primary,
            TransactionMode::ReadOnly => Reads::ReadOnly,
            TransactionMode::Snapshot => read_only().unwrap_or_default(),
            TransactionMode::Default => read_only().unwrap_or_else(until_write),
        }
    }

    /// Before a SET runs: SET TRANSACTION may say that this is a transaction for a replica, or is none.
    ///
    /// # Errors
    /// As of a write, where a replica would refuse what the primary does not.
    pub(super) async fn follow_set_transaction(&mut self, set: &SetStatement) -> Result<(), Error> {
        if self.block.is_none() {
            return Ok(());
        }
        if !self.leases.iter().any(|held| held.in_block) {
            let serializable = is_serializable(&self.settings);
            self.block.follow_set(set, serializable);
        } else if self.block.reads() == Reads::UntilWrite && set.allows_writes() {
            for index in 0..self.leases.len() {
                let shard = self.leases[index].shard;
                if self.reads_on_replica_of(shard) {
                    Box::pin(self.reach(shard, Access::Primary)).await?;
                }
            }
        }
        Ok(())
    }

    /// A replica of the shard is in the open block, and not the primary.
    fn reads_on_replica_of(&self, shard: ShardId) -> bool {
        let mut here = self
            .leases
            .iter()
            .filter(|held| held.shard == shard && held.in_block)
            .peekable();
        here.peek().is_some() && here.all(|held| held.home.is_some())
    }
}

/// A standby cannot run such transactions and refuses even to be told of the default.
pub(super) fn is_serializable(settings: &Settings) -> bool {
    let default = settings.get(ISOLATION);
    default.is_some_and(|sql| sql.to_ascii_lowercase().contains("serializable"))
}

/// A session that says nothing of isolation, or READ COMMITTED.
fn has_default_isolation(settings: &Settings) -> bool {
    let default = settings.get(ISOLATION);
    default.is_none_or(|sql| sql.to_ascii_lowercase().contains("committed"))
}

/// Of a level as PostgreSQL shows it: each statement has a snapshot of its own.
fn is_committed(level: &[u8]) -> bool {
    level.starts_with(b"read")
}

fn another_level() -> Error {
    planner::Refusal::unsupported(
        "transaction cannot go on at the primary",
        "It reads on a replica at READ COMMITTED, and has another level of isolation there by default.",
        "Begin it with READ WRITE, or give the servers the same default_transaction_isolation.",
    )
    .into()
}

/// By the statement that sets it: SET, or set_config as PostgreSQL writes values.
fn is_read_only(settings: &Settings) -> bool {
    let default = settings.get("default_transaction_read_only");
    default.is_some_and(|sql| {
        let sql = sql.to_ascii_lowercase();
        let words: Vec<_> = sql.split([' ', '=', ',', '\'', '(', ')']).collect();
        words
            .iter()
            .any(|word| ["on", "true", "yes", "1"].contains(word))
    })
}
