//! The configuration that is being made, and its text.

use std::collections::BTreeMap;

use toml::Value;

/// Keys and values in the order in which they were set.
#[derive(Debug, Default, Clone, PartialEq)]
pub(in crate::import) struct Section(Vec<(String, Value)>);

impl Section {
    pub(in crate::import) fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => *known = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Sets what is there.
    pub(in crate::import) fn set_some(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    pub(in crate::import) fn get(&self, key: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value)
    }

    /// Does any key have another value in `other`? Their order does not count.
    pub(in crate::import) fn differs(&self, other: &Self) -> bool {
        self.0
            .iter()
            .any(|(key, value)| other.get(key) != Some(value))
    }

    pub(in crate::import) fn remove(&mut self, key: &str) {
        self.0.retain(|(known, _)| known != key);
    }

    /// Sets all that `other` has.
    pub(in crate::import) fn merge(&mut self, other: &Self) {
        for (key, value) in &other.0 {
            self.set(key, value.clone());
        }
    }

    pub(in crate::import) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn write(&self, header: &str, always: bool, out: &mut String) {
        if self.is_empty() && !always {
            return;
        }
        out.push_str(&format!("\n{header}\n"));
        for (key, value) in &self.0 {
            out.push_str(&format!("{} = {value}\n", quoted(key)));
        }
    }
}

#[derive(Debug, Default)]
pub(in crate::import) struct Draft {
    pub(in crate::import) general: Section,
    pub(in crate::import) tls: Section,
    pub(in crate::import) auth: Section,
    /// The rules of `[[auth.hba]]`.
    pub(in crate::import) rules: Vec<Section>,
    pub(in crate::import) users: BTreeMap<String, Section>,
    pub(in crate::import) databases: BTreeMap<String, DatabaseDraft>,
    pub(in crate::import) peers: Section,
}

#[derive(Debug, Default)]
pub(in crate::import) struct DatabaseDraft {
    pub(in crate::import) settings: Section,
    pub(in crate::import) reads: Section,
    pub(in crate::import) shards: Vec<Section>,
    /// Lines of comment above the tables.
    pub(in crate::import) remarks: Vec<String>,
    pub(in crate::import) tables: Section,
    pub(in crate::import) schemas: Section,
    pub(in crate::import) placements: BTreeMap<String, Section>,
    pub(in crate::import) slot_overrides: Vec<Section>,
}

impl Draft {
    /// The TOML, without what goes before it.
    pub(in crate::import) fn text(&self) -> String {
        let mut out = String::new();
        self.general.write("[general]", false, &mut out);
        self.peers.write("[peers]", false, &mut out);
        self.tls.write("[tls]", false, &mut out);
        self.auth.write("[auth]", false, &mut out);
        for rule in &self.rules {
            rule.write("[[auth.hba]]", false, &mut out);
        }
        for (name, user) in &self.users {
            user.write(&format!("[users.{}]", quoted(name)), true, &mut out);
        }
        for (name, database) in &self.databases {
            database.write(&format!("databases.{}", quoted(name)), &mut out);
        }
        out
    }
}

impl DatabaseDraft {
    fn write(&self, path: &str, out: &mut String) {
        self.settings.write(&format!("[{path}]"), true, out);
        self.reads.write(&format!("[{path}.reads]"), false, out);
        for shard in &self.shards {
            shard.write(&format!("[[{path}.shards]]"), false, out);
        }
        if !self.remarks.is_empty() {
            out.push('\n');
        }
        for line in &self.remarks {
            out.push_str(&comment(line));
        }
        self.tables.write(&format!("[{path}.tables]"), false, out);
        self.schemas.write(&format!("[{path}.schemas]"), false, out);
        for (name, placement) in &self.placements {
            let header = format!("[{path}.placements.{}]", quoted(name));
            placement.write(&header, false, out);
        }
        for entry in &self.slot_overrides {
            entry.write(&format!("[[{path}.slot_overrides]]"), false, out);
        }
    }
}

/// A line of comment. What comes from a file may hold any character.
pub(in crate::import) fn comment(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.chars().map(printable).collect();
    format!("# {}\n", text.trim_end())
}

/// A key as TOML would have it written.
fn quoted(key: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    match !key.is_empty() && key.bytes().all(bare) {
        true => key.to_owned(),
        false => {
            // A basic string, whose escapes both share.
            let value = Value::String(key.to_owned()).to_string();
            match value.starts_with("\"\"\"") || value.starts_with("'''") {
                true => format!("{key:?}"),
                false => value,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_and_value_survives_being_written() {
        let names = ["a", "a b", "*", "\"", "'", "a\nb", "\\", "ä", "a\"'b", ""];
        let mut draft = Draft::default();
        for name in names {
            let mut user = Section::default();
            user.set("password", name);
            draft.users.insert(name.to_owned(), user);
        }
        let read: toml::Table = draft.text().parse().unwrap();
        for name in names {
            assert_eq!(read["users"][name]["password"].as_str(), Some(name));
        }
    }

    #[test]
    fn a_comment_stays_on_its_line() {
        assert_eq!(comment("a\n[users.x]\r\u{7}b"), "# a [users.x]  b\n");
    }
}
