//! Which table is sharded by what: hashed keys, lists, ranges, schemas, and tables that are everywhere.

use std::collections::BTreeMap;

use toml::Value;

use super::Root;
use crate::import::draft::{DatabaseDraft, Draft, Section};
use crate::import::hashed::{self, HashedType, identifier};
use crate::import::notes::Notes;
use crate::import::written::Table;

/// Shards' names by database; none where there is but one.
type Shards = BTreeMap<String, Vec<String>>;

pub(super) fn read(root: &Root, shards: &Shards, draft: &mut Draft, notes: &Notes) {
    let mappings = root.list("sharded_mappings");
    let mappings: Vec<Mapping> = mappings
        .iter()
        .map(|table| Mapping::of(table, notes))
        .collect();
    for table in root.list("sharded_tables") {
        of_several(table, shards, draft, notes, |database, names| {
            sharded_table(table, &mappings, database, names, notes);
        });
    }
    for mapping in mappings.iter().filter(|mapping| !mapping.is_used.get()) {
        notes.dropped(mapping.place.as_str(), "no sharded table goes by it");
    }
    for table in root.list("omnisharded_tables") {
        of_several(table, shards, draft, notes, |database, _| {
            reference_tables(table, database, notes);
        });
    }
    for table in root.list("sharded_schemas") {
        of_several(table, shards, draft, notes, |database, names| {
            schema(table, database, names, notes);
        });
    }
    for (name, database) in &draft.databases {
        if shards.get(name).is_some_and(|names| names.len() > 1)
            && database.schemas.get("*").is_none()
        {
            let why = "PgDog takes a table that is not declared for one that is the same on all shards; Ringway \
                       refuses it by name until it is declared: write it as \"reference\", or with its key or shard";
            notes.changed(
                format!("tables of database {name} that are not declared"),
                why,
            );
        }
    }
}

/// Calls `work` for the database of an entry, if it has several shards.
fn of_several(
    entry: &Table,
    shards: &Shards,
    draft: &mut Draft,
    notes: &Notes,
    work: impl FnOnce(&mut DatabaseDraft, &[String]),
) {
    let name = entry.text("database").unwrap_or_default();
    let (Some(names), Some(database)) = (shards.get(&name), draft.databases.get_mut(&name)) else {
        notes.dropped(entry.place(), format!("there is no database {name}"));
        return;
    };
    match names.is_empty() {
        true => notes.dropped(entry.place(), "the database has one shard"),
        false => work(database, names),
    }
}

/// An entry of `[[sharded_mappings]]`, or of a table's own `mapping`.
struct Mapping {
    place: String,
    database: String,
    table: Option<String>,
    column: String,
    values: Vec<Value>,
    start: Option<Value>,
    end: Option<Value>,
    shard: usize,
    is_used: std::cell::Cell<bool>,
}

impl Mapping {
    fn of(table: &Table, notes: &Notes) -> Self {
        let value = |key: &str| table.take(key).map(|setting| setting.value().clone());
        let values = value("values").and_then(|values| values.as_array().cloned());
        let shard = value("shard").and_then(|shard| shard.as_integer());
        let _ = (table.take("kind"), table.take("schema"));
        let mapping = Self {
            place: table.place().to_owned(),
            database: table.text("database").unwrap_or_default(),
            table: table.text("table"),
            column: table.text("column").unwrap_or_default(),
            values: values.unwrap_or_default(),
            start: value("start"),
            end: value("end"),
            shard: shard
                .and_then(|shard| usize::try_from(shard).ok())
                .unwrap_or(0),
            is_used: std::cell::Cell::new(false),
        };
        table.finish(&[], notes);
        mapping
    }

    fn is_range(&self) -> bool {
        self.start.is_some() || self.end.is_some()
    }
}

fn sharded_table(
    entry: &Table,
    mappings: &[Mapping],
    database: &mut DatabaseDraft,
    names: &[String],
    notes: &Notes,
) {
    let column = entry.text("column").unwrap_or_default();
    let (schema, name) = (entry.text("schema"), entry.text("name"));
    let data_type = entry
        .text("data_type")
        .unwrap_or_else(|| "bigint".to_owned());
    let hasher = entry
        .text("hasher")
        .unwrap_or_else(|| "postgres".to_owned());
    let own: Vec<Mapping> = tables_of(entry, "mapping", notes);
    for key in ["primary", "centroids", "centroids_path", "centroid_probes"] {
        let _ = entry.take(key);
    }
    entry.finish(&[], notes);
    let for_table = |mapping: &&Mapping| {
        mapping.column == column && mapping.table.is_some() && mapping.table == name
    };
    let for_all = |mapping: &&Mapping| mapping.column == column && mapping.table.is_none();
    let of_entry = entry.text("database").unwrap_or_default();
    let here = || {
        mappings
            .iter()
            .filter(|mapping| mapping.database == of_entry)
    };
    let mut rules: Vec<&Mapping> = own.iter().collect();
    for found in [
        here().filter(for_table).collect::<Vec<_>>(),
        here().filter(for_all).collect(),
    ] {
        if rules.is_empty() {
            rules = found;
        }
    }
    rules.iter().for_each(|rule| rule.is_used.set(true));
    let place = entry.place().to_owned();
    let Some(name) = name else {
        let why = format!(
            "a column's name alone shards no table: declare each table that has it, as in `orders = {{ key = \
             \"{column}\" }}`. SELECT table_schema, table_name FROM information_schema.columns WHERE column_name = \
             '{}' lists them",
            column.replace('\'', "''")
        );
        if rules.is_empty() && hasher == "postgres" && hashed::obstacle(names.len()).is_none() {
            hashed::adopt(database, names);
        }
        notes.dropped(format!("{place}: column = {column}"), why);
        return;
    };
    let table = match &schema {
        Some(schema) => format!("{}.{}", identifier(schema), identifier(&name)),
        None => identifier(&name),
    };
    if schema.is_none() {
        notes.changed(
            format!("{place}: name = {name}"),
            "the table of schema public; PgDog takes any schema",
        );
    }
    let key = identifier(&column);
    let done = match (data_type.as_str(), rules.is_empty()) {
        ("vector", _) => Err("absent: sharding by vectors".to_owned()),
        ("uuid", false) => Err("lists are of texts and whole numbers, not of uuids".to_owned()),
        (_, false) => placed(database, names, &table, &key, &rules, &column),
        (_, true) if hasher != "postgres" => Err(format!(
            "rows are placed by {hasher}, which no slot of PostgreSQL's hash follows: move them"
        )),
        (of, true) => match of {
            "bigint" => hashed::table(database, names, &table, &key, HashedType::Bigint),
            "uuid" => hashed::table(database, names, &table, &key, HashedType::Uuid),
            "varchar" => {
                let done = hashed::table(database, names, &table, &key, HashedType::Varchar);
                if done.is_ok() {
                    let why = "holds for text and varchar: of char(n) PgDog hashes blanks that PostgreSQL does not \
                               count, so check with the statement above the tables";
                    notes.changed(format!("{place}: data_type = varchar"), why);
                }
                done
            }
            other => Err(format!("{other} is no type of keys that is known")),
        },
    };
    if let Err(why) = done {
        notes.dropped(format!("{place}: {table}.{column}"), why);
    }
}

/// The nested tables under `key`, as mappings of their own.
fn tables_of(entry: &Table, key: &str, notes: &Notes) -> Vec<Mapping> {
    let Some(setting) = entry.take(key) else {
        return Vec::new();
    };
    let items = setting.value().as_array().cloned().unwrap_or_default();
    let numbered = items.iter().enumerate();
    let tables = numbered.filter_map(|(at, item)| {
        let place = format!("{}.{key}[{at}]", entry.place());
        Some(Table::of_toml(place, item.as_table()?))
    });
    tables.map(|table| Mapping::of(&table, notes)).collect()
}

/// A table whose rows go by lists or ranges.
fn placed(
    database: &mut DatabaseDraft,
    names: &[String],
    table: &str,
    key: &str,
    rules: &[&Mapping],
    column: &str,
) -> Result<(), String> {
    let placement = placement(names, rules)?;
    // Tables that go by one placement are co-located.
    let known = database
        .placements
        .iter()
        .find(|(_, known)| **known == placement);
    let name = match known {
        Some((name, _)) => name.clone(),
        None => {
            let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
            let base: String = column.chars().map(plain).collect();
            let mut names = (1..).map(|n| match n {
                1 => format!("by_{base}"),
                n => format!("by_{base}_{n}"),
            });
            let free = names.find(|name| !database.placements.contains_key(name));
            let name = free.unwrap_or_default();
            database.placements.insert(name.clone(), placement);
            name
        }
    };
    let mut rule = toml::Table::new();
    rule.insert("key".to_owned(), Value::String(key.to_owned()));
    rule.insert("by".to_owned(), Value::String(name));
    database.tables.set(table, rule);
    Ok(())
}

fn placement(names: &[String], rules: &[&Mapping]) -> Result<Section, String> {
    let mut section = Section::default();
    let mut lists: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let mut ranges = Vec::new();
    for rule in rules {
        let shard = names.get(rule.shard);
        let shard = shard
            .ok_or_else(|| format!("there is no shard {}", rule.shard))?
            .as_str();
        if rule.is_range() {
            let mut range = toml::Table::new();
            for (key, bound) in [("from", &rule.start), ("to", &rule.end)] {
                match bound {
                    Some(Value::Integer(_)) => {
                        range.insert(key.to_owned(), bound.clone().unwrap_or(Value::Integer(0)));
                    }
                    None => {}
                    Some(_) => {
                        return Err(
                            "only ranges of whole numbers, dates and times are placed".to_owned()
                        );
                    }
                }
            }
            range.insert("shard".to_owned(), Value::String(shard.to_owned()));
            ranges.push(Value::Table(range));
        } else if rule.values.is_empty() {
            section.set("default", shard);
        } else {
            lists
                .entry(shard)
                .or_default()
                .extend(rule.values.iter().cloned());
        }
    }
    match (lists.is_empty(), ranges.is_empty()) {
        (false, true) => {
            let lists = lists
                .into_iter()
                .map(|(shard, values)| (shard.to_owned(), Value::Array(values)));
            section.set("list", lists.collect::<toml::Table>());
        }
        (true, false) => section.set("ranges", ranges),
        (true, true) => return Err("the mapping names neither values nor ranges".to_owned()),
        (false, false) => return Err("values and ranges are mixed in one mapping".to_owned()),
    }
    Ok(section)
}

fn reference_tables(entry: &Table, database: &mut DatabaseDraft, notes: &Notes) {
    let tables = entry
        .take("tables")
        .and_then(|tables| tables.value().as_array().cloned());
    for table in tables.unwrap_or_default() {
        let Some(name) = table.as_str() else { continue };
        let parts: Vec<_> = name.split('.').map(identifier).collect();
        database.tables.set(&parts.join("."), "reference");
    }
    if let Some(setting) = entry.take("sticky") {
        notes.dropped(
            setting.shown(),
            "not needed: in a transaction one shard answers, and all have the same rows",
        );
    }
    entry.finish(&[], notes);
}

fn schema(entry: &Table, database: &mut DatabaseDraft, names: &[String], notes: &Notes) {
    let shard = entry
        .take("shard")
        .and_then(|shard| shard.value().as_integer())
        .unwrap_or(0);
    let shard = usize::try_from(shard)
        .ok()
        .and_then(|shard| names.get(shard));
    let name = entry.text("name");
    if entry.text("all").is_some() {
        notes.dropped(
            format!("{}: all", entry.place()),
            "a schema is on one shard",
        );
    }
    entry.finish(&[], notes);
    match (shard, name) {
        (None, _) => notes.dropped(entry.place(), "there is no such shard"),
        (Some(shard), Some(name)) => database.schemas.set(&identifier(&name), shard.as_str()),
        (Some(shard), None) => {
            database.schemas.set("*", shard.as_str());
            let why = "every schema without an entry but public, whose tables have to be declared one by one";
            notes.changed(entry.place(), why);
        }
    }
}
