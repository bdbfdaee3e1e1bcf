//! What statements come to: noted while they run, counted when they are answered. Nothing here decides
//! anything, waits, or reads a clock.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use planner::{NamedKey, Plan, ShardId, ShardSet, Values};

use super::slow::Text;
use super::traced::{Hop, Sampled};
use super::{Enlisted, Prepared, Session};
use crate::backend::server::{MOST_ANSWERED, SUSPENDED};
use crate::error::Error;
use crate::metrics::digest::{Digest, Outcome};
use crate::metrics::{Role, RouteKind};
use crate::net::Instant;

/// Keys of one statement that are looked at.
const MOST_KEYS: usize = 8;
/// Statements of one pipeline that memory is kept for.
const KEPT: usize = 4;

/// The exchange at hand: a Query, or extended messages up to Sync.
#[derive(Default)]
pub(super) struct Account {
    /// Of the statement that was read or bound last.
    digest: Option<Arc<Digest>>,
    /// And its text, where the log may need it.
    text: Option<Box<Text>>,
    /// And how it is executed.
    kind: Option<RouteKind>,
    /// It was bound, and nothing has executed it yet.
    is_bound: bool,
    /// The portal that it was bound to, if that is the session's own.
    portal: Vec<u8>,
    /// Where statements have run, in the order of their first.
    places: Vec<Place>,
    /// How long they waited for a server, a primary or a replica that is fresh.
    queued: Duration,
    /// Of the extended protocol.
    executed: Vec<Executed>,
    /// Of the simple one, where Ringway itself has answered.
    rows: Option<u64>,
    /// The SQLSTATE of the error that ended it.
    failure: Option<Cow<'static, str>>,
    /// The statement at hand is traced.
    pub(super) sampled: Option<Box<Sampled>>,
    /// Of statements that are.
    pub(super) hops: Vec<Hop>,
    /// Chooses which keys are looked at.
    drawn: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) shard: ShardId,
    pub(super) role: Role,
}

/// An Execute.
struct Executed {
    digest: Option<Arc<Digest>>,
    kind: RouteKind,
    shards: ShardSet,
    max_rows: u32,
    rows: Rows,
    text: Option<Box<Text>>,
    sampled: Option<Box<Sampled>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// The server of its shard will tell.
    Awaited,
    /// Ringway itself will.
    Owed,
    Counted(u64),
    Failed,
    /// An error came before it.
    Skipped,
}

impl Account {
    /// `seed` is for what is drawn: others draw otherwise.
    pub(super) fn drawing(seed: u64) -> Self {
        Self {
            drawn: seed | 1,
            ..Self::default()
        }
    }

    /// An exchange begins.
    pub(super) fn begin(&mut self) {
        self.sampled = None;
        self.hops.clear();
        self.digest = None;
        self.text = None;
        self.kind = None;
        self.is_bound = false;
        self.places.clear();
        self.queued = Duration::ZERO;
        self.executed.clear();
        self.executed.shrink_to(KEPT);
        self.rows = None;
        self.failure = None;
    }

    /// A statement was read, parsed or bound.
    pub(super) fn statement(&mut self, digest: Option<Arc<Digest>>, text: Option<Box<Text>>) {
        self.digest = digest;
        self.text = text;
        self.is_bound = true;
    }

    /// It is bound to a portal that no server has.
    pub(super) fn bound_here(&mut self, portal: &[u8]) {
        self.portal.clear();
        self.portal.extend_from_slice(portal);
    }

    /// Of a portal that no server has, if it was bound last.
    pub(super) fn digest_bound_here(&self, portal: &[u8]) -> Option<Arc<Digest>> {
        (self.portal == portal).then(|| self.digest.clone())?
    }

    /// True if it had not been used before.
    fn used(&mut self, shard: ShardId, role: Role) -> bool {
        let place = Place { shard, role };
        let is_new = !self.places.contains(&place);
        if is_new {
            if self.places.is_empty() {
                self.places.reserve_exact(1);
            }
            self.places.push(place);
        }
        is_new
    }

    pub(super) fn waited(&mut self, waited: Duration) {
        self.queued += waited;
    }

    /// An Execute was sent to the server of `shard`.
    pub(super) fn executes_on(
        &mut self,
        shard: ShardId,
        digest: Option<Arc<Digest>>,
        max_rows: u32,
    ) {
        let (shards, kind) = (ShardSet::one(shard), RouteKind::Direct);
        self.executes(digest, kind, shards, max_rows, Rows::Awaited);
    }

    /// Which turns out to be for Ringway itself to answer.
    pub(super) fn becomes_local(&mut self) {
        if let Some(last) = self.executed.last_mut() {
            last.rows = Rows::Owed;
        }
    }

    /// An Execute is answered by Ringway itself.
    pub(super) fn executes_here(
        &mut self,
        digest: Option<Arc<Digest>>,
        kind: RouteKind,
        shards: ShardSet,
    ) {
        self.executes(digest, kind, shards, 0, Rows::Owed);
    }

    fn executes(
        &mut self,
        digest: Option<Arc<Digest>>,
        kind: RouteKind,
        shards: ShardSet,
        max_rows: u32,
        rows: Rows,
    ) {
        self.is_bound = false;
        if self.executed.len() >= MOST_ANSWERED {
            return;
        }
        if self.executed.is_empty() {
            self.executed.reserve_exact(1);
        }
        self.executed.push(Executed {
            digest,
            kind,
            shards,
            max_rows,
            rows,
            text: self.text.take(),
            sampled: self.sampled.clone(),
        });
    }

    /// What Ringway itself executes has returned or changed so many rows.
    pub(super) fn answered(&mut self, rows: u64) {
        match self.executed.last_mut() {
            Some(last) if last.rows == Rows::Owed => last.rows = Rows::Counted(rows),
            Some(_) | None => self.rows = Some(rows),
        }
    }

    /// It was answered with a command tag.
    pub(super) fn tagged(&mut self, tag: &str) {
        let rows = tag.rsplit(' ').next().and_then(|last| last.parse().ok());
        self.answered(rows.unwrap_or(0));
    }

    /// Any number. What comes in turns does not fall in step with it (xorshift).
    pub(super) fn draw(&mut self) -> u64 {
        let mut drawn = self.drawn;
        drawn ^= drawn << 13;
        drawn ^= drawn >> 7;
        drawn ^= drawn << 17;
        self.drawn = drawn;
        drawn >> 8
    }

    fn place_on(&self, shard: ShardId) -> Place {
        let mut places = self.places.iter().rev();
        let role = Role::Primary;
        let place = places.find(|place| place.shard == shard);
        place.copied().unwrap_or(Place { shard, role })
    }

    fn failed_on(&mut self, held: &Enlisted) {
        if let Some(error) = &held.lease.error {
            self.failure.get_or_insert_with(|| error.code.clone());
        }
    }

    /// An error ended it: that of the first statement that was not answered, else of one that was bound
    /// only, else of the end of the transaction, which the last one bears.
    fn fail(&mut self) {
        let is_open = |executed: &&mut Executed| executed.outcome().is_none();
        if let Some(executed) = self.executed.iter_mut().find(is_open) {
            executed.rows = Rows::Failed;
        } else if self.is_bound {
            let kind = self.kind.unwrap_or(RouteKind::Local);
            let (digest, shards) = (self.digest.clone(), ShardSet::default());
            self.executes(digest, kind, shards, 0, Rows::Failed);
        } else if let Some(last) = self.executed.last_mut() {
            last.rows = Rows::Failed;
        }
    }
}

impl Executed {
    /// Rows, and whether it failed; `None` if it has not run.
    fn outcome(&self) -> Option<(u64, bool)> {
        match self.rows {
            Rows::Counted(rows) => Some((rows, false)),
            Rows::Failed => Some((0, true)),
            Rows::Awaited | Rows::Owed | Rows::Skipped => None,
        }
    }
}

impl Session {
    /// A statement is executed that way.
    pub(super) fn note_route(&mut self, kind: RouteKind) {
        self.account.kind = Some(kind);
        self.db.metrics.routes.increment(kind);
    }

    /// A statement was bound; `bind` is the body of its Bind.
    pub(super) fn note_bound(&mut self, prepared: &Prepared, bind: &[u8]) {
        let text = self.kept_text(&prepared.statement.sql, Some(bind));
        self.account.statement(prepared.digest.clone(), text);
        if self.shared.tracer.is_some() {
            self.sample(prepared.parent.as_deref());
        }
    }

    /// A statement runs there.
    pub(super) fn note_place(&mut self, index: usize) {
        let Place { shard, role } = self.leases[index].place();
        if self.account.used(shard, role) && self.account.sampled.is_some() {
            self.note_hop(index);
        }
    }

    /// A statement is routed by these values: looks at the keys of some.
    pub(super) fn note_keys(&mut self, plan: &Plan, values: Values<'_>) {
        let drawn = self.account.draw();
        let Some(digest) = self.account.digest.as_deref() else {
            return;
        };
        if let Some(weight) = self.db.digests.looks_at_keys(digest, drawn) {
            let topology = &self.db.config.topology;
            let keys: Vec<NamedKey> = planner::named_keys(plan, values, topology, MOST_KEYS);
            self.db.digests.count_keys(digest, &keys, weight);
        }
    }

    /// A Query is answered: what servers have said of it, before the exchange settles.
    pub(super) fn note_answer(&mut self) {
        let Self {
            account, leases, ..
        } = self;
        let alone = account.places.len() == 1;
        for held in leases.iter() {
            if account.places.contains(&held.place()) {
                account.failed_on(held);
                if alone {
                    account.rows.get_or_insert(held.lease.rows);
                }
            }
        }
    }

    /// As [`Session::note_answer`], for extended messages up to Sync. `failed`: the client was told of an error
    /// before Sync.
    pub(super) fn note_answers(&mut self, mut failed: bool) {
        let Self {
            account, leases, ..
        } = self;
        for held in leases.iter() {
            if account.places.contains(&held.place()) {
                account.failed_on(held);
                failed |= held.lease.error.is_some();
            }
        }
        for executed in &mut account.executed {
            if executed.rows != Rows::Awaited {
                continue;
            }
            let shard = executed.shards.as_slice().first();
            let rows = leases
                .iter_mut()
                .filter(|held| Some(&held.shard) == shard)
                .find_map(|held| held.lease.answered.pop_front());
            executed.rows = match rows {
                Some(SUSPENDED) => Rows::Counted(u64::from(executed.max_rows)),
                Some(rows) => Rows::Counted(rows),
                None if failed => Rows::Skipped,
                None => Rows::Counted(0),
            };
        }
        leases
            .iter_mut()
            .for_each(|held| held.lease.forget_answered());
        if failed {
            account.fail();
        }
    }

    /// An error of Ringway's own is told to the client.
    pub(super) fn note_failure(&mut self, error: &Error) {
        self.account
            .failure
            .get_or_insert_with(|| error.code.clone());
    }

    /// A Query is done.
    pub(super) fn count_query(&self, start: Instant, elapsed: Duration) {
        let account = &self.account;
        self.count_statement(&Statement {
            digest: account.digest.as_ref(),
            kind: account.kind.unwrap_or(RouteKind::Local),
            places: &account.places,
            elapsed,
            queued: account.queued,
            rows: account.rows.unwrap_or(0),
            failure: account.failure.as_deref(),
            text: account.text.as_deref(),
            sampled: account.sampled.as_deref(),
            hops: &account.hops,
            start,
            whole: elapsed,
        });
    }

    /// Extended messages up to Sync are done. Those that were executed share the time evenly.
    pub(super) fn count_batch(&self, start: Instant, elapsed: Duration) {
        let account = &self.account;
        let is_counted = |executed: &&Executed| executed.outcome().is_some();
        let count = account.executed.iter().filter(is_counted).count();
        let share = |time: Duration| match count {
            // Nearly always, and without a division.
            0 | 1 => time,
            _ => time / u32::try_from(count).unwrap_or(u32::MAX),
        };
        for executed in account.executed.iter() {
            let Some((rows, failed)) = executed.outcome() else {
                continue;
            };
            let one: [Place; 1];
            let several: Vec<Place>;
            let places = match executed.shards.as_slice() {
                [shard] => {
                    one = [account.place_on(*shard)];
                    &one[..]
                }
                shards => {
                    several = shards.iter().map(|s| account.place_on(*s)).collect();
                    &several
                }
            };
            self.count_statement(&Statement {
                digest: executed.digest.as_ref(),
                kind: executed.kind,
                places,
                elapsed: share(elapsed),
                queued: share(account.queued),
                rows,
                failure: account.failure.as_deref().filter(|_| failed),
                text: executed.text.as_deref(),
                sampled: executed.sampled.as_deref(),
                hops: &account.hops,
                start,
                whole: elapsed,
            });
        }
    }

    fn count_statement(&self, statement: &Statement<'_>) {
        self.log_if_slow(statement);
        self.trace(statement);
        for Place { shard, role } in statement.places {
            if let Some(metrics) = self.db.shard_metrics(*shard) {
                metrics.statement_done(*role, statement.elapsed, statement.queued);
            }
        }
        if let Some(digest) = statement.digest {
            let shards = statement.places.iter().map(|place| place.shard);
            let outcome = Outcome {
                elapsed: statement.elapsed,
                rows: statement.rows,
                failed: statement.failure.is_some(),
            };
            self.db
                .digests
                .count(digest, statement.kind, shards, outcome);
        }
    }
}

/// A statement that was answered.
pub(super) struct Statement<'a> {
    pub(super) digest: Option<&'a Arc<Digest>>,
    pub(super) kind: RouteKind,
    pub(super) places: &'a [Place],
    pub(super) elapsed: Duration,
    pub(super) queued: Duration,
    pub(super) rows: u64,
    /// An SQLSTATE.
    pub(super) failure: Option<&'a str>,
    pub(super) text: Option<&'a Text>,
    pub(super) sampled: Option<&'a Sampled>,
    pub(super) hops: &'a [Hop],
    /// Of the exchange that it is a part of, and how long that took.
    pub(super) start: Instant,
    pub(super) whole: Duration,
}

impl Enlisted {
    pub(super) fn place(&self) -> Place {
        Place {
            shard: self.shard,
            role: self.role(),
        }
    }

    pub(super) fn role(&self) -> Role {
        match self.home {
            Some(_) => Role::Replica,
            None => Role::Primary,
        }
    }
}
