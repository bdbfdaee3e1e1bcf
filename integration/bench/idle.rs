//! What clients cost that are connected and do nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::Failure;
use crate::peers::{DATABASE, Peer, Running, Servers, USER};
use crate::proc::resident_bytes;

/// How long a proxy may take to answer one client.
const PATIENCE: Duration = Duration::from_secs(10);

/// Resident memory of a fresh process, in bytes.
#[derive(Debug, Serialize)]
pub struct IdleMemory {
    pub peer: Peer,
    pub clients: u32,
    pub before: u64,
    pub connected: u64,
    /// After each client has also run one query.
    pub queried: u64,
}

impl IdleMemory {
    pub fn kib_per_client(&self) -> f64 {
        let grown = self.connected.saturating_sub(self.before);
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
    directory: &Path,
) -> Result<IdleMemory, Failure> {
    let running = Running::start(peer, servers, directory)?;
    let pid = running.pid()?;
    // The first client makes the proxy connect to its server, which is not what a client costs.
    let mut first = connect(running.port)?;
    query(&mut first)?;
    let before = resident_bytes(pid)?;
    let mut streams = Vec::with_capacity(clients as usize);
    for _ in 0..clients {
        streams.push(connect(running.port)?);
    }
    let connected = resident_bytes(pid)?;
    for stream in &mut streams {
        query(stream)?;
    }
    let queried = resident_bytes(pid)?;
    Ok(IdleMemory {
        peer,
        clients,
        before,
        connected,
        queried,
    })
}

fn connect(port: u16) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let protocol: i32 = 3 << 16;
    let parameters = format!("user\0{USER}\0database\0{DATABASE}\0\0");
    let length = (4 + 4 + parameters.len()) as i32;
    let mut startup = length.to_be_bytes().to_vec();
    startup.extend(protocol.to_be_bytes());
    startup.extend(parameters.as_bytes());
    stream.write_all(&startup)?;
    until_ready(&mut stream)?;
    Ok(stream)
}

fn query(stream: &mut TcpStream) -> Result<(), Failure> {
    let sql = b"SELECT 1\0";
    let mut message = vec![b'Q'];
    message.extend((4 + sql.len() as i32).to_be_bytes());
    message.extend(sql);
    stream.write_all(&message)?;
    until_ready(stream)
}

/// Reads messages up to ReadyForQuery.
fn until_ready(stream: &mut TcpStream) -> Result<(), Failure> {
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length).saturating_sub(4);
        let mut body = Vec::new();
        Read::by_ref(stream)
            .take(length.into())
            .read_to_end(&mut body)?;
        match kind {
            b'Z' => return Ok(()),
            b'E' => return Err(String::from_utf8_lossy(&body).replace('\0', " ").into()),
            _ => (),
        }
    }
}
