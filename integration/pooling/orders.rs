//! What an operator orders: pauses, reloads, databases of a wildcard, the end of a process.

use ringway::demo::captive::Signal;

use super::*;
use crate::support::wire::{bind, execute, unnamed};

/// As PgBouncer's: scripts send them.
#[test]
fn signals_pause_and_resume() {
    let cluster = support::cluster(&Spec::default());
    let mut ringway = of_database(&cluster, "");
    for (signal, paused) in [(Signal::Usr1, "1"), (Signal::Usr2, "0")] {
        ringway.proxy.signal(signal);
        wait_until(LIMIT, "the order to be obeyed", || {
            cell(&ringway, "DATABASES", &["shop"], "paused") == paused
        });
    }
    assert_eq!(ask(&mut login(&ringway, "ringway"), "SELECT 1"), "1");
}

#[test]
fn pause_resume_kill_disable_and_reconnect() {
    let cluster = support::cluster(&Spec::default());
    let ringway = of_database(&cluster, "pool_size = 2\ncheckout_timeout_ms = 3000\n");
    let mut one = login(&ringway, "ringway");
    let mut two = login(&ringway, "ringway");
    ask(&mut one, "BEGIN");
    let pid = ask(&mut one, "SELECT pg_backend_pid()");
    let url = admin_url(&ringway);
    let pause = std::thread::spawn(move || psql(&url, "PAUSE shop"));
    wait_until(LIMIT, "the pause", || {
        cell(&ringway, "DATABASES", &["shop"], "paused") == "1"
    });
    two.query("SELECT 'waited'");
    wait_until(LIMIT, "the client to wait", || {
        cell(&ringway, "POOLS", &["shop"], "cl_waiting") == "1"
    });
    // Longer than a checkout may take.
    assert_eq!(ask(&mut one, "SELECT pg_sleep(3.5)"), "");
    assert!(!pause.is_finished());
    ask(&mut one, "COMMIT");
    pause.join().unwrap();
    assert!(cell(&ringway, "POOLS", &["shop"], "maxwait_us") != "0");
    wait_until(LIMIT, "all to be closed", || {
        cell(&ringway, "POOLS", &["shop"], "sv_idle") == "0"
    });
    admin(&ringway, "RESUME shop");
    assert_eq!(answer(&two.read_to_ready()), "waited");
    assert!(refused(&ringway, "RESUME shop").contains("database shop is not paused"));
    assert!(refused(&ringway, "PAUSE nowhere").contains("no such database: nowhere"));

    ask(&mut one, "BEGIN");
    let again = ask(&mut one, "SELECT pg_backend_pid()");
    assert_ne!(again, pid);
    admin(&ringway, "RECONNECT shop");
    assert_eq!(ask(&mut one, "SELECT pg_backend_pid()"), again, "spared");
    let url = admin_url(&ringway);
    let closed = std::thread::spawn(move || psql(&url, "WAIT_CLOSE shop"));
    assert_eq!(ask(&mut one, "SELECT pg_sleep(0.2)"), "");
    assert!(!closed.is_finished());
    ask(&mut one, "COMMIT");
    closed.join().unwrap();
    assert_ne!(ask(&mut one, "SELECT pg_backend_pid()"), again);

    admin(&ringway, "DISABLE shop");
    assert_eq!(turned_away(&ringway, "ringway", "shop").code(), "57P03");
    assert_eq!(ask(&mut one, "SELECT 1"), "1");
    admin(&ringway, "ENABLE shop");
    login(&ringway, "ringway");

    // One who runs a statement, one in a transaction.
    one.query("SELECT pg_sleep(60)");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'";
    cluster.shards[0]
        .primary
        .wait_for(running, "1", LIMIT)
        .unwrap();
    ask(&mut two, "BEGIN");
    ask(&mut two, "SELECT 1");
    admin(&ringway, "KILL shop");
    assert_eq!(answer(&one.read_to_ready()), "57P01");
    assert_eq!(answer(&two.read_to_ready()), "57P01");
    let left = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' \
                AND state = 'active'";
    cluster.shards[0]
        .primary
        .wait_for(left, "0", LIMIT)
        .unwrap();
    admin(&ringway, "RESUME");
    let mut three = login(&ringway, "ringway");
    assert_eq!(ask(&mut three, "SELECT 3"), "3");
    let id = cell(&ringway, "CLIENTS", &["C", "ringway", "shop"], "id");
    admin(&ringway, &format!("KILL_CLIENT {id}"));
    assert_eq!(answer(&three.read_to_ready()), "57P01");
    assert!(refused(&ringway, "KILL_CLIENT 1").contains("no such client: 1"));
    assert!(refused(&ringway, "SUSPEND").contains("SUSPEND is not supported"));
}

/// Changes the configuration of a running process, and has it read.
pub(super) fn reload(ringway: &Ringway, change: impl FnOnce(String) -> String) {
    let file = ringway.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, change(text)).unwrap();
    admin(ringway, "RELOAD");
}

#[test]
fn who_waits_in_a_pause_goes_to_the_servers_of_a_reload() {
    let (old, new) = (
        support::cluster(&Spec::default()),
        support::cluster(&Spec::default()),
    );
    let port = |cluster: &CaptiveCluster| cluster.shards[0].primary.port.to_string();
    let ringway = of_database(&old, "pool_size = 4\n");
    let mut wires = [0; 4].map(|_| login(&ringway, "ringway"));
    let ask_port = "SELECT current_setting('port')";
    assert_eq!(ask(&mut wires[0], ask_port), port(&old));
    let [simple, block, extended, named] = &mut wires;
    // What the old servers were told of statements is not what the new ones know.
    let messages = [
        parse("name", ask_port),
        bind("", "name", &[]),
        execute("", 0),
    ];
    assert_eq!(
        named.ask_pipeline(&messages),
        format!("{} SELECT 1 I", port(&old))
    );
    assert_eq!(ask(block, "BEGIN"), "");
    admin(&ringway, "PAUSE shop");
    simple.query(ask_port);
    block.query(ask_port);
    extended.send_bytes(&unnamed(ask_port));
    extended.send(b'S', b"");
    let messages = [bind("", "name", &[]), execute("", 0)].concat();
    named.send_bytes(&messages);
    named.send(b'S', b"");
    let waiting = || cell(&ringway, "POOLS", &["shop"], "cl_waiting") == "4";
    wait_until(LIMIT, "all to wait", waiting);
    reload(&ringway, |text| text.replace(&port(&old), &port(&new)));
    wait_until(LIMIT, "all to wait at the new server", || {
        admin(&ringway, "SHOW SERVERS").is_empty() && waiting()
    });
    assert_eq!(cell(&ringway, "DATABASES", &["shop"], "port"), port(&new));
    assert_eq!(cell(&ringway, "DATABASES", &["shop"], "paused"), "1");
    admin(&ringway, "RESUME shop");
    assert_eq!(answer(&simple.read_to_ready()), port(&new));
    assert_eq!(answer(&block.read_to_ready()), port(&new));
    assert_eq!(ask(block, "COMMIT"), "");
    for wire in [extended, named] {
        let answer = digest(&wire.read_to_ready());
        assert_eq!(answer, format!("{} SELECT 1 I", port(&new)));
    }
}

/// A transaction that began on servers of an earlier configuration goes on there, and is waited for.
#[test]
fn what_a_reload_let_go_is_seen_until_it_is_closed() {
    let (old, new) = (
        support::cluster(&Spec::default()),
        support::cluster(&Spec::default()),
    );
    let port = |cluster: &CaptiveCluster| cluster.shards[0].primary.port.to_string();
    let ringway = of_database(&old, "pool_size = 4\n");
    let second = format!(
        "[databases.second]\nservers = [\"127.0.0.1:{}\"]\ndbname = \"postgres\"\n\
         monitor_user = \"ringway\"\n",
        port(&old)
    );
    reload(&ringway, |text| text + &second);
    let mut amid = login(&ringway, "ringway");
    let (mut gone, _) = Wire::login(ringway.port(), "ringway", "second");
    for wire in [&mut amid, &mut gone] {
        ask(wire, "BEGIN");
        assert_eq!(ask(wire, "SELECT current_setting('port')"), port(&old));
    }
    reload(&ringway, |text| {
        let text = text.replace(&second, "");
        text.replace(&port(&old), &port(&new))
    });
    let mut next = login(&ringway, "ringway");
    assert_eq!(ask(&mut next, "SELECT current_setting('port')"), port(&new));
    for database in ["shop", "second"] {
        let key = ["S", "ringway", database, "none", "active"];
        // The next one's is given back.
        wait_until(LIMIT, "one active connection", || {
            cell(&ringway, "POOLS", &[database], "sv_active") == "1"
        });
        assert_eq!(cell(&ringway, "SERVERS", &key, "close_needed"), "1");
        assert_eq!(cell(&ringway, "SERVERS", &key, "port"), port(&old));
    }
    let order = |order: &'static str| {
        let url = admin_url(&ringway);
        std::thread::spawn(move || psql(&url, order))
    };
    let [of_shop, of_all] = ["WAIT_CLOSE shop", "WAIT_CLOSE"].map(order);
    let pause = order("PAUSE shop");
    wait_until(LIMIT, "the pause", || {
        cell(&ringway, "DATABASES", &["shop"], "paused") == "1"
    });
    // Longer than any of them looks for the first time.
    assert_eq!(ask(&mut amid, "SELECT pg_sleep(0.3)"), "");
    let orders = [&of_shop, &of_all, &pause];
    assert!(orders.iter().all(|order| !order.is_finished()));
    ask(&mut amid, "COMMIT");
    of_shop.join().unwrap();
    pause.join().unwrap();
    assert_eq!(ask(&mut gone, "SELECT pg_sleep(0.3)"), "");
    assert!(!of_all.is_finished());
    ask(&mut gone, "COMMIT");
    of_all.join().unwrap();
    wait_until(LIMIT, "no connection to be open", || {
        admin(&ringway, "SHOW SERVERS").is_empty()
    });
    admin(&ringway, "RESUME shop");
    assert_eq!(ask(&mut amid, "SELECT current_setting('port')"), port(&new));
}

#[test]
fn a_wildcard_takes_any_name_that_the_server_has() {
    let cluster = support::cluster(&Spec::default());
    let primary = &cluster.shards[0].primary;
    primary.exec("CREATE DATABASE elsewhere").unwrap();
    let port = primary.port;
    let more = format!(
        "[databases.\"*\"]\nservers = [\"127.0.0.1:{port}\"]\nidle_timeout_s = 1\n\
         monitor_user = \"ringway\"\n"
    );
    let ringway = of_database(&cluster, &format!("dbname = \"postgres\"\n{more}"));
    let refused = turned_away(&ringway, "ringway", "nowhere");
    assert_eq!(refused.code(), "3D000");
    assert_eq!(message(&refused), "database \"nowhere\" does not exist");
    let (mut wire, _) = Wire::login(ringway.port(), "ringway", "elsewhere");
    assert_eq!(ask(&mut wire, "SELECT current_database()"), "elsewhere");
    assert_eq!(
        cell(&ringway, "DATABASES", &["elsewhere"], "database"),
        "elsewhere"
    );
    let databases = admin(&ringway, "SHOW DATABASES");
    assert!(
        !databases.contains("nowhere") && !databases.contains('*'),
        "{databases}"
    );
    drop(wire);
    wait_until(LIMIT, "the database to be forgotten", || {
        !admin(&ringway, "SHOW DATABASES").contains("elsewhere")
    });
}

#[test]
fn who_asks_for_a_database_keeps_to_caps_and_pauses() {
    let cluster = support::cluster(&Spec::default());
    let more = format!(
        "[databases.\"*\"]\nservers = [\"127.0.0.1:{}\"]\nmonitor_user = \"ringway\"\n\
         checkout_timeout_ms = 1000\n",
        cluster.shards[0].primary.port
    );
    let general = "login_timeout_s = 5\nmax_user_connections = 1\n";
    let ringway = pooler(
        &cluster,
        general,
        "",
        &format!("dbname = \"postgres\"\n{more}"),
    );
    let mut wire = login(&ringway, "ringway");
    assert_eq!(turned_away(&ringway, "ringway", "nowhere").code(), "3D000");
    ask(&mut wire, "BEGIN");
    assert_eq!(ask(&mut wire, "SELECT 1"), "1");
    assert_eq!(turned_away(&ringway, "ringway", "nowhere").code(), "53300");
    ask(&mut wire, "COMMIT");
    admin(&ringway, "PAUSE");
    let mut waits = Wire::connect(ringway.port());
    waits.send_startup(196_608, &[("user", "ringway"), ("database", "nowhere")]);
    assert_paused(&waits.read_to_ready());
    admin(&ringway, "RESUME");
    assert_eq!(turned_away(&ringway, "ringway", "nowhere").code(), "3D000");
}

/// A login that nothing came of in a pause.
fn assert_paused(frames: &[Frame]) {
    let error = frames.last().unwrap().fields();
    let error: Vec<_> = "SCMH".chars().map(|field| error[&field].as_str()).collect();
    assert_eq!(error[..3], ["FATAL", "57P03", "the database is paused"]);
    assert!(error[3].contains("RESUME"), "{error:?}");
}

#[test]
fn a_login_with_new_settings_is_told_that_a_pause_lasts_too_long() {
    let cluster = support::cluster(&Spec::default());
    let ringway = pooler(&cluster, "login_timeout_s = 20\n", "", "");
    let mut before = login(&ringway, "ringway");
    admin(&ringway, "PAUSE shop");
    // With what is known already, and with something new.
    let mut known = login(&ringway, "ringway");
    let limit = |from: &'static str, to: &'static str| {
        let line = |seconds| format!("login_timeout_s = {seconds}\n");
        reload(&ringway, |text| text.replace(&line(from), &line(to)));
    };
    limit("20", "1");
    let mut new = Wire::connect(ringway.port());
    let packet = [
        ("user", "ringway"),
        ("database", "shop"),
        ("work_mem", "5MB"),
    ];
    new.send_startup(196_608, &packet);
    assert_paused(&new.read_to_ready());
    // It ends when the pause does, if that is soon enough.
    limit("1", "20");
    let mut new = Wire::connect(ringway.port());
    new.send_startup(196_608, &packet);
    admin(&ringway, "RESUME shop");
    assert_eq!(digest(&new.read_to_ready()), "I");
    for wire in [&mut before, &mut known, &mut new] {
        assert_eq!(ask(wire, "SELECT 1"), "1");
    }
}

#[test]
fn a_login_to_a_wildcard_database_outlives_a_reload() {
    let cluster = support::cluster(&Spec::default());
    let primary = &cluster.shards[0].primary;
    let more = format!(
        "dbname = \"postgres\"\n[databases.\"*\"]\nservers = [\"127.0.0.1:{}\"]\n\
         monitor_user = \"ringway\"\n",
        primary.port
    );
    primary.exec("CREATE DATABASE elsewhere").unwrap();
    let ringway = of_database(&cluster, &more);
    // Long enough for a reload between the question whether it exists and the answer.
    delay_logins(&cluster, 1);
    let mut wire = Wire::connect(ringway.port());
    wire.send_startup(196_608, &[("user", "ringway"), ("database", "elsewhere")]);
    reload(&ringway, |text| text);
    let frames = wire.read_to_ready();
    assert_eq!(frames.last().unwrap().tag, b'Z', "{frames:?}");
    assert_eq!(ask(&mut wire, "SELECT current_database()"), "elsewhere");
}

#[test]
fn a_reload_changes_living_pools_and_drains_what_is_gone() {
    let cluster = support::cluster(&Spec::default());
    let second = "[databases.second]\nservers = [\"127.0.0.1:PORT\"]\ndbname = \"postgres\"\n\
                  monitor_user = \"ringway\"\n"
        .replace("PORT", &cluster.shards[0].primary.port.to_string());
    let ringway = of_database(&cluster, &format!("pool_size = 1\n{second}"));
    let (mut gone, _) = Wire::login(ringway.port(), "ringway", "second");
    assert_eq!(ask(&mut gone, "SELECT 1"), "1");
    let (mut amid, _) = Wire::login(ringway.port(), "ringway", "second");
    ask(&mut amid, "BEGIN");
    assert_eq!(ask(&mut amid, "SELECT 2"), "2");
    let (mut one, mut two) = (login(&ringway, "ringway"), login(&ringway, "ringway"));
    ask(&mut one, "BEGIN");
    let pid = ask(&mut one, "SELECT pg_backend_pid()");
    two.query("SELECT 'second'");
    wait_until(LIMIT, "the second client to wait", || {
        cell(&ringway, "POOLS", &["shop"], "cl_waiting") == "1"
    });
    let file = ringway.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text
        .replace(&second, "")
        .replace("pool_size = 1", "pool_size = 2");
    std::fs::write(&file, text).unwrap();
    admin(&ringway, "RELOAD");
    assert_eq!(answer(&two.read_to_ready()), "second");
    assert_eq!(ask(&mut one, "SELECT pg_backend_pid()"), pid);
    ask(&mut one, "COMMIT");
    assert_eq!(ask(&mut one, "SELECT 1"), "1");
    assert_eq!(answer(&gone.read_to_ready()), "57P01");
    assert_eq!(ask(&mut amid, "SELECT 3"), "3", "its transaction goes on");
    ask(&mut amid, "COMMIT");
    amid.query("SELECT 4");
    assert_eq!(answer(&amid.read_to_ready()), "57P01");
    assert_eq!(turned_away(&ringway, "ringway", "second").code(), "3D000");
}

#[test]
fn what_was_bound_before_a_reload_does_not_run_on_other_shards() {
    let cluster = support::cluster(&Spec {
        shards: 2,
        ..Spec::default()
    });
    let mut ports = Vec::new();
    for shard in &cluster.shards {
        shard.primary.exec("CREATE TABLE t (k bigint)").unwrap();
        ports.push(shard.primary.port);
    }
    let second = format!(
        "[[databases.shop.shards]]\nname = \"s2\"\nservers = [\"127.0.0.1:{}\"]\n",
        ports[1]
    );
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n\
             [users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\ntables = {{ t = {{ key = \"k\" }} }}\n\
             [[databases.shop.shards]]\nname = \"s1\"\nservers = [\"127.0.0.1:{}\"]\n{second}",
            ports[0]
        )
    });
    let mut wire = login(&ringway, "ringway");
    let count = [parse("", "SELECT count(*) FROM t"), bind("", "", &[])];
    wire.send_bytes(&count.concat());
    wire.send(b'H', b"");
    assert_eq!(wire.read().unwrap().tag, b'1');
    assert_eq!(wire.read().unwrap().tag, b'2');
    reload(&ringway, |text| text.replace(&second, ""));
    assert_eq!(wire.ask_pipeline(&[execute("", 0)]), "57P03 I");
    assert_eq!(
        wire.ask_extended(&["SELECT count(*) FROM t"]),
        "0 SELECT 1 I"
    );
}

#[test]
fn shutdown_waits_for_clients_if_told_to() {
    let cluster = support::cluster(&Spec::default());
    let ringway = of_database(&cluster, "");
    let mut wire = login(&ringway, "ringway");
    assert_eq!(ask(&mut wire, "SELECT 1"), "1");
    let url = admin_url(&ringway);
    let end = std::thread::spawn(move || {
        let command = ["-X", "-c", "SHUTDOWN WAIT_FOR_CLIENTS", &url];
        std::process::Command::new("psql").args(command).output()
    });
    wait_until(LIMIT, "new clients to be refused", || {
        std::net::TcpStream::connect(("127.0.0.1", ringway.port())).is_err()
    });
    assert_eq!(ask(&mut wire, "SELECT 2"), "2");
    assert!(!end.is_finished());
    drop(wire);
    assert!(
        !end.join().unwrap().unwrap().status.success(),
        "the connection ends"
    );
}

#[test]
fn a_shutdown_that_waits_for_clients_can_be_hastened() {
    let cluster = support::cluster(&Spec::default());
    let ringway = of_database(&cluster, "");
    let (mut idle, mut amid) = (login(&ringway, "ringway"), login(&ringway, "ringway"));
    ask(&mut idle, "SELECT 1");
    ask(&mut amid, "BEGIN");
    assert_eq!(ask(&mut amid, "SELECT 1"), "1");
    let admin = || Wire::login(ringway.port(), "ringway", "ringway").0;
    let (mut first, mut second) = (admin(), admin());
    first.query("SHUTDOWN WAIT_FOR_CLIENTS");
    wait_until(LIMIT, "new clients to be refused", || {
        std::net::TcpStream::connect(("127.0.0.1", ringway.port())).is_err()
    });
    second.query("SHUTDOWN WAIT_FOR_SERVERS");
    assert_eq!(answer(&idle.read_to_ready()), "57P01");
    assert_eq!(ask(&mut amid, "SELECT 2"), "2");
    assert_eq!(ask(&mut amid, "COMMIT"), "");
    assert_eq!(answer(&amid.read_to_ready()), "57P01");
}
