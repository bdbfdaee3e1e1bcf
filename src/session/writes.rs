//! Statements that write on several shards: what each shard is sent, and one answer of theirs.

use bytes::{BufMut, Bytes, BytesMut};
use planner::copy::{CopyIn, Frame, Rows};
use planner::moving::Move;
use planner::plan::{Access, Plan, SessionEffect, Statement};
use planner::route::Shards;
use planner::split::{Part, Split};
use planner::{ShardId, ShardSet};

use super::Session;
use super::apart::shard_by_shard;
use super::routed::pick;
use super::scattered::rest_with_formats;
use crate::backend::server::Server;
use crate::error::{Error, Fault};
use crate::executor::broadcast::{self, Answer, Combine, Job, Requests, combine};
use crate::executor::copy::{self, CopyingIn};
use crate::executor::moves::Moves;
use crate::executor::participants::Participants;
use crate::executor::relay::Broken;
use crate::executor::scatter::unless_gone;
use crate::metrics::RouteKind;
use crate::wire::frontend::Bind;
use crate::wire::write;

/// OID of type text.
const TEXT: u32 = 25;

impl Session {
    /// In the simple protocol.
    pub(super) async fn broadcast_simple(
        &mut self,
        plan: &Plan,
        job: Job,
        shards: &Shards,
    ) -> Result<(), Error> {
        self.note_route(RouteKind::Broadcast);
        self.end_joined(None).await?;
        let shards = self.shard_set(shards);
        let answer = self.broadcast(plan, &job, &shards).await?;
        let out = &mut self.client.outbox;
        out.extend_from_slice(&answer.notices);
        if answer.columns[..] != *write::NO_DATA {
            out.extend_from_slice(&answer.columns);
        }
        out.extend_from_slice(&answer.rows);
        self.tell_tag(&answer.tag);
        self.ready();
        Ok(())
    }

    /// Runs a job on all `shards`, within the open block; without one each in a transaction of its own,
    /// committed when all have succeeded. A client that leaves before that ends it: nothing is kept.
    ///
    /// # Errors
    /// A shard's error or loss.
    pub(super) async fn broadcast(
        &mut self,
        plan: &Plan,
        job: &Job,
        shards: &ShardSet,
    ) -> Result<Answer, Error> {
        if job.moves.is_some() && self.batch.changed_schema {
            return Err(moves_after_ddl());
        }
        if plan.statement == Statement::LockTable && self.block.is_none() {
            return Err(lock_outside());
        }
        let indexes = match plan.statement {
            Statement::LockTable => self.enlist_for_lock(plan, shards).await?,
            _ => self.enlist_for_write(plan, shards).await?,
        };
        let names: Vec<String> = shards
            .as_slice()
            .iter()
            .map(|shard| self.shard_name(*shard).to_owned())
            .collect();
        let mut servers = pick(&mut self.leases, &indexes);
        let cluster = &self.db.cluster;
        let mut participants = Participants::new(&mut servers, shards.as_slice(), cluster);
        let within = !self.block.is_none();
        let result = match plan.statement {
            Statement::Ddl {
                transactional: false,
                ..
            } if !within => shard_by_shard(&mut participants, job, &names, &mut self.client).await,
            _ => {
                let work = async {
                    match within {
                        true => participants.run_within(job).await,
                        false => participants.run(job).await,
                    }
                };
                match unless_gone(&mut self.client, work).await {
                    Ok(Ok(answers)) if within => Ok(answers),
                    Ok(Ok(answers)) => {
                        let _committing = self.info.committing();
                        participants.commit().await.map(|()| answers)
                    }
                    Ok(Err(error)) => Err(error),
                    Err(Broken::Client(error)) => {
                        self.abandon();
                        return Err(error.fatal());
                    }
                    Err(Broken::Server(error) | Broken::Unanswered(error)) => Err(error),
                }
            }
        };
        if let Statement::Ddl { alters: true, .. } | Statement::Other = plan.statement {
            self.note_ddl();
            Box::pin(self.publish_schema()).await;
        }
        let answers = result?;
        if let SessionEffect::DiscardAll = plan.effect {
            indexes.iter().for_each(|i| self.discard_all(*i));
        }
        Ok(combine(answers, &job.combine))
    }

    /// COPY FROM STDIN, up to the commit: answers who takes part, and the command tag. The client's data
    /// come through its connection meanwhile.
    ///
    /// # Errors
    /// What the data or a server have wrong: nothing is kept then.
    pub(super) async fn copy_in(
        &mut self,
        plan: &Plan,
        copy: &CopyIn,
        shards: &ShardSet,
        sql: &[u8],
    ) -> Result<(Vec<usize>, String), Error> {
        let indexes = self.enlist_for_write(plan, shards).await?;
        let topology = &self.db.config.topology;
        let max_row = self.limits.max_message_bytes;
        let mut servers = pick(&mut self.leases, &indexes);
        let has_mark = servers.iter().all(|server| csv_has_mark(server));
        let mut participants = Participants::new(&mut servers, shards.as_slice(), &self.db.cluster);
        let alone = self.block.is_none();
        if alone {
            participants.begin().await?;
        }
        let mut copying = CopyingIn::new(copy, shards.as_slice(), topology, max_row, has_mark);
        let result = copying
            .run(&mut self.client, participants.servers(), sql)
            .await;
        match result {
            Ok(tags) => {
                let tag = match copy.rows {
                    Rows::All => tags.into_iter().next().unwrap_or_default(),
                    Rows::ByKey { .. } => broadcast::sum_tags(tags.iter().map(String::as_str)),
                };
                Ok((indexes, tag))
            }
            Err(Broken::Server(error) | Broken::Unanswered(error)) => {
                if alone {
                    participants.roll_back(0).await;
                }
                Err(error)
            }
            Err(Broken::Client(error)) => {
                self.abandon();
                Err(error.fatal())
            }
        }
    }

    /// Commits what [`Session::copy_in`] has begun, unless that is a part of a block.
    ///
    /// # Errors
    /// A server's, with what stands where.
    pub(super) async fn end_copy(&mut self, indexes: &[usize]) -> Result<(), Error> {
        match self.block.is_none() {
            true => self.commit_on(indexes).await,
            false => Ok(()),
        }
    }

    /// Takes back what [`Session::copy_in`] has begun.
    pub(super) async fn roll_back_on(&mut self, indexes: &[usize]) {
        let shards = self.shards_of(indexes);
        let mut servers = pick(&mut self.leases, indexes);
        let mut participants = Participants::new(&mut servers, &shards, &self.db.cluster);
        participants.roll_back(0).await;
    }

    pub(super) fn moves(&self, moving: &Move, from: ShardSet) -> Moves {
        Moves {
            moving: moving.clone(),
            from,
            topology: self.db.config.topology.clone(),
            memory: self.limits.merge_memory_bytes,
        }
    }

    /// COPY TO STDOUT, up to the command tag.
    ///
    /// # Errors
    /// A server's error or loss; rows may have gone to the client before.
    pub(super) async fn copy_out(
        &mut self,
        frame: Frame,
        shards: &ShardSet,
        access: Access,
        sql: &[u8],
    ) -> Result<String, Error> {
        let indexes = self.enlist_for_read(shards, access).await?;
        self.sync_quietly(&indexes).await?;
        let max_row = self.limits.max_message_bytes;
        let mut servers = pick(&mut self.leases, &indexes);
        let result = copy::copy_out(&mut self.client, &mut servers, sql, frame, max_row).await;
        match result {
            Ok(count) => Ok(format!("COPY {count}")),
            Err(broken) => Err(self.end_scatter(&indexes, broken).await),
        }
    }

    /// A COPY in the simple protocol.
    pub(super) async fn copy_simple(
        &mut self,
        plan: &Plan,
        way: Way<'_>,
        shards: &Shards,
        access: Access,
        sql: &[u8],
    ) -> Result<(), Error> {
        self.note_route(RouteKind::Broadcast);
        self.end_joined(None).await?;
        let shards = self.shard_set(shards);
        let tag = match way {
            Way::In(copy) => {
                let (indexes, tag) = self.copy_in(plan, copy, &shards, sql).await?;
                self.end_copy(&indexes).await?;
                tag
            }
            Way::Out(frame) => self.copy_out(frame, &shards, access, sql).await?,
        };
        self.complete(&tag);
        Ok(())
    }
}

/// Which way the data of a COPY go.
pub(super) enum Way<'p> {
    In(&'p CopyIn),
    Out(Frame),
}

/// Does `\.` on a line of its own end CSV? Up to PostgreSQL 17 it does.
fn csv_has_mark(server: &Server) -> bool {
    let version = server.parameters.get("server_version");
    let major = version.and_then(|version| version.split(|c: char| !c.is_ascii_digit()).next());
    major
        .and_then(|major| major.parse().ok())
        .is_some_and(|major: u32| major < 18)
}

/// An INSERT in parts. `types` and `bind` are the client's, where it uses the extended protocol.
pub(super) fn job_of_parts(
    split: &Split,
    parts: &[Part],
    whole: &[u8],
    types: &[u32],
    bind: Option<&Bind<'_>>,
) -> Job {
    let request = |(at, part): (usize, &Part)| {
        let mut out = BytesMut::new();
        if at == 0 && split.check_whole {
            write::parse(&mut out, b"", whole, types);
        }
        let types = types_of_part(types, part);
        broadcast::extended(&mut out, &part.sql, &types, &rest_of_part(bind, part));
        out.freeze()
    };
    Job {
        requests: Requests::Each(parts.iter().enumerate().map(request).collect()),
        combine: Combine::Rows(parts.iter().map(|part| part.rows.clone()).collect()),
        moves: None,
        gathered: None,
    }
}

/// In PostgreSQL's words.
fn lock_outside() -> Error {
    let message = "LOCK TABLE can only be used in transaction blocks";
    Error::new(Fault::Client, "25P01", message)
}

/// Whether rows of a table may move is known of the tables that others see.
fn moves_after_ddl() -> Error {
    planner::Refusal::unsupported(
        "an update of the sharding key cannot follow DDL in its transaction",
        "What was changed, perhaps a trigger, may be in the way of rows that move to other shards.",
        "Commit the DDL first, or DELETE the rows and INSERT them with the new key.",
    )
    .into()
}

/// An UPDATE of the sharding key, whose text for the shards of `moves` is `sql`. `types` and `bind` are the
/// client's, where it uses the extended protocol.
pub(super) fn job_of_moves(
    moves: Moves,
    shards: &Shards,
    sql: &[u8],
    types: &[u32],
    bind: Option<&Bind<'_>>,
) -> Job {
    let hidden = moves.moving.hidden();
    let rest = match bind {
        // No formats, no values, all results as text.
        None => vec![0; 6],
        Some(bind) => rest_with_formats(bind, hidden),
    };
    let mut request = BytesMut::new();
    broadcast::extended(&mut request, sql, types, &rest);
    let request = request.freeze();
    let takes_part = match shards {
        Shards::Exactly(shards) => shards.as_slice(),
        Shards::Any => &[],
    };
    let of = |shard: &ShardId| match moves.from.as_slice().contains(shard) {
        true => request.clone(),
        false => Bytes::new(),
    };
    Job {
        requests: Requests::Each(takes_part.iter().map(of).collect()),
        combine: Combine::Sum,
        moves: Some(Box::new(moves)),
        gathered: None,
    }
}

/// A parameter that a part does not mention still needs a type.
fn types_of_part(types: &[u32], part: &Part) -> Vec<u32> {
    let mut types = types.to_vec();
    if let Some(last) = part.absent.last()
        && *last >= types.len()
    {
        types.resize(last + 1, 0);
    }
    for param in &part.absent {
        if types[*param] == 0 {
            types[*param] = TEXT;
        }
    }
    types
}

/// Bind's part after the names, with NULL for parameters that the part does not mention.
fn rest_of_part(bind: Option<&Bind<'_>>, part: &Part) -> Bytes {
    let Some(bind) = bind else {
        // No formats, no values, all results as text.
        return Bytes::from_static(&[0; 6]);
    };
    let mut out = BytesMut::with_capacity(bind.rest.len());
    let formats = |out: &mut BytesMut, formats: &[i16]| {
        out.put_u16(formats.len() as u16);
        formats.iter().for_each(|format| out.put_i16(*format));
    };
    formats(&mut out, &bind.formats);
    out.put_u16(bind.values.len() as u16);
    for (param, value) in bind.values.iter().enumerate() {
        match value.filter(|_| part.absent.binary_search(&param).is_err()) {
            Some(value) => {
                out.put_u32(value.len() as u32);
                out.put_slice(value);
            }
            None => out.put_i32(-1),
        }
    }
    formats(&mut out, &bind.result_formats);
    out.freeze()
}
