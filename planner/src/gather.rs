//! A query that one server answers over rows which other shards hold.
//!
//! The rows of a table reference travel as one array of the table's row type, so that their columns
//! keep names, types, type modifiers and collations. The client's own text runs over them.

use crate::route::{self, TextPiece, Values};
use crate::topology::{ShardId, ShardSet};

/// Described only; `ringway::executor::gather` runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gather {
    pub sources: Vec<Source>,
    /// The client's text, over the gathered rows.
    pub finish: Vec<TextPiece>,
    /// The shard that has all else that the text reads; `None` when every shard has it.
    pub at: Option<ShardId>,
    /// How many parameters the text mentions: the highest number.
    pub params: usize,
}

/// The rows of a table reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// The row type, quoted and with its schema.
    pub row_type: String,
    /// One row as a value of `row_type`; what the text does not mention is NULL.
    pub row: String,
    /// FROM and WHERE.
    pub from: Vec<TextPiece>,
    /// The shard of a table that is on one shard; `None`: every shard has some of the rows.
    pub on: Option<ShardId>,
}

/// One execution of a [`Gather`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathering {
    pub asks: Vec<Ask>,
    pub finish: Vec<u8>,
    /// Where `finish` runs; `None` leaves it to the session.
    pub at: Option<ShardId>,
    /// How many arrays of rows `finish` takes, as the parameters behind the client's.
    pub sources: usize,
    /// Some are of a table that is on one shard, of which no other need know.
    pub has_single: bool,
}

/// What one shard is asked for: all its rows by one statement, so that they are of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub shard: ShardId,
    pub sql: Vec<u8>,
    /// Which source each column is of. In each row one column is not NULL.
    pub columns: Vec<usize>,
}

impl Gather {
    /// What each of `shards` is asked, and the text that runs over the answers.
    pub(crate) fn execution(&self, shards: ShardSet, values: Values<'_>) -> (ShardSet, Gathering) {
        let spread = self.sources.iter().any(|source| source.on.is_none());
        let mut concerned = if spread { shards } else { ShardSet::default() };
        let fixed = self.sources.iter().filter_map(|source| source.on);
        fixed
            .chain(self.at)
            .for_each(|shard| concerned.insert(shard));
        let asks = concerned.as_slice().iter();
        let asks = asks.filter_map(|shard| self.ask(*shard, values)).collect();
        let given = values.params.len().max(self.params);
        let gathering = Gathering {
            asks,
            finish: route::rewritten(&self.finish, given, values),
            at: self.at,
            sources: self.sources.len(),
            has_single: self.sources.iter().any(|source| source.on.is_some()),
        };
        (concerned, gathering)
    }

    /// The text that runs over the gathered rows, with NULL in place of them.
    pub(crate) fn finish_without_rows(&self, values: Values<'_>) -> Vec<u8> {
        let pieces = self.finish.iter().map(|piece| match piece {
            TextPiece::Rows(_) => TextPiece::Added("NULL".to_owned()),
            TextPiece::Original(_) | TextPiece::Added(_) => piece.clone(),
        });
        route::rewritten(&pieces.collect::<Vec<_>>(), 0, values)
    }

    fn ask(&self, shard: ShardId, values: Values<'_>) -> Option<Ask> {
        let here = |source: &&Source| source.on.is_none_or(|on| on == shard);
        let all = self.sources.iter().enumerate();
        let (columns, sources): (Vec<usize>, Vec<&Source>) =
            all.filter(|(_, source)| here(source)).unzip();
        let mut sql = Vec::new();
        for (at, source) in sources.iter().enumerate() {
            let joint = if at == 0 {
                "SELECT "
            } else {
                " UNION ALL SELECT "
            };
            sql.extend_from_slice(joint.as_bytes());
            let column = |(other, of): (usize, &&Source)| match other == at {
                true => source.row.clone(),
                false => format!("NULL::{}", of.row_type),
            };
            let columns: Vec<String> = sources.iter().enumerate().map(column).collect();
            sql.extend_from_slice(columns.join(", ").as_bytes());
            sql.extend_from_slice(&route::rewritten(&source.from, 0, values));
        }
        (!columns.is_empty()).then_some(Ask {
            shard,
            sql,
            columns,
        })
    }
}
