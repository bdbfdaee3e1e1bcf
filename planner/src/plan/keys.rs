//! Which values of the sharding key the rows of a table reference are limited to.
//!
//! Only what holds for every row that can matter counts: conjuncts of WHERE and of inner joins,
//! and for the side of an outer join that may be missing, those of its ON. What is not
//! understood limits nothing.

use sqlparser::ast::{
    BinaryOperator, Expr, Join, JoinConstraint, JoinOperator, Select, TableFactor, TableWithJoins,
};

use super::facts::Input;
use super::parse::Source;
use super::scope::{Reference, Scope, object_name};
use super::values::{TypedParams, value, width};
use crate::plan::KeySet;
use crate::route::ValueRef;

/// What is known of one sharded table reference.
#[derive(Debug, Clone)]
pub(super) struct Pin {
    /// The values that its key is limited to, if any are known.
    pub(super) keys: Option<KeySet>,
}

/// A FROM clause with its WHERE.
pub(super) struct Clauses<'c> {
    pub(super) scope: Scope<'c>,
    /// By reference: the values of its key, before joins carry them over.
    values: Vec<Option<Vec<ValueRef>>>,
    /// Pairs of references whose keys are equal in every row.
    equal: Vec<(usize, usize)>,
    /// Pairs (kept, optional) of an outer join whose ON says that the keys are equal.
    optional: Vec<(usize, usize)>,
    /// Parameters that meet columns, with the columns' types.
    typed: TypedParams,
    /// References that an outer join may leave out of a row.
    nullable: Vec<usize>,
    /// False when a join is of a kind that cannot run shard by shard.
    splits: bool,
}

pub(super) fn pins_of_select(select: &Select, input: Input<'_>) -> Vec<Pin> {
    Clauses::new(&select.from, select.selection.as_ref(), input).pins()
}

impl<'c> Clauses<'c> {
    pub(super) fn new(from: &[TableWithJoins], selection: Option<&Expr>, input: Input<'c>) -> Self {
        let mut clauses = Self {
            scope: Scope::default(),
            values: Vec::new(),
            equal: Vec::new(),
            optional: Vec::new(),
            typed: TypedParams::default(),
            nullable: Vec::new(),
            splits: true,
        };
        let mut conditions = Vec::new();
        for item in from {
            clauses.add_joins(item, input, &mut conditions);
        }
        clauses.values.resize(clauses.scope.references.len(), None);
        // Only now every name can be resolved.
        let on = conditions.iter().filter_map(|condition| match condition {
            Condition::On(_, on) => Some(*on),
            Condition::Using(..) => None,
        });
        for expr in on.chain(selection) {
            clauses.typed.collect(expr, &clauses.scope);
        }
        for condition in conditions {
            clauses.apply(condition, input);
        }
        if let Some(selection) = selection {
            clauses.limit(selection, &Sides::Inner, input);
        }
        clauses.carry_over();
        clauses
    }

    fn add_joins<'e>(
        &mut self,
        item: &'e TableWithJoins,
        input: Input<'c>,
        conditions: &mut Vec<Condition<'e>>,
    ) {
        let start = self.scope.references.len();
        self.add_factor(&item.relation, input, conditions);
        for join in &item.joins {
            let middle = self.scope.references.len();
            self.add_factor(&join.relation, input, conditions);
            let end = self.scope.references.len();
            let (sides, constraint) = sides(join, start, middle, end);
            let any = |mut range: std::ops::Range<usize>| range.any(|r| self.is_sharded(r));
            let splits = match &sides {
                Sides::Inner => true,
                // Rows made up for a missing side would be made up on every shard.
                Sides::Optional { kept, optional } => any(kept.clone()) || !any(optional.clone()),
                Sides::Neither => !any(start..end),
            };
            self.splits &= splits;
            match &sides {
                Sides::Inner => {}
                Sides::Optional { optional, .. } => self.nullable.extend(optional.clone()),
                Sides::Neither => self.nullable.extend(start..end),
            }
            match constraint {
                Some(JoinConstraint::On(on)) => conditions.push(Condition::On(sides, on)),
                Some(JoinConstraint::Using(columns)) => {
                    for column in columns {
                        if let Some((None, name)) = object_name(column) {
                            self.scope.merged.push(name.clone());
                            conditions.push(Condition::Using(
                                sides.clone(),
                                name,
                                start,
                                middle,
                                end,
                            ));
                        }
                    }
                }
                Some(JoinConstraint::Natural | JoinConstraint::None) | None => {}
            }
        }
    }

    fn add_factor<'e>(
        &mut self,
        factor: &'e TableFactor,
        input: Input<'c>,
        conditions: &mut Vec<Condition<'e>>,
    ) {
        match factor {
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => {
                self.add_joins(table_with_joins, input, conditions);
            }
            _ => self
                .scope
                .references
                .push(Reference::of_factor(factor, input.catalog)),
        }
    }

    fn is_sharded(&self, reference: usize) -> bool {
        self.scope.references[reference].is_sharded()
    }

    fn apply(&mut self, condition: Condition<'_>, input: Input<'c>) {
        match condition {
            Condition::On(sides, on) => self.limit(on, &sides, input),
            Condition::Using(sides, column, start, middle, end) => {
                let has = |reference: &usize| {
                    self.scope.references[*reference]
                        .key()
                        .is_some_and(|key| key.name == column)
                };
                let left = (start..middle).find(has);
                let right = (middle..end).find(has);
                if let (Some(left), Some(right)) = (left, right) {
                    self.equate(left, right, &sides);
                }
            }
        }
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
                if let (Some(a), Some(b)) =
                    (self.scope.key_column(left), self.scope.key_column(right))
                {
                    self.equate(a, b, sides);
                } else {
                    self.take_values(expr, sides, input);
                }
            }
            _ => self.take_values(expr, sides, input),
        }
    }

    fn take_values(&mut self, expr: &Expr, sides: &Sides, input: Input<'c>) {
        let Some((reference, values)) = self.values_of(expr, input) else {
            return;
        };
        let counts = match sides {
            Sides::Inner => true,
            Sides::Optional { optional, .. } => optional.contains(&reference),
            Sides::Neither => false,
        };
        let known = &mut self.values[reference];
        // Either set would do; the smaller one asks fewer shards.
        if counts
            && known
                .as_ref()
                .is_none_or(|known| known.len() > values.len())
        {
            *known = Some(values);
        }
    }

    /// The reference that `expr` limits, and the values of its key for which `expr` can be true.
    fn values_of(&self, expr: &Expr, input: Input<'c>) -> Option<(usize, Vec<ValueRef>)> {
        match expr {
            Expr::Nested(inner) => self.values_of(inner, input),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq,
                right,
            } => {
                let (reference, other) = match self.scope.key_column(left) {
                    Some(reference) => (reference, right),
                    None => (self.scope.key_column(right)?, left),
                };
                Some((reference, vec![self.value(reference, other, input)?]))
            }
            Expr::InList {
                expr,
                list,
                negated: false,
            } => {
                let reference = self.scope.key_column(expr)?;
                self.values_in(reference, list, input)
            }
            Expr::AnyOp {
                left,
                compare_op: BinaryOperator::Eq,
                right,
                ..
            } => {
                let reference = self.scope.key_column(left)?;
                match without_parentheses(right) {
                    Expr::Array(array) => self.values_in(reference, &array.elem, input),
                    _ => None,
                }
            }
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Or,
                right,
            } => {
                let (a, mut values) = self.values_of(left, input)?;
                let (b, more) = self.values_of(right, input)?;
                values.extend(more);
                (a == b).then_some((a, values))
            }
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And,
                right,
            } => self
                .values_of(left, input)
                .or_else(|| self.values_of(right, input)),
            _ => None,
        }
    }

    fn values_in(
        &self,
        reference: usize,
        list: &[Expr],
        input: Input<'c>,
    ) -> Option<(usize, Vec<ValueRef>)> {
        let values: Option<Vec<_>> = list
            .iter()
            .map(|item| self.value(reference, item, input))
            .collect();
        Some((reference, values?))
    }

    fn value(&self, reference: usize, expr: &Expr, input: Input<'c>) -> Option<ValueRef> {
        let key_type = self.scope.references[reference].key()?.key_type;
        value(expr, key_type, &self.typed, input)
    }

    fn equate(&mut self, a: usize, b: usize, sides: &Sides) {
        if !self.colocated(a, b) {
            return;
        }
        match sides {
            Sides::Inner => self.equal.push((a, b)),
            Sides::Optional { kept, optional } => {
                if kept.contains(&a) && optional.contains(&b) {
                    self.optional.push((a, b));
                } else if kept.contains(&b) && optional.contains(&a) {
                    self.optional.push((b, a));
                }
            }
            Sides::Neither => {}
        }
    }

    /// Do equal keys of both live on one shard?
    fn colocated(&self, a: usize, b: usize) -> bool {
        let key_type =
            |reference: usize| self.scope.references[reference].key().map(|k| k.key_type);
        match (key_type(a), key_type(b)) {
            (Some(a), Some(b)) => a == b || (a.is_integer() && b.is_integer()),
            (Some(_) | None, _) => false,
        }
    }

    fn carry_over(&mut self) {
        let both_ways = self.equal.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
        let edges: Vec<_> = both_ways.chain(self.optional.iter().copied()).collect();
        // Each round carries at least one value over, or it is the last.
        loop {
            let mut carried = false;
            for (from, to) in &edges {
                if self.values[*to].is_none() && self.values[*from].is_some() {
                    self.values[*to] = self.values[*from].clone();
                    carried = true;
                }
            }
            if !carried {
                break;
            }
        }
    }

    pub(super) fn pins(&self) -> Vec<Pin> {
        let sharded = (0..self.scope.references.len()).filter(|r| self.is_sharded(*r));
        sharded
            .map(|reference| Pin {
                keys: self.keys(reference),
            })
            .collect()
    }

    pub(super) fn keys(&self, reference: usize) -> Option<KeySet> {
        let values = self.values[reference].clone()?;
        let reference = &self.scope.references[reference];
        let (table, key) = (reference.table?, reference.key()?);
        Some(KeySet {
            key_type: key.key_type,
            column: format!("{}.{}", table.name, key.name),
            insert: false,
            cuts_spaces: false,
            values,
        })
    }

    /// Is `expr` a sharding key, never NULL by an outer join? Then rows that agree in it are on
    /// one shard.
    pub(super) fn is_key(&self, expr: &Expr) -> bool {
        self.scope
            .key_column(expr)
            .is_some_and(|reference| !self.nullable.contains(&reference))
    }

    /// Does every row of the join hold a row of this reference?
    pub(super) fn is_kept(&self, reference: usize) -> bool {
        !self.nullable.contains(&reference)
    }

    /// Is `expr` a key here, `theirs` one of `other`, and do equal ones live on one shard?
    pub(super) fn has_key_like(&self, expr: &Expr, other: &Clauses<'_>, theirs: &Expr) -> bool {
        let of = |clauses: &Clauses<'_>, expr: &Expr| {
            let reference = clauses.scope.key_column(expr)?;
            Some(clauses.scope.references[reference].key()?.key_type)
        };
        match (of(self, expr), of(other, theirs)) {
            (Some(a), Some(b)) => a == b || (a.is_integer() && b.is_integer()),
            (None, _) | (_, None) => false,
        }
    }

    /// Is there a sharded table that no outer join leaves out?
    pub(super) fn always_has_key(&self) -> bool {
        (0..self.scope.references.len())
            .any(|reference| self.is_sharded(reference) && !self.nullable.contains(&reference))
    }

    /// True when every row of the join comes from rows of one shard: all sharded references are
    /// joined on their keys.
    pub(super) fn is_colocated(&self) -> bool {
        let sharded: Vec<_> = (0..self.scope.references.len())
            .filter(|r| self.is_sharded(*r))
            .collect();
        let Some(first) = sharded.first() else {
            return false;
        };
        let mut reached = vec![*first];
        let mut next = 0;
        while next < reached.len() {
            let here = reached[next];
            for (a, b) in self.equal.iter().chain(&self.optional) {
                for other in [(*a, *b), (*b, *a)]
                    .iter()
                    .filter(|(from, _)| *from == here)
                {
                    if !reached.contains(&other.1) {
                        reached.push(other.1);
                    }
                }
            }
            next += 1;
        }
        self.splits && sharded.iter().all(|reference| reached.contains(reference))
    }
}

/// A join's condition, kept until all names of FROM are known.
enum Condition<'e> {
    On(Sides, &'e Expr),
    /// Column, start of the left side, start and end of the right side.
    Using(Sides, String, usize, usize, usize),
}

/// For which references a condition holds in every row that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sides {
    Inner,
    Optional {
        kept: std::ops::Range<usize>,
        optional: std::ops::Range<usize>,
    },
    Neither,
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

/// The keys of both, if one hash serves both.
pub(super) fn union(first: KeySet, second: KeySet) -> Option<KeySet> {
    let both_integers = first.key_type.is_integer() && second.key_type.is_integer();
    if first.key_type != second.key_type && !both_integers {
        return None;
    }
    let (mut whole, mut second) = (first, second);
    if whole.insert != second.insert {
        // NULL in WHERE matches nothing; beside an INSERT it must not look like one to insert.
        for keys in [&mut whole, &mut second] {
            let insert = keys.insert;
            keys.values
                .retain(|value| insert || *value != ValueRef::Null);
        }
    }
    whole.insert |= second.insert;
    whole.cuts_spaces |= second.cuts_spaces;
    // What is too large for the narrower type is PostgreSQL's to reject.
    if width(second.key_type) > width(whole.key_type) {
        whole.key_type = second.key_type;
    }
    // The usual case: a join carried the same values over.
    if whole.values != second.values {
        whole.values.append(&mut second.values);
    }
    Some(whole)
}

/// Puts the literals of `inner` in place of references to its pieces: nothing is lifted from the
/// outer text, so they belong to its shape.
pub(super) fn with_constants(keys: KeySet, inner: &str) -> KeySet {
    let source = Source::new(inner);
    let constant = |value: ValueRef| match value {
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
    };
    KeySet {
        values: keys.values.into_iter().map(constant).collect(),
        ..keys
    }
}
