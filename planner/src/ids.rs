//! Where in a text Ringway writes ids that it has drawn: the calls of `ringway.next_id()`, and the
//! values of columns that get an id by default.
//!
//! The text that comes of it is planned like any other. An id is a constant in it, or a parameter
//! behind the client's, so nothing below has to know of ids.

use std::ops::Range;

use crate::lexer::{self, Kind};
use crate::refusal::Refusal;
use crate::route::Values;

/// A text with gaps for ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    pub(crate) pieces: Vec<Piece>,
    /// How many ids one execution takes, each another.
    pub count: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// As in [`crate::route::TextPiece::Original`]; ascending.
    Original(Range<usize>),
    Added(String),
    Id,
}

impl Ids {
    /// The text of one execution, with these ids in it as constants; there must be as many as
    /// [`Ids::count`].
    pub fn with_constants(&self, values: Values<'_>, ids: &[i64]) -> Vec<u8> {
        self.text(values, |at| {
            ids.get(at).map_or_else(String::new, ToString::to_string)
        })
    }

    /// The text with a parameter for each id, the first of them `$given+1`.
    pub fn with_params(&self, values: Values<'_>, given: usize) -> Vec<u8> {
        self.text(values, |at| format!("${}", given + at + 1))
    }

    /// The text with something of an id's type for each id, for a server that is to tell of its
    /// columns and of the client's parameters.
    pub fn described(&self, values: Values<'_>) -> Vec<u8> {
        self.text(values, |_| "0::int8".to_owned())
    }

    fn text(&self, values: Values<'_>, id: impl Fn(usize) -> String) -> Vec<u8> {
        let mut lifted = values.pieces.iter().peekable();
        let mut grown = 0;
        let mut at_hand = |offset: usize| {
            while let Some(piece) = lifted.next_if(|piece| piece.range.start - grown < offset) {
                grown += piece.range.len() - 1;
            }
            offset + grown
        };
        let mut text = Vec::with_capacity(values.sql.len() + 20 * self.count);
        let mut drawn = 0;
        for piece in &self.pieces {
            match piece {
                Piece::Original(range) => {
                    let range = at_hand(range.start)..at_hand(range.end);
                    text.extend_from_slice(values.sql.get(range).unwrap_or_default());
                }
                Piece::Added(added) => text.extend_from_slice(added.as_bytes()),
                Piece::Id => {
                    text.extend_from_slice(id(drawn).as_bytes());
                    drawn += 1;
                }
            }
        }
        text
    }
}

/// Where ids are needed and nobody draws them: several statements in one text, EXPLAIN, EXECUTE.
pub(crate) fn not_drawn() -> Refusal {
    Refusal::unsupported(
        "ids are not drawn for a statement inside of another one, nor for one of several",
        "Ringway writes them into the statements of a client that are sent by themselves.",
        "Send the statement alone, or fetch ids with SELECT ringway.next_id() and give them as constants.",
    )
    .everywhere()
}

/// The highest `n` of the parameters `$n` in a text, whether a Bind can give it or not; 0 when there is none.
pub fn params_in(sql: &[u8]) -> usize {
    let mut highest = 0;
    let mut at = 0;
    while at < sql.len() {
        let (kind, end) = lexer::next(sql, at);
        if kind == Kind::Param {
            let digits = std::str::from_utf8(&sql[at + 1..end]).unwrap_or_default();
            // Digits that are no number are too many.
            highest = highest.max(digits.parse().unwrap_or(usize::MAX));
        }
        at = end;
    }
    highest
}
