//! How each proxy is started: program, arguments, configuration.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use ringway::demo::captive::{CaptiveCluster, Programs};

use crate::Failure;
use crate::measure::CROWD;
use crate::peers::{DATABASE, Peer, Servers, USER, shard_name};
use crate::secure::{PASSWORD, Secure};
use crate::tables;

/// Server connections of every pool, except where a peer's name says otherwise.
const POOL_SIZE: u32 = 8;
const CROWDED_POOL_SIZE: u32 = CROWD[0];

/// Where Debian's package puts it, which is not in everybody's PATH.
pub const PGBOUNCER: &str = "/usr/sbin/pgbouncer";

/// How a proxy is started. Its configuration is the file `config` in its current directory.
pub struct Launch {
    pub program: String,
    pub args: Vec<String>,
    pub config: String,
    /// What the file `users` holds, if there is to be one.
    pub users: Option<String>,
    account: Account,
}

/// Under whom a proxy runs.
enum Account {
    Ours,
    /// PgBouncer, like PostgreSQL, does not run as root.
    Servers,
}

impl Launch {
    /// `/bin/sh` under the account of the proxy.
    pub fn shell(&self, programs: &Programs) -> Command {
        let shell = Path::new("/bin/sh");
        match self.account {
            Account::Ours => Command::new(shell),
            Account::Servers => programs.as_account(shell),
        }
    }
}

/// The proxy of a peer, to listen on `port`.
///
/// # Errors
/// This program's own path cannot be told.
pub fn launch(
    peer: Peer,
    servers: &Servers,
    secure: &Secure,
    port: u16,
) -> Result<Launch, Failure> {
    Ok(match peer {
        Peer::Direct | Peer::Forwarder => forwarder(servers.primary_port(), port)?,
        Peer::Pgbouncer => pgbouncer(servers, port, POOL_SIZE),
        Peer::PgbouncerCrowded => pgbouncer(servers, port, CROWDED_POOL_SIZE),
        Peer::Ringway => ringway(pooler(servers, port, POOL_SIZE)),
        Peer::RingwayCrowded => ringway(pooler(servers, port, CROWDED_POOL_SIZE)),
        Peer::RingwayReuse => {
            ringway(pooler(servers, port, POOL_SIZE) + "reuse_unnamed_statements = true\n")
        }
        Peer::PgbouncerSecure => pgbouncer_secure(servers, secure, port),
        Peer::RingwaySecure => ringway(ringway_secure(servers, secure, port)),
        Peer::RingwaySplit => ringway(split(servers, port, "session")),
        Peer::RingwayStale => ringway(split(servers, port, "off")),
        Peer::RingwaySharded => ringway(sharded(&servers.sharded, DATABASE, port)),
        Peer::RingwayTables => ringway(sharded(&servers.sharded, tables::DATABASE, port)),
        Peer::RingwayFour => {
            let four = servers.four.as_ref().ok_or("there are no four shards")?;
            ringway(sharded(four, DATABASE, port))
        }
    })
}

fn forwarder(to: u16, port: u16) -> Result<Launch, Failure> {
    let address = |port| format!("127.0.0.1:{port}");
    Ok(Launch {
        program: std::env::current_exe()?.to_string_lossy().into_owned(),
        args: vec!["forward".to_owned(), address(port), address(to)],
        config: String::new(),
        users: None,
        account: Account::Ours,
    })
}

fn pgbouncer(servers: &Servers, port: u16, pool_size: u32) -> Launch {
    let server = servers.primary_port();
    let config = format!(
        "[databases]\n\
         {DATABASE} = host=127.0.0.1 port={server} user={USER}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = any\n\
         pool_mode = transaction\n\
         default_pool_size = {pool_size}\n\
         max_client_conn = 10000\n"
    );
    Launch {
        program: PGBOUNCER.to_owned(),
        args: vec!["config".to_owned()],
        config,
        users: None,
        account: Account::Servers,
    }
}

fn pgbouncer_secure(servers: &Servers, secure: &Secure, port: u16) -> Launch {
    let plain = pgbouncer(servers, port, POOL_SIZE);
    let config = plain
        .config
        .replace("auth_type = any", "auth_type = scram-sha-256");
    Launch {
        config: config
            + &format!(
                "auth_file = users\n\
                 client_tls_sslmode = allow\n\
                 client_tls_cert_file = {}\n\
                 client_tls_key_file = {}\n",
                secure.certificate.display(),
                secure.private_key.display()
            ),
        users: Some(format!("\"{USER}\" \"{PASSWORD}\"\n")),
        ..plain
    }
}

fn ringway_secure(servers: &Servers, secure: &Secure, port: u16) -> String {
    let trusting = "auth = \"trust\"\n";
    let config =
        pooler(servers, port, POOL_SIZE).replace(trusting, &format!("password = \"{PASSWORD}\"\n"));
    config
        + &format!(
            "[tls]\n\
             certificate = \"{}\"\n\
             private_key = \"{}\"\n",
            secure.certificate.display(),
            secure.private_key.display()
        )
}

fn ringway(config: String) -> Launch {
    Launch {
        program: env!("CARGO_BIN_EXE_ringway").to_owned(),
        args: ["serve", "-c", "config"].map(str::to_owned).to_vec(),
        config,
        users: None,
        account: Account::Ours,
    }
}

/// What every Ringway here has in its configuration; more keys of the database may follow.
fn common(database: &str, port: u16, pool_size: u32) -> String {
    format!(
        "[general]\n\
         listen = \"127.0.0.1:{port}\"\n\
         [users.{USER}]\n\
         auth = \"trust\"\n\
         [databases.{database}]\n\
         server_user = \"{USER}\"\n\
         pool_size = {pool_size}\n"
    )
}

fn pooler(servers: &Servers, port: u16, pool_size: u32) -> String {
    let server = servers.primary_port();
    common(DATABASE, port, pool_size) + &format!("servers = [\"127.0.0.1:{server}\"]\n")
}

/// Its metrics are at the same port of another address of this machine.
fn split(servers: &Servers, port: u16, freshness: &str) -> String {
    let (primary, replica) = (servers.primary_port(), servers.replica_port());
    let general = format!("[general]\nhttp_listen = \"127.0.0.2:{port}\"");
    common(DATABASE, port, POOL_SIZE).replace("[general]", &general)
        + &format!(
            "servers = [\"127.0.0.1:{primary}\", \"127.0.0.1:{replica}\"]\n\
             reads = {{ split = true, freshness = \"{freshness}\" }}\n"
        )
}

/// The tables' own comments tell their keys.
fn sharded(cluster: &CaptiveCluster, database: &str, port: u16) -> String {
    let mut config = common(database, port, POOL_SIZE);
    for (at, shard) in cluster.shards.iter().enumerate() {
        let _ = write!(
            config,
            "[[databases.{database}.shards]]\n\
             name = \"{}\"\n\
             servers = [\"127.0.0.1:{}\"]\n",
            shard_name(at),
            shard.primary.port
        );
    }
    config
}
