//! The same statement on several shards, one after the other in their order: writes that meet
//! each other meet on the first shard, so they cannot deadlock across shards.

use bytes::{BufMut, Bytes, BytesMut};

use crate::backend::server::{Expect, Server};
use crate::error::{Error, Fault};
use crate::wire::write;

/// Answers held back until every shard agreed are cut off here.
const MAX_ANSWER: usize = 16 << 20;

/// One shard's whole answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// Frames from the description to the last row, notices included, for the client.
    pub rows: BytesMut,
    /// Command tag.
    pub tag: String,
}

/// Runs `request` (frames that end in one ReadyForQuery) and collects the answer.
///
/// # Errors
/// The server's error, or its loss.
pub async fn ask(server: &mut Server, request: &[u8]) -> Result<Answer, Error> {
    server.begin_exchange();
    server.unnamed = None;
    server.conn.outbox.extend_from_slice(request);
    server.expect.push_back(Expect::Ready { show: false });
    let mut answer = Answer::default();
    loop {
        while let Some((tag, body)) = server.next_frame()? {
            match tag {
                b'T' | b'D' | b'n' | b'N' => append(&mut answer.rows, tag, &body)?,
                b'C' => answer.tag = text(&body),
                b'Z' => {
                    return match server.error.take() {
                        Some(error) => Err(*error),
                        None => Ok(answer),
                    };
                }
                b'E' | b'1' | b'2' | b'S' | b'A' | b'I' => {}
                other => {
                    server.doubt =
                        Some("a broadcast statement answered with something else than rows");
                    return Err(Error::new(
                        Fault::Server,
                        "08P01",
                        "unexpected message from server",
                    )
                    .detail(format!("Message type \"{}\".", other.escape_ascii())));
                }
            }
        }
        server.exchange().await?;
    }
}

fn append(rows: &mut BytesMut, tag: u8, body: &Bytes) -> Result<(), Error> {
    if rows.len() + body.len() > MAX_ANSWER {
        return Err(Error::new(
            Fault::Client,
            "54000",
            "answer of a statement on all shards is too large",
        )
        .detail(format!(
            "It is held back until all shards agree, and may have {MAX_ANSWER} bytes."
        ))
        .hint("Leave out RETURNING, or return fewer columns."));
    }
    write::frame(rows, tag, |out| out.put_slice(body));
    Ok(())
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body)).into_owned()
}

/// Adds up the counts of command tags such as `UPDATE 3`.
pub fn sum_tags(answers: &[Answer]) -> String {
    let Some(first) = answers.first() else {
        return String::new();
    };
    let (verb, _) = first.tag.rsplit_once(' ').unwrap_or((&first.tag, ""));
    let counts = answers
        .iter()
        .filter_map(|a| a.tag.rsplit_once(' ')?.1.parse::<u64>().ok());
    format!("{verb} {}", counts.sum::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_add_up() {
        let answer = |tag: &str| Answer {
            tag: tag.into(),
            ..Answer::default()
        };
        assert_eq!(
            sum_tags(&[answer("UPDATE 3"), answer("UPDATE 4")]),
            "UPDATE 7"
        );
        assert_eq!(sum_tags(&[answer("DELETE 0")]), "DELETE 0");
    }
}
