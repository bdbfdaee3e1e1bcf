//! Who is measured: the servers, and what stands before them, each a process of its own.

use std::fs::File;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use planner::Topology;
use planner::ring::SLOTS;
use planner::topology::{ShardId, ShardWeight};
use ringway::demo::captive::{CaptiveCluster, Guarded, Spec, free_port};
use serde::Serialize;

use crate::Failure;
use crate::launch::launch;
use crate::proc::{CpuTime, family_cpu_time};
use crate::secure::Secure;
use crate::work::WIDE_ROWS;

pub const DATABASE: &str = "bench";
pub const USER: &str = "bench";

/// pgbench's scale; one unit is 100,000 rows of pgbench_accounts.
pub const SCALE: u32 = 10;
pub const ROWS: u32 = SCALE * 100_000;

const START_LIMIT: Duration = Duration::from_secs(20);

/// One way from pgbench to the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// No proxy.
    Direct,
    Forwarder,
    Pgbouncer,
    Ringway,
    /// Ringway with a primary and a replica, reads split from writes.
    RingwaySplit,
    /// The same, with reads as stale as replicas are.
    RingwayStale,
    /// Ringway with two shards and a hash key.
    RingwaySharded,
    /// Ringway with four shards.
    RingwayFour,
    /// Ringway with two shards and a database of many tables.
    RingwayTables,
    /// Ringway that reuses server-side statements for repeated unnamed ones.
    RingwayReuse,
    /// PgBouncer with 20 server connections.
    PgbouncerCrowded,
    /// Ringway with 20 server connections.
    RingwayCrowded,
    /// PgBouncer that offers TLS and asks for SCRAM.
    PgbouncerSecure,
    /// Ringway that offers TLS and asks for SCRAM.
    RingwaySecure,
}

impl Peer {
    /// It offers TLS and asks for a password.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::PgbouncerSecure | Self::RingwaySecure)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Forwarder => "forwarder",
            Self::Pgbouncer => "PgBouncer",
            Self::Ringway => "Ringway",
            Self::RingwaySplit => "Ringway, reads split",
            Self::RingwayStale => "Ringway, freshness off",
            Self::RingwaySharded => "Ringway, 2 shards",
            Self::RingwayFour => "Ringway, 4 shards",
            Self::RingwayTables => "Ringway, many tables",
            Self::RingwayReuse => "Ringway, reuse",
            Self::PgbouncerCrowded => "PgBouncer, 20 servers",
            Self::RingwayCrowded => "Ringway, 20 servers",
            Self::PgbouncerSecure => "PgBouncer, SCRAM",
            Self::RingwaySecure => "Ringway, SCRAM",
        }
    }
}

/// A primary with a replica, and shards, all holding the same rows.
pub struct Servers {
    pub plain: CaptiveCluster,
    pub sharded: CaptiveCluster,
    /// Four shards, where they are asked for.
    pub four: Option<CaptiveCluster>,
}

impl Servers {
    /// Starts and loads them; blocks for some seconds.
    pub fn start(with_four: bool) -> Result<Self, Failure> {
        let plain = CaptiveCluster::start(&spec(1, 1), |_| ())?;
        let sharded = CaptiveCluster::start(&spec(2, 0), |_| ())?;
        let mut load = plain.programs().command("pgbench");
        load.args(["-i", "-q", "-s", &SCALE.to_string()])
            .args(["-h", "127.0.0.1", "-U", USER, "-p"])
            .args([&plain.shards[0].primary.port.to_string(), DATABASE]);
        let output = load.output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        load_shards(&sharded)?;
        let mut four = None;
        if with_four {
            let mut spec = spec(4, 0);
            // Commits are to cost what they cost.
            spec.settings.push(("fsync".to_owned(), "on".to_owned()));
            let cluster = CaptiveCluster::start(&spec, |_| ())?;
            load_shards(&cluster)?;
            four = Some(cluster);
        }
        let wide = format!(
            "CREATE TABLE wide AS
                SELECT id, repeat('x', 88) AS filler FROM generate_series(1, {WIDE_ROWS}) AS id;
             CREATE UNLOGGED TABLE copied (id int, filler text)"
        );
        plain.shards[0].primary.exec(&wide)?;
        plain.shards[0].primary.exec("VACUUM ANALYZE wide")?;
        plain.wait_caught_up()?;
        Ok(Self {
            plain,
            sharded,
            four,
        })
    }

    pub fn primary_port(&self) -> u16 {
        self.plain.shards[0].primary.port
    }

    /// CPU time of all servers' processes so far, those that ended included.
    ///
    /// # Errors
    /// A server is not running.
    pub fn cpu_time(&self) -> Result<Duration, Failure> {
        let mut total = Duration::ZERO;
        let four = self.four.iter().flat_map(CaptiveCluster::servers);
        let servers = self.plain.servers().chain(self.sharded.servers());
        for server in servers.chain(four) {
            let file = std::fs::read_to_string(server.data_dir().join("postmaster.pid"))?;
            let pid = file.lines().next().unwrap_or_default().parse()?;
            total += family_cpu_time(pid)?;
        }
        Ok(total)
    }

    pub fn replica_port(&self) -> u16 {
        self.plain.shards[0].replicas[0].port
    }
}

fn load_shards(cluster: &CaptiveCluster) -> Result<(), Failure> {
    let topology = topology(cluster.shards.len());
    for (at, shard) in cluster.shards.iter().enumerate() {
        let rows = shard_rows(&topology, ShardId(at as u16));
        shard.primary.exec(&rows)?;
        shard.primary.exec("VACUUM ANALYZE pgbench_accounts")?;
    }
    Ok(())
}

fn spec(shards: usize, replicas: usize) -> Spec {
    Spec {
        shards,
        replicas,
        database: DATABASE.to_owned(),
        superuser: USER.to_owned(),
        settings: [("shared_buffers", "256MB"), ("max_connections", "200")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        ..Spec::default()
    }
}

pub fn shard_name(at: usize) -> String {
    format!("s{}", at + 1)
}

/// The slot table as Ringway makes it of its configuration.
fn topology(shards: usize) -> Topology {
    let weight = |at| ShardWeight {
        name: shard_name(at),
        weight: 1,
    };
    Topology::new((0..shards).map(weight).collect(), &[])
}

/// pgbench_accounts as `pgbench -i` makes it, with the rows whose slot the shard owns.
fn shard_rows(topology: &Topology, shard: ShardId) -> String {
    let owned: Vec<String> = (0..SLOTS as u16)
        .filter(|slot| topology.owner(*slot) == shard)
        .map(|slot| slot.to_string())
        .collect();
    format!(
        "CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84))
            WITH (fillfactor = 100);
         CREATE TEMPORARY TABLE owned_slot (slot integer PRIMARY KEY);
         INSERT INTO owned_slot SELECT unnest('{{{}}}'::integer[]);
         INSERT INTO pgbench_accounts
            SELECT aid, (aid - 1) / 100000 + 1, 0, '' FROM generate_series(1, {ROWS}) AS aid
            WHERE ((hashint8extended(aid, 8816678312871386365) & 16383) + 10467) & 16383
                IN (SELECT slot FROM owned_slot);
         COMMENT ON TABLE pgbench_accounts IS 'ringway: key=aid'",
        owned.join(", ")
    )
}

/// Where a peer listens, and the proxy's process if it has one.
pub struct Running {
    pub peer: Peer,
    pub port: u16,
    process: Option<Guarded>,
}

impl Running {
    /// PostgreSQL itself.
    pub fn direct(servers: &Servers) -> Self {
        Self {
            peer: Peer::Direct,
            port: servers.primary_port(),
            process: None,
        }
    }

    /// CPU time of the proxy so far; `None` without one.
    ///
    /// # Errors
    /// The proxy has ended.
    pub fn cpu_time(&self) -> Result<Option<CpuTime>, Failure> {
        match &self.process {
            Some(_) => Ok(Some(CpuTime::of(self.pid()?)?)),
            None => Ok(None),
        }
    }

    /// Process id of the proxy.
    ///
    /// # Errors
    /// It has ended, or there is none.
    pub fn pid(&self) -> Result<u32, Failure> {
        let process = self.process.as_ref().ok_or("there is no proxy")?;
        Ok(process.pid().ok_or("the proxy has ended")?)
    }

    /// Starts the proxy of a peer in a directory of its own below `parent`.
    ///
    /// # Errors
    /// Its log, when it ends instead.
    pub fn start(
        peer: Peer,
        servers: &Servers,
        secure: &Secure,
        parent: &Path,
    ) -> Result<Self, Failure> {
        if peer == Peer::Direct {
            return Ok(Self::direct(servers));
        }
        let port = free_port()?;
        let directory = tempfile::Builder::new()
            .prefix("peer-")
            .tempdir_in(parent)?
            .keep();
        let launch = launch(peer, servers, secure, port)?;
        let programs = servers.plain.programs();
        programs.hand_over(&directory)?;
        let config = directory.join("config");
        std::fs::write(&config, &launch.config)?;
        programs.hand_over(&config)?;
        if let Some(users) = &launch.users {
            let file = directory.join("users");
            std::fs::write(&file, users)?;
            programs.hand_over(&file)?;
        }
        let args: Vec<&str> = launch.args.iter().map(String::as_str).collect();
        let log = directory.join("log");
        let process = Guarded::spawn(
            launch.shell(programs),
            Path::new(&launch.program),
            &args,
            &directory,
            File::create(&log)?,
        )?;
        let mut running = Self {
            peer,
            port,
            process: Some(process),
        };
        running.wait_ready(&log)?;
        Ok(running)
    }

    fn wait_ready(&mut self, log: &Path) -> Result<(), Failure> {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = match &mut self.process {
                Some(process) => process.ended()?.is_some(),
                None => false,
            };
            if ended || Instant::now() > deadline {
                let log = std::fs::read_to_string(log).unwrap_or_default();
                let name = self.peer.name();
                return Err(format!("{name} does not take connections; its log:\n{log}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
