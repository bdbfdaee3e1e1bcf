//! LISTEN and UNLISTEN of one client: they take effect when its transaction commits, over the
//! connection that listens for all clients of the database.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use planner::plan::Access;

use super::Session;
use super::changes::Change;
use crate::backend::mailbox::{End, Mailbox};
use crate::error::{Error, Fault};
use crate::executor::listen::{Hub, SHARD};

/// What a client listens to.
pub(super) struct Listening {
    hub: Arc<Hub>,
    mailbox: Arc<Mailbox>,
    /// The hub was asked for these.
    asked: BTreeSet<String>,
    /// Committed.
    channels: BTreeSet<String>,
    /// Statements of the open transaction that notify.
    pub(super) notified: bool,
}

impl Drop for Listening {
    fn drop(&mut self) {
        for channel in self.asked.union(&self.channels) {
            self.hub.unlisten(channel, &self.mailbox);
        }
    }
}

impl Session {
    pub(super) fn mailbox(&self) -> Option<&Arc<Mailbox>> {
        self.listening.as_ref().map(|listening| &listening.mailbox)
    }

    /// As in PostgreSQL, notifications come between transactions only.
    pub(super) fn takes_mail(&self) -> bool {
        self.block.is_none() && self.batch.is_between() && !self.is_amid_batch()
    }

    /// Puts what waits for this client before what it is sent next.
    ///
    /// # Errors
    /// FATAL when it has to go.
    pub(super) fn deliver(&mut self) -> Result<(), Error> {
        let Some(listening) = &self.listening else {
            return Ok(());
        };
        if !listening.mailbox.has_mail() || !self.takes_mail() {
            return Ok(());
        }
        match listening.mailbox.empty(&mut self.client.outbox) {
            None => Ok(()),
            Some(End::Overflow) => Err(Error::new(
                Fault::Client,
                "53400",
                "terminating connection because too many notifications wait for it",
            )
            .detail("They are kept in memory up to 4 MiB for each client.")
            .hint("Read notifications as they come, or listen to fewer channels.")
            .fatal()),
            Some(End::Moved) => Err(Error::new(
                Fault::Operator,
                "57P01",
                "terminating connection due to configuration change",
            )
            .detail("The servers it listens to were configured anew.")
            .hint("Connect and LISTEN again.")
            .fatal()),
        }
    }

    /// Passes on what servers that listen for this client alone said amid exchanges of our own.
    pub(super) fn deliver_notified(&mut self) {
        for held in &mut self.leases {
            if !held.lease.notified.is_empty() {
                held.lease.deliver(&mut self.client.outbox);
            }
        }
    }

    /// LISTEN, up to the commit. Returns once the server would tell.
    ///
    /// # Errors
    /// What the server says of the channel's name; that it cannot be reached.
    pub(super) async fn listen(&mut self, channel: &str) -> Result<(), Error> {
        let encoding = self.told.get("client_encoding");
        if encoding.is_some_and(|encoding| !["UTF8", "SQL_ASCII"].contains(&encoding.as_str())) {
            return Err(Error::from(planner::Refusal::unsupported(
                "LISTEN with a client_encoding other than UTF8",
                "Notifications come over a connection of all clients, whose encoding is UTF8.",
                "Set client_encoding to UTF8.",
            )));
        }
        let is_old = |listening: &Listening| {
            let is_unused = listening.asked.is_empty() && listening.channels.is_empty();
            is_unused && !Arc::ptr_eq(&listening.hub, &self.db.hub)
        };
        if self.listening.as_deref().is_none_or(is_old) {
            let mailbox = Arc::new(Mailbox::default());
            let held = self.leases.iter_mut();
            held.for_each(|held| held.lease.mailbox = Some(Arc::clone(&mailbox)));
            self.listening = Some(Box::new(Listening {
                hub: Arc::clone(&self.db.hub),
                mailbox,
                asked: BTreeSet::new(),
                channels: BTreeSet::new(),
                notified: false,
            }));
        }
        if let Some(listening) = &mut self.listening {
            // Before the answer: this session may end while it waits.
            listening.asked.insert(channel.to_owned());
            listening.hub.listen(channel, &listening.mailbox).await?;
        }
        self.changes.push(Change::Listen(channel.to_owned()))
    }

    pub(super) async fn unlisten(&mut self, channel: Option<&String>) -> Result<(), Error> {
        // Among other statements in one text, LISTEN went to a server.
        for index in 0..self.leases.len() {
            if self.leases[index].pinned.is_some() {
                self.end_extended(index).await?;
                let held = &mut self.leases[index];
                held.may_release = true;
                let name = channel.map_or("*".to_owned(), |name| {
                    format!("\"{}\"", name.replace('"', "\"\""))
                });
                held.lease.run_hidden(&format!("UNLISTEN {name}")).await?;
            }
        }
        self.changes.push(Change::Unlisten(channel.cloned()))
    }

    /// NOTIFY outside a block by a client that listens.
    pub(super) async fn notify(&mut self, sql: &str) -> Result<(), Error> {
        let index = self.enlist(SHARD, Access::Write).await?;
        self.leases[index].lease.run_hidden(sql).await?;
        self.note_notify();
        self.await_own_notifications().await;
        Ok(())
    }

    pub(super) fn note_notify(&mut self) {
        self.block.note_notify();
        if let Some(listening) = &mut self.listening {
            listening.notified = true;
        }
    }

    /// The transaction is about to commit: what is committed from then on is heard, its own
    /// notifications among it, whoever is faster. Where it fails, listening ends again.
    pub(super) fn expect_listens(&self) {
        if let Some(Listening { hub, mailbox, .. }) = self.listening.as_deref() {
            for channel in self.changes.channels() {
                hub.activate(channel, mailbox);
            }
        }
    }

    /// The transaction has committed.
    pub(super) fn keep_listens(&mut self, changes: &[Change]) {
        let Some(listening) = &mut self.listening else {
            return;
        };
        let Listening {
            hub,
            mailbox,
            asked,
            channels,
            ..
        } = &mut **listening;
        let before = channels.clone();
        for change in changes {
            match change {
                Change::Listen(channel) => {
                    channels.insert(channel.clone());
                }
                Change::Unlisten(Some(channel)) => {
                    channels.remove(channel);
                }
                Change::Unlisten(None) => channels.clear(),
                Change::Set(_) | Change::Restored(_) => {}
            }
        }
        let ended = before.difference(channels);
        ended.for_each(|channel| {
            asked.remove(channel);
            hub.unlisten(channel, mailbox);
        });
        channels
            .iter()
            .for_each(|channel| hub.activate(channel, mailbox));
        self.forget_listens(changes);
    }

    /// Stops listening to what `changes` began and no commit has kept.
    pub(super) fn forget_listens(&mut self, changes: &[Change]) {
        let Some(listening) = &mut self.listening else {
            return;
        };
        for change in changes {
            if let Change::Listen(channel) = change
                && !listening.channels.contains(channel)
            {
                listening.asked.remove(channel);
                listening.hub.unlisten(channel, &listening.mailbox);
            }
        }
    }

    pub(super) fn unlisten_all(&mut self) {
        self.keep_listens(&[Change::Unlisten(None)]);
    }

    /// After a transaction that notified, a listening client gets its own notifications before it
    /// is ready again, as from PostgreSQL. Those of a lost connection are told of otherwise.
    pub(super) async fn await_own_notifications(&mut self) {
        if let Some(listening) = &mut self.listening
            && std::mem::take(&mut listening.notified)
        {
            let _ = listening.hub.fence().await;
        }
    }
}

/// `fill`, or 1 as soon as there is mail.
pub(super) async fn or_mail(
    mailbox: Option<&Mailbox>,
    fill: impl Future<Output = io::Result<usize>>,
) -> io::Result<usize> {
    let Some(mailbox) = mailbox else {
        return fill.await;
    };
    let mut fill = pin!(fill);
    poll_fn(|cx| match mailbox.poll_mail(cx) {
        true => Poll::Ready(Ok(1)),
        false => fill.as_mut().poll(cx),
    })
    .await
}
