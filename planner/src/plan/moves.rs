//! UPDATE of the sharding key: rows that move.

use sqlparser::ast::{Assignment, AssignmentTarget, TableFactor, Update};

use super::dml::{default_of, inserted_part, is_default, keys_of_rows};
use super::facts::{Facts, Input};
use super::query::{Decision, refused};
use super::refuse;
use super::scope::{folded, object_name};
use super::values::{self, TypedParams};
use crate::catalog::{ColumnDefault, Keeps, KeyColumn, KeyType, RelationKind, ShardKey, Table};
use crate::lexer::Kind;
use crate::limit::{KeyPart, KeySet, KeyValue, Part};
use crate::moving::Move;
use crate::plan::{Many, Target};
use crate::route::{TextPiece, ValueRef};

/// `decision` is where the statement would run if its rows stayed; `column` is the first of the key
/// that it sets.
pub(super) fn target(
    update: &Update,
    (table, key, column): (&Table, &ShardKey, &str),
    decision: Decision,
    facts: &Facts<'_>,
    input: Input<'_>,
) -> Decision {
    let (from, unproven) = match decision.0 {
        Target::Keys {
            keys,
            many: Many::SumTags,
        } => (Some(keys), None),
        Target::Keys {
            keys,
            many: Many::Refused(refusal),
        } => (Some(keys), Some(refusal)),
        Target::AllShards(Many::SumTags) => (None, None),
        Target::Refused(refusal) => return refused(refusal),
        _ => return refused(refuse::write_target()),
    };
    let hindrance = hindrance(update, (table, key), facts, input);
    let hindered = hindrance.map(|why| refuse::update_of_key(column, &why));
    let moving = Move {
        from,
        to: new_keys(update, table, key, input),
        refusal: unproven.or(hindered),
        update: returning_places(update, table, key, input),
        returns: update.returning.is_some(),
        table: format!("{}.{}", quoted(&table.schema), quoted(&table.name)),
        columns: table
            .columns
            .iter()
            .filter(|column| column.generated_from.is_none())
            .map(|column| quoted(&column.name))
            .collect(),
        key: key_of_params(table, key),
        key_columns: key.columns.len(),
    };
    let reason = format!("{} is set, so that rows may move", key.name());
    (Target::Moves(Box::new(moving)), reason.into())
}

/// Why its rows cannot move, as the end of a sentence.
fn hindrance(
    update: &Update,
    (table, key): (&Table, &ShardKey),
    facts: &Facts<'_>,
    input: Input<'_>,
) -> Option<String> {
    if table.kind != RelationKind::Table {
        return Some(format!("\"{}\" is no table", table.name));
    }
    if facts.writes > 1 {
        return Some("the statement writes elsewhere too".to_owned());
    }
    let is_default = |assignment: &Assignment| match &assignment.target {
        AssignmentTarget::ColumnName(_) => is_default(&assignment.value),
        AssignmentTarget::Tuple(_) => input.source.has("default"),
    };
    let draws = |column: &KeyColumn| {
        default_of(table, &column.name) == Some(ColumnDefault::Sequence)
            && update.assignments.iter().any(is_default)
    };
    if key.columns.iter().any(draws) {
        return Some("each shard has a sequence of its own for its default".to_owned());
    }
    input.catalog.immovable(table).map(str::to_owned)
}

/// The one key that all its rows get, where the text tells each column of it.
fn new_keys(update: &Update, table: &Table, key: &ShardKey, input: Input<'_>) -> Option<KeySet> {
    let value = |column: &KeyColumn| {
        let mut set = update.assignments.iter();
        let set = set.find(|assignment| match &assignment.target {
            AssignmentTarget::ColumnName(name) => {
                object_name(name).is_some_and(|(of, name)| of.is_none() && name == column.name)
            }
            AssignmentTarget::Tuple(_) => false,
        })?;
        let mut column = inserted_part(table, column);
        column.key_type = values::widest([&set.value], column.key_type);
        let typed = TypedParams::default();
        let value = values::key_value(&set.value, column.key_type, &typed, input)?;
        Some(Part {
            column,
            values: vec![value],
        })
    };
    let parts: Option<Vec<Part>> = key.columns.iter().map(value).collect();
    Some(keys_of_rows(table, key, parts?))
}

fn key_of_params(table: &Table, key: &ShardKey) -> KeySet {
    let part = |(index, column): (usize, &KeyColumn)| Part {
        column: KeyPart {
            // It is what the column keeps already.
            insert: Some(Keeps::Same),
            ..inserted_part(table, column)
        },
        values: vec![KeyValue::One(ValueRef::Param(index))],
    };
    let parts = key.columns.iter().enumerate().map(part);
    keys_of_rows(table, key, parts.collect())
}

/// The client's text, returning where each row lies and its key besides.
fn returning_places(
    update: &Update,
    table: &Table,
    key: &ShardKey,
    input: Input<'_>,
) -> Vec<TextPiece> {
    let alias = match &update.table.relation {
        TableFactor::Table {
            alias: Some(alias), ..
        } => folded(&alias.name),
        _ => table.name.clone(),
    };
    let alias = quoted(&alias);
    let mut added = match update.returning {
        Some(_) => ", ".to_owned(),
        None => " RETURNING ".to_owned(),
    };
    added.push_str(&format!(
        "{alias}.tableoid::pg_catalog.text, {alias}.ctid::pg_catalog.text"
    ));
    for column in &key.columns {
        let send = send_function(column.key_type);
        let name = quoted(&column.name);
        added.push_str(&format!(
            ", pg_catalog.encode(pg_catalog.{send}({alias}.{name}), 'hex')"
        ));
    }
    let source = input.source;
    let mut tokens = source.tokens.iter();
    let end = tokens
        .rposition(|token| token.kind != Kind::Semicolon)
        .map_or(0, |last| last + 1);
    let (_, end) = source.places(0..end);
    vec![
        TextPiece::Original(0..end),
        TextPiece::Added(added),
        TextPiece::Original(end..source.shape_offset(source.sql.len())),
    ]
}

/// What writes a value in its type's binary format, by `pg_type.typsend`.
fn send_function(key_type: KeyType) -> &'static str {
    match key_type {
        KeyType::Int2 => "int2send",
        KeyType::Int4 => "int4send",
        KeyType::Int8 => "int8send",
        KeyType::Text => "textsend",
        KeyType::Bpchar => "bpcharsend",
        KeyType::Uuid => "uuid_send",
        KeyType::Date => "date_send",
        KeyType::Timestamp => "timestamp_send",
        KeyType::Timestamptz => "timestamptz_send",
        KeyType::Numeric => "numeric_send",
        KeyType::Bytea => "byteasend",
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
