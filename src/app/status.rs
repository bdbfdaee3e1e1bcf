//! The answer of `/status.json`, from the same live state as the admin database's tables.

use std::time::{Duration, SystemTime};

use super::history::{self, millis};
use super::live::Live;
use super::rows::Look;
use super::scrape;
use crate::executor::database::Database;
use crate::http::status::{
    ConfigStatus, DatabaseStatus, InDoubt, PoolStatus, ServerStatus, Shape, ShardStatus, Status,
    troubles,
};

/// Databases of one answer; a wildcard can make hundreds.
const MOST_DATABASES: usize = 50;
/// Pools of one database, and prepared transactions: there is one pool per user and server.
const MOST_ROWS: usize = 100;
const MOST_SHAPES: usize = 10;

/// The process as it is now.
pub fn status(live: &Live) -> Status {
    let look = Look::new(live);
    let (databases, databases_left_out) = busiest(live, &look);
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now_at_ms: millis(SystemTime::now()),
        uptime_s: live.started.elapsed().as_secs(),
        unready: scrape::readiness(&live.shared).err(),
        config: ConfigStatus {
            version: look.directory.generation,
            last_reload: live.last_reload(),
        },
        clients: look.logged_in().count(),
        max_clients: look.directory.config.general.max_clients,
        point_s: history::STEP.as_secs(),
        databases: databases
            .iter()
            .map(|db| database(live, &look, db))
            .collect(),
        databases_left_out,
    }
}

type Databases = Vec<std::sync::Arc<Database>>;

/// The databases to show, by name, and how many there are beside them.
fn busiest(live: &Live, look: &Look) -> (Databases, usize) {
    let mut all = look.by_name();
    let left_out = all.len().saturating_sub(MOST_DATABASES);
    if left_out > 0 {
        let rate = |db: &Database| live.history.queries_per_s(&db.config.name);
        all.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
        all.truncate(MOST_DATABASES);
        all.sort_by(|a, b| a.config.name.cmp(&b.config.name));
    }
    (all, left_out)
}

fn database(live: &Live, look: &Look, db: &Database) -> DatabaseStatus {
    let name = &db.config.name;
    let waits: Vec<Duration> = look
        .of_database(name)
        .map(|client| look.wait(client))
        .filter(|wait| !wait.is_zero())
        .collect();
    let mut pools = pools(db);
    let pools_left_out = pools.len().saturating_sub(MOST_ROWS);
    if pools_left_out > 0 {
        pools.sort_by_key(|pool| std::cmp::Reverse((pool.waiting, pool.used)));
        pools.truncate(MOST_ROWS);
    }
    // An order that stays from look to look.
    pools.sort_by(|a, b| (&a.shard, &a.server, &a.user).cmp(&(&b.shard, &b.server, &b.user)));
    let mut in_doubt: Vec<_> = look.in_doubt_of(db).map(in_doubt).collect();
    let in_doubt_left_out = in_doubt.len().saturating_sub(MOST_ROWS);
    in_doubt.truncate(MOST_ROWS);
    let shards = shards(look, db);
    DatabaseStatus {
        name: name.clone(),
        paused: db.pools.is_paused(),
        disabled: db.pools.is_disabled(),
        clients: look.of_database(name).count(),
        waiting: waits.len(),
        longest_wait_ms: duration_ms(waits.into_iter().max().unwrap_or_default()),
        troubles: troubles(&shards),
        shards,
        pools,
        pools_left_out,
        in_doubt,
        in_doubt_left_out,
        history: live.history.points(name),
        shapes: shapes(db),
    }
}

fn shards(look: &Look, db: &Database) -> Vec<ShardStatus> {
    let topology = &db.config.topology;
    let weights = topology.shards().iter().zip(topology.slots_per_shard());
    let servers: Vec<_> = db.servers().zip(look.replicas_of(db)).collect();
    let pools = db.pools.all();
    let server = |((shard, endpoint), row): &((_, _), crate::admin::ReplicaRow)| {
        let here = pools.iter().filter(|(s, e, _)| (s, e) == (shard, endpoint));
        let (used, idle) = here.fold((0, 0), |(used, idle), (_, _, pool)| {
            let (more_used, more_idle, _) = pool.usage();
            (used + more_used, idle + more_idle)
        });
        ServerStatus {
            address: row.endpoint.to_string(),
            role: row.role.to_owned(),
            standing: row.standing.to_owned(),
            lag_ms: row.lag.map(duration_ms),
            lag_bytes: row.lag_bytes,
            weight: row.weight,
            zone: row.zone.clone(),
            times_down: row.times_down,
            error: row.error.clone(),
            used,
            idle,
        }
    };
    let shards = db.config.shards.iter().zip(weights);
    shards
        .map(|(shard, (weight, slots))| ShardStatus {
            name: shard.name.clone(),
            weight: weight.weight,
            slots,
            servers: servers
                .iter()
                .filter(|((of, _), _)| *of == shard.id)
                .map(server)
                .collect(),
        })
        .collect()
}

fn pools(db: &Database) -> Vec<PoolStatus> {
    let pool =
        |(shard, endpoint, pool): (planner::ShardId, _, std::sync::Arc<crate::pool::Pool>)| {
            let (used, idle, opening) = pool.usage();
            PoolStatus {
                user: pool.key.user.clone(),
                shard: db.config.shards[usize::from(shard.0)].name.clone(),
                server: db.cluster.endpoint(shard, endpoint).to_string(),
                used,
                idle,
                opening,
                waiting: pool.waiting(),
                limit: pool.settings().size,
            }
        };
    db.pools.all().into_iter().map(pool).collect()
}

/// By the time that they took.
fn shapes(db: &Database) -> Vec<Shape> {
    let slowest = db.digests.snapshot().into_iter().take(MOST_SHAPES);
    let shape = |row: crate::metrics::digest::DigestRow| Shape {
        total_ms: duration_ms(row.total),
        mean_us: micros(row.mean()),
        p95_us: micros(row.p95),
        text: row.text,
        calls: row.calls,
        errors: row.errors,
        rows: row.rows,
    };
    slowest.map(shape).collect()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn in_doubt(row: crate::admin::InDoubtRow) -> InDoubt {
    InDoubt {
        shard: row.shard,
        transaction: row.transaction,
        decision_shard: row.decision_shard,
        age_ms: duration_ms(row.age),
        note: row.note.to_owned(),
    }
}

fn duration_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
