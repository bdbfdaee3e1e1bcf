//! The shop: the demo's tables and rows, and the configuration that declares them.

use std::fmt::Write;

use planner::Topology;
use planner::ring::SLOTS;
use planner::topology::ShardWeight;
use tokio_postgres::NoTls;

use super::Error;
use super::captive::{Auth, CaptiveCluster, Server, ShardServers, Spec};

pub const DATABASE: &str = "shop";
/// The role of applications, with the same password; it owns the tables.
pub const USER: &str = "app";

const TABLES: &str = include_str!("shop.sql");
const SETTINGS: &str = include_str!("settings.sql");

/// How much is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Each has 6 orders, with 9 items in all.
    pub customers: u32,
}

impl Size {
    /// Small, and the one that the tour was written for.
    pub const TOUR: Self = Self { customers: 10_000 };

    pub fn of_orders(orders: u32) -> Self {
        Self {
            customers: orders.div_ceil(6),
        }
    }

    /// Rows of customers, orders and order items together.
    pub fn sharded_rows(self) -> u64 {
        u64::from(self.customers) * 16
    }
}

/// What the demo's servers are like.
pub fn spec(shards: usize, replicas: usize) -> Spec {
    Spec {
        shards,
        replicas,
        database: DATABASE.to_owned(),
        auth: Auth::Scram("captive".to_owned()),
        ..Spec::default()
    }
}

/// Creates role, tables and rows on every shard of the cluster, on all shards at once.
pub async fn load(cluster: &CaptiveCluster, size: Size) -> Result<(), Error> {
    let topology = topology(cluster.shards.len());
    let loads = cluster.shards.iter().enumerate().map(|(at, shard)| {
        let owned = (0..SLOTS as u16)
            .filter(|slot| usize::from(topology.owner(*slot).0) == at)
            .collect();
        load_shard(&shard.primary, owned, size, at == 0)
    });
    futures_util::future::try_join_all(loads).await?;
    Ok(())
}

/// `postgresql://…` of an application.
pub fn url(port: u16, database: &str) -> String {
    format!("postgresql://{USER}:{USER}@127.0.0.1:{port}/{database}")
}

/// The configuration of Ringway in front of the cluster.
pub fn ringway_toml(cluster: &CaptiveCluster, port: u16) -> String {
    let mut toml = format!(
        r#"[general]
listen = "127.0.0.1:{port}"
admin_users = ["{USER}"]

[users.{USER}]
password = "{USER}"

[databases.{DATABASE}]
server_user = "{USER}"
server_password = "{USER}"
reads = {{ split = true }}

[databases.{DATABASE}.tables]
customers = {{ key = "id" }}
orders = {{ key = "customer_id" }}
order_items = {{ key = "customer_id" }}
countries = "reference"
settings = {{ shard = "{}" }}
"#,
        shard_name(0)
    );
    for (at, shard) in cluster.shards.iter().enumerate() {
        let _ = write!(
            toml,
            "\n[[databases.{DATABASE}.shards]]\nname = \"{}\"\nservers = [{}]\n",
            shard_name(at),
            servers(shard)
        );
    }
    toml
}

fn servers(shard: &ShardServers) -> String {
    let quoted: Vec<String> = std::iter::once(&shard.primary)
        .chain(&shard.replicas)
        .map(|server| format!("\"127.0.0.1:{}\"", server.port))
        .collect();
    quoted.join(", ")
}

fn shard_name(at: usize) -> String {
    format!("s{}", at + 1)
}

/// The slot table as Ringway makes it of [`ringway_toml`].
fn topology(shards: usize) -> Topology {
    let weight = |at| ShardWeight {
        name: shard_name(at),
        weight: 1,
    };
    Topology::new((0..shards).map(weight).collect(), &[])
}

async fn load_shard(
    server: &Server,
    owned: Vec<u16>,
    size: Size,
    settings: bool,
) -> Result<(), Error> {
    let client = connect(&server.connection()).await?;
    client
        .batch_execute(&format!(
            "CREATE ROLE {USER} LOGIN PASSWORD '{USER}' IN ROLE pg_monitor;
             GRANT ALL ON SCHEMA public TO {USER};
             SET ROLE {USER};
             CREATE TEMPORARY TABLE owned_slot (slot integer PRIMARY KEY);
             INSERT INTO owned_slot SELECT unnest('{{{}}}'::integer[]);",
            owned
                .iter()
                .map(|slot| slot.to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ))
        .await?;
    let tables = TABLES.replace("{customers}", &size.customers.to_string());
    client.batch_execute(&tables).await?;
    if settings {
        client.batch_execute(SETTINGS).await?;
    }
    client.batch_execute("RESET ROLE; ANALYZE").await?;
    Ok(())
}

/// A connection whose other half runs in a task of its own.
pub async fn connect(config: &tokio_postgres::Config) -> Result<tokio_postgres::Client, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
