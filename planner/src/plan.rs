//! What a statement is and where it may run, before its values are known.
//!
//! A plan is made once per shape and catalog version and cached; see [`crate::route`]
//! for what is decided per execution.

mod adapted;
mod colocated;
mod copying;
mod cursors;
mod dml;
mod facts;
mod functions;
mod gather;
mod hidden;
mod ids;
mod insert_query;
mod insertion;
mod keys;
mod layout;
mod merge_into;
mod merge_source;
mod moves;
mod multiple;
mod parse;
mod physical;
mod picks;
pub mod prepared;
mod query;
mod refuse;
mod rows;
mod scatter;
mod scope;
mod sequences;
pub mod settings;
mod unread;
mod utility;
mod values;
mod with_writes;

use std::borrow::Cow;
use std::ops::Range;

use sqlparser::ast;

pub use self::cursors::{CursorStatement, Declare, Direction};
use self::facts::{Creates, Facts, Input};
use self::functions::Conduct;
pub use self::functions::{worse_access, worse_effect};
pub use self::hidden::{may_read_tables, may_write};
use self::parse::Source;
use crate::catalog::Catalog;
use crate::copy::{CopyIn, CopyQuery, Frame};
use crate::explained::Explain;
use crate::gather::Gather;
use crate::ids::Ids;
use crate::insertion::Insertion;
use crate::lexer::Kind;
use crate::limit::KeySet;
use crate::merge::MergePlan;
use crate::moving::Move;
use crate::refusal::Refusal;
use crate::route::TextPiece;
use crate::split::Split;
use crate::topology::ShardId;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub statement: Statement,
    pub access: Access,
    pub effect: SessionEffect,
    pub target: Target,
    /// One sentence for EXPLAIN (ROUTE): why it runs where it runs.
    pub reason: Cow<'static, str>,
}

/// What kind of statement it is, as far as a session must act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Whitespace and comments only.
    Empty,
    Query,
    Insert,
    Update,
    Delete,
    Merge,
    /// CREATE, ALTER, DROP, GRANT, COMMENT, TRUNCATE … : runs on all shards of a sharded database.
    Ddl {
        /// False for what PostgreSQL refuses inside a transaction block (CREATE INDEX CONCURRENTLY, VACUUM …).
        transactional: bool,
        /// May it change what the catalog tells? TRUNCATE and ANALYZE do not.
        alters: bool,
    },
    Begin {
        mode: TransactionMode,
    },
    Commit,
    Rollback,
    /// COMMIT or ROLLBACK AND CHAIN.
    Chain {
        commit: bool,
    },
    /// SAVEPOINT, RELEASE, ROLLBACK TO.
    Savepoint(Savepoint),
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.
    TwoPhase,
    /// `SET [SESSION] name = value` or RESET; the session's own settings follow the client.
    Set(SetStatement),
    /// SHOW name.
    Show(String),
    Prepare(PrepareStatement),
    /// EXECUTE, also within EXPLAIN or CREATE TABLE AS.
    Execute(ExecuteStatement),
    /// DEALLOCATE; `None` is ALL.
    Deallocate(Option<String>),
    Listen(String),
    /// `None` is every channel.
    Unlisten(Option<String>),
    Notify,
    CopyIn,
    CopyOut,
    /// `EXPLAIN (ROUTE) inner`: `inner` is the byte range of the inner statement in the text, from
    /// which nothing is lifted (see [`crate::shape::Shape::scan`]).
    ExplainRoute {
        inner: Range<usize>,
    },
    LockTable,
    /// Everything else: DO, CALL, FETCH, EXPLAIN …
    Other,
    /// Several statements in one simple query: those of them that a session must know of, and those
    /// that control transactions.
    Multiple(Vec<Statement>),
}

impl Statement {
    /// Begins it or ends a transaction, or a part of one?
    pub fn controls_transaction(&self) -> bool {
        match self {
            Self::Begin { .. }
            | Self::Commit
            | Self::Rollback
            | Self::Chain { .. }
            | Self::Savepoint(_)
            | Self::TwoPhase => true,
            Self::Empty
            | Self::Query
            | Self::Insert
            | Self::Update
            | Self::Delete
            | Self::Merge
            | Self::Ddl { .. }
            | Self::LockTable
            | Self::Set(_)
            | Self::Show(_)
            | Self::Prepare(_)
            | Self::Execute(_)
            | Self::Deallocate(_)
            | Self::Listen(_)
            | Self::Unlisten(_)
            | Self::Notify
            | Self::CopyIn
            | Self::CopyOut
            | Self::ExplainRoute { .. }
            | Self::Other
            | Self::Multiple(_) => false,
        }
    }

    pub fn savepoint(&self) -> Option<&Savepoint> {
        if let Self::Savepoint(savepoint) = self {
            return Some(savepoint);
        }
        None
    }

    /// Does it put pg_temp into the search path? What is created after that may be temporary.
    fn makes_temporary(&self) -> bool {
        let Self::Set(set) = self else {
            return false;
        };
        let value = set.value.as_deref().unwrap_or_default();
        set.name.as_deref() == Some("search_path") && value.to_ascii_lowercase().contains("pg_temp")
    }
}

/// What BEGIN says of where its transaction may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionMode {
    /// Nothing: the session's default holds.
    Default,
    /// READ ONLY, at a level of isolation that a standby has.
    ReadOnly,
    /// REPEATABLE READ, and nothing of what it may do: the session's default holds for that.
    Snapshot,
    /// READ WRITE or SERIALIZABLE: on the primary.
    Primary,
}

/// What concerns a savepoint, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Savepoint {
    Define(String),
    Release(String),
    RollbackTo(String),
}

/// `PREPARE name (types) AS body`; ranges are bytes of the text, from which nothing is lifted (see
/// [`crate::shape::Shape::scan`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrepareStatement {
    pub name: String,
    /// Each parameter's type, as written.
    pub types: Vec<Range<usize>>,
    pub body: Range<usize>,
}

/// `EXECUTE name (arguments)`; ranges as in [`PrepareStatement`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecuteStatement {
    pub name: String,
    /// Where the name stands.
    pub at: Range<usize>,
    pub arguments: Vec<Range<usize>>,
    pub within: Within,
}

/// What an EXECUTE is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    Nothing,
    /// EXPLAIN; `runs` with ANALYZE.
    Explain {
        runs: bool,
    },
    /// CREATE TABLE AS; `temporary` tables pin.
    Create {
        temporary: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetStatement {
    pub local: bool,
    /// Lower case; `None` is RESET ALL.
    pub name: Option<String>,
    /// The value as written after TO or =, ready to be written again; `None` is RESET or DEFAULT.
    pub value: Option<String>,
}

impl SetStatement {
    /// May it say of the open transaction that it does not write any more?
    pub fn makes_read_only(&self) -> bool {
        let value = self.value.as_deref().unwrap_or_default();
        match self.name.as_deref() {
            Some("transaction") => value.to_ascii_lowercase().contains("only"),
            Some("transaction_read_only") => true,
            Some(_) | None => false,
        }
    }

    /// Does it say of the open transaction that it may write, which a standby refuses?
    pub fn allows_writes(&self) -> bool {
        let value = self.value.as_deref().unwrap_or_default();
        match self.name.as_deref() {
            Some("transaction") => value.to_ascii_lowercase().contains("write"),
            Some("transaction_read_only") => true,
            Some(_) | None => false,
        }
    }
}

/// May it run on a replica?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Provably reads only: a replica may answer.
    Read,
    /// Writes, or may write: the primary.
    Write,
    /// Writes nothing that outlives it, but only the primary can answer (FOR UPDATE, advisory locks,
    /// functions that are not known to be harmless). Leaves a freshness mark as [`Access::Write`] does.
    Primary,
}

/// Where the single statements of a text stand, without empty ones and `;`.
pub fn statements(sql: &str) -> Vec<Range<usize>> {
    parse::Source::new(sql).statements()
}

/// What it leaves behind on the server connection when it and its transaction are over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEffect {
    None,
    /// May take something away that pins: DROP, CLOSE, pg_advisory_unlock, DISCARD of a part.
    Releases,
    /// Changes settings up to the end of its transaction, by a name that its text tells.
    LocalSettings,
    /// Changes settings in a way that only the server can tell: ask it what they are.
    Settings,
    /// May leave state that no one will ask for (a user function, DO): reset the connection before reuse.
    Taint(&'static str),
    /// The client will expect to find it: keep client and server connection together.
    Pin(Pin),
    /// DISCARD ALL.
    DiscardAll,
}

/// What a server connection is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    AdvisoryLock,
    Temporary,
    HeldCursor,
    /// PREPARE among other statements in one text.
    Prepared,
    Listen,
    Loaded,
    /// currval, lastval.
    Sequence,
    /// set_config of a setting whose name is not written out, or whatever a text does that is too
    /// long to be read.
    Setting,
    /// A prepared statement whose text is too long to be kept.
    Unread,
    /// The statement cannot be read.
    Unknown,
}

impl Pin {
    pub fn why(self) -> &'static str {
        match self {
            Self::AdvisoryLock => "an advisory lock belongs to a server session",
            Self::Temporary => "temporary objects live in one server session",
            Self::HeldCursor => "a cursor WITH HOLD outlives its transaction",
            Self::Prepared => "PREPARE in one text with other statements",
            Self::Listen => "LISTEN in one text with other statements",
            Self::Loaded => "LOAD changes the server process",
            Self::Sequence => "it asks what a sequence gave to this session",
            Self::Setting => "a setting whose name cannot be read may have been set",
            Self::Unread => "a prepared statement is too long to be sent to another server",
            Self::Unknown => "it may leave something that the session needs again",
        }
    }

    /// May a statement that only reads depend on it?
    pub fn concerns_reads(self) -> bool {
        match self {
            Self::Temporary | Self::Loaded | Self::Setting | Self::Unknown | Self::Unread => true,
            Self::AdvisoryLock
            | Self::HeldCursor
            | Self::Prepared
            | Self::Listen
            | Self::Sequence => false,
        }
    }

    /// May it be gone before the client is, and can the server tell?
    pub fn ends(self) -> bool {
        match self {
            Self::AdvisoryLock
            | Self::Temporary
            | Self::HeldCursor
            | Self::Prepared
            | Self::Listen
            | Self::Unread
            | Self::Unknown => true,
            Self::Loaded | Self::Sequence | Self::Setting => false,
        }
    }
}

/// Which shards it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Any one shard gives the right answer; in a transaction, one already enlisted.
    AnyShard,
    /// Only this one.
    OneShard(ShardId),
    /// The shards that own the keys; more than one: `many` tells what then.
    Keys { keys: KeySet, many: Many },
    /// Every shard.
    AllShards(Many),
    /// The shards that have the rows, and those where they belong with the keys that they get.
    Moves(Box<Move>),
    /// Not known before ids are drawn: the text with them in it is to be planned instead.
    Ids(Box<Ids>),
    /// Nothing runs.
    Refused(Refusal),
}

/// What to do when more than one shard is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Many {
    /// Run the rewritten text on each and merge the answers.
    Merge(Box<Scatter>),
    /// Gather the rows in one place and run the text over them.
    Gather(Box<Gather>),
    /// Run the same text on each, add up the command tags, return all rows (UPDATE, DELETE).
    SumTags,
    /// As [`Many::SumTags`], over rows that are gathered first.
    Write(Box<Gather>),
    /// Run the same text on each as a write; their rows are put in order (FOR UPDATE).
    Lock(Box<MergePlan>),
    /// Each shard runs the INSERT with its own rows.
    Split(Box<Split>),
    /// Gather the rows of a query and insert each where it belongs.
    Insert(Box<Insertion>),
    CopyIn(Box<CopyIn>),
    CopyOut(Frame),
    /// Run its query as one over several shards, and write the rows as COPY does.
    CopyQuery(Box<CopyQuery>),
    /// Each shard explains what it would run.
    Explain(Box<Explain>),
    /// Open a cursor over the answers.
    Cursor(Box<Declare>),
    /// Run the same text on each; the answer of the first is the answer (DDL, writes to reference tables).
    SameAnswer,
    Refused(Refusal),
}

impl Many {
    /// The one shard that has a table of the text, where it may have it alone.
    pub fn only_shard(&self) -> Option<ShardId> {
        match self {
            Self::Insert(insertion) => insertion.only_shard(),
            Self::Gather(gather) | Self::Write(gather) => gather.at,
            Self::Merge(_)
            | Self::SumTags
            | Self::Lock(_)
            | Self::Split(_)
            | Self::CopyIn(_)
            | Self::CopyOut(_)
            | Self::CopyQuery(_)
            | Self::Explain(_)
            | Self::Cursor(_)
            | Self::SameAnswer
            | Self::Refused(_) => None,
        }
    }
}

/// A SELECT that runs on several shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scatter {
    pub merge: MergePlan,
    /// The text for the shards; `None` leaves it untouched.
    pub rewrite: Option<Vec<TextPiece>>,
    /// What to do where a column turns out to be of a type, or in a collation, that is not merged;
    /// `None` when the planner knows that all are, or nothing else would do.
    pub otherwise: Option<Box<Gather>>,
    /// A column has to be compared or added up whose type is known only to the shards.
    pub doubtful: bool,
}

/// Options that change what a text means.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlanOptions<'a> {
    /// Parameter types declared in Parse, by position; 0 is unspecified.
    pub param_types: &'a [u32],
    /// Rows of several shards are to be gathered, where they could be merged too.
    pub gathers: bool,
}

/// Plans one text. Never fails: what cannot be done is a plan that refuses.
pub fn plan(sql: &str, catalog: &Catalog, options: PlanOptions<'_>) -> Plan {
    let source = Source::new(sql);
    if source
        .tokens
        .iter()
        .all(|token| token.kind == Kind::Semicolon)
    {
        return Plan {
            statement: Statement::Empty,
            access: Access::Read,
            effect: SessionEffect::None,
            target: Target::AnyShard,
            reason: "there is no statement".into(),
        };
    }
    let planned = if let Some(planned) = ids::plan(&source, catalog) {
        planned
    } else if source.multiple {
        multiple::plan(&source, catalog, options)
    } else {
        utility::plan(&source, catalog, options)
            .or_else(|| sequences::plan(&source, catalog))
            .unwrap_or_else(|| optimizable(&source, catalog, options))
    };
    let planned = guarded(planned, &source, catalog, options);
    let planned = cleaned_up_after(planned, catalog);
    let planned = seen_whole(planned, &source, catalog);
    if catalog.is_sharded() {
        planned
    } else {
        unsharded(planned)
    }
}

/// What looks like a read, but may call what writes without showing it.
fn guarded(plan: Plan, source: &Source<'_>, catalog: &Catalog, options: PlanOptions<'_>) -> Plan {
    let runs = match &plan.statement {
        Statement::Query | Statement::CopyOut | Statement::Other | Statement::Multiple(_) => true,
        Statement::Empty
        | Statement::Insert
        | Statement::Update
        | Statement::Delete
        | Statement::Merge
        | Statement::Ddl { .. }
        | Statement::LockTable
        | Statement::Begin { .. }
        | Statement::Commit
        | Statement::Rollback
        | Statement::Chain { .. }
        | Statement::Savepoint(_)
        | Statement::TwoPhase
        | Statement::Set(_)
        | Statement::Show(_)
        | Statement::Prepare(_)
        | Statement::Execute(_)
        | Statement::Deallocate(_)
        | Statement::Listen(_)
        | Statement::Unlisten(_)
        | Statement::Notify
        | Statement::CopyIn
        | Statement::ExplainRoute { .. } => false,
    };
    if !runs || plan.access != Access::Read {
        return plan;
    }
    let Some((conduct, reason)) = hidden::conduct(source, catalog, options) else {
        return plan;
    };
    Plan {
        access: conduct.access,
        effect: worse_effect(plan.effect, conduct.effect),
        reason: reason.into(),
        ..plan
    }
}

/// Refuses what reads rows by an operator, a domain or a policy, where a shard has a part of them.
fn seen_whole(plan: Plan, source: &Source<'_>, catalog: &Catalog) -> Plan {
    let runs = matches!(
        plan.statement,
        Statement::Query
            | Statement::Insert
            | Statement::Update
            | Statement::Delete
            | Statement::Merge
            | Statement::CopyIn
            | Statement::CopyOut
            | Statement::Other
            | Statement::Multiple(_)
    );
    if !runs || !catalog.is_sharded() {
        return plan;
    }
    match hidden::refusal(source, catalog) {
        Some(refusal) => Plan {
            reason: refusal.detail.clone(),
            target: Target::Refused(refusal),
            ..plan
        },
        None => plan,
    }
}

/// A write of a database where writes may change settings unseen.
fn cleaned_up_after(plan: Plan, catalog: &Catalog) -> Plan {
    let writes = match &plan.statement {
        Statement::Query
        | Statement::Insert
        | Statement::Update
        | Statement::Delete
        | Statement::Merge
        | Statement::Ddl { .. }
        | Statement::CopyIn
        | Statement::Other
        | Statement::Multiple(_) => plan.access == Access::Write,
        Statement::Empty
        | Statement::LockTable
        | Statement::Begin { .. }
        | Statement::Commit
        | Statement::Rollback
        | Statement::Chain { .. }
        | Statement::Savepoint(_)
        | Statement::TwoPhase
        | Statement::Set(_)
        | Statement::Show(_)
        | Statement::CopyOut
        | Statement::Prepare(_)
        | Statement::Execute(_)
        | Statement::Deallocate(_)
        | Statement::Listen(_)
        | Statement::Unlisten(_)
        | Statement::Notify
        | Statement::ExplainRoute { .. } => false,
    };
    if !catalog.suspects.writes_set || !writes || plan.effect == SessionEffect::DiscardAll {
        return plan;
    }
    let left = SessionEffect::Taint("a trigger or the like may have changed a setting");
    Plan {
        effect: worse_effect(plan.effect, left),
        ..plan
    }
}

/// SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES: what PostgreSQL's planner plans.
fn optimizable(source: &Source<'_>, catalog: &Catalog, options: PlanOptions<'_>) -> Plan {
    let Some(parsed) = source.parse() else {
        return unread::plan(source, catalog);
    };
    let [statement] = parsed.statements.as_slice() else {
        return unread::plan(source, catalog);
    };
    let input = Input {
        source,
        parsed: &parsed,
        catalog,
        options,
        ctes: &[],
    };
    let facts = facts::of_part(statement, input);
    if facts.opaque {
        return unread::plan(source, catalog);
    }
    let (kind, (target, reason)) = match statement {
        ast::Statement::Query(query) => (Statement::Query, query::target(query, &facts, input)),
        ast::Statement::Insert(insert) => (Statement::Insert, dml::insert(insert, &facts, input)),
        ast::Statement::Update(update) => (Statement::Update, dml::update(update, &facts, input)),
        ast::Statement::Delete(delete) => (Statement::Delete, dml::delete(delete, &facts, input)),
        ast::Statement::Merge(merge) => {
            (Statement::Merge, merge_into::target(merge, &facts, input))
        }
        _ => return unread::plan(source, catalog),
    };
    let (target, reason) = match only_here(&target, &facts) {
        Some(refusal) => query::refused(refusal),
        None => (target, reason),
    };
    let Conduct { access, effect } = facts.conduct;
    Plan {
        statement: kind,
        access,
        effect,
        target,
        reason,
    }
}

/// Why a statement cannot run on a sharded database, whatever its tables.
fn only_here(target: &Target, facts: &Facts<'_>) -> Option<Refusal> {
    if let Some(function) = &facts.reads_unseen {
        return Some(refuse::function_reads_tables(function));
    }
    if facts.session_sequences {
        return Some(refuse::session_sequence());
    }
    if facts.sets_sequence {
        return Some(refuse::setval());
    }
    if facts.exports {
        return Some(refuse::snapshot());
    }
    if facts.all_sequences {
        return Some(refuse::sequences_of_one_shard());
    }
    if facts.notifies && *target != Target::OneShard(ShardId(0)) {
        return Some(refuse::notifies_elsewhere());
    }
    match (facts.creates, target) {
        (Some(Creates::Temporary), _) => Some(refuse::temporary()),
        (Some(Creates::Table), Target::OneShard(_)) | (None, _) => None,
        (
            Some(Creates::Table),
            Target::AnyShard
            | Target::Keys { .. }
            | Target::AllShards(_)
            | Target::Moves(_)
            | Target::Ids(_)
            | Target::Refused(_),
        ) => Some(refuse::create_table_as()),
    }
}

/// The statement inside of EXPLAIN, DECLARE or COPY; a utility statement there is not looked into.
fn inner(sql: &str, catalog: &Catalog, options: PlanOptions<'_>) -> Plan {
    let source = Source::new(sql);
    if source.multiple || utility::is_utility(&source) {
        return unread::plan(&source, catalog);
    }
    ids::plan(&source, catalog).unwrap_or_else(|| optimizable(&source, catalog, options))
}

/// With one shard there is nothing to choose and nothing to refuse.
fn unsharded(plan: Plan) -> Plan {
    match plan.target {
        Target::AnyShard | Target::Ids(_) => plan,
        Target::Refused(Refusal {
            everywhere: true, ..
        }) => plan,
        Target::OneShard(_)
        | Target::Keys { .. }
        | Target::AllShards(_)
        | Target::Moves(_)
        | Target::Refused(_) => Plan {
            target: Target::AnyShard,
            reason: "the database has one shard".into(),
            ..plan
        },
    }
}
