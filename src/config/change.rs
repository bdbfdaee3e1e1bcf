//! One setting changed at run time, on top of the file as it was read.

use std::borrow::Cow;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::{self, Env};
use super::reader::ConfigErrors;
use super::show::diff_needs_restart;
use super::{Config, Secret};
use crate::error::{Error, Fault};

/// What a configuration was made of, so that one setting can be changed without reading the file
/// again: it may have changed, too, and nobody has asked for that.
#[derive(Debug, Clone)]
pub struct Source {
    pub(super) path: PathBuf,
    /// The file; passwords may be in it.
    pub(super) text: Secret,
    /// `key = value`, each by itself, in the order in which they were made.
    pub(super) changes: Vec<Assignment>,
}

/// One line of TOML.
#[derive(Debug, Clone)]
pub(super) struct Assignment {
    key: String,
    line: Secret,
}

impl Config {
    /// With one setting changed. `key` is as in SHOW CONFIG, `value` as the file would have it, or in
    /// single quotes.
    ///
    /// # Errors
    /// 22023 for a setting that does not exist or a value that is none of it, 55P02 for a setting
    /// that only a restart applies.
    pub fn changed(&self, key: &str, value: &str) -> Result<Self, Error> {
        self.changed_in(key, value, &|name| std::env::var(name).ok())
    }

    pub(super) fn changed_in(&self, key: &str, value: &str, env: Env<'_>) -> Result<Self, Error> {
        let refuse = |why: String| {
            Error::new(Fault::Operator, "22023", format!("cannot set \"{key}\""))
                .detail(why)
                .hint("SHOW CONFIG lists the settings; values are written as in the file.")
        };
        let Some((line, path)) = assignment(key, value) else {
            return Err(refuse("This is not one setting and one value.".to_owned()));
        };
        let exists = match &path[..] {
            [section, user, ..] if section == "users" => self.users.contains_key(user),
            [section, name, ..] if section == "databases" => self.databases.contains_key(name),
            _ => true,
        };
        if !exists {
            return Err(refuse("There is no such user or database.".to_owned()));
        }
        let mut source = self.source.clone();
        source.changes.retain(|change| change.key != key);
        source.changes.push(Assignment {
            key: key.to_owned(),
            line: Secret(line),
        });
        let new = file::made_of(source, env).map_err(|mistakes| refuse(told(&mistakes)))?;
        match &diff_needs_restart(self, &new)[..] {
            [] => Ok(new),
            [setting, ..] => {
                let message = format!("\"{setting}\" cannot be changed while Ringway runs");
                Err(Error::new(Fault::Operator, "55P02", message)
                    .hint("Change it in the file; it takes effect after a restart."))
            }
        }
    }
}

/// The mistakes without lines: what is wrong is in no file.
fn told(mistakes: &ConfigErrors) -> String {
    let told = mistakes.mistakes.iter().map(|mistake| {
        let mistake = super::Mistake {
            line: None,
            ..mistake.clone()
        };
        mistake.to_string()
    });
    told.collect::<Vec<_>>().join("\n")
}

/// `key = value` as TOML, and the parts of the key. The value as it is, else as text.
fn assignment(key: &str, value: &str) -> Option<(String, Vec<String>)> {
    let as_is = |value: &str| {
        let line = format!("{key} = {value}");
        let path = path(&line)?;
        Some((line, path))
    };
    let inner = value
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''));
    let text = match inner {
        // SQL's quotes do not tell a number from a text.
        Some(inner) if is_number_or_truth(inner) => return as_is(inner),
        Some(inner) => inner.replace("''", "'"),
        None => match as_is(value) {
            Some(read) => return Some(read),
            None => value.to_owned(),
        },
    };
    as_is(&toml::Value::String(text).to_string())
}

fn is_number_or_truth(text: &str) -> bool {
    matches!(text, "true" | "false") || text.parse::<i64>().is_ok()
}

/// The parts of the key, if there is nothing but one key and its value.
fn path(line: &str) -> Option<Vec<String>> {
    let table = DeTable::parse(line).ok()?;
    let mut table = table.get_ref();
    let mut path = Vec::new();
    while let (1, Some((key, value))) = (table.len(), table.iter().next()) {
        path.push(key.get_ref().clone().into_owned());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => return Some(path),
        }
    }
    None
}

/// Puts the changes into the file's table; what is wrong with them the reader finds.
pub(super) fn apply<'a>(table: &mut DeTable<'a>, changes: &'a [Assignment]) {
    for change in changes {
        // It was one when it was made.
        if let Ok(new) = DeTable::parse(&change.line.0) {
            merge(table, new.into_inner());
        }
    }
}

fn merge<'a>(into: &mut DeTable<'a>, from: DeTable<'a>) {
    for (key, value) in from {
        let name: Cow<'a, str> = key.get_ref().clone();
        match (into.get_mut(&*name), value.into_inner()) {
            (Some(there), DeValue::Table(inner)) => match there.get_mut() {
                DeValue::Table(table) => merge(table, inner),
                other => *other = DeValue::Table(inner),
            },
            (Some(there), value) => *there.get_mut() = value,
            (None, value) => {
                into.insert(Spanned::new(0..0, name), Spanned::new(0..0, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{entries, parse};
    use super::*;

    const FILE: &str = "[general]\nlog_level = \"info\"\n[users.app]\npassword = \"app\"\n\
        [databases.\"my shop\"]\nservers = \"a:1\"\nreads = { split = true }\n";

    fn config() -> Config {
        parse(FILE, Path::new("ringway.toml"), &|_| None).unwrap()
    }

    fn changed(config: &Config, key: &str, value: &str) -> Result<Config, Error> {
        config.changed_in(key, value, &|_| None)
    }

    /// The value that SHOW CONFIG shows.
    fn shown(config: &Config, key: &str) -> String {
        let entry = entries(config).into_iter().find(|entry| entry.key == key);
        entry.unwrap_or_else(|| panic!("no {key}")).value
    }

    #[test]
    fn changes_add_up_and_the_last_one_counts() {
        let mut config = config();
        for (key, value) in [
            ("general.max_clients", "7"),
            ("general.max_clients", "'8'"),
            ("databases.\"my shop\".pool_mode", "session"),
            ("databases.\"my shop\".reads.max_lag_ms", "70"),
            ("users.app.pool_size", "3"),
            ("general.admin_users", "[\"app\"]"),
            ("general.stats_users", "'app'"),
        ] {
            config = changed(&config, key, value).unwrap();
        }
        assert_eq!(config.source.changes.len(), 6);
        for (key, value) in [
            ("general.max_clients", "8"),
            ("databases.my shop.pool_mode", "session"),
            ("databases.my shop.reads.max_lag_ms", "70"),
            ("databases.my shop.reads.split", "true"),
            ("users.app.pool_size", "3"),
            ("general.admin_users", "app"),
            ("general.stats_users", "app"),
        ] {
            assert_eq!(shown(&config, key), value, "{key}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        for (key, value, code, told) in [
            (
                "general.max_client",
                "7",
                "22023",
                "did you mean `max_clients`?",
            ),
            (
                "general.max_clients",
                "many",
                "22023",
                "general.max_clients",
            ),
            ("general.max_clients", "0", "22023", "general.max_clients"),
            ("general.max_clients.x", "1", "22023", "general.max_clients"),
            (
                "users.ap.pool_size",
                "3",
                "22023",
                "no such user or database",
            ),
            ("databases.x.servers", "'a:1'", "22023", "no such user"),
            ("a b", "7", "22023", "not one setting"),
            ("general", "{}", "22023", "expected a table"),
            ("general.workers", "7", "55P02", "general.workers"),
            ("general.log_format", "json", "55P02", "general.log_format"),
        ] {
            let error = changed(&config(), key, value).err();
            let error = error.unwrap_or_else(|| panic!("{key} = {value} is accepted"));
            assert_eq!(error.code, code, "{key}: {error}");
            let text = format!(
                "{} {}",
                error.message,
                error.detail.as_deref().unwrap_or_default()
            );
            assert!(text.contains(told), "{key} = {value}: {text}");
            assert!(!text.contains("line "), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_change_gets_an_answer(key in "(general|users|databases)?\\.?\\PC{0,12}", value in "\\PC{0,12}") {
            // Refused or not: it does not panic.
            let _ = changed(&config(), &key, &value);
        }
    }
}
