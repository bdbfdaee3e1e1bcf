//! Captive PostgreSQL servers for the demo, the tests and the benchmark: real servers with real
//! streaming replication, in a temporary directory, gone when we are gone.
//!
//! Built for speed, not for keeping data: `fsync` is off.

mod guarded;
mod programs;
mod server;

use std::fmt;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

pub(super) use guarded::POLL;
pub use guarded::{Guarded, Signal};
pub use programs::Programs;
pub use server::{Server, StopMode, free_port};

/// What `ringway init` makes, which shards need to commit together.
const OWN_TABLES: &str = include_str!("../../cluster/two_phase/schema.sql");

/// What kind of cluster to start. `..Spec::default()` fills in the rest.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Primaries, at least 1.
    pub shards: usize,
    /// Streaming replicas of each primary.
    pub replicas: usize,
    /// Several shards can commit together, as after `ringway init`.
    pub initialized: bool,
    /// Created on every shard.
    pub database: String,
    pub superuser: String,
    /// Asked of clients over TCP; the Unix socket, in a private directory, trusts.
    pub auth: Auth,
    /// Added to every server's postgresql.conf.
    pub settings: Vec<(String, String)>,
    /// Lines of pg_hba.conf that come before all others.
    pub hba: Vec<String>,
    pub tls: Option<Tls>,
    /// Directory of PostgreSQL's programs; `None` finds it.
    pub pg_bin: Option<PathBuf>,
}

/// How clients prove who they are over TCP, with the superuser's password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    Trust,
    Scram(String),
    Md5(String),
    /// The password travels as it is.
    Cleartext(String),
}

/// A certificate for the servers, in PEM files.
#[derive(Debug, Clone)]
pub struct Tls {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

/// One shard's servers.
#[derive(Debug)]
pub struct ShardServers {
    pub primary: Server,
    pub replicas: Vec<Server>,
}

/// Shards with their replicas. Dropping it stops the servers and removes their files; should this
/// process be killed, the servers end and remove their files themselves.
#[derive(Debug)]
pub struct CaptiveCluster {
    pub shards: Vec<ShardServers>,
    programs: Programs,
    /// Removes the directory should we die while no server yet guards a part of it.
    _guard: Guarded,
    /// Dropped last: the servers' files are in it.
    directory: TempDir,
}

#[derive(Debug)]
pub enum Error {
    /// No PostgreSQL server programs were found.
    NoPostgres,
    /// We are root, and there is no account to run PostgreSQL under.
    NoAccount,
    Io(std::io::Error),
    /// A program ended with an error; `output` is what it said.
    Failed {
        program: String,
        output: String,
    },
    Timeout {
        what: String,
    },
}

impl Default for Spec {
    /// One trusting primary with the database `shop` and the superuser `ringway`.
    fn default() -> Self {
        Self {
            shards: 1,
            replicas: 0,
            initialized: true,
            database: "shop".to_owned(),
            superuser: "ringway".to_owned(),
            auth: Auth::Trust,
            settings: Vec::new(),
            hba: Vec::new(),
            tls: None,
            pg_bin: None,
        }
    }
}

impl Auth {
    pub fn password(&self) -> Option<&str> {
        match self {
            Self::Trust => None,
            Self::Scram(password) | Self::Md5(password) | Self::Cleartext(password) => {
                Some(password)
            }
        }
    }

    /// The method's name in pg_hba.conf and for initdb.
    fn method(&self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Scram(_) => "scram-sha-256",
            Self::Md5(_) => "md5",
            Self::Cleartext(_) => "password",
        }
    }
}

impl CaptiveCluster {
    /// Starts all servers and answers once every replica streams. Blocks for about two seconds.
    ///
    /// initdb runs once per shard, so that each has a system identifier of its own; a replica
    /// begins as a copy of its primary that has not run yet.
    pub fn start(spec: &Spec, mut progress: impl FnMut(&str)) -> Result<Self, Error> {
        let programs = Programs::find(spec.pg_bin.as_deref())?;
        let directory = tempfile::Builder::new().prefix("ringway-").tempdir()?;
        programs.hand_over(directory.path())?;
        let guard = guard(directory.path())?;
        let mut shards = Vec::with_capacity(spec.shards);
        for shard in 0..spec.shards.max(1) {
            progress(&format!("creating the files of shard s{}", shard + 1));
            shards.push(shard_files(&programs, directory.path(), shard, spec)?);
        }
        for shard in &mut shards {
            progress(&format!("starting {}", shard.primary.name));
            shard.primary.start()?;
            let create = format!("CREATE DATABASE \"{}\"", spec.database.replace('"', "\"\""));
            shard.primary.exec_in("postgres", &create)?;
            if spec.shards > 1 && spec.initialized {
                // Whoever logs in here may commit.
                let schema = format!(
                    "CREATE SCHEMA ringway; {OWN_TABLES};
                     GRANT USAGE ON SCHEMA ringway TO PUBLIC;
                     GRANT ALL ON ALL TABLES IN SCHEMA ringway TO PUBLIC"
                );
                shard.primary.exec(&schema)?;
                // A superuser called ringway would find Ringway's own schema first, by "$user".
                shard.primary.exec(&format!(
                    "ALTER ROLE \"{}\" IN DATABASE \"{}\" SET search_path = public",
                    spec.superuser.replace('"', "\"\""),
                    spec.database.replace('"', "\"\"")
                ))?;
            }
            for replica in &mut shard.replicas {
                progress(&format!("starting {}", replica.name));
                follow(replica, &shard.primary)?;
                replica.start()?;
            }
        }
        let cluster = Self {
            shards,
            programs,
            _guard: guard,
            directory,
        };
        cluster.wait_caught_up()?;
        Ok(cluster)
    }

    /// The directory that holds everything; files of the caller may join.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Every server, shard by shard, primaries first.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.shards
            .iter()
            .flat_map(|s| std::iter::once(&s.primary).chain(&s.replicas))
    }

    /// Waits until every running replica has replayed what its primary had written on entry.
    pub fn wait_caught_up(&self) -> Result<(), Error> {
        for shard in &self.shards {
            shard.wait_caught_up()?;
        }
        Ok(())
    }
}

impl ShardServers {
    /// Waits until the shard's running replicas have replayed what its primary had written on
    /// entry.
    pub fn wait_caught_up(&self) -> Result<(), Error> {
        let running: Vec<_> = self.replicas.iter().filter(|r| r.is_running()).collect();
        if running.is_empty() {
            return Ok(());
        }
        let target = self.primary.exec("SELECT pg_current_wal_insert_lsn()")?;
        for replica in running {
            let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{target}'");
            replica.wait_for(&sql, "t", Duration::from_secs(30))?;
        }
        Ok(())
    }
}

/// A process that does nothing but end with us.
fn guard(directory: &Path) -> Result<Guarded, Error> {
    let seventy_years = "2147483647";
    Guarded::spawn(
        Command::new("/bin/sh"),
        Path::new("/bin/sleep"),
        &[seventy_years],
        directory,
        std::fs::File::open("/dev/null")?,
    )
}

/// Runs initdb and writes the configuration that all servers share.
fn initialize(programs: &Programs, directory: &Path, spec: &Spec) -> Result<PathBuf, Error> {
    let template = directory.join("template");
    let mut command = programs.command("initdb");
    command
        .arg("-D")
        .arg(&template)
        .args(["-U", &spec.superuser, "-E", "UTF8", "--locale=C.UTF-8"])
        .args(["--no-sync", "--no-instructions", "--auth-local=trust"])
        .arg(format!("--auth-host={}", spec.auth.method()));
    let password_file = directory.join("password");
    if let Some(password) = spec.auth.password() {
        write_for(programs, &password_file, password)?;
        command.arg("--pwfile").arg(&password_file);
    }
    programs.run(&mut command)?;
    if spec.auth.password().is_some() {
        std::fs::remove_file(password_file)?;
    }
    append(&template.join("postgresql.conf"), &settings(spec))?;
    let hba = template.join("pg_hba.conf");
    let rest = std::fs::read_to_string(&hba)?;
    std::fs::write(&hba, spec.hba.join("\n") + "\n" + &rest)?;
    if let Some(tls) = &spec.tls {
        write_for(
            programs,
            &template.join("server.crt"),
            &std::fs::read_to_string(&tls.certificate)?,
        )?;
        write_for(
            programs,
            &template.join("server.key"),
            &std::fs::read_to_string(&tls.private_key)?,
        )?;
    }
    Ok(template)
}

fn settings(spec: &Spec) -> String {
    let ours = [
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("shared_buffers", "32MB"),
        ("max_connections", "200"),
        // No query here is worth compiling; and a backend that is ended amid it may die without a word.
        ("jit", "off"),
        // Logical decoding is for resharding, prepared transactions are for atomic commit.
        ("wal_level", "logical"),
        ("max_prepared_transactions", "50"),
        ("max_replication_slots", "10"),
        ("max_wal_senders", "10"),
        ("wal_retrieve_retry_interval", "100ms"),
        ("wal_receiver_status_interval", "1s"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("ssl", if spec.tls.is_some() { "on" } else { "off" }),
    ];
    let ours = ours.map(|(name, value)| (name.to_owned(), value.to_owned()));
    // The last line of a name counts, so the caller's word stands.
    ours.iter()
        .chain(&spec.settings)
        .map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")))
        .collect()
}

/// Lays out a shard's servers with the same content; none of them runs yet.
fn shard_files(
    programs: &Programs,
    directory: &Path,
    shard: usize,
    spec: &Spec,
) -> Result<ShardServers, Error> {
    let template = initialize(programs, directory, spec)?;
    let server = |name: String| -> Result<Server, Error> {
        let dir = directory.join(&name);
        std::fs::create_dir(&dir)?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        programs.hand_over(&dir)?;
        let mut copy = programs.as_account(Path::new("/bin/cp"));
        programs.run(copy.arg("-pR").arg(&template).arg(dir.join("data")))?;
        Ok(Server::stopped(programs, &name, dir, spec))
    };
    // From 1, as the shards of the sample's configuration are called.
    let shard = shard + 1;
    let primary = server(format!("s{shard}-primary"))?;
    let replicas = (1..=spec.replicas)
        .map(|n| server(format!("s{shard}-replica{n}")))
        .collect::<Result<_, _>>()?;
    std::fs::remove_dir_all(template)?;
    Ok(ShardServers { primary, replicas })
}

/// Makes a server that is a copy of the primary's first state stream from it, through a slot of
/// its own so that no WAL it needs is recycled.
/// <https://www.postgresql.org/docs/current/warm-standby.html#STREAMING-REPLICATION>
fn follow(replica: &Server, primary: &Server) -> Result<(), Error> {
    let slot = replica.name.replace('-', "_");
    primary.exec(&format!(
        "SELECT pg_create_physical_replication_slot('{slot}', true)"
    ))?;
    let conninfo = format!(
        "host={} port={} user={} application_name={}",
        primary.dir.display(),
        primary.port,
        primary.superuser,
        replica.name
    );
    replica.configure(&[
        ("primary_conninfo".to_owned(), conninfo),
        ("primary_slot_name".to_owned(), slot),
    ])?;
    std::fs::write(replica.data_dir().join("standby.signal"), "")?;
    Ok(())
}

/// Writes a file that only the servers' account can read.
fn write_for(programs: &Programs, path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    programs.hand_over(path)
}

fn append(path: &Path, text: &str) -> Result<(), Error> {
    Ok(std::fs::OpenOptions::new()
        .append(true)
        .open(path)?
        .write_all(text.as_bytes())?)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPostgres => f.write_str(
                "no PostgreSQL server programs found\n\
                 Install them with: sudo apt-get install postgresql\n\
                 or name their directory: RINGWAY_PG_BIN=/path/to/postgresql/bin",
            ),
            Self::NoAccount => f.write_str(
                "PostgreSQL does not run as root, and there is neither an account \"postgres\" nor \
                 \"nobody\" to run it under\n\
                 Run this command as an ordinary user, or: useradd --system postgres",
            ),
            Self::Io(error) => write!(f, "{error}"),
            Self::Failed { program, output } => write!(f, "{program} failed: {output}"),
            Self::Timeout { what } => write!(f, "waited in vain for {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}
