//! Statements that a plan routes, over the simple protocol; and what both protocols share of it.

use std::sync::Arc;

use bytes::BytesMut;
use planner::plan::{Access, Plan, SessionEffect, Statement, Target};
use planner::route::{Execution, Shards};
use planner::shape::{Piece, Shape};
use planner::{Route, ShardId, ShardSet, Values, route};

use super::block::Reads;
use super::hints::Place;
use super::retry::{Failed, MOST, resend_of};
use super::scattered::{Query, Scattered, Started, lost_again};
use super::writes::{self, Way};
use super::{Session, hints};
use crate::backend::server::Server;
use crate::error::Error;
use crate::executor::broadcast::{Combine, Job};
use crate::executor::database::may_alter;
use crate::executor::relay::{Broken, Told};
use crate::executor::scatter::drain;
use crate::metrics::{ReadBy, RouteKind};
use crate::wire::frame::HEADER;
use crate::wire::frontend;

impl Session {
    pub(super) async fn routed_simple(
        &mut self,
        frame: BytesMut,
        plan: &Plan,
        pieces: &[Piece],
    ) -> Result<(), Error> {
        let sql = frontend::query(&frame[HEADER..])?;
        if plan.statement == Statement::Other
            && let Some(action) = self.cursor_action(sql)
        {
            return Box::pin(self.act_simple(&action)).await;
        }
        let values = Values {
            sql,
            pieces,
            params: &[],
        };
        let decided = self.decide(plan, values, sql);
        let (access, route) = match decided {
            Ok(decided) => decided,
            Err(error) if self.learns_of_table(&error).await => {
                let text = std::str::from_utf8(sql).unwrap_or_default();
                let mut shape = Shape::default();
                let plan = self.plan_anew(text, &mut shape, &[]);
                return Box::pin(self.routed_simple(frame, &plan, &shape.pieces)).await;
            }
            Err(error) => return Err(Box::pin(self.syntax_error_or(error, sql, &[])).await),
        };
        self.note_keys(plan, values);
        if let Statement::Multiple(known) = &plan.statement {
            self.check_sets(known)?;
        }
        self.check_settings_named(&plan.effect, &[(values.sql, &[])])?;
        if changes_settings(&plan.effect) && self.db.config.is_sharded() && !self.block.is_none() {
            // Every shard of the transaction has to hear of it.
            if !is_sent_to_all(plan, sql) {
                return Err(not_settings_alone());
            }
            let ran = Box::pin(self.on_all_enlisted(frame, None)).await?;
            if ran && plan.effect == SessionEffect::Settings {
                self.lose_track();
                self.leases
                    .iter_mut()
                    .for_each(|held| held.ask_settings |= held.ran_set);
            }
            return Ok(());
        }
        if route.execution != Execution::Direct {
            let notices = self.policy_notices(plan, &route);
            self.client.outbox.extend_from_slice(&notices);
        }
        if needs_all_values(&route.execution) && planner::names_parameter(sql) {
            // A Query has no values. Which it has to have is the server's to say.
            let shard = self.pick_shard(&route.shards);
            self.resend = resend_of(plan, access);
            let result = self.run_whole(frame, shard, access, &plan.effect).await;
            return result.map(drop);
        }
        match route.execution {
            Execution::Direct => {
                self.note_route(RouteKind::Direct);
                self.check_transaction_control(&plan.statement, sql)?;
                let shard = self.pick_shard(&route.shards);
                if plan.statement == Statement::Notify {
                    self.note_notify();
                }
                self.resend = resend_of(plan, access);
                let is_ddl = matches!(plan.statement, Statement::Ddl { alters: true, .. });
                let alters = is_ddl && may_alter(sql);
                if is_ddl {
                    self.note_ddl();
                }
                let result = self.run_whole(frame, shard, access, &plan.effect).await;
                if alters {
                    self.db.note_altered();
                }
                match (result, &plan.statement) {
                    (Ok(index), Statement::Multiple(known)) => {
                        self.follow_multiple(index, known, &plan.effect)
                    }
                    (result, _) => result.map(drop),
                }
            }
            execution @ (Execution::Merge { .. } | Execution::Gather(_)) => {
                self.end_joined(None).await?;
                let shards = self.shard_set(&route.shards);
                let query = Query {
                    sql,
                    types: &[],
                    bind: None,
                    values,
                };
                let scattered = self.scattered(execution, &query, shards.len())?;
                self.note_route(scattered.kind());
                Box::pin(self.scattered_simple(scattered, &shards, access, "SELECT")).await
            }
            Execution::Cursor(declare) => {
                let (texts, given) = ((sql, &[][..]), (None, &[][..]));
                let (declaring, notices) = self.declaring(declare, plan, access, texts, given)?;
                self.client.outbox.extend_from_slice(&notices);
                Box::pin(self.declare_simple(&declaring)).await
            }
            Execution::SumTags => {
                let job = Job::same(sql, Combine::Sum);
                Box::pin(self.broadcast_simple(plan, job, &route.shards)).await
            }
            Execution::Lock(merge) => {
                let merger = self.merger(merge, self.shard_set(&route.shards).len(), values)?;
                let job = Job::same(sql, Combine::Merged(Box::new(merger)));
                Box::pin(self.broadcast_simple(plan, job, &route.shards)).await
            }
            Execution::SameAnswer => {
                let job = Job::same(sql, Combine::First);
                Box::pin(self.broadcast_simple(plan, job, &route.shards)).await
            }
            Execution::CopyIn(copy) => {
                let way = Way::In(copy);
                Box::pin(self.copy_simple(plan, way, &route.shards, access, sql)).await
            }
            Execution::CopyOut(frame) => {
                let way = Way::Out(frame);
                Box::pin(self.copy_simple(plan, way, &route.shards, access, sql)).await
            }
            Execution::Explain(explained) => {
                self.note_route(RouteKind::Broadcast);
                self.end_joined(None).await?;
                let shards = self.shard_set(&route.shards);
                let lines = self.explain_on(&explained, &shards, access);
                let lines = Box::pin(lines).await?;
                self.write_explain(&lines, true);
                self.ready();
                Ok(())
            }
            Execution::CopyRows(copy) => {
                self.end_joined(None).await?;
                let shards = self.shard_set(&route.shards);
                let scattered = self.copied(*copy, shards.len())?;
                self.note_route(scattered.kind());
                Box::pin(self.scattered_simple(scattered, &shards, access, "COPY")).await
            }
            Execution::Move {
                moving,
                from,
                sql: text,
            } => {
                let moves = self.moves(moving, from);
                let job = writes::job_of_moves(moves, &route.shards, &text, &[], None);
                Box::pin(self.broadcast_simple(plan, job, &route.shards)).await
            }
            Execution::Insert(inserting) => {
                let query = Query {
                    sql,
                    types: &[],
                    bind: None,
                    values,
                };
                let job = self.insertion(&inserting, &query)?;
                Box::pin(self.broadcast_simple(plan, job, &route.shards)).await
            }
            Execution::Write { gathering, on } => {
                let query = Query {
                    sql,
                    types: &[],
                    bind: None,
                    values,
                };
                let job = self.gathered_write(*gathering, on, &query);
                Box::pin(self.broadcast_simple(plan, job, &route.shards)).await
            }
            Execution::Split { split, parts } => {
                let job = writes::job_of_parts(split, &parts, sql, &[], None);
                Box::pin(self.broadcast_simple(plan, job, &route.shards)).await
            }
        }
    }

    /// The route of one execution, with what hints say about it.
    ///
    /// # Errors
    /// What the planner refuses, or a hint that contradicts what is right.
    pub(super) fn decide<'p>(
        &mut self,
        plan: &'p Plan,
        values: Values<'_>,
        text: &[u8],
    ) -> Result<(Access, Route<'p>), Error> {
        let hints = self.wishes.of_statement(text)?;
        let (role, max_lag) = match &hints {
            Some(hints) => (hints.role, hints.max_lag),
            None => (None, None),
        };
        let place = hints.as_deref().and_then(|hints| hints.place.as_ref());
        let topology = &self.db.config.topology;
        let routed = match place {
            None => {
                let routed = route(plan, values, topology).map_err(Error::from);
                let checked = routed.and_then(|routed| {
                    self.check_policy(plan, &routed)?;
                    Ok(routed)
                });
                match checked {
                    Ok(routed) => routed,
                    Err(error) => {
                        self.note_route(RouteKind::Refused);
                        return Err(error);
                    }
                }
            }
            Some(place) => self.placed(plan, values.sql, place)?,
        };
        let after = hints.and_then(|hints| hints.into_owned().after);
        let routed = self.follow_cursors(plan, text, routed)?;
        let demands = max_lag.is_some() || after.is_some();
        self.wishes.max_lag = max_lag;
        if let Some(token) = after {
            self.see_token(&token)?;
        }
        // What SHOW tells of a replica, transaction_read_only above all, is not true of the primary.
        let planned = match plan.statement {
            Statement::Show(_) if self.block.reads() == Reads::ReadOnly => Access::Read,
            Statement::Show(_) => Access::Primary,
            // Where the block goes on to read; one that may leave its replica would lose the lock.
            Statement::LockTable if self.block.reads() == Reads::UntilWrite => Access::Primary,
            // Its cursors are where it reads, and its end.
            Statement::Other | Statement::Chain { .. }
                if self.block.reads() == Reads::ReadOnly
                    && self.reads_on_replica()
                    && is_about_transaction(values.sql) =>
            {
                Access::Read
            }
            _ if plan.access == Access::Read
                && self.block.reads() == Reads::UntilWrite
                && [values.sql, text].iter().any(|sql| keeps_to_primary(sql)) =>
            {
                Access::Primary
            }
            _ => plan.access,
        };
        // A replica that was chosen before may not be what is wanted now.
        let chosen = demands && self.leases.iter().any(|held| held.home.is_some());
        let role = match chosen {
            true => role.or(Some(hints::Role::Primary)),
            false => role,
        };
        let access = match (role, planned) {
            (Some(hints::Role::Primary), Access::Read) => {
                self.db.metrics.reads.increment(ReadBy::Hint);
                Access::Primary
            }
            (Some(hints::Role::Replica), Access::Write | Access::Primary) => {
                return Err(hints::not_a_read());
            }
            (None | Some(_), access) => access,
        };
        Ok((access, routed))
    }

    /// The route that a hint names.
    ///
    /// # Errors
    /// A shard or key that is none, and what makes no sense on every shard.
    pub(super) fn placed(
        &self,
        plan: &Plan,
        sql: &[u8],
        place: &Place,
    ) -> Result<Route<'static>, Error> {
        let topology = &self.db.config.topology;
        let shard = match place {
            Place::Shard(name) => {
                let mut shards = (0..).map(ShardId).zip(topology.shards());
                let found = shards.find(|(_, shard)| shard.name == *name);
                let found = found.map(|(id, _)| id);
                found.ok_or_else(|| hints::unknown_shard(name, topology))?
            }
            Place::Key(key) => {
                let catalog = self.catalog();
                planner::shard_of_key(key, &catalog, topology)?
            }
            Place::All => {
                check_repeats(plan, sql)?;
                if self.db.config.is_sharded() {
                    return Ok(Route {
                        shards: Shards::Exactly(ShardSet::all(topology.shards().len())),
                        execution: Execution::SameAnswer,
                    });
                }
                ShardId(0)
            }
        };
        Ok(Route {
            shards: Shards::Exactly(ShardSet::one(shard)),
            execution: Execution::Direct,
        })
    }

    /// In a block that reads on a replica.
    pub(super) fn reads_on_replica(&self) -> bool {
        self.block.may_read_on_replica() && self.leases.iter().any(|held| held.home.is_some())
    }

    /// Was a statement refused for a table that is known now? What this session has open may hold locks that
    /// reading the schema would wait for.
    pub(super) async fn learns_of_table(&mut self, refusal: &Error) -> bool {
        let is_unknown =
            refusal.message == planner::refusal::UNKNOWN_TABLE || refusal.code == "42P01";
        let holds = !self.block.is_none() || self.leases.iter().any(|held| held.needs_sync);
        if !is_unknown || holds {
            return false;
        }
        let before = self.db.cluster.catalog_version();
        self.db.cluster.reload_catalog().await;
        self.db.cluster.catalog_version() != before
    }

    pub(super) fn plan_anew(&mut self, text: &str, shape: &mut Shape, types: &[u32]) -> Arc<Plan> {
        shape.scan(text.as_bytes());
        let catalog = self.catalog();
        self.db.plans.plan(text, shape, types, &catalog).plan
    }

    /// A text that could not be read may be no SQL at all, and a table that is not known may not be
    /// there: then PostgreSQL's own error says more than our refusal. It is asked to parse the text, not
    /// to run it.
    pub(super) async fn syntax_error_or(
        &mut self,
        refusal: Error,
        sql: &[u8],
        types: &[u32],
    ) -> Error {
        let is_unread = refusal.message == planner::refusal::UNREADABLE;
        let is_unknown = refusal.message == planner::refusal::UNKNOWN_TABLE;
        if !is_unread && !is_unknown {
            return refusal;
        }
        match self.describe_hidden(ShardId(0), sql, types, &[]).await {
            Err(error) if error.code == "42601" || error.is_fatal() => error.of_clients_text(),
            Err(error) if is_unknown && error.code == "42P01" => error.of_clients_text(),
            Ok(_) | Err(_) => refusal,
        }
    }

    /// Transaction control that is not a statement of its own reaches one server only; with several
    /// enlisted, the others would stay behind.
    pub(super) fn check_transaction_control(
        &self,
        statement: &Statement,
        sql: &[u8],
    ) -> Result<(), Error> {
        let hides_some = match statement {
            // One that is not read here may be anything.
            Statement::Multiple(known) => {
                sql.is_empty() || known.iter().any(Statement::controls_transaction)
            }
            Statement::Chain { .. } | Statement::TwoPhase => true,
            Statement::Other => {
                let text = std::str::from_utf8(sql).unwrap_or_default();
                let word = planner::leading_words(text, 1)
                    .first()
                    .map(|word| word.to_ascii_lowercase());
                word.is_some_and(|word| {
                    ["commit", "end", "rollback", "abort", "set"].contains(&word.as_str())
                })
            }
            Statement::Empty
            | Statement::Query
            | Statement::Insert
            | Statement::Update
            | Statement::Delete
            | Statement::Merge
            | Statement::Ddl { .. }
            | Statement::LockTable
            | Statement::Begin { .. }
            | Statement::Commit
            | Statement::Rollback
            | Statement::Savepoint(_)
            | Statement::Set(_)
            | Statement::Show(_)
            | Statement::CopyIn
            | Statement::CopyOut
            | Statement::Prepare(_)
            | Statement::Execute(_)
            | Statement::Deallocate(_)
            | Statement::Listen(_)
            | Statement::Unlisten(_)
            | Statement::Notify
            | Statement::ExplainRoute { .. } => false,
        };
        let enlisted = self.leases.iter().filter(|held| held.in_block).count();
        if hides_some && enlisted > 1 {
            return Err(planner::Refusal::unsupported(
                "this statement cannot run in a transaction that has touched several shards",
                "It may end or change the transaction, and would do so on one of its shards only.",
                "Send plain COMMIT or ROLLBACK, and statements one by one.",
            )
            .into());
        }
        Ok(())
    }

    /// The one shard of a direct route. Where any will do, one that is enlisted already.
    pub(super) fn pick_shard(&self, shards: &Shards) -> ShardId {
        match shards {
            Shards::Exactly(set) => set.as_slice().first().copied().unwrap_or(ShardId(0)),
            Shards::Any => self.leases.first().map_or(ShardId(0), |held| held.shard),
        }
    }

    pub(super) fn shard_set(&self, shards: &Shards) -> ShardSet {
        match shards {
            Shards::Exactly(set) => set.clone(),
            Shards::Any => ShardSet::one(self.pick_shard(shards)),
        }
    }

    async fn scattered_simple(
        &mut self,
        scattered: Scattered,
        shards: &ShardSet,
        access: Access,
        verb: &str,
    ) -> Result<(), Error> {
        let rows = self.send_scattered(&scattered, shards, access).await?;
        self.tell_tag(&format!("{verb} {rows}"));
        self.ready();
        Ok(())
    }

    /// All up to the command tag; answers the number of rows.
    pub(super) async fn send_scattered(
        &mut self,
        scattered: &Scattered,
        shards: &ShardSet,
        mut access: Access,
    ) -> Result<u64, Error> {
        for _ in 0..MOST {
            let started = self.start_scattered(scattered, shards, &mut access);
            let Started {
                mut run,
                indexes,
                columns,
            } = started.await?;
            let told = Told::before(&self.client);
            self.client.outbox.extend_from_slice(&columns);
            let mut servers = pick(&mut self.leases, &indexes);
            let result = match run.rows(&mut self.client, &mut servers, 0).await {
                Ok(_) => run.finish(&mut servers).await.map_err(Broken::Server),
                Err(broken) => Err(broken),
            };
            match result {
                Ok(()) => {
                    if let Some(writer) = &mut run.writer {
                        writer.end(&mut self.client.outbox);
                    }
                    self.note_ends(&indexes, &run.ends);
                    return Ok(run.rows_out());
                }
                Err(broken) if told.nothing_since(&self.client) => {
                    match self.fail_scattered(&indexes, broken, access).await {
                        Failed::Again(next) => access = next,
                        Failed::Tell(error) => return Err(error),
                    }
                    told.take_back(&mut self.client);
                }
                Err(broken) => return Err(self.end_scatter(&indexes, broken).await),
            }
        }
        Err(lost_again())
    }

    /// After a run that broke, no server may go on with it: what is still busy is cancelled and
    /// closed, which also rolls its transaction back. Answers what the client is told.
    pub(super) async fn end_scatter(&mut self, indexes: &[usize], broken: Broken) -> Error {
        let error = match broken {
            Broken::Client(error) => {
                self.abandon();
                return error.fatal();
            }
            Broken::Server(error) | Broken::Unanswered(error) => error,
        };
        let mut lost = false;
        let mut busy: Vec<usize> = indexes.to_vec();
        busy.sort_unstable();
        for index in busy.into_iter().rev() {
            let held = &mut self.leases[index];
            // A shard that failed is ready again once its error is read. In a transaction the others
            // are read to their end as well: closing them would end the client's transaction.
            let worth = held.lease.error.is_some() || held.in_block || held.pinned.is_some();
            let sound = held.lease.doubt.is_none();
            if !(worth && sound && drain(&mut held.lease).await.is_ok()) {
                lost |= self.leases[index].in_block || self.leases[index].pinned.is_some();
                let held = self.remove(index);
                self.stop(held, "a scatter read broke");
            }
        }
        if lost { error.fatal() } else { error }
    }

    /// Connections to all `shards`, taken in their order, so that two sessions cannot each hold
    /// what the other waits for.
    pub(super) async fn enlist_for_read(
        &mut self,
        shards: &ShardSet,
        access: Access,
    ) -> Result<Vec<usize>, Error> {
        let mut indexes = Vec::with_capacity(shards.len());
        for shard in shards.as_slice() {
            indexes.push(self.enlist(*shard, access).await?);
        }
        for index in &indexes {
            // BEGIN may be under way; its reply must not meet the merge.
            self.leases[*index].lease.settle().await?;
        }
        Ok(indexes)
    }
}

pub(super) fn changes_settings(effect: &SessionEffect) -> bool {
    matches!(
        effect,
        SessionEffect::Settings | SessionEffect::LocalSettings
    )
}

/// It concerns no table, so that every shard of a transaction may run it.
fn is_sent_to_all(plan: &Plan, sql: &[u8]) -> bool {
    matches!(plan.statement, Statement::Query | Statement::Other)
        && matches!(plan.target, Target::AnyShard | Target::OneShard(_))
        && !has_from(sql)
}

fn has_from(sql: &[u8]) -> bool {
    let is_from = |word: &[u8]| word.eq_ignore_ascii_case(b"from");
    sql.split(|byte| !byte.is_ascii_alphanumeric()).any(is_from)
}

/// May a statement be repeated on every shard, because its user says so? Not one whose answer would be a part
/// of the rows.
///
/// # Errors
/// 0A000 when it may not.
fn check_repeats(plan: &Plan, sql: &[u8]) -> Result<(), Error> {
    let text = std::str::from_utf8(sql).unwrap_or_default();
    let first = planner::leading_words(text, 1).first().copied();
    let begins = |word: &str| first.is_some_and(|first| first.eq_ignore_ascii_case(word));
    let one_answer = match plan.statement {
        Statement::Ddl { .. } | Statement::LockTable => true,
        // EXPLAIN ANALYZE runs what it explains, and what could not be read may write rows.
        Statement::Other => begins("do") || begins("call") || begins("create"),
        // WITH may write rows.
        Statement::Query => begins("select") && !has_from(sql),
        _ => false,
    };
    let leaves_nothing = matches!(
        plan.effect,
        SessionEffect::None | SessionEffect::Releases | SessionEffect::Taint(_)
    );
    match one_answer && leaves_nothing && plan.access == Access::Write {
        true => Ok(()),
        false => Err(planner::Refusal::unsupported(
            "this statement with hint shards=all is not supported",
            "The hint is for what writes and returns no rows of tables: DO, CALL, DDL, SELECT of a function.",
            "Leave the hint out, or send the statement to each shard by shard=NAME.",
        )
        .into()),
    }
}

fn not_settings_alone() -> Error {
    planner::Refusal::unsupported(
        "set_config in a statement on tables, in a transaction on a sharded database",
        "Every shard of the transaction has to hear of it, and the statement is not for all of them.",
        "SELECT set_config(…) first, or use SET.",
    )
    .into()
}

/// In a transaction that may go on at another server: a cursor would not go with it, and its time has
/// to be one and the same.
fn keeps_to_primary(sql: &[u8]) -> bool {
    let text = std::str::from_utf8(sql).unwrap_or_default();
    let first = planner::leading_words(text, 1).first().copied();
    first.is_some_and(|word| word.eq_ignore_ascii_case("declare"))
        || planner::tells_transaction_time(text)
}

/// Does it concern a cursor, or the transaction itself?
fn is_about_transaction(sql: &[u8]) -> bool {
    const WORDS: [&str; 8] = [
        "fetch", "move", "close", "commit", "end", "rollback", "abort", "set",
    ];
    let text = std::str::from_utf8(sql).unwrap_or_default();
    let word = planner::leading_words(text, 1).first().copied();
    word.is_some_and(|word| WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)))
}

/// The servers of these leases, in the order of `indexes`.
pub(super) fn pick<'a>(
    leases: &'a mut [super::Enlisted],
    indexes: &[usize],
) -> Vec<&'a mut Server> {
    let mut slots: Vec<Option<&mut Server>> = indexes.iter().map(|_| None).collect();
    for (at, held) in leases.iter_mut().enumerate() {
        if let Some(slot) = indexes.iter().position(|index| *index == at) {
            slots[slot] = Some(&mut *held.lease);
        }
    }
    slots.into_iter().flatten().collect()
}

/// Are its values read here, or sent in a Bind?
fn needs_all_values(execution: &Execution<'_>) -> bool {
    match execution {
        Execution::Merge { .. } | Execution::Move { .. } | Execution::Split { .. } => true,
        Execution::Direct
        | Execution::Gather(_)
        | Execution::SumTags
        | Execution::Lock(_)
        | Execution::Insert(_)
        | Execution::Write { .. }
        | Execution::CopyIn(_)
        | Execution::CopyOut(_)
        | Execution::CopyRows(_)
        | Execution::Explain(_)
        | Execution::Cursor(_)
        | Execution::SameAnswer => false,
    }
}
