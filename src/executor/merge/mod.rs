//! Combines the rows of several shards into one result, without I/O.
