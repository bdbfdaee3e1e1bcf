//! Reuse of server-side statements for unnamed ones: a text that clients parse again and again is
//! parsed once per server connection, under a name of ours, and Binds go to that.
//!
//! What the client sees stays what it would be with a fresh Parse. Where that could differ, the
//! statement is parsed as ever (see [`may_reuse`] and `may_reuse_on`); and a Bind that fails, as it
//! does once a table has changed, is sent again after a fresh Parse. That is possible because nothing
//! has happened in its transaction yet.

use std::sync::Arc;

use bytes::BytesMut;
use planner::Plan;
use planner::plan::SessionEffect;
use planner::shape::{Piece, PieceKind};

use super::Portal;
use super::step::is_plain;
use crate::backend::server::Expect;
use crate::error::Error;
use crate::executor::relay::End;
use crate::session::{Known, Prepared, Session};
use crate::wire::frame;
use crate::wire::frontend::Bind;
use crate::wire::write;

/// A longer Bind is not worth the copy that is kept of it.
const MAX_BIND: usize = 16 * 1024;

/// Input that PostgreSQL replaces by the time of Parse. <https://www.postgresql.org/docs/current/datatype-datetime.html>
const WORDS_OF_THE_TIME: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];

/// Whether a statement means tomorrow what it means now, as long as no table changes.
pub(super) fn may_reuse(plan: &Plan, sql: &[u8], pieces: &[Piece]) -> bool {
    let strings = || {
        let kinds = [PieceKind::String, PieceKind::OtherString];
        pieces
            .iter()
            .filter(move |piece| kinds.contains(&piece.kind))
    };
    // A text that was left whole may hold any string.
    let known = strings().next().is_some() || !sql.contains(&b'\'');
    let timeless = strings().all(|piece| {
        let text = sql.get(piece.range.clone()).unwrap_or_default();
        let text = text.to_ascii_lowercase();
        let holds = |word: &[u8]| memchr::memmem::find(&text, word).is_some();
        !WORDS_OF_THE_TIME.iter().any(|word| holds(word))
    });
    is_plain(&plan.statement) && plan.effect == SessionEffect::None && known && timeless
}

impl Session {
    pub(super) fn note_unnamed(&self, name: &[u8]) {
        if self.db.config.pool.reuse_unnamed
            && name.is_empty()
            && let Some(prepared) = self.batch.statements.get(name)
        {
            prepared.statement.note_parsed();
        }
    }

    /// Before anything is sent: in a transaction block a failed Bind could not be tried again, and
    /// a connection that stays with its client may have temporary tables that shadow others.
    pub(super) fn may_reuse_on(&self, index: usize, bind: &[u8], prepared: &Prepared) -> bool {
        let held = &self.leases[index];
        prepared.known == Known::Reusable
            && prepared.statement.is_worth_a_name()
            && self.block.is_none()
            && !held.needs_sync
            && held.pinned.is_none()
            && held.lease.expect.is_empty()
            && self.batch.pending.iter().all(Vec::is_empty)
            && bind.len() <= MAX_BIND
    }

    /// Binds to the statement of our name, which is prepared first where it is not known.
    pub(super) fn bind_reused(
        &mut self,
        index: usize,
        portal: &[u8],
        rest: &[u8],
        prepared: Arc<Prepared>,
    ) {
        let statement = &prepared.statement;
        let lease = &mut self.leases[index].lease;
        let known = lease.has_prepared(statement.id);
        for at in 0..self.batch.pending.len() {
            if known || at > 0 {
                lease.expect.push_back(Expect::Known(statement.id));
            } else {
                self.db.metrics.server_parses.add(1);
                lease.send_prepare(statement.id, &statement.sql, &statement.types, true);
            }
        }
        if !known && self.batch.pending.is_empty() {
            self.db.metrics.server_parses.add(1);
            lease.send_prepare(statement.id, &statement.sql, &statement.types, false);
        }
        self.batch.pending.clear();
        let start = lease.conn.outbox.len();
        self.batch.rebind = known.then(|| (start, Arc::clone(&prepared)));
        let name = statement.id.server_name();
        write::bind(&mut lease.conn.outbox, portal, &name, rest);
        let reply = match known {
            true => Expect::Rebind,
            false => Expect::Bind {
                called: Some((statement.id, Arc::clone(&prepared.name))),
            },
        };
        lease.expect.push_back(reply);
        let made = Portal::Server {
            lease: index,
            prepared,
        };
        self.batch.portals.insert(portal, made);
    }

    /// [`Session::relay`]; binds again if a reused statement turned out to be out of date.
    pub(super) async fn relay_batch(&mut self, index: usize) -> Result<End, Error> {
        let Some((start, prepared)) = self.batch.rebind.take() else {
            return self.relay(index).await;
        };
        let lease = &self.leases[index].lease;
        let sent = BytesMut::from(&lease.conn.outbox[start..]);
        let owed = lease.expect.iter();
        let owed = owed.skip_while(|reply| **reply != Expect::Rebind);
        let owed: Vec<Expect> = owed.skip(1).cloned().collect();
        let end = self.relay(index).await?;
        match self.leases[index].lease.must_rebind {
            true => Box::pin(self.bind_again(index, &prepared, &sent, owed)).await,
            false => Ok(end),
        }
    }

    /// Sends `sent`, which begins with a Bind, once more after a fresh Parse; `owed` are the replies
    /// after BindComplete.
    async fn bind_again(
        &mut self,
        index: usize,
        prepared: &Prepared,
        sent: &[u8],
        owed: Vec<Expect>,
    ) -> Result<End, Error> {
        let malformed = || Error::protocol("invalid Bind message format");
        let (header, body) = frame::whole(sent)?.ok_or_else(malformed)?;
        let (portal, _, rest) = Bind::names(body)?;
        let statement = &prepared.statement;
        let lease = &mut self.leases[index].lease;
        lease.must_rebind = false;
        if !owed
            .iter()
            .any(|reply| matches!(reply, Expect::Ready { .. }))
        {
            // The server ignores all until then.
            lease.send_sync(false);
        }
        lease.send_close(statement.id);
        self.db.metrics.server_parses.add(1);
        lease.send_parse_unnamed(statement.id, &statement.sql, &statement.types, false);
        write::bind(&mut lease.conn.outbox, portal, b"", rest);
        lease.expect.push_back(Expect::Bind { called: None });
        lease.resend(&sent[header.len..], owed);
        self.relay(index).await
    }
}
