//! The sockets that clients come to: bound here, passed by systemd, or taken over from the process
//! that served before. Which one it is, is told by its address.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::{SockRef, Socket};
use tokio::net::TcpListener;

use super::cannot;
use crate::config::{General, ListenAddress};
use crate::error::{Error, Fault};
use crate::net::listener::{Listener, SocketFile, bind_tcp, bind_unix};

/// A listening socket that another process made.
pub struct Passed {
    pub socket: Socket,
    pub owner: Owner,
}

/// Who removes a socket's file in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Ringway,
    Systemd,
}

impl Owner {
    /// As it is told to the process that takes over.
    pub fn byte(self) -> u8 {
        match self {
            Self::Ringway => b'r',
            Self::Systemd => b's',
        }
    }

    pub fn from_byte(byte: u8) -> Self {
        match byte {
            b's' => Self::Systemd,
            _ => Self::Ringway,
        }
    }
}

/// Where clients, and those who ask over HTTP, are let in.
pub struct Doors(Mutex<Sockets>);

#[derive(Default)]
struct Sockets {
    clients: Vec<Door>,
    http: Option<(Socket, Owner)>,
    /// Another process has them too, and may be about to take over.
    lent: bool,
}

struct Door {
    address: ListenAddress,
    listener: Arc<Listener>,
    owner: Owner,
    /// Of a Unix socket, once it is ours to remove.
    file: Option<SocketFile>,
}

impl Doors {
    /// A socket for each address of `listen` and `http_listen`: one of `passed`, or a new one.
    ///
    /// # Errors
    /// An address that cannot be listened on, or a socket of systemd's that the configuration does
    /// not name.
    pub fn open(general: &General, mut passed: Vec<Passed>) -> Result<Self, Error> {
        let mut sockets = Sockets::default();
        for address in &general.listen {
            sockets.clients.push(match find(address, &mut passed) {
                Some(found) => Door::new(address, found)?,
                None => {
                    let mut door = Door::new(address, bind(address, general)?)?;
                    door.claim_file()?;
                    door
                }
            });
        }
        if let Some(address) = general.http_listen.map(ListenAddress::Tcp) {
            let Passed { socket, owner } = match find(&address, &mut passed) {
                Some(found) => found,
                None => bind(&address, general)?,
            };
            sockets.http = Some((socket, owner));
        }
        for left in passed {
            let name = name(&left.socket);
            match left.owner {
                Owner::Systemd => return Err(unnamed(&name)),
                Owner::Ringway => tracing::info!(address = name, "no longer listened on"),
            }
        }
        Ok(Self(Mutex::new(sockets)))
    }

    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where clients come.
    pub fn clients(&self) -> Vec<Arc<Listener>> {
        let sockets = self.sockets();
        let doors = sockets.clients.iter();
        doors.map(|door| Arc::clone(&door.listener)).collect()
    }

    /// Where HTTP is asked for, if it is; for the current runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn http(&self) -> Result<Option<TcpListener>, Error> {
        let sockets = self.sockets();
        let Some((socket, _)) = &sockets.http else {
            return Ok(None);
        };
        let listener = || {
            let socket = socket.try_clone()?;
            socket.set_nonblocking(true)?;
            TcpListener::from_std(socket.into())
        };
        listener()
            .map(Some)
            .map_err(|error| cannot("serve HTTP", &error))
    }

    /// The process that had these sockets lets nobody in any more: their files are ours.
    pub fn adopt(&self) {
        let mut sockets = self.sockets();
        for door in &mut sockets.clients {
            if let Err(error) = door.claim_file() {
                tracing::warn!(%error, "the file of a socket that was taken over is gone");
            }
        }
    }

    /// All sockets once more, for a process that is to take over. From now on their files are left
    /// alone, until [`Self::take_back`].
    ///
    /// # Errors
    /// What the system says.
    pub fn lend(&self) -> io::Result<Vec<Passed>> {
        let mut sockets = self.sockets();
        sockets.lent = true;
        let clients = sockets.clients.iter();
        let clients = clients.map(|door| (SockRef::from(&*door.listener), door.owner));
        let http = sockets.http.iter();
        let http = http.map(|(socket, owner)| (SockRef::from(socket), *owner));
        clients
            .chain(http)
            .map(|(socket, owner)| {
                let socket = socket.try_clone()?;
                Ok(Passed { socket, owner })
            })
            .collect()
    }

    /// The process that was to take over did not.
    pub fn take_back(&self) {
        self.sockets().lent = false;
    }

    /// Lets no client in any more, and removes the files of sockets: who finds none is refused, and
    /// not lost. Returns the sockets for a last look at who waits there.
    pub fn close(&self) -> Vec<Arc<Listener>> {
        let mut sockets = self.sockets();
        let lent = sockets.lent;
        let doors = sockets.clients.drain(..);
        let listener = |door: Door| {
            if let Some(file) = door.file.filter(|_| lent) {
                file.leave();
            }
            door.listener
        };
        doors.map(listener).collect()
    }

    /// The same when another process has the sockets: their files stay.
    pub fn leave(&self) {
        let sockets = std::mem::take(&mut *self.sockets());
        let files = sockets.clients.into_iter().filter_map(|door| door.file);
        files.for_each(SocketFile::leave);
    }
}

impl Door {
    fn new(address: &ListenAddress, found: Passed) -> Result<Self, Error> {
        let listener = Listener::new(found.socket);
        Ok(Self {
            listener: Arc::new(listener.map_err(|error| cannot_listen(address, &error))?),
            address: address.clone(),
            owner: found.owner,
            file: None,
        })
    }

    /// The file of its socket, if it has one that is Ringway's, is this process's to remove.
    fn claim_file(&mut self) -> Result<(), Error> {
        if let (Some(path), Owner::Ringway) = (self.address.socket_file(), self.owner) {
            let file = SocketFile::of(path);
            self.file = Some(file.map_err(|error| cannot_listen(&self.address, &error))?);
        }
        Ok(())
    }
}

fn find(address: &ListenAddress, passed: &mut Vec<Passed>) -> Option<Passed> {
    let at = passed.iter().position(|p| is_at(&p.socket, address))?;
    Some(passed.swap_remove(at))
}

fn bind(address: &ListenAddress, general: &General) -> Result<Passed, Error> {
    let socket = match (address, address.socket_file()) {
        (_, Some(file)) => bind_unix(&file, general.unix_socket_mode),
        (ListenAddress::Tcp(address), None) => bind_tcp(*address, general.reuse_port),
        (ListenAddress::Unix { .. }, None) => Err(io::ErrorKind::InvalidInput.into()),
    };
    Ok(Passed {
        socket: socket.map_err(|error| cannot_listen(address, &error))?,
        owner: Owner::Ringway,
    })
}

fn cannot_listen(address: &ListenAddress, error: &io::Error) -> Error {
    let refusal = cannot(&format!("listen on {address}"), error);
    match error.kind() {
        io::ErrorKind::AddrInUse => refusal
            .hint("If a Ringway serves there already, start with --take-over to take its place."),
        _ => refusal,
    }
}

fn is_at(socket: &Socket, address: &ListenAddress) -> bool {
    let Ok(local) = socket.local_addr() else {
        return false;
    };
    match address {
        ListenAddress::Tcp(address) => local.as_socket() == Some(*address),
        ListenAddress::Unix { .. } => {
            local.as_pathname().map(PathBuf::from) == address.socket_file()
        }
    }
}

fn name(socket: &Socket) -> String {
    let Ok(local) = socket.local_addr() else {
        return "an unknown address".to_owned();
    };
    let tcp = local
        .as_socket()
        .map(|address: SocketAddr| address.to_string());
    let unix = || local.as_pathname().map(|path| path.display().to_string());
    tcp.or_else(unix)
        .unwrap_or_else(|| "an unnamed socket".to_owned())
}

fn unnamed(socket: &str) -> Error {
    let message = format!("systemd passed a socket for {socket}, which is not in listen");
    Error::new(Fault::Operator, "F0000", message)
        .detail("Passed sockets are told by their address, and each has to be in listen or http_listen.")
        .hint("Name it there as in the socket unit, or take it out of the unit.")
}
