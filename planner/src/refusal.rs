//! What a statement that is not provably right is answered with.

use std::borrow::Cow;
use std::fmt;

/// Primary message of the refusal of a text that could not be read. PostgreSQL may find an error in
/// it, so a session can let a server say so.
pub const UNREADABLE: &str = "this statement could not be read, so its shards are not known";

/// Primary message of the refusal of a write to a table that is in no catalog yet. PostgreSQL says that
/// there is none, or it was made a moment ago: a session can find out.
pub const UNKNOWN_TABLE: &str = "a table that this statement names is not known yet";

/// A statement refused before anything ran: PostgreSQL's error fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// SQLSTATE, `0A000` (feature_not_supported) unless a truer one exists.
    pub code: &'static str,
    /// Primary message: short, lower case, no full stop.
    pub message: Cow<'static, str>,
    /// Why, as a sentence; empty when PostgreSQL itself would give none.
    pub detail: Cow<'static, str>,
    /// A rewrite or setting that works, as a sentence; empty when PostgreSQL itself would give none.
    pub hint: Cow<'static, str>,
    /// Holds on an unsharded database too, where PostgreSQL would do something else in silence.
    pub everywhere: bool,
}

impl Refusal {
    /// A refusal with SQLSTATE 0A000.
    pub fn unsupported(
        message: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
        hint: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code: "0A000",
            message: message.into(),
            detail: detail.into(),
            hint: hint.into(),
            everywhere: false,
        }
    }

    /// The same on an unsharded database.
    #[must_use]
    pub fn everywhere(self) -> Self {
        Self {
            everywhere: true,
            ..self
        }
    }

    /// An error that PostgreSQL itself would give, in its words.
    pub fn as_postgresql(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            detail: "".into(),
            hint: "".into(),
            everywhere: false,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)
    }
}

impl std::error::Error for Refusal {}
