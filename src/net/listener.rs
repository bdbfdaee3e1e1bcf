//! A listening socket of either kind, from the address in the configuration to the accepted
//! connection, which may go to another thread's runtime.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::Stream;
use crate::config::TcpOptions;

/// Connections that may wait to be accepted; the system's somaxconn may allow fewer. A burst of
/// clients waits here for a moment instead of being turned away.
const BACKLOG: i32 = 4_096;

/// A listening socket, registered with the runtime it was made on.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An accepted connection that belongs to no runtime yet.
pub enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Listener {
    /// Takes over a listening socket, from [`bind_tcp`], [`bind_unix`] or another process.
    pub fn new(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // Who made the socket may have asked for less; on a listening one this only sets it anew.
        socket.listen(BACKLOG)?;
        match socket.local_addr()?.is_unix() {
            true => UnixListener::from_std(socket.into()).map(Self::Unix),
            false => TcpListener::from_std(socket.into()).map(Self::Tcp),
        }
    }

    /// Cancel safety: no accepted connection is lost.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.into_std().map(Accepted::Tcp)
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.into_std().map(Accepted::Unix)
            }
        }
    }

    /// A connection that waits already; `None` when none does.
    pub fn accept_waiting(&self) -> io::Result<Option<Accepted>> {
        // tokio's own `poll_accept` would not know of one that came a moment ago.
        match SockRef::from(self).accept() {
            Ok((socket, address)) => {
                socket.set_nonblocking(true)?;
                Ok(Some(match address.is_unix() {
                    true => Accepted::Unix(socket.into()),
                    false => Accepted::Tcp(socket.into()),
                }))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

impl Stream {
    /// Registers the connection with the current runtime.
    pub fn from_accepted(accepted: Accepted, options: &TcpOptions) -> io::Result<Self> {
        match accepted {
            Accepted::Tcp(stream) => {
                let stream = TcpStream::from_std(stream)?;
                // A client that has left already is noticed by the first read.
                let _ = super::apply(options, &stream);
                Ok(Self::Tcp(stream))
            }
            Accepted::Unix(stream) => UnixStream::from_std(stream).map(Self::Unix),
        }
    }
}

/// Binds a TCP port. With `reuse_port`, other processes that say so too may bind it as well, and
/// the system spreads new connections over them.
pub fn bind_tcp(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Makes a socket file with the permissions `mode`. One that a process left behind when it died is
/// replaced; one that somebody listens on is not.
///
/// # Errors
/// `AddrInUse` when somebody listens there.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<Socket> {
    let directory = path.parent().unwrap_or(Path::new("."));
    // Held until it listens: two processes that find the same dead file must not remove each
    // other's new one.
    let lock = File::open(directory)?;
    lock.lock()?;
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Err(error) = socket.bind(&address) {
        let is_socket = fs::symlink_metadata(path)?.file_type().is_socket();
        if error.kind() != io::ErrorKind::AddrInUse || !is_socket || is_served(&address)? {
            return Err(error);
        }
        fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Only a refusal proves that nobody listens: a full queue does not.
fn is_served(address: &SockAddr) -> io::Result<bool> {
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Ok(()) | Err(_) => Ok(true),
    }
}

/// The file of a Unix socket of ours. Dropping it removes the file, unless another has taken its
/// place since.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

impl SocketFile {
    pub fn of(path: PathBuf) -> io::Result<Self> {
        let identity = identity(&path)?;
        Ok(Self { path, identity })
    }

    /// Leaves the file to another process.
    pub fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device, inode and time of creation: inodes are used again.
type Identity = (u64, u64, i64, i64);

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((
        metadata.dev(),
        metadata.ino(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_socket_file_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let first = bind_unix(&path, 0o600).unwrap();
        let error = bind_unix(&path, 0o600).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let _second = bind_unix(&path, 0o770).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o770);
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        fs::write(&path, "precious").unwrap();
        assert!(bind_unix(&path, 0o600).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_socket_file_is_removed_by_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(bind_unix(&path, 0o600).unwrap());
        let old = SocketFile::of(path.clone()).unwrap();
        let _new = bind_unix(&path, 0o600).unwrap();
        let new = SocketFile::of(path.clone()).unwrap();
        drop(old);
        assert!(path.exists());
        drop(new);
        assert!(!path.exists());
    }
}
