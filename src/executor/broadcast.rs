//! One statement, or its parts, on several shards: what each is sent, and one answer of theirs.

use bytes::{BufMut, Bytes, BytesMut};
use planner::ShardId;
use planner::merge::MergePlan;

use super::gathered_write::GatheredWrite;
use super::insertion::Insertion;
use super::merge::{Memory, Merger, Step};
use super::moves::{self, Moves};
use crate::backend::server::{Expect, Server};
use crate::cluster::ids::IdSource;
use crate::error::{Error, Fault};
use crate::wire::frame::{self, HEADER};
use crate::wire::write;

/// Answers held back until every shard agreed are cut off here, each.
const MAX_ANSWER: usize = 16 << 20;

/// What the shards are sent, each as frames that end in one ReadyForQuery.
#[derive(Debug, Clone)]
pub enum Requests {
    Same(Bytes),
    /// By participant; one without a request only takes part.
    Each(Vec<Bytes>),
}

impl Requests {
    pub fn of(&self, participant: usize) -> &[u8] {
        match self {
            Self::Same(request) => request,
            Self::Each(requests) => &requests[participant],
        }
    }
}

/// How the shards' answers become one.
#[derive(Debug)]
pub enum Combine {
    /// All are alike.
    First,
    /// Row counts are added, rows follow each other.
    Sum,
    /// As [`Combine::Sum`]; by participant, which rows of the whole each was given. Where every shard
    /// returned as many, they come in that order.
    Rows(Vec<Vec<usize>>),
    /// As [`Combine::Sum`], as one that has taken nothing yet merges them.
    Merged(Box<Merger>),
}

impl Combine {
    /// May rows of these answers follow each other?
    ///
    /// # Errors
    /// 0A000 when the shards return other columns.
    pub fn check(&self, answers: &[Answer]) -> Result<(), Error> {
        match self {
            // Whatever made the copies differ: it ends here.
            Self::First => return alike(answers),
            Self::Sum | Self::Rows(_) | Self::Merged(_) => {}
        }
        let mut merger = Merger::new(
            &MergePlan::default(),
            answers.len(),
            None,
            0,
            Memory::new(usize::MAX),
        );
        for (at, answer) in answers.iter().enumerate() {
            if answer.columns.first() == Some(&b'T') {
                merger.row_description(at, &answer.columns[HEADER..])?;
            }
        }
        Ok(())
    }
}

/// A statement on several shards.
#[derive(Debug)]
pub struct Job {
    pub requests: Requests,
    pub combine: Combine,
    /// What is to be done with the answers before they are combined.
    pub moves: Option<Box<Moves>>,
    /// What is to be done in place of requests.
    pub gathered: Option<Gathered>,
}

/// A write of gathered rows, or by them.
#[derive(Debug)]
pub enum Gathered {
    Insertion(Box<Insertion>),
    Write(Box<GatheredWrite>),
}

impl Job {
    /// The text that begins a transaction of its own for it.
    pub fn begin(&self) -> &'static str {
        match self.moves {
            None => "BEGIN",
            Some(_) => moves::BEGIN,
        }
    }

    /// Takes the rows of all, where they are merged.
    pub fn merger(&self) -> Option<Merger> {
        match &self.combine {
            Combine::Merged(merger) => Some(merger.fresh()),
            Combine::First | Combine::Sum | Combine::Rows(_) => None,
        }
    }

    /// Runs its request on the next server; `answers` are those of the ones before, and `merger` is
    /// [`Job::merger`], which has taken their rows.
    ///
    /// # Errors
    /// As [`ask_within`]; as [`Merger::push`].
    pub async fn ask(
        &self,
        server: &mut Server,
        answers: &[Answer],
        merger: Option<&mut Merger>,
    ) -> Result<Answer, Error> {
        let request = self.requests.of(answers.len());
        match (&self.moves, merger) {
            (Some(moves), _) => moves.update(server, request, answers).await,
            (None, None) => ask(server, request).await,
            (None, Some(merger)) => {
                begin(server, request);
                let at = answers.len();
                answer_to(server, Rows::Merged { at, merger }).await
            }
        }
    }

    /// What is left to be done in the transaction when all have answered; tells what the client is
    /// answered from.
    ///
    /// # Errors
    /// As [`Combine::check`], [`Moves::carry_out`], [`Insertion::carry_out`], [`GatheredWrite::carry_out`] and
    /// [`Merger::step`].
    pub async fn finish(
        &self,
        servers: &mut [&mut Server],
        shards: &[ShardId],
        ids: &IdSource,
        answers: Vec<Answer>,
        merger: Option<Merger>,
    ) -> Result<Vec<Answer>, Error> {
        if let Some(gathered) = &self.gathered {
            let answer = match gathered {
                Gathered::Insertion(insertion) => insertion.carry_out(servers, shards, ids).await,
                Gathered::Write(write) => write.carry_out(servers, shards).await,
            };
            return Ok(vec![answer?]);
        }
        let answers = match &self.moves {
            None => answers,
            Some(moves) => moves.carry_out(servers, shards, answers).await?,
        };
        match merger {
            Some(merger) => Ok(vec![merged(merger, answers)?]),
            None => {
                self.combine.check(&answers)?;
                Ok(answers)
            }
        }
    }

    /// In place of requests.
    pub fn gathered(gathered: Gathered) -> Self {
        Self {
            requests: Requests::Same(Bytes::new()),
            combine: Combine::First,
            moves: None,
            gathered: Some(gathered),
        }
    }

    /// The shard that knows all that the text reads, where one has to be asked for it.
    pub fn describing(&self) -> Option<ShardId> {
        match self.gathered.as_ref()? {
            Gathered::Insertion(insertion) => insertion.describing,
            Gathered::Write(write) => write.gathering.at,
        }
    }

    /// The same Query on each.
    pub fn same(sql: &[u8], combine: Combine) -> Self {
        let mut request = BytesMut::new();
        write::query(&mut request, sql);
        Self {
            requests: Requests::Same(request.freeze()),
            combine,
            moves: None,
            gathered: None,
        }
    }

    /// The same on each in the extended protocol: text, parameter types, and the Bind message after
    /// its names.
    pub fn bound((sql, types, bind_rest): (&[u8], &[u32], &[u8]), combine: Combine) -> Self {
        let mut request = BytesMut::new();
        extended(&mut request, sql, types, bind_rest);
        Self {
            requests: Requests::Same(request.freeze()),
            combine,
            moves: None,
            gathered: None,
        }
    }
}

fn alike(answers: &[Answer]) -> Result<(), Error> {
    let mut tags = answers.iter().map(|answer| &answer.tag);
    let first = tags.next();
    match tags.find(|tag| Some(*tag) != first) {
        None => Ok(()),
        Some(other) => {
            let one = first.unwrap_or(other);
            let message = "copies of a reference table differ between shards";
            Err(Error::new(Fault::Operator, "XX001", message)
                .detail(format!(
                    "The statement was rolled back: one shard answered {one}, another {other}."
                ))
                .hint("Compare the copies, and make them equal on each shard."))
        }
    }
}

/// Appends what runs `sql` in the extended protocol. `bind_rest`: the Bind message after its names.
pub fn extended(out: &mut BytesMut, sql: &[u8], types: &[u32], bind_rest: &[u8]) {
    write::parse(out, b"", sql, types);
    write::bind(out, b"", b"", bind_rest);
    write::describe(out, b'P', b"");
    write::execute(out, b"", 0);
    out.extend_from_slice(write::SYNC);
}

/// One shard's whole answer, or that of all.
#[derive(Debug, Default)]
pub struct Answer {
    /// RowDescription or NoData, if it came.
    pub columns: BytesMut,
    /// DataRow frames.
    pub rows: BytesMut,
    /// NoticeResponse frames.
    pub notices: BytesMut,
    /// Command tag.
    pub tag: String,
}

impl Answer {
    /// The first column of each row, as text.
    ///
    /// # Errors
    /// 08P01 when a row is malformed.
    pub fn texts(&self) -> Result<Vec<String>, Error> {
        let malformed = || Error::new(Fault::Server, "08P01", "a shard sent a malformed row");
        let mut rest = &self.rows[..];
        let mut texts = Vec::new();
        while let Some(header) = frame::peek(rest)? {
            let row = frame::take(&mut rest, header.len).ok_or_else(malformed)?;
            let mut row = row.get(HEADER + 2..).ok_or_else(malformed)?;
            let length = frame::i32(&mut row).ok_or_else(malformed)?;
            let length = usize::try_from(length).unwrap_or(0);
            let text = frame::take(&mut row, length).ok_or_else(malformed)?;
            texts.push(String::from_utf8_lossy(text).into_owned());
        }
        Ok(texts)
    }
}

/// Runs `request` (frames that end in one ReadyForQuery, or none) and collects the answer.
///
/// # Errors
/// The server's error, or its loss.
pub async fn ask(server: &mut Server, request: &[u8]) -> Result<Answer, Error> {
    ask_within(server, request, MAX_ANSWER, too_large).await
}

/// As [`ask`], for an answer whose rows have no more than `room` bytes.
///
/// # Errors
/// `full` where they have.
pub async fn ask_within(
    server: &mut Server,
    request: &[u8],
    room: usize,
    full: fn() -> Error,
) -> Result<Answer, Error> {
    if request.is_empty() {
        return Ok(Answer::default());
    }
    begin(server, request);
    answer_to(server, Rows::Kept { room, full }).await
}

fn begin(server: &mut Server, request: &[u8]) {
    server.begin_exchange();
    server.unnamed = None;
    server.conn.outbox.extend_from_slice(request);
    server.expect.push_back(Expect::Ready { show: false });
}

/// Collects the answer to what was sent.
///
/// # Errors
/// The server's error, or its loss.
pub(super) async fn answer(server: &mut Server) -> Result<Answer, Error> {
    let (room, full) = (MAX_ANSWER, too_large);
    answer_to(server, Rows::Kept { room, full }).await
}

/// Where the rows of an answer go.
enum Rows<'m> {
    /// Into it, as long as they have no more bytes than `room`; else it fails with `full`.
    Kept { room: usize, full: fn() -> Error },
    /// Of the participant `at`; its columns are in the answer where they are those of all.
    Merged { at: usize, merger: &'m mut Merger },
}

impl Rows<'_> {
    fn describe(&mut self, answer: &mut Answer, body: &Bytes) -> Result<(), Error> {
        match self {
            Self::Kept { .. } => append(&mut answer.columns, b'T', body),
            Self::Merged { at, merger } => {
                if let Some(columns) = merger.row_description(*at, body)? {
                    answer.columns = columns;
                }
                Ok(())
            }
        }
    }

    fn take(&mut self, answer: &mut Answer, body: Bytes) -> Result<(), Error> {
        match self {
            Self::Kept { room, full } if answer.rows.len() + body.len() > *room => Err(full()),
            Self::Kept { .. } => {
                write::frame(&mut answer.rows, b'D', |out| out.put_slice(&body));
                Ok(())
            }
            Self::Merged { at, merger } => merger.push(*at, body),
        }
    }

    fn end(&mut self) {
        if let Self::Merged { at, merger } = self {
            merger.end(*at);
        }
    }
}

async fn answer_to(server: &mut Server, mut rows: Rows<'_>) -> Result<Answer, Error> {
    let mut answer = Answer::default();
    loop {
        while let Some((tag, body)) = server.next_frame()? {
            match tag {
                b'T' => rows.describe(&mut answer, &body)?,
                b'n' => append(&mut answer.columns, tag, &body)?,
                b'D' => rows.take(&mut answer, body)?,
                b'N' => append(&mut answer.notices, tag, &body)?,
                b'C' => {
                    rows.end();
                    answer.tag = text(&body);
                }
                b'Z' => {
                    return match server.error.take() {
                        Some(error) => Err(error),
                        None => Ok(answer),
                    };
                }
                b'E' | b'1' | b'2' | b'S' | b'A' | b'I' => {}
                other => return Err(server.unexpected(other)),
            }
        }
        server.exchange().await?;
    }
}

fn append(frames: &mut BytesMut, tag: u8, body: &Bytes) -> Result<(), Error> {
    if frames.len() + body.len() > MAX_ANSWER {
        return Err(too_large());
    }
    write::frame(frames, tag, |out| out.put_slice(body));
    Ok(())
}

fn too_large() -> Error {
    let message = "answer of a statement on all shards is too large";
    Error::new(Fault::Client, "54000", message)
        .detail(format!(
            "It is held back until all shards agree, and may have {MAX_ANSWER} bytes."
        ))
        .hint("Leave out RETURNING, or return fewer columns.")
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body)).into_owned()
}

/// One answer of those of all participants.
pub fn combine(mut answers: Vec<Answer>, how: &Combine) -> Answer {
    let tag = match how {
        Combine::First => return answers.into_iter().next().unwrap_or_default(),
        Combine::Sum | Combine::Rows(_) | Combine::Merged(_) => {
            sum_tags(answers.iter().map(|answer| answer.tag.as_str()))
        }
    };
    let mut whole = Answer {
        tag,
        ..Answer::default()
    };
    if let Some(first) = answers.first_mut() {
        whole.columns = std::mem::take(&mut first.columns);
    }
    for answer in &mut answers {
        whole.notices.unsplit(std::mem::take(&mut answer.notices));
    }
    let by_shard = answers.into_iter().map(|answer| answer.rows.freeze());
    let by_shard: Vec<Bytes> = by_shard.collect();
    let ordered = match how {
        Combine::Rows(given) => in_order(&by_shard, given),
        Combine::First | Combine::Sum | Combine::Merged(_) => None,
    };
    for rows in ordered.unwrap_or(by_shard) {
        whole.rows.extend_from_slice(&rows);
    }
    whole
}

/// One answer with the rows of all, which `merger` has taken.
///
/// # Errors
/// As [`Merger::step`]; 53200 above the memory cap.
fn merged(mut merger: Merger, mut answers: Vec<Answer>) -> Result<Answer, Error> {
    let mut whole = Answer {
        tag: sum_tags(answers.iter().map(|answer| answer.tag.as_str())),
        ..Answer::default()
    };
    for answer in &mut answers {
        whole.columns.unsplit(std::mem::take(&mut answer.columns));
        whole.notices.unsplit(std::mem::take(&mut answer.notices));
    }
    while let Step::Row(row) = merger.step()? {
        merger.hold(row.len())?;
        whole.rows.extend_from_slice(&row);
    }
    Ok(whole)
}

/// The rows of all in the order in which they were given; `None` when a shard returned fewer or more
/// than it was given, so that nothing tells which are which.
fn in_order(by_shard: &[Bytes], given: &[Vec<usize>]) -> Option<Vec<Bytes>> {
    let mut placed = Vec::new();
    for (rows, given) in by_shard.iter().zip(given) {
        let mut rows = rows.clone();
        for row in given {
            let header = frame::peek(&rows).ok()??;
            placed.push((*row, rows.split_to(header.len)));
        }
        if !rows.is_empty() {
            return None;
        }
    }
    placed.sort_unstable_by_key(|(row, _)| *row);
    Some(placed.into_iter().map(|(_, frame)| frame).collect())
}

/// Adds up the counts of command tags such as `UPDATE 3`.
pub fn sum_tags<'t>(tags: impl Iterator<Item = &'t str>) -> String {
    let mut whole: Option<(&str, u64)> = None;
    for tag in tags {
        let (verb, count) = tag.rsplit_once(' ').unwrap_or((tag, ""));
        let count = count.parse::<u64>().unwrap_or(0);
        whole = Some(whole.map_or((verb, count), |(verb, sum)| (verb, sum + count)));
    }
    whole.map_or_else(String::new, |(verb, sum)| format!("{verb} {sum}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_add_up() {
        let sum = |tags: &[&str]| sum_tags(tags.iter().copied());
        assert_eq!(sum(&["UPDATE 3", "UPDATE 4"]), "UPDATE 7");
        assert_eq!(sum(&["INSERT 0 1", "INSERT 0 2"]), "INSERT 0 3");
        assert_eq!(sum(&["DELETE 0"]), "DELETE 0");
    }

    #[test]
    fn rows_come_in_the_order_given_if_all_came() {
        let answer = |rows: &[&str]| {
            let mut answer = Answer {
                tag: format!("INSERT 0 {}", rows.len()),
                ..Answer::default()
            };
            for row in rows {
                write::text_row(&mut answer.rows, &[Some(row)]);
            }
            answer
        };
        let combined = |answers: Vec<Answer>| {
            let how = Combine::Rows(vec![vec![1, 2], vec![0, 3]]);
            let whole = combine(answers, &how);
            let text = String::from_utf8_lossy(&whole.rows).into_owned();
            let letters = text.chars().filter(|char| char.is_ascii_lowercase());
            (letters.collect::<String>(), whole.tag)
        };
        let all = vec![answer(&["b", "c"]), answer(&["a", "d"])];
        assert_eq!(combined(all), ("abcd".to_owned(), "INSERT 0 4".to_owned()));
        let fewer = vec![answer(&["c"]), answer(&["a", "d"])];
        assert_eq!(combined(fewer), ("cad".to_owned(), "INSERT 0 3".to_owned()));
    }
}
