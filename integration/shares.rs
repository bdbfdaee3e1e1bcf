//! Who answers reads: shares by weight, next to none on the primary while replicas are well, and none
//! on a replica that was cut off from its primary.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringway::demo::captive::{CaptiveCluster, Spec};
use tokio::task::JoinSet;

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
        let counts = shares(&cluster, reads).await;
        let percent = |port| {
            100.0 * counts.get(&port).copied().unwrap_or(0) as f64 / (READERS * READS) as f64
        };
        let [primary, one, _] = ports.map(percent);
        // Who goes by load moves all the time, and meets the primary on its way on a busy machine.
        let most = if reads.contains("least") { 5.0 } else { 1.0 };
        assert!(primary <= most, "{reads}: {primary} % on the primary");
        // By lots, and by who is busy, shares come near to equal ones only. The others keep within 5
        // points where nothing else runs, and here, where other tests do, near to that.
        let points = match reads.contains("random") || reads.contains("least") {
            true => 20.0,
            false => 8.0,
        };
        assert!(
            (one - part).abs() <= points,
            "{reads}: {one} % instead of {part}"
        );
    }
    // The control: where the primary takes turns, it has its share.
    let counts = shares(&cluster, "primary_reads = \"always\"").await;
    let primary = counts.get(&ports[0]).copied().unwrap_or(0);
    assert!(primary * 100 > READERS * READS * 10, "{counts:?}");
}

#[tokio::test]
async fn a_replica_that_is_cut_off_is_out_in_time() {
    const MAX_LAG: Duration = Duration::from_millis(500);
    let cluster = start(1);
    let (primary, replica) = (&cluster.shards[0].primary, &cluster.shards[0].replicas[0]);
    let ringway = ringway(&cluster, "freshness = \"bounded\"\nmax_lag_ms = 500");
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
    while start.elapsed() < MAX_LAG * 2 {
        assert_eq!(read().await.1, replica.port, "idle");
    }
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
    loop {
        let (v, port) = read().await;
        if port == primary.port {
            assert_eq!(v, 1);
            break;
        }
        stale_for = cut.elapsed();
        assert!(stale_for < LIMIT, "it stays in rotation");
    }
    println!("a replica cut off from its primary was out of rotation after {stale_for:?}");
    assert!(
        stale_for <= MAX_LAG + Duration::from_millis(250),
        "{stale_for:?}"
    );
    // It stays out, however long nothing else is written.
    let out = Instant::now();
    while out.elapsed() < MAX_LAG {
        assert_eq!(read().await, (1, primary.port));
    }
    let quoted = conninfo.replace('\'', "''");
    replica
        .exec(&format!("ALTER SYSTEM SET primary_conninfo = '{quoted}'"))
        .unwrap();
    replica.exec("SELECT pg_reload_conf()").unwrap();
    let back = Instant::now();
    while read().await.1 != replica.port {
        assert!(back.elapsed() < LIMIT, "it never comes back");
    }
    println!(
        "back in rotation {:?} after its primary was named again",
        back.elapsed()
    );
    assert_eq!(read().await, (1, replica.port));
}
