//! Every error answers three questions: what may the client see, whose fault is it, may the
//! client's connection live.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, DerefMut};

use bytes::{BufMut, BytesMut};

/// An error on its way to a client. Boxed, as nearly everything returns one that nearly never comes: what
/// is right fits into registers.
#[derive(Debug, Clone)]
pub struct Error(Box<Fields>);

/// An error in PostgreSQL's fields.
#[derive(Debug, Clone)]
pub struct Fields {
    pub severity: Severity,
    pub code: Cow<'static, str>,
    pub message: Cow<'static, str>,
    pub detail: Option<Cow<'static, str>>,
    pub hint: Option<Cow<'static, str>>,
    /// Where in PostgreSQL's work it happened: the line of a COPY, say.
    pub context: Option<Cow<'static, str>>,
    /// What in the database a server's error is about.
    pub object: Option<Object>,
    pub fault: Fault,
}

/// Names, for programs that act on an error, and where in the statement they stand.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Object {
    pub schema: Option<String>,
    pub table: Option<String>,
    pub column: Option<String>,
    pub data_type: Option<String>,
    pub constraint: Option<String>,
    /// In the text that the server was sent, in characters from 1; see [`Error::of_clients_text`].
    pub position: Option<String>,
    /// That text was the client's.
    pub is_of_clients_text: bool,
}

/// FATAL ends the client's connection, ERROR ends the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Fatal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The client sent something wrong: logged at debug.
    Client,
    /// A server failed or cannot be reached.
    Server,
    /// The configuration or the environment is wrong: an operator has to act.
    Operator,
    /// A defect of ours.
    Ringway,
}

/// No SQLSTATE of an error: successful_completion.
const TOLD: &str = "00000";

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(
        fault: Fault,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Fields {
            severity: Severity::Error,
            code: code.into(),
            message: message.into(),
            detail: None,
            hint: None,
            context: None,
            object: None,
            fault,
        }))
    }

    /// 08P01 protocol_violation: the client's frames make no sense, so its connection ends.
    pub fn protocol(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Fault::Client, "08P01", message).fatal()
    }

    /// Stands for an error that the client has been told already.
    pub fn told() -> Self {
        Self::new(Fault::Client, TOLD, "the client has been told")
    }

    pub fn is_told(&self) -> bool {
        self.code == TOLD
    }

    /// It speaks of the server, not of what it was asked: internal errors, broken files, I/O.
    /// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
    pub fn is_of_server(&self) -> bool {
        self.code.starts_with("XX") || self.code == "58030"
    }

    pub fn fatal(mut self) -> Self {
        self.severity = Severity::Fatal;
        self
    }

    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn context(mut self, context: impl Into<Cow<'static, str>>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// The server was sent what the client has sent: the position is told.
    pub fn of_clients_text(mut self) -> Self {
        if let Some(object) = &mut self.object {
            object.is_of_clients_text = true;
        }
        self
    }

    pub fn is_fatal(&self) -> bool {
        self.severity == Severity::Fatal
    }

    /// Appends the ErrorResponse frame.
    /// <https://www.postgresql.org/docs/current/protocol-error-fields.html>
    pub fn write_to(&self, out: &mut BytesMut) {
        let severity = match self.severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        let mut fields: Vec<(u8, &str)> = vec![
            (b'S', severity),
            (b'V', severity),
            (b'C', &self.code),
            (b'M', &self.message),
        ];
        if let Some(detail) = &self.detail {
            fields.push((b'D', detail));
        }
        if let Some(hint) = &self.hint {
            fields.push((b'H', hint));
        }
        if let Some(context) = &self.context {
            fields.push((b'W', context));
        }
        if let Some(object) = &self.object {
            let names = [
                (b's', &object.schema),
                (b't', &object.table),
                (b'c', &object.column),
                (b'd', &object.data_type),
                (b'n', &object.constraint),
            ];
            let named = names
                .iter()
                .filter_map(|(tag, name)| Some((*tag, name.as_deref()?)));
            fields.extend(named);
            if let Some(position) = object
                .position
                .as_deref()
                .filter(|_| object.is_of_clients_text)
            {
                fields.push((b'P', position));
            }
        }
        let length: usize = 4 + 1 + fields.iter().map(|(_, v)| v.len() + 2).sum::<usize>();
        out.put_u8(b'E');
        out.put_u32(length as u32);
        for (tag, value) in fields {
            out.put_u8(tag);
            // A zero byte would end the field early and let text after it pass as another field.
            out.extend(value.bytes().map(|b| if b == 0 { b'?' } else { b }));
            out.put_u8(0);
        }
        out.put_u8(0);
    }
}

impl Error {
    /// The whole error as psql prints one, for a terminal.
    pub fn report(&self) -> String {
        let mut text = format!("{} (SQLSTATE {})", self.message, self.code);
        for (name, part) in [("DETAIL", &self.detail), ("HINT", &self.hint)] {
            if let Some(part) = part {
                text.push_str(&format!("\n{name}:  {part}"));
            }
        }
        text
    }
}

impl From<planner::Refusal> for Error {
    fn from(refusal: planner::Refusal) -> Self {
        let mut error = Self::new(Fault::Client, refusal.code, refusal.message);
        if !refusal.detail.is_empty() {
            error.detail = Some(refusal.detail);
        }
        if !refusal.hint.is_empty() {
            error.hint = Some(refusal.hint);
        }
        error
    }
}

/// For logs, where it has to stay one line: names in it may be a stranger's.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = escape_controls(&self.message);
        write!(f, "{message} (SQLSTATE {})", self.code)?;
        if let Some(detail) = &self.detail {
            write!(f, "; {}", escape_controls(detail))?;
        }
        Ok(())
    }
}

/// The text with line feeds and other control characters written out.
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c.is_control() {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

impl std::error::Error for Error {}

impl Deref for Error {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        &self.0
    }
}

impl DerefMut for Error {
    fn deref_mut(&mut self) -> &mut Fields {
        &mut self.0
    }
}
