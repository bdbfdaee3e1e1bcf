//! Asking one server for its role and position.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Statement};

use super::control::{ControlPool, Failure, dedicated};
use super::lsn::{Lsn, WalLayout};
use super::shard::{Observation, Position};
use crate::net::{Instant, timeout};

/// What does not change while a server runs.
const IDENTITY: &str = "SELECT current_setting('wal_block_size')::bigint, \
     pg_size_bytes(current_setting('wal_segment_size'))";

/// Separate, since a managed service may deny it.
const SYSTEM_ID: &str = "SELECT system_identifier FROM pg_control_system()";

/// The timeline of a primary is in the name of its WAL file; that of a replica is what its WAL
/// receiver follows, which only members of pg_read_all_stats see, or else what it last wrote to
/// its control file. The role is read once, so that a promotion between the parts does no harm.
/// `{control}` is the control file's timeline, or NULL where it may not be read.
const POLL: &str = "SELECT r.is_replica, \
     CASE WHEN r.is_replica THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END, \
     CASE WHEN r.is_replica THEN NULL ELSE pg_walfile_name(pg_current_wal_lsn()) END, \
     CASE WHEN r.is_replica THEN \
       COALESCE((SELECT received_tli FROM pg_stat_wal_receiver), {control}) END \
     FROM (SELECT pg_is_in_recovery() AS is_replica) r";

/// Where WAL positions cannot be had: Aurora has none, and a role may lack the privilege.
const BLIND_POLL: &str = "SELECT pg_is_in_recovery()";

const CONTROL_TIMELINE: &str = "(SELECT timeline_id FROM pg_control_checkpoint())";

/// A kept connection to one server.
pub struct Link {
    client: Client,
    poll: Statement,
    wal: WalLayout,
    system_id: Option<i64>,
    is_blind: bool,
}

impl Link {
    /// Connects and learns who the server is. Errors: connecting or one of the queries failed or
    /// took longer than its limit.
    pub async fn open(
        pool: &ControlPool,
        connect_limit: Duration,
        query_limit: Duration,
    ) -> Result<Self, Failure> {
        let client = dedicated(pool, connect_limit).await?;
        timeout(query_limit, Self::identify(client))
            .await
            .map_err(|_| Failure::Slow("the server's first answer", query_limit))?
    }

    async fn identify(client: Client) -> Result<Self, Failure> {
        let row = client.query_one(IDENTITY, &[]).await?;
        let wal = WalLayout {
            block: positive(row.try_get(0)?)?,
            segment: positive(row.try_get(1)?)?,
        };
        let system_id = match client.query_one(SYSTEM_ID, &[]).await {
            Ok(row) => Some(row.try_get(0)?),
            // An ErrorResponse leaves the connection usable; anything else does not.
            Err(error) if error.as_db_error().is_some() => None,
            Err(error) => return Err(error.into()),
        };
        let control = match system_id {
            Some(_) => CONTROL_TIMELINE,
            None => "NULL",
        };
        let sql = POLL.replace("{control}", control);
        let poll = match Self::try_poll(&client, &sql).await {
            Ok(poll) => Some(poll),
            Err(error) if denies(&error) => None,
            Err(error) => return Err(error.into()),
        };
        let is_blind = poll.is_none();
        let poll = match poll {
            Some(poll) => poll,
            None => client.prepare(BLIND_POLL).await?,
        };
        Ok(Self {
            client,
            poll,
            wal,
            system_id,
            is_blind,
        })
    }

    /// Whether a function may be called is found out when it is.
    async fn try_poll(client: &Client, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let poll = client.prepare(sql).await?;
        client.query_one(&poll, &[]).await.map(|_| poll)
    }

    /// One observation. Errors: the server failed or did not answer within `limit`; the link is of
    /// no more use then.
    pub async fn observe(&self, limit: Duration) -> Result<Observation, Failure> {
        let started = Instant::now();
        let row = timeout(limit, self.client.query_one(&self.poll, &[]))
            .await
            .map_err(|_| Failure::Slow("the server's answer", limit))??;
        let is_replica: bool = row.try_get(0)?;
        if self.is_blind {
            return Ok(Observation {
                started,
                system_id: self.system_id,
                timeline: None,
                position: match is_replica {
                    true => Position::Replica { replayed: None },
                    false => Position::Primary {
                        inserted: Lsn::default(),
                    },
                },
                is_blind: true,
            });
        }
        let lsn: Option<PgLsn> = row.try_get(1)?;
        let lsn = lsn.map(|lsn| Lsn::new(lsn.into()));
        let (position, timeline) = if is_replica {
            let followed: Option<i32> = row.try_get(3)?;
            let timeline = followed.and_then(|timeline| u32::try_from(timeline).ok());
            (Position::Replica { replayed: lsn }, timeline)
        } else {
            let inserted = lsn
                .ok_or(Failure::Odd("a primary without a WAL position"))?
                .without_page_header(self.wal);
            let file: String = row.try_get(2)?;
            (Position::Primary { inserted }, file_timeline(&file))
        };
        Ok(Observation {
            started,
            system_id: self.system_id,
            timeline,
            position,
            is_blind: false,
        })
    }
}

/// The server has no such function, or does not let this role call it.
fn denies(error: &tokio_postgres::Error) -> bool {
    let codes = [
        SqlState::INSUFFICIENT_PRIVILEGE,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::FEATURE_NOT_SUPPORTED,
    ];
    error.code().is_some_and(|code| codes.contains(code))
}

fn positive(size: i64) -> Result<u64, Failure> {
    u64::try_from(size)
        .ok()
        .filter(|size| *size > 0)
        .ok_or(Failure::Odd("a WAL size that is not positive"))
}

/// The timeline in a WAL file's name: its first 8 hexadecimal digits.
fn file_timeline(name: &str) -> Option<u32> {
    u32::from_str_radix(name.get(..8)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_timeline_of_a_wal_file() {
        assert_eq!(file_timeline("0000000A0000000100000002"), Some(10));
        assert_eq!(file_timeline("0000000"), None);
        assert_eq!(file_timeline("history0"), None);
    }
}
