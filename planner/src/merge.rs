//! What has to happen to the shards' answers so that they are one PostgreSQL's answer.
//!
//! A description only; `ringway::executor::merge` runs it.

use crate::route::ValueRef;

/// A column of a shard's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Column {
    /// Counted from the first column, from 0.
    FromStart(usize),
    /// A hidden column, counted from the first hidden one, from 0.
    Hidden(usize),
}

/// How the shards' rows become the client's rows, in the order of the fields:
/// group, sort, offset and limit, then drop the hidden columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergePlan {
    /// Columns added at the end of each shard's rows, not shown to the client.
    pub hidden: usize,
    /// Partial aggregates to combine; `None` leaves rows as they are.
    pub group: Option<Group>,
    /// The order of the result; empty means any order.
    pub order: Vec<SortKey>,
    /// True when each shard's stream already has `order` (then streams are merged, not sorted).
    pub shards_sorted: bool,
    pub offset: Option<ValueRef>,
    pub limit: Option<ValueRef>,
}

/// GROUP BY over all shards; no keys means exactly one row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    pub keys: Vec<GroupKey>,
    pub aggregates: Vec<Aggregate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupKey {
    pub column: Column,
    /// [`Collation::Unknown`] leaves it to the type found at run time; [`Collation::Other`] is one in which
    /// texts of different bytes may be equal.
    pub collation: Collation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aggregate {
    /// The column that holds the shard's part and, after the merge, the whole.
    pub column: Column,
    pub function: AggregateFunction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateFunction {
    /// count(*) and count(x): parts are added.
    Count,
    /// NULL parts are skipped; all NULL gives NULL.
    Sum,
    Min(Collation),
    Max(Collation),
    /// avg(x) = sum of the `sum` parts / sum of the `count` parts, with PostgreSQL's own rounding.
    Avg {
        sum: Column,
        count: Column,
    },
    BoolAnd,
    BoolOr,
    /// Of smallint, integer and bigint.
    Bits(BitOperator),
}

/// bit_and, bit_or, bit_xor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitOperator {
    And,
    Or,
    Xor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortKey {
    pub column: Column,
    pub descending: bool,
    pub nulls_first: bool,
    pub collation: Collation,
}

/// What is known of the order of a column's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collation {
    /// Bytes compare as PostgreSQL compares (C, POSIX, C.UTF-8).
    Bytewise,
    /// Some other deterministic collation: equal is equal bytes, less-than is not known here.
    Other,
    /// The planner could not tell (an expression); text is refused at run time.
    Unknown,
}
