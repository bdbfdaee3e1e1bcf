//! What is told of the settings that are not in the new configuration as they were in the old one.

use std::cell::RefCell;
use std::fmt;

/// What became of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Known, and not in the new configuration.
    Dropped,
    /// In the new configuration with another value, or with another meaning.
    Changed,
    /// Not known here, and so not in the new configuration.
    Unknown,
}

impl Kind {
    /// The line above the notes of this kind.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Dropped => "Not carried over:",
            Self::Changed => "Carried over with a difference:",
            Self::Unknown => "Unknown to this version of Ringway, and not carried over:",
        }
    }
}

/// One remark, on all settings of which the same is to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub kind: Kind,
    /// Where each stands and what it says, such as `pgbouncer.ini line 7: logfile = x`.
    pub settings: Vec<String>,
    pub why: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.settings.join("; "))?;
        if !self.why.is_empty() {
            write!(f, " - {}", self.why)?;
        }
        Ok(())
    }
}

/// The notes so far.
#[derive(Debug, Default)]
pub(in crate::import) struct Notes(RefCell<Vec<Note>>);

impl Notes {
    pub(in crate::import) fn dropped(&self, setting: impl Into<String>, why: impl Into<String>) {
        self.add(Kind::Dropped, setting.into(), why.into());
    }

    pub(in crate::import) fn changed(&self, setting: impl Into<String>, why: impl Into<String>) {
        self.add(Kind::Changed, setting.into(), why.into());
    }

    pub(in crate::import) fn unknown(&self, setting: impl Into<String>) {
        self.add(Kind::Unknown, setting.into(), String::new());
    }

    fn add(&self, kind: Kind, setting: String, why: String) {
        let mut notes = self.0.borrow_mut();
        let same = |note: &&mut Note| note.kind == kind && note.why == why;
        match notes.iter_mut().find(same) {
            Some(note) if note.settings.contains(&setting) => {}
            Some(note) => note.settings.push(setting),
            None => notes.push(Note {
                kind,
                settings: vec![setting],
                why,
            }),
        }
    }

    /// By kind, else in the order in which they were made.
    pub(in crate::import) fn into_vec(self) -> Vec<Note> {
        let mut notes = self.0.into_inner();
        notes.sort_by_key(|note| note.kind);
        notes
    }
}
