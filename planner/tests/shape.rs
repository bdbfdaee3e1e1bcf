//! What is lifted out of a statement, and what is not.

use planner::shape::Shape;

/// The key with markers as `?` and the lifted pieces.
fn scan(sql: &str) -> (String, Vec<&str>) {
    let mut shape = Shape::default();
    shape.scan(sql.as_bytes());
    let key = shape
        .key
        .iter()
        .map(|byte| if *byte < 8 { b'?' } else { *byte })
        .collect();
    let pieces = shape
        .pieces
        .iter()
        .map(|piece| &sql[piece.range.clone()])
        .collect();
    (String::from_utf8(key).expect("UTF-8"), pieces)
}

fn multiple(sql: &str) -> bool {
    let mut shape = Shape::default();
    shape.scan(sql.as_bytes());
    shape.multiple
}

#[test]
fn literals_and_comments_are_lifted() {
    let cases: [(&str, &str, &[&str]); 14] = [
        ("SELECT 17", "SELECT ?", &["17"]),
        (
            "select 1.5, .5, 1., 1e5, 2.5E-3",
            "select ?, ?, ?, ?, ?",
            &["1.5", ".5", "1.", "1e5", "2.5E-3"],
        ),
        ("SELECT 'it''s', ''", "SELECT ?, ?", &["'it''s'", "''"]),
        (
            "SELECT E'a\\'b', e'\\\\'",
            "SELECT ?, ?",
            &["E'a\\'b'", "e'\\\\'"],
        ),
        (
            "SELECT B'1', x'f', N'a', U&'d'",
            "SELECT ?, ?, ?, ?",
            &["B'1'", "x'f'", "N'a'", "U&'d'"],
        ),
        (
            "SELECT $$a$$, $t$a$$b$t$",
            "SELECT ?, ?",
            &["$$a$$", "$t$a$$b$t$"],
        ),
        (
            "SELECT 'a'\n 'b', 'c' 'd'",
            "SELECT ?, ? ?",
            &["'a'\n 'b'", "'c'", "'d'"],
        ),
        (
            "SELECT /* a /* b */ c */ 1 -- x\n, 2",
            "SELECT ? ? ?\n, ?",
            &["/* a /* b */ c */", "1", "-- x", "2"],
        ),
        (
            "SELECT a1, $1, \"7 'x'\", t.c2 FROM t3",
            "SELECT a1, $1, \"7 'x'\", t.c2 FROM t3",
            &[],
        ),
        (
            "SELECT a+-5, b->>'x', 1..2",
            "SELECT a+-?, b->>?, ?..?",
            &["5", "'x'", "1", "2"],
        ),
        (
            "SELECT 1 ORDER BY 2, f(3) LIMIT 4",
            "SELECT ? ORDER BY 2, f(3) LIMIT ?",
            &["1", "4"],
        ),
        (
            "SELECT 1 GROUP BY 2 HAVING a > 3 ORDER BY 4 OFFSET 5",
            "SELECT ? GROUP BY 2 HAVING a > ? ORDER BY 4 OFFSET ?",
            &["1", "3", "5"],
        ),
        (
            "SELECT (SELECT 1 ORDER BY 2), 3",
            "SELECT (SELECT ? ORDER BY 2), ?",
            &["1", "3"],
        ),
        ("SELECT 'open", "SELECT ?", &["'open"]),
    ];
    for (sql, key, pieces) in cases {
        assert_eq!(scan(sql), (key.to_owned(), pieces.to_vec()), "{sql}");
    }
}

#[test]
fn other_statements_and_odd_bytes_stay_whole() {
    for sql in [
        "SET a = 5",
        "/* x */ EXPLAIN SELECT 1",
        "SELECT \u{1} 'x'",
        "SELECT 12abc",
        "SELECT \"\u{3}\", 5",
    ] {
        assert_eq!(scan(sql).1, Vec::<&str>::new(), "{sql}");
    }
}

#[test]
fn keys_of_different_statements_differ() {
    let key = |sql: &str| {
        let mut shape = Shape::default();
        shape.scan(sql.as_bytes());
        shape.key
    };
    assert_eq!(key("SELECT 1"), key("SELECT 22"));
    for (a, b) in [
        ("SELECT 1", "SELECT '1'"),
        ("SELECT 1", "SELECT \u{1}"),
        ("SELECT 1 ORDER BY 1", "SELECT 1 ORDER BY 2"),
        ("SELECT 1.5", "SELECT 15"),
        ("SELECT 'a'", "SELECT E'a'"),
    ] {
        assert_ne!(key(a), key(b), "{a} and {b}");
    }
}

#[test]
fn statements_are_counted_as_postgresql_counts_them() {
    for sql in [
        "SELECT 1",
        "SELECT 1;",
        ";;SELECT 1;; -- x",
        "SELECT ';'",
        "SELECT $$;$$",
        "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
        "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
    ] {
        assert!(!multiple(sql), "{sql}");
    }
    for sql in [
        "SELECT 1; SELECT 2",
        "BEGIN; COMMIT",
        "SELECT 1;;x",
        "CREATE TABLE begin (a int); SELECT 1",
    ] {
        assert!(multiple(sql), "{sql}");
    }
}

#[test]
fn a_parameter_is_told_from_other_dollars() {
    for (sql, named) in [
        ("SELECT 1", false),
        ("SELECT $1", true),
        (
            "SELECT a$1, '$1', \"$1\", $$ $1 $$, $t$ $1 $t$ -- $1",
            false,
        ),
        ("SELECT /* $1 */ 1, a + $12", true),
        ("SELECT '$", false),
        ("", false),
    ] {
        assert_eq!(planner::names_parameter(sql.as_bytes()), named, "{sql}");
    }
}
