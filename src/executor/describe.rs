//! What a server says of a text without running it; the client sees nothing of that.

use bytes::Bytes;

use crate::backend::server::{Expect, Server, error_field};
use crate::error::{Error, Fault};
use crate::wire::{frame, write};

/// A query that a server has parsed.
#[derive(Debug)]
pub struct Described {
    /// The types of its parameters.
    pub types: Vec<u32>,
    /// The body of its RowDescription; empty where it returns no rows.
    pub columns: Bytes,
}

/// `None` for what returns no rows.
///
/// # Errors
/// What is wrong with the text, or the loss of the connection.
pub async fn describe(
    server: &mut Server,
    sql: &[u8],
    types: &[u32],
) -> Result<Option<Described>, Error> {
    let mut found = Vec::new();
    each(server, &[sql], types, &mut found).await?;
    Ok(found
        .pop()
        .filter(|described| !described.columns.is_empty()))
}

/// The types of the parameters of a text.
///
/// # Errors
/// What is wrong with it, or the loss of the connection.
pub(super) async fn parameters(
    server: &mut Server,
    sql: &[u8],
    types: &[u32],
) -> Result<Vec<u32>, Error> {
    let mut found = Vec::new();
    each(server, &[sql], types, &mut found).await?;
    Ok(found
        .pop()
        .map(|described| described.types)
        .unwrap_or_default())
}

/// The types of the columns of a RowDescription's body.
///
/// # Errors
/// 08P01 when it is malformed.
pub(super) fn column_types(body: &[u8]) -> Result<Vec<u32>, Error> {
    let all = columns(body)?.into_iter();
    Ok(all.map(|(_, oid)| oid).collect())
}

/// The names of the columns of a RowDescription's body.
///
/// # Errors
/// 08P01 when it is malformed.
pub(super) fn column_names(body: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let all = columns(body)?.into_iter();
    Ok(all.map(|(name, _)| name).collect())
}

/// The names and types of the columns of a RowDescription's body.
fn columns(mut body: &[u8]) -> Result<Vec<(&[u8], u32)>, Error> {
    let malformed = || {
        Error::new(
            Fault::Server,
            "08P01",
            "malformed RowDescription from server",
        )
    };
    let count = frame::u16(&mut body).ok_or_else(malformed)?;
    let column = |_| {
        /// Behind the name: the table's OID and the column's number; behind the type its length, its
        /// modifier and the format.
        const BEFORE: usize = 6;
        const AFTER: usize = 8;
        let name = frame::cstr(&mut body).ok_or_else(malformed)?;
        body = body.get(BEFORE..).ok_or_else(malformed)?;
        let oid = frame::i32(&mut body).ok_or_else(malformed)?;
        body = body.get(AFTER..).ok_or_else(malformed)?;
        Ok((name, oid as u32))
    };
    (0..count).map(column).collect()
}

/// Can PostgreSQL read a text of several statements? To Parse it says that it takes one only, after it has
/// read all of them. In a transaction that is an error like any other.
///
/// # Errors
/// What is wrong with the text; 0A000 where it is one statement to PostgreSQL; the loss of the connection.
pub async fn check_syntax(server: &mut Server, sql: &str) -> Result<(), Error> {
    /// Where in PostgreSQL's source it is said, whatever the language.
    const SAYS_ONE_ONLY: &[u8] = b"exec_parse_message";
    server.begin_exchange();
    server.unnamed = None;
    let out = &mut server.conn.outbox;
    write::parse(out, b"", sql.as_bytes(), &[]);
    out.extend_from_slice(write::SYNC);
    server.expect.push_back(Expect::Ready { show: false });
    let mut is_read = false;
    loop {
        while let Some((tag, body)) = server.next_frame()? {
            match tag {
                b'E' => is_read = error_field(&body, b'R') == Some(SAYS_ONE_ONLY),
                b'Z' => {
                    return match server.error.take() {
                        Some(_) if is_read => Ok(()),
                        Some(error) => Err(error),
                        None => Err(planner::Refusal::unsupported(
                            "statements of this text cannot be told apart",
                            "PostgreSQL reads it as one statement.",
                            "Send the statements one by one.",
                        )
                        .into()),
                    };
                }
                _ => {}
            }
        }
        server.exchange().await?;
    }
}

/// Adds to `found` what is said of each text until one is wrong.
///
/// # Errors
/// What is wrong with that one, or the loss of the connection.
pub(super) async fn each(
    server: &mut Server,
    texts: &[&[u8]],
    types: &[u32],
    found: &mut Vec<Described>,
) -> Result<(), Error> {
    server.begin_exchange();
    server.unnamed = None;
    let out = &mut server.conn.outbox;
    for sql in texts {
        write::parse(out, b"", sql, types);
        write::describe(out, b'S', b"");
    }
    out.extend_from_slice(write::SYNC);
    server.expect.push_back(Expect::Ready { show: false });
    let mut parameters = Vec::new();
    loop {
        while let Some((tag, body)) = server.next_frame()? {
            match tag {
                b't' => parameters = parameter_types(&body)?,
                b'T' | b'n' => found.push(Described {
                    types: std::mem::take(&mut parameters),
                    columns: body,
                }),
                b'Z' => return server.error.take().map_or(Ok(()), Err),
                b'N' => server.heed(&body)?,
                _ => {}
            }
        }
        server.exchange().await?;
    }
}

fn parameter_types(mut body: &[u8]) -> Result<Vec<u32>, Error> {
    let malformed = || {
        let message = "malformed ParameterDescription from server";
        Error::new(Fault::Server, "08P01", message)
    };
    let bytes = &mut body;
    let count = frame::u16(bytes).ok_or_else(malformed)?;
    (0..count)
        .map(|_| {
            frame::i32(bytes)
                .map(|oid| oid as u32)
                .ok_or_else(malformed)
        })
        .collect()
}
