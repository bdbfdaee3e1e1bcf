//! Fifty times as many clients as server connections must not make the whole slower.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use ringway::demo::captive::Spec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::admin::{free_port, get};
use crate::support::wire::frame;
use crate::support::{self, Ringway};

const CONNECTIONS: usize = 20;
const CLIENTS: usize = 1000;
/// As often each takes its turn, so that a machine that slows down favours nobody.
const ROUNDS: usize = 3;
/// Of the throughput of as many clients as there are connections: less is a collapse.
const LEAST: f64 = 0.5;
/// What it should be on a quiet machine. The benchmark judges it; this prints both.
const WANTED: f64 = 0.9;

#[test]
#[ignore = "loads the machine for as long as it is told to: make soak"]
fn soak_a_thousand_clients_on_twenty_connections() {
    let turn = crate::leak::soak_length() / (2 * ROUNDS as u32);
    let cluster = support::cluster(&Spec::default());
    let primary = &cluster.shards[0].primary;
    let rows = "CREATE TABLE t AS SELECT id, id * 2 AS twice FROM generate_series(1, 1000) AS id";
    primary.exec(rows).unwrap();
    primary.exec("CREATE INDEX ON t (id)").unwrap();
    let http = free_port();
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nhttp_listen = \"127.0.0.1:{http}\"\n\
             [users.ringway]\nauth = \"trust\"\n[databases.shop]\npool_size = {CONNECTIONS}\n\
             servers = [\"127.0.0.1:{}\"]\nmonitor_user = \"ringway\"\n",
            primary.port
        )
    });
    let mut rates = BTreeMap::<usize, Vec<f64>>::new();
    let mut waits = Waits::new();
    for _ in 0..ROUNDS {
        for clients in [CONNECTIONS, CLIENTS] {
            let before = waits_so_far(http);
            let rate = load(ringway.port(), clients, turn);
            rates.entry(clients).or_default().push(rate);
            if clients == CLIENTS {
                for (bound, count) in waits_so_far(http) {
                    let earlier = before.get(&bound).copied().unwrap_or_default();
                    *waits.entry(bound).or_default() += count - earlier;
                }
            }
        }
    }
    let middle = |clients| {
        let rates: &mut Vec<f64> = rates.get_mut(&clients).unwrap();
        rates.sort_by(f64::total_cmp);
        rates[ROUNDS / 2]
    };
    let [few, many] = [CONNECTIONS, CLIENTS].map(middle);
    let ratio = many / few;
    println!(
        "{few:.0} statements/s of {CONNECTIONS} clients, {many:.0} of {CLIENTS}: {ratio:.2} (at least {WANTED} wanted); \
         99 % of these waited at most {:?} for a connection",
        p99(&waits)
    );
    assert!(ratio >= LEAST, "{rates:?}");
}

/// Statements per second of so many clients, each of which sends the next when it has its answer.
/// pgbench looks through all its sockets for each answer, which costs more than Ringway does.
fn load(port: u16, clients: usize, length: Duration) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let login = |_| async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let startup = b"\0\0\0\x24\0\x03\0\0user\0ringway\0database\0shop\0\0";
            ask(&mut stream, startup).await;
            stream
        };
        let streams = join_all((0..clients).map(login)).await;
        let start = Instant::now();
        let work = |(number, mut stream): (usize, TcpStream)| async move {
            let mut answered = 0;
            while start.elapsed() < length {
                let id = (number + answered) % 1000 + 1;
                let sql = format!("SELECT twice FROM t WHERE id = {id}\0");
                let answer = ask(&mut stream, &frame(b'Q', sql.as_bytes())).await;
                let expected = data_row(&(2 * id).to_string());
                let right = |part: &[u8]| part == expected;
                assert!(answer.windows(expected.len()).any(right), "{answer:?}");
                answered += 1;
            }
            answered
        };
        let answered: usize = join_all(streams.into_iter().enumerate().map(work))
            .await
            .into_iter()
            .sum();
        answered as f64 / start.elapsed().as_secs_f64()
    })
}

/// A DataRow of one field.
fn data_row(value: &str) -> Vec<u8> {
    let field = (value.len() as u32).to_be_bytes();
    let fields = 1_u16.to_be_bytes();
    frame(b'D', &[&fields[..], &field, value.as_bytes()].concat())
}

/// Sends a message, and reads up to ReadyForQuery.
async fn ask(stream: &mut TcpStream, message: &[u8]) -> Vec<u8> {
    stream.write_all(message).await.unwrap();
    let mut answer = Vec::with_capacity(1024);
    while !answer.ends_with(b"Z\0\0\0\x05I") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    answer
}

/// How many waits for a connection were not longer than so many µs.
type Waits = BTreeMap<u64, u64>;

fn waits_so_far(http: u16) -> Waits {
    let (_, answer) = get(http, "/metrics");
    let buckets = answer.lines().filter_map(|line| {
        let labels =
            line.strip_prefix("ringway_checkout_wait_seconds_bucket{database=\"shop\",")?;
        let (bound, count) = labels.strip_prefix("le=\"")?.split_once("\"} ")?;
        // The last is +Inf, which becomes the largest number.
        let bound: f64 = bound.parse().ok()?;
        Some(((bound * 1e6).round() as u64, count.parse().unwrap()))
    });
    let buckets: Waits = buckets.collect();
    assert!(!buckets.is_empty(), "{answer}");
    buckets
}

fn p99(waits: &Waits) -> Duration {
    let all = waits.values().max().copied().unwrap_or_default();
    let enough = |count: u64| count * 100 >= all * 99;
    let bound = waits.iter().find(|(_, count)| enough(**count)).unwrap().0;
    Duration::from_micros(*bound)
}
