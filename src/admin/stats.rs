//! SHOW STATS: totals since the start, and averages of the last period.

use std::time::Duration;

use super::table::{Cell, Column, Row, numeric, text};
use crate::metrics::Totals;

/// One database.
#[derive(Debug, Clone)]
pub struct StatsRow {
    pub database: String,
    pub totals: Totals,
    /// The totals as they were when the last period began.
    pub earlier: Totals,
    /// How long ago that was.
    pub period: Duration,
}

impl Row for StatsRow {
    const COLUMNS: &'static [Column] = &[
        text("database"),
        numeric("total_server_assignment_count"),
        numeric("total_xact_count"),
        numeric("total_query_count"),
        numeric("total_received"),
        numeric("total_sent"),
        numeric("total_xact_time"),
        numeric("total_query_time"),
        numeric("total_wait_time"),
        numeric("total_client_parse_count"),
        numeric("total_server_parse_count"),
        numeric("total_bind_count"),
        numeric("avg_server_assignment_count"),
        numeric("avg_xact_count"),
        numeric("avg_query_count"),
        numeric("avg_recv"),
        numeric("avg_sent"),
        numeric("avg_xact_time"),
        numeric("avg_query_time"),
        numeric("avg_wait_time"),
        numeric("avg_client_parse_count"),
        numeric("avg_server_parse_count"),
        numeric("avg_bind_count"),
    ];

    fn cells(self) -> Vec<Cell> {
        let Self {
            database,
            totals,
            earlier,
            period,
        } = self;
        let grown = |count: fn(&Totals) -> u64| count(&totals).saturating_sub(count(&earlier));
        let rate = |count| per_second(grown(count), period);
        let mean = |time, count| grown(time).checked_div(grown(count)).unwrap_or(0);
        let numbers = [
            totals.checkouts,
            totals.transactions,
            totals.queries,
            totals.received_bytes,
            totals.sent_bytes,
            totals.transaction_micros,
            totals.query_micros,
            totals.wait_micros,
            totals.client_parses,
            totals.server_parses,
            totals.binds,
            rate(|t| t.checkouts),
            rate(|t| t.transactions),
            rate(|t| t.queries),
            rate(|t| t.received_bytes),
            rate(|t| t.sent_bytes),
            mean(|t| t.transaction_micros, |t| t.transactions),
            mean(|t| t.query_micros, |t| t.queries),
            mean(|t| t.wait_micros, |t| t.checkouts),
            rate(|t| t.client_parses),
            rate(|t| t.server_parses),
            rate(|t| t.binds),
        ];
        let numbers = numbers.into_iter().map(Cell::from);
        [Cell::from(database)].into_iter().chain(numbers).collect()
    }
}

fn per_second(count: u64, period: Duration) -> u64 {
    let rate = (u128::from(count) * 1_000_000).checked_div(period.as_micros());
    rate.map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::printed;
    use super::*;

    fn totals(times: u64) -> Totals {
        Totals {
            checkouts: times,
            transactions: 2 * times,
            queries: 3 * times,
            received_bytes: 4 * times,
            sent_bytes: 5 * times,
            transaction_micros: 600 * times,
            query_micros: 700 * times,
            wait_micros: 800 * times,
            client_parses: 9 * times,
            server_parses: 10 * times,
            binds: 11 * times,
        }
    }

    #[test]
    fn averages_are_of_the_last_period() {
        let period = Duration::from_secs(10);
        let row = StatsRow {
            database: "shop".into(),
            totals: totals(1_100),
            earlier: totals(100),
            period,
        };
        assert_eq!(
            printed([row]),
            "database|total_server_assignment_count|total_xact_count|total_query_count|\
             total_received|total_sent|total_xact_time|total_query_time|total_wait_time|\
             total_client_parse_count|total_server_parse_count|total_bind_count|\
             avg_server_assignment_count|avg_xact_count|avg_query_count|avg_recv|avg_sent|\
             avg_xact_time|avg_query_time|avg_wait_time|avg_client_parse_count|\
             avg_server_parse_count|avg_bind_count\n\
             shop|1100|2200|3300|4400|5500|660000|770000|880000|9900|11000|12100|\
             100|200|300|400|500|300|233|800|900|1000|1100",
        );
    }

    #[test]
    fn nothing_happened_in_no_time() {
        let row = StatsRow {
            database: "shop".into(),
            totals: totals(1),
            earlier: totals(1),
            period: Duration::ZERO,
        };
        assert_eq!(row.cells()[12..], vec![Cell::Number(0); 11]);
    }
}
