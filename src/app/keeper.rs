//! What has to be looked after while clients are served: pools, and clients' time limits; and what
//! an operator orders for databases and clients.
//!
//! One task sees to all time limits, so that a statement sets no timer and reads no clock for them.
//! A limit is therefore kept to a tenth of itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::time::Duration;

use crate::admin::Order;
use crate::backend::server::Blame;
use crate::config::{ADMIN_DATABASE, Config, Timeouts};
use crate::error::{Error, Fault};
use crate::executor::database::Database;
use crate::net::{self, Instant};
use crate::session::{ClientInfo, ClientState, Directory, Shared, Verdict};

/// How often pools are looked after.
const TEND: Duration = Duration::from_secs(1);
/// How often clients are looked at, at most.
const LOOK: Duration = Duration::from_millis(20);
/// How often WAIT_CLOSE looks.
const CLOSE_LOOK: Duration = Duration::from_millis(20);
/// How often a statement that is over its time is cancelled: a request that comes too early, or while
/// the server waits for its client, has no effect.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);
/// How long a cancelled statement may take to end before its session is ended instead: its server may
/// be out of reach, or wait for a client that neither reads nor sends.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// Runs for as long as the process.
pub async fn keep(shared: Arc<Shared>) {
    let mut watch = Watch::default();
    let mut tended = Instant::now();
    loop {
        let directory = shared.directory.load_full();
        net::sleep(interval(&directory.config)).await;
        let now = Instant::now();
        watch.look(&shared, now);
        if now.duration_since(tended) >= TEND {
            tended = now;
            tend(&directory, now);
        }
    }
}

/// A tenth of the shortest limit that anybody has.
fn interval(config: &Config) -> Duration {
    let databases = config.databases.values().map(|db| &db.pool.timeouts);
    let users = config.users.values().map(|user| &user.limits.timeouts);
    let limits = databases.chain(users).flat_map(|timeouts| {
        let Timeouts {
            client_idle,
            query,
            idle_transaction,
            transaction,
        } = *timeouts;
        [client_idle, query, idle_transaction, transaction]
    });
    let shortest = limits.flatten().min();
    shortest.map_or(TEND, |shortest| (shortest / 10).clamp(LOOK, TEND))
}

fn tend(directory: &Directory, now: Instant) {
    for db in directory.all() {
        warm(&db);
        db.pools.tend(now);
    }
    directory.ledger.retired.tend(now);
    if let Some(wildcard) = &directory.wildcard {
        wildcard.forget_idle();
    }
}

/// The pools that every client of a database uses are there before the first client.
fn warm(db: &Database) {
    let (Some(user), true) = (&db.config.server_user, db.config.pool.min_size > 0) else {
        return;
    };
    for (shard, endpoint) in db.servers() {
        if db.config.reads.split || db.cluster.primary(shard) == Some(endpoint) {
            drop(db.pool(shard, endpoint, user));
        }
    }
}

/// What was seen of the clients last time.
#[derive(Default)]
struct Watch(HashMap<i32, Seen>);

#[derive(Clone, Copy)]
struct Seen {
    state: ClientState,
    request: Duration,
    /// Since when it is in this state with this request, as far as was seen.
    since: Instant,
    /// When this request was cancelled last.
    cancelled: Option<Instant>,
}

impl Watch {
    fn look(&mut self, shared: &Shared, now: Instant) {
        let directory = shared.directory.load();
        let databases: HashMap<_, _> = directory
            .all()
            .into_iter()
            .map(|db| (db.config.name.clone(), db))
            .collect();
        let limited = |timeouts: &Timeouts| !timeouts.is_none();
        let users = &directory.config.users;
        if !databases
            .values()
            .any(|db| limited(&db.config.pool.timeouts))
            && !users.values().any(|user| limited(&user.limits.timeouts))
        {
            self.0.clear();
            return;
        }
        let before = std::mem::take(&mut self.0);
        for client in shared.clients() {
            let Some(db) = databases.get(&client.database) else {
                continue;
            };
            let timeouts = directory.timeouts(&client.user, db);
            if timeouts.is_none() || !client.is_logged_in() {
                continue;
            }
            let mut seen = Seen::of(&client, before.get(&client.pid), now);
            match over(&client, &seen, &timeouts, now) {
                Some(Over::Session(verdict)) => client.end(verdict),
                Some(Over::Statement) if seen.may_cancel(now) => {
                    let limit = directory.config.general.login_timeout;
                    if cancel_statement(&client, seen.request, limit, Blame::QueryTimeout) {
                        seen.cancelled = Some(now);
                    }
                }
                Some(Over::Statement) | None => {}
            }
            self.0.insert(client.pid, seen);
        }
    }
}

impl Seen {
    fn of(client: &ClientInfo, before: Option<&Self>, now: Instant) -> Self {
        // The state first; see `ClientInfo::requested`.
        let state = client.state();
        let request = client.last_request();
        let before = before.filter(|before| before.request == request);
        let since = match (state, before) {
            (_, Some(before)) if before.state == state => before.since,
            // It had to wait for a server, which is not the statement's own time.
            (ClientState::Active, Some(_)) => now,
            (ClientState::Active, None) => client.connected_at + request,
            (
                ClientState::LoggingIn
                | ClientState::Idle
                | ClientState::Waiting
                | ClientState::IdleInTransaction
                | ClientState::IdleLinked
                | ClientState::Replicating,
                _,
            ) => now,
        };
        Self {
            state,
            request,
            since,
            cancelled: before.and_then(|before| before.cancelled),
        }
    }

    fn may_cancel(&self, now: Instant) -> bool {
        self.cancelled
            .is_none_or(|last| now.duration_since(last) >= CANCEL_AGAIN)
    }
}

enum Over {
    Session(Verdict),
    Statement,
}

/// What a client has no more time for, if anything.
fn over(client: &ClientInfo, seen: &Seen, timeouts: &Timeouts, now: Instant) -> Option<Over> {
    let passed = |limit: Option<Duration>, since: Instant| {
        limit.is_some_and(|limit| now.duration_since(since) >= limit)
    };
    let block = client
        .block_start()
        .map(|start| client.connected_at + start);
    let transaction = match seen.state {
        ClientState::Active => block.or(Some(seen.since)),
        ClientState::IdleInTransaction | ClientState::Waiting => block,
        ClientState::LoggingIn
        | ClientState::Idle
        | ClientState::IdleLinked
        | ClientState::Replicating => None,
    };
    if transaction.is_some_and(|since| passed(timeouts.transaction, since)) {
        return Some(Over::Session(Verdict::TransactionTimeout));
    }
    match seen.state {
        ClientState::Idle | ClientState::IdleLinked if passed(timeouts.client_idle, seen.since) => {
            Some(Over::Session(Verdict::ClientIdle))
        }
        ClientState::IdleInTransaction if passed(timeouts.idle_transaction, seen.since) => {
            Some(Over::Session(Verdict::IdleInTransaction))
        }
        ClientState::Active if passed(with_grace(timeouts.query), seen.since) => {
            Some(Over::Session(Verdict::QueryTimeout))
        }
        ClientState::Active if passed(timeouts.query, seen.since) => Some(Over::Statement),
        ClientState::LoggingIn
        | ClientState::Idle
        | ClientState::IdleLinked
        | ClientState::IdleInTransaction
        | ClientState::Waiting
        | ClientState::Replicating
        | ClientState::Active => None,
    }
}

fn with_grace(limit: Option<Duration>) -> Option<Duration> {
    limit.map(|limit| limit.saturating_add(CANCEL_GRACE))
}

/// Cancels on every server that works for the client. Until the requests have arrived, none of
/// these connections is given to another client. False when there is nothing to cancel: no server
/// works for it yet, its `request` has ended, or a request is still on its way.
pub(super) fn cancel_statement(
    client: &ClientInfo,
    request: Duration,
    limit: Duration,
    blame: Blame,
) -> bool {
    let cancelling = client.cancel.cancelling();
    // See `Session::await_cancels`.
    fence(SeqCst);
    // In this order, the other way round than they are set.
    let is_over = client.state() != ClientState::Active || client.last_request() != request;
    let mut counts = cancelling.0.iter().map(|server| &server.activity.cancels);
    // Its own is counted.
    let under_way = counts.any(|count| count.load(Relaxed) > 1);
    if is_over || under_way || cancelling.0.is_empty() {
        return false;
    }
    for server in &cancelling.0 {
        server.activity.blame(blame);
    }
    tokio::spawn(cancelling.send(limit, blame.name()));
    true
}

/// Ends the idle clients of databases that are no longer configured; others learn it when their
/// transaction ends.
pub fn end_strays(shared: &Shared) {
    let directory = shared.directory.load();
    for client in shared.clients() {
        let is_known =
            |name: &str| directory.wildcard.is_some() || directory.database(name).is_some();
        let is_stray = client.database != ADMIN_DATABASE && !is_known(&client.database);
        if is_stray && client.state() == ClientState::Idle {
            client.end(Verdict::DatabaseGone);
        }
    }
}

/// Does what an operator orders for databases and clients.
///
/// # Errors
/// 3D000 for a database that is not there, 55000 for what makes no sense now.
pub async fn obey(shared: &Shared, order: &Order) -> Result<(), Error> {
    match order {
        Order::Pause(name) => {
            let databases = pause(shared, name.as_deref())?;
            for db in &databases {
                let closed = async {
                    db.pools.all_closed().await;
                    // Of the servers that it had before a reload too.
                    until_retired(shared, Some(&db.config.name)).await;
                };
                tokio::select! {
                    () = closed => {}
                    // Another admin resumed it.
                    () = until(|| !db.pools.is_paused()) => {}
                }
            }
            Ok(())
        }
        Order::Resume(name) => resume(shared, name.as_deref()),
        Order::Disable(name) => disable(shared, name, true),
        Order::Enable(name) => disable(shared, name, false),
        Order::Kill(name) => {
            for db in &pause(shared, name.as_deref())? {
                let theirs = |client: &&Arc<ClientInfo>| client.database == db.config.name;
                let clients = shared.clients();
                for client in clients.iter().filter(theirs) {
                    client.end(Verdict::Killed);
                }
            }
            Ok(())
        }
        Order::KillClient(id) => {
            let clients = shared.clients();
            let client = clients
                .iter()
                .find(|client| u64::from(client.pid.unsigned_abs()) == *id);
            let Some(client) = client else {
                let message = format!("no such client: {id}");
                return Err(Error::new(Fault::Client, "42704", message)
                    .hint("SHOW CLIENTS has the numbers in its column id."));
            };
            client.end(Verdict::Killed);
            Ok(())
        }
        Order::ResetDigests => {
            let databases = shared.directory.load().all();
            databases.iter().for_each(|db| db.digests.reset());
            Ok(())
        }
        Order::Reconnect(name) => {
            let databases = named(shared, name.as_deref())?;
            databases.iter().for_each(|db| db.pools.reconnect());
            Ok(())
        }
        Order::WaitClose(name) => {
            let databases = named(shared, name.as_deref())?;
            until(|| databases.iter().all(|db| db.pools.closing() == 0)).await;
            until_retired(shared, name.as_deref()).await;
            Ok(())
        }
        Order::Suspend => Err(Error::new(
            Fault::Client,
            "0A000",
            "SUSPEND is not supported",
        )
        .detail("It is for PgBouncer's restart with -R, which hands over open sockets.")
        .hint("`ringway serve --take-over` replaces the process without a refused connection.")),
        // The control thread's.
        Order::Shutdown(_) => Ok(()),
    }
}

/// Pauses the database of this name, or all, those that a wildcard will make included.
fn pause(shared: &Shared, name: Option<&str>) -> Result<Vec<Arc<Database>>, Error> {
    let _no_reload = shared.hold_orders();
    if name.is_none() {
        shared.paused.store(true, Relaxed);
    }
    let databases = named(shared, name)?;
    databases.iter().for_each(|db| db.pools.pause());
    Ok(databases)
}

fn disable(shared: &Shared, name: &str, disabled: bool) -> Result<(), Error> {
    let _no_reload = shared.hold_orders();
    let databases = named(shared, Some(name))?;
    databases.iter().for_each(|db| db.pools.disable(disabled));
    Ok(())
}

fn resume(shared: &Shared, name: Option<&str>) -> Result<(), Error> {
    let _no_reload = shared.hold_orders();
    let mut was_paused = name.is_none() && shared.paused.swap(false, Relaxed);
    let databases = named(shared, name)?;
    for db in &databases {
        was_paused |= db.pools.resume();
    }
    let message = match (was_paused, name) {
        (true, _) => return Ok(()),
        (false, Some(name)) => format!("database {name} is not paused"),
        (false, None) => "pooler is not paused/suspended".to_owned(),
    };
    Err(Error::new(Fault::Client, "55000", message))
}

/// The database of this name, or all.
fn named(shared: &Shared, name: Option<&str>) -> Result<Vec<Arc<Database>>, Error> {
    let directory = shared.directory.load();
    let Some(name) = name else {
        return Ok(directory.all());
    };
    match directory.database(name) {
        Some(db) => Ok(vec![db]),
        None => Err(
            Error::new(Fault::Client, "3D000", format!("no such database: {name}"))
                .hint("SHOW DATABASES lists them."),
        ),
    }
}

/// Waits for the connections that a reload let go: of a database, or all, those of databases that
/// are gone included.
async fn until_retired(shared: &Shared, database: Option<&str>) {
    let ledger = Arc::clone(&shared.directory.load().ledger);
    until(|| ledger.retired.is_closed(database)).await;
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        net::sleep(CLOSE_LOOK).await;
    }
}
