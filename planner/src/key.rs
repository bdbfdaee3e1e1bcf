//! Reads one value of the sharding key, as PostgreSQL would read it for the key's type.

use std::borrow::Cow;

use crate::catalog::{Catalog, KeyType, TableClass};
use crate::hash::{slot_of_int, slot_of_text, slot_of_uuid};
use crate::plan::KeySet;
use crate::refusal::Refusal;
use crate::route::{Param, ValueRef, Values};
use crate::shape::PieceKind;
use crate::topology::{ShardId, Topology};

/// OIDs of built-in types, from `pg_type.dat`.
pub(crate) mod oid {
    pub(crate) const INT8: u32 = 20;
    pub(crate) const INT2: u32 = 21;
    pub(crate) const INT4: u32 = 23;
    pub(crate) const TEXT: u32 = 25;
    pub(crate) const UNKNOWN: u32 = 705;
    pub(crate) const VARCHAR: u32 = 1043;
    pub(crate) const UUID: u32 = 2950;
}

/// Where the row of a key lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Slot(u16),
    /// In no shard: nothing equals it, or every shard rejects it alike.
    Nowhere,
}

impl KeyType {
    /// PostgreSQL's name of the type.
    pub(crate) fn sql_name(self) -> &'static str {
        match self {
            Self::Int2 => "smallint",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Text => "text",
            Self::Uuid => "uuid",
        }
    }

    pub(crate) fn is_integer(self) -> bool {
        match self {
            Self::Int2 | Self::Int4 | Self::Int8 => true,
            Self::Text | Self::Uuid => false,
        }
    }

    /// May a parameter declared as `type_oid` be compared with such a key without being converted?
    /// 0 is undeclared.
    pub(crate) fn accepts(self, type_oid: u32) -> bool {
        if matches!(type_oid, 0 | oid::UNKNOWN) {
            return true;
        }
        match self {
            Self::Int2 | Self::Int4 | Self::Int8 => {
                matches!(type_oid, oid::INT2 | oid::INT4 | oid::INT8)
            }
            Self::Text => matches!(type_oid, oid::TEXT | oid::VARCHAR),
            Self::Uuid => type_oid == oid::UUID,
        }
    }
}

/// The shard that owns a key written as PostgreSQL reads it, where all sharded tables have keys of
/// one kind.
///
/// # Errors
/// 22023 where there are none or of several kinds; what PostgreSQL would say of the value.
pub fn shard_of_key(
    text: &str,
    catalog: &Catalog,
    topology: &Topology,
) -> Result<ShardId, Refusal> {
    let kinds = catalog.tables().filter_map(|table| match &table.class {
        TableClass::Sharded { key_type, .. } if key_type.is_integer() => Some(KeyType::Int8),
        TableClass::Sharded { key_type, .. } => Some(*key_type),
        TableClass::Reference | TableClass::Single(_) | TableClass::Undeclared => None,
    });
    let mut kinds: Vec<_> = kinds.collect();
    kinds.dedup();
    kinds.sort_unstable_by_key(|kind| kind.sql_name());
    kinds.dedup();
    let [kind] = kinds[..] else {
        let why = match kinds.is_empty() {
            true => "No table is sharded.",
            false => {
                "The sharded tables have keys of several types, which place the same value \
                      differently."
            }
        };
        return Err(Refusal {
            code: "22023",
            message: "no shard can be told by a key".into(),
            detail: why.into(),
            hint: "Name the shard: shard=NAME.".into(),
        });
    };
    match from_text(text.as_bytes(), kind)? {
        Key::Slot(slot) => Ok(topology.owner(slot)),
        // No text is read so.
        Key::Nowhere => Err(invalid(text.as_bytes(), kind)),
    }
}

/// Reads `value` for one execution.
///
/// # Errors
/// What PostgreSQL would say of a value that is not of the key's type (22P02, 22003, 22P03),
/// 23502 for a NULL that is to be inserted.
pub(crate) fn read(value: &ValueRef, keys: &KeySet, values: Values<'_>) -> Result<Key, Refusal> {
    match value {
        ValueRef::Literal { piece, negative } => literal(*piece, *negative, keys, values),
        ValueRef::Param(index) => match values.params.get(*index) {
            Some(param) => parameter(*index, param, keys),
            // The shard itself says that there is no such parameter.
            None => Ok(Key::Nowhere),
        },
        ValueRef::Text(text) => from_text(text.as_bytes(), keys.key_type),
        ValueRef::Null => null(keys),
    }
}

fn literal(
    piece: usize,
    negative: bool,
    keys: &KeySet,
    values: Values<'_>,
) -> Result<Key, Refusal> {
    let Some(piece) = values.pieces.get(piece) else {
        return Err(unusable(keys));
    };
    let text = values.sql.get(piece.range.clone()).unwrap_or_default();
    match piece.kind {
        PieceKind::Integer if keys.key_type.is_integer() => Ok(integer_literal(text, negative)),
        PieceKind::String if !negative => stored(&unquoted(text), keys, keys.key_type),
        PieceKind::Integer
        | PieceKind::Number
        | PieceKind::String
        | PieceKind::OtherString
        | PieceKind::Comment => Err(unusable(keys)),
    }
}

/// [`from_text`], unless the column may store another value than was sent.
fn stored(text: &[u8], keys: &KeySet, key_type: KeyType) -> Result<Key, Refusal> {
    if keys.cuts_spaces && text.ends_with(b" ") {
        return Err(cut(keys));
    }
    from_text(text, key_type)
}

/// Is one of several values an integer too large for bigint? It makes all values of an IN list
/// numeric, so that PostgreSQL reads the others as numeric as well.
pub(crate) fn may_be_numeric(keys: &KeySet, values: Values<'_>) -> bool {
    let is_too_large = |value: &ValueRef| match value {
        ValueRef::Literal { .. } => read(value, keys, values) == Ok(Key::Nowhere),
        ValueRef::Param(_) | ValueRef::Text(_) | ValueRef::Null => false,
    };
    keys.key_type.is_integer() && keys.values.len() > 1 && keys.values.iter().any(is_too_large)
}

/// Digits without quotes. What bigint cannot hold is numeric for PostgreSQL: it equals no key,
/// and no key column takes it.
fn integer_literal(digits: &[u8], negative: bool) -> Key {
    let value = std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse::<i128>().ok());
    let value = value.map(|value| if negative { -value } else { value });
    match value.and_then(|value| i64::try_from(value).ok()) {
        Some(value) => Key::Slot(slot_of_int(value)),
        None => Key::Nowhere,
    }
}

/// The content of `'…'`.
fn unquoted(literal: &[u8]) -> Cow<'_, [u8]> {
    let inner = literal
        .get(1..literal.len().saturating_sub(1))
        .unwrap_or_default();
    if !inner.contains(&b'\'') {
        return Cow::Borrowed(inner);
    }
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        text.push(*byte);
        if *byte == b'\'' {
            bytes.next();
        }
    }
    Cow::Owned(text)
}

fn parameter(index: usize, param: &Param<'_>, keys: &KeySet) -> Result<Key, Refusal> {
    if !keys.key_type.accepts(param.type_oid) {
        return Err(unusable(keys));
    }
    let Some(value) = param.value else {
        return null(keys);
    };
    if param.binary && keys.key_type == KeyType::Text {
        return stored(value, keys, KeyType::Text);
    }
    if param.binary {
        return from_binary(value, keys.key_type).ok_or_else(|| {
            Refusal::as_postgresql(
                "22P03",
                format!(
                    "incorrect binary data format in bind parameter {}",
                    index + 1
                ),
            )
        });
    }
    let declared = match param.type_oid {
        oid::INT2 => KeyType::Int2,
        oid::INT4 => KeyType::Int4,
        oid::INT8 => KeyType::Int8,
        _ => keys.key_type,
    };
    stored(value, keys, declared)
}

/// The send format of the key's type; integers by their own width, since the three compare.
fn from_binary(value: &[u8], key_type: KeyType) -> Option<Key> {
    let slot = match key_type {
        KeyType::Int2 | KeyType::Int4 | KeyType::Int8 => slot_of_int(match value.len() {
            2 => i64::from(i16::from_be_bytes(value.try_into().ok()?)),
            4 => i64::from(i32::from_be_bytes(value.try_into().ok()?)),
            _ => i64::from_be_bytes(value.try_into().ok()?),
        }),
        KeyType::Text => slot_of_text(value),
        KeyType::Uuid => slot_of_uuid(value.try_into().ok()?),
    };
    Some(Key::Slot(slot))
}

/// The text format of the key's type.
fn from_text(text: &[u8], key_type: KeyType) -> Result<Key, Refusal> {
    let slot = match key_type {
        KeyType::Int2 => slot_of_int(integer(text, key_type, i16::MIN.into(), i16::MAX.into())?),
        KeyType::Int4 => slot_of_int(integer(text, key_type, i32::MIN.into(), i32::MAX.into())?),
        KeyType::Int8 => slot_of_int(integer(text, key_type, i64::MIN, i64::MAX)?),
        KeyType::Text => slot_of_text(text),
        KeyType::Uuid => slot_of_uuid(uuid(text).ok_or_else(|| invalid(text, key_type))?),
    };
    Ok(Key::Slot(slot))
}

/// `int2in`, `int4in`, `int8in`: spaces around, one sign, digits. From PostgreSQL 16 on also `0x`, `0o`,
/// `0b` and single underscores between digits; an older server that the text goes to refuses it.
fn integer(text: &[u8], key_type: KeyType, min: i64, max: i64) -> Result<i64, Refusal> {
    let trimmed = text.trim_ascii();
    let (negative, unsigned) = match trimmed {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (radix, digits) = match unsigned {
        [b'0', b'x' | b'X', rest @ ..] => (16, rest.strip_prefix(b"_").unwrap_or(rest)),
        [b'0', b'o' | b'O', rest @ ..] => (8, rest.strip_prefix(b"_").unwrap_or(rest)),
        [b'0', b'b' | b'B', rest @ ..] => (2, rest.strip_prefix(b"_").unwrap_or(rest)),
        rest => (10, rest),
    };
    let mut value: i128 = 0;
    for group in digits.split(|byte| *byte == b'_') {
        if group.is_empty() {
            return Err(invalid(text, key_type));
        }
        for digit in group {
            let digit = char::from(*digit).to_digit(radix);
            let digit = digit.ok_or_else(|| invalid(text, key_type))?;
            value = value
                .saturating_mul(radix.into())
                .saturating_add(digit.into());
        }
    }
    let value = if negative { -value } else { value };
    match i64::try_from(value) {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        Ok(_) | Err(_) => Err(Refusal::as_postgresql(
            "22003",
            format!(
                "value \"{}\" is out of range for type {}",
                String::from_utf8_lossy(text),
                key_type.sql_name()
            ),
        )),
    }
}

/// `uuid_in`: 32 hexadecimal digits, a hyphen allowed after every fourth, braces around allowed.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let digits = match text.strip_prefix(b"{") {
        Some(rest) => rest.strip_suffix(b"}")?,
        None => text,
    };
    let mut bytes = [0; 16];
    let mut at = 0;
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = (hex(*digits.get(at)?)? << 4) | hex(*digits.get(at + 1)?)?;
        at += 2;
        if index % 2 == 1 && index < 15 && digits.get(at) == Some(&b'-') {
            at += 1;
        }
    }
    (at == digits.len()).then_some(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn null(keys: &KeySet) -> Result<Key, Refusal> {
    if !keys.insert {
        return Ok(Key::Nowhere);
    }
    let (table, column) = keys.column.rsplit_once('.').unwrap_or(("", &keys.column));
    Err(Refusal::as_postgresql(
        "23502",
        format!(
            "null value in column \"{column}\" of relation \"{table}\" violates not-null constraint"
        ),
    ))
}

fn invalid(text: &[u8], key_type: KeyType) -> Refusal {
    Refusal::as_postgresql(
        "22P02",
        format!(
            "invalid input syntax for type {}: \"{}\"",
            key_type.sql_name(),
            String::from_utf8_lossy(text)
        ),
    )
}

fn cut(keys: &KeySet) -> Refusal {
    let column = &keys.column;
    Refusal::unsupported(
        format!("a value with spaces at its end for sharding key {column} is not supported"),
        "The column may cut spaces off, and the row would belong to another shard.",
        "Send the value without spaces at its end.",
    )
}

pub(crate) fn unusable(keys: &KeySet) -> Refusal {
    let name = keys.key_type.sql_name();
    Refusal::unsupported(
        format!(
            "cannot tell the shard from this value of sharding key {}",
            keys.column
        ),
        format!("The key is {name}, and the value is of another type."),
        format!("Write it as {name}, or declare the parameter as {name}."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(key_type: KeyType) -> KeySet {
        KeySet {
            key_type,
            column: "orders.id".into(),
            insert: false,
            cuts_spaces: false,
            values: Vec::new(),
        }
    }

    fn param(value: &[u8], binary: bool, type_oid: u32, key_type: KeyType) -> Result<Key, Refusal> {
        let params = [Param {
            value: Some(value),
            binary,
            type_oid,
        }];
        let values = Values {
            params: &params,
            ..Values::default()
        };
        read(&ValueRef::Param(0), &keys(key_type), values)
    }

    #[test]
    fn integers_agree_in_all_widths_and_formats() {
        let slot = Ok(Key::Slot(slot_of_int(-17)));
        assert_eq!(param(b" -17 ", false, 0, KeyType::Int8), slot);
        assert_eq!(
            param(&(-17i16).to_be_bytes(), true, oid::INT2, KeyType::Int8),
            slot
        );
        assert_eq!(param(&(-17i32).to_be_bytes(), true, 0, KeyType::Int2), slot);
        assert_eq!(
            param(&(-17i64).to_be_bytes(), true, oid::INT8, KeyType::Int4),
            slot
        );
    }

    #[test]
    fn integers_are_read_as_postgresql_16_reads_them() {
        let expected = param(b"17", false, 0, KeyType::Int8);
        for text in ["0x11", "0X_1_1", "0o21", "0b1_0001", "1_7", " +0x11 "] {
            let key = param(text.as_bytes(), false, 0, KeyType::Int8);
            assert_eq!(key, expected, "{text}");
        }
        let expected = param(b"-32768", false, 0, KeyType::Int2);
        assert_eq!(param(b"-0x8000", false, 0, KeyType::Int2), expected);
        for text in [
            "_17", "17_", "1__7", "0x", "0x_", "0x__1", "0b2", "0o8", "0x-1",
        ] {
            let refusal = param(text.as_bytes(), false, 0, KeyType::Int8).expect_err(text);
            assert_eq!(refusal.code, "22P02", "{text}");
        }
        for text in [
            "0x8000000000000000",
            "0xffffffffffffffffffffffffffffffffffff",
        ] {
            let refusal = param(text.as_bytes(), false, 0, KeyType::Int8).expect_err(text);
            assert_eq!(refusal.code, "22003", "{text}");
        }
    }

    #[test]
    fn wrong_values_are_refused_in_postgresqls_words() {
        let cases = [
            (
                param(b"abc", false, 0, KeyType::Int8),
                "22P02",
                "invalid input syntax for type bigint: \"abc\"",
            ),
            (
                param(b"", false, 0, KeyType::Int4),
                "22P02",
                "invalid input syntax for type integer: \"\"",
            ),
            (
                param(b"+-1", false, 0, KeyType::Int4),
                "22P02",
                "invalid input syntax for type integer: \"+-1\"",
            ),
            (
                param(b"70000", false, 0, KeyType::Int2),
                "22003",
                "value \"70000\" is out of range for type smallint",
            ),
            (
                param(b"1", false, 0, KeyType::Uuid),
                "22P02",
                "invalid input syntax for type uuid: \"1\"",
            ),
            (
                param(b"123", true, 0, KeyType::Int8),
                "22P03",
                "incorrect binary data format in bind parameter 1",
            ),
        ];
        for (result, code, message) in cases {
            let refusal = result.expect_err(message);
            assert_eq!((refusal.code, &*refusal.message), (code, message));
        }
    }

    #[test]
    fn a_parameter_of_another_type_is_not_a_key() {
        const NUMERIC: u32 = 1700;
        let refusal = param(b"17", false, NUMERIC, KeyType::Int8).expect_err("numeric");
        assert_eq!(refusal.code, "0A000");
    }

    #[test]
    fn uuids_are_read_as_postgresql_reads_them() {
        let same = [
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "A0EEBC999C0B4EF8BB6D6BB9BD380A11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        ];
        for text in same {
            assert_eq!(uuid(text.as_bytes()), uuid(same[0].as_bytes()), "{text}");
            assert!(uuid(text.as_bytes()).is_some(), "{text}");
        }
        for text in [
            "",
            "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
            "a-0eebc999c0b4ef8bb6d6bb9bd380a11",
        ] {
            assert_eq!(uuid(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn null_matches_nothing_and_cannot_be_inserted() {
        let mut keys = keys(KeyType::Int8);
        assert_eq!(
            read(&ValueRef::Null, &keys, Values::default()),
            Ok(Key::Nowhere)
        );
        keys.insert = true;
        let refusal = read(&ValueRef::Null, &keys, Values::default()).expect_err("NULL");
        assert_eq!(
            (refusal.code, &*refusal.message),
            (
                "23502",
                "null value in column \"id\" of relation \"orders\" violates not-null constraint"
            )
        );
    }

    #[test]
    fn doubled_quotes_are_undone() {
        assert_eq!(&*unquoted(b"'it''s'"), b"it's");
        assert_eq!(&*unquoted(b"''"), b"");
        assert_eq!(&*unquoted(b"''''"), b"'");
    }
}
