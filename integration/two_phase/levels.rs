//! REPEATABLE READ and SERIALIZABLE over several shards: what each shard promises, and a failure on
//! one of them.

use super::blocks::{keys, script};
use super::limits::{direct, updates};
use super::{PREPARED, World};
use crate::support::wire::Wire;

const RR: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";
const SERIALIZABLE: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE";

fn read(key: &str) -> String {
    format!("SELECT v FROM t WHERE k = {key}")
}

fn run(wire: &mut Wire, extended: bool, texts: &[&str]) {
    for text in texts {
        let answer = super::blocks::ask(wire, extended, text);
        assert!(
            answer.ends_with(" T") || answer.ends_with(" I"),
            "{text}: {answer}"
        );
    }
}

#[test]
fn each_shard_keeps_the_snapshot_of_its_first_statement() {
    let world = World::start(2, "");
    let proxy = world.ringway("proxy", "", "", "");
    world.fill(&proxy, "t");
    let [a, b] = &keys(&world)[..] else {
        panic!("two shards");
    };
    let set = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE";
    let begins: [&[&str]; 4] = [
        &[RR],
        &[SERIALIZABLE],
        &["BEGIN", set],
        &[
            "SET default_transaction_isolation = 'repeatable read'",
            "BEGIN",
        ],
    ];
    for extended in [false, true] {
        for begin in begins {
            world.on_all("UPDATE t SET v = 0");
            let mut wire = proxy.login();
            run(&mut wire, extended, begin);
            script(&mut wire, extended, &[(&read(a), "0 SELECT 1 T")]);
            world.on_all("UPDATE t SET v = 5");
            script(
                &mut wire,
                extended,
                &[
                    (&read(a), "0 SELECT 1 T"),
                    // It begins there only now.
                    (&read(b), "5 SELECT 1 T"),
                ],
            );
            world.on_all("UPDATE t SET v = 7");
            let own = "INSERT INTO t VALUES (101, 1), (102, 1), (103, 1), (104, 1)";
            script(
                &mut wire,
                extended,
                &[
                    (&read(a), "0 SELECT 1 T"),
                    (&read(b), "5 SELECT 1 T"),
                    ("SELECT min(v), max(v) FROM t", "0\u{1}5 SELECT 1 T"),
                    (own, "INSERT 0 4 T"),
                    ("SELECT count(*) FROM t WHERE v = 1", "4 SELECT 1 T"),
                    ("ROLLBACK", "ROLLBACK I"),
                    ("SELECT min(v), max(v) FROM t", "7\u{1}7 SELECT 1 I"),
                ],
            );
        }
    }
}

#[test]
fn a_row_that_changed_on_one_shard_fails_the_block_on_all() {
    let world = World::start(2, "");
    let proxy = world.ringway("proxy", "", "", "");
    world.fill(&proxy, "t");
    let (keys, updates) = (keys(&world), updates(&world));
    let mut wire = proxy.login();
    for extended in [false, true] {
        for begin in [RR, SERIALIZABLE] {
            for (fails, other) in [(0, 1), (1, 0)] {
                world.on_all("UPDATE t SET v = 0");
                script(
                    &mut wire,
                    extended,
                    &[
                        (begin, "BEGIN T"),
                        (&read(&keys[fails]), "0 SELECT 1 T"),
                        (&updates[other], "UPDATE 1 T"),
                    ],
                );
                world.on(fails, &updates[fails]);
                script(
                    &mut wire,
                    extended,
                    &[
                        (&updates[fails], "40001 E"),
                        (&updates[other], "25P02 E"),
                        ("COMMIT", "ROLLBACK I"),
                    ],
                );
                let wanted = [fails, other].map(|shard| world.on(shard, "SELECT max(v) FROM t"));
                assert_eq!(wanted, ["1", "0"], "{begin}");
                // A statement over all shards fails as a whole, too.
                script(
                    &mut wire,
                    extended,
                    &[(begin, "BEGIN T"), (&read(&keys[fails]), "1 SELECT 1 T")],
                );
                world.on(fails, &updates[fails]);
                script(
                    &mut wire,
                    extended,
                    &[(super::ALL, "40001 E"), ("ROLLBACK", "ROLLBACK I")],
                );
                let wanted = [fails, other].map(|shard| world.on(shard, "SELECT max(v) FROM t"));
                assert_eq!(wanted, ["2", "0"], "{begin}");
            }
        }
    }
    assert_eq!(world.each(PREPARED), ["0", "0"]);
}

/// Write skew on one shard, which is found when the block commits: on the shard that decides, on
/// another one, and on one that was only read.
#[test]
fn a_conflict_that_commit_finds_on_one_shard_keeps_nothing_on_the_other() {
    let world = World::start(2, "");
    let proxy = world.ringway("proxy", "", "", "");
    world.fill(&proxy, "t");
    let (least, updates) = (keys(&world), updates(&world));
    let most = world.each("SELECT max(k) FROM t");
    let mut wire = proxy.login();
    for extended in [false, true] {
        for (fails, other) in [(0, 1), (1, 0)] {
            world.on_all("UPDATE t SET v = 0");
            script(
                &mut wire,
                extended,
                &[
                    (SERIALIZABLE, "BEGIN T"),
                    (&updates[other], "UPDATE 1 T"),
                    (&read(&most[fails]), "0 SELECT 1 T"),
                    (&updates[fails], "UPDATE 1 T"),
                ],
            );
            let mut rival = direct(&world, fails);
            let theirs = format!("UPDATE t SET v = 7 WHERE k = {}", most[fails]);
            script(
                &mut rival,
                false,
                &[
                    (SERIALIZABLE, "BEGIN T"),
                    (&read(&least[fails]), "0 SELECT 1 T"),
                    (&theirs, "UPDATE 1 T"),
                    ("COMMIT", "COMMIT I"),
                ],
            );
            script(
                &mut wire,
                extended,
                &[("COMMIT", "40001 I"), ("SELECT 1", "1 SELECT 1 I")],
            );
            let sums = [fails, other].map(|shard| world.on(shard, "SELECT sum(v) FROM t"));
            assert_eq!(sums, ["7", "0"], "extended: {extended}");
        }
    }
    assert_eq!(world.each(PREPARED), ["0", "0"]);
}
