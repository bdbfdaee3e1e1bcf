//! The settings that a text names in calls of set_config.

use crate::lexer::{self, Kind, Token, param_index};

/// The name of a setting as set_config gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingName {
    /// Lower case.
    Written(String),
    /// Parameter, from 0.
    Param(usize),
}

/// The first argument of every call of set_config in `sql`; `None` when one of them is neither a
/// plain string nor a parameter.
pub fn settings_named(sql: &str) -> Option<Vec<SettingName>> {
    let tokens = lexer::tokens(sql);
    let text = |token: &Token| sql.get(token.range.clone()).unwrap_or_default();
    let mut names = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let called = token.kind == Kind::Word && text(token).eq_ignore_ascii_case("set_config");
        let quoted = token.kind == Kind::QuotedIdentifier && text(token) == "\"set_config\"";
        let opens = tokens
            .get(at + 1)
            .is_some_and(|next| next.kind == Kind::Open);
        if !(called || quoted) || !opens {
            continue;
        }
        let (name, after) = (tokens.get(at + 2)?, tokens.get(at + 3)?);
        if after.kind != Kind::Comma && text(after) != ":" {
            return None;
        }
        names.push(match name.kind {
            Kind::String => {
                let inner = text(name).strip_prefix('\'')?.strip_suffix('\'')?;
                SettingName::Written(inner.replace("''", "'").to_lowercase())
            }
            Kind::Param => SettingName::Param(param_index(text(name))?),
            _ => return None,
        });
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_where_they_are_written() {
        let written = |name: &str| SettingName::Written(name.into());
        let sql =
            "SELECT set_config('App.X', $1, false), pg_catalog.set_config($2::text, 'a', true)";
        let expected = vec![written("app.x"), SettingName::Param(1)];
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
    }
}
