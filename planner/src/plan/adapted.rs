//! PostgreSQL's syntax that sqlparser does not read, in words that it reads and that mean the same
//! to a plan.
//!
//! Only the tokens that sqlparser gets are others: servers get the client's text, and each token that
//! is left keeps its place in it. A change is made only where PostgreSQL's grammar (`gram.y`) leaves no
//! other reading of the words around it, and never hides a table, a function call or a subquery, nor
//! makes a condition on a key of what is none. What it takes away is told by [`Adapted`].

mod clauses;
mod expressions;
mod json;

pub(super) use self::expressions::is_type;

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// Tokens for sqlparser, and what may be done with its tree of them.
pub(super) struct Adapted {
    pub(super) tokens: Vec<TokenWithSpan>,
    /// The tree is one of the text in all that a merge compares and rewrites.
    pub(super) merges: bool,
    /// The names of tables may be replaced by rows.
    pub(super) gathers: bool,
}

/// The tokens of a text, and what stands in place of some.
struct Text {
    tokens: Vec<TokenWithSpan>,
    /// By token: what stands for it.
    changes: Vec<Option<Vec<Token>>>,
    merges: bool,
    gathers: bool,
}

pub(super) fn adapted(tokens: Vec<TokenWithSpan>) -> Adapted {
    let is_text = |token: &TokenWithSpan| !matches!(token.token, Token::Whitespace(_));
    let tokens: Vec<_> = tokens.into_iter().filter(is_text).collect();
    let mut text = Text {
        changes: vec![None; tokens.len()],
        tokens,
        merges: true,
        gathers: true,
    };
    for at in 0..text.tokens.len() {
        expressions::adapt(&mut text, at);
        json::adapt(&mut text, at);
    }
    // These come last: what they take away stays away.
    for at in 0..text.tokens.len() {
        clauses::adapt(&mut text, at);
    }
    let mut adapted = Vec::with_capacity(text.tokens.len());
    for (token, change) in text.tokens.into_iter().zip(text.changes) {
        match change {
            None => adapted.push(token),
            Some(others) => {
                let placed = |other| TokenWithSpan::new(other, token.span);
                adapted.extend(others.into_iter().map(placed));
            }
        }
    }
    Adapted {
        tokens: adapted,
        merges: text.merges,
        gathers: text.gathers,
    }
}

/// Words that PostgreSQL reserves and that may stand before an expression or a clause, but not behind
/// a name as its alias.
const RESERVED: &str = "all and any array as asc between by case check collate cross default desc \
    distinct do else end except exists fetch for from full group having ilike in inner intersect into is \
    isnull join lateral left like limit natural not notnull null offset on only operator or order \
    outer returning right select set similar some symmetric table tablesample then to union using \
    values when where window with";

impl Text {
    fn token(&self, at: usize) -> &Token {
        self.tokens
            .get(at)
            .map_or(&Token::EOF, |token| &token.token)
    }

    /// Token `at` in lower case, when it is a word without quotes.
    fn word(&self, at: usize) -> String {
        match self.token(at) {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_lowercase(),
            _ => String::new(),
        }
    }

    /// The word before token `at`, as [`Text::word`].
    fn word_before(&self, at: usize) -> String {
        at.checked_sub(1)
            .map_or_else(String::new, |at| self.word(at))
    }

    fn before(&self, at: usize) -> &Token {
        at.checked_sub(1).map_or(&Token::EOF, |at| self.token(at))
    }

    fn is(&self, at: usize, word: &str) -> bool {
        match self.token(at) {
            Token::Word(known) => {
                known.quote_style.is_none() && known.value.eq_ignore_ascii_case(word)
            }
            _ => false,
        }
    }

    fn is_one_of(&self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(at, word))
    }

    fn are(&self, at: usize, words: &[&str]) -> bool {
        let mut places = words.iter().enumerate();
        places.all(|(n, word)| self.is(at + n, word))
    }

    fn opens(&self, at: usize) -> bool {
        *self.token(at) == Token::LParen
    }

    /// An identifier, or a keyword that PostgreSQL does not reserve.
    fn is_name(&self, at: usize) -> bool {
        match self.token(at) {
            Token::Word(word) => word.quote_style.is_some() || !self.is_reserved(at),
            _ => false,
        }
    }

    fn is_reserved(&self, at: usize) -> bool {
        let word = self.word(at);
        RESERVED.split_ascii_whitespace().any(|known| known == word)
    }

    /// The token behind `name` or `schema.name` at `at`.
    fn behind_name(&self, at: usize) -> Option<usize> {
        if !self.is_name(at) {
            return None;
        }
        let mut end = at + 1;
        while *self.token(end) == Token::Period {
            // Behind a dot any word is a name.
            if !matches!(self.token(end + 1), Token::Word(_)) {
                return None;
            }
            end += 2;
        }
        Some(end)
    }

    /// The token that closes the parenthesis or bracket at `open`.
    fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        (open..self.tokens.len()).find(|at| {
            match self.token(*at) {
                Token::LParen | Token::LBracket => depth += 1,
                Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0
        })
    }

    /// The tokens from `start` on that stand in no parentheses of their own, up to the end of those
    /// around them.
    fn level(&self, start: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut at = start;
        while at < self.tokens.len() {
            match self.token(at) {
                Token::RParen | Token::RBracket | Token::SemiColon => break,
                Token::LParen | Token::LBracket => {
                    found.push(at);
                    match self.closing(at) {
                        Some(close) => at = close + 1,
                        None => break,
                    }
                }
                _ => {
                    found.push(at);
                    at += 1;
                }
            }
        }
        found
    }

    fn drop(&mut self, tokens: std::ops::Range<usize>) {
        for at in tokens {
            self.change(at, Vec::new());
        }
    }

    fn change(&mut self, at: usize, others: Vec<Token>) {
        if let Some(change) = self.changes.get_mut(at) {
            *change = Some(others);
        }
    }

    /// Puts tokens `first` to `last` in parentheses.
    fn enclose(&mut self, first: usize, last: usize) {
        let now = |text: &Self, at: usize| match &text.changes[at] {
            Some(others) => others.clone(),
            None => vec![text.token(at).clone()],
        };
        let mut opened = now(self, first);
        opened.insert(0, Token::LParen);
        self.change(first, opened);
        let mut closed = now(self, last);
        closed.push(Token::RParen);
        self.change(last, closed);
    }

    /// An expression means something else in the tree, though it is about the same columns.
    fn blurs(&mut self) {
        self.merges = false;
    }
}

fn keyword(word: &str) -> Token {
    Token::make_keyword(word)
}

/// A name that is none of the text.
fn unnamed() -> Token {
    Token::Word(sqlparser::tokenizer::Word {
        value: String::new(),
        quote_style: Some('"'),
        keyword: Keyword::NoKeyword,
    })
}
