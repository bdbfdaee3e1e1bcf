//! SHOW STATS: totals since the start, and averages of the last period; each half of it by itself,
//! and the sums over all databases.

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
        // Before PgBouncer 1.8, and still asked for by Debian's exporter: the count of queries.
        numeric("total_requests"),
    ];

    fn cells(self) -> Vec<Cell> {
        let requests = self.totals.queries;
        let numbers = self.totals().into_iter().chain(self.averages());
        let numbers = numbers.chain([requests]);
        row(self.database, numbers)
    }
}

impl StatsRow {
    fn totals(&self) -> [u64; FIGURES] {
        let totals = &self.totals;
        [
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
        ]
    }

    /// Per second; times are per transaction, query and checkout.
    fn averages(&self) -> [u64; FIGURES] {
        let Self {
            totals, earlier, ..
        } = self;
        let grown = |count: fn(&Totals) -> u64| count(totals).saturating_sub(count(earlier));
        let rate = |count| per_second(grown(count), self.period);
        let mean = |time, count| grown(time).checked_div(grown(count)).unwrap_or(0);
        [
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
        ]
    }
}

fn row(database: String, numbers: impl IntoIterator<Item = u64>) -> Vec<Cell> {
    let numbers = numbers.into_iter().map(Cell::from);
    [Cell::from(database)].into_iter().chain(numbers).collect()
}

/// Figures of a database, in PgBouncer's order.
const FIGURES: usize = 11;

/// The columns of either half.
const HALF: &[Column] = &[
    text("database"),
    numeric("server_assignment_count"),
    numeric("xact_count"),
    numeric("query_count"),
    numeric("bytes_received"),
    numeric("bytes_sent"),
    numeric("xact_time"),
    numeric("query_time"),
    numeric("wait_time"),
    numeric("client_parse_count"),
    numeric("server_parse_count"),
    numeric("bind_count"),
];

/// SHOW STATS_TOTALS.
pub struct TotalRow(pub StatsRow);

impl Row for TotalRow {
    const COLUMNS: &'static [Column] = HALF;

    fn cells(self) -> Vec<Cell> {
        let numbers = self.0.totals();
        row(self.0.database, numbers)
    }
}

/// SHOW STATS_AVERAGES.
pub struct AverageRow(pub StatsRow);

impl Row for AverageRow {
    const COLUMNS: &'static [Column] = HALF;

    fn cells(self) -> Vec<Cell> {
        let numbers = self.0.averages();
        row(self.0.database, numbers)
    }
}

/// SHOW TOTALS: a figure over all databases.
pub struct SumRow {
    name: String,
    value: u64,
}

impl SumRow {
    /// The averages are of all that happened, not of the databases' averages.
    pub fn all(databases: &[StatsRow]) -> Vec<Self> {
        let sum = |of: fn(&StatsRow) -> Totals| {
            let totals = databases.iter().map(of);
            totals.fold(Totals::default(), |sum, totals| sum + totals)
        };
        let all = StatsRow {
            database: String::new(),
            totals: sum(|row| row.totals),
            earlier: sum(|row| row.earlier),
            period: databases.first().map_or(Duration::ZERO, |row| row.period),
        };
        let named = |half: &'static str, figures: [u64; FIGURES]| {
            let names = HALF.iter().skip(1).map(move |column| match column.name {
                // PgBouncer's words for them in this table.
                "bytes_received" => format!("{half}_client_bytes"),
                "bytes_sent" => format!("{half}_server_bytes"),
                name => format!("{half}_{name}"),
            });
            names.zip(figures)
        };
        named("total", all.totals())
            .chain(named("avg", all.averages()))
            .map(|(name, value)| Self { name, value })
            .collect()
    }
}

impl Row for SumRow {
    const COLUMNS: &'static [Column] = &[text("name"), numeric("value")];

    fn cells(self) -> Vec<Cell> {
        vec![self.name.into(), self.value.into()]
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
             avg_server_parse_count|avg_bind_count|total_requests\n\
             shop|1100|2200|3300|4400|5500|660000|770000|880000|9900|11000|12100|\
             100|200|300|400|500|300|233|800|900|1000|1100|3300",
        );
    }

    #[test]
    fn halves_and_sums_are_of_the_same_figures() {
        let row = || StatsRow {
            database: "shop".into(),
            totals: totals(1_100),
            earlier: totals(100),
            period: Duration::from_secs(10),
        };
        let whole = row().cells();
        assert_eq!(TotalRow(row()).cells()[1..], whole[1..12]);
        assert_eq!(AverageRow(row()).cells()[1..], whole[12..23]);
        let other = StatsRow {
            totals: totals(200),
            ..row()
        };
        let sums = printed(SumRow::all(&[row(), other]));
        for line in [
            "name|value",
            "total_xact_count|2600",
            "total_client_bytes|5200",
            "total_server_bytes|6500",
            "avg_xact_count|220",
            "avg_xact_time|300",
            "avg_bind_count|1210",
        ] {
            assert!(sums.lines().any(|other| other == line), "{line}: {sums}");
        }
    }

    #[test]
    fn nothing_happened_in_no_time() {
        let row = StatsRow {
            database: "shop".into(),
            totals: totals(1),
            earlier: totals(1),
            period: Duration::ZERO,
        };
        assert_eq!(row.cells()[12..23], vec![Cell::Number(0); 11]);
    }
}
