//! CancelRequest to a server: a connection of its own that carries one packet.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS>

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::{dial, lost, unreachable};
use super::server::Identity;
use crate::config::Endpoint;
use crate::error::Result;
use crate::net::{self, TlsConnector};

const CANCEL_REQUEST: u32 = (1234 << 16) | 5678;

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
        let mut stream = dial(endpoint, tls).await?;
        let mut packet = BytesMut::new();
        // Length word, code and pid; a server's key has at most 256 bytes.
        packet.put_u32(12 + key.len() as u32);
        packet.put_u32(CANCEL_REQUEST);
        packet.put_i32(pid);
        packet.put_slice(key);
        stream
            .write_all(&packet)
            .await
            .map_err(|error| lost(endpoint, &error))?;
        stream
            .flush()
            .await
            .map_err(|error| lost(endpoint, &error))?;
        // The end, whatever it looks like, says that the request was taken.
        let _ = stream.read_u8().await;
        Ok(())
    };
    match net::timeout(timeout, request).await {
        Ok(result) => result,
        Err(_) => Err(unreachable(endpoint, &"the server did not answer in time")),
    }
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
