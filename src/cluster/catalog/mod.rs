//! The planner's catalog, loaded from the servers and kept up to date.

mod checks;
pub mod classify;
mod comments;
mod hidden;
mod immovable;
mod load;
mod setters;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::{StreamExt, stream};
use planner::{Catalog, ShardId};
use tokio::sync::{Mutex, watch};
use tokio_postgres::Client;

use crate::backend::server::Server;
use crate::cluster::Cluster;
use crate::cluster::control::Failure;
use crate::cluster::own;
use crate::cluster::shard::{EndpointId, Standing};
use crate::config::{FunctionName, FunctionRule};
use crate::net::timeout;
use classify::{Classified, Declared, ShardSchema, classify};

/// Something that is not as the configuration has it, for people to act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: FindingKind,
    /// A sentence.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingKind {
    /// The configuration or a schema is wrong: statements on the table fail or are refused.
    Mistake,
    /// Statements that name the table are refused until something is declared or removed.
    Notice,
    /// A schema could not be read, so the catalog may be incomplete.
    Unread,
}

/// The time that loading one shard's schema may take.
const LOAD_LIMIT: Duration = Duration::from_secs(10);
/// The time that reading or counting an epoch may take.
const EPOCH_LIMIT: Duration = Duration::from_secs(1);

/// Versions of catalogs from here on are each of one transaction; this one is of all whose own could not be read.
pub const OF_TRANSACTION: u64 = 1 << 63;

/// How many shards' schemas are read at once: some memory is needed for each.
const AT_ONCE: usize = 8;

/// The schema of a server that is not watched.
///
/// # Errors
/// As those of a load.
pub async fn read_schema(
    client: &mut Client,
    rules: &BTreeMap<FunctionName, FunctionRule>,
) -> Result<ShardSchema, Failure> {
    timeout(LOAD_LIMIT, load::read(client, rules))
        .await
        .unwrap_or(Err(Failure::Slow("reading the schema", LOAD_LIMIT)))
}

/// The published catalog of one database.
pub struct CatalogRoom {
    catalog: ArcSwap<Catalog>,
    /// Of the published catalog, for a look that takes hold of nothing.
    version: AtomicU64,
    findings: ArcSwap<Vec<Finding>>,
    /// Held while loading, so that loads follow each other.
    read: Mutex<Schemas>,
    first: watch::Sender<bool>,
    /// Shards with a table `ringway.epoch`.
    with_epoch: ArcSwap<Vec<ShardId>>,
    /// Of what shards the published catalog was made.
    published: ArcSwap<Vec<Option<Arc<ShardSchema>>>>,
    /// Catalogs of transactions that were made; the one without tables is the first.
    within: AtomicU64,
}

/// What was read from the shards.
struct Schemas {
    /// By shard id; `None` was never read.
    shards: Vec<Option<Loaded>>,
    /// The published catalog does not show all of it yet. Kept here because a load may be
    /// cancelled between reading and publishing.
    unpublished: bool,
}

/// One shard's schema with the fingerprint that was taken before it was read.
struct Loaded {
    fingerprint: String,
    schema: Arc<ShardSchema>,
}

impl CatalogRoom {
    pub fn new(shards: usize) -> Self {
        Self {
            catalog: ArcSwap::from_pointee(Catalog::new(0, shards)),
            version: AtomicU64::new(0),
            findings: ArcSwap::default(),
            read: Mutex::new(Schemas {
                shards: (0..shards).map(|_| None).collect(),
                unpublished: true,
            }),
            first: watch::Sender::new(false),
            with_epoch: ArcSwap::default(),
            published: ArcSwap::default(),
            within: AtomicU64::new(1),
        }
    }

    pub fn current(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub fn findings(&self) -> Arc<Vec<Finding>> {
        self.findings.load_full()
    }

    /// Waits for the first load to end, well or not.
    pub async fn first_load(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.first.subscribe().wait_for(|done| *done).await;
    }

    /// Reads the schemas that changed since they were last read, and publishes the catalog that
    /// follows. A shard that cannot be read keeps the schema it had.
    ///
    /// Cancel safety: yes; what was read is kept for the next call.
    pub async fn refresh(&self, cluster: &Cluster) {
        let mut schemas = self.read.lock().await;
        let Schemas {
            shards,
            unpublished,
        } = &mut *schemas;
        let known = |slot: &Option<Loaded>| slot.as_ref().map(|l| l.fingerprint.clone());
        let known: Vec<_> = shards.iter().map(known).collect();
        let reads =
            (0..)
                .map(ShardId)
                .zip(known)
                .map(|(shard, known)| async move {
                    (shard, read(cluster, shard, known.as_deref()).await)
                });
        let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
        let mut unread = BTreeMap::new();
        while let Some((shard, answer)) = reads.next().await {
            let slot = &mut shards[usize::from(shard.0)];
            match answer {
                Ok(None) => {}
                Ok(Some(new)) => {
                    *unpublished |= slot.as_ref().is_none_or(|old| old.schema != new.schema);
                    *slot = Some(new);
                }
                Err(text) => {
                    let kind = FindingKind::Unread;
                    unread.insert(shard, Finding { kind, text });
                }
            }
        }
        drop(reads);
        let has_epoch = |slot: &Option<Loaded>| slot.as_ref().is_some_and(|l| l.schema.has_epoch);
        let known = (0..).map(ShardId).zip(&schemas.shards);
        let with_epoch = known.filter(|(_, slot)| has_epoch(slot));
        let with_epoch: Vec<ShardId> = with_epoch.map(|(shard, _)| shard).collect();
        self.with_epoch.store(Arc::new(with_epoch));
        let unread = unread.into_values().collect();
        self.publish(cluster, &mut schemas, unread);
        self.first.send_replace(true);
    }

    /// See [`Cluster::catalog_within`]. It waits for no other load, which may wait for what the block has locked.
    pub async fn within(
        &self,
        cluster: &Cluster,
        servers: &mut [(ShardId, &mut Server)],
        moved: bool,
    ) -> Result<Catalog, Failure> {
        let mut shards = self.published.load().as_ref().clone();
        shards.resize(cluster.database.shards.len(), None);
        for (shard, server) in servers {
            let mut schema = load::read_within(server, &cluster.database.functions, moved).await?;
            let known = &mut shards[usize::from(shard.0)];
            if let Some(known) = known {
                // Statements are planned for one path.
                schema.search_path.clone_from(&known.search_path);
            }
            *known = Some(Arc::new(schema));
        }
        let shards: Vec<_> = shards.iter().map(Option::as_deref).collect();
        let version = OF_TRANSACTION + self.within.fetch_add(1, Ordering::Relaxed);
        Ok(classified(cluster, &shards, version).catalog)
    }

    /// The epochs of the shards that have one; `None` where it cannot be read now.
    pub async fn epochs(&self, cluster: &Cluster) -> Vec<(ShardId, Option<i64>)> {
        let mut epochs = Vec::new();
        for shard in self.with_epoch.load().iter() {
            let read = on_primary(cluster, *shard, async |client| own::epoch(client).await);
            epochs.push((*shard, read.await.ok()));
        }
        epochs
    }

    /// Tells other processes that the schema has changed. Where they cannot be told, they find out.
    pub async fn count_epochs(&self, cluster: &Cluster) {
        for shard in self.with_epoch.load().iter() {
            let count = on_primary(cluster, *shard, async |client| {
                own::count_epoch(client).await
            });
            if let Err(failure) = count.await {
                let database = &cluster.database.name;
                tracing::info!(
                    database,
                    "other processes learn of a changed schema late: {failure}"
                );
            }
        }
    }

    fn publish(&self, cluster: &Cluster, schemas: &mut Schemas, unread: Vec<Finding>) {
        let mut findings = unread;
        if schemas.unpublished {
            let known = |slot: &Option<Loaded>| Some(Arc::clone(&slot.as_ref()?.schema));
            let published: Vec<_> = schemas.shards.iter().map(known).collect();
            let shards: Vec<_> = published.iter().map(Option::as_deref).collect();
            let version = self.catalog.load().version + 1;
            let classified = classified(cluster, &shards, version);
            self.published.store(Arc::new(published));
            findings.extend(classified.findings);
            self.catalog.store(Arc::new(classified.catalog));
            self.version.store(version, Ordering::Release);
            schemas.unpublished = false;
        } else {
            let before = self.findings.load();
            let lasting = before.iter().filter(|f| f.kind != FindingKind::Unread);
            findings.extend(lasting.cloned());
        }
        self.log_new(&cluster.database.name, &findings);
        self.findings.store(Arc::new(findings));
    }

    fn log_new(&self, database: &str, findings: &[Finding]) {
        let before = self.findings.load();
        for finding in findings.iter().filter(|f| !before.contains(f)) {
            match finding.kind {
                FindingKind::Mistake | FindingKind::Unread => {
                    tracing::warn!(database, "{}", finding.text);
                }
                FindingKind::Notice => tracing::info!(database, "{}", finding.text),
            }
        }
    }
}

/// By the configuration; of a shard that was never read there is `None`.
fn classified(cluster: &Cluster, shards: &[Option<&ShardSchema>], version: u64) -> Classified {
    let config = &cluster.database;
    let names: Vec<_> = config.shards.iter().map(|s| &*s.name).collect();
    let declared = Declared {
        tables: &config.tables,
        default_ids: &config.default_ids,
        schemas: &config.schemas,
        placements: config.topology.rules(),
    };
    classify(declared, &names, shards, version)
}

/// Something small on a shard's primary.
async fn on_primary<T>(
    cluster: &Cluster,
    shard: ShardId,
    work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
) -> Result<T, Failure> {
    let primary = cluster.primary(shard);
    let primary = primary.ok_or(Failure::Odd("its shard has no primary"))?;
    let asked = async {
        let client = cluster.control(shard, primary).get().await?;
        Ok(work(&client).await?)
    };
    timeout(EPOCH_LIMIT, asked)
        .await
        .unwrap_or(Err(Failure::Slow("the epoch", EPOCH_LIMIT)))
}

/// Reads one shard's schema unless its fingerprint is still `known`. Errors are sentences.
async fn read(
    cluster: &Cluster,
    shard: ShardId,
    known: Option<&str>,
) -> Result<Option<Loaded>, String> {
    let name = &cluster.database.shards[usize::from(shard.0)].name;
    let Some(endpoint) = source(cluster, shard) else {
        return Err(format!(
            "The schema of shard \"{name}\" cannot be read: none of its servers is up."
        ));
    };
    let answer = timeout(
        LOAD_LIMIT,
        load::load(
            cluster.control(shard, endpoint),
            known,
            &cluster.database.functions,
        ),
    )
    .await
    .unwrap_or(Err(Failure::Slow("reading the schema", LOAD_LIMIT)));
    answer.map_err(|failure| {
        let server = cluster.endpoint(shard, endpoint);
        format!("The schema of shard \"{name}\" cannot be read from {server}: {failure}.")
    })
}

/// The primary, else a replica that is up.
fn source(cluster: &Cluster, shard: ShardId) -> Option<EndpointId> {
    let snapshot = cluster.shard(shard).snapshot.load();
    let mut servers = (0..).map(EndpointId).zip(&snapshot.servers);
    snapshot.primary.or_else(|| {
        servers
            .find(|(_, server)| match server.standing {
                Standing::Fresh | Standing::Lagging | Standing::Returning | Standing::Ejected => {
                    true
                }
                Standing::Unknown
                | Standing::Down
                | Standing::Silent
                | Standing::Primary
                | Standing::Fenced
                | Standing::Foreign => false,
            })
            .map(|(id, _)| id)
    })
}
