//! Frame headers: one tag byte, then a length that counts itself but not the tag.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use crate::error::Error;

/// Bytes of a header: tag and length.
pub const HEADER: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub tag: u8,
    /// The whole frame's length, tag included; at least [`HEADER`].
    pub len: usize,
}

/// The header at the start of `bytes`, or `None` while it is incomplete.
///
/// # Errors
/// 08P01 when the length does not even cover itself.
pub fn peek(bytes: &[u8]) -> Result<Option<Header>, Error> {
    let [tag, a, b, c, d, ..] = *bytes else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    if length < 4 {
        return Err(Error::protocol("invalid message length"));
    }
    Ok(Some(Header {
        tag,
        len: length as usize + 1,
    }))
}

/// The frame at the start of `bytes` with its body, or `None` while it is incomplete.
pub fn whole(bytes: &[u8]) -> Result<Option<(Header, &[u8])>, Error> {
    Ok(peek(bytes)?.and_then(|header| Some((header, bytes.get(HEADER..header.len)?))))
}

/// Splits a NUL-terminated string off the front of `bytes`.
pub fn cstr<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    // Most names of portals and statements are empty: a search for their end takes 40 instructions.
    let end = match bytes.first()? {
        0 => 0,
        _ => memchr::memchr(0, bytes)?,
    };
    let (text, rest) = bytes.split_at(end);
    *bytes = &rest[1..];
    Some(text)
}

pub fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(head)
}

pub fn u8(bytes: &mut &[u8]) -> Option<u8> {
    take(bytes, 1).map(|b| b[0])
}

/// Counts are unsigned: up to 65,535 parameters.
pub fn u16(bytes: &mut &[u8]) -> Option<u16> {
    take(bytes, 2).map(|b| u16::from_be_bytes([b[0], b[1]]))
}

pub fn i16(bytes: &mut &[u8]) -> Option<i16> {
    take(bytes, 2).map(|b| i16::from_be_bytes([b[0], b[1]]))
}

pub fn i32(bytes: &mut &[u8]) -> Option<i32> {
    take(bytes, 4).map(|b| i32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_needs_five_bytes_and_an_honest_length() {
        assert_eq!(peek(b"Q\0\0\0").ok(), Some(None));
        assert_eq!(
            peek(b"Q\0\0\0\x04").ok(),
            Some(Some(Header { tag: b'Q', len: 5 }))
        );
        assert!(peek(b"Q\0\0\0\x03").is_err());
    }

    #[test]
    fn whole_waits_for_the_body() {
        assert_eq!(whole(b"S\0\0\0\x06a").ok(), Some(None));
        let (header, body) = whole(b"S\0\0\0\x06abX").ok().flatten().expect("complete");
        assert_eq!((header.len, body), (7, &b"ab"[..]));
    }
}
