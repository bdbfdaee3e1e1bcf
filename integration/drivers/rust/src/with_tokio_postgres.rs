//! tokio-postgres with rustls: binary values, statements named s0, s1, …, pipelining by itself.

mod check;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use check::{CLIENTS, Checked, ODD_TEXT, ROUNDS, check, env, long_bytes, long_text, version};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use futures_util::{SinkExt, StreamExt, TryStreamExt, future, stream};
use rust_decimal::Decimal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{AsyncMessage, Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

fn config() -> Config {
    let mut config = Config::new();
    config
        .host(env("PGHOST"))
        .port(env("PGPORT").parse().unwrap())
        .user(env("PGUSER"))
        .password(env("PGPASSWORD"))
        .dbname(env("PGDATABASE"))
        .ssl_mode(tokio_postgres::config::SslMode::Require);
    config
}

fn tls(authority: &str) -> MakeRustlsConnect {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(env(authority)).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    MakeRustlsConnect::new(config)
}

async fn connect_with(config: &Config) -> Result<Client, Error> {
    let (client, connection) = config.connect(tls("PGSSLROOTCERT")).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn connect() -> Result<Client, Error> {
    connect_with(&config()).await
}

async fn several() -> Result<Vec<Client>, Error> {
    future::try_join_all((0..CLIENTS).map(|_| connect())).await
}

fn table() -> String {
    env("DRIVER_TABLE")
}

fn code<T>(result: &Result<T, Error>) -> Option<&SqlState> {
    result.as_ref().err().and_then(Error::code)
}

async fn one<T: FromSqlOwned>(
    db: &Client,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<T, Error> {
    db.query_one(sql, values).await?.try_get(0)
}

/// Twice by itself and twice with one prepared statement.
async fn value<T>(db: &Client, kind: &str, value: T, text: Option<&str>) -> Checked
where
    T: ToSql + Sync + FromSqlOwned + PartialEq + std::fmt::Debug,
{
    let sql = format!("SELECT $1::{kind}, ($1::{kind})::text");
    let statement = db.prepare(&sql).await?;
    let rows = [
        db.query_one(&sql, &[&value]).await?,
        db.query_one(&sql, &[&value]).await?,
        db.query_one(&statement, &[&value]).await?,
        db.query_one(&statement, &[&value]).await?,
    ];
    for row in rows {
        same!(row.try_get::<_, T>(0)?, value);
        same!(row.try_get::<_, Option<&str>>(1)?, text);
    }
    Ok(())
}

async fn check_tls() -> Checked {
    same!(one::<i32>(&connect().await?, "SELECT 1", &[]).await?, 1);
    let stranger = config().connect(tls("DRIVER_STRANGER")).await.err();
    let why = stranger
        .map(|error| format!("{error:?}"))
        .unwrap_or_default();
    same!(why.contains("UnknownIssuer"), true);
    Ok(())
}

async fn check_scram() -> Checked {
    for binding in [
        tokio_postgres::config::ChannelBinding::Disable,
        tokio_postgres::config::ChannelBinding::Prefer,
    ] {
        connect_with(config().channel_binding(binding)).await?;
        let wrong = connect_with(config().channel_binding(binding).password("wrong")).await;
        same!(code(&wrong), Some(&SqlState::INVALID_PASSWORD));
    }
    Ok(())
}

async fn check_numbers() -> Checked {
    let db = connect().await?;
    value(&db, "int2", i16::MIN, Some("-32768")).await?;
    value(&db, "int4", i32::MAX, Some("2147483647")).await?;
    value(&db, "int8", i64::MIN, Some("-9223372036854775808")).await?;
    value(&db, "float8", 0.1_f64, Some("0.1")).await?;
    let decimal: Decimal = "1234567890123456789.123456789".parse()?;
    value(
        &db,
        "numeric",
        decimal,
        Some("1234567890123456789.123456789"),
    )
    .await?;
    value(&db, "bool", true, Some("true")).await?;
    let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    value(&db, "uuid", Uuid::parse_str(uuid)?, Some(uuid)).await
}

async fn check_text() -> Checked {
    let db = connect().await?;
    value(&db, "text", ODD_TEXT.to_owned(), Some(ODD_TEXT)).await?;
    value(&db, "text", String::new(), Some("")).await
}

async fn check_bytea() -> Checked {
    let db = connect().await?;
    let all: Vec<u8> = (0..=255).collect();
    let hex: String = all.iter().map(|byte| format!("{byte:02x}")).collect();
    value(&db, "bytea", all, Some(&format!("\\x{hex}"))).await
}

async fn check_nulls() -> Checked {
    let db = connect().await?;
    value(&db, "int4", None::<i32>, None).await?;
    value(&db, "text", None::<String>, None).await?;
    value(&db, "bytea", None::<Vec<u8>>, None).await?;
    value(&db, "timestamptz", None::<DateTime<Utc>>, None).await
}

async fn check_arrays() -> Checked {
    let db = connect().await?;
    value(
        &db,
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
        &db,
        "text[]",
        texts,
        Some("{a,\"b c\",\"q\\\"uo\\\\te\",\"\",NULL,\"NULL\",\"ü,{}\"}"),
    )
    .await?;
    value(&db, "text[]", Vec::<String>::new(), Some("{}")).await
}

async fn check_json() -> Checked {
    let db = connect().await?;
    let document = serde_json::json!({"a": [1, 2.5, {"b": null}], "ü": "☃"});
    let text = r#"{"a": [1, 2.5, {"b": null}], "ü": "☃"}"#;
    value(&db, "jsonb", document.clone(), Some(text)).await?;
    same!(
        one::<serde_json::Value>(&db, "SELECT $1::json", &[&document]).await?,
        document
    );
    Ok(())
}

async fn check_times() -> Checked {
    let db = connect().await?;
    let date = NaiveDate::from_ymd_opt(2024, 2, 29).unwrap();
    let time = NaiveTime::from_hms_micro_opt(23, 59, 59, 123_456).unwrap();
    let both = NaiveDateTime::new(date, time);
    value(&db, "date", date, Some("2024-02-29")).await?;
    value(&db, "time", time, Some("23:59:59.123456")).await?;
    value(&db, "timestamp", both, Some("2024-02-29 23:59:59.123456")).await?;
    value(
        &db,
        "timestamptz",
        both.and_utc(),
        Some("2024-02-29 23:59:59.123456+00"),
    )
    .await
}

async fn check_large() -> Checked {
    let db = connect().await?;
    let (text, bytes) = (long_text(), long_bytes());
    for _ in 0..3 {
        let row = db
            .query_one("SELECT $1::text, $2::bytea", &[&text, &bytes])
            .await?;
        same!(row.get::<_, &str>(0), text);
        same!(row.get::<_, &[u8]>(1), bytes);
    }
    let rows = db
        .query(
            "SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n",
            &[],
        )
        .await?;
    same!(
        rows.iter().map(|row| row.get::<_, i32>(0)).sum::<i32>(),
        200_010_000
    );
    Ok(())
}

async fn check_prepared() -> Checked {
    let dbs = several().await?;
    let mut own = Vec::new();
    for (n, db) in dbs.iter().enumerate() {
        own.push(
            db.prepare(&format!("SELECT 'client {n}', $1::int + {n}"))
                .await?,
        );
    }
    for turn in 0..ROUNDS {
        for (n, db) in dbs.iter().enumerate() {
            let row = db.query_one(&own[n], &[&turn]).await?;
            same!(
                (row.get::<_, &str>(0), row.get::<_, i32>(1)),
                (&*format!("client {n}"), turn + n as i32)
            );
            let division = db.prepare(&format!("SELECT {n} / $1::int")).await?;
            let by_zero = db.query_one(&division, &[&0]).await;
            same!(code(&by_zero), Some(&SqlState::DIVISION_BY_ZERO));
            same!(
                db.query_one(&division, &[&1]).await?.get::<_, i32>(0),
                n as i32
            );
        }
    }
    // All at once; the statements are closed as they are dropped.
    let work = dbs
        .iter()
        .zip(&own)
        .enumerate()
        .map(|(n, (db, own))| async move {
            for turn in 0..ROUNDS {
                let row = db.query_one(own, &[&turn]).await?;
                same!(row.get::<_, i32>(1), turn + n as i32);
                let other = db.prepare(&format!("SELECT {n} + {turn}")).await?;
                same!(
                    db.query_one(&other, &[]).await?.get::<_, i32>(0),
                    n as i32 + turn
                );
            }
            Checked::Ok(())
        });
    future::try_join_all(work).await?;
    Ok(())
}

async fn check_clients() -> Checked {
    let work = (0..CLIENTS).map(|n| async move {
        let mut db = connect().await?;
        let (table, name) = (table(), format!("client {n}"));
        for turn in 0..ROUNDS {
            let key = 1000 + (n as i64) * i64::from(ROUNDS) + i64::from(turn);
            let block = db.transaction().await?;
            block
                .execute(
                    &format!("INSERT INTO {table} (id, name) VALUES ($1, $2)"),
                    &[&key, &name],
                )
                .await?;
            let row = block
                .query_one(&format!("SELECT name FROM {table} WHERE id = $1"), &[&key])
                .await?;
            same!(row.get::<_, &str>(0), &*name);
            block.commit().await?;
            let count: i64 = one(
                &db,
                &format!("SELECT count(*) FROM {table} WHERE name = $1"),
                &[&name],
            )
            .await?;
            same!(count, i64::from(turn) + 1);
        }
        Checked::Ok(())
    });
    future::try_join_all(work).await?;
    Ok(())
}

async fn check_pipeline() -> Checked {
    let db = connect().await?;
    let statement = db.prepare("SELECT $1::int").await?;
    let numbers: Vec<i32> = (0..100).collect();
    let all = numbers
        .iter()
        .map(|n| async { db.query_one(&statement, &[n]).await?.try_get::<_, i32>(0) });
    same!(future::try_join_all(all).await?, numbers);
    let division = db.prepare("SELECT 4 / $1::int").await?;
    let (a, b, c) = tokio::join!(
        db.query_one(&division, &[&0]),
        db.query_one(&division, &[&2]),
        db.batch_execute("SELECT 1 / 0; SELECT 2"),
    );
    same!(
        (code(&a), code(&c)),
        (
            Some(&SqlState::DIVISION_BY_ZERO),
            Some(&SqlState::DIVISION_BY_ZERO)
        )
    );
    same!(b?.get::<_, i32>(0), 2);
    Ok(())
}

async fn check_cursor() -> Checked {
    let mut db = connect().await?;
    let block = db.transaction().await?;
    let portal = block
        .bind("SELECT n FROM generate_series($1::int, 1000) n", &[&1])
        .await?;
    let other = block
        .bind("SELECT -n FROM generate_series(1, 1000) n", &[])
        .await?;
    let mut found = Vec::new();
    loop {
        let rows = block.query_portal(&portal, 100).await?;
        if rows.is_empty() {
            break;
        }
        found.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
        let rows = block.query_portal(&other, 1).await?;
        same!(rows[0].get::<_, i32>(0), -(found.len() as i32 / 100));
    }
    same!(found, (1..=1000).collect::<Vec<i32>>());
    block.commit().await?;
    let rows = db
        .query_raw(
            "SELECT n FROM generate_series(1, 1000) n",
            Vec::<i32>::new(),
        )
        .await?;
    let found: Vec<i32> = rows
        .map_ok(|row| row.get::<_, i32>(0))
        .try_collect()
        .await?;
    same!(found.len(), 1000);
    Ok(())
}

async fn check_copy() -> Checked {
    let db = connect().await?;
    let table = table();
    let lines: String = (3000..4000).map(|n| format!("{n}\tcopied {n}\n")).collect();
    let mut sink = Box::pin(
        db.copy_in(&format!("COPY {table} (id, name) FROM STDIN"))
            .await?,
    );
    for part in lines.as_bytes().chunks(1000) {
        sink.send(Bytes::copy_from_slice(part)).await?;
    }
    same!(sink.as_mut().finish().await?, 1000);
    let sql = format!(
        "COPY (SELECT id, name FROM {table} WHERE id BETWEEN 3000 AND 3999 ORDER BY id) TO STDOUT"
    );
    let parts: Vec<Bytes> = db.copy_out(&sql).await?.try_collect().await?;
    same!(String::from_utf8(parts.concat())?, lines);
    let mut sink = Box::pin(db.copy_in(&format!("COPY {table} (id) FROM STDIN")).await?);
    sink.send(Bytes::from_static(b"not a number\n")).await?;
    same!(
        code(&sink.as_mut().finish().await),
        Some(&SqlState::INVALID_TEXT_REPRESENTATION)
    );
    // Dropped, it is ended with CopyFail.
    let mut left = Box::pin(
        db.copy_in::<_, Bytes>(&format!("COPY {table} (id) FROM STDIN"))
            .await?,
    );
    left.send(Bytes::from_static(b"5000\n")).await?;
    drop(left);
    same!(
        one::<i64>(
            &db,
            &format!("SELECT count(*) FROM {table} WHERE id = 5000"),
            &[]
        )
        .await?,
        0
    );
    Ok(())
}

async fn check_cancel() -> Checked {
    let db = connect().await?;
    let token = db.cancel_token();
    let sleep = db.batch_execute("SELECT pg_sleep(20)");
    tokio::pin!(sleep);
    // What is to be stopped may not have begun.
    let ended = loop {
        tokio::select! {
            ended = &mut sleep => break ended,
            () = tokio::time::sleep(Duration::from_millis(200)) => token.cancel_query(tls("PGSSLROOTCERT")).await?,
        }
    };
    same!(code(&ended), Some(&SqlState::QUERY_CANCELED));
    for _ in 0..20 {
        same!(one::<i32>(&db, "SELECT 1", &[]).await?, 1);
    }
    Ok(())
}

async fn check_errors() -> Checked {
    let mut db = connect().await?;
    let table = table();
    let insert = format!("INSERT INTO {table} (id, name) VALUES ($1, 'x')");
    let block = db.transaction().await?;
    block.execute(&insert, &[&1_i64]).await?;
    let again = block.execute(&insert, &[&1_i64]).await;
    same!(code(&again), Some(&SqlState::UNIQUE_VIOLATION));
    let error = again.unwrap_err();
    let fields = error.as_db_error().unwrap();
    same!(fields.constraint(), Some(&*format!("{table}_pkey")));
    same!(fields.detail(), Some("Key (id)=(1) already exists."));
    same!(
        code(&block.execute("SELECT 1", &[]).await),
        Some(&SqlState::IN_FAILED_SQL_TRANSACTION)
    );
    block.rollback().await?;
    let count = format!("SELECT count(*) FROM {table} WHERE id < 10");
    same!(one::<i64>(&db, &count, &[]).await?, 0);
    let mut block = db.transaction().await?;
    block.execute(&insert, &[&1_i64]).await?;
    let inner = block.savepoint("nested").await?;
    inner.execute(&insert, &[&2_i64]).await?;
    same!(
        code(&inner.execute("SELECT 1 / 0", &[]).await),
        Some(&SqlState::DIVISION_BY_ZERO)
    );
    inner.rollback().await?;
    block.execute(&insert, &[&3_i64]).await?;
    block.commit().await?;
    same!(one::<i64>(&db, &count, &[]).await?, 2);
    // Dropped, a transaction is rolled back.
    let block = db.transaction().await?;
    block.execute(&insert, &[&4_i64]).await?;
    drop(block);
    same!(one::<i64>(&db, &count, &[]).await?, 2);
    Ok(())
}

async fn check_settings() -> Checked {
    let mut dbs = Vec::new();
    for n in 0..CLIENTS {
        let mut config = config();
        config
            .application_name(format!("client {n}"))
            .options(format!("-c statement_timeout={}min", n + 1));
        let db = connect_with(&config).await?;
        db.batch_execute(&format!(
            "SET TIME ZONE 'Etc/GMT+{n}'; SET search_path = s{n}, public"
        ))
        .await?;
        dbs.push(db);
    }
    for _ in 0..ROUNDS {
        for (n, db) in dbs.iter().enumerate() {
            let found: String = one(db, "SELECT concat_ws(' / ', current_setting('application_name'), current_setting('timezone'), current_setting('search_path'), current_setting('statement_timeout'))", &[]).await?;
            same!(
                found,
                format!("client {n} / Etc/GMT+{n} / s{n}, public / {}min", n + 1)
            );
        }
    }
    Ok(())
}

async fn check_listen() -> Checked {
    let (listener, mut connection) = config().connect(tls("PGSSLROOTCERT")).await?;
    let mut messages = stream::poll_fn(move |context| connection.poll_message(context)).boxed();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(message) = message {
                let _ = sender.send((message.channel().to_owned(), message.payload().to_owned()));
            }
        }
    });
    listener.batch_execute("LISTEN tokio_postgres").await?;
    let db = connect().await?;
    for n in 0..3 {
        db.execute(
            "SELECT pg_notify('tokio_postgres', $1)",
            &[&format!("message {n}")],
        )
        .await?;
    }
    for n in 0..3 {
        let found = tokio::time::timeout(Duration::from_secs(10), receiver.recv()).await?;
        same!(
            found,
            Some(("tokio_postgres".to_owned(), format!("message {n}")))
        );
    }
    Ok(())
}

async fn check_keyed() -> Checked {
    let mut db = connect().await?;
    let table = table();
    let read = db
        .prepare(&format!("SELECT name, amount FROM {table} WHERE id = $1"))
        .await?;
    let write = db
        .prepare(&format!("UPDATE {table} SET amount = $1 WHERE id = $2"))
        .await?;
    for n in 0..20_i64 {
        let (key, name) = (100 + n, format!("name {n}"));
        db.execute(
            &format!("INSERT INTO {table} (id, name) VALUES ($1, $2)"),
            &[&key, &name],
        )
        .await?;
        same!(
            db.query_one(&read, &[&key]).await?.get::<_, &str>(0),
            &*name
        );
        same!(db.execute(&write, &[&Decimal::from(n), &key]).await?, 1);
        let block = db.transaction().await?;
        block
            .execute(&write, &[&Decimal::from(n + 1), &key])
            .await?;
        same!(
            block.query_one(&read, &[&key]).await?.get::<_, Decimal>(1),
            Decimal::from(n + 1)
        );
        block.commit().await?;
        same!(
            db.query_one(&read, &[&key]).await?.get::<_, Decimal>(1),
            Decimal::from(n + 1)
        );
    }
    same!(
        db.execute(&format!("DELETE FROM {table} WHERE id = $1"), &[&100_i64])
            .await?,
        1
    );
    same!(db.query(&read, &[&100_i64]).await?.len(), 0);
    Ok(())
}

#[tokio::main]
async fn main() {
    version(concat!("tokio-postgres ", env!("TOKIO_POSTGRES_VERSION")));
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
    check("pipeline", check_pipeline()).await;
    check("cursor", check_cursor()).await;
    check("copy", check_copy()).await;
    check("cancel", check_cancel()).await;
    check("errors", check_errors()).await;
    check("settings", check_settings()).await;
    check("listen", check_listen()).await;
    check("keyed", check_keyed()).await;
}
