//! When a setting counts and where: at Execute, on every shard of its transaction, whatever came
//! between Bind and Execute; and that Ringway's own questions are not subject to it.

use crate::isolation::{assert_same, narrow};
use crate::support::wire::{Wire, bind, execute, frame, parse, unnamed};
use crate::transactions::Two;

const MEM_A: &str = "SELECT current_setting('work_mem') FROM $t WHERE k = $a";
const MEM_B: &str = "SELECT current_setting('work_mem') FROM $t WHERE k = $b";

#[test]
fn a_set_counts_when_it_is_executed() {
    let two = Two::start("set_executed", "");
    let mut wire = two.login();
    for set in ["SET work_mem = '77MB'", "SET LOCAL work_mem = '77MB'"] {
        wire.ask("BEGIN");
        assert_eq!(two.ask(&mut wire, MEM_A), "4MB SELECT 1 T");
        let bound = [parse("", set), bind("p", "", &[])];
        assert_eq!(wire.ask_pipeline(&bound), "T");
        assert_eq!(two.ask(&mut wire, MEM_B), "4MB SELECT 1 T", "{set}");
        assert_eq!(wire.ask_pipeline(&bound[..1]), "T");
        assert_eq!(wire.ask_pipeline(&[execute("p", 0)]), "SET T");
        for mem in [MEM_A, MEM_B] {
            assert_eq!(two.ask(&mut wire, mem), "77MB SELECT 1 T", "{set}");
        }
        assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
    }
    // A shard that joins later hears of what succeeded alone.
    wire.ask("BEGIN");
    two.ask(&mut wire, MEM_A);
    assert_eq!(wire.ask_extended(&["SAVEPOINT s"]), "SAVEPOINT T");
    assert_eq!(wire.ask_extended(&["SET work_mem = 'much'"]), "22023 E");
    assert_eq!(
        wire.ask_extended(&["ROLLBACK TO s", "SET work_mem = '5MB'"]),
        "ROLLBACK SET T"
    );
    assert_eq!(two.ask(&mut wire, MEM_B), "5MB SELECT 1 T");
    assert_eq!(wire.ask("COMMIT"), "COMMIT I");
    for mem in [MEM_A, MEM_B] {
        assert_eq!(two.ask(&mut wire, mem), "5MB SELECT 1 I");
    }
}

#[test]
fn execute_sets_on_every_shard_or_is_refused() {
    let two = Two::start("execute_sets", "");
    let mut wire = two.login();
    wire.ask("PREPARE s AS SELECT set_config('work_mem', '77MB', false)");
    for extended in [false, true] {
        let mut ask = |sql: &str| match extended {
            false => two.ask(&mut wire, sql),
            true => two.ask_extended(&mut wire, &[sql]),
        };
        assert_eq!(ask("BEGIN"), "BEGIN T");
        ask(MEM_A);
        ask(MEM_B);
        assert_eq!(ask("EXECUTE s"), "0A000 E");
        assert_eq!(ask("ROLLBACK"), "ROLLBACK I");
        assert_eq!(ask("EXECUTE s"), "77MB SELECT 1 I");
        assert_eq!(ask(MEM_A), "77MB SELECT 1 I");
        assert_eq!(ask(MEM_B), "77MB SELECT 1 I");
        assert_eq!(ask("RESET work_mem"), "RESET I");
    }
}

#[test]
fn describing_an_execute_changes_nothing() {
    let ringway = narrow("");
    let (mut own, mut next) = (login(&ringway), login(&ringway));
    own.ask("PREPARE s AS SELECT set_config(lower('App.Who'), 'me', false)");
    let described = [parse("d", "EXECUTE s"), frame(b'D', b"Sd\0")];
    own.ask_pipeline(&described);
    // It leaves its connection as ever: nothing unknown was set.
    own.ask("SELECT set_config('work_mem', '5MB', false)");
    assert_eq!(next.ask("SELECT 1"), "1 SELECT 1 I");
    // Nor does it end what was begun before.
    assert_same("after a write", |wire| {
        wire.ask("CREATE TEMP TABLE t (v int)");
        wire.ask("PREPARE r AS SELECT count(*) FROM t");
        let messages = [
            unnamed("INSERT INTO t VALUES (1)"),
            parse("d", "EXECUTE r"),
            frame(b'D', b"Sd\0"),
            unnamed("EXECUTE r"),
            unnamed("SELECT 1/0"),
        ];
        vec![
            wire.ask_pipeline(&messages),
            wire.ask("SELECT count(*) FROM t"),
            wire.ask("DROP TABLE t"),
        ]
    });
}

#[test]
fn what_begins_amid_a_pipeline_takes_in_what_came_before() {
    let begin = || [parse("b", "BEGIN"), bind("b", "b", &[])].concat();
    let end = |verb: &str| [parse("e", verb), bind("e", "e", &[])].concat();
    assert_same("BEGIN bound before a write", |wire| {
        wire.ask("CREATE TABLE IF NOT EXISTS begun (v int)");
        let write = unnamed("INSERT INTO begun VALUES (1)");
        let open = [parse("o", "SELECT 'open'"), bind("o", "o", &[])].concat();
        let messages = [begin(), open, write, execute("b", 0), execute("o", 0)];
        vec![
            wire.ask_pipeline(&messages),
            wire.ask("SELECT count(*) FROM begun"),
            wire.ask("ROLLBACK"),
            wire.ask("SELECT count(*) FROM begun"),
            // Twice is once.
            wire.ask_pipeline(&[
                begin().split_off(parse("b", "BEGIN").len()),
                execute("b", 0),
                unnamed("BEGIN"),
            ]),
            wire.ask("INSERT INTO begun VALUES (1)"),
            wire.ask("ROLLBACK"),
            wire.ask("SELECT count(*) FROM begun"),
        ]
    });
    for verb in ["ROLLBACK", "COMMIT"] {
        assert_same(verb, |wire| {
            wire.ask("CREATE TABLE IF NOT EXISTS ended (v int)");
            wire.ask("TRUNCATE ended");
            let write = |v: i32| unnamed(&format!("INSERT INTO ended VALUES ({v})"));
            let messages = [
                end(verb),
                write(1),
                execute("e", 0),
                write(2),
                unnamed("SELECT 1/0"),
            ];
            vec![
                wire.ask_pipeline(&messages),
                wire.ask("SELECT sum(v) FROM ended"),
            ]
        });
    }
    assert_same("SET bound before BEGIN", |wire| {
        let set = [
            parse("s", "SET LOCAL work_mem = '77MB'"),
            bind("s", "s", &[]),
        ]
        .concat();
        let messages = [set, begin(), execute("b", 0), execute("s", 0)];
        vec![
            wire.ask_pipeline(&messages),
            wire.ask("SHOW work_mem"),
            wire.ask("COMMIT"),
            wire.ask("SHOW work_mem"),
        ]
    });
    assert_same("SET bound before COMMIT", |wire| {
        wire.ask("BEGIN");
        let set = [parse("s", "SET work_mem = '77MB'"), bind("s", "s", &[])].concat();
        let messages = [set, unnamed("COMMIT"), execute("s", 0)];
        vec![wire.ask_pipeline(&messages), wire.ask("SHOW work_mem")]
    });
    assert_same("isolation after a query", |wire| {
        let begin = "BEGIN ISOLATION LEVEL SERIALIZABLE";
        vec![
            wire.ask_extended(&["SELECT 1", begin, "SELECT 2"]),
            wire.ask("SELECT 3"),
            wire.ask("ROLLBACK"),
        ]
    });
}

#[test]
fn a_block_begun_amid_a_pipeline_holds_on_every_shard() {
    let two = Two::start("begun_amid", "");
    let mut wire = two.login();
    let update_b = "UPDATE $t SET v = 9 WHERE k = $b";
    let answer = two.ask_extended(&mut wire, &[MEM_A, "BEGIN", update_b]);
    assert_eq!(answer, "4MB SELECT 1 BEGIN UPDATE 1 T");
    assert_eq!(two.ask(&mut wire, MEM_A), "4MB SELECT 1 T");
    assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
    let read = "SELECT v FROM $t WHERE k = $b";
    assert_eq!(two.ask(&mut wire, read), "0 SELECT 1 I");
}

fn login(ringway: &crate::support::Ringway) -> Wire {
    crate::isolation::login(ringway.port())
}
