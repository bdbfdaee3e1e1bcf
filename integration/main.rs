//! What needs a real PostgreSQL: one binary, so that clusters are shared.

mod admin;
mod auth;
mod bad_input;
mod captive;
mod copy;
mod cve;
mod demo;
mod differential;
mod encodings;
mod faults;
mod handover;
mod isolation;
mod keys;
mod leak;
mod lifecycle;
mod login;
mod memory;
mod pooling;
mod replication;
mod reuse;
mod sessions;
mod smoke;
mod split;
mod support;
mod trace;
mod transactions;
