//! What it costs to commit on several shards at once.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Failure;
use crate::client::Client;
use crate::measure::median;
use crate::peers::{Peer, Running, Servers};

/// Shards that a transaction writes on.
pub const SPREADS: [usize; 3] = [1, 2, 4];
/// Rows that each of the transactions whose time is taken writes, one by one.
const WRITES: usize = 4;
/// Transactions of one client and spread in a round.
const TRANSACTIONS: usize = 400;
/// Clients of the full load.
pub const CLIENTS: usize = 16;
/// One in so many transfers of the mixed load is between two shards.
const MIXED: usize = 10;
/// Keys of each shard that a client has for itself.
const KEYS: usize = 64;
/// What the client reads at once.
const READ: usize = 512;

/// One round, through Ringway in front of four shards; by spread.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Round {
    /// The p50 of a whole transaction of one client, and of its COMMIT alone, in µs.
    pub transaction: [f64; 3],
    pub commit: [f64; 3],
    /// Transfers per second of [`CLIENTS`], all on one shard each, and one in [`MIXED`] on two.
    pub alone: f64,
    pub mixed: f64,
}

/// The median over the rounds of how much longer a transaction on two shards takes than one on one.
pub fn two_to_one(rounds: &[Round], of: impl Fn(&Round) -> [f64; 3]) -> Option<f64> {
    median(rounds.iter().map(|round| of(round)[1] / of(round)[0]))
}

/// # Errors
/// A client that is not answered.
pub fn round(running: &[Running], servers: &Servers, seconds: u32) -> Result<Round, Failure> {
    let peer = running
        .iter()
        .find(|running| running.peer == Peer::RingwayFour);
    let port = peer.ok_or("was not started")?.port;
    let keys = keys(servers)?;
    let mut client = Client::connect(port, None, READ)?;
    let mut times: [[Vec<f64>; 2]; 3] = Default::default();
    for n in 0..TRANSACTIONS {
        for (spread, times) in SPREADS.into_iter().zip(&mut times) {
            let start = Instant::now();
            client.query("BEGIN", &[])?;
            for write in 0..WRITES {
                let key = keys[write % spread][(n * WRITES + write) % KEYS];
                client.query(&update(key), &[])?;
            }
            let committing = Instant::now();
            client.query("COMMIT", &[])?;
            times[0].push(start.elapsed().as_secs_f64() * 1e6);
            times[1].push(committing.elapsed().as_secs_f64() * 1e6);
        }
    }
    let p50s = |of: usize| -> Result<[f64; 3], Failure> {
        let mut p50s = [0.0; 3];
        for (p50, times) in p50s.iter_mut().zip(&times) {
            *p50 = median(times[of].iter().copied()).ok_or("nothing was committed")?;
        }
        Ok(p50s)
    };
    let limit = Duration::from_secs(seconds.into());
    Ok(Round {
        transaction: p50s(0)?,
        commit: p50s(1)?,
        alone: transfers(port, &keys, limit, usize::MAX)?,
        mixed: transfers(port, &keys, limit, MIXED)?,
    })
}

/// Keys by shard, enough for all clients.
fn keys(servers: &Servers) -> Result<Vec<Vec<u32>>, Failure> {
    let cluster = servers.four.as_ref().ok_or("there are no four shards")?;
    let of_shard = |shard: &ringway::demo::captive::ShardServers| {
        let most = CLIENTS * KEYS;
        let sql = format!("SELECT aid FROM pgbench_accounts ORDER BY aid LIMIT {most}");
        let rows = shard.primary.exec(&sql)?;
        let keys = rows
            .lines()
            .map(str::parse)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(keys)
    };
    cluster.shards.iter().map(of_shard).collect()
}

fn update(key: u32) -> String {
    format!("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = {key}")
}

/// Transfers per second of all clients; one in `mixed` is between two shards. Each client has rows of
/// its own.
fn transfers(port: u16, keys: &[Vec<u32>], limit: Duration, mixed: usize) -> Result<f64, Failure> {
    let start = Instant::now();
    let run = |client: usize| -> Result<usize, Failure> {
        let mut connection = Client::connect(port, None, READ)?;
        let mut done = 0;
        while start.elapsed() < limit {
            let from = done % keys.len();
            let to = match (done + 1) % mixed {
                0 => (from + 1) % keys.len(),
                _ => from,
            };
            let own = client * KEYS + done % (KEYS - 1);
            connection.query("BEGIN", &[])?;
            connection.query(&update(keys[from][own]), &[])?;
            connection.query(&update(keys[to][own + 1]), &[])?;
            connection.query("COMMIT", &[])?;
            done += 1;
        }
        Ok(done)
    };
    let done: Vec<_> = std::thread::scope(|scope| {
        let run = &run;
        let one = |client| scope.spawn(move || run(client).map_err(|error| error.to_string()));
        let clients: Vec<_> = (0..CLIENTS).map(one).collect();
        clients.into_iter().map(|client| client.join()).collect()
    });
    let mut all = 0;
    for done in done {
        all += done.map_err(|_| "a client panicked")??;
    }
    Ok(all as f64 / start.elapsed().as_secs_f64())
}
