//! INSERT, UPDATE, DELETE and MERGE inside of WITH or behind it: on one shard, where each part by itself is
//! limited to keys, and all of them are of that shard.
//!
//! `WITH moved AS (DELETE FROM a WHERE k = 5 RETURNING *) INSERT INTO b SELECT * FROM moved` is such: what is
//! inserted has the keys of the rows that were deleted.

use sqlparser::ast::{
    Delete, Expr, FromTable, GroupByExpr, ObjectName, Query, Select, SelectItem, SetExpr,
    Statement, TableFactor, TableObject, Update, WildcardAdditionalOptions,
};

use super::colocated::is_body_alone;
use super::dml;
use super::facts::{self, Facts, Input};
use super::keys::pins_of_select;
use super::merge_into;
use super::query::{Decision, by_keys, joint_keys, refused};
use super::refuse;
use super::scope::{folded, object_name};
use crate::catalog::{ShardKey, Table, TableClass};
use crate::limit::KeySet;
use crate::plan::{Many, Target};

/// A query of WITH.
pub(super) struct Cte {
    pub(super) name: String,
    /// `None` for what is not known.
    columns: Option<Vec<Column>>,
}

/// A column of a query or a table.
#[derive(Clone)]
struct Column {
    name: String,
    origin: Option<Origin>,
}

/// It has the values of a column of a sharding key.
#[derive(Clone)]
struct Origin {
    key: ShardKey,
    /// Which of the key's columns.
    at: usize,
    /// What the rows are limited to.
    keys: KeySet,
}

/// `None` where it is not proven that one shard has all that the parts concern.
pub(super) fn target(query: &Query, facts: &Facts<'_>, input: Input<'_>) -> Option<Decision> {
    // What a sequence of one shard gives may not be written.
    if facts.sequences || !facts.unknown.is_empty() {
        return None;
    }
    let with = query.with.as_ref()?;
    let named = with.cte_tables.iter().map(|cte| Cte {
        name: folded(&cte.alias.name),
        columns: None,
    });
    let mut ctes: Vec<Cte> = named.collect();
    // A name that is a table's too may mean the one or the other.
    let is_table = |cte: &Cte| input.catalog.table(None, &cte.name).is_some();
    if ctes.iter().any(is_table) {
        return None;
    }
    let mut joint: Option<KeySet> = None;
    let mut mentions = 0;
    let parts = with.cte_tables.iter().map(|cte| cte.query.as_ref());
    for (at, part) in parts.chain([query]).enumerate() {
        let is_cte = at < ctes.len();
        if is_cte && part.with.is_some() {
            return None;
        }
        let input = Input {
            ctes: &ctes,
            ..input
        };
        let limited = match part_of(part, is_cte, input)? {
            Ok(limited) => limited,
            Err(refusal) => return Some(refused(refusal)),
        };
        mentions += limited.mentions;
        let columns = limited.columns;
        if let Some(keys) = limited.keys {
            joint = Some(match joint {
                None => keys,
                Some(joint) => joint.union(keys),
            });
        }
        if let Some(cte) = ctes.get_mut(at)
            && with.cte_tables[at].alias.columns.is_empty()
        {
            cte.columns = columns;
        }
    }
    // All has been looked at.
    let whole = mentions == facts.sharded().count() && facts.singles().next().is_none();
    let keys = joint.filter(|_| whole)?;
    Some(by_keys(keys, Many::Refused(refuse::writes_in_query())))
}

/// A part whose sharded tables are all limited.
struct Limited {
    keys: Option<KeySet>,
    /// How many times it mentions sharded tables.
    mentions: usize,
    columns: Option<Vec<Column>>,
}

type Part = Result<Limited, crate::Refusal>;

fn part_of(query: &Query, is_cte: bool, input: Input<'_>) -> Option<Part> {
    let statement = match query.body.as_ref() {
        SetExpr::Insert(statement)
        | SetExpr::Update(statement)
        | SetExpr::Delete(statement)
        | SetExpr::Merge(statement) => statement,
        _ => {
            let facts = match is_cte {
                true => facts::of_part(query, input),
                false => facts::of_part(&query.body, input),
            };
            let mentions = facts.sharded().count();
            let keys = joint_keys(&facts.pins, &facts);
            let is_limited =
                !facts.opaque && facts.writes == 0 && (mentions == 0 || keys.is_some());
            let columns = match query.body.as_ref() {
                SetExpr::Select(select) => of_select(select, input),
                _ => None,
            };
            return is_limited.then_some(Ok(Limited {
                keys,
                mentions,
                columns,
            }));
        }
    };
    let facts = facts::of_part(statement, input);
    if facts.opaque || facts.writes > 1 {
        return None;
    }
    let (decision, returned) = match statement {
        Statement::Insert(insert) => {
            let returned = match &insert.table {
                TableObject::TableName(name) => Some((name, insert.returning.as_ref())),
                _ => None,
            };
            (dml::insert(insert, &facts, input), returned)
        }
        Statement::Update(update) => (dml::update(update, &facts, input), of_update(update)),
        Statement::Delete(delete) => (dml::delete(delete, &facts, input), of_delete(delete)),
        Statement::Merge(merge) => (merge_into::target(merge, &facts, input), None),
        _ => return None,
    };
    let keys = match decision.0 {
        Target::Keys { keys, many: _ } => keys,
        Target::Refused(refusal) => return Some(Err(refusal)),
        Target::AllShards(Many::SameAnswer) => return Some(Err(refuse::write_inside())),
        Target::AnyShard
        | Target::OneShard(_)
        | Target::AllShards(_)
        | Target::Moves(_)
        | Target::Ids(_) => return None,
    };
    let columns = returned.and_then(|(name, items)| {
        let table = dml::resolve(name, input)?;
        selected(items?, &of_table(table, Some(&keys)))
    });
    Some(Ok(Limited {
        keys: Some(keys),
        mentions: facts.sharded().count(),
        columns,
    }))
}

type Returned<'a> = Option<(&'a ObjectName, Option<&'a Vec<SelectItem>>)>;

/// The table and what is returned of its rows, where no other table's columns can be meant.
fn of_update(update: &Update) -> Returned<'_> {
    let name = table_name(&update.table.relation)?;
    let alone = update.from.is_none() && update.table.joins.is_empty();
    alone.then_some((name, update.returning.as_ref()))
}

fn of_delete(delete: &Delete) -> Returned<'_> {
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let [from] = from.as_slice() else {
        return None;
    };
    let alone = delete.using.is_none() && from.joins.is_empty();
    alone.then_some((table_name(&from.relation)?, delete.returning.as_ref()))
}

fn table_name(factor: &TableFactor) -> Option<&ObjectName> {
    match factor {
        TableFactor::Table {
            name, args: None, ..
        } => Some(name),
        _ => None,
    }
}

fn of_table(table: &Table, keys: Option<&KeySet>) -> Vec<Column> {
    let key = match &table.class {
        TableClass::Sharded(key) => Some(key),
        TableClass::Reference | TableClass::Single(_) | TableClass::Undeclared => None,
    };
    let origin = |name: &str| {
        let key = key?;
        let at = key.columns.iter().position(|column| column.name == name)?;
        let keys = keys?.clone();
        Some(Origin {
            key: key.clone(),
            at,
            keys,
        })
    };
    let columns = table.columns.iter().map(|column| Column {
        origin: origin(&column.name),
        name: column.name.clone(),
    });
    columns.collect()
}

/// The columns of a SELECT from one table, or one query of WITH.
fn of_select(select: &Select, input: Input<'_>) -> Option<Vec<Column>> {
    let [from] = select.from.as_slice() else {
        return None;
    };
    let TableFactor::Table {
        name,
        alias,
        args: None,
        ..
    } = &from.relation
    else {
        return None;
    };
    let renamed = alias
        .as_ref()
        .is_some_and(|alias| !alias.columns.is_empty());
    let GroupByExpr::Expressions(group, modifiers) = &select.group_by else {
        return None;
    };
    // They make rows whose key is NULL.
    let sets = |expr: &Expr| {
        matches!(
            expr,
            Expr::GroupingSets(_) | Expr::Rollup(_) | Expr::Cube(_)
        )
    };
    let with_sets = !modifiers.is_empty() || group.iter().any(sets);
    if renamed || with_sets || !from.joins.is_empty() {
        return None;
    }
    let (schema, plain) = object_name(name)?;
    let cte = input.ctes.iter().find(|cte| cte.name == plain);
    let columns = match cte.filter(|_| schema.is_none()) {
        Some(cte) => cte.columns.clone()?,
        None => {
            let pins = pins_of_select(select, input);
            let keys = pins.first().and_then(|pin| pin.keys.as_ref());
            of_table(dml::resolve(name, input)?, keys)
        }
    };
    selected(&select.projection, &columns)
}

/// What a list of `items` makes of the columns that it selects from.
fn selected(items: &[SelectItem], columns: &[Column]) -> Option<Vec<Column>> {
    let mut found = Vec::with_capacity(items.len());
    let computed = |name: String| Column { name, origin: None };
    let plain = |expr: &Expr| {
        let name = match expr {
            Expr::Identifier(name) => name,
            Expr::CompoundIdentifier(names) => names.last()?,
            _ => return None,
        };
        let name = folded(name);
        columns.iter().find(|column| column.name == name).cloned()
    };
    let is_bare =
        |options: &WildcardAdditionalOptions| *options == WildcardAdditionalOptions::default();
    for item in items {
        match item {
            SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => {
                is_bare(options).then(|| found.extend(columns.iter().cloned()))?;
            }
            SelectItem::UnnamedExpr(expr) => {
                found.push(plain(expr).unwrap_or_else(|| computed(String::new())));
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                let column = plain(expr).unwrap_or_else(|| computed(String::new()));
                found.push(Column {
                    name: folded(alias),
                    ..column
                });
            }
            SelectItem::ExprWithAliases { .. } => return None,
        }
    }
    Some(found)
}

/// The keys of rows that an INSERT gets from a query of WITH: those that its rows are limited to, if the
/// columns at `positions` are the whole of a key whose rows live where those of `key` do.
pub(super) fn keys_of_rows(
    query: &Query,
    key: &ShardKey,
    positions: &[usize],
    input: Input<'_>,
) -> Option<KeySet> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    if input.ctes.is_empty() || !is_body_alone(query) {
        return None;
    }
    let columns = of_select(select, input)?;
    let mut keys = None;
    for (at, position) in positions.iter().enumerate() {
        let origin = columns.get(*position)?.origin.as_ref()?;
        let same = origin.at == at
            && origin.key.columns.len() == positions.len()
            && origin.key.is_colocated_with(key);
        same.then_some(())?;
        keys = Some(origin.keys.clone());
    }
    keys
}
