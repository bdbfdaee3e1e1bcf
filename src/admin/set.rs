//! `SET key = value`: of Ringway's settings, or of PostgreSQL's, which drivers send after login.

use super::{Change, Command, shortened};
use crate::error::{Error, Fault};

/// Settings of PostgreSQL's that drivers set on every new connection. No answer depends on them.
const HARMLESS: [&str; 17] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "synchronize_seqscans",
    "timezone",
];

/// Forms of PostgreSQL's that have no `=`.
const HARMLESS_FORMS: [&[&str]; 4] = [
    &["NAMES"],
    &["SESSION", "CHARACTERISTICS"],
    &["TIME", "ZONE"],
    &["TRANSACTION"],
];

/// What follows SET.
///
/// # Errors
/// 42601 (syntax_error).
pub(super) fn parse(text: &str) -> Result<Command, Error> {
    let text = text.trim();
    if ends_early(text) {
        return Err(malformed(text, "One command at a time, please."));
    }
    let words: Vec<String> = text
        .split_whitespace()
        .take(2)
        .map(str::to_ascii_uppercase)
        .collect();
    let begins = |form: &&[&str]| words.iter().zip(*form).all(|(word, of)| word == of);
    if HARMLESS_FORMS
        .iter()
        .any(|form| words.len() >= form.len() && begins(form))
    {
        return Ok(Command::Set);
    }
    let Some((key, value)) = split(of_session(text)) else {
        let usage = "Write SET key = value, with a key as SHOW CONFIG lists them.";
        return Err(malformed(text, usage));
    };
    if HARMLESS.contains(&key.to_ascii_lowercase().as_str()) {
        return Ok(Command::Set);
    }
    let key = match key.contains('.') {
        true => key.to_owned(),
        false => format!("general.{key}"),
    };
    let value = value.to_owned();
    Ok(Command::Change(Change { key, value }))
}

/// Without SESSION or LOCAL.
fn of_session(text: &str) -> &str {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match word.to_ascii_uppercase().as_str() {
        "SESSION" | "LOCAL" => rest.trim_start(),
        _ => text,
    }
}

/// Key and value around `=` or TO; neither is empty.
fn split(text: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let end = text.find(|c: char| {
        quoted ^= c == '"';
        !quoted && (c == '=' || c.is_whitespace())
    })?;
    let (key, rest) = text.split_at(end);
    let rest = rest.trim_start();
    let value = match rest.strip_prefix('=') {
        Some(value) => value,
        None => {
            let (word, value) = rest.split_once(char::is_whitespace)?;
            word.eq_ignore_ascii_case("TO").then_some(value)?
        }
    };
    let value = value.trim();
    (!key.is_empty() && !value.is_empty()).then_some((key, value))
}

/// A semicolon outside of quotes: another command follows.
fn ends_early(text: &str) -> bool {
    let mut quote = None;
    text.chars().any(|c| match (quote, c) {
        (None, '\'' | '"') => {
            quote = Some(c);
            false
        }
        (Some(open), c) => {
            if open == c {
                quote = None;
            }
            false
        }
        (None, c) => c == ';',
    })
}

fn malformed(text: &str, hint: &'static str) -> Error {
    let message = format!("cannot read \"SET {}\"", shortened(text));
    Error::new(Fault::Client, "42601", message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drivers_send_is_accepted() {
        for sql in [
            "application_name = ''",
            "client_encoding TO 'UTF8'",
            "DateStyle=ISO",
            "SESSION timezone TO 'UTC'",
            "LOCAL statement_timeout = 0",
            "TIME ZONE 'UTC'",
            "NAMES 'utf8'",
            "SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "transaction isolation level serializable",
            "search_path = 'a;b', \"c;d\"",
        ] {
            assert_eq!(parse(sql).ok(), Some(Command::Set), "{sql}");
        }
    }

    #[test]
    fn keys_and_values() {
        for (sql, key, value) in [
            ("max_clients=5", "general.max_clients", "5"),
            ("users.a.pool_size TO 5", "users.a.pool_size", "5"),
            (
                "databases.\"a = b\".pool_mode = 'session'",
                "databases.\"a = b\".pool_mode",
                "'session'",
            ),
            ("log_level = ' a; b '", "general.log_level", "' a; b '"),
        ] {
            let (key, value) = (key.to_owned(), value.to_owned());
            let change = Command::Change(Change { key, value });
            assert_eq!(parse(sql).ok(), Some(change), "{sql}");
        }
    }

    #[test]
    fn what_is_no_assignment_is_refused() {
        for sql in [
            "",
            "x",
            "x =",
            "= 5",
            "x TO",
            "ROLE app",
            "max_clients = 5; SET x = 1",
            "application_name = 'a'; SET max_clients = 5",
        ] {
            assert_eq!(
                parse(sql).err().map(|e| e.code.to_string()),
                Some("42601".into()),
                "{sql}"
            );
        }
    }
}
