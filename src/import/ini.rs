//! PgBouncer's file format: sections, `%include`, and connection strings as values.
//! <https://www.pgbouncer.org/config.html>

use std::path::{Path, PathBuf};

use super::notes::Notes;
use super::written::Table;
use super::{Sources, cannot_read};
use crate::error::Error;

/// The sections of a file and of those that it includes.
#[derive(Debug)]
pub(super) struct Ini {
    pub(super) settings: Table,
    /// Name, and the keys of its connection string; so are the next two.
    pub(super) databases: Vec<(String, Table)>,
    pub(super) users: Vec<(String, Table)>,
    pub(super) peers: Vec<(String, Table)>,
}

/// An include within an include may go as deep.
const MOST_INCLUDES: usize = 10;

/// Reads the file, whose includes are relative to `base`.
pub(super) fn read(path: &Path, sources: &mut Sources, notes: &Notes) -> Result<Ini, Error> {
    let mut ini = Ini {
        settings: Table::empty("[pgbouncer]"),
        databases: Vec::new(),
        users: Vec::new(),
        peers: Vec::new(),
    };
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut section = String::new();
    lines(path, &base, 0, &mut section, &mut ini, sources, notes)?;
    Ok(ini)
}

fn lines(
    path: &Path,
    base: &Path,
    depth: usize,
    section: &mut String,
    ini: &mut Ini,
    sources: &mut Sources,
    notes: &Notes,
) -> Result<(), Error> {
    let text = sources.text(path)?;
    let file = Sources::name(path);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let place = format!("{file} line {number}");
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(included) = line.strip_prefix("%include") {
            let included = base.join(PathBuf::from(included.trim()));
            if depth == MOST_INCLUDES {
                let why = format!("too many files include each other, the last at {place}");
                return Err(cannot_read(&included, &why));
            }
            lines(&included, base, depth + 1, section, ini, sources, notes)
                .map_err(|error| error.context(place))?;
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            *section = name.trim().to_owned();
            continue;
        }
        let Some((key, value)) = entry(line) else {
            notes.unknown(format!("{place}: {line}"));
            continue;
        };
        let list = match section.as_str() {
            "pgbouncer" => {
                ini.settings.push(place, &key, value, notes);
                continue;
            }
            "databases" => &mut ini.databases,
            "users" => &mut ini.users,
            "peers" => &mut ini.peers,
            _ => {
                notes.unknown(format!("{place}: [{section}] {key} = {value}"));
                continue;
            }
        };
        let place = format!("{place}: [{section}] {key}");
        let mut table = Table::empty(place.clone());
        match connection_string(&value) {
            Some(pairs) => {
                for (key, value) in pairs {
                    table.push(place.clone(), &key, value, notes);
                }
            }
            None => notes.dropped(place.clone(), "its value is not a list of key=value"),
        }
        if let Some(at) = list.iter().position(|(known, _)| *known == key) {
            let (_, earlier) = list.remove(at);
            notes.dropped(
                earlier.place(),
                "it is written again further down, which counts",
            );
        }
        list.push((key, table));
    }
    Ok(())
}

/// `key = value`; the key may stand in double quotes.
fn entry(line: &str) -> Option<(String, String)> {
    let Some(quoted) = line.strip_prefix('"') else {
        let (key, value) = line.split_once('=')?;
        return Some((key.trim().to_owned(), value.trim().to_owned()));
    };
    let (key, after) = until_quote(quoted, '"')?;
    let value = after.trim_start().strip_prefix('=')?;
    Some((key, value.trim().to_owned()))
}

/// `key=value` parted by spaces; a value may stand in single quotes, of which two stand for one.
fn connection_string(text: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim();
        let after = after.trim_start();
        let (value, left) = match after.strip_prefix('\'') {
            Some(quoted) => until_quote(quoted, '\'')?,
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        if key.is_empty() || key.contains(char::is_whitespace) {
            return None;
        }
        pairs.push((key.to_owned(), value));
        rest = left.trim_start();
    }
    Some(pairs)
}

/// What stands before the closing `quote`, of which two stand for one, and what comes after it.
fn until_quote(mut rest: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once(quote)?;
        value.push_str(part);
        match after.strip_prefix(quote) {
            Some(after) => rest = after,
            None => return Some((value, after)),
        }
        value.push(quote);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values() {
        let pair = |key: &str, value: &str| Some((key.to_owned(), value.to_owned()));
        assert_eq!(entry("a = b = c"), pair("a", "b = c"));
        assert_eq!(entry("\"my \"\"db\" = host=x"), pair("my \"db", "host=x"));
        assert_eq!(entry("*="), pair("*", ""));
        assert_eq!(entry("nothing"), None);
    }

    #[test]
    fn connection_strings() {
        let pairs = connection_string("host=a  port = 1 connect_query='SELECT ''x y''' dbname=''");
        let expected = [
            ("host", "a"),
            ("port", "1"),
            ("connect_query", "SELECT 'x y'"),
            ("dbname", ""),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(pairs, Some(expected.to_vec()));
        assert_eq!(connection_string(""), Some(Vec::new()));
        assert_eq!(connection_string("host"), None);
        assert_eq!(connection_string("host='a"), None);
    }
}
