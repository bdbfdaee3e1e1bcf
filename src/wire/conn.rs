//! A stream with its two buffers. Knows nothing of messages.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::net::Stream;

/// Room made for a read; grows to [`BULK`] while reads fill it.
const SMALL: usize = 8 * 1024;
const BULK: usize = 64 * 1024;
/// An outbox above this is written before more is put into it.
pub const OUTBOX_HIGH: usize = 32 * 1024;

pub struct Conn {
    pub stream: Stream,
    /// Bytes read and not yet consumed.
    pub inbox: BytesMut,
    /// Bytes to be written.
    pub outbox: BytesMut,
    /// Bytes read so far; whoever counts them takes them.
    pub received: u64,
    /// Bytes written so far; as above.
    pub sent: u64,
    /// The last read filled its room: the next one gets [`BULK`].
    bulk: bool,
}

impl Conn {
    pub fn new(stream: Stream, inbox: BytesMut) -> Self {
        Self {
            stream,
            inbox,
            outbox: BytesMut::new(),
            received: 0,
            sent: 0,
            bulk: false,
        }
    }

    /// Reads once into the inbox; `Ready(Ok(0))` is the end of the stream. Room is made only once
    /// there is something to read.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.stream.poll_readable(cx))?;
        let room = if self.bulk { BULK } else { SMALL };
        if self.inbox.capacity() - self.inbox.len() < SMALL {
            self.inbox.reserve(room);
        }
        let spare = self.inbox.capacity() - self.inbox.len();
        let read = ready!(pin!(self.stream.read_buf(&mut self.inbox)).poll(cx))?;
        self.received += read as u64;
        self.bulk = read == spare || (self.bulk && read > SMALL);
        Poll::Ready(Ok(read))
    }

    /// Writes the outbox until it is empty.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outbox))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written as u64;
            self.outbox.advance(written);
        }
        self.poll_flush(cx)
    }

    /// Writes the first `len` bytes of `from`'s inbox to this stream, uncopied; what was written
    /// leaves the inbox. Returns how much that was.
    pub fn poll_forward(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut BytesMut,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &from[..len]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.sent += written as u64;
        from.advance(written);
        Poll::Ready(Ok(written))
    }

    /// Only TLS keeps written bytes back.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stream.is_tls() {
            return Pin::new(&mut self.stream).poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    pub async fn fill(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    pub async fn drain(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_drain(cx)).await
    }

    /// Gives the memory of empty buffers back.
    pub fn shrink(&mut self) {
        if self.inbox.is_empty() {
            self.inbox = BytesMut::new();
        }
        if self.outbox.is_empty() {
            self.outbox = BytesMut::new();
        }
        self.bulk = false;
    }
}
