//! An INSERT from a query, or a MERGE of a source, whose rows may belong to other shards than those that
//! make them.
//!
//! The query runs as any read does. Its rows are gathered, and each is inserted or merged where it belongs, in
//! one statement for each shard: the client's own, over the gathered rows in place of the query.

use std::ops::Range;

use crate::catalog::KeyType;
use crate::limit::KeySet;
use crate::place;
use crate::plan::{Plan, Target};
use crate::refusal::Refusal;
use crate::route::{self, Execution, Param, Route, Shards, Values};
use crate::shape::Piece;
use crate::split;
use crate::topology::{ShardId, ShardSet, Topology};

/// Described only; `ringway::executor::insertion` runs it. Places are bytes of the text that was planned,
/// in which every lifted piece counts as one (as in [`crate::route::TextPiece::Original`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insertion {
    /// The query, planned by itself.
    pub(crate) plan: Plan,
    /// Where it stands; of a MERGE, its source, of which `SELECT * FROM` reads all.
    pub(crate) query: Range<usize>,
    pub(crate) items: Vec<Item>,
    pub destination: Destination,
    pub(crate) drawn: Option<Drawn>,
    /// `None` of an INSERT.
    pub merging: Option<Merging>,
}

/// A column with an id for default: it gets one for each row of a query that leaves it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drawn {
    /// In quotes, as all names here.
    pub(crate) column: String,
    /// Its place among the columns that are inserted: a query of more columns gives it a value.
    pub(crate) position: usize,
    pub(crate) list: ColumnList,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ColumnList {
    /// The INSERT has one, which closes here.
    Written(usize),
    /// It has none: the columns of the table before the one with an id.
    Lacking(Vec<String>),
}

/// What is told of a MERGE besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merging {
    /// The name of its source.
    pub alias: String,
    /// The tables that may be read for it, each as a name with its schema.
    pub reads: Vec<String>,
    /// Rows of the target that no row of the source matches count too: every shard runs it, if of no rows.
    pub everywhere: bool,
    /// The plan's keys are those of the rows of its source.
    pub(crate) has_keys: bool,
}

/// Why texts of a source cannot be compared elsewhere.
pub const COLLATED: &str =
    "Its texts have collations of their own, which they would lose on their way.";

/// What reads all rows of a source that stands behind it.
pub(crate) const READ_SOURCE: &str = "SELECT * FROM ";

/// What the query returns: a column of it, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Column,
    /// `*`, or `table.*`.
    Star,
    /// A string, NULL or a parameter, whose type is that of the column it is inserted into: it is written
    /// into the text again.
    Given(Range<usize>),
}

/// Where rows are inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Each on the shard of its key.
    Owners(Owners),
    /// All on every shard: the table is a reference table.
    Everywhere,
    One(ShardId),
}

/// How the key of a row tells its shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owners {
    /// A row to insert, its key's columns being the parameters.
    pub(crate) key: KeySet,
    /// The columns of the key, in its order.
    pub columns: Vec<OwnerColumn>,
    /// PostgreSQL itself rejects a row whose key is NULL, if it is inserted at all.
    pub(crate) rejects_null: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerColumn {
    /// `table.column`, for messages.
    pub name: String,
    /// That of a [`Drawing`] where an id is its value.
    pub place: Place,
    pub key_type: KeyType,
}

/// Which column of what the query returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// From 0.
    At(usize),
    Named(String),
}

/// One execution of an [`Insertion`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inserting<'p> {
    pub insertion: &'p Insertion,
    /// Where the query runs, and how.
    pub query: Box<Route<'p>>,
    /// Its text, and what of it is lifted.
    pub sql: Vec<u8>,
    pub pieces: Vec<Piece>,
    /// The client's text before and behind the query.
    pub head: Vec<u8>,
    pub tail: Vec<u8>,
    pub items: Vec<Written>,
    pub drawing: Option<Drawing>,
}

/// A [`Drawn`] of one execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawing {
    column: String,
    pub position: usize,
    /// The client's text up to the end of its column list, and from there to the query.
    before: Vec<u8>,
    behind: Vec<u8>,
    /// For a text without a list.
    names: Option<Vec<String>>,
}

/// An [`Item`] of one execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    Column,
    Star,
    /// As the text has it.
    Given(Vec<u8>),
}

impl OwnerColumn {
    /// Does the column keep values of this type as they are, so that they tell the shard?
    pub fn takes(&self, type_oid: u32) -> bool {
        KeyType::of_oid(type_oid).is_some_and(|other| {
            other == self.key_type || other.is_integer() && self.key_type.is_integer()
        })
    }
}

impl Owners {
    /// The shard of a row with this key, by column; `None`: every shard rejects it alike.
    ///
    /// # Errors
    /// 23502 for NULL, 23514 for a key that no shard takes, 0A000 for one that does not tell.
    pub fn owner(
        &self,
        key: &[Param<'_>],
        topology: &Topology,
    ) -> Result<Option<ShardId>, Refusal> {
        if self.rejects_null && key.iter().any(|part| part.value.is_none()) {
            return Ok(None);
        }
        let values = Values {
            params: key,
            ..Values::default()
        };
        let owners = place::shards_of_rows(&self.key, values, topology)?;
        owners.first().copied().ok_or_else(split::no_keys)
    }
}

impl Drawing {
    /// In quotes.
    pub fn column(&self) -> &str {
        &self.column
    }

    /// The text before a query of `count` columns that are followed by an id; `None` when the query has a
    /// value for its column.
    pub fn head(&self, count: usize) -> Option<Vec<u8>> {
        if count > self.position {
            return None;
        }
        let column = &self.column;
        let added = match &self.names {
            None => format!(", {column}"),
            Some(names) => {
                let names = names.iter().take(count).chain([column]);
                let names: Vec<&str> = names.map(String::as_str).collect();
                format!(" ({})", names.join(", "))
            }
        };
        Some([&self.before, added.as_bytes(), &self.behind].concat())
    }
}

impl Insertion {
    /// Is no value of a key given to the query, which reads all shards?
    pub fn lacks_keys(&self) -> bool {
        matches!(self.plan.target, Target::AllShards(_))
    }

    /// Is it a MERGE whose source is written out, so that each of its rows has a key?
    pub fn has_keys_by_row(&self) -> bool {
        let merging = self.merging.as_ref();
        merging.is_some_and(|merging| merging.has_keys)
    }

    /// The shard that has the table, where it is one alone.
    pub fn only_shard(&self) -> Option<ShardId> {
        match self.destination {
            Destination::One(shard) => Some(shard),
            Destination::Owners(_) | Destination::Everywhere => None,
        }
    }

    /// `shards` are those of the plan's keys.
    pub(crate) fn route<'p>(
        &'p self,
        shards: ShardSet,
        values: Values<'_>,
        topology: &Topology,
    ) -> Result<Route<'p>, Refusal> {
        let at = |range: &Range<usize>| {
            route::at_hand(range.start, values)..route::at_hand(range.end, values)
        };
        let text = |range: Range<usize>| values.sql.get(range).unwrap_or_default().to_vec();
        let place = at(&self.query);
        let before = match self.merging {
            Some(_) => READ_SOURCE,
            None => "",
        };
        let mut sql = before.as_bytes().to_vec();
        sql.extend(text(place.clone()));
        let moved = |at: usize| at - place.start + before.len();
        let inside =
            |piece: &&Piece| place.start <= piece.range.start && piece.range.end <= place.end;
        let pieces: Vec<Piece> = values
            .pieces
            .iter()
            .filter(inside)
            .map(|piece| Piece {
                range: moved(piece.range.start)..moved(piece.range.end),
                ..piece.clone()
            })
            .collect();
        let own = Values {
            sql: &sql,
            pieces: &pieces,
            params: values.params,
        };
        let query = route::route(&self.plan, own, topology)?;
        let mut shards = match &self.destination {
            Destination::One(shard) => ShardSet::one(*shard),
            Destination::Owners(_) if self.has_keys_by_row() => shards,
            Destination::Owners(_) | Destination::Everywhere => {
                ShardSet::all(topology.shard_count())
            }
        };
        if let Shards::Exactly(read) = &query.shards {
            shards.extend(read);
        }
        if shards.len() == 1 && self.drawn.is_none() {
            return Ok(Route::direct(Shards::Exactly(shards)));
        }
        let items = self.items.iter().map(|item| match item {
            Item::Column => Written::Column,
            Item::Star => Written::Star,
            Item::Given(range) => Written::Given(text(at(range))),
        });
        let items = items.collect();
        let drawing = self.drawn.as_ref().map(|drawn| {
            let (end, names) = match &drawn.list {
                ColumnList::Written(end) => (route::at_hand(*end, values), None),
                ColumnList::Lacking(names) => (place.start, Some(names.clone())),
            };
            Drawing {
                column: drawn.column.clone(),
                position: drawn.position,
                before: text(0..end),
                behind: text(end..place.start),
                names,
            }
        });
        Ok(Route {
            shards: Shards::Exactly(shards),
            execution: Execution::Insert(Box::new(Inserting {
                insertion: self,
                query: Box::new(query),
                head: text(0..place.start),
                tail: text(place.end..values.sql.len()),
                sql,
                pieces,
                items,
                drawing,
            })),
        })
    }
}
