//! The status as lines of text: the same for a terminal and for `--once`.

use std::time::Duration;

use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};

use crate::error::escape_controls;
use crate::http::status::{DatabaseStatus, Point, PoolStatus, ServerStatus, ShardStatus, Status};

/// Of all shards together.
const SLOTS: f64 = 16_384.0;
/// Columns of a curve; three points each of a full history. With its name and its highest value a line
/// has 80 columns at most.
const CURVE: usize = 40;
const POINTS: usize = 3;
/// Heights of a curve, from nothing.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const GOOD: Color = Color::Green;
const WARN: Color = Color::Yellow;
const BAD: Color = Color::Red;

/// All of it.
pub fn lines(status: &Status) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from(vec![
        format!("Ringway {}", status.version).bold(),
        format!(
            "   up {}   {} of {} clients   ",
            span(Duration::from_secs(status.uptime_s)),
            status.clients,
            status.max_clients
        )
        .into(),
        match &status.unready {
            None => "✓ ready".fg(GOOD),
            Some(why) => format!("✕ not ready: {why}").fg(BAD),
        },
    ])];
    lines.push(configuration(status));
    for database in &status.databases {
        lines.push(Line::default());
        lines.extend(database_lines(database, status.point_s));
    }
    lines.extend(more(
        status.databases_left_out,
        "",
        "databases with fewer queries",
    ));
    lines
}

fn configuration(status: &Status) -> Line<'static> {
    let config = &status.config;
    let mut spans = vec![Span::from(format!(
        "Configuration version {}",
        config.version
    ))];
    match &config.last_reload {
        None => spans.push(", not reloaded since the start".into()),
        Some(reload) => {
            let ago = Duration::from_millis(status.now_at_ms.saturating_sub(reload.at_ms));
            spans.push(format!(", reloaded {} ago: ", span(ago)).into());
            spans.push(match &reload.error {
                None => "applied".into(),
                Some(error) => format!("▲ nothing changed, {error}").fg(WARN),
            });
        }
    }
    Line::from(spans)
}

fn database_lines(database: &DatabaseStatus, point_s: u64) -> Vec<Line<'static>> {
    let mut lines = vec![summary(database)];
    lines.extend(database.troubles.iter().map(|trouble| {
        let text = escape_controls(&trouble.text);
        Line::from(match trouble.grave {
            true => format!("  ✕ {text}").fg(BAD),
            false => format!("  ▲ {text}").fg(WARN),
        })
    }));
    let curve = |name, of: fn(&Point) -> f64, print: fn(f64) -> String| {
        let (bars, most) = curve(&database.history, of);
        let long = span(Duration::from_secs(120 * point_s));
        Line::from(format!(
            "  {name:<10}{bars}  up to {} in {long}",
            print(most)
        ))
    };
    if !database.history.is_empty() {
        lines.push(curve("queries/s", |point| point.queries_per_s, rate));
        let p95 = |point: &Point| point.p95_us.unwrap_or(0) as f64;
        lines.push(curve("p95", p95, |micros| latency(Some(micros as u64))));
    }
    lines.extend(servers(database));
    if !database.in_doubt.is_empty() {
        let rows = database.in_doubt.iter().map(|doubt| {
            let decided = doubt.decision_shard.as_deref().unwrap_or("unknown");
            vec![
                cell(&doubt.transaction),
                cell(&doubt.shard),
                cell(decided),
                span(Duration::from_millis(doubt.age_ms)).into(),
                cell(&doubt.note),
            ]
        });
        let titles = [
            "▲ IN DOUBT",
            "PREPARED ON",
            "DECIDED ON",
            ">AGE",
            "RECOVERY",
        ];
        lines.extend(table(&titles, rows.collect()));
        lines.extend(more(database.in_doubt_left_out, "  ", "in doubt"));
    }
    if !database.shapes.is_empty() {
        let rows = database.shapes.iter().map(|shape| {
            vec![
                shape.calls.to_string().into(),
                latency(Some(shape.mean_us)).into(),
                latency(Some(shape.p95_us)).into(),
                span(Duration::from_millis(shape.total_ms)).into(),
                shape.errors.to_string().into(),
                cell(&shape.text),
            ]
        });
        let titles = [">CALLS", ">MEAN", ">P95", ">TOTAL", ">ERRORS", "SHAPE"];
        lines.extend(table(&titles, rows.collect()));
    }
    if !database.pools.is_empty() {
        let titles = [
            "POOL", "SHARD", "USER", ">USED", ">LIMIT", ">IDLE", ">WAITING", ">OPENING",
        ];
        lines.extend(table(&titles, database.pools.iter().map(pool).collect()));
        lines.extend(more(database.pools_left_out, "  ", "pools"));
    }
    lines
}

fn summary(database: &DatabaseStatus) -> Line<'static> {
    let mut spans = vec![escape_controls(&database.name).into_owned().bold()];
    for (is_so, what) in [(database.paused, "paused"), (database.disabled, "disabled")] {
        if is_so {
            spans.push(format!("  ▲ {what}").fg(WARN));
        }
    }
    if let Some(last) = database.history.last() {
        spans.push(Span::from(format!(
            "  {} queries/s  {} transactions/s  p50 {}  p95 {}  p99 {}",
            rate(last.queries_per_s),
            rate(last.transactions_per_s),
            latency(last.p50_us),
            latency(last.p95_us),
            latency(last.p99_us),
        )));
    }
    spans.push(format!("  {} clients", database.clients).into());
    if database.waiting > 0 {
        let longest = span(Duration::from_millis(database.longest_wait_ms));
        spans.push(format!("  ▲ {} waiting, up to {longest}", database.waiting).fg(BAD));
    }
    Line::from(spans)
}

fn servers(database: &DatabaseStatus) -> Vec<Line<'static>> {
    let rows = database.shards.iter().flat_map(|shard| {
        let server = |server| server_row(shard, server);
        shard.servers.iter().map(server).collect::<Vec<_>>()
    });
    // What matters most stands where a narrow window shows it.
    let titles = [
        "ROLE, HEALTH",
        ">LAG",
        "SERVER",
        "SHARD",
        ">SLOTS",
        ">USED",
        ">IDLE",
        ">WEIGHT",
        "NOTE",
    ];
    table(&titles, rows.collect())
}

fn server_row(shard: &ShardStatus, server: &ServerStatus) -> Vec<Span<'static>> {
    let (sign, color) = match server.standing.as_str() {
        "primary" | "fresh" => ("✓", GOOD),
        "lagging" | "returning" | "silent" | "ejected" | "unknown" => ("▲", WARN),
        _ => ("✕", BAD),
    };
    let health = match server.role == server.standing {
        true => server.role.clone(),
        false => format!("{}, {}", server.role, server.standing),
    };
    let lag = match server.lag_ms {
        Some(lag) => span(Duration::from_millis(lag)),
        None if server.role == "primary" => "–".to_owned(),
        None => "unknown".to_owned(),
    };
    let down = match server.times_down {
        1 => "down once".to_owned(),
        times => format!("down {times} times"),
    };
    let zone = server.zone.as_ref().map(|zone| format!("zone {zone}"));
    let notes = [
        zone,
        (server.times_down > 0).then_some(down),
        server.error.clone(),
    ];
    let notes: Vec<String> = notes.into_iter().flatten().collect();
    vec![
        format!("{sign} {health}").fg(color),
        lag.into(),
        cell(&server.address),
        cell(&shard.name),
        format!("{:.1} %", 100.0 * shard.slots as f64 / SLOTS).into(),
        server.used.to_string().into(),
        server.idle.to_string().into(),
        format!("{:.2}", server.weight).into(),
        cell(&notes.join("; ")),
    ]
}

fn pool(pool: &PoolStatus) -> Vec<Span<'static>> {
    let waiting = pool.waiting.to_string();
    vec![
        cell(&pool.server),
        cell(&pool.shard),
        cell(&pool.user),
        pool.used.to_string().into(),
        pool.limit.to_string().into(),
        pool.idle.to_string().into(),
        match pool.waiting {
            0 => waiting.into(),
            _ => format!("▲ {waiting}").fg(BAD),
        },
        pool.opening.to_string().into(),
    ]
}

fn cell(text: &str) -> Span<'static> {
    escape_controls(text).into_owned().into()
}

fn more(left: usize, indent: &str, what: &str) -> Option<Line<'static>> {
    (left > 0).then(|| Line::from(format!("{indent}and {left} more {what}")))
}

/// Columns as wide as their widest cell; a title that begins with `>` aligns to the right.
fn table(titles: &[&'static str], rows: Vec<Vec<Span<'static>>>) -> Vec<Line<'static>> {
    let dim = Style::new().dim();
    let title = |title: &&'static str| Span::styled(title.trim_start_matches('>'), dim);
    let head: Vec<_> = titles.iter().map(title).collect();
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let line = |row: Vec<Span<'static>>| {
        let mut spans = vec![Span::from("  ")];
        for ((cell, title), width) in row.into_iter().zip(titles).zip(&widths) {
            let room = " ".repeat(width.saturating_sub(cell.width()));
            match title.starts_with('>') {
                true => spans.extend([room.into(), cell]),
                false => spans.extend([cell, room.into()]),
            }
            spans.push("  ".into());
        }
        Line::from(spans)
    };
    rows.into_iter().map(line).collect()
}

/// The last points, the newest at the right, and the highest of them.
fn curve(history: &[Point], of: impl Fn(&Point) -> f64) -> (String, f64) {
    let values: Vec<f64> = history.iter().map(of).collect();
    let most = values.iter().copied().fold(0.0, f64::max);
    // From the end, so that a group stays one.
    let groups = values.rchunks(POINTS).take(CURVE);
    let bars = groups.map(|group| {
        let high = group.iter().copied().fold(0.0, f64::max);
        let steps = (BARS.len() - 1) as f64;
        let step = (high / most * steps).ceil();
        BARS[if most > 0.0 { step as usize } else { 0 }]
    });
    let mut bars: Vec<char> = bars.collect();
    bars.resize(CURVE, ' ');
    (bars.into_iter().rev().collect(), most)
}

fn rate(per_second: f64) -> String {
    match per_second {
        small if small > 0.0 && small < 100.0 => format!("{small:.1}"),
        large => format!("{large:.0}"),
    }
}

fn latency(micros: Option<u64>) -> String {
    let Some(micros) = micros else {
        return "–".to_owned();
    };
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{:.2} ms", micros as f64 / 1e3),
        10_000..100_000 => format!("{:.1} ms", micros as f64 / 1e3),
        100_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

/// In the largest unit that tells it.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
