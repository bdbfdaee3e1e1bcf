//! Proofs that parts of a query find all their rows on the shard of the row that they are about:
//! subqueries that are tied to the key of an outer row, and UNION ALL of such queries.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, LimitClause, Query, Select, SelectItem, SetExpr,
    SetOperator, SetQuantifier, Visit, Visitor, visit_expressions, visit_relations,
};

use super::facts::Input;
use super::keys::{Clauses, without_parentheses};
use super::scatter;
use super::scope::{folded, object_name};
use crate::catalog::TableClass;

/// How many mentions of sharded tables are in subqueries of this SELECT, if each of these needs no
/// other rows than those of the shard that has the outer row. `None` when that is not proven.
pub(super) fn subqueries(
    query: Option<&Query>,
    select: &Select,
    clauses: &Clauses<'_>,
    input: Input<'_>,
) -> Option<usize> {
    let mut walk = Subqueries::new(clauses, input);
    let count = walk.conditions(select.selection.as_ref())?;
    for item in &select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                walk.visit(expr);
            }
            SelectItem::ExprWithAliases { .. }
            | SelectItem::QualifiedWildcard(..)
            | SelectItem::Wildcard(_) => {}
        }
    }
    select.having.iter().for_each(|having| walk.visit(having));
    if let Some(order) = query.and_then(|query| query.order_by.as_ref()) {
        let _: ControlFlow<()> = order.visit(&mut walk);
    }
    Some(count + walk.mentions?)
}

/// [`subqueries`] of an UPDATE or DELETE: in its WHERE, in what is assigned and what is returned.
pub(super) fn subqueries_of_write(
    selection: Option<&Expr>,
    values: &[&Expr],
    clauses: &Clauses<'_>,
    input: Input<'_>,
) -> Option<usize> {
    let mut walk = Subqueries::new(clauses, input);
    let count = walk.conditions(selection)?;
    values.iter().for_each(|value| walk.visit(value));
    Some(count + walk.mentions?)
}

/// Does every row of this UNION ALL come from one shard? Then the shards' answers need only be put
/// together. The count of sharded tables that it mentions.
pub(super) fn union_all(body: &SetExpr, input: Input<'_>) -> Option<usize> {
    match body {
        SetExpr::SetOperation {
            op: SetOperator::Union,
            set_quantifier: SetQuantifier::All,
            left,
            right,
        } => Some(union_all(left, input)? + union_all(right, input)?),
        SetExpr::Query(query) if is_body_alone(query) => union_all(&query.body, input),
        SetExpr::Select(select) => {
            let clauses = Clauses::new(&select.from, select.selection.as_ref(), input);
            let own = clauses.pins().len();
            let sound = own > 0 && clauses.is_colocated() && makes_rows_of_rows(select, input);
            let inside = subqueries(None, select, &clauses, input)?;
            sound.then_some(own + inside)
        }
        SetExpr::SetOperation { .. }
        | SetExpr::Query(_)
        | SetExpr::Values(_)
        | SetExpr::Insert(_)
        | SetExpr::Update(_)
        | SetExpr::Delete(_)
        | SetExpr::Merge(_)
        | SetExpr::Table(_) => None,
    }
}

/// Has it nothing but a body: no WITH, ORDER BY, LIMIT, locks?
pub(super) fn is_body_alone(query: &Query) -> bool {
    query.with.is_none() && query.order_by.is_none() && !has_bounds(query) && query.locks.is_empty()
}

fn has_bounds(query: &Query) -> bool {
    query.fetch.is_some()
        || match &query.limit_clause {
            None => false,
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                limit.is_some() || offset.is_some()
            }
            Some(LimitClause::OffsetCommaLimit { .. }) => true,
        }
}

/// Is each row of its result made of one row of FROM?
pub(super) fn makes_rows_of_rows(select: &Select, input: Input<'_>) -> bool {
    let grouped = match &select.group_by {
        GroupByExpr::Expressions(exprs, modifiers) => !exprs.is_empty() || !modifiers.is_empty(),
        GroupByExpr::All(_) => true,
    };
    let combines = |expr: &Expr| {
        let visited = visit_expressions(expr, |part| match part {
            Expr::Function(function) if function.over.is_some() => ControlFlow::Break(()),
            part if scatter::is_aggregate(part, input.catalog) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        visited.is_break()
    };
    let combined = select.projection.iter().any(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => combines(expr),
        SelectItem::ExprWithAliases { .. } => true,
        SelectItem::QualifiedWildcard(..) | SelectItem::Wildcard(_) => false,
    });
    !grouped
        && !combined
        && select.distinct.is_none()
        && select.having.is_none()
        && select.into.is_none()
        && select.qualify.is_none()
}

/// Adds up the mentions in subqueries that are not inside of others.
struct Subqueries<'a, 'c> {
    clauses: &'a Clauses<'c>,
    input: Input<'a>,
    depth: usize,
    /// `None` once one of them is not proven.
    mentions: Option<usize>,
}

impl<'a, 'c> Subqueries<'a, 'c> {
    fn new(clauses: &'a Clauses<'c>, input: Input<'a>) -> Self {
        Self {
            clauses,
            input,
            depth: 0,
            mentions: Some(0),
        }
    }

    /// Those in a WHERE; the answer is of the ones that are not added to `mentions`.
    fn conditions(&mut self, selection: Option<&Expr>) -> Option<usize> {
        let mut conjuncts = Vec::new();
        if let Some(selection) = selection {
            conjuncts_of(selection, &mut conjuncts);
        }
        let mut count = 0;
        for conjunct in conjuncts {
            // Where NULL is as good as false, keys of other shards are not missed.
            match conjunct {
                Expr::InSubquery {
                    expr,
                    subquery,
                    negated: false,
                } => {
                    let key = Some(expr.as_ref());
                    count += mentions_beside(subquery, key, self.clauses, self.input)?;
                }
                other => self.visit(other),
            }
        }
        Some(count)
    }

    fn visit(&mut self, expr: &Expr) {
        let _: ControlFlow<()> = expr.visit(self);
    }
}

impl Visitor for Subqueries<'_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.depth == 0 {
            let inside = mentions_beside(query, None, self.clauses, self.input);
            self.mentions = self.mentions.zip(inside).map(|(all, more)| all + more);
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// The mentions of sharded tables in a subquery, if all its rows have the key of an outer row; or, of
/// `key IN (query)`, if both are keys: a row with that key is on the shard of the outer row or nowhere.
fn mentions_beside(
    query: &Query,
    key: Option<&Expr>,
    outer: &Clauses<'_>,
    input: Input<'_>,
) -> Option<usize> {
    let all = mentions(query, input);
    if all == 0 {
        return Some(0);
    }
    let (select, inner) = plain(query, input)?;
    let beside = key.is_some_and(|key| gives_keys(query, select, &inner, key, outer, input))
        || is_tied(select, &inner, outer);
    // Once: each level of subqueries is looked into for each time that the one around it is.
    let has_all = || {
        let inside = subqueries(Some(query), select, &inner, input);
        inside.is_some_and(|inside| inner.pins().len() + inside == all)
    };
    (beside && has_all()).then_some(all)
}

/// Does a condition of the subquery's WHERE equate its key with that of the outer row?
fn is_tied(select: &Select, inner: &Clauses<'_>, outer: &Clauses<'_>) -> bool {
    let mut conjuncts = Vec::new();
    if let Some(selection) = &select.selection {
        conjuncts_of(selection, &mut conjuncts);
    }
    conjuncts.iter().any(|conjunct| match conjunct {
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Eq,
            right,
        } => is_tie(left, right, inner, outer) || is_tie(right, left, inner, outer),
        _ => false,
    })
}

/// Is the only column of the subquery a key that is like `key` of the outer row?
fn gives_keys(
    query: &Query,
    select: &Select,
    inner: &Clauses<'_>,
    key: &Expr,
    outer: &Clauses<'_>,
    input: Input<'_>,
) -> bool {
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] =
        select.projection.as_slice()
    else {
        return false;
    };
    is_body_alone(query)
        && makes_rows_of_rows(select, input)
        && inner.is_key(item)
        && inner.has_key_like(item, outer, key)
}

/// A SELECT over tables whose names are known, joined on their keys.
fn plain<'q, 'c>(query: &'q Query, input: Input<'c>) -> Option<(&'q Select, Clauses<'c>)> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    let inner = Clauses::new(&select.from, select.selection.as_ref(), input);
    let known = inner.scope.references.iter().all(|r| r.table.is_some());
    (query.with.is_none() && known && inner.is_colocated()).then_some((select, inner))
}

/// Is `key` a key of the subquery, and `other` a key of the outer query?
fn is_tie(key: &Expr, other: &Expr, inner: &Clauses<'_>, outer: &Clauses<'_>) -> bool {
    let other = without_parentheses(other);
    let Expr::CompoundIdentifier(idents) = other else {
        return false;
    };
    let qualifier = idents.len().checked_sub(2).map(|at| folded(&idents[at]));
    let means_inner = |name: &String| inner.scope.references.iter().any(|r| r.alias == *name);
    qualifier.is_some_and(|name| !means_inner(&name))
        && inner.is_key(key)
        && inner.has_key_like(key, outer, other)
}

fn mentions(query: &Query, input: Input<'_>) -> usize {
    let mut count = 0;
    let _: ControlFlow<()> = visit_relations(query, |name| {
        let table = object_name(name)
            .and_then(|(schema, name)| input.catalog.table(schema.as_deref(), &name));
        count += usize::from(
            table.is_some_and(|table| matches!(table.class, TableClass::Sharded { .. })),
        );
        ControlFlow::Continue(())
    });
    count
}

pub(super) fn conjuncts_of<'e>(expr: &'e Expr, found: &mut Vec<&'e Expr>) {
    match expr {
        Expr::Nested(inner) => conjuncts_of(inner, found),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => {
            conjuncts_of(left, found);
            conjuncts_of(right, found);
        }
        other => found.push(other),
    }
}
