//! A position in the write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A byte position in a server's WAL, printed as PostgreSQL's `pg_lsn` (`16/B374D848`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

/// Sizes that a server was built and initialised with, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalLayout {
    pub block: u64,
    pub segment: u64,
}

/// Header of a WAL page (`SizeOfXLogShortPHD` in `access/xlog_internal.h`), in bytes.
const SHORT_PAGE_HEADER: u64 = 24;
/// Header of a segment's first page (`SizeOfXLogLongPHD`), in bytes.
const LONG_PAGE_HEADER: u64 = 40;

impl Lsn {
    pub const fn new(position: u64) -> Self {
        Self(position)
    }

    /// Bytes of WAL from `earlier` to here; 0 when `earlier` is not earlier.
    pub fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The end of the last record before an insert position.
    ///
    /// When the last record filled its page, `pg_current_wal_insert_lsn()` already stands behind
    /// the next page's header, where no replay position comes before another record is written.
    /// Without this an idle primary would look ahead of its replicas, after every segment switch
    /// for example.
    pub fn without_page_header(self, wal: WalLayout) -> Self {
        let header = if self.0.is_multiple_of(wal.segment) {
            0
        } else if self.0 % wal.segment < wal.block {
            LONG_PAGE_HEADER
        } else {
            SHORT_PAGE_HEADER
        };
        if self.0 % wal.block == header {
            Self(self.0 - header)
        } else {
            self
        }
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 as u32)
    }
}

/// The text is not two hexadecimal numbers of up to 32 bits with a slash between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidLsn;

impl fmt::Display for InvalidLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a WAL position such as 16/B374D848")
    }
}

impl std::error::Error for InvalidLsn {}

impl FromStr for Lsn {
    type Err = InvalidLsn;

    fn from_str(text: &str) -> Result<Self, InvalidLsn> {
        let (high, low) = text.split_once('/').ok_or(InvalidLsn)?;
        Ok(Self((half(high)? << 32) | half(low)?))
    }
}

fn half(digits: &str) -> Result<u64, InvalidLsn> {
    let well_formed =
        (1..=8).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !well_formed {
        return Err(InvalidLsn);
    }
    u64::from_str_radix(digits, 16).map_err(|_| InvalidLsn)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAL: WalLayout = WalLayout {
        block: 8192,
        segment: 16 << 20,
    };

    fn lsn(text: &str) -> Lsn {
        text.parse().expect(text)
    }

    #[test]
    fn prints_what_it_parses() {
        for text in ["0/0", "0/1", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(lsn(text).to_string(), text);
        }
        assert_eq!(lsn("1/0").bytes_since(lsn("0/FFFFFFFF")), 1);
        assert_eq!(lsn("0/1").bytes_since(lsn("0/2")), 0);
    }

    #[test]
    fn refuses_what_is_no_position() {
        for text in [
            "",
            "/",
            "1",
            "1/",
            "/1",
            "+1/2",
            "1/2/3",
            "123456789/0",
            "g/0",
        ] {
            assert_eq!(text.parse::<Lsn>(), Err(InvalidLsn), "{text:?}");
        }
    }

    #[test]
    fn page_headers_do_not_count_as_log() {
        let cases = [
            // Behind the long header of a segment's first page, behind a short one.
            ("0/3000028", "0/3000000"),
            ("0/3002018", "0/3002000"),
            // Records that end near a page's begin.
            ("0/3002028", "0/3002028"),
            ("0/3000018", "0/3000018"),
            ("0/3002020", "0/3002020"),
            ("0/3000000", "0/3000000"),
            ("0/3002000", "0/3002000"),
        ];
        for (at, expected) in cases {
            assert_eq!(
                lsn(at).without_page_header(WAL),
                lsn(expected),
                "insert position {at}"
            );
        }
    }
}
