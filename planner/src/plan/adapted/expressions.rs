//! Operators, calls with words of their own, and window frames.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, Word};

use super::{Text, keyword};

pub(super) fn adapt(text: &mut Text, at: usize) {
    match text.word(at).as_str() {
        "variadic" => {
            text.drop(at..at + 1);
            text.blurs();
        }
        "collate" => collate(text, at),
        "collation" => collation_for(text, at),
        "between" => between(text, at),
        "is" => document(text, at),
        "isnull" => is_null(text, at),
        "any" | "all" | "some" => quantified(text, at),
        "exclude" => exclude(text, at),
        "preceding" | "following" => frame_bound(text, at),
        "substring" => substring(text, at),
        "trim" => trim(text, at),
        "local" => at_local(text, at),
        "fetch" => fetch(text, at),
        "xmlexists" => xml_exists(text, at),
        "xmlelement" | "xmlpi" => xml_name(text, at),
        "xmlroot" => xml_root(text, at),
        "xmlserialize" => xml_serialize(text, at),
        _ => {}
    }
    match text.token(at) {
        Token::Mul => all_fields(text, at),
        Token::SingleQuotedString(_) => typed(text, at),
        _ => operator(text, at),
    }
}

/// `value COLLATE name` as a cast to a type that is none: it binds as tightly, and nothing is known of
/// how its values compare.
fn collate(text: &mut Text, at: usize) {
    let Some(end) = text.behind_name(at + 1) else {
        return;
    };
    let Token::Word(name) = text.token(end - 1).clone() else {
        return;
    };
    text.drop(at + 1..end);
    let quoted = Word {
        value: name.value,
        quote_style: Some('"'),
        keyword: Keyword::NoKeyword,
    };
    text.change(at, vec![Token::DoubleColon, Token::Word(quoted)]);
    text.blurs();
}

/// `COLLATION FOR (value)`.
fn collation_for(text: &mut Text, at: usize) {
    if text.is(at + 1, "for") && text.opens(at + 2) {
        text.change(at, vec![keyword("pg_collation_for")]);
        text.drop(at + 1..at + 2);
        text.blurs();
    }
}

/// `BETWEEN SYMMETRIC` as NOT BETWEEN, of which nothing follows for a key. The word is reserved.
fn between(text: &mut Text, at: usize) {
    if text.is(at + 1, "asymmetric") {
        text.drop(at + 1..at + 2);
    }
    if !text.is(at + 1, "symmetric") {
        return;
    }
    text.drop(at + 1..at + 2);
    if text.word_before(at) != "not" {
        text.change(at, vec![keyword("NOT"), keyword("BETWEEN")]);
    }
    text.blurs();
}

/// `IS [NOT] DOCUMENT` as IS [NOT] UNKNOWN.
fn document(text: &mut Text, at: usize) {
    let place = at + 1 + usize::from(text.is(at + 1, "not"));
    if text.is(place, "document") {
        text.change(place, vec![keyword("UNKNOWN")]);
        text.blurs();
    }
}

/// `value ISNULL`.
fn is_null(text: &mut Text, at: usize) {
    let is_name = matches!(text.before(at), Token::Period | Token::DoubleColon)
        || text.word_before(at) == "as"
        || text.opens(at + 1);
    if !is_name {
        text.change(at, vec![keyword("IS"), keyword("NULL")]);
    }
}

/// `value operator ANY (…)` with an operator that sqlparser has no such use for, as one of which
/// nothing follows for a key.
fn quantified(text: &mut Text, at: usize) {
    if text.opens(at + 1) && at > 0 && is_operator(text.before(at)) && !compares(text.before(at)) {
        text.change(at - 1, vec![Token::ExclamationMarkDoubleTildeAsterisk]);
        text.blurs();
    }
}

fn compares(token: &Token) -> bool {
    matches!(
        token,
        Token::Eq
            | Token::Neq
            | Token::Lt
            | Token::Gt
            | Token::LtEq
            | Token::GtEq
            | Token::Tilde
            | Token::TildeAsterisk
            | Token::ExclamationMarkTilde
            | Token::ExclamationMarkTildeAsterisk
            | Token::DoubleTilde
            | Token::DoubleTildeAsterisk
            | Token::ExclamationMarkDoubleTilde
            | Token::ExclamationMarkDoubleTildeAsterisk
    )
}

/// Is it written with nothing but characters of PostgreSQL's operators?
fn is_operator(token: &Token) -> bool {
    let written = match token {
        Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_) => return false,
        other => other.to_string(),
    };
    !written.is_empty() && written.chars().all(|c| "+-*/<>=~!@#%^&|`?".contains(c))
}

/// One operator that sqlparser takes for several, or for one that must not stand where it does.
fn operator(text: &mut Text, at: usize) {
    let adjoin = |text: &Text, at: usize| {
        let (one, next) = (text.tokens.get(at), text.tokens.get(at + 1));
        one.zip(next).is_some_and(|(one, next)| {
            one.span.end == next.span.start && is_operator(&one.token) && is_operator(&next.token)
        })
    };
    if !is_operator(text.token(at)) || at.checked_sub(1).is_some_and(|before| adjoin(text, before))
    {
        return;
    }
    let mut end = at + 1;
    while adjoin(text, end - 1) {
        end += 1;
    }
    let written: String = (at..end).map(|at| text.token(at).to_string()).collect();
    let name = operator_name(&written);
    // Signs behind it are operators of their own.
    let signs = written.len() - name.len();
    if signs >= end - at {
        return;
    }
    end -= signs;
    let whole: String = (at..end).map(|at| text.token(at).to_string()).collect();
    let is_sign = matches!(name, "+" | "-" | "@" | "~" | "|/" | "||/" | "*");
    if whole != name || is_sign {
        return;
    }
    let custom = matches!(
        text.token(at),
        Token::CustomBinaryOperator(_) | Token::DoubleEq
    );
    let operand_before = match text.before(at) {
        Token::EOF | Token::LParen | Token::LBracket | Token::Comma | Token::SemiColon => false,
        Token::Word(_) => !text.is_reserved(at - 1) || ends_operand(&text.word_before(at)),
        before => !is_operator(before),
    };
    if operand_before && (custom || end > at + 1) {
        text.drop(at..end);
        text.change(at, vec![Token::CustomBinaryOperator(name.to_owned())]);
        text.blurs();
    } else if !operand_before && (custom || end > at + 1) {
        text.drop(at..end);
        text.change(at, vec![Token::Tilde]);
        text.blurs();
    }
}

fn ends_operand(word: &str) -> bool {
    matches!(word, "end" | "null" | "default" | "isnull" | "notnull")
}

/// How far an operator goes that begins like this (`scan.l`): one that ends with a sign has to hold
/// a character that SQL's own operators do not have.
fn operator_name(written: &str) -> &str {
    if written.contains(|c| "~!@#%^&|`?".contains(c)) {
        return written;
    }
    let mut name = written;
    while name.len() > 1 && name.ends_with(['+', '-']) {
        name = &name[..name.len() - 1];
    }
    name
}

/// `(value).*`: its fields, instead of which the tree has the value. How many columns a query has is
/// then not known, so that none may be told by its place.
fn all_fields(text: &mut Text, at: usize) {
    let by_place = (0..text.tokens.len()).any(|at| text.is_one_of(at, &["insert", "merge"]));
    let of_value = at >= 2
        && *text.token(at - 1) == Token::Period
        && matches!(text.token(at - 2), Token::RParen | Token::RBracket);
    if of_value && !by_place {
        text.drop(at - 1..at + 1);
        text.blurs();
    } else {
        operator(text, at);
    }
}

/// Is a word before a string a type that sqlparser does not take a constant of?
pub(in crate::plan) fn is_type(word: &Word) -> bool {
    const KNOWN: &str = "cidr inet jsonpath macaddr macaddr8 money name oid regclass";
    let name = word.value.as_str();
    let mut known = KNOWN.split_ascii_whitespace();
    match word.keyword {
        Keyword::NoKeyword => word.quote_style.is_some() || !name.eq_ignore_ascii_case("uescape"),
        _ => known.any(|known| name.eq_ignore_ascii_case(known)),
    }
}

/// `inet '…'` and the like as a cast.
fn typed(text: &mut Text, at: usize) {
    let is_name = at < 2
        || matches!(text.token(at - 2), Token::Period | Token::DoubleColon)
        || text.is(at - 2, "as");
    let is_typed = matches!(text.before(at), Token::Word(word) if is_type(word));
    if is_typed && text.is_name(at - 1) && !is_name {
        let string = text.token(at).clone();
        let name = text.token(at - 1).clone();
        text.drop(at - 1..at);
        text.change(at, vec![string, Token::DoubleColon, name]);
    }
}

/// `… EXCLUDE TIES)` of a window's frame.
fn exclude(text: &mut Text, at: usize) {
    let behind = matches!(
        text.word_before(at).as_str(),
        "row" | "preceding" | "following"
    );
    let options: [&[&str]; 4] = [
        &["current", "row"],
        &["group"],
        &["ties"],
        &["no", "others"],
    ];
    let Some(option) = options.iter().find(|words| text.are(at + 1, words)) else {
        return;
    };
    let end = at + 1 + option.len();
    if behind && *text.token(end) == Token::RParen {
        text.drop(at..end);
        text.blurs();
    }
}

/// `RANGE BETWEEN '1 day'::interval PRECEDING …`.
fn frame_bound(text: &mut Text, at: usize) {
    if at < 4 || *text.token(at - 2) != Token::DoubleColon || text.word_before(at) != "interval" {
        return;
    }
    let constant = matches!(
        text.token(at - 3),
        Token::SingleQuotedString(_) | Token::Placeholder(_)
    );
    let begins = text.is_one_of(at - 4, &["between", "and", "range"]);
    let ends = *text.token(at + 1) == Token::RParen || text.is_one_of(at + 1, &["and", "exclude"]);
    if constant && begins && ends {
        text.drop(at - 2..at);
        text.blurs();
    }
}

/// Words between the arguments of a call, as commas.
fn commas(text: &mut Text, at: usize, words: &[&str]) {
    if !text.opens(at + 1) {
        return;
    }
    for inside in text.level(at + 2) {
        if text.is_one_of(inside, words) && !matches!(text.before(inside), Token::Period) {
            text.change(inside, vec![Token::Comma]);
            text.blurs();
        }
    }
}

/// `SUBSTRING(value SIMILAR pattern ESCAPE character)`.
fn substring(text: &mut Text, at: usize) {
    let similar = |at: &usize| text.is(*at, "similar") && !text.is(at + 1, "to");
    if text.level(at + 2).iter().any(similar) {
        commas(text, at, &["similar", "escape"]);
    }
}

/// `TRIM(BOTH FROM value)`.
fn trim(text: &mut Text, at: usize) {
    let sides = text.is_one_of(at + 2, &["both", "leading", "trailing"]);
    let from = at + 2 + usize::from(sides);
    if text.opens(at + 1) && text.is(from, "from") {
        text.drop(from..from + 1);
    }
}

/// `value AT LOCAL` as AT TIME ZONE of something.
fn at_local(text: &mut Text, at: usize) {
    if text.word_before(at) == "at" {
        let zone = Token::NationalStringLiteral(String::new());
        text.change(at, vec![keyword("TIME"), keyword("ZONE"), zone]);
        text.blurs();
    }
}

/// `FETCH FIRST (expression) ROWS`: how many is not told by the tree.
fn fetch(text: &mut Text, at: usize) {
    let open = at + 2;
    let begins = text.is_one_of(at + 1, &["first", "next"]) && text.opens(open);
    let Some(close) = text.closing(open).filter(|_| begins) else {
        return;
    };
    // Without parentheses it neither calls nor asks.
    let plain = (open + 1..close).all(|at| !text.opens(at));
    if plain && text.is_one_of(close + 1, &["row", "rows"]) {
        text.drop(open..close + 1);
        text.change(open, vec![Token::Number("1".into(), false)]);
        text.gathers = false;
        text.blurs();
    }
}

/// `XMLEXISTS(path PASSING BY REF value BY REF)`.
fn xml_exists(text: &mut Text, at: usize) {
    commas(text, at, &["passing"]);
    for inside in text.level(at + 2) {
        if text.is(inside, "by") && text.is_one_of(inside + 1, &["ref", "value"]) {
            text.drop(inside..inside + 2);
        }
    }
}

/// `XMLELEMENT(NAME name, …)`: the name is none of a column.
fn xml_name(text: &mut Text, at: usize) {
    let named = text.opens(at + 1) && text.is(at + 2, "name");
    if named && matches!(text.token(at + 3), Token::Word(_)) {
        let comma = usize::from(*text.token(at + 4) == Token::Comma);
        text.drop(at + 2..at + 4 + comma);
        text.blurs();
    }
}

/// `XMLROOT(value, VERSION value | NO VALUE, STANDALONE YES | NO | NO VALUE)`.
fn xml_root(text: &mut Text, at: usize) {
    if !text.opens(at + 1) {
        return;
    }
    for inside in text.level(at + 2) {
        if *text.before(inside) != Token::Comma {
            continue;
        }
        if text.is(inside, "version") {
            match text.are(inside + 1, &["no", "value"]) {
                true => text.drop(inside - 1..inside + 3),
                false => text.drop(inside..inside + 1),
            }
            text.blurs();
        } else if text.is(inside, "standalone") && text.is_one_of(inside + 1, &["yes", "no"]) {
            let value = usize::from(text.is(inside + 2, "value"));
            text.drop(inside - 1..inside + 2 + value);
            text.blurs();
        }
    }
}

/// `XMLSERIALIZE(CONTENT value AS type)`.
fn xml_serialize(text: &mut Text, at: usize) {
    if !text.opens(at + 1) || !text.is_one_of(at + 2, &["content", "document"]) {
        return;
    }
    let level = text.level(at + 2);
    let last = level.iter().rev().find(|at| text.is(**at, "as")).copied();
    if let (Some(last), Some(close)) = (last, text.closing(at + 1)) {
        text.drop(at + 2..at + 3);
        text.drop(last..close);
        text.blurs();
    }
}
