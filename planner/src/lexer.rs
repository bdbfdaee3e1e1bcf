//! Splits SQL into tokens as PostgreSQL's `scan.l` does, with `standard_conforming_strings` on.
//!
//! Works on bytes, never fails: what is not terminated ends with the text.

use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Space,
    Comment,
    /// A keyword or an identifier without quotes.
    Word,
    /// `"…"` or `U&"…"`.
    QuotedIdentifier,
    /// `$1`
    Param,
    Integer,
    Number,
    /// A number with letters stuck to it: an error or two tokens, depending on the version.
    Junk,
    String,
    OtherString,
    Semicolon,
    Open,
    Close,
    Comma,
    /// One byte of anything else; operators come byte by byte.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub kind: Kind,
    pub range: Range<usize>,
}

/// All tokens of `sql` but spaces and comments.
pub(crate) fn tokens(sql: &str) -> Vec<Token> {
    let sql = sql.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < sql.len() {
        let (kind, end) = next(sql, at);
        if !matches!(kind, Kind::Space | Kind::Comment) {
            found.push(Token {
                kind,
                range: at..end,
            });
        }
        at = end;
    }
    found
}

/// Does the text itself ask when its transaction began? What views and functions ask is not seen.
pub fn tells_transaction_time(sql: &str) -> bool {
    const CALLED: [&str; 3] = ["age", "now", "transaction_timestamp"];
    const WRITTEN: [&str; 5] = [
        "current_date",
        "current_time",
        "current_timestamp",
        "localtime",
        "localtimestamp",
    ];
    /// As dates and timestamps read them.
    const VALUES: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];
    let tokens = tokens(sql);
    tokens.iter().enumerate().any(|(at, token)| {
        let text = sql.get(token.range.clone()).unwrap_or_default();
        let is_one_of = |names: &[&str], text: &str| {
            let mut names = names.iter();
            names.any(|name| text.eq_ignore_ascii_case(name))
        };
        let is_called = tokens
            .get(at + 1)
            .is_some_and(|next| next.kind == Kind::Open);
        match token.kind {
            Kind::Word => is_one_of(&WRITTEN, text) || (is_called && is_one_of(&CALLED, text)),
            Kind::QuotedIdentifier => is_called && is_one_of(&CALLED, text.trim_matches('"')),
            // It may be one by its type, which is not read here.
            Kind::String | Kind::OtherString => {
                let value = text.split_once('\'').map_or(text, |(_, value)| value);
                let value = value.trim_matches(|c: char| !c.is_ascii_alphabetic());
                is_one_of(&VALUES, value)
            }
            Kind::Space
            | Kind::Comment
            | Kind::Param
            | Kind::Integer
            | Kind::Number
            | Kind::Junk
            | Kind::Semicolon
            | Kind::Open
            | Kind::Close
            | Kind::Comma
            | Kind::Other => false,
        }
    })
}

/// Does `$n` stand in the text?
pub fn names_parameter(sql: &[u8]) -> bool {
    // Most texts have no dollar at all.
    let end_of_last = sql
        .iter()
        .rposition(|byte| *byte == b'$')
        .map_or(0, |at| at + 1);
    let mut at = 0;
    while at < end_of_last {
        let (kind, end) = next(sql, at);
        if kind == Kind::Param {
            return true;
        }
        at = end;
    }
    false
}

/// The first `count` tokens of `sql` as they are written, spaces and comments left out.
pub fn leading_words(sql: &str, count: usize) -> Vec<&str> {
    let bytes = sql.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() && found.len() < count {
        let (kind, end) = next(bytes, at);
        if !matches!(kind, Kind::Space | Kind::Comment) {
            found.extend(sql.get(at..end));
        }
        at = end;
    }
    found
}

/// A Bind counts the values that it gives in 16 bits.
const MAX_PARAMS: usize = 65_535;

/// Which parameter the token `$n` is, from 0: `$3` is 2. `None` for one that no Bind can give a value: where a text
/// mentions it, the server says what is wrong.
pub(crate) fn param_index(token: &str) -> Option<usize> {
    let number: usize = token.strip_prefix('$')?.parse().ok()?;
    number.checked_sub(1).filter(|index| *index < MAX_PARAMS)
}

/// The token at `at`, which must be inside `sql`, and where it ends.
#[inline]
pub(crate) fn next(sql: &[u8], at: usize) -> (Kind, usize) {
    match sql[at] {
        byte if is_space(byte) => (Kind::Space, run(sql, at + 1, is_space)),
        byte if starts_word(byte) => word(sql, at),
        b'0'..=b'9' => number(sql, at),
        b'.' if byte(sql, at + 1).is_ascii_digit() => number(sql, at),
        // One token, so that `1..2` is no `.2`.
        b'.' if byte(sql, at + 1) == b'.' => (Kind::Other, at + 2),
        b'\'' => plain_string(sql, at),
        b'"' => (Kind::QuotedIdentifier, quoted(sql, at + 1, b'"')),
        b'$' => dollar(sql, at),
        b'-' if byte(sql, at + 1) == b'-' => (Kind::Comment, run(sql, at + 2, |b| !ends_line(b))),
        b'/' if byte(sql, at + 1) == b'*' => (Kind::Comment, block_comment(sql, at + 2)),
        b';' => (Kind::Semicolon, at + 1),
        b'(' => (Kind::Open, at + 1),
        b')' => (Kind::Close, at + 1),
        b',' => (Kind::Comma, at + 1),
        _ => (Kind::Other, at + 1),
    }
}

/// Where the first token at or after `at` begins that is no space, no operator of one byte, and no word
/// but those that `stops` says and those of one letter, which may belong to a string.
#[inline]
pub(crate) fn skip_plain(sql: &[u8], mut at: usize, stops: impl Fn(&[u8]) -> bool) -> usize {
    while at < sql.len() {
        if starts_word(sql[at]) {
            let end = run(sql, at + 1, continues_word);
            if end == at + 1 || stops(&sql[at..end]) {
                return at;
            }
            at = end;
        } else if is(sql[at], SPACE | ALONE) {
            at += 1;
        } else {
            return at;
        }
    }
    at
}

/// The byte at `at`, or 0 behind the end: PostgreSQL's text never holds a 0.
fn byte(sql: &[u8], at: usize) -> u8 {
    sql.get(at).copied().unwrap_or(0)
}

#[inline]
fn run(sql: &[u8], mut at: usize, keep: impl Fn(u8) -> bool) -> usize {
    while at < sql.len() && keep(sql[at]) {
        at += 1;
    }
    at
}

/// What bytes may be, one bit each: a look at a table costs less than several comparisons.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C) {
            classes[byte] |= SPACE;
        }
        if b.is_ascii_alphabetic() || b == b'_' || b >= 0x80 {
            classes[byte] |= STARTS_WORD | CONTINUES_WORD;
        }
        if b.is_ascii_digit() || b == b'$' {
            classes[byte] |= CONTINUES_WORD;
        }
        if matches!(
            b,
            b',' | b'=' | b'<' | b'>' | b'+' | b'*' | b'%' | b'|' | b'[' | b']' | b':'
        ) {
            classes[byte] |= ALONE;
        }
        byte += 1;
    }
    classes
};
const SPACE: u8 = 1;
const STARTS_WORD: u8 = 2;
const CONTINUES_WORD: u8 = 4;
/// A token of its own whatever follows, that neither opens, closes nor ends anything.
const ALONE: u8 = 8;

fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

pub(crate) fn is_space(byte: u8) -> bool {
    is(byte, SPACE)
}

fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn starts_word(byte: u8) -> bool {
    is(byte, STARTS_WORD)
}

fn continues_word(byte: u8) -> bool {
    is(byte, CONTINUES_WORD)
}

#[inline]
fn word(sql: &[u8], at: usize) -> (Kind, usize) {
    let end = run(sql, at + 1, continues_word);
    match end - at {
        1 => letter(sql, at),
        _ => (Kind::Word, end),
    }
}

/// A word of one letter, which may belong to a string behind it.
fn letter(sql: &[u8], at: usize) -> (Kind, usize) {
    let end = at + 1;
    match (sql[at] | 0x20, byte(sql, end)) {
        (b'e', b'\'') => (
            Kind::OtherString,
            continued(sql, escaped(sql, end + 1), escaped),
        ),
        (b'b' | b'x' | b'n', b'\'') => (
            Kind::OtherString,
            continued(sql, quote(sql, end + 1), quote),
        ),
        (b'u', b'&') => match byte(sql, end + 1) {
            b'\'' => (
                Kind::OtherString,
                continued(sql, quote(sql, end + 2), quote),
            ),
            b'"' => (Kind::QuotedIdentifier, quoted(sql, end + 2, b'"')),
            _ => (Kind::Word, end),
        },
        _ => (Kind::Word, end),
    }
}

fn number(sql: &[u8], at: usize) -> (Kind, usize) {
    let digit = |b: u8| b.is_ascii_digit();
    let mut end = run(sql, at, digit);
    let mut kind = Kind::Integer;
    // `1..2` is an integer before two dots.
    if byte(sql, end) == b'.' && byte(sql, end + 1) != b'.' {
        kind = Kind::Number;
        end = run(sql, end + 1, digit);
    }
    if byte(sql, end) | 0x20 == b'e' {
        let signed = end + 1 + usize::from(matches!(byte(sql, end + 1), b'+' | b'-'));
        if byte(sql, signed).is_ascii_digit() {
            kind = Kind::Number;
            end = run(sql, signed, digit);
        }
    }
    if end < sql.len() && starts_word(sql[end]) {
        return (Kind::Junk, run(sql, end, continues_word));
    }
    (kind, end)
}

fn plain_string(sql: &[u8], at: usize) -> (Kind, usize) {
    let end = quote(sql, at + 1);
    let whole = continued(sql, end, quote);
    (
        if whole == end {
            Kind::String
        } else {
            Kind::OtherString
        },
        whole,
    )
}

/// The end of a string whose opening quote is before `at`.
fn quote(sql: &[u8], at: usize) -> usize {
    quoted(sql, at, b'\'')
}

fn quoted(sql: &[u8], mut at: usize, mark: u8) -> usize {
    while at < sql.len() {
        if sql[at] == mark {
            if byte(sql, at + 1) != mark {
                return at + 1;
            }
            at += 1;
        }
        at += 1;
    }
    sql.len()
}

/// [`quote`] for `E'…'`, where a backslash hides the byte behind it.
fn escaped(sql: &[u8], mut at: usize) -> usize {
    while at < sql.len() {
        match sql[at] {
            b'\\' => at += 1,
            b'\'' if byte(sql, at + 1) == b'\'' => at += 1,
            b'\'' => return at + 1,
            _ => {}
        }
        at += 1;
    }
    sql.len()
}

/// A string goes on in the next quotes when only spaces, line comments and at least one line
/// break stand between.
fn continued(sql: &[u8], mut end: usize, string: impl Fn(&[u8], usize) -> usize) -> usize {
    loop {
        let mut at = end;
        let mut broken = false;
        loop {
            let space = run(sql, at, is_space);
            broken |= sql[at..space].iter().any(|b| ends_line(*b));
            at = space;
            if !(byte(sql, at) == b'-' && byte(sql, at + 1) == b'-') {
                break;
            }
            at = run(sql, at, |b| !ends_line(b));
        }
        if !broken || byte(sql, at) != b'\'' {
            return end;
        }
        end = string(sql, at + 1);
    }
}

fn dollar(sql: &[u8], at: usize) -> (Kind, usize) {
    let digits = run(sql, at + 1, |b| b.is_ascii_digit());
    if digits > at + 1 {
        return (Kind::Param, digits);
    }
    let tag_end = run(sql, at + 1, |b| starts_word(b) || b.is_ascii_digit());
    if byte(sql, tag_end) != b'$' {
        return (Kind::Other, at + 1);
    }
    let tag = &sql[at..=tag_end];
    let body = tag_end + 1;
    let length = sql[body..]
        .windows(tag.len())
        .position(|window| window == tag);
    (
        Kind::OtherString,
        length.map_or(sql.len(), |length| body + length + tag.len()),
    )
}

fn block_comment(sql: &[u8], mut at: usize) -> usize {
    let mut depth = 1;
    while at < sql.len() {
        match (sql[at], byte(sql, at + 1)) {
            (b'/', b'*') => {
                depth += 1;
                at += 1;
            }
            (b'*', b'/') => {
                depth -= 1;
                at += 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    sql.len()
}

/// Finds where statements end: `;` outside parentheses and outside `BEGIN ATOMIC … END`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Boundary {
    parentheses: u32,
    /// How many BEGIN and CASE of a function's body are open.
    atomic: u32,
    head: Head,
}

/// What the first words of a statement told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Head {
    #[default]
    Nothing,
    /// CREATE or CREATE OR REPLACE so far.
    Create,
    /// CREATE FUNCTION or CREATE PROCEDURE: BEGIN may open a body.
    Routine,
    Other,
}

impl Boundary {
    /// Takes the next token; true when it ends a statement.
    #[inline]
    pub(crate) fn ends(&mut self, kind: Kind, text: &[u8]) -> bool {
        match kind {
            Kind::Space | Kind::Comment => {}
            Kind::Open => self.parentheses += 1,
            Kind::Close => self.parentheses = self.parentheses.saturating_sub(1),
            Kind::Word if self.head != Head::Other => self.word(text),
            Kind::Semicolon if self.parentheses == 0 && self.atomic == 0 => {
                *self = Self::default();
                return true;
            }
            Kind::Word
            | Kind::Semicolon
            | Kind::QuotedIdentifier
            | Kind::Param
            | Kind::Integer
            | Kind::Number
            | Kind::Junk
            | Kind::String
            | Kind::OtherString
            | Kind::Comma
            | Kind::Other => {}
        }
        false
    }

    /// Whether words mean something to it now.
    #[inline]
    pub(crate) fn sees_words(&self) -> bool {
        self.head != Head::Other
    }

    fn word(&mut self, text: &[u8]) {
        let is = |word: &str| text.eq_ignore_ascii_case(word.as_bytes());
        self.head = match self.head {
            Head::Nothing if is("create") => Head::Create,
            Head::Create if is("or") || is("replace") => Head::Create,
            Head::Create if is("function") || is("procedure") => Head::Routine,
            Head::Routine => Head::Routine,
            Head::Nothing | Head::Create | Head::Other => Head::Other,
        };
        if self.head == Head::Routine {
            if is("begin") || (self.atomic > 0 && is("case")) {
                self.atomic += 1;
            } else if is("end") {
                self.atomic = self.atomic.saturating_sub(1);
            }
        }
    }
}
