//! What was sent to a server in one exchange, kept so that it can be sent to another server should this
//! one not begin to answer.
//!
//! It is a copy of the outbox, into a buffer that stays with the connection, and the replies as they are
//! answered: 100 to 200 instructions for messages of the usual size. Longer ones are not kept.

use bytes::Buf;

use super::{Expect, Server, StatementId, error_field, read_error};
use crate::error::Error;
use crate::wire::frame::{self, HEADER};
use crate::wire::frontend::{Bind, Named, Parse};
use crate::wire::write;

/// More bytes than this are not kept: the exchange is not tried again.
const LONGEST: usize = 16 * 1024;
/// The buffer that a connection keeps for the next exchange.
const KEPT_BUFFER: usize = 2 * 1024;

/// Whether what a server was sent may be sent to another one. The later of two is the stricter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resend {
    /// It reads, provably: whatever became of it.
    Read,
    /// It may write, as one statement that is a transaction of its own: only where the server cannot have
    /// run it, or says itself that it has rolled it back.
    Undone,
    #[default]
    Never,
}

impl Resend {
    /// After the loss of `server`, or after an error of it that was withheld.
    pub fn allows(self, server: &Server) -> bool {
        match self {
            Self::Read => server.kept.within != Within::UntilWrite || server.kept.withheld,
            Self::Undone => server.kept.withheld || server.has_sent_none_of(&server.kept),
            Self::Never => false,
        }
    }
}

/// What the exchange is to the client's transaction block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Within {
    /// Outside of any, or the first of one that may write.
    #[default]
    Nothing,
    /// The first of a block that is READ ONLY.
    ReadOnly,
    /// Of a block that has only read so far, on a replica, and may go on at the primary. What the replica
    /// knows of it is gone with a connection that is lost.
    UntilWrite,
}

/// Of which role the server was to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SentTo {
    #[default]
    Primary,
    Replica,
}

/// The messages of one exchange, as they were sent.
#[derive(Debug, Default)]
pub struct Kept {
    resend: Resend,
    to: SentTo,
    bytes: Vec<u8>,
    /// The replies they are owed: those that came, and after [`Server::take_kept`] all.
    owed: Vec<Expect>,
    /// What was parsed under the empty name before them.
    unnamed: Option<StatementId>,
    /// Bytes that this connection had sent before them.
    sent_before: u64,
    within: Within,
    /// The server has answered them with an error that the client was not shown.
    withheld: bool,
}

impl Kept {
    pub fn resend(&self) -> Resend {
        self.resend
    }

    pub fn within(&self) -> Within {
        self.within
    }

    pub(super) fn answered(&mut self, owed: Expect) {
        if self.resend != Resend::Never {
            self.owed.push(owed);
        }
    }
}

impl Server {
    /// Keeps what is in the outbox, all of which is owed an answer.
    pub fn keep(&mut self, resend: Resend, to: SentTo, within: Within) {
        let kept = &mut self.kept;
        kept.resend = Resend::Never;
        if resend == Resend::Never || self.conn.outbox.len() > LONGEST {
            return;
        }
        kept.to = to;
        if kept.bytes.capacity() > KEPT_BUFFER {
            kept.bytes = Vec::new();
        }
        kept.bytes.clear();
        kept.bytes.extend_from_slice(&self.conn.outbox);
        kept.owed.clear();
        kept.unnamed = self.unnamed;
        kept.sent_before = self.conn.sent;
        kept.within = within;
        kept.withheld = false;
        kept.resend = resend;
        self.tag.clear();
    }

    /// What was kept, to be sent to another server: this one has answered it only in part.
    pub fn take_kept(&mut self) -> Kept {
        let mut kept = std::mem::take(&mut self.kept);
        kept.owed.extend(self.expect.iter().cloned());
        kept
    }

    /// What is in the outbox binds this portal.
    pub fn is_about_to_bind(&self, portal: &[u8]) -> bool {
        let mut frames = &self.conn.outbox[..];
        std::iter::from_fn(|| next(&mut frames))
            .filter(|frame| frame[0] == b'B')
            .filter_map(|frame| Bind::names(&frame[HEADER..]).ok())
            .any(|(name, ..)| name == portal)
    }

    /// The answer has begun, or is over: nothing is sent again.
    pub fn forget_kept(&mut self) {
        self.kept.resend = Resend::Never;
    }

    /// Not a byte of it has left this process.
    pub fn has_sent_none_of(&self, kept: &Kept) -> bool {
        self.conn.sent == kept.sent_before
    }

    /// Whether after this error, the body of an ErrorResponse or of a notice that ends the connection, another
    /// server may be asked.
    pub(super) fn withholds(&self, tag: u8, body: &[u8]) -> bool {
        match (tag, self.kept.resend) {
            (b'E', Resend::Read | Resend::Undone) => {}
            // It comes from a signal handler, also after a commit.
            (b'N', Resend::Read) if is_last_notice(body) => {}
            _ => return false,
        }
        let code = error_field(body, b'C').unwrap_or_default();
        let is_fatal = error_field(body, b'V').is_some_and(|severity| severity != b"ERROR");
        withholds(&self.kept, code, is_fatal)
            // Of several statements in one text, those before are done: reads may be done again.
            && (self.kept.resend == Resend::Read || self.tag.is_empty())
    }

    /// The error that [`Progress::Withheld`](super::Progress::Withheld) has found, as the server's last; its
    /// frame is next.
    pub fn withheld(&mut self) -> Error {
        let body = frame::whole(&self.conn.inbox[self.approved..]);
        let error = match body {
            Ok(Some((_, body))) => read_error(body),
            Ok(None) | Err(_) => self.lost("its error cannot be read"),
        };
        self.error = Some(error.clone());
        self.kept.withheld = true;
        error
    }

    /// Of a read: the body of a notice, which may be the server's last word.
    ///
    /// # Errors
    /// It is, and the connection in doubt.
    pub fn heed(&mut self, notice: &[u8]) -> Result<(), Error> {
        if !is_last_notice(notice) {
            return Ok(());
        }
        self.doubt.get_or_insert("the server ended it");
        Err(read_error(notice))
    }

    /// Drops what of its replies has not left for the client.
    pub fn drop_approved(&mut self) {
        self.conn.inbox.advance(self.approved);
        self.approved = 0;
        self.rest_of_frame = 0;
    }

    /// Sends what `kept` holds here: statements under the names that they have here, parsed where they
    /// are not known. `text` finds those that were parsed earlier.
    ///
    /// `None` when that cannot be done; then this connection has an exchange under way that makes no sense.
    pub fn send_kept<'t>(
        &mut self,
        kept: &Kept,
        text: impl Fn(StatementId) -> Option<(&'t [u8], &'t [u32])>,
    ) -> Option<()> {
        let mut frames = &kept.bytes[..];
        let mut unnamed = kept.unnamed;
        for owed in &kept.owed {
            match owed {
                Expect::Known(id) => {
                    match text(*id).filter(|_| !self.has_prepared(*id)) {
                        Some((sql, types)) => self.send_prepare(*id, sql, types, true),
                        None => self.expect.push_back(owed.clone()),
                    }
                    continue;
                }
                Expect::Inject(_) => {
                    self.expect.push_back(owed.clone());
                    continue;
                }
                Expect::Fail(_) => return None,
                Expect::Ready { .. }
                | Expect::Parse { .. }
                | Expect::Bind { .. }
                | Expect::Rebind
                | Expect::Close { .. }
                | Expect::Describe { .. }
                | Expect::Execute => {}
            }
            let frame = next(&mut frames)?;
            let body = &frame[HEADER..];
            match (owed, frame[0]) {
                // A block is told to a server when it joins; what made room elsewhere need not here.
                (Expect::Ready { show: false }, b'Q')
                | (Expect::Close { show: false, .. }, b'C') => {
                    continue;
                }
                (Expect::Ready { .. }, b'Q') => {
                    self.unnamed = None;
                    unnamed = None;
                }
                (Expect::Ready { .. }, b'S')
                | (Expect::Execute, b'E')
                | (Expect::Close { .. }, b'C') => {}
                (Expect::Parse { show, id, named }, b'P') => {
                    let parse = Parse::read(body).ok()?;
                    match named {
                        None => {
                            unnamed = Some(*id);
                            self.send_parse_unnamed(*id, parse.sql, &parse.types, *show);
                        }
                        Some(_) if !self.has_prepared(*id) => {
                            self.send_prepare(*id, parse.sql, &parse.types, *show);
                        }
                        Some(_) if *show => self.expect.push_back(Expect::Known(*id)),
                        Some(_) => {}
                    }
                    continue;
                }
                // It went to a statement of that server: here it is parsed afresh.
                (Expect::Rebind, b'B') => {
                    let (portal, name, rest) = Bind::names(body).ok()?;
                    let id = StatementId::of_server_name(name)?;
                    let (sql, types) = text(id)?;
                    self.send_parse_unnamed(id, sql, types, false);
                    write::bind(&mut self.conn.outbox, portal, b"", rest);
                    self.expect.push_back(Expect::Bind { called: None });
                    unnamed = None;
                    continue;
                }
                (Expect::Bind { .. }, b'B') => {
                    self.know(Bind::names(body).ok()?.1, unnamed, &text)?
                }
                (Expect::Describe { .. }, b'D') => match Named::read(body, "DESCRIBE").ok()? {
                    Named::Portal(_) => {}
                    Named::Statement(name) => self.know(name, unnamed, &text)?,
                },
                _ => return None,
            }
            self.conn.outbox.extend_from_slice(frame);
            self.expect.push_back(owed.clone());
        }
        Some(())
    }

    /// Has a statement parsed that the next message names, if it is not known here.
    fn know<'t>(
        &mut self,
        name: &[u8],
        unnamed: Option<StatementId>,
        text: impl Fn(StatementId) -> Option<(&'t [u8], &'t [u32])>,
    ) -> Option<()> {
        if name.is_empty() {
            let id = unnamed?;
            if self.unnamed != Some(id) {
                let (sql, types) = text(id)?;
                self.send_parse_unnamed(id, sql, types, false);
            }
            return Some(());
        }
        let id = StatementId::of_server_name(name)?;
        if !self.has_prepared(id) {
            let (sql, types) = text(id)?;
            self.send_prepare(id, sql, types, false);
        }
        Some(())
    }
}

/// The next message that is owed an answer; Flush is not.
fn next<'f>(frames: &mut &'f [u8]) -> Option<&'f [u8]> {
    loop {
        let (header, _) = frame::whole(frames).ok()??;
        let frame = &frames[..header.len];
        frames.advance(header.len);
        if header.tag != b'H' {
            return Some(frame);
        }
    }
}

/// A process that its server ends at once, as another has crashed or on an immediate shutdown, says so in a
/// WARNING, and closes. It is told by the function that writes it: RAISE may give the same SQLSTATE.
/// <https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/tcop/postgres.c> (`quickdie`)
fn is_last_notice(body: &[u8]) -> bool {
    let code = error_field(body, b'C').unwrap_or_default();
    [&b"57P01"[..], b"57P02"].contains(&code) && error_field(body, b'R') == Some(b"quickdie")
}

/// Whether an error of a server speaks of the server, not of the statement.
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn withholds(kept: &Kept, code: &[u8], is_fatal: bool) -> bool {
    match (code, kept.resend, kept.within) {
        (_, Resend::Never, _) => false,
        // In a READ ONLY block a write is refused everywhere.
        (b"25006", _, Within::ReadOnly) => false,
        // It is a standby: nothing that writes has run.
        (b"25006", _, Within::Nothing | Within::UntilWrite) => true,
        // On a standby these come of a conflict with recovery alone: nothing is serializable there, and
        // it locks no rows.
        (b"40001" | b"40P01", Resend::Read, within) => {
            kept.to == SentTo::Replica && !(is_fatal && within == Within::UntilWrite)
        }
        (_, _, Within::UntilWrite) => false,
        // Shut down by an administrator: said where the transaction is rolled back.
        (b"57P01", _, _) => is_fatal,
        // After a crash of a sibling, and while it starts: a write may be committed all the same.
        (b"57P02" | b"57P03", Resend::Read, _) => is_fatal,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(resend: Resend, to: SentTo, within: Within) -> Kept {
        Kept {
            resend,
            to,
            within,
            ..Kept::default()
        }
    }

    #[test]
    fn a_write_is_sent_again_only_where_the_server_says_that_it_did_not_happen() {
        let (read, write) = (Resend::Read, Resend::Undone);
        let (primary, replica) = (SentTo::Primary, SentTo::Replica);
        for (resend, to, code, is_fatal, expected) in [
            (read, replica, "25006", false, true),
            (write, primary, "25006", false, true),
            (Resend::Never, primary, "25006", false, false),
            (read, replica, "57P01", true, true),
            (write, primary, "57P01", true, true),
            // raise … using errcode
            (write, primary, "57P01", false, false),
            (read, replica, "57P02", true, true),
            (write, primary, "57P02", true, false),
            (write, primary, "57P03", true, false),
            (read, replica, "40001", false, true),
            (read, replica, "40001", true, true),
            (read, replica, "40P01", false, true),
            (read, primary, "40001", false, false),
            (write, primary, "40001", false, false),
            (read, replica, "42P01", false, false),
            (read, replica, "57014", false, false),
        ] {
            let kept = kept(resend, to, Within::Nothing);
            let found = withholds(&kept, code.as_bytes(), is_fatal);
            assert_eq!(found, expected, "{kept:?} {code} {is_fatal}");
        }
    }

    #[test]
    fn in_a_block_only_what_the_replica_survives_is_asked_of_the_primary() {
        for (within, code, is_fatal, expected) in [
            (Within::ReadOnly, "25006", false, false),
            (Within::ReadOnly, "40001", false, true),
            (Within::ReadOnly, "57P01", true, true),
            (Within::UntilWrite, "25006", false, true),
            (Within::UntilWrite, "40001", false, true),
            (Within::UntilWrite, "40001", true, false),
            (Within::UntilWrite, "57P01", true, false),
            (Within::UntilWrite, "57P02", true, false),
        ] {
            let kept = kept(Resend::Read, SentTo::Replica, within);
            let found = withholds(&kept, code.as_bytes(), is_fatal);
            assert_eq!(found, expected, "{within:?} {code} {is_fatal}");
        }
    }

    #[tokio::test]
    async fn a_notice_that_ends_a_read_is_told_by_who_wrote_it() {
        let (mut server, _postgres) = crate::backend::server::tests::pair();
        for (resend, tag, code, routine, expected) in [
            (Resend::Read, b'N', "57P02", "quickdie", true),
            (Resend::Read, b'N', "57P01", "quickdie", true),
            (Resend::Read, b'N', "57P02", "exec_stmt_raise", false),
            (Resend::Read, b'N', "01000", "quickdie", false),
            (Resend::Undone, b'N', "57P01", "quickdie", false),
            (Resend::Undone, b'N', "57P02", "quickdie", false),
            (Resend::Never, b'N', "57P02", "quickdie", false),
        ] {
            server.kept.resend = resend;
            let body = format!("SWARNING\0VWARNING\0C{code}\0Mx\0R{routine}\0\0");
            let found = server.withholds(tag, body.as_bytes());
            assert_eq!(found, expected, "{resend:?} {code} {routine}");
        }
    }

    #[test]
    fn the_stricter_of_two_counts() {
        assert_eq!(Resend::Read.max(Resend::Undone), Resend::Undone);
        assert_eq!(Resend::Never.max(Resend::Undone), Resend::Never);
    }
}
