//! What a condition says of single columns, and what all conditions together say of a key.

use sqlparser::ast::{BinaryOperator, Expr};

use super::{Clauses, Sides, without_parentheses};
use crate::catalog::{KeyType, ShardKey};
use crate::limit::{Bound, Interval, KeyPart, KeyValue, Limit, Part};
use crate::placement::Placement;
use crate::plan::facts::Input;
use crate::plan::values::{array, key_value, listed, value, widest_element, widest_together};

/// Something that is true of every row that matters.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    /// The column, compared in a type, is one of some values.
    Equal(usize, KeyType, Vec<KeyValue>),
    /// The column, compared in a type, is above or below a value.
    Beyond(usize, KeyType, Side, Bound),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Low,
    High,
}

impl<'c> Clauses<'c> {
    /// What must be known of columns for `expr` to be true.
    pub(super) fn condition(
        &mut self,
        expr: &Expr,
        sides: &Sides,
        input: Input<'c>,
    ) -> Option<Condition> {
        match expr {
            Expr::Nested(inner) => self.condition(inner, sides, input),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And,
                right,
            } => {
                let both = [left, right].map(|side| self.condition(side, sides, input));
                all(both.into_iter().flatten().collect())
            }
            Expr::BinaryOp {
                op: BinaryOperator::Or,
                ..
            } => {
                let mut branches = Vec::new();
                disjuncts(expr, &mut branches);
                let branches = branches
                    .into_iter()
                    .map(|branch| self.condition(branch, sides, input));
                branches.collect::<Option<Vec<_>>>().map(Condition::Any)
            }
            Expr::BinaryOp { left, op, right } => match op {
                BinaryOperator::Eq => self.rows_equal(left, right, sides, input),
                _ => self.comparison(left, op, right, sides, input),
            },
            Expr::Between {
                expr,
                negated: false,
                low,
                high,
            } => {
                // Both or neither: SYMMETRIC looks like a function to sqlparser.
                let low = self.comparison(expr, &BinaryOperator::GtEq, low, sides, input)?;
                let high = self.comparison(expr, &BinaryOperator::LtEq, high, sides, input)?;
                Some(Condition::All(vec![low, high]))
            }
            Expr::IsNotDistinctFrom(left, right) => {
                let (column, key_type, other) = self.column_and_other(left, right, sides)?;
                let value = value(other, key_type, &self.typed, input)?;
                let values = vec![KeyValue::Alike(value)];
                Some(Condition::Equal(column, key_type, values))
            }
            Expr::InList {
                expr,
                list,
                negated: false,
            } => match without_parentheses(expr) {
                row @ Expr::Tuple(_) => {
                    let rows = list
                        .iter()
                        .map(|item| self.rows_equal(row, item, sides, input));
                    rows.collect::<Option<Vec<_>>>().map(Condition::Any)
                }
                column => {
                    let (column, key_type) = self.limited_column(column, sides)?;
                    self.one_of(column, key_type, list, input)
                }
            },
            Expr::AnyOp {
                left,
                compare_op: BinaryOperator::Eq,
                right,
                ..
            } => {
                let (column, key_type) = self.limited_column(left, sides)?;
                let key_type = widest_element(right, key_type);
                match listed(right, key_type) {
                    Some(list) => self.one_of(column, key_type, list, input),
                    None => {
                        let array = array(right, key_type, input)?;
                        let values = vec![KeyValue::Elements(array)];
                        Some(Condition::Equal(column, key_type, values))
                    }
                }
            }
            _ => None,
        }
    }

    /// `a = b`, or `(a, b) = (c, d)`.
    fn rows_equal(
        &mut self,
        left: &Expr,
        right: &Expr,
        sides: &Sides,
        input: Input<'c>,
    ) -> Option<Condition> {
        match (without_parentheses(left), without_parentheses(right)) {
            (Expr::Tuple(left), Expr::Tuple(right)) if left.len() == right.len() => {
                let pairs = left.iter().zip(right);
                let equal =
                    pairs.filter_map(|(left, right)| self.equality(left, right, sides, input));
                all(equal.collect())
            }
            (left, right) => self.equality(left, right, sides, input),
        }
    }

    pub(super) fn equality(
        &mut self,
        left: &Expr,
        right: &Expr,
        sides: &Sides,
        input: Input<'c>,
    ) -> Option<Condition> {
        let (column, key_type, other) = self.column_and_other(left, right, sides)?;
        let value = key_value(other, key_type, &self.typed, input)?;
        Some(Condition::Equal(column, key_type, vec![value]))
    }

    fn comparison(
        &mut self,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
        sides: &Sides,
        input: Input<'c>,
    ) -> Option<Condition> {
        let (below, inclusive) = match op {
            BinaryOperator::Lt => (true, false),
            BinaryOperator::LtEq => (true, true),
            BinaryOperator::Gt => (false, false),
            BinaryOperator::GtEq => (false, true),
            _ => return None,
        };
        let (column, key_type, other) = self.column_and_other(left, right, sides)?;
        let side = match below == std::ptr::eq(other, right) {
            true => Side::High,
            false => Side::Low,
        };
        let value = value(other, key_type, &self.typed, input)?;
        let bound = Bound { value, inclusive };
        Some(Condition::Beyond(column, key_type, side, bound))
    }

    fn one_of(
        &self,
        column: usize,
        key_type: KeyType,
        list: &[Expr],
        input: Input<'c>,
    ) -> Option<Condition> {
        let key_type = widest_together(list, key_type);
        let one = |item| key_value(item, key_type, &self.typed, input);
        let values: Option<Vec<_>> = list.iter().map(one).collect();
        Some(Condition::Equal(column, key_type, values?))
    }

    fn column_and_other<'e>(
        &mut self,
        left: &'e Expr,
        right: &'e Expr,
        sides: &Sides,
    ) -> Option<(usize, KeyType, &'e Expr)> {
        let (column, key_type, other) = match self.limited_column(left, sides) {
            Some((column, key_type)) => (column, key_type, right),
            None => {
                let (column, key_type) = self.limited_column(right, sides)?;
                (column, key_type, left)
            }
        };
        Some((column, self.typed.read_as(other, key_type), other))
    }

    /// A column whose rows a condition on this side of a join limits.
    fn limited_column(&mut self, expr: &Expr, sides: &Sides) -> Option<(usize, KeyType)> {
        let (column, key_type) = self.column(expr)?;
        let reference = self.columns[column].reference;
        sides.limits(reference).then_some((column, key_type))
    }
}

/// The operands of a chain of OR, which sqlparser nests.
fn disjuncts<'e>(expr: &'e Expr, found: &mut Vec<&'e Expr>) {
    match expr {
        Expr::Nested(inner) => disjuncts(inner, found),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Or,
            right,
        } => {
            disjuncts(left, found);
            disjuncts(right, found);
        }
        other => found.push(other),
    }
}

fn all(mut conditions: Vec<Condition>) -> Option<Condition> {
    match conditions.len() {
        0 | 1 => conditions.pop(),
        _ => Some(Condition::All(conditions)),
    }
}

/// What conditions say of one key, on the way to a [`Limit`].
struct Known {
    /// By column of the key.
    parts: Vec<Option<Part>>,
    low: Option<(KeyPart, Bound)>,
    high: Option<(KeyPart, Bound)>,
    /// What else holds of the whole key.
    limits: Vec<Limit>,
}

/// The key of one reference, and what may be known of it.
pub(super) struct Key<'a> {
    pub(super) key: &'a ShardKey,
    /// By column of the key, the columns whose conditions hold for it, in order.
    pub(super) sources: Vec<Vec<usize>>,
    /// By column: `table.column`.
    pub(super) names: &'a [String],
}

impl Key<'_> {
    /// What all conditions together say of it.
    pub(super) fn limit(&self, conditions: &[Condition]) -> Option<Limit> {
        self.known(conditions).into_limit()
    }

    /// The positions in the key that a column's conditions hold for.
    fn positions(&self, column: usize) -> impl Iterator<Item = usize> + '_ {
        let holds = move |position: &usize| self.sources[*position].binary_search(&column).is_ok();
        (0..self.sources.len()).filter(holds)
    }

    /// How what `column` is compared with is read.
    fn part(&self, column: usize, key_type: KeyType) -> KeyPart {
        KeyPart {
            key_type,
            name: self.names.get(column).cloned().unwrap_or_default(),
            insert: None,
        }
    }

    /// What holds when all of `conditions` do.
    fn known(&self, conditions: &[Condition]) -> Known {
        let mut known = Known {
            parts: vec![None; self.key.columns.len()],
            low: None,
            high: None,
            limits: Vec::new(),
        };
        for condition in conditions {
            self.learn(condition, &mut known);
        }
        known
    }

    fn learn(&self, condition: &Condition, known: &mut Known) {
        match condition {
            Condition::Equal(column, key_type, values) => {
                for position in self.positions(*column) {
                    let part = Part {
                        column: self.part(*column, *key_type),
                        values: values.clone(),
                    };
                    known.add_part(position, part);
                }
            }
            Condition::Beyond(column, key_type, side, bound) => {
                let by_ranges = match self.key.placement {
                    Placement::Ranges(_) => self.positions(*column).next().is_some(),
                    Placement::Hash | Placement::List(_) => false,
                };
                if by_ranges {
                    let part = self.part(*column, *key_type);
                    known.add_bound(*side, part, bound.clone());
                }
            }
            Condition::All(conditions) => {
                for condition in conditions {
                    self.learn(condition, known);
                }
            }
            Condition::Any(conditions) => self.learn_any(conditions, known),
        }
    }

    fn learn_any(&self, conditions: &[Condition], known: &mut Known) {
        let branches: Vec<Known> = conditions
            .iter()
            .map(|condition| self.known(std::slice::from_ref(condition)))
            .collect();
        // Values of one column in every branch are a list of values.
        for position in 0..self.key.columns.len() {
            let parts = branches
                .iter()
                .map(|branch| branch.parts[position].as_ref());
            if let Some(part) = parts.collect::<Option<Vec<_>>>().and_then(|p| joined(&p)) {
                let alone = self.key.columns.len() == 1 && branches.iter().all(Known::is_one_part);
                if alone || self.key.columns.len() > 1 {
                    known.add_part(position, part);
                }
                if alone {
                    return;
                }
            }
        }
        let limits: Option<Vec<Limit>> = branches.into_iter().map(Known::into_limit).collect();
        known.limits.extend(limits.map(Limit::AnyOf));
    }
}

/// The values of all, if they are read alike.
fn joined(parts: &[&Part]) -> Option<Part> {
    let first = parts.first()?;
    let alike = parts
        .iter()
        .all(|part| part.column.key_type == first.column.key_type);
    alike.then(|| Part {
        column: first.column.clone(),
        values: parts
            .iter()
            .flat_map(|part| part.values.iter().cloned())
            .collect(),
    })
}

impl Known {
    fn is_one_part(&self) -> bool {
        self.limits.is_empty() && self.low.is_none() && self.high.is_none()
    }

    fn add_part(&mut self, position: usize, part: Part) {
        let alone = self.parts.len() == 1;
        match &mut self.parts[position] {
            // Both hold.
            Some(known) if alone && *known != part => {
                self.limits.push(Limit::Each(vec![part]));
            }
            // Either will do; the shorter one asks fewer shards.
            Some(known) if known.values.len() <= part.values.len() => {}
            place => *place = Some(part),
        }
    }

    fn add_bound(&mut self, side: Side, column: KeyPart, bound: Bound) {
        let place = match side {
            Side::Low => &mut self.low,
            Side::High => &mut self.high,
        };
        if place.is_none() {
            *place = Some((column, bound));
            return;
        }
        let (low, high) = match side {
            Side::Low => (Some(bound), None),
            Side::High => (None, Some(bound)),
        };
        self.limits.push(within(column, low, high));
    }

    fn into_limit(self) -> Option<Limit> {
        let mut limits = Vec::new();
        let columns = self.parts.len();
        let parts: Vec<Part> = self.parts.into_iter().flatten().collect();
        if parts.len() == columns {
            limits.push(Limit::Each(parts));
        }
        match (self.low, self.high) {
            (Some((column, low)), Some((other, high))) if column.key_type == other.key_type => {
                limits.push(within(column, Some(low), Some(high)));
            }
            // Read in two types, they are two intervals.
            (low, high) => {
                limits.extend(low.map(|(column, low)| within(column, Some(low), None)));
                limits.extend(high.map(|(column, high)| within(column, None, Some(high))));
            }
        }
        limits.extend(self.limits);
        match limits.len() {
            0 | 1 => limits.pop(),
            _ => Some(Limit::AllOf(limits)),
        }
    }
}

fn within(column: KeyPart, low: Option<Bound>, high: Option<Bound>) -> Limit {
    Limit::Within(Box::new(Interval { column, low, high }))
}
