//! Where an INSERT from a query into a sharded table runs.
//!
//! Either the key is a constant, and one shard has all that the query reads; or the key is that of a
//! sharded table of the query: then each row is made on the shard that it belongs to, if every shard
//! makes of its own rows what one server would make of them. The rows of all else are gathered
//! (`insertion.rs`).

use std::ops::ControlFlow;

use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Query, Select, SelectItem, SetExpr, visit_expressions,
};

use super::dml;
use super::facts::{Facts, Input};
use super::insertion;
use super::keys::Clauses;
use super::picks;
use super::query::{Decision, by_keys};
use super::scope::object_name;
use super::values::{self, TypedParams};
use super::with_writes;
use crate::catalog::{Keeps, ShardKey, Table};
use crate::limit::{KeySet, KeyValue, Part};
use crate::plan::{Many, Target};
use crate::route::ValueRef;

/// The table that is written, and the places of its key's columns.
pub(super) struct Into<'a> {
    pub(super) table: &'a Table,
    pub(super) key: &'a ShardKey,
    /// In the order of the key.
    pub(super) positions: Vec<usize>,
}

pub(super) fn target(
    into: &Into<'_>,
    query: &Query,
    facts: &Facts<'_>,
    gathered: &dyn Fn() -> Many,
    input: Input<'_>,
) -> Decision {
    let unproven = || insertion::on_all(gathered());
    let SetExpr::Select(select) = query.body.as_ref() else {
        return unproven();
    };
    let unseen = query.with.is_some() || facts.writes > 1 || select.into.is_some();
    if !unseen
        && keeps_keys(into)
        && let Some(keys) = with_writes::keys_of_rows(query, into.key, &into.positions, input)
    {
        return match with_pins(Some(keys), facts) {
            Some(keys) => by_keys(keys, gathered()),
            None => unproven(),
        };
    }
    let items = into.positions.iter().map(|at| item_at(select, *at));
    let items: Option<Vec<&Expr>> = items.collect();
    let Some(items) = items.filter(|_| !unseen) else {
        return unproven();
    };
    if let Some(keys) = constant_keys(into, select, &items, input) {
        return match with_pins(Some(keys), facts) {
            Some(keys) => by_keys(keys, gathered()),
            None => unproven(),
        };
    }
    let clauses = Clauses::new(&select.from, select.selection.as_ref(), input);
    if !clauses.has_key_of(&items, into.key) || !keeps_keys(into) {
        return unproven();
    }
    let pins = clauses.pins().len();
    let apart = pins == facts.pins.len()
        && pins + 1 == facts.sharded().count()
        && clauses.is_colocated()
        && !facts.table_functions
        && !facts.system_tables
        && is_row_by_row(query, select, &clauses, input);
    let many = match apart {
        true => Many::SumTags,
        false => gathered(),
    };
    match with_pins(None, facts) {
        Some(keys) => by_keys(keys, many),
        None if apart => (
            Target::AllShards(many),
            "each row is made on the shard that its key belongs to".into(),
        ),
        None => insertion::on_all(many),
    }
}

/// The key of all rows, where each of its columns is a constant.
fn constant_keys(
    into: &Into<'_>,
    select: &Select,
    items: &[&Expr],
    input: Input<'_>,
) -> Option<KeySet> {
    let mut parts = Vec::with_capacity(items.len());
    for (column, expr) in into.key.columns.iter().zip(items) {
        let mut column = dml::inserted_part(into.table, column);
        column.key_type = values::widest([*expr], column.key_type);
        let value = values::value(expr, column.key_type, &TypedParams::default(), input)?;
        // NULL is an error only if there is a row.
        if select.distinct.is_some() || value == ValueRef::Null {
            return None;
        }
        let values = vec![KeyValue::One(value)];
        parts.push(Part { column, values });
    }
    Some(dml::keys_of_rows(into.table, into.key, parts))
}

/// The union of `own` and the keys of all sharded tables that are read, if all are limited.
fn with_pins(own: Option<KeySet>, facts: &Facts<'_>) -> Option<KeySet> {
    if facts.pins.len() + 1 != facts.sharded().count() {
        return None;
    }
    let mut joint = own;
    for pin in &facts.pins {
        let keys = pin.keys.clone()?;
        joint = Some(match joint {
            None => keys,
            Some(joint) => joint.union(keys),
        });
    }
    joint
}

/// The expression of column `position`, if the list before it has no star.
fn item_at(select: &Select, position: usize) -> Option<&Expr> {
    let mut items = select.projection.iter().map(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    });
    items.all(|item| item.is_some()).then_some(())?;
    match select.projection.get(position)? {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

/// Does every column of the key keep the values that it gets?
fn keeps_keys(into: &Into<'_>) -> bool {
    let mut columns = into.key.columns.iter();
    columns.all(|column| dml::inserted_part(into.table, column).insert == Some(Keeps::Same))
}

/// Do the rows of all shards follow each other to what one server would have made? Its key is
/// selected, so DISTINCT compares rows of one shard, and so does GROUP BY the key.
fn is_row_by_row(query: &Query, select: &Select, clauses: &Clauses<'_>, input: Input<'_>) -> bool {
    let bounded = query.limit_clause.is_some() || query.fetch.is_some() || !query.locks.is_empty();
    let distinct = matches!(
        select.distinct,
        None | Some(Distinct::All | Distinct::Distinct)
    );
    let GroupByExpr::Expressions(group, modifiers) = &select.group_by else {
        return false;
    };
    let sets = |expr: &Expr| {
        matches!(
            expr,
            Expr::GroupingSets(_) | Expr::Rollup(_) | Expr::Cube(_)
        )
    };
    let by_key = clauses.hold_key(group) && !group.iter().any(sets);
    let grouped = !group.is_empty() || select.having.is_some();
    let whole = by_key || !grouped && !gathers(select, Gathers::Aggregates, input);
    !bounded
        && !picks::picks_inside(query, input)
        && distinct
        && modifiers.is_empty()
        && whole
        && !gathers(select, Gathers::Windows, input)
}

/// What makes one value of several rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gathers {
    Aggregates,
    Windows,
}

fn gathers(select: &Select, what: Gathers, input: Input<'_>) -> bool {
    visit_expressions(select, |expr| match expr {
        Expr::Function(function) => {
            let found = match what {
                Gathers::Windows => function.over.is_some(),
                Gathers::Aggregates => match object_name(&function.name) {
                    // What is not known may be one.
                    Some((_, name)) => {
                        let known = input.catalog.function(&name);
                        known.is_none_or(|function| function.is_aggregate)
                    }
                    None => true,
                },
            };
            match found {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}
