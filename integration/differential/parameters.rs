//! Parameters where there are none, and what LIMIT and OFFSET take, over shards as on one server.

use crate::support::wire::{Frame, Wire, execute, frame};

use super::world::World;
use ringway::demo::answer::Protocol;

/// Each with a parameter that a simple query has no value for.
const WITHOUT_VALUES: &[&str] = &[
    "SELECT $1",
    "SELECT $2",
    "SELECT code FROM countries WHERE name = $1",
    "SELECT id FROM mid WHERE id = $1",
    "SELECT id FROM mid WHERE id = 3 AND v = $1",
    "SELECT id FROM mid WHERE id IN (1, $1)",
    "SELECT id FROM mid WHERE id IN ($2, $1)",
    "SELECT id FROM mid WHERE id = ANY ($1)",
    "SELECT id FROM mid WHERE id BETWEEN $1 AND 3",
    "SELECT id FROM mid WHERE id = $1 OR v = 'x'",
    "SELECT id FROM mid WHERE v = $1",
    "SELECT $1, count(*) FROM mid",
    "SELECT count(*) FROM mid WHERE v = $3",
    "SELECT id FROM mid ORDER BY id LIMIT $1",
    "SELECT id FROM mid ORDER BY id OFFSET $1",
    "SELECT id FROM mid ORDER BY id LIMIT $1 OFFSET $2",
    "SELECT id FROM mid WHERE id = 3 LIMIT $1",
    "SELECT v FROM mid GROUP BY v HAVING count(*) > $1",
    "SELECT id FROM mid WHERE v = $1 ORDER BY id FOR UPDATE",
    "SELECT id FROM mid WHERE id = $1 FOR UPDATE",
    "SELECT count(*) FROM mid a JOIN people b ON a.v = b.name WHERE a.id > $1",
    "SELECT count(*) FROM mid a JOIN people b ON a.v = b.name AND b.id = $1",
    "SELECT a.id FROM mid a JOIN people b ON a.v = b.name ORDER BY 1 LIMIT $1",
    "SELECT id FROM mid UNION SELECT id FROM people WHERE id = $1",
    "SELECT id FROM branches, mid WHERE country = $1 AND id = $2",
    "SELECT * FROM parcels WHERE tenant = $1 AND code = $2",
    "SELECT * FROM readings WHERE sensor = $1",
    "INSERT INTO mid (id) VALUES ($1)",
    "INSERT INTO mid (id, v) VALUES (901, $1)",
    "INSERT INTO mid (id, v) VALUES (901, 'a'), ($1, 'b')",
    "INSERT INTO mid (id, v) VALUES (901, 'a'), (902, $1)",
    "INSERT INTO mid (id, v) VALUES ($1, 'a'), ($2, 'b')",
    "INSERT INTO mid (id, v) VALUES ($2, $1)",
    "INSERT INTO mid (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET v = $2",
    "INSERT INTO mid (id) VALUES ($1) RETURNING id",
    "INSERT INTO parcels (tenant, code) VALUES ($1, $2)",
    "INSERT INTO branches (country) VALUES ($1)",
    "INSERT INTO readings (sensor) VALUES ($1)",
    "INSERT INTO mid (id, v) SELECT id + 1000, $1 FROM people",
    "INSERT INTO mid (id, v) SELECT $1, name FROM people",
    "INSERT INTO mid (id, v) SELECT id, v FROM mid WHERE id = $1",
    "UPDATE mid SET v = 'x' WHERE id = $1",
    "UPDATE mid SET v = $1 WHERE id = 3",
    "UPDATE mid SET v = $1",
    "UPDATE mid SET v = 'x' WHERE id IN (1, $1)",
    "UPDATE mid SET id = $1 WHERE id = 3",
    "UPDATE mid SET id = id + $1",
    "UPDATE countries SET name = $1",
    "DELETE FROM mid WHERE id = $1",
    "DELETE FROM mid WHERE v = $1",
    "DELETE FROM countries WHERE code = $1",
    "COPY (SELECT id FROM mid WHERE v = $1 ORDER BY id) TO STDOUT",
    "COPY (SELECT id FROM mid ORDER BY id LIMIT $1) TO STDOUT",
    "COPY (SELECT a.id FROM mid a JOIN people b ON a.v = b.name LIMIT $1) TO STDOUT",
    "EXPLAIN (COSTS OFF) SELECT id FROM mid WHERE id = $1",
    "DECLARE c CURSOR FOR SELECT id FROM mid ORDER BY id LIMIT $1",
    "DECLARE c CURSOR FOR SELECT a.id FROM mid a JOIN people b ON a.v = b.name LIMIT $1",
    "DECLARE c CURSOR FOR SELECT id FROM mid WHERE v = $1",
    "DECLARE c CURSOR WITH HOLD FOR SELECT id FROM mid WHERE id = $1",
    "SELECT id FROM mid WHERE id = 3; SELECT id FROM mid WHERE id = $1",
    "SELECT nosuch FROM mid WHERE id = $1",
    "SELECT id FROM mid WHERE id = $1 AND nosuch = 3",
    "SELECT id FROM mid WHERE id = $0",
    "VALUES ($1)",
];

/// Written after LIMIT or OFFSET.
const COUNTS: &[&str] = &[
    "3",
    "0",
    "+3",
    "- 1",
    "-1",
    "-0",
    "-(-3)",
    "- -3",
    "(3)",
    "NULL",
    "(NULL)",
    "ALL",
    "''",
    "' '",
    "'3'",
    "' 3 '",
    "'+3'",
    "'-3'",
    "'\t3\n'",
    "'5.5'",
    "'1e1'",
    "'x'",
    "'3 4'",
    "'0x2'",
    "'0b11'",
    "'1_0'",
    "'_3'",
    "'NaN'",
    "'99999999999999999999'",
    "'9223372036854775807'",
    "'-9223372036854775808'",
    "-'3'",
    "-'-3'",
    "-'-9223372036854775808'",
    "-'9223372036854775807'",
    "-'x'",
    "E'3'",
    "E'\\x33'",
    "$$3$$",
    "' 99999999999999999999'",
    "U&'\\0033'",
    "'it''s'",
    "1e0",
    "2e-1",
    "1e30",
    "2.5",
    "3.5",
    "0.5",
    "0.4",
    "-0.4",
    "-0.5",
    "-2.5",
    "0x2",
    "0b11",
    "1_0",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "99999999999999999999",
    "2::smallint",
    "2.5::numeric",
    "2.5::float8",
    "3.5::float8",
    "'2.5'::numeric",
    "'2'::int",
    "'2'::text",
    "2::bigint",
    "-2::bigint",
    "true",
    "1 + 1",
    "(1 + 1)",
    "(SELECT 2)",
    "length('ab')",
    "DATE '2020-01-01'",
    "id",
];

/// Type, whether it is in binary format, and the value.
type Value = (u32, bool, Option<&'static [u8]>);

const VALUES: &[Value] = &[
    (0, false, Some(b"3")),
    (0, false, Some(b"")),
    (0, false, Some(b" 3 ")),
    (0, false, Some(b"\x0b3\x0c")),
    (0, false, Some("\u{a0}3".as_bytes())),
    (0, false, Some(b"'3'")),
    (0, false, Some(b"-1")),
    (0, false, Some(b"+3")),
    (0, false, Some(b"5.5")),
    (0, false, Some(b"1e1")),
    (0, false, Some(b"0x2")),
    (0, false, Some(b"1_0")),
    (0, false, Some(b"x")),
    (0, false, Some(b"9223372036854775808")),
    (0, false, Some(b"-9223372036854775808")),
    (0, false, None),
    (0, true, Some(&[0, 0, 0, 0, 0, 0, 0, 3])),
    (0, true, Some(&[0, 0, 0, 3])),
    (0, true, Some(&[0, 3])),
    (0, true, Some(&[255; 8])),
    (0, true, None),
    (20, false, Some(b"3")),
    (20, true, Some(&[0, 0, 0, 0, 0, 0, 0, 3])),
    (20, true, Some(&[255; 8])),
    (20, true, Some(&[128, 0, 0, 0, 0, 0, 0, 0])),
    (20, true, Some(&[0, 3])),
    (20, true, None),
    (23, false, Some(b" 3")),
    (23, false, Some(b"")),
    (23, false, Some(b"x")),
    (23, false, Some(b"2147483648")),
    (23, true, Some(&[0, 0, 0, 3])),
    (23, true, Some(&[0, 0, 0, 0, 0, 0, 0, 3])),
    (21, false, Some(b"3")),
    (21, false, Some(b"40000")),
    (21, true, Some(&[0, 3])),
    (21, true, Some(&[0, 0, 0, 3])),
    (1700, false, Some(b"3")),
    (1700, false, Some(b"2.5")),
    (1700, false, Some(b"-0.4")),
    (1700, false, Some(b"-2.5")),
    (1700, false, Some(b"NaN")),
    (1700, false, Some(b"Infinity")),
    (1700, false, Some(b"1e1")),
    (1700, true, Some(&[0, 1, 0, 0, 0, 0, 0, 0, 0, 3])),
    (701, false, Some(b"2.5")),
    (701, false, Some(b"3.5")),
    (701, true, Some(&[64, 4, 0, 0, 0, 0, 0, 0])),
    (700, false, Some(b"2.5")),
    (700, true, Some(&[64, 32, 0, 0])),
    (25, false, Some(b"3")),
    (25, true, Some(b"3")),
    (1043, false, Some(b"3")),
    (26, false, Some(b"3")),
    (26, true, Some(&[0, 0, 0, 3])),
    (16, false, Some(b"t")),
    (705, false, Some(b"3")),
    (705, true, Some(b"3")),
];

/// With a parameter in LIMIT or OFFSET.
const LIMITED: &[&str] = &[
    "SELECT id FROM mid ORDER BY id LIMIT $1",
    "SELECT id FROM mid ORDER BY id OFFSET $1",
    "SELECT id FROM mid ORDER BY id DESC LIMIT 4 OFFSET $1",
    "SELECT v, count(*) FROM mid GROUP BY v ORDER BY v LIMIT $1",
    "SELECT id FROM mid ORDER BY id FETCH FIRST $1 ROWS ONLY",
    "SELECT id FROM mid ORDER BY id LIMIT -$1",
];

/// All that both servers must say alike.
fn told(frames: &[Frame]) -> String {
    let word = |frame: &Frame| match frame.tag {
        b'E' => {
            let fields = frame.fields();
            let field = |letter| fields.get(&letter).cloned().unwrap_or_default();
            Some(format!("{} {}", field('C'), field('M')))
        }
        b'D' | b'C' | b'Z' | b'd' => Some(frame.body.escape_ascii().to_string()),
        _ => None,
    };
    frames.iter().filter_map(word).collect::<Vec<_>>().join(" ")
}

/// 0A000 with a reason.
fn is_refusal(frames: &[Frame]) -> bool {
    let error = frames.iter().find(|frame| frame.tag == b'E');
    error.is_some_and(|error| error.code() == "0A000" && error.fields().contains_key(&'D'))
}

struct Pair {
    ringway: Wire,
    plain: Wire,
    found: Vec<String>,
    refused: Vec<String>,
}

impl Pair {
    fn of(world: &World, protocol: Protocol) -> Self {
        let (ringway, plain) = world.wires(protocol);
        Self {
            ringway,
            plain,
            found: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// In a block, which both roll back.
    fn compare(&mut self, name: &str, messages: &[u8], ask: impl Fn(&mut Wire, &[u8])) {
        let run = |wire: &mut Wire| {
            wire.ask("BEGIN");
            ask(wire, messages);
            let frames = wire.read_to_ready();
            wire.ask("ROLLBACK");
            frames
        };
        let got = run(&mut self.ringway);
        if is_refusal(&got) {
            self.refused.push(format!("{name}: {}", told(&got)));
            return;
        }
        let wanted = run(&mut self.plain);
        if told(&got) != told(&wanted) {
            let (got, wanted) = (told(&got), told(&wanted));
            self.found
                .push(format!("{name}\n  ringway: {got}\n  plain:   {wanted}"));
        }
    }

    fn simple(&mut self, sql: &str) {
        self.compare(sql, sql.as_bytes(), |wire, sql| {
            wire.query(std::str::from_utf8(sql).unwrap());
        });
    }

    fn extended(&mut self, sql: &str, values: &[Value]) {
        let name = format!("{sql} {values:?}");
        let messages = [parsed(sql, values), bound(values), execute("", 0)].concat();
        self.compare(&name, &messages, |wire, messages| {
            wire.send_bytes(messages);
            wire.send(b'S', b"");
        });
    }

    fn check(&self) {
        assert!(self.found.is_empty(), "{}", self.found.join("\n"));
        assert!(self.refused.is_empty(), "{}", self.refused.join("\n"));
    }
}

fn parsed(sql: &str, values: &[Value]) -> Vec<u8> {
    let mut body = format!("\0{sql}\0").into_bytes();
    body.extend_from_slice(&(values.len() as u16).to_be_bytes());
    for (oid, ..) in values {
        body.extend_from_slice(&oid.to_be_bytes());
    }
    frame(b'P', &body)
}

fn bound(values: &[Value]) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend_from_slice(&(values.len() as u16).to_be_bytes());
    for (_, binary, _) in values {
        body.extend_from_slice(&[0, u8::from(*binary)]);
    }
    body.extend_from_slice(&(values.len() as u16).to_be_bytes());
    for (_, _, value) in values {
        let length = value.map_or(-1, |value| value.len() as i32);
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(value.unwrap_or_default());
    }
    body.extend_from_slice(&[0, 0]);
    frame(b'B', &body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_without_a_value_is_told_as_by_one_server() {
    let world = World::start("parameters", 2).await;
    let mut pair = Pair::of(&world, Protocol::Simple);
    for sql in WITHOUT_VALUES {
        pair.simple(sql);
    }
    pair.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_take_what_they_take_on_one_server() {
    let world = World::start("limits", 2).await;
    let mut pair = Pair::of(&world, Protocol::Extended);
    for count in COUNTS {
        for clause in ["LIMIT", "OFFSET", "LIMIT 4 OFFSET"] {
            let sql = format!("SELECT id FROM mid ORDER BY id {clause} {count}");
            pair.simple(&sql);
            pair.extended(&sql, &[]);
        }
    }
    for sql in LIMITED {
        for value in VALUES {
            pair.extended(sql, &[*value]);
        }
    }
    pair.check();
}
