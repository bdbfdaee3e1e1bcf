//! SQL's cursors over several shards, beside one plain server: the same scripts get the same messages, in both
//! protocols.

use std::process::Command;

use ringway::demo::captive::Server;

use crate::support::wire::{Frame, Wire, bind, execute, frame, parse};
use crate::two_phase::{Proxy, World};

const MORE: &str = "CREATE TABLE w (k bigint PRIMARY KEY, word text COLLATE \"C\", n numeric)";
struct Pair {
    plain: World,
    world: World,
    proxy: Proxy,
}

impl Pair {
    fn start(shards: usize) -> Self {
        let plain = World::start(1, MORE);
        let world = World::start(shards, MORE);
        let proxy = world.ringway("proxy", "", "", "w = { key = \"k\" }");
        let pair = Self {
            plain,
            world,
            proxy,
        };
        // More rows than a shard is asked for at once.
        let numbers = (1..=1500).map(|k| format!("({k}, {})", k % 7));
        let words = (1..=60).map(|k| format!("({k}, 'word {}', {k}.{})", k % 11, k % 10));
        let tables = [("t", numbers.collect::<Vec<_>>()), ("w", words.collect())];
        for (table, rows) in tables {
            let insert = format!("INSERT INTO {table} VALUES {}", rows.join(", "));
            let wanted = format!("INSERT 0 {} I", rows.len());
            for wire in &mut pair.logins() {
                assert_eq!(wire.ask(&insert), wanted);
            }
        }
        pair
    }

    fn server(&self) -> &Server {
        &self.plain.cluster.shards[0].primary
    }

    /// To Ringway and to the plain server.
    fn logins(&self) -> [Wire; 2] {
        let plain = self.server();
        let plain = Wire::login(plain.port, "ringway", &plain.database).0;
        [self.proxy.login(), plain]
    }
}

/// A message without what differs between servers: OIDs of tables, texts of errors.
fn word(frame: &Frame) -> String {
    let text = String::from_utf8_lossy(&frame.body).replace('\0', " ");
    match frame.tag {
        b'E' | b'N' => format!("{}{}", char::from(frame.tag), frame.code()),
        b'T' => {
            let mut columns = String::new();
            let mut rest = &frame.body[2..];
            while let Some(end) = rest.iter().position(|byte| *byte == 0) {
                let name = String::from_utf8_lossy(&rest[..end]);
                let told = &rest[end + 7..end + 19];
                columns.push_str(&format!(" {name}{told:?}"));
                rest = &rest[end + 19..];
            }
            format!("T{columns}")
        }
        b'D' => format!("D{:?}", &frame.body),
        tag => format!("{} {text}", char::from(tag)),
    }
}

/// Of an answer with an error, what comes of Parse, Bind and Describe is left out: Ringway finds some errors
/// later than a server, which has the text at once.
fn words(frames: &[Frame]) -> Vec<String> {
    let fails = frames.iter().any(|frame| frame.tag == b'E');
    let told = |frame: &&Frame| !(fails && b"12ntT".contains(&frame.tag));
    frames.iter().filter(told).map(word).collect()
}

/// Parse, Bind, Describe and Execute, results in this format.
fn extended(sql: &str, format: u8) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, 0, 0, 0, 1, 0];
    body.push(format);
    [
        parse("", sql),
        frame(b'B', &body),
        frame(b'D', b"P\0"),
        execute("", 0),
    ]
    .concat()
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Simple,
    Text,
    Binary,
}

fn run(pair: &Pair, way: Way, script: &[&str]) {
    let mut wires = pair.logins();
    let mut log = Vec::new();
    for sql in script {
        let [got, wanted] = wires.each_mut().map(|wire| {
            match way {
                Way::Simple => wire.query(sql),
                Way::Text => wire.send_bytes(&extended(sql, 0)),
                Way::Binary => wire.send_bytes(&extended(sql, 1)),
            }
            if !matches!(way, Way::Simple) {
                wire.send(b'S', b"");
            }
            words(&wire.read_to_ready())
        });
        log.push(*sql);
        assert_eq!(got, wanted, "{way:?}: {log:#?}");
    }
}

const MERGED: &[&str] = &[
    "BEGIN",
    "DECLARE c NO SCROLL CURSOR FOR SELECT k, v FROM t ORDER BY k",
    "FETCH c",
    "FETCH 3 FROM c",
    "FETCH FORWARD 2 IN c",
    "MOVE 5 FROM c",
    "FETCH NEXT FROM c",
    "FETCH RELATIVE 3 FROM c",
    "FETCH ABSOLUTE 20 FROM c",
    "MOVE ABSOLUTE 22 c",
    "MOVE 0 c",
    "UPDATE t SET v = v + 100 WHERE k IN (24, 25, 26)",
    "FETCH 4 c",
    "SELECT sum(v) FROM t",
    "MOVE BACKWARD -700 FROM c",
    "FETCH 300 FROM c",
    "FETCH ALL FROM c",
    "FETCH ALL FROM c",
    "FETCH 0 c",
    "MOVE 0 c",
    "FETCH ABSOLUTE 2000 c",
    "CLOSE c",
    "SAVEPOINT s",
    "FETCH c",
    "ROLLBACK TO s",
    "CLOSE c",
    "ROLLBACK",
];

/// Cursors that end by themselves, LIMIT, groups; more than one at once.
const KINDS: &[&str] = &[
    "BEGIN",
    "DECLARE \"A b\" INSENSITIVE CURSOR FOR SELECT v, count(*), sum(k) FROM t GROUP BY v ORDER BY v",
    "DECLARE b NO SCROLL CURSOR WITHOUT HOLD FOR SELECT k FROM t ORDER BY k LIMIT 5 OFFSET 3;",
    "DECLARE d ASENSITIVE CURSOR FOR SELECT DISTINCT word FROM w ORDER BY word",
    "DECLARE e NO SCROLL CURSOR FOR SELECT k FROM t WHERE v > 100 ORDER BY k",
    "DECLARE f NO SCROLL CURSOR FOR SELECT n, word, k FROM w WHERE k < 20 ORDER BY word DESC, n",
    "DECLARE h NO SCROLL CURSOR FOR SELECT count(*) FROM t",
    "FETCH 2 FROM \"A b\"",
    "FETCH 2 FROM b",
    "FETCH 3 d",
    "FETCH e",
    "FETCH ALL f",
    "FETCH h",
    "FETCH 4 b",
    "FETCH b",
    "FETCH ALL FROM \"A b\"",
    "FETCH ALL FROM d",
    "SELECT count(*) FROM w",
    "CLOSE ALL",
    "SAVEPOINT s",
    "FETCH b",
    "ROLLBACK TO s",
    "DECLARE e NO SCROLL CURSOR FOR SELECT k FROM t WHERE v > 100 ORDER BY k",
    "FETCH e",
    "FETCH FIRST FROM e",
    "COMMIT",
];

const ERRORS: &[&str] = &[
    "DECLARE c CURSOR FOR SELECT k FROM t ORDER BY k",
    "FETCH c",
    "CLOSE c",
    "CLOSE ALL",
    "BEGIN",
    "DECLARE c CURSOR FOR SELECT k FROM t ORDER BY k",
    "DECLARE c CURSOR FOR SELECT v FROM t ORDER BY k",
    "FETCH c",
    "ROLLBACK",
    "BEGIN",
    "DECLARE c CURSOR FOR SELECT v FROM t WHERE k = 3",
    "DECLARE c CURSOR FOR SELECT k FROM t ORDER BY k",
    "ROLLBACK",
    "BEGIN",
    "DECLARE c CURSOR FOR SELECT k FROM t ORDER BY k",
    "DECLARE c CURSOR FOR SELECT v FROM t WHERE k = 3",
    "ROLLBACK",
    "BEGIN",
    "DECLARE c CURSOR FOR SELECT nothing FROM t ORDER BY k",
    "ROLLBACK",
    "BEGIN",
    "DECLARE c NO SCROLL CURSOR FOR SELECT k FROM t ORDER BY k",
    "SAVEPOINT s",
    "FETCH BACKWARD FROM c",
    "ROLLBACK TO s",
    "FETCH c",
    "ROLLBACK TO s",
    "DECLARE d NO SCROLL CURSOR FOR SELECT k / (k - 1) FROM t ORDER BY k",
    "SAVEPOINT u",
    "FETCH 2 d",
    "ROLLBACK TO u",
    "FETCH 2 d",
    "COMMIT",
    "FETCH c",
];

const SAVEPOINTS: &[&str] = &[
    "BEGIN",
    "DECLARE a NO SCROLL CURSOR FOR SELECT k FROM t ORDER BY k",
    "FETCH 2 a",
    "SAVEPOINT s",
    "FETCH 2 a",
    "DECLARE b NO SCROLL CURSOR FOR SELECT v FROM t ORDER BY k",
    "FETCH b",
    "ROLLBACK TO s",
    "FETCH 2 a",
    "DECLARE b NO SCROLL CURSOR FOR SELECT v + 1 FROM t ORDER BY k",
    "FETCH b",
    "SAVEPOINT u",
    "DECLARE e NO SCROLL CURSOR FOR SELECT v + 2 FROM t ORDER BY k",
    "RELEASE u",
    "FETCH e",
    "CLOSE b",
    "ROLLBACK TO s",
    "FETCH a",
    "SAVEPOINT u",
    "FETCH e",
    "ROLLBACK TO u",
    "FETCH b",
    "ROLLBACK TO u",
    "FETCH a",
    "COMMIT AND CHAIN",
    "FETCH a",
    "ROLLBACK",
];

/// Gathered: PostgreSQL itself goes backward.
const SCROLLED: &[&str] = &[
    "BEGIN",
    "DECLARE c SCROLL CURSOR FOR SELECT k, v FROM t WHERE k < 30 ORDER BY k",
    "FETCH 3 FROM c",
    "FETCH PRIOR FROM c",
    "FETCH LAST FROM c",
    "FETCH BACKWARD 3 FROM c",
    "FETCH ABSOLUTE 5 FROM c",
    "FETCH 0 FROM c",
    "MOVE BACKWARD ALL IN c",
    "FETCH c",
    "DECLARE r NO SCROLL CURSOR FOR SELECT rank() OVER (ORDER BY v, k), k FROM t ORDER BY k",
    "FETCH 5 FROM r",
    "UPDATE t SET v = v + 1 WHERE k < 10",
    "FETCH 3 FROM r",
    "CLOSE r",
    "FETCH 2 FROM c",
    "ROLLBACK",
];

const HELD: &[&str] = &[
    "DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT k, v FROM t ORDER BY k",
    "FETCH 2 c",
    "BEGIN",
    "UPDATE t SET v = v + 1 WHERE k = 3",
    "FETCH 2 c",
    "DECLARE d SCROLL CURSOR WITH HOLD FOR SELECT k FROM t ORDER BY k DESC",
    "FETCH 2 d",
    "ROLLBACK",
    "FETCH c",
    "FETCH d",
    "DECLARE d CURSOR WITH HOLD FOR SELECT k + 1 FROM t ORDER BY k",
    "DECLARE c CURSOR WITH HOLD FOR SELECT k FROM t ORDER BY k",
    "BEGIN",
    "DECLARE e NO SCROLL CURSOR WITH HOLD FOR SELECT v FROM t ORDER BY k",
    "FETCH 2 e",
    "COMMIT",
    "FETCH 2 e",
    "FETCH 2 d",
    "CLOSE c",
    "FETCH c",
    "CLOSE ALL",
    "FETCH d",
    "SELECT count(*) FROM pg_cursors WHERE is_holdable",
];

/// COMMIT reads them to their end, and fails on the shard of that key.
const HELD_FAIL: &[&str] = &[
    "BEGIN",
    "UPDATE t SET v = v + 1 WHERE k = 3",
    "DECLARE h NO SCROLL CURSOR WITH HOLD FOR SELECT 1 / (k - 700) FROM t ORDER BY k",
    "COMMIT",
    "FETCH h",
    "BEGIN",
    "UPDATE t SET v = v + 1 WHERE k = 3",
    "DECLARE h NO SCROLL CURSOR WITH HOLD FOR SELECT 1 / (k - 701) FROM t ORDER BY k",
    "COMMIT",
    "BEGIN",
    "UPDATE t SET v = v + 1 WHERE k = 3",
    "DECLARE h NO SCROLL CURSOR WITH HOLD FOR SELECT 1 / (k - 704) FROM t ORDER BY k",
    "COMMIT",
    "SELECT v FROM t WHERE k = 3",
];

const TEXTS: &[&str] = &[
    "BEGIN; DECLARE c NO SCROLL CURSOR FOR SELECT k FROM t ORDER BY k; FETCH 2 FROM c; FETCH 2 FROM c",
    "FETCH 2 FROM c; MOVE 2 FROM c; FETCH c",
    "CLOSE c; COMMIT",
    "DECLARE c CURSOR FOR SELECT k FROM t ORDER BY k; FETCH 3 c; CLOSE c",
    "DECLARE c CURSOR FOR SELECT k FROM t ORDER BY k; FETCH 3 c",
    "FETCH c",
    "BEGIN",
    "DECLARE c BINARY NO SCROLL CURSOR FOR SELECT k, v FROM t ORDER BY k",
    "FETCH 2 c",
    "ROLLBACK",
    "BEGIN READ ONLY",
    "DECLARE c NO SCROLL CURSOR FOR SELECT k FROM t ORDER BY k",
    "FETCH 3 c",
    "COMMIT",
    // In a pipeline DECLARE is told before it fails.
    "DECLARE h NO SCROLL CURSOR WITH HOLD FOR SELECT 1 / (k - 704) FROM t ORDER BY k",
    "FETCH h",
];

fn compare(shards: usize) {
    let pair = Pair::start(shards);
    for way in [Way::Simple, Way::Text, Way::Binary] {
        for script in [MERGED, KINDS, ERRORS, SAVEPOINTS, SCROLLED, HELD, HELD_FAIL] {
            run(&pair, way, script);
        }
    }
    run(&pair, Way::Simple, TEXTS);
    portals(&pair);
    let none = "SELECT count(*) FROM pg_cursors";
    assert!(pair.world.each(none).iter().all(|count| count == "0"));
}

#[test]
fn cursors_over_two_shards_are_one_servers() {
    compare(2);
}

#[test]
fn cursors_over_four_shards_are_one_servers() {
    compare(4);
}

/// Parameters of DECLARE, messages that name the cursor itself, row limits for FETCH, a name taken.
fn portals(pair: &Pair) {
    let describe =
        |kind: u8, name: &str| frame(b'D', format!("{}{name}\0", char::from(kind)).as_bytes());
    let close = |name: &str| frame(b'C', format!("P{name}\0").as_bytes());
    let steps: Vec<Vec<u8>> = vec![
        extended("BEGIN", 0),
        [
            parse("d", "DECLARE c NO SCROLL CURSOR FOR SELECT k, v FROM t WHERE k > $1 ORDER BY k LIMIT $2"),
            describe(b'S', "d"),
            bind("", "d", &["10", "40"]),
            describe(b'P', ""),
            execute("", 0),
        ]
        .concat(),
        [describe(b'P', "c"), execute("c", 3)].concat(),
        execute("c", 2),
        [parse("f", "FETCH 10 FROM c"), describe(b'S', "f"), bind("p", "f", &[])].concat(),
        [execute("p", 4), execute("p", 4), execute("p", 4), execute("p", 4)].concat(),
        [bind("", "f", &[]), describe(b'P', ""), execute("", 0), execute("", 0)].concat(),
        extended("MOVE 2 FROM c", 0),
        bind("c", "f", &[]),
        extended("ROLLBACK", 0),
        extended("BEGIN", 0),
        [bind("", "d", &["0", "5"]), execute("", 0), execute("c", 0), execute("c", 0)].concat(),
        [close("c"), execute("c", 0)].concat(),
        extended("ROLLBACK", 0),
        // Formats that change: what was read ahead comes again.
        [
            extended("BEGIN", 0),
            extended("DECLARE c CURSOR FOR SELECT k, v FROM t WHERE k <= 300 ORDER BY k", 0),
            extended("FETCH 5 FROM c", 0),
            extended("FETCH 150 FROM c", 1),
            extended("MOVE 2 FROM c", 0),
            extended("FETCH 3 FROM c", 1),
        ]
        .concat(),
        extended("FETCH 100 FROM c", 0),
        extended("FETCH 30 FROM c", 1),
        extended("FETCH ALL FROM c", 0),
        extended("ROLLBACK", 0),
        // On one server among several.
        [
            extended("BEGIN", 0),
            extended("DECLARE c SCROLL CURSOR FOR SELECT k, v FROM t WHERE k <= 300 ORDER BY k", 0),
        ]
        .concat(),
        [describe(b'P', "c"), execute("c", 3)].concat(),
        [extended("FETCH PRIOR FROM c", 1), execute("c", 2)].concat(),
        [close("c"), execute("c", 0)].concat(),
        extended("ROLLBACK", 0),
        // In one pipeline.
        [
            extended("BEGIN", 0),
            bind("", "d", &["0", "50"]),
            execute("", 0),
            extended("FETCH 2 FROM c", 0),
            extended("SAVEPOINT s", 0),
            extended("SELECT v FROM t WHERE k = 5", 0),
            extended("FETCH 2 FROM c", 0),
            extended("CLOSE c", 0),
            extended("COMMIT", 0),
            extended("FETCH c", 0),
        ]
        .concat(),
    ];
    let mut wires = pair.logins();
    for (at, messages) in steps.iter().enumerate() {
        let [got, wanted] = wires.each_mut().map(|wire| {
            wire.send_bytes(messages);
            wire.send(b'S', b"");
            words(&wire.read_to_ready())
        });
        assert_eq!(got, wanted, "step {at}");
    }
}

/// psql declares a cursor of its own for FETCH_COUNT.
#[test]
fn psql_reads_in_portions() {
    let pair = Pair::start(2);
    for sql in [
        "SELECT k, v FROM t ORDER BY k",
        "SELECT v, count(*) FROM t GROUP BY v ORDER BY v",
        "SELECT k, rank() OVER (ORDER BY v, k) FROM t ORDER BY k",
    ] {
        let ask = |port: u16, database: &str| {
            let url = format!("postgresql://ringway@127.0.0.1:{port}/{database}");
            let output = Command::new("psql")
                .args(["-X", "-A", "-v", "FETCH_COUNT=100", "-c", sql, &url])
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr)
        };
        let plain = pair.server();
        let wanted = ask(plain.port, &plain.database);
        assert_eq!(ask(pair.proxy.port(), "shop"), wanted, "{sql}");
    }
}

/// What a merge cannot do is refused by name, and the transaction goes on from its savepoint.
#[test]
fn what_cursors_over_shards_cannot_do_is_refused() {
    let pair = Pair::start(2);
    let mut wire = pair.proxy.login();
    for (sql, wanted) in [
        ("BEGIN", "BEGIN T"),
        (
            "DECLARE c CURSOR FOR SELECT k FROM t ORDER BY k",
            "DECLARE CURSOR T",
        ),
        ("FETCH c", "1 FETCH 1 T"),
        ("SAVEPOINT s", "SAVEPOINT T"),
        ("UPDATE t SET v = 0 WHERE CURRENT OF c", "0A000 E"),
        ("ROLLBACK TO s", "ROLLBACK T"),
        ("DECLARE d CURSOR FOR SELECT k FROM t FOR UPDATE", "0A000 E"),
        ("ROLLBACK TO s", "ROLLBACK T"),
        ("FETCH c", "2 FETCH 1 T"),
        ("FETCH BACKWARD 1 FROM c", "55000 E"),
        ("ROLLBACK", "ROLLBACK I"),
    ] {
        assert_eq!(wire.ask(sql), wanted, "{sql}");
    }
}
