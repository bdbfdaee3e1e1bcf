//! Deadlocks over shards: each server sees a wait like any other. So the servers' wait-for graphs are
//! merged by the clients of this process, and the youngest of a circle is cancelled.
//!
//! Whether who works for no client of this process, but for another Ringway or by himself, waits on other
//! shards cannot be seen. A statement that waits for such a one for long, while its transaction is on other
//! shards, is cancelled too.
//!
//! One at a time and database: it may have been the one that the others waited for.

mod graph;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use planner::ShardId;

use self::graph::{Backend, Graph, Standing};
use super::keeper::cancel_statement;
use crate::backend::server::Blame;
use crate::executor::database::Database;
use crate::net::{self, Instant};
use crate::session::{ClientInfo, ClientState, Shared};

/// How often clients are looked at, at most and at least.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// How long a statement runs before its waits are looked at, at most; PostgreSQL's `deadlock_timeout`.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a shard may take to say who waits.
const LIMIT: Duration = Duration::from_secs(2);

/// A client's statement, by the client's number and when it came.
type Request = (i32, Duration);

/// What the looks before have found, of one database.
#[derive(Default)]
struct Past {
    /// Statements that were in a circle at the last look. The servers are asked one after another: what is
    /// true is found again.
    circled: HashSet<Request>,
    /// Statements that wait for strangers, and since when.
    for_strangers: HashMap<Request, Instant>,
    /// The last victim is given time to let go of what it holds on other shards.
    rests_until: Option<Instant>,
}

/// Runs for as long as the process.
pub async fn watch(shared: Arc<Shared>) {
    let mut pasts: HashMap<String, Past> = HashMap::new();
    loop {
        // None is held meanwhile: what nobody uses is to be forgotten.
        let patience = sharded(&shared).map(|db| patience(&db)).min();
        let interval = patience.map_or(LOOK.1, |patience| patience / 10);
        net::sleep(interval.clamp(LOOK.0, LOOK.1)).await;
        let mut before = std::mem::take(&mut pasts);
        for db in sharded(&shared) {
            let mut past = before.remove(&db.config.name).unwrap_or_default();
            let now = Instant::now();
            if past.rests_until.is_none_or(|until| until <= now) && past.look(&shared, &db).await {
                past = Past {
                    rests_until: Some(Instant::now() + PATIENCE),
                    ..Past::default()
                };
            }
            pasts.insert(db.config.name.clone(), past);
        }
    }
}

fn sharded(shared: &Shared) -> impl Iterator<Item = Arc<Database>> + use<> {
    let databases = shared.directory.load_full().all();
    databases.into_iter().filter(|db| db.config.is_sharded())
}

fn patience(db: &Database) -> Duration {
    let limit = db.config.commits.deadlock_timeout;
    limit.map_or(PATIENCE, |limit| limit.min(PATIENCE))
}

impl Past {
    /// True if it has cancelled a statement.
    async fn look(&mut self, shared: &Shared, db: &Database) -> bool {
        let clients = shared.clients();
        let suspects = suspects(&clients, db);
        if suspects.is_empty() {
            *self = Self::default();
            return false;
        }
        // What they wait for is learnt of these; later ones are not cancelled.
        let requests: Vec<Duration> = clients.iter().map(|client| client.last_request()).collect();
        let graph = graph(&clients, &suspects, db).await;
        let now = Instant::now();
        let mut before = std::mem::take(self);
        for (at, request) in suspects {
            let (victim, blame) = match graph.standing(at) {
                Standing::Free | Standing::Waits => continue,
                Standing::Deadlock(circle) => {
                    self.circled.insert(request);
                    if !before.circled.contains(&request) {
                        continue;
                    }
                    // The youngest has done the least.
                    let age = |at: &usize| clients[*at].connected_at + requests[*at];
                    (
                        circle.into_iter().max_by_key(age).unwrap_or(at),
                        Blame::Deadlock,
                    )
                }
                Standing::ForStrangers => {
                    let since = before.for_strangers.remove(&request).unwrap_or(now);
                    self.for_strangers.insert(request, since);
                    match db.config.commits.deadlock_timeout {
                        Some(limit) if now.duration_since(since) >= limit => {}
                        _ => continue,
                    }
                    (at, Blame::PossibleDeadlock)
                }
            };
            let client = &clients[victim];
            let limit = shared.directory.load().config.general.login_timeout;
            if cancel_statement(client, requests[victim], limit, blame) {
                tracing::warn!(
                    database = db.config.name,
                    client = client.address,
                    certain = blame == Blame::Deadlock,
                    "cancelled a statement: deadlock over shards"
                );
                return true;
            }
        }
        false
    }
}

/// When its statement came.
fn came_at(client: &ClientInfo) -> Instant {
    client.connected_at + client.last_request()
}

/// Clients whose statement has run for long, on more than one server; the youngest statement first.
fn suspects(clients: &[Arc<ClientInfo>], db: &Database) -> Vec<(usize, Request)> {
    let now = Instant::now();
    let mut suspects: Vec<(usize, Request)> = Vec::new();
    for (at, client) in clients.iter().enumerate() {
        if client.database != db.config.name || client.state() != ClientState::Active {
            continue;
        }
        let ran = now.duration_since(came_at(client));
        if ran >= patience(db) && client.cancel.servers().len() > 1 {
            suspects.push((at, (client.pid, client.last_request())));
        }
    }
    suspects.sort_by_key(|(at, _)| came_at(&clients[*at]));
    suspects.reverse();
    suspects
}

/// Who waits for whom on the primaries of the suspects' shards.
async fn graph(clients: &[Arc<ClientInfo>], suspects: &[(usize, Request)], db: &Database) -> Graph {
    let mut graph = Graph::default();
    for (at, client) in clients.iter().enumerate() {
        for server in client.cancel.servers() {
            let backend = Backend {
                server: server.endpoint.clone(),
                pid: server.pid,
            };
            graph.works_for(backend, at);
        }
    }
    let mut shards: HashSet<ShardId> = HashSet::new();
    for (at, _) in suspects {
        for server in clients[*at].cancel.servers() {
            let is_it =
                |(shard, id): &(ShardId, _)| *db.cluster.endpoint(*shard, *id) == server.endpoint;
            shards.extend(db.servers().find(is_it).map(|(shard, _)| shard));
        }
    }
    for shard in shards {
        let Some(primary) = db.cluster.primary(shard) else {
            continue;
        };
        let backend = |pid| Backend {
            server: db.cluster.endpoint(shard, primary).clone(),
            pid,
        };
        match net::timeout(LIMIT, db.cluster.lock_waits(shard)).await {
            Ok(Ok(waits)) => {
                for wait in waits {
                    for blocker in wait.blockers {
                        graph.waits_for(backend(wait.pid), backend(blocker));
                    }
                }
            }
            Ok(Err(failure)) => {
                tracing::debug!(database = db.config.name, %failure, "cannot look for deadlocks");
            }
            Err(_) => {}
        }
    }
    graph
}
