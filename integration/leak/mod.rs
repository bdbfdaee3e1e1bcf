//! Hundreds of clients with random behaviour over few server connections. Whatever carries a mark
//! carries its owner's, and every client checks all that it is sent.
//!
//! `RINGWAY_SEED` runs the clients of an earlier run again; their timing is the machine's.

mod client;
mod exits;
mod scenes;
mod stage;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use client::{Client, Step};
use rand::Rng;
pub use stage::table;
use stage::{PLACES, Place, Stage};

/// Of the storm alone.
const SHORT: Duration = Duration::from_secs(8);
/// Clients at a time per weight of a place.
const CLIENTS: usize = 20;

#[test]
fn nobodys_bytes_reach_another() {
    storm(SHORT);
}

/// The long form, `make soak`: `RINGWAY_SOAK_SECONDS`.
#[test]
#[ignore = "takes as long as it is told to: make soak"]
fn soak() {
    storm(soak_length());
}

pub fn soak_length() -> Duration {
    let seconds = std::env::var("RINGWAY_SOAK_SECONDS").map_or(60, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

#[derive(Default)]
struct Counts {
    sessions: AtomicUsize,
    scenes: AtomicUsize,
    crowded: AtomicUsize,
}

fn storm(length: Duration) {
    let seed: u64 = match std::env::var("RINGWAY_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => rand::random(),
    };
    println!("RINGWAY_SEED={seed}");
    let stage = Stage::set();
    let end = Instant::now() + length;
    let (counts, failed) = (Counts::default(), AtomicBool::new(false));
    // Keys of rows begin above those of the stage.
    let numbers = AtomicI64::new(1);
    std::thread::scope(|scope| {
        let seats = PLACES
            .iter()
            .flat_map(|place| std::iter::repeat_n(place, place.weight * CLIENTS));
        for (seat, place) in seats.enumerate() {
            let (stage, counts, failed, numbers) = (&stage, &counts, &failed, &numbers);
            std::thread::Builder::new()
                .stack_size(512 * 1024)
                .spawn_scoped(scope, move || {
                    let seat_seed = seed ^ (seat as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    let _alarm = Alarm(failed);
                    let mut session = 0;
                    while Instant::now() < end && !failed.load(Relaxed) {
                        session += 1;
                        let number = numbers.fetch_add(1, Relaxed);
                        let seed = seat_seed.wrapping_add(session);
                        play(stage, place, number, seed, counts);
                    }
                })
                .unwrap();
        }
    });
    assert!(!failed.load(Relaxed), "RINGWAY_SEED={seed}");
    println!(
        "{} sessions, {} scenes, {} times no connection in time",
        counts.sessions.load(Relaxed),
        counts.scenes.load(Relaxed),
        counts.crowded.load(Relaxed)
    );
    stage.assert_clean();
}

/// Stops everybody else's storm when a client fails.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Relaxed);
        }
    }
}

/// One session, from its login to its end.
fn play(stage: &Stage, place: &'static Place, number: i64, seed: u64, counts: &Counts) {
    counts.sessions.fetch_add(1, Relaxed);
    let acts = || -> Step {
        let mut client = Client::arrive(stage.ringway.port(), place, number, seed)?;
        client.settings_are_its_own()?;
        for _ in 0..client.rng.random_range(1..15) {
            counts.scenes.fetch_add(1, Relaxed);
            client.play_scene()?;
        }
        client.leave();
        Ok(())
    };
    if acts().is_err() {
        counts.crowded.fetch_add(1, Relaxed);
    }
}
