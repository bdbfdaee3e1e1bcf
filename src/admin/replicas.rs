//! SHOW REPLICAS: Ringway's own table, a row for every server, the primaries included.

use std::time::Duration;

use super::table::{Cell, Column, Row, int4, int8, text};
use crate::config::Endpoint;

#[derive(Debug, Clone)]
pub struct ReplicaRow {
    pub database: String,
    pub shard: String,
    pub endpoint: Endpoint,
    /// `primary`, `replica`, or `unknown` before the server was asked.
    pub role: &'static str,
    /// What the server may be used for, in the cluster's words.
    pub standing: &'static str,
    /// How old a replica's data may be.
    pub lag: Option<Duration>,
    /// WAL that a replica has still to replay.
    pub lag_bytes: Option<u64>,
    /// How far a replica has replayed, as PostgreSQL prints an LSN.
    pub replayed_lsn: Option<String>,
    pub timeline: Option<u32>,
    /// Its share of the reads that it may answer.
    pub weight: f64,
    pub zone: Option<String>,
    /// How often it was down.
    pub times_down: u32,
    /// Why the server is down.
    pub error: Option<String>,
}

impl Row for ReplicaRow {
    const COLUMNS: &'static [Column] = &[
        text("database"),
        text("shard"),
        text("host"),
        int4("port"),
        text("role"),
        text("standing"),
        int8("lag_ms"),
        int8("lag_bytes"),
        text("replayed_lsn"),
        int8("timeline"),
        text("error"),
        text("weight"),
        text("zone"),
        int8("times_down"),
    ];

    fn cells(self) -> Vec<Cell> {
        let lag_ms = self
            .lag
            .map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX));
        vec![
            self.database.into(),
            self.shard.into(),
            self.endpoint.host.into(),
            u32::from(self.endpoint.port).into(),
            self.role.into(),
            self.standing.into(),
            lag_ms.into(),
            self.lag_bytes.into(),
            self.replayed_lsn.into(),
            self.timeline.into(),
            self.error.into(),
            self.weight.to_string().into(),
            self.zone.into(),
            self.times_down.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::printed;
    use super::*;

    #[test]
    fn row() {
        let row = ReplicaRow {
            database: "shop".into(),
            shard: "s1".into(),
            endpoint: Endpoint {
                host: "a".into(),
                port: 5432,
            },
            role: "replica",
            standing: "fresh",
            lag: Some(Duration::from_micros(1_999)),
            lag_bytes: Some(2),
            replayed_lsn: Some("0/3000060".into()),
            timeline: Some(u32::MAX),
            weight: 0.25,
            zone: None,
            times_down: 3,
            error: None,
        };
        assert_eq!(
            printed([row]),
            "database|shard|host|port|role|standing|lag_ms|lag_bytes|replayed_lsn|timeline|error|\
             weight|zone|times_down\n\
             shop|s1|a|5432|replica|fresh|1|2|0/3000060|4294967295|NULL|0.25|NULL|3",
        );
    }
}
