//! The shards that one statement writes: each in a transaction of its own, all begun, all run, then
//! all committed, one after the other in the order of their ids. Writes that meet each other meet on
//! the first shard, so they cannot deadlock across shards.
//!
//! Every write to several shards commits here, in [`Participants::commit`]: a failure between two
//! commits leaves some shards with the change, and the error says which.

use super::broadcast::{self, Answer, Job, Requests};
use crate::backend::server::{Server, Status};
use crate::error::Error;

pub struct Participants<'p, 's> {
    servers: &'p mut [&'s mut Server],
}

impl<'p, 's> Participants<'p, 's> {
    pub fn new(servers: &'p mut [&'s mut Server]) -> Self {
        Self { servers }
    }

    pub fn servers(&mut self) -> &mut [&'s mut Server] {
        self.servers
    }

    /// Runs a job on each, each in a transaction that [`Participants::commit`] ends.
    ///
    /// # Errors
    /// A server's error or loss; nothing is kept then.
    pub async fn run(&mut self, job: &Job) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::with_capacity(self.servers.len());
        for at in 0..self.servers.len() {
            let answer = async {
                self.servers[at].run_hidden("BEGIN").await?;
                broadcast::ask(self.servers[at], job.requests.of(at)).await
            };
            match answer.await {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    self.roll_back(0).await;
                    return Err(error);
                }
            }
        }
        if let Err(error) = job.combine.check(&answers) {
            self.roll_back(0).await;
            return Err(error);
        }
        Ok(answers)
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
        for at in 0..self.servers.len() {
            if let Err(error) = self.servers[at].run_hidden("BEGIN").await {
                self.roll_back(0).await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Commits each.
    ///
    /// # Errors
    /// That of the first which fails. Those before it keep what they did, and the error says so.
    pub async fn commit(&mut self) -> Result<(), Error> {
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
