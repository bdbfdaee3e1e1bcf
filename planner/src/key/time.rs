//! `date`, `timestamp` and `timestamptz` written in the one way that no server reads differently:
//! ISO 8601 with the year first, and for `timestamptz` with its offset from UTC. How everything
//! else is read depends on DateStyle and TimeZone.

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
const EPOCH: i64 = 10_957;

pub(crate) const DAY: i64 = 86_400_000_000;

/// `date` as days since 2000-01-01.
pub(super) fn date(text: &[u8]) -> Option<i64> {
    if let Some(infinite) = infinite(text, i32::MIN.into(), i32::MAX.into()) {
        return Some(infinite);
    }
    let (days, rest) = day(text)?;
    rest.is_empty().then_some(days)
}

/// `timestamp` as microseconds since 2000-01-01; a day alone is its midnight.
pub(super) fn timestamp(text: &[u8]) -> Option<i64> {
    if let Some(infinite) = infinite(text, i64::MIN, i64::MAX) {
        return Some(infinite);
    }
    let (days, rest) = day(text)?;
    if rest.is_empty() {
        return Some(days * DAY);
    }
    let (time, rest) = clock(rest)?;
    rest.is_empty().then_some(days * DAY + time)
}

/// `timestamptz` as microseconds since 2000-01-01 in UTC.
pub(super) fn timestamptz(text: &[u8]) -> Option<i64> {
    if let Some(infinite) = infinite(text, i64::MIN, i64::MAX) {
        return Some(infinite);
    }
    let (days, rest) = day(text)?;
    let (time, rest) = clock(rest)?;
    Some(days * DAY + time - offset(rest)?)
}

fn infinite(text: &[u8], least: i64, greatest: i64) -> Option<i64> {
    match text {
        _ if text.eq_ignore_ascii_case(b"infinity") => Some(greatest),
        _ if text.eq_ignore_ascii_case(b"-infinity") => Some(least),
        _ => None,
    }
}

/// `YYYY-MM-DD` as days, and what follows.
fn day(text: &[u8]) -> Option<(i64, &[u8])> {
    let (year, rest) = number(text, 4)?;
    let (month, rest) = number(rest.strip_prefix(b"-")?, 2)?;
    let (day, rest) = number(rest.strip_prefix(b"-")?, 2)?;
    let days = days_in(year, month)?;
    let valid = year > 0 && (1..=days).contains(&day);
    valid.then(|| (days_of(year, month, day), rest))
}

/// Exactly `digits` digits.
fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    let value = number.iter().try_fold(0, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + i64::from(digit - b'0'))
    })?;
    let ends = !rest.first().is_some_and(u8::is_ascii_digit);
    ends.then_some((value, rest))
}

fn days_in(year: i64, month: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

/// Days since 2000-01-01 in the Gregorian calendar, as PostgreSQL counts them for all years.
pub(crate) fn days_of(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that a leap day is the last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let of_year = (153 * month + 2) / 5 + day - 1;
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // From 0000-03-01 to 1970-01-01 there are 719,468 days.
    year * 365 + leaps + of_year - 719_468 - EPOCH
}

/// Days since 2000-01-01 as `YYYY-MM-DD`.
pub(super) fn date_text(days: i64) -> String {
    // The year whose first day is the last not after it, from one that is not too late.
    let longest = if days < 0 { 365 } else { 366 };
    let mut year = 2000 + days.div_euclid(longest);
    while days_of(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 12;
    while days_of(year, month, 1) > days {
        month -= 1;
    }
    let day = days - days_of(year, month, 1) + 1;
    format!("{year:04}-{month:02}-{day:02}")
}

/// Microseconds since 2000-01-01 as `YYYY-MM-DD HH:MM:SS`, with a fraction where there is one.
pub(super) fn timestamp_text(micros: i64) -> String {
    let (days, time) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (seconds, fraction) = (time / 1_000_000, time % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{} {hours:02}:{minutes:02}:{seconds:02}", date_text(days));
    if fraction > 0 {
        text += format!(".{fraction:06}").trim_end_matches('0');
    }
    text
}

/// A space or `T`, then `HH:MM:SS[.ffffff]`, as microseconds, and what follows.
fn clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let text = text
        .strip_prefix(b" ")
        .or_else(|| text.strip_prefix(b"T"))?;
    let (hours, rest) = number(text, 2)?;
    let (minutes, rest) = number(rest.strip_prefix(b":")?, 2)?;
    let (seconds, rest) = number(rest.strip_prefix(b":")?, 2)?;
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let (micros, rest) = match rest.strip_prefix(b".") {
        Some(fraction) => micros(fraction)?,
        None => (0, rest),
    };
    let seconds = (hours * 60 + minutes) * 60 + seconds;
    Some((seconds * 1_000_000 + micros, rest))
}

/// One to six digits of a second; more would be rounded.
fn micros(text: &[u8]) -> Option<(i64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let missing = 6_usize.checked_sub(digits).filter(|_| digits > 0)?;
    let (value, rest) = number(text, digits)?;
    Some((value * 10_i64.pow(missing as u32), rest))
}

/// `Z`, `+HH`, `+HHMM` or `+HH:MM`, after at most one space, as microseconds east of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let (sign, digits) = match text {
        b"Z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match digits.len() {
        2 => (number(digits, 2)?.0, 0),
        4 => {
            let (both, _) = number(digits, 4)?;
            (both / 100, both % 100)
        }
        5 => {
            let (hours, rest) = number(digits, 2)?;
            (hours, number(rest.strip_prefix(b":")?, 2)?.0)
        }
        _ => return None,
    };
    // PostgreSQL takes up to 15:59:59.
    let valid = hours <= 15 && minutes <= 59;
    valid.then_some(sign * (hours * 60 + minutes) * 60_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_is_read() {
        for (text, days) in [
            ("2000-01-01", 0),
            ("1999-12-31", -1),
            ("2000-03-01", 60),
            ("2024-02-29", 8825),
            ("0001-01-01", -730_119),
            ("9999-12-31", 2_921_939),
            ("infinity", 2_147_483_647),
            ("-Infinity", -2_147_483_648),
        ] {
            assert_eq!(date(text.as_bytes()), Some(days), "{text}");
        }
        let hour = 3_600_000_000;
        for text in [
            "2000-01-02 01:00:00Z",
            "2000-01-02T01:00:00+00",
            "2000-01-02 02:30:00.000+01:30",
            "2000-01-01 22:30:00 -0230",
        ] {
            assert_eq!(timestamptz(text.as_bytes()), Some(DAY + hour), "{text}");
        }
        assert_eq!(timestamp(b"2000-01-01 00:00:00.25"), Some(250_000));
        assert_eq!(timestamp(b"1999-12-31"), Some(-DAY));
        assert_eq!(timestamp(b"-infinity"), Some(i64::MIN));
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        for text in [
            "2000-01-01",
            "1999-12-31",
            "2024-02-29",
            "0001-01-01",
            "9999-12-31",
        ] {
            let days = date(text.as_bytes()).expect(text);
            assert_eq!(date_text(days), text);
        }
        for text in [
            "1999-12-31 23:59:59.5",
            "2024-02-29 00:00:00",
            "2026-11-28 12:34:56.000001",
        ] {
            let micros = timestamp(text.as_bytes()).expect(text);
            assert_eq!(timestamp_text(micros), text);
        }
    }

    #[test]
    fn what_servers_could_read_differently_is_not() {
        for text in [
            "01/02/2024",
            "2024-1-2",
            "24-01-02",
            "2023-02-29",
            "2024-13-01",
            "0000-01-01",
            "today",
            "2024-01-02 BC",
            " 2024-01-02",
            "2024-01-02 00:00:00",
            "20240102",
            "",
        ] {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
        for text in [
            "2024-01-02",
            "2024-01-02 00:00:00",
            "2024-01-02 00:00:00 CET",
            "2024-01-02 00:00:00+16",
            "2024-01-02 24:00:00Z",
            "2024-01-02 00:00:60Z",
            "2024-01-02 00:00:00.1234567Z",
            "2024-01-02 00:00Z",
        ] {
            assert_eq!(timestamptz(text.as_bytes()), None, "{text}");
        }
        // PostgreSQL drops the offset, which the writer hardly meant.
        assert_eq!(timestamp(b"2024-01-02 00:00:00+01"), None);
    }
}
