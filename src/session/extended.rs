//! The extended query protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync.
//!
//! A statement's server is known at Bind, when its parameters are. Until then Parse waits. Messages
//! for one server are passed on without waiting for replies; before the target changes, the
//! replies of the one before are fetched with Flush, so that the client gets all in order. After an
//! error everything up to Sync is skipped, here as on the server.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY>

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use planner::plan::{Access, SessionEffect, SetStatement, Statement, Target};
use planner::route::{Execution, Param, Shards};
use planner::shape::Shape;
use planner::{ShardId, ShardSet, Values};

use super::block::{Block, aborted, opening_tag};
use super::{ClientState, Named, Prepared, Session, local, routed, simple};
use crate::backend::server::Expect;
use crate::error::{Error, Fault};
use crate::executor::broadcast::Answer;
use crate::executor::database::Statement as Text;
use crate::executor::merge::{Merger, shard_formats};
use crate::executor::relay::{Broken, End};
use crate::executor::scatter::{Pause, Request, Run};
use crate::metrics::RouteKind;
use crate::net::Instant;
use crate::wire::frame::HEADER;
use crate::wire::frontend::{self, Bind, Execute, Parse};
use crate::wire::write;

/// Messages for a server above this are sent before more are read.
const PIPELINE_HIGH: usize = 64 * 1024;
/// The same in messages whose replies are owed.
const PIPELINE_MESSAGES: usize = 1000;

/// The extended protocol's state between messages.
#[derive(Default)]
pub(super) struct Batch {
    /// The server that replies come from now.
    pub(super) active: Option<usize>,
    statements: Named<Prepared>,
    portals: Named<Portal>,
    /// Statements whose ParseComplete the client is owed, in order.
    pending: Vec<Vec<u8>>,
    /// Statements parsed since the last Sync: an error may undo them.
    fresh: Vec<Vec<u8>>,
    /// An error was reported: everything up to Sync is ignored.
    pub(super) skipping: bool,
    /// A merge has paused and holds its servers.
    pub(super) suspended: bool,
    /// SETs executed since the last Sync.
    sets: Vec<SetStatement>,
    discarded: Option<usize>,
    changed_schema: bool,
    /// When the first message since the last Sync came.
    start: Option<Instant>,
    /// Execute messages since the last Sync.
    executed: u32,
}

impl Batch {
    /// DISCARD ALL and DEALLOCATE ALL drop protocol-level statements too.
    pub(super) fn forget_statements(&mut self) {
        self.statements = HashMap::default();
        self.portals = HashMap::default();
    }

    /// True if it was there.
    pub(super) fn forget_statement(&mut self, name: &[u8]) -> bool {
        self.statements.remove(name).is_some()
    }

    pub(super) fn has_statement(&self, name: &[u8]) -> bool {
        self.statements.contains_key(name)
    }

    /// At the end of a transaction.
    pub(super) fn forget_portals(&mut self) {
        if !self.portals.is_empty() {
            self.portals.clear();
        }
    }

    /// Plans of another configuration are not this one's.
    pub(super) fn forget_plans(&mut self) {
        self.statements
            .values_mut()
            .for_each(|prepared| prepared.version = u64::MAX);
    }

    /// A simple Query drops the unnamed statement and portal.
    pub(super) fn drop_unnamed(&mut self) {
        if !self.statements.is_empty() {
            self.statements.remove(&b""[..]);
        }
        if !self.portals.is_empty() {
            self.portals.remove(&b""[..]);
        }
    }
}

enum Portal {
    /// Lives on the server of this lease.
    Server {
        lease: usize,
        statement: Statement,
        effect: SessionEffect,
    },
    Local(Local),
    Scatter(Box<ScatterPortal>),
    Broadcast(Box<BroadcastPortal>),
}

/// What the session answers by itself.
enum Local {
    Empty,
    Begin {
        sql: Vec<u8>,
    },
    End {
        commit: bool,
    },
    Set(SetStatement),
    Show(String),
    Explain(Vec<String>),
    /// DEALLOCATE of what only the session knows.
    Deallocate {
        sql: Vec<u8>,
    },
    /// Executed; a second Execute returns nothing more.
    Done,
}

struct ScatterPortal {
    sql: Vec<u8>,
    types: Vec<u32>,
    bind_rest: Vec<u8>,
    shards: ShardSet,
    /// Until the run starts.
    merger: Option<Merger>,
    run: Option<(Run, Vec<usize>)>,
    columns: BytesMut,
    access: Access,
    /// Its shards were needed for something else before its last row.
    interrupted: bool,
}

struct BroadcastPortal {
    plan: Arc<planner::Plan>,
    sql: Vec<u8>,
    types: Vec<u32>,
    bind_rest: Vec<u8>,
    result_formats: Vec<i16>,
    shards: ShardSet,
    sum: bool,
}

impl Session {
    /// One extended-protocol frame.
    ///
    /// # Errors
    /// FATAL ones only: others are told to the client, and what follows is skipped up to Sync.
    pub(super) async fn extended(&mut self, frame: BytesMut) -> Result<(), Error> {
        if frame[0] == b'S' {
            return self.sync().await;
        }
        if self.batch.skipping {
            return Ok(());
        }
        self.info.set(ClientState::Active);
        if self.batch.start.is_none() {
            let now = Instant::now();
            self.info.requested(now);
            self.batch.start = Some(now);
        }
        let result = match frame[0] {
            b'P' => self.parse(&frame),
            b'B' => self.bind(&frame).await,
            b'D' => self.describe(&frame).await,
            b'E' => self.execute(frame).await,
            b'C' => self.close(&frame).await,
            b'H' => self.flush().await,
            tag => Err(Error::protocol(format!(
                "unexpected message type \"{}\"",
                tag.escape_ascii()
            ))),
        };
        let result = match result {
            Ok(()) => self.relieve().await,
            Err(error) => Err(error),
        };
        match result {
            Err(error) if error.is_fatal() => Err(error),
            Err(error) if error.is_told() => Ok(()),
            Err(error) => self.fail_batch(&error).await,
            Ok(()) => Ok(()),
        }
    }

    /// Keeps a long pipeline from piling up.
    async fn relieve(&mut self) -> Result<(), Error> {
        if self.batch.pending.len() > PIPELINE_MESSAGES {
            self.check_pending().await?;
        }
        match self.batch.active {
            Some(index) if self.leases[index].lease.conn.outbox.len() > PIPELINE_HIGH => {
                self.fetch().await
            }
            Some(index) if self.leases[index].lease.expect.len() > PIPELINE_MESSAGES => {
                self.fetch().await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Tells the client of an error of ours, and makes the server fail the transaction as it would
    /// have, had the error been its own.
    async fn fail_batch(&mut self, error: &Error) -> Result<(), Error> {
        self.complete_pending();
        self.batch.skipping = true;
        self.count_error(error);
        let mut frame = BytesMut::new();
        error.write_to(&mut frame);
        let active = self.batch.active.filter(|i| self.leases[*i].needs_sync);
        match active.or_else(|| self.leases.iter().position(|held| held.in_block)) {
            Some(index) => {
                let held = &mut self.leases[index];
                held.needs_sync = true;
                held.lease.send_failure(frame.freeze());
                self.batch.active = Some(index);
                match self.fetch().await {
                    Err(error) if !error.is_told() => Err(error),
                    Ok(()) | Err(_) => Ok(()),
                }
            }
            None => {
                self.client.outbox.extend_from_slice(&frame);
                self.block.fail();
                Ok(())
            }
        }
    }

    // ---- Parse ----

    fn parse(&mut self, frame: &[u8]) -> Result<(), Error> {
        let parse = Parse::read(&frame[HEADER..])?;
        if !parse.name.is_empty() && self.batch.statements.contains_key(parse.name) {
            let name = String::from_utf8_lossy(parse.name);
            return Err(Error::new(
                Fault::Client,
                "42P05",
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        self.db.metrics.client_parses.add(1);
        if !self.is_repeated(&parse) {
            let prepared = self.prepare(parse.sql, &parse.types)?;
            self.batch.statements.insert(parse.name.to_vec(), prepared);
        }
        self.batch.pending.push(parse.name.to_vec());
        self.batch.fresh.push(parse.name.to_vec());
        Ok(())
    }

    /// Drivers that do not prepare send the same unnamed Parse again and again.
    fn is_repeated(&self, parse: &Parse<'_>) -> bool {
        self.batch.statements.get(parse.name).is_some_and(|known| {
            known.version == self.db.cluster.catalog().version
                && *known.statement.sql == *parse.sql
                && *known.statement.types == *parse.types
                && *known.statement.context == *self.context
        })
    }

    fn prepare(&mut self, sql: &[u8], types: &[u32]) -> Result<Prepared, Error> {
        let catalog = self.db.cluster.catalog();
        let mut shape = std::mem::take(&mut self.shape);
        shape.scan(sql);
        let plan = match std::str::from_utf8(sql) {
            Ok(text) => self.db.plans.plan(text, &shape, types, &catalog),
            Err(_) if self.db.config.is_sharded() => return Err(simple::not_utf8()),
            // Only its surroundings matter: it goes to the primary, and the connection is cleaned.
            Err(_) => self
                .db
                .plans
                .plan("DO ''", &Shape::default(), &[], &catalog),
        };
        let pieces = shape.pieces.as_slice().into();
        self.shape = shape;
        Ok(Prepared {
            statement: self.db.statement(sql, types, &self.context),
            plan,
            pieces,
            version: catalog.version,
        })
    }

    /// The statement of that name, planned anew if the schema or the session's settings changed since.
    fn prepared(&mut self, name: &[u8]) -> Result<&Prepared, Error> {
        let missing = || {
            let name = String::from_utf8_lossy(name);
            Error::new(
                Fault::Client,
                "26000",
                match name.is_empty() {
                    true => "unnamed prepared statement does not exist".to_owned(),
                    false => format!("prepared statement \"{name}\" does not exist"),
                },
            )
        };
        let found = self.batch.statements.get(name).ok_or_else(missing)?;
        let renew = found.version != self.db.cluster.catalog().version
            || *found.statement.context != *self.context;
        if renew {
            let statement = Arc::clone(&found.statement);
            let renewed = self.prepare(&statement.sql, &statement.types)?;
            self.batch.statements.insert(name.to_vec(), renewed);
        }
        self.batch.statements.get(name).ok_or_else(missing)
    }

    /// Sends the Parse messages that wait, and makes sure that `name` is known to the server.
    fn ensure_parsed(&mut self, index: usize, name: &[u8]) {
        let pending = std::mem::take(&mut self.batch.pending);
        for waiting in &pending {
            self.parse_on(index, waiting, true);
        }
        if !pending.iter().any(|waiting| waiting == name) {
            self.parse_on(index, name, false);
        }
    }

    /// `show`: the client waits for ParseComplete.
    fn parse_on(&mut self, index: usize, name: &[u8], show: bool) {
        let Some(prepared) = self.batch.statements.get(name) else {
            return;
        };
        let statement = &prepared.statement;
        let lease = &mut self.leases[index].lease;
        if name.is_empty() {
            if show || lease.unnamed != Some(statement.id) {
                self.db.metrics.server_parses.add(1);
                lease.send_parse_unnamed(statement.id, &statement.sql, &statement.types, show);
            }
        } else if !lease.has_prepared(statement.id) {
            self.db.metrics.server_parses.add(1);
            lease.send_prepare(statement.id, &statement.sql, &statement.types, show);
        } else if show {
            lease.expect.push_back(Expect::Known(statement.id));
        }
    }

    /// ParseComplete for statements that no server needs to see.
    fn complete_pending(&mut self) {
        for name in std::mem::take(&mut self.batch.pending) {
            self.complete_parse(&name);
        }
    }

    fn complete_parse(&mut self, name: &[u8]) {
        let id = self.batch.statements.get(name).map(|p| p.statement.id);
        match (id, self.batch.active.and_then(|i| self.leases.get_mut(i))) {
            (Some(id), Some(held)) if !held.lease.expect.is_empty() => {
                held.lease.expect.push_back(Expect::Known(id));
            }
            (Some(_) | None, _) => self.client.outbox.extend_from_slice(write::PARSE_COMPLETE),
        }
    }

    /// Statements whose Parse failed, or came after what failed, were never made.
    fn forget_rejected(&mut self) {
        if self
            .leases
            .iter()
            .all(|held| held.lease.rejected.is_empty())
        {
            return self.batch.fresh.clear();
        }
        let fresh = std::mem::take(&mut self.batch.fresh);
        for held in &mut self.leases {
            for id in std::mem::take(&mut held.lease.rejected) {
                let same = |p: &Prepared| p.statement.id == id;
                for name in &fresh {
                    if self.batch.statements.get(name).is_some_and(same) {
                        self.batch.statements.remove(name);
                    }
                }
            }
        }
    }

    // ---- Bind ----

    async fn bind(&mut self, frame: &[u8]) -> Result<(), Error> {
        let body = &frame[HEADER..];
        let (portal, name, rest) = Bind::names(body)?;
        self.db.metrics.binds.add(1);
        self.prepared(name)?;
        let prepared = &self.batch.statements[name];
        let plan = Arc::clone(&prepared.plan);
        let statement = Arc::clone(&prepared.statement);
        let pieces = Arc::clone(&prepared.pieces);
        let ends_block = matches!(
            plan.statement,
            Statement::Commit | Statement::Rollback | Statement::Savepoint
        );
        if self.block.is_failed() && !ends_block {
            return Err(aborted());
        }
        if let Some(local) = self.bind_locally(&plan.statement, &statement.sql) {
            self.db.metrics.routes.increment(RouteKind::Local);
            self.complete_pending();
            self.emit(write::BIND_COMPLETE);
            self.batch
                .portals
                .insert(portal.to_vec(), Portal::Local(local));
            return Ok(());
        }
        if let Some(index) = Box::pin(self.everywhere(&plan.statement, &statement.sql)).await? {
            return self.bind_on(index, portal, name, rest, &plan).await;
        }
        // Values are read only where something depends on them.
        let bind;
        let mut params = Vec::new();
        if self.db.config.is_sharded() {
            bind = Bind::read(body)?;
            params.extend(bind.values.iter().enumerate().map(|(i, value)| Param {
                value: *value,
                binary: bind.is_binary(i),
                type_oid: statement.types.get(i).copied().unwrap_or(0),
            }));
        } else {
            bind = Bind {
                portal,
                statement: name,
                formats: vec![],
                values: vec![],
                result_formats: vec![],
                rest,
            };
        }
        let values = Values {
            sql: &statement.sql,
            pieces: &pieces,
            params: &params,
        };
        let hints = self
            .hints
            .with_leading(&statement.sql)
            .map(std::borrow::Cow::into_owned);
        let decided = hints.and_then(|hints| self.decide(&plan, values, &hints));
        let merger = match &decided {
            Ok((_, route)) => match &route.execution {
                Execution::Merge { merge, .. } => {
                    let shards = self.shard_set(&route.shards).len();
                    Some(self.merger(merge, shards, values)).transpose()
                }
                Execution::Direct | Execution::SumTags | Execution::SameAnswer => Ok(None),
            },
            Err(_) => Ok(None),
        };
        let (access, shards, execution) = match decided {
            Ok((access, route)) => {
                let execution = match route.execution {
                    Execution::Direct => Kind::Direct,
                    Execution::Merge { merge, sql } => Kind::Merge(merge.hidden, sql.into_owned()),
                    Execution::SumTags => Kind::Broadcast { sum: true },
                    Execution::SameAnswer => Kind::Broadcast { sum: false },
                };
                (access, route.shards, execution)
            }
            Err(error) => {
                return Err(Box::pin(self.syntax_error_or(
                    error,
                    &statement.sql,
                    &statement.types,
                ))
                .await);
            }
        };
        let made = match execution {
            Kind::Direct => {
                self.check_transaction_control(&plan.statement, &statement.sql)?;
                self.db.metrics.routes.increment(RouteKind::Direct);
                let shard = self.pick_shard(&shards);
                let index = self.enlist(shard, access).await?;
                return self.bind_on(index, portal, name, rest, &plan).await;
            }
            Kind::Merge(hidden, sql) => {
                self.db.metrics.routes.increment(RouteKind::Merge);
                Portal::Scatter(Box::new(ScatterPortal {
                    sql,
                    types: statement.types.to_vec(),
                    bind_rest: rest_with_formats(rest, &bind.result_formats, hidden),
                    shards: self.shard_set(&shards),
                    merger: merger?,
                    run: None,
                    columns: BytesMut::new(),
                    access,
                    interrupted: false,
                }))
            }
            Kind::Broadcast { sum } => {
                self.db.metrics.routes.increment(RouteKind::Broadcast);
                Portal::Broadcast(Box::new(BroadcastPortal {
                    plan,
                    sql: statement.sql.to_vec(),
                    types: statement.types.to_vec(),
                    bind_rest: rest.to_vec(),
                    result_formats: bind.result_formats.clone(),
                    shards: self.shard_set(&shards),
                    sum,
                }))
            }
        };
        self.complete_pending();
        self.emit(write::BIND_COMPLETE);
        self.batch.portals.insert(portal.to_vec(), made);
        Ok(())
    }

    async fn bind_on(
        &mut self,
        index: usize,
        portal: &[u8],
        name: &[u8],
        rest: &[u8],
        plan: &planner::Plan,
    ) -> Result<(), Error> {
        self.activate(index).await?;
        self.note_effect(index, &plan.effect);
        self.ensure_parsed(index, name);
        let server_name = match name {
            b"" => Vec::new(),
            _ => self.batch.statements[name].statement.id.server_name(),
        };
        let lease = &mut self.leases[index].lease;
        write::bind(&mut lease.conn.outbox, portal, &server_name, rest);
        lease.expect.push_back(Expect::Bind);
        let made = Portal::Server {
            lease: index,
            statement: plan.statement.clone(),
            effect: plan.effect.clone(),
        };
        match self.batch.portals.get_mut(portal) {
            Some(old) => *old = made,
            None => {
                self.batch.portals.insert(portal.to_vec(), made);
            }
        }
        Ok(())
    }

    /// Statements that need no server, or not only one.
    fn bind_locally(&self, statement: &Statement, sql: &[u8]) -> Option<Local> {
        let untouched = self.leases.iter().all(|held| !held.needs_sync);
        match statement {
            Statement::Empty => Some(Local::Empty),
            Statement::Begin { .. } if self.block.is_none() && untouched => {
                Some(Local::Begin { sql: sql.to_vec() })
            }
            Statement::Commit | Statement::Rollback => {
                let enlisted = self
                    .leases
                    .iter()
                    .filter(|held| held.in_block || held.needs_sync)
                    .count();
                let commit = *statement == Statement::Commit;
                (enlisted != 1).then_some(Local::End { commit })
            }
            Statement::Set(set) if local::is_ours(set.name.as_deref()) => {
                Some(Local::Set(set.clone()))
            }
            Statement::Show(name) if local::is_ours(Some(name)) => Some(Local::Show(name.clone())),
            Statement::ExplainRoute { inner } => {
                let text = std::str::from_utf8(sql).ok()?.get(inner.clone())?;
                Some(Local::Explain(self.explain_route(text, &[])))
            }
            Statement::Other => {
                let deallocated = local::Deallocated::read(std::str::from_utf8(sql).ok()?)?;
                self.knows_alone(&deallocated)
                    .then(|| Local::Deallocate { sql: sql.to_vec() })
            }
            Statement::Begin { .. }
            | Statement::Savepoint
            | Statement::Set(_)
            | Statement::Query
            | Statement::Insert
            | Statement::Update
            | Statement::Delete
            | Statement::Ddl { .. }
            | Statement::TwoPhase
            | Statement::Show(_)
            | Statement::CopyIn
            | Statement::CopyOut
            | Statement::Multiple => None,
        }
    }

    /// SAVEPOINT, SET and COMMIT concern every enlisted server: runs them on all but the one that is
    /// returned, which answers the client.
    async fn everywhere(
        &mut self,
        statement: &Statement,
        sql: &[u8],
    ) -> Result<Option<usize>, Error> {
        let replayed = match statement {
            Statement::Savepoint | Statement::Set(_) => true,
            Statement::Commit | Statement::Rollback | Statement::Begin { .. } => false,
            Statement::Empty
            | Statement::Query
            | Statement::Insert
            | Statement::Update
            | Statement::Delete
            | Statement::Ddl { .. }
            | Statement::TwoPhase
            | Statement::Show(_)
            | Statement::CopyIn
            | Statement::CopyOut
            | Statement::ExplainRoute { .. }
            | Statement::Other
            | Statement::Multiple => return Ok(None),
        };
        if let Statement::Set(set) = statement {
            self.check_set(set)?;
        }
        if *statement == Statement::Savepoint {
            self.check_revivable()?;
        }
        // What is pinned but has no part in this transaction comes last.
        let used = |held: &super::Enlisted| held.in_block || held.needs_sync;
        let first = self.leases.iter().position(used);
        let first = first.or_else(|| self.leases.iter().position(|held| held.pinned.is_some()));
        let first = match first {
            Some(index) => {
                self.enlist(self.leases[index].shard, Access::Primary)
                    .await?
            }
            None => self.enlist(ShardId(0), Access::Primary).await?,
        };
        if replayed {
            let others: Vec<usize> = (0..self.leases.len())
                .filter(|i| *i != first && self.leases[*i].in_block)
                .collect();
            if !others.is_empty() {
                self.fetch().await?;
            }
            for index in others {
                let text = String::from_utf8_lossy(sql);
                self.leases[index].lease.run_hidden(&text).await?;
                self.leases[index].ran_set = true;
            }
            self.leases[first].ran_set = true;
            self.savepoints |= *statement == Statement::Savepoint;
            self.block.push(sql)?;
        }
        Ok(Some(first))
    }

    /// Makes `index` the server that replies come from.
    async fn activate(&mut self, index: usize) -> Result<(), Error> {
        if self.batch.active != Some(index) {
            self.fetch().await?;
            self.batch.active = Some(index);
        }
        let held = &mut self.leases[index];
        if !held.needs_sync {
            held.needs_sync = true;
            held.lease.begin_exchange();
            held.lease.tag.clear();
        }
        Ok(())
    }

    /// Gets all replies the active server owes.
    ///
    /// # Errors
    /// The loss of the server; or [`Error::told`] when the server reported an error, which the
    /// client has seen then: nothing more may run before Sync.
    async fn fetch(&mut self) -> Result<(), Error> {
        let Some(index) = self.batch.active else {
            return Ok(());
        };
        let lease = &mut self.leases[index].lease;
        if lease.expect.is_empty() {
            return Ok(());
        }
        lease.conn.outbox.extend_from_slice(write::FLUSH);
        self.relay(index).await?;
        if self.leases[index].lease.error.is_some() {
            self.batch.skipping = true;
            return Err(Error::told());
        }
        Ok(())
    }

    // ---- Describe, Execute, Close, Flush ----

    async fn describe(&mut self, frame: &[u8]) -> Result<(), Error> {
        match frontend::Named::read(&frame[HEADER..], "DESCRIBE")? {
            frontend::Named::Statement(name) => self.describe_statement(name).await,
            frontend::Named::Portal(name) => Box::pin(self.describe_portal(name, frame)).await,
        }
    }

    async fn describe_statement(&mut self, name: &[u8]) -> Result<(), Error> {
        let prepared = self.prepared(name)?;
        let plan = Arc::clone(&prepared.plan);
        let sql = Arc::clone(&prepared.statement);
        if let Some(local) = self.bind_locally(&plan.statement, &sql.sql) {
            self.complete_pending();
            self.emit(write::NO_PARAMETERS);
            let columns = local_columns(&local);
            self.emit(&columns);
            return Ok(());
        }
        let index = self.any_server(&plan, &sql).await?;
        self.activate(index).await?;
        self.ensure_parsed(index, name);
        let server_name = match name {
            b"" => Vec::new(),
            _ => self.batch.statements[name].statement.id.server_name(),
        };
        let lease = &mut self.leases[index].lease;
        write::describe(&mut lease.conn.outbox, b'S', &server_name);
        lease.expect.push_back(Expect::Describe);
        Ok(())
    }

    /// A server that knows the schema the statement needs.
    async fn any_server(&mut self, plan: &planner::Plan, text: &Text) -> Result<usize, Error> {
        let shard = match &plan.target {
            Target::Refused(refusal) => {
                let refusal = refusal.clone().into();
                return Err(Box::pin(self.syntax_error_or(refusal, &text.sql, &text.types)).await);
            }
            Target::OneShard(shard) => *shard,
            Target::AnyShard | Target::Keys { .. } | Target::AllShards(_) => {
                if let Some(index) = self.batch.active {
                    return Ok(index);
                }
                self.pick_shard(&Shards::Any)
            }
        };
        let access = if plan.access == Access::Read {
            Access::Read
        } else {
            Access::Primary
        };
        self.enlist(shard, access).await
    }

    async fn describe_portal(&mut self, name: &[u8], frame: &[u8]) -> Result<(), Error> {
        match self.batch.portals.get(name) {
            None => Err(no_portal(name)),
            Some(Portal::Server { lease, .. }) => {
                let index = *lease;
                self.activate(index).await?;
                let lease = &mut self.leases[index].lease;
                lease.conn.outbox.extend_from_slice(frame);
                lease.expect.push_back(Expect::Describe);
                Ok(())
            }
            Some(Portal::Local(local)) => {
                let columns = local_columns(local);
                self.emit(&columns);
                Ok(())
            }
            Some(Portal::Scatter(_)) => {
                let mut portal = self.take_scatter(name)?;
                let started = self.start_scatter(&mut portal).await;
                let columns = portal.columns.clone();
                self.batch
                    .portals
                    .insert(name.to_vec(), Portal::Scatter(portal));
                started?;
                self.emit(&columns);
                Ok(())
            }
            Some(Portal::Broadcast(portal)) => {
                let (sql, types) = (portal.sql.clone(), portal.types.clone());
                let formats = portal.result_formats.clone();
                let shard = portal
                    .shards
                    .as_slice()
                    .first()
                    .copied()
                    .unwrap_or(ShardId(0));
                let columns = self.describe_hidden(shard, &sql, &types, &formats).await?;
                self.emit(&columns);
                Ok(())
            }
        }
    }

    /// What the statement returns, asked of one shard without the client seeing it.
    pub(super) async fn describe_hidden(
        &mut self,
        shard: ShardId,
        sql: &[u8],
        types: &[u32],
        formats: &[i16],
    ) -> Result<BytesMut, Error> {
        self.fetch().await?;
        let index = self.enlist(shard, Access::Primary).await?;
        self.sync_quietly(&[index]).await?;
        let server = &mut self.leases[index].lease;
        // BEGIN may be under way; its reply is not this one's.
        server.settle().await?;
        let mut request = BytesMut::new();
        write::parse(&mut request, b"", sql, types);
        write::describe(&mut request, b'S', b"");
        request.extend_from_slice(write::SYNC);
        server.begin_exchange();
        server.unnamed = None;
        server.conn.outbox.extend_from_slice(&request);
        server.expect.push_back(Expect::Ready { show: false });
        let mut columns = BytesMut::from(write::NO_DATA);
        loop {
            while let Some((tag, body)) = server.next_frame()? {
                match tag {
                    b'T' => {
                        let mut merger = Merger::new(
                            &planner::merge::MergePlan::default(),
                            1,
                            None,
                            0,
                            usize::MAX,
                        );
                        if let Some(frame) =
                            merger.row_description_with_formats(0, &body, formats)?
                        {
                            columns = frame;
                        }
                    }
                    b'Z' => return server.error.take().map_or(Ok(columns), |error| Err(*error)),
                    _ => {}
                }
            }
            server.exchange().await?;
        }
    }

    async fn execute(&mut self, frame: BytesMut) -> Result<(), Error> {
        let Execute {
            portal: name,
            max_rows,
        } = Execute::read(&frame[HEADER..])?;
        self.batch.executed += 1;
        self.transaction_start = self.transaction_start.or(self.batch.start);
        match self.batch.portals.get(name) {
            None => Err(no_portal(name)),
            Some(Portal::Server {
                lease,
                statement,
                effect,
            }) => {
                let index = *lease;
                let takes_data = *statement == Statement::CopyIn;
                match statement {
                    Statement::Set(set) => self.batch.sets.push(set.clone()),
                    Statement::Ddl { .. } => self.batch.changed_schema = true,
                    _ => {}
                }
                if *effect == SessionEffect::DiscardAll {
                    self.batch.discarded = Some(index);
                }
                self.activate(index).await?;
                let lease = &mut self.leases[index].lease;
                lease.conn.outbox.extend_from_slice(&frame);
                lease.expect.push_back(Expect::Execute);
                if takes_data {
                    // What follows is data only once the server has said that it wants some.
                    self.fetch().await?;
                }
                Ok(())
            }
            Some(Portal::Local(_)) => self.execute_local(name).await,
            Some(Portal::Scatter(_)) => Box::pin(self.execute_scatter(name, max_rows)).await,
            Some(Portal::Broadcast(_)) => Box::pin(self.execute_broadcast(name)).await,
        }
    }

    async fn execute_local(&mut self, name: &[u8]) -> Result<(), Error> {
        let local = match self.batch.portals.get_mut(name) {
            Some(Portal::Local(local)) => std::mem::replace(local, Local::Done),
            _ => return Err(no_portal(name)),
        };
        let mut out = BytesMut::new();
        match local {
            Local::Empty => out.extend_from_slice(write::EMPTY_QUERY),
            Local::Begin { sql } => {
                let text = String::from_utf8_lossy(&sql);
                self.block = Block::begin(text.trim().trim_end_matches(';').as_bytes());
                write::command_complete(&mut out, opening_tag(&text));
            }
            Local::End { commit } => {
                let tag = Box::pin(self.end_everywhere(commit)).await?;
                write::command_complete(&mut out, tag);
            }
            Local::Set(set) => {
                self.set_local_setting(&set)?;
                write::command_complete(&mut out, local::set_tag(&set));
            }
            Local::Show(setting) => {
                let value = self.show_local_setting(&setting)?;
                write::text_row(&mut out, &[Some(&value)]);
                write::command_complete(&mut out, "SHOW");
            }
            Local::Explain(lines) => {
                lines
                    .iter()
                    .for_each(|line| write::text_row(&mut out, &[Some(line)]));
                write::command_complete(&mut out, "EXPLAIN");
            }
            Local::Deallocate { sql } => {
                let tag = self.deallocate(&String::from_utf8_lossy(&sql));
                write::command_complete(&mut out, tag.unwrap_or("DEALLOCATE"));
            }
            Local::Done => write::command_complete(&mut out, "SELECT 0"),
        }
        self.emit(&out);
        Ok(())
    }

    /// COMMIT or ROLLBACK without a server, or with several: the one that wrote decides.
    async fn end_everywhere(&mut self, commit: bool) -> Result<&'static str, Error> {
        self.fetch().await?;
        if self.block.is_none() {
            self.warn("25P01", "there is no transaction in progress");
            return Ok(if commit { "COMMIT" } else { "ROLLBACK" });
        }
        let commit = commit && !self.block.is_failed();
        let verb = if commit { "COMMIT" } else { "ROLLBACK" };
        let mut order: Vec<usize> = (0..self.leases.len())
            .filter(|i| self.leases[*i].in_block)
            .collect();
        order.sort_by_key(|i| !self.leases[*i].wrote);
        for (at, index) in order.into_iter().enumerate() {
            let lease = &mut self.leases[index].lease;
            let done = lease.run_hidden(verb).await;
            if at == 0 && self.leases[index].wrote {
                done?;
            } else if done.is_err() {
                self.leases[index]
                    .lease
                    .doubt
                    .get_or_insert("it failed to end a transaction");
            }
        }
        self.block = Block::None;
        if !commit {
            self.pending_sets.clear();
        }
        Ok(verb)
    }

    fn take_scatter(&mut self, name: &[u8]) -> Result<Box<ScatterPortal>, Error> {
        match self.batch.portals.remove(name) {
            Some(Portal::Scatter(portal)) => Ok(portal),
            Some(other) => {
                self.batch.portals.insert(name.to_vec(), other);
                Err(no_portal(name))
            }
            None => Err(no_portal(name)),
        }
    }

    async fn start_scatter(&mut self, portal: &mut ScatterPortal) -> Result<(), Error> {
        let Some(merger) = portal.merger.take() else {
            return Ok(());
        };
        self.fetch().await?;
        let indexes = self.enlist_for_read(&portal.shards, portal.access).await?;
        self.sync_quietly(&indexes).await?;
        let mut servers = routed::pick(&mut self.leases, &indexes);
        let request = Request::Extended {
            sql: &portal.sql,
            types: &portal.types,
            bind_rest: &portal.bind_rest,
        };
        let mut run = Run::start(merger, &mut servers, &request);
        let result = run.columns(&mut self.client, &mut servers).await;
        let result = result.map(|columns| portal.columns = columns);
        self.end_scatter(&indexes, result).await?;
        portal.run = Some((run, indexes));
        Ok(())
    }

    /// Ends the implicit transactions of servers that a merge is about to use on its own.
    async fn sync_quietly(&mut self, indexes: &[usize]) -> Result<(), Error> {
        for index in indexes {
            let held = &mut self.leases[*index];
            if std::mem::take(&mut held.needs_sync) {
                if held.wrote && !held.in_block {
                    held.needs_sync = true;
                    return Err(Error::from(planner::Refusal::unsupported(
                        "a query over several shards follows a write in the same pipeline",
                        "Without a transaction block they would have to be one transaction over several shards.",
                        "Send Sync after the write.",
                    )));
                }
                held.lease.send_sync(false);
                held.lease.settle().await?;
            }
        }
        Ok(())
    }

    async fn execute_scatter(&mut self, name: &[u8], max_rows: u32) -> Result<(), Error> {
        let mut portal = self.take_scatter(name)?;
        if portal.interrupted {
            return Err(planner::Refusal::unsupported(
                "portal over several shards cannot be continued",
                "Another statement ran on its shards while it was suspended.",
                "Fetch all rows before the next statement, or use one connection for each.",
            )
            .into());
        }
        self.start_scatter(&mut portal).await?;
        let mut out = BytesMut::new();
        if let Some((mut run, indexes)) = portal.run.take() {
            let before = run.rows_out();
            let mut servers = routed::pick(&mut self.leases, &indexes);
            let mut pause = Pause::Finished;
            let result = match run.rows(&mut self.client, &mut servers, max_rows).await {
                Ok(Pause::RowLimit) => {
                    pause = Pause::RowLimit;
                    Ok(())
                }
                Ok(Pause::Finished) => run.finish(&mut servers).await.map_err(Broken::Server),
                Err(broken) => Err(broken),
            };
            self.end_scatter(&indexes, result).await?;
            match pause {
                Pause::RowLimit => {
                    out.extend_from_slice(write::PORTAL_SUSPENDED);
                    portal.run = Some((run, indexes));
                    self.batch.suspended = true;
                }
                Pause::Finished => write::command_complete(
                    &mut out,
                    &format!("SELECT {}", run.rows_out() - before),
                ),
            }
        } else {
            write::command_complete(&mut out, "SELECT 0");
        }
        self.client.outbox.extend_from_slice(&out);
        self.batch
            .portals
            .insert(name.to_vec(), Portal::Scatter(portal));
        Ok(())
    }

    /// A merge that paused holds its servers; before they do anything else it must end.
    pub(super) async fn end_runs(&mut self) -> Result<(), Error> {
        self.batch.suspended = false;
        let mut runs = Vec::new();
        for portal in self.batch.portals.values_mut() {
            if let Portal::Scatter(portal) = portal
                && let Some(run) = portal.run.take()
            {
                portal.interrupted = true;
                runs.push(run);
            }
        }
        for (mut run, indexes) in runs {
            let mut servers = routed::pick(&mut self.leases, &indexes);
            run.finish(&mut servers).await?;
        }
        Ok(())
    }

    async fn execute_broadcast(&mut self, name: &[u8]) -> Result<(), Error> {
        let Some(Portal::Broadcast(portal)) = self.batch.portals.remove(name) else {
            return Err(no_portal(name));
        };
        self.fetch().await?;
        let mut request = BytesMut::new();
        write::parse(&mut request, b"", &portal.sql, &portal.types);
        write::bind(&mut request, b"", b"", &portal.bind_rest);
        write::execute(&mut request, b"", 0);
        request.extend_from_slice(write::SYNC);
        if self.leases.iter().any(|held| held.needs_sync && held.wrote) {
            return Err(self.not_one_transaction());
        }
        let all: Vec<usize> = (0..self.leases.len()).collect();
        self.sync_quietly(&all).await?;
        let Answer { rows, tag } = self
            .broadcast(&portal.plan, &request, &portal.shards, portal.sum)
            .await?;
        let out = &mut self.client.outbox;
        out.extend_from_slice(&rows);
        write::command_complete(out, &tag);
        self.batch
            .portals
            .insert(name.to_vec(), Portal::Local(Local::Done));
        Ok(())
    }

    fn not_one_transaction(&self) -> Error {
        planner::Refusal::unsupported(
            "a statement on several shards follows a write in the same pipeline",
            "Without a Sync between them they would be one transaction over several shards.",
            "Send Sync after each.",
        )
        .into()
    }

    async fn close(&mut self, frame: &[u8]) -> Result<(), Error> {
        match frontend::Named::read(&frame[HEADER..], "CLOSE")? {
            frontend::Named::Statement(name) => {
                // Its Parse may still be owed an answer.
                self.complete_pending();
                self.batch.statements.remove(name);
                self.emit(write::CLOSE_COMPLETE);
            }
            frontend::Named::Portal(name) => match self.batch.portals.remove(name) {
                Some(Portal::Server { lease: index, .. }) => {
                    self.activate(index).await?;
                    let lease = &mut self.leases[index].lease;
                    lease.conn.outbox.extend_from_slice(frame);
                    lease.expect.push_back(Expect::Close {
                        show: true,
                        evicts: None,
                    });
                }
                Some(portal @ Portal::Scatter(_)) => {
                    self.batch.portals.insert(name.to_vec(), portal);
                    self.end_runs().await?;
                    self.batch.portals.remove(name);
                    self.emit(write::CLOSE_COMPLETE);
                }
                Some(Portal::Local(_) | Portal::Broadcast(_)) | None => {
                    self.emit(write::CLOSE_COMPLETE)
                }
            },
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.check_pending().await?;
        self.fetch().await
    }

    /// Parse messages that nothing has used yet: the server must say what it thinks of them.
    async fn check_pending(&mut self) -> Result<(), Error> {
        while let Some(name) = self.batch.pending.first().cloned() {
            let prepared = self.prepared(&name)?;
            let plan = Arc::clone(&prepared.plan);
            let sql = Arc::clone(&prepared.statement);
            if self.bind_locally(&plan.statement, &sql.sql).is_some() {
                self.batch.pending.remove(0);
                self.complete_parse(&name);
                continue;
            }
            let index = self.any_server(&plan, &sql).await?;
            self.activate(index).await?;
            self.batch.pending.remove(0);
            self.parse_on(index, &name, true);
        }
        Ok(())
    }

    // ---- Sync ----

    async fn sync(&mut self) -> Result<(), Error> {
        if !self.batch.skipping
            && let Err(error) = self.before_sync().await
        {
            if error.is_fatal() {
                return Err(error);
            }
            if !error.is_told() {
                self.fail_batch(&error).await?;
            }
        }
        let failed = std::mem::take(&mut self.batch.skipping);
        self.batch.pending.clear();
        if self.block.is_none() {
            self.end_runs().await.map_err(Error::fatal)?;
        }
        let last = self.batch.active.filter(|i| self.leases[*i].needs_sync);
        for index in 0..self.leases.len() {
            let held = &mut self.leases[index];
            if Some(index) != last && std::mem::take(&mut held.needs_sync) {
                // A server that failed by itself skips to Sync already.
                if failed && held.lease.error.is_none() {
                    // What ran here belongs to the same transaction as what failed.
                    held.lease.send_failure(Bytes::new());
                }
                held.lease.send_sync(false);
                held.lease.settle().await.map_err(Error::fatal)?;
            }
        }
        match last {
            Some(index) => {
                self.leases[index].needs_sync = false;
                self.leases[index].lease.send_sync(true);
                match self.relay(index).await {
                    // COPY FROM STDIN swallowed this Sync; the client sends another.
                    Ok(_) if self.leases[index].lease.swallowed_sync => {
                        let held = &mut self.leases[index];
                        held.needs_sync = true;
                        self.batch.skipping = failed || held.lease.error.is_some();
                        return Ok(());
                    }
                    Ok(End::Done | End::NeedsClient) => {}
                    Err(error) if error.is_fatal() => return Err(error),
                    Err(error) => {
                        error.write_to(&mut self.client.outbox);
                        self.ready();
                    }
                }
            }
            None => {
                self.observe_block();
                self.ready();
            }
        }
        self.after_sync(failed).await;
        Ok(())
    }

    /// A simple Query amid extended messages ends what they began.
    pub(super) async fn end_batch(&mut self) -> Result<(), Error> {
        if self.batch.pending.is_empty() && !self.leases.iter().any(|held| held.needs_sync) {
            return Ok(());
        }
        match self.check_pending().await {
            Ok(()) => self.fetch().await,
            Err(error) => Err(error),
        }
        .or_else(|error| {
            if error.is_told() {
                Ok(())
            } else {
                Err(error.fatal())
            }
        })?;
        for held in &mut self.leases {
            if std::mem::take(&mut held.needs_sync) {
                held.lease.send_sync(false);
                held.lease.settle().await.map_err(Error::fatal)?;
            }
        }
        self.batch.active = None;
        Ok(())
    }

    /// With several servers in one implicit transaction, each must have succeeded before any of
    /// them is told to commit.
    async fn before_sync(&mut self) -> Result<(), Error> {
        self.check_pending().await?;
        let in_use = self.leases.iter().filter(|held| held.needs_sync).count();
        if in_use > 1 {
            self.fetch().await
        } else {
            Ok(())
        }
    }

    async fn after_sync(&mut self, failed: bool) {
        let failed = failed || self.leases.iter().any(|held| held.lease.error.is_some());
        let sets = std::mem::take(&mut self.batch.sets);
        let discarded = self.batch.discarded.take();
        let changed_schema = std::mem::take(&mut self.batch.changed_schema);
        if !failed {
            sets.iter().for_each(|set| self.note_set(set));
            if let Some(index) = discarded.filter(|i| *i < self.leases.len()) {
                self.discard_all(index);
            }
        } else if !sets.is_empty() || discarded.is_some() {
            // Some of it may have been committed before the error: nobody knows what they have.
            self.leases
                .iter_mut()
                .for_each(|held| held.lease.tainted = true);
        }
        self.forget_rejected();
        let now = Instant::now();
        self.settle(now);
        self.restore_settings().await;
        let start = self.batch.start.take().unwrap_or(now);
        let executed = std::mem::take(&mut self.batch.executed);
        self.count_statements(executed, now.duration_since(start));
        let prepared = self.batch.statements.len();
        self.info.prepared.store(prepared, Relaxed);
        if changed_schema && self.db.config.is_sharded() {
            Box::pin(self.db.cluster.reload_catalog()).await;
        }
    }
}

enum Kind {
    Direct,
    Merge(usize, Vec<u8>),
    Broadcast { sum: bool },
}

fn no_portal(name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    Error::new(
        Fault::Client,
        "34000",
        format!("portal \"{name}\" does not exist"),
    )
}

/// RowDescription or NoData of what the session answers itself.
fn local_columns(local: &Local) -> BytesMut {
    let mut out = BytesMut::new();
    match local {
        Local::Show(name) => write::text_columns(&mut out, &[name.as_str()]),
        Local::Explain(_) => write::text_columns(&mut out, &["QUERY PLAN"]),
        Local::Empty
        | Local::Begin { .. }
        | Local::End { .. }
        | Local::Set(_)
        | Local::Deallocate { .. }
        | Local::Done => {
            out.extend_from_slice(write::NO_DATA);
        }
    }
    out
}

/// Bind's part after the names, with result formats that cover the hidden columns.
fn rest_with_formats(rest: &[u8], formats: &[i16], hidden: usize) -> Vec<u8> {
    let widened = shard_formats(formats, hidden);
    let tail = 2 + 2 * formats.len();
    let mut out = rest[..rest.len().saturating_sub(tail)].to_vec();
    out.extend_from_slice(&(widened.len() as u16).to_be_bytes());
    widened
        .iter()
        .for_each(|format| out.extend_from_slice(&format.to_be_bytes()));
    out
}
