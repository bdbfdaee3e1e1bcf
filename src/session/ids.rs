//! Statements that take ids: in the simple protocol the text gets them as constants, in the extended
//! protocol as parameters behind the client's, of which the client knows nothing.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use planner::Values;
use planner::ids::{Ids, params_in};
use planner::shape::Shape;

use super::{Prepared, Session};
use crate::backend::server::Expect;
use crate::error::{Error, Fault};
use crate::wire::frame::HEADER;
use crate::wire::frontend::{self, Bind};
use crate::wire::write;

/// OID of int8.
const INT8: u32 = 20;
/// Parameters that a Bind can have.
const MAX_PARAMS: usize = u16::MAX as usize;

/// What a prepared statement that takes ids was before it got parameters for them.
#[derive(Debug)]
pub(super) struct TakesIds {
    /// As the client sent it.
    pub(super) sql: Box<[u8]>,
    /// Types that the client declared.
    pub(super) declared: usize,
    /// The client's parameters.
    given: usize,
    /// Parameters behind them.
    count: usize,
    /// A text with the client's parameters and columns only, to be described.
    described: Box<[u8]>,
}

impl TakesIds {
    pub(super) fn bytes(&self) -> usize {
        self.sql.len() + self.described.len()
    }
}

impl Session {
    /// Draws the ids of a Query and runs the text with them in it.
    pub(super) async fn simple_with_ids(
        &mut self,
        frame: BytesMut,
        shape: &Shape,
        ids: &Ids,
    ) -> Result<(), Error> {
        let values = Values {
            sql: frontend::query(&frame[HEADER..])?,
            pieces: &shape.pieces,
            params: &[],
        };
        let drawn = self.db.cluster.ids.draw(ids.count).await?;
        let text = ids.with_constants(values, &drawn);
        let sql = std::str::from_utf8(&text).map_err(|_| super::encoding::not_utf8())?;
        let mut shape = Shape::default();
        shape.scan(&text);
        let catalog = self.catalog();
        let plan = self.db.plans.plan(sql, &shape, &[], &catalog).plan;
        let mut frame = BytesMut::new();
        write::query(&mut frame, &text);
        self.planned(frame, &shape, plan).await
    }

    /// The statement that servers are given in place of one that takes `ids`.
    ///
    /// # Errors
    /// 54000 when it would have too many parameters.
    pub(super) fn prepare_with_ids(
        &mut self,
        name: &[u8],
        types: &[u32],
        values: Values<'_>,
        ids: &Ids,
    ) -> Result<Prepared, Error> {
        let given = params_in(values.sql).max(types.len());
        if given.saturating_add(ids.count) > MAX_PARAMS {
            return Err(too_many(given, ids.count));
        }
        let mut all = types.to_vec();
        all.resize(given, 0);
        all.resize(given + ids.count, INT8);
        let text = ids.with_params(values, given);
        let takes = TakesIds {
            sql: values.sql.into(),
            declared: types.len(),
            given,
            count: ids.count,
            described: ids.described(values).into(),
        };
        let mut prepared = self.prepare(name, &text, &all)?;
        prepared.ids = Some(Arc::new(takes));
        Ok(prepared)
    }

    /// A Bind with ids behind the client's values.
    ///
    /// # Errors
    /// 08P01 for another number of values than the client's statement has; what drawing ids fails with.
    pub(super) async fn bind_with_ids(
        &mut self,
        frame: &[u8],
        takes: &TakesIds,
    ) -> Result<BytesMut, Error> {
        let bind = Bind::read(&frame[HEADER..])?;
        if bind.values.len() != takes.given {
            let name = String::from_utf8_lossy(bind.statement);
            return Err(Error::protocol(format!(
                "bind message supplies {} parameters, but prepared statement \"{name}\" requires {}",
                bind.values.len(),
                takes.given
            )));
        }
        let drawn = self.db.cluster.ids.draw(takes.count).await?;
        Ok(with_values(&bind, &drawn))
    }

    /// Asks a server of the client's parameters and of the columns. The text that is run has more of
    /// the former.
    pub(super) fn describe_with_ids(
        &mut self,
        index: usize,
        name: &[u8],
        prepared: &Prepared,
        takes: &TakesIds,
    ) {
        let of = &prepared.statement;
        let types = of.types.get(..takes.declared).unwrap_or_default();
        let text = &takes.described;
        let id = self
            .db
            .unnamed_statement(text, types, &self.context, None)
            .id;
        let lease = &mut self.leases[index].lease;
        lease.send_parse_unnamed(id, text, types, false);
        write::describe(&mut lease.conn.outbox, b'S', b"");
        let of = (!name.is_empty()).then_some(of.id);
        lease.expect.push_back(Expect::Describe { of });
    }
}

fn with_values(bind: &Bind<'_>, ids: &[i64]) -> BytesMut {
    // One format is that of all.
    let (formats, binary) = match bind.formats.as_slice() {
        [] | [_] => (bind.formats.clone(), bind.is_binary(0)),
        each => {
            let mut formats = each.to_vec();
            formats.resize(each.len() + ids.len(), 1);
            (formats, true)
        }
    };
    let mut frame = BytesMut::with_capacity(bind.rest.len() + 32 * (ids.len() + 1));
    write::frame(&mut frame, b'B', |out| {
        write::cstr(out, bind.portal);
        write::cstr(out, bind.statement);
        put_formats(out, &formats);
        out.put_u16((bind.values.len() + ids.len()) as u16);
        for value in &bind.values {
            match value {
                Some(value) => put_value(out, value),
                None => out.put_i32(-1),
            }
        }
        for id in ids {
            match binary {
                true => put_value(out, &id.to_be_bytes()),
                false => put_value(out, id.to_string().as_bytes()),
            }
        }
        put_formats(out, &bind.result_formats);
    });
    frame
}

fn put_formats(out: &mut BytesMut, formats: &[i16]) {
    out.put_u16(formats.len() as u16);
    formats.iter().for_each(|format| out.put_i16(*format));
}

fn put_value(out: &mut BytesMut, value: &[u8]) {
    out.put_u32(value.len() as u32);
    out.put_slice(value);
}

fn too_many(given: usize, ids: usize) -> Error {
    Error::new(
        Fault::Client,
        "54000",
        "statement has too many parameters and ids",
    )
    .detail(format!(
        "It has {given} parameters and takes {ids} ids; a statement can have {MAX_PARAMS} of both."
    ))
    .hint("Send fewer rows at a time.")
}

/// EXECUTE of SQL gives a server its arguments as text, and there is no place for ids.
pub(super) fn not_in_sql() -> Error {
    planner::Refusal::unsupported(
        "PREPARE and EXECUTE in SQL of a statement that takes ids",
        "Its ids are parameters that the text of EXECUTE does not give.",
        "Prepare it with the extended protocol, as drivers do, or send it as it is.",
    )
    .into()
}
