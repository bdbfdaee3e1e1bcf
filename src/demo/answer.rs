//! What a server answered to one statement, in a form that two servers' answers can be compared.

use std::error::Error as StdError;

use bytes::BytesMut;
use futures_util::{SinkExt, TryStreamExt, pin_mut};
use postgres_protocol::types as binary;
use tokio_postgres::types::{Format, FromSql, IsNull, ToSql, Type};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::tour::Statement;

/// One statement's answer; server-given names of portals, timings and the like are not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Rows {
        columns: Vec<Column>,
        rows: Vec<Row>,
    },
    /// The count in the command tag of a statement without rows.
    Count(u64),
    Copied(Vec<u8>),
    Failed {
        code: String,
        message: String,
        detail: bool,
        hint: bool,
    },
    /// The connection ended.
    Lost(String),
}

/// Name and, in the extended protocol, type.
pub type Column = (String, u32);
/// Values as they came; `None` is NULL.
pub type Row = Vec<Option<Vec<u8>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// One Query message, parameters written into the text.
    Simple,
    /// Named prepared statements, binary results, binary parameters where the type is known.
    Extended,
}

impl Answer {
    /// The answer with rows in an order of their own, for when SQL leaves their order open.
    pub fn unordered(self) -> Self {
        match self {
            Self::Rows { columns, mut rows } => {
                rows.sort();
                Self::Rows { columns, rows }
            }
            Self::Copied(data) => {
                let mut lines: Vec<&[u8]> = data.split_inclusive(|byte| *byte == b'\n').collect();
                lines.sort_unstable();
                Self::Copied(lines.concat())
            }
            Self::Count(_) | Self::Failed { .. } | Self::Lost(_) => self,
        }
    }

    /// Whether this is 0A000 with the reason and a way out, as law 1 of the design asks.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Failed { code, detail: true, hint: true, .. } if code == "0A000")
    }

    /// A few words for people.
    pub fn summary(&self) -> String {
        match self {
            Self::Rows { rows, .. } => match rows.first() {
                Some(first) => format!("{} rows, first {}", rows.len(), show(first)),
                None => "no rows".to_owned(),
            },
            Self::Count(count) => format!("count {count}"),
            Self::Copied(data) => format!("{} bytes", data.len()),
            Self::Failed {
                code,
                message,
                detail,
                hint,
            } => {
                let without = match (detail, hint) {
                    (true, true) => "",
                    (false, true) => ", no detail",
                    (true, false) => ", no hint",
                    (false, false) => ", no detail, no hint",
                };
                format!("{code} {message}{without}")
            }
            Self::Lost(message) => message.clone(),
        }
    }
}

/// Runs one statement. Whatever happens is an answer.
pub async fn ask(client: &Client, statement: &Statement, protocol: Protocol) -> Answer {
    let answer = if let Some(data) = &statement.copy_data {
        copy_in(client, &statement.sql, data).await
    } else if statement.sql.starts_with("COPY") {
        copy_out(client, &statement.sql).await
    } else {
        match protocol {
            Protocol::Simple => simple(client, statement).await,
            Protocol::Extended => extended(client, statement).await,
        }
    };
    answer.unwrap_or_else(|error| match error.as_db_error() {
        Some(db) => Answer::Failed {
            code: db.code().code().to_owned(),
            message: db.message().to_owned(),
            detail: db.detail().is_some(),
            hint: db.hint().is_some(),
        },
        None => Answer::Lost(error.to_string()),
    })
}

async fn simple(client: &Client, statement: &Statement) -> Result<Answer, tokio_postgres::Error> {
    let mut columns = None;
    let mut rows = Vec::new();
    let mut count = 0;
    for message in client.simple_query(&with_literals(statement)).await? {
        match message {
            SimpleQueryMessage::RowDescription(described) => {
                columns = Some(described.iter().map(|c| (c.name().to_owned(), 0)).collect());
            }
            SimpleQueryMessage::Row(row) => {
                let value = |at| row.get(at).map(|text: &str| text.as_bytes().to_vec());
                rows.push((0..row.len()).map(value).collect());
            }
            SimpleQueryMessage::CommandComplete(n) => count = n,
            // Kinds of message that later versions of the driver may add.
            _ => {}
        }
    }
    Ok(
        columns.map_or(Answer::Count(count), |columns| Answer::Rows {
            columns,
            rows,
        }),
    )
}

async fn extended(client: &Client, statement: &Statement) -> Result<Answer, tokio_postgres::Error> {
    let prepared = client.prepare(&statement.sql).await?;
    let params: Vec<Sent<'_>> = statement
        .params
        .iter()
        .map(|p| Sent(p.as_deref()))
        .collect();
    let columns: Vec<Column> = prepared
        .columns()
        .iter()
        .map(|c| (c.name().to_owned(), c.type_().oid()))
        .collect();
    let stream = client.query_raw(&prepared, params).await?;
    pin_mut!(stream);
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await? {
        let value = |at| row.try_get(at).map(|Received(bytes)| bytes);
        rows.push((0..row.len()).map(value).collect::<Result<Row, _>>()?);
    }
    let count = stream.rows_affected().unwrap_or(0);
    Ok(if columns.is_empty() {
        Answer::Count(count)
    } else {
        Answer::Rows { columns, rows }
    })
}

async fn copy_in(client: &Client, sql: &str, data: &str) -> Result<Answer, tokio_postgres::Error> {
    let sink = client.copy_in(sql).await?;
    pin_mut!(sink);
    sink.send(bytes::Bytes::copy_from_slice(data.as_bytes()))
        .await?;
    Ok(Answer::Count(sink.finish().await?))
}

async fn copy_out(client: &Client, sql: &str) -> Result<Answer, tokio_postgres::Error> {
    let stream = client.copy_out(sql).await?;
    pin_mut!(stream);
    let mut data = Vec::new();
    while let Some(piece) = stream.try_next().await? {
        data.extend_from_slice(&piece);
    }
    Ok(Answer::Copied(data))
}

/// Writes the parameters into the text: numbers as they are, all else as strings.
fn with_literals(statement: &Statement) -> String {
    let mut sql = statement.sql.clone();
    // From the last, so that $1 does not meet the head of $10.
    for (at, param) in statement.params.iter().enumerate().rev() {
        let literal = match param {
            None => "NULL".to_owned(),
            Some(number) if number.parse::<i64>().is_ok() => number.clone(),
            Some(text) => format!("'{}'", text.replace('\'', "''")),
        };
        sql = sql.replace(&format!("${}", at + 1), &literal);
    }
    sql
}

fn show(row: &Row) -> String {
    let values: Vec<String> = row
        .iter()
        .map(|value| match value {
            None => "NULL".to_owned(),
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if !text.contains(char::is_control) => text.to_owned(),
                Ok(_) | Err(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            },
        })
        .collect();
    format!("({})", values.join(", "))
}

/// A parameter that is known as text: sent in binary where drivers do so and we know how.
#[derive(Debug)]
struct Sent<'a>(Option<&'a str>);

impl ToSql for Sent<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        let Some(text) = self.0 else {
            return Ok(IsNull::Yes);
        };
        match *ty {
            Type::INT2 => binary::int2_to_sql(text.parse()?, out),
            Type::INT4 => binary::int4_to_sql(text.parse()?, out),
            Type::INT8 => binary::int8_to_sql(text.parse()?, out),
            _ => out.extend_from_slice(text.as_bytes()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, ty: &Type) -> Format {
        match *ty {
            Type::INT2 | Type::INT4 | Type::INT8 => Format::Binary,
            _ => Format::Text,
        }
    }

    tokio_postgres::types::to_sql_checked!();
}

/// Any value, undecoded.
struct Received(Option<Vec<u8>>);

impl<'a> FromSql<'a> for Received {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(Some(raw.to_vec())))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_literals() {
        let statement = Statement {
            sql: "SELECT $1, $2, $3".to_owned(),
            params: vec![Some("7".to_owned()), Some("it's".to_owned()), None],
            copy_data: None,
        };
        assert_eq!(with_literals(&statement), "SELECT 7, 'it''s', NULL");
    }

    #[test]
    fn a_refusal_says_why_and_what_to_do() {
        let refused = |code: &str, hint| Answer::Failed {
            code: code.to_owned(),
            message: String::new(),
            detail: true,
            hint,
        };
        assert!(refused("0A000", true).is_refusal());
        assert!(!refused("0A000", false).is_refusal());
        assert!(!refused("42601", true).is_refusal());
    }
}
