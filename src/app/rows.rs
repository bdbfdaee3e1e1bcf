//! The admin database's rows, from live state.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use super::caches;
use super::live::Live;
use super::scrape::hot_slots;
use crate::admin::{
    AverageRow, ClientRow, ConfigRow, Connection, DatabaseRow, DigestRow, HelpRow, HotKeyRow,
    HotSlotRow, InDoubtRow, Lists, PeerRow, PoolRow, ReplicaRow, RoutingRow, ServerRow,
    ServerState, ShardRow, Show, SocketRow, StateRow, StatsRow, SumRow, Table, TotalRow,
    TransactionRow, UserRow, VersionRow,
};
use crate::backend::server::Identity;
use crate::cluster::{EndpointId, ReplicaState, Standing};
use crate::config::{self, PoolMode, Shard};
use crate::executor::database::Database;
use crate::metrics::BlockKind;
use crate::net::Instant;
use crate::pool::Pool;
use crate::session::{ClientInfo, ClientState, Directory, replication};

/// Rows of SHOW HOT_SLOTS, per database.
const HOT_SLOTS: usize = 64;

/// The table as it is now.
pub fn table(live: &Live, show: Show) -> Table {
    let look = Look::new(live);
    match show {
        Show::ActiveSockets => Table::of(look.sockets().into_iter().filter(SocketRow::is_active)),
        Show::Clients => Table::of(look.clients()),
        Show::Config => Table::of(
            config::entries(&look.directory.config)
                .into_iter()
                .map(ConfigRow),
        ),
        Show::Databases => Table::of(look.databases()),
        Show::Digests => Table::of(look.digests()),
        Show::DnsHosts | Show::DnsZones | Show::PeerPools => Table::empty(show.columns()),
        Show::Help => Table::of(HelpRow::all()),
        Show::HotKeys => Table::of(look.hot_keys()),
        Show::HotSlots => Table::of(look.hot_slots()),
        Show::InDoubt => Table::of(look.in_doubt()),
        Show::Lists => Table::of(look.lists().rows()),
        Show::Memory => Table::of(caches::memory(&look)),
        Show::Plans => Table::of(caches::plans(&look)),
        Show::Prepared => Table::of(caches::prepared(&look)),
        Show::Slots => Table::of(caches::slots(&look)),
        Show::Peers => Table::of(look.peers()),
        Show::Pools => Table::of(look.pools()),
        Show::Replicas => Table::of(look.replicas()),
        Show::Routing => Table::of(look.routing()),
        Show::Servers => Table::of(look.servers()),
        Show::Shards => Table::of(look.shards()),
        Show::Sockets => Table::of(look.sockets()),
        Show::State => Table::of(StateRow::all(look.is_paused())),
        Show::Stats => Table::of(look.stats(live)),
        Show::StatsAverages => Table::of(look.stats(live).into_iter().map(AverageRow)),
        Show::StatsTotals => Table::of(look.stats(live).into_iter().map(TotalRow)),
        Show::Totals => Table::of(SumRow::all(&look.stats(live))),
        Show::Transactions => Table::of(look.transactions()),
        Show::Users => Table::of(look.users()),
        Show::Version => Table::of([VersionRow]),
    }
}

/// One look at everything, so that the rows of a table fit each other.
pub(super) struct Look {
    pub(super) directory: Arc<Directory>,
    /// By the order in which they connected.
    clients: Vec<Arc<ClientInfo>>,
    now: Instant,
    wall: SystemTime,
}

impl Look {
    pub(super) fn new(live: &Live) -> Self {
        let mut clients = live.shared.clients();
        clients.sort_by_key(|client| (client.connected_at, client.pid));
        Self {
            directory: live.shared.directory.load_full(),
            clients,
            now: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// By name.
    pub(super) fn by_name(&self) -> Vec<Arc<Database>> {
        self.directory.all()
    }

    fn wall_time(&self, at: Instant) -> SystemTime {
        self.wall - self.now.duration_since(at)
    }

    pub(super) fn logged_in(&self) -> impl Iterator<Item = &Arc<ClientInfo>> {
        self.clients.iter().filter(|client| client.is_logged_in())
    }

    /// Its clients that are logged in.
    pub(super) fn of_database<'l>(
        &'l self,
        database: &'l str,
    ) -> impl Iterator<Item = &'l Arc<ClientInfo>> {
        self.logged_in()
            .filter(move |client| client.database == database)
    }

    fn clients(&self) -> Vec<ClientRow> {
        self.logged_in().map(|client| self.client(client)).collect()
    }

    fn client(&self, client: &ClientInfo) -> ClientRow {
        let peer: Option<SocketAddr> = client.address.parse().ok();
        let link = client
            .cancel
            .servers()
            .first()
            .map(|server| u64::from(server.id));
        ClientRow {
            connection: Connection {
                user: client.user.clone(),
                database: client.database.clone(),
                address: peer.map_or_else(|| client.address.clone(), |peer| peer.ip().to_string()),
                port: peer.map_or(0, |peer| peer.port()),
                local_address: ip(client.local),
                local_port: client.local.map_or(0, |local| local.port()),
                connected_at: self.wall_time(client.connected_at),
                last_request_at: self.wall_time(client.connected_at + client.last_request()),
                link,
                remote_pid: 0,
                tls: tls(client.tls),
                application_name: client.application.clone(),
                prepared_statements: client.prepared.load(Relaxed),
                id: u64::from(client.pid.unsigned_abs()),
                pinned: self.pinned(client),
                prepared_bytes: client.prepared_bytes.load(Relaxed),
            },
            state: match client.state() {
                ClientState::Idle | ClientState::LoggingIn => crate::admin::ClientState::Idle,
                ClientState::Active
                | ClientState::IdleInTransaction
                | ClientState::IdleLinked
                | ClientState::Replicating => crate::admin::ClientState::Active,
                ClientState::Waiting => crate::admin::ClientState::Waiting,
            },
            wait: self.wait(client),
        }
    }

    /// How long a client has waited for a server connection: since its last statement came.
    pub(super) fn wait(&self, client: &ClientInfo) -> Duration {
        match client.state() {
            ClientState::Waiting => {
                (self.now.duration_since(client.connected_at)).saturating_sub(client.last_request())
            }
            ClientState::LoggingIn
            | ClientState::Idle
            | ClientState::Active
            | ClientState::IdleInTransaction
            | ClientState::IdleLinked
            | ClientState::Replicating => Duration::ZERO,
        }
    }

    fn pinned(&self, client: &ClientInfo) -> Option<&'static str> {
        let db = self.directory.database(&client.database);
        let by_mode = db.is_some_and(|db| self.mode(&client.user, &db) == PoolMode::Session)
            && !client.cancel.servers().is_empty();
        client.pinned().or(by_mode.then_some("session pool mode"))
    }

    /// The mode of a client.
    fn mode(&self, user: &str, db: &Database) -> PoolMode {
        self.directory.pool_settings(user, db).mode
    }

    /// The client that each server connection works for, by the connection's id.
    fn served(&self) -> HashMap<u32, &ClientInfo> {
        let mut served = HashMap::new();
        for client in &self.clients {
            for server in client.cancel.servers() {
                served.insert(server.id, &**client);
            }
        }
        served
    }

    /// Every pool and the name of its database, those that a reload let go included.
    fn all_pools(&self) -> Vec<(String, Arc<Pool>)> {
        let mut all = Vec::new();
        for db in self.by_name() {
            let pools = db.pools.all().into_iter();
            all.extend(pools.map(|(_, _, pool)| (db.config.name.clone(), pool)));
        }
        all.extend(self.directory.ledger.retired.pools());
        all
    }

    fn servers(&self) -> Vec<ServerRow> {
        let served = self.served();
        let mut rows = Vec::new();
        for (database, pool) in self.all_pools() {
            let servers = pool.servers();
            rows.extend(servers.iter().map(|server| {
                let client = served.get(&server.id).copied();
                self.server(&database, server, client)
            }));
        }
        for client in &self.clients {
            if self.pinned(client) != Some(replication::PINNED) {
                continue;
            }
            // In no pool.
            let servers = client.cancel.servers();
            rows.extend(
                servers
                    .iter()
                    .map(|one| self.server(&client.database, one, Some(client))),
            );
        }
        rows.sort_by_key(|row| (row.connection.connected_at, row.connection.id));
        rows
    }

    fn server(&self, database: &str, server: &Identity, client: Option<&ClientInfo>) -> ServerRow {
        let used = Duration::from_micros(server.activity.last_used_us.load(Relaxed));
        let address = server.peer.map(|peer| peer.ip().to_string());
        let state = if client.is_some() {
            ServerState::Active
        } else if server.activity.resetting.load(Relaxed) {
            ServerState::Resetting
        } else {
            ServerState::Idle
        };
        ServerRow {
            connection: Connection {
                user: server.user.clone(),
                database: database.to_owned(),
                address: address.unwrap_or_else(|| server.endpoint.host.clone()),
                port: server.peer.map_or(0, |peer| peer.port()),
                local_address: ip(server.local),
                local_port: server.local.map_or(0, |local| local.port()),
                connected_at: self.wall_time(server.connected_at),
                last_request_at: self.wall_time(server.connected_at + used),
                link: client.map(|client| u64::from(client.pid.unsigned_abs())),
                remote_pid: server.pid.unsigned_abs(),
                tls: tls(server.tls.is_some()),
                application_name: client.map_or_else(String::new, |c| c.application.clone()),
                prepared_statements: server.activity.prepared.load(Relaxed),
                id: u64::from(server.id),
                pinned: client.and_then(|client| self.pinned(client)),
                prepared_bytes: server.activity.prepared_bytes.load(Relaxed),
            },
            state,
            close_needed: server.activity.close_needed.load(Relaxed),
        }
    }

    fn sockets(&self) -> Vec<SocketRow> {
        let clients = self.clients().into_iter().map(SocketRow::Client);
        let servers = self.servers().into_iter().map(SocketRow::Server);
        clients.chain(servers).collect()
    }

    fn peers(&self) -> Vec<PeerRow> {
        let peers = self.directory.config.peers.iter();
        let row = |(id, endpoint): (&u16, &config::Endpoint)| PeerRow {
            id: *id,
            endpoint: endpoint.clone(),
        };
        peers.map(row).collect()
    }

    /// Every database is.
    fn is_paused(&self) -> bool {
        let databases = self.by_name();
        !databases.is_empty() && databases.iter().all(|db| db.pools.is_paused())
    }

    fn databases(&self) -> Vec<DatabaseRow> {
        let mut rows = Vec::new();
        for db in self.by_name() {
            let config = &db.config;
            let client_connections = self.of_database(&config.name).count();
            for shard in &config.shards {
                for (id, endpoint) in (0..).map(EndpointId).zip(&shard.endpoints) {
                    let (server_connections, max_server_connections) = db.pools.cap(shard.id, id);
                    rows.push(DatabaseRow {
                        name: config.name.clone(),
                        endpoint: endpoint.clone(),
                        dbname: shard.dbname.clone(),
                        server_user: config.server_user.as_ref().map(|user| user.name.clone()),
                        pool_size: config.pool.size,
                        min_pool_size: config.pool.min_size,
                        reserve_pool_size: config.pool.reserve_size,
                        max_lifetime: config.pool.max_lifetime,
                        mode: config.pool.mode,
                        max_server_connections,
                        server_connections: server_connections as usize,
                        max_client_connections: config.pool.max_clients,
                        client_connections,
                        paused: db.pools.is_paused(),
                        disabled: db.pools.is_disabled(),
                    });
                }
            }
        }
        rows
    }

    fn pools(&self) -> Vec<PoolRow> {
        let mut rows = BTreeMap::new();
        for (database, pool) in self.all_pools() {
            let (in_use, idle, opening) = pool.usage();
            let servers = pool.servers();
            let resetting = servers
                .iter()
                .filter(|s| s.activity.resetting.load(Relaxed));
            let resetting = resetting.count();
            let row = match self.directory.database(&database) {
                Some(db) => self.pool_row(&mut rows, &db, &pool.key.user),
                // Let go with its database.
                None if pool.usage() == (0, 0, 0) => continue,
                None => {
                    let mode = pool.settings().mode;
                    pool_row(&mut rows, &database, &pool.key.user, mode)
                }
            };
            row.servers_login += opening as usize;
            row.servers_active += (in_use as usize).saturating_sub(resetting);
            row.servers_resetting += resetting;
            row.servers_idle += idle as usize;
        }
        for client in self.logged_in() {
            let Some(db) = self.directory.database(&client.database) else {
                continue;
            };
            let forced = db.config.server_user.as_ref();
            let user = forced.map_or(&client.user, |user| &user.name);
            let row = self.pool_row(&mut rows, &db, user);
            match client.state() {
                ClientState::Waiting => row.clients_waiting += 1,
                ClientState::LoggingIn
                | ClientState::Idle
                | ClientState::Active
                | ClientState::IdleInTransaction
                | ClientState::IdleLinked
                | ClientState::Replicating => row.clients_active += 1,
            }
            row.max_wait = row.max_wait.max(self.wait(client));
        }
        rows.into_values().collect()
    }

    /// The row of a database and the user who logs in to its servers.
    fn pool_row<'r>(
        &self,
        rows: &'r mut BTreeMap<(String, String), PoolRow>,
        db: &Database,
        user: &str,
    ) -> &'r mut PoolRow {
        pool_row(rows, &db.config.name, user, self.mode(user, db))
    }

    fn replicas(&self) -> Vec<ReplicaRow> {
        let databases = self.by_name().into_iter();
        databases.flat_map(|db| self.replicas_of(&db)).collect()
    }

    /// Every server of the database, in the order of its configuration.
    pub(super) fn replicas_of(&self, db: &Database) -> Vec<ReplicaRow> {
        let row = |state: ReplicaState| ReplicaRow {
            database: db.config.name.clone(),
            shard: state.shard_name,
            endpoint: state.endpoint,
            role: match state.standing {
                Standing::Primary | Standing::Fenced => "primary",
                Standing::Fresh
                | Standing::Lagging
                | Standing::Returning
                | Standing::Silent
                | Standing::Ejected
                | Standing::Foreign => "replica",
                Standing::Down if state.replayed.is_some() => "replica",
                Standing::Down | Standing::Unknown => "unknown",
            },
            standing: state.standing.name(),
            lag: state.lag,
            lag_bytes: state.lag_bytes,
            replayed_lsn: state.replayed.map(|lsn| lsn.to_string()),
            timeline: state.timeline,
            weight: state.weight,
            zone: state.zone,
            times_down: state.incarnation,
            error: state.error,
        };
        db.cluster.replica_snapshot().into_iter().map(row).collect()
    }

    fn digests(&self) -> Vec<DigestRow> {
        let of_database = |db: Arc<Database>| {
            let shards = db.config.shards.iter().map(|shard| shard.name.clone());
            let shards: Vec<String> = shards.collect();
            let rows = db.digests.snapshot().into_iter();
            rows.map(move |digest| DigestRow {
                database: db.config.name.clone(),
                shards: shards.clone(),
                digest,
            })
        };
        self.by_name().into_iter().flat_map(of_database).collect()
    }

    fn hot_keys(&self) -> Vec<HotKeyRow> {
        let of_database = |db: Arc<Database>| {
            let keys = db.digests.hot_keys().into_iter();
            keys.map(move |key| HotKeyRow {
                database: db.config.name.clone(),
                shard: db.config.shards[usize::from(key.shard.0)].name.clone(),
                key,
            })
        };
        self.by_name().into_iter().flat_map(of_database).collect()
    }

    fn hot_slots(&self) -> Vec<HotSlotRow> {
        let databases = self.by_name();
        let slots = databases.iter().flat_map(|db| hot_slots(db, HOT_SLOTS));
        slots.map(HotSlotRow).collect()
    }

    fn routing(&self) -> Vec<RoutingRow> {
        let mut rows = Vec::new();
        for db in self.by_name() {
            let counts: Vec<_> = db.metrics.reads.counts().collect();
            let all: u64 = counts.iter().map(|(_, count)| count).sum();
            let row = |role, reason, reads, all, meaning| RoutingRow {
                database: db.config.name.clone(),
                role,
                reason,
                reads,
                all,
                meaning,
            };
            rows.extend(counts.into_iter().map(|(by, reads)| {
                let (role, reason) = by.names();
                row(role, reason, reads, all, by.meaning())
            }));
            let retries = db.metrics.retries.counts();
            rows.extend(
                retries.map(|(why, reads)| row("retry", why.name(), reads, all, why.meaning())),
            );
            let blocks: Vec<_> = db.metrics.blocks.counts().collect();
            let moved = |kind: &BlockKind| *kind == BlockKind::Moved;
            let all = blocks.iter().filter(|(kind, _)| !moved(kind));
            let all: u64 = all.map(|(_, count)| count).sum();
            rows.extend(
                blocks.into_iter().map(|(kind, count)| {
                    row("transaction", kind.name(), count, all, kind.meaning())
                }),
            );
        }
        rows
    }

    fn shards(&self) -> Vec<ShardRow> {
        let mut rows = Vec::new();
        for db in self.by_name() {
            let topology = &db.config.topology;
            let weights = topology.shards().iter().zip(topology.slots_per_shard());
            let states = db.cluster.replica_snapshot();
            for (shard, (weight, slots)) in db.config.shards.iter().zip(weights) {
                let here = || states.iter().filter(|state| state.shard == shard.id);
                let primary = db.cluster.primary(shard.id);
                let (connections_active, connections_idle) = usage(&db, shard);
                rows.push(ShardRow {
                    database: db.config.name.clone(),
                    shard: shard.name.clone(),
                    dbname: shard.dbname.clone(),
                    weight: weight.weight,
                    slots,
                    primary: primary.map(|id| db.cluster.endpoint(shard.id, id).to_string()),
                    replicas: here().filter(|s| s.standing != Standing::Primary).count(),
                    replicas_fresh: here().filter(|s| s.standing == Standing::Fresh).count(),
                    connections_active,
                    connections_idle,
                });
            }
        }
        rows
    }

    fn transactions(&self) -> Vec<TransactionRow> {
        let mut rows = Vec::new();
        for db in self.by_name() {
            let name = |shard: &planner::ShardId| {
                let shard = &db.config.shards[usize::from(shard.0)];
                shard.name.clone()
            };
            for running in db.cluster.two_phase.running() {
                rows.push(TransactionRow {
                    database: db.config.name.clone(),
                    transaction: running.id.to_string(),
                    phase: running.phase().name(),
                    age: self.now.saturating_duration_since(running.since),
                    shards: running.shards.iter().map(name).collect(),
                });
            }
        }
        rows
    }

    fn in_doubt(&self) -> Vec<InDoubtRow> {
        let databases = self.by_name().into_iter();
        databases
            .flat_map(|db| self.in_doubt_of(&db).collect::<Vec<_>>())
            .collect()
    }

    /// The oldest first.
    pub(super) fn in_doubt_of<'l>(
        &'l self,
        db: &'l Database,
    ) -> impl Iterator<Item = InDoubtRow> + 'l {
        let row = |doubt: crate::cluster::two_phase::InDoubt| InDoubtRow {
            database: db.config.name.clone(),
            shard: doubt.shard,
            transaction: doubt.transaction.to_string(),
            decision_shard: doubt.decision_shard,
            owner: doubt.owner.to_string(),
            age: doubt.age,
            note: doubt.note,
            gid: doubt.gid,
        };
        db.cluster.two_phase.in_doubt().into_iter().map(row)
    }

    fn stats(&self, live: &Live) -> Vec<StatsRow> {
        let row = |db: Arc<Database>| {
            let (earlier, period) = live.earlier(&db.config.name);
            StatsRow {
                database: db.config.name.clone(),
                totals: db.metrics.totals(),
                earlier,
                period,
            }
        };
        self.by_name().into_iter().map(row).collect()
    }

    fn users(&self) -> Vec<UserRow> {
        let mut rows: BTreeMap<_, _> = BTreeMap::new();
        let general = &self.directory.config.general;
        for (name, user) in &self.directory.config.users {
            let limits = user.limits;
            let row = UserRow {
                name: name.clone(),
                server_connections: 0,
                client_connections: 0,
                limits,
                max_server_connections: (limits.max_connections)
                    .unwrap_or(general.max_user_connections),
                max_client_connections: limits.max_clients.unwrap_or(general.max_user_clients),
            };
            rows.insert(name.clone(), row);
        }
        for pool in self.pools() {
            if let Some(row) = rows.get_mut(&pool.user) {
                row.server_connections +=
                    pool.servers_active + pool.servers_idle + pool.servers_resetting;
            }
        }
        for client in self.logged_in() {
            if let Some(row) = rows.get_mut(&client.user) {
                row.client_connections += 1;
            }
        }
        rows.into_values().collect()
    }

    fn lists(&self) -> Lists {
        let pools = self.pools();
        let clients = self.logged_in().count();
        Lists {
            databases: self.by_name().len(),
            users: self.directory.config.users.len(),
            peers: self.directory.config.peers.len(),
            clients,
            login_clients: self.clients.len() - clients,
            idle_servers: pools.iter().map(|pool| pool.servers_idle).sum(),
            active_servers: pools.iter().map(|pool| pool.servers_active).sum(),
            pools: pools.len(),
        }
    }
}

fn pool_row<'r>(
    rows: &'r mut BTreeMap<(String, String), PoolRow>,
    database: &str,
    user: &str,
    mode: PoolMode,
) -> &'r mut PoolRow {
    let key = (database.to_owned(), user.to_owned());
    rows.entry(key).or_insert_with(|| PoolRow {
        database: database.to_owned(),
        user: user.to_owned(),
        clients_active: 0,
        clients_waiting: 0,
        cancels: 0,
        servers_active: 0,
        servers_idle: 0,
        servers_resetting: 0,
        servers_login: 0,
        max_wait: Duration::ZERO,
        mode,
    })
}

/// Server connections in use and idle, of all servers of a shard.
fn usage(db: &Database, shard: &Shard) -> (usize, usize) {
    let pools = db.pools.all();
    let here = pools.iter().filter(|(s, _, _)| *s == shard.id);
    here.fold((0, 0), |(active, idle), (_, _, pool)| {
        let (more_active, more_idle, _) = pool.usage();
        (active + more_active as usize, idle + more_idle as usize)
    })
}

fn ip(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "unix".to_owned(), |address| address.ip().to_string())
}

/// The versions and ciphers in use are not kept.
fn tls(used: bool) -> String {
    if used {
        "TLS".to_owned()
    } else {
        String::new()
    }
}
