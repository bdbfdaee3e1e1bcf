//! `make test-drivers`: real drivers against PostgreSQL and against Ringway, and a table of what
//! works. What a program checks is in `README.md` beside this file.

mod certificates;
mod programs;
mod report;
mod targets;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use programs::{Outcome, PROGRAMS, Places, Program};
use report::{Report, Result as Entry};
use targets::{Servers, Target};

/// In the order of the report's columns.
const CAPABILITIES: [&str; 21] = [
    "tls",
    "scram",
    "numbers",
    "text",
    "bytea",
    "nulls",
    "arrays",
    "json",
    "times",
    "large",
    "prepared",
    "clients",
    "pipeline",
    "cursor",
    "copy",
    "cancel",
    "errors",
    "settings",
    "listen",
    "keyed",
    "migrations",
];

/// Of tools that migrate, and of nobody else.
const MIGRATIONS: &str = "migrations";

/// On shards: what concerns the connection, and statements about one key, and migrations. Other
/// statements there have tests of their own.
const ON_SHARDS: [&str; 5] = ["tls", "scram", "prepared", "keyed", "migrations"];

/// Runs real drivers against PostgreSQL and Ringway.
#[derive(Debug, Parser)]
struct Options {
    /// Drivers [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    drivers: Vec<String>,
    /// Capabilities [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Targets: postgres, pooled, split, sharded [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    targets: Vec<String>,
    /// Where `scripts/install-drivers` put its tools
    #[arg(long, value_name = "DIR", env = "RINGWAY_DRIVER_TOOLS")]
    tools: PathBuf,
    /// The program under test
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_ringway"))]
    ringway: PathBuf,
    /// Writes the table into this file, between its two marks
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Prints everything that the programs print
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether nothing failed.
fn run(options: &Options) -> Result<bool, Box<dyn std::error::Error>> {
    let chosen = |names: &[String], name: &str| names.is_empty() || names.iter().any(|n| n == name);
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/drivers");
    let places = Places {
        here: &here,
        tools: &options.tools,
    };
    let mut report = Report::default();
    let mut installed: Vec<&Program> = Vec::new();
    for program in PROGRAMS.iter().filter(|p| chosen(&options.drivers, p.name)) {
        match state(&options.tools, program.group) {
            State::Installed => installed.push(program),
            State::Unreachable(why) => report.skip(program.name, why),
            State::Broken(why) => report.broken(program.name, why),
        }
    }
    let servers = Servers::start()?;
    let scratch = tempfile::tempdir()?;
    for target in Target::ALL {
        if !chosen(&options.targets, target.name()) {
            continue;
        }
        let mut proxy = servers.proxy(target, &options.ringway)?;
        for program in &installed {
            let capabilities: Vec<&str> = CAPABILITIES
                .into_iter()
                .filter(|name| chosen(&options.only, name))
                .filter(|name| target != Target::Sharded || ON_SHARDS.contains(name))
                .filter(|name| program.migrates == (*name == MIGRATIONS))
                .collect();
            if capabilities.is_empty() {
                continue;
            }
            servers.empty(program.name)?;
            let mut environment = servers.environment(proxy.as_ref());
            environment.push(("DRIVER_TARGET", target.name().to_owned()));
            environment.push(("DRIVER_TABLE", program.name.to_owned()));
            environment.push(("DRIVER_CHECKS", capabilities.join(",")));
            let said = programs::run(program, &places, &environment, scratch.path())?;
            let results = capabilities.iter().map(|name| (*name, said.of(name)));
            let failed = results
                .clone()
                .any(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
            println!(
                "{:9} {:17} {:5.1} s{}",
                target.name(),
                program.name,
                said.took.as_secs_f64(),
                if failed { "  FAILED" } else { "" }
            );
            if failed || options.verbose {
                println!("{}", said.output.trim_end());
            }
            for (capability, outcome) in results {
                report.add(Entry {
                    driver: program.name,
                    target,
                    capability,
                    outcome,
                });
            }
            if let Some(version) = said.version {
                report.version(program.name, version);
            }
        }
        if let Some(proxy) = &mut proxy {
            proxy.check_running()?;
            proxy.stop()?;
        }
    }
    println!("{}", report.text(&CAPABILITIES));
    if let Some(file) = &options.write {
        report.write(file, &CAPABILITIES)?;
    }
    Ok(report.is_good())
}

/// What became of the installation of a group.
enum State {
    Installed,
    /// A registry could not be reached: nobody's fault here.
    Unreachable(String),
    Broken(String),
}

/// Reads what `scripts/install-drivers` left in `state/GROUP`: a word, and what it is about.
fn state(tools: &Path, group: &str) -> State {
    let text = std::fs::read_to_string(tools.join("state").join(group)).unwrap_or_default();
    let (word, why) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    match word {
        "installed" => State::Installed,
        "unreachable" => State::Unreachable(why.to_owned()),
        "" => State::Broken("not installed: run scripts/install-drivers".to_owned()),
        _ => State::Broken(why.to_owned()),
    }
}
