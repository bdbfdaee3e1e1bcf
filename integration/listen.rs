//! LISTEN and NOTIFY over a pool of two server connections.

use std::process::Command;
use std::time::{Duration, Instant};

use ringway::demo::captive::{CaptiveCluster, Signal, Spec};

use crate::sessions::pooler;
use crate::support::wire::{Frame, Wire, bind, digest, execute, parse};
use crate::support::{self, Ringway};

const LIMIT: Duration = Duration::from_secs(15);

fn login(ringway: &Ringway) -> Wire {
    Wire::login(ringway.port(), "ringway", "shop").0
}

fn start() -> (CaptiveCluster, Ringway) {
    start_with("")
}

/// `database` is more lines of that section.
fn start_with(database: &str) -> (CaptiveCluster, Ringway) {
    let cluster = support::cluster(&Spec::default());
    let ringway = pooler(&cluster, database);
    (cluster, ringway)
}

/// Channel and payload of a NotificationResponse.
fn notification(frame: &Frame) -> String {
    assert_eq!(frame.tag, b'A', "{frame:?}");
    let text = frame.body[4..].split(|byte| *byte == 0);
    let text: Vec<_> = text.map(String::from_utf8_lossy).collect();
    format!("{} {}", text[0], text[1])
}

/// The notifications in an answer, and where they stand among its other frames.
fn tags(frames: &[Frame]) -> String {
    frames.iter().map(|frame| char::from(frame.tag)).collect()
}

#[test]
fn notifications_reach_every_listener_and_nobody_else() {
    let (_cluster, ringway) = start();
    let mut listeners: Vec<_> = (0..5).map(|_| login(&ringway)).collect();
    let (mut other, mut sender) = (login(&ringway), login(&ringway));
    for listener in &mut listeners {
        assert_eq!(listener.ask("LISTEN Bell"), "LISTEN I");
    }
    assert_eq!(other.ask("LISTEN \"Bell\""), "LISTEN I");
    let payload = "é'\"\\ \u{1F514}".repeat(200);
    let quoted = payload.replace('\'', "''");
    assert_eq!(sender.ask(&format!("NOTIFY bell, '{quoted}'")), "NOTIFY I");
    assert_eq!(
        sender.ask("SELECT pg_notify('bell', 'second')"),
        " SELECT 1 I"
    );
    for listener in &mut listeners {
        let first = listener.read().unwrap();
        assert_eq!(notification(&first), format!("bell {payload}"));
        assert_eq!(notification(&listener.read().unwrap()), "bell second");
    }
    // The others' channel has another name: they get their own only.
    sender.ask("NOTIFY \"Bell\", 'mine'");
    assert_eq!(notification(&other.read().unwrap()), "Bell mine");
    assert_eq!(listeners[0].ask("UNLISTEN *"), "UNLISTEN I");
    assert_eq!(listeners[1].ask("UNLISTEN bell"), "UNLISTEN I");
    assert_eq!(listeners[2].ask("DISCARD ALL"), "DISCARD ALL I");
    sender.ask("NOTIFY bell, 'third'");
    assert_eq!(notification(&listeners[3].read().unwrap()), "bell third");
    for gone in &mut listeners[..3] {
        gone.query("SELECT 1");
        assert_eq!(tags(&gone.read_to_ready()), "TDCZ");
    }
}

#[test]
fn listening_holds_no_server_connection() {
    let (cluster, ringway) = start();
    let mut listeners: Vec<_> = (0..8).map(|_| login(&ringway)).collect();
    for (number, listener) in listeners.iter_mut().enumerate() {
        assert_eq!(listener.ask(&format!("LISTEN c{number}")), "LISTEN I");
    }
    for listener in &mut listeners {
        assert_eq!(listener.ask("SELECT 1"), "1 SELECT 1 I");
    }
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ringway listen'";
    assert_eq!(cluster.shards[0].primary.exec(count).unwrap(), "1");
}

#[test]
fn listen_takes_effect_when_its_transaction_commits() {
    let (_cluster, ringway) = start();
    let (mut own, mut sender) = (login(&ringway), login(&ringway));
    let mut witness = login(&ringway);
    witness.ask("LISTEN kept");
    own.ask("BEGIN");
    assert_eq!(own.ask("LISTEN kept"), "LISTEN T");
    assert_eq!(own.ask("SAVEPOINT a"), "SAVEPOINT T");
    assert_eq!(own.ask("LISTEN undone"), "LISTEN T");
    assert_eq!(own.ask("ROLLBACK TO a"), "ROLLBACK T");
    sender.ask("NOTIFY kept, 'too early'");
    // It has been given to all who listen by now.
    assert_eq!(notification(&witness.read().unwrap()), "kept too early");
    assert_eq!(own.ask("COMMIT"), "COMMIT I");
    sender.ask("NOTIFY undone, 'never'");
    sender.ask("NOTIFY kept, 'one'");
    assert_eq!(notification(&own.read().unwrap()), "kept one");
    // A rollback undoes both.
    own.ask("BEGIN");
    own.ask("UNLISTEN kept");
    own.ask("LISTEN more");
    own.ask("ROLLBACK");
    sender.ask("NOTIFY more, 'never'");
    sender.ask("NOTIFY kept, 'two'");
    assert_eq!(notification(&own.read().unwrap()), "kept two");
    // Without a server of its own, a block ends in the session alone.
    own.ask("BEGIN");
    own.ask("LISTEN failed");
    assert_eq!(own.ask("SELECT 1/0"), "22012 E");
    assert_eq!(own.ask("LISTEN x"), "25P02 E");
    assert_eq!(own.ask("COMMIT"), "ROLLBACK I");
    own.ask("BEGIN");
    own.ask("UNLISTEN *");
    own.ask("LISTEN kept");
    own.ask("COMMIT");
    sender.ask("NOTIFY failed, 'never'");
    sender.ask("NOTIFY kept, 'three'");
    assert_eq!(notification(&own.read().unwrap()), "kept three");
}

#[test]
fn notifications_come_between_transactions() {
    let (cluster, ringway) = start();
    let (mut own, mut sender) = (login(&ringway), login(&ringway));
    own.ask("LISTEN bell");
    own.ask("BEGIN");
    own.ask("SELECT 1");
    sender.ask("NOTIFY bell, 'in block'");
    own.query("SELECT 2");
    assert_eq!(tags(&own.read_to_ready()), "TDCZ");
    own.query("COMMIT");
    let mut frames = own.read_to_ready();
    if tags(&frames) == "CZ" {
        frames.insert(1, own.read().unwrap());
    }
    assert_eq!(notification(&frames[1]), "bell in block");
    // While a statement runs: before it is ready again.
    let primary = &cluster.shards[0].primary;
    primary.exec("CREATE TABLE held ()").unwrap();
    let (mut holder, mut witness) = (
        Wire::login(primary.port, "ringway", "shop").0,
        login(&ringway),
    );
    holder.ask("BEGIN");
    assert_eq!(holder.ask("LOCK TABLE held"), "LOCK TABLE T");
    assert_eq!(witness.ask("LISTEN bell"), "LISTEN I");
    own.query("SELECT count(*) FROM held");
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE query = 'SELECT count(*) FROM held' AND wait_event_type = 'Lock'";
    primary.wait_for(waiting, "1", LIMIT).unwrap();
    sender.ask("NOTIFY bell, 'busy'");
    assert_eq!(notification(&witness.read().unwrap()), "bell busy");
    assert_eq!(holder.ask("COMMIT"), "COMMIT I");
    let frames = own.read_to_ready();
    assert_eq!(tags(&frames), "TDCAZ");
    assert_eq!(notification(&frames[3]), "bell busy");
    // One's own, in a block and without.
    own.query("NOTIFY bell, 'own'");
    assert_eq!(tags(&own.read_to_ready()), "CAZ");
    own.ask("BEGIN");
    own.ask("NOTIFY bell, 'a'");
    own.ask("NOTIFY bell, 'b'");
    own.query("COMMIT");
    let frames = own.read_to_ready();
    assert_eq!(tags(&frames), "CAAZ");
    assert_eq!(notification(&frames[2]), "bell b");
}

#[test]
fn the_extended_protocol_listens_as_well() {
    let (_cluster, ringway) = start();
    let (mut own, mut sender) = (login(&ringway), login(&ringway));
    assert_eq!(own.ask_extended(&["LISTEN bell"]), "LISTEN I");
    assert_eq!(
        own.ask_extended(&["LISTEN lost", "SELECT 1/0"]),
        "LISTEN 22012 I"
    );
    sender.ask_extended(&["NOTIFY lost, 'never'"]);
    sender.ask_extended(&["NOTIFY bell, 'ding'"]);
    assert_eq!(notification(&own.read().unwrap()), "bell ding");
    // An earlier error of a server that stays with the client says nothing of LISTEN.
    own.ask("SELECT pg_advisory_lock(1)");
    own.ask("SELECT 1/0");
    let messages = [
        parse("l", "LISTEN more"),
        bind("", "l", &[]),
        execute("", 0),
    ];
    assert_eq!(own.ask_pipeline(&messages), "LISTEN I");
    sender.ask("NOTIFY more");
    assert_eq!(notification(&own.read().unwrap()), "more ");
}

#[test]
fn channel_names_are_postgresqls() {
    let (_cluster, ringway) = start();
    let (mut own, mut sender) = (login(&ringway), login(&ringway));
    let long = "c".repeat(70);
    assert_eq!(own.ask(&format!("LISTEN {long}")), "LISTEN I");
    assert_eq!(sender.ask(&format!("NOTIFY {long}, 'x'")), "NOTIFY I");
    let found = notification(&own.read().unwrap());
    assert_eq!(found, format!("{} x", "c".repeat(63)));
    assert_eq!(own.ask("LISTEN \"\""), "42601 I");
    assert_eq!(own.ask("LISTEN a b"), "42601 I");
    assert_eq!(own.ask("LISTEN \"we\"\"ird; name\""), "LISTEN I");
    sender.ask("NOTIFY \"we\"\"ird; name\", 'y'");
    assert_eq!(notification(&own.read().unwrap()), "we\"ird; name y");
}

#[test]
fn a_lost_connection_is_made_again_and_told_of() {
    let (cluster, ringway) = start();
    let (mut own, mut sender) = (login(&ringway), login(&ringway));
    own.ask("LISTEN bell");
    own.ask("LISTEN other");
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE application_name = 'ringway listen'";
    assert_eq!(cluster.shards[0].primary.exec(kill).unwrap(), "1");
    let warning = own.read().unwrap();
    assert_eq!((warning.tag, warning.code()), (b'N', "01000".to_owned()));
    sender.ask("NOTIFY bell, 'after'");
    sender.ask("NOTIFY other, 'after'");
    assert_eq!(notification(&own.read().unwrap()), "bell after");
    assert_eq!(notification(&own.read().unwrap()), "other after");
}

#[test]
fn who_listens_while_there_is_no_server_waits_for_one_attempt() {
    let (cluster, ringway) = start_with("connect_timeout_ms = 500\n");
    let mut clients: Vec<_> = (0..20).map(|_| login(&ringway)).collect();
    let pid = cluster.shards[0].primary.pid().unwrap().to_string();
    // It accepts connections and says nothing.
    let stopped = Command::new("kill").args(["-STOP", &pid]).status();
    assert!(stopped.unwrap().success());
    let start = Instant::now();
    for client in &mut clients {
        client.query("LISTEN bell");
    }
    for client in &mut clients {
        assert_eq!(tags(&client.read_to_ready()), "EZ");
    }
    let took = start.elapsed();
    let resumed = Command::new("kill").args(["-CONT", &pid]).status();
    assert!(resumed.unwrap().success());
    // One after the other they take ten seconds.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_client_that_does_not_read_is_sent_off() {
    let (_cluster, ringway) = start();
    let (mut own, mut sender) = (login(&ringway), login(&ringway));
    own.ask("LISTEN bell");
    own.ask("BEGIN");
    let fill = "SELECT count(pg_notify('bell', n || repeat('x', 7000))) \
                FROM generate_series(1, 1000) n";
    assert_eq!(sender.ask(fill), "1000 SELECT 1 I");
    // The hub has passed all of it on once a later one has come.
    let mut later = login(&ringway);
    later.ask("LISTEN later");
    sender.ask("NOTIFY later");
    later.read().unwrap();
    own.query("COMMIT");
    let frames = own.read_to_ready();
    assert!(
        digest(&frames).starts_with("COMMIT I"),
        "{}",
        digest(&frames)
    );
    assert_eq!(
        own.read().map(|frame| frame.code()).as_deref(),
        Some("53400")
    );
    assert_eq!(own.read(), None);
}

#[test]
fn a_channel_that_nobody_listens_to_is_let_go() {
    let (cluster, ringway) = start();
    let primary = &cluster.shards[0].primary;
    let (mut own, mut sender) = (login(&ringway), login(&ringway));
    own.ask("LISTEN held");
    let ends: [(&str, &[&str]); 5] = [
        ("rolled_back", &["BEGIN", "LISTEN rolled_back", "ROLLBACK"]),
        (
            "failed",
            &["BEGIN", "LISTEN failed", "SELECT 1/0", "COMMIT"],
        ),
        (
            "savepoint",
            &[
                "BEGIN",
                "SAVEPOINT s",
                "LISTEN savepoint",
                "ROLLBACK TO s",
                "COMMIT",
            ],
        ),
        (
            "undone",
            &["BEGIN", "LISTEN undone", "UNLISTEN undone", "COMMIT"],
        ),
        ("left", &["LISTEN left", "UNLISTEN left"]),
    ];
    for (channel, texts) in ends {
        for sql in texts {
            own.ask(sql);
        }
        // What the connection that listens for all said last.
        let asked =
            format!("SELECT count(*) FROM pg_stat_activity WHERE query = 'UNLISTEN \"{channel}\"'");
        primary.wait_for(&asked, "1", LIMIT).unwrap();
    }
    let mut gone = login(&ringway);
    gone.ask("LISTEN gone");
    drop(gone);
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE query = 'UNLISTEN \"gone\"'";
    primary.wait_for(asked, "1", LIMIT).unwrap();
    sender.ask("NOTIFY held, 'still'");
    assert_eq!(notification(&own.read().unwrap()), "held still");
}

/// Changes the configuration, and waits until it is in force.
fn reload(ringway: &mut Ringway, change: impl Fn(&str) -> String) {
    let text = std::fs::read_to_string(ringway.config_file()).unwrap();
    let changed = change(&text);
    assert_ne!(text, changed);
    std::fs::write(ringway.config_file(), changed).unwrap();
    ringway.proxy.signal(Signal::Hup);
    support::wait_until(LIMIT, "the reload", || {
        ringway.proxy.log().contains("configuration reloaded")
    });
}

#[test]
fn a_database_of_the_wildcard_that_is_made_anew_sends_off_who_listens() {
    let cluster = support::cluster(&Spec::default());
    cluster.shards[0]
        .primary
        .exec("CREATE DATABASE wild")
        .unwrap();
    let mut ringway = Ringway::start(|port| {
        let primary = &cluster.shards[0].primary;
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n\
             [databases.\"*\"]\nservers = \"127.0.0.1:{}\"\n",
            primary.port
        )
    });
    let mut own = Wire::login(ringway.port(), "ringway", "wild").0;
    assert_eq!(own.ask("LISTEN bell"), "LISTEN I");
    reload(&mut ringway, |text| {
        format!("{text}tcp_keepalive_count = 3\n")
    });
    let last = own.read().unwrap();
    assert_eq!(last.code(), "57P01");
    assert_eq!(own.read(), None);
}

#[test]
fn who_listened_once_listens_to_the_new_servers_after_a_reload() {
    let cluster = support::cluster(&Spec::default());
    let primary = &cluster.shards[0].primary;
    primary.exec("CREATE DATABASE elsewhere").unwrap();
    let mut ringway = pooler(&cluster, "");
    let (mut own, mut sender) = (login(&ringway), login(&ringway));
    assert_eq!(own.ask("LISTEN old"), "LISTEN I");
    assert_eq!(own.ask("UNLISTEN old"), "UNLISTEN I");
    reload(&mut ringway, |text| {
        text.replace(
            "[databases.shop]\n",
            "[databases.shop]\ndbname = \"elsewhere\"\n",
        )
    });
    assert_eq!(own.ask("LISTEN bell"), "LISTEN I");
    assert_eq!(sender.ask("NOTIFY bell, 'new'"), "NOTIFY I");
    assert_eq!(notification(&own.read().unwrap()), "bell new");
}
