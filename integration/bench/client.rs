//! A client of few words: logs in, sends one message and reads what comes of it. Rows are counted
//! in bytes, not looked at, so that it keeps up with every proxy.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::Failure;
use crate::peers::{DATABASE, USER};
use crate::secure::PASSWORD;

/// How long a proxy may take to answer one client.
const PATIENCE: Duration = Duration::from_secs(10);

const SSL_REQUEST: u32 = 80_877_103;
const PROTOCOL: u32 = 3 << 16;

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

pub struct Client(BufReader<Box<dyn Wire>>);

impl Client {
    /// Connects and logs in, over TLS if `tls` is given; `buffer` is the size of its reads.
    ///
    /// # Errors
    /// It is not let in.
    pub fn connect(
        port: u16,
        tls: Option<&Arc<ClientConfig>>,
        buffer: usize,
    ) -> Result<Self, Failure> {
        Self::connect_to(DATABASE, port, tls, buffer)
    }

    /// As [`Client::connect`], to another database.
    pub fn connect_to(
        database: &str,
        port: u16,
        tls: Option<&Arc<ClientConfig>>,
        buffer: usize,
    ) -> Result<Self, Failure> {
        let mut tcp = TcpStream::connect(("127.0.0.1", port))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let stream: Box<dyn Wire> = match tls {
            None => Box::new(tcp),
            Some(config) => {
                tcp.write_all(&[8_u32.to_be_bytes(), SSL_REQUEST.to_be_bytes()].concat())?;
                let mut answer = [0];
                tcp.read_exact(&mut answer)?;
                if answer != *b"S" {
                    return Err("TLS is refused".into());
                }
                let name = ServerName::try_from("localhost")?;
                let tls = ClientConnection::new(Arc::clone(config), name)?;
                Box::new(StreamOwned::new(tls, tcp))
            }
        };
        let mut client = Self(BufReader::with_capacity(buffer, stream));
        let parameters = format!("user\0{USER}\0database\0{database}\0\0");
        let mut startup = (8 + parameters.len() as u32).to_be_bytes().to_vec();
        startup.extend(PROTOCOL.to_be_bytes());
        startup.extend(parameters.as_bytes());
        client.write(&startup)?;
        client.log_in()?;
        Ok(client)
    }

    fn log_in(&mut self) -> Result<(), Failure> {
        let mut scram = ScramSha256::new(PASSWORD.as_bytes(), ChannelBinding::unsupported());
        loop {
            let (tag, length) = self.header()?;
            let body = self.body(length)?;
            let method = body.get(..4).map_or(0, |kind| kind[3]);
            match (tag, method) {
                (b'Z', _) => return Ok(()),
                (b'E', _) => return Err(words(&body)),
                // AuthenticationSASL, then SASLContinue, then SASLFinal.
                (b'R', 10) => {
                    let first = scram.message();
                    let mut answer = SCRAM_SHA_256.as_bytes().to_vec();
                    answer.push(0);
                    answer.extend((first.len() as u32).to_be_bytes());
                    answer.extend(first);
                    self.send(b'p', &answer)?;
                }
                (b'R', 11) => {
                    scram.update(&body[4..])?;
                    self.send(b'p', scram.message())?;
                }
                (b'R', 12) => scram.finish(&body[4..])?,
                _ => {}
            }
        }
    }

    /// Runs a text and answers how many bytes came back. Data is sent if the server asks for some.
    ///
    /// # Errors
    /// What the server says.
    pub fn query(&mut self, sql: &str, data: &[u8]) -> Result<u64, Failure> {
        self.send(b'Q', format!("{sql}\0").as_bytes())?;
        let mut received = 0;
        loop {
            let (tag, length) = self.header()?;
            received += 5 + length as u64;
            match tag {
                b'G' => {
                    self.body(length)?;
                    self.write(data)?;
                    self.send(b'c', &[])?;
                }
                b'E' => return Err(words(&self.body(length)?)),
                b'Z' => {
                    self.body(length)?;
                    return Ok(received);
                }
                _ => self.skip(length)?,
            }
        }
    }

    fn send(&mut self, tag: u8, body: &[u8]) -> Result<(), Failure> {
        let mut message = vec![tag];
        message.extend((4 + body.len() as u32).to_be_bytes());
        message.extend(body);
        self.write(&message)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let stream = self.0.get_mut();
        stream.write_all(bytes)?;
        Ok(stream.flush()?)
    }

    /// Tag and length of the next message's body.
    fn header(&mut self) -> Result<(u8, usize), Failure> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head)?;
        let [tag, length @ ..] = head;
        Ok((tag, u32::from_be_bytes(length).saturating_sub(4) as usize))
    }

    fn body(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(body)
    }

    fn skip(&mut self, mut length: usize) -> Result<(), Failure> {
        while length > 0 {
            let here = self.0.fill_buf()?.len().min(length);
            if here == 0 {
                return Err("the connection was closed".into());
            }
            self.0.consume(here);
            length -= here;
        }
        Ok(())
    }
}

fn words(error: &[u8]) -> Failure {
    String::from_utf8_lossy(error).replace('\0', " ").into()
}
