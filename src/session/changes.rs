//! What the open transaction changes in its session: kept if it commits, gone if it does not.

use planner::plan::{Savepoint, SetStatement};

use crate::error::{Error, Fault};

/// Changes remembered in one transaction.
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
}

impl Changes {
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

    pub(super) fn is_empty(&self) -> bool {
        self.made.is_empty()
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
                    undone.retain(|change| !self.made.contains(change));
                    return undone;
                }
            }
        }
        Vec::new()
    }

    /// At the end of the transaction.
    pub(super) fn take(&mut self) -> Vec<Change> {
        if !self.savepoints.is_empty() {
            self.savepoints = Vec::new();
        }
        std::mem::take(&mut self.made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(changes.take(), [listen("1")]);
        assert!(changes.is_empty() && changes.savepoints.is_empty());
    }
}
