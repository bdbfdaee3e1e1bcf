//! Passes one server's replies to the client, and the client's COPY data to the server, until
//! nothing more is owed. Both directions move at once, so neither side can block the other.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::Buf;

use crate::backend::server::{Expect, Progress, Server};
use crate::error::Error;
use crate::wire::conn::{Conn, OUTBOX_HIGH};
use crate::wire::{frame, frontend};

/// While a statement runs, at most this much of what the client sends next is read ahead.
const READ_AHEAD: usize = 8 * 1024;
/// Nothing but CopyData has business being longer while data is copied.
const MAX_MESSAGE_AMID_COPY: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All replies are here, and written or in the client's outbox.
    Done,
    /// COPY data ended, and the server will say no more until the client's next message.
    NeedsClient,
}

#[derive(Debug)]
pub enum Broken {
    /// The client is gone, or sent something that makes no sense.
    Client(Error),
    /// The server is; the client must be told.
    Server(Error),
    /// The server is gone or has refused, and the client has seen nothing of an answer: what was kept
    /// ([`Server::keep`]) may be sent to another. The server is in doubt, or owes the rest of its refusal.
    Unanswered(Error),
}

/// How long to relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The server owes nothing.
    Settled,
    /// The client's message has passed.
    Passed,
}

/// Relays replies, and `rest` bytes of a message of the client, whose head is in the server's outbox.
/// `before_reply` is called before anything that the server said is written to the client.
///
/// # Errors
/// Which side broke. The server connection is in doubt then.
///
/// Cancel safety: none; dropping the future midway leaves the server in doubt, which its pool sees.
pub async fn relay(
    client: &mut Conn,
    server: &mut Server,
    rest: usize,
    until: Until,
    before_reply: &(dyn Fn() + Sync),
) -> Result<End, Broken> {
    let mut course = Course {
        rest_of_frame: rest,
        ended: false,
        until,
        scanned: None,
    };
    let told = Told::before(client);
    let end = poll_fn(|cx| poll_relay(cx, client, server, &mut course, told, before_reply)).await;
    let kept = server.kept.resend();
    server.forget_kept();
    match end {
        Err(Broken::Server(error)) if kept.allows(server) && told.nothing_since(client) => {
            told.take_back(client);
            server.drop_approved();
            Err(Broken::Unanswered(error))
        }
        // The rest of that frame would be read as messages.
        Err(Broken::Server(error)) if course.rest_of_frame > 0 => {
            Err(Broken::Server(error.fatal()))
        }
        end => end,
    }
}

/// What a client had been sent, and was to be sent, before an exchange.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    sent: u64,
    waiting: usize,
}

impl Told {
    pub fn before(client: &Conn) -> Self {
        Self {
            sent: client.sent,
            waiting: client.outbox.len(),
        }
    }

    /// Of what was to be sent before, this much is left.
    fn left(self, client: &Conn) -> Option<usize> {
        let sent = usize::try_from(client.sent - self.sent).ok()?;
        self.waiting.checked_sub(sent)
    }

    /// Nothing that came later has left for the client.
    pub fn nothing_since(self, client: &Conn) -> bool {
        self.left(client).is_some()
    }

    /// Drops what came later, none of which has left.
    pub fn take_back(self, client: &mut Conn) {
        client
            .outbox
            .truncate(self.left(client).unwrap_or_default());
    }
}

/// How far a relay has come: in the client's COPY stream, or in its long message, and in the server's replies.
struct Course {
    rest_of_frame: usize,
    ended: bool,
    until: Until,
    /// What the last look at the server's replies found, while nothing has come since.
    scanned: Option<Progress>,
}

fn poll_relay(
    cx: &mut Context<'_>,
    client: &mut Conn,
    server: &mut Server,
    course: &mut Course,
    told: Told,
    before_reply: &(dyn Fn() + Sync),
) -> Poll<Result<End, Broken>> {
    loop {
        let progress = match course.scanned.take() {
            Some(progress) => progress,
            None => {
                if !server.conn.inbox.is_empty() {
                    before_reply();
                }
                server.scan(&mut client.outbox).map_err(Broken::Server)?
            }
        };
        if progress == Progress::Withheld {
            if told.nothing_since(client) {
                return Poll::Ready(Err(Broken::Server(server.withheld())));
            }
            server.forget_kept();
            continue;
        }
        let sent = server.conn.poll_drain(cx);
        if let Poll::Ready(Err(e)) = sent {
            // It may have said why before it closed: read that first.
            if let Poll::Pending | Poll::Ready(Ok(0) | Err(_)) = server.conn.poll_fill(cx) {
                return Poll::Ready(Err(Broken::Server(server.lost(&e.to_string()))));
            }
            continue;
        }
        let written = poll_to_client(cx, client, server).map_err(gone)?;
        // A server that gave up COPY still reads the frame it was in the middle of.
        let whole = course.rest_of_frame == 0;
        if whole && course.until == Until::Passed {
            server.flush_approved(&mut client.outbox);
            return Poll::Ready(Ok(End::Done));
        }
        if progress == Progress::Done && whole {
            server.flush_approved(&mut client.outbox);
            return sent.map(|_| Ok(End::Done));
        }
        if course.ended
            && !server
                .expect
                .iter()
                .any(|e| matches!(e, Expect::Ready { .. }))
        {
            return Poll::Ready(Ok(End::NeedsClient));
        }
        if written
            && progress != Progress::Done
            && let Poll::Ready(read) = server.conn.poll_fill(cx)
        {
            match read {
                Ok(0) => {
                    return Poll::Ready(Err(Broken::Server(server.lost("the server closed it"))));
                }
                Ok(_) => continue,
                Err(e) => return Poll::Ready(Err(Broken::Server(server.lost(&e.to_string())))),
            }
        }
        let moved = if server.copy_in || !whole {
            poll_copy(cx, client, server, course)
        } else {
            poll_read_ahead(cx, client)
        };
        match moved {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Client(error))),
            Poll::Pending => {
                course.scanned = Some(progress);
                return Poll::Pending;
            }
        }
    }
}

/// True once everything meant for the client is written.
fn poll_to_client(
    cx: &mut Context<'_>,
    client: &mut Conn,
    server: &mut Server,
) -> io::Result<bool> {
    match client.poll_drain(cx) {
        Poll::Ready(result) => result?,
        Poll::Pending => return Ok(false),
    }
    match server.poll_forward(cx, client) {
        Poll::Ready(result) => result.map(|()| true),
        Poll::Pending => Ok(false),
    }
}

/// Watches for the client's end, reading a little of what it sends next.
fn poll_read_ahead(cx: &mut Context<'_>, client: &mut Conn) -> Poll<Result<(), Error>> {
    if client.inbox.len() >= READ_AHEAD {
        return Poll::Pending;
    }
    match client.poll_fill(cx) {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(closed())),
        Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
        Poll::Ready(Err(_)) => Poll::Ready(Err(closed())),
        Poll::Pending => Poll::Pending,
    }
}

/// Moves COPY frames to the server as they come, bounded by what it accepts.
fn poll_copy(
    cx: &mut Context<'_>,
    client: &mut Conn,
    server: &mut Server,
    course: &mut Course,
) -> Poll<Result<(), Error>> {
    if move_copy(client, server, course)? {
        return Poll::Ready(Ok(()));
    }
    if server.conn.outbox.len() >= OUTBOX_HIGH {
        return Poll::Pending;
    }
    match client.poll_fill(cx) {
        Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(closed())),
        Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    }
}

/// True when anything moved.
fn move_copy(client: &mut Conn, server: &mut Server, course: &mut Course) -> Result<bool, Error> {
    let before = client.inbox.len();
    while (server.copy_in || course.rest_of_frame > 0) && server.conn.outbox.len() < OUTBOX_HIGH {
        if course.rest_of_frame == 0 {
            let Some(header) = frame::peek(&client.inbox)? else {
                break;
            };
            if header.tag != b'd' && client.inbox.len() < header.len {
                break;
            }
            if header.tag != b'd' {
                frontend::check(header.tag, header.len, MAX_MESSAGE_AMID_COPY)?;
            }
            match header.tag {
                b'd' => {}
                // The server ignores these while it reads COPY data.
                b'H' | b'S' => {
                    client.inbox.advance(header.len);
                    continue;
                }
                // CopyDone, CopyFail, or something the server will complain about.
                _ => {
                    course.ended = true;
                    server.copy_in = false;
                }
            }
            course.rest_of_frame = header.len;
        }
        let here = course.rest_of_frame.min(client.inbox.len());
        if here == 0 {
            break;
        }
        server.conn.outbox.extend_from_slice(&client.inbox[..here]);
        client.inbox.advance(here);
        course.rest_of_frame -= here;
    }
    Ok(client.inbox.len() != before)
}

fn gone(_: io::Error) -> Broken {
    Broken::Client(closed())
}

/// The client closed its connection; there is no one left to tell.
pub fn closed() -> Error {
    Error::new(
        crate::error::Fault::Client,
        "08006",
        "client closed the connection",
    )
    .fatal()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bytes::BytesMut;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::*;
    use crate::backend::server::tests::pair;
    use crate::net::Stream;
    use crate::wire::write;

    /// Who hears that a write is done must not be faster than those who have to know of it.
    #[tokio::test]
    async fn what_was_done_is_noted_before_the_client_hears_of_it() {
        let (ours, client) = UnixStream::pair().unwrap();
        let mut session = Conn::new(Stream::Unix(ours), BytesMut::new());
        let (mut server, mut postgres) = pair();
        server.send_query(b"COMMIT", true);
        let mut answer = BytesMut::new();
        write::command_complete(&mut answer, "COMMIT");
        write::ready(&mut answer, b'I');
        postgres.write_all(&answer).await.unwrap();
        let heard = Mutex::new(Vec::new());
        let note = || {
            let mut byte = [0];
            let read = client.try_read(&mut byte);
            heard.lock().unwrap().push(read.map_err(|e| e.kind()));
        };
        let end = relay(&mut session, &mut server, 0, Until::Settled, &note).await;
        assert_eq!(end.unwrap(), End::Done);
        // It was asked before the first byte, and then the answer was there.
        let heard = heard.into_inner().unwrap();
        assert_eq!(heard.first(), Some(&Err(io::ErrorKind::WouldBlock)));
        let mut byte = [0];
        client.readable().await.unwrap();
        assert_eq!(client.try_read(&mut byte).unwrap(), 1);
    }
}
