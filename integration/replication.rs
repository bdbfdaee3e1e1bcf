//! Replication clients: PostgreSQL's own programs through Ringway.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ringway::demo::captive::{CaptiveCluster, Programs, Spec};

use crate::support::process::LIMIT;
use crate::support::wire::{Wire, digest};
use crate::support::{self, Ringway, psql, wait_until};

/// One of PostgreSQL's programs.
fn program(cluster: &CaptiveCluster, name: &str) -> Command {
    let programs: &Programs = cluster.programs();
    Command::new(programs.path(name))
}

fn url(ringway: &Ringway, database: &str) -> String {
    format!(
        "host=127.0.0.1 port={} user=ringway dbname={database} application_name=walker",
        ringway.port()
    )
}

fn succeed(output: Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}

/// The databases in the modes that matter.
fn start(cluster: &CaptiveCluster) -> Ringway {
    let server = cluster.shards[0].primary.port;
    let databases = format!(
        "[databases.shop]\nservers = [\"127.0.0.1:{server}\"]\n\
         [databases.replication]\ndbname = \"shop\"\nservers = [\"127.0.0.1:{server}\"]\n\
         pool_mode = \"session\"\n\
         [databases.one]\ndbname = \"shop\"\nservers = [\"127.0.0.1:{server}\"]\n\
         pool_mode = \"session\"\nmax_db_connections = 1\n\
         [databases.two]\n\
         [[databases.two.shards]]\nname = \"a\"\nservers = [\"127.0.0.1:{server}\"]\n\
         dbname = \"shop\"\n\
         [[databases.two.shards]]\nname = \"b\"\nservers = [\"127.0.0.1:{server}\"]\n\
         dbname = \"postgres\"\n"
    );
    Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n\
             [users.ringway]\nauth = \"trust\"\n{databases}"
        )
    })
}

/// Ends a program that goes on for ever.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn size(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .filter_map(|file| file.metadata().ok())
        .map(|m| m.len())
        .sum()
}

#[test]
fn postgresqls_programs_replicate_through_ringway() {
    let cluster = support::cluster(&Spec::default());
    let primary = &cluster.shards[0].primary;
    primary
        .exec("CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g")
        .unwrap();
    let ringway = start(&cluster);
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { directory.path().join(name) };
    let replication = url(&ringway, "replication");

    let backup = program(&cluster, "pg_basebackup")
        .args([
            "-d",
            &replication,
            "--checkpoint=fast",
            "-X",
            "stream",
            "-D",
        ])
        .arg(at("backup"))
        .output()
        .unwrap();
    succeed(backup);
    let verified = program(&cluster, "pg_verifybackup")
        .arg(at("backup"))
        .output()
        .unwrap();
    succeed(verified);

    std::fs::create_dir(at("wal")).unwrap();
    let receiver = program(&cluster, "pg_receivewal")
        .args(["-d", &replication, "--no-loop", "-D"])
        .arg(at("wal"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let receiver = Running(receiver);
    let streaming = "SELECT count(*) FROM pg_stat_replication \
                     WHERE application_name = 'walker' AND state = 'streaming'";
    primary.wait_for(streaming, "1", LIMIT).unwrap();
    // The backup ended a segment, and an idle server writes nothing into the next.
    primary.exec("INSERT INTO t VALUES (0)").unwrap();
    wait_until(LIMIT, "WAL to arrive", || size(&at("wal")) > 0);
    let statement = psql(&url(&ringway, "replication"), "SELECT 1");
    assert_eq!(statement, "1", "statements go on beside it");
    for table in ["SHOW CLIENTS", "SHOW SERVERS"] {
        let rows = psql(&url(&ringway, "ringway"), table);
        assert!(rows.contains("replication|"), "{table}: {rows}");
        let row = rows.lines().find(|row| row.ends_with("|replication|0"));
        assert!(row.is_some_and(|row| row.contains("walker")), "{rows}");
    }
    drop(receiver);
    // Its server goes with the client.
    primary
        .wait_for("SELECT count(*) FROM pg_stat_replication", "0", LIMIT)
        .unwrap();

    // Those count against the caps as well.
    let mut only = Wire::login(ringway.port(), "ringway", "one").0;
    assert_eq!(only.ask("SELECT 1"), "1 SELECT 1 I");
    let slot = program(&cluster, "pg_recvlogical")
        .args(["-d", &url(&ringway, "one"), "--slot", "refused"])
        .args(["--create-slot", "-P", "test_decoding"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&slot.stderr);
    assert!(stderr.contains("too many server connections"), "{stderr}");
    drop(only);

    let slot = program(&cluster, "pg_recvlogical")
        .args(["-d", "replication", "-h", "127.0.0.1", "-U", "ringway"])
        .args(["-p", &ringway.port().to_string()])
        .args(["--slot", "changes", "--create-slot", "-P", "test_decoding"])
        .output()
        .unwrap();
    succeed(slot);
    let decoder = program(&cluster, "pg_recvlogical")
        .args(["-d", "replication", "-h", "127.0.0.1", "-U", "ringway"])
        .args(["-p", &ringway.port().to_string()])
        .args(["--slot", "changes", "--start", "--no-loop", "-F", "0", "-f"])
        .arg(at("changes"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let decoder = Running(decoder);
    primary.exec("INSERT INTO t VALUES (4711)").unwrap();
    wait_until(LIMIT, "the change", || {
        std::fs::read_to_string(at("changes"))
            .is_ok_and(|text| text.contains("INSERT: g[integer]:4711"))
    });
    drop(decoder);
}

#[test]
fn replication_is_refused_where_it_cannot_be_right() {
    let cluster = support::cluster(&Spec::default());
    let ringway = start(&cluster);
    let ask = |database: &str, replication: &str| {
        let mut wire = Wire::connect(ringway.port());
        let who = [("user", "ringway"), ("database", database)];
        wire.send_startup(
            196_608,
            &[&who[..], &[("replication", replication)]].concat(),
        );
        let mut frames = wire.read_to_ready();
        frames.retain(|frame| frame.tag == b'E' || frame.tag == b'Z');
        (digest(&frames), frames)
    };
    let (answer, frames) = ask("shop", "database");
    assert_eq!(answer, "0A000 end");
    assert!(frames[0].fields()[&'D'].contains("transaction mode"));
    assert_eq!(ask("two", "database").0, "0A000 end");
    assert_eq!(ask("shop", "perhaps").0, "22023 end");
    assert_eq!(ask("replication", "true").0, "I");
    assert_eq!(ask("shop", "false").0, "I");
}
