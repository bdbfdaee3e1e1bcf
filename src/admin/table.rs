//! A table of the admin database, and its frames in the simple and the extended protocol.

use bytes::{BufMut, BytesMut};

use crate::wire::write::frame;

/// The types that the tables use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeOid {
    Text,
    Int4,
    Int8,
    /// For whole numbers only; PgBouncer gives its statistics this type.
    Numeric,
}

impl TypeOid {
    /// pg_type.oid.
    pub fn oid(self) -> u32 {
        match self {
            Self::Text => 25,
            Self::Int4 => 23,
            Self::Int8 => 20,
            Self::Numeric => 1700,
        }
    }

    /// pg_type.typlen.
    fn length(self) -> i16 {
        match self {
            Self::Int4 => 4,
            Self::Int8 => 8,
            Self::Text | Self::Numeric => -1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub type_oid: TypeOid,
}

pub const fn text(name: &'static str) -> Column {
    Column {
        name,
        type_oid: TypeOid::Text,
    }
}

pub const fn int4(name: &'static str) -> Column {
    Column {
        name,
        type_oid: TypeOid::Int4,
    }
}

pub const fn int8(name: &'static str) -> Column {
    Column {
        name,
        type_oid: TypeOid::Int8,
    }
}

pub const fn numeric(name: &'static str) -> Column {
    Column {
        name,
        type_oid: TypeOid::Numeric,
    }
}

/// One value. What it is written as depends on its column's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    Null,
    Text(String),
    /// For every type of numbers; a number beyond the type's range is written as its last one.
    Number(i64),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Cell {
    /// PgBouncer's way: 1 or 0.
    fn from(yes: bool) -> Self {
        Self::Number(i64::from(yes))
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Self::Number(i64::from(number))
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row of one of the tables.
pub trait Row {
    const COLUMNS: &'static [Column];
    /// As many as there are columns, in their order.
    fn cells(self) -> Vec<Cell>;
}

/// The answer to a SHOW.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub columns: &'static [Column],
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn of<R: Row>(rows: impl IntoIterator<Item = R>) -> Self {
        Self {
            columns: R::COLUMNS,
            rows: rows.into_iter().map(R::cells).collect(),
        }
    }

    pub fn empty(columns: &'static [Column]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Keeps the first `max_rows` rows and returns the rest, if there is one; 0 is no limit.
    pub fn split_off(&mut self, max_rows: u32) -> Option<Self> {
        let max_rows = max_rows as usize;
        (max_rows > 0 && self.rows.len() > max_rows).then(|| Self {
            columns: self.columns,
            rows: self.rows.split_off(max_rows),
        })
    }

    /// Writes a DataRow for each row. `formats` are the result format codes of Bind.
    pub fn write_rows(&self, formats: &[i16], out: &mut BytesMut) {
        for row in &self.rows {
            frame(out, b'D', |out| {
                out.put_u16(row.len() as u16);
                for (at, (cell, column)) in row.iter().zip(self.columns).enumerate() {
                    write_cell(cell, column.type_oid, is_binary(formats, at), out);
                }
            });
        }
    }
}

/// Writes RowDescription, the answer to Describe. `formats` are the result format codes of Bind,
/// none when a statement is described.
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
pub fn write_description(columns: &[Column], formats: &[i16], out: &mut BytesMut) {
    frame(out, b'T', |out| {
        out.put_u16(columns.len() as u16);
        for (at, column) in columns.iter().enumerate() {
            out.put_slice(column.name.as_bytes());
            out.put_u8(0);
            // Of no table, hence no OID and no attribute number.
            out.put_u32(0);
            out.put_u16(0);
            out.put_u32(column.type_oid.oid());
            out.put_i16(column.type_oid.length());
            out.put_i32(-1);
            out.put_i16(i16::from(is_binary(formats, at)));
        }
    });
}

/// No code means text, one is for all columns, else each column has its own.
fn is_binary(formats: &[i16], column: usize) -> bool {
    let code = match formats {
        [code] => Some(code),
        codes => codes.get(column),
    };
    code == Some(&1)
}

fn write_cell(cell: &Cell, type_oid: TypeOid, binary: bool, out: &mut BytesMut) {
    match cell {
        Cell::Null => out.put_i32(-1),
        Cell::Text(text) => write_value(text.as_bytes(), out),
        Cell::Number(number) => match (type_oid, binary) {
            (TypeOid::Int4, false) => write_value(clamp(*number).to_string().as_bytes(), out),
            (TypeOid::Int4, true) => write_value(&clamp(*number).to_be_bytes(), out),
            (TypeOid::Int8, true) => write_value(&number.to_be_bytes(), out),
            (TypeOid::Numeric, true) => write_value(&binary_numeric(*number), out),
            (TypeOid::Text, _) | (TypeOid::Int8 | TypeOid::Numeric, false) => {
                write_value(number.to_string().as_bytes(), out);
            }
        },
    }
}

fn clamp(number: i64) -> i32 {
    number.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

fn write_value(value: &[u8], out: &mut BytesMut) {
    out.put_u32(value.len() as u32);
    out.put_slice(value);
}

/// What numeric_send writes: count of digits, weight of the first, sign, scale, then the digits
/// to the base of 10,000.
/// <https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/numeric.c>
fn binary_numeric(number: i64) -> BytesMut {
    let mut digits: Vec<u16> = Vec::new();
    let mut rest = number.unsigned_abs();
    while rest > 0 {
        digits.push((rest % 10_000) as u16);
        rest /= 10_000;
    }
    let mut out = BytesMut::with_capacity(8 + 2 * digits.len());
    out.put_u16(digits.len() as u16);
    out.put_u16(digits.len().saturating_sub(1) as u16);
    out.put_u16(if number < 0 { 0x4000 } else { 0 });
    out.put_u16(0);
    digits.iter().rev().for_each(|digit| out.put_u16(*digit));
    out
}

#[cfg(test)]
pub(super) mod tests {
    use postgres_protocol::types::{int4_from_sql, int8_from_sql};

    use super::*;

    /// A table as psql would print it unaligned, for the tests of each command.
    pub fn printed<R: Row>(rows: impl IntoIterator<Item = R>) -> String {
        let table = Table::of(rows);
        let names = table.columns.iter().map(|column| column.name);
        let mut out = names.collect::<Vec<_>>().join("|");
        for row in &table.rows {
            assert_eq!(row.len(), table.columns.len());
            let cells = row.iter().map(|cell| match cell {
                Cell::Null => "NULL".to_owned(),
                Cell::Text(text) => text.clone(),
                Cell::Number(number) => number.to_string(),
            });
            out.push('\n');
            out.push_str(&cells.collect::<Vec<_>>().join("|"));
        }
        out
    }

    struct Sample(Cell, i64);

    impl Row for Sample {
        const COLUMNS: &'static [Column] = &[text("name"), int4("n"), int8("m"), numeric("k")];

        fn cells(self) -> Vec<Cell> {
            let number = Cell::Number(self.1);
            vec![self.0, number.clone(), number.clone(), number]
        }
    }

    #[test]
    fn text_answer() {
        let mut out = BytesMut::new();
        write_description(Sample::COLUMNS, &[], &mut out);
        Table::of([Sample("a".into(), 7)]).write_rows(&[], &mut out);
        let description = b"T\0\0\0\x59\0\x04\
            name\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0\
            n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0\
            m\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\0\
            k\0\0\0\0\0\0\0\0\0\x06\xa4\xff\xff\xff\xff\xff\xff\0\0";
        let row = b"D\0\0\0\x1a\0\x04\0\0\0\x01a\0\0\0\x017\0\0\0\x017\0\0\0\x017";
        let expected = [&description[..], row].concat();
        assert_eq!(
            out.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }

    #[test]
    fn a_row_limit_leaves_the_rest() {
        let all = || Table::of((0..3).map(|n| Sample(Cell::Null, n)));
        for (limit, kept, left) in [(0, 3, None), (3, 3, None), (2, 2, Some(1))] {
            let mut table = all();
            let rest = table.split_off(limit);
            assert_eq!(table.rows.len(), kept);
            assert_eq!(rest.map(|rest| rest.rows.len()), left);
        }
    }

    #[test]
    fn binary_values_are_what_drivers_read() {
        for number in [0, 7, 10_000, -123_456_789, i64::MAX] {
            let mut out = BytesMut::new();
            Table::of([Sample(Cell::Null, number)]).write_rows(&[1], &mut out);
            let row = &out[1 + 4 + 2..];
            assert_eq!(&row[..4], (-1i32).to_be_bytes(), "NULL");
            assert_eq!(int4_from_sql(&row[8..12]).unwrap(), clamp(number));
            assert_eq!(int8_from_sql(&row[16..24]).unwrap(), number);
            let (numeric, digits) = (&row[28..], row[29] as usize);
            let value = numeric[8..8 + 2 * digits]
                .chunks(2)
                .fold(0i128, |value, digit| {
                    value * 10_000 + i128::from(u16::from_be_bytes([digit[0], digit[1]]))
                });
            let sign = if numeric[4] == 0x40 { -1 } else { 1 };
            assert_eq!(value * sign, i128::from(number));
            assert_eq!(usize::from(numeric[3]), digits.saturating_sub(1), "weight");
        }
    }

    #[test]
    fn formats_are_as_in_bind() {
        assert!(!is_binary(&[], 3));
        assert!(is_binary(&[1], 3));
        assert!(is_binary(&[0, 1], 1));
        assert!(!is_binary(&[0, 1], 0));
        let mut out = BytesMut::new();
        write_description(&[int4("n")], &[1], &mut out);
        assert_eq!(out[out.len() - 2..], [0, 1]);
    }

    #[test]
    fn a_number_beyond_its_type_is_written_as_the_last_one() {
        let mut out = BytesMut::new();
        Table::of([Sample(Cell::Null, i64::MAX)]).write_rows(&[], &mut out);
        assert!(out.windows(10).any(|bytes| bytes == b"2147483647"));
    }
}
