//! `[databases.NAME.functions]`: what functions do, where their volatility does not tell.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::DeValue;

use super::reader::Section;
use super::tables::identifiers;

/// The functions of one name, in one schema or in all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FunctionName {
    pub schema: Option<String>,
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionRule {
    /// It only reads and leaves nothing behind: a replica may call it.
    Read,
    /// Only the primary calls it.
    Write,
}

impl FunctionName {
    /// Is a function called `name` in `schema` meant?
    pub fn names(&self, schema: &str, name: &str) -> bool {
        self.name == name && self.schema.as_deref().is_none_or(|own| own == schema)
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl FunctionRule {
    /// Its word in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

pub(super) fn read(section: &Section<'_>) -> BTreeMap<FunctionName, FunctionRule> {
    let mut functions = BTreeMap::new();
    for entry in section.entries("functions").unwrap_or_default() {
        let place = entry.place;
        let Some(name) = function_name(entry.name) else {
            let what = format!("\"{}\" is not a function's name", entry.name);
            let remedy = "write refresh or \"public.refresh\", without arguments: all functions of \
                          a name count as the least safe of them";
            section.mistakes().add(&place, what, remedy);
            continue;
        };
        let rule = match entry.value {
            DeValue::String(word) if word == "read" => FunctionRule::Read,
            DeValue::String(word) if word == "write" => FunctionRule::Write,
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                let what = "not what a function does";
                let remedy = "write \"read\" or \"write\"; a name with a schema has to be quoted";
                section.mistakes().add(&place, what, remedy);
                continue;
            }
        };
        if functions.insert(name, rule).is_some() {
            let what = "the function is listed twice";
            section.mistakes().add(&place, what, "keep one");
        }
    }
    functions
}

fn function_name(written: &str) -> Option<FunctionName> {
    let mut parts = identifiers(written)?;
    let name = parts.pop()?;
    let schema = parts.pop();
    parts.is_empty().then_some(FunctionName { schema, name })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn functions(entries: &str) -> Result<BTreeMap<FunctionName, FunctionRule>, String> {
        let text = format!(
            "[users.app]\nauth = \"trust\"\n[databases.shop]\nservers = [\"a:5432\"]\n\
             [databases.shop.functions]\n{entries}\n"
        );
        let config = parse(&text, Path::new("test.toml"), &|_| None);
        let mut config = config.map_err(|errors| errors.to_string())?;
        let shop = config.databases.remove("shop").unwrap();
        Ok(shop.functions.clone())
    }

    #[test]
    fn names_fold_as_in_sql_and_may_have_a_schema() {
        let read = functions("Tax = \"read\"\n\"sales.refresh\" = \"write\"").unwrap();
        let read: Vec<_> = read
            .iter()
            .map(|(name, rule)| format!("{name} {}", rule.name()))
            .collect();
        assert_eq!(read, ["tax read", "sales.refresh write"]);
        let name = function_name("sales.refresh").unwrap();
        assert!(name.names("sales", "refresh") && !name.names("public", "refresh"));
        assert!(function_name("refresh").unwrap().names("public", "refresh"));
    }

    #[test]
    fn what_is_no_function_or_no_rule_is_a_mistake() {
        for (entry, expected) in [
            ("\"refresh(int)\" = \"read\"", "is not a function's name"),
            ("refresh = \"maybe\"", "not what a function does"),
            ("refresh = true", "not what a function does"),
            ("a = \"read\"\nA = \"write\"", "listed twice"),
        ] {
            let error = functions(entry).unwrap_err();
            assert!(error.contains(expected), "{entry}: {error}");
        }
    }
}
