//! An UPDATE that sets the sharding key: rows whose new key is another shard's move there.
//!
//! The client's text runs where the rows are, so that PostgreSQL itself assigns, checks and returns what
//! it says. It returns besides where each row lies and its new key. What has to leave is deleted there
//! and inserted on its shard in the same transaction.

use crate::limit::KeySet;
use crate::place;
use crate::refusal::Refusal;
use crate::route::{self, Execution, Param, Route, Shards, TextPiece, Values};
use crate::split;
use crate::topology::{ShardId, ShardSet, Topology};

/// Columns behind the client's own, before those of the key: the table's OID and the row's ctid.
pub const PLACE: usize = 2;

/// Described only; `ringway::executor::moves` runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The keys of the rows as they are; `None`: they may be on any shard.
    pub(crate) from: Option<KeySet>,
    /// The keys that they get, where the text tells.
    pub(crate) to: Option<KeySet>,
    /// Why no row may move; they may be updated where they stay.
    pub(crate) refusal: Option<Refusal>,
    /// The client's text, which returns [`Move::hidden`] columns more: all of type text, those of the
    /// key in hexadecimal digits of their binary format.
    pub(crate) update: Vec<TextPiece>,
    /// The client asked for rows.
    pub returns: bool,
    /// Quoted, with its schema.
    pub table: String,
    /// Quoted: the columns that a row is made of; generated ones are not.
    pub columns: Vec<String>,
    /// A row to insert, its key's columns being the parameters.
    pub(crate) key: KeySet,
    /// How many these are.
    pub(crate) key_columns: usize,
}

impl Move {
    /// Columns that the text for the shards returns behind the client's.
    pub fn hidden(&self) -> usize {
        PLACE + self.key_columns
    }

    /// Is it told which rows it concerns, by their keys?
    pub fn has_keys(&self) -> bool {
        self.from.is_some()
    }

    /// Without the parameters it is not known which rows it concerns?
    pub(crate) fn depends_on_parameter(&self) -> bool {
        let depends = |keys: &Option<KeySet>| keys.as_ref().is_some_and(|k| k.any_param(|_| true));
        depends(&self.from) || depends(&self.to)
    }

    /// The shard of a row with this key, by column in PostgreSQL's binary format.
    ///
    /// # Errors
    /// 23502 for NULL, 23514 for a key that no shard takes.
    pub fn owner(&self, key: &[Option<Vec<u8>>], topology: &Topology) -> Result<ShardId, Refusal> {
        let params: Vec<Param<'_>> = key
            .iter()
            .map(|value| Param {
                value: value.as_deref(),
                binary: true,
                type_oid: 0,
            })
            .collect();
        let values = Values {
            params: &params,
            ..Values::default()
        };
        let owners = place::shards_of_rows(&self.key, values, topology)?;
        owners.first().copied().flatten().ok_or_else(split::no_keys)
    }

    /// Nothing has to move where old and new keys are of one shard.
    pub(crate) fn route<'p>(
        &'p self,
        values: Values<'_>,
        topology: &Topology,
    ) -> Result<Route<'p>, Refusal> {
        let all = || ShardSet::all(topology.shard_count());
        let of = |keys: &Option<KeySet>| match keys {
            Some(keys) => place::shards_of(keys, values, topology),
            None => Ok(None),
        };
        let from = of(&self.from)?.unwrap_or_else(all);
        // Servers may read it differently from here, and there may be no row for it: they will tell.
        let to = of(&self.to).ok().flatten().unwrap_or_else(all);
        if from.is_empty() {
            return Ok(Route::direct(Shards::Any));
        }
        let mut shards = from.clone();
        shards.extend(&to);
        if shards.len() == 1 {
            return Ok(Route::direct(Shards::Exactly(shards)));
        }
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        Ok(Route {
            shards: Shards::Exactly(shards),
            execution: Execution::Move {
                moving: self,
                from,
                sql: route::rewritten(&self.update, 0, values),
            },
        })
    }
}
