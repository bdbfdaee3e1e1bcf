//! The schema as a transaction block sees it that has changed it: what comes next in the block is planned by
//! that, and by the published one again when it has ended.

use std::sync::Arc;

use planner::shape::Shape;
use planner::{Catalog, ShardId};

use super::Session;
use super::routed::pick;
use crate::cluster::OF_TRANSACTION;
use crate::error::{Error, Fault};
use crate::executor::plans::Planned;
use crate::wire::frame::{HEADER, Header};
use crate::wire::frontend::{self, Parse};

/// What begins like this needs no schema, or changes it again.
const WITHOUT: &str = "abort alter analyze begin checkpoint cluster comment commit create discard drop end grant \
    release reset revoke rollback savepoint set show start vacuum";

impl Session {
    /// What statements are planned by.
    pub(super) fn catalog(&self) -> Arc<Catalog> {
        match &self.batch.own_catalog {
            Some(own) => Arc::clone(own),
            None => self.db.cluster.catalog(),
        }
    }

    /// The version of [`Session::catalog`].
    pub(super) fn catalog_version(&self) -> u64 {
        match &self.batch.own_catalog {
            Some(own) => own.version,
            None => self.db.cluster.catalog_version(),
        }
    }

    /// The plan of a text. The catalog is taken hold of only where it has to be made.
    pub(super) fn plan_of(&self, sql: &str, shape: &Shape, types: &[u32]) -> Planned {
        let plans = &self.db.plans;
        let known = plans.known(shape, types, self.catalog_version());
        known.unwrap_or_else(|| plans.plan(sql, shape, types, &self.catalog()))
    }

    /// A statement has changed the schema, or will have when its transaction commits.
    pub(super) fn note_ddl(&mut self) {
        self.batch.changed_schema = true;
        self.batch.own_catalog = None;
    }

    /// Where a statement has changed the schema and its transaction has ended: plans are made anew, and not by
    /// what only that saw.
    pub(super) async fn publish_schema(&mut self) {
        if self.batch.changed_schema && self.block.is_none() {
            self.forget_unnamed();
            self.batch.changed_schema = false;
            self.batch.own_catalog = None;
            Box::pin(self.db.cluster.schema_changed()).await;
        }
    }

    /// Unnamed statements that servers have by a schema that may be undone.
    fn forget_unnamed(&mut self) {
        for held in &mut self.leases {
            held.lease.unnamed = None;
        }
    }

    /// Once the transaction has ended: what was prepared by a schema that nobody else saw, and that may be undone,
    /// is prepared anew by whoever needs it next. PostgreSQL would tell them all that its columns have changed.
    pub(super) async fn drop_made_within(&mut self) {
        if self.batch.changed_schema {
            self.forget_unnamed();
        }
        for held in &mut self.leases {
            let made = std::mem::take(&mut held.made_within);
            if made.is_empty() || held.lease.doubt.is_some() {
                continue;
            }
            made.into_iter().for_each(|id| held.lease.send_close(id));
            held.lease.send_sync(false);
            if let Err(error) = held.lease.settle().await {
                tracing::warn!(%error, "a server was lost while it closed statements");
            }
        }
    }

    /// Before the message in front of the inbox, in a block that has changed the schema: reads it, if that has
    /// not been done and the message may need it. Where it cannot be read, no table counts as known.
    ///
    /// # Errors
    /// The loss of a server.
    pub(super) async fn learn_own_schema(&mut self, header: Header) -> Result<(), Error> {
        if self.knows_own_schema()
            || self.block.is_none()
            || self.block.is_failed()
            || !self.db.config.is_sharded()
        {
            return Ok(());
        }
        let body = self.client.inbox.get(HEADER..header.len);
        let body = body.unwrap_or_default();
        let text = match header.tag {
            b'Q' => frontend::query(body).unwrap_or_default(),
            b'P' => Parse::read(body).map_or(&b""[..], |parse| parse.sql),
            b'B' => b"select",
            _ => return Ok(()),
        };
        if needs_schema(text) {
            self.read_own_schema().await?;
        }
        Ok(())
    }

    /// As [`Session::learn_own_schema`], before one statement of a text.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn learn_own_schema_for(&mut self, sql: &str) -> Result<(), Error> {
        let unknown = self.batch.changed_schema && !self.knows_own_schema();
        let in_block = !self.block.is_none() && !self.block.is_failed();
        if unknown && in_block && self.db.config.is_sharded() && needs_schema(sql.as_bytes()) {
            self.read_own_schema().await?;
        }
        Ok(())
    }

    /// Not once others have changed theirs. One that could not be read is tried again.
    fn knows_own_schema(&self) -> bool {
        let since = self.db.cluster.catalog_version();
        let own = self.batch.own_catalog.as_ref();
        own.is_some_and(|own| own.version != OF_TRANSACTION) && self.batch.own_since == since
    }

    async fn read_own_schema(&mut self) -> Result<(), Error> {
        let held = self.leases.iter().enumerate();
        let held = held.filter(|(_, held)| held.in_block && held.home.is_none());
        let held: Vec<(usize, ShardId)> = held.map(|(at, held)| (at, held.shard)).collect();
        let (indexes, shards): (Vec<usize>, Vec<ShardId>) = held.into_iter().unzip();
        for index in &indexes {
            self.end_extended(*index).await?;
        }
        let servers = pick(&mut self.leases, &indexes);
        let mut servers: Vec<_> = shards.into_iter().zip(servers).collect();
        let published = self.db.cluster.catalog_version();
        let moved = published != self.batch.own_since;
        let read = self.db.cluster.catalog_within(&mut servers, moved).await;
        let lost = indexes
            .iter()
            .any(|index| self.leases[*index].lease.doubt.is_some());
        let own = match read {
            Ok(catalog) => {
                self.batch.own_since = published;
                catalog
            }
            Err(failure) if lost => {
                let message = format!("a server was lost that was asked for its schema: {failure}");
                return Err(Error::new(Fault::Server, "08006", message).fatal());
            }
            Err(failure) => {
                tracing::warn!(
                    database = self.info.database,
                    "the schema that a transaction has changed could not be read: {failure}"
                );
                let shards = self.db.config.shards.len();
                Catalog::new(OF_TRANSACTION, shards)
            }
        };
        self.batch.own_catalog = Some(Arc::new(own));
        Ok(())
    }
}

fn needs_schema(sql: &[u8]) -> bool {
    let text = std::str::from_utf8(sql).unwrap_or_default();
    let words = planner::leading_words(text, 2);
    let is = |at: usize, word: &str| {
        let found = words.get(at);
        found.is_some_and(|found| found.eq_ignore_ascii_case(word))
    };
    // Of a table that the block has filled the type of the key may not change.
    let mut rest = text.split(|c: char| !c.is_ascii_alphanumeric());
    let retypes =
        is(0, "alter") && is(1, "table") && rest.any(|word| word.eq_ignore_ascii_case("type"));
    retypes || !WITHOUT.split_ascii_whitespace().any(|word| is(0, word))
}
