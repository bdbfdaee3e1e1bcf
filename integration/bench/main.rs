//! Proxy CPU, throughput and latency beside PgBouncer, a byte forwarder and no proxy at all.

fn main() {}
