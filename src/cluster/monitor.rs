//! The tasks that keep a cluster's picture of its servers up to date: one per server, and one
//! for the catalog.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Cluster;
use super::control::Failure;
use super::ids;
use super::lsn::Lsn;
use super::outliers;
use super::poll::Link;
use super::shard::{EndpointId, Observation, Position};
use super::two_phase;
use crate::net::{Instant, Stream, sleep, timeout};
use planner::ShardId;

/// Runs the monitor tasks; dropping it stops them.
#[must_use = "the monitor stops when its guard is dropped"]
pub struct MonitorGuard {
    _tasks: JoinSet<()>,
}

/// Between two polls of one server, however much they are hastened.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// Before another attempt on a server that is down, however much it is hastened.
const SHORTEST_RETRY: Duration = Duration::from_millis(50);
/// Before another attempt on a server that is down, at most.
const LONGEST_RETRY: Duration = Duration::from_secs(1);
/// Before a server that does not answer counts as down, at least.
const SHORTEST_LIMIT: Duration = Duration::from_secs(1);
/// Between two polls of one server when its position in the WAL does not matter.
const ROLES_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks for schema changes that nobody told of.
const CATALOG_INTERVAL: Duration = Duration::from_secs(3);
/// Between two looks whether another process has changed the schema.
const EPOCH_INTERVAL: Duration = Duration::from_millis(300);

/// Starts the tasks on the current runtime.
pub fn start(cluster: &Arc<Cluster>) -> MonitorGuard {
    let mut tasks = JoinSet::new();
    for (shard, servers) in (0..).map(ShardId).zip(cluster.database.shards.iter()) {
        for (endpoint, _) in (0..).map(EndpointId).zip(servers.endpoints.iter()) {
            tasks.spawn(watch_server(Arc::clone(cluster), shard, endpoint));
        }
    }
    if cluster.database.reads.split && outliers::Limits::of(&cluster.database.reads).is_some() {
        tasks.spawn(watch_outliers(Arc::clone(cluster)));
    }
    if cluster.is_watched() {
        tasks.spawn(watch_catalog(Arc::clone(cluster)));
        two_phase::start(cluster, &mut tasks);
    }
    tasks.spawn(ids::keep_leased(Arc::clone(cluster)));
    MonitorGuard { _tasks: tasks }
}

async fn watch_server(cluster: Arc<Cluster>, shard: ShardId, endpoint: EndpointId) {
    let reads = &cluster.database.reads;
    // Without read/write split only roles matter, and those change rarely.
    let interval = if reads.split {
        reads.poll_interval
    } else {
        reads.poll_interval.max(ROLES_INTERVAL)
    };
    let mut link = None;
    loop {
        // Whoever found the server down proved the kept connection to be no evidence.
        if cluster.is_down(shard, endpoint) {
            link = None;
        }
        cluster.ask(shard, endpoint);
        let (shortest, pause) = match poll(&cluster, shard, endpoint, &mut link).await {
            Ok(seen) => {
                cluster.observed(shard, endpoint, seen);
                (SHORTEST_PAUSE, interval)
            }
            Err(failure) => {
                link = None;
                cluster.failed(shard, endpoint, failure.to_string());
                let retry = (interval * 4).min(LONGEST_RETRY).max(interval);
                (SHORTEST_RETRY, retry)
            }
        };
        let pause = match cluster.is_held(shard) {
            true => pause.min(SHORTEST_RETRY),
            false => pause,
        };
        let shortest = shortest.min(pause);
        sleep(shortest).await;
        // Either the rest of the pause is over or somebody waits for news: both mean go on.
        let _ = timeout(pause - shortest, cluster.hastened(shard, endpoint)).await;
    }
}

async fn poll(
    cluster: &Cluster,
    shard: ShardId,
    endpoint: EndpointId,
    link: &mut Option<Link>,
) -> Result<Observation, Failure> {
    if !cluster.is_watched() {
        return reach(cluster, shard, endpoint).await;
    }
    let limit = (cluster.database.reads.poll_interval * 4).max(SHORTEST_LIMIT);
    let link = match link {
        Some(link) => link,
        None => {
            let pool = cluster.control(shard, endpoint);
            let connect_limit = cluster.database.pool.connect_timeout;
            link.insert(Link::open(pool, connect_limit, limit).await?)
        }
    };
    link.observe(limit).await
}

/// With nobody to log in as, the server counts as the primary while it can be reached: there is no
/// other, or the configuration would have been refused.
async fn reach(
    cluster: &Cluster,
    shard: ShardId,
    endpoint: EndpointId,
) -> Result<Observation, Failure> {
    let started = Instant::now();
    let address = cluster.endpoint(shard, endpoint);
    let limit = cluster.database.pool.connect_timeout;
    timeout(limit, Stream::connect(&address.host, address.port))
        .await
        .map_err(|_| Failure::Slow("connecting", limit))?
        .map_err(Failure::Unreachable)?;
    Ok(Observation {
        started,
        system_id: None,
        timeline: None,
        position: Position::Primary {
            inserted: Lsn::new(0),
        },
        is_blind: false,
    })
}

async fn watch_outliers(cluster: Arc<Cluster>) {
    loop {
        sleep(outliers::WINDOW).await;
        cluster.weigh();
    }
}

async fn watch_catalog(cluster: Arc<Cluster>) {
    cluster.all_polled().await;
    loop {
        // Read before the schema is, so that no change between is missed.
        let known = cluster.epochs().await;
        cluster.reload_catalog().await;
        let told = cluster.epoch_differs(&known, EPOCH_INTERVAL, CATALOG_INTERVAL);
        if told.await {
            let database = &cluster.database.name;
            tracing::debug!(database, "told that the schema has changed");
        }
    }
}
