//! An INSERT whose rows belong to several shards: each shard gets the client's text with its own
//! rows only.

use std::ops::Range;

use crate::lexer::{self, Kind};
use crate::refusal::Refusal;
use crate::route::Values;
use crate::topology::ShardId;

/// Where the rows of VALUES stand. Places are bytes of the text that was planned, in which every
/// lifted piece counts as one (as in [`crate::route::TextPiece::Original`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Each row with its parentheses, in the order of the keys that tell its shard.
    pub(crate) rows: Vec<Range<usize>>,
    /// It has RETURNING.
    pub returns: bool,
    /// A row by itself may mean something else than among others, so a server has to say what it
    /// thinks of the whole text before a part of it runs.
    pub check_whole: bool,
}

/// One shard's part of an INSERT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub shard: ShardId,
    pub sql: Vec<u8>,
    /// Which rows of the whole it holds, from 0, ascending.
    pub rows: Vec<usize>,
    /// Parameters of the whole, from 0, that this part does not mention.
    pub absent: Vec<usize>,
}

/// The refusal of a plan that splits rows and knows no key of theirs; none is made so.
pub(crate) fn no_keys() -> Refusal {
    Refusal::unsupported(
        "INSERT of rows whose sharding keys are not known",
        "Nothing tells which shard each row belongs to.",
        "Give the sharding key as a constant or a parameter in each row of VALUES.",
    )
}

/// The parts, in the order of the shards. `owners` are the shards of the rows; `None`: every shard
/// rejects the row alike.
pub(crate) fn parts(split: &Split, values: Values<'_>, owners: &[Option<ShardId>]) -> Vec<Part> {
    let mut shards: Vec<ShardId> = owners.iter().copied().flatten().collect();
    shards.sort_unstable();
    shards.dedup();
    let places = at_hand(&split.rows, values);
    let head = places.first().map_or(0, |place| place.start);
    let tail = places.last().map_or(values.sql.len(), |place| place.end);
    let text = |range: Range<usize>| values.sql.get(range).unwrap_or_default();
    let mentioned = params_of(values.sql);
    let part = |(at, shard): (usize, ShardId)| {
        let is_its = |owner: Option<ShardId>| owner.map_or(at == 0, |owner| owner == shard);
        let its: Vec<usize> = owners
            .iter()
            .enumerate()
            .filter_map(|(row, owner)| is_its(*owner).then_some(row))
            .collect();
        let mut sql = text(0..head).to_vec();
        for (at, row) in its.iter().enumerate() {
            sql.extend_from_slice(if at > 0 { b", " } else { b"" });
            sql.extend_from_slice(text(places[*row].clone()));
        }
        sql.extend_from_slice(text(tail..values.sql.len()));
        let here = params_of(&sql);
        let absent = mentioned
            .iter()
            .filter(|param| here.binary_search(param).is_err());
        Part {
            shard,
            absent: absent.copied().collect(),
            sql,
            rows: its,
        }
    };
    shards.into_iter().enumerate().map(part).collect()
}

/// Maps ascending places that count lifted pieces as one byte to those in the text at hand.
fn at_hand(rows: &[Range<usize>], values: Values<'_>) -> Vec<Range<usize>> {
    let mut pieces = values.pieces.iter().peekable();
    let mut grown = 0;
    let mut map = |offset: usize| {
        while let Some(piece) = pieces.next_if(|piece| piece.range.start - grown < offset) {
            grown += piece.range.len() - 1;
        }
        offset + grown
    };
    rows.iter()
        .map(|row| {
            let start = map(row.start);
            start..map(row.end)
        })
        .collect()
}

/// The parameters that a text mentions, from 0, ascending.
fn params_of(sql: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    if !sql.contains(&b'$') {
        return found;
    }
    let mut at = 0;
    while at < sql.len() {
        let (kind, end) = lexer::next(sql, at);
        if kind == Kind::Param {
            let token = std::str::from_utf8(&sql[at..end]).ok();
            found.extend(token.and_then(lexer::param_index));
        }
        at = end;
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;

    #[test]
    fn a_parameter_that_no_bind_can_give_is_none() {
        let sql = b"SELECT $65535, $65536, $2, $0, $99999999999, $99999999999999999999, '$3', $2";
        assert_eq!(params_of(sql), [1, 65_534]);
    }

    #[test]
    fn each_shard_gets_its_rows() {
        let sql = "INSERT INTO t /* a ( */ VALUES (1, 'x)', $1), (22, E'\\'', $2) , (333, $3, $1) \
                   ON CONFLICT DO NOTHING RETURNING $4";
        let mut shape = Shape::default();
        shape.scan(sql.as_bytes());
        let key = String::from_utf8_lossy(&shape.key).into_owned();
        let starts: Vec<_> = key.match_indices('(').map(|(at, _)| at).collect();
        let ends: Vec<_> = key.match_indices(')').map(|(at, _)| at + 1).collect();
        let split = Split {
            rows: starts.iter().zip(&ends).map(|(a, b)| *a..*b).collect(),
            returns: true,
            check_whole: false,
        };
        let values = Values {
            sql: sql.as_bytes(),
            pieces: &shape.pieces,
            params: &[],
        };
        let owners = [Some(ShardId(1)), None, Some(ShardId(0))];
        let parts = parts(&split, values, &owners);
        let texts: Vec<_> = parts
            .iter()
            .map(|part| String::from_utf8_lossy(&part.sql).into_owned())
            .collect();
        assert_eq!(
            texts,
            [
                "INSERT INTO t /* a ( */ VALUES (22, E'\\'', $2), (333, $3, $1) \
                 ON CONFLICT DO NOTHING RETURNING $4",
                "INSERT INTO t /* a ( */ VALUES (1, 'x)', $1) \
                 ON CONFLICT DO NOTHING RETURNING $4",
            ]
        );
        assert_eq!(parts[0].rows, [1, 2]);
        assert_eq!(parts[0].absent, [] as [usize; 0]);
        assert_eq!(parts[1].absent, [1, 2]);
    }
}
