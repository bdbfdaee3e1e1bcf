//! Reading a server's replies: every frame is held against what is owed.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};

use super::{
    Expect, MOST_ANSWERED, Progress, Ready, SUSPENDED, Server, Status, UNEXPECTED, error_field,
    read_error,
};
use crate::error::{Error, Fault};
use crate::wire::conn::Conn;
use crate::wire::frame::{self, HEADER, Header};
use crate::wire::write;

/// Frames that are read as a whole are cut off here. Of longer errors the beginning is read, longer
/// notices pass unread, anything else breaks the connection.
pub(super) const MAX_CONTROL_FRAME: usize = 1 << 20;
/// SQLSTATE with which PostgreSQL refuses a prepared statement that would return other columns now.
const OUTDATED: &str = "0A000";
/// What is read of an error that is not read whole: its SQLSTATE is among the first fields.
const ERROR_HEAD: usize = 8 * 1024;

impl Server {
    /// Bytes at the start of the inbox that belong to the client.
    pub fn approved(&self) -> usize {
        self.approved
    }

    /// Tells that `len` approved bytes left the inbox.
    pub fn forwarded(&mut self, len: usize) {
        self.approved -= len;
    }

    /// Writes approved bytes to the client without copying them.
    pub fn poll_forward(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Conn,
    ) -> Poll<std::io::Result<()>> {
        while self.approved > 0 {
            let written = ready!(client.poll_forward(cx, &mut self.conn.inbox, self.approved))?;
            self.approved -= written;
        }
        client.poll_flush(cx)
    }

    /// Walks the frames in the inbox, approving what is the client's and consuming the rest.
    /// Injected bytes go to `out`, after all that was approved before them.
    ///
    /// # Errors
    /// A reply that nothing asked for, a frame that makes no sense, or the server's last words in answer to
    /// what the client knows nothing of: the connection is in doubt.
    pub fn scan(&mut self, out: &mut BytesMut) -> Result<Progress, Error> {
        let result = self.scan_frames(out);
        if result.is_err() {
            self.doubt.get_or_insert(UNEXPECTED);
        }
        result
    }

    fn scan_frames(&mut self, out: &mut BytesMut) -> Result<Progress, Error> {
        loop {
            if self.rest_of_frame > 0 {
                let here = self
                    .rest_of_frame
                    .min(self.conn.inbox.len() - self.approved);
                if self.rest_is_shown {
                    self.approved += here;
                } else {
                    self.flush_approved(out);
                    self.conn.inbox.advance(here);
                }
                self.rest_of_frame -= here;
                if self.rest_of_frame > 0 {
                    return Ok(Progress::Starved);
                }
            }
            // Only between frames: what is injected must not come before the rest of one.
            self.inject(out);
            match self.expect.front() {
                None => return Ok(Progress::Done),
                Some(Expect::Ready { show: true } | Expect::Execute) => self.approve_rows()?,
                Some(
                    Expect::Ready { show: false }
                    | Expect::Parse { .. }
                    | Expect::Known(_)
                    | Expect::Bind { .. }
                    | Expect::Rebind
                    | Expect::Close { .. }
                    | Expect::Describe { .. }
                    | Expect::Inject(_)
                    | Expect::Fail(_),
                ) => {}
            }
            let pending = &self.conn.inbox[self.approved..];
            let Some(header) = frame::peek(pending)? else {
                return Ok(Progress::Starved);
            };
            match header.tag {
                // Rows, COPY data and descriptions pass without being whole.
                b'D' | b'd' | b'T' | b't' | b'V' | b'H' => self.pass(header.len)?,
                b'N' if header.len > MAX_CONTROL_FRAME => {
                    self.rest_is_shown = !self.hidden();
                    self.rest_of_frame = header.len;
                }
                b'E' if header.len > MAX_CONTROL_FRAME => {
                    if pending.len() < ERROR_HEAD {
                        return Ok(Progress::Starved);
                    }
                    let before = self.approved;
                    self.note_error(ERROR_HEAD, out)?;
                    self.rest_is_shown = self.approved > before;
                    self.rest_of_frame = header.len - ERROR_HEAD;
                }
                tag => {
                    if header.len > MAX_CONTROL_FRAME {
                        return Err(unexpected(tag));
                    }
                    if pending.len() < header.len {
                        return Ok(Progress::Starved);
                    }
                    if self.withholds(tag, &pending[HEADER..header.len]) {
                        return Ok(Progress::Withheld);
                    }
                    self.control(tag, header.len, out)?;
                    if tag == b'G' {
                        return Ok(Progress::CopyIn);
                    }
                }
            }
        }
    }

    /// Rows and COPY data come by the thousand: those that are whole are passed here, with nothing
    /// but a look at each one's length.
    fn approve_rows(&mut self) -> Result<(), Error> {
        let mut rows = &self.conn.inbox[self.approved..];
        while let Some(Header {
            tag: b'D' | b'd',
            len,
        }) = frame::peek(rows)?
            && let Some(rest) = rows.get(len..)
        {
            self.approved += len;
            rows = rest;
        }
        Ok(())
    }

    fn inject(&mut self, out: &mut BytesMut) {
        while let Some(front) = self.expect.front() {
            let bytes = match front {
                Expect::Inject(bytes) => bytes.clone(),
                Expect::Known(_) => Bytes::from_static(write::PARSE_COMPLETE),
                Expect::Ready { .. }
                | Expect::Parse { .. }
                | Expect::Bind { .. }
                | Expect::Rebind
                | Expect::Close { .. }
                | Expect::Describe { .. }
                | Expect::Execute
                | Expect::Fail(_) => return,
            };
            self.flush_approved(out);
            out.extend_from_slice(&bytes);
            self.is_answered();
        }
    }

    /// Copies what is approved, so that something can be taken out of the inbox or put after it.
    pub fn flush_approved(&mut self, out: &mut BytesMut) {
        if self.approved > 0 {
            out.extend_from_slice(&self.conn.inbox[..self.approved]);
            self.conn.inbox.advance(self.approved);
            self.approved = 0;
        }
    }

    fn hidden(&self) -> bool {
        matches!(
            self.expect.front(),
            Some(
                Expect::Ready { show: false }
                    | Expect::Parse { show: false, .. }
                    | Expect::Close { show: false, .. }
            )
        )
    }

    /// A frame without meaning for the state: approved or dropped as it comes.
    fn pass(&mut self, len: usize) -> Result<(), Error> {
        let tag = self.conn.inbox[self.approved];
        match self.expect.front() {
            Some(Expect::Ready { .. } | Expect::Execute) => {}
            Some(Expect::Describe { .. }) if tag == b'T' || tag == b't' => {}
            Some(Expect::Parse { .. } | Expect::Bind { .. } | Expect::Rebind)
            | Some(Expect::Close { .. } | Expect::Describe { .. })
            | Some(Expect::Inject(_) | Expect::Known(_) | Expect::Fail(_))
            | None => return Err(unexpected(tag)),
        }
        self.rest_is_shown = !self.hidden();
        if tag == b'T' && matches!(self.expect.front(), Some(Expect::Describe { .. })) {
            self.is_answered();
        }
        self.rest_of_frame = len;
        Ok(())
    }

    fn control(&mut self, tag: u8, len: usize, out: &mut BytesMut) -> Result<(), Error> {
        let start = self.approved;
        let body = start + HEADER..start + len;
        let show = match tag {
            b'N' => !self.hidden(),
            b'A' => {
                let show = !self.hidden();
                if !show {
                    let frame = &self.conn.inbox[start..start + len];
                    self.notified.extend_from_slice(frame);
                }
                show
            }
            b'S' => {
                let show = !self.hidden();
                self.note_parameter(body, show);
                show
            }
            b'E' => return self.note_error(len, out),
            b'Z' => {
                let show = self.note_ready(body)? && !self.holds_ready();
                if show && !self.notified.is_empty() {
                    self.flush_approved(out);
                    self.deliver(out);
                }
                if show && self.status == Status::Idle && self.has_mail() {
                    self.flush_approved(out);
                    if let Some(mailbox) = &self.mailbox {
                        mailbox.empty(out);
                    }
                }
                show
            }
            b'C' => {
                let rows = self.note_tag(body);
                self.rows = self.rows.saturating_add(rows);
                self.finish_execute(tag, rows)? && self.ready != Ready::HoldTag
            }
            b'I' => self.finish_execute(tag, 0)?,
            b's' => self.finish_execute(tag, SUSPENDED)?,
            b'G' => self.note_copy_in()?,
            b'c' => true,
            b'1' => self.finish_parse()?,
            b'2' => match self.expect.front() {
                Some(Expect::Bind { .. } | Expect::Rebind) => self.is_answered(),
                Some(_) | None => return Err(unexpected(tag)),
            },
            b'3' => match self.expect.front() {
                Some(Expect::Close { show, .. }) => {
                    let show = *show;
                    self.is_answered() && show
                }
                Some(_) | None => return Err(unexpected(tag)),
            },
            b'n' => match self.expect.front() {
                Some(Expect::Describe { .. }) => self.is_answered(),
                Some(_) | None => return Err(unexpected(tag)),
            },
            other => return Err(unexpected(other)),
        };
        if show {
            self.approved += len;
        } else {
            self.flush_approved(out);
            self.conn.inbox.advance(len);
        }
        Ok(())
    }

    /// The reply that is owed first is here. True, for those who show it.
    fn is_answered(&mut self) -> bool {
        if let Some(owed) = self.expect.pop_front() {
            self.kept.answered(owed);
        }
        true
    }

    fn finish_parse(&mut self) -> Result<bool, Error> {
        match self.expect.front() {
            Some(Expect::Parse { show, .. }) => {
                let show = *show;
                Ok(self.is_answered() && show)
            }
            Some(_) | None => Err(unexpected(b'1')),
        }
    }

    /// CommandComplete and its kin end an Execute; within a simple query there may be many.
    fn finish_execute(&mut self, tag: u8, rows: u64) -> Result<bool, Error> {
        self.copy_in = false;
        match self.expect.front() {
            Some(Expect::Ready { show }) => return Ok(*show),
            Some(Expect::Execute) => {}
            Some(_) | None => return Err(unexpected(tag)),
        }
        let shown = self.is_answered();
        if self.answered.len() < MOST_ANSWERED {
            self.answered.push_back(rows);
        }
        Ok(shown)
    }

    /// While it reads COPY data the server ignores every Sync that was sent before.
    fn note_copy_in(&mut self) -> Result<bool, Error> {
        match self.expect.front() {
            Some(Expect::Ready { show: true }) => {}
            Some(Expect::Execute) => {
                let owed = self.expect.len();
                self.expect.retain(|e| !matches!(e, Expect::Ready { .. }));
                self.swallowed_sync |= self.expect.len() < owed;
            }
            Some(
                Expect::Ready { show: false }
                | Expect::Parse { .. }
                | Expect::Known(_)
                | Expect::Bind { .. }
                | Expect::Rebind
                | Expect::Close { .. }
                | Expect::Describe { .. }
                | Expect::Inject(_)
                | Expect::Fail(_),
            )
            | None => return Err(unexpected(b'G')),
        }
        self.copy_in = true;
        Ok(true)
    }

    pub(super) fn note_ready(&mut self, body: std::ops::Range<usize>) -> Result<bool, Error> {
        let status = self.conn.inbox.get(body).and_then(|b| b.first()).copied();
        let (Some(Expect::Ready { show }), Some(status)) =
            (self.expect.front(), status.and_then(Status::from_byte))
        else {
            return Err(unexpected(b'Z'));
        };
        let show = *show;
        self.is_answered();
        self.status = status;
        self.has_written &= status != Status::Idle;
        // After a Bind that is tried again, more than the Sync before it is owed.
        self.amid_pipeline = self.expect.iter().any(|owed| match owed {
            Expect::Parse { .. }
            | Expect::Bind { .. }
            | Expect::Rebind
            | Expect::Describe { .. }
            | Expect::Execute
            | Expect::Close { .. }
            | Expect::Fail(_) => true,
            Expect::Ready { .. } | Expect::Known(_) | Expect::Inject(_) => false,
        });
        self.copy_in = false;
        self.swallowed_sync = false;
        Ok(show)
    }

    fn holds_ready(&mut self) -> bool {
        let holds = matches!(self.ready, Ready::Hold | Ready::HoldTag);
        if holds {
            self.ready = Ready::Held;
        }
        holds
    }

    /// Answers how many rows it tells of.
    fn note_tag(&mut self, body: std::ops::Range<usize>) -> u64 {
        self.tag.clear();
        let mut bytes = &self.conn.inbox[body];
        let Some(tag) = frame::cstr(&mut bytes) else {
            return 0;
        };
        self.has_written = has_written(tag, self.has_written);
        self.tag.extend_from_slice(tag);
        rows(tag)
    }

    /// Does a command tag tell that rows were written, or that the transaction may be another one?
    pub(super) fn note_written(&mut self, body: std::ops::Range<usize>) {
        if let Some(tag) = frame::cstr(&mut &self.conn.inbox[body]) {
            self.has_written = has_written(tag, self.has_written);
        }
    }

    /// Passes on the notifications that came amid exchanges of our own.
    pub fn deliver(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&std::mem::take(&mut self.notified));
    }

    fn has_mail(&self) -> bool {
        self.mailbox
            .as_ref()
            .is_some_and(|mailbox| mailbox.has_mail())
    }

    pub(super) fn note_parameter(&mut self, body: std::ops::Range<usize>, shown: bool) {
        let mut bytes = &self.conn.inbox[body];
        if let (Some(name), Some(value)) = (frame::cstr(&mut bytes), frame::cstr(&mut bytes)) {
            let name = String::from_utf8_lossy(name).into_owned();
            let value = String::from_utf8_lossy(value).into_owned();
            if name == "in_hot_standby" {
                self.in_hot_standby = value == "on";
            }
            if shown {
                self.shown.push((name.clone(), value.clone()));
            }
            Arc::make_mut(&mut self.parameters).insert(name, value);
        }
    }

    /// An error ends the statement, and in the extended protocol everything up to Sync.
    fn note_error(&mut self, len: usize, out: &mut BytesMut) -> Result<(), Error> {
        let frame = &self.conn.inbox[self.approved..self.approved + len];
        // After anything worse than ERROR there is no connection left to bind again on.
        if self.expect.front() == Some(&Expect::Rebind)
            && error_field(&frame[HEADER..], b'V') == Some(b"ERROR")
        {
            self.flush_approved(out);
            self.conn.inbox.advance(len);
            self.must_rebind = true;
            self.skip_to_sync();
            if let Some(Expect::Ready { show }) = self.expect.front_mut() {
                *show = false;
            }
            return Ok(());
        }
        let is_last = error_field(&frame[HEADER..], b'V').is_some_and(|v| v != b"ERROR");
        let renamed = self.renamed(frame);
        let mut error = read_error(renamed.as_deref().unwrap_or(&frame[HEADER..]));
        let is_ours = self.identity.reword(&mut error);
        if error.code == OUTDATED {
            self.note_outdated();
        }
        if is_last && self.expect.front() == Some(&Expect::Ready { show: false }) {
            self.doubt = Some("the server ended it");
            return Err(error);
        }
        self.error = Some(error.clone());
        self.copy_in = false;
        self.unnamed = None;
        let mut show = true;
        match self.expect.front() {
            Some(Expect::Ready { show: visible }) => show = *visible,
            Some(Expect::Fail(error)) => {
                let error = error.clone();
                self.flush_approved(out);
                self.conn.inbox.advance(len);
                out.extend_from_slice(&error);
                self.skip_to_sync();
                return Ok(());
            }
            Some(
                Expect::Parse { .. }
                | Expect::Bind { .. }
                | Expect::Rebind
                | Expect::Close { .. }
                | Expect::Describe { .. }
                | Expect::Execute
                | Expect::Known(_)
                | Expect::Inject(_),
            )
            | None => self.skip_to_sync(),
        }
        if show && is_ours {
            self.flush_approved(out);
            self.conn.inbox.advance(len);
            error.write_to(out);
        } else if show && let Some(body) = renamed {
            self.flush_approved(out);
            self.conn.inbox.advance(len);
            write::frame(out, b'E', |out| out.extend_from_slice(&body));
        } else if show {
            self.approved += len;
        } else {
            self.flush_approved(out);
            self.conn.inbox.advance(len);
        }
        Ok(())
    }

    /// The error may be `cached plan must not change result type`, whatever the language.
    fn note_outdated(&mut self) {
        let executes = self.executes.as_ref().map(|(id, _)| *id);
        let id = match self.expect.front() {
            Some(Expect::Bind { called }) => called.as_ref().map(|(id, _)| *id),
            Some(Expect::Describe { of }) => *of,
            Some(Expect::Ready { .. } | Expect::Execute) => executes,
            Some(
                Expect::Parse { .. }
                | Expect::Known(_)
                | Expect::Rebind
                | Expect::Close { .. }
                | Expect::Inject(_)
                | Expect::Fail(_),
            )
            | None => None,
        };
        self.outdated.extend(id);
    }

    /// The body of a whole ErrorResponse that names a statement by the name it has here, with the
    /// client's name for it. One that is not whole passes as it is.
    fn renamed(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let (_, body) = frame::whole(frame).ok()??;
        let start = memchr::memmem::find(body, b"\"ringway_")? + 1;
        let end = start + memchr::memchr(b'"', body.get(start..)?)?;
        let (id, name) = match (self.expect.front(), &self.executes) {
            (
                Some(Expect::Bind {
                    called: Some(known),
                }),
                _,
            )
            | (Some(_) | None, Some(known)) => known,
            (Some(_) | None, None) => return None,
        };
        // Values and tables may be called alike.
        let is_it = *id.server_name() == body[start..end];
        is_it.then(|| [&body[..start], name, &body[end..]].concat())
    }

    fn skip_to_sync(&mut self) {
        let is_ready = |owed: &Expect| matches!(owed, Expect::Ready { .. });
        let skipped = self.expect.iter().position(is_ready);
        let skipped = skipped.unwrap_or(self.expect.len());
        let skipped: Vec<_> = self.expect.drain(..skipped).collect();
        skipped
            .iter()
            .for_each(|owed| self.kept.answered(owed.clone()));
        for (at, owed) in skipped.iter().enumerate() {
            if let Expect::Parse { show: true, id, .. } | Expect::Known(id) = owed {
                self.rejected.push((*id, at == 0));
            }
        }
        // The server did none of it: it is undone in the other order than it was sent in.
        for owed in skipped.into_iter().rev() {
            match owed {
                Expect::Parse {
                    id, named: Some(_), ..
                } => {
                    self.prepared.remove(id);
                }
                Expect::Close {
                    evicts: Some((id, bytes)),
                    ..
                } => self.prepared.insert(id, bytes),
                Expect::Ready { .. }
                | Expect::Parse { named: None, .. }
                | Expect::Known(_)
                | Expect::Bind { .. }
                | Expect::Rebind
                | Expect::Close { evicts: None, .. }
                | Expect::Describe { .. }
                | Expect::Execute
                | Expect::Inject(_)
                | Expect::Fail(_) => {}
            }
        }
        self.show_prepared();
    }
}

/// Whether the open transaction has written rows after a command with this tag, if before it had as
/// `before` tells.
fn has_written(tag: &[u8], before: bool) -> bool {
    const WRITES: [&[u8]; 4] = [b"INSERT ", b"UPDATE ", b"DELETE ", b"MERGE "];
    const CONTROLS: [&[u8]; 5] = [b"BEGIN", b"START", b"COMMIT", b"ROLLBACK", b"PREPARE"];
    // Of most commands.
    if tag.starts_with(b"SELECT") {
        return before;
    }
    if WRITES.iter().any(|verb| tag.starts_with(verb)) {
        return before || !tag.ends_with(b" 0");
    }
    before && !CONTROLS.iter().any(|verb| tag.starts_with(verb))
}

/// The number that a command tag ends in; 0 without one. On the bytes: `rsplit` and `parse` took 170
/// instructions of each statement.
fn rows(tag: &[u8]) -> u64 {
    let digits = tag.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let from = tag.len() - digits.count();
    let (before, digits) = tag.split_at(from);
    if !before.ends_with(b" ") {
        return 0;
    }
    digits.iter().fold(0, |rows: u64, digit| {
        rows.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    })
}

pub(in crate::backend) fn unexpected(tag: u8) -> Error {
    Error::new(Fault::Server, "08P01", "unexpected message from server").detail(format!(
        "Message type \"{}\" came where the protocol has no place for it.",
        tag.escape_ascii()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_command_tags_tell() {
        for (tag, count, after_nothing, after_writes) in [
            ("SELECT 1", 1, false, true),
            ("SELECT 12345678901", 12_345_678_901, false, true),
            ("INSERT 0 3", 3, true, true),
            ("INSERT 0 0", 0, false, true),
            ("UPDATE 10", 10, true, true),
            ("UPDATE 0", 0, false, true),
            ("DELETE 2", 2, true, true),
            ("MERGE 1", 1, true, true),
            ("COPY 7", 7, false, true),
            ("BEGIN", 0, false, false),
            ("START TRANSACTION", 0, false, false),
            ("COMMIT", 0, false, false),
            ("ROLLBACK PREPARED", 0, false, false),
            ("PREPARE TRANSACTION", 0, false, false),
            ("CREATE TABLE", 0, false, true),
            ("", 0, false, true),
        ] {
            let tag = tag.as_bytes();
            let found = (rows(tag), has_written(tag, false), has_written(tag, true));
            let name = tag.escape_ascii();
            assert_eq!(found, (count, after_nothing, after_writes), "{name}");
        }
    }
}
