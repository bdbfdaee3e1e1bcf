//! What the planner knows of a database: its tables with their classes, its functions' volatility.

use std::collections::{HashMap, HashSet};

use crate::merge::Collation;
use crate::placement::Placement;
use crate::topology::ShardId;

/// One database as it was when the catalog was loaded.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Grows with every load that changed something; plans are cached per version.
    pub version: u64,
    /// Number of shards, at least 1. With 1 nothing is sharded, and every statement may run.
    pub shards: usize,
    /// Schemas searched for unqualified names, in order (`pg_catalog` is searched first, implicitly).
    pub search_path: Vec<String>,
    tables: HashMap<(String, String), Table>,
    /// Columns that get an id where an INSERT leaves them out, by schema and table.
    default_ids: HashMap<(String, String), String>,
    /// Why rows of a table cannot go to another shard, by schema and table.
    immovable: HashMap<(String, String), String>,
    /// Tables of one shard that exist on all of them, by schema and table.
    on_all: HashSet<(String, String)>,
    /// Unique indexes of sharded tables without the key, by schema and table.
    keyless_unique: HashMap<(String, String), Vec<String>>,
    /// By unqualified name: the least safe volatility and kind of all overloads in all schemas.
    functions: HashMap<String, Function>,
    pub suspects: Suspects,
}

/// What calls functions that may write without a statement showing it. Unqualified names, of
/// whatever schema: a session has a search path of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspects {
    /// Views, tables with policies, and domains.
    pub callers: HashSet<String>,
    /// Relations and composite types with such a domain among their columns: a row of theirs that is
    /// made of something else is checked.
    pub rows: HashSet<String>,
    pub operators: HashSet<String>,
    /// A cast that users defined: it need not be written to be applied.
    pub casts: bool,
    /// Foreign tables, and tables with such parts: what reading them does, and how old the answer
    /// is, only another server knows.
    pub foreign: HashSet<String>,
    /// Domains and operators whose functions may read tables that a statement does not name.
    pub readers: HashSet<String>,
    /// Tables with policies that need rows of other shards than the one that has the row.
    pub policed: HashSet<String>,
    /// There are collations in which texts of different bytes are equal.
    pub equates_texts: bool,
    /// A write may change settings: by a trigger, a default, a check.
    pub writes_set: bool,
}

impl Suspects {
    /// Adds what is suspect elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.callers.extend(other.callers.iter().cloned());
        self.rows.extend(other.rows.iter().cloned());
        self.operators.extend(other.operators.iter().cloned());
        self.casts |= other.casts;
        self.foreign.extend(other.foreign.iter().cloned());
        self.readers.extend(other.readers.iter().cloned());
        self.policed.extend(other.policed.iter().cloned());
        self.equates_texts |= other.equates_texts;
        self.writes_set |= other.writes_set;
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub schema: String,
    pub name: String,
    pub class: TableClass,
    /// In attribute order.
    pub columns: Vec<TableColumn>,
    pub kind: RelationKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    Table,
    View,
    MaterializedView,
    ForeignTable,
    Sequence,
}

/// Where a table's rows live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableClass {
    /// Rows are spread by their key.
    Sharded(ShardKey),
    /// The same rows on every shard.
    Reference,
    /// All rows on one shard.
    Single(ShardId),
    /// Found on several shards and declared nowhere: refused by name.
    Undeclared,
}

/// What a sharded table is sharded by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardKey {
    /// In the order of the key; never empty, and one alone unless they are hashed.
    pub columns: Vec<KeyColumn>,
    pub placement: Placement,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumn {
    pub name: String,
    pub key_type: KeyType,
}

impl ShardKey {
    /// Are rows with equal keys, one of each table, on one shard?
    pub fn is_colocated_with(&self, other: &Self) -> bool {
        let mut pairs = self.columns.iter().zip(&other.columns);
        self.placement == other.placement
            && self.columns.len() == other.columns.len()
            && pairs.all(|(one, other)| one.key_type.hashes_like(other.key_type))
    }

    /// The column, or `(one, other)`.
    pub fn name(&self) -> String {
        match self.columns.as_slice() {
            [only] => only.name.clone(),
            columns => {
                let names: Vec<_> = columns.iter().map(|column| &*column.name).collect();
                format!("({})", names.join(", "))
            }
        }
    }

    /// Is this column one of the key's?
    pub fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|part| part.name == column)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    Int2,
    Int4,
    Int8,
    /// text and varchar.
    Text,
    /// char(n), in which blanks at the end do not count.
    Bpchar,
    Uuid,
    Date,
    Timestamp,
    Timestamptz,
    Numeric,
    Bytea,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    pub name: String,
    /// OID of the type in pg_type; of a domain, the type that it is over.
    pub type_oid: u32,
    /// A domain may refuse values of its type, NULL too.
    pub is_domain: bool,
    pub collation: Collation,
    pub not_null: bool,
    pub default: ColumnDefault,
    /// Of a generated one, which nothing may be inserted in: the columns that it is computed from.
    pub generated_from: Option<Vec<String>>,
    pub keeps: Keeps,
}

/// How a column keeps a value that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Keeps {
    Same,
    /// varchar(n), which cuts spaces beyond n off without a word.
    WithoutSpaces,
    /// numeric(p, s) and timestamp(s), which round to `scale` digits after the point.
    Rounded {
        scale: i32,
    },
}

/// What a column gets that an INSERT leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnDefault {
    /// NULL, a constant, or what is computed from the row: the same on every shard.
    Constant,
    /// May differ from shard to shard: `now()`.
    Computed,
    /// The next value of a sequence; each shard has its own.
    Sequence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Volatility {
    Immutable,
    Stable,
    Volatile,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    pub volatility: Volatility,
    /// True when calling it may do more than read, or leave something behind. Of PostgreSQL's own
    /// volatile functions the planner knows which do not.
    pub may_write: bool,
    /// True when any overload lives outside `pg_catalog`.
    pub user_defined: bool,
    /// True when any overload is an aggregate: `max` stays one when users add a `max` of their own.
    pub is_aggregate: bool,
    /// True when the body of any overload may name tables, which the planner does not see: it is
    /// neither immutable nor written in C.
    pub may_read_tables: bool,
}

impl Catalog {
    pub fn new(version: u64, shards: usize) -> Self {
        Self {
            version,
            shards: shards.max(1),
            search_path: vec!["public".into()],
            ..Self::default()
        }
    }

    pub fn is_sharded(&self) -> bool {
        self.shards > 1
    }

    pub fn add_table(&mut self, table: Table) {
        self.tables
            .insert((table.schema.clone(), table.name.clone()), table);
    }

    /// INSERTs that leave out `column` of the table get an id for it.
    pub fn set_default_id(&mut self, schema: &str, table: &str, column: &str) {
        let name = (schema.to_owned(), table.to_owned());
        self.default_ids.insert(name, column.to_owned());
    }

    /// Rows of the table cannot go from one shard to another; `why` is the end of a sentence.
    pub fn set_immovable(&mut self, schema: &str, table: &str, why: &str) {
        let name = (schema.to_owned(), table.to_owned());
        self.immovable.insert(name, why.to_owned());
    }

    /// The table, whose rows are on one shard, exists on all of them.
    pub fn set_on_all(&mut self, schema: &str, table: &str) {
        self.on_all.insert((schema.to_owned(), table.to_owned()));
    }

    pub fn is_on_all(&self, table: &Table) -> bool {
        let name = (table.schema.clone(), table.name.clone());
        self.on_all.contains(&name)
    }

    pub fn immovable(&self, table: &Table) -> Option<&str> {
        let name = (table.schema.clone(), table.name.clone());
        self.immovable.get(&name).map(String::as_str)
    }

    /// Unique indexes of a sharded table that do not have its whole key among their columns: each shard
    /// enforces them for its own rows.
    pub fn set_keyless_unique(&mut self, schema: &str, table: &str, names: Vec<String>) {
        let name = (schema.to_owned(), table.to_owned());
        self.keyless_unique.insert(name, names);
    }

    pub fn keyless_unique(&self, table: &Table) -> &[String] {
        let name = (table.schema.clone(), table.name.clone());
        self.keyless_unique.get(&name).map_or(&[], Vec::as_slice)
    }

    pub fn has_default_ids(&self) -> bool {
        !self.default_ids.is_empty()
    }

    pub fn default_id(&self, table: &Table) -> Option<&str> {
        if self.default_ids.is_empty() {
            return None;
        }
        let name = (table.schema.clone(), table.name.clone());
        self.default_ids.get(&name).map(String::as_str)
    }

    /// Records one pg_proc row; overloads keep the least safe of each field.
    pub fn add_function(&mut self, name: &str, function: Function) {
        self.functions
            .entry(name.to_owned())
            .and_modify(|f| {
                f.volatility = f.volatility.max(function.volatility);
                f.may_write |= function.may_write;
                f.user_defined |= function.user_defined;
                f.is_aggregate |= function.is_aggregate;
                f.may_read_tables |= function.may_read_tables;
            })
            .or_insert(function);
    }

    /// What it calls may write. False when that was known.
    pub fn distrust_function(&mut self, name: &str) -> bool {
        let function = self.functions.get_mut(name);
        function.is_some_and(|function| !std::mem::replace(&mut function.may_write, true))
    }

    /// What it calls may read tables that it does not name.
    pub fn unsettle_function(&mut self, name: &str) {
        if let Some(function) = self.functions.get_mut(name) {
            function.may_read_tables = true;
        }
    }

    pub fn function(&self, name: &str) -> Option<Function> {
        self.functions.get(name).copied()
    }

    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.values()
    }

    /// A table whose bare name means one of another schema to those who search `path`.
    pub fn means_another(&self, path: &[String]) -> Option<(&Table, &Table)> {
        let along = |name: &str| {
            path.iter()
                .find_map(|schema| self.tables.get(&(schema.clone(), name.to_owned())))
        };
        self.tables.values().find_map(|table| {
            let ours = self.table(None, &table.name)?;
            let theirs = along(&table.name)?;
            (ours.schema != theirs.schema).then_some((ours, theirs))
        })
    }

    /// Resolves a name as PostgreSQL would: with a schema exactly, else along `search_path`.
    pub fn table(&self, schema: Option<&str>, name: &str) -> Option<&Table> {
        match schema {
            Some(schema) => self.tables.get(&(schema.to_owned(), name.to_owned())),
            None => self
                .search_path
                .iter()
                .find_map(|schema| self.tables.get(&(schema.clone(), name.to_owned()))),
        }
    }
}
