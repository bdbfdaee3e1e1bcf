//! More than there is room for: cancel requests that race, clients that vanish while they wait,
//! servers that go away amid the load, more connects than may come in. Nothing is lost, nobody is
//! forgotten, and only who asked for it is cancelled.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringway::demo::captive::{CaptiveCluster, Spec, StopMode};

use crate::support::wire::{Frame, Wire, cancel_request, digest, frame, unnamed};
use crate::support::{self, Ringway};

const LIMIT: Duration = Duration::from_secs(60);

/// A server that no test breaks or leaves anything on.
fn shared() -> &'static CaptiveCluster {
    static SERVER: std::sync::OnceLock<CaptiveCluster> = std::sync::OnceLock::new();
    SERVER.get_or_init(|| support::cluster(&Spec::default()))
}

fn ringway(cluster: &CaptiveCluster, general: &str, database: &str) -> Ringway {
    let server = cluster.shards[0].primary.port;
    Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"admin\"]\n{general}\n\
             [users.ringway]\nauth = \"trust\"\n[users.admin]\nauth = \"trust\"\n\
             [databases.shop]\nservers = [\"127.0.0.1:{server}\"]\nmonitor_user = \"ringway\"\n\
             {database}\n"
        )
    })
}

fn login(port: u16) -> (Wire, Vec<Frame>) {
    let (wire, frames) = Wire::login(port, "ringway", "shop");
    wire.set_limit(LIMIT);
    (wire, frames)
}

/// All `size` connections can be had at once, and nobody waits for any.
fn assert_whole(ringway: &Ringway, size: usize) {
    let mut wires: Vec<_> = (0..size).map(|_| login(ringway.port()).0).collect();
    for wire in &mut wires {
        assert_eq!(wire.ask("BEGIN"), "BEGIN T");
        assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 T");
    }
    for wire in &mut wires {
        assert_eq!(wire.ask("COMMIT"), "COMMIT I");
    }
    let mut admin = Wire::login(ringway.port(), "admin", "ringway").0;
    support::wait_until(LIMIT, "idle pools", || {
        let pools = crate::leak::table(&mut admin, "SHOW POOLS");
        let pools = pools.iter().filter(|pool| pool["database"] == "shop");
        let idle = |pool: &BTreeMap<String, String>| {
            ["sv_active", "sv_tested", "cl_waiting"].map(|name| pool[name].as_str()) == ["0"; 3]
        };
        pools.into_iter().all(idle)
    });
}

/// Twelve clients on one connection; every second one cancels, at any moment.
#[test]
fn only_who_cancels_is_cancelled() {
    let cluster = shared();
    let ringway = ringway(cluster, "workers = 2", "pool_size = 1");
    let port = ringway.port();
    let cancelled = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..12 {
            let cancelled = &cancelled;
            scope.spawn(move || {
                let (mut wire, frames) = login(port);
                let request = cancel_request(&frames);
                for round in 0..60 {
                    // One that only a cancel ends, now and then.
                    let endless = client % 2 == 1 && (round == 1 || round == 21);
                    let ms = if endless { 300_000 } else { round % 4 };
                    let sql = format!("SELECT '{client}' FROM pg_sleep({ms} / 1000.0)");
                    let done = format!("{client} SELECT 1 I");
                    if client % 2 == 0 || round % 3 == 2 {
                        assert_eq!(wire.ask(&sql), done, "it did not cancel this one");
                        continue;
                    }
                    match round % 2 {
                        0 => wire.query(&sql),
                        _ => wire.send_bytes(&[unnamed(&sql), frame(b'S', b"")].concat()),
                    }
                    let answered = AtomicBool::new(false);
                    let answer = std::thread::scope(|scope| {
                        // It ends once its last request was taken: until then that may hit what
                        // this client does next.
                        scope.spawn(|| {
                            loop {
                                let mut canceller = Wire::connect(port);
                                canceller.send_untagged(&request);
                                assert_eq!(canceller.read(), None);
                                if !endless || answered.load(Relaxed) {
                                    break;
                                }
                            }
                        });
                        let answer = digest(&wire.read_to_ready());
                        answered.store(true, Relaxed);
                        answer
                    });
                    cancelled.fetch_add(usize::from(answer == "57014 I"), Relaxed);
                    let expected = if endless { "57014 I" } else { &*done };
                    assert!(answer == expected || answer == "57014 I", "{answer}");
                }
            });
        }
    });
    assert!(cancelled.load(Relaxed) >= 12, "{cancelled:?}");
    assert_whole(&ringway, 1);
}

#[test]
fn a_connection_that_refused_a_clients_settings_is_not_cancelled_for_it() {
    let cluster = shared();
    let primary = &cluster.shards[0].primary;
    primary.exec("CREATE ROLE doomed").unwrap();
    let ringway = ringway(cluster, "", "pool_size = 1");
    let (mut own, frames) = login(ringway.port());
    let (mut next, _) = login(ringway.port());
    assert_eq!(own.ask("SET ROLE doomed"), "SET I");
    assert_eq!(next.ask("SELECT 1"), "1 SELECT 1 I");
    primary.exec("DROP ROLE doomed").unwrap();
    assert_eq!(own.ask("SELECT 1"), "22023 I");
    primary
        .exec("CREATE TABLE held AS SELECT 'n' AS name")
        .unwrap();
    let (mut holder, _) = Wire::login(primary.port, "ringway", &primary.database);
    assert_eq!(holder.ask("BEGIN"), "BEGIN T");
    assert_eq!(holder.ask("LOCK TABLE held"), "LOCK TABLE T");
    next.query("SELECT 'n' FROM held");
    let running = "SELECT count(*) FROM pg_stat_activity \
        WHERE query LIKE 'SELECT ''n''%' AND state = 'active'";
    primary.wait_for(running, "1", LIMIT).unwrap();
    let mut canceller = Wire::connect(ringway.port());
    canceller.send_untagged(&cancel_request(&frames));
    assert_eq!(canceller.read(), None);
    assert_eq!(holder.ask("ROLLBACK"), "ROLLBACK I");
    assert_eq!(digest(&next.read_to_ready()), "n SELECT 1 I");
    primary.exec("DROP TABLE held").unwrap();
}

/// Whatever kept the connection with its client goes with it, also when the client is cut off.
#[test]
fn what_kept_a_connection_leaves_with_a_client_that_vanishes() {
    let cluster = shared();
    let ringway = ringway(cluster, "", "pool_size = 1");
    let default = login(ringway.port()).0.ask("SHOW work_mem");
    for (keep, look, clean) in [
        (
            "CREATE TEMP TABLE mine AS SELECT 1 AS one",
            "SELECT * FROM mine",
            "42P01 I",
        ),
        (
            "SELECT pg_advisory_lock(77)",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
            "0 SELECT 1 I",
        ),
        ("PREPARE mine AS SELECT 1", "EXECUTE mine", "26000 I"),
        (
            "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
            "FETCH 1 FROM mine",
            "34000 I",
        ),
        (
            "BEGIN; SAVEPOINT s; SET work_mem = '77MB'; RELEASE s; COMMIT",
            "SHOW work_mem",
            &*default,
        ),
        (
            "SELECT set_config('work_mem', '77MB', false)",
            "SHOW work_mem",
            &*default,
        ),
    ] {
        for crash in [false, true] {
            let (mut own, _) = login(ringway.port());
            for statement in keep.split("; ") {
                own.ask(statement);
            }
            if crash {
                own.reset_on_close();
            }
            drop(own);
            assert_eq!(login(ringway.port()).0.ask(look), clean, "{keep}");
        }
    }
    assert_whole(&ringway, 1);
}

#[test]
fn clients_that_vanish_while_they_wait_take_no_place_with_them() {
    let cluster = shared();
    let settings = "pool_size = 2\ncheckout_timeout_ms = 60000";
    let ringway = ringway(cluster, "", settings);
    let mut holders = [login(ringway.port()).0, login(ringway.port()).0];
    for holder in &mut holders {
        holder.ask("BEGIN");
        assert_eq!(holder.ask("SELECT 1"), "1 SELECT 1 T");
    }
    let mut admin = Wire::login(ringway.port(), "admin", "ringway").0;
    let mut waiting = |least: usize| {
        let pools = crate::leak::table(&mut admin, "SHOW POOLS");
        let of = |pool: &BTreeMap<String, String>| pool["cl_waiting"].parse::<usize>().unwrap();
        pools.iter().map(of).sum::<usize>() >= least
    };
    for round in 0..2 {
        let queue: Vec<_> = (0..100).map(|_| login(ringway.port()).0).collect();
        for mut wire in queue {
            wire.query("SELECT pg_sleep(30)");
            if round == 0 {
                wire.reset_on_close();
            }
        }
        support::wait_until(LIMIT, "a queue", || waiting(1));
    }
    for holder in &mut holders {
        assert_eq!(holder.ask("COMMIT"), "COMMIT I");
    }
    assert_whole(&ringway, 2);
}

/// What a client may be told while servers come and go.
const PASSING: [&str; 8] = [
    "57P01", "57P02", "57P03", "08006", "08001", "08P01", "53300", "end",
];

#[test]
fn servers_that_restart_amid_the_load_cost_no_place() {
    let mut cluster = support::cluster(&Spec::default());
    let settings = "pool_size = 4\ncheckout_timeout_ms = 5000";
    let ringway = ringway(&cluster, "workers = 2", settings);
    let port = ringway.port();
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..40 {
            let (done, served) = (&done, &served);
            scope.spawn(move || {
                let mut wire = None;
                while !done.load(Relaxed) {
                    let answer = match &mut wire {
                        None => match try_login(port) {
                            Ok(logged_in) => wire.insert(logged_in),
                            Err(code) => {
                                assert!(PASSING.contains(&&*code), "{code}");
                                continue;
                            }
                        },
                        Some(wire) => wire,
                    }
                    .ask(&format!("SELECT '<{client}>' FROM pg_sleep(0.001)"));
                    served.fetch_add(1, Relaxed);
                    if answer == format!("<{client}> SELECT 1 I") {
                        continue;
                    }
                    let code = answer.split(' ').next().unwrap().to_owned();
                    assert!(PASSING.contains(&&*code), "{answer}");
                    if answer.ends_with("end") {
                        wire = None;
                    }
                }
            });
        }
        let _end = OnDrop(&done);
        let more = |least: usize| {
            let before = served.load(Relaxed);
            support::wait_until(LIMIT, "more answers", || {
                served.load(Relaxed) > before + least
            });
        };
        more(500);
        for state in ["idle", "active", "active"] {
            let sql = format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE \
                 backend_type = 'client backend' AND state = '{state}' AND pid <> pg_backend_pid()"
            );
            cluster.shards[0].primary.exec(&sql).unwrap();
            more(200);
        }
        let pid = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' \
            AND pid <> pg_backend_pid() LIMIT 1";
        let pid = cluster.shards[0].primary.exec(pid).unwrap();
        let kill = Command::new("sh")
            .args(["-c", &format!("kill -9 {pid}")])
            .status();
        assert!(pid.parse::<u32>().is_ok() && kill.unwrap().success());
        more(200);
        cluster.shards[0].primary.stop(StopMode::Fast).unwrap();
        cluster.shards[0].primary.start().unwrap();
        more(500);
    });
    // A pool that is whole again serves without an error.
    support::wait_until(LIMIT, "the server to be found again", || {
        login(port).0.ask("SELECT 2") == "2 SELECT 1 I"
    });
    assert_whole(&ringway, 4);
}

/// Has everybody stop, also when the test fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A session, or the SQLSTATE that it was refused with.
fn try_login(port: u16) -> Result<Wire, String> {
    let mut wire = Wire::connect(port);
    wire.set_limit(LIMIT);
    wire.send_startup(196_608, &[("user", "ringway"), ("database", "shop")]);
    let frames = wire.read_to_ready();
    match frames.iter().find(|frame| frame.tag == b'E') {
        Some(error) => Err(error.code()),
        None if frames.is_empty() => Err("end".to_owned()),
        None => Ok(wire),
    }
}

#[test]
fn nobody_starves_in_a_long_queue() {
    const CLIENTS: usize = 300;
    let cluster = shared();
    let ringway = ringway(
        cluster,
        "workers = 2",
        "pool_size = 20\ncheckout_timeout_ms = 60000",
    );
    let port = ringway.port();
    let done = AtomicBool::new(false);
    let all_here = std::sync::Barrier::new(CLIENTS);
    let counts: Vec<AtomicUsize> = (0..CLIENTS).map(|_| AtomicUsize::new(0)).collect();
    let total = || {
        counts
            .iter()
            .map(|count| count.load(Relaxed))
            .sum::<usize>()
    };
    std::thread::scope(|scope| {
        for (client, count) in counts.iter().enumerate() {
            let (done, all_here) = (&done, &all_here);
            scope.spawn(move || {
                let mut wire = login(port).0;
                all_here.wait();
                while !done.load(Relaxed) {
                    let answer = wire.ask(&format!("SELECT {client}"));
                    assert_eq!(answer, format!("{client} SELECT 1 I"));
                    count.fetch_add(1, Relaxed);
                }
            });
        }
        let _end = OnDrop(&done);
        support::wait_until(LIMIT, "answers", || total() >= CLIENTS * 30);
    });
    let mut counts: Vec<_> = counts.into_iter().map(AtomicUsize::into_inner).collect();
    counts.sort_unstable();
    // Whose thread the machine forgets is not Ringway's to decide: the last few do not count.
    let (few, many) = (counts[CLIENTS / 20], counts[CLIENTS - 1]);
    assert!(few * 3 >= many, "{counts:?}");
    assert_whole(&ringway, 20);
}

/// Connects that come at once: each is served or told why not, within the time for a login.
fn burst(connects: usize, max_clients: usize) {
    const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);
    let cluster = shared();
    let general = format!("workers = 2\nmax_clients = {max_clients}\nlogin_timeout_s = 30");
    let ringway = ringway(cluster, &general, "pool_size = 4");
    let port = ringway.port();
    // The first of them all learns what a server reports.
    assert_eq!(login(port).0.ask("SELECT 1"), "1 SELECT 1 I");
    let start = Instant::now();
    let (served, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let all_here = std::sync::Barrier::new(connects / 25);
    std::thread::scope(|scope| {
        for _ in 0..connects / 25 {
            let (served, refused, all_here) = (&served, &refused, &all_here);
            scope.spawn(move || {
                let wires: Vec<_> = (0..25).map(|_| Wire::connect(port)).collect();
                let mut kept = Vec::new();
                for mut wire in wires {
                    wire.set_limit(LOGIN_TIMEOUT);
                    let startup = b"\0\x03\0\0user\0ringway\0database\0shop\0\0";
                    let len = (startup.len() as u32 + 4).to_be_bytes();
                    // It may have been refused before it said a word.
                    let _ = wire.try_send(&[&len[..], startup].concat());
                    let frames = wire.read_to_ready();
                    match frames.iter().find(|frame| frame.tag == b'E') {
                        Some(error) => {
                            assert_eq!(error.code(), "53300", "{error:?}");
                            refused.fetch_add(1, Relaxed);
                        }
                        None => {
                            assert_eq!(frames.last().map(|frame| frame.tag), Some(b'Z'));
                            served.fetch_add(1, Relaxed);
                            kept.push(wire);
                        }
                    }
                }
                all_here.wait();
                for wire in &mut kept {
                    assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 I");
                }
            });
        }
    });
    let (served, refused) = (served.into_inner(), refused.into_inner());
    println!(
        "{connects} connects in {:?}: {served} served, {refused} refused",
        start.elapsed()
    );
    assert_eq!(served + refused, connects);
    assert!(served >= max_clients.min(connects) - 1, "{served} served");
    assert_whole(&ringway, 4);
}

#[test]
fn every_connect_of_a_burst_is_served_or_refused() {
    burst(700, 400);
}

/// The long form, `make soak`.
#[test]
#[ignore = "needs ten thousand open files: make soak"]
fn soak_a_burst_of_five_thousand() {
    burst(5_000, 3_000);
}
