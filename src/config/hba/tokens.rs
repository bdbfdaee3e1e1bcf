//! Lines, fields and words of pg_hba.conf and pg_ident.conf, as next_token in PostgreSQL's hba.c
//! takes them apart.

/// A word, and whether it began with a quote: keywords do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub is_quoted: bool,
}

/// A line that is not empty: fields parted by white space, each of words parted by commas.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1; of lines that a backslash joins, the first.
    pub number: usize,
    pub fields: Vec<Vec<Token>>,
    /// A quote was opened and not closed.
    pub is_open: bool,
}

impl Token {
    pub fn bare(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            is_quoted: false,
        }
    }

    pub fn is(&self, keyword: &str) -> bool {
        !self.is_quoted && self.text == keyword
    }
}

pub fn lines(text: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let mut numbered = (1..).zip(text.lines());
    while let Some((number, first)) = numbered.next() {
        let mut whole = first.to_owned();
        while whole.ends_with('\\') {
            whole.pop();
            let Some((_, next)) = numbered.next() else {
                break;
            };
            whole.push_str(next);
        }
        let (fields, is_open) = fields(&whole);
        if !fields.is_empty() || is_open {
            found.push(Line {
                number,
                fields,
                is_open,
            });
        }
    }
    found
}

fn fields(line: &str) -> (Vec<Vec<Token>>, bool) {
    let mut fields: Vec<Vec<Token>> = Vec::new();
    let mut rest = line;
    let mut goes_on = false;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',');
        if rest.is_empty() || rest.starts_with('#') {
            return (fields, false);
        }
        let (token, used, is_open) = token(rest);
        match fields.last_mut() {
            Some(field) if goes_on => field.push(token),
            Some(_) | None => fields.push(vec![token]),
        }
        if is_open {
            return (fields, true);
        }
        rest = &rest[used..];
        goes_on = rest.starts_with(',');
    }
}

/// The word at the start of `text`, the bytes it takes, and whether its quote is left open.
fn token(text: &str) -> (Token, usize, bool) {
    let mut word = String::new();
    let mut in_quote = false;
    let mut chars = text.char_indices().peekable();
    let mut used = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if in_quote && chars.peek().is_some_and(|(_, next)| *next == '"') => {
                chars.next();
                word.push('"');
            }
            '"' => in_quote = !in_quote,
            c if !in_quote && (c.is_ascii_whitespace() || c == ',' || c == '#') => {
                used = at;
                break;
            }
            c => word.push(c),
        }
    }
    let token = Token {
        text: word,
        is_quoted: text.starts_with('"'),
    };
    (token, used, in_quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str) -> String {
        let word = |token: &Token| match token.is_quoted {
            true => format!("'{}'", token.text),
            false => token.text.clone(),
        };
        let field = |field: &Vec<Token>| field.iter().map(word).collect::<Vec<_>>().join("+");
        let line = |line: &Line| {
            let fields: Vec<_> = line.fields.iter().map(field).collect();
            format!("{}:{}", line.number, fields.join(" "))
        };
        lines(text).iter().map(line).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn words_are_taken_apart_as_postgresql_does() {
        for (text, expected) in [
            ("", ""),
            ("# all\n  \n", ""),
            ("host all  b # c", "1:host all b"),
            ("host a,b c", "1:host a+b c"),
            ("host a, b c", "1:host a+b c"),
            ("host a ,b c", "1:host a b c"),
            ("host \"a,b\" c#d", "1:host 'a,b' c"),
            ("host a\"b c\"d", "1:host ab cd"),
            ("\"a\"\"b\" \"\"", "1:'a\"b' ''"),
            ("\na \\\nb\nc", "2:a b|4:c"),
            ("a \\", "1:a"),
        ] {
            assert_eq!(printed(text), expected, "{text:?}");
        }
        assert!(lines("host \"all")[0].is_open);
    }
}
