//! Clients log in as psql does: by every method, with users from every source, and on to servers
//! without a plain password.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, KeyPair};
use ringway::demo::captive::{Auth, CaptiveCluster, Signal, Spec};
use tempfile::TempDir;

use crate::support::wire::{Wire, digest, frame};
use crate::support::{self, Ringway};

/// One server that asks for passwords. Shared by the tests of this file and of `cve`, each of which
/// has roles of its own.
pub fn cluster() -> &'static CaptiveCluster {
    static CLUSTER: OnceLock<CaptiveCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = support::cluster(&Spec {
            auth: Auth::Scram("super".to_owned()),
            hba: vec!["host all md5_a,md5_b all md5".to_owned()],
            ..Spec::default()
        });
        sql(
            &cluster,
            "CREATE TABLE public.canary (id int); GRANT SELECT ON public.canary TO public",
        );
        cluster
    })
}

pub fn sql(cluster: &CaptiveCluster, text: &str) -> String {
    let primary = &cluster.shards[0].primary;
    let answer = primary.exec_in("shop", text);
    answer.unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What stands in pg_authid.
fn rolpassword(role: &str) -> String {
    let query = format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'");
    sql(cluster(), &query).trim().to_owned()
}

pub fn database(extra: &str) -> String {
    let port = cluster().shards[0].primary.port;
    format!("\n[databases.shop]\nservers = [\"127.0.0.1:{port}\"]\n{extra}")
}

pub const AS_SUPERUSER: &str = "server_user = \"ringway\"\nserver_password = \"super\"\n";

/// psql's answer to SELECT current_user, or its error.
pub fn log_in(port: u16, parameters: &str) -> Result<String, String> {
    let conninfo =
        format!("host=localhost hostaddr=127.0.0.1 port={port} dbname=shop {parameters}");
    let output = Command::new("psql")
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-w",
            "-c",
            "SELECT current_user",
            &conninfo,
        ])
        .env_remove("PGPASSWORD")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

#[track_caller]
pub fn check(port: u16, parameters: &str, expected: Result<&str, &str>) {
    match (log_in(port, parameters), expected) {
        (Ok(user), Ok(expected)) => assert_eq!(user, expected, "{parameters}"),
        (Err(error), Err(expected)) => assert!(error.contains(expected), "{parameters}: {error}"),
        (found, expected) => panic!("{parameters}: {found:?} instead of {expected:?}"),
    }
}

/// An authority, the server's certificate and those of clients, in PEM files.
struct Certificates {
    directory: TempDir,
    authority: Certificate,
    key: KeyPair,
}

impl Certificates {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.crt"), authority.pem()).unwrap();
        let made = Self {
            directory,
            authority,
            key,
        };
        made.sign("server", "localhost");
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn sign(&self, file: &str, name: &str) {
        use std::os::unix::fs::PermissionsExt;
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Corp, Inc.");
        let signed = params.signed_by(&key, &self.authority, &self.key).unwrap();
        std::fs::write(self.path(&format!("{file}.crt")), signed.pem()).unwrap();
        let file = self.path(&format!("{file}.key"));
        std::fs::write(&file, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn toml(&self) -> String {
        let of = |name: &str| self.path(name).display().to_string();
        format!(
            "\n[tls]\ncertificate = {:?}\nprivate_key = {:?}\nclient_ca = {:?}\n",
            of("server.crt"),
            of("server.key"),
            of("ca.crt")
        )
    }

    /// libpq's parameters to verify the server and to show `name`'s certificate.
    fn libpq(&self, name: &str) -> String {
        let of = |name: &str| self.path(name).display().to_string();
        let own = match name {
            "" => String::new(),
            name => format!(
                "sslcert={} sslkey={}",
                of(&format!("{name}.crt")),
                of(&format!("{name}.key"))
            ),
        };
        format!("sslmode=verify-full sslrootcert={} {own}", of("ca.crt"))
    }
}

const RULES: &str = "\
# type database user address method
host     all  scram,hashed 127.0.0.1/32  scram-sha-256
host     all  m_plain,m_hash,m_scram all  md5
hostssl  all  clear        all           password
hostssl  all  alice,ghost  all           cert map=people
hostssl  all  carol        all           cert clientname=DN map=people
hostssl  all  both         all           scram-sha-256 clientcert=verify-full
hostssl  all  /^ca_        all           scram-sha-256 clientcert=verify-ca
host     all  open,stranger all          trust
host     all  shut         all           reject
";

/// `pencil`.
const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
    $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

#[test]
fn each_method_lets_in_who_proves_itself() {
    let certificates = Certificates::new();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    for (file, name) in [
        ("alice", "alice@corp"),
        ("both", "both"),
        ("other", "mallory"),
    ] {
        certificates.sign(file, name);
    }
    // md5('pencil' || 'hashed') and md5('pencil' || 'm_hash')
    let md5 = |user: &str| sql(cluster(), &format!("SELECT 'md5' || md5('pencil{user}')"));
    let users = format!(
        "\"scram\" \"{VERIFIER}\"\n\"hashed\" \"{}\"\n\"m_plain\" \"pencil\"\n\"m_hash\" \"{}\"\n\
         \"m_scram\" \"{VERIFIER}\"\n\"clear\" \"{VERIFIER}\"\n\"both\" \"pencil\"\n\
         \"ca_bob\" \"pencil\"\n\"open\" \"\"\n\"shut\" \"pencil\"\n\"alice\" \"\"\n\"carol\" \"\"\n",
        md5("hashed").trim(),
        md5("m_hash").trim(),
    );
    let ident = "people /^(.*)@corp$ \\1\npeople \"O=Corp\\, Inc.,CN=alice@corp\" carol\n";
    let toml = |port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\n[auth]\nusers_file = {:?}\nhba_file = {:?}\n\
             ident_file = {:?}\n{}{}",
            write("userlist.txt", &users),
            write("pg_hba.conf", RULES),
            write("pg_ident.conf", ident),
            certificates.toml(),
            database(AS_SUPERUSER)
        )
    };
    let ringway = Ringway::start(toml);
    let port = ringway.port();
    let (tls, plain) = (certificates.libpq(""), "sslmode=disable".to_owned());
    let (alice, both, other) = (
        certificates.libpq("alice"),
        certificates.libpq("both"),
        certificates.libpq("other"),
    );
    let wrong = Err("password authentication failed for user");
    let cases: &[(&str, &str, Result<&str, &str>)] = &[
        ("scram", "password=pencil", Ok("ringway")),
        ("scram", "password=Pencil", wrong),
        ("scram", "password=''", Err("no password supplied")),
        // An md5 hash is of no use for SCRAM.
        ("hashed", "password=pencil", wrong),
        ("m_plain", "password=pencil", Ok("ringway")),
        ("m_plain", "password=pen", wrong),
        ("m_hash", "password=pencil", Ok("ringway")),
        ("m_hash", "password=pen", wrong),
        ("m_scram", "password=pencil", Ok("ringway")),
        (
            "nobody",
            "password=pencil",
            Err("no pg_hba.conf entry for host \"127.0.0.1\", user \"nobody\", database \"shop\""),
        ),
        ("open", "", Ok("ringway")),
        ("stranger", "", Err("role \"stranger\" does not exist")),
        (
            "shut",
            "password=pencil",
            Err("pg_hba.conf rejects connection for host \"127.0.0.1\", user \"shut\""),
        ),
    ];
    for (user, parameters, expected) in cases {
        for security in [&plain, &tls] {
            check(
                port,
                &format!("user={user} {parameters} {security}"),
                *expected,
            );
        }
    }
    let no_entry = Err("no encryption");
    let secured: &[(&str, &str, &str, Result<&str, &str>)] = &[
        (
            "scram",
            "password=pencil channel_binding=require",
            &tls,
            Ok("ringway"),
        ),
        ("scram", "password=pen channel_binding=require", &tls, wrong),
        (
            "scram",
            "password=pencil channel_binding=disable",
            &tls,
            Ok("ringway"),
        ),
        ("clear", "password=pencil", &tls, Ok("ringway")),
        ("clear", "password=pen", &tls, wrong),
        ("clear", "password=pencil", &plain, no_entry),
        ("alice", "", &alice, Ok("ringway")),
        (
            "alice",
            "",
            &tls,
            Err("connection requires a valid client certificate"),
        ),
        (
            "alice",
            "",
            &other,
            Err("certificate authentication failed for user \"alice\""),
        ),
        // Without the certificate it is not told whether the user exists.
        (
            "ghost",
            "",
            &alice,
            Err("certificate authentication failed for user \"ghost\""),
        ),
        ("carol", "", &alice, Ok("ringway")),
        (
            "carol",
            "",
            &other,
            Err("certificate authentication failed"),
        ),
        ("both", "password=pencil", &both, Ok("ringway")),
        (
            "both",
            "password=pencil",
            &alice,
            Err("certificate authentication failed"),
        ),
        ("both", "password=pen", &both, wrong),
        (
            "both",
            "password=pencil",
            &tls,
            Err("requires a valid client certificate"),
        ),
        ("ca_bob", "password=pencil", &other, Ok("ringway")),
        ("ca_bob", "password=pencil", &plain, no_entry),
    ];
    for (user, parameters, security, expected) in secured {
        check(
            port,
            &format!("user={user} {parameters} {security}"),
            *expected,
        );
    }
    // A certificate of another authority does not pass the handshake.
    let strangers = Certificates::new();
    strangers.sign("alice", "alice@corp");
    let shown = strangers.libpq("alice").replace(
        &strangers.path("ca.crt").display().to_string(),
        &certificates.path("ca.crt").display().to_string(),
    );
    assert!(log_in(port, &format!("user=alice {shown}")).is_err());
}

fn userlist(directory: &Path, users: &[(&str, &str)]) -> String {
    let lines = users
        .iter()
        .map(|(name, secret)| format!("\"{name}\" \"{secret}\"\n"));
    let path = directory.join("userlist.txt");
    std::fs::write(&path, lines.collect::<String>()).unwrap();
    path.display().to_string()
}

#[test]
fn logins_are_passed_on_without_a_plain_password() {
    sql(
        cluster(),
        "CREATE ROLE scram_a LOGIN PASSWORD 'pencil'; CREATE ROLE scram_b LOGIN PASSWORD 'pencil';
         SET password_encryption = md5; CREATE ROLE md5_a LOGIN PASSWORD 'pencil'",
    );
    let directory = tempfile::tempdir().unwrap();
    let users = userlist(
        directory.path(),
        &[
            ("scram_a", &rolpassword("scram_a")),
            // Another salt than the server's.
            ("scram_b", VERIFIER),
            ("md5_a", &rolpassword("md5_a")),
        ],
    );
    let mut ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\n[auth]\nusers_file = {users:?}\n{}",
            database("")
        )
    });
    let port = ringway.port();
    let wrong = Err("password authentication failed for user");
    for round in 0..2 {
        check(port, "user=scram_a password=pencil", Ok("scram_a"));
        check(port, "user=scram_a password=pen", wrong);
        check(port, "user=md5_a password=pencil", Ok("md5_a"));
        check(port, "user=md5_a password=pen", wrong);
        check(
            port,
            "user=scram_b password=pencil",
            Err("the server keeps another SCRAM verifier for user \"scram_b\""),
        );
        if round == 0 {
            // What was learned outlives a reload that makes everything anew.
            let text = std::fs::read_to_string(ringway.config_file()).unwrap();
            let text = text.replace("[databases.shop]\n", "[databases.shop]\npool_size = 3\n");
            std::fs::write(ringway.config_file(), text).unwrap();
            ringway.proxy.signal(Signal::Hup);
            support::wait_until(std::time::Duration::from_secs(10), "the reload", || {
                ringway.proxy.log().contains("configuration reloaded")
            });
        }
    }
    // The pool grows by itself: several transactions at once.
    let url = format!("postgresql://scram_a:pencil@127.0.0.1:{port}/shop");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (a, b) = (support::client(&url).await, support::client(&url).await);
        for client in [&a, &b] {
            client.batch_execute("BEGIN").await.unwrap();
        }
        let pid = |row: tokio_postgres::Row| row.get::<_, i32>(0);
        let query = "SELECT pg_backend_pid()";
        let first = pid(a.query_one(query, &[]).await.unwrap());
        assert_ne!(first, pid(b.query_one(query, &[]).await.unwrap()));
    });
    let log = ringway.proxy.log();
    assert!(
        !log.contains("pencil") && !log.contains("SCRAM-SHA-256$"),
        "{log}"
    );
}

fn asking(port: u16, extra: &str) -> String {
    format!(
        "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"query_admin\"]\n[auth]\n\
         auth_user = \"ringway\"\nauth_password = \"super\"\nauth_dbname = \"shop\"\n{extra}{}",
        database("")
    )
}

#[test]
fn users_are_asked_for() {
    sql(
        cluster(),
        "CREATE ROLE query_a LOGIN PASSWORD 'pencil'; CREATE ROLE query_admin LOGIN PASSWORD 'x';
         CREATE ROLE query_old LOGIN PASSWORD 'pencil' VALID UNTIL '2001-01-01';
         CREATE ROLE query_none LOGIN; CREATE ROLE query_group PASSWORD 'pencil';
         CREATE ROLE \"Query \"\"Odd\"\"\" LOGIN PASSWORD 'pencil';
         SET password_encryption = md5; CREATE ROLE md5_b LOGIN PASSWORD 'pencil'",
    );
    let ringway = Ringway::start(|port| asking(port, "auth_query_ttl_s = 3600\n"));
    let port = ringway.port();
    let wrong = Err("password authentication failed for user");
    for (parameters, expected) in [
        ("user=query_a password=pencil", Ok("query_a")),
        ("user=query_a password=pen", wrong),
        ("user='Query \"Odd\"' password=pencil", Ok("Query \"Odd\"")),
        ("user='query \"odd\"' password=pencil", wrong),
        ("user=md5_b password=pencil", Ok("md5_b")),
        ("user=query_old password=pencil", wrong),
        ("user=query_none password=pencil", wrong),
        ("user=query_group password=pencil", wrong),
        ("user=query_new password=pencil", wrong),
        (
            "user=query_admin password=x dbname=nowhere",
            Err("database \"nowhere\" does not exist"),
        ),
    ] {
        check(port, parameters, expected);
    }
    let admin = format!("postgresql://query_admin:x@127.0.0.1:{port}/ringway");
    assert!(!support::psql(&admin, "SHOW USERS").contains("pencil"));

    // A changed password is noticed at the first failure; md5 can be checked again at once.
    sql(
        cluster(),
        "ALTER ROLE query_a PASSWORD 'new'; CREATE ROLE query_new LOGIN PASSWORD 'pencil';
         SET password_encryption = md5; ALTER ROLE md5_b PASSWORD 'new'",
    );
    check(port, "user=md5_b password=new", Ok("md5_b"));
    check(port, "user=md5_b password=pencil", wrong);
    check(port, "user=query_a password=new", wrong);
    check(port, "user=query_a password=new", Ok("query_a"));
    check(port, "user=query_a password=pencil", wrong);
    check(port, "user=query_new password=pencil", wrong);
    check(port, "user=query_new password=pencil", Ok("query_new"));
}

#[test]
fn who_logged_in_with_a_password_that_was_changed_leaves_the_new_pool_alone() {
    sql(cluster(), "CREATE ROLE turned LOGIN PASSWORD 'pencil'");
    // Who comes next waits for the one connection.
    let ringway =
        Ringway::start(|port| asking(port, "auth_query_ttl_s = 3600\n") + "pool_size = 1\n");
    let port = ringway.port();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let by = |password: &str| format!("postgresql://turned:{password}@127.0.0.1:{port}/shop");
    let pid = async |client: &tokio_postgres::Client| {
        let row = client.query_one("SELECT pg_backend_pid()", &[]).await;
        row.unwrap().get::<_, i32>(0)
    };
    // What a server reports to such clients is known then: the next one needs none to log in.
    check(port, "user=turned password=pencil", Ok("turned"));
    let old = runtime.block_on(support::client(&by("pencil")));
    sql(cluster(), "ALTER ROLE turned PASSWORD 'new'");
    let wrong = Err("password authentication failed for user");
    check(port, "user=turned password=new", wrong);
    runtime.block_on(async {
        let new = support::client(&by("new")).await;
        let server = pid(&new).await;
        assert_eq!(pid(&old).await, server);
        assert_eq!(pid(&new).await, server);
    });
}

#[test]
fn a_query_that_cannot_be_asked_says_so() {
    sql(cluster(), "CREATE ROLE query_down LOGIN PASSWORD 'pencil'");
    let dead = ringway::demo::captive::free_port().unwrap();
    for (extra, expected) in [
        (
            "auth_query = \"SELECT * FROM lookup($1)\"\n".to_owned(),
            "auth_query does not work",
        ),
        (
            "auth_query = \"SELECT usename FROM pg_shadow WHERE usename = $1\"\n".to_owned(),
            "auth_query does not work",
        ),
        (
            format!(
                "[databases.dead]\nservers = [\"127.0.0.1:{dead}\"]\nconnect_timeout_ms = 300\n"
            ),
            "the server that knows the users cannot be asked",
        ),
    ] {
        let ringway = Ringway::start(|port| {
            let toml = asking(port, &extra) + "[users.query_admin]\nauth = \"trust\"\n";
            match extra.contains("dead") {
                true => toml.replace("auth_dbname = \"shop\"", "auth_dbname = \"dead\""),
                false => toml,
            }
        });
        let port = ringway.port();
        check(port, "user=query_down password=pencil", Err(expected));
        // A query with a column too few answers no row for who does not exist.
        if !extra.contains("SELECT usename FROM") {
            let user = "query_missing";
            check(port, &format!("user={user} password=pencil"), Err(expected));
        }
        assert!(ringway.proxy.log().contains("auth_query failed"));
        // Who proves no password still gets in.
        let admin = format!("postgresql://query_admin@127.0.0.1:{port}/ringway");
        support::psql(&admin, "SHOW VERSION");
    }
}

#[test]
fn a_unix_socket_tells_who_the_peer_is() {
    let directory = tempfile::tempdir().unwrap();
    let who = Command::new("id").arg("-un").output().unwrap();
    let me = String::from_utf8(who.stdout).unwrap().trim().to_owned();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let rules = "local all mapped peer map=os\nlocal all all peer\nhost all all all reject\n";
    let socket = directory.path().display().to_string();
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = [\"127.0.0.1:{port}\", \"{socket}:{port}\"]\n[auth]\n\
             hba_file = {:?}\nident_file = {:?}\n[users.{me}]\n[users.mapped]\n[users.other]\n{}",
            write("pg_hba.conf", rules),
            write("pg_ident.conf", &format!("os {me} mapped\n")),
            database(AS_SUPERUSER)
        )
    });
    let port = ringway.port();
    let failed = Err("Peer authentication failed for user \"other\"");
    for (user, expected) in [
        (me.as_str(), Ok("ringway")),
        ("mapped", Ok("ringway")),
        ("other", failed),
    ] {
        // The later host takes the place of the address.
        let parameters = format!("user={user} hostaddr='' host={socket}");
        check(port, &parameters, expected);
    }
    check(
        port,
        &format!("user={me}"),
        Err("pg_hba.conf rejects connection"),
    );
}

#[test]
fn servers_are_verified_and_shown_a_certificate() {
    use std::os::unix::fs::PermissionsExt;
    let certificates = Certificates::new();
    let readable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(certificates.directory.path(), readable).unwrap();
    certificates.sign("own", "certified");
    let cluster = support::cluster(&Spec {
        auth: Auth::Scram("super".to_owned()),
        hba: vec![
            "hostssl all certified all cert".to_owned(),
            "hostnossl all all all reject".to_owned(),
        ],
        settings: vec![(
            "ssl_ca_file".to_owned(),
            certificates.path("ca.crt").display().to_string(),
        )],
        tls: Some(ringway::demo::captive::Tls {
            certificate: certificates.path("server.crt"),
            private_key: certificates.path("server.key"),
        }),
        ..Spec::default()
    });
    sql(
        &cluster,
        "CREATE ROLE certified LOGIN; CREATE ROLE bound LOGIN PASSWORD 'pencil'",
    );
    let verifier = sql(
        &cluster,
        "SELECT rolpassword FROM pg_authid WHERE rolname = 'bound'",
    );
    let strangers = Certificates::new();
    let server = cluster.shards[0].primary.port;
    let of =
        |certificates: &Certificates, name: &str| certificates.path(name).display().to_string();
    for (mode, host, ca, expected) in [
        ("verify-ca", "127.0.0.1", &certificates, true),
        ("verify-full", "localhost", &certificates, true),
        ("verify-full", "127.0.0.1", &certificates, false),
        ("verify-ca", "127.0.0.1", &strangers, false),
    ] {
        let ringway = Ringway::start(|port| {
            let common = format!(
                "servers = [\"{host}:{server}\"]\nserver_tls = \"{mode}\"\nserver_ca = {:?}\n",
                of(ca, "ca.crt")
            );
            format!(
                "[general]\nlisten = \"127.0.0.1:{port}\"\n[users.bound]\nverifier = {:?}\n\
                 [databases.shop]\n{common}[databases.own]\ndbname = \"shop\"\n{common}\
                 server_user = \"certified\"\nserver_certificate = {:?}\nserver_key = {:?}\n",
                verifier.trim(),
                of(&certificates, "own.crt"),
                of(&certificates, "own.key"),
            )
        });
        let port = ringway.port();
        for (database, user) in [("shop", "bound"), ("own", "certified")] {
            let found = log_in(
                port,
                &format!("user=bound password=pencil dbname={database}"),
            );
            match expected {
                // The server offers channel binding, so that a wrong one would be refused.
                true => assert_eq!(found.as_deref(), Ok(user), "{mode} {host} {database}"),
                false => assert!(found.is_err(), "{mode} {host} {database}"),
            }
        }
    }
}

#[test]
fn the_wildcards_users_are_at_home_nowhere_else() {
    sql(cluster(), "CREATE ROLE wild_a LOGIN PASSWORD 'pencil'");
    let servers = format!(
        "servers = [\"127.0.0.1:{}\"]",
        cluster().shards[0].primary.port
    );
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\n\
             [users.known]\npassword = \"secret\"\n{}\n\
             [databases.tenants]\n{servers}\ndbname = \"shop\"\n{AS_SUPERUSER}\n\
             [databases.\"*\"]\n{servers}\nauth_user = \"ringway\"\nauth_password = \"super\"\n\
             auth_dbname = \"tenants\"\n",
            database(AS_SUPERUSER)
        )
    });
    let port = ringway.port();
    let wrong = Err("password authentication failed for user");
    for (parameters, expected) in [
        ("user=wild_a password=pencil dbname=postgres", Ok("wild_a")),
        ("user=wild_a password=pencil", wrong),
        ("user=wild_a password=pencil dbname=ringway", wrong),
        ("user=known password=secret", Ok("ringway")),
    ] {
        check(port, parameters, expected);
    }
}

#[test]
fn tls_ends_with_a_close_notify_however_a_session_ends() {
    let directory = tempfile::tempdir().unwrap();
    let tls = support::certificate(directory.path());
    let cluster = support::cluster(&Spec::default());
    let server = cluster.shards[0].primary.port;
    let ringway = Ringway::start(|port| {
        format!(
            "[general]\nlisten = \"127.0.0.1:{port}\"\nadmin_users = [\"ringway\"]\n\
             [tls]\ncertificate = \"{}\"\nprivate_key = \"{}\"\n\
             [users.ringway]\nauth = \"trust\"\n\
             [databases.shop]\nservers = [\"127.0.0.1:{server}\"]\n",
            tls.certificate.display(),
            tls.private_key.display(),
        )
    });
    let login = |database: &str| {
        let mut wire = Wire::connect(ringway.port()).encrypted(&tls.certificate);
        let packet = [("user", "ringway"), ("database", database)];
        wire.send_startup(196_608, &packet);
        assert_eq!(digest(&wire.read_to_ready()), "I");
        wire
    };
    for database in ["shop", "ringway"] {
        let mut leaves = login(database);
        leaves.send(b'X', b"");
        assert!(leaves.ends_in_order(), "{database}: Terminate");
        // More than is read before the error is told.
        for unread in [0, 20_000] {
            let mut errs = login(database);
            errs.send_bytes(&[&frame(b'?', b"")[..], &vec![b'x'; unread]].concat());
            let error = errs.read().map(|error| error.code());
            assert_eq!(error.as_deref(), Some("08P01"), "{database}");
            assert!(errs.ends_in_order(), "{database}: protocol error");
        }
    }
    let mut killed = login("shop");
    assert_eq!(killed.ask("SELECT 1"), "1 SELECT 1 I");
    let mut admin = login("ringway");
    admin.query("KILL shop");
    assert_eq!(
        killed.read().map(|error| error.code()),
        Some("57P01".to_owned())
    );
    assert!(killed.ends_in_order(), "KILL");
}
