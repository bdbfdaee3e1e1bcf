//! What the tests share: clusters, a Ringway in front of them, raw connections.

pub mod process;
pub mod wire;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use ringway::demo::captive::{CaptiveCluster, Spec, Tls};
use ringway::demo::proxy::Proxy;
use ringway::demo::shop;
use tempfile::TempDir;
use tokio_postgres::NoTls;

/// Starts servers, or fails the test with the reason.
pub fn cluster(spec: &Spec) -> CaptiveCluster {
    CaptiveCluster::start(spec, |_| ()).unwrap_or_else(|error| panic!("{error}"))
}

/// Two shards with a replica each that hold the shop. Shared by the tests of this binary, so none
/// of them may break a server or leave other rows behind. The servers end with the process.
pub async fn shop() -> &'static CaptiveCluster {
    static SHOP: tokio::sync::OnceCell<CaptiveCluster> = tokio::sync::OnceCell::const_new();
    SHOP.get_or_init(|| loaded(2, 1)).await
}

/// One plain server that holds the shop, to compare with. As shared as [`shop`].
pub async fn plain_shop() -> &'static CaptiveCluster {
    static PLAIN: tokio::sync::OnceCell<CaptiveCluster> = tokio::sync::OnceCell::const_new();
    PLAIN.get_or_init(|| loaded(1, 0)).await
}

/// A shop of the test's own.
pub async fn loaded(shards: usize, replicas: usize) -> CaptiveCluster {
    let start = move || cluster(&shop::spec(shards, replicas));
    let cluster = tokio::task::spawn_blocking(start).await.unwrap();
    shop::load(&cluster, shop::Size::TOUR)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    cluster.wait_caught_up().unwrap();
    cluster
}

/// A Ringway process of the test's own; its log is printed when the test fails, and what
/// failed once more.
pub struct Ringway {
    pub proxy: Proxy,
    directory: TempDir,
}

impl Ringway {
    /// `config` makes the configuration for the port that it is given.
    pub fn start(config: impl FnOnce(u16) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let executable = Path::new(env!("CARGO_BIN_EXE_ringway"));
        remember_failures();
        let proxy = Proxy::start(executable, directory.path(), 0, config)
            .unwrap_or_else(|error| panic!("{error}"));
        Self { proxy, directory }
    }

    /// In front of the shared shop, with a user `raw` who needs no password beside `app`.
    pub async fn of_shop() -> Self {
        let cluster = shop().await;
        Self::start(|port| shop::ringway_toml(cluster, port) + "\n[users.raw]\nauth = \"trust\"\n")
    }

    /// The file it was started with.
    pub fn config_file(&self) -> std::path::PathBuf {
        self.directory.path().join("ringway.toml")
    }

    pub fn port(&self) -> u16 {
        self.proxy.port
    }

    /// `postgresql://…` of the shop's application.
    pub fn url(&self) -> String {
        shop::url(self.port(), shop::DATABASE)
    }

    /// Has the admin's user `ringway`, who needs no password, run a command.
    pub fn admin(&self, sql: &str) -> String {
        let url = format!("postgresql://ringway@127.0.0.1:{}/ringway", self.port());
        psql(&url, sql)
    }

    /// Asks by `ask` while nobody waits for a connection for long; who asks elsewhere has the time that a
    /// busy machine needs.
    pub fn impatiently<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.admin("SET databases.shop.checkout_timeout_ms = 200");
        let answer = ask();
        self.admin("SET databases.shop.checkout_timeout_ms = 20000");
        answer
    }

    /// A driver's connection as the shop's application.
    pub async fn client(&self) -> tokio_postgres::Client {
        client(&self.url()).await
    }
}

impl Drop for Ringway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of ringway\n{}---", self.proxy.log());
            // Once more, where whoever sees only the end of an output finds it.
            let failures = FAILURES.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("failures up to here:\n{}", failures.join("\n"));
        }
    }
}

/// What every thread that panicked has said, in their order.
static FAILURES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn remember_failures() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            print(panic);
            let mut failures = FAILURES.lock().unwrap_or_else(PoisonError::into_inner);
            failures.push(panic.to_string());
        }));
    });
}

/// A driver's connection.
pub async fn client(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .unwrap_or_else(|error| panic!("{url}: {error}: {:?}", error.as_db_error()));
    tokio::spawn(connection);
    client
}

/// Runs psql with one command and answers its rows, columns parted by `|`.
pub fn psql(url: &str, sql: &str) -> String {
    let output = Command::new("psql")
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            sql,
            url,
        ])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "psql -c {sql:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout)
        .trim_end_matches('\n')
        .to_owned()
}

/// Writes a new certificate for `localhost` that signs itself, and its key.
pub fn certificate(directory: &Path) -> Tls {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = directory.join("server.crt");
    let private_key = directory.join("server.key");
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&private_key, made.key_pair.serialize_pem()).unwrap();
    Tls {
        certificate,
        private_key,
    }
}

/// Asks again until it is so, or fails the test after `limit`.
pub fn wait_until(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
