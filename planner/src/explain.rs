//! The lines that EXPLAIN (ROUTE) answers with.

use crate::copy::Rows;
use crate::gather::Gathering;
use crate::insertion::{Destination, Inserting};
use crate::merge::{Aggregate, AggregateFunction, BitOperator, Column, MergePlan, SortKey};
use crate::placement::Placement;
use crate::plan::{Access, Plan, SessionEffect, Target};
use crate::refusal::Refusal;
use crate::route::{Execution, Route, Shards, ValueRef, Values};
use crate::topology::{ShardId, ShardSet, Topology};

/// Tells where a statement goes and why, one fact per line, `name: value`. `route` is what
/// [`crate::route`] made of `plan` for the values at hand.
pub fn explain(
    plan: &Plan,
    route: Result<&Route<'_>, &Refusal>,
    topology: &Topology,
) -> Vec<String> {
    let mut lines = Vec::new();
    if let Target::Ids(ids) = &plan.target {
        lines.push(format!("ids: {}, drawn for each execution", ids.count));
        lines.push(format!("reason: {}", plan.reason));
        return lines;
    }
    match route {
        Ok(route) => {
            let where_to = match route.shards {
                Shards::Any if by_parameter(plan) => "by the parameter, known at execution".into(),
                Shards::Any | Shards::Exactly(_) => shards(&route.shards, topology),
            };
            lines.push(format!("shards: {where_to}"));
            lines.push(format!("role: {}", role(plan.access)));
            execution(&route.execution, topology, &mut lines);
            match &plan.effect {
                SessionEffect::None | SessionEffect::Releases | SessionEffect::LocalSettings => {}
                SessionEffect::Settings => {
                    lines.push("connection: asked for its settings, which follow the client".into())
                }
                SessionEffect::Taint(why) => {
                    lines.push(format!("connection: reset after use, {why}"))
                }
                SessionEffect::Pin(why) => {
                    lines.push(format!("connection: kept for the client, {}", why.why()))
                }
                SessionEffect::DiscardAll => lines.push("connection: emptied".into()),
            }
            placements(plan, topology, &mut lines);
            lines.push(format!("reason: {}", plan.reason));
        }
        Err(refusal) => {
            lines.push(format!("refused: {refusal}"));
            for (name, text) in [("detail", &refusal.detail), ("hint", &refusal.hint)] {
                if !text.is_empty() {
                    lines.push(format!("{name}: {text}"));
                }
            }
        }
    }
    lines
}

/// The rules that place keys which are not hashed.
fn placements(plan: &Plan, topology: &Topology, lines: &mut Vec<String>) {
    let Target::Keys { keys, .. } = &plan.target else {
        return;
    };
    for table in &keys.tables {
        let rule = match table.placement {
            Placement::Hash => None,
            Placement::Ranges(id) | Placement::List(id) => topology.rule(id),
        };
        lines.extend(rule.map(|rule| format!("placement: {} by {}", table.key, rule.name)));
    }
}

/// True when a parameter is a key: without its value no shard is the right one yet.
fn by_parameter(plan: &Plan) -> bool {
    match &plan.target {
        Target::Keys { keys, .. } => keys.any_param(|_| true),
        Target::Moves(moving) => moving.depends_on_parameter(),
        Target::AnyShard
        | Target::OneShard(_)
        | Target::AllShards(_)
        | Target::Ids(_)
        | Target::Refused(_) => false,
    }
}

fn shards(shards: &Shards, topology: &Topology) -> String {
    let name = |id: &ShardId| shard(*id, topology);
    match shards {
        Shards::Any => "any one".into(),
        Shards::Exactly(set) => set
            .as_slice()
            .iter()
            .map(name)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn shard(id: ShardId, topology: &Topology) -> String {
    let known = topology.shards().get(usize::from(id.0));
    known.map_or_else(|| id.0.to_string(), |shard| shard.name.clone())
}

fn role(access: Access) -> &'static str {
    match access {
        Access::Read => "replica or primary",
        Access::Write | Access::Primary => "primary",
    }
}

fn execution(way: &Execution<'_>, topology: &Topology, lines: &mut Vec<String>) {
    match way {
        Execution::Direct => lines.push("execution: as it is".into()),
        Execution::Merge {
            merge,
            sql,
            otherwise,
        } => {
            lines.push(format!("sql: {}", String::from_utf8_lossy(sql)));
            lines.extend(
                merge_steps(merge, Values::default())
                    .into_iter()
                    .map(|step| format!("merge: {step}")),
            );
            if otherwise.is_some() {
                let what = "where a type or collation is not merged, rows are gathered instead";
                lines.push(format!("otherwise: {what}"));
            }
        }
        Execution::Gather(gathering) => {
            let place = gathering.at.map(|at| shard(at, topology));
            gather(
                gathering,
                topology,
                place.as_deref().unwrap_or("one of them"),
                lines,
            );
        }
        Execution::SumTags => {
            lines.push("execution: as it is on each, row counts are added".into())
        }
        Execution::Write { gathering, on } => {
            let on = shards(&Shards::Exactly(on.clone()), topology);
            gather(gathering, topology, &on, lines);
            lines.push("execution: row counts are added".into());
        }
        Execution::Lock(merge) => {
            lines.push("execution: as it is on each, as a write, so that locks are held".into());
            let steps = merge_steps(merge, Values::default()).into_iter();
            lines.extend(steps.map(|step| format!("merge: {step}")));
        }
        Execution::Split { split, parts } => {
            lines.extend(parts.iter().map(|part| {
                let rows: Vec<_> = part.rows.iter().map(|row| (row + 1).to_string()).collect();
                let name = shards(&Shards::Exactly(ShardSet::one(part.shard)), topology);
                format!("rows of {name}: {}", rows.join(", "))
            }));
            let then = match split.returns {
                true => "row counts are added, returned rows come in the order of the rows given",
                false => "row counts are added",
            };
            lines.push(format!(
                "execution: each shard runs it with its own rows, {then}"
            ));
        }
        Execution::Insert(inserting) => insertion(inserting, topology, lines),
        Execution::Move { from, sql, .. } => {
            let from = shards(&Shards::Exactly(from.clone()), topology);
            let sql = String::from_utf8_lossy(sql);
            lines.push(format!("update: on {from}: {sql}"));
            lines.push(
                "execution: rows whose new key is another shard's are deleted and inserted there, \
                 row counts are added"
                    .into(),
            );
        }
        Execution::CopyIn(copy) => lines.push(match copy.rows {
            Rows::All => "execution: every shard gets all rows".into(),
            Rows::ByKey { .. } => "execution: each shard gets the rows with its keys".into(),
        }),
        Execution::CopyOut(_) => {
            lines.push("execution: as it is on each, their rows follow each other".into());
        }
        Execution::CopyRows(copy) => {
            execution(&copy.query, topology, lines);
            lines.push("copy: the rows are written as COPY does".into());
        }
        Execution::Explain(explained) => {
            let names = explained.asks.iter().map(|ask| shard(ask.shard, topology));
            let names: Vec<_> = names.collect();
            lines.push(format!("explain: on {}", names.join(", ")));
            lines.extend(explained.steps.iter().map(|step| format!("step: {step}")));
        }
        Execution::Cursor(declare) => lines.push(
            match declare.gathers {
                true => "execution: a cursor on one server, over gathered rows",
                false => {
                    "execution: a cursor on each, their rows are merged as FETCH asks for them"
                }
            }
            .into(),
        ),
        Execution::SameAnswer => {
            lines.push("execution: as it is on each, the first answer is the answer".into());
        }
    }
}

/// Where the query runs, and what becomes of its rows.
fn insertion(inserting: &Inserting<'_>, topology: &Topology, lines: &mut Vec<String>) {
    let query = &inserting.query;
    lines.push(format!("query: on {}", shards(&query.shards, topology)));
    execution(&query.execution, topology, lines);
    if let Some(drawing) = &inserting.drawing {
        lines.push(format!("ids: one for each row, as {}", drawing.column()));
    }
    lines.push(match &inserting.insertion.destination {
        Destination::Owners(_) if inserting.insertion.merging.is_some() => {
            "merge into: gathered rows, each on the shard of its key, row counts are added".into()
        }
        Destination::Owners(_) => {
            "insert: gathered rows, each on the shard of its key, row counts are added".into()
        }
        Destination::Everywhere => "insert: gathered rows, all on every shard".into(),
        Destination::One(one) => format!("insert: gathered rows, on {}", shard(*one, topology)),
    });
}

/// Each text that shards are asked, with the shards, and the one that runs over their rows.
fn gather(gathering: &Gathering, topology: &Topology, place: &str, lines: &mut Vec<String>) {
    let mut rest: Vec<_> = gathering.asks.iter().collect();
    while let Some(first) = rest.first().copied() {
        let (same, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|a| a.sql == first.sql);
        let names: Vec<_> = same.iter().map(|ask| shard(ask.shard, topology)).collect();
        let sql = String::from_utf8_lossy(&first.sql);
        lines.push(format!("gather: from {}: {sql}", names.join(", ")));
        rest = others;
    }
    let sql = String::from_utf8_lossy(&gathering.finish);
    lines.push(format!("finish: on {place}: {sql}"));
}

/// What happens to the shards' answers, in order.
pub(crate) fn steps(way: &Execution<'_>, values: Values<'_>) -> Vec<String> {
    match way {
        Execution::Merge { merge, .. } => merge_steps(merge, values),
        Execution::Lock(merge) => merge_steps(merge, values),
        Execution::SumTags => vec!["add row counts".into()],
        Execution::SameAnswer => vec!["take the first answer, all are alike".into()],
        Execution::Direct
        | Execution::Gather(_)
        | Execution::Write { .. }
        | Execution::Split { .. }
        | Execution::Insert(_)
        | Execution::Move { .. }
        | Execution::CopyIn(_)
        | Execution::CopyOut(_)
        | Execution::CopyRows(_)
        | Execution::Explain(_)
        | Execution::Cursor(_) => vec![],
    }
}

/// What happens to the shards' rows, in order.
fn merge_steps(merge: &MergePlan, values: Values<'_>) -> Vec<String> {
    let mut steps = Vec::new();
    if let Some(group) = &merge.group {
        let keys: Vec<_> = group.keys.iter().map(|key| column(key.column)).collect();
        if keys.is_empty() {
            steps.push("group all rows into one".into());
        } else {
            steps.push(format!("group by {}", keys.join(", ")));
        }
        steps.extend(group.aggregates.iter().map(aggregate));
    }
    if !merge.order.is_empty() {
        let order: Vec<_> = merge.order.iter().map(sort_key).collect();
        let how = if merge.shards_sorted {
            "merge sorted rows by"
        } else {
            "sort by"
        };
        steps.push(format!("{how} {}", order.join(", ")));
    }
    if merge.group.is_none() && merge.order.is_empty() {
        steps.push("take rows as they come".into());
    }
    if let Some(offset) = &merge.offset {
        steps.push(format!("skip {}", value(offset, values)));
    }
    if let Some(limit) = &merge.limit {
        steps.push(format!("limit {}", value(limit, values)));
    }
    if merge.hidden > 0 {
        steps.push(format!("drop {} hidden", merge.hidden));
    }
    steps
}

fn column(column: Column) -> String {
    match column {
        Column::FromStart(index) => format!("column {}", index + 1),
        Column::Hidden(index) => format!("hidden {}", index + 1),
    }
}

fn aggregate(aggregate: &Aggregate) -> String {
    let at = column(aggregate.column);
    match aggregate.function {
        AggregateFunction::Count => format!("{at}: add counts"),
        AggregateFunction::Sum => format!("{at}: add sums"),
        AggregateFunction::Min(_) => format!("{at}: take the least"),
        AggregateFunction::Max(_) => format!("{at}: take the greatest"),
        AggregateFunction::Avg { sum, count } => {
            format!("{at}: divide {} by {}", column(sum), column(count))
        }
        AggregateFunction::BoolAnd => format!("{at}: all true"),
        AggregateFunction::BoolOr => format!("{at}: any true"),
        AggregateFunction::Bits(BitOperator::And) => format!("{at}: bits of all"),
        AggregateFunction::Bits(BitOperator::Or) => format!("{at}: bits of any"),
        AggregateFunction::Bits(BitOperator::Xor) => format!("{at}: bits of an odd number"),
    }
}

fn sort_key(key: &SortKey) -> String {
    let direction = if key.descending { " descending" } else { "" };
    let nulls = if key.nulls_first { "first" } else { "last" };
    format!("{}{direction} nulls {nulls}", column(key.column))
}

/// Literals by their number where their values are not at hand.
fn value(value: &ValueRef, values: Values<'_>) -> String {
    match value {
        ValueRef::Literal { piece, negative } => {
            let sign = if *negative { "minus " } else { "" };
            let text = values.pieces.get(*piece);
            let text = text.and_then(|piece| values.sql.get(piece.range.clone()));
            match text {
                Some(text) => format!("{sign}{}", String::from_utf8_lossy(text)),
                None => format!("{sign}literal {}", piece + 1),
            }
        }
        ValueRef::Param(index) => format!("${}", index + 1),
        ValueRef::Text(text) => text.clone(),
        ValueRef::Null => "NULL".into(),
    }
}
