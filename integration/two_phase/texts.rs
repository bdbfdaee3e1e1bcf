//! Blocks that end and begin within one message: AND CHAIN, and texts of several statements. What each answers is
//! what one plain PostgreSQL answers, which is asked the same.

use super::blocks::{ask, decisions, keys};
use super::{PREPARED, World};
use crate::support::wire::Wire;

const MODES: [&str; 3] = [
    "SHOW transaction_isolation",
    "SHOW transaction_read_only",
    "SHOW transaction_deferrable",
];

/// Ringway over two shards, and a server with all rows.
struct Both {
    world: World,
    plain: World,
    a: String,
    b: String,
}

impl Both {
    fn start() -> (Self, super::Proxy) {
        let world = World::start(2, "");
        let plain = World::start(1, "");
        let proxy = world.ringway("proxy", "", "", "");
        world.fill(&proxy, "t");
        plain.on_all("INSERT INTO t SELECT k, 0 FROM generate_series(1, 64) AS k");
        let [a, b] = keys(&world).try_into().unwrap();
        (Self { world, plain, a, b }, proxy)
    }

    /// Connections to both.
    fn wires(&self, proxy: &super::Proxy) -> [Wire; 2] {
        let plain = &self.plain.cluster.shards[0].primary;
        let (plain, _) = Wire::login(plain.port, "ringway", &plain.database);
        [proxy.login(), plain]
    }

    fn filled(&self, sql: &str) -> String {
        sql.replace("$a", &self.a).replace("$b", &self.b)
    }

    /// Sends both the same texts, and holds the rows against each other afterwards.
    fn same(&self, wires: &mut [Wire; 2], extended: bool, texts: &[&str]) {
        for text in texts {
            let text = self.filled(text);
            let [got, wanted] = wires.each_mut().map(|wire| ask(wire, extended, &text));
            assert_eq!(got, wanted, "{text}, extended: {extended}, of {texts:?}");
        }
        let rows = "SELECT k || ' ' || v FROM t";
        let sorted = |world: &World| {
            let each = world.each(rows).join("\n");
            let mut rows: Vec<String> = each.lines().map(str::to_owned).collect();
            rows.sort_unstable();
            rows
        };
        assert_eq!(sorted(&self.world), sorted(&self.plain), "{texts:?}");
    }
}

#[test]
fn a_chained_block_is_on_every_shard_as_the_one_before() {
    let (both, proxy) = Both::start();
    let mut wires = both.wires(&proxy);
    let (a, b) = (
        "UPDATE t SET v = v + 1 WHERE k = $a",
        "UPDATE t SET v = v + 1 WHERE k = $b",
    );
    let show = |before: &[&'static str]| [before, &MODES].concat();
    for extended in [false, true] {
        let before = decisions(&both.world);
        both.same(
            &mut wires,
            extended,
            &[
                "BEGIN",
                a,
                b,
                "COMMIT AND CHAIN",
                b,
                a,
                "ROLLBACK AND CHAIN",
                b,
                "END AND CHAIN",
                "COMMIT",
            ],
        );
        assert_ne!(decisions(&both.world), before);
        // Modes, however they came to be, on shards that join later too.
        for begin in [
            "BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE, DEFERRABLE",
            "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "BEGIN TRANSACTION READ ONLY",
        ] {
            for end in ["COMMIT AND CHAIN", "ROLLBACK WORK AND CHAIN"] {
                let write = if begin.contains("ONLY") {
                    "SELECT 1"
                } else {
                    a
                };
                both.same(&mut wires, extended, &show(&[begin, end]));
                both.same(
                    &mut wires,
                    extended,
                    &show(&["ROLLBACK", begin, write, b, end]),
                );
                // Refused where it only reads.
                both.same(
                    &mut wires,
                    extended,
                    &show(&["ROLLBACK", begin, write, end]),
                );
                both.same(
                    &mut wires,
                    extended,
                    &["SELECT v FROM t WHERE k = $b", b, "SELECT 1/0", end],
                );
                both.same(&mut wires, extended, &show(&[]));
                both.same(&mut wires, extended, &["ROLLBACK"]);
            }
        }
        both.same(
            &mut wires,
            extended,
            &show(&[
                "BEGIN",
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                a,
                "SAVEPOINT s",
                b,
                "SET LOCAL work_mem = '7MB'",
                "COMMIT AND CHAIN",
                "SHOW work_mem",
                "ROLLBACK TO s",
                "SHOW work_mem",
                "ROLLBACK AND CHAIN",
            ]),
        );
        both.same(
            &mut wires,
            extended,
            &[
                "SET work_mem = '6MB'",
                a,
                "COMMIT AND CHAIN",
                b,
                "SHOW work_mem",
                "RESET work_mem",
                "ROLLBACK",
                "SHOW work_mem",
                "RESET work_mem",
            ],
        );
        // A block that fails in its savepoint.
        both.same(
            &mut wires,
            extended,
            &show(&[
                "BEGIN",
                a,
                "SET TRANSACTION READ ONLY",
                "SAVEPOINT s",
                b,
                "COMMIT AND CHAIN",
            ]),
        );
        both.same(
            &mut wires,
            extended,
            &[
                "ROLLBACK",
                "COMMIT AND CHAIN",
                "ROLLBACK AND CHAIN",
                "SELECT 1",
            ],
        );
        // Of a pipeline without a block none can follow.
        for texts in [
            &[a, b, "COMMIT AND CHAIN"][..],
            &[
                "BEGIN",
                a,
                b,
                "COMMIT AND CHAIN",
                b,
                a,
                "ROLLBACK AND CHAIN",
                a,
                "COMMIT",
            ],
            &["BEGIN", a, "COMMIT AND CHAIN", "SELECT 1/0"],
            &["ROLLBACK AND CHAIN", b, "COMMIT"],
        ] {
            let texts: Vec<String> = texts.iter().map(|text| both.filled(text)).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let [got, wanted] = wires.each_mut().map(|wire| wire.ask_extended(&texts));
            assert_eq!(got, wanted, "{texts:?}");
            both.same(&mut wires, extended, &[]);
        }
    }
    assert_eq!(both.world.each(PREPARED), ["0", "0"]);
}

#[test]
fn a_chain_does_not_follow_a_commit_that_failed() {
    let (both, proxy) = Both::start();
    for world in [&both.world, &both.plain] {
        world.on_all(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';
             CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW WHEN (NEW.v = 13) EXECUTE FUNCTION fail()",
        );
    }
    let mut wires = both.wires(&proxy);
    for extended in [false, true] {
        for failing in ["$a", "$b"] {
            let fails = format!("UPDATE t SET v = 13 WHERE k = {failing}");
            let texts = [
                "BEGIN",
                "UPDATE t SET v = 1 WHERE k = $b",
                &fails,
                "COMMIT AND CHAIN",
                "ROLLBACK",
            ];
            both.same(&mut wires, extended, &texts);
            both.same(
                &mut wires,
                extended,
                &["BEGIN", &fails, "COMMIT AND CHAIN", "ROLLBACK"],
            );
            // What is deferred may fail before the end, on any of them.
            let texts = [
                "BEGIN",
                &fails,
                "UPDATE t SET v = 1 WHERE k = $a",
                "UPDATE t SET v = 1 WHERE k = $b",
                "SET CONSTRAINTS ALL IMMEDIATE",
                "SELECT 1",
                "SELEC 1",
                "ROLLBACK",
                "SELECT 1",
            ];
            both.same(&mut wires, extended, &texts);
        }
    }
}

/// The end of a block amid a pipeline is the end of it for what follows there.
#[test]
fn a_second_block_of_a_pipeline_is_one_too() {
    let (both, proxy) = Both::start();
    let mut wires = both.wires(&proxy);
    let a = both.filled("UPDATE t SET v = v + 1 WHERE k = $a");
    let read = both.filled("SELECT v FROM t WHERE k = $b");
    for wire in &mut wires {
        wire.ask_extended(&[
            "BEGIN",
            &a,
            &read,
            "COMMIT",
            "BEGIN",
            &a,
            "SAVEPOINT s",
            "ROLLBACK",
        ]);
        assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 I");
    }
    both.same(&mut wires, true, &["SELECT v FROM t WHERE k = $a"]);
}

#[test]
fn a_text_over_shards_is_one_transaction() {
    let (both, proxy) = Both::start();
    for world in [&both.world, &both.plain] {
        world.on_all(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';
             CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW WHEN (NEW.v = 13) EXECUTE FUNCTION fail()",
        );
    }
    let mut wires = both.wires(&proxy);
    let before = decisions(&both.world);
    let texts = [
        // Without BEGIN, and with it.
        "$A; $B",
        "$A; SELECT sum(v) FROM t; $B; SELECT count(*) FROM t WHERE v > 0",
        "BEGIN; $A; $B; COMMIT",
        "BEGIN; $A; $B; COMMIT; SELECT sum(v) FROM t",
        "$A; BEGIN; $B; COMMIT",
        "UPDATE t SET v = v + 1; $A",
        "INSERT INTO t VALUES (101, 0), (102, 0), (103, 0), (104, 0); DELETE FROM t WHERE k > 100; $B",
        // What fails takes back all up to the last COMMIT.
        "$A; $B; SELECT 1/0; $A",
        "$A; $B; COMMIT; $B; $A; SELECT 1/(k - k) FROM t; $A",
        "BEGIN; $A; COMMIT; $B; BEGIN; $A; ROLLBACK; $B; SELECT 1/0",
        "$A; $B; ROLLBACK; $A; $B",
        "$A; INSERT INTO t VALUES (1, 1), (2, 2), (3, 3); $B",
        // Nothing runs of what cannot be read.
        "$A; $B; SELEC 1",
        "$A; $B; SELECT 'x",
        "BEGIN; $A; COMMIT; SELECT FROM FROM t",
        // Only at the end.
        "$A; UPDATE t SET v = 13 WHERE k = $b",
        "UPDATE t SET v = 13 WHERE k = $a; $B",
        "UPDATE t SET v = 13 WHERE k = $a; SELECT sum(v) FROM t",
        "$B; UPDATE t SET v = 13 WHERE k = $a; COMMIT; $A",
        "BEGIN; UPDATE t SET v = 13 WHERE k = $a; $B; COMMIT; $A",
        "$A; SAVEPOINT s; $B",
        "$A; $B; ROLLBACK TO s",
        "RELEASE s; $A; $B",
        "$A; $B; COMMIT AND CHAIN; $A",
        "$A; $B; SET CONSTRAINTS ALL IMMEDIATE; UPDATE t SET v = 13 WHERE k = $b",
        // Settings.
        "$A; SET LOCAL work_mem = '7MB'; $B; SELECT current_setting('work_mem') FROM t WHERE k = $b",
        "SHOW work_mem; SELECT sum(v) FROM t",
        "$A; SET work_mem = '7MB'; SELECT 1/(k - k) FROM t",
        "SHOW work_mem; SELECT sum(v) FROM t",
        "$A; SET work_mem = '7MB'; $B; SELECT sum(v) FROM t",
        "SHOW work_mem; SELECT current_setting('work_mem') FROM t WHERE k = $b; RESET work_mem",
        "SHOW work_mem",
        ";; $A ;; /* ; */ $B; -- ;",
    ];
    // Blocks that stay open.
    let blocks = [
        &["BEGIN; $A", "$B", "COMMIT"][..],
        &[
            "BEGIN ISOLATION LEVEL REPEATABLE READ; $A",
            "$B; SHOW transaction_isolation",
            "$A",
            "COMMIT; $B",
        ],
        &["$A; BEGIN", "$B", "ROLLBACK"],
        &[
            "$A; $B; BEGIN",
            "$B; $A",
            "$A; $B; COMMIT; BEGIN; $A",
            "$B; ROLLBACK",
        ],
        &[
            "BEGIN",
            "$A; $B",
            "$A; SELECT 1/0; $B",
            "$B",
            "$A; $B",
            "ROLLBACK; $A; $B",
        ],
        &["BEGIN; $A", "$B; SELEC 1", "$A", "COMMIT; $A; $B"],
        &[
            "BEGIN; $A; SAVEPOINT s; $B",
            "ROLLBACK TO s; $B; SELECT 1/0",
            "ROLLBACK TO s; $A; $B",
            "COMMIT",
        ],
        &["BEGIN; SELECT 1/0", "$B", "COMMIT; $B; $A"],
        &["BEGIN; $A; SELECT 1/0; COMMIT", "$B", "ROLLBACK"],
        &[
            "BEGIN",
            "SET LOCAL work_mem = '7MB'; $A",
            "$B; SELECT current_setting('work_mem') FROM t WHERE k = $b",
            "COMMIT",
            "SHOW work_mem",
        ],
        &[
            "BEGIN READ ONLY; SELECT sum(v) FROM t",
            "COMMIT AND CHAIN; SHOW transaction_read_only; $B",
            "ROLLBACK",
        ],
        &["BEGIN", "BEGIN; $A; BEGIN", "$B; COMMIT; COMMIT", "COMMIT"],
        &[
            "BEGIN; $A",
            "SELECT set_config('app.x', '1', false); $B",
            "COMMIT",
            "SELECT current_setting('app.x'), v FROM t WHERE k = $a",
        ],
    ];
    let filled = |text: &&str| {
        text.replace("$A", "UPDATE t SET v = v + 1 WHERE k = $a RETURNING v")
            .replace("$B", "UPDATE t SET v = v + 1 WHERE k = $b RETURNING v")
    };
    for block in texts.iter().map(std::slice::from_ref).chain(blocks) {
        let block: Vec<String> = block.iter().map(filled).collect();
        let block: Vec<&str> = block.iter().map(String::as_str).collect();
        both.same(&mut wires, false, &block);
    }
    assert_ne!(decisions(&both.world), before);
    assert_eq!(both.world.each(PREPARED), ["0", "0"]);
}

#[test]
fn what_is_refused_of_a_text_has_no_effect() {
    let (both, proxy) = Both::start();
    let [mut wire, _] = both.wires(&proxy);
    for refused in [
        "VACUUM t",
        "PREPARE p AS SELECT 1",
        "LISTEN c",
        "DISCARD ALL",
        "BEGIN READ ONLY",
        "SHOW ringway.route",
        "DO 'BEGIN END'",
        "SELECT * FROM t LIMIT 1 FOR UPDATE",
    ] {
        for text in [
            "$A; COMMIT; $B; REFUSED",
            "BEGIN; $A; COMMIT; $B; REFUSED; COMMIT; BEGIN",
        ] {
            let text = text
                .replace("$A", &both.filled("UPDATE t SET v = v + 1 WHERE k = $a"))
                .replace("$B", &both.filled("UPDATE t SET v = v + 1 WHERE k = $b"))
                .replace("REFUSED", refused);
            assert_eq!(wire.ask(&text), "0A000 I", "{text}");
        }
    }
    // The row that decides could not be written.
    for extended in [false, true] {
        for text in [
            "BEGIN",
            "UPDATE t SET v = 1 WHERE k = $a",
            "UPDATE t SET v = 1 WHERE k = $b",
        ] {
            ask(&mut wire, extended, &both.filled(text));
        }
        let answer = ask(&mut wire, extended, "SET TRANSACTION READ ONLY");
        assert_eq!(answer, "0A000 E");
        assert_eq!(ask(&mut wire, extended, "COMMIT"), "ROLLBACK I");
    }
    assert_eq!(both.world.each("SELECT sum(v) FROM t"), ["0", "0"]);
}

/// PREPARE TRANSACTION keeps what was set, ROLLBACK PREPARED does not take it back.
#[test]
fn settings_of_a_block_that_fails_at_its_end_are_gone() {
    let (both, proxy) = Both::start();
    for world in [&both.world, &both.plain] {
        world.on_all(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';
             CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW WHEN (NEW.v = 13) EXECUTE FUNCTION fail()",
        );
    }
    let mut wires = both.wires(&proxy);
    let set = "SET work_mem = '7MB'";
    let read = "SELECT current_setting('work_mem') || coalesce(current_setting('app.x', true), '') FROM t WHERE k = ";
    for extended in [false, true] {
        for (fails, other) in [("$a", "$b"), ("$b", "$a")] {
            let fails = format!("UPDATE t SET v = 13 WHERE k = {fails}");
            let other = format!("UPDATE t SET v = 1 WHERE k = {other}");
            let reads = ["$a", "$b"].map(|key| format!("{read}{key}"));
            let custom = "SELECT set_config('app.x', '1', false)";
            let custom = if extended { "SET app.x = '1'" } else { custom };
            for set in [set, custom] {
                let texts = ["BEGIN", &other, set, &fails, "COMMIT", &reads[0], &reads[1]];
                both.same(&mut wires, extended, &texts);
                // Nor does another client find them.
                let mut wires = both.wires(&proxy);
                both.same(&mut wires, extended, &[&reads[0], &reads[1]]);
            }
        }
    }
}

/// Each shard of a transaction hears of what is set in it, or it is refused.
#[test]
fn set_config_in_a_block_is_for_every_shard() {
    let (both, proxy) = Both::start();
    let mut wires = both.wires(&proxy);
    let show = ["$a", "$b"].map(|key| {
        format!("SELECT coalesce(current_setting('app.x', true), '') FROM t WHERE k = {key}")
    });
    let write = "UPDATE t SET v = 1 WHERE k = $b";
    for local in ["true", "false"] {
        let set = format!("SELECT set_config('app.x', '1', {local})");
        let texts = [
            "BEGIN", write, &set, &show[0], &show[1], "COMMIT", &show[0], &show[1],
        ];
        both.same(&mut wires, false, &texts);
        let [wire, _] = &mut wires;
        for refused in [
            "INSERT INTO t VALUES (1001, length(set_config('app.x', '2', false)))",
            "SELECT set_config('app.x', '2', true) FROM t WHERE k = $a",
        ] {
            assert_eq!(wire.ask("BEGIN"), "BEGIN T");
            assert_eq!(wire.ask(&both.filled(write)), "UPDATE 1 T");
            assert_eq!(wire.ask(&both.filled(refused)), "0A000 E", "{refused}");
            assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
        }
    }
}
