//! Pools before a server that lets everybody in when it is told to.

use std::sync::atomic::AtomicU32;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::config::Endpoint;
use crate::metrics::Metrics;
use crate::net::timeout;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);
/// Short enough to be waited for.
const SHORT: Duration = Duration::from_millis(50);
const READY: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I";
const FULL: &[u8] = b"E\0\0\0\x21SFATAL\0C53300\0Mtoo many now\0\0";

/// What the server has seen, and lets happen.
struct Fake {
    port: u16,
    /// Logins that may go on.
    admitted: Semaphore,
    logins: AtomicU32,
    /// Logins that have begun and wait.
    knocking: AtomicU32,
    most_knocking: AtomicU32,
    open: AtomicU32,
    refusing: AtomicBool,
}

impl Fake {
    /// `admitted` logins go through at once.
    async fn start(admitted: usize) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            admitted: Semaphore::new(admitted),
            logins: AtomicU32::new(0),
            knocking: AtomicU32::new(0),
            most_knocking: AtomicU32::new(0),
            open: AtomicU32::new(0),
            refusing: AtomicBool::new(false),
        });
        let server = Arc::clone(&fake);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&server).serve(stream));
            }
        });
        fake
    }

    async fn serve(self: Arc<Self>, mut stream: tokio::net::TcpStream) {
        let length = stream.read_u32().await.unwrap();
        let mut startup = vec![0; length as usize - 4];
        stream.read_exact(&mut startup).await.unwrap();
        self.logins.fetch_add(1, Relaxed);
        let knocking = self.knocking.fetch_add(1, Relaxed) + 1;
        self.most_knocking.fetch_max(knocking, Relaxed);
        self.admitted.acquire().await.unwrap().forget();
        self.knocking.fetch_sub(1, Relaxed);
        if self.refusing.load(Relaxed) {
            let _ = stream.write_all(FULL).await;
            return;
        }
        self.open.fetch_add(1, Relaxed);
        stream.write_all(READY).await.unwrap();
        // Whatever is said, the end comes last.
        let _ = stream.read_to_end(&mut Vec::new()).await;
        self.open.fetch_sub(1, Relaxed);
    }

    fn pool(&self, user: &str, settings: PoolSettings, caps: [Arc<Cap>; 2]) -> Arc<Pool> {
        let target = ConnectTarget {
            endpoint: Endpoint {
                host: "127.0.0.1".into(),
                port: self.port,
            },
            dbname: "d".into(),
            user: user.into(),
            secret: crate::config::ServerSecret::None,
            tls: None,
            client_encoding: None,
            connect_timeout: LIMIT,
            tcp: Default::default(),
        };
        let metrics = Metrics::new();
        let server = metrics.server("d", "s", "e", &[]);
        Pool::new(
            target,
            settings,
            metrics.database("d"),
            Arc::new(server),
            caps,
        )
    }

    fn uncapped(&self, settings: PoolSettings) -> Arc<Pool> {
        self.pool("u", settings, [Cap::new(0), Cap::new(0)])
    }
}

fn sized(size: u32) -> PoolSettings {
    PoolSettings {
        size,
        checkout_timeout: LIMIT,
        ..PoolSettings::default()
    }
}

async fn lease(pool: &Arc<Pool>) -> Lease {
    let lease = timeout(LIMIT, pool.checkout(Amid::Nothing))
        .await
        .expect("in time");
    lease.unwrap_or_else(|error| panic!("{error:?}"))
}

/// Looks until it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, wait).await.expect(what);
}

/// Queues `count` waiters, one after the other; each says its number and gives the lease away.
async fn queue(pool: &Arc<Pool>, count: usize) -> UnboundedReceiver<(usize, Lease)> {
    let (sender, receiver) = unbounded_channel();
    let asked = Arc::new(AtomicUsize::new(0));
    for turn in 0..count {
        let (waiter, sender) = (Arc::clone(pool), sender.clone());
        let asked_here = Arc::clone(&asked);
        tokio::spawn(async move {
            asked_here.fetch_add(1, Relaxed);
            let lease = waiter
                .checkout(Amid::Nothing)
                .await
                .unwrap_or_else(|e| panic!("{e:?}"));
            let _ = sender.send((turn, lease));
        });
        until("the waiter to ask", || asked.load(Relaxed) > turn).await;
    }
    receiver
}

#[tokio::test]
async fn a_burst_opens_several_at_once_but_not_all() {
    let fake = Fake::start(0).await;
    let pool = fake.uncapped(sized(20));
    let mut served = queue(&pool, 100).await;
    until("logins to begin", || fake.knocking.load(Relaxed) == 8).await;
    assert_eq!(pool.usage(), (0, 0, 8));
    fake.admitted.add_permits(1_000);
    let mut held = Vec::new();
    for turn in 0..20 {
        let (number, lease) = served.recv().await.unwrap();
        assert_eq!(number, turn);
        held.push(lease);
    }
    assert_eq!(fake.most_knocking.load(Relaxed), 8);
    assert_eq!((pool.usage(), pool.waiting()), ((20, 0, 0), 80));
    for turn in 20..100 {
        drop(held.remove(0));
        let (number, lease) = served.recv().await.unwrap();
        assert_eq!(number, turn);
        held.push(lease);
    }
    assert_eq!(fake.open.load(Relaxed), 20);
}

#[tokio::test]
async fn the_reserve_is_for_who_has_waited_long_enough_and_in_order() {
    let fake = Fake::start(1_000).await;
    let pool = fake.uncapped(PoolSettings {
        reserve_size: 1,
        reserve_timeout: SHORT,
        ..sized(1)
    });
    let held = lease(&pool).await;
    let start = Instant::now();
    let mut served = queue(&pool, 3).await;
    let (first, second) = (served.recv().await.unwrap(), held);
    assert_eq!(first.0, 0);
    assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
    assert_eq!(pool.usage().0, 2);
    drop(second);
    assert_eq!(served.recv().await.unwrap().0, 1);
    drop(first);
    assert_eq!(served.recv().await.unwrap().0, 2);
    assert_eq!(fake.open.load(Relaxed), 2);
}

#[tokio::test]
async fn who_is_due_for_the_reserve_gets_it_when_a_full_cap_has_room_again() {
    let fake = Fake::start(1_000).await;
    let cap = Cap::new(2);
    let pool = |settings| fake.pool("u", settings, [Cap::new(0), Arc::clone(&cap)]);
    let (pool, other) = (
        pool(PoolSettings {
            reserve_size: 1,
            reserve_timeout: SHORT,
            ..sized(1)
        }),
        pool(sized(1)),
    );
    let (_held, others) = (lease(&pool).await, lease(&other).await);
    let mut served = queue(&pool, 1).await;
    until("the pool to stand in line", || cap.is_waited_for()).await;
    drop(others);
    let reserve = timeout(LIMIT, served.recv()).await.expect("in time");
    assert_eq!((reserve.unwrap().0, pool.usage().0), (0, 2));
}

#[tokio::test]
async fn room_in_a_cap_goes_to_the_first_who_can_use_it() {
    let fake = Fake::start(1_000).await;
    let cap = Cap::new(1);
    let pool = || fake.pool("u", sized(1), [Cap::new(0), Arc::clone(&cap)]);
    let (busy, paused, other) = (pool(), pool(), pool());
    let held = lease(&busy).await;
    let _waits = queue(&paused, 1).await;
    until("the first to stand in line", || cap.is_waited_for()).await;
    let mut served = queue(&other, 1).await;
    until("the second to wait", || other.waiting() == 1).await;
    paused.pause();
    drop(held);
    let lease = timeout(LIMIT, served.recv()).await.expect("in time");
    assert_eq!(lease.unwrap().0, 0);
}

#[tokio::test]
async fn a_dead_server_is_asked_once_for_all_who_wait() {
    let fake = Fake::start(1_000).await;
    fake.refusing.store(true, Relaxed);
    let pool = fake.uncapped(sized(4));
    let error = timeout(LIMIT, pool.checkout(Amid::Nothing))
        .await
        .expect("in time");
    assert_eq!(Error::from(error.err().unwrap()).message, "too many now");
    assert_eq!(fake.logins.load(Relaxed), 1);
}

#[tokio::test]
async fn a_full_cap_closes_an_idle_connection_of_another_pool() {
    let fake = Fake::start(1_000).await;
    let cap = Cap::new(2);
    let pool = |user| fake.pool(user, sized(2), [Cap::new(0), Arc::clone(&cap)]);
    let (a, b) = (pool("a"), pool("b"));
    drop((lease(&a).await, lease(&a).await));
    assert_eq!((a.usage(), cap.used()), ((0, 2, 0), 2));
    let one = lease(&b).await;
    assert_eq!((a.usage(), b.usage()), ((0, 1, 0), (1, 0, 0)));
    let two = lease(&b).await;
    assert_eq!(
        (a.usage(), b.usage(), cap.used()),
        ((0, 0, 0), (2, 0, 0), 2)
    );
    // Nothing is idle: the next that comes back makes room.
    let mut served = queue(&a, 1).await;
    drop(one);
    assert_eq!(served.recv().await.unwrap().0, 0);
    assert_eq!((b.usage(), cap.used()), ((1, 0, 0), 2));
    drop(two);
    until("server connections to be closed", || {
        fake.open.load(Relaxed) <= 2
    })
    .await;
}

#[tokio::test]
async fn a_busy_pool_does_not_keep_another_of_its_cap_out_for_long() {
    let fake = Fake::start(1_000).await;
    let cap = Cap::new(1);
    let pool = |user| fake.pool(user, sized(1), [Arc::clone(&cap), Cap::new(0)]);
    let (busy, other) = (pool("busy"), pool("other"));
    let running = Arc::new(AtomicBool::new(true));
    let mut users = Vec::new();
    for _ in 0..3 {
        let (busy, running) = (Arc::clone(&busy), Arc::clone(&running));
        users.push(tokio::spawn(async move {
            while running.load(Relaxed) {
                drop(
                    busy.checkout(Amid::Nothing)
                        .await
                        .unwrap_or_else(|e| panic!("{e:?}")),
                );
                tokio::task::yield_now().await;
            }
        }));
    }
    until("the pool to be busy", || busy.waiting() > 0).await;
    drop(lease(&other).await);
    running.store(false, Relaxed);
    for user in users {
        timeout(LIMIT, user).await.expect("in time").unwrap();
    }
    assert!(cap.used() <= 1);
}

#[tokio::test]
async fn a_failed_login_is_told_at_once_and_not_tried_again_at_once() {
    let fake = Fake::start(1_000).await;
    fake.refusing.store(true, Relaxed);
    let login_retry = Duration::from_secs(5);
    let pool = fake.uncapped(PoolSettings {
        login_retry,
        ..sized(4)
    });
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.checkout(Amid::Nothing).await.map(drop) })
        })
        .collect();
    for waiter in waiters {
        let error = timeout(LIMIT, waiter).await.expect("in time").unwrap();
        assert_eq!(Error::from(error.err().unwrap()).message, "too many now");
    }
    fake.refusing.store(false, Relaxed);
    let start = Instant::now();
    assert!(
        pool.checkout(Amid::Nothing).await.is_err(),
        "the server is left alone"
    );
    assert!(start.elapsed() < login_retry);
    let again = async {
        while pool.checkout(Amid::Nothing).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, again).await.expect("it is tried again");
    // With a connection that may come back, who waits goes on waiting.
    fake.refusing.store(true, Relaxed);
    let held = lease(&pool).await;
    let mut served = queue(&pool, 2).await;
    until("the logins to fail", || pool.usage() == (1, 0, 0)).await;
    drop(held);
    let (turn, lease) = served.recv().await.unwrap();
    assert_eq!((turn, pool.waiting()), (0, 1));
    drop(lease);
    assert_eq!(served.recv().await.unwrap().0, 1);
}

#[tokio::test]
async fn a_pause_holds_everybody_without_a_time_limit() {
    let fake = Fake::start(1_000).await;
    let pool = fake.uncapped(PoolSettings {
        checkout_timeout: SHORT,
        ..sized(2)
    });
    let (used, idle) = (lease(&pool).await, lease(&pool).await);
    drop(idle);
    pool.pause();
    assert_eq!(pool.usage(), (1, 0, 0));
    let mut served = queue(&pool, 2).await;
    let all_closed = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.all_closed().await }
    });
    let nobody = timeout(SHORT * 3, served.recv()).await;
    assert!(nobody.is_err(), "nobody is served or turned away");
    assert!(!all_closed.is_finished());
    drop(used);
    timeout(LIMIT, all_closed).await.expect("in time").unwrap();
    until("the server's end", || fake.open.load(Relaxed) == 0).await;
    pool.resume();
    assert_eq!(served.recv().await.unwrap().0, 0);
    assert_eq!(served.recv().await.unwrap().0, 1);
}

#[tokio::test]
async fn other_limits_hold_for_a_living_pool() {
    let fake = Fake::start(1_000).await;
    let pool = fake.uncapped(sized(1));
    let held = lease(&pool).await;
    let mut served = queue(&pool, 3).await;
    pool.apply(sized(3));
    let two = [
        served.recv().await.unwrap().1,
        served.recv().await.unwrap().1,
    ];
    assert_eq!((pool.usage().0, pool.waiting()), (3, 1));
    pool.apply(sized(1));
    drop((two, held));
    let (turn, last) = served.recv().await.unwrap();
    assert_eq!((turn, pool.usage()), (2, (1, 0, 0)));
    drop(last);
    assert_eq!(pool.usage(), (0, 1, 0));
}

#[tokio::test]
async fn connections_age_apart_and_some_are_kept_ready() {
    let fake = Fake::start(1_000).await;
    let settings = PoolSettings {
        min_size: 2,
        idle_timeout: Duration::from_secs(100),
        max_lifetime: Duration::from_secs(1_000),
        ..sized(50)
    };
    let pool = fake.uncapped(settings);
    pool.tend(Instant::now(), false);
    assert_eq!(pool.usage(), (0, 0, 0), "nobody has used it yet");
    pool.tend(Instant::now(), true);
    until("two to be kept", || pool.usage() == (0, 2, 0)).await;
    let mut held = vec![lease(&pool).await, lease(&pool).await];
    let mut served = queue(&pool, 48).await;
    for _ in 0..48 {
        held.push(served.recv().await.unwrap().1);
    }
    drop(held);
    assert_eq!(pool.usage().1, 50);
    let start = Instant::now();
    pool.tend(start + Duration::from_secs(80), false);
    assert_eq!(pool.usage().1, 50);
    pool.tend(start + Duration::from_secs(95), false);
    let left = pool.usage().1;
    assert!((2..50).contains(&left), "not all at once: {left}");
    pool.tend(start + Duration::from_secs(101), false);
    assert_eq!(pool.usage().1, 2, "those that are kept ready");
    pool.tend(start + Duration::from_secs(1_001), false);
    until("others in their place", || pool.usage() == (0, 2, 0)).await;
    assert_eq!(pool.closing(), 0);
}

#[tokio::test]
async fn a_reconnect_spares_who_is_served() {
    let fake = Fake::start(1_000).await;
    let pool = fake.uncapped(sized(2));
    let (used, idle) = (lease(&pool).await, lease(&pool).await);
    drop(idle);
    pool.reconnect();
    assert_eq!((pool.usage(), pool.closing()), ((1, 0, 0), 1));
    let id = used.identity.id;
    drop(used);
    assert_eq!((pool.usage(), pool.closing()), ((0, 0, 0), 0));
    assert_ne!(lease(&pool).await.identity.id, id);
}

#[tokio::test]
async fn a_retired_pool_serves_transactions_unless_it_was_paused() {
    let fake = Fake::start(1_000).await;
    for paused in [false, true] {
        let pool = fake.uncapped(sized(1));
        let held = lease(&pool).await;
        let ask = |amid| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { timeout(LIMIT, pool.checkout(amid)).await.expect("in time") })
        };
        let (new, amid) = (ask(Amid::Nothing), ask(Amid::Transaction));
        until("both to wait", || pool.waiting() == 2).await;
        if paused {
            pool.pause();
        }
        pool.retire();
        assert!(matches!(new.await.unwrap(), Err(Denied::Gone)));
        drop(held);
        match (amid.await.unwrap(), paused) {
            (Ok(_), false) | (Err(Denied::Gone), true) => {}
            (Ok(_) | Err(_), _) => panic!("paused: {paused}"),
        }
        pool.resume();
        assert!(matches!(
            pool.checkout(Amid::Nothing).await,
            Err(Denied::Gone)
        ));
        until("all to be closed", || pool.usage() == (0, 0, 0)).await;
    }
}

#[tokio::test]
async fn a_pause_serves_transactions_and_nobody_else() {
    let fake = Fake::start(1_000).await;
    let pool = fake.uncapped(sized(1));
    let held = lease(&pool).await;
    let mut served = queue(&pool, 1).await;
    until("the first to wait", || pool.waiting() == 1).await;
    pool.pause();
    let amid = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.checkout(Amid::Transaction).await }
    });
    until("both to wait", || pool.waiting() == 2).await;
    drop(held);
    let amid = timeout(LIMIT, amid).await.expect("in time").unwrap();
    let amid = amid.unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!((pool.usage(), pool.waiting()), ((1, 0, 0), 1));
    drop(amid);
    timeout(LIMIT, pool.all_closed()).await.expect("in time");
    assert!(served.try_recv().is_err(), "the others wait");
    pool.resume();
    assert_eq!(served.recv().await.unwrap().0, 0);
}

#[tokio::test]
async fn a_login_that_a_pause_or_a_reload_overtakes_leaves_nothing_open() {
    for retired in [false, true] {
        let fake = Fake::start(0).await;
        let pool = fake.uncapped(sized(1));
        let waiter = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.checkout(Amid::Nothing).await.map(drop) }
        });
        until("the login to begin", || fake.knocking.load(Relaxed) == 1).await;
        match retired {
            true => pool.retire(),
            false => pool.pause(),
        }
        until("the waiter to hear of it", || {
            waiter.is_finished() == retired
        })
        .await;
        fake.admitted.add_permits(1);
        timeout(LIMIT, pool.all_closed()).await.expect("in time");
        waiter.abort();
    }
}

#[tokio::test]
async fn who_makes_room_in_a_cap_does_not_have_two_opened_for_one() {
    let fake = Fake::start(1_000).await;
    let cap = Cap::new(2);
    let pool = |user| fake.pool(user, sized(2), [Cap::new(0), Arc::clone(&cap)]);
    let (one, other) = (pool("one"), pool("other"));
    one.apply(sized(1));
    let others = (lease(&other).await, lease(&other).await);
    let mut served = queue(&one, 1).await;
    until("the pool to stand in line", || cap.is_waited_for()).await;
    cap.set_limit(10);
    drop(others);
    cap.set_limit(2);
    assert_eq!(other.usage(), (0, 2, 0));
    // An idle connection is closed for it, which serves the line, where it stands as well.
    one.tend(Instant::now(), false);
    assert_eq!(one.usage(), (0, 0, 1));
    let (_, lease) = served.recv().await.unwrap();
    assert_eq!(one.usage(), (1, 0, 0));
    drop(lease);
}

#[tokio::test]
async fn a_connection_replaced_in_a_full_cap_costs_no_other_pool_one() {
    let fake = Fake::start(1_000).await;
    let cap = Cap::new(2);
    let pool = |user| fake.pool(user, sized(1), [Cap::new(0), Arc::clone(&cap)]);
    let (one, other) = (pool("one"), pool("other"));
    let mut lost = lease(&one).await;
    drop(lease(&other).await);
    assert_eq!((other.usage(), cap.used()), ((0, 1, 0), 2));
    let mut served = queue(&one, 1).await;
    until("the client to wait", || one.waiting() == 1).await;
    lost.doubt = Some("for this test");
    drop(lost);
    let (_, lease) = served.recv().await.unwrap();
    assert_eq!((one.usage(), other.usage()), ((1, 0, 0), (0, 1, 0)));
    drop(lease);
}

#[tokio::test]
async fn who_leaves_when_its_turn_has_come_leaves_it_to_the_next() {
    let fake = Fake::start(1_000).await;
    let pool = fake.uncapped(sized(1));
    let held = lease(&pool).await;
    let mut first = Box::pin(pool.checkout(Amid::Nothing));
    let mut second = Box::pin(pool.checkout(Amid::Nothing));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(held);
    // The first has it and does not know yet: nobody may take it from the queue.
    assert!(pool.try_checkout().is_none());
    assert_eq!((pool.usage(), pool.waiting()), ((1, 0, 0), 1));
    drop(first);
    let lease = timeout(LIMIT, second).await.expect("in time");
    drop(lease.unwrap_or_else(|error| panic!("{error:?}")));
    assert_eq!((pool.usage(), pool.waiting()), ((0, 1, 0), 0));
    assert_eq!(fake.logins.load(Relaxed), 1);
}

#[tokio::test]
async fn everybody_in_line_has_a_time_limit() {
    let fake = Fake::start(1_000).await;
    let pool = fake.uncapped(PoolSettings {
        checkout_timeout: SHORT,
        ..sized(1)
    });
    let held = timeout(LIMIT, async {
        loop {
            if let Ok(lease) = pool.checkout(Amid::Nothing).await {
                return lease;
            }
        }
    });
    let held = held.await.expect("in time");
    for _ in 0..2 {
        let start = Instant::now();
        let waiters: [_; 3] = std::array::from_fn(|_| pool.checkout(Amid::Nothing));
        let [first, second, third] = waiters;
        let all = async { tokio::join!(first, second, third) };
        let (first, second, third) = timeout(LIMIT, all).await.expect("in time");
        for denied in [first, second, third] {
            assert_eq!(Error::from(denied.err().unwrap()).code, "53300");
        }
        assert!(start.elapsed() >= SHORT);
    }
    // A longer one for who waits already, and for who comes then.
    let mut waits = Box::pin(pool.checkout(Amid::Nothing));
    assert!(futures_util::poll!(&mut waits).is_pending());
    pool.apply(sized(1));
    drop(held);
    drop(timeout(LIMIT, waits).await.expect("in time"));
    assert_eq!(pool.waiting(), 0);
}
