//! Statements that run on several shards at once, while something else happens: their client leaves, or
//! others are to see what they have changed.

use std::time::Duration;

use crate::sharded_copy::World;
use crate::support::wire::{Wire, frame, unnamed};

const LIMIT: Duration = Duration::from_secs(20);

/// How many statements of clients run on a shard that `like` names.
fn running(like: &str) -> String {
    format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND query LIKE '{like}' \
         AND pid <> pg_backend_pid()"
    )
}

#[test]
fn what_a_client_leaves_behind_is_cancelled_and_rolled_back() {
    let world = World::start_with("");
    let [first, second] = [0, 1].map(|at| &world.shards.shards[at].primary);
    let mut wire = world.through();
    let values: Vec<String> = (1..=20).map(|id| format!("({id}, 0)")).collect();
    assert_eq!(
        wire.ask(&format!(
            "INSERT INTO t (id, n) VALUES {}",
            values.join(", ")
        )),
        "INSERT 0 20 I"
    );
    let state = "SELECT count(*) || ' ' || sum(n) FROM t";
    let before = world.each(state);
    for (sql, like) in [
        ("UPDATE t SET n = 7", "UPDATE t%"),
        (
            "INSERT INTO t (id) VALUES (101), (102), (103), (104), (105), (106)",
            "INSERT INTO t%",
        ),
        ("ALTER TABLE t ADD COLUMN more integer", "ALTER TABLE t%"),
        ("COPY t TO STDOUT", "COPY t TO%"),
        ("COPY t FROM STDIN", "COPY t FROM%"),
    ] {
        for extended in [false, true] {
            // The second shard waits for this, which the first does not.
            let mut holder = Wire::login(second.port, "ringway", "shop").0;
            assert_eq!(holder.ask("BEGIN"), "BEGIN T");
            assert_eq!(
                holder.ask("LOCK t IN ACCESS EXCLUSIVE MODE"),
                "LOCK TABLE T"
            );
            let mut leaving = world.through();
            match extended {
                true => leaving.send_bytes(&[unnamed(sql), frame(b'S', b"")].concat()),
                false => leaving.query(sql),
            }
            second.wait_for(&running(like), "1", LIMIT).unwrap();
            drop(leaving);
            second.wait_for(&running(like), "0", LIMIT).unwrap();
            first.wait_for(&running(like), "0", LIMIT).unwrap();
            assert_eq!(holder.ask("ROLLBACK"), "ROLLBACK I");
            assert_eq!(world.each(state), before, "{sql}, extended: {extended}");
            let columns = "SELECT count(*) FROM pg_attribute WHERE attname = 'more'";
            assert_eq!(world.each(columns), ["0", "0"], "{sql}");
        }
    }
    // The data of a COPY are sent, and the second shard waits for rows of another transaction.
    let mut holder = Wire::login(second.port, "ringway", "shop").0;
    assert_eq!(holder.ask("BEGIN"), "BEGIN T");
    let same = "INSERT INTO t (id) SELECT id FROM generate_series(201, 220) AS id";
    assert_eq!(holder.ask(same), "INSERT 0 20 T");
    let mut leaving = world.through();
    leaving.query("COPY t (id) FROM STDIN");
    assert_eq!(leaving.read().map(|frame| frame.tag), Some(b'G'));
    let rows: String = (201..=220).map(|id| format!("{id}\n")).collect();
    leaving.send_bytes(&[frame(b'd', rows.as_bytes()), frame(b'c', b"")].concat());
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid'";
    second.wait_for(waits, "1", LIMIT).unwrap();
    drop(leaving);
    second.wait_for(waits, "0", LIMIT).unwrap();
    first.wait_for(&running("COPY t%"), "0", LIMIT).unwrap();
    assert_eq!(holder.ask("ROLLBACK"), "ROLLBACK I");
    assert_eq!(world.each(state), before);
}

#[test]
fn ready_for_query_waits_for_the_schema_to_be_read() {
    let world = World::start_with("schemas = { own = \"s1\" }");
    world.on_shard(1, "CREATE SCHEMA own; CREATE TABLE own.made (id bigint)");
    let known = world
        .through()
        .ask("COMMENT ON TABLE t IS 'known from here on'");
    assert_eq!(known, "COMMENT I");
    let first = &world.shards.shards[0].primary;
    let sync = frame(b'S', b"");
    let ask = |wire: &mut Wire, sql: &str, extended: bool| match extended {
        true => wire.send_bytes(&[unnamed(sql), sync.clone()].concat()),
        false => wire.query(sql),
    };
    for (at, extended, in_block) in [
        (0, false, false),
        (1, true, false),
        (2, false, true),
        (3, true, true),
    ] {
        let mut wire = world.through();
        let alter = format!("ALTER TABLE own.made ADD COLUMN c{at} bigint");
        let mut last = alter.as_str();
        if in_block {
            for sql in ["BEGIN", &alter] {
                ask(&mut wire, sql, extended);
                wire.read_to_ready();
            }
            last = "COMMIT";
        }
        // Whoever reads the schema waits for this on the other shard.
        let mut holder = Wire::login(first.port, "ringway", "shop").0;
        assert_eq!(holder.ask("BEGIN"), "BEGIN T");
        let lock = "LOCK pg_catalog.pg_description IN ACCESS EXCLUSIVE MODE";
        assert_eq!(holder.ask(lock), "LOCK TABLE T");
        ask(&mut wire, last, extended);
        let exists = format!("SELECT count(*) FROM pg_attribute WHERE attname = 'c{at}'");
        let second = &world.shards.shards[1].primary;
        second.wait_for(&exists, "1", LIMIT).unwrap();
        wire.set_limit(Duration::from_millis(300));
        while let Some(frame) = wire.try_read() {
            assert_ne!(frame.tag, b'Z', "{last}, extended: {extended}");
        }
        assert_eq!(holder.ask("ROLLBACK"), "ROLLBACK I");
        wire.set_limit(LIMIT);
        assert_eq!(
            wire.read_to_ready().last().map(|frame| frame.tag),
            Some(b'Z')
        );
    }
}
