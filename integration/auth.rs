//! Logging in to real servers, in each way they may ask for; and waiting for one in order.

use std::time::Duration;

use ringway::backend::connect::{ConnectTarget, connect};
use ringway::config::{Endpoint, PoolSettings, Secret, ServerSecret, TcpOptions};
use ringway::demo::captive::{Auth, CaptiveCluster, Spec};
use ringway::metrics::Metrics;
use ringway::net::Stream;
use ringway::pool::cap::Cap;
use ringway::pool::{Amid, Pool};

use socket2::SockRef;

use crate::support;

fn target(cluster: &CaptiveCluster, password: Option<&str>) -> ConnectTarget {
    let config = cluster.shards[0].primary.connection();
    ConnectTarget {
        endpoint: Endpoint {
            host: "127.0.0.1".to_owned(),
            port: cluster.shards[0].primary.port,
        },
        dbname: config.get_dbname().unwrap().to_owned(),
        user: config.get_user().unwrap().to_owned(),
        secret: password.map_or(ServerSecret::None, |text| {
            ServerSecret::Password(Secret(text.to_owned()))
        }),
        tls: None,
        client_encoding: None,
        connect_timeout: Duration::from_secs(10),
        tcp: Default::default(),
    }
}

#[tokio::test]
async fn connections_to_servers_have_the_options_of_their_database() {
    let cluster = support::cluster(&Spec::default());
    let user_timeout = Some(Duration::from_millis(1_500));
    let target = ConnectTarget {
        tcp: TcpOptions {
            user_timeout,
            ..TcpOptions::default()
        },
        ..target(&cluster, None)
    };
    let Stream::Tcp(tcp) = connect(&target).await.ok().unwrap().stream else {
        panic!("not plain TCP");
    };
    assert_eq!(
        SockRef::from(&tcp).tcp_user_timeout().unwrap(),
        user_timeout
    );
}

#[tokio::test]
async fn servers_are_logged_in_to_as_they_ask() {
    let right = || "right".to_owned();
    for (auth, without) in [
        (Auth::Trust, None),
        (Auth::Cleartext(right()), Some("28000")),
        (Auth::Md5(right()), Some("28000")),
        (Auth::Scram(right()), Some("28000")),
    ] {
        let name = format!("{auth:?}");
        let cluster = support::cluster(&Spec {
            auth,
            ..Spec::default()
        });
        let connected = connect(&target(&cluster, Some("right"))).await;
        let connected = connected.map_err(|e| e.to_string()).expect(&name);
        assert!(
            connected
                .parameters
                .iter()
                .any(|(n, _)| n == "server_version")
        );
        let code =
            |result: Result<_, ringway::error::Error>| result.err().map(|e| e.code.to_string());
        let wrong = connect(&target(&cluster, Some("wrong"))).await.map(|_| ());
        let expected = without.map(|_| "28P01".to_owned());
        assert_eq!(code(wrong), expected, "{name}, wrong password");
        let none = connect(&target(&cluster, None)).await.map(|_| ());
        assert_eq!(code(none).as_deref(), without, "{name}, no password");
    }
}

#[tokio::test]
async fn who_waits_for_a_connection_is_served_in_order() {
    let cluster = support::cluster(&Spec::default());
    let settings = PoolSettings {
        size: 1,
        ..PoolSettings::default()
    };
    let metrics = Metrics::new();
    let (database, server) = (metrics.database("d"), metrics.server("d", "s", "e", &[]));
    let caps = [Cap::new(0), Cap::new(0)];
    let target = target(&cluster, None);
    let pool = Pool::new(target, settings, database, server.into(), caps);
    let held = pool.checkout(Amid::Nothing).await.ok().unwrap();
    let (sender, mut served) = tokio::sync::mpsc::unbounded_channel();
    for turn in 0..20 {
        let (waiter, sender) = (pool.clone(), sender.clone());
        tokio::spawn(async move {
            let lease = waiter.checkout(Amid::Nothing).await.ok().unwrap();
            sender.send(turn).unwrap();
            drop(lease);
        });
        // Each is in the queue before the next comes.
        while pool.waiting() <= turn {
            tokio::task::yield_now().await;
        }
    }
    drop(held);
    for turn in 0..20 {
        assert_eq!(served.recv().await, Some(turn));
    }
}
