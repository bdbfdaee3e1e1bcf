//! What must hold for every text.

use std::collections::BTreeSet;

use planner::hash::{slot_of_int, slot_of_text};
use planner::plan::{Access, PlanOptions, Statement, Target, plan};
use planner::route::{Execution, Shards, Values, route};
use planner::shape::{PieceKind, Shape};
use planner::{Catalog, ShardId, ShardSet, Topology};
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

/// The shop on three shards.
struct Shop {
    catalog: Catalog,
    topology: Topology,
}

impl Shop {
    fn new() -> Self {
        Self {
            catalog: support::catalog(3),
            topology: support::topology(3),
        }
    }
}

fn route_of(sql: &str, shop: &Shop) -> Option<BTreeSet<ShardId>> {
    let planned = plan(sql, &shop.catalog, PlanOptions::default());
    let shape = shape(sql);
    let values = Values {
        sql: sql.as_bytes(),
        pieces: &shape.pieces,
        params: &[],
    };
    match route(&planned, values, &shop.topology).ok()?.shards {
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
    fn chosen_shards_hold_every_matching_row(
        table in prop::sample::select(TABLES.to_vec()),
        condition in condition(8, 1),
    ) {
        let rows: Vec<_> = (0..8).flat_map(|key| (0..2).map(move |other| [key, 0, other])).collect();
        holds_every_row(&table, &condition, &rows)?;
    }

    #[test]
    fn chosen_shards_hold_every_matching_row_of_two_columns(condition in condition(3, 3)) {
        let rows: Vec<_> = (0..18).map(|n| [n % 3, n / 3 % 3, n / 9]).collect();
        holds_every_row(&PARCELS, &condition, &rows)?;
    }
}

/// A table, its key column, a further column of the key or none, and literals in ascending order.
#[derive(Debug, Clone)]
struct Tested {
    name: &'static str,
    key: &'static str,
    keys: [&'static str; 8],
    second: Option<&'static str>,
    /// A column beside the key, and its literals.
    other: (&'static str, [&'static str; 2]),
}

const fn tested(
    name: &'static str,
    key: &'static str,
    keys: [&'static str; 8],
    other: &'static str,
) -> Tested {
    Tested {
        name,
        key,
        keys,
        second: None,
        other: (other, ["'0'", "'1'"]),
    }
}

const NUMBERS: [&str; 8] = ["-5", "50", "99", "100", "150", "200", "299", "500"];
const DAYS: [&str; 8] = [
    "'-infinity'",
    "'1999-12-31'",
    "'2023-12-31'",
    "'2024-01-01'",
    "'2024-06-01'",
    "'2025-01-01'",
    "'2026-11-28'",
    "'infinity'",
];
const TEXTS: [&str; 8] = ["''", "'DK'", "'FI'", "'NO'", "'SE'", "'a''b'", "'b'", "'c'"];
const TABLES: [Tested; 8] = [
    tested("customers", "id", NUMBERS, "city"),
    tested("users", "name", TEXTS, "age"),
    tested("readings", "sensor", NUMBERS, "value"),
    tested("diary", "day", DAYS, "note"),
    tested("branches", "country", TEXTS, "name"),
    tested("letters", "country", TEXTS, "body"),
    tested("visits", "day", DAYS, "page"),
    tested(
        "prices",
        "price",
        ["-5", "-0.5", "0.00", "0.25", "1", "1.50", "2e1", "1000000"],
        "name",
    ),
];
const PARCELS: Tested = Tested {
    second: Some("code"),
    ..tested("parcels", "tenant", NUMBERS, "weight")
};

/// Rows are positions of literals: key, second column of the key, other column.
fn holds_every_row(
    table: &Tested,
    condition: &Condition,
    rows: &[[usize; 3]],
) -> Result<(), TestCaseError> {
    let shop = Shop::new();
    let sql = format!(
        "SELECT * FROM {} WHERE {}",
        table.name,
        condition.sql(table)
    );
    let Some(chosen) = route_of(&sql, &shop) else {
        return Ok(());
    };
    for row in rows.iter().filter(|row| condition.holds(row)) {
        let [key, second, _] = *row;
        let (columns, values) = match table.second {
            None => (table.key.to_owned(), table.keys[key].to_owned()),
            Some(column) => (
                format!("{}, {column}", table.key),
                format!("{}, {}", table.keys[key], TEXTS[second]),
            ),
        };
        // The shard that takes the row, if any does.
        let insert = format!("INSERT INTO {} ({columns}) VALUES ({values})", table.name);
        let Some(owner) = route_of(&insert, &shop) else {
            continue;
        };
        prop_assert_eq!(owner.len(), 1, "{}", insert);
        prop_assert!(
            owner.is_subset(&chosen),
            "{}: {} is on {:?}, not in {:?}",
            sql,
            values,
            owner,
            chosen
        );
    }
    Ok(())
}

/// A WHERE clause over the columns of a [`Tested`] table.
#[derive(Debug, Clone)]
enum Condition {
    Is(usize),
    In(Vec<usize>),
    Any(Vec<usize>),
    Alike(usize),
    Below(usize),
    AtMost(usize),
    Above(usize),
    Between(usize, usize),
    Second(usize),
    Row(usize, usize),
    Rows(Vec<(usize, usize)>),
    Other(usize),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
}

fn condition(keys: usize, seconds: usize) -> impl Strategy<Value = Condition> {
    let (key, second) = (0..keys, 0..seconds);
    let some = || prop::collection::vec(0..keys, 1..4);
    let row = (key.clone(), second.clone());
    let of_key = prop_oneof![
        4 => key.clone().prop_map(Condition::Is),
        2 => some().prop_map(Condition::In),
        2 => some().prop_map(Condition::Any),
        1 => key.clone().prop_map(Condition::Alike),
        1 => key.clone().prop_map(Condition::Below),
        1 => key.clone().prop_map(Condition::AtMost),
        1 => key.clone().prop_map(Condition::Above),
        2 => (key.clone(), key).prop_map(|(low, high)| Condition::Between(low, high)),
        2 => (0..2usize).prop_map(Condition::Other),
    ];
    let of_row = prop_oneof![
        second.prop_map(Condition::Second),
        row.clone()
            .prop_map(|(key, second)| Condition::Row(key, second)),
        prop::collection::vec(row, 1..4).prop_map(Condition::Rows),
    ];
    let leaf = match seconds {
        1 => of_key.boxed(),
        _ => prop_oneof![of_key, of_row].boxed(),
    };
    leaf.prop_recursive(4, 12, 2, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            3 => pair.clone()
                .prop_map(|(a, b)| Condition::And(a.into(), b.into())),
            3 => pair.prop_map(|(a, b)| Condition::Or(a.into(), b.into())),
            1 => inner.prop_map(|a| Condition::Not(a.into())),
        ]
    })
}

impl Condition {
    fn sql(&self, table: &Tested) -> String {
        let name = table.key;
        let key = |at: &usize| table.keys[*at];
        let row = |(at, second): &(usize, usize)| format!("({}, {})", key(at), TEXTS[*second]);
        let second = table.second.unwrap_or(name);
        match self {
            Self::Is(at) => format!("{} = {name}", key(at)),
            Self::In(all) => {
                let all: Vec<_> = all.iter().map(key).collect();
                format!(
                    "'x' <> '' AND {}.{name} IN ({})",
                    table.name,
                    all.join(", ")
                )
            }
            Self::Any(all) => {
                let quoted = |at| key(at).trim_matches('\'').replace("''", "'");
                let all: Vec<_> = all.iter().map(|at| format!("\"{}\"", quoted(at))).collect();
                format!(
                    "{name} = ANY ('{{{}}}')",
                    all.join(", ").replace('\'', "''")
                )
            }
            Self::Alike(at) => format!("{name} IS NOT DISTINCT FROM {}", key(at)),
            Self::Below(at) => format!("{name} < {}", key(at)),
            Self::AtMost(at) => format!("{} >= {name}", key(at)),
            Self::Above(at) => format!("{name} > {}", key(at)),
            Self::Between(low, high) => {
                format!("{name} BETWEEN {} AND {}", key(low), key(high))
            }
            Self::Second(at) => format!("{second} = {}", TEXTS[*at]),
            Self::Row(at, other) => format!("({name}, {second}) = {}", row(&(*at, *other))),
            Self::Rows(rows) => {
                let rows: Vec<_> = rows.iter().map(row).collect();
                format!("({name}, {second}) IN ({})", rows.join(", "))
            }
            Self::Other(at) => format!("{} = {}", table.other.0, table.other.1[*at]),
            Self::And(a, b) => format!("({}) AND ({})", a.sql(table), b.sql(table)),
            Self::Or(a, b) => format!("({}) OR ({})", a.sql(table), b.sql(table)),
            Self::Not(a) => format!("NOT ({})", a.sql(table)),
        }
    }

    fn holds(&self, row: &[usize; 3]) -> bool {
        let [key, second, other] = *row;
        match self {
            Self::Is(at) | Self::Alike(at) => key == *at,
            Self::In(all) | Self::Any(all) => all.contains(&key),
            Self::Below(at) => key < *at,
            Self::AtMost(at) => key <= *at,
            Self::Above(at) => key > *at,
            Self::Between(low, high) => (*low..=*high).contains(&key),
            Self::Second(at) => second == *at,
            Self::Row(at, and) => (key, second) == (*at, *and),
            Self::Rows(rows) => rows.contains(&(key, second)),
            Self::Other(at) => other == *at,
            Self::And(a, b) => a.holds(row) && b.holds(row),
            Self::Or(a, b) => a.holds(row) || b.holds(row),
            Self::Not(a) => !a.holds(row),
        }
    }
}

/// By rows, where the ring's own test counts slots.
#[test]
fn a_fourth_shard_takes_a_quarter_of_a_million_keys() {
    let (three, four) = (support::topology(3), support::topology(4));
    let mut moved = 0;
    for key in 0..1_000_000 {
        let slot = slot_of_int(key);
        if three.owner(slot) != four.owner(slot) {
            assert_eq!(four.owner(slot), ShardId(3), "key {key}");
            moved += 1;
        }
    }
    assert!((230_000..=270_000).contains(&moved), "{moved} keys moved");
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

/// Does a statement run on every shard, its rows being merged?
fn is_merged(sql: &str) -> bool {
    let planned = plan(sql, &support::catalog(3), PlanOptions::default());
    let mut shape = Shape::default();
    shape.scan(sql.as_bytes());
    let values = Values {
        sql: sql.as_bytes(),
        pieces: &shape.pieces,
        params: &[],
    };
    let routed = route(&planned, values, &support::topology(3));
    routed.is_ok_and(|routed| matches!(routed.execution, Execution::Merge { .. }))
}

/// Each entry of a list is compared with those of the others.
#[test]
fn lists_longer_than_postgresql_takes_are_not_merged() {
    let list = |count: usize| vec!["id"; count].join(", ");
    for (count, expected) in [(20, true), (50_000, false)] {
        let list = list(count);
        for sql in [
            format!("SELECT {list} FROM orders ORDER BY id"),
            format!("SELECT id FROM orders ORDER BY {list}"),
            format!("SELECT id, count(*) FROM orders GROUP BY {list}"),
            format!("SELECT {list}, count(*) FROM orders GROUP BY {list} ORDER BY {list}"),
        ] {
            assert_eq!(is_merged(&sql), expected, "{}", &sql[..60]);
        }
    }
}

/// What is equal over so many joins must not be looked for anew for each pair of tables: before, this took
/// minutes.
#[test]
fn hundreds_of_joins_are_planned() {
    let joined = |on: fn(usize) -> String| {
        let joins = (1..300).map(|at| format!(" JOIN orders o{at} ON {}", on(at)));
        format!("SELECT o0.id FROM orders o0{}", joins.collect::<String>())
    };
    for (sql, expected) in [
        (
            joined(|at| format!("o{at}.customer_id = o0.customer_id")),
            true,
        ),
        (
            joined(|at| format!("o{at}.customer_id = o{}.customer_id", at - 1)),
            true,
        ),
        (joined(|at| format!("o{at}.id = o{}.id", at - 1)), false),
    ] {
        assert_eq!(is_merged(&sql), expected, "{}", &sql[..60]);
    }
}

#[test]
fn text_keys_find_their_shard() {
    let owner = support::topology(3).owner(slot_of_text("it's".as_bytes()));
    let chosen = route_of("SELECT * FROM users WHERE name = 'it''s'", &Shop::new());
    assert_eq!(chosen, Some(BTreeSet::from([owner])));
}
