//! The simple query protocol.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use planner::plan::{Access, Plan, SessionEffect, Statement, Target, TransactionMode};
use planner::route::Execution;
use planner::shape::Shape;
use planner::{ShardId, Values};

use super::block::{Block, aborted, modes_amid, opening_tag, says_modes};
use super::encoding::{inexact, not_utf8};
use super::extended::is_plain;
use super::retry::resend_of;
use super::{ClientState, Rest, Session, local, take_front};
use crate::backend::server::kept::Resend;
use crate::backend::server::{Ready, Status};
use crate::error::{Error, Fault};
use crate::executor::plans::Planned;
use crate::executor::relay::End;
use crate::metrics::RouteKind;
use crate::net::Instant;
use crate::wire::frame::HEADER;
use crate::wire::{frontend, write};

/// What a Query turns out to be.
enum Query {
    /// It goes to one shard as it is, and leaves nothing behind but its effect on rows.
    Direct {
        shard: ShardId,
        access: Access,
    },
    Planned(Arc<Plan>),
    /// Not UTF-8: of the plan only the kind is known.
    Inexact(Arc<Plan>),
    /// In an encoding that only PostgreSQL can read.
    Undecodable,
}

fn without_reply() -> Error {
    Error::protocol("COPY ended without its reply").fatal()
}

impl Session {
    /// One Query frame, the first `len` bytes of the inbox, answered up to ReadyForQuery.
    ///
    /// # Errors
    /// FATAL ones only: others are answered here.
    pub(super) async fn simple(&mut self, len: usize) -> Result<(), Error> {
        let start = Instant::now();
        self.info.requested(start);
        self.transaction_start.get_or_insert(start);
        self.info.set(ClientState::Active);
        self.batch.drop_unnamed();
        self.account.begin();
        self.resend = Resend::Never;
        // Taken out, so that the text can be read where it is.
        let mut input = std::mem::take(&mut self.client.inbox);
        let mut shape = std::mem::take(&mut self.shape);
        let result = match self.recognize(&input[..len], &mut shape) {
            Ok(Query::Direct { shard, access }) => {
                self.shape = shape;
                self.run_direct(input, len, shard, access).await
            }
            other => {
                let frame = take_front(&mut input, len);
                self.client.inbox = input;
                let result = match other {
                    Ok(query) => Box::pin(self.run_query(frame, query, &shape)).await,
                    Err(error) => Err(error),
                };
                self.shape = shape;
                result
            }
        };
        self.answer(result, start).await
    }

    /// A FunctionCall goes to the primary whole; which tables it touches cannot be known.
    pub(super) async fn function_call(&mut self, frame: BytesMut) -> Result<(), Error> {
        let start = Instant::now();
        self.info.requested(start);
        self.info.set(ClientState::Active);
        self.transaction_start.get_or_insert(start);
        self.account.begin();
        self.resend = Resend::Never;
        let result = match self.db.config.is_sharded() {
            _ if self.block.is_failed() => match self.only_in_block() {
                Some(index) => self.run_on(index, frame).await,
                None => Err(aborted()),
            },
            true => Err(Error::from(planner::Refusal::unsupported(
                "function call protocol on a sharded database",
                "The call names a function by OID, so the shards it concerns cannot be known.",
                "Call the function with SELECT.",
            ))),
            false => self
                .run_whole(
                    frame,
                    ShardId(0),
                    Access::Write,
                    &SessionEffect::Taint("function call"),
                )
                .await
                .map(drop),
        };
        self.answer(result, start).await
    }

    /// Ends a simple exchange: an error is told and fails the block, then everything settles.
    pub(super) async fn answer(
        &mut self,
        result: Result<(), Error>,
        start: Instant,
    ) -> Result<(), Error> {
        if let Err(error) = result {
            if error.is_fatal() || self.has_lost_what_it_keeps() {
                return Err(error.fatal());
            }
            if error.fault == Fault::Client {
                self.join_block().await;
            }
            self.fail_block().await?;
            self.note_failure(&error);
            self.count_error(&error);
            error.write_to(&mut self.client.outbox);
            self.batch.holds_ready = false;
            self.ready();
        }
        let now = Instant::now();
        self.note_answer();
        self.settle(now).await?;
        if !self.leases.is_empty() {
            self.restore_settings().await;
        }
        self.publish_schema().await;
        if std::mem::take(&mut self.batch.holds_ready) {
            self.ready();
        }
        let elapsed = now.duration_since(start);
        self.count_query(start, elapsed);
        self.count_statements(1, elapsed);
        Ok(())
    }

    /// What PostgreSQL does with a transaction in which a statement failed, for one that we refused.
    pub(super) async fn fail_block(&mut self) -> Result<(), Error> {
        if self.block.is_none() {
            return Ok(());
        }
        for held in self.leases.iter_mut().filter(|held| held.in_block) {
            // Its BEGIN may be under way.
            held.lease.settle().await.map_err(Error::fatal)?;
            if held.lease.status == Status::InTransaction {
                held.lease.send_failure(Bytes::new());
                held.lease.send_sync(false);
                held.lease.settle().await.map_err(Error::fatal)?;
            }
        }
        self.block.fail();
        Ok(())
    }

    /// A block that is about to fail is told to a server, if none knows of it yet: what each message
    /// is answered from then on is PostgreSQL's to say. Where no server can be had, it is ours.
    pub(super) async fn join_block(&mut self) {
        if !self.block.is_none() && !self.leases.iter().any(|held| held.in_block) {
            let shard = self.pick_shard(&planner::route::Shards::Any);
            let _ = Box::pin(self.enlist(shard, self.any_access())).await;
        }
    }

    pub(super) fn is_amid_transaction(&self) -> bool {
        self.amid_transaction().is_some()
    }

    /// The server on which extended messages have begun a transaction that this Query joins.
    fn amid_transaction(&self) -> Option<usize> {
        self.leases
            .iter()
            .position(|held| held.lease.amid_pipeline && !held.needs_sync)
    }

    /// A Query that does not run on `on` cannot end the transaction it joins there: that is
    /// committed before.
    pub(super) async fn end_joined(&mut self, on: Option<usize>) -> Result<(), Error> {
        if let Some(index) = self.amid_transaction()
            && on != Some(index)
        {
            let lease = &mut self.leases[index].lease;
            lease.send_sync(false);
            lease.settle().await.map_err(Error::fatal)?;
        }
        Ok(())
    }

    /// The one server that knows of the open block.
    pub(super) fn only_in_block(&self) -> Option<usize> {
        let mut knowing = (0..self.leases.len()).filter(|i| self.leases[*i].in_block);
        knowing.next().filter(|_| knowing.next().is_none())
    }

    /// What is to be done for a Query. For most nothing but [`Session::run_direct`], which is told
    /// here without a wait.
    fn recognize(&mut self, frame: &[u8], shape: &mut Shape) -> Result<Query, Error> {
        let sql = frontend::query(&frame[HEADER..])?;
        let text = match self.readable(sql) {
            Some(text) => text,
            None => return Ok(Query::Undecodable),
        };
        shape.scan(text.as_bytes());
        let Planned { plan, digest } = self.plan_of(&text, shape, &[]);
        let kept = self.kept_text(sql, None);
        self.account.statement(digest, kept);
        if self.shared.tracer.is_some() {
            self.sample(self.parent_of(sql).as_deref());
        }
        if let Cow::Owned(_) = text {
            return Ok(Query::Inexact(plan));
        }
        if !self.runs_directly(&plan) {
            return Ok(Query::Planned(plan));
        }
        let values = Values {
            sql,
            pieces: &shape.pieces,
            params: &[],
        };
        let (access, route) = self.decide(&plan, values, sql)?;
        if !matches!(route.execution, Execution::Direct) {
            return Ok(Query::Planned(plan));
        }
        self.note_keys(&plan, values);
        self.resend = resend_of(&plan, access);
        self.note_route(RouteKind::Direct);
        Ok(Query::Direct {
            shard: self.pick_shard(&route.shards),
            access,
        })
    }

    /// Its route is direct whatever its values are, and no other part of the session has to know of it.
    fn runs_directly(&self, plan: &Plan) -> bool {
        let one_shard = match &plan.target {
            Target::AnyShard | Target::OneShard(_) => true,
            Target::Keys { keys, many: _ } => keys.is_one(),
            Target::AllShards(_) | Target::Moves(_) | Target::Ids(_) | Target::Refused(_) => false,
        };
        one_shard
            && is_plain(&plan.statement)
            && matches!(plan.effect, SessionEffect::None)
            && !self.block.is_failed()
            && self.amid_transaction().is_none()
    }

    /// Runs the first `len` bytes of `input` on one shard and relays the answer.
    async fn run_direct(
        &mut self,
        mut input: BytesMut,
        len: usize,
        shard: ShardId,
        access: Access,
    ) -> Result<(), Error> {
        let index = match self.at_hand(shard, access) {
            Some(index) => {
                self.note_access(index, access);
                Ok(index)
            }
            None => self.enlist_first(shard, access).await,
        };
        if let Ok(index) = index {
            let lease = &mut self.leases[index].lease;
            lease.begin_exchange();
            lease.send_whole(&input[..len]);
        }
        input.advance(len);
        self.client.inbox = input;
        match self.relay(index?).await? {
            End::Done => Ok(()),
            End::NeedsClient => Err(without_reply()),
        }
    }

    async fn run_query(
        &mut self,
        frame: BytesMut,
        query: Query,
        shape: &Shape,
    ) -> Result<(), Error> {
        match query {
            Query::Planned(plan) => self.planned(frame, shape, plan).await,
            Query::Inexact(plan) if is_its_rows_alone(&plan.statement) => {
                Box::pin(self.run_inexact(frame, &plan)).await
            }
            Query::Inexact(plan) => Box::pin(self.routed_simple(frame, &inexact(&plan), &[])).await,
            Query::Undecodable => self.run_undecodable(frame).await,
            Query::Direct { shard, access } => {
                let len = frame.len();
                self.run_direct(frame, len, shard, access).await
            }
        }
    }

    /// A text that is not UTF-8, of which the kind is known: on an unsharded database all that
    /// matters is whether it may go to a replica.
    async fn run_inexact(&mut self, frame: BytesMut, plan: &Plan) -> Result<(), Error> {
        let values = Values {
            sql: frontend::query(&frame[HEADER..])?,
            pieces: &[],
            params: &[],
        };
        let (access, _) = self.decide(plan, values, values.sql)?;
        self.check_settings_named(&plan.effect, &[(values.sql, &[])])?;
        self.run_whole(frame, ShardId(0), access, &plan.effect)
            .await
            .map(drop)
    }

    /// A text in another encoding: PostgreSQL can read it, we cannot.
    async fn run_undecodable(&mut self, frame: BytesMut) -> Result<(), Error> {
        if self.db.config.is_sharded() {
            return Err(not_utf8());
        }
        self.lose_track();
        self.run_whole(
            frame,
            ShardId(0),
            Access::Write,
            &SessionEffect::Taint("unreadable text"),
        )
        .await
        .map(drop)
    }

    pub(super) async fn planned(
        &mut self,
        frame: BytesMut,
        shape: &Shape,
        plan: Arc<Plan>,
    ) -> Result<(), Error> {
        let chains = matches!(plan.statement, Statement::Chain { .. });
        let allowed_when_failed = match plan.statement {
            Statement::Commit
            | Statement::Rollback
            | Statement::Savepoint(_)
            | Statement::Empty => true,
            _ => chains && self.db.config.is_sharded(),
        };
        if self.block.is_failed() && !allowed_when_failed {
            // With several, any of them says what is wrong with it; what ends the block is not for one.
            let ends = plan.statement == Statement::TwoPhase;
            let any = || self.leases.iter().position(|held| held.in_block && !ends);
            match self.only_in_block().or_else(any) {
                // It may end the block before it does anything else.
                _ if matches!(plan.statement, Statement::Multiple(_)) => {}
                Some(index) => {
                    if chains {
                        // It ends the transaction.
                        self.note_effect(index, &plan.effect);
                    }
                    return self.run_on(index, frame).await;
                }
                None => return Err(aborted()),
            }
        }
        if let Some(index) = self.amid_transaction()
            && matches!(
                plan.statement,
                Statement::Begin { .. }
                    | Statement::Commit
                    | Statement::Rollback
                    | Statement::Empty
            )
        {
            return self.run_on(index, frame).await;
        }
        if let Statement::Multiple(known) = &plan.statement {
            let values = Values {
                sql: text_of(&frame).as_bytes(),
                pieces: &shape.pieces,
                params: &[],
            };
            if self.takes_apart(&plan, known, values)? {
                return Box::pin(self.run_text(frame)).await;
            }
        }
        if let Target::Ids(ids) = &plan.target {
            return Box::pin(self.simple_with_ids(frame, shape, ids)).await;
        }
        match &plan.statement {
            Statement::Empty => {
                self.client.outbox.extend_from_slice(write::EMPTY_QUERY);
                self.ready();
                Ok(())
            }
            Statement::Begin { mode } => self.begin(frame, *mode).await,
            Statement::Commit | Statement::Rollback => {
                self.end_block(frame, plan.statement == Statement::Commit)
                    .await
            }
            Statement::Chain { commit } if self.db.config.is_sharded() && !self.block.is_none() => {
                Box::pin(self.chain_simple(*commit)).await
            }
            Statement::Savepoint(savepoint) => {
                self.check_revivable()?;
                if self.on_all_enlisted(frame, Some(savepoint)).await? {
                    self.follow_savepoint(savepoint);
                }
                Ok(())
            }
            Statement::Set(set) if local::is_ours(set.name.as_deref()) => {
                self.note_route(RouteKind::Local);
                self.end_joined(None).await?;
                self.set_local_setting(set)?;
                write::command_complete(&mut self.client.outbox, local::set_tag(set));
                self.ready();
                Ok(())
            }
            Statement::Set(set) => {
                self.check_set(set)?;
                self.follow_set_transaction(set).await?;
                if let Some(base) = self.base_of(set) {
                    // On a line of its own: the client's may end in a comment.
                    let sql = format!("{}\n;{base}", text_of(&frame).trim_end_matches(';'));
                    Box::pin(self.on_all_quietly(&sql)).await?;
                    self.note_set(set, true);
                    self.complete(reset_tag(text_of(&frame)));
                } else if self.on_all_enlisted(frame, None).await? {
                    self.note_set(set, false);
                }
                Ok(())
            }
            Statement::Prepare(prepare) => {
                self.end_joined(None).await?;
                let sql = text_of(&frame).to_owned();
                Box::pin(self.prepare_sql(prepare, &sql)).await?;
                self.complete("PREPARE");
                Ok(())
            }
            Statement::Execute(execute) if !self.is_servers_own(&execute.name) => {
                self.end_joined(None).await?;
                let sql = text_of(&frame).to_owned();
                Box::pin(self.execute_simple(execute, &sql)).await
            }
            Statement::Deallocate(name)
                if !name
                    .as_deref()
                    .is_some_and(|name| self.is_servers_own(name)) =>
            {
                self.end_joined(None).await?;
                let tag = Box::pin(self.deallocate(name.as_deref())).await?;
                self.complete(tag);
                Ok(())
            }
            Statement::Listen(channel) if !self.is_session_mode() => {
                self.end_joined(None).await?;
                Box::pin(self.listen(channel)).await?;
                self.complete("LISTEN");
                Ok(())
            }
            Statement::Unlisten(channel) if !self.is_session_mode() => {
                self.end_joined(None).await?;
                Box::pin(self.unlisten(channel.as_ref())).await?;
                self.complete("UNLISTEN");
                Ok(())
            }
            Statement::Notify if self.listening.is_some() && self.block.is_none() => {
                self.end_joined(None).await?;
                Box::pin(self.notify(text_of(&frame))).await?;
                self.complete("NOTIFY");
                Ok(())
            }
            Statement::Show(name) if local::is_ours(Some(name)) => {
                self.note_route(RouteKind::Local);
                self.end_joined(None).await?;
                let value = self.show_local_setting(name).await?;
                write::text_columns(&mut self.client.outbox, &[name.as_str()]);
                write::text_row(&mut self.client.outbox, &[Some(&value)]);
                write::command_complete(&mut self.client.outbox, "SHOW");
                self.ready();
                Ok(())
            }
            Statement::ExplainRoute { inner } => {
                self.note_route(RouteKind::Local);
                self.end_joined(None).await?;
                let lines = self.explain_route(text_of(&frame), inner.clone());
                self.write_explain(&lines, true);
                self.ready();
                Ok(())
            }
            Statement::Query
            | Statement::Insert
            | Statement::Update
            | Statement::Delete
            | Statement::Merge
            | Statement::Ddl { .. }
            | Statement::TwoPhase
            | Statement::Chain { .. }
            | Statement::Show(_)
            | Statement::CopyIn
            | Statement::CopyOut
            | Statement::Execute(_)
            | Statement::Deallocate(_)
            | Statement::Listen(_)
            | Statement::Unlisten(_)
            | Statement::Notify
            | Statement::LockTable
            | Statement::Other
            | Statement::Multiple(_) => self.routed_simple(frame, &plan, &shape.pieces).await,
        }
    }

    /// ReadyForQuery of our own.
    pub(super) fn ready(&mut self) {
        if self.rest != Rest::Nothing {
            self.batch.holds_ready = true;
            return;
        }
        if self.block.is_none()
            && let Some(mailbox) = self.mailbox().cloned()
        {
            mailbox.empty(&mut self.client.outbox);
        }
        self.deliver_notified();
        let status = self.status().byte();
        write::ready(&mut self.client.outbox, status);
    }

    /// Runs a frame untouched on one shard and relays the answer.
    pub(super) async fn run_whole(
        &mut self,
        frame: BytesMut,
        shard: ShardId,
        access: Access,
        effect: &SessionEffect,
    ) -> Result<usize, Error> {
        let index = self.enlist(shard, access).await?;
        self.end_joined(Some(index)).await?;
        self.admit(index, effect).await?;
        if *effect == SessionEffect::DiscardAll && self.restores_base(index) {
            Box::pin(self.discard_quietly(index)).await?;
            self.complete("DISCARD ALL");
            return Ok(index);
        }
        let lease = &mut self.leases[index].lease;
        lease.begin_exchange();
        lease.send_frame(frame);
        self.hold_ready(index);
        match self.relay(index).await? {
            End::Done => self.note_held(index),
            End::NeedsClient => return Err(without_reply()),
        }
        if *effect == SessionEffect::DiscardAll && self.leases[index].lease.error.is_none() {
            self.discard_all(index);
        }
        Ok(index)
    }

    /// May DISCARD ALL be run for the client, which is to have its startup settings after it? Where it
    /// is to fail, the server says so.
    pub(super) fn restores_base(&self, index: usize) -> bool {
        let amid = self.leases[index].lease.amid_pipeline;
        !self.base.is_empty() && self.block.is_none() && !amid
    }

    async fn begin(&mut self, frame: BytesMut, mode: TransactionMode) -> Result<(), Error> {
        self.check_blocks_allowed()?;
        if !self.block.is_none() {
            if self.db.config.is_sharded() && says_modes(text_of(&frame)) {
                return Err(modes_amid());
            }
            return match self.leases.iter().position(|held| held.in_block) {
                // The server gives its own warning.
                Some(index) => self.run_on(index, frame).await,
                None => {
                    self.warn("25001", "there is already a transaction in progress");
                    self.complete(opening_tag(text_of(&frame)));
                    Ok(())
                }
            };
        }
        let text = text_of(&frame).trim().trim_end_matches(';');
        let reads = self.block_reads(mode);
        self.begin_block(text.as_bytes(), reads);
        self.complete(opening_tag(text_of(&frame)));
        Ok(())
    }

    /// COMMIT or ROLLBACK on every enlisted shard; the one that wrote decides.
    pub(super) async fn end_block(&mut self, frame: BytesMut, commit: bool) -> Result<(), Error> {
        let enlisted: Vec<usize> = (0..self.leases.len())
            .filter(|i| self.leases[*i].in_block)
            .collect();
        if self.block.is_none() {
            self.warn("25P01", "there is no transaction in progress");
            self.complete(if commit { "COMMIT" } else { "ROLLBACK" });
            return Ok(());
        }
        let Some(decisive) = enlisted
            .iter()
            .copied()
            .find(|i| self.leases[*i].wrote)
            .or(enlisted.first().copied())
        else {
            let committed = commit && !self.block.is_failed();
            self.block = Block::None;
            match committed {
                true => self.keep_changes(),
                false => self.drop_changes(),
            }
            self.complete(if committed { "COMMIT" } else { "ROLLBACK" });
            return Ok(());
        };
        if self.block.is_failed() || !commit {
            // A shard that did not fail must not commit what the failed ones roll back; and whoever hears
            // of the end finds no lock on any of them.
            self.roll_back_others(&enlisted, decisive).await;
            if commit && self.leases[decisive].lease.status != Status::Failed {
                self.leases[decisive]
                    .lease
                    .run_hidden("ROLLBACK")
                    .await
                    .map_err(Error::fatal)?;
                self.block = Block::None;
                self.complete("ROLLBACK");
                return Ok(());
            }
        }
        if commit && !self.block.is_failed() {
            self.expect_listens();
            self.commit_held(&enlisted, decisive).await?;
        }
        if commit && let Some(result) = Box::pin(self.commit_together()).await {
            result?;
            Box::pin(self.await_own_notifications()).await;
            self.keep_changes();
            self.complete("COMMIT");
            return Ok(());
        }
        let notified = self
            .listening
            .as_ref()
            .is_some_and(|listening| listening.notified);
        if notified {
            // Its own notifications come before ReadyForQuery, so that has to wait.
            let lease = &mut self.leases[decisive].lease;
            lease.settle().await?;
            if let Err(error) = lease.run_hidden(text_of(&frame)).await {
                return Err(self.commit_failed(error, &enlisted, decisive).await);
            }
        } else {
            self.run_on(decisive, frame).await?;
        }
        let committed = self.leases[decisive].lease.tag == b"COMMIT"
            && self.leases[decisive].lease.error.is_none();
        for index in enlisted.into_iter().filter(|i| *i != decisive) {
            let lease = &mut self.leases[index].lease;
            let verb = if committed { "COMMIT" } else { "ROLLBACK" };
            // These only read: what they answer changes nothing, and a broken one is closed.
            if lease.status != Status::Idle && lease.run_hidden(verb).await.is_err() {
                lease.doubt.get_or_insert("it failed to end a transaction");
            }
        }
        if notified {
            Box::pin(self.await_own_notifications()).await;
            self.block = Block::None;
            self.complete(if committed { "COMMIT" } else { "ROLLBACK" });
        }
        Ok(())
    }

    /// The server that decides has answered COMMIT or ROLLBACK with an error: nothing is kept.
    pub(super) async fn commit_failed(
        &mut self,
        error: Error,
        enlisted: &[usize],
        decisive: usize,
    ) -> Error {
        if let Some(listening) = &mut self.listening {
            listening.notified = false;
        }
        let lease = &self.leases[decisive].lease;
        if lease.status != Status::Idle || lease.doubt.is_some() {
            return error.fatal();
        }
        self.roll_back_others(enlisted, decisive).await;
        self.drop_changes();
        self.block = Block::None;
        error
    }

    async fn roll_back_others(&mut self, enlisted: &[usize], decisive: usize) {
        for index in enlisted.iter().copied().filter(|i| *i != decisive) {
            let lease = &mut self.leases[index].lease;
            if lease.run_hidden("ROLLBACK").await.is_err() {
                lease.doubt.get_or_insert("it failed to end a transaction");
            }
        }
    }

    pub(super) async fn run_on(&mut self, index: usize, frame: BytesMut) -> Result<(), Error> {
        self.note_place(index);
        let lease = &mut self.leases[index].lease;
        lease.begin_exchange();
        lease.tag.clear();
        lease.send_frame(frame);
        self.hold_ready(index);
        self.relay(index).await?;
        self.note_held(index);
        Ok(())
    }

    /// Where the schema has changed the client is not told to go on before it has been read anew.
    pub(super) fn hold_ready(&mut self, index: usize) {
        self.leases[index].lease.ready = match self.rest {
            Rest::Commit => Ready::HoldTag,
            Rest::Something => Ready::Hold,
            Rest::Nothing if self.batch.changed_schema => Ready::Hold,
            Rest::Nothing => return,
        };
    }

    /// After what came since [`Session::hold_ready`].
    pub(super) fn note_held(&mut self, index: usize) {
        let lease = &mut self.leases[index].lease;
        self.batch.holds_ready |= std::mem::take(&mut lease.ready) == Ready::Held;
        if self.rest == Rest::Commit {
            self.batch.held_tag = Some(String::from_utf8_lossy(&lease.tag).into_owned());
        }
    }

    pub(super) fn complete(&mut self, tag: &str) {
        self.note_route(RouteKind::Local);
        self.tell_tag(tag);
        for index in 0..self.leases.len() {
            self.tell_parameters(index);
        }
        self.ready();
    }

    /// CommandComplete of our own.
    pub(super) fn tell_tag(&mut self, tag: &str) {
        self.account.tagged(tag);
        match self.rest {
            Rest::Commit => self.batch.held_tag = Some(tag.to_owned()),
            Rest::Nothing | Rest::Something => {
                write::command_complete(&mut self.client.outbox, tag);
            }
        }
    }
}

/// SET … TO DEFAULT resets as well.
fn reset_tag(sql: &str) -> &'static str {
    match planner::leading_words(sql, 1).first() {
        Some(word) if word.eq_ignore_ascii_case("reset") => "RESET",
        Some(_) | None => "SET",
    }
}

/// Statements of which the session remembers no word.
pub(super) fn is_its_rows_alone(statement: &Statement) -> bool {
    match statement {
        Statement::Query
        | Statement::Insert
        | Statement::Update
        | Statement::Delete
        | Statement::Merge
        | Statement::Ddl { .. }
        | Statement::CopyIn
        | Statement::CopyOut => true,
        Statement::Empty
        | Statement::Begin { .. }
        | Statement::Commit
        | Statement::Rollback
        | Statement::Chain { .. }
        | Statement::Savepoint(_)
        | Statement::TwoPhase
        | Statement::Set(_)
        | Statement::Show(_)
        | Statement::ExplainRoute { .. }
        | Statement::Prepare(_)
        | Statement::Execute(_)
        | Statement::Deallocate(_)
        | Statement::Listen(_)
        | Statement::Unlisten(_)
        | Statement::Notify
        | Statement::LockTable
        | Statement::Other
        | Statement::Multiple(_) => false,
    }
}

/// The text of a Query frame that was checked to be UTF-8.
pub(super) fn text_of(frame: &[u8]) -> &str {
    frame
        .get(HEADER..)
        .and_then(|body| frontend::query(body).ok())
        .and_then(|sql| std::str::from_utf8(sql).ok())
        .unwrap_or_default()
}
