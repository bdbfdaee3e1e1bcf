//! A cursor over several shards: each has a cursor of its own, and what FETCH asks for is merged from theirs.
//!
//! Between two FETCHes no server owes anything, so others' statements may run there. A shard is asked for no
//! more rows than the client wants at most.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use planner::plan::Direction;

use super::merge::{Merger, Step, shard_formats};
use super::relay::{Broken, closed};
use super::scatter::poll_gone;
use crate::backend::server::{Expect, Server};
use crate::error::{Error, Fault};
use crate::wire::conn::{Conn, OUTBOX_HIGH};
use crate::wire::write;

/// Bytes of rows that one shard is asked for at once, about.
const BATCH_BYTES: usize = 256 * 1024;
/// The same in rows: at first, and at most.
const FIRST_ROWS: u64 = 128;
const MOST_ROWS: u64 = 2048;

/// A text on every server: DECLARE.
pub struct Request<'a> {
    pub sql: &'a [u8],
    pub types: &'a [u32],
    /// The Bind message after its two names.
    pub bind_rest: &'a [u8],
}

/// Bind's part after the names without parameters, all results as text.
pub const NO_VALUES: &[u8] = &[0, 0, 0, 0, 0, 0];

pub struct Cursor {
    /// As the servers know it.
    name: String,
    merger: Merger,
    /// The body of a shard's RowDescription.
    columns: Bytes,
    /// As the client asks for them.
    formats: Option<Vec<i16>>,
    /// As it wants them from now on.
    others: Option<Vec<i16>>,
    shards: Vec<Shard>,
    /// Rows to ask a shard for at once.
    batch: u64,
    place: Place,
    /// A FETCH has failed amid it: which rows come next is not known.
    failed: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Shard {
    /// Its columns have been compared with those of the first.
    described: bool,
    ended: bool,
}

/// Where a cursor stands, as PostgreSQL counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    rows: u64,
    at_start: bool,
    at_end: bool,
}

/// Where rows go, as DataRow frames.
pub enum Sink<'a> {
    Nowhere,
    Client,
    /// They are kept, up to so many bytes.
    Kept(&'a mut BytesMut, usize),
}

impl Sink<'_> {
    async fn give(&mut self, client: &mut Conn, row: &[u8]) -> Result<(), Broken> {
        match self {
            Self::Nowhere => {}
            Self::Client => {
                client.outbox.extend_from_slice(row);
                if client.outbox.len() >= OUTBOX_HIGH {
                    let drained = client.drain().await;
                    drained.map_err(|_| Broken::Client(closed()))?;
                }
            }
            Self::Kept(rows, most) if rows.len() + row.len() > *most => {
                let message = "rows of a FETCH with a row limit need too much memory";
                let error = Error::new(Fault::Client, "53200", message)
                    .detail(format!("The limit is {most} bytes."))
                    .hint("FETCH fewer at once, or raise merge_memory_mib.");
                return Err(Broken::Server(error));
            }
            Self::Kept(rows, _) => rows.extend_from_slice(row),
        }
        Ok(())
    }
}

/// What a FETCH comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Rows to pass over.
    pub skip: u64,
    /// Rows to give then; `None` is all.
    pub take: Option<u64>,
    /// MOVE 0 counts the row that the cursor stands on.
    pub counts: bool,
}

impl Place {
    const START: Self = Self {
        rows: 0,
        at_start: true,
        at_end: false,
    };

    /// # Errors
    /// 55000 for what is not forward.
    fn wanted(self, direction: Direction, moves: bool) -> Result<Wanted, Error> {
        let wanted = |skip: u64, take| Wanted {
            skip,
            take,
            counts: false,
        };
        let is_untouched = self.at_start && !self.at_end;
        let nothing = wanted(0, Some(0));
        match direction {
            Direction::Forward(0) | Direction::Backward(0) | Direction::Relative(0) => {
                let on_row = !self.at_start && !self.at_end;
                match on_row {
                    true if moves => Ok(Wanted {
                        counts: true,
                        ..nothing
                    }),
                    true => Err(only_forward()),
                    false => Ok(nothing),
                }
            }
            Direction::Forward(count @ 1..) | Direction::Backward(count @ ..0) => {
                Ok(wanted(0, Some(count.unsigned_abs())))
            }
            Direction::ForwardAll => Ok(wanted(0, None)),
            Direction::Relative(count @ 1..) => Ok(wanted(count.unsigned_abs() - 1, Some(1))),
            Direction::Absolute(count @ 1..) => {
                let count = count.unsigned_abs();
                let rows = self.rows + u64::from(self.at_end);
                match count - 1 <= self.rows / 2 {
                    true if is_untouched => Ok(wanted(count - 1, Some(1))),
                    false if count > rows => Ok(wanted(count - rows - 1, Some(1))),
                    true | false => Err(only_forward()),
                }
            }
            Direction::Absolute(0) if is_untouched => Ok(nothing),
            Direction::BackwardAll if is_untouched && moves => Ok(nothing),
            Direction::Forward(..0)
            | Direction::Backward(1..)
            | Direction::BackwardAll
            | Direction::Absolute(..=0)
            | Direction::Relative(..0) => Err(only_forward()),
        }
    }

    fn passed(&mut self, rows: u64, wanted: Option<u64>) {
        self.rows = self.rows.saturating_add(rows);
        self.at_start &= rows == 0;
        self.at_end |= wanted.is_none_or(|wanted| rows < wanted);
    }
}

impl Cursor {
    /// `columns` is the body of a shard's RowDescription.
    pub fn new(name: String, merger: Merger, columns: Bytes, shards: usize) -> Self {
        Self {
            name,
            merger,
            columns,
            formats: None,
            others: None,
            shards: vec![Shard::default(); shards],
            batch: FIRST_ROWS,
            place: Place::START,
            failed: false,
        }
    }

    /// As the servers know it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The RowDescription frame for a client that asks for these formats.
    ///
    /// # Errors
    /// 08P01 when they do not fit the columns.
    pub fn columns(&self, formats: &[i16]) -> Result<BytesMut, Error> {
        self.merger.columns(&self.columns, formats)
    }

    /// What a FETCH, or a MOVE, in such formats comes to. Unless there is an error, [`Cursor::take`] has to follow.
    ///
    /// # Errors
    /// 55000 where the rows would not come forward, or after a failure; 0A000 for other formats than before
    /// of rows that are collected, and for columns that are not merged in these.
    pub fn begin(
        &mut self,
        direction: Direction,
        moves: bool,
        formats: &[i16],
    ) -> Result<Wanted, Error> {
        let wanted = match self.failed {
            true => Err(Error::new(
                Fault::Client,
                "55000",
                "cursor over several shards cannot be run",
            )
            .detail("A FETCH from it has failed.")),
            false => self.place.wanted(direction, moves),
        };
        let wanted = wanted.and_then(|wanted| {
            // What is passed over has no format for the client.
            let formats = match (moves, &self.formats) {
                (true, Some(known)) => known.clone(),
                (true | false, _) => formats.to_vec(),
            };
            self.take_formats(formats)?;
            Ok(wanted)
        });
        self.failed |= wanted.is_err();
        wanted
    }

    fn take_formats(&mut self, formats: Vec<i16>) -> Result<(), Error> {
        match &self.formats {
            Some(known) if *known == formats => {
                self.others = None;
                Ok(())
            }
            Some(_) if self.merger.collects() => Err(other_format()),
            Some(_) => {
                self.others = Some(formats);
                Ok(())
            }
            None => self.describe(formats),
        }
    }

    fn describe(&mut self, formats: Vec<i16>) -> Result<(), Error> {
        let columns = self.columns.clone();
        self.merger
            .row_description_with_formats(0, &columns, &formats)?;
        self.formats = Some(formats);
        for shard in &mut self.shards {
            shard.described = false;
        }
        Ok(())
    }

    /// Rows come in other formats from now on: the shards go back to before those that were read ahead.
    async fn change_formats(&mut self, servers: &mut [&mut Server]) -> Result<(), Error> {
        let Some(formats) = self.others.take() else {
            return Ok(());
        };
        let ahead = self.merger.forget_ahead();
        for ((server, shard), rows) in servers.iter_mut().zip(&mut self.shards).zip(ahead) {
            if rows > 0 {
                // The end is a place of its own.
                let back = rows + u64::from(std::mem::take(&mut shard.ended));
                let sql = format!("MOVE BACKWARD {back} FROM {}", self.name);
                match server.run_hidden(&sql).await {
                    Err(error) if error.code == "55000" => return Err(other_format()),
                    moved => moved?,
                }
            }
        }
        self.describe(formats)
    }

    /// Brings at most `rows` (`None`: all) to `sink`. Answers how many there were.
    ///
    /// # Errors
    /// Which side broke, or a shard's own error.
    pub async fn take(
        &mut self,
        client: &mut Conn,
        servers: &mut [&mut Server],
        rows: Option<u64>,
        sink: &mut Sink<'_>,
    ) -> Result<u64, Broken> {
        let mut given = 0;
        self.failed = true;
        if !self.place.at_end {
            self.change_formats(servers).await.map_err(Broken::Server)?;
        }
        while !self.place.at_end && rows.is_none_or(|rows| given < rows) {
            match self.merger.step().map_err(Broken::Server)? {
                Step::Row(row) => {
                    given += 1;
                    sink.give(client, &row).await?;
                }
                Step::Need(shard) => {
                    let left = rows.map(|rows| rows - given);
                    self.ask(client, servers, shard, left).await?;
                }
                Step::Done => break,
            }
        }
        self.failed = false;
        if !self.place.at_end && rows != Some(0) {
            self.place.passed(given, rows);
        }
        Ok(given)
    }

    /// Gets rows of `needed`, and of others that the merge waits for.
    async fn ask(
        &mut self,
        client: &mut Conn,
        servers: &mut [&mut Server],
        needed: usize,
        left: Option<u64>,
    ) -> Result<(), Broken> {
        let count = match self.merger.collects() {
            true => None,
            false => Some(left.map_or(self.batch, |left| left.min(self.batch))),
        };
        let mut asked = VecDeque::new();
        for (at, server) in servers.iter_mut().enumerate() {
            let wants = at == needed || self.merger.waits_for(at);
            if wants && !self.shards[at].ended {
                self.request(server, count, !self.shards[at].described);
                asked.push_back(at);
            }
        }
        let mut got = (0, 0);
        poll_fn(|cx| {
            loop {
                let mut progress = Poll::Pending;
                let mut at = 0;
                while let Some(shard) = asked.get(at).copied() {
                    let server = &mut servers[shard];
                    let polled = self.poll_shard(cx, shard, server, count, &mut got);
                    match polled.map_err(Broken::Server)? {
                        Poll::Pending => at += 1,
                        Poll::Ready(is_done) => {
                            progress = Poll::Ready(());
                            if is_done {
                                asked.remove(at);
                            } else {
                                at += 1;
                            }
                        }
                    }
                }
                if asked.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                if progress.is_pending() {
                    return poll_gone(cx, client);
                }
            }
        })
        .await?;
        let (rows, bytes) = got;
        if rows > 0 {
            let fit = BATCH_BYTES as u64 * rows / (bytes as u64).max(1);
            self.batch = fit.clamp(1, MOST_ROWS);
        }
        Ok(())
    }

    fn request(&self, server: &mut Server, count: Option<u64>, describe: bool) {
        server.begin_exchange();
        server.unnamed = None;
        let count = count.map_or("ALL".to_owned(), |count| count.to_string());
        let sql = format!("FETCH FORWARD {count} FROM {}", self.name);
        let formats = self.formats.as_deref().unwrap_or_default();
        let out = &mut server.conn.outbox;
        write::parse(out, b"", sql.as_bytes(), &[]);
        let mut rest = BytesMut::from(&[0, 0, 0, 0][..]);
        super::gather::put_formats(&mut rest, &shard_formats(formats, self.merger.hidden()));
        write::bind(out, b"", b"", &rest);
        if describe {
            write::describe(out, b'P', b"");
        }
        write::execute(out, b"", 0);
        out.put_slice(write::SYNC);
        server.expect.push_back(Expect::Ready { show: false });
    }

    /// True once the shard has sent all that it was asked for. Counts rows and their bytes.
    fn poll_shard(
        &mut self,
        cx: &mut Context<'_>,
        shard: usize,
        server: &mut Server,
        count: Option<u64>,
        got: &mut (u64, usize),
    ) -> Result<Poll<bool>, Error> {
        if let Poll::Ready(Err(e)) = server.conn.poll_drain(cx) {
            return Err(server.lost(&e.to_string()));
        }
        match server.conn.poll_fill(cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Ok(0)) => return Err(server.lost("the server closed it")),
            Poll::Ready(Err(e)) => return Err(server.lost(&e.to_string())),
            Poll::Ready(Ok(_)) => {}
        }
        while let Some((tag, body)) = server.next_frame()? {
            match tag {
                b'T' => {
                    self.merger.row_description(shard, &body)?;
                    self.shards[shard].described = true;
                }
                b'D' => {
                    *got = (got.0 + 1, got.1 + body.len());
                    self.merger.push(shard, body)?;
                }
                b'C' => {
                    let rows = std::str::from_utf8(&body).unwrap_or_default();
                    let rows = rows.trim_end_matches('\0').rsplit(' ').next();
                    let rows: Option<u64> = rows.and_then(|rows| rows.parse().ok());
                    if count.is_none() || rows < count {
                        self.shards[shard].ended = true;
                        self.merger.end(shard);
                    }
                }
                b'Z' => return Ok(Poll::Ready(true)),
                b'E' => {
                    let error = server.error.clone();
                    return Err(error.unwrap_or_else(|| server.lost("it failed")));
                }
                b'1' | b'2' | b'N' | b'S' | b'A' => {}
                other => return Err(server.unexpected(other)),
            }
        }
        Ok(Poll::Ready(false))
    }
}

/// Runs a text that returns no rows on every server, all at the same time. The client sees nothing of it.
///
/// # Errors
/// What the first of them to fail says, or its loss; all have ended then.
pub async fn run_on_each(
    servers: &mut [&mut Server],
    request: &Request<'_>,
) -> Result<(), (usize, Error)> {
    for server in servers.iter_mut() {
        server.begin_exchange();
        server.unnamed = None;
        let out = &mut server.conn.outbox;
        write::parse(out, b"", request.sql, request.types);
        write::bind(out, b"", b"", request.bind_rest);
        write::execute(out, b"", 0);
        out.extend_from_slice(write::SYNC);
        server.expect.push_back(Expect::Ready { show: false });
    }
    // All have it before any is waited for.
    poll_fn(|cx| {
        for server in servers.iter_mut() {
            // One that is lost is found out below.
            let _ = server.conn.poll_drain(cx);
        }
        Poll::Ready(())
    })
    .await;
    let mut failed = None;
    for (at, server) in servers.iter_mut().enumerate() {
        if let Err(error) = finished(server).await {
            failed.get_or_insert((at, error));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Reads what a server owes of a text that returns no rows.
///
/// # Errors
/// What it says, or its loss.
pub async fn finished(server: &mut Server) -> Result<(), Error> {
    loop {
        while let Some((tag, _)) = server.next_frame()? {
            match tag {
                b'Z' => {
                    let error = server.error.clone();
                    return error.map_or(Ok(()), Err);
                }
                b'1' | b'2' | b'n' | b'C' | b'E' | b'N' | b'S' | b'A' => {}
                other => return Err(server.unexpected(other)),
            }
        }
        server.exchange().await?;
    }
}

/// As PostgreSQL says it of a cursor that it made without SCROLL.
fn only_forward() -> Error {
    Error::new(Fault::Client, "55000", "cursor can only scan forward")
        .detail("Its rows are merged from several shards as they come.")
        .hint("Declare it with SCROLL option to enable backward scan.")
}

fn other_format() -> Error {
    planner::Refusal::unsupported(
        "FETCH of a cursor over several shards in another format than before",
        "Rows that were read ahead are in that format, and the shards cannot go back.",
        "Ask for all rows as text, or for all in binary format; SCROLL makes a cursor that takes both.",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The place that rows are fetched from, and what PostgreSQL makes of it then.
    #[test]
    fn forward_is_every_way_that_ends_ahead() {
        let at = |rows: u64, at_end: bool| Place {
            rows,
            at_start: rows == 0,
            at_end,
        };
        use Direction::{Absolute, Backward, BackwardAll, Forward, ForwardAll, Relative};
        for (place, direction, wanted) in [
            (at(0, false), Forward(3), Ok((0, Some(3)))),
            (at(0, false), Backward(-3), Ok((0, Some(3)))),
            (at(2, false), ForwardAll, Ok((0, None))),
            (at(2, false), Relative(3), Ok((2, Some(1)))),
            (at(2, false), Relative(-1), Err("55000")),
            (at(0, false), Absolute(1), Ok((0, Some(1)))),
            (at(0, false), Absolute(4), Ok((3, Some(1)))),
            (at(4, false), Absolute(5), Ok((0, Some(1)))),
            (at(4, false), Absolute(4), Err("55000")),
            (at(4, true), Absolute(5), Err("55000")),
            (at(4, true), Absolute(7), Ok((1, Some(1)))),
            (at(4, false), Absolute(1), Err("55000")),
            (at(0, false), Absolute(0), Ok((0, Some(0)))),
            (at(1, false), Absolute(0), Err("55000")),
            (at(0, false), Absolute(-1), Err("55000")),
            (at(0, false), Forward(0), Ok((0, Some(0)))),
            (at(1, false), Forward(0), Err("55000")),
            (at(1, true), Relative(0), Ok((0, Some(0)))),
            (at(0, false), Backward(1), Err("55000")),
            (at(0, false), BackwardAll, Err("55000")),
        ] {
            let found = place.wanted(direction, false);
            let found = found.map(|wanted| (wanted.skip, wanted.take));
            let found = found.map_err(|error| error.code.to_string());
            assert_eq!(
                found,
                wanted.map_err(str::to_owned),
                "{place:?} {direction:?}"
            );
        }
        let moved = |place: Place, direction| place.wanted(direction, true).unwrap();
        assert!(moved(at(1, false), Forward(0)).counts);
        assert!(!moved(at(1, true), Forward(0)).counts);
        assert_eq!(moved(at(0, false), BackwardAll).take, Some(0));
    }
}
