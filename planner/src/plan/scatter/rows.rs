//! Queries whose rows are each made on one shard: rows are only put in order and counted off.

use sqlparser::ast::{Expr, SelectItem};

use super::{Bounds, Shards, folded, ordinal, without_parentheses};
use crate::merge::{Collation, Column, MergePlan};
use crate::plan::{Scatter, refuse};
use crate::refusal::Refusal;
use crate::route::TextPiece;

impl Shards<'_> {
    /// Each shard sorts and cuts off its own rows; streams are merged.
    pub(super) fn rows(&mut self, bounds: &Bounds) -> Result<Scatter, Refusal> {
        let mut order = Vec::with_capacity(self.order.len());
        for index in 0..self.order.len() {
            let (column, collation) = self.row_order_column(index)?;
            order.push(self.direction(index, column, collation)?);
        }
        let merge = MergePlan {
            shards_sorted: !order.is_empty(),
            order,
            offset: bounds.offset.clone(),
            limit: bounds.limit.clone(),
            ..MergePlan::default()
        };
        let replaced = match (&self.layout.bounds, &self.layout.offset) {
            (Some(whole), Some(_)) => vec![(whole.clone(), self.widened_limit(bounds))],
            (Some(_), None) | (None, _) => Vec::new(),
        };
        Ok(self.finish(merge, replaced))
    }

    /// A shard may own all rows that are skipped: it gives limit + offset rows, and skips none.
    fn widened_limit(&self, bounds: &Bounds) -> Vec<TextPiece> {
        let (Some(_), Some(limit), Some(offset)) =
            (&bounds.limit, &self.layout.limit, &self.layout.offset)
        else {
            return self.without_bounds();
        };
        let limit = if limit.is_empty() {
            // FETCH FIRST ROW ONLY
            TextPiece::Added("1".into())
        } else {
            self.original(limit.clone())
        };
        vec![
            // The sum may be too large for bigint, and then it limits nothing.
            TextPiece::Added("LIMIT least((".into()),
            limit,
            TextPiece::Added(")::bigint::numeric + (".into()),
            self.original(offset.clone()),
            TextPiece::Added(")::bigint, 9223372036854775807)::bigint".into()),
        ]
    }

    /// Where the shards' rows hold what ORDER BY item `index` sorts by.
    fn row_order_column(&mut self, index: usize) -> Result<(Column, Collation), Refusal> {
        let expr = without_parentheses(&self.order[index].expr);
        if let Some(position) = ordinal(expr) {
            // Right behind a `*` too: positions count its columns.
            let first_star =
                (0..self.select.projection.len()).find(|item| self.item(*item).is_none());
            return match self.item(position) {
                Some(item) if first_star.is_none_or(|star| star > position) => {
                    Ok((Column::FromStart(position), self.sort_collation(item)?))
                }
                _ if first_star.is_some() => {
                    self.doubtful = true;
                    Ok((Column::FromStart(position), Collation::Unknown))
                }
                Some(_) | None => Err(refuse::ordinal_unknown()),
            };
        }
        let named = match expr {
            Expr::Identifier(name) => self.item_named(name)?,
            _ => None,
        };
        let item = named.or_else(|| self.item_equal(expr));
        if let Some((at, item)) = item.and_then(|at| self.item(at).map(|item| (at, item))) {
            let collation = self.sort_collation(item)?;
            if let Some(column) = self.item_column(at) {
                return Ok((column, collation));
            }
            self.may_hide()?;
            let text = self.original(self.item_tokens(at));
            return Ok((self.hide(vec![text]), collation));
        }
        if let Expr::Identifier(name) = expr
            && self.clauses.scope.column(expr).is_none()
            && self.has_star_of_one()
        {
            // In `t.*` it is a name of the output, elsewhere it may be one of several columns.
            return Err(refuse::output_name(&folded(name)));
        }
        let collation = self.sort_collation(expr)?;
        self.may_hide()?;
        let text = self.original(self.order_tokens(index));
        Ok((self.hide(vec![text]), collation))
    }

    fn has_star_of_one(&self) -> bool {
        let mut items = self.select.projection.iter();
        items.any(|item| matches!(item, SelectItem::QualifiedWildcard(..)))
    }

    /// A hidden column computes its value once more, and one more column makes DISTINCT another.
    fn may_hide(&self) -> Result<(), Refusal> {
        if self.volatile {
            return Err(refuse::not_one_shard("ORDER BY with a volatile function"));
        }
        if self.select.distinct.is_some() {
            return Err(refuse::not_one_shard("DISTINCT with this ORDER BY"));
        }
        Ok(())
    }
}
