//! Rows of several shards brought to one server, which runs the client's own text over them.
//!
//! First that server says what the client's text returns and whether the text that runs over
//! gathered rows returns the same; nothing is gathered before. Then each shard gives its rows in
//! binary format, a table's row as one value, and they become arrays of rows: parameters of the
//! text. [`Run`] reads its answer.

use std::collections::HashSet;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use planner::gather::{Ask, Gathering};
use planner::merge::MergePlan;

use super::describe::{self, Described};
use super::merge::{Memory, Merger, are_alike};
use super::scatter::Run;
use crate::backend::server::{Expect, Server};
use crate::error::{Error, Fault};
use crate::wire::frame::{self, Header};
use crate::wire::frontend::LARGEST;
use crate::wire::write;

/// The client's values of one execution.
#[derive(Debug, Clone, Default)]
pub struct Values {
    /// One for each of `values`.
    pub formats: Vec<i16>,
    pub values: Vec<Option<Bytes>>,
    pub result_formats: Vec<i16>,
}

impl Values {
    /// # Errors
    /// There are not as many as the text wants, in PostgreSQL's words.
    pub(super) fn check_count(&self, wanted: usize, is_simple: bool) -> Result<(), Error> {
        let supplied = self.values.len();
        if supplied == wanted {
            return Ok(());
        }
        Err(match is_simple {
            true => Error::new(Fault::Client, "42P02", "there is no parameter $1"),
            false => {
                let message = format!(
                    "bind message supplies {supplied} parameters, but prepared statement \"\" requires {wanted}"
                );
                Error::new(Fault::Client, "08P01", message)
            }
        })
    }
}

/// The rows of one source: the elements of an array in binary format.
#[derive(Debug, Default)]
pub(super) struct Rows {
    count: u32,
    elements: BytesMut,
}

impl Rows {
    /// A value in a row is written as an element of an array is: its length, then itself.
    pub(super) fn push(&mut self, value: Option<&[u8]>) {
        self.count += 1;
        put_value(&mut self.elements, value);
    }

    /// In bytes.
    pub(super) fn size(&self) -> usize {
        self.elements.len()
    }
}

/// The rows of all sources.
#[derive(Debug)]
pub struct Gathered(Vec<Rows>);

/// Has a server describe the client's text and the one that will run over gathered rows.
///
/// # Errors
/// What is wrong with the client's text, in the server's words; 0A000 when it cannot run over
/// gathered rows or would return something else.
pub async fn describe_both(
    server: &mut Server,
    sql: &[u8],
    gathering: &Gathering,
    types: &[u32],
) -> Result<Described, Error> {
    let mut found = Vec::new();
    let texts = [sql, &gathering.finish];
    let outcome = describe::each(server, &texts, types, &mut found).await;
    let mut found = found.into_iter();
    match (outcome, found.next(), found.next()) {
        (Ok(()), Some(whole), Some(finish)) => {
            let return_nothing = whole.columns.is_empty() && finish.columns.is_empty();
            match return_nothing || are_alike(&whole.columns, &finish.columns)? {
                true => Ok(whole),
                false => Err(cannot_finish().detail("It would return other columns.")),
            }
        }
        (Err(error), Some(_), None) if !error.is_fatal() && error.fault == Fault::Server => {
            Err(cannot_finish().detail(format!("PostgreSQL says: {}.", error.message)))
        }
        (Err(error), None, None) if error.code == UNDEFINED_TABLE && gathering.has_single => {
            let message = &error.message;
            Err(cannot_finish()
                .detail(format!(
                    "No shard has all of its tables. PostgreSQL says: {message}."
                ))
                .hint("Read the tables that are on one shard by themselves."))
        }
        (Err(error), ..) => Err(error),
        (Ok(()), ..) => Err(Error::new(
            Fault::Server,
            "08P01",
            "a server did not describe a query",
        )),
    }
}

pub(super) const UNDEFINED_TABLE: &str = "42P01";

fn cannot_finish() -> Error {
    Error::new(
        Fault::Client,
        "0A000",
        "this query cannot run over rows gathered from several shards",
    )
    .hint("Gathered rows have no system columns and no keys: name all columns in GROUP BY, and qualify columns with the table's name or alias alone.")
}

/// Asks each server for its rows; `asks` are in the order of `servers`. `types` are those of the
/// client's parameters.
///
/// # Errors
/// A server's error or loss, 53200 above what `memory` allows.
pub async fn gather(
    servers: &mut [&mut Server],
    asks: &[&Ask],
    sources: usize,
    types: &[u32],
    values: &Values,
    memory: Memory,
) -> Result<Gathered, Error> {
    for (server, ask) in servers.iter_mut().zip(asks) {
        request(server, ask, types, values);
    }
    let mut arriving = Arriving {
        rows: std::iter::repeat_with(Rows::default)
            .take(sources)
            .collect(),
        ready: vec![false; servers.len()],
        memory,
    };
    poll_fn(|cx| {
        loop {
            if arriving.ready.iter().all(|ready| *ready) {
                return Poll::Ready(Ok::<(), Error>(()));
            }
            if arriving.poll(cx, servers, asks)?.is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await?;
    Ok(Gathered(arriving.rows))
}

fn request(server: &mut Server, ask: &Ask, types: &[u32], values: &Values) {
    /// Rows come in binary format.
    const BINARY: [i16; 1] = [1];
    server.begin_exchange();
    server.unnamed = None;
    let out = &mut server.conn.outbox;
    write::parse(out, b"", &ask.sql, &declared(types, &ask.sql));
    let given = mentioned_values(values, &ask.sql);
    write::frame(out, b'B', |out| {
        out.put_slice(&[0, 0]);
        put_formats(out, &values.formats);
        out.put_u16(given.len() as u16);
        given
            .iter()
            .for_each(|value| put_value(out, value.as_deref()));
        put_formats(out, &BINARY);
    });
    write::execute(out, b"", 0);
    out.extend_from_slice(write::SYNC);
    server.expect.push_back(Expect::Ready { show: false });
}

/// The types to declare for the parameters of another text than the client's. What it does not mention
/// has no type there; what it mentions may be of a type of users, whose OID is another on each server.
pub(super) fn declared(types: &[u32], sql: &[u8]) -> Vec<u32> {
    let mentioned = mentioned(sql);
    let all = types.iter().enumerate();
    all.map(
        |(at, oid)| match (mentioned.contains(&(at + 1)), is_built_in(*oid)) {
            (true, true) => *oid,
            (true, false) => 0,
            (false, _) => TEXT,
        },
    )
    .collect()
}

/// The values to give to such a text.
pub(super) fn mentioned_values(values: &Values, sql: &[u8]) -> Vec<Option<Bytes>> {
    let mentioned = mentioned(sql);
    let all = values.values.iter().enumerate();
    all.map(|(at, value)| value.clone().filter(|_| mentioned.contains(&(at + 1))))
        .collect()
}

const TEXT: u32 = 25;

fn is_built_in(oid: u32) -> bool {
    const FIRST_USER_TYPE: u32 = 16384;
    oid < FIRST_USER_TYPE
}

/// The numbers of the parameters `$1`, `$2` and so on that stand in the text. In a string or comment they
/// count too.
fn mentioned(sql: &[u8]) -> HashSet<usize> {
    let number = |at: usize| {
        let rest = &sql[at + 1..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
    };
    memchr::memchr_iter(b'$', sql).filter_map(number).collect()
}

pub(super) fn put_formats(out: &mut BytesMut, formats: &[i16]) {
    out.put_u16(formats.len() as u16);
    formats.iter().for_each(|format| out.put_i16(*format));
}

pub(super) fn put_value(out: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        Some(bytes) => {
            out.put_i32(bytes.len() as i32);
            out.put_slice(bytes);
        }
        None => out.put_i32(-1),
    }
}

struct Arriving {
    rows: Vec<Rows>,
    ready: Vec<bool>,
    memory: Memory,
}

impl Arriving {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        servers: &mut [&mut Server],
        asks: &[&Ask],
    ) -> Result<Poll<()>, Error> {
        let mut progress = Poll::Pending;
        for (index, server) in servers.iter_mut().enumerate() {
            if self.ready[index] {
                continue;
            }
            if let Poll::Ready(Err(e)) = server.conn.poll_drain(cx) {
                return Err(server.lost(&e.to_string()));
            }
            match server.conn.poll_fill(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(0)) => {
                    return Err(server.lost("the server closed it"));
                }
                Poll::Ready(Err(e)) => return Err(server.lost(&e.to_string())),
                Poll::Ready(Ok(_)) => {
                    progress = Poll::Ready(());
                    self.take_frames(index, server, asks[index])?;
                }
            }
        }
        Ok(progress)
    }

    fn take_frames(&mut self, index: usize, server: &mut Server, ask: &Ask) -> Result<(), Error> {
        while let Some((tag, body)) = server.next_frame()? {
            match tag {
                b'D' => self.take_row(&body, ask)?,
                b'Z' => self.ready[index] = true,
                b'E' => {
                    let error = server.error.clone();
                    return Err(error.unwrap_or_else(|| server.lost("it failed")));
                }
                b'N' => server.heed(&body)?,
                b'1' | b'2' | b'C' | b'S' | b'A' => {}
                other => return Err(server.unexpected(other)),
            }
        }
        // What is above the limit by itself need not be read whole to be refused.
        match frame::peek(&server.conn.inbox)? {
            Some(Header { tag: b'D', len }) => self.memory.check(len),
            Some(_) | None => Ok(()),
        }
    }

    /// A value in a row is written as an element of an array is: its length, then itself.
    fn take_row(&mut self, body: &[u8], ask: &Ask) -> Result<(), Error> {
        let malformed = || Error::new(Fault::Server, "08P01", "a shard sent a malformed row");
        let mut rest = body;
        let count = frame::u16(&mut rest).ok_or_else(malformed)?;
        if usize::from(count) != ask.columns.len() {
            return Err(malformed());
        }
        for source in &ask.columns {
            let whole = rest;
            let length = frame::i32(&mut rest).ok_or_else(malformed)?;
            if length < 0 {
                continue;
            }
            let element = whole.get(..4 + length as usize).ok_or_else(malformed)?;
            rest.advance(length as usize);
            self.memory.take(element.len())?;
            let rows = self.rows.get_mut(*source).ok_or_else(malformed)?;
            rows.count += 1;
            rows.elements.extend_from_slice(element);
        }
        Ok(())
    }
}

/// Starts the text that runs over gathered rows; `types` are those of the client's parameters.
///
/// # Errors
/// 54000 when the rows are more than one message can hold.
pub fn finish(
    server: &mut Server,
    sql: &[u8],
    types: &[u32],
    values: &Values,
    gathered: Gathered,
) -> Result<Run, Error> {
    send(server, sql, types, values, &gathered, Returns::Rows)?;
    Ok(Run::started(
        Merger::new(&MergePlan::default(), 1, None, 0, Memory::new(usize::MAX)),
        1,
    ))
}

/// What a text over gathered rows returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returns {
    Rows,
    /// DECLARE.
    Nothing,
}

/// Queues the text that runs over gathered rows, as [`finish`] does; its replies are owed then.
///
/// # Errors
/// As [`finish`].
pub fn send(
    server: &mut Server,
    sql: &[u8],
    types: &[u32],
    values: &Values,
    gathered: &Gathered,
    returns: Returns,
) -> Result<(), Error> {
    let mut size = values
        .values
        .iter()
        .flatten()
        .map(Bytes::len)
        .sum::<usize>();
    size += gathered
        .0
        .iter()
        .map(|rows| rows.elements.len())
        .sum::<usize>();
    const REST: usize = 1 << 20;
    let count = values.values.len() + gathered.0.len();
    if size > LARGEST - REST || count > usize::from(u16::MAX) {
        return Err(Error::new(
            Fault::Client,
            "54000",
            "a query over several shards gathers more than a server takes in one message",
        )
        .detail(format!(
            "It has {count} parameters and arrays of rows, {size} bytes."
        ))
        .hint("Use a narrower WHERE, or compare the sharding key with a constant."));
    }
    server.begin_exchange();
    server.unnamed = None;
    let out = &mut server.conn.outbox;
    // The rows' own types are written in the text.
    write::parse(out, b"", sql, types);
    let mut formats = values.formats.clone();
    formats.resize(count, 1);
    write::frame(out, b'B', |out| {
        out.put_slice(&[0, 0]);
        put_formats(out, &formats);
        out.put_u16(formats.len() as u16);
        values
            .values
            .iter()
            .for_each(|value| put_value(out, value.as_deref()));
        for rows in &gathered.0 {
            // The type of a table's rows is another on each server, and PostgreSQL goes by the type
            // that the parameter has.
            put_array(out, rows, 0);
        }
        put_formats(out, &values.result_formats);
    });
    if returns == Returns::Rows {
        write::describe(out, b'P', b"");
    }
    write::execute(out, b"", 0);
    out.extend_from_slice(write::SYNC);
    server.expect.push_back(Expect::Ready { show: false });
    Ok(())
}

/// `array_send` of one dimension, of elements of the type `element`.
pub(super) fn put_array(out: &mut BytesMut, rows: &Rows, element: u32) {
    let element = element as i32;
    let header: &[i32] = match rows.count {
        0 => &[0, 0, element],
        count => &[1, 0, element, count as i32, 1],
    };
    out.put_i32((4 * header.len() + rows.elements.len()) as i32);
    header.iter().for_each(|word| out.put_i32(*word));
    out.put_slice(&rows.elements);
}

#[cfg(test)]
mod tests {
    use planner::ShardId;

    use super::*;

    fn ask(columns: &[usize]) -> Ask {
        Ask {
            shard: ShardId(0),
            sql: b"SELECT x, $12 FROM y".to_vec(),
            columns: columns.to_vec(),
        }
    }

    fn arriving(sources: usize, cap: usize) -> Arriving {
        Arriving {
            rows: std::iter::repeat_with(Rows::default)
                .take(sources)
                .collect(),
            ready: vec![],
            memory: Memory::new(cap),
        }
    }

    #[test]
    fn parameters_are_found_by_their_whole_number() {
        let sql = ask(&[0]).sql;
        assert_eq!(mentioned(&sql), HashSet::from([12]));
        assert_eq!(mentioned(b"$1, '$2' $$ $3$4"), HashSet::from([1, 2, 3, 4]));
    }

    #[test]
    fn rows_become_the_elements_of_arrays() {
        let mut arriving = arriving(3, 1000);
        let row = [0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2, 7, 8];
        arriving.take_row(&row, &ask(&[2, 1])).unwrap();
        arriving.take_row(&row, &ask(&[2, 1])).unwrap();
        let arrays = arriving.rows.into_iter().map(|rows| {
            let mut out = BytesMut::new();
            put_array(&mut out, &rows, 0);
            out.to_vec()
        });
        let arrays: Vec<_> = arrays.collect();
        let words = |words: &[i32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_be_bytes()).collect()
        };
        let empty = words(&[12, 0, 0, 0]);
        let elements = [0, 0, 0, 2, 7, 8, 0, 0, 0, 2, 7, 8];
        let two = [&words(&[32, 1, 0, 0, 2, 1])[..], &elements].concat();
        assert_eq!(arrays, [empty.clone(), two, empty]);
    }

    #[test]
    fn rows_that_lie_or_are_too_many_are_refused() {
        let row = [0, 1, 0, 0, 0, 4, 1, 2, 3, 4];
        let code = |body: &[u8], columns: &[usize], cap| {
            let taken = arriving(1, cap).take_row(body, &ask(columns));
            taken.map_err(|error| error.code.to_string())
        };
        assert_eq!(code(&row, &[0], 8), Ok(()));
        assert_eq!(code(&row, &[0], 7), Err("53200".to_owned()));
        for end in 0..row.len() {
            assert_eq!(code(&row[..end], &[0], 8), Err("08P01".to_owned()), "{end}");
        }
        assert_eq!(code(&row, &[0, 0], 8), Err("08P01".to_owned()));
        assert_eq!(code(&row, &[1], 8), Err("08P01".to_owned()));
        let long = [0, 1, 0x7f, 0xff, 0xff, 0xff];
        assert_eq!(code(&long, &[0], 8), Err("08P01".to_owned()));
    }
}
