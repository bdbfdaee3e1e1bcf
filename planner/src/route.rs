//! (plan, values, topology) -> where this execution goes. Costs nanoseconds; runs per execution.

use std::borrow::Cow;
use std::ops::Range;

use crate::copy::{self, CopyIn, CopyRows};
use crate::explained::Explained;
use crate::gather::Gathering;
use crate::ids;
use crate::insertion::Inserting;
use crate::limit::KeySet;
use crate::merge::MergePlan;
use crate::moving::Move;
use crate::place;
use crate::plan::{Declare, Many, Plan, Target};
use crate::refusal::Refusal;
use crate::shape::Piece;
use crate::split::{self, Part, Split};
use crate::topology::{ShardSet, Topology};

/// Where a value is found when the statement runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ValueRef {
    /// The n-th lifted piece of the text, from 0; negated when a minus stood before it.
    Literal {
        piece: usize,
        negative: bool,
    },
    /// `$n`, from 0.
    Param(usize),
    /// A constant of the shape itself.
    Text(String),
    Null,
}

/// A piece of a rewritten text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TextPiece {
    /// A byte range of the text that was planned, where every lifted piece counts as one byte
    /// (as in a key of [`crate::shape::Shape`]); so it holds for every text of the shape.
    Original(Range<usize>),
    Added(String),
    /// The parameter that holds the gathered rows of the n-th source, from 0: they come behind the
    /// client's.
    Rows(usize),
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
    Merge {
        merge: &'p MergePlan,
        sql: Cow<'p, [u8]>,
        /// What to do where the shards' columns turn out to be of a kind that is not merged.
        otherwise: Option<Box<Gathering>>,
    },
    /// Rows of several shards are gathered, and one server runs the client's text over them.
    Gather(Box<Gathering>),
    SumTags,
    /// Rows are gathered, and those of the shards in question run the client's text over them.
    Write {
        gathering: Box<Gathering>,
        on: ShardSet,
    },
    /// Each shard runs the text as a write does; then their rows are put in order.
    Lock(&'p MergePlan),
    /// Each shard runs its part.
    Split {
        split: &'p Split,
        parts: Vec<Part>,
    },
    /// The rows of a query are gathered, and each is inserted where it belongs.
    Insert(Box<Inserting<'p>>),
    /// The shards that have the rows run `sql`, and give those away that belong elsewhere then.
    Move {
        moving: &'p Move,
        from: ShardSet,
        sql: Vec<u8>,
    },
    /// Each shard runs the text, and gets its rows of the client's data.
    CopyIn(&'p CopyIn),
    /// Each shard runs the text; their data follow each other.
    CopyOut(copy::Frame),
    /// The rows of a query, written as COPY does.
    CopyRows(Box<CopyRows<'p>>),
    /// Each shard explains what it would run.
    Explain(Box<Explained>),
    /// A cursor over the answers: its query has a route of its own.
    Cursor(&'p Declare),
    SameAnswer,
}

const NOT_NULL_VIOLATION: &str = "23502";

/// Routes one execution, or refuses it before anything runs: a key of the wrong type (22P02 and
/// kin, as PostgreSQL would), a NULL key in INSERT (23502), or what the plan refuses.
pub fn route<'p>(
    plan: &'p Plan,
    values: Values<'_>,
    topology: &Topology,
) -> Result<Route<'p>, Refusal> {
    match &plan.target {
        Target::AnyShard => Ok(Route::direct(Shards::Any)),
        Target::OneShard(shard) => Ok(Route::direct(Shards::Exactly(ShardSet::one(*shard)))),
        Target::Keys { keys, many } => {
            let shards = match (place::shards_of(keys, values, topology), many) {
                // Whether a row of a MERGE is inserted depends on its conditions.
                (Err(refusal), Many::Insert(insertion))
                    if refusal.code == NOT_NULL_VIOLATION && insertion.has_keys_by_row() =>
                {
                    None
                }
                (shards, _) => shards?,
            };
            let Some(shards) = shards else {
                let all = ShardSet::all(topology.shard_count());
                return several(all, many, values, topology);
            };
            match shards.len() {
                // No row can match, or the shard itself will reject the value: any one tells.
                0 => Ok(Route::direct(Shards::Any)),
                1 => Ok(Route::direct(Shards::Exactly(shards))),
                _ => match many {
                    Many::Split(split) => Ok(Route {
                        shards: Shards::Exactly(shards),
                        execution: Execution::Split {
                            split,
                            parts: parts(split, keys, values, topology)?,
                        },
                    }),
                    Many::Merge(_)
                    | Many::Gather(_)
                    | Many::Insert(_)
                    | Many::SumTags
                    | Many::Write(_)
                    | Many::Lock(_)
                    | Many::SameAnswer
                    | Many::CopyIn(_)
                    | Many::CopyOut(_)
                    | Many::CopyQuery(_)
                    | Many::Explain(_)
                    | Many::Cursor(_)
                    | Many::Refused(_) => several(shards, many, values, topology),
                },
            }
        }
        Target::AllShards(many) => {
            let all = ShardSet::all(topology.shard_count());
            several(all, many, values, topology)
        }
        Target::Moves(moving) => moving.route(values, topology),
        Target::Ids(_) => Err(ids::not_drawn()),
        Target::Refused(refusal) => Err(refusal.clone()),
    }
}

impl Route<'_> {
    pub(crate) fn direct(shards: Shards) -> Self {
        Self {
            shards,
            execution: Execution::Direct,
        }
    }
}

/// The parts of an INSERT: row by row, the keys are its own.
fn parts(
    split: &Split,
    keys: &KeySet,
    values: Values<'_>,
    topology: &Topology,
) -> Result<Vec<Part>, Refusal> {
    let owners = place::shards_of_rows(keys, values, topology)?;
    match owners.len() == split.rows.len() {
        true => Ok(split::parts(split, values, &owners)),
        false => Err(split::no_keys()),
    }
}

pub(crate) fn several<'p>(
    shards: ShardSet,
    many: &'p Many,
    values: Values<'_>,
    topology: &Topology,
) -> Result<Route<'p>, Refusal> {
    let (shards, execution) = match many {
        Many::Merge(scatter) => {
            let sql = match &scatter.rewrite {
                Some(pieces) => rewritten(pieces, 0, values),
                None => values.sql.to_vec(),
            };
            let gather = scatter.otherwise.as_ref();
            let gather = gather.map(|gather| Box::new(gather.execution(shards.clone(), values).1));
            let execution = Execution::Merge {
                merge: &scatter.merge,
                sql: Cow::Owned(sql),
                otherwise: gather,
            };
            (shards, execution)
        }
        Many::Gather(gather) => {
            let (shards, gathering) = gather.execution(shards, values);
            (shards, Execution::Gather(Box::new(gathering)))
        }
        // It concerns others than those that it reads.
        Many::Insert(insertion) => return insertion.route(shards, values, topology),
        Many::SumTags => (shards, Execution::SumTags),
        Many::Write(gather) => {
            let on = gather.at.map_or_else(|| shards.clone(), ShardSet::one);
            let (mut shards, gathering) = gather.execution(shards, values);
            shards.extend(&on);
            let gathering = Box::new(gathering);
            (shards, Execution::Write { gathering, on })
        }
        Many::Lock(merge) => (shards, Execution::Lock(merge)),
        Many::SameAnswer => (shards, Execution::SameAnswer),
        Many::CopyIn(copy) => (shards, Execution::CopyIn(copy)),
        Many::CopyOut(frame) => (shards, Execution::CopyOut(*frame)),
        Many::CopyQuery(copy) => return copy.route(shards, values, topology),
        Many::Explain(explain) => return explain.route(shards, values, topology),
        Many::Cursor(declare) => (shards, Execution::Cursor(declare)),
        // Without keys there is nothing to split by.
        Many::Split(_) => return Err(split::no_keys()),
        Many::Refused(refusal) => return Err(refusal.clone()),
    };
    Ok(Route {
        shards: Shards::Exactly(shards),
        execution,
    })
}

/// The text for the shards; `given` parameters are the client's.
pub(crate) fn rewritten(pieces: &[TextPiece], given: usize, values: Values<'_>) -> Vec<u8> {
    let mut text = Vec::with_capacity(values.sql.len() + 64);
    for piece in pieces {
        match piece {
            TextPiece::Original(range) => {
                let (start, end) = (at_hand(range.start, values), at_hand(range.end, values));
                text.extend_from_slice(values.sql.get(start..end).unwrap_or_default());
            }
            TextPiece::Added(added) => text.extend_from_slice(added.as_bytes()),
            TextPiece::Rows(source) => {
                text.extend_from_slice(format!("${}", given + source + 1).as_bytes());
            }
        }
    }
    text
}

/// Maps an offset that counts lifted pieces as one byte to one in the text at hand.
pub(crate) fn at_hand(offset: usize, values: Values<'_>) -> usize {
    let mut grown = 0;
    for piece in values.pieces {
        if piece.range.start - grown >= offset {
            break;
        }
        grown += piece.range.len() - 1;
    }
    offset + grown
}
