//! `ringway analyze` and `ringway advise`: logs and servers are read here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use planner::Route;
use planner::plan::Plan;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use super::check::{block_on, first_look, one_database, start, unread};
use crate::analyze::advise::{self, Facts, Given};
use crate::analyze::input::{self, Seen};
use crate::analyze::label::{Group, Labels, Planner};
use crate::analyze::report::{Read, report};
use crate::cluster::catalog::classify::{Declared, ShardSchema, TableName, classify};
use crate::cluster::catalog::read_schema;
use crate::config::{self, Database};
use crate::error::{Error, Fault};
use crate::session::denied_by;

/// Where statements come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statements<'a> {
    /// A log, or pg_stat_statements as CSV; `-` is standard input.
    File(&'a Path),
    /// pg_stat_statements of the server at this URL.
    Server(&'a str),
}

/// Labels the statements by the schema of the database's servers, or of the one server at `url`, taken for
/// that of every shard.
///
/// # Errors
/// A configuration that is not valid, files and servers that cannot be read, input without statements.
pub fn analyze(
    path: &Path,
    name: Option<&str>,
    url: Option<&str>,
    statements: Statements<'_>,
    top: usize,
) -> Result<String, Error> {
    let config = config::load(path).map_err(|mistakes| {
        Error::new(Fault::Operator, "F0000", "configuration is not valid")
            .detail(mistakes.to_string())
    })?;
    let name = one_database(&config, name)?;
    let database = config.databases[&name].clone();
    let dbname = database.shards.first().map(|shard| shard.dbname.clone());
    let live = async {
        // Before anything of ours is among them.
        let rows = of_server(statements).await?;
        let catalog = match url {
            Some(url) => {
                let mut client = connect(url).await?;
                let schema = schema_of(&mut client, &database).await?;
                alike(&database, &schema)
            }
            None => {
                let db = start(&config, &name)?;
                first_look(&db).await;
                let catalog = db.cluster.catalog();
                if let Some(unread) = unread(&db, catalog.version) {
                    return Err(unread);
                }
                (*catalog).clone()
            }
        };
        Ok((catalog, rows))
    };
    let (catalog, rows) = block_on(live)??;
    let denial = |plan: &Plan, route: &Route<'_>| denied_by(&database.policies, plan, route);
    let mut labels = Labels::new(Planner {
        catalog: &catalog,
        topology: &database.topology,
        denial: &denial,
    });
    let elsewhere = each(statements, rows, dbname.as_deref(), &mut |seen| {
        labels.add(seen)
    })?;
    let read = Read {
        elsewhere,
        beyond: labels.beyond,
    };
    let groups = labels.into_groups();
    found(&groups, statements)?;
    Ok(report(&name, &groups, read, top))
}

/// What `ringway advise` was asked for.
#[derive(Debug)]
pub struct Wish<'a> {
    /// The server whose schema it is.
    pub url: &'a str,
    /// What the database is called in the proposal; the name in the URL when left out.
    pub database: Option<&'a str>,
    pub shards: usize,
    pub reference_rows: u64,
    pub statements: Statements<'a>,
    /// Only the part of a configuration.
    pub only_toml: bool,
}

/// Proposes sharding keys.
///
/// # Errors
/// As [`analyze`].
pub fn advise(wish: &Wish<'_>) -> Result<String, Error> {
    let live = async {
        let rows = of_server(wish.statements).await?;
        let mut client = connect(wish.url).await?;
        let schema = read_schema(&mut client, &BTreeMap::new())
            .await
            .map_err(|failure| unreadable(&failure))?;
        let facts = facts(&client).await.map_err(|error| asked(&error))?;
        let row = client
            .query_one("SELECT current_database()::text", &[])
            .await;
        let name: String = row
            .and_then(|row| row.try_get(0))
            .map_err(|error| asked(&error))?;
        Ok::<_, Error>((schema, facts, name, rows))
    };
    let (schema, facts, dbname, rows) = block_on(live)??;
    let name = wish.database.unwrap_or(&dbname);
    // Shapes are told apart by their text alone; what becomes of them depends on the proposal.
    let catalog = planner::Catalog::new(1, 1);
    let topology = planner::Topology::new(Vec::new(), &[]);
    let mut labels = Labels::new(Planner {
        catalog: &catalog,
        topology: &topology,
        denial: &|_, _| None,
    });
    each(wish.statements, rows, Some(&dbname), &mut |seen| {
        labels.add(seen)
    })?;
    let groups = labels.into_groups();
    found(&groups, wish.statements)?;
    let given = Given {
        schema: &schema,
        facts: &facts,
        groups: &groups,
        shards: wish.shards,
        reference_rows: wish.reference_rows,
    };
    let advice = advise::advise(given);
    if advice.tables.is_empty() {
        let error = Error::new(
            Fault::Operator,
            "02000",
            "no statement names a table of the schema",
        );
        return Err(error.hint("Is it the log of this database?"));
    }
    Ok(match wish.only_toml {
        true => advice.toml(name),
        false => format!("{}\n{}", advice.text(given, name), advice.toml(name)),
    })
}

/// The planner's catalog where every shard has this schema.
fn alike(database: &Database, schema: &ShardSchema) -> planner::Catalog {
    let names: Vec<_> = database
        .shards
        .iter()
        .map(|shard| shard.name.as_str())
        .collect();
    let declared = Declared {
        tables: &database.tables,
        default_ids: &database.default_ids,
        schemas: &database.schemas,
        placements: database.topology.rules(),
    };
    let schemas = vec![Some(schema); names.len()];
    classify(declared, &names, &schemas, 1).catalog
}

async fn schema_of(client: &mut Client, database: &Database) -> Result<ShardSchema, Error> {
    let schema = read_schema(client, &database.functions).await;
    schema.map_err(|failure| unreadable(&failure))
}

async fn connect(url: &str) -> Result<Client, Error> {
    let config = url.parse::<tokio_postgres::Config>().map_err(|error| {
        Error::new(Fault::Operator, "F0000", "--url is no connection string")
            .detail(chain(&error))
            .hint("Write postgresql://USER:PASSWORD@HOST:5432/DATABASE.")
    })?;
    let (client, connection) = config.connect(NoTls).await.map_err(|error| {
        let message = "the server at --url cannot be reached";
        let told = Error::new(Fault::Server, "08001", message).detail(chain(&error));
        match error.code() == Some(&SqlState::INVALID_PASSWORD) {
            true => told,
            false => told.hint(
                "It is connected to without TLS: use a socket or a tunnel where it wants TLS.",
            ),
        }
    })?;
    tokio::spawn(connection);
    Ok(client)
}

/// pg_stat_statements, if that is what is to be read.
async fn of_server(statements: Statements<'_>) -> Result<Vec<Seen>, Error> {
    const ASK: &str = "SELECT query, sum(calls)::bigint FROM pg_stat_statements
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query IS NOT NULL
         GROUP BY query";
    let Statements::Server(url) = statements else {
        return Ok(Vec::new());
    };
    let client = connect(url).await?;
    let rows = client.query(ASK, &[]).await.map_err(|error| asked(&error).hint(
        "It wants CREATE EXTENSION pg_stat_statements and a member of pg_read_all_stats; or give a log.",
    ))?;
    let seen = |row: &tokio_postgres::Row| {
        let (sql, calls): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok(input::of_statistics(
            &sql,
            u64::try_from(calls).unwrap_or(0),
        ))
    };
    let rows: Result<Vec<Seen>, tokio_postgres::Error> = rows.iter().map(seen).collect();
    rows.map_err(|error| asked(&error))
}

/// Hands every statement to `work`; answers how many were of other databases.
fn each(
    statements: Statements<'_>,
    rows: Vec<Seen>,
    database: Option<&str>,
    work: &mut dyn FnMut(Seen),
) -> Result<u64, Error> {
    let Statements::File(path) = statements else {
        rows.into_iter().for_each(work);
        return Ok(0);
    };
    let cannot = |error: &io::Error| {
        let message = format!("{} cannot be read", path.display());
        Error::new(Fault::Operator, "58030", message).detail(error.to_string())
    };
    let mut input: Box<dyn BufRead> = match path.to_str() {
        Some("-") => Box::new(BufReader::new(io::stdin())),
        _ => Box::new(BufReader::new(
            File::open(path).map_err(|error| cannot(&error))?,
        )),
    };
    let summary = input::read(&mut input, database, work).map_err(|error| cannot(&error))?;
    Ok(summary.elsewhere)
}

fn found(groups: &[Group], statements: Statements<'_>) -> Result<(), Error> {
    if !groups.is_empty() {
        return Ok(());
    }
    let error = Error::new(Fault::Operator, "02000", "there are no statements");
    Err(match statements {
        Statements::File(_) => error.hint(
            "PostgreSQL logs them with log_statement = 'all' or log_min_duration_statement = 0, and lc_messages = \
             'C'; pg_stat_statements as CSV needs columns query and calls.",
        ),
        Statements::Server(_) => error.hint("pg_stat_statements is empty for this database."),
    })
}

/// Sizes and foreign keys.
async fn facts(client: &Client) -> Result<BTreeMap<TableName, Facts>, tokio_postgres::Error> {
    const ROWS: &str = "SELECT n.nspname::text, c.relname::text, greatest(c.reltuples, 0)::bigint
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')";
    const KEYS: &str = "SELECT n.nspname::text, c.relname::text, a.attname::text,
               rn.nspname::text, r.relname::text, ra.attname::text
          FROM pg_constraint k CROSS JOIN LATERAL unnest(k.conkey, k.confkey) AS pair (own, other)
          JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_class r ON r.oid = k.confrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = pair.own
          JOIN pg_attribute ra ON ra.attrelid = r.oid AND ra.attnum = pair.other
         WHERE k.contype = 'f'";
    let mut facts: BTreeMap<TableName, Facts> = BTreeMap::new();
    for row in client.query(ROWS, &[]).await? {
        let rows: i64 = row.try_get(2)?;
        let entry = facts.entry((row.try_get(0)?, row.try_get(1)?)).or_default();
        entry.rows = u64::try_from(rows).unwrap_or(0);
    }
    for row in client.query(KEYS, &[]).await? {
        let target = (row.try_get(3)?, row.try_get(4)?);
        let key = (row.try_get(2)?, target, row.try_get(5)?);
        let entry = facts.entry((row.try_get(0)?, row.try_get(1)?)).or_default();
        entry.refers.push(key);
    }
    Ok(facts)
}

fn unreadable(failure: &dyn std::fmt::Display) -> Error {
    Error::new(Fault::Server, "57P03", "the schema cannot be read").detail(failure.to_string())
}

fn asked(error: &tokio_postgres::Error) -> Error {
    Error::new(Fault::Server, "57P03", "the server did not answer as asked").detail(chain(error))
}

fn chain(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
