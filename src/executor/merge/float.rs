//! float4 and float8: their order as an integer, and their text as PostgreSQL prints it
//! (src/common/d2s.c, f2s.c; extra_float_digits at its default of 1 or above).

use num_bigint::BigInt;

/// float8 switches to exponents at 10^15 as `%.15g` does.
const FLOAT8_FIXED_DIGITS: i32 = 15;
/// float4 switches to exponents at 10^6 as `%.6g` does.
const FLOAT4_FIXED_DIGITS: i32 = 6;

/// Digits after the first that tell any two float8 apart.
const LONGEST: usize = 16;

/// An integer that orders as PostgreSQL orders floats: -0 equals 0, NaN equals NaN and is greatest.
pub(super) fn order(value: f64) -> i64 {
    if value.is_nan() {
        return i64::MAX;
    }
    let bits = (value + 0.0).to_bits() as i64;
    // Negative floats grow in the other direction than their bits do.
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

/// Text of a float8.
pub(super) fn float8_text(value: f64) -> String {
    if !value.is_finite() {
        return special_text(value);
    }
    let bits = value.to_bits();
    let parts = Parts::new(bits & ((1 << 52) - 1), (bits >> 52) & 0x7FF, 52, 1075);
    let shortest = shortest(
        &parts,
        format!("{value:e}"),
        |precision| format!("{value:.precision$e}"),
        |text| text.parse() == Ok(value),
    );
    layout(&shortest, FLOAT8_FIXED_DIGITS)
}

/// Text of a float4.
pub(super) fn float4_text(value: f32) -> String {
    if !value.is_finite() {
        return special_text(f64::from(value));
    }
    let bits = u64::from(value.to_bits());
    let parts = Parts::new(bits & ((1 << 23) - 1), (bits >> 23) & 0xFF, 23, 150);
    let shortest = shortest(
        &parts,
        format!("{value:e}"),
        |precision| format!("{value:.precision$e}"),
        |text| text.parse() == Ok(value),
    );
    layout(&shortest, FLOAT4_FIXED_DIGITS)
}

fn special_text(value: f64) -> String {
    let text = if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    text.into()
}

/// `mantissa` * 2^`exponent`.
struct Parts {
    mantissa: u64,
    exponent: i32,
    /// The next smaller float is only half as far away as the next greater.
    lower_is_closer: bool,
}

impl Parts {
    fn new(fraction: u64, biased: u64, fraction_bits: u32, bias: i32) -> Self {
        let normal = biased != 0;
        Self {
            mantissa: fraction | (u64::from(normal) << fraction_bits),
            exponent: biased.max(1) as i32 - bias,
            lower_is_closer: fraction == 0 && biased > 1,
        }
    }

    /// True when the digits lie exactly halfway to the next float. That happens only to large
    /// integers: the midpoints of other floats have more digits than a shortest text.
    fn is_midpoint(&self, scientific: &str) -> bool {
        if self.exponent < 2 {
            return false;
        }
        let Some(value) = integer(scientific) else {
            return false;
        };
        // In quarters of the distance to the next float.
        let quarter = BigInt::from(1) << (self.exponent - 2);
        let here = BigInt::from(self.mantissa) * 4;
        let below = if self.lower_is_closer { 1 } else { 2 };
        value == (&here + 2) * &quarter || value == (here - below) * quarter
    }
}

/// The absolute value of `d.ddde±x`; `None` when it is not an integer.
fn integer(scientific: &str) -> Option<BigInt> {
    let (mantissa, exponent) = scientific.trim_start_matches('-').split_once('e')?;
    let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let zeros = exponent.parse::<i32>().ok()? - rest.len() as i32;
    let digits = BigInt::parse_bytes(format!("{first}{rest}").as_bytes(), 10)?;
    Some(digits * BigInt::from(10).pow(u32::try_from(zeros).ok()?))
}

/// Chooses the text among those that read back, given any shortest one. `rounded` rounds the
/// exact value to so many digits after the first, halves to even.
///
/// PostgreSQL rounds halves to even too, and does not print a midpoint even if it is shortest: it
/// would rely on the reader's rounding (STRICTLY_SHORTEST in src/common/ryu_common.h).
fn shortest(
    parts: &Parts,
    any_shortest: String,
    rounded: impl Fn(usize) -> String,
    reads_back: impl Fn(&str) -> bool,
) -> String {
    let (mantissa, _) = any_shortest.split_once('e').unwrap_or((&any_shortest, ""));
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let fits = |text: &String| reads_back(text) && !parts.is_midpoint(text);
    let nearest = rounded(digits.saturating_sub(1));
    if fits(&nearest) {
        return nearest;
    }
    // Below a power of two floats are closer, so that the nearest text may not read back where
    // one above does.
    if fits(&any_shortest) {
        return any_shortest;
    }
    (digits..=LONGEST)
        .map(rounded)
        .find(fits)
        .unwrap_or(any_shortest)
}

/// Lays `d.ddde±x` out as `%g` does, with at least two digits of exponent.
fn layout(scientific: &str, fixed_digits: i32) -> String {
    let (sign, unsigned) = match scientific.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", scientific),
    };
    let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..fixed_digits).contains(&exponent) {
        let direction = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{mantissa}e{direction}{:02}", exponent.abs());
    }
    let digits = mantissa.replace('.', "");
    if exponent < 0 {
        let zeros = "0".repeat((-exponent - 1) as usize);
        return format!("{sign}0.{zeros}{digits}");
    }
    let integer = exponent as usize + 1;
    if digits.len() <= integer {
        let zeros = "0".repeat(integer - digits.len());
        return format!("{sign}{digits}{zeros}");
    }
    format!("{sign}{}.{}", &digits[..integer], &digits[integer..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Width in bytes, bits in hexadecimal, text; from PostgreSQL 15.
    const FLOATS: &str = include_str!("testdata/float.txt");

    #[test]
    fn prints_as_postgresql() {
        for line in FLOATS.lines() {
            let [width, bits, text] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let printed = match width {
                "4" => float4_text(f32::from_bits(u32::from_str_radix(bits, 16).unwrap())),
                _ => float8_text(f64::from_bits(u64::from_str_radix(bits, 16).unwrap())),
            };
            assert_eq!(printed, text, "{line}");
        }
    }
}
