//! How processes of one machine find each other: each has a socket in `run_directory`. There it
//! takes CancelRequests for its clients, and gives its listening sockets to the process that takes
//! its place.
//!
//! A hand-over: the new process asks and gets the sockets; it lets clients in; it says so; the old
//! process stops letting clients in, answers, and drains. Until it has been told so the old one goes
//! on as if nothing had been asked, so a new process that fails does no harm.

use std::fs::DirBuilder;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::cannot;
use super::doors::{Doors, Owner, Passed};
use crate::error::{Error, Fault};
use crate::net::listener::{SocketFile, bind_unix};
use crate::net::pass::{receive_sockets, send_sockets};
use crate::net::{sleep, timeout};
use crate::session::{Shared, cancel_here};
use crate::wire::startup::FORWARDED_CANCEL;

/// Asks for the listening sockets, in the form of a startup packet.
const TAKE_OVER: (u16, u16) = (1234, 21_080);
/// The new process lets clients in.
const READY: u8 = b'R';
/// The old one does not any more.
const GONE: u8 = b'G';

/// How long the other process may take for what it does at once.
const PROMPT: Duration = Duration::from_secs(10);
/// How long a new process may take from asking for the sockets to letting clients in.
const START: Duration = Duration::from_secs(60);
/// Length word, code, pid and the longest key.
const MAX_PACKET: usize = 12 + 256;

/// Where another process tells that it has taken over; to be answered once no client is let in.
pub type Dismissals = mpsc::Sender<oneshot::Sender<()>>;

/// The path of this process's own socket.
pub fn own_socket(directory: &Path) -> PathBuf {
    let (pid, random) = (std::process::id(), rand::random::<u32>());
    directory.join(format!("{pid}-{random:08x}.sock"))
}

/// Makes this process's socket, and its directory if that is missing. The file goes with the guard.
///
/// # Errors
/// What the system says.
pub fn listen(path: &Path) -> Result<(UnixListener, SocketFile), Error> {
    let open = || -> io::Result<_> {
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            DirBuilder::new().mode(0o700).create(directory)?;
        }
        let socket = bind_unix(path, 0o600)?;
        socket.set_nonblocking(true)?;
        Ok((
            UnixListener::from_std(socket.into())?,
            SocketFile::of(path.to_owned())?,
        ))
    };
    open().map_err(|error| cannot(&format!("listen on {}", path.display()), &error))
}

/// Serves this process's own socket for as long as it runs.
pub async fn serve(
    listener: UnixListener,
    shared: Arc<Shared>,
    doors: Arc<Doors>,
    dismissals: Dismissals,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (shared, doors) = (Arc::clone(&shared), Arc::clone(&doors));
                let dismissals = dismissals.clone();
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &shared, &doors, &dismissals).await {
                        tracing::warn!(%error, "another process was not understood");
                    }
                });
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept another process");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    shared: &Shared,
    doors: &Doors,
    dismissals: &Dismissals,
) -> io::Result<()> {
    let (code, body) = timeout(PROMPT, read_packet(&mut stream)).await??;
    if code == FORWARDED_CANCEL && body.len() > 4 {
        let (pid, key) = body.split_at(4);
        let pid = i32::from_be_bytes(pid.try_into().map_err(|_| io::ErrorKind::InvalidData)?);
        cancel_here(shared, pid, key).await;
        return Ok(());
    }
    if code != TAKE_OVER {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // One that is ending has nothing to give; closing says so.
    if shared.is_stopping() {
        return Ok(());
    }
    let copies = doors.lend()?;
    let sockets: Vec<_> = copies.iter().map(|passed| passed.socket.as_fd()).collect();
    let about: Vec<u8> = copies.iter().map(|passed| passed.owner.byte()).collect();
    let lent = timeout(PROMPT, send_sockets(&stream, &sockets, &about)).await;
    let lent = lent.is_ok_and(|sent| sent.is_ok());
    // A process that ends instead of starting closes the connection.
    if !lent || !matches!(timeout(START, stream.read_u8()).await, Ok(Ok(READY))) {
        doors.take_back();
        tracing::warn!("a process that was to take over did not; this one goes on");
        return Ok(());
    }
    let (gone, is_gone) = oneshot::channel();
    if dismissals.send(gone).await.is_ok() && is_gone.await.is_ok() {
        stream.write_u8(GONE).await?;
    }
    Ok(())
}

async fn read_packet(stream: &mut UnixStream) -> io::Result<((u16, u16), Vec<u8>)> {
    let length = stream.read_u32().await? as usize;
    if !(8..=MAX_PACKET).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let code = (stream.read_u16().await?, stream.read_u16().await?);
    let mut body = vec![0; length - 8];
    stream.read_exact(&mut body).await?;
    Ok((code, body))
}

/// The process whose place this one takes.
pub struct Predecessor {
    name: String,
    stream: StdUnixStream,
}

impl Predecessor {
    /// Asks the process in `directory` for its sockets; `name` is needed where there are several.
    /// Blocks.
    ///
    /// # Errors
    /// F0000 when it is not clear whose place is meant.
    pub fn find(
        directory: &Path,
        name: Option<&str>,
    ) -> Result<Option<(Self, Vec<Passed>)>, Error> {
        let mut found = Vec::new();
        for path in sockets(directory) {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            if name.is_some_and(|name| name != stem) {
                continue;
            }
            match ask(&path) {
                Ok((stream, passed)) if !passed.is_empty() => {
                    let name = stem.into_owned();
                    found.push((Self { name, stream }, passed));
                }
                // It drains already.
                Ok(_) => {}
                // What a process that died left behind.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    let _ = std::fs::remove_file(&path);
                }
                Err(error) => {
                    return Err(cannot(
                        &format!("take over from {}", path.display()),
                        &error,
                    ));
                }
            }
        }
        match found.len() {
            0 | 1 => Ok(found.pop()),
            _ => {
                let names: Vec<_> = found.iter().map(|(one, _)| &one.name[..]).collect();
                let detail = format!("They are {}.", names.join(", "));
                Err(
                    Error::new(Fault::Operator, "F0000", "several processes serve here")
                        .detail(detail)
                        .hint("Name the one to take over from: --take-over=NAME."),
                )
            }
        }
    }

    /// Tells it that clients are let in here, and waits until they are not any more there. Blocks.
    pub fn dismiss(mut self) {
        let mut answer = [0];
        let told = self.stream.write_all(&[READY]);
        match told.and_then(|()| self.stream.read_exact(&mut answer)) {
            Ok(()) if answer == [GONE] => {
                tracing::info!(process = self.name, "taken over; it drains");
            }
            // It has ended, or is ending: then it lets nobody in either.
            Ok(()) | Err(_) => tracing::warn!(process = self.name, "taken over; it did not answer"),
        }
    }
}

fn sockets(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "sock"))
        .collect()
}

fn ask(path: &Path) -> io::Result<(StdUnixStream, Vec<Passed>)> {
    let mut stream = StdUnixStream::connect(path)?;
    stream.set_read_timeout(Some(PROMPT))?;
    stream.set_write_timeout(Some(PROMPT))?;
    let mut packet = 8_u32.to_be_bytes().to_vec();
    packet.extend_from_slice(&TAKE_OVER.0.to_be_bytes());
    packet.extend_from_slice(&TAKE_OVER.1.to_be_bytes());
    stream.write_all(&packet)?;
    let passed = receive_sockets(&stream)?.into_iter();
    let passed = passed.map(|(socket, about)| Passed {
        socket,
        owner: Owner::from_byte(about),
    });
    Ok((stream, passed.collect()))
}
