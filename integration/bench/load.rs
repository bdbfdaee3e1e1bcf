//! The load: one run of pgbench against one port, and what it says of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ringway::demo::captive::Programs;

use crate::Failure;
use crate::options::Mode;
use crate::peers::{DATABASE, ROWS, USER};

/// Part of the transactions whose latency is logged: enough for a p99, too few to cost much.
const SAMPLING_RATE: &str = "0.25";

/// How much longer than asked a run may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often the end of pgbench is looked for: seldom, since looking costs CPU.
const POLL: Duration = Duration::from_millis(50);

/// pgbench and what it needs on disk.
pub struct Load<'a> {
    programs: &'a Programs,
    /// Where the logs go; writable for the servers' account.
    directory: PathBuf,
    script: PathBuf,
    seconds: u32,
}

/// What each transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// That of `pgbench -S`: one row by its key.
    Point,
    /// The first 20 rows from a key on, in its order.
    First,
}

impl Script {
    fn name(self) -> &'static str {
        match self {
            Self::Point => "select-only",
            Self::First => "first-rows",
        }
    }

    fn select(self) -> &'static str {
        match self {
            Self::Point => "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;",
            Self::First => {
                "SELECT aid, abalance FROM pgbench_accounts WHERE aid >= :aid \
                 ORDER BY aid LIMIT 20;"
            }
        }
    }
}

/// What the clients saw of a run.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub transactions: u64,
    pub tps: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

impl<'a> Load<'a> {
    /// Writes the script below `parent`: given `-S` itself, pgbench first asks for the size of
    /// tables that shards do not hold.
    pub fn prepare(
        programs: &'a Programs,
        parent: &Path,
        seconds: u32,
        script: Script,
    ) -> Result<Self, Failure> {
        let (name, select) = (script.name(), script.select());
        let directory = parent.join(format!("logs-{name}"));
        std::fs::create_dir(&directory)?;
        programs.hand_over(&directory)?;
        let script = parent.join(format!("{name}.sql"));
        std::fs::write(&script, format!("\\set aid random(1, {ROWS})\n{select}\n"))?;
        Ok(Self {
            programs,
            directory,
            script,
            seconds,
        })
    }

    /// One run.
    ///
    /// # Errors
    /// What pgbench printed when a client was aborted or could not connect.
    pub fn run(&self, port: u16, mode: Mode, clients: u32) -> Result<Outcome, Failure> {
        let threads = clients.min(2);
        let child = self
            .programs
            .command("pgbench")
            .args(["-n", "-l", "--log-prefix=latency", "-f"])
            .arg(&self.script)
            .arg(format!("--sampling-rate={SAMPLING_RATE}"))
            .args(["-M", mode.name(), "-T", &self.seconds.to_string()])
            .args(["-c", &clients.to_string(), "-j", &threads.to_string()])
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", USER])
            .arg(DATABASE)
            .current_dir(&self.directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let limit = Duration::from_secs(self.seconds.into()) + PATIENCE;
        let output = finish(child, limit)?;
        let transactions = number_after(&output, "transactions actually processed: ")?;
        if transactions == 0 {
            return Err("not one transaction was answered".into());
        }
        let mut latencies = take_logs(&self.directory)?;
        latencies.sort_unstable();
        Ok(Outcome {
            transactions,
            tps: number_after(&output, "tps = ")?,
            p50_us: percentile(&latencies, 0.50),
            p99_us: percentile(&latencies, 0.99),
        })
    }
}

/// Waits for the end and answers standard output; pgbench prints too little to fill a pipe.
fn finish(mut child: Child, limit: Duration) -> Result<String, Failure> {
    let deadline = Instant::now() + limit;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err("hangs: pgbench did not end".into());
        }
        std::thread::sleep(POLL);
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let first = errors.lines().find(|line| line.contains("error"));
    Err(first.unwrap_or(errors.trim()).to_owned().into())
}

fn number_after<N>(text: &str, label: &str) -> Result<N, Failure>
where
    N: std::str::FromStr<Err: std::error::Error + 'static>,
{
    let (_, rest) = text
        .split_once(label)
        .ok_or_else(|| format!("pgbench did not print {label:?}"))?;
    let end = rest.find([' ', '\n', '/']).unwrap_or(rest.len());
    Ok(rest[..end].parse()?)
}

/// Reads and removes the logs of a run: latencies in µs, the third field of a line.
/// <https://www.postgresql.org/docs/current/pgbench.html>, "Per-Transaction Logging"
fn take_logs(directory: &Path) -> Result<Vec<u32>, Failure> {
    let mut latencies = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if !name.to_string_lossy().starts_with("latency.") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let fields = text.lines().filter_map(|line| line.split(' ').nth(2));
        latencies.extend(fields.filter_map(|field| field.parse::<u32>().ok()));
        std::fs::remove_file(path)?;
    }
    Ok(latencies)
}

/// The value that a fraction of the sorted values does not exceed; NaN of none.
fn percentile(sorted: &[u32], fraction: f64) -> f64 {
    let rank = (sorted.len() as f64 * fraction).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .map_or(f64::NAN, |value| f64::from(*value))
}
