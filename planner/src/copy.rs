//! COPY on several shards: how its data is cut into rows, and where the key is in them.

use std::ops::Range;

use crate::limit::KeyPart;
use crate::place;
use crate::placement::Placement;
use crate::plan::Many;
use crate::refusal::Refusal;
use crate::route::{self, Execution, Param, Route, Values};
use crate::shape::{Piece, Shape};
use crate::topology::{ShardId, ShardSet, Topology};

/// COPY FROM STDIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyIn {
    /// As written, for the context of errors.
    pub table: String,
    pub rows: Rows,
}

/// Who gets a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// Every shard: a reference table.
    All,
    /// The shard that owns the key.
    ByKey {
        /// Where its columns are in the data, from 0, in the order of the key.
        positions: Vec<usize>,
        /// How many columns the data must have for that.
        columns: usize,
        key: Key,
        format: Format,
    },
}

/// What the data's rows are divided by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Never empty.
    pub columns: Vec<KeyPart>,
    pub placement: Placement,
}

/// How the data is written.
/// <https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS>
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    Text {
        delimiter: u8,
        null: Vec<u8>,
        header: bool,
    },
    Csv {
        delimiter: u8,
        null: Vec<u8>,
        quote: u8,
        escape: u8,
        header: bool,
    },
    Binary,
}

/// What the data of a COPY TO STDOUT begins and ends with, besides its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    Rows,
    /// A line with the columns' names comes first.
    Header,
    /// A signature comes before the first row, and a mark after the last.
    Binary,
}

/// A row that cannot be placed: the column of the key that is to blame, from 0, and why.
pub type Misplaced = (usize, Refusal);

/// The shard of a row; `None`: every shard rejects its key alike. `values` are the key's columns as the
/// data has them, `None` for NULL.
///
/// # Errors
/// What PostgreSQL would say of a value; that it does not tell the shard; 23514 when no shard takes them.
pub fn owner(
    key: &Key,
    values: &[Option<&[u8]>],
    binary: bool,
    topology: &Topology,
) -> Result<Option<ShardId>, Misplaced> {
    let params = values.iter().map(|value| Param {
        value: *value,
        binary,
        type_oid: 0,
    });
    let params: Vec<_> = params.collect();
    let values = Values {
        sql: b"",
        pieces: &[],
        params: &params,
    };
    place::shard_of_row(&key.columns, key.placement, values, topology)
}

/// COPY (query) TO STDOUT of a query whose rows Ringway puts together, and writes as COPY does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyQuery {
    /// What becomes of the query.
    pub many: Many,
    /// Where the query stands in the text that was planned, from which nothing is lifted.
    pub query: Range<usize>,
    pub written: Written,
}

/// How rows are written for the client, in UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub format: Format,
    pub force_quote: ForceQuote,
}

/// Which values are in quotes in CSV, whatever they are. NULL never is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ForceQuote {
    /// Those that have to.
    #[default]
    Needed,
    All,
    /// Those of the columns with these names.
    Columns(Vec<String>),
}

/// One execution of a [`CopyQuery`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyRows<'p> {
    /// How the query's rows are had.
    pub query: Execution<'p>,
    /// The query's text.
    pub sql: Vec<u8>,
    /// Of the query's text.
    pub pieces: Vec<Piece>,
    /// The COPY without its rows: a server that runs it checks the options, and answers with what comes
    /// before the first row.
    pub head: Vec<u8>,
    pub written: &'p Written,
}

impl CopyQuery {
    /// # Errors
    /// As [`crate::route()`] of the query.
    pub(crate) fn route<'p>(
        &'p self,
        shards: ShardSet,
        values: Values<'_>,
        topology: &Topology,
    ) -> Result<Route<'p>, Refusal> {
        let text = |range: Range<usize>| values.sql.get(range).unwrap_or_default();
        let sql = text(self.query.clone()).to_vec();
        let mut shape = Shape::default();
        shape.scan(&sql);
        let inner = Values {
            sql: &sql,
            pieces: &shape.pieces,
            params: values.params,
        };
        let Route { shards, execution } = route::several(shards, &self.many, inner, topology)?;
        // A comment may end the query.
        let head = [
            text(0..self.query.start),
            b"SELECT * FROM (",
            &sql,
            b"\n) AS ringway LIMIT 0",
            text(self.query.end..values.sql.len()),
        ]
        .concat();
        let copy = CopyRows {
            query: execution,
            sql,
            pieces: shape.pieces,
            head,
            written: &self.written,
        };
        Ok(Route {
            shards,
            execution: Execution::CopyRows(Box::new(copy)),
        })
    }
}
