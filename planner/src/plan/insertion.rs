//! INSERT from a query whose rows are gathered first: the query is planned by itself, and what is around
//! it has to mean the same on each shard.

use std::ops::Range;

use sqlparser::ast::{
    Expr, Insert, OnInsert, Query, Select, SelectItem, SetExpr, Statement, Value,
};

use super::dml::{inserted_part, keys_of_rows};
use super::facts::{self, Facts, Input};
use super::gather::quoted;
use super::guarded;
use super::ids;
use super::optimizable;
use super::parse::{Parsed, Source};
use super::query::{Decision, refused};
use super::refuse;
use crate::catalog::{ColumnDefault, ShardKey, Table, TableClass};
use crate::insertion::{
    ColumnList, Destination, Drawn, Insertion, Item, OwnerColumn, Owners, Place,
};
use crate::lexer::Kind;
use crate::limit::{KeyValue, Part};
use crate::plan::{self, Access, Many, Plan, SessionEffect, Target};
use crate::refusal::Refusal;
use crate::route::ValueRef;

/// Is it only where its rows are that keeps the statement from running?
pub(super) fn may_gather(insert: &Insert, table: &Table, facts: &Facts<'_>) -> bool {
    let from_query = insert.source.as_deref().is_some_and(is_no_list);
    let drawn = facts.sequences && matches!(table.class, TableClass::Sharded(_));
    from_query
        && !drawn
        && facts.undeclared().is_none()
        && facts.unknown.is_empty()
        && facts.writes == 1
}

fn is_no_list(query: &Query) -> bool {
    match query.body.as_ref() {
        SetExpr::Values(_) => false,
        SetExpr::Query(inner) => is_no_list(inner),
        _ => true,
    }
}

pub(super) fn on_all(many: Many) -> Decision {
    match many {
        Many::Refused(refusal) => refused(refusal),
        many => (
            Target::AllShards(many),
            "rows of the query may belong to other shards, so they are gathered first".into(),
        ),
    }
}

/// How rows tell their shard. `positions` are those of the key's columns among the columns inserted.
pub(super) fn owners(table: &Table, key: &ShardKey, positions: &[usize]) -> Destination {
    let columns = key.columns.iter().zip(positions);
    let columns = columns.map(|(column, position)| OwnerColumn {
        name: format!("{}.{}", table.name, column.name),
        place: Place::At(*position),
        key_type: column.key_type,
    });
    let part = |(index, column)| Part {
        column: inserted_part(table, column),
        values: vec![KeyValue::One(ValueRef::Param(index))],
    };
    let parts = key.columns.iter().enumerate().map(part);
    Destination::Owners(Owners {
        key: keys_of_rows(table, key, parts.collect()),
        columns: columns.collect(),
        rejects_null: false,
    })
}

/// What to do with an INSERT whose rows may belong anywhere.
pub(super) fn many(
    insert: &Insert,
    table: &Table,
    destination: Destination,
    facts: &Facts<'_>,
    input: Input<'_>,
) -> Many {
    // With one shard nothing has to be brought anywhere.
    if !input.catalog.is_sharded() {
        return Many::Refused(refuse::insert_select(&table.name));
    }
    let planned = gathered(insert, table, destination, facts, input);
    planned.map_or_else(Many::Refused, |insertion| Many::Insert(Box::new(insertion)))
}

fn gathered(
    insert: &Insert,
    table: &Table,
    destination: Destination,
    facts: &Facts<'_>,
    input: Input<'_>,
) -> Result<Insertion, Refusal> {
    let unclear = || {
        refuse::insert_gathered(
            &table.name,
            "It is not clear from its text where the query begins and ends.",
        )
    };
    if !may_gather(insert, table, facts) {
        return Err(refuse::insert_select(&table.name));
    }
    if facts.system_tables {
        return Err(refuse::insert_gathered(
            &table.name,
            "It reads system tables, and those of each shard tell of that shard.",
        ));
    }
    let query = insert.source.as_deref().ok_or_else(unclear)?;
    let (list, tokens) = query_tokens(insert, input.source).ok_or_else(unclear)?;
    check_rest(insert, table, &destination, tokens.end, input)?;

    let is_it = |read: &Query| *read == *query;
    let Read { plan, place, items } =
        read(tokens, "", is_it, input).map_err(|unread| match unread {
            Unread::Unclear => unclear(),
            Unread::Refused(refusal) => refusal,
            Unread::Writes => refuse::insert_gathered(
                &table.name,
                "Its query may do more than read: it locks rows, or calls what may write.",
            ),
        })?;
    let drawn = ids::left_out(insert, table, input.catalog).map(|left| Drawn {
        column: quoted(left.column),
        position: left.position,
        list: match list {
            Some(close) => {
                let close = input.source.tokens[close].range.start;
                ColumnList::Written(input.source.shape_offset(close))
            }
            None => {
                let before = table.columns.iter().take(left.position);
                ColumnList::Lacking(before.map(|known| quoted(&known.name)).collect())
            }
        },
    });
    Ok(Insertion {
        plan,
        query: place,
        items,
        destination,
        drawn,
        merging: None,
    })
}

/// A query that is a part of the text, planned by itself.
pub(super) struct Read {
    pub(super) plan: Plan,
    pub(super) place: Range<usize>,
    pub(super) items: Vec<Item>,
}

/// Why a part of the text cannot be read.
pub(super) enum Unread {
    Unclear,
    Refused(Refusal),
    /// It may do more than read.
    Writes,
}

/// The query that `before` and some tokens of the text are, if it is what the tree has there.
pub(super) fn read(
    tokens: Range<usize>,
    before: &str,
    is_it: impl Fn(&Query) -> bool,
    input: Input<'_>,
) -> Result<Read, Unread> {
    let first = input.source.tokens[tokens.start].range.start;
    let last = input.source.tokens[tokens.end - 1].range.end;
    let text = input.source.sql.get(first..last).ok_or(Unread::Unclear)?;
    let text = format!("{before}{text}");
    let source = Source::new(&text);
    let parsed = source.parse().ok_or(Unread::Unclear)?;
    let [Statement::Query(read)] = parsed.statements.as_slice() else {
        return Err(Unread::Unclear);
    };
    let moved = |at: usize| at - first + before.len();
    let pieces = input.source.pieces.iter();
    let pieces = pieces.filter(|piece| first <= piece.range.start && piece.range.end <= last);
    let lifted = pieces.map(|piece| moved(piece.range.start)..moved(piece.range.end));
    let alike = source
        .pieces
        .iter()
        .map(|piece| piece.range.clone())
        .eq(lifted);
    if !is_it(read) || !alike {
        return Err(Unread::Unclear);
    }
    let plan = guarded(
        optimizable(&source, input.catalog, input.options),
        &source,
        input.catalog,
        input.options,
    );
    if let Target::Refused(refusal) = plan.target {
        return Err(Unread::Refused(refusal));
    }
    let reads = plan.statement == plan::Statement::Query
        && plan.access == Access::Read
        && plan.effect == SessionEffect::None;
    if !reads {
        return Err(Unread::Writes);
    }
    let (start, end) = input.source.places(tokens);
    Ok(Read {
        plan,
        place: start..end,
        items: items(read, &source, &parsed, &|offset| {
            input.source.shape_offset(first + offset - before.len())
        }),
    })
}

/// The clauses behind the query run on each shard by themselves.
fn check_rest(
    insert: &Insert,
    table: &Table,
    destination: &Destination,
    behind: usize,
    input: Input<'_>,
) -> Result<(), Refusal> {
    let rest = Insert {
        source: None,
        ..insert.clone()
    };
    let facts = facts::of_part(&Statement::Insert(rest), input);
    let others = facts.tables.len() != 1;
    let may_read = !matches!(destination, Destination::Everywhere);
    let spread = facts
        .tables
        .iter()
        .filter(|read| read.class != TableClass::Reference)
        .count();
    let written = usize::from(table.class != TableClass::Reference);
    if facts.opaque || facts.system_tables || others && !may_read || spread != written {
        return Err(refuse::insert_gathered(
            &table.name,
            "ON CONFLICT or RETURNING reads tables whose rows other shards may have.",
        ));
    }
    match destination {
        Destination::One(_) => Ok(()),
        Destination::Owners(_) if facts.sequences => Err(refuse::sequence_on_sharded(&table.name)),
        Destination::Owners(_) => Ok(()),
        Destination::Everywhere => {
            const WORDS: [&str; 4] = ["ctid", "xmin", "tableoid", "tablesample"];
            let tokens = behind..input.source.tokens.len();
            let has = |word: &str| tokens.clone().any(|at| input.source.is(at, word));
            let computed =
                |column: &crate::catalog::TableColumn| column.default != ColumnDefault::Constant;
            let defaults = has("default") && table.columns.iter().any(computed);
            match facts.differs_by_server || defaults || WORDS.iter().any(|word| has(word)) {
                true => Err(refuse::volatile_on_reference(&table.name)),
                false => Ok(()),
            }
        }
    }
}

/// The token that closes the list of columns, and those of the query: `INSERT INTO table [AS alias]
/// [(columns)] query [ON CONFLICT …] [RETURNING …]`.
fn query_tokens(insert: &Insert, source: &Source<'_>) -> Option<(Option<usize>, Range<usize>)> {
    let text = |at: usize| source.tokens.get(at).map_or("", |token| source.text(token));
    if !source.are(0, &["insert", "into"]) {
        return None;
    }
    let mut at = 3;
    while text(at) == "." {
        at += 2;
    }
    if source.is(at, "as") {
        at += 2;
    }
    let begins = |at: usize| {
        ["select", "with", "table"]
            .iter()
            .any(|word| source.is(at, word))
            || text(at) == "("
    };
    let mut list = None;
    if text(at) == "(" && !begins(at + 1) {
        let close = closing(source, at)?;
        list = Some(close);
        at = close + 1;
    }
    if !begins(at) {
        return None;
    }
    let start = at;
    let mut depth = 0_usize;
    let mut end = source.tokens.len();
    let mut conflict = None;
    for at in start..source.tokens.len() {
        match source.tokens[at].kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.checked_sub(1)?,
            Kind::Semicolon if depth == 0 => {
                end = at;
                break;
            }
            Kind::Word if depth == 0 && source.are(at, &["on", "conflict"]) => conflict = Some(at),
            // A name behind AS or a dot is none.
            Kind::Word
                if depth == 0
                    && source.is(at, "returning")
                    && !source.is(at - 1, "as")
                    && text(at - 1) != "." =>
            {
                end = at;
                break;
            }
            _ => {}
        }
    }
    let has_returning = source.is(end, "returning");
    if has_returning != insert.returning.is_some() {
        return None;
    }
    match &insert.on {
        Some(OnInsert::OnConflict(_)) => end = conflict?,
        Some(_) => return None,
        None => {}
    }
    (start < end).then_some((list, start..end))
}

/// The token that closes the parenthesis at `open`.
fn closing(source: &Source<'_>, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    (open..source.tokens.len()).find(|at| {
        match source.tokens[*at].kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    })
}

/// What the query returns. Of several stars it is not known which columns are whose, so that nothing is
/// written again.
fn items(
    query: &Query,
    source: &Source<'_>,
    parsed: &Parsed,
    place: &dyn Fn(usize) -> usize,
) -> Vec<Item> {
    let Some(select) = select_of(query) else {
        return vec![Item::Star];
    };
    let items = select.projection.iter().map(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            match given(expr, source, parsed) {
                Some(range) => Item::Given(place(range.start)..place(range.end)),
                None => Item::Column,
            }
        }
        SelectItem::ExprWithAliases { .. }
        | SelectItem::QualifiedWildcard(..)
        | SelectItem::Wildcard(_) => Item::Star,
    });
    let items: Vec<Item> = items.collect();
    match items.iter().filter(|item| **item == Item::Star).count() {
        0 | 1 => items,
        _ => vec![Item::Star],
    }
}

fn select_of(query: &Query) -> Option<&Select> {
    match query.body.as_ref() {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(inner) => select_of(inner),
        _ => None,
    }
}

/// The text of what has no type of its own.
fn given(expr: &Expr, source: &Source<'_>, parsed: &Parsed) -> Option<Range<usize>> {
    let value = match expr {
        Expr::Nested(inner) => return given(inner, source, parsed),
        Expr::Value(value) => value,
        _ => return None,
    };
    let untyped = matches!(
        value.value,
        Value::SingleQuotedString(_)
            | Value::EscapedStringLiteral(_)
            | Value::UnicodeStringLiteral(_)
            | Value::DollarQuotedString(_)
            | Value::Placeholder(_)
            | Value::Null
    );
    let start = parsed.offset(value.span.start).filter(|_| untyped)?;
    let token = source
        .tokens
        .iter()
        .find(|token| token.range.start == start)?;
    Some(token.range.clone())
}
