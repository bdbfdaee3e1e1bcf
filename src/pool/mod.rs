//! Server connections of one (endpoint, database, user): bb8 behind a fair queue.
