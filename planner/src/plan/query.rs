//! Where a SELECT (or VALUES, or WITH) runs.

use std::borrow::Cow;
use std::collections::HashSet;

use sqlparser::ast::{Query, Select, SetExpr};

use super::facts::{Facts, Input};
use super::keys::{Clauses, Pin};
use super::{colocated, gather, physical, picks, refuse, scatter, with_writes};
use crate::limit::KeySet;
use crate::merge::MergePlan;
use crate::plan::{Access, Many, Scatter, Target};
use crate::refusal::Refusal;
use crate::topology::ShardId;

pub(super) type Decision = (Target, Cow<'static, str>);

pub(super) fn target(query: &Query, facts: &Facts<'_>, input: Input<'_>) -> Decision {
    if let Some(table) = facts.undeclared() {
        return refused(refuse::undeclared(table));
    }
    if facts.writes > 0
        && let Some(decision) = with_writes::target(query, facts, input)
    {
        return decision;
    }
    if facts.writes > 0 && facts.has_reference() {
        return refused(refuse::write_inside());
    }
    if let Some(table) = facts.unknown.first() {
        return refused(refuse::unknown_table(table));
    }
    if !facts.has_sharded() {
        return match unsharded_tables(facts) {
            (Target::Refused(refusal), _) => gathered(query, None, refusal, facts, input),
            decision => decision,
        };
    }
    if let Some((single, _)) = facts.singles().next() {
        let sharded = facts
            .sharded()
            .next()
            .map_or("", |table| table.name.as_str());
        let refusal = refuse::single_tables_apart(&single.name, sharded);
        return gathered(query, None, refusal, facts, input);
    }
    simple(query, facts, input).unwrap_or_else(|| {
        let refusal = refuse::not_one_shard("a query of this kind");
        let keys = joint_keys(&facts.pins, facts);
        gathered(query, keys, refusal, facts, input)
    })
}

/// A query that nothing else answers: over gathered rows, or refused.
fn gathered(
    query: &Query,
    keys: Option<KeySet>,
    refusal: Refusal,
    facts: &Facts<'_>,
    input: Input<'_>,
) -> Decision {
    let gather = gather::plan(query, facts, refusal, input);
    let many = gather.map_or_else(Many::Refused, |gather| Many::Gather(Box::new(gather)));
    match (keys, many) {
        (Some(keys), many) => by_keys(keys, many),
        (None, Many::Refused(refusal)) => refused(refusal),
        (None, many) => (
            Target::AllShards(many),
            "no one shard has all its rows, so they are gathered".into(),
        ),
    }
}

pub(super) fn refused(refusal: crate::Refusal) -> Decision {
    let reason = refusal.detail.clone();
    (Target::Refused(refusal), reason)
}

/// A statement whose tables are not spread over the shards.
pub(super) fn unsharded_tables(facts: &Facts<'_>) -> Decision {
    let mut singles = facts.singles();
    let Some((first, shard)) = singles.next() else {
        return match facts.conduct.access {
            Access::Read => (Target::AnyShard, "every shard gives the same answer".into()),
            // Sequences, advisory locks and row locks work only if all sessions meet in one place.
            Access::Write | Access::Primary => (
                Target::OneShard(ShardId(0)),
                "what concerns no sharded row runs on the first shard".into(),
            ),
        };
    };
    match singles.find(|(_, other)| *other != shard) {
        Some((second, _)) => refused(refuse::single_tables_apart(&first.name, &second.name)),
        None => (
            Target::OneShard(shard),
            format!("table \"{}\" is on one shard", first.name).into(),
        ),
    }
}

/// One SELECT over sharded tables and tables that every shard has. `None` when sharded tables are
/// mentioned anywhere else than in its own FROM.
fn simple(query: &Query, facts: &Facts<'_>, input: Input<'_>) -> Option<Decision> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return union_all(query, facts, input);
    };
    let clauses = Clauses::new(&select.from, select.selection.as_ref(), input);
    let pins = clauses.pins();
    if query.with.is_some() || pins.is_empty() {
        return None;
    }
    let elsewhere = facts.sharded().count().checked_sub(pins.len())?;
    let tied = elsewhere > 0;
    if tied && colocated::subqueries(Some(query), select, &clauses, input) != Some(elsewhere) {
        return None;
    }
    let keys = union_of_keys(&pins);
    if facts.only_locks {
        let many = locking(query, select, &clauses, facts, input);
        let many = many.map_or_else(Many::Refused, |merge| Many::Lock(Box::new(merge)));
        return Some(match (keys, many) {
            (Some(keys), many) => by_keys(keys, many),
            (None, Many::Refused(refusal)) => refused(refusal),
            (None, many) => (
                Target::AllShards(many),
                "each shard locks the rows that it has".into(),
            ),
        });
    }
    let merged = if facts.conduct.access != Access::Read || facts.sequences {
        Err(refuse::writes_in_query())
    } else if physical::compares(&select.selection) || physical::compares(&select.from) {
        let refusal = refuse::physical_column();
        return Some(match keys {
            Some(keys) => by_keys(keys, Many::Refused(refusal)),
            None => refused(refusal),
        });
    } else if input.options.gathers {
        Err(refuse::not_one_shard("a cursor that scrolls"))
    } else if picks::picks_inside(query, input) {
        Err(refuse::not_one_shard("a subquery that picks rows"))
    } else if !clauses.is_colocated() || facts.table_functions || facts.system_tables {
        Err(refuse::not_one_shard("this join"))
    } else {
        scatter::plan(query, select, &clauses, facts.volatile, input)
    };
    let mut scatter = match merged {
        Ok(scatter) => scatter,
        Err(refusal) => {
            // As it is it may still be what each shard runs.
            let alone = !input.parsed.merges && keys.is_none();
            let as_it_is = alone.then(|| union_all(query, facts, input)).flatten();
            return as_it_is.or_else(|| Some(gathered(query, keys, refusal, facts, input)));
        }
    };
    if scatter.doubtful {
        let refusal = refuse::not_one_shard("a query of this kind");
        let gather = gather::plan(query, facts, refusal, input);
        scatter.otherwise = gather.ok().map(Box::new);
    }
    let many = Many::Merge(Box::new(scatter));
    Some(match keys {
        Some(keys) => by_keys(keys, many),
        None if tied => (
            Target::AllShards(many),
            "each subquery has the key of its outer row, so a shard has all its rows".into(),
        ),
        None => (
            Target::AllShards(many),
            "no value of the sharding key is given".into(),
        ),
    })
}

/// What becomes of the rows that each shard has locked.
///
/// # Errors
/// Names what keeps the shards from locking just those rows that one PostgreSQL would.
fn locking(
    query: &Query,
    select: &Select,
    clauses: &Clauses<'_>,
    facts: &Facts<'_>,
    input: Input<'_>,
) -> Result<MergePlan, Refusal> {
    if query.limit_clause.is_some() || query.fetch.is_some() {
        return Err(refuse::lock_with_limit());
    }
    let plain = facts.locks == 1
        && !query.locks.is_empty()
        && clauses.is_colocated()
        && !facts.has_reference()
        && !facts.table_functions
        && !facts.system_tables
        && !facts.sequences
        && !picks::picks_inside(query, input);
    if !plain {
        return Err(refuse::writes_in_query());
    }
    if physical::compares(&select.selection) || physical::compares(&select.from) {
        return Err(refuse::physical_column());
    }
    let scatter = scatter::plan(query, select, clauses, facts.volatile, input)?;
    let merge = scatter.merge;
    if merge.group.is_some() {
        return Err(refuse::writes_in_query());
    }
    let as_it_is = scatter.rewrite.is_none() && !scatter.doubtful;
    if !as_it_is || merge.hidden > 0 {
        return Err(refuse::lock_in_order());
    }
    Ok(MergePlan {
        // A row that was changed meanwhile is shown as it is now, where it stood before.
        shards_sorted: false,
        ..merge
    })
}

/// UNION ALL whose rows are each made on one shard, in no order.
fn union_all(query: &Query, facts: &Facts<'_>, input: Input<'_>) -> Option<Decision> {
    let reads = facts.conduct.access == Access::Read && !facts.sequences;
    let sound = reads
        && !input.options.gathers
        && !facts.table_functions
        && !facts.system_tables
        && !picks::picks_inside(query, input);
    let whole = colocated::is_body_alone(query)
        && colocated::union_all(&query.body, input) == Some(facts.sharded().count());
    // One shard may have all that keys of different tables ask for.
    let keyed = joint_keys(&facts.pins, facts).is_some();
    (sound && whole && !keyed).then(|| {
        let scatter = Scatter {
            merge: MergePlan::default(),
            rewrite: None,
            otherwise: None,
            doubtful: false,
        };
        (
            Target::AllShards(Many::Merge(Box::new(scatter))),
            "each row of each part is made of rows of one shard".into(),
        )
    })
}

pub(super) fn by_keys(keys: KeySet, many: Many) -> Decision {
    let key = keys.tables.first().map_or("", |table| &table.key);
    let reason = format!("{key} is limited to given values");
    (Target::Keys { keys, many }, reason.into())
}

/// The union of the keys of all sharded references, if all are limited.
pub(super) fn joint_keys(pins: &[Pin], facts: &Facts<'_>) -> Option<KeySet> {
    // A mention outside of what the pins were made from is not limited.
    if pins.len() != facts.sharded().count() {
        return None;
    }
    union_of_keys(pins)
}

/// The keys that all of `pins` are limited to.
pub(super) fn union_of_keys(pins: &[Pin]) -> Option<KeySet> {
    let mut known = HashSet::new();
    let mut tables = Vec::new();
    for pin in pins {
        for table in &pin.keys.as_ref()?.tables {
            // The usual case: a join carried the same values over.
            if known.insert((table.placement, &table.limit)) {
                tables.push(table.clone());
            }
        }
    }
    (!tables.is_empty()).then_some(KeySet { tables })
}
