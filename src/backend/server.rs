//! A server connection and the queue of replies it still owes: that queue IS the state.
//!
//! Rows and COPY data are looked at by tag and length only. Frames meant for the client stay where they were
//! read (the first `approved` bytes of the inbox) until they are written to it; those that
//! answer a message of ours are taken out.

pub mod kept;
pub mod prepared;
pub(super) mod replies;
#[cfg(test)]
pub mod tests;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};

use self::kept::Kept;
use self::prepared::{PreparedLimits, PreparedSet};
use self::replies::MAX_CONTROL_FRAME;
use super::mailbox::Mailbox;
use crate::error::{Error, Fault, Object};
use crate::net::{Instant, TlsConnector};
use crate::wire::conn::{Conn, OUTBOX_HIGH};
use crate::wire::frame::{self, HEADER, Header};
use crate::wire::write;

/// Stands for the rows of an Execute that ended at its own limit of rows.
pub const SUSPENDED: u64 = u64::MAX;
/// Executes up to one Sync whose rows are told apart: their memory has a bound.
pub const MOST_ANSWERED: usize = 4096;
/// Executes that memory is kept for.
const ANSWERED_KEPT: usize = 4;

/// Settings a client asked for: lower-case name -> the statement that makes it so.
pub type Settings = BTreeMap<String, String>;

/// ParameterStatus names and values.
pub type Parameters = BTreeMap<String, String>;

/// Why a connection is in doubt that sent what the queue of owed replies does not explain.
const UNEXPECTED: &str = "the server sent a reply that nothing asked for";

/// What the names of statements on servers begin with.
const SERVER_NAME: &[u8] = b"ringway_";
/// Digits of the largest number.
const DIGITS: usize = 20;

/// Identifies a (text, parameter types) pair for the life of the process; the server-side
/// name of the statement is made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatementId(pub u64);

impl StatementId {
    pub fn server_name(self) -> ServerName {
        let mut name = ServerName::default();
        let mut rest = self.0;
        loop {
            name.push_front(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        SERVER_NAME.iter().rev().for_each(|b| name.push_front(*b));
        name
    }

    fn of_server_name(name: &[u8]) -> Option<Self> {
        let number = name.strip_prefix(SERVER_NAME)?;
        std::str::from_utf8(number).ok()?.parse().ok().map(Self)
    }
}

/// The name of a statement on servers, or none. Every Bind has one: made on the stack, without
/// `format!`, it costs 82 instructions and not 680.
#[derive(Debug, Clone, Copy)]
pub struct ServerName {
    bytes: [u8; SERVER_NAME.len() + DIGITS],
    /// It is written from its end.
    from: usize,
}

impl ServerName {
    fn push_front(&mut self, byte: u8) {
        self.from -= 1;
        self.bytes[self.from] = byte;
    }
}

impl Default for ServerName {
    fn default() -> Self {
        let bytes = [0; SERVER_NAME.len() + DIGITS];
        let from = bytes.len();
        Self { bytes, from }
    }
}

impl std::ops::Deref for ServerName {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.from..]
    }
}

/// Transaction status as ReadyForQuery reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Idle,
    InTransaction,
    Failed,
}

impl Status {
    pub fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::InTransaction),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }
}

/// A reply that is still owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Everything up to ReadyForQuery, after Query, FunctionCall or Sync.
    Ready {
        show: bool,
    },
    /// If it is `named`, by how many bytes of text, `id` is in the server's set of statements, and
    /// leaves it if the server skips this Parse.
    Parse {
        show: bool,
        id: StatementId,
        named: Option<usize>,
    },
    /// Not a reply: ParseComplete for a statement that the server knows already.
    Known(StatementId),
    /// `called`: the client's name for the statement, where the server has another, that of its id.
    Bind {
        called: Option<(StatementId, Arc<[u8]>)>,
    },
    /// Bind to a statement that an earlier message of a client had parsed. If it fails, the client does
    /// not see that: the session binds again to a fresh one.
    Rebind,
    /// `evicts`: a statement that left the set for it, with its bytes, and comes back if the server
    /// skips this Close.
    Close {
        show: bool,
        evicts: Option<(StatementId, usize)>,
    },
    /// `of`: of the statement with this id, which has a name.
    Describe {
        of: Option<StatementId>,
    },
    Execute,
    /// Not a reply: bytes for the client when their turn comes.
    Inject(Bytes),
    /// A message sent to make the server fail; the client sees this error instead of the server's.
    Fail(Bytes),
}

/// What becomes of a ReadyForQuery that the client would see.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    #[default]
    Show,
    /// It is kept back: something is to be done before the client goes on.
    Hold,
    /// So is the CommandComplete before it.
    HoldTag,
    /// It came: whoever wanted it held owes the client one.
    Held,
}

/// What a look at the inbox found.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Starved,
    /// The server waits for COPY data.
    CopyIn,
    /// Nothing more is owed.
    Done,
    /// Next comes an error after which another server may be asked ([`Server::keep`]).
    Withheld,
}

/// Who and where a server connection is: what CancelRequest and SHOW SERVERS need.
#[derive(Debug)]
pub struct Identity {
    /// Tells it from other connections; drawn at random, as clients' process ids are.
    pub id: u32,
    pub endpoint: crate::config::Endpoint,
    pub user: String,
    pub pid: i32,
    pub cancel_key: Bytes,
    /// With which it is encrypted; a CancelRequest goes the same way, whatever is configured by then.
    pub tls: Option<TlsConnector>,
    /// Both ends; `None` for a Unix socket.
    pub peer: Option<SocketAddr>,
    pub local: Option<SocketAddr>,
    pub connected_at: Instant,
    pub activity: Activity,
}

/// What a server connection does, for SHOW SERVERS.
#[derive(Debug, Default)]
pub struct Activity {
    /// When it was last given to a client, in microseconds after it was connected.
    pub last_used_us: AtomicU64,
    /// Statements prepared by name.
    pub prepared: AtomicUsize,
    /// Bytes of their texts.
    pub prepared_bytes: AtomicUsize,
    /// It is being cleaned before it may be used again.
    pub resetting: AtomicBool,
    /// It is closed instead of reused once its client is done with it.
    pub close_needed: AtomicBool,
    /// Why its statement is being cancelled, as the client is to be told: a [`Blame`], or 0.
    blame: AtomicU8,
    /// It is no longer its shard's primary: nothing may be written there, not even in a transaction that
    /// began before.
    pub demoted: AtomicBool,
    /// CancelRequests on their way to it: whoever had it next would be hit by them.
    pub cancels: AtomicUsize,
}

/// Why Ringway cancels a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    QueryTimeout = 1,
    /// It waits for a lock whose holder waits for it on another shard.
    Deadlock = 2,
    /// It waits for a lock for long, while its transaction is on other shards, and its holder's is not known.
    PossibleDeadlock = 3,
}

impl Blame {
    /// For the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueryTimeout => "query timeout",
            Self::Deadlock => "deadlock over shards",
            Self::PossibleDeadlock => "possible deadlock over shards",
        }
    }
}

impl Activity {
    pub fn blame(&self, blame: Blame) {
        self.blame.store(blame as u8, Relaxed);
    }

    /// What it was cancelled for, if it was; for once.
    pub fn take_blame(&self) -> Option<Blame> {
        if self.blame.load(Relaxed) == 0 {
            return None;
        }
        match self.blame.swap(0, Relaxed) {
            1 => Some(Blame::QueryTimeout),
            2 => Some(Blame::Deadlock),
            3 => Some(Blame::PossibleDeadlock),
            _ => None,
        }
    }
}

impl Identity {
    /// The server knows only that it was asked to cancel; the client is told why. True if so.
    fn reword(&self, error: &mut Error) -> bool {
        if error.code != "57014" {
            return false;
        }
        match self.activity.take_blame() {
            None => return false,
            Some(Blame::QueryTimeout) => {
                error.message = "canceling statement due to query timeout".into();
                error.detail = Some("It ran for longer than query_timeout_ms.".into());
            }
            Some(blame @ (Blame::Deadlock | Blame::PossibleDeadlock)) => {
                let server = &self.endpoint;
                let (message, detail) = match blame {
                    Blame::Deadlock => (
                        "canceling statement due to a deadlock over shards",
                        format!(
                            "It waited on server {server} for a lock of a transaction that waits for its \
                             own on another server."
                        ),
                    ),
                    _ => (
                        "canceling statement due to a possible deadlock over shards",
                        format!(
                            "It waited on server {server} for longer than cross_shard_deadlock_timeout_ms, \
                             while its transaction was on other servers too, for a lock of a transaction \
                             that is not of this process."
                        ),
                    ),
                };
                error.code = "40P01".into();
                error.message = message.into();
                error.detail = Some(detail.into());
                error.hint =
                    Some("Repeat the transaction. Lock rows in the same order everywhere.".into());
            }
        }
        true
    }

    /// How long ago it was last given to a client, or connected.
    pub fn unused_for(&self, now: Instant) -> std::time::Duration {
        let used = std::time::Duration::from_micros(self.activity.last_used_us.load(Relaxed));
        now.duration_since(self.connected_at + used)
    }
}

pub struct Server {
    pub conn: Conn,
    pub identity: Arc<Identity>,
    pub expect: VecDeque<Expect>,
    pub status: Status,
    /// ParameterStatus values, current. One with those that the client was told last, by address,
    /// unless they differ.
    pub parameters: Arc<Parameters>,
    /// Changes of them that the client has seen pass.
    pub shown: Vec<(String, String)>,
    /// Notifications that came amid exchanges of our own: whole frames, for the client.
    pub notified: BytesMut,
    /// What waits for the client whose messages this connection relays.
    pub mailbox: Option<Arc<Mailbox>>,
    /// Settings that a hidden SET applied here.
    pub applied: Arc<Settings>,
    /// Whether transactions here are READ COMMITTED unless they say otherwise, once that was asked for.
    pub reads_committed: Option<bool>,
    /// The text last parsed under the empty name.
    pub unnamed: Option<StatementId>,
    /// What EXECUTE ran last here, and the client's name for it.
    pub executes: Option<(StatementId, Arc<[u8]>)>,
    /// Why the connection must not be used again, once it must not.
    pub doubt: Option<&'static str>,
    /// Something that the next user must not find was left behind.
    pub tainted: bool,
    /// What becomes of the next ReadyForQuery that the client would see.
    pub ready: Ready,
    /// Between CopyInResponse and the end of COPY.
    pub copy_in: bool,
    /// Extended messages were sent since the last ReadyForQuery: a transaction may be under way that
    /// [`Server::status`] does not know of.
    pub amid_pipeline: bool,
    /// A Sync sent before COPY began was ignored by the server: only the client's next one ends
    /// the exchange.
    pub swallowed_sync: bool,
    /// A [`Expect::Rebind`] failed.
    pub must_rebind: bool,
    /// Statements the client asked to parse that an error kept from being made, and whether it was
    /// the error of that Parse.
    pub rejected: Vec<(StatementId, bool)>,
    /// What was sent and may be sent to another server, while that is so.
    pub kept: Kept,
    /// The server said that it is a standby (`in_hot_standby`, from PostgreSQL 14 on). After a promotion it
    /// says otherwise only with its next answer.
    pub in_hot_standby: bool,
    /// Named statements that the server refuses to run or describe as they are: tables have changed.
    pub outdated: Vec<StatementId>,
    /// The last error the server reported since the last [`Server::begin_exchange`].
    pub error: Option<Error>,
    /// Command tag of the last CommandComplete.
    pub tag: Vec<u8>,
    /// Rows that the statements of the exchange at hand have returned or changed.
    pub rows: u64,
    /// The same by Execute that was answered, or [`SUSPENDED`], until somebody takes them.
    pub answered: VecDeque<u64>,
    /// A command of the open transaction has told of rows that it wrote.
    pub has_written: bool,
    prepared: PreparedSet,
    /// First bytes of the inbox that are the client's.
    approved: usize,
    /// Bytes still to come of the frame being passed piecemeal.
    rest_of_frame: usize,
    /// Whether that frame is the client's or to be dropped.
    rest_is_shown: bool,
}

impl Server {
    pub fn new(
        conn: Conn,
        identity: Identity,
        parameters: Parameters,
        prepared: PreparedLimits,
    ) -> Self {
        let in_hot_standby = parameters
            .get("in_hot_standby")
            .is_some_and(|on| on == "on");
        Self {
            conn,
            identity: Arc::new(identity),
            expect: VecDeque::new(),
            status: Status::Idle,
            parameters: Arc::new(parameters),
            shown: Vec::new(),
            notified: BytesMut::new(),
            mailbox: None,
            applied: Arc::default(),
            reads_committed: None,
            unnamed: None,
            executes: None,
            doubt: None,
            tainted: false,
            ready: Ready::Show,
            copy_in: false,
            amid_pipeline: false,
            swallowed_sync: false,
            must_rebind: false,
            rejected: Vec::new(),
            kept: Kept::default(),
            in_hot_standby,
            outdated: Vec::new(),
            error: None,
            tag: Vec::new(),
            rows: 0,
            answered: VecDeque::new(),
            has_written: false,
            prepared: PreparedSet::new(prepared),
            approved: 0,
            rest_of_frame: 0,
            rest_is_shown: true,
        }
    }

    /// True when nothing is owed and no transaction is open.
    pub fn is_clean(&self) -> bool {
        self.identity.activity.cancels.load(Relaxed) == 0
            && self.doubt.is_none()
            && self.expect.is_empty()
            && self.status == Status::Idle
            && !self.amid_pipeline
            && self.conn.inbox.is_empty()
            && self.conn.outbox.is_empty()
    }

    /// True when the server said something, or closed, while nothing was owed. Costs no system
    /// call unless there is something to read.
    pub fn is_stale(&mut self) -> bool {
        match self.conn.fill_now() {
            None => false,
            Some(Ok(0) | Err(_)) => true,
            Some(Ok(_)) => !self.only_parameters(),
        }
    }

    /// While a session holds this connection and nothing is owed: passes on what the server says by
    /// itself. Ready when it is lost, with the server's own last words if it had any. With
    /// [`OUTBOX_HIGH`] bytes in `out` it is pending and not read: who writes them asks again.
    pub fn poll_unasked(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Error> {
        // In a pipeline replies may come without being asked for by Flush or Sync: errors above all.
        while !self.expect.is_empty() {
            if !self.conn.outbox.is_empty() || out.len() >= OUTBOX_HIGH {
                return Poll::Pending;
            }
            match ready!(self.conn.poll_fill(cx)) {
                Ok(0) => return Poll::Ready(self.lost("the server closed it").fatal()),
                Ok(_) => {}
                Err(e) => return Poll::Ready(self.lost(&e.to_string()).fatal()),
            }
            if let Err(error) = self.scan(out) {
                return Poll::Ready(error.fatal());
            }
            self.flush_approved(out);
        }
        loop {
            if let Err(error) = self.pass_unasked(out) {
                return Poll::Ready(error.fatal());
            }
            if out.len() >= OUTBOX_HIGH {
                return Poll::Pending;
            }
            match ready!(self.conn.poll_fill(cx)) {
                Ok(0) => return Poll::Ready(self.lost("the server closed it").fatal()),
                Ok(_) => {}
                Err(e) => return Poll::Ready(self.lost(&e.to_string()).fatal()),
            }
        }
    }

    /// Passes on the frames that a server sends by itself.
    /// <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC>
    ///
    /// # Errors
    /// The server's last words, or a frame that it may not send now: the connection is in doubt.
    fn pass_unasked(&mut self, out: &mut BytesMut) -> Result<(), Error> {
        while let Some(header) = self.peek_unasked()? {
            let Some(frame) = self.conn.inbox.get(..header.len) else {
                break;
            };
            match header.tag {
                b'E' => {
                    let error = read_error(&frame[HEADER..]);
                    self.doubt = Some("the server ended it");
                    return Err(error);
                }
                b'S' => self.note_parameter(HEADER..header.len, true),
                _ => {}
            }
            out.extend_from_slice(&self.conn.inbox[..header.len]);
            self.conn.inbox.advance(header.len);
        }
        Ok(())
    }

    /// The header of the next frame, of a kind and a length that may come unasked.
    fn peek_unasked(&mut self) -> Result<Option<Header>, Error> {
        let next = frame::peek(&self.conn.inbox);
        match next.inspect_err(|_| self.doubt = Some(UNEXPECTED))? {
            Some(header) => match header.tag {
                b'A' | b'E' | b'N' | b'S' if header.len <= MAX_CONTROL_FRAME => Ok(Some(header)),
                tag => Err(self.unexpected(tag)),
            },
            None => Ok(None),
        }
    }

    /// Takes ParameterStatus and notices (a reload of the server's configuration) out of the inbox.
    fn only_parameters(&mut self) -> bool {
        while let Ok(Some((header, _))) = frame::whole(&self.conn.inbox) {
            match header.tag {
                b'S' => self.note_parameter(HEADER..header.len, false),
                b'N' => {}
                _ => return false,
            }
            self.conn.inbox.advance(header.len);
        }
        self.conn.inbox.is_empty()
    }

    /// True when the first bytes of a frame are the client's, and perhaps with it, but the last have
    /// yet to come.
    pub fn is_mid_frame(&self) -> bool {
        self.rest_of_frame > 0 && self.rest_is_shown
    }

    /// For whoever reads on without a look at the replies: how many bytes are left of the frame at
    /// hand, and how many ReadyForQuery messages are to come.
    pub fn left(&self) -> (usize, usize) {
        let ready = |expect: &&Expect| matches!(expect, Expect::Ready { .. });
        let owed = self.expect.iter().filter(ready).count();
        (self.approved + self.rest_of_frame, owed)
    }

    pub fn begin_exchange(&mut self) {
        self.error = None;
        self.rows = 0;
        self.forget_kept();
    }

    /// Nobody asks any more what each Execute has come to.
    pub fn forget_answered(&mut self) {
        self.answered.clear();
        self.answered.shrink_to(ANSWERED_KEPT);
    }

    // ---- requests ----

    /// Sends a whole Query or FunctionCall frame as it came.
    pub fn send_frame(&mut self, frame: BytesMut) {
        self.unnamed = None;
        if self.conn.outbox.is_empty() {
            self.conn.outbox = frame;
        } else {
            self.conn.outbox.unsplit(frame);
        }
        self.expect.push_back(Expect::Ready { show: true });
    }

    /// As [`Server::send_frame`], of a frame that lies among others.
    pub fn send_whole(&mut self, frame: &[u8]) {
        self.unnamed = None;
        self.conn.outbox.extend_from_slice(frame);
        self.expect.push_back(Expect::Ready { show: true });
    }

    pub fn send_query(&mut self, sql: &[u8], show: bool) {
        // A simple query drops the unnamed statement.
        self.unnamed = None;
        write::query(&mut self.conn.outbox, sql);
        self.expect.push_back(Expect::Ready { show });
    }

    pub fn send_sync(&mut self, show: bool) {
        self.conn.outbox.extend_from_slice(write::SYNC);
        self.expect.push_back(Expect::Ready { show });
    }

    /// Makes the server fail the transaction it is in, as PostgreSQL would have for the statement
    /// that is refused with `error` (a whole ErrorResponse frame).
    pub fn send_failure(&mut self, error: Bytes) {
        write::describe(&mut self.conn.outbox, b'P', b"ringway: statement refused");
        self.expect.push_back(Expect::Fail(error));
    }

    /// True when a statement of this id is, or will be by the time it is needed, prepared here.
    pub fn has_prepared(&mut self, id: StatementId) -> bool {
        self.prepared.touch(id)
    }

    /// Sends Parse under the server's own name, making room first.
    pub fn send_prepare(&mut self, id: StatementId, sql: &[u8], types: &[u32], show: bool) {
        while let Some(victim) = self.prepared.victim(sql.len()) {
            self.send_close(victim);
        }
        write::parse(&mut self.conn.outbox, &id.server_name(), sql, types);
        self.expect.push_back(Expect::Parse {
            show,
            id,
            named: Some(sql.len()),
        });
        self.prepared.insert(id, sql.len());
        self.show_prepared();
    }

    /// A Parse whose text passes as it comes has begun, under the server's own name for it.
    pub fn note_unread(&mut self, id: StatementId) {
        self.expect.push_back(Expect::Parse {
            show: true,
            id,
            named: Some(0),
        });
        self.prepared.keep(id);
        self.show_prepared();
    }

    /// Parses under the empty name.
    pub fn send_parse_unnamed(&mut self, id: StatementId, sql: &[u8], types: &[u32], show: bool) {
        write::parse(&mut self.conn.outbox, b"", sql, types);
        self.expect.push_back(Expect::Parse {
            show,
            id,
            named: None,
        });
        self.unnamed = Some(id);
    }

    /// Sends messages again that the server has skipped; the same replies are owed for them.
    pub fn resend(&mut self, messages: &[u8], owed: Vec<Expect>) {
        self.rejected.clear();
        for reply in &owed {
            match reply {
                Expect::Close {
                    evicts: Some((id, _)),
                    ..
                } => {
                    self.prepared.remove(*id);
                }
                Expect::Parse {
                    id,
                    named: Some(bytes),
                    ..
                } => self.prepared.insert(*id, *bytes),
                Expect::Ready { .. }
                | Expect::Parse { named: None, .. }
                | Expect::Known(_)
                | Expect::Bind { .. }
                | Expect::Rebind
                | Expect::Close { evicts: None, .. }
                | Expect::Describe { .. }
                | Expect::Execute
                | Expect::Inject(_)
                | Expect::Fail(_) => {}
            }
        }
        self.show_prepared();
        self.conn.outbox.extend_from_slice(messages);
        self.expect.extend(owed);
    }

    /// Drops one statement, of which nothing is owed.
    pub fn send_close(&mut self, id: StatementId) {
        let evicts = self.prepared.remove(id).map(|bytes| (id, bytes));
        write::close(&mut self.conn.outbox, b'S', &id.server_name());
        self.expect.push_back(Expect::Close {
            show: false,
            evicts,
        });
        self.show_prepared();
    }

    /// After DISCARD ALL or DEALLOCATE ALL.
    pub fn forget_prepared(&mut self) {
        self.prepared.clear();
        self.show_prepared();
        self.unnamed = None;
    }

    /// Of the statements under names of ours, only those with these `names` are left.
    pub fn keep_prepared(&mut self, names: &HashSet<Bytes>) {
        self.prepared
            .retain(|id| names.contains(&id.server_name()[..]));
        self.show_prepared();
    }

    pub(super) fn show_prepared(&self) {
        let (count, bytes) = self.prepared.usage();
        let activity = &self.identity.activity;
        activity.prepared.store(count, Relaxed);
        activity.prepared_bytes.store(bytes, Relaxed);
    }

    // ---- exchanges of our own ----

    /// Runs a text of ours in the simple protocol; the client sees nothing of it.
    ///
    /// # Errors
    /// The server's error, or the loss of the connection (then it is in doubt).
    pub async fn run_hidden(&mut self, sql: &str) -> Result<(), Error> {
        self.begin_exchange();
        self.send_query(sql.as_bytes(), false);
        let settled = self.settle().await;
        match self.error.take() {
            None => settled,
            // Where it is lost too, this is why.
            Some(error) => Err(error),
        }
    }

    /// Sends what is in the outbox and reads until nothing more is owed, dropping all replies.
    /// An error of the server is left in [`Server::error`].
    ///
    /// # Errors
    /// The loss of the connection.
    pub async fn settle(&mut self) -> Result<(), Error> {
        let mut dropped = BytesMut::new();
        loop {
            let progress = self.scan(&mut dropped)?;
            self.flush_approved(&mut dropped);
            dropped.clear();
            if progress == Progress::Done {
                return Ok(());
            }
            self.exchange().await?;
        }
    }

    /// Takes one whole frame out of the inbox, for executors that read replies themselves.
    /// ReadyForQuery, ParameterStatus and errors are noted as ever.
    ///
    /// # Errors
    /// A frame that makes no sense, or ReadyForQuery that nothing asked for.
    pub fn next_frame(&mut self) -> Result<Option<(u8, Bytes)>, Error> {
        let skipped = self.rest_of_frame.min(self.conn.inbox.len());
        self.conn.inbox.advance(skipped);
        self.rest_of_frame -= skipped;
        let Some((header, _)) = frame::whole(&self.conn.inbox)? else {
            return Ok(None);
        };
        match header.tag {
            b'Z' => {
                self.note_ready(HEADER..header.len)?;
            }
            b'S' => self.note_parameter(HEADER..header.len, false),
            b'C' => self.note_written(HEADER..header.len),
            b'A' => self
                .notified
                .extend_from_slice(&self.conn.inbox[..header.len]),
            b'E' => {
                let mut error = read_error(&self.conn.inbox[HEADER..header.len]);
                self.identity.reword(&mut error);
                self.error = Some(error);
            }
            _ => {}
        }
        let mut frame = self.conn.inbox.split_to(header.len);
        frame.advance(HEADER);
        Ok(Some((header.tag, frame.freeze())))
    }

    /// Drops a row that nobody wants and that is not whole yet: what has come of it, and the rest as it comes.
    ///
    /// # Errors
    /// A frame that makes no sense.
    pub fn skip_row(&mut self) -> Result<(), Error> {
        if let Some(Header { tag: b'D', len }) = frame::peek(&self.conn.inbox)? {
            self.rest_of_frame = len;
            self.rest_is_shown = false;
        }
        Ok(())
    }

    /// Writes what is in the outbox and reads once.
    ///
    /// # Errors
    /// The loss of the connection.
    pub async fn exchange(&mut self) -> Result<(), Error> {
        let read = poll_fn(|cx| {
            if let Poll::Ready(Err(e)) = self.conn.poll_drain(cx) {
                return Poll::Ready(Err(e));
            }
            self.conn.poll_fill(cx)
        });
        match read.await {
            Ok(0) => Err(self.lost("the server closed it")),
            Ok(_) => Ok(()),
            Err(e) => Err(self.lost(&e.to_string())),
        }
    }

    /// Marks the connection as one that sent a frame which nothing asked for, and words it for the client.
    pub fn unexpected(&mut self, tag: u8) -> Error {
        self.doubt = Some(UNEXPECTED);
        replies::unexpected(tag)
    }

    /// Marks the connection as lost and words it for the client.
    pub fn lost(&mut self, why: &str) -> Error {
        self.doubt = Some("the connection was lost");
        Error::new(Fault::Server, "08006", "connection to server was lost")
            .detail(format!("Server {}: {why}.", self.identity.endpoint))
            .hint("The statement may or may not have run; check before repeating it.")
    }
}

/// A field of an ErrorResponse or NoticeResponse body.
pub fn error_field(mut body: &[u8], field: u8) -> Option<&[u8]> {
    let bytes = &mut body;
    loop {
        match frame::u8(bytes)? {
            0 => return None,
            tag => {
                let value = frame::cstr(bytes)?;
                if tag == field {
                    return Some(value);
                }
            }
        }
    }
}

/// A server's ErrorResponse as an error of ours.
pub fn read_error(body: &[u8]) -> Error {
    let text = |field| error_field(body, field).map(|v| String::from_utf8_lossy(v).into_owned());
    let code = text(b'C').unwrap_or_else(|| "XX000".to_owned());
    let mut error = Error::new(Fault::Server, code, text(b'M').unwrap_or_default());
    error.detail = text(b'D').map(Into::into);
    error.hint = text(b'H').map(Into::into);
    error.context = text(b'W').map(Into::into);
    let object = Object {
        schema: text(b's'),
        table: text(b't'),
        column: text(b'c'),
        data_type: text(b'd'),
        constraint: text(b'n'),
        position: text(b'P'),
        is_of_clients_text: false,
    };
    error.object = (object != Object::default()).then_some(object);
    error
}
