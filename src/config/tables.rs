//! `[databases.NAME.tables]` and `[databases.NAME.schemas]`: which class each table is in.

use std::collections::BTreeMap;

use planner::ShardId;
use planner::placement::{Rule, RuleId};
use planner::topology::ShardWeight;
use toml::de::DeValue;

use super::database::{named_shard, shard_named};
use super::reader::{Entry, Section, did_you_mean};
use super::{Shard, TableRule};

/// By (schema, table).
type ByTable<T> = BTreeMap<(String, String), T>;

/// Reads the declared classes, and the columns that get ids by default.
pub(super) fn read(
    section: &Section<'_>,
    shards: &[(Shard, ShardWeight)],
    placements: &[Rule],
) -> (ByTable<TableRule>, ByTable<String>) {
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
    let mut default_ids = BTreeMap::new();
    for entry in entries {
        let Some(name) = table_name(entry.name) else {
            let what = format!("\"{}\" is not a table's name", entry.name);
            let remedy = "write orders, \"sales.orders\" or, as SQL would, '\"Odd\".\"Name\"'";
            section.mistakes().add(&entry.place, what, remedy);
            continue;
        };
        let place = entry.place.clone();
        let Some((rule, default_id)) = table_rule(section, entry, shards, placements) else {
            continue;
        };
        if let Some(column) = default_id {
            default_ids.insert(name.clone(), column);
        }
        if tables.insert(name, rule).is_some() {
            section
                .mistakes()
                .add(&place, "the table is declared twice", "keep one");
        }
    }
    (tables, default_ids)
}

const RULE_EXAMPLE: &str = "write { key = \"column\" }, \"reference\", or { shard = \"name\" }";

fn table_rule(
    database: &Section<'_>,
    entry: Entry<'_>,
    shards: &[(Shard, ShardWeight)],
    placements: &[Rule],
) -> Option<(TableRule, Option<String>)> {
    let mistakes = database.mistakes();
    match entry.value {
        DeValue::String(word) if word == "reference" => Some((TableRule::Reference, None)),
        DeValue::Table(_) => {
            let section = database.as_section(entry.place, entry.value)?;
            let default_id = default_id(&section);
            let rule = keyed_rule(&section, shards, placements)?;
            if default_id.is_some() && !matches!(rule, TableRule::Sharded { .. }) {
                let what = "only sharded tables get ids by default";
                section.mistake("default_id", what, "leave it out, or write a key");
            }
            Some((rule, default_id))
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

fn keyed_rule(
    section: &Section<'_>,
    shards: &[(Shard, ShardWeight)],
    placements: &[Rule],
) -> Option<TableRule> {
    match (section.has("key"), section.has("shard")) {
        (true, false) => {
            let key = key_columns(section);
            let by = section.has("by").then(|| placement(section, placements));
            if key.as_ref().is_some_and(|key| key.len() > 1) && by.is_some() {
                let what = "a key of several columns can only be hashed";
                section.mistake("by", what, "leave it out, or name one column");
            }
            match (key?, by) {
                (key, None) => Some(TableRule::Sharded { key, by: None }),
                (key, Some(by)) => Some(TableRule::Sharded { key, by: Some(by?) }),
            }
        }
        (false, true) => {
            if section.has("by") {
                let what = "only the rows of a key are placed by a rule";
                section.mistake("by", what, "leave it out, or write a key");
            }
            named_shard(section, "shard", shards).map(TableRule::Single)
        }
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

/// The column that gets an id where an INSERT leaves it out.
fn default_id(section: &Section<'_>) -> Option<String> {
    let written = section.string("default_id")?;
    let column = identifiers(written).and_then(|parts| <[String; 1]>::try_from(parts).ok());
    let Some([column]) = column else {
        let what = format!("\"{written}\" is not a column's name");
        section.mistake("default_id", what, "write one column");
        return None;
    };
    Some(column)
}

/// The columns of a key, in order.
fn key_columns(section: &Section<'_>) -> Option<Vec<String>> {
    let mut columns = Vec::new();
    for (place, written) in section.strings("key")? {
        let column = identifiers(written).and_then(|parts| <[String; 1]>::try_from(parts).ok());
        match column {
            Some([column]) if columns.contains(&column) => {
                let what = format!("column \"{column}\" is in the key twice");
                section.mistakes().add(&place, what, "keep one");
            }
            Some([column]) => columns.push(column),
            None => {
                let what = format!("\"{written}\" is not a column's name");
                let remedy = "write one column, or a list of columns";
                section.mistakes().add(&place, what, remedy);
            }
        }
    }
    (!columns.is_empty()).then_some(columns)
}

fn placement(section: &Section<'_>, placements: &[Rule]) -> Option<RuleId> {
    let name = section.string("by")?;
    let at = placements.iter().position(|rule| rule.name == name);
    if at.is_none() {
        let names = placements.iter().map(|rule| rule.name.as_str());
        let mut remedy = did_you_mean(name, names);
        if remedy.is_empty() {
            remedy = format!("write [databases.NAME.placements.{name}]");
        }
        section.mistake("by", format!("there is no placement \"{name}\""), remedy);
    }
    at.and_then(|at| u16::try_from(at).ok()).map(RuleId)
}

/// Reads the schemas that are on one shard each.
pub(super) fn schemas(
    section: &Section<'_>,
    shards: &[(Shard, ShardWeight)],
) -> BTreeMap<String, ShardId> {
    let mut schemas = BTreeMap::new();
    for entry in section.entries("schemas").unwrap_or_default() {
        let parts = match entry.name {
            "*" => Some(vec!["*".to_owned()]),
            written => identifiers(written),
        };
        let name = parts.and_then(|parts| <[String; 1]>::try_from(parts).ok());
        let (Some([name]), Some(shard)) = (name, entry.value.as_str()) else {
            let remedy = "write tenant = \"s1\", or \"*\" = \"s1\" for every schema but public";
            let what = "not a schema and its shard";
            section.mistakes().add(&entry.place, what, remedy);
            continue;
        };
        let Some(shard) = shard_named(section.mistakes(), &entry.place, shard, shards) else {
            continue;
        };
        if schemas.insert(name, shard).is_some() {
            let what = "the schema is declared twice";
            section.mistakes().add(&entry.place, what, "keep one");
        }
    }
    schemas
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
