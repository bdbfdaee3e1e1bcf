use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::*;
use crate::http::status::{
    ConfigStatus, DatabaseStatus, InDoubt, Point, PoolStatus, Reload, ServerStatus, Shape,
    ShardStatus, troubles,
};

fn server(address: &str, role: &str, standing: &str) -> ServerStatus {
    ServerStatus {
        address: address.into(),
        role: role.into(),
        standing: standing.into(),
        lag_ms: (role == "replica").then_some(1_400),
        lag_bytes: None,
        weight: 1.0,
        zone: None,
        times_down: 0,
        error: None,
        used: 3,
        idle: 2,
    }
}

fn status() -> Status {
    let point = |queries_per_s, p95_us| Point {
        at_ms: 0,
        queries_per_s,
        transactions_per_s: 40.0,
        p50_us: Some(640),
        p95_us,
        p99_us: Some(12_345),
        waiting: 0,
    };
    let down = ServerStatus {
        error: Some("connection refused\u{1b}[2J".into()),
        times_down: 2,
        lag_ms: None,
        zone: Some("eu-1".into()),
        ..server("c:5432", "unknown", "down")
    };
    let mut shop = DatabaseStatus {
        name: "shop".into(),
        troubles: Vec::new(),
        paused: true,
        disabled: false,
        clients: 9,
        waiting: 2,
        longest_wait_ms: 700,
        shards: vec![
            ShardStatus {
                name: "s1".into(),
                weight: 1,
                slots: 4_096,
                servers: vec![server("a:5432", "primary", "primary")],
            },
            ShardStatus {
                name: "s2".into(),
                weight: 3,
                slots: 12_288,
                servers: vec![server("b:5432", "replica", "lagging"), down],
            },
        ],
        pools: vec![PoolStatus {
            user: "app".into(),
            shard: "s1".into(),
            server: "a:5432".into(),
            used: 3,
            idle: 2,
            opening: 1,
            waiting: 2,
            limit: 20,
        }],
        pools_left_out: 4,
        in_doubt: vec![InDoubt {
            shard: "s2".into(),
            transaction: "7f3a".into(),
            decision_shard: None,
            age_ms: 73_000,
            note: "its coordinator is alive".into(),
        }],
        in_doubt_left_out: 0,
        history: vec![
            point(100.0, Some(2_500)),
            point(40.0, None),
            point(100.0, Some(5_000)),
            point(200.0, Some(2_500)),
            point(50.0, Some(1_000)),
        ],
        shapes: vec![Shape {
            text: "SELECT name FROM customers WHERE id = ?".into(),
            calls: 1_000,
            errors: 1,
            rows: 1_000,
            total_ms: 3_000,
            mean_us: 3_000,
            p95_us: 9_000,
        }],
    };
    shop.troubles = troubles(&shop.shards);
    Status {
        version: "0.1.0".into(),
        now_at_ms: 300_000,
        uptime_s: 300,
        unready: None,
        config: ConfigStatus {
            version: 2,
            last_reload: Some(Reload {
                at_ms: 100_000,
                error: Some("configuration is not valid: line 2 general.workres".into()),
            }),
        },
        clients: 9,
        max_clients: 10_000,
        point_s: 5,
        databases: vec![shop],
        databases_left_out: 0,
    }
}

/// The rows of what is drawn, without the blanks at their ends.
fn drawn(screen: &mut Screen, size: (u16, u16), now: Instant) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| screen.draw(frame, now)).unwrap();
    rows(terminal.backend().buffer())
}

fn rows(buffer: &Buffer) -> Vec<String> {
    let row = |y| {
        let cells = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    (0..buffer.area.height).map(row).collect()
}

#[test]
fn lines_are_what_a_script_reads() {
    let text: Vec<String> = text::lines(&status()).iter().map(plain).collect();
    let expected = [
        "Ringway 0.1.0   up 5 min   9 of 10000 clients   ✓ ready",
        "Configuration version 2, reloaded 3 min ago: ▲ nothing changed, configuration is not valid: \
         line 2 general.workres",
        "",
        "shop  ▲ paused  50.0 queries/s  40.0 transactions/s  p50 640 µs  p95 1.00 ms  p99 12.3 ms  \
         9 clients  ▲ 2 waiting, up to 700 ms",
        "  ✕ 1 of 2 shards without a primary: s2",
        "  ▲ 1 of 3 servers out: c:5432 (down)",
    ];
    assert_eq!(text[..6], expected);
    assert_eq!(
        text[6].split_whitespace().collect::<Vec<_>>(),
        ["queries/s", "▄█", "up", "to", "200", "in", "10", "min"]
    );
    assert_eq!(
        text[7].split_whitespace().collect::<Vec<_>>(),
        ["p95", "▄█", "up", "to", "5.00", "ms", "in", "10", "min"]
    );
    assert_eq!(
        text[8..],
        [
            "  ROLE, HEALTH            LAG  SERVER  SHARD   SLOTS  USED  IDLE  WEIGHT  NOTE",
            "  ✓ primary                 –  a:5432  s1     25.0 %     3     2    1.00",
            "  ▲ replica, lagging      1 s  b:5432  s2     75.0 %     3     2    1.00",
            "  ✕ unknown, down     unknown  c:5432  s2     75.0 %     3     2    1.00  \
             zone eu-1; down 2 times; connection refused\\u{1b}[2J",
            "  ▲ IN DOUBT  PREPARED ON  DECIDED ON   AGE  RECOVERY",
            "  7f3a        s2           unknown     73 s  its coordinator is alive",
            "  CALLS     MEAN      P95  TOTAL  ERRORS  SHAPE",
            "   1000  3.00 ms  9.00 ms    3 s       1  SELECT name FROM customers WHERE id = ?",
            "  POOL    SHARD  USER  USED  LIMIT  IDLE  WAITING  OPENING",
            "  a:5432  s1     app      3     20     2      ▲ 2        1",
            "  and 4 more pools",
        ]
    );
}

#[test]
fn the_screen_follows_the_window_and_the_keys() {
    let start = Instant::now();
    let mut screen = Screen::new("http://a:9187/".into());
    assert_eq!(drawn(&mut screen, (40, 3), start)[0], "asking");
    screen.fetched(Ok(status()), start);
    let later = start + Duration::from_secs(3);
    let tall = drawn(&mut screen, (80, 25), later);
    assert_eq!(tall[0], "as of 3 s ago");
    assert!(tall[1].starts_with("Ringway 0.1.0   up 5 min"));
    assert_eq!(tall[24], "q quits, arrows scroll   http://a:9187/");
    assert!(
        tall.iter()
            .any(|row| row.starts_with("  ✓ primary                 –  a:5432  s1"))
    );
    // To the right, as far as the longest line goes, and back.
    for _ in 0..30 {
        screen.press(KeyCode::Right);
    }
    let aside = drawn(&mut screen, (80, 25), later);
    assert!(
        aside.iter().any(|row| row.ends_with("refused\\u{1b}[2J")),
        "{aside:?}"
    );
    for _ in 0..30 {
        screen.press(KeyCode::Left);
    }
    assert_eq!(drawn(&mut screen, (80, 25), later), tall);

    // Less room: the keys reach what does not fit, and go no further.
    for _ in 0..3 {
        screen.press(KeyCode::Down);
    }
    assert!(drawn(&mut screen, (80, 8), later)[1].starts_with("shop  ▲ paused"));
    for _ in 0..9 {
        screen.press(KeyCode::PageDown);
    }
    let short = drawn(&mut screen, (80, 8), later);
    assert_eq!((short[6].as_str(), short.len()), ("  and 4 more pools", 8));
    screen.press(KeyCode::Up);
    assert_eq!(
        drawn(&mut screen, (80, 8), later)[6],
        "  a:5432  s1     app      3     20     2      ▲ 2        1"
    );
    // The window grows, or is of no use.
    assert_eq!(drawn(&mut screen, (80, 25), later), tall);
    drawn(&mut screen, (1, 1), later);
    screen.press(KeyCode::Home);
    assert!(drawn(&mut screen, (80, 8), later)[1].starts_with("Ringway"));
}

#[test]
fn what_is_old_is_said_to_be() {
    let start = Instant::now();
    let mut screen = Screen::new("http://a:9187/".into());
    let why = "http://a:9187/ cannot be reached: Connection refused (os error 111)";
    screen.fetched(Err(why.into()), start);
    let rows = drawn(&mut screen, (80, 5), start);
    assert_eq!(rows[0], format!("✕ {why}"));
    assert_eq!(rows[1], "");
    screen.fetched(Ok(status()), start);
    screen.fetched(Err(why.into()), start + Duration::from_secs(2));
    let rows = drawn(&mut screen, (50, 6), start + Duration::from_secs(130));
    assert_eq!(rows[0], "✕ http://a:9187/ cannot be reached: Connection");
    assert_eq!(
        rows[1],
        "refused (os error 111). What follows is 2 min old."
    );
    assert!(rows[2].starts_with("Ringway 0.1.0"));
    screen.fetched(Ok(status()), start + Duration::from_secs(131));
    let rows = drawn(&mut screen, (50, 6), start + Duration::from_secs(131));
    assert_eq!(rows[0], "as of 0 ms ago");
}

#[test]
fn keys_that_leave() {
    let key = |code, modifiers| KeyEvent::new(code, modifiers);
    for (code, modifiers, is_so) in [
        (KeyCode::Char('q'), KeyModifiers::NONE, true),
        (KeyCode::Esc, KeyModifiers::NONE, true),
        (KeyCode::Char('c'), KeyModifiers::CONTROL, true),
        (KeyCode::Char('c'), KeyModifiers::NONE, false),
        (KeyCode::Down, KeyModifiers::NONE, false),
    ] {
        assert_eq!(leaves(key(code, modifiers)), is_so, "{code:?}");
    }
}
