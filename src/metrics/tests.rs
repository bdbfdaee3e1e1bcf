//! What is rendered is what the table says.

use super::*;

/// The samples of a metric as rendered, without their name.
fn samples(text: &str, name: &str) -> Vec<String> {
    let mut samples: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .map(str::to_owned)
        .collect();
    samples.sort();
    samples
}

#[test]
fn every_metric_is_rendered_with_its_help_and_kind() {
    let metrics = Metrics::new();
    metrics
        .database("shop")
        .query_done(Duration::from_millis(3));
    metrics
        .database("shop")
        .checkout_done(Duration::from_micros(20));
    metrics.server("shop", "s1", "a:5432", &["fresh", "down"]);
    metrics
        .database("shop")
        .read_wait_done(Duration::from_millis(1));
    metrics.error("shop", "53300");
    metrics.shard("shop", "s1");
    let text = metrics.render(&[]);
    for Metric {
        name,
        kind,
        help,
        labels: _,
    } in TABLE
    {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        assert!(
            text.contains(&format!("# HELP {name} {help}\n")),
            "no help of {name}\n{text}"
        );
        assert!(
            text.contains(&format!("# TYPE {name} {kind}\n")),
            "no type of {name}\n{text}"
        );
    }
    let described = text
        .lines()
        .filter(|line| line.starts_with("# TYPE"))
        .count();
    assert_eq!(
        described,
        TABLE.len(),
        "something is rendered that is not in the table\n{text}"
    );
}

#[test]
fn names_follow_prometheus() {
    for metric in TABLE {
        assert_eq!(
            metric.kind == Kind::Counter,
            metric.name.ends_with("_total"),
            "{}",
            metric.name
        );
        assert!(metric.name.starts_with("ringway_"));
        assert!(metric.help.ends_with('.'));
    }
}

#[test]
fn a_database_has_the_same_handles_whenever_it_is_asked_for() {
    let metrics = Metrics::new();
    metrics
        .database("shop")
        .query_done(Duration::from_millis(3));
    metrics
        .database("shop")
        .query_done(Duration::from_millis(3));
    let text = metrics.render(&[]);
    assert_eq!(
        samples(&text, "ringway_queries_total"),
        ["{database=\"shop\"} 2"]
    );
    assert_eq!(
        samples(&text, "ringway_query_seconds_count"),
        ["{database=\"shop\"} 2"]
    );
    assert_eq!(metrics.database("shop").totals().query_micros, 6_000);
}

#[test]
fn a_name_cannot_end_its_label() {
    let metrics = Metrics::new();
    metrics.database("a\"b\\c\nd").query_done(Duration::ZERO);
    let counts = samples(&metrics.render(&[]), "ringway_query_seconds_count");
    assert_eq!(counts, ["{database=\"a\\\"b\\\\c\\nd\"} 1"]);
}

#[test]
fn words_count_under_their_own_name() {
    let metrics = Metrics::new();
    let shop = metrics.database("shop");
    for (at, kind) in RouteKind::ALL.iter().enumerate() {
        assert_eq!(kind.index(), at);
    }
    for (at, by) in ReadBy::ALL.iter().enumerate() {
        assert_eq!(by.index(), at);
    }
    shop.routes.increment(RouteKind::Local);
    shop.reads.increment(ReadBy::Hint);
    let text = metrics.render(&[]);
    let counted = |name| {
        samples(&text, name)
            .into_iter()
            .filter(|s| s.ends_with(" 1"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        counted("ringway_routes_total"),
        ["{database=\"shop\",kind=\"local\"} 1"]
    );
    let hint = "{database=\"shop\",role=\"primary\",reason=\"hint\"} 1";
    assert_eq!(counted("ringway_reads_total"), [hint]);
}

#[test]
fn an_unknown_lag_is_not_zero() {
    let metrics = Metrics::new();
    let server = metrics.server("shop", "s1", "a:5432", &["fresh", "down"]);
    let lag = |metrics: &Metrics| samples(&metrics.render(&[]), "ringway_replica_lag_seconds");
    let labels = "{database=\"shop\",shard=\"s1\",server=\"a:5432\"}";
    assert_eq!(lag(&metrics), [format!("{labels} NaN")]);
    server.set_lag(Some(Duration::from_millis(250)), Some(10));
    assert_eq!(lag(&metrics), [format!("{labels} 0.25")]);
}

#[test]
fn a_server_has_one_standing_at_a_time() {
    let metrics = Metrics::new();
    let server = metrics.server("shop", "s1", "a:5432", &["fresh", "down"]);
    server.set_standing("fresh");
    server.set_standing("down");
    let labels =
        |word| format!("{{database=\"shop\",shard=\"s1\",server=\"a:5432\",standing=\"{word}\"}}");
    let standings = samples(&metrics.render(&[]), "ringway_server_standing");
    let expected = [
        format!("{} 1", labels("down")),
        format!("{} 0", labels("fresh")),
    ];
    assert_eq!(standings, expected);
}

#[test]
fn a_server_that_left_is_not_up() {
    let metrics = Metrics::new();
    let server = metrics.server("shop", "s1", "a:5432", &["fresh", "down"]);
    server.up.set(1.0);
    server.retire();
    let up = samples(&metrics.render(&[]), "ringway_server_up");
    assert_eq!(
        up,
        ["{database=\"shop\",shard=\"s1\",server=\"a:5432\"} NaN"]
    );
}

/// The dashboard and the alerts of docker/ ask for nothing that is not there.
#[test]
fn dashboard_and_alerts_know_the_metrics() {
    for file in [
        "docker/grafana/ringway.json",
        "docker/prometheus/alerts.yml",
        "docker/prometheus/alerts.test.yml",
    ] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = std::fs::read_to_string(path).unwrap();
        if file.ends_with(".json") {
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let mut asked = 0;
        for word in words.filter(|word| word.starts_with("ringway_")) {
            let known = TABLE.iter().any(|metric| match metric.kind {
                Kind::Counter | Kind::Gauge => metric.name == word,
                Kind::Histogram => ["_bucket", "_count", "_sum"]
                    .iter()
                    .any(|end| word.strip_suffix(end) == Some(metric.name)),
            });
            assert!(known, "{file} asks for {word}");
            asked += 1;
        }
        assert!(asked > 10, "{file} asks for {asked} metrics");
    }
}

/// The table in docs/monitoring.md is this one.
#[test]
fn the_book_has_every_metric() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring.md");
    let book = std::fs::read_to_string(path).unwrap();
    for metric in TABLE {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels = metric.labels.join(", ");
        let row = format!(
            "| `{}` | {kind} | {labels} | {} |",
            metric.name, metric.help
        );
        assert!(book.contains(&row), "docs/monitoring.md lacks\n{row}");
    }
    let rows = book.lines().filter(|line| line.starts_with("| `ringway_"));
    assert_eq!(rows.count(), TABLE.len(), "docs/monitoring.md has too many");
}
