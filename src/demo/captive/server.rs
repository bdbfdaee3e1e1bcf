//! One captive PostgreSQL server: its directory, its process, its port.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::guarded::{Guarded, POLL, Signal};
use super::programs::Programs;
use super::{Auth, Error};

/// Covers crash recovery of a small server on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How the postmaster is asked to stop.
/// <https://www.postgresql.org/docs/current/server-shutdown.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Waits for clients to leave.
    Smart,
    /// Ends clients and writes a checkpoint.
    Fast,
    /// Ends at once; the next start recovers from WAL.
    Immediate,
}

/// A running or stopped server. Dropping it stops it; its files go with the cluster's directory.
#[derive(Debug)]
pub struct Server {
    /// `s1-primary`, `s1-replica1`: as it was started, whatever role it has taken since.
    pub name: String,
    /// On 127.0.0.1. Does not change once the server has been up.
    pub port: u16,
    /// Holds the data directory, the Unix socket and the log.
    pub dir: PathBuf,
    pub database: String,
    pub superuser: String,
    pub auth: Auth,
    programs: Programs,
    process: Option<Guarded>,
}

/// What became of one attempt to start.
enum Launch {
    Ready,
    /// The postmaster ended and said this.
    Ended(String),
}

impl Server {
    /// A server that has its files but does not run. `dir` must be short: the path of a Unix
    /// socket in it may have 107 bytes.
    pub(super) fn stopped(
        programs: &Programs,
        name: &str,
        dir: PathBuf,
        spec: &super::Spec,
    ) -> Self {
        Self {
            name: name.to_owned(),
            port: 0,
            dir,
            database: spec.database.clone(),
            superuser: spec.superuser.clone(),
            auth: spec.auth.clone(),
            programs: programs.clone(),
            process: None,
        }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Process id of the postmaster.
    pub fn pid(&self) -> Option<u32> {
        self.pid_file().lines().next()?.parse().ok()
    }

    /// Settings for a connection to this server itself, over TCP.
    pub fn connection(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user(&self.superuser)
            .dbname(&self.database);
        if let Some(password) = self.auth.password() {
            config.password(password);
        }
        config
    }

    /// Starts on a free port, or on the port that it had, and waits until it takes connections.
    pub fn start(&mut self) -> Result<(), Error> {
        let chosen = self.port != 0;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if !chosen {
                self.port = free_port()?;
            }
            let output = match self.launch(deadline)? {
                Launch::Ready => return Ok(()),
                Launch::Ended(output) => output,
            };
            // Another process took the port between our look and the server's, or the children of
            // a killed postmaster still hold its shared memory: both pass.
            let passes = output.contains("Address already in use")
                || output.contains("pre-existing shared memory block");
            if !passes || Instant::now() > deadline {
                return Err(Error::Failed {
                    program: format!("postgres ({})", self.name),
                    output,
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Stops the server and waits for its end; a stopped server is left alone.
    pub fn stop(&mut self, mode: StopMode) -> Result<(), Error> {
        let signal = match mode {
            StopMode::Smart => Signal::Term,
            StopMode::Fast => Signal::Int,
            StopMode::Immediate => Signal::Quit,
        };
        self.end_with(signal)
    }

    /// Kills the postmaster as the kernel's out-of-memory killer would.
    pub fn kill9(&mut self) -> Result<(), Error> {
        self.end_with(Signal::Kill)
    }

    /// Makes a standby the primary of its shard, and waits until it takes writes.
    pub fn promote(&self) -> Result<(), Error> {
        match self.exec("SELECT pg_promote(true, 60)")?.as_str() {
            "t" => Ok(()),
            _ => Err(Error::Timeout {
                what: format!("{} to be promoted", self.name),
            }),
        }
    }

    /// Runs SQL in the server's database as its superuser through psql and answers the rows,
    /// columns parted by `|`, without headers or the last line's end. Stops at the first error.
    pub fn exec(&self, sql: &str) -> Result<String, Error> {
        self.exec_in(&self.database, sql)
    }

    /// As [`Server::exec`], in another database.
    pub fn exec_in(&self, database: &str, sql: &str) -> Result<String, Error> {
        let mut command = self.programs.command("psql");
        command
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            // The socket trusts whoever can enter its directory, so no password is needed.
            .args([
                "-h",
                &self.dir.to_string_lossy(),
                "-p",
                &self.port.to_string(),
            ])
            .args(["-U", &self.superuser, "-d", database, "-c", sql]);
        Ok(self
            .programs
            .run(&mut command)?
            .trim_end_matches('\n')
            .to_owned())
    }

    /// Asks until `sql` answers `expected`; an error is an answer too, since what is asked about
    /// may not have been replicated yet.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `limit`, with the last answer.
    pub fn wait_for(&self, sql: &str, expected: &str, limit: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        loop {
            let answer = self.exec(sql).unwrap_or_else(|error| error.to_string());
            if answer == expected {
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = format!(
                    "{} to answer {expected} to {sql} (it answers {answer})",
                    self.name
                );
                return Err(Error::Timeout { what });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Appends settings that count from the next start or reload.
    pub fn configure(&self, settings: &[(String, String)]) -> Result<(), Error> {
        let mut file = OpenOptions::new()
            .append(true)
            .open(self.data_dir().join("postgresql.conf"))?;
        for (name, value) in settings {
            writeln!(file, "{name} = '{}'", value.replace('\'', "''"))?;
        }
        Ok(())
    }

    /// Everything the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn launch(&mut self, deadline: Instant) -> Result<Launch, Error> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())?;
        let log_start = log.metadata()?.len();
        let data = self.data_dir().to_string_lossy().into_owned();
        let socket = self.dir.to_string_lossy().into_owned();
        let port = self.port.to_string();
        let args = ["-D", &data, "-k", &socket, "-h", "127.0.0.1", "-p", &port];
        // A stale pid file of a killed postmaster says `ready` too, for another process.
        let stale = self.pid();
        let mut process = Guarded::spawn(
            self.programs.as_account(Path::new("/bin/sh")),
            &self.programs.path("postgres"),
            &args,
            &self.dir,
            log,
        )?;
        loop {
            if process.ended()?.is_some() {
                return Ok(Launch::Ended(tail(&self.log_file(), log_start)?));
            }
            if self.pid() != stale && self.is_ready() {
                self.process = Some(process);
                return Ok(Launch::Ready);
            }
            if Instant::now() > deadline {
                return Err(Error::Timeout {
                    what: format!("{} to start", self.name),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// The last line of the pid file is the postmaster's state, as pg_ctl reads it
    /// (`PM_STATUS_READY` in PostgreSQL's miscadmin.h).
    fn is_ready(&self) -> bool {
        self.pid_file()
            .lines()
            .nth(7)
            .is_some_and(|state| state.trim_end() == "ready")
    }

    fn pid_file(&self) -> String {
        std::fs::read_to_string(self.data_dir().join("postmaster.pid")).unwrap_or_default()
    }

    fn end_with(&mut self, signal: Signal) -> Result<(), Error> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        process.signal(signal);
        process.wait(STOP_LIMIT)?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop(StopMode::Immediate);
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16, Error> {
    let address = free_address()?.local_addr()?;
    let port = address.as_socket().map(|address| address.port());
    port.ok_or_else(|| std::io::Error::other("a socket without a port").into())
}

/// Nobody can connect to it, and others may listen there: a process that is being started holds a copy until
/// it runs its own program.
fn free_address() -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    Ok(socket)
}

fn tail(path: &Path, from: u64) -> Result<String, Error> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;
    use crate::net::listener::bind_tcp;

    #[test]
    fn a_free_port_takes_no_connections_before_somebody_listens() {
        let held = free_address().unwrap();
        let address = held.local_addr().unwrap().as_socket().unwrap();
        assert!(TcpStream::connect(address).is_err());
        let _listening = bind_tcp(address, false).unwrap();
        assert!(TcpStream::connect(address).is_ok());
    }
}
