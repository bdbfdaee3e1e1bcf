//! Statements by name: Parse, and Describe of a statement.

use std::sync::Arc;

use planner::Values;
use planner::plan::{Access, ExecuteStatement, Statement, Target};
use planner::route::Shards;
use planner::shape::Shape;

use super::portal::local_columns;
use super::reuse::may_reuse;
use super::{Before, Fresh};
use crate::backend::server::Expect;
use crate::error::{Error, Fault};
use crate::executor::database::Statement as Text;
use crate::executor::plans::Planned;
use crate::session::encoding::inexact;
use crate::session::{Known, Prepared, Session, encoding, simple};
use crate::wire::frontend::Parse;
use crate::wire::write;

impl Session {
    /// # Errors
    /// 42P05 for a name that is taken.
    pub(in crate::session) fn check_new_name(&self, name: &[u8]) -> Result<(), Error> {
        if name.is_empty() || !self.batch.statements.contains(name) {
            return Ok(());
        }
        let name = String::from_utf8_lossy(name);
        let message = format!("prepared statement \"{name}\" already exists");
        Err(Error::new(Fault::Client, "42P05", message))
    }

    /// What a server says of a text whose name is taken: that comes before this does.
    pub(super) async fn fault_of(&mut self, parse: &Parse<'_>) -> Result<(), Error> {
        let prepared = self.prepare(b"", parse.sql, &parse.types)?;
        let (plan, text) = (Arc::clone(&prepared.plan), prepared.statement);
        let index = self.any_server(&plan, &text).await?;
        self.activate(index).await?;
        let lease = &mut self.leases[index].lease;
        lease.send_parse_unnamed(text.id, &text.sql, &text.types, false);
        self.fetch().await
    }

    /// The name is not taken.
    pub(super) fn parse(&mut self, parse: &Parse<'_>) -> Result<(), Error> {
        self.db.metrics.client_parses.add(1);
        if !self.is_repeated(parse) {
            let prepared = self.prepare(parse.name, parse.sql, &parse.types)?;
            self.check_prepared_bytes(parse.name, &prepared)?;
            let before = self.batch.statements.remove(parse.name);
            self.batch.statements.insert(parse.name, Arc::new(prepared));
            self.batch.note_parse(parse.name, Before::Other(before));
        } else {
            self.batch.note_parse(parse.name, Before::Same);
        }
        self.note_unnamed(parse.name);
        Ok(())
    }

    /// Drivers that do not prepare send the same unnamed Parse again and again.
    pub(super) fn is_repeated(&self, parse: &Parse<'_>) -> bool {
        self.batch.statements.get(parse.name).is_some_and(|known| {
            !known.is_unread()
                && known.version == self.catalog_version()
                && *known.statement.sql == *parse.sql
                && *known.statement.types == *parse.types
                && self.is_in_context(&known.statement)
        })
    }

    /// Does it take the place of an unnamed statement of which no server has said what it thinks?
    pub(super) fn replaces_pending(&self, parse: &Parse<'_>) -> bool {
        parse.name.is_empty()
            && self.batch.pending.iter().any(Vec::is_empty)
            && !self.is_repeated(parse)
    }

    pub(in crate::session) fn prepare(
        &mut self,
        name: &[u8],
        sql: &[u8],
        types: &[u32],
    ) -> Result<Prepared, Error> {
        let catalog = self.catalog();
        let mut shape = std::mem::take(&mut self.shape);
        let text = self.readable(sql);
        let planned = text.as_deref().map(|text| {
            shape.scan(text.as_bytes());
            self.db.plans.plan(text, &shape, types, &catalog)
        });
        let (planned, digest) = match planned {
            Some(Planned { plan, digest }) => (Some(plan), digest),
            None => (None, None),
        };
        let kept = self.kept_text(sql, None);
        self.account.statement(digest.clone(), kept);
        let parent = self.parent_of(sql);
        self.sample(parent.as_deref());
        let exact = matches!(text, Some(std::borrow::Cow::Borrowed(_)));
        if let Some(plan) = &planned
            && exact
            && let Target::Ids(ids) = &plan.target
        {
            let pieces = std::mem::take(&mut shape.pieces);
            let values = Values {
                sql,
                pieces: &pieces,
                params: &[],
            };
            self.shape = shape;
            return self.prepare_with_ids(name, types, values, ids);
        }
        let plan = match planned {
            Some(plan) if exact || simple::is_its_rows_alone(&plan.statement) => plan,
            Some(_) | None if self.db.config.is_sharded() => return Err(encoding::not_utf8()),
            Some(plan) if matches!(plan.statement, Statement::Commit | Statement::Rollback) => plan,
            Some(plan) => Arc::new(inexact(&plan)),
            // Only its surroundings matter: it goes to the primary, and the connection is cleaned.
            None => {
                self.db
                    .plans
                    .plan("DO ''", &Shape::default(), &[], &catalog)
                    .plan
            }
        };
        // Values are looked for in a text only where they tell the shard.
        let pieces = match self.db.config.is_sharded() {
            true => shape.pieces.as_slice().into(),
            false => Arc::default(),
        };
        let reusable = name.is_empty()
            && self.db.config.pool.reuse_unnamed
            && may_reuse(&plan, sql, &shape.pieces);
        let known = match reusable {
            true => Known::Reusable,
            false => Known::Text,
        };
        self.shape = shape;
        let statement = match name {
            b"" => {
                let version = reusable.then_some(catalog.version);
                self.db
                    .unnamed_statement(sql, types, self.context_of(sql), version)
            }
            // Others do not see the schema that it is parsed by.
            _ if self.batch.changed_schema => {
                self.db
                    .unnamed_statement(sql, types, self.context_of(sql), None)
            }
            _ => self
                .db
                .statement(sql, types, self.context_of(sql), catalog.version),
        };
        Ok(Prepared {
            statement,
            plan,
            pieces,
            version: catalog.version,
            digest,
            parent,
            name: name.into(),
            known,
            ids: None,
        })
    }

    /// The statement of that name, planned anew if the schema or the session's settings changed since.
    pub(in crate::session) fn prepared(&mut self, name: &[u8]) -> Result<Arc<Prepared>, Error> {
        let missing = || {
            let name = String::from_utf8_lossy(name);
            Error::new(
                Fault::Client,
                "26000",
                match name.is_empty() {
                    true => "unnamed prepared statement does not exist".to_owned(),
                    false => format!("prepared statement \"{name}\" does not exist"),
                },
            )
        };
        let found = self.batch.statements.get(name).ok_or_else(missing)?;
        if found.is_unread() {
            let (found, id) = (Arc::clone(found), found.statement.id);
            return match self.leases.iter_mut().any(|h| h.lease.has_prepared(id)) {
                true => Ok(found),
                false => Err(missing().detail(
                    "Its text was too long to be kept, and the server that had it dropped it.",
                )),
            };
        }
        let renew =
            found.version != self.catalog_version() || !self.is_in_context(&found.statement);
        if !renew {
            return Ok(Arc::clone(found));
        }
        let statement = Arc::clone(&found.statement);
        let mut renewed = match found.ids.clone() {
            Some(ids) => {
                let types = statement.types.get(..ids.declared).unwrap_or_default();
                self.prepare(name, &ids.sql, types)?
            }
            None => self.prepare(name, &statement.sql, &statement.types)?,
        };
        let same = renewed.statement.sql == statement.sql;
        if same && !name.is_empty() && self.is_in_context(&statement) {
            // What it returns is what it was when the client had it parsed, or an error.
            renewed.statement = statement;
        }
        let renewed = Arc::new(renewed);
        // As many bytes as before.
        self.batch.statements.insert(name, Arc::clone(&renewed));
        Ok(renewed)
    }

    /// Sends the Parse messages that wait, and makes sure that `name` is known to the server.
    pub(in crate::session) fn ensure_parsed(&mut self, index: usize, name: &[u8]) {
        let mut pending = std::mem::take(&mut self.batch.pending);
        for waiting in &pending {
            self.parse_on(index, waiting, true);
        }
        // What was known here may have made way for another of those that waited.
        if !matches!(&pending[..], [only] if only == name) {
            self.parse_on(index, name, false);
        }
        pending.clear();
        self.batch.pending = pending;
    }

    /// `show`: the client waits for ParseComplete.
    pub(super) fn parse_on(&mut self, index: usize, name: &[u8], show: bool) {
        let Some(prepared) = self.batch.statements.get(name) else {
            return;
        };
        let statement = &prepared.statement;
        let changed_schema = self.batch.changed_schema;
        let held = &mut self.leases[index];
        if prepared.is_unread() {
            // It is nowhere else, and stays there.
        } else if name.is_empty() {
            if show || held.lease.unnamed != Some(statement.id) {
                self.db.metrics.server_parses.add(1);
                held.lease
                    .send_parse_unnamed(statement.id, &statement.sql, &statement.types, show);
            }
        } else if !held.knows(statement, changed_schema) {
            self.db.metrics.server_parses.add(1);
            held.lease
                .send_prepare(statement.id, &statement.sql, &statement.types, show);
        } else if show {
            held.lease.expect.push_back(Expect::Known(statement.id));
        }
    }

    /// ParseComplete for a statement that is bound where no server needs to see it first; those
    /// parsed before it are verified.
    pub(super) async fn complete_pending(&mut self, bound: &[u8]) -> Result<(), Error> {
        if matches!(&self.batch.pending[..], [only] if only == bound) {
            self.batch.pending.clear();
            self.complete_parse(bound);
            return Ok(());
        }
        self.check_pending().await
    }

    pub(super) fn complete_parse(&mut self, name: &[u8]) {
        let id = self.batch.statements.get(name).map(|p| p.statement.id);
        match (id, self.batch.active.and_then(|i| self.leases.get_mut(i))) {
            (Some(id), Some(held)) if !held.lease.expect.is_empty() => {
                held.lease.expect.push_back(Expect::Known(id));
            }
            (Some(_) | None, _) => self.client.outbox.extend_from_slice(write::PARSE_COMPLETE),
        }
    }

    /// Statements whose Parse failed, or came after what failed, were never made.
    pub(super) fn forget_rejected(&mut self) {
        if (self.leases.iter()).all(|held| held.lease.rejected.is_empty()) {
            self.batch.fresh.clear();
            return;
        }
        let rejected = self
            .leases
            .iter_mut()
            .flat_map(|held| held.lease.rejected.drain(..));
        let mut rejected: Vec<_> = rejected.collect();
        let statements = &mut self.batch.statements;
        for Fresh { name, before } in self.batch.fresh.drain(..).rev() {
            let id = statements.get(&name).map(|prepared| prepared.statement.id);
            // Equal texts under several names have one id: each rejection is of one of them.
            let of_it = rejected.iter().rposition(|(r, _)| Some(*r) == id);
            match (of_it.map(|at| rejected.remove(at)), before) {
                (None, _) | (Some(_), Before::Same) => {}
                // A Parse that fails has dropped the unnamed statement already.
                (Some((_, true)), _) | (Some(_), Before::Other(None)) => {
                    statements.remove(&name);
                }
                (Some((_, false)), Before::Other(Some(before))) => {
                    statements.insert(&name, before);
                }
            }
        }
    }

    /// Statements of which a server has said that their tables have changed.
    pub(in crate::session) fn forget_outdated(&mut self, index: usize) {
        let outdated = std::mem::take(&mut self.leases[index].lease.outdated);
        for prepared in self.batch.statements.values_mut() {
            if outdated.contains(&prepared.statement.id) {
                prepared.statement.outdate();
            }
        }
    }

    /// Statements that no server was asked about before an error came were never made.
    pub(super) fn forget_pending(&mut self) {
        for _ in self.batch.pending.drain(..) {
            match self.batch.fresh.pop() {
                Some(Fresh {
                    name,
                    before: Before::Other(Some(before)),
                }) => {
                    self.batch.statements.insert(&name, before);
                }
                Some(Fresh {
                    name,
                    before: Before::Other(None),
                }) => {
                    self.batch.statements.remove(&name);
                }
                Some(Fresh {
                    before: Before::Same,
                    ..
                })
                | None => {}
            }
        }
    }

    pub(super) async fn describe_statement(&mut self, name: &[u8]) -> Result<(), Error> {
        let prepared = self.prepared(name)?;
        let plan = Arc::clone(&prepared.plan);
        let sql = Arc::clone(&prepared.statement);
        if let Some(local) = self.bind_locally(&plan.statement, &sql.sql) {
            self.check_pending().await?;
            self.emit(write::NO_PARAMETERS);
            let columns = local_columns(&local);
            self.emit(&columns);
            return Ok(());
        }
        if let Statement::Execute(execute) = &plan.statement
            && !self.is_servers_own(&execute.name)
        {
            return Box::pin(self.describe_execute(name, execute, &sql.sql)).await;
        }
        let index = match prepared.is_unread() {
            true => self.server_of_unread().await?,
            false => self.any_server(&plan, &sql).await?,
        };
        self.activate(index).await?;
        self.ensure_parsed(index, name);
        if let Some(ids) = &prepared.ids {
            self.describe_with_ids(index, name, &prepared, ids);
            return Ok(());
        }
        let server_name = prepared.server_name();
        let lease = &mut self.leases[index].lease;
        write::describe(&mut lease.conn.outbox, b'S', &server_name);
        let of = (!name.is_empty()).then_some(sql.id);
        lease.expect.push_back(Expect::Describe { of });
        Ok(())
    }

    /// As for Bind, the server gets another text.
    async fn describe_execute(
        &mut self,
        name: &[u8],
        execute: &ExecuteStatement,
        sql: &[u8],
    ) -> Result<(), Error> {
        let text = std::str::from_utf8(sql).unwrap_or_default();
        let executed = self.route_execute(execute, text)?;
        let access = self.describe_access(executed.access);
        let lease = self.enlist(executed.shard, access).await?;
        self.complete_pending(name).await?;
        self.activate(lease).await?;
        let text = &executed.sql;
        let id = self.db.unnamed_statement(text, &[], &self.context, None).id;
        let server = self.parse_execute(lease, &executed, id);
        write::describe(&mut server.conn.outbox, b'S', b"");
        server.expect.push_back(Expect::Describe {
            of: Some(executed.statement.id),
        });
        Ok(())
    }

    /// A server that knows the schema the statement needs.
    pub(in crate::session) async fn any_server(
        &mut self,
        plan: &planner::Plan,
        text: &Text,
    ) -> Result<usize, Error> {
        let place = self
            .wishes
            .of_statement(&text.sql)?
            .and_then(|hints| hints.place.clone());
        if let Some(place) = place {
            let shard = self.pick_shard(&self.placed(plan, &text.sql, &place)?.shards);
            return self.enlist(shard, self.describe_access(plan.access)).await;
        }
        let shard = match &plan.target {
            Target::Refused(refusal) => {
                let refusal = refusal.clone().into();
                if Box::pin(self.learns_of_table(&refusal)).await {
                    let sql = std::str::from_utf8(&text.sql).unwrap_or_default();
                    let plan = self.plan_anew(sql, &mut Shape::default(), &text.types);
                    return Box::pin(self.any_server(&plan, text)).await;
                }
                return Err(Box::pin(self.syntax_error_or(refusal, &text.sql, &text.types)).await);
            }
            Target::OneShard(shard) => *shard,
            Target::AnyShard
            | Target::Keys { .. }
            | Target::AllShards(_)
            | Target::Moves(_)
            | Target::Ids(_) => {
                let only = match &plan.target {
                    Target::AllShards(many) => many.only_shard(),
                    _ => None,
                };
                let known = only.or_else(|| self.shard_of_cursor(&text.sql));
                match (known, self.batch.active) {
                    (Some(shard), _) => shard,
                    (None, Some(index)) => return Ok(index),
                    (None, None) => self.pick_shard(&Shards::Any),
                }
            }
        };
        self.enlist(shard, self.describe_access(plan.access)).await
    }

    /// Where a statement is described that will run with `access`.
    fn describe_access(&self, access: Access) -> Access {
        match access {
            Access::Write | Access::Primary if !self.reads_on_replica() => Access::Primary,
            Access::Read | Access::Write | Access::Primary => Access::Read,
        }
    }
}
