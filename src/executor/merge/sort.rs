//! ORDER BY: the keys of a row and their order.

use std::cmp::Ordering;

use bytes::Bytes;
use planner::merge::SortKey;

use super::Columns;
use super::row::{self, Field};
use super::value::{self, Decoder, Key};
use crate::error::Result;

/// The compiled ORDER BY of a plan.
#[derive(Debug, Default)]
pub(super) struct Order {
    keys: Vec<OrderKey>,
}

#[derive(Debug)]
struct OrderKey {
    column: usize,
    decoder: Decoder,
    descending: bool,
    nulls_first: bool,
}

/// What decides a row's place, in the order of the plan's keys.
pub(super) type RowKeys = Box<[Option<Key>]>;

/// A row and its sort keys.
#[derive(Debug)]
pub(super) struct SortRow {
    pub keys: RowKeys,
    pub body: Bytes,
}

impl SortRow {
    /// Bytes that it holds, estimated.
    pub fn size(&self) -> usize {
        let keys: usize = self.keys.iter().flatten().map(Key::heap_size).sum();
        size_of::<Self>() + size_of_val(&*self.keys) + keys + self.body.len()
    }
}

impl Order {
    /// # Errors
    /// 0A000 when a column's order is not known here.
    pub fn new(keys: &[SortKey], columns: &Columns) -> Result<Self> {
        let compile = |key: &SortKey| {
            let column = columns.index(key.column)?;
            Ok(OrderKey {
                column,
                decoder: Decoder::for_order(columns.info(column), key.collation)?,
                descending: key.descending,
                nulls_first: key.nulls_first,
            })
        };
        Ok(Self {
            keys: keys.iter().map(compile).collect::<Result<_>>()?,
        })
    }

    /// # Errors
    /// Those of [`Decoder::key`].
    pub fn row(&self, body: Bytes, fields: &[Field]) -> Result<SortRow> {
        let keys = self
            .keys
            .iter()
            .map(|key| {
                key.decoder
                    .nullable_key(row::value(&body, &fields[key.column]))
            })
            .collect::<Result<_>>()?;
        Ok(SortRow { keys, body })
    }

    pub fn compare(&self, left: &RowKeys, right: &RowKeys) -> Ordering {
        self.keys
            .iter()
            .zip(left.iter().zip(right))
            .map(|(key, (left, right))| {
                value::compare(
                    left.as_ref(),
                    right.as_ref(),
                    key.descending,
                    key.nulls_first,
                )
            })
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}
