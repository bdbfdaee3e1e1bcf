//! SHOW DATABASES.

use std::time::Duration;

use super::table::{Cell, Column, Row, int4, text};
use crate::config::{Endpoint, PoolMode};

/// One server of one database. PgBouncer has one row for a database; Ringway's databases have
/// several servers, and exporters tell the rows apart by host and port.
#[derive(Debug, Clone)]
pub struct DatabaseRow {
    /// The name that clients connect to.
    pub name: String,
    pub endpoint: Endpoint,
    /// The name on the server.
    pub dbname: String,
    pub server_user: Option<String>,
    pub pool_size: u32,
    pub min_pool_size: u32,
    pub reserve_pool_size: u32,
    pub max_lifetime: Duration,
    pub mode: PoolMode,
    /// 0 is no limit, as for clients.
    pub max_server_connections: u32,
    pub max_client_connections: u32,
    /// Connections to this server.
    pub server_connections: usize,
    /// Clients of the database, the same in all its rows.
    pub client_connections: usize,
    pub paused: bool,
    pub disabled: bool,
}

impl Row for DatabaseRow {
    const COLUMNS: &'static [Column] = &[
        text("name"),
        text("host"),
        int4("port"),
        text("database"),
        text("force_user"),
        int4("pool_size"),
        int4("min_pool_size"),
        int4("reserve_pool_size"),
        int4("server_lifetime"),
        text("pool_mode"),
        text("load_balance_hosts"),
        int4("max_connections"),
        int4("current_connections"),
        int4("max_client_connections"),
        int4("current_client_connections"),
        int4("paused"),
        int4("disabled"),
        // Before PgBouncer 1.8, and still asked for: by Debian's exporter, and by the Prometheus community's.
        int4("reserve_pool"),
    ];

    fn cells(self) -> Vec<Cell> {
        vec![
            self.name.into(),
            self.endpoint.host.into(),
            u32::from(self.endpoint.port).into(),
            self.dbname.into(),
            self.server_user.into(),
            self.pool_size.into(),
            self.min_pool_size.into(),
            self.reserve_pool_size.into(),
            self.max_lifetime.as_secs().into(),
            self.mode.name().into(),
            Cell::Null,
            self.max_server_connections.into(),
            self.server_connections.into(),
            self.max_client_connections.into(),
            self.client_connections.into(),
            self.paused.into(),
            self.disabled.into(),
            self.reserve_pool_size.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::printed;
    use super::*;

    #[test]
    fn row() {
        let row = DatabaseRow {
            name: "shop".into(),
            endpoint: Endpoint {
                host: "::1".into(),
                port: 5432,
            },
            dbname: "shop_1".into(),
            server_user: None,
            pool_size: 20,
            min_pool_size: 1,
            reserve_pool_size: 2,
            max_server_connections: 30,
            max_client_connections: 40,
            max_lifetime: Duration::from_secs(3_600),
            mode: PoolMode::Session,
            server_connections: 4,
            client_connections: 5,
            paused: true,
            disabled: false,
        };
        assert_eq!(
            printed([row]),
            "name|host|port|database|force_user|pool_size|min_pool_size|reserve_pool_size|\
             server_lifetime|pool_mode|load_balance_hosts|max_connections|current_connections|\
             max_client_connections|current_client_connections|paused|disabled|reserve_pool\n\
             shop|::1|5432|shop_1|NULL|20|1|2|3600|session|NULL|30|4|40|5|1|0|2",
        );
    }
}
