//! Prepared statements of SQL: PREPARE, EXECUTE (also in EXPLAIN and CREATE TABLE AS), DEALLOCATE.
//!
//! `None` for a text that PostgreSQL itself would reject, so that it says why.

use std::ops::Range;

use super::parse::Source;
use crate::lexer::{self, Kind};
use crate::plan::{ExecuteStatement, PrepareStatement, Statement, Within};

/// What PREPARE takes (PreparableStmt in `gram.y`).
const PREPARABLE: [&str; 8] = [
    "select", "insert", "update", "delete", "merge", "values", "with", "table",
];

pub(super) fn prepare(source: &Source<'_>) -> Option<Statement> {
    let name = source.name(1)?;
    let (types, next) = list(source, 2)?;
    let opens = |at: usize| {
        let token = source.tokens.get(at);
        token.is_some_and(|token| token.kind == Kind::Open)
            || PREPARABLE.iter().any(|word| source.is(at, word))
    };
    if !source.is(next, "as") || !opens(next + 1) {
        return None;
    }
    Some(Statement::Prepare(PrepareStatement {
        name,
        types,
        body: source.tokens[next + 1].range.start..end(source),
    }))
}

pub(super) fn execute(source: &Source<'_>) -> Option<Statement> {
    executed(source, 0, Within::Nothing)
}

/// EXECUTE that starts at token `at` and ends with the text.
pub(super) fn executed(source: &Source<'_>, at: usize, within: Within) -> Option<Statement> {
    let name = source.name(at + 1)?;
    let (arguments, next) = list(source, at + 2)?;
    let rest = source.tokens.get(next);
    let ends = match within {
        // WITH [NO] DATA may follow.
        Within::Create { .. } => source.is(next, "with"),
        Within::Nothing | Within::Explain { .. } => false,
    };
    if !ends && rest.is_some_and(|token| token.kind != Kind::Semicolon) {
        return None;
    }
    Some(Statement::Execute(ExecuteStatement {
        name,
        at: source.tokens[at + 1].range.clone(),
        arguments,
        within,
    }))
}

/// `CREATE … TABLE … AS EXECUTE`.
pub(super) fn create_as(source: &Source<'_>, temporary: bool) -> Option<Statement> {
    let at = (2..source.tokens.len()).find(|at| source.are(*at, &["as", "execute"]))?;
    let is_table = (1..4).any(|word| source.is(word, "table"));
    if !is_table {
        return None;
    }
    executed(source, at + 1, Within::Create { temporary })
}

pub(super) fn deallocate(source: &Source<'_>) -> Option<Statement> {
    let at = 1 + usize::from(source.is(1, "prepare") && !source.is_last(1));
    if !source.is_last(at) {
        return None;
    }
    let all = source.is(at, "all");
    let name = source.name(at)?;
    Some(Statement::Deallocate((!all).then_some(name)))
}

/// The items between the parentheses that open at token `at`, and the token behind them; none when
/// no parenthesis opens there.
fn list(source: &Source<'_>, at: usize) -> Option<(Vec<Range<usize>>, usize)> {
    let kind = |at: usize| source.tokens.get(at).map(|token| token.kind);
    if kind(at) != Some(Kind::Open) {
        return Some((Vec::new(), at));
    }
    let mut items = Vec::new();
    let (mut depth, mut first) = (0_usize, at + 1);
    for index in at.. {
        let text = source.text(source.tokens.get(index)?);
        let closes = match (kind(index)?, text) {
            (Kind::Open, _) | (Kind::Other, "[") => {
                depth += 1;
                false
            }
            (Kind::Close, _) | (Kind::Other, "]") => {
                depth = depth.checked_sub(1)?;
                depth == 0
            }
            _ => false,
        };
        if closes || (depth == 1 && kind(index)? == Kind::Comma) {
            if first == index {
                return None;
            }
            let range = |at: usize| source.tokens[at].range.clone();
            items.push(range(first).start..range(index - 1).end);
            first = index + 1;
        }
        if closes {
            return Some((items, index + 1));
        }
    }
    None
}

/// Where the last token that is no semicolon ends.
fn end(source: &Source<'_>) -> usize {
    let mut tokens = source.tokens.iter().rev();
    tokens
        .find(|token| token.kind != Kind::Semicolon)
        .map_or(source.sql.len(), |token| token.range.end)
}

/// An argument of EXECUTE as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constant {
    Null,
    /// A number in its shortest form, or what stands between the quotes.
    Text(String),
    /// Anything else, which has to be computed.
    Other,
}

/// Reads an argument of EXECUTE.
pub fn constant(text: &str) -> Constant {
    let tokens = lexer::tokens(text);
    let written = |token: &lexer::Token| text.get(token.range.clone()).unwrap_or_default();
    let (sign, token) = match tokens.as_slice() {
        [token] => ("", token),
        [sign, token] if written(sign) == "-" && token.kind == Kind::Integer => ("-", token),
        _ => return Constant::Other,
    };
    let value = written(token);
    match token.kind {
        Kind::Integer => match format!("{sign}{value}").parse::<i64>() {
            Ok(number) => Constant::Text(number.to_string()),
            Err(_) => Constant::Other,
        },
        Kind::String => match value.get(1..value.len().saturating_sub(1)) {
            Some(inner) => Constant::Text(inner.replace("''", "'")),
            None => Constant::Other,
        },
        Kind::Word if value.eq_ignore_ascii_case("null") => Constant::Null,
        _ => Constant::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_read_as_postgresql_writes_them() {
        let text = |text: &str| Constant::Text(text.into());
        for (written, expected) in [
            ("42", text("42")),
            ("- 007", text("-7")),
            ("'it''s'", text("it's")),
            ("NULL", Constant::Null),
            ("1.5", Constant::Other),
            ("1 + 1", Constant::Other),
            ("E'a'", Constant::Other),
            ("now()", Constant::Other),
        ] {
            assert_eq!(constant(written), expected, "{written}");
        }
    }

    #[test]
    fn lists_end_at_their_own_parenthesis() {
        let sql = "EXECUTE p (f(1, 2), ARRAY[3, 4], ')')";
        let source = Source::new(sql);
        let Some(Statement::Execute(executed)) = execute(&source) else {
            panic!("{sql}");
        };
        let found: Vec<_> = executed
            .arguments
            .iter()
            .map(|range| &sql[range.clone()])
            .collect();
        assert_eq!(found, ["f(1, 2)", "ARRAY[3, 4]", "')'"]);
        assert_eq!(&sql[executed.at], "p");
    }

    #[test]
    fn what_postgresql_rejects_is_left_to_it() {
        for sql in [
            "PREPARE p",
            "PREPARE p () AS SELECT 1",
            "PREPARE p AS CREATE TABLE t ()",
        ] {
            assert_eq!(prepare(&Source::new(sql)), None, "{sql}");
        }
        for sql in ["EXECUTE", "EXECUTE p (1", "EXECUTE p (1,)", "EXECUTE p 1"] {
            assert_eq!(execute(&Source::new(sql)), None, "{sql}");
        }
    }
}
