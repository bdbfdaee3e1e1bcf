//! What gives a key its shard: PostgreSQL's partition hash and the ring, ranges, or a list.

use std::collections::HashMap;

use crate::catalog::KeyType;
use crate::key::{self, Datum, Reading};
use crate::topology::{ShardId, ShardSet};

/// How a table's rows are placed. Tables with one placement and one key type are co-located.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Placement {
    /// By hash, slots and the ring.
    Hash,
    /// By the ranges of a rule.
    Ranges(RuleId),
    /// By the list of a rule.
    List(RuleId),
}

/// A rule's position in [`crate::Topology::rules`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleId(pub u16);

/// A named rule that places keys without hashing them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub name: String,
    pub mapping: Mapping,
    /// Where keys live that the mapping does not name; `None` leaves them without a shard.
    pub default: Option<ShardId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapping {
    /// In ascending order, disjoint. Values as [`KeyType`] `of` has them: integers, a date's days or
    /// a timestamp's microseconds since 2000-01-01.
    Ranges { of: KeyType, ranges: Vec<Range> },
    /// Integers.
    Integers(HashMap<i64, ShardId>),
    /// Texts, as bytes.
    Texts(HashMap<Vec<u8>, ShardId>),
}

/// `from` is within, `to` is not; `None` is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub from: Option<i64>,
    pub to: Option<i64>,
    pub shard: ShardId,
}

impl Range {
    /// Does it hold any value from `low` to `high`, both included?
    fn meets(&self, low: i64, high: i64) -> bool {
        self.from.is_none_or(|from| from <= high) && self.to.is_none_or(|to| low < to)
    }
}

impl Rule {
    /// Can it place keys of this type?
    pub fn takes(&self, key_type: KeyType) -> bool {
        match &self.mapping {
            Mapping::Ranges { of, .. } => key_type.hashes_like(*of),
            Mapping::Integers(_) => key_type.is_integer(),
            Mapping::Texts(_) => matches!(key_type, KeyType::Text | KeyType::Bpchar),
        }
    }

    /// The placement of tables that go by this rule, the `id`-th.
    pub fn placement(&self, id: RuleId) -> Placement {
        match self.mapping {
            Mapping::Ranges { .. } => Placement::Ranges(id),
            Mapping::Integers(_) | Mapping::Texts(_) => Placement::List(id),
        }
    }

    pub(crate) fn owner(&self, key: &Datum<'_>) -> Option<ShardId> {
        let named = match (&self.mapping, key) {
            (Mapping::Ranges { ranges, .. }, Datum::Int(value)) => {
                // The first that does not end before the value.
                let at = ranges.partition_point(|range| range.to.is_some_and(|to| to <= *value));
                let range = ranges.get(at).filter(|range| range.meets(*value, *value));
                range.map(|range| range.shard)
            }
            (Mapping::Integers(list), Datum::Int(value)) => list.get(value).copied(),
            (Mapping::Texts(list), Datum::Bytes(bytes)) => list.get(&**bytes).copied(),
            (Mapping::Ranges { .. } | Mapping::Integers(_) | Mapping::Texts(_), _) => None,
        };
        named.or(self.default)
    }

    /// The shards of all keys from `low` to `high`, both included; `None` where it has no order.
    pub(crate) fn owners(&self, low: i64, high: i64) -> Option<ShardSet> {
        let Mapping::Ranges { ranges, .. } = &self.mapping else {
            return None;
        };
        let mut shards = ShardSet::default();
        if low > high {
            return Some(shards);
        }
        // The least value that no range so far holds.
        let mut uncovered = Some(low);
        for range in ranges.iter().filter(|range| range.meets(low, high)) {
            shards.insert(range.shard);
            let from = range.from.unwrap_or(i64::MIN);
            if let (Some(least), Some(default)) = (uncovered, self.default)
                && least < from
            {
                shards.insert(default);
            }
            uncovered = range.to;
        }
        if let (Some(least), Some(default)) = (uncovered, self.default)
            && least <= high
        {
            shards.insert(default);
        }
        Some(shards)
    }

    /// A bound of its ranges as PostgreSQL would write it.
    pub fn written(&self, value: i64) -> String {
        let of = match &self.mapping {
            Mapping::Ranges { of, .. } => *of,
            Mapping::Integers(_) | Mapping::Texts(_) => KeyType::Int8,
        };
        key::written(value, of)
    }

    /// Values that no shard is named for, as (from, to) with `to` left out; empty with a default and
    /// for lists.
    pub fn gaps(&self) -> Vec<(Option<i64>, Option<i64>)> {
        let (Mapping::Ranges { ranges, .. }, None) = (&self.mapping, self.default) else {
            return Vec::new();
        };
        let mut gaps = Vec::new();
        let mut open = None;
        for (index, range) in ranges.iter().enumerate() {
            let gap = if index == 0 {
                range.from.is_some()
            } else {
                range.from != open
            };
            if gap {
                gaps.push((open, range.from));
            }
            open = range.to;
        }
        if open.is_some() || ranges.is_empty() {
            gaps.push((open, None));
        }
        gaps
    }
}

/// A value of a range's bound, from text that no server reads differently.
pub fn value_of(key_type: KeyType, text: &str) -> Option<i64> {
    match key::from_text(text.as_bytes(), key_type) {
        Ok(Reading::Is(Datum::Int(value))) => Some(value),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(ranges: &[(Option<i64>, Option<i64>, u16)], default: Option<u16>) -> Rule {
        let range = |(from, to, shard): &(Option<i64>, Option<i64>, u16)| Range {
            from: *from,
            to: *to,
            shard: ShardId(*shard),
        };
        Rule {
            name: "by_number".into(),
            mapping: Mapping::Ranges {
                of: KeyType::Int8,
                ranges: ranges.iter().map(range).collect(),
            },
            default: default.map(ShardId),
        }
    }

    /// Against every value of a small world.
    #[test]
    fn owners_are_those_of_every_value_between() {
        let cases = [
            rule(
                &[
                    (None, Some(0), 0),
                    (Some(0), Some(5), 1),
                    (Some(8), None, 2),
                ],
                None,
            ),
            rule(
                &[
                    (None, Some(0), 0),
                    (Some(0), Some(5), 1),
                    (Some(8), None, 2),
                ],
                Some(3),
            ),
            rule(
                &[
                    (Some(-3), Some(2), 0),
                    (Some(2), Some(4), 1),
                    (Some(4), Some(6), 0),
                ],
                Some(2),
            ),
            rule(&[(Some(-3), Some(2), 0)], None),
            rule(&[], Some(1)),
        ];
        for rule in cases {
            for low in -10..12 {
                for high in -10..12 {
                    let mut expected = ShardSet::default();
                    for shard in (low..=high).filter_map(|v| rule.owner(&Datum::Int(v))) {
                        expected.insert(shard);
                    }
                    assert_eq!(
                        rule.owners(low, high),
                        Some(expected),
                        "{low} {high} {rule:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_ends_of_all_integers_have_owners() {
        let rule = rule(&[(None, Some(0), 0), (Some(0), None, 1)], None);
        assert_eq!(rule.owner(&Datum::Int(i64::MIN)), Some(ShardId(0)));
        assert_eq!(rule.owner(&Datum::Int(i64::MAX)), Some(ShardId(1)));
        assert_eq!(rule.owners(i64::MIN, i64::MAX), Some(ShardSet::all(2)));
    }

    #[test]
    fn gaps_are_what_no_range_holds() {
        let gaps = |ranges| rule(ranges, None).gaps();
        assert_eq!(gaps(&[(None, Some(0), 0), (Some(0), None, 1)]), []);
        assert_eq!(
            gaps(&[(Some(-3), Some(0), 0), (Some(5), Some(9), 1)]),
            [(None, Some(-3)), (Some(0), Some(5)), (Some(9), None)]
        );
        assert_eq!(gaps(&[]), [(None, None)]);
        assert_eq!(rule(&[], Some(0)).gaps(), []);
    }
}
