//! Messages too long to be held: where nothing in the long part has to be known, they pass to the
//! server as they come. What does have to be known is read whole up to `max_message_mib`.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf, BufMut};
use planner::plan::{Access, Pin, Plan, SessionEffect, Statement, Target};
use planner::{ShardId, Values};

use super::block::aborted;
use super::extended::asks_first;
use super::{ClientState, Known, Prepared, Session};
use crate::backend::server::Expect;
use crate::error::{Error, Fault};
use crate::executor::relay::{End, Until, closed};
use crate::metrics::RouteKind;
use crate::net::Instant;
use crate::wire::frame::{self, HEADER, Header};
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
                // Not before their names are here.
                b'P' => {
                    let head = self.client.inbox.get(HEADER..).unwrap_or_default();
                    too_large && (memchr::memchr(0, head).is_some() || head.len() > SHORT)
                }
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
                self.account.begin();
                if header.tag == b'Q' {
                    self.batch.drop_unnamed();
                }
                let result = self.large_query(header).await;
                self.answer(result, start).await
            }
            _ => {
                let result = match header.tag {
                    b'B' if self.large_bind_passes() => self.large_bind(header).await,
                    b'P' if !self.db.config.is_sharded() => self.large_parse(header).await,
                    _ => {
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
        self.note_route(RouteKind::Direct);
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

    /// A Parse goes to the primary unread, under a name of ours also where it has none, so that no
    /// text of ours drops it. The connection stays with the client as long as it may be used.
    async fn large_parse(&mut self, header: Header) -> Result<(), Error> {
        match self.batch.is_between() {
            true => self.begin_batch(),
            false => self.info.set(ClientState::Active),
        }
        let mut body = self.client.inbox.get(HEADER..).unwrap_or_default();
        let name = match frame::cstr(&mut body) {
            Some(name) => name.to_vec(),
            None => {
                let error = too_large(header.len, &self.limits);
                return self.refuse(header, error).await;
            }
        };
        let read = HEADER + name.len() + 1;
        let (index, prepared) = match self.server_of_parse(&name).await {
            Ok(parsed) => parsed,
            Err(error) => return self.refuse(header, error).await,
        };
        self.db.metrics.client_parses.add(1);
        self.db.metrics.server_parses.add(1);
        self.pin(index, Pin::Unread);
        let id = prepared.statement.id;
        self.unread.push(Arc::clone(&prepared.statement));
        self.batch.parse_unread(&name, prepared);
        let server_name = id.server_name();
        let rest = header.len - read;
        let lease = &mut self.leases[index].lease;
        let out = &mut lease.conn.outbox;
        out.put_u8(b'P');
        out.put_u32((4 + server_name.len() + 1 + rest) as u32);
        write::cstr(out, &server_name);
        lease.note_unread(id);
        self.client.inbox.advance(read);
        self.relay_message(index, rest, Until::Passed).await?;
        if self.leases[index].lease.error.is_some() {
            self.batch.skipping = true;
        }
        Ok(())
    }

    async fn server_of_parse(&mut self, name: &[u8]) -> Result<(usize, Prepared), Error> {
        self.check_pending().await?;
        self.check_new_name(name)?;
        let prepared = self.unread(name);
        self.check_prepared_bytes(name, &prepared)?;
        let index = self.server_of_unread().await?;
        self.activate(index).await?;
        if self.batch.rebind.is_some() {
            self.fetch().await?;
        }
        Ok((index, prepared))
    }

    /// The server of every statement that was not read.
    ///
    /// # Errors
    /// As [`Session::enlist`]; 25P02 in a failed block that no server knows of.
    pub(super) async fn server_of_unread(&mut self) -> Result<usize, Error> {
        match self.block.is_failed() {
            // The text may be what ends it.
            true => self.only_in_block().ok_or_else(aborted),
            false => self.enlist(ShardId(0), Access::Write).await,
        }
    }

    fn unread(&self, name: &[u8]) -> Prepared {
        let plan = Plan {
            // Whatever they may be, they are not to be split.
            statement: Statement::Multiple(Vec::new()),
            access: Access::Write,
            effect: SessionEffect::Pin(Pin::Setting),
            target: Target::OneShard(ShardId(0)),
            reason: "it is too long to be read, so the primary runs it".into(),
        };
        Prepared {
            statement: self.db.unnamed_statement(b"", &[], &self.context, None),
            plan: Arc::new(plan),
            digest: None,
            parent: None,
            pieces: Arc::default(),
            version: 0,
            name: name.into(),
            known: Known::Unread,
            ids: None,
        }
    }

    /// Between transactions: statements that no name stands for any more go from their server too.
    pub(super) async fn drop_unread(&mut self) {
        for text in std::mem::take(&mut self.unread) {
            let held = self.leases.len();
            let is_there = |index: &usize| self.leases[*index].lease.has_prepared(text.id);
            let Some(index) = (0..held).find(is_there) else {
                continue;
            };
            if Arc::strong_count(&text) > 1 {
                self.unread.push(text);
                continue;
            }
            let held = &mut self.leases[index];
            held.may_release = true;
            held.lease.send_close(text.id);
            held.lease.send_sync(false);
            if let Err(error) = held.lease.settle().await {
                tracing::warn!(%error, "a server was lost while it closed a statement");
            }
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
            Target::Keys { .. }
            | Target::AllShards(_)
            | Target::Moves(_)
            | Target::Ids(_)
            | Target::Refused(_) => self.db.config.is_sharded(),
        };
        let elsewhere = matches!(
            prepared.plan.statement,
            Statement::Begin { .. }
                | Statement::Commit
                | Statement::Rollback
                | Statement::Chain { .. }
                | Statement::Savepoint(_)
                | Statement::Execute(_)
                | Statement::Set(_)
        ) || asks_first(&prepared.plan.effect);
        let hints = self.wishes.of_statement(&prepared.statement.sql);
        let everywhere = hints.is_ok_and(|hints| hints.is_some_and(|hints| hints.is_for_all()));
        !by_values
            && !everywhere
            && !elsewhere
            && prepared.ids.is_none()
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
        self.leases[index].ask_settings |= prepared.is_unread();
        let server_name = prepared.server_name();
        let rest = header.len - read;
        let lease = &mut self.leases[index].lease;
        let length = 4 + portal.len() + 1 + server_name.len() + 1 + rest;
        let out = &mut lease.conn.outbox;
        out.put_u8(b'B');
        out.put_u32(length as u32);
        write::cstr(out, &portal);
        write::cstr(out, &server_name);
        let named = || (prepared.statement.id, Arc::clone(&prepared.name));
        let called = (!server_name.is_empty()).then(named);
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
        self.note_route(RouteKind::Direct);
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
