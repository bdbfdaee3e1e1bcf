//! Reads one value of the sharding key, as PostgreSQL would read it for the key's type.

mod array;
mod input;
mod numeric;
#[cfg(test)]
mod tests;
mod time;

use std::borrow::Cow;

use crate::catalog::{Catalog, Keeps, KeyType, ShardKey, TableClass};
use crate::hash;
pub(crate) use crate::key::array::{accepts_array, elements};
pub(crate) use crate::key::input::from_text;
use crate::key::input::{from_binary, from_cow, unquoted};
pub(crate) use crate::key::numeric::{Digits, Numeric};
use crate::limit::{Computed, KeyPart, KeyValue, Part};
use crate::placement::Placement;
use crate::refusal::Refusal;
use crate::route::{Param, ValueRef, Values};
use crate::shape::PieceKind;
use crate::topology::{ShardId, Topology};

/// OIDs of built-in types, from `pg_type.dat`.
pub(crate) mod oid {
    pub(crate) const BYTEA: u32 = 17;
    pub(crate) const INT8: u32 = 20;
    pub(crate) const INT2: u32 = 21;
    pub(crate) const INT4: u32 = 23;
    pub(crate) const TEXT: u32 = 25;
    pub(crate) const UNKNOWN: u32 = 705;
    pub(crate) const BPCHAR: u32 = 1042;
    pub(crate) const VARCHAR: u32 = 1043;
    pub(crate) const DATE: u32 = 1082;
    pub(crate) const TIMESTAMP: u32 = 1114;
    pub(crate) const TIMESTAMPTZ: u32 = 1184;
    pub(crate) const NUMERIC: u32 = 1700;
    pub(crate) const UUID: u32 = 2950;
}

/// A value of a key: equal values of one type are equal here, however they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Datum<'v> {
    /// An integer; a date as days, a timestamp as microseconds since 2000-01-01.
    Int(i64),
    /// text, varchar, bytea, and char(n) without its blanks.
    Bytes(Cow<'v, [u8]>),
    Uuid([u8; 16]),
    Numeric(Numeric),
}

/// What a value says of where its row lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reading<'v> {
    Is(Datum<'v>),
    Null,
    /// In no shard: nothing equals it, or every shard rejects it alike.
    Nowhere,
    /// How PostgreSQL reads it is not sure from here.
    Unclear,
}

impl Datum<'_> {
    /// PostgreSQL's partition hash.
    pub(crate) fn hash(&self) -> u64 {
        match self {
            Self::Int(value) => hash::hash_int(*value),
            Self::Bytes(bytes) => hash::hash_text(bytes),
            Self::Uuid(bytes) => hash::hash_text(bytes),
            Self::Numeric(value) => hash::hash_numeric(value),
        }
    }
}

impl KeyType {
    /// The key type that values of the type with this OID have, if they can be keys.
    pub fn of_oid(type_oid: u32) -> Option<Self> {
        match type_oid {
            oid::INT2 => Some(Self::Int2),
            oid::INT4 => Some(Self::Int4),
            oid::INT8 => Some(Self::Int8),
            oid::TEXT | oid::VARCHAR => Some(Self::Text),
            oid::BPCHAR => Some(Self::Bpchar),
            oid::UUID => Some(Self::Uuid),
            oid::DATE => Some(Self::Date),
            oid::TIMESTAMP => Some(Self::Timestamp),
            oid::TIMESTAMPTZ => Some(Self::Timestamptz),
            oid::NUMERIC => Some(Self::Numeric),
            oid::BYTEA => Some(Self::Bytea),
            _ => None,
        }
    }

    /// PostgreSQL's name of the type.
    pub fn sql_name(self) -> &'static str {
        match self {
            Self::Int2 => "smallint",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Text => "text",
            Self::Bpchar => "character",
            Self::Uuid => "uuid",
            Self::Date => "date",
            Self::Timestamp => "timestamp without time zone",
            Self::Timestamptz => "timestamp with time zone",
            Self::Numeric => "numeric",
            Self::Bytea => "bytea",
        }
    }

    pub(crate) fn is_integer(self) -> bool {
        match self {
            Self::Int2 | Self::Int4 | Self::Int8 => true,
            Self::Text
            | Self::Bpchar
            | Self::Uuid
            | Self::Date
            | Self::Timestamp
            | Self::Timestamptz
            | Self::Numeric
            | Self::Bytea => false,
        }
    }

    /// Do equal values of both types have one hash?
    pub fn hashes_like(self, other: Self) -> bool {
        self == other || (self.is_integer() && other.is_integer())
    }

    /// May a parameter declared as `type_oid` be compared with such a key without being converted,
    /// or by a conversion that keeps every value? 0 is undeclared.
    pub(crate) fn accepts(self, type_oid: u32) -> bool {
        match type_oid {
            0 | oid::UNKNOWN => true,
            oid::INT2 | oid::INT4 | oid::INT8 if self == Self::Numeric => true,
            // Compared as text, blanks at the end tell values apart that have one hash.
            oid::TEXT | oid::VARCHAR if self == Self::Bpchar => true,
            _ => Self::of_oid(type_oid).is_some_and(|other| self.hashes_like(other)),
        }
    }

    /// A value that is read for sure, as a hint shows it.
    fn example(self) -> &'static str {
        match self {
            Self::Int2 | Self::Int4 | Self::Int8 => "17",
            Self::Text | Self::Bpchar => "abc",
            Self::Uuid => "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            Self::Date => "2026-11-28",
            Self::Timestamp => "2026-11-28 12:00:00",
            Self::Timestamptz => "2026-11-28 12:00:00+00",
            Self::Numeric => "12.5",
            Self::Bytea => "\\x00ff",
        }
    }
}

/// An integer, a date or a timestamp as PostgreSQL writes it, within the years 1 to 9999.
pub(crate) fn written(value: i64, key_type: KeyType) -> String {
    match key_type {
        KeyType::Date => time::date_text(value),
        KeyType::Timestamp => time::timestamp_text(value),
        KeyType::Timestamptz => format!("{}+00", time::timestamp_text(value)),
        KeyType::Int2
        | KeyType::Int4
        | KeyType::Int8
        | KeyType::Text
        | KeyType::Bpchar
        | KeyType::Uuid
        | KeyType::Numeric
        | KeyType::Bytea => value.to_string(),
    }
}

/// The shard that owns a key written as PostgreSQL reads it, where all sharded tables have keys of
/// one kind. `RULE:key` is a key of the tables that go by that rule; the columns of a key are parted
/// by commas.
///
/// # Errors
/// 22023 where there are none or of several kinds, where no shard takes it, or where the value is
/// written in a way that servers may read differently; what PostgreSQL would say of the value.
pub fn shard_of_key(
    text: &str,
    catalog: &Catalog,
    topology: &Topology,
) -> Result<ShardId, Refusal> {
    let (rule, text) = match text.split_once(':') {
        Some((name, rest)) if topology.rules().iter().any(|rule| rule.name == name) => {
            (Some(name), rest)
        }
        Some(_) | None => (None, text),
    };
    let key = only_key(rule, catalog, topology)?;
    let written: Vec<&str> = match key.columns.len() {
        1 => vec![text],
        _ => text.split(',').map(str::trim).collect(),
    };
    if written.len() != key.columns.len() {
        let columns = key.columns.len();
        let detail = format!("The keys have {columns} columns, and this is not as many values.");
        return Err(no_hint(
            detail,
            "Part the values by commas, in the order of the key.",
        ));
    }
    let mut data = Vec::with_capacity(written.len());
    for (column, text) in key.columns.iter().zip(written) {
        match from_text(text.as_bytes(), column.key_type)? {
            Reading::Is(datum) => data.push(datum),
            Reading::Null | Reading::Nowhere | Reading::Unclear => {
                let name = column.key_type.sql_name();
                let detail =
                    format!("The keys are {name}, and servers may read \"{text}\" differently.");
                let hint = format!("Write it like {}.", column.key_type.example());
                return Err(no_hint(detail, hint));
            }
        }
    }
    let data: Vec<_> = data.iter().collect();
    let owner = topology.owner_of(key.placement, &data);
    owner.ok_or_else(|| {
        no_hint(
            "No shard is named for this key.",
            "Name the shard: shard=NAME.",
        )
    })
}

fn no_hint(detail: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal {
        everywhere: false,
        code: "22023",
        message: "no shard can be told by this key".into(),
        detail: detail.into(),
        hint: hint.into(),
    }
}

/// The key that all sharded tables have, or all that go by `rule`.
fn only_key<'c>(
    rule: Option<&str>,
    catalog: &'c Catalog,
    topology: &Topology,
) -> Result<&'c ShardKey, Refusal> {
    let keys = catalog.tables().filter_map(|table| match &table.class {
        TableClass::Sharded(key) => Some(key),
        TableClass::Reference | TableClass::Single(_) | TableClass::Undeclared => None,
    });
    let named = |key: &&ShardKey| match (rule, key.placement) {
        (None, _) => true,
        (Some(_), Placement::Hash) => false,
        (Some(name), Placement::Ranges(id) | Placement::List(id)) => {
            topology.rule(id).is_some_and(|rule| rule.name == name)
        }
    };
    let mut keys = keys.filter(named);
    let hint = "Name the shard: shard=NAME.";
    let Some(first) = keys.next() else {
        return Err(no_hint("No table is sharded so.", hint));
    };
    // The widest integers take what the narrower do.
    let widest = keys.try_fold(first, |widest, key| {
        let wider =
            key.columns.iter().zip(&widest.columns).any(|(one, other)| {
                one.key_type == KeyType::Int8 && other.key_type != KeyType::Int8
            });
        key.is_colocated_with(widest)
            .then_some(if wider { key } else { widest })
    });
    let several = "The sharded tables have keys of several kinds, which place the same value \
                   differently.";
    let hint = if topology.rules().is_empty() {
        hint
    } else {
        "Write key=RULE:VALUE for a rule's tables, or name the shard: shard=NAME."
    };
    widest.ok_or_else(|| no_hint(several, hint))
}

/// The slot of a row by its key's columns in order, each in PostgreSQL's text or binary format.
/// `None` where a value is none of its type, or servers may read it differently.
pub fn slot_of_row(columns: &[(KeyType, &[u8])], binary: bool) -> Option<u16> {
    let hash = |(key_type, value): &(KeyType, &[u8])| {
        let reading = match binary {
            true => from_binary(value, *key_type)?,
            false => from_text(value, *key_type).ok()?,
        };
        match reading {
            Reading::Is(datum) => Some(datum.hash()),
            Reading::Null | Reading::Nowhere | Reading::Unclear => None,
        }
    };
    let hashes: Option<Vec<u64>> = columns.iter().map(hash).collect();
    Some(hash::slot_of(hashes?))
}

/// Reads `value` for one execution.
///
/// # Errors
/// What PostgreSQL would say of a value that is not of the key's type (22P02, 22003, 22P03),
/// 23502 for a NULL that is to be inserted, 0A000 for one that is to be inserted and not clear.
pub(crate) fn read<'v>(
    value: &'v ValueRef,
    column: &KeyPart,
    values: Values<'v>,
) -> Result<Reading<'v>, Refusal> {
    let reading = match value {
        ValueRef::Literal { piece, negative } => literal(*piece, *negative, column, values)?,
        ValueRef::Param(index) => match values.params.get(*index) {
            Some(param) => parameter(*index, param, column)?,
            // The shard itself says that there is no such parameter.
            None => Reading::Nowhere,
        },
        ValueRef::Text(text) => stored(text.as_bytes().into(), column, column.key_type)?,
        ValueRef::Null => null(column)?,
    };
    match reading {
        Reading::Unclear if column.insert.is_some() => Err(unclear(column)),
        Reading::Is(datum) if column.insert.is_some() && changes(&datum, column) => {
            Err(changed(column))
        }
        reading => Ok(reading),
    }
}

/// What [`read`] reads of an integer that is written in the usual way, without its many exits.
/// `None`: ask [`read`].
pub(crate) fn plain_integer(value: &ValueRef, column: &KeyPart, values: Values<'_>) -> Option<i64> {
    let kept = matches!(column.insert, None | Some(Keeps::Same));
    if !kept || !column.key_type.is_integer() {
        return None;
    }
    match value {
        ValueRef::Literal { piece, negative } => {
            let piece = values.pieces.get(*piece)?;
            if piece.kind != PieceKind::Integer {
                return None;
            }
            let value = input::plain_digits(values.sql.get(piece.range.clone())?, KeyType::Int8)?;
            Some(if *negative { -value } else { value })
        }
        ValueRef::Param(index) => {
            let param = values.params.get(*index)?;
            let declared = match param.type_oid {
                0 => column.key_type,
                oid::INT2 => KeyType::Int2,
                oid::INT4 => KeyType::Int4,
                oid::INT8 => KeyType::Int8,
                _ => return None,
            };
            match (param.value?, param.binary) {
                (value, true) => input::binary_integer(value),
                ([b'-', digits @ ..], false) => input::plain_digits(digits, declared).map(|v| -v),
                (digits, false) => input::plain_digits(digits, declared),
            }
        }
        ValueRef::Text(_) | ValueRef::Null => None,
    }
}

fn literal<'v>(
    piece: usize,
    negative: bool,
    column: &KeyPart,
    values: Values<'v>,
) -> Result<Reading<'v>, Refusal> {
    let Some(piece) = values.pieces.get(piece) else {
        return Err(unusable(column));
    };
    let text = values.sql.get(piece.range.clone()).unwrap_or_default();
    match piece.kind {
        PieceKind::Integer if column.key_type.is_integer() => Ok(integer_literal(text, negative)),
        PieceKind::Integer | PieceKind::Number if column.key_type == KeyType::Numeric => {
            // The hash of a numeric leaves its sign out.
            Ok(numeric::from_text(text))
        }
        PieceKind::String if !negative => stored(unquoted(text), column, column.key_type),
        PieceKind::Integer
        | PieceKind::Number
        | PieceKind::String
        | PieceKind::OtherString
        | PieceKind::Comment => Err(unusable(column)),
    }
}

/// [`from_text`], unless the column may keep another value than was sent.
fn stored<'v>(
    text: Cow<'v, [u8]>,
    column: &KeyPart,
    key_type: KeyType,
) -> Result<Reading<'v>, Refusal> {
    if column.insert == Some(Keeps::WithoutSpaces) && text.ends_with(b" ") {
        return Err(cut(column));
    }
    from_cow(text, key_type)
}

/// May the column keep another value than this one?
fn changes(datum: &Datum<'_>, column: &KeyPart) -> bool {
    let Some(Keeps::Rounded { scale }) = column.insert else {
        return false;
    };
    match datum {
        Datum::Numeric(Numeric::Finite(digits)) => digits.scale > scale,
        // A timestamp has six digits after the point.
        Datum::Int(i64::MIN | i64::MAX) => false,
        Datum::Int(micros) => {
            let lost = u32::try_from(6 - scale).unwrap_or(0);
            micros % 10_i64.pow(lost.min(6)) != 0
        }
        Datum::Numeric(Numeric::Special) | Datum::Bytes(_) | Datum::Uuid(_) => false,
    }
}

/// Is one of several values an integer too large for bigint? It makes all values of an IN list
/// numeric, so that PostgreSQL reads the others as numeric as well.
///
/// # Errors
/// 0A000 for values to insert.
pub(crate) fn may_be_numeric(part: &Part, values: Values<'_>) -> Result<bool, Refusal> {
    let column = &part.column;
    if !column.key_type.is_integer() || part.values.len() < 2 {
        return Ok(false);
    }
    let is_too_large = |value: &KeyValue| match value {
        KeyValue::One(value @ ValueRef::Literal { .. }) => {
            read(value, column, values) == Ok(Reading::Nowhere)
        }
        KeyValue::One(_) | KeyValue::Alike(_) | KeyValue::Elements(_) | KeyValue::Computed(_) => {
            false
        }
    };
    match part.values.iter().any(is_too_large) {
        true if column.insert.is_some() => Err(unusable(column)),
        found => Ok(found),
    }
}

/// Computes a value of an integer key.
///
/// # Errors
/// 0A000 for one that is to be inserted and overflows.
pub(crate) fn compute(
    computed: &Computed,
    column: &KeyPart,
    values: Values<'_>,
) -> Result<Reading<'static>, Refusal> {
    match typed(computed, values) {
        Some((value, _)) => Ok(Reading::Is(Datum::Int(value))),
        None if column.insert.is_some() => Err(unclear(column)),
        None => Ok(Reading::Unclear),
    }
}

/// The value, and whether its type is integer; else it is bigint. `None` for what overflows its type
/// or is numeric.
fn typed(computed: &Computed, values: Values<'_>) -> Option<(i64, bool)> {
    type Operation = fn(i64, i64) -> Option<i64>;
    let both = |a: &Computed, b: &Computed, operation: Operation| {
        let ((a, is_integer), (b, both_are)) = (typed(a, values)?, typed(b, values)?);
        Some((operation(a, b)?, is_integer && both_are))
    };
    let (value, is_integer) = match computed {
        Computed::Literal(value) => {
            let digits = match value {
                ValueRef::Literal { piece, .. } => {
                    let range = values.pieces.get(*piece)?.range.clone();
                    std::str::from_utf8(values.sql.get(range)?).ok()?
                }
                ValueRef::Text(text) => text,
                ValueRef::Param(_) | ValueRef::Null => return None,
            };
            let value: i64 = digits.parse().ok()?;
            (value, i32::try_from(value).is_ok())
        }
        Computed::Negated(of) => {
            let (value, is_integer) = typed(of, values)?;
            (value.checked_neg()?, is_integer)
        }
        Computed::Sum(a, b) => both(a, b, i64::checked_add)?,
        Computed::Difference(a, b) => both(a, b, i64::checked_sub)?,
        Computed::Product(a, b) => both(a, b, i64::checked_mul)?,
    };
    let overflows = is_integer && i32::try_from(value).is_err();
    (!overflows).then_some((value, is_integer))
}

/// Digits without quotes. What bigint cannot hold is numeric for PostgreSQL: it equals no key,
/// and no key column takes it.
fn integer_literal(digits: &[u8], negative: bool) -> Reading<'static> {
    let value = std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse::<i128>().ok());
    let value = value.map(|value| if negative { -value } else { value });
    match value.and_then(|value| i64::try_from(value).ok()) {
        Some(value) => Reading::Is(Datum::Int(value)),
        None => Reading::Nowhere,
    }
}

fn parameter<'v>(
    index: usize,
    param: &Param<'v>,
    column: &KeyPart,
) -> Result<Reading<'v>, Refusal> {
    if !column.key_type.accepts(param.type_oid) {
        return Err(unusable(column));
    }
    let Some(value) = param.value else {
        return null(column);
    };
    let declared = match param.type_oid {
        oid::INT2 => KeyType::Int2,
        oid::INT4 => KeyType::Int4,
        oid::INT8 => KeyType::Int8,
        _ => column.key_type,
    };
    let reading = match param.binary {
        // Text has one format.
        true if declared == KeyType::Text => stored(value.into(), column, declared)?,
        true => from_binary(value, declared).ok_or_else(|| {
            Refusal::as_postgresql(
                "22P03",
                format!(
                    "incorrect binary data format in bind parameter {}",
                    index + 1
                ),
            )
        })?,
        false => stored(value.into(), column, declared)?,
    };
    Ok(match reading {
        Reading::Is(Datum::Int(value)) if column.key_type == KeyType::Numeric => {
            Reading::Is(Datum::Numeric(Numeric::Finite(Digits::of_int(value))))
        }
        reading => reading,
    })
}

fn null<'v>(column: &KeyPart) -> Result<Reading<'v>, Refusal> {
    if column.insert.is_none() {
        return Ok(Reading::Null);
    }
    let (table, column) = column.name.rsplit_once('.').unwrap_or(("", &column.name));
    Err(Refusal::as_postgresql(
        "23502",
        format!(
            "null value in column \"{column}\" of relation \"{table}\" violates not-null constraint"
        ),
    ))
}

fn cut(column: &KeyPart) -> Refusal {
    let name = &column.name;
    Refusal::unsupported(
        format!("a value with spaces at its end for sharding key {name} is not supported"),
        "The column may cut spaces off, and the row would belong to another shard.",
        "Send the value without spaces at its end.",
    )
}

fn changed(column: &KeyPart) -> Refusal {
    let name = &column.name;
    Refusal::unsupported(
        format!("a value with more digits than sharding key {name} keeps is not supported"),
        "The column rounds it, and the row would belong to another shard.",
        "Round the value before it is sent.",
    )
}

pub(crate) fn no_shard(column: &KeyPart) -> Refusal {
    let name = &column.name;
    Refusal {
        everywhere: false,
        code: "23514",
        message: format!("no shard takes this value of sharding key {name}").into(),
        detail: "The rule that places the table has no entry for it and no default.".into(),
        hint: "Add the value to the rule in the configuration, or give the rule a default.".into(),
    }
}

pub(crate) fn unclear(column: &KeyPart) -> Refusal {
    let name = column.key_type.sql_name();
    Refusal::unsupported(
        format!(
            "cannot tell the shard from this value of sharding key {}",
            column.name
        ),
        format!("The key is {name}, and servers may read the value differently."),
        format!("Write it like {}.", column.key_type.example()),
    )
}

pub(crate) fn unusable(column: &KeyPart) -> Refusal {
    let name = column.key_type.sql_name();
    Refusal::unsupported(
        format!(
            "cannot tell the shard from this value of sharding key {}",
            column.name
        ),
        format!("The key is {name}, and the value is of another type."),
        format!("Write it as {name}, or declare the parameter as {name}."),
    )
}
