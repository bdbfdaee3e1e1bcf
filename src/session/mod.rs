//! One client: startup, simple and extended protocol, copy, prepared statements, settings.

pub mod auth;
pub mod startup;
