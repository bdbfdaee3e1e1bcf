//! COPY TO STDOUT of rows that were put together here: DataRow messages become CopyData, as PostgreSQL
//! writes them.
//! <https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS>

use bytes::{BufMut, Bytes, BytesMut};
use planner::copy::{ForceQuote, Format, Written};

use crate::backend::server::{Expect, Server};
use crate::error::{Error, Fault};
use crate::executor::describe::column_names;
use crate::wire::frame::{self, HEADER};
use crate::wire::write;

/// What comes before the first row.
#[derive(Debug)]
pub struct Head {
    /// The body of CopyOutResponse.
    response: Bytes,
    /// The bodies of CopyData: the columns' names, where they are asked for.
    data: Vec<Bytes>,
}

/// Writes the rows of one COPY.
#[derive(Debug)]
pub struct Writer {
    format: Format,
    /// By column: is it in quotes whatever it is?
    quoted: Vec<bool>,
    /// The header of the binary format, until it is written.
    opening: &'static [u8],
}

/// Signature, flags, and the length of an extension.
const BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What a server answers to a COPY without rows: it checks the options.
///
/// # Errors
/// What is wrong with the COPY, or the loss of the connection.
pub async fn head(server: &mut Server, sql: &[u8]) -> Result<Head, Error> {
    server.begin_exchange();
    server.unnamed = None;
    write::query(&mut server.conn.outbox, sql);
    server.expect.push_back(Expect::Ready { show: false });
    let mut response = None;
    let mut data = Vec::new();
    loop {
        while let Some((tag, body)) = server.next_frame()? {
            match tag {
                b'H' => response = Some(body),
                b'd' => data.push(body),
                b'Z' => {
                    return match (server.error.take(), response) {
                        (Some(error), _) => Err(error),
                        (None, Some(response)) => Ok(Head { response, data }),
                        (None, None) => Err(server.lost("it sent no data")),
                    };
                }
                _ => {}
            }
        }
        server.exchange().await?;
    }
}

impl Writer {
    /// `columns`: the RowDescription frame of the rows. Begins the client's answer.
    ///
    /// # Errors
    /// 08P01 when the frame is malformed.
    pub fn start(
        written: &Written,
        head: &Head,
        columns: &[u8],
        out: &mut BytesMut,
    ) -> Result<Self, Error> {
        let names = column_names(columns.get(HEADER..).unwrap_or_default())?;
        let mut quoted = vec![written.force_quote == ForceQuote::All; names.len()];
        if let ForceQuote::Columns(forced) = &written.force_quote {
            for forced in forced {
                // Of columns with one name it is the first.
                if let Some(at) = names.iter().position(|name| *name == forced.as_bytes()) {
                    quoted[at] = true;
                }
            }
        }
        write::frame(out, b'H', |out| out.put_slice(&head.response));
        let opening = match written.format {
            Format::Binary => BINARY_HEADER,
            Format::Text { .. } | Format::Csv { .. } => {
                for data in &head.data {
                    write::frame(out, b'd', |out| out.put_slice(data));
                }
                b""
            }
        };
        Ok(Self {
            format: written.format.clone(),
            quoted,
            opening,
        })
    }

    /// Writes a DataRow frame.
    ///
    /// # Errors
    /// 08P01 when it is malformed.
    pub(in crate::executor) fn row(&mut self, row: &[u8], out: &mut BytesMut) -> Result<(), Error> {
        let malformed = || Error::new(Fault::Server, "08P01", "a shard sent a malformed row");
        let body = row.get(HEADER..).ok_or_else(malformed)?;
        let before = out.len();
        let mut written = Some(());
        write::frame(out, b'd', |out| written = self.fields(body, out));
        if written.is_none() {
            out.truncate(before);
        }
        written.ok_or_else(malformed)
    }

    /// `None` when the row is malformed.
    fn fields(&mut self, body: &[u8], out: &mut BytesMut) -> Option<()> {
        if self.format == Format::Binary {
            out.put_slice(std::mem::take(&mut self.opening));
            // A row has the same form in both.
            out.put_slice(body);
            return Some(());
        }
        let mut rest = body;
        let count = frame::u16(&mut rest)?;
        for at in 0..usize::from(count) {
            let length = frame::i32(&mut rest)?;
            let value = match usize::try_from(length) {
                Ok(length) => Some(frame::take(&mut rest, length)?),
                Err(_) => None,
            };
            let is_quoted = self.quoted.get(at).copied().unwrap_or_default();
            self.value(value, at, is_quoted, count == 1, out);
        }
        out.put_u8(b'\n');
        Some(())
    }

    fn value(
        &self,
        value: Option<&[u8]>,
        at: usize,
        is_quoted: bool,
        is_alone: bool,
        out: &mut BytesMut,
    ) {
        match &self.format {
            Format::Text {
                delimiter, null, ..
            } => {
                if at > 0 {
                    out.put_u8(*delimiter);
                }
                match value {
                    Some(value) => text(value, *delimiter, out),
                    None => out.put_slice(null),
                }
            }
            Format::Csv {
                delimiter,
                null,
                quote,
                escape,
                header: _,
            } => {
                if at > 0 {
                    out.put_u8(*delimiter);
                }
                let Some(value) = value else {
                    out.put_slice(null);
                    return;
                };
                let special = [*delimiter, *quote, b'\n', b'\r'];
                let is_quoted = is_quoted
                    || value == null.as_slice()
                    // Alone on its line it would end the data.
                    || is_alone && value == b"\\."
                    || value.iter().any(|byte| special.contains(byte));
                if !is_quoted {
                    out.put_slice(value);
                    return;
                }
                out.put_u8(*quote);
                for byte in value {
                    if byte == quote || byte == escape {
                        out.put_u8(*escape);
                    }
                    out.put_u8(*byte);
                }
                out.put_u8(*quote);
            }
            Format::Binary => {}
        }
    }

    /// Writes what comes behind the last row.
    pub fn end(&mut self, out: &mut BytesMut) {
        if self.format == Format::Binary {
            let opening = std::mem::take(&mut self.opening);
            write::frame(out, b'd', |out| {
                out.put_slice(opening);
                out.put_i16(-1);
            });
        }
        write::frame(out, b'c', |_| {});
    }
}

/// A value in the text format.
fn text(value: &[u8], delimiter: u8, out: &mut BytesMut) {
    for byte in value {
        let letter = match *byte {
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x0b => b'v',
            b'\\' => b'\\',
            byte if byte == delimiter => byte,
            byte => {
                out.put_u8(byte);
                continue;
            }
        };
        out.put_slice(&[b'\\', letter]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<&str>]) -> BytesMut {
        let mut row = BytesMut::new();
        write::text_row(&mut row, values);
        row
    }

    fn written(format: Format, quoted: Vec<bool>, values: &[Option<&str>]) -> String {
        let mut writer = Writer {
            format,
            quoted,
            opening: b"",
        };
        let mut out = BytesMut::new();
        writer.row(&row(values), &mut out).unwrap();
        assert_eq!(out[0], b'd');
        String::from_utf8(out[HEADER..].to_vec()).unwrap()
    }

    #[test]
    fn text_escapes_what_would_be_read_otherwise() {
        let format = |delimiter| Format::Text {
            delimiter,
            null: b"\\N".to_vec(),
            header: false,
        };
        let values = [
            Some("a\\b\t\r\n\x08\x0b\x0c|"),
            None,
            Some(""),
            Some("\x01"),
        ];
        let wanted = "a\\\\b\\t\\r\\n\\b\\v\\f|\t\\N\t\t\x01\n";
        assert_eq!(written(format(b'\t'), vec![], &values), wanted);
        let wanted = "a\\\\b\\t\\r\\n\\b\\v\\f\\||\\N||\x01\n";
        assert_eq!(written(format(b'|'), vec![], &values), wanted);
        assert_eq!(written(format(1), vec![], &[Some("\x01")]), "\\\x01\n");
        assert_eq!(written(format(b'\t'), vec![], &[]), "\n");
    }

    #[test]
    fn csv_quotes_what_has_to_be_and_what_it_is_told_to() {
        let format = |null: &[u8], escape| Format::Csv {
            delimiter: b',',
            null: null.to_vec(),
            quote: b'"',
            escape,
            header: false,
        };
        let values = [Some("a,\"b\\"), None, Some(""), Some("x"), Some("\\.")];
        let quoted = vec![false, true, false, true, false];
        let wanted = "\"a,\"\"b\\\",,\"\",\"x\",\\.\n";
        assert_eq!(written(format(b"", b'"'), quoted.clone(), &values), wanted);
        let wanted = "\"a,\\\"b\\\\\",x,,\"x\",\\.\n";
        assert_eq!(written(format(b"x", b'\\'), quoted, &values), wanted);
        assert_eq!(
            written(format(b"", b'"'), vec![], &[Some("\\.")]),
            "\"\\.\"\n"
        );
    }

    #[test]
    fn malformed_rows_are_refused() {
        let whole = row(&[Some("abc"), None]);
        let format = Format::Text {
            delimiter: b'\t',
            null: vec![],
            header: false,
        };
        let mut writer = Writer {
            format,
            quoted: vec![],
            opening: b"",
        };
        for end in 0..whole.len() {
            assert!(
                writer.row(&whole[..end], &mut BytesMut::new()).is_err(),
                "{end}"
            );
        }
    }
}
