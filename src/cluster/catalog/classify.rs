//! From the shards' schemas and the declared table classes to the planner's catalog, and what is
//! wrong between them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use planner::catalog::{
    ColumnDefault, Function, KeyType, RelationKind, Suspects, Table, TableClass, TableColumn,
};
use planner::merge::Collation;
use planner::{Catalog, ShardId};

use super::{Finding, FindingKind};
use crate::config::TableRule;

/// (schema, name).
pub type TableName = (String, String);

/// One shard's schema as a server of it reported it, without system and temporary relations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardSchema {
    /// `current_schemas(false)` of the monitor's user.
    pub search_path: Vec<String>,
    pub relations: BTreeMap<TableName, Relation>,
    /// By unqualified name; the least safe of all overloads.
    pub functions: BTreeMap<String, Function>,
    pub suspects: Suspects,
    /// Names that the configuration tells of functions which do not exist.
    pub unknown_functions: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    pub kind: RelationKind,
    /// The partitioned table that it is attached to.
    pub partition_of: Option<TableName>,
    /// In attribute order.
    pub columns: Vec<Column>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// With modifiers; compares between shards, where OIDs of user types do not.
    pub type_name: String,
    /// The base type when it is a domain.
    pub type_oid: u32,
    pub is_domain: bool,
    pub collation: Collation,
    pub not_null: bool,
    pub default: ColumnDefault,
}

pub struct Classified {
    pub catalog: Catalog,
    pub findings: Vec<Finding>,
}

/// Builds the catalog. `shards` has the shards' names; in `schemas`, `None` is a shard that could
/// not be read yet. Both are by shard id.
pub fn classify(
    rules: &BTreeMap<TableName, TableRule>,
    shards: &[&str],
    schemas: &[Option<&ShardSchema>],
    version: u64,
) -> Classified {
    let classifier = Classifier {
        rules,
        shards,
        schemas,
    };
    let mut catalog = Catalog::new(version, schemas.len());
    let mut findings = Vec::new();
    if let Some(schema) = schemas.iter().flatten().next() {
        catalog.search_path.clone_from(&schema.search_path);
    }
    for schema in schemas.iter().flatten() {
        for (name, function) in &schema.functions {
            catalog.add_function(name, *function);
        }
        catalog.suspects.merge(&schema.suspects);
    }
    findings.extend(classifier.unknown_functions());
    for name in classifier.names() {
        let (table, found) = classifier.table(name);
        findings.extend(found);
        if let Some(table) = table {
            catalog.add_table(table);
        }
    }
    Classified { catalog, findings }
}

struct Classifier<'a> {
    rules: &'a BTreeMap<TableName, TableRule>,
    shards: &'a [&'a str],
    schemas: &'a [Option<&'a ShardSchema>],
}

impl<'a> Classifier<'a> {
    /// Every relation that exists or is declared.
    fn names(&self) -> BTreeSet<&'a TableName> {
        let existing = self.schemas.iter().flatten();
        existing
            .flat_map(|schema| schema.relations.keys())
            .chain(self.rules.keys())
            .collect()
    }

    /// The relation on the shards that have it.
    fn copies(&self, name: &TableName) -> Vec<(ShardId, &'a Relation)> {
        let schemas = (0..).map(ShardId).zip(self.schemas);
        schemas
            .filter_map(|(shard, schema)| Some((shard, (*schema)?.relations.get(name)?)))
            .collect()
    }

    /// Shards that were read and do not have the relation.
    fn missing_on(&self, name: &TableName) -> Vec<ShardId> {
        let schemas = (0..).map(ShardId).zip(self.schemas);
        schemas
            .filter(|(_, schema)| schema.is_some_and(|s| !s.relations.contains_key(name)))
            .map(|(shard, _)| shard)
            .collect()
    }

    /// Functions that the configuration names and no shard has.
    fn unknown_functions(&self) -> Vec<Finding> {
        let mut schemas = self.schemas.iter().flatten();
        let (Some(first), true) = (schemas.next(), self.is_complete()) else {
            return Vec::new();
        };
        let unknown = first.unknown_functions.iter();
        let missing = |name: &&String| {
            let others = schemas.clone();
            others
                .into_iter()
                .all(|schema| schema.unknown_functions.contains(*name))
        };
        unknown
            .filter(missing)
            .map(|name| {
                mistake(format!(
                    "Function {name} is listed in functions but exists on no shard."
                ))
            })
            .collect()
    }

    fn shard_name(&self, shard: ShardId) -> &'a str {
        self.shards.get(usize::from(shard.0)).unwrap_or(&"?")
    }

    fn is_complete(&self) -> bool {
        self.schemas.iter().all(Option::is_some)
    }

    /// The relation with its class, `None` when it exists nowhere, and what is wrong with it.
    fn table(&self, name: &TableName) -> (Option<Table>, Vec<Finding>) {
        let copies = self.copies(name);
        let Some((_, first)) = copies.first() else {
            return (None, self.declared_but_missing(name));
        };
        let (class, found) = match self.rule(name, first) {
            None => self.undeclared(name, &copies),
            Some(TableRule::Single(shard)) => {
                let found = self.check_single(name, *shard, &copies);
                (TableClass::Single(*shard), found)
            }
            Some(TableRule::Reference) => {
                (TableClass::Reference, self.check_everywhere(name, &copies))
            }
            Some(TableRule::Sharded { key }) => self.sharded(name, key, &copies),
        };
        let class = match self.schemas.len() {
            // One shard holds everything, whatever is declared.
            1 => TableClass::Single(ShardId(0)),
            _ => class,
        };
        (Some(planner_table(name, first, class)), found)
    }

    /// The rule for a relation: its own, else that of the partitioned table above it.
    fn rule(&self, name: &TableName, relation: &'a Relation) -> Option<&'a TableRule> {
        if let Some(rule) = self.rules.get(name) {
            return Some(rule);
        }
        let mut parent = relation.partition_of.as_ref();
        // Partitions nest a few levels at most; the bound guards against a server's nonsense.
        for _ in 0..64 {
            let name = parent?;
            if let Some(rule) = self.rules.get(name) {
                return Some(rule);
            }
            let (_, relation) = *self.copies(name).first()?;
            parent = relation.partition_of.as_ref();
        }
        None
    }

    fn declared_but_missing(&self, name: &TableName) -> Vec<Finding> {
        if !self.is_complete() {
            return Vec::new();
        }
        vec![mistake(format!(
            "Table {} is declared but exists on no shard.",
            dotted(name)
        ))]
    }

    fn undeclared(
        &self,
        name: &TableName,
        copies: &[(ShardId, &Relation)],
    ) -> (TableClass, Vec<Finding>) {
        match copies {
            [(only, _)] if self.is_complete() => (TableClass::Single(*only), Vec::new()),
            [(_, relation), ..] if relation.kind == RelationKind::Table => {
                let text = format!(
                    "Table {} exists on {} shards and is declared nowhere: statements that name \
                     it are refused.",
                    dotted(name),
                    copies.len()
                );
                (TableClass::Undeclared, vec![notice(text)])
            }
            // Sequences and views come with the tables; a statement that names one is told.
            _ => (TableClass::Undeclared, Vec::new()),
        }
    }

    fn check_single(
        &self,
        name: &TableName,
        shard: ShardId,
        copies: &[(ShardId, &Relation)],
    ) -> Vec<Finding> {
        let mut found = Vec::new();
        if self.missing_on(name).contains(&shard) {
            found.push(mistake(format!(
                "Table {} is declared to live on shard \"{}\" but does not exist there.",
                dotted(name),
                self.shard_name(shard)
            )));
        }
        if copies.iter().any(|(on, _)| *on != shard) {
            found.push(notice(format!(
                "Table {} is declared to live on shard \"{}\" but exists on others too: rows \
                     there are not seen.",
                dotted(name),
                self.shard_name(shard)
            )));
        }
        found
    }

    /// A table that every shard must have, with the same columns.
    fn check_everywhere(&self, name: &TableName, copies: &[(ShardId, &Relation)]) -> Vec<Finding> {
        let mut found = Vec::new();
        for shard in self.missing_on(name) {
            found.push(mistake(format!(
                "Table {} does not exist on shard \"{}\".",
                dotted(name),
                self.shard_name(shard)
            )));
        }
        let Some(((base, first), others)) = copies.split_first() else {
            return found;
        };
        for (shard, other) in others {
            if let Some(difference) = difference(first, other) {
                found.push(mistake(format!(
                    "Table {} differs between shards \"{}\" and \"{}\": {difference}.",
                    dotted(name),
                    self.shard_name(*base),
                    self.shard_name(*shard)
                )));
            }
        }
        found
    }

    fn sharded(
        &self,
        name: &TableName,
        key: &str,
        copies: &[(ShardId, &Relation)],
    ) -> (TableClass, Vec<Finding>) {
        let mut found = self.check_everywhere(name, copies);
        let mut types = Vec::new();
        for (shard, relation) in copies {
            match key_type(relation, key) {
                Ok(key_type) => types.push(key_type),
                Err(why) => {
                    let text = format!(
                        "Table {} cannot be sharded by column {key} on shard \"{}\": {why}.",
                        dotted(name),
                        self.shard_name(*shard)
                    );
                    found.push(mistake(text));
                }
            }
        }
        let agreed =
            types.len() == copies.len() && types.iter().all(|other| Some(other) == types.first());
        let class = match types.first() {
            Some(key_type) if agreed => TableClass::Sharded {
                key: key.to_owned(),
                key_type: *key_type,
            },
            Some(_) | None => TableClass::Undeclared,
        };
        (class, found)
    }
}

pub(super) fn planner_table(name: &TableName, relation: &Relation, class: TableClass) -> Table {
    let column = |column: &Column| TableColumn {
        name: column.name.clone(),
        type_oid: column.type_oid,
        is_domain: column.is_domain,
        collation: column.collation,
        not_null: column.not_null,
        default: column.default,
        // pg_type.dat has this OID; a domain over varchar does not show its length.
        cuts_spaces: column.type_oid == 1043 && column.type_name != "character varying",
    };
    Table {
        schema: name.0.clone(),
        name: name.1.clone(),
        class,
        columns: relation.columns.iter().map(column).collect(),
        kind: relation.kind,
    }
}

/// The type of a sharding key, or why the column cannot be one, as the end of a sentence.
fn key_type(relation: &Relation, key: &str) -> Result<KeyType, String> {
    if relation.kind != RelationKind::Table {
        return Err("it is not a table".to_owned());
    }
    let Some(column) = relation.columns.iter().find(|column| column.name == key) else {
        return Err("it has no such column".to_owned());
    };
    // pg_type.dat has these OIDs; they are the same in every PostgreSQL.
    let key_type = match column.type_oid {
        21 => KeyType::Int2,
        23 => KeyType::Int4,
        20 => KeyType::Int8,
        25 | 1043 => KeyType::Text,
        2950 => KeyType::Uuid,
        _ => {
            return Err(format!(
                "type {} is not smallint, integer, bigint, text, varchar or uuid",
                column.type_name
            ));
        }
    };
    match column.collation {
        Collation::Bytewise | Collation::Other => Ok(key_type),
        Collation::Unknown => {
            Err("its collation is nondeterministic, so equal keys have different bytes".to_owned())
        }
    }
}

/// How two copies of a table differ, as the end of a sentence.
fn difference(one: &Relation, other: &Relation) -> Option<String> {
    if one.kind != other.kind {
        return Some(format!("{:?} against {:?}", one.kind, other.kind));
    }
    if one.columns.len() != other.columns.len() {
        let (here, there) = (one.columns.len(), other.columns.len());
        return Some(format!("{here} columns against {there}"));
    }
    let mut pairs = one.columns.iter().zip(&other.columns);
    let (here, there) = pairs.find(|(here, there)| describe(here) != describe(there))?;
    Some(format!(
        "column {} against {}",
        describe(here),
        describe(there)
    ))
}

/// All of a column that has to be the same on every shard.
fn describe(column: &Column) -> String {
    let order = match column.collation {
        Collation::Bytewise => "",
        Collation::Other => " in a collation of its own",
        Collation::Unknown => " in a nondeterministic collation",
    };
    let not_null = if column.not_null { " NOT NULL" } else { "" };
    format!("{} {}{order}{not_null}", column.name, column.type_name)
}

fn mistake(text: String) -> Finding {
    let kind = FindingKind::Mistake;
    Finding { kind, text }
}

fn notice(text: String) -> Finding {
    let kind = FindingKind::Notice;
    Finding { kind, text }
}

fn dotted(name: &TableName) -> String {
    format!("{}.{}", name.0, name.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use planner::catalog::Volatility;

    const INT8: u32 = 20;
    const TEXT: u32 = 25;

    fn name(table: &str) -> TableName {
        ("public".to_owned(), table.to_owned())
    }

    fn column(name: &str, type_oid: u32) -> Column {
        Column {
            name: name.to_owned(),
            type_name: format!("type_{type_oid}"),
            type_oid,
            is_domain: false,
            collation: Collation::Bytewise,
            not_null: false,
            default: ColumnDefault::Constant,
        }
    }

    fn table(columns: &[(&str, u32)]) -> Relation {
        Relation {
            kind: RelationKind::Table,
            partition_of: None,
            columns: columns
                .iter()
                .map(|(name, oid)| column(name, *oid))
                .collect(),
        }
    }

    fn schema(relations: &[(&str, Relation)]) -> ShardSchema {
        let relations = relations.iter().cloned();
        ShardSchema {
            search_path: vec!["public".to_owned()],
            relations: relations
                .map(|(table, relation)| (name(table), relation))
                .collect(),
            ..ShardSchema::default()
        }
    }

    fn by(key: &str) -> TableRule {
        TableRule::Sharded {
            key: key.to_owned(),
        }
    }

    /// The classes of all tables and the findings' texts.
    fn check(
        rules: &[(&str, TableRule)],
        schemas: &[Option<&ShardSchema>],
    ) -> (BTreeMap<String, TableClass>, Vec<String>) {
        let rules = rules.iter().cloned();
        let rules = rules.map(|(table, rule)| (name(table), rule)).collect();
        let classified = classify(&rules, &["a", "b"], schemas, 1);
        let tables = classified.catalog.tables();
        let classes = tables.map(|t| (t.name.clone(), t.class.clone())).collect();
        let texts = classified.findings.into_iter().map(|f| f.text).collect();
        (classes, texts)
    }

    #[test]
    fn declared_tables_have_their_class_on_every_shard() {
        let both = schema(&[
            ("orders", table(&[("id", INT8), ("note", TEXT)])),
            ("users", table(&[("name", TEXT)])),
            ("country", table(&[("code", TEXT)])),
        ]);
        let rules = [
            ("orders", by("id")),
            ("users", by("name")),
            ("country", TableRule::Reference),
        ];
        let (classes, findings) = check(&rules, &[Some(&both), Some(&both)]);
        assert_eq!(findings, Vec::<String>::new());
        let sharded = |key: &str, key_type| TableClass::Sharded {
            key: key.to_owned(),
            key_type,
        };
        assert_eq!(classes["orders"], sharded("id", KeyType::Int8));
        assert_eq!(classes["users"], sharded("name", KeyType::Text));
        assert_eq!(classes["country"], TableClass::Reference);
    }

    #[test]
    fn an_undeclared_table_is_single_only_where_no_other_shard_can_have_it() {
        let a = schema(&[("both", table(&[])), ("a_only", table(&[]))]);
        let b = schema(&[("both", table(&[])), ("b_only", table(&[]))]);
        let (classes, findings) = check(&[], &[Some(&a), Some(&b)]);
        assert_eq!(classes["a_only"], TableClass::Single(ShardId(0)));
        assert_eq!(classes["b_only"], TableClass::Single(ShardId(1)));
        assert_eq!(classes["both"], TableClass::Undeclared);
        assert_eq!(findings.len(), 1, "{findings:?}");

        let (classes, _) = check(&[], &[Some(&a), None]);
        assert_eq!(classes["a_only"], TableClass::Undeclared);
    }

    #[test]
    fn with_one_shard_everything_is_single() {
        let only = schema(&[("orders", table(&[("id", INT8)])), ("log", table(&[]))]);
        let (classes, findings) = check(&[("orders", by("id"))], &[Some(&only)]);
        assert_eq!(findings, Vec::<String>::new());
        for class in classes.values() {
            assert_eq!(*class, TableClass::Single(ShardId(0)));
        }
    }

    #[test]
    fn partitions_inherit_the_class_of_the_table_above() {
        let child = |parent: &str| Relation {
            partition_of: Some(name(parent)),
            ..table(&[("id", INT8)])
        };
        let both = schema(&[
            ("orders", table(&[("id", INT8)])),
            ("orders_2026", child("orders")),
            ("orders_2026_11", child("orders_2026")),
            ("lost", child("lost")),
        ]);
        let (classes, _) = check(&[("orders", by("id"))], &[Some(&both), Some(&both)]);
        assert_eq!(classes["orders_2026"], classes["orders"]);
        assert_eq!(classes["orders_2026_11"], classes["orders"]);
        assert_eq!(classes["lost"], TableClass::Undeclared);
    }

    #[test]
    fn a_key_that_cannot_shard_leaves_the_table_undeclared_and_says_why() {
        let mut nondeterministic = table(&[("id", TEXT)]);
        nondeterministic.columns[0].collation = Collation::Unknown;
        let cases = [
            (table(&[("id", 1700)]), "type type_1700 is not"),
            (table(&[("other", INT8)]), "no such column"),
            (nondeterministic, "nondeterministic"),
        ];
        for (relation, why) in cases {
            let both = schema(&[("orders", relation)]);
            let (classes, findings) = check(&[("orders", by("id"))], &[Some(&both), Some(&both)]);
            assert_eq!(classes["orders"], TableClass::Undeclared, "{why}");
            assert_eq!(findings.len(), 2, "{findings:?}");
            assert!(findings[0].contains(why), "{findings:?}");
        }
    }

    #[test]
    fn shards_that_disagree_are_reported_all_at_once() {
        let a = schema(&[
            ("orders", table(&[("id", INT8)])),
            ("country", table(&[("code", TEXT)])),
            ("half", table(&[])),
        ]);
        let b = schema(&[
            ("orders", table(&[("id", 23)])),
            ("country", table(&[("code", TEXT), ("name", TEXT)])),
        ]);
        let rules = [
            ("orders", by("id")),
            ("country", TableRule::Reference),
            ("gone", TableRule::Reference),
            ("half", TableRule::Single(ShardId(1))),
        ];
        let (classes, findings) = check(&rules, &[Some(&a), Some(&b)]);
        assert_eq!(classes["orders"], TableClass::Undeclared);
        let expected = [
            "Table public.country differs between shards \"a\" and \"b\": 1 columns against 2.",
            "Table public.gone is declared but exists on no shard.",
            "Table public.half is declared to live on shard \"b\" but does not exist there.",
            "Table public.half is declared to live on shard \"b\" but exists on others too: rows \
             there are not seen.",
            "Table public.orders differs between shards \"a\" and \"b\": column id type_20 against \
             id type_23.",
        ];
        assert_eq!(findings, expected);
    }

    #[test]
    fn a_listed_function_that_no_shard_has_is_a_mistake() {
        let unknown = |names: &[&str]| ShardSchema {
            unknown_functions: names.iter().map(ToString::to_string).collect(),
            ..schema(&[])
        };
        let (a, b) = (unknown(&["f", "g"]), unknown(&["g"]));
        let expected = ["Function g is listed in functions but exists on no shard."];
        assert_eq!(check(&[], &[Some(&a), Some(&b)]).1, expected);
        assert!(check(&[], &[Some(&a), None]).1.is_empty());
    }

    #[test]
    fn a_function_is_as_unsafe_as_its_worst_shard() {
        let shard = |volatility| {
            let function = Function {
                volatility,
                may_write: volatility == Volatility::Volatile,
                user_defined: true,
                is_aggregate: false,
                may_read_tables: false,
            };
            ShardSchema {
                functions: BTreeMap::from([("f".to_owned(), function)]),
                ..schema(&[])
            }
        };
        let (a, b) = (shard(Volatility::Stable), shard(Volatility::Volatile));
        let classified = classify(&BTreeMap::new(), &["a", "b"], &[Some(&a), Some(&b)], 7);
        let worst = classified.catalog.function("f").map(|f| f.volatility);
        assert_eq!(worst, Some(Volatility::Volatile));
        assert_eq!(classified.catalog.version, 7);
    }
}
