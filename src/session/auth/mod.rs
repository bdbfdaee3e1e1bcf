//! Who a client is: which rule applies to it, how it proves who it is, and what its proof is worth
//! towards servers.
//!
//! A user who does not exist goes through the same messages and the same computations as one
//! with a wrong password.

mod exchange;
mod mock;
mod names;
mod query;
mod scram;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::BytesMut;
use pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, gen_salted_password};

use mock::Tally;
pub use query::Lookup;

use crate::backend::connect::salted_md5;
use crate::backend::scram::{hash, sign};
use crate::config::hba::{CertName, ClientCert, Hba, Visitor};
use crate::config::{
    ADMIN_DATABASE, AuthSettings, Config, Method, SCRAM_KEY, ScramKeys, ScramVerifier, Secret,
    ServerSecret, StoredSecret, User, default_method,
};
use crate::error::{Error, Fault, Result};
use crate::executor::database::Database;
use crate::net::Stream;

/// Who may log in, and what is known of them; with the SCRAM keys already derived: that costs
/// milliseconds, too much to do at each login.
pub struct Authenticators {
    settings: AuthSettings,
    users: HashMap<String, Arc<Known>>,
    salts: SaltSecret,
    /// By the database that the client wants.
    lookups: HashMap<String, Arc<Lookup>>,
    /// Databases with a section of their own: the wildcard's users are none of theirs.
    configured: HashSet<String>,
    /// Of the certificate that clients are shown.
    end_point: Option<Vec<u8>>,
    /// What most users are asked for, and so unknown ones.
    tally: Tally,
}

/// Who asks to be let in.
#[derive(Clone, Copy)]
pub struct Applicant<'a> {
    pub user: &'a str,
    pub database: &'a str,
    /// It wants physical replication.
    pub is_replication: bool,
}

/// A user, with what a login is checked against.
struct Known {
    method: Method,
    secret: StoredSecret,
    /// Of a password, or the one that is kept.
    verifier: Option<ScramVerifier>,
    /// `md5…` of a password, or the one that is kept.
    md5: Option<String>,
}

/// What the rule that applies asks for.
struct Terms<'a> {
    /// `None` is the user's own.
    method: Option<Method>,
    map: Option<&'a str>,
    client_cert: ClientCert,
    cert_name: CertName,
}

/// Gives each name, known or not, a salt that stays the same for the life of the process, so
/// that a salt does not tell whether a user exists (PostgreSQL's mock authentication nonce).
#[derive(Clone)]
struct SaltSecret([u8; SCRAM_KEY]);

const SALT: usize = 16;

impl Authenticators {
    /// Derives the keys of all users, 1 to 3 ms for each plain password that `old` did not have.
    pub fn new(
        config: &Config,
        databases: &HashMap<String, Arc<Database>>,
        old: Option<&Self>,
    ) -> Self {
        let salts = old.map_or_else(|| SaltSecret(rand::random()), |old| old.salts.clone());
        let users = derive(&config.users, old, &salts);
        Self {
            tally: Tally::of(users.values().map(Arc::as_ref)),
            settings: config.auth.clone(),
            lookups: lookups(config, databases, old, &salts),
            configured: config.databases.keys().cloned().collect(),
            end_point: config.tls.as_ref().and_then(super::startup::end_point),
            users,
            salts,
        }
    }

    /// What the client has to do, or why it may do nothing at all.
    fn terms(&self, stream: &Stream, who: Applicant<'_>) -> Result<Terms<'_>> {
        let Some(hba) = &self.settings.hba else {
            return Ok(Terms {
                method: None,
                map: None,
                client_cert: ClientCert::None,
                cert_name: CertName::Cn,
            });
        };
        let address = stream.peer_addr().map(|address| address.ip());
        let terms = rule(hba, address, stream.is_tls(), who)?;
        if terms.client_cert != ClientCert::None && stream.peer_certificate().is_none() {
            return Err(denied("connection requires a valid client certificate"));
        }
        Ok(terms)
    }

    /// What is known of the client, from the configuration or else by asking. `method` is what the
    /// rules ask for.
    async fn find(
        &self,
        who: Applicant<'_>,
        method: Option<Method>,
    ) -> Result<(query::Found, Option<&Arc<Lookup>>)> {
        let configured = self.users.get(who.user);
        let is_sure = configured.is_some_and(|known| {
            let has_secret = known.secret != StoredSecret::None;
            let method = method.unwrap_or(known.method);
            // Who proves no password gets in while no server can be asked, too.
            has_secret || matches!(method, Method::Trust | Method::Cert | Method::Peer)
        });
        match self.lookup(who.database) {
            Some(lookup) if !is_sure => {
                let mut found = lookup.find(who.user).await?;
                found.known = found.known.or_else(|| configured.cloned());
                Ok((found, Some(lookup)))
            }
            Some(_) | None => Ok((query::Found::sure(configured), None)),
        }
    }

    fn lookup(&self, database: &str) -> Option<&Arc<Lookup>> {
        let is_own = database == ADMIN_DATABASE || self.configured.contains(database);
        let names: &[&str] = match is_own {
            true => &[database],
            // Who asks for a database that does not exist hears so after it has proved who it is.
            false => &[WILDCARD, ADMIN_DATABASE],
        };
        names.iter().find_map(|name| self.lookups.get(*name))
    }
}

/// The section that stands for every database without one.
const WILDCARD: &str = "*";

/// What a rule of the table says of the client.
fn rule<'h>(
    hba: &'h Hba,
    address: Option<IpAddr>,
    is_tls: bool,
    who: Applicant<'_>,
) -> Result<Terms<'h>> {
    let visitor = Visitor {
        database: who.database,
        user: who.user,
        address,
        is_tls,
        is_replication: who.is_replication,
    };
    // PostgreSQL's words.
    let told = || {
        let host = address.map_or("[local]".to_owned(), |ip| ip.to_canonical().to_string());
        let encryption = match is_tls {
            true => "SSL encryption",
            false => "no encryption",
        };
        let user = who.user;
        match who.is_replication {
            true => (
                "replication connection from host",
                format!("\"{host}\", user \"{user}\", {encryption}"),
            ),
            false => (
                "host",
                format!(
                    "\"{host}\", user \"{user}\", database \"{}\", {encryption}",
                    who.database
                ),
            ),
        }
    };
    match hba.find(&visitor) {
        None => {
            let (what, who) = told();
            Err(denied(format!("no pg_hba.conf entry for {what} {who}")))
        }
        Some(rule) if rule.method == Method::Reject => {
            let (what, who) = told();
            let what = match what {
                "host" => "connection for host",
                other => other,
            };
            Err(denied(format!("pg_hba.conf rejects {what} {who}")))
        }
        Some(rule) => Ok(Terms {
            method: Some(rule.method),
            map: rule.map.as_deref(),
            client_cert: rule.client_cert,
            cert_name: rule.cert_name,
        }),
    }
}

/// The lookups of all databases; those that would be the same stay, with what they remember.
fn lookups(
    config: &Config,
    databases: &HashMap<String, Arc<Database>>,
    old: Option<&Authenticators>,
    salts: &SaltSecret,
) -> HashMap<String, Arc<Lookup>> {
    let general = config.auth.query.as_ref().filter(|q| q.dbname.is_some());
    let queries = config
        .databases
        .iter()
        .filter_map(|(name, db)| Some((name.as_str(), db.auth_query.as_ref()?)))
        .chain(general.map(|query| (ADMIN_DATABASE, query)));
    let mut lookups = HashMap::new();
    for (name, query) in queries {
        let asked = query.dbname.as_deref().unwrap_or(name);
        let Some(db) = databases.get(asked) else {
            continue;
        };
        let (ttl, capacity) = (config.auth.query_ttl, config.auth.query_cache);
        let kept = old.and_then(|old| old.lookups.get(name));
        let kept = kept.filter(|kept| kept.is_of(query, db, ttl));
        let lookup = kept.cloned().unwrap_or_else(|| {
            let lookup = Lookup::new(query.clone(), Arc::clone(db), ttl, capacity, salts.clone());
            Arc::new(lookup)
        });
        lookups.insert(name.to_owned(), lookup);
    }
    lookups
}

/// The users with their keys, on as many threads as there are cores.
fn derive(
    users: &BTreeMap<String, User>,
    old: Option<&Authenticators>,
    salts: &SaltSecret,
) -> HashMap<String, Arc<Known>> {
    let of = |user: &User| -> (String, Arc<Known>) {
        let kept = old.and_then(|old| old.users.get(&user.name));
        let kept = kept.filter(|kept| kept.secret == user.secret && kept.method == user.method);
        let known = kept.cloned();
        let known = known.unwrap_or_else(|| {
            Arc::new(Known::new(
                &user.name,
                user.method,
                user.secret.clone(),
                salts,
            ))
        });
        (user.name.clone(), known)
    };
    let users: Vec<&User> = users.values().collect();
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let share = users.len().div_ceil(threads).max(8);
    std::thread::scope(|scope| {
        let shares: Vec<_> = users
            .chunks(share)
            .map(|users| scope.spawn(move || users.iter().map(|user| of(user)).collect::<Vec<_>>()))
            .collect();
        let joined = shares.into_iter().flat_map(|share| share.join());
        joined.flatten().collect()
    })
}

impl SaltSecret {
    /// One round of PBKDF2 is an HMAC of secret and name.
    fn salt_of(&self, user: &str) -> Vec<u8> {
        sign(&self.0, user.as_bytes())[..SALT].to_vec()
    }

    /// For a user who does not exist or has no password: nobody knows one that these keys belong
    /// to.
    fn mock(&self, user: &str) -> ScramVerifier {
        ScramVerifier {
            salt: self.salt_of(user),
            iterations: SCRAM_ITERATIONS as u32,
            stored_key: rand::random(),
            server_key: rand::random(),
        }
    }
}

impl Known {
    fn new(user: &str, method: Method, secret: StoredSecret, salts: &SaltSecret) -> Self {
        let (verifier, md5) = match &secret {
            StoredSecret::None => (None, None),
            StoredSecret::Plain(password) => {
                let salt = salts.salt_of(user);
                let verifier = verifier_of(password, salt, SCRAM_ITERATIONS as u32);
                (Some(verifier), Some(md5_of(user, password)))
            }
            StoredSecret::Md5(hash) => (None, Some(hash.0.clone())),
            StoredSecret::Scram(verifier) => (Some(verifier.clone()), None),
        };
        Self {
            method,
            secret,
            verifier,
            md5,
        }
    }

    /// What it is asked for where no rule says so. Who has no password is asked as unknown users are.
    fn own_method(&self) -> Option<Method> {
        let has_none = self.secret == StoredSecret::None;
        match self.method {
            Method::Scram | Method::Md5 | Method::Password if has_none => None,
            method => Some(method),
        }
    }

    /// The same away from the threads that serve clients.
    async fn derived(user: &str, secret: StoredSecret, salts: &SaltSecret) -> Self {
        let method = default_method(&secret);
        if !matches!(secret, StoredSecret::Plain(_)) {
            return Self::new(user, method, secret, salts);
        }
        let (user, salts) = (user.to_owned(), salts.clone());
        let none = Self::new("", method, StoredSecret::None, &salts);
        let derive = move || Self::new(&user, method, secret, &salts);
        tokio::task::spawn_blocking(derive).await.unwrap_or(none)
    }
}

/// SaltedPassword and what follows from it.
fn keys_of(password: &Secret, salt: &[u8], iterations: u32) -> ScramKeys {
    let salted = gen_salted_password(&password.0, salt, iterations as usize);
    ScramKeys {
        salt: salt.to_vec(),
        iterations,
        client_key: sign(&salted, b"Client Key"),
        server_key: sign(&salted, b"Server Key"),
    }
}

fn verifier_of(password: &Secret, salt: Vec<u8>, iterations: u32) -> ScramVerifier {
    let keys = keys_of(password, &salt, iterations);
    ScramVerifier {
        stored_key: hash(&keys.client_key),
        server_key: keys.server_key,
        salt,
        iterations,
    }
}

/// As in pg_authid: `md5` and the hash of password and name.
fn md5_of(user: &str, password: &Secret) -> String {
    use md5::{Digest, Md5};
    let digits = Md5::new()
        .chain_update(password.0.as_bytes())
        .chain_update(user.as_bytes())
        .finalize();
    let digits = digits.iter().map(|byte| format!("{byte:02x}"));
    format!("md5{}", digits.collect::<String>())
}

/// Asks the client to prove that it is who it says, and puts AuthenticationOk into `out` when it does:
/// as with PostgreSQL, that goes out with what comes next. What its login to a server can be made with
/// is returned.
///
/// The caller sets the time limit by dropping this future.
///
/// # Errors
/// FATAL 28000 where no rule lets the client in, 28P01 for a wrong password or an unknown user,
/// 08P01 for messages that make no sense; 57P03 and F0000 of a lookup. Nothing was sent yet; see
/// [`crate::wire::startup::refuse`].
pub async fn authenticate(
    stream: &mut Stream,
    buf: &mut BytesMut,
    out: &mut BytesMut,
    who: Applicant<'_>,
    authenticators: &Authenticators,
) -> Result<ServerSecret> {
    let terms = authenticators.terms(stream, who)?;
    let (found, lookup) = authenticators.find(who, terms.method).await?;
    let known = found.known.as_deref();
    let tally = lookup.and_then(|lookup| lookup.tally());
    let tally = tally.unwrap_or(authenticators.tally);
    let method = terms
        .method
        .or(known.and_then(Known::own_method))
        .unwrap_or(tally.own());
    let attempt = Attempt {
        who,
        known,
        authenticators,
        // Asked once more, should what is remembered not let the client in.
        lookup: lookup.filter(|_| found.is_remembered),
        tally,
    };
    let maps = &authenticators.settings.maps;
    let uncertified = || {
        let what = format!(
            "certificate authentication failed for user \"{}\"",
            who.user
        );
        denied(what)
    };
    // Certificates are rare and reading one is not free.
    let is_certified = (method == Method::Cert || terms.client_cert == ClientCert::VerifyFull)
        && names::of_certificate(stream, terms.cert_name)
            .is_some_and(|name| maps.allows(terms.map, &name, who.user));
    let secret = match attempt.exact(method) {
        Method::Trust => attempt.existing()?,
        // Refused where the rule was found.
        Method::Reject => return Err(wrong(who.user)),
        Method::Scram => attempt.scram(stream, buf, out).await?,
        Method::Md5 => attempt.md5(stream, buf).await?,
        Method::Password => attempt.password(stream, buf).await?,
        Method::Cert if !is_certified => return Err(uncertified()),
        Method::Cert => attempt.existing()?,
        Method::Peer => {
            let name = names::of_peer(stream);
            if !name.is_some_and(|name| maps.allows(terms.map, &name, who.user)) {
                let what = format!("Peer authentication failed for user \"{}\"", who.user);
                return Err(denied(what));
            }
            attempt.existing()?
        }
    };
    // After the password, as in PostgreSQL.
    if terms.client_cert == ClientCert::VerifyFull && !is_certified {
        out.clear();
        return Err(uncertified());
    }
    exchange::request(out, exchange::OK, &[]);
    Ok(secret)
}

/// One client's attempt to be somebody.
struct Attempt<'a> {
    who: Applicant<'a>,
    known: Option<&'a Known>,
    authenticators: &'a Authenticators,
    lookup: Option<&'a Arc<Lookup>>,
    tally: Tally,
}

impl Attempt<'_> {
    /// With md5 a user of whom a SCRAM verifier is kept is asked for SCRAM, as in PostgreSQL.
    fn exact(&self, method: Method) -> Method {
        if method != Method::Md5 {
            return method;
        }
        match self.known.map(|known| &known.secret) {
            Some(StoredSecret::Plain(_) | StoredSecret::Md5(_)) => Method::Md5,
            Some(StoredSecret::Scram(_)) => Method::Scram,
            Some(StoredSecret::None) | None => self.tally.under_md5(),
        }
    }

    /// What a login that proves no password is worth to servers.
    fn existing(&self) -> Result<ServerSecret> {
        let known = self
            .known
            .ok_or_else(|| denied(format!("role \"{}\" does not exist", self.who.user)))?;
        Ok(known.secret.for_servers())
    }

    async fn scram(
        &self,
        stream: &mut Stream,
        buf: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<ServerSecret> {
        let mock;
        let verifier = match self.known.and_then(|known| known.verifier.as_ref()) {
            Some(verifier) => verifier,
            None => {
                mock = self.authenticators.salts.mock(self.who.user);
                &mock
            }
        };
        // The hash is of what TLS showed; without TLS there is nothing to bind to.
        let end_point = self.authenticators.end_point.as_deref();
        let end_point = end_point.filter(|_| stream.is_tls());
        match scram::run(stream, buf, verifier, end_point).await? {
            scram::Outcome::Proven { keys, last } => {
                *out = last;
                Ok(match self.known.map(|known| known.secret.for_servers()) {
                    Some(ServerSecret::None) | None => ServerSecret::Scram(keys),
                    Some(secret) => secret,
                })
            }
            scram::Outcome::Wrong => {
                // The challenge had the old salt: the next attempt will be by the new secret.
                self.ask_again().await;
                Err(wrong(self.who.user))
            }
        }
    }

    async fn md5(&self, stream: &mut Stream, buf: &mut BytesMut) -> Result<ServerSecret> {
        let (salt, response) = exchange::ask_md5(stream, buf).await?;
        let check = |known: Option<&Known>| {
            let stored = known.and_then(|known| known.md5.clone());
            let expected = salted_md5(&stored.clone().unwrap_or_else(mock_md5), salt);
            let is_right = is_same(&expected, &response) && stored.is_some();
            known
                .filter(|_| is_right)
                .map(|known| known.secret.for_servers())
        };
        if let Some(secret) = check(self.known) {
            return Ok(secret);
        }
        let anew = self.ask_again().await;
        check(anew.as_deref()).ok_or_else(|| wrong(self.who.user))
    }

    async fn password(&self, stream: &mut Stream, buf: &mut BytesMut) -> Result<ServerSecret> {
        if !stream.is_tls() {
            let what = "the password would be sent in the clear";
            return Err(denied(what).hint("Connect with sslmode=require or stronger."));
        }
        let password = Secret(exchange::ask_password(stream, buf).await?);
        if let Some(secret) = self.check(self.known, &password).await {
            return Ok(secret);
        }
        let anew = match self.ask_again().await {
            Some(anew) => self.check(Some(&anew), &password).await,
            None => None,
        };
        anew.ok_or_else(|| wrong(self.who.user))
    }

    /// Both hashes are computed whoever it is, away from the threads that serve clients.
    async fn check(&self, known: Option<&Known>, password: &Secret) -> Option<ServerSecret> {
        let user = self.who.user.to_owned();
        let verifier = self.to_derive(known);
        let (password, stored_key) = (password.clone(), verifier.stored_key);
        let computed = tokio::task::spawn_blocking(move || {
            let keys = keys_of(&password, &verifier.salt, verifier.iterations);
            (keys, md5_of(&user, &password))
        });
        let (keys, md5) = computed.await.ok()?;
        let is_scram = hash(&keys.client_key) == stored_key;
        match &known?.secret {
            StoredSecret::None => None,
            StoredSecret::Plain(plain) => is_scram.then(|| ServerSecret::Password(plain.clone())),
            StoredSecret::Md5(kept) => {
                is_same(&kept.0, &md5).then(|| ServerSecret::Md5(kept.clone()))
            }
            StoredSecret::Scram(_) => is_scram.then_some(ServerSecret::Scram(keys)),
        }
    }

    /// What a password is derived for.
    fn to_derive(&self, known: Option<&Known>) -> ScramVerifier {
        let verifier = known.and_then(|known| known.verifier.clone());
        verifier.unwrap_or_else(|| self.authenticators.salts.mock(self.who.user))
    }

    /// What the server says now of a user whom only memory was asked about.
    async fn ask_again(&self) -> Option<Arc<Known>> {
        // Logged there; the login fails as it would have without.
        self.lookup?.ask(self.who.user).await.ok().flatten()
    }
}

fn mock_md5() -> String {
    let digits: [u8; 16] = rand::random();
    let digits = digits.iter().map(|byte| format!("{byte:02x}"));
    format!("md5{}", digits.collect::<String>())
}

/// Takes no shorter the sooner they differ: what is compared are hashes.
fn is_same(a: &str, b: &str) -> bool {
    hash(a.as_bytes()) == hash(b.as_bytes())
}

fn wrong(user: &str) -> Error {
    let what = format!("password authentication failed for user \"{user}\"");
    Error::new(Fault::Client, "28P01", what).fatal()
}

fn denied(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Fault::Client, "28000", what).fatal()
}
