//! What a session answers by itself: settings in the `ringway.` namespace, EXPLAIN (ROUTE).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use planner::explained::Explained;
use planner::plan::{Access, SetStatement};
use planner::shape::Shape;
use planner::{ShardId, ShardSet, Values, route};

use super::Session;
use super::hints::{self, Hints, Role};
use super::routed::pick;
use crate::cluster::{Lsn, Token};
use crate::error::{Error, Fault};
use crate::executor::broadcast;
use crate::executor::relay::Broken;
use crate::executor::scatter::unless_gone;
use crate::net::Instant;
use crate::wire::write;

/// How long SHOW ringway.token waits for the primaries to say where they are.
const TOKEN_WAIT: Duration = Duration::from_secs(2);

pub(super) fn is_ours(name: Option<&str>) -> bool {
    name.is_some_and(|name| name.starts_with("ringway."))
}

pub(super) fn set_tag(set: &SetStatement) -> &'static str {
    if set.value.is_some() { "SET" } else { "RESET" }
}

impl Session {
    /// `SET ringway.… = …` and RESET.
    ///
    /// # Errors
    /// 42704 for any other name, 22023 for a value that it cannot have, 55P02 for one that cannot be
    /// changed so.
    pub(super) fn set_local_setting(&mut self, set: &SetStatement) -> Result<(), Error> {
        let text = set.value.as_deref().map(unquoted);
        match (set.name.as_deref().unwrap_or_default(), text) {
            ("ringway.route", text) => {
                let text = text
                    .as_deref()
                    .filter(|text| !text.eq_ignore_ascii_case("auto"));
                let hints = Hints::parse(text.unwrap_or_default())?;
                if set.local && self.block.is_none() {
                    self.warn("25P01", "SET LOCAL can only be used in transaction blocks");
                    return Ok(());
                }
                if let Some(token) = &hints.after {
                    self.check_no_replica("ringway.route")?;
                    self.see_token(token)?;
                }
                match set.local {
                    true => self.wishes.set_local_route(hints, Instant::now),
                    false => self.wishes.set_route(hints, Instant::now),
                }
                Ok(())
            }
            (name @ "ringway.token", Some(text)) => {
                let token = hints::token(&text)?;
                self.check_no_replica(name)?;
                self.see_token(&token)
            }
            (name @ "ringway.token", None) => {
                Err(unchangeable(name, "reset")
                    .detail("A session never sees less than it has seen."))
            }
            (name @ "ringway.causal_key", _) if set.local => {
                Err(unchangeable(name, "set for one transaction"))
            }
            (name @ "ringway.causal_key", text) => {
                let key = hints::causal_key(&text.unwrap_or_default())?;
                self.check_no_replica(name)?;
                self.wishes.causal_key = key;
                Ok(())
            }
            (name @ "ringway.version", _) => Err(unchangeable(name, "changed")),
            (name, _) => Err(unrecognized(name)),
        }
    }

    pub(super) async fn show_local_setting(&mut self, name: &str) -> Result<String, Error> {
        match name {
            "ringway.route" => Ok(self.wishes.show_route()),
            "ringway.token" => Box::pin(self.token()).await,
            "ringway.causal_key" => Ok(self.wishes.causal_key.as_deref().unwrap_or("").to_owned()),
            "ringway.version" => Ok(env!("CARGO_PKG_VERSION").to_owned()),
            name => Err(unrecognized(name)),
        }
    }

    /// What this session has written and seen, for a session elsewhere.
    async fn token(&mut self) -> Result<String, Error> {
        let reads = &self.db.config.reads;
        if !reads.split {
            return Err(Error::new(
                Fault::Operator,
                "0A000",
                "there are no tokens where reads are not split",
            )
            .detail("Every statement goes to the primary, so no session is behind another.")
            .hint("Set split = true in [databases.NAME.reads]."));
        }
        if !self.block.is_none() || self.leases.iter().any(|held| held.needs_sync) {
            let message = "SHOW ringway.token cannot run inside a transaction block";
            return Err(Error::new(Fault::Client, "25001", message)
                .detail("What the transaction writes has no position before it ends.")
                .hint("Ask after COMMIT, in a pipeline after Sync."));
        }
        let now = Instant::now();
        // A copy: to be asked changes nothing.
        let mut marks = self.marks.clone();
        for (shard, mark) in (0..).map(ShardId).zip(&mut marks) {
            match &self.wishes.causal_key {
                Some(key) => self.db.cluster.join_causal(key, shard, mark, now),
                // Nobody has kept what it saw.
                None if !reads.keeps_marks() => mark.wrote_elsewhere(now),
                None => {}
            }
        }
        let token = self.db.cluster.token(&mut marks, now + TOKEN_WAIT).await?;
        Ok(token.to_string())
    }

    /// From now on this session sees what the token's session saw.
    ///
    /// # Errors
    /// 22023 for a token of other servers.
    pub(super) fn see_token(&mut self, token: &Token) -> Result<(), Error> {
        let positions = self.db.cluster.positions(token)?;
        self.see_positions(&positions);
        Ok(())
    }

    pub(super) fn see_positions(&mut self, positions: &[(ShardId, Lsn)]) {
        for (shard, lsn) in positions {
            self.marks[usize::from(shard.0)].at_least(*lsn);
        }
    }

    /// A replica that was chosen before may not have what is demanded now.
    fn check_no_replica(&self, name: &str) -> Result<(), Error> {
        match self.leases.iter().any(|held| held.home.is_some()) {
            true => Err(planner::Refusal::unsupported(
                format!("{name} cannot be set after a read in a pipeline or a transaction"),
                "What follows runs on the replica of that read.",
                "Set it before, in a pipeline after Sync.",
            )
            .into()),
            false => Ok(()),
        }
    }

    /// The lines of EXPLAIN (ROUTE) for the part `inner` of `text`, with the hints that hold for it.
    /// One in front of EXPLAIN counts where there is none in front of the statement.
    pub(super) fn explain_route(&self, text: &str, inner: Range<usize>) -> Vec<String> {
        let before = text.get(..inner.start).unwrap_or_default();
        let sql = text.get(inner).unwrap_or_default();
        let mut shape = Shape::default();
        shape.scan(sql.as_bytes());
        let catalog = self.catalog();
        let mut plan = self.db.plans.plan(sql, &shape, &[], &catalog).plan;
        let hinted = before
            .rfind("/*")
            .and_then(|at| text.get(at..))
            .filter(|from| hints::leading_comment(from.as_bytes()).is_some())
            .unwrap_or(text);
        let hints = match self.wishes.of_statement(hinted.as_bytes()) {
            Ok(hints) => hints.unwrap_or_default(),
            Err(error) => return refused(&error),
        };
        let place = hints
            .place
            .as_ref()
            .map(|place| self.placed(&plan, sql.as_bytes(), place));
        let role = (hints.role, plan.access);
        let values = Values {
            sql: sql.as_bytes(),
            pieces: &shape.pieces,
            params: &[],
        };
        let topology = &self.db.config.topology;
        match role {
            (Some(Role::Primary), Access::Read) => {
                let plan = Arc::make_mut(&mut plan);
                plan.access = Access::Primary;
                plan.reason = "a hint asks for the primary".into();
            }
            (Some(Role::Replica), Access::Write | Access::Primary) => {
                return refused(&hints::not_a_read());
            }
            (None | Some(Role::Primary | Role::Replica), _) => {}
        }
        let routed = match place {
            None => route(&plan, values, topology),
            Some(Ok(route)) => Ok(route),
            Some(Err(error)) => return refused(&error),
        };
        let mut lines = planner::explain::explain(&plan, routed.as_ref(), topology);
        let said = hints.to_string();
        if !said.is_empty() {
            lines.push(format!("hints: {said}"));
        }
        lines
    }

    /// The lines of EXPLAIN on several shards.
    ///
    /// # Errors
    /// A server's error or loss.
    pub(super) async fn explain_on(
        &mut self,
        explained: &Explained,
        shards: &ShardSet,
        access: Access,
    ) -> Result<Vec<String>, Error> {
        let access = match access {
            Access::Read => Access::Read,
            // A write that is explained writes nothing.
            Access::Primary | Access::Write => Access::Primary,
        };
        let indexes = self.enlist_for_read(shards, access).await?;
        self.sync_quietly(&indexes).await?;
        let mut servers = pick(&mut self.leases, &indexes);
        let work = async {
            let mut plans = Vec::with_capacity(explained.asks.len());
            for ask in &explained.asks {
                let at = shards
                    .as_slice()
                    .iter()
                    .position(|known| *known == ask.shard);
                let at = at.ok_or_else(|| {
                    Error::new(Fault::Ringway, "XX000", "a shard was not enlisted")
                })?;
                let mut request = BytesMut::new();
                write::query(&mut request, &ask.sql);
                let answer = broadcast::ask(servers[at], &request).await?;
                plans.push(answer.texts()?);
            }
            Ok::<_, Error>(plans)
        };
        let plans = match unless_gone(&mut self.client, work).await {
            Ok(Ok(plans)) => plans,
            Ok(Err(error)) => {
                let sound = indexes.iter().all(|index| {
                    let lease = &self.leases[*index].lease;
                    lease.doubt.is_none() && lease.expect.is_empty()
                });
                if !sound {
                    return Err(self.end_scatter(&indexes, Broken::Server(error)).await);
                }
                return Err(error);
            }
            Err(broken) => return Err(self.end_scatter(&indexes, broken).await),
        };
        Ok(explained.lines(&plans, &self.db.config.topology))
    }

    /// Writes lines as PostgreSQL's EXPLAIN does.
    pub(super) fn write_explain(&mut self, lines: &[String], describe: bool) {
        let out = &mut self.client.outbox;
        if describe {
            write::text_columns(out, &["QUERY PLAN"]);
        }
        for line in lines {
            write::text_row(out, &[Some(line)]);
        }
        write::command_complete(out, "EXPLAIN");
    }
}

pub(super) fn unrecognized(name: &str) -> Error {
    Error::new(
        Fault::Client,
        "42704",
        format!("unrecognized configuration parameter \"{name}\""),
    )
    .hint("Ringway knows ringway.route, ringway.token, ringway.causal_key and ringway.version.")
}

fn unchangeable(name: &str, what: &str) -> Error {
    let message = format!("parameter \"{name}\" cannot be {what}");
    Error::new(Fault::Client, "55P02", message)
}

/// As EXPLAIN (ROUTE) tells of what the planner refuses.
fn refused(error: &Error) -> Vec<String> {
    let mut lines = vec![format!("refused: {}", error.message)];
    for (name, text) in [("detail", &error.detail), ("hint", &error.hint)] {
        lines.extend(text.as_ref().map(|text| format!("{name}: {text}")));
    }
    lines
}

/// A value of SET without its quotes.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let inside = value
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''));
    inside.map_or_else(|| value.to_owned(), |inside| inside.replace("''", "'"))
}
