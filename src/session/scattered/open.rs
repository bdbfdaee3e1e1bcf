//! A cursor on several shards, from the route of its query to where rows can be fetched: one on each shard whose rows
//! are merged, or one on the server that the rows are gathered on.

use bytes::Bytes;
use planner::ShardSet;
use planner::plan::Access;

use super::{Arrived, Gather, Scattered, Way, lost_again};
use crate::error::{Error, Fault};
use crate::executor::cursor;
use crate::executor::describe::describe;
use crate::executor::gather::{self, Returns};
use crate::executor::merge::Merger;
use crate::executor::relay::Broken;
use crate::executor::scatter::unless_gone;
use crate::session::Session;
use crate::session::retry::{Failed, MOST};
use crate::session::routed::pick;
use crate::session::row_count::no_parameter;

/// A cursor that has been declared.
pub(in crate::session) enum Opened {
    /// It is one of the server of this lease, by the client's name.
    OnOne(usize),
    OnEach {
        merger: Box<Merger>,
        /// The body of a shard's RowDescription.
        columns: Bytes,
        /// The leases.
        indexes: Vec<usize>,
    },
}

/// The text of a DECLARE up to its query.
pub(in crate::session) struct Head<'a> {
    pub(in crate::session) before: &'a [u8],
    /// As it is written.
    pub(in crate::session) name: &'a [u8],
    pub(in crate::session) after: &'a [u8],
    /// The name of the cursors that stand for it on each shard.
    pub(in crate::session) on_each: &'a str,
}

impl Session {
    /// Declares a cursor: on each shard for a merge, else on the server that the rows are gathered on.
    ///
    /// # Errors
    /// As [`Session::start_scattered`].
    pub(in crate::session) async fn open_cursor(
        &mut self,
        scattered: &Scattered,
        shards: &ShardSet,
        mut access: Access,
        head: &Head<'_>,
    ) -> Result<Opened, Error> {
        for _ in 0..MOST {
            match self.try_open(scattered, shards, access, head).await {
                Ok(opened) => return Ok(opened),
                Err(Failed::Again(next)) => access = next,
                Err(Failed::Tell(error)) => return Err(error),
            }
        }
        Err(lost_again())
    }

    async fn try_open(
        &mut self,
        scattered: &Scattered,
        shards: &ShardSet,
        access: Access,
        head: &Head<'_>,
    ) -> Result<Opened, Failed> {
        let indexes = self.enlist_for_read(shards, access).await?;
        self.sync_quietly(&indexes).await?;
        let Scattered {
            way,
            types,
            copy: _,
        } = scattered;
        let (merger, sql, bind_rest, otherwise) = match way {
            Way::Merge {
                merger,
                sql,
                bind_rest,
                otherwise,
            } => (merger, sql, bind_rest, otherwise),
            Way::Gather(gather) => {
                let opened = self.open_gathered(gather, types, shards, indexes, access, head);
                return Box::pin(opened).await;
            }
        };
        let first = indexes[0];
        let described = describe(&mut self.leases[first].lease, sql, types).await;
        let described = self.or_lost(first, described, access).await?;
        let described = described.ok_or_else(returns_nothing)?;
        if bind_rest.is_none() && !described.types.is_empty() {
            return Err(no_parameter().into());
        }
        // FETCH will say which of the formats it wants.
        let checked = [0, 1].map(|format| merger.check(&described.columns, &[format]));
        let [as_text, _] = &checked;
        let fails =
            |checked: &Result<(), Error>| matches!(checked, Err(error) if error.code == "0A000");
        match otherwise {
            Some(gather) if checked.iter().any(fails) => {
                let opened = self.open_gathered(gather, types, shards, indexes, access, head);
                return Box::pin(opened).await;
            }
            Some(_) | None => as_text.clone()?,
        }
        let sql = [head.before, head.on_each.as_bytes(), head.after, sql].concat();
        let request = cursor::Request {
            sql: &sql,
            types,
            bind_rest: bind_rest.as_deref().unwrap_or(cursor::NO_VALUES),
        };
        let mut servers = pick(&mut self.leases, &indexes);
        let declared = cursor::run_on_each(&mut servers, &request);
        match unless_gone(&mut self.client, declared).await {
            Ok(Ok(())) => Ok(Opened::OnEach {
                merger: Box::new(merger.fresh()),
                columns: described.columns,
                indexes,
            }),
            Ok(Err((at, error))) => {
                let close = format!("CLOSE {}", head.on_each);
                for index in indexes.iter().filter(|index| **index != indexes[at]) {
                    let held = &mut self.leases[*index];
                    if !held.in_block && held.lease.error.is_none() {
                        let closed = held.lease.run_hidden(&close).await;
                        closed.unwrap_or_else(|_| {
                            held.lease.doubt.get_or_insert("a cursor was left on it");
                        });
                    }
                }
                let broken = Broken::Server(error);
                Err(self.fail_scattered(&[indexes[at]], broken, access).await)
            }
            Err(broken) => Err(self.fail_scattered(&indexes, broken, access).await),
        }
    }

    async fn open_gathered(
        &mut self,
        given: &Gather,
        types: &[u32],
        shards: &ShardSet,
        indexes: Vec<usize>,
        access: Access,
        head: &Head<'_>,
    ) -> Result<Opened, Failed> {
        let gathered = self.gather_rows(given, types, shards, indexes, access);
        let Arrived {
            finishing,
            described,
            rows,
        } = gathered.await?;
        let finish = given.gathering.finish.as_slice();
        let sql = [head.before, head.name, head.after, finish].concat();
        let server = &mut self.leases[finishing].lease;
        let (types, values) = (&described.types, &given.values);
        gather::send(server, &sql, types, values, &rows, Returns::Nothing)?;
        match unless_gone(&mut self.client, cursor::finished(server)).await {
            Ok(Ok(())) => Ok(Opened::OnOne(finishing)),
            Ok(Err(error)) => {
                let broken = Broken::Server(error);
                Err(self.fail_scattered(&[finishing], broken, access).await)
            }
            Err(broken) => Err(self.fail_scattered(&[finishing], broken, access).await),
        }
    }
}

fn returns_nothing() -> Error {
    Error::new(Fault::Server, "08P01", "a server did not describe a query")
}
