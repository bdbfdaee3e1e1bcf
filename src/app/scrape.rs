//! Metrics that follow from live state: set when somebody looks.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::history::STEP;
use super::live::{Live, PERIOD};
use crate::cluster::Standing;
use crate::executor::database::Database;
use crate::metrics::HotSlot;
use crate::net;
use crate::session::Shared;

/// Ends the periods of SHOW STATS' averages, for as long as the process runs.
pub async fn turn_periods(live: Arc<Live>) {
    loop {
        net::sleep(PERIOD).await;
        live.turn_period();
    }
}

/// Slots that are told of each database.
const HOT_SLOTS: usize = 10;

/// Adds to the history of the status page, for as long as the process runs.
pub async fn keep_history(live: Arc<Live>) {
    loop {
        net::sleep(STEP).await;
        live.history.sample(&live.shared);
    }
}

/// All metrics as they are now, in Prometheus' text format.
pub fn render(live: &Live) -> String {
    let shared = &live.shared;
    let clients = shared.clients();
    let directory = shared.directory.load();
    let mut hot = Vec::new();
    for db in directory.all() {
        let of_database = clients
            .iter()
            .filter(|client| client.is_logged_in() && client.database == db.config.name);
        db.metrics.clients.set(of_database.count() as f64);
        let (_, bytes) = db.plans.usage();
        db.metrics.plan_cache_bytes.set(bytes as f64);
        db.metrics.statement_bytes.set(db.statement_bytes() as f64);
        let in_doubt = db.cluster.two_phase.in_doubt();
        db.metrics.in_doubt.set(in_doubt.len() as f64);
        let oldest = in_doubt
            .first()
            .map_or(0.0, |doubt| doubt.age.as_secs_f64());
        db.metrics.in_doubt_seconds.set(oldest);
        let (held, peak) = db.metrics.merge_memory.usage();
        db.metrics.merge_bytes.set(held as f64);
        db.metrics.merge_peak.set(peak as f64);
        let (digests, evicted) = db.digests.usage();
        db.metrics.digests.set(digests as f64);
        db.metrics.digests_evicted.absolute(evicted);
        hot.extend(hot_slots(&db, HOT_SLOTS));
        set_pools(&db);
        set_servers(&db);
    }
    let general = &directory.config.general;
    shared.metrics.client_limit.set(general.max_clients as f64);
    let limit = general.merge_memory_bytes as f64;
    shared.metrics.merge_limit.set(limit);
    shared.metrics.render(&hot)
}

/// The slots of a database that most statements are about.
pub fn hot_slots(db: &Database, most: usize) -> impl Iterator<Item = HotSlot> {
    let hottest = db.digests.slots.hottest(most).into_iter();
    hottest.map(|(slot, statements)| {
        let shard = db.config.topology.owner(slot);
        HotSlot {
            database: db.config.name.clone(),
            shard: db.config.shards[usize::from(shard.0)].name.clone(),
            slot,
            statements,
        }
    })
}

fn set_pools(db: &Database) {
    let pools = db.pools.all();
    let waiting: usize = pools.iter().map(|(_, _, pool)| pool.waiting()).sum();
    db.metrics.waiting.set(waiting as f64);
    for (shard, endpoint) in db.servers() {
        let here = pools
            .iter()
            .filter(|(s, e, _)| (*s, *e) == (shard, endpoint));
        let (mut active, mut idle, mut prepared, mut limit) = (0, 0, 0, 0);
        for (_, _, pool) in here {
            let usage = pool.usage();
            active += usage.0;
            idle += usage.1;
            let settings = pool.settings();
            limit += settings.size + settings.reserve_size;
            let servers = pool.servers();
            let bytes = servers.iter().map(|server| &server.activity.prepared_bytes);
            prepared += bytes.map(|bytes| bytes.load(Relaxed)).sum::<usize>();
        }
        let metrics = db.server_metrics(shard, endpoint);
        metrics.active.set(f64::from(active));
        metrics.idle.set(f64::from(idle));
        let cap = match db.pools.cap(shard, endpoint).1 {
            0 => limit,
            cap => limit.min(cap),
        };
        metrics.limit.set(f64::from(cap));
        metrics.prepared_bytes.set(prepared as f64);
    }
}

fn set_servers(db: &Database) {
    for ((shard, endpoint), state) in db.servers().zip(db.cluster.replica_snapshot()) {
        let metrics = db.server_metrics(shard, endpoint);
        let (up, primary) = match state.standing {
            Standing::Unknown | Standing::Down => (0.0, 0.0),
            Standing::Primary => (1.0, 1.0),
            Standing::Fenced
            | Standing::Fresh
            | Standing::Lagging
            | Standing::Returning
            | Standing::Silent
            | Standing::Ejected
            | Standing::Foreign => (1.0, 0.0),
        };
        metrics.up.set(up);
        metrics.primary.set(primary);
        metrics.set_standing(state.standing.name());
        metrics.set_lag(state.lag, state.lag_bytes);
    }
}

/// Why this process should get no new clients, if there is a reason. One shard without a primary is
/// none: it is without one for every Ringway process.
pub fn readiness(shared: &Shared) -> Result<(), String> {
    if shared.is_stopping() {
        return Err("shutting down".to_owned());
    }
    let databases = shared.directory.load().all();
    let has_primary = |db: &Arc<Database>| {
        let shards = &db.config.shards;
        shards
            .iter()
            .any(|shard| db.cluster.primary(shard.id).is_some())
    };
    match databases.is_empty() || databases.iter().any(has_primary) {
        true => Ok(()),
        false => Err("no shard has a primary that this process can reach".to_owned()),
    }
}
