//! A connection that sends and reads frames as the test says, right or wrong.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Longer than any answer takes; a hanging peer fails the test instead of the run.
const LIMIT: Duration = Duration::from_secs(20);

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub tag: u8,
    pub body: Vec<u8>,
}

impl Frame {
    /// Fields of an ErrorResponse or NoticeResponse by their letter.
    pub fn fields(&self) -> BTreeMap<char, String> {
        assert!(matches!(self.tag, b'E' | b'N'), "{self:?}");
        self.body
            .split(|byte| *byte == 0)
            .filter_map(|field| {
                let (letter, text) = field.split_first()?;
                Some((
                    char::from(*letter),
                    String::from_utf8_lossy(text).into_owned(),
                ))
            })
            .collect()
    }

    /// SQLSTATE of an ErrorResponse.
    pub fn code(&self) -> String {
        self.fields().remove(&'C').unwrap_or_default()
    }
}

/// What a connection is made of.
trait Bytes: Read + Write + AsFd + Send {}
impl<T: Read + Write + AsFd + Send> Bytes for T {}

struct Tls(rustls::StreamOwned<rustls::ClientConnection, Box<dyn Bytes>>);

impl Read for Tls {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Tls {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl AsFd for Tls {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.sock.as_fd()
    }
}

pub struct Wire {
    stream: Box<dyn Bytes>,
}

impl Wire {
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: Box::new(stream),
        }
    }

    pub fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self {
            stream: Box::new(stream),
        }
    }

    /// As [`Wire::login`], over a Unix socket.
    pub fn login_unix(path: &Path, user: &str, database: &str) -> (Self, Vec<Frame>) {
        Self::connect_unix(path).logged_in(user, database)
    }

    /// Connects as a user who needs no password; answers the connection in its idle state and the
    /// frames that came before ReadyForQuery.
    pub fn login(port: u16, user: &str, database: &str) -> (Self, Vec<Frame>) {
        Self::connect(port).logged_in(user, database)
    }

    fn logged_in(mut self, user: &str, database: &str) -> (Self, Vec<Frame>) {
        self.send_startup(196_608, &[("user", user), ("database", database)]);
        let frames = self.read_to_ready();
        assert!(frames.iter().all(|frame| frame.tag != b'E'), "{frames:?}");
        (self, frames)
    }

    /// Goes on over TLS, with a server that shows this certificate for `localhost`.
    pub fn encrypted(mut self, certificate: &Path) -> Self {
        self.send_untagged(&80_877_103_u32.to_be_bytes());
        assert_eq!(self.read_byte(), b'S');
        let mut roots = rustls::RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(certificate).unwrap();
        roots.add(certificate).unwrap();
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        Self {
            stream: Box::new(Tls(rustls::StreamOwned::new(session, self.stream))),
        }
    }

    /// How long an answer may take from now on.
    pub fn set_limit(&self, limit: Duration) {
        self.socket().set_read_timeout(Some(limit)).unwrap();
    }

    pub fn local_port(&self) -> u16 {
        let address = self.socket().local_addr().unwrap();
        address.as_socket().unwrap().port()
    }

    /// Has the connection end as in a crash: with RST, whatever is under way.
    pub fn reset_on_close(&self) {
        self.socket().set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Says that nothing more comes.
    pub fn finish_sending(&self) {
        // The server may have ended it first.
        let _ = self.socket().shutdown(std::net::Shutdown::Write);
    }

    fn socket(&self) -> socket2::SockRef<'_> {
        socket2::SockRef::from(&self.stream)
    }

    pub fn send_startup(&mut self, version: u32, params: &[(&str, &str)]) {
        let mut body = version.to_be_bytes().to_vec();
        for text in params.iter().flat_map(|(name, value)| [name, value]) {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        self.send_untagged(&body);
    }

    /// A frame without a tag, as StartupMessage, SSLRequest and CancelRequest are.
    pub fn send_untagged(&mut self, body: &[u8]) {
        let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        self.send_bytes(&bytes);
    }

    pub fn send(&mut self, tag: u8, body: &[u8]) {
        self.send_bytes(&frame(tag, body));
    }

    /// A Query message.
    pub fn query(&mut self, sql: &str) {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(b'Q', &body);
    }

    /// As [`Wire::send_bytes`], to a server that may have closed.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Bytes that need not be a frame.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The single byte that answers SSLRequest and GSSENCRequest.
    pub fn read_byte(&mut self) -> u8 {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).unwrap();
        byte[0]
    }

    /// The next frame; `None` when the server has closed.
    pub fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 5];
        loop {
            match self.stream.read(&mut head[..1]) {
                Ok(0) => return None,
                Ok(_) => break,
                // A server that ends a session does not read what it was just sent.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                // Over TLS, an end without its close_notify.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
        }
        self.stream.read_exact(&mut head[1..]).unwrap();
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).unwrap();
        Some(Frame { tag: head[0], body })
    }

    /// The next frame, if its beginning comes before the limit ([`Wire::set_limit`]) or is here.
    pub fn try_read(&mut self) -> Option<Frame> {
        let here = self.socket().peek(&mut [MaybeUninit::uninit()]);
        matches!(here, Ok(1..)).then(|| self.read())?
    }

    /// The next frame, `Some(None)` at the end of the connection; `None` when neither comes before the limit
    /// ([`Wire::set_limit`]).
    pub fn try_read_or_end(&mut self) -> Option<Option<Frame>> {
        match self.socket().peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => Some(None),
            Ok(_) => Some(self.read()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(None),
            Err(_) => None,
        }
    }

    /// All bytes up to the end of the connection.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            Ok(_) | Err(_) => bytes,
        }
    }

    /// The connection has ended as the protocol below has it end: over TLS with close_notify.
    pub fn ends_in_order(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }

    /// Frames up to and with ReadyForQuery, or to the end of the connection.
    pub fn read_to_ready(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.read() {
            let ready = frame.tag == b'Z';
            frames.push(frame);
            if ready {
                break;
            }
        }
        frames
    }
}

impl Wire {
    /// Runs one Query message; the answer as [`digest`] tells it.
    pub fn ask(&mut self, sql: &str) -> String {
        self.query(sql);
        digest(&self.read_to_ready())
    }

    /// Sends messages in one write and a Sync after them; the answer as [`digest`] tells it.
    pub fn ask_pipeline(&mut self, messages: &[Vec<u8>]) -> String {
        self.send_bytes(&messages.concat());
        self.send(b'S', b"");
        digest(&self.read_to_ready())
    }

    /// Runs statements in one pipeline, each unnamed.
    pub fn ask_extended(&mut self, statements: &[&str]) -> String {
        let messages: Vec<_> = statements.iter().map(|sql| unnamed(sql)).collect();
        self.ask_pipeline(&messages)
    }
}

/// The substance of an answer in one line: values of rows, command tags, SQLSTATEs, the status of
/// ReadyForQuery, `suspended` for a portal with more rows, `end` for a connection that was closed.
pub fn digest(frames: &[Frame]) -> String {
    let mut words: Vec<String> = frames.iter().filter_map(Frame::word).collect();
    if frames.last().is_none_or(|frame| frame.tag != b'Z') {
        words.push("end".to_owned());
    }
    words.join(" ")
}

impl Frame {
    fn word(&self) -> Option<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', "");
        match self.tag {
            b'C' | b'Z' => Some(text(&self.body)),
            b'D' => Some(text(self.body.get(6..).unwrap_or_default())),
            b'E' => Some(self.code()),
            b's' => Some("suspended".to_owned()),
            b'3' => Some("closed".to_owned()),
            _ => None,
        }
    }
}

/// The body of a CancelRequest that stops what the session does whose login brought `frames`.
pub fn cancel_request(frames: &[Frame]) -> Vec<u8> {
    let key = frames.iter().find(|frame| frame.tag == b'K').unwrap();
    [&80_877_102u32.to_be_bytes()[..], &key.body].concat()
}

/// Parse, without parameter types.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

/// Bind with parameters in text format.
pub fn bind(portal: &str, statement: &str, params: &[&str]) -> Vec<u8> {
    let mut body = format!("{portal}\0{statement}\0\0\0").into_bytes();
    body.extend_from_slice(&(params.len() as u16).to_be_bytes());
    for param in params {
        body.extend_from_slice(&(param.len() as u32).to_be_bytes());
        body.extend_from_slice(param.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    frame(b'B', &body)
}

/// Execute; 0 is no limit.
pub fn execute(portal: &str, max_rows: u32) -> Vec<u8> {
    let mut body = format!("{portal}\0").into_bytes();
    body.extend_from_slice(&max_rows.to_be_bytes());
    frame(b'E', &body)
}

/// Parse, Bind and Execute of the unnamed statement and portal.
pub fn unnamed(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", "", &[]), execute("", 0)].concat()
}

/// Tag, length and body.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}
