//! The shards that one statement writes: each in a transaction of its own, all begun, all run in the
//! order of their ids, then all committed. Writes that meet each other meet on the first shard, so they
//! cannot deadlock across shards; but for rows that move.
//!
//! Every write to several shards commits here, in [`Participants::commit`]: by two-phase commit, or, where
//! the operator has chosen that, one after the other. Then a failure between two commits leaves some
//! shards with the change, and the error says which.

use super::broadcast::{self, Answer, Job, Requests};
use planner::ShardId;

use super::two_phase;
use crate::backend::server::{Server, Status};
use crate::cluster::Cluster;
use crate::config::MultiShardCommit;
use crate::error::{Error, Fault};
use crate::metrics::CommitKind;

pub struct Participants<'p, 's> {
    servers: &'p mut [&'s mut Server],
    /// Of the servers.
    shards: &'p [ShardId],
    cluster: &'p Cluster,
}

impl<'p, 's> Participants<'p, 's> {
    /// `shards`: whose primaries the servers are, in their order.
    pub fn new(
        servers: &'p mut [&'s mut Server],
        shards: &'p [ShardId],
        cluster: &'p Cluster,
    ) -> Self {
        Self {
            servers,
            shards,
            cluster,
        }
    }

    pub fn servers(&mut self) -> &mut [&'s mut Server] {
        self.servers
    }

    /// May they commit together? Asked before anything has an effect.
    ///
    /// # Errors
    /// As [`crate::cluster::two_phase::TwoPhase::admit`]; 0A000 under another session authorization. None
    /// where the operator has chosen that they commit one after the other.
    pub async fn admit(&self) -> Result<(), Error> {
        if self.commits() == Way::OneByOne {
            return Ok(());
        }
        if let Some(server) = self.servers.first() {
            let user = &server.identity.user;
            self.cluster.two_phase.admit(self.shards, user).await?;
            // Nobody else could finish what it prepares.
            if server.applied.contains_key("session_authorization") {
                let message = "cannot write to several shards under another session authorization";
                return Err(Error::new(Fault::Client, "0A000", message)
                    .detail("Only that user or a superuser could finish what is prepared.")
                    .hint("RESET SESSION AUTHORIZATION, or use SET ROLE."));
            }
        }
        Ok(())
    }

    fn commits(&self) -> Way {
        match self.cluster.database().commits.mode {
            MultiShardCommit::Atomic if self.servers.len() > 1 => Way::Together,
            MultiShardCommit::Atomic | MultiShardCommit::BestEffort => Way::OneByOne,
        }
    }

    /// Runs a job on each, each in a transaction that [`Participants::commit`] ends.
    ///
    /// # Errors
    /// A server's error or loss; nothing is kept then.
    pub async fn run(&mut self, job: &Job) -> Result<Vec<Answer>, Error> {
        self.admit().await?;
        let mut answers = Vec::with_capacity(self.servers.len());
        let mut merger = job.merger();
        for at in 0..self.servers.len() {
            let answer = async {
                self.servers[at].run_hidden(job.begin()).await?;
                job.ask(self.servers[at], &answers, merger.as_mut()).await
            };
            match answer.await {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    self.roll_back(0).await;
                    return Err(error);
                }
            }
        }
        let ids = &self.cluster.ids;
        match job
            .finish(self.servers, self.shards, ids, answers, merger)
            .await
        {
            Ok(answers) => Ok(answers),
            Err(error) => {
                self.roll_back(0).await;
                Err(error)
            }
        }
    }

    /// Runs a job on each, within the transaction that all are in.
    ///
    /// # Errors
    /// A server's error or loss: the transaction has failed then.
    pub async fn run_within(&mut self, job: &Job) -> Result<Vec<Answer>, Error> {
        if let Some(moves) = &job.moves {
            return moves
                .run_within(self.servers, self.shards, &job.requests)
                .await;
        }
        let mut answers = Vec::with_capacity(self.servers.len());
        let mut merger = job.merger();
        for server in self.servers.iter_mut() {
            answers.push(job.ask(server, &answers, merger.as_mut()).await?);
        }
        let ids = &self.cluster.ids;
        job.finish(self.servers, self.shards, ids, answers, merger)
            .await
    }

    /// Runs what cannot be in a transaction on the participant `at`, after it ran on those before.
    ///
    /// # Errors
    /// A server's error or loss, with what stands where.
    pub async fn run_apart(&mut self, at: usize, requests: &Requests) -> Result<Answer, Error> {
        let answer = broadcast::ask(self.servers[at], requests.of(at)).await;
        answer.map_err(|error| self.partial(error, at))
    }

    /// Begins a transaction on each.
    ///
    /// # Errors
    /// A server's error or loss; those begun are rolled back.
    pub async fn begin(&mut self) -> Result<(), Error> {
        self.admit().await?;
        for at in 0..self.servers.len() {
            if let Err(error) = self.servers[at].run_hidden("BEGIN").await {
                self.roll_back(0).await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Commits all of them.
    ///
    /// # Errors
    /// That of the first which fails. Nothing is kept, unless the error says that some keep what they
    /// did, or that what became of it is not known.
    pub async fn commit(&mut self) -> Result<(), Error> {
        let result = match self.commits() {
            Way::Together => two_phase::commit(self.servers, self.shards, self.cluster).await,
            Way::OneByOne => self.commit_each().await,
        };
        self.part_with_lost();
        result
    }

    /// A connection that was lost is in no transaction any more, whatever it said last.
    fn part_with_lost(&mut self) {
        for server in self.servers.iter_mut() {
            if server.doubt.is_some() {
                server.status = Status::Idle;
            }
        }
    }

    async fn commit_each(&mut self) -> Result<(), Error> {
        self.cluster.count_commit(match self.servers.len() {
            0 | 1 => CommitKind::OnePhase,
            _ => CommitKind::BestEffort,
        });
        for at in 0..self.servers.len() {
            if let Err(error) = self.servers[at].run_hidden("COMMIT").await {
                self.roll_back(at).await;
                return Err(match at {
                    0 => error,
                    _ => self.partial(error, at),
                });
            }
        }
        Ok(())
    }

    /// Rolls back those from `first` on that are in a transaction.
    pub async fn roll_back(&mut self, first: usize) {
        for server in &mut self.servers[first..] {
            if server.status != Status::Idle && server.run_hidden("ROLLBACK").await.is_err() {
                server.doubt.get_or_insert("it failed to roll back");
            }
        }
        self.part_with_lost();
    }

    /// Says what stands where after a statement took effect on the first `done` shards only.
    fn partial(&self, error: Error, done: usize) -> Error {
        let names = |servers: &[&mut Server]| {
            let names = servers.iter().map(|s| s.identity.endpoint.to_string());
            names.collect::<Vec<_>>().join(", ")
        };
        let mut detail = error.detail.as_deref().map(|own| format!("{own} "));
        let mut say = |what: &str, servers: &[&mut Server]| {
            if !servers.is_empty() {
                let text = detail.get_or_insert_default();
                text.push_str(&format!("{what} {}. ", names(servers)));
            }
        };
        say("It took effect on", &self.servers[..done]);
        say("It failed on", &self.servers[done..=done]);
        say("It was not tried on", &self.servers[done + 1..]);
        let detail = detail.unwrap_or_default().trim_end().to_owned();
        error
            .detail(detail)
            .hint("Repeat the statement where it failed, or undo it where it took effect.")
    }
}

/// How they commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Together,
    OneByOne,
}
