//! What needs no server: rows, readiness, averages, reloads.

use std::pin::pin;

use tempfile::TempDir;

use super::*;
use crate::admin::{Order, Show};
use crate::session::{ClientState, Newcomer, Verdict};

/// A process in front of a server that is not there.
struct Sample {
    live: Arc<Live>,
    directory: TempDir,
}

const FILE: &str = "[general]\nadmin_users = [\"app\"]\n[users.app]\npassword = \"app\"\n\
    [[databases.shop.shards]]\nname = \"s1\"\nservers = [\"127.0.0.1:1\"]\n";

impl Sample {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ringway.toml");
        std::fs::write(&path, FILE).unwrap();
        let metrics = Arc::new(Metrics::new());
        let built = build(config::load(&path).unwrap(), None, &metrics).unwrap();
        let (live, _) = Live::new(Shared::new(built, metrics, None, None));
        Self { live, directory }
    }

    fn reload(&self, text: &str) -> Result<(), Error> {
        let path = self.directory.path().join("ringway.toml");
        std::fs::write(&path, text).unwrap();
        reload(&path, &self.live)
    }

    fn database(&self) -> Arc<Database> {
        Arc::clone(&self.live.shared.directory.load().databases["shop"])
    }
}

fn newcomer() -> Newcomer {
    Newcomer {
        user: "app".into(),
        database: "shop".into(),
        application: "test".into(),
        address: "10.0.0.1:4242".into(),
        local: None,
        tls: true,
    }
}

#[tokio::test]
async fn rows_have_the_columns_of_their_table() {
    let sample = Sample::new();
    let client = sample.live.shared.register(newcomer(), 4);
    client.info.set(crate::session::ClientState::Waiting);
    for show in Show::ALL {
        let table = rows::table(&sample.live, show);
        assert_eq!(table.columns, show.columns());
        let may_be_empty = matches!(
            show,
            Show::Digests
                | Show::DnsHosts
                | Show::DnsZones
                | Show::HotKeys
                | Show::HotSlots
                | Show::InDoubt
                | Show::PeerPools
                | Show::Prepared
                | Show::Peers
                | Show::Servers
                | Show::Transactions
        );
        assert!(!table.rows.is_empty() || may_be_empty, "{show:?}");
        for row in table.rows {
            assert_eq!(row.len(), table.columns.len(), "{show:?}");
        }
    }
}

#[tokio::test]
async fn who_has_not_logged_in_is_no_client_yet() {
    let sample = Sample::new();
    let client = sample.live.shared.register(newcomer(), 4);
    assert_eq!(rows::table(&sample.live, Show::Clients).rows.len(), 0);
    client.info.set(crate::session::ClientState::Idle);
    assert_eq!(rows::table(&sample.live, Show::Clients).rows.len(), 1);
    let clients = "ringway_clients{database=\"shop\"} 1\n";
    assert!(scrape::render(&sample.live).contains(clients));
    drop(client);
    assert_eq!(rows::table(&sample.live, Show::Clients).rows.len(), 0);
}

#[tokio::test]
async fn a_process_without_any_primary_or_that_stops_is_not_ready() {
    let sample = Sample::new();
    let why = |sample: &Sample| scrape::readiness(&sample.live.shared).err().unwrap();
    assert!(why(&sample).contains("primary"));
    sample.live.shared.stop();
    assert_eq!(why(&sample), "shutting down");
}

#[tokio::test]
async fn averages_leave_out_all_before_the_last_full_period() {
    let sample = Sample::new();
    let metrics = Arc::clone(&sample.database().metrics);
    for period in 0..4_u64 {
        let (earlier, _) = sample.live.earlier("shop");
        assert_eq!(earlier.queries, period.saturating_sub(1));
        metrics.query_done(Duration::ZERO);
        sample.live.turn_period();
    }
}

#[tokio::test]
async fn a_reload_keeps_what_did_not_change_and_refuses_as_a_whole() {
    let sample = Sample::new();
    let before = sample.database();
    let bad = FILE.replace("[general]", "[general]\nworkres = 1\nmax_clients = 0");
    let error = sample.reload(&bad).err().unwrap();
    assert_eq!(error.code, "F0000");
    let detail = error.detail.as_deref().unwrap();
    assert!(
        detail.contains("workres") && detail.contains("max_clients"),
        "{detail}"
    );
    assert_eq!(sample.live.shared.directory.load().generation, 1);

    sample
        .reload(&FILE.replace("[general]", "[general]\nmax_clients = 7"))
        .unwrap();
    assert!(Arc::ptr_eq(&before, &sample.database()));
    sample
        .reload(&FILE.replace(
            "[[databases",
            "[databases.shop]\npool_size = 3\n[[databases",
        ))
        .unwrap();
    assert!(!Arc::ptr_eq(&before, &sample.database()));
    assert_eq!(sample.live.shared.directory.load().generation, 3);
    let text = sample.live.shared.metrics.render(&[]);
    for counted in ["{result=\"applied\"} 2\n", "{result=\"refused\"} 1\n"] {
        let sample = format!("ringway_config_reloads_total{counted}");
        assert!(text.contains(&sample), "{text}");
    }
}

#[tokio::test]
async fn the_status_tells_what_came_of_a_reload_and_no_values() {
    let sample = Sample::new();
    let config = || status::status(&sample.live).config;
    assert_eq!((config().version, config().last_reload), (1, None));
    // A secret in the place of a word.
    let bad = FILE.replace("password = \"app\"", "auth = \"hunter2\"\nworkres = 1");
    let error = sample.reload(&bad).err().unwrap();
    assert!(error.detail.as_deref().unwrap().contains("hunter2"));
    let refused = config();
    assert_eq!(refused.version, 1);
    assert_eq!(
        refused.last_reload.and_then(|reload| reload.error).unwrap(),
        "configuration is not valid: line 4 users.app.auth, line 5 users.app.workres"
    );
    sample
        .reload(&FILE.replace("[general]", "[general]\nmax_clients = 7"))
        .unwrap();
    let applied = config();
    assert_eq!(applied.version, 2);
    assert_eq!(applied.last_reload.unwrap().error, None);
    assert_eq!(status::status(&sample.live).max_clients, 7);
}

#[tokio::test]
async fn a_history_is_of_what_came_between_and_bounded() {
    let sample = Sample::new();
    let metrics = Arc::clone(&sample.database().metrics);
    let history = &sample.live.history;
    let points = || status::status(&sample.live).databases[0].history.clone();
    assert_eq!(points(), []);
    for _ in 0..50_000 {
        metrics.query_done(Duration::from_millis(2));
    }
    history.sample(&sample.live.shared);
    history.sample(&sample.live.shared);
    let [busy, idle] = &points()[..] else {
        panic!("{:?}", points());
    };
    assert!(busy.queries_per_s > 500.0, "{busy:?}");
    assert_eq!(busy.p50_us, Some(1_750));
    assert_eq!((idle.queries_per_s, idle.p50_us), (0.0, None));
    for _ in 0..200 {
        history.sample(&sample.live.shared);
    }
    assert_eq!(points().len(), 120);
    // Who comes back under the same name begins anew.
    let other = FILE.replace("shop", "other");
    sample.reload(&other).unwrap();
    history.sample(&sample.live.shared);
    sample.reload(FILE).unwrap();
    assert_eq!(points(), []);
}

#[tokio::test]
async fn a_new_password_gets_a_new_pool() {
    let db = Sample::new().database();
    let user = |password: &str| ServerUser {
        name: "app".into(),
        secret: config::ServerSecret::Password(config::Secret(password.into())),
    };
    let (shard, server) = db.servers().next().unwrap();
    let pool = |password| db.pool(shard, server, &user(password));
    let old = pool("old");
    assert!(Arc::ptr_eq(&old, &pool("old")));
    assert!(!Arc::ptr_eq(&old, &pool("new")));
    assert_eq!(db.pools.all().len(), 1);
}

#[tokio::test]
async fn a_drain_waits_for_clients_and_only_so_long() {
    let sample = Sample::new();
    let shared = &sample.live.shared;
    let client = shared.register(newcomer(), 4);
    client.info.set(crate::session::ClientState::Active);
    let limit = Duration::from_millis(30);
    let start = Instant::now();
    drain(shared, limit).await;
    assert!(start.elapsed() >= limit);
    drop(client);
    drain(shared, Duration::from_secs(3600)).await;
}

#[test]
fn explain_needs_to_know_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringway.toml");
    let two = format!("{FILE}[[databases.b.shards]]\nname = \"s1\"\nservers = [\"127.0.0.1:1\"]\n");
    std::fs::write(&path, two).unwrap();
    for (name, message) in [
        (None, "the configuration has several databases"),
        (Some("c"), "database \"c\" does not exist"),
    ] {
        let error = check::explain(&path, name, "SELECT 1").err().unwrap();
        assert_eq!(error.message, message);
        assert_eq!(error.detail.as_deref(), Some("Configured are: b, shop."));
    }
}

#[tokio::test]
async fn an_order_that_comes_during_a_reload_holds_after_it() {
    let sample = Sample::new();
    let shared = &sample.live.shared;
    let old = sample.database();
    let path = sample.directory.path().join("ringway.toml");
    std::fs::write(&path, FILE.replace("127.0.0.1:1", "127.0.0.1:2")).unwrap();
    let config = config::load(&path).unwrap();
    let new = build(config, Some(&shared.directory.load()), &shared.metrics).unwrap();
    for order in [Order::Pause(None), Order::Disable("shop".into())] {
        keeper::obey(shared, &order).await.unwrap();
    }
    put_in_force(shared, new);
    let new = sample.database();
    assert!(!Arc::ptr_eq(&old.pools, &new.pools));
    assert!(new.pools.is_paused() && new.pools.is_disabled());
}

#[tokio::test]
async fn a_verdict_on_an_idle_client_does_not_keep_one_from_being_killed() {
    let sample = Sample::new();
    let client = sample.live.shared.register(newcomer(), 4);
    let info = &client.info;
    // The client was idle for too long, and has become busy before it heard of it.
    info.set(ClientState::Active);
    info.end(Verdict::ClientIdle);
    info.end(Verdict::Killed);
    let ended = info.unless_ended(pin!(async { Ok(()) })).await;
    assert_eq!(ended.unwrap_err().code, "57P01");
    let client = sample.live.shared.register(newcomer(), 4);
    let info = &client.info;
    info.set(ClientState::Active);
    info.end(Verdict::ClientIdle);
    info.unless_ended(pin!(async { Ok(()) })).await.unwrap();
    info.set(ClientState::Idle);
    info.unless_ended(pin!(async { Ok(()) })).await.unwrap();
}
