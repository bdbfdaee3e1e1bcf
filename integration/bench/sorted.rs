//! Many rows in order: what a proxy holds of them while they stream.

use std::path::Path;
use std::time::{Duration, Instant};

use ringway::demo::captive::Server;
use serde::Serialize;

use crate::Failure;
use crate::client::Client;
use crate::peers::{Peer, Running, Servers};
use crate::proc::peak_bytes;
use crate::secure::Secure;

pub const ROWS: u64 = 10_000_000;

/// What the client reads at once.
const READ: usize = 64 * 1024;
const SELECT: &str = "SELECT id FROM numbers ORDER BY id";

/// All rows in their order, once.
#[derive(Debug, Serialize)]
pub struct Sorted {
    pub peer: Peer,
    pub elapsed: Duration,
    /// The proxy's CPU time; `None` without one.
    pub cpu: Option<Duration>,
    /// The most resident memory of the proxy's process, in bytes.
    pub peak: Option<u64>,
}

/// # Errors
/// A server that cannot be loaded; a run that fails, or answers less or more than the rows.
pub fn measure(
    servers: &Servers,
    secure: &Secure,
    directory: &Path,
) -> Result<Vec<Sorted>, Failure> {
    let plain = &servers.plain.shards[0].primary;
    let shards: Vec<&Server> = servers.sharded.shards.iter().map(|s| &s.primary).collect();
    load(plain, 0, 1)?;
    for (at, shard) in shards.iter().enumerate() {
        load(shard, at, shards.len())?;
    }
    let mut found = Vec::new();
    for peer in [Peer::Direct, Peer::RingwaySharded] {
        let running = Running::start(peer, servers, secure, directory)?;
        found.push(one(&running)?);
    }
    for server in shards.into_iter().chain([plain]) {
        server.exec("DROP TABLE numbers")?;
    }
    Ok(found)
}

/// A share of the numbers. Nobody looks for one by its key, so any share will do.
fn load(server: &Server, share: usize, of: usize) -> Result<(), Failure> {
    server.exec(&format!(
        "CREATE UNLOGGED TABLE numbers AS
            SELECT id FROM generate_series(1::bigint, {ROWS}) AS id WHERE id % {of} = {share};
         ALTER TABLE numbers ADD PRIMARY KEY (id);
         COMMENT ON TABLE numbers IS 'ringway: key=id'"
    ))?;
    server.exec("VACUUM ANALYZE numbers")?;
    Ok(())
}

fn one(running: &Running) -> Result<Sorted, Failure> {
    let mut client = Client::connect(running.port, None, READ)?;
    client.query("SELECT 1", &[])?;
    let before = running.cpu_time()?;
    let start = Instant::now();
    let bytes = client.query(SELECT, &[])?;
    let elapsed = start.elapsed();
    if bytes != answer_bytes() {
        return Err(format!("{SELECT} answers {bytes} bytes").into());
    }
    let cpu = before.zip(running.cpu_time()?);
    let peak = match cpu {
        Some(_) => Some(peak_bytes(running.pid()?)?),
        None => None,
    };
    Ok(Sorted {
        peer: running.peer,
        elapsed,
        cpu: cpu.map(|(before, after)| (after - before).total),
        peak,
    })
}

/// Of all messages from RowDescription to ReadyForQuery.
fn answer_bytes() -> u64 {
    const HEAD: u64 = 1 + 4;
    let description = HEAD + 2 + "id\0".len() as u64 + 18;
    let row = HEAD + 2 + 4;
    let complete = HEAD + format!("SELECT {ROWS}\0").len() as u64;
    let ready = HEAD + 1;
    description + ROWS * row + digits() + complete + ready
}

/// How many digits all the numbers have together.
fn digits() -> u64 {
    let powers = std::iter::successors(Some(1), |power| Some(power * 10));
    // As many numbers have a digit at this place as are not below it.
    let places = powers.take_while(|power| *power <= ROWS);
    places.map(|power| ROWS - power + 1).sum()
}
