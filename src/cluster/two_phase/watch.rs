//! Looking at one shard's primary again and again: can it commit with others, what is prepared there,
//! and telling it that this process is alive.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use planner::ShardId;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::{Ability, Identity, Look, Prepared};
use crate::cluster::control::{Failure, dedicated};
use crate::cluster::{Cluster, EndpointId};
use crate::config::MultiShardCommit;
use crate::net::{Instant, sleep, timeout};

/// Before a primary that does not answer is given up, at least.
const SHORTEST_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks, however much they are hastened.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// Without an error where something is missing.
const ABILITY: &str = "
SELECT current_setting('max_prepared_transactions')::integer,
       current_setting('is_superuser') = 'on',
       to_regclass('ringway.identity') IS NOT NULL
   AND to_regclass('ringway.coordinator') IS NOT NULL
   AND to_regclass('ringway.decision') IS NOT NULL";

const IDENTITY: &str = "SELECT id FROM ringway.identity";

const PRIVILEGES: &str = "
SELECT bool_and(has_table_privilege(name, privilege))
  FROM unnest(ARRAY['ringway.decision', 'ringway.coordinator']) AS name,
       unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege";

const RENEW: &str = "
INSERT INTO ringway.coordinator AS c (id, expires_at)
VALUES ($1, clock_timestamp() + $2 * interval '1 millisecond')
    ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at";

const PREPARED: &str = "
SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::float8
  FROM pg_prepared_xacts
 WHERE database = current_database() AND starts_with(gid, $1)";

/// A kept connection to the shard's primary.
struct Link {
    endpoint: EndpointId,
    client: Client,
}

pub(super) async fn watch(cluster: Arc<Cluster>, shard: ShardId) {
    let two_phase = &cluster.two_phase;
    let room = two_phase.room(shard);
    let interval = two_phase.settings.recovery_interval;
    let mut link = None;
    loop {
        let before = room.look.load_full();
        let tried = Some(Instant::now());
        let seen = match look(&cluster, shard, &mut link, &before).await {
            Ok(seen) => seen,
            Err(failure) => {
                link = None;
                Look {
                    failure: Some(failure.to_string()),
                    ..Look::clone(&before)
                }
            }
        };
        cluster.log_ability(shard, &before.ability, &seen.ability);
        room.look.store(Arc::new(Look { tried, ..seen }));
        two_phase.looked.send_replace(());
        sleep(SHORTEST_PAUSE).await;
        // Either the rest of the pause is over or somebody waits for news: both mean go on.
        let _ = timeout(interval - SHORTEST_PAUSE, room.hasten.notified()).await;
    }
}

async fn look(
    cluster: &Cluster,
    shard: ShardId,
    link: &mut Option<Link>,
    before: &Look,
) -> Result<Look, Failure> {
    let two_phase = &cluster.two_phase;
    let primary = cluster.primary(shard);
    let primary = primary.ok_or(Failure::Odd("the shard has no primary"))?;
    if link.as_ref().is_some_and(|link| link.endpoint != primary) {
        *link = None;
    }
    let link = match link {
        Some(link) => link,
        None => {
            let pool = &two_phase.room(shard).pools[usize::from(primary.0)];
            let client = dedicated(pool, cluster.database.pool.connect_timeout).await?;
            // All that it writes is a lease, which need not outlive a crash nor reach a standby.
            client.batch_execute("SET synchronous_commit = off").await?;
            link.insert(Link {
                endpoint: primary,
                client,
            })
        }
    };
    let limit = two_phase.settings.recovery_interval.max(SHORTEST_LIMIT);
    timeout(limit, ask(cluster, &link.client, before))
        .await
        .map_err(|_| Failure::Slow("the server's answer", limit))?
}

async fn ask(cluster: &Cluster, client: &Client, before: &Look) -> Result<Look, Failure> {
    let two_phase = &cluster.two_phase;
    let asked = Instant::now();
    let running: HashSet<_> = two_phase.lock().keys().copied().collect();
    let unable = |ability| Look {
        ability,
        asked: Some(asked),
        ..Look::default()
    };
    let (identity, is_superuser) = match ability(client).await {
        Ok((Ability::Able(identity), is_superuser)) => (identity, is_superuser),
        Ok((other, _)) => return Ok(unable(other)),
        Err(Failure::Postgres(error))
            if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) =>
        {
            let answer = error
                .as_db_error()
                .map(|answer| answer.message().to_owned());
            return Ok(unable(Ability::Denied(answer.unwrap_or_default())));
        }
        Err(failure) => return Err(failure),
    };
    let lease = two_phase.settings.lease();
    let renewing = Instant::now();
    let owner = two_phase.owner.to_string();
    let millis = lease.as_secs_f64() * 1000.0;
    client.execute(RENEW, &[&owner, &millis]).await?;
    let mut prepared = Vec::new();
    for row in client.query(PREPARED, &[&super::gid::PREFIX]).await? {
        let (name, age): (&str, f64) = (row.try_get(0)?, row.try_get(1)?);
        if let Ok(gid) = name.parse() {
            let age = Duration::try_from_secs_f64(age).unwrap_or_default();
            prepared.push(Prepared { gid, age });
        }
    }
    let renewed = renewing + lease - lease / 6;
    Ok(Look {
        ability: Ability::Able(identity),
        tried: Some(asked),
        asked: Some(asked),
        lease_until: before.lease_until.max(Some(renewed)),
        failure: None,
        is_superuser,
        prepared,
        running,
    })
}

/// What the shard can do, and whether it is asked as a superuser.
async fn ability(client: &Client) -> Result<(Ability, bool), Failure> {
    let row = client.query_one(ABILITY, &[]).await?;
    let (slots, is_superuser, is_there): (i32, bool, bool) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if slots == 0 {
        return Ok((Ability::NoPrepared, is_superuser));
    }
    if !is_there {
        return Ok((Ability::NoSchema, is_superuser));
    }
    let row = client.query_opt(IDENTITY, &[]).await?;
    let identity = row.map(|row| row.try_get::<_, String>(0)).transpose()?;
    let Some(identity) = identity.and_then(|text| text.parse::<Identity>().ok()) else {
        return Ok((Ability::NoSchema, is_superuser));
    };
    if !client
        .query_one(PRIVILEGES, &[])
        .await?
        .try_get::<_, bool>(0)?
    {
        let why = "permission denied for tables of schema ringway".to_owned();
        return Ok((Ability::Denied(why), is_superuser));
    }
    Ok((Ability::Able(identity), is_superuser))
}

impl Cluster {
    fn log_ability(&self, shard: ShardId, before: &Ability, now: &Ability) {
        if before == now {
            return;
        }
        let (database, shard) = (&self.database.name, &self.two_phase.room(shard).name);
        let error = match now {
            Ability::Able(_) | Ability::Unknown => {
                tracing::info!(database, shard, "shard can take part in atomic commits");
                return;
            }
            Ability::NoPrepared | Ability::NoSchema | Ability::Denied(_) => {
                super::unable(shard, now)
            }
        };
        let hint = error.hint.as_deref().unwrap_or_default();
        match self.database.commits.mode {
            MultiShardCommit::Atomic => tracing::error!(
                database,
                hint,
                "{error}: writes on several shards are refused"
            ),
            MultiShardCommit::BestEffort => tracing::warn!(
                database,
                "{error}: multi_shard_commit is \"best_effort\", a failure may leave some shards \
                 with a change"
            ),
        }
    }
}
