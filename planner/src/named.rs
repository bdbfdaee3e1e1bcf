//! The sharding keys that one execution names, for statistics: which of them are hot.

use crate::hash;
use crate::key::{self, Datum, Reading};
use crate::limit::{KeyValue, Limit, Part, TableLimit};
use crate::placement::Placement;
use crate::plan::{Plan, Target};
use crate::route::Values;
use crate::topology::{ShardId, Topology};

/// A key as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// The value as PostgreSQL would write it; of a key of several columns, parted by commas.
    pub text: String,
    /// Of a key that is placed by hash.
    pub slot: Option<u16>,
    pub shard: ShardId,
}

/// At most `most` of the keys that `plan` is routed by with these values. Those of the first table
/// only: others are joined to it by the key. Values that are computed, ranges and keys of type
/// numeric are left out.
pub fn named_keys(
    plan: &Plan,
    values: Values<'_>,
    topology: &Topology,
    most: usize,
) -> Vec<NamedKey> {
    let mut found = Vec::new();
    if let Target::Keys { keys, many: _ } = &plan.target
        && let Some(table) = keys.tables.first()
    {
        add(table, &table.limit, values, topology, most, &mut found);
    }
    found
}

fn add(
    table: &TableLimit,
    limit: &Limit,
    values: Values<'_>,
    topology: &Topology,
    most: usize,
    found: &mut Vec<NamedKey>,
) {
    match limit {
        Limit::Each(parts) | Limit::Rows(parts) => {
            let combined = matches!(limit, Limit::Each(_)) && parts.len() > 1;
            let rows = parts.first().map_or(0, |part| part.values.len());
            if combined && parts.iter().any(|part| part.values.len() != 1) {
                return;
            }
            for index in 0..rows {
                if let [part] = parts.as_slice()
                    && let Some(KeyValue::Elements(value)) = part.values.get(index)
                {
                    let elements = key::elements(value, &part.column, values);
                    for datum in elements.ok().flatten().into_iter().flatten() {
                        push(table, &[(datum, part)], topology, most, found);
                    }
                    continue;
                }
                let column = |part| Some((datum(part, index, values)?, part));
                if let Some(row) = parts.iter().map(column).collect::<Option<Vec<_>>>() {
                    push(table, &row, topology, most, found);
                }
                if found.len() >= most {
                    return;
                }
            }
        }
        Limit::AnyOf(limits) => {
            for limit in limits {
                add(table, limit, values, topology, most, found);
            }
        }
        Limit::AllOf(limits) => {
            if let Some(limit) = limits.first() {
                add(table, limit, values, topology, most, found);
            }
        }
        Limit::Within(_) => {}
    }
}

fn datum<'v>(part: &'v Part, index: usize, values: Values<'v>) -> Option<Datum<'v>> {
    match part.values.get(index)? {
        KeyValue::One(value) | KeyValue::Alike(value) => {
            match key::read(value, &part.column, values).ok()? {
                Reading::Is(datum) => Some(datum),
                Reading::Null | Reading::Nowhere | Reading::Unclear => None,
            }
        }
        KeyValue::Computed(_) | KeyValue::Elements(_) => None,
    }
}

fn push(
    table: &TableLimit,
    row: &[(Datum<'_>, &Part)],
    topology: &Topology,
    most: usize,
    found: &mut Vec<NamedKey>,
) {
    if found.len() >= most {
        return;
    }
    let columns: Vec<&Datum<'_>> = row.iter().map(|(datum, _)| datum).collect();
    let Some(shard) = topology.owner_of(table.placement, &columns) else {
        return;
    };
    let texts = row.iter().map(|(datum, part)| written(datum, part));
    let Some(texts) = texts.collect::<Option<Vec<_>>>() else {
        return;
    };
    let slot = match table.placement {
        Placement::Hash => Some(hash::slot_of(columns.iter().map(|datum| datum.hash()))),
        Placement::Ranges(_) | Placement::List(_) => None,
    };
    found.push(NamedKey {
        text: texts.join(","),
        slot,
        shard,
    });
}

fn written(datum: &Datum<'_>, part: &Part) -> Option<String> {
    match datum {
        Datum::Int(value) => Some(key::written(*value, part.column.key_type)),
        Datum::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Datum::Uuid(bytes) => {
            let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            for at in [20, 16, 12, 8] {
                text.insert(at, '-');
            }
            Some(text)
        }
        Datum::Numeric(_) => None,
    }
}
