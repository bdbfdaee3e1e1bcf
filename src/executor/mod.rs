//! Runs a route: on one shard, on several with a merge, on all.

pub mod merge;
