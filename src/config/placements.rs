//! `[databases.NAME.placements]`: rules that place keys by ranges or by a list, without hashing.

use std::collections::HashMap;

use planner::ShardId;
use planner::catalog::KeyType;
use planner::placement::{Mapping, Range, Rule, value_of};
use planner::topology::ShardWeight;
use toml::de::DeValue;

use super::Shard;
use super::database::{named_shard, shard_named};
use super::reader::{Entry, Place, Section};

const RULE_EXAMPLE: &str = "write ranges = [{ to = 100, shard = \"s1\" }, { from = 100, shard = \
                            \"s2\" }], or list = { s1 = [\"NO\"] }";
const BOUND_EXAMPLE: &str =
    "write a whole number, 2026-11-28, 2026-11-28T12:00:00 or 2026-11-28T12:00:00Z";

/// Reads the rules in the order of their names, which is that of their ids.
pub(super) fn read(section: &Section<'_>, shards: &[(Shard, ShardWeight)]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for entry in section.entries("placements").unwrap_or_default() {
        let name = entry.name.to_owned();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if name.is_empty() || !name.bytes().all(plain) {
            let what = format!("\"{name}\" cannot be written in a hint");
            section
                .mistakes()
                .add(&entry.place, what, "use letters, digits, _ and -");
        }
        if let Some(written) = section.as_section(entry.place, entry.value) {
            rules.extend(rule(name, &written, shards));
        }
    }
    rules.sort_by(|one, other| one.name.cmp(&other.name));
    rules
}

fn rule(name: String, written: &Section<'_>, shards: &[(Shard, ShardWeight)]) -> Option<Rule> {
    let default = written
        .has("default")
        .then(|| named_shard(written, "default", shards));
    let mapping = match (written.has("ranges"), written.has("list")) {
        (true, false) => ranges(written, shards)?,
        (false, true) => list(written, shards)?,
        (true, true) => {
            written.mistake("list", "ranges and list are both given", RULE_EXAMPLE);
            return None;
        }
        (false, false) => {
            let what = "neither ranges nor list";
            written.mistakes().add(written.place(), what, RULE_EXAMPLE);
            return None;
        }
    };
    Some(Rule {
        name,
        mapping,
        default: default.flatten(),
    })
}

/// A bound as it is written, and the type and value that it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bound {
    of: KeyType,
    value: i64,
}

fn ranges(written: &Section<'_>, shards: &[(Shard, ShardWeight)]) -> Option<Mapping> {
    let mut found: Vec<(Place, Range)> = Vec::new();
    let mut of = None;
    for range in written.sections("ranges")? {
        let shard = named_shard(&range, "shard", shards);
        let (from, to) = (bound(&range, "from"), bound(&range, "to"));
        for (key, bound) in [("from", from), ("to", to)] {
            let Some(bound) = bound else { continue };
            let first = *of.get_or_insert(bound.of);
            if first != bound.of {
                let what = format!(
                    "this is a {}, and an earlier bound is a {}",
                    bound.of.sql_name(),
                    first.sql_name()
                );
                range.mistake(key, what, "write all bounds of a rule alike");
            }
        }
        let (from, to) = (from.map(|b| b.value), to.map(|b| b.value));
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            let what = "the range is empty: from is in it, to is not";
            range.mistake("to", what, "write a greater value");
            continue;
        }
        let Some(shard) = shard else { continue };
        found.push((range.place().clone(), Range { from, to, shard }));
    }
    found.sort_by_key(|(_, range)| range.from);
    for pair in found.windows(2) {
        let [(_, one), (place, other)] = pair else {
            continue;
        };
        let apart = one
            .to
            .is_some_and(|to| other.from.is_some_and(|from| to <= from));
        if !apart {
            let what = "the range overlaps another one";
            written
                .mistakes()
                .add(place, what, "let it begin where the other ends");
        }
    }
    let ranges = found.into_iter().map(|(_, range)| range).collect();
    let of = of.unwrap_or(KeyType::Int8);
    Some(Mapping::Ranges { of, ranges })
}

fn bound(range: &Section<'_>, key: &'static str) -> Option<Bound> {
    let value = range.value(key)?;
    let known = match value {
        DeValue::Integer(written) => i64::from_str_radix(written.as_str(), written.radix())
            .ok()
            .map(|value| Bound {
                of: KeyType::Int8,
                value,
            }),
        DeValue::Datetime(written) => {
            let of = match (written.date, written.time, written.offset) {
                (Some(_), None, None) => Some(KeyType::Date),
                (Some(_), Some(_), None) => Some(KeyType::Timestamp),
                (Some(_), Some(_), Some(_)) => Some(KeyType::Timestamptz),
                _ => None,
            };
            of.and_then(|of| {
                let value = value_of(of, &written.to_string())?;
                Some(Bound { of, value })
            })
        }
        DeValue::String(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    };
    if known.is_none() {
        range.mistake(key, "not a bound of a range", BOUND_EXAMPLE);
    }
    known
}

fn list(written: &Section<'_>, shards: &[(Shard, ShardWeight)]) -> Option<Mapping> {
    let (mut texts, mut integers) = (HashMap::new(), HashMap::new());
    for entry in written.entries("list")? {
        let shard = shard_named(written.mistakes(), &entry.place, entry.name, shards);
        for value in values(written, &entry) {
            let Some(shard) = shard else { continue };
            let known: Option<ShardId> = match value {
                DeValue::String(text) => texts.insert(text.as_bytes().to_vec(), shard),
                DeValue::Integer(number) => {
                    let read = i64::from_str_radix(number.as_str(), number.radix());
                    if read.is_err() {
                        let what = format!("{number} is out of range");
                        written.mistakes().add(&entry.place, what, "");
                    }
                    read.ok().and_then(|number| integers.insert(number, shard))
                }
                DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_)
                | DeValue::Table(_) => {
                    let what = "only strings and whole numbers can be listed";
                    written.mistakes().add(&entry.place, what, RULE_EXAMPLE);
                    None
                }
            };
            if known.is_some() {
                let what = format!("a value of \"{}\" is listed twice", entry.name);
                written
                    .mistakes()
                    .add(&entry.place, what, "name each value once");
            }
        }
    }
    match (texts.is_empty(), integers.is_empty()) {
        (false, false) => {
            let what = "strings and whole numbers are mixed";
            written.mistake("list", what, "write the values of one type");
            None
        }
        (true, false) => Some(Mapping::Integers(integers)),
        (_, true) => Some(Mapping::Texts(texts)),
    }
}

fn values<'a>(written: &Section<'a>, entry: &Entry<'a>) -> Vec<&'a DeValue<'a>> {
    match entry.value.as_array() {
        Some(array) => array.iter().map(|item| item.get_ref()).collect(),
        None => {
            let what = "not a list of values";
            written.mistakes().add(&entry.place, what, RULE_EXAMPLE);
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::parse;
    use crate::config::{Config, TableRule};
    use planner::placement::RuleId;

    const SHARDS: &str = "[users.app]\npassword = \"x\"\n\
                          [[databases.shop.shards]]\nname = \"s1\"\nservers = \"a:1\"\n\
                          [[databases.shop.shards]]\nname = \"s2\"\nservers = \"b:1\"\n";

    fn read(extra: &str) -> Result<Config, Vec<String>> {
        let text = format!("{SHARDS}{extra}");
        parse(&text, std::path::Path::new("test.toml"), &|_| None).map_err(|errors| {
            errors
                .mistakes
                .iter()
                .map(|mistake| mistake.to_string())
                .collect()
        })
    }

    fn rules(extra: &str) -> Vec<Rule> {
        let config = read(extra).unwrap_or_else(|told| panic!("{told:?}"));
        config.databases["shop"].topology.rules().to_vec()
    }

    #[test]
    fn ranges_are_sorted_and_typed_by_their_bounds() {
        let rules = rules(
            "[databases.shop.placements.by_year]\n\
             ranges = [{ from = 2024-01-01, shard = \"s2\" }, { to = 2024-01-01, shard = \"s1\" }]\n\
             [databases.shop.placements.by_second]\ndefault = \"s1\"\n\
             ranges = [{ from = 2000-01-01T00:00:01+00:00, to = 2000-01-01T01:00:02+01:00, shard = \"s2\" }]\n\
             [databases.shop.placements.by_number]\nranges = [{ from = -5, to = 0x10, shard = \"s1\" }]\n",
        );
        let range = |from, to, shard| Range {
            from,
            to,
            shard: ShardId(shard),
        };
        let mapping = |of, ranges| Mapping::Ranges { of, ranges };
        let expected = [
            (
                "by_number",
                mapping(KeyType::Int8, vec![range(Some(-5), Some(16), 0)]),
                None,
            ),
            (
                "by_second",
                mapping(
                    KeyType::Timestamptz,
                    vec![range(Some(1_000_000), Some(2_000_000), 1)],
                ),
                Some(ShardId(0)),
            ),
            (
                "by_year",
                mapping(
                    KeyType::Date,
                    vec![range(None, Some(8766), 0), range(Some(8766), None, 1)],
                ),
                None,
            ),
        ];
        let found: Vec<_> = rules
            .iter()
            .map(|rule| (rule.name.as_str(), rule.mapping.clone(), rule.default))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn lists_and_tables_name_each_other() {
        let config = read(
            "[databases.shop.placements]\n\
             by_country = { list = { s1 = [\"NO\", \"SE\"], s2 = [\"DK\"] }, default = \"s2\" }\n\
             by_tenant = { list = { s2 = [7] } }\n\
             [databases.shop.tables]\n\
             branches = { key = \"country\", by = \"by_country\" }\n\
             parcels = { key = [\"Tenant\", \"code\"] }\n\
             [databases.shop.schemas]\nAcme = \"s1\"\n\"*\" = \"s2\"\n",
        )
        .unwrap_or_else(|told| panic!("{told:?}"));
        let shop = &config.databases["shop"];
        let rule = |table: &str| &shop.tables[&("public".to_owned(), table.to_owned())];
        assert_eq!(
            *rule("branches"),
            TableRule::Sharded {
                key: vec!["country".to_owned()],
                by: Some(RuleId(0)),
            }
        );
        assert_eq!(
            *rule("parcels"),
            TableRule::Sharded {
                key: vec!["tenant".to_owned(), "code".to_owned()],
                by: None,
            }
        );
        let tenants = HashMap::from([(7, ShardId(1))]);
        assert_eq!(shop.topology.rules()[1].mapping, Mapping::Integers(tenants));
        let schemas: Vec<_> = shop
            .schemas
            .iter()
            .map(|(s, id)| (s.as_str(), id.0))
            .collect();
        assert_eq!(schemas, [("*", 1), ("acme", 0)]);
    }

    #[test]
    fn all_mistakes_are_told() {
        let told = read(
            "[databases.shop.placements]\n\
             overlap = { ranges = [{ to = 10, shard = \"s1\" }, { from = 9, shard = \"s2\" }] }\n\
             open = { ranges = [{ shard = \"s1\" }, { from = 9, shard = \"s2\" }] }\n\
             empty = { ranges = [{ from = 3, to = 3, shard = \"s1\" }] }\n\
             mixed = { ranges = [{ to = 3, shard = \"s1\" }, { from = 2024-01-01, shard = \"s2\" }] }\n\
             text = { ranges = [{ to = \"a\", shard = \"s1\" }] }\n\
             twice = { list = { s1 = [\"a\"], s2 = [\"a\"] } }\n\
             both = { list = { s1 = [\"a\", 1] } }\n\
             nowhere = { list = { s3 = [\"a\"] }, default = \"s11\" }\n\
             none = { lst = {} }\n\
             [databases.shop.tables]\n\
             a = { key = \"x\", by = \"overlapp\" }\n\
             b = { key = [\"x\", \"y\"], by = \"empty\" }\n\
             c = { key = [\"x\", \"x\"] }\n\
             d = { shard = \"s1\", by = \"empty\" }\n\
             [databases.shop.schemas]\nacme = \"s9\"\nother = 1\n",
        )
        .expect_err("mistakes");
        let expected = [
            "placements.overlap.ranges[1]: the range overlaps another one",
            "placements.open.ranges[1]: the range overlaps another one",
            "placements.empty.ranges[0].to: the range is empty",
            "placements.mixed.ranges[1].from: this is a date, and an earlier bound is a bigint",
            "placements.text.ranges[0].to: not a bound of a range",
            "placements.twice.list.s2: a value of \"s2\" is listed twice",
            "placements.both.list: strings and whole numbers are mixed",
            "placements.nowhere.list.s3: there is no shard \"s3\"",
            "placements.nowhere.default: there is no shard \"s11\"; did you mean `s1`?",
            "placements.none: neither ranges nor list",
            "placements.none.lst: unknown key; did you mean `list`?",
            "tables.a.by: there is no placement \"overlapp\"; did you mean `overlap`?",
            "tables.b.by: a key of several columns can only be hashed",
            "tables.c.key[1]: column \"x\" is in the key twice",
            "tables.d.by: only the rows of a key are placed by a rule",
            "schemas.acme: there is no shard \"s9\"",
            "schemas.other: not a schema and its shard",
        ];
        for text in expected {
            assert!(
                told.iter().any(|line| line.contains(text)),
                "{text} in {told:#?}"
            );
        }
    }
}
