//! `ringway demo`: a real sharded cluster on this machine, from the PostgreSQL that is installed,
//! with sample data and Ringway in front; `--check` compares its answers with one plain server.

pub mod answer;
pub mod captive;
pub mod check;
pub mod proxy;
pub mod shop;
pub mod tour;

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use captive::{CaptiveCluster, Spec};
use proxy::Proxy;
use shop::Size;
use tokio::signal::unix::{SignalKind, signal};

/// How often we look whether Ringway still runs.
const LOOK: Duration = Duration::from_millis(200);

const SHARDS: usize = 2;
const REPLICAS: usize = 1;

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Compare the whole tour with one plain PostgreSQL that holds the same rows, and end.
    pub check: bool,
    /// Where Ringway listens; 0 takes a free port.
    pub port: u16,
    /// Directory of PostgreSQL's programs; `None` finds it.
    pub pg_bin: Option<PathBuf>,
    /// Roughly how many orders to load.
    pub orders: u32,
}

#[derive(Debug)]
pub enum Error {
    Captive(captive::Error),
    Postgres(tokio_postgres::Error),
    Io(std::io::Error),
    /// The tour's file cannot be read; the message names its line.
    Tour(String),
    /// Answers of the tour that were not those of one plain PostgreSQL.
    Differs {
        blocks: usize,
    },
}

/// Progress lines with the time since the start.
#[derive(Debug, Clone, Copy)]
struct Progress {
    start: Instant,
}

impl Progress {
    fn say(self, what: &str) {
        print(format_args!(
            "[{:5.1} s] {what}",
            self.start.elapsed().as_secs_f64()
        ));
    }
}

/// Prints a line. A reader that has gone, as in `ringway demo --check | head`, is no error.
fn print(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Runs until Ctrl-C, SIGTERM or, with `check`, the end of the tour. What it started has ended and
/// its files are gone when it returns; servers that were still starting go with the runtime.
///
/// # Errors
/// What could not be started, a Ringway that ended by itself, or a tour with differences.
pub async fn run(options: Options) -> Result<(), Error> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let progress = Progress {
        start: Instant::now(),
    };
    let done = tokio::select! {
        done = demo(&options, progress) => done,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    progress.say("stopped");
    done
}

/// Cancel safety: yes; what has been started stops when this is dropped.
async fn demo(options: &Options, progress: Progress) -> Result<(), Error> {
    let size = Size::of_orders(options.orders);
    let spec = |shards, replicas| Spec {
        pg_bin: options.pg_bin.clone(),
        ..shop::spec(shards, replicas)
    };
    let cluster = start(spec(SHARDS, REPLICAS), "", progress).await?;
    progress.say(&format!("loading {} sharded rows", size.sharded_rows()));
    shop::load(&cluster, size).await?;
    let plain = if options.check {
        let plain = start(spec(1, 0), "plain server: ", progress).await?;
        progress.say("loading the same rows into one plain server");
        shop::load(&plain, size).await?;
        Some(plain)
    } else {
        None
    };
    progress.say("waiting for the replicas to replay");
    let cluster = wait_caught_up(cluster).await?;
    progress.say("starting ringway");
    let http = captive::free_port()?;
    let mut proxy = start_proxy(&cluster, options.port, http).await?;
    match plain {
        Some(plain) => check::run(&proxy, &plain.shards[0].primary).await,
        None => {
            invite(&cluster, &proxy, http, size)?;
            watch(&mut proxy).await
        }
    }
}

/// Starting blocks, so it has a thread of its own; when nobody waits for it any more, the cluster
/// is dropped as soon as it is up.
async fn start(
    spec: Spec,
    whose: &'static str,
    progress: Progress,
) -> Result<CaptiveCluster, Error> {
    let start =
        move || CaptiveCluster::start(&spec, |what| progress.say(&format!("{whose}{what}")));
    blocking(start).await
}

async fn wait_caught_up(cluster: CaptiveCluster) -> Result<CaptiveCluster, Error> {
    blocking(move || cluster.wait_caught_up().map(|()| cluster)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, captive::Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(std::io::Error::other)??)
}

/// `http` is the port of metrics and the status page.
async fn start_proxy(cluster: &CaptiveCluster, port: u16, http: u16) -> Result<Proxy, Error> {
    let directory = cluster.directory().join("ringway");
    std::fs::create_dir(&directory)?;
    let executable = std::env::current_exe()?;
    let mut proxy = Proxy::start(&executable, &directory, port, |port| {
        let general = format!("[general]\nhttp_listen = \"127.0.0.1:{http}\"");
        shop::ringway_toml(cluster, port).replacen("[general]", &general, 1)
    })?;
    // It listens; it is ready when a statement comes through.
    let client = shop::connect(&shop::url(proxy.port, shop::DATABASE).parse()?).await;
    match client {
        Ok(client) => client.batch_execute("SELECT 1").await?,
        Err(error) => {
            proxy.check_running()?;
            return Err(error);
        }
    }
    Ok(proxy)
}

/// Returns only with the error that Ringway ended with.
async fn watch(proxy: &mut Proxy) -> Result<(), Error> {
    loop {
        tokio::time::sleep(LOOK).await;
        proxy.check_running()?;
    }
}

/// Prints what to type. The pgbench script is a file because pgbench reads no other.
fn invite(cluster: &CaptiveCluster, proxy: &Proxy, http: u16, size: Size) -> Result<(), Error> {
    let script = cluster.directory().join("ringway/point.sql");
    std::fs::write(
        &script,
        format!(
            "\\set id random(1, {})\nSELECT name, balance FROM customers WHERE id = :id;\n",
            size.customers
        ),
    )?;
    let url = shop::url(proxy.port, shop::DATABASE);
    let admin = shop::url(proxy.port, "ringway");
    print(format_args!(
        "\nTwo shards, each a primary with a streaming replica, behind one port:\n"
    ));
    for server in cluster.servers() {
        print(format_args!(
            "    {:12} 127.0.0.1:{}",
            server.name, server.port
        ));
    }
    print(format_args!(
        "\nType in another terminal:\n\n    psql {url}"
    ));
    for statement in INVITATION.lines() {
        print(format_args!("        {statement}"));
    }
    let bench = cluster.programs().path("pgbench");
    print(format_args!(
        "    {} -n -M prepared -c 8 -T 10 -f {} '{url}'",
        bench.display(),
        script.display()
    ));
    print(format_args!("    psql {admin}"));
    print(format_args!("        SHOW POOLS;"));
    print(format_args!("        SHOW REPLICAS;"));
    print(format_args!("\nStatus page: http://127.0.0.1:{http}/"));
    print(format_args!(
        "Configuration: {}",
        proxy.config_file.display()
    ));
    print(format_args!(
        "Ctrl-C stops everything and removes every file.\n"
    ));
    Ok(())
}

const INVITATION: &str = "\
SELECT * FROM customers WHERE id = 42;
EXPLAIN (ROUTE) SELECT * FROM customers WHERE id = 42;
SELECT country, count(*), sum(balance) FROM customers GROUP BY country ORDER BY 3 DESC LIMIT 5;
EXPLAIN (ROUTE) SELECT country, avg(balance) FROM customers GROUP BY country;
UPDATE customers SET balance = balance + 10 WHERE id = 42 RETURNING balance;
/* ringway: primary */ SELECT balance FROM customers WHERE id = 42;";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Captive(error) => write!(f, "{error}"),
            Self::Postgres(error) => match error.as_db_error() {
                Some(db) => write!(
                    f,
                    "{}: {} (SQLSTATE {})",
                    db.severity(),
                    db.message(),
                    db.code().code()
                ),
                None => write!(f, "{error}"),
            },
            Self::Io(error) => write!(f, "{error}"),
            Self::Tour(message) => write!(f, "{message}"),
            Self::Differs { blocks } => {
                write!(
                    f,
                    "{blocks} parts of the tour were not answered as one PostgreSQL answers"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<captive::Error> for Error {
    fn from(error: captive::Error) -> Self {
        Self::Captive(error)
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}
