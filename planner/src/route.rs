//! (plan, values, topology) -> where this execution goes. Costs nanoseconds; runs per execution.

use std::borrow::Cow;
use std::ops::Range;

use crate::merge::MergePlan;
use crate::plan::Plan;
use crate::refusal::Refusal;
use crate::shape::Piece;
use crate::topology::{ShardSet, Topology};

/// Where a value is found when the statement runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueRef {
    /// The n-th lifted piece of the text, from 0; negated when a minus stood before it.
    Literal { piece: usize, negative: bool },
    /// `$n`, from 0.
    Param(usize),
    /// A constant of the shape itself.
    Text(String),
    Null,
}

/// A piece of a rewritten text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextPiece {
    /// A byte range of the text that was planned; maps to the text at hand through the lifted pieces.
    Original(Range<usize>),
    Added(String),
}

/// One bound parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<'a> {
    /// `None` is NULL.
    pub value: Option<&'a [u8]>,
    pub binary: bool,
    /// The declared type, 0 when the client left it to the server.
    pub type_oid: u32,
}

/// The values of one execution.
#[derive(Debug, Clone, Copy, Default)]
pub struct Values<'a> {
    pub sql: &'a [u8],
    pub pieces: &'a [Piece],
    /// Empty for the simple protocol.
    pub params: &'a [Param<'a>],
}

/// Where one execution goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'p> {
    pub shards: Shards,
    pub execution: Execution<'p>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shards {
    /// Any one; the session picks (an enlisted one first).
    Any,
    /// Exactly these; never empty.
    Exactly(ShardSet),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Execution<'p> {
    /// The client's text, one shard, answer relayed.
    Direct,
    /// Each shard runs `sql`; the answers are merged.
    Merge { merge: &'p MergePlan, sql: Cow<'p, [u8]> },
    SumTags,
    SameAnswer,
}

/// Routes one execution, or refuses it before anything runs: a key of the wrong type (22P02 and
/// kin, as PostgreSQL would), a NULL key in INSERT (23502), or what the plan refuses.
pub fn route<'p>(
    plan: &'p Plan,
    values: Values<'_>,
    topology: &Topology,
) -> Result<Route<'p>, Refusal> {
    let _ = (plan, values, topology);
    Ok(Route { shards: Shards::Any, execution: Execution::Direct })
}
