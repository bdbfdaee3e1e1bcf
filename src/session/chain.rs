//! COMMIT and ROLLBACK AND CHAIN on a sharded database: the block ends on all of its shards, and another
//! begins that is told to those which join it, as ever. Its isolation level and modes are those that a server
//! gives it: they depend on SET TRANSACTION, on savepoints, and on whether the block has failed.

use bytes::BytesMut;
use planner::plan::TransactionMode;
use planner::route::Shards;

use super::block::Reads;
use super::{Rest, Session};
use crate::backend::server::Status;
use crate::error::{Error, Fault};
use crate::net::Instant;
use crate::wire::write;

const MODES: &str =
    "SHOW transaction_isolation; SHOW transaction_read_only; SHOW transaction_deferrable";

/// The BEGIN of a chained transaction.
struct Next {
    sql: String,
    reads: Reads,
}

impl Session {
    /// In the simple protocol, in a block.
    ///
    /// # Errors
    /// As of COMMIT or ROLLBACK: no transaction follows then.
    pub(super) async fn chain_simple(&mut self, commit: bool) -> Result<(), Error> {
        let next = self.next_of_chain(commit).await?;
        let mut frame = BytesMut::new();
        write::query(&mut frame, verb(commit).as_bytes());
        let rest = std::mem::replace(&mut self.rest, Rest::Something);
        let ended = self.end_block(frame, commit).await;
        self.rest = rest;
        ended?;
        if self.leases.iter().any(|held| held.lease.error.is_some()) {
            // The client has been told that nothing was committed.
            return Ok(());
        }
        self.settle(Instant::now()).await?;
        self.publish_schema().await;
        self.begin_block(next.sql.as_bytes(), next.reads);
        Ok(())
    }

    /// In a pipeline. Answers the command tag.
    ///
    /// # Errors
    /// 25P01 outside of a block; as of COMMIT or ROLLBACK.
    pub(super) async fn chain_amid(&mut self, commit: bool) -> Result<&'static str, Error> {
        if self.block.is_none() || self.batch.implicit {
            return Err(not_in_block(commit));
        }
        let next = self.next_of_chain(commit).await?;
        let tag = self.end_everywhere(commit).await?;
        if !self.leases.iter().any(|held| held.needs_sync) {
            self.settle(Instant::now()).await?;
        }
        self.publish_schema().await;
        self.begin_block(next.sql.as_bytes(), next.reads);
        Ok(tag)
    }

    /// How the transaction after this one begins. One that is to be rolled back may be so on a server then.
    async fn next_of_chain(&mut self, commit: bool) -> Result<Next, Error> {
        let failed = self.block.is_failed();
        if failed && !self.leases.iter().any(|held| held.in_block) {
            let shard = self.pick_shard(&Shards::Any);
            self.enlist(shard, self.any_access()).await?;
            self.fail_block().await?;
        }
        let knows = |held: &super::Enlisted| {
            held.in_block && (!failed || held.lease.status == Status::Failed)
        };
        let Some(index) = self.leases.iter().position(knows) else {
            let begin = self.block.prelude().first();
            return Ok(Next {
                sql: begin.map_or_else(String::new, |begin| {
                    String::from_utf8_lossy(&begin.sql).into_owned()
                }),
                reads: self.block.reads(),
            });
        };
        self.leases[index].needs_sync = false;
        let lease = &mut self.leases[index].lease;
        lease.settle().await?;
        if failed || !commit {
            lease.run_hidden("ROLLBACK AND CHAIN").await?;
        }
        let rows = lease.ask_hidden(MODES).await?;
        let mut values = rows.into_iter().map(|row| {
            let value = row.into_iter().next().flatten().unwrap_or_default();
            String::from_utf8_lossy(&value).into_owned()
        });
        let mut value = || values.next().unwrap_or_default();
        let (level, read_only, deferrable) = (value(), value() == "on", value() == "on");
        let mode = match read_only && level != "serializable" {
            true => TransactionMode::ReadOnly,
            false => TransactionMode::Primary,
        };
        Ok(Next {
            // Chained there too: when it fails, modes that BEGIN has set are forgotten, and these are not.
            sql: format!(
                "BEGIN ISOLATION LEVEL {level}, READ {}, {}DEFERRABLE; COMMIT AND CHAIN",
                if read_only { "ONLY" } else { "WRITE" },
                if deferrable { "" } else { "NOT " },
            ),
            reads: self.block_reads(mode),
        })
    }
}

fn verb(commit: bool) -> &'static str {
    if commit { "COMMIT" } else { "ROLLBACK" }
}

/// In PostgreSQL's words.
pub(super) fn not_in_block(commit: bool) -> Error {
    let message = format!(
        "{} AND CHAIN can only be used in transaction blocks",
        verb(commit)
    );
    Error::new(Fault::Client, "25P01", message)
}
