//! What a transaction changes in its session: settings, and the context in which texts are parsed.
//! Kept when it commits, gone when it does not; where that was not seen, the servers are asked.

use std::sync::Arc;

use planner::plan::{Pin, Savepoint, SetStatement};

use super::Session;
use super::changes::{Change, Ended};
use super::settings::{OF_TRANSACTION, apply_settings, keep_setting, may_be_repeated};
use crate::backend::server::Settings;
use crate::error::Error;
use crate::executor::database::{
    ENCODING, Statement as Text, encoded_context, is_read_at_parse, parse_context,
};

impl Session {
    /// A SET or RESET has succeeded on the servers this session holds. `restored`: they were given
    /// what [`Session::base_of`] says.
    pub(super) fn note_set(&mut self, set: &SetStatement, restored: bool) {
        self.change_context(set);
        let name = set.name.as_deref().unwrap_or_default();
        if set.local || OF_TRANSACTION.contains(&name) {
            return;
        }
        if !may_be_repeated(set) {
            let ran = self.leases.iter_mut().filter(|held| held.ran_set);
            ran.for_each(|held| held.ask_settings = true);
        }
        if set.name.as_ref().is_some_and(|name| !name.is_ascii()) {
            // RESET of it would have to be written in the encoding of whoever comes next.
            for index in 0..self.leases.len() {
                if self.leases[index].ran_set {
                    self.pin(index, Pin::Setting);
                }
            }
        }
        self.changes.set(set.clone(), restored);
    }

    /// What is parsed from here to the end of the transaction is parsed under this setting.
    pub(super) fn change_context(&mut self, set: &SetStatement) {
        const LONGEST: usize = 1024;
        if set.name.as_deref().is_none_or(|name| name == ENCODING) {
            self.leave_encoded_context();
        }
        match (&set.name, &set.value) {
            (Some(name), _) if !is_read_at_parse(name) => {}
            (Some(name), Some(value)) if self.context.len() + value.len() < LONGEST => {
                let change = format!(";{name}={value}");
                let encoded = format!("{}{change}", self.encoded_context).into();
                let context = format!("{}{change}", self.context).into();
                self.enter_context(context, encoded);
                self.context_changed = true;
            }
            (Some(_) | None, _) => self.leave_context(),
        }
    }

    fn enter_context(&mut self, context: Arc<str>, encoded: Arc<str>) {
        self.makes_temporary = context.to_ascii_lowercase().contains("pg_temp");
        self.context = context;
        self.encoded_context = encoded;
    }

    /// What is parsed from here on is parsed under the session's settings.
    pub(super) fn enter_base_context(&mut self) {
        let context = parse_context(&self.settings);
        let encoded = encoded_context(&context, &self.settings);
        self.enter_context(context, encoded);
    }

    /// The context of a statement with this text.
    pub(super) fn context_of(&self, sql: &[u8]) -> &Arc<str> {
        match sql.is_ascii() {
            true => &self.context,
            false => &self.encoded_context,
        }
    }

    /// Was it parsed as it would be now? No text is of both contexts.
    pub(super) fn is_in_context(&self, statement: &Text) -> bool {
        *statement.context == *self.context || *statement.context == *self.encoded_context
    }

    /// Of texts with other characters than ASCII, none that is parsed from here to the end of the
    /// transaction is shared.
    pub(super) fn leave_encoded_context(&mut self) {
        self.encoded_context = self.db.own_context().into();
        self.context_changed = true;
    }

    /// What is parsed from here to the end of the transaction has a meaning of its own.
    pub(super) fn leave_context(&mut self) {
        self.context = self.db.own_context().into();
        self.encoded_context = self.db.own_context().into();
        self.makes_temporary = true;
        self.context_changed = true;
    }

    /// What was set after the savepoint is so no more.
    pub(super) fn follow_context(&mut self, savepoint: &Savepoint) {
        if self.context_changed && matches!(savepoint, Savepoint::RollbackTo(_)) {
            self.leave_context();
        }
    }

    fn restore_context(&mut self) {
        if std::mem::take(&mut self.context_changed) {
            self.enter_base_context();
        }
    }

    /// A statement about a savepoint has succeeded.
    pub(super) fn note_savepoint(&mut self, savepoint: &Savepoint) {
        self.follow_context(savepoint);
        if let Savepoint::RollbackTo(_) = savepoint {
            self.batch.own_catalog = None;
        }
        let undone = self.changes.follow(savepoint);
        self.forget_listens(&undone);
    }

    /// As [`Session::note_savepoint`], where it is the whole transaction's.
    pub(super) fn follow_savepoint(&mut self, savepoint: &Savepoint) {
        self.note_savepoint(savepoint);
        self.cursors_follow(savepoint);
    }

    /// Cursors that were made after a savepoint go with what it undoes.
    pub(super) fn cursors_follow(&mut self, savepoint: &Savepoint) {
        if self.db.config.is_sharded() {
            self.cursors.follow(savepoint);
        }
    }

    /// At the end of a transaction: its changes become the session's, or vanish with it.
    pub(super) fn keep_changes(&mut self) {
        self.restore_context();
        if self.changes.are_none() {
            return;
        }
        let mut ran = self
            .leases
            .iter()
            .filter(|held| held.ran_set || held.in_block);
        if ran.any(|held| held.lease.tag == b"ROLLBACK" || held.lease.error.is_some()) {
            self.drop_changes();
            return;
        }
        let Ended { made: changes, .. } = self.end_changes();
        self.keep_listens(&changes);
        let is_set = |change: &Change| matches!(change, Change::Set(_) | Change::Restored(_));
        if !changes.iter().any(is_set) {
            return;
        }
        let mut settings = Settings::clone(&self.settings);
        // What these servers have now: to them RESET means their own default.
        let mut applied = settings.clone();
        let no_base = Settings::default();
        for change in &changes {
            let (set, there) = match change {
                Change::Set(set) => (set, &no_base),
                Change::Restored(set) => (set, &self.base),
                Change::Listen(_) | Change::Unlisten(_) => continue,
            };
            keep_setting(&mut settings, &self.base, set);
            keep_setting(&mut applied, there, set);
        }
        let applied = Arc::new(applied);
        self.settings = match settings == *applied {
            true => Arc::clone(&applied),
            false => Arc::new(settings),
        };
        self.enter_base_context();
        for held in self.leases.iter_mut().filter(|held| held.ran_set) {
            held.lease.applied = Arc::clone(&applied);
        }
    }

    /// The open transaction is undone.
    pub(super) fn drop_changes(&mut self) {
        self.restore_context();
        let ended = self.end_changes();
        match ended.lost_track {
            // The hub listens, so no server can tell: better a notification too many than one too few.
            true => self.keep_listens(&ended.listens()),
            false => self.forget_listens(&ended.made),
        }
    }

    /// Takes what the transaction changed. Where only the servers can tell what holds of it, they
    /// will be asked for every setting that it named.
    fn end_changes(&mut self) -> Ended {
        let ended = self.changes.take();
        if ended.lost_track && !ended.names.is_empty() {
            let ran = self.leases.iter_mut();
            ran.filter(|held| held.ran_set || held.in_block)
                .for_each(|held| held.ask_settings = true);
        }
        if self.leases.iter().any(|held| held.ask_settings) {
            self.custom_settings.extend(ended.names.iter().cloned());
        }
        ended
    }

    /// A part of the transaction has begun or ended, or may have, in a way that is not followed.
    pub(super) fn lose_track(&mut self) {
        self.changes.lose_track();
        if self.context_changed {
            self.leave_context();
        }
    }

    /// After RESET or DISCARD ALL, a server that stays with this client gets the settings of its
    /// startup packet back. One that cannot is closed.
    pub(super) async fn restore_settings(&mut self) {
        if !self.block.is_none() {
            return;
        }
        for held in &mut self.leases {
            if apply_settings(&mut held.lease, &self.settings)
                .await
                .is_err()
            {
                held.lease
                    .doubt
                    .get_or_insert("it refused its client's settings");
            }
        }
    }

    /// DISCARD ALL for a client with startup settings of its own: between it and them the server has
    /// its own defaults, of which the client is not told. An exchange of ours; what came before in the
    /// protocol has ended.
    ///
    /// # Errors
    /// What the server says of it.
    pub(super) async fn discard_quietly(&mut self, index: usize) -> Result<(), Error> {
        let lease = &mut self.leases[index].lease;
        lease.settle().await?;
        lease.run_hidden("DISCARD ALL").await?;
        self.discard_all(index);
        self.restore_settings().await;
        for index in 0..self.leases.len() {
            self.tell_parameters(index);
        }
        Ok(())
    }

    /// DISCARD ALL has succeeded: everything is as at the start.
    pub(super) fn discard_all(&mut self, index: usize) {
        self.settings = Arc::new(self.base.clone());
        self.enter_base_context();
        self.batch.forget_statements();
        self.drop_changes();
        self.unlisten_all();
        self.unpin_discarded(index);
        self.discard_cursors(index);
        let lease = &mut self.leases[index].lease;
        lease.forget_prepared();
        lease.applied = Arc::default();
    }
}
