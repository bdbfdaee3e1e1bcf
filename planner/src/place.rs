//! (limits, values, topology) -> shards.

use crate::copy::Misplaced;
use crate::hash;
use crate::key::{self, Datum, Reading};
use crate::limit::{Bound, Interval, KeyPart, KeySet, KeyValue, Limit, Part, TableLimit};
use crate::placement::Placement;
use crate::refusal::Refusal;
use crate::route::{ValueRef, Values};
use crate::split;
use crate::topology::{ShardId, ShardSet, Topology};

/// Combinations of the values of several columns beyond which all shards are asked instead.
const MAX_COMBINATIONS: usize = 4096;

/// Did a limit tell its shards?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Yes,
    No,
}

/// The shards that own the keys at hand; `None` when a value does not tell.
///
/// # Errors
/// As [`key::read`]; 23514 for a key to insert that no shard takes.
pub(crate) fn shards_of(
    keys: &KeySet,
    values: Values<'_>,
    topology: &Topology,
) -> Result<Option<ShardSet>, Refusal> {
    if let Some((column, value)) = keys.single_hashed() {
        // Most executions end here.
        if let Some(value) = key::plain_integer(value, column, values) {
            return Ok(Some(ShardSet::one(
                topology.owner(hash::slot_of_int(value)),
            )));
        }
        if let Reading::Is(datum) = key::read(value, column, values)? {
            let shard = topology.owner_of(Placement::Hash, &[&datum]);
            return Ok(shard.map(ShardSet::one));
        }
    }
    let mut shards = ShardSet::default();
    for table in &keys.tables {
        let at_hand = AtHand {
            table,
            values,
            topology,
        };
        if at_hand.add(&table.limit, &mut shards)? == Told::No {
            return Ok(None);
        }
    }
    Ok(Some(shards))
}

/// The shards of rows to insert, in their order; `None` for a row that every shard rejects alike.
///
/// # Errors
/// As [`shards_of`]; 0A000 for keys that are not those of rows, and for a row that does not tell.
pub(crate) fn shards_of_rows(
    keys: &KeySet,
    values: Values<'_>,
    topology: &Topology,
) -> Result<Vec<Option<ShardId>>, Refusal> {
    let [table] = keys.tables.as_slice() else {
        return Err(split::no_keys());
    };
    let parts = match &table.limit {
        Limit::Each(parts) if parts.len() == 1 => parts,
        Limit::Rows(parts) => parts,
        Limit::Each(_) | Limit::Within(_) | Limit::AnyOf(_) | Limit::AllOf(_) => {
            return Err(split::no_keys());
        }
    };
    let at_hand = AtHand {
        table,
        values,
        topology,
    };
    (0..rows_of(parts))
        .map(|index| match at_hand.row(parts, index)? {
            Row::Is(row) => at_hand.owner(&row.iter().collect::<Vec<_>>(), &parts[0]),
            Row::Nowhere => Ok(None),
            Row::Unclear => Err(key::unclear(&parts[0].column)),
        })
        .collect()
}

/// The shard of one row to insert, whose key's columns are the parameters in their order; `None`: every
/// shard rejects it alike.
///
/// # Errors
/// As [`shards_of`], and of which column.
pub(crate) fn shard_of_row(
    columns: &[KeyPart],
    placement: Placement,
    values: Values<'_>,
    topology: &Topology,
) -> Result<Option<ShardId>, Misplaced> {
    let params: Vec<_> = (0..columns.len()).map(ValueRef::Param).collect();
    let mut row = Vec::with_capacity(columns.len());
    let mut is_rejected = false;
    for (at, (column, param)) in columns.iter().zip(&params).enumerate() {
        match key::read(param, column, values).map_err(|refusal| (at, refusal))? {
            Reading::Is(datum) => row.push(datum),
            Reading::Nowhere | Reading::Null => is_rejected = true,
            Reading::Unclear => return Err((at, key::unclear(column))),
        }
    }
    if is_rejected {
        return Ok(None);
    }
    match topology.owner_of(placement, &row.iter().collect::<Vec<_>>()) {
        Some(shard) => Ok(Some(shard)),
        None => Err((0, key::no_shard(&columns[0]))),
    }
}

fn rows_of(parts: &[Part]) -> usize {
    parts.first().map_or(0, |part| part.values.len())
}

/// The key of one of several rows.
enum Row<'v> {
    Is(Vec<Datum<'v>>),
    /// Such a row is none.
    Nowhere,
    Unclear,
}

/// One table's limit in one execution.
struct AtHand<'a> {
    table: &'a TableLimit,
    values: Values<'a>,
    topology: &'a Topology,
}

impl<'a> AtHand<'a> {
    /// Adds the shards of `limit`. What was added when it did not tell means nothing.
    fn add(&self, limit: &'a Limit, shards: &mut ShardSet) -> Result<Told, Refusal> {
        match limit {
            Limit::Each(parts) => match parts.as_slice() {
                [part] => self.add_values(part, shards),
                parts => self.add_combinations(parts, shards),
            },
            Limit::Rows(parts) => self.add_rows(parts, shards),
            Limit::Within(interval) => self.add_interval(interval, shards),
            Limit::AnyOf(limits) => {
                for limit in limits {
                    if self.add(limit, shards)? == Told::No {
                        return Ok(Told::No);
                    }
                }
                Ok(Told::Yes)
            }
            Limit::AllOf(limits) => self.add_common(limits, shards),
        }
    }

    fn add_common(&self, limits: &'a [Limit], shards: &mut ShardSet) -> Result<Told, Refusal> {
        let mut common: Option<ShardSet> = None;
        for limit in limits {
            let mut found = ShardSet::default();
            if self.add(limit, &mut found)? == Told::Yes {
                common = Some(common.map_or_else(|| found.clone(), |c| c.intersect(&found)));
            }
        }
        let Some(common) = common else {
            return Ok(Told::No);
        };
        shards.extend(&common);
        Ok(Told::Yes)
    }

    /// The values of a key of one column.
    fn add_values(&self, part: &'a Part, shards: &mut ShardSet) -> Result<Told, Refusal> {
        if key::may_be_numeric(part, self.values)? {
            return Ok(Told::No);
        }
        self.each_value(part, |datum| self.insert(&[&datum], part, shards))
    }

    /// Calls `found` with every value that is none of NULL and too large.
    fn each_value(
        &self,
        part: &'a Part,
        mut found: impl FnMut(Datum<'a>) -> Result<(), Refusal>,
    ) -> Result<Told, Refusal> {
        for value in &part.values {
            match value {
                KeyValue::One(value) => match key::read(value, &part.column, self.values)? {
                    Reading::Is(datum) => found(datum)?,
                    Reading::Null | Reading::Nowhere => {}
                    Reading::Unclear => return Ok(Told::No),
                },
                KeyValue::Alike(value) => match key::read(value, &part.column, self.values)? {
                    Reading::Is(datum) => found(datum)?,
                    Reading::Nowhere => {}
                    // Rows without a key may be anywhere.
                    Reading::Null | Reading::Unclear => return Ok(Told::No),
                },
                KeyValue::Computed(computed) => {
                    match key::compute(computed, &part.column, self.values)? {
                        Reading::Is(datum) => found(datum)?,
                        Reading::Null | Reading::Nowhere => {}
                        Reading::Unclear => return Ok(Told::No),
                    }
                }
                KeyValue::Elements(value) => {
                    let elements = key::elements(value, &part.column, self.values)?;
                    let Some(elements) = elements else {
                        return Ok(Told::No);
                    };
                    elements.into_iter().try_for_each(&mut found)?;
                }
            }
        }
        Ok(Told::Yes)
    }

    /// Any value of each column with any of the others.
    fn add_combinations(&self, parts: &'a [Part], shards: &mut ShardSet) -> Result<Told, Refusal> {
        let mut columns: Vec<Vec<Datum<'a>>> = Vec::with_capacity(parts.len());
        for part in parts {
            let mut column = Vec::new();
            let told = self.each_value(part, |datum| {
                column.push(datum);
                Ok(())
            })?;
            if told == Told::No {
                return Ok(Told::No);
            }
            columns.push(column);
        }
        let mut count: usize = 1;
        for column in &columns {
            count = count.saturating_mul(column.len());
        }
        if count > MAX_COMBINATIONS {
            return Ok(Told::No);
        }
        let mut row: Vec<&Datum<'_>> = Vec::with_capacity(columns.len());
        for index in 0..count {
            let mut rest = index;
            row.clear();
            for column in &columns {
                row.push(&column[rest % column.len()]);
                rest /= column.len();
            }
            self.insert(&row, &parts[0], shards)?;
        }
        Ok(Told::Yes)
    }

    /// The n-th values of all columns.
    fn add_rows(&self, parts: &'a [Part], shards: &mut ShardSet) -> Result<Told, Refusal> {
        for index in 0..rows_of(parts) {
            match self.row(parts, index)? {
                Row::Is(row) => {
                    let row: Vec<_> = row.iter().collect();
                    self.insert(&row, &parts[0], shards)?;
                }
                Row::Nowhere => {}
                Row::Unclear => return Ok(Told::No),
            }
        }
        Ok(Told::Yes)
    }

    /// The n-th values of all columns.
    fn row(&self, parts: &'a [Part], index: usize) -> Result<Row<'a>, Refusal> {
        let mut row = Vec::with_capacity(parts.len());
        for part in parts {
            let reading = match part.values.get(index) {
                Some(KeyValue::One(value)) => key::read(value, &part.column, self.values)?,
                Some(KeyValue::Computed(computed)) => {
                    key::compute(computed, &part.column, self.values)?
                }
                Some(KeyValue::Alike(_) | KeyValue::Elements(_)) | None => Reading::Unclear,
            };
            match reading {
                Reading::Is(datum) => row.push(datum),
                Reading::Null | Reading::Nowhere => return Ok(Row::Nowhere),
                Reading::Unclear => return Ok(Row::Unclear),
            }
        }
        Ok(Row::Is(row))
    }

    fn add_interval(&self, interval: &Interval, shards: &mut ShardSet) -> Result<Told, Refusal> {
        let Placement::Ranges(rule) = self.table.placement else {
            return Ok(Told::No);
        };
        let column = &interval.column;
        let low = self.bound(interval.low.as_ref(), column, i64::MIN, 1)?;
        let high = self.bound(interval.high.as_ref(), column, i64::MAX, -1)?;
        let (low, high) = match (low, high) {
            // No row compares with NULL.
            (End::Nothing, _) | (_, End::Nothing) => return Ok(Told::Yes),
            (End::Unclear, End::Unclear) => return Ok(Told::No),
            (End::At(low), End::At(high)) => (low, high),
            (End::At(low), End::Unclear) => (low, i64::MAX),
            (End::Unclear, End::At(high)) => (i64::MIN, high),
        };
        let rule = self.topology.rule(rule);
        match rule.and_then(|rule| rule.owners(low, high)) {
            Some(found) => {
                shards.extend(&found);
                Ok(Told::Yes)
            }
            None => Ok(Told::No),
        }
    }

    /// One end of an interval; `inwards` is the step from an excluded value to the next.
    fn bound(
        &self,
        bound: Option<&Bound>,
        column: &KeyPart,
        open: i64,
        inwards: i64,
    ) -> Result<End, Refusal> {
        let Some(bound) = bound else {
            return Ok(End::At(open));
        };
        Ok(match key::read(&bound.value, column, self.values)? {
            Reading::Is(Datum::Int(value)) if bound.inclusive => End::At(value),
            Reading::Is(Datum::Int(value)) => {
                value.checked_add(inwards).map_or(End::Nothing, End::At)
            }
            Reading::Null => End::Nothing,
            Reading::Is(Datum::Bytes(_) | Datum::Uuid(_) | Datum::Numeric(_))
            | Reading::Nowhere
            | Reading::Unclear => End::Unclear,
        })
    }

    fn insert(
        &self,
        row: &[&Datum<'_>],
        part: &Part,
        shards: &mut ShardSet,
    ) -> Result<(), Refusal> {
        if let Some(shard) = self.owner(row, part)? {
            shards.insert(shard);
        }
        Ok(())
    }

    /// # Errors
    /// 23514 for a key to insert that no shard takes.
    fn owner(&self, row: &[&Datum<'_>], part: &Part) -> Result<Option<ShardId>, Refusal> {
        match self.topology.owner_of(self.table.placement, row) {
            None if part.column.insert.is_some() => Err(key::no_shard(&part.column)),
            owner => Ok(owner),
        }
    }
}

/// An end of an interval.
enum End {
    At(i64),
    /// Nothing is within.
    Nothing,
    Unclear,
}
