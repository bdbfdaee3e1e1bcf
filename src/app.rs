//! The one wiring function: builds every room, binds, reloads, drains. Nothing imports it but `main`.
//!
//! The control thread watches servers, accepts clients and serves HTTP; worker threads, each a
//! single-threaded runtime, serve the clients they were given. A worker gets new clients until it
//! is busy, then the next one does: fewer awake threads batch more and cost less.

pub mod check;
mod keeper;
mod live;
mod rows;
mod scrape;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use crate::admin::Shutdown;
use crate::config::{self, Config, ServerUser};
use crate::error::{Error, Fault};
use crate::executor::database::Database;
use crate::metrics::Metrics;
use crate::net::{self, Instant};
use crate::pool::cap::Ledger;
use crate::session::auth::Authenticators;
use crate::session::{ClientInfo, Directory, Shared, Wildcard, startup};
use live::{Errand, Live};
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
    let metrics = Arc::new(Metrics::new());
    let directory = build(config, None, &metrics)?;
    let (live, mut errands) = Live::new(Shared::new(directory, metrics));
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
    let ending = loop {
        tokio::select! {
            _ = terminate.recv() => break Shutdown::WhenServersAreFree,
            _ = interrupt.recv() => break Shutdown::WhenServersAreFree,
            _ = hangup.recv() => {
                // Logged where it is handled: there is nobody else to tell.
                let _ = reload(&path, &live.shared);
            }
            Some(errand) = errands.recv() => match errand {
                Errand::Reload(answer) => {
                    // An admin who has left meanwhile needs no answer.
                    let _ = answer.send(reload(&path, &live.shared));
                }
                Errand::Shutdown(ending) => break ending,
            },
        }
    };
    accepting.shutdown().await;
    tokio::select! {
        () = end(&live.shared, ending, general.shutdown_timeout) => {}
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
fn build(
    config: Config,
    old: Option<&Directory>,
    metrics: &Arc<Metrics>,
) -> Result<Directory, Error> {
    let authenticators = match old {
        None => Authenticators::new(&config.users)?,
        Some(old) => old.authenticators.reload(&config.users)?,
    };
    let tls = config.tls.as_ref().map(startup::tls_acceptor).transpose()?;
    let ledger = old.map_or_else(Arc::default, |old| Arc::clone(&old.ledger));
    let start = starter(&config, metrics, &ledger);
    let old_database = |name: &str| old.and_then(|old| old.database(name));
    let mut databases = HashMap::new();
    for (name, database) in &config.databases {
        if name != config::WILDCARD {
            let made = follow(old_database(name), database, &*start)?;
            databases.insert(name.clone(), made);
        }
    }
    let wildcard = match config.databases.get(config::WILDCARD) {
        Some(template) => Some(wildcard(template, old, start)?),
        None => None,
    };
    // Nothing can fail any more: what the process goes by may change.
    let general = &config.general;
    ledger.apply(config.users.values(), general.max_user_connections);
    let generation = old.map_or(1, |old| old.generation + 1);
    Ok(Directory {
        generation,
        config,
        authenticators,
        tls,
        databases,
        wildcard,
        ledger,
    })
}

type Start = dyn Fn(Arc<config::Database>) -> Result<Arc<Database>, Error> + Send + Sync;

/// How a database is started under this configuration, from whichever thread: its servers are
/// watched on the current runtime.
fn starter(config: &Config, metrics: &Arc<Metrics>, ledger: &Arc<Ledger>) -> Arc<Start> {
    let (metrics, ledger) = (Arc::clone(metrics), Arc::clone(ledger));
    let fallback = fallback_user(config);
    let plan_cache_bytes = config.general.plan_cache_bytes;
    let control = tokio::runtime::Handle::current();
    Arc::new(move |database| {
        let _entered = control.enter();
        Database::start(database, &fallback, plan_cache_bytes, &metrics, &ledger).map(Arc::new)
    })
}

/// The database as it now is to be: the old one if nothing changed, with other limits if only its
/// pools did, else a new one.
fn follow(
    old: Option<Arc<Database>>,
    config: &Arc<config::Database>,
    start: &Start,
) -> Result<Arc<Database>, Error> {
    let Some(old) = old else {
        return start(Arc::clone(config));
    };
    // The users' limits may have changed too, so the pools follow in either case.
    if old.config.differs_in_pool_only(config) {
        return Ok(match old.config == *config {
            true => old,
            false => Arc::new(old.with_pool_settings(Arc::clone(config))),
        });
    }
    let new = start(Arc::clone(config))?;
    new.pools.obey_as(&old.pools);
    Ok(new)
}

/// The wildcard, with the databases that it has made so far.
fn wildcard(
    template: &Arc<config::Database>,
    old: Option<&Directory>,
    start: Arc<Start>,
) -> Result<Wildcard, Error> {
    let mut made = HashMap::new();
    for old in old.iter().flat_map(|old| old.wild_databases()) {
        let name = old.config.name.clone();
        let config = Arc::new(template.named(&name));
        made.insert(name, follow(Some(old), &config, &*start)?);
    }
    let of_name = Arc::clone(template);
    Ok(Wildcard {
        config: Arc::clone(template),
        make: Arc::new(move |name| start(Arc::new(of_name.named(name)))),
        made: Arc::new(Mutex::new(made)),
    })
}

/// Who watches the servers when the configuration names nobody: the first user with a password.
fn fallback_user(config: &Config) -> ServerUser {
    let with_password = config.users.values().find_map(|user| match &user.auth {
        config::ClientAuth::Password(secret) => Some(ServerUser {
            name: user.name.clone(),
            password: Some(secret.clone()),
        }),
        config::ClientAuth::Trust | config::ClientAuth::Verifier(_) => None,
    });
    let first = || {
        config
            .users
            .keys()
            .next()
            .cloned()
            .unwrap_or_else(|| "postgres".to_owned())
    };
    with_password.unwrap_or_else(|| ServerUser {
        name: first(),
        password: None,
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
    let new = build(config, Some(&old), &shared.metrics)?;
    let still = new.all();
    for db in &still {
        db.pools.apply(&db.config);
    }
    shared.replace(new);
    // What nobody will ask for again drains; idle clients of a database that is gone are told.
    for old in old.all() {
        if !still.iter().any(|db| Arc::ptr_eq(&db.pools, &old.pools)) {
            old.pools.retire();
        }
    }
    keeper::end_strays(shared);
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

/// What is left to do before the process may go, as SHUTDOWN or a signal asked for it.
async fn end(shared: &Shared, ending: Shutdown, limit: Duration) {
    match ending {
        Shutdown::Now => {}
        Shutdown::WhenServersAreFree => drain(shared, limit).await,
        Shutdown::WhenClientsHaveLeft => {
            let is_left = |client: &Arc<ClientInfo>| client.database != config::ADMIN_DATABASE;
            while shared.clients().iter().any(is_left) {
                net::sleep(DRAIN_LOOK).await;
            }
            drain(shared, limit).await;
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
