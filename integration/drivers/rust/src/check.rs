//! What both programs share: the running of checks, and values that are easy to lose.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

pub type Checked = Result<(), Box<dyn Error + Send + Sync>>;

pub const CLIENTS: usize = 8;
pub const ROUNDS: i32 = 5;

pub fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// No two neighbours are alike, so that a part that is lost or sent twice shows.
pub fn long_text() -> String {
    (0..(1 << 20) / 8).map(|n| format!("{n:06}ü")).collect()
}

pub fn long_bytes() -> Vec<u8> {
    (0..1 << 20).map(|n| (n * 7 % 256) as u8).collect()
}

pub const ODD_TEXT: &str = "Zażółć 日本語 🐘 'single' \"double\" \\back\\ %s $1 :a ?\n\ttab";

/// Fails unless both are the same.
#[macro_export]
macro_rules! same {
    ($found:expr, $expected:expr) => {
        match (&$found, &$expected) {
            (found, expected) if found == expected => {}
            (found, expected) => {
                let (mut found, mut expected) = (format!("{found:?}"), format!("{expected:?}"));
                found.truncate(found.floor_char_boundary(200));
                expected.truncate(expected.floor_char_boundary(200));
                let line = line!();
                return Err(format!("line {line}: expected {expected}, found {found}").into());
            }
        }
    };
}

pub fn version(text: &str) {
    println!("version {text}");
}

pub fn asked(name: &str) -> bool {
    env("DRIVER_CHECKS").split(',').any(|asked| asked == name)
}

#[allow(dead_code, reason = "one of the two drivers has everything")]
pub fn absent(name: &str, why: &str) {
    if asked(name) {
        println!("absent {name}: {why}");
    }
}

pub async fn check(name: &str, work: impl Future<Output = Checked> + Send + 'static) {
    if !asked(name) {
        return;
    }
    // A task of its own, so that a panic is one check's.
    let limit = tokio::time::timeout(Duration::from_secs(30), tokio::spawn(work));
    let why = match limit.await {
        Ok(Ok(Ok(()))) => return println!("ok {name}"),
        Ok(Ok(Err(error))) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(error) = source {
                text += &format!(": {error}");
                source = error.source();
            }
            text
        }
        Ok(Err(panic)) => panic.to_string(),
        Err(_) => "took longer than 30 s".to_owned(),
    };
    println!(
        "failed {name}: {}",
        why.split_whitespace().collect::<Vec<_>>().join(" ")
    );
}
