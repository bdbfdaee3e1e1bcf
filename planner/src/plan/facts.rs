//! One walk over a whole statement: its tables, its functions, its SELECTs.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, Query,
    Select, SelectItem, SetExpr, Statement, TableFactor, Value, Visit, Visitor,
};

use super::functions::{self, Conduct};
use super::keys::{self, Pin};
use super::parse::{Parsed, Source};
use super::scope::{folded, is_system, object_name};
use super::unread;
use super::with_writes::Cte;
use crate::catalog::{Catalog, Table, TableClass};
use crate::plan::{self, Access, PlanOptions, SessionEffect};
use crate::topology::ShardId;

/// What the rest of the planner asks for, by reference.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) parsed: &'a Parsed,
    pub(super) catalog: &'a Catalog,
    pub(super) options: PlanOptions<'a>,
    /// The queries of a WITH around the part at hand.
    pub(super) ctes: &'a [Cte],
}

/// What one walk found.
pub(super) struct Facts<'a> {
    pub(super) conduct: Conduct,
    /// Tables of the catalog, each mention once.
    pub(super) tables: Vec<&'a Table>,
    /// Names that the catalog does not know, and that are no CTE and no system table.
    pub(super) unknown: Vec<String>,
    pub(super) system_tables: bool,
    pub(super) volatile: bool,
    pub(super) sequences: bool,
    /// Calls what may give another value on each shard, volatile or not.
    pub(super) differs_by_server: bool,
    /// A function whose body may read tables that the statement does not name.
    pub(super) reads_unseen: Option<String>,
    /// currval or lastval.
    pub(super) session_sequences: bool,
    /// setval.
    pub(super) sets_sequence: bool,
    /// pg_get_sequence_data, by which pg_dump asks for the state of all sequences at once.
    pub(super) all_sequences: bool,
    /// pg_export_snapshot.
    pub(super) exports: bool,
    /// pg_notify.
    pub(super) notifies: bool,
    /// SELECT INTO.
    pub(super) creates: Option<Creates>,
    /// Functions in FROM.
    pub(super) table_functions: bool,
    /// Statements that write, those in WITH included.
    pub(super) writes: usize,
    /// Queries with FOR UPDATE, FOR SHARE or the like.
    pub(super) locks: usize,
    /// But for these the statement would only read.
    pub(super) only_locks: bool,
    /// What each SELECT says of the keys of its sharded tables.
    pub(super) pins: Vec<Pin>,
    /// True when the tree has a part whose tables this walk does not see, or may have misread one.
    pub(super) opaque: bool,
}

/// What SELECT INTO creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Creates {
    Table,
    Temporary,
}

struct Walk<'a> {
    input: Input<'a>,
    facts: Facts<'a>,
    names: Vec<(Option<String>, String)>,
    ctes: HashSet<String>,
    /// The next relation is a function in FROM, not a table.
    function_next: bool,
    /// `row.name` where a function `name` may read tables.
    fields: Vec<String>,
}

pub(super) fn of_part<'a>(part: &impl Visit, input: Input<'a>) -> Facts<'a> {
    let mut walk = Walk {
        input,
        facts: Facts {
            conduct: Conduct::HARMLESS,
            tables: Vec::new(),
            unknown: Vec::new(),
            system_tables: false,
            volatile: false,
            sequences: false,
            differs_by_server: false,
            reads_unseen: None,
            session_sequences: false,
            sets_sequence: false,
            all_sequences: false,
            exports: false,
            notifies: false,
            creates: None,
            table_functions: false,
            writes: 0,
            locks: 0,
            only_locks: false,
            pins: Vec::new(),
            opaque: false,
        },
        names: Vec::new(),
        ctes: input.ctes.iter().map(|cte| cte.name.clone()).collect(),
        function_next: false,
        fields: Vec::new(),
    };
    let _: ControlFlow<()> = part.visit(&mut walk);
    walk.resolve_names();
    if walk.facts.locks > 0 {
        walk.facts.only_locks = walk.facts.conduct.access == Access::Read;
        walk.needs_primary();
    }
    // What looks like an unknown table may be syntax that sqlparser took for a name, as in
    // `FROM ONLY orders`.
    let seen = &walk.facts.tables;
    let misread = |table: &&Table| !seen.iter().any(|known| std::ptr::eq(*known, *table));
    let hidden = !walk.facts.unknown.is_empty()
        && unread::tables(input.source, input.catalog)
            .iter()
            .any(misread);
    walk.facts.opaque |= hidden;
    walk.facts
}

impl<'a> Walk<'a> {
    fn call(&mut self, name: &str, ends_with_transaction: bool) {
        let catalog = self.input.catalog;
        let conduct = functions::conduct(name, ends_with_transaction, catalog);
        let before = std::mem::replace(&mut self.facts.conduct, Conduct::HARMLESS);
        self.facts.conduct = before.and(conduct);
        self.facts.volatile |= functions::is_volatile(name, catalog);
        self.facts.sequences |= functions::is_of_sequence(name);
        self.facts.differs_by_server |= functions::differs_by_server(name, catalog);
        if functions::may_read_tables(name, catalog) {
            self.facts
                .reads_unseen
                .get_or_insert_with(|| name.to_owned());
        }
        self.facts.notifies |= name == "pg_notify";
        self.facts.sets_sequence |= name == "setval";
        self.facts.all_sequences |= name == "pg_get_sequence_data";
        self.facts.exports |= name == "pg_export_snapshot";
        self.facts.session_sequences |= matches!(name, "currval" | "lastval");
    }

    fn call_object(&mut self, name: &ObjectName, ends_with_transaction: bool) {
        let (schema, name) = object_name(name).unwrap_or_default();
        self.call(&name, ends_with_transaction);
        if schema.is_some_and(|schema| schema.starts_with("pg_temp")) {
            // The session's own, whatever else has its name.
            let conduct = Conduct::new(Access::Write, SessionEffect::Pin(plan::Pin::Temporary));
            let before = std::mem::replace(&mut self.facts.conduct, Conduct::HARMLESS);
            self.facts.conduct = before.and(conduct);
        }
    }

    /// `row.f` calls f(row) when f is no column. No function of PostgreSQL's own that takes a row
    /// writes.
    fn maybe_call(&mut self, name: &str) {
        let function = self.input.catalog.function(name);
        if function.is_some_and(|f| f.user_defined && f.may_write) {
            self.call(name, false);
        }
        if function.is_some_and(|f| f.may_read_tables) {
            self.fields.push(name.to_owned());
        }
    }

    /// `(value).f` calls f(value), whatever the value: `('s'::regclass).nextval`.
    fn maybe_call_on_value(&mut self, name: &str) {
        if functions::misconduct(name, self.input.catalog).is_some() {
            self.call(name, false);
        }
        if functions::may_read_tables(name, self.input.catalog) {
            self.fields.push(name.to_owned());
        }
    }

    fn resolve_names(&mut self) {
        let catalog = self.input.catalog;
        for (schema, name) in std::mem::take(&mut self.names) {
            // A CTE may hide a table in one part of the statement and not in another.
            match catalog.table(schema.as_deref(), &name) {
                Some(table) => self.facts.tables.push(table),
                None if schema.is_none() && self.ctes.contains(&name) => {}
                None if is_system(schema.as_deref(), &name) => self.facts.system_tables = true,
                None => {
                    self.needs_primary();
                    self.facts.unknown.push(name);
                }
            }
        }
        let tables = &self.facts.tables;
        let is_column = |name: &String| {
            let mut columns = tables.iter().flat_map(|table| &table.columns);
            columns.any(|column| column.name == *name)
        };
        let called = self.fields.drain(..).find(|name| !is_column(name));
        self.facts.reads_unseen = self.facts.reads_unseen.take().or(called);
    }

    fn needs_primary(&mut self) {
        self.facts.conduct.access =
            functions::worse_access(self.facts.conduct.access, Access::Primary);
    }
}

impl Visitor for Walk<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        if std::mem::take(&mut self.function_next) {
            return ControlFlow::Continue(());
        }
        match object_name(name) {
            Some(name) => self.names.push(name),
            None => self.facts.opaque = true,
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table {
                name,
                args: Some(_),
                ..
            } => {
                self.facts.table_functions = true;
                self.function_next = true;
                self.call_object(name, false);
            }
            TableFactor::Function { name, .. } => {
                self.facts.table_functions = true;
                self.call_object(name, false);
            }
            TableFactor::Table { args: None, .. }
            | TableFactor::Derived { .. }
            | TableFactor::NestedJoin { .. } => {}
            // Their expressions are visited.
            TableFactor::UNNEST { .. } | TableFactor::XmlTable { .. } => {
                self.facts.table_functions = true;
            }
            _ => self.facts.opaque = true,
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.ctes
                .extend(with.cte_tables.iter().map(|cte| folded(&cte.alias.name)));
        }
        self.facts.locks += usize::from(!query.locks.is_empty());
        self.facts.opaque |= names_a_table(&query.body) || !query.pipe_operators.is_empty();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        if let Some(into) = &select.into {
            let (creates, effect) = if into.temporary || self.input.source.names_temporary() {
                (Creates::Temporary, SessionEffect::Pin(plan::Pin::Temporary))
            } else {
                (Creates::Table, SessionEffect::None)
            };
            self.facts.creates = Some(creates);
            let before = std::mem::replace(&mut self.facts.conduct, Conduct::HARMLESS);
            self.facts.conduct = before.and(Conduct::new(Access::Write, effect));
        }
        // A function of users, taken for a clause of another system; and what is in quotes that no alias of
        // PostgreSQL's has belongs to a constant.
        let is_constant = |item: &SelectItem| match item {
            SelectItem::ExprWithAlias { alias, .. } => alias.quote_style == Some('\''),
            _ => false,
        };
        self.facts.opaque |= select.top.is_some() || select.projection.iter().any(is_constant);
        self.facts
            .pins
            .extend(keys::pins_of_select(select, self.input));
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        match statement {
            Statement::Query(_) => {}
            // Also those in WITH.
            _ => {
                self.facts.conduct.access = Access::Write;
                self.facts.writes += 1;
                if sets(statement) {
                    self.facts.conduct.effect = functions::worse_effect(
                        self.facts.conduct.effect.clone(),
                        SessionEffect::Pin(plan::Pin::Setting),
                    );
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => match &function.args {
                // CURRENT_TIMESTAMP, SESSION_USER and their like.
                FunctionArguments::None => {
                    let (_, name) = object_name(&function.name).unwrap_or_default();
                    self.facts.differs_by_server |= functions::tells_time(&name);
                }
                args => self.call_object(&function.name, ends_with_true(args)),
            },
            // Names of one thing have other OIDs on each server.
            Expr::Cast { data_type, .. } => {
                self.facts.differs_by_server |= is_object_name(data_type);
            }
            Expr::Ceil { .. } => self.call("ceil", false),
            Expr::Floor { .. } => self.call("floor", false),
            Expr::Substring { .. } => self.call("substring", false),
            Expr::Overlay { .. } => self.call("overlay", false),
            Expr::Convert { .. } => self.call("convert", false),
            Expr::CompoundIdentifier(idents) => {
                if let Some(last) = idents.last() {
                    self.maybe_call(&folded(last));
                }
            }
            Expr::CompoundFieldAccess { access_chain, .. } => {
                for access in access_chain {
                    if let AccessExpr::Dot(Expr::Identifier(ident)) = access {
                        self.maybe_call_on_value(&folded(ident));
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `regclass` and its kin: a name to read, an OID to keep.
pub(super) fn is_object_name(data_type: &DataType) -> bool {
    let name = data_type.to_string().to_ascii_lowercase();
    name.starts_with("reg") || name.starts_with("pg_catalog.reg")
}

/// UPDATE of `pg_settings` is SET, of any setting.
fn sets(statement: &Statement) -> bool {
    let Statement::Update(update) = statement else {
        return false;
    };
    let TableFactor::Table { name, .. } = &update.table.relation else {
        return false;
    };
    object_name(name).is_some_and(|(_, name)| name == "pg_settings")
}

/// `TABLE name` as a query: sqlparser keeps the name out of what it shows as relations.
fn names_a_table(body: &SetExpr) -> bool {
    match body {
        SetExpr::Table(_) => true,
        SetExpr::SetOperation { left, right, .. } => names_a_table(left) || names_a_table(right),
        SetExpr::Select(_)
        | SetExpr::Query(_)
        | SetExpr::Values(_)
        | SetExpr::Insert(_)
        | SetExpr::Update(_)
        | SetExpr::Delete(_)
        | SetExpr::Merge(_) => false,
    }
}

/// Is the last argument the word TRUE?
fn ends_with_true(args: &FunctionArguments) -> bool {
    let FunctionArguments::List(list) = args else {
        return false;
    };
    match list.args.last() {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))) => {
            value.value == Value::Boolean(true)
        }
        Some(_) | None => false,
    }
}

impl<'a> Facts<'a> {
    pub(super) fn sharded(&self) -> impl Iterator<Item = &'a Table> + '_ {
        self.tables
            .iter()
            .copied()
            .filter(|table| matches!(table.class, TableClass::Sharded { .. }))
    }

    pub(super) fn has_sharded(&self) -> bool {
        self.sharded().next().is_some()
    }

    pub(super) fn undeclared(&self) -> Option<&'a Table> {
        self.tables
            .iter()
            .copied()
            .find(|table| table.class == TableClass::Undeclared)
    }

    pub(super) fn singles(&self) -> impl Iterator<Item = (&'a Table, ShardId)> + '_ {
        self.tables
            .iter()
            .copied()
            .filter_map(|table| match table.class {
                TableClass::Single(shard) => Some((table, shard)),
                TableClass::Sharded { .. } | TableClass::Reference | TableClass::Undeclared => None,
            })
    }

    pub(super) fn has_reference(&self) -> bool {
        self.tables
            .iter()
            .any(|table| table.class == TableClass::Reference)
    }
}
