//! One client: simple and extended protocol, copy, prepared statements, settings, transactions.
//!
//! A session holds server connections only while it needs them: through a statement, a
//! transaction, or for good once something pins it. [`Session::run`] reads one frame after the
//! other; each handler ends with nothing owed by any server, so that an error can be answered at
//! any time.

mod account;
mod apart;
pub mod auth;
mod block;
mod chain;
mod changes;
mod client;
mod commit;
mod cursors;
mod directory;
mod encoding;
mod exchange;
mod extended;
mod follow;
pub mod hints;
mod ids;
mod insertion;
mod large;
mod listening;
mod local;
pub mod login;
mod moving;
mod on_all;
mod own_schema;
mod peers;
mod policy;
mod prepared;
pub mod replication;
mod retry;
mod routed;
mod row_count;
mod scattered;
mod settings;
mod shared;
mod simple;
mod slow;
pub mod startup;
mod state;
mod texts;
mod traced;
mod writes;

use block::Block;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use planner::ShardId;
use planner::plan::Pin;
use planner::shape::Shape;

use login::ClientUser;

use crate::backend::server::kept::Resend;
use crate::backend::server::{ServerName, Settings, StatementId, Status};
use crate::cluster::{EndpointId, Home, Mark, ReadGuard};
use crate::config::PoolMode;
use crate::error::{Error, Fault};
use crate::executor::database::{Database, Parameters, Statement as Text};
use crate::metrics::digest::Digest;
use crate::net::{self, Instant, Stream};
use crate::pool::{Lease, Pool};
use crate::spans::Parent;
use crate::wire::conn::{Conn, OUTBOX_HIGH};
use crate::wire::{frame, frontend};

pub use client::{COMMIT_GRACE, CancelSlot, ClientInfo, ClientState, Newcomer, Verdict};
pub use directory::{Directory, Wildcard};
pub use peers::cancel_here;
pub use policy::denied_by;
pub use shared::{Arriving, Registration, Shared};

/// How long a dying connection may take to accept its last error.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(2);

/// Bytes of a buffer that an idle client keeps; a server connection keeps more.
const KEPT_IDLE: usize = 512;
const KEPT_POOLED: usize = 16 * 1024;

pub struct Session {
    client: Conn,
    db: Arc<Database>,
    shared: Arc<Shared>,
    info: Arc<ClientInfo>,
    /// Settings of the startup packet: what RESET returns to.
    base: Settings,
    settings: Arc<Settings>,
    /// Of these settings, those under which statements are parsed.
    context: Arc<str>,
    /// As above, for texts with other characters than ASCII: the client's encoding says what those are.
    encoded_context: Arc<str>,
    /// The open transaction has changed them.
    context_changed: bool,
    /// What is created may be temporary: pg_temp may be in the search path.
    makes_temporary: bool,
    /// What the client was told by ParameterStatus.
    told: Parameters,
    changes: changes::Changes,
    /// Of the settings that the open transaction changes, the names to ask a server for: it does not
    /// list custom ones. Only those with a dot are asked for.
    custom_settings: BTreeSet<String>,
    /// The statement at hand sets one whose name cannot be told.
    names_unknown: bool,
    listening: Option<Box<listening::Listening>>,
    block: block::Block,
    /// Those of the open transaction, and held ones.
    cursors: cursors::Cursors,
    /// When the first statement of the open transaction came.
    transaction_start: Option<Instant>,
    leases: Vec<Enlisted>,
    /// By shard.
    marks: Vec<Mark>,
    /// The same number for each client address, for reads that go by it.
    source: u64,
    /// The pools this session has used: looking one up by name costs a lock and a hash.
    pools: Vec<(ShardId, EndpointId, Arc<Pool>)>,
    shape: Shape,
    batch: extended::Batch,
    rest: Rest,
    /// Prepared statements of which only one server has the text.
    unread: Vec<Arc<Text>>,
    /// Whether what is sent next may be sent again.
    resend: Resend,
    /// A replica that has just failed, while another server is chosen.
    avoid: Option<EndpointId>,
    wishes: hints::Wishes,
    /// Of the configuration this session knows.
    generation: u64,
    limits: Limits,
    mode: PoolMode,
    account: account::Account,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    max_message_bytes: usize,
    merge_memory_bytes: usize,
    slow_log: slow::SlowLog,
}

impl Limits {
    fn of(shared: &Shared, db: &Database) -> Self {
        let directory = shared.directory.load();
        let general = &directory.config.general;
        Self {
            max_message_bytes: general.max_message_bytes,
            merge_memory_bytes: general.merge_memory_bytes,
            slow_log: slow::SlowLog::of(general, db),
        }
    }
}

/// What comes after the statement at hand before the client is told that it may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Nothing,
    /// Another statement of a text.
    Something,
    /// The text's own COMMIT, which may fail: CommandComplete has to wait too.
    Commit,
}

/// A server connection this session holds.
struct Enlisted {
    shard: ShardId,
    /// The replica that it is; `None` is the primary.
    home: Option<Home>,
    /// Counts the read for those who choose by load.
    load: Option<ReadGuard>,
    lease: Lease,
    /// It has been told of the open transaction block.
    in_block: bool,
    /// It may have written since the transaction began.
    wrote: bool,
    /// What it did must be seen by this session's later reads.
    leaves_mark: bool,
    /// Something ran here since the transaction began.
    used: bool,
    /// Why it stays with this client, once it must.
    pinned: Option<Pinned>,
    /// Something that pins may be gone at the end of this transaction.
    may_release: bool,
    /// Only the server can tell what settings it has after this transaction.
    ask_settings: bool,
    /// It has been told of the block, and of nothing that ran in it.
    begins: bool,
    /// Only the server can tell what it has prepared after this transaction.
    ask_prepared: bool,
    /// Statements of others too that were prepared here by a schema which this transaction has changed.
    made_within: Vec<StatementId>,
    /// Extended-protocol messages were sent since the last Sync.
    needs_sync: bool,
    /// A SET or RESET of this transaction ran here.
    ran_set: bool,
}

/// Why a server connection stays with its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pinned {
    /// The pool's mode is session.
    Mode,
    /// It is, and what was left on the server may be what reads depend on: they stay here.
    ModeWithState,
    By(Pin),
}

impl Enlisted {
    /// It stays with its client because of what was left there.
    fn keeps_state(&self) -> bool {
        match self.pinned {
            Some(Pinned::ModeWithState | Pinned::By(_)) => true,
            Some(Pinned::Mode) | None => false,
        }
    }

    /// True when the server has it, or will by the time it is needed. If not it is prepared next, within a
    /// transaction that has `changed_schema` or another.
    fn knows(&mut self, statement: &Text, changed_schema: bool) -> bool {
        let known = self.lease.has_prepared(statement.id);
        if !known && changed_schema && statement.is_shared() {
            self.made_within.push(statement.id);
        }
        known
    }
}

impl Pinned {
    fn is_by_mode(self) -> bool {
        match self {
            Self::Mode | Self::ModeWithState => true,
            Self::By(_) => false,
        }
    }
}

/// What a login established.
pub struct Login {
    pub stream: Stream,
    /// Bytes the client sent after its startup.
    pub inbox: BytesMut,
    /// Shared among clients that asked for the same.
    pub settings: Arc<Settings>,
    /// What the client was told of the server.
    pub parameters: Parameters,
    pub told: hints::Told,
}

impl Session {
    pub fn new(
        login: Login,
        db: Arc<Database>,
        shared: Arc<Shared>,
        generation: u64,
        info: Arc<ClientInfo>,
    ) -> Self {
        let limits = Limits::of(&shared, &db);
        let settings = shared.directory.load().pool_settings(&info.user, &db);
        let shards = db.config.shards.len();
        let source = source(&info.address);
        let mut session = Self {
            client: Conn::new(login.stream, login.inbox),
            db,
            shared,
            info,
            context: "".into(),
            encoded_context: "".into(),
            context_changed: false,
            makes_temporary: false,
            base: Settings::clone(&login.settings),
            settings: login.settings,
            told: login.parameters,
            changes: changes::Changes::default(),
            custom_settings: BTreeSet::new(),
            names_unknown: false,
            listening: None,
            cursors: cursors::Cursors::default(),
            block: block::Block::None,
            transaction_start: None,
            leases: Vec::new(),
            marks: vec![Mark::default(); shards],
            source,
            pools: Vec::new(),
            shape: Shape::default(),
            batch: extended::Batch::default(),
            rest: Rest::Nothing,
            unread: Vec::new(),
            resend: Resend::Never,
            avoid: None,
            wishes: login.told.wishes,
            generation,
            limits,
            mode: settings.mode,
            account: account::Account::drawing(source),
        };
        session.enter_base_context();
        session.see_positions(&login.told.positions);
        session
    }

    /// Serves until the client leaves or must go. Answers its connection if that is to linger.
    pub async fn run(mut self: Box<Self>) -> Option<Conn> {
        self.info.attend().await;
        let info = Arc::clone(&self.info);
        let end = info.unless_ended(pin!(self.serve())).await;
        // Its last words may be on their way, and lost if what the client still sends is not read.
        let is_told = end.is_err();
        if let Err(error) = end {
            tracing::debug!(client = %self.info.address, %error, "session ended");
            self.count_error(&error);
            for held in &mut self.leases {
                // Some of it may have been written.
                held.lease.flush_approved(&mut self.client.outbox);
            }
            let amid_row = self.leases.iter().any(|held| held.lease.is_mid_frame());
            // It may have ended at any point: what still runs for this client is cancelled.
            self.abandon();
            if !error.is_told() && !amid_row {
                error.write_to(&mut self.client.outbox);
            }
        }
        self.leave();
        if !is_told && !self.client.must_be_ended() {
            return None;
        }
        let _ = Box::pin(net::timeout(FAREWELL, self.client.end())).await;
        self.count_bytes();
        let Self { client, .. } = *self;
        Some(client)
    }

    async fn serve(&mut self) -> Result<(), Error> {
        while let Some(header) = self.next_header().await? {
            if !self.leases.is_empty() {
                self.await_cancels().await;
            } else if self.shared.generation.load(Relaxed) != self.generation
                && !self.batch.has_portals()
            {
                self.follow_configuration()?;
            }
            if self.client.inbox.len() < header.len {
                Box::pin(self.pass_large(header)).await?;
                self.check_block_closed()?;
                continue;
            }
            if self.batch.changed_schema {
                Box::pin(self.learn_own_schema(header)).await?;
            }
            if frontend::is_extended(header.tag) {
                self.extended().await?;
                self.check_block_closed()?;
                continue;
            }
            match header.tag {
                // After an error in the extended protocol, everything up to Sync is ignored.
                b'Q' | b'F' if self.batch.skipping => self.client.inbox.advance(header.len),
                b'Q' | b'F' if self.is_amid_batch() => {
                    Box::pin(self.end_batch_before(header)).await?;
                }
                b'Q' => self.simple(header.len).await?,
                b'F' => {
                    let frame = take_front(&mut self.client.inbox, header.len);
                    Box::pin(self.function_call(frame)).await?;
                }
                b'X' => return Ok(()),
                // Leftovers of a COPY that failed: PostgreSQL ignores them too.
                b'd' | b'c' | b'f' => self.client.inbox.advance(header.len),
                tag => {
                    return Err(Error::protocol(format!(
                        "unexpected message type \"{}\"",
                        tag.escape_ascii()
                    )));
                }
            }
            self.check_block_closed()?;
        }
        Ok(())
    }

    /// The message in front of the inbox ends what extended messages have begun, and runs then.
    async fn end_batch_before(&mut self, header: frame::Header) -> Result<(), Error> {
        // Nothing else may take it for its own meanwhile.
        let mut frame = take_front(&mut self.client.inbox, header.len);
        if !self.end_batch().await? {
            return Ok(());
        }
        if header.tag == b'F' {
            return self.function_call(frame).await;
        }
        frame.unsplit(std::mem::take(&mut self.client.inbox));
        self.client.inbox = frame;
        self.simple(header.len).await
    }

    /// Between transactions, a changed configuration comes into force for this session.
    fn follow_configuration(&mut self) -> Result<(), Error> {
        let directory = self.shared.directory.load_full();
        let name = &self.info.database;
        let db = match (directory.database(name), &directory.wildcard) {
            (Some(db), _) => db,
            // It was made for this client while the configuration changed.
            (None, Some(wildcard)) => {
                let made = self.shared.wild_database(wildcard, name);
                made.map_err(Error::fatal)?
            }
            (None, None) => return Err(no_longer_configured(name)),
        };
        if !Arc::ptr_eq(&db, &self.db) {
            self.marks = vec![Mark::default(); db.config.shards.len()];
            self.marks
                .iter_mut()
                .for_each(|mark| mark.wrote(Instant::now()));
            self.batch.forget_plans();
            self.db = db;
        }
        self.pools.clear();
        self.limits = Limits::of(&self.shared, &self.db);
        self.mode = directory.pool_settings(&self.info.user, &self.db).mode;
        self.generation = directory.generation;
        Ok(())
    }

    /// As whom its statements run.
    fn as_user(&self) -> ClientUser<'_> {
        ClientUser::new(&self.shared, &self.db, &self.info.user)
    }

    /// The header of the next frame once the inbox holds it whole, or as much of it as is needed to
    /// pass the rest as it comes. `None` when the client has left.
    async fn next_header(&mut self) -> Result<Option<frame::Header>, Error> {
        loop {
            if let Some(header) = frame::peek(&self.client.inbox)? {
                frontend::check(header.tag, header.len, frontend::LARGEST)?;
                if self.client.inbox.len() >= header.len || self.is_large(header) {
                    return Ok(Some(header));
                }
            }
            self.deliver()?;
            if self.client.drain().await.is_err() || !self.wait_for_client().await? {
                return Ok(None);
            }
        }
    }

    /// Reads once from the client; false at its end. Held servers are listened to meanwhile.
    async fn wait_for_client(&mut self) -> Result<bool, Error> {
        if self.leases.is_empty() {
            self.info.set(match self.block.is_none() {
                true => ClientState::Idle,
                false => ClientState::IdleInTransaction,
            });
            self.client.shrink(KEPT_IDLE);
            self.shape.shrink(KEPT_IDLE);
            let mailbox = self.mailbox().filter(|_| self.takes_mail()).cloned();
            let fill = self.client.fill();
            let fill = listening::or_mail(mailbox.as_deref(), fill);
            let read = match self.block.is_none() {
                true => self.shared.unless_stopping(&self.info, fill).await?,
                false => fill.await,
            };
            return Ok(read.is_ok_and(|read| read > 0));
        }
        self.info.set(match self.block.is_none() {
            true if self.is_amid_batch() => ClientState::IdleInTransaction,
            true => ClientState::IdleLinked,
            false => ClientState::IdleInTransaction,
        });
        let mailbox = self.mailbox().filter(|_| self.takes_mail()).cloned();
        let (client, leases, info) = (&mut self.client, &mut self.leases, &self.info);
        let skipping = &mut self.batch.skipping;
        let suspended = self.batch.suspended;
        let between_transactions =
            self.block.is_none() && leases.iter().all(|held| held.lease.is_clean());
        poll_fn(|cx| {
            if mailbox
                .as_ref()
                .is_some_and(|mailbox| mailbox.poll_mail(cx))
            {
                return Poll::Ready(Ok(true));
            }
            if between_transactions && self.shared.sends_away(info, cx) {
                return Poll::Ready(Err(client::shut_down()));
            }
            loop {
                for held in leases.iter_mut() {
                    // The rows of a portal that paused are its own to read.
                    if suspended && !held.needs_sync && !held.lease.expect.is_empty() {
                        continue;
                    }
                    if let Poll::Ready(error) = held.lease.poll_unasked(cx, &mut client.outbox) {
                        return Poll::Ready(Err(error));
                    }
                    *skipping |= held.needs_sync && held.lease.error.is_some();
                }
                // A server whose client does not read is not read.
                let crowded = client.outbox.len() >= OUTBOX_HIGH;
                match client.poll_drain(cx) {
                    Poll::Ready(Err(_)) => return Poll::Ready(Ok(false)),
                    Poll::Ready(Ok(())) if crowded => {}
                    Poll::Ready(Ok(())) | Poll::Pending => break,
                }
            }
            client
                .poll_fill(cx)
                .map(|read| Ok(read.is_ok_and(|n| n > 0)))
        })
        .await
    }

    /// Counts a finished exchange of `statements`, the first of which came at `start`, and what went
    /// over the client's connection. Statements of one pipeline share its time evenly.
    fn count_statements(&mut self, statements: u32, elapsed: Duration) {
        let metrics = &self.db.metrics;
        match statements {
            1 => metrics.query_done(elapsed),
            _ => (0..statements).for_each(|_| metrics.query_done(elapsed / statements)),
        }
        self.count_bytes();
    }

    fn count_bytes(&mut self) {
        let metrics = &self.db.metrics;
        metrics
            .received_bytes
            .add(std::mem::take(&mut self.client.received));
        metrics
            .sent_bytes
            .add(std::mem::take(&mut self.client.sent));
    }

    /// Counts an error that is answered; not those of servers, whose codes are not ours.
    fn count_error(&self, error: &Error) {
        if let std::borrow::Cow::Borrowed(code) = error.code {
            self.shared.metrics.error(&self.info.database, code);
        }
    }

    /// Status for a ReadyForQuery of our own.
    fn status(&self) -> Status {
        self.block.status()
    }

    /// # Errors
    /// 0A000 in statement mode.
    fn check_blocks_allowed(&self) -> Result<(), Error> {
        match self.mode {
            PoolMode::Statement => Err(block::no_blocks()),
            PoolMode::Transaction | PoolMode::Session => Ok(()),
        }
    }

    /// A block that a text opened which Ringway did not see through ends with the connection.
    fn check_block_closed(&self) -> Result<(), Error> {
        match self.mode {
            PoolMode::Statement if !self.block.is_none() => Err(block::no_blocks().fatal()),
            PoolMode::Statement | PoolMode::Transaction | PoolMode::Session => Ok(()),
        }
    }

    fn is_session_mode(&self) -> bool {
        self.mode == PoolMode::Session
    }

    /// Gives everything back. A server in a transaction or mid-answer is closed by its pool.
    fn leave(&mut self) {
        // First, so that no cancel request finds what is another's already.
        self.info.cancel.clear();
        for held in std::mem::take(&mut self.leases) {
            self.give_back(held);
        }
        self.count_bytes();
    }

    /// Returns one server connection, cleaning it first when something may have been left on it.
    fn give_back(&self, mut held: Enlisted) {
        held.close_if_loaded();
        let mut lease = held.lease;
        // Its session ended before it knew what is set and prepared there.
        lease.tainted |= held.ask_settings || held.ran_set || held.ask_prepared;
        lease.mailbox = None;
        lease.executes = None;
        lease.conn.shrink(KEPT_POOLED);
        if !lease.tainted || !lease.is_clean() {
            return;
        }
        if lease.applied.contains_key("statement_timeout") {
            // DISCARD ALL runs by itself alone.
            lease.send_query(b"RESET statement_timeout", false);
        }
        let limit = self.db.config.pool.checkout_timeout;
        let identity = Arc::clone(&lease.identity);
        identity.activity.resetting.store(true, Relaxed);
        tokio::spawn(async move {
            // The place in the pool is held meanwhile. What cannot be cleaned stays tainted: closed.
            if let Ok(Ok(())) = net::timeout(limit, lease.run_hidden("DISCARD ALL")).await {
                lease.forget_prepared();
                lease.applied = Arc::default();
                lease.tainted = false;
            }
            identity.activity.resetting.store(false, Relaxed);
        });
    }

    /// Bytes for the client, after everything it is still owed.
    fn emit(&mut self, bytes: &[u8]) {
        match self.batch.active.and_then(|i| self.leases.get_mut(i)) {
            Some(held) if !held.lease.expect.is_empty() => {
                let bytes = Bytes::copy_from_slice(bytes);
                held.lease
                    .expect
                    .push_back(crate::backend::server::Expect::Inject(bytes));
            }
            _ => self.client.outbox.extend_from_slice(bytes),
        }
    }
}

fn no_longer_configured(database: &str) -> Error {
    Error::new(
        Fault::Operator,
        "57P01",
        "terminating connection due to configuration change",
    )
    .detail(format!("Database \"{database}\" is no longer configured."))
    .fatal()
}

/// The first frame of the inbox. A small one is copied: handing out the buffer would cost more, as it
/// could not be used again.
fn take_front(inbox: &mut BytesMut, len: usize) -> BytesMut {
    const SMALL: usize = 1024;
    if len > SMALL {
        return inbox.split_to(len);
    }
    let frame = BytesMut::from(&inbox[..len]);
    inbox.advance(len);
    frame
}

/// A prepared statement as the client knows it.
#[derive(Clone)]
struct Prepared {
    statement: Arc<Text>,
    plan: Arc<planner::Plan>,
    /// Where its executions are counted.
    digest: Option<Arc<Digest>>,
    /// Of which they are a part, where they are traced.
    parent: Option<Box<Parent>>,
    pieces: Arc<[planner::shape::Piece]>,
    /// Catalog version of the plan.
    version: u64,
    /// As the client sent it; empty for the unnamed one.
    name: Arc<[u8]>,
    known: Known,
    /// It takes ids, for which it has parameters that the client does not give.
    ids: Option<Arc<ids::TakesIds>>,
}

/// What is known of a prepared statement here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Its text, which any server can be sent.
    Text,
    /// And without a name: the server's statement may serve again, see [`extended::reuse`].
    Reusable,
    /// Nothing: its text was too long. Only the server that it passed to can run it, see [`large`].
    Unread,
}

impl Prepared {
    fn is_unread(&self) -> bool {
        self.known == Known::Unread
    }

    /// What servers call it.
    fn server_name(&self) -> ServerName {
        match self.name.is_empty() && !self.is_unread() {
            true => ServerName::default(),
            false => self.statement.id.server_name(),
        }
    }
}

/// Of a client's address without its port: all clients of one machine are the same source.
fn source(address: &str) -> u64 {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let mut hasher = DefaultHasher::new();
    host.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_of<T, F>(_: impl FnOnce(T) -> F) -> usize {
        size_of::<F>()
    }

    /// A client that does nothing takes its session and what waits for it.
    #[test]
    fn an_idle_client_takes_little() {
        assert!(size_of::<Session>() <= 1536);
        let waiting = future_of(|session: Box<Session>| session.run());
        assert!(waiting <= 2176, "{waiting}");
    }
}
