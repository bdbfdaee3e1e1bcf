//! The command line: what may be written, not what it does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A PostgreSQL-wire proxy: pools connections, reads from fresh replicas, shards provably right.
#[derive(Debug, Parser, PartialEq, Eq)]
#[command(name = "ringway", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand, PartialEq, Eq)]
pub enum Command {
    /// Serve clients until SIGTERM or Ctrl-C; SIGHUP applies a changed configuration
    Serve(Serve),
    /// Tell every mistake in the configuration, then in what the servers look like
    ///
    /// Exits with 0 when all is well, with 1 otherwise.
    Check(Check),
    /// Make schema ringway on every shard: workers of ids, and an epoch of the schema
    ///
    /// Needs no superuser, only CREATE on the database. What is there already stays as it is.
    Init(Init),
    /// Print where a statement would run, and why
    Explain(Explain),
    /// Show in the terminal what a running process is at: servers, pools, throughput, latency
    ///
    /// Reads /status.json of the HTTP port. q or Ctrl-C quits, arrows scroll.
    Top(Top),
    /// Make a configuration of the one of PgBouncer, PgCat or PgDog
    ///
    /// What is not carried over, or carried over with a difference, stands in comments above it and goes
    /// to standard error. Exits with 1 where the new configuration needs a correction by hand.
    Import(Import),
    /// Start a sharded cluster on this machine with Ringway in front, and say what to type
    ///
    /// Two shards, each a primary and a streaming replica, from the PostgreSQL that is installed;
    /// everything lives in a temporary directory and is gone after Ctrl-C.
    Demo(Demo),
}

#[derive(Debug, Args, PartialEq, Eq)]
pub struct ConfigFile {
    /// The configuration, in TOML
    #[arg(short, long, value_name = "FILE", env = "RINGWAY_CONFIG")]
    pub config: PathBuf,
}

#[derive(Debug, Args, PartialEq, Eq)]
pub struct Serve {
    #[command(flatten)]
    pub file: ConfigFile,
    /// Take the place of the process that serves now: its listening sockets, while it drains
    ///
    /// Both need the same `run_directory`. NAME is that of its socket there, without `.sock`, and
    /// is needed only when there are several. Starts as usual when there is none.
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub take_over: Option<String>,
}

#[derive(Debug, Args, PartialEq, Eq)]
pub struct Check {
    #[command(flatten)]
    pub file: ConfigFile,
    /// Check the file only and connect to no server
    #[arg(long)]
    pub offline: bool,
}

#[derive(Debug, Args, PartialEq, Eq)]
pub struct Init {
    #[command(flatten)]
    pub file: ConfigFile,
    /// The database; without it, all of the configuration
    #[arg(short, long, value_name = "NAME")]
    pub database: Option<String>,
    /// The role to log in with instead of server_user; its password is taken from PGPASSWORD
    #[arg(short, long, value_name = "ROLE")]
    pub user: Option<String>,
}

#[derive(Debug, Args, PartialEq, Eq)]
pub struct Explain {
    #[command(flatten)]
    pub file: ConfigFile,
    /// The database to plan for; may be left out when the configuration has only one
    #[arg(short, long, value_name = "NAME")]
    pub database: Option<String>,
    /// The statement
    #[arg(value_name = "SQL")]
    pub sql: String,
}

#[derive(Debug, Args, PartialEq, Eq)]
#[group(id = "which", required = true, multiple = true, args = ["config", "url"])]
pub struct Top {
    /// The configuration of a process on this machine; its http_listen is asked
    #[arg(short, long, value_name = "FILE", env = "RINGWAY_CONFIG")]
    pub config: Option<PathBuf>,
    /// The status page of a process, http://HOST:PORT/; goes before FILE
    #[arg(short, long, value_name = "URL")]
    pub url: Option<String>,
    /// Print it once as plain text and exit, with 1 when the process cannot be reached
    #[arg(long)]
    pub once: bool,
}

#[derive(Debug, Args, PartialEq, Eq)]
pub struct Import {
    /// pgbouncer.ini, pgcat.toml, or pgdog.toml and users.toml; files that they name are read too
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Whose they are; found out by what is in them when left out
    #[arg(long, value_name = "NAME")]
    pub from: Option<Peer>,
    /// Where to write the configuration, with permissions for its owner only; an existing file stays as
    /// it is. Without it, to standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    Pgbouncer,
    Pgcat,
    Pgdog,
}

#[derive(Debug, Args, PartialEq, Eq)]
pub struct Demo {
    /// Take the whole tour without a person, compare every answer with one plain PostgreSQL, and
    /// exit with 1 if any differs
    #[arg(long)]
    pub check: bool,
    /// Where Ringway listens on 127.0.0.1; 0 takes a free port
    #[arg(short, long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    /// Directory of initdb and postgres; found by itself when left out
    #[arg(long, value_name = "DIRECTORY", env = "RINGWAY_PG_BIN")]
    pub pg_bindir: Option<PathBuf>,
    /// Orders in the sample data, spread over the shards
    #[arg(long, value_name = "COUNT", default_value_t = 100_000,
          value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    pub rows: u32,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands() {
        let parse = |line: &[&str]| Cli::try_parse_from(line).map(|cli| cli.command);
        let file = || ConfigFile {
            config: PathBuf::from("a.toml"),
        };
        assert_eq!(
            parse(&["ringway", "serve", "-c", "a.toml"]).ok(),
            Some(Command::Serve(Serve {
                file: file(),
                take_over: None,
            }))
        );
        assert_eq!(
            parse(&["ringway", "serve", "--take-over", "-c", "a.toml"]).ok(),
            Some(Command::Serve(Serve {
                file: file(),
                take_over: Some(String::new()),
            }))
        );
        assert_eq!(
            parse(&["ringway", "check", "--config", "a.toml", "--offline"]).ok(),
            Some(Command::Check(Check {
                file: file(),
                offline: true
            })),
        );
        assert_eq!(
            parse(&[
                "ringway", "init", "-c", "a.toml", "-d", "shop", "--user", "ddl"
            ])
            .ok(),
            Some(Command::Init(Init {
                file: file(),
                database: Some("shop".into()),
                user: Some("ddl".into()),
            })),
        );
        assert_eq!(
            parse(&[
                "ringway", "explain", "-c", "a.toml", "-d", "shop", "SELECT 1"
            ])
            .ok(),
            Some(Command::Explain(Explain {
                file: file(),
                database: Some("shop".into()),
                sql: "SELECT 1".into(),
            })),
        );
        assert_eq!(
            parse(&["ringway", "top", "--url", "http://a:1/", "--once"]).ok(),
            Some(Command::Top(Top {
                config: None,
                url: Some("http://a:1/".into()),
                once: true,
            })),
        );
        assert!(parse(&["ringway", "top"]).is_err());
        assert_eq!(
            parse(&[
                "ringway",
                "import",
                "a.ini",
                "--from",
                "pgbouncer",
                "-o",
                "b.toml"
            ])
            .ok(),
            Some(Command::Import(Import {
                files: vec![PathBuf::from("a.ini")],
                from: Some(Peer::Pgbouncer),
                output: Some(PathBuf::from("b.toml")),
            })),
        );
        let demo = Demo {
            check: true,
            port: 0,
            pg_bindir: None,
            rows: 100_000,
        };
        assert_eq!(
            parse(&["ringway", "demo", "--check"]).ok(),
            Some(Command::Demo(demo))
        );
        let version = parse(&["ringway", "--version"]).map_err(|error| error.kind());
        assert_eq!(version.err(), Some(ErrorKind::DisplayVersion));
    }
}
