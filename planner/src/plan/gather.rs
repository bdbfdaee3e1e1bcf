//! A query that no merge answers: the rows of its tables are gathered, and one server runs the
//! client's own text over them, with each table reference replaced by its rows. So does each server
//! that has rows which a write may concern, but for the table that is written.
//!
//! What is gathered is only what can matter: the columns whose names the text mentions, and the
//! rows that satisfy those conjuncts of the reference's own WHERE that speak of it alone.

use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, Range};

use sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, JoinConstraint,
    JoinOperator, ObjectName, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor,
    TableWithJoins, Visit, Visitor, visit_expressions,
};

use super::facts::{Facts, Input};
use super::functions;
use super::keys::Clauses;
use super::layout;
use super::refuse;
use super::scatter;
use super::scope::{folded, object_name};
use crate::catalog::{Table, TableClass};
use crate::gather::{Gather, Source};
use crate::plan::Access;
use crate::refusal::Refusal;
use crate::route::TextPiece;
use crate::topology::ShardId;

/// # Errors
/// What keeps the rows from being gathered; `refusal` when only the general reason is known.
pub(super) fn plan(
    query: &Query,
    facts: &Facts<'_>,
    refusal: Refusal,
    input: Input<'_>,
) -> Result<Gather, Refusal> {
    if facts.conduct.access != Access::Read || facts.sequences {
        return Err(refuse::writes_in_query());
    }
    if !input.parsed.gathers || facts.system_tables || facts.opaque || facts.undeclared().is_some()
    {
        return Err(refusal);
    }
    if has_subquery_in_sets(query) {
        return Err(refusal);
    }
    let at = facts.singles().next().map(|(_, shard)| shard);
    let mut walk = Walk::new(at, input);
    let _: ControlFlow<()> = query.visit(&mut walk);
    walk.check(facts, refusal)?;
    let one = walk.references.len() == 1 && !walk.unfiltered;
    let mut gather = walk.gather();
    if let ([source], SetExpr::Select(select), true) =
        (gather.sources.as_mut_slice(), query.body.as_ref(), one)
        && query.with.is_none()
        && is_table_alone(&select.from)
    {
        let clauses = Clauses::new(&select.from, select.selection.as_ref(), input);
        let first = scatter::first_rows(query, select, &clauses, facts.volatile, input);
        source.from.extend(first.into_iter().flatten());
    }
    Ok(gather)
}

/// What an UPDATE or DELETE writes and reads.
pub(super) struct Written<'w, S> {
    pub(super) statement: &'w S,
    /// The table that is written comes first.
    pub(super) from: &'w [TableWithJoins],
    pub(super) selection: Option<&'w Expr>,
    /// RETURNING has a star.
    pub(super) returns_all: bool,
    /// The shard of the table, where it is on one.
    pub(super) at: Option<ShardId>,
}

/// What a write reads on other shards than where it writes.
///
/// # Errors
/// `refusal` when that cannot be gathered.
pub(super) fn of_write<S: Visit>(
    write: &Written<'_, S>,
    facts: &Facts<'_>,
    refusal: Refusal,
    input: Input<'_>,
) -> Result<Gather, Refusal> {
    let is_alone = facts.writes == 1
        && facts.locks == 0
        && facts.unknown.is_empty()
        && facts.undeclared().is_none();
    let is_plain = input.source.is(0, "update") || input.source.is(0, "delete");
    if !(is_alone && is_plain && input.parsed.gathers) || facts.system_tables || facts.opaque {
        return Err(refusal);
    }
    let target = match write.from.first().map(|item| &item.relation) {
        Some(TableFactor::Table { name, .. }) => name,
        _ => return Err(refusal),
    };
    if has_subquery_in_sets(write.statement) {
        return Err(refusal);
    }
    let mut walk = Walk::new(write.at, input);
    walk.target = walk.tokens_of(target).map(|tokens| tokens.start);
    if walk.target.is_none() {
        return Err(refusal);
    }
    walk.whole_rows = write.returns_all || write.from.iter().any(is_natural);
    walk.take_filters(write.from, write.selection, Some(0));
    let _: ControlFlow<()> = write.statement.visit(&mut walk);
    // Elsewhere a table of one shard has no row type.
    let is_single =
        |reference: &Reference<'_>| matches!(reference.table.class, TableClass::Single(_));
    if walk.references.iter().any(is_single) {
        return Err(refusal);
    }
    walk.check(facts, refusal)?;
    Ok(walk.gather())
}

/// Does a grouping set group by a subquery? Where the select list repeats it, each is over gathered rows of its
/// own, and PostgreSQL no longer sees that they are the same: what a set leaves out is not NULL then.
fn has_subquery_in_sets(part: &impl Visit) -> bool {
    let is_subquery = |expr: &Expr| match expr {
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let set = |expr: &Expr| match expr {
        Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) => {
            visit_expressions(expr, is_subquery)
        }
        _ => ControlFlow::Continue(()),
    };
    visit_expressions(part, set).is_break()
}

/// One table, as it is.
fn is_table_alone(from: &[TableWithJoins]) -> bool {
    match from {
        [only] => only.joins.is_empty() && matches!(only.relation, TableFactor::Table { .. }),
        _ => false,
    }
}

/// A mention of a table whose rows are gathered.
struct Reference<'a> {
    table: &'a Table,
    /// The tokens of its name.
    tokens: Range<usize>,
    alias: Option<String>,
    /// Its columns have other names here.
    renamed: bool,
    /// The schema that it is named with.
    dotted: Option<String>,
}

struct Walk<'a> {
    input: Input<'a>,
    /// Single tables are read where they are on this shard.
    at: Option<ShardId>,
    /// The first token of the name of the table that is written.
    target: Option<usize>,
    references: Vec<Reference<'a>>,
    /// The conjuncts of some SELECT are not all among the filters.
    unfiltered: bool,
    /// By the first token of a reference: conjuncts that it must satisfy, as ranges of tokens.
    filters: HashMap<usize, Vec<Range<usize>>>,
    ctes: HashSet<String>,
    /// A row is mentioned as a whole somewhere.
    whole_rows: bool,
    /// A reference is of a kind that cannot be replaced.
    unclear: bool,
    /// Asks how a value is stored, which a value that has travelled does not tell.
    tells_storage: bool,
    /// Mentions of sharded and single tables.
    mentions: usize,
}

impl Visitor for Walk<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            let names = with.cte_tables.iter().map(|cte| folded(&cte.alias.name));
            self.ctes.extend(names);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.whole_rows |= select.projection.iter().any(|item| match item {
            SelectItem::QualifiedWildcard(..) | SelectItem::Wildcard(_) => true,
            SelectItem::UnnamedExpr(_)
            | SelectItem::ExprWithAlias { .. }
            | SelectItem::ExprWithAliases { .. } => false,
        });
        self.whole_rows |= select.from.iter().any(is_natural);
        let start = self.input.parsed.offset(select.select_token.0.span.start);
        let start = start.and_then(|start| self.token_from(start));
        self.take_filters(&select.from, select.selection.as_ref(), start);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
            } => {
                self.unclear |=
                    !(with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty());
                self.take_table(name, alias.as_ref());
            }
            TableFactor::Table { args: None, .. } => self.unclear = true,
            // Its alias means rows with all columns of the joined tables.
            TableFactor::NestedJoin { alias: Some(_), .. } => self.whole_rows = true,
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => self.whole_rows = true,
            Expr::Function(function) => {
                let (_, name) = object_name(&function.name).unwrap_or_default();
                self.tells_storage |=
                    matches!(name.as_str(), "pg_column_size" | "pg_column_compression");
                if let FunctionArguments::List(list) = &function.args {
                    let is_row = |arg: &FunctionArg| {
                        matches!(
                            arg,
                            FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(_))
                        )
                    };
                    self.whole_rows |= list.args.iter().any(is_row);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn is_natural(item: &TableWithJoins) -> bool {
    let constraint = |operator: &JoinOperator| match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint) => Some(constraint.clone()),
        _ => None,
    };
    let nested = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin {
            table_with_joins, ..
        } => is_natural(table_with_joins),
        _ => false,
    };
    nested(&item.relation)
        || item.joins.iter().any(|join| {
            nested(&join.relation)
                || matches!(
                    constraint(&join.join_operator),
                    Some(JoinConstraint::Natural)
                )
        })
}

impl<'a> Walk<'a> {
    fn new(at: Option<ShardId>, input: Input<'a>) -> Self {
        Self {
            input,
            at,
            target: None,
            unfiltered: false,
            references: Vec::new(),
            filters: HashMap::new(),
            ctes: HashSet::new(),
            whole_rows: false,
            unclear: false,
            tells_storage: false,
            mentions: 0,
        }
    }

    /// # Errors
    /// Not all tables were found where their rows can replace them; `refusal` where no more is known.
    fn check(&self, facts: &Facts<'_>, refusal: Refusal) -> Result<(), Refusal> {
        if self.tells_storage {
            return Err(refuse::tells_storage());
        }
        let hidden = self.references.iter().any(|reference| {
            reference.dotted.is_none() && self.ctes.contains(&reference.table.name)
        });
        let all = facts.sharded().count() + facts.singles().count();
        if self.unclear || hidden || self.mentions != all || self.references.is_empty() {
            return Err(refusal);
        }
        Ok(())
    }

    fn take_table(&mut self, name: &ObjectName, alias: Option<&TableAlias>) {
        let Some((schema, base)) = object_name(name) else {
            self.unclear = true;
            return;
        };
        let Some(table) = self.input.catalog.table(schema.as_deref(), &base) else {
            return;
        };
        let gathered = match table.class {
            TableClass::Sharded { .. } => true,
            TableClass::Single(shard) => Some(shard) != self.at,
            TableClass::Reference => return,
            TableClass::Undeclared => {
                self.unclear = true;
                return;
            }
        };
        self.mentions += 1;
        let Some(tokens) = self.tokens_of(name) else {
            self.unclear = true;
            return;
        };
        if self.target == Some(tokens.start) {
            return;
        }
        let before = tokens.start.checked_sub(1);
        if gathered && before.is_some_and(|at| self.input.source.is(at, "only")) {
            self.unclear = true;
            return;
        }
        if gathered {
            self.references.push(Reference {
                table,
                tokens,
                alias: alias.map(|alias| folded(&alias.name)),
                renamed: alias.is_some_and(|alias| !alias.columns.is_empty()),
                dotted: schema,
            });
        }
    }

    /// The tokens of a name, if they are what the tree says.
    fn tokens_of(&self, name: &ObjectName) -> Option<Range<usize>> {
        let idents: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let first = self.token_at(idents.first()?)?;
        let source = self.input.source;
        for (at, ident) in idents.iter().enumerate() {
            let token = first + 2 * at;
            let joined = at == 0 || source.text(source.tokens.get(token - 1)?) == ".";
            if !joined || source.name(token)? != folded(ident) {
                return None;
            }
        }
        let end = first + 2 * idents.len() - 1;
        let goes_on = source
            .tokens
            .get(end)
            .is_some_and(|token| source.text(token) == ".");
        (!goes_on).then_some(first..end)
    }

    fn token_at(&self, ident: &Ident) -> Option<usize> {
        self.token_from(self.input.parsed.offset(ident.span.start)?)
    }

    fn token_from(&self, offset: usize) -> Option<usize> {
        let tokens = &self.input.source.tokens;
        tokens
            .binary_search_by_key(&offset, |token| token.range.start)
            .ok()
    }

    /// Keeps, for each table in this FROM, the conjuncts of its WHERE that speak of nothing else. `start` is
    /// the first token of what they are of.
    fn take_filters(
        &mut self,
        from: &[TableWithJoins],
        selection: Option<&Expr>,
        start: Option<usize>,
    ) {
        let conjuncts = start.zip(selection);
        let conjuncts = conjuncts.and_then(|(start, selection)| self.conjuncts(selection, start));
        let Some(conjuncts) = conjuncts else {
            self.unfiltered |= selection.is_some();
            return;
        };
        let clauses = Clauses::new(from, selection, self.input);
        let mut factors = Vec::new();
        for item in from {
            in_order(item, &mut factors);
        }
        let mut spoken_of: HashMap<usize, Vec<Range<usize>>> = HashMap::new();
        for (range, expr) in &conjuncts {
            if let Some(reference) = self.speaks_of(expr, &clauses) {
                spoken_of.entry(reference).or_default().push(range.clone());
            }
        }
        for (reference, factor) in factors.into_iter().enumerate() {
            let TableFactor::Table { name, .. } = factor else {
                continue;
            };
            let Some(tokens) = self.tokens_of(name) else {
                continue;
            };
            // A row that is made up where an outer join finds none must not come to be.
            if !clauses.is_kept(reference) {
                continue;
            }
            let own = spoken_of.remove(&reference).unwrap_or_default();
            self.unfiltered |= own.len() < conjuncts.len();
            self.filters.entry(tokens.start).or_default().extend(own);
        }
    }

    /// The reference on one row of which `expr` depends, if it depends on nothing else.
    fn speaks_of(&self, expr: &Expr, clauses: &Clauses<'_>) -> Option<usize> {
        let mut mentioned = None;
        let visited = visit_expressions(expr, |part| {
            let alone = match part {
                Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => false,
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                    let column = clauses.scope.column(part);
                    column.is_some_and(|(of, name)| {
                        let table = clauses.scope.references[of].table;
                        let known = table.is_some_and(|table| {
                            table.columns.iter().any(|column| column.name == name)
                        });
                        known && *mentioned.get_or_insert(of) == of
                    })
                }
                Expr::Function(function) => {
                    let (_, name) = object_name(&function.name).unwrap_or_default();
                    let args = !matches!(function.args, FunctionArguments::Subquery(_));
                    let calls = !matches!(function.args, FunctionArguments::None);
                    args && function.over.is_none()
                        && !(calls && functions::is_volatile(&name, self.input.catalog))
                }
                _ => true,
            };
            match alone {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        mentioned.filter(|_| visited.is_continue())
    }

    /// The conjuncts of WHERE with their tokens; `None` when text and tree do not agree.
    fn conjuncts<'e>(
        &self,
        selection: &'e Expr,
        start: usize,
    ) -> Option<Vec<(Range<usize>, &'e Expr)>> {
        let mut exprs = Vec::new();
        conjuncts_of(selection, &mut exprs);
        let ranges = layout::conjuncts(self.input.source, start)?;
        (ranges.len() == exprs.len()).then(|| ranges.into_iter().zip(exprs).collect())
    }

    fn gather(mut self) -> Gather {
        self.references
            .sort_by_key(|reference| reference.tokens.start);
        self.whole_rows |= self.mentions_row();
        let mentioned: HashSet<String> = (0..self.input.source.tokens.len())
            .filter_map(|token| self.input.source.name(token))
            .collect();
        // With their places among them.
        let mut sources: HashMap<Source, usize> = HashMap::new();
        let mut finish = Vec::new();
        let source_text = self.input.source;
        let mut from = 0;
        for reference in &self.references {
            let source = self.source(reference, &mentioned);
            let row_type = source.row_type.clone();
            let next = sources.len();
            let index = *sources.entry(source).or_insert(next);
            let (start, end) = source_text.places(reference.tokens.clone());
            finish.push(TextPiece::Original(from..start));
            finish.push(TextPiece::Added("pg_catalog.unnest(".into()));
            finish.push(TextPiece::Rows(index));
            let alias = match reference.alias {
                Some(_) => String::new(),
                None => format!(" AS {}", quoted(&reference.table.name)),
            };
            finish.push(TextPiece::Added(format!("::{row_type}[]){alias}")));
            from = end;
        }
        let whole = source_text.shape_offset(source_text.sql.len());
        finish.push(TextPiece::Original(from..whole));
        let mut sources: Vec<_> = sources.into_iter().collect();
        sources.sort_unstable_by_key(|(_, index)| *index);
        Gather {
            sources: sources.into_iter().map(|(source, _)| source).collect(),
            finish,
            at: self.at,
            params: source_text.params(),
        }
    }

    fn source(&self, reference: &Reference<'_>, mentioned: &HashSet<String>) -> Source {
        let table = reference.table;
        let row_type = format!("{}.{}", quoted(&table.schema), quoted(&table.name));
        let alias = quoted(&reference.name());
        let all = self.whole_rows || reference.renamed;
        let columns = table.columns.iter().map(|column| {
            let needed = all || column.is_domain || mentioned.contains(&column.name);
            match needed {
                true => format!("{alias}.{}", quoted(&column.name)),
                false => "NULL".to_owned(),
            }
        });
        let row = format!(
            "ROW({})::{row_type}",
            columns.collect::<Vec<_>>().join(", ")
        );
        // As the client writes it: under a search_path of its session's own it may be unknown.
        let tokens = &self.input.source.tokens[reference.tokens.clone()];
        let written = tokens.first().zip(tokens.last());
        let written = written.and_then(|(first, last)| {
            let range = first.range.start..last.range.end;
            self.input.source.sql.get(range)
        });
        let written = written.unwrap_or(&row_type);
        let mut from = vec![TextPiece::Added(format!(" FROM {written} AS {alias}"))];
        let own = self.filters.get(&reference.tokens.start);
        for (at, range) in own.into_iter().flatten().enumerate() {
            let joint = if at == 0 { " WHERE (" } else { " AND (" };
            from.push(TextPiece::Added(joint.into()));
            let (start, end) = self.input.source.places(range.clone());
            from.push(TextPiece::Original(start..end));
            from.push(TextPiece::Added(")".into()));
        }
        Source {
            row_type,
            row,
            from,
            on: match table.class {
                TableClass::Single(shard) => Some(shard),
                TableClass::Sharded { .. } | TableClass::Reference | TableClass::Undeclared => None,
            },
        }
    }

    /// Is the name of a reference used other than before a dot and a column of it, outside of FROM?
    fn mentions_row(&self) -> bool {
        let source = self.input.source;
        let text = |token: usize| {
            source
                .tokens
                .get(token)
                .map_or("", |token| source.text(token))
        };
        let mut by_name: HashMap<String, Vec<&Table>> = HashMap::new();
        for reference in &self.references {
            let named = by_name.entry(reference.name()).or_default();
            // Of many mentions of a table one is enough.
            if named
                .last()
                .is_none_or(|last| !std::ptr::eq(*last, reference.table))
            {
                named.push(reference.table);
            }
        }
        let in_from = self.tokens_in_from();
        (0..source.tokens.len()).any(|token| {
            let named = source.name(token).and_then(|name| by_name.get(&name));
            let Some(named) = named.filter(|_| !in_from.contains(&token)) else {
                return false;
            };
            let column = source.name(token + 2).filter(|_| text(token + 1) == ".");
            !column.is_some_and(|column| {
                named
                    .iter()
                    .all(|table| table.columns.iter().any(|known| known.name == column))
            })
        })
    }

    /// The tokens of all references, and of the aliases behind them.
    fn tokens_in_from(&self) -> HashSet<usize> {
        let tokens = self.references.iter().flat_map(|reference| {
            let end = reference.tokens.end;
            let behind = match reference.alias {
                Some(_) => end + usize::from(self.input.source.is(end, "as")) + 1,
                None => end,
            };
            reference.tokens.start..behind
        });
        tokens.collect()
    }
}

impl Reference<'_> {
    /// What its columns are qualified with.
    fn name(&self) -> String {
        self.alias
            .clone()
            .unwrap_or_else(|| self.table.name.clone())
    }
}

/// The tables of FROM in the order in which [`Clauses`] counts them.
fn in_order<'e>(item: &'e TableWithJoins, factors: &mut Vec<&'e TableFactor>) {
    let joined = item.joins.iter().map(|join| &join.relation);
    for factor in std::iter::once(&item.relation).chain(joined) {
        match factor {
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => in_order(table_with_joins, factors),
            _ => factors.push(factor),
        }
    }
}

fn conjuncts_of<'e>(expr: &'e Expr, found: &mut Vec<&'e Expr>) {
    match expr {
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

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
