//! Pool modes, limits and time limits, before a real server.

mod orders;

use std::time::{Duration, Instant};

use ringway::demo::captive::{CaptiveCluster, Spec};

use crate::support::wire::{Frame, Wire, cancel_request, digest, frame, parse};
use crate::support::{self, Ringway, psql, wait_until};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

/// A Ringway before one server: `users` and `database` are more lines of those sections.
fn pooler(cluster: &CaptiveCluster, general: &str, users: &str, database: &str) -> Ringway {
    let server = cluster.shards[0].primary.port;
    Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n{general}\n\
             [users.ringway]\nauth = \"trust\"\n[users.other]\nauth = \"trust\"\n{users}\n\
             [databases.shop]\nservers = [\"127.0.0.1:{server}\"]\n\
             monitor_user = \"ringway\"\n{database}\n"
        )
    })
}

fn of_database(cluster: &CaptiveCluster, database: &str) -> Ringway {
    pooler(cluster, "", "", database)
}

fn login(ringway: &Ringway, user: &str) -> Wire {
    Wire::login(ringway.port(), user, "shop").0
}

/// The error that a login ends with.
fn turned_away(ringway: &Ringway, user: &str, database: &str) -> Frame {
    let mut wire = Wire::connect(ringway.port());
    wire.send_startup(196_608, &[("user", user), ("database", database)]);
    let frames = wire.read_to_ready();
    let error = frames.iter().find(|frame| frame.tag == b'E');
    error.unwrap_or_else(|| panic!("{frames:?}")).clone()
}

fn message(error: &Frame) -> String {
    error.fields().remove(&'M').unwrap_or_default()
}

/// SQLSTATE of the answer, or the value of its first row.
fn answer(frames: &[Frame]) -> String {
    let error = frames.iter().find(|frame| frame.tag == b'E');
    let row = frames.iter().find(|frame| frame.tag == b'D');
    match (error, row) {
        (Some(error), _) => error.code(),
        (None, Some(row)) => String::from_utf8_lossy(&row.body[6..]).into_owned(),
        (None, None) => String::new(),
    }
}

fn ask(wire: &mut Wire, sql: &str) -> String {
    wire.query(sql);
    answer(&wire.read_to_ready())
}

fn admin(ringway: &Ringway, sql: &str) -> String {
    psql(&admin_url(ringway), sql)
}

fn admin_url(ringway: &Ringway) -> String {
    let port = ringway.port();
    format!("postgresql://ringway@127.0.0.1:{port}/ringway")
}

/// What psql says of a refused command.
fn refused(ringway: &Ringway, sql: &str) -> String {
    let output = std::process::Command::new("psql")
        .args(["-X", "-c", sql, &admin_url(ringway)])
        .output()
        .unwrap();
    assert!(!output.status.success(), "{sql}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A column of the row whose first cells are `key`.
fn cell(ringway: &Ringway, table: &str, key: &[&str], column: &str) -> String {
    let output = std::process::Command::new("psql")
        .args([
            "-X",
            "-A",
            "-c",
            &format!("SHOW {table}"),
            &admin_url(ringway),
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().map(|line| line.split('|').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let at = header.iter().position(|name| *name == column).unwrap();
    let row = lines.find(|row| row.starts_with(key));
    row.map(|row| row[at].to_owned())
        .unwrap_or_else(|| panic!("SHOW {table} has no {key:?}: {text}"))
}

fn user_role(cluster: &CaptiveCluster) {
    let create = "CREATE ROLE other LOGIN SUPERUSER";
    cluster.shards[0].primary.exec(create).unwrap();
}

fn backends(cluster: &CaptiveCluster, user: &str) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' \
         AND backend_type = 'client backend' AND application_name <> 'ringway' \
         AND pid <> pg_backend_pid()"
    );
    let count = cluster.shards[0].primary.exec(&sql).unwrap();
    count.parse().unwrap()
}

#[test]
fn statement_mode_refuses_blocks_and_gives_the_server_back() {
    let cluster = support::cluster(&Spec::default());
    let ringway = of_database(&cluster, "pool_mode = \"statement\"\npool_size = 1\n");
    let (mut one, mut two) = (login(&ringway, "ringway"), login(&ringway, "ringway"));
    one.query("BEGIN");
    let frames = one.read_to_ready();
    assert_eq!(answer(&frames), "0A000");
    assert_eq!(ask(&mut one, "SELECT 1"), "1");
    assert_eq!(ask(&mut two, "SELECT 2"), "2");
    // Several statements in one text are one transaction, in PgBouncer too.
    assert_eq!(
        ask(&mut one, "CREATE TABLE s (i int); INSERT INTO s VALUES (1)"),
        ""
    );
    assert_eq!(
        ask(&mut one, "INSERT INTO s VALUES (2); SELECT 1/0"),
        "22012"
    );
    assert_eq!(ask(&mut two, "SELECT count(*) FROM s"), "1");
    // A pipeline up to Sync is one transaction too; BEGIN in it is refused.
    let answers = one.ask_extended(&["INSERT INTO s VALUES (3)", "BEGIN"]);
    assert_eq!(answers, "INSERT 0 1 0A000 I");
    let answers = one.ask_extended(&["INSERT INTO s VALUES (3)", "SELECT 1/0"]);
    assert_eq!(answers, "INSERT 0 1 22012 I");
    assert_eq!(ask(&mut two, "SELECT count(*) FROM s"), "1");
    // A block that a text leaves open ends with the connection, and is rolled back.
    one.query("BEGIN; INSERT INTO s VALUES (4)");
    assert_eq!(answer(&one.read_to_ready()), "");
    assert_eq!(answer(&one.read_to_ready()), "0A000");
    assert_eq!(ask(&mut two, "SELECT count(*) FROM s"), "1");
}

#[test]
fn a_users_mode_goes_before_the_databases() {
    let cluster = support::cluster(&Spec::default());
    user_role(&cluster);
    let ringway = pooler(
        &cluster,
        "",
        "pool_mode = \"session\"\npool_size = 1\n",
        "pool_size = 2\nserver_user = \"ringway\"\n",
    );
    let mut session = login(&ringway, "other");
    assert_eq!(ask(&mut session, "SELECT 1"), "1");
    let mut transaction = login(&ringway, "ringway");
    assert_eq!(ask(&mut transaction, "SELECT 1"), "1");
    assert_eq!(cell(&ringway, "USERS", &["other"], "pool_mode"), "session");
    wait_until(LIMIT, "the transaction's server to be given back", || {
        ["sv_active", "sv_idle"].map(|name| cell(&ringway, "POOLS", &["shop"], name)) == ["1", "1"]
    });
    drop(session);
    wait_until(LIMIT, "the session's server to be given back", || {
        cell(&ringway, "POOLS", &["shop"], "sv_active") == "0"
    });
}

#[test]
fn caps_on_clients_and_servers_hold() {
    let cluster = support::cluster(&Spec::default());
    user_role(&cluster);
    let ringway = pooler(
        &cluster,
        "",
        "max_user_client_connections = 2\n",
        "pool_size = 2\nmax_db_connections = 2\nmax_db_client_connections = 4\n",
    );
    let mut others = [login(&ringway, "other"), login(&ringway, "other")];
    assert_eq!(turned_away(&ringway, "other", "shop").code(), "53300");
    let mut ours = [login(&ringway, "ringway"), login(&ringway, "ringway")];
    assert_eq!(turned_away(&ringway, "ringway", "shop").code(), "53300");
    // One user's idle connections make room for another's.
    for wires in [&mut others, &mut ours] {
        for wire in wires.iter_mut() {
            assert_eq!(ask(wire, "BEGIN"), "");
            assert_eq!(ask(wire, "SELECT 1"), "1");
        }
        for wire in wires.iter_mut() {
            ask(wire, "COMMIT");
        }
    }
    assert_eq!(
        cell(&ringway, "DATABASES", &["shop"], "current_connections"),
        "2"
    );
    wait_until(LIMIT, "evicted connections to be closed", || {
        backends(&cluster, "other") == 0
    });
    drop(others);
    wait_until(LIMIT, "places of clients to be free again", || {
        cell(
            &ringway,
            "DATABASES",
            &["shop"],
            "current_client_connections",
        ) == "2"
    });
    login(&ringway, "other");
}

#[test]
fn a_query_that_takes_too_long_is_cancelled_in_our_words() {
    let cluster = support::cluster(&Spec::default());
    let ringway = of_database(&cluster, "pool_size = 1\nquery_timeout_ms = 3000\n");
    let mut wire = login(&ringway, "ringway");
    let start = Instant::now();
    wire.query("SELECT pg_sleep(30)");
    let frames = wire.read_to_ready();
    assert_eq!(answer(&frames), "57014");
    let error = frames.iter().find(|f| f.tag == b'E').unwrap();
    assert_eq!(message(error), "canceling statement due to query timeout");
    assert!((Duration::from_secs(3)..LIMIT).contains(&start.elapsed()));
    assert_eq!(ask(&mut wire, "SELECT 1"), "1");
    // In a transaction: it fails like any statement.
    ask(&mut wire, "BEGIN");
    assert_eq!(ask(&mut wire, "SELECT pg_sleep(30)"), "57014");
    assert_eq!(ask(&mut wire, "SELECT 1"), "25P02");
    ask(&mut wire, "ROLLBACK");
    // The extended protocol, and statements that are quick enough, though not together.
    assert_eq!(wire.ask_extended(&["SELECT pg_sleep(30)"]), "57014 I");
    for _ in 0..4 {
        assert_eq!(ask(&mut wire, "SELECT pg_sleep(1.2)"), "");
    }
}

/// A server that waits for its client hears no cancel request.
#[test]
fn a_query_that_cannot_be_cancelled_ends_its_session() {
    let cluster = support::cluster(&Spec::default());
    cluster.shards[0]
        .primary
        .exec("CREATE TABLE t (v text)")
        .unwrap();
    let ringway = of_database(&cluster, "pool_size = 1\nquery_timeout_ms = 2000\n");
    for stalls in [
        "COPY t FROM STDIN",
        "SELECT repeat('x', 1000) FROM generate_series(1, 100000)",
    ] {
        let mut wire = login(&ringway, "ringway");
        wire.query(stalls);
        let mut next = login(&ringway, "ringway");
        // In the queue, until the place is free.
        assert_eq!(ask(&mut next, "SELECT 'next'"), "next", "{stalls}");
        wait_until(LIMIT, "the session to end", || {
            cell(
                &ringway,
                "DATABASES",
                &["shop"],
                "current_client_connections",
            ) == "1"
        });
    }
}

/// A client whose host is gone is found out.
#[test]
fn clients_are_probed() {
    let cluster = support::cluster(&Spec::default());
    let ringway = of_database(&cluster, "");
    let _client = login(&ringway, "ringway");
    // Of `local remote state queues timer:…`, state 01 is established and timer 2 is keepalive.
    let ours = format!(":{:04X}", ringway.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let timers: Vec<_> = sockets
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields[1].ends_with(&ours) && fields[3] == "01")
        .map(|fields| fields[5][..2].to_owned())
        .collect();
    assert_eq!(timers, ["02"], "{sockets}");
}

/// Logins and cancel requests take that long from now on.
fn delay_logins(cluster: &CaptiveCluster, seconds: u32) {
    let primary = &cluster.shards[0].primary;
    let set = format!("ALTER SYSTEM SET pre_auth_delay = {seconds}");
    primary.exec(&set).unwrap();
    primary.exec("SELECT pg_reload_conf()").unwrap();
    let expected = format!("{seconds}s");
    primary
        .wait_for("SHOW pre_auth_delay", &expected, LIMIT)
        .unwrap();
}

#[test]
fn a_late_cancel_spares_the_next_statement_of_the_same_client() {
    let cluster = support::cluster(&Spec::default());
    let ringway = of_database(
        &cluster,
        "query_timeout_ms = 3000\nconnect_timeout_ms = 20000\n",
    );
    let mut wire = login(&ringway, "ringway");
    ask(&mut wire, "BEGIN");
    assert_eq!(ask(&mut wire, "SELECT 1"), "1");
    delay_logins(&cluster, 6);
    // Cancelled after three seconds, which the server hears of after nine.
    let start = Instant::now();
    assert_eq!(ask(&mut wire, "SELECT pg_sleep(5)"), "");
    while start.elapsed() < Duration::from_secs(11) {
        assert_eq!(ask(&mut wire, "SELECT pg_sleep(0.3)"), "");
    }
    assert_eq!(ask(&mut wire, "COMMIT"), "");
}

#[test]
fn a_cancel_request_that_a_server_did_not_take_hits_nobody_else() {
    let cluster = support::cluster(&Spec::default());
    let limits = "pool_size = 1\nconnect_timeout_ms = 20000\ncheckout_timeout_ms = 20000\n";
    let ringway = pooler(&cluster, "login_timeout_s = 20", "", limits);
    let (mut wire, greeting) = Wire::login(ringway.port(), "ringway", "shop");
    let mut next = login(&ringway, "ringway");
    assert_eq!(ask(&mut wire, "SELECT 'ready'"), "ready");
    orders::reload(&ringway, |text| {
        text.replace("login_timeout_s = 20", "login_timeout_s = 1")
    });
    delay_logins(&cluster, 6);
    wire.query("SELECT pg_sleep(3)");
    // Given up after one second; the server reads it after six.
    Wire::connect(ringway.port()).send_untagged(&cancel_request(&greeting));
    next.query("SELECT 'unharmed' FROM pg_sleep(5)");
    assert_eq!(answer(&wire.read_to_ready()), "");
    assert_eq!(answer(&next.read_to_ready()), "unharmed");
}

#[test]
fn a_new_application_name_needs_no_server() {
    let cluster = support::cluster(&Spec::default());
    let ringway = of_database(&cluster, "pool_size = 1\ncheckout_timeout_ms = 3000\n");
    let log_in = |parameters: &[(&str, &str)]| {
        let mut wire = Wire::connect(ringway.port());
        let who = [("user", "ringway"), ("database", "shop")];
        wire.send_startup(196_608, &[&who, parameters].concat());
        let frames = wire.read_to_ready();
        (wire, frames)
    };
    let login_as = |name: &str| log_in(&[("application_name", name)]);
    let (mut first, _) = login_as("first");
    ask(&mut first, "BEGIN");
    assert_eq!(ask(&mut first, "SHOW application_name"), "first");
    for name in ["second", "third one"] {
        let (mut wire, frames) = login_as(name);
        let told = format!("application_name\0{name}\0");
        let tells = |frame: &Frame| frame.tag == b'S' && frame.body == told.as_bytes();
        assert!(frames.iter().any(tells), "{frames:?}");
        assert_eq!(ask(&mut wire, "SELECT 1"), "53300");
    }
    // What the server makes of this one only it can tell, and who gave none has another.
    assert_eq!(answer(&log_in(&[]).1), "53300");
    assert_eq!(answer(&login_as("ein M\u{e4}rchen").1), "53300");
    ask(&mut first, "COMMIT");
    let (mut last, _) = login_as("last");
    assert_eq!(ask(&mut last, "SHOW application_name"), "last");
}

#[test]
fn who_idles_for_too_long_is_sent_off() {
    let cluster = support::cluster(&Spec::default());
    let idling = "idle_transaction_timeout_ms = 1500\nclient_idle_timeout_s = 5\n";
    let idling = of_database(&cluster, idling);
    let mut idle = login(&idling, "ringway");
    let idle_since = Instant::now();
    ask(&mut idle, "SELECT 1");
    // Between the statements of a transaction, with a server and without one.
    let sent_off_in_order = |first: &str| {
        let mut wire = login(&idling, "ringway");
        let statements = ["BEGIN", first];
        let statements = statements.iter().filter(|sql| !sql.is_empty());
        let messages = statements.map(|sql| frame(b'Q', format!("{sql}\0").as_bytes()));
        let messages: Vec<_> = messages.collect();
        let start = Instant::now();
        wire.send_bytes(&messages.concat());
        for _ in &messages {
            let frames = wire.read_to_ready();
            assert!(digest(&frames).ends_with(" T"), "{frames:?}");
        }
        assert_eq!(answer(&wire.read_to_ready()), "25P03");
        assert!(start.elapsed() >= Duration::from_millis(1450));
        let mut sends = (0..3).map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            wire.try_send(&frame(b'Q', b"SELECT 1\0"))
        });
        sends.all(|sent| sent.is_ok()) && wire.ends_in_order()
    };
    for first in ["SELECT 1", ""] {
        // What was on its way by then does not reset the connection: an error may be behind it. That is
        // read for a moment only, which this thread may miss.
        assert!((0..5).any(|_| sent_off_in_order(first)), "{first}");
    }
    // A transaction as a whole, though its statements are quick.
    let whole = of_database(&cluster, "transaction_timeout_ms = 1500\n");
    let mut wire = login(&whole, "ringway");
    let start = Instant::now();
    ask(&mut wire, "BEGIN");
    let code = loop {
        match ask(&mut wire, "SELECT pg_sleep(0.05)").as_str() {
            "" => {}
            code => break code.to_owned(),
        }
    };
    assert_eq!(code, "25P04");
    assert!(start.elapsed() >= Duration::from_millis(1500));
    assert_eq!(answer(&idle.read_to_ready()), "57P05");
    assert!(idle_since.elapsed() >= Duration::from_millis(4_900));
    // Not in SHOW POOLS: a pool without connections and clients is forgotten.
    for ringway in [&idling, &whole] {
        wait_until(LIMIT, "their servers to be closed or free", || {
            cell(ringway, "LISTS", &["used_servers"], "items") == "0"
        });
    }
}

#[test]
fn connections_are_kept_ready_and_a_lost_one_is_replaced() {
    let cluster = support::cluster(&Spec::default());
    let database = "server_user = \"other\"\nmin_pool_size = 3\npool_size = 5\n";
    user_role(&cluster);
    let ringway = of_database(&cluster, database);
    let ready = || cell(&ringway, "POOLS", &["shop", "other"], "sv_idle") == "3";
    wait_until(LIMIT, "the pool", || {
        admin(&ringway, "SHOW POOLS").contains("other")
    });
    wait_until(LIMIT, "three before the first client", ready);
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE usename = 'other' AND backend_type = 'client backend'";
    cluster.shards[0].primary.exec(kill).unwrap();
    wait_until(LIMIT, "three others", || backends(&cluster, "other") == 3);
}

#[test]
fn statement_mode_closes_a_block_that_a_text_too_long_to_read_began() {
    let cluster = support::cluster(&Spec::default());
    let general = "max_message_mib = 1";
    let ringway = pooler(&cluster, general, "", "pool_mode = \"statement\"\n");
    let mut wire = Wire::login(ringway.port(), "ringway", "shop").0;
    wire.query(&format!("BEGIN; SELECT length('{}')", "x".repeat(2 << 20)));
    assert_eq!(digest(&wire.read_to_ready()), "BEGIN 2097152 SELECT 1 T");
    assert_eq!(digest(&wire.read_to_ready()), "0A000 end");
}
