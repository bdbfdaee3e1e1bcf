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
