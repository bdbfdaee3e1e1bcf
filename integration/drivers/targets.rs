//! What the programs connect to: PostgreSQL itself, and Ringway in front of it in several ways.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use ringway::demo::captive::{Auth, CaptiveCluster, ShardServers, Spec};
use ringway::demo::proxy::Proxy;
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::programs::PROGRAMS;

pub const DATABASE: &str = "matrix";
pub const USER: &str = "app";
const SUPERUSER_PASSWORD: &str = "captive";
/// Holds what has to be escaped somewhere.
pub const PASSWORD: &str = "p@ss w/rd:1%";

/// Server connections of each Ringway: fewer than the clients of any check that has several.
const POOL_SIZE: usize = 2;

/// All of them need a table, and every program its own.
const TABLE: &str = "(
    id bigint PRIMARY KEY,
    name text,
    amount numeric(12, 2),
    at timestamptz,
    raw bytea,
    tags text[],
    doc jsonb
)";

/// What migrations make, unless they tell the class in a comment.
const MIGRATED: &str = r#"
shop_customer = { key = "id", default_id = "id" }
shop_order = { key = "customer_id", default_id = "id" }
auth_group = { shard = "s0" }
auth_group_permissions = { shard = "s0" }
auth_permission = { shard = "s0" }
auth_user = { shard = "s0" }
auth_user_groups = { shard = "s0" }
auth_user_user_permissions = { shard = "s0" }
django_content_type = { shard = "s0" }
django_migrations = { shard = "s0" }
alembic_version = { shard = "s0" }
knex_migrations = { shard = "s0" }
knex_migrations_lock = { shard = "s0" }
ar_internal_metadata = { shard = "s0" }
schema_migrations = { shard = "s0" }
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// PostgreSQL itself: what fails here is no fault of Ringway's.
    Postgres,
    /// Transaction pooling, one primary.
    Pooled,
    /// Transaction pooling, reads go to a replica.
    Split,
    /// Two shards.
    Sharded,
}

impl Target {
    pub const ALL: [Self; 4] = [Self::Postgres, Self::Pooled, Self::Split, Self::Sharded];

    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Pooled => "pooled",
            Self::Split => "split",
            Self::Sharded => "sharded",
        }
    }
}

pub struct Servers {
    certificates: Certificates,
    /// A primary with a replica.
    plain: CaptiveCluster,
    /// Two primaries.
    shards: CaptiveCluster,
    directory: TempDir,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

impl Servers {
    pub fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let certificates = crate::certificates::make(directory.path())?;
        let plain = cluster(&certificates, 1, 1)?;
        let shards = cluster(&certificates, 2, 0)?;
        for shard in plain.shards.iter().chain(&shards.shards) {
            let mut sql = format!(
                "CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_monitor;
                 GRANT ALL ON SCHEMA public TO {USER};
                 SET ROLE {USER};"
            );
            for program in &PROGRAMS {
                let _ = write!(sql, "CREATE TABLE {} {TABLE};", program.name);
            }
            shard.primary.exec(&sql)?;
        }
        plain.wait_caught_up()?;
        Ok(Self {
            certificates,
            plain,
            shards,
            directory,
        })
    }

    /// Rows of an earlier target are gone afterwards.
    pub fn empty(&self, program: &str) -> Result<()> {
        for shard in self.plain.shards.iter().chain(&self.shards.shards) {
            shard.primary.exec(&format!("TRUNCATE {program}"))?;
        }
        self.plain.wait_caught_up()?;
        Ok(())
    }

    /// A Ringway for the target; PostgreSQL itself needs none.
    pub fn proxy(&self, target: Target, executable: &Path) -> Result<Option<Proxy>> {
        if target == Target::Postgres {
            return Ok(None);
        }
        let directory = self.directory.path().join(target.name());
        std::fs::create_dir(&directory)?;
        if target == Target::Sharded {
            self.init(&directory, executable)?;
        }
        let proxy = Proxy::start(executable, &directory, 0, |port| self.toml(target, port))?;
        Ok(Some(proxy))
    }

    /// `ringway init`, for ids and commits on both shards.
    fn init(&self, directory: &Path, executable: &Path) -> Result<()> {
        let file = directory.join("init.toml");
        std::fs::write(&file, self.toml(Target::Sharded, 1))?;
        let output = Command::new(executable)
            .args(["init", "--user", &Spec::default().superuser, "-c"])
            .arg(&file)
            .env("PGPASSWORD", SUPERUSER_PASSWORD)
            .output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into()),
        }
    }

    /// How a program reaches a port of 127.0.0.1: libpq's variables, and some of our own.
    pub fn environment(&self, proxy: Option<&Proxy>) -> Vec<(&'static str, String)> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let port = proxy.map_or(self.plain.shards[0].primary.port, |proxy| proxy.port);
        vec![
            ("PGHOST", "127.0.0.1".to_owned()),
            ("PGPORT", port.to_string()),
            ("PGUSER", USER.to_owned()),
            ("PGPASSWORD", PASSWORD.to_owned()),
            ("PGDATABASE", DATABASE.to_owned()),
            ("PGSSLMODE", "verify-full".to_owned()),
            ("PGSSLROOTCERT", path(&self.certificates.authority)),
            ("DRIVER_STRANGER", path(&self.certificates.stranger)),
        ]
    }

    fn toml(&self, target: Target, port: u16) -> String {
        let Certificates {
            authority,
            certificate,
            private_key,
            ..
        } = &self.certificates;
        let mut toml = format!(
            r#"[general]
listen = "127.0.0.1:{port}"
admin_users = ["{USER}"]

[tls]
certificate = "{}"
private_key = "{}"
required = true

[users.{USER}]
password = "{PASSWORD}"

[databases.{DATABASE}]
pool_size = {POOL_SIZE}
server_tls = "verify-full"
server_ca = "{}"
"#,
            certificate.display(),
            private_key.display(),
            authority.display()
        );
        let plain = &self.plain.shards[0];
        let _ = match target {
            Target::Postgres | Target::Pooled => {
                let port = plain.primary.port;
                writeln!(toml, "servers = [\"127.0.0.1:{port}\"]")
            }
            Target::Split => {
                let servers = servers(plain);
                write!(toml, "servers = [{servers}]\nreads = {{ split = true }}\n")
            }
            Target::Sharded => {
                let _ = write!(toml, "\n[databases.{DATABASE}.tables]\n");
                for program in &PROGRAMS {
                    let _ = writeln!(toml, "{} = {{ key = \"id\" }}", program.name);
                }
                toml.push_str(MIGRATED);
                self.shards
                    .shards
                    .iter()
                    .enumerate()
                    .try_for_each(|(at, shard)| {
                        let servers = servers(shard);
                        write!(
                            toml,
                            "\n[[databases.{DATABASE}.shards]]\nname = \"s{at}\"\nservers = [{servers}]\n"
                        )
                    })
            }
        };
        toml
    }
}

fn servers(shard: &ShardServers) -> String {
    let quoted: Vec<String> = std::iter::once(&shard.primary)
        .chain(&shard.replicas)
        .map(|server| format!("\"127.0.0.1:{}\"", server.port))
        .collect();
    quoted.join(", ")
}

fn cluster(certificates: &Certificates, shards: usize, replicas: usize) -> Result<CaptiveCluster> {
    let spec = Spec {
        shards,
        replicas,
        database: DATABASE.to_owned(),
        auth: Auth::Scram(SUPERUSER_PASSWORD.to_owned()),
        hba: vec!["hostnossl all all all reject".to_owned()],
        tls: Some(ringway::demo::captive::Tls {
            certificate: certificates.certificate.clone(),
            private_key: certificates.private_key.clone(),
        }),
        ..Spec::default()
    };
    Ok(CaptiveCluster::start(&spec, |_| ())?)
}
