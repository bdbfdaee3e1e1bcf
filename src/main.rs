//! Arguments, exit code.

use std::process::ExitCode;

use clap::Parser;
use ringway::cli::{Cli, Command};
use ringway::{app, config, demo, log};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => serve(&args.config),
        Command::Check(_) | Command::Explain(_) => Err("not wired".to_owned()),
        Command::Demo(args) => run_demo(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("ringway: {message}");
            ExitCode::FAILURE
        }
    }
}

fn serve(path: &std::path::Path) -> Result<(), String> {
    let config = config::load(path).map_err(|mistakes| mistakes.to_string())?;
    log::init(config.general.log_format, &config.general.log_level).map_err(|e| e.to_string())?;
    app::serve(path, config).map_err(|e| e.to_string())
}

fn run_demo(args: ringway::cli::Demo) -> Result<(), String> {
    let options = demo::Options {
        check: args.check,
        port: args.port,
        pg_bin: args.pg_bindir,
        orders: args.rows,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime
        .block_on(demo::run(options))
        .map_err(|error| error.to_string())
}
