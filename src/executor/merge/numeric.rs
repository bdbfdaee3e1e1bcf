//! PostgreSQL's numeric: comparison, addition and the division behind avg().
//! Source of the rules: src/backend/utils/adt/numeric.c.

use std::cmp::Reverse;
use std::fmt;

use num_bigint::{BigInt, Sign};

use crate::error::{Error, Fault, Result};

/// Decimal digits in one of PostgreSQL's base-10000 digits.
const DEC_DIGITS: usize = 4;
/// Significant digits a quotient has at least.
const MIN_SIG_DIGITS: i64 = 16;
/// Digits after the point a quotient has at most.
const MAX_DISPLAY_SCALE: i64 = 1000;
/// Digits before the point a numeric has at most.
const MAX_INTEGER_DIGITS: usize = 131_072;
/// The largest scale that the wire format can carry.
const MAX_DSCALE: u16 = 0x3FFF;

/// numeric_send reads a scale out of the bits that mark an infinity; readers ignore it.
const INFINITY_DSCALE: u16 = 32;

const SIGN_POSITIVE: u16 = 0x0000;
const SIGN_NEGATIVE: u16 = 0x4000;
const SIGN_NAN: u16 = 0xC000;
const SIGN_INFINITY: u16 = 0xD000;
const SIGN_NEG_INFINITY: u16 = 0xF000;

/// A numeric to calculate with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Numeric {
    NaN,
    Infinity,
    NegInfinity,
    /// `unscaled` / 10^`scale`; the scale is the number of digits shown after the point.
    Finite {
        unscaled: BigInt,
        scale: u32,
    },
}

impl Numeric {
    /// From the text format; `None` when it is not a numeric as PostgreSQL prints it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"NaN" => return Some(Self::NaN),
            b"Infinity" => return Some(Self::Infinity),
            b"-Infinity" => return Some(Self::NegInfinity),
            _ => {}
        }
        let decimal = Decimal::parse(text)?;
        let digits = [decimal.integer, decimal.fraction].concat();
        let unscaled = BigInt::parse_bytes(&digits, 10)?;
        Some(Self::Finite {
            unscaled: if decimal.negative {
                -unscaled
            } else {
                unscaled
            },
            scale: u32::try_from(decimal.fraction.len()).ok()?,
        })
    }

    /// From the binary format; `None` when it is malformed.
    pub fn from_binary(bytes: &[u8]) -> Option<Self> {
        Self::parse(binary_to_text(bytes)?.as_bytes())
    }

    /// Adds as numeric_add does: the larger scale stays, opposite infinities make NaN.
    pub fn add(self, other: Self) -> Self {
        match (self, other) {
            (Self::NaN, _) | (_, Self::NaN) => Self::NaN,
            (Self::Infinity, Self::NegInfinity) | (Self::NegInfinity, Self::Infinity) => Self::NaN,
            (Self::Infinity, _) | (_, Self::Infinity) => Self::Infinity,
            (Self::NegInfinity, _) | (_, Self::NegInfinity) => Self::NegInfinity,
            (
                Self::Finite {
                    unscaled: a,
                    scale: a_scale,
                },
                Self::Finite {
                    unscaled: b,
                    scale: b_scale,
                },
            ) => {
                let scale = a_scale.max(b_scale);
                Self::Finite {
                    unscaled: rescale(a, scale - a_scale) + rescale(b, scale - b_scale),
                    scale,
                }
            }
        }
    }

    /// Divides by a positive count as numeric_div does, with its choice of scale and its
    /// rounding (half away from zero).
    pub fn divide_by_count(self, count: u64) -> Self {
        let (unscaled, scale) = match self {
            Self::Finite { unscaled, scale } => (unscaled, scale),
            special => return special,
        };
        let quotient_scale = select_div_scale(&unscaled, scale, count);
        let negative = unscaled.sign() == Sign::Minus;
        let dividend = unscaled.magnitude() * power_of_ten(quotient_scale).magnitude();
        let divisor = power_of_ten(scale).magnitude() * count;
        let mut quotient = &dividend / &divisor;
        let remainder = dividend - &quotient * &divisor;
        if remainder * 2u32 >= divisor {
            quotient += 1u32;
        }
        let quotient = BigInt::from(quotient);
        Self::Finite {
            unscaled: if negative { -quotient } else { quotient },
            scale: quotient_scale,
        }
    }

    /// # Errors
    /// 22003 when the value has more digits than a numeric can hold.
    pub fn check_range(&self) -> Result<()> {
        let Self::Finite { unscaled, scale } = self else {
            return Ok(());
        };
        // 3 bits hold less than a decimal digit: cheap proof for all ordinary values.
        if unscaled.bits() < 3 * MAX_INTEGER_DIGITS as u64 {
            return Ok(());
        }
        let digits = unscaled.magnitude().to_string().len();
        if digits > MAX_INTEGER_DIGITS + *scale as usize {
            return Err(Error::new(
                Fault::Client,
                "22003",
                "value overflows numeric format",
            ));
        }
        Ok(())
    }

    /// The binary format, as numeric_send writes it.
    pub fn to_binary(&self) -> Vec<u8> {
        let (unscaled, scale) = match self {
            Self::NaN => return header(0, 0, SIGN_NAN, 0),
            Self::Infinity => return header(0, 0, SIGN_INFINITY, INFINITY_DSCALE),
            Self::NegInfinity => return header(0, 0, SIGN_NEG_INFINITY, INFINITY_DSCALE),
            Self::Finite { unscaled, scale } => (unscaled, *scale as usize),
        };
        let (groups, weight) = base_10000(&unscaled.magnitude().to_string(), scale);
        let sign = if unscaled.sign() == Sign::Minus {
            SIGN_NEGATIVE
        } else {
            SIGN_POSITIVE
        };
        let mut bytes = header(groups.len() as u16, weight as i16, sign, scale as u16);
        bytes.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
        bytes
    }
}

impl From<i64> for Numeric {
    fn from(value: i64) -> Self {
        Self::Finite {
            unscaled: BigInt::from(value),
            scale: 0,
        }
    }
}

/// The text format, as numeric_out writes it.
impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NaN => f.write_str("NaN"),
            Self::Infinity => f.write_str("Infinity"),
            Self::NegInfinity => f.write_str("-Infinity"),
            Self::Finite { unscaled, scale } => {
                let scale = *scale as usize;
                let digits = format!("{:0>width$}", unscaled.magnitude(), width = scale + 1);
                let (integer, fraction) = digits.split_at(digits.len() - scale);
                let sign = if unscaled.sign() == Sign::Minus {
                    "-"
                } else {
                    ""
                };
                let point = if scale == 0 { "" } else { "." };
                write!(f, "{sign}{integer}{point}{fraction}")
            }
        }
    }
}

/// A numeric reduced to what decides its order; 1.0 and 1.00 are the same key.
/// The order of the variants is PostgreSQL's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum NumericKey {
    NegInfinity,
    Negative(Reverse<Magnitude>),
    Zero,
    Positive(Magnitude),
    Infinity,
    NaN,
}

/// 0.`digits` * 10^`exponent`, without zeros at either end of the digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Magnitude {
    exponent: i64,
    digits: Box<[u8]>,
}

impl NumericKey {
    /// From the text format; `None` when it is not a numeric as PostgreSQL prints it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"NaN" => return Some(Self::NaN),
            b"Infinity" => return Some(Self::Infinity),
            b"-Infinity" => return Some(Self::NegInfinity),
            _ => {}
        }
        let decimal = Decimal::parse(text)?;
        let digits = [decimal.integer, decimal.fraction].concat();
        let Some(first) = digits.iter().position(|d| *d != b'0') else {
            return Some(Self::Zero);
        };
        let last = digits.iter().rposition(|d| *d != b'0').unwrap_or(first);
        let magnitude = Magnitude {
            exponent: decimal.integer.len() as i64 - first as i64,
            digits: digits[first..=last].into(),
        };
        Some(if decimal.negative {
            Self::Negative(Reverse(magnitude))
        } else {
            Self::Positive(magnitude)
        })
    }

    /// From the binary format; `None` when it is malformed.
    pub fn from_binary(bytes: &[u8]) -> Option<Self> {
        Self::parse(binary_to_text(bytes)?.as_bytes())
    }

    /// Bytes on the heap.
    pub fn heap_size(&self) -> usize {
        match self {
            Self::Negative(Reverse(magnitude)) | Self::Positive(magnitude) => {
                magnitude.digits.len()
            }
            Self::NegInfinity | Self::Zero | Self::Infinity | Self::NaN => 0,
        }
    }
}

/// `[-]integer[.fraction]`, digits only.
struct Decimal<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (integer, fraction) = match memchr::memchr(b'.', rest) {
            Some(point) => (&rest[..point], &rest[point + 1..]),
            None => (rest, &[][..]),
        };
        let all_digits = integer.iter().chain(fraction).all(u8::is_ascii_digit);
        (all_digits && !integer.is_empty()).then_some(Self {
            negative,
            integer,
            fraction,
        })
    }
}

fn power_of_ten(exponent: u32) -> BigInt {
    BigInt::from(10).pow(exponent)
}

fn rescale(unscaled: BigInt, by: u32) -> BigInt {
    if by == 0 {
        unscaled
    } else {
        unscaled * power_of_ten(by)
    }
}

/// select_div_scale(): at least 16 significant digits, at least the dividend's scale.
fn select_div_scale(dividend: &BigInt, dividend_scale: u32, count: u64) -> u32 {
    let (weight1, first1) =
        leading_group(&dividend.magnitude().to_string(), dividend_scale as usize);
    let (weight2, first2) = leading_group(&count.to_string(), 0);
    // When the first digits are equal the quotient is assumed to be the smaller.
    let mut quotient_weight = weight1 - weight2;
    if first1 <= first2 {
        quotient_weight -= 1;
    }
    let scale = (MIN_SIG_DIGITS - quotient_weight * DEC_DIGITS as i64)
        .max(i64::from(dividend_scale))
        .clamp(0, MAX_DISPLAY_SCALE);
    scale as u32
}

/// Weight and value of the first non-zero base-10000 digit; zero has (0, 0).
fn leading_group(digits: &str, scale: usize) -> (i64, u16) {
    let (groups, weight) = base_10000(digits, scale);
    groups
        .first()
        .map_or((0, 0), |first| (i64::from(weight), *first))
}

/// Base-10000 digits without zeros at either end, and the weight of the first.
fn base_10000(digits: &str, scale: usize) -> (Vec<u16>, i32) {
    // Pad on both sides so that the point falls between two groups.
    let integer = digits.len().saturating_sub(scale);
    let fraction = digits.len().max(scale) - integer;
    let missing = scale.saturating_sub(digits.len());
    let before = (DEC_DIGITS - integer % DEC_DIGITS) % DEC_DIGITS + missing;
    let after = (DEC_DIGITS - fraction % DEC_DIGITS) % DEC_DIGITS;
    let padded: Vec<u8> = std::iter::repeat_n(b'0', before)
        .chain(digits.bytes())
        .chain(std::iter::repeat_n(b'0', after))
        .collect();
    let groups: Vec<u16> = padded
        .chunks(DEC_DIGITS)
        .map(|group| group.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0')))
        .collect();
    let Some(first) = groups.iter().position(|g| *g != 0) else {
        return (Vec::new(), 0);
    };
    let last = groups.iter().rposition(|g| *g != 0).unwrap_or(first);
    let weight = integer.div_ceil(DEC_DIGITS) as i32 - 1 - first as i32;
    (groups[first..=last].to_vec(), weight)
}

fn header(ndigits: u16, weight: i16, sign: u16, dscale: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + 2 * usize::from(ndigits));
    bytes.extend(ndigits.to_be_bytes());
    bytes.extend(weight.to_be_bytes());
    bytes.extend(sign.to_be_bytes());
    bytes.extend(dscale.to_be_bytes());
    bytes
}

/// What numeric_out prints for the value that numeric_send sent.
fn binary_to_text(bytes: &[u8]) -> Option<String> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let count = usize::from(word(0)?);
    let weight = i64::from(word(2)? as i16);
    let sign = word(4)?;
    let dscale = word(6)?;
    if bytes.len() != 8 + 2 * count || dscale > MAX_DSCALE {
        return None;
    }
    let mut text = String::new();
    match sign {
        SIGN_NAN => return Some("NaN".into()),
        SIGN_INFINITY => return Some("Infinity".into()),
        SIGN_NEG_INFINITY => return Some("-Infinity".into()),
        SIGN_POSITIVE => {}
        SIGN_NEGATIVE => text.push('-'),
        _ => return None,
    }
    // The digit worth 10000^power; those that were not sent are zeros.
    let group = |power: i64| match usize::try_from(weight - power) {
        Ok(index) if index < count => word(8 + 2 * index).filter(|g| *g < 10_000),
        _ => Some(0),
    };
    if weight < 0 {
        text.push('0');
    } else {
        text.push_str(&group(weight)?.to_string());
        for power in (0..weight).rev() {
            text.push_str(&format!("{:04}", group(power)?));
        }
    }
    if dscale > 0 {
        text.push('.');
        let end = text.len() + usize::from(dscale);
        let mut power = -1;
        while text.len() < end {
            text.push_str(&format!("{:04}", group(power)?));
            power -= 1;
        }
        text.truncate(end);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sum, numeric_send(sum), count, sum / count, numeric_send(sum / count); from PostgreSQL 15.
    const DIVISION: &str = include_str!("testdata/division.txt");

    fn unhex(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn divides_as_postgresql() {
        for line in DIVISION.lines() {
            let [sum, sum_binary, count, quotient, quotient_binary] =
                line.split('\t').collect::<Vec<_>>()[..]
            else {
                panic!("{line}");
            };
            let parsed = Numeric::parse(sum.as_bytes()).unwrap();
            assert_eq!(
                Numeric::from_binary(&unhex(sum_binary)),
                Some(parsed.clone()),
                "{line}"
            );
            assert_eq!(parsed.to_string(), sum);
            let divided = parsed.divide_by_count(count.parse().unwrap());
            assert_eq!(divided.to_string(), quotient, "{line}");
            assert_eq!(divided.to_binary(), unhex(quotient_binary), "{line}");
        }
    }

    #[test]
    fn adds_special_values() {
        for (a, b, sum) in [
            ("1.5", "2.25", "3.75"),
            ("1.50", "-1.5", "0.00"),
            ("-0.1", "0.05", "-0.05"),
            ("NaN", "Infinity", "NaN"),
            ("Infinity", "-Infinity", "NaN"),
            ("-Infinity", "5", "-Infinity"),
            ("5", "Infinity", "Infinity"),
        ] {
            let parse = |text: &str| Numeric::parse(text.as_bytes()).unwrap();
            assert_eq!(parse(a).add(parse(b)).to_string(), sum);
            assert_eq!(parse(b).add(parse(a)).to_string(), sum);
        }
    }

    #[test]
    fn refuses_more_digits_than_postgresql_has() {
        let digits = |count: usize| Numeric::parse("9".repeat(count).as_bytes()).unwrap();
        assert!(digits(MAX_INTEGER_DIGITS).check_range().is_ok());
        let error = digits(MAX_INTEGER_DIGITS + 1).check_range().unwrap_err();
        assert_eq!(error.code, "22003");
    }

    #[test]
    fn rejects_what_is_not_a_numeric() {
        for text in ["", "-", ".5", "1e5", "1.2.3", "+1", " 1", "nan", "--1"] {
            assert_eq!(Numeric::parse(text.as_bytes()), None, "{text}");
            assert_eq!(NumericKey::parse(text.as_bytes()), None, "{text}");
        }
        // Wrong length, wrong digit, wrong sign.
        for bytes in [
            &[0, 1, 0, 0, 0, 0, 0, 0][..],
            &[0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10],
            &[0, 0, 0, 0, 0x12, 0x34, 0, 0],
        ] {
            assert_eq!(Numeric::from_binary(bytes), None);
        }
    }
}
