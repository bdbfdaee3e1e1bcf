//! Lets clients in, and out of doors when there is no room.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustix::io::Errno;

use super::workers::Workers;
use crate::net::listener::{Accepted, Listener};
use crate::net::{Instant, sleep};
use crate::wire::startup::too_many_clients;

/// Between two complaints about the same thing.
const QUIET: Duration = Duration::from_secs(1);
/// A pause where only waiting can help.
const PAUSE: Duration = Duration::from_millis(100);

/// Gives each new client to a worker, until it is dropped.
///
/// Cancel safety: no client is lost.
pub async fn accept(listener: Arc<Listener>, workers: Arc<Workers>) {
    let mut spare = Spare::new();
    let mut complained: Option<Instant> = None;
    loop {
        let error = match listener.accept().await {
            Ok(client) => {
                if workers.are_crowded() {
                    refuse(client);
                } else {
                    workers.give(client);
                }
                continue;
            }
            // It was gone before it was let in: that says nothing of those who come next.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => error,
        };
        if complained.is_none_or(|at| at.elapsed() > QUIET) {
            tracing::error!(%error, "cannot accept a client");
            complained = Some(Instant::now());
        }
        if !is_out_of_files(&error) || !spare.turn_away(&listener) {
            sleep(PAUSE).await;
        }
    }
}

/// Gives the clients that wait already to workers; nobody waits for more.
pub fn accept_waiting(listener: &Listener, workers: &Workers) {
    while let Ok(Some(client)) = listener.accept_waiting() {
        workers.give(client);
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|limit| number == Some(limit.raw_os_error()))
}

/// An open file to do without when no other can be opened: then a client that waits can at least
/// be told so, instead of waiting for ever.
struct Spare(Option<File>);

impl Spare {
    fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Refuses one client; false when there was no way to.
    fn turn_away(&mut self, listener: &Listener) -> bool {
        let had_one = self.0.take().is_some();
        let client = listener.accept_waiting();
        let turned_away = matches!(client, Ok(Some(_)));
        if let Ok(Some(client)) = client {
            refuse(client);
        }
        self.0 = File::open("/dev/null").ok();
        had_one && turned_away
    }
}

fn refuse(client: Accepted) {
    // A client that is lost meanwhile needs no answer.
    let _ = match client {
        Accepted::Tcp(stream) => tell(stream),
        Accepted::Unix(stream) => tell(stream),
    };
}

/// The kernel's buffer takes this little, so nothing waits.
fn tell(mut stream: impl Read + Write) -> io::Result<()> {
    let mut out = BytesMut::new();
    too_many_clients().write_to(&mut out);
    stream.write_all(&out)?;
    // What is closed unread may reset the connection before the error is read.
    stream.read(&mut [0; 1024]).map(|_| ())
}
