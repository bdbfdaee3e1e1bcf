//! Dates and times in PostgreSQL's ISO output style, as numbers that order alike.
//!
//! Other DateStyles are not read: some of them are ambiguous. All of them fail here, since only
//! ISO starts with a year of at least four digits followed by a minus.

const MICROS_PER_SECOND: i64 = 1_000_000;
pub(super) const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// Days from 0000-03-01 to 2000-01-01, PostgreSQL's epoch.
const EPOCH: i64 = 730_425;

/// Days since 2000-01-01; the infinities are the ends of the type, as on the wire.
pub(super) fn date(text: &[u8]) -> Option<i64> {
    match infinity(text) {
        Some(Infinity::Before) => return Some(i64::from(i32::MIN)),
        Some(Infinity::After) => return Some(i64::from(i32::MAX)),
        None => {}
    }
    let (text, bc) = strip_bc(text);
    days(text, bc)
}

/// Microseconds since 2000-01-01 00:00:00.
pub(super) fn timestamp(text: &[u8]) -> Option<i64> {
    if let Some(infinity) = infinity(text) {
        return Some(infinity.micros());
    }
    let (text, bc) = strip_bc(text);
    let (day, clock) = split_once(text, b' ')?;
    at(days(day, bc)?, time(clock)?)
}

/// Microseconds since 2000-01-01 00:00:00 UTC.
pub(super) fn timestamptz(text: &[u8]) -> Option<i64> {
    if let Some(infinity) = infinity(text) {
        return Some(infinity.micros());
    }
    let (text, bc) = strip_bc(text);
    let (day, clock) = split_once(text, b' ')?;
    let (clock, east) = split_zone(clock)?;
    at(days(day, bc)?, time(clock)? - east * MICROS_PER_SECOND)
}

/// Microseconds since midnight: `HH:MM:SS[.ffffff]`.
pub(super) fn time(text: &[u8]) -> Option<i64> {
    let (clock, fraction) = match split_once(text, b'.') {
        Some((clock, fraction)) => (clock, micros(fraction)?),
        None => (text, 0),
    };
    let [h1, h2, b':', m1, m2, b':', s1, s2] = *clock else {
        return None;
    };
    let hours = number(&[h1, h2])?;
    let minutes = number(&[m1, m2])?;
    let seconds = number(&[s1, s2])?;
    (hours <= 24 && minutes < 60 && seconds <= 60)
        .then(|| (hours * 3600 + minutes * 60 + seconds) * MICROS_PER_SECOND + fraction)
}

/// Microseconds since midnight and the zone in seconds east of UTC.
pub(super) fn timetz(text: &[u8]) -> Option<(i64, i64)> {
    let (clock, east) = split_zone(text)?;
    Some((time(clock)?, east))
}

/// Orders as timetz_cmp_internal does: by the instant, then by the zone (seconds west of UTC).
pub(super) fn timetz_order(micros: i64, west: i64) -> i128 {
    /// More than the number of zones.
    const ZONES: i128 = 1 << 33;
    let instant = i128::from(micros) + i128::from(west) * i128::from(MICROS_PER_SECOND);
    instant * ZONES + i128::from(west)
}

/// Up to six digits after the point, as microseconds.
pub(super) fn micros(fraction: &[u8]) -> Option<i64> {
    let missing = 6usize.checked_sub(fraction.len())?;
    Some(number(fraction)? * 10i64.pow(missing as u32))
}

/// ASCII digits only, at least one and few enough not to overflow.
pub(super) fn number(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
}

enum Infinity {
    Before,
    After,
}

impl Infinity {
    fn micros(&self) -> i64 {
        match self {
            Self::Before => i64::MIN,
            Self::After => i64::MAX,
        }
    }
}

fn infinity(text: &[u8]) -> Option<Infinity> {
    match text {
        b"infinity" => Some(Infinity::After),
        b"-infinity" => Some(Infinity::Before),
        _ => None,
    }
}

fn strip_bc(text: &[u8]) -> (&[u8], bool) {
    match text.strip_suffix(b" BC") {
        Some(rest) => (rest, true),
        None => (text, false),
    }
}

/// Cuts `+HH[:MM[:SS]]` off the end; the zone is in seconds east of UTC.
fn split_zone(clock: &[u8]) -> Option<(&[u8], i64)> {
    let sign = clock.iter().position(|b| matches!(b, b'+' | b'-'))?;
    let (time, zone) = clock.split_at(sign);
    let direction = if zone[0] == b'+' { 1 } else { -1 };
    let mut seconds = 0;
    let mut unit = 3600;
    for part in zone[1..].split(|b| *b == b':') {
        if part.len() != 2 || unit == 0 {
            return None;
        }
        seconds += number(part)? * unit;
        unit /= 60;
    }
    Some((time, direction * seconds))
}

/// Days since 2000-01-01 of `YYYY-MM-DD` with four or more digits of year.
fn days(text: &[u8], bc: bool) -> Option<i64> {
    let (year, rest) = split_once(text, b'-')?;
    let (month, day) = split_once(rest, b'-')?;
    if !(4..=7).contains(&year.len()) || month.len() != 2 || day.len() != 2 {
        return None;
    }
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // There is no year 0: 1 BC is the year before 1 AD.
    let year = if bc { 1 - year } else { year };
    Some(days_from_civil(year, month, day) - EPOCH)
}

/// Days since 0000-03-01 in the proleptic Gregorian calendar. A year that starts in March ends
/// with the leap day, so months have fixed lengths.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1
}

fn at(days: i64, micros: i64) -> Option<i64> {
    days.checked_mul(MICROS_PER_DAY)?.checked_add(micros)
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(separator, text)?;
    Some((&text[..at], &text[at + 1..]))
}
