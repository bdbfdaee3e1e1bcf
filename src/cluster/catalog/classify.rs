//! From the shards' schemas and the declared table classes to the planner's catalog, and what is
//! wrong between them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use planner::catalog::{Function, KeyType, RelationKind, Table, TableClass, TableColumn};
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
    pub collation: Collation,
    pub not_null: bool,
}

pub struct Classified {
    pub catalog: Catalog,
    pub findings: Vec<Finding>,
}

/// Builds the catalog. `schemas` is by shard; `None` is a shard that could not be read yet.
pub fn classify(
    rules: &BTreeMap<TableName, TableRule>,
    schemas: &[Option<&ShardSchema>],
    version: u64,
) -> Classified {
    let classifier = Classifier { rules, schemas };
    let mut catalog = Catalog::new(version, schemas.len());
    let mut findings = Vec::new();
    if let Some(schema) = schemas.iter().flatten().next() {
        catalog.search_path.clone_from(&schema.search_path);
    }
    for schema in schemas.iter().flatten() {
        for (name, function) in &schema.functions {
            catalog.add_function(name, *function);
        }
    }
    for name in classifier.names() {
        let (table, found) = classifier.table(name);
        findings.extend(found.into_iter().map(|(kind, text)| Finding { kind, text }));
        if let Some(table) = table {
            catalog.add_table(table);
        }
    }
    Classified { catalog, findings }
}

type Found = Vec<(FindingKind, String)>;

struct Classifier<'a> {
    rules: &'a BTreeMap<TableName, TableRule>,
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

    fn is_complete(&self) -> bool {
        self.schemas.iter().all(Option::is_some)
    }

    /// The relation with its class, `None` when it exists nowhere, and what is wrong with it.
    fn table(&self, name: &TableName) -> (Option<Table>, Found) {
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

    fn declared_but_missing(&self, name: &TableName) -> Found {
        if !self.is_complete() {
            return Found::new();
        }
        mistake(format!(
            "Table {} is declared but exists on no shard.",
            dotted(name)
        ))
    }

    fn undeclared(&self, name: &TableName, copies: &[(ShardId, &Relation)]) -> (TableClass, Found) {
        match copies {
            [(only, _)] if self.is_complete() => (TableClass::Single(*only), Found::new()),
            [(_, relation), ..] if relation.kind == RelationKind::Table => {
                let text = format!(
                    "Table {} exists on {} shards and is declared nowhere: statements that name \
                     it are refused.",
                    dotted(name),
                    copies.len()
                );
                (TableClass::Undeclared, vec![(FindingKind::Notice, text)])
            }
            // Sequences and views come with the tables; a statement that names one is told.
            _ => (TableClass::Undeclared, Found::new()),
        }
    }

    fn check_single(
        &self,
        name: &TableName,
        shard: ShardId,
        copies: &[(ShardId, &Relation)],
    ) -> Found {
        let mut found = Found::new();
        if self.missing_on(name).contains(&shard) {
            found.push((
                FindingKind::Mistake,
                format!(
                    "Table {} is declared to live on shard {} but does not exist there.",
                    dotted(name),
                    shard.0
                ),
            ));
        }
        if copies.iter().any(|(on, _)| *on != shard) {
            found.push((
                FindingKind::Notice,
                format!(
                    "Table {} is declared to live on shard {} but exists on others too: rows \
                     there are not seen.",
                    dotted(name),
                    shard.0
                ),
            ));
        }
        found
    }

    /// A table that every shard must have, with the same columns.
    fn check_everywhere(&self, name: &TableName, copies: &[(ShardId, &Relation)]) -> Found {
        let mut found = Found::new();
        for shard in self.missing_on(name) {
            found.push((
                FindingKind::Mistake,
                format!(
                    "Table {} does not exist on shard {}.",
                    dotted(name),
                    shard.0
                ),
            ));
        }
        let Some(((base, first), others)) = copies.split_first() else {
            return found;
        };
        for (shard, other) in others {
            if let Some(difference) = difference(first, other) {
                found.push((
                    FindingKind::Mistake,
                    format!(
                        "Table {} differs between shards {} and {}: {difference}.",
                        dotted(name),
                        base.0,
                        shard.0
                    ),
                ));
            }
        }
        found
    }

    fn sharded(
        &self,
        name: &TableName,
        key: &str,
        copies: &[(ShardId, &Relation)],
    ) -> (TableClass, Found) {
        let mut found = self.check_everywhere(name, copies);
        let mut types = Vec::new();
        for (shard, relation) in copies {
            match key_type(relation, key) {
                Ok(key_type) => types.push(key_type),
                Err(why) => {
                    let text = format!(
                        "Table {} cannot be sharded by column {key} on shard {}: {why}.",
                        dotted(name),
                        shard.0
                    );
                    found.push((FindingKind::Mistake, text));
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

fn planner_table(name: &TableName, relation: &Relation, class: TableClass) -> Table {
    let column = |column: &Column| TableColumn {
        name: column.name.clone(),
        type_oid: column.type_oid,
        collation: column.collation,
        not_null: column.not_null,
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

fn mistake(text: String) -> Found {
    vec![(FindingKind::Mistake, text)]
}

fn dotted(name: &TableName) -> String {
    format!("{}.{}", name.0, name.1)
}
