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

impl Session {
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
