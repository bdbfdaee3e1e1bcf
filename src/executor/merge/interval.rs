//! PostgreSQL's interval: order, addition, and IntervalStyle `postgres` (the default).
//! Source of the rules: interval_cmp_value() and EncodeInterval().

use std::fmt;

use super::datetime::{MICROS_PER_DAY, micros, number};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    months: i32,
    days: i32,
    micros: i64,
}

impl Interval {
    /// From the binary format; `None` when it is malformed.
    pub fn from_binary(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 16] = bytes.try_into().ok()?;
        let (micros, rest) = bytes.split_first_chunk::<8>()?;
        let (days, months) = rest.split_first_chunk::<4>()?;
        Some(Self {
            micros: i64::from_be_bytes(*micros),
            days: i32::from_be_bytes(*days),
            months: i32::from_be_bytes(months.try_into().ok()?),
        })
    }

    pub fn to_binary(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        bytes.extend(self.micros.to_be_bytes());
        bytes.extend(self.days.to_be_bytes());
        bytes.extend(self.months.to_be_bytes());
        bytes
    }

    /// From text in the style `postgres`, as `1 year 2 mons -3 days +04:05:06.7`; `None` for
    /// other styles.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut months = 0i64;
        let mut days = 0i64;
        let mut micros = 0;
        let mut words = text.split(|b| *b == b' ');
        while let Some(word) = words.next() {
            if word.contains(&b':') {
                micros = signed_clock(word)?;
                // The time is the last part.
                if words.next().is_some() {
                    return None;
                }
                break;
            }
            let count = signed(word)?;
            match words.next()? {
                b"year" | b"years" => months = count.checked_mul(12)?.checked_add(months)?,
                b"mon" | b"mons" => months = count.checked_add(months)?,
                b"day" | b"days" => days = count.checked_add(days)?,
                _ => return None,
            }
        }
        Some(Self {
            months: i32::try_from(months).ok()?,
            days: i32::try_from(days).ok()?,
            micros,
        })
    }

    /// From PostgreSQL 17 on these values are its infinities; before, they are intervals like any other.
    fn may_be_infinite(self) -> bool {
        let ends = [
            (i32::MIN, i32::MIN, i64::MIN),
            (i32::MAX, i32::MAX, i64::MAX),
        ];
        ends.contains(&(self.months, self.days, self.micros))
    }

    /// `None` when a part overflows, or when the sum depends on the server's version.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.may_be_infinite() || other.may_be_infinite() {
            return None;
        }
        Some(Self {
            months: self.months.checked_add(other.months)?,
            days: self.days.checked_add(other.days)?,
            micros: self.micros.checked_add(other.micros)?,
        })
    }

    /// What decides its order: a month counts 30 days and a day 24 hours.
    pub fn order(self) -> i128 {
        let days = i128::from(self.months) * 30 + i128::from(self.days);
        days * i128::from(MICROS_PER_DAY) + i128::from(self.micros)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = false;
        let mut empty = true;
        let parts = [
            (self.months / 12, "year"),
            (self.months % 12, "mon"),
            (self.days, "day"),
        ];
        for (value, unit) in parts.into_iter().filter(|(value, _)| *value != 0) {
            let space = if empty { "" } else { " " };
            // A plus shows that the part does not share the minus before it.
            let plus = if before && value > 0 { "+" } else { "" };
            let plural = if value == 1 { "" } else { "s" };
            write!(f, "{space}{plus}{value} {unit}{plural}")?;
            before = value < 0;
            empty = false;
        }
        if empty || self.micros != 0 {
            let space = if empty { "" } else { " " };
            let sign = match (self.micros < 0, before) {
                (true, _) => "-",
                (false, true) => "+",
                (false, false) => "",
            };
            write!(f, "{space}{sign}")?;
            write_clock(f, self.micros.unsigned_abs())?;
        }
        Ok(())
    }
}

fn write_clock(f: &mut fmt::Formatter<'_>, micros: u64) -> fmt::Result {
    let seconds = micros / 1_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    write!(f, "{hours:02}:{minutes:02}:{:02}", seconds % 60)?;
    match micros % 1_000_000 {
        0 => Ok(()),
        fraction => write!(f, ".{}", format!("{fraction:06}").trim_end_matches('0')),
    }
}

fn split_sign(text: &[u8]) -> (i64, &[u8]) {
    match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    }
}

fn signed(text: &[u8]) -> Option<i64> {
    let (sign, digits) = split_sign(text);
    Some(sign * number(digits)?)
}

/// `[±]HH:MM:SS[.f]` with two or more digits of hours.
fn signed_clock(text: &[u8]) -> Option<i64> {
    let (sign, clock) = split_sign(text);
    let mut parts = clock.split(|b| *b == b':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || hours.len() < 2 || minutes.len() != 2 {
        return None;
    }
    let (seconds, fraction) = match memchr::memchr(b'.', seconds) {
        Some(point) => (&seconds[..point], micros(&seconds[point + 1..])?),
        None => (seconds, 0),
    };
    if seconds.len() != 2 {
        return None;
    }
    let below_hours = number(minutes)? * 60 + number(seconds)?;
    let whole = number(hours)?.checked_mul(3600)?.checked_add(below_hours)?;
    let micros = whole.checked_mul(1_000_000)?.checked_add(fraction)?;
    Some(sign * micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_reads() {
        for text in [
            "00:00:00",
            "1 day",
            "-1 days",
            "1 mon",
            "2 mons",
            "-1 days +00:00:01",
            "1 year 2 mons -3 days +04:05:06.789",
            "-1 years -2 mons +3 days -04:05:06.789",
            "100:00:00.000001",
            "-00:00:00.5",
            "1 day -00:00:01",
        ] {
            let interval = Interval::parse(text.as_bytes()).unwrap();
            assert_eq!(interval.to_string(), text);
            assert_eq!(Interval::from_binary(&interval.to_binary()), Some(interval));
        }
    }

    #[test]
    fn rejects_parts_out_of_range() {
        let most = "999999999999999999";
        for text in [
            format!("{most} years"),
            format!("{most} mons ").repeat(12) + "00:00:00",
            format!("{most} days ").repeat(12) + "00:00:00",
            format!("{most}:00:00"),
            "2562047788015215:99:99".into(),
        ] {
            assert_eq!(Interval::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn addition_keeps_the_parts_apart() {
        let parse = |text: &str| Interval::parse(text.as_bytes()).unwrap();
        let sum = parse("1 mon 20:00:00").checked_add(parse("-31 days +05:00:00"));
        assert_eq!(sum.unwrap().to_string(), "1 mon -31 days +25:00:00");
        let most = Interval {
            months: i32::MAX,
            days: 0,
            micros: 0,
        };
        assert_eq!(most.checked_add(parse("1 mon")), None);
    }

    #[test]
    fn what_may_be_infinite_is_not_added_to() {
        for (months, days, micros) in [
            (i32::MIN, i32::MIN, i64::MIN),
            (i32::MAX, i32::MAX, i64::MAX),
        ] {
            let end = Interval {
                months,
                days,
                micros,
            };
            let sign = if months < 0 { 1 } else { -1 };
            let towards_zero = Interval {
                months: 0,
                days: sign,
                micros: 0,
            };
            assert_eq!(end.checked_add(towards_zero), None);
            assert_eq!(towards_zero.checked_add(end), None);
        }
    }
}
