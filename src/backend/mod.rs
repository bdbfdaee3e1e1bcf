//! One server connection: connect, TLS, authentication, expected replies, cleanup.

pub mod cancel;
pub mod connect;
mod hidden;
pub mod mailbox;
pub mod scram;
pub mod server;
pub mod tls;
