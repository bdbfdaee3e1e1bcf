//! A database of many tables: how long Ringway takes from its start to its first answer, which needs
//! the catalog of all shards.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Failure;
use crate::client::Client;
use crate::peers::{Peer, Running, Servers};
use crate::proc::resident_bytes;
use crate::secure::Secure;

pub const DATABASE: &str = "tables";
pub const TABLES: u32 = 10_000;

/// What the client reads at once.
const READ: usize = 512;

/// One start.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct FirstAnswer {
    pub elapsed: Duration,
    /// Resident memory of the process then.
    pub resident: u64,
}

/// # Errors
/// A server that cannot be loaded, or a start without an answer.
pub fn measure(
    rounds: u32,
    servers: &Servers,
    secure: &Secure,
    directory: &Path,
) -> Result<Vec<FirstAnswer>, Failure> {
    for shard in &servers.sharded.shards {
        let server = &shard.primary;
        server.exec(&format!("CREATE DATABASE {DATABASE}"))?;
        server.exec_in(DATABASE, &create())?;
        server.exec_in(DATABASE, "VACUUM ANALYZE")?;
    }
    let start = |_| {
        let start = Instant::now();
        let running = Running::start(Peer::RingwayTables, servers, secure, directory)?;
        let mut client = Client::connect_to(DATABASE, running.port, None, READ)?;
        client.query(&format!("SELECT name FROM t{TABLES} WHERE id = 1"), &[])?;
        Ok(FirstAnswer {
            elapsed: start.elapsed(),
            resident: resident_bytes(running.pid()?)?,
        })
    };
    (0..rounds).map(start).collect()
}

/// Commits now and then: a transaction holds a lock for each table that it makes.
fn create() -> String {
    format!(
        "DO $$ BEGIN
           FOR n IN 1..{TABLES} LOOP
             EXECUTE format('CREATE TABLE t%s (id bigint PRIMARY KEY, owner bigint NOT NULL,
               name text, made timestamptz DEFAULT now(), amount numeric(10,2) DEFAULT 0,
               note text)', n);
             EXECUTE format('COMMENT ON TABLE t%s IS ''ringway: key=id''', n);
             IF n % 500 = 0 THEN COMMIT; END IF;
           END LOOP;
         END $$"
    )
}
