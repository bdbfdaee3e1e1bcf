//! What holds for TCP connections, of clients and to servers.

use std::time::Duration;

use super::reader::Section;

/// How it is noticed that a host at the other end of a TCP connection is gone without a word.
/// <https://man7.org/linux/man-pages/man7/tcp.7.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpOptions {
    /// One that says nothing for this long is probed; zero: never.
    pub keepalive_idle: Duration,
    /// Between two probes.
    pub keepalive_interval: Duration,
    /// Probes without an answer after which it is given up.
    pub keepalive_count: u32,
    /// One that does not acknowledge what is sent to it is given up after this; `None` leaves it to the
    /// system, which takes about a quarter of an hour.
    pub user_timeout: Option<Duration>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            keepalive_idle: Duration::from_secs(60),
            keepalive_interval: Duration::from_secs(10),
            keepalive_count: 9,
            user_timeout: None,
        }
    }
}

/// What the section leaves out is as `default` has it.
pub(super) fn read(section: &Section<'_>, default: TcpOptions) -> TcpOptions {
    /// Linux takes no more.
    const LONGEST_S: u32 = 32_767;
    const MOST: u32 = 127;
    let seconds = |s: u32| Duration::from_secs(u64::from(s));
    TcpOptions {
        keepalive_idle: section
            .integer("tcp_keepalive_idle_s", 0..=LONGEST_S)
            .map_or(default.keepalive_idle, seconds),
        keepalive_interval: section
            .integer("tcp_keepalive_interval_s", 1..=LONGEST_S)
            .map_or(default.keepalive_interval, seconds),
        keepalive_count: section
            .integer("tcp_keepalive_count", 1..=MOST)
            .unwrap_or(default.keepalive_count),
        user_timeout: section
            .integer("tcp_user_timeout_ms", 0..=i32::MAX as u32)
            .map_or(default.user_timeout, |ms| {
                (ms > 0).then(|| Duration::from_millis(u64::from(ms)))
            }),
    }
}
