//! Who is asked for a schema: a connection of our own, or one whose transaction has changed it and alone
//! sees it so.

use std::str::FromStr;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio_postgres::{SimpleQueryMessage, Transaction};

use crate::backend::server::Server;
use crate::cluster::control::Failure;

pub(super) enum Source<'a> {
    Control(Transaction<'a>),
    /// Of a client's transaction block.
    Block(&'a mut Server),
}

/// A row, each value as text.
pub(super) struct Cells(Vec<Option<String>>);

impl Source<'_> {
    /// # Errors
    /// The server's, or its loss.
    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<Cells>, Failure> {
        match self {
            Self::Control(transaction) => {
                let messages = transaction.simple_query(sql).await?;
                let row = |message| match message {
                    SimpleQueryMessage::Row(row) => {
                        let text = |at| row.get(at).map(str::to_owned);
                        Some(Cells((0..row.len()).map(text).collect()))
                    }
                    _ => None,
                };
                Ok(messages.into_iter().filter_map(row).collect())
            }
            Self::Block(server) => {
                let rows = server.ask_hidden(sql).await.map_err(Failure::Session)?;
                let text = |value: Bytes| {
                    let text = String::from_utf8(value.into());
                    text.map_err(|_| Failure::Odd("a text that is not UTF-8"))
                };
                let row = |row: Vec<Option<Bytes>>| {
                    let values = row.into_iter().map(|value| value.map(text).transpose());
                    values.collect::<Result<_, _>>().map(Cells)
                };
                rows.into_iter().map(row).collect()
            }
        }
    }

    /// The one row of a query that has one.
    ///
    /// # Errors
    /// As [`Source::rows`].
    pub(super) async fn row(&mut self, sql: &str) -> Result<Cells, Failure> {
        let rows = self.rows(sql).await?;
        rows.into_iter()
            .next()
            .ok_or(Failure::Odd("no row where there is one"))
    }
}

impl Cells {
    /// NULL is `None`.
    pub(super) fn maybe(&self, at: usize) -> Option<&str> {
        self.0.get(at)?.as_deref()
    }

    /// # Errors
    /// It is NULL, as in all of these.
    pub(super) fn text(&self, at: usize) -> Result<&str, Failure> {
        self.maybe(at).ok_or(Failure::Odd("a NULL"))
    }

    pub(super) fn name(&self, at: usize) -> Result<String, Failure> {
        self.text(at).map(str::to_owned)
    }

    pub(super) fn flag(&self, at: usize) -> Result<bool, Failure> {
        Ok(self.text(at)? == "t")
    }

    /// # Errors
    /// It is no such number.
    pub(super) fn number<T: FromStr>(&self, at: usize) -> Result<T, Failure> {
        let number = self.text(at)?.parse();
        number.map_err(|_| Failure::Odd("no number where there is one"))
    }

    /// What `to_json` has written; NULL is `None`.
    ///
    /// # Errors
    /// It is no list of these.
    pub(super) fn list<T: DeserializeOwned>(&self, at: usize) -> Result<Option<Vec<T>>, Failure> {
        let list = self.maybe(at).map(serde_json::from_str).transpose();
        list.map_err(|_| Failure::Odd("no list where there is one"))
    }
}
