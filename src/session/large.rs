//! Messages too long to be held: where nothing in the long part has to be known, they pass to the
//! server as they come. What does have to be known is read whole up to `max_message_mib`.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf, BufMut};
use planner::plan::{Access, Pin, SessionEffect, Statement, Target};
use planner::{ShardId, Values};

use super::block::aborted;
use super::extended::asks_first;
use super::{ClientState, Session};
use crate::backend::server::Expect;
use crate::error::{Error, Fault};
use crate::executor::relay::{End, Until, closed};
use crate::metrics::RouteKind;
use crate::net::Instant;
use crate::wire::frame::{HEADER, Header};
use crate::wire::frontend::Bind;
use crate::wire::write;

/// Shorter messages are always read whole.
const SHORT: usize = 256 * 1024;

impl Session {
    /// True for a message that [`Session::pass_large`] takes before it is whole.
    pub(super) fn is_large(&self, header: Header) -> bool {
        if header.len <= SHORT {
            return false;
        }
        let too_large = header.len > self.limits.max_message_bytes;
        self.batch.skipping
            || match header.tag {
                b'd' => true,
                b'F' => too_large || !self.db.config.is_sharded(),
                // Not before its names are here.
                b'B' => self.large_bind_passes() || too_large && self.client.inbox.len() > SHORT,
                _ => too_large,
            }
    }

    /// One message of which the inbox holds the beginning.
    ///
    /// # Errors
    /// FATAL ones only: others are told to the client.
    pub(super) async fn pass_large(&mut self, header: Header) -> Result<(), Error> {
        match header.tag {
            b'd' => self.discard(header.len).await,
            _ if self.batch.skipping => self.discard(header.len).await,
            b'Q' | b'F' if self.is_amid_batch() && !self.end_batch().await? => {
                self.discard(header.len).await
            }
            b'Q' | b'F' => {
                let start = Instant::now();
                self.info.requested(start);
                self.transaction_start.get_or_insert(start);
                self.info.set(ClientState::Active);
                if header.tag == b'Q' {
                    self.batch.drop_unnamed();
                }
                let result = self.large_query(header).await;
                self.answer(result, start).await
            }
            _ => {
                let result = match header.tag == b'B' && self.large_bind_passes() {
                    true => self.large_bind(header).await,
                    false => {
                        self.refuse(header, too_large(header.len, &self.limits))
                            .await
                    }
                };
                match result {
                    Err(error) if error.is_fatal() => Err(error),
                    Err(error) if error.is_told() => Ok(()),
                    Err(error) => self.fail_batch(error).await,
                    Ok(()) => Ok(()),
                }
            }
        }
    }

    /// A Query goes to the primary unread. What it leaves there cannot be known, so the connection
    /// stays with the client.
    async fn large_query(&mut self, header: Header) -> Result<(), Error> {
        if self.db.config.is_sharded() {
            return self
                .refuse(header, too_large(header.len, &self.limits))
                .await;
        }
        let enlisted = match self.block.is_failed() {
            true => self.only_in_block().ok_or_else(aborted),
            false => self.enlist(ShardId(0), Access::Write).await,
        };
        let index = match enlisted {
            Ok(index) => index,
            Err(error) => return self.refuse(header, error).await,
        };
        let effect = match header.tag {
            // Custom settings are among what may be left, and the server cannot list those.
            b'Q' => SessionEffect::Pin(Pin::Setting),
            _ => SessionEffect::Taint("function call"),
        };
        self.note_effect(index, &effect);
        self.leases[index].ask_settings = true;
        self.lose_track();
        self.db.metrics.routes.increment(RouteKind::Direct);
        let lease = &mut self.leases[index].lease;
        lease.begin_exchange();
        lease.unnamed = None;
        lease.expect.push_back(Expect::Ready { show: true });
        match self
            .relay_message(index, header.len, Until::Settled)
            .await?
        {
            End::Done => Ok(()),
            End::NeedsClient => Err(Error::protocol("COPY ended without its reply").fatal()),
        }
    }

    /// Nothing in this Bind but its names has to be known, and those are here.
    fn large_bind_passes(&self) -> bool {
        let body = self.client.inbox.get(HEADER..).unwrap_or_default();
        let Ok((_, name, _)) = Bind::names(body) else {
            return false;
        };
        // An unknown name is refused without a look at the values.
        let Some(prepared) = self.batch.statement(name) else {
            return true;
        };
        let by_values = match prepared.plan.target {
            Target::OneShard(_) | Target::AnyShard => false,
            Target::Keys { .. } | Target::AllShards(_) | Target::Refused(_) => {
                self.db.config.is_sharded()
            }
        };
        let elsewhere = matches!(
            prepared.plan.statement,
            Statement::Begin { .. }
                | Statement::Commit
                | Statement::Rollback
                | Statement::Savepoint(_)
                | Statement::Execute(_)
                | Statement::Set(_)
        ) || asks_first(&prepared.plan.effect);
        !by_values
            && !elsewhere
            && self
                .bind_locally(&prepared.plan.statement, &prepared.statement.sql)
                .is_none()
    }

    /// The names of a Bind are rewritten, its values pass as they come.
    async fn large_bind(&mut self, header: Header) -> Result<(), Error> {
        match self.batch.is_between() {
            true => self.begin_batch(),
            false => self.info.set(ClientState::Active),
        }
        self.db.metrics.binds.add(1);
        let body = self.client.inbox.get(HEADER..).unwrap_or_default();
        let (portal, name, _) = Bind::names(body)?;
        let (portal, name) = (portal.to_vec(), name.to_vec());
        let read = HEADER + portal.len() + 1 + name.len() + 1;
        let index = match self.server_of_bind(&portal, &name).await {
            Ok(index) => index,
            Err(error) => return self.refuse(header, error).await,
        };
        let prepared = self.prepared(&name)?;
        self.note_effect(index, &prepared.plan.effect);
        self.ensure_parsed(index, &name);
        let server_name = match name.is_empty() {
            true => Vec::new(),
            false => prepared.statement.id.server_name(),
        };
        let rest = header.len - read;
        let lease = &mut self.leases[index].lease;
        let length = 4 + portal.len() + 1 + server_name.len() + 1 + rest;
        let out = &mut lease.conn.outbox;
        out.put_u8(b'B');
        out.put_u32(length as u32);
        write::cstr(out, &portal);
        write::cstr(out, &server_name);
        let named = || (prepared.statement.id, Arc::clone(&prepared.name));
        let called = (!name.is_empty()).then(named);
        lease.expect.push_back(Expect::Bind { called });
        self.client.inbox.advance(read);
        self.batch.bind_portal(&portal, index, prepared);
        self.relay_message(index, rest, Until::Passed).await?;
        if self.leases[index].lease.error.is_some() {
            self.batch.skipping = true;
        }
        Ok(())
    }

    async fn server_of_bind(&mut self, portal: &[u8], name: &[u8]) -> Result<usize, Error> {
        let prepared = self.prepared(name)?;
        if self.block.is_failed() {
            return Err(aborted());
        }
        self.check_pending().await?;
        let values = Values {
            sql: &prepared.statement.sql,
            pieces: &prepared.pieces,
            params: &[],
        };
        let (access, route) = self.decide(&prepared.plan, values, &prepared.statement.sql)?;
        self.db.metrics.routes.increment(RouteKind::Direct);
        let shard = self.pick_shard(&route.shards);
        let index = self.enlist(shard, access).await?;
        self.name_portal(portal, Some(index))?;
        if self.batch.rebind.is_some() {
            self.fetch().await?;
        }
        self.activate(index).await?;
        Ok(index)
    }

    /// Reads a message away before its error is told.
    async fn refuse(&mut self, header: Header, error: Error) -> Result<(), Error> {
        self.discard(header.len).await?;
        Err(error)
    }

    async fn discard(&mut self, mut rest: usize) -> Result<(), Error> {
        let client = &mut self.client;
        loop {
            let here = rest.min(client.inbox.len());
            client.inbox.advance(here);
            rest -= here;
            if rest == 0 {
                return Ok(());
            }
            // It may send no more before it has got what it is owed.
            let read = poll_fn(|cx| {
                if let Poll::Ready(Err(error)) = client.poll_drain(cx) {
                    return Poll::Ready(Err(error));
                }
                client.poll_fill(cx)
            });
            if !matches!(read.await, Ok(1..)) {
                self.abandon();
                return Err(closed());
            }
        }
    }
}

fn too_large(len: usize, limits: &super::Limits) -> Error {
    let limit = limits.max_message_bytes;
    Error::new(
        Fault::Client,
        "54000",
        "message is too large to be read whole",
    )
    .detail(format!(
        "It has {len} bytes; what it holds must be known here, which may take {limit} bytes."
    ))
    .hint("Raise max_message_mib, or send the value as a parameter or with COPY.")
}
