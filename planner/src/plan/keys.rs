//! Which values of the sharding key the rows of a table reference are limited to.
//!
//! Only what holds for every row that can matter counts: conjuncts of WHERE and of inner joins,
//! and for the side of an outer join that may be missing, those of its ON. What is not
//! understood limits nothing.

mod conditions;

use std::collections::HashSet;
use std::ops::Range;

use sqlparser::ast::{
    BinaryOperator, Expr, Join, JoinConstraint, JoinOperator, Select, TableFactor, TableWithJoins,
};

use self::conditions::{Condition, Key};
use super::facts::Input;
use super::parse::Source;
use super::scope::{Reference, Scope, object_name};
use super::values::TypedParams;
use crate::catalog::{KeyType, ShardKey};
use crate::limit::{KeySet, TableLimit};
use crate::merge::Collation;
use crate::route::ValueRef;

/// What is known of one sharded table reference.
#[derive(Debug, Clone)]
pub(super) struct Pin {
    /// The keys that its rows are limited to, if any are known.
    pub(super) keys: Option<KeySet>,
}

/// A FROM clause with its WHERE.
pub(super) struct Clauses<'c> {
    pub(super) scope: Scope<'c>,
    /// Columns that are compared: those of keys, and those that carry values to them.
    columns: Vec<Column>,
    /// Pairs of columns that are equal in every row.
    equal: Vec<(usize, usize)>,
    /// Pairs (kept, optional) of columns that an outer join's ON says to be equal.
    optional: Vec<(usize, usize)>,
    conditions: Vec<Condition>,
    /// Parameters that meet columns, with the columns' types.
    typed: TypedParams,
    /// References that an outer join may leave out of a row.
    nullable: Vec<usize>,
    /// References that may mean a CTE by a table's name: their columns may be of other types.
    shadowed: Vec<usize>,
    /// Pairs (column, column of a shadowed reference) that are equal. Limits may pass that way only:
    /// there they do not say which rows are asked for, as a CTE's own tables have limits of their own.
    to_shadowed: Vec<(usize, usize)>,
    /// False when a join is of a kind that cannot run shard by shard.
    splits: bool,
}

/// A column whose values can be those of a key.
struct Column {
    reference: usize,
    name: String,
    key_type: KeyType,
}

pub(super) fn pins_of_select(select: &Select, input: Input<'_>) -> Vec<Pin> {
    Clauses::new(&select.from, select.selection.as_ref(), input).pins()
}

impl<'c> Clauses<'c> {
    pub(super) fn new(from: &[TableWithJoins], selection: Option<&Expr>, input: Input<'c>) -> Self {
        let mut clauses = Self {
            scope: Scope::default(),
            columns: Vec::new(),
            equal: Vec::new(),
            optional: Vec::new(),
            conditions: Vec::new(),
            typed: TypedParams::default(),
            nullable: Vec::new(),
            shadowed: Vec::new(),
            to_shadowed: Vec::new(),
            splits: true,
        };
        let mut joins = Vec::new();
        for item in from {
            clauses.add_joins(item, input, &mut joins);
        }
        // Only now every name can be resolved.
        let on = joins.iter().filter_map(|join| match join {
            Joined::On(_, on) => Some(*on),
            Joined::Using(..) => None,
        });
        for expr in on.chain(selection) {
            clauses.typed.collect(expr, &clauses.scope);
        }
        for join in joins {
            match join {
                Joined::On(sides, on) => clauses.limit(on, &sides, input),
                Joined::Using(sides, column, left, right) => {
                    clauses.equate_named(&column, left, right, &sides);
                }
            }
        }
        if let Some(selection) = selection {
            clauses.limit(selection, &Sides::Inner, input);
        }
        clauses
    }

    fn add_joins<'e>(
        &mut self,
        item: &'e TableWithJoins,
        input: Input<'c>,
        joins: &mut Vec<Joined<'e>>,
    ) {
        let start = self.scope.references.len();
        self.add_factor(&item.relation, input, joins);
        for join in &item.joins {
            let middle = self.scope.references.len();
            self.add_factor(&join.relation, input, joins);
            let end = self.scope.references.len();
            let (sides, constraint) = sides(join, start, middle, end);
            let any = |mut range: Range<usize>| range.any(|r| self.is_sharded(r));
            let splits = match &sides {
                Sides::Inner => true,
                // Rows made up for a missing side would be made up on every shard.
                Sides::Optional { kept, optional } => any(kept.clone()) || !any(optional.clone()),
                Sides::Neither => !any(start..end),
            };
            self.splits &= splits;
            let columns = match constraint {
                Some(JoinConstraint::On(on)) => {
                    joins.push(Joined::On(sides.clone(), on));
                    Vec::new()
                }
                Some(JoinConstraint::Using(columns)) => columns
                    .iter()
                    .filter_map(|column| match object_name(column) {
                        Some((None, name)) => Some(name),
                        Some((Some(_), _)) | None => None,
                    })
                    .collect(),
                Some(JoinConstraint::Natural) => self.common_columns(start..middle, middle..end),
                Some(JoinConstraint::None) | None => Vec::new(),
            };
            for name in columns {
                // A name that was merged before may stand for either column.
                let merged = self.scope.merged.contains(&name);
                self.scope.merged.push(name.clone());
                let left = (start..middle).find(|r| self.has_column(*r, &name));
                let right = (middle..end).find(|r| self.has_column(*r, &name));
                if let (Some(left), Some(right)) = (left, right)
                    && !(merged && [left, right].iter().any(|r| self.nullable.contains(r)))
                {
                    joins.push(Joined::Using(sides.clone(), name, left, right));
                }
            }
            match &sides {
                Sides::Inner => {}
                Sides::Optional { optional, .. } => self.nullable.extend(optional.clone()),
                Sides::Neither => self.nullable.extend(start..end),
            }
        }
    }

    fn add_factor<'e>(
        &mut self,
        factor: &'e TableFactor,
        input: Input<'c>,
        joins: &mut Vec<Joined<'e>>,
    ) {
        match factor {
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => {
                self.add_joins(table_with_joins, input, joins);
            }
            _ => {
                let reference = Reference::of_factor(factor, input.catalog);
                let table = reference.table.map(|table| table.name.as_str());
                if table.is_some_and(|name| input.source.may_define(name)) {
                    self.shadowed.push(self.scope.references.len());
                }
                self.scope.add(reference);
            }
        }
    }

    fn is_sharded(&self, reference: usize) -> bool {
        self.scope.references[reference].is_sharded()
    }

    fn has_column(&self, reference: usize, name: &str) -> bool {
        let table = self.scope.references[reference].table;
        table.is_some_and(|table| table.columns.iter().any(|column| column.name == name))
    }

    /// The columns that NATURAL compares, as far as they are known.
    fn common_columns(&self, left: Range<usize>, right: Range<usize>) -> Vec<String> {
        let mut names = Vec::new();
        for table in right.filter_map(|r| self.scope.references[r].table) {
            for column in &table.columns {
                let is_left = left.clone().any(|r| self.has_column(r, &column.name));
                if is_left && !names.contains(&column.name) {
                    names.push(column.name.clone());
                }
            }
        }
        names
    }

    /// Takes what the conjuncts of `expr` say.
    fn limit(&mut self, expr: &Expr, sides: &Sides, input: Input<'c>) {
        match expr {
            Expr::Nested(inner) => self.limit(inner, sides, input),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And,
                right,
            } => {
                self.limit(left, sides, input);
                self.limit(right, sides, input);
            }
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq,
                right,
            } => {
                if let (Expr::Tuple(left), Expr::Tuple(right)) =
                    (without_parentheses(left), without_parentheses(right))
                    && left.len() == right.len()
                {
                    for (left, right) in left.iter().zip(right) {
                        self.limit_equal(left, right, sides, input);
                    }
                } else {
                    self.limit_equal(left, right, sides, input);
                }
            }
            _ => self.take(expr, sides, input),
        }
    }

    fn limit_equal(&mut self, left: &Expr, right: &Expr, sides: &Sides, input: Input<'c>) {
        let (a, b) = (self.column(left), self.column(right));
        if let (Some((a, _)), Some((b, _))) = (a, b) {
            self.equate(a, b, sides);
        } else if let Some(condition) = self.equality(left, right, sides, input) {
            self.conditions.push(condition);
        }
    }

    fn take(&mut self, expr: &Expr, sides: &Sides, input: Input<'c>) {
        if let Some(condition) = self.condition(expr, sides, input) {
            self.conditions.push(condition);
        }
    }

    /// The column that `expr` is, or is cast from in a way that keeps what is equal, and the type
    /// that it is compared in.
    fn column(&mut self, expr: &Expr) -> Option<(usize, KeyType)> {
        if let Some((inner, data_type)) = super::values::cast(expr) {
            let (column, from) = self.column(inner)?;
            return super::values::widens(from, data_type).map(|to| (column, to));
        }
        if let Expr::Nested(inner) = expr {
            return self.column(inner);
        }
        let (reference, name) = self.scope.column(expr)?;
        let column = self.column_named(reference, &name)?;
        Some((column, self.columns[column].key_type))
    }

    /// `None` for a type that no key has, and for text whose equal values differ in bytes.
    fn column_named(&mut self, reference: usize, name: &str) -> Option<usize> {
        let is_it = |column: &Column| column.reference == reference && column.name == name;
        if let Some(known) = self.columns.iter().position(is_it) {
            return Some(known);
        }
        let table = self.scope.references[reference].table?;
        let column = table.columns.iter().find(|column| column.name == name)?;
        let key_type = KeyType::of_oid(column.type_oid)?;
        match column.collation {
            Collation::Bytewise | Collation::Other => {}
            Collation::Unknown => return None,
        }
        self.columns.push(Column {
            reference,
            name: name.to_owned(),
            key_type,
        });
        Some(self.columns.len() - 1)
    }

    fn equate_named(&mut self, name: &str, left: usize, right: usize, sides: &Sides) {
        let (left, right) = (
            self.column_named(left, name),
            self.column_named(right, name),
        );
        if let (Some(left), Some(right)) = (left, right) {
            self.equate(left, right, sides);
        }
    }

    fn equate(&mut self, a: usize, b: usize, sides: &Sides) {
        let (one, other) = (&self.columns[a], &self.columns[b]);
        if !one.key_type.hashes_like(other.key_type) {
            return;
        }
        let is_shadowed = |column: &Column| self.shadowed.contains(&column.reference);
        match (is_shadowed(one), is_shadowed(other)) {
            (false, false) => {}
            (false, true) => return self.to_shadowed.push((a, b)),
            (true, false) => return self.to_shadowed.push((b, a)),
            (true, true) => return,
        }
        match sides {
            Sides::Inner => self.equal.push((a, b)),
            Sides::Optional { kept, optional } => {
                let (one, other) = (one.reference, other.reference);
                if kept.contains(&one) && optional.contains(&other) {
                    self.optional.push((a, b));
                } else if kept.contains(&other) && optional.contains(&one) {
                    self.optional.push((b, a));
                }
            }
            Sides::Neither => {}
        }
    }

    /// From a column to those whose limits hold for it too: equal ones, and the kept ones that an
    /// optional one has to equal.
    fn sources(&self) -> Neighbours {
        let one_way = self.optional.iter().chain(&self.to_shadowed);
        self.neighbours(one_way.map(|(from, to)| (*to, *from)))
    }

    /// From a column to those that equal it in every row that has both. An outer join says so of its
    /// optional side only: two kept columns that meet in an optional one may differ.
    fn reached(&self) -> Neighbours {
        self.neighbours(self.optional.iter().copied())
    }

    fn neighbours(&self, one_way: impl Iterator<Item = (usize, usize)>) -> Neighbours {
        let mut neighbours = vec![Vec::new(); self.columns.len()];
        let both_ways = self.equal.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
        for (from, to) in both_ways.chain(one_way) {
            neighbours[from].push(to);
        }
        Neighbours(neighbours)
    }

    /// By column of a reference's key, its column here; `None` when it is compared with nothing.
    fn key_columns(&self, reference: usize) -> Vec<Option<usize>> {
        let Some(key) = self.scope.references[reference].key() else {
            return Vec::new();
        };
        let place = |name: &str| {
            self.columns
                .iter()
                .position(|column| column.reference == reference && column.name == name)
        };
        key.columns.iter().map(|part| place(&part.name)).collect()
    }

    pub(super) fn pins(&self) -> Vec<Pin> {
        let names: Vec<String> = self
            .columns
            .iter()
            .map(|column| {
                let table = self.scope.references[column.reference].table;
                let table = table.map_or("", |table| table.name.as_str());
                format!("{table}.{}", column.name)
            })
            .collect();
        let sources = self.sources();
        let sharded = (0..self.scope.references.len()).filter(|r| self.is_sharded(*r));
        sharded
            .map(|reference| Pin {
                keys: self.keys(reference, &names, &sources),
            })
            .collect()
    }

    fn keys(&self, reference: usize, names: &[String], sources: &Neighbours) -> Option<KeySet> {
        if self.conditions.is_empty() {
            return None;
        }
        let columns = self.key_columns(reference).into_iter();
        let sources = columns.map(|column| {
            let mut sources = Vec::from_iter(column.into_iter().flat_map(|c| sources.from(c)));
            sources.sort_unstable();
            sources
        });
        let reference = &self.scope.references[reference];
        let (table, key) = (reference.table?, reference.key()?);
        let known = Key {
            key,
            sources: sources.collect(),
            names,
        };
        let limit = TableLimit {
            key: format!("{}.{}", table.name, key.name()),
            placement: key.placement,
            limit: known.limit(&self.conditions)?,
        };
        Some(KeySet {
            tables: vec![limit],
        })
    }

    /// Is `expr` a sharding key, never NULL by an outer join? Then rows that agree in it are on
    /// one shard.
    pub(super) fn is_key(&self, expr: &Expr) -> bool {
        self.scope
            .key_column(expr)
            .is_some_and(|reference| !self.nullable.contains(&reference))
    }

    /// Is a whole sharding key among `exprs`, never NULL by an outer join? Then rows that agree in
    /// all of them are on one shard.
    pub(super) fn hold_key<'e>(&self, exprs: impl IntoIterator<Item = &'e Expr>) -> bool {
        let columns = exprs.into_iter().filter_map(|expr| self.scope.column(expr));
        let columns: Vec<_> = columns.collect();
        let is_held = |reference: usize, key: &ShardKey| {
            key.columns.iter().all(|part| {
                let mut columns = columns.iter();
                columns.any(|(of, name)| *of == reference && *name == part.name)
            })
        };
        let references = self.scope.references.iter().enumerate();
        references
            .filter(|(reference, _)| !self.nullable.contains(reference))
            .any(|(index, reference)| reference.key().is_some_and(|key| is_held(index, key)))
    }

    /// Are these the columns, in their order, of a sharding key that no outer join makes NULL, of a
    /// table whose rows are on the shards that equal values of `key` belong to?
    pub(super) fn has_key_of(&self, exprs: &[&Expr], key: &ShardKey) -> bool {
        let columns = exprs.iter().map(|expr| self.scope.column(expr));
        let Some(columns) = columns.collect::<Option<Vec<_>>>() else {
            return false;
        };
        let Some((reference, _)) = columns.first() else {
            return false;
        };
        let is_key = self.scope.references[*reference].key().is_some_and(|own| {
            let names = own.columns.iter().map(|column| &column.name);
            own.is_colocated_with(key) && columns.iter().map(|(_, name)| name).eq(names)
        });
        is_key
            && columns.iter().all(|(of, _)| of == reference)
            && !self.nullable.contains(reference)
            && !self.shadowed.contains(reference)
    }

    /// Does every row of the join hold a row of this reference?
    pub(super) fn is_kept(&self, reference: usize) -> bool {
        !self.nullable.contains(&reference)
    }

    /// Is `expr` a key here, `theirs` one of `other`, and do equal ones live on one shard?
    pub(super) fn has_key_like(&self, expr: &Expr, other: &Clauses<'_>, theirs: &Expr) -> bool {
        let (of, with) = (&self.scope, &other.scope);
        let keys = (of.key_column(expr), with.key_column(theirs));
        let (Some(here), Some(there)) = keys else {
            return false;
        };
        match (of.references[here].key(), with.references[there].key()) {
            (Some(one), Some(two)) => one.is_colocated_with(two),
            (None, _) | (_, None) => false,
        }
    }

    /// Is there a sharded table that no outer join leaves out?
    pub(super) fn always_has_key(&self) -> bool {
        (0..self.scope.references.len())
            .any(|reference| self.is_sharded(reference) && !self.nullable.contains(&reference))
    }

    /// True when every row of the join comes from rows of one shard: from one sharded reference all
    /// others are reached over equal keys.
    pub(super) fn is_colocated(&self) -> bool {
        let references = self.scope.references.iter().enumerate();
        let sharded: Vec<_> = references
            .filter_map(|(at, reference)| Some((reference.key()?, self.key_columns(at))))
            .collect();
        let neighbours = self.reached();
        let reaches_all = |(key, columns): &(&ShardKey, Vec<Option<usize>>)| {
            let reached = columns.iter().map(|column| match column {
                Some(column) => neighbours.from(*column),
                None => HashSet::new(),
            });
            let reached: Vec<HashSet<usize>> = reached.collect();
            sharded.iter().all(|(other, columns)| {
                // Do its rows live beside those that they are joined with?
                key.is_colocated_with(other)
                    && reached.iter().zip(columns).all(|(reached, column)| {
                        column.is_some_and(|column| reached.contains(&column))
                    })
            })
        };
        self.splits && (sharded.len() == 1 || sharded.iter().any(reaches_all))
    }
}

/// By column, those that it leads to.
struct Neighbours(Vec<Vec<usize>>);

impl Neighbours {
    /// A column, and all that it leads to over others.
    fn from(&self, column: usize) -> HashSet<usize> {
        let mut found = HashSet::from([column]);
        let mut open = vec![column];
        while let Some(here) = open.pop() {
            open.extend(self.0[here].iter().filter(|to| found.insert(**to)));
        }
        found
    }
}

/// A join's condition, kept until all names of FROM are known.
enum Joined<'e> {
    On(Sides, &'e Expr),
    /// Column, left and right reference.
    Using(Sides, String, usize, usize),
}

/// For which references a condition holds in every row that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sides {
    Inner,
    Optional {
        kept: Range<usize>,
        optional: Range<usize>,
    },
    Neither,
}

impl Sides {
    /// Does a condition limit the rows of `reference`?
    fn limits(&self, reference: usize) -> bool {
        match self {
            Self::Inner => true,
            Self::Optional { optional, .. } => optional.contains(&reference),
            Self::Neither => false,
        }
    }
}

fn sides(join: &Join, start: usize, middle: usize, end: usize) -> (Sides, Option<&JoinConstraint>) {
    match &join.join_operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::CrossJoin(constraint) => (Sides::Inner, Some(constraint)),
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (
            Sides::Optional {
                kept: start..middle,
                optional: middle..end,
            },
            Some(constraint),
        ),
        JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => (
            Sides::Optional {
                kept: middle..end,
                optional: start..middle,
            },
            Some(constraint),
        ),
        _ => (Sides::Neither, None),
    }
}

pub(super) fn without_parentheses(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => without_parentheses(inner),
        other => other,
    }
}

/// Puts the literals of `inner` in place of references to its pieces: nothing is lifted from the
/// outer text, so they belong to its shape.
pub(super) fn with_constants(keys: KeySet, inner: &str) -> KeySet {
    let source = Source::new(inner);
    keys.map(&mut |value| match value {
        ValueRef::Literal { piece, negative } => {
            let text = source
                .pieces
                .get(piece)
                .and_then(|piece| inner.get(piece.range.clone()));
            let text = text.unwrap_or_default();
            let unquoted = text
                .strip_prefix('\'')
                .and_then(|text| text.strip_suffix('\''));
            let text = unquoted.map_or_else(|| text.to_owned(), |text| text.replace("''", "'"));
            ValueRef::Text(if negative { format!("-{text}") } else { text })
        }
        ValueRef::Param(_) | ValueRef::Text(_) | ValueRef::Null => value,
    })
}
