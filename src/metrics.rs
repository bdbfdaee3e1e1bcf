//! Every metric: its name, kind, help and labels, in one table.
//!
//! Handles are made once, when a database or a server is configured, and given to the rooms that
//! use them; nothing on the way of a statement looks a metric up by name. There is no global
//! recorder: whoever holds [`Metrics`] can render it, and tests have one each.
//!
//! Labels are bounded: names from the configuration, words of the enums here, and SQLSTATEs that
//! Ringway itself raises. Never users, addresses of clients, or text from a statement.

mod commits;
pub mod digest;
mod histogram;
pub mod hot;
mod latency;
pub mod memory;
mod spread;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use commits::{CommitKind, Recovery};
use histogram::Buckets;
pub use histogram::Counts;
pub use latency::ShardMetrics;
use memory::MergeMemory;
use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
pub use words::{BlockKind, PolicyHit, ReadBy, Retry, Role, RouteKind};

/// A row of the table.
struct Metric {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    labels: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    /// In seconds; written by [`histogram`], not by the exporter.
    Histogram,
}

const DATABASE: &[&str] = &["database"];
const SHARD: &[&str] = &["database", "shard", "role"];
const SERVER: &[&str] = &["database", "shard", "server"];

macro_rules! table {
    ($($id:ident = $kind:ident $name:literal $labels:expr, $help:literal;)*) => {
        $(const $id: Metric =
            Metric { name: $name, kind: Kind::$kind, help: $help, labels: $labels };)*
        /// All of them, for descriptions.
        const TABLE: &[Metric] = &[$($id),*];
    };
}

table! {
    BUILD = Gauge "ringway_build_info" &["version"], "Always 1; the version is the label.";
    RELOADS = Counter "ringway_config_reloads_total" &["result"], "Configuration files read again, by whether they were applied or refused.";
    LOGIN_FAILURES = Counter "ringway_login_failures_total" &[], "Clients refused before they were logged in.";
    HTTP_CLOSED = Counter "ringway_http_closed_total" &[], "HTTP connections closed to make room for others.";
    CLIENTS = Gauge "ringway_clients" DATABASE, "Clients connected now.";
    CLIENT_CONNECTIONS = Counter "ringway_client_connections_total" DATABASE, "Clients that logged in.";
    WAITING = Gauge "ringway_pool_waiting_clients" DATABASE, "Clients that wait for a server connection now.";
    TRANSACTIONS = Counter "ringway_transactions_total" DATABASE, "Transactions that ended.";
    QUERIES = Counter "ringway_queries_total" DATABASE, "Statements answered.";
    RECEIVED = Counter "ringway_bytes_received_total" DATABASE, "Bytes received from clients.";
    SENT = Counter "ringway_bytes_sent_total" DATABASE, "Bytes sent to clients.";
    CHECKOUTS = Counter "ringway_checkouts_total" DATABASE, "Server connections given to clients.";
    QUERY_SECONDS = Histogram "ringway_query_seconds" DATABASE, "From a statement's arrival to the end of its answer, the wait for a server included.";
    CHECKOUT_SECONDS = Histogram "ringway_checkout_wait_seconds" DATABASE, "Wait for a server connection.";
    ROUTES = Counter "ringway_routes_total" &["database", "kind"], "Statements by how they were executed.";
    POLICIES = Counter "ringway_policy_total" &["database", "policy", "action"], "Statements on several shards that a policy warned of or denied.";
    COMMITS = Counter "ringway_commits_total" &["database", "kind"], "Writes on several shards that were to be committed: where at most one had written, by two-phase commit, or one shard after the other.";
    RECOVERIES = Counter "ringway_recoveries_total" &["database", "outcome"], "Prepared transactions that this process finished for a coordinator that did not, and attempts that failed.";
    IN_DOUBT = Gauge "ringway_in_doubt_transactions" DATABASE, "Prepared transactions that no commit of this process is at work on.";
    IN_DOUBT_SECONDS = Gauge "ringway_in_doubt_age_seconds" DATABASE, "Since when the oldest of them has been prepared; 0 when there is none.";
    READ_WAIT_SECONDS = Histogram "ringway_read_wait_seconds" DATABASE, "Wait of a read until a replica had what its session wrote or saw, or until the limit.";
    BLOCKS = Counter "ringway_transaction_blocks_total" &["database", "kind"], "Transaction blocks by where they read, as their BEGIN says; moved: those of until_write that went on at the primary.";
    READ_SETTLES = Counter "ringway_read_settles_total" DATABASE, "Reads that waited to leave the server that their session had to stay with.";
    POSITION_SAMPLES = Counter "ringway_position_samples_total" DATABASE, "Answers of servers that were asked for their role and position in the WAL.";
    FENCES = Counter "ringway_fences_total" DATABASE, "Servers found to take writes beside their shard's primary.";
    READS = Counter "ringway_reads_total" &["database", "role", "reason"], "Reads by the role of the server that answered, and why it did.";
    EJECTIONS = Counter "ringway_ejections_total" DATABASE, "Replicas taken out for a while because they were far worse than their siblings.";
    RETRIES = Counter "ringway_retries_total" &["database", "reason"], "Statements sent to another server because the first had not begun to answer, by what became of that.";
    HELD = Counter "ringway_held_total" DATABASE, "Statements that found their shard without a primary and waited for one.";
    HOLDING = Gauge "ringway_holding_clients" DATABASE, "Clients that wait for a shard to have a primary now.";
    HOLD_SECONDS = Histogram "ringway_hold_seconds" DATABASE, "Wait of a statement for its shard to have a primary.";
    PLAN_HITS = Counter "ringway_plan_cache_hits_total" DATABASE, "Statements whose plan was in the cache.";
    PLAN_MISSES = Counter "ringway_plan_cache_misses_total" DATABASE, "Statements that had to be planned.";
    PLAN_BYTES = Gauge "ringway_plan_cache_bytes" DATABASE, "Memory of the cached plans.";
    STATEMENT_BYTES = Gauge "ringway_statement_bytes" DATABASE, "Texts of statements that clients have prepared, equal ones counted once.";
    CLIENT_SECONDS = Histogram "ringway_shard_client_seconds" SHARD, "From a statement's arrival to the end of its answer; one on several shards counts on each of them.";
    QUEUE_SECONDS = Histogram "ringway_shard_queue_seconds" SHARD, "Of that, the wait for a server connection, a primary, or a replica that is fresh enough.";
    SERVER_SECONDS = Histogram "ringway_shard_server_seconds" SHARD, "Of that, the rest: what servers, network and the reading of the answer take.";
    MERGE_BYTES = Gauge "ringway_merge_memory_bytes" DATABASE, "Memory that statements hold now to merge or gather rows of shards.";
    MERGE_PEAK = Gauge "ringway_merge_memory_peak_bytes" DATABASE, "The most that one statement has held since the process started.";
    MERGE_LIMIT = Gauge "ringway_merge_memory_limit_bytes" &[], "What one statement may hold.";
    DIGESTS = Gauge "ringway_digests" DATABASE, "Shapes of statements that SHOW DIGESTS tells of.";
    DIGESTS_EVICTED = Counter "ringway_digests_evicted_total" DATABASE, "Shapes that made room for others.";
    HOT_SLOTS = Counter "ringway_hot_slot_statements_total" &["database", "shard", "slot"], "Statements about the keys of a slot, of the ten slots with the most of them; estimated from a sample.";
    CLIENT_LIMIT = Gauge "ringway_client_limit" &[], "Clients that the process lets in.";
    CONNECTION_LIMIT = Gauge "ringway_server_connection_limit" SERVER, "Connections that the pools of a server may open together.";
    ERRORS = Counter "ringway_errors_total" &["database", "sqlstate"], "Errors that Ringway itself answered with; errors of servers are not among them.";
    SERVER_CONNECTIONS = Gauge "ringway_server_connections" &["database", "shard", "server", "state"], "Connections to servers now: active with a client, or idle.";
    SERVER_CONNECTS = Counter "ringway_server_connects_total" &["database", "shard", "server", "result"], "Connections opened to servers, and attempts that failed.";
    SERVER_PREPARED_BYTES = Gauge "ringway_server_prepared_bytes" SERVER, "Texts of statements that connections to the server keep prepared.";
    SERVER_UP = Gauge "ringway_server_up" SERVER, "1 when the server answered its last health query.";
    SERVER_PRIMARY = Gauge "ringway_server_primary" SERVER, "1 when the server is its shard's primary.";
    SERVER_STANDING = Gauge "ringway_server_standing" &["database", "shard", "server", "standing"], "1 for what the server may be used for now, as in SHOW REPLICAS; 0 for all else.";
    LAG_SECONDS = Gauge "ringway_replica_lag_seconds" SERVER, "How old a replica's data may be; NaN when unknown or not a replica.";
    LAG_BYTES = Gauge "ringway_replica_lag_bytes" SERVER, "WAL that a replica has still to replay; NaN when unknown or not a replica.";
}

/// A total that SHOW STATS reads back: the exporter's own counters can only be written.
#[derive(Debug, Default)]
pub struct Total(AtomicU64);

impl Total {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn add_micros(&self, elapsed: Duration) {
        self.add(micros(elapsed));
    }
}

/// Whole microseconds: without the 128 bits of [`Duration::as_micros`], as each statement needs them
/// several times.
pub fn micros(time: Duration) -> u64 {
    let micros = time.as_secs().saturating_mul(1_000_000);
    micros.saturating_add(u64::from(time.subsec_micros()))
}

/// An enum whose words are values of a label.
pub trait Word: Copy + 'static {
    const ALL: &'static [Self];
    /// Position in `ALL`.
    fn index(self) -> usize;
}

/// One total per word.
pub struct CounterBy<W> {
    totals: Vec<Total>,
    words: PhantomData<W>,
}

impl<W: Word> Default for CounterBy<W> {
    fn default() -> Self {
        Self {
            totals: W::ALL.iter().map(|_| Total::default()).collect(),
            words: PhantomData,
        }
    }
}

impl<W: Word> CounterBy<W> {
    pub fn increment(&self, word: W) {
        self.totals[word.index()].add(1);
    }

    /// Every word with its count.
    pub fn counts(&self) -> impl Iterator<Item = (W, u64)> + '_ {
        let totals = self.totals.iter().map(Total::get);
        W::ALL.iter().copied().zip(totals)
    }
}

/// The process's metrics.
pub struct Metrics {
    recorder: PrometheusRecorder,
    databases: Mutex<BTreeMap<String, Arc<DatabaseMetrics>>>,
    /// By database and shard.
    shards: Mutex<BTreeMap<(String, String), Arc<ShardMetrics>>>,
    pub client_limit: Gauge,
    pub merge_limit: Gauge,
    pub reloads_applied: Counter,
    pub reloads_refused: Counter,
    pub login_failures: Counter,
    /// HTTP connections closed to make room for others.
    pub http_closed: Counter,
}

/// One database's metrics: a field per row of the table, and the totals of SHOW STATS.
pub struct DatabaseMetrics {
    pub clients: Gauge,
    pub client_connections: Counter,
    pub waiting: Gauge,
    pub received_bytes: Total,
    pub sent_bytes: Total,
    pub client_parses: Total,
    pub server_parses: Total,
    pub binds: Total,
    pub routes: CounterBy<RouteKind>,
    pub policies: CounterBy<PolicyHit>,
    pub commits: CounterBy<CommitKind>,
    pub recoveries: CounterBy<Recovery>,
    pub in_doubt: Gauge,
    pub in_doubt_seconds: Gauge,
    pub reads: CounterBy<ReadBy>,
    pub blocks: CounterBy<BlockKind>,
    /// Reads that waited to leave the server that their session had to stay with.
    pub read_settles: Counter,
    pub position_samples: Counter,
    pub fences: Counter,
    pub ejections: Counter,
    pub retries: CounterBy<Retry>,
    pub held: Counter,
    pub holding: Gauge,
    hold_micros: Total,
    hold_seconds: Buckets,
    pub plan_cache_hits: Arc<Total>,
    pub plan_cache_misses: Arc<Total>,
    pub plan_cache_bytes: Gauge,
    pub statement_bytes: Gauge,
    pub merge_memory: Arc<MergeMemory>,
    pub merge_bytes: Gauge,
    pub merge_peak: Gauge,
    pub digests: Gauge,
    pub digests_evicted: Counter,
    transactions: Total,
    transaction_micros: Total,
    query_micros: Total,
    wait_micros: Total,
    query_seconds: Buckets,
    checkout_seconds: Buckets,
    read_wait_micros: Total,
    read_wait_seconds: Buckets,
}

/// A slot and how many statements were about its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotSlot {
    pub database: String,
    pub shard: String,
    pub slot: u16,
    pub statements: u64,
}

/// What SHOW STATS counts, since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub checkouts: u64,
    pub transactions: u64,
    pub queries: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub transaction_micros: u64,
    pub query_micros: u64,
    pub wait_micros: u64,
    pub client_parses: u64,
    pub server_parses: u64,
    pub binds: u64,
}

impl std::ops::Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            checkouts: self.checkouts + other.checkouts,
            transactions: self.transactions + other.transactions,
            queries: self.queries + other.queries,
            received_bytes: self.received_bytes + other.received_bytes,
            sent_bytes: self.sent_bytes + other.sent_bytes,
            transaction_micros: self.transaction_micros + other.transaction_micros,
            query_micros: self.query_micros + other.query_micros,
            wait_micros: self.wait_micros + other.wait_micros,
            client_parses: self.client_parses + other.client_parses,
            server_parses: self.server_parses + other.server_parses,
            binds: self.binds + other.binds,
        }
    }
}

/// One server's metrics, for one shard of one database.
pub struct ServerMetrics {
    /// Connections that serve a client.
    pub active: Gauge,
    /// Connections that wait for one.
    pub idle: Gauge,
    /// Of the texts that its connections keep prepared.
    pub prepared_bytes: Gauge,
    /// Connections that its pools may open.
    pub limit: Gauge,
    pub connects: Counter,
    pub connect_failures: Counter,
    pub up: Gauge,
    pub primary: Gauge,
    lag_seconds: Gauge,
    lag_bytes: Gauge,
    /// By standing, as [`Metrics::server`] got them.
    standings: Vec<(&'static str, Gauge)>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A recorder of its own, with every metric described.
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        for Metric {
            name,
            kind,
            help,
            labels: _,
        } in TABLE
        {
            match kind {
                // Written by hand.
                Kind::Counter if *name == HOT_SLOTS.name => {}
                Kind::Counter => recorder.describe_counter((*name).into(), None, (*help).into()),
                Kind::Gauge => recorder.describe_gauge((*name).into(), None, (*help).into()),
                Kind::Histogram => {}
            }
        }
        recorder
            .gauge(&BUILD, &[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        Self {
            reloads_applied: recorder.counter(&RELOADS, &["applied"]),
            reloads_refused: recorder.counter(&RELOADS, &["refused"]),
            login_failures: recorder.counter(&LOGIN_FAILURES, &[]),
            http_closed: recorder.counter(&HTTP_CLOSED, &[]),
            client_limit: recorder.gauge(&CLIENT_LIMIT, &[]),
            merge_limit: recorder.gauge(&MERGE_LIMIT, &[]),
            databases: Mutex::default(),
            shards: Mutex::default(),
            recorder,
        }
    }

    /// The handles of a database; the same ones whenever it is asked for.
    pub fn database(&self, name: &str) -> Arc<DatabaseMetrics> {
        let mut databases = self
            .databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = databases.get(name) {
            return Arc::clone(database);
        }
        let database = Arc::new(DatabaseMetrics::new(&self.recorder, name));
        databases.insert(name.to_owned(), Arc::clone(&database));
        database
    }

    /// The handles of a shard; the same ones whenever it is asked for.
    pub fn shard(&self, database: &str, shard: &str) -> Arc<ShardMetrics> {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (database.to_owned(), shard.to_owned());
        Arc::clone(shards.entry(key).or_default())
    }

    /// The handles of a server; `server` is its endpoint, written as in the configuration, and
    /// `standings` are the words for what it may be used for.
    pub fn server(
        &self,
        database: &str,
        shard: &str,
        server: &str,
        standings: &[&'static str],
    ) -> ServerMetrics {
        let labels = [database, shard, server];
        let gauge = |metric| self.recorder.gauge(metric, &labels);
        let connections = |state| {
            self.recorder
                .gauge(&SERVER_CONNECTIONS, &[database, shard, server, state])
        };
        let connects = |result| {
            self.recorder
                .counter(&SERVER_CONNECTS, &[database, shard, server, result])
        };
        let standing = |word: &&'static str| {
            let labels = [database, shard, server, word];
            (*word, self.recorder.gauge(&SERVER_STANDING, &labels))
        };
        let metrics = ServerMetrics {
            standings: standings.iter().map(standing).collect(),
            active: connections("active"),
            idle: connections("idle"),
            prepared_bytes: gauge(&SERVER_PREPARED_BYTES),
            limit: gauge(&CONNECTION_LIMIT),
            connects: connects("ok"),
            connect_failures: connects("failed"),
            up: gauge(&SERVER_UP),
            primary: gauge(&SERVER_PRIMARY),
            lag_seconds: gauge(&LAG_SECONDS),
            lag_bytes: gauge(&LAG_BYTES),
        };
        metrics.set_lag(None, None);
        metrics
    }

    /// Counts an error that Ringway itself answered with. The code is one written in our source,
    /// so that a server cannot add labels.
    pub fn error(&self, database: &str, sqlstate: &'static str) {
        self.recorder
            .counter(&ERRORS, &[database, sqlstate])
            .increment(1);
    }

    /// All metrics in Prometheus' text format. `hot` are the hottest slots now.
    pub fn render(&self, hot: &[HotSlot]) -> String {
        let databases = self
            .databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (name, database) in databases.iter() {
            let totals = database.totals();
            let publish = |metric, total| {
                self.recorder
                    .counter(metric, &[name.as_str()])
                    .absolute(total)
            };
            publish(&TRANSACTIONS, totals.transactions);
            publish(&QUERIES, totals.queries);
            publish(&RECEIVED, totals.received_bytes);
            publish(&SENT, totals.sent_bytes);
            publish(&CHECKOUTS, totals.checkouts);
            publish(&PLAN_HITS, database.plan_cache_hits.get());
            publish(&PLAN_MISSES, database.plan_cache_misses.get());
            for (kind, count) in database.routes.counts() {
                let counter = self.recorder.counter(&ROUTES, &[name, kind.name()]);
                counter.absolute(count);
            }
            for (hit, count) in database.policies.counts() {
                let (policy, action) = hit.names();
                let counter = self.recorder.counter(&POLICIES, &[name, policy, action]);
                counter.absolute(count);
            }
            for (kind, count) in database.commits.counts() {
                let counter = self.recorder.counter(&COMMITS, &[name, kind.name()]);
                counter.absolute(count);
            }
            for (outcome, count) in database.recoveries.counts() {
                let counter = self.recorder.counter(&RECOVERIES, &[name, outcome.name()]);
                counter.absolute(count);
            }
            for (reason, count) in database.retries.counts() {
                let counter = self.recorder.counter(&RETRIES, &[name, reason.name()]);
                counter.absolute(count);
            }
            for (kind, count) in database.blocks.counts() {
                let counter = self.recorder.counter(&BLOCKS, &[name, kind.name()]);
                counter.absolute(count);
            }
            for (by, count) in database.reads.counts() {
                let (role, reason) = by.names();
                let counter = self.recorder.counter(&READS, &[name, role, reason]);
                counter.absolute(count);
            }
        }
        let mut text = self.recorder.handle().render();
        write_histogram(&mut text, &QUERY_SECONDS, &databases, |database| {
            (&database.query_seconds, &database.query_micros)
        });
        write_histogram(&mut text, &CHECKOUT_SECONDS, &databases, |database| {
            (&database.checkout_seconds, &database.wait_micros)
        });
        write_histogram(&mut text, &READ_WAIT_SECONDS, &databases, |database| {
            (&database.read_wait_seconds, &database.read_wait_micros)
        });
        write_histogram(&mut text, &HOLD_SECONDS, &databases, |database| {
            (&database.hold_seconds, &database.hold_micros)
        });
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        latency::write(&mut text, &shards);
        // Written here, as the exporter would go on to tell of slots that were hot once.
        HOT_SLOTS.write_head(&mut text, "counter");
        for slot in hot {
            text.push_str(&format!(
                "{}{{database=\"{}\",shard=\"{}\",slot=\"{}\"}} {}\n",
                HOT_SLOTS.name,
                escaped(&slot.database),
                escaped(&slot.shard),
                slot.slot,
                slot.statements
            ));
        }
        text.push('\n');
        text
    }
}

/// Appends a histogram of all databases; `of` finds it and the sum of what it counted.
fn write_histogram(
    text: &mut String,
    metric: &Metric,
    databases: &BTreeMap<String, Arc<DatabaseMetrics>>,
    of: impl Fn(&DatabaseMetrics) -> (&Buckets, &Total),
) {
    let name = metric.name;
    metric.write_head(text, "histogram");
    for (database, metrics) in databases {
        let (buckets, sum) = of(metrics);
        let labels = format!("database=\"{}\"", escaped(database));
        buckets.write(text, name, &labels, sum.get());
    }
    text.push('\n');
}

/// As the value of a label.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

impl DatabaseMetrics {
    fn new(recorder: &PrometheusRecorder, name: &str) -> Self {
        let counter = |metric| recorder.counter(metric, &[name]);
        let gauge = |metric| recorder.gauge(metric, &[name]);
        Self {
            clients: gauge(&CLIENTS),
            client_connections: counter(&CLIENT_CONNECTIONS),
            waiting: gauge(&WAITING),
            received_bytes: Total::default(),
            sent_bytes: Total::default(),
            client_parses: Total::default(),
            server_parses: Total::default(),
            binds: Total::default(),
            routes: CounterBy::default(),
            policies: CounterBy::default(),
            commits: CounterBy::default(),
            recoveries: CounterBy::default(),
            in_doubt: gauge(&IN_DOUBT),
            in_doubt_seconds: gauge(&IN_DOUBT_SECONDS),
            reads: CounterBy::default(),
            blocks: CounterBy::default(),
            read_settles: counter(&READ_SETTLES),
            position_samples: counter(&POSITION_SAMPLES),
            fences: counter(&FENCES),
            ejections: counter(&EJECTIONS),
            retries: CounterBy::default(),
            held: counter(&HELD),
            holding: gauge(&HOLDING),
            hold_micros: Total::default(),
            hold_seconds: Buckets::default(),
            plan_cache_hits: Arc::default(),
            plan_cache_misses: Arc::default(),
            plan_cache_bytes: gauge(&PLAN_BYTES),
            statement_bytes: gauge(&STATEMENT_BYTES),
            merge_memory: Arc::default(),
            merge_bytes: gauge(&MERGE_BYTES),
            merge_peak: gauge(&MERGE_PEAK),
            digests: gauge(&DIGESTS),
            digests_evicted: counter(&DIGESTS_EVICTED),
            transactions: Total::default(),
            transaction_micros: Total::default(),
            query_micros: Total::default(),
            wait_micros: Total::default(),
            query_seconds: Buckets::default(),
            checkout_seconds: Buckets::default(),
            read_wait_micros: Total::default(),
            read_wait_seconds: Buckets::default(),
        }
    }

    /// A statement was answered, `elapsed` after it arrived.
    pub fn query_done(&self, elapsed: Duration) {
        self.query_micros.add_micros(elapsed);
        self.query_seconds.record(elapsed);
    }

    /// A statement has waited for its shard to have a primary, in vain or not.
    pub fn hold_done(&self, elapsed: Duration) {
        self.hold_micros.add_micros(elapsed);
        self.hold_seconds.record(elapsed);
    }

    /// A transaction ended, `elapsed` after its first statement.
    pub fn transaction_done(&self, elapsed: Duration) {
        self.transactions.add(1);
        self.transaction_micros.add_micros(elapsed);
    }

    /// A client got a server connection after it had waited for it.
    pub fn checkout_done(&self, waited: Duration) {
        if waited > Duration::ZERO {
            self.wait_micros.add_micros(waited);
        }
        self.checkout_seconds.record(waited);
    }

    /// A read has waited for a replica that has what its session wrote or saw, well or not.
    pub fn read_wait_done(&self, waited: Duration) {
        self.read_wait_micros.add_micros(waited);
        self.read_wait_seconds.record(waited);
    }

    /// How long statements took, as they are counted for `ringway_query_seconds`.
    pub fn latencies(&self) -> Counts {
        self.query_seconds.counts()
    }

    pub fn totals(&self) -> Totals {
        Totals {
            checkouts: self.checkout_seconds.count(),
            transactions: self.transactions.get(),
            queries: self.query_seconds.count(),
            received_bytes: self.received_bytes.get(),
            sent_bytes: self.sent_bytes.get(),
            transaction_micros: self.transaction_micros.get(),
            query_micros: self.query_micros.get(),
            wait_micros: self.wait_micros.get(),
            client_parses: self.client_parses.get(),
            server_parses: self.server_parses.get(),
            binds: self.binds.get(),
        }
    }
}

impl ServerMetrics {
    /// The server left the configuration: what it was last is no longer true.
    pub fn retire(&self) {
        self.active.set(0.0);
        self.idle.set(0.0);
        self.prepared_bytes.set(0.0);
        self.limit.set(0.0);
        self.up.set(f64::NAN);
        self.primary.set(f64::NAN);
        self.set_lag(None, None);
        self.set_standing("");
    }

    /// Of the words given to [`Metrics::server`]; none of them when it is another.
    pub fn set_standing(&self, standing: &str) {
        for (word, gauge) in &self.standings {
            gauge.set(f64::from(u8::from(*word == standing)));
        }
    }

    /// `None` when it is unknown or the server is no replica.
    pub fn set_lag(&self, age: Option<Duration>, bytes: Option<u64>) {
        self.lag_seconds
            .set(age.map_or(f64::NAN, |age| age.as_secs_f64()));
        self.lag_bytes
            .set(bytes.map_or(f64::NAN, |bytes| bytes as f64));
    }
}

/// Handles by row of the table, so that names and labels are written there only.
trait FromTable {
    fn counter(&self, metric: &Metric, values: &[&str]) -> Counter;
    fn gauge(&self, metric: &Metric, values: &[&str]) -> Gauge;
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

impl FromTable for PrometheusRecorder {
    fn counter(&self, metric: &Metric, values: &[&str]) -> Counter {
        self.register_counter(&metric.key(Kind::Counter, values), &METADATA)
    }

    fn gauge(&self, metric: &Metric, values: &[&str]) -> Gauge {
        self.register_gauge(&metric.key(Kind::Gauge, values), &METADATA)
    }
}

impl Metric {
    fn write_head(&self, text: &mut String, kind: &str) {
        let Self { name, help, .. } = self;
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn key(&self, kind: Kind, values: &[&str]) -> Key {
        debug_assert!(
            self.kind == kind && self.labels.len() == values.len(),
            "{}",
            self.name
        );
        let labels = self.labels.iter().zip(values);
        let labels: Vec<Label> = labels
            .map(|(label, value)| Label::new(*label, (*value).to_owned()))
            .collect();
        Key::from_parts(self.name, labels)
    }
}
