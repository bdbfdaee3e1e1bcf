//! How what several shards wrote is committed.

use std::time::Duration;

use super::reader::Section;

/// Of a write on several shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MultiShardCommit {
    /// On all or on none, by two-phase commit; refused where that is not possible.
    #[default]
    Atomic,
    /// One shard after the other: a failure between two leaves some with the change.
    BestEffort,
}

impl MultiShardCommit {
    pub fn name(self) -> &'static str {
        match self {
            Self::Atomic => "atomic",
            Self::BestEffort => "best_effort",
        }
    }
}

/// Of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitSettings {
    pub mode: MultiShardCommit,
    /// How often the shards are asked for prepared transactions that nobody finishes.
    pub recovery_interval: Duration,
    /// How long a statement whose transaction is on several shards may wait for a lock of who is not of this
    /// process; `None` is for ever.
    pub deadlock_timeout: Option<Duration>,
    /// How long decisions are kept at least, for clients that ask what became of a COMMIT.
    pub retention: Duration,
}

impl Default for CommitSettings {
    fn default() -> Self {
        Self {
            mode: MultiShardCommit::Atomic,
            recovery_interval: Duration::from_secs(1),
            retention: Duration::from_secs(600),
            deadlock_timeout: Some(Duration::from_secs(5)),
        }
    }
}

impl CommitSettings {
    /// How long a process counts as alive after its last sign of life.
    pub fn lease(&self) -> Duration {
        self.recovery_interval * 3
    }
}

pub(super) fn read(section: &Section<'_>) -> CommitSettings {
    let default = CommitSettings::default();
    let modes = [MultiShardCommit::Atomic, MultiShardCommit::BestEffort];
    let modes = modes.map(|mode| (mode.name(), mode));
    let number = |key, range| section.integer(key, range).map(u64::from);
    CommitSettings {
        mode: section
            .choice("multi_shard_commit", &modes)
            .unwrap_or(default.mode),
        recovery_interval: number("recovery_interval_ms", 100..=60_000)
            .map_or(default.recovery_interval, Duration::from_millis),
        retention: number("decision_retention_s", 1..=604_800)
            .map_or(default.retention, Duration::from_secs),
        deadlock_timeout: match number("cross_shard_deadlock_timeout_ms", 0..=3_600_000) {
            None => default.deadlock_timeout,
            Some(0) => None,
            Some(limit) => Some(Duration::from_millis(limit)),
        },
    }
}
