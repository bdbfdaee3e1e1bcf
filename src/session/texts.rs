//! A Query of several statements of which not all concern one shard, or which begins or ends a block that
//! others may join: its statements run one by one, in one transaction as on one server, and the client is told
//! that it may go on after the last.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT>

use std::ops::Range;

use bytes::BytesMut;
use planner::plan::{Access, Plan, Savepoint, SessionEffect, Statement};
use planner::route::Shards;
use planner::shape::Shape;
use planner::{Values, route};

use super::block::{Reads, modes_amid, opening_tag, says_modes};
use super::chain::not_in_block;
use super::routed::changes_settings;
use super::simple::text_of;
use super::{Rest, Session, hints, local};
use crate::backend::server::Status;
use crate::error::{Error, Fault};
use crate::executor::describe::check_syntax;
use crate::net::Instant;
use crate::wire::write;

/// The transaction that a statement of a text runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// None yet.
    Nothing,
    /// The text's own: it ends with it.
    Implicit,
    Block,
}

impl Session {
    /// Must the statements of a text be run one by one? Otherwise it runs whole on one shard.
    ///
    /// # Errors
    /// Hints that make no sense.
    pub(super) fn takes_apart(
        &self,
        plan: &Plan,
        known: &[Statement],
        values: Values<'_>,
    ) -> Result<bool, Error> {
        if !self.db.config.is_sharded() || self.is_amid_transaction() {
            return Ok(false);
        }
        if let Some(hints) = self.wishes.of_statement(values.sql)?
            && (hints.place.is_some() || hints.role == Some(hints::Role::Replica))
        {
            return Ok(false);
        }
        if self.block.is_failed() {
            return Ok(true);
        }
        let in_block = !self.block.is_none();
        let control = known.iter().rfind(|part| part.controls_transaction());
        let stays_open = match control {
            Some(Statement::Commit | Statement::Rollback | Statement::TwoPhase) => {
                let parts_it = |part: &Statement| {
                    matches!(part, Statement::Savepoint(_) | Statement::Chain { .. })
                };
                in_block || known.iter().any(parts_it)
            }
            Some(_) => true,
            None => false,
        };
        let sets = changes_settings(&plan.effect)
            || known.iter().any(|part| matches!(part, Statement::Set(_)));
        Ok(stays_open
            || (in_block && sets)
            || self.names_cursor(values.sql)
            || route(plan, values, &self.db.config.topology).is_err())
    }

    /// Runs the statements of a text one by one.
    ///
    /// # Errors
    /// What is wrong with one of them; before any has run where the text cannot be read, or is not to be
    /// taken apart.
    pub(super) async fn run_text(&mut self, frame: BytesMut) -> Result<(), Error> {
        let text = text_of(&frame);
        let parts = planner::statements(text);
        self.check_text(text).await?;
        self.check_parts(text, &parts)?;
        self.rest = Rest::Something;
        let result = self.run_parts(text, &parts).await;
        self.rest = Rest::Nothing;
        self.batch.held_tag = None;
        self.batch.holds_ready = true;
        result
    }

    /// PostgreSQL reads a text whole before it runs any of it.
    async fn check_text(&mut self, text: &str) -> Result<(), Error> {
        let held = self.leases.len();
        let index = match self.leases.iter().position(|held| held.in_block) {
            Some(index) => index,
            None => self.reach_primary(self.pick_shard(&Shards::Any)).await?,
        };
        let is_only_asked = self.leases.len() > held;
        let lease = &mut self.leases[index].lease;
        lease.settle().await?;
        if lease.status != Status::InTransaction {
            let read = check_syntax(lease, text).await;
            if is_only_asked {
                self.return_unused(index);
            }
            return read;
        }
        // The answer is an error in any case.
        lease.run_hidden("SAVEPOINT ringway_text").await?;
        let read = check_syntax(lease, text).await;
        let back = "ROLLBACK TO ringway_text; RELEASE ringway_text";
        lease.run_hidden(back).await?;
        read
    }

    /// What is to be refused of a text, before any of it runs.
    fn check_parts(&mut self, text: &str, parts: &[Range<usize>]) -> Result<(), Error> {
        let mut within = match self.block.is_none() {
            true => Within::Nothing,
            false => Within::Block,
        };
        let mut writes = false;
        let mut altered = false;
        for part in parts {
            let part = &text[part.clone()];
            let (shape, plan) = self.plan_of_part(part);
            within = match &plan.statement {
                Statement::Begin { .. } if within != Within::Nothing && says_modes(part) => {
                    return Err(modes_amid());
                }
                Statement::Begin { .. } => Within::Block,
                Statement::Commit | Statement::Rollback => Within::Nothing,
                Statement::Chain { .. } | Statement::Savepoint(_) => within,
                Statement::Set(set) if local::is_ours(set.name.as_deref()) => {
                    return Err(refused("a ringway setting"));
                }
                Statement::Show(name) if local::is_ours(Some(name)) => {
                    return Err(refused("a ringway setting"));
                }
                // It may have written on several shards; see [`Session::check_set`].
                Statement::Set(set) if writes && set.makes_read_only() => {
                    return Err(refused("SET TRANSACTION READ ONLY after writes"));
                }
                Statement::Set(set) => {
                    self.check_set(set)?;
                    within.or_implicit()
                }
                Statement::Query
                | Statement::Insert
                | Statement::Update
                | Statement::Delete
                | Statement::Merge
                | Statement::Ddl {
                    transactional: true,
                    ..
                }
                | Statement::CopyIn
                | Statement::CopyOut
                | Statement::Show(_)
                | Statement::Notify
                | Statement::LockTable
                | Statement::Other => within.or_implicit(),
                Statement::Ddl {
                    transactional: false,
                    ..
                }
                | Statement::Empty
                | Statement::TwoPhase
                | Statement::Prepare(_)
                | Statement::Execute(_)
                | Statement::Deallocate(_)
                | Statement::Listen(_)
                | Statement::Unlisten(_)
                | Statement::ExplainRoute { .. }
                | Statement::Multiple(_) => return Err(refused("this statement")),
            };
            writes = within != Within::Nothing && (writes || plan.access == Access::Write);
            if plan.effect == SessionEffect::DiscardAll {
                return Err(refused("DISCARD ALL"));
            }
            let values = Values {
                sql: part.as_bytes(),
                pieces: &shape.pieces,
                params: &[],
            };
            match route(&plan, values, &self.db.config.topology) {
                Ok(routed) => self.check_policy(&plan, &routed)?,
                // It is looked at again when its turn has come.
                Err(refusal) if altered && refusal.message == planner::refusal::UNKNOWN_TABLE => {}
                Err(refusal) => return Err(refusal.into()),
            }
            altered |= matches!(plan.statement, Statement::Ddl { alters: true, .. });
        }
        Ok(())
    }

    fn plan_of_part(&self, part: &str) -> (Shape, std::sync::Arc<Plan>) {
        let mut shape = Shape::default();
        shape.scan(part.as_bytes());
        let catalog = self.catalog();
        let planned = self.db.plans.plan(part, &shape, &[], &catalog);
        (shape, planned.plan)
    }

    async fn run_parts(&mut self, text: &str, parts: &[Range<usize>]) -> Result<(), Error> {
        let mut within = match self.block.is_none() {
            true => Within::Nothing,
            false => Within::Block,
        };
        for (at, part) in parts.iter().enumerate() {
            for held in &mut self.leases {
                held.lease.error = None;
            }
            let is_last = at + 1 == parts.len();
            let ran = self.run_part(&text[part.clone()], &mut within, is_last);
            let ran = Box::pin(ran).await;
            let failed = ran.is_err() || self.leases.iter().any(|held| held.lease.error.is_some());
            if failed && within == Within::Implicit {
                self.roll_back_block().await?;
            }
            ran?;
            if failed {
                return Ok(());
            }
            self.settle(Instant::now()).await?;
            self.publish_schema().await;
        }
        if within == Within::Implicit {
            self.end_everywhere(true).await?;
            if let Some(tag) = self.batch.held_tag.take() {
                write::command_complete(&mut self.client.outbox, &tag);
            }
        }
        Ok(())
    }

    async fn run_part(
        &mut self,
        part: &str,
        within: &mut Within,
        is_last: bool,
    ) -> Result<(), Error> {
        self.learn_own_schema_for(part).await?;
        let (shape, plan) = self.plan_of_part(part);
        match &plan.statement {
            Statement::Begin { .. } if *within == Within::Implicit => {
                // What ran before is a part of it.
                *within = Within::Block;
                self.complete(opening_tag(part));
                return Ok(());
            }
            Statement::Begin { .. } => *within = Within::Block,
            Statement::Commit | Statement::Rollback => {
                let commit = plan.statement == Statement::Commit;
                return self.end_amid_text(commit, within).await;
            }
            Statement::Chain { commit } if *within != Within::Block => {
                return Err(not_in_block(*commit));
            }
            Statement::Savepoint(savepoint) if *within != Within::Block => {
                return Err(savepoint_outside(savepoint));
            }
            Statement::Chain { .. } | Statement::Savepoint(_) => {}
            _ if *within == Within::Nothing => {
                *within = Within::Implicit;
                self.begin_block(b"BEGIN", Reads::Primary);
            }
            _ => {}
        }
        self.rest = match is_last && *within == Within::Implicit {
            true => Rest::Commit,
            false => Rest::Something,
        };
        let mut frame = BytesMut::new();
        write::query(&mut frame, part.as_bytes());
        self.planned(frame, &shape, plan).await
    }

    /// COMMIT or ROLLBACK: also of what the text has done without BEGIN.
    async fn end_amid_text(&mut self, commit: bool, within: &mut Within) -> Result<(), Error> {
        let verb = if commit { "COMMIT" } else { "ROLLBACK" };
        let tag = match std::mem::replace(within, Within::Nothing) {
            Within::Nothing => {
                self.warn("25P01", "there is no transaction in progress");
                verb
            }
            Within::Implicit => {
                self.warn("25P01", "there is no transaction in progress");
                self.end_everywhere(commit).await?
            }
            Within::Block => self.end_everywhere(commit).await?,
        };
        self.complete(tag);
        Ok(())
    }
}

impl Within {
    fn or_implicit(self) -> Self {
        match self {
            Self::Nothing => Self::Implicit,
            Self::Implicit | Self::Block => self,
        }
    }
}

/// In PostgreSQL's words.
fn savepoint_outside(savepoint: &Savepoint) -> Error {
    let verb = match savepoint {
        Savepoint::Define(_) => "SAVEPOINT",
        Savepoint::Release(_) => "RELEASE SAVEPOINT",
        Savepoint::RollbackTo(_) => "ROLLBACK TO SAVEPOINT",
    };
    let message = format!("{verb} can only be used in transaction blocks");
    Error::new(Fault::Client, "25P01", message)
}

fn refused(what: &str) -> Error {
    planner::Refusal::unsupported(
        format!("{what} among other statements of one text"),
        "The text concerns several shards, or begins or ends a transaction that may, so its statements run one \
         by one.",
        "Send it by itself.",
    )
    .into()
}
