//! Waiting and publishing, with observations fed by hand instead of by monitor tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use planner::topology::ShardWeight;
use planner::{ShardId, Topology};

use super::shard::{Observation, Position};
use super::{Cluster, EndpointId, Lsn, Mark, Pick, ReadReason, Standing};
use crate::config::{
    Database, Endpoint, Freshness, PoolSettings, ReadSettings, ServerUser, Shard, TlsMode,
};
use crate::net::Instant;

const SHARD: ShardId = ShardId(0);
const PRIMARY: EndpointId = EndpointId(0);
const REPLICA: EndpointId = EndpointId(1);
/// Ends a test that would wait forever.
const LONG: Duration = Duration::from_secs(30);

fn database(split: bool, max_wait: Duration) -> Database {
    let second = Duration::from_secs(1);
    let endpoint = |host: &str| Endpoint {
        host: host.to_owned(),
        port: 5432,
    };
    Database {
        policies: crate::config::Policies::default(),
        commits: crate::config::CommitSettings::default(),
        name: "shop".to_owned(),
        tcp: Default::default(),
        pool: PoolSettings {
            reuse_unnamed: false,
            size: 1,
            checkout_timeout: second,
            connect_timeout: second,
            ..PoolSettings::default()
        },
        server_user: None,
        monitor_user: None,
        auth_query: None,
        server_tls: TlsMode::Disable,
        server_ca: None,
        server_certificate: None,
        server_tls_digest: 0,
        reads: ReadSettings {
            split,
            max_lag: LONG,
            max_wait,
            poll_interval: second,
            return_after: 1,
            ..ReadSettings::default()
        },
        shards: vec![Shard {
            id: SHARD,
            name: "north".to_owned(),
            dbname: "shop".to_owned(),
            endpoints: vec![endpoint("one.invalid"), endpoint("two.invalid")],
        }],
        topology: Topology::new(
            vec![ShardWeight {
                name: "north".to_owned(),
                weight: 1,
            }],
            &[],
        ),
        functions: BTreeMap::new(),
        tables: BTreeMap::new(),
        default_ids: BTreeMap::new(),
        schemas: BTreeMap::new(),
    }
}

fn cluster(split: bool) -> Arc<Cluster> {
    waiting(split, LONG)
}

fn waiting(split: bool, max_wait: Duration) -> Arc<Cluster> {
    start(database(split, max_wait))
}

fn start(database: Database) -> Arc<Cluster> {
    let user = ServerUser {
        name: "monitor".to_owned(),
        secret: crate::config::ServerSecret::None,
    };
    let metrics = crate::metrics::Metrics::new().database("shop");
    Arc::new(Cluster::new(Arc::new(database), Some(&user), None, metrics))
}

/// Feeds one poll that was started just now.
fn observe(cluster: &Cluster, endpoint: EndpointId, position: Position) {
    let seen = Observation {
        started: Instant::now(),
        system_id: Some(7),
        timeline: Some(1),
        position,
        is_blind: false,
    };
    cluster.observed(SHARD, endpoint, seen);
}

fn primary_at(cluster: &Cluster, lsn: u64) {
    let inserted = Lsn::new(lsn);
    observe(cluster, PRIMARY, Position::Primary { inserted });
}

fn replica_at(cluster: &Cluster, lsn: u64) {
    let replayed = Some(Lsn::new(lsn));
    observe(cluster, REPLICA, Position::Replica { replayed });
}

fn pick(cluster: &Cluster, mark: &mut Mark) -> Option<Pick> {
    cluster.pick_read(SHARD, mark, 0)
}

async fn wait_fresh(cluster: &Cluster, mark: &mut Mark) -> Option<(EndpointId, ReadReason)> {
    let first = pick(cluster, mark)?;
    let pick = cluster.wait_fresh(SHARD, mark, 0, first).await;
    pick.map(|pick| (pick.endpoint, pick.reason))
}

#[tokio::test]
async fn a_statement_is_held_until_a_primary_appears() {
    let cluster = cluster(true);
    let deadline = Instant::now() + LONG;
    let promotion = async { primary_at(&cluster, 1) };
    let (found, ()) = tokio::join!(cluster.primary_or_wait(SHARD, deadline), promotion);
    assert_eq!(found.ok(), Some(PRIMARY));
}

#[tokio::test]
async fn without_a_primary_the_error_names_the_shard_and_its_servers() {
    let cluster = cluster(true);
    replica_at(&cluster, 1);
    cluster.checkout_failed(SHARD, PRIMARY, "connection refused".to_owned());
    let error = cluster.primary_or_wait(SHARD, Instant::now()).await;
    let error = error.expect_err("nobody is primary");
    assert_eq!(error.code, "57P03");
    assert_eq!(error.message, "shard \"north\" has no primary");
    assert_eq!(
        error.detail.as_deref(),
        Some("Its servers: one.invalid:5432 is down; two.invalid:5432 is lagging.")
    );
}

#[tokio::test]
async fn a_session_waits_for_a_replica_to_replay_its_write() {
    let cluster = cluster(true);
    primary_at(&cluster, 100);
    replica_at(&cluster, 100);
    let mut mark = Mark::default();
    mark.wrote(Instant::now());
    let replay = async {
        primary_at(&cluster, 200);
        tokio::task::yield_now().await;
        replica_at(&cluster, 200);
    };
    let (pick, ()) = tokio::join!(wait_fresh(&cluster, &mut mark), replay);
    assert_eq!(pick, Some((REPLICA, ReadReason::FreshReplica)));
}

#[tokio::test]
async fn when_the_wait_is_over_the_primary_serves() {
    let cluster = waiting(true, Duration::ZERO);
    primary_at(&cluster, 100);
    replica_at(&cluster, 100);
    let mut mark = Mark::default();
    mark.wrote(Instant::now());
    primary_at(&cluster, 200);
    let pick = wait_fresh(&cluster, &mut mark).await;
    assert_eq!(pick, Some((PRIMARY, ReadReason::NotCaughtUp)));
}

#[tokio::test]
async fn a_replica_that_cannot_be_reached_is_out_at_once() {
    let cluster = cluster(true);
    primary_at(&cluster, 100);
    replica_at(&cluster, 100);
    let endpoint = |cluster: &Cluster| {
        let pick = pick(cluster, &mut Mark::default());
        pick.map(|pick| pick.endpoint)
    };
    assert_eq!(endpoint(&cluster), Some(REPLICA));
    cluster.checkout_failed(SHARD, REPLICA, "connection refused".to_owned());
    assert_eq!(endpoint(&cluster), Some(PRIMARY));
    let states = cluster.replica_snapshot();
    assert_eq!(states[1].standing, Standing::Down);
    assert_eq!(states[1].error.as_deref(), Some("connection refused"));
    replica_at(&cluster, 100);
    assert_eq!(endpoint(&cluster), Some(REPLICA));
}

#[tokio::test]
async fn reads_stay_on_the_primary_when_they_are_not_split() {
    let cluster = cluster(false);
    primary_at(&cluster, 100);
    replica_at(&cluster, 100);
    let pick = pick(&cluster, &mut Mark::default());
    let pick = pick.map(|pick| (pick.endpoint, pick.reason));
    assert_eq!(pick, Some((PRIMARY, ReadReason::SplitOff)));
}

#[tokio::test]
async fn a_session_that_read_from_the_primary_waits_a_little_for_a_replica() {
    let cluster = waiting(true, Duration::ZERO);
    primary_at(&cluster, 100);
    replica_at(&cluster, 100);
    let mut mark = Mark::default();
    mark.read(Instant::now(), None);
    let seen = pick(&cluster, &mut mark).map(|pick| pick.reason);
    assert_eq!(seen, Some(ReadReason::SeenNewer));
    let sampled = async { primary_at(&cluster, 100) };
    let (found, ()) = tokio::join!(wait_fresh(&cluster, &mut mark), sampled);
    assert_eq!(found, Some((REPLICA, ReadReason::FreshReplica)));
    // But not before each read.
    mark.read(Instant::now(), None);
    let found = wait_fresh(&cluster, &mut mark).await;
    assert_eq!(found, Some((PRIMARY, ReadReason::SeenNewer)));
}

#[tokio::test]
async fn all_sessions_see_what_one_wrote_where_freshness_is_global() {
    let mut settings = database(true, Duration::ZERO);
    settings.reads.freshness = Freshness::Global;
    let cluster = start(settings);
    tokio::time::sleep(Duration::from_millis(1)).await;
    primary_at(&cluster, 100);
    replica_at(&cluster, 100);
    let reason = |cluster: &Cluster| pick(cluster, &mut Mark::default()).map(|pick| pick.reason);
    assert_eq!(reason(&cluster), Some(ReadReason::FreshReplica));
    // Times of writes are kept to the microsecond, rounded up.
    let pause = || tokio::time::sleep(Duration::from_millis(1));
    cluster.wrote(SHARD, Instant::now());
    assert_eq!(reason(&cluster), Some(ReadReason::MarkUnresolved));
    pause().await;
    primary_at(&cluster, 100);
    assert_eq!(reason(&cluster), Some(ReadReason::FreshReplica));

    // A reload makes the database anew, and a transaction of the old one ends.
    let mut changed = database(true, Duration::ZERO);
    changed.reads.freshness = Freshness::Global;
    let next = start(changed);
    next.succeed(&cluster);
    primary_at(&next, 100);
    replica_at(&next, 100);
    assert_eq!(reason(&next), Some(ReadReason::FreshReplica));
    cluster.wrote(SHARD, Instant::now());
    assert_eq!(reason(&next), Some(ReadReason::MarkUnresolved));
}
