//! One shard's record over polls, losses and promotions.

use super::*;

const ONE: EndpointId = EndpointId(0);
const TWO: EndpointId = EndpointId(1);
const INTERVAL: Duration = Duration::from_millis(50);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn seen(started: Instant, timeline: u32, position: Position) -> Observation {
    Observation {
        started,
        system_id: Some(7),
        timeline: Some(timeline),
        position,
        is_blind: false,
    }
}

fn primary(started: Instant, timeline: u32, lsn: u64) -> Observation {
    let inserted = Lsn::new(lsn);
    seen(started, timeline, Position::Primary { inserted })
}

fn replica(started: Instant, timeline: u32, lsn: u64) -> Observation {
    let replayed = Some(Lsn::new(lsn));
    seen(started, timeline, Position::Replica { replayed })
}

fn record() -> ShardRecord {
    ShardRecord::new(Demands {
        max_lag: Some(ms(1000)),
        poll_interval: INTERVAL,
        return_after: 1,
        slow_start: ms(1000),
        outliers: None,
        servers: vec![(1, true); 2],
    })
}

#[track_caller]
fn check(record: &mut ShardRecord, now: Instant, expected: [Standing; 2]) {
    let snapshot = record.snapshot(now);
    let standings: Vec<_> = snapshot.servers.iter().map(|s| s.standing).collect();
    assert_eq!(standings, expected);
    let primary = standings.iter().position(|s| *s == Standing::Primary);
    assert_eq!(snapshot.primary.map(|id| usize::from(id.0)), primary);
}

#[test]
fn a_replica_serves_once_its_lag_is_known_and_small() {
    let (mut record, t) = (record(), Instant::now());
    check(&mut record, t, [Standing::Unknown, Standing::Unknown]);
    assert!(!record.is_polled());
    record.observe(TWO, replica(t, 1, 100));
    check(&mut record, t, [Standing::Unknown, Standing::Lagging]);
    record.observe(ONE, primary(t, 1, 100));
    check(&mut record, t, [Standing::Primary, Standing::Fresh]);
    assert!(record.is_polled());
}

#[test]
fn a_replica_behind_max_lag_leaves_and_returns() {
    let (mut record, t) = (record(), Instant::now());
    record.observe(ONE, primary(t, 1, 100));
    record.observe(TWO, replica(t, 1, 100));
    record.observe(ONE, primary(t + ms(900), 1, 200));
    check(
        &mut record,
        t + ms(1000),
        [Standing::Primary, Standing::Fresh],
    );
    check(
        &mut record,
        t + ms(1001),
        [Standing::Primary, Standing::Lagging],
    );
    let view = record.snapshot(t + ms(1001)).servers[1].clone();
    assert_eq!((view.lag, view.lag_bytes), (Some(ms(1001)), Some(100)));
    record.observe(TWO, replica(t + ms(1001), 1, 200));
    check(
        &mut record,
        t + ms(1001),
        [Standing::Primary, Standing::Fresh],
    );
}

#[test]
fn a_replica_that_owes_an_answer_is_silent_while_others_answer() {
    let (mut record, t) = (record(), Instant::now());
    record.observe(ONE, primary(t, 1, 100));
    record.observe(TWO, replica(t, 1, 100));
    record.ask(TWO, t + ms(50));
    record.ask(ONE, t + ms(50));
    // Nobody answers: it may be us.
    check(
        &mut record,
        t + ms(900),
        [Standing::Primary, Standing::Fresh],
    );
    record.observe(ONE, primary(t + ms(50), 1, 100));
    check(
        &mut record,
        t + ms(901),
        [Standing::Primary, Standing::Fresh],
    );
    record.observe(ONE, primary(t + ms(176), 1, 100));
    check(
        &mut record,
        t + ms(177),
        [Standing::Primary, Standing::Silent],
    );
    record.observe(TWO, replica(t + ms(50), 1, 100));
    let view = record.snapshot(t + ms(178)).servers[1].clone();
    assert_eq!((view.standing, view.weight), (Standing::Fresh, FULL_WEIGHT));
}

#[test]
fn lag_grows_while_the_primary_is_down() {
    let (mut record, t) = (record(), Instant::now());
    record.observe(ONE, primary(t, 1, 100));
    record.observe(TWO, replica(t, 1, 100));
    record.fail(ONE, t + ms(10), "gone".to_owned());
    check(&mut record, t + ms(1100), [Standing::Down, Standing::Fresh]);
    check(
        &mut record,
        t + ms(1101),
        [Standing::Down, Standing::Lagging],
    );
}

#[test]
fn a_promoted_server_wins_and_the_old_primary_stays_fenced() {
    let (mut record, t) = (record(), Instant::now());
    record.observe(ONE, primary(t, 1, 100));
    record.observe(TWO, replica(t, 1, 100));
    record.observe(TWO, primary(t + ms(1), 2, 90));
    check(&mut record, t, [Standing::Fenced, Standing::Primary]);
    assert_eq!(
        record.snapshot(t).samples.len(),
        1,
        "another timeline's positions"
    );
    record.fail(TWO, t + ms(2), "gone".to_owned());
    check(&mut record, t, [Standing::Fenced, Standing::Down]);
    record.observe(TWO, primary(t + ms(3), 2, 95));
    record.observe(ONE, primary(t + ms(3), 1, 100));
    check(&mut record, t, [Standing::Fenced, Standing::Primary]);
}

#[test]
fn of_two_primaries_on_one_timeline_the_incumbent_stays_even_when_it_goes() {
    let (mut record, t) = (record(), Instant::now());
    record.observe(TWO, primary(t, 1, 100));
    record.observe(ONE, primary(t, 1, 100));
    check(&mut record, t, [Standing::Fenced, Standing::Primary]);
    record.fail(TWO, t, "gone".to_owned());
    check(&mut record, t, [Standing::Fenced, Standing::Down]);
    record.observe(ONE, primary(t + ms(1), 1, 100));
    check(&mut record, t, [Standing::Fenced, Standing::Down]);
}

#[test]
fn a_fence_falls_on_promotion_or_when_the_primary_gives_way() {
    let t = Instant::now();
    let split = || {
        let mut record = record();
        record.observe(TWO, primary(t, 1, 100));
        record.observe(ONE, primary(t, 1, 100));
        record
    };
    let mut promoted = split();
    promoted.observe(ONE, primary(t + ms(1), 2, 100));
    check(&mut promoted, t, [Standing::Primary, Standing::Fenced]);

    let mut gave_way = split();
    gave_way.observe(TWO, replica(t + ms(1), 1, 100));
    check(&mut gave_way, t, [Standing::Primary, Standing::Lagging]);
}

#[test]
fn a_server_that_was_never_a_rival_may_take_over_on_the_same_timeline() {
    let (mut record, t) = (record(), Instant::now());
    record.observe(ONE, primary(t, 1, 100));
    record.fail(TWO, t, "storage is elsewhere".to_owned());
    record.fail(ONE, t + ms(1), "gone".to_owned());
    record.observe(TWO, primary(t + ms(2), 1, 100));
    check(&mut record, t, [Standing::Down, Standing::Primary]);
}

#[test]
fn a_replica_of_another_timeline_or_system_is_foreign() {
    let t = Instant::now();
    let mut other_system = replica(t, 2, 500);
    other_system.system_id = Some(8);
    for foreign in [replica(t, 1, 500), other_system] {
        let mut record = record();
        record.observe(ONE, primary(t, 2, 100));
        record.observe(TWO, foreign);
        check(&mut record, t, [Standing::Primary, Standing::Foreign]);
    }
}

#[test]
fn a_replica_that_follows_a_newer_timeline_fences_the_old_primary() {
    let (mut record, t) = (record(), Instant::now());
    record.observe(ONE, primary(t, 1, 100));
    record.observe(TWO, replica(t, 2, 100));
    check(&mut record, t, [Standing::Fenced, Standing::Lagging]);
}

#[test]
fn another_system_takes_over_only_when_it_appears_after_the_old_one() {
    let t = Instant::now();
    let mut rebuilt = primary(t + ms(2), 1, 10);
    rebuilt.system_id = Some(8);

    let mut beside = record();
    beside.observe(ONE, primary(t, 3, 100));
    beside.observe(TWO, rebuilt);
    check(&mut beside, t, [Standing::Primary, Standing::Fenced]);
    beside.fail(ONE, t + ms(1), "gone".to_owned());
    check(&mut beside, t, [Standing::Down, Standing::Fenced]);

    let mut after = record();
    after.observe(ONE, primary(t, 3, 100));
    after.fail(ONE, t + ms(1), "gone".to_owned());
    after.observe(TWO, rebuilt);
    check(&mut after, t, [Standing::Down, Standing::Primary]);
}

#[test]
fn a_poll_sent_before_a_failure_does_not_undo_it() {
    let (mut record, t) = (record(), Instant::now());
    record.observe(ONE, primary(t, 1, 100));
    record.fail(ONE, t + ms(10), "refused".to_owned());
    record.observe(ONE, primary(t + ms(9), 1, 100));
    check(&mut record, t, [Standing::Down, Standing::Unknown]);
    assert!(record.is_down(ONE));
    record.observe(ONE, primary(t + ms(11), 1, 100));
    check(&mut record, t, [Standing::Primary, Standing::Unknown]);
}

#[test]
fn identifiers_that_may_not_be_read_are_taken_on_trust() {
    let (mut record, t) = (record(), Instant::now());
    let blind = |mut seen: Observation| {
        seen.system_id = None;
        seen
    };
    let mut silent = blind(replica(t, 1, 100));
    silent.timeline = None;
    record.observe(ONE, blind(primary(t, 4, 100)));
    record.observe(TWO, silent);
    check(&mut record, t, [Standing::Primary, Standing::Fresh]);
}

#[test]
fn a_replica_that_was_down_returns_after_some_answers_and_slowly() {
    let t = Instant::now();
    let mut record = ShardRecord::new(Demands {
        return_after: 2,
        ..record().demands
    });
    let at = |record: &mut ShardRecord, now| {
        record.observe(ONE, primary(now, 1, 100));
        record.observe(TWO, replica(now, 1, 100));
        let view = record.snapshot(now).servers[1].clone();
        (view.standing, view.weight, view.incarnation)
    };
    assert_eq!(at(&mut record, t), (Standing::Fresh, FULL_WEIGHT, 0));
    record.fail(TWO, t + ms(10), "gone".to_owned());
    record.snapshot(t + ms(10));
    assert_eq!(
        at(&mut record, t + ms(20)),
        (Standing::Returning, FULL_WEIGHT, 1)
    );
    assert_eq!(
        at(&mut record, t + ms(30)),
        (Standing::Fresh, FULL_WEIGHT / 10, 1)
    );
    assert_eq!(
        at(&mut record, t + ms(530)),
        (Standing::Fresh, FULL_WEIGHT / 2, 1)
    );
    assert_eq!(
        at(&mut record, t + ms(1030)),
        (Standing::Fresh, FULL_WEIGHT, 1)
    );
}

#[test]
fn a_replica_that_lagged_has_to_come_nearer_than_that() {
    let (mut record, t) = (record(), Instant::now());
    record.observe(ONE, primary(t, 1, 100));
    record.observe(TWO, replica(t, 1, 100));
    record.observe(ONE, primary(t + ms(1200), 1, 200));
    let all = |standing| [Standing::Primary, standing];
    check(&mut record, t + ms(1200), all(Standing::Lagging));
    record.observe(ONE, primary(t + ms(2000), 1, 300));
    record.observe(TWO, replica(t + ms(2000), 1, 200));
    check(&mut record, t + ms(2100), all(Standing::Lagging));
    check(&mut record, t + ms(2000), all(Standing::Fresh));
    check(&mut record, t + ms(2100), all(Standing::Fresh));
}

/// Pgpool #131: after a failover the positions of two timelines were compared.
#[test]
fn after_a_promotion_nobody_is_behind_by_positions_of_the_timeline_before() {
    let mut record = ShardRecord::new(Demands {
        servers: vec![(1, true); 3],
        ..record().demands
    });
    let (t, three) = (Instant::now(), EndpointId(2));
    record.observe(ONE, primary(t, 1, 1 << 40));
    record.observe(TWO, replica(t, 1, 1000));
    record.observe(three, replica(t, 1, 1000));
    record.fail(ONE, t + ms(1), "gone".to_owned());
    record.observe(TWO, primary(t + ms(2), 2, 1200));
    let view = |record: &mut ShardRecord, now| {
        let snapshot = record.snapshot(now);
        let view = snapshot.servers[2].clone();
        (view.standing, view.lag_bytes)
    };
    // It follows the old timeline still.
    assert_eq!(view(&mut record, t + ms(2)).0, Standing::Foreign);
    record.observe(three, replica(t + ms(3), 2, 1100));
    assert_eq!(
        view(&mut record, t + ms(3)),
        (Standing::Lagging, Some(100)),
        "what the new primary had at first it has not reached"
    );
    record.observe(three, replica(t + ms(4), 2, 1200));
    assert_eq!(view(&mut record, t + ms(4)), (Standing::Fresh, Some(0)));
}
