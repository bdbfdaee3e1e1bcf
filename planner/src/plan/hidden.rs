//! What a text calls without its syntax tree showing it: functions behind views, policies, domains,
//! operators and casts that users defined, and calls in places that the tree has no node for.
//!
//! By names alone, and so more careful than need be.

use std::collections::HashSet;

use super::functions::{self, Conduct};
use super::parse::Source;
use super::refuse;
use crate::catalog::Catalog;
use crate::lexer::{Kind, Token};
use crate::plan::{Access, PlanOptions, SessionEffect};
use crate::refusal::Refusal;

/// The first OID that types of users have (`FirstNormalObjectId`).
const FIRST_USER_TYPE: u32 = 16384;

/// What a statement that looks like a read does nevertheless, and why; `None` when it only reads.
pub(super) fn conduct(
    source: &Source<'_>,
    catalog: &Catalog,
    options: PlanOptions<'_>,
) -> Option<(Conduct, &'static str)> {
    let mut called = (0..source.tokens.len())
        .filter(|at| is_call(source, *at))
        .filter_map(|at| functions::misconduct(&source.name(at)?, catalog));
    if let Some(conduct) = called.next() {
        return Some((conduct, "it may call a function that writes"));
    }
    let suspects = &catalog.suspects;
    let checks_param = !suspects.callers.is_empty()
        && options
            .param_types
            .iter()
            .any(|oid| *oid >= FIRST_USER_TYPE);
    if checks_param || calls_by_name(source, catalog) || calls_by_operator(source, catalog) {
        let left = "what it uses may call a function that users defined and that may write";
        let conduct = Conduct::new(Access::Write, SessionEffect::Taint(left));
        return Some((conduct, left));
    }
    let conduct = Conduct::new(Access::Primary, SessionEffect::None);
    if suspects.casts {
        return Some((conduct, "a cast that users defined may write"));
    }
    let is_foreign = |at: usize| names(source, at, |name| suspects.foreign.contains(name));
    let foreign = !suspects.foreign.is_empty() && (0..source.tokens.len()).any(is_foreign);
    foreign.then_some((conduct, "it names a foreign table"))
}

/// Whether a function with this definition, or a domain with these checks, may do more than read. A
/// function that is not volatile cannot write by itself: only what it calls can.
///
/// What stands in strings and comments counts too: there may be SQL in it.
pub fn may_write(text: &str, catalog: &Catalog) -> bool {
    let suspects = &catalog.suspects;
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let is_operator = |c: char| "+-*/<>=~!@#%^&|`?".contains(c);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let of = |is: &dyn Fn(char) -> bool| rest.find(|c| !is(c)).unwrap_or(rest.len());
        if is_word(first) {
            let (written, after) = rest.split_at(of(&is_word));
            let behind = after.strip_prefix('"').unwrap_or(after).trim_start();
            let lower = written.to_lowercase();
            for name in [written, &lower] {
                let calls =
                    behind.starts_with('(') && functions::misconduct(name, catalog).is_some();
                if calls || suspects.callers.contains(name) || suspects.rows.contains(name) {
                    return true;
                }
            }
            rest = after;
        } else if is_operator(first) {
            let (run, after) = rest.split_at(of(&is_operator));
            if suspects
                .operators
                .iter()
                .any(|known| run.contains(known.as_str()))
            {
                return true;
            }
            rest = after;
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    false
}

/// Why a shard cannot answer for itself, whatever the statement shows: a domain or operator whose function may
/// read tables, or a policy that needs rows of other shards.
pub(super) fn refusal(source: &Source<'_>, catalog: &Catalog) -> Option<Refusal> {
    let suspects = &catalog.suspects;
    let (readers, policed) = (&suspects.readers, &suspects.policed);
    if readers.is_empty() && policed.is_empty() {
        return None;
    }
    let named = (0..source.tokens.len()).filter_map(|at| source.name(at));
    let mut said = named.filter_map(|name| match readers.contains(&name) {
        true => Some(refuse::function_reads_tables(&name)),
        false => policed.contains(&name).then(|| refuse::policy(&name)),
    });
    said.next()
        .or_else(|| operator_in(source, readers).map(refuse::function_reads_tables))
}

/// Whether the checks of a domain, or the functions of an aggregate, call what may read tables.
pub fn may_read_tables(text: &str, catalog: &Catalog) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let readers = &catalog.suspects.readers;
    let mut words = text.split(|c| !is_word(c));
    words.any(|word| readers.contains(word) || functions::may_read_tables(word, catalog))
        || readers
            .iter()
            .any(|known| !known.starts_with(is_word) && text.contains(known.as_str()))
}

/// `name(`, or `value.name` where the value is no name.
fn is_call(source: &Source<'_>, at: usize) -> bool {
    let follows = source
        .tokens
        .get(at + 1)
        .is_some_and(|token| token.kind == Kind::Open)
        // A method of sampling is named like a function that makes it.
        && at.checked_sub(1).is_none_or(|before| source.word(before) != "tablesample");
    let text = |back: usize| {
        at.checked_sub(back)
            .map_or("", |at| source.text(&source.tokens[at]))
    };
    follows || (text(1) == "." && (matches!(text(2), ")" | "]") || text(2).starts_with('$')))
}

fn calls_by_name(source: &Source<'_>, catalog: &Catalog) -> bool {
    let suspects = &catalog.suspects;
    if suspects.callers.is_empty() && suspects.rows.is_empty() {
        return false;
    }
    let populates = (0..source.tokens.len()).any(|at| source.word(at).contains("_populate_record"));
    (0..source.tokens.len()).any(|at| {
        names(source, at, |name| suspects.callers.contains(name))
            || (populates || makes_a_row(source, at))
                && names(source, at, |name| suspects.rows.contains(name))
    })
}

/// Is the name at token `at` one that `is_suspect`? One that cannot be read is.
fn names(source: &Source<'_>, at: usize, is_suspect: impl Fn(&str) -> bool) -> bool {
    match source.tokens[at].kind {
        Kind::Word | Kind::QuotedIdentifier => source.name(at).is_none_or(|name| is_suspect(&name)),
        Kind::Space
        | Kind::Comment
        | Kind::Param
        | Kind::Integer
        | Kind::Number
        | Kind::Junk
        | Kind::String
        | Kind::OtherString
        | Kind::Semicolon
        | Kind::Open
        | Kind::Close
        | Kind::Comma
        | Kind::Other => false,
    }
}

/// May the name at token `at` be the type of a cast: `::name`, `AS name`, `schema.name`, `name '…'`?
fn makes_a_row(source: &Source<'_>, at: usize) -> bool {
    let before = at
        .checked_sub(1)
        .map_or("", |at| source.text(&source.tokens[at]));
    let string = source
        .tokens
        .get(at + 1)
        .is_some_and(|token| matches!(token.kind, Kind::String | Kind::OtherString));
    string || matches!(before, ":" | "::" | ".") || before.eq_ignore_ascii_case("as")
}

fn calls_by_operator(source: &Source<'_>, catalog: &Catalog) -> bool {
    let operators = &catalog.suspects.operators;
    !operators.is_empty() && operator_in(source, operators).is_some()
}

/// Operators are told apart by the longest run of their characters, which is not done here.
fn operator_in<'o>(source: &Source<'_>, operators: &'o HashSet<String>) -> Option<&'o str> {
    let touch = |one: &Token, next: &Token| {
        one.kind == next.kind && one.kind == Kind::Other && one.range.end == next.range.start
    };
    let runs = source.tokens.chunk_by(touch);
    let texts = runs.filter_map(|run| {
        let (first, last) = (run.first()?, run.last()?);
        source.sql.get(first.range.start..last.range.end)
    });
    texts.filter(|text| !text.is_empty()).find_map(|text| {
        let mut known = operators.iter();
        known
            .find(|known| text.contains(known.as_str()))
            .map(String::as_str)
    })
}
