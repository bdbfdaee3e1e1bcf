//! Rows that `hash % shards` has placed, adopted where they are.
//!
//! PgDog and PgCat take PostgreSQL's partition hash of the key (`hashint8extended`,
//! `hashtextextended`, `uuid_hash_extended` with the seed of `HASH_PARTITION_SEED`, combined with 0)
//! modulo the number of shards. Ringway takes the same hash modulo 16,384. Where the number of shards
//! divides 16,384, `hash % shards` is `slot % shards`; else rows of one slot are on several shards,
//! which no table of slots can say.

use planner::ring::SLOTS;

use super::draft::{DatabaseDraft, Section};

/// The key's type, as far as the hash depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::import) enum HashedType {
    Bigint,
    Uuid,
    Varchar,
}

impl HashedType {
    /// PostgreSQL's hash of a column, with the seed of partitions.
    fn function(self, column: &str) -> String {
        const SEED: u64 = 0x7A5B_2236_7996_DCFD;
        match self {
            Self::Bigint => format!("hashint8extended({column}, {SEED})"),
            Self::Uuid => format!("uuid_hash_extended({column}, {SEED})"),
            Self::Varchar => format!("hashtextextended({column}, {SEED})"),
        }
    }
}

/// Why the rows cannot stay where they are; `None` when they can.
pub(in crate::import) fn obstacle(shards: usize) -> Option<String> {
    let divides = shards > 0 && SLOTS.is_multiple_of(shards);
    (!divides).then(|| {
        format!(
            "rows are placed by hash % {shards}, and {shards} does not divide Ringway's {SLOTS} slots, so \
             that rows of one slot are on several shards: move them, as with pg_dump of each shard \
             into Ringway"
        )
    })
}

/// Gives every slot to the shard that has its rows. `names` are those of the shards, by number.
pub(in crate::import) fn adopt(database: &mut DatabaseDraft, names: &[String]) {
    database.slot_overrides.clear();
    for (remainder, name) in names.iter().enumerate() {
        let mut entry = Section::default();
        entry.set("modulus", names.len() as i64);
        entry.set("remainder", remainder as i64);
        entry.set("shard", name.as_str());
        database.slot_overrides.push(entry);
    }
}

/// A statement that counts the rows of a shard that do not belong there.
pub(in crate::import) fn proof(table: &str, column: &str, of: HashedType, shards: usize) -> String {
    // hash_combine64(0, hash) adds this.
    const ADDED: u64 = 0x49A0_F4DD_15E5_A8E3;
    let mask = shards as u64 - 1;
    let hash = of.function(column);
    format!(
        "SELECT count(*) FROM {table} WHERE ((({hash} & {mask}) + {}) & {mask}) <> :shard;",
        ADDED & mask
    )
}

/// A shard by its number.
#[derive(Debug, Default)]
pub(in crate::import) struct Numbered {
    /// The database's name there, if it is said.
    pub(in crate::import) dbname: Option<String>,
    /// `host:port`.
    pub(in crate::import) servers: Vec<String>,
}

/// Writes the servers; answers the shards' names, none where there is but one shard.
pub(in crate::import) fn shards(
    name: &str,
    shards: Vec<Numbered>,
    database: &mut DatabaseDraft,
) -> Vec<String> {
    if let [only] = shards.as_slice() {
        database.settings.set("servers", only.servers.clone());
        let dbname = only.dbname.clone().filter(|dbname| dbname != name);
        database.settings.set_some("dbname", dbname);
        return Vec::new();
    }
    let mut names = Vec::new();
    for (number, shard) in shards.into_iter().enumerate() {
        let mut section = Section::default();
        let shard_name = format!("shard_{number}");
        section.set("name", shard_name.as_str());
        section.set("servers", shard.servers);
        let dbname = shard.dbname.filter(|dbname| dbname != name);
        section.set_some("dbname", dbname);
        database.shards.push(section);
        names.push(shard_name);
    }
    names
}

/// `host:port`, for IPv6 with brackets.
pub(in crate::import) fn endpoint(host: &str, port: i64) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// Declares a table of a database with several shards whose rows are placed by `hash % shards`, or says why
/// that cannot be.
pub(in crate::import) fn table(
    database: &mut DatabaseDraft,
    names: &[String],
    table: &str,
    column: &str,
    of: HashedType,
) -> Result<(), String> {
    if let Some(obstacle) = obstacle(names.len()) {
        return Err(obstacle);
    }
    if database.remarks.is_empty() {
        database.remarks.push(
            "Rows stay where they are. Each statement has to answer 0 on every shard, with its number for \
             :shard; if it does not, the column is of another type than was written."
                .to_owned(),
        );
    }
    database.remarks.push(proof(table, column, of, names.len()));
    let mut key = toml::Table::new();
    key.insert("key".to_owned(), toml::Value::String(column.to_owned()));
    database.tables.set(table, key);
    adopt(database, names);
    Ok(())
}

/// A name as SQL would have it: quoted where it would be folded or read as something else.
pub(in crate::import) fn identifier(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    match starts && name.bytes().all(plain) {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}
