//! Where MERGE runs.
//!
//! Of a sharded table, four kinds are proven. The source has the key of each row as a constant, the
//! target is joined by it, and it is what is inserted: then the rows of one shard meet on that shard. Or
//! the source is a table whose rows live beside those of the target that they are joined with, and whose
//! key is inserted: then each shard merges its own. Or nothing is inserted, and the source is the same
//! on every shard. Or the target is joined by a column of the source, and that is inserted: then the source
//! is gathered first, if need be ([`super::merge_source`]).

use sqlparser::ast::{
    BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, Merge, MergeAction,
    MergeClauseKind, MergeInsertExpr, MergeInsertKind, MergeUpdateKind, ObjectName, OutputClause,
    Query, Select, SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins,
};

use super::colocated::{conjuncts_of, is_body_alone, makes_rows_of_rows};
use super::dml::{before_keys, inserted_part, keys_of_rows, set_of, unequal_default};
use super::facts::{Facts, Input};
use super::keys::{Clauses, without_parentheses};
use super::physical;
use super::picks;
use super::query::{Decision, by_keys, refused, union_of_keys};
use super::refuse;
use super::scope::{Reference, folded, object_name};
use super::values::{self, TypedParams};
use crate::catalog::{Keeps, KeyColumn, ShardKey, Table, TableClass, TableColumn};
use crate::limit::{KeyValue, Part};
use crate::plan::{Many, Target};
use crate::route::ValueRef;

pub(super) fn target(merge: &Merge, facts: &Facts<'_>, input: Input<'_>) -> Decision {
    let table = Reference::of_factor(&merge.table, input.catalog).table;
    let inserts: Vec<&MergeInsertExpr> = merge
        .clauses
        .iter()
        .filter_map(|clause| match &clause.action {
            MergeAction::Insert(insert) => Some(insert),
            _ => None,
        })
        .collect();
    if let Some(table) = table
        && let Some(refusal) = inserts
            .iter()
            .find_map(|insert| lacking(insert, table, input))
    {
        return refused(refusal);
    }
    let placed = before_keys(merge, table, facts, input);
    // What is not where its rows belong may be brought there.
    let elsewhere = matches!(&placed, Some((Target::Refused(_), _)))
        && table.and_then(key_of).is_some()
        && may_gather(facts);
    if let Some(decision) = placed.filter(|_| !elsewhere) {
        return decision;
    }
    let (Some(table), Some(key)) = (table, table.and_then(key_of)) else {
        return refused(refuse::write_target());
    };
    let assigned = merge
        .clauses
        .iter()
        .filter_map(|clause| match &clause.action {
            MergeAction::Update(update) => Some(&update.kind),
            _ => None,
        });
    for kind in assigned {
        match kind {
            MergeUpdateKind::Set(assignments) => {
                if let Some(column) = set_of(assignments, table, key) {
                    return refused(refuse::update_of_key(
                        column,
                        "MERGE updates a row where it is",
                    ));
                }
            }
            // Not PostgreSQL's.
            MergeUpdateKind::Wildcard => return refused(refuse::unreadable()),
        }
    }
    let merged = Merged {
        merge,
        table,
        key,
        inserts,
        input,
    };
    let here = || {
        merged
            .by_constants(facts)
            .or_else(|| merged.by_tables(facts))
            .or_else(|| merged.by_limits(facts))
    };
    let decision = match elsewhere {
        true => None,
        false => here(),
    };
    decision.unwrap_or_else(|| match merged.many(false, facts) {
        Many::Refused(refusal) => refused(refusal),
        many => (
            Target::AllShards(many),
            "rows of the source may belong to other shards, so they are gathered first".into(),
        ),
    })
}

/// Does nothing but tables of one shard keep the source from being read?
fn may_gather(facts: &Facts<'_>) -> bool {
    !facts.sequences
        && facts.undeclared().is_none()
        && facts.unknown.is_empty()
        && facts.writes == 1
        && facts.singles().next().is_some()
}

fn key_of(table: &Table) -> Option<&ShardKey> {
    match &table.class {
        TableClass::Sharded(key) => Some(key),
        TableClass::Reference | TableClass::Single(_) | TableClass::Undeclared => None,
    }
}

/// What a new row would not get as one PostgreSQL gives it.
fn lacking(insert: &MergeInsertExpr, table: &Table, input: Input<'_>) -> Option<crate::Refusal> {
    let is_given = |column: &TableColumn| {
        inserted(insert, table, &column.name).is_some_and(|value| !super::dml::is_default(value))
    };
    let default_id = input.catalog.default_id(table).filter(|name| {
        let column = table.columns.iter().find(|column| column.name == **name);
        !column.is_some_and(is_given)
    });
    match default_id {
        Some(column) => Some(refuse::default_id_inside(&table.name, column)),
        None => unequal_default(table, is_given),
    }
}

/// The value of `column` in a new row.
pub(super) fn inserted<'m>(
    insert: &'m MergeInsertExpr,
    table: &Table,
    column: &str,
) -> Option<&'m Expr> {
    let MergeInsertKind::Values(values) = &insert.kind else {
        return None;
    };
    let [row] = values.rows.as_slice() else {
        return None;
    };
    let is_it = |name: &ObjectName| object_name(name).is_some_and(|(_, name)| name == column);
    let position = match insert.columns.as_slice() {
        [] => table.columns.iter().position(|known| known.name == column),
        names => names.iter().position(is_it),
    };
    row.content.get(position?)
}

/// A MERGE into a sharded table.
pub(super) struct Merged<'a> {
    pub(super) merge: &'a Merge,
    pub(super) table: &'a Table,
    pub(super) key: &'a ShardKey,
    pub(super) inserts: Vec<&'a MergeInsertExpr>,
    pub(super) input: Input<'a>,
}

impl Merged<'_> {
    /// With a source of constants.
    fn by_constants(&self, facts: &Facts<'_>) -> Option<Decision> {
        let only_target = facts.sharded().count() == 1 && facts.pins.is_empty();
        if !only_target || self.keeps_unmatched_target() {
            return None;
        }
        let constants = Constants::of(&self.merge.source)?;
        let target = Reference::of_factor(&self.merge.table, self.input.catalog);
        let is_bare = |name: &str| self.table.columns.iter().all(|known| known.name != name);
        let target_column = |expr: &Expr| match without_parentheses(expr) {
            Expr::CompoundIdentifier(names) => match names.as_slice() {
                [qualifier, name] => (folded(qualifier) == target.alias).then(|| folded(name)),
                _ => None,
            },
            Expr::Identifier(name) => {
                let name = folded(name);
                (!is_bare(&name) && !constants.names.contains(&name)).then_some(name)
            }
            _ => None,
        };
        let equalities = self.equalities();
        let mut parts = Vec::with_capacity(self.key.columns.len());
        for column in &self.key.columns {
            let tied = equalities.iter().find_map(|(own, other)| {
                let is_key = target_column(own).is_some_and(|name| name == column.name);
                is_key.then(|| constants.column(other, is_bare))?
            })?;
            // What is inserted belongs to the shard where it was looked for. There names are the source's.
            let same = |insert: &&MergeInsertExpr| {
                let value = inserted(insert, self.table, &column.name);
                value.and_then(|value| constants.column(value, |_| true)) == Some(tied)
            };
            if !self.inserts.iter().all(same) {
                return None;
            }
            parts.push(self.part(column, constants.values(tied))?);
        }
        let keys = keys_of_rows(self.table, self.key, parts);
        let many = match self.inserts.is_empty() {
            true => self.on_each(facts),
            false => self.many(true, facts),
        };
        Some(by_keys(keys, many))
    }

    /// Both sides of what ON demands to be equal, in either order.
    pub(super) fn equalities(&self) -> Vec<(&Expr, &Expr)> {
        let mut conjuncts = Vec::new();
        conjuncts_of(&self.merge.on, &mut conjuncts);
        let sides = conjuncts.into_iter().filter_map(|conjunct| match conjunct {
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq,
                right,
            } => Some([(&**left, &**right), (&**right, &**left)]),
            _ => None,
        });
        sides.flatten().collect()
    }

    /// What to do with rows of several shards that have to be brought there.
    fn many(&self, has_keys: bool, facts: &Facts<'_>) -> Many {
        match self.gathered(has_keys, facts) {
            Some(Ok(insertion)) => Many::Insert(Box::new(insertion)),
            Some(Err(refusal)) => Many::Refused(refusal),
            None => Many::Refused(refuse::merge()),
        }
    }

    fn part<'e>(
        &self,
        column: &KeyColumn,
        values: impl Iterator<Item = Option<&'e Expr>>,
    ) -> Option<Part> {
        let mut column = inserted_part(self.table, column);
        if self.inserts.is_empty() {
            column.insert = None;
        }
        let values = values.collect::<Option<Vec<&Expr>>>()?;
        column.key_type = values::widest_together(values.iter().copied(), column.key_type);
        let value = |expr: &&Expr| {
            let typed = TypedParams::default();
            let value = values::key_value(expr, column.key_type, &typed, self.input)?;
            // It matches nothing, and is an error where it is inserted, which depends on other conditions.
            (value != KeyValue::One(ValueRef::Null)).then_some(value)
        };
        let values = values.iter().map(value).collect::<Option<Vec<_>>>()?;
        (!values.is_empty()).then_some(Part { column, values })
    }

    /// With a source of rows: of a sharded table, or of what is the same on every shard.
    fn by_tables(&self, facts: &Facts<'_>) -> Option<Decision> {
        let flat = self.flat_source();
        let clauses = self.joined_with(flat.as_ref().unwrap_or(&self.merge.source));
        let pins = clauses.pins();
        let inside = facts.pins.len();
        let is_known =
            inside == usize::from(flat.is_some()) && pins.len() == facts.sharded().count();
        let apart = is_known
            && clauses.is_colocated()
            && self.inserts_keys_of(&clauses)
            && !facts.table_functions
            && !facts.system_tables;
        if !apart {
            return None;
        }
        let many = self.on_each(facts);
        // Rows of the target are joined with those of the source by their keys.
        let keys = match flat {
            Some(_) if !self.keeps_unmatched_target() => facts.pins.first()?.keys.clone(),
            Some(_) => None,
            None => union_of_keys(&pins),
        };
        Some(match keys {
            Some(keys) => by_keys(keys, many),
            None => (
                Target::AllShards(many),
                "each shard merges its own rows".into(),
            ),
        })
    }

    /// With all that is read, joined and inserted limited to given keys.
    fn by_limits(&self, facts: &Facts<'_>) -> Option<Decision> {
        let mut pins = self.joined_with(&self.merge.source).pins();
        pins.extend(facts.pins.iter().cloned());
        if self.keeps_unmatched_target() || pins.len() != facts.sharded().count() {
            return None;
        }
        let mut keys = union_of_keys(&pins)?;
        for insert in &self.inserts {
            let part = |column: &KeyColumn| {
                let value = inserted(insert, self.table, &column.name);
                self.part(column, std::iter::once(value))
            };
            let parts = self.key.columns.iter().map(part).collect::<Option<_>>()?;
            keys = keys.union(keys_of_rows(self.table, self.key, parts));
        }
        Some(by_keys(keys, self.many(false, facts)))
    }

    fn joined_with(&self, source: &TableFactor) -> Clauses<'_> {
        let on = JoinConstraint::On((*self.merge.on).clone());
        let keeps_source = !self.inserts.is_empty();
        let join_operator = match (keeps_source, self.keeps_unmatched_target()) {
            (false, false) => JoinOperator::Inner(on),
            (true, false) => JoinOperator::RightOuter(on),
            (false, true) => JoinOperator::LeftOuter(on),
            (true, true) => JoinOperator::FullOuter(on),
        };
        let from = [TableWithJoins {
            relation: self.merge.table.clone(),
            joins: vec![Join {
                relation: source.clone(),
                global: false,
                join_operator,
            }],
        }];
        Clauses::new(&from, None, self.input)
    }

    /// The source as the one table that it reads, if its columns are that table's.
    fn flat_source(&self) -> Option<TableFactor> {
        let (query, alias) = derived(&self.merge.source)?;
        let SetExpr::Select(select) = query.body.as_ref() else {
            return None;
        };
        let [from] = select.from.as_slice() else {
            return None;
        };
        let table = Reference::of_factor(&from.relation, self.input.catalog).table?;
        let plain = is_body_alone(query)
            && alias.columns.is_empty()
            && from.joins.is_empty()
            && key_of(table).is_some()
            && makes_rows_of_rows(select, self.input)
            && keeps_names(select, table);
        match &from.relation {
            TableFactor::Table { .. } if plain => {
                let mut flat = from.relation.clone();
                if let TableFactor::Table { alias: name, .. } = &mut flat {
                    *name = Some(alias.clone());
                }
                Some(flat)
            }
            _ => None,
        }
    }

    /// Does every new row get the key of the row that it is made of?
    fn inserts_keys_of(&self, clauses: &Clauses<'_>) -> bool {
        let keeps =
            |column: &KeyColumn| inserted_part(self.table, column).insert == Some(Keeps::Same);
        self.inserts.iter().all(|insert| {
            let values = self.key.columns.iter();
            let values = values.map(|column| inserted(insert, self.table, &column.name));
            let values: Option<Vec<&Expr>> = values.collect();
            self.key.columns.iter().all(keeps)
                && values.is_some_and(|values| clauses.has_key_of(&values, self.key))
        })
    }

    pub(super) fn keeps_unmatched_target(&self) -> bool {
        let mut clauses = self.merge.clauses.iter();
        clauses.any(|clause| clause.clause_kind == MergeClauseKind::NotMatchedBySource)
    }

    /// Each shard of several merges for itself.
    fn on_each(&self, facts: &Facts<'_>) -> Many {
        if facts.table_functions || facts.system_tables {
            Many::Refused(refuse::merge())
        } else if picks::picks_anywhere(self.merge, self.input) {
            Many::Refused(refuse::write_picks(&self.table.name))
        } else if self.compares_physical() {
            Many::Refused(refuse::physical_column())
        } else {
            Many::SumTags
        }
    }

    /// Does anything but the source compare where a row lies?
    pub(super) fn compares_physical(&self) -> bool {
        let output = match &self.merge.output {
            Some(OutputClause::Returning { select_items, .. }) => select_items.as_slice(),
            Some(OutputClause::Output { .. }) | None => &[],
        };
        physical::compares(&self.merge.on)
            || physical::compares(&self.merge.clauses)
            || physical::compares(&output.to_vec())
    }
}

fn derived(source: &TableFactor) -> Option<(&Query, &TableAlias)> {
    match source {
        TableFactor::Derived {
            lateral: false,
            subquery,
            alias: Some(alias),
            ..
        } => Some((subquery, alias)),
        _ => None,
    }
}

/// Does each name of a column of `table` mean that column outside of this SELECT too?
fn keeps_names(select: &Select, table: &Table) -> bool {
    let is_known = |name: &Ident| {
        let name = folded(name);
        table.columns.iter().any(|column| column.name == name)
    };
    select.projection.iter().all(|item| match item {
        SelectItem::Wildcard(options) => *options == Default::default(),
        SelectItem::QualifiedWildcard(_, options) => *options == Default::default(),
        SelectItem::UnnamedExpr(Expr::Identifier(_) | Expr::CompoundIdentifier(_)) => true,
        SelectItem::ExprWithAlias { alias, .. } => !is_known(alias),
        // PostgreSQL names it after a function or a type in it.
        SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAliases { .. } => false,
    })
}

/// A source whose rows are written out.
struct Constants<'a> {
    alias: String,
    names: Vec<String>,
    rows: Vec<Vec<&'a Expr>>,
}

impl<'a> Constants<'a> {
    fn of(source: &'a TableFactor) -> Option<Self> {
        let (query, alias) = derived(source)?;
        if !is_body_alone(query) {
            return None;
        }
        let (mut names, rows): (Vec<String>, Vec<Vec<&Expr>>) = match query.body.as_ref() {
            SetExpr::Values(values) => {
                let rows = values.rows.iter().map(|row| row.content.iter().collect());
                let rows: Vec<Vec<&Expr>> = rows.collect();
                let width = rows.first()?.len();
                ((1..=width).map(|at| format!("column{at}")).collect(), rows)
            }
            SetExpr::Select(select) => {
                let alone = select.from.is_empty()
                    && select.selection.is_none()
                    && select.having.is_none()
                    && select.distinct.is_none();
                let items = select.projection.iter().map(|item| match item {
                    SelectItem::ExprWithAlias { expr, alias } => Some((folded(alias), expr)),
                    // Only a list of names behind the alias can name it.
                    SelectItem::UnnamedExpr(expr) => Some((String::new(), expr)),
                    _ => None,
                });
                let items: Vec<(String, &Expr)> = items.collect::<Option<_>>()?;
                let (names, row) = items.into_iter().unzip();
                alone.then_some((names, vec![row]))?
            }
            _ => return None,
        };
        for (name, given) in names.iter_mut().zip(&alias.columns) {
            *name = folded(&given.name);
        }
        Some(Self {
            alias: folded(&alias.name),
            names,
            rows,
        })
    }

    /// The place of the column that `expr` is. `is_bare` tells of a name whether it may stand without the alias.
    fn column(&self, expr: &Expr, is_bare: impl Fn(&str) -> bool) -> Option<usize> {
        let name = match without_parentheses(expr) {
            Expr::CompoundIdentifier(names) => match names.as_slice() {
                [qualifier, name] if folded(qualifier) == self.alias => folded(name),
                _ => return None,
            },
            Expr::Identifier(name) => Some(folded(name)).filter(|name| is_bare(name))?,
            _ => return None,
        };
        let mut places = self.names.iter().enumerate();
        let mut places = places.by_ref().filter(|(_, known)| **known == name);
        let (at, _) = places.next()?;
        places.next().is_none().then_some(at)
    }

    fn values(&self, at: usize) -> impl Iterator<Item = Option<&'a Expr>> {
        self.rows.iter().map(move |row| row.get(at).copied())
    }
}
