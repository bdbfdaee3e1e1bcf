//! INSERT from a query whose rows belong to other shards, and other writes that read rows of others: what the
//! same SQL on one server does not show. That is in `differential/inserts.sql` and `differential/writes.sql`.

use std::time::Duration;

use ringway::demo::captive::{CaptiveCluster, Spec};

use crate::support::wire::{Wire, cancel_request};
use crate::support::{self, Ringway};

const TABLES: &str = "CREATE TABLE t (id bigint PRIMARY KEY, n integer, w text);
    CREATE TABLE made (id bigint PRIMARY KEY, m mood, ms mood[], days date[], day date);
    CREATE TABLE r (id bigint PRIMARY KEY, w text);";

const LIMIT: Duration = Duration::from_secs(20);

struct World {
    shards: CaptiveCluster,
    ringway: Ringway,
}

impl World {
    /// On the second shard the type of users has another OID.
    fn start() -> Self {
        let shards = support::cluster(&Spec {
            shards: 2,
            ..Spec::default()
        });
        for (at, shard) in shards.shards.iter().enumerate() {
            let before = "CREATE TYPE other AS ENUM ('x');".repeat(at);
            let sql = format!("{before} CREATE TYPE mood AS ENUM ('sad', 'happy'); {TABLES}");
            shard.primary.exec(&sql).unwrap();
        }
        for (shard, name) in [(0, "solo"), (1, "lone")] {
            let sql = format!("CREATE TABLE {name} (id bigint PRIMARY KEY, n integer, w text)");
            shards.shards[shard].primary.exec(&sql).unwrap();
        }
        let ringway = Ringway::start(|port| {
            let mut toml = format!(
                "[general]\nlisten = \"127.0.0.1:{port}\"\nmerge_memory_mib = 1\n[users.ringway]\nauth = \"trust\"\n\
                 [databases.shop]\nserver_user = \"ringway\"\n[databases.shop.tables]\n\
                 t = {{ key = \"id\" }}\nmade = {{ key = \"id\" }}\nr = \"reference\"\n\
                 solo = {{ shard = \"s0\" }}\nlone = {{ shard = \"s1\" }}\n"
            );
            for (at, shard) in shards.shards.iter().enumerate() {
                let port = shard.primary.port;
                toml.push_str(&format!(
                    "[[databases.shop.shards]]\nname = \"s{at}\"\nservers = [\"127.0.0.1:{port}\"]\n"
                ));
            }
            toml
        });
        Self { shards, ringway }
    }

    fn client(&self) -> Wire {
        Wire::login(self.ringway.port(), "ringway", "shop").0
    }

    fn each(&self, sql: &str) -> Vec<String> {
        let shards = self.shards.shards.iter();
        shards
            .map(|shard| shard.primary.exec(sql).unwrap())
            .collect()
    }
}

#[test]
fn more_rows_than_may_be_held_are_not_inserted() {
    let world = World::start();
    let mut wire = world.client();
    for shard in &world.shards.shards {
        let sql = "INSERT INTO r SELECT g, repeat('x', 10000) FROM generate_series(1, 200) g";
        shard.primary.exec(sql).unwrap();
    }
    let insert = "INSERT INTO t SELECT id, id, w FROM r";
    wire.ask("INSERT INTO t VALUES (1001, 1), (1002, 1), (1003, 1), (1004, 1)");
    for sql in [
        insert,
        "INSERT INTO t SELECT id + 1, id, w FROM r ORDER BY w, id",
    ] {
        let told = wire.ask(sql);
        assert!(told.contains("53200"), "{told}");
    }
    assert!(wire.ask("SELECT count(*) FROM t").contains('4'));
    wire.ask("BEGIN");
    wire.ask("INSERT INTO t VALUES (2001, 1), (2002, 1), (2003, 1)");
    let told = wire.ask(insert);
    assert!(told.contains("53200"), "{told}");
    let told = wire.ask("SELECT 1");
    assert!(told.contains("25P02"), "{told}");
    wire.ask("ROLLBACK");
    assert!(wire.ask("SELECT count(*) FROM t").contains('4'));
    let told = wire.ask("INSERT INTO t SELECT id, id, w FROM r WHERE id < 20");
    assert!(told.contains("INSERT 0 19"), "{told}");
    let counts = world.each("SELECT count(*) FROM t");
    let counts: Vec<u32> = counts.iter().map(|count| count.parse().unwrap()).collect();
    assert_eq!(counts.iter().sum::<u32>(), 23);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

/// Only its shard knows the table.
#[tokio::test]
async fn a_table_of_one_shard_is_written_by_rows_of_all() {
    let world = World::start();
    let url = format!(
        "postgresql://ringway@127.0.0.1:{}/shop",
        world.ringway.port()
    );
    let client = support::client(&url).await;
    let fill = "INSERT INTO t SELECT g, g, 'w' || g FROM generate_series(1, 40) AS g;
                INSERT INTO lone SELECT g, g FROM generate_series(1, 5) AS g";
    client.batch_execute(fill).await.unwrap();
    let update =
        "UPDATE lone SET n = $1 + (SELECT count(*) FROM t WHERE n > $2)::int, w = t.w FROM t
                  WHERE t.id = lone.id * 8 AND t.n < 40 RETURNING lone.id, lone.n, t.w";
    let update = client.prepare(update).await.unwrap();
    for added in [1, 2] {
        let mut rows = client.query(&update, &[&added, &10]).await.unwrap();
        rows.sort_by_key(|row| row.get::<_, i64>(0));
        let rows = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2)));
        let rows: Vec<(i64, i32, &str)> = rows.collect();
        let n = added + 30;
        assert_eq!(
            rows,
            [(1, n, "w8"), (2, n, "w16"), (3, n, "w24"), (4, n, "w32")]
        );
    }
    let deleted = client
        .execute("DELETE FROM lone USING t WHERE lone.w = t.w", &[])
        .await;
    assert_eq!(deleted.unwrap(), 4);
    // No shard has both of them.
    for sql in [
        "SELECT count(*) FROM lone, solo",
        "UPDATE lone SET n = 1 FROM solo, t WHERE solo.id = t.id",
    ] {
        let error = client.simple_query(sql).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "0A000", "{error:?}");
    }
    let left = world.shards.shards[1].primary.exec("SELECT id FROM lone");
    assert_eq!(left.unwrap(), "5");
}

#[test]
fn rows_that_are_too_many_to_be_read_are_not_written_by() {
    let world = World::start();
    let mut wire = world.client();
    for first in [1, 41, 81, 121, 161] {
        let rows = format!("generate_series({first}, {first} + 39)");
        let insert = format!("INSERT INTO t SELECT g, g, repeat('x', 10000) FROM {rows} AS g");
        assert_eq!(wire.ask(&insert), "INSERT 0 40 I");
    }
    let update = "UPDATE t SET n = -1 FROM t AS other WHERE other.w = t.w AND other.n > t.n";
    for block in [false, true] {
        if block {
            wire.ask("BEGIN");
        }
        let told = wire.ask(update);
        assert!(told.contains("53200"), "{told}");
    }
    assert!(wire.ask("SELECT 1").contains("25P02"));
    assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
    assert_eq!(
        wire.ask("SELECT count(*) FROM t WHERE n < 0"),
        "0 SELECT 1 I"
    );
    // What it does not read does not travel.
    let few = "UPDATE t SET n = -1 FROM t AS other WHERE other.id = t.n + 1 AND other.n < 100";
    assert_eq!(wire.ask(few), "UPDATE 98 I");
    let counts = world.each("SELECT count(*) > 0 FROM t WHERE n < 0");
    assert_eq!(counts, ["t", "t"]);
}

/// The rows are read and some are written when one of another shard turns out to be locked.
#[test]
fn a_write_by_rows_of_others_that_ends_amid_it_writes_nothing() {
    let world = World::start();
    let (mut wire, greeting) = Wire::login(world.ringway.port(), "ringway", "shop");
    let insert = "INSERT INTO t SELECT g, g FROM generate_series(1, 20) AS g";
    assert_eq!(wire.ask(insert), "INSERT 0 20 I");
    let last = &world.shards.shards[1].primary;
    let mut holder = Wire::login(last.port, "ringway", "shop").0;
    let update = "UPDATE t SET n = -other.n FROM t AS other WHERE other.id = 21 - t.id";
    let waiting = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE t%' \
                   AND pid <> pg_backend_pid()";
    for ends_by_cancel in [true, false] {
        assert_eq!(holder.ask("BEGIN"), "BEGIN T");
        assert!(
            holder
                .ask("SELECT count(*) FROM (SELECT FROM t FOR UPDATE) AS locked")
                .ends_with("SELECT 1 T")
        );
        wire.query(update);
        last.wait_for(&format!("SELECT count(*) {waiting}"), "1", LIMIT)
            .unwrap();
        match ends_by_cancel {
            true => Wire::connect(world.ringway.port()).send_untagged(&cancel_request(&greeting)),
            false => {
                let kill = format!("SELECT count(pg_terminate_backend(pid)) {waiting}");
                assert_eq!(last.exec(&kill).unwrap(), "1");
            }
        }
        let frames = wire.read_to_ready();
        let wanted: &[_] = match ends_by_cancel {
            true => &["57014"],
            false => &["57P01", "08006"],
        };
        let error = frames.iter().find(|frame| frame.tag == b'E').unwrap();
        assert!(wanted.contains(&&*error.code()), "{:?}", error.fields());
        assert_eq!(holder.ask("ROLLBACK"), "ROLLBACK I");
        assert_eq!(
            wire.ask("SELECT count(*) FROM t WHERE n < 0"),
            "0 SELECT 1 I"
        );
    }
    assert_eq!(wire.ask(update), "UPDATE 20 I");
}

/// As many parameters as such a number says would take more memory than there is.
#[test]
fn a_parameter_that_nobody_can_give_costs_an_error() {
    let world = World::start();
    let mut wire = world.client();
    for number in ["65536", "99999999999", "99999999999999999999"] {
        let sql = format!("INSERT INTO t VALUES (1, ${number}), (2, 3), (3, 4), (4, 5)");
        for told in [wire.ask(&sql), wire.ask_extended(&[&sql])] {
            // There is none, its type is not known, or it is not among those that were given.
            let codes = ["42P02 I", "42P18 I", "08P01 I"];
            assert!(codes.contains(&&*told), "{sql}: {told}");
        }
    }
    assert_eq!(wire.ask("SELECT count(*) FROM t"), "0 SELECT 1 I");
}

#[test]
fn types_that_differ_by_server_travel_as_text() {
    let world = World::start();
    let mut wire = world.client();
    let oids = world.each("SELECT 'mood'::regtype::oid");
    assert_ne!(oids[0], oids[1]);
    wire.ask("INSERT INTO t SELECT g, g FROM generate_series(1, 20) AS g");
    let made = "INSERT INTO made SELECT id, CASE WHEN n > 5 THEN 'sad'::mood ELSE 'happy' END, \
                ARRAY['sad', NULL, 'happy']::mood[], ARRAY[date '2024-02-03'], '2024-02-03' FROM t";
    assert!(wire.ask(made).contains("INSERT 0 20"));
    let again = "INSERT INTO made SELECT id + 100, m, ms, days, day FROM made RETURNING m";
    assert!(wire.ask(again).contains("INSERT 0 20"));
    let alike = world.each(
        "SELECT bool_and((m = 'sad') = (id % 100 > 5) AND ms::text = '{sad,NULL,happy}' \
         AND days = ARRAY[date '2024-02-03'] AND day = '2024-02-03') AND count(*) > 5 FROM made",
    );
    assert_eq!(alike, ["t", "t"]);
    // What such settings write need not be what is read again.
    for setting in ["DateStyle = 'SQL, DMY'", "extra_float_digits = 0"] {
        wire.ask(&format!("SET {setting}"));
        let told = wire.ask("INSERT INTO made (id, days) SELECT id + 200, days FROM made");
        assert!(told.contains("0A000"), "{told}");
        let told = wire.ask("INSERT INTO t (id) SELECT id + 300 FROM t WHERE id < 3");
        assert!(!told.contains("0A000"), "{told}");
        wire.ask("DELETE FROM t WHERE id > 300");
    }
    assert!(wire.ask("SELECT count(*) FROM made").contains("40"));
}
