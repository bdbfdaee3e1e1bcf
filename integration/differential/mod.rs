//! The same rows in one plain PostgreSQL and over two and four shards, the same SQL: the same answer,
//! or a refusal before anything ran. After every write the tables' rows are compared as well.
//!
//! Statements written by hand are in `reads.sql`, `odd.sql`, `writes.sql`, `moves.sql`, `moves_in_blocks.sql`, `inserts.sql`
//! and, with what other sharders answer
//! wrongly, `peers.sql` and `peers_writes.sql`, in the format of the
//! demo's tour. A block without flags must be answered alike, `refused` must be refused, `maybe` may
//! be either (what one protocol or one number of shards can do and the other cannot), `ordered`
//! compares the order of rows too. `generate/` makes statements from a seed, `generated.rs` runs them.

mod answers;
mod blocks;
mod catalog;
mod clients;
mod generate;
mod generated;
mod parameters;
mod world;

use ringway::demo::answer::{Answer, Protocol, ask};
use ringway::demo::tour::{self, Block, Expect, Statement};
use tokio_postgres::Client;

use answers::{comparable, full};
use world::{PROTOCOLS, World, file};

/// Runs one statement on both. The plain server does not see what was refused, so that both keep
/// the same rows; in a transaction block it sees an error instead, as the client did.
async fn run(
    ringway: &Client,
    plain: &Client,
    block: &Block,
    statement: &Statement,
    protocol: Protocol,
    in_block: bool,
) -> Result<(), String> {
    let got = ask(ringway, statement, protocol).await;
    if got.is_refusal() {
        if in_block {
            let _ = plain.batch_execute("refused").await;
        }
        return match block.expect {
            Expect::Same => Err(format!("refused: {}", got.summary())),
            Expect::SameOrRefused | Expect::Refused => Ok(()),
        };
    }
    if block.expect == Expect::Refused {
        let summary = got.summary();
        // To see what it would have had to be.
        let wanted = ask(plain, statement, protocol).await;
        return Err(format!(
            "not refused: {summary}; plain: {}",
            wanted.summary()
        ));
    }
    let wanted = ask(plain, statement, protocol).await;
    let alike = match (&got, &wanted) {
        (
            Answer::Failed { code, message, .. },
            Answer::Failed {
                code: wanted_code,
                message: wanted_message,
                ..
            },
        ) => code == wanted_code && message == wanted_message,
        _ if block.ordered => comparable(&got) == comparable(&wanted),
        _ => comparable(&got).unordered() == comparable(&wanted).unordered(),
    };
    if alike {
        Ok(())
    } else {
        Err(format!("ringway: {} plain: {}", full(&got), full(&wanted)))
    }
}

/// Runs every block of a file in both protocols; with `writes`, compares the tables after each.
async fn differences(name_of_file: &str, world: &World, writes: bool) -> Vec<String> {
    let blocks = tour::parse(&file(name_of_file)).unwrap();
    let mut found = Vec::new();
    for protocol in PROTOCOLS {
        let (mut ringway, plain) = world.clients(protocol).await;
        for block in &blocks {
            let mut in_block = false;
            for statement in &block.statements {
                let upper = statement.sql.to_uppercase();
                if upper.starts_with("BEGIN") || upper.starts_with("START") {
                    in_block = true;
                }
                let outcome = run(&ringway, &plain, block, statement, protocol, in_block).await;
                if ["COMMIT", "ROLLBACK", "END", "ABORT"].contains(&upper.as_str()) {
                    in_block = false;
                }
                if let Err(difference) = outcome {
                    found.push(format!(
                        "[{}] {protocol:?}: {}\n        {difference}",
                        block.title, statement.sql
                    ));
                }
                if ringway.is_closed() {
                    found.push(format!("[{}] connection lost", block.title));
                    ringway = world.clients(protocol).await.0;
                }
            }
            if writes && found.is_empty() {
                let rows = world.differences(protocol);
                found.extend(
                    rows.iter()
                        .map(|row| format!("[{}] {protocol:?}: {row}", block.title)),
                );
            }
        }
    }
    found
}

async fn reads_over(shards: usize) {
    let world = World::start("reads", shards).await;
    let found = differences("reads.sql", &world, false).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
}

async fn peers_over(shards: usize) {
    let world = World::start("peers", shards).await;
    let mut found = differences("peers.sql", &world, false).await;
    found.extend(differences("peers_writes.sql", &world, true).await);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

async fn odd_over(shards: usize) {
    let world = World::start_with("odd", shards, &file("odd_schema.sql")).await;
    let found = differences("odd.sql", &world, false).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn what_statements_do_not_show_is_answered_as_by_one_server_or_refused() {
    odd_over(2).await;
}

#[tokio::test]
async fn what_statements_do_not_show_over_four_shards_is_answered_as_by_one_server_or_refused() {
    odd_over(4).await;
}

async fn writes_over(shards: usize) {
    let world = World::start("writes", shards).await;
    let found = differences("writes.sql", &world, true).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn reads_are_answered_as_by_one_server() {
    reads_over(2).await;
}

#[tokio::test]
async fn reads_over_four_shards_are_answered_as_by_one_server() {
    reads_over(4).await;
}

#[tokio::test]
async fn writes_leave_the_rows_that_one_server_would_hold() {
    writes_over(2).await;
}

#[tokio::test]
async fn writes_over_four_shards_leave_the_rows_that_one_server_would_hold() {
    writes_over(4).await;
}

async fn moves_over(shards: usize) {
    let world = World::start("moves", shards).await;
    let found = differences("moves.sql", &world, true).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn rows_move_with_their_keys_as_on_one_server() {
    moves_over(2).await;
}

#[tokio::test]
async fn rows_move_over_four_shards_as_on_one_server() {
    moves_over(4).await;
}

/// Each statement unnamed, those of a line in one pipeline.
const PIPELINES: &[&[&str]] = &[
    &[
        "UPDATE tiny SET id = 101 WHERE id = 1 RETURNING id, v",
        "UPDATE tiny SET v = 7 WHERE id = 101",
        "SELECT v FROM tiny WHERE id = 101",
    ],
    &[
        "INSERT INTO tiny VALUES (102, 1), (103, 1), (104, 1), (105, 1)",
        "UPDATE tiny SET id = id + 100 WHERE id > 101",
        "UPDATE tiny SET id = 2 WHERE id = 102",
        "DELETE FROM tiny WHERE id = 203",
        "UPDATE tiny SET id = 206 WHERE id = 204 RETURNING id",
    ],
    &[
        "UPDATE tiny SET id = id + 1000 WHERE id > 3",
        "SELECT 1 / (v - v) FROM tiny WHERE id = 3",
        "UPDATE tiny SET id = id - 1000 WHERE id > 1000",
    ],
    &[
        "UPDATE tiny SET v = 8 WHERE id = 3",
        "UPDATE tiny SET id = 4 WHERE id = 3",
        "UPDATE tiny SET v = 9 WHERE id = 3",
    ],
    &[
        "UPDATE pets SET owner_id = 44 WHERE owner_id = 20",
        "INSERT INTO pets VALUES (44, -1, 'one more')",
        "UPDATE pets SET owner_id = 45 WHERE owner_id = 44 AND n < 0 RETURNING n",
    ],
    &[
        "UPDATE pets SET owner_id = 46 WHERE owner_id = 21",
        "INSERT INTO pets VALUES (999, 1, 'no owner')",
    ],
    &[
        "UPDATE tiny SET v = 1 WHERE id = 4",
        "UPDATE pets SET owner_id = 998 WHERE owner_id = 22",
    ],
    &[
        "BEGIN",
        "UPDATE tiny SET id = 301 WHERE id = 5 RETURNING v",
        "SAVEPOINT a",
        "UPDATE tiny SET id = id + 500",
        "ROLLBACK TO a",
        "UPDATE tiny SET id = 302 WHERE id = 301",
        "COMMIT",
    ],
    &["BEGIN", "UPDATE tiny SET id = 303 WHERE id = 302"],
    &[
        "UPDATE tiny SET id = 304 WHERE id = 303",
        "SAVEPOINT a",
        "UPDATE tiny SET id = 6 WHERE id = 304",
    ],
    &["ROLLBACK TO a", "UPDATE tiny SET id = 305 WHERE id = 304"],
    &["COMMIT", "SELECT id FROM tiny WHERE id IN (303, 304, 305)"],
    &[
        "UPDATE tiny SET id = 306 WHERE id = 305",
        "BEGIN",
        "UPDATE tiny SET id = 307 WHERE id = 306",
    ],
    &["ROLLBACK"],
    &["SELECT count(*), sum(id) FROM tiny"],
];

fn pipelines_that_differ(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    let (mut ringway, mut plain) = world.wires(Protocol::Extended);
    for pipeline in PIPELINES {
        let got = ringway.ask_extended(pipeline);
        let wanted = plain.ask_extended(pipeline);
        if got != wanted {
            found.push(format!("{pipeline:?}\n  ringway: {got}\n  plain: {wanted}"));
        }
    }
    found
}

async fn moves_in_blocks_over(shards: usize) {
    let world = World::start("moves_in_blocks", shards).await;
    let mut found = differences("moves_in_blocks.sql", &world, true).await;
    found.extend(pipelines_that_differ(&world));
    found.extend(world.differences(Protocol::Extended));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

async fn inserts_over(shards: usize) {
    let world = World::start("inserts", shards).await;
    let found = differences("inserts.sql", &world, true).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn rows_move_in_blocks_as_on_one_server() {
    moves_in_blocks_over(2).await;
}

#[tokio::test]
async fn rows_move_in_blocks_over_four_shards_as_on_one_server() {
    moves_in_blocks_over(4).await;
}

#[tokio::test]
async fn rows_of_queries_are_inserted_as_on_one_server() {
    inserts_over(2).await;
}

#[tokio::test]
async fn rows_of_queries_are_inserted_over_four_shards_as_on_one_server() {
    inserts_over(4).await;
}

#[tokio::test]
async fn what_peers_answer_wrongly_is_answered_as_by_one_server_or_refused() {
    peers_over(2).await;
}

#[tokio::test]
async fn what_peers_answer_wrongly_over_four_shards_is_answered_as_by_one_server_or_refused() {
    peers_over(4).await;
}
