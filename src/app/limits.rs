//! How many files the process may have open: a client is one, a server connection is another.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// What the process needs beside clients and servers: listeners, runtimes, logs, monitors.
const REST: u64 = 64;

/// Raises the limit as far as the system lets us, and warns when that is too little for what is
/// configured. Beyond it clients are refused, see `accept`.
pub fn raise_open_files(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let limit = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            limit.current
        }
    };
    let needed = needed(config);
    if let Some(limit) = limit.filter(|limit| *limit < needed) {
        tracing::warn!(
            limit,
            needed,
            "too few open files are allowed for max_clients and the pools; \
             raise the limit (LimitNOFILE, ulimit -Hn) or lower max_clients"
        );
    }
}

/// Pools of one user; more users have more.
fn needed(config: &Config) -> u64 {
    let databases = config.databases.values();
    let servers: u64 = databases
        .map(|database| {
            let endpoints = database.shards.iter().map(|shard| shard.endpoints.len());
            endpoints.sum::<usize>() as u64 * u64::from(database.pool.size)
        })
        .sum();
    config.general.max_clients as u64 + servers + REST
}
