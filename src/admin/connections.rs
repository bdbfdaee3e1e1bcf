//! SHOW CLIENTS and SHOW SERVERS, which have the same columns.

use std::time::{Duration, SystemTime};

use super::table::{Cell, Column, Row, int4, int8, text};
use super::time::timestamp;

/// What connections of both sides have.
#[derive(Debug, Clone)]
pub struct Connection {
    pub user: String,
    /// The name that clients connect to.
    pub database: String,
    /// The other end: an IP address, a directory, or `unix`.
    pub address: String,
    /// 0 for a Unix socket.
    pub port: u16,
    pub local_address: String,
    pub local_port: u16,
    pub connected_at: SystemTime,
    /// When the last statement came or was sent.
    pub last_request_at: SystemTime,
    /// The connection of the other side that serves this one now.
    pub link: Option<u64>,
    /// The server process's id; 0 for clients.
    pub remote_pid: u32,
    /// Protocol and cipher; empty without TLS.
    pub tls: String,
    pub application_name: String,
    pub prepared_statements: usize,
    pub id: u64,
    /// Why the client keeps its server connection between transactions.
    pub pinned: Option<&'static str>,
    /// What the texts of its prepared statements count for.
    pub prepared_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// Linked to a server connection.
    Active,
    Idle,
    /// Waits for a server connection.
    Waiting,
}

impl ClientState {
    fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Waiting => "waiting",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// Linked to a client.
    Active,
    Idle,
    /// Being reset before it may be used again.
    Resetting,
    /// Connecting and logging in.
    New,
}

impl ServerState {
    /// PgBouncer's word for it.
    fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idle => "idle",
            Self::Resetting => "tested",
            Self::New => "new",
        }
    }
}

#[derive(Debug, Clone)]
pub struct ClientRow {
    pub connection: Connection,
    pub state: ClientState,
    /// How long it has waited for a server connection.
    pub wait: Duration,
}

#[derive(Debug, Clone)]
pub struct ServerRow {
    pub connection: Connection,
    pub state: ServerState,
    /// It will be closed instead of reused.
    pub close_needed: bool,
}

pub(super) const COLUMNS: &[Column] = &[
    text("type"),
    text("user"),
    text("database"),
    text("replication"),
    text("state"),
    text("addr"),
    int4("port"),
    text("local_addr"),
    int4("local_port"),
    text("connect_time"),
    text("request_time"),
    int4("wait"),
    int4("wait_us"),
    int4("close_needed"),
    text("ptr"),
    text("link"),
    int4("remote_pid"),
    text("tls"),
    text("application_name"),
    int4("prepared_statements"),
    int4("id"),
    // Ringway's own, after PgBouncer's.
    text("pinned"),
    int8("prepared_bytes"),
];

impl Row for ClientRow {
    const COLUMNS: &'static [Column] = COLUMNS;

    fn cells(self) -> Vec<Cell> {
        self.connection
            .cells("C", self.state.name(), self.wait, false)
    }
}

impl Row for ServerRow {
    const COLUMNS: &'static [Column] = COLUMNS;

    fn cells(self) -> Vec<Cell> {
        self.connection
            .cells("S", self.state.name(), Duration::ZERO, self.close_needed)
    }
}

impl Connection {
    fn cells(self, kind: &str, state: &str, wait: Duration, close_needed: bool) -> Vec<Cell> {
        // PgBouncer's addresses in memory only tell connections apart; so do numbers.
        let pointer = |id: u64| format!("{id:#x}");
        vec![
            kind.into(),
            self.user.into(),
            self.database.into(),
            "none".into(),
            state.into(),
            self.address.into(),
            u32::from(self.port).into(),
            self.local_address.into(),
            u32::from(self.local_port).into(),
            timestamp(self.connected_at).into(),
            timestamp(self.last_request_at).into(),
            wait.as_secs().into(),
            wait.subsec_micros().into(),
            close_needed.into(),
            pointer(self.id).into(),
            self.link.map_or_else(String::new, pointer).into(),
            self.remote_pid.into(),
            self.tls.into(),
            self.application_name.into(),
            self.prepared_statements.into(),
            self.id.into(),
            self.pinned.unwrap_or_default().into(),
            self.prepared_bytes.into(),
        ]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::table::tests::printed;
    use super::*;

    pub fn connection() -> Connection {
        Connection {
            user: "app".into(),
            database: "shop".into(),
            address: "10.0.0.1".into(),
            port: 4_242,
            local_address: "10.0.0.2".into(),
            local_port: 6_432,
            connected_at: UNIX_EPOCH,
            last_request_at: UNIX_EPOCH + Duration::from_secs(61),
            link: Some(31),
            remote_pid: 7,
            tls: String::new(),
            application_name: "psql".into(),
            prepared_statements: 3,
            id: 16,
            pinned: Some("LISTEN"),
            prepared_bytes: 9_000,
        }
    }

    #[test]
    fn clients() {
        let wait = Duration::from_micros(2_000_005);
        let row = ClientRow {
            connection: connection(),
            state: ClientState::Waiting,
            wait,
        };
        assert_eq!(
            printed([row]),
            "type|user|database|replication|state|addr|port|local_addr|local_port|connect_time|\
             request_time|wait|wait_us|close_needed|ptr|link|remote_pid|tls|application_name|\
             prepared_statements|id|pinned|prepared_bytes\n\
             C|app|shop|none|waiting|10.0.0.1|4242|10.0.0.2|6432|1970-01-01 00:00:00 UTC|\
             1970-01-01 00:01:01 UTC|2|5|0|0x10|0x1f|7||psql|3|16|LISTEN|9000",
        );
    }

    #[test]
    fn servers() {
        let connection = Connection {
            link: None,
            ..connection()
        };
        let row = ServerRow {
            connection,
            state: ServerState::Resetting,
            close_needed: true,
        };
        assert!(printed([row]).ends_with(
            "\nS|app|shop|none|tested|10.0.0.1|4242|10.0.0.2|6432|1970-01-01 00:00:00 UTC|\
             1970-01-01 00:01:01 UTC|0|0|1|0x10||7||psql|3|16|LISTEN|9000"
        ));
    }
}
