//! Policies on statements that run on several shards.

use crate::sharded_copy::World;
use crate::support::wire::{Frame, Wire, unnamed};

/// Messages of notices, and code or command tag.
fn outcome(frames: &[Frame]) -> String {
    let said = frames.iter().filter_map(|frame| match frame.tag {
        b'N' => frame.fields().remove(&'M'),
        b'E' => Some(frame.code()),
        b'C' => Some(
            String::from_utf8_lossy(&frame.body)
                .trim_end_matches('\0')
                .to_owned(),
        ),
        _ => None,
    });
    said.collect::<Vec<_>>().join("; ")
}

#[test]
fn statements_on_several_shards_are_warned_of_or_denied() {
    let world = World::start_with("scatter_reads = \"warn\"\nscatter_writes = \"deny\"");
    let (mut wire, _) = Wire::login(world.ringway.port(), "ringway", "shop");
    let warned = "statement runs on several shards, which scatter_reads warns of";
    for (sql, wanted) in [
        (
            "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3), (4, 4)",
            "INSERT 0 4".to_owned(),
        ),
        (
            "MERGE INTO t USING (VALUES (1, 1), (2, 2), (3, 3), (4, 4)) v (id, n) ON t.id = v.id WHEN MATCHED THEN UPDATE SET n = v.n \
             WHEN NOT MATCHED THEN INSERT (id, n) VALUES (v.id, v.n)",
            "MERGE 4".to_owned(),
        ),
        (
            "MERGE INTO t USING unnest(ARRAY[1, 2, 3, 4], ARRAY[1, 2, 3, 4]) v (id, n) ON t.id = v.id WHEN MATCHED THEN UPDATE SET n = v.n \
             WHEN NOT MATCHED THEN INSERT (id, n) VALUES (v.id, v.n)",
            "0A000".to_owned(),
        ),
        ("SELECT * FROM t WHERE id = 1", "SELECT 1".to_owned()),
        ("SELECT * FROM t", format!("{warned}; SELECT 4")),
        ("SELECT count(*) FROM t", format!("{warned}; SELECT 1")),
        ("UPDATE t SET n = 5 WHERE id = 1", "UPDATE 1".to_owned()),
        ("UPDATE t SET n = 6", "0A000".to_owned()),
        ("DELETE FROM t WHERE n = 5", "0A000".to_owned()),
        (
            "UPDATE t SET n = 7 FROM t AS other WHERE other.n = t.n",
            "0A000".to_owned(),
        ),
        ("UPDATE t SET id = id + 100", "0A000".to_owned()),
        // From one shard, wherever it goes.
        (
            "UPDATE t SET id = id + 100 WHERE id = 1",
            "UPDATE 1".to_owned(),
        ),
        ("INSERT INTO t SELECT id + 10, n FROM t", "0A000".to_owned()),
        ("INSERT INTO t SELECT 9, 1", "INSERT 0 1".to_owned()),
        ("DELETE FROM t WHERE id = 9", "DELETE 1".to_owned()),
        ("UPDATE r SET w = 'x'", "UPDATE 0".to_owned()),
        ("CREATE INDEX ON t (n)", "CREATE INDEX".to_owned()),
        (
            "SELECT count(*) FROM t WHERE n = 6 AND id = 2",
            "SELECT 1".to_owned(),
        ),
    ] {
        wire.query(sql);
        assert_eq!(outcome(&wire.read_to_ready()), wanted, "{sql}");
    }
    let mut messages = unnamed("SELECT * FROM t");
    messages.extend(b"S\0\0\0\x04");
    wire.send_bytes(&messages);
    let wanted = format!("{warned}; SELECT 4");
    assert_eq!(outcome(&wire.read_to_ready()), wanted, "extended");
}

#[test]
fn what_runs_shard_by_shard_tells_how_far_it_got() {
    let world = World::start_with("");
    let (mut wire, _) = Wire::login(world.ringway.port(), "ringway", "shop");
    wire.query("CREATE INDEX CONCURRENTLY i ON t (n)");
    let done = |at: usize| format!("CREATE INDEX is done on shard \"s{}\", {at} of 2", at - 1);
    let wanted = format!("{}; {}; CREATE INDEX", done(1), done(2));
    assert_eq!(outcome(&wire.read_to_ready()), wanted);
    world.on_shard(1, "CREATE INDEX j ON t (w)");
    wire.query("CREATE INDEX CONCURRENTLY j ON t (n)");
    let frames = wire.read_to_ready();
    assert_eq!(outcome(&frames), format!("{}; 42P07", done(1)));
    let error = frames.iter().find(|frame| frame.tag == b'E');
    let detail = error
        .map(|error| error.fields()[&'D'].clone())
        .unwrap_or_default();
    assert!(
        detail.starts_with("It took effect on 127.0.0.1:"),
        "{detail}"
    );
    assert!(detail.contains(" It failed on 127.0.0.1:"), "{detail}");
    assert!(hint_of(&frames).starts_with("If it is left from an earlier try"));
}

fn hint_of(frames: &[Frame]) -> String {
    let error = frames.iter().find(|frame| frame.tag == b'E');
    error
        .and_then(|error| error.fields().remove(&'H'))
        .unwrap_or_default()
}

#[test]
fn what_failed_on_one_shard_is_cleared_up_by_what_its_hint_says() {
    let world = World::start_with("");
    world.on_shard(1, "INSERT INTO t VALUES (1, 5, 'a'), (2, 5, 'b')");
    let valid = "SELECT coalesce(string_agg(indisvalid::text, ' '), 'none') FROM pg_index \
                 WHERE indexrelid = to_regclass('once')";
    let create = "CREATE UNIQUE INDEX CONCURRENTLY once ON public.t (n)";
    for extended in [false, true] {
        let mut wire = world.through();
        match extended {
            true => wire.send_bytes(&[unnamed(create), b"S\0\0\0\x04".to_vec()].concat()),
            false => wire.query(create),
        }
        let frames = wire.read_to_ready();
        assert!(
            outcome(&frames).ends_with("; 23505"),
            "{}",
            outcome(&frames)
        );
        assert_eq!(world.each(valid), ["true", "false"]);
        let hint = hint_of(&frames);
        let (told, drop) = hint.split_once(": ").unwrap();
        assert!(told.contains("on all shards"), "{told}");
        wire.query(drop);
        assert!(
            outcome(&wire.read_to_ready()).ends_with("; DROP INDEX"),
            "{drop}"
        );
        assert_eq!(world.each(valid), ["none", "none"]);
    }
    world.on_shard(1, "DELETE FROM t WHERE id = 2");
    let mut wire = world.through();
    wire.query(create);
    assert!(outcome(&wire.read_to_ready()).ends_with("; CREATE INDEX"));
    assert_eq!(world.each(valid), ["true", "true"]);
}

#[test]
fn a_missing_key_is_a_policy_of_its_own() {
    let world = World::start_with("missing_key = \"deny\"");
    let (mut wire, _) = Wire::login(world.ringway.port(), "ringway", "shop");
    for (sql, wanted) in [
        (
            "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3), (4, 4)",
            "INSERT 0 4",
        ),
        ("SELECT * FROM t WHERE id IN (1, 2, 3, 4)", "SELECT 4"),
        ("SELECT * FROM t", "0A000"),
        ("UPDATE t SET n = 5", "0A000"),
        ("INSERT INTO t SELECT id + 10, n FROM t", "0A000"),
        (
            "INSERT INTO t SELECT id + 10, n FROM t WHERE id IN (1, 2, 3, 4)",
            "INSERT 0 4",
        ),
        (
            "MERGE INTO t USING unnest(ARRAY[1, 2, 3, 4], ARRAY[1, 2, 3, 4]) v (id, n) ON t.id = v.id WHEN MATCHED THEN UPDATE SET n = v.n \
             WHEN NOT MATCHED THEN INSERT (id, n) VALUES (v.id, v.n)",
            "MERGE 4",
        ),
        ("DELETE FROM t WHERE id IN (11, 12, 13, 14)", "DELETE 4"),
        ("UPDATE t SET n = 5 WHERE id IN (1, 2, 3, 4)", "UPDATE 4"),
        ("UPDATE t SET id = id + 100", "0A000"),
        ("UPDATE t SET id = 5 WHERE n = 6", "0A000"),
        (
            "UPDATE t SET id = id + 4 WHERE id IN (1, 2, 3, 4)",
            "UPDATE 4",
        ),
        ("UPDATE t SET id = 1 WHERE id = 5", "UPDATE 1"),
    ] {
        wire.query(sql);
        assert_eq!(outcome(&wire.read_to_ready()), wanted, "{sql}");
    }
}

#[test]
fn rows_that_move_or_are_gathered_are_warned_of_as_other_writes_are() {
    let world = World::start_with("scatter_writes = \"warn\"\nmissing_key = \"warn\"");
    let (mut wire, _) = Wire::login(world.ringway.port(), "ringway", "shop");
    let warned = |key: &str| format!("statement runs on several shards, which {key} warns of; ");
    let (write, key) = (warned("scatter_writes"), warned("missing_key"));
    let gathered = "UPDATE t SET n = other.n FROM t AS other WHERE other.id = t.n";
    for (sql, wanted) in [
        (
            "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3), (4, 4)",
            "INSERT 0 4".to_owned(),
        ),
        ("BEGIN", "BEGIN".to_owned()),
        (
            "UPDATE t SET id = id + 4 WHERE id IN (1, 2, 3, 4)",
            format!("{write}UPDATE 4"),
        ),
        ("UPDATE t SET id = id + 4", format!("{write}{key}UPDATE 4")),
        (gathered, format!("{write}{key}UPDATE 0")),
        (
            "UPDATE t SET id = id - 8 WHERE id = 9",
            "UPDATE 1".to_owned(),
        ),
        ("ROLLBACK", "ROLLBACK".to_owned()),
    ] {
        wire.query(sql);
        assert_eq!(outcome(&wire.read_to_ready()), wanted, "{sql}");
    }
    for sql in ["UPDATE t SET id = id + 4", gathered] {
        let mut messages = unnamed(sql);
        messages.extend(b"S\0\0\0\x04");
        wire.send_bytes(&messages);
        let found = outcome(&wire.read_to_ready());
        assert!(
            found.starts_with(&format!("{write}{key}UPDATE ")),
            "{sql}: {found}"
        );
    }
}

#[test]
fn copies_that_differ_are_found_when_they_are_written_to() {
    let world = World::start_with("");
    let (mut wire, _) = Wire::login(world.ringway.port(), "ringway", "shop");
    wire.query("INSERT INTO r VALUES (1, 'a'), (2, 'b')");
    assert_eq!(outcome(&wire.read_to_ready()), "INSERT 0 2");
    world.on_shard(1, "DELETE FROM r WHERE w = 'b'");
    wire.query("UPDATE r SET w = 'c'");
    assert_eq!(outcome(&wire.read_to_ready()), "XX001");
    assert_eq!(
        world.each("SELECT count(*) FROM r WHERE w <> 'c'"),
        ["2", "1"]
    );
}
