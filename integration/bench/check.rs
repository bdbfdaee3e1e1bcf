//! A proxy that answers wrongly may be fast: every peer is asked before it is measured.

use ringway::demo::shop;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::Failure;
use crate::peers::{DATABASE, Peer, ROWS, Running, Servers, USER};
use crate::secure::PASSWORD;

/// Keys asked for, spread over the rows.
const KEYS: u32 = 100;

/// # Errors
/// A row that is not found, or reads that do not reach the replica where they should.
pub fn answers(running: &Running, servers: &Servers) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime
        .block_on(asked(running, servers))
        .map_err(|error| format!("{}: {error}", running.peer.name()).into())
}

async fn asked(running: &Running, servers: &Servers) -> Result<(), Failure> {
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(running.port)
        .user(USER)
        .password(PASSWORD)
        .dbname(DATABASE);
    let client = shop::connect(&config).await?;
    for key in (1..=KEYS).map(|n| n * (ROWS / KEYS)) {
        let sql = format!("SELECT aid FROM pgbench_accounts WHERE aid = {key}");
        let rows = first_column(&client, &sql).await?;
        if rows != [key.to_string()] {
            return Err(format!("{sql} answers {rows:?}").into());
        }
    }
    if matches!(running.peer, Peer::RingwaySplit | Peer::RingwayStale) {
        reads_reach(servers.replica_port(), &client).await?;
    }
    Ok(())
}

async fn reads_reach(port: u16, client: &Client) -> Result<(), Failure> {
    for _ in 0..KEYS {
        let answer = first_column(client, "SELECT inet_server_port()").await?;
        if answer == [port.to_string()] {
            return Ok(());
        }
    }
    Err("no read reaches the replica".into())
}

async fn first_column(client: &Client, sql: &str) -> Result<Vec<String>, Failure> {
    let messages = client.simple_query(sql).await?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0)?.to_owned()),
        _ => None,
    });
    Ok(rows.collect())
}
