//! CancelRequest to a server, or to the Ringway process whose client sent it: a connection of its
//! own that carries one packet.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS>

use std::path::Path;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::{dial, lost, unreachable};
use super::server::Identity;
use crate::config::Endpoint;
use crate::error::Result;
use crate::net::{self, Stream, TlsConnector};
use crate::wire::startup::FORWARDED_CANCEL;

const CANCEL_REQUEST: (u16, u16) = (1234, 5678);

/// Asks the server to stop what its process `pid` does. Returns once the server has passed the
/// request on, which it tells by closing the connection; whether it had any effect is not told.
///
/// # Errors
/// 08001 or 08006 when the server cannot be reached within `timeout`.
pub async fn cancel(
    endpoint: &Endpoint,
    tls: Option<&TlsConnector>,
    pid: i32,
    key: &[u8],
    timeout: Duration,
) -> Result<()> {
    let request = async {
        let stream = dial(endpoint, tls).await?;
        let sent = send(stream, CANCEL_REQUEST, pid, key).await;
        sent.map_err(|error| lost(endpoint, &error))
    };
    match net::timeout(timeout, request).await {
        Ok(result) => result,
        Err(_) => Err(unreachable(endpoint, &"the server did not answer in time")),
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

/// How long a cancel request that nobody waits for may take.
const UNATTENDED: Duration = Duration::from_secs(5);

/// Cancels what a server does for a client that is gone, without waiting for it.
pub fn spawn(server: &Identity, tls: Option<&TlsConnector>) {
    let (endpoint, tls) = (server.endpoint.clone(), tls.cloned());
    let (pid, key) = (server.pid, server.cancel_key.clone());
    tokio::spawn(async move {
        if let Err(error) = cancel(&endpoint, tls.as_ref(), pid, &key, UNATTENDED).await {
            tracing::debug!(%error, "cancel request failed");
        }
    });
}
