//! What needs a real PostgreSQL: one binary, so that clusters are shared.

mod admin;
mod auth;
mod bad_input;
mod captive;
mod copy;
mod demo;
mod differential;
mod faults;
mod isolation;
mod keys;
mod memory;
mod pooling;
mod sessions;
mod smoke;
mod split;
mod support;
mod trace;
mod transactions;
