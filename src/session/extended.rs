//! The extended query protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync.
//!
//! A statement's server is known at Bind, when its parameters are. Until then Parse waits. Messages
//! for one server are passed on without waiting for replies; before the target changes, the
//! replies of the one before are fetched with Flush, so that the client gets all in order. After an
//! error everything up to Sync is skipped, here as on the server.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY>

mod amid;
mod bind;
mod bound;
mod broadcast;
mod cursor;
mod implicit;
mod names;
mod portal;
mod prepare;
mod reuse;
mod step;

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use planner::plan::{Access, Savepoint, SetStatement, Statement};
use planner::{Catalog, ShardId};

use crate::backend::server::kept::Resend;
use crate::backend::server::{Expect, StatementId};
use crate::error::{Error, Fault};
use crate::executor::database::Statement as Text;
use crate::executor::relay::End;
use crate::net::Instant;
use crate::session::block::aborted;
use crate::session::{ClientState, Enlisted, Prepared, Session, prepared, take_front};
use crate::wire::frame::HEADER;
use crate::wire::frontend::Parse;
use crate::wire::{frontend, write};
pub(super) use bound::Local;
use bound::{BroadcastPortal, CopyPortal, CopyWay, Explaining, Portal, Ran, ScatterPortal};
use names::Names;
use step::Step;
pub(super) use step::{asks_first, is_plain};

/// Messages for a server above this are sent before more are read.
const PIPELINE_HIGH: usize = 64 * 1024;
/// The same in messages whose replies are owed.
const PIPELINE_MESSAGES: usize = 1000;

/// The extended protocol's state between messages.
#[derive(Default)]
pub(super) struct Batch {
    /// The server that replies come from now.
    pub(super) active: Option<usize>,
    statements: Names<Arc<Prepared>>,
    portals: Names<Portal>,
    /// Statements whose ParseComplete the client is owed, in order: no server has seen them yet.
    pending: Vec<Vec<u8>>,
    /// Statements parsed since the last Sync: an error may undo them. Those pending are the last.
    fresh: Vec<Fresh>,
    /// An error was reported: everything up to Sync is ignored.
    pub(super) skipping: bool,
    /// A merge has paused and holds its servers.
    pub(super) suspended: bool,
    /// Where in the outbox the Bind begins that may have to be sent again, and what it is bound to.
    pub(super) rebind: Option<(usize, Arc<Prepared>)>,
    /// What the session has to follow of what was executed since the last Sync.
    done: Vec<Done>,
    /// The server to which the end of its block was passed on since the last Sync, without waiting
    /// for it: what comes next learns of it from [`Session::note_end_of_block`].
    block_ended: Option<usize>,
    /// The open block is this pipeline's own: Sync ends it.
    pub(super) implicit: bool,
    /// DISCARD ALL ran since the last Sync.
    discarded: bool,
    /// By a statement since the last Sync, or in the open block.
    pub(super) changed_schema: bool,
    /// As the open block sees it that has changed the schema, once that was read.
    pub(super) own_catalog: Option<Arc<Catalog>>,
    /// The version of the published catalog when that was read.
    pub(super) own_since: u64,
    /// ReadyForQuery is owed to the client until the schema has been read anew.
    pub(super) holds_ready: bool,
    /// The CommandComplete that waits for COMMIT.
    pub(super) held_tag: Option<String>,
    /// When the first message since the last Sync came.
    pub(super) start: Option<Instant>,
    /// Execute messages since the last Sync.
    executed: u32,
}

impl Batch {
    fn note_parse(&mut self, name: &[u8], before: Before) {
        self.pending.push(name.to_vec());
        self.fresh.push(Fresh {
            name: name.to_vec(),
            before,
        });
    }

    /// The servers have taken all statements but those pending: none of them is undone any more.
    fn forget_replaced(&mut self) {
        let taken = self.fresh.len().saturating_sub(self.pending.len());
        self.fresh.drain(..taken);
    }

    /// DISCARD ALL and DEALLOCATE ALL drop protocol-level statements too.
    pub(super) fn forget_statements(&mut self) {
        // PostgreSQL keeps the one without a name.
        let unnamed = self.statements.remove(b"");
        self.statements = Names::default();
        if let Some(unnamed) = unnamed {
            self.statements.insert(b"", unnamed);
        }
        self.portals = Names::default();
    }

    /// True if it was there.
    pub(super) fn forget_statement(&mut self, name: &[u8]) -> bool {
        self.statements.remove(name).is_some()
    }

    /// A server is being sent its Parse. An error may undo it.
    pub(super) fn parse_unread(&mut self, name: &[u8], statement: Prepared) {
        let before = Before::Other(self.statements.remove(name));
        self.statements.insert(name, Arc::new(statement));
        self.fresh.push(Fresh {
            name: name.to_vec(),
            before,
        });
    }

    /// What had the name before is forgotten.
    pub(super) fn add_statement(&mut self, name: &[u8], statement: Prepared) {
        self.statements.insert(name, Arc::new(statement));
    }

    /// How many statements there are, and what they count for.
    pub(super) fn statement_usage(&self) -> (usize, usize) {
        (self.statements.len(), self.statements.bytes())
    }

    /// No message has come since the last Sync.
    pub(super) fn is_between(&self) -> bool {
        self.start.is_none()
    }

    pub(super) fn has_portal(&self, name: &[u8]) -> bool {
        self.portals.contains(name)
    }

    /// Something is bound, perhaps to shards as they are now.
    pub(super) fn has_portals(&self) -> bool {
        self.portals.len() > 0
    }

    pub(super) fn statement(&self, name: &[u8]) -> Option<&Prepared> {
        self.statements.get(name).map(|prepared| &**prepared)
    }

    /// The text of a statement that messages since the last Sync named.
    pub(super) fn text_of(&self, id: StatementId) -> Option<&Text> {
        let bound = self.portals.values().find_map(|portal| match portal {
            Portal::Server { prepared, .. } if prepared.statement.id == id => Some(prepared),
            Portal::Server { .. }
            | Portal::Local(_)
            | Portal::Scatter(_)
            | Portal::Broadcast(_)
            | Portal::Copy(_) => None,
        });
        let named = || {
            let mut statements = self.statements.values();
            statements.find(|prepared| prepared.statement.id == id)
        };
        bound.or_else(named).map(|prepared| &*prepared.statement)
    }

    /// Notes a portal on the server of lease `index`.
    pub(super) fn bind_portal(&mut self, portal: &[u8], index: usize, prepared: Arc<Prepared>) {
        let lease = index;
        self.portals
            .insert(portal, Portal::Server { lease, prepared });
    }

    pub(super) fn has_statement(&self, name: &[u8]) -> bool {
        self.statements.contains(name)
    }

    /// A Bind of the portal without a name takes the place of the one before, whatever comes of it.
    fn forget_replaced_portal(&mut self, portal: &[u8]) {
        if portal.is_empty() {
            self.portals.remove(b"");
        }
    }

    /// The names of portals that are on the server of lease `index`.
    pub(super) fn portals_on(&self, index: usize) -> impl Iterator<Item = &[u8]> {
        self.portals
            .iter()
            .filter_map(move |(name, portal)| match portal {
                Portal::Server { lease, .. } => (*lease == index).then_some(name),
                Portal::Local(_) | Portal::Scatter(_) | Portal::Broadcast(_) | Portal::Copy(_) => {
                    None
                }
            })
    }

    pub(super) fn has_portals_on(&self, index: usize) -> bool {
        let is_there = |portal: &Portal| match portal {
            Portal::Server { lease, .. } => *lease == index,
            Portal::Scatter(portal) => portal.run.is_some(),
            Portal::Local(_) | Portal::Broadcast(_) | Portal::Copy(_) => false,
        };
        self.portals.values().any(is_there)
    }

    /// The lease at `index`, on which there are no portals, is gone: those after it have moved up. Or what is
    /// bound there is about to be bound on the next.
    pub(super) fn forget_lease(&mut self, index: usize) {
        for portal in self.portals.values_mut() {
            match portal {
                Portal::Server { lease, .. } => *lease -= usize::from(*lease > index),
                Portal::Scatter(_) | Portal::Local(_) | Portal::Broadcast(_) | Portal::Copy(_) => {}
            }
        }
    }

    /// At the end of a transaction.
    pub(super) fn forget_portals(&mut self) {
        self.portals.clear();
    }

    /// Plans of another configuration are not this one's.
    pub(super) fn forget_plans(&mut self) {
        self.statements
            .values_mut()
            .for_each(|prepared| Arc::make_mut(prepared).version = u64::MAX);
    }

    /// A simple Query drops the unnamed statement and portal.
    pub(super) fn drop_unnamed(&mut self) {
        self.forget_statement(b"");
        self.portals.remove(b"");
    }
}

/// A Parse since the last Sync.
struct Fresh {
    name: Vec<u8>,
    before: Before,
}

/// What had the name before.
enum Before {
    /// The same text: nothing was changed.
    Same,
    Other(Option<Arc<Prepared>>),
}

impl names::Charge for Arc<Prepared> {
    fn charge(&self, name: &[u8]) -> usize {
        prepared::charge(name, self)
    }
}

/// An executed statement that changes the session if its transaction commits.
enum Done {
    /// As [`Session::note_set`] takes it.
    Set(SetStatement, bool),
    Savepoint(Savepoint),
}

impl Session {
    /// The extended-protocol messages that are whole in the inbox, up to the first Sync.
    ///
    /// # Errors
    /// FATAL ones only: others are told to the client, and what follows is skipped up to Sync.
    pub(super) async fn extended(&mut self) -> Result<(), Error> {
        if !self.batch.is_between() {
            // It may have waited for the rest of a message.
            self.info.set(ClientState::Active);
        }
        loop {
            // Taken out, so that messages can be read where they are.
            let mut input = std::mem::take(&mut self.client.inbox);
            let (done, halt) = self.extended_at_once(&input).await;
            input.advance(done);
            // No reply was relayed, so nothing was read ahead of it.
            debug_assert!(self.client.inbox.is_empty());
            self.client.inbox = input;
            let result = match halt? {
                Halt::End => return Ok(()),
                Halt::Sync => return self.sync().await,
                Halt::Waits(len) => {
                    let frame = take_front(&mut self.client.inbox, len);
                    Box::pin(self.extended_slowly(&frame)).await
                }
                Halt::Crowded => Box::pin(self.relieve()).await,
                Halt::Failed(error) => Err(error),
            };
            match result {
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) if error.is_told() => {}
                Err(error) => Box::pin(self.fail_batch(error)).await?,
                Ok(()) => {}
            }
        }
    }

    /// The first message since the last Sync has come.
    pub(super) fn begin_batch(&mut self) {
        let now = Instant::now();
        self.info.requested(now);
        self.info.set(ClientState::Active);
        self.batch.start = Some(now);
        self.account.begin();
        // To parse and to describe is to read.
        self.resend = Resend::Read;
    }

    /// Handles messages until one needs more than a server connection. Answers how many bytes they
    /// were and why it ended there.
    async fn extended_at_once(&mut self, input: &[u8]) -> (usize, Result<Halt, Error>) {
        let mut done = 0;
        loop {
            let frame = match frontend::whole_extended(&input[done..], frontend::LARGEST) {
                Ok(Some(frame)) => frame,
                Ok(None) => return (done, Ok(Halt::End)),
                Err(error) => return (done, Err(error)),
            };
            let end = done + frame.len();
            if frame[0] == b'S' && (frame.len() == HEADER || self.batch.skipping) {
                return (end, Ok(Halt::Sync));
            }
            if self.batch.skipping {
                done = end;
                continue;
            }
            if self.batch.is_between() {
                self.begin_batch();
            }
            let step = match self.step(frame) {
                Ok(Step::Enlist {
                    shard,
                    access,
                    prepared,
                }) => {
                    let index = self.enlist_for(frame, shard, access).await;
                    index.and_then(|index| self.bind_at_once(index, frame, prepared))
                }
                step => step,
            };
            match step {
                Ok(Step::Done) => done = end,
                Ok(Step::Enlist { .. } | Step::Waits) => {
                    return (done, Ok(Halt::Waits(frame.len())));
                }
                Err(error) => return (end, Ok(Halt::Failed(error))),
            }
            if self.is_crowded() {
                return (done, Ok(Halt::Crowded));
            }
        }
    }

    /// For a Bind.
    async fn enlist_for(
        &mut self,
        bind: &[u8],
        shard: ShardId,
        access: Access,
    ) -> Result<usize, Error> {
        self.batch
            .forget_replaced_portal(frontend::Bind::names(&bind[HEADER..])?.0);
        self.enlist_first(shard, access).await
    }

    /// One message of those that may have to wait for servers.
    async fn extended_slowly(&mut self, frame: &[u8]) -> Result<(), Error> {
        match frame[0] {
            b'P' => {
                self.check_pending().await?;
                let parse = Parse::read(&frame[HEADER..])?;
                match self.check_new_name(parse.name) {
                    Ok(()) => self.parse(&parse)?,
                    Err(taken) => return Err(self.fault_of(&parse).await.err().unwrap_or(taken)),
                }
            }
            b'B' => self.bind(frame).await?,
            b'D' => self.describe(frame).await?,
            b'E' => self.execute(frame).await?,
            b'C' => self.close(frame).await?,
            b'H' => {
                frontend::end(&frame[HEADER..])?;
                self.flush().await?;
            }
            // One with something in it, which none has.
            b'S' => {
                if let Err(error) = frontend::end(&frame[HEADER..]) {
                    self.fail_batch(error).await?;
                }
                return self.sync().await;
            }
            tag => {
                return Err(Error::protocol(format!(
                    "unexpected message type \"{}\"",
                    tag.escape_ascii()
                )));
            }
        }
        match self.is_crowded() {
            true => self.relieve().await,
            false => Ok(()),
        }
    }

    /// A pipeline is so long that replies must be fetched before more is sent.
    fn is_crowded(&self) -> bool {
        self.batch.pending.len() > PIPELINE_MESSAGES
            || self.batch.active.is_some_and(|index| {
                let lease = &self.leases[index].lease;
                lease.conn.outbox.len() > PIPELINE_HIGH || lease.expect.len() > PIPELINE_MESSAGES
            })
    }

    /// Keeps a long pipeline from piling up.
    async fn relieve(&mut self) -> Result<(), Error> {
        if self.batch.pending.len() > PIPELINE_MESSAGES {
            self.check_pending().await?;
        }
        self.fetch().await
    }

    /// Tells the client of an error of ours, and makes the server fail the transaction as it would
    /// have, had the error been its own.
    pub(super) async fn fail_batch(&mut self, mut error: Error) -> Result<(), Error> {
        // What was parsed before may be wrong too, and PostgreSQL would have said so first.
        if let Err(earlier) = self.check_pending().await {
            error = earlier;
        }
        if error.is_fatal() || self.has_lost_what_it_keeps() {
            return Err(error.fatal());
        }
        if error.is_told() {
            return Ok(());
        }
        self.batch.skipping = true;
        self.forget_pending();
        self.note_failure(&error);
        self.count_error(&error);
        if error.fault == Fault::Client {
            self.join_block().await;
        }
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
                    Err(error) if error.is_fatal() || !error.is_told() => Err(error),
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

    /// Makes `index` the server that replies come from.
    pub(super) async fn activate(&mut self, index: usize) -> Result<(), Error> {
        if self.batch.active != Some(index) {
            self.check_settings_elsewhere(Some(self.leases[index].shard))?;
            self.fetch().await?;
            self.batch.active = Some(index);
        }
        self.note_sent(index);
        Ok(())
    }

    /// Extended-protocol messages are sent to this server now: it is owed a Sync.
    fn note_sent(&mut self, index: usize) {
        let held = &mut self.leases[index];
        if !held.needs_sync {
            held.needs_sync = true;
            held.lease.amid_pipeline = true;
            held.lease.begin_exchange();
            held.lease.tag.clear();
        }
    }

    /// Gets all replies the active server owes.
    ///
    /// # Errors
    /// The loss of the server; or [`Error::told`] when the server reported an error, which the
    /// client has seen then: nothing more may run before Sync.
    pub(super) async fn fetch(&mut self) -> Result<(), Error> {
        let Some(index) = self.batch.active else {
            return Ok(());
        };
        let lease = &mut self.leases[index].lease;
        if lease.expect.is_empty() {
            return Ok(());
        }
        lease.conn.outbox.extend_from_slice(write::FLUSH);
        self.relay_batch(index).await?;
        if self.leases[index].lease.error.is_some() {
            self.batch.skipping = true;
            return Err(Error::told());
        }
        self.batch.forget_replaced();
        Ok(())
    }

    async fn describe(&mut self, frame: &[u8]) -> Result<(), Error> {
        match frontend::Named::read(&frame[HEADER..], "DESCRIBE")? {
            frontend::Named::Statement(name) => self.describe_statement(name).await,
            frontend::Named::Portal(name) => Box::pin(self.describe_portal(name, frame)).await,
        }
    }

    async fn close(&mut self, frame: &[u8]) -> Result<(), Error> {
        match frontend::Named::read(&frame[HEADER..], "CLOSE")? {
            frontend::Named::Statement(name) => {
                // Its Parse may still be owed an answer; and after an error it is not closed at all.
                self.before_query().await?;
                self.close_statement(name);
            }
            frontend::Named::Portal(name) => match self.batch.portals.remove(name) {
                Some(Portal::Server { lease: index, .. }) => {
                    self.check_pending().await?;
                    self.activate(index).await?;
                    self.pass_on(index, frame, close_shown());
                }
                None if self.cursors.named(name).is_some() => {
                    self.check_pending().await?;
                    Box::pin(self.close_cursor(name)).await?;
                }
                None if self.cursor_server(name).is_some() => {
                    self.check_pending().await?;
                    if let Some(index) = self.cursor_server(name) {
                        self.cursors.forget(name);
                        self.activate(index).await?;
                        self.pass_on(index, frame, close_shown());
                    }
                }
                Some(portal @ Portal::Scatter(_)) => {
                    self.batch.portals.insert(name, portal);
                    self.end_runs().await?;
                    self.batch.portals.remove(name);
                    self.emit(write::CLOSE_COMPLETE);
                }
                Some(Portal::Local(_) | Portal::Broadcast(_) | Portal::Copy(_)) | None => {
                    self.emit(write::CLOSE_COMPLETE)
                }
            },
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.check_pending().await?;
        match self.batch.active {
            Some(index) if self.has_only_prepared() => self.flush_prepared(index).await,
            Some(_) | None => self.fetch().await,
        }
    }

    /// Outside of a block nothing but Parse and Describe of statements came since the last Sync.
    fn has_only_prepared(&self) -> bool {
        let nothing_else = |held: &Enlisted| {
            held.needs_sync && !held.in_block && !held.wrote && held.pinned.is_none()
        };
        self.block.is_none()
            && self.batch.executed == 0
            && self.batch.portals.len() == 0
            && !self.batch.suspended
            && self.leases.iter().all(nothing_else)
    }

    /// Some drivers prepare with Flush and send no Sync before they execute, if they ever do. The
    /// servers are synced here, so that no connection is kept for them meanwhile.
    async fn flush_prepared(&mut self, active: usize) -> Result<(), Error> {
        // Those before it have been fetched from.
        let others: Vec<usize> = (0..self.leases.len()).filter(|i| *i != active).collect();
        self.sync_quietly(&others).await?;
        self.leases[active].needs_sync = false;
        self.leases[active].lease.send_sync(false);
        self.fetch().await?;
        self.forget_rejected();
        self.settle(Instant::now()).await?;
        // What comes next is timed by itself.
        self.batch.start = None;
        Ok(())
    }

    /// Parse messages that nothing has used yet: the server must say what it thinks of them.
    pub(super) async fn check_pending(&mut self) -> Result<(), Error> {
        if self.batch.pending.is_empty() {
            return Ok(());
        }
        let checked = Box::pin(self.parse_pending()).await;
        if checked.is_err() {
            self.forget_pending();
        }
        checked
    }

    async fn parse_pending(&mut self) -> Result<(), Error> {
        while let Some(name) = self.batch.pending.first().cloned() {
            let prepared = self.prepared(&name)?;
            let plan = Arc::clone(&prepared.plan);
            let sql = Arc::clone(&prepared.statement);
            if self.bind_locally(&plan.statement, &sql.sql).is_some() {
                if self.block.is_failed() && !is_parsed_when_failed(&plan.statement) {
                    return Err(aborted());
                }
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
            && self.must_prepare_sync()
            && let Err(error) = Box::pin(self.before_sync()).await
        {
            if error.is_fatal() {
                return Err(error);
            }
            if !error.is_told() {
                Box::pin(self.fail_batch(error)).await?;
            }
        }
        if self.batch.implicit
            && let Err(error) = Box::pin(self.end_implicit_block()).await
        {
            if error.is_fatal() {
                return Err(error);
            }
            Box::pin(self.fail_batch(error)).await?;
        }
        let failed = std::mem::take(&mut self.batch.skipping);
        self.forget_pending();
        if self.batch.suspended && self.block.is_none() {
            Box::pin(self.end_runs()).await.map_err(Error::fatal)?;
        }
        let last = self.batch.active.filter(|i| self.leases[*i].needs_sync);
        let last = last.or_else(|| self.left_open());
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
                self.hold_ready(index);
                let relayed = self.relay_batch(index).await;
                if relayed.is_ok() {
                    self.note_held(index);
                }
                match relayed {
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
        self.after_sync(failed).await
    }

    /// Where a Query has joined a pipeline whose transaction it has not ended: up to PostgreSQL 17 it
    /// does, from 18 on Sync does.
    fn left_open(&mut self) -> Option<usize> {
        let index = self.only_in_block()?;
        if self.in_use() > 0 || !self.block.prelude().is_empty() {
            return None;
        }
        self.note_sent(index);
        Some(index)
    }

    async fn before_query(&mut self) -> Result<(), Error> {
        self.check_pending().await?;
        self.fetch().await
    }

    /// With several servers in one implicit transaction, each must have succeeded before any of
    /// them is told to commit.
    async fn before_sync(&mut self) -> Result<(), Error> {
        self.check_pending().await?;
        match self.in_use() > 1 || self.batch.implicit {
            true => self.fetch().await,
            false => Ok(()),
        }
    }

    fn must_prepare_sync(&self) -> bool {
        !self.batch.pending.is_empty() || self.in_use() > 1 || self.batch.implicit
    }

    /// Servers that extended-protocol messages were sent to since the last Sync.
    fn in_use(&self) -> usize {
        self.leases.iter().filter(|held| held.needs_sync).count()
    }

    /// Makes a server ready for an exchange of our own: nothing is owed, and no pipeline is open.
    ///
    /// # Errors
    /// The loss of the server, or that what came before could not be undone with what follows.
    pub(super) async fn end_extended(&mut self, index: usize) -> Result<(), Error> {
        self.fetch().await?;
        self.sync_quietly(&[index]).await?;
        self.leases[index].lease.settle().await
    }

    /// Follows what was executed, in its order.
    fn note_done(&mut self, done: Vec<Done>) {
        for done in done {
            match done {
                Done::Set(set, restored) => self.note_set(&set, restored),
                Done::Savepoint(savepoint) => self.note_savepoint(&savepoint),
            }
        }
    }

    async fn after_sync(&mut self, failed: bool) -> Result<(), Error> {
        self.note_answers(failed);
        let failed = failed || self.leases.iter().any(|held| held.lease.error.is_some());
        let done = std::mem::take(&mut self.batch.done);
        let discarded = std::mem::take(&mut self.batch.discarded);
        self.batch.block_ended = None;
        if failed && (discarded || !done.is_empty()) {
            // Some of it may have been committed before the error: only the servers know.
            self.custom_settings
                .extend(done.into_iter().filter_map(|done| match done {
                    Done::Set(set, _) => set.name,
                    Done::Savepoint(_) => None,
                }));
            for held in &mut self.leases {
                held.lease.tainted = true;
                held.ask_settings = true;
            }
        } else {
            self.note_done(done);
        }
        self.observe_block();
        if failed && self.block.is_none() {
            self.drop_changes();
        }
        self.forget_rejected();
        let now = Instant::now();
        self.settle(now).await?;
        if !self.leases.is_empty() {
            self.restore_settings().await;
        }
        let start = self.batch.start.take().unwrap_or(now);
        let executed = std::mem::take(&mut self.batch.executed);
        let elapsed = now.duration_since(start);
        self.count_batch(start, elapsed);
        self.count_statements(executed, elapsed);
        self.show_prepared();
        self.publish_schema().await;
        if std::mem::take(&mut self.batch.holds_ready) {
            self.ready();
        }
        Ok(())
    }
}

/// Why messages cannot be handled one after the other.
enum Halt {
    /// There is no further whole message of this protocol.
    End,
    Sync,
    /// The next message, of that many bytes, may have to wait for servers.
    Waits(usize),
    Crowded,
    Failed(Error),
}

/// The reply to a client's Close.
fn close_shown() -> Expect {
    Expect::Close {
        show: true,
        evicts: None,
    }
}

fn no_portal(name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    Error::new(
        Fault::Client,
        "34000",
        format!("portal \"{name}\" does not exist"),
    )
}

/// PostgreSQL parses these in a failed block too: what ends it, and nothing.
fn is_parsed_when_failed(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Empty | Statement::Commit | Statement::Rollback | Statement::Chain { .. }
    )
}
