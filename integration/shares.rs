//! Who answers reads: shares by weight, next to none on the primary while replicas are well, and none
//! on a replica that was cut off from its primary.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringway::demo::captive::{CaptiveCluster, Spec};
use tokio::task::JoinSet;

use crate::fresh;
use crate::support::{self, Ringway};

const LIMIT: Duration = Duration::from_secs(20);

fn start(replicas: usize) -> CaptiveCluster {
    let cluster = support::cluster(&Spec {
        replicas,
        ..Spec::default()
    });
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL); \
         INSERT INTO t SELECT id, 0 FROM generate_series(0, 9) id";
    cluster.shards[0].primary.exec(sql).unwrap();
    cluster.wait_caught_up().unwrap();
    cluster
}

fn ringway(cluster: &CaptiveCluster, reads: &str) -> Ringway {
    let shard = &cluster.shards[0];
    let mut servers = vec![shard.primary.port];
    servers.extend(shard.replicas.iter().map(|replica| replica.port));
    let servers: Vec<_> = servers
        .iter()
        .map(|port| format!("\"127.0.0.1:{port}\""))
        .collect();
    Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n\
             [users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\nservers = [{}]\npool_size = 8\n\
             [databases.shop.reads]\nsplit = true\npoll_interval_ms = 20\n{reads}\n",
            servers.join(", ")
        )
    })
}

fn url(ringway: &Ringway, database: &str) -> String {
    format!(
        "postgresql://ringway@127.0.0.1:{}/{database}",
        ringway.port()
    )
}

/// Waits until both replicas serve.
fn wait_for_replicas(ringway: &Ringway, count: usize) {
    let admin = url(ringway, "ringway");
    support::wait_until(LIMIT, "fresh replicas", || {
        let rows = support::psql(&admin, "SHOW REPLICAS");
        rows.lines().filter(|row| row.contains("|fresh|")).count() == count
    });
}

const READERS: usize = 80;
const READS: usize = 150;

/// How many reads each server answered, of readers that never write beside writers that do: nine reads
/// for each write.
async fn shares(cluster: &CaptiveCluster, reads: &str) -> BTreeMap<u16, usize> {
    // Well they are, however long this machine keeps them waiting.
    let ringway = ringway(cluster, &format!("max_lag_ms = 60000\n{reads}"));
    wait_for_replicas(&ringway, cluster.shards[0].replicas.len());
    let mut tasks = JoinSet::new();
    let done = Arc::new(AtomicBool::new(false));
    for reader in 0..READERS {
        let client = support::client(&url(&ringway, "shop")).await;
        tasks.spawn(async move {
            let mut ports = BTreeMap::new();
            let sql = "SELECT inet_server_port() FROM t WHERE id = $1";
            let id = (reader % 10) as i32;
            for _ in 0..READS {
                let row = client.query_one(sql, &[&id]).await.unwrap();
                *ports.entry(row.get::<_, i32>(0) as u16).or_default() += 1;
            }
            ports
        });
    }
    let mut writers = JoinSet::new();
    let every = READERS * READS / 9 / 4;
    for id in 0..4 {
        let (client, done) = (
            support::client(&url(&ringway, "shop")).await,
            Arc::clone(&done),
        );
        writers.spawn(async move {
            let mut writes = 0;
            while writes < every && !done.load(Relaxed) {
                let sql = format!("UPDATE t SET v = v + 1 WHERE id = {id}");
                client.batch_execute(&sql).await.unwrap();
                writes += 1;
            }
            writes
        });
    }
    let mut all = BTreeMap::new();
    while let Some(ports) = tasks.join_next().await {
        let ports: BTreeMap<u16, usize> = ports.unwrap();
        for (port, count) in ports {
            *all.entry(port).or_default() += count;
        }
    }
    done.store(true, Relaxed);
    let mut writes = 0;
    while let Some(written) = writers.join_next().await {
        writes += written.unwrap();
    }
    let names: BTreeMap<_, _> = std::iter::once(("primary", cluster.shards[0].primary.port))
        .chain(
            ["replica 1", "replica 2"].into_iter().zip(
                cluster.shards[0]
                    .replicas
                    .iter()
                    .map(|replica| replica.port),
            ),
        )
        .map(|(name, port)| (name, all.get(&port).copied().unwrap_or(0)))
        .collect();
    println!("{reads:?}: {writes} writes, reads {names:?}");
    let routing = support::psql(&url(&ringway, "ringway"), "SHOW ROUTING");
    for row in routing.lines().filter(|row| !row.contains("|0|0.0|")) {
        println!("  {row}");
    }
    all
}

/// The shares that the policies promise.
struct Promise {
    /// Per cent of the reads that the primary may answer.
    primary: f64,
    /// Per cent that the first replica answers, and how far off it may be.
    one: f64,
    points: f64,
}

impl Promise {
    /// Percentages of the primary and of the first replica that do not keep it.
    fn broken(&self, [primary, one]: [f64; 2]) -> Option<String> {
        let keeps = primary <= self.primary && (one - self.one).abs() <= self.points;
        let found = format!(
            "{primary} % on the primary, {one} % instead of {}",
            self.one
        );
        (!keeps).then_some(found)
    }
}

#[tokio::test]
async fn replicas_share_reads_by_weight_and_the_primary_gets_next_to_none() {
    let cluster = start(2);
    let shard = &cluster.shards[0];
    let ports = [
        shard.primary.port,
        shard.replicas[0].port,
        shard.replicas[1].port,
    ];
    let weighted = format!(
        "weights = {{ \"127.0.0.1:{}\" = 1, \"127.0.0.1:{}\" = 3 }}",
        ports[1], ports[2]
    );
    for (reads, part) in [
        (weighted.as_str(), 25.0),
        ("balance = \"round_robin\"", 50.0),
        ("balance = \"random\"", 50.0),
        ("balance = \"least_connections\"", 50.0),
    ] {
        // On a machine that has other things to do replicas are not always known to have caught up, and
        // by lots, and by who is busy, shares come near to equal ones only. Who asks for the long form
        // has a quiet machine, and one measurement has to do.
        let by_chance = reads.contains("random") || reads.contains("least");
        let (primary, points, attempts) = match (fresh::is_long(), by_chance) {
            (true, false) => (1.0, 5.0, 1),
            (true, true) => (1.0, 10.0, 1),
            (false, _) => (8.0, 20.0, 3),
        };
        let promise = Promise {
            primary,
            one: part,
            points,
        };
        let mut broken = Vec::new();
        for _ in 0..attempts {
            // However badly this machine treats one of them.
            let reads = format!("eject_ms = 0\nslow_start_ms = 0\n{reads}");
            let counts = shares(&cluster, &reads).await;
            let percent = |port| {
                100.0 * counts.get(&port).copied().unwrap_or(0) as f64 / (READERS * READS) as f64
            };
            match promise.broken([percent(ports[0]), percent(ports[1])]) {
                Some(found) => broken.push(found),
                None => break,
            }
        }
        assert!(broken.len() < attempts, "{reads}: {broken:?}");
    }
    // The control: where the primary takes turns, it has its share.
    let counts = shares(&cluster, "primary_reads = \"always\"").await;
    let primary = counts.get(&ports[0]).copied().unwrap_or(0);
    assert!(primary * 100 > READERS * READS * 15, "{counts:?}");
}

#[tokio::test]
async fn a_replica_that_is_cut_off_is_out_in_time() {
    const MAX_LAG: Duration = Duration::from_secs(5);
    /// For the polls that find it out.
    const POLLS: Duration = Duration::from_millis(250);
    let cluster = start(1);
    let (primary, replica) = (&cluster.shards[0].primary, &cluster.shards[0].replicas[0]);
    let ringway = ringway(&cluster, "freshness = \"bounded\"\nmax_lag_ms = 5000");
    wait_for_replicas(&ringway, 1);
    // Nothing is written for twice as long: an idle primary is no lag.
    let start = Instant::now();
    let client = support::client(&url(&ringway, "shop")).await;
    let read = async || {
        let row = client
            .query_one("SELECT v, inet_server_port() FROM t WHERE id = 1", &[])
            .await;
        let row = row.unwrap();
        (row.get::<_, i32>(0), row.get::<_, i32>(1) as u16)
    };
    let (mut reads, mut on_replica) = (0, 0);
    while start.elapsed() < MAX_LAG * 2 {
        reads += 1;
        on_replica += usize::from(read().await.1 == replica.port);
    }
    // It is left out for a moment when it owes an answer while this machine is busy with others.
    assert!(on_replica * 10 > reads * 9, "{on_replica} of {reads}");
    // Its WAL receiver is gone and finds nobody. It still answers, and says nothing of it.
    let conninfo = replica.exec("SHOW primary_conninfo").unwrap();
    replica
        .exec("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'")
        .unwrap();
    replica.exec("SELECT pg_reload_conf()").unwrap();
    replica
        .wait_for("SELECT count(*) FROM pg_stat_wal_receiver", "0", LIMIT)
        .unwrap();
    primary.exec("UPDATE t SET v = 1 WHERE id = 1").unwrap();
    let cut = Instant::now();
    let mut stale_for = Duration::ZERO;
    // It stays out, however long nothing else is written.
    loop {
        let sent = cut.elapsed();
        let (v, port) = read().await;
        if port != primary.port {
            stale_for = sent;
            assert!(stale_for < LIMIT, "it stays in rotation");
            continue;
        }
        assert_eq!(v, 1);
        if sent > MAX_LAG + POLLS * 8 {
            break;
        }
    }
    println!("a replica cut off from its primary was out of rotation after {stale_for:?}");
    assert!(stale_for <= MAX_LAG + POLLS, "{stale_for:?}");
    let quoted = conninfo.replace('\'', "''");
    replica
        .exec(&format!("ALTER SYSTEM SET primary_conninfo = '{quoted}'"))
        .unwrap();
    replica.exec("SELECT pg_reload_conf()").unwrap();
    let back = Instant::now();
    loop {
        let (v, port) = read().await;
        assert_eq!(v, 1);
        if port == replica.port {
            break;
        }
        assert!(back.elapsed() < LIMIT, "it never comes back");
    }
    println!(
        "back in rotation {:?} after its primary was named again",
        back.elapsed()
    );
}
