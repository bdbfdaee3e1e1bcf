//! `ringway check` and `ringway explain`: what a configuration comes to, told without serving.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use planner::plan::{PlanOptions, plan};
use planner::shape::Shape;
use planner::{Values, explain, route};
use tokio::runtime::Builder;

use super::{cannot, fallback_user};
use crate::cluster::own::{self, Found};
use crate::cluster::{EndpointId, FindingKind, ReplicaState, Standing};
use crate::config::{self, Config, MultiShardCommit, ServerUser};
use crate::error::{Error, Fault};
use crate::executor::database::Database;
use crate::metrics::Metrics;
use crate::net;
use crate::pool::Amid;
use crate::session::startup;

/// Time for the first health queries and the first catalog, beside connecting.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// One line of what a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it should be.
    Fine,
    /// Statements may be refused until something is declared; the check passes.
    Notice,
    /// To be corrected; the check fails.
    Mistake,
}

impl Kind {
    /// The word before the text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Notice => "notice",
            Self::Mistake => "mistake",
        }
    }
}

/// Everything that is to be said about the configuration file and, unless `offline`, about the
/// servers in it.
///
/// # Errors
/// What keeps it from looking at all.
pub fn check(path: &Path, offline: bool) -> Result<Vec<Finding>, Error> {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(errors) => {
            let mistakes = errors.mistakes.iter();
            let finding = |mistake: &config::Mistake| {
                Finding::mistake(format!("{}: {mistake}", errors.file.display()))
            };
            return Ok(mistakes.map(finding).collect());
        }
    };
    let tls = config.tls.as_ref().map(startup::tls_acceptor);
    if let Some(Err(error)) = tls {
        return Ok(vec![Finding::mistake(format!(
            "{}: tls: {}",
            path.display(),
            sentence(&error)
        ))]);
    }
    let mut findings = vec![Finding::fine(format!("{} is valid", path.display()))];
    if !offline {
        findings.extend(block_on(live(config))??);
    }
    Ok(findings)
}

/// Where `sql` would run on the database called `name`, or on the only one, and why: the lines of
/// EXPLAIN (ROUTE), by the schema that its servers have now.
///
/// # Errors
/// A configuration that is not valid, no such database, or servers whose schema cannot be read.
pub fn explain(path: &Path, name: Option<&str>, sql: &str) -> Result<Vec<String>, Error> {
    let config = config::load(path).map_err(|mistakes| {
        Error::new(Fault::Operator, "F0000", "configuration is not valid")
            .detail(mistakes.to_string())
    })?;
    let name = one_database(&config, name)?;
    block_on(explain_live(config, name, sql))?
}

pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| cannot("start a runtime", &e))?;
    Ok(runtime.block_on(work))
}

impl Finding {
    fn fine(text: String) -> Self {
        let kind = Kind::Fine;
        Self { kind, text }
    }

    fn mistake(text: String) -> Self {
        let kind = Kind::Mistake;
        Self { kind, text }
    }
}

/// Looks at all databases at once, as far as it gets in the time that servers have.
async fn live(config: Config) -> Result<Vec<Finding>, Error> {
    let fallback = fallback_user(&config);
    let mut databases = Vec::new();
    let named = |name: &&String| *name != config::WILDCARD;
    for name in config.databases.keys().filter(named) {
        databases.push(start(&config, name)?);
    }
    let mut findings = Vec::new();
    for db in databases {
        first_look(&db).await;
        let name = &db.config.name;
        let found = servers(&db, fallback.as_ref()).await.into_iter();
        // What is wrong with all servers of a shard is told by then.
        let dead = dead_shards(&db);
        let found = found.chain(primaries(&db, &dead));
        let found = found.chain(schema(&db, &dead));
        let found = found.chain(own_schema(&db).await);
        let found = found.chain(commits(&db, &dead));
        findings.extend(found.map(|finding| Finding {
            text: format!("{name}: {}", finding.text),
            ..finding
        }));
    }
    Ok(findings)
}

pub(super) fn start(config: &Config, name: &str) -> Result<Database, Error> {
    let metrics = Metrics::new();
    let database = Arc::clone(&config.databases[name]);
    let general = &config.general;
    let ledger = Arc::default();
    let fallback = fallback_user(config);
    let ids = Arc::default();
    Database::start(
        database,
        fallback.as_ref(),
        general,
        &metrics,
        &ledger,
        &ids,
    )
}

/// Waits until every server was asked and the schema was read; servers that do not answer in time
/// are found as they are.
pub(super) async fn first_look(db: &Database) {
    let limit = db.config.pool.connect_timeout + FIRST_LOOK;
    let _ = net::timeout(limit, db.cluster.first_poll()).await;
    db.cluster.two_phase.look_again(limit).await;
}

async fn servers(db: &Database, fallback: Option<&ServerUser>) -> Vec<Finding> {
    let user = db.config.server_user.as_ref().or(fallback);
    let mut findings = Vec::new();
    for ((shard, endpoint), state) in db.servers().zip(db.cluster.replica_snapshot()) {
        let found = standing(&state, db.cluster.is_watched());
        let is_usable = found.kind != Kind::Mistake;
        findings.push(found);
        if state.is_blind && db.config.reads.split {
            findings.push(blind(&state));
        }
        let Some(user) = user.filter(|_| is_usable) else {
            continue;
        };
        if let Err(error) = log_in(db, shard, endpoint, user).await {
            findings.push(Finding::mistake(format!(
                "server {} does not let user \"{}\" in: {error}",
                state.endpoint, user.name
            )));
        }
    }
    findings
}

/// Whether clients' statements will get in; health queries have a user of their own.
async fn log_in(
    db: &Database,
    shard: planner::ShardId,
    endpoint: EndpointId,
    user: &ServerUser,
) -> Result<(), Error> {
    let lease = db.pool(shard, endpoint, user).checkout(Amid::Nothing).await;
    lease.map(drop).map_err(Error::from)
}

/// Shards none of whose servers can be used, as `shard "NAME"`.
fn dead_shards(db: &Database) -> Vec<String> {
    let states = db.cluster.replica_snapshot();
    let is_dead = |name: &str| {
        let mut of_shard = states.iter().filter(|state| &*state.shard_name == name);
        of_shard.all(|state| matches!(state.standing, Standing::Down | Standing::Unknown))
    };
    let shards = db.config.shards.iter().map(|shard| shard.name.as_str());
    let dead = shards.filter(|name| is_dead(name));
    dead.map(|name| format!("shard \"{name}\"")).collect()
}

/// Whether a text is about one of `shards`, as [`dead_shards`] writes them.
fn is_of(shards: &[String], text: &str) -> bool {
    shards.iter().any(|shard| text.contains(shard))
}

/// Message, detail and hint as one line.
fn sentence(error: &Error) -> String {
    let more = [error.detail.as_deref(), error.hint.as_deref()];
    let more: Vec<_> = more.into_iter().flatten().collect();
    match more.is_empty() {
        true => error.message.to_string(),
        false => format!("{}: {}", error.message, more.join(" ")),
    }
}

fn standing(state: &ReplicaState, is_watched: bool) -> Finding {
    let server = format!(
        "server {} of shard \"{}\"",
        state.endpoint, state.shard_name
    );
    let lag = state.lag.map_or_else(
        || "unknown lag".to_owned(),
        |lag| format!("{} ms behind", lag.as_millis()),
    );
    match state.standing {
        Standing::Primary if !is_watched => Finding {
            kind: Kind::Notice,
            text: format!(
                "{server} can be reached; Ringway itself asks it nothing, as neither monitor_user nor server_user is \
                 written and [users] does not have just one password"
            ),
        },
        Standing::Primary => Finding::fine(format!("{server} is the primary")),
        Standing::Fresh => Finding::fine(format!("{server} is a replica, {lag}")),
        Standing::Lagging | Standing::Returning | Standing::Silent | Standing::Ejected => Finding {
            kind: Kind::Notice,
            text: format!("{server} is a replica that may not serve reads, {lag}"),
        },
        Standing::Unknown => Finding::mistake(format!("{server} did not answer in time")),
        Standing::Down => {
            let error = state.error.as_deref().unwrap_or("it does not answer");
            let remedy = match error.contains("authentication failed") {
                true => "; correct its password here or on the server",
                false => "",
            };
            Finding::mistake(format!("{server} cannot be used: {error}{remedy}"))
        }
        Standing::Fenced => Finding::mistake(format!(
            "{server} takes writes although another server is the shard's primary"
        )),
        Standing::Foreign => Finding::mistake(format!(
            "{server} is a replica of another system or timeline than the shard's primary"
        )),
    }
}

fn blind(state: &ReplicaState) -> Finding {
    let text = format!(
        "server {} does not tell its position in the WAL: max_lag_ms means nothing there, and after a \
         write a session reads from the primary for blind_ms",
        state.endpoint
    );
    Finding {
        kind: Kind::Notice,
        text,
    }
}

fn primaries(db: &Database, dead: &[String]) -> Vec<Finding> {
    let shards = db.config.shards.iter();
    let without = shards.filter(|shard| db.cluster.primary(shard.id).is_none());
    without
        .map(|shard| Finding::mistake(format!("shard \"{}\" has no primary", shard.name)))
        .filter(|finding| !is_of(dead, &finding.text))
        .collect()
}

/// Whether writes on several shards can be committed on all or none, or need not be.
fn commits(db: &Database, dead: &[String]) -> Vec<Finding> {
    let kind = match db.config.commits.mode {
        MultiShardCommit::Atomic => Kind::Mistake,
        MultiShardCommit::BestEffort => Kind::Notice,
    };
    let obstacles = db.cluster.two_phase.obstacles().into_iter();
    let finding = |error: Error| Finding {
        kind,
        text: sentence(&error),
    };
    obstacles
        .map(finding)
        .filter(|finding| !is_of(dead, &finding.text))
        .collect()
}

/// Tables against their rules, and the shards' schemas against each other.
fn schema(db: &Database, dead: &[String]) -> Vec<Finding> {
    let findings = db.cluster.catalog_findings();
    let is_new = |finding: &&crate::cluster::Finding| {
        finding.kind != FindingKind::Unread || !is_of(dead, &finding.text)
    };
    let of = |finding: &crate::cluster::Finding| Finding {
        kind: match finding.kind {
            FindingKind::Mistake | FindingKind::Unread => Kind::Mistake,
            FindingKind::Notice => Kind::Notice,
        },
        text: finding.text.clone(),
    };
    findings.iter().filter(is_new).map(of).collect()
}

/// Schema `ringway`, which `ringway init` makes.
async fn own_schema(db: &Database) -> Vec<Finding> {
    let needs_ids = !db.config.default_ids.is_empty();
    let is_atomic = matches!(db.config.commits.mode, MultiShardCommit::Atomic);
    if !db.config.is_sharded() || !db.cluster.is_watched() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut homes = Vec::new();
    for shard in &db.config.shards {
        let Some(found) = db.cluster.own_schema(shard.id).await else {
            continue;
        };
        match found {
            Ok(found) => {
                if found.has_workers {
                    homes.push(shard.name.as_str());
                }
                let own = own_of_shard(&shard.name, found, needs_ids);
                // That a schema is missing is told with the commits that need it.
                findings.extend(own.filter(|own| own.kind == Kind::Mistake || !is_atomic));
            }
            Err(failure) => findings.push(Finding::mistake(format!(
                "schema ringway of shard \"{}\" cannot be read: {failure}",
                shard.name
            ))),
        }
    }
    let asked = findings.is_empty();
    match homes.as_slice() {
        [_] => {}
        [] if asked && needs_ids => findings.push(Finding::mistake(
            "no shard has table ringway.worker, so no ids can be given: run `ringway init`".into(),
        )),
        [] => {}
        several => findings.push(Finding::mistake(format!(
            "table ringway.worker is on shards {}: drop it on all but the one whose workers have been \
             used, no ids are given until then",
            several.join(", ")
        ))),
    }
    findings
}

fn own_of_shard(shard: &str, found: Found, needs_ids: bool) -> Option<Finding> {
    let missing = match needs_ids {
        true => Kind::Mistake,
        false => Kind::Notice,
    };
    let (kind, text) = match found.version {
        None => (
            missing,
            format!(
                "shard \"{shard}\" has no schema ringway: ids cannot be given, and other processes learn \
                 of DDL seconds later; `ringway init` makes it"
            ),
        ),
        Some(_) if !found.is_usable => (
            Kind::Mistake,
            format!(
                "schema ringway of shard \"{shard}\" may not be used by the user who watches the \
                 servers: run `ringway init` as its owner"
            ),
        ),
        Some(version) if version != own::VERSION => (
            Kind::Mistake,
            format!(
                "schema ringway of shard \"{shard}\" is of version {version}, this Ringway's is {}: run \
                 `ringway init` of the newest",
                own::VERSION
            ),
        ),
        Some(_) => return None,
    };
    Some(Finding { kind, text })
}

pub(super) fn one_database(config: &Config, name: Option<&str>) -> Result<String, Error> {
    let mut names = config.databases.keys();
    let chosen = match (name, names.next(), names.next()) {
        (Some(name), _, _) if config.databases.contains_key(name) => Some(name.to_owned()),
        (None, Some(only), None) => Some(only.clone()),
        (Some(_) | None, _, _) => None,
    };
    chosen.ok_or_else(|| {
        let known: Vec<_> = config.databases.keys().map(String::as_str).collect();
        let message = match name {
            Some(name) => format!("database \"{name}\" does not exist"),
            None => "the configuration has several databases".to_owned(),
        };
        Error::new(Fault::Operator, "3D000", message)
            .detail(format!("Configured are: {}.", known.join(", ")))
            .hint("Name one with --database.")
    })
}

async fn explain_live(config: Config, name: String, sql: &str) -> Result<Vec<String>, Error> {
    let db = start(&config, &name)?;
    first_look(&db).await;
    let catalog = db.cluster.catalog();
    if let Some(unread) = unread(&db, catalog.version) {
        return Err(unread);
    }
    let mut shape = Shape::default();
    shape.scan(sql.as_bytes());
    let plan = plan(sql, &catalog, PlanOptions::default());
    let values = Values {
        sql: sql.as_bytes(),
        pieces: &shape.pieces,
        params: &[],
    };
    let topology = &db.config.topology;
    let route = route(&plan, values, topology);
    let mut lines = explain::explain(&plan, route.as_ref(), topology);
    if lines
        .first()
        .is_some_and(|line| line.starts_with("refused"))
    {
        // A table that is missing is refused as one that is not known yet.
        let wrong = schema(&db, &[])
            .into_iter()
            .filter(|finding| finding.kind == Kind::Mistake);
        lines.extend(wrong.map(|finding| format!("mistake: {}", finding.text)));
    }
    Ok(lines)
}

/// Why the schema is not known, if it is not: a route by half a schema could be wrong.
pub(super) fn unread(db: &Database, version: u64) -> Option<Error> {
    let findings = db.cluster.catalog_findings();
    let unread = findings
        .iter()
        .filter(|finding| finding.kind == FindingKind::Unread);
    let texts: Vec<_> = unread.map(|finding| finding.text.as_str()).collect();
    (version == 0 || !texts.is_empty()).then(|| {
        let message = format!("the schema of database \"{}\" is not known", db.config.name);
        let error = Error::new(Fault::Server, "57P03", message);
        let error = error.hint("`ringway check` tells what is wrong with its servers.");
        match texts.is_empty() {
            true => error,
            false => error.detail(texts.join(" ")),
        }
    })
}
