//! Memory that statements hold while they merge or gather the rows of shards.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What all statements of a database hold, and the most that one has held.
#[derive(Debug, Default)]
pub struct MergeMemory {
    held: AtomicU64,
    peak: AtomicU64,
}

impl MergeMemory {
    /// A statement holds so many bytes more.
    pub fn take(&self, bytes: u64) {
        self.held.fetch_add(bytes, Relaxed);
    }

    /// It gave these back.
    pub fn give_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Relaxed);
    }

    /// It is done, and had held so much.
    pub fn done(&self, most: u64) {
        self.peak.fetch_max(most, Relaxed);
    }

    /// In bytes: held now, and the most that one statement has held.
    pub fn usage(&self) -> (u64, u64) {
        (self.held.load(Relaxed), self.peak.load(Relaxed))
    }
}
