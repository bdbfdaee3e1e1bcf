//! Statements that are sent to another server, because the first one has not begun to answer and what
//! was sent may be repeated: what provably reads, and writes that the server itself says it rolled back.
//!
//! Never what has begun to be answered. In a transaction block it is the statement that opens it, or one
//! that a replica refuses to run for a block that may go on at the primary.

use std::sync::atomic::Ordering::Relaxed;

use planner::Plan;
use planner::plan::{Access, SessionEffect, Statement};

use super::block::Reads;
use super::{Enlisted, Session};
use crate::backend::server::kept::{Kept, Resend, SentTo, Within};
use crate::backend::server::{Expect, Status};
use crate::cluster::{EndpointId, Presence, Witness};
use crate::error::{Error, Fault, Severity};
use crate::executor::relay::{Broken, End, Until, relay};
use crate::metrics::Retry;
use crate::net::Instant;
use crate::pool::Lease;

/// Servers asked for one statement.
pub(super) const MOST: usize = 4;

/// What has become of the server that did not answer.
enum Verdict {
    Again {
        why: Retry,
        access: Access,
        /// A replica that is not to be asked now.
        avoid: Option<EndpointId>,
    },
    /// It is as it should be, and refuses once more: then the client sees all of its answer.
    Here,
    Tell(Error),
}

/// What has become of a query on several shards that broke.
pub(super) enum Failed {
    /// It may be asked for again, with this access.
    Again(Access),
    Tell(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Tell(error)
    }
}

/// Whether a statement that runs by itself may be sent again.
pub(super) fn resend_of(plan: &Plan, access: Access) -> Resend {
    if !matches!(plan.effect, SessionEffect::None) {
        return Resend::Never;
    }
    match (access, &plan.statement) {
        (Access::Read, _) => Resend::Read,
        (
            Access::Write | Access::Primary,
            Statement::Query
            | Statement::Insert
            | Statement::Update
            | Statement::Delete
            | Statement::Merge,
        ) => Resend::Undone,
        (Access::Write | Access::Primary, _) => Resend::Never,
    }
}

impl Session {
    /// Keeps what is about to be sent, if it may be sent again.
    pub(super) fn keep(&mut self, index: usize, resend: Resend) {
        let (in_block, reads) = (!self.block.is_none(), self.block.reads());
        let alone = self.leases.len() == 1;
        let moves = alone && resend == Resend::Read && self.may_move_amid(index);
        let held = &mut self.leases[index];
        let begins = std::mem::take(&mut held.begins) && resend == Resend::Read;
        let wanted = match resend {
            Resend::Read => self.db.config.reads.retry,
            Resend::Undone => !self.db.config.pool.failover_hold.is_zero(),
            Resend::Never => false,
        };
        let within = match (reads, begins) {
            (Reads::ReadOnly, true) => Within::ReadOnly,
            (_, false) if moves => Within::UntilWrite,
            (Reads::Primary | Reads::ReadOnly | Reads::UntilWrite, _) => Within::Nothing,
        };
        let may = wanted && alone && held.pinned.is_none() && (!in_block || begins || moves);
        let to = match held.home {
            Some(_) => SentTo::Replica,
            None => SentTo::Primary,
        };
        match may {
            true => held.lease.keep(resend, to, within),
            false => held.lease.forget_kept(),
        }
    }

    /// A statement that is about to be sent to the replica `index` may be sent to the primary instead, should
    /// that replica refuse it: the block goes on there, and leaves no portal behind.
    fn may_move_amid(&self, index: usize) -> bool {
        let held = &self.leases[index];
        held.home.is_some()
            && self.block.reads() == Reads::UntilWrite
            && (self.batch.portals_on(index)).all(|name| held.lease.is_about_to_bind(name))
    }

    /// The server of `index` has not begun to answer what was kept, because of `error`.
    ///
    /// # Errors
    /// As [`Session::relay`].
    pub(super) async fn send_again(
        &mut self,
        mut index: usize,
        mut error: Error,
        resend: Resend,
    ) -> Result<End, Error> {
        let in_transaction = !self.block.is_none();
        let fail = |error: Error| if in_transaction { error.fatal() } else { error };
        for _ in 0..MOST {
            // Of this server: how much of it was sent is told by its own count.
            let kept = self.leases[index].lease.take_kept();
            let resend = match self.judge(index, error, &kept, resend).await {
                Verdict::Again { why, access, avoid } => {
                    self.db.metrics.retries.increment(why);
                    self.count_failure(index, why);
                    let moved = match kept.within() {
                        Within::UntilWrite => self.move_block(index).await,
                        Within::Nothing | Within::ReadOnly => {
                            self.move_to_another(index, access, avoid).await
                        }
                    };
                    index = moved.map_err(fail)?;
                    resend
                }
                Verdict::Here => {
                    let was_active = self.batch.active == Some(index);
                    let needs_sync = self.leases[index].needs_sync;
                    self.resume(index, was_active, needs_sync, needs_sync);
                    self.leases[index].lease.tag.clear();
                    Resend::Never
                }
                Verdict::Tell(error) => return Err(fail(error)),
            };
            self.repeat(index, &kept)?;
            self.keep(index, resend);
            let held = &mut self.leases[index];
            let key = self.wishes.causal_key.as_ref();
            let cluster = &self.db.cluster;
            let witness = cluster.witness(held.shard, held.home, held.leaves_mark, key);
            let note = || witness.iter().for_each(Witness::note);
            let lease = &mut held.lease;
            error = match relay(&mut self.client, lease, 0, Until::Settled, &note).await {
                Ok(end) => return Ok(end),
                Err(Broken::Unanswered(error)) => error,
                Err(broken @ (Broken::Client(_) | Broken::Server(_))) => {
                    return Err(self.broken(index, broken, in_transaction));
                }
            };
        }
        Err(fail(self.server_lost(index, error)))
    }

    /// A replica that refused or cancelled what it was sent is as sound as before.
    fn count_failure(&self, index: usize, why: Retry) {
        let held = &self.leases[index];
        match (why, held.home) {
            (Retry::ShutDown | Retry::Lost, Some(home)) => {
                self.db.cluster.read_failed(held.shard, home.endpoint);
            }
            (Retry::ShutDown | Retry::Lost, None)
            | (Retry::ReadOnly | Retry::Conflict | Retry::Unsent, _) => {}
        }
    }

    async fn judge(&mut self, index: usize, error: Error, kept: &Kept, resend: Resend) -> Verdict {
        let held = &mut self.leases[index];
        let is_over = error.code.starts_with("57P0");
        let lost = held.lease.doubt.is_some();
        if is_over {
            held.lease.doubt.get_or_insert("the server ended it");
        }
        let (shard, home) = (held.shard, held.home);
        let endpoint = home.map(|home| home.endpoint);
        let access = match resend {
            Resend::Read => Access::Read,
            Resend::Undone | Resend::Never => Access::Write,
        };
        let again = |why, access| Verdict::Again {
            why,
            access,
            avoid: endpoint,
        };
        match &*error.code {
            _ if lost && held.lease.has_sent_none_of(kept) => {
                self.db.cluster.hasten(shard);
                again(Retry::Unsent, access)
            }
            "25006" if home.is_none() => self.judge_primary(index, error, access).await,
            _ => match self.outage(index, &error).await {
                Some(why @ (Retry::ReadOnly | Retry::Conflict)) => again(why, Access::Primary),
                Some(why) => again(why, access),
                None => Verdict::Tell(self.server_lost(index, ended(error))),
            },
        }
    }

    /// What is wrong with the server of `index`, which has answered with `error` or was lost; `None` where
    /// another one would do no better, or must not be asked.
    async fn outage(&self, index: usize, error: &Error) -> Option<Retry> {
        let held = &self.leases[index];
        match &*error.code {
            "25006" if held.home.is_some() => Some(Retry::ReadOnly),
            "40001" | "40P01" if held.home.is_some() => Some(Retry::Conflict),
            // One session may have been ended by hand: that is not for us to undo. A pooler before the server
            // may say in its place that it starts or ends.
            "57P01" | "57P03" => match self.presence(held).await {
                Presence::Up => None,
                Presence::Busy | Presence::Gone => Some(Retry::ShutDown),
            },
            _ if held.lease.doubt.is_none() => None,
            // Another process of it crashed, not the one that ran this.
            "57P02" => Some(Retry::ShutDown),
            // A server that restarts after a crash may have crashed over this very statement.
            _ => match self.presence(held).await {
                Presence::Gone => Some(Retry::Lost),
                Presence::Up | Presence::Busy => None,
            },
        }
    }

    /// What becomes of a query on several shards that broke, of which the client has seen nothing: all of
    /// it is asked for again where only a server is to blame for it. Its connections are given up.
    pub(super) async fn fail_scattered(
        &mut self,
        indexes: &[usize],
        broken: Broken,
        access: Access,
    ) -> Failed {
        let error = match broken {
            Broken::Server(error) | Broken::Unanswered(error) => error,
            Broken::Client(_) => return self.end_scatter(indexes, broken).await.into(),
        };
        let by = |index: &&usize| {
            let lease = &self.leases[**index].lease;
            let said = lease.error.as_ref().map(|said| &said.code);
            lease.doubt.is_some() || said == Some(&error.code)
        };
        let may = access == Access::Read && self.block.is_none() && self.db.config.reads.retry;
        let failed = indexes.iter().find(by).copied().filter(|_| may);
        let why = match failed.filter(|index| self.leases[*index].pinned.is_none()) {
            Some(index) => self.outage(index, &error).await.inspect(|why| {
                self.count_failure(index, *why);
            }),
            None => None,
        };
        // The session goes on, whatever the server's has come to.
        let error = Broken::Server(ended(error));
        let error = self.end_scatter(indexes, error).await;
        match why {
            Some(why) if !error.is_fatal() => {
                self.db.metrics.retries.increment(why);
                match why {
                    Retry::ReadOnly | Retry::Conflict => Failed::Again(Access::Primary),
                    Retry::ShutDown | Retry::Lost | Retry::Unsent => Failed::Again(access),
                }
            }
            _ => error.into(),
        }
    }

    /// Whether the server of a connection that was lost is there; the cluster knows then.
    pub(super) async fn presence(&self, held: &Enlisted) -> Presence {
        let cluster = &self.db.cluster;
        let endpoint = match held.home {
            Some(home) => Some(home.endpoint),
            None => cluster.endpoint_id(held.shard, &held.lease.identity.endpoint),
        };
        match endpoint {
            Some(endpoint) => {
                Box::pin(cluster.presence(held.shard, endpoint, Instant::now())).await
            }
            None => Presence::Up,
        }
    }

    /// What was taken for the primary has refused to write: it may be none any more, or the client's own
    /// settings may ask for that.
    async fn judge_primary(&mut self, index: usize, error: Error, access: Access) -> Verdict {
        let shard = self.leases[index].shard;
        let lease = &mut self.leases[index].lease;
        if let Err(error) = finish(lease).await {
            return Verdict::Tell(self.server_lost(index, error));
        }
        let answer = lease.ask_hidden("SELECT pg_is_in_recovery()").await;
        let is_standby = match answer {
            Ok(rows) => {
                let value = rows.first().and_then(|row| row.first()).cloned().flatten();
                value.is_some_and(|value| &value[..] == b"t")
            }
            Err(error) => return Verdict::Tell(self.server_lost(index, error)),
        };
        if !is_standby {
            return match self.block.is_none() {
                true => Verdict::Here,
                false => Verdict::Tell(error),
            };
        }
        let endpoint = &self.leases[index].lease.identity.endpoint;
        if let Some(id) = self.db.cluster.endpoint_id(shard, endpoint) {
            let reason = "it refuses to write, being a standby".to_owned();
            self.db.cluster.checkout_failed(shard, id, reason);
        }
        Verdict::Again {
            why: Retry::ReadOnly,
            access,
            avoid: None,
        }
    }

    /// Gives the connection back, or drops it, and gets one to another server in its place.
    async fn move_to_another(
        &mut self,
        index: usize,
        access: Access,
        avoid: Option<EndpointId>,
    ) -> Result<usize, Error> {
        let was_active = self.batch.active == Some(index);
        // It has shown nothing and written nothing: no mark is left.
        let mut old = self.leases.remove(index);
        self.batch.active = None;
        self.info.cancel.clear();
        let (shard, needs_sync) = (old.shard, old.needs_sync);
        let amid_pipeline = old.lease.amid_pipeline || needs_sync;
        if old.lease.doubt.is_none() && finish(&mut old.lease).await.is_ok() {
            old.lease.error = None;
            self.give_back(old);
        } else {
            let endpoint = &old.lease.identity.endpoint;
            tracing::debug!(server = %endpoint, "a statement is sent to another server");
        }
        self.avoid = avoid;
        let enlisted = self.enlist(shard, access).await;
        self.avoid = None;
        let index = enlisted?;
        self.resume(index, was_active, needs_sync, amid_pipeline);
        Ok(index)
    }

    /// A replica has refused a statement of a block that it has run until then: the block goes on at the
    /// primary. That counts as a write there.
    async fn move_block(&mut self, index: usize) -> Result<usize, Error> {
        let was_active = self.batch.active == Some(index);
        self.batch.active = None;
        let held = &mut self.leases[index];
        let (shard, needs_sync) = (held.shard, std::mem::take(&mut held.needs_sync));
        let amid_pipeline = held.lease.amid_pipeline || needs_sync;
        // Out of the block that has failed there, it can be asked what it takes to move.
        finish(&mut held.lease).await?;
        held.lease.error = None;
        let mut index = self.enlist(shard, Access::Write).await?;
        let on_replica = |held: &Enlisted| held.shard == shard && held.home.is_some();
        if let Some(replica) = self.leases.iter().position(on_replica) {
            index = self.let_go(replica, index);
        }
        self.resume(index, was_active, needs_sync, amid_pipeline);
        Ok(index)
    }

    /// What was sent to another server is sent to `index` next.
    fn resume(&mut self, index: usize, was_active: bool, needs_sync: bool, amid_pipeline: bool) {
        let held = &mut self.leases[index];
        held.needs_sync = needs_sync;
        held.lease.begin_exchange();
        held.lease.amid_pipeline = amid_pipeline;
        if was_active {
            self.batch.active = Some(index);
        }
    }

    fn repeat(&mut self, index: usize, kept: &Kept) -> Result<(), Error> {
        let Self { leases, batch, .. } = self;
        let sent = leases[index].lease.send_kept(kept, |id| {
            let text = batch.text_of(id)?;
            Some((&*text.sql, &*text.types))
        });
        if sent.is_some() {
            return Ok(());
        }
        let error = Error::new(
            Fault::Ringway,
            "XX000",
            "messages for another server could not be made",
        );
        Err(self.server_lost(index, error).fatal())
    }

    /// What is to be sent must not be: its server is no primary any more.
    pub(super) fn demoted(&mut self, index: usize) -> Broken {
        let shard = self.shard_name(self.leases[index].shard);
        let message = format!("the primary of shard \"{shard}\" has changed");
        let error = Error::new(Fault::Server, "57P01", message)
            .detail("What was not committed before is rolled back.")
            .hint("Run the transaction again.");
        let lease = &mut self.leases[index].lease;
        lease.doubt = Some("its server is no longer the primary");
        match lease.kept.resend() {
            Resend::Never => Broken::Server(error),
            Resend::Read | Resend::Undone => Broken::Unanswered(error),
        }
    }
}

impl Enlisted {
    /// It was taken for the primary, and is not.
    pub(super) fn is_demoted(&self) -> bool {
        self.home.is_none() && self.lease.identity.activity.demoted.load(Relaxed)
    }
}

/// Reads the rest of a refusal, and ends the block that it was in.
async fn finish(lease: &mut Lease) -> Result<(), Error> {
    let owes_ready = |owed: &Expect| matches!(owed, Expect::Ready { .. });
    if !lease.expect.iter().any(owes_ready) {
        lease.send_sync(false);
    }
    lease.settle().await?;
    lease.rejected.clear();
    match lease.status {
        Status::Idle => Ok(()),
        Status::InTransaction | Status::Failed => lease.run_hidden("ROLLBACK").await,
    }
}

/// An administrator has ended one session of the server. Here that is the end of a statement.
fn ended(mut error: Error) -> Error {
    error.severity = Severity::Error;
    error
}
