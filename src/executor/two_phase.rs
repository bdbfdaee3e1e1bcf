//! The coordinator's side of an atomic commit; the protocol is told in `cluster/two_phase/mod.rs` and
//! docs/adr/0016.
//!
//! Cancel safety: none of it loses anything. What is dropped half way is in doubt, and recovery finishes
//! it by its decision.

use std::future::Future;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::join_all;
use planner::ShardId;

use super::broadcast;
use crate::backend::server::{Server, Status};
use crate::cluster::Cluster;
use crate::cluster::two_phase::{Commit, Outcome, Phase, Step};
use crate::error::{Error, Fault};
use crate::metrics::CommitKind;
use crate::wire::frame::HEADER;
use crate::wire::write;

/// How long a client waits at least to hear what became of a COMMIT whose answer was lost.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);

/// Has this transaction written anything here? It has an id then, and it has one before it prepares
/// anywhere else: recovery counts on that.
const WROTE: &str = "SELECT pg_catalog.txid_current_if_assigned() IS NOT NULL";

/// What was told of rows that were written need not mean that there is an id: they may be another server's.
const CLAIM: &str = "SELECT pg_catalog.txid_current()";

/// Deferred constraints and triggers run as the client's role; the transaction then is the login role's,
/// as whom recovery finishes it.
const PRELUDE: &str = "SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL ROLE NONE";

/// Commits what these servers, each of its shard, have in open transactions: on all or on none.
///
/// # Errors
/// Nothing is kept, unless the error says that this is not known: 08007, or 08006 where the one server
/// that had written was lost.
pub(super) async fn commit(
    servers: &mut [&mut Server],
    shards: &[ShardId],
    cluster: &Cluster,
) -> Result<(), Error> {
    let wrote = match servers.iter().all(|server| server.has_written) {
        // They said so already.
        true => vec![true; servers.len()],
        false => {
            let asked = all(servers, |_, server| wrote(server)).await;
            match asked.into_iter().collect::<Result<Vec<bool>, Error>>() {
                Ok(wrote) => wrote,
                Err(error) => {
                    roll_back(servers).await;
                    return Err(undecided(error));
                }
            }
        }
    };
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    let mut written = Vec::new();
    for ((server, shard), wrote) in servers.iter_mut().zip(shards).zip(wrote) {
        match wrote {
            true => {
                writers.push(&mut **server);
                written.push(*shard);
            }
            false => readers.push(&mut **server),
        }
    }
    // Where they fail, what was read was not to be relied on: nothing is decided yet.
    let read = all(&mut readers, |_, server| server.run_hidden("COMMIT")).await;
    if let Some(error) = first_error(read) {
        roll_back(&mut readers).await;
        roll_back(&mut writers).await;
        return Err(undecided(error));
    }
    match writers.as_mut_slice() {
        [] => {
            cluster.count_commit(CommitKind::OnePhase);
            Ok(())
        }
        [only] => {
            cluster.count_commit(CommitKind::OnePhase);
            only.run_hidden("COMMIT").await
        }
        writers => {
            cluster.count_commit(CommitKind::TwoPhase);
            commit_writers(writers, written, cluster).await
        }
    }
}

async fn commit_writers(
    writers: &mut [&mut Server],
    shards: Vec<ShardId>,
    cluster: &Cluster,
) -> Result<(), Error> {
    let two_phase = &cluster.two_phase;
    let deciding = shards[0];
    let others = shards[1..].to_vec();
    let commit = match two_phase.begin(shards) {
        Ok(commit) => commit,
        Err(error) => {
            roll_back(writers).await;
            return Err(error);
        }
    };
    let commit = &commit;
    let prepared = all(writers, |at, server| async move {
        let sql = match at {
            0 => format!("{PRELUDE}; {CLAIM}"),
            _ => format!("{PRELUDE}; PREPARE TRANSACTION '{}'", commit.gid(at)),
        };
        if at == 2 {
            commit.reach(Step::PreparingSecond);
        }
        server.run_hidden(&sql).await
    });
    let prepared = prepared.await;
    let is_prepared: Vec<bool> = prepared.iter().map(Result::is_ok).collect();
    if let Some(error) = first_error(prepared) {
        undo(writers, &is_prepared, &others, commit).await;
        return Err(undecided(error));
    }
    commit.reach(Step::Prepared);
    commit.enter(Phase::Deciding);
    if let Err(error) = decide(writers[0], commit).await {
        let outcome = match writers[0].doubt {
            None => Outcome::Abort,
            // It was lost before it said what became of the transaction.
            Some(_) => {
                commit.enter(Phase::Resolving);
                let limit = cluster.database().pool.failover_hold.max(RESOLVE_LIMIT);
                match cluster.resolve(deciding, commit.id(), limit).await {
                    Ok(outcome) => outcome,
                    Err(failure) => {
                        let shard = &cluster.database().shards[usize::from(deciding.0)].name;
                        return Err(unknown(commit, shard, &failure.to_string()));
                    }
                }
            }
        };
        if outcome == Outcome::Abort {
            undo(writers, &is_prepared, &others, commit).await;
            return Err(not_committed(error));
        }
    }
    commit.reach(Step::Decided);
    commit.enter(Phase::Finishing);
    let finished = all(&mut writers[1..], |at, server| async move {
        if at == 1 {
            commit.reach(Step::CommittingSecond);
        }
        let sql = format!("COMMIT PREPARED '{}'", commit.gid(at + 1));
        run_as_login(server, &sql).await
    });
    // It is decided: that something is left to be done is not the client's to know.
    leave_behind(&finished.await, &others, commit);
    Ok(())
}

/// Decides on the first shard.
async fn decide(server: &mut Server, commit: &Commit<'_>) -> Result<(), Error> {
    server.begin_exchange();
    server.send_query(commit.decision().as_bytes(), false);
    if commit.stops_at(Step::Deciding) {
        let _ = server.conn.drain().await;
        commit.reach(Step::Deciding);
    }
    let settled = server.settle().await;
    match server.error.take() {
        None => settled,
        Some(error) => Err(error),
    }
}

/// Rolls everything back, before it is decided or after it was decided so.
async fn undo(
    writers: &mut [&mut Server],
    is_prepared: &[bool],
    others: &[ShardId],
    commit: &Commit<'_>,
) {
    let undone = all(writers, |at, server| async move {
        match at > 0 && is_prepared[at] {
            true => run_as_login(server, &format!("ROLLBACK PREPARED '{}'", commit.gid(at))).await,
            false => roll_back_one(server).await,
        }
    });
    leave_behind(&undone.await[1..], others, commit);
}

/// Tells recovery of the shards where something may be left.
fn leave_behind(finished: &[Result<(), Error>], others: &[ShardId], commit: &Commit<'_>) {
    for (done, shard) in finished.iter().zip(others) {
        match done {
            Ok(()) => {}
            // Somebody else has finished it.
            Err(error) if error.code == "42704" => {}
            Err(error) => {
                let id = commit.id();
                tracing::warn!(%id, shard = shard.0, %error, "a transaction is left to be finished");
                commit.leave_behind(*shard);
            }
        }
    }
}

/// Runs a text outside a transaction as the role that the connection logged in as.
async fn run_as_login(server: &mut Server, sql: &str) -> Result<(), Error> {
    let Some(role) = server.applied.get("role").cloned() else {
        return server.run_hidden(sql).await;
    };
    server.run_hidden("SET ROLE NONE").await?;
    let done = server.run_hidden(sql).await;
    if server.run_hidden(&role).await.is_err() {
        server.doubt.get_or_insert("its role could not be restored");
    }
    done
}

async fn wrote(server: &mut Server) -> Result<bool, Error> {
    let mut request = BytesMut::new();
    write::query(&mut request, WROTE.as_bytes());
    let answer = broadcast::ask(server, &request).await?;
    // One row of one value of one byte: after the header, their number and its length.
    match answer.rows.get(HEADER + 2 + 4) {
        Some(b't') => Ok(true),
        Some(b'f') => Ok(false),
        Some(_) | None => Err(server.lost("it does not say whether it has written")),
    }
}

async fn roll_back(servers: &mut [&mut Server]) {
    all(servers, |_, server| roll_back_one(server)).await;
}

async fn roll_back_one(server: &mut Server) -> Result<(), Error> {
    if server.status == Status::Idle {
        return Ok(());
    }
    let done = server.run_hidden("ROLLBACK").await;
    if done.is_err() {
        server.doubt.get_or_insert("it failed to roll back");
    }
    done
}

/// The same on each at once, in the order of the servers.
async fn all<'i, 's, F: Future>(
    servers: &'i mut [&'s mut Server],
    run: impl Fn(usize, &'i mut Server) -> F,
) -> Vec<F::Output> {
    let each = servers.iter_mut().enumerate();
    join_all(each.map(|(at, server)| run(at, server))).await
}

fn first_error<T>(results: Vec<Result<T, Error>>) -> Option<Error> {
    results.into_iter().find_map(Result::err)
}

/// It failed before anything was decided: nothing is kept, also where a server was lost.
fn undecided(error: Error) -> Error {
    match &*error.code {
        "08006" => error.hint("Nothing of the transaction was kept on any shard: repeat it."),
        "0A000" if error.message.starts_with("cannot PREPARE") => error.hint(
            "A transaction that writes on several shards is prepared first. Nothing of it was kept: leave \
             this out, or write on one shard.",
        ),
        _ => error,
    }
}

/// The decision failed: whatever the server's words, its meaning is that nothing was kept. Those of a
/// serialization failure and of a cancel say so.
fn not_committed(error: Error) -> Error {
    let message = "transaction was rolled back on all shards";
    if matches!(&*error.code, "40001" | "57014") {
        // As on one server: drivers repeat the one by its code, and who cancelled waits for the other.
        return error;
    }
    let detail = match &*error.code {
        // Its own row stands there already: recovery took this process for dead.
        "23505" => {
            "This process did not go on for so long that another one rolled the transaction back."
                .to_owned()
        }
        _ => format!("It could not be decided: {}.", error.message),
    };
    Error::new(Fault::Server, "40000", message)
        .detail(detail)
        .hint("Repeat it; nothing of it was kept.")
}

fn unknown(commit: &Commit<'_>, shard: &str, why: &str) -> Error {
    let id = commit.id();
    Error::new(
        Fault::Server,
        "08007",
        format!("it is not known whether transaction {id} was committed"),
    )
    .detail(format!(
        "The connection was lost while it was decided on shard \"{shard}\", which cannot be asked: {why}. \
         It will be committed on all shards or on none."
    ))
    .hint(format!(
        "Ask later: /* ringway: shard={shard} */ SELECT outcome FROM ringway.decision WHERE id = '{id}'. \
         If there is no row, it is not decided yet, or was rolled back."
    ))
}
