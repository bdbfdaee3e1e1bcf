//! The client's transaction block, and telling servers of it.
//!
//! BEGIN is answered at once and sent to a shard with the first statement that needs it, so a
//! transaction occupies only the shards it touches. What ran on all enlisted shards before (BEGIN,
//! SAVEPOINT, SET) is replayed on one that joins later.

use planner::plan::SetStatement;

use crate::backend::server::Status;
use crate::error::{Error, Fault};

/// Texts remembered for shards that join later.
const MAX_PRELUDE: usize = 10_000;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Block {
    /// Each statement is its own transaction.
    #[default]
    None,
    Open(Begun),
    /// A statement failed: only ROLLBACK (also TO a savepoint) or COMMIT may follow.
    Failed(Begun),
}

/// What a block is to those who join it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The texts a shard that joins must run first, BEGIN before all.
    prelude: Vec<Vec<u8>>,
    reads: Reads,
}

/// Where a block's reads may run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// On the primary, as everything else.
    #[default]
    Primary,
    /// On a replica: the block is READ ONLY.
    ReadOnly,
    /// On a replica, until something needs the primary: then the block moves there.
    UntilWrite,
}

impl Block {
    pub fn begin(sql: &[u8], reads: Reads) -> Self {
        Self::Open(Begun {
            prelude: vec![sql.to_vec()],
            reads,
        })
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    pub fn status(&self) -> Status {
        match self {
            Self::None => Status::Idle,
            Self::Open(_) => Status::InTransaction,
            Self::Failed(_) => Status::Failed,
        }
    }

    pub fn prelude(&self) -> &[Vec<u8>] {
        match self {
            Self::None => &[],
            Self::Open(begun) | Self::Failed(begun) => &begun.prelude,
        }
    }

    /// Where it may read; outside of a block on the primary.
    pub fn reads(&self) -> Reads {
        match self {
            Self::None => Reads::Primary,
            Self::Open(begun) | Self::Failed(begun) => begun.reads,
        }
    }

    /// A replica may answer what provably reads.
    pub fn may_read_on_replica(&self) -> bool {
        match self.reads() {
            Reads::Primary => false,
            Reads::ReadOnly | Reads::UntilWrite => true,
        }
    }

    /// From now on everything of it runs on the primary.
    pub fn stay_on_primary(&mut self) {
        match self {
            Self::None => {}
            Self::Open(begun) | Self::Failed(begun) => begun.reads = Reads::Primary,
        }
    }

    /// Follows a SET TRANSACTION that no server has heard of yet.
    pub fn follow_set(&mut self, set: &SetStatement, serializable: bool) {
        let (Self::Open(begun), Some(name)) = (self, &set.name) else {
            return;
        };
        let value = set.value.as_deref().unwrap_or_default();
        let value = value.to_ascii_lowercase();
        let words: Vec<_> = value.split_whitespace().collect();
        let says = |word: &str| words.iter().any(|said| said.trim_matches(',') == word);
        match name.as_str() {
            "transaction" if says("write") || says("serializable") || says("snapshot") => {
                begun.reads = Reads::Primary;
            }
            "transaction" if says("only") && serializable => begun.reads = Reads::Primary,
            "transaction" if says("only") => begun.reads = Reads::ReadOnly,
            "transaction" if says("repeatable") && begun.reads == Reads::UntilWrite => {
                begun.reads = Reads::Primary;
            }
            "transaction" => {}
            // What these make of it is not read here.
            "transaction_read_only" | "transaction_isolation" => begun.reads = Reads::Primary,
            _ => {}
        }
    }

    /// Remembers a text that every shard of this block must have run.
    ///
    /// # Errors
    /// 54000 when there are too many; each would have to be replayed on a shard that joins.
    pub fn push(&mut self, sql: &[u8]) -> Result<(), Error> {
        match self {
            Self::None => Ok(()),
            Self::Open(begun) | Self::Failed(begun) if begun.prelude.len() < MAX_PRELUDE => {
                begun.prelude.push(sql.to_vec());
                Ok(())
            }
            Self::Open(_) | Self::Failed(_) => {
                let message = "too many savepoints and settings in one transaction";
                Err(Error::new(Fault::Client, "54000", message)
                    .detail(format!("A transaction may have {MAX_PRELUDE} of them."))
                    .hint("Commit more often."))
            }
        }
    }

    /// Follows what the enlisted servers report.
    pub fn observe(&mut self, status: Status) {
        let begun = match std::mem::take(self) {
            Self::None => Begun::default(),
            Self::Open(begun) | Self::Failed(begun) => begun,
        };
        *self = match status {
            Status::Idle => Self::None,
            Status::InTransaction => Self::Open(begun),
            Status::Failed => Self::Failed(begun),
        };
    }

    pub fn fail(&mut self) {
        if !self.is_none() {
            self.observe(Status::Failed);
        }
    }
}

/// The command tag of a text that opens a block: it says BEGIN or START TRANSACTION as the text does.
pub fn opening_tag(sql: &str) -> &'static str {
    match planner::leading_words(sql, 1).first() {
        Some(word) if word.eq_ignore_ascii_case("start") => "START TRANSACTION",
        Some(_) | None => "BEGIN",
    }
}

/// 25P02, as PostgreSQL words it.
pub fn aborted() -> Error {
    Error::new(
        Fault::Client,
        "25P02",
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// A block in statement mode, in PgBouncer's words.
pub fn no_blocks() -> Error {
    Error::new(
        Fault::Client,
        "0A000",
        "transaction blocks not allowed in statement pooling mode",
    )
    .detail("The server connection goes back to its pool after each statement.")
    .hint("Send the statements without BEGIN, or together as one query.")
}

/// A write that would need atomic commit over several shards.
pub fn second_writer(first: &str, second: &str) -> Error {
    Error::new(
        Fault::Client,
        "0A000",
        "transaction would write to a second shard",
    )
    .detail(format!(
        "It has written to shard \"{first}\", and this statement writes to shard \"{second}\"; \
             there is no atomic commit over several shards yet."
    ))
    .hint("Split it into one transaction per shard.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_servers() {
        let mut block = Block::begin(b"BEGIN", Reads::Primary);
        assert_eq!(block.status(), Status::InTransaction);
        block.observe(Status::Failed);
        assert!(block.is_failed());
        assert_eq!(block.prelude(), [b"BEGIN".to_vec()]);
        block.observe(Status::InTransaction);
        assert!(!block.is_failed(), "ROLLBACK TO revives it");
        block.observe(Status::Idle);
        assert!(block.is_none());
    }

    #[test]
    fn nothing_fails_outside_a_block() {
        let mut block = Block::None;
        block.fail();
        assert!(block.is_none());
    }
}
