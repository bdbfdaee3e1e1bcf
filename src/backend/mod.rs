//! One server connection: connect, TLS, authentication, expected replies, cleanup.

pub mod connect;
pub mod server;
