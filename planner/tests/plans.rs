//! Golden plans: `testdata/*.plan`. REWRITE=1 writes what the planner says now.

use std::fs;

use datadriven::{TestCase, walk_exclusive};
use planner::Catalog;
use planner::catalog::{Function, Table, Volatility};
use planner::explain::explain;
use planner::limit::{Bound, KeyValue, Limit, Part, TableLimit};
use planner::plan::{Access, Plan, PlanOptions, SessionEffect, Target, plan};
use planner::route::{Param, Values, route};
use planner::shape::Shape;

mod support;

#[test]
fn golden_plans() {
    let files = fs::read_dir("tests/testdata").expect("testdata").count();
    let mut run = 0;
    let is_no_plan = |file: &datadriven::TestFile| !file.filename.ends_with(".plan");
    walk_exclusive(
        "tests/testdata",
        |file| {
            run += 1;
            file.run(answer);
        },
        is_no_plan,
    );
    assert!(run > 0 && run < files, "{run} of {files} files are plans");
}

/// `access`: one statement per line, on one shard with replicas and the functions of PostgreSQL 15;
/// with `writes`, none of them may be a read.
fn accesses(case: &mut TestCase) -> String {
    let writes = case.take_flag("writes").expect("writes");
    let catalog = catalog_15();
    let mut answer = String::new();
    for sql in case.input.lines() {
        let access = plan(sql, &catalog, PlanOptions::default()).access;
        assert!(
            !(writes && access == Access::Read),
            "a replica would get {sql}"
        );
        answer += &format!("{access:?}: {sql}\n");
    }
    answer
}

/// `plan`: one statement on three shards. `pool`: the same on one. Arguments: `types` are declared
/// parameter types, `params` their values in text (NULL is null).
fn answer(case: &mut TestCase) -> String {
    if case.directive == "access" {
        return accesses(case);
    }
    let shards = match case.directive.as_str() {
        "plan" => 3,
        "pool" => 1,
        other => panic!("unknown directive {other}"),
    };
    let types: Vec<u32> = case
        .try_take_args("types")
        .expect("types")
        .unwrap_or_default();
    let texts: Vec<String> = case
        .try_take_args("params")
        .expect("params")
        .unwrap_or_default();
    let texts: Vec<String> = texts.into_iter().map(array).collect();
    let params: Vec<Param<'_>> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| Param {
            value: (text != "NULL").then_some(text.as_bytes()),
            binary: false,
            type_oid: types.get(index).copied().unwrap_or(0),
        })
        .collect();
    let sql = case.input.trim_end();
    let catalog = support::catalog(shards);
    let topology = support::topology(shards);
    let options = PlanOptions {
        param_types: &types,
        ..PlanOptions::default()
    };
    let mut planned = plan(sql, &catalog, options);
    let mut shape = Shape::default();
    shape.scan(sql.as_bytes());
    let mut text = sql.to_owned();
    let mut lines = Vec::new();
    if let Target::Ids(ids) = &planned.target {
        let values = Values {
            sql: sql.as_bytes(),
            pieces: &shape.pieces,
            params: &params,
        };
        let drawn: Vec<i64> = (1..).map(|id| id * 1111).take(ids.count).collect();
        let described = String::from_utf8(ids.described(values)).expect("UTF-8");
        lines.push(format!("{} ids, described as: {described}", ids.count));
        text = String::from_utf8(ids.with_constants(values, &drawn)).expect("UTF-8");
        lines.push(text.clone());
        planned = plan(&text, &catalog, options);
        shape.scan(text.as_bytes());
    }
    let sql = text.as_str();
    let values = Values {
        sql: sql.as_bytes(),
        pieces: &shape.pieces,
        params: &params,
    };
    let routed = route(&planned, values, &topology);
    lines.push(head(&planned));
    lines.extend(explain(&planned, routed.as_ref(), &topology));
    lines.join("\n") + "\n"
}

/// `array_1_2` stands for `{1,2}`, which the format has no place for.
fn array(param: String) -> String {
    match param.strip_prefix("array_") {
        Some(elements) => format!("{{{}}}", elements.replace('_', ",")),
        None => param,
    }
}

/// Statement, access, effect and target in one line.
fn head(plan: &Plan) -> String {
    let effect = match plan.effect {
        SessionEffect::None => "",
        SessionEffect::Releases => " releases",
        SessionEffect::LocalSettings => " local settings",
        SessionEffect::Settings => " settings",
        SessionEffect::Taint(_) => " taint",
        SessionEffect::Pin(_) => " pin",
        SessionEffect::DiscardAll => " discard",
    };
    let target = match &plan.target {
        Target::AnyShard => "any".to_owned(),
        Target::OneShard(shard) => format!("one {}", shard.0),
        Target::Keys { keys, .. } => {
            let table = |table: &TableLimit| format!("{} {}", table.key, limit(&table.limit));
            let tables: Vec<_> = keys.tables.iter().map(table).collect();
            format!("keys {}", tables.join(", "))
        }
        Target::AllShards(_) => "all".to_owned(),
        Target::Ids(ids) => format!("{} ids", ids.count),
        Target::Moves(_) => "moves".to_owned(),
        Target::Refused(_) => "refused".to_owned(),
    };
    format!("{:?} {:?}{effect} -> {target}", plan.statement, plan.access)
}

fn limit(of: &Limit) -> String {
    let all = |limits: &[Limit], between: &str| {
        let limits: Vec<_> = limits.iter().map(limit).collect();
        format!("({})", limits.join(between))
    };
    let parts = |parts: &[Part], between: &str| {
        let values: Vec<_> = parts.iter().map(|part| values(&part.values)).collect();
        values.join(between)
    };
    match of {
        Limit::Each(columns) => parts(columns, " x "),
        Limit::Rows(columns) => format!("rows {}", parts(columns, " + ")),
        Limit::Within(interval) => {
            let bound = |bound: &Option<Bound>, inclusive, exclusive| match bound {
                None => "open".to_owned(),
                Some(Bound {
                    value,
                    inclusive: true,
                }) => format!("{inclusive} {value:?}"),
                Some(Bound {
                    value,
                    inclusive: false,
                }) => format!("{exclusive} {value:?}"),
            };
            let (low, high) = (
                bound(&interval.low, ">=", ">"),
                bound(&interval.high, "<=", "<"),
            );
            format!("{low} .. {high}")
        }
        Limit::AnyOf(limits) => all(limits, " or "),
        Limit::AllOf(limits) => all(limits, " and "),
    }
}

fn values(of: &[KeyValue]) -> String {
    let value = |value: &KeyValue| match value {
        KeyValue::One(value) => format!("{value:?}"),
        KeyValue::Alike(value) => format!("alike {value:?}"),
        KeyValue::Elements(value) => format!("elements of {value:?}"),
        KeyValue::Computed(computed) => format!("{computed:?}"),
    };
    let values: Vec<_> = of.iter().map(value).collect();
    format!("[{}]", values.join(", "))
}

/// The shop on one shard, with every function of PostgreSQL 15 instead of the few of [`catalog`],
/// and what `integration/corpus.sql` adds, as the loader of catalogs finds it.
fn catalog_15() -> Catalog {
    let mut shop = Catalog::new(1, 1);
    for table in support::catalog(1).tables() {
        shop.add_table(table.clone());
    }
    let function = |kind: &str, user_defined| Function {
        volatility: match kind.as_bytes() {
            [b'i', ..] => Volatility::Immutable,
            [b's', ..] => Volatility::Stable,
            _ => Volatility::Volatile,
        },
        may_write: kind.starts_with('v'),
        user_defined,
        is_aggregate: kind.ends_with('a'),
        may_read_tables: user_defined,
    };
    let lines = include_str!("testdata/functions_15.txt").lines().skip(1);
    for (kind, names) in lines.filter_map(|line| line.split_once(' ')) {
        for name in names.split_whitespace() {
            shop.add_function(name, function(kind, false));
        }
    }
    shop.suspects.callers = ["order_view", "counted", "watched"]
        .map(String::from)
        .into();
    shop.suspects.rows = ["counters".to_owned()].into();
    shop.suspects.operators = ["#+".to_owned()].into();
    shop.suspects.foreign = ["elsewhere".to_owned()].into();
    for (kind, names) in [
        ("v", "charge sum_charged sly xmlpi initcap"),
        ("s", "tax"),
        ("i", "double doubled listed"),
    ] {
        for name in names.split(' ') {
            shop.add_function(name, function(kind, true));
        }
    }
    for view in [
        "plain_view",
        "over_view",
        "private",
        "watched",
        "counters",
        "elsewhere",
    ] {
        let seen = shop.table(None, "order_view").expect("a view").clone();
        let name = view.to_owned();
        shop.add_table(Table { name, ..seen });
    }
    shop
}
