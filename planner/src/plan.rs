//! What a statement is and where it may run, before its values are known.
//!
//! A plan is made once per shape and catalog version and cached; see [`crate::route`]
//! for what is decided per execution.

use std::borrow::Cow;

use crate::catalog::{Catalog, KeyType};
use crate::merge::MergePlan;
use crate::refusal::Refusal;
use crate::route::{TextPiece, ValueRef};
use crate::topology::ShardId;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub statement: Statement,
    pub access: Access,
    pub effect: SessionEffect,
    pub target: Target,
    /// One sentence for EXPLAIN (ROUTE): why it runs where it runs.
    pub reason: Cow<'static, str>,
}

/// What kind of statement it is, as far as a session must act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Whitespace and comments only.
    Empty,
    Query,
    Insert,
    Update,
    Delete,
    /// CREATE, ALTER, DROP, GRANT, COMMENT, TRUNCATE … : runs on all shards of a sharded database.
    Ddl {
        /// False for what PostgreSQL refuses inside a transaction block (CREATE INDEX CONCURRENTLY, VACUUM …).
        transactional: bool,
    },
    Begin {
        read_only: bool,
    },
    Commit,
    Rollback,
    /// SAVEPOINT, RELEASE, ROLLBACK TO.
    Savepoint,
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.
    TwoPhase,
    /// `SET [SESSION] name = value` or RESET; the session's own settings follow the client.
    Set(SetStatement),
    /// SHOW name.
    Show(String),
    CopyIn,
    CopyOut,
    /// `EXPLAIN (ROUTE) inner`: `inner` is the byte range of the inner statement.
    ExplainRoute {
        inner: std::ops::Range<usize>,
    },
    /// Everything else: DO, CALL, LOCK, FETCH, LISTEN, EXPLAIN …
    Other,
    /// Several statements in one simple query.
    Multiple,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetStatement {
    pub local: bool,
    /// Lower case; `None` is RESET ALL.
    pub name: Option<String>,
    /// The value as written after TO or =, ready to be written again; `None` is RESET or DEFAULT.
    pub value: Option<String>,
}

/// May it run on a replica?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Provably reads only: a replica may answer.
    Read,
    /// Writes, or may write: the primary.
    Write,
    /// Writes nothing that outlives it, but only the primary can answer (FOR UPDATE, advisory locks,
    /// functions that are not known to be harmless). Leaves a freshness mark as [`Access::Write`] does.
    Primary,
}

/// What it leaves behind on the server connection when it and its transaction are over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEffect {
    None,
    /// May leave state that no one will ask for (a user function, DO): reset the connection before reuse.
    Taint(&'static str),
    /// The client will expect to find it: keep client and server connection together.
    Pin(&'static str),
    /// DISCARD ALL.
    DiscardAll,
}

/// Which shards it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Any one shard gives the right answer; in a transaction, one already enlisted.
    AnyShard,
    /// Only this one.
    OneShard(ShardId),
    /// The shards that own the keys; more than one: `many` tells what then.
    Keys { keys: KeySet, many: Many },
    /// Every shard.
    AllShards(Many),
    /// Nothing runs.
    Refused(Refusal),
}

/// What to do when more than one shard is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Many {
    /// Run the rewritten text on each and merge the answers.
    Merge(Box<Scatter>),
    /// Run the same text on each, add up the command tags (UPDATE, DELETE).
    SumTags,
    /// Run the same text on each; the answer of the first is the answer (DDL, writes to reference tables).
    SameAnswer,
    Refused(Refusal),
}

/// A SELECT that runs on several shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scatter {
    pub merge: MergePlan,
    /// The text for the shards; `None` leaves it untouched.
    pub rewrite: Option<Vec<TextPiece>>,
}

/// The values of the sharding key that a statement is limited to: a union.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet {
    pub key_type: KeyType,
    /// `table.column`, for messages.
    pub column: String,
    /// NULL in WHERE matches nothing; in INSERT it is an error (23502).
    pub insert: bool,
    pub values: Vec<ValueRef>,
}

/// Options that change what a text means.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlanOptions<'a> {
    /// Parameter types declared in Parse, by position; 0 is unspecified.
    pub param_types: &'a [u32],
}

/// Plans one text. Never fails: what cannot be done is a plan that refuses.
pub fn plan(sql: &str, catalog: &Catalog, options: PlanOptions<'_>) -> Plan {
    let _ = (sql, catalog, options);
    Plan {
        statement: Statement::Other,
        access: Access::Write,
        effect: SessionEffect::None,
        target: Target::AnyShard,
        reason: "not planned".into(),
    }
}
