//! Shared by the integration tests and benchmarks: everything that needs a real PostgreSQL.
