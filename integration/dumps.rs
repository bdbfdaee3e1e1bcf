//! pg_dump, pg_restore, psql, pgbench and the other client programs of PostgreSQL, through Ringway. What is
//! dumped and restored is compared with one plain server.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use ringway::demo::captive::{CaptiveCluster, Server, Spec};
use tempfile::TempDir;

use crate::support::wire::Wire;
use crate::support::{self, Ringway};

const SCHEMA: &str = include_str!("dumps.sql");
const TABLES: [&str; 5] = [
    "customers",
    "sales.orders",
    "items",
    "countries",
    "settings",
];
const SEQUENCES: [&str; 5] = [
    "loose",
    "falling",
    "items_line_seq",
    "settings_id_seq",
    "sales.orders_id_seq",
];
/// What pg_dump asks from version 18 on.
const ALL_SEQUENCES: &str = "SELECT seqrelid, format_type(seqtypid, NULL), seqstart, seqincrement, seqmax, \
    seqmin, seqcache, seqcycle, last_value, is_called FROM pg_catalog.pg_sequence, \
    pg_get_sequence_data(seqrelid) ORDER BY seqrelid;";
/// The databases on the shards; the first is what is dumped.
const SHARDED: [&str; 7] = [
    "shop", "copy_a", "copy_b", "copy_c", "copy_d", "copy_e", "bench",
];

struct Stage {
    /// One server with the original, perhaps a replica.
    plain: CaptiveCluster,
    shards: CaptiveCluster,
    ringway: Ringway,
    directory: TempDir,
}

/// What a program said, and whether it ended well.
struct Said {
    well: bool,
    out: String,
    err: String,
}

impl Stage {
    /// Every server has that many replicas.
    fn start(replicas: usize) -> Self {
        let spec = |shards| Spec {
            shards,
            replicas,
            ..Spec::default()
        };
        let (plain, shards) = (support::cluster(&spec(1)), support::cluster(&spec(2)));
        plain.shards[0].primary.exec(SCHEMA).unwrap();
        for shard in &shards.shards {
            let primary = &shard.primary;
            primary
                .exec("ALTER ROLE ringway SET search_path = public")
                .unwrap();
            for copy in &SHARDED[1..] {
                let sql = format!("CREATE DATABASE {copy} TEMPLATE shop");
                primary.exec_in("postgres", &sql).unwrap();
            }
        }
        plain.wait_caught_up().unwrap();
        shards.wait_caught_up().unwrap();
        let servers = |shard: &ringway::demo::captive::ShardServers| {
            let ports = std::iter::once(&shard.primary).chain(&shard.replicas);
            let ports = ports.map(|server| format!("\"127.0.0.1:{}\"", server.port));
            ports.collect::<Vec<_>>().join(", ")
        };
        // A replica is not late because a busy machine asks it late.
        let reads = "reads = { split = true, poll_interval_ms = 1000, max_lag_ms = 60000";
        let later = format!("{reads}, transactions = \"replica_until_write\" }}");
        let reads = format!("{reads} }}");
        let ringway = Ringway::start(|port| {
            let mut toml = format!(
                "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.ringway]\nauth = \"trust\"\n"
            );
            for (name, reads) in [("flat", &reads), ("flat_later", &later)] {
                toml += &format!(
                    "[databases.{name}]\ndbname = \"shop\"\nserver_user = \"ringway\"\n{reads}\nservers = [{}]\n",
                    servers(&plain.shards[0])
                );
            }
            let copies = SHARDED.map(|name| (name, name, &reads));
            for (name, on_servers, reads) in
                copies.into_iter().chain([("shop_later", "shop", &later)])
            {
                toml += &format!(
                    "[databases.{name}]\ndbname = \"{on_servers}\"\nserver_user = \"ringway\"\n{reads}\n\
                     [databases.{name}.tables]\n\
                     customers = {{ key = \"id\" }}\n\"sales.orders\" = {{ key = \"customer_id\" }}\n\
                     countries = \"reference\"\nsettings = {{ shard = \"s1\" }}\n\
                     pgbench_accounts = {{ key = \"aid\" }}\npgbench_history = {{ key = \"aid\" }}\n\
                     pgbench_branches = \"reference\"\npgbench_tellers = \"reference\"\n"
                );
                for (at, shard) in shards.shards.iter().enumerate() {
                    toml += &format!(
                        "[[databases.{name}.shards]]\nname = \"s{at}\"\nservers = [{}]\n",
                        servers(shard)
                    );
                }
            }
            toml
        });
        let directory = tempfile::tempdir().unwrap();
        Self {
            plain,
            shards,
            ringway,
            directory,
        }
    }

    /// Without replicas, and with the original's rows in the first of the shards' databases. No test changes
    /// that one, or the original.
    fn shared() -> &'static Self {
        static SHARED: LazyLock<Stage> = LazyLock::new(|| {
            let stage = Stage::start(0);
            stage.load("shop");
            stage
        });
        &SHARED
    }

    /// The original, into a database of the shards.
    fn load(&self, database: &str) {
        let original = self.dump(self.original().port, "shop", &[]);
        self.restore_text(database, &original);
    }

    fn original(&self) -> &Server {
        &self.plain.shards[0].primary
    }

    fn file(&self, name: &str) -> String {
        let path: PathBuf = self.directory.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    /// Runs a program of PostgreSQL's on the server or proxy of that port.
    fn run(&self, port: u16, words: &[&str]) -> Said {
        let output = Command::new(self.plain.programs().path(words[0]))
            .args(&words[1..])
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", port.to_string())
            .env("PGUSER", "ringway")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            well: output.status.success(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// As [`Stage::run`] through Ringway; it has to end well and without a word of an error.
    fn through(&self, words: &[&str]) -> String {
        let said = self.run(self.ringway.port(), words);
        let fine = said.well && !said.err.contains("ERROR") && !said.err.contains("error:");
        assert!(fine, "{words:?}: {}", said.err);
        said.out
    }

    /// As [`Stage::run`] through Ringway; it has to fail.
    fn refused(&self, words: &[&str]) -> String {
        let said = self.run(self.ringway.port(), words);
        assert!(!said.well, "{words:?} ended well");
        said.err
    }

    /// A dump without what is another one each time.
    fn dump(&self, port: u16, database: &str, options: &[&str]) -> String {
        let mut words = vec!["pg_dump", "-N", "ringway", "-d", database];
        words.extend(options);
        let said = self.run(port, &words);
        assert!(said.well, "{words:?}: {}", said.err);
        let lines = said.out.lines();
        let lines = lines
            .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    }

    fn restore_text(&self, database: &str, dump: &str) {
        let file = self.file(&format!("{database}.sql"));
        std::fs::write(&file, dump).unwrap();
        self.through(&psql(database, &file));
    }

    /// The rows of each table and what each sequence has given.
    fn content(&self, port: u16, database: &str) -> Vec<(String, Vec<String>)> {
        let copies = TABLES.map(|table| format!("COPY {table} TO STDOUT"));
        let states = SEQUENCES.map(|name| format!("SELECT last_value, is_called FROM {name}"));
        let asked: Vec<String> = copies.into_iter().chain(states).collect();
        let mut words = vec!["psql", "-X", "-A", "-t", "-d", database];
        for sql in &asked {
            words.extend(["-c", "\\echo -----", "-c", sql]);
        }
        let said = self.run(port, &words);
        assert!(said.well, "{}", said.err);
        let parts = said.out.split("-----\n").skip(1);
        let sorted = |part: &str| {
            let mut rows: Vec<String> = part.lines().map(str::to_owned).collect();
            rows.sort();
            rows
        };
        asked.iter().cloned().zip(parts.map(sorted)).collect()
    }

    /// Is a database through Ringway the original, its rows each where they belong, and its schema on every
    /// shard the same?
    fn assert_is_original(&self, database: &str) {
        let original = self.content(self.original().port, "shop");
        assert_eq!(self.content(self.ringway.port(), database), original);
        let schema = self.dump(self.original().port, "shop", &["--schema-only"]);
        for shard in &self.shards.shards {
            let made = self.dump(shard.primary.port, database, &["--schema-only"]);
            assert_eq!(made, schema);
            let count = |table| format!("SELECT count(*) FROM {table}");
            let ask = |sql: String| shard.primary.exec_in(database, &sql).unwrap();
            assert_eq!(ask(count("countries")), "3");
            let spread: usize = ask(count("sales.orders")).parse().unwrap();
            assert!((1..400).contains(&spread), "{spread} orders on one shard");
        }
    }

    /// A new database of the plain server.
    fn empty(&self, name: &str) {
        let sql = format!("CREATE DATABASE {name}");
        self.original().exec_in("postgres", &sql).unwrap();
    }

    /// Restores into a plain database, and tells that it is the original.
    fn assert_restores(&self, name: &str, words: &[&str]) {
        self.empty(name);
        let port = self.original().port;
        let said = self.run(port, words);
        assert!(
            said.well && !said.err.contains("ERROR"),
            "{words:?}: {}",
            said.err
        );
        let original = self.content(port, "shop");
        assert_eq!(self.content(port, name), original, "{words:?}");
        let schema = self.dump(port, "shop", &["--schema-only"]);
        assert_eq!(self.dump(port, name, &["--schema-only"]), schema);
    }
}

/// psql that stops at an error.
fn psql<'a>(database: &'a str, file: &'a str) -> Vec<&'a str> {
    vec![
        "psql",
        "-X",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        database,
        "-f",
        file,
    ]
}

#[test]
fn a_dump_of_shards_holds_what_one_server_would() {
    let stage = Stage::shared();
    stage.assert_is_original("shop");
    let ringway = stage.ringway.port();

    let inserts: [&[&str]; 3] = [
        &[],
        &["--inserts"],
        &["--column-inserts", "--rows-per-insert=30"],
    ];
    for (at, options) in inserts.into_iter().enumerate() {
        let file = stage.file("dump.sql");
        std::fs::write(&file, stage.dump(ringway, "shop", options)).unwrap();
        let name = format!("plain_{at}");
        stage.assert_restores(&name, &psql(&name, &file));
    }
    let custom = stage.file("dump.fc");
    stage.through(&[
        "pg_dump", "-N", "ringway", "-Fc", "-d", "shop", "-f", &custom,
    ]);
    stage.assert_restores("from_fc", &["pg_restore", "-d", "from_fc", &custom]);
    let directory = stage.file("dump.fd");
    stage.through(&[
        "pg_dump", "-N", "ringway", "-Fd", "-d", "shop", "-f", &directory,
    ]);
    stage.assert_restores(
        "from_fd",
        &["pg_restore", "-j", "2", "-d", "from_fd", &directory],
    );

    let schema = stage.dump(ringway, "shop", &["--schema-only"]);
    assert_eq!(
        schema,
        stage.dump(stage.original().port, "shop", &["--schema-only"])
    );
    let lines = |options: &[&str]| {
        let both = [ringway, stage.original().port];
        both.map(|port| {
            let dump = stage.dump(port, "shop", options);
            let mut lines: Vec<String> = dump.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        })
    };
    for options in [
        &["--data-only"][..],
        &["-t", "items"],
        &["-t", "sales.orders", "-t", "settings*"],
        &["-n", "sales"],
    ] {
        let [through, original] = lines(options);
        assert_eq!(through, original, "{options:?}");
    }

    let said = stage.refused(&[
        "pg_dump",
        "-N",
        "ringway",
        "-Fd",
        "-j",
        "2",
        "-d",
        "shop",
        "-f",
        &stage.file("j"),
    ]);
    assert!(
        said.contains("pg_export_snapshot is not supported"),
        "{said}"
    );
    let said = stage.refused(&["pg_dump", "-d", "shop"]);
    assert!(said.contains("--exclude-schema=ringway"), "{said}");
}

#[test]
fn a_dump_is_restored_into_shards() {
    let stage = Stage::shared();
    let original = stage.original().port;
    let (text, custom) = (stage.file("original.sql"), stage.file("original.fc"));
    for (file, format) in [(&text, "-Fp"), (&custom, "-Fc")] {
        let words = ["pg_dump", "-N", "ringway", format, "-d", "shop", "-f", file];
        assert!(stage.run(original, &words).well);
    }

    stage.through(&[&psql("copy_e", &text)[..], &["-1"]].concat());
    stage.assert_is_original("copy_e");
    stage.through(&["pg_restore", "-1", "-d", "copy_d", &custom]);
    stage.assert_is_original("copy_d");
    stage.through(&["pg_restore", "-j", "2", "-d", "copy_a", &custom]);
    stage.assert_is_original("copy_a");
    // Over what is there.
    stage.through(&["pg_restore", "-c", "--if-exists", "-d", "copy_a", &custom]);
    stage.assert_is_original("copy_a");
    stage.through(&["pg_restore", "--schema-only", "-d", "copy_b", &custom]);
    let refresh = "REFRESH MATERIALIZED VIEW codes";
    let refresh = ["psql", "-X", "-q", "-d", "copy_b", "-c", refresh];
    stage.through(&["pg_restore", "--data-only", "-1", "-d", "copy_b", &custom]);
    let content = stage.content(original, "shop");
    assert_eq!(stage.content(stage.ringway.port(), "copy_b"), content);
    let empty = "TRUNCATE customers, sales.orders, items, countries, settings";
    stage.through(&["psql", "-X", "-q", "-d", "copy_b", "-c", empty]);
    let inserts = ["--data-only", "--inserts", "--rows-per-insert=50"];
    std::fs::write(&text, stage.dump(original, "shop", &inserts)).unwrap();
    stage.through(&[&psql("copy_b", &text)[..], &["-1"]].concat());
    stage.through(&refresh);
    stage.assert_is_original("copy_b");
}

/// Of a database without shards, whatever its replica has.
fn dumps_of_one_server(stage: &Stage) {
    let original = stage.original().port;
    // What the replica has not replayed yet is in it.
    let replica = &stage.plain.shards[0].replicas[0];
    replica.exec("SELECT pg_wal_replay_pause()").unwrap();
    let late = "INSERT INTO countries VALUES ('FI', 'Finland')";
    stage.through(&["psql", "-X", "-q", "-d", "flat", "-c", late]);
    for database in ["flat", "flat_later"] {
        for options in [&[][..], &["--inserts"], &["-t", "customers"]] {
            let through = stage.dump(stage.ringway.port(), database, options);
            assert_eq!(through, stage.dump(original, "shop", options));
        }
        let directory = stage.file(database);
        let jobs = ["-Fd", "-j", "2", "-d", database, "-f", &directory];
        stage.through(&[&["pg_dump", "-N", "ringway"], &jobs[..]].concat());
        let name = format!("from_{database}");
        stage.assert_restores(&name, &["pg_restore", "-j", "2", "-d", &name, &directory]);
    }
    replica.exec("SELECT pg_wal_replay_resume()").unwrap();
}

#[test]
fn an_empty_search_path_means_on_shards_what_it_means_on_one_server() {
    let stage = Stage::shared();
    let login = |port, database| Wire::login(port, "ringway", database).0;
    let (plain, ringway) = (stage.original().port, stage.ringway.port());
    for set in [
        "SELECT pg_catalog.set_config('search_path', '', false)",
        "SET search_path = ''",
        "SET search_path TO pg_catalog",
    ] {
        let mut both = [login(plain, "shop"), login(ringway, "shop")];
        let mut same = |sql: &str| {
            let [one, shards] = &mut both;
            let answer = one.ask(sql);
            assert_eq!(shards.ask(sql), answer, "{set}; {sql}");
            assert_eq!(
                shards.ask_extended(&[sql]),
                one.ask_extended(&[sql]),
                "{set}; {sql}"
            );
            answer
        };
        same(set);
        for bare in [
            "SELECT name FROM customers WHERE id = 5",
            "SELECT count(*) FROM customers",
            "SELECT count(DISTINCT name) FROM customers",
            "SELECT count(*) FROM countries",
            "INSERT INTO customers VALUES (1000, 'x')",
            "UPDATE customers SET id = 1001 WHERE id = 5",
            "DELETE FROM settings",
            "COPY customers FROM STDIN",
            "CREATE INDEX i ON customers (name)",
        ] {
            assert!(same(bare).starts_with("42P01"), "{bare}");
        }
        for told in [
            "SELECT name FROM public.customers WHERE id = 5",
            "SELECT count(*), sum(id) FROM public.customers",
            "SELECT count(DISTINCT born) FROM public.customers",
            "SELECT 'public.countries'::regclass, 'pg_class'::regclass",
            "SELECT count(*) FROM ONLY sales.orders",
            "UPDATE public.items SET customer_id = 1000 + customer_id WHERE customer_id = 1000",
        ] {
            let answer = same(told);
            let fine = ["SELECT 1 I", "UPDATE 4 I", "UPDATE 0 I"];
            assert!(
                fine.iter().any(|tag| answer.ends_with(tag)),
                "{told}: {answer}"
            );
        }
        same("RESET search_path");
        assert_eq!(same("SELECT count(*) FROM customers"), "100 SELECT 1 I");
    }
    let mut wire = login(ringway, "shop");
    for refused in [
        "SELECT set_config('search_path', 'sales', false)",
        "SELECT set_config('search_path', 'sal' || 'es', false)",
        "SELECT set_config('extra_float_digits', '0', false)",
        "SET search_path = sales",
        "SET search_path = '''', sales",
        "SET search_path = \"$user\"",
    ] {
        assert_eq!(wire.ask(refused), "0A000 I", "{refused}");
    }
    assert_eq!(
        wire.ask("SELECT set_config('search_path', 'public', false)"),
        "public SELECT 1 I"
    );
    assert_eq!(wire.ask("BEGIN"), "BEGIN T");
    assert_eq!(
        wire.ask("SELECT set_config('search_path', '', true)"),
        " SELECT 1 T"
    );
    assert_eq!(wire.ask("SELECT count(*) FROM customers"), "42P01 E");
    assert_eq!(wire.ask("ROLLBACK"), "ROLLBACK I");
    assert_eq!(wire.ask("SELECT count(*) FROM customers"), "100 SELECT 1 I");
    assert_eq!(wire.ask("BEGIN ISOLATION LEVEL REPEATABLE READ"), "BEGIN T");
    assert_eq!(
        wire.ask("SET TRANSACTION SNAPSHOT '00000003-00000002-1'"),
        "0A000 E"
    );
}

/// Told at once, under the OIDs of the first shard.
fn all_sequences_are_as_each(stage: &Stage, database: &str) {
    let ask = |sql: &str| stage.through(&["psql", "-X", "-A", "-t", "-d", database, "-c", sql]);
    let told = ask(ALL_SEQUENCES);
    let told: Vec<&str> = told.lines().collect();
    assert!(told.is_sorted_by_key(|row| row.split('|').next().unwrap().parse::<u32>().unwrap()));
    for name in SEQUENCES {
        let definition = format!(
            "SELECT seqrelid, format_type(seqtypid, NULL), seqstart, seqincrement, seqmax, seqmin, seqcache, \
             seqcycle FROM pg_sequence WHERE seqrelid = '{name}'::regclass"
        );
        let primary = &stage.shards.shards[0].primary;
        let definition = primary.exec_in(database, &definition).unwrap();
        let state = ask(&format!("SELECT last_value, is_called FROM {name}"));
        let whole = format!("{definition}|{}", state.trim_end());
        assert!(told.contains(&whole.as_str()), "{name}: {whole}; {told:?}");
    }
}

#[test]
fn a_sequence_is_one_shards_or_goes_on_everywhere() {
    let stage = Stage::shared();
    stage.load("copy_c");
    let mut wire = Wire::login(stage.ringway.port(), "ringway", "copy_c").0;
    let on = |shard: usize, sql: &str| {
        let primary = &stage.shards.shards[shard].primary;
        primary.exec_in("copy_c", sql).unwrap()
    };
    // OIDs differ between shards.
    on(1, "DROP SEQUENCE loose; CREATE SEQUENCE loose START 17");
    for ask in [
        (|wire, sql| Wire::ask(wire, sql)) as fn(&mut Wire, &str) -> String,
        |wire, sql| wire.ask_extended(&[sql]),
    ] {
        let answer = |answer: String| answer.split(' ').next().unwrap().to_owned();
        // Its table is on the second shard.
        let setting = "SELECT setval('settings_id_seq', 50)";
        assert_eq!(answer(ask(&mut wire, setting)), "50");
        assert_eq!(
            answer(ask(
                &mut wire,
                "SELECT nextval('public.settings_id_seq'::regclass)"
            )),
            "51"
        );
        let state = "SELECT last_value FROM settings_id_seq";
        assert_eq!((on(0, state), on(1, state)), ("1".into(), "51".into()));
        assert_eq!(answer(ask(&mut wire, state)), "51");

        assert_eq!(
            answer(ask(&mut wire, "SELECT setval('loose', 70, false)")),
            "70"
        );
        let state = "SELECT last_value, is_called FROM loose";
        assert_eq!((on(0, state), on(1, state)), ("70|f".into(), "70|f".into()));
        on(1, "SELECT nextval('loose')");
        assert_eq!(answer(ask(&mut wire, "SELECT is_called FROM loose")), "t");
        on(0, "SELECT setval('loose', 71, false)");
        assert_eq!(
            answer(ask(&mut wire, "SELECT last_value FROM public.loose")),
            "71"
        );
        on(1, "SELECT setval('falling', -9)");
        assert_eq!(
            answer(ask(&mut wire, "SELECT last_value FROM falling")),
            "-9"
        );
        assert_eq!(answer(ask(&mut wire, "SELECT setval('falling', -2)")), "-2");
        let version: u32 = on(0, "SHOW server_version_num").parse().unwrap();
        if version >= 180_000 {
            on(1, "SELECT setval('falling', -20)");
            all_sequences_are_as_each(stage, "copy_c");
            assert_eq!(ask(&mut wire, ALL_SEQUENCES), wire.ask(ALL_SEQUENCES));
        }
        for (refused, code) in [
            (
                "SELECT setval(pg_get_serial_sequence('settings', 'id'), 5)",
                "0A000",
            ),
            (
                "SELECT setval('settings_id_seq', (SELECT max(id) FROM settings))",
                "0A000",
            ),
            ("SELECT setval('nosuch', 5)", "42P01"),
            ("SELECT pg_export_snapshot()", "0A000"),
        ] {
            assert_eq!(answer(ask(&mut wire, refused)), code, "{refused}");
        }
    }
    // A table of one shard that all have stays alike on all.
    assert_eq!(
        wire.ask("ALTER TABLE settings ADD COLUMN more text"),
        "ALTER TABLE I"
    );
    assert_eq!(wire.ask("DROP TABLE settings"), "DROP TABLE I");
    for shard in 0..2 {
        assert_eq!(on(shard, "SELECT to_regclass('settings') IS NULL"), "t");
    }
    on(1, "CREATE TABLE hidden (id bigint)");
    assert_eq!(wire.ask("SELECT count(*) FROM hidden"), "0 SELECT 1 I");
    assert_eq!(
        wire.ask("ALTER TABLE hidden ADD COLUMN more text"),
        "ALTER TABLE I"
    );
    let check = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(["check", "-c", stage.ringway.config_file().to_str().unwrap()])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        told.contains("public.hidden does not exist on shard \"s0\""),
        "{told}"
    );
}

#[test]
fn dumps_and_their_locks_are_on_the_servers_that_are_read() {
    let stage = Stage::start(1);
    dumps_of_one_server(&stage);
    stage.load("shop");
    stage.plain.wait_caught_up().unwrap();
    stage.shards.wait_caught_up().unwrap();
    let begins = [
        "BEGIN READ ONLY",
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    ];
    for (database, sharded) in [
        ("flat", false),
        ("flat_later", false),
        ("shop", true),
        ("shop_later", true),
    ] {
        let shards = match sharded {
            true => &stage.shards.shards,
            false => &stage.plain.shards,
        };
        let mut wire = Wire::login(stage.ringway.port(), "ringway", database).0;
        let where_it_reads = "SELECT inet_server_port()";
        let on = |server: &Server, state: &str| format!("{} SELECT 1 {state}", server.port);
        let (primary, replica) = (&shards[0].primary, &shards[0].replicas[0]);
        // As pg_dump does from version 16 on; one is of one shard.
        let lock = "LOCK TABLE customers, sales.orders, settings IN ACCESS SHARE MODE";
        let held = "SELECT count(*) FROM pg_locks WHERE relation = 'customers'::regclass \
                    AND mode = 'AccessShareLock' AND granted AND pid <> pg_backend_pid()";
        let state = |server: &Server| server.exec(held).unwrap();
        for begin in begins {
            support::wait_until(Duration::from_secs(20), "reads at all replicas", || {
                // What a session has read on a primary, a replica would have to have; and the schema, which may
                // have been read anew just now.
                wire = Wire::login(stage.ringway.port(), "ringway", database).0;
                assert_eq!(wire.ask(begin), "BEGIN T");
                assert_eq!(wire.ask(lock), "LOCK TABLE T", "{database} {begin}");
                let held = shards.iter().map(|shard| {
                    let both = (state(&shard.primary), state(&shard.replicas[0]));
                    let both = (both.0.as_str(), both.1.as_str());
                    assert!(
                        [("0", "1"), ("1", "0")].contains(&both),
                        "{database} {begin}: {both:?}"
                    );
                    both == ("0", "1")
                });
                let held: Vec<_> = held.collect();
                let reads_at = if held[0] { replica } else { primary };
                assert_eq!(wire.ask(where_it_reads), on(reads_at, "T"));
                assert_eq!(wire.ask("SELECT count(*) FROM customers"), "100 SELECT 1 T");
                assert_eq!(wire.ask("COMMIT"), "COMMIT I");
                held.iter().all(|on_replica| *on_replica)
            });
        }
        // Where it may write later it keeps its lock, which has to be on the primaries from the beginning.
        assert_eq!(wire.ask("BEGIN"), "BEGIN T");
        assert_eq!(wire.ask(lock), "LOCK TABLE T");
        for shard in shards {
            let both = (state(&shard.primary), state(&shard.replicas[0]));
            assert_eq!(both, ("1".into(), "0".into()), "{database}");
        }
        assert_eq!(wire.ask(where_it_reads), on(primary, "T"));
        assert_eq!(wire.ask("COMMIT"), "COMMIT I");
    }
}

#[test]
fn pgbench_and_the_maintenance_programs_work_on_shards() {
    let stage = Stage::shared();
    let pgbench = |options: &[&str]| {
        let words = [&["pgbench"], options, &["-d", "bench"]].concat();
        stage.through(&words)
    };
    pgbench(&["-i", "-I", "dtgvpf", "-q"]);
    pgbench(&["-i", "-I", "dtGvp", "-q"]);
    for options in [
        &["-M", "simple"][..],
        &["-M", "extended"],
        &["-M", "prepared"],
        &["-C"],
    ] {
        let told = pgbench(&[&["-n", "-c", "2", "-t", "10"], options].concat());
        assert!(told.contains("actually processed: 20/20"), "{told}");
    }
    let ask = |sql| stage.through(&["psql", "-X", "-A", "-t", "-d", "bench", "-c", sql]);
    assert_eq!(ask("SELECT count(*) FROM pgbench_history"), "80\n");
    let sums = [
        "SELECT sum(abalance) FROM pgbench_accounts",
        "SELECT sum(tbalance) FROM pgbench_tellers",
        "SELECT sum(bbalance) FROM pgbench_branches",
        "SELECT sum(delta) FROM pgbench_history",
    ];
    let sums = sums.map(ask);
    assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
    let of_shard = |at: usize| {
        let sql = "SELECT sum(bbalance) FROM pgbench_branches";
        stage.shards.shards[at]
            .primary
            .exec_in("bench", sql)
            .unwrap()
            + "\n"
    };
    assert_eq!(
        [of_shard(0), of_shard(1)],
        [sums[0].clone(), sums[0].clone()]
    );

    for words in [
        &["vacuumdb", "-z", "-d", "bench"][..],
        &[
            "vacuumdb",
            "-j",
            "2",
            "-Z",
            "-t",
            "pgbench_accounts",
            "-d",
            "bench",
        ],
        &["reindexdb", "-t", "pgbench_accounts", "-d", "bench"],
        &["reindexdb", "-S", "public", "-d", "bench"],
        &["clusterdb", "-d", "bench"],
        &["clusterdb", "-d", "bench", "-v"],
        &["createdb", "--maintenance-db=bench", "another"],
        &["pg_isready"],
    ] {
        stage.through(words);
    }
    for shard in &stage.shards.shards {
        let found = "SELECT count(*) FROM pg_database WHERE datname = 'another'";
        assert_eq!(shard.primary.exec(found).unwrap(), "1");
    }
    stage.through(&["dropdb", "--maintenance-db=bench", "another"]);
}
