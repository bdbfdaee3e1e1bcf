//! The settings that a text names in calls of set_config.

use crate::lexer::{self, Kind, Token, param_index};

/// A call of set_config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingCall {
    /// Written in lower case.
    pub name: Argument,
    /// `None` when it is computed.
    pub value: Option<Argument>,
}

/// An argument that the text tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    Written(String),
    /// Parameter, from 0.
    Param(usize),
}

/// Every call of set_config in `sql`; `None` when the name of one is neither a plain string nor a
/// parameter.
pub fn settings_named(sql: &str) -> Option<Vec<SettingCall>> {
    let tokens = lexer::tokens(sql);
    let text = |token: &Token| sql.get(token.range.clone()).unwrap_or_default();
    let argument = |at: usize| match tokens.get(at)?.kind {
        Kind::String => {
            let inner = text(&tokens[at]).strip_prefix('\'')?.strip_suffix('\'')?;
            Some(Argument::Written(inner.replace("''", "'")))
        }
        Kind::Param => Some(Argument::Param(param_index(text(&tokens[at]))?)),
        _ => None,
    };
    let mut calls = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let called = token.kind == Kind::Word && text(token).eq_ignore_ascii_case("set_config");
        let quoted = token.kind == Kind::QuotedIdentifier && text(token) == "\"set_config\"";
        let opens = tokens
            .get(at + 1)
            .is_some_and(|next| next.kind == Kind::Open);
        if !(called || quoted) || !opens {
            continue;
        }
        let after = tokens.get(at + 3)?;
        if after.kind != Kind::Comma && text(after) != ":" {
            return None;
        }
        let name = match argument(at + 2).or_else(|| of_pg_settings(sql, &tokens, at))? {
            Argument::Written(name) => Argument::Written(name.to_lowercase()),
            param @ Argument::Param(_) => param,
        };
        let is_whole = after.kind == Kind::Comma
            && tokens
                .get(at + 5)
                .is_some_and(|end| end.kind == Kind::Comma);
        let value = is_whole.then(|| argument(at + 4)).flatten();
        calls.push(SettingCall { name, value });
    }
    Some(calls)
}

/// The name in `SELECT set_config(name, 'value', false) FROM pg_settings WHERE name = 'x'`, by which
/// pg_dump sets what only some versions have. `at` is the token of set_config.
fn of_pg_settings(sql: &str, tokens: &[Token], at: usize) -> Option<Argument> {
    const AROUND: [&str; 14] = [
        "(",
        "name",
        ",",
        "",
        ",",
        "",
        ")",
        "from",
        "pg_settings",
        "where",
        "name",
        "=",
        "",
        ";",
    ];
    let mut rest = tokens.get(at + 1..)?.iter().zip(AROUND);
    let text = |token: &Token| sql.get(token.range.clone()).unwrap_or_default();
    let fits = |(token, wanted): (&Token, &str)| match wanted {
        "" => true,
        _ => text(token).eq_ignore_ascii_case(wanted),
    };
    let all = rest.all(fits) && (13..=14).contains(&(tokens.len() - at - 1));
    let name = tokens
        .get(at + 13)
        .filter(|token| token.kind == Kind::String);
    let inner = text(name.filter(|_| all)?)
        .strip_prefix('\'')?
        .strip_suffix('\'')?;
    Some(Argument::Written(inner.replace("''", "'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_where_they_are_written() {
        let written = |text: &str| Argument::Written(text.into());
        let call = |name, value| SettingCall { name, value };
        let sql = "SELECT set_config('App.X', $1, false), pg_catalog.set_config($2::text, 'a', true), \
                   set_config('b', 'X''s', false), set_config('b', '' || 'c', false)";
        let expected = vec![
            call(written("app.x"), Some(Argument::Param(0))),
            call(Argument::Param(1), None),
            call(written("b"), Some(written("X's"))),
            call(written("b"), None),
        ];
        assert_eq!(settings_named(sql), Some(expected));
        assert_eq!(
            settings_named("SELECT set_config(lower('A'), '', false)"),
            None
        );
        assert_eq!(
            settings_named("SELECT set_config('a' || 'b', '', false)"),
            None
        );
        assert_eq!(settings_named("SELECT 1"), Some(vec![]));
        let of_row = "SELECT set_config(name, 'view', false) FROM pg_settings WHERE name = 'X'";
        let expected = vec![call(written("x"), Some(written("view")))];
        assert_eq!(settings_named(of_row), Some(expected));
        for more in [" OR true", "; SELECT 1", " || 'y'"] {
            assert_eq!(settings_named(&format!("{of_row}{more}")), None);
        }
    }
}
