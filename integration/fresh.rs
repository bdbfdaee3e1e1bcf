//! Reads that never fall behind their session, under load and with replicas that lag. Each run also
//! shows the same load with freshness off, which must break what is promised: else the test proves
//! nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringway::demo::captive::{CaptiveCluster, Spec};
use tokio::task::JoinSet;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use crate::support::{self, Ringway};

const CLIENTS: usize = 32;
const LIMIT: Duration = Duration::from_secs(20);

/// Two replicas, of which one replays `delay_ms` late, and a row for each client.
fn start(delay_ms: u32) -> CaptiveCluster {
    let cluster = support::cluster(&Spec {
        replicas: 2,
        ..Spec::default()
    });
    let shard = &cluster.shards[0];
    shard
        .primary
        .exec(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL); \
             INSERT INTO t SELECT id, 0 FROM generate_series(0, {CLIENTS}) id"
        ))
        .unwrap();
    cluster.wait_caught_up().unwrap();
    let late = &shard.replicas[1];
    late.exec(&format!(
        "ALTER SYSTEM SET recovery_min_apply_delay = {delay_ms}"
    ))
    .unwrap();
    late.exec("SELECT pg_reload_conf()").unwrap();
    cluster
}

/// How Ringway is set up for a load.
#[derive(Debug, Clone, Copy)]
struct Setup {
    freshness: &'static str,
    pool_mode: &'static str,
    transactions: &'static str,
}

impl Setup {
    const PLAIN: Self = Self {
        freshness: "session",
        pool_mode: "transaction",
        transactions: "primary",
    };
}

fn ringway(cluster: &CaptiveCluster, setup: Setup) -> Ringway {
    let Setup {
        freshness,
        pool_mode,
        transactions,
    } = setup;
    // In session mode each client has a connection to the primary for itself.
    let pool_size = if pool_mode == "session" {
        CLIENTS + 2
    } else {
        8
    };
    let shard = &cluster.shards[0];
    let mut servers = vec![shard.primary.port];
    servers.extend(shard.replicas.iter().map(|replica| replica.port));
    let servers: Vec<_> = servers
        .iter()
        .map(|port| format!("\"127.0.0.1:{port}\""))
        .collect();
    Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\nservers = [{}]\npool_size = {pool_size}\n\
             pool_mode = \"{pool_mode}\"\n\
             [databases.shop.reads]\nsplit = true\nmax_lag_ms = 60000\npoll_interval_ms = 20\n\
             freshness = \"{freshness}\"\ntransactions = \"{transactions}\"\n",
            servers.join(", ")
        )
    })
}

/// What a load saw.
#[derive(Debug, Default)]
struct Seen {
    reads: AtomicUsize,
    /// Reads that did not show their session's last write.
    stale: AtomicUsize,
    /// Reads that showed an older state than one before.
    backward: AtomicUsize,
    /// Of those the ones that went from a replica to the primary. PostgreSQL itself shows a commit to
    /// others only after it has flushed it, and a replica may be faster (docs/fresh-reads.md).
    ahead_of_primary: AtomicUsize,
    on_replicas: AtomicUsize,
    /// First reads after a pause in which a replica has caught up, and those of them on replicas.
    rested: AtomicUsize,
    rested_on_replicas: AtomicUsize,
}

/// One session: writes, then reads what it wrote and, twice, what another writes all the time.
struct Session {
    client: Client,
    id: i32,
    primary: i32,
    read: Statement,
    write: Statement,
    /// What a read showed, and whether a replica answered it.
    newest: (i32, bool),
}

impl Session {
    /// In one of five ways: a simple statement, a prepared one, a transaction in one text, a
    /// transaction of several statements that reads before it writes, and a pipeline.
    async fn pair(&mut self, v: i32, seen: &Seen) {
        let id = self.id;
        let update = format!("UPDATE t SET v = {v} WHERE id = {id}");
        match v % 5 {
            0 => self.client.batch_execute(&update).await.unwrap(),
            1 => {
                let written = self.client.execute(&self.write, &[&v, &id]).await;
                assert_eq!(written.unwrap(), 1);
            }
            2 => {
                let sql = format!("BEGIN; {update}; COMMIT");
                self.client.batch_execute(&sql).await.unwrap();
            }
            3 => {
                self.client.batch_execute("BEGIN").await.unwrap();
                self.read(v - 1, seen).await;
                self.client.batch_execute(&update).await.unwrap();
                self.read(v, seen).await;
                self.client.batch_execute("COMMIT").await.unwrap();
            }
            _ => {
                let values: [&(dyn ToSql + Sync); 2] = [&v, &id];
                let (written, row) = futures_util::join!(
                    self.client.execute(&self.write, &values),
                    self.client.query_one(&self.read, &values[1..]),
                );
                assert_eq!(written.unwrap(), 1);
                self.judge(&row.unwrap(), v, seen);
            }
        }
        for _ in 0..2 {
            self.read(v, seen).await;
        }
    }

    async fn read(&mut self, v: i32, seen: &Seen) -> bool {
        let row = self.client.query_one(&self.read, &[&self.id]).await;
        self.judge(&row.unwrap(), v, seen)
    }

    /// Whether a replica has answered.
    fn judge(&mut self, row: &Row, v: i32, seen: &Seen) -> bool {
        let [own, shared, port] = [0, 1, 2].map(|at| row.get::<_, i32>(at));
        let on_replica = self.primary != port;
        seen.reads.fetch_add(1, Relaxed);
        seen.stale.fetch_add(usize::from(own != v), Relaxed);
        seen.on_replicas.fetch_add(usize::from(on_replica), Relaxed);
        seen.judge(&mut self.newest, shared, on_replica);
        on_replica
    }
}

impl Seen {
    /// `newest` is what the session saw before.
    fn judge(&self, newest: &mut (i32, bool), value: i32, on_replica: bool) {
        let may_be_ahead = newest.1 && !on_replica && value + 2 >= newest.0;
        match (value < newest.0, may_be_ahead) {
            (true, true) => self.ahead_of_primary.fetch_add(1, Relaxed),
            (true, false) => self.backward.fetch_add(1, Relaxed),
            (false, _) => {
                *newest = (value, on_replica);
                0
            }
        };
    }
}

async fn load(cluster: &CaptiveCluster, setup: Setup, pairs: i32) -> Seen {
    let ringway = ringway(cluster, setup);
    let url = format!("postgresql://ringway@127.0.0.1:{}/shop", ringway.port());
    let primary = i32::from(cluster.shards[0].primary.port);
    let seen = Arc::new(Seen::default());
    let mut tasks = JoinSet::new();
    let stop = Arc::new(AtomicUsize::new(CLIENTS));
    for id in 0..CLIENTS as i32 {
        let client = support::client(&url).await;
        let sql = format!(
            "SELECT (SELECT v FROM t WHERE id = $1), (SELECT v FROM t WHERE id = {CLIENTS}), \
             inet_server_port()"
        );
        let read = client.prepare(&sql).await.unwrap();
        let sql = "UPDATE t SET v = $1 WHERE id = $2";
        let write = client.prepare(sql).await.unwrap();
        let mut session = Session {
            client,
            id,
            primary,
            read,
            write,
            newest: (0, false),
        };
        let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
        tasks.spawn(async move {
            for v in 1..=pairs {
                session.pair(v, &seen).await;
                if v % 8 == 0 {
                    // Long enough for a replica to be known to have caught up.
                    tokio::time::sleep(Duration::from_millis(60)).await;
                    let mut on_replica = session.read(v, &seen).await;
                    seen.rested.fetch_add(1, Relaxed);
                    seen.rested_on_replicas
                        .fetch_add(usize::from(on_replica), Relaxed);
                    let deadline = Instant::now() + LIMIT;
                    while !on_replica {
                        assert!(Instant::now() < deadline, "no replica answers {id} again");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        on_replica = session.read(v, &seen).await;
                    }
                }
            }
            stop.fetch_sub(1, Relaxed);
        });
    }
    let writer = support::client(&url).await;
    let counts = Arc::clone(&stop);
    tasks.spawn(async move {
        let sql = format!("UPDATE t SET v = v + 1 WHERE id = {CLIENTS}");
        while counts.load(Relaxed) > 0 {
            writer.batch_execute(&sql).await.unwrap();
        }
    });
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    drop(ringway);
    let seen = Arc::into_inner(seen).expect("all tasks have ended");
    cluster.shards[0]
        .primary
        .exec("UPDATE t SET v = 0")
        .unwrap();
    cluster.wait_caught_up().unwrap();
    eprintln!("{pairs} pairs by {CLIENTS} clients, {setup:?}: {seen:?}");
    seen
}

/// How many pairs of a write and its reads, in the long form.
const LONG_FORM: &str = "RINGWAY_SOAK_PAIRS";

/// Whether the long form was asked for, which needs a machine without other work.
pub fn is_long() -> bool {
    std::env::var_os(LONG_FORM).is_some()
}

fn pairs() -> i32 {
    let wanted = std::env::var(LONG_FORM).ok();
    let all = wanted.and_then(|pairs| pairs.parse().ok()).unwrap_or(3_200);
    all / CLIENTS as i32
}

async fn holds_at(delay_ms: u32, setup: Setup) {
    let cluster = start(delay_ms);
    let off = Setup {
        freshness: "off",
        ..setup
    };
    let control = load(&cluster, off, pairs().min(100)).await;
    // With replicas that keep up, few reads go back in time even so.
    assert!(
        control.stale.load(Relaxed) > 0 && (delay_ms == 0 || control.backward.load(Relaxed) > 0),
        "the load shows nothing: {control:?}"
    );
    check(&load(&cluster, setup, pairs()).await);
}

#[track_caller]
fn check(seen: &Seen) {
    assert_eq!(seen.stale.load(Relaxed), 0, "{seen:?}");
    assert_eq!(seen.backward.load(Relaxed), 0, "{seen:?}");
    // Rare, and by the commits under way in that moment.
    assert!(
        seen.ahead_of_primary.load(Relaxed) * 50 < seen.reads.load(Relaxed),
        "{seen:?}"
    );
    let (rested, there) = (&seen.rested, &seen.rested_on_replicas);
    // All get to a replica in the end. On a machine that has other things to do the pause may be too short
    // for many; who asks for the long form has a quiet one.
    assert!(
        !is_long() || there.load(Relaxed) * 100 >= rested.load(Relaxed) * 90,
        "{seen:?}"
    );
}

#[tokio::test]
async fn no_read_is_stale_with_replicas_that_keep_up() {
    holds_at(0, Setup::PLAIN).await;
}

#[tokio::test]
async fn no_read_is_stale_with_a_replica_50_ms_behind() {
    holds_at(50, Setup::PLAIN).await;
}

#[tokio::test]
async fn no_read_is_stale_with_a_replica_2_s_behind() {
    holds_at(2000, Setup::PLAIN).await;
}

#[tokio::test]
async fn no_read_is_stale_in_session_mode() {
    let session = Setup {
        pool_mode: "session",
        ..Setup::PLAIN
    };
    holds_at(50, session).await;
}

#[tokio::test]
async fn no_read_is_stale_in_transactions_that_move() {
    let moving = Setup {
        transactions: "replica_until_write",
        ..Setup::PLAIN
    };
    holds_at(50, moving).await;
}

/// Two shards, each with a replica that replays late; every client has a row, and each read shows all
/// rows of both shards.
async fn merged_load(cluster: &CaptiveCluster, freshness: &str, pairs: i32) -> Seen {
    let mut shards = String::new();
    for (at, shard) in cluster.shards.iter().enumerate() {
        let (primary, replica) = (shard.primary.port, shard.replicas[0].port);
        shards.push_str(&format!(
            "[[databases.shop.shards]]\nname = \"s{at}\"\n\
             servers = [\"127.0.0.1:{primary}\", \"127.0.0.1:{replica}\"]\n"
        ));
    }
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\npool_size = 16\n\
             [databases.shop.reads]\nsplit = true\nmax_lag_ms = 60000\npoll_interval_ms = 20\n\
             freshness = \"{freshness}\"\n[databases.shop.tables]\nt = {{ key = \"id\" }}\n{shards}"
        )
    });
    let primaries: Vec<_> = cluster
        .shards
        .iter()
        .map(|shard| i32::from(shard.primary.port))
        .collect();
    let seen = Arc::new(Seen::default());
    let mut tasks = JoinSet::new();
    let url = format!("postgresql://ringway@127.0.0.1:{}/shop", ringway.port());
    for id in 0..CLIENTS as i32 {
        let client = support::client(&url).await;
        let (seen, primaries) = (Arc::clone(&seen), primaries.clone());
        tasks.spawn(async move {
            let mut newest = vec![(0, false); CLIENTS];
            let sql = "SELECT id, v, inet_server_port() FROM t ORDER BY id";
            for v in 1..=pairs {
                let update = format!("UPDATE t SET v = {v} WHERE id = {id}");
                client.batch_execute(&update).await.unwrap();
                let rested = v % 8 == 0;
                if rested {
                    tokio::time::sleep(Duration::from_millis(120)).await;
                }
                let deadline = Instant::now() + LIMIT;
                let mut is_first = true;
                loop {
                    let rows = client.query(sql, &[]).await.unwrap();
                    assert_eq!(rows.len(), CLIENTS);
                    seen.reads.fetch_add(1, Relaxed);
                    let mut own_on_replica = false;
                    for row in rows {
                        let [of, value, port] = [0, 1, 2].map(|at| row.get::<_, i32>(at));
                        let on_replica = !primaries.contains(&port);
                        seen.stale
                            .fetch_add(usize::from(of == id && value != v), Relaxed);
                        seen.judge(&mut newest[of as usize], value, on_replica);
                        own_on_replica |= of == id && on_replica;
                    }
                    if rested && is_first {
                        seen.rested.fetch_add(1, Relaxed);
                        seen.rested_on_replicas
                            .fetch_add(usize::from(own_on_replica), Relaxed);
                    }
                    if !rested || own_on_replica {
                        break;
                    }
                    assert!(Instant::now() < deadline, "no replica answers {id} again");
                    is_first = false;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    drop(ringway);
    for shard in &cluster.shards {
        shard.primary.exec("UPDATE t SET v = 0").unwrap();
    }
    cluster.wait_caught_up().unwrap();
    let seen = Arc::into_inner(seen).expect("all tasks have ended");
    eprintln!("{pairs} merged reads by {CLIENTS} clients, freshness {freshness}: {seen:?}");
    seen
}

#[tokio::test]
async fn no_merged_read_is_stale_over_two_shards() {
    let cluster = support::cluster(&Spec {
        shards: 2,
        replicas: 1,
        ..Spec::default()
    });
    // The rows of each shard are those that Ringway sends there.
    for shard in &cluster.shards {
        shard
            .primary
            .exec("CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL)")
            .unwrap();
    }
    cluster.wait_caught_up().unwrap();
    for shard in &cluster.shards {
        let late = &shard.replicas[0];
        late.exec("ALTER SYSTEM SET recovery_min_apply_delay = 50")
            .unwrap();
        late.exec("SELECT pg_reload_conf()").unwrap();
    }
    fill(&cluster).await;
    let control = merged_load(&cluster, "off", pairs().min(30)).await;
    assert!(control.stale.load(Relaxed) > 0, "{control:?}");
    check(&merged_load(&cluster, "session", pairs().min(300)).await);
}

/// A row for each client, on the shard that owns it.
async fn fill(cluster: &CaptiveCluster) {
    let mut shards = String::new();
    for (at, shard) in cluster.shards.iter().enumerate() {
        shards.push_str(&format!(
            "[[databases.shop.shards]]\nname = \"s{at}\"\nservers = [\"127.0.0.1:{}\"]\n",
            shard.primary.port
        ));
    }
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\n[databases.shop.tables]\nt = {{ key = \"id\" }}\n{shards}"
        )
    });
    let url = format!("postgresql://ringway@127.0.0.1:{}/shop", ringway.port());
    let client = support::client(&url).await;
    for id in 0..CLIENTS {
        let sql = format!("INSERT INTO t VALUES ({id}, 0)");
        client.batch_execute(&sql).await.unwrap();
    }
    cluster.wait_caught_up().unwrap();
}
