//! Portals: Describe and Execute of what Bind made.

use std::sync::Arc;

use bytes::BytesMut;
use planner::ShardId;
use planner::plan::{Many, SessionEffect, Statement, Target, TransactionMode};

use super::bind::chains;
use super::{CopyPortal, CopyWay, Done, Explaining, Local, Portal, ScatterPortal, no_portal};
use crate::backend::server::{Expect, Status};
use crate::error::{Error, Fault};
use crate::executor::database::may_alter;
use crate::executor::describe::describe;
use crate::executor::merge::columns_frame;
use crate::executor::relay::{Broken, Told};
use crate::executor::scatter::Pause;
use crate::session::block::{Block, Reads, aborted, modes_amid, opening_tag, says_modes};
use crate::session::retry::{Failed, MOST};
use crate::session::scattered::{Started, lost_again};
use crate::session::{Session, local, routed};
use crate::wire::frame::HEADER;
use crate::wire::frontend::Execute;
use crate::wire::write;

impl Session {
    pub(super) async fn describe_portal(&mut self, name: &[u8], frame: &[u8]) -> Result<(), Error> {
        self.check_pending().await?;
        match self.batch.portals.get(name) {
            None => match (self.cursors.named(name), self.cursor_server(name)) {
                (Some(cursor), _) => self.describe_cursor(cursor).await,
                (None, Some(index)) => self.describe_on(index, frame).await,
                (None, None) => Err(no_portal(name)),
            },
            Some(Portal::Server { lease, .. }) => self.describe_on(*lease, frame).await,
            Some(Portal::Local(local)) => {
                let columns = local_columns(local);
                self.emit(&columns);
                Ok(())
            }
            Some(Portal::Scatter(_)) => {
                let mut portal = self.take_scatter(name)?;
                let started = self.start_scatter(&mut portal).await;
                let columns = portal.columns.clone();
                self.batch.suspended |= portal.run.is_some();
                self.batch.portals.insert(name, Portal::Scatter(portal));
                started?;
                self.emit(&columns);
                Ok(())
            }
            Some(Portal::Copy(_)) => {
                self.emit(write::NO_DATA);
                Ok(())
            }
            Some(Portal::Broadcast(portal)) => {
                let (sql, types) = (portal.sql.clone(), portal.types.clone());
                let formats = portal.result_formats.clone();
                let first = portal.shards.as_slice().first().copied();
                let shard = portal.job.describing().or(first).unwrap_or(ShardId(0));
                let columns = self.describe_hidden(shard, &sql, &types, &formats).await?;
                self.emit(&columns);
                Ok(())
            }
        }
    }

    async fn describe_on(&mut self, index: usize, frame: &[u8]) -> Result<(), Error> {
        self.activate(index).await?;
        self.pass_on(index, frame, Expect::Describe { of: None });
        Ok(())
    }

    /// The server that may know a portal which Bind did not make: SQL's cursors are portals too.
    pub(super) fn cursor_server(&self, name: &[u8]) -> Option<usize> {
        let may_know = |index: &usize| {
            let held = &self.leases[*index];
            held.in_block || held.pinned.is_some()
        };
        let mut bound = (0..self.leases.len()).filter(may_know);
        if let Some(shard) = self.cursors.shard_named(name) {
            return bound.find(|index| self.leases[*index].shard == shard);
        }
        bound.next().filter(|_| bound.next().is_none())
    }

    /// What the statement returns, asked of one shard without the client seeing it.
    pub(in crate::session) async fn describe_hidden(
        &mut self,
        shard: ShardId,
        sql: &[u8],
        types: &[u32],
        formats: &[i16],
    ) -> Result<BytesMut, Error> {
        self.fetch().await?;
        let index = self.enlist(shard, self.any_access()).await?;
        self.sync_quietly(&[index]).await?;
        let server = &mut self.leases[index].lease;
        // BEGIN may be under way; its reply is not this one's.
        server.settle().await?;
        match describe(server, sql, types).await? {
            Some(described) => columns_frame(&described.columns, formats),
            None => Ok(BytesMut::from(write::NO_DATA)),
        }
    }

    pub(super) async fn execute(&mut self, frame: &[u8]) -> Result<(), Error> {
        let Execute {
            portal: name,
            max_rows,
        } = Execute::read(&frame[HEADER..])?;
        self.note_execute();
        self.check_pending().await?;
        self.account_for(name, max_rows);
        match self.batch.portals.get(name) {
            None => match (self.cursors.named(name), self.cursor_server(name)) {
                (Some(cursor), _) => Box::pin(self.execute_on_cursor(cursor, max_rows)).await,
                (None, Some(index)) => {
                    self.activate(index).await?;
                    self.pass_on(index, frame, Expect::Execute);
                    Ok(())
                }
                (None, None) => Err(no_portal(name)),
            },
            Some(Portal::Server { lease, prepared }) => {
                let index = *lease;
                let statement = &prepared.plan.statement;
                let takes_data = *statement == Statement::CopyIn || prepared.is_unread();
                let ends_block = matches!(statement, Statement::Commit | Statement::Rollback);
                let may_revive = matches!(statement, Statement::Savepoint(_)) || chains(statement);
                let revives = may_revive && self.block.is_failed();
                if ends_block && self.taking_part() > 1 {
                    // More of them than when it was bound.
                    self.account.becomes_local();
                    let commit = *statement == Statement::Commit;
                    let local = Portal::Local(Local::End { commit });
                    self.batch.portals.insert(name, local);
                    return self.execute_local(name).await;
                }
                let concerns_all = matches!(statement, Statement::Set(_) | Statement::Savepoint(_));
                let concerns_all = concerns_all.then(|| Arc::clone(prepared));
                let discards = prepared.plan.effect == SessionEffect::DiscardAll;
                let base = match statement {
                    Statement::Set(set) if !self.block.is_none() => self.base_of(set),
                    _ => None,
                };
                match statement {
                    Statement::Set(set) => {
                        let set = set.clone();
                        self.change_context(&set);
                        self.batch.done.push(Done::Set(set, base.is_some()));
                    }
                    Statement::Savepoint(savepoint) => {
                        let savepoint = savepoint.clone();
                        self.follow_context(&savepoint);
                        self.batch.done.push(Done::Savepoint(savepoint));
                    }
                    Statement::Ddl { alters: true, .. } => {
                        if may_alter(&prepared.statement.sql) {
                            self.db.note_altered();
                        }
                        self.note_ddl();
                    }
                    _ => {}
                }
                self.batch.discarded |= discards;
                if discards && !self.base.is_empty() && self.block.is_none() {
                    self.fetch().await?;
                    let alone = !self.leases[index].wrote && self.batch.done.is_empty();
                    if alone {
                        self.end_extended(index).await?;
                        Box::pin(self.discard_quietly(index)).await?;
                        self.account.becomes_local();
                        self.account.answered(0);
                        let mut done = BytesMut::new();
                        write::command_complete(&mut done, "DISCARD ALL");
                        self.emit(&done);
                        return Ok(());
                    }
                }
                let in_block = self.db.config.is_sharded() && !self.block.is_none();
                if let Some(prepared) = &concerns_all {
                    if in_block {
                        // What failed before is nothing for the others.
                        self.fetch().await?;
                    }
                    let text = String::from_utf8_lossy(&prepared.statement.sql);
                    self.tell_others(index, &text).await?;
                }
                self.activate(index).await?;
                self.pass_on(index, frame, Expect::Execute);
                if let Some(prepared) = concerns_all {
                    if in_block {
                        self.fetch().await?;
                    }
                    let text = String::from_utf8_lossy(&prepared.statement.sql);
                    let savepoint = prepared.plan.statement.savepoint();
                    self.note_on_all(index, &text, savepoint);
                    savepoint
                        .iter()
                        .for_each(|savepoint| self.cursors_follow(savepoint));
                }
                if let Some(base) = base {
                    self.fetch().await?;
                    for held in self.leases.iter_mut().filter(|held| held.in_block) {
                        held.lease.run_hidden(&base).await?;
                    }
                }
                if takes_data {
                    // What follows is data only once the server has said that it wants some.
                    self.fetch().await?;
                }
                if discards {
                    self.before_query().await?;
                    self.batch.done.clear();
                    self.drop_changes();
                    self.discard_all(index);
                } else if ends_block && self.outlives_block() {
                    self.fetch().await?;
                    self.batch.block_ended = Some(index);
                    self.note_end_of_block();
                } else if ends_block {
                    self.batch.block_ended = Some(index);
                } else if revives {
                    self.fetch().await?;
                    self.block.observe(Status::InTransaction);
                }
                Ok(())
            }
            Some(Portal::Local(Local::Cursor(_) | Local::Declare(_))) => {
                Box::pin(self.execute_cursor(name, max_rows)).await
            }
            Some(Portal::Local(_)) => self.execute_local(name).await,
            Some(Portal::Scatter(_)) => Box::pin(self.execute_scatter(name, max_rows)).await,
            Some(Portal::Broadcast(_)) => Box::pin(self.execute_broadcast(name, max_rows)).await,
            Some(Portal::Copy(_)) => Box::pin(self.execute_copy(name)).await,
        }
    }

    async fn execute_copy(&mut self, name: &[u8]) -> Result<(), Error> {
        let Some(Portal::Copy(portal)) = self.batch.portals.get_mut(name) else {
            return Err(no_portal(name));
        };
        if std::mem::replace(&mut portal.ran, true) {
            return Err(cannot_run(name));
        }
        let CopyPortal {
            plan,
            sql,
            shards,
            access,
            way,
            ran: _,
            digest: _,
        } = &**portal;
        let (plan, sql, shards) = (Arc::clone(plan), sql.clone(), shards.clone());
        let (access, way) = (*access, way.clone());
        self.fetch().await?;
        let tag = match (way, &plan.target) {
            (CopyWay::Rows(scattered), _) => {
                self.check_settings_elsewhere(None)?;
                let sent = self.send_scattered(&scattered, &shards, access);
                format!("COPY {}", Box::pin(sent).await?)
            }
            (CopyWay::Out(frame), _) => {
                self.check_settings_elsewhere(None)?;
                self.copy_out(frame, &shards, access, &sql).await?
            }
            (CopyWay::In, Target::AllShards(Many::CopyIn(copy))) => {
                self.end_pipeline().await?;
                let (indexes, tag) = self.copy_in(&plan, copy, &shards, &sql).await?;
                match self.check_sync_follows(name).await {
                    Ok(()) => self.end_copy(&indexes).await?,
                    Err(error) => {
                        self.roll_back_on(&indexes).await;
                        return Err(error);
                    }
                }
                tag
            }
            (CopyWay::In, _) => return Err(no_portal(name)),
        };
        write::command_complete(&mut self.client.outbox, &tag);
        self.account.tagged(&tag);
        Ok(())
    }

    pub(super) async fn execute_local(&mut self, name: &[u8]) -> Result<(), Error> {
        // What fails before it keeps it from running.
        self.fetch().await?;
        let is_failed = self.block.is_failed();
        let local = match self.batch.portals.get_mut(name) {
            Some(Portal::Local(Local::Empty)) => Local::Empty,
            Some(Portal::Local(local))
                if is_failed && !matches!(local, Local::End { .. } | Local::Chain { .. }) =>
            {
                return Err(aborted());
            }
            Some(Portal::Local(local)) => {
                let ran = match local {
                    Local::Show(_) => Some("SHOW".to_owned()),
                    Local::Explain(_) | Local::ExplainOn(_) => Some("EXPLAIN".to_owned()),
                    Local::Ran(tag) => tag.clone(),
                    Local::Empty
                    | Local::Begin { .. }
                    | Local::End { .. }
                    | Local::Chain { .. }
                    | Local::Set(_)
                    | Local::Prepare(..)
                    | Local::Deallocate(_)
                    | Local::Listen(_)
                    | Local::Unlisten(_)
                    | Local::Declare(_)
                    | Local::Cursor(_) => None,
                };
                std::mem::replace(local, Local::Ran(ran))
            }
            _ => return Err(no_portal(name)),
        };
        let mut out = BytesMut::new();
        match local {
            Local::Empty => out.extend_from_slice(write::EMPTY_QUERY),
            Local::Begin { sql, mode } => {
                let text = String::from_utf8_lossy(&sql);
                self.note_end_of_block();
                let amid = !self.block.is_none() || self.batch.executed > 1;
                if amid && self.db.config.is_sharded() && says_modes(&text) {
                    return Err(modes_amid());
                }
                match self.block.is_none() {
                    true => {
                        let text = text.trim().trim_end_matches(';');
                        Box::pin(self.begin_amid(text, mode)).await?;
                    }
                    // What was one transaction for this pipeline goes on after Sync.
                    false if self.batch.implicit => self.batch.implicit = false,
                    false => self.warn("25001", "there is already a transaction in progress"),
                }
                write::command_complete(&mut out, opening_tag(&text));
            }
            Local::End { commit } => {
                if std::mem::take(&mut self.batch.implicit) {
                    self.warn("25P01", "there is no transaction in progress");
                }
                let tag = Box::pin(self.end_everywhere(commit)).await?;
                self.publish_schema().await;
                // It ends with the transaction.
                self.batch.portals.remove(name);
                write::command_complete(&mut out, tag);
            }
            Local::Chain { commit } => {
                let tag = Box::pin(self.chain_amid(commit)).await?;
                write::command_complete(&mut out, tag);
            }
            Local::Set(set) => {
                self.set_local_setting(&set)?;
                write::command_complete(&mut out, local::set_tag(&set));
            }
            Local::Show(setting) => {
                let value = self.show_local_setting(&setting).await?;
                write::text_row(&mut out, &[Some(&value)]);
                write::command_complete(&mut out, "SHOW");
            }
            Local::Explain(lines) => {
                lines
                    .iter()
                    .for_each(|line| write::text_row(&mut out, &[Some(line)]));
                write::command_complete(&mut out, "EXPLAIN");
            }
            Local::ExplainOn(explaining) => {
                self.check_settings_elsewhere(None)?;
                // Other statements may have been bound since.
                self.wishes.max_lag = explaining.max_lag;
                let Explaining {
                    explained,
                    shards,
                    access,
                    max_lag: _,
                } = &*explaining;
                let lines = self.explain_on(explained, shards, *access);
                for line in Box::pin(lines).await? {
                    write::text_row(&mut out, &[Some(&line)]);
                }
                write::command_complete(&mut out, "EXPLAIN");
            }
            Local::Prepare(prepare, sql) => {
                let text = String::from_utf8_lossy(&sql);
                Box::pin(self.prepare_sql(&prepare, &text)).await?;
                write::command_complete(&mut out, "PREPARE");
            }
            Local::Deallocate(name) => {
                let tag = Box::pin(self.deallocate(name.as_deref())).await?;
                write::command_complete(&mut out, tag);
            }
            Local::Listen(channel) => {
                Box::pin(self.listen(&channel)).await?;
                write::command_complete(&mut out, "LISTEN");
            }
            Local::Unlisten(channel) => {
                Box::pin(self.unlisten(channel.as_ref())).await?;
                write::command_complete(&mut out, "UNLISTEN");
            }
            Local::Ran(Some(tag)) => write::command_complete(&mut out, &tag),
            Local::Ran(None) | Local::Declare(_) | Local::Cursor(_) => {
                return Err(cannot_run(name));
            }
        }
        self.account.answered(0);
        self.emit(&out);
        Ok(())
    }

    /// BEGIN: what this pipeline has begun becomes a part of the block.
    pub(super) async fn begin_amid(
        &mut self,
        sql: &str,
        mode: TransactionMode,
    ) -> Result<(), Error> {
        let reads = match self.block_reads(mode) {
            // Whether it could move is not known of what has begun.
            Reads::UntilWrite if self.leases.iter().any(|held| held.needs_sync) => Reads::Primary,
            reads => reads,
        };
        let mut begun = false;
        for held in self.leases.iter_mut().filter(|held| held.needs_sync) {
            // A replica refuses some modes. It is asked no more in such a block.
            let text = if held.home.is_some() && reads == Reads::Primary {
                "BEGIN READ ONLY"
            } else {
                sql
            };
            held.needs_sync = false;
            let result = held.lease.run_amid(text).await;
            result.map_err(|error| if begun { error.fatal() } else { error })?;
            held.in_block = true;
            begun = true;
        }
        self.begin_block(sql.as_bytes(), reads);
        Ok(())
    }

    /// COMMIT or ROLLBACK outside of a block: it ends what this pipeline has begun.
    async fn end_implicit(&mut self, verb: &str) -> Result<(), Error> {
        for held in self.leases.iter_mut().filter(|held| held.needs_sync) {
            held.needs_sync = false;
            held.lease.run_amid(verb).await?;
        }
        Ok(())
    }

    /// COMMIT or ROLLBACK without a server, or with several: the one that wrote decides.
    pub(in crate::session) async fn end_everywhere(
        &mut self,
        commit: bool,
    ) -> Result<&'static str, Error> {
        self.fetch().await?;
        if self.block.is_none() {
            let verb = if commit { "COMMIT" } else { "ROLLBACK" };
            self.warn("25P01", "there is no transaction in progress");
            self.end_implicit(verb).await?;
            if !commit {
                self.batch.done.clear();
                self.drop_changes();
            }
            self.keep_sets_of_block();
            return Ok(verb);
        }
        let commit = commit && !self.block.is_failed();
        if commit {
            self.expect_listens();
            let enlisted = (0..self.leases.len()).filter(|at| self.leases[*at].in_block);
            let mut enlisted: Vec<usize> = enlisted.collect();
            enlisted.sort_by_key(|index| !self.leases[*index].wrote);
            if let [decisive, ..] = enlisted[..] {
                Box::pin(self.commit_held(&enlisted, decisive)).await?;
            }
        }
        if commit && let Some(result) = Box::pin(self.commit_together()).await {
            if result.is_err() {
                self.batch.done.clear();
            }
            self.keep_sets_of_block();
            return result.map(|()| "COMMIT");
        }
        let verb = if commit { "COMMIT" } else { "ROLLBACK" };
        let mut order: Vec<usize> = (0..self.leases.len())
            .filter(|i| self.leases[*i].in_block)
            .collect();
        order.sort_by_key(|i| !self.leases[*i].wrote);
        for (at, index) in order.iter().copied().enumerate() {
            let held = &mut self.leases[index];
            held.needs_sync = false;
            let done = held.lease.run_hidden(verb).await;
            if at == 0 && self.leases[index].wrote {
                if let Err(error) = done {
                    self.batch.done.clear();
                    return Err(Box::pin(self.commit_failed(error, &order, index)).await);
                }
            } else if done.is_err() {
                self.leases[index]
                    .lease
                    .doubt
                    .get_or_insert("it failed to end a transaction");
            }
        }
        self.block = Block::None;
        if !commit {
            self.batch.done.clear();
            self.drop_changes();
        }
        self.keep_sets_of_block();
        for index in order {
            // What follows in the pipeline is another transaction.
            self.leases[index].in_block = false;
            self.leases[index].wrote = false;
        }
        Ok(verb)
    }

    /// What follows in the pipeline depends on the block's being at its end: it may go to another
    /// shard, is refused no longer, or runs under the settings that the block made.
    fn outlives_block(&self) -> bool {
        self.db.config.is_sharded()
            || self.block.is_failed()
            || !self.batch.done.is_empty()
            || !self.changes.is_empty()
    }

    /// Once the replies are there: a block that this pipeline has ended is no more.
    pub(super) fn note_end_of_block(&mut self) {
        let Some(index) = self.batch.block_ended.take() else {
            return;
        };
        self.block = Block::None;
        if let Some(held) = self.leases.get_mut(index) {
            held.in_block = false;
        }
        self.info.in_block(false);
        self.keep_sets_of_block();
    }

    /// A block has ended amid a pipeline: its SETs count, or are gone, whatever fails later.
    fn keep_sets_of_block(&mut self) {
        let done = std::mem::take(&mut self.batch.done);
        self.note_done(done);
        self.keep_changes();
        self.cursors.end_transaction();
    }

    pub(super) fn take_scatter(&mut self, name: &[u8]) -> Result<Box<ScatterPortal>, Error> {
        match self.batch.portals.remove(name) {
            Some(Portal::Scatter(portal)) => Ok(portal),
            Some(other) => {
                self.batch.portals.insert(name, other);
                Err(no_portal(name))
            }
            None => Err(no_portal(name)),
        }
    }

    pub(super) async fn start_scatter(&mut self, portal: &mut ScatterPortal) -> Result<(), Error> {
        if std::mem::replace(&mut portal.has_started, true) {
            return Ok(());
        }
        self.fetch().await?;
        self.check_settings_elsewhere(None)?;
        // Other statements may have been bound since.
        self.wishes.max_lag = portal.max_lag;
        let (scattered, shards) = (&portal.scattered, &portal.shards);
        let started = self.start_scattered(scattered, shards, &mut portal.access);
        let Started {
            run,
            indexes,
            columns,
        } = started.await?;
        if !portal.columns.is_empty() && portal.columns != columns {
            // It was described before the server that did so was lost.
            let message = "columns of a query over several shards have changed";
            return Err(Error::new(Fault::Client, "0A000", message).hint("Run it again."));
        }
        portal.columns = columns;
        portal.run = Some((run, indexes));
        Ok(())
    }

    /// Ends the implicit transactions of servers that a merge is about to use on its own.
    pub(in crate::session) async fn sync_quietly(
        &mut self,
        indexes: &[usize],
    ) -> Result<(), Error> {
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

    pub(super) async fn execute_scatter(
        &mut self,
        name: &[u8],
        max_rows: u32,
    ) -> Result<(), Error> {
        let mut portal = self.take_scatter(name)?;
        if portal.interrupted {
            return Err(planner::Refusal::unsupported(
                "portal over several shards cannot be continued",
                "Another statement ran on its shards while it was suspended.",
                "Fetch all rows before the next statement, or use one connection for each.",
            )
            .into());
        }
        let mut out = BytesMut::new();
        for _ in 0..MOST {
            self.start_scatter(&mut portal).await?;
            let told = Told::before(&self.client);
            let Some((mut run, indexes)) = portal.run.take() else {
                self.account.answered(0);
                write::command_complete(&mut out, "SELECT 0");
                break;
            };
            let before = run.rows_out();
            let mut servers = routed::pick(&mut self.leases, &indexes);
            let result = match run.rows(&mut self.client, &mut servers, max_rows).await {
                Ok(Pause::RowLimit) => Ok(Pause::RowLimit),
                Ok(Pause::Finished) => match run.finish(&mut servers).await {
                    Ok(()) => Ok(Pause::Finished),
                    Err(error) => Err(Broken::Server(error)),
                },
                Err(broken) => Err(broken),
            };
            match result {
                Ok(Pause::RowLimit) => {
                    self.account.answered(run.rows_out() - before);
                    out.extend_from_slice(write::PORTAL_SUSPENDED);
                    portal.run = Some((run, indexes));
                    self.batch.suspended = true;
                }
                Ok(Pause::Finished) => {
                    self.account.answered(run.rows_out() - before);
                    self.note_ends(&indexes, &run.ends);
                    let tag = format!("SELECT {}", run.rows_out() - before);
                    write::command_complete(&mut out, &tag);
                }
                Err(broken) if before == 0 && told.nothing_since(&self.client) => {
                    match self.fail_scattered(&indexes, broken, portal.access).await {
                        Failed::Again(access) => portal.access = access,
                        Failed::Tell(error) => return Err(error),
                    }
                    told.take_back(&mut self.client);
                    portal.has_started = false;
                    continue;
                }
                Err(broken) => return Err(self.end_scatter(&indexes, broken).await),
            }
            break;
        }
        if out.is_empty() {
            return Err(lost_again());
        }
        self.client.outbox.extend_from_slice(&out);
        self.batch.portals.insert(name, Portal::Scatter(portal));
        Ok(())
    }

    /// A merge that paused holds its servers; before they do anything else it must end.
    pub(in crate::session) async fn end_runs(&mut self) -> Result<(), Error> {
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
}

pub(super) fn cannot_run(name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    let message = format!("portal \"{name}\" cannot be run");
    Error::new(Fault::Client, "55000", message)
}

/// RowDescription or NoData of what the session answers itself.
pub(super) fn local_columns(local: &Local) -> BytesMut {
    let mut out = BytesMut::new();
    match local {
        Local::Show(name) => write::text_columns(&mut out, &[name.as_str()]),
        Local::Explain(_) | Local::ExplainOn(_) => write::text_columns(&mut out, &["QUERY PLAN"]),
        Local::Cursor(portal) => out.extend_from_slice(&portal.columns),
        Local::Empty
        | Local::Begin { .. }
        | Local::End { .. }
        | Local::Chain { .. }
        | Local::Set(_)
        | Local::Prepare(..)
        | Local::Deallocate(_)
        | Local::Listen(_)
        | Local::Unlisten(_)
        | Local::Declare(_)
        | Local::Ran(_) => {
            out.extend_from_slice(write::NO_DATA);
        }
    }
    out
}
