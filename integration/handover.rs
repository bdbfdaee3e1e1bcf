//! Several processes: one takes another's place, one passes on what is another's; and systemd.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use ringway::demo::captive::{Signal, free_port};

use crate::lifecycle::{cancel_request, config, http_status, start, wait_for_query};
use crate::support::process::{LIMIT, Launch, Process};
use crate::support::wire::{Wire, digest};
use crate::support::{psql, wait_until};

fn take_over(directory: &Path, name: &str, config: String) -> Process {
    Launch {
        directory,
        name,
        config,
        args: &["--take-over"],
        env: &[],
        before: "",
    }
    .start()
}

/// Connects, asks one thing and leaves, again and again; counts what did not work.
struct Callers {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Callers {
    fn start(port: u16, socket: &Path) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let threads = (0..4).map(|number| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            let socket = (number % 2 == 1).then(|| socket.to_owned());
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Relaxed) {
                    let call = std::panic::catch_unwind(|| {
                        let (mut wire, _) = match &socket {
                            Some(socket) => Wire::login_unix(socket, "ringway", "shop"),
                            None => Wire::login(port, "ringway", "shop"),
                        };
                        wire.ask("SELECT 'hello'")
                    });
                    match call {
                        Ok(answer) if answer == "hello SELECT 1 I" => served.fetch_add(1, Relaxed),
                        Ok(answer) => {
                            failures.push(answer);
                            0
                        }
                        Err(_) => {
                            failures.push("no connection".to_owned());
                            0
                        }
                    };
                }
                failures
            })
        });
        let threads = threads.collect();
        Self {
            stop,
            served,
            threads,
        }
    }

    /// Lets some more be served, so that what is under way is known to work.
    fn wait_for_more(&self, more: usize) {
        let enough = self.served.load(Relaxed) + more;
        wait_until(LIMIT, "callers to be served", || {
            self.served.load(Relaxed) >= enough || self.threads.iter().any(|t| t.is_finished())
        });
    }

    fn failures(self) -> Vec<String> {
        self.stop.store(true, Relaxed);
        let threads = self.threads.into_iter();
        threads.flat_map(|thread| thread.join().unwrap()).collect()
    }
}

#[test]
fn a_new_process_takes_over_and_no_connect_fails() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let (port, http) = (free_port().unwrap(), free_port().unwrap());
    let general = format!(
        "listen = [\"127.0.0.1:{port}\", \"{0}:{port}\"]\nrun_directory = \"{0}/run\"\n\
         http_listen = \"127.0.0.1:{http}\"",
        dir.display()
    );
    let config = config(&general, "");
    let socket = dir.join(format!(".s.PGSQL.{port}"));
    let mut old = start(dir, "0", config.clone());
    let callers = Callers::start(port, &socket);
    callers.wait_for_more(50);
    for round in 1..=5 {
        // A transaction that is open across the hand-over.
        let (mut kept, frames) = Wire::login(port, "ringway", "shop");
        assert_eq!(kept.ask("BEGIN"), "BEGIN T");
        assert_eq!(kept.ask("SELECT 1"), "1 SELECT 1 T");
        let new = take_over(dir, &round.to_string(), config.clone());
        new.wait_for_log("ready");
        old.wait_for_log("another process has taken over");
        callers.wait_for_more(50);
        // The old one serves it to its end, and a CancelRequest finds it through the new one.
        let sleep = format!("SELECT pg_sleep(70 + {round})");
        kept.query(&sleep);
        wait_for_query(&sleep);
        let key = frames.iter().find(|frame| frame.tag == b'K').unwrap();
        let mut canceller = Wire::connect(port);
        canceller.send_untagged(&cancel_request(&key.body));
        assert_eq!(canceller.read(), None);
        assert_eq!(digest(&kept.read_to_ready()), "57014 E");
        assert!(!old.has_ended());
        assert_eq!(kept.ask("ROLLBACK"), "ROLLBACK I");
        assert!(old.wait_for_end().success());
        wait_until(LIMIT, "the new process to be ready", || {
            http_status(http, "/readyz") == "200"
        });
        old = new;
    }
    let served = callers.served.load(Relaxed);
    assert_eq!(callers.failures(), Vec::<String>::new(), "{served} served");
    let left = std::fs::read_dir(dir.join("run")).unwrap().count();
    assert_eq!(left, 1, "sockets in run_directory");
    old.signal(Signal::Term);
    assert!(old.wait_for_end().success());
    assert!(!socket.exists());
}

#[test]
fn a_process_that_fails_to_take_over_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let port = free_port().unwrap();
    let run = dir.join("run");
    let general = format!(
        "listen = [\"127.0.0.1:{port}\", \"{}:{port}\"]\nrun_directory = \"{}\"",
        dir.display(),
        run.display()
    );
    let config = config(&general, "");
    let socket = dir.join(format!(".s.PGSQL.{port}"));
    let mut process = start(dir, "first", config.clone());
    let (mut wire, _) = Wire::login(port, "ringway", "shop");
    // Another address that it cannot have: it ends after it got the sockets.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let end = format!(", \"{}\"]\nrun_directory", taken.local_addr().unwrap());
    let broken = config.replace("]\nrun_directory", &end);
    let mut failed = take_over(dir, "failed", broken);
    assert!(!failed.wait_for_end().success());
    process.wait_for_log("did not; this one goes on");
    assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 I");
    let (mut other, _) = Wire::login_unix(&socket, "ringway", "shop");
    assert_eq!(other.ask("SELECT 1"), "1 SELECT 1 I");

    // Without --take-over the second is told what to do.
    let mut second = Launch {
        directory: dir,
        name: "second",
        config: config.clone(),
        args: &[],
        env: &[],
        before: "",
    }
    .start();
    assert!(!second.wait_for_end().success());
    assert!(second.log().contains("--take-over"), "{}", second.log());

    // One that was killed leaves a socket that nobody answers at.
    process.signal(Signal::Kill);
    process.wait_for_end();
    let anew = take_over(dir, "anew", config);
    anew.wait_for_log("ready");
    assert!(anew.log().contains("there is no process to take over from"));
    assert_eq!(std::fs::read_dir(run).unwrap().count(), 1);
}

/// A process of a group of two that does not share a run_directory.
fn peer(directory: &Path, id: u16, port: u16, other: (u16, u16)) -> Process {
    let general = format!("listen = \"127.0.0.1:{port}\"\npeer_id = {id}");
    let peers = format!("[peers]\n{} = \"127.0.0.1:{}\"\n", other.0, other.1);
    start(directory, &id.to_string(), config(&general, &peers))
}

#[test]
fn a_cancel_request_finds_its_process() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let (one, two) = (free_port().unwrap(), free_port().unwrap());
    let _first = peer(dir, 1, one, (2, two));
    let mut second = peer(dir, 2, two, (1, one));
    let (mut wire, frames) = Wire::login(one, "ringway", "shop");
    let (mut neighbour, others) = Wire::login(two, "ringway", "shop");
    let [key, other] = [&frames, &others].map(|frames| {
        let key = frames.iter().find(|frame| frame.tag == b'K').unwrap();
        key.body.clone()
    });
    wire.query("SELECT pg_sleep(81)");
    neighbour.query("SELECT pg_sleep(82)");
    wait_for_query("SELECT pg_sleep(81)");
    wait_for_query("SELECT pg_sleep(82)");
    let cancel = |port: u16, key: &[u8]| {
        let mut canceller = Wire::connect(port);
        canceller.send_untagged(&cancel_request(key));
        assert_eq!(canceller.read(), None, "closed without an answer");
    };
    // A forged key does nothing, whoever gets it.
    let mut forged = key.clone();
    *forged.last_mut().unwrap() ^= 1;
    cancel(one, &forged);
    cancel(two, &forged);
    wait_for_query("SELECT pg_sleep(81)");
    cancel(two, &key);
    assert_eq!(digest(&wire.read_to_ready()), "57014 I");
    wait_for_query("SELECT pg_sleep(82)");
    cancel(one, &other);
    assert_eq!(digest(&neighbour.read_to_ready()), "57014 I");

    // A peer that is down, or that nobody knows, does no harm.
    second.signal(Signal::Kill);
    second.wait_for_end();
    let mut of_second = (2_i32 << 21 | 5).to_be_bytes().to_vec();
    of_second.extend_from_slice(&[0; 4]);
    cancel(one, &of_second);
    cancel(one, &[0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4]);
    assert_eq!(wire.ask("SELECT 1"), "1 SELECT 1 I");
}

#[test]
fn a_cancel_request_follows_a_hand_over_on_another_machine() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let (one, two) = (free_port().unwrap(), free_port().unwrap());
    let general = format!(
        "listen = \"127.0.0.1:{one}\"\npeer_id = 1\nrun_directory = \"{}/run\"",
        dir.display()
    );
    let peers = format!("[peers]\n2 = \"127.0.0.1:{two}\"\n");
    let config = config(&general, &peers);
    let old = start(dir, "old", config.clone());
    let _other = peer(dir, 2, two, (1, one));
    let (mut wire, frames) = Wire::login(one, "ringway", "shop");
    let key = frames.iter().find(|frame| frame.tag == b'K').unwrap();
    wire.query("SELECT pg_sleep(85)");
    wait_for_query("SELECT pg_sleep(85)");
    let _new = take_over(dir, "new", config);
    old.wait_for_log("another process has taken over");
    let mut canceller = Wire::connect(two);
    canceller.send_untagged(&cancel_request(&key.body));
    assert_eq!(canceller.read(), None);
    assert_eq!(digest(&wire.read_to_ready()), "57014 I");
}

#[test]
fn processes_that_share_a_port_find_each_others_clients() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let port = free_port().unwrap();
    let general = format!(
        "listen = \"127.0.0.1:{port}\"\nreuse_port = true\nrun_directory = \"{}/run\"",
        dir.display()
    );
    let config = config(&general, "");
    let _processes = [
        start(dir, "one", config.clone()),
        start(dir, "two", config.clone()),
    ];
    // The system chooses who gets which connection: of twenty some go to the other process.
    for _ in 0..20 {
        let (mut wire, frames) = Wire::login(port, "ringway", "shop");
        let key = frames.iter().find(|frame| frame.tag == b'K').unwrap();
        wire.query("SELECT pg_sleep(83)");
        wait_for_query("SELECT pg_sleep(83)");
        let mut canceller = Wire::connect(port);
        canceller.send_untagged(&cancel_request(&key.body));
        assert_eq!(canceller.read(), None);
        assert_eq!(digest(&wire.read_to_ready()), "57014 I");
    }
    let mut third = take_over(dir, "three", config);
    assert!(!third.wait_for_end().success());
    let log = third.log();
    assert!(log.contains("several processes serve here"), "{log}");
}

/// The next message for systemd that has `word` in it.
fn notice(socket: &UnixDatagram, word: &str) -> String {
    let mut buffer = [0; 1024];
    loop {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| {
            panic!("{word}: {error}");
        });
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.contains(word) {
            return text;
        }
    }
}

/// Lets children inherit a socket.
fn inheritable(socket: &impl std::os::fd::AsFd) {
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).unwrap();
}

#[test]
fn systemd_is_told_and_its_socket_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let systemd = UnixDatagram::bind(dir.join("notify")).unwrap();
    systemd.set_read_timeout(Some(LIMIT)).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    inheritable(&listener);
    let env = |watchdog: &str| {
        vec![
            (
                "NOTIFY_SOCKET",
                dir.join("notify").to_string_lossy().into_owned(),
            ),
            ("LISTEN_FDS", "1".to_owned()),
            ("LISTEN_FDS_FIRST_FD", listener.as_raw_fd().to_string()),
            ("WATCHDOG_USEC", watchdog.to_owned()),
        ]
    };
    // Who connects before the process runs waits.
    let early = std::thread::spawn(move || {
        let (mut wire, _) = Wire::login(port, "ringway", "shop");
        wire.ask("SELECT 'early'")
    });
    let general = format!("listen = \"127.0.0.1:{port}\"");
    let launch = |config: String, name: &str| {
        Launch {
            directory: dir,
            name,
            config,
            args: &[],
            env: &env("200000"),
            before: "LISTEN_PID=$$; export LISTEN_PID",
        }
        .start()
    };
    let mut process = launch(config(&general, ""), "ringway");
    notice(&systemd, "READY=1");
    assert_eq!(early.join().unwrap(), "early SELECT 1 I");
    notice(&systemd, "WATCHDOG=1");
    process.signal(Signal::Hup);
    let reloading = notice(&systemd, "RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    notice(&systemd, "READY=1");
    let (mut wire, _) = Wire::login(port, "ringway", "shop");
    assert_eq!(wire.ask("BEGIN"), "BEGIN T");
    process.signal(Signal::Term);
    notice(&systemd, "STOPPING=1");
    assert_eq!(wire.ask("COMMIT"), "COMMIT I");
    assert!(process.wait_for_end().success());

    // systemd's socket is still there: who connects meanwhile is served by the next process.
    let between = std::thread::spawn(move || {
        let url = format!("host=127.0.0.1 port={port} user=ringway dbname=shop");
        psql(&url, "SELECT 'between'")
    });
    let next = launch(config(&general, ""), "next");
    notice(&systemd, "READY=1");
    assert_eq!(between.join().unwrap(), "between");
    drop(next);

    let elsewhere = format!("listen = \"127.0.0.1:{}\"", free_port().unwrap());
    let mut stranger = launch(config(&elsewhere, ""), "stranger");
    assert!(!stranger.wait_for_end().success());
    let log = stranger.log();
    assert!(
        log.contains(&format!("127.0.0.1:{port}, which is not in listen")),
        "{log}"
    );
}
