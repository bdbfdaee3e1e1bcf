//! Control connections: tokio-postgres through bb8, for health, lag and the catalog.
//! Clients' statements never run here.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bb8_postgres::PostgresConnectionManager;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Socket};

use crate::config::{Database, Endpoint, ServerUser};
use crate::error::Error;
use crate::net::{TlsConnector, timeout};

/// Control connections of one server.
pub type ControlPool = bb8::Pool<Manager>;

/// Opens control connections of one server.
pub type Manager = PostgresConnectionManager<ControlTls>;

/// The most control connections kept in the pool of one server, besides the monitor's own.
const POOL_SIZE: u32 = 2;
/// Pooled control connections that are unused for longer are closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A server that does not acknowledge data for this long is given up by the kernel.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Builds the pool; connects to nothing yet.
///
/// Has to be called within a runtime: bb8 starts a task that closes idle connections.
pub fn pool(
    database: &Database,
    dbname: &str,
    endpoint: &Endpoint,
    user: &ServerUser,
    tls: Option<TlsConnector>,
) -> ControlPool {
    build(database, dbname, endpoint, user, tls, |config| {
        config.application_name("ringway control");
    })
}

/// The same to ask for users' passwords: no name in a query means what somebody put into a schema
/// of the search path, whatever is set for role or database.
pub fn lookup_pool(
    database: &Database,
    dbname: &str,
    endpoint: &Endpoint,
    user: &ServerUser,
    tls: Option<TlsConnector>,
) -> ControlPool {
    build(database, dbname, endpoint, user, tls, |config| {
        config
            .application_name("ringway auth")
            .options("-c search_path=pg_catalog");
    })
}

/// The same to decide and finish transactions over several shards, whatever is set for role or
/// database: a decision lasts once it is acknowledged, and nothing waits long for another.
pub fn recovery_pool(
    database: &Database,
    dbname: &str,
    endpoint: &Endpoint,
    user: &ServerUser,
    tls: Option<TlsConnector>,
) -> ControlPool {
    build(database, dbname, endpoint, user, tls, |config| {
        config.application_name("ringway recovery").options(
            "-c search_path=pg_catalog -c synchronous_commit=on -c lock_timeout=1000 \
             -c statement_timeout=5000 -c default_transaction_read_only=off \
             -c default_transaction_isolation=read\\ committed",
        );
    })
}

fn build(
    database: &Database,
    dbname: &str,
    endpoint: &Endpoint,
    user: &ServerUser,
    tls: Option<TlsConnector>,
    with: impl FnOnce(&mut tokio_postgres::Config),
) -> ControlPool {
    let mut config = tokio_postgres::Config::new();
    with(&mut config);
    config
        .user(&user.name)
        .dbname(dbname)
        .port(endpoint.port)
        .connect_timeout(database.pool.connect_timeout)
        .tcp_user_timeout(TCP_USER_TIMEOUT);
    if let Some(password) = user.secret.password() {
        config.password(&password.0);
    }
    let is_unix = endpoint.host.starts_with('/');
    if is_unix {
        config.host_path(&endpoint.host);
    } else {
        config.host(&endpoint.host);
    }
    // As libpq does, a Unix socket is used without TLS whatever the mode.
    config.ssl_mode(if is_unix || tls.is_none() {
        SslMode::Disable
    } else {
        SslMode::Require
    });
    bb8::Pool::builder()
        .max_size(POOL_SIZE)
        .connection_timeout(database.pool.connect_timeout)
        .idle_timeout(IDLE_TIMEOUT)
        .retry_connection(false)
        .test_on_check_out(true)
        .build_unchecked(PostgresConnectionManager::new(config, ControlTls(tls)))
}

/// A connection outside the pool's count, given up after `limit`.
pub async fn dedicated(pool: &ControlPool, limit: Duration) -> Result<Client, Failure> {
    let client = timeout(limit, pool.dedicated_connection()).await;
    Ok(client.map_err(|_| Failure::Slow("connecting", limit))??)
}

/// Why a control query has no answer.
#[derive(Debug)]
pub enum Failure {
    /// What took longer than its limit.
    Slow(&'static str, Duration),
    Postgres(tokio_postgres::Error),
    /// What a client's own connection was asked.
    Session(Error),
    Unreachable(io::Error),
    /// The server answered something that PostgreSQL does not answer.
    Odd(&'static str),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<bb8::RunError<tokio_postgres::Error>> for Failure {
    fn from(error: bb8::RunError<tokio_postgres::Error>) -> Self {
        match error {
            bb8::RunError::User(error) => Self::Postgres(error),
            bb8::RunError::TimedOut => Self::Odd("no control connection came free in time"),
        }
    }
}

impl Failure {
    /// The role may not do it.
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Postgres(error) => error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE),
            Self::Slow(..) | Self::Session(_) | Self::Unreachable(_) | Self::Odd(_) => false,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Slow(what, limit) => write!(f, "{what} took longer than {limit:?}"),
            Self::Postgres(error) => write_causes(f, error),
            Self::Session(error) => error.fmt(f),
            Self::Unreachable(error) => write!(f, "connecting: {error}"),
            Self::Odd(what) => f.write_str(what),
        }
    }
}

/// tokio-postgres prints only the kind of an error; what happened is in its source.
fn write_causes(
    f: &mut std::fmt::Formatter<'_>,
    error: &tokio_postgres::Error,
) -> std::fmt::Result {
    if let Some(answer) = error.as_db_error() {
        return write!(f, "{}: {}", answer.severity(), answer.message());
    }
    write!(f, "{error}")?;
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        write!(f, ": {cause}")?;
        source = cause.source();
    }
    Ok(())
}

/// TLS of control connections; `None` never uses it.
#[derive(Clone)]
pub struct ControlTls(Option<TlsConnector>);

impl MakeTlsConnect<Socket> for ControlTls {
    type Stream = ControlTlsStream;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Handshake> {
        Ok(Handshake {
            connector: self.0.clone(),
            host: host.to_owned(),
        })
    }
}

/// One TLS handshake to come.
pub struct Handshake {
    connector: Option<TlsConnector>,
    host: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = ControlTlsStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<ControlTlsStream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let connector = self.connector.ok_or(io::ErrorKind::Unsupported)?;
            let name = ServerName::try_from(self.host)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let stream = tokio_rustls::TlsConnector::from(connector)
                .connect(name, socket)
                .await?;
            Ok(ControlTlsStream(stream))
        })
    }
}

/// A TLS stream as tokio-postgres wants it.
pub struct ControlTlsStream(tokio_rustls::client::TlsStream<Socket>);

impl tokio_postgres::tls::TlsStream for ControlTlsStream {
    /// SCRAM runs without channel binding: the certificate's hash is not taken.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for ControlTlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for ControlTlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
