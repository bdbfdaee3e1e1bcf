//! The values that sum() and avg() add up, read and written in either format.

use num_bigint::BigInt;

use super::float::{float4_text, float8_text};
use super::interval::Interval;
use super::numeric::Numeric;
use super::row::{ColumnInfo, Format, malformed};
use super::value::from_text;
use crate::error::{Error, Fault, Result};

/// The types that sum() returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberType {
    Int8,
    Float4,
    Float8,
    Numeric,
    Interval,
}

impl NumberType {
    /// `None` for types that are not added here.
    pub fn of(column: &ColumnInfo) -> Option<Self> {
        match column.type_oid {
            20 => Some(Self::Int8),
            700 => Some(Self::Float4),
            701 => Some(Self::Float8),
            1186 => Some(Self::Interval),
            1700 => Some(Self::Numeric),
            _ => None,
        }
    }
}

/// A partial or whole sum.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Number {
    /// An int8; wide, so that only the whole sum has to fit.
    Int8(i128),
    Float4(f32),
    Float8(f64),
    Numeric(Numeric),
    Interval(Interval),
}

impl Number {
    /// # Errors
    /// 08P01 for a malformed value, 0A000 for an interval in a style that is not read.
    pub fn read(number_type: NumberType, format: Format, bytes: &[u8]) -> Result<Self> {
        let number = match format {
            Format::Text => Self::from_text(number_type, bytes),
            Format::Binary => Self::from_binary(number_type, bytes),
        };
        number.ok_or_else(|| match (number_type, format) {
            (NumberType::Interval, Format::Text) => Error::new(
                Fault::Client,
                "0A000",
                "cannot add up the intervals of several shards in this style",
            )
            .detail("The shards write intervals in a style that is not read here.")
            .hint("SET IntervalStyle = 'postgres', or ask for results in binary format."),
            (
                NumberType::Int8
                | NumberType::Float4
                | NumberType::Float8
                | NumberType::Numeric
                | NumberType::Interval,
                Format::Text | Format::Binary,
            ) => malformed("a partial aggregate is not a value of its type"),
        })
    }

    fn from_text(number_type: NumberType, bytes: &[u8]) -> Option<Self> {
        Some(match number_type {
            NumberType::Int8 => Self::Int8(from_text::<i64>(bytes)?.into()),
            NumberType::Float4 => Self::Float4(from_text(bytes)?),
            NumberType::Float8 => Self::Float8(from_text(bytes)?),
            NumberType::Numeric => Self::Numeric(Numeric::parse(bytes)?),
            NumberType::Interval => Self::Interval(Interval::parse(bytes)?),
        })
    }

    fn from_binary(number_type: NumberType, bytes: &[u8]) -> Option<Self> {
        Some(match number_type {
            NumberType::Int8 => Self::Int8(i64::from_be_bytes(bytes.try_into().ok()?).into()),
            NumberType::Float4 => Self::Float4(f32::from_be_bytes(bytes.try_into().ok()?)),
            NumberType::Float8 => Self::Float8(f64::from_be_bytes(bytes.try_into().ok()?)),
            NumberType::Numeric => Self::Numeric(Numeric::from_binary(bytes)?),
            NumberType::Interval => Self::Interval(Interval::from_binary(bytes)?),
        })
    }

    /// # Errors
    /// 22003 or 22008 when the sum leaves the type's range.
    pub fn add(self, other: Self) -> Result<Self> {
        Ok(match (self, other) {
            (Self::Int8(a), Self::Int8(b)) => {
                Self::Int8(a.checked_add(b).ok_or_else(bigint_out_of_range)?)
            }
            (Self::Float4(a), Self::Float4(b)) => {
                let sum = a + b;
                check_overflow(sum.is_infinite() && a.is_finite() && b.is_finite())?;
                Self::Float4(sum)
            }
            (Self::Float8(a), Self::Float8(b)) => {
                let sum = a + b;
                check_overflow(sum.is_infinite() && a.is_finite() && b.is_finite())?;
                Self::Float8(sum)
            }
            (Self::Numeric(a), Self::Numeric(b)) => Self::Numeric(a.add(b)),
            (Self::Interval(a), Self::Interval(b)) => Self::Interval(
                a.checked_add(b)
                    .ok_or_else(|| Error::new(Fault::Client, "22008", "interval out of range"))?,
            ),
            (
                Self::Int8(_)
                | Self::Float4(_)
                | Self::Float8(_)
                | Self::Numeric(_)
                | Self::Interval(_),
                _,
            ) => return Err(super::defect("numbers of two types in one sum")),
        })
    }

    /// avg() of a sum over `count` > 0 values.
    ///
    /// # Errors
    /// XX000 for types whose average was not to be computed here.
    pub fn average(self, count: u64) -> Result<Self> {
        match self {
            Self::Int8(sum) => {
                let sum = Numeric::Finite {
                    unscaled: BigInt::from(sum),
                    scale: 0,
                };
                Ok(Self::Numeric(sum.divide_by_count(count)))
            }
            Self::Numeric(sum) => Ok(Self::Numeric(sum.divide_by_count(count))),
            Self::Float8(sum) => Ok(Self::Float8(sum / count as f64)),
            Self::Float4(_) | Self::Interval(_) => {
                Err(super::defect("an average of a type that has to be refused"))
            }
        }
    }

    /// # Errors
    /// 22003 when the value leaves the type's range.
    pub fn write(&self, format: Format) -> Result<Vec<u8>> {
        Ok(match (self, format) {
            (Self::Int8(value), _) => {
                let value = i64::try_from(*value).map_err(|_| bigint_out_of_range())?;
                match format {
                    Format::Text => value.to_string().into_bytes(),
                    Format::Binary => value.to_be_bytes().to_vec(),
                }
            }
            (Self::Float4(value), Format::Text) => float4_text(*value).into_bytes(),
            (Self::Float4(value), Format::Binary) => value.to_be_bytes().to_vec(),
            (Self::Float8(value), Format::Text) => float8_text(*value).into_bytes(),
            (Self::Float8(value), Format::Binary) => value.to_be_bytes().to_vec(),
            (Self::Numeric(value), _) => {
                value.check_range()?;
                match format {
                    Format::Text => value.to_string().into_bytes(),
                    Format::Binary => value.to_binary(),
                }
            }
            (Self::Interval(value), Format::Text) => value.to_string().into_bytes(),
            (Self::Interval(value), Format::Binary) => value.to_binary(),
        })
    }
}

fn bigint_out_of_range() -> Error {
    Error::new(Fault::Client, "22003", "bigint out of range")
}

fn check_overflow(overflows: bool) -> Result<()> {
    if overflows {
        return Err(Error::new(
            Fault::Client,
            "22003",
            "value out of range: overflow",
        ));
    }
    Ok(())
}
