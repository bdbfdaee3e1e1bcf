//! SHOW SOCKETS and SHOW ACTIVE_SOCKETS: the connections of both sides in one table.

use super::connections::{COLUMNS as CONNECTION, ClientRow, ClientState, ServerRow, ServerState};
use super::table::{Cell, Column, Row, int4};

pub enum SocketRow {
    Client(ClientRow),
    Server(ServerRow),
}

impl SocketRow {
    /// Somebody works or waits on it.
    pub fn is_active(&self) -> bool {
        match self {
            Self::Client(row) => match row.state {
                ClientState::Active | ClientState::Waiting => true,
                ClientState::Idle => false,
            },
            Self::Server(row) => match row.state {
                ServerState::Active | ServerState::Resetting | ServerState::New => true,
                ServerState::Idle => false,
            },
        }
    }

    /// PgBouncer's word for it in these tables.
    fn state(&self) -> &'static str {
        match self {
            Self::Client(row) => match row.state {
                ClientState::Active | ClientState::Idle => "cl_active",
                ClientState::Waiting => "cl_waiting",
            },
            Self::Server(row) => match row.state {
                ServerState::Active => "sv_active",
                ServerState::Idle => "sv_idle",
                ServerState::Resetting => "sv_tested",
                ServerState::New => "sv_login",
            },
        }
    }
}

/// Positions in PgBouncer's buffers. Ours belong to the threads that use them, so they are NULL.
const BUFFERS: [Column; 7] = [
    int4("recv_pos"),
    int4("pkt_pos"),
    int4("pkt_remain"),
    int4("send_pos"),
    int4("send_remain"),
    int4("pkt_avail"),
    int4("send_avail"),
];
const COUNT: usize = CONNECTION.len() + BUFFERS.len();
/// Ringway's own columns come last in both tables.
const OWN: usize = 2;
const SHARED: usize = CONNECTION.len() - OWN;
/// Of the column `state`.
const STATE: usize = 4;

const COLUMNS: [Column; COUNT] = {
    let mut all = [BUFFERS[0]; COUNT];
    let mut at = 0;
    while at < COUNT {
        all[at] = match at {
            _ if at < SHARED => CONNECTION[at],
            _ if at < SHARED + BUFFERS.len() => BUFFERS[at - SHARED],
            _ => CONNECTION[at - BUFFERS.len()],
        };
        at += 1;
    }
    all
};

impl Row for SocketRow {
    const COLUMNS: &'static [Column] = &COLUMNS;

    fn cells(self) -> Vec<Cell> {
        let state = self.state();
        let mut cells = match self {
            Self::Client(row) => row.cells(),
            Self::Server(row) => row.cells(),
        };
        cells[STATE] = state.into();
        cells.splice(SHARED..SHARED, BUFFERS.map(|_| Cell::Null));
        cells
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::connections::tests::connection;
    use super::super::table::tests::printed;
    use super::*;

    #[test]
    fn rows() {
        let client = SocketRow::Client(ClientRow {
            connection: connection(),
            state: ClientState::Idle,
            wait: Duration::ZERO,
        });
        let server = SocketRow::Server(ServerRow {
            connection: connection(),
            state: ServerState::Active,
            close_needed: false,
        });
        assert_eq!((client.is_active(), server.is_active()), (false, true));
        let table = printed([client, server]);
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].ends_with(
            "|prepared_statements|id|recv_pos|pkt_pos|pkt_remain|send_pos|send_remain|pkt_avail|\
             send_avail|pinned|prepared_bytes"
        ));
        assert!(lines[1].starts_with("C|app|shop|none|cl_active|10.0.0.1|4242|"));
        assert!(lines[1].ends_with("|3|16|NULL|NULL|NULL|NULL|NULL|NULL|NULL|LISTEN|9000"));
        assert!(lines[2].starts_with("S|app|shop|none|sv_active|10.0.0.1|4242|"));
    }
}
