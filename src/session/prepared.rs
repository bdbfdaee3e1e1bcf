//! Prepared statements of SQL. PostgreSQL keeps one set for PREPARE and the protocol's Parse; so
//! does a session here. Each has a name of Ringway's own on the servers that know it, and EXECUTE
//! is sent with that name in place of the client's.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::BytesMut;
use planner::limit::KeySet;
use planner::plan::{
    Access, ExecuteStatement, Pin, PrepareStatement, SessionEffect, Target, Within,
};
use planner::route::{Execution, Param};
use planner::shape::Shape;
use planner::{Constant, ShardId, Values, constant};

use super::extended::asks_first;
use super::{Prepared, Session, ids, state};
use crate::error::{Error, Fault};
use crate::executor::database::Statement as Text;
use crate::metrics::RouteKind;
use crate::wire::write;

/// Charged for each besides its name and text.
const PREPARED_BYTES: usize = 256;

/// An EXECUTE, and where it goes.
pub(super) struct Executed {
    pub(super) shard: ShardId,
    pub(super) access: Access,
    /// What it executes.
    pub(super) statement: Arc<Text>,
    /// With the server's name for that.
    pub(super) sql: Vec<u8>,
    pub(super) effect: SessionEffect,
    /// The client's name for what it executes.
    pub(super) name: Arc<[u8]>,
    arguments: Vec<Constant>,
}

impl Session {
    /// PREPARE: the statement joins the session's, and a server says what it thinks of it.
    ///
    /// # Errors
    /// 42P05 for a name that is taken, 53400 when there are too many; what the server says.
    pub(super) async fn prepare_sql(
        &mut self,
        prepare: &PrepareStatement,
        sql: &str,
    ) -> Result<(), Error> {
        let name = prepare.name.as_bytes();
        // Spaces in place of what stands before it keep the places that errors tell.
        let before = sql.get(..prepare.body.start).unwrap_or_default();
        let body = sql.get(prepare.body.clone()).unwrap_or_default();
        let text = format!("{}{body}", " ".repeat(before.chars().count()));
        let types = self.types_of(prepare, sql).await?;
        let prepared = self.prepare(name, text.as_bytes(), &types)?;
        if prepared.ids.is_some() {
            return Err(ids::not_in_sql());
        }
        self.check_prepared_bytes(name, &prepared)?;
        let (plan, statement) = (Arc::clone(&prepared.plan), Arc::clone(&prepared.statement));
        let index = self.any_server(&plan, &statement).await?;
        self.end_extended(index).await?;
        self.prepare_on(index, &statement).await?;
        // What is wrong with its text is told first.
        self.check_new_name(name)?;
        self.batch.add_statement(name, prepared);
        self.show_prepared();
        Ok(())
    }

    /// Nothing is owed by the server.
    async fn prepare_on(&mut self, index: usize, text: &Text) -> Result<(), Error> {
        let held = &mut self.leases[index];
        match held.knows(text, self.batch.changed_schema) {
            true => Ok(()),
            false => {
                held.lease
                    .prepare_hidden(text.id, &text.sql, &text.types)
                    .await
            }
        }
    }

    /// For SHOW CLIENTS.
    pub(super) fn show_prepared(&self) {
        let (count, bytes) = self.batch.statement_usage();
        self.info.prepared.store(count, Relaxed);
        self.info.prepared_bytes.store(bytes, Relaxed);
    }

    /// The OIDs of the types that a PREPARE declares.
    async fn types_of(&mut self, prepare: &PrepareStatement, sql: &str) -> Result<Vec<u32>, Error> {
        if prepare.types.is_empty() {
            return Ok(Vec::new());
        }
        let oid = |range: &std::ops::Range<usize>| {
            let name = state::quoted(sql.get(range.clone()).unwrap_or_default());
            format!("{name}::pg_catalog.regtype::pg_catalog.oid")
        };
        let oids: Vec<_> = prepare.types.iter().map(oid).collect();
        let shard = self.pick_shard(&planner::route::Shards::Any);
        let index = self.enlist(shard, Access::Primary).await?;
        self.end_extended(index).await?;
        let lease = &mut self.leases[index].lease;
        let rows = lease
            .ask_hidden(&format!("SELECT {}", oids.join(", ")))
            .await?;
        let read = |value: &Option<bytes::Bytes>| {
            let text = value
                .as_deref()
                .and_then(|value| std::str::from_utf8(value).ok());
            text.and_then(|text| text.parse().ok())
        };
        let types = rows
            .first()
            .map(|row| row.iter().map(read).collect::<Option<Vec<u32>>>());
        types
            .flatten()
            .ok_or_else(|| Error::protocol("a type has no OID"))
    }

    /// # Errors
    /// 53400 when a statement is one too many for this client, or its text for the database. One without
    /// a name, which the next replaces, never is.
    pub(super) fn check_prepared_bytes(
        &mut self,
        name: &[u8],
        prepared: &Prepared,
    ) -> Result<(), Error> {
        let limits = &self.db.config.pool;
        let of_client = self.batch.statement_usage().1 + charge(name, prepared);
        let (whose, limit, key) = if name.is_empty() {
            return Ok(());
        } else if of_client > limits.max_client_prepared_bytes {
            let limit = limits.max_client_prepared_bytes;
            ("The session's", limit, "max_client_prepared_mib")
        } else if self.db.statement_bytes() > limits.max_db_prepared_bytes {
            let limit = limits.max_db_prepared_bytes;
            ("All sessions'", limit, "max_db_prepared_mib")
        } else {
            return Ok(());
        };
        let detail = format!("{whose} prepared statements may take {limit} bytes.");
        let hint = format!("Deallocate those that are not needed any more, or raise {key}.");
        Err(
            Error::new(Fault::Client, "53400", "too many prepared statements")
                .detail(detail)
                .hint(hint),
        )
    }

    /// DEALLOCATE of what the session knows, or of all.
    ///
    /// # Errors
    /// 26000 for a name that is not there.
    pub(super) async fn deallocate(&mut self, name: Option<&str>) -> Result<&'static str, Error> {
        let Some(name) = name else {
            self.batch.forget_statements();
            // What stands among other statements in one text is known to its server only.
            for index in 0..self.leases.len() {
                if self.leases[index].pinned.is_some() {
                    self.end_extended(index).await?;
                    self.leases[index].may_release = true;
                    let lease = &mut self.leases[index].lease;
                    lease.run_hidden("DEALLOCATE ALL").await?;
                    lease.forget_prepared();
                }
            }
            self.show_prepared();
            return Ok("DEALLOCATE ALL");
        };
        let known = self.batch.forget_statement(name.as_bytes());
        self.show_prepared();
        match known {
            true => Ok("DEALLOCATE"),
            false => Err(missing(name)),
        }
    }

    /// Is it for a server to say what a name means? Only one that stays with this client, whatever
    /// it is pinned for: of several reasons just one is remembered.
    pub(super) fn is_servers_own(&self, name: &str) -> bool {
        !self.batch.has_statement(name.as_bytes())
            && self.leases.iter().any(|held| held.pinned.is_some())
    }

    /// Reads an EXECUTE, and does nothing yet.
    ///
    /// # Errors
    /// 26000 for a name that is not there; what cannot be routed.
    pub(super) fn route_execute(
        &mut self,
        execute: &ExecuteStatement,
        sql: &str,
    ) -> Result<Executed, Error> {
        let prepared = match self.batch.has_statement(execute.name.as_bytes()) {
            true => self.prepared(execute.name.as_bytes())?,
            false => return Err(missing(&execute.name)),
        };
        if prepared.ids.is_some() {
            return Err(ids::not_in_sql());
        }
        let (plan, pieces) = (Arc::clone(&prepared.plan), Arc::clone(&prepared.pieces));
        let statement = Arc::clone(&prepared.statement);
        let arguments: Vec<_> = execute
            .arguments
            .iter()
            .filter_map(|range| sql.get(range.clone()))
            .collect();
        let constants: Vec<_> = arguments.iter().map(|text| constant(text)).collect();
        let mut access = plan.access;
        let mut effect = plan.effect.clone();
        if constants.contains(&Constant::Other) {
            if self.db.config.is_sharded() {
                return Err(computed());
            }
            // What the arguments call is called here.
            let select = format!("SELECT {}", arguments.join(", "));
            let mut shape = Shape::default();
            shape.scan(select.as_bytes());
            let catalog = self.catalog();
            let called = self.db.plans.plan(&select, &shape, &[], &catalog).plan;
            access = planner::worse_access(access, called.access);
            effect = planner::worse_effect(effect, called.effect.clone());
        }
        match execute.within {
            Within::Nothing | Within::Explain { runs: true } => {}
            Within::Explain { runs: false } => effect = SessionEffect::None,
            Within::Create { .. } if self.db.config.is_sharded() => return Err(several()),
            Within::Create { temporary } => {
                access = Access::Write;
                if temporary {
                    effect = planner::worse_effect(effect, SessionEffect::Pin(Pin::Temporary));
                }
            }
        }
        let params: Vec<_> = constants
            .iter()
            .enumerate()
            .map(|(index, constant)| Param {
                value: match constant {
                    Constant::Text(text) => Some(text.as_bytes()),
                    Constant::Null | Constant::Other => None,
                },
                binary: false,
                type_oid: statement.types.get(index).copied().unwrap_or(0),
            })
            .collect();
        let values = Values {
            sql: &statement.sql,
            pieces: &pieces,
            params: &params,
        };
        if let Target::Keys { keys, .. } = &plan.target {
            check_given(keys, params.len())?;
        }
        let planned = planner::Plan {
            access,
            ..(*plan).clone()
        };
        let (access, route) = self.decide(&planned, values, sql.as_bytes())?;
        if route.execution != Execution::Direct {
            return Err(several());
        }
        let shard = self.pick_shard(&route.shards);
        let mut text = sql.as_bytes()[..execute.at.start].to_vec();
        text.extend_from_slice(&statement.id.server_name());
        text.extend_from_slice(&sql.as_bytes()[execute.at.end..]);
        Ok(Executed {
            shard,
            access,
            statement,
            sql: text,
            effect,
            name: Arc::clone(&prepared.name),
            arguments: constants,
        })
    }

    /// Before it runs: which settings it changes.
    ///
    /// # Errors
    /// As [`Session::check_settings_named`]; 0A000 where several shards would have to hear of it.
    pub(super) fn check_executed(&mut self, executed: &Executed, sql: &str) -> Result<(), Error> {
        if !asks_first(&executed.effect) {
            return Ok(());
        }
        if executed.effect == SessionEffect::Settings
            && self.db.config.is_sharded()
            && !self.block.is_none()
        {
            return Err(settings_on_shards());
        }
        let given: Vec<_> = executed
            .arguments
            .iter()
            .map(|argument| match argument {
                Constant::Text(text) => Some(text.as_bytes()),
                Constant::Null | Constant::Other => None,
            })
            .collect();
        let texts = [
            (&*executed.statement.sql, &given[..]),
            (sql.as_bytes(), &[]),
        ];
        self.check_settings_named(&executed.effect, &texts)
    }

    /// EXECUTE in the simple protocol.
    pub(super) async fn execute_simple(
        &mut self,
        execute: &ExecuteStatement,
        sql: &str,
    ) -> Result<(), Error> {
        let executed = self.route_execute(execute, sql)?;
        self.check_executed(&executed, sql)?;
        self.note_route(RouteKind::Direct);
        let index = self.enlist(executed.shard, executed.access).await?;
        self.end_extended(index).await?;
        let statement = &executed.statement;
        self.prepare_on(index, statement).await?;
        let lease = &mut self.leases[index].lease;
        lease.executes = Some((statement.id, Arc::clone(&executed.name)));
        self.admit(index, &executed.effect).await?;
        let mut frame = BytesMut::new();
        write::query(&mut frame, &executed.sql);
        if let Within::Create { .. } = execute.within {
            self.note_ddl();
        }
        self.run_on(index, frame).await
    }
}

/// What a prepared statement counts for: nothing without a name.
pub(super) fn charge(name: &[u8], prepared: &Prepared) -> usize {
    if name.is_empty() {
        return 0;
    }
    let ids = prepared.ids.as_ref().map_or(0, |ids| ids.bytes());
    let text = prepared.statement.sql.len() + size_of_val(&*prepared.pieces);
    PREPARED_BYTES + name.len() + text + ids
}

fn missing(name: &str) -> Error {
    let message = format!("prepared statement \"{name}\" does not exist");
    Error::new(Fault::Client, "26000", message)
}

/// A key that EXECUTE was given no argument for is left to the server's own error.
fn check_given(keys: &KeySet, given: usize) -> Result<(), Error> {
    match keys.any_param(|at| at >= given) {
        true => Err(Error::new(
            Fault::Client,
            "42601",
            "wrong number of parameters for prepared statement",
        )),
        false => Ok(()),
    }
}

fn computed() -> Error {
    planner::Refusal::unsupported(
        "EXECUTE with arguments that have to be computed, on a sharded database",
        "Its arguments tell the shard.",
        "Write them as plain numbers and strings, or use the extended protocol.",
    )
    .into()
}

fn settings_on_shards() -> Error {
    planner::Refusal::unsupported(
        "EXECUTE of set_config in a transaction on a sharded database",
        "Every shard of the transaction has to hear of it.",
        "Use SET or SET LOCAL.",
    )
    .into()
}

fn several() -> Error {
    planner::Refusal::unsupported(
        "EXECUTE of a statement that runs on several shards",
        "Its answer would have to be merged.",
        "Send the statement itself, or prepare it with the extended protocol.",
    )
    .into()
}
