//! Ringway as a child process, started as a user would start it.

use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::captive::{Error, Guarded, POLL, Signal, free_port};

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A Ringway of our own. Dropping it kills the process, and so does our own end.
#[derive(Debug)]
pub struct Proxy {
    /// Where it takes clients, on 127.0.0.1.
    pub port: u16,
    pub config_file: PathBuf,
    log_file: PathBuf,
    process: Guarded,
}

impl Proxy {
    /// Writes the configuration that `config` makes of `port`, or of a free one for 0, runs
    /// `executable serve -c` on it and waits until the port takes connections. `dir` is for this
    /// proxy alone.
    ///
    /// # Errors
    /// [`Error::Failed`] with the log when the process ends instead.
    pub fn start(
        executable: &Path,
        dir: &Path,
        port: u16,
        config: impl FnOnce(u16) -> String,
    ) -> Result<Self, Error> {
        let port = if port == 0 { free_port()? } else { port };
        let config_file = dir.join("ringway.toml");
        std::fs::write(&config_file, config(port))?;
        let log_file = dir.join("log");
        let process = Guarded::spawn(
            Command::new("/bin/sh"),
            executable,
            &["serve", "-c", &config_file.to_string_lossy()],
            dir,
            File::create(&log_file)?,
        )?;
        let mut proxy = Self {
            port,
            config_file,
            log_file,
            process,
        };
        proxy.wait_ready()?;
        Ok(proxy)
    }

    /// Everything the process has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log_file).unwrap_or_default()
    }

    /// SIGHUP has the configuration read again.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// An error with the log once the process has ended.
    pub fn check_running(&mut self) -> Result<(), Error> {
        match self.process.ended()? {
            None => Ok(()),
            Some(status) => {
                let output = format!("{status}\n{}", self.log());
                Err(Error::Failed {
                    program: "ringway serve".to_owned(),
                    output,
                })
            }
        }
    }

    /// Asks the process to drain, and waits for its end.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.signal(Signal::Term);
        self.process.wait(STOP_LIMIT)?;
        Ok(())
    }

    fn wait_ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            self.check_running()?;
            if Instant::now() > deadline {
                let what = format!("ringway to listen; its log:\n{}", self.log());
                return Err(Error::Timeout { what });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}
