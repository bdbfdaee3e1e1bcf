//! What is done with statements that concern several shards, by the operator's choice.

use super::reader::Section;

/// Of one kind of statement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    #[default]
    Allow,
    /// It runs, is counted, and the client gets a notice.
    Warn,
    /// It is refused.
    Deny,
}

const POLICIES: [(&str, Policy); 3] = [
    ("allow", Policy::Allow),
    ("warn", Policy::Warn),
    ("deny", Policy::Deny),
];

impl Policy {
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }
}

/// Of one database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policies {
    /// SELECT and COPY TO on several shards.
    pub scatter_reads: Policy,
    /// UPDATE, DELETE and INSERT from a query on several shards. An INSERT of several rows is none: each
    /// of its rows has one shard.
    pub scatter_writes: Policy,
    /// Either of them where no value of the sharding key is given.
    pub missing_key: Policy,
}

pub(super) fn read(section: &Section<'_>) -> Policies {
    let of = |key| section.choice(key, &POLICIES).unwrap_or_default();
    Policies {
        scatter_reads: of("scatter_reads"),
        scatter_writes: of("scatter_writes"),
        missing_key: of("missing_key"),
    }
}
