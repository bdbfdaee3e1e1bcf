//! `numeric` values as PostgreSQL keeps them: base-10,000 digits without zeros at either end, so
//! that equal values are equal here whatever their scale.

use super::Reading;
use crate::key::Datum;

/// Longer numbers are left to the servers.
const MAX_DIGITS: usize = 1000;

/// A sign is not kept: PostgreSQL's hash leaves it out, and nothing else is asked of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Numeric {
    /// NaN and the infinities, which hash alike.
    Special,
    Finite(Digits),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Digits {
    /// Each below 10,000; the first and the last are not 0. Empty is zero.
    pub(crate) groups: Vec<i16>,
    /// Power of 10,000 that the first group counts.
    pub(crate) weight: i32,
    /// Decimal digits after the point that are needed to write the value.
    pub(crate) scale: i32,
}

/// `numeric_in` of PostgreSQL 15, without what later versions added (`0x`, `_`).
pub(super) fn from_text(text: &[u8]) -> Reading<'static> {
    let trimmed = text.trim_ascii();
    let unsigned = match trimmed {
        [b'-' | b'+', rest @ ..] => rest,
        rest => rest,
    };
    if trimmed.eq_ignore_ascii_case(b"nan") || unsigned.eq_ignore_ascii_case(b"infinity") {
        return Reading::Is(Datum::Numeric(Numeric::Special));
    }
    decimal(unsigned).map_or(Reading::Unclear, finite)
}

/// `digits[.digits][e[sign]digits]`.
fn decimal(text: &[u8]) -> Option<Digits> {
    let at = text.iter().position(|b| matches!(b, b'e' | b'E'));
    let (number, exponent) = match at {
        Some(at) => (&text[..at], exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let point = number.iter().position(|b| *b == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&number[..at], &number[at + 1..]),
        None => (number, &number[number.len()..]),
    };
    let length = whole.len() + fraction.len();
    let digits: Vec<u8> = whole.iter().chain(fraction).copied().collect();
    if length == 0 || length > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(Digits::of(
        &digits,
        i32::try_from(whole.len()).ok()? + exponent,
    ))
}

fn exponent(text: &[u8]) -> Option<i32> {
    const MAX: i32 = 1000;
    let text = std::str::from_utf8(text).ok()?;
    let exponent: i32 = text.parse().ok()?;
    (-MAX..=MAX).contains(&exponent).then_some(exponent)
}

impl Digits {
    /// ASCII decimal digits, of which the first `point` (which may lie outside) are whole.
    fn of(digits: &[u8], point: i32) -> Self {
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        let point = point - zeros as i32;
        let digits = &digits[zeros..];
        let end = digits.iter().rposition(|digit| *digit != b'0');
        let Some(end) = end else {
            return Self::default();
        };
        let digits = &digits[..=end];
        let weight = (point - 1).div_euclid(4);
        // Zeros in front that fill up the first group.
        let fill = ((weight + 1) * 4 - point) as usize;
        let mut groups = Vec::with_capacity(digits.len() / 4 + 2);
        let mut group: i16 = 0;
        for (place, digit) in (fill..).zip(digits) {
            group = group * 10 + i16::from(digit - b'0');
            if place % 4 == 3 {
                groups.push(std::mem::take(&mut group));
            }
        }
        let missing = (4 - (fill + digits.len()) % 4) % 4;
        if missing > 0 {
            groups.push(group * 10_i16.pow(missing as u32));
        }
        Self {
            groups,
            weight,
            scale: (digits.len() as i32 - point).max(0),
        }
    }

    pub(super) fn of_int(value: i64) -> Self {
        let digits = value.unsigned_abs().to_string();
        Self::of(digits.as_bytes(), digits.len() as i32)
    }
}

/// `numeric_recv`; what it would cut off or reject is left to the servers.
pub(super) fn from_binary(value: &[u8]) -> Reading<'static> {
    binary(value).unwrap_or(Reading::Unclear)
}

fn binary(value: &[u8]) -> Option<Reading<'static>> {
    let word = |at: usize| Some(u16::from_be_bytes(value.get(at..at + 2)?.try_into().ok()?));
    let (count, weight, sign, scale) = (word(0)?, word(2)? as i16, word(4)?, word(6)?);
    match sign {
        0x0000 | 0x4000 => {}
        0xC000 | 0xD000 | 0xF000 => return Some(Reading::Is(Datum::Numeric(Numeric::Special))),
        _ => return None,
    }
    if value.len() != 8 + 2 * usize::from(count) || usize::from(count) > MAX_DIGITS {
        return None;
    }
    let mut digits = Vec::with_capacity(4 * usize::from(count));
    for at in 0..usize::from(count) {
        let group = word(8 + 2 * at).filter(|group| *group < 10_000)?;
        digits.extend([group / 1000, group / 100 % 10, group / 10 % 10, group % 10].map(ascii));
    }
    let read = Digits::of(&digits, (i32::from(weight) + 1) * 4);
    (read.scale <= i32::from(scale)).then(|| finite(read))
}

fn ascii(digit: u16) -> u8 {
    b'0' + digit as u8
}

fn finite(digits: Digits) -> Reading<'static> {
    Reading::Is(Datum::Numeric(Numeric::Finite(digits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Digits> {
        match from_text(text.as_bytes()) {
            Reading::Is(Datum::Numeric(Numeric::Finite(digits))) => Some(digits),
            _ => None,
        }
    }

    #[test]
    fn equal_values_are_equal_however_written() {
        for (texts, groups, weight, scale) in [
            (&["0", "-0.000", "0e5", ".0"][..], &[][..], 0, 0),
            (&["1", "1.0", "+1.", "0001", "10e-1", "0.1E+1"], &[1], 0, 0),
            (&["10000", "1e4"], &[1], 1, 0),
            (&["0.0001", "1e-4"], &[1], -1, 4),
            (&["12345.678", "0012345.67800"], &[1, 2345, 6780], 1, 3),
            (&["0.00001"], &[1000], -2, 5),
        ] {
            for text in texts {
                let digits = read(text).unwrap_or_else(|| panic!("{text}"));
                assert_eq!((&*digits.groups, digits.scale), (groups, scale), "{text}");
                assert!(groups.is_empty() || digits.weight == weight, "{text}");
            }
        }
    }

    #[test]
    fn what_is_not_plain_is_unclear() {
        for text in [
            "", ".", "1e", "1e1001", "0x11", "1_0", "1.2.3", "- 1", "1 2", "e5",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn binary_is_text() {
        let send = |weight: i16, sign: u16, scale: u16, groups: &[u16]| {
            let mut bytes = Vec::new();
            for word in [groups.len() as u16, weight as u16, sign, scale] {
                bytes.extend(word.to_be_bytes());
            }
            for group in groups {
                bytes.extend(group.to_be_bytes());
            }
            bytes
        };
        let value = from_binary(&send(1, 0x4000, 3, &[1, 2345, 6780]));
        assert_eq!(value, from_text(b"-12345.678"));
        // Zero groups at both ends do not count.
        let value = from_binary(&send(2, 0, 3, &[0, 1, 2345, 6780, 0]));
        assert_eq!(value, from_text(b"12345.678"));
        assert_eq!(from_binary(&send(0, 0, 0, &[])), from_text(b"0"));
        assert_eq!(from_binary(&send(0, 0xC000, 0, &[])), from_text(b"NaN"));
        for (weight, sign, scale, groups) in [
            // The scale hides a digit, and PostgreSQL cuts it off.
            (0, 0, 2, &[1, 1230][..]),
            (0, 0, 0, &[10_000]),
            (0, 0x1234, 0, &[1]),
        ] {
            assert_eq!(
                from_binary(&send(weight, sign, scale, groups)),
                Reading::Unclear
            );
        }
        assert_eq!(from_binary(&[0, 1, 0, 0, 0, 0, 0, 0]), Reading::Unclear);
    }
}
