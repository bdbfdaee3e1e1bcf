//! Loads over a simulated time: what each server gets of ten thousand reads, also when one of them gets
//! slow, comes back, or goes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::tests::{reads, replica, shard};
use super::*;
use crate::cluster::shard::FULL_WEIGHT;

const READS: usize = 10_000;
/// Between two reads that come, in µs.
const APART: u64 = 100;
/// What a read takes, in µs: three servers are half busy with it.
const USUAL: u64 = 1_500;
const SLOW: u64 = 15_000;

/// Replicas with these weights, and their loads.
struct Scene {
    snapshot: ShardSnapshot,
    loads: Vec<Load>,
    reads: ReadSettings,
    turn: usize,
    now: u64,
    /// When a read under way ends, where, and how long it has taken then.
    under_way: BinaryHeap<Reverse<(u64, usize, u64)>>,
}

impl Scene {
    fn new(balance: Balance, weights: &[u32]) -> Self {
        let mut snapshot = shard(&vec![replica(Standing::Fresh, 10); weights.len()]);
        for (server, weight) in snapshot.servers[1..].iter_mut().zip(weights) {
            server.weight = weight * FULL_WEIGHT;
        }
        let loads = snapshot.servers.iter().map(|_| Load::default()).collect();
        Self {
            snapshot,
            loads,
            reads: reads(balance, PrimaryReads::WhenOut),
            turn: 0,
            now: 0,
            under_way: BinaryHeap::new(),
        }
    }

    /// So many reads of new sessions, each from another address; what share of them each server got, in
    /// percent. A read takes `time` of its server.
    fn run(&mut self, count: usize, time: impl Fn(usize) -> u64) -> Vec<f64> {
        let mut counts = vec![0; self.snapshot.servers.len()];
        for _ in 0..count {
            self.now += APART;
            self.end_reads();
            let tiebreak = Tiebreak {
                turn: self.turn,
                source: scramble(self.turn as u64),
            };
            self.turn += 1;
            let mark = &mut Mark::default();
            let pick = pick_read(&self.snapshot, mark, &self.reads, &self.loads, tiebreak);
            let at = usize::from(pick.expect("a server").endpoint.0);
            counts[at] += 1;
            self.loads[at].reads.fetch_add(1, Relaxed);
            let took = time(at);
            self.under_way.push(Reverse((self.now + took, at, took)));
        }
        let all: usize = counts.iter().sum();
        counts
            .iter()
            .map(|own| *own as f64 * 100.0 / all as f64)
            .collect()
    }

    fn end_reads(&mut self) {
        while let Some(Reverse((end, at, took))) = self.under_way.peek().copied()
            && end <= self.now
        {
            self.under_way.pop();
            self.loads[at].reads.fetch_sub(1, Relaxed);
            self.loads[at].took(took as u32);
        }
    }
}

const ALL: [Balance; 5] = [
    Balance::RoundRobin,
    Balance::LeastConnections,
    Balance::Random,
    Balance::SourceHash,
    Balance::Latency,
];

/// Shares within so many points; the primary's is first.
#[track_caller]
fn check(found: &[f64], expected: &[f64], points: f64, what: Balance) {
    let is_near = |(found, expected): (&f64, &f64)| (found - expected).abs() <= points;
    assert_eq!(found.len(), expected.len());
    assert!(
        found.iter().zip(expected).all(is_near),
        "{what:?}: {found:?} for {expected:?}"
    );
}

#[test]
fn ten_thousand_reads_are_shared_by_weight() {
    for balance in ALL {
        let found = Scene::new(balance, &[1, 1, 1]).run(READS, |_| USUAL);
        check(&found, &[0.0, 33.3, 33.3, 33.3], 2.0, balance);
        let found = Scene::new(balance, &[1, 2, 5]).run(READS, |_| USUAL);
        check(&found, &[0.0, 12.5, 25.0, 62.5], 5.0, balance);
        let found = Scene::new(balance, &[3, 0, 1]).run(READS, |_| USUAL);
        check(&found, &[0.0, 75.0, 0.0, 25.0], 5.0, balance);
    }
}

#[test]
fn the_primary_takes_its_share_where_it_always_reads() {
    for balance in ALL {
        let mut scene = Scene::new(balance, &[1, 1]);
        scene.reads.primary = PrimaryReads::Always;
        let found = scene.run(READS, |_| USUAL);
        check(&found, &[33.3, 33.3, 33.3], 2.0, balance);
    }
}

/// PgDog #217: who came after one that was out got its share too.
#[test]
fn what_an_absent_replica_leaves_is_shared_by_all() {
    for balance in ALL {
        for absent in 1..=4 {
            let mut scene = Scene::new(balance, &[1, 1, 1, 1]);
            scene.snapshot.servers[absent].standing = Standing::Lagging;
            let mut expected = [0.0, 33.3, 33.3, 33.3, 33.3];
            expected[absent] = 0.0;
            check(&scene.run(READS, |_| USUAL), &expected, 2.0, balance);
        }
    }
}

#[test]
fn a_replica_that_gets_slow_gets_less_and_its_share_back_later() {
    let slow_one = |at: usize| if at == 2 { SLOW } else { USUAL };
    for balance in ALL {
        let mut scene = Scene::new(balance, &[1, 1, 1]);
        scene.run(READS / 4, |_| USUAL);
        let slow = scene.run(READS / 4, slow_one)[2];
        scene.run(READS / 4, |_| USUAL);
        let after = scene.run(READS / 4, |_| USUAL);
        match is_by_load(balance) {
            true => assert!(slow < 15.0, "{balance:?}: {slow}"),
            false => assert!((slow - 33.3).abs() < 2.0, "{balance:?}: {slow}"),
        }
        check(&after, &[0.0, 33.3, 33.3, 33.3], 4.0, balance);
    }
}

/// Of a server that has not answered yet nobody knows that it is quick.
#[test]
fn a_replica_that_is_new_and_hangs_gets_no_more_than_others() {
    let hangs = |at: usize| if at == 3 { 10_000_000 } else { USUAL };
    for balance in [Balance::LeastConnections, Balance::Latency] {
        let mut scene = Scene::new(balance, &[1, 1, 1]);
        scene.snapshot.servers[3].standing = Standing::Down;
        scene.run(READS / 10, |_| USUAL);
        scene.snapshot.servers[3].standing = Standing::Fresh;
        let new = scene.run(READS / 10, hangs)[3];
        // Drawn twice it is chosen all the same: so one that was slow is found to be quick again.
        assert!(new < 15.0, "{balance:?}: {new}");
    }
}

#[test]
fn one_that_returns_gets_the_part_that_its_slow_start_says() {
    for balance in ALL {
        let mut scene = Scene::new(balance, &[1, 1, 1]);
        for (weight, expected) in [
            (FULL_WEIGHT / 10, [0.0, 4.8, 47.6, 47.6]),
            (FULL_WEIGHT / 2, [0.0, 20.0, 40.0, 40.0]),
            (FULL_WEIGHT, [0.0, 33.3, 33.3, 33.3]),
        ] {
            scene.snapshot.servers[1].weight = weight;
            check(&scene.run(READS, |_| USUAL), &expected, 5.0, balance);
        }
    }
}

#[test]
fn the_nearest_zone_comes_first_as_long_as_it_has_a_server() {
    for balance in ALL {
        let mut scene = Scene::new(balance, &[1, 3, 2, 2]);
        for far in [3, 4] {
            scene.snapshot.servers[far].is_near = false;
        }
        let found = scene.run(READS, |_| USUAL);
        check(&found, &[0.0, 25.0, 75.0, 0.0, 0.0], 5.0, balance);
        scene.snapshot.servers[2].standing = Standing::Silent;
        let found = scene.run(READS, |_| USUAL);
        check(&found, &[0.0, 100.0, 0.0, 0.0, 0.0], 0.0, balance);
        scene.snapshot.servers[1].standing = Standing::Ejected;
        let found = scene.run(READS, |_| USUAL);
        check(&found, &[0.0, 0.0, 0.0, 50.0, 50.0], 2.0, balance);
    }
}

#[test]
fn an_address_moves_only_when_its_server_goes_or_a_new_one_takes_it() {
    let of = |scene: &Scene, source: u64| {
        let tiebreak = Tiebreak { turn: 0, source };
        let mark = &mut Mark::default();
        let pick = pick_read(&scene.snapshot, mark, &scene.reads, &scene.loads, tiebreak);
        pick.expect("a server").endpoint.0
    };
    let mut scene = Scene::new(Balance::SourceHash, &[1, 1, 1]);
    let sources = || (0..READS as u64).map(scramble);
    let before: Vec<_> = sources().map(|source| of(&scene, source)).collect();
    scene.snapshot.servers[2].standing = Standing::Down;
    for (source, before) in sources().zip(before) {
        let now = of(&scene, source);
        assert!(now == before || before == 2, "{source}: {before} to {now}");
    }
}
