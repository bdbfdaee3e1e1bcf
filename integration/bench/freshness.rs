//! What freshness adds to a write, and how often servers are asked for their positions meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Failure;
use crate::client::Client;
use crate::measure::median;
use crate::peers::{Peer, ROWS, Running};

/// With freshness, and without.
const PEERS: [Peer; 2] = [Peer::RingwaySplit, Peer::RingwayStale];
/// Writes of one client through each peer and round.
const WRITES: u32 = 4_000;
/// Clients of the full load.
pub const CLIENTS: u32 = 16;
/// What the client reads at once.
const READ: usize = 512;

/// One round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// The p50 of a write in µs, with freshness and without: of one client, and of [`CLIENTS`].
    pub alone: [f64; 2],
    pub crowded: [f64; 2],
    /// Under a full load of writes, each with a read after it.
    pub writes_per_second: f64,
    /// Answers of all servers that were asked for their position.
    pub samples_per_second: f64,
}

/// The median over the rounds of what freshness adds to the p50, in µs.
pub fn added(rounds: &[Round], of: impl Fn(&Round) -> [f64; 2]) -> Option<f64> {
    median(rounds.iter().map(|round| {
        let [with, without] = of(round);
        with - without
    }))
}

/// # Errors
/// A client that is not answered, or metrics that cannot be read.
pub fn round(running: &[Running], seconds: u32) -> Result<Round, Failure> {
    let port = |peer| {
        let found = running.iter().find(|running| running.peer == peer);
        found.map(|running| running.port).ok_or("was not started")
    };
    let ports = [port(PEERS[0])?, port(PEERS[1])?];
    let alone = in_turns(ports, 0, WRITES)?;
    let crowded = crowd(|client| in_turns(ports, client, WRITES / CLIENTS))?;
    let before = samples(ports[0])?;
    let start = Instant::now();
    let limit = Duration::from_secs(seconds.into());
    let written = crowd(|client| {
        let mut connection = Client::connect(ports[0], None, READ)?;
        let mut written = 0;
        while start.elapsed() < limit {
            connection.query(&write(client, written), &[])?;
            connection.query("SELECT 1", &[])?;
            written += 1;
        }
        Ok([vec![f64::from(written)], Vec::new()])
    })?;
    let elapsed = start.elapsed().as_secs_f64();
    Ok(Round {
        alone: p50s(alone)?,
        crowded: p50s(crowded)?,
        writes_per_second: written[0].iter().sum::<f64>() / elapsed,
        samples_per_second: (samples(ports[0])? - before) / elapsed,
    })
}

type Times = [Vec<f64>; 2];

/// The times of writes through both peers, one after the other, in µs: what slows the machine slows both.
fn in_turns(ports: [u16; 2], client: u32, writes: u32) -> Result<Times, Failure> {
    let connect = |port| Client::connect(port, None, READ);
    let mut clients = [connect(ports[0])?, connect(ports[1])?];
    let mut times = Times::default();
    for n in 0..writes {
        for turn in 0..2 {
            let peer = ((n + turn) % 2) as usize;
            let start = Instant::now();
            clients[peer].query(&write(client, n), &[])?;
            times[peer].push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(times)
}

/// Each client has rows of its own.
fn write(client: u32, n: u32) -> String {
    let row = 1 + client * (ROWS / CLIENTS) + n % (ROWS / CLIENTS);
    format!("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = {row}")
}

/// What [`CLIENTS`] at once come to.
fn crowd(work: impl Fn(u32) -> Result<Times, Failure> + Sync) -> Result<Times, Failure> {
    let all = std::thread::scope(|scope| {
        let work = &work;
        let one = |client| scope.spawn(move || work(client).map_err(|error| error.to_string()));
        let clients: Vec<_> = (0..CLIENTS).map(one).collect();
        let done = clients.into_iter().map(|client| client.join());
        done.collect::<Vec<_>>()
    });
    let mut times = Times::default();
    for done in all {
        let done = done.map_err(|_| "a client panicked")??;
        times
            .iter_mut()
            .zip(done)
            .for_each(|(all, own)| all.extend(own));
    }
    Ok(times)
}

fn p50s(times: Times) -> Result<[f64; 2], Failure> {
    let [with, without] = times.map(median);
    Ok(with
        .zip(without)
        .map(<[f64; 2]>::from)
        .ok_or("nothing was written")?)
}

/// Of the metrics, where [`crate::launch`] has them served.
fn samples(port: u16) -> Result<f64, Failure> {
    let mut http = TcpStream::connect(("127.0.0.2", port))?;
    http.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    http.read_to_string(&mut text)?;
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with("ringway_position_samples_total{"));
    let value = line.and_then(|line| line.rsplit(' ').next());
    Ok(value.ok_or("there is no such metric")?.parse()?)
}
