//! SQL's JSON functions (PostgreSQL 16 and 17), whose arguments are followed by words of their own.

use std::ops::Range;

use sqlparser::tokenizer::Token;

use super::Text;

const FUNCTIONS: [&str; 10] = [
    "json",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_value",
];

/// Clauses without an expression.
const CLAUSES: [&[&str]; 22] = [
    &["absent", "on", "null"],
    &["null", "on", "null"],
    &["with", "unique", "keys"],
    &["with", "unique"],
    &["without", "unique", "keys"],
    &["without", "unique"],
    &["without", "array", "wrapper"],
    &["without", "wrapper"],
    &["with", "conditional", "array", "wrapper"],
    &["with", "conditional", "wrapper"],
    &["with", "unconditional", "array", "wrapper"],
    &["with", "unconditional", "wrapper"],
    &["with", "array", "wrapper"],
    &["with", "wrapper"],
    &["keep", "quotes"],
    &["omit", "quotes"],
    &["on", "scalar", "string"],
    &["on", "error"],
    &["on", "empty"],
    &["format", "json", "encoding", "utf8"],
    &["format", "json"],
    &["empty", "array"],
];

pub(super) fn adapt(text: &mut Text, at: usize) {
    if !text.is_one_of(at, &FUNCTIONS) || !text.opens(at + 1) {
        return;
    }
    let Some(close) = text.closing(at + 1) else {
        return;
    };
    if text.is_one_of(at + 2, &["select", "with", "values"]) {
        // JSON_ARRAY of a query's rows.
        text.change(at + 1, vec![Token::LParen, Token::LParen]);
        text.change(close, vec![Token::RParen, Token::RParen]);
    }
    let level = text.level(at + 2);
    let mut taken = 0;
    for inside in level.iter().copied() {
        if inside >= taken {
            taken = clause(text, inside, close).unwrap_or(taken);
        }
    }
    text.blurs();
}

/// Takes a clause away or makes an argument of its expression; the token behind it.
fn clause(text: &mut Text, at: usize, close: usize) -> Option<usize> {
    // What begins an argument is no clause.
    if matches!(
        text.before(at),
        Token::LParen | Token::Comma | Token::Period
    ) {
        return None;
    }
    if let Some(words) = CLAUSES.iter().find(|words| text.are(at, words)) {
        return Some(taken(text, at..at + words.len()));
    }
    let behaves = text.is(at + 1, "on") && text.is_one_of(at + 2, &["error", "empty"]);
    if behaves && text.is_one_of(at, &["error", "null", "true", "false", "unknown", "empty"]) {
        return Some(taken(text, at..at + 3));
    }
    if text.is(at, "empty") && text.is_one_of(at + 1, &["array", "object"]) {
        return Some(taken(text, at..at + 2));
    }
    if text.is(at, "returning") {
        return returning(text, at, close);
    }
    if text.is_one_of(at, &["value", "passing", "default"]) && at + 1 < close {
        text.change(at, vec![Token::Comma]);
        return Some(at + 1);
    }
    None
}

/// `RETURNING type`: a name of one or two words, and numbers in parentheses.
fn returning(text: &mut Text, at: usize, close: usize) -> Option<usize> {
    let mut end = text.behind_name(at + 1)?;
    if text.is_one_of(end, &["precision", "varying"]) {
        end += 1;
    }
    if text.opens(end) {
        let last = text.closing(end)?;
        let numbers =
            (end + 1..last).all(|at| matches!(text.token(at), Token::Number(..) | Token::Comma));
        if !numbers {
            return None;
        }
        end = last + 1;
    }
    while *text.token(end) == Token::LBracket && *text.token(end + 1) == Token::RBracket {
        end += 2;
    }
    (end <= close).then(|| taken(text, at..end))
}

fn taken(text: &mut Text, tokens: Range<usize>) -> usize {
    let end = tokens.end;
    text.drop(tokens);
    end
}
