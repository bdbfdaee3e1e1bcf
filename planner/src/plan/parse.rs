//! The text to plan: its pieces, its tokens, and sqlparser's tree of it with places in the text.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Token as ParserToken, TokenWithSpan, Tokenizer, Whitespace};

use super::adapted;
use super::scope::truncated;
use crate::lexer::{self, Boundary, Kind, Token, param_index};
use crate::shape::{Piece, PieceKind, Shape};

/// Operators that may follow each other without parentheses or commas. sqlparser builds one level
/// of its tree for each, and walking or dropping the tree needs stack for each level.
const MAX_CHAIN: usize = 1000;

/// A text with everything that is found without parsing.
pub(super) struct Source<'a> {
    pub(super) sql: &'a str,
    pub(super) pieces: Vec<Piece>,
    /// By piece, how many bytes those before it are longer than the byte that each counts as; at the end, of all.
    lifted: Vec<usize>,
    /// More than one statement, by PostgreSQL's lexical rules.
    pub(super) multiple: bool,
    /// PostgreSQL's tokens, without spaces and comments.
    pub(super) tokens: Vec<Token>,
    /// How often each `$n` stands in the text, by n from 0.
    param_uses: HashMap<usize, usize>,
    /// Names that a WITH of the text may define.
    defined: HashSet<String>,
}

/// sqlparser's reading of a text.
pub(super) struct Parsed {
    pub(super) statements: Vec<ast::Statement>,
    /// Where sqlparser's tokens start: line and column, byte.
    places: Vec<(Location, usize)>,
    /// May a merge go by the tree? Not where it has other words for an expression or a clause.
    pub(super) merges: bool,
    /// May rows be put in place of the names of tables?
    pub(super) gathers: bool,
}

impl<'a> Source<'a> {
    pub(super) fn new(sql: &'a str) -> Self {
        let mut shape = Shape::default();
        shape.scan(sql.as_bytes());
        let tokens = lexer::tokens(sql);
        let mut param_uses = HashMap::new();
        for token in tokens.iter().filter(|token| token.kind == Kind::Param) {
            if let Some(index) = param_index(&sql[token.range.clone()]) {
                *param_uses.entry(index).or_default() += 1;
            }
        }
        let mut lifted = vec![0];
        for piece in &shape.pieces {
            let before = lifted.last().copied().unwrap_or(0);
            lifted.push(before + piece.range.len() - 1);
        }
        let mut source = Self {
            sql,
            pieces: shape.pieces,
            lifted,
            multiple: shape.multiple,
            tokens,
            param_uses,
            defined: HashSet::new(),
        };
        source.defined = source.definitions();
        source
    }

    pub(super) fn text(&self, token: &Token) -> &'a str {
        self.sql.get(token.range.clone()).unwrap_or_default()
    }

    /// True when token `index` is this keyword, in any case and without quotes.
    pub(super) fn is(&self, index: usize, keyword: &str) -> bool {
        self.tokens.get(index).is_some_and(|token| {
            token.kind == Kind::Word && self.text(token).eq_ignore_ascii_case(keyword)
        })
    }

    /// True when the tokens from `index` on are these keywords.
    pub(super) fn are(&self, index: usize, keywords: &[&str]) -> bool {
        keywords
            .iter()
            .enumerate()
            .all(|(n, keyword)| self.is(index + n, keyword))
    }

    /// True when nothing but semicolons follows token `index`.
    pub(super) fn is_last(&self, index: usize) -> bool {
        let mut rest = self.tokens.iter().skip(index + 1);
        rest.all(|token| token.kind == Kind::Semicolon)
    }

    /// True when any token is this keyword.
    pub(super) fn has(&self, keyword: &str) -> bool {
        (0..self.tokens.len()).any(|index| self.is(index, keyword))
    }

    /// True when something is named in the schema of temporary objects, or in one whose name is not
    /// read here.
    pub(super) fn names_temporary(&self) -> bool {
        (0..self.tokens.len()).any(|index| {
            let dotted = self
                .tokens
                .get(index + 1)
                .is_some_and(|token| self.text(token) == ".");
            dotted
                && match self.name(index) {
                    Some(name) => name == "pg_temp" || name.starts_with("pg_temp_"),
                    None => self.tokens[index].kind == Kind::QuotedIdentifier,
                }
        })
    }

    /// Token `index` in lower case, empty when it is no keyword or identifier without quotes.
    pub(super) fn word(&self, index: usize) -> String {
        match self.tokens.get(index) {
            Some(token) if token.kind == Kind::Word => self.text(token).to_ascii_lowercase(),
            Some(_) | None => String::new(),
        }
    }

    /// Token `index` as a name: folded to lower case, or with its quotes undone. `None` for
    /// `U&"…"`, whose escapes are not read here.
    pub(super) fn name(&self, index: usize) -> Option<String> {
        let token = self.tokens.get(index)?;
        match token.kind {
            Kind::Word => Some(truncated(self.text(token).to_ascii_lowercase())),
            Kind::QuotedIdentifier => {
                let inner = self.text(token).strip_prefix('"')?.strip_suffix('"')?;
                Some(truncated(inner.replace("\"\"", "\"")))
            }
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
            | Kind::Other => None,
        }
    }

    /// Could a WITH of the text define `name`? Then it may mean that, and no table.
    pub(super) fn may_define(&self, name: &str) -> bool {
        self.defined.contains(name)
    }

    fn definitions(&self) -> HashSet<String> {
        if !self.has("with") {
            return HashSet::new();
        }
        let opens = |index: usize| self.tokens.get(index).is_some_and(|t| t.kind == Kind::Open);
        let begins = |index: usize| {
            index.checked_sub(1).is_some_and(|before| {
                self.is(before, "with")
                    || self.is(before, "recursive")
                    || self.tokens[before].kind == Kind::Comma
            })
        };
        let body = |index: usize| {
            let after = index + 1;
            self.is(index, "as")
                && (opens(after) || self.is(after, "materialized") || self.is(after, "not"))
        };
        (0..self.tokens.len())
            .filter(|at| begins(*at) && (opens(*at + 1) || body(*at + 1)))
            .filter_map(|at| self.name(at))
            .collect()
    }

    /// Where the single statements stand in the text, without empty ones.
    pub(super) fn statements(&self) -> Vec<Range<usize>> {
        let mut boundary = Boundary::default();
        let mut found = Vec::new();
        let mut start = None;
        for token in &self.tokens {
            if boundary.ends(token.kind, self.text(token).as_bytes()) {
                found.extend(start.take().map(|from| from..token.range.start));
            } else if start.is_none() {
                start = Some(token.range.start);
            }
        }
        found.extend(start.map(|from| from..self.sql.len()));
        found
    }

    /// The lifted piece that starts at byte `offset`.
    pub(super) fn piece_at(&self, offset: usize) -> Option<(usize, PieceKind)> {
        let index = self
            .pieces
            .binary_search_by_key(&offset, |piece| piece.range.start)
            .ok()?;
        Some((index, self.pieces[index].kind))
    }

    /// `offset` when every lifted piece before it counts as one byte.
    pub(super) fn shape_offset(&self, offset: usize) -> usize {
        let before = self
            .pieces
            .partition_point(|piece| piece.range.start < offset);
        offset - self.lifted[before]
    }

    /// As [`Source::shape_offset`], of many ascending offsets.
    pub(super) fn shape_offsets(&self, offsets: &[usize]) -> Vec<usize> {
        let mut pieces = self.pieces.iter().peekable();
        let mut lifted = 0;
        let map = |offset: &usize| {
            while let Some(piece) = pieces.next_if(|piece| piece.range.start < *offset) {
                lifted += piece.range.len() - 1;
            }
            *offset - lifted
        };
        offsets.iter().map(map).collect()
    }

    /// Where the text of some tokens begins and ends, lifted pieces counted as one byte.
    pub(super) fn places(&self, tokens: Range<usize>) -> (usize, usize) {
        let range = |index: usize| self.tokens.get(index).map(|token| token.range.clone());
        let start = range(tokens.start).map_or(self.sql.len(), |range| range.start);
        let end = range(tokens.end.wrapping_sub(1)).map_or(start, |range| range.end);
        (self.shape_offset(start), self.shape_offset(end.max(start)))
    }

    /// The highest number of a parameter, 0 when there is none.
    pub(super) fn params(&self) -> usize {
        let highest = self.param_uses.keys().max();
        highest.map_or(0, |index| index + 1)
    }

    /// How often `$n` stands in the text, `n` from 0.
    pub(super) fn uses_of_param(&self, index: usize) -> usize {
        self.param_uses.get(&index).copied().unwrap_or(0)
    }

    /// sqlparser's tree, if it can read the text and splits it into the tokens that PostgreSQL sees.
    pub(super) fn parse(&self) -> Option<Parsed> {
        if self.longest_chain() > MAX_CHAIN {
            return None;
        }
        let dialect = PostgreSqlDialect {};
        let split = || {
            Tokenizer::new(&dialect, self.sql)
                .tokenize_with_location()
                .ok()
        };
        let read = |tokens| {
            Parser::new(&dialect)
                .with_tokens_with_locations(tokens)
                .parse_statements()
                .ok()
        };
        let tokens = split()?;
        let places = places(self.sql, &tokens);
        if !self.agrees(&tokens, &places) {
            return None;
        }
        if !is_misread(&tokens)
            && let Some(statements) = read(with_known_locks(with_plain_equals(tokens)))
        {
            return Some(Parsed {
                statements,
                places,
                merges: true,
                gathers: true,
            });
        }
        let adapted = adapted::adapted(with_known_locks(with_plain_equals(split()?)));
        Some(Parsed {
            statements: read(adapted.tokens)?,
            places,
            merges: adapted.merges,
            gathers: adapted.gathers,
        })
    }

    /// An upper bound of the operators that stand in one row, over all open parentheses.
    fn longest_chain(&self) -> usize {
        let mut open = vec![0];
        let (mut current, mut longest) = (0_usize, 0);
        for token in &self.tokens {
            match token.kind {
                Kind::Open => open.push(0),
                Kind::Close => {
                    // What stood in parentheses counts once for the row around them.
                    if open.len() > 1 {
                        current -= open.pop().unwrap_or(0);
                    }
                }
                Kind::Comma | Kind::Semicolon => {
                    current -= open.last_mut().map_or(0, std::mem::take);
                }
                Kind::Other | Kind::Word if self.chains(token) => {
                    if let Some(last) = open.last_mut() {
                        *last += 1;
                    }
                    current += 1;
                    longest = longest.max(current);
                }
                Kind::Other
                | Kind::Word
                | Kind::Space
                | Kind::Comment
                | Kind::QuotedIdentifier
                | Kind::Param
                | Kind::Integer
                | Kind::Number
                | Kind::Junk
                | Kind::String
                | Kind::OtherString => {}
            }
        }
        longest
    }

    /// Does sqlparser nest its tree at this word or operator?
    fn chains(&self, token: &Token) -> bool {
        const WORDS: [&str; 11] = [
            "and",
            "at",
            "collate",
            "except",
            "intersect",
            "is",
            "isnull",
            "not",
            "notnull",
            "or",
            "union",
        ];
        let text = self.text(token);
        if token.kind == Kind::Word {
            WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
        } else {
            text != "."
        }
    }

    /// Do both lexers see the same words, names and literals? Where they do not, the tree is of
    /// another statement than the one that PostgreSQL would run.
    fn agrees(&self, tokens: &[TokenWithSpan], places: &[(Location, usize)]) -> bool {
        let ours = self.tokens.iter().filter(|token| is_compared(token.kind));
        let theirs = tokens
            .iter()
            .zip(places)
            .filter(|(token, _)| !is_operator(&token.token));
        ours.map(|token| token.range.start)
            .eq(theirs.map(|(_, (_, offset))| *offset))
    }
}

/// `OPERATOR(pg_catalog.=) ANY`, which pg_dump writes and sqlparser does not know, as `= ANY`.
fn with_plain_equals(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is = |at: &TokenWithSpan, word: &str| {
        matches!(&at.token, ParserToken::Word(found) if found.quote_style.is_none()
            && found.value.eq_ignore_ascii_case(word))
    };
    if !tokens.iter().any(|token| is(token, "operator")) {
        return tokens;
    }
    let words: Vec<usize> = (0..tokens.len())
        .filter(|at| !matches!(tokens[*at].token, ParserToken::Whitespace(_)))
        .collect();
    let mut left_out = Vec::new();
    for found in words.windows(7) {
        let [operator, open, schema, dot, equals, close, any] = found else {
            continue;
        };
        let fits = is(&tokens[*operator], "operator")
            && tokens[*open].token == ParserToken::LParen
            && is(&tokens[*schema], "pg_catalog")
            && tokens[*dot].token == ParserToken::Period
            && tokens[*equals].token == ParserToken::Eq
            && tokens[*close].token == ParserToken::RParen
            && is(&tokens[*any], "any");
        if fits {
            left_out.extend([*operator, *open, *schema, *dot, *close]);
        }
    }
    for at in left_out.into_iter().rev() {
        tokens.remove(at);
    }
    tokens
}

/// Is there what sqlparser takes for something else: `==`, which is an operator of users, for `=`; TABLE, which
/// it shows no relation of; ONLY for a table's name; SYMMETRIC for a
/// function's; the string of a constant with its type for an alias?
fn is_misread(tokens: &[TokenWithSpan]) -> bool {
    let tokens = tokens.iter().map(|token| &token.token);
    let mut before = &ParserToken::EOF;
    for token in tokens.filter(|token| !matches!(token, ParserToken::Whitespace(_))) {
        let misread = match token {
            ParserToken::DoubleEq => true,
            ParserToken::Word(word) => match word.keyword {
                Keyword::TABLE => true,
                Keyword::ONLY => !matches!(before, ParserToken::Word(word)
                    if matches!(word.keyword, Keyword::ROW | Keyword::ROWS)),
                _ => word.quote_style.is_none() && word.value.eq_ignore_ascii_case("symmetric"),
            },
            ParserToken::SingleQuotedString(_) => {
                matches!(before, ParserToken::Word(word) if adapted::is_type(word))
            }
            _ => false,
        };
        if misread {
            return true;
        }
        before = token;
    }
    false
}

/// FOR NO KEY UPDATE and FOR KEY SHARE, which sqlparser does not know, as the stronger locks that
/// it does: for a plan all locks are alike, and the servers get the client's text.
fn with_known_locks(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is = |at: Option<&TokenWithSpan>, word: Keyword| {
        at.is_some_and(|at| matches!(&at.token, ParserToken::Word(found) if found.keyword == word))
    };
    if !tokens.iter().any(|token| is(Some(token), Keyword::FOR)) {
        return tokens;
    }
    let words: Vec<usize> = (0..tokens.len())
        .filter(|at| !matches!(tokens[*at].token, ParserToken::Whitespace(_)))
        .collect();
    let mut left_out = Vec::new();
    for (place, first) in words.iter().enumerate() {
        let next = |n: usize| words.get(place + n).map(|at| &tokens[*at]);
        if !is(Some(&tokens[*first]), Keyword::FOR) {
            continue;
        }
        if is(next(1), Keyword::NO) && is(next(2), Keyword::KEY) && is(next(3), Keyword::UPDATE) {
            left_out.extend([words[place + 1], words[place + 2]]);
        } else if is(next(1), Keyword::KEY) && is(next(2), Keyword::SHARE) {
            left_out.push(words[place + 1]);
        }
    }
    for at in left_out.into_iter().rev() {
        tokens.remove(at);
    }
    tokens
}

impl Parsed {
    /// The byte at which sqlparser's token at `location` starts.
    pub(super) fn offset(&self, location: Location) -> Option<usize> {
        let index = self
            .places
            .binary_search_by_key(&location, |(place, _)| *place)
            .ok()?;
        Some(self.places[index].1)
    }
}

fn is_compared(kind: Kind) -> bool {
    match kind {
        Kind::Word
        | Kind::QuotedIdentifier
        | Kind::Param
        | Kind::Integer
        | Kind::Number
        | Kind::Junk
        | Kind::String
        | Kind::OtherString
        | Kind::Semicolon => true,
        Kind::Space | Kind::Comment | Kind::Open | Kind::Close | Kind::Comma | Kind::Other => false,
    }
}

/// True for what is neither word nor literal nor `;`. sqlparser's tokens are not ours to list, so
/// an unknown one counts as one to compare.
fn is_operator(token: &ParserToken) -> bool {
    match token {
        ParserToken::Whitespace(
            Whitespace::Space
            | Whitespace::Newline
            | Whitespace::Tab
            | Whitespace::SingleLineComment { .. }
            | Whitespace::MultiLineComment(_),
        )
        | ParserToken::EOF => true,
        ParserToken::Word(_) | ParserToken::Number(..) | ParserToken::SemiColon => false,
        other => !matches!(
            other.to_string().as_bytes().first(),
            Some(b'\'' | b'"' | b'$' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | 0x80..)
        ),
    }
}

/// The byte offsets of `tokens`, which are in the order of the text.
fn places(sql: &str, tokens: &[TokenWithSpan]) -> Vec<(Location, usize)> {
    let mut here = Location { line: 1, column: 1 };
    let mut chars = sql.char_indices();
    let mut offset = 0;
    let mut found = Vec::with_capacity(tokens.len());
    for token in tokens {
        while here < token.span.start {
            let Some((at, char)) = chars.next() else {
                break;
            };
            offset = at + char.len_utf8();
            here = match char {
                '\n' => Location {
                    line: here.line + 1,
                    column: 1,
                },
                _ => Location {
                    line: here.line,
                    column: here.column + 1,
                },
            };
        }
        found.push((token.span.start, offset));
    }
    found
}
