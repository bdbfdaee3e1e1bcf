//! The labelled statements of `planner/tests/testdata/access.plan` on real PostgreSQL with a replica:
//! none of those that may write reaches the replica, and as many of the others as the planner can
//! prove.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use ringway::demo::captive::{CaptiveCluster, Spec};

use crate::support::{self, Ringway};

const LIMIT: Duration = Duration::from_secs(20);

fn start() -> (CaptiveCluster, Ringway) {
    let cluster = support::cluster(&Spec {
        replicas: 1,
        settings: vec![("log_statement".to_owned(), "all".to_owned())],
        ..Spec::default()
    });
    let shard = &cluster.shards[0];
    shard.primary.exec(include_str!("corpus.sql")).unwrap();
    cluster.wait_caught_up().unwrap();
    let (primary, replica) = (shard.primary.port, shard.replicas[0].port);
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n\
             [users.ringway]\nauth = \"trust\"\n\n\
             [databases.shop]\nservers = [\"127.0.0.1:{primary}\", \"127.0.0.1:{replica}\"]\n\
             reads = {{ split = true, max_lag_ms = 60000 }}\n\
             [databases.shop.functions]\nlisted = \"read\"\n\"public.tax\" = \"read\"\n"
        )
    });
    (cluster, ringway)
}

/// The statements under a heading of the corpus.
fn statements(heading: &str) -> Vec<&'static str> {
    let corpus = include_str!("../planner/tests/testdata/access.plan");
    let mut blocks = corpus.split("\n\n");
    let block = blocks.find(|block| block.lines().next() == Some(heading));
    let lines = block.expect("the heading").lines().skip(1);
    lines.take_while(|line| *line != "----").collect()
}

/// Runs one statement in a session of its own; what went wrong, if something did.
fn run(ringway: &Ringway, tag: &str, sql: &str) -> Result<String, String> {
    let url = format!("postgresql://ringway@127.0.0.1:{}/shop", ringway.port());
    let output = Command::new("psql")
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &url, "-c"])
        .arg(format!("/* {tag} */ {sql}"))
        .stdin(Stdio::null())
        .output()
        .expect("psql");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The numbers of the tagged statements that a server has logged.
fn logged(log: &str, tag: &str) -> BTreeSet<usize> {
    let start = format!("/* {tag}");
    let numbers = log.split(&start).skip(1);
    let number = |rest: &str| rest.split(' ').next()?.parse().ok();
    numbers.filter_map(number).collect()
}

#[test]
fn no_statement_that_may_write_reaches_a_replica() {
    let (cluster, ringway) = start();
    let (primary, replica) = (&cluster.shards[0].primary, &cluster.shards[0].replicas[0]);
    let replica_port = replica.port.to_string();
    support::wait_until(LIMIT, "reads go to the replica", || {
        let port = run(&ringway, "warm up", "SELECT inet_server_port(), listed(1)");
        port.is_ok_and(|port| port.starts_with(&replica_port))
    });

    let (reads, writes) = (statements("access"), statements("access writes"));
    assert!(reads.len() + writes.len() >= 300);
    for (number, sql) in reads.iter().enumerate() {
        if let Err(error) = run(&ringway, &format!("r{number}"), sql) {
            panic!("{sql}: {error}");
        }
    }
    let routing = support::psql(
        &format!("postgresql://ringway@127.0.0.1:{}/ringway", ringway.port()),
        "SHOW ROUTING",
    );
    let mut failed = 0;
    for (number, sql) in writes.iter().enumerate() {
        failed += usize::from(run(&ringway, &format!("w{number}"), sql).is_err());
    }

    let log = replica.log();
    let on_replica: Vec<_> = logged(&log, "w").iter().map(|at| writes[*at]).collect();
    assert_eq!(on_replica, Vec::<&str>::new(), "a replica got them");
    let on_primary = logged(&primary.log(), "w").len();
    assert!(
        on_primary > writes.len() * 9 / 10,
        "{on_primary} are logged"
    );

    let served = logged(&log, "r");
    let here = logged(&primary.log(), "r");
    println!(
        "{} statements that may write: none on the replica, {on_primary} on the primary, \
         {failed} of them rejected by PostgreSQL",
        writes.len()
    );
    println!(
        "{} true reads: {} on the replica, {} on the primary ({:.1} %):",
        reads.len(),
        served.len(),
        here.len(),
        100.0 * here.len() as f64 / reads.len() as f64
    );
    for at in &here {
        println!("  {}", reads[*at]);
    }
    println!("{routing}");
    assert!(here.len() * 10 < reads.len(), "too many on the primary");
    let fresh = routing
        .lines()
        .find(|line| line.contains("replica|fresh_replica|"))
        .and_then(|line| line.split('|').nth(3)?.parse::<usize>().ok());
    assert!(
        fresh.is_some_and(|fresh| fresh >= served.len()),
        "{routing}"
    );
}
