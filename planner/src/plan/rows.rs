//! Whether the rows of an INSERT can be given to their shards one part each.
//!
//! A part is the same statement with fewer rows. PostgreSQL reads each row of VALUES by itself and
//! gives its values the types of the columns, so a row means the same in every part. Two things do
//! not: a parameter without a declared type gets it from the first place it stands in, and a row
//! that is alone is read by other rules (it may hold functions that return sets).

use std::collections::HashMap;

use sqlparser::ast::{CastKind, Expr, Insert, SetExpr, UnaryOperator, Value};

use super::facts::{Facts, Input};
use super::refuse;
use crate::key::oid;
use crate::lexer::{Kind, param_index};
use crate::refusal::Refusal;
use crate::split::Split;

/// # Errors
/// Why it cannot be divided.
pub(super) fn split(
    insert: &Insert,
    facts: &Facts<'_>,
    input: Input<'_>,
) -> Result<Split, Refusal> {
    let undivided = refuse::insert_many_shards;
    let source = insert.source.as_deref().ok_or_else(undivided)?;
    let SetExpr::Values(values) = source.body.as_ref() else {
        return Err(undivided());
    };
    let plain = source.with.is_none()
        && source.locks.is_empty()
        && !values.explicit_row
        && !values.value_keyword
        && !facts.table_functions
        && !facts.system_tables;
    if !plain {
        return Err(undivided());
    }
    let rows: Vec<&[Expr]> = values
        .rows
        .iter()
        .map(|row| row.content.as_slice())
        .collect();
    let mut places = Vec::with_capacity(2 * rows.len());
    for row in &values.rows {
        let place = |token: &sqlparser::ast::helpers::attached_token::AttachedToken| {
            input.parsed.offset(token.0.span.start)
        };
        let open = place(&row.opening_token).ok_or_else(undivided)?;
        let close = place(&row.closing_token).ok_or_else(undivided)?;
        places.extend([open, close + 1]);
    }
    if let Some(param) = untyped(&rows, input) {
        return Err(refuse::insert_untyped(param + 1));
    }
    let width = rows.first().map_or(0, |row| row.len());
    let check_whole = rows
        .iter()
        .any(|row| row.len() != width || !row.iter().all(is_constant));
    let places = input.source.shape_offsets(&places);
    Ok(Split {
        rows: places.chunks_exact(2).map(|at| at[0]..at[1]).collect(),
        returns: insert.returning.is_some(),
        check_whole,
    })
}

/// A parameter, from 0, whose type a part of the rows might tell otherwise than the whole does.
fn untyped(rows: &[&[Expr]], input: Input<'_>) -> Option<usize> {
    let source = input.source;
    let declared = |param: usize| {
        let types = input.options.param_types;
        !matches!(types.get(param), None | Some(&(0 | oid::UNKNOWN)))
    };
    let params = source.tokens.iter().filter_map(|token| match token.kind {
        Kind::Param => param_index(source.text(token)),
        _ => None,
    });
    let mut repeated: Vec<usize> = params
        .filter(|param| source.uses_of_param(*param) > 1 && !declared(*param))
        .collect();
    repeated.sort_unstable();
    repeated.dedup();
    // How often each stands for a value, and in which column; `None`: in several.
    let mut places: HashMap<usize, (usize, Option<usize>)> = HashMap::new();
    if !repeated.is_empty() {
        for (column, value) in rows.iter().flat_map(|row| row.iter().enumerate()) {
            if let Some(param) = param(value) {
                let (count, place) = places.entry(param).or_insert((0, Some(column)));
                *count += 1;
                *place = place.filter(|known| *known == column);
            }
        }
    }
    // In one column it has that column's type wherever it stands.
    let in_one_column = |param: usize| {
        places.get(&param).is_some_and(|(count, column)| {
            *count == source.uses_of_param(param) && column.is_some()
        })
    };
    repeated.into_iter().find(|param| !in_one_column(*param))
}

/// The parameter that is all of a value.
fn param(value: &Expr) -> Option<usize> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => param_index(name),
            _ => None,
        },
        _ => None,
    }
}

/// A value with nothing in it that could be computed otherwise in a row by itself.
fn is_constant(value: &Expr) -> bool {
    match value {
        Expr::Value(_) | Expr::TypedString(_) | Expr::Identifier(_) => true,
        Expr::Nested(inner) => is_constant(inner),
        Expr::UnaryOp {
            op: UnaryOperator::Plus | UnaryOperator::Minus,
            expr,
        } => is_constant(expr),
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            ..
        } => is_constant(expr),
        _ => false,
    }
}
