//! SHOW LISTS: PgBouncer's counts, of which those of things Ringway does not have stay 0.

use super::table::{Cell, Column, Row, int4, int8, text};

#[derive(Debug, Clone, Copy, Default)]
pub struct Lists {
    pub databases: usize,
    pub users: usize,
    /// Other processes, of `[peers]`.
    pub peers: usize,
    pub pools: usize,
    /// Clients that are logged in.
    pub clients: usize,
    /// Clients before they are logged in.
    pub login_clients: usize,
    /// Connections to servers that no client uses.
    pub idle_servers: usize,
    /// Connections to servers that serve a client.
    pub active_servers: usize,
}

/// SHOW PEER_POOLS has no rows: a CancelRequest for a peer has a connection of its own.
pub const PEER_POOLS: &[Column] = &[
    int4("peer_id"),
    int4("cl_active_cancel_req"),
    int4("cl_waiting_cancel_req"),
    int4("sv_active_cancel"),
    int4("sv_login"),
];

/// SHOW DNS_HOSTS and SHOW DNS_ZONES have no rows: names are looked up anew for every connection.
pub const DNS_HOSTS: &[Column] = &[text("hostname"), int8("ttl"), text("addrs")];
pub const DNS_ZONES: &[Column] = &[text("zonename"), int8("serial"), int4("count")];

pub struct ListRow {
    list: &'static str,
    items: usize,
}

impl Lists {
    pub fn rows(self) -> Vec<ListRow> {
        let lists = [
            ("databases", self.databases),
            ("users", self.users),
            ("peers", self.peers),
            ("pools", self.pools),
            ("peer_pools", 0),
            ("free_clients", 0),
            ("used_clients", self.clients),
            ("login_clients", self.login_clients),
            ("free_servers", self.idle_servers),
            ("used_servers", self.active_servers),
            ("dns_names", 0),
            ("dns_zones", 0),
            ("dns_queries", 0),
            ("dns_pending", 0),
        ];
        lists
            .into_iter()
            .map(|(list, items)| ListRow { list, items })
            .collect()
    }
}

impl Row for ListRow {
    const COLUMNS: &'static [Column] = &[text("list"), int4("items")];

    fn cells(self) -> Vec<Cell> {
        vec![self.list.into(), self.items.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::printed;
    use super::*;

    #[test]
    fn rows() {
        let lists = Lists {
            databases: 1,
            users: 2,
            peers: 8,
            pools: 3,
            clients: 4,
            login_clients: 5,
            idle_servers: 6,
            active_servers: 7,
        };
        assert_eq!(
            printed(lists.rows()),
            "list|items\ndatabases|1\nusers|2\npeers|8\npools|3\npeer_pools|0\nfree_clients|0\n\
             used_clients|4\nlogin_clients|5\nfree_servers|6\nused_servers|7\ndns_names|0\n\
             dns_zones|0\ndns_queries|0\ndns_pending|0",
        );
    }
}
