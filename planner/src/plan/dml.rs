//! Where INSERT, UPDATE and DELETE run.

use sqlparser::ast::{
    Assignment, AssignmentTarget, ConflictTarget, Delete, Expr, FromTable, Insert, ObjectName,
    OnConflictAction, OnInsert, SelectItem, SetExpr, TableFactor, TableObject, TableWithJoins,
    Update, UpdateTableFromKind, Visit,
};

use super::colocated;
use super::facts::{Facts, Input};
use super::gather;
use super::ids::{self, LeftOut};
use super::insert_query::{self, Into};
use super::insertion;
use super::keys::Clauses;
use super::moves;
use super::physical;
use super::picks;
use super::query::{Decision, by_keys, joint_keys, refused, union_of_keys, unsharded_tables};
use super::refuse;
use super::rows;
use super::scope::{folded, object_name};
use super::values::{self, TypedParams};
use crate::catalog::{ColumnDefault, Keeps, KeyColumn, ShardKey, Table, TableClass, TableColumn};
use crate::insertion::Destination;
use crate::limit::{KeyPart, KeySet, Limit, Part, TableLimit};
use crate::plan::{Many, Target};
use crate::refusal::Refusal;
use crate::topology::ShardId;

/// What holds for all three: `Some` when the decision is made.
pub(super) fn before_keys(
    statement: &impl Visit,
    table: Option<&Table>,
    facts: &Facts<'_>,
    input: Input<'_>,
) -> Option<Decision> {
    if let Some(table) = facts.undeclared() {
        return Some(refused(refuse::undeclared(table)));
    }
    if facts.writes > 1 && facts.has_reference() {
        return Some(refused(refuse::write_inside()));
    }
    let table = match table {
        Some(table) => table,
        None if facts.tables.is_empty() => {
            return Some(match facts.unknown.first() {
                Some(name) => refused(refuse::unknown_table(name)),
                None => unsharded_tables(facts),
            });
        }
        None => {
            return Some(match facts.unknown.first() {
                Some(name) => refused(refuse::unknown_table(name)),
                None => refused(refuse::write_target()),
            });
        }
    };
    match table.class {
        TableClass::Reference => Some(to_reference(statement, table, facts, input)),
        TableClass::Single(_) if facts.has_sharded() => {
            Some(refused(refuse::write_joins(&table.name)))
        }
        TableClass::Single(_) => Some(unsharded_tables(facts)),
        TableClass::Sharded(_) => on_sharded(table, facts),
        TableClass::Undeclared => Some(refused(refuse::undeclared(table))),
    }
}

/// Does the text hold what picks other rows on each copy of a table, or tells where they lie?
fn picks_rows(input: Input<'_>) -> bool {
    const WORDS: [&str; 7] = [
        "limit",
        "fetch",
        "skip",
        "tablesample",
        "ctid",
        "xmin",
        "tableoid",
    ];
    WORDS.iter().any(|word| input.source.has(word))
}

fn to_reference(
    statement: &impl Visit,
    table: &Table,
    facts: &Facts<'_>,
    input: Input<'_>,
) -> Decision {
    if facts.has_sharded() || facts.singles().next().is_some() || facts.system_tables {
        return refused(refuse::reference_from_others(&table.name));
    }
    let sets_default = table
        .columns
        .iter()
        .any(|column| column.default != ColumnDefault::Constant)
        && input.source.has("default");
    let picks = picks_rows(input) || picks::has_picks(statement, input);
    if facts.differs_by_server || sets_default || picks {
        return refused(refuse::volatile_on_reference(&table.name));
    }
    if let Some(unknown) = facts.unknown.first() {
        return refused(refuse::unknown_table(unknown));
    }
    let reason = format!(
        "every shard has a copy of reference table \"{}\"",
        table.name
    );
    (Target::AllShards(Many::SameAnswer), reason.into())
}

fn on_sharded(table: &Table, facts: &Facts<'_>) -> Option<Decision> {
    if facts.sequences {
        return Some(refused(refuse::sequence_on_sharded(&table.name)));
    }
    if let Some(unknown) = facts.unknown.first() {
        return Some(refused(refuse::unknown_table(unknown)));
    }
    facts
        .singles()
        .next()
        .map(|_| refused(refuse::write_joins(&table.name)))
}

pub(super) fn resolve<'a>(name: &ObjectName, input: Input<'a>) -> Option<&'a Table> {
    let (schema, name) = object_name(name)?;
    input.catalog.table(schema.as_deref(), &name)
}

pub(super) fn insert(insert: &Insert, facts: &Facts<'_>, input: Input<'_>) -> Decision {
    let table = match &insert.table {
        TableObject::TableName(name) => resolve(name, input),
        TableObject::TableFunction(_) | TableObject::TableQuery(_) => None,
    };
    let left_out = table.and_then(|table| ids::left_out(insert, table, input.catalog));
    let is_drawn = |column: &str| left_out.is_some_and(|left| left.column == column);
    let unequal = table.and_then(|table| {
        unequal_default(table, |column| {
            is_drawn(&column.name) || is_given(insert, table, column)
        })
    });
    if let Some(refusal) = unequal {
        return refused(refusal);
    }
    let placed = before_keys(insert, table, facts, input);
    // What is not where its rows belong may be brought there.
    let elsewhere = matches!(&placed, Some((Target::Refused(_), _)))
        && table.is_some_and(|table| insertion::may_gather(insert, table, facts));
    if let Some(decision) = placed.filter(|_| !elsewhere) {
        return decision;
    }
    let Some(table) = table else {
        return refused(refuse::write_target());
    };
    let key = match &table.class {
        TableClass::Sharded(key) => key,
        TableClass::Reference => {
            let many = insertion::many(insert, table, Destination::Everywhere, facts, input);
            return insertion::on_all(many);
        }
        TableClass::Single(shard) => {
            let many = insertion::many(insert, table, Destination::One(*shard), facts, input);
            return insertion::on_all(many);
        }
        TableClass::Undeclared => return refused(refuse::write_target()),
    };
    if conflicts_elsewhere(insert, table, key, input) {
        return refused(refuse::conflict_elsewhere(&table.name));
    }
    if let Some(OnInsert::OnConflict(conflict)) = &insert.on
        && let OnConflictAction::DoUpdate(update) = &conflict.action
        && let Some(column) = set_of(&update.assignments, table, key)
    {
        let why = "ON CONFLICT updates a row where it is";
        return refused(refuse::update_of_key(column, why));
    }
    if let Some(query) = &insert.source
        && !matches!(query.body.as_ref(), SetExpr::Values(_))
    {
        let positions = match key_positions(insert, table, key, left_out) {
            Ok(positions) => positions,
            Err(refusal) => return refused(refusal),
        };
        let into = Into {
            table,
            key,
            positions,
        };
        let gathered = || {
            let owners = insertion::owners(table, key, &into.positions);
            insertion::many(insert, table, owners, facts, input)
        };
        // Rows pass through Ringway to get their ids.
        return match elsewhere || left_out.is_some() {
            true => insertion::on_all(gathered()),
            false => insert_query::target(&into, query, facts, &gathered, input),
        };
    }
    if facts.sharded().count() > 1 {
        return refused(refuse::insert_select(&table.name));
    }
    match inserted_keys(insert, table, key, input) {
        Ok(keys) => {
            let many = rows::split(insert, facts, input);
            by_keys(
                keys,
                many.map_or_else(Many::Refused, |split| Many::Split(Box::new(split))),
            )
        }
        Err(refusal) => refused(refusal),
    }
}

/// May a row conflict with one of another shard? Of a unique index without the key a shard knows its own
/// rows only.
fn conflicts_elsewhere(insert: &Insert, table: &Table, key: &ShardKey, input: Input<'_>) -> bool {
    let Some(OnInsert::OnConflict(conflict)) = &insert.on else {
        return false;
    };
    let keyless = input.catalog.keyless_unique(table);
    match &conflict.conflict_target {
        None => !keyless.is_empty(),
        Some(ConflictTarget::OnConstraint(name)) => {
            object_name(name).is_none_or(|(_, name)| keyless.contains(&name))
        }
        Some(ConflictTarget::Columns(columns)) => {
            let is_there = |part: &KeyColumn| columns.iter().any(|name| folded(name) == part.name);
            !key.columns.iter().all(is_there)
        }
    }
}

/// Would a column of a new row, for those that are not given a value, get a default that one PostgreSQL
/// would not give?
pub(super) fn unequal_default(
    table: &Table,
    is_given: impl Fn(&TableColumn) -> bool,
) -> Option<crate::Refusal> {
    let is_unequal = |column: &&TableColumn| match &table.class {
        // The key's own absence is told apart.
        TableClass::Sharded(key) => {
            column.default == ColumnDefault::Sequence && !key.has(&column.name)
        }
        TableClass::Reference => column.default != ColumnDefault::Constant,
        TableClass::Single(_) | TableClass::Undeclared => false,
    };
    let column = table
        .columns
        .iter()
        .filter(is_unequal)
        .find(|column| !is_given(column))?;
    Some(match table.class {
        TableClass::Sharded(_) => refuse::sequence_default(&table.name, &column.name),
        TableClass::Reference | TableClass::Single(_) | TableClass::Undeclared => {
            refuse::computed_default(&table.name, &column.name)
        }
    })
}

/// Does every row of an INSERT hold a value for `column`, and not DEFAULT?
fn is_given(insert: &Insert, table: &Table, column: &TableColumn) -> bool {
    let position = if insert.columns.is_empty() {
        table.columns.iter().position(|known| known == column)
    } else {
        let is_it =
            |name: &ObjectName| object_name(name).is_some_and(|(_, name)| name == column.name);
        insert.columns.iter().position(is_it)
    };
    let (Some(position), Some(source)) = (position, &insert.source) else {
        return false;
    };
    match source.body.as_ref() {
        SetExpr::Values(rows) => rows.rows.iter().all(|row| {
            let value = row.content.get(position);
            value.is_some_and(|value| !is_default(value))
        }),
        // The columns that it names are as many as the query's.
        body if insert.columns.is_empty() => {
            ids::columns_of(body).is_some_and(|count| position < count)
        }
        _ => true,
    }
}

/// The word DEFAULT in place of a value.
pub(super) fn is_default(value: &Expr) -> bool {
    match value {
        Expr::Identifier(name) => name.quote_style.is_none() && folded(name) == "default",
        _ => false,
    }
}

/// Where the key's columns stand among those of the INSERT.
fn key_positions(
    insert: &Insert,
    table: &Table,
    key: &ShardKey,
    left_out: Option<LeftOut<'_>>,
) -> Result<Vec<usize>, crate::Refusal> {
    let needs_key = |why: &str| refuse::insert_needs_key(&key.name(), why);
    let plain = |column: &ObjectName| {
        let name = object_name(column).filter(|(of, _)| of.is_none());
        name.map(|(_, name)| name)
    };
    let names: Option<Vec<String>> = match insert.columns.as_slice() {
        [] => Some(
            table
                .columns
                .iter()
                .map(|known| known.name.clone())
                .collect(),
        ),
        columns => columns.iter().map(plain).collect(),
    };
    let names = names.ok_or_else(|| needs_key("Its column list holds more than plain names"))?;
    let position = |column: &KeyColumn| {
        let drawn = left_out.filter(|left| left.column == column.name);
        let at = match drawn {
            Some(left) => Some(left.position),
            None => names.iter().position(|name| *name == column.name),
        };
        at.ok_or_else(|| match default_of(table, &column.name) {
            Some(ColumnDefault::Sequence) => refuse::sequence_default(&table.name, &column.name),
            Some(ColumnDefault::Constant | ColumnDefault::Computed) | None => {
                needs_key("The key is not among its columns")
            }
        })
    };
    key.columns.iter().map(position).collect()
}

pub(super) fn default_of(table: &Table, column: &str) -> Option<ColumnDefault> {
    let known = table.columns.iter().find(|known| known.name == column);
    known.map(|column| column.default)
}

/// How a column of the key reads values that are inserted.
pub(super) fn inserted_part(table: &Table, column: &KeyColumn) -> KeyPart {
    let kept = table.columns.iter().find(|known| known.name == column.name);
    KeyPart {
        key_type: column.key_type,
        name: format!("{}.{}", table.name, column.name),
        insert: Some(kept.map_or(Keeps::Same, |column| column.keeps)),
    }
}

/// Rows to insert, by their values of the key's columns.
pub(super) fn keys_of_rows(table: &Table, key: &ShardKey, parts: Vec<Part>) -> KeySet {
    let limit = match parts.len() {
        1 => Limit::Each(parts),
        _ => Limit::Rows(parts),
    };
    let limit = TableLimit {
        key: format!("{}.{}", table.name, key.name()),
        placement: key.placement,
        limit,
    };
    KeySet {
        tables: vec![limit],
    }
}

fn inserted_keys(
    insert: &Insert,
    table: &Table,
    key: &ShardKey,
    input: Input<'_>,
) -> Result<KeySet, crate::Refusal> {
    let needs_key = |why: &str| refuse::insert_needs_key(&key.name(), why);
    let positions = key_positions(insert, table, key, None)?;
    let Some(source) = &insert.source else {
        return Err(needs_key("DEFAULT VALUES are computed on the shard"));
    };
    let SetExpr::Values(rows) = source.body.as_ref() else {
        return Err(refuse::insert_select(&table.name));
    };
    if source.order_by.is_some() || source.limit_clause.is_some() || source.fetch.is_some() {
        return Err(refuse::insert_select(&table.name));
    }
    let mut parts = Vec::with_capacity(positions.len());
    for (column, position) in key.columns.iter().zip(positions) {
        let mut column = inserted_part(table, column);
        let name = column.key_type.sql_name();
        let given = rows.rows.iter().map(|row| row.content.get(position));
        let given: Option<Vec<&Expr>> = given.collect();
        let given =
            given.ok_or_else(|| needs_key("A row has fewer values than there are columns"))?;
        column.key_type = values::widest(given.iter().copied(), column.key_type);
        let mut values = Vec::with_capacity(given.len());
        for expr in given {
            let value = values::key_value(expr, column.key_type, &TypedParams::default(), input)
                .ok_or_else(|| {
                    needs_key(&format!(
                        "It is neither a constant nor a parameter of type {name}"
                    ))
                })?;
            values.push(value);
        }
        parts.push(Part { column, values });
    }
    Ok(keys_of_rows(table, key, parts))
}

pub(super) fn update(update: &Update, facts: &Facts<'_>, input: Input<'_>) -> Decision {
    if !update.table.joins.is_empty() {
        // Not PostgreSQL's.
        return refused(refuse::unreadable());
    }
    let table = written(&update.table, input);
    if let Some(table) = table
        && table.class == TableClass::Reference
        && update.from.is_some()
    {
        return refused(refuse::update_from_on_reference(&table.name));
    }
    let placed = before_keys(update, table, facts, input);
    let Some(table) = table else {
        return placed.unwrap_or_else(|| refused(refuse::write_target()));
    };
    let mut from = vec![update.table.clone()];
    match &update.from {
        Some(UpdateTableFromKind::BeforeSet(more) | UpdateTableFromKind::AfterSet(more)) => {
            from.extend(more.iter().cloned());
        }
        None => {}
    }
    let assigned = update
        .assignments
        .iter()
        .map(|assignment| &assignment.value);
    let moved = match &table.class {
        TableClass::Sharded(key) => {
            set_of(&update.assignments, table, key).map(|column| (table, key, column))
        }
        TableClass::Reference | TableClass::Single(_) | TableClass::Undeclared => None,
    };
    let write = Write {
        statement: update,
        table,
        from,
        selection: update.selection.as_ref(),
        picks: picks::picks_anywhere(update, input),
        values: assigned
            .chain(returned(update.returning.as_ref()))
            .collect(),
        returns_all: has_star(update.returning.as_ref()),
        moves: moved.is_some(),
    };
    if let Some(decision) = placed {
        return write.on_one_shard(decision, facts, input);
    }
    let decision = by_rows(&write, facts, input);
    match moved {
        Some(key) => moves::target(update, key, decision, facts, input),
        None => decision,
    }
}

pub(super) fn delete(delete: &Delete, facts: &Facts<'_>, input: Input<'_>) -> Decision {
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let table = match from.as_slice() {
        [only] => written(only, input),
        _ => None,
    };
    let placed = before_keys(delete, table, facts, input);
    let Some(table) = table else {
        return placed.unwrap_or_else(|| refused(refuse::write_target()));
    };
    let mut from = from.clone();
    from.extend(delete.using.iter().flatten().cloned());
    let write = Write {
        statement: delete,
        table,
        from,
        selection: delete.selection.as_ref(),
        picks: picks::picks_anywhere(delete, input),
        values: returned(delete.returning.as_ref()).collect(),
        returns_all: has_star(delete.returning.as_ref()),
        moves: false,
    };
    match placed {
        Some(decision) => write.on_one_shard(decision, facts, input),
        None => by_rows(&write, facts, input),
    }
}

/// The rows that an UPDATE or DELETE touches.
struct Write<'a, S> {
    statement: &'a S,
    table: &'a Table,
    from: Vec<TableWithJoins>,
    selection: Option<&'a Expr>,
    /// A query inside of it picks rows for all of it.
    picks: bool,
    /// What is assigned and what is returned.
    values: Vec<&'a Expr>,
    /// RETURNING has a star.
    returns_all: bool,
    /// It sets the key.
    moves: bool,
}

const GATHERED: &str = "rows that it reads may be on other shards, so they are gathered first";

impl<S: Visit> Write<'_, S> {
    /// Of a table on one shard, which may read what is elsewhere.
    fn on_one_shard(&self, decision: Decision, facts: &Facts<'_>, input: Input<'_>) -> Decision {
        match (decision, &self.table.class) {
            ((Target::Refused(refusal), reason), TableClass::Single(shard)) => {
                match self.gathered(Some(*shard), facts, refusal, input) {
                    Many::Refused(refusal) => (Target::Refused(refusal), reason),
                    many => (Target::AllShards(many), GATHERED.into()),
                }
            }
            (decision, _) => decision,
        }
    }

    /// `at` is the shard of the table, where it is on one; `refusal` is for what cannot be gathered.
    fn gathered(
        &self,
        at: Option<ShardId>,
        facts: &Facts<'_>,
        refusal: Refusal,
        input: Input<'_>,
    ) -> Many {
        let written = gather::Written {
            statement: self.statement,
            from: &self.from,
            selection: self.selection,
            returns_all: self.returns_all,
            at,
        };
        let gather = gather::of_write(&written, facts, refusal, input);
        gather.map_or_else(Many::Refused, |gather| Many::Write(Box::new(gather)))
    }

    /// What several shards do, each with its rows of the table: what `apart` says is that they read no others.
    fn on_several(&self, apart: bool, facts: &Facts<'_>, input: Input<'_>) -> Many {
        let joins = || refuse::write_joins(&self.table.name);
        if !apart && self.moves {
            Many::Refused(joins())
        } else if self.picks {
            Many::Refused(refuse::write_picks(&self.table.name))
        } else if self.selection.is_some_and(physical::compares) {
            Many::Refused(refuse::physical_column())
        } else if apart {
            Many::SumTags
        } else {
            self.gathered(None, facts, joins(), input)
        }
    }
}

fn has_star(items: Option<&Vec<SelectItem>>) -> bool {
    let is_star = |item: &SelectItem| match item {
        SelectItem::QualifiedWildcard(..) | SelectItem::Wildcard(_) => true,
        SelectItem::UnnamedExpr(_)
        | SelectItem::ExprWithAlias { .. }
        | SelectItem::ExprWithAliases { .. } => false,
    };
    items.into_iter().flatten().any(is_star)
}

/// The expressions of RETURNING; names of columns hold no subqueries.
fn returned(items: Option<&Vec<SelectItem>>) -> impl Iterator<Item = &Expr> {
    items.into_iter().flatten().filter_map(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        SelectItem::ExprWithAliases { .. }
        | SelectItem::QualifiedWildcard(..)
        | SelectItem::Wildcard(_) => None,
    })
}

fn written<'a>(item: &TableWithJoins, input: Input<'a>) -> Option<&'a Table> {
    match &item.relation {
        TableFactor::Table {
            name, args: None, ..
        } if item.joins.is_empty() => resolve(name, input),
        _ => None,
    }
}

/// Of a sharded table.
fn by_rows<S: Visit>(write: &Write<'_, S>, facts: &Facts<'_>, input: Input<'_>) -> Decision {
    let clauses = Clauses::new(&write.from, write.selection, input);
    let mut pins = clauses.pins();
    // Rows of one shard must meet rows of that shard only: all sharded tables joined by key, those
    // in subqueries tied to it.
    let alone = facts.pins.is_empty() && pins.len() == facts.sharded().count();
    let elsewhere = facts.sharded().count().saturating_sub(pins.len());
    let tied = elsewhere > 0
        && colocated::subqueries_of_write(write.selection, &write.values, &clauses, input)
            == Some(elsewhere);
    let apart =
        (alone || tied) && clauses.is_colocated() && !facts.table_functions && !facts.system_tables;
    let many = write.on_several(apart, facts, input);
    let own = union_of_keys(&pins);
    pins.extend(facts.pins.iter().cloned());
    let keys = match apart && tied {
        true => own,
        false => joint_keys(&pins, facts),
    };
    match (keys, many) {
        (Some(keys), many) => by_keys(keys, many),
        (None, Many::Refused(refusal)) => refused(refusal),
        (None, many @ Many::Write(_)) => (Target::AllShards(many), GATHERED.into()),
        (None, many) => (
            Target::AllShards(many),
            "no value of the sharding key is given".into(),
        ),
    }
}

/// The column of the key that one of the assignments sets, perhaps by setting what it is computed from.
pub(super) fn set_of<'k>(
    assignments: &[Assignment],
    table: &Table,
    key: &'k ShardKey,
) -> Option<&'k str> {
    let computed = |name: &str| {
        let column = table.columns.iter().find(|column| column.name == name);
        let from = column.and_then(|column| column.generated_from.as_ref());
        from.is_some_and(|from| from.iter().any(|source| sets(assignments, source)))
    };
    let mut names = key.columns.iter().map(|column| column.name.as_str());
    names.find(|name| sets(assignments, name) || computed(name))
}

/// Does one of the assignments set `column`?
fn sets(assignments: &[Assignment], column: &str) -> bool {
    let is_it = |name: &ObjectName| {
        object_name(name).is_none_or(|(of, name)| {
            // `a.b = …` sets field b of column a.
            of.unwrap_or(name) == column
        })
    };
    assignments
        .iter()
        .any(|assignment| match &assignment.target {
            AssignmentTarget::ColumnName(name) => is_it(name),
            AssignmentTarget::Tuple(names) => names.iter().any(is_it),
        })
}
