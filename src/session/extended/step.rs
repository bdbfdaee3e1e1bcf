//! What most messages need, done without waiting: what they say is appended to the active server's
//! outbox. A message that may have to wait for a server is left to its async handler.

use std::sync::Arc;

use planner::plan::{Access, Pin, SessionEffect, Statement, Target};
use planner::route::{Execution, Param};
use planner::{Plan, ShardId, ShardSet, Values};

use super::bind::params_of;
use super::{Portal, close_shown};
use crate::backend::server::Expect;
use crate::error::Error;
use crate::metrics::RouteKind;
use crate::session::block::aborted;
use crate::session::retry::resend_of;
use crate::session::{Prepared, Session};
use crate::wire::frame::HEADER;
use crate::wire::frontend::{self, Bind, Execute, Parse};
use crate::wire::write;

/// How far a message got.
pub(super) enum Step {
    Done,
    /// A Bind that goes to one server, which this session has yet to get.
    Enlist {
        shard: ShardId,
        access: Access,
        prepared: Arc<Prepared>,
    },
    /// Nothing has been done: its async handler must.
    Waits,
}

impl Session {
    /// # Errors
    /// What is to be told to the client; then all up to Sync is skipped.
    pub(super) fn step(&mut self, frame: &[u8]) -> Result<Step, Error> {
        let body = &frame[HEADER..];
        match frame[0] {
            b'P' => {
                let parse = Parse::read(body)?;
                match self.replaces_pending(&parse) || self.check_new_name(parse.name).is_err() {
                    true => Ok(Step::Waits),
                    false => self.parse(&parse).map(|()| Step::Done),
                }
            }
            b'B' => self.step_bind(frame),
            b'D' => match frontend::Named::read(body, "DESCRIBE")? {
                frontend::Named::Portal(name) => {
                    Ok(self.step_portal(name, frame, Expect::Describe { of: None }, |_| true))
                }
                frontend::Named::Statement(_) => Ok(Step::Waits),
            },
            b'E' => {
                let Execute {
                    portal: name,
                    max_rows,
                } = Execute::read(body)?;
                let step = self.step_portal(name, frame, Expect::Execute, |plan| {
                    is_plain(&plan.statement)
                });
                if let Step::Done = step {
                    self.account_for(name, max_rows);
                    self.note_execute();
                }
                Ok(step)
            }
            b'C' => match frontend::Named::read(body, "CLOSE")? {
                frontend::Named::Statement(name) => {
                    if !self.owes_nothing() {
                        return Ok(Step::Waits);
                    }
                    self.close_statement(name);
                    Ok(Step::Done)
                }
                frontend::Named::Portal(name) => {
                    let step = self.step_portal(name, frame, close_shown(), |_| true);
                    if let Step::Done = step {
                        self.batch.portals.remove(name);
                    }
                    Ok(step)
                }
            },
            _ => Ok(Step::Waits),
        }
    }

    /// A message about a portal on the active server, if its statement is `fit` for it.
    fn step_portal(
        &mut self,
        name: &[u8],
        frame: &[u8],
        reply: Expect,
        fit: fn(&Plan) -> bool,
    ) -> Step {
        match self.batch.portals.get(name) {
            Some(Portal::Server { lease, prepared })
                if self.batch.active == Some(*lease)
                    && self.batch.pending.is_empty()
                    && fit(&prepared.plan) =>
            {
                let index = *lease;
                self.note_sent(index);
                self.pass_on(index, frame, reply);
                Step::Done
            }
            Some(
                Portal::Server { .. }
                | Portal::Local(_)
                | Portal::Scatter(_)
                | Portal::Broadcast(_)
                | Portal::Copy(_),
            )
            | None => Step::Waits,
        }
    }

    /// Sends a client's message to the active server as it is.
    pub(super) fn pass_on(&mut self, index: usize, frame: &[u8], reply: Expect) {
        let lease = &mut self.leases[index].lease;
        lease.conn.outbox.extend_from_slice(frame);
        lease.expect.push_back(reply);
    }

    /// An Execute has come.
    pub(super) fn account_for(&mut self, portal: &[u8], max_rows: u32) {
        let account = &mut self.account;
        match self.batch.portals.get(portal) {
            None => {
                // SQL's cursors are portals too.
                let shard = self
                    .cursor_server(portal)
                    .map(|index| self.leases[index].shard);
                if let Some(shard) = shard {
                    self.account.executes_on(shard, None, max_rows);
                }
            }
            Some(Portal::Server { lease, prepared }) => {
                let digest = prepared.digest.clone();
                account.executes_on(self.leases[*lease].shard, digest, max_rows);
            }
            Some(Portal::Local(_)) => {
                let digest = account.digest_bound_here(portal);
                account.executes_here(digest, RouteKind::Local, ShardSet::default());
            }
            Some(Portal::Scatter(portal)) => {
                let (kind, shards) = (portal.scattered.kind(), portal.shards.clone());
                account.executes_here(portal.digest.clone(), kind, shards);
            }
            Some(Portal::Broadcast(portal)) => {
                let shards = portal.shards.clone();
                account.executes_here(portal.digest.clone(), RouteKind::Broadcast, shards);
            }
            Some(Portal::Copy(portal)) => {
                let shards = portal.shards.clone();
                account.executes_here(portal.digest.clone(), RouteKind::Broadcast, shards);
            }
        }
    }

    pub(super) fn note_execute(&mut self) {
        self.batch.executed += 1;
        self.transaction_start = self.transaction_start.or(self.batch.start);
    }

    pub(super) fn close_statement(&mut self, name: &[u8]) {
        self.batch.statements.remove(name);
        self.emit(write::CLOSE_COMPLETE);
    }

    /// Nothing that was sent so far can fail any more.
    fn owes_nothing(&self) -> bool {
        let active = self.batch.active;
        self.batch.pending.is_empty()
            && active.is_none_or(|index| self.leases[index].lease.expect.is_empty())
    }

    fn step_bind(&mut self, frame: &[u8]) -> Result<Step, Error> {
        let body = &frame[HEADER..];
        let name = Bind::names(body)?.1;
        self.db.metrics.binds.add(1);
        let prepared = self.prepared(name)?;
        self.note_bound(&prepared, body);
        // Another shard may not have the tables of what was parsed before.
        let alone = !self.db.config.is_sharded() || self.batch.pending.iter().all(|n| n == name);
        let plain = is_plain(&prepared.plan.statement) && !asks_first(&prepared.plan.effect);
        if !plain || !alone || prepared.ids.is_some() {
            return Ok(Step::Waits);
        }
        if self.block.is_failed() {
            return Err(aborted());
        }
        let Some((shard, access)) = self.direct(body, &prepared)? else {
            return Ok(Step::Waits);
        };
        let resend = self.resend.max(resend_of(&prepared.plan, access));
        match (self.at_hand(shard, access), self.batch.active) {
            (None, None) => {
                self.resend = resend;
                Ok(Step::Enlist {
                    shard,
                    access,
                    prepared,
                })
            }
            (Some(index), active) if active.is_none_or(|active| active == index) => {
                self.resend = resend;
                self.note_access(index, access);
                self.bind_at_once(index, frame, prepared)
            }
            // The replies of another server come first.
            (Some(_) | None, _) => Ok(Step::Waits),
        }
    }

    /// Where a statement goes that runs on one shard as it stands; `None` for another, and for one
    /// whose refusal needs more thought.
    fn direct(
        &mut self,
        body: &[u8],
        prepared: &Prepared,
    ) -> Result<Option<(ShardId, Access)>, Error> {
        let Prepared {
            statement,
            plan,
            pieces,
            version: _,
            digest: _,
            parent: _,
            name: _,
            known: _,
            ids: _,
        } = prepared;
        let bind;
        let params: Vec<Param<'_>>;
        let mut values = Values {
            sql: &statement.sql,
            pieces,
            params: &[],
        };
        // Values are read only where something depends on them.
        if self.db.config.is_sharded() {
            bind = Bind::read(body)?;
            params = params_of(&bind, &statement.types).collect();
            values.params = &params;
        }
        if let Target::Refused(_) = plan.target {
            return Ok(None);
        }
        let (access, route) = self.decide(plan, values, &statement.sql)?;
        Ok(match route.execution {
            Execution::Direct => {
                self.note_keys(plan, values);
                Some((self.pick_shard(&route.shards), access))
            }
            Execution::Merge { .. }
            | Execution::Gather(_)
            | Execution::SumTags
            | Execution::Lock(_)
            | Execution::Split { .. }
            | Execution::Insert(_)
            | Execution::Write { .. }
            | Execution::Move { .. }
            | Execution::CopyIn(_)
            | Execution::CopyOut(_)
            | Execution::CopyRows(_)
            | Execution::Explain(_)
            | Execution::Cursor(_)
            | Execution::SameAnswer => None,
        })
    }

    /// Sends a Bind to a server that this session has.
    pub(super) fn bind_at_once(
        &mut self,
        index: usize,
        frame: &[u8],
        prepared: Arc<Prepared>,
    ) -> Result<Step, Error> {
        let (portal, name, rest) = Bind::names(&frame[HEADER..])?;
        self.name_portal(portal, Some(index))?;
        self.note_route(RouteKind::Direct);
        let reuses = name.is_empty() && self.may_reuse_on(index, frame, &prepared);
        self.batch.active = Some(index);
        self.note_sent(index);
        self.note_effect(index, &prepared.plan.effect);
        match reuses {
            true => self.bind_reused(index, portal, rest, prepared),
            false => self.bind_on(index, portal, name, rest, prepared),
        }
        Ok(Step::Done)
    }
}

/// Has something to be settled, or its values to be read, before such a statement may run?
pub(in crate::session) fn asks_first(effect: &SessionEffect) -> bool {
    matches!(
        effect,
        SessionEffect::Settings | SessionEffect::LocalSettings | SessionEffect::Pin(Pin::Sequence)
    )
}

/// Statements that are nothing but their rows: no other part of the session has to know of them.
pub(in crate::session) fn is_plain(statement: &Statement) -> bool {
    match statement {
        Statement::Query
        | Statement::Insert
        | Statement::Update
        | Statement::Delete
        | Statement::Merge => true,
        Statement::Empty
        | Statement::Ddl { .. }
        | Statement::Begin { .. }
        | Statement::Commit
        | Statement::Rollback
        | Statement::Chain { .. }
        | Statement::Savepoint(_)
        | Statement::TwoPhase
        | Statement::Set(_)
        | Statement::Show(_)
        | Statement::CopyIn
        | Statement::CopyOut
        | Statement::ExplainRoute { .. }
        | Statement::LockTable
        | Statement::Other
        | Statement::Prepare(_)
        | Statement::Execute(_)
        | Statement::Deallocate(_)
        | Statement::Listen(_)
        | Statement::Unlisten(_)
        | Statement::Notify
        | Statement::Multiple(_) => false,
    }
}
