//! What must hold for every text.

use std::collections::BTreeSet;

use planner::hash::{slot_of_int, slot_of_text};
use planner::plan::{Access, PlanOptions, Statement, Target, plan};
use planner::route::{Shards, Values, route};
use planner::shape::{PieceKind, Shape};
use planner::{ShardId, ShardSet};
use proptest::prelude::*;

mod support;

/// SELECTs that mostly parse, with names that are words of clauses, and clauses of all kinds.
fn selects() -> impl Strategy<Value = String> {
    let items = prop::sample::select(vec![
        "*",
        "o.*, id",
        "id",
        "id AS offset",
        "note AS fetch, id",
        "count(*)",
        "o.id, sum(total) AS limit",
        "DISTINCT note",
        "DISTINCT ON (note) id, note",
        "rank() OVER (PARTITION BY customer_id)",
        "-id \"order\"",
        "o",
        "lower(note)",
        "(SELECT 1)",
        "id, id",
        "",
    ]);
    let from = prop::sample::select(vec![
        "orders",
        "orders o",
        "orders AS o (offset, b)",
        "public.orders",
        "orders o JOIN items i USING (customer_id)",
        "orders o LEFT JOIN items ON o.id = order_id",
        "(orders o JOIN products p USING (id)) AS j",
        "(SELECT * FROM orders) o",
        "orders o, settings",
        "orders o NATURAL JOIN items",
        "customers, orders o",
    ]);
    let tail = || {
        prop::sample::select(vec![
            "",
            "WHERE o.total > 5",
            "WHERE total BETWEEN 1 AND 2 AND note = 'x' OR id = 3",
            "WHERE CASE WHEN id > 1 AND total > 2 THEN true END AND note < 'x'",
            "WHERE EXISTS (SELECT FROM items x WHERE x.customer_id = o.customer_id)",
            "WHERE customer_id IN (SELECT id FROM customers)",
            "WHERE id NOT BETWEEN 1 AND 2 AND",
            "GROUP BY note",
            "GROUP BY 1",
            "GROUP BY offset",
            "GROUP BY ROLLUP (note)",
            "HAVING count(*) > 1",
            "ORDER BY offset",
            "ORDER BY 2, limit",
            "ORDER BY note DESC NULLS LAST, 1",
            "ORDER BY fetch USING <",
            "LIMIT 2",
            "LIMIT $1 OFFSET 3",
            "FETCH FIRST ROW ONLY",
            "LIMIT ALL",
            "OFFSET 1 ROWS FETCH NEXT 2 ROWS WITH TIES",
            "UNION ALL SELECT id FROM customers",
            "WINDOW w AS (ORDER BY id)",
            ";",
        ])
    };
    let tails = prop::collection::vec(tail(), 0..4);
    (items, from, tails)
        .prop_map(|(items, from, tails)| format!("SELECT {items} FROM {from} {}", tails.join(" ")))
}

fn shape(sql: &str) -> Shape {
    let mut shape = Shape::default();
    shape.scan(sql.as_bytes());
    shape
}

/// Words, names, literals and punctuation, in any order: near to SQL, mostly wrong.
fn tokens() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "SELECT",
        "*",
        "FROM",
        "orders",
        "customers",
        "products",
        "settings",
        "WHERE",
        "id",
        "=",
        "customer_id",
        "17",
        "'x'",
        "'it''s'",
        "$1",
        "$$a$$",
        "E'\\''",
        "U&'a'",
        "(",
        ")",
        ",",
        ";",
        ".",
        "AND",
        "OR",
        "NOT",
        "IN",
        "JOIN",
        "LEFT JOIN",
        "ON",
        "USING",
        "ORDER BY",
        "GROUP BY",
        "LIMIT",
        "OFFSET",
        "1",
        "2.5",
        "-",
        "::",
        "bigint",
        "text",
        "count",
        "(*)",
        "sum(total)",
        "avg(total)",
        "INSERT INTO",
        "VALUES",
        "UPDATE",
        "SET",
        "DELETE FROM",
        "RETURNING",
        "WITH",
        "x AS",
        "UNION",
        "DISTINCT",
        "AS",
        "a",
        "\"q\"",
        "/* c */",
        "-- c\n",
        "BEGIN",
        "COMMIT",
        "EXPLAIN",
        "COPY",
        "TO STDOUT",
        "FROM STDIN",
        "FETCH FIRST",
        "ROWS ONLY",
        "DECLARE",
        "CURSOR FOR",
        "SET LOCAL",
        "=",
        "CREATE",
        "TABLE",
        "TEMP",
        "CASE",
        "WHEN",
        "END",
        "ARRAY[",
        "]",
        "ANY",
        "\u{1}",
        "é",
        "'open",
        "\"open",
        "/* open",
        "$t$ open",
    ]);
    prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.join(" "))
}

fn route_of(sql: &str, shards: usize) -> Option<BTreeSet<ShardId>> {
    let catalog = support::catalog(shards);
    let planned = plan(sql, &catalog, PlanOptions::default());
    let shape = shape(sql);
    let values = Values {
        sql: sql.as_bytes(),
        pieces: &shape.pieces,
        params: &[],
    };
    match route(&planned, values, &support::topology(shards))
        .ok()?
        .shards
    {
        Shards::Any => Some(BTreeSet::new()),
        Shards::Exactly(set) => Some(set.as_slice().iter().copied().collect()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_any_text_alike_and_without_panic(sql in prop_oneof![tokens(), selects(), selects(), ".{0,200}"]) {
        for shards in [1, 3] {
            let catalog = support::catalog(shards);
            let planned = plan(&sql, &catalog, PlanOptions::default());
            prop_assert_eq!(&planned, &plan(&sql, &catalog, PlanOptions::default()));
            if shards == 1 {
                prop_assert_eq!(&planned.target, &Target::AnyShard);
            }
            let shape = shape(&sql);
            let values = Values { sql: sql.as_bytes(), pieces: &shape.pieces, params: &[] };
            let routed = route(&planned, values, &support::topology(shards));
            if let Ok(routed) = routed {
                prop_assert!(routed.shards != Shards::Exactly(ShardSet::default()));
            }
        }
    }

    #[test]
    fn pieces_and_the_rest_make_up_the_text(sql in prop_oneof![tokens(), ".{0,200}"]) {
        let shape = shape(&sql);
        if shape.pieces.is_empty() {
            prop_assert!(shape.key == sql.as_bytes() || shape.key[1..] == *sql.as_bytes());
            return Ok(());
        }
        let (mut text, mut pieces) = (Vec::new(), shape.pieces.iter());
        for byte in &shape.key {
            match byte {
                0x01..=0x07 => {
                    let piece = pieces.next().expect("a piece for each marker");
                    prop_assert_eq!(piece.range.start, text.len());
                    text.extend_from_slice(&sql.as_bytes()[piece.range.clone()]);
                }
                other => text.push(*other),
            }
        }
        prop_assert!(pieces.next().is_none());
        prop_assert_eq!(text, sql.as_bytes());
    }

    /// A plan serves every text of its shape, so it may not depend on lifted literals.
    #[test]
    fn one_shape_has_one_plan(sql in tokens(), number in 0..1000u32) {
        let shape_a = shape(&sql);
        let mut other = String::new();
        let mut from = 0;
        for piece in &shape_a.pieces {
            other.push_str(&sql[from..piece.range.start]);
            match piece.kind {
                PieceKind::Integer => other.push_str(&number.to_string()),
                PieceKind::String if sql[piece.range.clone()].len() > 1 && sql[piece.range.clone()].ends_with('\'') => {
                    other.push_str(&format!("'s{number}'"));
                }
                PieceKind::Number
                | PieceKind::String
                | PieceKind::OtherString
                | PieceKind::Comment => other.push_str(&sql[piece.range.clone()]),
            }
            from = piece.range.end;
        }
        other.push_str(&sql[from..]);
        prop_assume!(shape(&other).key == shape_a.key);
        let catalog = support::catalog(3);
        let options = PlanOptions::default();
        prop_assert_eq!(plan(&sql, &catalog, options), plan(&other, &catalog, options), "{}", other);
    }

    /// A statement that begins by writing never goes to a replica.
    #[test]
    fn writes_are_never_reads(
        verb in prop::sample::select(vec!["INSERT INTO", "UPDATE", "DELETE FROM", "TRUNCATE", "DROP TABLE", "CREATE TABLE", "LOCK", "CALL", "DO", "WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM"]),
        rest in tokens(),
    ) {
        let sql = format!("{verb} {}", rest.replace(';', " "));
        for shards in [1, 3] {
            let planned = plan(&sql, &support::catalog(shards), PlanOptions::default());
            let writes = planned.access != Access::Read || planned.statement == Statement::Empty;
            prop_assert!(writes, "{:?}", planned);
        }
    }

    /// Brute force: whichever row satisfies the condition, its shard is asked.
    #[test]
    fn chosen_shards_hold_every_matching_row(condition in condition()) {
        let sql = format!("SELECT id FROM customers WHERE {}", condition.sql());
        let Some(chosen) = route_of(&sql, 3) else { return Ok(()) };
        let topology = support::topology(3);
        for id in 0..8 {
            for city in 0..2 {
                if condition.holds(id, city) {
                    let shard = topology.owner(slot_of_int(id));
                    prop_assert!(chosen.contains(&shard), "{sql}: row ({id}, {city}) is on {shard:?}, not in {chosen:?}");
                }
            }
        }
    }
}

/// A WHERE clause over customers(id, city).
#[derive(Debug, Clone)]
enum Condition {
    Id(i64),
    IdIn(Vec<i64>),
    City(i64),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
}

fn condition() -> impl Strategy<Value = Condition> {
    let leaf = prop_oneof![
        (0..8i64).prop_map(Condition::Id),
        prop::collection::vec(0..8i64, 1..4).prop_map(Condition::IdIn),
        (0..2i64).prop_map(Condition::City),
    ];
    leaf.prop_recursive(4, 12, 2, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            pair.clone()
                .prop_map(|(a, b)| Condition::And(a.into(), b.into())),
            pair.prop_map(|(a, b)| Condition::Or(a.into(), b.into())),
            inner.prop_map(|a| Condition::Not(a.into())),
        ]
    })
}

impl Condition {
    fn sql(&self) -> String {
        match self {
            Self::Id(id) => format!("id = {id}"),
            Self::IdIn(ids) => {
                let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
                format!("'x' <> '' AND customers.id IN ({})", ids.join(", "))
            }
            Self::City(city) => format!("city = '{city}'"),
            Self::And(a, b) => format!("({}) AND ({})", a.sql(), b.sql()),
            Self::Or(a, b) => format!("({}) OR ({})", a.sql(), b.sql()),
            Self::Not(a) => format!("NOT ({})", a.sql()),
        }
    }

    fn holds(&self, id: i64, city: i64) -> bool {
        match self {
            Self::Id(wanted) => id == *wanted,
            Self::IdIn(ids) => ids.contains(&id),
            Self::City(wanted) => city == *wanted,
            Self::And(a, b) => a.holds(id, city) && b.holds(id, city),
            Self::Or(a, b) => a.holds(id, city) || b.holds(id, city),
            Self::Not(a) => !a.holds(id, city),
        }
    }
}

/// Statements that would need a deep tree are planned without one.
#[test]
fn long_chains_do_not_exhaust_the_stack() {
    let catalog = support::catalog(3);
    for link in [
        " AND id = 1",
        " OR id = 1",
        " + 1",
        "::int",
        " IS NULL",
        " || 'x'",
        "[1]",
        ".a",
    ] {
        for length in [300, 30_000] {
            let sql = format!(
                "SELECT * FROM customers WHERE id = 1{}",
                link.repeat(length)
            );
            plan(&sql, &catalog, PlanOptions::default());
        }
    }
    for nested in ["(", "NOT ", "- ", "SELECT (", "CASE WHEN "] {
        plan(
            &format!("SELECT {}1", nested.repeat(30_000)),
            &catalog,
            PlanOptions::default(),
        );
    }
    for repeated in [
        "EXPLAIN ",
        "EXPLAIN (ANALYZE) ",
        "DECLARE c CURSOR FOR ",
        "COPY (",
        "SELECT 1;",
    ] {
        plan(&repeated.repeat(20_000), &catalog, PlanOptions::default());
    }
    let unions = "SELECT 1 UNION ".repeat(30_000) + "SELECT 2";
    plan(&unions, &catalog, PlanOptions::default());
}

#[test]
fn text_keys_find_their_shard() {
    let owner = support::topology(3).owner(slot_of_text("it's".as_bytes()));
    let chosen = route_of("SELECT * FROM users WHERE name = 'it''s'", 3);
    assert_eq!(chosen, Some(BTreeSet::from([owner])));
}
