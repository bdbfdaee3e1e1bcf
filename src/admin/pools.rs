//! SHOW POOLS.

use std::time::Duration;

use super::table::{Cell, Column, Row, int4, text};
use crate::config::PoolMode;

/// The clients of one user on one database, and the server connections that serve them, summed
/// over shards and servers. PgBouncer's states that Ringway does not have stay 0.
#[derive(Debug, Clone)]
pub struct PoolRow {
    pub database: String,
    pub user: String,
    /// Clients that are linked to a server connection or want none.
    pub clients_active: usize,
    /// Clients that wait for a server connection.
    pub clients_waiting: usize,
    /// Cancel requests on their way to a server.
    pub cancels: usize,
    pub servers_active: usize,
    pub servers_idle: usize,
    /// Connections that are being reset before they may be used again.
    pub servers_resetting: usize,
    /// Connections that log in now.
    pub servers_login: usize,
    /// How long the oldest waiting client has waited.
    pub max_wait: Duration,
    pub mode: PoolMode,
}

impl Row for PoolRow {
    const COLUMNS: &'static [Column] = &[
        text("database"),
        text("user"),
        int4("cl_active"),
        int4("cl_waiting"),
        int4("cl_active_cancel_req"),
        int4("cl_waiting_cancel_req"),
        int4("sv_active"),
        int4("sv_active_cancel"),
        int4("sv_being_canceled"),
        int4("sv_idle"),
        int4("sv_used"),
        int4("sv_tested"),
        int4("sv_login"),
        int4("maxwait"),
        int4("maxwait_us"),
        text("pool_mode"),
        text("load_balance_hosts"),
    ];

    fn cells(self) -> Vec<Cell> {
        vec![
            self.database.into(),
            self.user.into(),
            self.clients_active.into(),
            self.clients_waiting.into(),
            self.cancels.into(),
            Cell::Number(0),
            self.servers_active.into(),
            Cell::Number(0),
            Cell::Number(0),
            self.servers_idle.into(),
            Cell::Number(0),
            self.servers_resetting.into(),
            self.servers_login.into(),
            self.max_wait.as_secs().into(),
            self.max_wait.subsec_micros().into(),
            self.mode.name().into(),
            Cell::Null,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::printed;
    use super::*;

    #[test]
    fn row() {
        let row = PoolRow {
            database: "shop".into(),
            user: "app".into(),
            clients_active: 1,
            clients_waiting: 2,
            cancels: 3,
            servers_active: 4,
            servers_idle: 5,
            servers_resetting: 6,
            servers_login: 7,
            max_wait: Duration::from_micros(8_000_009),
            mode: PoolMode::Transaction,
        };
        assert_eq!(
            printed([row]),
            "database|user|cl_active|cl_waiting|cl_active_cancel_req|cl_waiting_cancel_req|\
             sv_active|sv_active_cancel|sv_being_canceled|sv_idle|sv_used|sv_tested|sv_login|\
             maxwait|maxwait_us|pool_mode|load_balance_hosts\n\
             shop|app|1|2|3|0|4|0|0|5|0|6|7|8|9|transaction|NULL",
        );
    }
}
