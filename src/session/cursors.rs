//! SQL's cursors on a sharded database: on one shard, where FETCH, MOVE and CLOSE have to find it by its name
//! alone, or over several, which [`crate::executor::cursor`] reads.
//!
//! On each shard such a cursor has a name of ours, so that no text of the client reaches a part of it.

use std::sync::Arc;

use bytes::BytesMut;
use planner::plan::{
    Access, CursorStatement, Declare, Direction, Pin, PlanOptions, Savepoint, SessionEffect,
    Statement,
};
use planner::route::{Execution, Param, Shards};
use planner::shape::Shape;
use planner::{Plan, Route, ShardId, ShardSet, Values};

use super::encoding::not_utf8;
use super::routed::pick;
use super::scattered::{Head, Opened, Query, Scattered};
use super::state::quoted;
use super::{Pinned, Session};
use crate::error::{Error, Fault};
use crate::executor::cursor::{self, NO_VALUES, Sink, Wanted, run_on_each};
use crate::executor::relay::{Broken, Told};
use crate::metrics::RouteKind;
use crate::wire::frontend::Bind;

/// Those of the open transaction, and held ones.
#[derive(Default)]
pub(super) struct Cursors {
    all: Vec<Cursor>,
    /// By name, how many cursors had been made when it was defined.
    savepoints: Vec<(String, u64)>,
    /// Cursors made by this session.
    made: u64,
}

/// One on a single shard may be gone already, or was never made: that server knows.
struct Cursor {
    name: String,
    /// The count of those made before it.
    number: u64,
    /// It outlives its transaction.
    held: bool,
    proven: Proven,
    place: Place,
}

/// What is known of a held cursor's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proven {
    /// It is open.
    Open,
    /// It has ended: a server tells how.
    NotYet,
    Yes,
}

enum Place {
    Shard(ShardId),
    Shards(Box<Spread>),
}

struct Spread {
    shards: ShardSet,
    access: Access,
    /// In the simple protocol.
    formats: &'static [i16],
    cursor: cursor::Cursor,
}

/// What a statement does to cursors over several shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Fetch {
        cursor: u64,
        moves: bool,
        direction: Direction,
    },
    Close(u64),
    CloseAll,
}

/// A DECLARE over several shards that has yet to run.
pub(super) struct Declaring {
    declare: Declare,
    sql: Vec<u8>,
    effect: SessionEffect,
    scattered: Scattered,
    shards: ShardSet,
    access: Access,
}

impl Cursors {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn add(&mut self, name: String, held: bool, place: Place) {
        self.all.push(Cursor {
            name,
            number: self.made,
            held,
            proven: Proven::Open,
            place,
        });
        self.made += 1;
    }

    fn position(&self, number: u64) -> Option<usize> {
        self.all.iter().position(|cursor| cursor.number == number)
    }

    fn spread(&self, number: u64) -> Option<&Spread> {
        let cursor = &self.all[self.position(number)?];
        match &cursor.place {
            Place::Shards(spread) => Some(spread),
            Place::Shard(_) => None,
        }
    }

    /// The number of the cursor over several shards with this name.
    pub(super) fn named(&self, name: &[u8]) -> Option<u64> {
        let is_it = |cursor: &&Cursor| {
            cursor.name.as_bytes() == name && matches!(cursor.place, Place::Shards(_))
        };
        self.all.iter().find(is_it).map(|cursor| cursor.number)
    }

    /// The shard of the cursor with this name that is on one alone.
    pub(super) fn shard_named(&self, name: &[u8]) -> Option<ShardId> {
        let named = |cursor: &&Cursor| cursor.name.as_bytes() == name;
        self.all
            .iter()
            .filter(named)
            .find_map(|cursor| match cursor.place {
                Place::Shard(shard) => Some(shard),
                Place::Shards(_) => None,
            })
    }

    /// Those on one shard with this name are closed.
    pub(super) fn forget(&mut self, name: &[u8]) {
        self.all.retain(|cursor| {
            cursor.name.as_bytes() != name || matches!(cursor.place, Place::Shards(_))
        });
    }

    /// A statement about a savepoint has succeeded.
    pub(super) fn follow(&mut self, savepoint: &Savepoint) {
        let place = |name: &str| self.savepoints.iter().rposition(|(known, _)| known == name);
        match savepoint {
            Savepoint::Define(name) => self.savepoints.push((name.clone(), self.made)),
            Savepoint::Release(name) => {
                let place = place(name).unwrap_or(self.savepoints.len());
                self.savepoints.truncate(place);
            }
            Savepoint::RollbackTo(name) => {
                if let Some(place) = place(name) {
                    let made = self.savepoints[place].1;
                    self.all.retain(|cursor| cursor.number < made);
                    self.savepoints.truncate(place + 1);
                }
            }
        }
    }

    /// A transaction has ended.
    pub(super) fn end_transaction(&mut self) {
        self.savepoints.clear();
        self.all.retain(|cursor| cursor.held);
        for cursor in &mut self.all {
            if cursor.proven == Proven::Open {
                cursor.proven = Proven::NotYet;
            }
        }
    }

    /// DISCARD ALL has closed them.
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    /// The shards that have any.
    fn shards(&self) -> ShardSet {
        let mut shards = ShardSet::default();
        for cursor in &self.all {
            match &cursor.place {
                Place::Shard(shard) => shards.insert(*shard),
                Place::Shards(spread) => {
                    spread
                        .shards
                        .as_slice()
                        .iter()
                        .for_each(|shard| shards.insert(*shard));
                }
            }
        }
        shards
    }
}

impl Session {
    /// Where a statement runs that may declare a cursor or name one.
    ///
    /// # Errors
    /// 42P03 where another shard has one of that name.
    pub(super) fn follow_cursors<'p>(
        &mut self,
        plan: &Plan,
        sql: &[u8],
        route: Route<'p>,
    ) -> Result<Route<'p>, Error> {
        if !matches!(plan.statement, Statement::Other) || !self.db.config.is_sharded() {
            return Ok(route);
        }
        let Some(statement) = read(sql) else {
            return Ok(route);
        };
        if let CursorStatement::Declare(name) = statement {
            if let Execution::Cursor(_) = route.execution {
                return Ok(route);
            }
            let shard = self.pick_shard(&route.shards);
            let held = matches!(plan.effect, SessionEffect::Pin(Pin::HeldCursor));
            let is_here = |place: &Place| matches!(place, Place::Shard(at) if *at == shard);
            let all = &mut self.cursors.all;
            all.retain(|old| old.name != name || !is_here(&old.place));
            if all.iter().any(|old| old.name == name) {
                return Err(already_exists(&name));
            }
            self.cursors.add(name, held, Place::Shard(shard));
            return Ok(route);
        }
        let shard = self.shard_of_cursor(sql);
        match statement {
            CursorStatement::Close(Some(name)) => {
                self.cursors.all.retain(|cursor| cursor.name != name);
            }
            CursorStatement::Close(None) => self.cursors.clear(),
            CursorStatement::Declare(_) | CursorStatement::Fetch { .. } => {}
        }
        Ok(match shard {
            Some(shard) => Route {
                shards: Shards::Exactly(ShardSet::one(shard)),
                ..route
            },
            None => route,
        })
    }

    /// The shard of the cursor that a FETCH, MOVE or CLOSE names, as far as it is known.
    pub(super) fn shard_of_cursor(&self, sql: &[u8]) -> Option<ShardId> {
        if self.cursors.is_empty() {
            return None;
        }
        let named = match read(sql)? {
            CursorStatement::Fetch { name, .. } | CursorStatement::Close(Some(name)) => Some(name),
            CursorStatement::Close(None) => None,
            CursorStatement::Declare(_) => return None,
        };
        self.cursors
            .all
            .iter()
            .find_map(|cursor| match cursor.place {
                Place::Shard(shard) if named.as_ref().is_none_or(|name| *name == cursor.name) => {
                    Some(shard)
                }
                Place::Shard(_) | Place::Shards(_) => None,
            })
    }

    /// What a statement does to cursors over several shards; `None` for what one server answers.
    pub(super) fn cursor_action(&self, sql: &[u8]) -> Option<Action> {
        if self.cursors.is_empty() {
            return None;
        }
        match read(sql)? {
            CursorStatement::Fetch {
                name,
                moves,
                direction,
            } => {
                let cursor = self.cursors.named(name.as_bytes())?;
                Some(Action::Fetch {
                    cursor,
                    moves,
                    direction,
                })
            }
            CursorStatement::Close(Some(name)) => {
                self.cursors.named(name.as_bytes()).map(Action::Close)
            }
            CursorStatement::Close(None) => {
                (self.cursors.shards().len() > 1).then_some(Action::CloseAll)
            }
            CursorStatement::Declare(_) => None,
        }
    }

    /// Does one of the statements of a text name a cursor that the server does not know on which it would
    /// run?
    pub(super) fn names_cursor(&self, text: &[u8]) -> bool {
        let text = std::str::from_utf8(text).unwrap_or_default();
        let here = self.pick_shard(&Shards::Any);
        let names_one = |part: &std::ops::Range<usize>| {
            let part = text.get(part.clone()).unwrap_or_default().as_bytes();
            let on = self.shard_of_cursor(part);
            self.cursor_action(part).is_some() || on.is_some_and(|shard| shard != here)
        };
        !self.cursors.is_empty() && planner::statements(text).iter().any(names_one)
    }

    // ---- DECLARE ----

    /// Plans the query of a cursor over several shards. Answers also what policies say of it.
    ///
    /// # Errors
    /// What is to be refused of the query.
    pub(super) fn declaring(
        &mut self,
        declare: &Declare,
        plan: &Plan,
        access: Access,
        (sql, types): (&[u8], &[u32]),
        (bind, params): (Option<&Bind<'_>>, &[Param<'_>]),
    ) -> Result<(Declaring, BytesMut), Error> {
        let text = sql.get(declare.query.clone()).unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| not_utf8())?;
        let mut shape = Shape::default();
        let query = match declare.scrolls {
            false => self.plan_anew(text, &mut shape, types),
            true => {
                shape.scan(text.as_bytes());
                let options = PlanOptions {
                    param_types: types,
                    gathers: true,
                };
                Arc::new(planner::plan::plan(text, &self.catalog(), options))
            }
        };
        let values = Values {
            sql: text.as_bytes(),
            pieces: &shape.pieces,
            params,
        };
        let (own, route) = self.decide(&query, values, sql)?;
        self.note_keys(&query, values);
        let notices = self.policy_notices(&query, &route);
        let shards = self.shard_set(&route.shards);
        let asked = Query {
            sql: text.as_bytes(),
            types,
            bind,
            values,
        };
        let scattered = self.scattered(route.execution, &asked, shards.len())?;
        self.note_route(scattered.kind());
        let declaring = Declaring {
            declare: declare.clone(),
            sql: sql.to_vec(),
            effect: plan.effect.clone(),
            scattered,
            shards,
            access: planner::worse_access(access, own),
        };
        Ok((declaring, notices))
    }

    /// Makes a cursor over several shards.
    ///
    /// # Errors
    /// 25P01 outside of a transaction block, 42P03 where there is one of that name, what a server says of
    /// the query.
    pub(super) async fn declare(&mut self, declaring: &Declaring) -> Result<(), Error> {
        let Declaring {
            declare,
            sql,
            effect,
            scattered,
            shards,
            access,
        } = declaring;
        if !declare.holds && (self.block.is_none() || self.batch.implicit) {
            let message = "DECLARE CURSOR can only be used in transaction blocks";
            return Err(Error::new(Fault::Client, "25P01", message));
        }
        self.prove_cursors().await;
        let is_it = |cursor: &Cursor| cursor.name == declare.name;
        let is_portal = self.batch.has_portal(declare.name.as_bytes());
        if is_portal || self.cursors.all.iter().any(is_it) {
            return Err(already_exists(&declare.name));
        }
        let name = format!("ringway_cursor_{}", self.cursors.made);
        let head = Head {
            before: sql.get(..declare.at.start).unwrap_or_default(),
            name: sql.get(declare.at.clone()).unwrap_or_default(),
            after: sql
                .get(declare.at.end..declare.query.start)
                .unwrap_or_default(),
            on_each: &name,
        };
        let opened = self.open_cursor(scattered, shards, *access, &head);
        let place = match Box::pin(opened).await? {
            Opened::OnOne(index) => {
                self.note_effect(index, effect);
                Place::Shard(self.leases[index].shard)
            }
            Opened::OnEach {
                merger,
                columns,
                indexes,
            } => {
                for index in indexes {
                    self.note_effect(index, effect);
                }
                Place::Shards(Box::new(Spread {
                    shards: shards.clone(),
                    access: *access,
                    formats: if declare.binary { &[1] } else { &[] },
                    cursor: cursor::Cursor::new(name, *merger, columns, shards.len()),
                }))
            }
        };
        let name = declare.name.clone();
        self.cursors.add(name, declare.holds, place);
        Ok(())
    }

    /// In the simple protocol.
    pub(super) async fn declare_simple(&mut self, declaring: &Declaring) -> Result<(), Error> {
        self.end_joined(None).await?;
        self.declare(declaring).await?;
        self.tell_tag("DECLARE CURSOR");
        self.ready();
        Ok(())
    }

    // ---- FETCH, MOVE, CLOSE ----

    /// In the simple protocol.
    pub(super) async fn act_simple(&mut self, action: &Action) -> Result<(), Error> {
        self.note_route(RouteKind::Merge);
        self.end_joined(None).await?;
        let tag = match action {
            Action::Fetch {
                cursor,
                moves,
                direction,
            } => {
                let formats = self.cursors.spread(*cursor).map(|spread| spread.formats);
                let formats = formats.unwrap_or_default();
                let head = match moves {
                    true => BytesMut::new(),
                    false => self.cursor_columns(*cursor, formats)?,
                };
                let asked = Asked {
                    moves: *moves,
                    direction: *direction,
                    formats,
                    head: &head,
                };
                let rows = self.fetch_spread(*cursor, &asked, Sink::Client).await?;
                fetched_tag(*moves, rows)
            }
            Action::Close(cursor) => self.close_spread(*cursor).await?.to_owned(),
            Action::CloseAll => self.close_all().await?.to_owned(),
        };
        self.tell_tag(&tag);
        self.ready();
        Ok(())
    }

    /// The RowDescription frame of a cursor over several shards.
    ///
    /// # Errors
    /// 34000 when it is gone; 08P01 for formats that do not fit its columns.
    pub(super) fn cursor_columns(&self, cursor: u64, formats: &[i16]) -> Result<BytesMut, Error> {
        match self.cursors.spread(cursor) {
            Some(spread) => spread.cursor.columns(formats),
            None => Err(is_gone()),
        }
    }

    /// Answers how many rows there were.
    ///
    /// # Errors
    /// 34000 when the cursor is gone, as of [`cursor::Cursor::begin`], what a server says.
    pub(super) async fn fetch_spread(
        &mut self,
        number: u64,
        asked: &Asked<'_>,
        sink: Sink<'_>,
    ) -> Result<u64, Error> {
        self.prove_cursors().await;
        let at = self.cursors.position(number).ok_or_else(is_gone)?;
        // Nothing else takes it for its own meanwhile.
        let mut cursor = self.cursors.all.remove(at);
        let result = match &mut cursor.place {
            Place::Shards(spread) => Box::pin(self.fetch_from(spread, asked, sink)).await,
            Place::Shard(_) => Err(is_gone()),
        };
        self.cursors.all.insert(at, cursor);
        result
    }

    async fn fetch_from(
        &mut self,
        spread: &mut Spread,
        asked: &Asked<'_>,
        mut sink: Sink<'_>,
    ) -> Result<u64, Error> {
        let cursor = &mut spread.cursor;
        let Wanted { skip, take, counts } =
            cursor.begin(asked.direction, asked.moves, asked.formats)?;
        if counts {
            return Ok(1);
        }
        if asked.moves {
            sink = Sink::Nowhere;
        }
        let indexes = self.enlist_for_read(&spread.shards, spread.access).await?;
        self.sync_quietly(&indexes).await?;
        let told = Told::before(&self.client);
        self.client.outbox.extend_from_slice(asked.head);
        let mut servers = pick(&mut self.leases, &indexes);
        let client = &mut self.client;
        let nowhere = &mut Sink::Nowhere;
        let result = match cursor.take(client, &mut servers, Some(skip), nowhere).await {
            Ok(_) => cursor.take(client, &mut servers, take, &mut sink).await,
            Err(broken) => Err(broken),
        };
        match result {
            Ok(rows) => Ok(rows),
            Err(broken) => {
                // PostgreSQL has all rows of a FETCH before it tells of the first.
                if told.nothing_since(&self.client) && !matches!(broken, Broken::Client(_)) {
                    told.take_back(&mut self.client);
                }
                Err(self.end_scatter(&indexes, broken).await)
            }
        }
    }

    /// Answers the command tag.
    ///
    /// # Errors
    /// 34000 when it is gone, what a server says.
    pub(super) async fn close_spread(&mut self, number: u64) -> Result<&'static str, Error> {
        self.prove_cursors().await;
        let at = self.cursors.position(number).ok_or_else(is_gone)?;
        let Cursor { held, place, .. } = self.cursors.all.remove(at);
        // In a failed block only the protocol's Close comes here: the end of the block closes them.
        if let Place::Shards(spread) = place
            && !self.block.is_failed()
        {
            let close = format!("CLOSE {}", spread.cursor.name());
            self.close_on(&spread.shards, spread.access, &close, held)
                .await?;
        }
        Ok("CLOSE CURSOR")
    }

    /// CLOSE ALL: portals too.
    ///
    /// # Errors
    /// What a server says.
    pub(super) async fn close_all(&mut self) -> Result<&'static str, Error> {
        let shards = self.cursors.shards();
        let held = self.cursors.all.iter().any(|cursor| cursor.held);
        self.close_on(&shards, self.any_access(), "CLOSE ALL", held)
            .await?;
        self.cursors.clear();
        self.batch.forget_portals();
        Ok("CLOSE CURSOR ALL")
    }

    async fn close_on(
        &mut self,
        shards: &ShardSet,
        access: Access,
        sql: &str,
        held: bool,
    ) -> Result<(), Error> {
        let indexes = self.enlist_for_read(shards, access).await?;
        self.sync_quietly(&indexes).await?;
        if held {
            for index in &indexes {
                self.note_effect(*index, &SessionEffect::Releases);
            }
        }
        let mut servers = pick(&mut self.leases, &indexes);
        let request = cursor::Request {
            sql: sql.as_bytes(),
            types: &[],
            bind_rest: NO_VALUES,
        };
        match run_on_each(&mut servers, &request).await {
            Ok(()) => Ok(()),
            Err((at, error)) => {
                let broken = Broken::Server(error);
                Err(self.end_scatter(&indexes[at..=at], broken).await)
            }
        }
    }

    /// DISCARD ALL has run on the server of lease `index`: what others have goes with their connections.
    pub(super) fn discard_cursors(&mut self, index: usize) {
        self.cursors.clear();
        for (at, held) in self.leases.iter_mut().enumerate() {
            if at != index && held.pinned == Some(Pinned::By(Pin::HeldCursor)) {
                held.pinned = None;
            }
        }
    }

    // ---- the end of a transaction ----

    /// At the end of a transaction: held cursors stay if it has committed.
    pub(super) async fn end_cursors(&mut self) {
        self.cursors.end_transaction();
        self.prove_cursors().await;
    }

    /// COMMIT reads held cursors to their end, which may fail: where nothing was written it comes first.
    ///
    /// # Errors
    /// What a server says of it; then the transaction is rolled back everywhere.
    pub(super) async fn commit_held(
        &mut self,
        enlisted: &[usize],
        decisive: usize,
    ) -> Result<(), Error> {
        let is_spread = |cursor: &Cursor| {
            let spread = matches!(cursor.place, Place::Shards(_));
            spread && cursor.held && cursor.proven == Proven::Open
        };
        if !self.cursors.all.iter().any(is_spread) {
            return Ok(());
        }
        for index in enlisted.iter().copied().filter(|index| *index != decisive) {
            let held = &mut self.leases[index];
            if held.wrote {
                // It is prepared, and says there that it cannot be.
                continue;
            }
            held.needs_sync = false;
            let settled = held.lease.settle().await;
            let ended = match settled {
                Ok(()) => held.lease.run_hidden("COMMIT").await,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                return Err(self.commit_failed(error, enlisted, index).await);
            }
        }
        Ok(())
    }

    /// Asks whether held cursors of transactions that have ended are there.
    async fn prove_cursors(&mut self) {
        let open = |cursor: &Cursor| cursor.proven == Proven::NotYet;
        while let Some(at) = self.cursors.all.iter().position(open) {
            let cursor = &self.cursors.all[at];
            let (shards, name) = match &cursor.place {
                Place::Shard(shard) => (ShardSet::one(*shard), cursor.name.as_str()),
                Place::Shards(spread) => (spread.shards.clone(), spread.cursor.name()),
            };
            let question = format!(
                "SELECT 1 FROM pg_catalog.pg_cursors WHERE name OPERATOR(pg_catalog.=) {}",
                quoted(name)
            );
            let mut is_there = true;
            for shard in shards.as_slice() {
                let kept = |held: &super::Enlisted| {
                    held.shard == *shard && held.pinned.is_some() && held.lease.doubt.is_none()
                };
                let Some(index) = self.leases.iter().position(kept) else {
                    is_there = false;
                    break;
                };
                if self.sync_quietly(&[index]).await.is_err() {
                    // Nothing is fetched either.
                    return;
                }
                let rows = self.leases[index].lease.ask_hidden(&question).await;
                is_there &= rows.is_ok_and(|rows| !rows.is_empty());
            }
            match is_there {
                true => self.cursors.all[at].proven = Proven::Yes,
                false => {
                    self.cursors.all.remove(at);
                }
            }
        }
    }
}

/// What a FETCH or MOVE asks for.
pub(super) struct Asked<'a> {
    pub(super) moves: bool,
    pub(super) direction: Direction,
    pub(super) formats: &'a [i16],
    /// What the client is told before the rows.
    pub(super) head: &'a [u8],
}

pub(super) fn fetched_tag(moves: bool, rows: u64) -> String {
    let verb = if moves { "MOVE" } else { "FETCH" };
    format!("{verb} {rows}")
}

fn read(sql: &[u8]) -> Option<CursorStatement> {
    CursorStatement::read(std::str::from_utf8(sql).ok()?)
}

/// In PostgreSQL's words.
pub(super) fn already_exists(name: &str) -> Error {
    let message = format!("cursor \"{name}\" already exists");
    Error::new(Fault::Client, "42P03", message)
}

fn is_gone() -> Error {
    Error::new(Fault::Client, "34000", "cursor does not exist")
        .detail("It was closed, or its transaction has ended.")
}
