//! Who a client is: trust and SCRAM-SHA-256 without channel binding.
//!
//! The SCRAM mathematics is pgwire's; its message decoder is not used, since it panics on a
//! SASLInitialResponse whose length lies.

use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut, Bytes, BytesMut};
use pgwire::api::auth::sasl::scram::{
    SCRAM_ITERATIONS, ScramSecret, ScramServerAuth, gen_salted_password,
};
use pgwire::error::PgWireError;
use tokio::io::AsyncWriteExt;

use crate::config::{ClientAuth, Secret, User};
use crate::error::{Error, Fault, Result};
use crate::net::Stream;
use crate::wire::startup::read_frame;
use crate::wire::{frame, write};

const MECHANISM: &[u8] = b"SCRAM-SHA-256";
/// Bytes of SHA-256, and so of every SCRAM key.
const KEY: usize = 32;
const SALT: usize = 16;
/// Longest message of a SASL exchange, header included (PG_MAX_SASL_MESSAGE_LENGTH).
const MAX_SASL_MESSAGE: usize = 1024;

/// Authentication request codes.
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
const OK: u32 = 0;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// How each configured user proves who they are, with the SCRAM keys already derived: that
/// costs milliseconds, too much to do at each login.
pub struct Authenticators {
    users: HashMap<String, Authenticator>,
    salts: SaltSecret,
}

enum Authenticator {
    Trust,
    Scram(Verifier),
}

/// What a server keeps of a password: enough to check a proof, not enough to make one.
#[derive(Clone)]
struct Verifier {
    salt: Vec<u8>,
    iterations: usize,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

/// Gives each name, known or not, a salt that stays the same for the life of the process, so
/// that a salt does not tell whether a user exists (PostgreSQL's mock authentication nonce).
#[derive(Clone)]
struct SaltSecret([u8; KEY]);

impl Authenticators {
    /// Derives the keys of all users: 2 to 3 ms for each plain password.
    ///
    /// # Errors
    /// F0000 for a verifier that is not written as in pg_authid; the user is named, the verifier
    /// is not shown.
    pub fn new(users: &BTreeMap<String, User>) -> Result<Self> {
        Self::derive(users, SaltSecret(rand::random()))
    }

    /// The same for a new configuration; salts stay as they were.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn reload(&self, users: &BTreeMap<String, User>) -> Result<Self> {
        Self::derive(users, self.salts.clone())
    }

    fn derive(users: &BTreeMap<String, User>, salts: SaltSecret) -> Result<Self> {
        let users = users
            .iter()
            .map(|(name, user)| Ok((name.clone(), Authenticator::new(name, &user.auth, &salts)?)))
            .collect::<Result<_>>()?;
        Ok(Self { users, salts })
    }
}

impl Authenticator {
    fn new(user: &str, auth: &ClientAuth, salts: &SaltSecret) -> Result<Self> {
        Ok(match auth {
            ClientAuth::Trust => Self::Trust,
            ClientAuth::Password(password) => {
                Self::Scram(Verifier::from_password(password, salts.salt_of(user)))
            }
            ClientAuth::Verifier(verifier) => {
                Self::Scram(Verifier::parse(&verifier.0).ok_or_else(|| bad_verifier(user))?)
            }
        })
    }
}

fn bad_verifier(user: &str) -> Error {
    Error::new(
        Fault::Operator,
        "F0000",
        format!("invalid SCRAM verifier for user \"{user}\""),
    )
    .detail("A verifier reads SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>.")
    .hint("Copy rolpassword from pg_authid, or configure the password.")
}

impl SaltSecret {
    /// One round of PBKDF2 is an HMAC of secret and name.
    fn salt_of(&self, user: &str) -> Vec<u8> {
        let mut salt = gen_salted_password(user, &self.0, 1);
        salt.truncate(SALT);
        salt
    }
}

impl Verifier {
    fn from_password(password: &Secret, salt: Vec<u8>) -> Self {
        let salted = gen_salted_password(&password.0, &salt, SCRAM_ITERATIONS);
        match ScramSecret::verifier_from_salted_password(salt, salted, SCRAM_ITERATIONS) {
            ScramSecret::Verifier {
                salt,
                iterations,
                stored_key,
                server_key,
            } => Self {
                salt,
                iterations,
                stored_key,
                server_key,
            },
            ScramSecret::SaltedPassword { .. } => {
                unreachable!("verifier_from_salted_password makes a verifier")
            }
        }
    }

    /// Reads the form of pg_authid.rolpassword.
    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (parameters, keys) = rest.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text: &str| BASE64.decode(text).ok().filter(|key| key.len() == KEY);
        Some(Self {
            salt: BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?,
            // PostgreSQL keeps the count in a signed int.
            iterations: iterations
                .parse::<i32>()
                .ok()
                .filter(|n| *n > 0)?
                .try_into()
                .ok()?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// For a user who does not exist: nobody knows a password that these keys belong to.
    fn mock(salt: Vec<u8>) -> Self {
        let key = || rand::random::<[u8; KEY]>().to_vec();
        Self {
            salt,
            iterations: SCRAM_ITERATIONS,
            stored_key: key(),
            server_key: key(),
        }
    }

    fn into_secret(self) -> ScramSecret {
        ScramSecret::Verifier {
            salt: self.salt,
            iterations: self.iterations,
            stored_key: self.stored_key,
            server_key: self.server_key,
        }
    }
}

/// Asks the client to prove that it is `user`, and sends AuthenticationOk when it does. A user
/// who is not configured goes through the same exchange as one with a wrong password.
///
/// The caller sets the time limit by dropping this future.
///
/// # Errors
/// FATAL 28P01 for a wrong password or an unknown user, FATAL 08P01 for messages that make no
/// sense. Nothing was sent yet; see [`crate::wire::startup::refuse`].
pub async fn authenticate(
    stream: &mut Stream,
    buf: &mut BytesMut,
    user: &str,
    authenticators: &Authenticators,
) -> Result<()> {
    let mut out = BytesMut::new();
    let verifier = match authenticators.users.get(user) {
        Some(Authenticator::Trust) => None,
        Some(Authenticator::Scram(verifier)) => Some(verifier.clone()),
        None => Some(Verifier::mock(authenticators.salts.salt_of(user))),
    };
    if let Some(verifier) = verifier {
        let last = scram(stream, buf, user, verifier).await?;
        request(&mut out, SASL_FINAL, last.as_bytes());
    }
    request(&mut out, OK, &[]);
    send(stream, &out).await
}

/// Runs the exchange up to the server's last message, which is returned.
async fn scram(
    stream: &mut Stream,
    buf: &mut BytesMut,
    user: &str,
    verifier: Verifier,
) -> Result<String> {
    let mut out = BytesMut::new();
    // A list of one name, ended by an empty one.
    request(&mut out, SASL, &[MECHANISM, b"\0\0"].concat());
    send(stream, &out).await?;

    let first = read_response(stream, buf).await?;
    let (reply, exchange) = ScramServerAuth::new()
        .on_client_first_message_with_secret(parse_initial(&first)?, verifier.into_secret())
        .map_err(|error| failure(error, user))?;
    out.clear();
    request(&mut out, SASL_CONTINUE, reply.as_bytes());
    send(stream, &out).await?;

    let last = read_response(stream, buf).await?;
    exchange
        .on_client_final_message(&last)
        .map_err(|error| failure(error, user))
}

fn failure(error: PgWireError, user: &str) -> Error {
    match error {
        PgWireError::InvalidPassword(_) => Error::new(
            Fault::Client,
            "28P01",
            format!("password authentication failed for user \"{user}\""),
        )
        .fatal(),
        other => Error::protocol("malformed SCRAM message").detail(other.to_string()),
    }
}

/// The mechanism's own data in a SASLInitialResponse.
fn parse_initial(mut body: &[u8]) -> Result<&[u8]> {
    let body = &mut body;
    let malformed = || Error::protocol("malformed SASL response");
    if frame::cstr(body).ok_or_else(malformed)? != MECHANISM {
        return Err(
            Error::protocol("client selected an invalid SASL authentication mechanism")
                .detail("Only SCRAM-SHA-256 is offered."),
        );
    }
    let length = frame::i32(body).ok_or_else(malformed)?;
    match usize::try_from(length) {
        Ok(length) if length == body.len() => Ok(body),
        Ok(_) | Err(_) => Err(malformed()),
    }
}

async fn read_response(stream: &mut Stream, buf: &mut BytesMut) -> Result<Bytes> {
    let (tag, body) = read_frame(stream, buf, MAX_SASL_MESSAGE)
        .await
        .map_err(|error| {
            Error::protocol("could not receive SASL response").detail(error.to_string())
        })?;
    match tag {
        b'p' => Ok(body),
        other => Err(Error::protocol(format!(
            "expected SASL response, got message type {other}"
        ))),
    }
}

fn request(out: &mut BytesMut, code: u32, data: &[u8]) {
    write::frame(out, b'R', |out| {
        out.put_u32(code);
        out.put_slice(data);
    });
}

async fn send(stream: &mut Stream, out: &[u8]) -> Result<()> {
    let sent = async {
        stream.write_all(out).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| {
        Error::new(Fault::Client, "08006", "could not send data to client")
            .detail(error.to_string())
            .fatal()
    })
}
