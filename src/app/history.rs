//! The last minutes of each database for the status page: counters that are kept anyway, read every few
//! seconds. Nothing on the way of a statement knows of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::executor::database::Database;
use crate::http::status::Point;
use crate::metrics::{Counts, Totals};
use crate::net::Instant;
use crate::session::Shared;

/// Between two points.
pub const STEP: Duration = Duration::from_secs(5);
/// Points of one database: ten minutes, in some 10 KB.
const KEPT: usize = 120;

/// By database.
#[derive(Default)]
pub struct History(Mutex<BTreeMap<String, Past>>);

struct Past {
    seen: Seen,
    points: VecDeque<Point>,
}

/// The counters at one moment.
#[derive(Clone, Copy)]
struct Seen {
    at: Instant,
    totals: Totals,
    latencies: Counts,
}

impl History {
    /// Adds a point to every database, save one that is new here; to be called every [`STEP`].
    pub fn sample(&self, shared: &Shared) {
        let databases = shared.directory.load().all();
        let mut pasts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pasts.retain(|name, _| databases.iter().any(|db| db.config.name == *name));
        for db in databases {
            let seen = Seen {
                at: Instant::now(),
                totals: db.metrics.totals(),
                latencies: db.metrics.latencies(),
            };
            let Some(past) = pasts.get_mut(&db.config.name) else {
                let points = VecDeque::new();
                pasts.insert(db.config.name.clone(), Past { seen, points });
                continue;
            };
            if past.points.len() == KEPT {
                past.points.pop_front();
            }
            past.points.push_back(point(&past.seen, &seen, &db));
            past.seen = seen;
        }
    }

    /// The oldest first.
    pub fn points(&self, database: &str) -> Vec<Point> {
        let pasts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let past = pasts.get(database);
        past.map_or_else(Vec::new, |past| past.points.iter().cloned().collect())
    }

    /// What the last point tells, for an order of databases.
    pub fn queries_per_s(&self, database: &str) -> f64 {
        let pasts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = pasts.get(database).and_then(|past| past.points.back());
        last.map_or(0.0, |point| point.queries_per_s)
    }
}

fn point(before: &Seen, now: &Seen, db: &Database) -> Point {
    let seconds = now.at.duration_since(before.at).as_secs_f64();
    let per_second = |of: fn(&Totals) -> u64| {
        let count = of(&now.totals).saturating_sub(of(&before.totals));
        // Tenths are enough to look at.
        (10.0 * count as f64 / seconds.max(f64::MIN_POSITIVE)).round() / 10.0
    };
    let latencies = now.latencies.since(&before.latencies);
    let within = |share| {
        let latency = latencies.quantile(share)?;
        u64::try_from(latency.as_micros()).ok()
    };
    Point {
        at_ms: millis(SystemTime::now()),
        queries_per_s: per_second(|totals| totals.queries),
        transactions_per_s: per_second(|totals| totals.transactions),
        p50_us: within(0.5),
        p95_us: within(0.95),
        p99_us: within(0.99),
        waiting: db
            .pools
            .all()
            .iter()
            .map(|(_, _, pool)| pool.waiting())
            .sum(),
    }
}

/// Since 1970.
pub fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
