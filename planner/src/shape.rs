//! The shape of a statement: its text with literals and comments lifted out.
//!
//! `WHERE id = 17` and `WHERE id = 18` have one shape, so they share one plan.
//! Everything that is not a literal or a comment stays byte for byte, so a place
//! in one text maps to another text of the same shape by the lengths of the
//! lifted pieces before it.

use std::ops::Range;

use crate::lexer::{self, Boundary, Kind};

/// What was lifted out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    /// Digits only.
    Integer,
    /// Any other number.
    Number,
    /// `'…'` with nothing but doubled quotes to undo.
    String,
    /// `E'…'`, `U&'…'`, `B'…'`, `X'…'`, `N'…'`, `$tag$…$tag$` or a string in several parts.
    OtherString,
    Comment,
}

impl PieceKind {
    /// The byte that stands for such a piece in [`Shape::key`].
    fn marker(self) -> u8 {
        match self {
            Self::Integer => 0x01,
            Self::Number => 0x02,
            Self::String => 0x03,
            Self::OtherString => 0x04,
            Self::Comment => 0x05,
        }
    }
}

/// Bytes below this are never copied into a shape that has lifted pieces.
const MARKERS_END: u8 = 0x08;

/// First byte of the key of a text that was left as it is. No other key holds it.
const RAW: u8 = 0x07;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub kind: PieceKind,
    /// Byte range in the statement's text, quotes included.
    pub range: Range<usize>,
}

/// A scanned statement. Reusable: [`Shape::scan`] clears and refills the buffers.
#[derive(Debug, Default, Clone)]
pub struct Shape {
    /// The text with each lifted piece replaced by one marker byte below 0x08 that tells its kind;
    /// or the byte 0x07 and the whole text, when nothing was lifted on purpose (see
    /// [`Shape::scan`]). Different texts have one key only if they differ in lifted pieces only.
    /// This is the plan cache's key.
    pub key: Vec<u8>,
    pub pieces: Vec<Piece>,
    /// More than one non-empty statement, separated by `;`.
    pub multiple: bool,
}

impl Shape {
    /// Scans `sql`, which need not be valid SQL nor valid UTF-8. Numbers in ORDER BY and GROUP BY
    /// lists are not lifted (they are ordinals). A text that selects nextval or setval of a sequence stays
    /// whole, as the sequence's name tells the shard. A text that does not begin with SELECT, INSERT,
    /// UPDATE, DELETE, MERGE, WITH, VALUES or TABLE stays whole, as does one that holds control bytes
    /// below 0x08 outside literals; a later statement of another kind keeps its literals.
    pub fn scan(&mut self, sql: &[u8]) {
        self.key.clear();
        self.pieces.clear();
        self.multiple = false;
        if !self.lift(sql) {
            self.key.clear();
            self.pieces.clear();
            self.key.push(RAW);
            self.key.extend_from_slice(sql);
            self.multiple = holds_several(sql);
        }
    }

    /// Gives back the memory of buffers larger than `kept` bytes.
    pub fn shrink(&mut self, kept: usize) {
        if self.key.capacity() > kept {
            self.key = Vec::new();
        }
        if self.pieces.capacity() * size_of::<Piece>() > kept {
            self.pieces = Vec::new();
        }
    }

    /// Fills key and pieces; false when the text must stay whole.
    fn lift(&mut self, sql: &[u8]) -> bool {
        self.key.reserve(sql.len() + 1);
        let mut boundary = Boundary::default();
        let mut ordinals = Ordinals::default();
        let mut statement = Lifting::Undecided;
        let mut statements = 0;
        let mut is_first = true;
        let mut at = 0;
        // What is neither lifted nor copied yet begins here.
        let mut rest = 0;
        while at < sql.len() {
            // Most of a text: it is not lifted, and nothing that follows depends on it.
            if statement != Lifting::Undecided && !boundary.sees_words() && !ordinals.expects_word()
            {
                at = lexer::skip_plain(sql, at, Ordinals::may_open);
                if at == sql.len() {
                    break;
                }
            }
            let (kind, end) = lexer::next(sql, at);
            let text = &sql[at..end];
            if is_first && !matches!(kind, Kind::Space | Kind::Comment) {
                is_first = false;
                // What costs least is asked first.
                if text[0] | 0x20 == b's'
                    && begins_with_sequence(&sql[end..])
                    && text.eq_ignore_ascii_case(b"select")
                {
                    return false;
                }
            }
            if boundary.ends(kind, text) {
                statement = Lifting::Undecided;
                ordinals = Ordinals::default();
            } else if statement == Lifting::Undecided {
                statement = Lifting::of(kind, text);
                if statement != Lifting::Undecided {
                    statements += 1;
                    self.multiple = statements > 1;
                }
                if statement == Lifting::No && statements == 1 {
                    return false;
                }
            }
            ordinals.see(kind, text);
            let may_lift = |piece| match piece {
                PieceKind::Comment => true,
                PieceKind::Integer | PieceKind::Number => {
                    statement != Lifting::No && !ordinals.active()
                }
                PieceKind::String | PieceKind::OtherString => statement != Lifting::No,
            };
            if let Some(piece) = lifted(kind).filter(|piece| may_lift(*piece)) {
                if !self.copy(&sql[rest..at]) {
                    return false;
                }
                self.key.push(piece.marker());
                self.pieces.push(Piece {
                    kind: piece,
                    range: at..end,
                });
                rest = end;
            } else if kind == Kind::Junk {
                return false;
            }
            at = end;
        }
        self.copy(&sql[rest..])
    }

    /// Copies text into the key; false when it holds what could be taken for a marker.
    fn copy(&mut self, text: &[u8]) -> bool {
        self.key.extend_from_slice(text);
        // Without an early end, so that many bytes are compared at once.
        !text
            .iter()
            .fold(false, |found, byte| found | (*byte < MARKERS_END))
    }
}

/// What follows SELECT: `nextval(…` or `setval(…`, with pg_catalog or without.
fn begins_with_sequence(sql: &[u8]) -> bool {
    const WORDS: [&[u8]; 3] = [b"nextval", b"setval", b"pg_catalog"];
    // Of most words the first letter tells.
    match sql.iter().find(|byte| !lexer::is_space(**byte)) {
        Some(b'n' | b'N' | b's' | b'S' | b'p' | b'P' | b'/' | b'-') => {}
        Some(_) | None => return false,
    }
    let mut at = 0;
    let mut word = || {
        loop {
            if at == sql.len() {
                return None;
            }
            let (kind, end) = lexer::next(sql, at);
            let text = &sql[at..end];
            at = end;
            if !matches!(kind, Kind::Space | Kind::Comment) {
                return Some(text);
            }
        }
    };
    let is = |found: Option<&[u8]>, wanted: &[u8]| {
        found.is_some_and(|text| text.eq_ignore_ascii_case(wanted))
    };
    let called = word();
    if !WORDS.iter().any(|wanted| is(called, wanted)) {
        return false;
    }
    match is(called, b"pg_catalog") {
        true => {
            is(word(), b".") && {
                let called = word();
                is(called, WORDS[0]) || is(called, WORDS[1])
            }
        }
        false => true,
    }
}

fn lifted(kind: Kind) -> Option<PieceKind> {
    match kind {
        Kind::Integer => Some(PieceKind::Integer),
        Kind::Number => Some(PieceKind::Number),
        Kind::String => Some(PieceKind::String),
        Kind::OtherString => Some(PieceKind::OtherString),
        Kind::Comment => Some(PieceKind::Comment),
        Kind::Space
        | Kind::Word
        | Kind::QuotedIdentifier
        | Kind::Param
        | Kind::Junk
        | Kind::Semicolon
        | Kind::Open
        | Kind::Close
        | Kind::Comma
        | Kind::Other => None,
    }
}

/// May the literals of the statement at hand be lifted?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lifting {
    /// Its first word has not come yet.
    Undecided,
    Yes,
    No,
}

impl Lifting {
    /// Decides by the first token; `(` may stand before SELECT.
    fn of(kind: Kind, text: &[u8]) -> Self {
        match kind {
            Kind::Space | Kind::Comment | Kind::Open => Self::Undecided,
            Kind::Word if LIFTABLE.iter().any(|word| text.eq_ignore_ascii_case(word)) => Self::Yes,
            Kind::Word
            | Kind::QuotedIdentifier
            | Kind::Param
            | Kind::Integer
            | Kind::Number
            | Kind::Junk
            | Kind::String
            | Kind::OtherString
            | Kind::Semicolon
            | Kind::Close
            | Kind::Comma
            | Kind::Other => Self::No,
        }
    }
}

const LIFTABLE: [&[u8]; 8] = [
    b"select", b"insert", b"update", b"delete", b"with", b"values", b"table", b"merge",
];

/// Knows whether a token stands in an ORDER BY or GROUP BY list.
#[derive(Debug, Default)]
struct Ordinals {
    depth: u32,
    /// Depth of the outermost such list, when inside one.
    list: Option<u32>,
    /// ORDER or GROUP was the last word.
    opening: bool,
}

impl Ordinals {
    fn active(&self) -> bool {
        self.list.is_some()
    }

    #[inline]
    fn see(&mut self, kind: Kind, text: &[u8]) {
        match kind {
            Kind::Open => self.depth += 1,
            Kind::Close => {
                self.depth = self.depth.saturating_sub(1);
                if self.list.is_some_and(|list| self.depth < list) {
                    self.list = None;
                }
            }
            Kind::Word => self.word(text),
            Kind::Space
            | Kind::Comment
            | Kind::QuotedIdentifier
            | Kind::Param
            | Kind::Integer
            | Kind::Number
            | Kind::Junk
            | Kind::String
            | Kind::OtherString
            | Kind::Semicolon
            | Kind::Comma
            | Kind::Other => {}
        }
    }

    /// Whether any word may mean something to it now.
    fn expects_word(&self) -> bool {
        self.opening || self.list.is_some()
    }

    /// Whether a word may mean something to one that expects none.
    fn may_open(word: &[u8]) -> bool {
        word.len() == b"order".len() && matches!(word[0] | 0x20, b'o' | b'g')
    }

    fn word(&mut self, text: &[u8]) {
        if self.opening {
            self.opening = false;
            if self.list.is_none() && text.eq_ignore_ascii_case(b"by") {
                self.list = Some(self.depth);
                return;
            }
        }
        let opens = text.eq_ignore_ascii_case(b"order") || text.eq_ignore_ascii_case(b"group");
        if self.list == Some(self.depth) && (opens || ends_list(text)) {
            self.list = None;
        }
        self.opening = opens;
    }
}

/// Words that come after an ORDER BY or GROUP BY list on its own level. One that is missing here
/// costs a shared plan, never a right answer.
fn ends_list(word: &[u8]) -> bool {
    const ENDS: [&[u8]; 8] = [
        b"limit",
        b"offset",
        b"fetch",
        b"for",
        b"having",
        b"union",
        b"except",
        b"intersect",
    ];
    ENDS.iter().any(|end| word.eq_ignore_ascii_case(end))
}

/// True when `sql` holds more than one non-empty statement.
fn holds_several(sql: &[u8]) -> bool {
    let mut boundary = Boundary::default();
    let (mut ended, mut begun, mut at) = (false, false, 0);
    while at < sql.len() {
        let (kind, end) = lexer::next(sql, at);
        if boundary.ends(kind, &sql[at..end]) {
            ended |= begun;
        } else if !matches!(kind, Kind::Space | Kind::Comment | Kind::Semicolon) {
            if ended {
                return true;
            }
            begun = true;
        }
        at = end;
    }
    false
}
