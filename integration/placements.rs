//! Tables placed by ranges, by a list, by schema and by comments on them: what is stored where, what
//! EXPLAIN (ROUTE) tells, and what `ringway check` says of their schemas.

use std::fmt::Write;
use std::process::Command;

use ringway::demo::captive::{CaptiveCluster, Spec};

use crate::sharded_copy::{copy_in, outcome};
use crate::support::wire::Wire;
use crate::support::{self, Ringway};

/// On both shards.
const SCHEMA: &str = "
CREATE TABLE branches (country text PRIMARY KEY, name text);
CREATE TABLE diary (day date PRIMARY KEY, note text);
CREATE TABLE parcels (tenant bigint, code text, PRIMARY KEY (tenant, code));
COMMENT ON TABLE parcels IS 'Parcels of tenants.
ringway: key=tenant,code';
CREATE TABLE rates (code text PRIMARY KEY, rate numeric);
COMMENT ON TABLE rates IS 'ringway: reference';
CREATE TABLE events (id bigserial, customer_id bigint, UNIQUE (id));
CREATE SCHEMA acme;
CREATE TABLE acme.orders (id bigint PRIMARY KEY);
CREATE VIEW acme.ids AS SELECT id FROM acme.orders;
CREATE VIEW acme.days AS SELECT day, count(*) FROM diary GROUP BY day;
CREATE SCHEMA other;
CREATE TABLE other.orders (id bigint PRIMARY KEY);
";

fn config(cluster: &CaptiveCluster, port: u16) -> String {
    let mut toml = format!(
        "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n[users.acme]\nauth = \"trust\"\n\
         [databases.shop]\nmonitor_user = \"ringway\"\n\
         [databases.shop.placements]\n\
         by_country = {{ list = {{ s0 = ['NO'], s1 = ['DK', 'SE'] }} }}\n\
         by_year = {{ ranges = [{{ to = 2026-01-01, shard = 's0' }}, \
         {{ from = 2026-01-01, to = 2027-01-01, shard = 's1' }}] }}\n\
         [databases.shop.tables]\n\
         branches = {{ key = 'country', by = 'by_country' }}\n\
         diary = {{ key = 'day', by = 'by_year' }}\n\
         events = {{ key = 'customer_id' }}\n\
         [databases.shop.schemas]\nacme = 's1'\n'*' = 's0'\n"
    );
    for (at, shard) in cluster.shards.iter().enumerate() {
        let _ = writeln!(
            toml,
            "[[databases.shop.shards]]\nname = \"s{at}\"\nservers = [\"127.0.0.1:{}\"]",
            shard.primary.port
        );
    }
    toml
}

fn start() -> (CaptiveCluster, Ringway) {
    let cluster = support::cluster(&Spec {
        shards: 2,
        database: "shop".to_owned(),
        ..Spec::default()
    });
    for shard in &cluster.shards {
        shard.primary.exec_in("shop", SCHEMA).unwrap();
    }
    let ringway = Ringway::start(|port| config(&cluster, port));
    (cluster, ringway)
}

/// By shard, what `sql` gives there.
fn on_shards(cluster: &CaptiveCluster, sql: &str) -> Vec<String> {
    let shards = cluster.shards.iter();
    shards
        .map(|shard| shard.primary.exec_in("shop", sql).unwrap())
        .collect()
}

#[tokio::test]
async fn rows_are_where_their_placement_says() {
    let (cluster, ringway) = tokio::task::spawn_blocking(start).await.unwrap();
    let client = support::client(&format!(
        "postgresql://ringway@127.0.0.1:{}/shop",
        ringway.port()
    ))
    .await;
    for sql in [
        "INSERT INTO branches VALUES ('NO', 'Oslo')",
        "INSERT INTO branches VALUES ('SE', 'Lund')",
        "INSERT INTO diary VALUES ('2025-12-31', 'last')",
        "INSERT INTO diary VALUES (date '2026-01-01', 'first')",
        "INSERT INTO acme.orders VALUES (1)",
        "INSERT INTO other.orders VALUES (2)",
        "INSERT INTO rates VALUES ('x', 1)",
    ] {
        assert_eq!(client.execute(sql, &[]).await.unwrap(), 1, "{sql}");
    }
    for (sql, code) in [
        ("INSERT INTO branches VALUES ('FI', 'Turku')", "23514"),
        ("INSERT INTO diary VALUES ('2027-01-01', 'late')", "23514"),
        ("INSERT INTO diary VALUES ('1/1/2026', 'unclear')", "0A000"),
        ("SET search_path = acme", "0A000"),
        ("SELECT * FROM acme.days", "0A000"),
    ] {
        let error = client.batch_execute(sql).await.expect_err(sql);
        assert_eq!(error.code().unwrap().code(), code, "{sql}");
    }
    let cases = [
        ("SELECT country FROM branches", ["NO", "SE"]),
        ("SELECT note FROM diary", ["last", "first"]),
        ("SELECT id FROM acme.orders", ["", "1"]),
        ("SELECT id FROM other.orders", ["2", ""]),
        ("SELECT code FROM rates", ["x", "x"]),
    ];
    for (sql, expected) in cases {
        assert_eq!(on_shards(&cluster, sql), expected, "{sql}");
    }
    let rows = client.query("SELECT id FROM acme.ids", &[]).await;
    assert_eq!(rows.unwrap()[0].get::<_, i64>(0), 1);

    // Parameters in binary format, arrays and dates among them.
    let countries = vec!["NO", "SE", "XX"];
    let sql = "SELECT name FROM branches WHERE country = ANY($1) ORDER BY country COLLATE \"C\"";
    let rows = client.query(sql, &[&countries]).await.unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["Oslo", "Lund"]);
    for id in 0..20_i64 {
        let sql = "INSERT INTO parcels VALUES ($1, $2)";
        client
            .execute(sql, &[&id, &format!("c{id}")])
            .await
            .unwrap();
        let sql = "SELECT tenant FROM parcels WHERE (tenant, code) = ($1, $2)";
        let rows = client.query(sql, &[&id, &format!("c{id}")]).await.unwrap();
        assert_eq!(rows.len(), 1, "parcel {id}");
    }
    let spread = on_shards(&cluster, "SELECT count(*) > 0 FROM parcels");
    assert_eq!(spread, ["t", "t"]);
    rows_of_one_insert_go_apart(&cluster, &client).await;

    let route = |sql: &'static str| {
        let client = &client;
        async move {
            let rows = client
                .simple_query(&format!("EXPLAIN (ROUTE) {sql}"))
                .await
                .unwrap();
            let lines = rows.iter().filter_map(|row| match row {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            });
            lines.collect::<Vec<_>>().join("\n")
        }
    };
    for (sql, shards) in [
        ("SELECT * FROM diary WHERE day < '2025-06-01'", "s0"),
        (
            "SELECT * FROM diary WHERE day BETWEEN '2026-01-01' AND '2026-02-01'",
            "s1",
        ),
        ("SELECT * FROM diary WHERE day >= '2025-06-01'", "s0, s1"),
        ("SELECT * FROM branches WHERE country = 'DK'", "s1"),
    ] {
        let told = route(sql).await;
        assert!(
            told.contains(&format!("shards: {shards}\n")),
            "{sql}\n{told}"
        );
    }

    // To a role with a schema of its own, names may mean something else.
    for shard in &cluster.shards {
        let sql = "CREATE ROLE acme LOGIN; GRANT USAGE ON SCHEMA acme TO acme";
        shard.primary.exec_in("shop", sql).unwrap();
    }
    let acme = format!("postgresql://acme@127.0.0.1:{}/shop", ringway.port());
    assert!(
        tokio_postgres::connect(&acme, tokio_postgres::NoTls)
            .await
            .is_ok()
    );
    let sql = "CREATE TABLE acme.rates (code text PRIMARY KEY)";
    client.batch_execute(sql).await.unwrap();
    let refused = tokio_postgres::connect(&acme, tokio_postgres::NoTls).await;
    let error = refused.err().expect("a login that is refused");
    let error = error.as_db_error().expect("the reason").clone();
    let detail = error.detail().unwrap_or_default();
    assert_eq!(error.code().code(), "0A000", "{error}");
    assert!(detail.contains("\"rates\" means acme.rates"), "{detail}");

    let ports = (cluster.shards[0].primary.port, ringway.port());
    let copied = move || data_with_keys_of_several_columns(ports);
    tokio::task::spawn_blocking(copied).await.unwrap();
    // Each is found by its whole key, so each is where it belongs.
    let sql = "SELECT count(*) FROM parcels WHERE tenant = $1 AND code = $2";
    for id in 1000..1060_i64 {
        let rows = client.query(sql, &[&id, &format!("k\t\"{id}")]).await;
        assert_eq!(rows.unwrap()[0].get::<_, i64>(0), 1, "parcel {id}");
    }

    // The catalog hears of a comment that comes later.
    client
        .batch_execute("COMMENT ON TABLE parcels IS 'ringway: key=tenant'")
        .await
        .unwrap();
    let told = route("SELECT * FROM parcels WHERE tenant = 1").await;
    assert!(told.contains("parcels.tenant is limited"), "{told}");

    let port = ringway.port();
    let copied = move || data_of_one_copy_go_apart(&cluster, port);
    tokio::task::spawn_blocking(copied).await.unwrap();
}

async fn rows_of_one_insert_go_apart(cluster: &CaptiveCluster, client: &tokio_postgres::Client) {
    let sql = "INSERT INTO diary VALUES ('2024-02-02', 'a'), ('2026-02-02', 'b') RETURNING note";
    let rows = client.query(sql, &[]).await.unwrap();
    let notes: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(notes, ["a", "b"], "in the order of VALUES");
    let sql = "INSERT INTO branches VALUES ($1, 'Aarhus'), ('NO2', 'none')";
    let error = client.execute(sql, &[&"DK"]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "23514");
    let sql =
        "INSERT INTO diary VALUES ('2024-03-03', 'c'), ('2026-03-03', 'd'), ('3/3/2026', 'e')";
    let error = client.execute(sql, &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "0A000");
    let notes = on_shards(
        cluster,
        "SELECT string_agg(note, ',' ORDER BY day) FROM diary",
    );
    assert_eq!(notes, ["a,last", "first,b"], "nothing of what was refused");
    // Each is found by its whole key, so each is where it belongs.
    let rows: Vec<String> = (0..20).map(|id| format!("({id}, 'many{id}')")).collect();
    let sql = format!(
        "INSERT INTO parcels (tenant, code) VALUES {}",
        rows.join(", ")
    );
    assert_eq!(client.execute(&sql, &[]).await.unwrap(), 20);
    let many = on_shards(
        cluster,
        "SELECT count(*) > 0 FROM parcels WHERE code ~ 'many'",
    );
    assert_eq!(many, ["t", "t"]);
    for id in 0..20_i64 {
        let sql = "SELECT 1 FROM parcels WHERE tenant = $1 AND code = $2";
        let rows = client.query(sql, &[&id, &format!("many{id}")]).await;
        assert_eq!(rows.unwrap().len(), 1, "parcel {id}");
    }
}

/// In every format; what is wrong in them is told as by one plain server, the first shard by itself.
fn data_with_keys_of_several_columns((plain, ringway): (u16, u16)) {
    let [mut plain, mut ringway] =
        [plain, ringway].map(|port| Wire::login(port, "ringway", "shop").0);
    let text = |id: i64| format!("k\\t\"{id}\t{id}\n");
    let csv = |id: i64| format!("\"k\t\"\"{id}\",{id}\r\n");
    let mut binary = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for id in 1040..1060_i64 {
        let code = format!("k\t\"{id}");
        binary.extend(2_i16.to_be_bytes());
        binary.extend((code.len() as i32).to_be_bytes());
        binary.extend(code.as_bytes());
        binary.extend(8_i32.to_be_bytes());
        binary.extend(id.to_be_bytes());
    }
    binary.extend((-1_i16).to_be_bytes());
    let columns = "COPY parcels (code, tenant) FROM STDIN";
    for (options, data) in [
        ("", (1000..1020).map(text).collect::<String>().into_bytes()),
        (
            " CSV HEADER",
            [
                b"code,tenant\r\n".to_vec(),
                (1020..1040).map(csv).collect::<String>().into_bytes(),
            ]
            .concat(),
        ),
        (" BINARY", binary),
    ] {
        let told = outcome(&copy_in(
            &mut ringway,
            &format!("{columns}{options}"),
            &data,
            7,
        ));
        assert_eq!(told, "COPY 20\0", "{options}");
    }
    plain.query("BEGIN");
    plain.read_to_ready();
    for data in ["x\t2000\nx\ty\n", "x\t2000\nx\n", "x\t2000\ty\n"] {
        let [wanted, told] =
            [("SAVEPOINT s", &mut plain), ("SELECT 1", &mut ringway)].map(|(before, wire)| {
                wire.query(before);
                wire.read_to_ready();
                let told = outcome(&copy_in(wire, columns, data.as_bytes(), 100));
                wire.query("ROLLBACK TO s");
                wire.read_to_ready();
                told
            });
        assert_eq!(told, wanted, "{data}");
    }
    let null = outcome(&copy_in(
        &mut ringway,
        columns,
        b"x\t2000\n\\N\t2001\n",
        100,
    ));
    assert!(
        null.starts_with("23502;") && null.contains("\"code\""),
        "{null}"
    );
    let sql = "COPY parcels (tenant) FROM STDIN";
    let without = outcome(&copy_in(&mut ringway, sql, b"1\n", 100));
    assert!(without.contains("sharding key code"), "{without}");
    ringway.query("SELECT count(*) FROM parcels WHERE tenant >= 2000");
    assert_eq!(
        ringway.read_to_ready()[1].body[6..],
        *b"0",
        "nothing of what failed"
    );
}

fn data_of_one_copy_go_apart(cluster: &CaptiveCluster, port: u16) {
    let (mut wire, _) = Wire::login(port, "ringway", "shop");
    for (sql, data, expected) in [
        (
            "COPY diary FROM STDIN",
            "2024-04-04\tf\n2026-04-04\tg\n",
            "COPY 2",
        ),
        (
            "COPY diary FROM STDIN",
            "2024-05-05\th\n5/5/2026\ti\n",
            "0A000",
        ),
        (
            "COPY diary FROM STDIN",
            "2024-05-05\th\n2028-05-05\ti\n",
            "23514",
        ),
    ] {
        let told = outcome(&copy_in(&mut wire, sql, data.as_bytes(), 7));
        assert!(told.contains(expected), "{data}: {told}");
    }
    let notes = on_shards(
        cluster,
        "SELECT string_agg(note, ',' ORDER BY day) FROM diary",
    );
    assert_eq!(
        notes,
        ["a,f,last", "first,b,g"],
        "nothing of what was refused"
    );
}

#[tokio::test]
async fn check_tells_what_shards_cannot_enforce() {
    let (cluster, ringway) = tokio::task::spawn_blocking(start).await.unwrap();
    let second = &cluster.shards[1].primary;
    second
        .exec_in(
            "shop",
            "CREATE UNIQUE INDEX more ON branches (name);
             COMMENT ON TABLE branches IS 'ringway: reference'",
        )
        .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(["check", "-c"])
        .arg(ringway.config_file())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{out}");
    for (kind, text) in [
        (
            "notice",
            "Placement by_year has no default and no shard for keys from 2027-01-01",
        ),
        ("notice", "Table public.events has no primary key"),
        (
            "notice",
            "Index events_id_key of table public.events is unique on each shard",
        ),
        ("notice", "Column id of table public.events has a sequence"),
        (
            "mistake",
            "Table public.branches differs between shards \"s0\" and \"s1\": only one has a unique \
             index over (name), more",
        ),
        (
            "mistake",
            "The comments on table public.branches differ between shards",
        ),
    ] {
        let told = |line: &str| line.starts_with(kind) && line.contains(text);
        assert!(out.lines().any(told), "{text}\n{out}");
    }
    assert!(!out.contains("public.parcels"), "{out}");
    assert!(!out.contains("public.rates"), "{out}");
}
