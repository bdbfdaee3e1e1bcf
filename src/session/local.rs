//! What a session answers by itself: settings in the `ringway.` namespace, EXPLAIN (ROUTE).

use planner::plan::SetStatement;
use planner::shape::Shape;
use planner::{Values, route};

use super::Session;
use super::hints::Hints;
use crate::error::{Error, Fault};
use crate::wire::write;

pub(super) fn is_ours(name: Option<&str>) -> bool {
    name.is_some_and(|name| name.starts_with("ringway."))
}

pub(super) fn set_tag(set: &SetStatement) -> &'static str {
    if set.value.is_some() { "SET" } else { "RESET" }
}

/// What a DEALLOCATE names. PostgreSQL keeps one set of statements for SQL's PREPARE and the
/// protocol's Parse; here the latter are the session's, and live on no server in particular.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Deallocated {
    All,
    Name(String),
}

impl Deallocated {
    /// `None` for any other statement.
    pub(super) fn read(sql: &str) -> Option<Self> {
        let words = planner::leading_words(sql, 3);
        let (verb, mut rest) = words.split_first()?;
        if !verb.eq_ignore_ascii_case("deallocate") {
            return None;
        }
        if rest.len() > 1 && rest[0].eq_ignore_ascii_case("prepare") && rest[1] != ";" {
            rest = &rest[1..];
        }
        let name = rest.first()?;
        Some(match name.strip_prefix('"') {
            Some(quoted) => Self::Name(quoted.trim_end_matches('"').replace("\"\"", "\"")),
            None if name.eq_ignore_ascii_case("all") => Self::All,
            None => Self::Name(name.to_ascii_lowercase()),
        })
    }
}

impl Session {
    /// True when no server needs to be told.
    pub(super) fn knows_alone(&self, deallocated: &Deallocated) -> bool {
        match deallocated {
            Deallocated::All => self.leases.iter().all(|held| held.pinned.is_none()),
            Deallocated::Name(name) => self.batch.has_statement(name.as_bytes()),
        }
    }

    /// Forgets the protocol's statements that a DEALLOCATE names. Answers the command tag, or
    /// nothing if the statement has to go to the server.
    pub(super) fn deallocate(&mut self, sql: &str) -> Option<&'static str> {
        let deallocated = Deallocated::read(sql)?;
        let alone = self.knows_alone(&deallocated);
        let tag = match deallocated {
            Deallocated::All => {
                self.batch.forget_statements();
                // A pinned server is told, and drops what we prepared there as well.
                let told = self.leases.iter_mut().filter(|held| held.pinned.is_some());
                told.for_each(|held| held.lease.forget_prepared());
                "DEALLOCATE ALL"
            }
            Deallocated::Name(name) => {
                self.batch.forget_statement(name.as_bytes());
                "DEALLOCATE"
            }
        };
        alone.then_some(tag)
    }

    /// `SET ringway.route = …` and `RESET ringway.route`.
    ///
    /// # Errors
    /// 42704 for any other name, 22023 for a value that is no hint.
    pub(super) fn set_local_setting(&mut self, set: &SetStatement) -> Result<(), Error> {
        match set.name.as_deref() {
            Some("ringway.route") if set.local => Err(Error::new(
                Fault::Client,
                "0A000",
                "SET LOCAL ringway.route is not supported",
            )
            .hint("Use SET ringway.route, or a comment /* ringway: … */ before one statement.")),
            Some("ringway.route") => {
                let text = set.value.as_deref().unwrap_or("").trim().trim_matches('\'');
                let text = if text.eq_ignore_ascii_case("auto") {
                    ""
                } else {
                    text
                };
                self.hints = Hints::parse(text)?;
                Ok(())
            }
            name => Err(unrecognized(name.unwrap_or_default())),
        }
    }

    pub(super) fn show_local_setting(&self, name: &str) -> Result<String, Error> {
        match name {
            "ringway.route" => Ok(self.hints.show()),
            "ringway.version" => Ok(env!("CARGO_PKG_VERSION").to_owned()),
            name => Err(unrecognized(name)),
        }
    }

    /// The lines of EXPLAIN (ROUTE) for `sql`.
    pub(super) fn explain_route(&self, sql: &str, types: &[u32]) -> Vec<String> {
        let mut shape = Shape::default();
        shape.scan(sql.as_bytes());
        let plan = self
            .db
            .plans
            .plan(sql, &shape, types, &self.db.cluster.catalog());
        let values = Values {
            sql: sql.as_bytes(),
            pieces: &shape.pieces,
            params: &[],
        };
        let topology = &self.db.config.topology;
        planner::explain::explain(&plan, route(&plan, values, topology).as_ref(), topology)
    }

    /// Writes lines as PostgreSQL's EXPLAIN does.
    pub(super) fn write_explain(&mut self, lines: &[String], describe: bool) {
        let out = &mut self.client.outbox;
        if describe {
            write::text_columns(out, &["QUERY PLAN"]);
        }
        for line in lines {
            write::text_row(out, &[Some(line)]);
        }
        write::command_complete(out, "EXPLAIN");
    }
}

fn unrecognized(name: &str) -> Error {
    Error::new(
        Fault::Client,
        "42704",
        format!("unrecognized configuration parameter \"{name}\""),
    )
    .hint("Ringway knows ringway.route and ringway.version.")
}

#[cfg(test)]
mod tests {
    use super::Deallocated::{self, All, Name};

    #[test]
    fn deallocate_names_what_postgresql_says() {
        for (sql, expected) in [
            ("DEALLOCATE a", Some(Name("a".into()))),
            (
                "/* x */ deallocate PREPARE \"A\"\"b\";",
                Some(Name("A\"b".into())),
            ),
            ("DEALLOCATE ALL", Some(All)),
            ("DEALLOCATE PREPARE ALL", Some(All)),
            ("DEALLOCATE prepare;", Some(Name("prepare".into()))),
            ("DISCARD ALL", None),
            ("", None),
        ] {
            assert_eq!(Deallocated::read(sql), expected, "{sql}");
        }
    }
}
