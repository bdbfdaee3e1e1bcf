//! The seam to the network and the clock. Nothing else in the crate names a socket type.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

pub use tokio::time::{Instant, sleep, timeout};

/// A byte stream to a client or a server, plain or TLS.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// TLS in either direction.
    Tls(Box<tokio_rustls::TlsStream<TcpStream>>),
}

impl Stream {
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// `tls-server-end-point` data of our own certificate is kept by the acceptor, not here.
    pub fn peer_name(&self) -> String {
        let tcp = match self {
            Self::Tcp(s) => s,
            Self::Tls(s) => s.get_ref().0,
            Self::Unix(_) => return "unix".to_owned(),
        };
        tcp.peer_addr().map_or_else(|_| "unknown".to_owned(), |a| a.to_string())
    }

    /// Resolves when bytes or the end of the stream can be read, without holding a buffer.
    ///
    /// Cancel safety: yes. For TLS this may resolve although only a partial record arrived.
    pub async fn readable(&self) -> std::io::Result<()> {
        match self {
            Self::Tcp(s) => s.readable().await,
            Self::Unix(s) => s.readable().await,
            Self::Tls(s) => s.get_ref().0.readable().await,
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
