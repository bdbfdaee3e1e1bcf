//! SHOW PEERS: the processes of `[peers]`.

use super::table::{Cell, Column, Row, int4, text};
use crate::config::Endpoint;

pub struct PeerRow {
    pub id: u16,
    pub endpoint: Endpoint,
}

impl Row for PeerRow {
    const COLUMNS: &'static [Column] = &[
        int4("peer_id"),
        text("host"),
        int4("port"),
        int4("pool_size"),
    ];

    /// A CancelRequest has a connection of its own, so there is no size to tell.
    fn cells(self) -> Vec<Cell> {
        vec![
            u32::from(self.id).into(),
            self.endpoint.host.into(),
            u32::from(self.endpoint.port).into(),
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
        let endpoint = Endpoint {
            host: "r2.internal".into(),
            port: 6_432,
        };
        assert_eq!(
            printed([PeerRow { id: 2, endpoint }]),
            "peer_id|host|port|pool_size\n2|r2.internal|6432|NULL"
        );
    }
}
