//! Transfers between shards while Ringway processes and servers are killed at random. The sum of all
//! balances stays, and what was acknowledged is there.
//!
//! The long form, some minutes: `RINGWAY_SOAK_KILLS=500 cargo test --test integration two_phase::kills -- --nocapture`.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringway::demo::captive::Signal;

use super::{RECOVERED, World};
use crate::support::wire::{Wire, digest};

const LONG_FORM: &str = "RINGWAY_SOAK_KILLS";
/// Of the gate.
const KILLS: usize = 8;
const CLIENTS: u64 = 4;
const ACCOUNTS: u64 = 64;
const SECONDS: u64 = 60;
const KEYS: &str = "recovery_interval_ms = 200\nfailover_hold_ms = 2000\nquery_timeout_ms = 10000\n\
                    cross_shard_deadlock_timeout_ms = 500";

/// Numbers that look random, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // Marsaglia, "Xorshift RNGs", 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[derive(Default)]
struct Counts {
    acknowledged: AtomicU64,
    /// Without an answer that says what became of it.
    unanswered: AtomicU64,
    stop: AtomicBool,
    /// Of the process that serves now.
    port: AtomicU16,
}

/// The same transfer as a block. Its rows are written in the order of their keys, the statement's in that of
/// their shards: these may wait for each other.
fn block([from, to]: [u64; 2], amount: u64) -> Vec<(String, &'static str)> {
    let write = |key, sign| {
        let sql = format!("UPDATE t SET n = n + 1, v = v {sign} {amount} WHERE k = {key}");
        (sql, "UPDATE 1 T")
    };
    let mut block = vec![
        ("BEGIN".to_owned(), "BEGIN T"),
        write(from, '-'),
        write(to, '+'),
        ("COMMIT".to_owned(), "COMMIT I"),
    ];
    if from > to {
        block.swap(1, 2);
    }
    block
}

/// Statements that are answered so; the first answer that is another. Then no transaction is open.
fn run(wire: &mut Wire, statements: &[(String, &str)]) -> Result<(), String> {
    for (sql, expected) in statements {
        let mut message = vec![b'Q'];
        message.extend_from_slice(&(sql.len() as u32 + 5).to_be_bytes());
        message.extend_from_slice(sql.as_bytes());
        message.push(0);
        let sent = wire.try_send(&message);
        let read = || digest(&wire.read_to_ready());
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
        let answer = read.unwrap_or_else(|_| "end".to_owned());
        if sent.is_err() {
            return Err("end".to_owned());
        }
        if answer != *expected {
            // A block that has failed is still one, and nothing of it is kept.
            if answer.ends_with(" E") {
                let ended = run(wire, &[("ROLLBACK".to_owned(), "ROLLBACK I")]);
                return Err(format!("40000 {}", ended.err().unwrap_or_default()));
            }
            return Err(answer);
        }
    }
    Ok(())
}

/// Transfers through whatever process serves, until told to stop.
fn transfer(counts: &Counts, seed: u64) {
    let mut random = Random(seed);
    while !counts.stop.load(Relaxed) {
        let port = counts.port.load(Relaxed);
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        let connected = std::panic::catch_unwind(|| Wire::login(port, "ringway", "shop").0);
        let Ok(mut wire) = connected else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        wire.set_limit(Duration::from_secs(SECONDS));
        while !counts.stop.load(Relaxed) {
            let from = 1 + random.below(ACCOUNTS);
            let to = 1 + (from + random.below(ACCOUNTS - 1)) % ACCOUNTS;
            let amount = random.below(100);
            let ran = match random.below(2) {
                0 => {
                    let sql = format!(
                        "UPDATE t SET n = n + 1, v = v + CASE k WHEN {from} THEN -{amount} ELSE {amount} END \
                         WHERE k IN ({from}, {to})"
                    );
                    run(&mut wire, &[(sql, "UPDATE 2 I")])
                }
                _ => run(&mut wire, &block([from, to], amount)),
            };
            let answer = match ran {
                Ok(()) => {
                    counts.acknowledged.fetch_add(1, Relaxed);
                    continue;
                }
                Err(answer) => answer,
            };
            // These say that nothing was kept.
            let is_refusal = [
                "57P03", "53300", "40000", "40001", "40P01", "57014", "55000",
            ];
            if !is_refusal.iter().any(|code| answer.starts_with(code)) {
                counts.unanswered.fetch_add(1, Relaxed);
            }
            if answer.ends_with("end") {
                break;
            }
        }
    }
}

#[test]
fn transfers_survive_random_kills() {
    let kills = std::env::var(LONG_FORM).map_or(KILLS, |text| text.parse().unwrap());
    let seed = std::env::var("RINGWAY_SOAK_SEED").map_or_else(
        |_| u64::from(std::process::id()) + 1,
        |text| text.parse().unwrap(),
    );
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut world = World::start(4, "ALTER TABLE t ADD n int NOT NULL DEFAULT 0");
    let survivor = world.ringway("survivor", "", KEYS, "");
    let rows: Vec<_> = (1..=ACCOUNTS).map(|k| format!("({k}, 1000)")).collect();
    let insert = format!("INSERT INTO t (k, v) VALUES {}", rows.join(", "));
    assert_eq!(
        survivor.login().ask(&insert),
        format!("INSERT 0 {ACCOUNTS} I")
    );
    let counts = Counts::default();
    let mut victim = world.ringway("victim-0", "", KEYS, "");
    counts.port.store(victim.port, Relaxed);
    let mut of_servers = 0;
    std::thread::scope(|scope| {
        for client in 1..=CLIENTS {
            let counts = &counts;
            scope.spawn(move || transfer(counts, seed.wrapping_mul(31).wrapping_add(client)));
        }
        let mut done = 0;
        while done < kills {
            std::thread::sleep(Duration::from_millis(100 + random.below(300)));
            // Of five kills two are of a server, one of them together with Ringway.
            let (ringway, server) = [
                (true, false),
                (true, false),
                (true, false),
                (false, true),
                (true, true),
            ][random.below(5) as usize];
            if server {
                let at = random.below(4) as usize;
                world.cluster.shards[at].primary.kill9().unwrap();
                of_servers += 1;
                done += 1;
            }
            if ringway {
                victim.process.signal(Signal::Kill);
                victim.process.wait_for_end();
                done += 1;
            }
            if server {
                for shard in &mut world.cluster.shards {
                    if !shard.primary.is_running() {
                        shard.primary.start().unwrap();
                    }
                }
            }
            if ringway {
                victim = world.ringway(&format!("victim-{done}"), "", KEYS, "");
                counts.port.store(victim.port, Relaxed);
            }
            // Every now and then all of it has to hold.
            if done % 50 == 0 {
                println!(
                    "{done} kills, {} transfers",
                    counts.acknowledged.load(Relaxed)
                );
            }
        }
        victim.process.signal(Signal::Kill);
        victim.process.wait_for_end();
        counts.stop.store(true, Relaxed);
    });
    let back = Instant::now();
    world.wait_recovered(RECOVERED);
    let took = back.elapsed();
    let sum = |column: &str| -> u64 {
        let each = world.each(&format!("SELECT sum({column}) FROM t"));
        each.iter()
            .map(|text| text.parse::<i64>().unwrap())
            .sum::<i64>() as u64
    };
    let (acknowledged, unanswered) = (
        counts.acknowledged.load(Relaxed),
        counts.unanswered.load(Relaxed),
    );
    println!(
        "{kills} kills, {of_servers} of servers: {acknowledged} transfers acknowledged, {unanswered} \
         unanswered, {} applied; recovered after {took:?}",
        sum("n") / 2
    );
    assert_eq!(sum("v"), 1000 * ACCOUNTS, "seed {seed}");
    let applied = sum("n");
    assert_eq!(applied % 2, 0, "seed {seed}");
    let applied = applied / 2;
    assert!(
        applied >= acknowledged && applied <= acknowledged + unanswered,
        "seed {seed}: {acknowledged} acknowledged, {unanswered} unanswered, {applied} applied"
    );
}
