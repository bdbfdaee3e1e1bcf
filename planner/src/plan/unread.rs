//! What is planned without a tree: the tables that a statement names, found by scanning tokens.
//!
//! Every identifier that could be a table's name counts as one, so a statement is never taken
//! to concern fewer tables than it does, except through views and functions.

use std::collections::HashSet;

use super::parse::Source;
use super::refuse;
use super::scope::is_system;
use crate::catalog::{Catalog, Table, TableClass};
use crate::lexer::Kind;
use crate::plan::{Access, Pin, Plan, SessionEffect, Statement, Target};
use crate::refusal::Refusal;
use crate::topology::ShardId;

/// Plans what sqlparser cannot read.
pub(super) fn plan(source: &Source<'_>, catalog: &Catalog) -> Plan {
    if !starts_command(source) {
        return Plan {
            statement: Statement::Other,
            access: Access::Read,
            effect: SessionEffect::None,
            target: Target::AnyShard,
            reason: "no command of PostgreSQL begins like this, so any server rejects it".into(),
        };
    }
    Plan {
        statement: kind(source),
        access: Access::Write,
        effect: effect(source),
        target: target(source, catalog, Access::Write, refuse::unreadable),
        reason: "the planner cannot read it in full, so the primary runs it".into(),
    }
}

/// May PostgreSQL's grammar accept a statement that begins with this token? The words of `stmt` in
/// `gram.y`, those of versions to come that are known included.
fn starts_command(source: &Source<'_>) -> bool {
    const WORDS: &str = "abort alter analyse analyze begin call checkpoint close cluster comment \
        commit copy create deallocate declare delete discard do drop end execute explain fetch \
        grant import insert listen load lock merge move notify prepare reassign refresh reindex \
        release repack reset revoke rollback savepoint security select set show start table \
        truncate unlisten update vacuum values wait with";
    let Some(first) = source.tokens.first() else {
        return true;
    };
    match first.kind {
        Kind::Word => {
            let word = source.word(0);
            WORDS.split_ascii_whitespace().any(|known| known == word)
        }
        Kind::Open | Kind::Semicolon | Kind::Space | Kind::Comment => true,
        Kind::QuotedIdentifier
        | Kind::Param
        | Kind::Integer
        | Kind::Number
        | Kind::Junk
        | Kind::String
        | Kind::OtherString
        | Kind::Close
        | Kind::Comma
        | Kind::Other => false,
    }
}

/// What its first word says; a wrong answer of PostgreSQL's is impossible, since the text is its own.
fn kind(source: &Source<'_>) -> Statement {
    match source.word(0).as_str() {
        "select" | "values" | "table" | "with" | "" => Statement::Query,
        "insert" => Statement::Insert,
        "update" => Statement::Update,
        "delete" => Statement::Delete,
        "merge" => Statement::Merge,
        _ => Statement::Other,
    }
}

/// What it may leave on its connection, by the words in it.
fn effect(source: &Source<'_>) -> SessionEffect {
    const PINNING: [&str; 6] = ["prepare", "listen", "temp", "temporary", "load", "hold"];
    let names = |word: &str| source.has(word);
    let advisory = source.tokens.iter().enumerate().any(|(index, token)| {
        let word = source.word(index);
        token.kind == Kind::Word
            && (word.starts_with("pg_advisory_") || word.starts_with("pg_try_advisory_"))
            && !word.contains("_xact_")
    });
    if names("set_config") {
        return SessionEffect::Pin(Pin::Setting);
    }
    if names("currval") || names("lastval") {
        return SessionEffect::Pin(Pin::Sequence);
    }
    if advisory || PINNING.iter().any(|word| names(word)) || source.names_temporary() {
        return SessionEffect::Pin(Pin::Unknown);
    }
    SessionEffect::Taint("the planner cannot tell what it leaves behind")
}

/// Where a statement of which only the names are known may run.
pub(super) fn target(
    source: &Source<'_>,
    catalog: &Catalog,
    access: Access,
    refusal: fn() -> Refusal,
) -> Target {
    if !catalog.is_sharded() {
        return Target::AnyShard;
    }
    if has_unread_name(source) {
        return Target::Refused(refusal());
    }
    let tables = tables(source, catalog);
    if let Some(table) = tables
        .iter()
        .find(|table| table.class == TableClass::Undeclared)
    {
        return Target::Refused(refuse::undeclared(table));
    }
    let reference_only = !tables.is_empty()
        && tables
            .iter()
            .all(|table| table.class == TableClass::Reference);
    match shard_of(&tables) {
        Some(shard) => Target::OneShard(shard),
        None if reference_only && access != Access::Write => Target::AnyShard,
        None => Target::Refused(refusal()),
    }
}

/// The one shard that has all of the named tables, if they are of class single.
pub(super) fn single_shard(source: &Source<'_>, catalog: &Catalog) -> Option<ShardId> {
    if has_unread_name(source) {
        return None;
    }
    shard_of(&tables(source, catalog))
}

/// `U&"…"` may be any table's name.
fn has_unread_name(source: &Source<'_>) -> bool {
    (0..source.tokens.len()).any(|index| {
        source.tokens[index].kind == Kind::QuotedIdentifier && source.name(index).is_none()
    })
}

fn shard_of(tables: &[&Table]) -> Option<ShardId> {
    let mut shards = tables.iter().map(|table| match table.class {
        TableClass::Single(shard) => Some(shard),
        TableClass::Sharded { .. } | TableClass::Reference | TableClass::Undeclared => None,
    });
    let first = shards.next()??;
    shards.all(|shard| shard == Some(first)).then_some(first)
}

/// The table named at token `index`, with or without a schema.
pub(super) fn named_table<'c>(
    source: &Source<'_>,
    catalog: &'c Catalog,
    index: usize,
) -> Option<&'c Table> {
    let name = source.name(index)?;
    let dotted = source
        .tokens
        .get(index + 1)
        .is_some_and(|token| source.text(token) == ".");
    match source.name(index + 2) {
        Some(table) if dotted => catalog.table(Some(&name), &table),
        Some(_) | None => catalog.table(None, &name),
    }
}

/// Every table of the catalog whose name stands anywhere in the text, in whatever schema.
pub(super) fn tables<'c>(source: &Source<'_>, catalog: &'c Catalog) -> Vec<&'c Table> {
    let names: HashSet<_> = (0..source.tokens.len())
        .filter_map(|index| source.name(index))
        .collect();
    catalog
        .tables()
        .filter(|table| !is_system(Some(&table.schema), &table.name) && names.contains(&table.name))
        .collect()
}
