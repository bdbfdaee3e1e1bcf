//! The words of labels: what was decided about statements, blocks and reads, and why.

use super::Word;

/// What a policy did to a statement on several shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyHit {
    ReadWarned,
    ReadDenied,
    WriteWarned,
    WriteDenied,
    MissingKeyWarned,
    MissingKeyDenied,
}

impl Word for PolicyHit {
    const ALL: &'static [Self] = &[
        Self::ReadWarned,
        Self::ReadDenied,
        Self::WriteWarned,
        Self::WriteDenied,
        Self::MissingKeyWarned,
        Self::MissingKeyDenied,
    ];

    fn index(self) -> usize {
        self as usize
    }
}

impl PolicyHit {
    /// The key of the configuration, and what was done.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::ReadWarned => ("scatter_reads", "warn"),
            Self::ReadDenied => ("scatter_reads", "deny"),
            Self::WriteWarned => ("scatter_writes", "warn"),
            Self::WriteDenied => ("scatter_writes", "deny"),
            Self::MissingKeyWarned => ("missing_key", "warn"),
            Self::MissingKeyDenied => ("missing_key", "deny"),
        }
    }
}

/// What a server was to its shard when it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica,
}

impl Role {
    /// The value of `role`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

/// How a statement was executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// On one shard, text and answer untouched.
    Direct,
    /// On several shards, their rows merged.
    Merge,
    /// Over rows gathered from several shards, on one of them.
    Gather,
    /// On several shards, answered with one tag.
    Broadcast,
    /// Nowhere: refused before anything ran.
    Refused,
    /// Answered by Ringway itself.
    Local,
}

impl Word for RouteKind {
    const ALL: &'static [Self] = &[
        Self::Direct,
        Self::Merge,
        Self::Gather,
        Self::Broadcast,
        Self::Refused,
        Self::Local,
    ];

    fn index(self) -> usize {
        self as usize
    }
}

impl RouteKind {
    /// The value of `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Merge => "merge",
            Self::Gather => "gather",
            Self::Broadcast => "broadcast",
            Self::Refused => "refused",
            Self::Local => "local",
        }
    }
}

/// Who answered a read, and why: what the balancer says, and what the session adds to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBy {
    /// A replica that was fresh enough.
    FreshReplica,
    /// A replica, in a transaction that began on it.
    ReplicaTransaction,
    /// A replica, in a transaction that has not written yet.
    UntilWrite,
    /// The primary: reads are not split.
    SplitOff,
    /// The primary: the shard has no replicas.
    NoReplica,
    /// The primary: every replica is down or behind.
    NoneEligible,
    /// The primary: the position of the session's own write is not known yet.
    MarkUnresolved,
    /// The primary: no replica has replayed the session's own write.
    NotCaughtUp,
    /// The primary: no replica is known to have what the session saw before.
    SeenNewer,
    /// The primary: it takes its share.
    Share,
    /// The primary: inside a transaction that may write.
    Transaction,
    /// The primary: the session's transactions are serializable by default.
    Serializable,
    /// The primary: what the session keeps on its connection there may matter.
    Pinned,
    /// The primary: the client asked for it.
    Hint,
}

impl Word for ReadBy {
    const ALL: &'static [Self] = &[
        Self::FreshReplica,
        Self::ReplicaTransaction,
        Self::UntilWrite,
        Self::SplitOff,
        Self::NoReplica,
        Self::NoneEligible,
        Self::MarkUnresolved,
        Self::NotCaughtUp,
        Self::SeenNewer,
        Self::Share,
        Self::Transaction,
        Self::Serializable,
        Self::Pinned,
        Self::Hint,
    ];

    fn index(self) -> usize {
        self as usize
    }
}

impl ReadBy {
    /// A sentence for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::FreshReplica => "A replica was fresh enough.",
            Self::ReplicaTransaction => "The transaction began on a replica.",
            Self::UntilWrite => "The transaction reads on a replica until it writes.",
            Self::SplitOff => "Reads are not split.",
            Self::NoReplica => "The shard has no replicas.",
            Self::NoneEligible => "Every replica is down, behind max_lag or of another timeline.",
            Self::MarkUnresolved => "Where the session's last write ended is not known yet.",
            Self::NotCaughtUp => "No replica has replayed what the session wrote.",
            Self::SeenNewer => "No replica is known to have what the session saw before.",
            Self::Share => "The primary takes its share (primary_reads = \"always\").",
            Self::Transaction => "The transaction may write.",
            Self::Serializable => "The session's transactions are serializable by default.",
            Self::Pinned => "The session keeps state there: a temporary table, a lock, a cursor.",
            Self::Hint => "The client asked for it.",
        }
    }

    /// The values of `role` and `reason`.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::FreshReplica => ("replica", "fresh_replica"),
            Self::ReplicaTransaction => ("replica", "transaction"),
            Self::UntilWrite => ("replica", "until_write"),
            Self::SplitOff => ("primary", "split_off"),
            Self::NoReplica => ("primary", "no_replica"),
            Self::NoneEligible => ("primary", "none_eligible"),
            Self::MarkUnresolved => ("primary", "mark_unresolved"),
            Self::NotCaughtUp => ("primary", "not_caught_up"),
            Self::SeenNewer => ("primary", "seen_newer"),
            Self::Share => ("primary", "share"),
            Self::Transaction => ("primary", "transaction"),
            Self::Serializable => ("primary", "serializable"),
            Self::Pinned => ("primary", "pinned"),
            Self::Hint => ("primary", "hint"),
        }
    }
}

/// Where a transaction block reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    Primary,
    ReadOnly,
    UntilWrite,
    /// It began as `UntilWrite`, and has moved.
    Moved,
}

impl Word for BlockKind {
    const ALL: &'static [Self] = &[Self::Primary, Self::ReadOnly, Self::UntilWrite, Self::Moved];

    fn index(self) -> usize {
        self as usize
    }
}

impl BlockKind {
    /// The value of `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::ReadOnly => "read_only",
            Self::UntilWrite => "until_write",
            Self::Moved => "moved",
        }
    }

    /// A sentence for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Primary => "It may write, and reads on the primary.",
            Self::ReadOnly => "It is READ ONLY, and reads on a replica where one is fresh enough.",
            Self::UntilWrite => "It reads on a replica until it writes.",
            Self::Moved => "It read on a replica, and went on at the primary.",
        }
    }
}

/// Why a statement was sent to another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The server is a standby and refused what turned out to write.
    ReadOnly,
    /// A standby cancelled it to go on with its recovery.
    Conflict,
    /// The server shut down, or was restarted.
    ShutDown,
    /// The connection was lost, and the server cannot be reached.
    Lost,
    /// Nothing had been sent yet.
    Unsent,
}

impl Word for Retry {
    const ALL: &'static [Self] = &[
        Self::ReadOnly,
        Self::Conflict,
        Self::ShutDown,
        Self::Lost,
        Self::Unsent,
    ];

    fn index(self) -> usize {
        self as usize
    }
}

impl Retry {
    /// The value of `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::Conflict => "recovery_conflict",
            Self::ShutDown => "shut_down",
            Self::Lost => "lost",
            Self::Unsent => "unsent",
        }
    }

    /// A sentence for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::ReadOnly => "The server was a standby, and the statement writes.",
            Self::Conflict => "The replica cancelled it to go on with its recovery.",
            Self::ShutDown => "The server shut down, or restarted after a crash.",
            Self::Lost => "The connection was lost, and the server cannot be reached.",
            Self::Unsent => "The server turned out to be gone before anything was sent.",
        }
    }
}
