//! A Ringway process started as an operator or systemd would: with arguments, environment, limits.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use ringway::demo::captive::{Guarded, Signal};

use super::wait_until;

pub const LIMIT: Duration = Duration::from_secs(20);

/// How to start one.
pub struct Launch<'a> {
    /// Where its configuration and log are; several may share it.
    pub directory: &'a Path,
    /// Of the configuration and log.
    pub name: &'a str,
    pub config: String,
    pub args: &'a [&'a str],
    pub env: &'a [(&'a str, String)],
    /// Shell commands to run in the process before it becomes Ringway.
    pub before: &'a str,
}

pub struct Process {
    guarded: Guarded,
    log: PathBuf,
}

impl Launch<'_> {
    /// Starts the process; who calls waits for what it is to do.
    pub fn start(&self) -> Process {
        // The guard removes the directory that it is given.
        let own = self.directory.join(format!("{}.d", self.name));
        std::fs::create_dir_all(&own).unwrap();
        let config = self.directory.join(format!("{}.toml", self.name));
        std::fs::write(&config, &self.config).unwrap();
        let log = self.directory.join(format!("{}.log", self.name));
        let mut shell = Command::new("/bin/sh");
        shell.envs(self.env.iter().map(|(name, value)| (name, value)));
        let script = format!("{}\nexec \"$0\" \"$@\"", self.before);
        let path = config.to_string_lossy();
        let mut args = vec!["-c", &script, env!("CARGO_BIN_EXE_ringway")];
        args.extend(["serve", "-c", &path]);
        args.extend(self.args);
        let file = File::create(&log).unwrap();
        let sh = Path::new("/bin/sh");
        let guarded = Guarded::spawn(shell, sh, &args, &own, file).unwrap();
        Process { guarded, log }
    }
}

impl Process {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn signal(&mut self, signal: Signal) {
        self.guarded.signal(signal);
    }

    pub fn wait_for_log(&self, text: &str) {
        wait_until(LIMIT, &format!("{text:?} in the log"), || {
            self.log().contains(text)
        });
    }

    /// Waits until it has been stopped, as by SIGSTOP.
    pub fn wait_for_stop(&self) {
        wait_until(LIMIT, "the process to be stopped", || {
            let stat = self.guarded.pid().map(|pid| format!("/proc/{pid}/stat"));
            let stat = stat.and_then(|path| std::fs::read_to_string(path).ok());
            // Pid, name in parentheses, state.
            stat.is_some_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('T'))
        });
    }

    pub fn has_ended(&mut self) -> bool {
        self.guarded.ended().unwrap().is_some()
    }

    pub fn wait_for_end(&mut self) -> ExitStatus {
        self.guarded.wait(LIMIT).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}---", self.log.display(), self.log());
        }
    }
}
