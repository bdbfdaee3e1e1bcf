//! A SELECT on several shards: every shard runs the rewritten text, [`Merger`] makes one answer.
//!
//! A [`Run`] can pause (a portal with a row limit); it owes each shard's ReadyForQuery until
//! [`Run::finish`] or until the last row.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::copy::written::Writer;
use super::merge::{Merger, Step};
use super::relay::Broken;
use crate::backend::server::{Expect, Server};
use crate::error::Error;
use crate::net::Instant;
use crate::wire::conn::{Conn, OUTBOX_HIGH};
use crate::wire::frame::{self, Header};
use crate::wire::write;

/// How the shards are asked.
pub enum Request<'a> {
    Simple {
        sql: &'a [u8],
    },
    /// `bind_rest`: the Bind message after its two names, result formats fit for the shards' rows.
    Extended {
        sql: &'a [u8],
        types: &'a [u32],
        bind_rest: &'a [u8],
    },
}

/// Why a run stopped giving rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    Finished,
    RowLimit,
}

pub struct Run {
    merger: Merger,
    shards: Vec<Shard>,
    columns: Option<BytesMut>,
    /// Writes the rows where they are not shown as they are.
    pub writer: Option<Writer>,
    /// When each shard had sent all of its rows, as far as somebody waited for that.
    pub ends: Vec<Option<Instant>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shard {
    /// No RowDescription yet.
    Starting,
    Rows,
    /// CommandComplete came.
    Ended,
    /// ReadyForQuery came.
    Ready,
}

impl Run {
    /// Queues the request on every server; [`Run::columns`] sends it.
    pub fn start(merger: Merger, servers: &mut [&mut Server], request: &Request<'_>) -> Self {
        for server in servers.iter_mut() {
            server.begin_exchange();
            let out = &mut server.conn.outbox;
            match request {
                Request::Simple { sql } => write::query(out, sql),
                Request::Extended {
                    sql,
                    types,
                    bind_rest,
                } => {
                    write::parse(out, b"", sql, types);
                    write::bind(out, b"", b"", bind_rest);
                    write::describe(out, b'P', b"");
                    write::execute(out, b"", 0);
                    out.extend_from_slice(write::SYNC);
                }
            }
            server.unnamed = None;
            server.expect.push_back(Expect::Ready { show: false });
        }
        Self::started(merger, servers.len())
    }

    /// Of a request that so many servers were sent already: extended messages up to Sync.
    pub fn started(merger: Merger, servers: usize) -> Self {
        Self {
            merger,
            shards: vec![Shard::Starting; servers],
            columns: None,
            writer: None,
            ends: vec![None; servers],
        }
    }

    /// The RowDescription frame for the client, once every shard has described its rows: what
    /// cannot be merged is refused before the first row.
    ///
    /// # Errors
    /// A shard's error or loss, or the refusal.
    pub async fn columns(
        &mut self,
        client: &mut Conn,
        servers: &mut [&mut Server],
    ) -> Result<BytesMut, Broken> {
        poll_fn(|cx| {
            loop {
                if !self.shards.contains(&Shard::Starting)
                    && let Some(columns) = &self.columns
                {
                    return Poll::Ready(Ok(columns.clone()));
                }
                if self.poll_servers(cx, servers)?.is_pending() {
                    return poll_gone(cx, client);
                }
            }
        })
        .await
    }

    /// Sends rows to the client, at most `max_rows` unless that is 0. Until there is one nothing is sent:
    /// what the client has not heard of, other servers can be asked for.
    ///
    /// # Errors
    /// Which side broke, or a shard's own error.
    pub async fn rows(
        &mut self,
        client: &mut Conn,
        servers: &mut [&mut Server],
        max_rows: u32,
    ) -> Result<Pause, Broken> {
        let start = self.merger.rows_out();
        poll_fn(|cx| {
            loop {
                let mut starved = false;
                while client.outbox.len() < OUTBOX_HIGH {
                    if max_rows > 0 && self.merger.rows_out() - start >= u64::from(max_rows) {
                        return Poll::Ready(Ok(Pause::RowLimit));
                    }
                    match self.merger.step().map_err(Broken::Server)? {
                        Step::Row(row) => match &mut self.writer {
                            None => client.outbox.extend_from_slice(&row),
                            Some(writer) => writer
                                .row(&row, &mut client.outbox)
                                .map_err(Broken::Server)?,
                        },
                        Step::Need(_) => {
                            starved = true;
                            break;
                        }
                        Step::Done => return Poll::Ready(Ok(Pause::Finished)),
                    }
                }
                if self.merger.rows_out() > start {
                    let drained = client
                        .poll_drain(cx)
                        .map_err(|_| Broken::Client(super::relay::closed()))?;
                    if drained.is_pending() && client.outbox.len() >= OUTBOX_HIGH {
                        return Poll::Pending;
                    }
                }
                // With rows at hand no server has to say anything, and those that have may not.
                if !starved {
                    continue;
                }
                if self.poll_servers(cx, servers)?.is_pending() {
                    return poll_gone(cx, client);
                }
            }
        })
        .await
    }

    /// The next row, as a DataRow frame.
    ///
    /// # Errors
    /// A shard's error or loss.
    pub(super) async fn next(
        &mut self,
        servers: &mut [&mut Server],
    ) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| {
            loop {
                if !self.shards.contains(&Shard::Starting) {
                    match self.merger.step()? {
                        Step::Row(row) => return Poll::Ready(Ok(Some(row))),
                        Step::Need(_) => {}
                        Step::Done => return Poll::Ready(Ok(None)),
                    }
                }
                match self.poll_servers(cx, servers) {
                    Ok(Poll::Ready(())) => {}
                    Ok(Poll::Pending) => return Poll::Pending,
                    Err(Broken::Client(e) | Broken::Server(e) | Broken::Unanswered(e)) => {
                        return Poll::Ready(Err(e));
                    }
                }
            }
        })
        .await
    }

    /// Rows given so far.
    pub fn rows_out(&self) -> u64 {
        self.merger.rows_out()
    }

    /// Reads what the shards still owe, dropping rows nobody wants.
    ///
    /// # Errors
    /// The loss of a shard's connection; errors of its statement are in [`Server::error`].
    pub async fn finish(&mut self, servers: &mut [&mut Server]) -> Result<(), Error> {
        for (server, shard) in servers.iter_mut().zip(&mut self.shards) {
            while *shard != Shard::Ready {
                while let Some((tag, _)) = server.next_frame()? {
                    if tag == b'Z' {
                        *shard = Shard::Ready;
                    }
                }
                server.skip_row()?;
                if *shard != Shard::Ready {
                    server.exchange().await?;
                }
            }
        }
        Ok(())
    }

    /// Reads from every server whose rows are wanted; pending when none has anything.
    fn poll_servers(
        &mut self,
        cx: &mut Context<'_>,
        servers: &mut [&mut Server],
    ) -> Result<Poll<()>, Broken> {
        let mut progress = Poll::Pending;
        for (index, server) in servers.iter_mut().enumerate() {
            if let Poll::Ready(Err(e)) = server.conn.poll_drain(cx) {
                return Err(Broken::Server(server.lost(&e.to_string())));
            }
            // A shard that is ahead waits, unless it is at its end anyway.
            if self.shards[index] == Shard::Ready || self.merger.is_full(index) {
                continue;
            }
            match server.conn.poll_fill(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(0)) => {
                    return Err(Broken::Server(server.lost("the server closed it")));
                }
                Poll::Ready(Err(e)) => return Err(Broken::Server(server.lost(&e.to_string()))),
                Poll::Ready(Ok(_)) => {
                    progress = Poll::Ready(());
                    self.take_frames(index, server).map_err(Broken::Server)?;
                }
            }
        }
        Ok(progress)
    }

    fn take_frames(&mut self, index: usize, server: &mut Server) -> Result<(), Error> {
        while let Some((tag, body)) = server.next_frame()? {
            match tag {
                b'T' => {
                    if let Some(columns) = self.merger.row_description(index, &body)? {
                        self.columns = Some(columns);
                    }
                    self.shards[index] = Shard::Rows;
                }
                b'D' => self.merger.push(index, body)?,
                b'C' => {
                    self.merger.end(index);
                    self.ends[index] = Some(Instant::now());
                    self.shards[index] = Shard::Ended;
                }
                b'Z' => self.shards[index] = Shard::Ready,
                b'E' => {
                    let error = server.error.clone();
                    return Err(error.unwrap_or_else(|| server.lost("it failed")));
                }
                b'N' => server.heed(&body)?,
                b'1' | b'2' | b'S' | b'A' => {}
                other => return Err(server.unexpected(other)),
            }
        }
        // What is above the limit by itself need not be read whole to be refused.
        match frame::peek(&server.conn.inbox)? {
            Some(Header { tag: b'D', len }) => self.merger.check_row(len),
            Some(_) | None => Ok(()),
        }
    }
}

/// Reads what a server that reported an error still owes.
///
/// # Errors
/// The loss of its connection.
pub async fn drain(server: &mut Server) -> Result<(), Error> {
    while !server.expect.is_empty() {
        while server.next_frame()?.is_some() {}
        server.skip_row()?;
        if !server.expect.is_empty() {
            server.exchange().await?;
        }
    }
    Ok(())
}

/// What `work` on servers comes to, unless the client leaves before.
///
/// # Errors
/// The client left. `work` is dropped midway then, and its servers still owe what they were asked.
pub async fn unless_gone<T>(client: &mut Conn, work: impl Future<Output = T>) -> Result<T, Broken> {
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => poll_gone(cx, client),
    })
    .await
}

/// While shards are awaited, the client's leaving ends the run.
pub(super) fn poll_gone<T>(cx: &mut Context<'_>, client: &mut Conn) -> Poll<Result<T, Broken>> {
    const READ_AHEAD: usize = 8 * 1024;
    while client.inbox.len() < READ_AHEAD {
        match client.poll_fill(cx) {
            Poll::Ready(Ok(0) | Err(_)) => {
                return Poll::Ready(Err(Broken::Client(super::relay::closed())));
            }
            Poll::Ready(Ok(_)) => {}
            Poll::Pending => break,
        }
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use planner::merge::MergePlan;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::super::merge::Memory;
    use super::*;
    use crate::backend::server::tests::pair;
    use crate::net::{Stream, timeout};

    #[tokio::test]
    async fn a_row_above_the_memory_limit_is_refused_before_it_has_come() {
        const CAP: usize = 1 << 20;
        let (mut server, mut postgres) = pair();
        let (ours, _client) = UnixStream::pair().expect("sockets");
        let mut client = Conn::new(Stream::Unix(ours), BytesMut::new());
        let mut answer = BytesMut::new();
        write::text_columns(&mut answer, &["a"]);
        write::text_row(&mut answer, &[Some("small")]);
        // No more of it comes.
        answer.extend_from_slice(b"D\x3f\xff\xff\xff\0\x01");
        postgres.write_all(&answer).await.expect("written");
        let merger = Merger::new(&MergePlan::default(), 1, None, 0, Memory::new(CAP));
        let mut run = Run::started(merger, 1);
        let mut servers = [&mut server];
        let answered = async {
            run.columns(&mut client, &mut servers).await?;
            run.rows(&mut client, &mut servers, 0).await
        };
        let answered = timeout(Duration::from_secs(5), answered).await;
        match answered.expect("it is not waited for") {
            Err(Broken::Server(error)) => assert_eq!(error.code, "53200"),
            Ok(pause) => panic!("{pause:?}"),
            Err(Broken::Client(error) | Broken::Unanswered(error)) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn a_row_that_nobody_wants_is_not_kept_until_it_is_whole() {
        const ROW: usize = 4 << 20;
        let (mut server, mut postgres) = pair();
        server.send_query(b"SELECT", false);
        let mut answer = BytesMut::new();
        write::frame(&mut answer, b'D', |out| out.resize(out.len() + ROW, 0));
        write::command_complete(&mut answer, "SELECT 1");
        write::ready(&mut answer, b'I');
        let (written, drained) = tokio::join!(postgres.write_all(&answer), drain(&mut server));
        written.expect("written");
        drained.expect("drained");
        assert!(server.is_clean());
        let kept = server.conn.inbox.capacity();
        assert!(kept < ROW / 2, "{kept}");
    }
}
