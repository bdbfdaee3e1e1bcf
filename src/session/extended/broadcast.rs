//! Portals of statements that several shards run: what comes before them in a pipeline, and what follows.

use planner::ShardId;
use planner::plan::Statement;

use super::portal::cannot_run;
use super::{BroadcastPortal, Portal, Ran, no_portal};
use crate::error::Error;
use crate::executor::relay::closed;
use crate::session::{Enlisted, Session};
use crate::wire::frame::{self, HEADER};
use crate::wire::frontend::{Execute, Named};
use crate::wire::write;

impl Session {
    pub(super) async fn execute_broadcast(
        &mut self,
        name: &[u8],
        max_rows: u32,
    ) -> Result<(), Error> {
        let Some(Portal::Broadcast(mut portal)) = self.batch.portals.remove(name) else {
            return Err(no_portal(name));
        };
        self.fetch().await?;
        match portal.ran {
            Ran::NotYet if self.joins_pipeline(&portal, name).await? => {
                Box::pin(self.begin_implicit_block()).await?;
                self.run_broadcast(&mut portal).await?;
            }
            Ran::NotYet => {
                self.run_broadcast(&mut portal).await?;
            }
            Ran::Rows { .. } => {}
            Ran::Once => return Err(cannot_run(name)),
        }
        let out = &mut self.client.outbox;
        match &mut portal.ran {
            Ran::Rows { rows, verb } => {
                let mut count = 0;
                while !rows.is_empty() && (max_rows == 0 || count < max_rows) {
                    let len = frame::peek(rows)?.map_or(rows.len(), |header| header.len);
                    out.extend_from_slice(&rows.split_to(len));
                    count += 1;
                }
                self.account.answered(u64::from(count));
                match max_rows > 0 && count == max_rows {
                    true => out.extend_from_slice(write::PORTAL_SUSPENDED),
                    false => write::command_complete(out, &format!("{verb}{count}")),
                }
            }
            Ran::NotYet | Ran::Once => {}
        }
        self.batch.portals.insert(name, Portal::Broadcast(portal));
        Ok(())
    }

    /// Is a statement on several shards one transaction with others of this pipeline?
    ///
    /// # Errors
    /// As [`Session::check_sync_follows`], for what cannot be in a transaction.
    async fn joins_pipeline(
        &mut self,
        portal: &BroadcastPortal,
        name: &[u8],
    ) -> Result<bool, Error> {
        if !self.block.is_none() {
            return Ok(false);
        }
        if let Statement::Ddl {
            transactional: false,
            ..
        } = portal.plan.statement
        {
            return self.check_sync_follows(name).await.map(|()| false);
        }
        let follows_write = self.leases.iter().any(|held| held.needs_sync && held.wrote);
        Ok(follows_write || !self.sync_follows(name).await?)
    }

    /// What cannot be taken back with anything that fails up to Sync, as PostgreSQL would, may have
    /// nothing else come before that.
    ///
    /// # Errors
    /// 0A000 when something does, or might. Nothing has run then.
    pub(super) async fn check_sync_follows(&mut self, portal: &[u8]) -> Result<(), Error> {
        match !self.block.is_none() || self.sync_follows(portal).await? {
            true => Ok(()),
            false => Err(self.not_last_before_sync()),
        }
    }

    /// Does nothing that may fail come before Sync?
    pub(super) async fn sync_follows(&mut self, portal: &[u8]) -> Result<bool, Error> {
        loop {
            match follows(&self.client.inbox, portal)? {
                Follows::Sync => return Ok(true),
                Follows::Other => return Ok(false),
                Follows::NotHere => {}
            }
            if !matches!(self.client.fill().await, Ok(1..)) {
                self.abandon();
                return Err(closed());
            }
        }
    }

    pub(super) fn not_last_before_sync(&self) -> Error {
        planner::Refusal::unsupported(
            "a statement on several shards is not the last before Sync",
            "What follows it in the pipeline could fail, and it could not be taken back then.",
            "Send Sync right after its Execute.",
        )
        .into()
    }

    /// A setting made in this pipeline, without a block, is in force on its own shard, and elsewhere
    /// from Sync on.
    ///
    /// # Errors
    /// 0A000 where another shard than `on`, or several for `None`, would run something without it.
    pub(super) fn check_settings_elsewhere(&self, on: Option<ShardId>) -> Result<(), Error> {
        let is_elsewhere =
            |held: &Enlisted| held.needs_sync && held.ran_set && Some(held.shard) != on;
        if !self.db.config.is_sharded()
            || !self.block.is_none()
            || !self.leases.iter().any(is_elsewhere)
        {
            return Ok(());
        }
        Err(planner::Refusal::unsupported(
            "a statement on another shard follows a change of settings in the same pipeline",
            "Without a transaction block the change is not in force there before Sync.",
            "Send Sync after it, or begin a transaction block.",
        )
        .into())
    }

    /// Runs it whole, as PostgreSQL does what changes rows. What returns none is answered here.
    pub(super) async fn run_broadcast(
        &mut self,
        portal: &mut BroadcastPortal,
    ) -> Result<(), Error> {
        self.end_pipeline().await?;
        let answer = self
            .broadcast(&portal.plan, &portal.job, &portal.shards)
            .await?;
        self.client.outbox.extend_from_slice(&answer.notices);
        portal.ran = match answer.columns.first() {
            Some(b'T') => Ran::Rows {
                rows: answer.rows,
                verb: answer
                    .tag
                    .trim_end_matches(|c: char| c.is_ascii_digit())
                    .to_owned(),
            },
            Some(_) | None => {
                write::command_complete(&mut self.client.outbox, &answer.tag);
                self.account.tagged(&answer.tag);
                Ran::Once
            }
        };
        Ok(())
    }

    /// Before what commits on several shards by itself.
    pub(super) async fn end_pipeline(&mut self) -> Result<(), Error> {
        if self
            .leases
            .iter()
            .any(|held| held.needs_sync && held.wrote && !held.in_block)
        {
            return Err(self.not_one_transaction());
        }
        self.check_settings_elsewhere(None)?;
        let all: Vec<usize> = (0..self.leases.len()).collect();
        self.sync_quietly(&all).await
    }

    pub(super) fn not_one_transaction(&self) -> Error {
        planner::Refusal::unsupported(
            "a statement on several shards follows a write in the same pipeline",
            "Without a Sync between them they would be one transaction over several shards.",
            "Send Sync after each.",
        )
        .into()
    }
}

/// What a client sends after an Execute of `portal`, as far as it is here.
#[derive(Debug, PartialEq, Eq)]
enum Follows {
    /// Nothing before it can fail.
    Sync,
    Other,
    NotHere,
}

fn follows(mut bytes: &[u8], portal: &[u8]) -> Result<Follows, Error> {
    /// Of messages that cannot fail.
    const MOST: usize = 64 * 1024;
    if bytes.len() > MOST {
        return Ok(Follows::Other);
    }
    while let Some(header) = frame::peek(bytes)? {
        match header.tag {
            b'S' if header.len == HEADER => return Ok(Follows::Sync),
            b'C' | b'E' if header.len <= MOST => {}
            _ => return Ok(Follows::Other),
        }
        let Some((message, rest)) = bytes.split_at_checked(header.len) else {
            break;
        };
        let body = &message[HEADER..];
        let cannot_fail = match header.tag {
            b'C' => Named::read(body, "CLOSE").is_ok(),
            _ => Execute::read(body).is_ok_and(|execute| execute.portal == portal),
        };
        if !cannot_fail {
            return Ok(Follows::Other);
        }
        bytes = rest;
    }
    Ok(Follows::NotHere)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_statement_that_cannot_be_taken_back() {
        let sync = &b"S\0\0\0\x04"[..];
        let close = &b"C\0\0\0\x06P\0"[..];
        let again = &b"E\0\0\0\x0ap\0\0\0\0\0"[..];
        let other = &b"E\0\0\0\x0aq\0\0\0\0\0"[..];
        let flush = &b"H\0\0\0\x04"[..];
        for (messages, expected) in [
            (vec![sync], Follows::Sync),
            (vec![close, again, sync], Follows::Sync),
            (vec![], Follows::NotHere),
            (vec![&close[..3]], Follows::NotHere),
            (vec![close, &again[..7]], Follows::NotHere),
            (vec![flush, sync], Follows::Other),
            (vec![close, other, sync], Follows::Other),
            (vec![&b"P\0\0\x10\0"[..]], Follows::Other),
            (vec![&[close; 10_000].concat()], Follows::Other),
        ] {
            let found = follows(&messages.concat(), b"p").expect("frames");
            assert_eq!(found, expected, "{messages:?}");
        }
    }
}
