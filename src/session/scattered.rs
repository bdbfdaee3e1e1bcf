//! A query on several shards, from its route to the first row, in both protocols: merged, or over
//! gathered rows.

mod open;

use bytes::{Bytes, BytesMut};
use planner::copy::{CopyRows, Format, Written};
use planner::gather::{Ask, Gathering};
use planner::merge::MergePlan;
use planner::plan::Access;
use planner::route::Execution;
use planner::{ShardId, ShardSet, Values};

use super::Session;
use super::retry::{Failed, MOST};
use super::routed::pick;
use super::row_count::row_count;
use crate::error::{Error, Fault};
use crate::executor::copy::written::{self, Writer};
use crate::executor::describe::{Described, describe};
use crate::executor::gather;
use crate::executor::merge::{Memory, Merger, columns_frame, shard_formats};
use crate::executor::relay::Broken;
use crate::executor::scatter::{Request, Run, unless_gone};
use crate::metrics::RouteKind;
use crate::wire::frontend::Bind;
pub(super) use open::{Head, Opened};

/// What the client sent.
pub(super) struct Query<'a> {
    pub(super) sql: &'a [u8],
    /// Declared parameter types.
    pub(super) types: &'a [u32],
    /// `None` in the simple protocol.
    pub(super) bind: Option<&'a Bind<'a>>,
    /// As the planner reads them.
    pub(super) values: Values<'a>,
}

/// What is needed to run it, owned: a portal may start later.
pub(super) struct Scattered {
    way: Way,
    /// Declared parameter types.
    types: Vec<u32>,
    /// Rows that are written as COPY does.
    copy: Option<Copying>,
}

struct Copying {
    /// The COPY without its rows.
    head: Vec<u8>,
    written: Written,
}

enum Way {
    Merge {
        merger: Box<Merger>,
        sql: Vec<u8>,
        /// Bind's part after the names, with result formats that cover the hidden columns; `None`
        /// in the simple protocol.
        bind_rest: Option<Vec<u8>>,
        /// What to do where the rows' types are not merged.
        otherwise: Option<Box<Gather>>,
    },
    Gather(Box<Gather>),
}

struct Gather {
    gathering: Gathering,
    /// The client's text and values.
    sql: Vec<u8>,
    values: gather::Values,
    protocol: Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Simple,
    Extended,
}

/// Its rows can be read.
pub(super) struct Started {
    pub(super) run: Run,
    /// The servers that they come from.
    pub(super) indexes: Vec<usize>,
    /// What the client gets before the rows: a RowDescription frame, or what begins a COPY.
    pub(super) columns: BytesMut,
}

/// Rows that have been gathered.
struct Arrived {
    /// The lease on whose server the text runs over them.
    finishing: usize,
    /// What the client's text returns.
    described: Described,
    rows: gather::Gathered,
}

impl Scattered {
    pub(super) fn kind(&self) -> RouteKind {
        match self.way {
            Way::Merge { .. } => RouteKind::Merge,
            Way::Gather(_) => RouteKind::Gather,
        }
    }
}

impl Gather {
    fn new(gathering: Gathering, query: &Query<'_>) -> Box<Self> {
        Box::new(Self {
            gathering,
            sql: query.sql.to_vec(),
            values: query.bind.map(values_of).unwrap_or_default(),
            protocol: match query.bind {
                Some(_) => Protocol::Extended,
                None => Protocol::Simple,
            },
        })
    }
}

impl Session {
    /// What a route over several `shards` comes to.
    ///
    /// # Errors
    /// A value of LIMIT or OFFSET that PostgreSQL would not take.
    pub(super) fn scattered(
        &self,
        execution: Execution<'_>,
        query: &Query<'_>,
        shards: usize,
    ) -> Result<Scattered, Error> {
        let way = match execution {
            Execution::Merge {
                merge,
                sql,
                otherwise,
            } => Way::Merge {
                merger: Box::new(self.merger(merge, shards, query.values)?),
                sql: sql.into_owned(),
                bind_rest: query.bind.map(|bind| rest_with_formats(bind, merge.hidden)),
                otherwise: otherwise.map(|gathering| Gather::new(*gathering, query)),
            },
            Execution::Gather(gathering) => Way::Gather(Gather::new(*gathering, query)),
            Execution::Direct
            | Execution::SumTags
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
                    "not a query on several shards",
                ));
            }
        };
        Ok(Scattered {
            way,
            types: query.types.to_vec(),
            copy: None,
        })
    }

    /// What a COPY of a query over several `shards` comes to.
    ///
    /// # Errors
    /// As [`Session::scattered`].
    pub(super) fn copied(&self, copy: CopyRows<'_>, shards: usize) -> Result<Scattered, Error> {
        /// No values, and all results in binary format: what follows the names.
        const BINARY: [u8; 8] = [0, 0, 0, 0, 0, 1, 0, 1];
        let bind = Bind {
            portal: b"",
            statement: b"",
            formats: vec![],
            values: vec![],
            result_formats: vec![1],
            rest: &BINARY,
        };
        let query = Query {
            sql: &copy.sql,
            types: &[],
            bind: (copy.written.format == Format::Binary).then_some(&bind),
            values: Values {
                sql: &copy.sql,
                pieces: &copy.pieces,
                params: &[],
            },
        };
        let copying = Copying {
            head: copy.head,
            written: copy.written.clone(),
        };
        Ok(Scattered {
            copy: Some(copying),
            ..self.scattered(copy.query, &query, shards)?
        })
    }

    /// Sends it; when this returns, every shard has described its rows. `access` becomes that with which the
    /// servers were chosen: the primaries are asked where a replica would not do.
    ///
    /// # Errors
    /// What a server says of it, 0A000 when its rows are of a kind that cannot be merged nor
    /// gathered, 53200 and 54000 when they are too many to be gathered.
    pub(super) async fn start_scattered(
        &mut self,
        scattered: &Scattered,
        shards: &ShardSet,
        access: &mut Access,
    ) -> Result<Started, Error> {
        let mut tries = 0;
        loop {
            match self.try_scattered(scattered, shards, *access).await {
                Ok(started) => return Ok(started),
                Err(Failed::Again(next)) if tries < MOST => (tries, *access) = (tries + 1, next),
                Err(Failed::Again(_)) => return Err(lost_again()),
                Err(Failed::Tell(error)) => return Err(error),
            }
        }
    }

    async fn try_scattered(
        &mut self,
        scattered: &Scattered,
        shards: &ShardSet,
        access: Access,
    ) -> Result<Started, Failed> {
        let indexes = self.enlist_for_read(shards, access).await?;
        self.sync_quietly(&indexes).await?;
        let Some(copying) = &scattered.copy else {
            return self.start_rows(scattered, shards, indexes, access).await;
        };
        let place = match &scattered.way {
            Way::Merge { .. } => None,
            Way::Gather(gather) => gather.gathering.at,
        };
        let at = shards
            .as_slice()
            .iter()
            .position(|shard| Some(*shard) == place);
        let index = indexes[at.unwrap_or(0)];
        let server = &mut self.leases[index].lease;
        let head = written::head(server, &copying.head).await;
        let head = self.or_lost(index, head, access).await?;
        let mut started = self.start_rows(scattered, shards, indexes, access).await?;
        let columns = std::mem::take(&mut started.columns);
        let out = &mut started.columns;
        started.run.writer = Some(Writer::start(&copying.written, &head, &columns, out)?);
        Ok(started)
    }

    /// Of servers that are enlisted.
    async fn start_rows(
        &mut self,
        scattered: &Scattered,
        shards: &ShardSet,
        indexes: Vec<usize>,
        access: Access,
    ) -> Result<Started, Failed> {
        let Scattered {
            way,
            types,
            copy: _,
        } = scattered;
        let (merger, sql, bind_rest) = match way {
            Way::Gather(gather) => {
                let started = self.start_gathered(gather, types, shards, indexes, access);
                return Box::pin(started).await;
            }
            Way::Merge {
                merger,
                sql,
                bind_rest,
                otherwise,
            } => {
                if let Some(gather) = otherwise
                    && !self
                        .merges(merger, sql, types, gather, indexes[0], access)
                        .await?
                {
                    self.note_route(RouteKind::Gather);
                    let started = self.start_gathered(gather, types, shards, indexes, access);
                    return Box::pin(started).await;
                }
                (merger, sql, bind_rest)
            }
        };
        let request = match bind_rest {
            None => Request::Simple { sql },
            Some(bind_rest) => Request::Extended {
                sql,
                types,
                bind_rest,
            },
        };
        let mut servers = pick(&mut self.leases, &indexes);
        let mut run = Run::start(merger.fresh(), &mut servers, &request);
        match run.columns(&mut self.client, &mut servers).await {
            Ok(columns) => Ok(Started {
                run,
                indexes,
                columns,
            }),
            Err(broken) => Err(self.fail_scattered(&indexes, broken, access).await),
        }
    }

    /// Can the rows be merged? Their types are asked of one shard.
    async fn merges(
        &mut self,
        merger: &Merger,
        sql: &[u8],
        types: &[u32],
        gather: &Gather,
        index: usize,
        access: Access,
    ) -> Result<bool, Failed> {
        let server = &mut self.leases[index].lease;
        let described = describe(server, sql, types).await;
        let Some(described) = self.or_lost(index, described, access).await? else {
            return Ok(true);
        };
        match merger.check(&described.columns, &gather.values.result_formats) {
            Ok(()) => Ok(true),
            Err(error) if error.code == "0A000" => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn start_gathered(
        &mut self,
        given: &Gather,
        types: &[u32],
        shards: &ShardSet,
        indexes: Vec<usize>,
        access: Access,
    ) -> Result<Started, Failed> {
        let gathered = self.gather_rows(given, types, shards, indexes, access);
        let Arrived {
            finishing,
            described,
            rows,
        } = gathered.await?;
        let columns = columns_frame(&described.columns, &given.values.result_formats)?;
        let server = &mut self.leases[finishing].lease;
        let sql = &given.gathering.finish;
        let mut run = gather::finish(server, sql, &described.types, &given.values, rows)?;
        let indexes = vec![finishing];
        let mut servers = pick(&mut self.leases, &indexes);
        match run.columns(&mut self.client, &mut servers).await {
            Ok(_) => Ok(Started {
                run,
                indexes,
                columns,
            }),
            Err(broken) => Err(self.fail_scattered(&indexes, broken, access).await),
        }
    }

    /// Up to where the text is to run over the rows.
    async fn gather_rows(
        &mut self,
        given: &Gather,
        types: &[u32],
        shards: &ShardSet,
        indexes: Vec<usize>,
        access: Access,
    ) -> Result<Arrived, Failed> {
        let gathering = &given.gathering;
        let place = self.finishing_shard(gathering, shards);
        let index_of = |shard: ShardId| {
            let at = shards.as_slice().iter().position(|known| *known == shard);
            at.and_then(|at| indexes.get(at).copied())
        };
        let lacking = || Error::new(Fault::Ringway, "XX000", "a shard was not enlisted");
        let finishing = index_of(place).ok_or_else(lacking)?;
        let server = &mut self.leases[finishing].lease;
        let described = gather::describe_both(server, &given.sql, gathering, types).await;
        let described = self.or_lost(finishing, described, access).await?;
        if described.types.len() != given.values.values.len() {
            let missing = self.values_missing(given, described.types.len(), finishing);
            return Err(missing.await.into());
        }

        let asks: Vec<&Ask> = gathering.asks.iter().collect();
        let asked = asks.iter().map(|ask| index_of(ask.shard));
        let asked: Vec<usize> = asked.collect::<Option<_>>().ok_or_else(lacking)?;
        // They are held once as they come, and once in the message that takes them on.
        let memory = Memory::new(self.limits.merge_memory_bytes / 2);
        let memory = memory.told(&self.db.metrics.merge_memory);
        let mut servers = pick(&mut self.leases, &asked);
        let gathered = gather::gather(
            &mut servers,
            &asks,
            gathering.sources,
            &described.types,
            &given.values,
            memory,
        );
        let gathered = match unless_gone(&mut self.client, gathered).await {
            Ok(gathered) => gathered.map_err(Broken::Server),
            Err(broken) => Err(broken),
        };
        match gathered {
            Ok(rows) => Ok(Arrived {
                finishing,
                described,
                rows,
            }),
            Err(broken) => Err(self.fail_scattered(&asked, broken, access).await),
        }
    }

    /// Gives up a server that was lost while it was asked something.
    async fn or_lost<T>(
        &mut self,
        index: usize,
        asked: Result<T, Error>,
        access: Access,
    ) -> Result<T, Failed> {
        match asked {
            Err(error) if self.leases[index].lease.doubt.is_some() => {
                let broken = Broken::Server(error);
                Err(self.fail_scattered(&[index], broken, access).await)
            }
            other => other.map_err(Failed::from),
        }
    }

    /// Where the text runs: any shard will do that has what is not gathered. Sessions spread.
    fn finishing_shard(&self, gathering: &Gathering, shards: &ShardSet) -> ShardId {
        let all = shards.as_slice();
        let drawn = self.info.pid.unsigned_abs() as usize % all.len().max(1);
        let any = || all.get(drawn).copied().unwrap_or(ShardId(0));
        gathering.at.unwrap_or_else(any)
    }

    /// What PostgreSQL says when the parameters of a text are not those that came with it.
    async fn values_missing(&mut self, given: &Gather, wanted: usize, index: usize) -> Error {
        match given.protocol {
            Protocol::Simple => {
                let text = String::from_utf8_lossy(&given.sql);
                let ran = self.leases[index].lease.run_hidden(&text).await;
                ran.err().unwrap_or_else(|| {
                    Error::new(Fault::Client, "42P02", "there is no such parameter")
                })
            }
            Protocol::Extended => {
                let supplied = given.values.values.len();
                let message = format!(
                    "bind message supplies {supplied} parameters, but the statement requires {wanted}"
                );
                Error::new(Fault::Client, "08P01", message)
            }
        }
    }

    pub(super) fn merger(
        &self,
        merge: &MergePlan,
        shards: usize,
        values: Values<'_>,
    ) -> Result<Merger, Error> {
        let limit = merge
            .limit
            .as_ref()
            .map(|v| row_count(v, values, "LIMIT"))
            .transpose()?
            .flatten();
        let offset = merge
            .offset
            .as_ref()
            .map(|v| row_count(v, values, "OFFSET"))
            .transpose()?
            .flatten();
        let memory = Memory::new(self.limits.merge_memory_bytes);
        let memory = memory.told(&self.db.metrics.merge_memory);
        let offset = offset.unwrap_or(0);
        Ok(Merger::new(merge, shards, limit, offset, memory))
    }
}

/// The client's values, kept.
pub(super) fn values_of(bind: &Bind<'_>) -> gather::Values {
    gather::Values {
        formats: (0..bind.values.len())
            .map(|at| i16::from(bind.is_binary(at)))
            .collect(),
        values: bind
            .values
            .iter()
            .map(|value| value.map(Bytes::copy_from_slice))
            .collect(),
        result_formats: bind.result_formats.clone(),
    }
}

/// Server after server is lost.
pub(super) fn lost_again() -> Error {
    let message = "connections to servers were lost again and again";
    Error::new(Fault::Server, "08006", message)
        .detail("A query on several shards was asked of other servers each time.")
        .hint("Try again, or see SHOW REPLICAS.")
}

/// Bind's part after the names, with result formats that cover the hidden columns.
pub(super) fn rest_with_formats(bind: &Bind<'_>, hidden: usize) -> Vec<u8> {
    let formats = &bind.result_formats;
    let widened = shard_formats(formats, hidden);
    let tail = 2 + 2 * formats.len();
    let mut out = bind.rest[..bind.rest.len().saturating_sub(tail)].to_vec();
    out.extend_from_slice(&(widened.len() as u16).to_be_bytes());
    widened
        .iter()
        .for_each(|format| out.extend_from_slice(&format.to_be_bytes()));
    out
}
