//! The client's messages after login, borrowed from the frame's body, and what length each may have.

use super::frame::{self, cstr, i16, i32, take, u8, u16};
use crate::error::Error;

/// Limit PostgreSQL sets for messages that have no business being long (pqcomm.h).
const SMALL_MESSAGE: usize = 10_000;

/// Checks a frame a client may send now: its tag, and its length for its tag.
///
/// # Errors
/// FATAL 08P01, as PostgreSQL answers it.
pub fn check(tag: u8, len: usize, max: usize) -> Result<(), Error> {
    let limit = match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' => max,
        b'D' | b'E' | b'C' | b'S' | b'H' | b'X' | b'c' | b'f' | b'p' => SMALL_MESSAGE.min(max),
        other => {
            return Err(Error::protocol(format!(
                "invalid frontend message type {other}"
            )));
        }
    };
    if len > limit {
        return Err(Error::protocol("invalid message length")
            .detail(format!(
                "The message has {len} bytes, the limit is {limit}."
            ))
            .hint("Raise max_message_mib, or send the value with COPY."));
    }
    Ok(())
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

fn malformed(what: &str) -> Error {
    Error::protocol(format!("invalid {what} message format"))
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
        let mut read = || -> Option<Self> {
            let (name, sql) = (cstr(bytes)?, cstr(bytes)?);
            let count = u16(bytes)?;
            let types = (0..count)
                .map(|_| i32(bytes).map(|t| t as u32))
                .collect::<Option<_>>()?;
            bytes.is_empty().then_some(Self { name, sql, types })
        };
        read().ok_or_else(|| malformed("Parse"))
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
        let portal = cstr(bytes).ok_or_else(|| malformed("Bind"))?;
        let statement = cstr(bytes).ok_or_else(|| malformed("Bind"))?;
        Ok((portal, statement, bytes))
    }

    pub fn read(body: &'a [u8]) -> Result<Self, Error> {
        let (portal, statement, rest) = Self::names(body)?;
        let mut bytes = rest;
        Self::read_rest(&mut bytes)
            .filter(|_| bytes.is_empty())
            .map(|(formats, values, result_formats)| Self {
                portal,
                statement,
                formats,
                values,
                result_formats,
                rest,
            })
            .ok_or_else(|| malformed("Bind"))
    }

    #[allow(clippy::type_complexity)]
    fn read_rest(bytes: &mut &'a [u8]) -> Option<(Vec<i16>, Vec<Option<&'a [u8]>>, Vec<i16>)> {
        let formats = formats(bytes)?;
        let count = u16(bytes)?;
        let mut values = Vec::new();
        for _ in 0..count {
            let len = i32(bytes)?;
            values.push(match len {
                -1 => None,
                _ => Some(take(bytes, usize::try_from(len).ok()?)?),
            });
        }
        if formats.len() > 1 && formats.len() != values.len() {
            return None;
        }
        Some((formats, values, self::formats(bytes)?))
    }

    pub fn is_binary(&self, param: usize) -> bool {
        match self.formats.as_slice() {
            [] => false,
            [all] => *all == 1,
            each => each.get(param) == Some(&1),
        }
    }
}

fn formats(bytes: &mut &[u8]) -> Option<Vec<i16>> {
    let count = u16(bytes)?;
    (0..count).map(|_| i16(bytes)).collect()
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
        let kind = u8(bytes).ok_or_else(|| malformed(message))?;
        let name = cstr(bytes).ok_or_else(|| malformed(message))?;
        match (kind, bytes.is_empty()) {
            (b'S', true) => Ok(Self::Statement(name)),
            (b'P', true) => Ok(Self::Portal(name)),
            _ => Err(Error::protocol(format!(
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
        cstr(bytes)
            .and_then(|portal| {
                Some(Self {
                    portal,
                    max_rows: i32(bytes)?.max(0) as u32,
                })
            })
            .filter(|_| bytes.is_empty())
            .ok_or_else(|| malformed("Execute"))
    }
}

/// The text of a simple Query.
pub fn query(mut body: &[u8]) -> Result<&[u8], Error> {
    let bytes = &mut body;
    cstr(bytes)
        .filter(|_| bytes.is_empty())
        .ok_or_else(|| malformed("Query"))
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
        assert!(check(b'E', 10_001, usize::MAX).is_err());
    }

    #[test]
    fn trailing_bytes_are_refused() {
        assert!(query(b"SELECT 1\0x").is_err());
        assert!(Execute::read(b"\0\0\0\0\0!").is_err());
        assert!(Named::read(b"X\0", "Describe").is_err());
    }
}
