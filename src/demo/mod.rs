//! A real sharded cluster on this machine, from the PostgreSQL that is installed.

pub mod captive;
