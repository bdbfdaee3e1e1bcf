//! What belongs to a session or a connection, amid a transaction over several shards: it is right, or
//! refused, and the rest of the transaction is committed on all shards or on none.

use super::blocks::{ask, keys, script};
use super::limits::updates;
use super::{PREPARED, Proxy, World};
use crate::support::wire::{Frame, Wire};

struct Scene {
    world: World,
    proxy: Proxy,
    keys: Vec<String>,
    updates: Vec<String>,
}

impl Scene {
    fn start() -> Self {
        let world = World::start(3, "");
        let proxy = world.ringway("proxy", "", "", "");
        world.fill(&proxy, "t");
        let (keys, updates) = (keys(&world), updates(&world));
        Self {
            world,
            proxy,
            keys,
            updates,
        }
    }

    /// A client amid a transaction that has written on these shards.
    fn begin(&self, extended: bool, wrote: [usize; 2]) -> Wire {
        self.world.on_all("UPDATE t SET v = 0");
        let mut wire = self.proxy.login();
        let [one, other] = wrote.map(|shard| self.updates[shard].as_str());
        let steps = [
            ("BEGIN", "BEGIN T"),
            (one, "UPDATE 1 T"),
            (other, "UPDATE 1 T"),
        ];
        script(&mut wire, extended, &steps);
        wire
    }

    /// All of the transaction is there, or none of it.
    fn check(&self, wrote: [usize; 2], committed: bool, what: &str) {
        let sums = self.world.each("SELECT sum(v) FROM t");
        for (shard, sum) in sums.iter().enumerate() {
            let wanted = committed && wrote.contains(&shard);
            assert_eq!(sum, if wanted { "1" } else { "0" }, "{what}: {sums:?}");
        }
        assert_eq!(self.world.each(PREPARED), ["0", "0", "0"], "{what}");
    }

    /// Texts and their answers, in blocks that wrote on these shards.
    fn run(&self, wrote: [usize; 2], steps: &[(&str, &str)], committed: bool) {
        for extended in [false, true] {
            let mut wire = self.begin(extended, wrote);
            for (text, answer) in steps {
                let mut text = (*text).to_owned();
                for (shard, key) in self.keys.iter().enumerate() {
                    text = text.replace(&format!("${shard}"), key);
                }
                let got = ask(&mut wire, extended, &text);
                assert_eq!(got, *answer, "{text} of {steps:?}, extended: {extended}");
            }
            assert_eq!(wire.ask("SELECT count(*) FROM t"), "64 SELECT 1 I");
            self.check(wrote, committed, steps[0].0);
        }
    }
}

const WROTE: [[usize; 2]; 2] = [[0, 1], [1, 2]];

#[test]
fn what_is_temporary_is_refused_before_it_is_made() {
    let scene = Scene::start();
    for refused in [
        "CREATE TEMP TABLE x (i int)",
        "CREATE TEMP TABLE x ON COMMIT DROP AS SELECT 1",
        "SELECT 1 AS i INTO TEMP x",
        "CREATE SEQUENCE pg_temp.q",
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ] {
        scene.run(
            WROTE[0],
            &[(refused, "0A000 E"), ("COMMIT", "ROLLBACK I")],
            false,
        );
        let made = "SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()";
        assert_eq!(scene.world.each(made), ["0", "0", "0"]);
    }
}

#[test]
fn cursors_are_found_on_their_shards() {
    let scene = Scene::start();
    let declare = [0, 1, 2].map(|shard| {
        ["", " WITH HOLD"].map(|hold| {
            format!("DECLARE c{shard} CURSOR{hold} FOR SELECT k FROM t WHERE k = ${shard}")
        })
    });
    let answers = [0, 1, 2]
        .map(|shard| ["T", "I"].map(|status| format!("{} FETCH 1 {status}", scene.keys[shard])));
    for wrote in WROTE {
        let declared = "DECLARE CURSOR T";
        // One on each shard, in the other order.
        scene.run(
            wrote,
            &[
                (&declare[2][0], declared),
                (&declare[1][0], declared),
                (&declare[0][0], declared),
                ("FETCH c0", &answers[0][0]),
                ("FETCH FORWARD 1 FROM \"c1\"", &answers[1][0]),
                ("FETCH c2", &answers[2][0]),
                ("MOVE BACKWARD 1 IN c1", "MOVE 0 T"),
                ("FETCH C1", &answers[1][0]),
                ("CLOSE c1", "CLOSE CURSOR T"),
                ("COMMIT", "COMMIT I"),
                ("FETCH c0", "34000 I"),
            ],
            true,
        );
        scene.run(
            wrote,
            &[
                (&declare[1][0], declared),
                ("CLOSE c1", "CLOSE CURSOR T"),
                ("FETCH c1", "34000 E"),
                ("COMMIT", "ROLLBACK I"),
            ],
            false,
        );
        // One of that name on another shard, and all of them.
        let again = declare[2][0].replace("c2", "c1");
        for (sql, answer, end) in [
            (again.as_str(), "42P03 E", "ROLLBACK I"),
            ("CLOSE ALL", "CLOSE CURSOR ALL T", "COMMIT I"),
        ] {
            let steps = [
                (declare[0][0].as_str(), declared),
                (&declare[1][0], declared),
                (sql, answer),
                ("COMMIT", end),
            ];
            scene.run(wrote, &steps, end == "COMMIT I");
        }
        // One that outlives the transaction: where it is prepared, it cannot.
        for shard in 0..3 {
            let fetch = format!("FETCH c{shard}");
            let close = format!("CLOSE c{shard}");
            let prepared = shard == wrote[1];
            let mut steps = vec![(declare[shard][1].as_str(), declared)];
            if prepared {
                steps.extend([("COMMIT", "0A000 I"), (&fetch, "34000 I")]);
            } else {
                steps.extend([
                    ("COMMIT", "COMMIT I"),
                    (&fetch, &answers[shard][1]),
                    (&close, "CLOSE CURSOR I"),
                    (&fetch, "34000 I"),
                ]);
            }
            scene.run(wrote, &steps, !prepared);
        }
    }
}

#[test]
fn advisory_locks_are_the_sessions_or_the_transactions() {
    let scene = Scene::start();
    let (lock, unlock) = ("SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1)");
    for wrote in WROTE {
        for (end, answer, committed) in [
            ("COMMIT", "COMMIT I", true),
            ("ROLLBACK", "ROLLBACK I", false),
        ] {
            for (lock, unlocked) in [
                (lock, "t SELECT 1 I"),
                ("SELECT pg_advisory_xact_lock(1)", "f SELECT 1 I"),
            ] {
                let steps = [(lock, " SELECT 1 T"), (end, answer), (unlock, unlocked)];
                scene.run(wrote, &steps, committed);
            }
        }
    }
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(scene.world.each(held), ["0", "0", "0"]);
}

#[test]
fn listening_begins_with_the_commit() {
    let scene = Scene::start();
    for wrote in WROTE {
        for extended in [false, true] {
            for (end, committed) in [("COMMIT", true), ("ROLLBACK", false)] {
                let mut wire = scene.begin(extended, wrote);
                let steps = [("LISTEN c", "LISTEN T"), ("NOTIFY c", "NOTIFY T")];
                script(&mut wire, extended, &steps);
                wire.query(end);
                let told = |frames: Vec<Frame>| frames.iter().any(|frame| frame.tag == b'A');
                // Its own come before the end of its COMMIT, or shortly after.
                let mut count = usize::from(told(wire.read_to_ready()));
                assert!(committed || count == 0, "{end}");
                assert!(extended || count == usize::from(committed), "{end}");
                scene.check(wrote, committed, "LISTEN");
                assert_eq!(scene.proxy.login().ask("NOTIFY c"), "NOTIFY I");
                while committed && count < 2 {
                    assert_eq!(wire.read().map(|frame| frame.tag), Some(b'A'));
                    count += 1;
                }
                wire.query("SELECT 1");
                assert!(!told(wire.read_to_ready()), "{end}");
            }
        }
    }
}
