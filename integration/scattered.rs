//! Rows of several shards while they stream: what is held of them, and what shards do for a client
//! that wants no more.

use std::fmt::Write;
use std::time::Duration;

use ringway::demo::captive::{CaptiveCluster, Spec};

use crate::memory::{peak, process};
use crate::support::wire::{Wire, execute, frame, parse};
use crate::support::{self, Ringway};

const ROWS: usize = 50_000;

/// What one client's rows may add to the process's peak, in KiB. 100 MB pass.
const ALLOWED_KIB: u64 = 8 * 1024;

/// `tick` counts on its shard for how many rows it was called.
fn start() -> (CaptiveCluster, Ringway) {
    let cluster = support::cluster(&Spec {
        shards: 2,
        database: "shop".to_owned(),
        ..Spec::default()
    });
    for (at, shard) in cluster.shards.iter().enumerate() {
        let schema = format!(
            "CREATE UNLOGGED TABLE numbers (id bigint PRIMARY KEY);
             INSERT INTO numbers SELECT 2 * n + {at} FROM generate_series(1, {ROWS}) AS n;
             CREATE SEQUENCE ticks;
             CREATE FUNCTION tick(id bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS
               'BEGIN PERFORM nextval(''ticks''); RETURN id; END'"
        );
        shard.primary.exec_in("shop", &schema).unwrap();
        shard
            .primary
            .exec_in("shop", "VACUUM ANALYZE numbers")
            .unwrap();
    }
    let ringway = Ringway::start(|port| config(&cluster, port));
    (cluster, ringway)
}

fn config(cluster: &CaptiveCluster, port: u16) -> String {
    let mut toml = format!(
        "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n\
         [databases.shop]\nserver_user = \"ringway\"\n\
         tables = {{ numbers = {{ key = \"id\" }} }}\nfunctions = {{ tick = \"read\" }}\n"
    );
    for (at, shard) in cluster.shards.iter().enumerate() {
        let _ = writeln!(
            toml,
            "[[databases.shop.shards]]\nname = \"s{at}\"\nservers = [\"127.0.0.1:{}\"]",
            shard.primary.port
        );
    }
    toml
}

/// For how many rows each shard has called `tick` since this was last asked.
fn ticks(cluster: &CaptiveCluster) -> Vec<usize> {
    let sql = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ticks";
    let shards = cluster.shards.iter().map(|shard| &shard.primary);
    shards
        .map(|server| {
            let count = server.exec_in("shop", sql).unwrap();
            // ALTER SEQUENCE would wait for transactions that have used it.
            let restart = "SELECT setval('ticks', 1, false)";
            server.exec_in("shop", restart).unwrap();
            count.parse().unwrap()
        })
        .collect()
}

#[test]
fn a_limit_stops_every_shard() {
    let (cluster, ringway) = start();
    let (mut wire, _) = Wire::login(ringway.port(), "ringway", "shop");
    for (sql, first, expected) in [
        (
            "SELECT tick(id) FROM numbers ORDER BY id LIMIT 3",
            "2 3 4",
            [3, 3],
        ),
        (
            "SELECT tick(id) FROM numbers ORDER BY id LIMIT 2 OFFSET 1",
            "3 4",
            [3, 3],
        ),
        (
            "SELECT tick(id) FROM numbers ORDER BY id DESC FETCH FIRST ROW ONLY",
            "100001",
            [1, 1],
        ),
        ("SELECT tick(id) FROM numbers LIMIT 0", "", [0, 0]),
    ] {
        let count = first.split_whitespace().count();
        let answer = format!("{first} SELECT {count} I");
        assert_eq!(wire.ask(sql), answer.trim_start(), "{sql}");
        assert_eq!(ticks(&cluster), expected, "{sql}");
        assert_eq!(wire.ask_extended(&[sql]), answer.trim_start(), "{sql}");
        assert_eq!(ticks(&cluster), expected, "{sql}");
    }
}

/// Beyond what fits into buffers, a shard waits for the client that has paused its portal.
#[test]
fn a_portal_that_pauses_holds_the_shards_back() {
    let (cluster, ringway) = start();
    let (mut wire, _) = Wire::login(ringway.port(), "ringway", "shop");
    assert_eq!(wire.ask("BEGIN"), "BEGIN T");
    let sql = "SELECT tick(id), repeat('x', 2000) FROM numbers";
    for (portal, formats) in [("text", &[][..]), ("binary", &[1]), ("both", &[0, 1])] {
        let begun = wire.ask_pipeline(&[
            parse("", sql),
            bind_with_results(portal, formats),
            execute(portal, 5),
        ]);
        assert!(begun.ends_with(" suspended T"), "{begun:.200}");
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
        for shard in &cluster.shards {
            let limit = Duration::from_secs(20);
            shard.primary.wait_for(waits, "1", limit).unwrap();
        }
        let before = ticks(&cluster);
        assert!(before.iter().all(|count| *count < ROWS / 2), "{before:?}");
        // Another statement ends it, and what was under way is dropped.
        assert_eq!(
            wire.ask("SELECT count(*) FROM numbers"),
            "100000 SELECT 1 T"
        );
        ticks(&cluster);
    }
    assert_eq!(wire.ask("COMMIT"), "COMMIT I");
}

/// Bind of the unnamed statement, without values.
fn bind_with_results(portal: &str, formats: &[u8]) -> Vec<u8> {
    // The name of the statement, no formats and no values.
    let mut body = format!("{portal}\0\0\0\0\0\0").into_bytes();
    body.extend([0, formats.len() as u8]);
    body.extend(formats.iter().flat_map(|format| [0, *format]));
    frame(b'B', &body)
}

#[test]
fn rows_in_order_stream_in_constant_memory() {
    let (_cluster, ringway) = start();
    let (mut wire, _) = Wire::login(ringway.port(), "ringway", "shop");
    let pid = process(&ringway);
    let sql = |rows| format!("SELECT id, repeat('x', 1000) FROM numbers ORDER BY id LIMIT {rows}");
    wire.query(&sql(1000));
    wire.read_to_ready();
    let before = peak(pid);
    wire.query(&sql(2 * ROWS));
    let (mut rows, mut last) = (0, 0);
    while let Some(frame) = wire.read().filter(|frame| frame.tag != b'Z') {
        if frame.tag == b'D' {
            let length = usize::from(frame.body[5]);
            let id = std::str::from_utf8(&frame.body[6..6 + length]).unwrap();
            let id: usize = id.parse().unwrap();
            assert!(id > last, "{last} before {id}");
            (rows, last) = (rows + 1, id);
        }
    }
    assert_eq!(rows, 2 * ROWS);
    let after = peak(pid);
    assert!(after - before < ALLOWED_KIB, "{before} -> {after} KiB");
}
