//! What is measured beside pgbench: large results, COPY and logins.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Failure;
use crate::client::Client;
use crate::measure::median;
use crate::peers::{Peer, Running};
use crate::secure::Secure;

/// Rows of the table `wide`, about 100 bytes each.
pub const WIDE_ROWS: usize = 200_000;
const LOGINS: usize = 100;
const REPEATS: usize = 5;

/// Bytes of one CopyData message, as psql sends them.
const COPY_DATA: usize = 8 * 1024;
/// What the client reads at once.
const READ: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    Select,
    CopyOut,
    CopyIn,
    SelectTls,
    LoginScram,
    LoginTlsScram,
}

impl Work {
    pub const BULK: [Self; 4] = [Self::Select, Self::CopyOut, Self::CopyIn, Self::SelectTls];
    pub const LOGINS: [Self; 2] = [Self::LoginScram, Self::LoginTlsScram];

    pub fn name(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::CopyOut => "COPY out",
            Self::CopyIn => "COPY in",
            Self::SelectTls => "SELECT, TLS",
            Self::LoginScram => "SCRAM",
            Self::LoginTlsScram => "TLS + SCRAM",
        }
    }

    pub fn is_login(self) -> bool {
        Self::LOGINS.contains(&self)
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::SelectTls | Self::LoginTlsScram)
    }

    fn peers(self) -> &'static [Peer] {
        match self {
            Self::Select | Self::CopyOut | Self::CopyIn => &[
                Peer::Direct,
                Peer::Forwarder,
                Peer::Pgbouncer,
                Peer::Ringway,
            ],
            Self::SelectTls | Self::LoginScram | Self::LoginTlsScram => {
                &[Peer::PgbouncerSecure, Peer::RingwaySecure]
            }
        }
    }
}

/// One run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Done {
    /// Megabytes moved, or logins.
    pub units: f64,
    pub elapsed: Duration,
    /// The proxy's CPU time; `None` without a proxy.
    pub cpu: Option<Duration>,
}

/// A run per round, or why there is none.
pub type Works = BTreeMap<(Work, Peer), Vec<Result<Done, String>>>;

pub fn all(
    works: &[Work],
    rounds: u32,
    running: &[Running],
    secure: &Secure,
    mut progress: impl FnMut(&str),
) -> Works {
    let mut done = Works::new();
    for round in 0..rounds {
        for &work in works {
            progress(&format!("round {}/{rounds}: {}", round + 1, work.name()));
            let mut peers = work.peers().to_vec();
            if round % 2 == 1 {
                peers.reverse();
            }
            for peer in peers {
                let result = one(work, peer, running, secure).map_err(|error| error.to_string());
                done.entry((work, peer)).or_default().push(result);
            }
        }
    }
    done
}

fn one(work: Work, peer: Peer, running: &[Running], secure: &Secure) -> Result<Done, Failure> {
    let running = running
        .iter()
        .find(|running| running.peer == peer)
        .ok_or("was not started")?;
    let tls = work.is_tls().then_some(&secure.client);
    let connect = || Client::connect(running.port, tls, READ);
    let mut client = connect()?;
    let rows = match work {
        Work::CopyIn => {
            client.query("TRUNCATE copied", &[])?;
            copy_data()
        }
        Work::Select | Work::CopyOut | Work::SelectTls | Work::LoginScram | Work::LoginTlsScram => {
            Vec::new()
        }
    };
    let before = running.cpu_time()?;
    let start = Instant::now();
    let units = match work {
        Work::Select | Work::SelectTls => repeat(&mut client, "SELECT * FROM wide")?,
        Work::CopyOut => repeat(&mut client, "COPY wide TO STDOUT")?,
        Work::CopyIn => {
            client.query("COPY copied FROM STDIN", &rows)?;
            megabytes(rows.len() as u64)
        }
        Work::LoginScram | Work::LoginTlsScram => {
            for _ in 0..LOGINS {
                connect()?.query("SELECT 1", &[])?;
            }
            LOGINS as f64
        }
    };
    let elapsed = start.elapsed();
    let after = running.cpu_time()?;
    Ok(Done {
        units,
        elapsed,
        cpu: before.zip(after).map(|(b, a)| (a - b).total),
    })
}

/// The megabytes that some runs of a statement answer: one is too short to tell.
fn repeat(client: &mut Client, sql: &str) -> Result<f64, Failure> {
    let mut bytes = 0;
    for _ in 0..REPEATS {
        bytes += client.query(sql, &[])?;
    }
    Ok(megabytes(bytes))
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The rows of `wide` as CopyData.
fn copy_data() -> Vec<u8> {
    let mut text = String::new();
    for id in 1..=WIDE_ROWS {
        text += &format!("{id}\t{}\n", "x".repeat(88));
    }
    let mut messages = Vec::new();
    for chunk in text.as_bytes().chunks(COPY_DATA) {
        messages.push(b'd');
        messages.extend((4 + chunk.len() as u32).to_be_bytes());
        messages.extend(chunk);
    }
    messages
}

/// The proxy's CPU per megabyte or login, in seconds; the median of the rounds.
pub fn cpu(works: &Works, work: Work, peer: Peer) -> Option<f64> {
    let rounds = works.get(&(work, peer))?.iter().flatten();
    median(rounds.filter_map(|done| Some(done.cpu?.as_secs_f64() / done.units)))
}

/// Megabytes or logins per second; the median of the rounds.
pub fn rate(works: &Works, work: Work, peer: Peer) -> Option<f64> {
    let rounds = works.get(&(work, peer))?.iter().flatten();
    median(rounds.map(|done| done.units / done.elapsed.as_secs_f64()))
}
