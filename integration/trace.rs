//! Replays wire traces: files of messages sent and replies expected, one file per subject.
//!
//! The replies in a file are those of bare PostgreSQL; each trace also runs through Ringway with
//! one shard and with two, and must get the same. `REWRITE=1` writes the files anew from what
//! PostgreSQL answers, `TRACE=name` runs one alone, `FOUND=directory` keeps every replay there. See traces/README.md for the format.
//! Another PostgreSQL than the files' (`RINGWAY_PG_BIN`) answers some of it otherwise: Ringway is
//! compared with it then, not with the files.

mod message;
mod reply;

pub(crate) use message::Message;
pub(crate) use reply::describe;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringway::demo::captive::{CaptiveCluster, Spec, Tls};

use crate::support::wire::{Frame, Wire, cancel_request};
use crate::support::{self, Ringway};

/// Tables that the traces use, created on every server before them.
const SCHEMA: &str = include_str!("traces/schema.sql");
const DATABASE: &str = "traces";
const USER: &str = "raw";
/// The PostgreSQL whose replies the files have.
const MAJOR: u32 = 15;

/// Where a trace is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Postgres,
    /// Ringway before a primary and a replica.
    One,
    /// Ringway before two shards.
    Two,
    /// As [`Target::One`], with TLS on both sides, for COPY.
    Tls,
}

/// A trace file's lines that are input; replies are left out.
struct Trace {
    path: PathBuf,
    text: String,
    /// Only these targets, if the file says so: what is refused over shards has a test of its own.
    targets: Vec<Target>,
    /// Older PostgreSQLs answer otherwise, and Ringway as this one whatever is behind it.
    since: u32,
}

impl Trace {
    fn all() -> Vec<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/traces");
        let wanted = std::env::var("TRACE").unwrap_or_default();
        let mut traces: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "trace"))
            .filter(|path| path.to_string_lossy().contains(&wanted))
            .map(Self::read)
            .collect();
        traces.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(!traces.is_empty());
        traces
    }

    fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap();
        let targets = match text.lines().find_map(|l| l.strip_prefix("# targets: ")) {
            None => vec![Target::Postgres, Target::One, Target::Two],
            Some("postgres one") => vec![Target::Postgres, Target::One],
            Some(other) => panic!("{}: unknown targets {other}", path.display()),
        };
        let since = text.lines().find_map(|l| l.strip_prefix("# since: "));
        let since = since.map_or(MAJOR, |since| since.parse().unwrap());
        Self {
            path,
            text,
            targets,
            since,
        }
    }

    fn name(&self) -> String {
        self.path
            .file_stem()
            .unwrap()
            .to_string_lossy()
            .into_owned()
    }

    /// Sends what the trace sends and answers the whole file anew, with the replies from there.
    fn replay(&self, door: &Door) -> String {
        let mut player = Player::new(door);
        for line in self.text.lines() {
            player.line(line);
        }
        player.read_sent();
        std::mem::take(&mut player.out)
    }
}

/// Where clients connect.
struct Door {
    port: u16,
    /// They encrypt, and trust this certificate.
    tls: Option<PathBuf>,
}

impl Door {
    fn plain(port: u16) -> Self {
        Self { port, tls: None }
    }

    fn connect(&self) -> Wire {
        let wire = Wire::connect(self.port);
        match &self.tls {
            Some(trusted) => wire.encrypted(trusted),
            None => wire,
        }
    }
}

/// One replay under way.
struct Player<'a> {
    door: &'a Door,
    /// By the digit their lines begin with; the first has none.
    clients: BTreeMap<char, Client>,
    out: String,
}

struct Client {
    wire: Wire,
    /// The replies to its login.
    login: Vec<Frame>,
    /// Messages not yet sent: those that follow each other leave in one write.
    batch: Vec<u8>,
    /// ReadyForQuery still to come for what was sent.
    owed: usize,
}

/// How far a batch's replies are read.
enum Until<'a> {
    Ready,
    Names(&'a str),
    /// They are left for later.
    Later,
}

const FIRST: char = '1';

impl<'a> Player<'a> {
    fn new(door: &'a Door) -> Self {
        Self {
            door,
            clients: BTreeMap::new(),
            out: String::new(),
        }
    }

    fn line(&mut self, line: &str) {
        let (who, text) = match line.strip_prefix(|c: char| c.is_ascii_digit()) {
            Some(rest) => (line.chars().next().unwrap(), rest),
            None => (FIRST, line),
        };
        if text.starts_with('<') {
            return;
        }
        let later = text.trim() == "later";
        if let Some(text) = text.strip_prefix("> ") {
            let message = message::Message::parse(text);
            let client = self.client(who);
            client.batch.extend_from_slice(&message.bytes);
            client.owed += usize::from(message.wants_ready);
        } else if let Some(names) = text.trim_start().strip_prefix("until ") {
            let _ = writeln!(self.out, "{line}");
            return self.read(who, Until::Names(names));
        } else if later {
            let _ = writeln!(self.out, "{line}");
            return self.read(who, Until::Later);
        } else if let Some(startup) = text.trim_start().strip_prefix("login ") {
            let _ = writeln!(self.out, "{line}");
            return self.log_in(who, startup);
        } else if text.trim() == "cancel" {
            let _ = writeln!(self.out, "{line}");
            self.read(who, Until::Later);
            return self.cancel(who);
        } else {
            // A blank line or a comment ends a batch.
            self.read_sent();
        }
        let _ = writeln!(self.out, "{line}");
    }

    fn client(&mut self, who: char) -> &mut Client {
        let door = self.door;
        let connect = || Client::new(door.connect(), 3 << 16, &[]).0;
        self.clients.entry(who).or_insert_with(connect)
    }

    /// `3.2 name=value …`: a login whose replies are written down, but for the server's parameters.
    fn log_in(&mut self, who: char, startup: &str) {
        let mut words = startup.split_whitespace();
        let version = words.next().unwrap().split_once('.').unwrap();
        let number = |text: &str| text.parse::<u32>().unwrap();
        let version = number(version.0) << 16 | number(version.1);
        let params: Vec<_> = words.map(|word| word.split_once('=').unwrap()).collect();
        let (client, mut frames) = Client::new(self.door.connect(), version, &params);
        let open = frames.last().is_some_and(|frame| frame.tag == b'Z');
        frames.retain(|frame| frame.tag != b'S');
        self.clients.insert(who, client);
        self.write_down(who, &frames, open);
    }

    /// Stops what a client's session does, by another connection; returns when that was passed on.
    fn cancel(&mut self, who: char) {
        let request = cancel_request(&self.client(who).login);
        let mut canceller = self.door.connect();
        canceller.send_untagged(&request);
        assert_eq!(canceller.read(), None);
    }

    /// Reads what the batches that a line ended are answered.
    fn read_sent(&mut self) {
        let sent = |(who, client): (&char, &Client)| (!client.batch.is_empty()).then_some(*who);
        for who in self.clients.iter().filter_map(sent).collect::<Vec<_>>() {
            self.read(who, Until::Ready);
        }
    }

    /// Sends a client's batch and writes down what comes back.
    fn read(&mut self, who: char, until: Until<'_>) {
        let client = self.client(who);
        let batch = std::mem::take(&mut client.batch);
        let _ = client.wire.try_send(&batch);
        let mut frames = Vec::new();
        let mut open = true;
        match until {
            Until::Later => return,
            Until::Names(names) => {
                for name in names.split_whitespace() {
                    open = open && client.read_until(name, &mut frames);
                }
                client.owed = 0;
            }
            Until::Ready => {
                while open && client.owed > 0 {
                    open = client.read_until("ReadyForQuery", &mut frames);
                }
            }
        }
        if !open {
            client.owed = 0;
        }
        self.write_down(who, &frames, open);
    }

    fn write_down(&mut self, who: char, frames: &[Frame], open: bool) {
        let mut replies = reply::describe(frames);
        if !open {
            replies.push_str("< closed\n");
        }
        for line in replies.lines() {
            let prefix = if who == FIRST {
                String::new()
            } else {
                who.to_string()
            };
            let _ = writeln!(self.out, "{prefix}{line}");
        }
    }
}

impl Drop for Player<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines: Vec<_> = self.out.lines().collect();
            eprintln!(
                "--- up to\n{}",
                lines[lines.len().saturating_sub(12)..].join("\n")
            );
        }
    }
}

impl Client {
    fn new(mut wire: Wire, version: u32, more: &[(&str, &str)]) -> (Self, Vec<Frame>) {
        let who = [("user", USER), ("database", DATABASE)];
        wire.send_startup(version, &[&who, more].concat());
        let login = wire.read_to_ready();
        let client = Self {
            wire,
            login: login.clone(),
            batch: Vec::new(),
            owed: 0,
        };
        (client, login)
    }

    /// False when the server has closed.
    fn read_until(&mut self, name: &str, frames: &mut Vec<Frame>) -> bool {
        loop {
            let Some(frame) = self.wire.read() else {
                return false;
            };
            if frame.tag == b'Z' {
                self.owed = self.owed.saturating_sub(1);
            }
            let found = reply::name(frame.tag) == name;
            frames.push(frame);
            // Nothing follows the last ReadyForQuery, whatever the trace had hoped for.
            if found || (self.owed == 0 && frames.last().is_some_and(|f| f.tag == b'Z')) {
                return true;
            }
        }
    }
}

fn servers(shards: usize, replicas: usize) -> CaptiveCluster {
    servers_with(shards, replicas, None)
}

fn servers_with(shards: usize, replicas: usize, tls: Option<Tls>) -> CaptiveCluster {
    let cluster = support::cluster(&Spec {
        shards,
        replicas,
        tls,
        database: DATABASE.to_owned(),
        superuser: USER.to_owned(),
        ..Spec::default()
    });
    for shard in &cluster.shards {
        shard.primary.exec(SCHEMA).unwrap();
    }
    cluster.wait_caught_up().unwrap();
    cluster
}

/// The configuration of a Ringway before `cluster`, with fewer connections than there are clients.
fn config(cluster: &CaptiveCluster, port: u16, tls: Option<&Tls>) -> String {
    let mut toml =
        format!("[general]\nlisten = \"127.0.0.1:{port}\"\n[users.{USER}]\nauth = \"trust\"\n");
    if let Some(Tls {
        certificate,
        private_key,
    }) = tls
    {
        let _ = writeln!(
            toml,
            "[tls]\nrequired = true\ncertificate = {certificate:?}\nprivate_key = {private_key:?}"
        );
    }
    let _ = writeln!(
        toml,
        "[databases.{DATABASE}]\npool_size = 6\nreads = {{ split = true }}"
    );
    if tls.is_some() {
        toml.push_str("server_tls = \"require\"\n");
    }
    if cluster.shards.len() > 1 {
        let _ = writeln!(toml, "[databases.{DATABASE}.tables]");
        for line in SCHEMA
            .lines()
            .filter_map(|l| l.strip_prefix("-- ringway: "))
        {
            let _ = writeln!(toml, "{line}");
        }
    }
    for (at, shard) in cluster.shards.iter().enumerate() {
        let servers: Vec<_> = std::iter::once(&shard.primary)
            .chain(&shard.replicas)
            .map(|server| format!("\"127.0.0.1:{}\"", server.port))
            .collect();
        let _ = write!(
            toml,
            "[[databases.{DATABASE}.shards]]\nname = \"s{}\"\nservers = [{}]\n",
            at + 1,
            servers.join(", ")
        );
    }
    toml
}

/// Replays every trace there, all at once, and answers the replays beside their traces.
fn replay_all<'t>(traces: &'t [Trace], target: Target, door: &Door) -> Vec<(&'t Trace, String)> {
    std::thread::scope(|scope| {
        let players: Vec<_> = traces
            .iter()
            .filter(|trace| trace.targets.contains(&target))
            .map(|trace| (trace, scope.spawn(move || trace.replay(door))))
            .collect();
        players
            .into_iter()
            .map(|(trace, player)| {
                let played = player
                    .join()
                    .unwrap_or_else(|_| format!("replay of {} failed\n", trace.name()));
                (trace, played)
            })
            .collect()
    })
}

fn major(cluster: &CaptiveCluster) -> u32 {
    let version = cluster.shards[0].primary.exec("SHOW server_version_num");
    version.unwrap().parse::<u32>().unwrap() / 10_000
}

/// The traces with the replies of the PostgreSQL that `cluster` runs.
fn expected(cluster: &CaptiveCluster) -> Vec<Trace> {
    let mut traces = Trace::all();
    let major = major(cluster);
    if major == MAJOR {
        return traces;
    }
    let bare = servers(1, 0);
    for trace in traces.iter_mut().filter(|trace| trace.since <= major) {
        trace.text = trace.replay(&Door::plain(bare.shards[0].primary.port));
    }
    traces
}

/// The lines that differ, with a few before them.
fn difference(expected: &str, found: &str) -> Option<String> {
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let at = (0..old.len().max(new.len())).find(|at| old.get(*at) != new.get(*at))?;
    let mut text = String::new();
    for line in &old[at.saturating_sub(6)..at.min(old.len())] {
        let _ = writeln!(text, "    {line}");
    }
    for line in old.iter().skip(at).take(4) {
        let _ = writeln!(text, "  - {line}");
    }
    for line in new.iter().skip(at).take(4) {
        let _ = writeln!(text, "  + {line}");
    }
    Some(text)
}

fn check(replays: Vec<(&Trace, String)>, target: Target) {
    if let Some(directory) = std::env::var_os("FOUND") {
        for (trace, found) in &replays {
            let name = format!("{}.{target:?}", trace.name());
            std::fs::write(Path::new(&directory).join(name), found).unwrap();
        }
    }
    let failures: Vec<_> = replays
        .into_iter()
        .filter_map(|(trace, found)| {
            let difference = difference(&trace.text, &found)?;
            Some(format!("{} on {target:?}:\n{difference}", trace.name()))
        })
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn postgresql_answers_as_the_traces_say() {
    let cluster = servers(1, 0);
    let mut traces = expected(&cluster);
    let major = major(&cluster);
    traces.retain(|trace| trace.since <= major);
    let replays = replay_all(
        &traces,
        Target::Postgres,
        &Door::plain(cluster.shards[0].primary.port),
    );
    if std::env::var_os("REWRITE").is_some() {
        for (trace, found) in &replays {
            assert!(found.lines().count() > 1, "{found}");
            std::fs::write(&trace.path, found).unwrap();
        }
        return;
    }
    check(replays, Target::Postgres);
}

#[test]
fn one_shard_answers_as_the_traces_say() {
    let cluster = servers(1, 1);
    let ringway = Ringway::start(|port| config(&cluster, port, None));
    support::wait_until(
        Duration::from_secs(10),
        "a replica that serves reads",
        || {
            let (mut wire, _) = Wire::login(ringway.port(), USER, DATABASE);
            wire.query("SELECT inet_server_port()");
            let port = cluster.shards[0].replicas[0].port.to_string();
            wire.read_to_ready()
                .iter()
                .any(|frame| frame.tag == b'D' && frame.body.ends_with(port.as_bytes()))
        },
    );
    check(
        replay_all(
            &expected(&cluster),
            Target::One,
            &Door::plain(ringway.port()),
        ),
        Target::One,
    );
}

#[test]
fn two_shards_answer_as_the_traces_say() {
    let cluster = servers(2, 0);
    let ringway = Ringway::start(|port| config(&cluster, port, None));
    check(
        replay_all(
            &expected(&cluster),
            Target::Two,
            &Door::plain(ringway.port()),
        ),
        Target::Two,
    );
}

#[test]
fn copies_are_the_same_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let tls = support::certificate(directory.path());
    let cluster = servers_with(1, 0, Some(tls.clone()));
    let ringway = Ringway::start(|port| config(&cluster, port, Some(&tls)));
    let mut traces = expected(&cluster);
    traces.retain(|trace| trace.name().starts_with("copy"));
    let door = Door {
        port: ringway.port(),
        tls: Some(tls.certificate),
    };
    check(replay_all(&traces, Target::One, &door), Target::Tls);
}
