//! Arguments, exit code.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use ringway::app::analyze::{self, Statements, Wish};
use ringway::app::check::{self, Kind};
use ringway::app::init;
use ringway::cli::{Cli, Command, Peer};
use ringway::{app, cli, config, demo, import, log, top};

/// A statement takes and frees a few buffers of some kilobytes: glibc pays for each of them with a
/// walk over its bins, which shows in the cost per transaction.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => serve(&args),
        Command::Check(args) => run_check(&args),
        Command::Init(args) => run_init(args),
        Command::Explain(args) => run_explain(&args),
        Command::Top(args) => run_top(&args),
        Command::Analyze(args) => run_analyze(&args),
        Command::Advise(args) => run_advise(&args),
        Command::Completions { shell } => {
            cli::completions(shell, &mut std::io::stdout());
            Ok(())
        }
        Command::Man => cli::manual(&mut std::io::stdout()).map_err(|error| error.to_string()),
        Command::Import(args) => run_import(&args),
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

fn serve(args: &ringway::cli::Serve) -> Result<(), String> {
    let path = &args.file.config;
    let config = config::load(path).map_err(|mistakes| mistakes.to_string())?;
    let general = &config.general;
    let set_level = log::init(general.log_format, &general.log_level).map_err(|e| e.to_string())?;
    app::serve(path, config, args.take_over.as_deref(), set_level).map_err(|e| e.report())
}

fn run_check(args: &ringway::cli::Check) -> Result<(), String> {
    let findings = check::check(&args.file.config, args.offline).map_err(|e| e.report())?;
    for finding in &findings {
        println!("{}: {}", finding.kind.name(), finding.text);
    }
    let mistakes = findings.iter().filter(|f| f.kind == Kind::Mistake).count();
    match mistakes {
        0 => Ok(()),
        1 => Err("1 mistake".to_owned()),
        more => Err(format!("{more} mistakes")),
    }
}

fn run_init(args: ringway::cli::Init) -> Result<(), String> {
    let password = std::env::var("PGPASSWORD").ok();
    let options = init::Options {
        database: args.database,
        user: args.user.map(|user| (user, password)),
    };
    let lines = init::init(&args.file.config, &options).map_err(|e| e.report())?;
    for line in lines {
        println!("ok: {line}");
    }
    Ok(())
}

fn run_explain(args: &ringway::cli::Explain) -> Result<(), String> {
    let lines = check::explain(&args.file.config, args.database.as_deref(), &args.sql);
    for line in lines.map_err(|e| e.report())? {
        println!("{line}");
    }
    Ok(())
}

fn run_top(args: &ringway::cli::Top) -> Result<(), String> {
    let address = match (&args.url, &args.config) {
        (Some(url), _) => url.parse()?,
        (None, Some(path)) => {
            let config = config::load(path).map_err(|mistakes| mistakes.to_string())?;
            let listen = config.general.http_listen.ok_or_else(|| {
                let file = path.display();
                format!("{file}: http_listen is not set, so there is nobody to ask; set it, or use --url")
            })?;
            top::Address::from(listen)
        }
        (None, None) => return Err("--config or --url is needed".to_owned()),
    };
    match args.once {
        true => top::once(&address),
        false => top::run(address),
    }
}

fn run_analyze(args: &ringway::cli::Analyze) -> Result<(), String> {
    let url = args.url.as_deref();
    let statements = match (&args.log, url) {
        (Some(log), _) => Statements::File(log),
        (None, url) => Statements::Server(url.unwrap_or_default()),
    };
    let database = args.database.as_deref();
    let report = analyze::analyze(&args.file.config, database, url, statements, args.top);
    print!("{}", report.map_err(|e| e.report())?);
    Ok(())
}

fn run_advise(args: &ringway::cli::Advise) -> Result<(), String> {
    let wish = Wish {
        url: &args.url,
        database: args.database.as_deref(),
        shards: usize::from(args.shards),
        reference_rows: args.reference_rows,
        statements: match &args.log {
            Some(log) => Statements::File(log),
            None => Statements::Server(&args.url),
        },
        only_toml: args.toml,
    };
    print!("{}", analyze::advise(&wish).map_err(|e| e.report())?);
    Ok(())
}

fn run_import(args: &ringway::cli::Import) -> Result<(), String> {
    let from = args.from.map(|peer| match peer {
        Peer::Pgbouncer => import::Format::PgBouncer,
        Peer::Pgcat => import::Format::PgCat,
        Peer::Pgdog => import::Format::PgDog,
    });
    let out = args.output.as_deref().unwrap_or(Path::new("ringway.toml"));
    let made = import::import(&args.files, from, out).map_err(|e| e.report())?;
    match &args.output {
        Some(path) => write_new(path, &made.toml)?,
        None => print!("{}", made.toml),
    }
    let mut above = None;
    for note in &made.notes {
        if above != Some(note.kind) {
            eprintln!("{}", note.kind.heading());
            above = Some(note.kind);
        }
        eprintln!("- {note}");
    }
    for mistake in &made.mistakes {
        eprintln!("mistake: {}: {mistake}", out.display());
    }
    match made.mistakes.is_empty() {
        true => Ok(()),
        false => Err("the configuration has to be corrected by hand".to_owned()),
    }
}

/// Writes a file that may hold passwords.
fn write_new(path: &Path, text: &str) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(cannot)
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
