//! What cuts off the rows of one table on each shard, where the whole is put in order elsewhere.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, OrderBySort, Query, Select, UnaryOperator, visit_expressions};

use super::{Layout, Shards, TextPiece, lists, ordinal, without_parentheses};
use crate::plan::facts::Input;
use crate::plan::keys::Clauses;
use crate::plan::scope::object_name;

/// ORDER BY and LIMIT for the rows of the only table of `select`: the first rows of all are among
/// the first rows of each shard, whatever the order, since all servers sort alike. `None` where
/// rows become others before they are cut off, or nothing cuts them off.
pub(in crate::plan) fn first_rows(
    query: &Query,
    select: &Select,
    clauses: &Clauses<'_>,
    volatile: bool,
    input: Input<'_>,
) -> Option<Vec<TextPiece>> {
    if !input.parsed.merges {
        return None;
    }
    let (group, order) = lists(query, select).ok()?;
    let layout = Layout::of(input.source)?;
    let agrees = layout.items.len() == select.projection.len()
        && layout.order.as_ref().map_or(0, |list| list.items.len()) == order.len();
    let shards = Shards {
        select,
        group,
        order,
        layout: &layout,
        clauses,
        input,
        volatile,
        hidden: vec![],
        doubtful: false,
    };
    let ties = query
        .fetch
        .as_ref()
        .is_some_and(|fetch| fetch.with_ties || fetch.percent);
    let single = (0..select.projection.len())
        .filter_map(|index| shards.item(index))
        .all(|item| shards.is_of_row(item));
    let plain = agrees
        && single
        && !volatile
        && !ties
        && clauses.scope.references.len() == 1
        && group.is_empty()
        && select.having.is_none()
        && select.distinct.is_none()
        && !shards.uses_window()
        && !shards.uses_aggregate();
    if !plain {
        return None;
    }
    let mut pieces = shards.first_by()?;
    pieces.extend(shards.first_count()?);
    Some(pieces)
}

/// A literal, which ORDER BY reads as a position or refuses; PostgreSQL's grammar makes one of a
/// number behind `-` too.
fn is_constant(expr: &Expr) -> bool {
    match without_parentheses(expr) {
        Expr::Value(_) => true,
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => is_constant(expr),
        _ => false,
    }
}

impl Shards<'_> {
    /// ORDER BY with what output names and positions mean in their place.
    fn first_by(&self) -> Option<Vec<TextPiece>> {
        let mut pieces = Vec::new();
        for (index, order) in self.order.iter().enumerate() {
            if matches!(order.options.sort, Some(OrderBySort::Using(_))) {
                return None;
            }
            let expr = without_parentheses(&order.expr);
            let item = match expr {
                Expr::Identifier(name) => self.item_named(name).ok()?,
                other => ordinal(other),
            };
            let (expr, tokens) = match item {
                // Behind a `*`, positions count its columns.
                Some(item) => {
                    self.item_column(item)?;
                    (self.item(item)?, self.item_tokens(item))
                }
                None if matches!(expr, Expr::Value(_)) => return None,
                None => (expr, self.order_tokens(index)),
            };
            // It tells no row from another, and would be read as a position.
            if is_constant(expr) {
                continue;
            }
            if !self.is_of_row(expr) {
                return None;
            }
            let joint = match pieces.is_empty() {
                true => " ORDER BY (",
                false => ", (",
            };
            pieces.push(TextPiece::Added(joint.into()));
            pieces.push(self.original(tokens));
            let options =
                self.order_tokens(index).end..self.layout.order.as_ref()?.items[index].end;
            pieces.push(TextPiece::Added(") ".into()));
            if !options.is_empty() {
                pieces.push(self.original(options));
            }
        }
        Some(pieces)
    }

    /// LIMIT: as many rows as are skipped and shown. NULL is no limit, also beside a number.
    fn first_count(&self) -> Option<Vec<TextPiece>> {
        let limit = self.layout.limit.clone()?;
        let mut counts = limit
            .clone()
            .chain(self.layout.offset.clone().into_iter().flatten());
        // A table in a subquery may be on another shard.
        if self.input.source.is(limit.start, "all")
            || counts.any(|token| self.input.source.is(token, "select"))
        {
            return None;
        }
        let number = match limit.is_empty() {
            // FETCH FIRST ROW ONLY
            true => TextPiece::Added("1".into()),
            false => self.original(limit),
        };
        let mut pieces = vec![TextPiece::Added(" LIMIT least((".into()), number];
        match &self.layout.offset {
            Some(offset) => {
                pieces.push(TextPiece::Added(")::bigint::numeric + coalesce((".into()));
                pieces.push(self.original(offset.clone()));
                let rest = ")::bigint, 0), 9223372036854775807)::bigint";
                pieces.push(TextPiece::Added(rest.into()));
            }
            None => {
                let rest = ")::bigint, 9223372036854775807)";
                pieces.push(TextPiece::Added(rest.into()));
            }
        }
        Some(pieces)
    }

    /// Does it give one value, which depends on columns of the row alone? Of functions only some are
    /// known not to make several rows of one.
    fn is_of_row(&self, expr: &Expr) -> bool {
        const SCALAR: [&str; 24] = [
            "abs",
            "btrim",
            "ceil",
            "ceiling",
            "char_length",
            "coalesce",
            "concat",
            "date_part",
            "date_trunc",
            "floor",
            "greatest",
            "initcap",
            "least",
            "left",
            "length",
            "lower",
            "ltrim",
            "nullif",
            "replace",
            "right",
            "round",
            "rtrim",
            "to_char",
            "upper",
        ];
        let visited = visit_expressions(expr, |part| {
            let known = match part {
                Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => false,
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                    self.known_column(part).is_some()
                }
                Expr::Function(function) => {
                    let name = object_name(&function.name);
                    let (_, name) = name.unwrap_or_default();
                    let own = self.input.catalog.function(&name);
                    SCALAR.contains(&name.as_str()) && own.is_none_or(|own| !own.user_defined)
                }
                _ => true,
            };
            match known {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        visited.is_continue()
    }
}
