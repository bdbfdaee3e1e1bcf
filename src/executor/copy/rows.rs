//! Cuts the data of a COPY FROM into rows and finds columns in each, as PostgreSQL's
//! `copyfromparse.c` does. Rows are passed on byte for byte.

use bytes::{Buf, Bytes, BytesMut};
use planner::copy::Format;

use crate::error::{Error, Fault};

/// Before the first row of the binary format.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// What comes next in the data.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A header, or the mark behind the last row.
    ForAll(Bytes),
    Row(Row),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    pub bytes: Bytes,
    /// The columns that were looked for, in the order of their positions.
    pub fields: Vec<Field>,
    /// The line it ends on, or its number in the binary format; from 1.
    pub line: u64,
    /// How many lines it takes.
    pub lines: u64,
}

/// The value of a column that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    Null,
    Value(Vec<u8>),
    /// The row cannot be read so far: whichever server gets it says what is wrong.
    Missing,
}

/// How lines end; the first one tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    Unknown,
    Lf,
    Cr,
    CrLf,
}

pub struct Splitter {
    format: Format,
    positions: Vec<usize>,
    /// A row may have as many bytes.
    max_row: usize,
    buffer: BytesMut,
    /// Where the look for the end of the row at hand goes on.
    scan: Scan,
    line_end: LineEnd,
    /// Lines so far.
    line: u64,
    header: bool,
    /// The mark behind the last row came: what follows is no data.
    ended: bool,
    /// `\.` by itself on a line ends CSV, too: up to PostgreSQL 17.
    csv_has_mark: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Scan {
    at: usize,
    in_quote: bool,
    last_was_escape: bool,
    /// Line ends inside of quotes.
    inner_lines: u64,
}

/// Where a line ends.
struct Line {
    /// Without its end.
    content: usize,
    /// With its end.
    whole: usize,
    /// It is the last.
    marked: bool,
    /// Line ends inside of its quotes.
    inner: u64,
}

impl Splitter {
    pub fn new(format: Format, positions: Vec<usize>, max_row: usize, csv_has_mark: bool) -> Self {
        let header = match &format {
            Format::Text { header, .. } | Format::Csv { header, .. } => *header,
            Format::Binary => true,
        };
        Self {
            format,
            positions,
            max_row,
            buffer: BytesMut::new(),
            scan: Scan::default(),
            line_end: LineEnd::Unknown,
            line: 0,
            header,
            ended: false,
            csv_has_mark,
        }
    }

    /// The number of the line at hand; none before the first row of the binary format.
    pub fn line(&self) -> Option<u64> {
        let begun = self.format != Format::Binary || !self.header;
        begun.then_some(self.line + 1 + self.scan.inner_lines)
    }

    pub fn feed(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next piece; `None` when more data is needed, or none is left. `last`: no more comes.
    ///
    /// # Errors
    /// 22P04 for what PostgreSQL would call malformed, 54000 for a row that is too long.
    pub fn next(&mut self, last: bool) -> Result<Option<Piece>, Error> {
        let next = match self.format {
            Format::Text { .. } | Format::Csv { .. } => self.next_line(last),
            Format::Binary => self.next_tuple(last),
        };
        if let Ok(None) = next
            && self.buffer.len() > self.max_row
        {
            return Err(too_long(self.max_row));
        }
        next
    }

    // ---- text and CSV ----

    fn next_line(&mut self, last: bool) -> Result<Option<Piece>, Error> {
        if self.ended {
            self.buffer.clear();
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let Some(line) = self.line_end(last)? else {
            return Ok(None);
        };
        self.ended |= line.marked;
        self.scan = Scan::default();
        if line.marked && line.content == 0 {
            self.buffer.clear();
            return Ok(None);
        }
        let bytes = self.buffer.split_to(line.whole).freeze();
        let bytes = match line.marked {
            true => bytes.slice(..line.content),
            false => bytes,
        };
        let lines = 1 + line.inner;
        self.line += lines;
        if std::mem::take(&mut self.header) {
            return Ok(Some(Piece::ForAll(bytes)));
        }
        let fields = self.fields(&bytes[..line.content]);
        Ok(Some(Piece::Row(Row {
            bytes,
            fields,
            line: self.line,
            lines,
        })))
    }

    /// `CopyReadLineText`.
    fn line_end(&mut self, last: bool) -> Result<Option<Line>, Error> {
        let csv = match self.format {
            // Where the two are one, doubling it opens and closes again.
            Format::Csv { quote, escape, .. } => Some((quote, (escape != quote).then_some(escape))),
            Format::Text { .. } | Format::Binary => None,
        };
        let data = &self.buffer[..];
        let mut scan = self.scan;
        while let Some(&byte) = data.get(scan.at) {
            if let Some((quote, escape)) = csv {
                if scan.in_quote && Some(byte) == escape {
                    scan.last_was_escape = !scan.last_was_escape;
                }
                if byte == quote && !scan.last_was_escape {
                    scan.in_quote = !scan.in_quote;
                }
                if Some(byte) != escape {
                    scan.last_was_escape = false;
                }
                let newline = match self.line_end {
                    LineEnd::Lf => b'\n',
                    LineEnd::Unknown | LineEnd::Cr | LineEnd::CrLf => b'\r',
                };
                scan.inner_lines += u64::from(scan.in_quote && byte == newline);
            }
            let next = data.get(scan.at + 1).copied();
            match byte {
                b'\n' | b'\r' if scan.in_quote => {}
                b'\n' => {
                    match self.line_end {
                        LineEnd::Unknown | LineEnd::Lf => self.line_end = LineEnd::Lf,
                        LineEnd::Cr | LineEnd::CrLf => return Err(self.stray("newline")),
                    }
                    return Ok(Some(whole_line(scan, 1)));
                }
                b'\r' => match (self.line_end, next) {
                    (LineEnd::Cr, _) => return Ok(Some(whole_line(scan, 1))),
                    (LineEnd::Lf, _) => return Err(self.stray("carriage return")),
                    (LineEnd::Unknown | LineEnd::CrLf, None) if !last => {
                        return Ok(self.wait(scan));
                    }
                    (LineEnd::Unknown | LineEnd::CrLf, Some(b'\n')) => {
                        self.line_end = LineEnd::CrLf;
                        return Ok(Some(whole_line(scan, 2)));
                    }
                    (LineEnd::Unknown, _) => {
                        self.line_end = LineEnd::Cr;
                        return Ok(Some(whole_line(scan, 1)));
                    }
                    (LineEnd::CrLf, _) => return Err(self.stray("carriage return")),
                },
                b'\\' if csv.is_none() || (scan.at == 0 && self.csv_has_mark) => {
                    let after = data.get(scan.at + 2).copied();
                    match (next, after) {
                        (None, _) | (Some(b'.'), None) if !last => return Ok(self.wait(scan)),
                        (Some(b'.'), None | Some(b'\n' | b'\r')) => {
                            return Ok(Some(Line {
                                content: scan.at,
                                whole: data.len(),
                                marked: true,
                                inner: scan.inner_lines,
                            }));
                        }
                        (Some(b'.'), Some(_)) if csv.is_none() => {
                            return Err(malformed("end-of-copy marker corrupt"));
                        }
                        // A line end behind it is data.
                        (Some(_), _) if csv.is_none() => scan.at += 1,
                        (Some(_) | None, _) => {}
                    }
                }
                _ => {}
            }
            scan.at += 1;
        }
        if last {
            return Ok(Some(whole_line(scan, 0)));
        }
        Ok(self.wait(scan))
    }

    fn wait(&mut self, scan: Scan) -> Option<Line> {
        // The byte at hand is looked at again, so what it did to the quotes must not count twice.
        let unread = scan.at < self.buffer.len();
        self.scan = match unread {
            true => Scan {
                at: 0,
                ..Scan::default()
            },
            false => scan,
        };
        None
    }

    fn stray(&self, what: &str) -> Error {
        let how = match self.format {
            Format::Csv { .. } => "unquoted",
            Format::Text { .. } | Format::Binary => "literal",
        };
        malformed(&format!("{how} {what} found in data"))
    }

    fn fields(&self, line: &[u8]) -> Vec<Field> {
        let positions = self.positions.iter();
        positions.map(|at| self.field(line, *at)).collect()
    }

    fn field(&self, line: &[u8], position: usize) -> Field {
        match &self.format {
            Format::Text {
                delimiter, null, ..
            } => text_field(line, position, *delimiter, null),
            Format::Csv {
                delimiter,
                null,
                quote,
                escape,
                ..
            } => csv_field(line, position, [*delimiter, *quote, *escape], null),
            Format::Binary => Field::Missing,
        }
    }

    // ---- binary ----

    fn next_tuple(&mut self, last: bool) -> Result<Option<Piece>, Error> {
        if self.ended && !self.buffer.is_empty() {
            return Err(malformed("received copy data after EOF marker"));
        }
        if self.header {
            let known = self.buffer.len().min(SIGNATURE.len());
            if self.buffer[..known] != SIGNATURE[..known] || last && known < SIGNATURE.len() {
                return Err(malformed("COPY file signature not recognized"));
            }
            let extension = int32(&self.buffer, SIGNATURE.len() + 4);
            let extension = extension.map(|len| usize::try_from(len).unwrap_or(0));
            let Some(len) = extension.map(|len| SIGNATURE.len() + 8 + len) else {
                return Ok(None);
            };
            if self.buffer.len() < len {
                return Ok(None);
            }
            self.header = false;
            return Ok(Some(Piece::ForAll(self.buffer.split_to(len).freeze())));
        }
        let Some(count) = int16(&self.buffer, 0) else {
            return Ok(self.rest(last));
        };
        if count < 0 {
            self.ended = true;
            return Ok(Some(Piece::ForAll(self.buffer.split_to(2).freeze())));
        }
        let mut at = 2;
        let mut fields = vec![Field::Missing; self.positions.len()];
        for column in 0..usize::from(count.unsigned_abs()) {
            let Some(len) = int32(&self.buffer, at) else {
                return Ok(self.rest(last));
            };
            at += 4;
            let len = usize::try_from(len).ok();
            let Some(value) = self.buffer.get(at..at + len.unwrap_or(0)) else {
                return Ok(self.rest(last));
            };
            if let Some(found) = self.positions.iter().position(|at| *at == column) {
                fields[found] = len.map_or(Field::Null, |_| Field::Value(value.to_vec()));
            }
            at += value.len();
        }
        self.line += 1;
        Ok(Some(Piece::Row(Row {
            bytes: self.buffer.split_to(at).freeze(),
            fields,
            line: self.line,
            lines: 1,
        })))
    }

    /// A tuple that is not whole: at the end of the data a server says so.
    fn rest(&mut self, last: bool) -> Option<Piece> {
        if !last || self.buffer.is_empty() {
            return None;
        }
        self.line += 1;
        Some(Piece::Row(Row {
            bytes: self.buffer.split().freeze(),
            fields: vec![Field::Missing; self.positions.len()],
            line: self.line,
            lines: 1,
        }))
    }
}

/// A line up to `scan`, and `end` bytes that end it.
fn whole_line(scan: Scan, end: usize) -> Line {
    Line {
        content: scan.at,
        whole: scan.at + end,
        marked: false,
        inner: scan.inner_lines,
    }
}

fn int16(data: &[u8], at: usize) -> Option<i16> {
    data.get(at..at + 2).map(|mut bytes| bytes.get_i16())
}

fn int32(data: &[u8], at: usize) -> Option<i32> {
    data.get(at..at + 4).map(|mut bytes| bytes.get_i32())
}

/// `CopyReadAttributesText`.
fn text_field(line: &[u8], position: usize, delimiter: u8, null: &[u8]) -> Field {
    let mut column = 0;
    let (mut start, mut at) = (0, 0);
    loop {
        match line.get(at) {
            Some(b'\\') => at += 2,
            Some(byte) if *byte != delimiter => at += 1,
            end => {
                let raw = &line[start..at.min(line.len())];
                if column == position {
                    return match raw == null {
                        true => Field::Null,
                        false => Field::Value(unescaped(raw)),
                    };
                }
                if end.is_none() {
                    return Field::Missing;
                }
                column += 1;
                at += 1;
                start = at;
            }
        }
    }
}

fn unescaped(raw: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        at += 1;
        if byte != b'\\' {
            value.push(byte);
            continue;
        }
        let Some(&escaped) = raw.get(at) else {
            break;
        };
        at += 1;
        let mut digits = |radix: u32, first: Option<u8>, most: usize| {
            let digit = |byte: &u8| char::from(*byte).to_digit(radix);
            let mut number = first.and_then(|byte| digit(&byte));
            let mut read = usize::from(first.is_some());
            while let Some(next) = raw.get(at).and_then(digit).filter(|_| read < most) {
                number = Some(number.unwrap_or(0) * radix + next);
                at += 1;
                read += 1;
            }
            number.map(|number| (number & 0xff) as u8)
        };
        value.push(match escaped {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            b'0'..=b'7' => digits(8, Some(escaped), 3).unwrap_or(escaped),
            b'x' => digits(16, None, 2).unwrap_or(b'x'),
            other => other,
        });
    }
    value
}

/// `CopyReadAttributesCSV`.
fn csv_field(
    line: &[u8],
    position: usize,
    [delimiter, quote, escape]: [u8; 3],
    null: &[u8],
) -> Field {
    let mut at = 0;
    for column in 0.. {
        let start = at;
        let mut value = Vec::new();
        let (mut in_quote, mut saw_quote) = (false, false);
        let end = loop {
            let Some(&byte) = line.get(at) else {
                break None;
            };
            let next = line.get(at + 1).copied();
            if in_quote && byte == escape && next.is_some_and(|n| n == escape || n == quote) {
                value.extend(next);
                at += 2;
                continue;
            }
            if !in_quote && byte == delimiter {
                break Some(at);
            }
            at += 1;
            match byte == quote {
                true => {
                    in_quote = !in_quote;
                    saw_quote = true;
                }
                false => value.push(byte),
            }
        };
        if in_quote {
            return Field::Missing;
        }
        let raw = &line[start..end.unwrap_or(line.len())];
        if column == position {
            return match !saw_quote && raw == null {
                true => Field::Null,
                false => Field::Value(value),
            };
        }
        match end {
            Some(end) => at = end + 1,
            None => return Field::Missing,
        }
    }
    Field::Missing
}

fn malformed(message: &str) -> Error {
    Error::new(Fault::Client, "22P04", message.to_owned())
}

fn too_long(limit: usize) -> Error {
    Error::new(Fault::Client, "54000", "row of COPY is too long")
        .detail(format!(
            "It is read whole to tell its shard, and may have {limit} bytes."
        ))
        .hint("Raise max_message_mib.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Format {
        Format::Text {
            delimiter: b'\t',
            null: b"\\N".to_vec(),
            header: false,
        }
    }

    fn csv(header: bool, escape: u8) -> Format {
        Format::Csv {
            delimiter: b',',
            null: Vec::new(),
            quote: b'"',
            escape,
            header,
        }
    }

    /// Rows with the value of column `position` and their lines, whatever pieces the data comes in.
    fn rows(format: &Format, position: usize, data: &[u8]) -> Vec<String> {
        rows_by(format, &[position], data)
    }

    /// The same with the values of several columns.
    fn rows_by(format: &Format, positions: &[usize], data: &[u8]) -> Vec<String> {
        let cut = |size: usize| {
            let mut splitter = Splitter::new(format.clone(), positions.to_vec(), 1000, true);
            let mut found = Vec::new();
            let mut take = |splitter: &mut Splitter, last| {
                while let Some(piece) = splitter.next(last).unwrap() {
                    found.push(match piece {
                        Piece::ForAll(bytes) => format!("all {}", bytes.escape_ascii()),
                        Piece::Row(row) => {
                            let values = row.fields.into_iter().map(|field| match field {
                                Field::Null => "NULL".to_owned(),
                                Field::Value(value) => value.escape_ascii().to_string(),
                                Field::Missing => "missing".to_owned(),
                            });
                            let values: Vec<_> = values.collect();
                            let values = values.join("|");
                            format!("{} {values} {}", row.line, row.bytes.escape_ascii())
                        }
                    });
                }
            };
            for chunk in data.chunks(size) {
                splitter.feed(chunk);
                take(&mut splitter, false);
            }
            take(&mut splitter, true);
            found
        };
        let whole = cut(data.len());
        for size in [1, 2, 3, 7] {
            assert_eq!(cut(size), whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn text_is_cut_at_its_lines() {
        assert_eq!(
            rows(
                &text(),
                1,
                b"a\tb\n\\N\t\\N\nx\\\ny\tk\\te\\x41\\101\\\\\\q\tz\nshort\nlast\t"
            ),
            [
                "1 b a\\tb\\n",
                "2 NULL \\\\N\\t\\\\N\\n",
                "3 k\\teAA\\\\q x\\\\\\ny\\tk\\\\te\\\\x41\\\\101\\\\\\\\\\\\q\\tz\\n",
                "4 missing short\\n",
                "5  last\\t",
            ]
        );
        assert_eq!(
            rows(&text(), 0, b"a\r\nb\r\n"),
            ["1 a a\\r\\n", "2 b b\\r\\n"]
        );
        assert_eq!(rows(&text(), 0, b"a\rb\r"), ["1 a a\\r", "2 b b\\r"]);
        assert_eq!(rows(&text(), 0, b"a\n\\.\nignored\n"), ["1 a a\\n"]);
        assert_eq!(
            rows(&text(), 0, b"a\nb\\.\nignored\n"),
            ["1 a a\\n", "2 b b"]
        );
        assert_eq!(rows(&text(), 0, b"\n\n"), ["1  \\n", "2  \\n"]);
    }

    #[test]
    fn csv_is_cut_outside_of_quotes() {
        assert_eq!(
            rows(
                &csv(true, b'"'),
                1,
                b"h,\"h\n2\"\n1,\"a,\"\"b\nc\"\n2,\n3,\"\"\n4\n\"5\",x\"y,z\"\n"
            ),
            [
                "all h,\\\"h\\n2\\\"\\n",
                "3 a,\\\"b\\nc 1,\\\"a,\\\"\\\"b\\nc\\\"\\n",
                "4 NULL 2,\\n",
                "5  3,\\\"\\\"\\n",
                "6 missing 4\\n",
                "7 xy,z \\\"5\\\",x\\\"y,z\\\"\\n",
            ]
        );
        assert_eq!(
            rows(&csv(false, b'\\'), 0, b"\"a\\\"\nb\",c\n\"d\\\\\",e\n"),
            [
                "1 a\\\"\\nb \\\"a\\\\\\\"\\nb\\\",c\\n",
                "2 d\\\\ \\\"d\\\\\\\\\\\",e\\n",
            ]
        );
        assert_eq!(rows(&csv(false, b'"'), 0, b"a\n\\.\nb\n"), ["1 a a\\n"]);
        assert_eq!(
            rows(&csv(false, b'"'), 0, b"\\.a\n"),
            ["1 \\\\.a \\\\.a\\n"]
        );
    }

    #[test]
    fn binary_is_cut_at_its_tuples() {
        let mut data = SIGNATURE.to_vec();
        data.extend([0; 8]);
        data.extend(b"\0\x02\0\0\0\x01a\0\0\0\x02bc\0\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(
            rows(&Format::Binary, 1, &data)[1..],
            [
                "1 bc \\x00\\x02\\x00\\x00\\x00\\x01a\\x00\\x00\\x00\\x02bc",
                "2 NULL \\x00\\x02\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff",
                "all \\xff\\xff",
            ]
        );
    }

    #[test]
    fn columns_are_found_in_the_order_of_the_key() {
        assert_eq!(
            rows_by(&text(), &[2, 0], b"a\tb\tc\n\\N\tb\td\ne\n"),
            [
                "1 c|a a\\tb\\tc\\n",
                "2 d|NULL \\\\N\\tb\\td\\n",
                "3 missing|e e\\n",
            ]
        );
        assert_eq!(
            rows_by(&csv(false, b'"'), &[1, 0], b"a,\"b,\"\n"),
            ["1 b,|a a,\\\"b,\\\"\\n"]
        );
        let mut data = SIGNATURE.to_vec();
        data.extend([0; 8]);
        data.extend(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff");
        let found = rows_by(&Format::Binary, &[1, 0], &data);
        assert!(found[1].starts_with("1 NULL|a "), "{found:?}");
    }

    #[test]
    fn what_postgresql_rejects_is_rejected() {
        let error = |format: Format, data: &[u8]| {
            let mut splitter = Splitter::new(format, vec![0], 20, true);
            splitter.feed(data);
            loop {
                match splitter.next(true) {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("no error"),
                    Err(error) => return format!("{} {}", error.code, error.message),
                }
            }
        };
        let text_error = |data| error(text(), data);
        assert_eq!(
            text_error(b"a\nb\rc\n"),
            "22P04 literal carriage return found in data"
        );
        assert_eq!(text_error(b"a\rb\n"), "22P04 literal newline found in data");
        assert_eq!(text_error(b"a\\.b\n"), "22P04 end-of-copy marker corrupt");
        let quoted = error(csv(false, b'"'), b"a\nb\rc\n");
        assert_eq!(quoted, "22P04 unquoted carriage return found in data");
        let binary = error(Format::Binary, b"PGCOPX");
        assert_eq!(binary, "22P04 COPY file signature not recognized");
        let mut splitter = Splitter::new(text(), vec![0], 20, true);
        splitter.feed(&[b'x'; 21]);
        assert_eq!(splitter.next(false).unwrap_err().code, "54000");
    }
}
