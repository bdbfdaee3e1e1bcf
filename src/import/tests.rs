//! Files in, the new configuration and the notes out; serving it is tested in `integration/importing.rs`.

use std::path::PathBuf;

use super::*;

const PGBOUNCER: &str = include_str!("../../integration/peers/pgbouncer.ini");
const MORE: &str = include_str!("../../integration/peers/more.ini");
const USERLIST: &str = include_str!("../../integration/peers/userlist.txt");
const PGCAT: &str = include_str!("../../integration/peers/pgcat.toml");
const PGDOG: &str = include_str!("../../integration/peers/pgdog.toml");
const USERS: &str = include_str!("../../integration/peers/users.toml");

/// The ports of the fixtures, filled in.
fn filled(text: &str) -> String {
    let ports = [
        ("port", 7000),
        ("s0", 7001),
        ("s1", 7002),
        ("r0", 7003),
        ("r1", 7004),
    ];
    ports.iter().fold(text.to_owned(), |text, (name, port)| {
        text.replace(&format!("{{{{{name}}}}}"), &port.to_string())
    })
}

/// Imports files of these names and texts; the first ones are given, `others` only lie beside them.
fn import_of(given: &[(&str, &str)], others: &[(&str, &str)]) -> Result<Imported, Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for (name, text) in given.iter().chain(others) {
        std::fs::write(path(name), filled(text)).unwrap();
    }
    let files: Vec<PathBuf> = given.iter().map(|(name, _)| path(name)).collect();
    import(&files, None, &path("ringway.toml"))
}

fn pgbouncer(text: &str) -> Imported {
    import_of(
        &[("pgbouncer.ini", text)],
        &[("more.ini", MORE), ("userlist.txt", USERLIST)],
    )
    .unwrap()
}

fn pgcat(text: &str) -> Imported {
    import_of(&[("pgcat.toml", text)], &[]).unwrap()
}

fn pgdog(text: &str) -> Imported {
    import_of(&[("pgdog.toml", text)], &[("users.toml", USERS)]).unwrap()
}

/// The only note that has all these words.
#[track_caller]
fn noted(made: &Imported, kind: Kind, words: &[&str]) {
    let fits = |note: &&Note| {
        let text = note.to_string();
        note.kind == kind && words.iter().all(|word| text.contains(word))
    };
    let found = made.notes.iter().filter(fits).count();
    let told: Vec<_> = made
        .notes
        .iter()
        .map(|note| format!("{:?} {note}", note.kind))
        .collect();
    assert_eq!(found, 1, "{words:?} in\n{}", told.join("\n"));
}

#[track_caller]
fn has(made: &Imported, lines: &[&str]) {
    for line in lines {
        assert!(
            made.toml.lines().any(|l| l == *line),
            "{line}\n{}",
            made.toml
        );
    }
}

#[test]
fn the_real_ones_are_valid() {
    for made in [pgbouncer(PGBOUNCER), pgcat(PGCAT), pgdog(PGDOG)] {
        assert!(
            made.mistakes.is_empty(),
            "{:?}\n{}",
            made.mistakes,
            made.toml
        );
        for note in &made.notes {
            let line = draft::comment(&format!("- {note}"));
            assert!(
                made.toml.contains(&line),
                "{note} is not above the configuration"
            );
        }
    }
}

/// Without any one of its lines, a configuration comes to something else, or something else is told.
#[test]
fn no_line_is_lost_in_silence() {
    // Sections, comments, and lines that say what would hold without them.
    let is_setting = |line: &str| line.contains('=') && !line.starts_with([';', '#']);
    let same = [
        "database_name = \"shop\"",
        "tls_verify",
        "two_phase_commit",
        "host = \"127.0.0.1\"",
        "data_type = \"bigint\"",
        "schema = \"public\"",
        "kind = \"default\"",
        "kind = \"list\"",
        "shard = 0",
        "keepalive = true",
        "tcp_keepalive = 1",
        "enable_prometheus_exporter = false",
        "query_parser_read_write_splitting = true",
        "primary_reads_enabled = false",
        "sharding_function = \"pg_bigint_hash\"",
        "database = \"shop\"",
        "enabled = true",
        "data_type = \"varchar\"",
        "default_role = \"any\"",
        "pooler_mode = \"transaction\"",
        "pool_mode = session",
        "unix_socket_dir",
    ];
    let lost = std::cell::RefCell::new(Vec::new());
    let check = |text: &str, made: &dyn Fn(&str) -> Option<Imported>| {
        let whole = made(text).unwrap();
        for (at, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| is_setting(line))
        {
            if same.iter().any(|same| line.starts_with(same)) {
                continue;
            }
            // Line numbers stay.
            let without: Vec<_> = text
                .lines()
                .enumerate()
                .map(|(n, l)| if n == at { "" } else { l })
                .collect();
            let Some(less) = made(&without.join("\n")) else {
                continue;
            };
            if less.toml == whole.toml && less.notes == whole.notes {
                lost.borrow_mut().push(line.to_owned());
            }
        }
    };
    check(PGBOUNCER, &|text| Some(pgbouncer(text)));
    check(PGCAT, &|text| Some(pgcat(text)));
    check(PGDOG, &|text| {
        import_of(&[("pgdog.toml", text)], &[("users.toml", USERS)]).ok()
    });
    check(USERS, &|text| {
        import_of(&[("pgdog.toml", PGDOG)], &[("users.toml", text)]).ok()
    });
    assert_eq!(lost.into_inner(), Vec::<String>::new());
}

#[test]
fn of_pgbouncer() {
    let made = pgbouncer(PGBOUNCER);
    assert_eq!(made.from, Format::PgBouncer);
    has(
        &made,
        &[
            "listen = [\"127.0.0.1:7000\"]",
            "max_clients = 400",
            "admin_users = [\"app\"]",
            "users_file = \"userlist.txt\"",
            "[databases.\"reports db\"]",
            "[databases.\"*\"]",
            "pool_mode = \"statement\"",
            "pool_size = 30",
            "pool_size = 15",
            "reserve_pool_timeout_ms = 2500",
            "checkout_timeout_ms = 60000",
            "connect_timeout_ms = 15000",
            "max_lifetime_s = 1",
            "server_user = \"app\"",
            "tcp_keepalive_idle_s = 30",
            "[users.app]",
            "max_user_connections = 40",
        ],
    );
    noted(
        &made,
        Kind::Dropped,
        &["logfile", "pidfile", "logs go to standard error"],
    );
    noted(
        &made,
        Kind::Dropped,
        &["connect_query = SET work_mem = '64MB'", "ALTER ROLE"],
    );
    noted(
        &made,
        Kind::Dropped,
        &["admin_users postgres", "not in auth_file"],
    );
    noted(&made, Kind::Dropped, &["max_prepared_statements = 0"]);
    noted(
        &made,
        Kind::Dropped,
        &["server_tls_sslmode = prefer", "without TLS"],
    );
    noted(&made, Kind::Changed, &["server_lifetime = 0", "1 s"]);
    noted(
        &made,
        Kind::Unknown,
        &["more.ini line 6: server_colour = blue"],
    );
}

/// Each key of the table is told of with its reason, and PgBouncer's own defaults are carried over.
#[test]
fn every_reason_of_pgbouncer_is_told() {
    for (key, why) in pgbouncer::REASONS {
        let text =
            format!("[databases]\na = host=h\n[pgbouncer]\nauth_file = userlist.txt\n{key} = 1\n");
        let made = pgbouncer(&text);
        noted(&made, Kind::Dropped, &[&format!("{key} = 1"), why]);
        has(
            &made,
            &[
                "pool_mode = \"session\"",
                "max_clients = 100",
                "checkout_timeout_ms = 120000",
            ],
        );
    }
    for (key, why) in pgbouncer::DATABASE_REASONS {
        let text =
            format!("[databases]\na = host=h {key}=1\n[pgbouncer]\nauth_file = userlist.txt\n");
        noted(
            &pgbouncer(&text),
            Kind::Dropped,
            &[&format!("{key} = 1"), why],
        );
    }
}

#[test]
fn hard_settings_of_pgbouncer() {
    let of = |database: &str, settings: &str| {
        let text =
            format!("[databases]\n{database}\n[pgbouncer]\nauth_file = userlist.txt\n{settings}\n");
        pgbouncer(&text)
    };
    let made = of(
        "a = host=x,y port=1,2",
        "listen_addr = *,localhost,::1,gateway",
    );
    has(
        &made,
        &[
            "servers = [\"x:1\", \"y:2\"]",
            "monitor_user = \"app\"",
            "listen = [\"0.0.0.0:6432\", \"127.0.0.1:6432\", \"[::1]:6432\"]",
        ],
    );
    noted(
        &made,
        Kind::Changed,
        &["[databases] a", "which one is the primary"],
    );
    noted(&made, Kind::Changed, &["listen_addr", "0.0.0.0"]);
    noted(&made, Kind::Dropped, &["listen_addr gateway"]);
    let made = of(
        "a = ",
        "auth_type = trust\nlisten_addr=1.2.3.4\nunix_socket_dir=@x\nclient_tls_ca_file=z",
    );
    has(
        &made,
        &[
            "servers = [\"/var/run/postgresql:5432\"]",
            "auth = \"trust\"",
        ],
    );
    noted(&made, Kind::Dropped, &["unix_socket_dir = @x"]);
    noted(
        &made,
        Kind::Dropped,
        &["client_tls_ca_file", "client_tls_sslmode is disable"],
    );
    let made = of(
        "a = host=h",
        "client_tls_sslmode=prefer\nclient_tls_ca_file=",
    );
    assert!(!made.toml.contains("client_ca"), "{}", made.toml);
    let made = of(
        "a = host=h user=nobody",
        "auth_type = pam\nauth_query = SELECT 1\nauth_dbname = b",
    );
    noted(&made, Kind::Dropped, &["auth_type = pam", "absent"]);
    noted(&made, Kind::Dropped, &["auth_query"]);
    noted(&made, Kind::Dropped, &["auth_dbname = b"]);
    noted(
        &made,
        Kind::Changed,
        &["user = nobody", "write server_password"],
    );
    let made = of(
        "a = host=h min_pool_size=50\n* = host=h min_pool_size=1",
        "default_pool_size = many\npool_mode",
    );
    noted(
        &made,
        Kind::Changed,
        &["[databases] a: min_pool_size", "20"],
    );
    noted(&made, Kind::Dropped, &["[databases] *: min_pool_size"]);
    noted(
        &made,
        Kind::Dropped,
        &["default_pool_size = many", "not a number"],
    );
    noted(&made, Kind::Unknown, &["pool_mode"]);
    let made = of(
        "a = host=h\na = host=i",
        "listen_port = 1\nlisten_port = 2\nauth_hba_file = x\nverbose = 2",
    );
    has(
        &made,
        &[
            "servers = [\"i:5432\"]",
            "listen = [\"127.0.0.1:2\"]",
            "log_level = \"debug\"",
        ],
    );
    noted(
        &made,
        Kind::Dropped,
        &["[databases] a", "listen_port = 1", "further down"],
    );
    noted(
        &made,
        Kind::Dropped,
        &["auth_hba_file", "auth_type is not hba"],
    );
}

#[test]
fn peers_of_pgbouncer() {
    let text = "[databases]\na = host=h\n[peers]\n1 = host=/tmp/one\n2 = host=b port=7 pool_size=3\n3 = port=1\n\
                [pgbouncer]\npeer_id = 1\nauth_file = userlist.txt\nauth_type = cert\n[other]\nx = 1\n";
    let made = pgbouncer(text);
    has(
        &made,
        &["peer_id = 1", "1 = \"/tmp/one:6432\"", "2 = \"b:7\""],
    );
    noted(&made, Kind::Dropped, &["pool_size = 3"]);
    noted(&made, Kind::Dropped, &["[peers] 3", "no host"]);
    noted(&made, Kind::Unknown, &["[other] x = 1"]);
    // Certificates of clients need an authority, which this one has not: that is for a person.
    assert!(!made.mistakes.is_empty());
}

#[test]
fn of_pgcat() {
    let made = pgcat(PGCAT);
    assert_eq!(made.from, Format::PgCat);
    has(
        &made,
        &[
            "listen = \"127.0.0.1:7000\"",
            "watch_interval_s = 15",
            "checkout_timeout_ms = 3000",
            "query_timeout_ms = 15000",
            "balance = \"least_connections\"",
            "servers = [\"127.0.0.1:7002\", \"127.0.0.1:7004\"]",
            "people = { key = \"id\" }",
            "modulus = 2",
            "remainder = 1",
            "monitor_user = \"app\"",
            "admin_users = [\"operator\"]",
        ],
    );
    noted(
        &made,
        Kind::Dropped,
        &["ban_time = 60", "healthcheck_delay"],
    );
    noted(
        &made,
        Kind::Dropped,
        &["sharding_key_regex", "declare the tables"],
    );
    noted(&made, Kind::Dropped, &["mirrors", "no mirroring"]);
    noted(&made, Kind::Dropped, &["plugins"]);
    noted(&made, Kind::Dropped, &["users.0: min_pool_size = 3"]);
    noted(&made, Kind::Changed, &["password logins"]);
    for (key, why) in pgcat::GENERAL_REASONS {
        let text = PGCAT.replace("[general]\n", &format!("[general]\n{key}=1\n"));
        let text = text
            .lines()
            .filter(|line| !line.starts_with(&format!("{key} ")));
        let made = pgcat(&text.collect::<Vec<_>>().join("\n"));
        noted(&made, Kind::Dropped, &[key, why]);
    }
    for (key, why) in pgcat::POOL_REASONS {
        let text = PGCAT.replace("[pools.shop]\n", &format!("[pools.shop]\n{key}=1\n"));
        let text = text
            .lines()
            .filter(|line| !line.starts_with(&format!("{key} ")));
        let made = pgcat(&text.collect::<Vec<_>>().join("\n"));
        noted(&made, Kind::Dropped, &[key, why]);
    }
}

/// Three shards, or another hash: no slot follows, and the import says so.
#[test]
fn layouts_that_cannot_be_adopted() {
    let three = format!(
        "{PGCAT}\n[pools.shop.shards.2]\nservers = [[\"127.0.0.1\", 7009, \"primary\"]]\ndatabase = \"shop\"\n"
    );
    for (text, why) in [
        (three, "3 does not divide Ringway's 16384 slots"),
        (PGCAT.replace("pg_bigint_hash", "sha1"), "SHA-1"),
    ] {
        let made = pgcat(&text);
        noted(
            &made,
            Kind::Dropped,
            &["sharding_function", "automatic_sharding_key", why],
        );
        assert!(!made.toml.contains("\nmodulus"), "{}", made.toml);
        assert!(!made.toml.contains("people = "), "{}", made.toml);
        assert!(made.mistakes.is_empty(), "{:?}", made.mistakes);
    }
    let three = format!(
        "{PGDOG}\n[[databases]]\nname = \"shop\"\nhost = \"127.0.0.1\"\nport = 7009\nshard = 2\n"
    );
    for (text, why) in [
        (three, "3 does not divide"),
        (
            PGDOG.replace("data_type = \"bigint\"", "hasher = \"sha1\""),
            "placed by sha1",
        ),
        (
            PGDOG.replace("data_type = \"bigint\"", "data_type = \"vector\""),
            "vectors",
        ),
    ] {
        let made = pgdog(&text);
        noted(&made, Kind::Dropped, &["public.people.id", why]);
        assert!(!made.toml.contains("people\" = "), "{}", made.toml);
        assert!(made.mistakes.is_empty(), "{:?}", made.mistakes);
    }
    let gap = PGDOG.replace("shard = 1", "shard = 2");
    let error = import_of(&[("pgdog.toml", &gap)], &[]).unwrap_err();
    assert!(error.to_string().contains("no shard 1"), "{error}");
}

#[test]
fn of_pgdog() {
    let made = pgdog(PGDOG);
    assert_eq!(made.from, Format::PgDog);
    has(
        &made,
        &[
            "listen = \"127.0.0.1:7000\"",
            "tcp_keepalive_idle_s = 45",
            "pool_size = 12",
            "min_pool_size = 2",
            "idle_timeout_s = 91",
            "primary_reads = \"never\"",
            "balance = \"least_connections\"",
            "transactions = \"replica_until_write\"",
            "multi_shard_commit = \"best_effort\"",
            "\"public.people\" = { key = \"id\" }",
            "'\"Notes\"' = { key = \"author\" }",
            "tokens = { key = \"token\" }",
            "regions = { by = \"by_code\", key = \"code\" }",
            "list = { shard_1 = [\"no\", \"se\"] }",
            "default = \"shard_0\"",
            "flags = \"reference\"",
            "admin_users = [\"operator\"]",
            "password = \"one\"",
        ],
    );
    noted(
        &made,
        Kind::Dropped,
        &["healthcheck_interval", "poll_interval_ms"],
    );
    noted(
        &made,
        Kind::Dropped,
        &[
            "databases[1]: role = replica",
            "databases[3]: role",
            "observed",
        ],
    );
    noted(&made, Kind::Dropped, &["lb_weight", "weighted_round_robin"]);
    noted(&made, Kind::Dropped, &["rewrite"]);
    noted(
        &made,
        Kind::Dropped,
        &["column = tenant_id", "information_schema.columns"],
    );
    noted(&made, Kind::Dropped, &["sticky"]);
    noted(&made, Kind::Dropped, &["users[1]: passwords"]);
    noted(
        &made,
        Kind::Dropped,
        &["database elsewhere", "no such database"],
    );
    noted(&made, Kind::Dropped, &["tls_verify = prefer"]);
    noted(&made, Kind::Changed, &["idle_timeout = 90500", "91 s"]);
    noted(&made, Kind::Changed, &["data_type = varchar", "char(n)"]);
    noted(&made, Kind::Changed, &["two_phase_commit (off)"]);
    noted(&made, Kind::Changed, &["not declared", "reference"]);
    noted(&made, Kind::Unknown, &["general: wibble = true"]);
    let secrets = ["\"two\"", "secret"];
    for note in &made.notes {
        assert!(
            !secrets
                .iter()
                .any(|secret| note.to_string().contains(secret)),
            "{note}"
        );
    }
    // One database and one server: what speaks of several has no meaning.
    let alone = "[[databases]]\nname=\"a\"\nhost=\"h\"\n[[users]]\nname=\"u\"\ndatabase=\"a\"\npassword=\"p\"\n";
    for (key, why) in pgdog::GENERAL {
        let made = import_of(
            &[("pgdog.toml", &format!("[general]\n{key} = 1\n{alone}"))],
            &[],
        )
        .unwrap();
        noted(&made, Kind::Dropped, &[&format!("{key} = 1"), why]);
    }
    for (key, why) in pgdog::SECTIONS {
        let made = import_of(&[("pgdog.toml", &format!("[{key}]\na = 1\n{alone}"))], &[]).unwrap();
        noted(&made, Kind::Dropped, &[key, why]);
    }
    for (key, why) in pgdog::DATABASE {
        let text = alone.replace("host=\"h\"\n", &format!("host=\"h\"\n{key}=1\n"));
        let made = import_of(&[("pgdog.toml", &text)], &[]).unwrap();
        noted(&made, Kind::Dropped, &[&format!("{key} = 1"), why]);
    }
    for (key, why) in pgdog::USER {
        let made = import_of(&[("pgdog.toml", &format!("{alone}{key} = 1\n"))], &[]).unwrap();
        noted(&made, Kind::Dropped, &[&format!("{key} = 1"), why]);
    }
}

#[test]
fn users_of_several_databases() {
    let text = "[[databases]]\nname=\"a\"\nhost=\"h\"\n[[databases]]\nname=\"b\"\nhost=\"i\"\n\
        [[users]]\nname=\"one\"\ndatabase=\"a\"\npassword=\"p\"\n[[users]]\nname=\"all\"\ndatabase=\"b\"\npassword=\"q\"\n\
        [[users]]\nname=\"one\"\ndatabase=\"b\"\npassword=\"other\"\nserver_user=\"x\"\n[admin]\npassword=\"s\"\n";
    let made = import_of(&[("pgdog.toml", text)], &[]).unwrap();
    assert!(made.mistakes.is_empty(), "{:?}", made.mistakes);
    has(
        &made,
        &[
            "user = [\"one\"]",
            "user = [\"/^all$\", \"one\"]",
            "database = [\"ringway\", \"pgbouncer\"]",
        ],
    );
    noted(&made, Kind::Dropped, &["users[2]", "knows a user once"]);
    noted(
        &made,
        Kind::Dropped,
        &["users[2]: user at the servers", "one server_user"],
    );
    noted(&made, Kind::Changed, &["[[auth.hba]]"]);
}

#[test]
fn what_is_no_configuration() {
    let error = import_of(&[("x.toml", "a = 1")], &[]).unwrap_err();
    assert!(error.to_string().contains("not known"), "{error}");
    let error = import_of(&[("x.ini", PGBOUNCER)], &[]).unwrap_err();
    assert!(
        error.to_string().contains("userlist.txt") || error.to_string().contains("more.ini"),
        "{error}"
    );
    let error = import_of(&[("a.toml", PGCAT), ("b.toml", PGCAT)], &[]).unwrap_err();
    assert!(
        error.to_string().contains("one configuration file"),
        "{error}"
    );
    let loops = import_of(&[("more.ini", "[pgbouncer]\n%include more.ini\n")], &[]).unwrap_err();
    assert!(
        loops.report().contains("include each other"),
        "{}",
        loops.report()
    );
}

#[test]
fn users_of_pgcat_who_are_one_at_the_servers() {
    let of = |server: &str| {
        pgcat(&format!(
            "[general]\nadmin_username = \"a\"\nadmin_password = \"p\"\n[pools.shop.users.0]\nusername = \"shop\"\n\
             password = \"s\"\n[pools.shop.users.1]\nusername = \"guest\"\npassword = \"g\"\n\
             server_username = \"{server}\"\nserver_password = \"s\"\n[pools.shop.shards.0]\ndatabase = \"shop\"\n\
             servers = [[\"x\", 5432, \"primary\"], [\"y\", 5432, \"replica\"]]\n"
        ))
    };
    let made = of("shop");
    has(
        &made,
        &["server_user = \"shop\"", "server_password = \"s\""],
    );
    assert!(!made.toml.contains("monitor_user"), "{}", made.toml);
    // As two, each is itself there; who watches is one that is known there.
    let made = of("other");
    noted(&made, Kind::Dropped, &["users.1: user at the servers"]);
    has(&made, &["monitor_user = \"other\""]);
}
