//! Portals of DECLARE, FETCH, MOVE and CLOSE over several shards, and messages that name such a cursor itself:
//! to PostgreSQL it is a portal too.

use bytes::BytesMut;
use planner::plan::Direction;

use super::{Local, Portal, no_portal};
use crate::error::Error;
use crate::executor::cursor::Sink;
use crate::session::Session;
use crate::session::cursors::{Action, Asked, fetched_tag};
use crate::wire::frame;
use crate::wire::frontend::Bind;
use crate::wire::write;

/// A statement on cursors over several shards, bound.
pub(in crate::session) struct CursorPortal {
    action: Action,
    /// Of the result.
    formats: Vec<i16>,
    /// RowDescription or NoData.
    pub(super) columns: BytesMut,
    /// What is left of a FETCH that has run.
    rows: Option<BytesMut>,
}

impl Session {
    /// FETCH, MOVE or CLOSE of a cursor over several shards, as it is described before Bind.
    pub(super) fn cursor_locally(&self, sql: &[u8]) -> Option<Local> {
        let action = self.cursor_action(sql)?;
        let columns = match &action {
            Action::Fetch { cursor, moves, .. } if !moves => self.cursor_columns(*cursor, &[]).ok(),
            Action::Fetch { .. } | Action::Close(_) | Action::CloseAll => None,
        };
        Some(Local::Cursor(Box::new(CursorPortal {
            action,
            formats: Vec::new(),
            columns: columns.unwrap_or_else(|| BytesMut::from(write::NO_DATA)),
            rows: None,
        })))
    }

    /// Its values are to have the formats that a Bind says.
    ///
    /// # Errors
    /// 08P01 when they do not fit the columns.
    pub(super) fn bind_cursor(&self, portal: &mut CursorPortal, body: &[u8]) -> Result<(), Error> {
        if let Action::Fetch { cursor, moves, .. } = &portal.action
            && !moves
        {
            portal.formats = Bind::read(body)?.result_formats;
            portal.columns = self.cursor_columns(*cursor, &portal.formats)?;
        }
        Ok(())
    }

    pub(super) async fn execute_cursor(&mut self, name: &[u8], max_rows: u32) -> Result<(), Error> {
        // What fails before it keeps it from running.
        self.fetch().await?;
        let after = match self.batch.portals.remove(name) {
            Some(Portal::Local(Local::Cursor(portal))) => self.act(portal, max_rows).await?,
            Some(Portal::Local(Local::Declare(declaring))) => {
                self.declare(&declaring).await?;
                self.tell("DECLARE CURSOR");
                Local::Ran(None)
            }
            Some(_) | None => return Err(no_portal(name)),
        };
        self.batch.portals.insert(name, Portal::Local(after));
        Ok(())
    }

    async fn act(&mut self, mut portal: Box<CursorPortal>, max_rows: u32) -> Result<Local, Error> {
        let tag = match &portal.action {
            Action::Close(cursor) => self.close_spread(*cursor).await?.to_owned(),
            Action::CloseAll => self.close_all().await?.to_owned(),
            Action::Fetch {
                cursor,
                moves,
                direction,
            } => {
                let asked = Asked {
                    moves: *moves,
                    direction: *direction,
                    formats: &portal.formats,
                    head: &[],
                };
                let most = self.limits.merge_memory_bytes;
                if max_rows == 0 && portal.rows.is_none() || *moves {
                    let rows = self.fetch_spread(*cursor, &asked, Sink::Client).await?;
                    self.tell(&fetched_tag(*moves, rows));
                    return Ok(Local::Ran((!moves).then(|| fetched_tag(false, 0))));
                }
                let mut rows = portal.rows.take();
                if rows.is_none() {
                    let mut kept = BytesMut::new();
                    let sink = Sink::Kept(&mut kept, most);
                    self.fetch_spread(*cursor, &asked, sink).await?;
                    rows = Some(kept);
                }
                let mut rows = rows.unwrap_or_default();
                let mut count = 0;
                while !rows.is_empty() && (max_rows == 0 || count < max_rows) {
                    let len = frame::peek(&rows)?.map_or(rows.len(), |header| header.len);
                    self.client.outbox.extend_from_slice(&rows.split_to(len));
                    count += 1;
                }
                match max_rows > 0 && count == max_rows {
                    true => self.tell_suspended(u64::from(count)),
                    false => self.tell(&fetched_tag(false, u64::from(count))),
                }
                portal.rows = Some(rows);
                return Ok(Local::Cursor(portal));
            }
        };
        self.tell(&tag);
        Ok(Local::Ran(None))
    }

    fn tell(&mut self, tag: &str) {
        self.account.tagged(tag);
        write::command_complete(&mut self.client.outbox, tag);
    }

    fn tell_suspended(&mut self, rows: u64) {
        self.account.answered(rows);
        self.client
            .outbox
            .extend_from_slice(write::PORTAL_SUSPENDED);
    }

    /// Describe of a cursor over several shards by its name.
    pub(super) async fn describe_cursor(&mut self, cursor: u64) -> Result<(), Error> {
        let columns = self.cursor_columns(cursor, &[])?;
        self.emit(&columns);
        Ok(())
    }

    /// Execute of a cursor over several shards by its name: its rows come as text.
    pub(super) async fn execute_on_cursor(
        &mut self,
        cursor: u64,
        max_rows: u32,
    ) -> Result<(), Error> {
        self.fetch().await?;
        let direction = match max_rows {
            0 => Direction::ForwardAll,
            rows => Direction::Forward(i64::from(rows)),
        };
        let asked = Asked {
            moves: false,
            direction,
            formats: &[],
            head: &[],
        };
        let rows = self.fetch_spread(cursor, &asked, Sink::Client).await?;
        match max_rows > 0 && rows == u64::from(max_rows) {
            true => self.tell_suspended(rows),
            false => self.tell(&format!("SELECT {rows}")),
        }
        Ok(())
    }

    /// Close of a cursor over several shards by its name.
    pub(super) async fn close_cursor(&mut self, name: &[u8]) -> Result<(), Error> {
        self.fetch().await?;
        if let Some(cursor) = self.cursors.named(name) {
            self.close_spread(cursor).await?;
        }
        self.emit(write::CLOSE_COMPLETE);
        Ok(())
    }
}
