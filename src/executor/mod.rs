//! Runs a route: on one shard, on several with a merge, on all.

pub mod broadcast;
pub mod copy;
pub mod cursor;
pub mod database;
pub mod describe;
pub mod gather;
pub mod gathered_write;
pub mod insertion;
pub mod listen;
pub mod merge;
pub mod moves;
pub mod participants;
pub mod plans;
pub mod pools;
pub mod primary;
pub mod relay;
mod roles;
pub mod scatter;
mod two_phase;
