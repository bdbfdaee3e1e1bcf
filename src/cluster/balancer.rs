//! Which server answers a read. Pure: a snapshot, a session's mark, the policy and a tiebreak in, a
//! server out.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use super::lsn::Lsn;
use super::mark::{Home, Mark};
use super::outliers::Tally;
use super::shard::{EndpointId, ServerView, ShardSnapshot, Standing};
use crate::config::{Balance, PrimaryReads, ReadSettings};
use crate::net::Instant;

/// The server chosen for a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    pub endpoint: EndpointId,
    pub role: Role,
    pub reason: ReadReason,
    /// Of a replica.
    pub home: Option<Home>,
    /// Another replica's turn has come, if it has what the session saw here.
    pub may_move: bool,
    /// It was one of several, and the next choice is the next turn's.
    pub took_turn: bool,
    /// When a replica was found to be as far as that takes.
    pub as_of: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica,
}

/// Why a read goes where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadReason {
    /// A replica that is fresh enough.
    FreshReplica,
    /// Reads are not split.
    SplitOff,
    /// The shard has no replicas.
    NoReplica,
    /// All replicas are down, behind `max_lag` or of another timeline.
    NoneEligible,
    /// The session wrote and the primary's position after that is not known yet.
    MarkUnresolved,
    /// No eligible replica has replayed the session's own writes.
    NotCaughtUp,
    /// The session read from a server that does not serve it now, and no other is known to have
    /// what it saw there.
    SeenNewer,
    /// The primary takes its share (`primary_reads = "always"`).
    Share,
}

impl ReadReason {
    /// For EXPLAIN (ROUTE), metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::FreshReplica => "fresh_replica",
            Self::SplitOff => "split_off",
            Self::NoReplica => "no_replica",
            Self::NoneEligible => "none_eligible",
            Self::MarkUnresolved => "mark_unresolved",
            Self::NotCaughtUp => "not_caught_up",
            Self::SeenNewer => "seen_newer",
            Self::Share => "share",
        }
    }

    /// True when a replica may serve the session a moment later.
    pub fn passes_with_time(self) -> bool {
        match self {
            Self::MarkUnresolved | Self::NotCaughtUp | Self::SeenNewer => true,
            Self::FreshReplica
            | Self::SplitOff
            | Self::NoReplica
            | Self::NoneEligible
            | Self::Share => false,
        }
    }
}

/// What one server is busy with, as its clients count it.
#[derive(Debug, Default)]
pub struct Load {
    /// Reads under way.
    pub reads: AtomicU32,
    /// How long a read takes, in microseconds: a moving average; 0 before the first.
    pub latency_us: AtomicU32,
    /// For the search of outliers.
    pub tally: Tally,
}

impl Load {
    /// Takes one read's time into the average, with a weight of an eighth.
    pub fn took(&self, micros: u32) {
        let before = self.latency_us.load(Relaxed);
        let next = match before {
            0 => micros,
            _ => before - before / 8 + micros / 8,
        };
        // A time lost between two readers does not matter.
        self.latency_us.store(next.max(1), Relaxed);
    }

    /// How long a read would wait here, in times of what it takes alone; `part` is the server's weight, 1
    /// for the usual one.
    fn crowd(&self, part: f64) -> f64 {
        1.0 + f64::from(self.reads.load(Relaxed)) / part
    }

    /// `None` before the first read has ended.
    fn latency(&self) -> Option<f64> {
        let latency = self.latency_us.load(Relaxed);
        (latency > 0).then(|| f64::from(latency))
    }
}

/// What decides between servers that may all answer.
#[derive(Debug, Clone, Copy)]
pub struct Tiebreak {
    /// Another number for each read.
    pub turn: usize,
    /// The same number for each client address.
    pub source: u64,
}

/// Chooses the server for a read: among the replicas that are fresh enough by the policy, else the
/// primary. `None` when there is none.
pub fn pick_read(
    snapshot: &ShardSnapshot,
    mark: &mut Mark,
    reads: &ReadSettings,
    loads: &[Load],
    tiebreak: Tiebreak,
) -> Option<Pick> {
    mark.resolve(&snapshot.samples);
    if snapshot.is_blind()
        && let Some(until) = snapshot.at.checked_sub(reads.blind)
    {
        mark.resolve_until(until);
    }
    let Some(floor) = mark.floor() else {
        let reason = without_mark(snapshot).unwrap_or(ReadReason::MarkUnresolved);
        return or_primary(snapshot, reads, reason);
    };
    let near = mark.max_lag().map(|max_lag| {
        // The lag was so when it was published.
        let age = snapshot.at.elapsed();
        move |server: &ServerView| server.lag.is_some_and(|lag| lag + age <= max_lag)
    });
    let may_serve = |server: &ServerView, floor| {
        may_serve(server, floor) && near.is_none_or(|near| near(server))
    };
    let home = mark.home().filter(|home| {
        let server = snapshot.servers.get(usize::from(home.endpoint.0));
        server.is_some_and(|server| {
            server.incarnation == home.incarnation && may_serve(server, floor)
        })
    });
    let with_primary = reads.primary == PrimaryReads::Always;
    // What no sample has bounded yet may be anywhere.
    let saw = mark.elsewhere().unwrap_or_default();
    let serves = |id: EndpointId, server: &ServerView| {
        may_serve(server, floor.max(saw))
            || home.is_some_and(|home| home.endpoint == id)
            || (with_primary && snapshot.primary == Some(id))
    };
    let choose = || choose(snapshot, serves, reads.balance, loads, tiebreak);
    let to = |id: EndpointId| Home {
        endpoint: id,
        incarnation: snapshot.servers[usize::from(id.0)].incarnation,
        chosen: snapshot.at,
        generation: snapshot.generation,
    };
    if mark.elsewhere().is_none() {
        let Some(home) = home else {
            // Some replica has all that the session wrote, and might have all that it saw.
            let any = snapshot
                .servers
                .iter()
                .any(|server| may_serve(server, floor));
            let reason = match any {
                true => ReadReason::SeenNewer,
                false => without_mark(snapshot).unwrap_or(ReadReason::NotCaughtUp),
            };
            return or_primary(snapshot, reads, reason);
        };
        if !is_due(home, snapshot, reads.balance) {
            return Some(replica(snapshot, home, false));
        }
        let other = choose() != Some(home.endpoint);
        return Some(replica(snapshot, to(home.endpoint), other));
    }
    // A session that has a replica chooses again when any of them would do. If it moved to whoever is
    // known to be as far just then, the quickest would get more than its share.
    let all_would_do = |home: &Home| {
        let mut fresh = snapshot.servers.iter().filter(|server| {
            server.standing == Standing::Fresh && near.is_none_or(|near| near(server))
        });
        is_by_load(reads.balance)
            || home.generation != snapshot.generation
            || fresh.all(|server| may_serve(server, floor.max(saw)))
    };
    if let Some(home) = home.filter(|home| !all_would_do(home)) {
        return Some(replica(snapshot, home, false));
    }
    let took_turn = {
        let servers = (0..).map(EndpointId).zip(&snapshot.servers);
        servers.filter(|(id, server)| serves(*id, server)).count() > 1
    };
    let pick = match choose() {
        None => {
            let reason = without_mark(snapshot).unwrap_or(ReadReason::NotCaughtUp);
            or_primary(snapshot, reads, reason)
        }
        Some(id) if snapshot.primary == Some(id) => primary(snapshot, ReadReason::Share),
        Some(id) => Some(replica(snapshot, to(id), false)),
    };
    pick.map(|pick| Pick { took_turn, ..pick })
}

/// Whether a replica other than `home` is so near to the primary that a short wait may be of use.
pub fn is_another_near(snapshot: &ShardSnapshot, home: Option<EndpointId>, near: Duration) -> bool {
    let mut servers = (0..).map(EndpointId).zip(&snapshot.servers);
    servers.any(|(id, server)| {
        server.standing == Standing::Fresh
            && Some(id) != home
            && server.lag.is_some_and(|lag| lag <= near)
    })
}

/// How long a session stays with its replica at least.
const STAY: Duration = Duration::from_secs(1);

/// Does the choice go by what servers are busy with, and so change all the time?
fn is_by_load(balance: Balance) -> bool {
    match balance {
        Balance::LeastConnections | Balance::Latency => true,
        Balance::RoundRobin | Balance::Random | Balance::SourceHash => false,
    }
}

/// Whether it is time to choose again, though the session could stay where it is.
fn is_due(home: Home, snapshot: &ShardSnapshot, balance: Balance) -> bool {
    (is_by_load(balance) || home.generation != snapshot.generation)
        && snapshot.at.saturating_duration_since(home.chosen) >= STAY
}

/// One of the servers that `serves` lets answer; those of the nearest zone before all others.
fn choose(
    snapshot: &ShardSnapshot,
    serves: impl Fn(EndpointId, &ServerView) -> bool,
    balance: Balance,
    loads: &[Load],
    tiebreak: Tiebreak,
) -> Option<EndpointId> {
    let all = || {
        (0..)
            .map(EndpointId)
            .zip(&snapshot.servers)
            .filter(|(id, server)| serves(*id, server))
    };
    let near = all().any(|(_, server)| server.is_near && server.weight > 0);
    let serving = || all().filter(|(_, server)| server.is_near || !near);
    let total: u64 = serving().map(|(_, server)| u64::from(server.weight)).sum();
    if total == 0 {
        // Nobody has any weight: whoever is there serves.
        return all().next().map(|(id, _)| id);
    }
    // The server in whose part of the total weight `point` lies.
    let at = |point: u64| {
        let mut left = point % total;
        serving().find_map(|(id, server)| {
            let weight = u64::from(server.weight);
            match left < weight {
                true => Some(id),
                false => {
                    left -= weight;
                    None
                }
            }
        })
    };
    let load = |id: EndpointId| loads.get(usize::from(id.0));
    match balance {
        Balance::RoundRobin => at(spread(tiebreak.turn, total)),
        Balance::Random => at(scramble(tiebreak.turn as u64)),
        Balance::SourceHash => serving()
            .filter(|(_, server)| server.weight > 0)
            .max_by_key(|(id, server)| rendezvous(tiebreak.source, *id, server.weight))
            .map(|(id, _)| id),
        // The least busy for its weight; by turns among those that are equally busy.
        Balance::LeastConnections => {
            let first = at(spread(tiebreak.turn, total));
            let reads = |id| load(id).map_or(0, |load| load.reads.load(Relaxed));
            serving()
                .filter(|(_, server)| server.weight > 0)
                .min_by_key(|(id, server)| {
                    let busy =
                        u64::from(reads(*id)) * u64::from(u32::MAX) / u64::from(server.weight);
                    (busy, Some(*id) != first)
                })
                .map(|(id, _)| id)
        }
        // The better of two that are drawn by weight: nobody is best for everybody, which would make him
        // the worst. <https://www.eecs.harvard.edu/~michaelm/postscripts/mythesis.pdf>
        Balance::Latency => {
            let random = scramble(tiebreak.turn as u64);
            let drawn = [at(random)?, at(random.rotate_left(32))?];
            let weighted = serving().filter(|(_, server)| server.weight > 0);
            let usual = total as f64 / weighted.count() as f64;
            let [one, other] = drawn.map(|id| {
                let part = f64::from(snapshot.servers[usize::from(id.0)].weight) / usual;
                load(id).map_or((1.0, None), |load| (load.crowd(part), load.latency()))
            });
            // Of one that has not answered yet nobody knows that it is quick.
            let is_better = match (one.1, other.1) {
                (Some(own), Some(its)) => its * other.0 < own * one.0,
                (None, _) | (_, None) => other.0 < one.0,
            };
            Some(drawn[usize::from(is_better)])
        }
    }
}

/// The turn's place in `0..total`: however many turns there were, each part of the range has had its
/// share of them (the multiples of the golden ratio, modulo one).
fn spread(turn: usize, total: u64) -> u64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let fraction = (turn as u64).wrapping_mul(GOLDEN);
    ((u128::from(fraction) * u128::from(total)) >> 64) as u64
}

/// A number that looks random (SplitMix64's finalizer).
fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Weighted rendezvous hashing: a server that leaves or comes moves its own clients only.
fn rendezvous(source: u64, id: EndpointId, weight: u32) -> u64 {
    let hash = scramble(source ^ scramble(u64::from(id.0)));
    // In (0, 1], so the logarithm is finite.
    let unit = (((hash >> 11) + 1) as f64) / ((1u64 << 53) as f64);
    // Larger is better; an order of positive floats is that of their bits.
    (f64::from(weight) / -unit.ln().min(-f64::MIN_POSITIVE)).to_bits()
}

fn may_serve(server: &ServerView, floor: Lsn) -> bool {
    // One that does not tell shows what is older than `blind`, which asks for no position.
    let blind = server.is_blind().then(Lsn::default);
    let reached = server.replayed().or(blind);
    server.standing == Standing::Fresh && reached.is_some_and(|lsn| lsn >= floor)
}

/// Why no replica could serve even a session without a mark; `None` when one could.
fn without_mark(snapshot: &ShardSnapshot) -> Option<ReadReason> {
    if snapshot.servers.len() < 2 {
        return Some(ReadReason::NoReplica);
    }
    let any = snapshot
        .servers
        .iter()
        .any(|server| may_serve(server, Lsn::default()));
    (!any).then_some(ReadReason::NoneEligible)
}

fn replica(snapshot: &ShardSnapshot, home: Home, may_move: bool) -> Pick {
    let seen = snapshot.servers[usize::from(home.endpoint.0)].seen;
    Pick {
        endpoint: home.endpoint,
        role: Role::Replica,
        reason: ReadReason::FreshReplica,
        home: Some(home),
        may_move,
        took_turn: false,
        as_of: seen.map(|seen| seen.started),
    }
}

/// The primary, unless it shall not serve in the place of replicas that are out.
fn or_primary(snapshot: &ShardSnapshot, reads: &ReadSettings, reason: ReadReason) -> Option<Pick> {
    match (reads.primary, reason) {
        (PrimaryReads::Never, ReadReason::NoneEligible) => None,
        (PrimaryReads::Never | PrimaryReads::WhenOut | PrimaryReads::Always, _) => {
            primary(snapshot, reason)
        }
    }
}

/// The primary, if there is one.
pub fn primary(snapshot: &ShardSnapshot, reason: ReadReason) -> Option<Pick> {
    snapshot.primary.map(|endpoint| Pick {
        endpoint,
        role: Role::Primary,
        reason,
        home: None,
        may_move: false,
        took_turn: false,
        as_of: None,
    })
}

#[cfg(test)]
mod scenarios;

#[cfg(test)]
mod tests {
    use super::super::history::Sample;
    use super::super::shard::{FULL_WEIGHT, Observation, Position};
    use super::*;

    fn server(standing: Standing, position: Position) -> ServerView {
        ServerView {
            standing,
            seen: Some(Observation {
                started: Instant::now(),
                system_id: None,
                timeline: None,
                position,
                is_blind: false,
            }),
            lag: None,
            lag_bytes: None,
            weight: FULL_WEIGHT,
            is_near: true,
            incarnation: 0,
            error: None,
        }
    }

    pub fn replica(standing: Standing, replayed: u64) -> ServerView {
        let replayed = Some(Lsn::new(replayed));
        server(standing, Position::Replica { replayed })
    }

    /// A primary with id 0 and `replicas` after it.
    pub fn shard(replicas: &[ServerView]) -> ShardSnapshot {
        let inserted = Lsn::new(1000);
        let mut servers = vec![server(Standing::Primary, Position::Primary { inserted })];
        servers.extend_from_slice(replicas);
        ShardSnapshot {
            at: Instant::now(),
            generation: 0,
            primary: Some(EndpointId(0)),
            servers,
            samples: Vec::new(),
        }
    }

    pub fn reads(balance: Balance, primary: PrimaryReads) -> ReadSettings {
        ReadSettings {
            split: true,
            balance,
            primary,
            ..ReadSettings::default()
        }
    }

    fn try_pick(
        snapshot: &ShardSnapshot,
        mark: &mut Mark,
        reads: &ReadSettings,
        turn: usize,
    ) -> Option<Pick> {
        let loads: Vec<_> = snapshot.servers.iter().map(|_| Load::default()).collect();
        let tiebreak = Tiebreak { turn, source: 7 };
        pick_read(snapshot, mark, reads, &loads, tiebreak)
    }

    fn pick(snapshot: &ShardSnapshot, mark: &mut Mark, turn: usize) -> (u16, ReadReason) {
        let reads = reads(Balance::RoundRobin, PrimaryReads::WhenOut);
        let pick = try_pick(snapshot, mark, &reads, turn).expect("a server");
        assert_eq!(
            (pick.role == Role::Primary, pick.home.is_none()),
            (
                snapshot.primary == Some(pick.endpoint),
                pick.role == Role::Primary
            )
        );
        (pick.endpoint.0, pick.reason)
    }

    /// How many of 1,000 reads each server gets.
    fn shares(snapshot: &ShardSnapshot, reads: &ReadSettings) -> Vec<usize> {
        let mut counts = vec![0; snapshot.servers.len()];
        for turn in 0..1000 {
            let pick = try_pick(snapshot, &mut Mark::default(), reads, turn).expect("a server");
            counts[usize::from(pick.endpoint.0)] += 1;
        }
        counts
    }

    #[test]
    fn shares_are_as_weights() {
        let mut snapshot = shard(&[
            replica(Standing::Fresh, 10),
            replica(Standing::Lagging, 10),
            replica(Standing::Fresh, 10),
        ]);
        snapshot.servers[3].weight = 3 * FULL_WEIGHT;
        let near = |count: usize, wanted: usize| count.abs_diff(wanted) < 30;
        for balance in [
            Balance::RoundRobin,
            Balance::Random,
            Balance::LeastConnections,
        ] {
            let counts = shares(&snapshot, &reads(balance, PrimaryReads::WhenOut));
            assert_eq!((counts[0], counts[2]), (0, 0), "{balance:?}");
            assert!(near(counts[1], 250), "{balance:?}: {counts:?}");
        }
        let counts = shares(&snapshot, &reads(Balance::RoundRobin, PrimaryReads::Always));
        assert!(near(counts[0], 200) && near(counts[1], 200), "{counts:?}");
        snapshot.servers[3].weight = 0;
        let counts = shares(&snapshot, &reads(Balance::Random, PrimaryReads::WhenOut));
        assert_eq!(counts, [0, 1000, 0, 0]);
    }

    #[test]
    fn equal_replicas_take_turns() {
        let snapshot = shard(&[replica(Standing::Fresh, 10), replica(Standing::Fresh, 10)]);
        let counts = shares(
            &snapshot,
            &reads(Balance::RoundRobin, PrimaryReads::WhenOut),
        );
        assert!(counts[1].abs_diff(counts[2]) <= 2, "{counts:?}");
    }

    #[test]
    fn a_source_stays_with_its_server_and_a_near_one_comes_first() {
        let mut snapshot = shard(&[
            replica(Standing::Fresh, 10),
            replica(Standing::Fresh, 10),
            replica(Standing::Fresh, 10),
        ]);
        let by_source = reads(Balance::SourceHash, PrimaryReads::WhenOut);
        let counts = shares(&snapshot, &by_source);
        assert_eq!(counts.iter().filter(|count| **count > 0).count(), 1);
        snapshot.servers[2].is_near = true;
        snapshot.servers[1].is_near = false;
        snapshot.servers[3].is_near = false;
        let by_turn = reads(Balance::RoundRobin, PrimaryReads::WhenOut);
        assert_eq!(shares(&snapshot, &by_turn), [0, 0, 1000, 0]);
        snapshot.servers[2].weight = 0;
        let counts = shares(&snapshot, &by_turn);
        assert!(counts[1] > 400 && counts[3] > 400, "{counts:?}");
    }

    #[test]
    fn the_less_busy_and_the_quicker_win() {
        let snapshot = shard(&[replica(Standing::Fresh, 10), replica(Standing::Fresh, 10)]);
        let loads: Vec<_> = (0..3).map(|_| Load::default()).collect();
        loads[1].reads.store(3, Relaxed);
        loads[1].took(100);
        loads[2].took(200);
        let won = |balance| {
            let reads = reads(balance, PrimaryReads::WhenOut);
            let picks = (0..100).map(|turn| {
                let tiebreak = Tiebreak { turn, source: 0 };
                pick_read(&snapshot, &mut Mark::default(), &reads, &loads, tiebreak)
                    .is_some_and(|pick| pick.endpoint == EndpointId(2))
            });
            picks.filter(|won| *won).count()
        };
        assert_eq!(won(Balance::LeastConnections), 100);
        assert!(won(Balance::Latency) > 60, "4 reads of 100 us wait longer");
    }

    #[test]
    fn without_a_fresh_replica_the_primary_serves_and_says_why() {
        assert_eq!(
            pick(&shard(&[]), &mut Mark::default(), 0),
            (0, ReadReason::NoReplica)
        );
        for standing in [
            Standing::Unknown,
            Standing::Down,
            Standing::Fenced,
            Standing::Lagging,
            Standing::Returning,
            Standing::Silent,
            Standing::Ejected,
            Standing::Foreign,
        ] {
            let snapshot = shard(&[replica(standing, 10)]);
            let expected = (0, ReadReason::NoneEligible);
            let mut mark = Mark::default();
            assert_eq!(pick(&snapshot, &mut mark, 0), expected, "{standing:?}");
            mark.wrote(Instant::now());
            assert_eq!(pick(&snapshot, &mut mark, 0), expected, "{standing:?}");
            let never = reads(Balance::RoundRobin, PrimaryReads::Never);
            assert_eq!(
                try_pick(&snapshot, &mut Mark::default(), &never, 0),
                None,
                "{standing:?}"
            );
        }
    }

    #[test]
    fn where_no_positions_are_told_time_has_to_do() {
        let start = Instant::now();
        let mut snapshot = shard(&[replica(Standing::Fresh, 0)]);
        for server in &mut snapshot.servers {
            let seen = server.seen.as_mut().expect("it was asked");
            seen.is_blind = true;
            if let Position::Replica { replayed } = &mut seen.position {
                *replayed = None;
            }
        }
        snapshot.at = start;
        assert_eq!(
            pick(&snapshot, &mut Mark::default(), 0),
            (1, ReadReason::FreshReplica)
        );
        let mut mark = Mark::default();
        mark.wrote(start);
        snapshot.at = start + ReadSettings::default().blind - Duration::from_millis(1);
        assert_eq!(
            pick(&snapshot, &mut mark, 0),
            (0, ReadReason::MarkUnresolved)
        );
        snapshot.at += Duration::from_millis(1);
        assert_eq!(pick(&snapshot, &mut mark, 0), (1, ReadReason::FreshReplica));
        // What a token asks for cannot be known to be there.
        mark.at_least(Lsn::new(1));
        assert_eq!(pick(&snapshot, &mut mark, 0), (0, ReadReason::NotCaughtUp));
    }

    #[test]
    fn without_a_primary_only_fresh_replicas_serve() {
        let mut snapshot = shard(&[replica(Standing::Fresh, 10)]);
        snapshot.primary = None;
        snapshot.servers[0].standing = Standing::Down;
        assert_eq!(pick(&snapshot, &mut Mark::default(), 0).0, 1);
        snapshot.servers[1].standing = Standing::Lagging;
        let reads = reads(Balance::RoundRobin, PrimaryReads::WhenOut);
        assert_eq!(try_pick(&snapshot, &mut Mark::default(), &reads, 0), None);
    }

    #[test]
    fn a_session_reads_its_own_write() {
        let written = Instant::now();
        let mut snapshot = shard(&[replica(Standing::Fresh, 490), replica(Standing::Fresh, 499)]);
        let mut mark = Mark::default();
        mark.wrote(written);
        assert_eq!(
            pick(&snapshot, &mut mark, 0),
            (0, ReadReason::MarkUnresolved)
        );
        snapshot.samples.push(Sample {
            lsn: Lsn::new(500),
            started: written + Duration::from_nanos(1),
        });
        assert_eq!(pick(&snapshot, &mut mark, 0), (0, ReadReason::NotCaughtUp));
        snapshot.servers[2] = replica(Standing::Fresh, 500);
        for turn in 0..3 {
            assert_eq!(
                pick(&snapshot, &mut mark, turn),
                (2, ReadReason::FreshReplica)
            );
        }
    }

    #[test]
    fn a_session_stays_where_it_read_until_another_is_known_to_be_as_far() {
        let start = Instant::now();
        let mut snapshot = shard(&[replica(Standing::Fresh, 400), replica(Standing::Fresh, 400)]);
        let reads = reads(Balance::RoundRobin, PrimaryReads::WhenOut);
        let mut mark = Mark::default();
        let first = try_pick(&snapshot, &mut mark, &reads, 0).expect("a replica");
        let home = first.endpoint.0;
        for turn in 0..10 {
            mark.read(start, first.home);
            assert_eq!(
                pick(&snapshot, &mut mark, turn),
                (home, ReadReason::FreshReplica)
            );
        }
        snapshot.samples.push(Sample {
            lsn: Lsn::new(450),
            started: start + Duration::from_nanos(1),
        });
        for turn in 0..10 {
            assert_eq!(
                pick(&snapshot, &mut mark, turn),
                (home, ReadReason::FreshReplica),
                "it shows what it showed, though the primary is further"
            );
        }
        snapshot.samples.clear();
        mark.read(start, first.home);
        let other = 3 - home;
        snapshot.servers[usize::from(home)].incarnation += 1;
        assert_eq!(pick(&snapshot, &mut mark, 0), (0, ReadReason::SeenNewer));
        snapshot.samples.push(Sample {
            lsn: Lsn::new(500),
            started: start + Duration::from_nanos(1),
        });
        assert_eq!(pick(&snapshot, &mut mark, 0), (0, ReadReason::NotCaughtUp));
        snapshot.servers[usize::from(other)] = replica(Standing::Fresh, 500);
        assert_eq!(
            pick(&snapshot, &mut mark, 0),
            (other, ReadReason::FreshReplica)
        );
    }

    #[test]
    fn a_session_moves_when_others_came_and_it_has_stayed_a_while() {
        let mut snapshot = shard(&[replica(Standing::Fresh, 400), replica(Standing::Down, 400)]);
        let reads = reads(Balance::RoundRobin, PrimaryReads::WhenOut);
        let mut mark = Mark::default();
        let first = try_pick(&snapshot, &mut mark, &reads, 0).expect("a replica");
        mark.read(snapshot.at, first.home);
        let moves = |snapshot: &ShardSnapshot, mark: &mut Mark| {
            let picks = (0..10).map(|turn| try_pick(snapshot, mark, &reads, turn));
            picks.flatten().any(|pick| pick.may_move)
        };
        snapshot.servers[2].standing = Standing::Fresh;
        snapshot.at += STAY;
        assert!(!moves(&snapshot, &mut mark), "the same generation");
        snapshot.generation += 1;
        assert!(moves(&snapshot, &mut mark));
        snapshot.at -= STAY;
        assert!(!moves(&snapshot, &mut mark), "too soon");
    }
}
