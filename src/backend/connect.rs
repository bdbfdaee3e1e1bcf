//! A new server connection, from the socket to the first ReadyForQuery.
//!
//! Messages are postgres-protocol's, which checks what it reads; the length of a frame is
//! bounded before it sees one.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use md5::{Digest, Md5};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::scram::{self, Binding, Credentials, Exchange, end_point};
use super::server::read_error;
use crate::config::{Endpoint, ServerSecret, TcpOptions};
use crate::error::{Error, Fault, Result};
use crate::net::{self, Stream, TlsConnector};
use crate::wire::frame;
use crate::wire::startup::read_frame;

/// Longest message a server may send before its first ReadyForQuery, in bytes.
const MAX_STARTUP_MESSAGE: usize = 64 * 1024;

/// A server, and as whom to log in there.
#[derive(Clone)]
pub struct ConnectTarget {
    pub endpoint: Endpoint,
    /// Database name on the server.
    pub dbname: String,
    pub user: String,
    pub secret: ServerSecret,
    /// `None` connects without TLS; `Some` insists on it, and settles what is verified. Unix
    /// sockets go without in either case, as in libpq.
    pub tls: Option<TlsConnector>,
    /// What the server is asked to speak; without it, what the database does.
    pub client_encoding: Option<&'static str>,
    /// For all of connecting, TLS and authentication.
    pub connect_timeout: Duration,
    pub tcp: TcpOptions,
}

/// A server that waits for its first query.
pub struct Connected {
    pub stream: Stream,
    /// Bytes read after ReadyForQuery: none, unless the server has spoken up already.
    pub leftover: BytesMut,
    /// ParameterStatus, in the server's order.
    pub parameters: Vec<(String, String)>,
    pub pid: i32,
    pub cancel_key: Bytes,
}

/// Connects and logs in.
///
/// # Errors
/// What the server says (28P01, 3D000, 53300, …) keeps its SQLSTATE and message. Else 08001 for a
/// server that cannot be reached or does not do TLS, 08006 for a connection that breaks, 08P01
/// for messages that make no sense, 28000 for a password that is asked for and not configured.
/// The detail names the server.
///
/// Cancel safety: dropping the future closes the connection.
pub async fn connect(target: &ConnectTarget) -> Result<Connected> {
    let encoding = target.client_encoding.map(|name| ("client_encoding", name));
    connect_with(target, encoding.as_slice()).await
}

/// The same with these parameters in the startup packet, beside user and database.
///
/// # Errors
/// As [`connect`].
pub async fn connect_with(
    target: &ConnectTarget,
    parameters: &[(&str, &str)],
) -> Result<Connected> {
    match net::timeout(target.connect_timeout, log_in(target, parameters)).await {
        Ok(result) => result,
        Err(_) => Err(
            unreachable(&target.endpoint, &"the server did not answer in time")
                .hint("Check the server, or raise connect_timeout_ms."),
        ),
    }
}

/// Opens the socket, and TLS over it.
pub(super) async fn dial(endpoint: &Endpoint, tls: Option<&TlsConnector>) -> Result<Stream> {
    let opened = Stream::connect(&endpoint.host, endpoint.port).await;
    let stream = opened.map_err(|error| unreachable(endpoint, &error))?;
    match (tls, &stream) {
        (Some(tls), Stream::Tcp(_)) => encrypt(stream, endpoint, tls).await,
        (Some(_), Stream::Unix(_) | Stream::Tls(_)) | (None, _) => Ok(stream),
    }
}

async fn encrypt(mut stream: Stream, endpoint: &Endpoint, tls: &TlsConnector) -> Result<Stream> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream
        .write_all(&request)
        .await
        .map_err(|error| lost(endpoint, &error))?;
    // One byte and no more: what follows must come through TLS (CVE-2021-23222).
    match stream
        .read_u8()
        .await
        .map_err(|error| lost(endpoint, &error))?
    {
        b'S' => {}
        b'N' => {
            return Err(unreachable(endpoint, &"the server does not support TLS")
                .hint("Turn ssl on at the server, or set server_tls = \"disable\"."));
        }
        // An error sent in the clear may be anybody's: its text is not shown.
        _ => {
            return Err(unreachable(
                endpoint,
                &"the server refused to negotiate TLS",
            ));
        }
    }
    stream
        .connect_tls(tls, &endpoint.host)
        .await
        .map_err(|error| unreachable(endpoint, &error))
}

pub(super) fn unreachable(endpoint: &Endpoint, why: &dyn Display) -> Error {
    Error::new(Fault::Server, "08001", "could not connect to server")
        .detail(format!("Server {endpoint}: {why}."))
}

pub(super) fn lost(endpoint: &Endpoint, why: &dyn Display) -> Error {
    Error::new(Fault::Server, "08006", "connection to server was lost")
        .detail(format!("Server {endpoint}: {why}."))
}

async fn log_in(target: &ConnectTarget, more: &[(&str, &str)]) -> Result<Connected> {
    let stream = dial(&target.endpoint, target.tls.as_ref()).await?;
    let set = stream.set_options(&target.tcp);
    set.map_err(|error| unreachable(&target.endpoint, &error))?;
    let mut login = Login {
        target,
        stream,
        buf: BytesMut::new(),
    };
    let who = [
        ("user", target.user.as_str()),
        ("database", target.dbname.as_str()),
    ];
    let parameters = who.into_iter().chain(more.iter().copied());
    login
        .send(|out| frontend::startup_message(parameters, out))
        .await?;
    login.authenticate().await?;
    login.wait_until_ready().await
}

/// A connection on its way to the first ReadyForQuery.
struct Login<'a> {
    target: &'a ConnectTarget,
    stream: Stream,
    buf: BytesMut,
}

impl Login<'_> {
    async fn send(&mut self, fill: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<()> {
        let mut out = BytesMut::new();
        fill(&mut out)
            .map_err(|error| self.operator("08001", "could not log in to server", &error))?;
        let sent = async {
            self.stream.write_all(&out).await?;
            self.stream.flush().await
        };
        sent.await
            .map_err(|error| lost(&self.target.endpoint, &error))
    }

    /// The next message that is not a notice. What the server reports as error is an error here.
    async fn receive(&mut self) -> Result<(u8, Bytes)> {
        loop {
            let frame = read_frame(&mut self.stream, &mut self.buf, MAX_STARTUP_MESSAGE).await;
            match frame.map_err(|error| self.broken(error))? {
                (b'E', body) => return Err(self.refused(&body)),
                (b'N', _) => {}
                message => return Ok(message),
            }
        }
    }

    /// The next authentication request: its code and data.
    async fn receive_request(&mut self) -> Result<(u32, Bytes)> {
        let (tag, mut body) = self.receive().await?;
        if tag != b'R' || body.len() < 4 {
            return Err(self.senseless("it sent no valid authentication request"));
        }
        Ok((body.get_u32(), body))
    }

    async fn authenticate(&mut self) -> Result<()> {
        let (code, data) = self.receive_request().await?;
        match code {
            0 => return Ok(()),
            3 => {
                let password = match &self.target.secret {
                    ServerSecret::Password(password) => password.0.clone(),
                    other
                    @ (ServerSecret::None | ServerSecret::Md5(_) | ServerSecret::Scram(_)) => {
                        return Err(self.lacks(other, "the password itself"));
                    }
                };
                self.send(|out| frontend::password_message(password.as_bytes(), out))
                    .await?;
            }
            5 => {
                let salt = <[u8; 4]>::try_from(&data[..])
                    .map_err(|_| self.senseless("its md5 salt has not 4 bytes"))?;
                let user = self.target.user.as_bytes();
                let hash = match &self.target.secret {
                    ServerSecret::Password(password) => md5_hash(user, password.0.as_bytes(), salt),
                    ServerSecret::Md5(hash) => salted_md5(&hash.0, salt),
                    other @ (ServerSecret::None | ServerSecret::Scram(_)) => {
                        return Err(self.lacks(other, "an md5 hash"));
                    }
                };
                self.send(|out| frontend::password_message(hash.as_bytes(), out))
                    .await?;
            }
            10 => self.scram(&data).await?,
            other => return Err(self.unsupported(&format!("authentication request {other}"))),
        }
        match self.receive_request().await? {
            (0, _) => Ok(()),
            _ => Err(self.senseless("it asks for authentication twice")),
        }
    }

    /// SCRAM-SHA-256, bound to the server's certificate where the server offers it. The server
    /// proves itself as well: one that says yes without having known the password is not believed.
    async fn scram(&mut self, mut mechanisms: &[u8]) -> Result<()> {
        let (mut plain, mut plus) = (false, false);
        while let Some(name) = frame::cstr(&mut mechanisms) {
            plain |= name == SCRAM_SHA_256.as_bytes();
            plus |= name == SCRAM_SHA_256_PLUS.as_bytes();
        }
        let certificate = self.stream.peer_certificate();
        let (mechanism, binding) = match certificate.and_then(|shown| end_point(shown)) {
            Some(hash) if plus => (SCRAM_SHA_256_PLUS, Binding::EndPoint(hash)),
            Some(_) => (SCRAM_SHA_256, Binding::Unoffered),
            None => (SCRAM_SHA_256, Binding::None),
        };
        if !plain && mechanism == SCRAM_SHA_256 {
            return Err(self.unsupported("a SASL mechanism other than SCRAM-SHA-256"));
        }
        let target = self.target;
        let credentials = match &target.secret {
            ServerSecret::Password(password) => Credentials::Password(password),
            ServerSecret::Scram(keys) => Credentials::Keys(keys),
            other @ (ServerSecret::None | ServerSecret::Md5(_)) => {
                return Err(self.lacks(other, "a password, or the keys of a client's SCRAM login"));
            }
        };
        let exchange = Exchange::new(&binding);
        let first = exchange.first_message();
        self.send(|out| frontend::sasl_initial_response(mechanism, first.as_bytes(), out))
            .await?;
        let (11, challenge) = self.receive_request().await? else {
            return Err(self.senseless("it left the SCRAM exchange"));
        };
        let (last, proven) = exchange
            .prove(&challenge, &credentials)
            .map_err(|failure| self.failed(failure))?;
        self.send(|out| frontend::sasl_response(last.as_bytes(), out))
            .await?;
        let (12, outcome) = self.receive_request().await? else {
            return Err(self.senseless("it left the SCRAM exchange"));
        };
        proven
            .check(&outcome)
            .map_err(|failure| self.failed(failure))
    }

    fn failed(&self, failure: scram::Failure) -> Error {
        match failure {
            scram::Failure::Senseless(why) => self.senseless(why),
            scram::Failure::OtherVerifier => {
                let user = &self.target.user;
                let message = format!(
                    "the server keeps another SCRAM verifier for user \"{user}\" than the client logged in with"
                );
                let why =
                    "salt or iterations differ, so that the client's login cannot be passed on";
                self.operator("28000", &message, &why).hint(
                    "Copy rolpassword from that server's pg_authid, use auth_query, \
                     or configure the password.",
                )
            }
        }
    }

    async fn wait_until_ready(mut self) -> Result<Connected> {
        let mut parameters = Vec::new();
        let mut key_data = None;
        loop {
            let (tag, mut body) = self.receive().await?;
            match tag {
                b'S' => parameters.push(
                    parse_parameter(&body)
                        .ok_or_else(|| self.senseless("it sent a malformed ParameterStatus"))?,
                ),
                b'K' if body.len() >= 8 => key_data = Some((body.get_i32(), body)),
                b'Z' => break,
                other => {
                    return Err(self.senseless(&format!("it sent message type {other} at startup")));
                }
            }
        }
        let (pid, cancel_key) =
            key_data.ok_or_else(|| self.senseless("it sent no valid BackendKeyData"))?;
        Ok(Connected {
            stream: self.stream,
            leftover: self.buf,
            parameters,
            pid,
            cancel_key,
        })
    }

    /// What is known of the password is nothing, or does not serve for what the server asks for.
    fn lacks(&self, known: &ServerSecret, wanted: &str) -> Error {
        let user = &self.target.user;
        let message = match known {
            ServerSecret::None => format!("no password is configured for server user \"{user}\""),
            ServerSecret::Md5(_) => {
                format!("only the md5 hash of the password of server user \"{user}\" is known")
            }
            ServerSecret::Password(_) | ServerSecret::Scram(_) => {
                format!("only the SCRAM keys of server user \"{user}\" are known")
            }
        };
        let why = format!("the server asks for {wanted}");
        self.operator("28000", &message, &why).hint(match known {
            ServerSecret::None => {
                "Set the password of server_user, or of the user who connects; a user with a \
                 SCRAM verifier has to log in with scram-sha-256 before its login can be passed on."
            }
            ServerSecret::Md5(_) | ServerSecret::Password(_) | ServerSecret::Scram(_) => {
                "Configure the password, or have the server ask for what is known."
            }
        })
    }

    fn operator(&self, code: &'static str, message: &str, why: &dyn Display) -> Error {
        Error::new(Fault::Operator, code, message.to_owned())
            .detail(format!("Server {}: {why}.", self.target.endpoint))
    }

    fn unsupported(&self, what: &str) -> Error {
        self.operator(
            "0A000",
            "the server's authentication method is not supported",
            &format!("it asks for {what}"),
        )
        .hint("Use scram-sha-256, md5, password or trust in the server's pg_hba.conf.")
    }

    fn senseless(&self, why: &str) -> Error {
        Error::new(Fault::Server, "08P01", "the server broke the protocol")
            .detail(format!("Server {}: {why}.", self.target.endpoint))
    }

    fn broken(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::InvalidData => self.senseless(&error.to_string()),
            io::ErrorKind::UnexpectedEof => lost(
                &self.target.endpoint,
                &"it closed the connection unexpectedly",
            ),
            _ => lost(&self.target.endpoint, &error),
        }
    }

    /// The server's own words, with the server's name put before its detail.
    fn refused(&self, body: &[u8]) -> Error {
        let mut error = read_error(body);
        let endpoint = &self.target.endpoint;
        let detail = match error.detail.take() {
            Some(detail) => format!("Server {endpoint}: {detail}"),
            None => format!("Server {endpoint} refused the connection."),
        };
        // Wrong credentials and missing databases do not go away by themselves.
        if error.code.starts_with("28") || error.code == "3D000" {
            error.fault = Fault::Operator;
        }
        error.detail(detail)
    }
}

/// What md5 authentication sends: the stored hash, hashed again with the server's salt.
pub fn salted_md5(hash: &str, salt: [u8; 4]) -> String {
    let mut md5 = Md5::new();
    md5.update(hash.strip_prefix("md5").unwrap_or(hash));
    md5.update(salt);
    let digits = md5.finalize();
    let digits = digits.iter().map(|byte| format!("{byte:02x}"));
    format!("md5{}", digits.collect::<String>())
}

fn parse_parameter(mut body: &[u8]) -> Option<(String, String)> {
    let name = std::str::from_utf8(frame::cstr(&mut body)?)
        .ok()?
        .to_owned();
    let value = std::str::from_utf8(frame::cstr(&mut body)?)
        .ok()?
        .to_owned();
    body.is_empty().then_some((name, value))
}

#[cfg(test)]
mod tests;
