//! `ringway init`: makes schema `ringway` on every shard, see [`crate::cluster::own`].

use std::path::Path;

use super::check::{self, block_on};
use super::fallback_user;
use crate::cluster::control::{self, Failure};
use crate::cluster::own::{self, Found};
use crate::config::{self, Config, ServerSecret, ServerUser};
use crate::error::{Error, Fault};
use crate::executor::database::Database;

/// Who `ringway init` is on the servers, and where it works.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// One database of the configuration instead of all.
    pub database: Option<String>,
    /// Another role than that of the configuration, and its password.
    pub user: Option<(String, Option<String>)>,
}

/// Makes what is missing and answers what was done, one line per shard.
///
/// # Errors
/// The configuration is not valid, or something could not be made; shards before it are done then,
/// and a second run goes on.
pub fn init(path: &Path, options: &Options) -> Result<Vec<String>, Error> {
    let config = config::load(path).map_err(|mistakes| {
        Error::new(Fault::Operator, "F0000", "configuration is not valid")
            .detail(mistakes.to_string())
    })?;
    let names = match &options.database {
        Some(name) => vec![check::one_database(&config, Some(name))?],
        None => config.databases.keys().cloned().collect(),
    };
    let names = names.into_iter().filter(|name| name != config::WILDCARD);
    let names: Vec<String> = names.collect();
    block_on(async move {
        let mut lines = Vec::new();
        for name in &names {
            lines.extend(database(&config, name, options).await?);
        }
        Ok(lines)
    })?
}

async fn database(config: &Config, name: &str, options: &Options) -> Result<Vec<String>, Error> {
    let db = check::start(config, name)?;
    check::first_look(&db).await;
    let fallback = fallback_user(config);
    let own = db.config.server_user.as_ref().or(fallback.as_ref());
    let asks = db.config.monitor_user.as_ref().or(own);
    let user = match &options.user {
        Some((name, password)) => ServerUser {
            name: name.clone(),
            secret: match password {
                Some(password) => ServerSecret::Password(config::Secret(password.clone())),
                None => ServerSecret::None,
            },
        },
        None => own.cloned().ok_or_else(nobody)?,
    };
    let asks = asks.ok_or_else(nobody)?;
    let mut shards = Vec::new();
    for shard in &db.config.shards {
        shards.push(look(&db, shard, &user).await?);
    }
    // The workers of ids are on one shard; where they are they stay.
    let home = shards.iter().position(|(_, found)| found.has_workers);
    let home = home.unwrap_or(0);
    let mut lines = Vec::new();
    for (at, (mut client, before)) in shards.into_iter().enumerate() {
        let shard = &db.config.shards[at];
        let failed = |error| failed(&shard.name, "schema ringway cannot be made", error);
        if let Some(version) = before.version.filter(|version| *version > own::VERSION) {
            return Err(Error::new(
                Fault::Operator,
                "55000",
                format!(
                    "schema ringway on shard \"{}\" is of version {version}",
                    shard.name
                ),
            )
            .detail(format!("This is the Ringway of version {}.", own::VERSION))
            .hint("Use the newer Ringway."));
        }
        let complete =
            before.version.is_some() && before.has_decisions && (at != home || before.has_workers);
        let what = match complete && before.is_usable && user.name == asks.name {
            true => "was there",
            false => {
                let commits = own.unwrap_or(asks);
                let users = [asks.name.as_str(), commits.name.as_str()];
                let made = own::create(&mut client, at == home, &users).await;
                made.map_err(failed)?;
                "made"
            }
        };
        lines.push(format!(
            "{name}: shard \"{}\": schema ringway {what}",
            shard.name
        ));
    }
    Ok(lines)
}

/// A connection to the shard's primary, and what is there.
async fn look(
    db: &Database,
    shard: &config::Shard,
    user: &ServerUser,
) -> Result<(tokio_postgres::Client, Found), Error> {
    let primary = db.cluster.primary(shard.id).ok_or_else(|| {
        let message = format!("shard \"{}\" has no primary", shard.name);
        Error::new(Fault::Server, "57P03", message)
            .hint("`ringway check` tells what is wrong with its servers.")
    })?;
    let endpoint = db.cluster.endpoint(shard.id, primary);
    let tls = db.tls().cloned();
    let pool = control::pool(&db.config, &shard.dbname, endpoint, user, tls);
    let client = control::dedicated(&pool, db.config.pool.connect_timeout).await;
    let failed = |failure: Failure| failed(&shard.name, "its primary does not let us in", failure);
    let client = client.map_err(failed)?;
    let found = own::found(&client).await;
    let found = found.map_err(|error| failed(error.into()))?;
    Ok((client, found))
}

fn failed(shard: &str, what: &str, failure: impl Into<Failure>) -> Error {
    let failure = failure.into();
    let message = format!("shard \"{shard}\": {what}");
    let error = Error::new(Fault::Server, "58000", message).detail(format!("{failure}."));
    match failure.is_denied() {
        true => error.hint(
            "The role needs CREATE on the database, or to own schema ringway: GRANT CREATE ON \
             DATABASE … TO …, or give --user.",
        ),
        false => error,
    }
}

fn nobody() -> Error {
    Error::new(
        Fault::Operator,
        "28000",
        "no user is known to log in to servers with",
    )
    .hint("Give server_user or monitor_user of the database, or --user.")
}
