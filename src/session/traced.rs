//! Which statements are traced, and what their spans say.

use super::Session;
use super::account::{Place, Statement};
use crate::config::Endpoint;
use crate::net::Instant;
use crate::spans::{self, Parent};

/// A statement is traced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sampled {
    /// `None` where Ringway itself has chosen it.
    parent: Option<Parent>,
}

/// A server that works for statements that are traced.
pub(super) struct Hop {
    pub(super) place: Place,
    endpoint: Endpoint,
    from: Instant,
    /// It had answered by then; `None`: when all had.
    until: Option<Instant>,
}

impl Session {
    /// The span that a text says it belongs to, where spans go anywhere.
    pub(super) fn parent_of(&self, sql: &[u8]) -> Option<Box<Parent>> {
        self.shared.tracer.as_ref()?;
        let at = memchr::memmem::find(sql, b"traceparent='")?;
        // With what stands before it.
        let comment = String::from_utf8_lossy(&sql[at.saturating_sub(1)..]);
        Parent::of_comment(&comment).map(Box::new)
    }

    /// Decides whether the statement at hand is traced.
    pub(super) fn sample(&mut self, parent: Option<&Parent>) {
        let Some(tracer) = &self.shared.tracer else {
            return;
        };
        let drawn = self.account.draw();
        let is_traced = parent.map_or_else(|| tracer.draws(drawn), |parent| parent.sampled);
        let parent = parent.cloned();
        self.account.sampled = is_traced.then(|| Box::new(Sampled { parent }));
    }

    /// A statement that is traced runs on the server of lease `index`.
    pub(super) fn note_hop(&mut self, index: usize) {
        let held = &self.leases[index];
        let hop = Hop {
            place: held.place(),
            endpoint: held.lease.identity.endpoint.clone(),
            from: Instant::now(),
            until: None,
        };
        self.account.hops.push(hop);
    }

    /// When servers had sent all of their rows.
    pub(super) fn note_ends(&mut self, indexes: &[usize], ends: &[Option<Instant>]) {
        for (index, end) in indexes.iter().zip(ends) {
            let place = self.leases[*index].place();
            let mut hops = self.account.hops.iter_mut().rev();
            if let Some(hop) = hops.find(|hop| hop.place == place) {
                hop.until = *end;
            }
        }
    }

    /// Makes the spans of a statement that was answered.
    pub(super) fn trace(&self, statement: &Statement<'_>) {
        let (Some(tracer), Some(sampled)) = (&self.shared.tracer, statement.sampled) else {
            return;
        };
        let start = statement.start;
        let shards = &self.db.config.shards;
        let hops = statement.hops.iter();
        let hops = hops.filter(|hop| statement.places.contains(&hop.place));
        let hops = hops.map(|hop| {
            let shard = &shards[usize::from(hop.place.shard.0)];
            let until = hop.until.map(|until| until.duration_since(start));
            spans::Hop {
                shard: &shard.name,
                dbname: &shard.dbname,
                role: hop.place.role,
                endpoint: &hop.endpoint,
                from: hop.from.duration_since(start),
                until: until.unwrap_or(statement.whole),
            }
        });
        let statement = spans::Statement {
            database: &self.info.database,
            user: &self.info.user,
            client: &self.info.address,
            text: statement.digest.map(|digest| digest.text()),
            route: statement.kind.name(),
            rows: statement.rows,
            queued: statement.queued,
            failure: statement.failure,
            elapsed: statement.whole,
            hops: hops.collect(),
        };
        tracer.statement(sampled.parent.as_ref(), &statement);
    }
}
