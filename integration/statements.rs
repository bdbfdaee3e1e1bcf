//! Prepared statements are bounded in bytes: per server connection, per client, over all clients.

use ringway::demo::captive::{CaptiveCluster, Spec};

use crate::memory::{peak, process};
use crate::support::wire::{Wire, bind, execute, frame, parse};
use crate::support::{self, Ringway, psql};

const LARGE: usize = 100_000;

/// A Ringway with so many connections to its one server.
fn start(cluster: &CaptiveCluster, pool_size: usize, more: &str) -> Ringway {
    let server = cluster.shards[0].primary.port;
    Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n\
             [users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\nservers = [\"127.0.0.1:{server}\"]\n\
             pool_size = {pool_size}\n{more}"
        )
    })
}

fn login(ringway: &Ringway) -> Wire {
    Wire::login(ringway.port(), "ringway", "shop").0
}

/// A text of so many bytes that answers `mark`.
fn text(mark: usize, bytes: usize) -> String {
    let rest = bytes.saturating_sub(40);
    format!("SELECT {mark} /* {} */", "x".repeat(rest))
}

fn prepare(name: &str, sql: &str) -> [Vec<u8>; 3] {
    let [bound, executed] = run(name);
    [parse(name, sql), bound, executed]
}

fn run(name: &str) -> [Vec<u8>; 2] {
    [bind("", name, &[]), execute("", 0)]
}

fn close(name: &str) -> [Vec<u8>; 1] {
    [frame(b'C', format!("S{name}\0").as_bytes())]
}

/// Places in the rows of SHOW CLIENTS and SHOW SERVERS.
const PREPARED_STATEMENTS: usize = 19;
const PREPARED_BYTES: usize = 22;

/// One column of what is shown of the connections to `shop`.
fn column(ringway: &Ringway, table: &str, at: usize) -> Vec<usize> {
    let url = format!("postgresql://ringway@127.0.0.1:{}/ringway", ringway.port());
    let rows = psql(&url, &format!("SHOW {table}"));
    let rows = rows.lines().map(|row| row.split('|').collect::<Vec<_>>());
    let of_shop = rows.filter(|row| row[2] == "shop");
    let mut values: Vec<_> = of_shop.map(|row| row[at].parse().unwrap()).collect();
    values.sort_unstable();
    values
}

#[test]
fn many_large_texts_over_few_servers_stay_within_their_bytes() {
    const ROUNDS: usize = 60;
    let cluster = support::cluster(&Spec::default());
    let ringway = start(&cluster, 2, "max_prepared_mib = 1\n");
    let mut clients: Vec<_> = (0..5).map(|_| login(&ringway)).collect();
    // What each client keeps to the end: 4 of 100 kB each, in all more than a server may keep.
    for (number, wire) in clients.iter_mut().enumerate() {
        for kept in 0..4 {
            let mark = 100 * number + kept;
            let answer = wire.ask_pipeline(&prepare(&format!("kept{kept}"), &text(mark, LARGE)));
            assert_eq!(answer, format!("{mark} SELECT 1 I"));
        }
    }
    // Many short ones that are gone again leave no room for long ones that are gone.
    let short = |n: usize| parse(&format!("short{n}"), &format!("SELECT {n}"));
    clients[0].ask_pipeline(&(0..500).map(short).collect::<Vec<_>>());
    let gone = |n: usize| close(&format!("short{n}")).concat();
    clients[0].ask_pipeline(&(0..500).map(gone).collect::<Vec<_>>());
    let pid = process(&ringway);
    let before = peak(pid);
    for round in 0..ROUNDS {
        for (number, wire) in clients.iter_mut().enumerate() {
            let mark = 1000 + 10 * round + number;
            let answer = format!("{mark} SELECT 1 I");
            assert_eq!(wire.ask_pipeline(&prepare("", &text(mark, LARGE))), answer);
            let sql = text(mark, LARGE + 1);
            assert_eq!(wire.ask_pipeline(&prepare("passing", &sql)), answer);
            wire.ask_pipeline(&close("passing"));
            let kept = round % 4;
            assert_eq!(
                wire.ask_pipeline(&run(&format!("kept{kept}"))),
                format!("{} SELECT 1 I", 100 * number + kept)
            );
        }
    }
    let grown = peak(pid) - before;
    assert!(grown < 8 * 1024, "{grown} KiB for 60 MB of texts");
    for bytes in column(&ringway, "SERVERS", PREPARED_BYTES) {
        assert!(bytes > LARGE && bytes <= 1 << 20, "{bytes}");
    }
    let of_clients = column(&ringway, "CLIENTS", PREPARED_BYTES);
    assert!(
        of_clients
            .iter()
            .all(|bytes| (4 * LARGE..5 * LARGE).contains(bytes)),
        "{of_clients:?}"
    );
    // The server agrees.
    let held = clients[0].ask(
        "SELECT sum(length(statement)) BETWEEN 100000 AND 1048576 FROM pg_prepared_statements",
    );
    assert_eq!(held, "t SELECT 1 I");
}

#[test]
fn a_text_above_the_whole_limit_works_and_displaces_nobody() {
    let cluster = support::cluster(&Spec::default());
    let ringway = start(&cluster, 1, "max_prepared_mib = 1\n");
    let ringway = &ringway;
    // How many statements the server has, and how many of them are large.
    let known = |wire: &mut Wire| {
        let large = "count(*) FILTER (WHERE length(statement) > 1000000)";
        wire.ask(&format!(
            "SELECT count(*) || ',' || {large} FROM pg_prepared_statements"
        ))
    };
    let (mut one, mut two) = (login(ringway), login(ringway));
    for number in 0..5 {
        let sql = text(number, 1000);
        one.ask_pipeline(&prepare(&format!("small{number}"), &sql));
    }
    for (wire, mark) in [(&mut one, 7), (&mut two, 8)] {
        let answer = format!("{mark} SELECT 1 I");
        let sql = text(mark, 3_000_000);
        assert_eq!(wire.ask_pipeline(&prepare("large", &sql)), answer);
        assert_eq!(wire.ask_pipeline(&prepare("", &sql)), answer);
    }
    for _ in 0..2 {
        assert_eq!(one.ask_pipeline(&run("large")), "7 SELECT 1 I");
        assert_eq!(two.ask_pipeline(&run("large")), "8 SELECT 1 I");
        for number in 0..5 {
            let answer = one.ask_pipeline(&run(&format!("small{number}")));
            assert_eq!(answer, format!("{number} SELECT 1 I"));
        }
    }
    assert_eq!(known(&mut two), "6,1 SELECT 1 I");
    two.ask_pipeline(&prepare("next", "SELECT 9"));
    assert_eq!(known(&mut two), "6,0 SELECT 1 I");
    // SQL's own.
    let sql = format!("PREPARE q AS {}", text(10, 3_000_000));
    assert_eq!(two.ask(&sql), "PREPARE I");
    for _ in 0..2 {
        assert_eq!(one.ask_pipeline(&run("large")), "7 SELECT 1 I");
        assert_eq!(two.ask("EXECUTE q"), "10 SELECT 1 I");
    }
}

#[test]
fn a_statement_that_makes_way_for_another_of_its_pipeline_is_there_when_it_is_bound() {
    let cluster = support::cluster(&Spec::default());
    let ringway = start(&cluster, 1, "max_prepared_statements = 1\n");
    let mut wire = login(&ringway);
    assert_eq!(wire.ask_pipeline(&[parse("a", "SELECT 1")]), "I");
    // `b` is the text that the server has; `c` takes its place.
    let both = [parse("b", "SELECT 1"), parse("c", "SELECT 2")];
    let messages = [&both[..], &run("b"), &run("c")].concat();
    assert_eq!(wire.ask_pipeline(&messages), "1 SELECT 1 2 SELECT 1 I");
    let describe = frame(b'D', b"Sd\0");
    let both = [parse("d", "SELECT 2"), parse("e", "SELECT 1")];
    assert_eq!(wire.ask_pipeline(&[&both[..], &[describe]].concat()), "I");
}

#[test]
fn a_pipeline_leaves_no_more_prepared_than_the_limit() {
    const LIMIT: usize = 3;
    let cluster = support::cluster(&Spec::default());
    let limit = format!("max_prepared_statements = {LIMIT}\n");
    let ringway = start(&cluster, 1, &limit);
    let mut wire = login(&ringway);
    // What the server has, and what is shown of it.
    let assert_within = |wire: &mut Wire| {
        let held = wire.ask("SELECT count(*) FROM pg_prepared_statements");
        let shown = column(&ringway, "SERVERS", PREPARED_STATEMENTS);
        assert!(shown[0] <= LIMIT, "{shown:?}");
        assert_eq!(held, format!("{} SELECT 1 I", shown[0]));
    };
    let named = |n: usize| format!("s{n}");
    let all = |of: &dyn Fn(usize) -> Vec<u8>| (0..10).map(of).collect::<Vec<_>>();
    let answers: String = (0..10).map(|n| format!("{n} SELECT 1 ")).collect();
    let parses = all(&|n| parse(&named(n), &format!("SELECT {n}")));
    let runs = all(&|n| run(&named(n)).concat());
    let messages = [&parses[..], &runs].concat();
    assert_eq!(wire.ask_pipeline(&messages), format!("{answers}I"));
    assert_within(&mut wire);
    // Half of it is skipped: what was sent after the error has not happened.
    for fails in [0, 4, 9] {
        let mut messages = all(&|n| run(&named(n)).concat());
        messages.insert(fails, prepare("", "SELECT 1 / 0").concat());
        let before: String = (0..fails).map(|n| format!("{n} SELECT 1 ")).collect();
        assert_eq!(wire.ask_pipeline(&messages), format!("{before}22012 I"));
        assert_within(&mut wire);
        let bad = parse("bad", "SELECT FROM FROM");
        let messages = [&runs[..fails], &[bad], &runs[fails..]].concat();
        assert_eq!(wire.ask_pipeline(&messages), format!("{before}42601 I"));
        assert_within(&mut wire);
        assert_eq!(wire.ask_pipeline(&runs), format!("{answers}I"));
        assert_within(&mut wire);
    }
}

#[test]
fn an_error_at_bind_names_the_statement_and_leaves_values_as_they_are() {
    let cluster = support::cluster(&Spec::default());
    let ringway = start(&cluster, 1, "");
    let mut wire = login(&ringway);
    let mut error = |params: &[&str]| {
        let messages = [parse("q", "SELECT $1::int"), bind("", "q", params)];
        wire.send_bytes(&messages.concat());
        wire.send(b'S', b"");
        let frames = wire.read_to_ready();
        wire.ask_pipeline(&close("q"));
        let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
        error.fields().remove(&'M').unwrap()
    };
    assert_eq!(
        error(&["ringway_x"]),
        "invalid input syntax for type integer: \"ringway_x\""
    );
    assert_eq!(
        error(&[]),
        "bind message supplies 0 parameters, but prepared statement \"q\" requires 1"
    );
}

#[test]
fn clients_are_refused_what_is_too_much_and_only_that() {
    let cluster = support::cluster(&Spec::default());
    let limits = "max_client_prepared_mib = 1\nmax_db_prepared_mib = 2\n";
    let ringway = start(&cluster, 2, limits);
    let mut wires: Vec<_> = (0..3).map(|_| login(&ringway)).collect();
    let mut fill = |number: usize, mark: usize| -> (usize, String) {
        let wire = &mut wires[number];
        let mut made = 0;
        loop {
            let sql = text(mark + made, LARGE);
            let name = format!("s{made}");
            let answer = wire.ask_pipeline(&prepare(&name, &sql));
            match answer.as_str() {
                "53400 I" => return (made, wire.ask_pipeline(&run("s0"))),
                _ => assert_eq!(answer, format!("{} SELECT 1 I", mark + made)),
            }
            made += 1;
        }
    };
    assert_eq!(fill(0, 100), (10, "100 SELECT 1 I".to_owned()));
    assert_eq!(fill(1, 200), (10, "200 SELECT 1 I".to_owned()));
    assert_eq!(
        column(&ringway, "CLIENTS", PREPARED_STATEMENTS),
        [0, 10, 10]
    );
    // One text of others is known already; its own are too much for the database.
    let shared = prepare("shared", &text(100, LARGE));
    let third = &mut wires[2];
    assert_eq!(third.ask_pipeline(&shared), "100 SELECT 1 I");
    assert_eq!(
        third.ask_pipeline(&prepare("own", &text(300, LARGE))),
        "53400 I"
    );
    assert_eq!(third.ask_pipeline(&run("own")), "26000 I");
    // Without a name, all goes, again and again.
    for mark in 0..3 {
        let sql = text(mark, 20_000_000);
        assert_eq!(
            third.ask_pipeline(&prepare("", &sql)),
            format!("{mark} SELECT 1 I")
        );
    }
    third.ask_pipeline(&prepare("", "SELECT 1"));
    wires[0].ask_pipeline(&close("s1"));
    wires[0].ask_pipeline(&close("s2"));
    let third = &mut wires[2];
    let own = prepare("own", &text(300, LARGE));
    assert_eq!(third.ask_pipeline(&own), "300 SELECT 1 I");
}

/// PostgreSQL refuses what was prepared before a table changed, and takes a new Parse of the text.
#[test]
fn a_new_parse_after_a_table_has_changed_is_a_new_statement() {
    let cluster = support::cluster(&Spec::default());
    let primary = &cluster.shards[0].primary;
    let direct = Wire::login(primary.port, "ringway", "shop").0;
    let describe = |name: &str| frame(b'D', format!("S{name}\0").as_bytes());
    const SQL: &str = "SELECT * FROM changed";
    let talk = |own: &mut Wire, next: &mut Wire, alter: &mut dyn FnMut(&mut Wire, &str)| {
        let mut answers = Vec::new();
        own.ask("DROP TABLE IF EXISTS changed");
        own.ask("CREATE TABLE changed AS SELECT 1 AS a");
        own.ask_pipeline(&close("old"));
        own.ask("DEALLOCATE ALL");
        next.ask("DEALLOCATE ALL");
        answers.push(own.ask_pipeline(&prepare("old", SQL)));
        answers.push(own.ask(&format!("PREPARE sql AS {SQL}")));
        answers.push(own.ask("EXECUTE sql"));
        alter(own, "ALTER TABLE changed ADD COLUMN b int DEFAULT 2");
        // Somebody who never saw the table as it was.
        answers.push(next.ask_pipeline(&[parse("new", SQL), describe("new")]));
        answers.push(next.ask_pipeline(&run("new")));
        answers.push(next.ask(&format!("PREPARE n AS {SQL}")));
        answers.push(next.ask("EXECUTE n"));
        // As drivers do: what is refused is closed and parsed again under another name.
        answers.push(own.ask_pipeline(&run("old")));
        answers.push(own.ask_pipeline(&[describe("old")]));
        answers.push(own.ask("EXECUTE sql"));
        answers.push(own.ask_pipeline(&[&close("old")[..], &prepare("again", SQL)].concat()));
        answers.push(own.ask_pipeline(&run("again")));
        answers.push(own.ask("DEALLOCATE sql"));
        answers.push(own.ask(&format!("PREPARE sql AS {SQL}")));
        answers.push(own.ask("EXECUTE sql"));
        answers
    };
    let mut by_itself = |wire: &mut Wire, sql: &str| {
        assert_eq!(wire.ask(sql), "ALTER TABLE I");
    };
    let mut other = Wire::login(primary.port, "ringway", "shop").0;
    let expected = talk(&mut { direct }, &mut other, &mut by_itself);
    assert!(expected.contains(&"0A000 I".to_owned()), "{expected:?}");
    let ringway = start(&cluster, 1, "");
    let (mut own, mut next) = (login(&ringway), login(&ringway));
    assert_eq!(talk(&mut own, &mut next, &mut by_itself), expected);
    // Changed where Ringway does not see it, each is told at most once.
    let mut unseen = |_: &mut Wire, sql: &str| drop(primary.exec(sql).unwrap());
    let answers = talk(&mut own, &mut next, &mut unseen);
    let last = |answers: &[String]| answers[answers.len() - 5..].to_vec();
    assert_eq!(last(&answers), last(&expected), "{answers:?}");
}

/// What a transaction has prepared by tables that it takes back is nobody else's.
#[test]
fn what_an_undone_table_was_prepared_by_meets_no_other_client() {
    let cluster = support::cluster(&Spec::default());
    const SQL: &str = "SELECT * FROM changed";
    let talk = |own: &mut Wire, next: &mut Wire| {
        own.ask("CREATE TABLE changed AS SELECT 1 AS a");
        own.ask("BEGIN");
        own.ask("DROP TABLE changed");
        own.ask("CREATE TABLE changed AS SELECT 2 AS b, 3 AS a");
        let mut answers = vec![own.ask_pipeline(&prepare("within", SQL))];
        answers.push(own.ask(&format!("PREPARE sql AS {SQL}")));
        answers.push(own.ask("EXECUTE sql"));
        own.ask("ROLLBACK");
        answers.push(next.ask_pipeline(&prepare("new", SQL)));
        answers.push(next.ask(&format!("PREPARE sql AS {SQL}")));
        answers.push(next.ask("EXECUTE sql"));
        answers.push(own.ask_pipeline(&run("within")));
        answers.push(own.ask("EXECUTE sql"));
        own.ask("DROP TABLE changed");
        answers
    };
    let direct = || Wire::login(cluster.shards[0].primary.port, "ringway", "shop").0;
    let expected = talk(&mut direct(), &mut direct());
    let refused = expected.iter().filter(|answer| *answer == "0A000 I");
    assert_eq!(refused.count(), 2, "{expected:?}");
    let ringway = start(&cluster, 1, "");
    let answers = talk(&mut login(&ringway), &mut login(&ringway));
    assert_eq!(answers, expected);
}
