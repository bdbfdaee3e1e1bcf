//! What a statement says of the keys of its rows: kept in its plan, read when its values are there.

use crate::catalog::{Keeps, KeyType};
use crate::placement::Placement;
use crate::route::ValueRef;

/// The rows that a statement concerns: of each of these tables, those within its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet {
    /// Never empty.
    pub tables: Vec<TableLimit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableLimit {
    /// `table.column`, or `table.(one, other)`.
    pub key: String,
    pub placement: Placement,
    pub limit: Limit,
}

/// Which keys rows can have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Limit {
    /// By column of the key, its values; any with any.
    Each(Vec<Part>),
    /// By column of the key, its values; the n-th of all belong together.
    Rows(Vec<Part>),
    /// The key's only column is between two values.
    Within(Box<Interval>),
    AnyOf(Vec<Limit>),
    /// Never empty.
    AllOf(Vec<Limit>),
}

/// Values of one column of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Part {
    pub column: KeyPart,
    pub values: Vec<KeyValue>,
}

/// How values of one column of a key are read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyPart {
    /// The type that PostgreSQL compares them in.
    pub key_type: KeyType,
    /// `table.column`, for messages.
    pub name: String,
    /// How the column keeps values that are inserted. `None` where they are compared: then NULL
    /// matches nothing, where an INSERT of it is an error (23502).
    pub insert: Option<Keeps>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyValue {
    One(ValueRef),
    /// IS NOT DISTINCT FROM: NULL is like NULL.
    Alike(ValueRef),
    /// Each element of an array.
    Elements(ValueRef),
    /// What integers come to.
    Computed(Box<Computed>),
}

/// Arithmetic on integer literals, in the types that PostgreSQL computes it in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Computed {
    Literal(ValueRef),
    Negated(Box<Computed>),
    Sum(Box<Computed>, Box<Computed>),
    Difference(Box<Computed>, Box<Computed>),
    Product(Box<Computed>, Box<Computed>),
}

/// A bound that is missing is open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Interval {
    pub column: KeyPart,
    pub low: Option<Bound>,
    pub high: Option<Bound>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bound {
    pub value: ValueRef,
    pub inclusive: bool,
}

impl KeySet {
    /// Is it one value of one hashed column, of a type whose values always tell a shard? Then no
    /// execution runs on several.
    pub fn is_one(&self) -> bool {
        self.single_hashed()
            .is_some_and(|(column, _)| match column.key_type {
                KeyType::Int2
                | KeyType::Int4
                | KeyType::Int8
                | KeyType::Text
                | KeyType::Bpchar
                | KeyType::Uuid => true,
                KeyType::Date
                | KeyType::Timestamp
                | KeyType::Timestamptz
                | KeyType::Numeric
                | KeyType::Bytea => false,
            })
    }

    /// The value, where there is but one: most statements that have a key.
    pub(crate) fn single_hashed(&self) -> Option<(&KeyPart, &ValueRef)> {
        match self.tables.as_slice() {
            [
                TableLimit {
                    placement: Placement::Hash,
                    limit: Limit::Each(parts),
                    ..
                },
            ] => match parts.as_slice() {
                [Part { column, values }] => match values.as_slice() {
                    [KeyValue::One(value)] => Some((column, value)),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    /// What either concerns.
    pub(crate) fn union(mut self, other: Self) -> Self {
        for table in other.tables {
            let known = self.tables.iter().any(|known| {
                // The usual case: a join carried the same values over.
                known.placement == table.placement && known.limit == table.limit
            });
            if !known {
                self.tables.push(table);
            }
        }
        self
    }

    /// Is it told by a parameter, counted from 0, that satisfies `test`?
    pub fn any_param(&self, test: impl Fn(usize) -> bool) -> bool {
        let is_it = |value: &ValueRef| match value {
            ValueRef::Param(index) => test(*index),
            ValueRef::Literal { .. } | ValueRef::Text(_) | ValueRef::Null => false,
        };
        self.tables.iter().any(|table| table.limit.any(&is_it))
    }

    /// With each value changed by `change`.
    pub(crate) fn map(self, change: &mut dyn FnMut(ValueRef) -> ValueRef) -> Self {
        let tables = self.tables.into_iter().map(|table| TableLimit {
            limit: table.limit.map(change),
            ..table
        });
        Self {
            tables: tables.collect(),
        }
    }
}

impl Limit {
    /// Does any value satisfy `test`? Computed ones hold literals only.
    fn any(&self, test: &dyn Fn(&ValueRef) -> bool) -> bool {
        let value = |value: &KeyValue| match value {
            KeyValue::One(value) | KeyValue::Alike(value) | KeyValue::Elements(value) => {
                test(value)
            }
            KeyValue::Computed(_) => false,
        };
        match self {
            Self::Each(parts) | Self::Rows(parts) => {
                parts.iter().any(|part| part.values.iter().any(value))
            }
            Self::Within(interval) => {
                let mut bounds = interval.low.iter().chain(&interval.high);
                bounds.any(|bound| test(&bound.value))
            }
            Self::AnyOf(limits) | Self::AllOf(limits) => limits.iter().any(|l| l.any(test)),
        }
    }

    fn map(self, change: &mut dyn FnMut(ValueRef) -> ValueRef) -> Self {
        match self {
            Self::Each(parts) => Self::Each(map_parts(parts, change)),
            Self::Rows(parts) => Self::Rows(map_parts(parts, change)),
            Self::Within(interval) => Self::Within(Box::new(interval.map(change))),
            Self::AnyOf(limits) => {
                Self::AnyOf(limits.into_iter().map(|limit| limit.map(change)).collect())
            }
            Self::AllOf(limits) => {
                Self::AllOf(limits.into_iter().map(|limit| limit.map(change)).collect())
            }
        }
    }
}

fn map_parts(parts: Vec<Part>, change: &mut dyn FnMut(ValueRef) -> ValueRef) -> Vec<Part> {
    let map = |part: Part| Part {
        values: part.values.into_iter().map(|v| v.map(change)).collect(),
        ..part
    };
    parts.into_iter().map(map).collect()
}

impl KeyValue {
    fn map(self, change: &mut dyn FnMut(ValueRef) -> ValueRef) -> Self {
        match self {
            Self::One(value) => Self::One(change(value)),
            Self::Alike(value) => Self::Alike(change(value)),
            Self::Elements(value) => Self::Elements(change(value)),
            Self::Computed(computed) => Self::Computed(Box::new(computed.map(change))),
        }
    }
}

impl Computed {
    fn map(self, change: &mut dyn FnMut(ValueRef) -> ValueRef) -> Self {
        let mut map = |computed: Self| Box::new(computed.map(change));
        match self {
            Self::Literal(value) => Self::Literal(change(value)),
            Self::Negated(of) => Self::Negated(map(*of)),
            Self::Sum(a, b) => Self::Sum(map(*a), map(*b)),
            Self::Difference(a, b) => Self::Difference(map(*a), map(*b)),
            Self::Product(a, b) => Self::Product(map(*a), map(*b)),
        }
    }
}

impl Interval {
    fn map(self, change: &mut dyn FnMut(ValueRef) -> ValueRef) -> Self {
        let mut bound = |bound: Option<Bound>| {
            bound.map(|bound| Bound {
                value: change(bound.value),
                ..bound
            })
        };
        Self {
            low: bound(self.low),
            high: bound(self.high),
            column: self.column,
        }
    }
}
