//! What clients cost that are connected and do nothing.

use std::path::Path;

use serde::Serialize;

use crate::Failure;
use crate::client::Client;
use crate::peers::{Peer, Running, Servers};
use crate::proc::resident_bytes;
use crate::secure::Secure;

/// What a client reads at once.
const READ: usize = 512;

/// Resident memory of a fresh process, in bytes.
#[derive(Debug, Serialize)]
pub struct IdleMemory {
    pub peer: Peer,
    pub tls: bool,
    pub clients: u32,
    pub before: u64,
    pub connected: u64,
    /// After each client has also run one query.
    pub queried: u64,
}

impl IdleMemory {
    pub fn kib_per_client(&self) -> f64 {
        let grown = self.queried.saturating_sub(self.before);
        grown as f64 / 1024.0 / f64::from(self.clients)
    }
}

/// Starts a process of the peer and connects `clients` to it.
///
/// # Errors
/// A client that is not let in or not answered.
pub fn measure(
    peer: Peer,
    clients: u32,
    servers: &Servers,
    secure: &Secure,
    directory: &Path,
) -> Result<IdleMemory, Failure> {
    let tls = peer.is_secure();
    let running = Running::start(peer, servers, secure, directory)?;
    let pid = running.pid()?;
    // The first client makes the proxy connect to its server, which is not what a client costs.
    let connect = || Client::connect(running.port, tls.then_some(&secure.client), READ);
    let mut first = connect()?;
    first.query("SELECT 1", &[])?;
    let before = resident_bytes(pid)?;
    let mut streams = Vec::with_capacity(clients as usize);
    for _ in 0..clients {
        streams.push(connect()?);
    }
    let connected = resident_bytes(pid)?;
    for stream in &mut streams {
        stream.query("SELECT 1", &[])?;
    }
    let queried = resident_bytes(pid)?;
    Ok(IdleMemory {
        peer,
        tls,
        clients,
        before,
        connected,
        queried,
    })
}
