//! CancelRequest to a server, or to the Ringway process whose client sent it: a connection of its
//! own that carries one packet.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS>

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::{dial, lost, unreachable};
use super::server::{Identity, Server};
use crate::config::Endpoint;
use crate::error::Result;
use crate::net::{self, Stream};
use crate::wire::conn::Conn;
use crate::wire::startup::FORWARDED_CANCEL;
use crate::wire::{frame, write};

const CANCEL_REQUEST: (u16, u16) = (1234, 5678);

/// Asks the server to stop what it does on this connection. Returns once the server has passed the
/// request on, which it tells by closing the connection; whether it had any effect is not told.
///
/// # Errors
/// 08001 or 08006 when the server cannot be reached within `timeout`. One that was sent and not taken
/// may still be read later, so the connection that it is meant for is not given to another client.
///
/// Cancel safety: as with such an error.
pub async fn cancel(server: &Identity, timeout: Duration) -> Result<()> {
    let endpoint = &server.endpoint;
    let request = async {
        let stream = dial(endpoint, server.tls.as_ref()).await?;
        let unsure = Unsure(server);
        send(stream, CANCEL_REQUEST, server.pid, &server.cancel_key)
            .await
            .map_err(|error| lost(endpoint, &error))?;
        std::mem::forget(unsure);
        Ok(())
    };
    match net::timeout(timeout, request).await {
        Ok(result) => result,
        Err(_) => Err(unreachable(endpoint, &"the server did not answer in time")),
    }
}

/// A request is under way to the server; dropped before it was taken, that is never known.
struct Unsure<'a>(&'a Identity);

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        self.0.activity.close_needed.store(true, Relaxed);
    }
}

/// Passes a client's request on to the Ringway process that listens at `peer`.
///
/// # Errors
/// As [`cancel`].
pub async fn forward(peer: &Endpoint, pid: i32, key: &[u8], timeout: Duration) -> Result<()> {
    let request = async {
        let stream = dial(peer, None).await?;
        let sent = send(stream, FORWARDED_CANCEL, pid, key).await;
        sent.map_err(|error| lost(peer, &error))
    };
    match net::timeout(timeout, request).await {
        Ok(result) => result,
        Err(_) => Err(unreachable(peer, &"the process did not answer in time")),
    }
}

/// The same to a process of this machine, by its own socket.
///
/// # Errors
/// Those of the socket.
pub async fn forward_to_socket(
    socket: &Path,
    pid: i32,
    key: &[u8],
    timeout: Duration,
) -> std::io::Result<()> {
    net::timeout(timeout, async {
        let stream = Stream::connect_unix(socket).await?;
        send(stream, FORWARDED_CANCEL, pid, key).await
    })
    .await?
}

/// Returns once the other side has closed the connection, whatever its end looks like: then the
/// request was taken.
async fn send(mut stream: Stream, code: (u16, u16), pid: i32, key: &[u8]) -> std::io::Result<()> {
    let mut packet = BytesMut::new();
    // Length word, code and pid; a key has at most 256 bytes.
    packet.put_u32(12 + key.len() as u32);
    packet.put_u16(code.0);
    packet.put_u16(code.1);
    packet.put_i32(pid);
    packet.put_slice(key);
    stream.write_all(&packet).await?;
    stream.flush().await?;
    let _ = stream.read_u8().await;
    Ok(())
}

/// How long a server may take to stop before it is asked again. A request that comes before its
/// statement has begun has no effect, and some statements take a while to notice one.
const PATIENCE: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// Stops what a server does for a client that is gone, on a connection that is not used again.
/// Closing it alone would not: the server notices only when it next reads or writes.
pub async fn stop(server: &mut Server) {
    // A server that waits for us, for COPY data or the rest of a message, does notice.
    if server.copy_in || !server.conn.outbox.is_empty() {
        return;
    }
    let identity = Arc::clone(&server.identity);
    identity.activity.resetting.store(true, Relaxed);
    let (mut skip, mut owed) = server.left();
    if owed == 0 {
        // Its client asked for no end of what it sent.
        server.conn.outbox.extend_from_slice(write::SYNC);
        let sent = net::timeout(PATIENCE[0], server.conn.drain()).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
        owed = 1;
    }
    for patience in PATIENCE {
        if let Err(error) = cancel(&identity, patience).await {
            tracing::debug!(%error, "cancel request failed");
        }
        let end = read_out(&mut server.conn, &mut skip, &mut owed);
        if net::timeout(patience, end).await.is_ok() {
            return;
        }
    }
}

/// Reads until `owed` more ReadyForQuery messages have come, or the end. The first `skip` bytes
/// belong to a frame that was begun before.
///
/// Cancel safety: `skip` and `owed` say how far it came.
async fn read_out(conn: &mut Conn, skip: &mut usize, owed: &mut usize) {
    loop {
        let here = conn.inbox.len().min(*skip);
        conn.inbox.advance(here);
        *skip -= here;
        if *skip == 0 && *owed == 0 {
            return;
        }
        match frame::peek(&conn.inbox) {
            Ok(Some(header)) if *skip == 0 => {
                *owed -= usize::from(header.tag == b'Z');
                *skip = header.len;
            }
            Ok(_) if matches!(conn.fill().await, Ok(1..)) => {}
            Ok(_) | Err(_) => return,
        }
    }
}
