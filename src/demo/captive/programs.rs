//! PostgreSQL's programs as they are installed here, and the account that runs them.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Error;

/// Names the directory of PostgreSQL's server programs when it is not where we look.
const BIN_VARIABLE: &str = "RINGWAY_PG_BIN";

/// Directories whose children are versions: Debian's and Red Hat's layouts.
const VERSIONED: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// The server programs of one PostgreSQL installation.
#[derive(Debug, Clone)]
pub struct Programs {
    bin: PathBuf,
    /// `None` when we are not root and may run PostgreSQL ourselves.
    account: Option<Account>,
}

/// PostgreSQL refuses to run as root, so a root process hands it to this account.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Programs {
    /// Looks in `bin` alone when it is given, else in `RINGWAY_PG_BIN` alone, else in the distributions' directories (newest version first), then
    /// where `pg_config` points.
    ///
    /// # Errors
    /// [`Error::NoPostgres`] names the command that installs it.
    pub fn find(bin: Option<&Path>) -> Result<Self, Error> {
        let named = bin
            .map(Path::to_owned)
            .or_else(|| Some(std::env::var_os(BIN_VARIABLE)?.into()));
        let bin = named
            .map_or_else(candidates, |bin| vec![bin])
            .into_iter()
            .find(|dir| dir.join("initdb").is_file() && dir.join("postgres").is_file())
            .ok_or(Error::NoPostgres)?;
        Ok(Self {
            bin,
            account: account()?,
        })
    }

    /// The version as `postgres --version` prints it.
    pub fn version(&self) -> Result<String, Error> {
        let version = self.run(self.command("postgres").arg("--version"))?;
        Ok(version.trim().to_owned())
    }

    /// The path of one program, `pgbench` for example.
    pub fn path(&self, program: &str) -> PathBuf {
        self.bin.join(program)
    }

    /// A command under the servers' account, with an environment that no PG* variable leaks into.
    pub fn command(&self, program: &str) -> Command {
        self.as_account(&self.path(program))
    }

    /// Any other program under the servers' account.
    pub fn as_account(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if let Some(Account { uid, gid }) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Runs to the end and answers what it printed.
    pub(super) fn run(&self, command: &mut Command) -> Result<String, Error> {
        let output = command.output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Failed {
            program: command.get_program().to_string_lossy().into_owned(),
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// Gives a file or directory to the servers' account.
    pub fn hand_over(&self, path: &Path) -> Result<(), Error> {
        if let Some(Account { uid, gid }) = self.account {
            chown(path, Some(uid), Some(gid))?;
        }
        Ok(())
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (parent, prefix) in VERSIONED {
        let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let version = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
                Some((version, entry.path().join("bin")))
            })
            .collect();
        versions.sort_by(|a, b| b.cmp(a));
        found.extend(versions.into_iter().map(|(_, dir)| dir));
    }
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        found.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    found
}

/// The account of `postgres`, else of `nobody`, when we are root.
fn account() -> Result<Option<Account>, Error> {
    // A directory just made belongs to the effective user, which std has no call for.
    let ours = tempfile::tempdir()?.path().metadata()?.uid();
    if ours != 0 {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let (Some(uid), Some(gid)) = (id_of("-u", name), id_of("-g", name)) {
            return Ok(Some(Account { uid, gid }));
        }
    }
    Err(Error::NoAccount)
}

fn id_of(option: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([option, name]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
