//! Which server answers a read. Pure: a snapshot, a session's mark and a tiebreak in, a server out.

use super::history::bound;
use super::lsn::Lsn;
use super::shard::{EndpointId, ServerView, ShardSnapshot, Standing};
use crate::net::Instant;

/// How fresh one session needs one shard to be, so that it reads its own writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark(State);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// The session has not written.
    #[default]
    Unset,
    /// It wrote, and no sample of the primary's position has bounded the write yet.
    Wrote(Instant),
    /// A server that has replayed this far shows the write. Kept as a floor for later reads.
    Bound(Lsn),
}

impl Mark {
    /// The session's transaction that may have written ended at `now`, commit and rollback alike.
    pub fn wrote(&mut self, now: Instant) {
        self.0 = State::Wrote(now);
    }

    /// Uses the samples to bound a write that is not bounded yet.
    fn resolve(&mut self, snapshot: &ShardSnapshot) {
        if let State::Wrote(at) = self.0
            && let Some(lsn) = bound(&snapshot.samples, at)
        {
            self.0 = State::Bound(lsn);
        }
    }
}

/// The server chosen for a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    pub endpoint: EndpointId,
    pub role: Role,
    pub reason: ReadReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica,
}

/// Why a read goes where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadReason {
    /// A replica within `max_lag` that has replayed the session's own writes.
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
        }
    }

    /// True when a replica may serve the session a moment later.
    pub fn passes_with_time(self) -> bool {
        match self {
            Self::MarkUnresolved | Self::NotCaughtUp => true,
            Self::FreshReplica | Self::SplitOff | Self::NoReplica | Self::NoneEligible => false,
        }
    }
}

/// Chooses the server for a read: the replicas that are fresh enough take turns by `tiebreak`,
/// else the primary serves. `None` when there is no primary either.
pub fn pick_read(snapshot: &ShardSnapshot, mark: &mut Mark, tiebreak: usize) -> Option<Pick> {
    mark.resolve(snapshot);
    let floor = match mark.0 {
        State::Unset => Lsn::default(),
        State::Bound(lsn) => lsn,
        State::Wrote(_) => {
            let reason = without_mark(snapshot).unwrap_or(ReadReason::MarkUnresolved);
            return primary(snapshot, reason);
        }
    };
    let serves = |server: &ServerView| may_serve(server, floor);
    let count = snapshot.servers.iter().filter(|s| serves(s)).count();
    if count == 0 {
        let reason = without_mark(snapshot).unwrap_or(ReadReason::NotCaughtUp);
        return primary(snapshot, reason);
    }
    let mut serving = (0..).zip(&snapshot.servers).filter(|(_, s)| serves(s));
    let (id, _) = serving.nth(tiebreak % count)?;
    Some(Pick {
        endpoint: EndpointId(id),
        role: Role::Replica,
        reason: ReadReason::FreshReplica,
    })
}

fn may_serve(server: &ServerView, floor: Lsn) -> bool {
    server.standing == Standing::Fresh && server.replayed().is_some_and(|lsn| lsn >= floor)
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

/// The primary, if there is one.
pub fn primary(snapshot: &ShardSnapshot, reason: ReadReason) -> Option<Pick> {
    snapshot.primary.map(|endpoint| Pick {
        endpoint,
        role: Role::Primary,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::history::Sample;
    use super::super::shard::{Observation, Position};
    use super::*;

    fn server(standing: Standing, position: Position) -> ServerView {
        ServerView {
            standing,
            seen: Some(Observation {
                started: Instant::now(),
                system_id: None,
                timeline: None,
                position,
            }),
            lag: None,
            lag_bytes: None,
            error: None,
        }
    }

    fn replica(standing: Standing, replayed: u64) -> ServerView {
        let replayed = Some(Lsn::new(replayed));
        server(standing, Position::Replica { replayed })
    }

    /// A primary with id 0 and `replicas` after it.
    fn shard(replicas: &[ServerView]) -> ShardSnapshot {
        let inserted = Lsn::new(1000);
        let mut servers = vec![server(Standing::Primary, Position::Primary { inserted })];
        servers.extend_from_slice(replicas);
        ShardSnapshot {
            primary: Some(EndpointId(0)),
            servers,
            samples: Vec::new(),
        }
    }

    fn pick(snapshot: &ShardSnapshot, mut mark: Mark, tiebreak: usize) -> (u16, ReadReason) {
        let pick = pick_read(snapshot, &mut mark, tiebreak).expect("a server");
        let primary = snapshot.primary == Some(pick.endpoint);
        assert_eq!(pick.role == Role::Primary, primary);
        (pick.endpoint.0, pick.reason)
    }

    #[test]
    fn fresh_replicas_take_turns() {
        let snapshot = shard(&[
            replica(Standing::Fresh, 10),
            replica(Standing::Lagging, 10),
            replica(Standing::Fresh, 10),
        ]);
        let turns: Vec<_> = (0..4)
            .map(|n| pick(&snapshot, Mark::default(), n).0)
            .collect();
        assert_eq!(turns, [1, 3, 1, 3]);
        assert_eq!(pick(&snapshot, Mark::default(), usize::MAX).0, 3);
    }

    #[test]
    fn without_a_fresh_replica_the_primary_serves_and_says_why() {
        assert_eq!(
            pick(&shard(&[]), Mark::default(), 0),
            (0, ReadReason::NoReplica)
        );
        for standing in [
            Standing::Unknown,
            Standing::Down,
            Standing::Fenced,
            Standing::Lagging,
            Standing::Foreign,
        ] {
            let snapshot = shard(&[replica(standing, 10)]);
            let expected = (0, ReadReason::NoneEligible);
            assert_eq!(
                pick(&snapshot, Mark::default(), 0),
                expected,
                "{standing:?}"
            );
            let mut wrote = Mark::default();
            wrote.wrote(Instant::now());
            assert_eq!(pick(&snapshot, wrote, 0), expected, "{standing:?}, marked");
        }
    }

    #[test]
    fn without_a_primary_only_fresh_replicas_serve() {
        let mut snapshot = shard(&[replica(Standing::Fresh, 10)]);
        snapshot.primary = None;
        snapshot.servers[0].standing = Standing::Down;
        assert_eq!(pick(&snapshot, Mark::default(), 0).0, 1);
        snapshot.servers[1].standing = Standing::Lagging;
        assert_eq!(pick_read(&snapshot, &mut Mark::default(), 0), None);
    }

    #[test]
    fn a_session_reads_its_own_write() {
        let written = Instant::now();
        let mut snapshot = shard(&[replica(Standing::Fresh, 490), replica(Standing::Fresh, 499)]);
        let mut mark = Mark::default();
        mark.wrote(written);

        // A sample that was under way when the write ended proves nothing.
        snapshot.samples = vec![Sample {
            lsn: Lsn::new(400),
            started: written,
        }];
        let reason = pick_read(&snapshot, &mut mark, 0).map(|pick| pick.reason);
        assert_eq!(reason, Some(ReadReason::MarkUnresolved));

        snapshot.samples.push(Sample {
            lsn: Lsn::new(500),
            started: written + Duration::from_nanos(1),
        });
        let reason = pick_read(&snapshot, &mut mark, 0).map(|pick| pick.reason);
        assert_eq!(reason, Some(ReadReason::NotCaughtUp));

        // Later samples do not raise the floor.
        snapshot.samples.push(Sample {
            lsn: Lsn::new(900),
            started: written + Duration::from_secs(1),
        });
        snapshot.servers[2] = replica(Standing::Fresh, 500);
        for tiebreak in 0..3 {
            assert_eq!(
                pick(&snapshot, mark, tiebreak),
                (2, ReadReason::FreshReplica)
            );
        }
        // Another session has no such floor.
        assert_eq!(pick(&snapshot, Mark::default(), 0).0, 1);

        mark.wrote(written + Duration::from_secs(2));
        assert_eq!(pick(&snapshot, mark, 0), (0, ReadReason::MarkUnresolved));
    }
}
