//! State that lives on a server connection: settings that only the server can tell, and what pins.
//!
//! Both are found out by asking the server, only when a statement has made it necessary.

use std::sync::Arc;

use planner::plan::{Pin, SessionEffect, Statement};
use planner::{SettingName, settings_named};

use super::changes::Change;
use super::{Enlisted, Pinned, Session};
use crate::backend::server::Settings;
use crate::error::{Error, Fault};
use crate::executor::database::{is_read_at_parse, parse_context};
use crate::wire::write;

/// ParameterStatus that tells of the server and not of the session: two servers may differ in them
/// while a client reads from both.
const OF_THE_SERVER: [&str; 2] = ["in_hot_standby", "server_version"];

/// What is left on a connection of what can pin it, in words for SHOW CLIENTS.
const WHAT_IS_LEFT: &str = "SELECT CASE \
    WHEN EXISTS (SELECT FROM pg_catalog.pg_locks \
        WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
        AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) THEN 'lock' \
    WHEN EXISTS (SELECT FROM pg_catalog.pg_class \
        WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) \
        OR EXISTS (SELECT FROM pg_catalog.pg_proc \
        WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) \
        OR EXISTS (SELECT FROM pg_catalog.pg_type \
        WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) THEN 'temp' \
    WHEN EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable) THEN 'cursor' \
    WHEN EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql) THEN 'prepared' \
    WHEN EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) THEN 'listen' END";

/// Settings that SET or its like changed in this session. Custom ones are not listed by
/// PostgreSQL, nor are these two: they are asked for by name.
const SETTINGS: &str = "SELECT name, setting FROM pg_catalog.pg_settings \
    WHERE source OPERATOR(pg_catalog.=) 'session' \
    AND name OPERATOR(pg_catalog.!~~) 'transaction\\_%' \
    UNION ALL SELECT 'role', pg_catalog.current_setting('role') \
    UNION ALL SELECT 'session_authorization', \
        CASE WHEN pg_catalog.current_setting('session_authorization') \
        OPERATOR(pg_catalog.<>) ";

impl Session {
    /// Notes what a statement may leave behind, before it runs.
    ///
    /// # Errors
    /// What the sequences gave to other clients cannot be told from what they gave to this one.
    pub(super) async fn admit(
        &mut self,
        index: usize,
        effect: &SessionEffect,
    ) -> Result<(), Error> {
        if *effect == SessionEffect::Pin(Pin::Sequence) {
            return Box::pin(self.admit_sequence(index)).await;
        }
        self.note_effect(index, effect);
        Ok(())
    }

    /// As [`Session::admit`], for what asks nothing of the server.
    pub(super) fn note_effect(&mut self, index: usize, effect: &SessionEffect) {
        match effect {
            SessionEffect::None | SessionEffect::DiscardAll => {}
            SessionEffect::Releases => self.leases[index].may_release = true,
            SessionEffect::Settings => {
                self.leases[index].ask_settings = true;
                self.leases[index].ran_set = true;
                if std::mem::take(&mut self.names_unknown) {
                    self.pin(index, Pin::Setting);
                }
            }
            SessionEffect::Taint(_) => {
                let held = &mut self.leases[index];
                held.lease.tainted = true;
                held.may_release = true;
            }
            SessionEffect::Pin(pin) => self.pin(index, *pin),
        }
    }

    pub(super) fn pin(&mut self, index: usize, pin: Pin) {
        let held = &mut self.leases[index];
        held.lease.tainted = true;
        match held.pinned {
            Some(Pinned::Mode) => return,
            Some(Pinned::By(by)) if !by.ends() => return,
            Some(Pinned::By(_)) => {}
            // The statement may fail, or the transaction take everything back.
            None => held.may_release = true,
        }
        held.pinned = Some(Pinned::By(pin));
        self.tell_pin(Some(pin.why()));
    }

    fn tell_pin(&self, why: Option<&'static str>) {
        if let Ok(mut pinned) = self.info.pinned.lock() {
            *pinned = why;
        }
    }

    /// currval and lastval are right where this transaction has moved the sequence. What an earlier
    /// one got was got on another connection, and what is found here may be another client's.
    async fn admit_sequence(&mut self, index: usize) -> Result<(), Error> {
        let held = &mut self.leases[index];
        if held.wrote || held.pinned.is_some() {
            return Ok(());
        }
        if self.block.is_none() {
            return Err(Error::new(
                Fault::Client,
                "0A000",
                "currval and lastval outside of the transaction that called nextval are not supported",
            )
            .detail("In transaction pooling the next transaction may run on another server connection.")
            .hint("Use INSERT … RETURNING, or ask in the same transaction, or set mode = \"session\"."));
        }
        self.end_extended(index).await?;
        let lease = &mut self.leases[index].lease;
        lease.run_hidden("DISCARD SEQUENCES").await
    }

    /// At the end of a transaction that changed settings in a way which only the server can tell.
    pub(super) async fn ask_settings(&mut self) {
        for index in 0..self.leases.len() {
            if !std::mem::take(&mut self.leases[index].ask_settings) {
                continue;
            }
            let asked = self.settings_of(index).await;
            match asked {
                Ok(found) => {
                    // What was reset is as in the startup packet again, once the server hears of it.
                    let mut settings = found.clone();
                    for (name, sql) in &self.base {
                        settings.entry(name.clone()).or_insert_with(|| sql.clone());
                    }
                    self.context = parse_context(&settings);
                    self.settings = Arc::new(settings);
                    self.leases[index].lease.applied = Arc::new(found);
                }
                Err(error) => {
                    tracing::warn!(%error, "a session's settings could not be asked for");
                    self.pin(index, Pin::Setting);
                }
            }
        }
    }

    async fn settings_of(&mut self, index: usize) -> Result<Settings, Error> {
        let applied = Arc::clone(&self.leases[index].lease.applied);
        let custom = self.settings.keys().chain(applied.keys());
        let custom = custom.chain(&self.custom_settings);
        let custom = custom.filter(|name| name.contains('.'));
        let mut sql = format!("{SETTINGS}{} ", quoted(&self.user.name));
        sql.push_str("THEN pg_catalog.current_setting('session_authorization') END");
        for name in custom.collect::<std::collections::BTreeSet<_>>() {
            let name = quoted(name);
            sql.push_str(&format!(
                " UNION ALL SELECT {name}, pg_catalog.current_setting({name}, true)"
            ));
        }
        let rows = self.leases[index].lease.ask_hidden(&sql).await?;
        self.custom_settings.clear();
        let mut settings = Settings::new();
        for row in rows {
            let text = |at: usize| {
                let value = row.get(at).cloned().flatten();
                value
                    .map(|value| String::from_utf8(value.to_vec()))
                    .transpose()
            };
            let (Ok(Some(name)), Ok(value)) = (text(0), text(1)) else {
                return Err(Error::new(Fault::Client, "22021", "a setting is not UTF-8"));
            };
            match (name.as_str(), value) {
                (_, None) => {}
                ("role", Some(role)) if role == "none" => {}
                (_, Some(value)) => {
                    let sql = set_config(&name, &value);
                    settings.insert(name.to_lowercase(), sql);
                }
            }
        }
        Ok(settings)
    }

    /// Before a statement that changes settings by set_config: notes which, for the server to be
    /// asked. `texts` are its own, each with its parameters.
    ///
    /// # Errors
    /// As [`settings::check`] for those that Ringway relies on, where it relies on them.
    pub(super) fn check_settings_named(
        &mut self,
        texts: &[(&[u8], &[Option<&[u8]>])],
    ) -> Result<(), Error> {
        const RELIED_ON: [&str; 4] = [
            "search_path",
            "standard_conforming_strings",
            "client_encoding",
            "names",
        ];
        let mut known = true;
        for (sql, params) in texts {
            known &= self.note_custom_settings(sql, params);
        }
        if !known
            || self
                .custom_settings
                .iter()
                .any(|name| is_read_at_parse(name))
        {
            self.leave_context();
        }
        let relied_on = |name: &String| RELIED_ON.contains(&name.as_str());
        let relied_on = self.custom_settings.iter().any(relied_on);
        if self.db.config.is_sharded() && (!known || relied_on) {
            return Err(planner::Refusal::unsupported(
                "this call of set_config on a sharded database",
                "It may change how Ringway has to read what follows.",
                "Use SET, or write the name of another setting as a plain string.",
            )
            .into());
        }
        self.names_unknown = !known;
        Ok(())
    }

    /// The names of custom settings that a text hands to set_config. False when one cannot be told.
    fn note_custom_settings(&mut self, sql: &[u8], params: &[Option<&[u8]>]) -> bool {
        let Ok(text) = std::str::from_utf8(sql) else {
            return false;
        };
        let Some(names) = settings_named(text) else {
            return false;
        };
        for name in names {
            let name = match name {
                SettingName::Written(name) => Some(name),
                SettingName::Param(at) => params
                    .get(at)
                    .copied()
                    .flatten()
                    .and_then(|name| String::from_utf8(name.to_vec()).ok())
                    .map(|name| name.to_lowercase()),
            };
            match name {
                Some(name) => self.custom_settings.push(name),
                None => return false,
            }
        }
        true
    }

    /// A text of several statements has run: what the session has to know of them.
    pub(super) fn follow_multiple(
        &mut self,
        index: usize,
        known: &[Statement],
        effect: &SessionEffect,
    ) -> Result<(), Error> {
        // Whether or not it failed: a part before a COMMIT in it counts.
        for part in known {
            if let Statement::Set(set) = part
                && let Some(name) = set.name.as_ref().filter(|name| name.contains('.'))
                && !self.custom_settings.contains(name)
            {
                self.custom_settings.push(name.clone());
            }
        }
        let held = &mut self.leases[index];
        let deallocates = known
            .iter()
            .any(|part| matches!(part, Statement::Deallocate(_)));
        if held.lease.error.is_some() {
            if deallocates {
                // It is not undone with the rest; who knows how far the text came.
                held.lease
                    .doubt
                    .get_or_insert("DEALLOCATE in a text that failed");
            }
            return Ok(());
        }
        held.ran_set |= known.iter().any(|part| matches!(part, Statement::Set(_)));
        for part in known {
            match part {
                Statement::Set(set) if *effect != SessionEffect::Settings => {
                    self.note_set(set, false)?;
                }
                Statement::Deallocate(None) => {
                    self.batch.forget_statements();
                    self.leases[index].lease.forget_prepared();
                }
                Statement::Unlisten(channel) => {
                    self.changes.push(Change::Unlisten(channel.clone()))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Between transactions: lets connections go whose state is gone.
    pub(super) async fn look_for_state(&mut self) {
        for index in 0..self.leases.len() {
            let held = &mut self.leases[index];
            let may_release = std::mem::take(&mut held.may_release);
            let Some(Pinned::By(pin)) = held.pinned else {
                continue;
            };
            if !may_release || !pin.ends() || held.lease.doubt.is_some() {
                continue;
            }
            let Ok(rows) = held.lease.ask_hidden(WHAT_IS_LEFT).await else {
                continue;
            };
            let left = rows.first().and_then(|row| row.first().cloned()).flatten();
            let pin = match left.as_deref() {
                None => None,
                Some(b"lock") => Some(Pin::AdvisoryLock),
                Some(b"temp") => Some(Pin::Temporary),
                Some(b"cursor") => Some(Pin::HeldCursor),
                Some(b"prepared") => Some(Pin::Prepared),
                Some(b"listen") => Some(Pin::Listen),
                Some(_) => Some(Pin::Unknown),
            };
            held.pinned = pin.map(Pinned::By);
            self.tell_pin(pin.map(Pin::why));
        }
    }

    /// DISCARD ALL took away what pinned, except a library.
    pub(super) fn unpin_discarded(&mut self, index: usize) {
        if let Some(Pinned::By(pin)) = self.leases[index].pinned
            && pin != Pin::Loaded
        {
            self.leases[index].pinned = None;
            self.tell_pin(None);
        }
    }

    /// Tells the client of parameters that are not what it was told last; true if there are any.
    pub(super) fn tell_parameters(&mut self, index: usize) -> bool {
        let lease = &mut self.leases[index].lease;
        if Arc::ptr_eq(&lease.parameters, &self.told) {
            return false;
        }
        let mut told = Arc::clone(&self.told);
        for (name, value) in std::mem::take(&mut lease.shown) {
            Arc::make_mut(&mut told).insert(name, value);
        }
        let mut news = bytes::BytesMut::new();
        for (name, value) in lease.parameters.iter() {
            if !OF_THE_SERVER.contains(&name.as_str()) && told.get(name) != Some(value) {
                write::parameter_status(&mut news, name, value);
                Arc::make_mut(&mut told).insert(name.clone(), value.clone());
            }
        }
        lease.parameters = Arc::clone(&told);
        self.told = told;
        if news.is_empty() {
            return false;
        }
        self.emit(&news);
        true
    }
}

/// A statement that sets `name`, whatever kind of setting it is.
pub(super) fn set_config(name: &str, value: &str) -> String {
    format!(
        "SELECT pg_catalog.set_config({}, {}, false)",
        quoted(name),
        quoted(value)
    )
}

/// A text as SQL that means the same under any `standard_conforming_strings` and
/// `client_encoding`, both of which are the client's to set: a backslash, or a byte that another
/// encoding takes for the first of two, must not reach a quote.
pub(super) fn quoted(value: &str) -> String {
    let is_plain = |b: u8| (b' '..=b'~').contains(&b) && b != b'\\';
    if value.bytes().all(is_plain) {
        return format!("'{}'", value.replace('\'', "''"));
    }
    let digits = value.bytes().map(|byte| format!("{byte:02x}"));
    let digits: String = digits.collect();
    format!("pg_catalog.convert_from(pg_catalog.decode('{digits}', 'hex'), 'UTF8')")
}

impl Enlisted {
    /// A connection whose process was changed is not for others.
    pub(super) fn close_if_loaded(&mut self) {
        if self.pinned == Some(Pinned::By(Pin::Loaded)) {
            self.lease
                .doubt
                .get_or_insert("a library was loaded into it");
        }
    }
}
