//! INSERT from a query, MERGE of a source, or another write, for which rows are gathered: what the executor
//! needs, made of a route.

use std::sync::Arc;

use planner::gather::Gathering;
use planner::insertion::Inserting;
use planner::route::{Execution, Shards};
use planner::{ShardSet, Values};

use super::Session;
use super::scattered::{Query, values_of};
use crate::error::{Error, Fault};
use crate::executor::broadcast::{Gathered, Job};
use crate::executor::gathered_write::GatheredWrite;
use crate::executor::insertion::{self, Insertion, Way};
use crate::executor::merge::Memory;

impl Session {
    /// # Errors
    /// A value of LIMIT or OFFSET that PostgreSQL would not take.
    pub(super) fn insertion(
        &self,
        inserting: &Inserting<'_>,
        query: &Query<'_>,
    ) -> Result<Job, Error> {
        let read = match &inserting.query.shards {
            Shards::Exactly(shards) => shards.clone(),
            Shards::Any => ShardSet::default(),
        };
        let first = read.as_slice().first().copied();
        let (way, has_all) = match &inserting.query.execution {
            Execution::Direct => (Way::Direct(first), first),
            Execution::Merge {
                merge,
                sql,
                otherwise,
            } => {
                let values = Values {
                    sql: &inserting.sql,
                    pieces: &inserting.pieces,
                    params: query.values.params,
                };
                let merger = self.merger(merge, read.len(), values)?;
                let way = Way::Merge {
                    merger: Arc::new(merger),
                    shards: read,
                    sql: sql.to_vec(),
                    hidden: merge.hidden,
                    otherwise: otherwise.as_deref().cloned(),
                };
                (way, None)
            }
            Execution::Gather(gathering) => (Way::Gather((**gathering).clone()), gathering.at),
            Execution::SumTags
            | Execution::Lock(_)
            | Execution::Split { .. }
            | Execution::Insert(_)
            | Execution::Write { .. }
            | Execution::Move { .. }
            | Execution::CopyIn(_)
            | Execution::CopyOut(_)
            | Execution::CopyRows(_)
            | Execution::Explain(_)
            | Execution::Cursor(_)
            | Execution::SameAnswer => {
                return Err(Error::new(
                    Fault::Ringway,
                    "XX000",
                    "not a query that reads",
                ));
            }
        };
        let only = inserting.insertion.only_shard();
        let insertion = Insertion {
            whole: query.sql.to_vec(),
            head: inserting.head.clone(),
            tail: inserting.tail.clone(),
            items: inserting.items.clone(),
            drawing: inserting.drawing.clone(),
            query: insertion::Query {
                sql: inserting.sql.clone(),
                way,
            },
            destination: inserting.insertion.destination.clone(),
            types: query.types.to_vec(),
            values: query.bind.map(values_of).unwrap_or_default(),
            is_simple: query.bind.is_none(),
            merging: inserting.insertion.merging.clone(),
            describing: only.or(has_all).or(first),
            topology: self.db.config.topology.clone(),
            memory: self.memory_of_gathered(),
        };
        Ok(Job::gathered(Gathered::Insertion(Box::new(insertion))))
    }

    /// An UPDATE or DELETE over gathered rows, which writes on some shards.
    pub(super) fn gathered_write(
        &self,
        gathering: Gathering,
        on: ShardSet,
        query: &Query<'_>,
    ) -> Job {
        Job::gathered(Gathered::Write(Box::new(GatheredWrite {
            sql: query.sql.to_vec(),
            gathering,
            on,
            types: query.types.to_vec(),
            values: query.bind.map(values_of).unwrap_or_default(),
            is_simple: query.bind.is_none(),
            memory: self.memory_of_gathered(),
        })))
    }

    fn memory_of_gathered(&self) -> Memory {
        Memory::new(self.limits.merge_memory_bytes / 2).told(&self.db.metrics.merge_memory)
    }
}
