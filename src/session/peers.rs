//! CancelRequests: for a client of this process, or of another one that a load balancer, or a
//! hand-over, has hidden from it.
//!
//! A request goes from a client to the process with the client's `peer_id`, from there to the
//! other processes of that machine, and no further. Only the process that has the client knows its
//! key, and checks it.

use std::path::Path;
use std::time::Duration;

use super::client::peer_of;
use super::directory::Directory;
use super::shared::Shared;
use crate::backend::cancel;

/// Who sent a CancelRequest, and so how far it may still go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    Client,
    /// Another process, by its `[peers]`.
    Peer,
}

/// How long another process may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Passes a CancelRequest on: to the servers of our client, or to the process that may have him.
pub(super) async fn cancel(
    shared: &Shared,
    directory: &Directory,
    pid: i32,
    key: &[u8],
    sender: Sender,
) {
    if cancel_here(shared, pid, key).await {
        return;
    }
    let peer = match sender {
        Sender::Client => directory.config.peers.get(&peer_of(pid)),
        Sender::Peer => None,
    };
    if let Some(peer) = peer {
        if let Err(error) = cancel::forward(peer, pid, key, LIMIT).await {
            tracing::warn!(%error, "cancel request for a client of another process failed");
        }
        return;
    }
    let general = &directory.config.general;
    for socket in neighbours(
        general.run_directory.as_deref(),
        shared.own_socket.as_deref(),
    ) {
        // One that has ended, or does not know the client: there is nothing to tell.
        let _ = cancel::forward_to_socket(&socket, pid, key, LIMIT).await;
    }
}

/// Cancels what the servers do for our client; false when there is none with this id and key.
pub async fn cancel_here(shared: &Shared, pid: i32, key: &[u8]) -> bool {
    let Some(servers) = shared.cancel_targets(pid, key) else {
        return false;
    };
    let limit = shared.directory.load().config.general.login_timeout;
    servers.send(limit, "its client asked for it").await;
    true
}

/// The sockets of the other processes in `run_directory`.
fn neighbours(directory: Option<&Path>, own: Option<&Path>) -> Vec<std::path::PathBuf> {
    let entries = directory.map(std::fs::read_dir);
    let entries = entries.into_iter().flatten().flatten().flatten();
    let sockets = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "sock"));
    sockets.filter(|path| Some(path.as_path()) != own).collect()
}
