//! Exchanges of our own over a server connection, of which its client sees nothing.

use bytes::{Buf, Bytes};

use super::server::replies::unexpected;
use super::server::{Server, StatementId};
use crate::error::Error;
use crate::wire::write;

impl Server {
    /// The rows of a text of ours, each value as the server's text; the client sees nothing of it.
    ///
    /// # Errors
    /// As [`Server::run_hidden`].
    pub async fn ask_hidden(&mut self, sql: &str) -> Result<Vec<Vec<Option<Bytes>>>, Error> {
        self.settle().await?;
        self.begin_exchange();
        self.send_query(sql.as_bytes(), false);
        self.read_hidden().await
    }

    /// Reads whatever comes up to ReadyForQuery.
    async fn read_hidden(&mut self) -> Result<Vec<Vec<Option<Bytes>>>, Error> {
        let mut rows = Vec::new();
        while !self.expect.is_empty() {
            while let Some((tag, mut body)) = self.next_frame()? {
                if tag == b'D' {
                    rows.push(row(&mut body).ok_or_else(|| unexpected(tag))?);
                }
            }
            if !self.expect.is_empty() {
                self.exchange().await?;
            }
        }
        match self.error.take() {
            None => Ok(rows),
            Some(error) => Err(error),
        }
    }

    /// Runs a text of ours amid what extended messages have begun, whose unnamed statement and portal
    /// a Query would drop. With the Sync at its end nothing more is owed.
    ///
    /// # Errors
    /// As [`Server::run_hidden`].
    pub async fn run_amid(&mut self, sql: &str) -> Result<(), Error> {
        const NAME: &[u8] = b"ringway: amid";
        const NO_VALUES: &[u8] = &[0; 6];
        self.begin_exchange();
        let out = &mut self.conn.outbox;
        write::parse(out, NAME, sql.as_bytes(), &[]);
        write::bind(out, NAME, NAME, NO_VALUES);
        write::close(out, b'S', NAME);
        write::execute(out, NAME, 0);
        write::close(out, b'P', NAME);
        self.send_sync(false);
        self.read_hidden().await.map(drop)
    }

    /// Prepares a statement under the server's own name for it, unless it is known here.
    ///
    /// # Errors
    /// As [`Server::run_hidden`].
    pub async fn prepare_hidden(
        &mut self,
        id: StatementId,
        sql: &[u8],
        types: &[u32],
    ) -> Result<(), Error> {
        self.settle().await?;
        if self.has_prepared(id) {
            return Ok(());
        }
        self.begin_exchange();
        self.send_prepare(id, sql, types, false);
        self.send_sync(false);
        self.settle().await?;
        match self.error.take() {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }
}

/// The values of a DataRow.
fn row(body: &mut Bytes) -> Option<Vec<Option<Bytes>>> {
    let count = body.try_get_u16().ok()?;
    let mut values = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        values.push(match body.try_get_i32().ok()? {
            -1 => None,
            len => {
                let len = usize::try_from(len).ok().filter(|len| *len <= body.len())?;
                Some(body.split_to(len))
            }
        });
    }
    Some(values)
}
