//! Which ids a statement takes: calls of `ringway.next_id()`, and columns with an id for default.
//!
//! PostgreSQL would call a volatile function once per row. A constant in the text stands for one
//! call, so only those calls are replaced that run exactly once: items of a SELECT without FROM,
//! and values in the rows of VALUES. A row that is alone may hold functions that return several
//! rows, so there such functions are refused beside an id.

use std::collections::HashSet;
use std::ops::{ControlFlow, Range};

use sqlparser::ast::{Insert, ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, TableObject};
use sqlparser::ast::{Statement as Ast, Visit, Visitor};

use super::dml::is_default;
use super::parse::{Parsed, Source};
use super::scope::{folded, object_name};
use super::{refuse, unread, utility};
use crate::catalog::{Catalog, Table};
use crate::ids::{Ids, Piece};
use crate::lexer::Kind;
use crate::plan::{Access, Plan, SessionEffect, Statement, Target};
use crate::refusal::Refusal;

/// `ringway . next_id ( )`
const CALL_TOKENS: usize = 5;

/// Functions of PostgreSQL's that return several rows, beside those that begin with `pg_`.
const SETS: &str = "_pg_expandarray aclexplode generate_series generate_subscripts \
    json_array_elements json_array_elements_text json_each json_each_text json_object_keys \
    json_populate_recordset json_to_recordset jsonb_array_elements jsonb_array_elements_text \
    jsonb_each jsonb_each_text jsonb_object_keys jsonb_path_query jsonb_path_query_tz \
    jsonb_populate_recordset jsonb_to_recordset regexp_matches regexp_split_to_table \
    string_to_table ts_debug ts_parse ts_stat ts_token_type txid_snapshot_xip unnest";

/// Text in the place of a range of bytes, with or without an id in it.
struct Edit {
    range: Range<usize>,
    before: String,
    id: bool,
    after: &'static str,
}

/// The plan of a text that takes ids; `None` for one that takes none, and on an unsharded database
/// for a call that cannot be replaced, since PostgreSQL may have a function of that name.
pub(super) fn plan(source: &Source<'_>, catalog: &Catalog) -> Option<Plan> {
    // Each statement of several is planned by itself.
    if source.multiple {
        return None;
    }
    let calls = calls(source);
    let inserts = catalog.has_default_ids() && source.has("insert");
    if calls.is_empty() && !inserts {
        return None;
    }
    let (statement, access, edits) = match edits(source, catalog, &calls) {
        Ok((_, edits)) if edits.is_empty() => return None,
        Ok((Statement::Query, edits)) => (Statement::Query, Access::Read, Ok(edits)),
        Ok((statement, edits)) => (statement, Access::Write, Ok(edits)),
        Err(refusal) if !catalog.is_sharded() && !refusal.everywhere => return None,
        Err(refusal) => (Statement::Other, Access::Primary, Err(refusal)),
    };
    let target = match edits {
        Ok(edits) => Target::Ids(Box::new(ids(source, edits))),
        Err(refusal) => Target::Refused(refusal),
    };
    Some(Plan {
        statement,
        access,
        effect: SessionEffect::None,
        target,
        reason: "it is planned once its ids are drawn".into(),
    })
}

/// The first tokens of each call.
fn calls(source: &Source<'_>) -> Vec<usize> {
    let kind = |at: usize| source.tokens.get(at).map(|token| token.kind);
    let is_dot = |at: usize| {
        let token = source.tokens.get(at);
        token.is_some_and(|token| token.kind == Kind::Other && source.text(token) == ".")
    };
    let is_call = |at: &usize| {
        let at = *at;
        kind(at + 3) == Some(Kind::Open)
            && kind(at + 4) == Some(Kind::Close)
            && is_dot(at + 1)
            && !at.checked_sub(1).is_some_and(is_dot)
            && source.name(at).as_deref() == Some("ringway")
            && source.name(at + 2).as_deref() == Some("next_id")
    };
    (0..source.tokens.len()).filter(is_call).collect()
}

type Edits = (Statement, Vec<Edit>);

fn edits(source: &Source<'_>, catalog: &Catalog, calls: &[usize]) -> Result<Edits, Refusal> {
    if !calls.is_empty() && source.is(0, "select") {
        return Ok((Statement::Query, selected(source, calls)?));
    }
    // What is inside of them is planned by itself.
    if source.is(0, "explain") || source.is(0, "prepare") {
        return Ok((Statement::Other, Vec::new()));
    }
    if utility::is_utility(source) {
        return match calls.is_empty() {
            true => Ok((Statement::Other, Vec::new())),
            false => Err(refuse::next_id_here()),
        };
    }
    let parsed = source.parse();
    if parsed.is_none()
        && let Some(refusal) = unread_insert(source, catalog)
    {
        return Err(refusal);
    }
    let insert = parsed.as_ref().and_then(|parsed| {
        let [statement] = parsed.statements.as_slice() else {
            return None;
        };
        hidden_insert(statement, catalog).map_or_else(
            || match statement {
                Ast::Insert(insert) => Some(inserted(insert, source, parsed, catalog, calls)),
                _ => None,
            },
            |refusal| Some(Err(refusal)),
        )
    });
    match insert {
        Some(edits) => Ok((Statement::Insert, edits?)),
        None if calls.is_empty() => Ok((Statement::Other, Vec::new())),
        None => Err(refuse::next_id_here()),
    }
}

/// What is said of a text that could not be read, unless it inserts nothing that needs an id.
fn unread_insert(source: &Source<'_>, catalog: &Catalog) -> Option<Refusal> {
    let with_id = |table| Some((table, catalog.default_id(table)?));
    let named = unread::tables(source, catalog);
    let (table, column) = named.into_iter().find_map(with_id)?;
    let refusal = Some(refuse::default_id_unclear(&table.name, column));
    let into = |at| unread::named_table(source, catalog, at).and_then(with_id);
    if !source.are(0, &["insert", "into"]) || source.has("default") {
        return refusal;
    }
    let kind = |at: usize| source.tokens.get(at).map(|token| token.kind);
    let open = (3..source.tokens.len()).find(|at| kind(*at) == Some(Kind::Open));
    let columns = open.map_or(0..0, |open| {
        let inside = |at: &usize| kind(*at).is_some_and(|kind| kind != Kind::Close);
        open + 1..open + 1 + (open + 1..).take_while(inside).count()
    });
    let is_given = |(_, column): (&Table, &str)| {
        columns
            .clone()
            .any(|at| source.name(at).as_deref() == Some(column))
    };
    refusal.filter(|_| !into(2).is_some_and(is_given))
}

/// The edits that replace `calls`, each with what is written after it.
fn replaced(source: &Source<'_>, call: usize, after: &'static str) -> Edit {
    let start = source.tokens[call].range.start;
    let end = source.tokens[call + CALL_TOKENS - 1].range.end;
    let bytes = source.sql.as_bytes();
    let joins = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || *byte == b'_';
    Edit {
        range: start..end,
        before: String::new(),
        id: true,
        after: match bytes.get(end) {
            Some(byte) if after.is_empty() && joins(byte) => " ",
            Some(_) | None => after,
        },
    }
}

/// `SELECT ringway.next_id() [AS name] [, …]` and nothing else.
fn selected(source: &Source<'_>, calls: &[usize]) -> Result<Vec<Edit>, Refusal> {
    let kind = |at: usize| source.tokens.get(at).map(|token| token.kind);
    let mut edits = Vec::with_capacity(calls.len());
    let mut at = 1;
    for call in calls {
        if *call != at {
            return Err(refuse::next_id_here());
        }
        at += CALL_TOKENS;
        let named = source.is(at, "as") && source.name(at + 1).is_some();
        // The name that PostgreSQL gives to a column of the function.
        edits.push(replaced(
            source,
            *call,
            if named { "" } else { " AS next_id" },
        ));
        at += if named { 2 } else { 0 };
        at += usize::from(kind(at) == Some(Kind::Comma));
    }
    let ends = kind(at.wrapping_sub(1)) != Some(Kind::Comma)
        && (at..source.tokens.len()).all(|at| kind(at) == Some(Kind::Semicolon));
    match ends {
        true => Ok(edits),
        false => Err(refuse::next_id_here()),
    }
}

/// An INSERT inside of another statement that leaves out a column with an id for default.
fn hidden_insert(statement: &Ast, catalog: &Catalog) -> Option<Refusal> {
    struct Inserts<'a> {
        catalog: &'a Catalog,
        depth: usize,
        found: Option<Refusal>,
    }
    impl Visitor for Inserts<'_> {
        type Break = ();
        fn pre_visit_statement(&mut self, statement: &Ast) -> ControlFlow<()> {
            self.depth += 1;
            if let Ast::Insert(insert) = statement
                && self.depth > 1
                && let Some((table, column)) = with_default(insert, self.catalog)
                && !(position(insert, table, column).is_some() && has_no_default(insert))
            {
                self.found = Some(refuse::default_id_inside(&table.name, column));
            }
            ControlFlow::Continue(())
        }
    }
    let mut inserts = Inserts {
        catalog,
        depth: 0,
        found: None,
    };
    let _ = statement.visit(&mut inserts);
    inserts.found
}

/// No value in its rows is the word DEFAULT, and it names its columns.
fn has_no_default(insert: &Insert) -> bool {
    let Some(source) = &insert.source else {
        return false;
    };
    let rows = match source.body.as_ref() {
        SetExpr::Values(values) => values.rows.as_slice(),
        _ => &[],
    };
    !insert.columns.is_empty() && !rows.iter().flat_map(|row| &row.content).any(is_default)
}

fn with_default<'a>(insert: &Insert, catalog: &'a Catalog) -> Option<(&'a Table, &'a str)> {
    let TableObject::TableName(name) = &insert.table else {
        return None;
    };
    let (schema, name) = object_name(name)?;
    let table = catalog.table(schema.as_deref(), &name)?;
    Some((table, catalog.default_id(table)?))
}

/// Where the column stands among those of the INSERT.
fn position(insert: &Insert, table: &Table, column: &str) -> Option<usize> {
    if insert.columns.is_empty() {
        return table.columns.iter().position(|known| known.name == column);
    }
    let is_it = |name: &ObjectName| {
        object_name(name).is_some_and(|(of, name)| of.is_none() && name == column)
    };
    insert.columns.iter().position(is_it)
}

/// A column with an id for default that an INSERT from a query leaves out, or may leave out.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeftOut<'a> {
    pub(super) column: &'a str,
    /// Its place among the columns that are inserted: the query may have so many.
    pub(super) position: usize,
}

pub(super) fn left_out<'a>(
    insert: &Insert,
    table: &Table,
    catalog: &'a Catalog,
) -> Option<LeftOut<'a>> {
    let query = insert.source.as_deref().filter(|query| is_query(query))?;
    let column = catalog.default_id(table)?;
    let place = position(insert, table, column);
    let position = match (place, insert.columns.len()) {
        (Some(place), 0) => {
            // The first is surely there.
            let given = columns_of(&query.body).map_or(place == 0, |count| place < count);
            (!given).then_some(place)?
        }
        (None, listed @ 1..) => listed,
        (Some(_), _) | (None, 0) => return None,
    };
    Some(LeftOut { column, position })
}

fn is_query(query: &Query) -> bool {
    !matches!(query.body.as_ref(), SetExpr::Values(_))
}

/// How many columns it returns, where its text tells.
pub(super) fn columns_of(body: &SetExpr) -> Option<usize> {
    match body {
        SetExpr::Select(select) => {
            let is_one = |item: &SelectItem| {
                matches!(
                    item,
                    SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }
                )
            };
            let all = &select.projection;
            all.iter().all(is_one).then_some(all.len())
        }
        SetExpr::Query(inner) => columns_of(&inner.body),
        SetExpr::SetOperation { left, .. } => columns_of(left),
        _ => None,
    }
}

fn inserted(
    insert: &Insert,
    source: &Source<'_>,
    parsed: &Parsed,
    catalog: &Catalog,
    calls: &[usize],
) -> Result<Vec<Edit>, Refusal> {
    let rows = rows_of(insert, parsed);
    let mut edits = Vec::new();
    let mut with_ids = HashSet::new();
    for call in calls {
        let at = source.tokens[*call].range.start;
        let row = rows.partition_point(|row| row.end <= at);
        let is_inside = rows.get(row).is_some_and(|row| row.contains(&at));
        if !is_inside {
            return Err(refuse::next_id_here());
        }
        with_ids.insert(row);
        edits.push(replaced(source, *call, ""));
    }
    if let Some((table, column)) = with_default(insert, catalog) {
        if insert.source.as_deref().is_some_and(is_query) {
            return match left_out(insert, table, catalog) {
                Some(_) if !catalog.is_sharded() => {
                    Err(refuse::default_id_unclear(&table.name, column))
                }
                // Each row gets one as it comes.
                Some(_) | None => Ok(edits),
            };
        }
        let by_default = defaults(insert, source, parsed, (table, column), &rows)?;
        if !by_default.is_empty() {
            with_ids.extend(0..rows.len());
        }
        edits.extend(by_default);
    }
    let alone = rows.len() == 1;
    let mut given = rows
        .iter()
        .enumerate()
        .filter(|(at, _)| with_ids.contains(at));
    if !given.all(|(_, row)| runs_once(source, catalog, row, alone)) {
        return Err(refuse::next_id_beside());
    }
    edits.sort_by_key(|edit| edit.range.start);
    Ok(edits)
}

/// The rows of VALUES with their parentheses, in bytes; none for what is not plainly VALUES.
fn rows_of(insert: &Insert, parsed: &Parsed) -> Vec<Range<usize>> {
    let Some(source) = &insert.source else {
        return Vec::new();
    };
    let SetExpr::Values(values) = source.body.as_ref() else {
        return Vec::new();
    };
    if source.order_by.is_some() || source.limit_clause.is_some() || source.fetch.is_some() {
        return Vec::new();
    }
    let row = |row: &sqlparser::ast::Parens<Vec<sqlparser::ast::Expr>>| {
        let open = parsed.offset(row.opening_token.0.span.start)?;
        let close = parsed.offset(row.closing_token.0.span.start)?;
        Some(open..close + 1)
    };
    let rows: Option<Vec<_>> = values.rows.iter().map(row).collect();
    rows.unwrap_or_default()
}

/// Does everything in a row run exactly once? No subquery, and in a row that is `alone` nothing
/// that may return several rows.
fn runs_once(source: &Source<'_>, catalog: &Catalog, row: &Range<usize>, alone: bool) -> bool {
    let first = source
        .tokens
        .partition_point(|token| token.range.start < row.start);
    let kind = |at: usize| source.tokens.get(at).map(|token| token.kind);
    let mut inside =
        (first..source.tokens.len()).take_while(|at| source.tokens[*at].range.start < row.end);
    inside.all(|at| {
        if source.is(at, "select") || source.is(at, "values") || source.is(at, "table") {
            return false;
        }
        let Some(name) = source.name(at).filter(|_| alone) else {
            // An identifier whose name cannot be read.
            return !alone || kind(at) != Some(Kind::QuotedIdentifier);
        };
        let is_users = catalog
            .function(&name)
            .is_some_and(|known| known.user_defined);
        let called = kind(at + 1) == Some(Kind::Open)
            || at > first && source.text(&source.tokens[at - 1]) == ".";
        let is_set =
            name.starts_with("pg_") || SETS.split_ascii_whitespace().any(|known| known == name);
        !(called && (is_set || is_users && name != "next_id"))
    })
}

/// What gives the rows of an INSERT their ids where it leaves them out.
fn defaults(
    insert: &Insert,
    source: &Source<'_>,
    parsed: &Parsed,
    (table, column): (&Table, &str),
    rows: &[Range<usize>],
) -> Result<Vec<Edit>, Refusal> {
    let unclear = || refuse::default_id_unclear(&table.name, column);
    let added = |at: usize, before: &str, id: bool, after: &'static str| Edit {
        range: at..at,
        before: before.to_owned(),
        id,
        after,
    };
    let quoted = format!("\"{}\"", column.replace('"', "\"\""));
    let Some(query) = &insert.source else {
        let at = (0..source.tokens.len()).find(|at| source.are(*at, &["default", "values"]));
        let at = at.ok_or_else(unclear)?;
        let range = source.tokens[at].range.start..source.tokens[at + 1].range.end;
        return Ok(vec![Edit {
            range,
            before: format!("({quoted}) VALUES ("),
            id: true,
            after: ")",
        }]);
    };
    let place = position(insert, table, column);
    let SetExpr::Values(values) = query.body.as_ref() else {
        return Err(unclear());
    };
    if rows.len() != values.rows.len() {
        return Err(unclear());
    }
    match place {
        // Left out of a list of columns: both get it in front.
        None => {
            let first = insert.columns.first().and_then(|name| name.0.first());
            let Some(ObjectNamePart::Identifier(first)) = first else {
                return Err(unclear());
            };
            let at = parsed.offset(first.span.start).ok_or_else(unclear)?;
            let mut edits = vec![added(at, &format!("{quoted}, "), false, "")];
            edits.extend(rows.iter().map(|row| added(row.start + 1, "", true, ", ")));
            Ok(edits)
        }
        Some(place) => {
            let mut edits = Vec::new();
            for (row, at) in values.rows.iter().zip(rows) {
                match row.content.get(place) {
                    Some(sqlparser::ast::Expr::Identifier(word))
                        if word.quote_style.is_none() && folded(word) == "default" =>
                    {
                        let start = parsed.offset(word.span.start).ok_or_else(unclear)?;
                        edits.push(Edit {
                            range: start..start + word.value.len(),
                            before: String::new(),
                            id: true,
                            after: "",
                        });
                    }
                    Some(_) => {}
                    // A row that ends before the column, without a list of columns.
                    None if insert.columns.is_empty() && row.content.len() == place => {
                        edits.push(added(at.end - 1, ", ", true, ""));
                    }
                    None if insert.columns.is_empty() => return Err(unclear()),
                    // PostgreSQL says that the row is too short.
                    None => {}
                }
            }
            Ok(edits)
        }
    }
}

fn ids(source: &Source<'_>, edits: Vec<Edit>) -> Ids {
    let places: Vec<usize> = edits
        .iter()
        .flat_map(|edit| [edit.range.start, edit.range.end])
        .collect();
    let places = source.shape_offsets(&places);
    let whole = source.shape_offset(source.sql.len());
    let mut pieces = Vec::with_capacity(4 * edits.len() + 1);
    let mut count = 0;
    let mut from = 0;
    for (edit, place) in edits.into_iter().zip(places.chunks_exact(2)) {
        pieces.push(Piece::Original(from..place[0]));
        if !edit.before.is_empty() {
            pieces.push(Piece::Added(edit.before));
        }
        if edit.id {
            pieces.push(Piece::Id);
            count += 1;
        }
        if !edit.after.is_empty() {
            pieces.push(Piece::Added(edit.after.to_owned()));
        }
        from = place[1];
    }
    pieces.push(Piece::Original(from..whole));
    Ids { pieces, count }
}
