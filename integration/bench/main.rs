//! Proxy CPU, throughput and latency beside PgBouncer, a byte forwarder and no proxy at all.
//!
//! The steadiest figure on a noisy machine is the proxy's own CPU time per transaction; the
//! targets are ratios of it, taken between peers that took turns in the same round.

mod check;
mod client;
mod commits;
mod forwarder;
mod freshness;
mod idle;
mod launch;
mod load;
mod measure;
mod options;
mod peers;
mod proc;
mod report;
mod secure;
mod sorted;
mod tables;
mod targets;
mod work;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Parser;

use idle::IdleMemory;
use load::{Load, Script};
use measure::Samples;
use options::{Cli, Hidden, Options, Part};
use peers::{Peer, Running, Servers};
use report::Report;
use secure::Secure;
use work::{Work, Works};

/// Whatever goes wrong ends a run, or the benchmark, with its words.
type Failure = Box<dyn std::error::Error>;

/// The proxies that pgbench is run through.
const PROXIES: [Peer; 12] = [
    Peer::Forwarder,
    Peer::Pgbouncer,
    Peer::Ringway,
    Peer::RingwaySplit,
    Peer::RingwayStale,
    Peer::RingwaySharded,
    Peer::RingwayFour,
    Peer::RingwayReuse,
    Peer::PgbouncerCrowded,
    Peer::RingwayCrowded,
    Peer::PgbouncerSecure,
    Peer::RingwaySecure,
];

/// The proxies that idle clients connect to; the forwarder would need as many servers.
const POOLERS: [Peer; 4] = [
    Peer::Pgbouncer,
    Peer::Ringway,
    Peer::PgbouncerSecure,
    Peer::RingwaySecure,
];
/// Each costs a TLS handshake and the client's own SCRAM, so there are fewer of them.
const TLS_IDLE_CLIENTS: u32 = 1_000;

/// Files that a process may need open beside a connection for each idle client.
const OTHER_FILES: u64 = 1_500;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.hidden {
        Some(Hidden::Forward { listen, to }) => forwarder::run(listen, to).map_err(Failure::from),
        None => bench(&cli.options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Result<(), Failure> {
    allow_open_files(u64::from(options.idle_clients) + OTHER_FILES)?;
    let pgbouncer = pgbouncer_version()?;
    progress("starting and loading the servers");
    let servers = Servers::start(options.does(Part::Merge) || options.does(Part::Commits))?;
    let programs = servers.plain.programs();
    // Goes with the servers' own files, even should this process be killed.
    let directory = servers.plain.directory().join("peers");
    std::fs::create_dir(&directory)?;
    programs.hand_over(&directory)?;
    let load = |script| Load::prepare(programs, &directory, options.seconds(), script);
    let loads = [load(Script::Point)?, load(Script::First)?];
    let secure = Secure::make(programs, &directory)?;
    let idle = idle_memory(options, &servers, &secure, &directory)?;
    let mut sorted = Vec::new();
    if options.does(Part::Merge) {
        progress(&format!("{} rows in order", sorted::ROWS));
        sorted = sorted::measure(&servers, &secure, &directory)?;
    }
    let mut tables = Vec::new();
    if options.does(Part::Catalog) {
        progress(&format!("a catalog of {} tables", tables::TABLES));
        tables = tables::measure(options.rounds(), &servers, &secure, &directory)?;
    }
    let ([samples, firsts], works, freshness, commits) =
        runs(options, &servers, &secure, &loads, &directory)?;
    let mut targets = targets::judge(options, &samples, &works, &freshness, &idle);
    targets.extend(targets::merges(options, &firsts, &sorted));
    targets.push(targets::catalog(&tables));
    targets.extend(targets::commits(&commits));
    let report = Report {
        options,
        versions: vec![
            programs.version()?,
            pgbouncer,
            concat!("Ringway ", env!("CARGO_PKG_VERSION")).to_owned(),
            format!("{} cores", std::thread::available_parallelism()?),
        ],
        samples,
        firsts,
        works,
        freshness,
        commits,
        sorted,
        tables,
        idle,
        targets,
    };
    print!("{}", report.text());
    if let Some(path) = &options.out {
        std::fs::write(path, format!("{:#}\n", report.json()))?;
    }
    Ok(())
}

type Runs = (
    [Samples; 2],
    Works,
    Vec<freshness::Round>,
    Vec<commits::Round>,
);

fn runs(
    options: &Options,
    servers: &Servers,
    secure: &Secure,
    [point, first]: &[Load<'_>; 2],
    directory: &Path,
) -> Result<Runs, Failure> {
    let mut running = vec![Running::direct(servers)];
    let wanted = |peer: &Peer| *peer != Peer::RingwayFour || servers.four.is_some();
    for peer in PROXIES.into_iter().filter(wanted) {
        progress(&format!("starting {}", peer.name()));
        running.push(Running::start(peer, servers, secure, directory)?);
    }
    for peer in &running {
        check::answers(peer, servers)?;
    }
    let all = |cases: &[_], load| {
        measure::all((options.rounds(), cases), servers, &running, load, progress)
    };
    let samples = all(&measure::cases(options), point);
    let firsts = all(&measure::firsts(options), first);
    let parts = [(Part::Bulk, &Work::BULK[..]), (Part::Logins, &Work::LOGINS)];
    let asked = parts.into_iter().filter(|(part, _)| options.does(*part));
    let works: Vec<Work> = asked.flat_map(|(_, works)| works).copied().collect();
    let works = work::all(&works, options.rounds(), &running, secure, progress);
    let mut fresh = Vec::new();
    let mut committed = Vec::new();
    let rounds = options.rounds();
    for round in 1..=rounds {
        if options.does(Part::Freshness) {
            progress(&format!("round {round}/{rounds}: freshness"));
            fresh.push(freshness::round(&running, options.seconds())?);
        }
        if options.does(Part::Commits) {
            progress(&format!("round {round}/{rounds}: commits"));
            committed.push(commits::round(&running, servers, options.seconds())?);
        }
    }
    Ok(([samples, firsts], works, fresh, committed))
}

fn idle_memory(
    options: &Options,
    servers: &Servers,
    secure: &Secure,
    directory: &Path,
) -> Result<Vec<IdleMemory>, Failure> {
    let mut found = Vec::new();
    if !options.does(Part::Idle) {
        return Ok(found);
    }
    for peer in POOLERS {
        let clients = match peer.is_secure() {
            true => options.idle_clients.min(TLS_IDLE_CLIENTS),
            false => options.idle_clients,
        };
        progress(&format!("{clients} idle clients of {}", peer.name()));
        found.push(idle::measure(peer, clients, servers, secure, directory)?);
    }
    Ok(found)
}

/// Sees that this process and its children may open `needed` files: begins again under a shell
/// that raises the limit as far as it goes.
fn allow_open_files(needed: u64) -> Result<(), Failure> {
    let (soft, hard) = proc::open_files_limits()?;
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        let say = format!("{needed} open files are needed, and only {hard} allowed (ulimit -Hn)");
        return Err(say.into());
    }
    let raise = "ulimit -n \"$(ulimit -Hn)\" && exec \"$0\" \"$@\"";
    let error = Command::new("/bin/sh")
        .args(["-c", raise])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .exec();
    Err(error.into())
}

fn pgbouncer_version() -> Result<String, Failure> {
    let output = Command::new(launch::PGBOUNCER).arg("--version").output();
    let output = output.map_err(|error| {
        let path = launch::PGBOUNCER;
        format!("{path}: {error}\nInstall it with: sudo apt-get install pgbouncer")
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn progress(what: &str) {
    eprintln!("bench: {what}");
}
