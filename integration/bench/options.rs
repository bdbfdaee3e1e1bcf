//! The command line of the benchmark.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

/// Measures what Ringway costs beside PgBouncer, a bare byte forwarder and no proxy at all.
#[derive(Debug, Parser)]
#[command(name = "proxy", args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub hidden: Option<Hidden>,
    #[command(flatten)]
    pub options: Options,
}

/// What this program runs of itself as processes of their own.
#[derive(Debug, Subcommand)]
pub enum Hidden {
    /// Forward bytes, until killed
    #[command(hide = true)]
    Forward { listen: SocketAddr, to: SocketAddr },
}

#[derive(Debug, clap::Args, Serialize)]
pub struct Options {
    /// About three minutes instead of twenty: 2 rounds of 1 second
    #[arg(long)]
    pub quick: bool,
    /// Rounds in which the peers take turns [default: 5, or 2 with --quick]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// Seconds of each pgbench run [default: 3, or 1 with --quick]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: Option<u32>,
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::ALL)]
    pub parts: Vec<Part>,
    /// Query protocols
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Mode::ALL)]
    pub modes: Vec<Mode>,
    /// Clients at once
    #[arg(long, value_delimiter = ',', value_name = "COUNT", default_values_t = [1, 16, 64])]
    pub clients: Vec<u32>,
    /// Clients that connect and then do nothing
    #[arg(long, value_name = "COUNT", default_value_t = 5_000)]
    pub idle_clients: u32,
    /// Where to write the results as JSON
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// What `cargo bench` passes to every benchmark
    #[arg(long, hide = true)]
    #[serde(skip)]
    pub bench: bool,
}

impl Options {
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 })
    }

    pub fn does(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    pub fn seconds(&self) -> u32 {
        self.seconds.unwrap_or(if self.quick { 1 } else { 3 })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// pgbench -S with the clients asked for
    Queries,
    /// 1,000 clients on 20 server connections
    Crowd,
    /// Large results and COPY
    Bulk,
    /// Connections with SCRAM, and with TLS and SCRAM
    Logins,
    /// What freshness adds to a write
    Freshness,
    /// What it takes to commit on several shards
    Commits,
    /// The first 20 rows of 2 and 4 shards, and 10 million rows in order
    Merge,
    /// A database of 10,000 tables, from the start to its first answer
    Catalog,
    /// Memory of idle clients
    Idle,
}

impl Part {
    pub const ALL: [Self; 9] = [
        Self::Queries,
        Self::Crowd,
        Self::Bulk,
        Self::Logins,
        Self::Freshness,
        Self::Commits,
        Self::Merge,
        Self::Catalog,
        Self::Idle,
    ];
}

/// How pgbench sends a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Simple,
    Extended,
    Prepared,
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::Simple, Self::Extended, Self::Prepared];

    /// As `pgbench -M` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
        }
    }
}
