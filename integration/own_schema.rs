//! Transactions that change the schema and go on with what they have made, beside one plain PostgreSQL.

use std::time::Duration;

use crate::sharded_copy::World;
use crate::support;
use crate::support::wire::{Wire, bind, cancel_request, digest, execute, frame, parse};

/// One after the other on both, until they differ; answers what Ringway said.
fn alike(both: &mut [Wire; 2], statements: &[&str], extended: bool) -> Vec<String> {
    let mut said = Vec::new();
    for sql in statements {
        let [plain, through] = both.each_mut().map(|wire| match extended {
            true => wire.ask_extended(&[sql]),
            false => wire.ask(sql),
        });
        assert_eq!(through, plain, "{sql}");
        said.push(through);
    }
    said
}

/// What the shards hold together, and that a statement by key finds each row.
fn assert_found(world: &World, table: &str, ids: std::ops::RangeInclusive<u32>) {
    let count: u32 = world
        .each(&format!("SELECT count(*) FROM {table}"))
        .iter()
        .map(|count| count.parse::<u32>().unwrap())
        .sum();
    assert_eq!(count as usize, ids.clone().count());
    let mut wire = world.through();
    for id in ids {
        let found = wire.ask(&format!("SELECT id FROM {table} WHERE id = {id}"));
        assert_eq!(found, format!("{id} SELECT 1 I"));
    }
}

#[test]
fn a_migration_fills_the_tables_that_it_makes() {
    let world = World::start_with("");
    world.each("DROP TABLE g, r");
    for extended in [false, true] {
        let mut both = world.both();
        let said = alike(
            &mut both,
            &[
                "DROP TABLE IF EXISTS g, r",
                "BEGIN",
                "CREATE TABLE g (id bigint PRIMARY KEY, name text)",
                "CREATE TABLE r (id bigint PRIMARY KEY, w text)",
                "INSERT INTO g VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e'), (6, 'f')",
                "INSERT INTO r VALUES (1, 'x')",
                "ALTER TABLE g ADD COLUMN n integer DEFAULT 7",
                "UPDATE g SET n = id WHERE id > 3",
                "SELECT id, name, n FROM g ORDER BY id",
                "SELECT sum(n) FROM g JOIN r ON r.id = g.id",
                "SAVEPOINT s",
                "ALTER TABLE g RENAME COLUMN n TO m",
                "SELECT sum(m) FROM g",
                "ROLLBACK TO s",
                "SELECT sum(n) FROM g",
                "COMMIT",
                "SELECT count(*) FROM g",
            ],
            extended,
        );
        assert_eq!(said.last().unwrap(), "6 SELECT 1 I");
        assert_found(&world, "g", 1..=6);
        assert_eq!(world.each("SELECT w FROM r"), ["x", "x"]);
    }
}

#[test]
fn rows_go_by_the_columns_that_the_transaction_has_made() {
    let world = World::start_with("");
    let values: Vec<String> = (1..=20).map(|id| format!("(500, {id}, 'w')")).collect();
    let insert = format!("INSERT INTO t VALUES {}", values.join(", "));
    let [mut plain, mut through] = world.both();
    let prepared = [
        parse("before", "INSERT INTO t VALUES ($1, $2, $3)"),
        frame(b'S', b""),
    ];
    for wire in [&mut plain, &mut through] {
        wire.send_bytes(&prepared.concat());
        wire.read_to_ready();
    }
    let mut both = [plain, through];
    alike(
        &mut both,
        &[
            "BEGIN",
            "DROP TABLE t",
            "CREATE TABLE t (n bigint, id bigint PRIMARY KEY, w text)",
            &insert,
        ],
        false,
    );
    let before = [bind("", "before", &["600", "21", "w"]), execute("", 0)];
    let [plain, through] = both.each_mut().map(|wire| wire.ask_pipeline(&before));
    assert_eq!(through, plain);
    assert_eq!(through, "INSERT 0 1 T");
    alike(&mut both, &["COMMIT"], false);
    assert_found(&world, "t", 1..=21);

    // In one text, and undone.
    let text = format!("DROP TABLE t; CREATE TABLE t (id bigint, n bigint, w text); {insert}");
    alike(&mut both, &["BEGIN", &text], false);
    let count = "SELECT count(*) FROM t WHERE id = 500";
    let said = alike(&mut both, &[count, "ROLLBACK", count], false);
    assert_eq!(said, ["20 SELECT 1 T", "ROLLBACK I", "0 SELECT 1 I"]);
    alike(&mut both, &[&text], false);
    let said = alike(&mut both, &[count], false);
    assert_eq!(said, ["20 SELECT 1 I"]);
}

#[test]
fn what_a_table_is_may_be_said_in_its_transaction() {
    let world = World::start_with("");
    let [_, mut wire] = world.both();
    for sql in ["BEGIN", "CREATE TABLE made (id bigint PRIMARY KEY)"] {
        wire.ask(sql);
    }
    assert_eq!(wire.ask("SAVEPOINT s"), "SAVEPOINT T");
    assert_eq!(wire.ask("INSERT INTO made VALUES (1)"), "0A000 E");
    assert_eq!(wire.ask("ROLLBACK TO s"), "ROLLBACK T");
    let comment = "COMMENT ON TABLE made IS 'ringway: key=id'";
    assert_eq!(wire.ask(comment), "COMMENT T");
    let insert = "INSERT INTO made VALUES (1), (2), (3), (4), (5)";
    assert_eq!(wire.ask(insert), "INSERT 0 5 T");
    // What nobody else sees is known to nobody else.
    let mut other = world.through();
    assert_eq!(other.ask("SELECT * FROM made"), "42P01 I");
    assert_eq!(wire.ask("COMMIT"), "COMMIT I");
    assert_found(&world, "made", 1..=5);
}

#[test]
fn what_others_change_meanwhile_is_read_as_well() {
    let world = World::start_with("");
    let mut wire = world.through();
    let mut other = world.through();
    wire.ask("BEGIN");
    assert_eq!(wire.ask("CREATE TABLE made (id bigint)"), "CREATE TABLE T");
    // By what is read here.
    assert_eq!(wire.ask("SELECT count(*) FROM g"), "0 SELECT 1 T");
    other.ask("DROP TABLE t");
    let changed = other.ask("CREATE TABLE t (n bigint, w text, id bigint)");
    assert_eq!(changed, "CREATE TABLE I");
    let rows: Vec<String> = (1..=20).map(|id| format!("(500, 'x', {id})")).collect();
    let insert = format!("INSERT INTO t VALUES {}", rows.join(", "));
    assert_eq!(wire.ask(&insert), "INSERT 0 20 T");
    assert_eq!(wire.ask("COMMIT"), "COMMIT I");
    assert_found(&world, "t", 1..=20);
}

#[test]
fn a_transaction_of_several_shards_is_not_prepared_on_one() {
    let world = World::start_with("");
    let prepare = "PREPARE TRANSACTION 'mine'";
    for change in ["ALTER TABLE t ADD COLUMN z int", "UPDATE r SET w = 'x'"] {
        let mut wire = world.through();
        for extended in [false, true] {
            wire.ask("BEGIN");
            assert!(wire.ask(change).ends_with(" T"), "{change}");
            let said = match extended {
                true => wire.ask_extended(&[prepare]),
                false => wire.ask(prepare),
            };
            assert_eq!(said, "0A000 E", "{change}");
            assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
        }
    }
    let prepared = "SELECT count(*) FROM pg_prepared_xacts";
    assert_eq!(world.each(prepared), ["0", "0"]);
}

#[test]
fn a_snapshot_that_is_older_than_others_changes_tells_no_columns() {
    let world = World::start_with("");
    let mut wire = world.through();
    let mut other = world.through();
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
    assert_eq!(wire.ask(begin), "BEGIN T");
    assert_eq!(wire.ask("SELECT count(*) FROM t"), "0 SELECT 1 T");
    assert_eq!(wire.ask("CREATE TABLE made (id bigint)"), "CREATE TABLE T");
    assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");

    assert_eq!(wire.ask(begin), "BEGIN T");
    assert_eq!(wire.ask("SELECT count(*) FROM g"), "0 SELECT 1 T");
    other.ask("DROP TABLE t");
    let changed = other.ask("CREATE TABLE t (n bigint, w text, id bigint)");
    assert_eq!(changed, "CREATE TABLE I");
    assert_eq!(wire.ask("CREATE TABLE made (id bigint)"), "CREATE TABLE T");
    let insert = "INSERT INTO t VALUES (500, 'x', 1), (500, 'x', 2)";
    assert_eq!(wire.ask(insert), "0A000 E");
    assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
    assert_eq!(wire.ask(insert), "INSERT 0 2 I");
    assert_found(&world, "t", 1..=2);
}

#[test]
fn the_key_of_a_table_that_was_filled_here_keeps_its_type() {
    let world = World::start_with("");
    let mut wire = world.through();
    for (sql, told) in [
        ("BEGIN", "BEGIN T"),
        ("CREATE TABLE made (id bigint, w text)", "CREATE TABLE T"),
        ("COMMENT ON TABLE made IS 'ringway: key=id'", "COMMENT T"),
        ("INSERT INTO made VALUES (1), (2), (3)", "INSERT 0 3 T"),
        ("CREATE INDEX ON made (w)", "CREATE INDEX T"),
        ("ALTER TABLE made ALTER COLUMN id TYPE text", "0A000 E"),
        ("ROLLBACK", "ROLLBACK I"),
    ] {
        assert_eq!(wire.ask(sql), told, "{sql}");
    }
}

#[test]
fn what_an_undone_schema_was_prepared_by_is_forgotten() {
    let world = World::start_with("");
    let text = "SELECT * FROM t WHERE id = $1";
    for sql in ["PREPARE q AS SELECT * FROM t WHERE id = $1", ""] {
        let mut wire = world.through();
        let mut other = world.through();
        wire.ask("TRUNCATE t");
        let rows: Vec<String> = (1..=8).map(|id| format!("({id}, 7, 'w')")).collect();
        let filled = wire.ask(&format!("INSERT INTO t VALUES {}", rows.join(", ")));
        assert_eq!(filled, "INSERT 0 8 I");
        // Each says what it thinks of the text on some shard, and no more.
        for wire in [&mut wire, &mut other] {
            match sql {
                "" => wire.ask_pipeline(&[parse("q", text)]),
                sql => wire.ask(sql),
            };
        }
        let run = |wire: &mut Wire, id: u32| match sql {
            "" => wire.ask_pipeline(&[bind("", "q", &[&id.to_string()]), execute("", 0)]),
            _ => wire.ask(&format!("EXECUTE q({id})")),
        };
        wire.ask("BEGIN");
        for sql in [
            "DROP TABLE t",
            "CREATE TABLE t (n bigint, id bigint PRIMARY KEY)",
        ] {
            assert!(wire.ask(sql).ends_with(" T"), "{sql}");
        }
        for id in 1..=8 {
            // On some shard it was prepared by the columns of before.
            wire.ask("SAVEPOINT s");
            run(&mut wire, id);
            wire.ask("ROLLBACK TO s");
        }
        assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
        for id in 1..=8 {
            let row = format!("{id}\u{1}7\u{1}w SELECT 1 I");
            assert_eq!(run(&mut wire, id), row);
            assert_eq!(run(&mut other, id), row);
        }
    }
}

#[test]
fn what_could_not_be_read_is_read_for_the_next_statement() {
    let world = World::start_with("");
    let (mut wire, greeting) = Wire::login(world.ringway.port(), "ringway", "shop");
    assert_eq!(
        wire.ask("CREATE VIEW v AS SELECT 1 AS one"),
        "CREATE VIEW I"
    );
    let mut locker = Wire::login(world.shards.shards[0].primary.port, "ringway", "shop").0;
    for (sql, told) in [
        ("BEGIN", "BEGIN T"),
        (
            "CREATE TABLE made (id bigint PRIMARY KEY)",
            "CREATE TABLE T",
        ),
        ("COMMENT ON TABLE made IS 'ringway: key=id'", "COMMENT T"),
    ] {
        assert_eq!(wire.ask(sql), told, "{sql}");
    }
    locker.ask("BEGIN");
    let locked = locker.ask("ALTER VIEW v RENAME TO w");
    assert_eq!(locked, "ALTER VIEW T");
    wire.query("SELECT 1");
    support::wait_until(Duration::from_secs(20), "a wait for the view", || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        world.each(waits)[0] == "1"
    });
    let cancel = cancel_request(&greeting);
    Wire::connect(world.ringway.port()).send_untagged(&cancel);
    // It needs no table.
    assert_eq!(digest(&wire.read_to_ready()), "1 SELECT 1 T");
    assert_eq!(locker.ask("ROLLBACK"), "ROLLBACK I");
    let insert = "INSERT INTO made VALUES (1), (2), (3), (4), (5)";
    assert_eq!(wire.ask(insert), "INSERT 0 5 T");
    assert_eq!(wire.ask("COMMIT"), "COMMIT I");
    assert_found(&world, "made", 1..=5);
}

#[test]
fn what_was_undone_is_known_no_more_when_a_transaction_follows_at_once() {
    const REST: [&str; 4] = [
        "DROP TABLE t",
        "CREATE TABLE t (n bigint, id bigint PRIMARY KEY)",
        "INSERT INTO t VALUES (7, 1), (7, 2), (7, 3)",
        "ROLLBACK",
    ];
    const ROWS: &str = "INSERT INTO t VALUES (1, 7, 'w'), (2, 7, 'w'), (3, 7, 'w'), (4, 7, 'w')";
    let world = World::start_with("");
    for extended in [false, true] {
        let mut both = world.both();
        let chain: Vec<&str> = ["TRUNCATE t", "BEGIN"]
            .into_iter()
            .chain(REST[..3].iter().copied())
            .chain(["ROLLBACK AND CHAIN", ROWS, "COMMIT"])
            .collect();
        alike(&mut both, &chain, extended);
        assert_found(&world, "t", 1..=4);
        let made = [
            "TRUNCATE t",
            "BEGIN",
            "CREATE TABLE IF NOT EXISTS made (n bigint, id bigint PRIMARY KEY)",
            "COMMENT ON TABLE made IS 'ringway: key=id'",
            "COMMIT AND CHAIN",
            "INSERT INTO made VALUES (7, 1), (7, 2), (7, 3), (7, 4)",
            "COMMIT",
        ];
        alike(&mut both, &made, extended);
        assert_found(&world, "made", 1..=4);
        alike(&mut both, &["TRUNCATE made"], extended);
    }
    let mut both = world.both();
    let [plain, through] = both.each_mut().map(|wire| {
        let texts = ["BEGIN"].into_iter().chain(REST).chain([ROWS]);
        let texts: Vec<&str> = texts.collect();
        wire.ask_extended(&texts)
    });
    assert_eq!(through, plain);
    assert_found(&world, "t", 1..=4);
}
