//! Words of how writes on several shards were committed.

use super::Word;

/// How a write on several shards was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitKind {
    /// No more than one shard had written anything.
    OnePhase,
    TwoPhase,
    /// One shard after the other.
    BestEffort,
}

impl Word for CommitKind {
    const ALL: &'static [Self] = &[Self::OnePhase, Self::TwoPhase, Self::BestEffort];

    fn index(self) -> usize {
        self as usize
    }
}

impl CommitKind {
    /// The value of `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnePhase => "one_phase",
            Self::TwoPhase => "two_phase",
            Self::BestEffort => "best_effort",
        }
    }
}

/// What became of a prepared transaction that its coordinator had not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    Committed,
    RolledBack,
    /// This attempt; there is another each second.
    Failed,
}

impl Word for Recovery {
    const ALL: &'static [Self] = &[Self::Committed, Self::RolledBack, Self::Failed];

    fn index(self) -> usize {
        self as usize
    }
}

impl Recovery {
    /// The value of `outcome`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
        }
    }
}
