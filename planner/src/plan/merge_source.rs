//! MERGE whose source has rows of several shards: they are gathered first, and each shard merges those whose key
//! it has.
//!
//! That is right where the target's key is compared with columns of the source, and these are what is inserted: a
//! row of the source then meets rows of its own shard only, and a new row belongs there. The rest of the
//! statement has to mean the same on each shard.

use std::ops::{ControlFlow, Range};

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Merge, MergeInsertExpr, ObjectName,
    Query, SetExpr, Statement, TableFactor, visit_expressions,
};

use super::colocated::is_body_alone;
use super::dml::{inserted_part, is_default, keys_of_rows};
use super::facts::{self, Facts};
use super::insertion::{self, Read, Unread};
use super::keys::without_parentheses;
use super::merge_into::{Merged, inserted};
use super::picks;
use super::refuse;
use super::scope::{Reference, folded, object_name};
use crate::catalog::{KeyColumn, TableClass};
use crate::insertion::{
    COLLATED, Destination, Insertion, Merging, OwnerColumn, Owners, Place, READ_SOURCE,
};
use crate::lexer::Kind;
use crate::limit::{KeyValue, Part};
use crate::refusal::Refusal;
use crate::route::ValueRef;

impl Merged<'_> {
    /// What gathers the source; `has_keys` where the plan knows the keys of all its rows. `None` where nothing
    /// proves that its rows stay on the shard of their key.
    pub(super) fn gathered(
        &self,
        has_keys: bool,
        facts: &Facts<'_>,
    ) -> Option<Result<Insertion, Refusal>> {
        let input = self.input;
        // With one shard nothing has to be brought anywhere; and a query of WITH is known in its place only.
        if !input.catalog.is_sharded() || !input.ctes.is_empty() {
            return None;
        }
        let alias = alias_of(&self.merge.source)?;
        let names = self.key.columns.iter();
        let names = names.map(|column| self.column_for(column, &alias));
        let names = names.collect::<Option<Vec<String>>>()?;
        Some(self.insertion(alias, names, has_keys, facts))
    }

    /// The column of the source that a column of the key is compared with, and gets in every new row.
    fn column_for(&self, key: &KeyColumn, alias: &str) -> Option<String> {
        let is_own = |name: &str| self.table.columns.iter().any(|column| column.name == name);
        let target = Reference::of_factor(&self.merge.table, self.input.catalog).alias;
        // A bare name that both have is an error.
        let own = |expr: &Expr| name_in(expr, &target, is_own);
        let given = |expr: &Expr| name_in(expr, alias, |name| !is_own(name));
        let is_inserted = |name: &String| {
            let same = |insert: &&MergeInsertExpr| {
                let value = inserted(insert, self.table, &key.name);
                // Names mean the source's there.
                let value = value.filter(|value| !is_default(value));
                value.and_then(|value| name_in(value, alias, |_| true)) == Some(name.clone())
            };
            self.inserts.iter().all(same)
        };
        let mut tied = self.equalities().into_iter().filter_map(|(one, other)| {
            let is_key = own(one).is_some_and(|name| name == key.name);
            is_key.then(|| given(other))?
        });
        tied.find(is_inserted)
    }

    fn insertion(
        &self,
        alias: String,
        names: Vec<String>,
        has_keys: bool,
        facts: &Facts<'_>,
    ) -> Result<Insertion, Refusal> {
        let name = &self.table.name;
        let because = |why| refuse::merge_gathered(name, why);
        if facts.system_tables {
            return Err(because(
                "It reads system tables, and those of each shard tell of that shard.",
            ));
        }
        self.check_rest()?;
        let unclear = "It is not clear from its text where the source begins and ends.";
        let tokens = self.source_tokens().ok_or_else(|| because(unclear))?;
        if tokens.clone().any(|at| self.input.source.is(at, "collate")) {
            return Err(because(COLLATED));
        }
        let is_it = |query: &Query| reads_only(query, &self.merge.source);
        let read = insertion::read(tokens, READ_SOURCE, is_it, self.input);
        let Read { plan, place, items } = read.map_err(|unread| match unread {
            Unread::Unclear => because(unclear),
            Unread::Refused(refusal) => refusal,
            Unread::Writes => {
                because("Its source may do more than read: it locks rows, or calls what may write.")
            }
        })?;
        Ok(Insertion {
            plan,
            query: place,
            items,
            destination: Destination::Owners(self.owners(names)),
            drawn: None,
            merging: Some(Merging {
                alias,
                reads: self.read_tables(facts),
                everywhere: self.keeps_unmatched_target(),
                has_keys: has_keys && !self.keeps_unmatched_target(),
            }),
        })
    }

    fn owners(&self, names: Vec<String>) -> Owners {
        let columns = self.key.columns.iter().zip(names);
        let columns = columns.map(|(column, name)| OwnerColumn {
            name: format!("{}.{}", self.table.name, column.name),
            place: Place::Named(name),
            key_type: column.key_type,
        });
        let part = |(index, column): (usize, &KeyColumn)| {
            let mut column = inserted_part(self.table, column);
            if self.inserts.is_empty() {
                column.insert = None;
            }
            Part {
                column,
                values: vec![KeyValue::One(ValueRef::Param(index))],
            }
        };
        let parts = self.key.columns.iter().enumerate().map(part);
        let is_not_null = |key: &KeyColumn| {
            let mut columns = self.table.columns.iter();
            columns.any(|column| column.name == key.name && column.not_null)
        };
        Owners {
            key: keys_of_rows(self.table, self.key, parts.collect()),
            columns: columns.collect(),
            rejects_null: self.key.columns.iter().all(is_not_null),
        }
    }

    /// The names of what the source may read.
    fn read_tables(&self, facts: &Facts<'_>) -> Vec<String> {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        // Named once it is the target; where it is named again its source reads it.
        let target = facts.tables.iter();
        let target = target
            .copied()
            .position(|table| std::ptr::eq(table, self.table));
        let others = facts.tables.iter().enumerate();
        let others = others.filter(|(at, _)| Some(*at) != target);
        let names =
            others.map(|(_, table)| format!("{}.{}", quoted(&table.schema), quoted(&table.name)));
        names.collect()
    }

    /// All but the source runs on each shard by itself.
    fn check_rest(&self) -> Result<(), Refusal> {
        let rest = Merge {
            // Of what it mentions nothing else is added.
            source: self.merge.table.clone(),
            ..self.merge.clone()
        };
        let rest = Statement::Merge(rest);
        let facts = facts::of_part(&rest, self.input);
        let spread = facts.tables.iter();
        let spread = spread.filter(|read| read.class != TableClass::Reference);
        const TARGET: usize = 2;
        if facts.opaque || facts.writes > 1 || spread.count() != TARGET {
            return Err(refuse::merge_gathered(
                &self.table.name,
                "What is behind its source reads tables whose rows other shards may have.",
            ));
        }
        if picks::picks_anywhere(&rest, self.input) {
            return Err(refuse::write_picks(&self.table.name));
        }
        if self.has_rows_of_own_type() && self.mentions_row(&rest) {
            return Err(refuse::merge_gathered(
                &self.table.name,
                "It mentions rows of its source as a whole, which would be of another type elsewhere.",
            ));
        }
        match self.compares_physical() {
            true => Err(refuse::physical_column()),
            false => Ok(()),
        }
    }

    /// Is a row of the source as a whole something else than columns in brackets? That of a table has the table's
    /// type; that of a function is its value, whatever the column is called.
    fn has_rows_of_own_type(&self) -> bool {
        match &self.merge.source {
            TableFactor::Table { args: None, .. } => true,
            TableFactor::Table { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. } => {
                let alias = alias.as_ref();
                alias.is_some_and(|alias| !alias.columns.is_empty())
            }
            _ => false,
        }
    }

    fn mentions_row(&self, rest: &Statement) -> bool {
        let Some(name) = alias_of(&self.merge.source) else {
            return true;
        };
        let columns = match &self.merge.source {
            TableFactor::Table { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. } => alias.as_ref().map(|alias| &alias.columns),
            _ => None,
        };
        let mut columns = columns.into_iter().flatten();
        let table = Reference::of_factor(&self.merge.source, self.input.catalog).table;
        let mut known = table.into_iter().flat_map(|table| &table.columns);
        let is_column = columns.any(|column| folded(&column.name) == name)
            || known.any(|column| column.name == name);
        let is_row = |of: &ObjectName| object_name(of).is_some_and(|(_, of)| of == name);
        let visited = visit_expressions(rest, |expr| {
            let whole = match expr {
                Expr::Identifier(bare) => !is_column && folded(bare) == name,
                Expr::QualifiedWildcard(of, _) => is_row(of),
                Expr::Function(function) => match &function.args {
                    FunctionArguments::List(list) => list.args.iter().any(|arg| match arg {
                        FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(of)) => is_row(of),
                        _ => false,
                    }),
                    _ => false,
                },
                _ => false,
            };
            match whole {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        visited.is_break()
    }

    /// The tokens of the source: `MERGE INTO target [AS alias] USING source ON …`.
    fn source_tokens(&self) -> Option<Range<usize>> {
        let source = self.input.source;
        if !source.are(0, &["merge", "into"]) {
            return None;
        }
        let mut depth = 0_usize;
        let mut start = None;
        for (at, token) in source.tokens.iter().enumerate().skip(2) {
            match token.kind {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.checked_sub(1)?,
                Kind::Word if depth == 0 && start.is_none() && source.is(at, "using") => {
                    start = Some(at + 1);
                }
                Kind::Word if depth == 0 && source.is(at, "on") => {
                    let start = start?;
                    return (start < at).then_some(start..at);
                }
                _ => {}
            }
        }
        None
    }
}

/// Does the query read all of `source`, and nothing else?
fn reads_only(query: &Query, source: &TableFactor) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return false;
    };
    let [from] = select.from.as_slice() else {
        return false;
    };
    is_body_alone(query)
        && from.relation == *source
        && from.joins.is_empty()
        && select.selection.is_none()
        && select.having.is_none()
}

/// What columns of the source are qualified with.
fn alias_of(source: &TableFactor) -> Option<String> {
    let (alias, name) = match source {
        TableFactor::Table { alias, name, .. } | TableFactor::Function { alias, name, .. } => {
            (alias, object_name(name).map(|(_, name)| name))
        }
        TableFactor::Derived {
            lateral: false,
            alias,
            ..
        }
        | TableFactor::UNNEST { alias, .. } => (alias, None),
        _ => return None,
    };
    alias.as_ref().map(|alias| folded(&alias.name)).or(name)
}

/// The column that `expr` is, of what is called `qualifier`. `is_bare` tells of a name whether it may stand without
/// that.
fn name_in(expr: &Expr, qualifier: &str, is_bare: impl Fn(&str) -> bool) -> Option<String> {
    match without_parentheses(expr) {
        Expr::CompoundIdentifier(names) => match names.as_slice() {
            [of, name] => (folded(of) == qualifier).then(|| folded(name)),
            _ => None,
        },
        Expr::Identifier(name) => Some(folded(name)).filter(|name| is_bare(name)),
        _ => None,
    }
}
