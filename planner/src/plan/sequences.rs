//! Sequences of a sharded database. One that a column of a table on one shard owns is that shard's; every
//! other is on all shards, each with a value of its own.
//!
//! pg_dump asks for their state and writes calls of setval, psql and pg_restore send these: the texts that
//! are known here. [`crate::shape::Shape`] lifts no literals out of calls, as the name decides.

use std::collections::BTreeMap;

use super::parse::Source;
use super::refuse;
use crate::catalog::{Catalog, RelationKind, Table, TableClass};
use crate::gather::{self, Gather};
use crate::lexer::Kind;
use crate::merge::{Collation, Column, MergePlan, SortKey};
use crate::plan::{Access, Many, Plan, Scatter, SessionEffect, Statement, Target};
use crate::route::{TextPiece, ValueRef};
use crate::topology::ShardId;

/// What pg_dump asks of all sequences at once, from version 18 on, token by token.
/// <https://github.com/postgres/postgres/blob/REL_18_STABLE/src/bin/pg_dump/pg_dump.c>, `collectSequences`
const OF_ALL: &str = "select seqrelid , format_type ( seqtypid , null ) , seqstart , seqincrement , seqmax , \
    seqmin , seqcache , seqcycle , last_value , is_called from pg_catalog . pg_sequence , \
    pg_get_sequence_data ( seqrelid ) order by seqrelid";
/// A row of `pg_sequences` has room for names and state. It has no `is_called`: `cycle` takes that.
const STATE: &str = "pg_catalog.pg_sequences";

/// The plan of `SELECT setval('s', …)`, `SELECT nextval('s')`, of a sequence that is read as a table, or of
/// what pg_dump asks of all.
pub(super) fn plan(source: &Source<'_>, catalog: &Catalog) -> Option<Plan> {
    if !catalog.is_sharded() || !source.is(0, "select") {
        return None;
    }
    call(source, catalog)
        .or_else(|| state(source, catalog))
        .or_else(|| states(source, catalog))
}

fn call(source: &Source<'_>, catalog: &Catalog) -> Option<Plan> {
    let qualified = source.is(1, "pg_catalog") && text(source, 2) == ".";
    let at = if qualified { 3 } else { 1 };
    let sets = source.is(at, "setval");
    if !sets && !source.is(at, "nextval") || text(source, at + 1) != "(" {
        return None;
    }
    let found = argument(source, at + 2).filter(|(_, end)| match sets {
        true => sets_constants(source, *end),
        false => text(source, *end) == ")" && source.is_last(*end),
    });
    let plan = |target, reason: &'static str| {
        Some(Plan {
            statement: Statement::Query,
            access: Access::Write,
            effect: SessionEffect::None,
            target,
            reason: reason.into(),
        })
    };
    let Some((name, _)) = found else {
        return match sets {
            true => plan(
                Target::Refused(refuse::setval()),
                "which sequence is set is not told",
            ),
            false => None,
        };
    };
    let named = Source::new(&name);
    let table = table_at(&named, catalog, 0).filter(|(_, end)| *end == named.tokens.len());
    match table.map(|(table, _)| (table.kind, &table.class)) {
        Some((RelationKind::Sequence, TableClass::Single(shard))) => {
            plan(Target::OneShard(*shard), "its sequence is on one shard")
        }
        Some((RelationKind::Sequence, _)) if sets => plan(
            Target::AllShards(Many::SameAnswer),
            "each shard has the sequence, and goes on from there",
        ),
        None if sets => plan(
            Target::Refused(refuse::unknown_table(&name)),
            "the sequence is not known",
        ),
        _ => plan(
            Target::OneShard(ShardId(0)),
            "what concerns no sharded row runs on the first shard",
        ),
    }
}

/// A plain string at token `at`, perhaps cast to regclass, and the token behind it.
fn argument(source: &Source<'_>, at: usize) -> Option<(String, usize)> {
    let token = source.tokens.get(at)?;
    if token.kind != Kind::String {
        return None;
    }
    let inner = source.text(token).strip_prefix('\'')?.strip_suffix('\'')?;
    let mut end = at + 1;
    let mut casts = 0;
    while matches!(text(source, end), ":" | "::") {
        casts += text(source, end).len();
        end += 1;
    }
    if casts == 2 {
        let qualified = source.is(end, "pg_catalog") && text(source, end + 1) == ".";
        end += if qualified { 2 } else { 0 };
        if !source.is(end, "regclass") {
            return None;
        }
        end += 1;
    }
    Some((inner.replace("''", "'"), end))
}

/// Do only a number, and perhaps true or false, follow up to the end?
fn sets_constants(source: &Source<'_>, comma: usize) -> bool {
    let negative = usize::from(text(source, comma + 1) == "-");
    let number = comma + 1 + negative;
    let is = |at: usize, kind| {
        source
            .tokens
            .get(at)
            .is_some_and(|token| token.kind == kind)
    };
    let flag = source.is(number + 2, "true") || source.is(number + 2, "false");
    let close = match is(number + 1, Kind::Comma) && flag {
        true => number + 3,
        false => number + 1,
    };
    is(comma, Kind::Comma)
        && is(number, Kind::Integer)
        && is(close, Kind::Close)
        && source.is_last(close)
}

/// `SELECT last_value, is_called FROM s`: of the shard whose sequence has come furthest.
fn state(source: &Source<'_>, catalog: &Catalog) -> Option<Plan> {
    let mut from = 1;
    while source.is(from, "last_value") || source.is(from, "is_called") {
        from += 1;
        if source.tokens.get(from)?.kind == Kind::Comma {
            from += 1;
        }
    }
    let listed = from > 1 && source.tokens[from - 1].kind != Kind::Comma;
    if !listed || !source.is(from, "from") {
        return None;
    }
    let (table, end) = table_at(source, catalog, from + 1)?;
    let everywhere = table.kind == RelationKind::Sequence && table.class == TableClass::Undeclared;
    if !everywhere || end < source.tokens.len() && !source.is_last(end - 1) {
        return None;
    }
    let name = format!("\"{}\"", table.name.replace('"', "\"\""));
    let keys = format!(
        ", {name}.last_value::pg_catalog.numeric OPERATOR(pg_catalog.*) (SELECT pg_catalog.sign(\
         seqincrement::pg_catalog.numeric) FROM pg_catalog.pg_sequence WHERE seqrelid \
         OPERATOR(pg_catalog.=) {name}.tableoid), {name}.is_called::pg_catalog.int4 "
    );
    let at = source.shape_offset(source.tokens[from].range.start);
    let whole = source.shape_offset(source.sql.len());
    let key = |hidden| SortKey {
        column: Column::Hidden(hidden),
        descending: true,
        nulls_first: false,
        collation: Collation::Bytewise,
    };
    let scatter = Scatter {
        merge: MergePlan {
            hidden: 2,
            order: vec![key(0), key(1)],
            limit: Some(ValueRef::Text("1".to_owned())),
            ..MergePlan::default()
        },
        rewrite: Some(vec![
            TextPiece::Original(0..at),
            TextPiece::Added(keys),
            TextPiece::Original(at..whole),
        ]),
        otherwise: None,
        doubtful: false,
    };
    Some(Plan {
        statement: Statement::Query,
        // A standby is ahead of what has been given.
        access: Access::Primary,
        effect: SessionEffect::None,
        target: Target::AllShards(Many::Merge(Box::new(scatter))),
        reason: "each shard has the sequence, and one has come furthest".into(),
    })
}

/// [`OF_ALL`], each as [`state`] tells it. Names say which sequences are one, as their OIDs differ between
/// shards: the text runs on the first, like all of pg_dump's questions about the schema.
fn states(source: &Source<'_>, catalog: &Catalog) -> Option<Plan> {
    let known: Vec<&str> = OF_ALL.split_ascii_whitespace().collect();
    let is_it = |(at, word): (usize, &&str)| text(source, at).eq_ignore_ascii_case(word);
    let last = known.len() - 1;
    if !known.iter().enumerate().all(is_it) || !source.is_last(last) {
        return None;
    }
    let from = known.iter().position(|word| *word == "from")?;
    let order = known.iter().position(|word| *word == "order")?;

    let mut on_one: BTreeMap<ShardId, Vec<String>> = BTreeMap::new();
    for table in catalog.tables() {
        if let (RelationKind::Sequence, TableClass::Single(shard)) = (table.kind, &table.class) {
            let name = format!("({}, {})", string(&table.schema), string(&table.name));
            on_one.entry(*shard).or_default().push(name);
        }
    }
    on_one.values_mut().for_each(|names| names.sort_unstable());
    let all: Vec<&str> = on_one.values().flatten().map(String::as_str).collect();
    let others = match all[..] {
        [] => String::new(),
        _ => format!(" WHERE (n.nspname, c.relname) NOT IN ({})", all.join(", ")),
    };
    let of_one = |(shard, names): (&ShardId, &Vec<String>)| {
        let names = names.join(", ");
        let filter = format!(" WHERE (n.nspname, c.relname) IN ({names})");
        (Some(*shard), filter)
    };
    let sources = std::iter::once((None, others)).chain(on_one.iter().map(of_one));
    let sources: Vec<_> = sources
        .map(|(on, filter)| gather::Source {
            row_type: STATE.to_owned(),
            row: format!(
                "ROW(n.nspname, c.relname, NULL, NULL, NULL, NULL, NULL, s.seqincrement, d.is_called, \
                 NULL, d.last_value)::{STATE}"
            ),
            from: vec![TextPiece::Added(format!(
                " FROM pg_catalog.pg_sequence AS s JOIN pg_catalog.pg_class AS c ON c.oid = s.seqrelid \
                 JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace, \
                 pg_catalog.pg_get_sequence_data(s.seqrelid) AS d{filter}"
            ))],
            on,
        })
        .collect();

    let added = |sql: &str| TextPiece::Added(sql.to_owned());
    let (start, end) = source.places(from + 1..order);
    let whole = source.shape_offset(source.sql.len());
    let mut finish = vec![
        TextPiece::Original(0..start),
        added(
            "pg_catalog.pg_sequence LEFT JOIN (SELECT DISTINCT ON (c.oid) c.oid AS sequence, s.last_value, \
             s.cycle AS is_called FROM pg_catalog.unnest(",
        ),
    ];
    for at in 0..sources.len() {
        finish.push(added(if at == 0 { "" } else { " || " }));
        finish.push(TextPiece::Rows(at));
        finish.push(TextPiece::Added(format!("::{STATE}[]")));
    }
    finish.push(added(
        ") AS s JOIN pg_catalog.pg_class AS c ON c.relname = s.sequencename JOIN pg_catalog.pg_namespace AS n \
         ON n.oid = c.relnamespace AND n.nspname = s.schemaname ORDER BY c.oid, s.last_value::numeric * \
         sign(s.increment_by::numeric) DESC NULLS LAST, s.cycle DESC) AS state ON state.sequence = seqrelid",
    ));
    finish.push(TextPiece::Original(end..whole));
    Some(Plan {
        statement: Statement::Query,
        access: Access::Primary,
        effect: SessionEffect::None,
        target: Target::AllShards(Many::Gather(Box::new(Gather {
            sources,
            finish,
            at: Some(ShardId(0)),
            params: 0,
        }))),
        reason: "each shard has sequences, and one has come furthest".into(),
    })
}

/// As a literal.
fn string(name: &str) -> String {
    let name = name.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{name}'")
}

/// The table named at token `at`, and the token behind its name.
fn table_at<'c>(
    source: &Source<'_>,
    catalog: &'c Catalog,
    at: usize,
) -> Option<(&'c Table, usize)> {
    let first = source.name(at)?;
    if text(source, at + 1) != "." {
        return Some((catalog.table(None, &first)?, at + 1));
    }
    let second = source.name(at + 2)?;
    Some((catalog.table(Some(&first), &second)?, at + 3))
}

fn text<'a>(source: &Source<'a>, at: usize) -> &'a str {
    super::utility::token_text(source, at)
}
