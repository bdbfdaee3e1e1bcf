//! The seam to the network and the clock. A connection, whoever opened it, is a [`Stream`] here and
//! nothing else to the rooms that serve it.

pub mod listener;
pub mod pass;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::{CertificateDer, ServerName};
use socket2::{SockRef, TcpKeepalive};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::config::TcpOptions;

pub use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// A byte stream to a client or a server, plain or TLS.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// TLS in either direction.
    Tls(Box<tokio_rustls::TlsStream<TcpStream>>),
}

/// Small messages go at once, in any case.
fn apply(options: &TcpOptions, tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    if options.keepalive_idle.is_zero() {
        socket.set_keepalive(false)?;
    } else {
        let keepalive = TcpKeepalive::new()
            .with_time(options.keepalive_idle)
            .with_interval(options.keepalive_interval)
            .with_retries(options.keepalive_count);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(options.user_timeout)?;
    Ok(())
}

impl Stream {
    /// Connects to a server; a host that starts with `/` is a directory of a Unix socket.
    pub async fn connect(host: &str, port: u16) -> io::Result<Self> {
        match host.starts_with('/') {
            true => Self::connect_unix(format!("{host}/.s.PGSQL.{port}")).await,
            false => Self::connect_tcp(host, port).await,
        }
    }

    /// Connects over TCP, trying every address that `host` resolves to.
    pub async fn connect_tcp(host: &str, port: u16) -> io::Result<Self> {
        let tcp = TcpStream::connect((host, port)).await?;
        apply(&TcpOptions::default(), &tcp)?;
        Ok(Self::Tcp(tcp))
    }

    pub async fn connect_unix(path: impl AsRef<Path>) -> io::Result<Self> {
        UnixStream::connect(path).await.map(Self::Unix)
    }

    /// Has other options from now on; those of a Unix socket are none.
    pub fn set_options(&self, options: &TcpOptions) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => apply(options, tcp),
            Self::Tls(tls) => apply(options, tls.get_ref().0),
            Self::Unix(_) => Ok(()),
        }
    }

    /// Answers the client's TLS handshake. Only a plain TCP stream can become a TLS stream.
    pub async fn accept_tls(self, tls: &TlsAcceptor) -> io::Result<Self> {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(tls));
        let stream = acceptor.accept(self.into_tcp()?).await?;
        Ok(Self::Tls(Box::new(stream.into())))
    }

    /// Starts a TLS handshake with a server that calls itself `host`.
    pub async fn connect_tls(self, tls: &TlsConnector, host: &str) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(tls));
        let stream = connector.connect(name, self.into_tcp()?).await?;
        Ok(Self::Tls(Box::new(stream.into())))
    }

    /// The next byte, which stays unread; `None` at the end of the stream and where looking ahead is
    /// not possible: everywhere but on plain TCP.
    pub async fn peek(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        match self {
            Self::Tcp(s) => Ok((s.peek(&mut byte).await? > 0).then_some(byte[0])),
            Self::Unix(_) | Self::Tls(_) => Ok(None),
        }
    }

    /// The protocol that both sides of TLS agreed on, if they spoke of it.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Tls(s) => s.get_ref().1.alpn_protocol(),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    fn into_tcp(self) -> io::Result<TcpStream> {
        match self {
            Self::Tcp(tcp) => Ok(tcp),
            Self::Unix(_) | Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The certificate at the other end, if it showed one; it was verified then.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        match self {
            Self::Tls(s) => s.get_ref().1.peer_certificates()?.first(),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// The operating system's user at the other end of a Unix socket.
    pub fn peer_uid(&self) -> Option<u32> {
        match self {
            Self::Unix(s) => s.peer_cred().ok().map(|peer| peer.uid()),
            Self::Tcp(_) | Self::Tls(_) => None,
        }
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Who is at the other end, for SHOW CLIENTS and logs.
    pub fn peer_name(&self) -> String {
        match (self, self.peer_addr()) {
            (Self::Unix(_), _) => "unix".to_owned(),
            (Self::Tcp(_) | Self::Tls(_), Some(address)) => address.to_string(),
            (Self::Tcp(_) | Self::Tls(_), None) => "unknown".to_owned(),
        }
    }

    /// The peer's address without its port, as pg_hba.conf's messages show it.
    pub fn peer_host(&self) -> String {
        match self.peer_addr() {
            Some(address) => address.ip().to_string(),
            None => "[local]".to_owned(),
        }
    }

    /// `None` for a Unix socket.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(s) => s.peer_addr().ok(),
            Self::Tls(s) => s.get_ref().0.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Our end; `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(s) => s.local_addr().ok(),
            Self::Tls(s) => s.get_ref().0.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Ready when bytes or the end of the stream may be read, without holding a buffer. Over TLS a
    /// read may still find that a record is not whole.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self {
            Self::Tcp(s) => s.poll_read_ready(cx),
            Self::Unix(s) => s.poll_read_ready(cx),
            Self::Tls(s) => match s.get_ref() {
                (tcp, tls) if tls.wants_read() => tcp.poll_read_ready(cx),
                _ => Poll::Ready(Ok(())),
            },
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, data),
            Self::Unix(s) => Pin::new(s).poll_write(cx, data),
            Self::Tls(s) => Pin::new(s).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
            Self::Unix(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

/// Shared TLS settings for accepting clients.
pub type TlsAcceptor = Arc<rustls::ServerConfig>;
/// Shared TLS settings for connecting to servers.
pub type TlsConnector = Arc<rustls::ClientConfig>;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::listener::Accepted;
    use super::*;

    fn options_of(stream: &Stream) -> (bool, TcpOptions) {
        let Stream::Tcp(tcp) = stream else {
            panic!("not plain TCP");
        };
        let socket = SockRef::from(tcp);
        let options = TcpOptions {
            keepalive_idle: socket.tcp_keepalive_time().unwrap(),
            keepalive_interval: socket.tcp_keepalive_interval().unwrap(),
            keepalive_count: socket.tcp_keepalive_retries().unwrap(),
            user_timeout: socket.tcp_user_timeout().unwrap(),
        };
        (socket.keepalive().unwrap(), options)
    }

    #[tokio::test]
    async fn both_ends_get_their_options() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let near = Stream::connect_tcp("127.0.0.1", port).await.unwrap();
        assert_eq!(options_of(&near), (true, TcpOptions::default()));
        let options = TcpOptions {
            keepalive_idle: Duration::from_secs(7),
            keepalive_interval: Duration::from_secs(3),
            keepalive_count: 2,
            user_timeout: Some(Duration::from_millis(1_500)),
        };
        near.set_options(&options).unwrap();
        assert_eq!(options_of(&near), (true, options));
        let never = TcpOptions {
            keepalive_idle: Duration::ZERO,
            ..options
        };
        near.set_options(&never).unwrap();
        assert!(!options_of(&near).0);

        let (far, _) = listener.accept().await.unwrap();
        let accepted = Accepted::Tcp(far.into_std().unwrap());
        let far = Stream::from_accepted(accepted, &options).unwrap();
        assert_eq!(options_of(&far), (true, options));
    }
}
