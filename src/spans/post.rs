//! Sends what the exporter has made to the collector: HTTP/1.1 on a connection for each batch. It runs on
//! the exporter's own thread, which may block.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};

use crate::config::TracingSettings;

/// For each step of an exchange.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of an answer, of which only the status counts.
const LONGEST_ANSWER: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Post {
    host: String,
    port: u16,
    /// The last batch was not taken: said once.
    fails: AtomicBool,
}

impl Post {
    pub(super) fn new(settings: &TracingSettings) -> Self {
        Self {
            host: settings.host.clone(),
            port: settings.port,
            fails: AtomicBool::new(false),
        }
    }

    fn send(&self, request: &Request<Bytes>) -> io::Result<u16> {
        let host = self.host.trim_matches(['[', ']']);
        let mut failure = io::Error::other("its name has no address");
        for address in (host, self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return self.exchange(stream, request),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn exchange(&self, mut stream: TcpStream, request: &Request<Bytes>) -> io::Result<u16> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut head = format!(
            "{} {} HTTP/1.1\r\nhost: {}:{}\r\nconnection: close\r\ncontent-length: {}\r\n",
            request.method(),
            request.uri().path(),
            self.host,
            self.port,
            request.body().len()
        );
        for (name, value) in request.headers() {
            let value = value.to_str().map_err(io::Error::other)?;
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(request.body())?;
        let mut answer = Vec::new();
        stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
        // HTTP/1.1 200 OK
        let line = answer.split(|byte| *byte == b'\r').next();
        let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        status.ok_or_else(|| io::Error::other("its answer is no HTTP"))
    }

    /// A collector that is away is told of once, and once when it is back.
    fn note(&self, failure: Option<String>) {
        let failed = self.fails.swap(failure.is_some(), Relaxed);
        let (host, port) = (&self.host, self.port);
        match failure {
            Some(error) if !failed => {
                tracing::warn!(host, port, error, "spans are lost: the collector fails");
            }
            None if failed => tracing::info!(host, port, "the collector takes spans again"),
            Some(_) | None => {}
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        match self.send(&request) {
            Ok(status) => {
                let refused = !(200..300).contains(&status);
                self.note(refused.then(|| format!("it answers with status {status}")));
                Ok(Response::builder().status(status).body(Bytes::new())?)
            }
            Err(error) => {
                self.note(Some(error.to_string()));
                Err(error.into())
            }
        }
    }
}
