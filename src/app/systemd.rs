//! What systemd is told, and what it passes: nothing of either without its variables in the
//! environment. <https://www.freedesktop.org/software/systemd/man/sd_notify.html>

use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::Socket;

use super::cannot;
use super::doors::{Owner, Passed};
use crate::error::Error;

/// The sockets of socket activation. To be called before there are threads: it takes the variables
/// out of the environment.
///
/// # Errors
/// One that is no listening socket of a stream.
pub fn passed_sockets() -> Result<Vec<Passed>, Error> {
    let mut environment = ListenFd::from_env();
    let mut passed = Vec::new();
    for at in 0..environment.len() {
        let unix = environment.take_unix_listener(at);
        let socket = match unix {
            Ok(listener) => listener.map(Socket::from),
            Err(_) => environment
                .take_tcp_listener(at)
                .map_err(|error| cannot("use a socket that systemd passed", &error))?
                .map(Socket::from),
        };
        passed.extend(socket.map(|socket| Passed {
            socket,
            owner: Owner::Systemd,
        }));
    }
    Ok(passed)
}

/// Clients are served, at the start or after a reload.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload begins; [`ready`] ends it.
pub fn reloading() {
    let now = NotifyState::monotonic_usec_now();
    let now = now.unwrap_or(NotifyState::MonotonicUsec(0));
    tell(&[NotifyState::Reloading, now]);
}

/// The process drains.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The process is alive.
pub fn watchdog() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] has to be called, if at all: twice in the time that systemd waits.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|time| time / 2)
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
