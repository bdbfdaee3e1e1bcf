//! Frames that Ringway writes itself.

use bytes::{BufMut, BytesMut};

pub const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
pub const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
pub const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";
pub const NO_DATA: &[u8] = b"n\0\0\0\x04";
pub const EMPTY_QUERY: &[u8] = b"I\0\0\0\x04";
pub const PORTAL_SUSPENDED: &[u8] = b"s\0\0\0\x04";
pub const SYNC: &[u8] = b"S\0\0\0\x04";
pub const FLUSH: &[u8] = b"H\0\0\0\x04";
/// ParameterDescription of a statement without parameters.
pub const NO_PARAMETERS: &[u8] = b"t\0\0\0\x06\0\0";

/// Appends one frame whose body `fill` writes.
pub fn frame(out: &mut BytesMut, tag: u8, fill: impl FnOnce(&mut BytesMut)) {
    let at = out.len() + 1;
    out.put_slice(&[tag, 0, 0, 0, 0]);
    fill(out);
    let length = (out.len() - at) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

pub fn cstr(out: &mut BytesMut, text: &[u8]) {
    out.put_slice(text);
    out.put_u8(0);
}

/// `status`: `I`, `T` or `E`.
pub fn ready(out: &mut BytesMut, status: u8) {
    out.put_slice(&[b'Z', 0, 0, 0, 5, status]);
}

pub fn command_complete(out: &mut BytesMut, tag: &str) {
    frame(out, b'C', |out| cstr(out, tag.as_bytes()));
}

pub fn query(out: &mut BytesMut, sql: &[u8]) {
    frame(out, b'Q', |out| cstr(out, sql));
}

pub fn parse(out: &mut BytesMut, name: &[u8], sql: &[u8], types: &[u32]) {
    frame(out, b'P', |out| {
        cstr(out, name);
        cstr(out, sql);
        out.put_u16(types.len() as u16);
        types.iter().for_each(|t| out.put_u32(*t));
    });
}

/// `rest` is everything after the two names.
pub fn bind(out: &mut BytesMut, portal: &[u8], statement: &[u8], rest: &[u8]) {
    frame(out, b'B', |out| {
        cstr(out, portal);
        cstr(out, statement);
        out.put_slice(rest);
    });
}

/// `kind`: `S` for a statement, `P` for a portal.
pub fn describe(out: &mut BytesMut, kind: u8, name: &[u8]) {
    frame(out, b'D', |out| {
        out.put_u8(kind);
        cstr(out, name);
    });
}

pub fn close(out: &mut BytesMut, kind: u8, name: &[u8]) {
    frame(out, b'C', |out| {
        out.put_u8(kind);
        cstr(out, name);
    });
}

pub fn execute(out: &mut BytesMut, portal: &[u8], max_rows: u32) {
    frame(out, b'E', |out| {
        cstr(out, portal);
        out.put_u32(max_rows);
    });
}

pub fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    frame(out, b'S', |out| {
        cstr(out, name.as_bytes());
        cstr(out, value.as_bytes());
    });
}

/// RowDescription of text columns.
pub fn text_columns(out: &mut BytesMut, names: &[&str]) {
    const TEXT: u32 = 25;
    frame(out, b'T', |out| {
        out.put_u16(names.len() as u16);
        for name in names {
            cstr(out, name.as_bytes());
            out.put_u32(0);
            out.put_u16(0);
            out.put_u32(TEXT);
            out.put_i16(-1);
            out.put_i32(-1);
            out.put_u16(0);
        }
    });
}

pub fn text_row(out: &mut BytesMut, values: &[Option<&str>]) {
    frame(out, b'D', |out| {
        out.put_u16(values.len() as u16);
        for value in values {
            match value {
                None => out.put_i32(-1),
                Some(text) => {
                    out.put_u32(text.len() as u32);
                    out.put_slice(text.as_bytes());
                }
            }
        }
    });
}

/// A NoticeResponse; `detail` may be empty.
pub fn notice(out: &mut BytesMut, severity: &str, code: &str, message: &str, detail: &str) {
    frame(out, b'N', |out| {
        for (field, text) in [
            (b'S', severity),
            (b'V', severity),
            (b'C', code),
            (b'M', message),
            (b'D', detail),
        ] {
            if !text.is_empty() {
                out.put_u8(field);
                cstr(out, text.as_bytes());
            }
        }
        out.put_u8(0);
    });
}
