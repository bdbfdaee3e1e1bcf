//! Which tables to shard by what: proposals that were planned, statement by statement, before they are made.
//!
//! Columns that hold the same things, by foreign keys and by names, are families. The family whose
//! tables, sharded by it, leave most calls on one shard is taken; then each table is tried with its other
//! columns. What counts is what the planner says of each shape, not what a name suggests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use planner::catalog::{KeyType, RelationKind};
use planner::plan::Access;
use planner::topology::ShardWeight;
use planner::{ShardId, Topology};

use super::label::{Class, Group, Planner};
use super::report::percent;
use crate::cluster::catalog::classify::{Declared, Relation, ShardSchema, TableName, classify};
use crate::config::TableRule;

/// What a server knows of a table beside its columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// As estimated by ANALYZE.
    pub rows: u64,
    /// Columns of foreign keys, each with the table and column that it refers to.
    pub refers: Vec<(String, TableName, String)>,
}

/// What proposals are made from.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    pub schema: &'a ShardSchema,
    pub facts: &'a BTreeMap<TableName, Facts>,
    pub groups: &'a [Group],
    /// How many shards are assumed.
    pub shards: usize,
    /// A table with no more rows may be the same on every shard.
    pub reference_rows: u64,
}

/// A column as a key, by itself: all other tables taken as reference tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub column: String,
    /// Calls that would be on one shard.
    pub direct: u64,
}

#[derive(Debug)]
pub struct TableAdvice {
    pub name: TableName,
    pub rows: u64,
    /// Calls of statements that name it, and those of them that write.
    pub calls: u64,
    pub writes: u64,
    /// The best first.
    pub candidates: Vec<Candidate>,
    pub rule: TableRule,
}

#[derive(Debug)]
pub struct Advice {
    /// With most calls first.
    pub tables: Vec<TableAdvice>,
    /// Tables that are co-located, with their keys.
    pub colocated: Vec<Vec<(TableName, String)>>,
    /// Calls by class with the proposal.
    pub totals: BTreeMap<Class, u64>,
    /// The shapes that are not on one shard with it, the worst class first.
    pub left: Vec<(Class, usize)>,
}

type Rules = BTreeMap<TableName, TableRule>;

/// Columns tried for one table, at most.
const MOST_CANDIDATES: usize = 8;
/// A reference table takes each write on every shard: more of them than this make it none.
const MOST_WRITES: f64 = 10.0;
const ROUNDS: usize = 2;

/// Proposes a class for every table that a statement names.
pub fn advise(given: Given<'_>) -> Advice {
    let tables: Vec<_> = given.tables().collect();
    let all: Rules = tables
        .iter()
        .map(|name| ((*name).clone(), TableRule::Reference))
        .collect();
    let base = given.classes(&all, None);
    let mut advice = Vec::new();
    let mut mentions: BTreeMap<TableName, Vec<usize>> = BTreeMap::new();
    for name in &tables {
        let named = given.mentions(name, &all, &base);
        if named.is_empty() {
            continue;
        }
        let calls = |wanted: &dyn Fn(&Group) -> bool| -> u64 {
            let groups = named
                .iter()
                .map(|at| &given.groups[*at])
                .filter(|group| wanted(group));
            groups.map(Group::calls).sum()
        };
        let mut table = TableAdvice {
            name: (*name).clone(),
            rows: given.facts.get(*name).map_or(0, |facts| facts.rows),
            calls: calls(&|_| true),
            writes: calls(&|group| group.access == Access::Write),
            candidates: Vec::new(),
            rule: TableRule::Reference,
        };
        for column in given.candidates(name, &named) {
            let mut rules = all.clone();
            rules.insert(table.name.clone(), key(&column));
            let classes = given.classes(&rules, Some(&named));
            let direct = direct(&given, &classes);
            table.candidates.push(Candidate { column, direct });
        }
        table
            .candidates
            .sort_by_key(|candidate| std::cmp::Reverse(candidate.direct));
        mentions.insert(table.name.clone(), named);
        advice.push(table);
    }
    advice.sort_by_key(|table| std::cmp::Reverse(table.calls));
    let rules = given.propose(&advice, &mentions, all);
    for table in &mut advice {
        if let Some(rule) = rules.get(&table.name) {
            table.rule = rule.clone();
        }
    }
    let classes = given.classes(&rules, None);
    let mut totals = BTreeMap::new();
    for (at, class) in &classes {
        *totals.entry(*class).or_default() += given.groups[*at].calls();
    }
    let off = |class: &Class| !matches!(class, Class::Direct | Class::Session | Class::Split);
    let mut left: Vec<_> = classes
        .iter()
        .filter(|(_, class)| off(class))
        .map(|(at, class)| (*class, *at))
        .collect();
    left.sort_by_key(|(class, at)| (*class, *at));
    Advice {
        colocated: given.colocated(&advice),
        tables: advice,
        totals,
        left,
    }
}

fn key(column: &str) -> TableRule {
    TableRule::Sharded {
        key: vec![column.to_owned()],
        by: None,
    }
}

fn key_of(rule: &TableRule) -> Option<&str> {
    match rule {
        TableRule::Sharded { key, .. } => key.first().map(String::as_str),
        TableRule::Reference | TableRule::Single(_) => None,
    }
}

fn direct(given: &Given<'_>, classes: &BTreeMap<usize, Class>) -> u64 {
    let on_one = |class: &Class| matches!(class, Class::Direct | Class::Split);
    let direct = classes.iter().filter(|(_, class)| on_one(class));
    direct.map(|(at, _)| given.groups[*at].calls()).sum()
}

impl<'a> Given<'a> {
    /// Tables that may have a class.
    fn tables(&self) -> impl Iterator<Item = &'a TableName> {
        let tables = self.schema.relations.iter().filter(|(_, relation)| {
            relation.kind == RelationKind::Table && relation.partition_of.is_none()
        });
        tables.map(|(name, _)| name)
    }

    /// The class of each shape, or of some, with these rules.
    fn classes(&self, rules: &Rules, only: Option<&[usize]>) -> BTreeMap<usize, Class> {
        let names: Vec<String> = (0..self.shards).map(|at| format!("shard_{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let none = BTreeMap::new();
        let no_schemas = BTreeMap::new();
        let declared = Declared {
            tables: rules,
            default_ids: &none,
            schemas: &no_schemas,
            placements: &[],
        };
        let schemas = vec![Some(self.schema); self.shards];
        let catalog = classify(declared, &names, &schemas, 1).catalog;
        let weight = |name: &&str| ShardWeight {
            name: (*name).to_owned(),
            weight: 1,
        };
        let topology = Topology::new(names.iter().map(weight).collect(), &[]);
        let planner = Planner {
            catalog: &catalog,
            topology: &topology,
            denial: &|_, _| None,
        };
        let every: Vec<usize> = (0..self.groups.len()).collect();
        let wanted = only.unwrap_or(&every).iter();
        wanted
            .map(|at| (*at, planner.of(&self.groups[*at].sample)))
            .collect()
    }

    /// Shapes that name the table: those that are refused where it alone is in no class.
    fn mentions(&self, name: &TableName, all: &Rules, base: &BTreeMap<usize, Class>) -> Vec<usize> {
        let mut without = all.clone();
        without.remove(name);
        let word = name.1.to_lowercase();
        let may_name = |at: &usize| self.groups[*at].sample.sql.to_lowercase().contains(&word);
        let through_views = self
            .schema
            .relations
            .values()
            .any(|relation| relation.reads.contains(name));
        let fine = base
            .iter()
            .filter(|(_, class)| !matches!(class, Class::Refused | Class::Session));
        let likely: Vec<usize> = fine
            .map(|(at, _)| *at)
            .filter(|at| through_views || may_name(at))
            .collect();
        let classes = self.classes(&without, Some(&likely));
        let refused = classes
            .into_iter()
            .filter(|(_, class)| *class == Class::Refused);
        refused.map(|(at, _)| at).collect()
    }

    /// Columns that may be keys: of the primary key, of foreign keys, then those that statements name.
    fn candidates(&self, name: &TableName, named: &[usize]) -> Vec<String> {
        let Some(relation) = self.schema.relations.get(name) else {
            return Vec::new();
        };
        let can = |column: &String| {
            let found = relation.columns.iter().find(|known| known.name == *column);
            found.is_some_and(|column| KeyType::of_oid(column.type_oid).is_some())
        };
        let primary = relation.unique.iter().filter(|unique| unique.primary);
        let mut columns: Vec<String> = primary.flat_map(|unique| unique.columns.clone()).collect();
        let refers = self
            .facts
            .get(name)
            .map_or(&[][..], |facts| facts.refers.as_slice());
        columns.extend(refers.iter().map(|(column, _, _)| column.clone()));
        let texts: Vec<_> = named
            .iter()
            .map(|at| self.groups[*at].sample.sql.to_lowercase())
            .collect();
        let is_named = |column: &str| texts.iter().any(|text| text.contains(column));
        let others = relation.columns.iter().map(|column| &column.name);
        let mut others: Vec<_> = others.filter(|column| is_named(column)).cloned().collect();
        others.sort_by_key(|column| !column.ends_with("_id"));
        columns.extend(others);
        let mut seen = BTreeSet::new();
        columns.retain(|column| can(column) && seen.insert(column.clone()));
        columns.truncate(MOST_CANDIDATES);
        columns
    }

    fn is_small(&self, table: &TableAdvice) -> bool {
        table.rows <= self.reference_rows && percent(table.writes, table.calls) <= MOST_WRITES
    }

    /// Calls on one shard, less those that are refused.
    fn score(&self, classes: &BTreeMap<usize, Class>) -> i64 {
        let worth = |class: &Class| match class {
            Class::Direct | Class::Split => 2,
            Class::Everywhere | Class::Merged | Class::Several | Class::Session => 0,
            Class::Gathered => -1,
            Class::Refused | Class::Unknown => -2,
        };
        let calls = |at: &usize| i64::try_from(self.groups[*at].calls()).unwrap_or(i64::MAX / 4);
        classes
            .iter()
            .map(|(at, class)| worth(class) * calls(at))
            .sum()
    }

    fn propose(
        &self,
        advice: &[TableAdvice],
        mentions: &BTreeMap<TableName, Vec<usize>>,
        all: Rules,
    ) -> Rules {
        let own = |table: &TableAdvice| match table.candidates.first() {
            _ if self.is_small(table) => TableRule::Reference,
            Some(best) => key(&best.column),
            // Nothing to hash: all of it on one shard.
            None => TableRule::Single(ShardId(0)),
        };
        let mut best: Option<(i64, Rules)> = None;
        let families = self.families(advice);
        let none = vec![BTreeSet::new()];
        for family in families.iter().chain(&none) {
            let mut rules = all.clone();
            for table in advice {
                let of_family = table.candidates.iter().find(|candidate| {
                    family.contains(&(table.name.clone(), candidate.column.clone()))
                });
                let rule = match of_family {
                    // A small table that refers to the family goes along, since that costs nothing.
                    Some(candidate) => key(&candidate.column),
                    None => own(table),
                };
                rules.insert(table.name.clone(), rule);
            }
            let score = self.score(&self.classes(&rules, None));
            if best.as_ref().is_none_or(|(known, _)| score > *known) {
                best = Some((score, rules));
            }
        }
        let (_, mut rules) = best.unwrap_or((0, all));
        for _ in 0..ROUNDS {
            for table in advice {
                let Some(named) = mentions.get(&table.name) else {
                    continue;
                };
                let mut kept = self.score(&self.classes(&rules, Some(named)));
                let reference = self.is_small(table).then_some(TableRule::Reference);
                let keys = table
                    .candidates
                    .iter()
                    .map(|candidate| key(&candidate.column));
                for rule in keys.chain(reference) {
                    let mut tried = rules.clone();
                    tried.insert(table.name.clone(), rule);
                    let score = self.score(&self.classes(&tried, Some(named)));
                    if score > kept {
                        kept = score;
                        rules = tried;
                    }
                }
            }
        }
        rules
    }

    /// Columns that hold the same things: by foreign keys; `customer_id` and `id` of `customers`; and
    /// columns of one name that ends with `_id`.
    fn families(&self, advice: &[TableAdvice]) -> Vec<BTreeSet<(TableName, String)>> {
        let mut families: Vec<BTreeSet<(TableName, String)>> = Vec::new();
        let mut join = |one: (TableName, String), other: (TableName, String)| {
            let (mut with, without): (Vec<_>, Vec<_>) = std::mem::take(&mut families)
                .into_iter()
                .partition(|family| family.contains(&one) || family.contains(&other));
            families = without;
            let mut joined: BTreeSet<_> = with.drain(..).flatten().collect();
            joined.extend([one, other]);
            families.push(joined);
        };
        let mut by_name: BTreeMap<&str, (TableName, String)> = BTreeMap::new();
        for table in advice {
            for candidate in &table.candidates {
                let node = (table.name.clone(), candidate.column.clone());
                let refers = self
                    .facts
                    .get(&table.name)
                    .map_or(&[][..], |facts| facts.refers.as_slice());
                for (_, target, column) in
                    refers.iter().filter(|(own, _, _)| *own == candidate.column)
                {
                    join(node.clone(), (target.clone(), column.clone()));
                }
                let Some(stem) = candidate.column.strip_suffix("_id") else {
                    join(node.clone(), node);
                    continue;
                };
                let plurals = [format!("{stem}s"), format!("{stem}es"), stem.to_owned()];
                let of_stem = advice.iter().find(|other| plurals.contains(&other.name.1));
                if let Some(other) = of_stem
                    && other
                        .candidates
                        .iter()
                        .any(|candidate| candidate.column == "id")
                {
                    join(node.clone(), (other.name.clone(), "id".to_owned()));
                }
                let first = by_name
                    .entry(&candidate.column)
                    .or_insert_with(|| node.clone());
                join(first.clone(), node);
            }
        }
        families
    }

    /// Sharded tables by the type of their keys: equal keys of one group are on one shard.
    fn colocated(&self, advice: &[TableAdvice]) -> Vec<Vec<(TableName, String)>> {
        let mut groups: Vec<(KeyType, Vec<(TableName, String)>)> = Vec::new();
        for table in advice {
            let Some(column) = key_of(&table.rule) else {
                continue;
            };
            let Some(of) = self.key_type(&table.name, column) else {
                continue;
            };
            let member = (table.name.clone(), column.to_owned());
            match groups.iter_mut().find(|(known, _)| known.hashes_like(of)) {
                Some((_, members)) => members.push(member),
                None => groups.push((of, vec![member])),
            }
        }
        groups.into_iter().map(|(_, members)| members).collect()
    }

    fn key_type(&self, name: &TableName, column: &str) -> Option<KeyType> {
        let relation: &Relation = self.schema.relations.get(name)?;
        let column = relation.columns.iter().find(|known| known.name == column)?;
        KeyType::of_oid(column.type_oid)
    }
}

impl Advice {
    /// For people.
    pub fn text(&self, given: Given<'_>, database: &str) -> String {
        let mut out = String::new();
        let counted = self
            .totals
            .iter()
            .filter(|(class, _)| **class != Class::Session);
        let calls: u64 = counted.clone().map(|(_, calls)| calls).sum();
        let _ = writeln!(
            out,
            "database {database}: {calls} calls on {} tables, planned for {} shards\n",
            self.tables.len(),
            given.shards
        );
        for table in &self.tables {
            let _ = writeln!(
                out,
                "{}: {} rows, {} calls, {:.1} % of them write",
                dotted(&table.name),
                table.rows,
                table.calls,
                percent(table.writes, table.calls)
            );
            for candidate in &table.candidates {
                let share = percent(candidate.direct, table.calls);
                let _ = writeln!(
                    out,
                    "    by {:<24} {share:>5.1} % of its calls on one shard",
                    candidate.column
                );
            }
            let _ = writeln!(out, "    proposed: {}", said(&table.rule));
        }
        out.push('\n');
        for members in &self.colocated {
            let members: Vec<_> = members
                .iter()
                .map(|(name, column)| format!("{}.{column}", dotted(name)))
                .collect();
            let _ = writeln!(out, "co-located: {}", members.join(" = "));
        }
        out.push_str("\nwith this proposal\n");
        for (class, of_class) in counted {
            let share = percent(*of_class, calls);
            let _ = writeln!(
                out,
                "{:<10} {of_class:>10} {share:>6.1} %  {}",
                class.name(),
                class.meaning()
            );
        }
        out
    }

    /// The proposal as a part of Ringway's configuration.
    pub fn toml(&self, database: &str) -> String {
        let quoted = |key: &str| toml::Value::String(key.to_owned()).to_string();
        let mut out = format!("[databases.{}.tables]\n", quoted(database));
        for table in &self.tables {
            let name = quoted(&dotted(&table.name));
            let rule = match &table.rule {
                TableRule::Reference => "\"reference\"".to_owned(),
                TableRule::Single(_) => "{ shard = \"the name of one\" }".to_owned(),
                TableRule::Sharded { key, .. } => {
                    let key = key
                        .first()
                        .map(|column| identifier(column))
                        .unwrap_or_default();
                    format!("{{ key = {} }}", quoted(&key))
                }
            };
            let _ = writeln!(out, "{name} = {rule}");
        }
        out
    }
}

fn said(rule: &TableRule) -> String {
    match rule {
        TableRule::Reference => "reference, the same on every shard".to_owned(),
        TableRule::Single(_) => "on one shard: no column could be its key".to_owned(),
        TableRule::Sharded { key, .. } => format!("sharded by {}", key.join(", ")),
    }
}

/// As SQL would have it.
fn dotted(name: &TableName) -> String {
    match name.0.as_str() {
        "public" => identifier(&name.1),
        schema => format!("{}.{}", identifier(schema), identifier(&name.1)),
    }
}

fn identifier(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    match name.bytes().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}
