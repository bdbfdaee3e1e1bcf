//! Queries that pick some of several rows, or compute a value at random: once for a whole statement, and
//! so each server for itself, where one PostgreSQL has one choice.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Distinct, Expr, Function, FunctionArgumentClause, FunctionArguments, LimitClause, Query,
    Select, TableAlias, TableFactor, Visit, Visitor,
};

use super::facts::Input;
use super::functions;
use super::scope::{folded, object_name};

/// Does a query inside of `query` pick rows for all of it?
pub(super) fn picks_inside(query: &Query, input: Input<'_>) -> bool {
    picks(query, 1, input)
}

/// Does a query anywhere in `part` pick rows for all of it, not for each row of a query around it?
pub(super) fn picks_anywhere(part: &impl Visit, input: Input<'_>) -> bool {
    picks(part, 0, input)
}

/// Does anything in `part` pick rows, for whatever?
pub(super) fn has_picks(part: &impl Visit, input: Input<'_>) -> bool {
    let mut found = Found::new(input);
    let _: ControlFlow<()> = part.visit(&mut found);
    found.picks
}

fn picks(part: &impl Visit, around: usize, input: Input<'_>) -> bool {
    let mut walk = Walk {
        input,
        around,
        depth: 0,
    };
    part.visit(&mut walk).is_break()
}

struct Walk<'a> {
    input: Input<'a>,
    /// Queries around those that are asked about.
    around: usize,
    depth: usize,
}

impl Visitor for Walk<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.depth += 1;
        if self.depth <= self.around {
            return ControlFlow::Continue(());
        }
        let mut found = Found::new(self.input);
        let _: ControlFlow<()> = query.visit(&mut found);
        match found.picks && !found.is_correlated() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// What is in a query, and in all inside of it.
struct Found<'a> {
    input: Input<'a>,
    picks: bool,
    /// What its columns may be qualified with; `None` where that is not known.
    own: Option<HashSet<String>>,
    qualifiers: HashSet<String>,
}

impl<'a> Found<'a> {
    fn new(input: Input<'a>) -> Self {
        Self {
            input,
            picks: false,
            own: Some(HashSet::new()),
            qualifiers: HashSet::new(),
        }
    }

    /// Does it mention a row of a query around it, by name? Then it is evaluated for each.
    fn is_correlated(&self) -> bool {
        let own = self.own.as_ref();
        own.is_some_and(|own| self.qualifiers.difference(own).next().is_some())
    }

    fn name(&mut self, alias: Option<&TableAlias>, table: Option<String>) {
        let name = alias.map(|alias| folded(&alias.name)).or(table);
        if let (Some(name), Some(own)) = (name, self.own.as_mut()) {
            own.insert(name);
        }
    }
}

impl Visitor for Found<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.picks |= query.fetch.is_some()
            || !query.locks.is_empty()
            || match &query.limit_clause {
                None => false,
                Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                    limit.is_some() || offset.is_some()
                }
                Some(LimitClause::OffsetCommaLimit { .. }) => true,
            };
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.picks |= matches!(select.distinct, Some(Distinct::On(_)));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                sample,
                ..
            } => {
                self.picks |= sample.is_some();
                self.name(alias.as_ref(), object_name(name).map(|(_, name)| name));
            }
            TableFactor::Derived { alias, .. }
            | TableFactor::NestedJoin { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::TableFunction { alias, .. } => self.name(alias.as_ref(), None),
            TableFactor::Function { name, alias, .. } => {
                self.name(alias.as_ref(), object_name(name).map(|(_, name)| name));
            }
            _ => self.own = None,
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => {
                let (_, name) = object_name(&function.name).unwrap_or_default();
                self.picks |= function.over.is_some()
                    || functions::is_volatile(&name, self.input.catalog)
                    || depends_on_order(&name) && !is_ordered(function);
            }
            Expr::CompoundIdentifier(parts) => {
                if let [qualifier, _] = parts.as_slice() {
                    self.qualifiers.insert(folded(qualifier));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Aggregates whose value depends on the order of their rows.
fn depends_on_order(name: &str) -> bool {
    const ORDERED: [&str; 9] = [
        "array_agg",
        "json_agg",
        "json_object_agg",
        "jsonb_agg",
        "jsonb_object_agg",
        "range_agg",
        "string_agg",
        "xmlagg",
        "any_value",
    ];
    ORDERED.contains(&name)
}

fn is_ordered(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else {
        return false;
    };
    let is_order = |clause| matches!(clause, &FunctionArgumentClause::OrderBy(_));
    list.clauses.iter().any(is_order)
}
