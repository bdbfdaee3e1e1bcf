//! Settings of a session: they follow the client from server to server.

use std::sync::Arc;

use planner::Catalog;
use planner::plan::SetStatement;

use crate::backend::server::Settings;
use crate::error::{Error, Fault};
use crate::executor::database::Database;
use crate::pool::Lease;
use crate::session::changes::charge;
use crate::session::state::is_plain;
use crate::wire::write;

/// What the planner has to assume of a session to be right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Assumptions<'a> {
    pub sharded: bool,
    pub split: bool,
    /// Where the catalog found unqualified names.
    pub search_path: &'a [String],
}

impl<'a> Assumptions<'a> {
    pub fn of(db: &Database, catalog: &'a Catalog) -> Self {
        Self {
            sharded: db.config.is_sharded(),
            split: db.config.reads.split,
            search_path: &catalog.search_path,
        }
    }
}

/// Refuses a setting under which Ringway would read a statement differently than PostgreSQL does.
///
/// # Errors
/// 0A000 that names the setting and what to do instead.
pub(super) fn check(name: &str, value: &str, assumed: Assumptions<'_>) -> Result<(), Error> {
    let text = value.trim().trim_matches('\'').trim();
    let refuse = |detail: &'static str, hint: &'static str| {
        Err(Error::new(
            Fault::Client,
            "0A000",
            format!("cannot set {name} to {value}"),
        )
        .detail(detail)
        .hint(hint))
    };
    match name {
        "standard_conforming_strings" if assumed.sharded || assumed.split => {
            if matches!(
                text.to_ascii_lowercase().as_str(),
                "on" | "true" | "yes" | "1"
            ) {
                return Ok(());
            }
            refuse(
                "Ringway reads string constants as standard SQL does; otherwise it could take text for SQL.",
                "Write E'…' where a backslash is to be an escape.",
            )
        }
        "extra_float_digits" if assumed.sharded => {
            if text.parse().is_ok_and(|digits: i32| digits > 0) {
                return Ok(());
            }
            refuse(
                "Floats of several shards are compared and added up as they are written, and would be rounded.",
                "Leave it at 1, or use round().",
            )
        }
        "client_encoding" | "names" if assumed.sharded => {
            if matches!(
                text.to_ascii_lowercase().as_str(),
                "utf8" | "utf-8" | "unicode" | "auto"
            ) {
                return Ok(());
            }
            refuse(
                "Keys and sort orders are read as UTF-8.",
                "Set client_encoding to UTF8.",
            )
        }
        "transaction" if assumed.sharded => {
            let mut words = text.split_ascii_whitespace();
            if !words.any(|word| word.eq_ignore_ascii_case("snapshot")) {
                return Ok(());
            }
            refuse(
                "A snapshot is one server's, and each shard of the transaction has its own.",
                "Leave it out; pg_dump needs it with --jobs only.",
            )
        }
        "search_path" if assumed.sharded => {
            if same_path(value, assumed.search_path) || is_catalog_alone(text) {
                return Ok(());
            }
            refuse(
                "Which tables an unqualified name means would differ from what Ringway routes by.",
                "Write schema-qualified names (search_path may be empty), or set it for the role on the servers.",
            )
        }
        _ => Ok(()),
    }
}

/// Does it leave only `pg_catalog` to be searched, as pg_dump does? What is planned of a bare name that the
/// catalog finds along its own path is then told by the servers, which find none: texts keep their names as
/// they are written.
fn is_catalog_alone(value: &str) -> bool {
    matches!(value, "" | "pg_catalog" | "\"pg_catalog\"")
}

/// True when the list names the same schemas in the same order, `"$user"` aside, and `pg_catalog`
/// where it is searched anyway.
fn same_path(value: &str, path: &[String]) -> bool {
    let mut names: Vec<_> = value
        .split(',')
        .map(|name| name.trim().trim_matches(['\'', '"']))
        .filter(|name| *name != "$user")
        .collect();
    if names.first() == Some(&"pg_catalog") {
        names.remove(0);
    }
    let path = path.iter().map(String::as_str);
    path.filter(|name| *name != "$user").eq(names)
}

/// Makes a SET or RESET that was committed part of the session's settings.
pub(super) fn keep_setting(settings: &mut Settings, base: &Settings, set: &SetStatement) {
    match (&set.name, &set.value) {
        // RESET ALL leaves these two as they are (GUC_NO_RESET_ALL).
        (None, _) => {
            let kept = ["role", "session_authorization"];
            let kept: Vec<_> = kept
                .iter()
                .filter_map(|name| settings.remove_entry(*name))
                .collect();
            *settings = base.clone();
            settings.extend(kept);
        }
        (Some(name), Some(value)) => {
            undo_role(settings, name);
            let sql = format!("SET {} = {value}", written(name));
            settings.insert(name.clone(), sql);
        }
        (Some(name), None) => match base.get(name) {
            Some(initial) => {
                settings.insert(name.clone(), initial.clone());
            }
            None => {
                undo_role(settings, name);
                settings.remove(name);
            }
        },
    }
}

/// Does the statement mean the same on another connection at another time? What DateStyle makes of a
/// value depends on the value before, and an interval cannot be written again. What is not plain ASCII
/// is read by the encoding and the `standard_conforming_strings` that are in force there.
pub(super) fn may_be_repeated(set: &SetStatement) -> bool {
    let value = set.value.as_deref().unwrap_or_default();
    let interval = value
        .get(..8)
        .is_some_and(|start| start.eq_ignore_ascii_case("interval"));
    !interval && set.name.as_deref() != Some("datestyle") && value.bytes().all(is_plain)
}

/// SET SESSION AUTHORIZATION ends SET ROLE.
fn undo_role(settings: &mut Settings, name: &str) {
    if name == "session_authorization" {
        settings.remove("role");
    }
}

/// A setting's name as SET and RESET take it.
fn written(name: &str) -> String {
    // Those of PostgreSQL are; parts of a custom one may be keywords.
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if name.bytes().all(plain) {
        return name.to_owned();
    }
    let parts: Vec<_> = name
        .split('.')
        .map(|part| part.replace('"', "\"\""))
        .collect();
    format!("\"{}\"", parts.join("\".\""))
}

/// Makes the server's settings what the client asked for; costs nothing when they are.
pub(super) async fn apply_settings(
    server: &mut Lease,
    wanted: &Arc<Settings>,
) -> Result<(), Error> {
    if Arc::ptr_eq(&server.applied, wanted) {
        return Ok(());
    }
    if *server.applied != **wanted {
        let sql = settings_diff(&server.applied, wanted);
        server.run_hidden(&sql).await?;
    }
    server.applied = Arc::clone(wanted);
    Ok(())
}

/// Statements that turn settings `from` into `to`.
fn settings_diff(from: &Settings, to: &Settings) -> String {
    let mut sql = String::new();
    // This text is not the client's: neither its timeouts nor those of the one before cut it short.
    let is_timeout = |name: &&String| TIMEOUTS.contains(&name.as_str());
    for name in from.keys().filter(is_timeout) {
        sql.push_str(&format!("RESET {name};"));
    }
    // Who one is decides what one may set: that comes off first and on last, the role on top.
    let is_who = |name: &&String| WHO.contains(&name.as_str());
    let whos = from.keys().chain(to.keys()).any(|name| is_who(&name));
    if whos {
        sql.push_str("RESET SESSION AUTHORIZATION;RESET ROLE;");
    }
    let gone = from
        .keys()
        .filter(|name| !is_who(name) && !is_timeout(name) && !to.contains_key(*name));
    for name in gone {
        sql.push_str(&format!("RESET {};", written(name)));
    }
    let new = to.iter().filter(|(name, statement)| {
        !is_who(name) && !is_timeout(name) && from.get(*name) != Some(statement)
    });
    for statement in new
        .map(|(_, statement)| statement)
        .chain(WHO.iter().filter_map(|name| to.get(*name)))
        .chain(TIMEOUTS.iter().filter_map(|name| to.get(*name)))
    {
        sql.push_str(statement);
        sql.push(';');
    }
    sql
}

/// What one client's settings may take, in bytes.
pub(super) const MAX_SETTINGS: usize = 1 << 20;

/// What a setting of a session counts for.
pub(super) fn setting_bytes(name: &str, sql: &str) -> usize {
    64 + name.len() + sql.len()
}

/// In the order in which they have to be set.
const WHO: [&str; 2] = ["session_authorization", "role"];

/// Say something of the open transaction, and nothing of the next.
pub(super) const OF_TRANSACTION: [&str; 3] = [
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
];

pub(super) const TIMEOUTS: [&str; 2] = ["lock_timeout", "statement_timeout"];

impl super::Session {
    /// What a RESET has to be followed by: the client's own startup settings, where it had any.
    pub(super) fn base_of(&self, set: &SetStatement) -> Option<String> {
        if self.base.is_empty() || set.value.is_some() || set.local {
            return None;
        }
        match &set.name {
            Some(name) => self.base.get(name).cloned(),
            None => {
                let all: Vec<_> = self.base.values().map(String::as_str).collect();
                Some(all.join(";"))
            }
        }
    }

    /// # Errors
    /// 53400 for a SET that makes this session's settings too large to be carried along.
    fn check_settings_room(&self, set: &SetStatement) -> Result<(), Error> {
        if set.local || set.value.is_none() {
            return Ok(());
        }
        let others = self.settings.iter();
        let others = others.filter(|(name, _)| Some(*name) != set.name.as_ref());
        let held: usize = others.map(|(name, sql)| setting_bytes(name, sql)).sum();
        if held + self.changes.bytes() + charge(set) <= MAX_SETTINGS {
            return Ok(());
        }
        let message = "settings of the session are too large";
        Err(Error::new(Fault::Client, "53400", message)
            .detail(format!(
                "They follow the session from server to server, and may take {MAX_SETTINGS} bytes."
            ))
            .hint("Reset those that are not needed any more."))
    }

    /// As [`check`], for a SET of this session.
    pub(super) fn check_set(&self, set: &SetStatement) -> Result<(), Error> {
        if set.name.as_deref() == Some("client_encoding") && self.listening.is_some() {
            let message = "cannot set client_encoding in a session that listens";
            return Err(Error::new(Fault::Client, "0A000", message)
                .detail(
                    "Notifications come over a connection of all clients, whose encoding is UTF8.",
                )
                .hint("Use another connection."));
        }
        self.check_settings_room(set)?;
        if set.makes_read_only() && self.wrote_on_several() {
            return Err(planner::Refusal::unsupported(
                "a transaction that has written on several shards cannot become READ ONLY",
                "What decides on its commit is a row that is written last.",
                "Leave it out.",
            )
            .into());
        }
        let catalog = self.catalog();
        match (&set.name, &set.value) {
            (Some(name), Some(value)) => check(name, value, Assumptions::of(&self.db, &catalog)),
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// A notice as the server would have sent it, unless the client wants errors only.
    pub(super) fn warn(&mut self, code: &str, message: &str) {
        let least = self.settings.get("client_min_messages");
        let errors_only = |sql: &String| {
            let sql = sql.to_ascii_lowercase();
            ["error", "fatal", "panic"]
                .iter()
                .any(|level| sql.contains(level))
        };
        if !least.is_some_and(errors_only) {
            write::notice(&mut self.client.outbox, "WARNING", code, message, "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: Option<&str>) -> SetStatement {
        SetStatement {
            local: false,
            name: Some(name.into()),
            value: value.map(Into::into),
        }
    }

    #[test]
    fn reset_returns_to_the_startup_packet() {
        let base = Settings::from([("datestyle".into(), "SET datestyle = 'SQL'".into())]);
        let mut settings = base.clone();
        keep_setting(&mut settings, &base, &set("datestyle", Some("'ISO'")));
        keep_setting(&mut settings, &base, &set("work_mem", Some("'1MB'")));
        assert_eq!(settings["datestyle"], "SET datestyle = 'ISO'");
        keep_setting(&mut settings, &base, &set("datestyle", None));
        keep_setting(&mut settings, &base, &set("work_mem", None));
        assert_eq!(settings, base);
    }

    #[test]
    fn what_would_mislead_the_planner_is_refused() {
        let path = ["public".to_owned()];
        let sharded = Assumptions {
            sharded: true,
            split: true,
            search_path: &path,
        };
        let plain = Assumptions {
            sharded: false,
            split: false,
            search_path: &path,
        };
        let cases = [
            ("search_path", "public", true),
            ("search_path", "\"$user\", public", true),
            ("search_path", "pg_catalog, public", true),
            ("search_path", "public, pg_catalog", false),
            ("search_path", "''", true),
            ("search_path", "", true),
            ("search_path", "pg_catalog", true),
            (
                "transaction",
                "TRANSACTION SNAPSHOT '00000003-00000002-1'",
                false,
            ),
            ("transaction", "TRANSACTION READ ONLY", true),
            ("search_path", "'', public", false),
            ("search_path", "\"$user\"", false),
            ("search_path", "tenant, public", false),
            ("standard_conforming_strings", "off", false),
            ("standard_conforming_strings", "on", true),
            ("client_encoding", "'LATIN1'", false),
            ("client_encoding", "'utf-8'", true),
            ("work_mem", "'1MB'", true),
        ];
        for (name, value, fine) in cases {
            assert_eq!(
                check(name, value, sharded).is_ok(),
                fine,
                "{name} = {value}"
            );
            assert!(check(name, value, plain).is_ok());
        }
    }

    #[test]
    fn only_differences_are_sent() {
        let a = Settings::from([
            ("x".into(), "SET x = 1".into()),
            ("y".into(), "SET y = 1".into()),
        ]);
        let b = Settings::from([
            ("y".into(), "SET y = 1".into()),
            ("z".into(), "SET z = 1".into()),
        ]);
        assert_eq!(settings_diff(&a, &b), "RESET x;SET z = 1;");
        let who = Settings::from([
            ("role".into(), "SET role = r".into()),
            (
                "session_authorization".into(),
                "SET session_authorization = s".into(),
            ),
        ]);
        assert_eq!(
            settings_diff(&a, &who),
            "RESET SESSION AUTHORIZATION;RESET ROLE;RESET x;RESET y;\
             SET session_authorization = s;SET role = r;"
        );
        let timeout = "SET statement_timeout = 1";
        let with = |mut settings: Settings| {
            settings.insert("statement_timeout".into(), timeout.into());
            settings
        };
        assert_eq!(
            settings_diff(&with(a), &with(b)),
            "RESET statement_timeout;RESET x;SET z = 1;SET statement_timeout = 1;"
        );
    }
}
