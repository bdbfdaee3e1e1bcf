//! The one wiring function: builds every room, binds, reloads, drains. Nothing imports it but `main`.
//!
//! The control thread watches servers, accepts clients and serves HTTP; worker threads, each a
//! single-threaded runtime, serve the clients they were given. A worker gets new clients until it
//! is busy, then the next one does: fewer awake threads batch more and cost less.

pub mod check;
mod live;
mod rows;
mod scrape;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use crate::config::{self, Config, ServerSecret, ServerUser};
use crate::error::{Error, Fault};
use crate::executor::database::Database;
use crate::metrics::Metrics;
use crate::net::{self, Instant};
use crate::session::auth::Authenticators;
use crate::session::{Directory, Shared, startup};
use live::Live;
use workers::Workers;

/// How often a draining process looks whether its clients have left.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting.
pub fn serve(path: &Path, config: Config) -> Result<(), Error> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| cannot("start a runtime", &e))?;
    runtime.block_on(control(path.to_owned(), config))
}

async fn control(path: PathBuf, config: Config) -> Result<(), Error> {
    let general = config.general.clone();
    let metrics = Metrics::new();
    let directory = build(config, None, &metrics)?;
    let (live, mut reloads) = Live::new(Shared::new(directory, Arc::new(metrics)));
    let listeners = bind(&general.listen).await?;
    let workers = Workers::start(general.workers, &live)?;
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(listener, Arc::clone(&workers)));
    }
    if let Some(address) = general.http_listen {
        serve_http(address, Arc::clone(&live)).await?;
    }
    tokio::spawn(scrape::turn_periods(Arc::clone(&live)));
    let (mut terminate, mut interrupt, mut hangup) = (
        on_signal(SignalKind::terminate())?,
        on_signal(SignalKind::interrupt())?,
        on_signal(SignalKind::hangup())?,
    );
    tracing::info!(listen = ?general.listen, workers = general.workers, "ready");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                // Logged where it is handled: there is nobody else to tell.
                let _ = reload(&path, &live.shared);
            }
            Some(answer) = reloads.recv() => {
                // An admin who has left meanwhile needs no answer.
                let _ = answer.send(reload(&path, &live.shared));
            }
        }
    }
    accepting.shutdown().await;
    tokio::select! {
        () = drain(&live.shared, general.shutdown_timeout) => {}
        // Told twice: at once, whatever is still open.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn on_signal(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(|e| cannot("handle signals", &e))
}

async fn serve_http(address: SocketAddr, live: Arc<Live>) -> Result<(), Error> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| cannot(&format!("listen on {address}"), &e))?;
    let ready = Arc::clone(&live);
    tokio::spawn(crate::http::serve(
        listener,
        move || scrape::render(&live),
        move || scrape::readiness(&ready.shared),
        // Until the process ends: who watches a drain wants to see it.
        std::future::pending(),
    ));
    Ok(())
}

/// Everything that follows from a configuration. Databases that did not change stay as they are.
fn build(config: Config, old: Option<&Directory>, metrics: &Metrics) -> Result<Directory, Error> {
    let tls = config.tls.as_ref().map(startup::tls_acceptor).transpose()?;
    let mut databases = HashMap::new();
    for (name, database) in &config.databases {
        let kept = old
            .and_then(|old| old.databases.get(name))
            .filter(|kept| kept.config == *database);
        let made = match kept {
            Some(kept) => Arc::clone(kept),
            None => {
                let fallback = fallback_user(&config);
                Arc::new(Database::start(
                    Arc::clone(database),
                    fallback.as_ref(),
                    config.general.plan_cache_bytes,
                    metrics,
                )?)
            }
        };
        databases.insert(name.clone(), made);
    }
    let known = old.map(|old| &old.authenticators);
    let authenticators = Authenticators::new(&config, &databases, known);
    let generation = old.map_or(1, |old| old.generation + 1);
    Ok(Directory {
        generation,
        config,
        authenticators,
        tls,
        databases,
    })
}

/// Who watches the servers when the configuration names nobody: the first user with a password,
/// else the first who needs none. `None` where passwords are only known as hashes.
fn fallback_user(config: &Config) -> Option<ServerUser> {
    let of = |user: &config::User| match (&user.secret, user.method) {
        (config::StoredSecret::Plain(secret), _) => Some(ServerSecret::Password(secret.clone())),
        (config::StoredSecret::None, config::Method::Trust) => Some(ServerSecret::None),
        (
            config::StoredSecret::None
            | config::StoredSecret::Md5(_)
            | config::StoredSecret::Scram(_),
            _,
        ) => None,
    };
    let users = || config.users.values();
    let with_password = users().find_map(|user| {
        let secret = of(user).filter(|secret| !secret.is_none())?;
        Some((user, secret))
    });
    let (user, secret) =
        with_password.or_else(|| users().find_map(|user| Some((user, of(user)?))))?;
    Some(ServerUser {
        name: user.name.clone(),
        secret,
    })
}

/// Applies a changed configuration file; clients stay connected. Counted and logged here.
///
/// # Errors
/// F0000 (config_file_error) with all mistakes in the file; nothing has changed then.
fn reload(path: &Path, shared: &Shared) -> Result<(), Error> {
    let done = apply(path, shared);
    match &done {
        Ok(()) => {
            shared.metrics.reloads_applied.increment(1);
            tracing::info!("configuration reloaded");
        }
        Err(error) => {
            shared.metrics.reloads_refused.increment(1);
            tracing::error!(%error, "configuration not reloaded, the old one stays in force");
        }
    }
    done
}

fn apply(path: &Path, shared: &Shared) -> Result<(), Error> {
    let config = config::load(path).map_err(|mistakes| {
        Error::new(Fault::Operator, "F0000", "configuration is not valid")
            .detail(mistakes.to_string())
            .hint("Nothing has changed; correct the file and reload again.")
    })?;
    let old = shared.directory.load_full();
    for setting in config::diff_needs_restart(&old.config, &config) {
        tracing::warn!(setting, "takes effect after a restart only");
    }
    shared.replace(build(config, Some(&old), &shared.metrics)?);
    Ok(())
}

async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Error> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|e| cannot(&format!("listen on {address}"), &e))?;
        listeners.push(listener);
    }
    Ok(listeners)
}

async fn accept(listener: TcpListener, workers: Arc<Workers>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => workers.give(stream),
            Err(error) => {
                // Out of file descriptors: let some clients leave first.
                tracing::error!(%error, "cannot accept a client");
                net::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Sends off the clients that are between transactions, and waits until the others are, or the
/// time is over.
async fn drain(shared: &Shared, limit: Duration) {
    let deadline = Instant::now() + limit;
    shared.stop();
    tracing::info!(clients = shared.clients().len(), "shutting down");
    while Instant::now() < deadline && shared.clients().iter().any(|c| c.is_logged_in()) {
        net::sleep(DRAIN_LOOK).await;
    }
}

fn cannot(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(Fault::Operator, "58000", format!("cannot {what}: {error}"))
}
