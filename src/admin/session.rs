//! One client of the admin database, in the simple and the extended protocol.
//!
//! Nothing here knows where the tables' rows come from: [`State`] does. There are no transactions.

use std::collections::HashMap;
use std::future::Future;

use bytes::BytesMut;

use super::table::write_description;
use super::{Change, Command, Order, Show, Table, parse};
use crate::error::{Error, Fault};
use crate::wire::conn::{Conn, OUTBOX_HIGH};
use crate::wire::frame::{self, HEADER};
use crate::wire::frontend::{self, Bind, Execute, Named, Parse};
use crate::wire::write;

/// No admin command is longer.
const MAX_MESSAGE: usize = 64 * 1024;
/// Prepared statements and portals of one client, each.
const MAX_NAMES: usize = 1_000;

/// What the commands show and change.
pub trait State {
    /// The rows as they are now.
    fn table(&self, show: Show) -> Table;

    /// Reads the configuration again.
    ///
    /// Errors: what is wrong with it; the old one stays in force then.
    fn reload(&self) -> impl Future<Output = Result<(), Error>>;

    /// Whether the client may do more than look, by the configuration of now.
    fn may_order(&self) -> bool;

    /// Changes a setting until the next reload.
    ///
    /// Errors: why it cannot be.
    fn change(&self, change: &Change) -> impl Future<Output = Result<(), Error>>;

    /// Returns when the order is carried out.
    ///
    /// Errors: why it is not.
    fn obey(&self, order: &Order) -> impl Future<Output = Result<(), Error>>;
}

/// Serves a client that is logged in, until it leaves.
///
/// # Errors
/// What ends the connection before that, to be told to the client: frames that make no sense.
///
/// Cancel safety: yes, at the price of an answer that is cut off.
pub async fn serve(conn: &mut Conn, state: &impl State) -> Result<(), Error> {
    let mut session = Session {
        conn,
        state,
        statements: HashMap::new(),
        portals: HashMap::new(),
        skipping: false,
    };
    while let Some(frame) = session.next_frame().await? {
        if frame[0] == b'X' {
            break;
        }
        session.answer(&frame).await?;
    }
    Ok(())
}

struct Session<'a, S> {
    conn: &'a mut Conn,
    state: &'a S,
    statements: HashMap<Vec<u8>, Command>,
    portals: HashMap<Vec<u8>, Portal>,
    /// An error was reported: everything up to Sync is ignored.
    skipping: bool,
}

struct Portal {
    command: Command,
    /// Result format codes of Bind.
    formats: Vec<i16>,
    progress: Progress,
}

/// How far a portal was executed.
enum Progress {
    Bound,
    /// A row limit left these.
    Suspended(Table),
    Done,
}

impl<S: State> Session<'_, S> {
    /// The next whole frame, or `None` when the client has left.
    async fn next_frame(&mut self) -> Result<Option<BytesMut>, Error> {
        loop {
            if let Some(header) = frame::peek(&self.conn.inbox)? {
                frontend::check(header.tag, header.len, MAX_MESSAGE)?;
                if self.conn.inbox.len() >= header.len {
                    return Ok(Some(self.conn.inbox.split_to(header.len)));
                }
            }
            if self.conn.drain().await.is_err() {
                return Ok(None);
            }
            self.conn.shrink(0);
            match self.conn.fill().await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }

    async fn answer(&mut self, frame: &[u8]) -> Result<(), Error> {
        let (tag, body) = (frame[0], &frame[HEADER..]);
        let result = match tag {
            b'Q' => self.query(body).await,
            b'S' => {
                self.skipping = false;
                self.portals.clear();
                self.ready();
                Ok(())
            }
            _ if self.skipping => Ok(()),
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'D' => self.describe(body),
            b'E' => self.execute(body).await,
            b'C' => self.close(body),
            // What is owed goes out before the next read anyway.
            b'H' => Ok(()),
            // Leftovers of a COPY: PostgreSQL ignores them too.
            b'd' | b'c' | b'f' => Ok(()),
            other => Err(Error::protocol(format!(
                "unexpected message type \"{}\"",
                other.escape_ascii()
            ))),
        };
        match result {
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                error.write_to(&mut self.conn.outbox);
                match tag {
                    b'Q' => self.ready(),
                    _ => self.skipping = true,
                }
            }
            Ok(()) => {}
        }
        if self.conn.outbox.len() >= OUTBOX_HIGH {
            let drained = self.conn.drain().await;
            drained.map_err(|_| Error::protocol("client closed the connection"))?;
        }
        Ok(())
    }

    fn ready(&mut self) {
        write::ready(&mut self.conn.outbox, b'I');
    }

    async fn query(&mut self, body: &[u8]) -> Result<(), Error> {
        let command = command(frontend::query(body)?)?;
        if let Command::Show(show) = command {
            let table = self.state.table(show);
            write_description(table.columns, &[], &mut self.conn.outbox);
            table.write_rows(&[], &mut self.conn.outbox);
        }
        self.finish(&command).await?;
        self.ready();
        Ok(())
    }

    /// Does what a command does besides returning rows, and says that it is complete.
    async fn finish(&mut self, command: &Command) -> Result<(), Error> {
        if !command.only_looks() && !self.state.may_order() {
            return Err(only_looks());
        }
        let tag = match command {
            Command::Empty => {
                self.conn.outbox.extend_from_slice(write::EMPTY_QUERY);
                return Ok(());
            }
            Command::Show(_) => "SHOW",
            Command::Set => "SET",
            Command::Change(change) => {
                self.state.change(change).await?;
                "SET"
            }
            Command::Reload => {
                self.state.reload().await?;
                "RELOAD"
            }
            Command::Order(order) => {
                self.state.obey(order).await?;
                order.name()
            }
        };
        write::command_complete(&mut self.conn.outbox, tag);
        Ok(())
    }

    fn parse(&mut self, body: &[u8]) -> Result<(), Error> {
        let parse = Parse::read(body)?;
        let named = !parse.name.is_empty();
        if named && self.statements.contains_key(parse.name) {
            let name = String::from_utf8_lossy(parse.name);
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(Error::new(Fault::Client, "42P05", message));
        }
        let command = command(parse.sql)?;
        check_room(self.statements.len())?;
        self.statements.insert(parse.name.to_vec(), command);
        self.conn.outbox.extend_from_slice(write::PARSE_COMPLETE);
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), Error> {
        let bind = Bind::read(body)?;
        let command = self.statement(bind.statement)?;
        if !bind.values.is_empty() {
            let message = format!(
                "bind message supplies {} parameters, but the admin database's commands require 0",
                bind.values.len()
            );
            return Err(Error::new(Fault::Client, "08P01", message));
        }
        check_room(self.portals.len())?;
        let portal = Portal {
            command,
            formats: bind.result_formats,
            progress: Progress::Bound,
        };
        self.portals.insert(bind.portal.to_vec(), portal);
        self.conn.outbox.extend_from_slice(write::BIND_COMPLETE);
        Ok(())
    }

    fn describe(&mut self, body: &[u8]) -> Result<(), Error> {
        match Named::read(body, "DESCRIBE")? {
            Named::Statement(name) => {
                let command = self.statement(name)?;
                self.conn.outbox.extend_from_slice(write::NO_PARAMETERS);
                describe(&command, &[], &mut self.conn.outbox);
            }
            Named::Portal(name) => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                describe(&portal.command, &portal.formats, &mut self.conn.outbox);
            }
        }
        Ok(())
    }

    async fn execute(&mut self, body: &[u8]) -> Result<(), Error> {
        let Execute { portal, max_rows } = Execute::read(body)?;
        let name = portal;
        let portal = self.portals.get_mut(name).ok_or_else(|| no_portal(name))?;
        let command = portal.command.clone();
        let progress = std::mem::replace(&mut portal.progress, Progress::Done);
        let mut table = match (&command, progress) {
            (Command::Show(show), Progress::Bound) => self.state.table(*show),
            (Command::Show(show), Progress::Done) => Table::empty(show.columns()),
            (_, Progress::Suspended(rest)) => rest,
            (_, Progress::Bound) => return self.finish(&command).await,
            (_, Progress::Done) => return Err(already_run(name)),
        };
        let rest = table.split_off(max_rows);
        table.write_rows(&portal.formats, &mut self.conn.outbox);
        match rest {
            None => write::command_complete(&mut self.conn.outbox, "SHOW"),
            Some(rest) => {
                portal.progress = Progress::Suspended(rest);
                self.conn.outbox.extend_from_slice(write::PORTAL_SUSPENDED);
            }
        }
        Ok(())
    }

    /// What does not exist may be closed, as in PostgreSQL.
    fn close(&mut self, body: &[u8]) -> Result<(), Error> {
        match Named::read(body, "CLOSE")? {
            Named::Statement(name) => drop(self.statements.remove(name)),
            Named::Portal(name) => drop(self.portals.remove(name)),
        }
        self.conn.outbox.extend_from_slice(write::CLOSE_COMPLETE);
        Ok(())
    }

    fn statement(&self, name: &[u8]) -> Result<Command, Error> {
        self.statements.get(name).cloned().ok_or_else(|| {
            let message = match name {
                b"" => "unnamed prepared statement does not exist".to_owned(),
                _ => format!(
                    "prepared statement \"{}\" does not exist",
                    String::from_utf8_lossy(name)
                ),
            };
            Error::new(Fault::Client, "26000", message)
        })
    }
}

fn command(sql: &[u8]) -> Result<Command, Error> {
    parse(&String::from_utf8_lossy(sql))
}

fn describe(command: &Command, formats: &[i16], out: &mut BytesMut) {
    match command {
        Command::Show(show) => write_description(show.columns(), formats, out),
        Command::Empty
        | Command::Set
        | Command::Change(_)
        | Command::Reload
        | Command::Order(_) => out.extend_from_slice(write::NO_DATA),
    }
}

fn check_room(names: usize) -> Result<(), Error> {
    if names < MAX_NAMES {
        return Ok(());
    }
    Err(Error::new(
        Fault::Client,
        "53400",
        "too many prepared statements or portals",
    )
    .detail(format!("An admin client may have {MAX_NAMES} of each."))
    .hint("Close those that are not needed."))
}

fn only_looks() -> Error {
    let message = "permission denied: this user may only look";
    Error::new(Fault::Client, "42501", message)
        .detail("stats_users may SHOW; orders, RELOAD and SET are for admin_users.")
}

fn no_portal(name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    let message = format!("portal \"{name}\" does not exist");
    Error::new(Fault::Client, "34000", message)
}

fn already_run(name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    let message = format!("portal \"{name}\" cannot be run");
    Error::new(Fault::Client, "55000", message)
}

#[cfg(test)]
mod tests;
