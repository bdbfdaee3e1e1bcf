//! Atomic commits over shards, as far as they are not one session's: who may begin one, which run
//! here, where they are decided, and what becomes of those that nobody finishes.
//!
//! The protocol (docs/adr/0016): every shard but one prepares; that one commits its part together with
//! a row in `ringway.decision`; then the others commit. The row is the decision: whoever finds a
//! prepared transaction asks for it. Where there is none, and nobody is at work on the transaction, a row
//! that says `abort` takes its place, under the same unique key: a coordinator that wakes up later
//! fails at its own. The coordinator's side of it is `executor/two_phase.rs`.

mod failpoint;
mod gid;
mod recover;
mod waits;
mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use planner::ShardId;
use tokio::sync::{Notify, watch as channel};
use tokio::task::JoinSet;

use failpoint::Failpoint;
pub use failpoint::Step;
pub use gid::{Gid, Identity, OwnerId, TransactionId};
pub use recover::Outcome;

use super::Cluster;
use super::control::{self, ControlPool};
use crate::config::{CommitSettings, Database, ServerUser};
use crate::error::{Error, Fault};
use crate::net::{Instant, TlsConnector, timeout_at};

/// What makes its tables in schema `ringway` of a shard; may run again.
pub const SCHEMA: &str = include_str!("schema.sql");

/// How long a statement waits to hear that its shards can commit together.
const PATIENCE: Duration = Duration::from_secs(5);

/// Of one database.
pub struct TwoPhase {
    owner: OwnerId,
    /// As whom the shards are asked: who finishes a transaction has to be who prepared it, or a superuser.
    user: String,
    settings: CommitSettings,
    /// By shard id.
    shards: Vec<Room>,
    running: Mutex<HashMap<TransactionId, Arc<Running>>>,
    /// Sent when a shard has been looked at.
    looked: channel::Sender<()>,
    failpoint: Failpoint,
}

/// What is known of one shard.
struct Room {
    name: String,
    /// By endpoint id.
    pools: Vec<ControlPool>,
    look: ArcSwap<Look>,
    /// Why prepared transactions there are not finished yet; `None`: they are.
    notes: Mutex<HashMap<Gid, Option<&'static str>>>,
    hasten: Notify,
}

/// What the shard's primary said last.
#[derive(Debug, Clone)]
struct Look {
    ability: Ability,
    /// When the last attempt began, whatever came of it.
    tried: Option<Instant>,
    /// When that was asked, before the answer.
    asked: Option<Instant>,
    /// Until when others take this process to be alive.
    lease_until: Option<Instant>,
    /// Why it has not answered since.
    failure: Option<String>,
    is_superuser: bool,
    prepared: Vec<Prepared>,
    /// What ran here before that was asked.
    running: HashSet<TransactionId>,
}

/// Can the shard take part in an atomic commit?
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ability {
    Unknown,
    Able(Identity),
    /// `max_prepared_transactions` is 0.
    NoPrepared,
    /// What `ringway init` makes is missing.
    NoSchema,
    /// The role may not use it; the server's words.
    Denied(String),
}

/// A prepared transaction of ours.
#[derive(Debug, Clone)]
struct Prepared {
    gid: Gid,
    /// By the server's clock, when it was asked.
    age: Duration,
}

/// A commit under way in this process.
#[derive(Debug)]
pub struct Running {
    pub id: TransactionId,
    /// That have written; the first is where it is decided.
    pub shards: Vec<ShardId>,
    pub since: Instant,
    phase: AtomicU8,
}

/// How far a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Preparing,
    Deciding,
    /// The decision got no answer: it is asked for.
    Resolving,
    Finishing,
}

impl Phase {
    const ALL: [Self; 4] = [
        Self::Preparing,
        Self::Deciding,
        Self::Resolving,
        Self::Finishing,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Deciding => "deciding",
            Self::Resolving => "resolving",
            Self::Finishing => "finishing",
        }
    }
}

impl Running {
    pub fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Relaxed)) % Phase::ALL.len()]
    }
}

/// A commit of this process, until it is dropped: recovery keeps its hands off.
pub struct Commit<'t> {
    two_phase: &'t TwoPhase,
    running: Arc<Running>,
    decision: Identity,
    /// Of the shards that prepare.
    others: Vec<Identity>,
}

/// A prepared transaction that is nobody's at work here, for SHOW IN_DOUBT and metrics.
#[derive(Debug, Clone)]
pub struct InDoubt {
    pub shard: String,
    pub gid: String,
    pub transaction: TransactionId,
    /// Where it is decided, if it is a shard of this database.
    pub decision_shard: Option<String>,
    pub owner: OwnerId,
    pub age: Duration,
    pub note: &'static str,
}

impl TwoPhase {
    pub(super) fn new(
        database: &Database,
        user: &ServerUser,
        tls: Option<&TlsConnector>,
    ) -> Arc<Self> {
        let room = |shard: &crate::config::Shard| {
            let endpoints = shard.endpoints.iter();
            let pool = |endpoint| {
                control::recovery_pool(database, &shard.dbname, endpoint, user, tls.cloned())
            };
            Room {
                name: shard.name.clone(),
                pools: endpoints.map(pool).collect(),
                look: ArcSwap::from_pointee(Look::default()),
                notes: Mutex::default(),
                hasten: Notify::new(),
            }
        };
        // Nothing is ever on several shards of one.
        let shards = match database.is_sharded() {
            true => database.shards.iter().map(room).collect(),
            false => Vec::new(),
        };
        Arc::new(Self {
            owner: OwnerId::random(),
            user: user.name.clone(),
            settings: database.commits.clone(),
            shards,
            running: Mutex::default(),
            looked: channel::Sender::new(()),
            failpoint: Failpoint::of_environment(),
        })
    }

    fn room(&self, shard: ShardId) -> &Room {
        &self.shards[usize::from(shard.0)]
    }

    /// May a transaction of `user`'s on these servers' shards be committed on all of them or none? Waits
    /// a moment for shards that were not asked yet.
    ///
    /// # Errors
    /// 55000 where a shard is not set up for it, 0A000 where nobody could finish it for that user,
    /// 57P03 where the answer is not known.
    pub async fn admit(&self, shards: &[ShardId], user: &str) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut news = self.looked.subscribe();
        loop {
            let not_yet = match self.admits(shards, user) {
                Ok(()) => return Ok(()),
                Err(error) if error.code == "57P03" => error,
                Err(error) => return Err(error),
            };
            shards
                .iter()
                .for_each(|shard| self.room(*shard).hasten.notify_one());
            match timeout_at(deadline, news.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(not_yet),
            }
        }
    }

    fn admits(&self, shards: &[ShardId], user: &str) -> Result<(), Error> {
        let now = Instant::now();
        let mut known: Vec<(Identity, &str)> = Vec::with_capacity(shards.len());
        for shard in shards {
            let room = self.room(*shard);
            let look = room.look.load();
            let identity = match &look.ability {
                Ability::Able(identity) => *identity,
                Ability::Unknown => return Err(self.unknown(room, &look)),
                Ability::NoPrepared | Ability::NoSchema | Ability::Denied(_) => {
                    return Err(unable(&room.name, &look.ability));
                }
            };
            if look.lease_until.is_none_or(|until| until <= now) {
                return Err(self.unknown(room, &look));
            }
            if user != self.user && !look.is_superuser {
                return Err(self.not_ours(user));
            }
            if let Some((_, other)) = known.iter().find(|(known, _)| *known == identity) {
                return Err(same_identity(other, &room.name));
            }
            known.push((identity, &room.name));
        }
        Ok(())
    }

    fn unknown(&self, room: &Room, look: &Look) -> Error {
        let message = format!(
            "shard \"{}\" does not say whether it can take part in an atomic commit",
            room.name
        );
        let why = look.failure.as_deref().unwrap_or("It was not asked yet.");
        Error::new(Fault::Server, "57P03", message)
            .detail(why.to_owned())
            .hint("Try again. SHOW SHARDS and the log tell more.")
    }

    fn not_ours(&self, user: &str) -> Error {
        Error::new(
            Fault::Operator,
            "0A000",
            "user cannot commit on several shards together",
        )
        .detail(format!(
            "Only user \"{user}\" or a superuser could finish what it prepared there, and Ringway asks \
             the servers as \"{}\".",
            self.user
        ))
        .hint("Set server_user, so that all clients' statements run as one role.")
    }

    /// Begins a commit that is decided on the first of `shards`, all of which have written.
    ///
    /// # Errors
    /// As [`TwoPhase::admit`], which it does not wait for.
    pub fn begin(&self, shards: Vec<ShardId>) -> Result<Commit<'_>, Error> {
        let identity = |shard: &ShardId| {
            let room = self.room(*shard);
            let look = room.look.load();
            match &look.ability {
                Ability::Able(identity) => Ok(*identity),
                Ability::Unknown => Err(self.unknown(room, &look)),
                Ability::NoPrepared | Ability::NoSchema | Ability::Denied(_) => {
                    Err(unable(&room.name, &look.ability))
                }
            }
        };
        let identities: Vec<Identity> = shards.iter().map(identity).collect::<Result<_, _>>()?;
        let nothing = || Error::new(Fault::Ringway, "XX000", "a commit of nothing");
        let (decision, others) = identities.split_first().ok_or_else(nothing)?;
        let running = Arc::new(Running {
            id: TransactionId::random(),
            shards,
            since: Instant::now(),
            phase: AtomicU8::new(0),
        });
        self.lock().insert(running.id, Arc::clone(&running));
        Ok(Commit {
            two_phase: self,
            running,
            decision: *decision,
            others: others.to_vec(),
        })
    }

    /// Commits under way in this process.
    pub fn running(&self) -> Vec<Arc<Running>> {
        let mut running: Vec<_> = self.lock().values().cloned().collect();
        running.sort_by_key(|running| running.since);
        running
    }

    fn is_running(&self, id: TransactionId) -> bool {
        self.lock().contains_key(&id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TransactionId, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shard of this identity.
    fn shard_of(&self, identity: Identity) -> Option<ShardId> {
        let is_it = |room: &Room| room.look.load().ability == Ability::Able(identity);
        let at = self.shards.iter().position(is_it)?;
        u16::try_from(at).ok().map(ShardId)
    }

    /// Prepared transactions that nobody is at work on here, as of the last look, oldest first.
    pub fn in_doubt(&self) -> Vec<InDoubt> {
        let mut found = Vec::new();
        for room in &self.shards {
            let look = room.look.load();
            let notes = room.notes();
            for Prepared { gid, age } in self.doubtful(&look) {
                let note = match notes.get(&gid) {
                    Some(Some(note)) => note,
                    Some(None) => continue,
                    None => "found just now",
                };
                let decision_shard = self.shard_of(gid.decision);
                found.push(InDoubt {
                    shard: room.name.clone(),
                    gid: gid.to_string(),
                    transaction: gid.transaction,
                    decision_shard: decision_shard.map(|shard| self.room(shard).name.clone()),
                    owner: gid.owner,
                    age: age + look.asked.map_or(Duration::ZERO, |asked| asked.elapsed()),
                    note,
                });
            }
        }
        found.sort_by_key(|doubt| std::cmp::Reverse(doubt.age));
        found
    }

    /// Those of a look that nobody is at work on here.
    fn doubtful(&self, look: &Look) -> Vec<Prepared> {
        let doubtful = look.prepared.iter().filter(|prepared| {
            let id = prepared.gid.transaction;
            !look.running.contains(&id) && !self.is_running(id)
        });
        doubtful.cloned().collect()
    }

    /// What keeps shards from committing together, in the words of an error, by shard.
    pub fn obstacles(&self) -> Vec<Error> {
        let mut obstacles = Vec::new();
        let mut known: Vec<(Identity, &str)> = Vec::new();
        for room in &self.shards {
            let look = room.look.load();
            match &look.ability {
                Ability::Able(identity) => {
                    if let Some((_, other)) = known.iter().find(|(known, _)| known == identity) {
                        obstacles.push(same_identity(other, &room.name));
                    }
                    known.push((*identity, &room.name));
                }
                Ability::Unknown => obstacles.push(self.unknown(room, &look)),
                Ability::NoPrepared | Ability::NoSchema | Ability::Denied(_) => {
                    obstacles.push(unable(&room.name, &look.ability));
                }
            }
        }
        obstacles
    }

    /// Waits until every shard was looked at once more, or `limit` is over.
    pub async fn look_again(&self, limit: Duration) {
        let now = Instant::now();
        let deadline = now + limit;
        let mut news = self.looked.subscribe();
        let is_known = |room: &Room| room.look.load().tried.is_some_and(|tried| tried > now);
        while !self.shards.iter().all(is_known) {
            self.shards.iter().for_each(|room| room.hasten.notify_one());
            if !matches!(timeout_at(deadline, news.changed()).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

impl Room {
    fn notes(&self) -> MutexGuard<'_, HashMap<Gid, Option<&'static str>>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Look {
    fn default() -> Self {
        Self {
            ability: Ability::Unknown,
            tried: None,
            asked: None,
            lease_until: None,
            failure: None,
            is_superuser: false,
            prepared: Vec::new(),
            running: HashSet::new(),
        }
    }
}

impl Commit<'_> {
    pub fn id(&self) -> TransactionId {
        self.running.id
    }

    pub fn enter(&self, phase: Phase) {
        self.running.phase.store(phase as u8, Relaxed);
    }

    /// The name of a part; 0 is decided and not prepared.
    pub fn gid(&self, part: usize) -> Gid {
        Gid {
            transaction: self.running.id,
            owner: self.two_phase.owner,
            decision: self.decision,
            part: u16::try_from(part).unwrap_or(u16::MAX),
        }
    }

    /// What decides it, to run in the transaction of the first shard: one text, of which nothing after
    /// a failure runs. Numbers of ours are all that is written into it.
    ///
    /// A decision that a crash could take back would be none, so it is flushed whatever the client set.
    pub fn decision(&self) -> String {
        let others: Vec<_> = self.others.iter().map(|id| format!("'{id}'")).collect();
        format!(
            "INSERT INTO ringway.decision (id, outcome, shards) \
             VALUES ('{}', 'commit', ARRAY[{}]); \
             SELECT pg_catalog.set_config('synchronous_commit', 'on', true) \
             WHERE pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'; \
             COMMIT",
            self.running.id,
            others.join(", ")
        )
    }

    /// Does what a test wants done there.
    pub fn reach(&self, step: Step) {
        self.two_phase.failpoint.reach(step);
    }

    pub fn stops_at(&self, step: Step) -> bool {
        self.two_phase.failpoint.is_at(step)
    }

    /// Has recovery look at once at what was left behind on a shard.
    pub fn leave_behind(&self, shard: ShardId) {
        self.two_phase.room(shard).hasten.notify_one();
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        self.two_phase.lock().remove(&self.running.id);
    }
}

fn unable(shard: &str, ability: &Ability) -> Error {
    let (detail, hint) = match ability {
        Ability::NoPrepared => (
            "max_prepared_transactions is 0 on its primary.".to_owned(),
            "Set it to at least max_connections, and restart the server",
        ),
        Ability::NoSchema => (
            "Schema ringway is missing there, or a part of it.".to_owned(),
            "Run `ringway init`",
        ),
        Ability::Denied(why) => (
            format!("Its server says: {why}."),
            "Run `ringway init` as the owner of schema ringway",
        ),
        Ability::Unknown | Ability::Able(_) => (String::new(), "Try again"),
    };
    let message = format!("shard \"{shard}\" cannot take part in an atomic commit");
    Error::new(Fault::Operator, "55000", message)
        .detail(detail)
        .hint(format!(
            "{hint}; or write multi_shard_commit = \"best_effort\" to commit one shard after the other."
        ))
}

fn same_identity(one: &str, other: &str) -> Error {
    let message = format!("shards \"{one}\" and \"{other}\" have the same identity");
    Error::new(Fault::Operator, "55000", message)
        .detail("ringway.identity has the same row on both: one is a copy of the other.")
        .hint(format!(
            "DELETE FROM ringway.identity on shard \"{other}\" while nothing is prepared there, and run \
             `ringway init`."
        ))
}

/// Starts the tasks that look at the shards and finish what is in doubt.
pub(super) fn start(cluster: &Arc<Cluster>, tasks: &mut JoinSet<()>) {
    for (shard, _) in (0..).map(ShardId).zip(&cluster.two_phase.shards) {
        tasks.spawn(watch::watch(Arc::clone(cluster), shard));
        tasks.spawn(recover::recover(Arc::clone(cluster), shard));
        tasks.spawn(recover::collect(Arc::clone(cluster), shard));
    }
}
