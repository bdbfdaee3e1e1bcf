//! Generated transaction blocks over several shards, in texts of several statements and in pipelines, beside one
//! plain server: each message is answered alike or refused before it has an effect, and the rows are the same
//! after each script. `RINGWAY_STATEMENTS` and `RINGWAY_SEED` are as in `generated.rs`; a script is one seed.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::wire::Wire;
use crate::two_phase::{Proxy, World};

/// Messages of one script, and statements of one message, at most.
const MESSAGES: usize = 14;
const TOGETHER: usize = 4;
const MOST_DIFFERENCES: usize = 10;

/// `c` belongs to `t` by a key that is looked at only when the transaction ends, and so are values of 13.
const SCHEMA: &str = "
    ALTER TABLE t ADD CHECK (v < 1000);
    CREATE TABLE c (k bigint REFERENCES t DEFERRABLE INITIALLY DEFERRED, n int, PRIMARY KEY (k, n));
    CREATE TABLE r (id int PRIMARY KEY, v int NOT NULL);
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';
    CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON t DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW WHEN (NEW.v = 13) EXECUTE FUNCTION fail()";
const ROWS: [&str; 3] = [
    "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8)",
    "INSERT INTO c VALUES (1, 1), (2, 1), (5, 1), (5, 2)",
    "INSERT INTO r VALUES (1, 1), (2, 2)",
];
const TABLES: [&str; 3] = ["t", "c", "r"];

/// A plain server, and Ringway in front of shards.
struct Pair {
    plain: World,
    world: World,
    proxy: Proxy,
}

#[derive(Debug, Default)]
struct Tally {
    messages: usize,
    refused: usize,
    failed: usize,
    different: Vec<String>,
}

impl Pair {
    fn start(shards: usize) -> Self {
        let world = World::start(shards, SCHEMA);
        let tables = "c = { key = \"k\" }\nr = \"reference\"";
        Self {
            plain: World::start(1, SCHEMA),
            proxy: world.ringway("proxy", "", "", tables),
            world,
        }
    }

    /// Connections to all servers of a world.
    fn servers(world: &World) -> Vec<Wire> {
        let primaries = world.cluster.shards.iter().map(|shard| &shard.primary);
        let login = |primary: &ringway::demo::captive::Server| {
            Wire::login(primary.port, "ringway", &primary.database).0
        };
        primaries.map(login).collect()
    }
}

/// One protocol of a pair.
struct Lane<'p> {
    shards: usize,
    extended: bool,
    ringway: Wire,
    plain: Wire,
    /// Without Ringway.
    each: Vec<Wire>,
    proxy: &'p Proxy,
}

impl<'p> Lane<'p> {
    fn new(pair: &'p Pair, extended: bool) -> Self {
        let [plain] = Pair::servers(&pair.plain).try_into().ok().unwrap();
        let each = Pair::servers(&pair.world);
        Self {
            shards: each.len(),
            extended,
            ringway: pair.proxy.login(),
            plain,
            each,
            proxy: &pair.proxy,
        }
    }

    fn reset(&mut self) {
        let empty = format!("TRUNCATE {}", TABLES.join(", "));
        for server in self.each.iter_mut().chain([&mut self.plain]) {
            assert_eq!(server.ask(&empty), "TRUNCATE TABLE I");
        }
        for wire in [&mut self.ringway, &mut self.plain] {
            for rows in ROWS {
                assert!(wire.ask(rows).ends_with(" I"), "{rows}");
            }
        }
    }

    fn script(&mut self, seed: u64, statements: usize, tally: &mut Tally) {
        self.reset();
        let mut made = Maker {
            rng: StdRng::seed_from_u64(seed),
            open: false,
        };
        let mut log = Vec::new();
        let mut left = statements;
        let count = made.rng.random_range(4..=MESSAGES);
        for at in 0..=count {
            let last = at == count || left == 0;
            let message = match last {
                true => vec!["ROLLBACK".to_owned()],
                false => made.message(self.extended),
            };
            left = left.saturating_sub(message.len());
            tally.messages += 1;
            let answered = self.message(&message, tally);
            let status = answered.as_ref().map_or("", |(answer, _)| answer);
            made.open = !status.ends_with(" I");
            match answered {
                Ok((_, line)) => log.push(format!("{}: {line}", message.join("; "))),
                Err(found) => {
                    log.push(format!("{}: {found}", message.join("; ")));
                    self.tell(seed, &log, tally);
                    self.ringway = self.proxy.login();
                    self.plain.ask("ROLLBACK");
                    self.plain.ask("RESET ALL");
                    return;
                }
            }
            if last {
                break;
            }
        }
        if let Some(found) = self.differing_rows() {
            log.push(found);
            self.tell(seed, &log, tally);
        }
    }

    fn tell(&self, seed: u64, log: &[String], tally: &mut Tally) {
        let (shards, extended) = (self.shards, self.extended);
        let script = log.join("\n  ");
        let found =
            format!("RINGWAY_SEED={seed}, {shards} shards, extended: {extended}\n  {script}");
        tally.different.push(found);
    }

    /// Sends a message to both. Answers what came, and the same for the log.
    fn message(
        &mut self,
        statements: &[String],
        tally: &mut Tally,
    ) -> Result<(String, String), String> {
        let ask = |wire: &mut Wire, statements: &[String], extended: bool| match extended {
            false => wire.ask(&statements.join("; ")),
            true => {
                let texts: Vec<&str> = statements.iter().map(String::as_str).collect();
                wire.ask_extended(&texts)
            }
        };
        let got = ask(&mut self.ringway, statements, self.extended);
        let refused = ["0A000 ", "55000 "]
            .iter()
            .find(|code| got.contains(**code));
        let Some(code) = refused else {
            let wanted = ask(&mut self.plain, statements, self.extended);
            tally.failed += usize::from(wanted.ends_with('E'));
            return match comparable(&got) == comparable(&wanted) {
                true => Ok((got.clone(), got)),
                false => Err(format!("\n    ringway: {got}\n    plain:   {wanted}")),
            };
        };
        tally.refused += 1;
        let before = got.split(code).next().unwrap_or_default();
        if !self.extended && !before.is_empty() {
            return Err(format!("refused amid it: {got}"));
        }
        // What came before it in a pipeline has run; then the plain server sees an error too.
        let ran = words_of_tags(before);
        let mut instead = statements[..ran.min(statements.len() - 1)].to_vec();
        instead.push("refused".to_owned());
        let wanted = match self.extended {
            true => ask(&mut self.plain, &instead, true),
            false => self.plain.ask("refused"),
        };
        let status = |answer: &str| answer.chars().last();
        match status(&got) == status(&wanted) {
            true => Ok((got.clone(), got)),
            false => Err(format!("refused: {got}, where plain is: {wanted}")),
        }
    }

    fn differing_rows(&mut self) -> Option<String> {
        for table in TABLES {
            let sql = format!("SELECT string_agg(x::text, ' ' ORDER BY x) FROM {table} AS x");
            let rows = |wire: &mut Wire| -> Vec<String> {
                let answer = wire.ask(&sql);
                let rows = answer.split_whitespace();
                let rows = rows.filter(|word| word.contains('('));
                // The first has the length of the value before it.
                rows.map(|word| word[word.find('(').unwrap_or(0)..].to_owned())
                    .collect()
            };
            let wanted = rows(&mut self.plain);
            let mut each: Vec<Vec<String>> = self.each.iter_mut().map(rows).collect();
            let mut got = match table {
                "r" if each.iter().any(|rows| *rows != wanted) => {
                    return Some(format!("r differs: {each:?}, not {wanted:?}"));
                }
                "r" => each.swap_remove(0),
                _ => each.concat(),
            };
            got.sort_unstable();
            let mut wanted = wanted;
            wanted.sort_unstable();
            if got != wanted {
                return Some(format!("rows of {table}: {got:?}, not {wanted:?}"));
            }
        }
        None
    }
}

/// Which of several violations is told is left open.
fn comparable(answer: &str) -> String {
    let words = answer.split(' ').map(|word| match word {
        "23503" | "23505" | "23514" | "P0001" => "23",
        word => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// How many statements an answer tells the end of.
fn words_of_tags(answer: &str) -> usize {
    const TAGS: [&str; 17] = [
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT",
        "RELEASE",
        "SET",
        "RESET",
        "SHOW",
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "START",
        "DECLARE",
        "FETCH",
        "MOVE",
        "CLOSE",
    ];
    answer.split(' ').filter(|word| TAGS.contains(word)).count()
}

struct Maker {
    rng: StdRng,
    /// The client is in a block.
    open: bool,
}

impl Maker {
    fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    fn pick(&mut self, all: &[&str]) -> String {
        let at = self.below(all.len());
        all[at].to_owned()
    }

    fn message(&mut self, extended: bool) -> Vec<String> {
        let count = match self.below(10) {
            0..=5 => 1,
            _ => 1 + self.below(TOGETHER),
        };
        let mut texts: Vec<String> = (0..count).map(|_| self.statement()).collect();
        // An error of syntax is found before anything runs only in a text.
        if !extended && self.below(40) == 0 {
            let at = self.below(texts.len());
            texts[at] = "SELEC 1".to_owned();
        }
        texts
    }

    fn statement(&mut self) -> String {
        match self.below(100) {
            0..=24 => self.control(),
            25..=31 => self.setting(),
            32..=36 => self.failing(),
            37..=50 => self.read(),
            51..=58 => self.cursor(),
            _ => self.write(),
        }
    }

    fn control(&mut self) -> String {
        const BEGIN: [&str; 6] = [
            "BEGIN",
            "BEGIN",
            "BEGIN",
            "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "BEGIN READ ONLY",
            "BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE",
        ];
        const END: [&str; 16] = [
            "COMMIT",
            "COMMIT",
            "COMMIT",
            "END",
            "ROLLBACK",
            "COMMIT AND CHAIN",
            "ROLLBACK AND CHAIN",
            "SAVEPOINT a",
            "SAVEPOINT b",
            "SAVEPOINT a",
            "ROLLBACK TO a",
            "ROLLBACK TO b",
            "ROLLBACK TO SAVEPOINT a",
            "RELEASE a",
            "RELEASE b",
            "BEGIN",
        ];
        match self.open == (self.below(8) == 0) {
            true => {
                self.open = true;
                self.pick(&BEGIN)
            }
            false => self.pick(&END),
        }
    }

    fn setting(&mut self) -> String {
        self.pick(&[
            "SET LOCAL work_mem = '7MB'",
            "SET work_mem = '6MB'",
            "RESET work_mem",
            "SHOW work_mem",
            "SHOW transaction_isolation",
            "SHOW transaction_read_only",
            "SET CONSTRAINTS ALL IMMEDIATE",
            "SET CONSTRAINTS ALL DEFERRED",
            "SET TRANSACTION READ ONLY",
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        ])
    }

    fn failing(&mut self) -> String {
        let key = self.key();
        match self.below(5) {
            0 => "SELECT 1/0".to_owned(),
            1 => format!("SELECT 1/(v - v) FROM t WHERE k = {key}"),
            2 => "SELECT sum(1/(k - 3)) FROM t".to_owned(),
            3 => format!("SELECT nothing FROM t WHERE k = {key}"),
            _ => format!("UPDATE t SET v = 1000 WHERE k = {key}"),
        }
    }

    fn read(&mut self) -> String {
        let key = self.key();
        match self.below(6) {
            0 => format!("SELECT v FROM t WHERE k = {key}"),
            1 => "SELECT count(*), sum(v) FROM t".to_owned(),
            2 => "SELECT k, v FROM t ORDER BY k".to_owned(),
            3 => "SELECT sum(v) FROM r".to_owned(),
            4 => format!("SELECT t.v, c.n FROM t JOIN c USING (k) WHERE k = {key} ORDER BY n"),
            _ => format!("SELECT current_setting('work_mem') FROM t WHERE k = {key}"),
        }
    }

    fn cursor(&mut self) -> String {
        let key = self.key();
        let name = self.pick(&["a", "a", "b"]);
        match self.below(12) {
            0 | 1 => format!("DECLARE {name} NO SCROLL CURSOR FOR SELECT k, v FROM t ORDER BY k"),
            2 => format!("DECLARE {name} NO SCROLL CURSOR FOR SELECT v FROM t WHERE k = {key}"),
            3 => {
                format!("DECLARE {name} CURSOR FOR SELECT v, count(*) FROM t GROUP BY v ORDER BY v")
            }
            4 => format!(
                "DECLARE {name} SCROLL CURSOR FOR SELECT k, rank() OVER (ORDER BY v, k) FROM t ORDER BY k"
            ),
            5 | 6 => format!("FETCH 2 FROM {name}"),
            7 => format!("FETCH {name}"),
            8 => format!("FETCH ALL FROM {name}"),
            9 => format!("MOVE {key} FROM {name}"),
            10 => format!("CLOSE {name}"),
            _ => "CLOSE ALL".to_owned(),
        }
    }

    fn write(&mut self) -> String {
        let (key, other, value) = (self.key(), self.key(), self.below(10));
        match self.below(14) {
            0..=4 => format!("UPDATE t SET v = v + {value} WHERE k = {key}"),
            5 => format!("UPDATE t SET v = v + {value} WHERE k = {key} RETURNING v"),
            6 => format!("UPDATE t SET v = 13 WHERE k = {key}"),
            7 => format!("UPDATE t SET v = v + 1 WHERE k IN ({key}, {other})"),
            8 => "UPDATE t SET v = v + 1".to_owned(),
            9 => format!("INSERT INTO t VALUES ({key}, {value})"),
            10 => format!("INSERT INTO t VALUES ({}, 1), ({}, 2)", key + 8, other + 20),
            11 => format!("DELETE FROM t WHERE k = {key}"),
            12 => format!("INSERT INTO c VALUES ({key}, {value})"),
            _ => format!("UPDATE r SET v = v + {value} WHERE id = 1"),
        }
    }

    fn key(&mut self) -> usize {
        1 + self.below(12)
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(statements: u64) {
    /// Of one script, about.
    const EACH: u64 = 14;
    let statements = number("RINGWAY_STATEMENTS").unwrap_or(statements);
    let first = number("RINGWAY_SEED").unwrap_or(1);
    let seeds = first..first + statements.div_ceil(EACH);
    let mut tally = Tally::default();
    for shards in [2, 4] {
        let pair = Pair::start(shards);
        for extended in [false, true] {
            let mut lane = Lane::new(&pair, extended);
            for seed in seeds.clone() {
                lane.script(seed, 10 * EACH as usize, &mut tally);
                if tally.different.len() >= MOST_DIFFERENCES {
                    break;
                }
            }
        }
        assert!(
            pair.world
                .each(crate::two_phase::PREPARED)
                .iter()
                .all(|count| count == "0")
        );
    }
    let Tally {
        messages,
        refused,
        failed,
        different,
    } = &tally;
    println!(
        "{messages} messages: {failed} left a block failed, {refused} refused, {} different",
        different.len()
    );
    assert!(different.is_empty(), "{}", different.join("\n\n"));
    assert!(
        refused * 20 < *messages,
        "{refused} of {messages} are refused"
    );
}

#[test]
fn generated_blocks_are_answered_as_by_one_server_or_refused() {
    run(250);
}

/// What `make test-differential` runs.
#[test]
#[ignore = "takes many minutes"]
fn many_generated_blocks_are_answered_as_by_one_server_or_refused() {
    run(20_000);
}
