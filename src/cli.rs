//! The command line: what may be written, not what it does.

use std::path::PathBuf;

use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueEnum};

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
    /// Tell what would become of the statements of a log: direct, merged, refused, and why
    ///
    /// Reads PostgreSQL's logs (stderr, csvlog or jsonlog, with log_statement or
    /// log_min_duration_statement), pg_stat_statements as CSV with the columns query and calls, or
    /// pg_stat_statements of a server.
    Analyze(Analyze),
    /// Propose sharding keys for the statements of a log, with the share that each would keep on one shard
    Advise(Advise),
    /// Print a script that completes commands and options in a shell
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page, in roff
    Man,
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
#[group(skip)]
#[command(group(ArgGroup::new("which").args(["config", "url"]).required(true).multiple(true)))]
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
pub struct Analyze {
    #[command(flatten)]
    pub file: ConfigFile,
    /// The database to plan for; may be left out when the configuration has only one
    #[arg(short, long, value_name = "NAME")]
    pub database: Option<String>,
    /// A server whose schema is taken for that of every shard, instead of asking the configured servers
    #[arg(long)]
    pub url: Option<String>,
    /// Shapes shown of each kind; 0 is all
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub top: usize,
    /// The log, or - for standard input; without it, pg_stat_statements of the server at --url is read
    #[arg(value_name = "LOG", required_unless_present = "url")]
    pub log: Option<PathBuf>,
}

#[derive(Debug, Args, PartialEq, Eq)]
pub struct Advise {
    /// The server with the tables: its schema, sizes and foreign keys are read
    #[arg(long)]
    pub url: String,
    /// What the database is called in the proposal
    #[arg(short, long, value_name = "NAME")]
    pub database: Option<String>,
    /// How many shards are assumed
    #[arg(long, value_name = "COUNT", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(2..=64))]
    pub shards: u16,
    /// Tables with no more rows, and few writes, may be the same on every shard
    #[arg(long, value_name = "ROWS", default_value_t = 10_000)]
    pub reference_rows: u64,
    /// Print only the part of a configuration
    #[arg(long)]
    pub toml: bool,
    /// The log, or - for standard input; without it, pg_stat_statements of the server is read
    #[arg(value_name = "LOG")]
    pub log: Option<PathBuf>,
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

/// The manual page: one for the program and all its commands.
///
/// # Errors
/// What writing gives.
pub fn manual(out: &mut dyn std::io::Write) -> std::io::Result<()> {
    let mut command = Cli::command();
    command.build();
    let page = clap_mangen::Man::new(command.clone()).section("1");
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    let shown = |sub: &&clap::Command| !sub.is_hide_set() && sub.get_name() != "help";
    for sub in command.get_subcommands().filter(shown) {
        // A section of its own for each, since they differ in their options.
        let name = format!("ringway {}", sub.get_name());
        let about = sub.get_long_about().or(sub.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        let mut section = clap_mangen::roff::Roff::new();
        section.control("SH", [name.to_uppercase().as_str()]);
        for paragraph in about.split("\n\n") {
            section.text([clap_mangen::roff::roman(paragraph.replace('\n', " "))]);
            section.control("PP", []);
        }
        section.to_writer(out)?;
        let page = clap_mangen::Man::new(sub.clone());
        page.render_synopsis_section(out)?;
        page.render_options_section(out)?;
    }
    page.render_version_section(out)
}

/// The script for a shell.
pub fn completions(shell: clap_complete::Shell, out: &mut dyn std::io::Write) {
    clap_complete::generate(shell, &mut Cli::command(), "ringway", out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command and option is in the page, and every shell has its script.
    #[test]
    fn the_manual_and_the_scripts_have_every_command() {
        let mut page = Vec::new();
        manual(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap().replace("\\-", "-");
        let mut script = Vec::new();
        completions(clap_complete::Shell::Bash, &mut script);
        let script = String::from_utf8(script).unwrap();
        for sub in Cli::command().get_subcommands() {
            let heading = format!("RINGWAY {}", sub.get_name().to_uppercase());
            assert!(page.contains(&heading), "{heading}");
            assert!(script.contains(sub.get_name()), "{}", sub.get_name());
            for option in sub.get_arguments().filter_map(|option| option.get_long()) {
                assert!(page.contains(&format!("--{option}")), "{option}");
                assert!(script.contains(&format!("--{option}")), "{option}");
            }
        }
    }
}

#[cfg(test)]
mod parsing {
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
        assert_eq!(
            parse(&["ringway", "completions", "zsh"]).ok(),
            Some(Command::Completions {
                shell: clap_complete::Shell::Zsh
            }),
        );
        assert_eq!(parse(&["ringway", "man"]).ok(), Some(Command::Man));
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
