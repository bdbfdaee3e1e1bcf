//! `ringway analyze` and `ringway advise`: what a sharded database would do with the statements of a log.
//!
//! Here is what is pure: statements in, labels and proposals out. `app/analyze.rs` reads files and servers.

pub mod advise;
mod csv;
pub mod input;
pub mod label;
pub mod report;
