//! Deadlocks over shards: each server sees a wait like any other. So a statement that waits for a lock for
//! long, while its transaction is on other shards too, is cancelled.
//!
//! One at a time and database: it may have been the one that the others waited for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use planner::ShardId;

use super::keeper::cancel_statement;
use crate::backend::server::Blame;
use crate::executor::database::Database;
use crate::net::{self, Instant};
use crate::session::{ClientInfo, ClientState, Shared};

/// How often clients are looked at, at most and at least.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long a shard may take to say who waits.
const LIMIT: Duration = Duration::from_secs(2);

/// Runs for as long as the process.
pub async fn watch(shared: Arc<Shared>) {
    // By database: the last victim is given time to let go of what it holds on other shards.
    let mut rests: HashMap<String, Instant> = HashMap::new();
    loop {
        let directory = shared.directory.load_full();
        let databases = directory.all();
        let limits = databases.iter().filter_map(|db| limit_of(db));
        let interval = limits.min().map_or(LOOK.1, |limit| limit / 10);
        net::sleep(interval.clamp(LOOK.0, LOOK.1)).await;
        for db in &databases {
            let now = Instant::now();
            rests.retain(|_, until| *until > now);
            if let Some(limit) = limit_of(db)
                && !rests.contains_key(&db.config.name)
                && look(&shared, db, limit).await
            {
                let until = Instant::now() + limit.max(LOOK.1);
                rests.insert(db.config.name.clone(), until);
            }
        }
    }
}

fn limit_of(db: &Database) -> Option<Duration> {
    let limit = db.config.commits.deadlock_timeout;
    limit.filter(|_| db.config.is_sharded())
}

/// A client whose statement has run for long, on more than one server.
struct Suspect {
    client: Arc<ClientInfo>,
    request: Duration,
}

/// True if it has cancelled a statement.
async fn look(shared: &Shared, db: &Database, limit: Duration) -> bool {
    let now = Instant::now();
    let mut suspects: Vec<Suspect> = Vec::new();
    // By shard, the backend of whose connection it is.
    let mut asked: HashMap<ShardId, Vec<i32>> = HashMap::new();
    for client in shared.clients() {
        if client.database != db.config.name || client.state() != ClientState::Active {
            continue;
        }
        let request = client.last_request();
        let servers = client.cancel.servers();
        if servers.len() < 2 || now.duration_since(client.connected_at + request) < limit {
            continue;
        }
        for server in &servers {
            let is_it =
                |(shard, id): &(ShardId, _)| *db.cluster.endpoint(*shard, *id) == server.endpoint;
            if let Some((shard, _)) = db.servers().find(is_it) {
                asked.entry(shard).or_default().push(server.pid);
            }
        }
        suspects.push(Suspect { client, request });
    }
    let mut waiting: Vec<(ShardId, i32)> = Vec::new();
    for (shard, pids) in asked {
        let answer = net::timeout(LIMIT, db.cluster.waiting_for_lock(shard, &pids, limit)).await;
        match answer {
            Ok(Ok(pids)) => waiting.extend(pids.into_iter().map(|pid| (shard, pid))),
            Ok(Err(failure)) => {
                tracing::debug!(database = db.config.name, %failure, "cannot look for deadlocks");
            }
            Err(_) => {}
        }
    }
    // The youngest has done the least.
    suspects.sort_by_key(|suspect| suspect.client.connected_at + suspect.request);
    for Suspect { client, request } in suspects.iter().rev() {
        let waits = client.cancel.servers().iter().any(|server| {
            let is_it = |(shard, pid): &(ShardId, i32)| {
                *pid == server.pid && db.cluster.endpoint_id(*shard, &server.endpoint).is_some()
            };
            waiting.iter().any(is_it)
        });
        let limit = shared.directory.load().config.general.login_timeout;
        if waits && cancel_statement(client, *request, limit, Blame::Deadlock) {
            tracing::warn!(
                database = db.config.name,
                client = client.address,
                "cancelled a statement that waits for a lock while its transaction is on other shards"
            );
            return true;
        }
    }
    false
}
