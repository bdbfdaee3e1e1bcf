//! COPY on several shards: how its data is cut into rows, and where the key is in them.

use crate::limit::KeyPart;
use crate::place;
use crate::placement::Placement;
use crate::refusal::Refusal;
use crate::route::{Param, Values};
use crate::topology::{ShardId, Topology};

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
