//! Ringway: a PostgreSQL-wire proxy that pools, splits reads from writes and shards.
//!
//! ARCHITECTURE.md is the map; `tests/tidy.rs` holds the import directions.

pub mod admin;
pub mod analyze;
pub mod app;
pub mod backend;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod error;
pub mod executor;
pub mod http;
pub mod import;
pub mod log;
pub mod metrics;
pub mod net;
pub mod pool;
pub mod session;
pub mod spans;
pub mod top;
pub mod wire;
