//! `[databases.NAME.tables]`: which class each table is in.

use std::collections::BTreeMap;

use planner::topology::ShardWeight;
use toml::de::DeValue;

use super::database::known_shard;
use super::reader::{Entry, Section};
use super::{Shard, TableRule};

/// Reads the declared classes, by (schema, table).
pub(super) fn read(
    section: &Section<'_>,
    shards: &[(Shard, ShardWeight)],
) -> BTreeMap<(String, String), TableRule> {
    let entries = section.entries("tables").unwrap_or_default();
    if section.has("servers") && !entries.is_empty() {
        let what = "the database has no shards, so its tables have no class";
        section.mistake(
            "tables",
            what,
            "write [[databases.NAME.shards]] instead of servers",
        );
    }
    let mut tables = BTreeMap::new();
    for entry in entries {
        let Some(name) = table_name(entry.name) else {
            let what = format!("\"{}\" is not a table's name", entry.name);
            let remedy = "write orders, \"sales.orders\" or, as SQL would, '\"Odd\".\"Name\"'";
            section.mistakes().add(&entry.place, what, remedy);
            continue;
        };
        let place = entry.place.clone();
        let Some(rule) = table_rule(section, entry, shards) else {
            continue;
        };
        if tables.insert(name, rule).is_some() {
            section
                .mistakes()
                .add(&place, "the table is declared twice", "keep one");
        }
    }
    tables
}

const RULE_EXAMPLE: &str = "write { key = \"column\" }, \"reference\", or { shard = \"name\" }";

fn table_rule(
    database: &Section<'_>,
    entry: Entry<'_>,
    shards: &[(Shard, ShardWeight)],
) -> Option<TableRule> {
    let mistakes = database.mistakes();
    match entry.value {
        DeValue::String(word) if word == "reference" => Some(TableRule::Reference),
        DeValue::Table(_) => {
            let section = database.as_section(entry.place, entry.value)?;
            keyed_rule(&section, shards)
        }
        DeValue::String(word) => {
            mistakes.add(
                &entry.place,
                format!("\"{word}\" is no class of tables"),
                RULE_EXAMPLE,
            );
            None
        }
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_) => {
            mistakes.add(&entry.place, "not a class of tables", RULE_EXAMPLE);
            None
        }
    }
}

fn keyed_rule(section: &Section<'_>, shards: &[(Shard, ShardWeight)]) -> Option<TableRule> {
    match (section.has("key"), section.has("shard")) {
        (true, false) => {
            let written = section.string("key")?;
            let key = identifiers(written).and_then(|parts| <[String; 1]>::try_from(parts).ok());
            if key.is_none() {
                let what = format!("\"{written}\" is not a column's name");
                section.mistake("key", what, "write one column");
            }
            key.map(|[key]| TableRule::Sharded { key })
        }
        (false, true) => known_shard(section, shards).map(TableRule::Single),
        (true, true) => {
            section.mistake("shard", "key and shard are both given", RULE_EXAMPLE);
            None
        }
        (false, false) => {
            let what = "neither key nor shard (a name with a schema has to be quoted)";
            section.mistakes().add(section.place(), what, RULE_EXAMPLE);
            None
        }
    }
}

/// (schema, table); without a schema, `public`.
fn table_name(written: &str) -> Option<(String, String)> {
    let mut parts = identifiers(written)?;
    let table = parts.pop()?;
    let schema = parts.pop().unwrap_or_else(|| "public".to_owned());
    parts.is_empty().then_some((schema, table))
}

/// The parts of a dotted SQL name, each folded as PostgreSQL would: lower case unless quoted.
pub(super) fn identifiers(written: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = written;
    loop {
        let (part, after) = identifier(rest)?;
        parts.push(part);
        match after.strip_prefix('.') {
            Some(after) => rest = after,
            None => return after.is_empty().then_some(parts),
        }
    }
}

/// The first identifier of `text` and what follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(mut quoted) = text.strip_prefix('"') else {
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let end = text.find(|c| !word(c)).unwrap_or(text.len());
        let (name, after) = text.split_at(end);
        return (!name.is_empty()).then(|| (name.to_ascii_lowercase(), after));
    };
    let mut name = String::new();
    loop {
        let (part, after) = quoted.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            // Two quotes stand for one.
            Some(after) => quoted = after,
            None => return (!name.is_empty()).then_some((name, after)),
        }
        name.push('"');
    }
}
