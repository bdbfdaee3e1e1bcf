//! INSERTs whose rows come from a query and get ids by default, against one server whose sequences give ids.

use std::collections::HashSet;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::{TABLES, World, connect, failure, joined, simple};
use crate::support;
use crate::support::wire::{Wire, bind, execute, parse};

/// RETURNING, where it is, begins with the column that is left out.
const FROM_QUERIES: &str = "
    INSERT INTO posts (body, n) SELECT * FROM unnest('{a,NULL,c,d,e,f,g,h}'::text[], '{1,2,3}'::int[]) RETURNING id, body, n, tags;
    INSERT INTO posts (body) SELECT * FROM unnest(ARRAY['one']) RETURNING id, *;
    INSERT INTO posts (n, body) SELECT o, b || '!' FROM unnest(ARRAY['a', 'b', NULL]) WITH ORDINALITY AS u (b, o) RETURNING id, upper(body), n + 1 AS next;
    INSERT INTO posts (body, n, tags) SELECT b::varchar(3), 5, '{x,y}' FROM (SELECT unnest('{long,longer}'::text[]) AS b) AS s RETURNING id, body, n, tags;
    INSERT INTO posts (n) SELECT g FROM generate_series(1, 20) AS g ORDER BY g DESC RETURNING id, n, body;
    INSERT INTO posts (n) SELECT g FROM generate_series(1, 0) AS g RETURNING id, n;
    INSERT INTO posts (body, n) SELECT body, max(n) FROM posts GROUP BY body ORDER BY 1 NULLS FIRST, 2 RETURNING id, body, n;
    INSERT INTO posts SELECT 'short' FROM generate_series(1, 3) RETURNING id, body, n, tags;
    INSERT INTO posts SELECT * FROM unnest(ARRAY['starred', 'rows']) RETURNING id, body, n;
    INSERT INTO posts (body) (SELECT name FROM kinds ORDER BY name) RETURNING id, body;
    INSERT INTO posts (body) SELECT name FROM kinds UNION ALL SELECT 'more' ORDER BY 1 LIMIT 2 OFFSET 1 RETURNING id, body;
    INSERT INTO posts AS p (body, n) SELECT x.a, 3 FROM (VALUES ('v'), ('w')) AS x (a) ON CONFLICT (id) DO UPDATE SET body = 'met' RETURNING p.id, p.body;
    INSERT INTO parts (customer_id, sku) SELECT c, 'sku' || c FROM generate_series(1, 9) AS c RETURNING number, customer_id, sku, n;
    INSERT INTO parts (sku, customer_id) SELECT 'at one', 5 FROM parts WHERE customer_id = 5 RETURNING number, customer_id;
    INSERT INTO parts (customer_id, sku) SELECT customer_id, sku || '+' FROM parts WHERE customer_id IN (1, 2, 3) ORDER BY 1 RETURNING number, customer_id, sku;
    INSERT INTO parts (customer_id, sku) SELECT c, 'sku' || c FROM generate_series(8, 11) AS c ON CONFLICT (customer_id, sku) DO NOTHING;
    INSERT INTO parts (customer_id, sku, n) SELECT c, 'sku' || c, 50 FROM generate_series(11, 12) AS c ON CONFLICT (customer_id, sku) DO UPDATE SET n = excluded.n;
    INSERT INTO parts SELECT c FROM generate_series(20, 25) AS c RETURNING number, customer_id, sku, n;
    INSERT INTO parts SELECT DISTINCT customer_id, number + 1, 'given' FROM parts WHERE customer_id = 1 AND sku = 'sku1';
    INSERT INTO posts (body, n) SELECT name, count(*) FROM kinds GROUP BY name HAVING count(*) > 5 RETURNING id;
    INSERT INTO cells (tenant, note) SELECT g, n.name FROM kinds AS n, generate_series(1, 9) AS g ORDER BY 2, 1 RETURNING id, tenant, note;
    INSERT INTO cells SELECT 1 FROM kinds RETURNING id, tenant, note;
    INSERT INTO posts (body, n) SELECT 'x', 200 / (g - 5) FROM generate_series(1, 9) AS g;
    INSERT INTO posts (body, n) SELECT 'x', CASE g WHEN 9 THEN 100 ELSE g END FROM generate_series(1, 9) AS g;
    INSERT INTO posts (body, n) SELECT 'x' FROM generate_series(1, 9) AS g;
    INSERT INTO posts (body, n) SELECT 'x', 'y' FROM generate_series(1, 9) AS g;
    INSERT INTO posts SELECT 'x', 1, 2, '{}', 5;
    INSERT INTO posts (body, nosuch) SELECT 'x', 1;
    INSERT INTO parts (customer_id, sku) SELECT NULL, 'x' FROM kinds;
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_query_get_ids_as_one_server_would_give_them() {
    let world = World::initialized();
    let client = connect(&world.one).await;
    // The same tables on one server, whose sequences give ids.
    let server = &world.shards.shards[0].primary;
    let (user, port, name) = (&server.superuser, server.port, &server.database);
    let plain = support::client(&format!("postgresql://{user}@127.0.0.1:{port}/{name}")).await;
    let schema = format!("CREATE SCHEMA plain; SET search_path = plain; {TABLES}");
    let schema = schema.replace("SET ROLE app;", "");
    plain.batch_execute(&schema).await.unwrap();
    for to in [&client, &plain] {
        simple(to, "INSERT INTO kinds VALUES (1, 'k'), (2, 'l'), (3, NULL)").await;
    }
    let mut before = 1 << 40;
    for (at, sql) in FROM_QUERIES
        .split(';')
        .map(str::trim)
        .filter(|sql| !sql.is_empty())
        .enumerate()
    {
        let (got, wanted) = (told(&client, sql).await, told(&plain, sql).await);
        let rest = |rows: &[String]| -> Vec<String> {
            let rest = |row: &String| row.split_once('|').map(|(_, rest)| rest.to_owned());
            // RETURNING * has it twice.
            let starred = |rest: String| match sql.contains("RETURNING id, *") {
                true => rest.split('|').next().unwrap_or_default().to_owned(),
                false => rest,
            };
            rows.iter().filter_map(rest).map(starred).collect()
        };
        match (&got, &wanted) {
            (Ok(got), Ok(wanted)) => {
                assert_eq!(rest(got), rest(wanted), "{at}: {sql}");
                assert_eq!(got.len(), wanted.len(), "{at}: {sql}");
                for row in got {
                    let id = row.split('|').next().unwrap().parse::<i64>().unwrap();
                    assert!(id > before, "{at}: {sql}: {id}");
                    before = id;
                }
            }
            (Err(got), Err(wanted)) => assert_eq!(got, wanted, "{at}: {sql}"),
            _ => panic!("{at}: {sql}: {got:?}, not {wanted:?}"),
        }
        for rows in [
            "SELECT body, n, tags FROM posts",
            "SELECT customer_id, sku, n FROM parts",
        ] {
            let sql = format!("{rows} ORDER BY 1, 2, 3");
            assert_eq!(
                simple(&client, &sql).await,
                simple(&plain, &sql).await,
                "{at}"
            );
        }
    }
    // Each is where its key says.
    for id in simple(&client, "SELECT id FROM posts").await {
        let one = format!("SELECT count(*) FROM posts WHERE id = {id}");
        assert_eq!(simple(&client, &one).await, ["1"]);
    }
    let counts = world.each("SELECT count(*) > 5 FROM posts");
    assert_eq!(counts, ["t", "t"]);
}

/// Rows, or SQLSTATE and message.
async fn told(client: &Client, sql: &str) -> Result<Vec<String>, String> {
    match client.simple_query(sql).await {
        Ok(_) if !sql.contains("RETURNING") => Ok(Vec::new()),
        Ok(messages) => Ok(joined(&messages)),
        Err(error) => {
            let error = error.as_db_error().expect("an answer");
            Err(format!("{}: {}", error.code().code(), error.message()))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrays_of_the_extended_protocol_become_rows_with_ids() {
    let world = World::initialized();
    let client = connect(&world.one).await;
    let sql = "INSERT INTO posts (n, body) SELECT * FROM UNNEST(($1)::int[], ($2)::text[]) RETURNING id, body, n";
    let insert = client.prepare(sql).await.unwrap();
    assert_eq!(insert.params(), [Type::INT4_ARRAY, Type::TEXT_ARRAY]);
    let mut ids = Vec::new();
    for count in [100_usize, 0, 1, 3] {
        let numbers: Vec<i32> = (0..count as i32).map(|n| n % 100).collect();
        let bodies: Vec<Option<String>> = (0..count)
            .map(|n| (n % 3 > 0).then(|| format!("b{n}")))
            .collect();
        let rows = client.query(&insert, &[&numbers, &bodies]).await.unwrap();
        assert_eq!(rows.len(), count);
        for (at, row) in rows.iter().enumerate() {
            assert_eq!((row.get(1), row.get(2)), (bodies[at].clone(), numbers[at]));
        }
        ids.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
    }
    assert!(ids.is_sorted() && ids.len() == 104, "{ids:?}");
    // In text, and as the last of a block that is taken back, kept, or fails.
    let count = "SELECT count(*) FROM posts";
    let mut wire = Wire::login(world.one.port(), "app", "shop").0;
    let mut in_text = |numbers: &str, end: &str| {
        wire.ask("BEGIN");
        let messages = [
            parse("", sql),
            bind("", "", &[numbers, "{\"a b\",NULL}"]),
            execute("", 0),
        ];
        let answer = wire.ask_pipeline(&messages);
        (answer, wire.ask(end))
    };
    let (answer, _) = in_text("{5,6}", "ROLLBACK");
    assert!(answer.ends_with("INSERT 0 2 T"), "{answer}");
    assert_eq!(simple(&client, count).await, ["104"]);
    let (answer, _) = in_text("{5,1000}", "COMMIT");
    assert_eq!(answer, "23514 E");
    assert_eq!(simple(&client, count).await, ["104"]);
    let (_, end) = in_text("{5,6}", "COMMIT");
    assert_eq!(end, "COMMIT I");
    assert_eq!(simple(&client, count).await, ["106"]);

    // What is volatile runs once for each row, and a key of another type is told by its digits.
    let once = "INSERT INTO posts (body, tags) SELECT u, ARRAY[u] FROM (SELECT gen_random_uuid()::text AS u \
                FROM generate_series(1, 50)) AS made RETURNING body = tags[1], body";
    let rows = simple(&client, once).await;
    assert!(rows.iter().all(|row| row.starts_with("t|")), "{rows:?}");
    assert_eq!(rows.iter().collect::<HashSet<_>>().len(), 50);
    let digits = "INSERT INTO letters (body) SELECT g::text FROM generate_series(1, 9) AS g RETURNING id, body";
    for (at, row) in simple(&client, digits).await.iter().enumerate() {
        let (id, body) = row.split_once('|').unwrap();
        assert_eq!(body, (at + 1).to_string());
        let one = format!("SELECT body FROM letters WHERE id = {id}");
        assert_eq!(simple(&client, &one).await, [body]);
    }
    // Ids that no shard takes leave nothing, nor do other tables' rows of the same block.
    let few = "INSERT INTO few (body) SELECT 'x' FROM generate_series(1, 3)";
    assert!(failure(&client, few).await.starts_with("23514"));
    client.batch_execute("BEGIN").await.unwrap();
    simple(&client, "INSERT INTO posts (body) SELECT 'lost'").await;
    assert!(failure(&client, few).await.starts_with("23514"));
    assert!(failure(&client, few).await.starts_with("25P02"));
    client.batch_execute("COMMIT").await.unwrap();
    let lost = "SELECT count(*) FROM posts WHERE body = 'lost'";
    assert_eq!(simple(&client, lost).await, ["0"]);
    assert_eq!(world.each("SELECT count(*) FROM few"), ["0", "0"]);
    // More than a process gives in a millisecond.
    let many =
        "INSERT INTO posts (n) SELECT g % 100 FROM generate_series(1, 5000) AS g RETURNING id";
    let ids = simple(&client, many).await;
    let ids: Vec<i64> = ids.iter().map(|id| id.parse().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b) && ids.len() == 5000);
    // No server is asked to number a row by its own sequence.
    let prepare = "PREPARE p AS INSERT INTO posts (body) SELECT 'x'";
    client.batch_execute(prepare).await.unwrap();
    let told = failure(&client, "EXECUTE p").await;
    assert!(told.starts_with("0A000"), "{told}");
    let route = simple(
        &client,
        "EXPLAIN (ROUTE) INSERT INTO posts (body) SELECT 'x'",
    )
    .await;
    assert!(
        route.contains(&"ids: one for each row, as \"id\"".to_owned()),
        "{route:?}"
    );
    // Without a lease, no rows.
    let none = "UPDATE ringway.worker SET owner = gen_random_uuid(), until_ms = 1::bigint << 40";
    let other = world.other();
    world.shards.shards[0].primary.exec(none).unwrap();
    let newcomer = connect(&other).await;
    let told = failure(&newcomer, "INSERT INTO posts (body) SELECT 'x'").await;
    assert!(told.starts_with("55000"), "{told}");
    assert_eq!(
        simple(&client, "SELECT count(*) FROM posts WHERE body = 'x'").await,
        ["0"]
    );
}
