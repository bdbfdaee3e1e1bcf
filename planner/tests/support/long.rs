//! Texts of any length, by the number of what they are made of.

/// Name, and the text of so many elements.
pub type Case = (&'static str, fn(usize) -> String);

pub const CASES: [Case; 38] = [
    ("tables of a FROM list", |n| {
        format!(
            "SELECT 1 FROM {}",
            list(n, ", ", |i| format!("customers c{i}"))
        )
    }),
    ("tables that one key joins", |n| {
        let tables = list(n, ", ", |i| format!("customers c{i}"));
        let joins = list(n, " AND ", |i| format!("c{i}.id = 7"));
        format!("SELECT 1 FROM {tables} WHERE {joins}")
    }),
    ("tables in a chain of joins", |n| {
        let joins = list(n, " ", |i| {
            format!(
                "JOIN orders o{} ON o{}.customer_id = o{i}.customer_id",
                i + 1,
                i + 1
            )
        });
        format!("SELECT 1 FROM orders o0 {joins}")
    }),
    ("reference tables", |n| {
        format!(
            "SELECT 1 FROM {}",
            list(n, ", ", |i| format!("products p{i}"))
        )
    }),
    ("unknown tables", |n| {
        format!("SELECT 1 FROM {}", list(n, ", ", |i| format!("nowhere{i}")))
    }),
    ("CTEs", |n| {
        let with = list(n, ", ", |i| format!("w{i} AS (SELECT id FROM customers)"));
        format!("WITH {with} SELECT * FROM w0")
    }),
    ("CTEs of each other", |n| {
        let with = list(n, ", ", |i| match i {
            0 => "w0 AS (SELECT id FROM customers WHERE id = 7)".to_owned(),
            _ => format!("w{i} AS (SELECT id FROM w{})", i - 1),
        });
        format!("WITH {with} SELECT * FROM w{}", n - 1)
    }),
    ("CTEs that are joined", |n| {
        let with = list(n, ", ", |i| format!("w{i} AS (SELECT id FROM customers)"));
        let from = list(n, ", ", |i| format!("w{i}"));
        format!("WITH {with} SELECT 1 FROM {from}")
    }),
    ("branches of UNION ALL", |n| {
        list(n, " UNION ALL ", |i| {
            format!("SELECT id FROM customers WHERE id = {i}")
        })
    }),
    ("branches of UNION", |n| {
        list(n, " UNION ", |_| "SELECT id FROM customers".to_owned())
    }),
    ("branches without tables", |n| {
        list(n, " UNION ALL ", |i| format!("SELECT {i}"))
    }),
    ("IN list", |n| {
        let ids = list(n, ", ", |i| i.to_string());
        format!("SELECT * FROM customers WHERE id IN ({ids})")
    }),
    ("IN list of no key", |n| {
        let ids = list(n, ", ", |i| format!("'{i}'"));
        format!("SELECT * FROM customers WHERE name IN ({ids}) ORDER BY id LIMIT 3")
    }),
    ("OR chain", |n| {
        let or = list(n, " OR ", |i| format!("id = {i}"));
        format!("SELECT * FROM customers WHERE {or}")
    }),
    ("AND chain", |n| {
        let and = list(n, " AND ", |i| format!("name <> '{i}'"));
        format!("SELECT * FROM customers WHERE {and}")
    }),
    ("columns", |n| {
        let columns = list(n, ", ", |i| format!("id AS c{i}"));
        format!("SELECT {columns} FROM customers ORDER BY 1")
    }),
    ("aggregates", |n| {
        let columns = list(n, ", ", |i| format!("count(*) AS c{i}"));
        format!("SELECT city, {columns} FROM customers GROUP BY city")
    }),
    ("columns to order by", |n| {
        let columns = list(n, ", ", |i| format!("id + {i}"));
        format!("SELECT id FROM customers ORDER BY {columns}")
    }),
    ("columns to group by", |n| {
        let columns = list(n, ", ", |i| format!("id + {i}"));
        format!("SELECT count(*) FROM customers GROUP BY {columns}")
    }),
    ("scalar subqueries", |n| {
        let columns = list(n, ", ", |_| "(SELECT max(o.id) FROM orders o)".to_owned());
        format!("SELECT {columns} FROM customers")
    }),
    ("subqueries in FROM", |n| {
        let from = list(n, ", ", |i| format!("(SELECT id FROM customers) s{i}"));
        format!("SELECT 1 FROM {from}")
    }),
    ("EXISTS of a key", |n| {
        let exists = list(n, " AND ", |_| {
            "EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id)".to_owned()
        });
        format!("SELECT * FROM customers c WHERE {exists}")
    }),
    ("rows of an INSERT", |n| {
        let rows = list(n, ", ", |i| format!("({i}, 'x')"));
        format!("INSERT INTO customers (id, name) VALUES {rows}")
    }),
    ("columns of an UPDATE", |n| {
        let sets = list(n, ", ", |i| format!("c{i} = {i}"));
        format!("UPDATE customers SET {sets} WHERE id = 7")
    }),
    ("statements", |n| {
        list(n, "; ", |i| {
            format!("UPDATE customers SET name = 'x' WHERE id = {i}")
        })
    }),
    ("function calls", |n| {
        let calls = list(n, ", ", |_| "lower(name)".to_owned());
        format!("SELECT {calls} FROM customers WHERE id = 7")
    }),
    ("tables joined by USING", |n| {
        let joins = list(n, " ", |i| {
            format!("JOIN orders o{} USING (customer_id)", i + 1)
        });
        format!("SELECT 1 FROM orders o0 {joins}")
    }),
    ("outer joins", |n| {
        let joins = list(n, " ", |i| {
            let i = i + 1;
            format!("LEFT JOIN orders o{i} ON o{i}.customer_id = o0.customer_id")
        });
        format!("SELECT 1 FROM orders o0 {joins} WHERE o0.customer_id = 7")
    }),
    ("tables with conditions", |n| {
        let tables = list(n, ", ", |i| format!("customers c{i}"));
        let conditions = list(n, " AND ", |i| format!("(c{i}.name > 'x')"));
        format!("SELECT 1 FROM {tables} WHERE {conditions}")
    }),
    ("keys in parentheses", |n| {
        let tables = list(n, ", ", |i| format!("customers c{i}"));
        let conditions = list(n, " AND ", |i| format!("(c{i}.id = {i})"));
        format!("SELECT 1 FROM {tables} WHERE {conditions}")
    }),
    ("WHENs of a CASE", |n| {
        let whens = list(n, " ", |i| format!("WHEN {i} THEN 'x{i}'"));
        format!("SELECT CASE id {whens} END FROM customers ORDER BY id")
    }),
    ("IN subqueries", |n| {
        let all = list(n, " AND ", |_| {
            "id IN (SELECT customer_id FROM orders)".to_owned()
        });
        format!("SELECT * FROM customers WHERE {all}")
    }),
    ("DELETE of a list", |n| {
        let ids = list(n, ", ", |i| i.to_string());
        format!("DELETE FROM customers WHERE id IN ({ids}) RETURNING id")
    }),
    ("nested in FROM", |n| {
        nested(n, "SELECT * FROM customers", |i, inner| {
            format!("SELECT * FROM ({inner}) s{i}")
        })
    }),
    ("nested IN of keys", |n| {
        nested(n, "SELECT customer_id FROM orders", |_, inner| {
            format!("SELECT customer_id FROM orders WHERE customer_id IN ({inner})")
        })
    }),
    ("nested IN", |n| {
        nested(n, "SELECT note FROM orders", |_, inner| {
            format!("SELECT note FROM orders WHERE note IN ({inner})")
        })
    }),
    ("nested EXISTS", |n| {
        nested(n, "SELECT FROM orders o", |i, inner| {
            format!("SELECT FROM orders o{i} WHERE o{i}.id = 3 AND EXISTS ({inner})")
        })
    }),
    ("nested WITH", |n| {
        nested(n, "SELECT id FROM customers", |i, inner| {
            format!("WITH w{i} AS ({inner}) SELECT id FROM w{i}")
        })
    }),
];

fn list(n: usize, between: &str, each: impl Fn(usize) -> String) -> String {
    (0..n).map(each).collect::<Vec<_>>().join(between)
}

/// So many levels, but no more than 40: deeper texts are not read.
fn nested(n: usize, innermost: &str, around: impl Fn(usize, &str) -> String) -> String {
    (0..n.min(40)).fold(innermost.to_owned(), |inner, i| around(i, &inner))
}
