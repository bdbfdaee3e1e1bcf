//! Utility statements, told by their leading keywords as PostgreSQL's grammar tells them.
//!
//! sqlparser reads too few of them to be asked.

use std::borrow::Cow;

use super::parse::Source;
use super::{copying, cursors, functions, keys, prepared, refuse, unread};
use crate::catalog::{Catalog, KeyType, Table, TableClass};
use crate::explained::Explain;
use crate::ids;
use crate::key::oid;
use crate::lexer::Kind;
use crate::plan::{
    Access, Many, Pin, Plan, PlanOptions, Savepoint, SessionEffect, SetStatement, Statement,
    Target, TransactionMode, Within, inner as plan_inner,
};
use crate::refusal::Refusal;
use crate::topology::ShardId;

/// The plan of a utility statement; `None` for what is none.
pub(super) fn plan(
    source: &Source<'_>,
    catalog: &Catalog,
    options: PlanOptions<'_>,
) -> Option<Plan> {
    if !is_utility(source) {
        return None;
    }
    let planned = match source.word(0).as_str() {
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => {
            transaction(source)
        }
        "prepare" if source.is(1, "transaction") => two_phase(),
        "set" => set(source),
        "reset" => reset(source),
        "show" => session(Statement::Show(setting_name(source, 1).0)),
        "discard" if source.is(1, "all") => {
            effect(SessionEffect::DiscardAll, "DISCARD ALL empties the session")
        }
        "discard" => effect(SessionEffect::Releases, "it empties a part of the session"),
        "prepare" => prepared::prepare(source).map_or_else(as_it_is, on_primary),
        "execute" => prepared::execute(source).map_or_else(as_it_is, on_primary),
        "deallocate" => prepared::deallocate(source).map_or_else(as_it_is, on_primary),
        "listen" => match source.name(1) {
            Some(channel) if source.is_last(1) => on_primary(Statement::Listen(channel)),
            Some(_) | None => as_it_is(),
        },
        "unlisten" => match (source.name(1), token_text(source, 1)) {
            (_, "*") if source.is_last(1) => on_primary(Statement::Unlisten(None)),
            (Some(channel), _) if source.is_last(1) => {
                on_primary(Statement::Unlisten(Some(channel)))
            }
            (Some(_) | None, _) => as_it_is(),
        },
        "notify" => Plan {
            statement: Statement::Notify,
            ..on_first_shard(writes("all sessions must meet on one shard"))
        },
        "load" => pinned(Pin::Loaded),
        "declare" => cursors::declare(source, catalog, options),
        "fetch" | "move" => primary("a cursor lives in its transaction"),
        "close" => effect(SessionEffect::Releases, "a cursor lives in its transaction"),
        "lock" => lock(source, catalog),
        "copy" => copying::plan(source, catalog, options),
        "explain" => explain(source, catalog, options),
        "do" => unknown_code("DO runs code that is not known here", catalog),
        "call" => unknown_code("CALL runs a procedure that is not known here", catalog),
        "create" => create(source, catalog),
        "vacuum" => ddl(source, catalog, false),
        "drop" => Plan {
            effect: SessionEffect::Releases,
            ..ddl(source, catalog, is_transactional(source))
        },
        "alter" | "reindex" | "cluster" => ddl(source, catalog, is_transactional(source)),
        "analyze" | "analyse" | "comment" | "grant" | "revoke" | "truncate" | "refresh"
        | "checkpoint" | "security" | "reassign" | "import" => ddl(source, catalog, true),
        _ => unread::plan(source, catalog),
    };
    Some(planned)
}

/// Is it none of the statements that PostgreSQL's planner plans?
pub(super) fn is_utility(source: &Source<'_>) -> bool {
    const OPTIMIZABLE: [&str; 9] = [
        "", "select", "insert", "update", "delete", "with", "values", "table", "merge",
    ];
    !OPTIMIZABLE.contains(&source.word(0).as_str())
}

fn session(statement: Statement) -> Plan {
    Plan {
        statement,
        access: Access::Read,
        effect: SessionEffect::None,
        target: Target::AnyShard,
        reason: "the session itself acts on it".into(),
    }
}

/// The session acts on it; should it have to be routed, it runs on the primary.
fn on_primary(statement: Statement) -> Plan {
    Plan {
        access: Access::Primary,
        ..session(statement)
    }
}

fn two_phase() -> Plan {
    Plan {
        access: Access::Write,
        reason: "it ends or hands over a transaction of the primary".into(),
        ..session(Statement::TwoPhase)
    }
}

pub(super) fn other(
    access: Access,
    effect: SessionEffect,
    reason: impl Into<Cow<'static, str>>,
) -> Plan {
    Plan {
        statement: Statement::Other,
        access,
        effect,
        target: Target::AnyShard,
        reason: reason.into(),
    }
}

fn effect(effect: SessionEffect, reason: &'static str) -> Plan {
    other(Access::Primary, effect, reason)
}

pub(super) fn pinned(pin: Pin) -> Plan {
    other(Access::Primary, SessionEffect::Pin(pin), pin.why())
}

/// A text that PostgreSQL itself has to say something about.
fn as_it_is() -> Plan {
    primary("PostgreSQL tells what is wrong with it")
}

fn primary(reason: &'static str) -> Plan {
    other(Access::Primary, SessionEffect::None, reason)
}

fn writes(reason: &'static str) -> Plan {
    other(Access::Write, SessionEffect::None, reason)
}

fn on_first_shard(plan: Plan) -> Plan {
    Plan {
        target: Target::OneShard(ShardId(0)),
        ..plan
    }
}

fn transaction(source: &Source<'_>) -> Plan {
    let prepared = || source.is(1, "prepared");
    let chains =
        source.has("chain") && !source.are(source.tokens.len().saturating_sub(2), &["no", "chain"]);
    match source.word(0).as_str() {
        "begin" | "start" => {
            let says = |words: &[&str]| (1..source.tokens.len()).any(|at| source.are(at, words));
            let mode = if says(&["read", "write"]) || says(&["serializable"]) {
                TransactionMode::Primary
            } else if says(&["read", "only"]) {
                TransactionMode::ReadOnly
            } else if says(&["repeatable"]) {
                TransactionMode::Snapshot
            } else {
                TransactionMode::Default
            };
            session(Statement::Begin { mode })
        }
        "savepoint" => savepoint(source, 1, Savepoint::Define),
        "release" => savepoint(source, 1, Savepoint::Release),
        "commit" | "rollback" if prepared() => two_phase(),
        "rollback" if (1..3).any(|at| source.is(at, "to")) => {
            let to = if source.is(1, "to") { 2 } else { 3 };
            savepoint(source, to, Savepoint::RollbackTo)
        }
        verb if chains => Plan {
            statement: Statement::Chain {
                commit: verb == "commit" || verb == "end",
            },
            ..effect(
                SessionEffect::Settings,
                "AND CHAIN begins the next transaction as the one that it ends",
            )
        },
        "commit" | "end" => session(Statement::Commit),
        _ => session(Statement::Rollback),
    }
}

/// `make` of the savepoint named at token `at`, or behind the word SAVEPOINT there.
fn savepoint(source: &Source<'_>, at: usize, make: fn(String) -> Savepoint) -> Plan {
    let named = at + usize::from(source.is(at, "savepoint") && !source.is_last(at));
    let name = source.name(named);
    let name = name.unwrap_or_else(|| token_text(source, named).to_owned());
    session(Statement::Savepoint(make(name)))
}

fn set(source: &Source<'_>) -> Plan {
    let local = source.is(1, "local");
    let start =
        1 + usize::from(local || (source.is(1, "session") && !source.is(2, "characteristics")));
    if source.is(1, "transaction") || source.is(1, "constraints") {
        // Every shard of the transaction has to hear of it, as of SET LOCAL.
        return set_value(source, true, source.word(1), 1);
    }
    if source.are(1, &["session", "characteristics"]) {
        return effect(
            SessionEffect::Settings,
            "it sets several defaults of the session at once",
        );
    }
    if source.are(start, &["session", "authorization"]) {
        return set_value(source, local, "session_authorization".into(), start + 2);
    }
    if source.are(start, &["time", "zone"]) {
        return set_value(source, local, "timezone".into(), start + 2);
    }
    match source.word(start).as_str() {
        "role" => return set_value(source, local, "role".into(), start + 1),
        "names" => return set_value(source, local, "client_encoding".into(), start + 1),
        "schema" => return set_value(source, local, "search_path".into(), start + 1),
        "xml" => return set_value(source, local, "xmloption".into(), start + 2),
        _ => {}
    }
    let (name, next) = setting_name(source, start);
    let assigned = source.is(next, "to") || token_text(source, next) == "=";
    if !is_whole(&name) && has_escapes(source) {
        // A custom one would be found by its name only.
        return pinned(Pin::Setting);
    }
    if !is_whole(&name) || !assigned {
        return unreadable_set();
    }
    set_value(source, local, name, next + 1)
}

/// Has each part of the name been read?
fn is_whole(name: &str) -> bool {
    !name.is_empty() && !name.ends_with('.')
}

/// `U&"…"` stands in it.
fn has_escapes(source: &Source<'_>) -> bool {
    let mut tokens = source.tokens.iter().enumerate();
    tokens.any(|(at, token)| token.kind == Kind::QuotedIdentifier && source.name(at).is_none())
}

/// PostgreSQL itself says what is wrong with it; if it is nothing, the session must not lose it.
fn unreadable_set() -> Plan {
    effect(SessionEffect::Settings, "it may change a session setting")
}

/// `SET … name` with its value from token `start` on.
fn set_value(source: &Source<'_>, local: bool, name: String, start: usize) -> Plan {
    let end = source
        .tokens
        .iter()
        .rposition(|token| token.kind != Kind::Semicolon);
    let value = match (source.tokens.get(start), end) {
        (Some(from), Some(end)) if end >= start => {
            let range = from.range.start..source.tokens[end].range.end;
            source.sql.get(range).unwrap_or_default()
        }
        _ => return unreadable_set(),
    };
    let resets = end == Some(start)
        && (source.is(start, "default") || (name == "timezone" && source.is(start, "local")));
    let value = (!resets).then(|| value.to_owned());
    session(Statement::Set(SetStatement {
        local,
        name: Some(name),
        value,
    }))
}

fn reset(source: &Source<'_>) -> Plan {
    let name = if source.is(1, "all") {
        None
    } else if source.are(1, &["time", "zone"]) {
        Some("timezone".to_owned())
    } else if source.are(1, &["session", "authorization"]) {
        Some("session_authorization".to_owned())
    } else {
        Some(setting_name(source, 1).0)
    };
    if name.as_ref().is_some_and(|name| !is_whole(name)) {
        return unreadable_set();
    }
    session(Statement::Set(SetStatement {
        local: false,
        name,
        value: None,
    }))
}

/// The name of a setting from token `start` on, in lower case, and the index behind it.
fn setting_name(source: &Source<'_>, start: usize) -> (String, usize) {
    if source.are(start, &["time", "zone"]) {
        return ("timezone".into(), start + 2);
    }
    if source.are(start, &["transaction", "isolation", "level"]) {
        return ("transaction_isolation".into(), start + 3);
    }
    let mut name = String::new();
    let mut at = start;
    while let Some(part) = source.name(at) {
        name.push_str(&part.to_lowercase());
        at += 1;
        if token_text(source, at) != "." {
            break;
        }
        name.push('.');
        at += 1;
    }
    (name, at)
}

pub(super) fn token_text<'a>(source: &Source<'a>, index: usize) -> &'a str {
    source
        .tokens
        .get(index)
        .map_or("", |token| source.text(token))
}

/// `plan`, run where the statement `inner` runs; `several` tells what becomes of it on several shards.
pub(super) fn in_place_of(
    plan: Plan,
    inner: &str,
    catalog: &Catalog,
    options: PlanOptions<'_>,
    moves: fn() -> Refusal,
    several: impl FnOnce(Many) -> Result<Many, Refusal>,
) -> Plan {
    let planned = plan_inner(inner, catalog, options);
    let access = functions::worse_access(plan.access, planned.access);
    let effect = functions::worse_effect(plan.effect, planned.effect);
    let target = match planned.target {
        Target::AnyShard => Target::AnyShard,
        Target::OneShard(shard) => Target::OneShard(shard),
        Target::Keys { keys, many } => Target::Keys {
            keys: keys::with_constants(keys, inner),
            many: several(many).unwrap_or_else(Many::Refused),
        },
        Target::AllShards(many) => several(many).map_or_else(Target::Refused, Target::AllShards),
        Target::Moves(_) => Target::Refused(moves()),
        Target::Ids(_) => Target::Refused(ids::not_drawn()),
        Target::Refused(refusal) => Target::Refused(refusal),
    };
    Plan {
        access,
        effect,
        target,
        ..plan
    }
}

fn lock(source: &Source<'_>, catalog: &Catalog) -> Plan {
    let on_one =
        |table: &&Table| matches!(table.class, TableClass::Single(_)) && !catalog.is_on_all(table);
    let names_own = (0..source.tokens.len()).any(|at| {
        source.name(at).as_deref() == Some("ringway") && token_text(source, at + 1) == "."
    });
    let target = match unread::single_shard(source, catalog) {
        _ if names_own => Target::Refused(refuse::own_schema()),
        Some(shard) => Target::OneShard(shard),
        None if unread::tables(source, catalog).iter().any(on_one) => {
            Target::Refused(refuse::lock_apart())
        }
        None => Target::AllShards(Many::SameAnswer),
    };
    // A standby grants this mode; where the lock has to be, the transaction decides.
    let mode = ["in", "access", "share", "mode"];
    let only_reads = (0..source.tokens.len()).any(|at| source.are(at, &mode));
    Plan {
        statement: Statement::LockTable,
        access: if only_reads {
            Access::Read
        } else {
            Access::Write
        },
        target,
        ..writes("LOCK takes table locks")
    }
}

/// Is it a name, or two with a dot between? With a database in front it may be any table's.
pub(super) fn is_plain_name(source: &Source<'_>, at: usize) -> bool {
    let dotted = |at: usize| token_text(source, at) == ".";
    source.name(at).is_some()
        && (!dotted(at + 1) || source.name(at + 2).is_some() && !dotted(at + 3))
}

/// Indices of the tokens outside parentheses.
pub(super) fn top_level(source: &Source<'_>) -> Vec<usize> {
    let mut depth = 0_usize;
    let mut found = Vec::new();
    for (index, token) in source.tokens.iter().enumerate() {
        if token.kind == Kind::Open {
            depth += 1;
        } else if token.kind == Kind::Close {
            depth = depth.saturating_sub(1);
        } else if depth == 0 {
            found.push(index);
        }
    }
    found
}

fn explain(source: &Source<'_>, catalog: &Catalog, options: PlanOptions<'_>) -> Plan {
    let plan = other(Access::Read, SessionEffect::None, "EXPLAIN of a statement");
    let (inner, runs) = explained(source);
    let Some(start) = source.tokens.get(inner).map(|token| token.range.start) else {
        return plan;
    };
    let end = source.tokens.last().map_or(source.sql.len(), |token| {
        let ends = token.kind == Kind::Semicolon;
        if ends {
            token.range.start
        } else {
            token.range.end
        }
    });
    let statement = start..end.max(start);
    if source
        .tokens
        .get(1)
        .is_some_and(|token| token.kind == Kind::Open)
        && source.is(2, "route")
    {
        return session(Statement::ExplainRoute { inner: statement });
    }
    if source.is(inner, "execute") {
        let within = Within::Explain { runs };
        return prepared::executed(source, inner, within).map_or_else(as_it_is, on_primary);
    }
    let text = &source.sql[statement.clone()];
    let plan = in_place_of(
        plan,
        text,
        catalog,
        options,
        refuse::explain_parts,
        |many| {
            let many = explainable(source, inner, runs, many)?;
            Ok(Many::Explain(Box::new(Explain { many, statement })))
        },
    );
    if runs {
        return plan;
    }
    // Without ANALYZE nothing is called, so nothing stays. Still only the primary explains writes:
    // a replica refuses them.
    let access = plan.access;
    Plan {
        access,
        effect: SessionEffect::None,
        ..plan
    }
}

/// A statement over several shards that each of them can explain.
///
/// # Errors
/// Names what is not explained.
fn explainable(source: &Source<'_>, inner: usize, runs: bool, many: Many) -> Result<Many, Refusal> {
    let format = (2..inner).find(|at| source.is(*at, "format"));
    if format.is_some_and(|at| !source.is(at + 1, "text")) {
        return Err(refuse::explain_format());
    }
    if source.tokens.iter().any(|token| token.kind == Kind::Param) {
        return Err(refuse::explain_parameters());
    }
    if runs && !matches!(many, Many::Merge(_) | Many::Refused(_)) {
        return Err(refuse::explain_analyze());
    }
    match many {
        Many::Refused(refusal) => Err(refusal),
        Many::Merge(_) | Many::Gather(_) | Many::SumTags | Many::Lock(_) | Many::SameAnswer => {
            Ok(many)
        }
        Many::Split(_)
        | Many::Insert(_)
        | Many::Write(_)
        | Many::CopyIn(_)
        | Many::CopyOut(_)
        | Many::CopyQuery(_)
        | Many::Explain(_) => Err(refuse::explain_parts()),
        Many::Cursor(_) => Err(refuse::unreadable()),
    }
}

/// The index at which the explained statement starts, and whether ANALYZE runs it.
fn explained(source: &Source<'_>) -> (usize, bool) {
    let opens = source
        .tokens
        .get(1)
        .is_some_and(|token| token.kind == Kind::Open);
    if !opens {
        let mut at = 1;
        while source.is(at, "analyze") || source.is(at, "analyse") || source.is(at, "verbose") {
            at += 1;
        }
        return (at, (1..at).any(|at| !source.is(at, "verbose")));
    }
    let starts_statement = |at: usize| {
        [
            "select", "insert", "update", "delete", "merge", "values", "with", "execute",
            "declare", "create",
        ]
        .iter()
        .any(|word| source.is(at, word))
    };
    if starts_statement(2) {
        return (1, false);
    }
    let close = source
        .tokens
        .iter()
        .position(|token| token.kind == Kind::Close);
    let close = close.unwrap_or(source.tokens.len());
    let runs = (2..close).any(|at| source.is(at, "analyze") || source.is(at, "analyse"));
    (close + 1, runs)
}

fn unknown_code(why: &'static str, catalog: &Catalog) -> Plan {
    let plan = other(Access::Write, SessionEffect::Taint(why), why);
    if catalog.is_sharded() {
        return Plan {
            target: Target::Refused(refuse::unknown_code()),
            ..plan
        };
    }
    plan
}

fn create(source: &Source<'_>, catalog: &Catalog) -> Plan {
    let plan = ddl(source, catalog, is_transactional(source));
    let temporary = (1..4).any(|at| source.is(at, "temp") || source.is(at, "temporary"))
        || source.names_temporary();
    if let Some(executes) = prepared::create_as(source, temporary) {
        return on_primary(executes);
    }
    if temporary {
        return Plan {
            effect: SessionEffect::Pin(Pin::Temporary),
            target: Target::Refused(refuse::temporary()),
            ..plan
        };
    }
    if !(1..4).any(|at| source.is(at, "table")) {
        return plan;
    }
    if top_level(source).into_iter().any(|at| source.is(at, "as")) {
        let target = match unread::single_shard(source, catalog) {
            Some(shard) => Target::OneShard(shard),
            None => Target::Refused(refuse::create_table_as()),
        };
        return Plan { target, ..plan };
    }
    let refers = ["references", "like", "inherits", "of"]
        .iter()
        .any(|word| source.has(word));
    if refers {
        return plan;
    }
    // Its columns may have the names of tables.
    Plan {
        target: Target::AllShards(Many::SameAnswer),
        reason: EVERYWHERE.into(),
        ..plan
    }
}

const EVERYWHERE: &str = "it changes the schema, so every shard runs it";

/// False for what PostgreSQL refuses inside a transaction block.
fn is_transactional(source: &Source<'_>) -> bool {
    let database_wide = (1..3).any(|at| {
        ["database", "tablespace", "system", "subscription"]
            .iter()
            .any(|word| source.is(at, word))
    });
    let of_schema = source.is(0, "reindex") && (1..5).any(|at| source.is(at, "schema"));
    // Of all tables; VERBOSE may stand in parentheses.
    let is_named = |at: usize| source.name(at).is_some() && !source.is(at, "verbose");
    let of_all = source.is(0, "cluster") && !(1..source.tokens.len()).any(is_named);
    !database_wide && !of_schema && !of_all && !source.has("concurrently")
}

/// Table and column of a sharding key that ALTER TABLE gives a type in which its values may belong to other
/// shards: the rows would stay where they are.
fn retyped_key<'c>(source: &Source<'_>, catalog: &'c Catalog) -> Option<(&'c str, &'c str)> {
    if !source.are(0, &["alter", "table"]) {
        return None;
    }
    let tables = unread::tables(source, catalog);
    (2..source.tokens.len()).find_map(|at| {
        if !source.is(at, "alter") {
            return None;
        }
        let named = at + 1 + usize::from(source.is(at + 1, "column"));
        let name = source.name(named)?;
        let sets = source.are(named + 1, &["set", "data", "type"]);
        let new = named + if sets { 4 } else { 2 };
        if !sets && !source.is(named + 1, "type") {
            return None;
        }
        tables.iter().find_map(|table| {
            let TableClass::Sharded(key) = &table.class else {
                return None;
            };
            let mut columns = key.columns.iter();
            let column = columns.find(|column| column.name == name)?;
            let mut types = table.columns.iter();
            let is_text = types.any(|known| known.name == name && known.type_oid == oid::TEXT);
            let kept = keeps_hash(source, new, column.key_type, is_text);
            (!kept).then_some((table.name.as_str(), column.name.as_str()))
        })
    })
}

/// Are values of a key of type `old` the same in the type at token `at`, with the same hash?
fn keeps_hash(source: &Source<'_>, at: usize, old: KeyType, is_text: bool) -> bool {
    const INTEGERS: [&str; 7] = [
        "smallint", "int2", "integer", "int", "int4", "bigint", "int8",
    ];
    let word = source.word(at);
    let end = at + 1 + usize::from(word == "character");
    let bounded = token_text(source, end) == "(";
    let same = match old {
        KeyType::Int2 | KeyType::Int4 | KeyType::Int8 => INTEGERS.contains(&&*word),
        // A bound cuts off spaces, which keys have whose type is text.
        KeyType::Text if is_text && bounded => false,
        KeyType::Text => match &*word {
            "character" => source.is(at + 1, "varying"),
            word => ["text", "varchar"].contains(&word),
        },
        KeyType::Numeric => !bounded && ["numeric", "decimal"].contains(&&*word),
        KeyType::Bpchar
        | KeyType::Uuid
        | KeyType::Date
        | KeyType::Timestamp
        | KeyType::Timestamptz
        | KeyType::Bytea => false,
    };
    same && token_text(source, end) != "[" && !source.has("using")
}

fn ddl(source: &Source<'_>, catalog: &Catalog, transactional: bool) -> Plan {
    const KEEPING: [&str; 8] = [
        "vacuum",
        "analyze",
        "analyse",
        "truncate",
        "refresh",
        "checkpoint",
        "reindex",
        "cluster",
    ];
    let statement = Statement::Ddl {
        transactional,
        alters: !KEEPING.contains(&source.word(0).as_str()),
    };
    let plan = Plan {
        statement,
        ..writes(EVERYWHERE)
    };
    if let Some((table, column)) = retyped_key(source, catalog) {
        return Plan {
            target: Target::Refused(refuse::type_of_key(table, column)),
            ..plan
        };
    }
    // Where all shards have a table of one, they keep it alike: what asks a shard for the schema may ask any.
    let mut tables = unread::tables(source, catalog).into_iter();
    let everywhere = tables.all(|table| catalog.is_on_all(table));
    match unread::single_shard(source, catalog) {
        Some(shard) if !everywhere => Plan {
            target: Target::OneShard(shard),
            reason: "it concerns tables of one shard only".into(),
            ..plan
        },
        _ => Plan {
            target: Target::AllShards(Many::SameAnswer),
            ..plan
        },
    }
}
