//! SQL's cursors: DECLARE of a query over several shards, and what FETCH, MOVE and CLOSE say.
//! <https://www.postgresql.org/docs/current/sql-fetch.html>

use std::ops::Range;

use super::parse::Source;
use super::utility::{other, pinned, token_text};
use super::{functions, inner, keys, refuse, unread};
use crate::catalog::Catalog;
use crate::ids::not_drawn;
use crate::lexer::Kind;
use crate::plan::{Access, Many, Pin, Plan, PlanOptions, SessionEffect, Target};

/// A cursor whose query concerns several shards: the query is planned by itself when the cursor is made.
/// Nothing is lifted from the text of a DECLARE (see [`crate::shape::Shape::scan`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declare {
    pub name: String,
    /// Where the name stands in the text.
    pub at: Range<usize>,
    pub query: Range<usize>,
    /// It is to be read backward too, which the rows of one server can be: they are gathered.
    pub scrolls: bool,
    /// In the simple protocol its values are in binary format.
    pub binary: bool,
    pub holds: bool,
    /// Its rows are gathered, whether it scrolls or not.
    pub gathers: bool,
}

/// A statement about a cursor, by the cursor's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CursorStatement {
    Declare(String),
    Fetch {
        name: String,
        /// MOVE: the rows are passed over.
        moves: bool,
        direction: Direction,
    },
    /// `None` is ALL.
    Close(Option<String>),
}

/// Which rows FETCH asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Forward(i64),
    ForwardAll,
    Backward(i64),
    BackwardAll,
    /// FIRST is 1, LAST is -1.
    Absolute(i64),
    Relative(i64),
}

impl CursorStatement {
    /// `None` for what is no statement about a cursor, or none that PostgreSQL's grammar takes.
    pub fn read(sql: &str) -> Option<Self> {
        const VERBS: [&str; 4] = ["declare", "fetch", "move", "close"];
        let first = crate::leading_words(sql, 1);
        let first = first.first()?;
        if !VERBS.iter().any(|verb| first.eq_ignore_ascii_case(verb)) {
            return None;
        }
        let source = Source::new(sql);
        if source.word(0) == "declare" {
            return Some(Self::Declare(source.name(1)?));
        }
        let is_end = |token: &&crate::lexer::Token| token.kind == Kind::Semicolon;
        let ends = source.tokens.iter().rev().take_while(is_end).count();
        let last = source.tokens.len().checked_sub(ends + 1);
        let last = last.filter(|last| *last > 0)?;
        let name = source.name(last)?;
        if source.word(0) == "close" {
            return match last {
                1 if source.is(1, "all") => Some(Self::Close(None)),
                1 => Some(Self::Close(Some(name))),
                _ => None,
            };
        }
        let before = last - usize::from(source.is(last - 1, "from") || source.is(last - 1, "in"));
        Some(Self::Fetch {
            name,
            moves: source.is(0, "move"),
            direction: direction(&source, before.max(1))?,
        })
    }
}

/// What the tokens from the second to before `end` say.
fn direction(source: &Source<'_>, end: usize) -> Option<Direction> {
    let count = |at: usize| signed(source, at, end);
    if end == 1 {
        return Some(Direction::Forward(1));
    }
    let alone = end == 2;
    let all = end == 3 && source.is(2, "all");
    match source.word(1).as_str() {
        "" => count(1).map(Direction::Forward),
        "next" if alone => Some(Direction::Forward(1)),
        "prior" if alone => Some(Direction::Backward(1)),
        "first" if alone => Some(Direction::Absolute(1)),
        "last" if alone => Some(Direction::Absolute(-1)),
        "all" if alone => Some(Direction::ForwardAll),
        "forward" if alone => Some(Direction::Forward(1)),
        "forward" if all => Some(Direction::ForwardAll),
        "forward" => count(2).map(Direction::Forward),
        "backward" if alone => Some(Direction::Backward(1)),
        "backward" if all => Some(Direction::BackwardAll),
        "backward" => count(2).map(Direction::Backward),
        "absolute" => count(2).map(Direction::Absolute),
        "relative" => count(2).map(Direction::Relative),
        _ => None,
    }
}

/// `SignedIconst` of the grammar: the tokens from `at` to before `end`.
fn signed(source: &Source<'_>, at: usize, end: usize) -> Option<i64> {
    let (sign, at) = match token_text(source, at) {
        "-" => (-1, at + 1),
        "+" => (1, at + 1),
        _ => (1, at),
    };
    if at + 1 != end {
        return None;
    }
    let number: i32 = token_text(source, at).parse().ok()?;
    Some(sign * i64::from(number))
}

/// DECLARE: the cursor's query decides where, WITH HOLD that it outlives the transaction.
pub(super) fn declare(source: &Source<'_>, catalog: &Catalog, options: PlanOptions<'_>) -> Plan {
    let query = (1..source.tokens.len())
        .find(|at| source.is(*at, "for"))
        .map(|at| at + 1);
    let before = query.unwrap_or(0);
    let holds = (1..before).any(|at| source.are(at, &["with", "hold"]));
    let scrolls = (1..before).any(|at| source.is(at, "scroll") && !source.is(at - 1, "no"));
    let plan = if holds {
        pinned(Pin::HeldCursor)
    } else {
        let reason = "a cursor lives in its transaction";
        other(Access::Read, SessionEffect::None, reason)
    };
    let first = query.and_then(|at| source.tokens.get(at));
    let last = source
        .tokens
        .iter()
        .rfind(|token| token.kind != Kind::Semicolon);
    let (Some(first), Some(last), Some(name)) = (first, last, source.tokens.get(1)) else {
        return Plan {
            target: unread::target(source, catalog, Access::Primary, refuse::unreadable),
            ..plan
        };
    };
    let query = first.range.start..last.range.end.max(first.range.start);
    let text = &source.sql[query.clone()];
    let gathering = PlanOptions {
        gathers: scrolls,
        ..options
    };
    let planned = inner(text, catalog, gathering);
    let cursor = |many: Many| match many {
        Many::Merge(_) | Many::Gather(_) => match source.name(1) {
            Some(named) => Many::Cursor(Box::new(Declare {
                name: named,
                at: name.range.clone(),
                query: query.clone(),
                scrolls,
                binary: (1..before).any(|at| source.is(at, "binary")),
                holds,
                gathers: matches!(many, Many::Gather(_)),
            })),
            None => Many::Refused(refuse::unreadable()),
        },
        Many::Refused(refusal) => Many::Refused(refusal),
        Many::Lock(_) => Many::Refused(refuse::writes_in_query()),
        Many::SumTags
        | Many::Write(_)
        | Many::Split(_)
        | Many::Insert(_)
        | Many::CopyIn(_)
        | Many::CopyOut(_)
        | Many::CopyQuery(_)
        | Many::SameAnswer
        | Many::Explain(_)
        | Many::Cursor(_) => Many::Refused(refuse::unreadable()),
    };
    let access = functions::worse_access(plan.access, planned.access);
    let effect = functions::worse_effect(plan.effect, planned.effect);
    let target = match planned.target {
        Target::AnyShard => Target::AnyShard,
        Target::OneShard(shard) => Target::OneShard(shard),
        Target::Keys { keys, many } => Target::Keys {
            keys: keys::with_constants(keys, text),
            many: cursor(many),
        },
        Target::AllShards(many) => match cursor(many) {
            Many::Refused(refusal) => Target::Refused(refusal),
            many => Target::AllShards(many),
        },
        Target::Moves(_) => Target::Refused(refuse::unreadable()),
        Target::Ids(_) => Target::Refused(not_drawn()),
        Target::Refused(refusal) => Target::Refused(refusal),
    };
    Plan {
        access,
        effect,
        target,
        ..plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_said_of_a_cursor() {
        use Direction::{Absolute, Backward, BackwardAll, Forward, ForwardAll, Relative};
        let declare = |name: &str| Some(CursorStatement::Declare(name.to_owned()));
        let close = |name: Option<&str>| Some(CursorStatement::Close(name.map(str::to_owned)));
        for (sql, wanted) in [
            ("DECLARE c CURSOR FOR SELECT 1", declare("c")),
            ("declare \"C\"\"d\" CURSOR FOR SELECT 1", declare("C\"d")),
            ("CLOSE c", close(Some("c"))),
            ("close All;;", close(None)),
            ("close \"all\"", close(Some("all"))),
            ("close a b", None),
            ("SELECT c", None),
            ("FETCH", None),
            ("FETCH 1.5 FROM c", None),
            ("FETCH 99999999999 FROM c", None),
            ("FETCH NEXT 2 FROM c", None),
            ("", None),
        ] {
            assert_eq!(CursorStatement::read(sql), wanted, "{sql}");
        }
        for (said, wanted) in [
            ("c", Forward(1)),
            ("FROM c", Forward(1)),
            ("next c", Forward(1)),
            ("NEXT FROM C", Forward(1)),
            ("prior in c", Backward(1)),
            ("first c", Absolute(1)),
            ("LAST FROM c", Absolute(-1)),
            ("5 c", Forward(5)),
            ("- 5 IN c", Forward(-5)),
            ("+5 FROM \"c\" -- x", Forward(5)),
            ("ALL c", ForwardAll),
            ("FORWARD c", Forward(1)),
            ("FORWARD /* y */ 3 FROM c;", Forward(3)),
            ("forward all from c", ForwardAll),
            ("backward c", Backward(1)),
            ("BACKWARD 0 FROM c", Backward(0)),
            ("BACKWARD ALL c", BackwardAll),
            ("ABSOLUTE -2 FROM c", Absolute(-2)),
            ("RELATIVE 2 c", Relative(2)),
        ] {
            for (verb, moves) in [("FETCH", false), ("/* x */ move", true)] {
                let sql = format!("{verb} {said}");
                let wanted = CursorStatement::Fetch {
                    name: "c".to_owned(),
                    moves,
                    direction: wanted,
                };
                assert_eq!(CursorStatement::read(&sql), Some(wanted), "{sql}");
            }
        }
    }
}
