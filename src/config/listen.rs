//! Where clients connect, and how this process finds the others: keys of `[general]` and `[peers]`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::Endpoint;
use super::database::endpoint;
use super::file::Env;
use super::reader::{Place, Section};

/// The largest `peer_id`: it has 10 bits of the process ids that clients are told.
pub const MAX_PEER_ID: u16 = 1_023;

const LISTEN_EXAMPLE: &str = "write \"127.0.0.1:6432\", \"0.0.0.0:6432\" for every interface, \
                              \"[::]:6432\", or \"/run/ringway:6432\" for a Unix socket";
const PEER_EXAMPLE: &str = "write \"host:6432\", \"[::1]:6432\" or \"/run/ringway:6432\"";

/// Longest path of a Unix socket: sun_path has 108 bytes, the last of them zero.
const MAX_SOCKET_PATH: usize = 107;

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    /// The directory of the socket file and the port in its name, as libpq finds it.
    Unix {
        directory: PathBuf,
        port: u16,
    },
}

impl ListenAddress {
    /// The socket file `.s.PGSQL.PORT`; `None` for TCP.
    pub fn socket_file(&self) -> Option<PathBuf> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix { directory, port } => Some(directory.join(format!(".s.PGSQL.{port}"))),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { directory, port } => write!(f, "{}:{port}", directory.display()),
        }
    }
}

/// `listen`: IP addresses and ports, directories and ports.
pub(super) fn addresses(section: &Section<'_>) -> Option<Vec<ListenAddress>> {
    let written = section.strings("listen")?;
    if written.is_empty() {
        let remedy = "list at least one, such as \"127.0.0.1:6432\"";
        section.mistake("listen", "no address", remedy);
    }
    let mut addresses = Vec::with_capacity(written.len());
    for (place, text) in written {
        match listen_address(text) {
            Ok(address) if is_fixed(&address) && addresses.contains(&address) => {
                let what = format!("{address} is listed twice");
                section.mistakes().add(&place, what, "");
            }
            Ok(address) => addresses.push(address),
            Err(what) => section.mistakes().add(&place, what, LISTEN_EXAMPLE),
        }
    }
    Some(addresses)
}

fn listen_address(text: &str) -> Result<ListenAddress, String> {
    if !text.starts_with('/') {
        let address = text.parse().map(ListenAddress::Tcp);
        return address.map_err(|_| format!("\"{text}\" is not an IP address and port"));
    }
    let Endpoint { host, port } = endpoint(text).map_err(|what| format!("\"{text}\" {what}"))?;
    let directory = PathBuf::from(host);
    let address = ListenAddress::Unix { directory, port };
    let length = address
        .socket_file()
        .map_or(0, |file| file.as_os_str().len());
    match length <= MAX_SOCKET_PATH {
        true => Ok(address),
        false => Err(format!(
            "\"{text}\" makes a socket file of {length} bytes; the system takes {MAX_SOCKET_PATH}"
        )),
    }
}

/// Port 0 takes another free port each time.
fn is_fixed(address: &ListenAddress) -> bool {
    !matches!(address, ListenAddress::Tcp(address) if address.port() == 0)
}

/// `unix_socket_mode`: octal permissions, as chmod takes them.
pub(super) fn socket_mode(section: &Section<'_>) -> Option<u32> {
    let written = section.string("unix_socket_mode")?;
    let mode = u32::from_str_radix(written, 8).ok();
    let mode = mode.filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        let what = format!("\"{written}\" is not a file mode");
        section.mistake(
            "unix_socket_mode",
            what,
            "write octal digits: \"0777\" or \"0770\"",
        );
    }
    mode
}

/// `run_directory`, whose sockets' names need room below the longest path.
pub(super) fn run_directory(section: &Section<'_>) -> Option<PathBuf> {
    let written = section.string("run_directory")?;
    if !written.starts_with('/') {
        let remedy = "write a path from the root, such as \"/run/ringway\"";
        section.mistake("run_directory", "a relative path", remedy);
    } else if written.len() > MAX_SOCKET_PATH - 27 {
        section.mistake("run_directory", "too long for the path of a socket", "");
    }
    Some(PathBuf::from(written))
}

/// `peer_id`, or the value of the variable that `peer_id_env` names: processes with one file differ
/// by it.
pub(super) fn peer_id(section: &Section<'_>, env: Env<'_>) -> Option<u16> {
    const KEY: &str = "peer_id_env";
    if !section.has(KEY) {
        let id = section.integer("peer_id", 1..=u32::from(MAX_PEER_ID))?;
        return u16::try_from(id).ok();
    }
    if section.has("peer_id") {
        section.mistake(KEY, "peer_id is given twice", "keep one of the two");
    }
    let name = section.string(KEY)?;
    let Some(value) = env(name) else {
        let what = format!("the environment has no variable {name}");
        section.mistake(KEY, what, "set it to a number of this process");
        return None;
    };
    let id = value.parse().ok();
    let id = id.filter(|id| (1..=MAX_PEER_ID).contains(id));
    if id.is_none() {
        let what = format!("{name} is \"{value}\"");
        let remedy = format!("set it to a number from 1 to {MAX_PEER_ID}");
        section.mistake(KEY, what, remedy);
    }
    id
}

/// `[peers]`: the addresses of the other processes by their `peer_id`.
pub(super) fn peers(root: &Section<'_>, own: Option<u16>) -> BTreeMap<u16, Endpoint> {
    let mut peers = BTreeMap::new();
    for entry in root.entries("peers").unwrap_or_default() {
        let mistake = |place: &Place, what: String, remedy: &str| {
            root.mistakes().add(place, what, remedy);
        };
        let id = entry.name.parse::<u16>().ok();
        let Some(id) = id.filter(|id| (1..=MAX_PEER_ID).contains(id)) else {
            let what = format!("\"{}\" is not a peer_id", entry.name);
            let remedy = format!("write a number from 1 to {MAX_PEER_ID}");
            mistake(&entry.place, what, &remedy);
            continue;
        };
        match entry.value.as_str().map(endpoint) {
            Some(Ok(endpoint)) => {
                peers.insert(id, endpoint);
            }
            Some(Err(what)) => mistake(&entry.place, format!("the address {what}"), PEER_EXAMPLE),
            None => mistake(&entry.place, "expected a string".to_owned(), PEER_EXAMPLE),
        }
    }
    if own.is_none() && !peers.is_empty() {
        let what = "there are peers, but this process has no id that they could know it by";
        root.mistake("peers", what, "write peer_id in [general]");
    }
    // One list may serve all processes.
    if let Some(own) = own {
        peers.remove(&own);
    }
    peers
}
