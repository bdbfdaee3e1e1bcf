//! What statements have in common that differ in values only, as a text for people.
//!
//! [`crate::shape::Shape`] is what plans are kept by: it stays byte for byte, and statements of some
//! kinds keep their literals. Here no literal is left, whatever the statement: a password in `ALTER
//! ROLE` or a value in `SET` is one too.

use crate::hash;
use crate::lexer::{self, Kind};

/// Longer texts are cut off here; what they are known by is made of all of it.
pub const LONGEST_TEXT: usize = 1024;

/// Stands for a literal.
const LITERAL: &str = "?";
/// Stands for the rest of a list.
const MORE: &str = ", ...";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The same in every process and for every text that differs in values only.
    pub id: u64,
    /// Literals are `?`, lists of nothing but literals or parameters `?, ...`, white space and
    /// comments one space; at most [`LONGEST_TEXT`] bytes, and three dots where it was cut off.
    pub text: String,
}

/// The digest of `sql`, which need not be valid SQL nor valid UTF-8.
pub fn digest(sql: &[u8]) -> Digest {
    let mut writer = Writer::default();
    let mut at = 0;
    while at < sql.len() {
        let (kind, end) = lexer::next(sql, at);
        if !writer.token(kind, &sql[at..end]) {
            break;
        }
        at = end;
    }
    let out = writer.out;
    let id = hash::hash_bytes(&out, 0);
    let mut text = String::from_utf8_lossy(&out).into_owned();
    if text.len() > LONGEST_TEXT {
        let mut end = LONGEST_TEXT - 3;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    Digest { id, text }
}

/// What was written last, as far as a list depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Last {
    #[default]
    Other,
    /// A literal or a parameter; `more` of them may be there already.
    Value { more: bool },
    /// `end`: where the value before it ends.
    Comma { end: usize, more: bool },
}

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    last: Last,
    /// A space is owed if anything follows.
    space: bool,
    /// Where the groups that are open begin, and what was closed before each.
    open: Vec<(usize, Option<Group>)>,
    /// The last group that was closed within the one that is open.
    group: Option<Group>,
}

/// A list in parentheses.
#[derive(Clone, Copy)]
struct Group {
    start: usize,
    end: usize,
    /// Others like it were left out after it, for which there are dots up to here.
    dots: Option<usize>,
    /// Where the comma after it ends, once there is one.
    comma: Option<usize>,
}

impl Writer {
    /// False when the rest cannot be told from a literal.
    fn token(&mut self, kind: Kind, text: &[u8]) -> bool {
        match kind {
            Kind::Space | Kind::Comment => {
                self.space = !self.out.is_empty();
                return true;
            }
            Kind::Junk => {
                self.put(b"...");
                return false;
            }
            Kind::Integer | Kind::Number | Kind::String | Kind::OtherString => {
                self.value(LITERAL.as_bytes());
            }
            Kind::Param => self.value(text),
            Kind::Comma => {
                self.space = false;
                let end = self.out.len();
                self.put(text);
                self.space = true;
                self.last = match self.last {
                    Last::Value { more } => Last::Comma { end, more },
                    Last::Comma { .. } | Last::Other => Last::Other,
                };
                let comma = self.out.len();
                let is_next = |group: &Group| group.dots.unwrap_or(group.end) == end;
                self.group = self.group.filter(is_next);
                if let Some(group) = &mut self.group {
                    group.comma = Some(comma);
                }
            }
            Kind::Open => {
                self.put(text);
                self.last = Last::Other;
                self.open.push((self.out.len() - 1, self.group.take()));
            }
            Kind::Close => {
                self.put(text);
                self.last = Last::Other;
                self.close();
            }
            Kind::Word | Kind::QuotedIdentifier | Kind::Semicolon | Kind::Other => {
                self.put(text);
                self.last = Last::Other;
            }
        }
        true
    }

    fn put(&mut self, text: &[u8]) {
        if std::mem::take(&mut self.space) {
            self.out.push(b' ');
        }
        self.out.extend_from_slice(text);
    }

    fn value(&mut self, text: &[u8]) {
        match self.last {
            Last::Comma { end, more } => {
                self.space = false;
                self.out.truncate(end);
                if !more {
                    self.out.extend_from_slice(MORE.as_bytes());
                }
                self.last = Last::Value { more: true };
            }
            Last::Value { .. } | Last::Other => {
                self.put(text);
                self.last = Last::Value { more: false };
            }
        }
    }

    /// A group was closed: rows like the one before it are not written again.
    fn close(&mut self) {
        let Some((start, before)) = self.open.pop() else {
            return;
        };
        let end = self.out.len();
        let same = |before: &Group| {
            let follows = before.comma.is_some_and(|comma| {
                let between = &self.out[comma..start];
                between.iter().all(|byte| *byte == b' ')
            });
            let (old, new) = (&self.out[before.start..before.end], &self.out[start..end]);
            follows && old == new && new.iter().any(|byte| matches!(byte, b'?' | b'$'))
        };
        self.group = match before.filter(same) {
            Some(before) => {
                self.out.truncate(before.dots.unwrap_or(before.end));
                if before.dots.is_none() {
                    self.out.extend_from_slice(MORE.as_bytes());
                }
                let dots = Some(self.out.len());
                Some(Group {
                    dots,
                    comma: None,
                    ..before
                })
            }
            None => Some(Group {
                start,
                end,
                dots: None,
                comma: None,
            }),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(sql: &str) -> String {
        digest(sql.as_bytes()).text
    }

    #[test]
    fn no_literal_is_left() {
        for (sql, expected) in [
            (
                "SELECT * FROM t WHERE id = 17 AND name = 'o''neill'",
                "SELECT * FROM t WHERE id = ? AND name = ?",
            ),
            (
                "ALTER ROLE app PASSWORD 'secret'",
                "ALTER ROLE app PASSWORD ?",
            ),
            ("SET app.token TO 'secret'", "SET app.token TO ?"),
            ("DO $$ SELECT 'secret' $$", "DO ?"),
            ("SELECT $1, E'se\\'cret', U&'x', 1.5e3", "SELECT $1, ..."),
            ("SELECT 'unterminated secret", "SELECT ?"),
            ("SELECT 1x2secret", "SELECT ..."),
            ("SELECT a.b,t.*", "SELECT a.b, t.*"),
        ] {
            assert_eq!(text(sql), expected);
        }
    }

    #[test]
    fn texts_that_differ_in_values_and_spaces_are_one() {
        for (one, other) in [
            ("SELECT 1", "  SELECT\n\t2 "),
            ("SELECT /* a */ 1", "SELECT  3 -- b"),
            ("x IN (1,2, 3)", "x IN (1, 2)"),
            ("x IN ($1, $2)", "x IN ($1,$2,$3)"),
            (
                "INSERT INTO t VALUES (1, 'a', now()), (2, 'b', now())",
                "INSERT INTO t VALUES (1,'c', now()) , (2, 'b', now()),(3, 'x', now())",
            ),
        ] {
            assert_eq!(digest(one.as_bytes()), digest(other.as_bytes()), "{one}");
        }
        assert_eq!(
            text("INSERT INTO t VALUES (1, now()), (2, now()), (3, now())"),
            "INSERT INTO t VALUES (?, now()), ..."
        );
        assert_eq!(text("x IN (1, 2, 3) AND y"), "x IN (?, ...) AND y");
    }

    #[test]
    fn others_stay_apart() {
        for (one, other) in [
            ("SELECT a", "SELECT b"),
            ("x IN (1)", "x IN (1, 2)"),
            ("(a), (a)", "(a)"),
            ("f(1), g(1)", "f(1)"),
            ("VALUES (1, a), (2, b)", "VALUES (1, a), (2, a)"),
            ("VALUES (f(1), f(2))", "VALUES (f(1)), (f(2))"),
            ("(1) + (1)", "(1)"),
            ("(1), (1) x", "(1), x (1)"),
        ] {
            assert_ne!(digest(one.as_bytes()).id, digest(other.as_bytes()).id);
        }
    }

    #[test]
    fn long_texts_are_cut_and_still_differ() {
        let text = |tail: &str| format!("SELECT {}{tail}", "é, ".repeat(1000));
        let (one, other) = (text("x"), text("y"));
        let (one, other) = (digest(one.as_bytes()), digest(other.as_bytes()));
        assert!(one.text.len() <= LONGEST_TEXT && one.text.ends_with("..."));
        assert_eq!(one.text, other.text);
        assert_ne!(one.id, other.id);
    }
}
