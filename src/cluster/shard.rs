//! What is known of one shard's servers, and what follows from it: who is primary, who is
//! fenced, which replicas may serve. Pure: observations and the time arrive as arguments.

use std::time::Duration;

use super::history::{History, Sample};
use super::lsn::Lsn;
use super::outliers;
use crate::net::Instant;

/// A server's position in its shard's configuration, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u16);

/// What one poll of one server found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// When the query was sent.
    pub started: Instant,
    /// `pg_control_system()`; `None` when the monitor's user may not call it.
    pub system_id: Option<i64>,
    /// `None` on a replica that does not tell which timeline it follows.
    pub timeline: Option<u32>,
    pub position: Position,
    /// It tells its role and nothing of its position in the WAL.
    pub is_blind: bool,
}

/// The role that a server has taken and how far its log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// End of the last record inserted.
    Primary { inserted: Lsn },
    /// `None` before anything was replayed.
    Replica { replayed: Option<Lsn> },
}

/// What a server may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not asked yet.
    Unknown,
    /// The last poll or connection attempt failed.
    Down,
    Primary,
    /// Takes writes, but another server is the primary or was promoted after it: not used.
    Fenced,
    /// A replica within `max_lag`: may answer reads.
    Fresh,
    /// A replica behind `max_lag`, or whose lag is not known yet.
    Lagging,
    /// A replica that was down and has not answered often enough since.
    Returning,
    /// A replica that owes an answer while others have given theirs: it gets no reads until it answers or
    /// counts as down.
    Silent,
    /// A replica that is far slower than its siblings, or fails far more often: out for a while.
    Ejected,
    /// A replica of another cluster or another timeline than the primary's.
    Foreign,
}

impl Standing {
    pub const ALL: [Self; 10] = [
        Self::Unknown,
        Self::Down,
        Self::Primary,
        Self::Fenced,
        Self::Fresh,
        Self::Lagging,
        Self::Returning,
        Self::Silent,
        Self::Ejected,
        Self::Foreign,
    ];

    /// One word for SHOW REPLICAS, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Down => "down",
            Self::Primary => "primary",
            Self::Fenced => "fenced",
            Self::Fresh => "fresh",
            Self::Lagging => "lagging",
            Self::Returning => "returning",
            Self::Silent => "silent",
            Self::Ejected => "ejected",
            Self::Foreign => "foreign",
        }
    }
}

/// One server as published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerView {
    pub standing: Standing,
    /// The last observation, which a server that is down keeps.
    pub seen: Option<Observation>,
    /// How old a replica's data may be; `None` when that is not known, as of a server that is down.
    pub lag: Option<Duration>,
    /// WAL that a replica has not replayed yet.
    pub lag_bytes: Option<u64>,
    /// Its share of the reads that it may answer, in thousandths: [`FULL_WEIGHT`] for a weight of 1.
    pub weight: u32,
    /// In the zone of this process, or zones do not matter.
    pub is_near: bool,
    /// How often it was down.
    pub incarnation: u32,
    /// Why it is down.
    pub error: Option<String>,
}

/// What a weight of 1 counts as, so that a slow start has steps below it.
pub const FULL_WEIGHT: u32 = 1000;

impl ShardSnapshot {
    /// Whose primary does not tell how far it is; without a primary, any server.
    pub fn is_blind(&self) -> bool {
        let primary = self.primary.map(|id| usize::from(id.0));
        let mut servers = self.servers.iter().enumerate();
        servers.any(|(at, server)| server.is_blind() && primary.is_none_or(|id| id == at))
    }
}

impl ServerView {
    /// How far a replica has replayed.
    pub fn replayed(&self) -> Option<Lsn> {
        match self.seen?.position {
            Position::Replica { replayed } => replayed,
            Position::Primary { .. } => None,
        }
    }

    /// It does not tell how far it is.
    pub fn is_blind(&self) -> bool {
        self.seen.is_some_and(|seen| seen.is_blind)
    }
}

/// One shard at one moment; immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSnapshot {
    /// When this was so.
    pub at: Instant,
    /// Another number when other servers serve, or with other weights.
    pub generation: u32,
    pub primary: Option<EndpointId>,
    /// By endpoint id.
    pub servers: Vec<ServerView>,
    /// The primary's last positions, oldest first; resolve marks.
    pub samples: Vec<Sample>,
}

/// Samples published. A mark older than all of them gets the oldest, which asks for a little more
/// than it must and is never wrong.
const PUBLISHED_SAMPLES: usize = 32;

/// The history that a shard's servers share: timelines of other systems do not compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lineage {
    system_id: Option<i64>,
    /// The highest timeline seen on any server.
    timeline: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Health {
    Unpolled,
    Up,
    Down { since: Instant, error: String },
}

#[derive(Debug)]
struct Server {
    health: Health,
    seen: Option<Observation>,
    /// Seen taking writes beside the shard's primary: what it holds may have diverged. So it does
    /// not take over when the primary goes, until it comes back as a replica or on a higher
    /// timeline, or the primary itself becomes a replica.
    fenced: bool,
    /// Polls that succeeded since it was last down.
    answered: u32,
    /// When the poll was sent that it has not answered yet.
    asked: Option<Instant>,
    conduct: outliers::Conduct,
    /// Found behind `max_lag`: it has to come nearer than that to serve again.
    lagged: bool,
    /// See [`ServerView::incarnation`].
    incarnation: u32,
    /// When it began to serve after it had been down or behind; `None` for one that always did.
    returned: Option<Instant>,
    /// It may serve, and it was seen not to, as of the last look.
    serves: bool,
    ever_left: bool,
    weight: u32,
    is_near: bool,
}

impl Server {
    /// The observation of a server that is up.
    fn up(&self) -> Option<&Observation> {
        match self.health {
            Health::Up => self.seen.as_ref(),
            Health::Unpolled | Health::Down { .. } => None,
        }
    }

    /// The observation of a server that is up, takes writes and is not fenced.
    fn candidate(&self) -> Option<&Observation> {
        self.up().filter(|seen| is_primary(seen) && !self.fenced)
    }

    /// Takes in a poll that succeeded.
    fn observe(&mut self, seen: Observation) {
        let before = self.seen.and_then(|before| before.timeline);
        let promoted = before
            .zip(seen.timeline)
            .is_some_and(|(old, new)| new > old);
        if promoted || !is_primary(&seen) {
            self.fenced = false;
        }
        self.answered = match self.health {
            Health::Down { .. } => 1,
            Health::Unpolled | Health::Up => self.answered.saturating_add(1),
        };
        self.health = Health::Up;
        self.seen = Some(seen);
        self.asked = None;
    }
}

/// What the operator wants of the replicas of a shard.
#[derive(Debug, Clone)]
pub struct Demands {
    /// A replica further behind does not serve; `None`: however far.
    pub max_lag: Option<Duration>,
    /// Between two observations of one server.
    pub poll_interval: Duration,
    /// Good answers in a row that a replica needs after it was down.
    pub return_after: u32,
    /// How long a replica that serves again takes to get its whole share.
    pub slow_start: Duration,
    /// What makes an outlier; `None`: nobody is ejected.
    pub outliers: Option<outliers::Limits>,
    /// Weight of each server, and whether it is near.
    pub servers: Vec<(u32, bool)>,
}

/// The part of `max_lag` that a replica must come back under, and the share of its weight that one
/// begins with.
const RETURN_LAG: f64 = 0.8;
/// How long a poll may take while others are answered, at least, and in intervals between two polls. With
/// the interval until it is sent, and the one until another is answered, that makes 200 ms by default.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(100);
const PATIENCE: u32 = 2;
const SLOW_START: f64 = 0.1;

/// Everything known of one shard; changed by one observation at a time.
#[derive(Debug)]
pub struct ShardRecord {
    servers: Vec<Server>,
    history: History,
    /// The server whose positions the history holds; stays while there is no primary.
    history_of: Option<EndpointId>,
    primary: Option<EndpointId>,
    lineage: Option<Lineage>,
    /// The weights of who serves, as last published, and how often that changed.
    shares: Vec<Option<u32>>,
    generation: u32,
    demands: Demands,
    /// See [`History::lag`].
    allowance: Duration,
}

impl ShardRecord {
    pub fn new(demands: Demands) -> Self {
        let unpolled = |(weight, is_near): &(u32, bool)| Server {
            health: Health::Unpolled,
            seen: None,
            fenced: false,
            // One that was never down is trusted at once.
            answered: demands.return_after,
            asked: None,
            conduct: outliers::Conduct::default(),
            lagged: false,
            incarnation: 0,
            returned: None,
            serves: false,
            ever_left: false,
            weight: weight * FULL_WEIGHT,
            is_near: *is_near,
        };
        Self {
            servers: demands.servers.iter().map(unpolled).collect(),
            history: History::default(),
            history_of: None,
            primary: None,
            lineage: None,
            shares: Vec::new(),
            generation: 0,
            // The newest sample may be one interval old, and the poll under way another one.
            allowance: demands.poll_interval * 2,
            demands,
        }
    }

    /// True when every server was asked once, whatever came of it.
    pub fn is_polled(&self) -> bool {
        self.servers
            .iter()
            .all(|server| server.health != Health::Unpolled)
    }

    pub fn is_down(&self, id: EndpointId) -> bool {
        let server = self.servers.get(usize::from(id.0));
        server.is_some_and(|server| matches!(server.health, Health::Down { .. }))
    }

    /// Takes in one poll that succeeded. One that was sent before the server was last found down
    /// proves nothing and is ignored.
    pub fn observe(&mut self, id: EndpointId, seen: Observation) {
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else {
            return;
        };
        if matches!(&server.health, Health::Down { since, .. } if seen.started < *since) {
            return;
        }
        server.observe(seen);
        if self.history_of == Some(id) && !is_primary(&seen) {
            for server in &mut self.servers {
                server.fenced = false;
            }
        }
        self.elect();
        if let (true, false, Position::Primary { inserted }) =
            (self.primary == Some(id), seen.is_blind, seen.position)
        {
            self.history.push(seen.started, inserted);
        }
    }

    /// Takes in a poll or a connection attempt that failed.
    pub fn fail(&mut self, id: EndpointId, now: Instant, error: String) {
        let Some(server) = self.servers.get_mut(usize::from(id.0)) else {
            return;
        };
        if !matches!(server.health, Health::Down { .. }) {
            server.incarnation = server.incarnation.wrapping_add(1);
        }
        server.health = Health::Down { since: now, error };
        server.asked = None;
        self.elect();
    }

    /// A poll is sent.
    pub fn ask(&mut self, id: EndpointId, now: Instant) {
        if let Some(server) = self.servers.get_mut(usize::from(id.0)) {
            server.asked = Some(now);
        }
    }

    /// Takes in what was counted of each server since the last time.
    pub fn weigh(&mut self, now: Instant, windows: &[outliers::Window]) {
        let Some(limits) = self.demands.outliers else {
            return;
        };
        let serving: Vec<_> = self.servers.iter().map(|server| server.serves).collect();
        let mut conducts: Vec<_> = self.servers.iter().map(|server| server.conduct).collect();
        outliers::weigh(&mut conducts, windows, &serving, now, &limits);
        for (server, conduct) in self.servers.iter_mut().zip(conducts) {
            server.ever_left |= conduct.is_ejected(now);
            server.conduct = conduct;
        }
    }

    /// Settles the lineage and the primary. The history of another primary or timeline is dropped:
    /// its positions do not compare.
    fn elect(&mut self) {
        let lineage = self.current_lineage();
        if lineage != self.lineage {
            self.history.clear();
            self.lineage = lineage;
        }
        self.primary = self.winner();
        self.fence();
        if self.primary.is_some() && self.primary != self.history_of {
            self.history.clear();
            self.history_of = self.primary;
        }
    }

    /// Fences whoever takes writes beside the primary.
    fn fence(&mut self) {
        let Some(primary) = self.primary else {
            return;
        };
        for (id, server) in (0..).map(EndpointId).zip(&mut self.servers) {
            if id != primary && server.candidate().is_some() {
                server.fenced = true;
            }
        }
    }

    /// The lineage known so far raised by what the servers say; a new one only when no server of
    /// the old one is left and a primary of another system appears.
    fn current_lineage(&self) -> Option<Lineage> {
        let seen = || self.servers.iter().filter_map(Server::up);
        let candidate = self.servers.iter().find_map(Server::candidate);
        let known = self.lineage.filter(|lineage| {
            candidate.is_none() || seen().any(|s| same_system(lineage.system_id, s.system_id))
        });
        let system_id = match known {
            Some(lineage) => lineage.system_id,
            None => candidate?.system_id,
        };
        let timeline = seen()
            .filter(|s| same_system(system_id, s.system_id))
            .filter_map(|s| s.timeline)
            .chain(known.and_then(|lineage| lineage.timeline))
            .max();
        Some(Lineage {
            system_id,
            timeline,
        })
    }

    /// The primary on the lineage's highest timeline. Of two on the same one the incumbent stays,
    /// else the first configured wins.
    fn winner(&self) -> Option<EndpointId> {
        let lineage = self.lineage?;
        let candidate = |(id, server): (EndpointId, &Server)| {
            let seen = server.candidate()?;
            belongs(lineage, seen).then_some(id)
        };
        let mut candidates = (0..)
            .map(EndpointId)
            .zip(&self.servers)
            .filter_map(candidate);
        let first = candidates.next();
        match self.primary {
            Some(incumbent) if candidates.any(|id| id == incumbent) => Some(incumbent),
            Some(_) | None => first,
        }
    }

    /// The shard as it is at `now`.
    pub fn snapshot(&mut self, now: Instant) -> ShardSnapshot {
        let views: Vec<_> = (0..self.servers.len())
            .map(|at| self.view(at, now))
            .collect();
        let shares =
            |server: &ServerView| (server.standing == Standing::Fresh).then_some(server.weight);
        let shares: Vec<_> = views.iter().map(shares).collect();
        if shares != self.shares {
            self.generation = self.generation.wrapping_add(1);
            self.shares = shares;
        }
        ShardSnapshot {
            at: now,
            generation: self.generation,
            primary: self.primary,
            servers: views,
            samples: self.history.recent(PUBLISHED_SAMPLES),
        }
    }

    fn view(&mut self, at: usize, now: Instant) -> ServerView {
        let id = EndpointId(at as u16);
        let replayed = match self.servers[at].seen.map(|seen| seen.position) {
            Some(Position::Replica { replayed }) => replayed,
            Some(Position::Primary { .. }) | None => None,
        };
        let lag = replayed.and_then(|lsn| self.history.lag(lsn, now, self.allowance));
        let newest = self.history.newest();
        let (standing, error) = match &self.servers[at].health {
            Health::Unpolled => (Standing::Unknown, None),
            Health::Down { error, .. } => (Standing::Down, Some(error.clone())),
            Health::Up => (self.standing(id, &self.servers[at], lag, now), None),
        };
        let server = &mut self.servers[at];
        // Before the primary was asked nobody's lag is known.
        server.lagged = standing == Standing::Lagging && lag.is_some();
        let serves = standing == Standing::Fresh;
        if serves && !server.serves && self.demands.slow_start > Duration::ZERO {
            // Who serves from the first look on has no others to take load from.
            server.returned = server.ever_left.then_some(now);
        }
        server.ever_left |= standing == Standing::Down || server.lagged;
        server.serves = serves;
        ServerView {
            standing,
            seen: server.seen,
            lag: lag.filter(|_| server.health == Health::Up),
            lag_bytes: newest
                .zip(replayed)
                .map(|(sample, lsn)| sample.lsn.bytes_since(lsn)),
            weight: slow_start(server, now, self.demands.slow_start),
            is_near: server.is_near,
            incarnation: server.incarnation,
            error,
        }
    }

    fn standing(
        &self,
        id: EndpointId,
        server: &Server,
        lag: Option<Duration>,
        now: Instant,
    ) -> Standing {
        let Some(seen) = server.seen else {
            return Standing::Unknown;
        };
        match seen.position {
            Position::Primary { .. } if self.primary == Some(id) => Standing::Primary,
            Position::Primary { .. } => Standing::Fenced,
            Position::Replica { .. } => match self.lineage {
                Some(lineage) if !belongs(lineage, &seen) => Standing::Foreign,
                Some(_) | None if !seen.is_blind && !self.is_near_enough(server, lag) => {
                    Standing::Lagging
                }
                Some(_) | None if server.answered < self.demands.return_after => {
                    Standing::Returning
                }
                Some(_) | None if self.is_silent(server) => Standing::Silent,
                Some(_) | None if server.conduct.is_ejected(now) => Standing::Ejected,
                Some(_) | None => Standing::Fresh,
            },
        }
    }

    /// Whether it owes an answer, while others have answered what they were asked much later: when it is
    /// this process that was held up, they have not.
    fn is_silent(&self, server: &Server) -> bool {
        let patience = (self.demands.poll_interval * PATIENCE).max(SHORTEST_PATIENCE);
        let newest = self.servers.iter().filter_map(Server::up);
        let newest = newest.map(|seen| seen.started).max();
        let late = |asked: Instant| newest.is_some_and(|newest| newest > asked + patience);
        server.asked.is_some_and(late)
    }

    fn is_near_enough(&self, server: &Server, lag: Option<Duration>) -> bool {
        let Some(max_lag) = self.demands.max_lag else {
            return true;
        };
        let limit = match server.lagged {
            true => max_lag.mul_f64(RETURN_LAG),
            false => max_lag,
        };
        lag.is_some_and(|lag| lag <= limit)
    }
}

/// The weight of a server that began to serve a while ago.
fn slow_start(server: &Server, now: Instant, whole: Duration) -> u32 {
    let Some(returned) = server.returned else {
        return server.weight;
    };
    let part = now.saturating_duration_since(returned).as_secs_f64() / whole.as_secs_f64();
    let part = part.clamp(SLOW_START, 1.0);
    (f64::from(server.weight) * part) as u32
}

fn is_primary(seen: &Observation) -> bool {
    matches!(seen.position, Position::Primary { .. })
}

/// Unknown identifiers are taken on trust: a user without the privilege cannot read them anywhere.
fn same_system(one: Option<i64>, other: Option<i64>) -> bool {
    one.zip(other).is_none_or(|(one, other)| one == other)
}

/// A server of the lineage's system on its highest timeline.
fn belongs(lineage: Lineage, seen: &Observation) -> bool {
    let newest = lineage
        .timeline
        .zip(seen.timeline)
        .is_none_or(|(highest, own)| own >= highest);
    newest && same_system(lineage.system_id, seen.system_id)
}

#[cfg(test)]
mod tests;
