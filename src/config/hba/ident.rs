//! User maps: which names of a certificate or of the operating system may be which users.
//! <https://www.postgresql.org/docs/current/auth-username-maps.html>

use std::collections::BTreeMap;

use regex::Regex;

use super::read::{Flaw, pattern};
use super::tokens::{Token, lines};

/// The maps by name.
#[derive(Debug, Clone, Default)]
pub struct IdentMaps(BTreeMap<String, Vec<Entry>>);

#[derive(Debug, Clone)]
struct Entry {
    system: SystemName,
    user: MappedName,
}

#[derive(Debug, Clone)]
enum SystemName {
    Name(String),
    Pattern(Regex),
}

#[derive(Debug, Clone)]
enum MappedName {
    All,
    /// In which `\1` stands for what the first group of the system name's pattern found.
    Name(String),
    Pattern(Regex),
}

impl IdentMaps {
    /// Reads the text of a pg_ident.conf.
    pub fn read(text: &str) -> (Self, Vec<Flaw>) {
        let mut maps = Self::default();
        let mut flaws = Vec::new();
        for line in lines(text) {
            let mut flaw = |(what, remedy)| {
                flaws.push(Flaw {
                    line: line.number,
                    what,
                    remedy,
                });
            };
            let words: Vec<&Token> = line.fields.iter().flatten().collect();
            if line.is_open {
                flaw(("a quote is not closed".to_owned(), String::new()));
            } else if let Some(word) = words
                .first()
                .filter(|word| word.text.starts_with("include"))
            {
                let what = format!("\"{}\" is not supported", word.text);
                flaw((what, "write the entries into this file".to_owned()));
            } else if let (&[map, system, user], 3) = (&words[..], line.fields.len()) {
                if let Err(why) = maps.add(&map.text, system, user) {
                    flaw(why);
                }
            } else {
                let remedy = "write map name, system's user name and user name";
                let what = "an entry has three fields".to_owned();
                flaw((what, remedy.to_owned()));
            }
        }
        (maps, flaws)
    }

    pub fn add(&mut self, map: &str, system: &Token, user: &Token) -> Result<(), (String, String)> {
        let system = match system.text.strip_prefix('/') {
            Some(text) => SystemName::Pattern(pattern(text)?),
            None => SystemName::Name(system.text.clone()),
        };
        let user = match user.text.strip_prefix('/') {
            Some(text) => MappedName::Pattern(pattern(text)?),
            None if user.is("all") => MappedName::All,
            None if !user.is_quoted && user.text.starts_with('+') => {
                let what = format!("members of a role (\"{}\") are not known here", user.text);
                return Err((what, "name the users".to_owned()));
            }
            None => MappedName::Name(user.text.clone()),
        };
        if let (MappedName::Name(name), SystemName::Pattern(pattern)) = (&user, &system)
            && name.contains("\\1")
            && pattern.captures_len() < 2
        {
            let what = format!("\"{name}\" needs a group that \"/{pattern}\" does not have");
            return Err((what, "put parentheses around the part that is meant".into()));
        }
        let entries = self.0.entry(map.to_owned()).or_default();
        entries.push(Entry { system, user });
        Ok(())
    }

    pub fn contains(&self, map: &str) -> bool {
        self.0.contains_key(map)
    }

    /// Whether who the system knows as `system` may be `user`. Without a map the names have to be
    /// equal.
    pub fn allows(&self, map: Option<&str>, system: &str, user: &str) -> bool {
        let Some(map) = map else {
            return system == user;
        };
        let mut entries = self.0.get(map).into_iter().flatten();
        entries.any(|entry| entry.allows(system, user))
    }
}

impl Entry {
    fn allows(&self, system: &str, user: &str) -> bool {
        let group = match &self.system {
            SystemName::Name(name) if name == system => None,
            SystemName::Name(_) => return false,
            SystemName::Pattern(pattern) => match pattern.captures(system) {
                Some(found) => found.get(1),
                None => return false,
            },
        };
        match &self.user {
            MappedName::All => true,
            MappedName::Pattern(pattern) => pattern.is_match(user),
            MappedName::Name(name) => match (&self.system, name.split_once("\\1")) {
                (SystemName::Pattern(_), Some((before, after))) => {
                    let group = group.map_or("", |group| group.as_str());
                    // One occurrence stands for the group, as in check_ident_usermap.
                    user.strip_prefix(before)
                        .and_then(|rest| rest.strip_suffix(after))
                        .is_some_and(|middle| middle == group)
                }
                (SystemName::Pattern(_) | SystemName::Name(_), _) => name == user,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_allow_what_their_entries_say() {
        let (maps, flaws) = IdentMaps::read(
            "# comment\nstaff  bryanh  bryanh\nstaff ann \"all\"\nstaff root all\n\
             mail /^(.*)@example\\.com$ x_\\1_y\nmail /^(.*)@old\\.com$ guest\n\
             many /^dev /^app_[0-9]+$\n",
        );
        assert_eq!(flaws, []);
        for (map, system, user, expected) in [
            (None, "a", "a", true),
            (None, "a", "A", false),
            (Some("staff"), "bryanh", "bryanh", true),
            (Some("staff"), "bryanh", "ann", false),
            (Some("staff"), "ann", "all", true),
            (Some("staff"), "ann", "ann", false),
            (Some("staff"), "root", "anybody", true),
            (Some("mail"), "bob@example.com", "x_bob_y", true),
            (Some("mail"), "bob@example.com", "x_ann_y", false),
            (Some("mail"), "bob@example.com", "x_y", false),
            (Some("mail"), "bob@example.comx", "x_bob_y", false),
            (Some("mail"), "@example.com", "x__y", true),
            (Some("mail"), "bob@old.com", "guest", true),
            (Some("many"), "dev7", "app_12", true),
            (Some("many"), "dev7", "app_", false),
            (Some("missing"), "a", "a", false),
        ] {
            assert_eq!(
                maps.allows(map, system, user),
                expected,
                "{map:?} {system} {user}"
            );
        }
    }

    #[test]
    fn entries_that_cannot_be_used_are_told_with_their_line() {
        let (_, flaws) = IdentMaps::read(
            "a b\na /( c\na b +c\n\ninclude x\na /^x$ \\1\na \"b c\na b c d\na b,c d\n",
        );
        let lines: Vec<_> = flaws.iter().map(|flaw| flaw.line).collect();
        assert_eq!(lines, [1, 2, 3, 5, 6, 7, 8, 9], "{flaws:#?}");
    }
}
