//! Statements from PostgreSQL's logs (stderr, csvlog, jsonlog, with log_statement or
//! log_min_duration_statement) and from pg_stat_statements as CSV.
//! <https://www.postgresql.org/docs/current/runtime-config-logging.html>

use std::io::{self, BufRead};

use super::csv;

/// A statement as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub sql: String,
    pub params: Params,
    /// How often it ran.
    pub calls: u64,
}

/// The values of `$1` and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Params {
    /// In text; `None` is NULL. Empty where there are none.
    Known(Vec<Option<String>>),
    /// Constants were replaced by parameters, or the log leaves values out.
    Unknown,
}

/// What was read beside the statements.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Of other databases, where the format tells.
    pub elsewhere: u64,
}

/// Columns of csvlog, the same from PostgreSQL 9.0 on.
const CSV_DATABASE: usize = 2;
const CSV_SEVERITY: usize = 11;
const CSV_MESSAGE: usize = 13;
const CSV_DETAIL: usize = 14;
/// Later versions have more.
const CSV_LEAST_COLUMNS: usize = 23;

/// Calls `each` for every statement; with `database`, those of others are left out where the format
/// tells them. The format is found out by the first line.
///
/// # Errors
/// What the input gives.
pub fn read(
    input: &mut dyn BufRead,
    database: Option<&str>,
    each: &mut dyn FnMut(Seen),
) -> io::Result<Summary> {
    let first = input.fill_buf()?;
    let first = String::from_utf8_lossy(first);
    let line = first
        .trim_start()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    let mut columns = Vec::new();
    csv::record(&mut line.as_bytes(), &mut columns)?;
    let column = |name: &str| columns.iter().position(|column| column == name);
    if line.starts_with('{') {
        return json(input, database, each);
    }
    if let (Some(query), Some(calls)) = (column("query"), column("calls")) {
        return statements(input, query, calls, each);
    }
    let dated = line.starts_with(|c: char| c.is_ascii_digit());
    if dated && columns.len() >= CSV_SEVERITY {
        return csvlog(input, database, each);
    }
    stderr(input, each)
}

/// pg_stat_statements with a header.
fn statements(
    input: &mut dyn BufRead,
    query: usize,
    calls: usize,
    each: &mut dyn FnMut(Seen),
) -> io::Result<Summary> {
    let mut fields = Vec::new();
    csv::record(input, &mut fields)?;
    while csv::record(input, &mut fields)? {
        if let (Some(sql), Some(Ok(calls))) =
            (fields.get(query), fields.get(calls).map(|n| n.parse()))
        {
            each(of_statistics(sql, calls));
        }
    }
    Ok(Summary::default())
}

/// A row of pg_stat_statements.
pub fn of_statistics(sql: &str, calls: u64) -> Seen {
    // PostgreSQL 18 shortens lists so; what is left out stands for several values.
    let next = highest_parameter(sql) + 1;
    Seen {
        sql: sql.replace(" /*, ... */", &format!(", ${next}, ${}", next + 1)),
        params: Params::Unknown,
        calls,
    }
}

/// The largest n of `$n` in the text, 0 without any. Of what stands in quotes too: it is only room.
pub(super) fn highest_parameter(sql: &str) -> usize {
    let numbers = sql.split('$').skip(1).filter_map(|after| {
        let end = after
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(after.len());
        after[..end].parse::<usize>().ok()
    });
    numbers
        .filter(|number| *number <= usize::from(u16::MAX))
        .max()
        .unwrap_or(0)
}

fn csvlog(
    input: &mut dyn BufRead,
    database: Option<&str>,
    each: &mut dyn FnMut(Seen),
) -> io::Result<Summary> {
    let mut summary = Summary::default();
    let mut fields = Vec::new();
    while csv::record(input, &mut fields)? {
        if fields.len() < CSV_LEAST_COLUMNS || fields[CSV_SEVERITY] != "LOG" {
            continue;
        }
        let Some(seen) = seen(&fields[CSV_MESSAGE], &fields[CSV_DETAIL]) else {
            continue;
        };
        count(seen, &fields[CSV_DATABASE], database, &mut summary, each);
    }
    Ok(summary)
}

fn json(
    input: &mut dyn BufRead,
    database: Option<&str>,
    each: &mut dyn FnMut(Seen),
) -> io::Result<Summary> {
    let mut summary = Summary::default();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        let entry: Option<serde_json::Value> = serde_json::from_slice(&line).ok();
        line.clear();
        let Some(entry) = entry else { continue };
        let text = |key: &str| {
            entry
                .get(key)
                .and_then(|value| value.as_str())
                .unwrap_or("")
        };
        if text("error_severity") != "LOG" {
            continue;
        }
        if let Some(seen) = seen(text("message"), text("detail")) {
            count(seen, text("dbname"), database, &mut summary, each);
        }
    }
    Ok(summary)
}

fn count(
    seen: Seen,
    its: &str,
    wanted: Option<&str>,
    summary: &mut Summary,
    each: &mut dyn FnMut(Seen),
) {
    match wanted.is_none_or(|wanted| wanted == its) {
        true => each(seen),
        false => summary.elsewhere += 1,
    }
}

/// Lines with any log_line_prefix; further lines of an entry begin with a tab.
fn stderr(input: &mut dyn BufRead, each: &mut dyn FnMut(Seen)) -> io::Result<Summary> {
    /// Which part of an entry the last line was of.
    enum Part {
        Message,
        Detail,
        Other,
    }
    let (mut message, mut detail, mut part) = (String::new(), String::new(), Part::Other);
    let mut end = |message: &mut String, detail: &mut String| {
        if let Some(seen) = seen(message, detail) {
            each(seen);
        }
        message.clear();
        detail.clear();
    };
    let mut raw = Vec::new();
    while input.read_until(b'\n', &mut raw)? > 0 {
        let line = String::from_utf8_lossy(&raw);
        let line = line.trim_end_matches(['\n', '\r']);
        if let Some(more) = line.strip_prefix('\t') {
            let whole = match part {
                Part::Message => Some(&mut message),
                Part::Detail => Some(&mut detail),
                Part::Other => None,
            };
            if let Some(whole) = whole {
                whole.push('\n');
                whole.push_str(more);
            }
        } else if let Some((_, text)) = line.split_once("LOG:  ") {
            end(&mut message, &mut detail);
            message.push_str(text);
            part = Part::Message;
        } else if let Some((_, text)) = line.split_once("DETAIL:  ") {
            detail.push_str(text);
            part = Part::Detail;
        } else {
            part = Part::Other;
        }
        raw.clear();
    }
    end(&mut message, &mut detail);
    Ok(Summary::default())
}

/// The statement that a log entry tells of, if it does.
fn seen(message: &str, detail: &str) -> Option<Seen> {
    let message = match message.strip_prefix("duration: ") {
        Some(timed) => timed.split_once(" ms  ")?.1,
        None => message,
    };
    let sql = match message.strip_prefix("statement: ") {
        Some(sql) => sql,
        None => {
            let named = message.strip_prefix("execute ")?;
            if named.starts_with("fetch from ") {
                return None;
            }
            named.split_once(": ")?.1
        }
    };
    // SQL's EXECUTE tells what was prepared.
    if let Some(prepared) = detail.strip_prefix("prepare: ") {
        return Some(Seen {
            sql: prepared.to_owned(),
            params: Params::Unknown,
            calls: 1,
        });
    }
    let values = detail
        .split_once("arameters: ")
        .map(|(_, values)| parameters(values));
    Some(Seen {
        sql: sql.to_owned(),
        params: match values {
            Some(Some(values)) => Params::Known(values),
            Some(None) => Params::Unknown,
            None => Params::Known(Vec::new()),
        },
        calls: 1,
    })
}

/// `$1 = '5', $2 = NULL`; `None` where it is not written so.
fn parameters(mut text: &str) -> Option<Vec<Option<String>>> {
    let mut values = Vec::new();
    loop {
        let (name, rest) = text.split_once(" = ")?;
        name.strip_prefix('$')?.parse::<u16>().ok()?;
        let rest = match rest.strip_prefix("NULL") {
            Some(rest) => {
                values.push(None);
                rest
            }
            None => {
                let (value, rest) = quoted(rest)?;
                values.push(Some(value));
                rest
            }
        };
        match rest.strip_prefix(", ") {
            Some(more) => text = more,
            None => return rest.trim().is_empty().then_some(values),
        }
    }
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('\'')?;
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('\'')?;
        value.push_str(part);
        match after.strip_prefix('\'') {
            Some(after) => rest = after,
            None => return Some((value, after)),
        }
        value.push('\'');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Seen> {
        let mut found = Vec::new();
        read(&mut text.as_bytes(), Some("shop"), &mut |seen| {
            found.push(seen)
        })
        .unwrap();
        found
    }

    fn known(sql: &str, values: &[Option<&str>]) -> Seen {
        let values = values.iter().map(|value| value.map(str::to_owned));
        Seen {
            sql: sql.to_owned(),
            params: Params::Known(values.collect()),
            calls: 1,
        }
    }

    #[test]
    fn stderr_logs() {
        let log = "2026-11-29 UTC [1] app@shop LOG:  statement: SELECT 1\n\
                   \t  FROM t\n\
                   [1] LOG:  duration: 0.1 ms\n\
                   [1] LOG:  duration: 0.1 ms  bind s: SELECT 2\n\
                   [1] LOG:  duration: 12.3 ms  execute s/p: SELECT $1, $2\n\
                   [1] DETAIL:  parameters: $1 = 'it''s, $2 = ', $2 = NULL\n\
                   [1] ERROR:  no\n\
                   [1] STATEMENT:  SELECT 3\n\
                   [1] LOG:  execute fetch from c: FETCH 1\n\
                   [1] LOG:  statement: EXECUTE q(1)\n\
                   [1] DETAIL:  prepare: PREPARE q AS SELECT $1\n\
                   [1] LOG:  checkpoint starting: time\n";
        let prepared = Seen {
            sql: "PREPARE q AS SELECT $1".to_owned(),
            params: Params::Unknown,
            calls: 1,
        };
        let two = known("SELECT $1, $2", &[Some("it's, $2 = "), None]);
        assert_eq!(all(log), [known("SELECT 1\n  FROM t", &[]), two, prepared]);
    }

    #[test]
    fn csv_and_json_logs_tell_the_database() {
        let csv = |database: &str| {
            format!(
                "2026-11-29 10:00:00.000 UTC,\"app\",\"{database}\",1,\"::1\",s,1,\"SELECT\",t,1/1,0,LOG,00000,\
                 \"execute <unnamed>: SELECT $1\n, \"\"a\"\"\",\"Parameters: $1 = '5'\",,,,,,,,\"psql\",\"client backend\",,0\n"
            )
        };
        let five = known("SELECT $1\n, \"a\"", &[Some("5")]);
        assert_eq!(all(&(csv("shop") + &csv("other"))), [five]);
        let json = "{\"dbname\":\"shop\",\"error_severity\":\"LOG\",\"message\":\"statement: SELECT 1\"}\n\
                    {\"dbname\":\"x\",\"error_severity\":\"LOG\",\"message\":\"statement: SELECT 2\"}\nbroken\n";
        assert_eq!(all(json), [known("SELECT 1", &[])]);
    }

    #[test]
    fn statistics() {
        let csv = "userid,calls,query\n1,7,\"SELECT $1\nFROM t WHERE a IN ($2 /*, ... */)\"\n";
        let seen = Seen {
            sql: "SELECT $1\nFROM t WHERE a IN ($2, $3, $4)".to_owned(),
            params: Params::Unknown,
            calls: 7,
        };
        assert_eq!(all(csv), [seen]);
    }

    #[test]
    fn odd_parameters_are_not_known() {
        for text in ["$1 = '5", "$1 = 5", "x = '5'", "$1 = '5' and so on"] {
            assert_eq!(parameters(text), None, "{text}");
        }
    }
}
