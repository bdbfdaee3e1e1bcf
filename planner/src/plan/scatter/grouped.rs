//! Queries that make one row of rows of several shards: aggregates, GROUP BY, DISTINCT.

use std::ops::Range;

use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
};

use super::{Bounds, Shards, ordinal, types, without_parentheses};
use crate::catalog::Catalog;
use crate::lexer::Kind;
use crate::merge::{
    Aggregate, AggregateFunction, BitOperator, Collation, Column, Group, GroupKey, MergePlan,
};
use crate::plan::scope::object_name;
use crate::plan::{Scatter, refuse};
use crate::refusal::Refusal;
use crate::route::TextPiece;

/// Is `expr` itself a call of an aggregate function?
pub(in crate::plan) fn is_aggregate(expr: &Expr, catalog: &Catalog) -> bool {
    let Expr::Function(function) = expr else {
        return false;
    };
    let (_, name) = object_name(&function.name).unwrap_or_default();
    // `rank(5) WITHIN GROUP (ORDER BY n)` is one, though rank is also a window function.
    !function.within_group.is_empty()
        || catalog
            .function(&name)
            .is_some_and(|function| function.is_aggregate)
}

impl Shards<'_> {
    /// Each shard groups its own rows; the groups of all are combined, then sorted and cut off.
    pub(super) fn grouped(&mut self, bounds: Bounds) -> Result<Scatter, Refusal> {
        if self.select.having.is_some() {
            return Err(refuse::aggregate(
                "HAVING",
                "Group by the sharding key, or filter the groups in the application.",
            ));
        }
        let mut group = Group::default();
        let covered = self.group_keys(&mut group)?;
        for (index, covered) in covered.into_iter().enumerate() {
            let item = self.item(index).ok_or_else(refuse::not_grouped)?;
            if is_aggregate(item, self.input.catalog) {
                let tokens = self.item_tokens(index);
                self.aggregate(item, Column::FromStart(index), tokens, &mut group)?;
            } else if !covered && !matches!(item, Expr::Value(_)) {
                return Err(refuse::not_grouped());
            }
        }
        self.combined(group, bounds)
    }

    /// SELECT DISTINCT: a group for each different row.
    pub(super) fn distinct(&mut self, bounds: Bounds) -> Result<Scatter, Refusal> {
        let mut group = Group::default();
        for index in 0..self.select.projection.len() {
            let item = self
                .item(index)
                .ok_or_else(|| refuse::not_one_shard("DISTINCT *"))?;
            let collation = self.group_collation(item)?;
            group.keys.push(GroupKey {
                column: Column::FromStart(index),
                collation,
            });
        }
        self.combined(group, bounds)
    }

    fn combined(&mut self, mut group: Group, bounds: Bounds) -> Result<Scatter, Refusal> {
        let mut order = Vec::with_capacity(self.order.len());
        for index in 0..self.order.len() {
            let (column, collation) = self.group_order_column(index, &mut group)?;
            order.push(self.direction(index, column, collation)?);
        }
        let merge = MergePlan {
            group: Some(group),
            order,
            offset: bounds.offset,
            limit: bounds.limit,
            ..MergePlan::default()
        };
        // A shard's groups are parts: it can neither sort nor cut off by them.
        let order = self.layout.order.as_ref().map(|list| list.whole.clone());
        let order = order.into_iter().map(|range| (range, Vec::new()));
        let bounds = self.layout.bounds.clone();
        let bounds = bounds.map(|range| (range, self.without_bounds()));
        let removed = order.chain(bounds).collect();
        Ok(self.finish(merge, removed))
    }

    /// Collects the keys of GROUP BY; tells for each select item whether it is one of them.
    fn group_keys(&mut self, group: &mut Group) -> Result<Vec<bool>, Refusal> {
        let mut covered = vec![false; self.select.projection.len()];
        for (index, written) in self.group.iter().enumerate() {
            let key = self.group_expr(written);
            let collation = self.group_collation(key)?;
            // A position or an output name means that very item, whatever it holds.
            let meant = self.group_item(written)?;
            let mut first = meant;
            for (item, covered) in covered.iter_mut().enumerate() {
                let equal = self
                    .item(item)
                    .is_some_and(|expr| self.are_equal(expr, key));
                if equal || meant == Some(item) {
                    *covered = true;
                    first = first.or(Some(item));
                }
            }
            let column = match first {
                Some(item) if item < covered.len() => Column::FromStart(item),
                Some(_) => return Err(refuse::ordinal_unknown()),
                None => {
                    let tokens = self
                        .layout
                        .group
                        .as_ref()
                        .map(|list| list.items[index].clone());
                    let text = self.original(tokens.ok_or_else(refuse::not_rewritten)?);
                    self.hide(vec![text])
                }
            };
            group.keys.push(GroupKey { column, collation });
        }
        Ok(covered)
    }

    /// Adds the aggregate that stands in `column`; `tokens` are its text.
    fn aggregate(
        &mut self,
        expr: &Expr,
        column: Column,
        tokens: Range<usize>,
        group: &mut Group,
    ) -> Result<(), Refusal> {
        let Expr::Function(call) = expr else {
            return Err(refuse::not_grouped());
        };
        let (_, name) = object_name(&call.name).unwrap_or_default();
        let function = match self.partial(&name, call)? {
            Partial::Itself(function) => function,
            Partial::Average => {
                // The arguments, and FILTER behind them.
                let all = &self.input.source.tokens;
                let is_open = |index: &usize| all[*index].kind == Kind::Open;
                let around = tokens.clone().take_while(is_open).count();
                let mut call = tokens.start + around..tokens.end - around;
                let open = call.find(is_open).ok_or_else(refuse::not_rewritten)?;
                let rest = self.original(open..call.end);
                let mut part =
                    |name: &str| self.hide(vec![TextPiece::Added(name.into()), rest.clone()]);
                AggregateFunction::Avg {
                    sum: part("sum"),
                    count: part("count"),
                }
            }
        };
        group.aggregates.push(Aggregate { column, function });
        Ok(())
    }

    /// How the shards' parts of one aggregate become the whole.
    fn partial(&mut self, name: &str, call: &Function) -> Result<Partial, Refusal> {
        const HINT: &str = "Use count, sum, min, max, avg, bool_and, bool_or, bit_and, bit_or or bit_xor, or group by \
             the sharding key.";
        let refused = || refuse::aggregate(&format!("aggregate {name}"), HINT);
        let own = self
            .input
            .catalog
            .function(name)
            .is_none_or(|function| function.user_defined);
        let FunctionArguments::List(list) = &call.args else {
            return Err(refused());
        };
        let plain = call.over.is_none()
            && call.within_group.is_empty()
            && call.null_treatment.is_none()
            && list.clauses.is_empty();
        let argument = match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] => Some(argument),
            [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] => None,
            _ => return Err(refused()),
        };
        if own || !plain {
            return Err(refused());
        }
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
            // No key is on two shards, so nothing is counted twice.
            let counts_keys = name == "count"
                && argument
                    .is_some_and(|argument| self.clauses.scope.key_column(argument).is_some());
            let idempotent = matches!(name, "min" | "max" | "bit_and" | "bit_or");
            if !counts_keys && !idempotent {
                return Err(refuse::aggregate(
                    &format!("{name}(DISTINCT …)"),
                    "Group by the sharding key, or count the rows of SELECT DISTINCT.",
                ));
            }
        }
        let adds_up: Option<fn(u32) -> bool> = match name {
            "sum" => Some(types::adds_up),
            "avg" => Some(types::averages),
            "bit_and" | "bit_or" | "bit_xor" => Some(types::has_bits),
            _ => None,
        };
        if let Some(adds_up) = adds_up {
            match argument.and_then(|argument| self.known_column(argument)) {
                Some(column) if !adds_up(column.type_oid) => return Err(refused()),
                Some(_) => {}
                None => self.doubtful = true,
            }
        }
        let compares = matches!(name, "min" | "max");
        let collation = match argument {
            Some(argument) if compares => self.sort_collation(argument)?,
            Some(_) | None => Collation::Unknown,
        };
        Ok(Partial::Itself(match name {
            "count" => AggregateFunction::Count,
            "sum" => AggregateFunction::Sum,
            "min" => AggregateFunction::Min(collation),
            "max" => AggregateFunction::Max(collation),
            "bool_and" | "every" => AggregateFunction::BoolAnd,
            "bool_or" => AggregateFunction::BoolOr,
            "bit_and" => AggregateFunction::Bits(BitOperator::And),
            "bit_or" => AggregateFunction::Bits(BitOperator::Or),
            "bit_xor" => AggregateFunction::Bits(BitOperator::Xor),
            "avg" => return Ok(Partial::Average),
            _ => return Err(refused()),
        }))
    }

    /// Where the combined rows hold what ORDER BY item `index` sorts by.
    fn group_order_column(
        &mut self,
        index: usize,
        group: &mut Group,
    ) -> Result<(Column, Collation), Refusal> {
        let expr = without_parentheses(&self.order[index].expr);
        let item = match expr {
            _ if ordinal(expr).is_some() => ordinal(expr),
            Expr::Identifier(name) => self.item_named(name)?.or_else(|| self.item_equal(expr)),
            _ => self.item_equal(expr),
        };
        if let Some(at) = item {
            let item = self.item(at).ok_or_else(refuse::ordinal_unknown)?;
            return Ok((Column::FromStart(at), self.group_sort_collation(item)?));
        }
        if self.select.distinct.is_some() {
            return Err(refuse::not_one_shard("DISTINCT with this ORDER BY"));
        }
        if is_aggregate(expr, self.input.catalog) {
            let collation = self.group_sort_collation(expr)?;
            let tokens = self.order_tokens(index);
            let column = self.hide(vec![self.original(tokens.clone())]);
            self.aggregate(expr, column, tokens, group)?;
            return Ok((column, collation));
        }
        let key = self.group.iter().position(|key| self.are_equal(key, expr));
        match key.and_then(|key| group.keys.get(key)) {
            Some(key) => Ok((key.column, self.sort_collation(expr)?)),
            None => Err(refuse::not_grouped()),
        }
    }

    /// How an output column of a grouped query sorts.
    fn group_sort_collation(&mut self, expr: &Expr) -> Result<Collation, Refusal> {
        let Expr::Function(call) = expr else {
            return self.sort_collation(expr);
        };
        let (_, name) = object_name(&call.name).unwrap_or_default();
        let argument = match &call.args {
            FunctionArguments::List(list) => list.args.first(),
            FunctionArguments::None | FunctionArguments::Subquery(_) => None,
        };
        match (name.as_str(), argument) {
            ("count" | "sum" | "avg", _) => Ok(Collation::Bytewise),
            ("min" | "max", Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)))) => {
                self.sort_collation(argument)
            }
            _ => {
                self.doubtful = true;
                Ok(Collation::Unknown)
            }
        }
    }
}

enum Partial {
    /// The shards run the aggregate as it is written.
    Itself(AggregateFunction),
    /// The shards also give sum and count.
    Average,
}
