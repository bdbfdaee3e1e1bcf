//! The tables of one FROM clause, and which of them a column name means.

use std::collections::HashMap;

use sqlparser::ast::{Expr, Ident, ObjectName, ObjectNamePart, TableAlias, TableFactor};

use crate::catalog::{Catalog, ShardKey, Table, TableClass};

/// A name folded as PostgreSQL folds it: lower case unless quoted, cut off at 63 bytes.
pub(super) fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => truncated(ident.value.clone()),
        None => truncated(ident.value.to_ascii_lowercase()),
    }
}

/// `truncate_identifier` with the usual NAMEDATALEN of 64: whole characters in at most 63 bytes.
pub(super) fn truncated(mut name: String) -> String {
    const MAX_BYTES: usize = 63;
    if name.len() > MAX_BYTES {
        let end = (0..=MAX_BYTES).rev().find(|at| name.is_char_boundary(*at));
        name.truncate(end.unwrap_or(0));
    }
    name
}

/// Schema and name; `None` for what is no plain name. A database name in front is ignored:
/// PostgreSQL accepts only the current one.
pub(super) fn object_name(name: &ObjectName) -> Option<(Option<String>, String)> {
    let mut parts = Vec::with_capacity(name.0.len());
    for part in &name.0 {
        match part {
            // To sqlparser a constant may be a name.
            ObjectNamePart::Identifier(ident) if ident.quote_style == Some('\'') => return None,
            ObjectNamePart::Identifier(ident) => parts.push(folded(ident)),
            ObjectNamePart::Function(_) => return None,
        }
    }
    let table = parts.pop()?;
    Some((parts.pop(), table))
}

/// True for the tables of PostgreSQL itself, which every shard has.
pub(super) fn is_system(schema: Option<&str>, name: &str) -> bool {
    match schema {
        Some(schema) => matches!(schema, "pg_catalog" | "information_schema"),
        None => name.starts_with("pg_"),
    }
}

/// One item of FROM.
pub(super) struct Reference<'c> {
    /// The name that columns are qualified with.
    pub(super) alias: String,
    /// `None` for what the catalog does not tell the columns of.
    pub(super) table: Option<&'c Table>,
}

impl<'c> Reference<'c> {
    pub(super) fn new(name: &ObjectName, alias: Option<&TableAlias>, catalog: &'c Catalog) -> Self {
        let (schema, table) = object_name(name).unwrap_or_default();
        // A list of column names hides the table's own.
        let renamed = alias.is_some_and(|alias| !alias.columns.is_empty());
        Self {
            table: catalog
                .table(schema.as_deref(), &table)
                .filter(|_| !renamed),
            alias: alias.map_or(table, |alias| folded(&alias.name)),
        }
    }

    pub(super) fn of_factor(factor: &TableFactor, catalog: &'c Catalog) -> Self {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } => Self::new(name, alias.as_ref(), catalog),
            _ => Self {
                alias: String::new(),
                table: None,
            },
        }
    }

    pub(super) fn key(&self) -> Option<&'c ShardKey> {
        match &self.table?.class {
            TableClass::Sharded(key) => Some(key),
            TableClass::Reference | TableClass::Single(_) | TableClass::Undeclared => None,
        }
    }

    pub(super) fn is_sharded(&self) -> bool {
        self.key().is_some()
    }
}

/// The items of one FROM clause, in order.
#[derive(Default)]
pub(super) struct Scope<'c> {
    pub(super) references: Vec<Reference<'c>>,
    /// The references of an alias.
    by_alias: HashMap<String, Vec<usize>>,
    /// Columns joined by USING: their bare name means the first table that has them.
    pub(super) merged: Vec<String>,
}

impl<'c> Scope<'c> {
    pub(super) fn add(&mut self, reference: Reference<'c>) {
        let of_alias = self.by_alias.entry(reference.alias.clone()).or_default();
        of_alias.push(self.references.len());
        self.references.push(reference);
    }

    /// The reference and the name of a column; `None` where PostgreSQL or we could be in doubt.
    pub(super) fn column(&self, expr: &Expr) -> Option<(usize, String)> {
        match expr {
            Expr::Nested(inner) => self.column(inner),
            Expr::Identifier(ident) => self.bare_column(folded(ident)),
            Expr::CompoundIdentifier(idents) => self.qualified_column(idents),
            _ => None,
        }
    }

    fn bare_column(&self, column: String) -> Option<(usize, String)> {
        let mut found = None;
        for (index, reference) in self.references.iter().enumerate() {
            let table = reference.table?;
            if table.columns.iter().any(|known| known.name == column) {
                if found.is_some() {
                    let first = found.filter(|_| self.merged.contains(&column));
                    return first.map(|index| (index, column));
                }
                found = Some(index);
            }
        }
        found.map(|index| (index, column))
    }

    fn qualified_column(&self, idents: &[Ident]) -> Option<(usize, String)> {
        let (column, qualifier) = idents.split_last()?;
        let alias = folded(qualifier.last()?);
        let mut named = self.by_alias.get(&alias)?.iter().filter(|index| {
            qualifier.len() == 1
                || self.references[**index].table.is_some_and(|table| {
                    qualifier.len() == 2
                        && table.name == alias
                        && table.schema == folded(&qualifier[0])
                })
        });
        let index = *named.next()?;
        named.next().is_none().then(|| (index, folded(column)))
    }

    /// The reference whose whole sharding key `expr` is.
    pub(super) fn key_column(&self, expr: &Expr) -> Option<usize> {
        let (index, column) = self.column(expr)?;
        match self.references[index].key()?.columns.as_slice() {
            [only] if only.name == column => Some(index),
            _ => None,
        }
    }
}
