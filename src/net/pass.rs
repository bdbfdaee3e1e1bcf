//! Listening sockets from one process to another, over a Unix socket (SCM_RIGHTS): the socket and
//! the connections that wait at it stay what they are, only who accepts them changes.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use socket2::Socket;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Sockets in one message; the system takes 253.
const MOST: usize = 250;

/// Sends `sockets` with a byte about each.
pub async fn send_sockets(
    stream: &UnixStream,
    sockets: &[BorrowedFd<'_>],
    about: &[u8],
) -> io::Result<()> {
    if sockets.is_empty() || sockets.len() > MOST || sockets.len() != about.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = stream.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(sockets));
        let data = [IoSlice::new(about)];
        Ok(sendmsg(stream, &data, &mut control, SendFlags::NOSIGNAL)?)
    });
    match sent.await? {
        sent if sent == about.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// What [`send_sockets`] sent; nothing when the other side has none to give and closed. Blocks.
///
/// # Errors
/// `InvalidData` for a message without a socket to each byte.
pub fn receive_sockets(stream: &StdUnixStream) -> io::Result<Vec<(Socket, u8)>> {
    let mut about = [0; MOST];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut data = [IoSliceMut::new(&mut about)];
    let received = recvmsg(stream, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let mut sockets = Vec::new();
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(files) => sockets.extend(files.map(Socket::from)),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    if sockets.len() != received {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(sockets.into_iter().zip(about).collect())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_waits_is_accepted_by_who_gets_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (here, there) = UnixStream::pair().unwrap();
        send_sockets(&here, &[listener.as_fd()], b"x")
            .await
            .unwrap();
        drop(listener);
        let there = there.into_std().unwrap();
        let (socket, about) = receive_sockets(&there).unwrap().remove(0);
        assert_eq!(about, b'x');
        let (_, peer) = TcpListener::from(socket).accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        drop(here);
        assert!(receive_sockets(&there).unwrap().is_empty());
    }
}
