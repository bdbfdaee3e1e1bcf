//! The client's messages after login, borrowed from the frame's body, and what length each may have.

use super::frame::{self, cstr, i16, i32, take, u8, u16};
use crate::error::{Error, Fault};

/// Limit PostgreSQL sets for messages that have no business being long (`PQ_SMALL_MESSAGE_LIMIT`): what
/// the length word says may be no more. The tag comes before that.
const SMALL_MESSAGE: usize = 1 + 10_000;
/// The largest frame PostgreSQL reads: its length word may say `MaxAllocSize - 1`.
pub const LARGEST: usize = 0x3fff_ffff;

/// Checks a frame a client may send now: its tag, and its length for its tag.
///
/// # Errors
/// FATAL 08P01, as PostgreSQL answers it.
pub fn check(tag: u8, len: usize, max: usize) -> Result<(), Error> {
    let limit = match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' => max,
        b'D' | b'E' | b'C' | b'S' | b'H' | b'X' | b'c' | b'f' => SMALL_MESSAGE.min(max),
        other => {
            return Err(Error::protocol(format!(
                "invalid frontend message type {other}"
            )));
        }
    };
    if len > limit {
        return Err(Error::protocol("invalid message length").detail(format!(
            "The message has {len} bytes, the limit is {limit}."
        )));
    }
    Ok(())
}

/// 08P01 as PostgreSQL words it (pqformat.c). No more than an ERROR: where the frame ends is known.
fn malformed(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Fault::Client, "08P01", message)
}

fn no_string() -> Error {
    malformed("invalid string in message")
}

fn too_short() -> Error {
    malformed("insufficient data left in message")
}

/// # Errors
/// When anything is left: the message is longer than what it says.
pub fn end(bytes: &[u8]) -> Result<(), Error> {
    match bytes {
        [] => Ok(()),
        _ => Err(malformed("invalid message format")),
    }
}

/// Parse, Bind, Describe, Execute, Close, Flush, Sync.
pub fn is_extended(tag: u8) -> bool {
    matches!(tag, b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'S')
}

/// The frame at the start of `bytes` if it is whole and of the extended protocol.
///
/// # Errors
/// As [`check`].
pub fn whole_extended(bytes: &[u8], max: usize) -> Result<Option<&[u8]>, Error> {
    let Some(header) = frame::peek(bytes)?.filter(|header| is_extended(header.tag)) else {
        return Ok(None);
    };
    check(header.tag, header.len, max)?;
    Ok(bytes.get(..header.len))
}

#[derive(Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    pub name: &'a [u8],
    pub sql: &'a [u8],
    /// Declared parameter types; 0 leaves one to the server.
    pub types: Vec<u32>,
}

impl<'a> Parse<'a> {
    pub fn read(mut body: &'a [u8]) -> Result<Self, Error> {
        let bytes = &mut body;
        let name = cstr(bytes).ok_or_else(no_string)?;
        let sql = cstr(bytes).ok_or_else(no_string)?;
        let count = u16(bytes).ok_or_else(too_short)?;
        let types = (0..count)
            .map(|_| i32(bytes).map(|t| t as u32))
            .collect::<Option<_>>()
            .ok_or_else(too_short)?;
        end(bytes)?;
        Ok(Self { name, sql, types })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    pub portal: &'a [u8],
    pub statement: &'a [u8],
    /// 0, 1 or one per parameter.
    pub formats: Vec<i16>,
    pub values: Vec<Option<&'a [u8]>>,
    /// 0, 1 or one per column.
    pub result_formats: Vec<i16>,
    /// Everything after the two names, to be sent on untouched.
    pub rest: &'a [u8],
}

impl<'a> Bind<'a> {
    /// The names only: enough when nothing depends on the values.
    #[allow(clippy::type_complexity)]
    pub fn names(mut body: &'a [u8]) -> Result<(&'a [u8], &'a [u8], &'a [u8]), Error> {
        let bytes = &mut body;
        let portal = cstr(bytes).ok_or_else(no_string)?;
        let statement = cstr(bytes).ok_or_else(no_string)?;
        Ok((portal, statement, bytes))
    }

    pub fn read(body: &'a [u8]) -> Result<Self, Error> {
        let (portal, statement, rest) = Self::names(body)?;
        let bytes = &mut &*rest;
        let formats = formats(bytes)?;
        let count = u16(bytes).ok_or_else(too_short)?;
        if formats.len() > 1 && formats.len() != usize::from(count) {
            let formats = formats.len();
            return Err(malformed(format!(
                "bind message has {formats} parameter formats but {count} parameters"
            )));
        }
        let mut values = Vec::new();
        for _ in 0..count {
            let value = match i32(bytes).ok_or_else(too_short)? {
                -1 => None,
                len => {
                    let len = usize::try_from(len).map_err(|_| too_short())?;
                    Some(take(bytes, len).ok_or_else(too_short)?)
                }
            };
            values.push(value);
        }
        let result_formats = self::formats(bytes)?;
        end(bytes)?;
        Ok(Self {
            portal,
            statement,
            formats,
            values,
            result_formats,
            rest,
        })
    }

    pub fn is_binary(&self, param: usize) -> bool {
        match self.formats.as_slice() {
            [] => false,
            [all] => *all == 1,
            each => each.get(param) == Some(&1),
        }
    }
}

fn formats(bytes: &mut &[u8]) -> Result<Vec<i16>, Error> {
    let count = u16(bytes).ok_or_else(too_short)?;
    let formats: Option<_> = (0..count).map(|_| i16(bytes)).collect();
    formats.ok_or_else(too_short)
}

/// What Describe and Close speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    Statement(&'a [u8]),
    Portal(&'a [u8]),
}

impl<'a> Named<'a> {
    pub fn read(mut body: &'a [u8], message: &str) -> Result<Self, Error> {
        let bytes = &mut body;
        let kind = u8(bytes).ok_or_else(|| malformed("no data left in message"))?;
        let name = cstr(bytes).ok_or_else(no_string)?;
        end(bytes)?;
        match kind {
            b'S' => Ok(Self::Statement(name)),
            b'P' => Ok(Self::Portal(name)),
            _ => Err(malformed(format!(
                "invalid {message} message subtype {kind}"
            ))),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    pub portal: &'a [u8],
    /// 0 is no limit.
    pub max_rows: u32,
}

impl<'a> Execute<'a> {
    pub fn read(mut body: &'a [u8]) -> Result<Self, Error> {
        let bytes = &mut body;
        let portal = cstr(bytes).ok_or_else(no_string)?;
        let max_rows = i32(bytes).ok_or_else(too_short)?.max(0) as u32;
        end(bytes)?;
        Ok(Self { portal, max_rows })
    }
}

/// The text of a simple Query.
pub fn query(mut body: &[u8]) -> Result<&[u8], Error> {
    let bytes = &mut body;
    let sql = cstr(bytes).ok_or_else(no_string)?;
    end(bytes)?;
    Ok(sql)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_with_lying_lengths_is_an_error() {
        // portal "", statement "", no formats, one value of 100 bytes that are not there.
        let body = b"\0\0\0\0\0\x01\0\0\0\x64ab\0\0";
        assert!(Bind::read(body).is_err());
        let body = b"\0\0\0\0\0\x01\xff\xff\xff\xffXX";
        assert!(Bind::read(body).is_err());
        let body = b"\0\0\0\0\0\x01\xff\xff\xff\xff\0\0";
        assert_eq!(Bind::read(body).expect("valid").values, vec![None]);
    }

    #[test]
    fn only_frontend_tags_pass() {
        assert!(check(b'Q', 100, 1000).is_ok());
        assert!(check(b'Q', 1001, 1000).is_err());
        assert!(check(b'T', 10, 1000).is_err());
        assert!(check(b'E', 10_001, usize::MAX).is_ok());
        assert!(check(b'E', 10_002, usize::MAX).is_err());
    }

    #[test]
    fn trailing_bytes_are_refused() {
        assert!(query(b"SELECT 1\0x").is_err());
        assert!(Execute::read(b"\0\0\0\0\0!").is_err());
        assert!(Named::read(b"X\0", "Describe").is_err());
    }
}
