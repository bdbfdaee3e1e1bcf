//! The one wiring function: builds every room, binds, reloads, drains. Nothing imports it but `main`.
//!
//! The control thread watches servers, accepts clients and serves HTTP; worker threads, each a
//! single-threaded runtime, serve the clients they were given. A worker gets new clients until it
//! is busy, then the next one does: fewer awake threads batch more and cost less.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::{self, Config, ServerUser};
use crate::error::{Error, Fault};
use crate::executor::database::Database;
use crate::net::{self, Instant, Stream};
use crate::session::auth::Authenticators;
use crate::session::login::{Arrival, arrive};
use crate::session::{Directory, Shared, startup};

/// A worker busier than this share of its time gets no new clients while another is less busy.
const BUSY: f64 = 0.7;
const LOAD_INTERVAL: Duration = Duration::from_millis(250);

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
    let shared = Shared::new(build(config, None)?);
    let listeners = bind(&general.listen).await?;
    let workers = Workers::start(general.workers, &shared)?;
    for listener in listeners {
        tokio::spawn(accept(listener, Arc::clone(&workers)));
    }
    if let Some(address) = general.http_listen {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|e| cannot(&format!("listen on {address}"), &e))?;
        tokio::spawn(crate::http::serve(
            listener,
            String::new,
            || Ok(()),
            std::future::pending(),
        ));
    }
    tracing::info!(listen = ?general.listen, workers = general.workers, "ready");
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|e| cannot("handle signals", &e))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|e| cannot("handle signals", &e))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(|e| cannot("handle signals", &e))?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                if let Err(error) = reload(&path, &shared) {
                    tracing::error!("configuration not reloaded, the old one stays in force: {error}");
                }
            }
        }
    }
    drain(&shared, general.shutdown_timeout).await;
    Ok(())
}

/// Everything that follows from a configuration. Databases that did not change stay as they are.
fn build(config: Config, old: Option<&Directory>) -> Result<Directory, Error> {
    let authenticators = match old {
        None => Authenticators::new(&config.users)?,
        Some(old) => old.authenticators.reload(&config.users)?,
    };
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
                    &fallback,
                    config.general.plan_cache_bytes,
                )?)
            }
        };
        databases.insert(name.clone(), made);
    }
    let generation = old.map_or(1, |old| old.generation + 1);
    Ok(Directory {
        generation,
        config,
        authenticators,
        tls,
        databases,
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

/// Applies a changed configuration file; clients stay connected.
///
/// # Errors
/// All mistakes in the file; nothing has changed then.
pub fn reload(path: &Path, shared: &Shared) -> Result<(), Error> {
    let config = config::load(path).map_err(|mistakes| {
        Error::new(
            Fault::Operator,
            "F0000",
            format!("configuration is not valid\n{mistakes}"),
        )
    })?;
    let old = shared.directory.load_full();
    for setting in config::diff_needs_restart(&old.config, &config) {
        tracing::warn!(setting, "takes effect after a restart only");
    }
    shared.replace(build(config, Some(&old))?);
    tracing::info!("configuration reloaded");
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

/// Stops when every client has left or the time is over; those without a transaction are sent off.
async fn drain(shared: &Shared, limit: Duration) {
    let deadline = Instant::now() + limit;
    tracing::info!(clients = shared.clients().len(), "shutting down");
    while Instant::now() < deadline && shared.clients().iter().any(|client| client.is_busy()) {
        net::sleep(Duration::from_millis(20)).await;
    }
}

/// The worker threads.
struct Workers {
    workers: Vec<Worker>,
}

struct Worker {
    clients: mpsc::UnboundedSender<std::net::TcpStream>,
    /// Share of time spent working lately, in thousandths.
    load: AtomicUsize,
}

impl Workers {
    fn start(count: usize, shared: &Arc<Shared>) -> Result<Arc<Self>, Error> {
        let mut workers = Vec::new();
        let mut runtimes = Vec::new();
        for number in 0..count.max(1) {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| cannot("start a runtime", &e))?;
            runtimes.push(runtime.metrics());
            let (sender, receiver) = mpsc::unbounded_channel();
            let shared = Arc::clone(shared);
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || work(&runtime, receiver, shared))
                .map_err(|e| cannot("start a thread", &e))?;
            workers.push(Worker {
                clients: sender,
                load: AtomicUsize::new(0),
            });
        }
        let workers = Arc::new(Self { workers });
        if count > 1 {
            tokio::spawn(measure(Arc::clone(&workers), runtimes));
        }
        Ok(workers)
    }

    /// The first worker with time to spare, else the least busy one.
    fn give(&self, stream: TcpStream) {
        let load = |worker: &&Worker| worker.load.load(Relaxed);
        let spare = self
            .workers
            .iter()
            .find(|worker| load(worker) < (BUSY * 1000.0) as usize);
        let Some(worker) = spare.or_else(|| self.workers.iter().min_by_key(load)) else {
            return;
        };
        match stream.into_std() {
            Ok(stream) => {
                let _ = worker.clients.send(stream);
            }
            Err(error) => tracing::error!(%error, "cannot hand a client over"),
        }
    }
}

async fn measure(workers: Arc<Workers>, runtimes: Vec<tokio::runtime::RuntimeMetrics>) {
    let mut before: Vec<Duration> = runtimes
        .iter()
        .map(|r| r.worker_total_busy_duration(0))
        .collect();
    loop {
        net::sleep(LOAD_INTERVAL).await;
        for ((worker, runtime), before) in workers.workers.iter().zip(&runtimes).zip(&mut before) {
            let now = runtime.worker_total_busy_duration(0);
            let busy = now.saturating_sub(std::mem::replace(before, now));
            worker.load.store(
                (busy.as_secs_f64() / LOAD_INTERVAL.as_secs_f64() * 1000.0) as usize,
                Relaxed,
            );
        }
    }
}

fn work(
    runtime: &Runtime,
    mut clients: mpsc::UnboundedReceiver<std::net::TcpStream>,
    shared: Arc<Shared>,
) {
    runtime.block_on(async move {
        while let Some(stream) = clients.recv().await {
            match TcpStream::from_std(stream) {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(serve_client(Stream::Tcp(stream), Arc::clone(&shared)));
                }
                Err(error) => tracing::error!(%error, "cannot take a client over"),
            }
        }
    });
}

async fn serve_client(stream: Stream, shared: Arc<Shared>) {
    // Boxed: logging in takes far more room than the session that lasts.
    match Box::pin(arrive(stream, &shared)).await {
        Arrival::Over => {}
        Arrival::Session(session) => {
            let (session, _registration) = *session;
            session.run().await;
        }
        Arrival::Admin {
            conn: _,
            registration: _,
        } => {}
    }
}

fn cannot(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(Fault::Operator, "58000", format!("cannot {what}: {error}"))
}
