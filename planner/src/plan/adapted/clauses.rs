//! What stands between expressions: tables, targets, and clauses that name no table.

use sqlparser::tokenizer::Token;

use super::{Text, keyword, unnamed};

pub(super) fn adapt(text: &mut Text, at: usize) {
    match text.word(at).as_str() {
        "only" => only(text, at),
        "table" => table(text, at),
        "from" | "join" | "update" | "using" => star(text, at),
        "set" => targets(text, at),
        "insert" => columns(text, at),
        "on" => conflict(text, at),
        "overriding" => overriding(text, at),
        "search" => search(text, at),
        "cycle" => cycle(text, at),
        "rows" => rows_from(text, at),
        "lateral" => lateral(text, at),
        "as" => definitions(text, at),
        "group" => distinct_sets(text, at),
        "cube" | "rollup" => grouping(text, at),
        "sets" if text.word_before(at) == "grouping" => grouping(text, at),
        _ => {}
    }
    if text.is(at, "using") {
        join_alias(text, at);
    }
}

/// `ONLY table`, `ONLY (table)`: a table without those that inherit from it.
fn only(text: &mut Text, at: usize) {
    if matches!(text.word_before(at).as_str(), "row" | "rows") {
        return;
    }
    if text.opens(at + 1) {
        let close = text.closing(at + 1);
        let Some(close) = close.filter(|close| text.behind_name(at + 2) == Some(*close)) else {
            return;
        };
        text.drop(close..close + 1);
        text.drop(at + 1..at + 2);
    } else if text.behind_name(at + 1).is_none() {
        return;
    }
    text.drop(at..at + 1);
    text.gathers = false;
}

/// `TABLE name` is `SELECT * FROM name`. The word is reserved: elsewhere it only stands behind INTO.
fn table(text: &mut Text, at: usize) {
    const CREATED: [&str; 6] = ["into", "temp", "temporary", "unlogged", "local", "global"];
    if CREATED.contains(&text.word_before(at).as_str()) {
        return;
    }
    text.change(at, vec![keyword("SELECT"), Token::Mul, keyword("FROM")]);
    text.gathers = false;
    text.blurs();
}

/// `FROM name *`: a table with those that inherit from it, which is what a name means anyhow. What
/// follows must be no operand.
fn star(text: &mut Text, at: usize) {
    const NEXT: &str = "as cross except fetch for full group having inner intersect join left limit \
        natural offset on order returning right tablesample union using where window";
    let Some(star) = text.behind_name(at + 1) else {
        return;
    };
    let word = text.word(star + 1);
    let ends = match text.token(star + 1) {
        Token::EOF | Token::SemiColon | Token::RParen | Token::Comma => true,
        Token::Word(_) => {
            // LEFT and RIGHT are functions too.
            (NEXT.split_ascii_whitespace().any(|known| known == word) && !text.opens(star + 2))
                || (word == "set" && text.is(at, "update"))
        }
        _ => false,
    };
    if *text.token(star) == Token::Mul && ends {
        text.drop(star..star + 1);
        text.gathers = false;
    }
}

/// `SET a[1] = …`, `SET a.b[1:2] = …`: a part of column a. Every item of the list has to be a target.
fn targets(text: &mut Text, at: usize) {
    const ENDS: [&str; 4] = ["from", "where", "returning", "when"];
    let level = text.level(at + 1);
    let end = level.iter().position(|at| text.is_one_of(*at, &ENDS));
    let list = &level[..end.unwrap_or(level.len())];
    let mut parts = Vec::new();
    for item in list.split(|at| *text.token(*at) == Token::Comma) {
        let Some(first) = item.first() else {
            return;
        };
        if text.opens(*first) {
            continue;
        }
        let Some((subscripts, end)) = target(text, *first) else {
            return;
        };
        if *text.token(end) != Token::Eq {
            return;
        }
        parts.extend(subscripts);
    }
    for part in parts {
        text.drop(part);
    }
}

/// The subscripts of a target, and the token behind it.
fn target(text: &Text, at: usize) -> Option<(Vec<std::ops::Range<usize>>, usize)> {
    let mut end = text.behind_name(at)?;
    let mut subscripts = Vec::new();
    while *text.token(end) == Token::LBracket {
        let close = text.closing(end)?;
        // Without parentheses it neither calls nor asks.
        if (end..close).any(|at| text.opens(at)) {
            return None;
        }
        subscripts.push(end..close + 1);
        end = close + 1;
        // Fields of an element.
        while *text.token(end) == Token::Period && matches!(text.token(end + 1), Token::Word(_)) {
            subscripts.push(end..end + 2);
            end += 2;
        }
    }
    Some((subscripts, end))
}

/// `INSERT INTO name [AS alias] (a[1], b[1:2], …)`.
fn columns(text: &mut Text, at: usize) {
    if !text.is(at + 1, "into") {
        return;
    }
    let Some(mut open) = text.behind_name(at + 2) else {
        return;
    };
    if text.is(open, "as") {
        open += 2;
    }
    let Some(close) = text.closing(open).filter(|_| text.opens(open)) else {
        return;
    };
    let mut parts = Vec::new();
    let mut at = open + 1;
    while at < close {
        let Some((subscripts, end)) = target(text, at) else {
            return;
        };
        if end != close && *text.token(end) != Token::Comma {
            return;
        }
        parts.extend(subscripts);
        at = end + 1;
    }
    for part in parts {
        text.drop(part);
    }
}

/// `ON CONFLICT (column, expression, column COLLATE c opclass) WHERE predicate DO …`: of what tells
/// the index only plain columns are kept. Nothing else of it can be a sharding key; it calls immutable
/// functions only, and asks nothing.
fn conflict(text: &mut Text, at: usize) {
    if !text.is(at + 1, "conflict") || !text.opens(at + 2) {
        return;
    }
    let Some(close) = text.closing(at + 2) else {
        return;
    };
    let behind = text.level(close + 1);
    let Some(ends) = behind.iter().position(|at| text.is(*at, "do")) else {
        return;
    };
    let does = behind[ends];
    let predicate = text.is(close + 1, "where");
    let another = behind[..ends].iter().any(|at| text.is(*at, "conflict"));
    if another
        || !(predicate || does == close + 1)
        || !text.is_one_of(does + 1, &["nothing", "update"])
    {
        return;
    }
    let inside = text.level(at + 3);
    let items = inside.split(|at| *text.token(*at) == Token::Comma);
    let plain =
        |item: &&[usize]| matches!(item, [only] if matches!(text.token(*only), Token::Word(_)));
    let names = items.filter(plain).map(|item| text.token(item[0]).clone());
    let mut names: Vec<Token> = names.flat_map(|name| [name, Token::Comma]).collect();
    names.pop();
    let all = inside.len() == names.len();
    if names.is_empty() {
        names.push(unnamed());
    }
    if !all {
        text.drop(at + 3..close);
        text.change(at + 3, names);
    }
    text.drop(close + 1..does);
}

/// `OVERRIDING SYSTEM VALUE`: the values are those of the statement. With USER they are not, where a
/// column is an identity.
fn overriding(text: &mut Text, at: usize) {
    let begins =
        text.opens(at + 3) || text.is_one_of(at + 3, &["values", "select", "with", "table"]);
    if text.are(at, &["overriding", "system", "value"]) && begins {
        text.drop(at..at + 3);
    }
}

/// `) SEARCH DEPTH FIRST BY a, b SET c` of a WITH.
fn search(text: &mut Text, at: usize) {
    let begins = text.is_one_of(at + 1, &["depth", "breadth"])
        && text.are(at + 2, &["first", "by"])
        && *text.before(at) == Token::RParen;
    let end = names(text, at + 4).filter(|_| begins);
    if let Some(end) = end
        && text.is(end, "set")
        && text.is_name(end + 1)
    {
        text.drop(at..end + 2);
        text.blurs();
    }
}

/// `) CYCLE a, b SET c [TO value DEFAULT value] USING d` of a WITH; the values are constants.
fn cycle(text: &mut Text, at: usize) {
    let behind_search = text
        .changes
        .get(at.wrapping_sub(1))
        .is_some_and(Option::is_some);
    let begins = *text.before(at) == Token::RParen || behind_search;
    let Some(end) = names(text, at + 1).filter(|_| begins) else {
        return;
    };
    if !text.is(end, "set") || !text.is_name(end + 1) {
        return;
    }
    let level = text.level(end + 2);
    let Some(using) = level.iter().find(|at| text.is(**at, "using")).copied() else {
        return;
    };
    let constants =
        using == end + 2 || text.is(end + 2, "to") && (end + 3..using).all(|at| !text.opens(at));
    if constants && text.is_name(using + 1) {
        text.drop(at..using + 2);
        text.blurs();
    }
}

/// The token behind a list of names.
fn names(text: &Text, start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        if !text.is_name(at) {
            return None;
        }
        at += 1;
        if *text.token(at) != Token::Comma {
            return Some(at);
        }
        at += 1;
    }
}

/// `ROWS FROM (f(…), g(…))` as one function of theirs.
fn rows_from(text: &mut Text, at: usize) {
    // Behind a comma it may be a column before `FROM (f(…) JOIN …)`.
    let joins = || text.level(at + 3).iter().any(|at| text.is(*at, "join"));
    let begins = ["from", "join", "lateral"].contains(&text.word_before(at).as_str())
        || (*text.before(at) == Token::Comma && !joins());
    let calls = text
        .behind_name(at + 3)
        .is_some_and(|open| text.opens(open));
    if begins && text.is(at + 1, "from") && text.opens(at + 2) && calls {
        text.drop(at..at + 1);
        text.change(at + 1, vec![keyword("generate_series")]);
    }
}

/// LATERAL XMLTABLE: a function in FROM sees what stands before it anyhow.
fn lateral(text: &mut Text, at: usize) {
    if text.is_one_of(at + 1, &["xmltable", "json_table"]) && text.opens(at + 2) {
        text.drop(at..at + 1);
    }
}

/// `f(…) AS (name type, …)`: the columns of a function without a name of its own.
fn definitions(text: &mut Text, at: usize) {
    const QUERIES: [&str; 8] = [
        "select", "values", "with", "table", "insert", "update", "delete", "merge",
    ];
    let behind_call = *text.before(at) == Token::RParen && text.opens(at + 1);
    let defines = text.is_name(at + 2)
        && !text.is_one_of(at + 2, &QUERIES)
        && matches!(text.token(at + 3), Token::Word(_));
    if let Some(close) = text.closing(at + 1).filter(|_| behind_call && defines) {
        text.drop(at..close + 1);
    }
}

/// `GROUP BY DISTINCT`: of grouping sets that are alike one counts.
fn distinct_sets(text: &mut Text, at: usize) {
    if text.is(at + 1, "by") && text.is(at + 2, "distinct") {
        text.drop(at + 2..at + 3);
        text.blurs();
    }
}

/// `ROLLUP ((a)::text, b)`: to sqlparser what begins with a parenthesis is a list of expressions.
fn grouping(text: &mut Text, at: usize) {
    let Some(close) = text.closing(at + 1).filter(|_| text.opens(at + 1)) else {
        return;
    };
    let level = text.level(at + 2);
    let commas = level
        .iter()
        .copied()
        .filter(|at| *text.token(*at) == Token::Comma);
    let ends: Vec<usize> = commas.chain([close]).collect();
    let mut start = at + 2;
    for end in ends {
        let goes_on = text.opens(start) && text.closing(start).is_some_and(|inner| inner + 1 < end);
        if goes_on {
            text.enclose(start, end - 1);
        }
        start = end + 1;
    }
}

/// Does the name at `at` stand elsewhere before a column only? An outer query's table of that name would
/// be meant otherwise where the name is taken away.
fn names_nothing_else(text: &Text, at: usize) -> bool {
    let folded = |at: usize| match text.token(at) {
        Token::Word(word) => word.value.to_ascii_lowercase(),
        _ => String::new(),
    };
    let name = folded(at);
    let alike = (0..text.tokens.len()).filter(|other| folded(*other) == name);
    alike
        .filter(|other| *text.token(other + 1) != Token::Period)
        .eq([at])
}

/// `JOIN … USING (a, b) AS name`: another name for the columns that are joined.
fn join_alias(text: &mut Text, at: usize) {
    let close = text.closing(at + 1).filter(|_| text.opens(at + 1));
    if let Some(close) = close
        && names(text, at + 2) == Some(close)
        && text.is(close + 1, "as")
        && text.is_name(close + 2)
        && !text.opens(close + 3)
        && names_nothing_else(text, close + 2)
    {
        text.drop(close + 1..close + 3);
        text.blurs();
    }
}
