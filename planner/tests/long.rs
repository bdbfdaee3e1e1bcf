//! No text takes long to plan: a worker that plans one holds up its other clients.

#[path = "support/long.rs"]
mod long;
#[allow(dead_code, reason = "nothing is routed here")]
mod support;

use std::time::{Duration, Instant};

use planner::plan::{self, PlanOptions};

/// For a build without optimization on a busy machine. Optimized, none takes 50 ms; what grew with the square
/// of the text, or worse, took seconds here.
const LIMIT: Duration = Duration::from_secs(1);

/// What took longer, and how long.
fn slow(name: &str, sql: &str) -> Option<String> {
    let catalog = support::catalog(3);
    let took = (0..3).map(|_| {
        let start = Instant::now();
        plan::plan(sql, &catalog, PlanOptions::default());
        start.elapsed()
    });
    let is_fast = took.clone().any(|took| took < LIMIT);
    (!is_fast).then(|| format!("{name}: {:?}", took.min()))
}

#[test]
fn no_text_takes_long() {
    // Those that are nested, or of operators, are not read at a thousand.
    let found = [18, 450, 1_000].iter().flat_map(|size| {
        let cases = long::CASES.iter();
        cases.filter_map(|(name, text)| slow(name, &text(*size)))
    });
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn nor_does_a_list_of_ten_thousand() {
    let lists = ["IN list", "IN list of no key", "DELETE of a list"];
    let found: Vec<String> = long::CASES
        .iter()
        .filter(|(name, _)| lists.contains(name))
        .filter_map(|(name, text)| slow(name, &text(10_000)))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}
