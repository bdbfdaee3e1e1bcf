//! One GET of `/status.json`. The process serves plain HTTP, so a stream and two lines are all it takes.

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::http::status::Status;

/// For connecting, and for each read and write.
const PATIENCE: Duration = Duration::from_secs(3);
/// A longer answer is not ours.
const LONGEST: u64 = 64 * 1024 * 1024;

/// Where a process answers HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `host:port`, an IPv6 address in brackets.
    host: String,
    /// Before `/status.json`: empty, or begins with a slash and ends without one.
    path: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}/", self.host, self.path)
    }
}

impl From<SocketAddr> for Address {
    /// Of `http_listen`; one that means every interface is asked over the loopback.
    fn from(mut listen: SocketAddr) -> Self {
        if listen.ip().is_unspecified() {
            listen.set_ip(match listen {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        Self {
            host: listen.to_string(),
            path: String::new(),
        }
    }
}

impl std::str::FromStr for Address {
    type Err = String;

    /// `http://host:port/`; a path before `status.json` may follow.
    fn from_str(url: &str) -> Result<Self, String> {
        let form = "write http://HOST:PORT/";
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(match url.starts_with("https://") {
                true => format!("https is not spoken here; {form}"),
                false => format!("not an http URL; {form}"),
            });
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let odd = |c: char| c.is_whitespace() || c.is_control() || "?#@".contains(c);
        if host.is_empty() || rest.contains(odd) {
            return Err(format!("not the URL of a status page; {form}"));
        }
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let path = path
            .strip_suffix("status.json")
            .unwrap_or(path)
            .trim_matches('/');
        Ok(Self {
            host: if has_port {
                host.to_owned()
            } else {
                format!("{host}:80")
            },
            path: if path.is_empty() {
                String::new()
            } else {
                format!("/{path}")
            },
        })
    }
}

impl Address {
    /// What the process says of itself now.
    ///
    /// # Errors
    /// It cannot be reached, or answers something else; for people, without a full stop.
    pub fn fetch(&self) -> Result<Status, String> {
        let body = self
            .get()
            .map_err(|why| format!("{self} cannot be reached: {why}"))?;
        let body = body.map_err(|why| format!("{self} answers {why}"))?;
        serde_json::from_str(&body)
            .map_err(|error| format!("{self} is not the status page of this version: {error}"))
    }

    /// The body, or a status other than 200.
    fn get(&self) -> std::io::Result<Result<String, String>> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // HTTP/1.0: the answer comes whole, and its end is that of the connection.
        let request = format!(
            "GET {}/status.json HTTP/1.0\r\nhost: {}\r\n\r\n",
            self.path, self.host
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let first = head.lines().next().unwrap_or_default();
        let code = first.split_once(' ').map_or("nothing", |(_, code)| code);
        Ok(match code.starts_with("200") {
            true => Ok(body.to_owned()),
            false => Err(code.chars().filter(|c| !c.is_control()).take(60).collect()),
        })
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let mut failure = std::io::ErrorKind::NotFound.into();
        for address in self.host.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, shown) in [
            ("http://a:9187", "http://a:9187/"),
            ("http://a:9187/", "http://a:9187/"),
            ("http://[::1]:9187/status.json", "http://[::1]:9187/"),
            ("http://a", "http://a:80/"),
            ("http://a:1/one/two/", "http://a:1/one/two/"),
        ] {
            let address: Address = url.parse().unwrap();
            assert_eq!(address.to_string(), shown);
        }
        for url in [
            "",
            "a:9187",
            "https://a:9187",
            "http://",
            "http://a b/",
            "http://u@a/",
            "http://a\r\n/",
        ] {
            assert!(url.parse::<Address>().is_err(), "{url:?}");
        }
        for (listen, shown) in [
            ("0.0.0.0:9187", "http://127.0.0.1:9187/"),
            ("[::]:9187", "http://[::1]:9187/"),
            ("10.0.0.1:9187", "http://10.0.0.1:9187/"),
        ] {
            let listen: SocketAddr = listen.parse().unwrap();
            assert_eq!(Address::from(listen).to_string(), shown);
        }
    }

    /// What a process that answers this is taken for.
    fn fetched(answer: &'static str) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::from(listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1_000];
            let length = stream.read(&mut request).unwrap();
            assert!(
                request[..length].starts_with(b"GET /status.json HTTP/1.0\r\nhost: 127.0.0.1:")
            );
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let error = address.fetch().unwrap_err();
        served.join().unwrap();
        error.replace(&address.to_string(), "URL")
    }

    #[test]
    fn what_is_no_status_is_told_as_what_it_is() {
        assert_eq!(
            fetched("HTTP/1.1 404 Not Found\r\n\r\n"),
            "URL answers 404 Not Found"
        );
        assert_eq!(fetched(""), "URL answers nothing");
        let other = fetched("HTTP/1.1 200 OK\r\n\r\n{\"version\":\"0\"}");
        assert!(
            other.starts_with("URL is not the status page of this version: missing"),
            "{other}"
        );
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = Address::from(listener.local_addr().unwrap());
        drop(listener);
        let error = gone.fetch().unwrap_err();
        assert!(error.contains(" cannot be reached: "), "{error}");
    }
}
