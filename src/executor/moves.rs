//! Rows that an UPDATE of the sharding key gives to another shard; see [`planner::moving`].
//!
//! The transaction is the caller's, on all shards concerned. When all have run the UPDATE, the rows that
//! belong elsewhere now are deleted by where they lie, and inserted, in binary format, by their columns'
//! names. Nothing else of the session could have touched them in between but a trigger, which the count
//! of deleted rows tells.
//!
//! Of all constraints only a foreign key may refuse a row where it was and not where it goes: what it
//! refers to is there. A transaction of the statement's own defers all of them to its end. In one of the
//! client's, which of them wait is the client's to say.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use planner::moving::{Move, PLACE};
use planner::{ShardId, ShardSet, Topology};

use super::broadcast::{self, Answer, Requests};
use crate::backend::server::Server;
use crate::error::{Error, Fault};
use crate::wire::frame::{self, HEADER};
use crate::wire::write;

/// Bytes of rows that are sent to where they go in one exchange.
const SHARE: usize = 1 << 20;

/// Begins a transaction that is only there to move rows.
pub const BEGIN: &str = "BEGIN; SET CONSTRAINTS ALL DEFERRED";
/// Where the UPDATE begins in a transaction that is not. No client names its own so.
const SAVEPOINT: &str = "\"ringway: rows that move\"";
const FOREIGN_KEY_VIOLATION: &str = "23503";

/// What an UPDATE of the key leaves to be done.
#[derive(Debug, Clone)]
pub struct Moves {
    pub moving: Move,
    /// The shards that run the UPDATE.
    pub from: ShardSet,
    pub topology: Topology,
    /// Bytes of what the UPDATE returns and of rows on their way.
    pub memory: usize,
}

/// Rows that leave one table of one shard for another shard: their ctids.
type Leaving = BTreeMap<(u32, ShardId), Vec<String>>;

/// Rows on their way to a shard: the types of their columns, and their DataRow bodies.
#[derive(Debug)]
struct Batch {
    types: Vec<u32>,
    rows: Vec<Bytes>,
}

impl Moves {
    /// Runs the UPDATE, `requests`, and moves the rows, within a transaction of the client's. After that each
    /// constraint is checked when the client wants it to be.
    ///
    /// # Errors
    /// As [`Moves::carry_out`].
    pub async fn run_within(
        &self,
        servers: &mut [&mut Server],
        shards: &[ShardId],
        requests: &Requests,
    ) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::with_capacity(servers.len());
        let mut waiting = Vec::with_capacity(servers.len());
        for (at, server) in servers.iter_mut().enumerate() {
            let request = requests.of(at);
            let (answer, deferred) = self.update_within(server, request, &answers).await?;
            answers.push(answer);
            waiting.push(deferred);
        }
        let left = self.carry_out(servers, shards, answers).await?;
        for (server, deferred) in servers.iter_mut().zip(waiting) {
            if !deferred.is_empty() {
                // This checks the rows that have stayed.
                let sql = format!("SET CONSTRAINTS {} IMMEDIATE", deferred.join(", "));
                server.run_hidden(&sql).await?;
            }
        }
        Ok(left)
    }

    /// Runs an UPDATE of the key, and tells which foreign keys had to be deferred for it.
    ///
    /// No server tells whether a client has deferred a constraint, perhaps by a function; only that it was
    /// checked at once. So one that refuses a row is deferred, and the UPDATE is run again.
    async fn update_within(
        &self,
        server: &mut Server,
        request: &[u8],
        answers: &[Answer],
    ) -> Result<(Answer, Vec<String>), Error> {
        let mut deferred: Vec<String> = Vec::new();
        if request.is_empty() {
            return Ok((Answer::default(), deferred));
        }
        server.run_hidden(&format!("SAVEPOINT {SAVEPOINT}")).await?;
        loop {
            let error = match self.update(server, request, answers).await {
                Ok(answer) => {
                    let sql = format!("RELEASE SAVEPOINT {SAVEPOINT}");
                    server.run_hidden(&sql).await?;
                    return Ok((answer, deferred));
                }
                Err(error) => error,
            };
            let foreign_key = match &*error.code {
                FOREIGN_KEY_VIOLATION => named(&error),
                _ => None,
            };
            let Some(foreign_key) = foreign_key.filter(|name| !deferred.contains(name)) else {
                return Err(error);
            };
            let sql = format!(
                "ROLLBACK TO SAVEPOINT {SAVEPOINT}; SET CONSTRAINTS {foreign_key} DEFERRED"
            );
            // One that is not deferrable means what it says.
            server.run_hidden(&sql).await.map_err(|_| error)?;
            deferred.push(foreign_key);
        }
    }

    /// Runs the UPDATE on one server; `answers` are those of the ones before.
    ///
    /// # Errors
    /// The server's; 53200 where rows are too many.
    pub async fn update(
        &self,
        server: &mut Server,
        request: &[u8],
        answers: &[Answer],
    ) -> Result<Answer, Error> {
        let room = self.memory.saturating_sub(held(answers));
        broadcast::ask_within(server, request, room, too_many).await
    }

    /// Moves the rows. `answers` are those to the UPDATE, by server; the client's is what is left of
    /// them.
    ///
    /// # Errors
    /// What a server says of the rows; 55000 where they are not what the UPDATE returned, 53200 where
    /// they are too many.
    pub async fn carry_out(
        &self,
        servers: &mut [&mut Server],
        shards: &[ShardId],
        answers: Vec<Answer>,
    ) -> Result<Vec<Answer>, Error> {
        let mut left = Vec::with_capacity(answers.len());
        let mut arriving: BTreeMap<ShardId, Vec<Batch>> = BTreeMap::new();
        let mut room = self.memory.saturating_sub(held(&answers));
        let sources = answers.into_iter().zip(shards).enumerate();
        for (at, (mut answer, shard)) in sources {
            if !self.from.as_slice().contains(shard) {
                continue;
            }
            let leaving = self.take_places(&mut answer, *shard)?;
            left.push(answer);
            for ((table, to), places) in leaving {
                if !shards.contains(&to) {
                    return Err(unforeseen());
                }
                let batch = self.remove(servers[at], table, &places, room).await?;
                room = room.saturating_sub(batch.rows.iter().map(Bytes::len).sum());
                arriving.entry(to).or_default().push(batch);
            }
        }
        for (server, shard) in servers.iter_mut().zip(shards) {
            for batch in arriving.remove(shard).unwrap_or_default() {
                self.insert(server, batch).await?;
            }
        }
        Ok(left)
    }

    /// Takes the hidden columns out of an answer, and tells which rows have to leave.
    fn take_places(&self, answer: &mut Answer, shard: ShardId) -> Result<Leaving, Error> {
        let hidden = self.moving.hidden();
        let mut leaving = Leaving::new();
        let mut shown = BytesMut::new();
        let mut rows = std::mem::take(&mut answer.rows).freeze();
        while let Some(header) = frame::peek(&rows).map_err(|_| malformed())? {
            let row = rows.split_to(header.len.min(rows.len()));
            let fields = fields(row.get(HEADER..).unwrap_or_default())?;
            let Some(own) = fields.len().checked_sub(hidden) else {
                return Err(malformed());
            };
            let (own, places) = fields.split_at(own);
            let text = |at: usize| {
                let value = places.get(at).copied().flatten();
                value.and_then(|value| std::str::from_utf8(value).ok())
            };
            let key: Option<Vec<_>> = places[PLACE..]
                .iter()
                .map(|value| match value {
                    None => Some(None),
                    Some(digits) => from_hex(digits).map(Some),
                })
                .collect();
            let owner = self
                .moving
                .owner(&key.ok_or_else(malformed)?, &self.topology)?;
            if owner != shard {
                let table = text(0).and_then(|oid| oid.parse().ok());
                let table = table.ok_or_else(malformed)?;
                // A ctid is two numbers; it is written into a text.
                let place = text(1).filter(|place| {
                    place
                        .bytes()
                        .all(|byte| byte.is_ascii_digit() || b"(,)".contains(&byte))
                });
                let place = place.ok_or_else(malformed)?.to_owned();
                leaving.entry((table, owner)).or_default().push(place);
            }
            if self.moving.returns {
                write::frame(&mut shown, b'D', |out| {
                    out.put_u16(own.len() as u16);
                    own.iter().for_each(|value| put_value(out, *value));
                });
            }
        }
        answer.rows = shown;
        answer.columns = match self.moving.returns {
            true => without_last(&answer.columns, hidden)?,
            false => BytesMut::from(write::NO_DATA),
        };
        Ok(leaving)
    }

    /// Deletes rows of one table, and answers what they were.
    async fn remove(
        &self,
        server: &mut Server,
        table: u32,
        places: &[String],
        room: usize,
    ) -> Result<Batch, Error> {
        let Move {
            table: name,
            columns,
            ..
        } = &self.moving;
        let sql = format!(
            "DELETE FROM {name} WHERE tableoid = {table} AND ctid = ANY ('{{\"{}\"}}') RETURNING {}",
            places.join("\",\""),
            columns.join(", ")
        );
        let mut request = BytesMut::new();
        // No parameters; all results in binary format.
        let bind_rest = [0, 0, 0, 0, 0, 1, 0, 1];
        broadcast::extended(&mut request, sql.as_bytes(), &[], &bind_rest);
        let answer = broadcast::ask_within(server, &request, room, too_many).await?;
        let types = types_of(&answer.columns)?;
        let mut rest = answer.rows.freeze();
        let mut rows = Vec::with_capacity(places.len());
        while let Some(header) = frame::peek(&rest).map_err(|_| malformed())? {
            let mut row = rest.split_to(header.len.min(rest.len()));
            row.advance(HEADER.min(row.len()));
            rows.push(row);
        }
        match rows.len() == places.len() {
            true => Ok(Batch { types, rows }),
            false => Err(touched()),
        }
    }

    /// One INSERT, executed for each row: its DataRow is what Bind takes.
    async fn insert(&self, server: &mut Server, batch: Batch) -> Result<(), Error> {
        let Move { table, columns, .. } = &self.moving;
        let values = (1..=columns.len()).map(|number| format!("${number}"));
        let sql = format!(
            "INSERT INTO {table} ({}) OVERRIDING SYSTEM VALUE VALUES ({})",
            columns.join(", "),
            values.collect::<Vec<_>>().join(", ")
        );
        let mut rows = batch.rows.into_iter().peekable();
        let (mut request, mut rest) = (BytesMut::new(), BytesMut::new());
        while rows.peek().is_some() {
            request.clear();
            write::parse(&mut request, b"", sql.as_bytes(), &batch.types);
            while request.len() < SHARE
                && let Some(row) = rows.next()
            {
                rest.clear();
                // All values in binary format, no results.
                rest.put_slice(&[0, 1, 0, 1]);
                rest.put_slice(&row);
                rest.put_u16(0);
                write::bind(&mut request, b"", b"", &rest);
                write::execute(&mut request, b"", 0);
            }
            request.extend_from_slice(write::SYNC);
            broadcast::ask(server, &request).await?;
        }
        Ok(())
    }
}

/// A foreign key as SET CONSTRAINTS names it.
fn named(error: &Error) -> Option<String> {
    let object = error.object.as_ref()?;
    let quoted =
        |name: &Option<String>| Some(format!("\"{}\"", name.as_ref()?.replace('"', "\"\"")));
    let (schema, name) = (quoted(&object.schema)?, quoted(&object.constraint)?);
    Some(format!("{schema}.{name}"))
}

fn put_value(out: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        Some(bytes) => {
            out.put_i32(bytes.len() as i32);
            out.put_slice(bytes);
        }
        None => out.put_i32(-1),
    }
}

/// The values of a DataRow.
pub(super) fn fields(mut body: &[u8]) -> Result<Vec<Option<&[u8]>>, Error> {
    let count = frame::u16(&mut body).ok_or_else(malformed)?;
    let mut fields = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let length = frame::i32(&mut body).ok_or_else(malformed)?;
        fields.push(match usize::try_from(length) {
            Ok(length) => {
                let (value, rest) = body.split_at_checked(length).ok_or_else(malformed)?;
                body = rest;
                Some(value)
            }
            Err(_) => None,
        });
    }
    Ok(fields)
}

/// What is told of each column behind its name.
const COLUMN_TAIL: usize = 18;

/// The columns of a RowDescription frame: each with its name.
fn columns_of(described: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let mut body = described.get(HEADER..).ok_or_else(malformed)?;
    let count = frame::u16(&mut body).ok_or_else(malformed)?;
    let mut columns = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let name = body.iter().position(|byte| *byte == 0);
        let length = name.ok_or_else(malformed)? + 1 + COLUMN_TAIL;
        let (column, rest) = body.split_at_checked(length).ok_or_else(malformed)?;
        columns.push(column);
        body = rest;
    }
    Ok(columns)
}

fn without_last(described: &[u8], hidden: usize) -> Result<BytesMut, Error> {
    let columns = columns_of(described)?;
    let kept = columns.len().checked_sub(hidden).ok_or_else(malformed)?;
    let mut out = BytesMut::new();
    write::frame(&mut out, b'T', |out| {
        out.put_u16(kept as u16);
        columns[..kept]
            .iter()
            .for_each(|column| out.put_slice(column));
    });
    Ok(out)
}

/// The types to declare for parameters that hold values of these columns; those of users have other OIDs
/// on each server, and their columns tell.
fn types_of(described: &[u8]) -> Result<Vec<u32>, Error> {
    const FIRST_USER_TYPE: u32 = 16384;
    let of = |column: &[u8]| {
        // Behind the name: the table's OID and the column's number.
        let mut tail = &column[column.len() - COLUMN_TAIL + 6..];
        frame::i32(&mut tail).map_or(0, |oid| oid as u32)
    };
    let types = columns_of(described)?.into_iter().map(of);
    Ok(types
        .map(|oid| if oid < FIRST_USER_TYPE { oid } else { 0 })
        .collect())
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

fn malformed() -> Error {
    Error::new(Fault::Server, "08P01", "a shard sent a malformed row")
}

fn too_many() -> Error {
    let message = "an update of the sharding key needs too much memory";
    Error::new(Fault::Client, "53200", message)
        .detail("What it returns and the rows that move to other shards are held until all are where they belong.")
        .hint("Update fewer rows at once, or raise merge_memory_mib.")
}

fn held(answers: &[Answer]) -> usize {
    answers.iter().map(|answer| answer.rows.len()).sum()
}

fn touched() -> Error {
    let message = "rows that were to move to another shard are not as they were updated";
    Error::new(Fault::Operator, "55000", message)
        .detail("A trigger changed them again, or a policy hides them.")
        .hint("DELETE the rows and INSERT them with the new key, in one transaction.")
}

fn unforeseen() -> Error {
    let message = "a row got another sharding key than the statement gave it";
    Error::new(Fault::Operator, "55000", message)
        .detail("A trigger changed it, and the row would belong to a shard that takes no part.")
        .hint("DELETE the row and INSERT it with the new key, in one transaction.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_columns_that_lie_are_refused() {
        let row = [0, 2, 0, 0, 0, 1, b'x', 0xff, 0xff, 0xff, 0xff];
        assert_eq!(fields(&row).unwrap(), [Some(&b"x"[..]), None]);
        for end in 0..row.len() {
            assert_eq!(fields(&row[..end]).unwrap_err().code, "08P01", "{end}");
        }
        let mut described = BytesMut::new();
        write::frame(&mut described, b'T', |out| {
            out.put_u16(2);
            for (name, oid) in [(&b"a\0"[..], 23), (b"b\0", 20000)] {
                out.put_slice(name);
                out.put_slice(&[0; 6]);
                out.put_i32(oid);
                out.put_slice(&[0; 8]);
            }
        });
        assert_eq!(types_of(&described).unwrap(), [23, 0]);
        let kept = without_last(&described, 1).unwrap();
        assert_eq!(types_of(&kept).unwrap(), [23]);
        assert_eq!(without_last(&described, 3).unwrap_err().code, "08P01");
        for end in 0..described.len() {
            assert_eq!(
                types_of(&described[..end]).unwrap_err().code,
                "08P01",
                "{end}"
            );
        }
    }

    #[test]
    fn keys_come_in_hexadecimal_digits() {
        assert_eq!(from_hex(b"00ff1a"), Some(vec![0, 255, 26]));
        assert_eq!(from_hex(b""), Some(vec![]));
        assert_eq!(from_hex(b"0"), None);
        assert_eq!(from_hex(b"zz"), None);
    }
}
