//! Tables that Ringway does not know yet: what is created behind its back is found when a statement
//! names it, and what is not there is told as PostgreSQL does.

use crate::sharded_copy::World;

#[test]
fn a_table_made_elsewhere_is_found_when_it_is_named() {
    let world = World::start_with("");
    let mut wire = world.through();
    for (at, extended) in [(0, false), (1, true), (2, false), (3, true)] {
        let name = format!("made{at}");
        let sql =
            format!("CREATE TABLE {name} (v text); INSERT INTO {name} VALUES ('row of {name}')");
        // On the shard that a session does not ask first.
        world.on_shard(1, &sql);
        let mut ask = |sql: &str| match extended {
            true => wire.ask_extended(&[sql]),
            false => wire.ask(sql),
        };
        let told = match at {
            0 | 1 => ask(&format!("SELECT v FROM {name}")),
            _ => ask(&format!(
                "SELECT v FROM {name}, (SELECT count(*) FROM t) AS n"
            )),
        };
        assert!(told.contains(&format!("row of {name}")), "{told}");
    }
    // On several shards, and declared nowhere.
    for (at, extended) in [(0, false), (1, true)] {
        let name = format!("both{at}");
        world.each(&format!("CREATE TABLE {name} (v text)"));
        let told = match extended {
            true => wire.ask_extended(&[&format!("SELECT v FROM {name}")]),
            false => wire.ask(&format!("SELECT v FROM {name}")),
        };
        assert!(told.contains("0A000"), "{told}");
    }
}

#[test]
fn what_is_not_there_is_told_as_postgresql_does() {
    let world = World::start_with("");
    let mut wire = world.through();
    for sql in [
        "SELECT * FROM nowhere",
        "SELECT * FROM t, nowhere WHERE t.id = 1",
        "SELECT count(*) FROM t WHERE id IN (SELECT id FROM nowhere)",
        "SELECT * FROM nowhere.nowhere",
        "INSERT INTO t SELECT id, 1, 'x' FROM nowhere",
    ] {
        assert_eq!(wire.ask(sql), "42P01 I", "{sql}");
        assert_eq!(wire.ask_extended(&[sql]), "42P01 I", "{sql}");
    }
    // A schema of Ringway's own is no part of the catalog; each shard has its own rows of it.
    world.each("CREATE TABLE ringway.probe (outcome text)");
    world.on_shard(1, "INSERT INTO ringway.probe VALUES ('commit')");
    let sql = "SELECT outcome FROM ringway.probe";
    let hinted = format!("/* ringway: shard=s1 */ {sql}");
    for (sql, wanted) in [(sql, "0A000"), (&*hinted, "commit")] {
        let told = wire.ask(sql);
        assert!(told.contains(wanted), "{told}");
        let told = wire.ask_extended(&[sql]);
        assert!(told.contains(wanted), "{told}");
    }
    for sql in [
        "SELECT count(*) > 0 FROM pg_class",
        "SELECT count(*) > 0 FROM information_schema.tables",
        "WITH nowhere AS (SELECT 1 AS n) SELECT n FROM nowhere",
        "SELECT n FROM generate_series(1, 2) AS nowhere(n)",
    ] {
        let told = wire.ask(sql);
        assert!(
            told.starts_with('T') || told.contains("SELECT"),
            "{sql}: {told}"
        );
    }
    // What its own transaction made is not told of before the end.
    wire.ask("BEGIN");
    wire.ask("CREATE TABLE fresh (id bigint)");
    assert!(wire.ask("SELECT * FROM fresh").contains("0A000"));
    wire.ask("ROLLBACK");
}
