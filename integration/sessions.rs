//! More clients than servers: nobody gets what is another's, and nothing is left behind.

use std::sync::Arc;
use std::time::Duration;

use ringway::demo::captive::{CaptiveCluster, Spec};
use tokio_postgres::{Client, NoTls};

use crate::support::wire::{Wire, bind, execute, frame, parse};
use crate::support::{self, Ringway};

const LIMIT: Duration = Duration::from_secs(15);
const CLIENTS: usize = 20;

/// A Ringway before one server, with two connections to it.
pub(crate) fn pooler(cluster: &CaptiveCluster, more: &str) -> Ringway {
    let server = cluster.shards[0].primary.port;
    Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n\
             [users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\nservers = [\"127.0.0.1:{server}\"]\npool_size = 2\n{more}"
        )
    })
}

async fn connect(ringway: &Ringway) -> Client {
    support::client(&format!(
        "postgresql://ringway@127.0.0.1:{}/shop",
        ringway.port()
    ))
    .await
}

/// Both connections of the pool can be had at once, so nobody holds one any more.
async fn assert_idle(ringway: &Ringway) {
    let (one, other) = (connect(ringway).await, connect(ringway).await);
    for client in [&one, &other] {
        client.batch_execute("BEGIN").await.unwrap();
        client.batch_execute("SELECT 1").await.unwrap();
    }
    for client in [&one, &other] {
        client.batch_execute("COMMIT").await.unwrap();
    }
}

/// Everything a client may leave on a server, marked with its number; each answer must carry it.
async fn use_session(client: &Client, mark: usize) {
    for round in 0..5 {
        // The driver numbers its statements, so each name stands for another text per client.
        let sql = format!("SELECT '{mark}' || $1::text");
        let statement = client.prepare(&sql).await.unwrap();
        let row = client.query_one(&statement, &[&"!"]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), format!("{mark}!"));
        let set = format!("SET application_name = 'client {mark}'");
        client.batch_execute(&set).await.unwrap();
        let row = client
            .query_one("SHOW application_name", &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, String>(0), format!("client {mark}"));
        if round == 2 && mark.is_multiple_of(4) {
            use_temporary_table(client, mark).await;
        }
        if round == 3 && mark.is_multiple_of(3) {
            client
                .batch_execute("BEGIN; SELECT pg_sleep(0.005); ROLLBACK")
                .await
                .unwrap();
        }
    }
}

async fn use_temporary_table(client: &Client, mark: usize) {
    let sql = format!("CREATE TEMP TABLE mine AS SELECT {mark} AS mark");
    client.batch_execute(&sql).await.unwrap();
    let row = client
        .query_one("SELECT mark FROM mine", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), mark as i32);
    client.batch_execute("DISCARD ALL").await.unwrap();
}

/// Leaves in the middle of something.
fn vanish(port: u16, how: usize) {
    let (mut wire, _) = Wire::login(port, "ringway", "shop");
    match how % 4 {
        0 => wire.query("SELECT pg_sleep(30)"),
        1 => {
            wire.query("BEGIN");
            wire.read_to_ready();
            wire.query("INSERT INTO vanished VALUES (1)");
            wire.read_to_ready();
        }
        2 => wire.send_bytes(&frame(b'P', b"\0SELECT 1\0\0\0")[..7]),
        _ => wire.query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_clients_on_two_servers_get_only_what_is_theirs() {
    let cluster = support::cluster(&Spec::default());
    let primary = &cluster.shards[0].primary;
    primary.exec("CREATE TABLE vanished (id int)").unwrap();
    let ringway = Arc::new(pooler(&cluster, ""));
    let users = (0..CLIENTS).map(|mark| {
        let ringway = Arc::clone(&ringway);
        tokio::spawn(async move {
            let client = connect(&ringway).await;
            use_session(&client, mark).await;
        })
    });
    let users: Vec<_> = users.collect();
    for how in 0..12 {
        let port = ringway.port();
        tokio::task::spawn_blocking(move || vanish(port, how))
            .await
            .unwrap();
    }
    for user in users {
        user.await.unwrap();
    }
    assert_idle(&ringway).await;
    let count = primary.exec("SELECT count(*) FROM vanished").unwrap();
    assert_eq!(
        count, "0",
        "a transaction of a client that vanished is rolled back"
    );
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
    assert_eq!(primary.exec(open).unwrap(), "0");
}

#[test]
fn an_error_amid_a_copy_frame_leaves_the_server_in_step() {
    let cluster = support::cluster(&Spec::default());
    cluster.shards[0]
        .primary
        .exec("CREATE TABLE t (id int)")
        .unwrap();
    let ringway = pooler(&cluster, "");
    let (mut wire, _) = Wire::login(ringway.port(), "ringway", "shop");
    wire.query("COPY t FROM STDIN");
    assert_eq!(wire.read().map(|f| f.tag), Some(b'G'));
    let long = frame(b'd', &b"1\n".repeat(50_000));
    wire.send(b'd', b"nonsense\n");
    wire.send_bytes(&long[..30_000]);
    assert_eq!(wire.read().map(|f| f.code()).as_deref(), Some("22P02"));
    wire.send_bytes(&long[30_000..]);
    wire.send(b'c', b"");
    assert_eq!(wire.read().map(|f| f.tag), Some(b'Z'));
    wire.query("SELECT count(*) FROM t");
    let tags: Vec<_> = wire
        .read_to_ready()
        .iter()
        .map(|f| char::from(f.tag))
        .collect();
    assert_eq!(tags, ['T', 'D', 'C', 'Z']);
}

#[tokio::test]
async fn a_cancel_request_stops_what_runs() {
    let cluster = support::cluster(&Spec::default());
    let ringway = pooler(&cluster, "");
    let client = connect(&ringway).await;
    let token = client.cancel_token();
    let sleeper =
        tokio::spawn(async move { (client.batch_execute("SELECT pg_sleep(60)").await, client) });
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'";
    let waited = tokio::task::spawn_blocking(move || {
        cluster.shards[0]
            .primary
            .wait_for(running, "1", LIMIT)
            .unwrap();
        cluster
    });
    let _cluster = waited.await.unwrap();
    token.cancel_query(NoTls).await.unwrap();
    let (result, client) = sleeper.await.unwrap();
    let code = result
        .unwrap_err()
        .code()
        .map(|code| code.code().to_owned());
    assert_eq!(code.as_deref(), Some("57014"));
    client.batch_execute("SELECT 1").await.unwrap();
}

#[test]
fn a_cancel_request_with_a_wrong_key_does_nothing() {
    let cluster = support::cluster(&Spec::default());
    let ringway = pooler(&cluster, "");
    let (mut wire, frames) = Wire::login(ringway.port(), "ringway", "shop");
    let key = frames.iter().find(|frame| frame.tag == b'K').unwrap();
    let mut request = 80_877_102u32.to_be_bytes().to_vec();
    request.extend_from_slice(&key.body);
    *request.last_mut().unwrap() ^= 1;
    wire.query("SELECT pg_sleep(0.5)");
    let primary = &cluster.shards[0].primary;
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(0.5)'";
    primary.wait_for(running, "1", LIMIT).unwrap();
    let mut canceller = Wire::connect(ringway.port());
    canceller.send_untagged(&request);
    assert_eq!(canceller.read(), None, "closed without an answer");
    assert!(wire.read_to_ready().iter().all(|frame| frame.tag != b'E'));
}

#[tokio::test]
async fn reset_returns_to_what_the_client_started_with() {
    let cluster = support::cluster(&Spec::default());
    let ringway = pooler(&cluster, "");
    let url = format!("postgresql://ringway@127.0.0.1:{}/shop", ringway.port());
    let mut config: tokio_postgres::Config = url.parse().unwrap();
    config.options("-c DateStyle=German -c work_mem=5MB");
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let show = async |name: &str| {
        let row = client
            .query_one(&format!("SHOW {name}"), &[])
            .await
            .unwrap();
        row.get::<_, String>(0)
    };
    for reset in ["RESET DateStyle", "RESET ALL", "DISCARD ALL"] {
        client
            .batch_execute("SET DateStyle = 'SQL'; SET work_mem = '6MB'")
            .await
            .unwrap();
        client.batch_execute("SET DateStyle = 'SQL'").await.unwrap();
        client.batch_execute(reset).await.unwrap();
        assert_eq!(show("DateStyle").await, "German, DMY", "{reset}");
    }
    assert_eq!(show("work_mem").await, "5MB");
    // Others are not concerned.
    let other = connect(&ringway).await;
    let row = other.query_one("SHOW DateStyle", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "ISO, MDY");
}

/// asyncpg prepares with Flush, and sends no Sync before it executes.
#[test]
fn who_prepared_with_flush_alone_keeps_no_connection() {
    let cluster = support::cluster(&Spec::default());
    let ringway = pooler(&cluster, "");
    let mut clients: Vec<_> = (0..8)
        .map(|_| Wire::login(ringway.port(), "ringway", "shop").0)
        .collect();
    let prepare = |text: &str| [parse("s", text), frame(b'D', b"Ss\0"), frame(b'H', b"")].concat();
    let tags = |wire: &mut Wire, count: usize| -> String {
        let frames = (0..count).map(|_| wire.read().unwrap());
        frames.map(|frame| char::from(frame.tag)).collect()
    };
    // More than there are connections, twice each: a second Flush of the same batch.
    for (n, wire) in clients.iter_mut().enumerate() {
        wire.send_bytes(&prepare(&format!("SELECT {n} + $1::int")));
        assert_eq!(tags(wire, 3), "1tT");
        wire.send_bytes(&[frame(b'D', b"Ss\0"), frame(b'H', b"")].concat());
        assert_eq!(tags(wire, 2), "tT");
    }
    for (n, wire) in clients.iter_mut().enumerate() {
        let answer = wire.ask_pipeline(&[bind("", "s", &["100"]), execute("", 0)]);
        assert_eq!(answer, format!("{} SELECT 1 I", 100 + n));
    }
    // What is wrong is told at once, and all up to Sync is skipped.
    for wire in &mut clients {
        wire.send_bytes(&[frame(b'C', b"Ss\0"), prepare("SELECT nothing")].concat());
        assert_eq!(tags(wire, 2), "3E");
        assert_eq!(wire.ask_pipeline(&[bind("", "s", &[])]), "I");
        assert_eq!(wire.ask_pipeline(&[bind("", "s", &[])]), "26000 I");
    }
    // A simple Query takes the place of Sync.
    for (n, wire) in clients.iter_mut().enumerate() {
        wire.send_bytes(&prepare("SELECT 1"));
        assert_eq!(tags(wire, 3), "1tT");
        assert_eq!(wire.ask(&format!("SELECT {n}")), format!("{n} SELECT 1 I"));
    }
    // In a block the connection is the client's, and so it is with what was bound.
    let [one, other, ..] = &mut clients[..] else {
        unreachable!()
    };
    assert_eq!(one.ask("BEGIN"), "BEGIN T");
    let batch = |text: &str| [frame(b'C', b"Ss\0"), prepare(text)].concat();
    one.send_bytes(&batch("SELECT pg_backend_pid()"));
    assert_eq!(tags(one, 4), "31tT");
    other.send_bytes(&batch("SELECT 7"));
    assert_eq!(tags(other, 4), "31tT");
    other.send_bytes(&[bind("p", "s", &[]), frame(b'H', b"")].concat());
    assert_eq!(tags(other, 1), "2");
    assert_eq!(other.ask_pipeline(&[execute("p", 0)]), "7 SELECT 1 I");
    let run = [bind("", "s", &[]), execute("", 0)];
    assert_eq!(one.ask_pipeline(&run), one.ask_pipeline(&run));
    assert_eq!(one.ask("COMMIT"), "COMMIT I");
}
