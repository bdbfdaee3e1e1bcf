//! Generated conversations of a few clients, message by message beside a plain server: their replies, errors and
//! statuses are the same, and so are the rows that are left. What they send is in `clients.txt`. There is one
//! shard; every message may get another server connection, and those are everybody's. With replicas that lag,
//! reads see what was written by then.
//!
//! `RINGWAY_SCRIPTS` and `RINGWAY_SEED` say how many conversations, and from which seed on. One that differs is
//! made as short as it can be before it is told.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ringway::demo::captive::{CaptiveCluster, Spec};

use crate::support::wire::{Frame, Wire, cancel_request};
use crate::support::{self, Ringway, wait_until};
use crate::trace::{Message, describe};

const CLIENTS: usize = 3;
/// Messages, or pipelines, of one conversation, at most.
const STEPS: usize = 26;
/// A plain server that says nothing for so long is asked whether it waits for the client.
const QUIET: Duration = Duration::from_millis(5);
const LIMIT: Duration = Duration::from_secs(10);
/// For what goes before a script.
const RESET_LIMIT: Duration = Duration::from_secs(20);
const MOST_DIFFERENCES: usize = 12;
/// Connections that are held without a client of the conversation.
const HELD: usize = 2;

const SCHEMA: &str = "
    CREATE TABLE k (id int PRIMARY KEY, v text);
    CREATE TABLE c (id int, w int CHECK (w > 0));
    CREATE TABLE d (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE z (id serial, v text);
    CREATE TABLE w (v text);
    INSERT INTO w VALUES ('public');
    CREATE SCHEMA other;
    CREATE TABLE other.w (n int, v text);
    INSERT INTO other.w VALUES (1, 'other');
    CREATE SEQUENCE s;
    CREATE FUNCTION bump(int) RETURNS text LANGUAGE sql AS
      'UPDATE public.k SET v = v || $1 WHERE id = $1 RETURNING v';
    CREATE FUNCTION seen() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM public.k';
    CREATE FUNCTION raise_error(int) RETURNS int LANGUAGE plpgsql AS
      'BEGIN RAISE EXCEPTION ''own %'', $1 USING ERRCODE = ''UE00'' || $1, DETAIL = ''d'', HINT = ''h''; END';
    CREATE PROCEDURE work(int) LANGUAGE sql AS 'INSERT INTO public.k VALUES ($1, ''called'')';
    CREATE PROCEDURE twice(int) LANGUAGE plpgsql AS
      'BEGIN INSERT INTO public.k VALUES (30 + $1, ''a''); COMMIT; INSERT INTO public.k VALUES (30 + $1, ''b''); END';
    GRANT ALL ON ALL TABLES IN SCHEMA public, other TO plain;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO plain;
    GRANT ALL ON SCHEMA public, other TO plain";
/// Before each conversation.
const ROWS: &str = "
    TRUNCATE k, c, d, z RESTART IDENTITY;
    INSERT INTO k SELECT id, 'v' || id FROM generate_series(1, 5) id;
    INSERT INTO d VALUES (1), (2);
    ALTER SEQUENCE s RESTART;
    DROP TABLE IF EXISTS made;
    SELECT lo_unlink(oid) FROM pg_largeobject_metadata";
/// After it.
const LEFT: &str = "
    SELECT (SELECT string_agg(k::text, ' ' ORDER BY k) FROM k), (SELECT string_agg(c::text, ' ' ORDER BY c) FROM c),
      (SELECT string_agg(d::text, ' ' ORDER BY d) FROM d), (SELECT string_agg(z::text, ' ' ORDER BY z) FROM z),
      (SELECT string_agg(oid || encode(lo_get(oid), 'hex'), ' ' ORDER BY oid) FROM pg_largeobject_metadata),
      (SELECT last_value || is_called::text FROM s), to_regclass('made')";
/// What each client is asked at the end.
const LAST: [&str; 6] = [
    "ROLLBACK",
    "SELECT current_user, session_user, nullif(current_setting('my.own', true), ''), current_setting('work_mem'), \
     current_setting('search_path'), current_setting('TimeZone'), current_setting('DateStyle'), \
     current_setting('client_encoding'), current_setting('default_transaction_isolation'), \
     current_setting('default_transaction_read_only'), current_setting('standard_conforming_strings'), \
     current_setting('application_name'), current_setting('client_min_messages')",
    "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind <> 'i' ORDER BY 1",
    "SELECT objid, mode FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() ORDER BY 1, 2",
    "SELECT name FROM pg_cursors WHERE name <> '' ORDER BY 1",
    "SELECT id, v FROM public.k ORDER BY id",
];

/// The sections of `clients.txt`.
struct Lines(BTreeMap<String, Vec<String>>);

impl Lines {
    fn read() -> Self {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/integration/differential/clients.txt"
        );
        let text = std::fs::read_to_string(path).unwrap();
        let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut name = String::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'))
            {
                Some(section) => name = section.to_owned(),
                // An empty line is the text of an empty query, once.
                None if line.is_empty() && name != "work" => {}
                None => sections
                    .entry(name.clone())
                    .or_default()
                    .push(line.to_owned()),
            }
        }
        Self(sections)
    }

    fn of(&self, section: &str) -> &[String] {
        &self.0[section]
    }
}

/// One message or pipeline of a client, or what is done to Ringway alone.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// As lines of a wire trace.
    Send(usize, Vec<String>),
    /// Somebody else takes a server connection, or gives it back.
    Hold(usize),
    /// A CancelRequest for a client of whom nothing is under way.
    Cancel(usize),
}

#[derive(Debug, Clone)]
struct Script {
    startups: Vec<String>,
    steps: Vec<Step>,
}

struct Maker<'l> {
    rng: StdRng,
    lines: &'l Lines,
}

impl Maker<'_> {
    fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    fn line(&mut self, section: &str) -> String {
        let lines = self.lines.of(section);
        let line = &lines[self.rng.random_range(0..lines.len())];
        let n = self.rng.random_range(1..7).to_string();
        let names = ["", "", "a", "b"];
        let s = names[self.below(4)];
        let p = ["", "", "p", "q"][self.below(4)];
        line.replace("{n}", &n).replace("{s}", s).replace("{p}", p)
    }

    fn script(&mut self) -> Script {
        let startups = (0..CLIENTS).map(|_| self.line("startup")).collect();
        let count = self.rng.random_range(6..=STEPS);
        let mut who = 0;
        // A conversation is mostly about a few kinds of things.
        let taste = self.below(4);
        let steps = (0..count)
            .map(|_| {
                if self.below(3) == 0 {
                    who = self.below(CLIENTS);
                }
                match self.below(24) {
                    0 | 1 => Step::Hold(self.below(HELD)),
                    2 => Step::Cancel(self.below(CLIENTS)),
                    _ => Step::Send(who, self.message(taste)),
                }
            })
            .collect();
        Script { startups, steps }
    }

    fn message(&mut self, taste: usize) -> Vec<String> {
        let extended = [2, 8, 5, 4][taste];
        match self.below(12) {
            0 => parts(&self.line("copies")),
            at if at <= extended => self.pipeline(),
            _ => {
                let count = if self.below(4) == 0 {
                    2 + self.below(3)
                } else {
                    1
                };
                let mut texts: Vec<_> = (0..count).map(|_| self.sql()).collect();
                if texts.len() > 1 {
                    // Among other statements of a text names are a server's own (docs/session-state.md).
                    let names = ["PREPARE", "EXECUTE", "DEALLOCATE", "LISTEN"];
                    texts.retain(|text| !names.iter().any(|name| text.contains(name)));
                }
                vec![format!("Query {}", quoted(&texts.join("; ")))]
            }
        }
    }

    fn sql(&mut self) -> String {
        match self.below(20) {
            0..=4 => self.line("control"),
            5..=8 => self.line("settings"),
            9..=13 => self.line("state"),
            _ => self.line("work"),
        }
    }

    /// Right ones, put together wrongly now and then.
    fn pipeline(&mut self) -> Vec<String> {
        let mut messages = Vec::new();
        for _ in 0..1 + self.below(3) {
            match self.below(3) {
                0 => {
                    let mut sql = self.sql();
                    // One that is missing is missed at Bind, not at Execute; one may execute itself.
                    while sql.contains("EXECUTE") {
                        sql = self.sql();
                    }
                    let sql = quoted(&sql);
                    let name = ["", "a", "b"][self.below(3)];
                    messages.push(format!("Parse \"{name}\" {sql}"));
                    messages.push(format!("Bind \"\" \"{name}\""));
                    if self.below(2) == 0 {
                        messages.push("Describe portal \"\"".to_owned());
                    }
                    messages.push(format!("Execute \"\" {}", self.below(3)));
                }
                _ => messages.extend(parts(&self.line("messages"))),
            }
            match self.below(12) {
                0 => messages.push("Flush".to_owned()),
                1 => messages.push("Sync".to_owned()),
                _ => {}
            }
        }
        match self.below(12) {
            0 => {
                let at = self.below(messages.len());
                messages.remove(at);
            }
            1 => {
                let at = self.below(messages.len());
                messages.insert(at, messages[at].clone());
            }
            2 => {
                let (a, b) = (self.below(messages.len()), self.below(messages.len()));
                messages.swap(a, b);
            }
            _ => {}
        }
        let end = if self.below(10) == 0 { "Flush" } else { "Sync" };
        messages.push(end.to_owned());
        messages
    }
}

/// Each session has a schema for temporary tables of its own.
fn without_numbers(text: &str) -> String {
    let mut parts = text.split("pg_temp_");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("pg_temp_");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

fn parts(line: &str) -> Vec<String> {
    line.split(" ;; ").map(str::to_owned).collect()
}

fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{text}\"")
}

/// One side of a client.
struct Side {
    wire: Wire,
    login: Vec<Frame>,
}

impl Side {
    fn login(port: u16, database: &str, startup: &str) -> Self {
        let mut params: BTreeMap<&str, String> = BTreeMap::new();
        params.insert("user", "ringway".to_owned());
        params.insert("database", database.to_owned());
        for word in startup.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap();
            params.insert(name, value.replace("__", " "));
        }
        let params: Vec<_> = params
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        let mut wire = Wire::connect(port);
        wire.send_startup(3 << 16, &params);
        let login = wire.read_to_ready();
        Self { wire, login }
    }

    /// Frames until the server waits for more, or has closed; notifications apart.
    fn read_all(
        &mut self,
        mut ready: usize,
        told: &mut Vec<Frame>,
        waits: impl Fn(&Wire) -> bool,
    ) -> (Vec<Frame>, bool) {
        let mut frames = Vec::new();
        self.wire.set_limit(QUIET);
        let mut had_waited = false;
        loop {
            match self.wire.try_read_or_end() {
                None if had_waited => return (frames, true),
                // What it said before is here by then.
                None => had_waited = waits(&self.wire),
                Some(None) => return (frames, false),
                Some(Some(frame)) => {
                    ready = ready.saturating_sub(usize::from(frame.tag == b'Z'));
                    match frame.tag {
                        b'A' => told.push(frame),
                        _ => frames.push(frame),
                    }
                    if ready == 0 && frames.last().is_some_and(|frame| frame.tag == b'Z') {
                        return (frames, true);
                    }
                }
            }
        }
    }

    /// What answers the same as `wanted`, and then perhaps the end.
    fn read_like(
        &mut self,
        wanted: &[Frame],
        ends: bool,
        told: &mut Vec<Frame>,
    ) -> (Vec<Frame>, bool) {
        self.wire.set_limit(LIMIT);
        let ready = |frames: &[Frame]| frames.iter().filter(|frame| frame.tag == b'Z').count();
        let is_ready = |frames: &[Frame]| frames.last().is_some_and(|frame| frame.tag == b'Z');
        let mut frames = Vec::new();
        loop {
            let is_all = match is_ready(wanted) {
                true => is_ready(&frames) && ready(&frames) >= ready(wanted),
                false => frames.len() >= wanted.len(),
            };
            if is_all && !ends {
                return (frames, true);
            }
            match self.wire.try_read_or_end() {
                Some(Some(frame)) if frame.tag == b'A' => told.push(frame),
                Some(Some(frame)) => frames.push(frame),
                Some(None) => return (frames, false),
                None => return (frames, true),
            }
        }
    }
}

/// Of BackendKeyData.
fn backend_pid(login: &[Frame]) -> i32 {
    let key = login.iter().find(|frame| frame.tag == b'K').unwrap();
    i32::from_be_bytes(key.body[..4].try_into().unwrap())
}

/// Bytes of a client on `client_port` that the process on `port` has not read yet (Linux: proc_net_tcp).
fn unread_bytes(port: u16, client_port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ends = format!("0100007F:{port:04X} 0100007F:{client_port:04X} ");
    let Some(at) = table.find(&ends) else {
        return 0;
    };
    // A state, then what is unsent and what is unread.
    let queues = table[at + ends.len()..].split_whitespace().nth(1).unwrap();
    usize::from_str_radix(queues.split_once(':').unwrap().1, 16).unwrap()
}

/// A client of both.
struct Client {
    plain: Side,
    ringway: Side,
    /// Notifications.
    told: [Vec<Frame>; 2],
    /// Of its startup packet.
    has_settings: bool,
}

enum Found {
    Same,
    Documented,
    /// Before or at this step.
    Different(usize, String),
}

struct Stage {
    cluster: CaptiveCluster,
    ringway: Ringway,
    /// A connection to the plain server that belongs to no client.
    observer: RefCell<Wire>,
    documented: Vec<String>,
}

impl Stage {
    /// `keys` are of `[databases.shop]`, `reads` of its reads.
    fn set(replicas: usize, keys: &str, reads: &str) -> Self {
        let cluster = support::cluster(&Spec {
            replicas,
            ..Spec::default()
        });
        let primary = &cluster.shards[0].primary;
        let exec = |database: &str, sql: &str| primary.exec_in(database, sql).unwrap();
        exec("shop", "CREATE DATABASE plain TEMPLATE template0");
        exec("shop", "CREATE ROLE plain LOGIN");
        for database in ["shop", "plain"] {
            exec(
                database,
                &format!("ALTER DATABASE {database} SET lock_timeout = 100"),
            );
            exec(database, SCHEMA);
        }
        let replicas = &cluster.shards[0].replicas;
        cluster.wait_caught_up().unwrap();
        for (at, replica) in replicas.iter().enumerate() {
            let delay = format!("ALTER SYSTEM SET recovery_min_apply_delay = {}", at * 60);
            replica.exec(&delay).unwrap();
            replica.exec("SELECT pg_reload_conf()").unwrap();
        }
        let mut ports = vec![primary.port];
        ports.extend(replicas.iter().map(|replica| replica.port));
        let servers: Vec<_> = ports
            .iter()
            .map(|port| format!("\"127.0.0.1:{port}\""))
            .collect();
        let servers = servers.join(", ");
        let ringway = Ringway::start(|port| {
            format!(
                "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n\
                 [users.plain]\nauth = \"trust\"\n[databases.shop]\nservers = [{servers}]\n{keys}\n\
                 [databases.shop.reads]\n{reads}\n"
            )
        });
        let lines = Lines::read();
        let observer = Wire::login(ports[0], "ringway", "postgres").0;
        Self {
            cluster,
            ringway,
            observer: RefCell::new(observer),
            documented: lines.of("documented").to_vec(),
        }
    }

    fn client(&self, startup: &str) -> Result<Client, String> {
        let client = Client {
            plain: Side::login(self.cluster.shards[0].primary.port, "plain", startup),
            ringway: Side::login(self.ringway.port(), "shop", startup),
            told: [Vec::new(), Vec::new()],
            has_settings: startup.contains('=') && startup != "user=plain",
        };
        match client.ringway.login.last() {
            Some(frame) if frame.tag == b'Z' => Ok(client),
            _ => Err(describe(&client.ringway.login)),
        }
    }

    /// Both have the same rows, and nobody is at work.
    fn reset(&self) {
        let primary = &self.cluster.shards[0].primary;
        primary
            .exec(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                 WHERE datname = 'plain' AND pid <> pg_backend_pid()",
            )
            .unwrap();
        wait_until(RESET_LIMIT, "nobody to be at work", || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND \
                       (state = 'active' OR state LIKE 'idle in%') AND pid <> pg_backend_pid()";
            primary.exec(sql).unwrap() == "0"
        });
        primary.exec_in("plain", ROWS).unwrap();
        // By Ringway, which answers for what it knows to be written.
        let mut wire = Wire::login(self.ringway.port(), "ringway", "shop").0;
        wait_until(RESET_LIMIT, "the rows", || {
            wire.query(ROWS);
            let frames = wire.read_to_ready();
            let error = frames.iter().find(|frame| frame.tag == b'E');
            // What somebody held a moment ago is waited for a short time only.
            let code = error.map(Frame::code);
            assert!(
                code.as_ref().is_none_or(|code| code == "55P03"),
                "{frames:?}"
            );
            code.is_none()
        });
    }

    fn left(&self) -> [String; 2] {
        let primary = &self.cluster.shards[0].primary;
        ["shop", "plain"].map(|database| primary.exec_in(database, LEFT).unwrap())
    }

    fn play(&self, script: &Script) -> Found {
        self.reset();
        let mut clients: BTreeMap<usize, Client> = BTreeMap::new();
        let mut held: BTreeMap<usize, Wire> = BTreeMap::new();
        let mut steps = script.steps.clone();
        for who in 0..CLIENTS {
            steps.push(Step::Send(
                who,
                vec!["CopyFail \"\"".to_owned(), "Sync".to_owned()],
            ));
            for sql in LAST {
                steps.push(Step::Send(who, vec![format!("Query {}", quoted(sql))]));
            }
        }
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Hold(which) => {
                    if held.remove(which).is_none() {
                        let mut wire = Wire::login(self.ringway.port(), "ringway", "shop").0;
                        let began = wire.ask("BEGIN; SELECT 1; SAVEPOINT x");
                        assert_eq!(began, "BEGIN 1 SELECT 1 SAVEPOINT T");
                        held.insert(*which, wire);
                    }
                }
                Step::Cancel(who) => {
                    if let Some(client) = clients.get(who) {
                        let mut wire = Wire::connect(self.ringway.port());
                        wire.send_untagged(&cancel_request(&client.ringway.login));
                        assert_eq!(wire.read(), None);
                    }
                }
                Step::Send(who, lines) => {
                    if !clients.contains_key(who) {
                        match self.client(&script.startups[*who]) {
                            Ok(client) => clients.insert(*who, client),
                            Err(found) => return Found::Different(at, format!("login: {found}")),
                        };
                    }
                    let client = clients.get_mut(who).unwrap();
                    match self.send(client, lines) {
                        Ok(true) => {}
                        Ok(false) => {
                            clients.remove(who);
                        }
                        Err(None) => return Found::Documented,
                        Err(Some(found)) => return Found::Different(at, found),
                    }
                }
            }
        }
        for (who, client) in &mut clients {
            // They come when they come.
            let count = client.told[0].len();
            client.ringway.wire.set_limit(LIMIT);
            while client.told[1].len() < count {
                match client.ringway.wire.try_read_or_end() {
                    Some(Some(frame)) if frame.tag == b'A' => client.told[1].push(frame),
                    _ => break,
                }
            }
            let texts = client.told.each_ref().map(|frames| {
                let mut lines: Vec<_> = frames
                    .iter()
                    .map(|f| describe(std::slice::from_ref(f)))
                    .collect();
                lines.sort();
                lines.concat()
            });
            if texts[0] != texts[1] {
                let found = format!("client {who} is told\n{}instead of\n{}", texts[1], texts[0]);
                return Found::Different(steps.len(), found);
            }
        }
        drop(clients);
        let [shop, plain] = self.left();
        match shop == plain {
            true => Found::Same,
            false => Found::Different(steps.len(), format!("left is\n{shop}\ninstead of\n{plain}")),
        }
    }

    /// Whether a plain server has read all that came over a connection, and is done with it.
    fn waits_for_client(&self, wire: &Wire, pid: i32) -> bool {
        let port = self.cluster.shards[0].primary.port;
        if unread_bytes(port, wire.local_port()) != 0 {
            return false;
        }
        // What was read ended a wait before.
        let sql = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}");
        let answer = self.observer.borrow_mut().ask(&sql);
        answer == "ClientRead SELECT 1 I" || answer == "SELECT 0 I"
    }

    /// Whether the session goes on.
    fn send(&self, client: &mut Client, lines: &[String]) -> Result<bool, Option<String>> {
        let messages: Vec<_> = lines.iter().map(|line| Message::parse(line)).collect();
        let ready = messages
            .iter()
            .filter(|message| message.wants_ready)
            .count();
        let bytes: Vec<u8> = messages
            .into_iter()
            .flat_map(|message| message.bytes)
            .collect();
        let [told_plain, told_ringway] = &mut client.told;
        let _ = client.plain.wire.try_send(&bytes);
        let pid = backend_pid(&client.plain.login);
        let waits = |wire: &Wire| self.waits_for_client(wire, pid);
        let (wanted, open) = client.plain.read_all(ready, told_plain, waits);
        let _ = client.ringway.wire.try_send(&bytes);
        let (got, got_open) = client.ringway.read_like(&wanted, !open, told_ringway);
        let texts = [&got, &wanted].map(|frames| {
            // Between RESET and its startup settings a client may be told of the server's own.
            let told = |frame: &&Frame| !client.has_settings || frame.tag != b'S';
            let text = describe(&frames.iter().filter(told).cloned().collect::<Vec<_>>());
            without_numbers(&text)
        });
        let is_open = |open| if open { "" } else { "< closed\n" };
        let [got, wanted] = [
            texts[0].clone() + is_open(got_open),
            texts[1].clone() + is_open(open),
        ];
        if got == wanted {
            return Ok(open);
        }
        if self.documented.iter().any(|part| got.contains(part)) {
            return Err(None);
        }
        Err(Some(format!("  ringway\n{got}  plain\n{wanted}")))
    }

    /// The script without whatever it differs without, too.
    fn shorten(&self, mut script: Script, at: usize, mut found: String) -> (Script, String) {
        script.steps.truncate(at + 1);
        let still = |script: &Script| match self.play(script) {
            Found::Different(_, found) => Some(found),
            Found::Same | Found::Documented => None,
        };
        match still(&script) {
            Some(again) => found = again,
            None => return (script, format!("{found}  and not once more")),
        }
        for step in (0..script.steps.len()).rev() {
            let mut shorter = script.clone();
            shorter.steps.remove(step);
            if let Some(again) = still(&shorter) {
                (script, found) = (shorter, again);
            }
        }
        for step in (0..script.steps.len()).rev() {
            let Step::Send(_, lines) = &script.steps[step] else {
                continue;
            };
            for line in (0..lines.len()).rev() {
                let mut shorter = script.clone();
                let Step::Send(_, lines) = &mut shorter.steps[step] else {
                    continue;
                };
                let gone = lines.remove(line);
                if lines.is_empty() || gone == "Sync" {
                    continue;
                }
                if let Some(again) = still(&shorter) {
                    (script, found) = (shorter, again);
                }
            }
        }
        for who in 0..CLIENTS {
            let mut shorter = script.clone();
            shorter.startups[who].clear();
            if let Some(again) = still(&shorter) {
                (script, found) = (shorter, again);
            }
        }
        (script, found)
    }

    fn run(&self, scripts: u64) {
        let number = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
        let first = number("RINGWAY_SEED").unwrap_or(1);
        let scripts = number("RINGWAY_SCRIPTS").unwrap_or(scripts);
        let lines = Lines::read();
        let (mut messages, mut documented, mut different) = (0, 0, Vec::new());
        for seed in first..first + scripts {
            let rng = StdRng::seed_from_u64(seed);
            let script = Maker { rng, lines: &lines }.script();
            messages += script.steps.len();
            match self.play(&script) {
                Found::Same => {}
                Found::Documented => documented += 1,
                Found::Different(at, found) => {
                    let (script, found) = self.shorten(script, at, found);
                    let mut text = format!("RINGWAY_SEED={seed} {:?}\n", script.startups);
                    for step in &script.steps {
                        let _ = writeln!(text, "  {step:?}");
                    }
                    text.push_str(&found);
                    println!("{text}");
                    different.push(text);
                    if different.len() == MOST_DIFFERENCES {
                        break;
                    }
                }
            }
        }
        println!(
            "{scripts} conversations, {messages} messages: {} different, {documented} end where it is documented",
            different.len()
        );
        assert!(different.is_empty(), "{}", different.join("\n"));
    }
}

const POOL: &str = "pool_size = 8\nmonitor_user = \"ringway\"";

#[test]
fn generated_conversations_are_those_with_one_server() {
    Stage::set(0, POOL, "").run(60);
}

#[test]
fn generated_conversations_reuse_statements() {
    let keys = format!("{POOL}\nreuse_unnamed_statements = true\nmax_prepared_statements = 2");
    Stage::set(0, &keys, "").run(40);
}

#[test]
fn generated_conversations_read_what_was_written() {
    let reads = "split = true\nmax_lag_ms = 60000\npoll_interval_ms = 20\nfreshness = \"global\"\n\
                 transactions = \"replica_until_write\"";
    Stage::set(2, POOL, reads).run(40);
}
