//! The one wiring function: builds every room, binds, reloads, drains. Nothing imports it but `main`.
//!
//! The control thread watches servers, accepts clients and serves HTTP; worker threads, each a
//! single-threaded runtime, serve the clients they were given. A worker gets new clients until it
//! is busy, then the next one does: fewer awake threads batch more and cost less.

mod accept;
pub mod analyze;
mod caches;
pub mod check;
mod deadlocks;
mod doors;
mod handover;
mod history;
pub mod init;
mod keeper;
mod limits;
mod live;
mod rows;
mod scrape;
mod status;
mod systemd;
#[cfg(test)]
mod tests;
mod watch;
mod workers;

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::admin::{Change, Order, Shutdown};
use crate::config::{self, Config, ServerSecret, ServerUser};
use crate::error::{Error, Fault};
use crate::executor::database::{Database, StatementIds};
use crate::log::SetLevel;
use crate::metrics::Metrics;
use crate::net::{self, Instant};
use crate::pool::cap::Ledger;
use crate::session::auth::Authenticators;
use crate::session::{COMMIT_GRACE, ClientInfo, Directory, Shared, Verdict, Wildcard, startup};
use crate::spans::Tracer;
use accept::{accept, accept_waiting};
use doors::{Doors, Passed};
use handover::Predecessor;
use live::{Errand, Live};
use watch::Watch;
use workers::Workers;

/// How often a draining process looks whether its clients have left.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// How long a draining process waits for connections that have said nothing yet.
const ARRIVAL: Duration = Duration::from_secs(2);
/// How long servers may take to end statements that are cancelled because the process ends.
const CANCELLED: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT. `take_over`: in the place of the process that serves now, of the
/// one with that name if it is not empty. `set_level` is called with each new `log_level`.
///
/// # Errors
/// What keeps it from starting.
pub fn serve(
    path: &Path,
    config: Config,
    take_over: Option<&str>,
    set_level: SetLevel,
) -> Result<(), Error> {
    let mut passed = systemd::passed_sockets()?;
    let predecessor = match take_over {
        None => None,
        Some(name) => find_predecessor(&config, name, &mut passed)?,
    };
    limits::raise_open_files(&config);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| cannot("start a runtime", &e))?;
    runtime.block_on(control(
        path.to_owned(),
        config,
        passed,
        predecessor,
        set_level,
    ))
}

/// Does what a signal orders; nobody waits for an answer.
async fn order(shared: Arc<Shared>, order: Order) {
    if let Err(error) = keeper::obey(&shared, &order).await {
        tracing::warn!(%error, "order by signal failed");
    }
}

/// The process to take over from; its sockets join those that systemd passed.
fn find_predecessor(
    config: &Config,
    name: &str,
    passed: &mut Vec<Passed>,
) -> Result<Option<Predecessor>, Error> {
    let Some(directory) = &config.general.run_directory else {
        let message = "--take-over needs run_directory in [general]";
        return Err(Error::new(Fault::Operator, "F0000", message)
            .detail("The processes find each other there."));
    };
    let name = (!name.is_empty()).then_some(name);
    match Predecessor::find(directory, name)? {
        None => {
            tracing::info!("there is no process to take over from");
            Ok(None)
        }
        Some((predecessor, sockets)) => {
            passed.extend(sockets);
            Ok(Some(predecessor))
        }
    }
}

async fn control(
    path: PathBuf,
    config: Config,
    passed: Vec<Passed>,
    predecessor: Option<Predecessor>,
    set_level: SetLevel,
) -> Result<(), Error> {
    let general = config.general.clone();
    let (mut terminate, mut interrupt, mut hangup) = (
        on_signal(SignalKind::terminate())?,
        on_signal(SignalKind::interrupt())?,
        on_signal(SignalKind::hangup())?,
    );
    let (mut pause, mut resume) = (
        on_signal(SignalKind::user_defined1())?,
        on_signal(SignalKind::user_defined2())?,
    );
    let mut watch = Watch::new(config.files.clone());
    let metrics = Arc::new(Metrics::new());
    let directory = build(config, None, &metrics)?;
    let own_socket = general.run_directory.as_deref().map(handover::own_socket);
    let tracer = general.tracing.as_ref().map(Tracer::start).transpose()?;
    let tracer = tracer.map(Arc::new);
    let shared = Shared::new(directory, metrics, own_socket.clone(), tracer.clone());
    let (live, mut errands) = Live::new(Arc::clone(&shared));
    let doors = Arc::new(Doors::open(&general, passed)?);
    let workers = Workers::start(general.workers, &live)?;
    let mut accepting = JoinSet::new();
    for listener in doors.clients() {
        accepting.spawn(accept(listener, Arc::clone(&workers)));
    }
    let (http, http_ends) = oneshot::channel::<()>();
    serve_http(&doors, &live, async {
        let _ = http_ends.await;
    })?;
    let (dismissals, mut dismissed) = mpsc::channel(1);
    // Its file goes when this function ends.
    let mut _own_file = None;
    if let Some(path) = &own_socket {
        let (listener, file) = handover::listen(path)?;
        _own_file = Some(file);
        let (shared, doors) = (Arc::clone(&shared), Arc::clone(&doors));
        tokio::spawn(handover::serve(listener, shared, doors, dismissals));
    }
    tokio::spawn(scrape::turn_periods(Arc::clone(&live)));
    tokio::spawn(scrape::keep_history(Arc::clone(&live)));
    if let Some(predecessor) = predecessor {
        // On another thread: clients come here already.
        let _ = tokio::task::spawn_blocking(move || predecessor.dismiss()).await;
        doors.adopt();
    }
    systemd::ready();
    let listen: Vec<_> = general.listen.iter().map(ToString::to_string).collect();
    tracing::info!(
        listen = listen.join(", "),
        http = general.http_listen.map(tracing::field::display),
        workers = general.workers,
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
    let mut watching = std::pin::pin!(net::sleep(watch_interval(&shared)));
    let watchdog = systemd::watchdog_interval();
    let mut feeding = std::pin::pin!(net::sleep(watchdog.unwrap_or(NEVER)));
    let ending = loop {
        let answer: Option<live::Answer> = tokio::select! {
            _ = terminate.recv() => break Shutdown::WhenServersAreFree,
            _ = interrupt.recv() => break Shutdown::WhenServersAreFree,
            Some(gone) = dismissed.recv() => {
                accepting.shutdown().await;
                doors.leave();
                drop(http);
                let _: Result<(), ()> = gone.send(());
                tracing::info!("another process has taken over");
                break Shutdown::WhenServersAreFree;
            }
            _ = pause.recv() => {
                tokio::spawn(order(Arc::clone(&shared), Order::Pause(None)));
                continue;
            }
            _ = resume.recv() => {
                tokio::spawn(order(Arc::clone(&shared), Order::Resume(None)));
                continue;
            }
            () = &mut feeding => {
                systemd::watchdog();
                feeding.set(net::sleep(watchdog.unwrap_or(NEVER)));
                continue;
            }
            () = &mut watching => {
                watching.set(net::sleep(watch_interval(&shared)));
                if !is_watching(&shared) || !watch.look() {
                    continue;
                }
                tracing::info!("a file of the configuration has changed");
                None
            }
            _ = hangup.recv() => None,
            Some(errand) = errands.recv() => match errand {
                Errand::Reload(answer) => Some(answer),
                Errand::Change(change, answer) => {
                    let done = apply_change(&shared, &change);
                    set_level(&shared.directory.load().config.general.log_level);
                    let _ = answer.send(done);
                    continue;
                }
                Errand::Shutdown(ending) => break ending,
            },
        };
        // What changes from here on is seen by the next look.
        watch.refresh();
        systemd::reloading();
        let done = reload(&path, &live);
        set_level(&shared.directory.load().config.general.log_level);
        systemd::ready();
        if done.is_ok() {
            watch = Watch::new(shared.directory.load().config.files.clone());
        }
        if let Some(answer) = answer {
            // An admin who has left meanwhile needs no answer.
            let _ = answer.send(done);
        }
    };
    systemd::stopping();
    accepting.shutdown().await;
    for listener in doors.close() {
        accept_waiting(&listener, &workers);
    }
    let mut ending = ending;
    let mut ended = std::pin::pin!(end(&shared, ending, general.shutdown_timeout));
    loop {
        let asked = tokio::select! {
            () = &mut ended => {
                if let Some(tracer) = tracer {
                    let _ = tokio::task::spawn_blocking(move || tracer.finish()).await;
                }
                tracing::info!("stopped");
                return Ok(());
            }
            _ = terminate.recv() => signalled_again(ending),
            _ = interrupt.recv() => signalled_again(ending),
            Some(errand) = errands.recv() => match errand {
                Errand::Shutdown(asked) => asked,
                // Its sender hears that the process ends.
                Errand::Reload(_) | Errand::Change(..) => continue,
            },
        };
        // The same again does not give it more time.
        if asked < ending {
            ending = asked;
            ended.set(end(&shared, ending, general.shutdown_timeout));
        }
    }
}

/// What a signal asks of a process that ends already.
fn signalled_again(ending: Shutdown) -> Shutdown {
    match ending {
        Shutdown::WhenClientsHaveLeft => Shutdown::WhenServersAreFree,
        // Told twice: at once, whatever is still open.
        Shutdown::WhenServersAreFree | Shutdown::Now => Shutdown::Now,
    }
}

/// Longer than any process lives.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

fn is_watching(shared: &Shared) -> bool {
    let directory = shared.directory.load();
    directory.config.general.watch_interval.is_some()
}

fn watch_interval(shared: &Shared) -> Duration {
    let directory = shared.directory.load();
    directory.config.general.watch_interval.unwrap_or(ARRIVAL)
}

fn on_signal(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(|e| cannot("handle signals", &e))
}

/// Until the process ends, since who watches a drain wants to see it; unless another process has
/// the port, which `end` tells.
fn serve_http(
    doors: &Doors,
    live: &Arc<Live>,
    end: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let Some(listener) = doors.http()? else {
        return Ok(());
    };
    let [metrics, ready, status] = [(); 3].map(|()| Arc::clone(live));
    let answers = crate::http::Answers {
        metrics: move || scrape::render(&metrics),
        ready: move || scrape::readiness(&ready.shared),
        status: move || status::status(&status),
    };
    let closed = live.shared.metrics.http_closed.clone();
    tokio::spawn(async move {
        if let Err(error) = crate::http::serve(listener, answers, closed, end).await {
            tracing::error!(%error, "the HTTP port is not served any more");
        }
    });
    Ok(())
}

/// Everything that follows from a configuration. Databases that did not change stay as they are.
fn build(
    config: Config,
    old: Option<&Directory>,
    metrics: &Arc<Metrics>,
) -> Result<Directory, Error> {
    let tls = config.tls.as_ref().map(startup::tls_acceptor).transpose()?;
    let ledger = old.map_or_else(Arc::default, |old| Arc::clone(&old.ledger));
    let ids = old.map_or_else(Arc::default, |old| Arc::clone(&old.statement_ids));
    let start = starter(&config, metrics, &ledger, &ids);
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
    let known = old.map(|old| &old.authenticators);
    let authenticators = Authenticators::new(&config, &databases, known);
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
        statement_ids: ids,
    })
}

type Start = dyn Fn(Arc<config::Database>) -> Result<Arc<Database>, Error> + Send + Sync;

/// How a database is started under this configuration, from whichever thread: its servers are
/// watched on the current runtime.
fn starter(
    config: &Config,
    metrics: &Arc<Metrics>,
    ledger: &Arc<Ledger>,
    ids: &Arc<StatementIds>,
) -> Arc<Start> {
    let (metrics, ledger, ids) = (Arc::clone(metrics), Arc::clone(ledger), Arc::clone(ids));
    let fallback = fallback_user(config);
    let general = config.general.clone();
    let control = tokio::runtime::Handle::current();
    Arc::new(move |database| {
        let _entered = control.enter();
        Database::start(
            database,
            fallback.as_ref(),
            &general,
            &metrics,
            &ledger,
            &ids,
        )
        .map(Arc::new)
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
    start(Arc::clone(config))
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

/// Who watches the servers when the configuration names nobody: the only user with a password, else
/// the only one who needs none. Of several none is taken, as each may be no role of the servers.
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
    let able: Vec<_> = config
        .users
        .values()
        .filter_map(|user| Some((user, of(user)?)))
        .collect();
    let has_password = able.iter().any(|(_, secret)| !secret.is_none());
    let mut fit = able
        .into_iter()
        .filter(|(_, secret)| secret.is_none() != has_password);
    let (Some((user, secret)), None) = (fit.next(), fit.next()) else {
        return None;
    };
    Some(ServerUser {
        name: user.name.clone(),
        secret,
    })
}

/// Why a reload changed nothing.
struct Refused {
    error: Error,
    /// For the status page, which whoever reaches the port may read.
    for_all: String,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self {
            for_all: error.message.to_string(),
            error,
        }
    }
}

impl From<config::ConfigErrors> for Refused {
    fn from(mistakes: config::ConfigErrors) -> Self {
        let places = mistakes.mistakes.iter().map(|mistake| {
            let line = mistake.line.map(|line| format!("line {line}"));
            let path = (!mistake.path.is_empty()).then(|| mistake.path.clone());
            let place: Vec<String> = line.into_iter().chain(path).collect();
            place.join(" ")
        });
        let places: Vec<String> = places.filter(|place| !place.is_empty()).collect();
        let message = "configuration is not valid";
        Self {
            for_all: match places.is_empty() {
                true => message.to_owned(),
                false => format!("{message}: {}", places.join(", ")),
            },
            error: Error::new(Fault::Operator, "F0000", message)
                .detail(mistakes.to_string())
                .hint("Nothing has changed; correct the file and reload again."),
        }
    }
}

/// Applies a changed configuration file; clients stay connected. Counted and logged here.
///
/// # Errors
/// F0000 (config_file_error) with all mistakes in the file; nothing has changed then.
fn reload(path: &Path, live: &Live) -> Result<(), Error> {
    let shared = &live.shared;
    match apply(path, shared) {
        Ok(()) => {
            live.reloaded(None);
            shared.metrics.reloads_applied.increment(1);
            tracing::info!("configuration reloaded");
            Ok(())
        }
        Err(Refused { error, for_all }) => {
            live.reloaded(Some(for_all));
            shared.metrics.reloads_refused.increment(1);
            tracing::error!(%error, "configuration not reloaded, the old one stays in force");
            Err(error)
        }
    }
}

fn apply(path: &Path, shared: &Shared) -> Result<(), Refused> {
    let config = config::load(path)?;
    let old = shared.directory.load_full();
    for setting in config::diff_needs_restart(&old.config, &config) {
        tracing::warn!(setting, "takes effect after a restart only");
    }
    put_in_force(shared, build(config, Some(&old), &shared.metrics)?);
    Ok(())
}

/// `SET` in the admin database: one setting as if the file had it so, until it is read again.
///
/// # Errors
/// Why that cannot be; nothing has changed then.
fn apply_change(shared: &Shared, change: &Change) -> Result<(), Error> {
    let old = shared.directory.load_full();
    let config = old.config.changed(&change.key, &change.value)?;
    put_in_force(shared, build(config, Some(&old), &shared.metrics)?);
    tracing::info!(key = change.key, "setting changed until the next reload");
    Ok(())
}

fn put_in_force(shared: &Shared, new: Directory) {
    let databases = new.all();
    for db in &databases {
        db.pools.apply(&db.config);
    }
    let old = {
        let _no_order = shared.hold_orders();
        let old = shared.directory.load_full();
        for db in &databases {
            if let Some(old) = old.database(&db.config.name) {
                db.pools.obey_as(&old.pools);
                db.cluster.succeed(&old.cluster);
            }
        }
        shared.replace(new);
        old
    };
    // What nobody will ask for again drains; idle clients of a database that is gone are told.
    for old in old.all() {
        if !databases
            .iter()
            .any(|db| Arc::ptr_eq(&db.pools, &old.pools))
        {
            old.pools.retire();
        }
    }
    keeper::end_strays(shared);
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
/// time is over: then what is still open is broken off.
async fn drain(shared: &Shared, limit: Duration) {
    let start = Instant::now();
    shared.stop();
    tracing::info!(clients = shared.client_count(), "shutting down");
    while start.elapsed() < limit && is_in_use(shared, start.elapsed()) {
        net::sleep(DRAIN_LOOK).await;
        // Those who were new are not for ever.
        shared.wake_all();
    }
    let left = shared.clients().iter().filter(|c| c.is_logged_in()).count();
    if left > 0 {
        tracing::warn!(
            clients = left,
            "shutdown_timeout_s is over: what they have open is rolled back"
        );
    }
    break_off(shared).await;
}

/// Ends all sessions, and what servers do for them: by the end of a process alone they hear of it
/// when they next read or write, and hold locks until then. Commits over several shards may come to
/// their end; what is left of one holds locks until another process finishes it.
async fn break_off(shared: &Shared) {
    for client in shared.clients() {
        client.end(Verdict::Killed);
    }
    let start = Instant::now();
    let is_served = || shared.clients().iter().any(|client| client.is_logged_in());
    while start.elapsed() < COMMIT_GRACE && is_served() {
        net::sleep(DRAIN_LOOK).await;
    }
    let start = Instant::now();
    let works = || {
        let pools = shared.directory.load().all();
        let mut pools = pools.iter().flat_map(|db| db.pools.all());
        pools.any(|(_, _, pool)| pool.usage().0 > 0)
    };
    while start.elapsed() < CANCELLED && works() {
        net::sleep(DRAIN_LOOK).await;
    }
}

/// Somebody is served still, or was let in and has had no time yet to say what for.
fn is_in_use(shared: &Shared, drained_for: Duration) -> bool {
    let arriving = shared.arriving_count() > 0 && drained_for < ARRIVAL;
    arriving || shared.clients().iter().any(|c| c.is_logged_in())
}

fn cannot(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(Fault::Operator, "58000", format!("cannot {what}: {error}"))
}
