//! PostgreSQL's input functions of the types that keys have: text and binary format to values.

use std::borrow::Cow;

use super::{Datum, Reading, numeric, time};
use crate::catalog::KeyType;
use crate::refusal::Refusal;

/// The content of `'…'`.
pub(super) fn unquoted(literal: &[u8]) -> Cow<'_, [u8]> {
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

/// The send format of the key's type; integers by their own width, since the three compare.
pub(super) fn from_binary(value: &[u8], key_type: KeyType) -> Option<Reading<'_>> {
    let datum = match key_type {
        KeyType::Int2 | KeyType::Int4 | KeyType::Int8 => Datum::Int(binary_integer(value)?),
        KeyType::Date => Datum::Int(i32::from_be_bytes(value.try_into().ok()?).into()),
        KeyType::Timestamp | KeyType::Timestamptz => {
            Datum::Int(i64::from_be_bytes(value.try_into().ok()?))
        }
        KeyType::Text | KeyType::Bytea => Datum::Bytes(value.into()),
        KeyType::Bpchar => Datum::Bytes(without_blanks(value.into())),
        KeyType::Uuid => Datum::Uuid(value.try_into().ok()?),
        KeyType::Numeric => return Some(numeric::from_binary(value)),
    };
    Some(Reading::Is(datum))
}

/// An integer of any width.
pub(super) fn binary_integer(value: &[u8]) -> Option<i64> {
    Some(match value.len() {
        2 => i64::from(i16::from_be_bytes(value.try_into().ok()?)),
        4 => i64::from(i32::from_be_bytes(value.try_into().ok()?)),
        _ => i64::from_be_bytes(value.try_into().ok()?),
    })
}

/// Digits so few that every number of as many is of the type.
pub(super) fn plain_digits(digits: &[u8], key_type: KeyType) -> Option<i64> {
    let most = match key_type {
        KeyType::Int2 => 4,
        KeyType::Int4 => 9,
        KeyType::Int8 => 18,
        KeyType::Text
        | KeyType::Bpchar
        | KeyType::Uuid
        | KeyType::Date
        | KeyType::Timestamp
        | KeyType::Timestamptz
        | KeyType::Numeric
        | KeyType::Bytea => return None,
    };
    if digits.is_empty() || digits.len() > most {
        return None;
    }
    let mut value = 0;
    for digit in digits {
        value = value * 10 + i64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    Some(value)
}

/// The text format of the key's type.
pub(crate) fn from_text(text: &[u8], key_type: KeyType) -> Result<Reading<'_>, Refusal> {
    from_cow(text.into(), key_type)
}

pub(super) fn from_cow(text: Cow<'_, [u8]>, key_type: KeyType) -> Result<Reading<'_>, Refusal> {
    let sure = |value: Option<i64>| value.map_or(Reading::Unclear, |v| Reading::Is(Datum::Int(v)));
    let datum = match key_type {
        KeyType::Int2 => Datum::Int(integer(&text, key_type, i16::MIN.into(), i16::MAX.into())?),
        KeyType::Int4 => Datum::Int(integer(&text, key_type, i32::MIN.into(), i32::MAX.into())?),
        KeyType::Int8 => Datum::Int(integer(&text, key_type, i64::MIN, i64::MAX)?),
        KeyType::Text => Datum::Bytes(text),
        KeyType::Bpchar => Datum::Bytes(without_blanks(text)),
        KeyType::Uuid => Datum::Uuid(uuid(&text).ok_or_else(|| invalid(&text, key_type))?),
        KeyType::Date => return Ok(sure(time::date(&text))),
        KeyType::Timestamp => return Ok(sure(time::timestamp(&text))),
        KeyType::Timestamptz => return Ok(sure(time::timestamptz(&text))),
        KeyType::Numeric => return Ok(numeric::from_text(&text)),
        KeyType::Bytea => match bytea(&text) {
            Some(bytes) => Datum::Bytes(bytes.into()),
            None => return Ok(Reading::Unclear),
        },
    };
    Ok(Reading::Is(datum))
}

/// `bcTruelen`: blanks at the end of a char(n) are padding.
fn without_blanks(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let length = text.iter().rposition(|b| *b != b' ').map_or(0, |at| at + 1);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..length]),
        Cow::Owned(mut text) => {
            text.truncate(length);
            Cow::Owned(text)
        }
    }
}

/// `byteain`: hexadecimal after `\x`, else ASCII with `\\` and `\ooo` escapes.
fn bytea(text: &[u8]) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix(b"\\x") {
        let pairs = digits.chunks(2);
        return pairs
            .map(|pair| Some((hex(pair[0])? << 4) | hex(*pair.get(1)?)?))
            .collect();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let octal = |at: usize| {
            let digit = after.get(at).filter(|digit| (b'0'..=b'7').contains(digit));
            digit.map(|digit| digit - b'0')
        };
        let (byte, length) = match first {
            b'\\' if after.first() == Some(&b'\\') => (b'\\', 2),
            b'\\' => match (octal(0)?, octal(1)?, octal(2)?) {
                (high @ 0..=3, middle, low) => ((high << 6) | (middle << 3) | low, 4),
                _ => return None,
            },
            // What other bytes are on the server depends on its encoding.
            0x00..=0x7F => (*first, 1),
            0x80.. => return None,
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    Some(bytes)
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
pub(super) fn uuid(text: &[u8]) -> Option<[u8; 16]> {
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
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
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
