//! The floor: a byte forwarder that knows nothing of PostgreSQL. One thread, one epoll, one recv
//! and one send per hop, a server connection per client.
//!
//! What a proxy costs above this is what its knowledge of the protocol costs.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// Holds every message of `pgbench -S` many times over.
const BUFFER_BYTES: usize = 16 * 1024;

const LISTENER: Token = Token(usize::MAX);

/// Forwards each connection to `listen` over a connection of its own to `to`, until killed.
///
/// # Errors
/// What epoll or the listener says; a broken connection ends alone.
pub fn run(listen: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(listen)?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut pairs: Vec<Option<Pair>> = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut events = Events::with_capacity(256);
    loop {
        if let Err(error) = poll.poll(&mut events, None) {
            if error.kind() == ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        for event in &events {
            if event.token() == LISTENER {
                accept_all(&listener, to, &poll, &mut pairs)?;
                continue;
            }
            let (at, side) = Side::of(event.token());
            let Some(slot) = pairs.get_mut(at) else {
                continue;
            };
            if let Some(pair) = slot
                && !pair.handle(event, side, &mut buffer)
            {
                *slot = None;
            }
        }
    }
}

fn accept_all(
    listener: &TcpListener,
    to: SocketAddr,
    poll: &Poll,
    pairs: &mut Vec<Option<Pair>>,
) -> io::Result<()> {
    loop {
        let client = match listener.accept() {
            Ok((client, _)) => client,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let at = pairs
            .iter()
            .position(Option::is_none)
            .unwrap_or(pairs.len());
        // A server that refuses is told to the client by the end of its connection.
        if let Ok(pair) = Pair::open(client, to, at, poll) {
            if at == pairs.len() {
                pairs.push(None);
            }
            pairs[at] = Some(pair);
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

impl Side {
    fn token(self, pair: usize) -> Token {
        match self {
            Self::Client => Token(pair * 2),
            Self::Server => Token(pair * 2 + 1),
        }
    }

    fn of(token: Token) -> (usize, Self) {
        let side = if token.0.is_multiple_of(2) {
            Self::Client
        } else {
            Self::Server
        };
        (token.0 / 2, side)
    }
}

/// A client, its server connection, and what each has sent that the other has not yet taken.
struct Pair {
    client: TcpStream,
    server: TcpStream,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

impl Pair {
    fn open(mut client: TcpStream, to: SocketAddr, at: usize, poll: &Poll) -> io::Result<Self> {
        // Blocks, but a connection on loopback is made at once.
        let server = std::net::TcpStream::connect(to)?;
        server.set_nonblocking(true)?;
        let mut server = TcpStream::from_std(server);
        let both = Interest::READABLE | Interest::WRITABLE;
        for (stream, side) in [(&mut client, Side::Client), (&mut server, Side::Server)] {
            stream.set_nodelay(true)?;
            poll.registry().register(stream, side.token(at), both)?;
        }
        Ok(Self {
            client,
            server,
            to_server: Vec::new(),
            to_client: Vec::new(),
        })
    }

    /// Moves what an event of one side lets move; answers whether the pair lives on.
    fn handle(&mut self, event: &Event, side: Side, buffer: &mut [u8]) -> bool {
        let closed = event.is_read_closed();
        let inward = || event.is_readable() || closed;
        let (client_to_server, server_to_client) = match side {
            Side::Client => (inward(), !self.to_client.is_empty()),
            Side::Server => (!self.to_server.is_empty(), inward()),
        };
        let mut open = true;
        if client_to_server {
            let (from, to) = (&mut self.client, &mut self.server);
            open &= pump(from, to, &mut self.to_server, buffer, closed).unwrap_or(false);
        }
        if server_to_client {
            let (from, to) = (&mut self.server, &mut self.client);
            open &= pump(from, to, &mut self.to_client, buffer, closed).unwrap_or(false);
        }
        open
    }
}

/// Copies until `from` has no more or `to` takes no more; answers whether `from` is still open.
///
/// Readiness is edge-triggered, so a read that does not fill the buffer has emptied the socket,
/// unless the peer has closed it (`closed`): then the end is still to be read (epoll(7)).
fn pump(
    from: &mut TcpStream,
    to: &mut TcpStream,
    pending: &mut Vec<u8>,
    buffer: &mut [u8],
    closed: bool,
) -> io::Result<bool> {
    if !pending.is_empty() {
        let written = write_some(to, pending)?;
        pending.drain(..written);
    }
    while pending.is_empty() {
        let read = match from.read(buffer) {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return Ok(false);
            }
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        let written = write_some(to, &buffer[..read])?;
        pending.extend_from_slice(&buffer[written..read]);
        if read < buffer.len() && !closed {
            break;
        }
    }
    Ok(true)
}

/// Bytes that the socket took, which may be none.
fn write_some(to: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match to.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}
