//! Ringway's planner: (SQL, catalog) -> plan, (plan, values, topology) -> route.
//!
//! Pure by construction: no I/O, no clock, no randomness, no async. Everything
//! it knows arrives as an argument; everything it decides leaves as a value.
//! It never panics, whatever the text.

pub mod catalog;
pub mod copy;
pub mod digest;
pub mod explain;
pub mod explained;
pub mod gather;
pub mod hash;
pub mod ids;
pub mod insertion;
mod key;
mod lexer;
pub mod limit;
pub mod merge;
pub mod moving;
mod named;
mod place;
pub mod placement;
pub mod plan;
pub mod refusal;
pub mod ring;
pub mod route;
pub mod shape;
pub mod split;
pub mod topology;

pub use catalog::Catalog;
pub use digest::digest;
pub use key::{shard_of_key, slot_of_row};
pub use lexer::{leading_words, names_parameter, tells_transaction_time};
pub use named::{NamedKey, named_keys};
pub use plan::prepared::{Constant, constant};
pub use plan::settings::{Argument, SettingCall, settings_named};
pub use plan::{Plan, may_read_tables, may_write, statements, worse_access, worse_effect};
pub use refusal::Refusal;
pub use route::{Route, Values, route};
pub use topology::{ShardId, ShardSet, Topology};
