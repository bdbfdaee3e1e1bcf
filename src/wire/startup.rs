//! What a client sends before it is somebody: TLS, SSLRequest, GSSENCRequest, CancelRequest and the
//! startup packet. Authentication is not here.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>
//!
//! These packets have no tag, and what they carry is parsed here rather than by a library: the
//! order of parameters counts, and bytes that are not UTF-8 must not be replaced.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{frame, write};
use crate::error::{Error, Fault, Result};
use crate::net::{Stream, TlsAcceptor};

/// The newest 3.x minor version spoken here; 3.2 made the cancel key longer.
pub const NEWEST_MINOR: u16 = 2;

/// Longest startup packet, without its length word (MAX_STARTUP_PACKET_LENGTH in pqcomm.h).
const MAX_PACKET: usize = 10_000;
/// Longest and shortest cancel key of protocol 3.2.
const CANCEL_KEY: std::ops::RangeInclusive<usize> = 4..=256;

const CANCEL_REQUEST: (u16, u16) = (1234, 5678);
const SSL_REQUEST: (u16, u16) = (1234, 5679);
const GSSENC_REQUEST: (u16, u16) = (1234, 5680);
/// Our own: a CancelRequest that another Ringway process passes on, laid out like the client's.
pub const FORWARDED_CANCEL: (u16, u16) = (1234, 21_079);

/// The first byte of a TLS handshake, which no length word of a startup packet begins with.
const TLS_HANDSHAKE: u8 = 0x16;
/// The protocol's name in TLS application-layer protocol negotiation, as IANA registered it.
pub const ALPN: &[u8] = b"postgresql";

/// What a client came for.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// Stop what another session does; `key` has 4 to 256 bytes. The client expects no answer.
    Cancel {
        pid: i32,
        key: Bytes,
        /// Another Ringway process passes it on.
        forwarded: bool,
    },
    Session(StartupPacket),
}

#[derive(Debug, PartialEq, Eq)]
pub struct StartupPacket {
    /// Minor version of protocol 3 that the client asked for; see [`Self::minor`].
    pub requested_minor: u16,
    pub user: String,
    /// The user's name when the client named none.
    pub database: String,
    /// All other parameters except `options`, in the client's order.
    pub parameters: Vec<(String, String)>,
    /// Settings from `options` (`-c name=value`), in the client's order.
    pub options: Vec<(String, String)>,
    /// It wants to replicate rather than to run statements.
    pub replication: Option<Replication>,
    /// Protocol options (`_pq_.…`) that the client asked for; none is known here.
    pub protocol_options: Vec<String>,
}

impl StartupPacket {
    /// The minor version that both sides speak.
    pub fn minor(&self) -> u16 {
        self.requested_minor.min(NEWEST_MINOR)
    }

    fn needs_negotiation(&self) -> bool {
        self.requested_minor > NEWEST_MINOR || !self.protocol_options.is_empty()
    }
}

/// What a walsender is asked for.
/// <https://www.postgresql.org/docs/current/protocol-replication.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// Of the whole cluster, and base backups.
    Physical,
    /// Of one database, with statements beside it.
    Logical,
}

impl Replication {
    /// As the startup packet says it.
    pub fn value(self) -> &'static str {
        match self {
            Self::Physical => "true",
            Self::Logical => "database",
        }
    }
}

/// How clients may encrypt.
#[derive(Clone, Copy)]
pub struct TlsOffer<'a> {
    pub acceptor: &'a TlsAcceptor,
    /// Sessions without TLS are refused; CancelRequest is not, as in PostgreSQL.
    pub required: bool,
    /// No more handshakes for now: who asks for TLS is told that there are too many clients.
    pub crowded: bool,
}

/// Listens to a new client until it is known what it came for, and negotiates TLS and the
/// protocol's minor version on the way. Returns the stream with what was already read from it.
///
/// The caller sets the time limit: a client that is late is disconnected without a word, as
/// PostgreSQL does it, simply by dropping this future.
///
/// # Errors
/// All are FATAL and have been sent to the client already.
pub async fn open(
    mut stream: Stream,
    tls: Option<TlsOffer<'_>>,
) -> Result<(Stream, BytesMut, Opening)> {
    if let Some(offer) = tls
        && stream.peek().await.map_err(lost)? == Some(TLS_HANDSHAKE)
    {
        stream = accept_direct(stream, offer).await?;
    }
    let mut buf = BytesMut::new();
    let mut encryption = EncryptionRequests::default();
    loop {
        let step = match read_packet(&mut stream, &mut buf).await {
            Ok(packet) => understand(&packet, &stream, tls, &mut encryption),
            Err(error) => Err(error),
        };
        match step {
            Ok(Step::Encrypt(request)) => {
                if let Some(error) = unencrypted_leftover(&buf, request) {
                    refuse(&mut stream, &error).await;
                    return Err(error);
                }
                stream = answer(stream, request, tls).await?;
            }
            Ok(Step::Open(Opening::Session(packet))) => {
                if packet.needs_negotiation() {
                    send_negotiation(&mut stream, &packet).await?;
                }
                return Ok((stream, buf, Opening::Session(packet)));
            }
            Ok(Step::Open(cancel @ Opening::Cancel { .. })) => return Ok((stream, buf, cancel)),
            Err(error) => {
                refuse(&mut stream, &error).await;
                return Err(error);
            }
        }
    }
}

/// TLS that the client began without asking (`sslnegotiation=direct`). It has to name the protocol,
/// as for PostgreSQL: bytes meant for another server must not be taken for ours.
async fn accept_direct(stream: Stream, offer: TlsOffer<'_>) -> Result<Stream> {
    if offer.crowded {
        return Err(too_many_clients());
    }
    let mut stream = accept_tls(stream, offer.acceptor).await?;
    if stream.alpn() == Some(ALPN) {
        return Ok(stream);
    }
    let error = Error::protocol(
        "received direct SSL connection request without ALPN protocol negotiation extension",
    )
    .hint("Name the protocol \"postgresql\", or ask for TLS with SSLRequest.");
    refuse(&mut stream, &error).await;
    Err(error)
}

async fn accept_tls(stream: Stream, acceptor: &TlsAcceptor) -> Result<Stream> {
    stream.accept_tls(acceptor).await.map_err(|error| {
        Error::protocol("could not accept SSL connection").detail(error.to_string())
    })
}

/// PostgreSQL's words.
pub fn too_many_clients() -> Error {
    Error::new(Fault::Operator, "53300", "sorry, too many clients already")
        .hint("Raise max_clients.")
        .fatal()
}

/// Tells the client why, then ends the connection. A client that is gone already is no error.
pub async fn refuse(stream: &mut Stream, error: &Error) {
    let mut out = BytesMut::new();
    error.write_to(&mut out);
    refuse_with(stream, &out).await;
}

/// As [`refuse`], of an error that stands at the end of `out`.
pub async fn refuse_with(stream: &mut Stream, out: &[u8]) {
    if stream.write_all(out).await.is_ok() {
        // Ends TLS in order too; a failure leaves nothing to do, the stream is dropped next.
        let _ = stream.shutdown().await;
    }
}

/// For one read.
const ROOM: usize = 512;

/// Reads until `buf` starts with a whole frame of at most `max` bytes, and takes it out.
///
/// # Errors
/// `UnexpectedEof` when the peer closed the stream, `InvalidData` for a length that is too small
/// or above `max`.
///
/// Cancel safety: no byte is lost, all stay in `buf`.
pub async fn read_frame(
    stream: &mut Stream,
    buf: &mut BytesMut,
    max: usize,
) -> io::Result<(u8, Bytes)> {
    loop {
        let header = frame::peek(buf)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "invalid message length"))?;
        if let Some(header) = header {
            if header.len > max {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "message is too long",
                ));
            }
            if buf.len() >= header.len {
                let mut frame = buf.split_to(header.len).freeze();
                frame.advance(frame::HEADER);
                return Ok((header.tag, frame));
            }
        }
        fill(stream, buf).await?;
    }
}

async fn fill(stream: &mut Stream, buf: &mut BytesMut) -> io::Result<()> {
    // For every message of a login at once.
    buf.reserve(ROOM);
    match stream.read_buf(buf).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

#[derive(Debug, Clone, Copy)]
enum Encryption {
    Tls,
    Gss,
}

/// Which requests the client made already: each is answered once, and neither under TLS.
#[derive(Default)]
struct EncryptionRequests {
    tls: bool,
    gss: bool,
}

enum Step {
    Encrypt(Encryption),
    Open(Opening),
}

/// One packet without its length word.
async fn read_packet(stream: &mut Stream, buf: &mut BytesMut) -> Result<Bytes> {
    let incomplete =
        |error: io::Error| Error::protocol("incomplete startup packet").detail(error.to_string());
    while buf.len() < 4 {
        fill(stream, buf).await.map_err(incomplete)?;
    }
    let length = (&buf[..4]).get_u32() as usize;
    if !(8..=MAX_PACKET + 4).contains(&length) {
        return Err(Error::protocol("invalid length of startup packet"));
    }
    while buf.len() < length {
        fill(stream, buf).await.map_err(incomplete)?;
    }
    let mut packet = buf.split_to(length).freeze();
    packet.advance(4);
    Ok(packet)
}

fn understand(
    packet: &Bytes,
    stream: &Stream,
    tls: Option<TlsOffer<'_>>,
    encryption: &mut EncryptionRequests,
) -> Result<Step> {
    let mut body = packet.clone();
    // The length was checked: four bytes of version are there.
    let version = (body.get_u16(), body.get_u16());
    match version {
        SSL_REQUEST if !encryption.tls && !stream.is_tls() => {
            if tls.is_some_and(|offer| offer.crowded) {
                return Err(too_many_clients());
            }
            encryption.tls = true;
            Ok(Step::Encrypt(Encryption::Tls))
        }
        GSSENC_REQUEST if !encryption.gss && !stream.is_tls() => {
            encryption.gss = true;
            Ok(Step::Encrypt(Encryption::Gss))
        }
        CANCEL_REQUEST => parse_cancel(body, false).map(Step::Open),
        FORWARDED_CANCEL => parse_cancel(body, true).map(Step::Open),
        (3, minor) => {
            let packet = parse_parameters(&body, minor)?;
            if tls.is_some_and(|offer| offer.required) && !stream.is_tls() {
                return Err(no_encryption(stream, &packet));
            }
            Ok(Step::Open(Opening::Session(packet)))
        }
        (major, minor) => Err(Error::new(
            Fault::Client,
            "0A000",
            format!(
                "unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{NEWEST_MINOR}"
            ),
        )
        .fatal()),
    }
}

/// Words and code are pg_hba.conf's for a client that only `hostssl` lines would let in.
fn no_encryption(stream: &Stream, packet: &StartupPacket) -> Error {
    Error::new(
        Fault::Client,
        "28000",
        format!(
            "no pg_hba.conf entry for host \"{}\", user \"{}\", database \"{}\", no encryption",
            stream.peer_host(),
            packet.user,
            packet.database
        ),
    )
    .detail("tls.required is set, so only encrypted connections are accepted.")
    .hint("Connect with sslmode=require or stronger.")
    .fatal()
}

/// Bytes sent along with the request were sent before any encryption: somebody in the middle may
/// have put them there, to be read as if they had been protected (CVE-2021-23222).
fn unencrypted_leftover(buf: &BytesMut, request: Encryption) -> Option<Error> {
    let request = match request {
        Encryption::Tls => "SSL",
        Encryption::Gss => "GSSAPI encryption",
    };
    (!buf.is_empty()).then(|| {
        Error::protocol(format!("received unencrypted data after {request} request")).detail(
            "This could be either a client-software bug or evidence of an attempted \
             man-in-the-middle attack.",
        )
    })
}

async fn answer(
    mut stream: Stream,
    request: Encryption,
    tls: Option<TlsOffer<'_>>,
) -> Result<Stream> {
    let acceptor = match (request, &stream) {
        (Encryption::Tls, Stream::Tcp(_)) => tls.map(|offer| offer.acceptor),
        (Encryption::Tls, Stream::Unix(_) | Stream::Tls(_)) | (Encryption::Gss, _) => None,
    };
    let reply = if acceptor.is_some() { b"S" } else { b"N" };
    stream.write_all(reply).await.map_err(lost)?;
    match acceptor {
        None => Ok(stream),
        Some(acceptor) => accept_tls(stream, acceptor).await,
    }
}

fn lost(error: io::Error) -> Error {
    Error::new(Fault::Client, "08006", "could not send data to client")
        .detail(error.to_string())
        .fatal()
}

/// PostgreSQL sends the whole version here, although its documentation speaks of the minor one.
async fn send_negotiation(stream: &mut Stream, packet: &StartupPacket) -> Result<()> {
    let mut out = BytesMut::new();
    write::frame(&mut out, b'v', |out| {
        out.put_u16(3);
        out.put_u16(packet.minor());
        // At most MAX_PACKET bytes of names, so the count fits.
        out.put_u32(packet.protocol_options.len() as u32);
        for option in &packet.protocol_options {
            out.put_slice(option.as_bytes());
            out.put_u8(0);
        }
    });
    stream.write_all(&out).await.map_err(lost)?;
    stream.flush().await.map_err(lost)
}

fn parse_cancel(mut body: Bytes, forwarded: bool) -> Result<Opening> {
    if body.len() < 4 || !CANCEL_KEY.contains(&(body.len() - 4)) {
        return Err(Error::protocol("invalid length of cancel request packet"));
    }
    Ok(Opening::Cancel {
        pid: body.get_i32(),
        key: body,
        forwarded,
    })
}

fn parse_parameters(body: &[u8], requested_minor: u16) -> Result<StartupPacket> {
    let mut packet = StartupPacket {
        requested_minor,
        user: String::new(),
        database: String::new(),
        parameters: Vec::new(),
        options: Vec::new(),
        replication: None,
        protocol_options: Vec::new(),
    };
    for (name, value) in split_parameters(body)? {
        let value = text(value)?;
        match text(name)? {
            "user" => packet.user = value.to_owned(),
            "database" => packet.database = value.to_owned(),
            "options" => packet.options.extend(parse_options(value)?),
            "replication" => packet.replication = parse_replication(value)?,
            name if name.starts_with("_pq_.") => packet.protocol_options.push(name.to_owned()),
            name => packet.parameters.push((name.to_owned(), value.to_owned())),
        }
    }
    if packet.user.is_empty() {
        return Err(Error::new(
            Fault::Client,
            "28000",
            "no PostgreSQL user name specified in startup packet",
        )
        .fatal());
    }
    if packet.database.is_empty() {
        packet.database.clone_from(&packet.user);
    }
    Ok(packet)
}

/// Pairs of NUL-terminated strings, ended by a NUL that is the packet's last byte.
fn split_parameters(mut body: &[u8]) -> Result<Vec<(&[u8], &[u8])>> {
    let mut pairs = Vec::new();
    let mut read = || -> Option<()> {
        loop {
            let name = frame::cstr(&mut body)?;
            if name.is_empty() {
                return body.is_empty().then_some(());
            }
            pairs.push((name, frame::cstr(&mut body)?));
        }
    };
    match read() {
        Some(()) => Ok(pairs),
        None => Err(Error::protocol(
            "invalid startup packet layout: expected terminator as last byte",
        )),
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| {
        Error::new(
            Fault::Client,
            "22021",
            "invalid byte sequence for encoding \"UTF8\"",
        )
        .detail("Names and values of the startup packet have to be UTF-8.")
        .fatal()
    })
}

/// A boolean as PostgreSQL reads one, or `database`.
fn parse_replication(value: &str) -> Result<Option<Replication>> {
    if value == "database" {
        return Ok(Some(Replication::Logical));
    }
    let value = value.to_ascii_lowercase();
    let is = |words: &[(&str, usize)]| {
        words
            .iter()
            .any(|(word, least)| value.len() >= *least && word.starts_with(&value))
    };
    if is(&[("true", 1), ("yes", 1), ("on", 2), ("1", 1)]) {
        Ok(Some(Replication::Physical))
    } else if is(&[("false", 1), ("no", 1), ("off", 2), ("0", 1)]) {
        Ok(None)
    } else {
        Err(Error::new(
            Fault::Client,
            "22023",
            format!("invalid value for parameter \"replication\": \"{value}\""),
        )
        .hint("Valid values are: \"false\", 0, \"true\", 1, \"database\".")
        .fatal())
    }
}

/// The settings in `options`, which are written as arguments of the `postgres` program:
/// `-c name=value` or `--name=value`, with a backslash before a space that belongs to a value.
fn parse_options(options: &str) -> Result<Vec<(String, String)>> {
    let mut settings = Vec::new();
    let mut words = split_options(options).into_iter();
    while let Some(word) = words.next() {
        if let Some(setting) = word.strip_prefix("--") {
            settings.push(parse_setting("--", setting)?);
        } else if word == "-c" {
            settings.push(parse_setting("-c ", &words.next().unwrap_or_default())?);
        } else if let Some(setting) = word.strip_prefix("-c") {
            settings.push(parse_setting("-c ", setting)?);
        } else {
            return Err(syntax(format!(
                "invalid command-line argument for server process: {word}"
            ))
            .hint("Only -c name=value and --name=value can be used in options."));
        }
    }
    Ok(settings)
}

/// Words between white space; a backslash takes the next character as it is (pg_split_opts).
fn split_options(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = options.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Dashes in the name stand for underscores (ParseLongOption).
fn parse_setting(switch: &str, setting: &str) -> Result<(String, String)> {
    match setting.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.replace('-', "_"), value.to_owned())),
        _ => Err(syntax(format!("{switch}{setting} requires a value"))),
    }
}

fn syntax(message: String) -> Error {
    Error::new(Fault::Client, "42601", message).fatal()
}

#[cfg(test)]
mod tests;
