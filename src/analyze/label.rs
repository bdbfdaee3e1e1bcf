//! What one statement would come to, and how many there are of each shape.

use std::collections::{BTreeMap, HashMap};

use planner::catalog::KeyType;
use planner::limit::{KeyValue, Limit, Part};
use planner::plan::{Access, Plan, PlanOptions, Statement, Target, plan};
use planner::refusal::UNREADABLE;
use planner::route::{Execution, Param, Shards, ValueRef};
use planner::shape::Shape;
use planner::{Catalog, Refusal, Route, Topology, Values, route};

use super::input::{Params, Seen, highest_parameter};

/// What becomes of a statement, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Refused,
    /// EXECUTE of what was prepared before the log begins.
    Unknown,
    /// Rows of several shards are brought to one server, which runs the statement over them.
    Gathered,
    /// Several shards answer, and their answers are merged.
    Merged,
    /// UPDATE, DELETE or the like on several shards.
    Several,
    /// The same on every shard: DDL, writes of reference tables.
    Everywhere,
    /// Rows that each go to their own shard.
    Split,
    /// One shard.
    Direct,
    /// BEGIN, COMMIT, SET, SHOW and the like, which no shares are told of.
    Session,
}

impl Class {
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::Unknown,
        Self::Gathered,
        Self::Merged,
        Self::Several,
        Self::Everywhere,
        Self::Split,
        Self::Direct,
        Self::Session,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Gathered => "gathered",
            Self::Merged => "merged",
            Self::Several => "several",
            Self::Everywhere => "everywhere",
            Self::Split => "split",
            Self::Direct => "direct",
            Self::Session => "session",
        }
    }

    pub fn meaning(self) -> &'static str {
        match self {
            Self::Refused => "not run, for the reason given",
            Self::Unknown => "EXECUTE of a text that the log does not have",
            Self::Gathered => "rows of several shards are brought to one server, which answers",
            Self::Merged => "several shards answer, their answers are merged",
            Self::Several => "a write on several shards",
            Self::Everywhere => "on every shard alike: DDL, writes of reference tables",
            Self::Split => "rows that each go to their own shard",
            Self::Direct => "one shard",
            Self::Session => "BEGIN, COMMIT, SET and the like",
        }
    }
}

/// Statements that differ in their constants only.
#[derive(Debug)]
pub struct Group {
    /// One of them.
    pub sample: Seen,
    pub access: Access,
    /// Calls and the reason of the first.
    pub classes: BTreeMap<Class, (u64, String)>,
}

impl Group {
    pub fn calls(&self) -> u64 {
        self.classes.values().map(|(calls, _)| calls).sum()
    }
}

/// Which policy of the configuration denies an execution, by the name of its key.
pub type Denial<'a> = &'a dyn Fn(&Plan, &Route<'_>) -> Option<&'static str>;

/// Plans statements of one database.
#[derive(Clone, Copy)]
pub struct Planner<'a> {
    pub catalog: &'a Catalog,
    pub topology: &'a Topology,
    pub denial: Denial<'a>,
}

/// More shapes than these are only counted: a log may have one for each of its statements.
const MOST_SHAPES: usize = 50_000;

/// As many sets of values stand for those that are not known.
const SAMPLES: usize = 8;

/// Labels by shape.
pub struct Labels<'a> {
    planner: Planner<'a>,
    by_shape: HashMap<Vec<u8>, (Plan, Group)>,
    shape: Shape,
    /// Calls of shapes beyond the most.
    pub beyond: u64,
}

impl<'a> Labels<'a> {
    pub fn new(planner: Planner<'a>) -> Self {
        Self {
            planner,
            by_shape: HashMap::new(),
            shape: Shape::default(),
            beyond: 0,
        }
    }

    pub fn add(&mut self, seen: Seen) {
        self.shape.scan(seen.sql.as_bytes());
        // PREPARE itself, and what was prepared as it runs, have one text.
        self.shape
            .key
            .push(u8::from(seen.params == Params::Unknown));
        if !self.by_shape.contains_key(&self.shape.key) {
            if self.by_shape.len() == MOST_SHAPES {
                self.beyond += seen.calls;
                return;
            }
            let plan = self.planner.plan(&seen.sql, &seen.params);
            let group = Group {
                sample: seen.clone(),
                access: plan.access,
                classes: BTreeMap::new(),
            };
            self.by_shape.insert(self.shape.key.clone(), (plan, group));
        }
        let Some((plan, group)) = self.by_shape.get_mut(&self.shape.key) else {
            return;
        };
        let (class, why) = self.planner.label(plan, &seen, &self.shape);
        let entry = group.classes.entry(class).or_insert_with(|| (0, why));
        entry.0 += seen.calls;
    }

    /// All shapes, those with most calls first.
    pub fn into_groups(self) -> Vec<Group> {
        let mut groups: Vec<_> = self
            .by_shape
            .into_values()
            .map(|(_, group)| group)
            .collect();
        groups.sort_by(|one, other| {
            let by_calls = other.calls().cmp(&one.calls());
            by_calls.then_with(|| one.sample.sql.cmp(&other.sample.sql))
        });
        groups
    }
}

impl Planner<'_> {
    fn plan(&self, sql: &str, params: &Params) -> Plan {
        let options = PlanOptions::default();
        let made = plan(sql, self.catalog, options);
        match &made.statement {
            // What was prepared is what runs.
            Statement::Prepare(prepare) if *params == Params::Unknown => {
                let body = sql.get(prepare.body.clone()).unwrap_or_default();
                plan(body, self.catalog, options)
            }
            _ => made,
        }
    }

    /// The label of one statement by itself.
    pub fn of(&self, seen: &Seen) -> Class {
        let mut shape = Shape::default();
        shape.scan(seen.sql.as_bytes());
        self.label(&self.plan(&seen.sql, &seen.params), seen, &shape)
            .0
    }

    fn label(&self, plan: &Plan, seen: &Seen, shape: &Shape) -> (Class, String) {
        if let Some(class) = of_session(&plan.statement) {
            return (class, plan.reason.to_string());
        }
        let is_unreadable =
            matches!(&plan.target, Target::Refused(refusal) if refusal.message == UNREADABLE);
        if is_unreadable && seen.params == Params::Unknown && seen.sql.contains('$') {
            // A parameter stands where SQL has none, as in `interval $1`.
            let sql = with_constants(&seen.sql);
            let params = Params::Known(Vec::new());
            let again = Seen {
                sql,
                params,
                calls: seen.calls,
            };
            let mut shape = Shape::default();
            shape.scan(again.sql.as_bytes());
            return self.label(&self.plan(&again.sql, &again.params), &again, &shape);
        }
        let needed = highest_parameter(&seen.sql);
        match &seen.params {
            Params::Known(values) if values.len() >= needed || values.is_empty() && needed == 0 => {
                let values: Vec<_> = values.iter().map(|value| value.as_deref()).collect();
                self.routed(plan, &seen.sql, shape, &values)
            }
            Params::Known(_) | Params::Unknown => {
                let types = key_types(plan);
                let labels = (0..SAMPLES).map(|sample| {
                    let values: Vec<_> = (0..needed)
                        .map(|at| example(types.get(&at), sample * (needed + 1) + at))
                        .collect();
                    let values: Vec<_> = values.iter().map(|value| Some(value.as_str())).collect();
                    self.routed(plan, &seen.sql, shape, &values)
                });
                // The worst of them: values may be on one shard by chance.
                let worst = labels.min_by_key(|(class, _)| *class);
                worst.unwrap_or((Class::Unknown, String::new()))
            }
        }
    }

    fn routed(
        &self,
        plan: &Plan,
        sql: &str,
        shape: &Shape,
        values: &[Option<&str>],
    ) -> (Class, String) {
        let params: Vec<_> = values
            .iter()
            .map(|value| Param {
                value: value.map(str::as_bytes),
                binary: false,
                type_oid: 0,
            })
            .collect();
        let values = Values {
            sql: sql.as_bytes(),
            pieces: &shape.pieces,
            params: &params,
        };
        if let Target::Ids(ids) = &plan.target {
            let drawn: Vec<i64> = (1..).take(ids.count).collect();
            let text = String::from_utf8_lossy(&ids.with_constants(values, &drawn)).into_owned();
            let plan = self.plan(&text, &Params::Known(Vec::new()));
            let mut shape = Shape::default();
            shape.scan(text.as_bytes());
            return match plan.target {
                Target::Ids(_) => (Class::Unknown, plan.reason.to_string()),
                _ => {
                    let values: Vec<_> = params.iter().map(|p| p.value).collect();
                    let texts: Vec<_> = values
                        .iter()
                        .map(|value| value.and_then(|value| std::str::from_utf8(value).ok()))
                        .collect();
                    self.routed(&plan, &text, &shape, &texts)
                }
            };
        }
        match route(plan, values, self.topology) {
            Err(refusal) => (Class::Refused, told(&refusal)),
            Ok(route) => match (self.denial)(plan, &route) {
                Some(key) => (Class::Refused, format!("{key} = \"deny\"")),
                None => (of_route(&route), plan.reason.to_string()),
            },
        }
    }
}

fn of_session(statement: &Statement) -> Option<Class> {
    match statement {
        Statement::Empty
        | Statement::Begin { .. }
        | Statement::Commit
        | Statement::Rollback
        | Statement::Chain { .. }
        | Statement::Savepoint(_)
        | Statement::Set(_)
        | Statement::Show(_)
        | Statement::Prepare(_)
        | Statement::Deallocate(_)
        | Statement::Listen(_)
        | Statement::Unlisten(_)
        | Statement::ExplainRoute { .. } => Some(Class::Session),
        Statement::Execute(_) => Some(Class::Unknown),
        Statement::Query
        | Statement::Insert
        | Statement::Update
        | Statement::Delete
        | Statement::Merge
        | Statement::Ddl { .. }
        | Statement::TwoPhase
        | Statement::Notify
        | Statement::CopyIn
        | Statement::CopyOut
        | Statement::LockTable
        | Statement::Other
        | Statement::Multiple(_) => None,
    }
}

fn of_route(route: &Route<'_>) -> Class {
    let one = match &route.shards {
        Shards::Any => true,
        Shards::Exactly(shards) => shards.len() == 1,
    };
    of_execution(&route.execution, one)
}

fn of_execution(execution: &Execution<'_>, one: bool) -> Class {
    match execution {
        Execution::Direct => Class::Direct,
        Execution::Insert(inserting) if inserting.insertion.has_keys_by_row() => Class::Split,
        Execution::Move { .. } | Execution::Insert(_) | Execution::Write { .. } => Class::Several,
        Execution::CopyIn(_) | Execution::Split { .. } => Class::Split,
        Execution::Merge { .. }
        | Execution::Gather(_)
        | Execution::SumTags
        | Execution::Lock(_)
        | Execution::CopyOut(_)
        | Execution::Cursor(_)
        | Execution::SameAnswer
            if one =>
        {
            Class::Direct
        }
        Execution::Gather(_) => Class::Gathered,
        Execution::CopyRows(copy) => of_execution(&copy.query, one),
        Execution::Cursor(declare) if declare.gathers => Class::Gathered,
        Execution::Merge { .. } | Execution::CopyOut(_) | Execution::Cursor(_) => Class::Merged,
        Execution::SumTags | Execution::Lock(_) => Class::Several,
        Execution::SameAnswer | Execution::Explain(_) => Class::Everywhere,
    }
}

fn told(refusal: &Refusal) -> String {
    let mut parts = vec![format!("{} ({}).", refusal.message, refusal.code)];
    let sentences = [&refusal.detail, &refusal.hint];
    parts.extend(
        sentences
            .iter()
            .filter(|text| !text.is_empty())
            .map(|text| text.to_string()),
    );
    parts.join(" ")
}

/// The types of the keys that parameters are compared with, by parameter; true for elements of an array.
fn key_types(plan: &Plan) -> HashMap<usize, (KeyType, bool)> {
    let mut types = HashMap::new();
    if let Target::Keys { keys, .. } = &plan.target {
        for table in &keys.tables {
            add_types(&table.limit, &mut types);
        }
    }
    types
}

fn add_types(limit: &Limit, types: &mut HashMap<usize, (KeyType, bool)>) {
    let part = |part: &Part| {
        for value in &part.values {
            match value {
                KeyValue::One(ValueRef::Param(at)) | KeyValue::Alike(ValueRef::Param(at)) => {
                    types.insert(*at, (part.column.key_type, false));
                }
                KeyValue::Elements(ValueRef::Param(at)) => {
                    types.insert(*at, (part.column.key_type, true));
                }
                KeyValue::One(_)
                | KeyValue::Alike(_)
                | KeyValue::Elements(_)
                | KeyValue::Computed(_) => {}
            }
        }
    };
    match limit {
        Limit::Each(parts) | Limit::Rows(parts) => parts.iter().for_each(part),
        Limit::Within(interval) => {
            for bound in interval.low.iter().chain(&interval.high) {
                if let ValueRef::Param(at) = bound.value {
                    types.insert(at, (interval.column.key_type, false));
                }
            }
        }
        Limit::AnyOf(limits) | Limit::AllOf(limits) => {
            limits.iter().for_each(|limit| add_types(limit, types));
        }
    }
}

/// A value in text, another for each `seed`.
fn example(of: Option<&(KeyType, bool)>, seed: usize) -> String {
    let one = |seed: usize| match of.map(|(key_type, _)| *key_type) {
        None | Some(KeyType::Int2 | KeyType::Int4 | KeyType::Int8 | KeyType::Numeric) => {
            (seed % 30_000 + 1).to_string()
        }
        Some(KeyType::Text | KeyType::Bpchar) => format!("value {seed}"),
        Some(KeyType::Uuid) => format!("{seed:08x}-0000-4000-8000-000000000000"),
        Some(KeyType::Date) => format!("{:04}-01-01", 1000 + seed % 9000),
        Some(KeyType::Timestamp) => format!("{:04}-01-01 00:00:00", 1000 + seed % 9000),
        Some(KeyType::Timestamptz) => format!("{:04}-01-01 00:00:00+00", 1000 + seed % 9000),
        Some(KeyType::Bytea) => format!("\\x{:08x}", seed),
    };
    match of {
        Some((_, true)) => {
            let elements: Vec<_> = (0..3)
                .map(|at| format!("\"{}\"", one(seed * 3 + at)))
                .collect();
            format!("{{{}}}", elements.join(","))
        }
        _ => one(seed),
    }
}

/// Each `$n` as the constant `'n'`.
fn with_constants(sql: &str) -> String {
    let mut parts = sql.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(part.len());
        match end {
            0 => text.push('$'),
            _ => text.push_str(&format!("'{}'", &part[..end])),
        }
        text.push_str(&part[end..]);
    }
    text
}
