//! An UPDATE or DELETE that reads rows of other shards than those it writes on; see [`planner::gather`].
//!
//! The transaction is the caller's, on all shards concerned. The rows are gathered as those of a query are,
//! and each shard runs the client's text over them and its own rows of the table. Nothing is written before
//! all is read.

use planner::ShardId;
use planner::ShardSet;
use planner::gather::{Ask, Gathering};

use super::broadcast::{self, Answer, Combine, combine};
use super::describe;
use super::gather::{self, Returns, Values};
use super::insertion::{among, lacking};
use super::merge::Memory;
use super::scatter::drain;
use crate::backend::server::Server;
use crate::error::Error;

/// Without the rest of its transaction.
#[derive(Debug)]
pub struct GatheredWrite {
    /// The client's text.
    pub sql: Vec<u8>,
    pub gathering: Gathering,
    /// The shards that have rows of its table.
    pub on: ShardSet,
    /// The client's parameters: types as declared.
    pub types: Vec<u32>,
    pub values: Values,
    pub is_simple: bool,
    /// For rows: half of what they may take, as they are there once as they come and once in the message
    /// that takes them on.
    pub memory: Memory,
}

impl GatheredWrite {
    /// Gathers the rows and writes. Answers what the client is answered from.
    ///
    /// # Errors
    /// What a server says of it; 0A000 where it cannot run over gathered rows, 53200 and 54000 where they
    /// are too many.
    pub async fn carry_out(
        &self,
        servers: &mut [&mut Server],
        shards: &[ShardId],
    ) -> Result<Answer, Error> {
        let done = self.run(servers, shards).await;
        if done.is_err() {
            // A transaction block goes on at these until it is rolled back.
            for server in servers {
                let _ = drain(server).await;
            }
        }
        done
    }

    async fn run(&self, servers: &mut [&mut Server], shards: &[ShardId]) -> Result<Answer, Error> {
        let index_of = |shard: &ShardId| {
            let at = shards.iter().position(|known| known == shard);
            at.ok_or_else(lacking)
        };
        let on = self.on.as_slice().iter().map(index_of);
        let on = on.collect::<Result<Vec<_>, _>>()?;
        let first = *on.first().ok_or_else(lacking)?;
        let types = describe::parameters(servers[first], &self.sql, &self.types).await?;
        self.values.check_count(types.len(), self.is_simple)?;
        let finish = &self.gathering.finish;
        let declared = gather::declared(&types, finish);
        gather::describe_both(servers[first], &self.sql, &self.gathering, &declared).await?;

        let asks: Vec<&Ask> = self.gathering.asks.iter().collect();
        let asked = asks.iter().map(|ask| index_of(&ask.shard));
        let asked = asked.collect::<Result<Vec<_>, _>>()?;
        let rows = gather::gather(
            &mut among(servers, &asked),
            &asks,
            self.gathering.sources,
            &types,
            &self.values,
            self.memory.fresh(),
        )
        .await?;
        let values = Values {
            values: gather::mentioned_values(&self.values, finish),
            ..self.values.clone()
        };
        let mut answers = Vec::new();
        for at in on {
            let server = &mut *servers[at];
            gather::send(server, finish, &declared, &values, &rows, Returns::Rows)?;
            answers.push(broadcast::answer(server).await?);
        }
        Combine::Sum.check(&answers)?;
        Ok(combine(answers, &Combine::Sum))
    }
}
