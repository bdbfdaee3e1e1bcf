//! The example files, and what a file with mistakes is told.

use std::path::Path;

use super::*;

fn parse_text(text: &str) -> Result<Config, ConfigErrors> {
    parse(text, Path::new("test.toml"), &|_| None)
}

/// The lines of the report, the first (file and count) aside.
fn mistakes(text: &str) -> Vec<String> {
    match parse_text(text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.mistakes.iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
fn check_mistakes(text: &str, expected: &[&str]) {
    assert_eq!(mistakes(text), expected, "in\n{text}");
}

/// `extra` in a file that is right without it.
fn with_user(extra: &str) -> String {
    format!("[users.app]\npassword = \"x\"\n{extra}")
}

fn example(name: &str) -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conf")
        .join(name);
    load(&path).unwrap_or_else(|errors| panic!("{errors}"))
}

fn shop(config: &Config) -> &Database {
    &config.databases["shop"]
}

#[test]
fn example_pooler() {
    let config = example("pooler.toml");
    assert_eq!(shop(&config).shards.len(), 1);
    assert_eq!(shop(&config).pool, PoolSettings::default());
    assert_eq!(
        config.users["app"].secret,
        StoredSecret::Plain(Secret("change me".into()))
    );
}

#[test]
fn example_replicas() {
    let config = example("replicas.toml");
    let database = shop(&config);
    assert!(database.reads.split);
    assert_eq!(database.reads.max_lag, Duration::from_millis(500));
    assert_eq!(database.shards[0].endpoints.len(), 3);
    assert_eq!(
        database.monitor_user.as_ref().map(|u| &*u.name),
        Some("ringway_monitor")
    );
}

#[test]
fn example_shards() {
    let config = example("shards.toml");
    let database = shop(&config);
    assert!(database.is_sharded());
    assert_eq!(database.monitor_user, database.server_user);
    let rule = |table: &str| &database.tables[&("public".to_owned(), table.to_owned())];
    assert_eq!(
        rule("orders"),
        &TableRule::Sharded {
            key: vec!["customer_id".to_owned()],
            by: None,
        }
    );
    assert_eq!(rule("countries"), &TableRule::Reference);
    assert_eq!(rule("settings"), &TableRule::Single(ShardId(0)));
}

/// What the containers of docker/ are started with.
#[test]
fn example_docker() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/ringway.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let config = parse(&text, &path, &|name| {
        (name == "RINGWAY_PEER_ID").then(|| "2".to_owned())
    });
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.general.peer_id, Some(2));
    assert_eq!(config.peers.keys().collect::<Vec<_>>(), [&1]);
    assert!(shop(&config).is_sharded() && shop(&config).reads.split);
    let servers: Vec<_> = shop(&config)
        .shards
        .iter()
        .flat_map(|shard| &shard.endpoints)
        .map(|endpoint| endpoint.host.as_str())
        .collect();
    assert_eq!(servers, ["s1a", "s1b", "s2a", "s2b"]);
}

/// What a newcomer copies has to work.
#[test]
fn the_readmes_example() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let examples: Vec<_> = readme.split("```toml\n").skip(1).collect();
    assert_eq!(examples.len(), 1);
    let (text, _) = examples[0].split_once("```").unwrap();
    let config = parse_text(text).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(shop(&config).is_sharded() && shop(&config).reads.split);
    assert_eq!(shop(&config).tables.len(), 4);
}

/// The annotated file says which values are defaults; they have to be.
#[test]
fn example_with_everything_tells_true_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/ringway.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let entries = entries(&example("ringway.toml"));
    let mut told = 0;
    for line in text.lines() {
        let Some((setting, comment)) = line.split_once("# ") else {
            continue;
        };
        if !matches!(comment.split(' ').next(), Some("default" | "default;")) {
            continue;
        }
        let key = setting.split('=').next().unwrap_or_default().trim();
        for entry in entries
            .iter()
            .filter(|entry| entry.key.rsplit('.').next() == Some(key))
        {
            assert_eq!(entry.value, entry.default, "{}", entry.key);
            told += 1;
        }
    }
    assert!(told >= 20, "only {told} defaults were compared");
    assert_eq!(
        shop(&example("ringway.toml")).topology.owner(99),
        ShardId(1)
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = r#"
[general]
listen = "localhost"
max_cleints = 5

[users.app]
password = "x"

[databases.shop]
pool_size = 0
server_user = "shop"
pool_mode = "statements"

[[databases.shop.shards]]
name = "s1"
servers = ["a:5432"]

[[databases.shop.shards]]
name = "s2"
servers = []

[databases.shop.tables]
orders = { shard = "s3" }
"#;
    check_mistakes(
        text,
        &[
            "line 3: general.listen: \"localhost\" is not an IP address and port; write \
             \"127.0.0.1:6432\", \"0.0.0.0:6432\" for every interface, \"[::]:6432\", or \
             \"/run/ringway:6432\" for a Unix socket",
            "line 4: general.max_cleints: unknown key; did you mean `max_clients`?",
            "line 10: databases.shop.pool_size: 0 is out of range; write a number from 1 to 100000",
            "line 12: databases.shop.pool_mode: \"statements\" is not a choice here; write \
             \"transaction\" or \"session\" or \"statement\"",
            "line 20: databases.shop.shards[1].servers: no servers; write \"host:5432\", \
             \"[::1]:5432\" or \"/var/run/postgresql:5432\" for a Unix socket",
            "line 23: databases.shop.tables.orders.shard: there is no shard \"s3\"; known shards: s1, s2",
        ],
    );
}

#[test]
fn grammar_mistakes_are_told_together() {
    let text = "[general]\nlisten = \nworkers = 1\n[users.app]\npassword \n";
    let told = mistakes(text);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("line 2: not TOML"), "{told:?}");
    assert!(told[1].starts_with("line 5: not TOML"), "{told:?}");
}

#[test]
fn empty_file() {
    check_mistakes(
        "",
        &[
            "no users: nobody could connect; add [users.NAME] with a password",
            "no databases: nothing to connect to; add [databases.NAME] with servers = [\"host:5432\"]",
        ],
    );
}

#[test]
fn empty_tables() {
    check_mistakes(
        "[users]\n[databases]\n",
        &[
            "line 1: users: no users: nobody could connect; add [users.NAME] with a password",
            "line 2: databases: no databases: nothing to connect to; add [databases.NAME] with \
             servers = [\"host:5432\"]",
        ],
    );
}

#[test]
fn a_file_that_is_not_there_is_a_mistake() {
    let errors = load(Path::new("/nonexistent/ringway.toml"))
        .err()
        .unwrap()
        .to_string();
    assert!(
        errors.starts_with("/nonexistent/ringway.toml: 1 mistake\n  cannot be read"),
        "{errors}"
    );
}

#[test]
fn unknown_keys_name_the_likely_one() {
    check_mistakes(
        &with_user(
            "[databases.shop]\nserver = [\"a:1\"]\nservers = [\"a:1\"]\nreads = { spilt = true, zzz = 1 }\n[user.b]\n",
        ),
        &[
            "line 4: databases.shop.server: unknown key; did you mean `servers`?",
            "line 6: databases.shop.reads.spilt: unknown key; did you mean `split`?",
            "line 6: databases.shop.reads.zzz: unknown key; known here: balance, blind_ms, causal_ttl_ms, eject_ms, freshness, max_lag_ms, max_wait_ms, outlier_factor, outlier_failures, outlier_latency_ms, poll_interval_ms, primary_reads, retry, return_after, slow_start_ms, split, transactions, weights, zone, zones",
            "line 7: user: unknown key; did you mean `users`?",
        ],
    );
}

#[test]
fn a_key_in_the_wrong_section_is_told_where_it_belongs() {
    check_mistakes(
        &with_user(
            "[general]\npool_size = 3\n[databases.shop]\nservers = [\"a:1\"]\nlisten = \"127.0.0.1:1\"\nreads = { dbname = \"x\" }\n",
        ),
        &[
            "line 4: general.pool_size: unknown key; it is a key of [users.app]",
            "line 7: databases.shop.listen: unknown key; it is a key of [general]",
            "line 8: databases.shop.reads.dbname: unknown key; it is a key of [databases.shop]",
        ],
    );
}

#[test]
fn wrong_types() {
    check_mistakes(
        &with_user(
            "password_file = 5\n[databases.shop]\nservers = [1]\npool_size = \"20\"\nshards = 1.5\n",
        ),
        &[
            "line 3: users.app.password_file: the password is given twice, by password and by \
             password_file; keep one of them",
            "line 5: databases.shop.servers[0]: expected a string, found a whole number",
            "line 6: databases.shop.pool_size: expected a whole number, found a string",
            "line 7: databases.shop.shards: expected an array of tables, found a fraction",
        ],
    );
}

#[test]
fn the_admin_database_keeps_its_name() {
    check_mistakes(
        &with_user("[databases.ringway]\nservers = \"a:1\"\n"),
        &[
            "line 3: databases.ringway: \"ringway\" is the name of the admin database; choose \
           another name; dbname keeps the name on the servers",
        ],
    );
}

#[test]
fn log_level_is_a_filter() {
    let general = |level: &str| {
        let database = "[databases.shop]\nservers = \"a:1\"\n";
        mistakes(&with_user(&format!(
            "[general]\nlog_level = \"{level}\"\n{database}"
        )))
    };
    assert_eq!(general("info,ringway::pool=debug"), Vec::<String>::new());
    assert!(general("info,ringway=loud")[0].starts_with("line 4: general.log_level: "));
}

#[test]
fn admin_users_exist() {
    check_mistakes(
        &with_user("[general]\nadmin_users = [\"ap\"]\n[databases.shop]\nservers = \"a:1\"\n"),
        &["line 4: general.admin_users[0]: there is no user \"ap\"; did you mean `app`?"],
    );
}

#[test]
fn servers_are_host_and_port() {
    let bad = [
        "a", "a:0", ":5432", "::1:5432", "[x]:5432", "a b:1", "x/y:1", "a:99999",
    ];
    for server in bad {
        let told = mistakes(&with_user(&format!(
            "[databases.shop]\nservers = [\"{server}\"]\n"
        )));
        assert_eq!(told.len(), 1, "{server}: {told:?}");
        assert!(told[0].contains("databases.shop.servers[0]"), "{told:?}");
    }
    let good = ["a:1", "[::1]:5432", "/var/run/postgresql:5432"];
    for server in good {
        let config = parse_text(&with_user(&format!(
            "[databases.shop]\nservers = \"{server}\"\n"
        )))
        .unwrap();
        assert_eq!(shop(&config).shards[0].endpoints[0].to_string(), server);
    }
}

#[test]
fn two_shards_do_not_share_a_database() {
    let shards = "[[databases.shop.shards]]\nname = \"s1\"\nservers = \"a:1\"\n\
                  [[databases.shop.shards]]\nname = \"s1\"\nservers = [\"a:1\", \"a:1\"]\n";
    check_mistakes(
        &with_user(&format!("[databases.shop]\nserver_user = \"u\"\n{shards}")),
        &[
            "line 9: databases.shop.shards[1].name: there is a shard \"s1\" already",
            "line 10: databases.shop.shards[1].servers: database \"shop\" on a:1 already belongs \
             to shard \"s1\"; give each shard servers of its own, or another dbname",
            "line 10: databases.shop.shards[1].servers[1]: a:1 is listed twice",
        ],
    );
}

#[test]
fn several_servers_need_a_user_to_ask_with() {
    let database = "[databases.shop]\nservers = [\"a:1\", \"b:1\"]\n";
    let config = parse_text(&with_user(database)).unwrap();
    assert_eq!(
        shop(&config).monitor_user.as_ref().map(|user| &*user.name),
        Some("app")
    );
    check_mistakes(
        &with_user(&format!("[users.b]\nauth = \"trust\"\n{database}")),
        &[
            "line 5: databases.shop: the primary has to be found among several servers, and there \
           is no user to ask with; write server_user or monitor_user, a role that is a member of \
           pg_monitor",
        ],
    );
}

#[test]
fn verifiers_are_checked_and_not_shown() {
    let database = "[databases.shop]\nservers = \"a:1\"\n";
    let with = |verifier: &str| format!("[users.app]\nverifier = \"{verifier}\"\n{database}");
    let key = "c3RvcmVkc3RvcmVkc3RvcmVkc3RvcmVkc3RvcmVkIDE=";
    let good = format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}");
    let md5 = format!("md5{}", "0".repeat(32));
    for verifier in [&good, &md5] {
        assert_eq!(mistakes(&with(verifier)), Vec::<String>::new());
    }
    for verifier in [
        "x",
        "md5abc",
        &good.replace("4096", "0"),
        &good.replace(key, "c3Q="),
        &good.replace("c2FsdA==", "c2F!"),
    ] {
        check_mistakes(
            &with(verifier),
            &[
                "line 2: users.app.verifier: not a SCRAM-SHA-256 verifier; copy rolpassword from \
               pg_authid: SCRAM-SHA-256$4096:salt$stored:server",
            ],
        );
    }
}

/// A directory with these files, and the configuration file in it.
fn with_files(files: &[(&str, &str)], text: &str) -> Result<Config, ConfigErrors> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let path = directory.path().join("ringway.toml");
    let config = parse(text, &path, &|_| None);
    config.map_err(|mut errors| {
        let base = format!("{}/", directory.path().display());
        for mistake in &mut errors.mistakes {
            mistake.what = mistake.what.replace(&base, "");
        }
        errors
    })
}

fn told(config: Result<Config, ConfigErrors>) -> Vec<String> {
    let errors = config.err().map(|errors| errors.mistakes);
    let mistakes = errors.unwrap_or_default();
    mistakes.iter().map(ToString::to_string).collect()
}

#[test]
fn users_come_from_a_userlist_too() {
    let md5 = format!("\"old\" \"md5{}\"\n", "a".repeat(32));
    let list = format!("\"app\" \"pencil\"\n{md5}\"both\" \"x\"\n");
    let text = "[auth]\nusers_file = \"userlist.txt\"\n[users.both]\nauth = \"md5\"\n\
                [general]\nadmin_users = [\"app\"]\n[databases.shop]\nservers = \"a:1\"\n";
    let config = with_files(&[("userlist.txt", &list)], text).unwrap();
    let of = |name: &str| (config.users[name].method, config.users[name].secret.clone());
    let plain = |text: &str| StoredSecret::Plain(Secret(text.into()));
    assert_eq!(of("app"), (Method::Scram, plain("pencil")));
    assert_eq!(of("old").0, Method::Md5);
    assert_eq!(of("both"), (Method::Md5, plain("x")));

    let text = format!("{text}[users.app]\npassword = \"y\"\n");
    let found = told(with_files(
        &[("userlist.txt", "\"app\" \"x\"\nwrong\n")],
        &text,
    ));
    assert_eq!(
        found,
        [
            "line 2: auth.users_file: userlist.txt line 2: not a user and a secret, both in \
             quotes; write \"name\" \"password, md5 hash or SCRAM verifier\"",
            "line 9: users.app: the user's password is in users_file too; keep one of the two",
        ]
    );
}

#[test]
fn rules_come_from_a_file_or_the_toml() {
    let shop = "[users.app]\n[databases.shop]\nservers = \"a:1\"\n";
    let file = format!("[auth]\nhba_file = \"pg_hba.conf\"\nident_file = \"ident\"\n{shop}");
    let rules = "local all all peer map=m\nhost all all 10.0.0.0/8 scram-sha-256\n";
    let config = with_files(&[("pg_hba.conf", rules), ("ident", "m root app\n")], &file).unwrap();
    assert_eq!(config.auth.hba.unwrap().rules.len(), 2);

    let rules = "host all all samenet md5\nhostssl all all all cert\nlocal all all peer map=x\n";
    let found = told(with_files(
        &[("pg_hba.conf", rules), ("ident", "m root\n")],
        &file,
    ));
    let lines: Vec<_> = found
        .iter()
        .map(|line| line.split(": ").nth(2).unwrap())
        .collect();
    let expected = [
        "pg_hba.conf line 1",
        "pg_hba.conf line 2",
        "pg_hba.conf line 3",
        "ident line 1",
    ];
    assert_eq!(lines, expected, "{found:#?}");

    let inline = format!(
        "[[auth.hba]]\ntype = \"hostssl\"\ndatabase = [\"shop\", \"other\"]\nuser = \"/^app\"\n\
         address = \"10.0.0.0\"\nmask = \"255.0.0.0\"\nmethod = \"scram-sha-256\"\n{shop}"
    );
    let config = parse_text(&inline).unwrap();
    let visitor = hba::Visitor {
        database: "other",
        user: "app7",
        address: Some("10.1.1.1".parse().unwrap()),
        is_tls: true,
        is_replication: false,
    };
    let rule = config.auth.hba.as_ref().unwrap().find(&visitor).unwrap();
    assert_eq!((rule.line, rule.method), (1, Method::Scram));
    let wrong = inline
        .replace("scram-sha-256", "password")
        .replace("hostssl", "host");
    check_mistakes(
        &wrong,
        &[
            "line 1: auth.hba[0]: \"password\" would be sent in the clear; write hostssl, or \
           scram-sha-256",
        ],
    );
    check_mistakes(
        &format!("[[auth.hba]]\ntype = \"host\"\nuser = \"all\"\ndatabase = \"all\"\n{shop}"),
        &["line 1: auth.hba[0]: method is missing"],
    );
}

#[test]
fn methods_that_need_tls_say_so() {
    let text = "[users.a]\npassword = \"x\"\nauth = \"password\"\n[users.b]\nauth = \"cert\"\n\
                [users.c]\nauth = \"peer\"\n[databases.shop]\nservers = \"a:1\"\n";
    check_mistakes(
        text,
        &[
            "line 3: users.a.auth: \"password\" would be sent in the clear; write [tls], or auth = \
             \"scram-sha-256\"",
            "line 5: users.b.auth: clients' certificates cannot be checked; write client_ca in \
             [tls], the authority that signed them",
        ],
    );
}

#[test]
fn a_database_may_be_asked_for_users() {
    let text = "[auth]\nauth_user = \"asker\"\nauth_password = \"p\"\nauth_dbname = \"shop\"\n\
                auth_query_ttl_s = 0\n\
                [databases.shop]\nservers = \"a:1\"\n\
                [databases.own]\nservers = \"a:1\"\nauth_user = \"other\"\n\
                auth_query = \"SELECT * FROM f.lookup($1)\"\n";
    let config = parse_text(text).unwrap();
    let of = |name: &str| config.databases[name].auth_query.clone().unwrap();
    let password = ServerSecret::Password(Secret("p".into()));
    assert_eq!(of("shop").user.secret, password);
    assert_eq!(of("shop").query, DEFAULT_AUTH_QUERY);
    assert_eq!(of("shop").dbname.as_deref(), Some("shop"));
    assert_eq!(of("own").user.secret, ServerSecret::None);
    assert_eq!(of("own").query, "SELECT * FROM f.lookup($1)");
    assert_eq!(config.auth.query_ttl, Duration::ZERO);
    // Who asks for users watches servers too, unless somebody else is named.
    assert_eq!(config.databases["shop"].monitor_user, Some(of("shop").user));

    let text = "[auth]\nauth_user = \"asker\"\nauth_dbname = \"shp\"\nauth_query = \"SELECT 1\"\n\
                [databases.shop]\nservers = \"a:1\"\n";
    check_mistakes(
        text,
        &[
            "line 3: auth.auth_dbname: there is no database \"shp\"; did you mean `shop`?",
            "line 4: auth.auth_query: the query does not ask for one user; write $1 where the \
             user's name belongs",
        ],
    );
    let text = with_user("[databases.shop]\nservers = \"a:1\"\nauth_query = \"SELECT $1\"\n");
    check_mistakes(
        &text,
        &["line 5: databases.shop.auth_query: auth_query without auth_user; write auth_user too"],
    );
}

#[test]
fn no_secret_is_in_the_settings_that_are_shown() {
    let text = "[auth]\nauth_user = \"asker\"\nauth_password = \"hidden1\"\n\
                [users.app]\npassword = \"hidden2\"\n\
                [databases.shop]\nservers = \"a:1\"\nserver_user = \"s\"\n\
                server_password = \"hidden3\"\nmonitor_user = \"m\"\n\
                monitor_password = \"hidden4\"\nauth_user = \"o\"\nauth_password = \"hidden5\"\n";
    let config = parse_text(text).unwrap();
    let shown = format!("{:?}\n{config:?}", entries(&config));
    assert!(!shown.contains("hidden"), "{shown}");
    let hidden = entries(&config)
        .into_iter()
        .filter(|entry| entry.value == "***");
    let hidden: Vec<_> = hidden.map(|entry| entry.key).collect();
    let expected = [
        "auth.auth_password",
        "databases.shop.server_password",
        "databases.shop.monitor_password",
        "databases.shop.auth_password",
    ];
    assert_eq!(hidden, expected);
}

#[test]
fn secrets_come_from_files_and_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), "of the file\n").unwrap();
    let text = "[users.a]\npassword_file = \"secret\"\n[users.b]\npassword_env = \"B\"\n\
                [databases.shop]\nservers = \"a:1\"\n";
    let file = directory.path().join("ringway.toml");
    let env = |name: &str| (name == "B").then(|| "of the environment".to_owned());
    let config = parse(text, &file, &env).unwrap();
    assert_eq!(
        config.users["a"].secret,
        StoredSecret::Plain(Secret("of the file".into()))
    );
    assert_eq!(
        config.users["b"].secret,
        StoredSecret::Plain(Secret("of the environment".into()))
    );

    let errors = parse(text, Path::new("/nonexistent/ringway.toml"), &|_| None)
        .err()
        .unwrap();
    let told: Vec<String> = errors.mistakes.iter().map(ToString::to_string).collect();
    assert!(told[0].starts_with("line 2: users.a.password_file: /nonexistent/secret cannot be"));
    assert_eq!(
        told[1],
        "line 4: users.b.password_env: the environment has no variable B"
    );
    assert_eq!(told.len(), 2);
}

#[test]
fn certificates_are_read_when_the_file_is() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("server.crt", &made.cert.pem());
    write("server.key", &made.key_pair.serialize_pem());
    let told = |tls: &str| {
        let text = with_user(&format!(
            "[databases.shop]\nservers = \"a:1\"\n[tls]\n{tls}\n"
        ));
        match parse(&text, &directory.path().join("ringway.toml"), &|_| None) {
            Ok(_) => Vec::new(),
            Err(errors) => errors
                .mistakes
                .into_iter()
                .map(|m| (m.path, m.what))
                .collect(),
        }
    };
    let right = "certificate = \"server.crt\"\nprivate_key = \"server.key\"";
    assert_eq!(told(right), []);
    let swapped = told("certificate = \"server.key\"\nprivate_key = \"server.crt\"");
    assert_eq!(swapped.len(), 2, "{swapped:?}");
    assert!(
        swapped[0]
            .1
            .ends_with("server.key is no PEM: no certificate in it"),
        "{swapped:?}"
    );
    let missing = told("certificate = \"absent.crt\"");
    assert_eq!(
        missing[0],
        ("tls".to_owned(), "private_key is missing".to_owned())
    );
    assert!(
        missing[1].1.contains("absent.crt cannot be read"),
        "{missing:?}"
    );
}

#[test]
fn table_names_fold_as_in_sql() {
    let shard = "[[databases.shop.shards]]\nname = \"s1\"\nservers = \"a:1\"\n";
    let tables = "[databases.shop.tables]\nOrders = { key = \"ID\" }\n\"Sales.X\" = \"reference\"\n\
                  '\"Odd\"\".N\".t' = \"reference\"\n";
    let config = parse_text(&with_user(&format!("{shard}{tables}"))).unwrap();
    let names: Vec<_> = shop(&config)
        .tables
        .keys()
        .map(|(s, t)| (s.as_str(), t.as_str()))
        .collect();
    assert_eq!(
        names,
        [("Odd\".N", "t"), ("public", "orders"), ("sales", "x")]
    );
    let twice = with_user(&format!(
        "{shard}{tables}\"public.orders\" = \"reference\"\na.b.c = 1\n\"a.\" = 1\n"
    ));
    let told = mistakes(&twice);
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(
        told.iter().any(|line| line.contains("declared twice")),
        "{told:?}"
    );
}

#[test]
fn default_ids_are_columns_of_sharded_tables() {
    let shard = "[[databases.shop.shards]]\nname = \"s1\"\nservers = \"a:1\"\n";
    let tables = "[databases.shop.tables]\nt = { key = \"id\", default_id = \"ID\" }\n";
    let config = parse_text(&with_user(&format!("{shard}{tables}"))).unwrap();
    let t = ("public".to_owned(), "t".to_owned());
    assert_eq!(shop(&config).default_ids.get(&t), Some(&"id".to_owned()));
    let wrong =
        "u = { shard = \"s1\", default_id = \"id\" }\nv = { key = \"id\", default_id = \"a b\" }\n";
    let told = mistakes(&with_user(&format!("{shard}{tables}{wrong}")));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("only sharded tables get ids"), "{told:?}");
    assert!(told[1].contains("not a column's name"), "{told:?}");
}

#[test]
fn overrides_name_slots_once() {
    let shard = "[[databases.shop.shards]]\nname = \"s1\"\nservers = \"a:1\"\n";
    let slots = "slot_overrides = [{ slots = [\"0-9\", \"9\"], shard = \"s1\" }, { slots = \"16384\", shard = \"s1\" }]\n";
    let told = mistakes(&with_user(&format!("[databases.shop]\n{slots}{shard}")));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].contains("slots[1]: slot 9 is in an earlier override too"),
        "{told:?}"
    );
    assert!(told[1].contains("\"16384\" is not a range"), "{told:?}");
}

#[test]
fn overrides_by_remainder_are_those_of_hash_partitions() {
    let shards = "[[databases.shop.shards]]\nname = \"s1\"\nservers = \"a:1\"\n\
                  [[databases.shop.shards]]\nname = \"s2\"\nservers = \"b:1\"\n";
    let of = |entries: &str| {
        let entries = format!("[databases.shop]\nslot_overrides = [{entries}]\n{shards}");
        with_user(&entries)
    };
    let by = |modulus: u32, remainder: u32, shard: &str| {
        format!("{{ modulus = {modulus}, remainder = {remainder}, shard = \"{shard}\" }}")
    };
    let monitor = "[databases.shop]\nmonitor_user = \"m\"\n";
    let of = |entries: &str| of(entries).replace("[databases.shop]\n", monitor);
    let all = [by(2, 1, "s1"), by(4, 0, "s2"), by(4, 2, "s1")].join(", ");
    let config = parse_text(&of(&all)).unwrap();
    for slot in 0..planner::ring::SLOTS as u16 {
        let owner = u16::from(slot % 4 == 0);
        assert_eq!(shop(&config).topology.owner(slot), ShardId(owner), "{slot}");
    }
    let twice = format!("{}, {{ slots = \"7\", shard = \"s1\" }}", by(2, 1, "s2"));
    let both = "{ slots = \"7\", modulus = 2, remainder = 1, shard = \"s1\" }";
    let half = "{ modulus = 2, shard = \"s1\" }";
    for (entries, what) in [
        (by(3, 0, "s1").as_str(), "3 does not divide the 16384 slots"),
        (&by(2, 2, "s1"), "2 is no remainder of 2"),
        (&twice, "slot 7 is in an earlier override too"),
        (both, "slots are given twice"),
        (half, "no remainder"),
        ("{ shard = \"s1\" }", "no slots"),
    ] {
        let told = mistakes(&of(entries));
        assert!(
            told.iter().any(|told| told.contains(what)),
            "{what}: {told:?}"
        );
    }
}

#[test]
fn a_database_has_the_tcp_options_of_all_but_for_its_own() {
    let text = with_user(
        "[general]\ntcp_keepalive_idle_s = 0\ntcp_user_timeout_ms = 700\n\
         [databases.a]\nservers = \"a:1\"\n\
         [databases.b]\nservers = \"b:1\"\ntcp_user_timeout_ms = 0\ntcp_keepalive_count = 3\n",
    );
    let config = parse_text(&text).unwrap();
    let general = config.general.tcp;
    assert_eq!(general.user_timeout, Some(Duration::from_millis(700)));
    assert_eq!(config.databases["a"].tcp, general);
    let own = config.databases["b"].tcp;
    assert_eq!(
        (own.keepalive_idle, own.keepalive_count),
        (Duration::ZERO, 3)
    );
    assert_eq!(own.user_timeout, None);
}

#[test]
fn entries_never_show_secrets() {
    for entry in entries(&example("ringway.toml")) {
        assert!(!entry.value.contains("change me"), "{entry:?}");
    }
    assert!(!format!("{:?}", example("ringway.toml")).contains("change me"));
}

#[test]
fn a_new_address_needs_a_restart_and_a_new_pool_size_does_not() {
    let old = example("pooler.toml");
    let mut new = example("pooler.toml");
    new.general.max_clients = 1;
    new.databases.clear();
    assert_eq!(diff_needs_restart(&old, &new), Vec::<String>::new());
    new.general.listen.clear();
    new.general.workers = 7;
    assert_eq!(
        diff_needs_restart(&old, &new),
        ["general.listen", "general.workers"]
    );
}

proptest::proptest! {
    /// Any text ends in a configuration or in mistakes.
    #[test]
    fn any_text_gets_an_answer(text in "(\\[{1,2}(databases|users|general|a)(\\.b)?\\]{1,2}\n|[a-z_]{1,9} = (\"[^\"\n]{0,9}\"|[0-9]{1,20}|\\{\\}|\\[\\])\n|\\PC{0,9}){0,12}") {
        if let Err(errors) = parse_text(&text) {
            proptest::prop_assert!(!errors.mistakes.is_empty());
        }
    }
}

#[test]
fn a_peer_id_of_the_environment_is_a_number_and_the_only_one() {
    let told = |line: &str, value: Option<&str>| {
        let text = format!(
            "[general]\n{line}\n[users.a]\nauth = \"trust\"\n[databases.d]\nservers = \"h:1\"\n"
        );
        match parse(&text, Path::new("test.toml"), &|_| value.map(str::to_owned)) {
            Ok(config) => format!("{:?}", config.general.peer_id),
            Err(errors) => errors.mistakes[0].to_string(),
        }
    };
    let line = "peer_id_env = \"ID\"";
    assert_eq!(told(line, Some("1023")), "Some(1023)");
    for value in ["0", "1024", "", "one"] {
        assert_eq!(
            told(line, Some(value)),
            format!(
                "line 2: general.peer_id_env: ID is \"{value}\"; set it to a number from 1 to 1023"
            )
        );
    }
    assert_eq!(
        told(line, None),
        "line 2: general.peer_id_env: the environment has no variable ID; set it to a number of this process"
    );
    assert_eq!(
        told(&format!("peer_id = 1\n{line}"), Some("1")),
        "line 3: general.peer_id_env: peer_id is given twice; keep one of the two"
    );
}
