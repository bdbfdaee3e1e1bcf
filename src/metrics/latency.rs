//! How long statements take on each shard, by the role of the server: what the client sees, and of it
//! the wait and the server's part.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::histogram::{Buckets, Counts};
use super::{CLIENT_SECONDS, QUEUE_SECONDS, Role, SERVER_SECONDS, Total, escaped};

/// One shard's.
#[derive(Default)]
pub struct ShardMetrics {
    primary: Latency,
    replica: Latency,
}

/// Most statements wait for nothing: then the server's time is the client's, and is kept once.
#[derive(Default)]
struct Latency {
    /// Of those that did not wait.
    at_once: Times,
    /// Of those that did.
    client: Times,
    queue: Times,
    server: Times,
}

#[derive(Default)]
struct Times {
    buckets: Buckets,
    micros: Total,
}

impl Times {
    fn record(&self, time: Duration) {
        self.buckets.record(time);
        self.micros.add_micros(time);
    }
}

impl ShardMetrics {
    /// A statement was answered `elapsed` after it arrived, of which it had waited `queued`.
    pub fn statement_done(&self, role: Role, elapsed: Duration, queued: Duration) {
        let latency = self.of(role);
        if queued.is_zero() {
            return latency.at_once.record(elapsed);
        }
        latency.client.record(elapsed);
        latency.queue.record(queued);
        latency.server.record(elapsed.saturating_sub(queued));
    }

    fn of(&self, role: Role) -> &Latency {
        match role {
            Role::Primary => &self.primary,
            Role::Replica => &self.replica,
        }
    }
}

/// Appends the three histograms of all shards, by (database, shard).
pub(super) fn write(text: &mut String, shards: &BTreeMap<(String, String), Arc<ShardMetrics>>) {
    for metric in [&CLIENT_SECONDS, &QUEUE_SECONDS, &SERVER_SECONDS] {
        metric.write_head(text, "histogram");
        for ((database, shard), metrics) in shards {
            for role in [Role::Primary, Role::Replica] {
                let latency = metrics.of(role);
                let at_once = latency.at_once.buckets.counts();
                let count = at_once.sum();
                let micros = latency.at_once.micros.get();
                let (times, others, sum) = match metric.name {
                    name if name == CLIENT_SECONDS.name => (&latency.client, at_once, micros),
                    name if name == SERVER_SECONDS.name => (&latency.server, at_once, micros),
                    _ => (&latency.queue, Counts::of_nothing(count), 0),
                };
                let labels = format!(
                    "database=\"{}\",shard=\"{}\",role=\"{}\"",
                    escaped(database),
                    escaped(shard),
                    role.name()
                );
                let sum = times.micros.get() + sum;
                (times.buckets).write_with(&others, text, metric.name, &labels, sum);
            }
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_times_of_a_statement() {
        let shard = Arc::new(ShardMetrics::default());
        shard.statement_done(Role::Replica, Duration::from_millis(2), Duration::ZERO);
        shard.statement_done(
            Role::Replica,
            Duration::from_millis(90),
            Duration::from_millis(60),
        );
        let mut text = String::new();
        let name = ("shop".to_owned(), "s1".to_owned());
        write(&mut text, &BTreeMap::from([(name, shard)]));
        let labels = "{database=\"shop\",shard=\"s1\",role=\"replica\"";
        for sample in [
            format!("ringway_shard_client_seconds_sum{labels}}} 0.092"),
            format!("ringway_shard_queue_seconds_sum{labels}}} 0.06"),
            format!("ringway_shard_server_seconds_sum{labels}}} 0.032"),
            format!("ringway_shard_client_seconds_count{labels}}} 2"),
            format!("ringway_shard_queue_seconds_count{labels}}} 2"),
            format!("ringway_shard_server_seconds_count{labels}}} 2"),
            format!("ringway_shard_queue_seconds_bucket{labels},le=\"0.0001\"}} 1"),
            format!("ringway_shard_client_seconds_bucket{labels},le=\"0.05\"}} 1"),
            format!("ringway_shard_server_seconds_bucket{labels},le=\"0.05\"}} 2"),
        ] {
            assert!(text.contains(&format!("{sample}\n")), "{sample}\n{text}");
        }
    }
}
