//! What a route costs: of statements that are planned once and routed often.
//!
//! `cargo bench -p planner` prints nanoseconds. On a busy machine count instructions instead:
//! `valgrind --tool=callgrind --toggle-collect='planner::route::route*' BENCH CASE`, for one case
//! by the beginning of its name.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use planner::plan::{self, Plan, PlanOptions};
use planner::route::{Param, Values};
use planner::shape::Shape;
use planner::{Topology, route};

const INT8: u32 = 20;

/// The best of so many rounds is told: what disturbs a round only makes it longer.
const ROUNDS: u32 = 20;
const ROUTES: u32 = 50_000;

struct Case {
    name: &'static str,
    sql: &'static str,
    params: &'static [Param<'static>],
}

const TEXT_KEY: Param<'static> = Param {
    value: Some(b"4711"),
    binary: false,
    type_oid: INT8,
};
const BINARY_KEY: Param<'static> = Param {
    value: Some(&4711_i64.to_be_bytes()),
    binary: true,
    type_oid: INT8,
};
const UUID_KEY: Param<'static> = Param {
    value: Some(b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    binary: false,
    type_oid: 0,
};

const CASES: [Case; 8] = [
    Case {
        name: "bigint literal",
        sql: "SELECT name FROM customers WHERE id = 4711",
        params: &[],
    },
    Case {
        name: "bigint text",
        sql: "SELECT name FROM customers WHERE id = $1",
        params: &[TEXT_KEY],
    },
    Case {
        name: "bigint binary",
        sql: "SELECT name FROM customers WHERE id = $1",
        params: &[BINARY_KEY],
    },
    Case {
        name: "join",
        sql: "SELECT o.note FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id = $1",
        params: &[BINARY_KEY],
    },
    Case {
        name: "insert",
        sql: "INSERT INTO customers (id, name) VALUES ($1, 'x')",
        params: &[BINARY_KEY],
    },
    Case {
        name: "uuid text",
        sql: "SELECT name FROM sessions WHERE id = $1",
        params: &[UUID_KEY],
    },
    Case {
        name: "three bigints",
        sql: "SELECT name FROM customers WHERE id IN ($1, $1, $1)",
        params: &[BINARY_KEY],
    },
    Case {
        name: "no key",
        sql: "SELECT name FROM products",
        params: &[],
    },
];

fn main() {
    let wanted = std::env::args().nth(1).filter(|name| name != "--bench");
    let wanted = wanted.unwrap_or_default();
    let catalog = support::catalog(3);
    let topology = support::topology(3);
    for case in CASES.iter().filter(|case| case.name.starts_with(&wanted)) {
        let mut shape = Shape::default();
        shape.scan(case.sql.as_bytes());
        let types: Vec<u32> = case.params.iter().map(|param| param.type_oid).collect();
        let options = PlanOptions {
            param_types: &types,
            ..PlanOptions::default()
        };
        let plan = plan::plan(case.sql, &catalog, options);
        let values = Values {
            sql: case.sql.as_bytes(),
            pieces: &shape.pieces,
            params: case.params,
        };
        let rounds = (0..ROUNDS).map(|_| round(&plan, values, &topology));
        let best = rounds.min().unwrap_or_default();
        println!(
            "{:16} {:6.1} ns",
            case.name,
            best.as_nanos() as f64 / f64::from(ROUTES)
        );
    }
}

fn round(plan: &Plan, values: Values<'_>, topology: &Topology) -> Duration {
    let start = Instant::now();
    for _ in 0..ROUTES {
        let _ = black_box(route(
            black_box(plan),
            black_box(values),
            black_box(topology),
        ));
    }
    start.elapsed()
}
