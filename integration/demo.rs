//! The demo: its data, its tour, its end.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ringway::demo::answer::Protocol;
use ringway::demo::check::{Verdict, compare};
use ringway::demo::tour::{self, Expect};

use crate::support;

const COUNTS: &str = "SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM orders), \
                      (SELECT count(*) FROM order_items), (SELECT count(*) FROM countries)";

fn counts(answer: &str) -> Vec<u64> {
    answer
        .split('|')
        .map(|count| count.parse().unwrap())
        .collect()
}

#[tokio::test]
async fn the_shards_hold_the_plain_servers_rows() {
    let (shop, plain) = (support::shop().await, support::plain_shop().await);
    let plain = counts(&plain.shards[0].primary.exec(COUNTS).unwrap());
    assert_eq!(plain, [10_000, 60_000, 90_000, 12]);
    let shards: Vec<_> = shop
        .shards
        .iter()
        .map(|s| counts(&s.replicas[0].exec(COUNTS).unwrap()))
        .collect();
    for table in 0..3 {
        assert_eq!(
            shards.iter().map(|counts| counts[table]).sum::<u64>(),
            plain[table]
        );
        assert!(
            shards.iter().all(|counts| counts[table] > plain[table] / 3),
            "{shards:?}"
        );
    }
    assert!(
        shards.iter().all(|counts| counts[3] == 12),
        "the reference table is everywhere"
    );
}

/// The tour must mean the same on two plain servers, or it could not find a difference.
#[tokio::test]
async fn the_tour_agrees_with_itself() {
    let (one, other) = (support::loaded(1, 0).await, support::loaded(1, 0).await);
    let one = support::client(&ringway::demo::shop::url(
        one.shards[0].primary.port,
        "shop",
    ))
    .await;
    let other = support::client(&ringway::demo::shop::url(
        other.shards[0].primary.port,
        "shop",
    ))
    .await;
    for block in tour::parse(tour::SHOP).unwrap() {
        for protocol in [Protocol::Simple, Protocol::Extended] {
            let verdict = compare(&one, &other, &block, protocol).await;
            let same = verdict == Verdict::Same;
            assert_eq!(
                same,
                block.expect != Expect::Refused,
                "{}: {verdict:?}",
                block.title
            );
        }
    }
}

#[tokio::test]
async fn the_demo_checks_itself() {
    let output = tokio::task::spawn_blocking(|| {
        Command::new(env!("CARGO_BIN_EXE_ringway"))
            .args(["demo", "--check"])
            .output()
            .unwrap()
    });
    let output = output.await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    assert!(
        text(&output.stdout).contains("0 differ"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn ctrl_c_stops_everything_and_removes_every_file() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .arg("demo")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(demo.stdout.take().unwrap());
    let config = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| Some(PathBuf::from(line.strip_prefix("Configuration: ")?)))
        .expect("the demo names its configuration");
    assert!(config.exists());
    let kill = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -s INT {}", demo.id()))
        .status();
    assert!(kill.unwrap().success());
    assert!(demo.wait().unwrap().success());
    let directory = config.ancestors().nth(2).unwrap();
    assert!(
        !directory.exists(),
        "{} is still there",
        directory.display()
    );
}
