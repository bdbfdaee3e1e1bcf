//! One server connection: connect, TLS, authentication, expected replies, cleanup.

pub mod cancel;
pub mod connect;
pub mod scram;
pub mod server;
pub mod tls;
