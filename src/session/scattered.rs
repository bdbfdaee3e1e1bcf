//! A query on several shards, from its route to the first row, in both protocols: merged, or over
//! gathered rows.

use std::num::IntErrorKind;

use bytes::{Bytes, BytesMut};
use planner::copy::{CopyRows, Format, Written};
use planner::gather::{Ask, Gathering};
use planner::merge::MergePlan;
use planner::plan::Access;
use planner::route::{Execution, ValueRef};
use planner::{ShardId, ShardSet, Values};

use super::Session;
use super::retry::{Failed, MOST};
use super::routed::pick;
use crate::error::{Error, Fault};
use crate::executor::copy::written::{self, Writer};
use crate::executor::cursor;
use crate::executor::describe::{Described, describe};
use crate::executor::gather::{self, Returns};
use crate::executor::merge::{Memory, Merger, columns_frame, shard_formats};
use crate::executor::relay::Broken;
use crate::executor::scatter::{Request, Run, unless_gone};
use crate::metrics::RouteKind;
use crate::wire::frontend::Bind;

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

/// A cursor that has been declared.
pub(super) enum Opened {
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
pub(super) struct Head<'a> {
    pub(super) before: &'a [u8],
    /// As it is written.
    pub(super) name: &'a [u8],
    pub(super) after: &'a [u8],
    /// The name of the cursors that stand for it on each shard.
    pub(super) on_each: &'a str,
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
        let described = gather::describe_both(server, &given.sql, &gathering.finish, types).await;
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

    /// Declares a cursor: on each shard for a merge, else on the server that the rows are gathered on.
    ///
    /// # Errors
    /// As [`Session::start_scattered`].
    pub(super) async fn open_cursor(
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
        gather::send(server, &sql, types, values, rows, Returns::Nothing)?;
        match unless_gone(&mut self.client, cursor::finished(server)).await {
            Ok(Ok(())) => Ok(Opened::OnOne(finishing)),
            Ok(Err(error)) => {
                let broken = Broken::Server(error);
                Err(self.fail_scattered(&[finishing], broken, access).await)
            }
            Err(broken) => Err(self.fail_scattered(&[finishing], broken, access).await),
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

fn returns_nothing() -> Error {
    Error::new(Fault::Server, "08P01", "a server did not describe a query")
}

/// In PostgreSQL's words.
fn no_parameter() -> Error {
    Error::new(Fault::Client, "42P02", "there is no parameter $1")
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

/// The value of LIMIT or OFFSET; `None` is NULL: no limit, no offset.
///
/// # Errors
/// In PostgreSQL's words.
fn row_count(value: &ValueRef, values: Values<'_>, clause: &str) -> Result<Option<u64>, Error> {
    let unread = || {
        Error::new(
            Fault::Ringway,
            "XX000",
            format!("{clause} is not in the text"),
        )
    };
    let number = match value {
        ValueRef::Null => return Ok(None),
        ValueRef::Text(text) => integer(text.as_bytes(), "bigint")?,
        ValueRef::Literal { piece, negative } => {
            let range = values.pieces.get(*piece).ok_or_else(unread)?.range.clone();
            let text = values.sql.get(range).ok_or_else(unread)?;
            let string = text
                .strip_prefix(b"'")
                .and_then(|text| text.strip_suffix(b"'"));
            let number = match string {
                Some(inner) => {
                    let inner = String::from_utf8_lossy(inner).replace("''", "'");
                    i128::from(integer(inner.as_bytes(), "bigint")?)
                }
                // What is too large for a bigint is a numeric, which is made one only with its sign.
                None => {
                    let digits = std::str::from_utf8(text).unwrap_or_default();
                    digits.parse().map_err(|_| out_of_range())?
                }
            };
            let number = if *negative { -number } else { number };
            i64::try_from(number).map_err(|_| out_of_range())?
        }
        ValueRef::Param(n) => {
            let param = values.params.get(*n).ok_or_else(no_parameter)?;
            match param.value {
                None => return Ok(None),
                Some(bytes) if param.binary => binary_integer(bytes, *n)?,
                Some(bytes) => integer(
                    bytes,
                    match param.type_oid {
                        INT2 => "smallint",
                        INT4 => "integer",
                        _ => "bigint",
                    },
                )?,
            }
        }
    };
    match u64::try_from(number) {
        Ok(count) => Ok(Some(count)),
        Err(_) => {
            let code = if clause == "LIMIT" { "2201W" } else { "2201X" };
            Err(Error::new(
                Fault::Client,
                code,
                format!("{clause} must not be negative"),
            ))
        }
    }
}

const INT2: u32 = 21;
const INT4: u32 = 23;

/// As `int8in` reads a text; messages name the type that PostgreSQL reads it as.
/// <https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/utils/adt/numutils.c>
fn integer(text: &[u8], type_name: &str) -> Result<i64, Error> {
    let text = String::from_utf8_lossy(text);
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r');
    text.trim_matches(is_space)
        .parse()
        .map_err(|error: std::num::ParseIntError| match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => {
                let message = format!("value \"{text}\" is out of range for type {type_name}");
                Error::new(Fault::Client, "22003", message)
            }
            _ => {
                let message = format!("invalid input syntax for type {type_name}: \"{text}\"");
                Error::new(Fault::Client, "22P02", message)
            }
        })
}

/// Of the types whose values a merge counts with: the server holds each to its own length.
fn binary_integer(bytes: &[u8], param: usize) -> Result<i64, Error> {
    match *bytes {
        [a, b] => Ok(i16::from_be_bytes([a, b]).into()),
        [a, b, c, d] => Ok(i32::from_be_bytes([a, b, c, d]).into()),
        [a, b, c, d, e, f, g, h] => Ok(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ if bytes.len() < 8 => {
            let message = "insufficient data left in message";
            Err(Error::new(Fault::Client, "08P01", message))
        }
        _ => {
            let message = format!(
                "incorrect binary data format in bind parameter {}",
                param + 1
            );
            Err(Error::new(Fault::Client, "22P03", message))
        }
    }
}

fn out_of_range() -> Error {
    Error::new(Fault::Client, "22003", "bigint out of range")
}
