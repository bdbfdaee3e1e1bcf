//! Arrays of keys, as `= ANY` has them, in text and binary format.

use std::borrow::Cow;

use super::input::{from_binary, from_cow, unquoted};
use super::{Datum, Reading, oid};
use crate::catalog::KeyType;
use crate::limit::KeyPart;
use crate::refusal::Refusal;
use crate::route::{ValueRef, Values};
use crate::shape::PieceKind;

/// The elements that are not NULL; `None` where the array does not tell them for sure.
///
/// # Errors
/// As [`super::read`] for an element.
pub(crate) fn elements<'v>(
    value: &'v ValueRef,
    column: &KeyPart,
    values: Values<'v>,
) -> Result<Option<Vec<Datum<'v>>>, Refusal> {
    let key_type = column.key_type;
    match value {
        ValueRef::Literal { piece, negative } => {
            let piece = values.pieces.get(*piece);
            let text = piece.filter(|piece| piece.kind == PieceKind::String && !negative);
            let text = text.and_then(|piece| values.sql.get(piece.range.clone()));
            match text.map(unquoted) {
                Some(Cow::Borrowed(text)) => of_text(text, key_type),
                // A quote in a key in an array is rare.
                Some(Cow::Owned(_)) | None => Ok(None),
            }
        }
        ValueRef::Text(text) => of_text(text.as_bytes(), key_type),
        ValueRef::Null => Ok(Some(Vec::new())),
        ValueRef::Param(index) => {
            let Some(param) = values.params.get(*index) else {
                return Ok(None);
            };
            let element = match param.type_oid {
                0 | oid::UNKNOWN => Some(0),
                array => element_oid(array),
            };
            match (param.value, element) {
                (None, _) => Ok(Some(Vec::new())),
                (Some(_), None) => Ok(None),
                (Some(value), Some(_)) if param.binary => Ok(of_binary(value, key_type)),
                (Some(value), Some(element)) => match as_read(key_type, element) {
                    Some(read) => of_text(value, read),
                    None => Ok(None),
                },
            }
        }
    }
}

/// May a parameter declared as this array type be compared with such a key by `= ANY`?
pub(crate) fn accepts_array(key_type: KeyType, type_oid: u32) -> bool {
    match type_oid {
        0 | oid::UNKNOWN => true,
        array => element_oid(array).is_some_and(|element| as_read(key_type, element).is_some()),
    }
}

/// The element type of an array type; OIDs from `pg_type.dat`.
fn element_oid(array: u32) -> Option<u32> {
    match array {
        1001 => Some(oid::BYTEA),
        1005 => Some(oid::INT2),
        1007 => Some(oid::INT4),
        1016 => Some(oid::INT8),
        1009 => Some(oid::TEXT),
        1014 => Some(oid::BPCHAR),
        1015 => Some(oid::VARCHAR),
        1182 => Some(oid::DATE),
        1115 => Some(oid::TIMESTAMP),
        1185 => Some(oid::TIMESTAMPTZ),
        1231 => Some(oid::NUMERIC),
        2951 => Some(oid::UUID),
        _ => None,
    }
}

/// The type to read elements as: their own, where a key of `key_type` compares with it as it is.
fn as_read(key_type: KeyType, element: u32) -> Option<KeyType> {
    if element == 0 {
        return Some(key_type);
    }
    KeyType::of_oid(element).filter(|element| element.hashes_like(key_type))
}

/// `array_in` for one dimension without bounds; other arrays are not told.
fn of_text(text: &[u8], key_type: KeyType) -> Result<Option<Vec<Datum<'_>>>, Refusal> {
    let inner = text.trim_ascii().strip_prefix(b"{");
    let Some(inner) = inner.and_then(|text| text.strip_suffix(b"}")) else {
        return Ok(None);
    };
    let mut found = Vec::new();
    if inner.trim_ascii().is_empty() {
        return Ok(Some(found));
    }
    let mut rest = Some(inner);
    while let Some(text) = rest {
        let Some((element, after)) = element(text) else {
            return Ok(None);
        };
        // With array_nulls off, NULL without quotes is a text like others.
        let text_null = matches!(key_type, KeyType::Text | KeyType::Bpchar)
            .then(|| text.trim_ascii_start().get(..4))
            .flatten()
            .map(Cow::Borrowed);
        if let Some(element) = element.or(text_null) {
            match from_cow(element, key_type)? {
                Reading::Is(datum) => found.push(datum),
                Reading::Null | Reading::Nowhere => {}
                Reading::Unclear => return Ok(None),
            }
        }
        rest = after;
    }
    Ok(Some(found))
}

/// An element (`None` within is NULL) and what stands after its comma.
type Element<'t> = (Option<Cow<'t, [u8]>>, Option<&'t [u8]>);

fn element(text: &[u8]) -> Option<Element<'_>> {
    let text = text.trim_ascii_start();
    if let Some(quoted) = text.strip_prefix(b"\"") {
        let mut element = Vec::new();
        let mut bytes = quoted.iter().enumerate();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'"' => {
                    let after = quoted[at + 1..].trim_ascii_start();
                    let after = match after.split_first() {
                        None => None,
                        Some((b',', after)) => Some(after),
                        Some(_) => return None,
                    };
                    return Some((Some(Cow::Owned(element)), after));
                }
                b'\\' => element.push(*bytes.next()?.1),
                other => element.push(*other),
            }
        }
        return None;
    }
    let end = text.iter().position(|b| *b == b',').unwrap_or(text.len());
    let element = text[..end].trim_ascii_end();
    let plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | b'{' | b'}');
    if element.is_empty() || !element.iter().all(plain) {
        return None;
    }
    let after = text.get(end + 1..);
    let is_null = element.eq_ignore_ascii_case(b"null");
    Some(((!is_null).then_some(Cow::Borrowed(element)), after))
}

/// `array_recv`: dimensions, flags, type of elements; per dimension its length and lower bound; then
/// each element with its length, -1 for NULL.
fn of_binary(value: &[u8], key_type: KeyType) -> Option<Vec<Datum<'_>>> {
    let mut rest = value;
    let dimensions = word(&mut rest)?;
    let _flags = word(&mut rest)?;
    let element = as_read(key_type, u32::try_from(word(&mut rest)?).ok()?)?;
    let mut count = i64::from(dimensions > 0);
    for _ in 0..dimensions {
        count = count.checked_mul(word(&mut rest)?.into())?;
        let _lower_bound = word(&mut rest)?;
    }
    let mut found = Vec::new();
    for _ in 0..count {
        let length = word(&mut rest)?;
        let Ok(length) = usize::try_from(length) else {
            continue;
        };
        let (bytes, after) = rest.split_at_checked(length)?;
        rest = after;
        match from_binary(bytes, element)? {
            Reading::Is(datum) => found.push(datum),
            Reading::Null | Reading::Nowhere => {}
            Reading::Unclear => return None,
        }
    }
    rest.is_empty().then_some(found)
}

fn word(rest: &mut &[u8]) -> Option<i32> {
    let (word, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(i32::from_be_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Option<Vec<String>> {
        let found = of_text(text.as_bytes(), KeyType::Text).ok()??;
        let text = |datum: Datum<'_>| match datum {
            Datum::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => panic!("{other:?}"),
        };
        Some(found.into_iter().map(text).collect())
    }

    #[test]
    fn arrays_are_read_as_postgresql_reads_them() {
        for (text, expected) in [
            ("{}", &[][..]),
            (" { } ", &[]),
            ("{a,b}", &["a", "b"]),
            ("{ a b , c }", &["a b", "c"]),
            (r#"{"a,b","c\"d","e\\f",""}"#, &["a,b", "c\"d", "e\\f", ""]),
            // It may be NULL, and with array_nulls off a text.
            ("{NULL,null,\"NULL\"}", &["NULL", "null", "NULL"]),
            ("{\"a\" , b}", &["a", "b"]),
        ] {
            let expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(texts(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "a",
            "{a",
            "{a,}",
            "{,a}",
            "{{a}}",
            "[0:1]={a,b}",
            r"{a\b}",
            "{\"a}",
            "{\"a\"b}",
        ] {
            assert_eq!(texts(text), None, "{text}");
        }
    }

    fn sent(element: u32, elements: &[Option<&[u8]>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let words = [1, 0, element as i32, elements.len() as i32, 1];
        bytes.extend(words.iter().flat_map(|word: &i32| word.to_be_bytes()));
        for element in elements {
            let length = element.map_or(-1, |bytes| bytes.len() as i32);
            bytes.extend(length.to_be_bytes());
            bytes.extend(element.unwrap_or_default());
        }
        bytes
    }

    #[test]
    fn binary_arrays_tell_their_own_element_type() {
        let four = 7_i32.to_be_bytes();
        let bytes = sent(oid::INT4, &[Some(&four), None]);
        let expected = Some(vec![Datum::Int(7)]);
        assert_eq!(of_binary(&bytes, KeyType::Int8), expected);
        assert_eq!(of_binary(&bytes, KeyType::Numeric), None);
        assert_eq!(of_binary(&bytes[..bytes.len() - 1], KeyType::Int8), None);
        let empty: Vec<u8> = [0, 0, 20_i32]
            .iter()
            .flat_map(|w| w.to_be_bytes())
            .collect();
        assert_eq!(of_binary(&empty, KeyType::Int8), Some(vec![]));
        // A count that its bytes do not bear out.
        let words = [1, 0, 20, i32::MAX, 1_i32];
        let lies: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        assert_eq!(of_binary(&lies, KeyType::Int8), None);
    }
}
