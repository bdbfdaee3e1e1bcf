//! A column's values as keys that compare as PostgreSQL compares the values.

use std::cmp::Ordering;

use planner::merge::Collation;

use super::datetime;
use super::float;
use super::interval::Interval;
use super::numeric::NumericKey;
use super::row::{ColumnInfo, Format, malformed};
use crate::error::{Error, Fault, Result};

/// The types whose values can be compared here. OIDs: src/include/catalog/pg_type.dat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    /// text and varchar.
    Text,
    /// char(n): trailing spaces do not count.
    BpChar,
    Name,
    /// The one-byte type `"char"`.
    Char,
    Bytea,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    /// Types where equal values have equal bytes, but whose order is not known here
    /// (inet, cidr, macaddr, bit, varbit).
    EqualityOnly,
}

impl Kind {
    /// `None` for types that are not known here, user-defined ones among them.
    pub fn of(type_oid: u32) -> Option<Self> {
        Some(match type_oid {
            16 => Self::Bool,
            17 => Self::Bytea,
            18 => Self::Char,
            19 => Self::Name,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            25 | 1043 => Self::Text,
            26 => Self::Oid,
            700 => Self::Float4,
            701 => Self::Float8,
            1042 => Self::BpChar,
            1082 => Self::Date,
            1083 => Self::Time,
            1114 => Self::Timestamp,
            1184 => Self::TimestampTz,
            1186 => Self::Interval,
            1266 => Self::TimeTz,
            1700 => Self::Numeric,
            2950 => Self::Uuid,
            650 | 774 | 829 | 869 | 1560 | 1562 => Self::EqualityOnly,
            _ => return None,
        })
    }

    fn is_collatable(self) -> bool {
        matches!(self, Self::Text | Self::BpChar | Self::Name)
    }
}

/// A value reduced to what decides equality and order. Keys of one column are of one variant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Int(i128),
    Numeric(NumericKey),
    Bytes(Box<[u8]>),
}

impl Key {
    /// Bytes on the heap.
    pub fn heap_size(&self) -> usize {
        match self {
            Self::Int(_) => 0,
            Self::Numeric(key) => key.heap_size(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

/// Turns the values of one column into keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decoder {
    kind: Kind,
    format: Format,
    column: String,
}

impl Decoder {
    /// Keys whose order is PostgreSQL's.
    ///
    /// # Errors
    /// 0A000 when the order of the type or of its collation is not known here.
    pub fn for_order(column: &ColumnInfo, collation: Collation) -> Result<Self> {
        let decoder = Self::for_equality(column)?;
        if decoder.kind == Kind::EqualityOnly {
            return Err(unknown_type(column));
        }
        let bytewise = match collation {
            Collation::Bytewise => true,
            Collation::Other => !decoder.kind.is_collatable(),
            // A name has collation C unless COLLATE says otherwise, which the planner sees.
            Collation::Unknown => decoder.kind == Kind::Name || !decoder.kind.is_collatable(),
        };
        if bytewise {
            Ok(decoder)
        } else {
            Err(unknown_order(column))
        }
    }

    /// Keys that are equal where PostgreSQL puts values in one group.
    ///
    /// # Errors
    /// 0A000 as [`Decoder::for_equality`], and for text of which other bytes may be equal.
    pub fn for_group(column: &ColumnInfo, collation: Collation) -> Result<Self> {
        let decoder = Self::for_equality(column)?;
        match collation {
            Collation::Other if decoder.kind.is_collatable() => Err(unknown_order(column)),
            Collation::Other | Collation::Bytewise | Collation::Unknown => Ok(decoder),
        }
    }

    /// Keys whose equality is PostgreSQL's, of text in a deterministic collation.
    ///
    /// # Errors
    /// 0A000 when equality of the type is not known here.
    pub fn for_equality(column: &ColumnInfo) -> Result<Self> {
        let kind = Kind::of(column.type_oid).ok_or_else(|| unknown_type(column))?;
        Ok(Self {
            kind,
            format: column.format,
            column: column.name.clone(),
        })
    }

    /// # Errors
    /// 0A000 for text in a style that is not read here, 08P01 for a malformed value.
    pub fn key(&self, bytes: &[u8]) -> Result<Key> {
        let key = match self.format {
            Format::Text => text_key(self.kind, bytes),
            Format::Binary => binary_key(self.kind, bytes),
        };
        key.ok_or_else(|| self.unreadable())
    }

    /// NULL has no key.
    pub fn nullable_key(&self, bytes: Option<&[u8]>) -> Result<Option<Key>> {
        bytes.map(|bytes| self.key(bytes)).transpose()
    }

    fn unreadable(&self) -> Error {
        let dated = matches!(self.kind, Kind::Date | Kind::Timestamp | Kind::TimestampTz);
        let style = if self.format == Format::Text && dated {
            "SET DateStyle = 'ISO'"
        } else if self.format == Format::Text && self.kind == Kind::Interval {
            "SET IntervalStyle = 'postgres'"
        } else {
            return malformed(format!("a value of column \"{}\"", self.column));
        };
        Error::new(
            Fault::Client,
            "0A000",
            "cannot merge the rows of several shards by dates in this style",
        )
        .detail(format!(
            "A value of column \"{}\" has to be compared and is in a style that is not read.",
            self.column
        ))
        .hint(format!("{style}, or ask for results in binary format."))
    }
}

fn unknown_type(column: &ColumnInfo) -> Error {
    Error::new(
        Fault::Client,
        "0A000",
        "cannot merge the rows of several shards by this type",
    )
    .detail(format!(
        "Values of column \"{}\" (type OID {}) cannot be compared outside PostgreSQL.",
        column.name, column.type_oid
    ))
    .hint("Cast it to a built-in type, as in (col::text) COLLATE \"C\", or limit the statement to one sharding key.")
}

fn unknown_order(column: &ColumnInfo) -> Error {
    Error::new(
        Fault::Client,
        "0A000",
        "cannot merge the rows of several shards in this collation",
    )
    .detail(format!(
        "The order of the text in column \"{}\" depends on a collation that only PostgreSQL knows.",
        column.name
    ))
    .hint("Use the byte order: ORDER BY col COLLATE \"C\", min(col COLLATE \"C\"); or limit the statement to one sharding key.")
}

fn int_key(value: impl Into<i128>) -> Option<Key> {
    Some(Key::Int(value.into()))
}

fn bytes_key(bytes: &[u8]) -> Option<Key> {
    Some(Key::Bytes(bytes.into()))
}

fn bpchar_key(bytes: &[u8]) -> Option<Key> {
    let end = bytes.iter().rposition(|b| *b != b' ').map_or(0, |p| p + 1);
    bytes_key(&bytes[..end])
}

/// Parses what Rust and PostgreSQL write alike.
pub(super) fn from_text<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn text_key(kind: Kind, bytes: &[u8]) -> Option<Key> {
    match kind {
        Kind::Bool => match bytes {
            b"t" => int_key(1),
            b"f" => int_key(0),
            _ => None,
        },
        Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Oid => int_key(from_text::<i64>(bytes)?),
        Kind::Float4 => int_key(float::order(from_text::<f32>(bytes)?.into())),
        Kind::Float8 => int_key(float::order(from_text(bytes)?)),
        Kind::Numeric => NumericKey::parse(bytes).map(Key::Numeric),
        Kind::Text | Kind::Name | Kind::EqualityOnly => bytes_key(bytes),
        Kind::BpChar => bpchar_key(bytes),
        Kind::Char => int_key(char_from_text(bytes)?),
        Kind::Bytea => bytea_from_text(bytes).map(|b| Key::Bytes(b.into())),
        Kind::Date => int_key(datetime::date(bytes)?),
        Kind::Time => int_key(datetime::time(bytes)?),
        Kind::TimeTz => {
            let (micros, east) = datetime::timetz(bytes)?;
            int_key(datetime::timetz_order(micros, -east))
        }
        Kind::Timestamp => int_key(datetime::timestamp(bytes)?),
        Kind::TimestampTz => int_key(datetime::timestamptz(bytes)?),
        Kind::Interval => int_key(Interval::parse(bytes)?.order()),
        Kind::Uuid => uuid_from_text(bytes).map(|b| Key::Bytes(b.into())),
    }
}

fn binary_key(kind: Kind, bytes: &[u8]) -> Option<Key> {
    match kind {
        Kind::Bool | Kind::Char => {
            let [byte] = *bytes else { return None };
            int_key(byte)
        }
        Kind::Int2 => int_key(i16::from_be_bytes(bytes.try_into().ok()?)),
        Kind::Int4 | Kind::Date => int_key(i32::from_be_bytes(bytes.try_into().ok()?)),
        Kind::Int8 | Kind::Time | Kind::Timestamp | Kind::TimestampTz => {
            int_key(i64::from_be_bytes(bytes.try_into().ok()?))
        }
        Kind::Oid => int_key(u32::from_be_bytes(bytes.try_into().ok()?)),
        Kind::Float4 => {
            let value = f32::from_be_bytes(bytes.try_into().ok()?);
            int_key(float::order(value.into()))
        }
        Kind::Float8 => int_key(float::order(f64::from_be_bytes(bytes.try_into().ok()?))),
        Kind::Numeric => NumericKey::from_binary(bytes).map(Key::Numeric),
        Kind::Text | Kind::Name | Kind::Bytea | Kind::EqualityOnly => bytes_key(bytes),
        Kind::BpChar => bpchar_key(bytes),
        Kind::TimeTz => {
            let (micros, west) = bytes.split_first_chunk::<8>()?;
            let west = i32::from_be_bytes(west.try_into().ok()?);
            int_key(datetime::timetz_order(
                i64::from_be_bytes(*micros),
                west.into(),
            ))
        }
        Kind::Interval => int_key(Interval::from_binary(bytes)?.order()),
        Kind::Uuid => (bytes.len() == 16).then(|| Key::Bytes(bytes.into())),
    }
}

/// `"char"` prints a byte as itself, none for zero, and bytes above 127 as `\ooo`.
fn char_from_text(bytes: &[u8]) -> Option<u8> {
    match *bytes {
        [] => Some(0),
        [byte] => Some(byte),
        [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7'] => {
            Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
        }
        _ => None,
    }
}

/// bytea_output `hex` or `escape`.
fn bytea_from_text(bytes: &[u8]) -> Option<Vec<u8>> {
    if let Some(hex) = bytes.strip_prefix(b"\\x") {
        return hex_bytes(hex);
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'\\', [b'\\', tail @ ..]) => {
                decoded.push(b'\\');
                tail
            }
            (b'\\', _) => {
                decoded.push(char_from_text(rest.get(..4)?)?);
                &rest[4..]
            }
            (byte, tail) => {
                decoded.push(*byte);
                tail
            }
        };
    }
    Some(decoded)
}

fn uuid_from_text(bytes: &[u8]) -> Option<Vec<u8>> {
    let hex: Vec<u8> = bytes.iter().copied().filter(|b| *b != b'-').collect();
    hex_bytes(&hex).filter(|decoded| decoded.len() == 16)
}

fn hex_bytes(hex: &[u8]) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) {
        return None;
    }
    hex.chunks_exact(2)
        .map(|pair| Some(hex_digit(pair[0])? << 4 | hex_digit(pair[1])?))
        .collect()
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Compares nullable keys; whether NULL comes first does not depend on the direction.
pub(super) fn compare(
    left: Option<&Key>,
    right: Option<&Key>,
    descending: bool,
    nulls_first: bool,
) -> Ordering {
    let null_side = if nulls_first {
        Ordering::Less
    } else {
        Ordering::Greater
    };
    match (left, right) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => null_side,
        (Some(_), None) => null_side.reverse(),
        (Some(left), Some(right)) if descending => right.cmp(left),
        (Some(left), Some(right)) => left.cmp(right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type, its OID, dense_rank() in the type's order, text and binary value in hexadecimal;
    /// from PostgreSQL 15. A rank that starts again starts another table.
    const ORDER: &str = include_str!("testdata/order.txt");

    struct Row {
        type_oid: u32,
        rank: usize,
        key: Key,
        line: &'static str,
    }

    fn column(type_oid: u32, format: Format) -> ColumnInfo {
        ColumnInfo {
            name: "c".into(),
            type_oid,
            length: -1,
            format,
        }
    }

    fn key(type_oid: u32, format: Format, value: &[u8]) -> Result<Key> {
        Decoder::for_order(&column(type_oid, format), Collation::Bytewise)?.key(value)
    }

    fn rows() -> Vec<Row> {
        let unhex = |hex: &str| hex_bytes(hex.as_bytes()).unwrap();
        let row = |line: &'static str| {
            let [_, oid, rank, text, binary] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let type_oid = oid.parse().unwrap();
            let from_text = key(type_oid, Format::Text, &unhex(text)).expect(line);
            let from_binary = key(type_oid, Format::Binary, &unhex(binary)).expect(line);
            assert_eq!(from_text, from_binary, "{line}");
            Row {
                type_oid,
                rank: rank.parse().unwrap(),
                key: from_text,
                line,
            }
        };
        ORDER.lines().map(row).collect()
    }

    #[test]
    fn keys_order_as_postgresql_in_both_formats() {
        let rows = rows();
        let tables = rows.chunk_by(|a, b| a.type_oid == b.type_oid && a.rank <= b.rank);
        for table in tables {
            for a in table {
                for b in table {
                    assert_eq!(
                        a.key.cmp(&b.key),
                        a.rank.cmp(&b.rank),
                        "{} against {}",
                        a.line,
                        b.line
                    );
                }
            }
        }
    }

    #[test]
    fn refuses_types_and_collations_without_a_known_order() {
        const JSONB: u32 = 3802;
        const INT4_ARRAY: u32 = 1007;
        const USER_DEFINED: u32 = 16_384;
        for oid in [114, JSONB, INT4_ARRAY, USER_DEFINED, 790] {
            let column = column(oid, Format::Text);
            let error = Decoder::for_equality(&column).unwrap_err();
            assert_eq!((&*error.code, error.hint.is_some()), ("0A000", true));
        }
        let order =
            |oid, collation| Decoder::for_order(&column(oid, Format::Text), collation).is_ok();
        const TEXT: u32 = 25;
        const NAME: u32 = 19;
        const INET: u32 = 869;
        assert!(order(TEXT, Collation::Bytewise));
        assert!(!order(TEXT, Collation::Other));
        assert!(!order(TEXT, Collation::Unknown));
        assert!(order(NAME, Collation::Unknown));
        assert!(!order(NAME, Collation::Other));
        assert!(order(23, Collation::Other));
        assert!(!order(INET, Collation::Bytewise));
        assert!(Decoder::for_equality(&column(INET, Format::Text)).is_ok());
    }

    #[test]
    fn refuses_styles_that_are_not_read() {
        for (oid, value) in [
            (1082, "17/12/1997"),
            (1082, "12-17-1997"),
            (1082, "17.12.1997"),
            (1114, "Wed Dec 17 07:37:16 1997"),
            (1114, "12/17/1997 07:37:16.00"),
            (1184, "Wed Dec 17 07:37:16 1997 PST"),
            (1184, "17.12.1997 07:37:16.00 PST"),
            (1186, "1-2 3 4:05:06"),
            (1186, "@ 1 year 2 mons"),
            (1186, "P1Y2M"),
            (1186, "4:05:06"),
        ] {
            let error = key(oid, Format::Text, value.as_bytes()).unwrap_err();
            assert_eq!(
                (&*error.code, error.fault),
                ("0A000", Fault::Client),
                "{value}"
            );
            assert!(error.hint.is_some());
        }
    }

    #[test]
    fn malformed_values_are_the_servers_fault() {
        for (oid, format, value) in [
            (16, Format::Text, &b"x"[..]),
            (23, Format::Text, b"1x"),
            (23, Format::Binary, b"123"),
            (2950, Format::Text, b"a0eebc99"),
            (17, Format::Text, b"\\x0"),
            (17, Format::Text, b"\\9"),
            (1083, Format::Text, b"12:00"),
            (1700, Format::Binary, b"\0\x01"),
        ] {
            let error = key(oid, format, value).unwrap_err();
            assert_eq!((&*error.code, error.fault), ("08P01", Fault::Server));
        }
    }

    #[test]
    fn reads_bytea_in_escape_format() {
        let escaped = key(17, Format::Text, b"a\\\\b\\377\\000").unwrap();
        assert_eq!(escaped, key(17, Format::Binary, b"a\\b\xff\0").unwrap());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(oid in 0u32..3000, binary: bool, value: Vec<u8>) {
            let format = if binary { Format::Binary } else { Format::Text };
            let _ = key(oid, format, &value);
        }

        #[test]
        fn no_text_of_dates_and_numbers_panics(
            oid in proptest::sample::select(vec![1082u32, 1083, 1114, 1184, 1186, 1266, 1700]),
            value in "[-+0-9:. BCinfydaosmerN]{0,30}",
        ) {
            let _ = key(oid, Format::Text, value.as_bytes());
        }
    }
}
