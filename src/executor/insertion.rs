//! An INSERT from a query, or a MERGE of a source, whose rows may belong to other shards; see [`planner::insertion`].
//!
//! The transaction is the caller's, on all shards concerned. One server says first what the client's
//! text and its query mean, so that what is wrong with them is told in its words. The query runs as any
//! read does; each row gets an id, where the table has such a default, and is put with those of its shard,
//! by its key. Then each shard runs the client's text over arrays of its rows, with the types that the query
//! gave them, so that PostgreSQL itself assigns them to the columns, computes defaults and checks. Nothing
//! is written before all is read.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use planner::gather::{Ask, Gathering};
use planner::insertion::{COLLATED, Destination, Drawing, Merging, OwnerColumn, Place, Written};
use planner::merge::MergePlan;
use planner::route::Param;
use planner::{Refusal, ShardId, ShardSet, Topology};

use super::broadcast::{self, Answer, Combine, combine};
use super::describe::{self, Described};
use super::gather::{self, Rows, Values};
use super::merge::{Memory, Merger, shard_formats};
use super::moves::fields;
use super::scatter::{Request, Run, drain};
use crate::backend::server::{Expect, Server};
use crate::cluster::ids::IdSource;
use crate::error::{Error, Fault};
use crate::wire::frame::HEADER;
use crate::wire::frontend::LARGEST;
use crate::wire::write;

/// OIDs of int8 and its array, of text and its.
const INT8: u32 = 20;
const INT8_ARRAY: u32 = 1016;
const TEXT: u32 = 25;
const TEXT_ARRAY: u32 = 1009;
/// The OID of the database's own collation.
const DEFAULT_COLLATION: u32 = 100;

/// Without the rest of its transaction.
#[derive(Debug)]
pub struct Insertion {
    /// The client's text, and what stands in it before and behind the query.
    pub whole: Vec<u8>,
    pub head: Vec<u8>,
    pub tail: Vec<u8>,
    /// What the query returns.
    pub items: Vec<Written>,
    /// The column that an id is drawn for, where the query has no value for it.
    pub drawing: Option<Drawing>,
    pub query: Query,
    pub destination: Destination,
    /// The client's parameters: types as declared.
    pub types: Vec<u32>,
    pub values: Values,
    pub is_simple: bool,
    /// `None` of an INSERT.
    pub merging: Option<Merging>,
    /// Knows the table, and all that the query reads; `None`: any does.
    pub describing: Option<ShardId>,
    pub topology: Topology,
    /// For rows: half of what they may take, as they are there once as they come and once in the message
    /// that takes them on.
    pub memory: Memory,
}

#[derive(Debug, Clone)]
pub struct Query {
    /// The client's.
    pub sql: Vec<u8>,
    pub way: Way,
}

/// How the query runs.
#[derive(Debug, Clone)]
pub enum Way {
    /// As it is, on one shard; `None`: whichever.
    Direct(Option<ShardId>),
    Merge {
        merger: Arc<Merger>,
        shards: ShardSet,
        sql: Vec<u8>,
        /// Columns that the shards return besides.
        hidden: usize,
        /// What to do where the rows' types are not merged.
        otherwise: Option<Gathering>,
    },
    Gather(Gathering),
}

/// A column of the query, or one behind them that is drawn.
#[derive(Debug)]
struct Column {
    name: Vec<u8>,
    type_oid: u32,
    /// Ids, for a column that the query has no value for.
    drawn: bool,
    /// What the text has in its place, where its type is that of the column it is inserted into.
    given: Option<Vec<u8>>,
    /// How its values travel: the types of their array and of its elements.
    array: u32,
    element: u32,
    /// The type that they are read as again: they travel as text.
    read_as: Option<String>,
}

/// The rows for one shard.
#[derive(Debug, Default)]
struct Batch {
    /// Which rows of the query, from 0.
    numbers: Vec<usize>,
    /// By column that travels.
    columns: Vec<Rows>,
}

impl Insertion {
    /// Runs the query and inserts its rows. Answers what the client is answered from.
    ///
    /// # Errors
    /// What a server says of it; 0A000 where rows cannot travel or do not tell their shard, 53200 and
    /// 54000 where they are too many, 55000 where no ids can be had.
    pub async fn carry_out(
        &self,
        servers: &mut [&mut Server],
        shards: &[ShardId],
        ids: &IdSource,
    ) -> Result<Answer, Error> {
        let done = self.run(servers, shards, ids).await;
        if done.is_err() {
            // A transaction block goes on at these until it is rolled back.
            for server in servers {
                let _ = drain(server).await;
            }
        }
        done
    }

    async fn run(
        &self,
        servers: &mut [&mut Server],
        shards: &[ShardId],
        ids: &IdSource,
    ) -> Result<Answer, Error> {
        let index_of = |shard: ShardId| shards.iter().position(|known| *known == shard);
        let place = self.describing.map_or(Some(0), index_of);
        let place = place.ok_or_else(lacking)?;
        let server = &mut *servers[place];
        let types = describe::parameters(server, &self.whole, &self.types).await;
        let types = types.map_err(|error| match error.code == gather::UNDEFINED_TABLE {
            true => self.elsewhere(&error),
            false => error,
        })?;
        self.values.check_count(types.len(), self.is_simple)?;
        let described = self.describe(server, &types).await?;
        let mut columns = self.columns(server, &described.columns).await?;
        let formats: Vec<i16> = columns.iter().map(Column::format).collect();
        let drawing = self.drawing.as_ref();
        let drawn_head = drawing.and_then(|drawing| drawing.head(columns.len()));
        let draws = drawn_head.is_some();
        columns.extend(draws.then(Column::of_ids));
        let gathering = self.gathering(server, &types, &formats).await?;
        let key = self.places_of_key(&columns)?;
        self.check_collations(server).await?;
        let carried = carried(&columns);
        let head = drawn_head.as_deref().unwrap_or(&self.head);
        let sql = self.insertion(head, &columns, &carried, types.len());
        let all = gather::declared(&types, &sql);
        let arrays = carried.iter().map(|at| columns[*at].array);
        let all: Vec<u32> = all.into_iter().chain(arrays).collect();
        if let Err(error) = describe::parameters(server, &sql, &all).await {
            return Err(self.cannot_insert(&error));
        }

        let mut sorting = Sorting {
            insertion: self,
            columns: &columns,
            key,
            carried: &carried,
            shards,
            batches: Vec::new(),
            memory: self.memory.fresh(),
            rows: 0,
        };
        sorting.batches.resize_with(shards.len(), Batch::default);
        let select = Select {
            query: &self.query,
            types: &types,
            values: Values {
                result_formats: formats,
                ..self.values.clone()
            },
            gathering,
            place,
            memory: &self.memory,
        };
        let (mut run, asked) = select.start(servers, shards).await?;
        let mut asked = among(servers, &asked);
        while let Some(row) = run.next(&mut asked).await? {
            let id = match draws {
                true => ids.draw(1).await?.first().copied(),
                false => None,
            };
            sorting.take(&row, id)?;
        }
        run.finish(&mut asked).await?;

        let batches = std::mem::take(&mut sorting.batches);
        self.write(
            servers,
            shards,
            batches,
            &Insert {
                sql,
                types: all,
                columns: &columns,
                carried: &carried,
            },
        )
        .await
    }

    /// What the query returns.
    async fn describe(&self, server: &mut Server, types: &[u32]) -> Result<Described, Error> {
        let sql = &self.query.sql;
        let types = &gather::declared(types, sql);
        if let Way::Gather(gathering) = &self.query.way {
            return gather::describe_both(server, sql, gathering, types).await;
        }
        let described = describe::describe(server, sql, types).await?;
        described.ok_or_else(lacking)
    }

    /// How the rows are gathered, where they are not merged.
    async fn gathering(
        &self,
        server: &mut Server,
        types: &[u32],
        formats: &[i16],
    ) -> Result<Option<&Gathering>, Error> {
        let (merger, merged, otherwise) = match &self.query.way {
            Way::Gather(gathering) => return Ok(Some(gathering)),
            Way::Merge {
                merger,
                sql,
                otherwise: Some(otherwise),
                ..
            } => (merger, sql, otherwise),
            Way::Direct(_) | Way::Merge { .. } => return Ok(None),
        };
        let described =
            describe::describe(server, merged, &gather::declared(types, merged)).await?;
        match merger.check(&described.ok_or_else(lacking)?.columns, formats) {
            Ok(()) => Ok(None),
            Err(error) if error.code == "0A000" => {
                let sql = &self.query.sql;
                let types = gather::declared(types, sql);
                gather::describe_both(server, sql, otherwise, &types).await?;
                Ok(Some(otherwise))
            }
            Err(error) => Err(error),
        }
    }

    /// How values of each column travel.
    async fn columns(&self, server: &mut Server, described: &[u8]) -> Result<Vec<Column>, Error> {
        let oids = describe::column_types(described)?;
        let names = describe::column_names(described)?;
        let given = written(&self.items, oids.len());
        if oids.is_empty() {
            return Err(self.refusal("It returns no columns."));
        }
        let listed: Vec<String> = oids.iter().map(u32::to_string).collect();
        // Values of types that users make, and arrays, travel as text: their types have other OIDs on
        // each server, and unnest takes arrays apart.
        let rows = server
            .ask_hidden(&format!(
                "SELECT t.oid, t.typarray, \
                 t.oid >= 16384 OR t.typarray = 0 OR t.typcategory = 'A' OR t.typname LIKE 'reg%', \
                 pg_catalog.format('%I.%I', n.nspname, t.typname), \
                 pg_catalog.current_setting('DateStyle') LIKE 'ISO%' \
                 AND pg_catalog.current_setting('IntervalStyle') = 'postgres' \
                 AND pg_catalog.current_setting('extra_float_digits')::pg_catalog.int4 > 0 \
                 FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
                 WHERE t.oid IN ({})",
                listed.join(", ")
            ))
            .await?;
        let text = |row: &[Option<Bytes>], at: usize| {
            let value = row.get(at).cloned().flatten().unwrap_or_default();
            String::from_utf8_lossy(&value).into_owned()
        };
        let column = |((type_oid, name), given): ((u32, &[u8]), Option<Vec<u8>>)| {
            let is_it = |row: &&Vec<Option<Bytes>>| text(row, 0) == type_oid.to_string();
            let row = rows.iter().find(is_it).ok_or_else(lacking)?;
            let as_text = text(row, 2) == "t";
            if as_text && given.is_none() && text(row, 4) != "t" {
                return Err(self.refusal(
                    "Arrays and values of types made by users pass as text, and the settings DateStyle, \
                     IntervalStyle or extra_float_digits write them so that it cannot be read again.",
                ));
            }
            Ok(Column {
                name: name.to_vec(),
                type_oid,
                drawn: false,
                given,
                array: match as_text {
                    true => TEXT_ARRAY,
                    false => text(row, 1).parse().map_err(|_| lacking())?,
                },
                element: if as_text { TEXT } else { type_oid },
                read_as: as_text.then(|| text(row, 3)),
            })
        };
        oids.into_iter().zip(names).zip(given).map(column).collect()
    }

    /// Which columns have the values of the key.
    ///
    /// # Errors
    /// 0A000 where they may be changed as they are inserted or compared, or are not there.
    fn places_of_key(&self, columns: &[Column]) -> Result<Vec<usize>, Error> {
        let Destination::Owners(owners) = &self.destination else {
            return Ok(Vec::new());
        };
        let of_query = columns.iter().filter(|column| !column.drawn).count();
        let drawing = self.drawing.as_ref().filter(|_| of_query < columns.len());
        let drawn = drawing.map(|drawing| drawing.position);
        let place = |key: &OwnerColumn| {
            let at = match &key.place {
                Place::At(at) if drawn == Some(*at) => return Ok(of_query),
                Place::At(at) => Some(*at).filter(|at| *at < of_query),
                Place::Named(name) => {
                    let mut all = columns.iter();
                    all.position(|column| column.name == name.as_bytes())
                }
            };
            let at = at.ok_or_else(|| self.no_key(key))?;
            match columns[at].is_literal() || key.takes(columns[at].type_oid) {
                true => Ok(at),
                false => Err(self.key_of_type(key)),
            }
        };
        owners.columns.iter().map(place).collect()
    }

    /// # Errors
    /// 0A000 where a MERGE might compare texts otherwise elsewhere: how a column is collated does not travel.
    async fn check_collations(&self, server: &mut Server) -> Result<(), Error> {
        let reads = self.merging.as_ref().map_or(&[][..], |m| &m.reads);
        if reads.is_empty() {
            return Ok(());
        }
        let table = |name: &String| {
            let name = name.replace('\\', r"\\").replace('\'', "''");
            format!("E'{name}'::pg_catalog.regclass")
        };
        let tables: Vec<String> = reads.iter().map(table).collect();
        let found = server
            .ask_hidden(&format!(
                "SELECT 1 FROM pg_catalog.pg_attribute WHERE attrelid IN ({}) AND attnum > 0 \
                 AND attcollation NOT IN (0, {DEFAULT_COLLATION}) LIMIT 1",
                tables.join(", ")
            ))
            .await?;
        match found.is_empty() {
            true => Ok(()),
            false => Err(self.refusal(COLLATED)),
        }
    }

    /// The client's text over arrays of rows: parameters behind its own, which are `given`.
    fn insertion(
        &self,
        head: &[u8],
        columns: &[Column],
        carried: &[usize],
        given: usize,
    ) -> Vec<u8> {
        let name = |at: usize| format!("r.c{}", at + 1);
        let mut sql = head.to_vec();
        sql.extend_from_slice(match self.merging {
            Some(_) => b" (SELECT ",
            None => b" SELECT ",
        });
        for (at, column) in columns.iter().enumerate() {
            sql.extend_from_slice(if at > 0 { b", " } else { b"" });
            match (&column.given, &column.read_as) {
                (Some(text), _) => sql.extend_from_slice(text),
                (None, Some(of)) => {
                    sql.extend_from_slice(format!("CAST({} AS {of})", name(at)).as_bytes());
                }
                (None, None) => sql.extend_from_slice(name(at).as_bytes()),
            }
            if self.merging.is_some() {
                sql.extend_from_slice(b" AS ");
                sql.extend(quoted(&column.name));
            }
        }
        let arrays = (given + 1..).take(carried.len());
        let arrays: Vec<String> = arrays
            .map(|number| format!("pg_catalog.unnest(${number})"))
            .collect();
        let names: Vec<String> = carried.iter().map(|at| format!("c{}", at + 1)).collect();
        let from = format!(
            " FROM ROWS FROM ({}) AS r ({}) ",
            arrays.join(", "),
            names.join(", ")
        );
        sql.extend_from_slice(from.as_bytes());
        if let Some(merging) = &self.merging {
            sql.extend_from_slice(b") AS ");
            sql.extend(quoted(merging.alias.as_bytes()));
            sql.push(b' ');
        }
        sql.extend_from_slice(&self.tail);
        sql
    }

    async fn write(
        &self,
        servers: &mut [&mut Server],
        shards: &[ShardId],
        batches: Vec<Batch>,
        insert: &Insert<'_>,
    ) -> Result<Answer, Error> {
        let none = batches.iter().all(|batch| batch.numbers.is_empty());
        let mut answers = Vec::new();
        let mut given = Vec::new();
        match &self.destination {
            Destination::Everywhere => {
                let batch = &batches[0];
                for server in servers.iter_mut() {
                    answers.push(self.write_batch(server, batch, insert).await?);
                }
                Combine::First.check(&answers)?;
                return Ok(combine(answers, &Combine::First));
            }
            Destination::Owners(_) | Destination::One(_) => {
                // Also of no rows a server has to say what becomes of them.
                let first = match self.destination {
                    Destination::One(shard) => shard,
                    Destination::Owners(_) | Destination::Everywhere => shards[0],
                };
                let merging = self.merging.as_ref();
                let everywhere = merging.is_some_and(|merging| merging.everywhere);
                let all = servers.iter_mut().zip(shards).zip(batches);
                for ((server, shard), batch) in all {
                    if batch.numbers.is_empty() && !everywhere && !(none && *shard == first) {
                        continue;
                    }
                    answers.push(self.write_batch(server, &batch, insert).await?);
                    given.push(batch.numbers);
                }
            }
        }
        let how = match self.merging {
            // Nothing is said of the order of what it returns.
            Some(_) => Combine::Sum,
            None => Combine::Rows(given),
        };
        how.check(&answers)?;
        Ok(combine(answers, &how))
    }

    async fn write_batch(
        &self,
        server: &mut Server,
        batch: &Batch,
        insert: &Insert<'_>,
    ) -> Result<Answer, Error> {
        let values = gather::mentioned_values(&self.values, &insert.sql);
        let own: usize = values.iter().flatten().map(Bytes::len).sum();
        let size = own + batch.columns.iter().map(Rows::size).sum::<usize>();
        const REST: usize = 1 << 20;
        let count = values.len() + insert.carried.len();
        if size > LARGEST - REST || count > usize::from(u16::MAX) {
            return Err(self.too_many());
        }
        server.begin_exchange();
        server.unnamed = None;
        let out = &mut server.conn.outbox;
        write::parse(out, b"", &insert.sql, &insert.types);
        let mut formats = self.values.formats.clone();
        formats.resize(count, 1);
        write::frame(out, b'B', |out| {
            out.put_slice(&[0, 0]);
            gather::put_formats(out, &formats);
            out.put_u16(count as u16);
            for value in &values {
                gather::put_value(out, value.as_deref());
            }
            let empty = Rows::default();
            for (at, column) in insert.carried.iter().enumerate() {
                let rows = batch.columns.get(at).unwrap_or(&empty);
                gather::put_array(out, rows, insert.columns[*column].element);
            }
            gather::put_formats(out, &self.values.result_formats);
        });
        write::describe(out, b'P', b"");
        write::execute(out, b"", 0);
        out.extend_from_slice(write::SYNC);
        server.expect.push_back(Expect::Ready { show: false });
        broadcast::answer(server).await
    }
}

/// The text that inserts.
struct Insert<'a> {
    sql: Vec<u8>,
    types: Vec<u32>,
    columns: &'a [Column],
    carried: &'a [usize],
}

impl Column {
    fn of_ids() -> Self {
        Self {
            name: Vec::new(),
            type_oid: INT8,
            drawn: true,
            given: None,
            array: INT8_ARRAY,
            element: INT8,
            read_as: None,
        }
    }

    /// The format that its values come in.
    fn format(&self) -> i16 {
        i16::from(self.read_as.is_none())
    }

    /// A string or NULL of the text, and no parameter?
    fn is_literal(&self) -> bool {
        let is_param = |text: &Vec<u8>| matches!(text.as_slice(), [b'$', b'0'..=b'9', ..]);
        self.given.as_ref().is_some_and(|text| !is_param(text))
    }
}

/// The columns whose values travel; one at least, so that rows do.
fn carried(columns: &[Column]) -> Vec<usize> {
    let all = (0..columns.len()).filter(|at| columns[*at].given.is_none());
    let mut carried: Vec<usize> = all.collect();
    if carried.is_empty() {
        carried.push(0);
    }
    carried
}

/// What the text has in place of each of `count` columns.
fn written(items: &[Written], count: usize) -> Vec<Option<Vec<u8>>> {
    let plain = items.iter().filter(|item| **item != Written::Star).count();
    let starred = count.saturating_sub(plain);
    let mut columns = Vec::with_capacity(count);
    for item in items {
        match item {
            Written::Column => columns.push(None),
            Written::Star => columns.resize(columns.len() + starred, None),
            Written::Given(text) => columns.push(Some(text.clone())),
        }
    }
    match columns.len() == count {
        true => columns,
        false => vec![None; count],
    }
}

/// One execution of the query.
struct Select<'a> {
    query: &'a Query,
    /// Of the parameters.
    types: &'a [u32],
    values: Values,
    gathering: Option<&'a Gathering>,
    /// Where a text runs that any server may run.
    place: usize,
    memory: &'a Memory,
}

impl Select<'_> {
    /// Answers which of the servers give its rows.
    async fn start(
        &self,
        servers: &mut [&mut Server],
        shards: &[ShardId],
    ) -> Result<(Run, Vec<usize>), Error> {
        let index_of = |shard: &ShardId| {
            let at = shards.iter().position(|known| known == shard);
            at.ok_or_else(lacking)
        };
        if let Some(gathering) = self.gathering {
            let at = gathering.at.as_ref().map_or(Ok(self.place), index_of)?;
            return Ok((
                self.gather(servers, gathering, at, index_of).await?,
                vec![at],
            ));
        }
        let (merger, sql, hidden, asked) = match &self.query.way {
            Way::Direct(shard) => {
                let at = shard.as_ref().map_or(Ok(self.place), index_of)?;
                let plain = Merger::new(&MergePlan::default(), 1, None, 0, Memory::new(usize::MAX));
                (plain, &self.query.sql, 0, vec![at])
            }
            Way::Merge {
                merger,
                shards,
                sql,
                hidden,
                otherwise: _,
            } => {
                let asked = shards.as_slice().iter().map(index_of);
                let asked = asked.collect::<Result<Vec<_>, _>>()?;
                (merger.fresh(), sql, *hidden, asked)
            }
            Way::Gather(_) => return Err(lacking()),
        };
        let mut bind_rest = BytesMut::new();
        gather::put_formats(&mut bind_rest, &self.values.formats);
        let values = gather::mentioned_values(&self.values, sql);
        bind_rest.put_u16(values.len() as u16);
        values
            .iter()
            .for_each(|value| gather::put_value(&mut bind_rest, value.as_deref()));
        let formats = shard_formats(&self.values.result_formats, hidden);
        gather::put_formats(&mut bind_rest, &formats);
        let request = Request::Extended {
            sql,
            types: &gather::declared(self.types, sql),
            bind_rest: &bind_rest,
        };
        let mut servers = among(servers, &asked);
        Ok((Run::start(merger, &mut servers, &request), asked))
    }

    async fn gather(
        &self,
        servers: &mut [&mut Server],
        gathering: &Gathering,
        at: usize,
        index_of: impl Fn(&ShardId) -> Result<usize, Error>,
    ) -> Result<Run, Error> {
        let asks: Vec<&Ask> = gathering.asks.iter().collect();
        let asked = asks.iter().map(|ask| index_of(&ask.shard));
        let asked = asked.collect::<Result<Vec<_>, _>>()?;
        let rows = gather::gather(
            &mut among(servers, &asked),
            &asks,
            gathering.sources,
            self.types,
            &self.values,
            self.memory.fresh(),
        )
        .await?;
        let types = gather::declared(self.types, &gathering.finish);
        let values = Values {
            values: gather::mentioned_values(&self.values, &gathering.finish),
            ..self.values.clone()
        };
        gather::finish(servers[at], &gathering.finish, &types, &values, rows)
    }
}

/// Puts rows with those of their shard.
struct Sorting<'a> {
    insertion: &'a Insertion,
    columns: &'a [Column],
    /// Which of them are the key, in its order.
    key: Vec<usize>,
    carried: &'a [usize],
    shards: &'a [ShardId],
    /// By participant; all in the first where every shard gets all rows.
    batches: Vec<Batch>,
    memory: Memory,
    rows: usize,
}

impl Sorting<'_> {
    /// Takes a DataRow frame, and the id of its row.
    fn take(&mut self, row: &[u8], id: Option<i64>) -> Result<(), Error> {
        let malformed = || Error::new(Fault::Server, "08P01", "a shard sent a malformed row");
        let mut fields = fields(row.get(HEADER..).unwrap_or_default())?;
        let bytes = id.map(i64::to_be_bytes);
        let digits = id.map(|id| id.to_string());
        fields.extend(bytes.as_ref().map(|bytes| Some(&bytes[..])));
        if fields.len() != self.columns.len() {
            return Err(malformed());
        }
        let at = match &self.insertion.destination {
            Destination::Everywhere => 0,
            Destination::One(shard) => self.index_of(*shard)?,
            Destination::Owners(owners) => {
                let param = |place: &usize| {
                    let column = &self.columns[*place];
                    let literal = column.is_literal() || column.drawn;
                    Param {
                        value: match &digits {
                            Some(digits) if column.drawn => Some(digits.as_bytes()),
                            Some(_) | None => fields[*place],
                        },
                        binary: !literal && column.format() == 1,
                        type_oid: if literal { 0 } else { column.type_oid },
                    }
                };
                let key: Vec<Param<'_>> = self.key.iter().map(param).collect();
                match owners.owner(&key, &self.insertion.topology)? {
                    Some(shard) => self.index_of(shard)?,
                    // It says why.
                    None => 0,
                }
            }
        };
        let size = self
            .carried
            .iter()
            .map(|at| fields[*at].map_or(4, |value| value.len() + 4));
        self.memory.take(size.sum::<usize>() + size_of::<usize>())?;
        let batch = &mut self.batches[at];
        batch.columns.resize_with(self.carried.len(), Rows::default);
        for (rows, at) in batch.columns.iter_mut().zip(self.carried) {
            rows.push(fields[*at]);
        }
        batch.numbers.push(self.rows);
        self.rows += 1;
        Ok(())
    }

    fn index_of(&self, shard: ShardId) -> Result<usize, Error> {
        let at = self.shards.iter().position(|known| *known == shard);
        at.ok_or_else(lacking)
    }
}

/// Some of the servers, in their order.
pub(super) fn among<'a>(servers: &'a mut [&mut Server], wanted: &[usize]) -> Vec<&'a mut Server> {
    let all = servers.iter_mut().enumerate();
    let some = all.filter(|(at, _)| wanted.contains(at));
    some.map(|(_, server)| &mut **server).collect()
}

pub(super) fn lacking() -> Error {
    Error::new(
        Fault::Ringway,
        "XX000",
        "a write of gathered rows lacks what it was planned with",
    )
}

fn quoted(name: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for byte in name {
        out.push(*byte);
        if *byte == b'"' {
            out.push(b'"');
        }
    }
    out.push(b'"');
    out
}

impl Insertion {
    fn refusal(&self, detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        let (message, hint) = match self.merging {
            None => (
                "INSERT from this query is not supported over several shards",
                "Run the query, then send INSERT with VALUES.",
            ),
            Some(_) => (
                "MERGE from this source is not supported over several shards",
                "Run the query of the source, then send MERGE with its rows in VALUES.",
            ),
        };
        Refusal::unsupported(message, detail, hint).into()
    }

    fn cannot_insert(&self, error: &Error) -> Error {
        self.refusal(format!(
            "Its rows cannot be written as they were gathered. PostgreSQL says: {}.",
            error.message
        ))
    }

    fn elsewhere(&self, error: &Error) -> Error {
        self.refusal(format!(
            "No shard has all of its tables. PostgreSQL says: {}.",
            error.message
        ))
    }

    fn no_key(&self, key: &OwnerColumn) -> Error {
        self.refusal(format!("It has no value for sharding key {}.", key.name))
    }

    fn key_of_type(&self, key: &OwnerColumn) -> Error {
        let name = &key.name;
        self.refusal(format!(
            "Its values for sharding key {name} are of another type, and which shard they belong to is \
             known after they are converted."
        ))
        .hint(format!("Cast them to the type of {name} in the query."))
    }

    fn too_many(&self) -> Error {
        let message = match self.merging {
            None => {
                "an INSERT from a query has more rows for a shard than a server takes in one message"
            }
            Some(_) => "a MERGE has more rows for a shard than a server takes in one message",
        };
        Error::new(Fault::Client, "54000", message).hint("Write fewer rows at once.")
    }
}
