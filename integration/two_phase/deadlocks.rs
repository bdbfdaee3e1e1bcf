//! Deadlocks over shards with what is no row: locks of tables, and COPY.

use std::time::{Duration, Instant};

use super::blocks::script;
use super::limits::updates;
use super::{PREPARED, World, error};
use crate::support::wait_until;
use crate::support::wire::{Wire, digest, frame};

const LIMIT: Duration = Duration::from_millis(300);

struct Scene {
    world: World,
    proxy: super::Proxy,
    updates: Vec<String>,
}

impl Scene {
    fn start() -> Self {
        let world = World::start(2, "");
        let limit = format!("cross_shard_deadlock_timeout_ms = {}", LIMIT.as_millis());
        let proxy = world.ringway("proxy", "", &limit, "");
        world.fill(&proxy, "t");
        let updates = updates(&world);
        Self {
            world,
            proxy,
            updates,
        }
    }

    /// So many wait for a lock on `shard`.
    fn wait(&self, shard: usize, count: &str) {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        wait_until(Duration::from_secs(10), "a wait", || {
            self.world.on(shard, waits) == count
        });
    }

    /// A key of each shard that no row has.
    fn new_keys(&self) -> Vec<String> {
        let mut wire = self.proxy.login();
        let rows: Vec<String> = (201..=208).map(|k| format!("({k}, 0)")).collect();
        let tag = wire.ask(&format!("INSERT INTO t VALUES {}", rows.join(", ")));
        assert_eq!(tag, "INSERT 0 8 I");
        let new = self.world.each("SELECT min(k) FROM t WHERE k > 200");
        self.world.on_all("DELETE FROM t WHERE k > 200");
        new
    }

    /// Both have sent what waits for the other: one fails, and the other gets its answer. Answers which.
    fn one_ends(&self, wires: [&mut Wire; 2]) -> usize {
        let start = Instant::now();
        let said = wires.map(|wire| error(&wire.read_to_ready()));
        // Looked for each tenth of it, at least every 50 ms; and the machine may be slow.
        assert!(
            start.elapsed() < LIMIT + Duration::from_secs(15),
            "{said:?}"
        );
        let failed: Vec<_> = (0..2).filter(|at| said[*at].starts_with("40P01")).collect();
        assert_eq!(failed.len(), 1, "{said:?}");
        assert!(
            said[failed[0]].contains("due to a deadlock over shards"),
            "{said:?}"
        );
        assert!(said[1 - failed[0]].starts_with(": "), "{said:?}");
        assert_eq!(self.world.each(PREPARED), ["0", "0"]);
        failed[0]
    }
}

/// Opens a block and locks a row of `shard` there.
fn hold(scene: &Scene, shard: usize) -> Wire {
    let mut wire = scene.proxy.login();
    script(
        &mut wire,
        false,
        &[("BEGIN", "BEGIN T"), (&scene.updates[shard], "UPDATE 1 T")],
    );
    wire
}

/// COPY of rows with these keys.
fn copy(wire: &mut Wire, keys: &[String]) {
    wire.query("COPY t FROM STDIN");
    assert_eq!(wire.read().map(|frame| frame.tag), Some(b'G'));
    let rows: String = keys.iter().map(|key| format!("{key}\t0\n")).collect();
    wire.send_bytes(&frame(b'd', rows.as_bytes()));
    wire.send_bytes(&frame(b'c', &[]));
}

#[test]
fn an_alter_table_and_a_block() {
    let scene = Scene::start();
    let columns = "SELECT count(*) FROM pg_attribute
                   WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped";
    for within in [false, true] {
        // It has the first shard's table, and waits for the second one's.
        let mut block = hold(&scene, 1);
        let mut alter = scene.proxy.login();
        if within {
            assert_eq!(alter.ask("BEGIN"), "BEGIN T");
        }
        alter.query("ALTER TABLE t ADD w int");
        scene.wait(1, "1");
        block.query(&scene.updates[0]);
        let failed = scene.one_ends([&mut block, &mut alter]);
        let ended = ["ROLLBACK I", "COMMIT I"];
        assert_eq!(block.ask("COMMIT"), ended[usize::from(failed == 1)]);
        assert_eq!(
            alter.ask("COMMIT"),
            ended[usize::from(failed == 0 || !within)]
        );
        let count = if failed == 0 { "3" } else { "2" };
        assert_eq!(scene.world.each(columns), [count, count]);
        scene.world.on_all("ALTER TABLE t DROP IF EXISTS w");
    }
}

#[test]
fn a_copy_and_a_block() {
    let scene = Scene::start();
    let new = scene.new_keys();
    let insert = |shard: usize| format!("INSERT INTO t VALUES ({}, 1)", new[shard]);
    for within in [false, true] {
        for first in [0, 1] {
            let mut block = scene.proxy.login();
            script(
                &mut block,
                false,
                &[("BEGIN", "BEGIN T"), (&insert(first), "INSERT 0 1 T")],
            );
            let mut copies = scene.proxy.login();
            if within {
                assert_eq!(copies.ask("BEGIN"), "BEGIN T");
            }
            copy(&mut copies, &new);
            scene.wait(first, "1");
            block.query(&insert(1 - first));
            let failed = scene.one_ends([&mut block, &mut copies]);
            assert_eq!(
                block.ask("COMMIT"),
                ["ROLLBACK I", "COMMIT I"][failed],
                "within: {within}, first: {first}"
            );
            copies.ask("COMMIT");
            // All rows of the one, none of the other.
            let wanted = ["0", "1"][failed];
            let found = scene.world.each("SELECT max(v) FROM t WHERE k > 200");
            assert_eq!(found, [wanted, wanted], "within: {within}, first: {first}");
            scene.world.on_all("DELETE FROM t WHERE k > 200");
        }
    }
}

#[test]
fn two_copies() {
    let scene = Scene::start();
    let new = scene.new_keys();
    let mut wires = [scene.proxy.login(), scene.proxy.login()];
    for (wire, key) in wires.iter_mut().zip(&new) {
        assert_eq!(wire.ask("BEGIN"), "BEGIN T");
        copy(wire, std::slice::from_ref(key));
        assert_eq!(digest(&wire.read_to_ready()), "COPY 1 T");
    }
    for (wire, key) in wires.iter_mut().zip(new.iter().rev()) {
        copy(wire, std::slice::from_ref(key));
    }
    let [one, other] = &mut wires;
    let failed = scene.one_ends([one, other]);
    assert_eq!(wires[failed].ask("COMMIT"), "ROLLBACK I");
    assert_eq!(wires[1 - failed].ask("COMMIT"), "COMMIT I");
    let found = scene.world.each("SELECT count(*) FROM t WHERE k > 200");
    assert_eq!(found, ["1", "1"]);
}

#[test]
fn three_blocks_in_a_circle_of_which_one_is_on_one_shard() {
    let scene = Scene::start();
    let last = &scene.world.each("SELECT max(k) FROM t")[0];
    let other_row = format!("UPDATE t SET v = v + 1 WHERE k = {last}");
    let mut one = hold(&scene, 0);
    let mut two = hold(&scene, 1);
    let mut three = scene.proxy.login();
    script(
        &mut three,
        false,
        &[("BEGIN", "BEGIN T"), (&other_row, "UPDATE 1 T")],
    );
    three.query(&scene.updates[0]);
    scene.wait(0, "1");
    two.query(&other_row);
    scene.wait(0, "2");
    one.query(&scene.updates[1]);
    // The youngest.
    let said = error(&one.read_to_ready());
    assert!(
        said.starts_with("40P01: canceling statement due to a deadlock over shards"),
        "{said}"
    );
    assert_eq!(one.ask("COMMIT"), "ROLLBACK I");
    assert_eq!(digest(&three.read_to_ready()), "UPDATE 1 T");
    assert_eq!(three.ask("COMMIT"), "COMMIT I");
    assert_eq!(digest(&two.read_to_ready()), "UPDATE 1 T");
    assert_eq!(two.ask("COMMIT"), "COMMIT I");
}

#[test]
fn a_wait_for_a_client_at_rest_is_none_however_long() {
    let scene = Scene::start();
    let (mut one, mut other) = (hold(&scene, 0), hold(&scene, 1));
    other.query(&scene.updates[0]);
    scene.wait(0, "1");
    std::thread::sleep(LIMIT * 4);
    scene.wait(0, "1");
    assert_eq!(one.ask("COMMIT"), "COMMIT I");
    assert_eq!(digest(&other.read_to_ready()), "UPDATE 1 T");
    assert_eq!(other.ask("COMMIT"), "COMMIT I");
}
