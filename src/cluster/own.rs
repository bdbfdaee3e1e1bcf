//! Schema `ringway` on the shards: what processes share of a database, beside its own rows.
//!
//! An ordinary role makes it, with `ringway init`; nothing in it needs an extension or a superuser.
//!
//! - `ringway.version`: one row, the version of what is there.
//! - `ringway.epoch`: one row, counted up after DDL through Ringway, so that other processes look at
//!   the schema at once (see [`super::catalog`]).
//! - `ringway.worker`: on one shard only, the workers of ids and how far each is promised (see
//!   [`super::ids`]).
//! - `ringway.identity`, `ringway.decision`, `ringway.coordinator`: see [`super::two_phase`].

use tokio_postgres::{Client, Error, GenericClient, IsolationLevel, Transaction};

use super::ids::{EPOCH_MS, LEASE, WORKERS};
use super::two_phase;

/// Of what [`create`] makes.
pub const VERSION: i32 = 1;

const LEASE_MS: i64 = LEASE.as_millis() as i64;

/// What `ringway init` found or made on one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// `None`: there is nothing.
    pub version: Option<i32>,
    pub has_workers: bool,
    pub has_decisions: bool,
    /// The role that asks may use all of it.
    pub is_usable: bool,
}

/// Without errors where something is missing, also a privilege.
const FOUND: &str = "
SELECT to_regclass('ringway.version') IS NOT NULL,
       to_regclass('ringway.worker') IS NOT NULL,
       COALESCE(has_schema_privilege(to_regnamespace('ringway'), 'USAGE')
            AND has_table_privilege(to_regclass('ringway.version'), 'SELECT')
            AND has_table_privilege(to_regclass('ringway.epoch'), 'SELECT')
            AND has_table_privilege(to_regclass('ringway.epoch'), 'UPDATE')
            AND (to_regclass('ringway.worker') IS NULL
                 OR has_table_privilege(to_regclass('ringway.worker'), 'SELECT')
                AND has_table_privilege(to_regclass('ringway.worker'), 'UPDATE')), false),
       to_regclass('ringway.decision') IS NOT NULL";

/// What is there, as far as the role of `client` sees it.
///
/// # Errors
/// The server's.
pub async fn found(client: &impl GenericClient) -> Result<Found, Error> {
    let row = client.query_one(FOUND, &[]).await?;
    let (exists, is_usable): (bool, bool) = (row.try_get(0)?, row.try_get(2)?);
    let version = match exists && is_usable {
        true => {
            let row = client.query_one("SELECT version FROM ringway.version", &[]);
            Some(row.await?.try_get(0)?)
        }
        false => exists.then_some(VERSION),
    };
    Ok(Found {
        version,
        has_workers: row.try_get(1)?,
        has_decisions: row.try_get(3)?,
        is_usable,
    })
}

/// # Errors
/// The server's.
pub async fn has_workers(client: &Client) -> Result<bool, Error> {
    let sql = "SELECT to_regclass('ringway.worker') IS NOT NULL";
    client.query_one(sql, &[]).await?.try_get(0)
}

/// Makes what is missing, all of it or nothing. `workers`: also the workers of ids. `users`: the roles
/// that Ringway itself asks servers as, and commits as.
///
/// # Errors
/// The server's; the role may not be allowed to.
pub async fn create(client: &mut Client, workers: bool, users: &[&str]) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    // Others who do the same wait for each other.
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('ringway init', 0))";
    transaction.query_one(lock, &[]).await?;
    let known = "SELECT to_regnamespace('ringway') IS NOT NULL";
    let exists: bool = transaction.query_one(known, &[]).await?.try_get(0)?;
    if !exists {
        transaction.batch_execute("CREATE SCHEMA ringway").await?;
    }
    make_tables(&transaction).await?;
    transaction.batch_execute(two_phase::SCHEMA).await?;
    if workers {
        make_workers(&transaction).await?;
    }
    let tables = match workers {
        true => "ringway.epoch, ringway.worker",
        false => "ringway.epoch",
    };
    for user in users {
        let user = format!("\"{}\"", user.replace('"', "\"\""));
        transaction
            .batch_execute(&format!(
                "GRANT USAGE ON SCHEMA ringway TO {user};
                 GRANT SELECT ON ringway.version, ringway.identity TO {user};
                 GRANT SELECT, UPDATE ON {tables} TO {user};
                 GRANT SELECT, INSERT, UPDATE, DELETE
                    ON ringway.decision, ringway.coordinator TO {user}"
            ))
            .await?;
    }
    transaction.commit().await
}

async fn make_tables(transaction: &Transaction<'_>) -> Result<(), Error> {
    transaction
        .batch_execute(&format!(
            "SET LOCAL client_min_messages = warning;
             CREATE TABLE IF NOT EXISTS ringway.version (
                 alone boolean PRIMARY KEY DEFAULT true CHECK (alone),
                 version integer NOT NULL);
             INSERT INTO ringway.version (version) VALUES ({VERSION}) ON CONFLICT DO NOTHING;
             CREATE TABLE IF NOT EXISTS ringway.epoch (
                 alone boolean PRIMARY KEY DEFAULT true CHECK (alone),
                 value bigint NOT NULL);
             INSERT INTO ringway.epoch (value) VALUES (0) ON CONFLICT DO NOTHING;
             COMMENT ON SCHEMA ringway IS 'what processes of Ringway share';
             COMMENT ON TABLE ringway.epoch IS 'counted up after DDL through Ringway'"
        ))
        .await
}

async fn make_workers(transaction: &Transaction<'_>) -> Result<(), Error> {
    transaction
        .batch_execute(&format!(
            "CREATE TABLE IF NOT EXISTS ringway.worker (
                 id integer PRIMARY KEY CHECK (id >= 0 AND id < {WORKERS}),
                 owner uuid,
                 until_ms bigint NOT NULL DEFAULT 0,
                 timeline text NOT NULL);
             INSERT INTO ringway.worker (id, timeline)
                 SELECT id, {TIMELINE} FROM generate_series(0, {WORKERS} - 1) AS id
                 ON CONFLICT DO NOTHING;
             COMMENT ON TABLE ringway.worker IS
                 'workers of ids: nobody but the owner gives ids with a time before until_ms, in \
                  milliseconds since 2026-01-01 UTC; never lower it'"
        ))
        .await
}

/// The server's timeline, which a failover changes: the first digits of its WAL file's name.
const TIMELINE: &str = "left(pg_walfile_name(pg_current_wal_lsn()), 8)";

/// A worker's span of milliseconds, which ends before `until_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leased {
    pub worker: i32,
    pub until_ms: i64,
    /// The server's clock.
    pub now_ms: i64,
}

fn now_ms() -> String {
    format!("(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - {EPOCH_MS})")
}

/// Makes the lease of a worker reach as far as [`LEASE`] from the server's clock. `None`: it is
/// somebody else's by now.
///
/// What was promised before is told to the row as well: a failover may have lost it.
///
/// # Errors
/// The server's.
pub async fn renew(
    client: &Client,
    owner: &str,
    worker: i32,
    promised_ms: i64,
) -> Result<Option<Leased>, Error> {
    let sql = format!(
        "UPDATE ringway.worker AS w
            SET until_ms = greatest(w.until_ms, $3, c.ms + {LEASE_MS})
           FROM (SELECT {} AS ms) AS c
          WHERE w.id = $1 AND w.owner = $2::text::uuid
          RETURNING w.id, w.until_ms, c.ms",
        now_ms()
    );
    let row = client
        .query_opt(&sql, &[&worker, &owner, &promised_ms])
        .await?;
    row.as_ref().map(leased).transpose()
}

/// Leases a worker whose span is over, the one that is so for longest. `None`: there is none.
///
/// On a server that has become the primary, promises of the one before may be missing. They end
/// [`LEASE`] after they were made; nobody is given a worker for twice that time, since the servers'
/// clocks may differ.
///
/// # Errors
/// The server's.
pub async fn lease(client: &mut Client, owner: &str) -> Result<Option<Leased>, Error> {
    let now_ms = now_ms();
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .read_only(false)
        .start()
        .await?;
    let after_failover = format!(
        "UPDATE ringway.worker
            SET until_ms = greatest(until_ms, {now_ms} + {LEASE_MS} * 2), timeline = {TIMELINE}
          WHERE timeline <> {TIMELINE}"
    );
    transaction.execute(&after_failover, &[]).await?;
    let lease = format!(
        "WITH c AS MATERIALIZED (SELECT {now_ms} AS ms),
              free AS (SELECT id FROM ringway.worker, c WHERE until_ms <= c.ms
                        ORDER BY until_ms, id LIMIT 1 FOR UPDATE OF worker SKIP LOCKED)
         UPDATE ringway.worker AS w SET owner = $1::text::uuid, until_ms = c.ms + {LEASE_MS}
           FROM free, c WHERE w.id = free.id
         RETURNING w.id, w.until_ms, c.ms"
    );
    let row = transaction.query_opt(&lease, &[&owner]).await?;
    let leased = row.as_ref().map(leased).transpose()?;
    transaction.commit().await?;
    Ok(leased)
}

fn leased(row: &tokio_postgres::Row) -> Result<Leased, Error> {
    Ok(Leased {
        worker: row.try_get(0)?,
        until_ms: row.try_get(1)?,
        now_ms: row.try_get(2)?,
    })
}

/// How often the schema was changed through Ringway.
///
/// # Errors
/// The server's.
pub async fn epoch(client: &Client) -> Result<i64, Error> {
    let row = client.query_one("SELECT value FROM ringway.epoch", &[]);
    row.await?.try_get(0)
}

/// Tells other processes to look at the schema.
///
/// # Errors
/// The server's.
pub async fn count_epoch(client: &Client) -> Result<(), Error> {
    let sql = "UPDATE ringway.epoch SET value = value + 1";
    client.execute(sql, &[]).await.map(drop)
}
