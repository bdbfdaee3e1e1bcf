//! Expressions whose value is there when a statement runs, and is sure to be of the key's type.

use std::ops::ControlFlow;

use sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, TimezoneInfo,
    UnaryOperator, Value, ValueWithSpan, visit_expressions,
};

use super::facts::Input;
use super::scope::Scope;
use crate::catalog::KeyType;
use crate::key::{accepts_array, oid};
use crate::lexer::param_index;
use crate::limit::{Computed, KeyValue};
use crate::route::ValueRef;
use crate::shape::PieceKind;

/// `expr` as a value of a key of `key_type`, if its value is there when the statement runs and
/// its type is sure to be one that the key's own equality compares.
pub(super) fn value(
    expr: &Expr,
    key_type: KeyType,
    typed: &TypedParams,
    input: Input<'_>,
) -> Option<ValueRef> {
    match expr {
        Expr::Nested(inner) => value(inner, key_type, typed, input),
        Expr::Value(constant) => constant_value(constant, key_type, typed, input),
        Expr::UnaryOp {
            op: UnaryOperator::Plus,
            expr,
        } if has_numbers(key_type) => number(expr, key_type, false, typed, input),
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } if has_numbers(key_type) => number(expr, key_type, true, typed, input),
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type,
            format: None,
        } => holds(key_type, data_type).then(|| value(expr, key_type, typed, input))?,
        Expr::TypedString(literal) => holds(key_type, &literal.data_type)
            .then(|| constant_value(&literal.value, key_type, typed, input))?,
        _ => None,
    }
}

/// [`value`], or arithmetic on integers that comes to one.
pub(super) fn key_value(
    expr: &Expr,
    key_type: KeyType,
    typed: &TypedParams,
    input: Input<'_>,
) -> Option<KeyValue> {
    if let Some(value) = value(expr, key_type, typed, input) {
        return Some(KeyValue::One(value));
    }
    let computed = key_type.is_integer().then(|| computed(expr, input))??;
    Some(KeyValue::Computed(Box::new(computed)))
}

fn computed(expr: &Expr, input: Input<'_>) -> Option<Computed> {
    let operand = |expr: &Expr| computed(expr, input).map(Box::new);
    match expr {
        Expr::Nested(inner) => computed(inner, input),
        Expr::Value(constant) if matches!(constant.value, Value::Number(..)) => {
            let typed = TypedParams::default();
            let literal = constant_value(constant, KeyType::Int8, &typed, input)?;
            Some(Computed::Literal(literal))
        }
        Expr::UnaryOp { op, expr } => match op {
            UnaryOperator::Plus => computed(expr, input),
            UnaryOperator::Minus => Some(Computed::Negated(operand(expr)?)),
            _ => None,
        },
        Expr::BinaryOp { left, op, right } => match op {
            BinaryOperator::Plus => Some(Computed::Sum(operand(left)?, operand(right)?)),
            BinaryOperator::Minus => Some(Computed::Difference(operand(left)?, operand(right)?)),
            BinaryOperator::Multiply => Some(Computed::Product(operand(left)?, operand(right)?)),
            _ => None,
        },
        _ => None,
    }
}

/// What a cast is of, and to which type.
pub(super) fn cast(expr: &Expr) -> Option<(&Expr, &DataType)> {
    match expr {
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type,
            format: None,
        } => Some((expr, data_type)),
        _ => None,
    }
}

/// The type that a column of type `from` is compared in after a cast, if values that were equal stay
/// so and no others become equal.
pub(super) fn widens(from: KeyType, data_type: &DataType) -> Option<KeyType> {
    let to = cast_type(data_type)?;
    let widens = to == from || (to.is_integer() && from.is_integer() && width(to) >= width(from));
    widens.then_some(to)
}

/// The type that `values` have where a column of type `key_type` meets or takes them: the widest integer
/// that they are cast to, if that is wider.
pub(super) fn widest<'e>(values: impl IntoIterator<Item = &'e Expr>, key_type: KeyType) -> KeyType {
    let types = values.into_iter().filter_map(cast_to);
    let integers = types.filter(|to| to.is_integer() && key_type.is_integer());
    integers
        .chain([key_type])
        .max_by_key(|to| width(*to))
        .unwrap_or(key_type)
}

/// [`widest`] of values that all get one type: a string or parameter gets that of a number beside it, which is
/// known with its value only.
pub(super) fn widest_together<'e>(
    values: impl IntoIterator<Item = &'e Expr, IntoIter: Clone>,
    key_type: KeyType,
) -> KeyType {
    let values = values.into_iter();
    let has_type = |value: &Expr| match super::keys::without_parentheses(value) {
        Expr::Value(constant) => matches!(constant.value, Value::Number(..)),
        _ => true,
    };
    let is_number = |value: &Expr| has_type(value) && cast_to(value).is_none();
    let mixed = values.clone().any(is_number) && !values.clone().all(has_type);
    match mixed && key_type.is_integer() {
        true => KeyType::Int8,
        false => widest(values, key_type),
    }
}

fn cast_to(value: &Expr) -> Option<KeyType> {
    match value {
        Expr::Nested(inner) => cast_to(inner),
        Expr::UnaryOp {
            op: UnaryOperator::Plus | UnaryOperator::Minus,
            expr,
        } => cast_to(expr),
        Expr::TypedString(literal) => cast_type(&literal.data_type),
        _ => cast_type(cast(value)?.1),
    }
}

/// [`widest_together`] of the elements of an array.
pub(super) fn widest_element(array: &Expr, key_type: KeyType) -> KeyType {
    match array {
        Expr::Nested(inner) => widest_element(inner, key_type),
        Expr::Array(list) => widest_together(&list.elem, key_type),
        _ => {
            let element = cast_array(array).and_then(|(_, element)| cast_type(element));
            let wider = element.filter(|to| to.is_integer() && width(*to) > width(key_type));
            wider.filter(|_| key_type.is_integer()).unwrap_or(key_type)
        }
    }
}

/// An array that is cast, and the type that its elements get.
fn cast_array(expr: &Expr) -> Option<(&Expr, &DataType)> {
    match cast(expr)? {
        (inner, DataType::Array(ArrayElemTypeDef::SquareBracket(element, _))) => {
            Some((inner, element.as_ref()))
        }
        _ => None,
    }
}

/// The elements of an array, cast or not, that are written one by one.
pub(super) fn listed(array: &Expr, key_type: KeyType) -> Option<&[Expr]> {
    match array {
        Expr::Nested(inner) => listed(inner, key_type),
        Expr::Array(list) => Some(&list.elem),
        _ => {
            let (inner, element) = cast_array(array)?;
            holds(key_type, element).then(|| listed(inner, key_type))?
        }
    }
}

/// `expr` as an array whose elements are values of a key of `key_type`.
pub(super) fn array(expr: &Expr, key_type: KeyType, input: Input<'_>) -> Option<ValueRef> {
    match expr {
        Expr::Nested(inner) => array(inner, key_type, input),
        Expr::Cast { .. } => {
            let (inner, element) = cast_array(expr)?;
            holds(key_type, element).then(|| array(inner, key_type, input))?
        }
        Expr::Value(constant) => match &constant.value {
            Value::Null => Some(ValueRef::Null),
            Value::Placeholder(name) => {
                let index = param_index(name)?;
                let declared = input.options.param_types.get(index).copied().unwrap_or(0);
                let sure = match declared {
                    0 | oid::UNKNOWN => input.source.uses_of_param(index) == 1,
                    declared => accepts_array(key_type, declared),
                };
                sure.then_some(ValueRef::Param(index))
            }
            Value::SingleQuotedString(_) => {
                let offset = input.parsed.offset(constant.span.start)?;
                let (piece, kind) = input.source.piece_at(offset)?;
                (kind == PieceKind::String).then_some(ValueRef::Literal {
                    piece,
                    negative: false,
                })
            }
            _ => None,
        },
        _ => None,
    }
}

/// A number with a sign before it. `-5::bigint` is `-(5::bigint)`.
fn number(
    expr: &Expr,
    key_type: KeyType,
    negative: bool,
    typed: &TypedParams,
    input: Input<'_>,
) -> Option<ValueRef> {
    let constant = match expr {
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type,
            format: None,
        } if holds(key_type, data_type) => expr,
        other => other,
    };
    let Expr::Value(constant) = constant else {
        return None;
    };
    if !matches!(constant.value, Value::Number(..)) {
        return None;
    }
    match constant_value(constant, key_type, typed, input)? {
        ValueRef::Literal { piece, .. } => Some(ValueRef::Literal { piece, negative }),
        ValueRef::Param(_) | ValueRef::Text(_) | ValueRef::Null => None,
    }
}

fn constant_value(
    constant: &ValueWithSpan,
    key_type: KeyType,
    typed: &TypedParams,
    input: Input<'_>,
) -> Option<ValueRef> {
    match &constant.value {
        Value::Null => Some(ValueRef::Null),
        Value::Placeholder(name) => param(name, key_type, typed, input),
        Value::Number(..) | Value::SingleQuotedString(_) => {
            let offset = input.parsed.offset(constant.span.start)?;
            let (piece, kind) = input.source.piece_at(offset)?;
            let usable = match kind {
                PieceKind::Integer => has_numbers(key_type),
                PieceKind::Number => key_type == KeyType::Numeric,
                PieceKind::String => true,
                PieceKind::OtherString | PieceKind::Comment => false,
            };
            usable.then_some(ValueRef::Literal {
                piece,
                negative: false,
            })
        }
        _ => None,
    }
}

/// PostgreSQL gives an undeclared parameter the type of what it meets first, so only one that
/// meets nothing else than columns of the key's type is sure to have it.
fn param(name: &str, key_type: KeyType, typed: &TypedParams, input: Input<'_>) -> Option<ValueRef> {
    let index = param_index(name)?;
    let declared = input.options.param_types.get(index).copied().unwrap_or(0);
    let sure = match declared {
        0 | oid::UNKNOWN => {
            let uses = input.source.uses_of_param(index);
            uses == 1 || uses == typed.uses(index, key_type)
        }
        declared => key_type.accepts(declared),
    };
    sure.then_some(ValueRef::Param(index))
}

/// Where parameters are compared with a column on the other side: (parameter, type of column).
#[derive(Default)]
pub(super) struct TypedParams(Vec<(usize, u32)>);

impl TypedParams {
    pub(super) fn collect(&mut self, expr: &Expr, scope: &Scope<'_>) {
        let mut found = Vec::new();
        let visited = visit_expressions(expr, |part| match part {
            // Names inside mean other columns.
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                ControlFlow::Break(())
            }
            Expr::BinaryOp {
                left,
                op:
                    BinaryOperator::Eq
                    | BinaryOperator::Lt
                    | BinaryOperator::LtEq
                    | BinaryOperator::Gt
                    | BinaryOperator::GtEq,
                right,
            } => {
                found.extend(column_and_param(left, right, scope));
                found.extend(column_and_param(right, left, scope));
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Continue(()),
        });
        if visited.is_continue() {
            self.0.extend(found);
        }
    }

    /// The type that `value` may have where it meets a column of type `key_type`: [`widest`], and a parameter
    /// that meets a wider integer too may be as wide.
    pub(super) fn read_as(&self, value: &Expr, key_type: KeyType) -> KeyType {
        let index = match value {
            Expr::Value(constant) => match &constant.value {
                Value::Placeholder(name) => param_index(name),
                _ => None,
            },
            _ => None,
        };
        let met = self.0.iter().filter(|(param, _)| Some(*param) == index);
        let met = met.filter_map(|(_, type_oid)| KeyType::of_oid(*type_oid));
        met.filter(|met| met.hashes_like(key_type))
            .chain([widest([value], key_type)])
            .max_by_key(|met| width(*met))
            .unwrap_or(key_type)
    }

    /// How often parameter `index` meets a column whose type is as good as `key_type`.
    fn uses(&self, index: usize, key_type: KeyType) -> usize {
        let fits = |(param, type_oid): &&(usize, u32)| {
            *param == index
                && KeyType::of_oid(*type_oid).is_some_and(|met| key_type.hashes_like(met))
        };
        self.0.iter().filter(fits).count()
    }
}

fn column_and_param(column: &Expr, param: &Expr, scope: &Scope<'_>) -> Option<(usize, u32)> {
    let (reference, name) = scope.column(column)?;
    let columns = &scope.references[reference].table?.columns;
    let type_oid = columns.iter().find(|column| column.name == name)?.type_oid;
    match param {
        Expr::Value(constant) => match &constant.value {
            Value::Placeholder(name) => Some((param_index(name)?, type_oid)),
            _ => None,
        },
        _ => None,
    }
}

/// Are numbers without quotes values of the type?
fn has_numbers(key_type: KeyType) -> bool {
    key_type.is_integer() || key_type == KeyType::Numeric
}

/// May a value be cast to `data_type` on its way to a key of `key_type` and stay what it is?
fn holds(key_type: KeyType, data_type: &DataType) -> bool {
    match cast_type(data_type) {
        Some(KeyType::Text) => matches!(key_type, KeyType::Text | KeyType::Bpchar),
        Some(to) if to.is_integer() => key_type.is_integer() && width(to) <= width(key_type),
        Some(to) => to == key_type,
        None => false,
    }
}

/// The type that a cast names, if the cast does not cut or round.
fn cast_type(data_type: &DataType) -> Option<KeyType> {
    match data_type {
        DataType::SmallInt(None) | DataType::Int2(None) => Some(KeyType::Int2),
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => Some(KeyType::Int4),
        DataType::BigInt(None) | DataType::Int8(None) => Some(KeyType::Int8),
        DataType::Text | DataType::Varchar(None) | DataType::CharacterVarying(None) => {
            Some(KeyType::Text)
        }
        DataType::Uuid => Some(KeyType::Uuid),
        DataType::Date => Some(KeyType::Date),
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            Some(KeyType::Timestamp)
        }
        DataType::Timestamp(None, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            Some(KeyType::Timestamptz)
        }
        DataType::Numeric(ExactNumberInfo::None)
        | DataType::Decimal(ExactNumberInfo::None)
        | DataType::Dec(ExactNumberInfo::None) => Some(KeyType::Numeric),
        DataType::Bytea => Some(KeyType::Bytea),
        _ => None,
    }
}

/// Bytes of an integer type.
pub(super) fn width(key_type: KeyType) -> u8 {
    match key_type {
        KeyType::Int2 => 2,
        KeyType::Int4 => 4,
        KeyType::Int8 => 8,
        KeyType::Text
        | KeyType::Bpchar
        | KeyType::Uuid
        | KeyType::Date
        | KeyType::Timestamp
        | KeyType::Timestamptz
        | KeyType::Numeric
        | KeyType::Bytea => 0,
    }
}
