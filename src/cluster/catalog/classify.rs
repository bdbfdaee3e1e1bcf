//! From the shards' schemas and the declared table classes to the planner's catalog, and what is
//! wrong between them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use planner::catalog::{
    ColumnDefault, Function, Keeps, KeyColumn, KeyType, RelationKind, ShardKey, Suspects, Table,
    TableClass, TableColumn,
};
use planner::merge::Collation;
use planner::placement::{Placement, Rule, RuleId};
use planner::plan::{Many, PlanOptions, Target, plan};
use planner::{Catalog, ShardId};

use super::immovable::{self, Immovable};
use super::{Finding, FindingKind, checks, comments};
use crate::config::TableRule;

/// OID of varchar in pg_type.dat.
const VARCHAR: u32 = 1043;

const INT8: u32 = 20;
const NUMERIC: u32 = 1700;

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
    /// Policies, each as a query of the rows that it lets through, with their tables.
    pub policies: Vec<(TableName, String)>,
    /// Names that the configuration tells of functions which do not exist.
    pub unknown_functions: BTreeSet<String>,
    /// Table `ringway.epoch` is there, and may be read and written.
    pub has_epoch: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    pub kind: RelationKind,
    /// The partitioned table that it is attached to.
    pub partition_of: Option<TableName>,
    /// In attribute order.
    pub columns: Vec<Column>,
    /// By name.
    pub unique: Vec<Unique>,
    pub comment: Option<String>,
    /// Of a view: the relations that it mentions itself, PostgreSQL's own left out. Of a sequence: the
    /// table whose column owns it.
    pub reads: Vec<TableName>,
    pub immovable: Immovable,
}

/// A unique index, and what it is over; an expression has no column's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    pub name: String,
    pub columns: Vec<String>,
    pub primary: bool,
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
    pub generated_from: Option<Vec<String>>,
}

pub struct Classified {
    pub catalog: Catalog,
    pub findings: Vec<Finding>,
}

/// What the configuration says of tables.
#[derive(Debug, Clone, Copy)]
pub struct Declared<'a> {
    pub tables: &'a BTreeMap<TableName, TableRule>,
    /// Columns that get ids by default.
    pub default_ids: &'a BTreeMap<TableName, String>,
    /// The shards of whole schemas; `*` is every one but public.
    pub schemas: &'a BTreeMap<String, ShardId>,
    pub placements: &'a [Rule],
}

/// Builds the catalog. `shards` has the shards' names; in `schemas`, `None` is a shard that could
/// not be read yet. Both are by shard id.
pub fn classify(
    declared: Declared<'_>,
    shards: &[&str],
    schemas: &[Option<&ShardSchema>],
    version: u64,
) -> Classified {
    let classifier = Classifier {
        declared,
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
    findings.extend(classifier.gaps());
    for name in classifier.names() {
        let (table, found) = classifier.table(name);
        findings.extend(found);
        if let Some(table) = table {
            catalog.add_table(table);
        }
    }
    let mut spread = Vec::new();
    for name in classifier.names() {
        let copies = classifier.copies(name);
        let said = copies.iter().map(|(_, copy)| &copy.immovable);
        let class = catalog
            .table(Some(&name.0), &name.1)
            .map(|table| &table.class);
        let on_all = copies.len() == schemas.len() && schemas.len() > 1;
        if on_all && matches!(class, Some(TableClass::Single(_))) {
            spread.push(name);
        }
        let relations = copies.iter().map(|(_, copy)| *copy);
        let keyless = class.map(|class| checks::keyless_unique(class, relations));
        if let Some(keyless) = keyless.filter(|keyless| !keyless.is_empty()) {
            catalog.set_keyless_unique(&name.0, &name.1, keyless);
        }
        if let Some(why) = immovable::why(name, said, &catalog) {
            catalog.set_immovable(&name.0, &name.1, &why);
        }
    }
    for (schema, table) in spread {
        catalog.set_on_all(schema, table);
    }
    let policies = schemas.iter().flatten().flat_map(|schema| &schema.policies);
    let mut known = None;
    // A policy that reads a table is under the policies of that table.
    while schemas.len() > 1 && known != Some(catalog.suspects.policed.len()) {
        known = Some(catalog.suspects.policed.len());
        for (table, query) in policies.clone() {
            if !is_answered_by_each(query, &catalog)
                && catalog.suspects.policed.insert(table.1.clone())
            {
                findings.push(notice(format!(
                    "A policy of table {} may need rows of other shards: statements that name the \
                     table are refused.",
                    dotted(table)
                )));
            }
        }
    }
    for (name, column) in declared.default_ids {
        // A table that does not exist was found above.
        let Some(table) = catalog.table(Some(&name.0), &name.1) else {
            continue;
        };
        match default_id_type(table, column) {
            Ok(()) => catalog.set_default_id(&name.0, &name.1, column),
            Err(why) => findings.push(mistake(format!(
                "Column {column} of table {} cannot get ids by default: {why}.",
                dotted(name)
            ))),
        }
    }
    Classified { catalog, findings }
}

/// Has the shard with a row all that the query needs to give it?
fn is_answered_by_each(query: &str, catalog: &Catalog) -> bool {
    match plan(query, catalog, PlanOptions::default()).target {
        Target::AnyShard | Target::OneShard(_) => true,
        Target::AllShards(many) | Target::Keys { many, .. } => matches!(many, Many::Merge(_)),
        Target::Moves(_) | Target::Ids(_) | Target::Refused(_) => false,
    }
}

/// May ids be written into the column?
///
/// # Errors
/// Why not, as the end of a sentence.
fn default_id_type(table: &Table, column: &str) -> Result<(), &'static str> {
    let column = table.columns.iter().find(|known| known.name == column);
    match column.ok_or("it does not exist")?.type_oid {
        INT8 | NUMERIC => Ok(()),
        _ => Err("it is neither bigint nor numeric"),
    }
}

struct Classifier<'a> {
    declared: Declared<'a>,
    shards: &'a [&'a str],
    schemas: &'a [Option<&'a ShardSchema>],
}

impl<'a> Classifier<'a> {
    /// Every relation that exists or is declared.
    fn names(&self) -> BTreeSet<&'a TableName> {
        let existing = self.schemas.iter().flatten();
        existing
            .flat_map(|schema| schema.relations.keys())
            .chain(self.declared.tables.keys())
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
        let (rule, mut found) = self.rule(name, first);
        let (class, about) = match rule {
            None => self.undeclared(name, &copies),
            Some(TableRule::Single(shard)) => {
                let found = self.check_single(name, shard, &copies);
                (TableClass::Single(shard), found)
            }
            Some(TableRule::Reference) => {
                (TableClass::Reference, self.check_everywhere(name, &copies))
            }
            Some(TableRule::Sharded { key, by }) => self.sharded(name, &key, by, &copies),
        };
        found.extend(about);
        let class = match class {
            TableClass::Single(shard) if self.schemas.len() > 1 => {
                match self.read_elsewhere(name, shard) {
                    Some(other) => {
                        found.push(notice(format!(
                        "View {} reads {}, which is not on one shard with it: statements that name \
                         the view are refused.",
                        dotted(name),
                        dotted(&other)
                    )));
                        TableClass::Undeclared
                    }
                    None => TableClass::Single(shard),
                }
            }
            other => other,
        };
        let is_table = first.kind == RelationKind::Table && first.partition_of.is_none();
        if self.schemas.len() > 1 && is_table && !self.missing_on(name).is_empty() {
            found.extend(self.unseen(name, &class));
        }
        if self.schemas.len() > 1 {
            let default_id = self.declared.default_ids.get(name);
            found.extend(checks::of_table(name, first, &class, default_id));
        }
        let class = match self.schemas.len() {
            // One shard holds everything, whatever is declared.
            1 => TableClass::Single(ShardId(0)),
            _ => class,
        };
        (Some(planner_table(name, first, class)), found)
    }

    /// A table of one shard that the first one does not have.
    fn unseen(&self, name: &TableName, class: &TableClass) -> Option<Finding> {
        let first = ShardId(0);
        let missing = self.missing_on(name).contains(&first);
        match class {
            TableClass::Single(shard) if missing && *shard != first => Some(notice(format!(
                "Table {} does not exist on shard \"{}\", which is asked for the schema: pg_dump and \\d \
                 do not find it.",
                dotted(name),
                self.shard_name(first)
            ))),
            _ => None,
        }
    }

    /// What a view reads, itself or through other views, whose rows are not all on `shard`; `None`
    /// also where it is declared there itself. Views may read each other in circles.
    fn read_elsewhere(&self, name: &TableName, shard: ShardId) -> Option<TableName> {
        if self.own_rule(name).0.is_some() {
            return None;
        }
        let reads = |name: &TableName| {
            let copies = self.copies(name);
            let here = copies.iter().find(|(on, _)| *on == shard);
            let copy = here.or(copies.first());
            copy.map_or(&[][..], |(_, relation)| &relation.reads)
        };
        let mut seen = BTreeSet::new();
        let mut pending: Vec<_> = reads(name).iter().collect();
        while let Some(read) = pending.pop() {
            if !seen.insert(read) {
                continue;
            }
            let copies = self.copies(read);
            let Some((_, relation)) = copies.iter().find(|(on, _)| *on == shard) else {
                return Some(read.clone());
            };
            let (rule, _) = self.rule(read, relation);
            let is_here = match rule {
                Some(TableRule::Single(other)) => other == shard,
                Some(TableRule::Reference) => true,
                Some(TableRule::Sharded { .. }) => false,
                // Views have no rows of their own.
                None => {
                    let is_alone = copies.len() == 1 && self.is_complete();
                    relation.kind == RelationKind::View || is_alone
                }
            };
            if !is_here {
                return Some(read.clone());
            }
            if self.own_rule(read).0.is_none() {
                pending.extend(&relation.reads);
            }
        }
        None
    }

    /// The rule for a relation: its own, else that of the partitioned table above it, else that of
    /// its schema; and what is wrong with what a comment says.
    fn rule(&self, name: &TableName, relation: &'a Relation) -> (Option<TableRule>, Vec<Finding>) {
        let (own, found) = self.own_rule(name);
        if own.is_some() {
            return (own, found);
        }
        let mut parent = relation.partition_of.as_ref();
        // Partitions nest a few levels at most; the bound guards against a server's nonsense.
        for _ in 0..64 {
            let Some(name) = parent else { break };
            let (rule, _) = self.own_rule(name);
            if rule.is_some() {
                return (rule, found);
            }
            let copies = self.copies(name);
            parent = copies
                .first()
                .and_then(|(_, relation)| relation.partition_of.as_ref());
        }
        let schemas = self.declared.schemas;
        let others = schemas.get("*").filter(|_| name.0 != "public");
        let shard = schemas.get(&name.0).or(others);
        (shard.map(|shard| TableRule::Single(*shard)), found)
    }

    /// What is declared for a table itself: by the configuration, else by comments that agree.
    fn own_rule(&self, name: &TableName) -> (Option<TableRule>, Vec<Finding>) {
        let configured = self.declared.tables.get(name);
        let comments: Vec<_> = self
            .copies(name)
            .into_iter()
            .map(|(shard, relation)| {
                let comment = relation.comment.as_deref().unwrap_or_default();
                let rule = comments::rule(comment, self.shards, self.declared.placements);
                (shard, rule)
            })
            .collect();
        let wrong = comments.iter().find_map(|(shard, rule)| match rule {
            Some(Err(why)) => Some((shard, why)),
            Some(Ok(_)) | None => None,
        });
        if let Some((shard, why)) = wrong {
            let text = format!(
                "The comment on table {} on shard \"{}\" tells no class: {why}.",
                dotted(name),
                self.shard_name(*shard)
            );
            return (configured.cloned(), vec![mistake(text)]);
        }
        let mut rules = comments
            .iter()
            .map(|(_, rule)| rule.as_ref().and_then(|r| r.as_ref().ok()));
        let first = rules.next().flatten();
        if rules.any(|other| other != first) {
            let text = format!(
                "The comments on table {} differ between shards in its class.",
                dotted(name)
            );
            return (configured.cloned(), vec![mistake(text)]);
        }
        match (configured, first) {
            (Some(rule), Some(comment)) if rule != comment => {
                let text = format!(
                    "The comment on table {} tells another class than the configuration, which \
                     holds.",
                    dotted(name)
                );
                (Some(rule.clone()), vec![notice(text)])
            }
            (rule, comment) => (rule.or(comment).cloned(), Vec::new()),
        }
    }

    /// Keys that a rule of ranges leaves without a shard.
    fn gaps(&self) -> Vec<Finding> {
        let gaps = |rule: &Rule| {
            let end = |end: Option<i64>, open: &str| match end {
                Some(value) => rule.written(value),
                None => open.to_owned(),
            };
            let gap = |(from, to): (Option<i64>, Option<i64>)| {
                format!(
                    "from {} to {}",
                    end(from, "the least"),
                    end(to, "the greatest")
                )
            };
            let gaps: Vec<_> = rule.gaps().into_iter().map(gap).collect();
            (!gaps.is_empty()).then(|| {
                notice(format!(
                    "Placement {} has no default and no shard for keys {}: an INSERT of one is \
                     refused.",
                    rule.name,
                    gaps.join(", ")
                ))
            })
        };
        self.declared.placements.iter().filter_map(gaps).collect()
    }

    fn declared_but_missing(&self, name: &TableName) -> Vec<Finding> {
        if !self.is_complete() {
            return Vec::new();
        }
        vec![mistake(format!(
            "Table {} is declared but exists on no shard: CREATE TABLE through Ringway makes it where it belongs.",
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
                    "Table {} exists on {} and is declared nowhere: statements that name it are refused.",
                    dotted(name),
                    match copies.len() {
                        1 => "1 shard".to_owned(),
                        several => format!("{several} shards"),
                    }
                );
                (TableClass::Undeclared, vec![notice(text)])
            }
            // Of a column of a table on one shard: the others' are not used.
            [(_, relation), ..] if relation.kind == RelationKind::Sequence => {
                let owner = relation.reads.first().filter(|owner| *owner != name);
                let class = owner.map(|owner| self.table(owner).0.map(|table| table.class));
                match class.flatten() {
                    Some(TableClass::Single(shard)) => (TableClass::Single(shard), Vec::new()),
                    _ => (TableClass::Undeclared, Vec::new()),
                }
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
        key: &[String],
        by: Option<RuleId>,
        copies: &[(ShardId, &Relation)],
    ) -> (TableClass, Vec<Finding>) {
        let mut found = self.check_everywhere(name, copies);
        let mut keys = Vec::new();
        for (shard, relation) in copies {
            let read = key
                .iter()
                .map(|column| Ok((column, key_type(relation, column)?)));
            let read: Result<Vec<_>, (&String, String)> = read
                .zip(key)
                .map(|(read, column)| read.map_err(|why: String| (column, why)))
                .collect();
            match read.and_then(|types| self.placed(types, by)) {
                Ok(shard_key) => keys.push(shard_key),
                Err((column, why)) => {
                    let text = format!(
                        "Table {} cannot be sharded by column {column} on shard \"{}\": {why}.",
                        dotted(name),
                        self.shard_name(*shard)
                    );
                    found.push(mistake(text));
                }
            }
        }
        let agreed =
            keys.len() == copies.len() && keys.iter().all(|other| Some(other) == keys.first());
        let class = match keys.into_iter().next() {
            Some(key) if agreed => TableClass::Sharded(key),
            Some(_) | None => TableClass::Undeclared,
        };
        (class, found)
    }

    /// The key of these columns, placed by hash or by a rule.
    ///
    /// # Errors
    /// The column that the rule cannot place, and why, as the end of a sentence.
    fn placed<'k>(
        &self,
        columns: Vec<(&'k String, KeyType)>,
        by: Option<RuleId>,
    ) -> Result<ShardKey, (&'k String, String)> {
        let mut placement = Placement::Hash;
        if let Some(id) = by {
            let rule = self.declared.placements.get(usize::from(id.0));
            for (column, key_type) in &columns {
                let name = key_type.sql_name();
                match rule {
                    Some(rule) if rule.takes(*key_type) => placement = rule.placement(id),
                    Some(rule) => {
                        let why = format!("placement {} has no {name} keys", rule.name);
                        return Err((*column, why));
                    }
                    None => return Err((*column, "its placement is not known".to_owned())),
                }
            }
        }
        let column = |(name, key_type): (&String, KeyType)| KeyColumn {
            name: name.clone(),
            key_type,
        };
        Ok(ShardKey {
            columns: columns.into_iter().map(column).collect(),
            placement,
        })
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
        generated_from: column.generated_from.clone(),
        keeps: keeps(column),
    };
    Table {
        schema: name.0.clone(),
        name: name.1.clone(),
        class,
        columns: relation.columns.iter().map(column).collect(),
        kind: relation.kind,
    }
}

/// How a column keeps what is sent.
fn keeps(column: &Column) -> Keeps {
    match KeyType::of_oid(column.type_oid) {
        // A domain over varchar does not show its length.
        Some(KeyType::Text)
            if column.type_oid == VARCHAR && column.type_name != "character varying" =>
        {
            Keeps::WithoutSpaces
        }
        Some(_) | None => rounding(column).unwrap_or(Keeps::Same),
    }
}

/// To how many digits a numeric or timestamp column rounds. `None` is a domain, which does not show it.
fn rounding(column: &Column) -> Option<Keeps> {
    let name = match KeyType::of_oid(column.type_oid) {
        Some(KeyType::Numeric) => "numeric",
        Some(KeyType::Timestamp | KeyType::Timestamptz) => "timestamp",
        Some(
            KeyType::Int2
            | KeyType::Int4
            | KeyType::Int8
            | KeyType::Text
            | KeyType::Bpchar
            | KeyType::Uuid
            | KeyType::Date
            | KeyType::Bytea,
        )
        | None => return Some(Keeps::Same),
    };
    let modifier = column.type_name.strip_prefix(name)?;
    let Some(modifier) = modifier.strip_prefix('(') else {
        let zone = [" without time zone", " with time zone", ""];
        return zone.contains(&modifier).then_some(Keeps::Same);
    };
    let (numbers, _) = modifier.split_once(')')?;
    let (_, scale) = numbers.rsplit_once(',').unwrap_or(("", numbers));
    let scale = scale.parse().ok()?;
    Some(Keeps::Rounded { scale })
}

/// The type of a sharding key, or why the column cannot be one, as the end of a sentence.
fn key_type(relation: &Relation, key: &str) -> Result<KeyType, String> {
    if relation.kind != RelationKind::Table {
        return Err("it is not a table".to_owned());
    }
    let Some(column) = relation.columns.iter().find(|column| column.name == key) else {
        return Err("it has no such column".to_owned());
    };
    let Some(key_type) = KeyType::of_oid(column.type_oid) else {
        return Err(format!(
            "type {} is not smallint, integer, bigint, text, varchar, char, uuid, date, timestamp, \
             timestamptz, numeric or bytea",
            column.type_name
        ));
    };
    if rounding(column).is_none() {
        let what = format!("domain {} may round what is stored", column.type_name);
        return Err(what);
    }
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
    let differs = |(here, there): &(&Column, &Column)| describe(here) != describe(there);
    if let Some((here, there)) = pairs.find(differs) {
        return Some(format!(
            "column {} against {}",
            describe(here),
            describe(there)
        ));
    }
    let lacks = |unique: &&Unique, in_other: &Relation| {
        let mut others = in_other.unique.iter();
        !others.any(|other| other.columns == unique.columns && other.primary == unique.primary)
    };
    let here = one.unique.iter().find(|unique| lacks(unique, other));
    let there = other.unique.iter().find(|unique| lacks(unique, one));
    let unique = here.or(there)?;
    Some(format!(
        "only one has a unique index over ({}), {}",
        unique.columns.join(", "),
        unique.name
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

pub(super) fn notice(text: String) -> Finding {
    let kind = FindingKind::Notice;
    Finding { kind, text }
}

pub(super) fn dotted(name: &TableName) -> String {
    format!("{}.{}", name.0, name.1)
}

#[cfg(test)]
mod tests;
