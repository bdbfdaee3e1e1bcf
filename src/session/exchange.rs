//! Getting server connections, exchanging messages over them, and giving them back.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::time::Duration;

use planner::ShardId;
use planner::plan::{Access, Pin, Savepoint, SetStatement, TransactionMode};

use super::block::{Block, second_writer};
use super::changes::Change;
use super::settings::{apply_settings, keep_setting};
use super::{ClientState, Enlisted, Pinned, Session};
use crate::backend::cancel;
use crate::backend::server::kept::Resend;
use crate::backend::server::{Activity, Settings, Status};
use crate::cluster::{EndpointId, Home, Pick, ReadReason};
use crate::config::PrimaryReads;
use crate::error::{Error, Fault};
use crate::executor::database::{is_read_at_parse, parse_context};
use crate::executor::relay::{Broken, End, Until, relay};
use crate::metrics::ReadBy;
use crate::net::{self, Instant};
use crate::pool::{Amid, Denied, Lease, Pool};

/// How often a session looks whether a cancel request has arrived.
const CANCEL_LOOK: Duration = Duration::from_millis(1);
/// A text that cannot fail on a healthy, idle connection, so it may travel with the next one.
const PLAIN_BEGIN: [&[u8]; 2] = [b"BEGIN", b"begin"];

impl Session {
    /// A connection to `shard` that may run a statement with `access`; its index in `leases`.
    ///
    /// # Errors
    /// No server, no free connection in time, a second shard to write to, or a setting of the
    /// client that this server refuses.
    pub(super) async fn enlist(&mut self, shard: ShardId, access: Access) -> Result<usize, Error> {
        if access == Access::Write {
            self.check_single_writer(shard)?;
        }
        if self.batch.suspended {
            Box::pin(self.end_runs()).await?;
        }
        let index = self.reach(shard, access).await?;
        self.note_access(index, access);
        Ok(index)
    }

    /// As [`Session::enlist`]. Short cuts for the first statement of a session that holds nothing, where
    /// it goes to the primary.
    pub(super) async fn enlist_first(
        &mut self,
        shard: ShardId,
        access: Access,
    ) -> Result<usize, Error> {
        let splits = access == Access::Read && self.db.config.reads.split;
        if splits || !self.leases.is_empty() || !self.block.is_none() || self.batch.suspended {
            return self.enlist(shard, access).await;
        }
        let Some(endpoint) = self.db.cluster.primary(shard) else {
            return self.enlist(shard, access).await;
        };
        let lease = match self.pool(shard, endpoint).try_checkout() {
            Some(lease) => Ok(lease),
            None => {
                self.info.set(ClientState::Waiting);
                let pool = Arc::clone(self.pool(shard, endpoint));
                pool.checkout(Amid::Nothing).await
            }
        };
        let lease = match self.db.usable(shard, endpoint, lease) {
            Some(Ok(lease)) => lease,
            // Another server is the primary, or another configuration is in force.
            None | Some(Err(Denied::Gone | Denied::Moved)) => {
                return self.enlist(shard, access).await;
            }
            Some(Err(denied)) => return Err(denied.into()),
        };
        if access == Access::Read {
            self.db.metrics.reads.increment(ReadBy::SplitOff);
        }
        self.info.set(ClientState::Active);
        let mut held = self.enlisted(shard, None, lease);
        if !Arc::ptr_eq(&held.lease.applied, &self.settings) {
            Box::pin(apply_settings(&mut held.lease, &self.settings)).await?;
        }
        let index = self.adopt(held);
        self.note_access(index, access);
        Ok(index)
    }

    /// As [`Session::enlist`], for what neither reads nor writes.
    pub(super) async fn reach(&mut self, shard: ShardId, access: Access) -> Result<usize, Error> {
        let index = match self.held(shard, access) {
            Some(index) => index,
            None => self.take(shard, access).await?,
        };
        if !self.block.is_none() && !self.leases[index].in_block {
            self.open_block(index).await?;
            self.leases[index].begins = true;
        }
        Ok(index)
    }

    /// The connection that [`Session::enlist`] would answer without waiting for anything.
    pub(super) fn at_hand(&self, shard: ShardId, access: Access) -> Option<usize> {
        if self.batch.suspended || self.leases.is_empty() {
            return None;
        }
        if access == Access::Write && self.check_single_writer(shard).is_err() {
            return None;
        }
        self.held(shard, access)
            .filter(|index| self.block.is_none() || self.leases[*index].in_block)
    }

    pub(super) fn note_access(&mut self, index: usize, access: Access) {
        let held = &mut self.leases[index];
        held.wrote |= access == Access::Write;
        held.leaves_mark |= access != Access::Read;
        if self.makes_temporary && access == Access::Write {
            self.pin(index, Pin::Temporary);
        }
    }

    /// All writes of a transaction must be on one shard.
    fn check_single_writer(&self, shard: ShardId) -> Result<(), Error> {
        match self
            .leases
            .iter()
            .find(|held| held.wrote && held.shard != shard)
        {
            Some(other) => Err(second_writer(
                self.shard_name(other.shard),
                self.shard_name(shard),
            )),
            None => Ok(()),
        }
    }

    pub(super) fn shard_name(&self, shard: ShardId) -> &str {
        self.db
            .config
            .shards
            .get(usize::from(shard.0))
            .map_or("?", |shard| &shard.name)
    }

    /// For what every server of this transaction can do.
    pub(super) fn any_access(&self) -> Access {
        match self.block.is_read_only() {
            true => Access::Read,
            false => Access::Primary,
        }
    }

    /// A connection held already: what this transaction uses, so that it sees its own writes.
    fn held(&self, shard: ShardId, access: Access) -> Option<usize> {
        let here = |held: &&Enlisted| held.shard == shard;
        let may_be_replica =
            access == Access::Read && (self.block.is_none() || self.block.is_read_only());
        let primary = self
            .leases
            .iter()
            .filter(here)
            .find(|held| held.home.is_none());
        let found = primary.or_else(|| self.leases.iter().filter(here).find(|_| may_be_replica))?;
        self.leases
            .iter()
            .position(|held| std::ptr::eq(held, found))
    }

    async fn take(&mut self, shard: ShardId, access: Access) -> Result<usize, Error> {
        if self.block.is_read_only() && access != Access::Read {
            Box::pin(self.check_may_move(shard)).await?;
        }
        self.info.set(ClientState::Waiting);
        let split = access == Access::Read && self.splits_reads();
        let (home, lease) = loop {
            match self.take_from(shard, split).await {
                Ok(taken) => break taken,
                Err(Denied::Gone) if self.leases.is_empty() => self.move_on()?,
                Err(denied) => return Err(denied.into()),
            }
        };
        self.info.set(ClientState::Active);
        let mut held = self.enlisted(shard, home, lease);
        apply_settings(&mut held.lease, &self.settings).await?;
        Ok(self.adopt(held))
    }

    fn enlisted(&self, shard: ShardId, home: Option<Home>, lease: Lease) -> Enlisted {
        self.note_use(&lease);
        let session_mode = self.is_session_mode().then_some(Pinned::Mode);
        let mut held = Enlisted {
            shard,
            home,
            load: None,
            lease,
            in_block: false,
            wrote: false,
            leaves_mark: false,
            pinned: session_mode,
            may_release: false,
            begins: false,
            ask_settings: false,
            needs_sync: false,
            ran_set: false,
        };
        // What stays with a client must not be found by the next, however the session ends.
        held.lease.tainted |= held.pinned.is_some();
        held
    }

    /// Makes a connection with the client's settings one of the session's.
    fn adopt(&mut self, mut held: Enlisted) -> usize {
        held.load =
            (held.home).and_then(|home| self.db.cluster.count_read(held.shard, home.endpoint));
        held.lease.shown.clear();
        held.lease.mailbox = self.mailbox().cloned();
        // Only now: a connection that goes back to the pool above must not be cancelled for us.
        self.info.cancel.add(&held.lease.identity);
        // Nearly always it is the only one: no room for more is kept while idle.
        self.leases.reserve_exact(1);
        self.leases.push(held);
        let index = self.leases.len() - 1;
        if self.tell_parameters(index) {
            // With the client's own settings in force only the server's can have changed.
            self.db.forget_welcomes();
        }
        index
    }

    /// A transaction that reads on a replica goes on at the primary, unless it has a snapshot to keep.
    ///
    /// # Errors
    /// 0A000 then.
    async fn check_may_move(&mut self, shard: ShardId) -> Result<(), Error> {
        let on_replica = |held: &Enlisted| held.shard == shard && held.home.is_some();
        let Some(index) = self.leases.iter().position(on_replica) else {
            return Ok(());
        };
        self.end_extended(index).await?;
        let lease = &mut self.leases[index].lease;
        let rows = lease.ask_hidden("SHOW transaction_isolation").await?;
        let level = rows.first().and_then(|row| row.first()).cloned().flatten();
        if level.is_some_and(|level| level.starts_with(b"read")) {
            return Ok(());
        }
        Err(planner::Refusal::unsupported(
            "this statement in a transaction that reads from a replica",
            "It may do more than read data, and the primary has another snapshot.",
            "Run it first in its transaction, or begin that with READ WRITE.",
        )
        .into())
    }

    async fn take_from(
        &mut self,
        shard: ShardId,
        split: bool,
    ) -> Result<(Option<Home>, Lease), Denied> {
        match self.take_replica(shard, split).await? {
            Some((home, lease)) => Ok((Some(home), lease)),
            None => Ok((None, self.take_primary(shard).await?)),
        }
    }

    /// The pool of a statement that has yet to be sent is gone: follows the new configuration, under
    /// which it goes to the same shard.
    ///
    /// # Errors
    /// FATAL when the database is gone; 57P03 when it might go to other shards now.
    fn move_on(&mut self) -> Result<(), Error> {
        let before = Arc::clone(&self.db);
        self.follow_configuration()?;
        match before.config.routes_as(&self.db.config) {
            true => Ok(()),
            false => Err(Denied::Gone.into()),
        }
    }

    /// Cancel requests that are on their way to servers of this session are meant for what they did
    /// so far: what comes next has to wait until they have arrived.
    pub(super) async fn await_cancels(&mut self) {
        // Who is about to cancel counts it and then looks whether the statement still runs; this is
        // done the other way round here, so that one of both sees the other.
        self.info.set(ClientState::IdleLinked);
        fence(SeqCst);
        for index in 0..self.leases.len() {
            let activity = &self.leases[index].lease.identity.activity;
            if activity.cancels.load(Relaxed) > 0 {
                // Its statement is here already: it does not idle.
                self.info.set(ClientState::Waiting);
                Box::pin(arrived(activity)).await;
            }
            // One that came too late was for nothing.
            if activity.timed_out.load(Relaxed) {
                activity.timed_out.store(false, Relaxed);
            }
        }
    }

    /// Whether a transaction that begins with `mode` may read from a replica.
    pub(super) fn begins_read_only(&self, mode: TransactionMode) -> bool {
        let read_only = match mode {
            TransactionMode::Default => is_read_only(&self.settings),
            TransactionMode::ReadOnly => true,
            TransactionMode::Primary => false,
        };
        read_only && !is_serializable(&self.settings)
    }

    /// Before a SET runs: SET TRANSACTION may say that this is a transaction for a replica, or is none.
    pub(super) fn follow_set_transaction(&mut self, set: &SetStatement) {
        if !self.block.is_none() && !self.leases.iter().any(|held| held.in_block) {
            let serializable = is_serializable(&self.settings);
            self.block.follow_set(set, serializable);
        }
    }

    /// Whether a read may go to a replica now; where it must not, counts why.
    fn splits_reads(&self) -> bool {
        let reason = if !self.db.config.reads.split || self.is_session_mode() {
            ReadBy::SplitOff
        } else if !self.block.is_none() && !self.block.is_read_only() {
            ReadBy::Transaction
        } else if is_serializable(&self.settings) {
            ReadBy::Serializable
        } else {
            return true;
        };
        self.db.metrics.reads.increment(reason);
        false
    }

    /// For SHOW SERVERS: this client's statement is the last that `lease` was used for.
    fn note_use(&self, lease: &Lease) {
        let came = self.info.connected_at + self.info.last_request();
        let since = came.duration_since(lease.identity.connected_at);
        let activity = &lease.identity.activity;
        activity
            .last_used_us
            .store(since.as_micros() as u64, Relaxed);
        // A cancel that came too late was another's.
        activity.timed_out.store(false, Relaxed);
    }

    /// A fresh enough replica, if this is a read and there is one. A replica that cannot be
    /// connected to is taken out of rotation and the next is asked.
    async fn take_replica(
        &mut self,
        shard: ShardId,
        split: bool,
    ) -> Result<Option<(Home, Lease)>, Denied> {
        if !split {
            return Ok(None);
        }
        if self.wishes.causal_key.is_some() {
            self.join_causal(shard);
        }
        let servers = self.db.config.shards[usize::from(shard.0)].endpoints.len();
        for _ in 0..servers {
            let Some(pick) = self.pick_read(shard).await else {
                break;
            };
            let Some(home) = pick.home else {
                self.db.metrics.reads.increment(read_by(pick.reason));
                return Ok(None);
            };
            if self.avoid == Some(pick.endpoint) {
                continue;
            }
            match self.checkout(shard, pick.endpoint).await {
                // It may have started again since it was looked at, and be further behind now.
                Ok(lease)
                    if !self.marks[usize::from(shard.0)].is_new()
                        && pick
                            .as_of
                            .is_none_or(|as_of| lease.identity.connected_at > as_of) =>
                {
                    self.db.metrics.reads.increment(ReadBy::SeenNewer);
                    return Ok(None);
                }
                Ok(lease) => {
                    self.db.metrics.reads.increment(match self.block.is_none() {
                        true => read_by(pick.reason),
                        false => ReadBy::ReplicaTransaction,
                    });
                    return Ok(Some((home, lease)));
                }
                Err(Denied::Gone) => return Err(Denied::Gone),
                Err(Denied::Moved) => {}
                Err(Denied::Error(error)) if error.fault == Fault::Server => {
                    self.db
                        .cluster
                        .checkout_failed(shard, pick.endpoint, error.to_string());
                }
                // A full pool or a wrong password says nothing about the server's health.
                Err(denied) if self.db.config.reads.primary == PrimaryReads::Never => {
                    return Err(denied);
                }
                Err(Denied::Error(_)) => break,
            }
        }
        self.db.metrics.reads.increment(ReadBy::NoneEligible);
        match self.db.config.reads.primary {
            PrimaryReads::Never => Err(Denied::Error(self.no_replica(shard))),
            PrimaryReads::WhenOut | PrimaryReads::Always => Ok(None),
        }
    }

    fn no_replica(&self, shard: ShardId) -> Error {
        let shard = self.shard_name(shard);
        let message = format!("no replica of shard \"{shard}\" may answer");
        Error::new(Fault::Server, "57P03", message)
            .detail("All are down or too far behind, and primary_reads is \"never\".")
            .hint("Try again, send the statement with the hint primary, or see SHOW REPLICAS.")
    }

    async fn pick_read(&mut self, shard: ShardId) -> Option<Pick> {
        let cluster = &self.db.cluster;
        let mark = &mut self.marks[usize::from(shard.0)];
        mark.within(self.wishes.max_lag);
        let pick = cluster.pick_read(shard, mark, self.source)?;
        if !pick.may_move && !pick.reason.passes_with_time() {
            return Some(pick);
        }
        // Boxed, as all that is rare: what a session may await is room it takes while idle.
        Box::pin(cluster.wait_fresh(shard, mark, self.source, pick)).await
    }

    async fn take_primary(&mut self, shard: ShardId) -> Result<Lease, Denied> {
        if let Some(endpoint) = self.db.cluster.primary(shard) {
            let lease = self.checkout(shard, endpoint).await;
            if let Some(lease) = self.db.usable(shard, endpoint, lease) {
                return lease;
            }
        }
        let held = (self.db).lease_from_primary(shard, &self.user, self.amid());
        Box::pin(held).await
    }

    fn amid(&self) -> Amid {
        match self.leases.is_empty() {
            true => Amid::Nothing,
            false => Amid::Transaction,
        }
    }

    async fn checkout(&mut self, shard: ShardId, endpoint: EndpointId) -> Result<Lease, Denied> {
        let pool = Arc::clone(self.pool(shard, endpoint));
        pool.checkout(self.amid()).await
    }

    fn pool(&mut self, shard: ShardId, endpoint: EndpointId) -> &Arc<Pool> {
        let is_it = |(s, e, _): &(ShardId, EndpointId, _)| (*s, *e) == (shard, endpoint);
        let at = match self.pools.iter().position(is_it) {
            Some(at) => at,
            None => {
                let pool = self.db.pool(shard, endpoint, &self.user);
                self.pools.push((shard, endpoint, pool));
                self.pools.len() - 1
            }
        };
        &self.pools[at].2
    }

    /// Tells a server of the open block: everything that ran on all enlisted shards so far.
    async fn open_block(&mut self, index: usize) -> Result<(), Error> {
        let asks = self.leases.iter().any(|held| held.ask_settings);
        let Self { leases, block, .. } = self;
        let held = &mut leases[index];
        match block.prelude() {
            [] => return Err(begun_elsewhere()),
            [begin] if PLAIN_BEGIN.contains(&begin.as_slice()) => {
                held.lease.send_query(begin, false)
            }
            texts => {
                // Its SETs are on this connection too, from now on.
                held.ran_set |= texts.len() > 1;
                held.ask_settings |= held.ran_set && asks;
                for text in texts {
                    let text = String::from_utf8_lossy(text);
                    held.lease.run_hidden(&text).await?;
                }
            }
        }
        held.in_block = true;
        Ok(())
    }

    /// Relays until the server owes nothing.
    ///
    /// # Errors
    /// FATAL when the client must go: it left, or what it was told so far cannot be completed.
    pub(super) async fn relay(&mut self, index: usize) -> Result<End, Error> {
        self.relay_message(index, 0, Until::Settled).await
    }

    /// As [`Session::relay`], while the first `rest` bytes the client sends go to the server.
    pub(super) async fn relay_message(
        &mut self,
        index: usize,
        rest: usize,
        until: Until,
    ) -> Result<End, Error> {
        let in_transaction = !self.block.is_none();
        let resend = match (rest, until) {
            (0, Until::Settled) => std::mem::take(&mut self.resend),
            (_, Until::Settled | Until::Passed) => Resend::Never,
        };
        self.keep(index, resend);
        let held = &mut self.leases[index];
        let broken = match held.is_demoted() {
            true => self.demoted(index),
            false => match relay(&mut self.client, &mut held.lease, rest, until).await {
                Ok(end) => return Ok(end),
                Err(broken) => broken,
            },
        };
        match broken {
            Broken::Unanswered(error) => Box::pin(self.send_again(index, error, resend)).await,
            Broken::Client(_) | Broken::Server(_) => {
                Err(self.broken(index, broken, in_transaction))
            }
        }
    }

    /// What an exchange that broke means for the client.
    pub(super) fn broken(&mut self, index: usize, broken: Broken, in_transaction: bool) -> Error {
        match broken {
            Broken::Client(error) => {
                self.abandon();
                error.fatal()
            }
            Broken::Server(error) | Broken::Unanswered(error) => {
                // A server that says why before it goes has said it to the client too.
                let said_why = self.leases[index].lease.error.is_some();
                let error = self.server_lost(index, error);
                if said_why {
                    return Error::told().fatal();
                }
                // The client believes in a transaction that is gone.
                if in_transaction { error.fatal() } else { error }
            }
        }
    }

    /// Drops a server connection that was lost or makes no sense.
    pub(super) fn server_lost(&mut self, index: usize, error: Error) -> Error {
        let mut held = self.remove(index);
        held.lease.doubt = Some("an exchange broke");
        if let Some(home) = held.home {
            self.db.cluster.read_failed(held.shard, home.endpoint);
        }
        let unfinished = held.lease.is_mid_frame() || held.pinned.is_some();
        tracing::warn!(server = %held.lease.identity.endpoint, %error, "server connection lost");
        if unfinished { error.fatal() } else { error }
    }

    /// Takes a connection out of this session's hands.
    pub(super) fn remove(&mut self, index: usize) -> Enlisted {
        let held = self.leases.remove(index);
        self.batch.active = None;
        // Its write may have happened, whatever became of the answer.
        self.leave_mark(held.shard, held.home, held.leaves_mark, Instant::now());
        held
    }

    /// The client is gone while servers work for it: stop what runs, use no connection again.
    pub(super) fn abandon(&mut self) {
        // First, so that no cancel request finds what is another's already.
        self.info.cancel.clear();
        for held in std::mem::take(&mut self.leases) {
            match held.lease.expect.is_empty() {
                true => self.give_back(held),
                false => self.stop(held, "its client left"),
            }
        }
    }

    /// Stops what a server does for nobody any more, and closes the connection. Its place in the
    /// pool is held meanwhile: the server is busy, whoever listens.
    pub(super) fn stop(&self, held: Enlisted, why: &'static str) {
        let mut lease = held.lease;
        lease.doubt = Some(why);
        tokio::spawn(async move { cancel::stop(&mut lease).await });
    }

    /// After every exchange: follows the transaction, and gives back what is not needed.
    pub(super) async fn settle(&mut self, now: Instant) {
        self.observe_block();
        for index in 0..self.leases.len() {
            self.tell_parameters(index);
        }
        self.info.in_block(!self.block.is_none());
        if !self.block.is_none() {
            return;
        }
        if let Some(start) = self.transaction_start.take() {
            self.db.metrics.transaction_done(now.duration_since(start));
        }
        self.wishes.end_transaction();
        for index in 0..self.leases.len() {
            let held = &mut self.leases[index];
            if let Some(load) = held.load.take() {
                load.answered(now, !held.in_block);
            }
            let (shard, home) = (held.shard, held.home);
            if let (Some(home), Some(error)) = (home, &held.lease.error)
                && error.is_of_server()
            {
                self.db.cluster.read_failed(shard, home.endpoint);
            }
            let wrote = std::mem::take(&mut held.leaves_mark);
            self.leave_mark(shard, home, wrote, now);
        }
        self.keep_changes();
        self.batch.forget_portals();
        if self.leases.iter().any(|held| held.ask_settings) {
            Box::pin(self.ask_settings()).await;
        }
        if !self.unread.is_empty() {
            Box::pin(self.drop_unread()).await;
        }
        if self.leases.iter().any(|held| held.may_release) {
            Box::pin(self.look_for_state()).await;
        }
        for held in &mut self.leases {
            held.wrote = false;
            held.in_block = false;
            held.ran_set = false;
            // It is told, and says nothing of what comes next.
            held.lease.error = None;
        }
        self.release();
    }

    /// What this session did on a server until now, later reads must not fall behind.
    fn leave_mark(&mut self, shard: ShardId, home: Option<Home>, wrote: bool, now: Instant) {
        if !self.db.config.reads.keeps_marks() && self.wishes.causal_key.is_none() {
            return;
        }
        let mark = &mut self.marks[usize::from(shard.0)];
        if wrote {
            mark.wrote(now);
            self.db.cluster.wrote(shard, now);
        } else {
            mark.read(now, home);
        }
        if let Some(key) = &self.wishes.causal_key {
            self.db.cluster.leave_causal(key, shard, mark, now);
        }
    }

    /// Before a read: what those with the same causal key have written and seen, also in processes
    /// that this one cannot ask.
    fn join_causal(&mut self, shard: ShardId) {
        let Some(key) = &self.wishes.causal_key else {
            return;
        };
        let now = Instant::now();
        let mark = &mut self.marks[usize::from(shard.0)];
        self.db.cluster.join_causal(key, shard, mark, now);
        if self.shared.directory.load().config.has_other_processes() {
            mark.wrote_elsewhere(now);
        }
    }

    pub(super) fn observe_block(&mut self) {
        let mut open = false;
        let mut failed = self.block.is_failed();
        let mut enlisted = false;
        for held in &mut self.leases {
            match held.lease.status {
                Status::Idle => {}
                // A multi-statement text may have opened the block by itself.
                Status::InTransaction => {
                    held.in_block = true;
                    open = true;
                }
                Status::Failed => {
                    held.in_block = true;
                    failed = true;
                    open = true;
                }
            }
            enlisted |= held.in_block;
        }
        match (enlisted, open) {
            // A block without a shard lives in the proxy alone.
            (false, _) => {}
            (true, false) => self.block = Block::None,
            (true, true) => {
                let revived = self
                    .leases
                    .iter()
                    .all(|held| held.lease.status != Status::Failed);
                let failed = failed && !revived;
                self.block.observe(if failed {
                    Status::Failed
                } else {
                    Status::InTransaction
                });
            }
        }
    }

    /// Returns every connection that nothing keeps here.
    pub(super) fn release(&mut self) {
        self.batch.active = None;
        if self.leases.is_empty() {
            return;
        }
        self.info.cancel.clear();
        let mut kept = 0;
        while let Some(held) = self.leases.get(kept) {
            if held.pinned.is_some() && held.lease.doubt.is_none() {
                self.info.cancel.add(&held.lease.identity);
                kept += 1;
            } else {
                let held = self.leases.remove(kept);
                self.give_back(held);
            }
        }
    }

    /// A SET or RESET has succeeded on the servers this session holds. `restored`: they were given
    /// what [`Session::base_of`] says.
    pub(super) fn note_set(&mut self, set: &SetStatement, restored: bool) -> Result<(), Error> {
        self.change_context(set);
        if set.local {
            return Ok(());
        }
        // What these make of a value depends on the value before, or cannot be written again.
        let interval = set
            .value
            .as_deref()
            .is_some_and(|v| v.to_ascii_lowercase().starts_with("interval"));
        if interval || set.name.as_deref() == Some("datestyle") {
            let ran = self.leases.iter_mut().filter(|held| held.ran_set);
            ran.for_each(|held| held.ask_settings = true);
        }
        self.changes.push(match restored {
            true => Change::Restored(set.clone()),
            false => Change::Set(set.clone()),
        })
    }

    /// What is parsed from here to the end of the transaction is parsed under this setting.
    pub(super) fn change_context(&mut self, set: &SetStatement) {
        const LONGEST: usize = 1024;
        match (&set.name, &set.value) {
            (Some(name), _) if !is_read_at_parse(name) => {}
            (Some(name), Some(value)) if self.context.len() + value.len() < LONGEST => {
                let context = format!("{};{name}={value}", self.context);
                self.enter_context(context.into());
                self.context_changed = true;
            }
            (Some(_) | None, _) => self.leave_context(),
        }
    }

    pub(super) fn enter_context(&mut self, context: Arc<str>) {
        self.makes_temporary = context.to_ascii_lowercase().contains("pg_temp");
        self.context = context;
    }

    /// What is parsed from here to the end of the transaction has a meaning of its own.
    pub(super) fn leave_context(&mut self) {
        self.context = self.db.own_context().into();
        self.makes_temporary = true;
        self.context_changed = true;
    }

    /// What was set after the savepoint is so no more.
    pub(super) fn follow_context(&mut self, savepoint: &Savepoint) {
        if self.context_changed && matches!(savepoint, Savepoint::RollbackTo(_)) {
            self.leave_context();
        }
    }

    fn restore_context(&mut self) {
        if std::mem::take(&mut self.context_changed) {
            self.enter_context(parse_context(&self.settings));
        }
    }

    /// A statement about a savepoint has succeeded.
    pub(super) fn note_savepoint(&mut self, savepoint: &Savepoint) {
        self.follow_context(savepoint);
        let undone = self.changes.follow(savepoint);
        self.forget_listens(&undone);
    }

    /// At the end of a transaction: its changes become the session's, or vanish with it.
    pub(super) fn keep_changes(&mut self) {
        self.restore_context();
        if self.changes.is_empty() {
            return;
        }
        let changes = self.changes.take();
        let mut ran = self
            .leases
            .iter()
            .filter(|held| held.ran_set || held.in_block);
        if ran.any(|held| held.lease.tag == "ROLLBACK" || held.lease.error.is_some()) {
            self.forget_listens(&changes);
            return;
        }
        self.keep_listens(&changes);
        let is_set = |change: &Change| matches!(change, Change::Set(_) | Change::Restored(_));
        if !changes.iter().any(is_set) {
            return;
        }
        let mut settings = Settings::clone(&self.settings);
        // What these servers have now: to them RESET means their own default.
        let mut applied = settings.clone();
        let no_base = Settings::default();
        for change in &changes {
            let (set, there) = match change {
                Change::Set(set) => (set, &no_base),
                Change::Restored(set) => (set, &self.base),
                Change::Listen(_) | Change::Unlisten(_) => continue,
            };
            keep_setting(&mut settings, &self.base, set);
            keep_setting(&mut applied, there, set);
        }
        let applied = Arc::new(applied);
        self.settings = match settings == *applied {
            true => Arc::clone(&applied),
            false => Arc::new(settings),
        };
        self.enter_context(parse_context(&self.settings));
        for held in self.leases.iter_mut().filter(|held| held.ran_set) {
            held.lease.applied = Arc::clone(&applied);
        }
    }

    /// The open transaction is undone.
    pub(super) fn drop_changes(&mut self) {
        self.restore_context();
        let changes = self.changes.take();
        self.forget_listens(&changes);
    }

    /// After RESET or DISCARD ALL, a server that stays with this client gets the settings of its
    /// startup packet back. One that cannot is closed.
    pub(super) async fn restore_settings(&mut self) {
        if !self.block.is_none() {
            return;
        }
        for held in &mut self.leases {
            if apply_settings(&mut held.lease, &self.settings)
                .await
                .is_err()
            {
                held.lease
                    .doubt
                    .get_or_insert("it refused its client's settings");
            }
        }
    }

    /// DISCARD ALL has succeeded: everything is as at the start.
    pub(super) fn discard_all(&mut self, index: usize) {
        self.settings = Arc::new(self.base.clone());
        self.enter_context(parse_context(&self.settings));
        self.batch.forget_statements();
        self.drop_changes();
        self.unlisten_all();
        self.unpin_discarded(index);
        let lease = &mut self.leases[index].lease;
        lease.forget_prepared();
        lease.applied = Arc::default();
    }
}

/// Returns when no cancel request is on its way any more, which has a limit of its own.
async fn arrived(activity: &Activity) {
    while activity.cancels.load(Relaxed) > 0 {
        net::sleep(CANCEL_LOOK).await;
    }
}

/// A transaction whose BEGIN came within another text cannot be told to a second server.
fn begun_elsewhere() -> Error {
    planner::Refusal::unsupported(
        "transaction was begun together with other statements",
        "A second shard has to join it, and cannot be told how it was begun.",
        "Send BEGIN by itself.",
    )
    .into()
}

/// A standby cannot run such transactions and refuses even to be told of the default.
fn is_serializable(settings: &Settings) -> bool {
    let default = settings.get("default_transaction_isolation");
    default.is_some_and(|sql| sql.to_ascii_lowercase().contains("serializable"))
}

/// By the statement that sets it: SET, or set_config as PostgreSQL writes values.
fn is_read_only(settings: &Settings) -> bool {
    let default = settings.get("default_transaction_read_only");
    default.is_some_and(|sql| {
        let sql = sql.to_ascii_lowercase();
        let words: Vec<_> = sql.split([' ', '=', ',', '\'', '(', ')']).collect();
        words
            .iter()
            .any(|word| ["on", "true", "yes", "1"].contains(word))
    })
}

fn read_by(reason: ReadReason) -> ReadBy {
    match reason {
        ReadReason::FreshReplica => ReadBy::FreshReplica,
        ReadReason::SplitOff => ReadBy::SplitOff,
        ReadReason::NoReplica => ReadBy::NoReplica,
        ReadReason::NoneEligible => ReadBy::NoneEligible,
        ReadReason::MarkUnresolved => ReadBy::MarkUnresolved,
        ReadReason::NotCaughtUp => ReadBy::NotCaughtUp,
        ReadReason::SeenNewer => ReadBy::SeenNewer,
        ReadReason::Share => ReadBy::Share,
    }
}
