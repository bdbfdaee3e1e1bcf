//! LISTEN for many clients over one connection to the primary of a database's first shard.
//!
//! A task keeps the connection, tells the server of channels, and puts notifications into the
//! mailboxes of those who listen. When the connection is lost it makes another, listens again and
//! warns everybody: what was sent meanwhile is lost, as it is for a client of PostgreSQL that has
//! to connect again.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use planner::ShardId;
use tokio::sync::{mpsc, oneshot};

use crate::backend::connect::{ConnectTarget, connect};
use crate::backend::mailbox::{End, Mailbox};
use crate::backend::server::read_error;
use crate::cluster::{Cluster, EndpointId};
use crate::config::{Database, ServerUser, TcpOptions};
use crate::error::{Error, Fault};
use crate::net::{self, Instant, TlsConnector};
use crate::wire::conn::Conn;
use crate::wire::frame::{self, HEADER};
use crate::wire::write;

/// All sessions that talk to each other with NOTIFY meet here.
pub const SHARD: ShardId = ShardId(0);
/// How often the connection is looked after.
const LOOK: Duration = Duration::from_secs(1);
/// A connection that said nothing for so many looks is asked for a sign of life …
const QUIET: u32 = 10;
/// … and given up after so many.
const DEAD: u32 = 25;
/// A connection that nobody listens over is closed after so many looks.
const UNUSED: u32 = 60;

/// The one who listens for all clients of a database.
pub struct Hub {
    channels: Arc<Channels>,
    requests: mpsc::UnboundedSender<Request>,
    /// The configuration of the database was replaced.
    retired: AtomicBool,
}

/// Who listens to what.
#[derive(Default)]
struct Channels(Mutex<HashMap<String, Vec<Listener>>>);

struct Listener {
    mailbox: Arc<Mailbox>,
    /// Its LISTEN is committed.
    active: bool,
}

type Answer = oneshot::Sender<Result<(), Error>>;

enum Request {
    Listen(String, Answer),
    /// Nobody listens to it any more, unless somebody does again.
    Unlisten(String),
    /// To be answered once everything that was committed before has been delivered.
    Fence(Answer),
}

impl Hub {
    /// Starts the task on the current runtime; it connects when somebody listens, and ends with
    /// this.
    pub fn start(
        database: &Database,
        cluster: &Arc<Cluster>,
        fallback: Option<&ServerUser>,
        tls: Option<TlsConnector>,
    ) -> Arc<Self> {
        let user = database.monitor_user.as_ref();
        let user = user.or(database.server_user.as_ref()).or(fallback);
        let (requests, receiver) = mpsc::unbounded_channel();
        let channels = Arc::new(Channels::default());
        let task = Task {
            cluster: Arc::clone(cluster),
            dbname: database.shards[usize::from(SHARD.0)].dbname.clone(),
            user: user.cloned(),
            tls,
            limit: database.pool.connect_timeout,
            tcp: database.tcp,
            channels: Arc::clone(&channels),
            link: None,
            wanted: BTreeSet::new(),
            quiet: 0,
            unused: 0,
            lost: false,
        };
        tokio::spawn(task.run(receiver));
        Arc::new(Self {
            channels,
            requests,
            retired: AtomicBool::new(false),
        })
    }

    /// Has the server's notifications of `channel` come to this process; `mailbox` gets them from
    /// [`Hub::activate`] on.
    ///
    /// # Errors
    /// What the server says, or that it cannot be reached.
    pub async fn listen(&self, channel: &str, mailbox: &Arc<Mailbox>) -> Result<(), Error> {
        let is_new = self.channels.add(channel, mailbox);
        // It came too late for `retire` to find it.
        if self.retired.load(Relaxed) {
            mailbox.end(End::Moved);
        }
        let result = self.ask(|answer| Request::Listen(channel.to_owned(), answer));
        let result = result.await;
        if result.is_err() && is_new {
            self.unlisten(channel, mailbox);
        }
        result
    }

    pub fn activate(&self, channel: &str, mailbox: &Arc<Mailbox>) {
        self.channels.activate(channel, mailbox);
    }

    pub fn unlisten(&self, channel: &str, mailbox: &Arc<Mailbox>) {
        if self.channels.remove(channel, mailbox) {
            // Without its task there is no connection that listens.
            let _ = self.requests.send(Request::Unlisten(channel.to_owned()));
        }
    }

    /// Waits until what was committed before has been delivered.
    ///
    /// # Errors
    /// The connection was lost.
    pub async fn fence(&self) -> Result<(), Error> {
        self.ask(Request::Fence).await
    }

    async fn ask(&self, request: impl FnOnce(Answer) -> Request) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let sent = self.requests.send(request(answer));
        match (sent, answered.await) {
            (Ok(()), Ok(result)) => result,
            _ => Err(gone("the process ends")),
        }
    }

    /// The configuration of the database was replaced: who listens here has to do it anew.
    pub fn retire(&self) {
        // Before the lock: who is not seen under it sees this after it.
        self.retired.store(true, Relaxed);
        for listeners in self.channels.lock().values() {
            let mailboxes = listeners.iter().map(|listener| &listener.mailbox);
            mailboxes.for_each(|mailbox| mailbox.end(End::Moved));
        }
    }
}

impl Channels {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Listener>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when it was there already.
    fn add(&self, channel: &str, mailbox: &Arc<Mailbox>) -> bool {
        let mut channels = self.lock();
        let listeners = channels.entry(channel.to_owned()).or_default();
        let is_new = !listeners
            .iter()
            .any(|known| Arc::ptr_eq(&known.mailbox, mailbox));
        if is_new {
            listeners.push(Listener {
                mailbox: Arc::clone(mailbox),
                active: false,
            });
        }
        is_new
    }

    fn activate(&self, channel: &str, mailbox: &Arc<Mailbox>) {
        if let Some(listeners) = self.lock().get_mut(channel) {
            let mine = |known: &&mut Listener| Arc::ptr_eq(&known.mailbox, mailbox);
            listeners
                .iter_mut()
                .filter(mine)
                .for_each(|listener| listener.active = true);
        }
    }

    /// True when nobody is left.
    fn remove(&self, channel: &str, mailbox: &Arc<Mailbox>) -> bool {
        let mut channels = self.lock();
        let Some(listeners) = channels.get_mut(channel) else {
            return false;
        };
        listeners.retain(|known| !Arc::ptr_eq(&known.mailbox, mailbox));
        let left = listeners.is_empty();
        if left {
            channels.remove(channel);
        }
        left
    }

    /// A NotificationResponse for all who listen to its channel.
    fn deliver(&self, frame: &[u8]) {
        let mut body = frame.get(HEADER + 4..).unwrap_or_default();
        let Some(channel) = frame::cstr(&mut body).and_then(|name| std::str::from_utf8(name).ok())
        else {
            return;
        };
        if let Some(listeners) = self.lock().get(channel) {
            let active = listeners.iter().filter(|listener| listener.active);
            active.for_each(|listener| listener.mailbox.put(frame));
        }
    }

    /// Tells everybody that listens of a gap.
    fn warn(&self) {
        let mut warned: Vec<Arc<Mailbox>> = Vec::new();
        for listener in self
            .lock()
            .values()
            .flatten()
            .filter(|listener| listener.active)
        {
            if !warned
                .iter()
                .any(|known| Arc::ptr_eq(known, &listener.mailbox))
            {
                warned.push(Arc::clone(&listener.mailbox));
            }
        }
        let mut notice = BytesMut::new();
        write::notice(
            &mut notice,
            "WARNING",
            "01000",
            "notifications may have been lost",
            "The connection that listens to the server was lost and made again.",
        );
        warned.iter().for_each(|mailbox| mailbox.put(&notice));
    }
}

/// What keeps the connection.
struct Task {
    cluster: Arc<Cluster>,
    dbname: String,
    /// As whom to connect, if the configuration tells of anybody.
    user: Option<ServerUser>,
    tls: Option<TlsConnector>,
    limit: Duration,
    tcp: TcpOptions,
    channels: Arc<Channels>,
    link: Option<Link>,
    /// Channels that the server was told of, or is to be told of again.
    wanted: BTreeSet<String>,
    /// Looks since the server said anything.
    quiet: u32,
    /// Looks since anybody listened.
    unused: u32,
    /// A connection was lost since everybody was told.
    lost: bool,
}

struct Link {
    conn: Conn,
    endpoint: EndpointId,
    /// What the server has still to answer, in order.
    owed: VecDeque<Owed>,
    /// Of the statement that is being answered.
    error: Option<Error>,
}

enum Owed {
    Listen(String, Answer),
    /// All channels again, after a loss.
    Again,
    Fence(Answer),
    Nothing,
}

impl Task {
    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let mut look = Instant::now() + LOOK;
        loop {
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => if let Err(error) = self.take(request).await {
                        self.refuse_waiting(&mut requests, &error).await;
                    },
                    None => return,
                },
                frame = next(&mut self.link) => match frame {
                    Ok(frame) => self.read(&frame),
                    Err(why) => {
                        self.lose(&why);
                        self.restore().await;
                    }
                },
                () = net::sleep(look.saturating_duration_since(Instant::now())), if self.link.is_some() || self.lost => {
                    look = Instant::now() + LOOK;
                    self.look_after().await;
                }
            }
        }
    }

    /// Who asked while no connection could be made need not wait for attempts of their own, one
    /// after the other.
    async fn refuse_waiting(
        &mut self,
        requests: &mut mpsc::UnboundedReceiver<Request>,
        error: &Error,
    ) {
        while let Ok(request) = requests.try_recv() {
            match request {
                Request::Listen(_, answer) => {
                    let _ = answer.send(Err(error.clone()));
                }
                // These make none.
                Request::Unlisten(_) | Request::Fence(_) => {
                    let _ = self.take(request).await;
                }
            }
        }
    }

    /// # Errors
    /// There is no connection and none could be made; who asked was told.
    async fn take(&mut self, request: Request) -> Result<(), Error> {
        match request {
            Request::Listen(channel, answer) => match self.connected().await {
                Ok(link) => {
                    let sql = format!("LISTEN {}", identifier(&channel));
                    link.ask(&sql, Owed::Listen(channel, answer));
                }
                Err(error) => {
                    let _ = answer.send(Err(error.clone()));
                    return Err(error);
                }
            },
            Request::Unlisten(channel) => {
                let needed = self.channels.lock().contains_key(&channel);
                if !needed && self.wanted.remove(&channel) {
                    let sql = format!("UNLISTEN {}", identifier(&channel));
                    self.link
                        .iter_mut()
                        .for_each(|link| link.ask(&sql, Owed::Nothing));
                }
            }
            Request::Fence(answer) => match &mut self.link {
                Some(link) => link.ask("", Owed::Fence(answer)),
                None => {
                    let _ = answer.send(Err(gone("it is being made again")));
                }
            },
        }
        Ok(())
    }

    /// The connection, made if there is none.
    async fn connected(&mut self) -> Result<&mut Link, Error> {
        if self.link.is_none() {
            let link = self.connect().await?;
            self.quiet = 0;
            self.link = Some(link);
            let link = self.link.iter_mut();
            self.lost &= !self.wanted.is_empty();
            if !self.wanted.is_empty() {
                let all: Vec<_> = self.wanted.iter().map(|name| identifier(name)).collect();
                let sql = format!("LISTEN {}", all.join("; LISTEN "));
                link.for_each(|link| link.ask(&sql, Owed::Again));
            }
        }
        self.link.as_mut().ok_or_else(|| gone("it is not there"))
    }

    async fn connect(&self) -> Result<Link, Error> {
        let user = self.user.as_ref().ok_or_else(nobody)?;
        let deadline = Instant::now() + self.limit;
        let endpoint = self.cluster.primary_or_wait(SHARD, deadline).await?;
        let target = ConnectTarget {
            endpoint: self.cluster.endpoint(SHARD, endpoint).clone(),
            dbname: self.dbname.clone(),
            user: user.name.clone(),
            secret: user.secret.clone(),
            tls: self.tls.clone(),
            client_encoding: Some("UTF8"),
            connect_timeout: self.limit,
            tcp: self.tcp,
        };
        let connected = connect(&target).await?;
        let mut link = Link {
            conn: Conn::new(connected.stream, connected.leftover),
            endpoint,
            owed: VecDeque::new(),
            error: None,
        };
        link.ask("SET application_name TO 'ringway listen'", Owed::Nothing);
        Ok(link)
    }

    fn read(&mut self, frame: &[u8]) {
        self.quiet = 0;
        let Some(link) = &mut self.link else {
            return;
        };
        match frame[0] {
            b'A' => self.channels.deliver(frame),
            b'E' => link.error = Some(read_error(&frame[HEADER..])),
            b'Z' => {
                let result = link.error.take().map_or(Ok(()), Err);
                match link.owed.pop_front() {
                    Some(Owed::Listen(channel, answer)) => {
                        // Who asked may be gone.
                        let needed = self.channels.lock().contains_key(&channel);
                        if result.is_ok() && needed {
                            self.wanted.insert(channel);
                        } else if result.is_ok() && !self.wanted.contains(&channel) {
                            let sql = format!("UNLISTEN {}", identifier(&channel));
                            link.ask(&sql, Owed::Nothing);
                        }
                        let _ = answer.send(result);
                    }
                    Some(Owed::Again) => match result {
                        Ok(()) => {
                            self.lost = false;
                            self.channels.warn();
                        }
                        Err(error) => self.lose(&error.to_string()),
                    },
                    Some(Owed::Fence(answer)) => {
                        let _ = answer.send(result);
                    }
                    Some(Owed::Nothing) | None => {}
                }
            }
            _ => {}
        }
    }

    fn lose(&mut self, why: &str) {
        let Some(link) = self.link.take() else {
            return;
        };
        tracing::warn!(why, "the connection that listens for clients was lost");
        for owed in link.owed {
            match owed {
                Owed::Listen(_, answer) | Owed::Fence(answer) => {
                    let _ = answer.send(Err(gone(why)));
                }
                Owed::Again | Owed::Nothing => {}
            }
        }
        self.lost = !self.wanted.is_empty();
    }

    async fn restore(&mut self) {
        if self.lost
            && let Err(error) = self.connected().await
        {
            tracing::warn!(%error, "the connection that listens for clients could not be made");
        }
    }

    async fn look_after(&mut self) {
        self.quiet += 1;
        self.unused = if self.wanted.is_empty() {
            self.unused + 1
        } else {
            0
        };
        let primary = self.cluster.primary(SHARD);
        match &mut self.link {
            None => self.restore().await,
            Some(link) if primary.is_some_and(|primary| primary != link.endpoint) => {
                self.lose("another server is the primary now");
                self.restore().await;
            }
            Some(_) if self.quiet >= DEAD => {
                self.lose("the server gives no sign of life");
                self.restore().await;
            }
            Some(link) if self.quiet == QUIET => link.ask("", Owed::Nothing),
            Some(link) if self.unused >= UNUSED && link.owed.is_empty() => self.link = None,
            Some(_) => {}
        }
    }
}

impl Link {
    fn ask(&mut self, sql: &str, owed: Owed) {
        write::query(&mut self.conn.outbox, sql.as_bytes());
        self.owed.push_back(owed);
    }
}

/// The next whole frame of the connection; never, when there is none.
///
/// Cancel safety: no byte is lost.
async fn next(link: &mut Option<Link>) -> Result<BytesMut, String> {
    let Some(link) = link else {
        return std::future::pending().await;
    };
    let conn = &mut link.conn;
    loop {
        let whole = frame::whole(&conn.inbox).map_err(|error| error.to_string())?;
        if let Some(len) = whole.map(|(header, _)| header.len) {
            return Ok(conn.inbox.split_to(len));
        }
        let read = std::future::poll_fn(|cx| {
            if let std::task::Poll::Ready(Err(error)) = conn.poll_drain(cx) {
                return std::task::Poll::Ready(Err(error));
            }
            conn.poll_fill(cx)
        });
        match read.await {
            Ok(0) => return Err("the server closed it".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn nobody() -> Error {
    Error::new(
        Fault::Operator,
        "28000",
        "no user is configured who could listen for all clients",
    )
    .hint("Set monitor_user, or server_user, for the database.")
}

fn gone(why: &str) -> Error {
    Error::new(
        Fault::Server,
        "08006",
        "the connection that listens to the server was lost",
    )
    .detail(format!("Reason: {why}."))
    .hint("Send LISTEN again.")
}
