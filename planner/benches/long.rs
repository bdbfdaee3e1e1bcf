//! What long texts cost to plan, and how that grows: `cargo bench -p planner --bench long [CASE]`.

#[path = "../tests/support/long.rs"]
mod long;
#[path = "../tests/support/mod.rs"]
#[allow(dead_code, reason = "nothing is routed here")]
mod support;

use std::time::Instant;

use planner::plan::{self, PlanOptions};

const SIZES: [usize; 4] = [18, 250, 500, 1_000];

fn main() {
    let wanted = std::env::args().nth(1).filter(|name| name != "--bench");
    let wanted = wanted.unwrap_or_default();
    let catalog = support::catalog(3);
    for (name, text) in long::CASES {
        if !name.starts_with(&wanted) {
            continue;
        }
        let mut line = format!("{name:28}");
        for size in SIZES {
            let sql = text(size);
            let rounds = (0..2).map(|_| {
                let start = Instant::now();
                let plan = plan::plan(&sql, &catalog, PlanOptions::default());
                (start.elapsed(), plan.target)
            });
            let best = rounds.min_by_key(|(took, _)| *took);
            let (took, target) = best.expect("a round");
            let target = format!("{target:?}");
            let target = target.split(['(', '{', ' ']).next().unwrap_or_default();
            line += &format!(" {:9.2} ms ({target})", took.as_secs_f64() * 1e3);
        }
        println!("{line}");
    }
}
