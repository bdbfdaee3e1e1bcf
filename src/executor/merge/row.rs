//! RowDescription and DataRow as bytes: taken apart, checked, put together again.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Error, Fault, Result};

/// How a column's values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Binary,
}

impl Format {
    fn from_code(code: i16) -> Result<Self> {
        match code {
            0 => Ok(Self::Text),
            1 => Ok(Self::Binary),
            other => Err(malformed(format!("unknown format code {other}"))),
        }
    }

    fn code(self) -> i16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }
}

/// One column of a shard's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ColumnInfo {
    /// For messages only.
    pub name: String,
    pub type_oid: u32,
    /// Bytes of a value, negative where they vary (pg_type.typlen).
    pub length: i16,
    pub format: Format,
}

/// A RowDescription that was taken apart.
#[derive(Debug)]
pub(super) struct Description {
    pub columns: Vec<ColumnInfo>,
    /// Where each column's entry ends in the body; its format code is the last two bytes.
    ends: Vec<usize>,
}

impl Description {
    /// # Errors
    /// 08P01 when the body is not a RowDescription.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut reader = Reader { body, position: 0 };
        let count = reader.count()?;
        let mut description = Self {
            columns: Vec::with_capacity(count),
            ends: Vec::with_capacity(count),
        };
        for _ in 0..count {
            let name = String::from_utf8_lossy(reader.cstring()?).into_owned();
            reader.take(4 + 2)?; // table OID, attribute number
            let type_oid = u32::from_be_bytes(reader.array()?);
            let length = i16::from_be_bytes(reader.array()?);
            reader.take(4)?; // typmod
            let format = Format::from_code(i16::from_be_bytes(reader.array()?))?;
            description.columns.push(ColumnInfo {
                name,
                type_oid,
                length,
                format,
            });
            description.ends.push(reader.position);
        }
        reader.finish()?;
        Ok(description)
    }

    /// Replaces the formats by those of a Bind message, spelled for the shard's columns.
    ///
    /// # Errors
    /// 08P01 when the codes do not fit the columns.
    pub fn set_formats(&mut self, codes: &[i16]) -> Result<()> {
        let columns = self.columns.len();
        if codes.len() > 1 && codes.len() != columns {
            let message = format!(
                "bind message has {} result formats but query has {columns} columns",
                codes.len()
            );
            return Err(Error::new(Fault::Client, "08P01", message));
        }
        for (index, column) in self.columns.iter_mut().enumerate() {
            let code = match codes {
                [] => 0,
                [one] => *one,
                many => many[index],
            };
            column.format = Format::from_code(code)?;
        }
        Ok(())
    }

    /// The RowDescription frame of the first `visible` columns.
    pub fn client_frame(&self, body: &[u8], visible: usize) -> BytesMut {
        const BEFORE_BODY: usize = 5;
        let end = match visible {
            0 => 2,
            n => self.ends[n - 1],
        };
        let mut frame = BytesMut::with_capacity(BEFORE_BODY + end);
        frame.put_u8(b'T');
        frame.put_u32((end + 4) as u32);
        frame.put_u16(visible as u16);
        frame.put_slice(&body[2..end]);
        for (column, end) in self.columns.iter().zip(&self.ends).take(visible) {
            let at = BEFORE_BODY + end - 2;
            frame[at..at + 2].copy_from_slice(&column.format.code().to_be_bytes());
        }
        frame
    }
}

/// Do two RowDescriptions tell a client the same? The tables that columns come from may differ.
///
/// # Errors
/// 08P01 when one is malformed.
pub fn are_alike(one: &[u8], other: &[u8]) -> Result<bool> {
    Ok(told(one)? == told(other)?)
}

/// Of each column its name, type, length and type modifier.
fn told(body: &[u8]) -> Result<Vec<(&[u8], [u8; 10])>> {
    let mut reader = Reader { body, position: 0 };
    let count = reader.count()?;
    let column = |_| {
        let name = reader.cstring()?;
        reader.take(4 + 2)?; // table OID, attribute number
        let types = reader.array()?;
        reader.take(2)?; // format
        Ok((name, types))
    };
    (0..count).map(column).collect()
}

/// The RowDescription frame for a client that binds with these formats.
///
/// # Errors
/// 08P01 when the body is malformed or the codes do not fit the columns.
pub fn columns_frame(body: &[u8], formats: &[i16]) -> Result<BytesMut> {
    let mut description = Description::parse(body)?;
    description.set_formats(formats)?;
    let columns = description.columns.len();
    Ok(description.client_frame(body, columns))
}

/// Result format codes for a shard that adds `hidden` columns to those of the client.
///
/// None or one code holds for all columns; a list is lengthened, hidden columns in text.
pub fn shard_formats(client: &[i16], hidden: usize) -> Vec<i16> {
    let mut codes = client.to_vec();
    if codes.len() > 1 {
        codes.resize(codes.len() + hidden, 0);
    }
    codes
}

/// Where a value lies in a DataRow's body; `None` is NULL.
pub(super) type Field = Option<Range<usize>>;

/// Finds the values of a DataRow.
///
/// # Errors
/// 08P01 when the body is not a DataRow of so many columns.
pub(super) fn split(body: &[u8], columns: usize, fields: &mut Vec<Field>) -> Result<()> {
    fields.clear();
    let mut reader = Reader { body, position: 0 };
    let count = reader.count()?;
    if count != columns {
        return Err(malformed(format!(
            "a row has {count} columns where {columns} were described"
        )));
    }
    for _ in 0..count {
        fields.push(reader.field()?);
    }
    reader.finish()
}

/// The value of a field found by [`split`] in the same body.
pub(super) fn value<'a>(body: &'a [u8], field: &Field) -> Option<&'a [u8]> {
    field.as_ref().map(|range| &body[range.clone()])
}

/// A DataRow's body.
pub(super) fn join(values: &[Option<Vec<u8>>]) -> Bytes {
    let length = 2 + values
        .iter()
        .map(|v| 4 + v.as_ref().map_or(0, Vec::len))
        .sum::<usize>();
    let mut body = BytesMut::with_capacity(length);
    body.put_u16(values.len() as u16);
    for value in values {
        match value {
            Some(bytes) => {
                body.put_i32(bytes.len() as i32);
                body.put_slice(bytes);
            }
            None => body.put_i32(-1),
        }
    }
    body.freeze()
}

/// The DataRow frame of the first `visible` columns.
///
/// # Errors
/// 08P01 when the body has fewer columns.
pub(super) fn client_frame(body: &[u8], visible: usize) -> Result<Bytes> {
    let mut reader = Reader { body, position: 0 };
    let end = if reader.count()? == visible {
        body.len()
    } else {
        for _ in 0..visible {
            reader.field()?;
        }
        reader.position
    };
    let mut frame = BytesMut::with_capacity(5 + end);
    frame.put_u8(b'D');
    frame.put_u32((end + 4) as u32);
    frame.put_u16(visible as u16);
    frame.put_slice(&body[2..end]);
    Ok(frame.freeze())
}

/// A shard sent something that is not what it has to be.
pub(super) fn malformed(detail: impl Into<String>) -> Error {
    Error::new(
        Fault::Server,
        "08P01",
        "a shard sent a malformed or unexpected answer",
    )
    .detail(detail.into())
}

/// Reads big-endian fields and never past the end.
struct Reader<'a> {
    body: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let rest = self.body.get(self.position..).unwrap_or_default();
        let taken = rest
            .get(..length)
            .ok_or_else(|| malformed("a message ends too early"))?;
        self.position += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        <[u8; N]>::try_from(taken).map_err(|_| malformed("a message ends too early"))
    }

    fn count(&mut self) -> Result<usize> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    fn cstring(&mut self) -> Result<&'a [u8]> {
        let rest = self.body.get(self.position..).unwrap_or_default();
        let length = memchr::memchr(0, rest)
            .ok_or_else(|| malformed("a column name without its terminator"))?;
        self.position += length + 1;
        Ok(&rest[..length])
    }

    fn field(&mut self) -> Result<Field> {
        let length = i32::from_be_bytes(self.array()?);
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| malformed("a negative value length"))?;
        let start = self.position;
        self.take(length)?;
        Ok(Some(start..self.position))
    }

    fn finish(&self) -> Result<()> {
        if self.position == self.body.len() {
            Ok(())
        } else {
            Err(malformed("bytes follow the end of a message"))
        }
    }
}
