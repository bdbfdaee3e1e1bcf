//! What the open transaction changes in its session: kept if it commits, gone if it does not.

use std::collections::BTreeSet;

use planner::plan::{Savepoint, SetStatement};

use crate::error::{Error, Fault};

/// LISTEN and UNLISTEN remembered in one transaction.
const MAX_CHANGES: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Set(SetStatement),
    /// RESET, after which the servers were given the client's startup settings again.
    Restored(SetStatement),
    /// A channel that is listened to already, but not yet for this client.
    Listen(String),
    /// `None` is every channel.
    Unlisten(Option<String>),
}

/// In the order of the statements, with the savepoints that may undo a part of them.
#[derive(Debug, Default)]
pub(super) struct Changes {
    made: Vec<Change>,
    /// By name, how many changes had been made when it was defined.
    savepoints: Vec<(String, usize)>,
    /// Names of all settings that were changed since the transaction began, also by what a savepoint
    /// has undone; empty for RESET ALL.
    names: BTreeSet<String>,
    /// Part of the transaction began or ended where it was not seen: which of the changes hold is for
    /// the servers to say.
    lost_track: bool,
    /// What the settings among them count for, see [`charge`].
    bytes: usize,
}

/// What a SET counts for as long as it is remembered, in bytes.
pub(super) fn charge(set: &SetStatement) -> usize {
    const EACH: usize = 64;
    let lengths = [&set.name, &set.value].map(|text| text.as_ref().map_or(0, String::len));
    EACH + lengths.iter().sum::<usize>()
}

/// What a transaction has changed, once it is over.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) made: Vec<Change>,
    /// As [`Changes::names`].
    pub(super) names: BTreeSet<String>,
    pub(super) lost_track: bool,
}

impl Change {
    fn setting(&self) -> Option<&SetStatement> {
        match self {
            Self::Set(set) | Self::Restored(set) => Some(set),
            Self::Listen(_) | Self::Unlisten(_) => None,
        }
    }
}

impl Ended {
    /// Of what it made, LISTEN.
    pub(super) fn listens(self) -> Vec<Change> {
        let mut made = self.made;
        made.retain(|change| matches!(change, Change::Listen(_)));
        made
    }
}

impl Changes {
    /// The channels that LISTEN asks for, unless UNLISTEN follows.
    pub(super) fn channels(&self) -> BTreeSet<&String> {
        let mut channels = BTreeSet::new();
        for change in &self.made {
            match change {
                Change::Listen(channel) => {
                    channels.insert(channel);
                }
                Change::Unlisten(Some(channel)) => {
                    channels.remove(channel);
                }
                Change::Unlisten(None) => channels.clear(),
                Change::Set(_) | Change::Restored(_) => {}
            }
        }
        channels
    }

    /// # Errors
    /// 54000 when there are too many.
    pub(super) fn push(&mut self, change: Change) -> Result<(), Error> {
        if self.made.len() >= MAX_CHANGES {
            let message = "too many session changes in one transaction";
            return Err(Error::new(Fault::Client, "54000", message)
                .detail(format!("A transaction may have {MAX_CHANGES} of them."))
                .hint("Commit more often."));
        }
        self.made.push(change);
        Ok(())
    }

    /// A SET or RESET has succeeded; `restored` as in [`Change`]. It takes the place of an earlier one
    /// of that name, unless a savepoint may bring that back. How much there is of them is checked
    /// before they run.
    pub(super) fn set(&mut self, set: SetStatement, restored: bool) {
        self.names.insert(set.name.clone().unwrap_or_default());
        let start = self.savepoints.last().map_or(0, |(_, start)| *start);
        let earlier = |change: &Change| change.setting().is_some_and(|it| it.name == set.name);
        if let Some(at) = self.made.iter().skip(start).position(earlier) {
            let replaced = self.made.remove(start + at);
            self.bytes -= replaced.setting().map_or(0, charge);
        }
        self.bytes += charge(&set);
        self.made.push(match restored {
            true => Change::Restored(set),
            false => Change::Set(set),
        });
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn lose_track(&mut self) {
        self.lost_track = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// There is nothing to be done at the end of the transaction.
    pub(super) fn are_none(&self) -> bool {
        self.made.is_empty() && self.names.is_empty() && !self.lost_track
    }

    /// A statement about a savepoint has succeeded. Answers what it has undone for good.
    pub(super) fn follow(&mut self, savepoint: &Savepoint) -> Vec<Change> {
        let place = |name: &str| self.savepoints.iter().rposition(|(known, _)| known == name);
        match savepoint {
            Savepoint::Define(name) => self.savepoints.push((name.clone(), self.made.len())),
            Savepoint::Release(name) => {
                let place = place(name).unwrap_or(self.savepoints.len());
                self.savepoints.truncate(place);
            }
            Savepoint::RollbackTo(name) => {
                if let Some(place) = place(name) {
                    let mut undone = self.made.split_off(self.savepoints[place].1);
                    self.savepoints.truncate(place + 1);
                    let settings = undone.iter().filter_map(Change::setting);
                    self.bytes -= settings.map(charge).sum::<usize>();
                    undone.retain(|change| !self.made.contains(change));
                    return undone;
                }
            }
        }
        Vec::new()
    }

    /// At the end of the transaction.
    pub(super) fn take(&mut self) -> Ended {
        if !self.savepoints.is_empty() {
            self.savepoints = Vec::new();
        }
        self.bytes = 0;
        Ended {
            made: std::mem::take(&mut self.made),
            names: std::mem::take(&mut self.names),
            lost_track: std::mem::take(&mut self.lost_track),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> SetStatement {
        SetStatement {
            local: false,
            name: Some(name.to_owned()),
            value: Some(value.to_owned()),
        }
    }

    #[test]
    fn of_one_setting_only_what_a_savepoint_may_bring_back_is_kept() {
        let mut changes = Changes::default();
        for n in 0..100 {
            changes.set(set("a", &n.to_string()), false);
        }
        changes.set(set("b", "1"), false);
        changes.follow(&Savepoint::Define("s".to_owned()));
        let before = changes.bytes();
        for n in 100..200 {
            changes.set(set("a", &n.to_string()), false);
        }
        let made = |changes: &Changes| -> Vec<_> {
            let settings = changes.made.iter().filter_map(Change::setting);
            settings.map(|set| set.value.clone().unwrap()).collect()
        };
        assert_eq!(made(&changes), ["99", "1", "199"]);
        assert!(changes.bytes() > before);
        changes.follow(&Savepoint::RollbackTo("s".to_owned()));
        assert_eq!(made(&changes), ["99", "1"]);
        assert_eq!(changes.bytes(), before);
    }

    fn listen(channel: &str) -> Change {
        Change::Listen(channel.to_owned())
    }

    #[test]
    fn savepoints_undo_what_came_after_them() {
        let mut changes = Changes::default();
        let (a, b) = (|| "a".to_owned(), || "b".to_owned());
        changes.push(listen("1")).unwrap();
        changes.follow(&Savepoint::Define(a()));
        changes.push(listen("2")).unwrap();
        changes.follow(&Savepoint::Define(b()));
        changes.push(listen("3")).unwrap();
        changes.follow(&Savepoint::RollbackTo(b()));
        changes.push(listen("4")).unwrap();
        changes.follow(&Savepoint::RollbackTo(b()));
        changes.follow(&Savepoint::Release(b()));
        // Its name is gone, and what came after it belongs to the one before.
        changes.follow(&Savepoint::RollbackTo(b()));
        assert_eq!(changes.made, [listen("1"), listen("2")]);
        changes.push(listen("1")).unwrap();
        let undone = changes.follow(&Savepoint::RollbackTo(a()));
        assert_eq!(undone, [listen("2")]);
        assert_eq!(changes.take().made, [listen("1")]);
        assert!(changes.are_none() && changes.savepoints.is_empty());
    }

    #[test]
    fn a_setting_is_known_by_name_though_a_savepoint_has_undone_it() {
        let mut changes = Changes::default();
        changes.follow(&Savepoint::Define("s".to_owned()));
        changes.set(set("app.user", "me"), false);
        changes.follow(&Savepoint::RollbackTo("s".to_owned()));
        changes.lose_track();
        let ended = changes.take();
        assert!(ended.made.is_empty() && ended.lost_track);
        assert_eq!(ended.names, BTreeSet::from(["app.user".to_owned()]));
    }
}
