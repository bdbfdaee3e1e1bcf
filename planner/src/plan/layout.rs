//! Where the clauses of one SELECT stand in its text, found by its tokens.
//!
//! sqlparser's places are not kept for everything, so rewriting goes by tokens; the tree must
//! agree on the number of items, else the query is not rewritten.

use std::ops::Range;

use super::parse::Source;
use crate::lexer::Kind;

/// Token ranges of a SELECT without WITH and set operations.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) items: Vec<Range<usize>>,
    pub(super) order: Option<List>,
    pub(super) group: Option<List>,
    /// From LIMIT, OFFSET or FETCH, whichever is first, to the end of the last of them.
    pub(super) bounds: Option<Range<usize>>,
    pub(super) limit: Option<Range<usize>>,
    pub(super) offset: Option<Range<usize>>,
}

/// `ORDER BY …` or `GROUP BY …`.
#[derive(Debug)]
pub(super) struct List {
    pub(super) whole: Range<usize>,
    pub(super) items: Vec<Range<usize>>,
}

/// A clause that begins at a reserved word outside parentheses.
struct Clause {
    word: String,
    start: usize,
}

const CLAUSES: [&str; 11] = [
    "from", "where", "group", "having", "window", "order", "limit", "offset", "fetch", "for",
    "union",
];

impl Layout {
    /// `None` when the text is not one SELECT as expected.
    pub(super) fn of(source: &Source<'_>) -> Option<Self> {
        let end = source
            .tokens
            .iter()
            .rposition(|token| token.kind != Kind::Semicolon)?
            + 1;
        if !source.is(0, "select") {
            return None;
        }
        let depths = depths(source, end)?;
        let clauses = clauses(source, &depths, end);
        let body = |name: &str, words: usize| {
            let index = clauses.iter().position(|clause| clause.word == name)?;
            let stop = clauses.get(index + 1).map_or(end, |next| next.start);
            let start = clauses[index].start;
            (start + words <= stop).then_some(start..stop)
        };
        let list = |name: &str| {
            let whole = body(name, 2)?;
            let items = split(source, &depths, whole.start + 2..whole.end);
            Some(List { whole, items })
        };
        let head = 1 + usize::from(source.is(1, "distinct") || source.is(1, "all"));
        let items = head..clauses.first().map_or(end, |clause| clause.start);
        let bounds: Vec<_> = ["limit", "offset", "fetch"]
            .iter()
            .filter_map(|name| body(name, 1))
            .collect();
        Some(Self {
            items: split(source, &depths, items),
            order: list("order"),
            group: list("group"),
            limit: body("limit", 1)
                .map(|range| range.start + 1..range.end)
                .or_else(|| {
                    let fetch = body("fetch", 1)?;
                    // FETCH FIRST n ROWS ONLY
                    Some(fetch.start + 2..fetch.end.checked_sub(2)?)
                }),
            offset: body("offset", 1).map(|range| {
                let rows = source.is(range.end - 1, "row") || source.is(range.end - 1, "rows");
                range.start + 1..range.end - usize::from(rows)
            }),
            bounds: bounds
                .iter()
                .map(|range| range.start)
                .min()
                .zip(bounds.iter().map(|range| range.end).max())
                .map(|(start, end)| start..end),
        })
    }
}

/// How many parentheses and brackets are open before each token; `None` if they do not match.
fn depths(source: &Source<'_>, end: usize) -> Option<Vec<usize>> {
    let mut depth = 0_usize;
    let mut depths = Vec::with_capacity(end);
    for token in &source.tokens[..end] {
        let opens = token.kind == Kind::Open || source.text(token) == "[";
        let closes = token.kind == Kind::Close || source.text(token) == "]";
        if closes {
            depth = depth.checked_sub(1)?;
        }
        depths.push(depth);
        if opens {
            depth += 1;
        }
    }
    (depth == 0).then_some(depths)
}

fn clauses(source: &Source<'_>, depths: &[usize], end: usize) -> Vec<Clause> {
    let mut found = Vec::new();
    for (index, depth) in depths.iter().enumerate().take(end).skip(1) {
        let word = source.word(index);
        if *depth != 0 || !CLAUSES.contains(&word.as_str()) {
            continue;
        }
        let before = &source.tokens[index - 1];
        // `a.order` and `a AS order` are names; `IS DISTINCT FROM` is an operator, and WITHIN GROUP
        // belongs to an aggregate.
        let is_name = source.text(before) == "." || source.is(index - 1, "as");
        let is_inner = word == "from" && source.is(index - 1, "distinct")
            || word == "group" && source.is(index - 1, "within");
        if !is_name && !is_inner {
            found.push(Clause { word, start: index });
        }
    }
    found
}

/// Splits `range` at commas outside parentheses and brackets.
fn split(source: &Source<'_>, depths: &[usize], range: Range<usize>) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    let mut start = range.start;
    for index in range.clone() {
        if depths[index] == 0 && source.tokens[index].kind == Kind::Comma {
            items.push(start..index);
            start = index + 1;
        }
    }
    if start < range.end {
        items.push(start..range.end);
    }
    items
}

/// The conjuncts of WHERE of the SELECT, UPDATE or DELETE that begins at token `begin`, as ranges of tokens: what
/// stands between AND, where nothing outside parentheses binds less tightly than that. `None` when
/// there is no WHERE or an OR stands in it.
pub(super) fn conjuncts(source: &Source<'_>, begin: usize) -> Option<Vec<Range<usize>>> {
    const ENDS: [&str; 12] = [
        "returning",
        "group",
        "having",
        "window",
        "order",
        "limit",
        "offset",
        "fetch",
        "for",
        "union",
        "intersect",
        "except",
    ];
    let mut depth = 0_usize;
    // CASE … END, and BETWEEN whose AND is still to come.
    let (mut cases, mut betweens) = (0_usize, 0_usize);
    let mut start = None;
    let mut found = Vec::new();
    let mut end = source.tokens.len();
    for (index, token) in source.tokens.iter().enumerate().skip(begin) {
        let text = source.text(token);
        if token.kind == Kind::Open || text == "[" {
            depth += 1;
            continue;
        }
        if token.kind == Kind::Close || text == "]" {
            let Some(out) = depth.checked_sub(1) else {
                end = index;
                break;
            };
            depth = out;
            continue;
        }
        if depth > 0 {
            continue;
        }
        if token.kind == Kind::Semicolon {
            end = index;
            break;
        }
        let word = source.word(index);
        let name = index > 0 && source.text(&source.tokens[index - 1]) == ".";
        if word.is_empty() || name || (start.is_none() && source.is(index.wrapping_sub(1), "as")) {
            continue;
        }
        match (word.as_str(), start) {
            ("where", None) => start = Some(index + 1),
            ("case", Some(_)) => cases += 1,
            ("end", Some(_)) => cases = cases.checked_sub(1)?,
            (_, Some(_)) if cases > 0 => {}
            ("between", Some(_)) => betweens += 1,
            ("and", Some(_)) if betweens > 0 => betweens -= 1,
            ("and", Some(from)) => {
                found.push(from..index);
                start = Some(index + 1);
            }
            ("or", Some(_)) => return None,
            (word, _) if ENDS.contains(&word) => {
                end = index;
                break;
            }
            _ => {}
        }
    }
    found.push(start?..end);
    let sound = betweens == 0 && cases == 0 && found.iter().all(|range| !range.is_empty());
    sound.then_some(found)
}
