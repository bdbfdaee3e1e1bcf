//! Which shard has a cursor: FETCH, MOVE and CLOSE say its name alone, and a transaction may be on several.

use planner::ShardId;
use planner::plan::{Pin, SessionEffect, Statement};
use planner::route::Shards;
use planner::{Plan, Route};

use super::Session;
use crate::error::Error;

/// One that a statement was to declare; it may be gone already.
pub(super) struct Cursor {
    name: String,
    shard: ShardId,
    /// It outlives its transaction.
    held: bool,
}

impl Session {
    /// Where a statement runs that may declare a cursor or name one.
    ///
    /// # Errors
    /// 0A000 where two shards would have cursors of one name, and for CLOSE ALL on several shards.
    pub(super) fn follow_cursors<'p>(
        &mut self,
        plan: &Plan,
        sql: &[u8],
        route: Route<'p>,
    ) -> Result<Route<'p>, Error> {
        if plan.statement != Statement::Other || !self.db.config.is_sharded() {
            return Ok(route);
        }
        let Some((verb, name)) = cursor(sql) else {
            return Ok(route);
        };
        if verb == Verb::Declare {
            let shard = self.pick_shard(&route.shards);
            let held = matches!(plan.effect, SessionEffect::Pin(Pin::HeldCursor));
            self.cursors
                .retain(|old| old.name != name || old.shard != shard);
            if self.cursors.iter().any(|old| old.name == name) {
                return Err(twice(&name));
            }
            self.cursors.push(Cursor { name, shard, held });
            return Ok(route);
        }
        let shard = self.shard_of_cursor(sql)?;
        if verb == Verb::Close {
            self.cursors.retain(|old| name != ALL && old.name != name);
        }
        Ok(match shard {
            Some(shard) => Route {
                shards: Shards::Exactly(planner::ShardSet::one(shard)),
                ..route
            },
            None => route,
        })
    }

    /// The shard of the cursor that a FETCH, MOVE or CLOSE names, as far as it is known.
    ///
    /// # Errors
    /// 0A000 for CLOSE ALL where several shards have some.
    pub(super) fn shard_of_cursor(&self, sql: &[u8]) -> Result<Option<ShardId>, Error> {
        if self.cursors.is_empty() {
            return Ok(None);
        }
        let Some((verb @ (Verb::Fetch | Verb::Close), name)) = cursor(sql) else {
            return Ok(None);
        };
        let all = verb == Verb::Close && name == ALL;
        let mut named = self.cursors.iter().filter(|one| all || one.name == name);
        let first = named.next().map(|one| one.shard);
        match named.any(|other| Some(other.shard) != first) {
            true => Err(several()),
            false => Ok(first),
        }
    }

    /// At the end of a transaction.
    pub(super) fn forget_cursors(&mut self) {
        if !self.cursors.is_empty() {
            let kept = self.leases.iter().any(super::Enlisted::keeps_state);
            self.cursors.retain(|cursor| kept && cursor.held);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Declare,
    /// Or MOVE.
    Fetch,
    Close,
}

/// As a word without quotes, of CLOSE.
const ALL: &str = "all";

/// What a statement does to the cursor of this name.
fn cursor(sql: &[u8]) -> Option<(Verb, String)> {
    let text = std::str::from_utf8(sql).ok()?;
    let first = *planner::leading_words(text, 1).first()?;
    let is = |verb: &str| first.eq_ignore_ascii_case(verb);
    if is("declare") {
        let name = planner::leading_words(text, 2).pop()?;
        return Some((Verb::Declare, folded(name)));
    }
    let verb = match () {
        () if is("fetch") || is("move") => Verb::Fetch,
        () if is("close") => Verb::Close,
        () => return None,
    };
    let mut words = planner::leading_words(text, usize::MAX);
    words.retain(|word| *word != ";");
    Some((verb, folded(words.pop()?)))
}

fn folded(word: &str) -> String {
    match word
        .strip_prefix('"')
        .and_then(|word| word.strip_suffix('"'))
    {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => word.to_ascii_lowercase(),
    }
}

fn twice(name: &str) -> Error {
    planner::Refusal::unsupported(
        format!("cursor \"{name}\" on a second shard in one transaction"),
        "A cursor lives on the shard of its query, and FETCH could not tell which one is meant.",
        "Give it another name, or CLOSE the first one before.",
    )
    .into()
}

fn several() -> Error {
    planner::Refusal::unsupported(
        "CLOSE ALL of cursors on several shards",
        "It would run on one shard.",
        "CLOSE each by its name.",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_cursor_of_a_statement() {
        for (sql, wanted) in [
            ("DECLARE c CURSOR FOR SELECT 1", Some((Verb::Declare, "c"))),
            (
                "declare \"C\"\"d\" CURSOR FOR SELECT 1",
                Some((Verb::Declare, "C\"d")),
            ),
            ("/* x */ FETCH C;", Some((Verb::Fetch, "c"))),
            (
                "FETCH FORWARD 5 FROM \"C\"\"d\" -- x",
                Some((Verb::Fetch, "C\"d")),
            ),
            ("MOVE ALL IN c", Some((Verb::Fetch, "c"))),
            ("CLOSE c", Some((Verb::Close, "c"))),
            ("close All", Some((Verb::Close, ALL))),
            ("SELECT c", None),
            ("", None),
        ] {
            let wanted = wanted.map(|(verb, name)| (verb, name.to_owned()));
            assert_eq!(cursor(sql.as_bytes()), wanted, "{sql}");
        }
    }
}
