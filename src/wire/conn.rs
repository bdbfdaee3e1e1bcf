//! A stream with its two buffers. Knows nothing of messages.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::net::{self, Stream};

/// Room for a read, on the stack: a message is copied from there, and no buffer lies idle.
const SMALL: usize = 8 * 1024;
/// Room made in the inbox once reads fill [`SMALL`]; doubled while they fill that, up to [`BULK`].
const LARGE: usize = 64 * 1024;
const BULK: usize = 256 * 1024;
/// How long what a peer still sends to a connection that ends is read.
const LAST_READS: Duration = Duration::from_millis(250);
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
    /// For the next read.
    room: usize,
    /// The most that was in one of the buffers since they were last found small.
    peak: usize,
}

impl Conn {
    pub fn new(stream: Stream, inbox: BytesMut) -> Self {
        Self {
            stream,
            inbox,
            outbox: BytesMut::new(),
            received: 0,
            sent: 0,
            room: SMALL,
            peak: usize::MAX,
        }
    }

    /// Reads once into the inbox; `Ready(Ok(0))` is the end of the stream. Nothing is allocated
    /// until there is something to keep.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = if self.room == SMALL {
            let mut room = [const { MaybeUninit::uninit() }; SMALL];
            let mut room = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
            self.inbox.extend_from_slice(room.filled());
            room.filled().len()
        } else {
            ready!(self.stream.poll_readable(cx))?;
            self.inbox.reserve(self.room);
            ready!(pin!(self.stream.read_buf(&mut self.inbox)).poll(cx))?
        };
        self.note_read(read);
        Poll::Ready(Ok(read))
    }

    fn note_read(&mut self, read: usize) {
        self.received += read as u64;
        self.peak = self.peak.max(self.inbox.len());
        if read >= self.room {
            self.room = (self.room * 2).clamp(LARGE, BULK);
        } else if read < SMALL {
            self.room = SMALL;
        }
    }

    /// As [`Conn::poll_fill`], but who calls is not woken when there is something: `None` if there is
    /// nothing now. Costs no system call unless there is.
    pub fn fill_now(&mut self) -> Option<io::Result<usize>> {
        // Of no bytes: whether it is worth while, and no waker has to be kept.
        let look = match &self.stream {
            Stream::Tcp(tcp) => tcp.try_read(&mut []),
            Stream::Unix(unix) => unix.try_read(&mut []),
            Stream::Tls(_) => Ok(0),
        };
        if look.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            return None;
        }
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match self.poll_fill(&mut cx) {
            Poll::Ready(read) => Some(read),
            Poll::Pending => None,
        }
    }

    /// Writes the outbox until it is empty.
    #[inline]
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.outbox.is_empty() {
            true => self.poll_flush(cx),
            false => self.poll_write_outbox(cx),
        }
    }

    fn poll_write_outbox(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.peak = self.peak.max(self.outbox.len());
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
    #[inline]
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

    /// Writes what is left of the outbox and ends the stream: TLS in order, as its bare end may be an
    /// attacker's. [`Conn::linger`] comes after it.
    pub async fn end(&mut self) -> io::Result<()> {
        self.drain().await?;
        self.stream.shutdown().await
    }

    /// Reads until the peer has ended the stream, too, for a moment at most: what arrives at a closed socket
    /// has the connection reset, and the last answer may be lost in what stands between.
    pub async fn linger(mut self) {
        let ended = async {
            self.inbox.clear();
            while self.fill().await.is_ok_and(|read| read > 0) {
                self.inbox.clear();
            }
        };
        let _ = net::timeout(LAST_READS, ended).await;
    }

    /// It has more to do at its end than to be dropped.
    pub fn must_be_ended(&self) -> bool {
        self.stream.is_tls() || !self.outbox.is_empty()
    }

    /// Gives back the memory of empty buffers larger than `kept`: to make small ones anew for every
    /// message would cost more than they take.
    pub fn shrink(&mut self, kept: usize) {
        self.room = SMALL;
        // A buffer grows to twice what is needed, and what is needed may come behind what was there.
        if self.peak <= kept / 4 {
            return;
        }
        shrink(&mut self.inbox, kept);
        shrink(&mut self.outbox, kept);
        self.peak = self.inbox.len().max(self.outbox.len());
    }
}

fn shrink(buffer: &mut BytesMut, kept: usize) {
    // One that cannot be had back whole belongs to somebody else too.
    let keep = buffer.try_reclaim(1) && !buffer.try_reclaim(kept + 1);
    if buffer.is_empty() && !keep {
        *buffer = BytesMut::new();
    }
}
