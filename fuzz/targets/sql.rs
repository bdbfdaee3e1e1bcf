//! Any text has a shape, a plan and a route; the same each time, and never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use planner::ShardSet;
use planner::plan::{PlanOptions, Target, plan};
use planner::route::{Param, Shards, Values, route};
use planner::shape::Shape;

#[path = "../../planner/tests/support/mod.rs"]
#[allow(dead_code)]
mod support;

fuzz_target!(|input: &[u8]| {
    let mut shape = Shape::default();
    shape.scan(input);
    let mut end = 0;
    for piece in &shape.pieces {
        assert!(end <= piece.range.start && piece.range.end <= input.len());
        end = piece.range.end;
    }
    let Ok(sql) = std::str::from_utf8(input) else {
        return;
    };
    for shards in [1, 3] {
        let (catalog, topology) = (support::catalog(shards), support::topology(shards));
        let planned = plan(sql, &catalog, PlanOptions::default());
        assert_eq!(planned, plan(sql, &catalog, PlanOptions::default()));
        let is_open = match &planned.target {
            Target::AnyShard | Target::Ids(_) => true,
            // Ids by default that cannot be given.
            Target::Refused(refusal) => refusal.everywhere,
            _ => false,
        };
        assert!(shards > 1 || is_open);
        let param = Param {
            value: Some(input),
            binary: input.len() % 2 == 0,
            type_oid: 20,
        };
        let params = [param; 3];
        let values = Values {
            sql: input,
            pieces: &shape.pieces,
            params: &params,
        };
        let routed = route(&planned, values, &topology);
        if let Ok(routed) = &routed {
            assert!(routed.shards != Shards::Exactly(ShardSet::default()));
        }
        planner::explain::explain(&planned, routed.as_ref(), &topology);
    }
});
