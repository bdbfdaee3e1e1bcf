//! COPY on several shards: how its data is cut into rows, and where the key is in them.

use crate::limit::KeyPart;
use crate::place;
use crate::placement::Placement;
use crate::refusal::Refusal;
use crate::route::{Param, ValueRef, Values};
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
    /// The shard that owns the key in column `position`, from 0, of the data.
    ByKey {
        position: usize,
        /// How many columns the data must have for that.
        columns: usize,
        key: Key,
        format: Format,
    },
}

/// What the data's rows are divided by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub column: KeyPart,
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

/// The shard of a row; `None`: every shard rejects its key alike. `value` is the key as the data has
/// it, `None` for NULL.
///
/// # Errors
/// What PostgreSQL would say of the value; that it does not tell the shard; 23514 when no shard takes it.
pub fn owner(
    key: &Key,
    value: Option<&[u8]>,
    binary: bool,
    topology: &Topology,
) -> Result<Option<ShardId>, Refusal> {
    let param = Param {
        value,
        binary,
        type_oid: 0,
    };
    let values = Values {
        sql: b"",
        pieces: &[],
        params: &[param],
    };
    place::shard_of_row(
        &ValueRef::Param(0),
        &key.column,
        key.placement,
        values,
        topology,
    )
}
