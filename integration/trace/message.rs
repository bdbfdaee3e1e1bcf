//! Messages as a trace writes them, turned into frames.

use crate::support::wire::frame;

pub struct Message {
    pub bytes: Vec<u8>,
    /// The server answers it with ReadyForQuery in the end.
    pub wants_ready: bool,
}

/// One word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// A quoted text, or `x"…"` in hexadecimal digits.
    Bytes(Vec<u8>),
    Open,
    Close,
}

impl Message {
    pub fn parse(line: &str) -> Self {
        let tokens = tokens(line);
        let mut args = Args {
            line,
            tokens: tokens.into_iter().peekable(),
        };
        let kind = args.word();
        let (tag, body) = match kind.as_str() {
            "Query" => (b'Q', cstr(&args.bytes())),
            "Parse" => (b'P', parse(&mut args)),
            "Bind" => (b'B', bind(&mut args)),
            "Describe" => (b'D', named(&mut args)),
            "Close" => (b'C', named(&mut args)),
            "Execute" => {
                let mut body = cstr(&args.bytes());
                body.extend_from_slice(&args.number().unwrap_or(0).to_be_bytes());
                (b'E', body)
            }
            "Sync" => (b'S', vec![]),
            "Flush" => (b'H', vec![]),
            "CopyData" => return repeated(&mut args),
            "CopyDone" => (b'c', vec![]),
            "CopyFail" => (b'f', cstr(&args.bytes())),
            "FunctionCall" => (b'F', function_call(&mut args)),
            "Terminate" => (b'X', vec![]),
            // Any tag with any body, for what no driver would send.
            "Frame" => (args.bytes()[0], args.bytes()),
            other => panic!("unknown message {other}: {line}"),
        };
        assert!(args.tokens.next().is_none(), "too many words: {line}");
        Self {
            bytes: frame(tag, &body),
            wants_ready: matches!(tag, b'Q' | b'S' | b'F'),
        }
    }
}

struct Args<'a> {
    line: &'a str,
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
}

impl Args<'_> {
    fn word(&mut self) -> String {
        match self.tokens.next() {
            Some(Token::Word(word)) => word,
            other => panic!("a word instead of {other:?}: {}", self.line),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        match self.tokens.next() {
            Some(Token::Bytes(bytes)) => bytes,
            other => panic!("a quoted text instead of {other:?}: {}", self.line),
        }
    }

    fn number(&mut self) -> Option<u32> {
        self.tokens.peek()?;
        Some(self.word().parse().unwrap())
    }

    /// What stands in the parentheses after `name`; nothing if the line does not name it.
    fn list(&mut self, name: &str) -> Vec<Token> {
        if self.tokens.peek() != Some(&Token::Word(name.to_owned())) {
            return Vec::new();
        }
        self.tokens.next();
        assert_eq!(self.tokens.next(), Some(Token::Open), "{}", self.line);
        self.tokens
            .by_ref()
            .take_while(|token| *token != Token::Close)
            .collect()
    }

    fn numbers(&mut self, name: &str) -> Vec<u32> {
        let number = |token| match token {
            Token::Word(word) => word.parse().unwrap(),
            other => panic!("a number instead of {other:?}"),
        };
        self.list(name).into_iter().map(number).collect()
    }
}

fn cstr(text: &[u8]) -> Vec<u8> {
    [text, b"\0"].concat()
}

fn counted16(out: &mut Vec<u8>, numbers: &[u32]) {
    out.extend_from_slice(&(numbers.len() as u16).to_be_bytes());
    numbers
        .iter()
        .for_each(|n| out.extend_from_slice(&(*n as u16).to_be_bytes()));
}

fn values(out: &mut Vec<u8>, values: Vec<Token>) {
    out.extend_from_slice(&(values.len() as u16).to_be_bytes());
    for value in values {
        match value {
            Token::Bytes(bytes) => {
                out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                out.extend_from_slice(&bytes);
            }
            Token::Word(word) if word == "null" => out.extend_from_slice(&(-1i32).to_be_bytes()),
            other => panic!("a value instead of {other:?}"),
        }
    }
}

/// `Parse "name" "text" types(23 25)`
fn parse(args: &mut Args<'_>) -> Vec<u8> {
    let mut body = [cstr(&args.bytes()), cstr(&args.bytes())].concat();
    let types = args.numbers("types");
    body.extend_from_slice(&(types.len() as u16).to_be_bytes());
    types
        .iter()
        .for_each(|oid| body.extend_from_slice(&oid.to_be_bytes()));
    body
}

/// `Bind "portal" "statement" formats(0 1) values("1" null x"00000002") results(1)`
fn bind(args: &mut Args<'_>) -> Vec<u8> {
    let mut body = [cstr(&args.bytes()), cstr(&args.bytes())].concat();
    counted16(&mut body, &args.numbers("formats"));
    values(&mut body, args.list("values"));
    counted16(&mut body, &args.numbers("results"));
    body
}

/// `Describe statement "name"`, `Close portal "name"`
fn named(args: &mut Args<'_>) -> Vec<u8> {
    let kind = match args.word().as_str() {
        "statement" => b'S',
        "portal" => b'P',
        other => panic!("statement or portal instead of {other}"),
    };
    [vec![kind], cstr(&args.bytes())].concat()
}

/// `CopyData "text"`, or `CopyData "text" 1000` for as many messages of it.
fn repeated(args: &mut Args<'_>) -> Message {
    let one = frame(b'd', &args.bytes());
    Message {
        bytes: one.repeat(args.number().unwrap_or(1) as usize),
        wants_ready: false,
    }
}

/// `FunctionCall 1299 formats() values("a") results(1)`: one result format.
fn function_call(args: &mut Args<'_>) -> Vec<u8> {
    let mut body = args.number().unwrap().to_be_bytes().to_vec();
    counted16(&mut body, &args.numbers("formats"));
    values(&mut body, args.list("values"));
    let format = args.numbers("results").first().copied().unwrap_or(0);
    body.extend_from_slice(&(format as u16).to_be_bytes());
    body
}

fn tokens(line: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' => {}
            '(' => tokens.push(Token::Open),
            ')' => tokens.push(Token::Close),
            '"' => tokens.push(Token::Bytes(quoted(&mut chars))),
            'x' if chars.peek() == Some(&'"') => {
                chars.next();
                let digits: String = chars.by_ref().take_while(|c| *c != '"').collect();
                let pairs = digits.as_bytes().chunks(2);
                let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
                tokens.push(Token::Bytes(pairs.map(|p| byte(p).unwrap()).collect()));
            }
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| !" ()\"".contains(*c)) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    tokens
}

/// The rest of a quoted text, with `\n`, `\t`, `\"` and `\\`.
fn quoted(chars: &mut impl Iterator<Item = char>) -> Vec<u8> {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => return text.into_bytes(),
            '\\' => match chars.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(c @ ('"' | '\\')) => text.push(c),
                other => panic!("unknown escape {other:?}"),
            },
            c => text.push(c),
        }
    }
    panic!("a text without its closing quote: {text}")
}
