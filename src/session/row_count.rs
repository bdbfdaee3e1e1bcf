//! The values of LIMIT and OFFSET of a merge, as PostgreSQL reads them.

use std::num::IntErrorKind;

use planner::Values;
use planner::route::ValueRef;

use crate::error::{Error, Fault};

/// The value of LIMIT or OFFSET; `None` is NULL: no limit, no offset.
///
/// # Errors
/// In PostgreSQL's words.
pub(super) fn row_count(
    value: &ValueRef,
    values: Values<'_>,
    clause: &str,
) -> Result<Option<u64>, Error> {
    let unread = || {
        Error::new(
            Fault::Ringway,
            "XX000",
            format!("{clause} is not in the text"),
        )
    };
    let number = match value {
        ValueRef::Null => return Ok(None),
        ValueRef::Text(text) => integer(text.as_bytes(), "bigint")?,
        ValueRef::Literal { piece, negative } => {
            let range = values.pieces.get(*piece).ok_or_else(unread)?.range.clone();
            let text = values.sql.get(range).ok_or_else(unread)?;
            let string = text
                .strip_prefix(b"'")
                .and_then(|text| text.strip_suffix(b"'"));
            let number = match string {
                Some(inner) => {
                    let inner = String::from_utf8_lossy(inner).replace("''", "'");
                    i128::from(integer(inner.as_bytes(), "bigint")?)
                }
                // What is too large for a bigint is a numeric, which is made one only with its sign.
                None => {
                    let digits = std::str::from_utf8(text).unwrap_or_default();
                    digits.parse().map_err(|_| out_of_range())?
                }
            };
            let number = if *negative { -number } else { number };
            i64::try_from(number).map_err(|_| out_of_range())?
        }
        ValueRef::Param(n) => {
            let param = values.params.get(*n).ok_or_else(no_parameter)?;
            match param.value {
                None => return Ok(None),
                Some(bytes) if param.binary => binary_integer(bytes, *n)?,
                Some(bytes) => integer(
                    bytes,
                    match param.type_oid {
                        INT2 => "smallint",
                        INT4 => "integer",
                        _ => "bigint",
                    },
                )?,
            }
        }
    };
    match u64::try_from(number) {
        Ok(count) => Ok(Some(count)),
        Err(_) => {
            let code = if clause == "LIMIT" { "2201W" } else { "2201X" };
            Err(Error::new(
                Fault::Client,
                code,
                format!("{clause} must not be negative"),
            ))
        }
    }
}

const INT2: u32 = 21;
const INT4: u32 = 23;

/// As `int8in` reads a text; messages name the type that PostgreSQL reads it as.
/// <https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/utils/adt/numutils.c>
fn integer(text: &[u8], type_name: &str) -> Result<i64, Error> {
    let text = String::from_utf8_lossy(text);
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r');
    text.trim_matches(is_space)
        .parse()
        .map_err(|error: std::num::ParseIntError| match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => {
                let message = format!("value \"{text}\" is out of range for type {type_name}");
                Error::new(Fault::Client, "22003", message)
            }
            _ => {
                let message = format!("invalid input syntax for type {type_name}: \"{text}\"");
                Error::new(Fault::Client, "22P02", message)
            }
        })
}

/// Of the types whose values a merge counts with: the server holds each to its own length.
fn binary_integer(bytes: &[u8], param: usize) -> Result<i64, Error> {
    match *bytes {
        [a, b] => Ok(i16::from_be_bytes([a, b]).into()),
        [a, b, c, d] => Ok(i32::from_be_bytes([a, b, c, d]).into()),
        [a, b, c, d, e, f, g, h] => Ok(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ if bytes.len() < 8 => {
            let message = "insufficient data left in message";
            Err(Error::new(Fault::Client, "08P01", message))
        }
        _ => {
            let message = format!(
                "incorrect binary data format in bind parameter {}",
                param + 1
            );
            Err(Error::new(Fault::Client, "22P03", message))
        }
    }
}

fn out_of_range() -> Error {
    Error::new(Fault::Client, "22003", "bigint out of range")
}

/// In PostgreSQL's words.
pub(super) fn no_parameter() -> Error {
    Error::new(Fault::Client, "42P02", "there is no parameter $1")
}
