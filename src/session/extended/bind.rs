//! Bind: where a statement goes, now that its values are known.

use std::sync::Arc;

use bytes::BytesMut;
use planner::plan::{ExecuteStatement, Statement};
use planner::route::{Execution, Param};
use planner::{ShardId, Values};

use super::{
    BroadcastPortal, CopyPortal, CopyWay, Explaining, Local, Portal, Ran, ScatterPortal, asks_first,
};
use crate::backend::server::{Expect, Server, StatementId};
use crate::error::{Error, Fault};
use crate::executor::broadcast::{Combine, Job};
use crate::executor::database::Statement as Text;
use crate::metrics::RouteKind;
use crate::session::block::aborted;
use crate::session::cursors::Declaring;
use crate::session::prepared::Executed;
use crate::session::retry::resend_of;
use crate::session::routed::changes_settings;
use crate::session::scattered::{Query, Scattered};
use crate::session::writes::{job_of_moves, job_of_parts};
use crate::session::{Enlisted, Known, Prepared, Session, local};
use crate::wire::frame::HEADER;
use crate::wire::frontend::Bind;
use crate::wire::write;

impl Session {
    pub(super) async fn bind(&mut self, frame: &[u8]) -> Result<(), Error> {
        let names = Bind::names(&frame[HEADER..])?;
        let prepared = self.prepared(names.1)?;
        self.note_bound(&prepared, &frame[HEADER..]);
        match &prepared.ids {
            Some(ids) if !self.block.is_failed() => {
                let frame = Box::pin(self.bind_with_ids(frame, ids)).await?;
                let body = &frame[HEADER..];
                let names = Bind::names(body)?;
                self.bind_whole(body, names, prepared).await
            }
            Some(_) | None => self.bind_whole(&frame[HEADER..], names, prepared).await,
        }
    }

    /// A Bind with values for all parameters: its body, taken apart by [`Bind::names`].
    async fn bind_whole(
        &mut self,
        body: &[u8],
        (portal, name, rest): (&[u8], &[u8], &[u8]),
        prepared: Arc<Prepared>,
    ) -> Result<(), Error> {
        // Unless it runs on one server as it stands.
        let resend = std::mem::take(&mut self.resend);
        let Prepared {
            plan,
            statement,
            pieces,
            version: _,
            digest,
            parent: _,
            name: _,
            known,
            ids: _,
        } = &*prepared;
        let ends_block = matches!(
            plan.statement,
            Statement::Commit | Statement::Rollback | Statement::Savepoint(_)
        );
        let unread = *known == Known::Unread;
        // What cannot be read may end it: the server knows.
        let asks_server = unread && self.only_in_block().is_some();
        if self.block.is_failed() && !ends_block && !asks_server && !chains(&plan.statement) {
            return Err(aborted());
        }
        if matches!(plan.statement, Statement::Begin { .. }) {
            self.check_blocks_allowed()?;
        }
        if self.batch.pending.iter().any(|other| other != name) {
            self.check_pending().await?;
        }
        if let Statement::Execute(execute) = &plan.statement
            && !self.is_servers_own(&execute.name)
        {
            return Box::pin(self.bind_execute([portal, name, rest], execute, &statement.sql))
                .await;
        }
        if let Some(mut local) = self.bind_locally(&plan.statement, &statement.sql) {
            if let Local::Cursor(portal) = &mut local {
                self.bind_cursor(portal, body)?;
            }
            self.note_route(RouteKind::Local);
            self.account.bound_here(portal);
            self.complete_pending(name).await?;
            let values = Bind::read(body)?.values.len();
            if values > 0 {
                let name = String::from_utf8_lossy(name);
                let message = format!(
                    "bind message supplies {values} parameters, but prepared statement \"{name}\" requires 0"
                );
                return Err(Error::new(Fault::Client, "08P01", message));
            }
            self.name_portal(portal, None)?;
            self.emit(write::BIND_COMPLETE);
            self.batch.portals.insert(portal, Portal::Local(local));
            return Ok(());
        }
        let bytes = statement.sql.len();
        if let Some(index) = Box::pin(self.first_of_all(&plan.statement, bytes)).await? {
            self.name_portal(portal, Some(index))?;
            self.activate(index).await?;
            self.bind_on(index, portal, name, rest, Arc::clone(&prepared));
            return Ok(());
        }
        if let Statement::Multiple(known) = &plan.statement {
            self.check_sets(known)?;
        }
        if asks_first(&plan.effect) {
            let named = Bind::read(body)?;
            self.check_settings_named(&plan.effect, &[(&statement.sql, &named.values)])?;
        }
        if changes_settings(&plan.effect) && self.db.config.is_sharded() && !self.block.is_none() {
            return Err(settings_on_shards());
        }
        if plan.statement == Statement::Notify {
            self.note_notify();
        }
        // Values are read only where something depends on them.
        let bind;
        let mut params = Vec::new();
        if self.db.config.is_sharded() {
            bind = Bind::read(body)?;
            params.extend(params_of(&bind, &statement.types));
        } else {
            bind = Bind {
                portal,
                statement: name,
                formats: vec![],
                values: vec![],
                result_formats: vec![],
                rest,
            };
        }
        let values = Values {
            sql: &statement.sql,
            pieces,
            params: &params,
        };
        let decided = self.decide(plan, values, &statement.sql);
        let mut notices = BytesMut::new();
        let (access, shards, execution) = match decided {
            Ok((access, route)) => {
                self.note_keys(plan, values);
                if route.execution != Execution::Direct {
                    notices = self.policy_notices(plan, &route);
                }
                let query = Query {
                    sql: &statement.sql,
                    types: &statement.types,
                    bind: Some(&bind),
                    values,
                };
                let execution = match route.execution {
                    Execution::Direct => Kind::Direct,
                    Execution::Merge { .. } | Execution::Gather(_) => {
                        let count = self.shard_set(&route.shards).len();
                        Kind::Scatter(self.scattered(route.execution, &query, count)?)
                    }
                    Execution::SumTags => Kind::Broadcast(Job::bound(
                        (&statement.sql, &statement.types, rest),
                        Combine::Sum,
                    )),
                    Execution::Lock(merge) => {
                        let count = self.shard_set(&route.shards).len();
                        let merger = self.merger(merge, count, values)?;
                        Kind::Broadcast(Job::bound(
                            (&statement.sql, &statement.types, rest),
                            Combine::Merged(Box::new(merger)),
                        ))
                    }
                    Execution::Move { moving, from, sql } => Kind::Broadcast(job_of_moves(
                        self.moves(moving, from),
                        &route.shards,
                        &sql,
                        &statement.types,
                        Some(&bind),
                    )),
                    Execution::Insert(inserting) => {
                        Kind::Broadcast(self.insertion(&inserting, &query)?)
                    }
                    Execution::Write { gathering, on } => {
                        Kind::Broadcast(self.gathered_write(*gathering, on, &query))
                    }
                    Execution::Split { split, parts } => Kind::Broadcast(job_of_parts(
                        split,
                        &parts,
                        &statement.sql,
                        &statement.types,
                        Some(&bind),
                    )),
                    Execution::Explain(explained) => {
                        let shards = self.shard_set(&route.shards);
                        let max_lag = self.wishes.max_lag;
                        Kind::Explain(Box::new(Explaining {
                            explained,
                            shards,
                            access,
                            max_lag,
                        }))
                    }
                    Execution::Cursor(declare) => {
                        let texts = (&*statement.sql, &*statement.types);
                        let given = (Some(&bind), &*params);
                        let (declaring, told) =
                            self.declaring(declare, plan, access, texts, given)?;
                        notices = told;
                        Kind::Declare(Box::new(declaring))
                    }
                    Execution::CopyIn(_) => Kind::Copy(CopyWay::In),
                    Execution::CopyOut(frame) => Kind::Copy(CopyWay::Out(frame)),
                    Execution::CopyRows(copy) => {
                        let count = self.shard_set(&route.shards).len();
                        let scattered = self.copied(*copy, count)?;
                        Kind::Copy(CopyWay::Rows(Arc::new(scattered)))
                    }
                    Execution::SameAnswer => Kind::Broadcast(Job::bound(
                        (&statement.sql, &statement.types, rest),
                        Combine::First,
                    )),
                };
                (access, route.shards, execution)
            }
            Err(error) if self.learns_of_table(&error).await => {
                let prepared = self.prepared(name)?;
                return Box::pin(self.bind_whole(body, (portal, name, rest), prepared)).await;
            }
            Err(error) => {
                return Err(Box::pin(self.syntax_error_or(
                    error,
                    &statement.sql,
                    &statement.types,
                ))
                .await);
            }
        };
        let made = match execution {
            Kind::Direct => {
                self.check_transaction_control(&plan.statement, &statement.sql)?;
                self.note_route(RouteKind::Direct);
                let shard = self.pick_shard(&shards);
                self.batch.forget_replaced_portal(portal);
                self.resend = resend.max(resend_of(plan, access));
                let index = self.enlist(shard, access).await?;
                self.admit(index, &plan.effect).await?;
                self.leases[index].ask_settings |= unread;
                self.name_portal(portal, Some(index))?;
                self.activate(index).await?;
                self.bind_on(index, portal, name, rest, Arc::clone(&prepared));
                return Ok(());
            }
            Kind::Scatter(scattered) => {
                self.note_route(scattered.kind());
                Portal::Scatter(Box::new(ScatterPortal {
                    shards: self.shard_set(&shards),
                    scattered: Box::new(scattered),
                    has_started: false,
                    run: None,
                    columns: BytesMut::new(),
                    access,
                    max_lag: self.wishes.max_lag,
                    interrupted: false,
                    digest: digest.clone(),
                }))
            }
            Kind::Declare(declaring) => {
                self.account.bound_here(portal);
                Portal::Local(Local::Declare(declaring))
            }
            Kind::Copy(way) => {
                self.note_route(match &way {
                    CopyWay::In | CopyWay::Out(_) => RouteKind::Broadcast,
                    CopyWay::Rows(scattered) => scattered.kind(),
                });
                Portal::Copy(Box::new(CopyPortal {
                    plan: Arc::clone(plan),
                    sql: statement.sql.to_vec(),
                    shards: self.shard_set(&shards),
                    access,
                    way,
                    ran: false,
                    digest: digest.clone(),
                }))
            }
            Kind::Explain(explaining) => {
                self.note_route(RouteKind::Broadcast);
                self.account.bound_here(portal);
                Portal::Local(Local::ExplainOn(explaining))
            }
            Kind::Broadcast(job) => {
                self.note_route(RouteKind::Broadcast);
                Portal::Broadcast(Box::new(BroadcastPortal {
                    plan: Arc::clone(plan),
                    sql: statement.sql.to_vec(),
                    types: statement.types.to_vec(),
                    result_formats: bind.result_formats.clone(),
                    shards: self.shard_set(&shards),
                    job,
                    ran: Ran::NotYet,
                    digest: digest.clone(),
                }))
            }
        };
        self.complete_pending(name).await?;
        self.name_portal(portal, None)?;
        self.emit(&notices);
        self.emit(write::BIND_COMPLETE);
        self.batch.portals.insert(portal, made);
        Ok(())
    }

    /// Sends Bind to the active server, with what it must know of the statement before.
    pub(super) fn bind_on(
        &mut self,
        index: usize,
        portal: &[u8],
        name: &[u8],
        rest: &[u8],
        prepared: Arc<Prepared>,
    ) {
        self.ensure_parsed(index, name);
        let lease = &mut self.leases[index].lease;
        let outbox = &mut lease.conn.outbox;
        let server_name = prepared.server_name();
        write::bind(outbox, portal, &server_name, rest);
        let called = || (prepared.statement.id, Arc::clone(&prepared.name));
        let called = (!server_name.is_empty()).then(called);
        lease.expect.push_back(Expect::Bind { called });
        self.batch.bind_portal(portal, index, prepared);
    }

    /// EXECUTE of SQL: its text has another name in it for the server, so it is parsed anew there.
    async fn bind_execute(
        &mut self,
        [portal, name, rest]: [&[u8]; 3],
        execute: &ExecuteStatement,
        sql: &[u8],
    ) -> Result<(), Error> {
        let text = std::str::from_utf8(sql).unwrap_or_default();
        let executed = self.route_execute(execute, text)?;
        self.check_executed(&executed, text)?;
        self.note_route(RouteKind::Direct);
        let lease = self.enlist(executed.shard, executed.access).await?;
        self.admit(lease, &executed.effect).await?;
        self.name_portal(portal, Some(lease))?;
        self.complete_pending(name).await?;
        self.activate(lease).await?;
        let prepared = Arc::new(self.prepare(b"", &executed.sql, &[])?);
        let server = self.parse_execute(lease, &executed, prepared.statement.id);
        write::bind(&mut server.conn.outbox, portal, b"", rest);
        server.expect.push_back(Expect::Bind { called: None });
        let made = Portal::Server { lease, prepared };
        self.batch.portals.insert(portal, made);
        Ok(())
    }

    /// Parses a rewritten EXECUTE on the active server, after the statement that it executes.
    pub(super) fn parse_execute(
        &mut self,
        index: usize,
        executed: &Executed,
        id: StatementId,
    ) -> &mut Server {
        let Text { sql, types, .. } = &*executed.statement;
        let held = &mut self.leases[index];
        let known = held.knows(&executed.statement, self.batch.changed_schema);
        let server = &mut held.lease;
        if !known {
            server.send_prepare(executed.statement.id, sql, types, false);
        }
        server.executes = Some((executed.statement.id, Arc::clone(&executed.name)));
        server.send_parse_unnamed(id, &executed.sql, &[], false);
        server
    }

    /// May a portal have this name? Its own server `on` knows better about those that live there.
    pub(in crate::session) fn name_portal(
        &self,
        name: &[u8],
        on: Option<usize>,
    ) -> Result<(), Error> {
        let taken = match self.batch.portals.get(name) {
            Some(Portal::Server { lease, .. }) => Some(*lease) != on,
            Some(
                Portal::Local(_) | Portal::Scatter(_) | Portal::Broadcast(_) | Portal::Copy(_),
            ) => true,
            None => self.cursors.named(name).is_some(),
        };
        if name.is_empty() || !taken {
            return Ok(());
        }
        let name = String::from_utf8_lossy(name);
        let message = format!("cursor \"{name}\" already exists");
        Err(Error::new(Fault::Client, "42P03", message))
    }

    /// Servers that a COMMIT concerns.
    pub(super) fn taking_part(&self) -> usize {
        self.leases.iter().filter(|held| takes_part(held)).count()
    }

    /// Statements that need no server, or not only one.
    pub(in crate::session) fn bind_locally(
        &self,
        statement: &Statement,
        sql: &[u8],
    ) -> Option<Local> {
        match statement {
            Statement::Empty => Some(Local::Empty),
            Statement::Begin { mode } => Some(Local::Begin {
                sql: sql.to_vec(),
                mode: *mode,
            }),
            Statement::Commit | Statement::Rollback => {
                let commit = *statement == Statement::Commit;
                (self.taking_part() != 1).then_some(Local::End { commit })
            }
            Statement::Chain { commit } => {
                let begun = self.db.config.is_sharded() && !self.block.is_none();
                begun.then_some(Local::Chain { commit: *commit })
            }
            Statement::Set(set) if local::is_ours(set.name.as_deref()) => {
                Some(Local::Set(set.clone()))
            }
            Statement::Show(name) if local::is_ours(Some(name)) => Some(Local::Show(name.clone())),
            Statement::ExplainRoute { inner } => {
                let text = std::str::from_utf8(sql).ok()?;
                Some(Local::Explain(self.explain_route(text, inner.clone())))
            }
            Statement::Prepare(prepare) => Some(Local::Prepare(prepare.clone(), sql.into())),
            Statement::Deallocate(name) => {
                let servers = name
                    .as_deref()
                    .is_some_and(|name| self.is_servers_own(name));
                (!servers).then(|| Local::Deallocate(name.clone()))
            }
            Statement::Listen(channel) => {
                (!self.is_session_mode()).then(|| Local::Listen(channel.clone()))
            }
            Statement::Unlisten(channel) => {
                (!self.is_session_mode()).then(|| Local::Unlisten(channel.clone()))
            }
            Statement::Other => self.cursor_locally(sql),
            Statement::Execute(_)
            | Statement::LockTable
            | Statement::Notify
            | Statement::Savepoint(_)
            | Statement::Set(_)
            | Statement::Query
            | Statement::Insert
            | Statement::Update
            | Statement::Delete
            | Statement::Merge
            | Statement::Ddl { .. }
            | Statement::TwoPhase
            | Statement::Show(_)
            | Statement::CopyIn
            | Statement::CopyOut
            | Statement::Multiple(_) => None,
        }
    }

    /// SAVEPOINT, SET and COMMIT concern every enlisted server. The one that answers the client: the
    /// others hear of it when it is executed. `bytes` of text.
    async fn first_of_all(
        &mut self,
        statement: &Statement,
        bytes: usize,
    ) -> Result<Option<usize>, Error> {
        match statement {
            Statement::Set(set) => {
                self.check_set(set)?;
                self.check_prelude(bytes)?;
                self.follow_set_transaction(set).await?;
            }
            Statement::Savepoint(_) => {
                if self.batch.implicit {
                    let message = "savepoints can only be used in transaction blocks";
                    return Err(Error::new(Fault::Client, "25P01", message)
                        .hint("Send BEGIN before the first statement."));
                }
                self.check_prelude(bytes)?;
                self.check_revivable()?;
            }
            Statement::Commit | Statement::Rollback => {}
            Statement::Begin { .. }
            | Statement::Empty
            | Statement::Query
            | Statement::Insert
            | Statement::Update
            | Statement::Delete
            | Statement::Merge
            | Statement::Ddl { .. }
            | Statement::TwoPhase
            | Statement::Chain { .. }
            | Statement::Show(_)
            | Statement::CopyIn
            | Statement::CopyOut
            | Statement::ExplainRoute { .. }
            | Statement::Prepare(_)
            | Statement::Execute(_)
            | Statement::Deallocate(_)
            | Statement::Listen(_)
            | Statement::Unlisten(_)
            | Statement::Notify
            | Statement::LockTable
            | Statement::Other
            | Statement::Multiple(_) => return Ok(None),
        }
        // What is pinned but has no part in this transaction comes last.
        let first = self.leases.iter().position(takes_part);
        let first = first.or_else(|| self.leases.iter().position(|held| held.pinned.is_some()));
        let shard = first.map_or(ShardId(0), |index| self.leases[index].shard);
        if self.batch.suspended {
            Box::pin(self.end_runs()).await?;
        }
        self.reach(shard, self.any_access()).await.map(Some)
    }
}

/// It ends a block that failed, and begins another.
pub(super) fn chains(statement: &Statement) -> bool {
    matches!(statement, Statement::Chain { .. })
}

/// Is it told of the open transaction, or was it sent a part of this pipeline?
fn takes_part(held: &Enlisted) -> bool {
    held.in_block || held.needs_sync
}

/// The values of a Bind as routing reads them.
pub(super) fn params_of<'a>(
    bind: &'a Bind<'a>,
    types: &'a [u32],
) -> impl Iterator<Item = Param<'a>> {
    bind.values.iter().enumerate().map(|(i, value)| Param {
        value: *value,
        binary: bind.is_binary(i),
        type_oid: types.get(i).copied().unwrap_or(0),
    })
}

fn settings_on_shards() -> Error {
    planner::Refusal::unsupported(
        "set_config by the extended protocol in a transaction on a sharded database",
        "Every shard of the transaction has to hear of it.",
        "Use SET or SET LOCAL, or the simple protocol.",
    )
    .into()
}

enum Kind {
    Direct,
    Scatter(Scattered),
    Broadcast(Job),
    Declare(Box<Declaring>),
    Copy(CopyWay),
    Explain(Box<Explaining>),
}
