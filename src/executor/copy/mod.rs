//! COPY on several shards: the client's rows to the shards that own them, or the shards' rows to the
//! client. Streams; what is held is bounded by the buffers of both sides and one row.

mod rows;
pub mod written;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use planner::copy::{CopyIn, Frame, Rows, owner};
use planner::{ShardId, Topology};

use self::rows::{Field, Piece, Row, Splitter};
use super::relay::{Broken, closed};
use super::scatter::{drain, poll_gone, unless_gone};
use crate::backend::server::{Expect, Server};
use crate::error::{Error, Fault};
use crate::wire::conn::{Conn, OUTBOX_HIGH};
use crate::wire::frame::{self, HEADER};
use crate::wire::{frontend, write};

/// Lines of a shard whose numbers in the client's data are remembered.
const LINES_KEPT: usize = 1 << 17;
/// Nothing but CopyData has business being longer while data is copied.
const MAX_MESSAGE: usize = 1 << 20;

/// COPY FROM STDIN on servers that have begun a transaction each.
pub struct CopyingIn<'c> {
    copy: &'c CopyIn,
    topology: &'c Topology,
    /// By participant.
    shards: &'c [ShardId],
    splitter: Option<Splitter>,
    streams: Vec<Stream>,
    /// Bytes of the client's CopyData that are still to come.
    rest_of_frame: usize,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Data,
    /// The client said that it has sent all.
    Sent,
}

/// One shard's part of the data.
#[derive(Default)]
struct Stream {
    pending: BytesMut,
    lines: u64,
    /// The last lines: number here, number in the client's data.
    known: VecDeque<(u64, u64)>,
    ready: bool,
    tag: String,
}

impl<'c> CopyingIn<'c> {
    /// `max_row`: bytes that a row may have.
    pub fn new(
        copy: &'c CopyIn,
        shards: &'c [ShardId],
        topology: &'c Topology,
        max_row: usize,
        csv_has_mark: bool,
    ) -> Self {
        let splitter = match &copy.rows {
            Rows::All => None,
            Rows::ByKey {
                positions, format, ..
            } => Some(Splitter::new(
                format.clone(),
                positions.clone(),
                max_row,
                csv_has_mark,
            )),
        };
        Self {
            copy,
            topology,
            shards,
            splitter,
            streams: shards.iter().map(|_| Stream::default()).collect(),
            rest_of_frame: 0,
            phase: Phase::Data,
        }
    }

    /// Runs `sql` on all and passes the client's data on until every server has taken all of it.
    /// Answers their command tags. After an error no server is left amid the COPY, unless it is in
    /// doubt.
    ///
    /// # Errors
    /// Which side broke.
    pub async fn run(
        &mut self,
        client: &mut Conn,
        servers: &mut [&mut Server],
        sql: &[u8],
    ) -> Result<Vec<String>, Broken> {
        let mut notices = BytesMut::new();
        let started = unless_gone(client, start(servers, sql, &mut notices)).await?;
        client.outbox.extend_from_slice(&notices);
        let response = match started {
            Ok(response) => response,
            Err(error) => {
                stop(servers, &mut self.streams).await;
                return Err(Broken::Server(error));
            }
        };
        let result = match self.check_columns(&response) {
            Ok(()) => {
                write::frame(&mut client.outbox, b'G', |out| out.put_slice(&response));
                poll_fn(|cx| self.poll(cx, client, servers)).await
            }
            Err(error) => Err(Broken::Server(error)),
        };
        if let Err(Broken::Server(_)) = &result {
            stop(servers, &mut self.streams).await;
            self.skip_rest_of_frame(client)
                .await
                .map_err(Broken::Client)?;
        }
        result?;
        let tags = self.streams.iter_mut();
        Ok(tags.map(|stream| std::mem::take(&mut stream.tag)).collect())
    }

    /// The key's place was told by the columns in the catalog.
    fn check_columns(&self, response: &[u8]) -> Result<(), Error> {
        let Rows::ByKey { columns, .. } = &self.copy.rows else {
            return Ok(());
        };
        let found = response.get(1..3).map(|mut bytes| bytes.get_u16());
        match found.map(usize::from) == Some(*columns) {
            true => Ok(()),
            false => Err(planner::Refusal::unsupported(
                format!(
                    "COPY of sharded table \"{}\" without a list of columns",
                    self.copy.table
                ),
                "Some of its columns take no data, so the place of the sharding key is not known.",
                "List the columns.",
            )
            .into()),
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Conn,
        servers: &mut [&mut Server],
    ) -> Poll<Result<(), Broken>> {
        loop {
            if let Poll::Ready(Err(_)) = client.poll_drain(cx) {
                return Poll::Ready(Err(Broken::Client(closed())));
            }
            if let Err(error) = self.poll_servers(cx, client, servers) {
                return Poll::Ready(Err(Broken::Server(error)));
            }
            if self.streams.iter().all(|stream| stream.ready) {
                return Poll::Ready(Ok(()));
            }
            let full = servers
                .iter()
                .any(|server| server.conn.outbox.len() >= OUTBOX_HIGH);
            if self.phase == Phase::Sent || full {
                return poll_gone(cx, client);
            }
            match self.take(client, servers) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            match client.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => {
                    return Poll::Ready(Err(Broken::Client(closed())));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Sends what is to be sent and reads what servers say meanwhile.
    fn poll_servers(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Conn,
        servers: &mut [&mut Server],
    ) -> Result<(), Error> {
        for (at, server) in servers.iter_mut().enumerate() {
            let sent = server.conn.poll_drain(cx);
            let stream = &mut self.streams[at];
            while !stream.ready {
                match server.conn.poll_fill(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(0)) => return Err(server.lost("the server closed it")),
                    Poll::Ready(Err(e)) => return Err(server.lost(&e.to_string())),
                    Poll::Ready(Ok(_)) => {}
                }
                while let Some((tag, body)) = server.next_frame()? {
                    match tag {
                        b'N' => write::frame(&mut client.outbox, tag, |out| out.put_slice(&body)),
                        b'C' => stream.tag = text(&body),
                        b'Z' => stream.ready = true,
                        _ => {}
                    }
                }
                if let Some(error) = &server.error {
                    return Err(self.in_lines_of_client(error.clone(), at));
                }
            }
            if let Poll::Ready(Err(e)) = sent {
                return Err(server.lost(&e.to_string()));
            }
        }
        Ok(())
    }

    /// Takes what the client has sent; true if that was anything.
    fn take(&mut self, client: &mut Conn, servers: &mut [&mut Server]) -> Result<bool, Broken> {
        if self.rest_of_frame == 0 {
            let header = frame::peek(&client.inbox).map_err(Broken::Client)?;
            let Some(header) = header else {
                return Ok(false);
            };
            let whole = client.inbox.len() >= header.len;
            if header.tag != b'd' {
                frontend::check(header.tag, header.len, MAX_MESSAGE).map_err(Broken::Client)?;
                if !whole {
                    return Ok(false);
                }
            }
            match header.tag {
                b'd' => {
                    client.inbox.advance(HEADER);
                    self.rest_of_frame = header.len - HEADER;
                    return Ok(true);
                }
                // As the server, which ignores these while it reads data.
                b'H' | b'S' => client.inbox.advance(header.len),
                b'c' => {
                    client.inbox.advance(header.len);
                    self.pieces(servers, true).map_err(Broken::Server)?;
                    for server in servers.iter_mut() {
                        write::frame(&mut server.conn.outbox, b'c', |_| {});
                        server.copy_in = false;
                    }
                    self.phase = Phase::Sent;
                }
                b'f' => {
                    let reason = text(&client.inbox[HEADER..header.len]);
                    client.inbox.advance(header.len);
                    let message = format!("COPY from stdin failed: {reason}");
                    return Err(Broken::Server(Error::new(Fault::Client, "57014", message)));
                }
                tag => {
                    let message =
                        format!("unexpected message type 0x{tag:02X} during COPY from stdin");
                    return Err(Broken::Client(Error::protocol(message)));
                }
            }
            return Ok(true);
        }
        let here = self.rest_of_frame.min(client.inbox.len()).min(OUTBOX_HIGH);
        if here == 0 {
            return Ok(false);
        }
        let data = &client.inbox[..here];
        match &mut self.splitter {
            Some(splitter) => splitter.feed(data),
            None => {
                for stream in &mut self.streams {
                    stream.pending.extend_from_slice(data);
                }
            }
        }
        client.inbox.advance(here);
        self.rest_of_frame -= here;
        self.pieces(servers, false).map_err(Broken::Server)?;
        Ok(true)
    }

    /// Gives rows that are whole to their servers.
    fn pieces(&mut self, servers: &mut [&mut Server], last: bool) -> Result<(), Error> {
        while let Some(splitter) = &mut self.splitter {
            let piece = splitter.next(last).map_err(|error| match splitter.line() {
                Some(line) => error.context(format!("COPY {}, line {line}", self.copy.table)),
                None => error,
            });
            match piece? {
                None => break,
                Some(Piece::ForAll(bytes)) => {
                    for stream in &mut self.streams {
                        stream.pending.extend_from_slice(&bytes);
                        stream.lines += 1;
                    }
                }
                Some(Piece::Row(row)) => {
                    let at = self.participant(&row)?;
                    let stream = &mut self.streams[at];
                    stream.pending.extend_from_slice(&row.bytes);
                    stream.lines += row.lines;
                    if stream.known.len() >= LINES_KEPT {
                        stream.known.pop_front();
                    }
                    stream.known.push_back((stream.lines, row.line));
                }
            }
        }
        for (stream, server) in self.streams.iter_mut().zip(servers) {
            if !stream.pending.is_empty() {
                write::frame(&mut server.conn.outbox, b'd', |out| {
                    out.put_slice(&stream.pending);
                });
                stream.pending.clear();
            }
        }
        Ok(())
    }

    /// Who gets the row. What no shard can store goes to the first, which says why.
    fn participant(&self, row: &Row) -> Result<usize, Error> {
        let Rows::ByKey { key, format, .. } = &self.copy.rows else {
            return Ok(0);
        };
        let mut values = Vec::with_capacity(row.fields.len());
        for field in &row.fields {
            values.push(match field {
                Field::Missing => return Ok(0),
                Field::Null => None,
                Field::Value(value) => Some(value.as_slice()),
            });
        }
        let binary = *format == planner::copy::Format::Binary;
        let shard = match owner(key, &values, binary, self.topology) {
            Ok(shard) => shard,
            // The server's own words are better.
            Err((_, refusal)) if refusal.code == "22P03" => None,
            Err((at, refusal)) => {
                let mut context = format!("COPY {}, line {}", self.copy.table, row.line);
                if let Some(value) = values[at]
                    && !binary
                {
                    let name = &key.columns[at].name;
                    let column = name.rsplit_once('.').map_or("", |(_, column)| column);
                    let value = String::from_utf8_lossy(value);
                    context.push_str(&format!(", column {column}: \"{value}\""));
                }
                return Err(Error::from(refusal).context(context));
            }
        };
        let at = shard.and_then(|shard| self.shards.iter().position(|known| *known == shard));
        Ok(at.unwrap_or(0))
    }

    /// A server counts the lines that it got.
    fn in_lines_of_client(&self, error: Error, at: usize) -> Error {
        let Some(context) = &error.context else {
            return error;
        };
        if self.splitter.is_none() {
            return error;
        }
        let before = format!("COPY {}, line ", self.copy.table);
        let Some(start) = context.find(&before).map(|start| start + before.len()) else {
            return error;
        };
        let digits = context[start..]
            .bytes()
            .take_while(u8::is_ascii_digit)
            .count();
        let (number, rest) = context[start..].split_at(digits);
        let known = &self.streams[at].known;
        let line = number.parse::<u64>().ok().and_then(|number| {
            let row = known.partition_point(|(here, _)| *here < number);
            let first = known
                .front()
                .is_some_and(|(here, _)| *here > number && row == 0);
            known.get(row).filter(|_| !first).map(|(_, line)| *line)
        });
        let told = match line {
            Some(line) => format!("{}{line}{rest}", &context[..start]),
            // Which one it was is not known any more.
            None => format!(
                "{}COPY {}",
                &context[..start - before.len()],
                self.copy.table
            ),
        };
        error.context(told)
    }

    async fn skip_rest_of_frame(&mut self, client: &mut Conn) -> Result<(), Error> {
        while self.rest_of_frame > 0 {
            let here = self.rest_of_frame.min(client.inbox.len());
            client.inbox.advance(here);
            self.rest_of_frame -= here;
            if self.rest_of_frame > 0 && !matches!(client.fill().await, Ok(1..)) {
                return Err(closed());
            }
        }
        Ok(())
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body)).into_owned()
}

/// Begins the COPY on every server; the body of the first CopyInResponse.
async fn start(
    servers: &mut [&mut Server],
    sql: &[u8],
    notices: &mut BytesMut,
) -> Result<Bytes, Error> {
    let mut first = None;
    for server in servers.iter_mut() {
        server.begin_exchange();
        server.unnamed = None;
        write::query(&mut server.conn.outbox, sql);
        server.expect.push_back(Expect::Ready { show: false });
        'answer: loop {
            while let Some((tag, body)) = server.next_frame()? {
                match tag {
                    b'G' => {
                        server.copy_in = true;
                        first.get_or_insert(body);
                        break 'answer;
                    }
                    b'N' => write::frame(notices, tag, |out| out.put_slice(&body)),
                    // What it said before, or that it takes no data.
                    b'Z' => {
                        return Err(match server.error.take() {
                            Some(error) => error,
                            None => server.lost("it took no data"),
                        });
                    }
                    _ => {}
                }
            }
            server.exchange().await?;
        }
    }
    first.ok_or_else(|| Error::protocol("COPY without a server"))
}

/// Ends the COPY on servers that are amid it, as failed, and reads them to their ends.
async fn stop(servers: &mut [&mut Server], streams: &mut [Stream]) {
    for (server, stream) in servers.iter_mut().zip(streams) {
        if server.doubt.is_some() || stream.ready || server.expect.is_empty() {
            continue;
        }
        // One that has failed by itself ignores it.
        write::frame(&mut server.conn.outbox, b'f', |out| write::cstr(out, b""));
        server.copy_in = false;
        if drain(server).await.is_err() {
            server.doubt.get_or_insert("it failed to end a COPY");
        }
    }
}

/// COPY TO STDOUT: all servers run `sql`, the rows of one follow those of the other. Answers the
/// number of rows.
///
/// # Errors
/// Which side broke; servers may be amid the COPY then.
pub async fn copy_out(
    client: &mut Conn,
    servers: &mut [&mut Server],
    sql: &[u8],
    frame: Frame,
    max_row: usize,
) -> Result<u64, Broken> {
    for server in servers.iter_mut() {
        server.begin_exchange();
        server.unnamed = None;
        write::query(&mut server.conn.outbox, sql);
        server.expect.push_back(Expect::Ready { show: false });
    }
    // Each is asked before the first is read.
    poll_fn(|cx| {
        for server in servers.iter_mut() {
            if let Poll::Ready(Err(e)) = server.conn.poll_drain(cx) {
                return Poll::Ready(Err(Broken::Server(server.lost(&e.to_string()))));
            }
        }
        Poll::Ready(Ok(()))
    })
    .await?;
    let last = servers.len().saturating_sub(1);
    let mut count = 0;
    for (at, server) in servers.iter_mut().enumerate() {
        let place = Place {
            first: at == 0,
            last: at == last,
        };
        count += one_out(client, server, frame, place, max_row).await?;
    }
    write::frame(&mut client.outbox, b'c', |_| {});
    Ok(count)
}

/// Of a server among those whose rows follow each other.
#[derive(Debug, Clone, Copy)]
struct Place {
    first: bool,
    last: bool,
}

async fn one_out(
    client: &mut Conn,
    server: &mut Server,
    frame: Frame,
    place: Place,
    max_row: usize,
) -> Result<u64, Broken> {
    // Each CopyData of a server is a row; a header is in the first one or is it.
    let mut begun = false;
    let mut count = 0;
    poll_fn(|cx| {
        loop {
            let drained = client.poll_drain(cx);
            if let Poll::Ready(Err(_)) = drained {
                return Poll::Ready(Err(Broken::Client(closed())));
            }
            if client.outbox.len() >= OUTBOX_HIGH {
                return Poll::Pending;
            }
            while client.outbox.len() < OUTBOX_HIGH {
                let header = frame::peek(&server.conn.inbox).map_err(Broken::Server)?;
                if header.is_some_and(|header| header.len > max_row) {
                    server.doubt = Some("a row of COPY was too long to pass");
                    return Poll::Ready(Err(Broken::Server(too_long(max_row))));
                }
                let Some((tag, body)) = server.next_frame().map_err(Broken::Server)? else {
                    break;
                };
                match tag {
                    b'H' if place.first => {
                        write::frame(&mut client.outbox, tag, |out| out.put_slice(&body));
                    }
                    b'd' => {
                        let shown = shown(body, frame, place, !begun);
                        begun = true;
                        if !shown.is_empty() {
                            write::frame(&mut client.outbox, tag, |out| out.put_slice(&shown));
                        }
                    }
                    b'N' => write::frame(&mut client.outbox, tag, |out| out.put_slice(&body)),
                    b'C' => {
                        let tag = text(&body);
                        let number = tag.rsplit_once(' ').and_then(|(_, n)| n.parse().ok());
                        count = number.unwrap_or(0);
                    }
                    b'Z' => {
                        return Poll::Ready(match server.error.take() {
                            Some(error) => Err(Broken::Server(error)),
                            None => Ok(count),
                        });
                    }
                    _ => {}
                }
            }
            if client.outbox.len() >= OUTBOX_HIGH {
                continue;
            }
            if let Poll::Ready(Err(e)) = server.conn.poll_drain(cx) {
                return Poll::Ready(Err(Broken::Server(server.lost(&e.to_string()))));
            }
            match server.conn.poll_fill(cx) {
                Poll::Pending => return poll_gone(cx, client),
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(Broken::Server(server.lost("the server closed it"))));
                }
                Poll::Ready(Err(e)) => {
                    return Poll::Ready(Err(Broken::Server(server.lost(&e.to_string()))));
                }
                Poll::Ready(Ok(_)) => {}
            }
        }
    })
    .await
}

/// What of a CopyData message the client is shown: one header, one end.
fn shown(mut body: Bytes, frame: Frame, place: Place, opens: bool) -> Bytes {
    /// Signature, flags and the length of an extension, which servers leave empty.
    const BINARY_HEADER: usize = 19;
    const BINARY_END: &[u8] = b"\xff\xff";
    match frame {
        Frame::Rows => body,
        Frame::Header if opens && !place.first => Bytes::new(),
        Frame::Header => body,
        Frame::Binary => {
            let header = match opens {
                true => body.split_to(BINARY_HEADER.min(body.len())),
                false => Bytes::new(),
            };
            if body == BINARY_END && !place.last {
                body.clear();
            }
            match place.first && !header.is_empty() {
                true => [header, body].concat().into(),
                false => body,
            }
        }
    }
}

fn too_long(limit: usize) -> Error {
    Error::new(Fault::Server, "54000", "row of COPY is too long")
        .detail(format!("It may have {limit} bytes."))
        .hint("Raise max_message_mib.")
}
