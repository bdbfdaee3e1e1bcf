//! From an accepted connection to a session: startup, authentication, the first settings.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::BytesMut;

use super::client::Newcomer;
use super::directory::Directory;
use super::exchange::MOST_LOST;
use super::peers::{self, Sender};
use super::replication::{self, Relay};
use super::shared::{Registration, Shared};
use super::{FAREWELL, Login, Session, auth, hints::Told, local, settings, startup, state};
use crate::backend::connect::{ConnectTarget, connect};
use crate::backend::server::{self, Settings};
use crate::config::{ADMIN_DATABASE, PGBOUNCER_DATABASE, ServerSecret, ServerUser};
use crate::error::{Error, Fault};
use crate::executor::database::{Database, Parameters};
use crate::executor::pools::AsUser;
use crate::executor::primary::is_outage;
use crate::net::{self, Instant, Stream};
use crate::pool::cap::Share;
use crate::pool::{Amid, Denied, Lease};
use crate::wire::conn::Conn;
use crate::wire::startup::{
    Opening, Replication, StartupPacket, TlsOffer, open, refuse_with, too_many_clients,
};

/// Handshakes of TLS under way, above which a full process does without: they cost the most of a
/// login, for clients who are refused anyway.
const CROWD: usize = 64;
/// How often a login looks whether it may go on.
const LOOK: Duration = Duration::from_millis(20);

/// What a new connection turned out to be.
pub enum Arrival {
    Session(Box<Session>, Registration),
    Replication(Box<Relay>, Registration),
    /// A connection to the admin database by one who may.
    Admin {
        conn: Conn,
        registration: Registration,
    },
    /// It was a CancelRequest, or it is refused already.
    Over,
}

/// Serves a new connection up to its first ReadyForQuery.
///
/// Cancel safety: dropping the future closes the connection.
pub async fn arrive(stream: Stream, shared: &Arc<Shared>) -> Arrival {
    let directory = shared.directory.load_full();
    let deadline = Instant::now() + directory.config.general.login_timeout;
    let arrival = log_in(stream, shared, &directory, deadline);
    // Later than the waits that end with a word to the client.
    match net::timeout_at(deadline + FAREWELL, arrival).await {
        Ok(arrival) => arrival,
        Err(_) => {
            shared.metrics.login_failures.increment(1);
            Arrival::Over
        }
    }
}

async fn log_in(
    stream: Stream,
    shared: &Arc<Shared>,
    directory: &Arc<Directory>,
    deadline: Instant,
) -> Arrival {
    let required = directory
        .config
        .tls
        .as_ref()
        .is_some_and(|tls| tls.required);
    let crowded = shared.arriving_count() > CROWD && is_full(shared, directory);
    let offer = directory.tls.as_ref().map(|acceptor| TlsOffer {
        acceptor,
        required,
        crowded,
    });
    let (mut stream, buf, packet) = match net::timeout_at(deadline, open(stream, offer)).await {
        // As PostgreSQL, which has no answer to who says nothing.
        Err(_) => {
            shared.metrics.login_failures.increment(1);
            return Arrival::Over;
        }
        Ok(Err(error)) => {
            shared.metrics.login_failures.increment(1);
            tracing::debug!(%error, "connection refused");
            return Arrival::Over;
        }
        Ok(Ok((
            mut stream,
            _,
            Opening::Cancel {
                pid,
                key,
                forwarded,
            },
        ))) => {
            let sender = match forwarded {
                true => Sender::Peer,
                false => Sender::Client,
            };
            peers::cancel(shared, directory, pid, &key, sender).await;
            // The client waits for the end: over TLS it takes a bare one for an attack.
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
            return Arrival::Over;
        }
        Ok(Ok((stream, buf, Opening::Session(packet)))) => (stream, buf, packet),
    };
    let (user, database) = (packet.user.clone(), packet.database.clone());
    // What the client has yet to be told, should its login fail now.
    let mut out = BytesMut::new();
    match welcome(
        &mut stream,
        buf,
        &mut out,
        packet,
        shared,
        directory,
        deadline,
    )
    .await
    {
        Ok(Welcomed::Admin {
            inbox,
            registration,
        }) => Arrival::Admin {
            conn: Conn::new(stream, inbox),
            registration,
        },
        Ok(Welcomed::User {
            inbox,
            db,
            settings,
            parameters,
            told,
            registration,
        }) => {
            let login = Login {
                stream,
                inbox,
                settings,
                parameters,
                told,
            };
            let info = Arc::clone(&registration.info);
            let session = Session::new(login, db, Arc::clone(shared), directory.generation, info);
            Arrival::Session(Box::new(session), registration)
        }
        Ok(Welcomed::Replication {
            inbox,
            db,
            server,
            registration,
        }) => {
            let info = Arc::clone(&registration.info);
            let relay = Relay::new(stream, inbox, server, db, info);
            Arrival::Replication(Box::new(relay), registration)
        }
        Err(error) => {
            shared.metrics.login_failures.increment(1);
            let client = stream.peer_name();
            // While a process is full or a shard has no primary, every client comes again and again.
            let may_flood = error.code == too_many_clients().code || error.code == "57P03";
            if error.fault == Fault::Client {
                tracing::debug!(client, user, database, %error, "login refused");
            } else if !may_flood || shared.may_complain() {
                tracing::warn!(client, user, database, %error, "login failed");
            }
            error.fatal().write_to(&mut out);
            refuse_with(&mut stream, &out).await;
            Arrival::Over
        }
    }
}

fn is_full(shared: &Shared, directory: &Directory) -> bool {
    shared.client_count() >= directory.config.general.max_clients
}

enum Welcomed {
    Replication {
        inbox: BytesMut,
        db: Arc<Database>,
        server: replication::Walsender,
        registration: Registration,
    },
    Admin {
        inbox: BytesMut,
        registration: Registration,
    },
    User {
        inbox: BytesMut,
        db: Arc<Database>,
        settings: Arc<Settings>,
        parameters: Parameters,
        told: Told,
        registration: Registration,
    },
}

async fn welcome(
    stream: &mut Stream,
    mut buf: BytesMut,
    out: &mut BytesMut,
    mut packet: StartupPacket,
    shared: &Arc<Shared>,
    directory: &Directory,
    deadline: Instant,
) -> Result<Welcomed, Error> {
    let of_that_name = directory.config.databases.contains_key(PGBOUNCER_DATABASE);
    if packet.database == PGBOUNCER_DATABASE && !of_that_name {
        packet.database = ADMIN_DATABASE.to_owned();
    }
    let key_len = startup::cancel_key_len(packet.minor());
    let mut registration = shared.register(newcomer(stream, &packet), key_len);
    if shared.client_count() > directory.config.general.max_clients {
        return Err(too_many_clients());
    }
    let who = auth::Applicant {
        user: &packet.user,
        database: &packet.database,
        is_replication: packet.replication == Some(Replication::Physical),
    };
    let authenticators = &directory.authenticators;
    let secret = auth::authenticate(stream, &mut buf, out, who, authenticators);
    let secret = net::timeout_at(deadline, secret).await;
    let secret = secret.map_err(|_| auth_timed_out())??;
    if packet.database == ADMIN_DATABASE {
        if packet.replication.is_some() {
            let message = "the database \"ringway\" has nothing to replicate";
            return Err(Error::new(Fault::Client, "0A000", message));
        }
        let general = &directory.config.general;
        let may_look = [&general.admin_users, &general.stats_users];
        if !may_look.iter().any(|users| users.contains(&packet.user)) {
            return Err(Error::new(
                Fault::Client,
                "42501",
                "permission denied for database \"ringway\"",
            )
            .detail(format!(
                "User \"{}\" is neither in admin_users nor in stats_users.",
                packet.user
            )));
        }
        startup::write_welcome(
            out,
            &admin_parameters(),
            registration.info.pid,
            &registration.info.key,
        );
        send(stream, out).await?;
        return Ok(Welcomed::Admin {
            inbox: buf,
            registration,
        });
    }
    // What needs a server may have to wait for one.
    let limit = directory.config.general.login_timeout;
    let db = database(shared, directory, &packet, &secret);
    let db = net::timeout_at(deadline, db).await;
    let db = db.map_err(|_| kept_waiting(shared.paused.load(Relaxed), limit))??;
    registration.admit(directory, &db)?;
    if db.config.server_user.is_none() {
        shared.learn(&db.config.name, &packet.user, secret.clone());
    }
    if let Some(replication) = packet.replication {
        let mode = directory.pool_settings(&packet.user, &db).mode;
        let user = ClientUser::new(shared, &db, &packet.user).now();
        let mut server = replication::connect(&db, &user, mode, &packet, replication).await?;
        let parameters = std::mem::take(&mut server.parameters).into_iter().collect();
        let info = &registration.info;
        startup::write_welcome(out, &parameters, info.pid, &info.key);
        send(stream, out).await?;
        db.metrics.client_connections.increment(1);
        return Ok(Welcomed::Replication {
            inbox: buf,
            db,
            server,
            registration,
        });
    }
    let mut db = db;
    let (settings, parameters, told) = loop {
        wait_for_catalog(&db, deadline).await?;
        let (settings, told) = startup_settings(&packet, &db)?;
        let application = &registration.info.application;
        let login = ClientUser::new(shared, &db, &packet.user);
        let settings = parameters(&db, &login, Arc::new(settings), application);
        let settings = net::timeout_at(deadline, settings).await;
        match settings.map_err(|_| kept_waiting(db.pools.is_paused(), limit))? {
            Ok((settings, parameters)) => break (settings, parameters, told),
            Err(denied @ (Denied::Error(_) | Denied::Moved)) => return Err(denied.into()),
            Err(Denied::Gone) => {
                let now = shared.directory.load_full();
                db = database(shared, &now, &packet, &secret).await?;
            }
        }
    };
    startup::write_welcome(
        out,
        &parameters,
        registration.info.pid,
        &registration.info.key,
    );
    send(stream, out).await?;
    db.metrics.client_connections.increment(1);
    Ok(Welcomed::User {
        inbox: buf,
        db,
        settings,
        parameters,
        told,
        registration,
    })
}

/// As PostgreSQL words it.
fn auth_timed_out() -> Error {
    let message = "canceling authentication due to timeout";
    Error::new(Fault::Client, "57014", message)
}

/// A login that no server answered within `login_timeout_s`.
fn kept_waiting(is_paused: bool, limit: Duration) -> Error {
    let waited = limit.as_secs();
    let (message, hint) = match is_paused {
        true => (
            "the database is paused",
            "Try again after RESUME in the admin database, or with a user and settings that others \
             have had.",
        ),
        false => (
            "no server was ready for a new client in time",
            "Try again, or look at SHOW POOLS and SHOW REPLICAS in the admin database.",
        ),
    };
    Error::new(Fault::Operator, "57P03", message)
        .detail(format!(
            "A server has to be asked what its settings are for this user and startup packet; the \
             client has waited for one for {waited} seconds (login_timeout_s)."
        ))
        .hint(hint)
}

/// The database that the client asks for, as the wildcard has it if nothing else does.
async fn database(
    shared: &Shared,
    directory: &Directory,
    packet: &StartupPacket,
    secret: &ServerSecret,
) -> Result<Arc<Database>, Error> {
    let name = &packet.database;
    let db = match (directory.database(name), &directory.wildcard) {
        (Some(db), _) => db,
        (None, Some(wildcard)) => {
            ask_for_database(shared, directory, &wildcard.config, packet, secret).await?;
            shared.wild_database(wildcard, name)?
        }
        (None, None) => {
            let message = format!("database \"{name}\" does not exist");
            return Err(Error::new(Fault::Client, "3D000", message));
        }
    };
    if db.pools.is_disabled() {
        let message = format!("database \"{name}\" does not allow connections");
        return Err(Error::new(Fault::Operator, "57P03", message)
            .detail("It was disabled in the admin database.")
            .hint("ENABLE lets clients in again."));
    }
    Ok(db)
}

/// Logs in to a server for a name that nobody has asked for yet: what it says of a database that
/// does not exist is what the client is told, and nothing is kept.
async fn ask_for_database(
    shared: &Shared,
    directory: &Directory,
    config: &crate::config::Database,
    packet: &StartupPacket,
    secret: &ServerSecret,
) -> Result<(), Error> {
    let tls = crate::backend::tls::connector(
        config.server_tls,
        config.server_ca.as_deref(),
        config.server_certificate.as_ref(),
    )?;
    let user = server_user_of(directory, config, &packet.user, || secret.clone());
    // The login has a time limit as a whole.
    while shared.paused.load(Relaxed) {
        net::sleep(LOOK).await;
    }
    let _share = share_of(directory, config, &user).await?;
    let shard = config.shards.first();
    let mut result = Ok(());
    for endpoint in shard.iter().flat_map(|shard| &shard.endpoints) {
        let target = ConnectTarget {
            endpoint: endpoint.clone(),
            dbname: config.dbname_for(&packet.database, 0).to_owned(),
            user: user.name.clone(),
            secret: user.secret.clone(),
            tls: tls.clone(),
            client_encoding: None,
            connect_timeout: config.pool.connect_timeout,
            tcp: config.tcp,
        };
        result = connect(&target).await.map(drop);
        // Another server may be up.
        match &result {
            Err(error) if error.code.starts_with("08") => {}
            Ok(()) | Err(_) => break,
        }
    }
    result
}

/// Room under the cap of the user who asks.
async fn share_of(
    directory: &Directory,
    config: &crate::config::Database,
    user: &ServerUser,
) -> Result<Share, Error> {
    let cap = directory.ledger.user(&user.name);
    let limit = config.pool.checkout_timeout;
    let start = Instant::now();
    loop {
        if let Some(share) = cap.share() {
            return Ok(share);
        }
        if start.elapsed() >= limit {
            let message = "no server connection became free in time";
            return Err(Error::new(Fault::Operator, "53300", message)
                .detail(format!(
                    "User \"{}\" has {} connections, as many as max_user_connections allows.",
                    user.name,
                    cap.used()
                ))
                .hint("Raise max_user_connections or checkout_timeout_ms."));
        }
        net::sleep(LOOK.min(limit)).await;
    }
}

/// On a sharded database nothing can be routed before the tables are known; `deadline` is of the login.
async fn wait_for_catalog(db: &Database, deadline: Instant) -> Result<(), Error> {
    let known = || db.cluster.catalog().version > 0;
    if !known() {
        // The servers are being connected to and read, which has limits of its own.
        let patience = match db.config.is_sharded() {
            true => deadline,
            false => deadline.min(Instant::now() + db.config.pool.connect_timeout),
        };
        let _ = net::timeout_at(patience, db.cluster.first_poll()).await;
    }
    if db.config.is_sharded() && !known() {
        let error = Error::new(
            Fault::Server,
            "57P03",
            "the schema of the database is not known yet",
        );
        return Err(error
            .detail("Ringway reads it from every shard before it routes statements.")
            .hint("Check the servers with SHOW REPLICAS in the database \"ringway\"."));
    }
    Ok(())
}

fn newcomer(stream: &Stream, packet: &StartupPacket) -> Newcomer {
    let application = packet
        .parameters
        .iter()
        .find(|(name, _)| name == "application_name");
    Newcomer {
        user: packet.user.clone(),
        database: packet.database.clone(),
        application: application
            .map(|(_, value)| value.clone())
            .unwrap_or_default(),
        address: stream.peer_name(),
        local: stream.local_addr(),
        tls: stream.is_tls(),
    }
}

/// As whom a client's statements run.
pub(super) struct ClientUser<'a> {
    shared: &'a Shared,
    db: &'a Database,
    client: &'a str,
}

impl<'a> ClientUser<'a> {
    /// Of the client who logged in by that name.
    pub(super) fn new(shared: &'a Shared, db: &'a Database, client: &'a str) -> Self {
        Self { shared, db, client }
    }

    pub(super) fn name(&self) -> &'a str {
        let forced = self.db.config.server_user.as_ref();
        forced.map_or(self.client, |user| &user.name)
    }
}

impl AsUser for ClientUser<'_> {
    fn now(&self) -> ServerUser {
        let directory = self.shared.directory.load();
        let learned = || self.shared.learned(&self.db.config.name, self.client);
        server_user_of(&directory, &self.db.config, self.client, learned)
    }
}

/// The database's `server_user`, else the client's own name with the password that is configured for
/// it, or with what its login was worth.
fn server_user_of(
    directory: &Directory,
    config: &crate::config::Database,
    name: &str,
    learned: impl FnOnce() -> ServerSecret,
) -> ServerUser {
    if let Some(user) = &config.server_user {
        return user.clone();
    }
    let configured = directory.config.users.get(name);
    let secret = configured.map_or(ServerSecret::None, |user| user.secret.for_servers());
    ServerUser {
        name: name.to_owned(),
        secret: match secret {
            ServerSecret::None => learned(),
            known => known,
        },
    }
}

/// The startup packet's settings, as statements that make them so on a server.
fn startup_settings(packet: &StartupPacket, db: &Database) -> Result<(Settings, Told), Error> {
    let catalog = db.cluster.catalog();
    let assumed = settings::Assumptions::of(db, &catalog);
    let mut wanted = Settings::new();
    let mut told = Told::default();
    // As in PostgreSQL, the packet's own parameters come after its command line.
    for (name, value) in packet.options.iter().chain(&packet.parameters) {
        let name = name.to_ascii_lowercase();
        if local::is_ours(Some(&name)) {
            told.take(&name, value, &db.cluster)?;
            continue;
        }
        if !name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
            || name.is_empty()
        {
            return Err(Error::new(
                Fault::Client,
                "42704",
                format!("unrecognized configuration parameter \"{name}\""),
            ));
        }
        settings::check(&name, value, assumed)?;
        let sql = state::set_config(&name, value);
        wanted.insert(name, sql);
    }
    Ok((wanted, told))
}

/// What a server reports for these settings: asked once, then remembered. A client that differs from
/// an earlier one in the name of its application only needs no server.
async fn parameters(
    db: &Database,
    login: &ClientUser<'_>,
    settings: Arc<Settings>,
    application: &str,
) -> Result<(Arc<Settings>, Parameters), Denied> {
    let version = db.cluster.catalog_version();
    if let Some(known) = db.welcome(login.name(), &settings) {
        return Ok(known);
    }
    let nameless = with_any_name(&settings, application).map(Arc::new);
    if let Some(nameless) = &nameless
        && let Some((_, parameters)) = db.welcome(login.name(), nameless)
    {
        let mut parameters = server::Parameters::clone(&parameters);
        parameters.insert(APPLICATION_NAME.to_owned(), application.to_owned());
        let parameters = Arc::new(parameters);
        db.remember_welcome(login.name(), &settings, &parameters, version);
        return Ok((settings, parameters));
    }
    let shard = planner::ShardId(0);
    let mut lost = 0;
    let parameters = loop {
        let mut lease = db.lease_from_primary(shard, login, Amid::Nothing).await?;
        match settings::apply_settings(&mut lease, &settings).await {
            Ok(()) => {
                check_path(db, login.name(), &mut lease).await?;
                break Arc::clone(&lease.parameters);
            }
            Err(error) if is_outage(&error) && lost < MOST_LOST => lost += 1,
            Err(error) => return Err(Denied::Error(error)),
        }
    };
    for settings in [Some(&settings), nameless.as_ref()].into_iter().flatten() {
        db.remember_welcome(login.name(), settings, &parameters, version);
    }
    Ok((settings, parameters))
}

/// Statements are routed by what names mean to the role that reads the catalog: they must mean the same
/// to this one.
async fn check_path(db: &Database, role: &str, lease: &mut Lease) -> Result<(), Denied> {
    if !db.config.is_sharded() {
        return Ok(());
    }
    let rows = lease
        .ask_hidden("SELECT pg_catalog.unnest(pg_catalog.current_schemas(false))")
        .await
        .map_err(Denied::Error)?;
    let schemas = rows.iter().filter_map(|row| row.first()?.as_deref());
    let path: Vec<_> = schemas
        .map(|schema| String::from_utf8_lossy(schema).into_owned())
        .collect();
    let catalog = db.cluster.catalog();
    let Some((ours, theirs)) = catalog.means_another(&path) else {
        return Ok(());
    };
    let message = format!("search_path of role \"{role}\" cannot be routed by");
    Err(Denied::Error(
        Error::new(Fault::Operator, "0A000", message)
            .detail(format!(
                "To it \"{}\" means {}.{}, to the role that reads the catalog {}.{}.",
                ours.name, theirs.schema, theirs.name, ours.schema, ours.name
            ))
            .hint("Give both roles the same search_path on the servers (ALTER ROLE … SET)."),
    ))
}

const APPLICATION_NAME: &str = "application_name";

/// The settings with no matter what name of the application, if a server reports that as it is: it
/// replaces what is not printable ASCII, and cuts off what is longer than a name.
fn with_any_name(settings: &Settings, application: &str) -> Option<Settings> {
    const LONGEST: usize = 63;
    let printable = application.bytes().all(|byte| (32..127).contains(&byte));
    if !printable || application.len() > LONGEST {
        return None;
    }
    let mut others = settings.clone();
    // No statement: a client without the setting has a key of its own.
    let set = others.insert(APPLICATION_NAME.to_owned(), String::new())?;
    (set == state::set_config(APPLICATION_NAME, application)).then_some(others)
}

fn admin_parameters() -> server::Parameters {
    [
        (
            "server_version",
            concat!(env!("CARGO_PKG_VERSION"), "/ringway"),
        ),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "UTC"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

async fn send(stream: &mut Stream, bytes: &[u8]) -> Result<(), Error> {
    use tokio::io::AsyncWriteExt;
    let sent = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    sent.await.map_err(|_| crate::executor::relay::closed())
}
