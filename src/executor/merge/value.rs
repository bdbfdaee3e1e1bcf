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

    /// Keys whose equality is PostgreSQL's. Collations do not matter: built-in ones are
    /// deterministic, and the planner knows the others.
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
fn from_text<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// A float4 or float8 in text, each read with its own precision.
pub(super) fn float_from_text(kind: Kind, bytes: &[u8]) -> Option<f64> {
    if kind == Kind::Float4 {
        from_text::<f32>(bytes).map(f64::from)
    } else {
        from_text(bytes)
    }
}

fn text_key(kind: Kind, bytes: &[u8]) -> Option<Key> {
    match kind {
        Kind::Bool => match bytes {
            b"t" => int_key(1),
            b"f" => int_key(0),
            _ => None,
        },
        Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Oid => int_key(from_text::<i64>(bytes)?),
        Kind::Float4 | Kind::Float8 => int_key(float::order(float_from_text(kind, bytes)?)),
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
