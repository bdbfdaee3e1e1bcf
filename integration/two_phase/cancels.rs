//! Clients that cancel amid a commit over shards, and servers that end its connections: all or nothing is kept,
//! and the answer says which.

use std::time::{Duration, Instant};

use super::{PREPARED, World};
use crate::support::wait_until;
use crate::support::wire::{Wire, cancel_request, digest};

/// With pauses up to the usual time of a commit; again with shorter ones where that time was an unusual one.
const ROUNDS: u32 = 40;
const MOST: u32 = 5 * ROUNDS;

fn pause(usual: Duration, round: u32) -> Duration {
    usual * (round % ROUNDS) / ROUNDS / (1 + round / ROUNDS)
}

/// What commits takes a while on every shard.
const SLOW: &str = "
    CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.0005); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION late()";

/// Connections to the shards themselves.
struct Eyes(Vec<Wire>);

impl Eyes {
    fn of(world: &World) -> Self {
        let primaries = world.cluster.shards.iter().map(|shard| &shard.primary);
        Self(
            primaries
                .map(|p| Wire::login(p.port, "ringway", "shop").0)
                .collect(),
        )
    }

    fn each(&mut self, sql: &str) -> Vec<String> {
        self.0.iter_mut().map(|wire| wire.ask(sql)).collect()
    }

    /// All rows of all shards have this value, once nothing is prepared.
    fn assert_all_are(&mut self, value: u32, what: &str) {
        wait_until(Duration::from_secs(20), "nothing to be prepared", || {
            let each = self.each(PREPARED);
            each.iter().all(|answer| answer == "0 SELECT 1 I")
        });
        let wanted = format!("1 {value} SELECT 1 I");
        let found = self.each("SELECT count(DISTINCT v) || ' ' || min(v) FROM t");
        assert!(
            found.iter().all(|answer| *answer == wanted),
            "{what}: {found:?}, not {value}"
        );
    }
}

#[test]
fn a_cancel_amid_a_commit_keeps_all_or_nothing_and_the_answer_says_which() {
    const TEXTS: [&str; 3] = [
        "UPDATE t SET v = v + 1",
        "BEGIN; UPDATE t SET v = v + 1; COMMIT",
        "COMMIT",
    ];
    let world = World::start(3, SLOW);
    let proxy = world.ringway("proxy", "", "recovery_interval_ms = 200", "");
    world.fill(&proxy, "t");
    let mut eyes = Eyes::of(&world);
    let (mut wire, login) = Wire::login(proxy.port, "ringway", "shop");
    let request = cancel_request(&login);
    let began = Instant::now();
    assert_eq!(wire.ask("UPDATE t SET v = v"), "UPDATE 64 I");
    let usual = began.elapsed();
    let (mut kept, mut cancelled) = (0, 0);
    for round in 0..MOST {
        if round >= ROUNDS && cancelled > 0 && kept > 0 {
            break;
        }
        let sql = TEXTS[round as usize % TEXTS.len()];
        if sql == "COMMIT" {
            assert_eq!(wire.ask("BEGIN"), "BEGIN T");
            assert_eq!(wire.ask("UPDATE t SET v = v + 1"), "UPDATE 64 T");
        }
        let mut canceller = Wire::connect(proxy.port);
        wire.query(sql);
        std::thread::sleep(pause(usual, round));
        canceller.send_untagged(&request);
        let answer = digest(&wire.read_to_ready());
        assert_eq!(canceller.read(), None);
        match answer.as_str() {
            "UPDATE 64 I" | "BEGIN UPDATE 64 COMMIT I" | "COMMIT I" => kept += 1,
            other => {
                assert!(other.contains("57014"), "{sql}: {other}");
                cancelled += 1;
                if !other.ends_with('I') {
                    assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
                }
            }
        }
        eyes.assert_all_are(kept, &format!("round {round}: {sql}: {answer}"));
    }
    assert!(
        cancelled > 0 && kept > 0,
        "{cancelled} were cancelled, {kept} not"
    );
}

#[test]
fn a_cancel_of_the_decision_is_told_as_one() {
    let world = World::start(2, "");
    let proxy = world.ringway("proxy", "", "", "");
    world.fill(&proxy, "t");
    let mut eyes = Eyes::of(&world);
    let (mut wire, login) = Wire::login(proxy.port, "ringway", "shop");
    assert_eq!(wire.ask("BEGIN"), "BEGIN T");
    assert_eq!(wire.ask("UPDATE t SET v = v + 1"), "UPDATE 64 T");
    let held = eyes.each("BEGIN; LOCK TABLE ringway.decision IN SHARE MODE");
    assert_eq!(held, ["BEGIN LOCK TABLE T", "BEGIN LOCK TABLE T"]);
    wire.query("COMMIT");
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    wait_until(Duration::from_secs(20), "the decision to wait", || {
        eyes.each(waiting)
            .iter()
            .any(|found| found == "1 SELECT 1 T")
    });
    Wire::connect(proxy.port).send_untagged(&cancel_request(&login));
    let answer = digest(&wire.read_to_ready());
    assert!(
        answer.contains("57014") && answer.ends_with('I'),
        "{answer}"
    );
    eyes.each("ROLLBACK");
    eyes.assert_all_are(0, &answer);
    assert_eq!(wire.ask("UPDATE t SET v = v + 1"), "UPDATE 64 I");
}

#[test]
fn a_server_that_ends_a_connection_amid_a_commit_keeps_all_or_nothing() {
    const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'shop' \
                       AND application_name NOT LIKE 'ringway %' AND state <> 'idle' \
                       AND pid <> pg_backend_pid()";
    let world = World::start(3, "");
    let proxy = world.ringway("proxy", "", "recovery_interval_ms = 200", "");
    world.fill(&proxy, "t");
    let (mut eyes, mut ends) = (Eyes::of(&world), Eyes::of(&world));
    let mut wire = proxy.login();
    assert_eq!(wire.ask("BEGIN"), "BEGIN T");
    assert_eq!(wire.ask("UPDATE t SET v = v"), "UPDATE 64 T");
    let began = Instant::now();
    assert_eq!(wire.ask("COMMIT"), "COMMIT I");
    let usual = began.elapsed();
    let (mut kept, mut failed) = (0, 0);
    for round in 0..MOST {
        if round >= ROUNDS && failed > 0 && kept > 0 {
            break;
        }
        let server = &mut ends.0[round as usize % 3];
        assert_eq!(wire.ask("BEGIN"), "BEGIN T");
        assert_eq!(wire.ask("UPDATE t SET v = v + 1"), "UPDATE 64 T");
        wire.query("COMMIT");
        std::thread::sleep(pause(usual, round));
        server.query(END);
        let answer = digest(&wire.read_to_ready());
        server.read_to_ready();
        match answer.as_str() {
            "COMMIT I" => kept += 1,
            other => {
                assert!(!other.contains("08007"), "{other}");
                failed += 1;
                if other.ends_with("end") {
                    wire = proxy.login();
                } else if !other.ends_with('I') {
                    assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
                }
            }
        }
        eyes.assert_all_are(kept, &format!("round {round}: {answer}"));
    }
    assert!(failed > 0 && kept > 0, "{failed} failed, {kept} did not");
}
