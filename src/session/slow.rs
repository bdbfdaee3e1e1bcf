//! The slow-query log: statements that took long, by shape; their values only where the operator asks
//! for them.

use std::fmt::Write;
use std::time::Duration;

use super::Session;
use super::account::Statement;
use crate::config::General;
use crate::executor::database::Database;
use crate::wire::frontend::Bind;

/// What is logged of the statements of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlowLog {
    /// Those that take as long; `None`: none.
    from: Option<Duration>,
    values: bool,
    /// A text has to be kept until it is known how long it took: no digest has it, or values are wanted.
    keeps_text: bool,
}

impl SlowLog {
    pub(super) fn of(general: &General, db: &Database) -> Self {
        let from = db.config.pool.log_min_duration;
        let from = from.or(general.log_min_duration);
        Self {
            from,
            values: general.log_values,
            keeps_text: from.is_some() && (general.log_values || general.max_digests == 0),
        }
    }
}

/// A statement with its values, as the client sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    sql: String,
    /// `$1 = 'a', $2 = NULL`; empty without parameters.
    parameters: String,
}

impl Text {
    fn new(sql: &[u8], bind: Option<&Bind<'_>>) -> Self {
        let mut parameters = String::new();
        for (at, value) in bind.iter().flat_map(|bind| bind.values.iter().enumerate()) {
            let comma = if at == 0 { "" } else { ", " };
            let _ = write!(parameters, "{comma}${} = ", at + 1);
            match (value, bind.is_some_and(|bind| bind.is_binary(at))) {
                (None, _) => parameters.push_str("NULL"),
                (Some(value), false) => {
                    let text = String::from_utf8_lossy(value).replace('\'', "\'\'");
                    let _ = write!(parameters, "'{text}'");
                }
                (Some(value), true) => {
                    parameters.push_str("'\\x");
                    value.iter().for_each(|byte| {
                        let _ = write!(parameters, "{byte:02x}");
                    });
                    parameters.push('\'');
                }
            }
        }
        Self {
            sql: String::from_utf8_lossy(sql).into_owned(),
            parameters,
        }
    }
}

impl Session {
    /// What the log may have to tell of a statement; `bind` is the body of its Bind.
    pub(super) fn kept_text(&self, sql: &[u8], bind: Option<&[u8]>) -> Option<Box<Text>> {
        let SlowLog {
            keeps_text, values, ..
        } = self.limits.slow_log;
        if !keeps_text {
            return None;
        }
        let bind = bind.filter(|_| values);
        let bind = bind.and_then(|body| Bind::read(body).ok());
        Some(Box::new(Text::new(sql, bind.as_ref())))
    }

    /// A statement was answered: logs it if it took long.
    pub(super) fn log_if_slow(&self, statement: &Statement<'_>) {
        if self
            .limits
            .slow_log
            .from
            .is_none_or(|from| statement.elapsed < from)
        {
            return;
        }
        let shards: Vec<&str> = statement
            .places
            .iter()
            .map(|place| self.shard_name(place.shard))
            .collect();
        let shards = shards.join(",");
        let digest = match (statement.digest, statement.text) {
            (Some(digest), _) => Some((digest.id(), digest.text().to_owned())),
            (None, Some(text)) => {
                let digest = planner::digest(text.sql.as_bytes());
                Some((digest.id, digest.text))
            }
            // Too long to be read, or a function call.
            (None, None) => None,
        };
        let (id, shape) = digest.unzip();
        let text = statement.text.filter(|_| self.limits.slow_log.values);
        let parameters = text.map(|text| text.parameters.as_str());
        let server = statement.elapsed.saturating_sub(statement.queued);
        tracing::info!(
            target: "ringway::slow",
            database = %self.info.database,
            user = %self.info.user,
            client = %self.info.address,
            duration_ms = millis(statement.elapsed),
            queue_ms = millis(statement.queued),
            server_ms = millis(server),
            rows = statement.rows,
            route = statement.kind.name(),
            shards,
            sqlstate = statement.failure,
            digest = id.map(|id| format!("{id:016x}")),
            statement = shape,
            sql = text.map(|text| text.sql.as_str()),
            parameters = parameters.filter(|text| !text.is_empty()),
            "slow statement"
        );
    }
}

/// To the microsecond.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_so_that_they_can_be_read_again() {
        let bind = Bind {
            portal: b"",
            statement: b"",
            formats: vec![0, 1, 0],
            values: vec![Some(b"o'neill"), Some(&[0, 255]), None],
            result_formats: vec![],
            rest: b"",
        };
        let text = Text::new(b"SELECT $1, $2, $3", Some(&bind));
        assert_eq!(
            text.parameters,
            "$1 = 'o''neill', $2 = '\\x00ff', $3 = NULL"
        );
        assert_eq!(Text::new(b"SELECT 1", None).parameters, "");
    }
}
