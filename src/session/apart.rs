//! What cannot be in a transaction (CREATE INDEX CONCURRENTLY, VACUUM): it runs on one shard after the other, and
//! where it fails somebody has to clear up.

use crate::error::Error;
use crate::executor::broadcast::{Answer, Job, Requests};
use crate::executor::participants::Participants;
use crate::wire::conn::Conn;
use crate::wire::frontend::{self, Parse};
use crate::wire::{frame, write};

/// What is looked at of a text: up to the table of an index.
const WORDS: usize = 16;

/// It may take long: the client hears of each shard that is done.
///
/// # Errors
/// That of the first shard on which it fails: the detail tells what stands where, the hint what to do.
pub(super) async fn shard_by_shard(
    participants: &mut Participants<'_, '_>,
    job: &Job,
    names: &[String],
    client: &mut Conn,
) -> Result<Vec<Answer>, Error> {
    let mut answers = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let answer = participants.run_apart(at, &job.requests).await;
        let answer = answer.map_err(|error| match advice(text_of(&job.requests), &error.code) {
            Some(advice) => error.hint(advice),
            None => error,
        })?;
        let message = format!(
            "{} is done on shard \"{name}\", {} of {}",
            answer.tag,
            at + 1,
            names.len()
        );
        write::notice(&mut client.outbox, "NOTICE", "00000", &message, "");
        // A client that is gone does not keep the rest from being done.
        let _ = client.drain().await;
        answers.push(answer);
    }
    Ok(answers)
}

/// The client's text.
fn text_of(requests: &Requests) -> &str {
    let sql = match frame::whole(requests.of(0)) {
        Ok(Some((header, body))) if header.tag == b'Q' => frontend::query(body).ok(),
        Ok(Some((_, body))) => Parse::read(body).ok().map(|parse| parse.sql),
        Ok(None) | Err(_) => None,
    };
    sql.and_then(|sql| std::str::from_utf8(sql).ok())
        .unwrap_or_default()
}

/// What to do about a statement that failed on one of the shards with this SQLSTATE, if more can be said than that
/// it took effect on those before.
fn advice(sql: &str, code: &str) -> Option<String> {
    const TAKEN: &str = "42P07";
    let words = planner::leading_words(sql, WORDS);
    let is = |at: usize, word: &str| {
        let found = words.get(at);
        found.is_some_and(|found| found.eq_ignore_ascii_case(word))
    };
    let has = |word: &str| (0..words.len()).any(|at| is(at, word));
    let index = usize::from(is(1, "unique")) + 1;
    if is(0, "create") && is(index, "index") {
        let Some(name) = name_of_index(&words[index + 1..]) else {
            return Some(
                "Where it failed an index may be left that is invalid, and those before have a valid one. Drop \
                 them, and repeat the statement with a name for the index."
                    .into(),
            );
        };
        let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {name};");
        return Some(match code {
            TAKEN => format!(
                "If it is left from an earlier try, drop it on all shards, and repeat the statement: {drop}"
            ),
            _ => format!(
                "Where it failed the index may be left, invalid, and those before have a valid one. Drop it on \
                 all shards, and repeat the statement: {drop}"
            ),
        });
    }
    let advice = if is(0, "drop") && is(1, "index") {
        "Repeat it with IF EXISTS: what is gone already is passed over."
    } else if is(0, "reindex") && has("concurrently") {
        "Where it failed drop the invalid indexes that it has left, whose names end in _ccnew. It may be repeated \
         on all shards."
    } else if is(0, "vacuum") || is(0, "cluster") || is(0, "reindex") {
        "It may be repeated on all shards."
    } else if is(0, "alter") && is(1, "table") && has("detach") {
        "Where it failed finish it with DETACH PARTITION … FINALIZE, and repeat it where it was not tried, each \
         with a hint that names the shard."
    } else {
        return None;
    };
    Some(advice.into())
}

/// The name of an index with the schema of its table, from the words behind INDEX.
fn name_of_index(words: &[&str]) -> Option<String> {
    let is = |at: usize, word: &str| {
        let found: Option<&&str> = words.get(at);
        found.is_some_and(|found| found.eq_ignore_ascii_case(word))
    };
    let mut at = usize::from(is(0, "concurrently"));
    at += if is(at, "if") { 3 } else { 0 };
    if is(at, "on") || !is(at + 1, "on") {
        return None;
    }
    let name = words.get(at)?;
    let table = at + 2 + usize::from(is(at + 2, "only"));
    Some(match is(table + 1, ".") {
        true => format!("{}.{name}", words.get(table)?),
        false => (*name).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_dropped_by_the_name_that_it_has() {
        for (sql, dropped) in [
            ("CREATE INDEX CONCURRENTLY i ON t (n)", Some("i")),
            (
                "create unique index concurrently \"I j\" on only t (n)",
                Some("\"I j\""),
            ),
            (
                "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON \"S\".t (n)",
                Some("\"S\".i"),
            ),
            (
                "/* x */ CREATE INDEX CONCURRENTLY i ON s . t USING hash (n)",
                Some("s.i"),
            ),
            ("CREATE INDEX CONCURRENTLY ON t (n)", None),
        ] {
            let advice = advice(sql, "23505").unwrap();
            let end =
                dropped.map(|name| format!("statement: DROP INDEX CONCURRENTLY IF EXISTS {name};"));
            let end = end.unwrap_or_else(|| "with a name for the index.".to_owned());
            assert!(advice.ends_with(&end), "{sql}: {advice}");
        }
    }

    #[test]
    fn no_more_is_said_than_is_known() {
        for (sql, told) in [
            ("DROP INDEX CONCURRENTLY i", true),
            ("REINDEX TABLE CONCURRENTLY t", true),
            ("VACUUM t", true),
            ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY", true),
            ("CREATE DATABASE d", false),
            ("", false),
        ] {
            assert_eq!(advice(sql, "57014").is_some(), told, "{sql}");
        }
    }
}
