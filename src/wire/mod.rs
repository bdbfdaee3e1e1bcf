//! Bytes <-> messages. Frames pass undecoded where nothing must be known.

pub mod conn;
pub mod frame;
pub mod frontend;
pub mod startup;
pub mod write;
