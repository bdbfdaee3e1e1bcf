//! The generator against a table of workers in memory that does as [`own`](super::own) says, with
//! clocks that step and leases that change hands.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const L: i64 = LEASE.as_millis() as i64;

/// `ringway.worker`, with few rows, so that workers change hands often.
struct Table {
    rows: Vec<(usize, i64)>,
    clock: i64,
}

impl Table {
    fn renew(&mut self, owner: usize, worker: i32, promised: i64) -> Option<Leased> {
        let clock = self.clock;
        let row = &mut self.rows[worker as usize];
        if row.0 != owner {
            return None;
        }
        row.1 = row.1.max(promised).max(clock + L);
        Some(Leased {
            worker,
            until_ms: row.1,
            now_ms: clock,
        })
    }

    fn lease(&mut self, owner: usize) -> Option<Leased> {
        let clock = self.clock;
        let free = (0..self.rows.len()).filter(|at| self.rows[*at].1 <= clock);
        let worker = free.min_by_key(|at| self.rows[*at].1)?;
        self.rows[worker] = (owner, clock + L);
        Some(Leased {
            worker: worker as i32,
            until_ms: clock + L,
            now_ms: clock,
        })
    }
}

#[derive(Debug, Clone)]
enum Event {
    /// Of the process, ids.
    Draw(usize, usize),
    /// Time passes, for everybody.
    Pass(u64),
    /// The server's clock is set forward or back.
    Step(i64),
    /// A process ends, and another begins in its place.
    Restart(usize),
    /// Somebody takes a row that is not free, though nobody should.
    Steal(usize),
}

const PROCESSES: usize = 3;

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..PROCESSES, prop_oneof![4 => Just(1_usize), 1 => Just(5000)])
            .prop_map(|(process, count)| Event::Draw(process, count)),
        6 => prop_oneof![0_u64..5, 0..2 * L as u64].prop_map(Event::Pass),
        2 => (-3 * L..3 * L).prop_map(Event::Step),
        1 => (0..PROCESSES).prop_map(Event::Restart),
        1 => (0..8_usize).prop_map(Event::Steal),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_id_is_given_twice(events in prop::collection::vec(event(), 1..60)) {
        let start = Instant::now();
        let mut now = start;
        let mut table = Table { rows: vec![(usize::MAX, 0); 8], clock: 1_000_000 };
        let mut owners = PROCESSES;
        let mut processes: Vec<(usize, Generator)> =
            (0..PROCESSES).map(|owner| (owner, Generator::default())).collect();
        let mut seen = HashSet::new();
        for event in events {
            match event {
                Event::Pass(ms) => {
                    now += Duration::from_millis(ms);
                    table.clock += ms as i64;
                }
                Event::Step(ms) => table.clock = (table.clock + ms).max(1000),
                Event::Restart(process) => {
                    processes[process] = (owners, Generator::default());
                    owners += 1;
                }
                Event::Steal(worker) => table.rows[worker].0 = usize::MAX,
                Event::Draw(process, count) => {
                    let (owner, generator) = &mut processes[process];
                    let mut ids = Vec::new();
                    let enough = generator.take(now, count, &mut ids);
                    if !enough || generator.left(now) < RENEW_BELOW_MS {
                        // As `lease_at` does.
                        if let Some((worker, promised)) = generator.renewal() {
                            match table.renew(*owner, worker, promised) {
                                Some(leased) => generator.leased(leased, now),
                                None => generator.lost(),
                            }
                        }
                        if generator.left(now) < RENEW_BELOW_MS
                            && let Some(leased) = table.lease(*owner)
                        {
                            generator.leased(leased, now);
                        }
                        generator.take(now, count, &mut ids);
                    }
                    for id in ids {
                        prop_assert!(id > 0);
                        prop_assert!(seen.insert(id), "{id} twice");
                    }
                }
            }
        }
    }
}

fn lease(worker: i32, now_ms: i64) -> Leased {
    Leased {
        worker,
        until_ms: now_ms + L,
        now_ms,
    }
}

#[test]
fn an_id_has_its_time_its_worker_and_its_place() {
    let mut generator = Generator::default();
    let now = Instant::now();
    let mut ids = Vec::new();
    assert!(!generator.take(now, 1, &mut ids), "without a lease");
    generator.leased(lease(1023, 5000), now);
    assert!(generator.take(now + Duration::from_millis(7), 2, &mut ids));
    let id = |ms: i64, sequence: i64| ms << 22 | 1023 << 12 | sequence;
    assert_eq!(ids, [id(5007, 0), id(5007, 1)]);
}

#[test]
fn a_full_millisecond_goes_on_in_the_next() {
    let mut generator = Generator::default();
    let now = Instant::now();
    generator.leased(lease(0, 5000), now);
    let mut ids = Vec::new();
    assert!(generator.take(now, 4097, &mut ids));
    assert_eq!(ids[4095] >> 22, 5000);
    assert_eq!(ids[4096], 5001 << 22);
    assert!(ids.is_sorted());
}

#[test]
fn a_lease_that_may_have_ended_gives_nothing() {
    let mut generator = Generator::default();
    let now = Instant::now();
    generator.leased(lease(0, 5000), now);
    let mut ids = Vec::new();
    assert!(generator.take(now + LEASE - Duration::from_millis(1), 1, &mut ids));
    assert!(!generator.take(now + LEASE, 1 + ids.len(), &mut ids));
    generator.lost();
    assert!(!generator.take(now, 1 + ids.len(), &mut ids));
}

#[test]
fn a_clock_set_back_does_not_take_ids_back() {
    let mut generator = Generator::default();
    let now = Instant::now();
    generator.leased(lease(0, 5000), now);
    let mut ids = Vec::new();
    assert!(generator.take(now + Duration::from_millis(900), 1, &mut ids));
    let renewed = Leased {
        now_ms: 1000,
        ..lease(0, 5000)
    };
    generator.leased(renewed, now + Duration::from_millis(901));
    assert!(generator.take(now + Duration::from_millis(902), 2, &mut ids));
    assert_eq!(ids[1], ids[0] + 1, "it goes on where it was");
}
