//! Messages for one client that no statement of its own brings: notifications, and warnings about
//! them. Bounded in bytes: who does not read them is sent off.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use std::task::Context;

use bytes::BytesMut;
use futures_util::task::AtomicWaker;

/// The most that waits for one client, in bytes.
const CAPACITY: usize = 4 << 20;

#[derive(Default)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    /// A look that needs no lock; changed under it.
    has_mail: AtomicBool,
    /// Of the task that serves the client.
    waker: AtomicWaker,
}

#[derive(Default)]
struct Mail {
    /// Whole frames.
    frames: BytesMut,
    /// Nothing more will come.
    end: Option<End>,
}

/// Why a mailbox gets no more mail, so that its client has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// More came than fits.
    Overflow,
    /// The configuration of its database was replaced.
    Moved,
}

impl Mailbox {
    /// Adds a whole frame.
    pub fn put(&self, frame: &[u8]) {
        let mut mail = self.lock();
        if mail.end.is_some() {
            return;
        }
        if mail.frames.len() + frame.len() > CAPACITY {
            drop(mail);
            return self.end(End::Overflow);
        }
        mail.frames.extend_from_slice(frame);
        self.has_mail.store(true, Ordering::Release);
        drop(mail);
        self.waker.wake();
    }

    pub fn end(&self, why: End) {
        let mut mail = self.lock();
        mail.frames = BytesMut::new();
        mail.end = Some(why);
        self.has_mail.store(true, Ordering::Release);
        drop(mail);
        self.waker.wake();
    }

    /// True when there are frames, or there will be none any more.
    pub fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    /// As [`Mailbox::has_mail`]; if there is none, the task is woken when some comes.
    pub fn poll_mail(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.has_mail()
    }

    /// Moves all frames to `out`. Answers why there will be no more, if so.
    pub fn empty(&self, out: &mut BytesMut) -> Option<End> {
        let mut mail = self.lock();
        out.extend_from_slice(&mail.frames);
        mail.frames = BytesMut::new();
        self.has_mail.store(mail.end.is_some(), Ordering::Release);
        mail.end
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_fits_and_tells_of_what_does_not() {
        let mailbox = Mailbox::default();
        let mut out = BytesMut::new();
        mailbox.put(b"one");
        mailbox.put(b"two");
        assert!(mailbox.has_mail());
        assert_eq!(mailbox.empty(&mut out), None);
        assert_eq!(&out[..], b"onetwo");
        assert!(!mailbox.has_mail());
        mailbox.put(&vec![0; CAPACITY + 1]);
        mailbox.put(b"late");
        out.clear();
        assert_eq!(mailbox.empty(&mut out), Some(End::Overflow));
        assert!(out.is_empty() && mailbox.has_mail());
    }
}
