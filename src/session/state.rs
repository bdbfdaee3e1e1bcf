//! State that lives on a server connection: settings that only the server can tell, and what pins.
//!
//! Both are found out by asking the server, only when a statement has made it necessary.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use planner::plan::{Pin, SessionEffect, Statement};
use planner::{Argument, ShardId, settings_named};

use super::changes::Change;
use super::local::is_ours;
use super::settings::{Assumptions, MAX_SETTINGS, OF_TRANSACTION, TIMEOUTS, check, setting_bytes};
use super::{Enlisted, Pinned, Session};
use crate::backend::server::{Server, Settings};
use crate::error::{Error, Fault};
use crate::executor::database::{ENCODING, Statement as Prepared, is_read_at_parse};
use crate::wire::write;

/// ParameterStatus that tells of the server and not of the session: two servers may differ in them
/// while a client reads from both.
const OF_THE_SERVER: [&str; 2] = ["in_hot_standby", VERSION];
const VERSION: &str = "server_version";

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

/// Settings that SET or its like changed in this session: name, and value in UTF-8 as hexadecimal
/// digits, whatever the client's encoding is. Custom ones are not listed by PostgreSQL, nor are these
/// two: they are asked for by name. What limits time is told first and then lifted; whether that was
/// set in this session, its value without SET tells.
fn settings_question(user: &str, custom: &BTreeSet<&String>) -> String {
    let value =
        |sql: &str| format!("pg_catalog.encode(pg_catalog.convert_to({sql}, 'UTF8'), 'hex')");
    let current = |name: &str| {
        let shown = format!("pg_catalog.current_setting({name}, true)");
        format!("SELECT {name}, {}", value(&shown))
    };
    let limits = TIMEOUTS.map(|name| {
        let shown = format!("pg_catalog.current_setting('{name}')::pg_catalog.interval");
        let ms = format!("pg_catalog.date_part('epoch', {shown}) OPERATOR(pg_catalog.*) 1000");
        let ms = value(&format!("({ms})::pg_catalog.int8::pg_catalog.text"));
        format!("SELECT '{name}', {ms}")
    });
    let authorization = format!(
        "SELECT 'session_authorization', CASE WHEN pg_catalog.current_setting(\
         'session_authorization') OPERATOR(pg_catalog.<>) {} THEN {} END",
        quoted(user),
        value("pg_catalog.current_setting('session_authorization')"),
    );
    let mut sql = format!(
        "{};{UNLIMITED} SELECT name, {} FROM pg_catalog.pg_settings \
         WHERE source OPERATOR(pg_catalog.=) 'session' \
         AND name OPERATOR(pg_catalog.<>) ALL (ARRAY['{}', '{}']) \
         UNION ALL SELECT name, {} FROM pg_catalog.pg_settings \
         WHERE name OPERATOR(pg_catalog.=) ANY (ARRAY['{}']) \
         UNION ALL {} UNION ALL {authorization}",
        limits.join(" UNION ALL "),
        value("setting"),
        OF_TRANSACTION.join("', '"),
        TIMEOUTS.join("', '"),
        value("reset_val"),
        TIMEOUTS.join("', '"),
        current("'role'"),
    );
    for name in custom {
        sql.push_str(&format!(" UNION ALL {}", current(&quoted(name))));
    }
    sql
}

/// SQL and the values of its parameters.
type Text<'a> = (&'a [u8], &'a [Option<&'a [u8]>]);

/// Before a question of ours: the rest of its text is not under the client's limits.
const UNLIMITED: &str = "SET LOCAL statement_timeout = 0;SET LOCAL lock_timeout = 0;";

/// Digits of [`settings_question`] as text.
fn from_hex(digits: &[u8]) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
        _ => None,
    });
    String::from_utf8(bytes.collect::<Option<_>>()?).ok()
}

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
            SessionEffect::None | SessionEffect::LocalSettings | SessionEffect::DiscardAll => {}
            SessionEffect::Releases => self.leases[index].may_release = true,
            SessionEffect::Settings => {
                self.leases[index].ask_settings = true;
                self.leases[index].ran_set = true;
                // COMMIT AND CHAIN is among these.
                self.lose_track();
                if std::mem::take(&mut self.names_unknown) {
                    self.pin(index, Pin::Setting);
                }
            }
            SessionEffect::Taint(_) => {
                let held = &mut self.leases[index];
                held.lease.tainted = true;
                held.may_release = true;
                if held.pinned == Some(Pinned::Mode) {
                    held.pinned = Some(Pinned::ModeWithState);
                }
            }
            SessionEffect::Pin(pin) => {
                if *pin == Pin::Setting {
                    // A text that nobody has read is among these.
                    self.lose_track();
                }
                self.pin(index, *pin);
            }
        }
    }

    pub(super) fn pin(&mut self, index: usize, pin: Pin) {
        let held = &mut self.leases[index];
        held.lease.tainted = true;
        match held.pinned {
            Some(Pinned::Mode) if pin.concerns_reads() => {
                held.pinned = Some(Pinned::ModeWithState);
                return;
            }
            Some(Pinned::Mode | Pinned::ModeWithState) => return,
            Some(Pinned::By(by)) if !by.ends() => return,
            Some(Pinned::By(_)) => {}
            // The statement may fail, or the transaction take everything back.
            None => held.may_release = true,
        }
        held.pinned = Some(Pinned::By(pin));
        self.info.tell_pinned(Some(pin.why()));
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
            if !self.leases[index].ask_settings {
                continue;
            }
            let asked = self.settings_of(index).await;
            // Only now: one that is given back before is emptied.
            self.leases[index].ask_settings = false;
            match asked {
                Ok(found) => {
                    // What was reset is as in the startup packet again, once the server hears of it.
                    let mut settings = found.clone();
                    for (name, sql) in &self.base {
                        settings.entry(name.clone()).or_insert_with(|| sql.clone());
                    }
                    self.settings = Arc::new(settings);
                    self.enter_base_context();
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
        let custom = custom.filter(|name| name.contains('.')).collect();
        let sql = settings_question(self.as_user().name(), &custom);
        let rows = ask(&mut self.leases[index].lease, &sql).await?;
        let mut values = Settings::new();
        for row in rows {
            let value = |at: usize| row.get(at).cloned().flatten();
            let name = value(0).and_then(|name| String::from_utf8(name.to_vec()).ok());
            let name = name.ok_or_else(not_read)?.to_lowercase();
            let Some(value) = value(1) else {
                continue;
            };
            let value = from_hex(&value).ok_or_else(not_read)?;
            let without_set =
                TIMEOUTS.contains(&name.as_str()) && values.get(&name) == Some(&value);
            if without_set || (name == "role" && value == "none") {
                values.remove(&name);
            } else {
                values.entry(name).or_insert(value);
            }
        }
        let statement = |(name, value): (String, String)| {
            let sql = set_config(&name, &value);
            (name, sql)
        };
        let found: Settings = values.into_iter().map(statement).collect();
        let bytes: usize = found.iter().map(|(n, sql)| setting_bytes(n, sql)).sum();
        match bytes > MAX_SETTINGS {
            true => Err(Error::new(
                Fault::Client,
                "53400",
                "its settings are too large",
            )),
            false => Ok(found),
        }
    }

    /// Before a statement with that effect: if it changes settings by set_config, notes which, for the
    /// server to be asked. `texts` are its own, each with its parameters.
    ///
    /// # Errors
    /// As [`settings::check`] for those that Ringway relies on, where it relies on them.
    pub(super) fn check_settings_named(
        &mut self,
        effect: &SessionEffect,
        texts: &[Text<'_>],
    ) -> Result<(), Error> {
        let is_local = match effect {
            SessionEffect::LocalSettings => true,
            SessionEffect::Settings => false,
            SessionEffect::None
            | SessionEffect::Releases
            | SessionEffect::Taint(_)
            | SessionEffect::Pin(_)
            | SessionEffect::DiscardAll => return Ok(()),
        };
        self.check_not_ours(texts)?;
        let (mut known, mut misleads) = (true, false);
        for (sql, params) in texts {
            known &= self.note_custom_settings(sql, params);
            misleads |= self.sets_what_misleads(sql, params);
        }
        if !known
            || self
                .custom_settings
                .iter()
                .any(|name| is_read_at_parse(name))
        {
            self.leave_context();
        } else if self.custom_settings.contains(ENCODING) {
            self.leave_encoded_context();
        }
        if self.db.config.is_sharded() && (!known || misleads) {
            return Err(planner::Refusal::unsupported(
                "this call of set_config on a sharded database",
                "It may change how Ringway has to read what follows.",
                "Use SET, or write the name and a value that SET takes as plain strings.",
            )
            .into());
        }
        // What ends with the transaction is nothing to be asked for.
        self.names_unknown = !known && !is_local;
        Ok(())
    }

    /// # Errors
    /// 0A000 for set_config of a setting of Ringway's own, which PostgreSQL would keep for itself.
    pub(super) fn check_not_ours(&self, texts: &[Text<'_>]) -> Result<(), Error> {
        for (sql, params) in texts {
            let calls = self.readable(sql).and_then(|text| settings_named(&text));
            let mut calls = calls.unwrap_or_default().into_iter();
            let ours = calls.any(|call| {
                let name = told(call.name, params).map(|name| name.to_lowercase());
                is_ours(name.as_deref())
            });
            if ours {
                return Err(planner::Refusal::unsupported(
                    "set_config of a ringway setting",
                    "It is Ringway that has it, and the call is PostgreSQL's.",
                    "Use SET ringway.… or SET LOCAL ringway.…, as a statement of its own.",
                )
                .into());
            }
        }
        Ok(())
    }

    /// The names of custom settings that a text hands to set_config. False when one cannot be told.
    fn note_custom_settings(&mut self, sql: &[u8], params: &[Option<&[u8]>]) -> bool {
        let Some(text) = self.readable(sql) else {
            return false;
        };
        let Some(calls) = settings_named(&text) else {
            return false;
        };
        let exact = matches!(text, Cow::Borrowed(_));
        for call in calls {
            let name = match call.name {
                Argument::Written(name) => Some(name).filter(|name| exact || name.is_ascii()),
                param @ Argument::Param(_) => told(param, params).map(|name| name.to_lowercase()),
            };
            match name {
                Some(name) => {
                    self.custom_settings.insert(name);
                }
                None => return false,
            }
        }
        true
    }

    /// Does a text set what Ringway relies on to a value that [`check`] refuses, or that is not known?
    fn sets_what_misleads(&self, sql: &[u8], params: &[Option<&[u8]>]) -> bool {
        const RELIED_ON: [&str; 4] = [
            "extra_float_digits",
            "search_path",
            "standard_conforming_strings",
            "client_encoding",
        ];
        let catalog = self.db.cluster.catalog();
        let assumed = Assumptions::of(&self.db, &catalog);
        let calls = self.readable(sql).and_then(|text| settings_named(&text));
        calls.unwrap_or_default().into_iter().any(|call| {
            let Some(name) = told(call.name, params).map(|name| name.to_lowercase()) else {
                return false;
            };
            if !RELIED_ON.contains(&name.as_str()) {
                return false;
            }
            // A quote is one here, and no part of a name as SET writes it.
            let value = call.value.and_then(|value| told(value, params));
            value.is_none_or(|value| value.contains('\'') || check(&name, &value, assumed).is_err())
        })
    }

    /// Before a text of several statements: may the settings among them be set, and which will the
    /// server have to be asked for? A part before a COMMIT counts even if the text fails.
    ///
    /// # Errors
    /// As [`Session::check_set`]; 0A000 where several shards would have to hear of it.
    pub(super) fn check_sets(&mut self, known: &[Statement]) -> Result<(), Error> {
        let controls = known.iter().any(Statement::controls_transaction);
        if controls {
            self.lose_track();
        }
        for part in known {
            let set = match part {
                Statement::Set(set) if is_ours(set.name.as_deref()) => return Err(not_alone()),
                Statement::Show(_) => return Err(not_alone()),
                Statement::Set(set) => set,
                _ => continue,
            };
            self.check_set(set)?;
            if self.db.config.is_sharded() && !self.block.is_none() {
                return Err(planner::Refusal::unsupported(
                    "SET among other statements in a transaction on a sharded database",
                    "Every shard of the transaction has to hear of it.",
                    "Send SET by itself.",
                )
                .into());
            }
            let is_read = |name: &String| is_read_at_parse(name) || name == ENCODING;
            if controls && set.name.as_ref().is_none_or(is_read) {
                // It may count for what is parsed in the transaction that is open after this text.
                self.leave_context();
            }
            let custom = set.name.as_ref().filter(|name| name.contains('.'));
            self.custom_settings.extend(custom.cloned());
        }
        Ok(())
    }

    /// A text of several statements has run: what the session has to know of them.
    pub(super) fn follow_multiple(
        &mut self,
        index: usize,
        known: &[Statement],
        effect: &SessionEffect,
    ) -> Result<(), Error> {
        let held = &mut self.leases[index];
        let deallocates = known
            .iter()
            .any(|part| matches!(part, Statement::Deallocate(_)));
        if held.lease.error.is_some() {
            // It is not undone with the rest; who knows how far the text came.
            held.ask_prepared |= deallocates;
            return Ok(());
        }
        held.ran_set |= known.iter().any(|part| matches!(part, Statement::Set(_)));
        for part in known {
            match part {
                Statement::Set(set) if *effect != SessionEffect::Settings => {
                    self.note_set(set, false);
                }
                Statement::Deallocate(None) => {
                    self.batch.forget_statements();
                    self.leases[index].lease.forget_prepared();
                }
                // It may be a name of Ringway's.
                Statement::Deallocate(Some(_)) => self.leases[index].ask_prepared = true,
                Statement::Unlisten(channel) => {
                    self.changes.push(Change::Unlisten(channel.clone()))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Between transactions: what is left of the statements that were prepared under names of
    /// Ringway's.
    pub(super) async fn ask_prepared(&mut self) {
        let held = self.leases.iter_mut().filter(|held| held.ask_prepared);
        for held in held {
            const NAMES: &str = "SELECT name FROM pg_catalog.pg_prepared_statements";
            match ask(&mut held.lease, &format!("{UNLIMITED}{NAMES}")).await {
                Ok(rows) => {
                    let names = rows.into_iter().filter_map(|row| row.into_iter().next());
                    let names: HashSet<Bytes> = names.flatten().collect();
                    held.lease.keep_prepared(&names);
                    held.ask_prepared = false;
                }
                Err(_) => {
                    let doubt = "its prepared statements are not known";
                    held.lease.doubt.get_or_insert(doubt);
                }
            }
        }
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
            let question = format!("{UNLIMITED}{WHAT_IS_LEFT}");
            let Ok(rows) = ask(&mut held.lease, &question).await else {
                continue;
            };
            let left = rows.first().and_then(|row| row.first().cloned()).flatten();
            let is_here = |text: &Arc<Prepared>| held.lease.has_prepared(text.id);
            let pin = match left.as_deref() {
                None => self.unread.iter().any(is_here).then_some(Pin::Unread),
                Some(b"lock") => Some(Pin::AdvisoryLock),
                Some(b"temp") => Some(Pin::Temporary),
                Some(b"cursor") => Some(Pin::HeldCursor),
                Some(b"prepared") => Some(Pin::Prepared),
                Some(b"listen") => Some(Pin::Listen),
                Some(_) => Some(Pin::Unknown),
            };
            held.pinned = pin.map(Pinned::By);
            self.info.tell_pinned(pin.map(Pin::why));
        }
    }

    /// DISCARD ALL took away what pinned, except a library.
    pub(super) fn unpin_discarded(&mut self, index: usize) {
        match self.leases[index].pinned {
            Some(Pinned::By(Pin::Loaded)) | Some(Pinned::Mode) | None => {}
            Some(Pinned::ModeWithState) => self.leases[index].pinned = Some(Pinned::Mode),
            Some(Pinned::By(_)) => {
                self.leases[index].pinned = None;
                self.info.tell_pinned(None);
            }
        }
    }

    /// Tells the client of parameters that are not what it was told last; true if there are any, or if
    /// the primary that logins hear of is of another version now.
    pub(super) fn tell_parameters(&mut self, index: usize) -> bool {
        let held = &mut self.leases[index];
        let greets = held.shard == ShardId(0) && held.home.is_none();
        let lease = &mut held.lease;
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
        let upgraded = match lease.parameters.get(VERSION) {
            Some(version) if greets && told.get(VERSION) != Some(version) => {
                // Not for this client, whose session began with another; but the next is told.
                Arc::make_mut(&mut told).insert(VERSION.to_owned(), version.clone());
                true
            }
            Some(_) | None => false,
        };
        lease.parameters = Arc::clone(&told);
        self.told = told;
        if !news.is_empty() {
            self.emit(&news);
        }
        upgraded || !news.is_empty()
    }
}

/// Asks a question that begins under the client's limits. They may cut short what takes no time.
async fn ask(server: &mut Server, sql: &str) -> Result<Vec<Vec<Option<Bytes>>>, Error> {
    const ATTEMPTS: usize = 10;
    let mut answer = server.ask_hidden(sql).await;
    for _ in 1..ATTEMPTS {
        let timed_out = |error: &Error| error.code == "57014" || error.code == "55P03";
        if !answer.as_ref().is_err_and(timed_out) {
            break;
        }
        answer = server.ask_hidden(sql).await;
    }
    answer
}

fn not_alone() -> Error {
    planner::Refusal::unsupported(
        "a ringway setting among other statements",
        "The text runs whole on one server, which does not know it.",
        "Send SET and SHOW of ringway settings by themselves, or use a comment: \
         /* ringway: primary */ at the start of the text.",
    )
    .into()
}

fn not_read() -> Error {
    Error::new(Fault::Client, "22021", "a setting cannot be read")
}

/// A statement that sets `name`, whatever kind of setting it is.
pub(super) fn set_config(name: &str, value: &str) -> String {
    format!(
        "SELECT pg_catalog.set_config({}, {}, false)",
        quoted(name),
        quoted(value)
    )
}

/// What an argument is, its parameters being `params`.
fn told(argument: Argument, params: &[Option<&[u8]>]) -> Option<String> {
    match argument {
        Argument::Written(text) => Some(text),
        Argument::Param(at) => {
            let bytes = params.get(at).copied().flatten()?;
            String::from_utf8(bytes.to_vec()).ok()
        }
    }
}

/// Means the same in a string constant whatever is set.
pub(super) fn is_plain(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) && byte != b'\\'
}

/// A text as SQL that means the same under any `standard_conforming_strings` and
/// `client_encoding`, both of which are the client's to set: a backslash, or a byte that another
/// encoding takes for the first of two, must not reach a quote.
pub(super) fn quoted(value: &str) -> String {
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
