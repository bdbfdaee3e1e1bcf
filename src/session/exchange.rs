//! Getting server connections, exchanging messages over them, and giving them back.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::time::Duration;

use planner::ShardId;
use planner::plan::{Access, Pin};

use super::block::{Block, Reads};
use super::moving::is_serializable;
use super::settings::apply_settings;
use super::{ClientState, Enlisted, Pinned, Session};
use crate::backend::cancel;
use crate::backend::server::kept::Resend;
use crate::backend::server::{Activity, Status};
use crate::cluster::{EndpointId, Home, Pick, ReadReason, Witness};
use crate::config::PrimaryReads;
use crate::error::{Error, Fault};
use crate::executor::primary::is_outage;
use crate::executor::relay::{Broken, End, Until, relay};
use crate::metrics::{ReadBy, micros};
use crate::net::{self, Instant};
use crate::pool::{Amid, Denied, Lease, Pool};

/// How often a session looks whether a cancel request has arrived.
const CANCEL_LOOK: Duration = Duration::from_millis(1);
/// Connections that break before they are used, for one statement.
pub(super) const MOST_LOST: usize = 4;
/// A text that cannot fail on a healthy, idle connection, so it may travel with the next one.
const PLAIN_BEGIN: [&[u8]; 2] = [b"BEGIN", b"begin"];

impl Session {
    /// A connection to `shard` that may run a statement with `access`; its index in `leases`.
    ///
    /// # Errors
    /// No server, no free connection in time, a second shard to write to that cannot commit with the
    /// first, or a setting of the client that this server refuses.
    pub(super) async fn enlist(&mut self, shard: ShardId, access: Access) -> Result<usize, Error> {
        if self.batch.suspended {
            Box::pin(self.end_runs()).await?;
        }
        let is_second = access == Access::Write && self.is_second_writer(shard);
        if is_second && self.block.is_none() {
            Box::pin(self.begin_implicit_block()).await?;
        }
        let index = self.reach(shard, access).await?;
        if is_second {
            Box::pin(self.admit_writers(&[index])).await?;
        }
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
        // Apart: the room of both at once would be each idle client's.
        match self.enlist_primary(shard, access).await? {
            Some(index) => Ok(index),
            None => self.enlist(shard, access).await,
        }
    }

    /// `None` where it is not as simple as that.
    async fn enlist_primary(
        &mut self,
        shard: ShardId,
        access: Access,
    ) -> Result<Option<usize>, Error> {
        let splits = access == Access::Read && self.db.config.reads.split;
        if splits || !self.leases.is_empty() || !self.block.is_none() || self.batch.suspended {
            return Ok(None);
        }
        let Some(endpoint) = self.db.cluster.primary(shard) else {
            return Ok(None);
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
            None | Some(Err(Denied::Gone | Denied::Moved)) => return Ok(None),
            Some(Err(denied)) => return Err(denied.into()),
        };
        if access == Access::Read {
            self.db.metrics.reads.increment(ReadBy::SplitOff);
        }
        self.info.set(ClientState::Active);
        let mut held = self.enlisted(shard, None, lease);
        if !Arc::ptr_eq(&held.lease.applied, &self.settings) {
            match Box::pin(apply_settings(&mut held.lease, &self.settings)).await {
                Ok(()) => {}
                Err(error) if is_outage(&error) => {
                    Box::pin(self.presence(&held)).await;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        let index = self.adopt(held);
        self.note_access(index, access);
        Ok(Some(index))
    }

    /// As [`Session::enlist`], for what neither reads nor writes.
    pub(super) async fn reach(&mut self, shard: ShardId, access: Access) -> Result<usize, Error> {
        let mut index = match self.held(shard, access) {
            Some(index) => index,
            None => self.take(shard, access).await?,
        };
        if self.block.is_none() || self.leases[index].in_block {
            return Ok(index);
        }
        if self.block.reads() == Reads::UntilWrite {
            index = Box::pin(self.check_moves(index)).await?;
        }
        self.open_block(index).await?;
        self.leases[index].begins = true;
        match self.block.reads() {
            Reads::UntilWrite if self.leases[index].home.is_none() => Ok(self.moved_to(index)),
            Reads::UntilWrite | Reads::ReadOnly | Reads::Primary => Ok(index),
        }
    }

    /// The connection that [`Session::enlist`] would answer without waiting for anything.
    pub(super) fn at_hand(&self, shard: ShardId, access: Access) -> Option<usize> {
        if self.batch.suspended || self.leases.is_empty() {
            return None;
        }
        if access == Access::Write && self.is_second_writer(shard) {
            return None;
        }
        self.held(shard, access)
            .filter(|index| self.block.is_none() || self.leases[*index].in_block)
    }

    pub(super) fn note_access(&mut self, index: usize, access: Access) {
        self.note_place(index);
        let held = &mut self.leases[index];
        let begins = !std::mem::replace(&mut held.used, true);
        if begins && access == Access::Read && held.keeps_state() && self.db.config.reads.split {
            self.db.metrics.reads.increment(ReadBy::Pinned);
        }
        held.wrote |= access == Access::Write;
        held.leaves_mark |= access != Access::Read;
        if self.makes_temporary && access == Access::Write {
            self.pin(index, Pin::Temporary);
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
        match self.block.may_read_on_replica() {
            true => Access::Read,
            false => Access::Primary,
        }
    }

    /// A connection held already: what this transaction uses, so that it sees its own writes.
    fn held(&self, shard: ShardId, access: Access) -> Option<usize> {
        let may_be_replica =
            access == Access::Read && (self.block.is_none() || self.block.may_read_on_replica());
        let here =
            |held: &&Enlisted| held.shard == shard && !(may_be_replica && self.is_only_kept(held));
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

    /// The primary's connection, not told of an open block yet.
    pub(super) async fn reach_primary(&mut self, shard: ShardId) -> Result<usize, Error> {
        match self.held(shard, Access::Primary) {
            Some(index) => Ok(index),
            None => self.take(shard, Access::Primary).await,
        }
    }

    /// In session mode, a primary's connection that has no part in what is under way, and nothing left
    /// on it that a read could depend on: what reads may go elsewhere.
    fn is_only_kept(&self, held: &Enlisted) -> bool {
        let idle = !held.in_block && !held.needs_sync && !held.lease.amid_pipeline && !held.used;
        held.pinned == Some(Pinned::Mode) && idle && self.db.config.reads.split
    }

    async fn take(&mut self, shard: ShardId, access: Access) -> Result<usize, Error> {
        if self.block.may_read_on_replica() && access != Access::Read {
            Box::pin(self.check_may_move(shard)).await?;
        }
        self.info.set(ClientState::Waiting);
        let split = access == Access::Read && self.splits_reads();
        let mut lost = 0;
        loop {
            let (home, lease) = match self.take_from(shard, split).await {
                Ok(Taken::Kept(index)) => {
                    self.info.set(ClientState::Active);
                    return Ok(index);
                }
                Ok(Taken::New(home, lease)) => (home, lease),
                Err(Denied::Gone) if self.leases.is_empty() => {
                    self.move_on()?;
                    continue;
                }
                Err(denied) => return Err(denied.into()),
            };
            self.info.set(ClientState::Active);
            let mut held = self.enlisted(shard, home, lease);
            match apply_settings(&mut held.lease, &self.settings).await {
                Ok(()) => return Ok(self.adopt(held)),
                Err(error) if is_outage(&error) && lost < MOST_LOST => {
                    // The client has asked it nothing yet: another is as good.
                    lost += 1;
                    Box::pin(self.presence(&held)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn enlisted(&self, shard: ShardId, home: Option<Home>, lease: Lease) -> Enlisted {
        self.note_use(&lease);
        // A replica is as good as another for a session, and goes back after each transaction.
        let is_kept = self.is_session_mode() && home.is_none();
        let session_mode = is_kept.then_some(Pinned::Mode);
        let mut held = Enlisted {
            shard,
            home,
            load: None,
            lease,
            in_block: false,
            wrote: false,
            leaves_mark: false,
            used: false,
            pinned: session_mode,
            may_release: false,
            begins: false,
            ask_settings: false,
            ask_prepared: false,
            made_within: Vec::new(),
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
        self.account.waited(std::mem::take(&mut held.lease.waited));
        held.lease.shown.clear();
        held.lease.notified.clear();
        held.lease.forget_answered();
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

    async fn take_from(&mut self, shard: ShardId, split: bool) -> Result<Taken, Denied> {
        let kept = |held: &Enlisted| {
            let by_mode = held.pinned.is_some_and(Pinned::is_by_mode);
            by_mode && held.shard == shard && held.home.is_none()
        };
        let kept = self.leases.iter().position(kept);
        match (self.take_replica(shard, split).await, kept) {
            (Ok(Some((home, lease))), _) => Ok(Taken::New(Some(home), lease)),
            // A session that keeps a connection goes on under the configuration that it began with.
            (Ok(None) | Err(Denied::Gone), Some(index)) => Ok(Taken::Kept(index)),
            (Ok(None), None) => Ok(Taken::New(None, self.take_primary(shard).await?)),
            (Err(denied), _) => Err(denied),
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
            activity.take_blame();
        }
    }

    /// Whether a read may go to a replica now; where it must not, counts why.
    fn splits_reads(&self) -> bool {
        let reason = if !self.db.config.reads.split {
            ReadBy::SplitOff
        } else if !self.block.is_none() && !self.block.may_read_on_replica() {
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
        activity.last_used_us.store(micros(since), Relaxed);
        // A cancel that came too late was another's.
        activity.take_blame();
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
                Ok(lease) => {
                    // It may have started again since it was looked at, and be further behind now.
                    let connected_at = lease.identity.connected_at;
                    let is_unproven = !self.marks[usize::from(shard.0)].is_new()
                        && pick.as_of.is_none_or(|as_of| connected_at > as_of);
                    let cluster = &self.db.cluster;
                    if is_unproven && !Box::pin(cluster.confirm(shard, home, connected_at)).await {
                        self.db.metrics.reads.increment(ReadBy::SeenNewer);
                        return Ok(None);
                    }
                    self.db.metrics.reads.increment(match self.block.reads() {
                        Reads::Primary => read_by(pick.reason),
                        Reads::ReadOnly => ReadBy::ReplicaTransaction,
                        Reads::UntilWrite => ReadBy::UntilWrite,
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
        let began = Instant::now();
        let pick = Box::pin(cluster.wait_fresh(shard, mark, self.source, pick)).await;
        self.account.waited(Instant::now().duration_since(began));
        pick
    }

    async fn take_primary(&mut self, shard: ShardId) -> Result<Lease, Denied> {
        if let Some(endpoint) = self.db.cluster.primary(shard) {
            let lease = self.checkout(shard, endpoint).await;
            if let Some(lease) = self.db.usable(shard, endpoint, lease) {
                return lease;
            }
        }
        let login = self.as_user();
        let began = Instant::now();
        let held = (self.db).lease_from_primary(shard, &login, self.amid());
        let mut lease = Box::pin(held).await?;
        lease.waited = Instant::now().duration_since(began);
        Ok(lease)
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
                let pool = self.db.pool(shard, endpoint, &self.as_user());
                self.pools.push((shard, endpoint, pool));
                self.pools.len() - 1
            }
        };
        &self.pools[at].2
    }

    /// Tells a server of the open block: everything that ran on all enlisted shards so far.
    async fn open_block(&mut self, index: usize) -> Result<(), Error> {
        let held = &mut self.leases[index];
        if !held.needs_sync {
            // An earlier block of this pipeline may have changed them elsewhere.
            apply_settings(&mut held.lease, &self.settings).await?;
        }
        let asks = self.leases.iter().any(|held| held.ask_settings);
        let Self { leases, block, .. } = self;
        let held = &mut leases[index];
        match block.prelude() {
            [] => return Err(begun_elsewhere()),
            [begin] if PLAIN_BEGIN.contains(&begin.sql.as_slice()) => {
                held.lease.send_query(&begin.sql, false)
            }
            texts => {
                // Its SETs are on this connection too, from now on.
                held.ran_set |= texts.len() > 1;
                held.ask_settings |= held.ran_set && asks;
                for text in texts {
                    let text = String::from_utf8_lossy(&text.sql);
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
            false => {
                let key = self.wishes.causal_key.as_ref();
                let cluster = &self.db.cluster;
                let witness = cluster.witness(held.shard, held.home, held.leaves_mark, key);
                let note = || witness.iter().for_each(Witness::note);
                match relay(&mut self.client, &mut held.lease, rest, until, &note).await {
                    Ok(end) => return Ok(end),
                    Err(broken) => broken,
                }
            }
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
                // What it said while it was sound is the client's.
                self.leases[index]
                    .lease
                    .flush_approved(&mut self.client.outbox);
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
        tracing::warn!(server = %held.lease.identity.endpoint, %error, "server connection lost");
        if held.lease.is_mid_frame() {
            // Whatever was said now would be taken for the rest of that frame.
            return Error::told().fatal();
        }
        if held.pinned.is_some() {
            error.fatal()
        } else {
            error
        }
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
    ///
    /// # Errors
    /// As [`Session::release`].
    pub(super) async fn settle(&mut self, now: Instant) -> Result<(), Error> {
        self.observe_block();
        if self.block.is_failed() && self.leases.len() > 1 {
            // It holds no locks any more, on the other shards neither.
            Box::pin(self.fail_block()).await?;
        }
        for index in 0..self.leases.len() {
            self.tell_parameters(index);
            if !self.leases[index].lease.outdated.is_empty() {
                self.forget_outdated(index);
            }
        }
        self.info.in_block(!self.block.is_none());
        if !self.block.is_none() {
            return Ok(());
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
            if !std::mem::take(&mut held.used) && held.pinned == Some(Pinned::Mode) {
                continue;
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
        if !self.cursors.is_empty() {
            Box::pin(self.end_cursors()).await;
        }
        self.batch.forget_portals();
        let asks = |held: &Enlisted| {
            held.ask_settings
                || held.ask_prepared
                || held.may_release
                || !held.made_within.is_empty()
        };
        let owes = !self.unread.is_empty() || self.batch.changed_schema;
        if owes || self.leases.iter().any(asks) {
            Box::pin(self.ask_servers()).await;
        }
        // To clear a map that is empty costs more than to look.
        if !self.custom_settings.is_empty() {
            self.custom_settings.clear();
        }
        for held in &mut self.leases {
            held.wrote = false;
            held.in_block = false;
            held.ran_set = false;
            // It is told, and says nothing of what comes next.
            held.lease.error = None;
        }
        self.deliver_notified();
        self.release()
    }

    /// At the end of a transaction: what only its servers can tell.
    async fn ask_servers(&mut self) {
        if self.leases.iter().any(|held| held.ask_settings) {
            self.ask_settings().await;
        }
        if self.leases.iter().any(|held| held.ask_prepared) {
            self.ask_prepared().await;
        }
        if !self.unread.is_empty() {
            self.drop_unread().await;
        }
        self.drop_made_within().await;
        if self.leases.iter().any(|held| held.may_release) {
            self.look_for_state().await;
        }
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

    /// A connection that is kept for this session must not be used any more.
    pub(super) fn has_lost_what_it_keeps(&self) -> bool {
        self.leases
            .iter()
            .any(|held| held.pinned.is_some() && held.lease.doubt.is_some())
    }

    /// Returns every connection that nothing keeps here.
    ///
    /// # Errors
    /// FATAL 08006 when one that is kept is lost: what the client has there is gone.
    pub(super) fn release(&mut self) -> Result<(), Error> {
        self.batch.active = None;
        if self.leases.is_empty() {
            return Ok(());
        }
        self.info.cancel.clear();
        let mut lost = Ok(());
        let mut kept = 0;
        while let Some(held) = self.leases.get(kept) {
            match (held.pinned, held.lease.doubt) {
                (Some(_), None) => {
                    self.info.cancel.add(&held.lease.identity);
                    kept += 1;
                    continue;
                }
                (Some(pinned), Some(doubt)) => lost = Err(kept_is_lost(pinned, doubt)),
                (None, _) => {}
            }
            let held = self.leases.remove(kept);
            self.give_back(held);
        }
        lost
    }
}

/// A connection for a statement.
enum Taken {
    New(Option<Home>, Lease),
    /// One that this session has already.
    Kept(usize),
}

/// Returns when no cancel request is on its way any more, which has a limit of its own.
async fn arrived(activity: &Activity) {
    while activity.cancels.load(Relaxed) > 0 {
        net::sleep(CANCEL_LOOK).await;
    }
}

/// The session's state is gone with the server connection that had it.
fn kept_is_lost(pinned: Pinned, doubt: &'static str) -> Error {
    let kept = match pinned {
        Pinned::Mode | Pinned::ModeWithState => "the pool's mode is session",
        Pinned::By(pin) => pin.why(),
    };
    let message = "server connection that was kept for the session is lost";
    Error::new(Fault::Server, "08006", message)
        .detail(format!(
            "It was kept because {kept}, and is closed because {doubt}."
        ))
        .hint("Connect again.")
        .fatal()
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
