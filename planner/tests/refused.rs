//! docs/refused.md: every refusal of the planner is there, with a statement that gets it, its own words, and
//! rewrites that are accepted. REWRITE=1 writes the words anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use planner::Refusal;
use planner::plan::{PlanOptions, Target, plan};
use planner::route::{Param, Values, route};
use planner::shape::Shape;

mod support;

const PAGE: &str = "../docs/refused.md";
const HEAD: &str = "| message | for example | why | instead |";

/// Refusals that no SQL text shows: told of a binary parameter and of a hint, or found by no statement, since
/// the queries are gathered or do not come so far.
const NOT_BY_SQL: [&str; 7] = [
    "incorrect binary data format in bind parameter {}",
    "no shard can be told by this key",
    "INSERT of rows whose sharding keys are not known",
    "a write to what is not plainly named is not supported",
    "this ORDER BY or GROUP BY position over several shards is not supported",
    "values of column \"{column}\" over several shards cannot be compared here",
    "what \"{name}\" means in ORDER BY or GROUP BY over several shards is not known",
];

/// What a statement alone gets on three shards; parameter $1 is 1, $2 is 2, and so on.
fn refusal(sql: &str) -> Option<Refusal> {
    let texts: [&[u8]; 9] = [b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9"];
    let params = texts.map(|text| Param {
        value: Some(text),
        binary: false,
        type_oid: 0,
    });
    let planned = plan(sql, &support::catalog(3), PlanOptions::default());
    let mut shape = Shape::default();
    shape.scan(sql.as_bytes());
    let values = Values {
        sql: sql.as_bytes(),
        pieces: &shape.pieces,
        params: &params,
    };
    if let Target::Ids(ids) = &planned.target {
        let drawn: Vec<i64> = (1..).take(ids.count).collect();
        let text = String::from_utf8(ids.with_constants(values, &drawn)).expect("UTF-8");
        return refusal(&text);
    }
    route(&planned, values, &support::topology(3)).err()
}

/// Code that is a statement: it begins with a word in capitals and goes on.
fn statements(cell: &str) -> Vec<&str> {
    let is_statement = |code: &&str| {
        let first = code.split_once(' ').map_or("", |(first, _)| first);
        first.len() > 1 && first.bytes().all(|byte| byte.is_ascii_uppercase())
    };
    let code = cell.split('`').skip(1).step_by(2);
    code.filter(is_statement).collect()
}

/// The refusal's words for a row, and the code if it is not the usual one.
fn words(refusal: &Refusal) -> (String, String) {
    let code = match refusal.code {
        "0A000" => String::new(),
        code => format!(" ({code})"),
    };
    let mut detail = refusal.detail.to_string();
    if detail.is_empty() {
        detail = "as PostgreSQL".to_owned();
    }
    (format!("{}{code}", refusal.message), detail)
}

#[test]
fn the_page_has_every_refusal_and_rewrites_that_are_accepted() {
    let page = fs::read_to_string(PAGE).expect(PAGE);
    let (mut faults, mut told, mut new) = (Vec::new(), BTreeSet::new(), String::new());
    let mut in_table = false;
    for line in page.lines() {
        in_table = line == HEAD || in_table && line.starts_with('|');
        let cells: Vec<&str> = line.trim_matches('|').split(" |").map(str::trim).collect();
        if !in_table || line == HEAD || line.starts_with("|---") {
            new += line;
        } else {
            let [message, examples, why, instead] = cells[..] else {
                panic!("not four cells: {line}");
            };
            let mut row = (message.to_owned(), why.to_owned());
            assert!(!statements(examples).is_empty(), "no example: {line}");
            for sql in statements(examples) {
                match refusal(sql) {
                    None => faults.push(format!("not refused: {sql}")),
                    Some(refusal) => {
                        told.insert(refusal.message.to_string());
                        if sql == statements(examples)[0] {
                            row = words(&refusal);
                        } else if words(&refusal).1 != row.1 && refusal.message != row.0 {
                            let refused = refusal.message;
                            faults.push(format!("refused for another reason: {sql}: {refused}"));
                        }
                    }
                }
            }
            for sql in statements(instead) {
                if let Some(refusal) = refusal(sql) {
                    faults.push(format!("the rewrite is refused: {sql}: {refusal}"));
                }
            }
            new += &format!("| {} | {examples} | {} | {instead} |", row.0, row.1);
        }
        new.push('\n');
    }
    for template in templates() {
        if !told.iter().any(|message| fits(&template, message)) && !NOT_BY_SQL.contains(&&*template)
        {
            faults.push(format!("not on the page: {template}"));
        }
    }
    if std::env::var_os("REWRITE").is_some() {
        fs::write(PAGE, &new).expect(PAGE);
    } else if new != page {
        let differs = new.lines().zip(page.lines()).find(|(a, b)| a != b);
        faults.push(format!("other words, REWRITE=1 writes them: {differs:?}"));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The messages of all refusals in the planner's code, as they are written there.
fn templates() -> BTreeSet<String> {
    let mut templates = BTreeSet::new();
    let mut directories = vec![Path::new("src").to_owned()];
    let mut code = String::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                code += &fs::read_to_string(path).expect("a file");
            }
        }
    }
    let calls = [
        "Refusal::unsupported(",
        "Refusal::as_postgresql(",
        "message: ",
    ];
    for call in calls {
        let calls = code.match_indices(call);
        templates.extend(calls.filter_map(|(at, _)| literal(&code[at + call.len()..])));
    }
    let constants = code.match_indices("pub const UN").filter_map(|(at, _)| {
        let line = code[at..].split_once(';')?.0;
        literal(line.split_once('=')?.1)
    });
    templates.extend(constants.collect::<Vec<_>>());
    templates
}

/// The string literal that `code` begins with, in `format!` or after a SQLSTATE.
fn literal(code: &str) -> Option<String> {
    let code = code.trim_start();
    let code = code.strip_prefix("format!(").unwrap_or(code).trim_start();
    let mut rest = code.strip_prefix('"')?;
    let mut text = String::new();
    loop {
        let at = rest.find(['"', '\\'])?;
        text += &rest[..at];
        if rest[at..].starts_with('"') {
            rest = &rest[at..];
            break;
        }
        let (escaped, after) = rest[at + 1..].split_at(1);
        match escaped {
            "\n" => rest = after.trim_start(),
            _ => {
                text += escaped;
                rest = after;
            }
        }
    }
    let is_sqlstate = text.len() == 5 && !text.contains(' ');
    match is_sqlstate {
        true => literal(rest[1..].strip_prefix(',')?),
        false => Some(text),
    }
}

/// Whether a message is made of a template: its fixed parts in their order.
fn fits(template: &str, message: &str) -> bool {
    let mut parts = template.split(['{', '}']).step_by(2);
    let Some(mut rest) = parts.next().and_then(|first| message.strip_prefix(first)) else {
        return false;
    };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    template.ends_with('}') || rest.is_empty()
}
