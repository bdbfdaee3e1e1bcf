//! A client that replicates (`replication=true` or `database`): a server connection of its own to
//! the primary, and every byte passed on as it is, in both directions.
//!
//! Nothing is pooled and no message is understood, so this is for databases in session mode with
//! one shard only.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::FAREWELL;
use super::client::{ClientInfo, ClientState};
use crate::backend::connect::{ConnectTarget, connect_with};
use crate::backend::server::{Activity, Identity};
use crate::config::{PoolMode, ServerUser};
use crate::error::{Error, Fault};
use crate::executor::database::Database;
use crate::net::{self, Instant, Stream};
use crate::pool::cap::Share;
use crate::wire::conn::Conn;
use crate::wire::startup::{Replication, StartupPacket};

/// Why SHOW CLIENTS says that it keeps its server.
pub const PINNED: &str = "replication";

/// A walsender of the client's own.
pub struct Relay {
    client: Conn,
    server: Conn,
    db: Arc<Database>,
    info: Arc<ClientInfo>,
    /// Counts the connection against the caps of its user and its server.
    _shares: [Share; 2],
}

/// A connection to a walsender that waits for its first command.
pub(super) struct Walsender {
    conn: Conn,
    shares: [Share; 2],
    identity: Arc<Identity>,
    /// What it reports, for the client's welcome.
    pub(super) parameters: Vec<(String, String)>,
}

/// Connects to the primary as the client asked.
///
/// # Errors
/// 0A000 for a database that this cannot be done with; else what keeps the connection from being
/// made, the server's own words included.
pub(super) async fn connect(
    db: &Database,
    user: &ServerUser,
    mode: PoolMode,
    packet: &StartupPacket,
    replication: Replication,
) -> Result<Walsender, Error> {
    may_replicate(db, mode)?;
    let shard = planner::ShardId(0);
    let deadline = Instant::now() + db.config.pool.checkout_timeout;
    let endpoint = db.cluster.primary_or_wait(shard, deadline).await?;
    let target = ConnectTarget {
        endpoint: db.cluster.endpoint(shard, endpoint).clone(),
        dbname: db.config.shards[0].dbname.clone(),
        user: user.name.clone(),
        secret: user.secret.clone(),
        tls: db.tls().cloned(),
        client_encoding: None,
        connect_timeout: db.config.pool.connect_timeout,
        tcp: db.config.tcp,
    };
    let shares = db.pools.shares(shard, endpoint, &user.name);
    let shares = shares.ok_or_else(|| caps_are_full(&user.name))?;
    let options = options(packet);
    let mut parameters = vec![("replication", replication.value())];
    parameters.extend(packet.parameters.iter().map(|(n, v)| (&n[..], &v[..])));
    if !options.is_empty() {
        parameters.push(("options", &options));
    }
    let metrics = db.server_metrics(shard, endpoint);
    let connected = connect_with(&target, &parameters)
        .await
        .inspect_err(|_| metrics.connect_failures.increment(1))?;
    metrics.connects.increment(1);
    let identity = Identity {
        id: rand::random_range(1..=i32::MAX as u32),
        endpoint: target.endpoint,
        user: target.user,
        pid: connected.pid,
        cancel_key: connected.cancel_key,
        tls: target.tls.filter(|_| connected.stream.is_tls()),
        peer: connected.stream.peer_addr(),
        local: connected.stream.local_addr(),
        connected_at: Instant::now(),
        activity: Activity::default(),
    };
    Ok(Walsender {
        conn: Conn::new(connected.stream, connected.leftover),
        shares,
        identity: Arc::new(identity),
        parameters: connected.parameters,
    })
}

/// It is not waited for: who replicates keeps its connection for long.
fn caps_are_full(user: &str) -> Error {
    let message = "too many server connections for another replication connection";
    Error::new(Fault::Operator, "53300", message)
        .detail(format!(
            "User \"{user}\" or the database has as many as max_user_connections or \
             max_db_connections allows, and none is idle."
        ))
        .hint("Raise the limit, or try again later.")
}

fn may_replicate(db: &Database, mode: PoolMode) -> Result<(), Error> {
    let name = &db.config.name;
    let refuse = |detail: String, hint: &'static str| {
        let message = "replication connections are not supported here";
        let error = Error::new(Fault::Client, "0A000", message);
        Err(error.detail(detail).hint(hint))
    };
    if db.config.is_sharded() {
        return refuse(
            format!("Database \"{name}\" has several shards, and replication follows one server."),
            "Connect to the shard's server itself.",
        );
    }
    match mode {
        PoolMode::Session => Ok(()),
        PoolMode::Transaction | PoolMode::Statement => refuse(
            format!("Database \"{name}\" is in {} mode.", mode.name()),
            "Set pool_mode = \"session\", or add a database in session mode for replication.",
        ),
    }
}

/// As `options` of a startup packet is written; a backslash keeps what follows it (pg_split_opts).
fn options(packet: &StartupPacket) -> String {
    let mut options = String::new();
    for (name, value) in &packet.options {
        options.push_str(" -c ");
        for char in format!("{name}={value}").chars() {
            if char == '\\' || char.is_ascii_whitespace() {
                options.push('\\');
            }
            options.push(char);
        }
    }
    options
}

impl Relay {
    pub(super) fn new(
        stream: Stream,
        inbox: BytesMut,
        server: Walsender,
        db: Arc<Database>,
        info: Arc<ClientInfo>,
    ) -> Self {
        info.cancel.add(&server.identity);
        info.tell_pinned(Some(PINNED));
        info.set(ClientState::Replicating);
        Self {
            client: Conn::new(stream, inbox),
            server: server.conn,
            db,
            info,
            _shares: server.shares,
        }
    }

    /// Passes bytes on until either side has ended. A process that is to end waits for it as for an
    /// open transaction: nobody can tell here whether a base backup is under way.
    /// Answers the client's connection, which is to linger.
    pub async fn run(mut self) -> Conn {
        let (client, server) = (&mut self.client, &mut self.server);
        let pass = poll_fn(|cx| {
            let upwards = poll_pass(cx, client, server);
            let downwards = poll_pass(cx, server, client);
            match upwards.is_ready() || downwards.is_ready() {
                true => Poll::Ready(Ok(())),
                false => Poll::Pending,
            }
        });
        self.info.attend().await;
        // One who is killed is not told: the bytes may be amid a message.
        let _ = self.info.unless_ended(pin!(pass)).await;
        self.info.cancel.clear();
        let _ = net::timeout(FAREWELL, self.client.end()).await;
        let metrics = &self.db.metrics;
        metrics.received_bytes.add(self.client.received);
        metrics.sent_bytes.add(self.client.sent);
        self.client
    }
}

/// Ready once `from` has ended and all that it said is passed on, or once either is lost. Reads
/// only what `to` has room for.
fn poll_pass(cx: &mut Context<'_>, from: &mut Conn, to: &mut Conn) -> Poll<()> {
    loop {
        while !from.inbox.is_empty() {
            let length = from.inbox.len();
            match to.poll_forward(cx, &mut from.inbox, length) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        if let Poll::Ready(Err(_)) = to.poll_flush(cx) {
            return Poll::Ready(());
        }
        match from.poll_fill(cx) {
            Poll::Ready(Ok(read)) if read > 0 => {}
            Poll::Ready(_) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
}
