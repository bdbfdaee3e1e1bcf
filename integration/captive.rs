//! The captive servers themselves: what every other test here stands on.

use std::process::{Command, Stdio};
use std::time::Duration;

use ringway::demo::captive::{Auth, CaptiveCluster, Spec, StopMode};

const LIMIT: Duration = Duration::from_secs(30);

fn start(spec: Spec) -> CaptiveCluster {
    crate::support::cluster(&spec)
}

#[test]
fn replicas_stream_and_shards_are_clusters_of_their_own() {
    let cluster = start(Spec {
        shards: 2,
        replicas: 1,
        ..Spec::default()
    });
    for shard in &cluster.shards {
        shard
            .primary
            .exec("CREATE TABLE t AS SELECT 7 AS id")
            .unwrap();
        shard.wait_caught_up().unwrap();
        assert_eq!(
            shard.replicas[0]
                .exec("SELECT id, pg_is_in_recovery() FROM t")
                .unwrap(),
            "7|t"
        );
    }
    let identifiers: std::collections::BTreeSet<_> = cluster
        .servers()
        .map(|s| {
            s.exec("SELECT system_identifier FROM pg_control_system()")
                .unwrap()
        })
        .collect();
    assert_eq!(
        identifiers.len(),
        2,
        "one identifier per shard: {identifiers:?}"
    );
}

#[test]
fn a_killed_primary_comes_back_and_a_replica_can_take_over() {
    let mut cluster = start(Spec {
        replicas: 1,
        ..Spec::default()
    });
    let shard = &mut cluster.shards[0];
    let port = shard.primary.port;
    shard.primary.exec("CREATE TABLE t (id int)").unwrap();
    shard.primary.kill9().unwrap();
    assert!(shard.primary.exec("SELECT 1").is_err());
    shard.primary.start().unwrap();
    assert_eq!(shard.primary.port, port);
    shard.primary.exec("INSERT INTO t VALUES (1)").unwrap();
    shard.wait_caught_up().unwrap();
    shard.primary.stop(StopMode::Fast).unwrap();
    shard.replicas[0].promote().unwrap();
    shard.replicas[0].exec("INSERT INTO t VALUES (2)").unwrap();
    assert_eq!(
        shard.replicas[0].exec("SELECT count(*) FROM t").unwrap(),
        "2"
    );
}

#[tokio::test]
async fn tcp_asks_for_the_password() {
    for auth in [
        Auth::Scram("right".to_owned()),
        Auth::Md5("right".to_owned()),
        Auth::Cleartext("right".to_owned()),
    ] {
        let cluster = start(Spec {
            auth: auth.clone(),
            ..Spec::default()
        });
        let mut config = cluster.shards[0].primary.connection();
        assert!(
            config.connect(tokio_postgres::NoTls).await.is_ok(),
            "{auth:?}"
        );
        let wrong = config
            .password("wrong")
            .connect(tokio_postgres::NoTls)
            .await;
        let code = wrong.err().and_then(|e| e.code().cloned());
        assert_eq!(
            code,
            Some(tokio_postgres::error::SqlState::INVALID_PASSWORD),
            "{auth:?}"
        );
    }
}

/// Runs `servers_end_with_a_killed_process` again in a child, as the process to be killed.
const VICTIM: &str = "RINGWAY_TEST_VICTIM";

#[test]
fn servers_end_with_a_killed_process() {
    if std::env::var_os(VICTIM).is_some() {
        let cluster = start(Spec::default());
        println!("directory={}", cluster.directory().display());
        // Held here until it is killed, or its parent has died.
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "captive::servers_end_with_a_killed_process",
            "--nocapture",
        ])
        .env(VICTIM, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    let directory = std::io::BufRead::lines(output)
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("directory=")?.1.to_owned()))
        .expect("the child names its directory");
    let directory = std::path::Path::new(&directory);
    assert!(directory.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = std::time::Instant::now() + LIMIT;
    while directory.exists() {
        assert!(
            std::time::Instant::now() < deadline,
            "{} is still there",
            directory.display()
        );
        std::thread::yield_now();
    }
}
