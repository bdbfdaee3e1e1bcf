//! EXPLAIN of a statement over several shards: what each of them is asked to explain, and the lines that
//! the client gets.

use std::ops::Range;

use crate::explain::steps;
use crate::gather::Gather;
use crate::plan::Many;
use crate::refusal::Refusal;
use crate::route::{self, Execution, Route, Values};
use crate::shape::Shape;
use crate::topology::{ShardId, ShardSet, Topology};

/// EXPLAIN, of what would run on several shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explain {
    /// What becomes of the statement.
    pub many: Many,
    /// Where the statement stands in the text that was planned, from which nothing is lifted.
    pub statement: Range<usize>,
}

/// One execution of an [`Explain`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// What happens to the shards' answers, in order.
    pub steps: Vec<String>,
    pub asks: Vec<Ask>,
}

/// What a shard is asked to explain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub shard: ShardId,
    pub role: Role,
    /// EXPLAIN with its options, of the statement that the shard runs.
    pub sql: Vec<u8>,
    /// Where that statement begins.
    pub statement: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It runs the statement, or its part.
    Runs,
    /// It gives its rows to another one.
    Gives,
    /// It runs the client's text over the rows of all; explained without them.
    Finishes,
}

impl Explain {
    /// # Errors
    /// As [`crate::route()`] of the statement.
    pub(crate) fn route(
        &self,
        shards: ShardSet,
        values: Values<'_>,
        topology: &Topology,
    ) -> Result<Route<'static>, Refusal> {
        let text = |range: Range<usize>| values.sql.get(range).unwrap_or_default();
        let sql = text(self.statement.clone());
        let mut shape = Shape::default();
        shape.scan(sql);
        let inner = Values {
            sql,
            pieces: &shape.pieces,
            params: &[],
        };
        let head = text(0..self.statement.start);
        let ask = |shard: ShardId, role: Role, statement: &[u8]| Ask {
            shard,
            role,
            sql: [head, statement].concat(),
            statement: head.len(),
        };
        let (asks, steps, shards) = match &self.many {
            Many::Gather(gather) => {
                let (shards, asks) = gathered(gather, shards, inner, &ask);
                let steps = vec!["gather the rows of all, and run the text over them".to_owned()];
                (asks, steps, shards)
            }
            many => {
                let Route { execution, .. } =
                    route::several(shards.clone(), many, inner, topology)?;
                let mut statement = sql;
                if let Execution::Merge { sql, .. } = &execution {
                    statement = sql;
                }
                let all = shards.as_slice().iter();
                let asks = all.map(|shard| ask(*shard, Role::Runs, statement));
                (asks.collect(), steps(&execution, inner), shards)
            }
        };
        Ok(Route {
            shards: route::Shards::Exactly(shards),
            execution: Execution::Explain(Box::new(Explained { steps, asks })),
        })
    }
}

fn gathered(
    gather: &Gather,
    shards: ShardSet,
    values: Values<'_>,
    ask: &dyn Fn(ShardId, Role, &[u8]) -> Ask,
) -> (ShardSet, Vec<Ask>) {
    let (shards, gathering) = gather.execution(shards, values);
    let given = gathering.asks.iter();
    let mut asks: Vec<Ask> = given
        .map(|given| ask(given.shard, Role::Gives, &given.sql))
        .collect();
    let first = shards.as_slice().first().copied();
    let place = gathering.at.or(first).unwrap_or(ShardId(0));
    asks.push(ask(
        place,
        Role::Finishes,
        &gather.finish_without_rows(values),
    ));
    (shards, asks)
}

impl Explained {
    /// The lines of QUERY PLAN. `plans`: what the shards have said, by ask.
    pub fn lines(&self, plans: &[Vec<String>], topology: &Topology) -> Vec<String> {
        let shards: Vec<ShardId> = self.asks.iter().map(|ask| ask.shard).collect();
        let count = shards
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len();
        let mut lines = vec![format!("Ringway on {count} shards")];
        lines.extend(self.steps.iter().map(|step| format!("  Step: {step}")));
        for (ask, plan) in self.asks.iter().zip(plans) {
            let known = topology.shards().get(usize::from(ask.shard.0));
            let name = known.map_or_else(|| ask.shard.0.to_string(), |shard| shard.name.clone());
            let statement = ask.sql.get(ask.statement..).unwrap_or_default();
            let statement = String::from_utf8_lossy(statement);
            let words: Vec<&str> = statement.split_whitespace().collect();
            let what = match ask.role {
                Role::Runs => "runs",
                Role::Gives => "gives",
                Role::Finishes => "finishes, here without rows,",
            };
            lines.push(format!("  ->  Shard {name} {what} {}", words.join(" ")));
            lines.extend(plan.iter().map(|line| format!("        {line}")));
        }
        lines
    }
}
