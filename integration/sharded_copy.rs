//! COPY of sharded tables, message by message, beside one plain PostgreSQL with the same rows.

use bytes::{BufMut, BytesMut};
use ringway::demo::captive::{CaptiveCluster, Spec};

use crate::support::wire::{self, Frame, Wire};
use crate::support::{self, Ringway};

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, n integer CHECK (n < 1000), w text);
    CREATE TABLE r (id bigint PRIMARY KEY, w text);
    CREATE TABLE g (half bigint GENERATED ALWAYS AS (id / 2) STORED, id bigint PRIMARY KEY);";

/// A plain server, two shards, and Ringway in front of these.
pub struct World {
    plain: CaptiveCluster,
    pub shards: CaptiveCluster,
    pub ringway: Ringway,
}

impl World {
    fn start() -> Self {
        Self::start_with("")
    }

    /// With these keys of the database.
    pub fn start_with(keys: &str) -> Self {
        let spec = |shards| Spec {
            shards,
            ..Spec::default()
        };
        let (plain, shards) = (support::cluster(&spec(1)), support::cluster(&spec(2)));
        for shard in plain.shards.iter().chain(&shards.shards) {
            shard.primary.exec(TABLE).unwrap();
        }
        let ringway = Ringway::start(|port| {
            let mut toml = format!(
                "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n\
                 [databases.shop]\nserver_user = \"ringway\"\n{keys}\n[databases.shop.tables]\n\
                 t = {{ key = \"id\" }}\ng = {{ key = \"id\" }}\nr = \"reference\"\n"
            );
            for (at, shard) in shards.shards.iter().enumerate() {
                let port = shard.primary.port;
                toml.push_str(&format!(
                    "[[databases.shop.shards]]\nname = \"s{at}\"\nservers = [\"127.0.0.1:{port}\"]\n"
                ));
            }
            toml
        });
        Self {
            plain,
            shards,
            ringway,
        }
    }

    /// Connections to the plain server and to Ringway.
    pub fn both(&self) -> [Wire; 2] {
        let plain = self.plain.shards[0].primary.port;
        [plain, self.ringway.port()].map(|port| Wire::login(port, "ringway", "shop").0)
    }

    /// A connection to Ringway.
    pub fn through(&self) -> Wire {
        Wire::login(self.ringway.port(), "ringway", "shop").0
    }

    /// Behind Ringway's back.
    pub fn on_shard(&self, shard: usize, sql: &str) {
        self.shards.shards[shard].primary.exec(sql).unwrap();
    }

    /// What each shard answers.
    pub fn each(&self, sql: &str) -> Vec<String> {
        let shards = self.shards.shards.iter();
        shards
            .map(|shard| shard.primary.exec(sql).unwrap())
            .collect()
    }
}

/// Sends a COPY FROM STDIN with its data in pieces of `size`; answers the frames from its beginning to
/// ReadyForQuery.
pub fn copy_in(wire: &mut Wire, sql: &str, data: &[u8], size: usize) -> Vec<Frame> {
    wire.query(sql);
    let first = wire.read().expect("an answer");
    if first.tag != b'G' {
        let mut frames = vec![first];
        frames.extend(wire.read_to_ready());
        return frames;
    }
    let mut out = BytesMut::new();
    for piece in data.chunks(size) {
        out.put_u8(b'd');
        out.put_u32(4 + piece.len() as u32);
        out.put_slice(piece);
    }
    out.put_slice(b"c\0\0\0\x04");
    wire.send_bytes(&out);
    wire.read_to_ready()
}

/// Command tag, or SQLSTATE, message and context.
pub fn outcome(frames: &[Frame]) -> String {
    for frame in frames {
        match frame.tag {
            b'C' => return String::from_utf8_lossy(&frame.body).into_owned(),
            b'E' => {
                let fields = frame.fields();
                let field = |letter| fields.get(&letter).cloned().unwrap_or_default();
                return [field('C'), field('M'), field('W')].join("; ");
            }
            _ => {}
        }
    }
    format!("{frames:?}")
}

#[test]
fn mistakes_are_told_with_their_line_and_leave_nothing() {
    let world = World::start();
    let [mut plain, mut ringway] = world.both();
    let many: String = (1..=5000)
        .map(|id| format!("{id}\t{}\tw\n", id % 900))
        .collect();
    let late = format!("{many}5001\tx\tw\n");
    for (sql, data) in [
        ("COPY t FROM STDIN", "1\t1\ta\n2\t2\tb\n3\tx\tc\n4\t4\td\n"),
        ("COPY t FROM STDIN", "1\t1\ta\n2\t2\tb\ny\t3\tc\n4\t4\td\n"),
        ("COPY t FROM STDIN", "1\t1\ta\n2\t2\n"),
        ("COPY t FROM STDIN", "1\t1\ta\n2\t2\tb\tc\n"),
        ("COPY t FROM STDIN", "1\t1\ta\n2\t2\tb\n3\t3\tc\n1\t4\td\n"),
        (
            "COPY t FROM STDIN",
            "1\t1\ta\n2\t2\tb\n3\t1000\tc\n4\t4\td\n",
        ),
        ("COPY t FROM STDIN", "1\t1\ta\n2\t2\tb\n\\.x\n"),
        ("COPY t FROM STDIN", "1\t1\ta\n2\t2\tb\r\n"),
        (
            "COPY t FROM STDIN CSV HEADER",
            "id,n,w\n1,1,\"a\n\nb\"\n2,x,c\n",
        ),
        ("COPY t FROM STDIN CSV", "1,1,a\n2,2,b\n3,3,\"c\n4,4,d\n"),
        ("COPY t FROM STDIN", late.as_str()),
        ("COPY t (id, nosuch) FROM STDIN", "1\t1\n"),
        ("COPY t FROM STDIN (FORMAT binary)", "PGCOPY\nno"),
        ("COPY r FROM STDIN", "1\ta\n1\tb\n"),
    ] {
        for size in [7, 1 << 16] {
            let wanted = outcome(&copy_in(&mut plain, sql, data.as_bytes(), size));
            let got = outcome(&copy_in(&mut ringway, sql, data.as_bytes(), size));
            let end = data.len().saturating_sub(60);
            assert_eq!(got, wanted, "{sql}: … {}", &data[end..]);
        }
    }
    assert_eq!(world.each("SELECT count(*) FROM t"), ["0", "0"]);
    assert_eq!(world.each("SELECT count(*) FROM r"), ["0", "0"]);
    // NULL is told before a server has seen the row.
    let null = outcome(&copy_in(
        &mut ringway,
        "COPY t FROM STDIN",
        b"1\t1\ta\n\\N\t2\tb\n",
        100,
    ));
    assert!(
        null.starts_with("23502; null value in column \"id\""),
        "{null}"
    );
    assert!(null.ends_with("COPY t, line 2"), "{null}");
    // In a block it is a part of it.
    ringway.query("BEGIN");
    ringway.read_to_ready();
    let within = copy_in(&mut ringway, "COPY t FROM STDIN", many.as_bytes(), 1000);
    assert_eq!(outcome(&within), "COPY 5000\0");
    ringway.query("ROLLBACK");
    ringway.read_to_ready();
    let fine = copy_in(&mut ringway, "COPY t FROM STDIN", many.as_bytes(), 1000);
    assert_eq!(outcome(&fine), "COPY 5000\0");
}

#[test]
fn data_go_to_their_shards_and_come_back_in_every_format() {
    let world = World::start();
    let [mut plain, mut ringway] = world.both();
    let rows: String = (1..=2000)
        .map(|id| format!("{id}\t{}\tw {id}\n", id % 900))
        .collect();
    for wire in [&mut plain, &mut ringway] {
        let copied = copy_in(wire, "COPY t FROM STDIN", rows.as_bytes(), 333);
        assert_eq!(outcome(&copied), "COPY 2000\0");
        let copied = copy_in(wire, "COPY r FROM STDIN", b"1\ta\n2\tb\n", 3);
        assert_eq!(outcome(&copied), "COPY 2\0");
    }
    assert!(
        world
            .each("SELECT count(*) > 500 FROM t")
            .iter()
            .all(|many| many == "t")
    );
    assert_eq!(
        world.each("SELECT string_agg(w, ',' ORDER BY id) FROM r"),
        ["a,b", "a,b"]
    );
    for options in ["", " CSV HEADER", " BINARY"] {
        let from_both = [&mut plain, &mut ringway].map(|wire| {
            wire.query(&format!("COPY t TO STDOUT{options}"));
            let frames = wire.read_to_ready();
            assert_eq!(outcome(&frames), "COPY 2000\0");
            let ends = frames.iter().filter(|frame| frame.tag == b'c').count();
            assert_eq!(ends, 1);
            let data = frames.into_iter().filter(|frame| frame.tag == b'd');
            let data: Vec<Vec<u8>> = data.map(|frame| frame.body).collect();
            // The header is at the beginning, the mark at the end.
            let edges = (
                data[0].get(..11).map(<[u8]>::to_vec),
                data.last().unwrap().len(),
            );
            let mut sorted = data.clone();
            sorted[0].drain(..if options == " BINARY" { 19 } else { 0 });
            sorted.sort_unstable();
            (data.concat(), edges, sorted)
        });
        let [plain_out, ringway_out] = from_both;
        assert_eq!(plain_out.2, ringway_out.2, "{options}");
        if options == " BINARY" {
            assert_eq!(plain_out.1, ringway_out.1, "{options}");
        }
        // What came out goes in again.
        ringway.query("TRUNCATE t");
        ringway.read_to_ready();
        let again = copy_in(
            &mut ringway,
            &format!("COPY t FROM STDIN{options}"),
            &ringway_out.0,
            100,
        );
        assert_eq!(outcome(&again), "COPY 2000\0", "{options}");
    }
    assert_eq!(
        outcome(&copy_in(
            &mut ringway,
            "COPY g FROM STDIN",
            b"1\n2\n3\n4\n",
            100
        )),
        "0A000; COPY of sharded table \"g\" without a list of columns; "
    );
    let listed = copy_in(&mut ringway, "COPY g (id) FROM STDIN", b"1\n2\n3\n4\n", 100);
    assert_eq!(outcome(&listed), "COPY 4\0");
}

/// Frames of an answer with what is not to differ in them.
fn shown(frames: &[Frame]) -> Vec<(char, String)> {
    let all = frames.iter();
    all.map(|frame| match frame.tag {
        b'E' => ('E', outcome(std::slice::from_ref(frame))),
        tag => (char::from(tag), frame.body.escape_ascii().to_string()),
    })
    .collect()
}

#[test]
fn queries_over_shards_are_copied_message_by_message_as_by_one_server() {
    let world = World::start();
    let [mut plain, mut ringway] = world.both();
    let rows = "INSERT INTO t VALUES (1, 1, E'a\\tb'), (2, NULL, 'x'), (3, 3, NULL), (4, 1, ''), \
         (5, 5, E'\\\\.'), (6, 6, E'\\u00fc\\n')";
    for wire in [&mut plain, &mut ringway] {
        wire.query(rows);
        assert_eq!(outcome(&wire.read_to_ready()), "INSERT 0 6\0");
    }
    let queries = [
        "SELECT w, id, n FROM t ORDER BY id",
        "SELECT n, count(*) FROM t GROUP BY n ORDER BY n",
        "SELECT id FROM t ORDER BY id LIMIT 0",
        "SELECT count(DISTINCT n) FROM t",
        "SELECT nosuch FROM t ORDER BY id",
    ];
    let options = [
        "",
        " (FORMAT csv, HEADER, FORCE_QUOTE *)",
        " BINARY",
        " (QUOTE 'x')",
    ];
    for query in queries {
        for options in options {
            let sql = format!("COPY ({query}) TO STDOUT{options}");
            let [wanted, got] = [&mut plain, &mut ringway].map(|wire| {
                wire.query(&sql);
                shown(&wire.read_to_ready())
            });
            assert_eq!(got, wanted, "{sql}");
            let messages = [
                wire::parse("", &sql),
                wire::bind("", "", &[]),
                wire::execute("", 0),
                wire::frame(b'S', b""),
            ]
            .concat();
            let [wanted, got] = [&mut plain, &mut ringway].map(|wire| {
                wire.send_bytes(&messages);
                shown(&wire.read_to_ready())
            });
            assert_eq!(got, wanted, "{sql}");
        }
    }
}
