//! Connections of the HTTP port, so many and so long: who sends half a request, reads no answer or
//! only keeps a connection open takes nothing from who asks.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use metrics::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::net::{self, Instant};

/// What the port lets in, and how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once: where one more comes, the one that has been still for the longest is closed.
    pub(super) connections: usize,
    /// From the first byte of a request, or from the beginning of a connection, to the end of the answer.
    pub(super) request: Duration,
    /// From the end of an answer to the next request.
    pub(super) idle: Duration,
}

/// A scrape takes less than Prometheus' own limit of ten seconds, and comes once a minute at least.
pub(super) const LIMITS: Limits = Limits {
    connections: 64,
    request: Duration::from_secs(10),
    idle: Duration::from_secs(75),
};

/// A listening socket that holds to [`Limits`].
pub(super) struct Port {
    listener: TcpListener,
    limits: Limits,
    open: Arc<Mutex<Open>>,
    /// Connections that were closed for others.
    closed: Counter,
}

#[derive(Default)]
struct Open {
    /// By number, in the order of coming.
    connections: BTreeMap<u64, Entry>,
    next: u64,
}

struct Entry {
    /// When it came, or began its last request.
    since: Instant,
    /// Dropped to close it.
    _hold: oneshot::Sender<()>,
}

/// A connection that is counted as long as it lives.
pub(super) struct Connection {
    stream: TcpStream,
    limits: Limits,
    number: u64,
    open: Arc<Mutex<Open>>,
    hold: oneshot::Receiver<()>,
    phase: Phase,
    deadline: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A request is awaited.
    Idle,
    /// One has begun to come.
    Request,
    /// It is being answered.
    Answer,
}

impl Port {
    pub(super) fn new(listener: TcpListener, limits: Limits, closed: Counter) -> Self {
        Self {
            listener,
            limits,
            open: Arc::default(),
            closed,
        }
    }

    fn let_in(&self, stream: TcpStream) -> Connection {
        let now = Instant::now();
        let (sender, hold) = oneshot::channel();
        let mut open = lock(&self.open);
        if open.connections.len() >= self.limits.connections {
            let by_age = open.connections.iter().min_by_key(|(_, entry)| entry.since);
            if let Some(number) = by_age.map(|(number, _)| *number) {
                open.connections.remove(&number);
                self.closed.increment(1);
            }
        }
        let number = open.next;
        open.next += 1;
        let entry = Entry {
            since: now,
            _hold: sender,
        };
        open.connections.insert(number, entry);
        drop(open);
        Connection {
            stream,
            limits: self.limits,
            number,
            open: Arc::clone(&self.open),
            hold,
            phase: Phase::Idle,
            deadline: Box::pin(net::sleep(self.limits.request)),
        }
    }
}

impl Listener for Port {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (self.let_in(stream), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Nothing could be read or written: an error when its time is up or it was closed for another.
    fn waits<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let is_over = self.deadline.as_mut().poll(cx).is_ready();
        match is_over || Pin::new(&mut self.hold).poll(cx).is_ready() {
            true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            false => Poll::Pending,
        }
    }

    fn enter(&mut self, phase: Phase) {
        if self.phase == phase {
            return;
        }
        let now = Instant::now();
        match phase {
            Phase::Request => {
                if let Some(entry) = lock(&self.open).connections.get_mut(&self.number) {
                    entry.since = now;
                }
                self.deadline.as_mut().reset(now + self.limits.request);
            }
            Phase::Idle => self.deadline.as_mut().reset(now + self.limits.idle),
            Phase::Answer => {}
        }
        self.phase = phase;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.open).connections.remove(&self.number);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        match (&read, self.phase) {
            (Poll::Pending, _) => return self.waits(cx),
            (Poll::Ready(_), Phase::Idle) => self.enter(Phase::Request),
            (Poll::Ready(_), Phase::Request | Phase::Answer) => {}
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.enter(Phase::Answer);
        match Pin::new(&mut self.stream).poll_write(cx, data) {
            Poll::Pending => self.waits(cx),
            written => written,
        }
    }

    /// What was written before is on its way: hyper keeps the rest of an answer until then.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.phase == Phase::Answer {
            self.enter(Phase::Idle);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.enter(Phase::Answer);
        match Pin::new(&mut self.stream).poll_write_vectored(cx, data) {
            Poll::Pending => self.waits(cx),
            written => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SOON: Duration = Duration::from_secs(2);
    const NEVER: Duration = Duration::from_secs(600);
    const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    /// A port that answers `answer`.
    async fn port(limits: Limits, answer: String) -> SocketAddr {
        port_of(limits, answer).await.0
    }

    /// With the connections that it has open.
    async fn port_of(limits: Limits, answer: String) -> (SocketAddr, Arc<Mutex<Open>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let port = Port::new(listener, limits, Counter::noop());
        let open = Arc::clone(&port.open);
        let router = Router::new().route("/", get(async move || answer));
        tokio::spawn(async move { axum::serve(port, router).await });
        (address, open)
    }

    async fn ask(stream: &mut TcpStream) {
        stream.write_all(ASK).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nx") {
            let read = stream.read_buf(&mut answer).await.unwrap();
            assert!(read > 0, "{}", answer.escape_ascii());
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    }

    /// How long it takes until the port has closed the connection.
    async fn end_of(stream: &mut TcpStream) -> Duration {
        let start = Instant::now();
        let mut rest = Vec::new();
        let read = net::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
        // A reset is an end as well.
        let _ = read.await.expect("it is not closed");
        start.elapsed()
    }

    #[tokio::test]
    async fn who_sends_half_a_request_is_sent_away() {
        let limits = Limits {
            request: SOON,
            idle: NEVER,
            ..LIMITS
        };
        let address = port(limits, "x".into()).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert!(end_of(&mut silent).await > SOON / 2);
        let mut slow = TcpStream::connect(address).await.unwrap();
        let mut sent = 0;
        for byte in ASK {
            let waited = net::timeout(SOON / 8, end_of(&mut slow)).await;
            if waited.is_ok() || slow.write_all(&[*byte]).await.is_err() {
                break;
            }
            sent += 1;
        }
        end_of(&mut slow).await;
        assert!(sent < ASK.len(), "it may say all of it, however slowly");
    }

    #[tokio::test]
    async fn who_asks_now_and_then_stays() {
        let limits = Limits {
            request: SOON,
            idle: SOON * 2,
            ..LIMITS
        };
        let address = port(limits, "x".into()).await;
        let mut kept = TcpStream::connect(address).await.unwrap();
        for _ in 0..3 {
            ask(&mut kept).await;
            let waited = net::timeout(SOON + SOON / 4, end_of(&mut kept)).await;
            assert!(waited.is_err(), "closed while it was used");
        }
        ask(&mut kept).await;
        assert!(end_of(&mut kept).await > SOON);
    }

    #[tokio::test]
    async fn who_reads_no_answer_is_sent_away() {
        let limits = Limits {
            request: SOON,
            idle: NEVER,
            ..LIMITS
        };
        let (address, open) = port_of(limits, "x".repeat(64 << 20)).await;
        let mut stuck = TcpStream::connect(address).await.unwrap();
        stuck.write_all(ASK).await.unwrap();
        let closed = async {
            while lock(&open).next == 0 || !lock(&open).connections.is_empty() {
                net::sleep(SOON / 100).await;
            }
        };
        let closed = net::timeout(Duration::from_secs(20), closed).await;
        closed.expect("it is not closed");
        // What the system had taken may be read, and no more comes.
        let mut rest = Vec::new();
        let _ = stuck.read_to_end(&mut rest).await;
        assert!(rest.len() < 64 << 20, "{}", rest.len());
    }

    #[tokio::test]
    async fn the_stillest_makes_room() {
        let limits = Limits {
            connections: 3,
            request: NEVER,
            idle: NEVER,
        };
        let address = port(limits, "x".into()).await;
        let mut used = TcpStream::connect(address).await.unwrap();
        let mut idle = TcpStream::connect(address).await.unwrap();
        let mut half = TcpStream::connect(address).await.unwrap();
        ask(&mut idle).await;
        half.write_all(b"GET / HT").await.unwrap();
        ask(&mut used).await;
        let mut scrape = TcpStream::connect(address).await.unwrap();
        ask(&mut scrape).await;
        end_of(&mut idle).await;
        let mut scrape = TcpStream::connect(address).await.unwrap();
        ask(&mut scrape).await;
        end_of(&mut half).await;
        ask(&mut used).await;
    }
}
