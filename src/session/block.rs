//! The client's transaction block, and telling servers of it.
//!
//! BEGIN is answered at once and sent to a shard with the first statement that needs it, so a
//! transaction occupies only the shards it touches. What ran on all enlisted shards before (BEGIN,
//! SAVEPOINT, SET) is replayed on one that joins later, where one can.

use planner::plan::{Savepoint, SetStatement};

use crate::backend::server::Status;
use crate::error::{Error, Fault};

/// Bytes of texts remembered for servers that join later.
const MAX_PRELUDE: usize = 1 << 20;
/// Charged for each text besides its length.
const TEXT_BYTES: usize = 64;

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
    prelude: Vec<Text>,
    /// What they count for.
    bytes: usize,
    reads: Reads,
    /// It has run NOTIFY.
    notifies: bool,
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub sql: Vec<u8>,
    /// The savepoint that it makes.
    defines: Option<String>,
}

impl Text {
    fn charge(&self) -> usize {
        TEXT_BYTES + self.sql.len()
    }
}

impl Begun {
    fn push(&mut self, sql: &[u8], defines: Option<String>) {
        let text = Text {
            sql: sql.to_vec(),
            defines,
        };
        self.bytes += text.charge();
        self.prelude.push(text);
    }

    /// A server that joins need not run what is undone, nor define what is gone.
    fn follow(&mut self, sql: &[u8], savepoint: &Savepoint) {
        let place = |name: &String| {
            let is_it = |text: &Text| text.defines.as_ref() == Some(name);
            self.prelude.iter().rposition(is_it)
        };
        match savepoint {
            Savepoint::Define(name) => return self.push(sql, Some(name.clone())),
            Savepoint::Release(name) => match place(name) {
                Some(place) => {
                    let mut at = 0..;
                    self.prelude.retain(|text| {
                        at.next().is_some_and(|at| at < place) || text.defines.is_none()
                    });
                }
                None => return self.push(sql, None),
            },
            Savepoint::RollbackTo(name) => match place(name) {
                Some(place) => self.prelude.truncate(place + 1),
                None => return self.push(sql, None),
            },
        }
        self.bytes = self.prelude.iter().map(Text::charge).sum();
    }
}

impl Block {
    pub fn begin(sql: &[u8], reads: Reads) -> Self {
        let mut begun = Begun {
            reads,
            ..Begun::default()
        };
        begun.push(sql, None);
        Self::Open(begun)
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

    pub fn prelude(&self) -> &[Text] {
        match self {
            Self::None => &[],
            Self::Open(begun) | Self::Failed(begun) => &begun.prelude,
        }
    }

    pub fn note_notify(&mut self) {
        match self {
            Self::None => {}
            Self::Open(begun) | Self::Failed(begun) => begun.notifies = true,
        }
    }

    /// Are there notifications to be sent with its COMMIT?
    pub fn notifies(&self) -> bool {
        match self {
            Self::None => false,
            Self::Open(begun) | Self::Failed(begun) => begun.notifies,
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

    /// Is there room to remember so many bytes of text?
    ///
    /// # Errors
    /// 54000 when there is not; each text would have to be replayed on a server that joins.
    pub fn check_room(&self, bytes: usize) -> Result<(), Error> {
        match self {
            Self::Open(begun) | Self::Failed(begun)
                if begun.bytes + TEXT_BYTES + bytes > MAX_PRELUDE =>
            {
                let message = "too many savepoints and settings in one transaction";
                Err(Error::new(Fault::Client, "54000", message)
                    .detail(format!(
                        "A server that joins the transaction has to be told of them. \
                         They may take {MAX_PRELUDE} bytes."
                    ))
                    .hint("Release savepoints, or commit more often."))
            }
            Self::None | Self::Open(_) | Self::Failed(_) => Ok(()),
        }
    }

    /// Remembers a text that every server of this block has run, and what it did to a savepoint.
    pub fn push(&mut self, sql: &[u8], savepoint: Option<&Savepoint>) {
        match (self, savepoint) {
            (Self::None, _) => {}
            (Self::Open(begun) | Self::Failed(begun), None) => begun.push(sql, None),
            (Self::Open(begun) | Self::Failed(begun), Some(savepoint)) => {
                begun.follow(sql, savepoint);
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

/// Does a text that opens a block say more than that?
pub fn says_modes(sql: &str) -> bool {
    let mut more = planner::leading_words(sql, 3).into_iter().skip(1);
    more.any(|word| {
        let is = |known: &str| word.eq_ignore_ascii_case(known);
        !is("transaction") && !is("work")
    })
}

/// Modes are for the transaction that is open already, on all of its shards, and some may not be said any more.
pub fn modes_amid() -> Error {
    planner::Refusal::unsupported(
        "BEGIN with modes amid a transaction on a sharded database",
        "They would change the transaction that is open, on each of its shards.",
        "Send BEGIN first, or SET TRANSACTION.",
    )
    .into()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_servers() {
        let mut block = Block::begin(b"BEGIN", Reads::Primary);
        assert_eq!(block.status(), Status::InTransaction);
        block.observe(Status::Failed);
        assert!(block.is_failed());
        assert_eq!(texts(&block), ["BEGIN"]);
        block.observe(Status::InTransaction);
        assert!(!block.is_failed(), "ROLLBACK TO revives it");
        block.observe(Status::Idle);
        assert!(block.is_none());
    }

    fn texts(block: &Block) -> Vec<&str> {
        let prelude = block.prelude().iter();
        prelude
            .map(|text| std::str::from_utf8(&text.sql).unwrap())
            .collect()
    }

    #[test]
    fn what_savepoints_make_moot_is_not_remembered() {
        let mut block = Block::begin(b"BEGIN", Reads::Primary);
        let name = |name: &str| name.to_owned();
        let savepoint = |block: &mut Block, of: Savepoint| {
            let sql = format!("{of:?}").replace('"', "");
            block.push(sql.as_bytes(), Some(&of));
        };
        block.push(b"SET a", None);
        savepoint(&mut block, Savepoint::Define(name("s")));
        block.push(b"SET b", None);
        savepoint(&mut block, Savepoint::Define(name("t")));
        block.push(b"SET c", None);
        savepoint(&mut block, Savepoint::Release(name("s")));
        assert_eq!(texts(&block), ["BEGIN", "SET a", "SET b", "SET c"]);
        savepoint(&mut block, Savepoint::Define(name("u")));
        block.push(b"SET d", None);
        savepoint(&mut block, Savepoint::RollbackTo(name("u")));
        let left = ["BEGIN", "SET a", "SET b", "SET c", "Define(u)"];
        assert_eq!(texts(&block), left);
        // PostgreSQL itself says what is wrong with it.
        savepoint(&mut block, Savepoint::Release(name("nothing")));
        assert_eq!(texts(&block).last(), Some(&"Release(nothing)"));
        for _ in 0..100_000 {
            savepoint(&mut block, Savepoint::Define(name("v")));
            savepoint(&mut block, Savepoint::Release(name("v")));
        }
        assert_eq!(block.prelude().len(), left.len() + 1);
        assert!(block.check_room(1 << 19).is_ok());
        block.push(&vec![b'x'; 1 << 19], None);
        assert_eq!(block.check_room(1 << 19).unwrap_err().code, "54000");
    }

    #[test]
    fn nothing_fails_outside_a_block() {
        let mut block = Block::None;
        block.fail();
        assert!(block.is_none());
    }
}
