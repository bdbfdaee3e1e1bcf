//! Asking whether a server is there, once a connection to it was lost: the loss may be that of one
//! session.

use std::io;
use std::time::Duration;

use planner::ShardId;
use tokio::sync::Mutex;
use tokio_postgres::error::SqlState;

use super::control::{Failure, dedicated};
use super::{Cluster, EndpointId};
use crate::net::{Instant, Stream, sleep, timeout};

/// What a new connection to a server finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It lets clients in, or has reasons not to that have nothing to do with its health.
    Up,
    /// It says that it starts, shuts down or recovers from a crash (57P03).
    Busy,
    /// Nobody answers.
    Gone,
}

/// The last answer, and when it was asked for. Whoever lost a connection before that need not ask.
#[derive(Debug, Default)]
pub(super) struct Probe(Mutex<Option<(Instant, Presence)>>);

/// How often, and after what time, a server is asked again that broke off.
const PROBES: usize = 5;
const PROBE_AGAIN: Duration = Duration::from_millis(5);

impl Cluster {
    /// Whether a server is there, as of a moment after `lost`. One that is not is taken out of rotation.
    ///
    /// Cancel safety: yes.
    pub async fn presence(&self, shard: ShardId, endpoint: EndpointId, lost: Instant) -> Presence {
        let server = &self.shard(shard).servers[usize::from(endpoint.0)];
        // Everybody loses connections in the same moment: one asks, the others wait for what it hears.
        let mut last = server.probe.0.lock().await;
        if let Some((asked, presence)) = *last
            && asked >= lost
        {
            return presence;
        }
        let asked = Instant::now();
        let mut found = self.probe(shard, endpoint).await;
        for _ in 0..PROBES {
            if !found.as_ref().is_err_and(broke_off) {
                break;
            }
            sleep(PROBE_AGAIN).await;
            found = self.probe(shard, endpoint).await;
        }
        let presence = found.as_ref().map_or_else(presence_of, |()| Presence::Up);
        *last = Some((asked, presence));
        drop(last);
        match (presence, found) {
            (Presence::Up, _) | (_, Ok(())) => self.hasten(shard),
            (Presence::Busy | Presence::Gone, Err(failure)) => {
                self.checkout_failed(shard, endpoint, failure.to_string());
            }
        }
        presence
    }

    async fn probe(&self, shard: ShardId, endpoint: EndpointId) -> Result<(), Failure> {
        let limit = self.database.pool.connect_timeout;
        if self.is_watched() {
            return dedicated(self.control(shard, endpoint), limit)
                .await
                .map(drop);
        }
        let address = self.endpoint(shard, endpoint);
        timeout(limit, Stream::connect(&address.host, address.port))
            .await
            .map_err(|_| Failure::Slow("connecting", limit))?
            .map(drop)
            .map_err(Failure::Unreachable)
    }
}

/// It was accepted and then broken off: by a server in the moment of its end, or by one of its processes.
/// The next attempt tells which.
fn broke_off(failure: &Failure) -> bool {
    matches!(failure, Failure::Postgres(error) if error.code().is_none() && !is_refused(error))
}

fn presence_of(failure: &Failure) -> Presence {
    match failure {
        Failure::Slow(..) | Failure::Unreachable(_) => Presence::Gone,
        Failure::Odd(_) | Failure::Session(_) => Presence::Up,
        Failure::Postgres(error) => match error.code() {
            Some(code) if *code == SqlState::CANNOT_CONNECT_NOW => Presence::Busy,
            Some(code) if *code == SqlState::ADMIN_SHUTDOWN => Presence::Busy,
            Some(_) => Presence::Up,
            None if is_refused(error) => Presence::Gone,
            // It was there, and broke off.
            None => Presence::Busy,
        },
    }
}

/// Nobody listens there, or there is no such host any more.
fn is_refused(error: &tokio_postgres::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            let broken = [
                io::ErrorKind::ConnectionReset,
                io::ErrorKind::UnexpectedEof,
                io::ErrorKind::BrokenPipe,
            ];
            return !broken.contains(&error.kind());
        }
        source = cause.source();
    }
    false
}
