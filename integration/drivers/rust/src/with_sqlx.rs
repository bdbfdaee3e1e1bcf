//! sqlx with its pool: binary values, statements named sqlx_s_1, … in a cache per connection.

mod check;

use std::time::Duration;

use check::{
    CLIENTS, Checked, ODD_TEXT, ROUNDS, absent, check, env, long_bytes, long_text, version,
};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use futures_util::{TryStreamExt, future};
use rust_decimal::Decimal;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Error, Executor, PgConnection, Postgres, Row};
use uuid::Uuid;

fn options() -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host(&env("PGHOST"))
        .port(env("PGPORT").parse().unwrap())
        .username(&env("PGUSER"))
        .password(&env("PGPASSWORD"))
        .database(&env("PGDATABASE"))
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(env("PGSSLROOTCERT"))
}

async fn connect() -> Result<PgConnection, Error> {
    options().connect().await
}

async fn pool() -> Result<PgPool, Error> {
    let size = CLIENTS as u32;
    PgPoolOptions::new()
        .max_connections(size)
        .connect_with(options())
        .await
}

fn table() -> String {
    env("DRIVER_TABLE")
}

fn code<T>(result: &Result<T, Error>) -> Option<String> {
    let error = result.as_ref().err()?.as_database_error()?;
    Some(error.code()?.into_owned())
}

async fn value<T>(db: &mut PgConnection, kind: &str, value: T, text: Option<&str>) -> Checked
where
    T: sqlx::Type<Postgres>
        + for<'a> sqlx::Encode<'a, Postgres>
        + for<'a> sqlx::Decode<'a, Postgres>,
    T: Clone + Send + Sync + PartialEq + std::fmt::Debug + 'static,
{
    let sql = format!("SELECT $1::{kind}, ($1::{kind})::text");
    for persistent in [true, true, true, false, false] {
        let query = sqlx::query(&sql).bind(value.clone()).persistent(persistent);
        let row = query.fetch_one(&mut *db).await?;
        same!(row.try_get::<T, _>(0)?, value);
        same!(row.try_get::<Option<String>, _>(1)?.as_deref(), text);
    }
    Ok(())
}

async fn check_tls() -> Checked {
    let mut db = connect().await?;
    same!(
        sqlx::query_scalar::<_, i32>("SELECT 1")
            .fetch_one(&mut db)
            .await?,
        1
    );
    db.close().await?;
    let stranger = options()
        .ssl_root_cert(env("DRIVER_STRANGER"))
        .connect()
        .await;
    let why = stranger
        .err()
        .map(|error| format!("{error:?}"))
        .unwrap_or_default();
    same!(why.contains("UnknownIssuer"), true);
    Ok(())
}

async fn check_scram() -> Checked {
    let wrong = options().password("wrong").connect().await;
    same!(code(&wrong).as_deref(), Some("28P01"));
    Ok(())
}

async fn check_numbers() -> Checked {
    let db = &mut connect().await?;
    value(db, "int2", i16::MIN, Some("-32768")).await?;
    value(db, "int4", i32::MAX, Some("2147483647")).await?;
    value(db, "int8", i64::MIN, Some("-9223372036854775808")).await?;
    value(db, "float8", 0.1_f64, Some("0.1")).await?;
    let decimal: Decimal = "1234567890123456789.123456789".parse()?;
    value(
        db,
        "numeric",
        decimal,
        Some("1234567890123456789.123456789"),
    )
    .await?;
    value(db, "bool", true, Some("true")).await?;
    let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    value(db, "uuid", Uuid::parse_str(uuid)?, Some(uuid)).await
}

async fn check_text() -> Checked {
    let db = &mut connect().await?;
    value(db, "text", ODD_TEXT.to_owned(), Some(ODD_TEXT)).await?;
    value(db, "text", String::new(), Some("")).await
}

async fn check_bytea() -> Checked {
    let all: Vec<u8> = (0..=255).collect();
    let hex: String = all.iter().map(|byte| format!("{byte:02x}")).collect();
    value(
        &mut connect().await?,
        "bytea",
        all,
        Some(&format!("\\x{hex}")),
    )
    .await
}

async fn check_nulls() -> Checked {
    let db = &mut connect().await?;
    value(db, "int4", None::<i32>, None).await?;
    value(db, "text", None::<String>, None).await?;
    value(db, "bytea", None::<Vec<u8>>, None).await?;
    value(db, "timestamptz", None::<DateTime<Utc>>, None).await
}

async fn check_arrays() -> Checked {
    let db = &mut connect().await?;
    value(
        db,
        "int8[]",
        vec![Some(1_i64), None, Some(-3)],
        Some("{1,NULL,-3}"),
    )
    .await?;
    let texts = [
        Some("a"),
        Some("b c"),
        Some("q\"uo\\te"),
        Some(""),
        None,
        Some("NULL"),
        Some("ü,{}"),
    ];
    let texts: Vec<Option<String>> = texts
        .into_iter()
        .map(|text| text.map(str::to_owned))
        .collect();
    value(
        db,
        "text[]",
        texts,
        Some("{a,\"b c\",\"q\\\"uo\\\\te\",\"\",NULL,\"NULL\",\"ü,{}\"}"),
    )
    .await
}

async fn check_json() -> Checked {
    let document = serde_json::json!({"a": [1, 2.5, {"b": null}], "ü": "☃"});
    let text = r#"{"a": [1, 2.5, {"b": null}], "ü": "☃"}"#;
    value(&mut connect().await?, "jsonb", document, Some(text)).await
}

async fn check_times() -> Checked {
    let db = &mut connect().await?;
    let date = NaiveDate::from_ymd_opt(2024, 2, 29).unwrap();
    let time = NaiveTime::from_hms_micro_opt(23, 59, 59, 123_456).unwrap();
    let both = NaiveDateTime::new(date, time);
    value(db, "date", date, Some("2024-02-29")).await?;
    value(db, "time", time, Some("23:59:59.123456")).await?;
    value(db, "timestamp", both, Some("2024-02-29 23:59:59.123456")).await?;
    // sqlx sets the time zone to UTC when it connects.
    value(
        db,
        "timestamptz",
        both.and_utc(),
        Some("2024-02-29 23:59:59.123456+00"),
    )
    .await
}

async fn check_large() -> Checked {
    let db = &mut connect().await?;
    let (text, bytes) = (long_text(), long_bytes());
    for _ in 0..3 {
        let query = sqlx::query("SELECT $1::text, $2::bytea")
            .bind(&text)
            .bind(&bytes);
        let row = query.fetch_one(&mut *db).await?;
        same!(row.get::<&str, _>(0), text);
        same!(row.get::<&[u8], _>(1), bytes);
    }
    let mut rows =
        sqlx::query("SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n").fetch(&mut *db);
    let mut sum = 0;
    while let Some(row) = rows.try_next().await? {
        sum += row.get::<i32, _>(0);
    }
    same!(sum, 200_010_000);
    Ok(())
}

async fn check_prepared() -> Checked {
    let work = (0..CLIENTS as i32).map(|n| async move {
        // A cache for two: the oldest is closed.
        let mut db = options().statement_cache_capacity(2).connect().await?;
        for turn in 0..ROUNDS {
            for text in 0..4 {
                let sql = format!("SELECT 'client {n}', $1::int + {n} + {text}");
                let row = sqlx::query(&sql).bind(turn).fetch_one(&mut db).await?;
                same!(
                    (row.get::<&str, _>(0), row.get::<i32, _>(1)),
                    (&*format!("client {n}"), turn + n + text)
                );
            }
            let division = format!("SELECT {n} / $1::int");
            let by_zero = sqlx::query(&division).bind(0).fetch_one(&mut db).await;
            same!(code(&by_zero).as_deref(), Some("22012"));
            same!(
                sqlx::query_scalar::<_, i32>(&division)
                    .bind(1)
                    .fetch_one(&mut db)
                    .await?,
                n
            );
        }
        db.close().await?;
        Checked::Ok(())
    });
    future::try_join_all(work).await?;
    Ok(())
}

async fn check_clients() -> Checked {
    let pool = &pool().await?;
    let work = (0..CLIENTS).map(|n| async move {
        let (table, name) = (table(), format!("client {n}"));
        for turn in 0..ROUNDS {
            let key = 1000 + (n as i64) * i64::from(ROUNDS) + i64::from(turn);
            let mut db = pool.acquire().await?;
            let mut block = db.begin().await?;
            let insert = format!("INSERT INTO {table} (id, name) VALUES ($1, $2)");
            sqlx::query(&insert)
                .bind(key)
                .bind(&name)
                .execute(&mut *block)
                .await?;
            let read = format!("SELECT name FROM {table} WHERE id = $1");
            let found: String = sqlx::query_scalar(&read)
                .bind(key)
                .fetch_one(&mut *block)
                .await?;
            same!(found, name);
            block.commit().await?;
            let count = format!("SELECT count(*) FROM {table} WHERE name = $1");
            let count: i64 = sqlx::query_scalar(&count)
                .bind(&name)
                .fetch_one(&mut *db)
                .await?;
            same!(count, i64::from(turn) + 1);
        }
        Checked::Ok(())
    });
    future::try_join_all(work).await?;
    pool.close().await;
    Ok(())
}

async fn check_copy() -> Checked {
    let mut db = connect().await?;
    let table = table();
    let lines: String = (3000..4000).map(|n| format!("{n}\tcopied {n}\n")).collect();
    let mut copy = db
        .copy_in_raw(&format!("COPY {table} (id, name) FROM STDIN"))
        .await?;
    for part in lines.as_bytes().chunks(1000) {
        copy.send(part).await?;
    }
    same!(copy.finish().await?, 1000);
    let sql = format!(
        "COPY (SELECT id, name FROM {table} WHERE id BETWEEN 3000 AND 3999 ORDER BY id) TO STDOUT"
    );
    let parts: Vec<_> = db.copy_out_raw(&sql).await?.try_collect().await?;
    same!(String::from_utf8(parts.concat())?, lines);
    let mut copy = db
        .copy_in_raw(&format!("COPY {table} (id) FROM STDIN"))
        .await?;
    copy.send(&b"not a number\n"[..]).await?;
    same!(code(&copy.finish().await).as_deref(), Some("22P02"));
    let mut copy = db
        .copy_in_raw(&format!("COPY {table} (id) FROM STDIN"))
        .await?;
    copy.send(&b"5000\n"[..]).await?;
    copy.abort("the client gives up").await?;
    let count = format!("SELECT count(*) FROM {table} WHERE id = 5000");
    same!(
        sqlx::query_scalar::<_, i64>(&count)
            .fetch_one(&mut db)
            .await?,
        0
    );
    Ok(())
}

async fn check_errors() -> Checked {
    let mut db = connect().await?;
    let table = table();
    let insert = format!("INSERT INTO {table} (id, name) VALUES ($1, 'x')");
    let count = format!("SELECT count(*) FROM {table} WHERE id < 10");
    let mut block = db.begin().await?;
    sqlx::query(&insert)
        .bind(1_i64)
        .execute(&mut *block)
        .await?;
    let again = sqlx::query(&insert).bind(1_i64).execute(&mut *block).await;
    same!(code(&again).as_deref(), Some("23505"));
    let error = again.unwrap_err();
    same!(
        error
            .as_database_error()
            .and_then(|error| error.constraint()),
        Some(&*format!("{table}_pkey"))
    );
    let aborted = sqlx::query("SELECT 1").execute(&mut *block).await;
    same!(code(&aborted).as_deref(), Some("25P02"));
    block.rollback().await?;
    same!(
        sqlx::query_scalar::<_, i64>(&count)
            .fetch_one(&mut db)
            .await?,
        0
    );
    let mut block = db.begin().await?;
    sqlx::query(&insert)
        .bind(1_i64)
        .execute(&mut *block)
        .await?;
    let mut inner = block.begin().await?;
    sqlx::query(&insert)
        .bind(2_i64)
        .execute(&mut *inner)
        .await?;
    let by_zero = inner.execute("SELECT 1 / 0").await;
    same!(code(&by_zero).as_deref(), Some("22012"));
    inner.rollback().await?;
    block.commit().await?;
    same!(
        sqlx::query_scalar::<_, i64>(&count)
            .fetch_one(&mut db)
            .await?,
        1
    );
    // Dropped, a transaction is rolled back.
    let mut block = db.begin().await?;
    sqlx::query(&insert)
        .bind(4_i64)
        .execute(&mut *block)
        .await?;
    drop(block);
    same!(
        sqlx::query_scalar::<_, i64>(&count)
            .fetch_one(&mut db)
            .await?,
        1
    );
    Ok(())
}

async fn check_settings() -> Checked {
    let mut dbs = Vec::new();
    for n in 0..CLIENTS {
        let options = options().application_name(&format!("client {n}"));
        let mut db = options
            .options([("statement_timeout", format!("{}min", n + 1))])
            .connect()
            .await?;
        db.execute(format!("SET TIME ZONE 'Etc/GMT+{n}'").as_str())
            .await?;
        db.execute(format!("SET search_path = s{n}, public").as_str())
            .await?;
        dbs.push(db);
    }
    for _ in 0..ROUNDS {
        for (n, db) in dbs.iter_mut().enumerate() {
            let sql = "SELECT concat_ws(' / ', current_setting('application_name'), current_setting('timezone'), current_setting('search_path'), current_setting('statement_timeout'))";
            let found: String = sqlx::query_scalar(sql).fetch_one(db).await?;
            same!(
                found,
                format!("client {n} / Etc/GMT+{n} / s{n}, public / {}min", n + 1)
            );
        }
    }
    Ok(())
}

async fn check_listen() -> Checked {
    let pool = pool().await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen_all(["sqlx one", "sqlx two"]).await?;
    for n in 0..3 {
        let sql = "SELECT pg_notify('sqlx two', $1)";
        sqlx::query(sql)
            .bind(format!("message {n}"))
            .execute(&pool)
            .await?;
    }
    for n in 0..3 {
        let found = tokio::time::timeout(Duration::from_secs(10), listener.recv()).await??;
        same!(
            (found.channel(), found.payload()),
            ("sqlx two", &*format!("message {n}"))
        );
    }
    listener.unlisten_all().await?;
    Ok(())
}

async fn check_keyed() -> Checked {
    let mut db = connect().await?;
    let table = table();
    let insert = format!("INSERT INTO {table} (id, name) VALUES ($1, $2)");
    let read = format!("SELECT name, amount FROM {table} WHERE id = $1");
    let write = format!("UPDATE {table} SET amount = $1 WHERE id = $2");
    for n in 0..20_i64 {
        let (key, name) = (100 + n, format!("name {n}"));
        sqlx::query(&insert)
            .bind(key)
            .bind(&name)
            .execute(&mut db)
            .await?;
        let row = sqlx::query(&read).bind(key).fetch_one(&mut db).await?;
        same!(row.get::<&str, _>(0), &*name);
        let written = sqlx::query(&write)
            .bind(Decimal::from(n))
            .bind(key)
            .execute(&mut db)
            .await?;
        same!(written.rows_affected(), 1);
        let mut block = db.begin().await?;
        sqlx::query(&write)
            .bind(Decimal::from(n + 1))
            .bind(key)
            .execute(&mut *block)
            .await?;
        block.commit().await?;
        let row = sqlx::query(&read).bind(key).fetch_one(&mut db).await?;
        same!(row.get::<Decimal, _>(1), Decimal::from(n + 1));
    }
    let delete = format!("DELETE FROM {table} WHERE id = $1");
    same!(
        sqlx::query(&delete)
            .bind(100_i64)
            .execute(&mut db)
            .await?
            .rows_affected(),
        1
    );
    same!(
        sqlx::query(&read)
            .bind(100_i64)
            .fetch_all(&mut db)
            .await?
            .len(),
        0
    );
    Ok(())
}

#[tokio::main]
async fn main() {
    version(concat!("sqlx ", env!("SQLX_VERSION")));
    check("tls", check_tls()).await;
    check("scram", check_scram()).await;
    check("numbers", check_numbers()).await;
    check("text", check_text()).await;
    check("bytea", check_bytea()).await;
    check("nulls", check_nulls()).await;
    check("arrays", check_arrays()).await;
    check("json", check_json()).await;
    check("times", check_times()).await;
    check("large", check_large()).await;
    check("prepared", check_prepared()).await;
    check("clients", check_clients()).await;
    check("copy", check_copy()).await;
    check("errors", check_errors()).await;
    check("settings", check_settings()).await;
    check("listen", check_listen()).await;
    check("keyed", check_keyed()).await;
    absent(
        "pipeline",
        "sqlx sends a statement when the one before it was answered",
    );
    absent("cursor", "sqlx fetches rows as they come, without a limit");
    absent("cancel", "sqlx has no CancelRequest");
}
