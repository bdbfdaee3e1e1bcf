//! Combines the rows of several shards into one result, without I/O.
//!
//! The caller feeds each shard's RowDescription, rows and end into a [`Merger`] and asks it for
//! the client's next row; which shard to read next is an answer too ([`Step::Need`]). What has
//! to happen to the rows is written in [`MergePlan`]. Text collations other than byte order and
//! types that are not built in are refused, not guessed.

mod aggregate;
mod datetime;
mod float;
mod interval;
mod number;
mod numeric;
mod row;
mod sort;
#[cfg(test)]
mod tests;
mod value;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use planner::merge::{Column, MergePlan};

pub use row::{are_alike, columns_frame, shard_formats};

use crate::error::{Error, Fault, Result};
use crate::metrics::memory::MergeMemory;
use aggregate::Groups;
use row::{ColumnInfo, Description, Field, Format, malformed};
use sort::{Order, RowKeys, SortRow};

/// Rows of one shard are held back beyond these: enough to keep a shard busy while others lag.
const HIGH_WATER_BYTES: usize = 64 * 1024;
const HIGH_WATER_ROWS: usize = 256;

/// The merge of one execution's answers.
#[derive(Debug)]
pub struct Merger {
    plan: Arc<MergePlan>,
    shards: Vec<Shard>,
    schema: Option<Schema>,
    /// Rows still to be skipped for OFFSET.
    skip: u64,
    limit: Option<u64>,
    rows_out: u64,
    memory: Memory,
    /// Where the values of the row at hand lie; kept for its capacity.
    fields: Vec<Field>,
}

/// What [`Merger::step`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A complete DataRow frame for the client.
    Row(Bytes),
    /// Nothing to give until this shard delivers a row or ends. Others may be read meanwhile
    /// unless they are full; without an order, any shard's row ends the wait.
    Need(usize),
    /// All rows were given, or as many as the limit allows.
    Done,
}

/// What a shard delivered and nobody took yet.
#[derive(Debug, Default)]
struct Shard {
    queue: VecDeque<SortRow>,
    queued_bytes: usize,
    /// The keys of the row that was taken last; rows to come must not be less.
    taken: Option<RowKeys>,
    ended: bool,
}

impl Shard {
    /// A shard that sorts otherwise than its keys compare here would make the merge wrong
    /// silently: a collation or setting is not what the planner took it for.
    fn check_order(&self, order: &Order, row: &SortRow) -> Result<()> {
        let last = self.queue.back().map(|last| &last.keys);
        match last.or(self.taken.as_ref()) {
            Some(last) if order.compare(&row.keys, last).is_lt() => Err(Error::new(
                Fault::Operator,
                "XX000",
                "a shard's rows are not in the order that was asked for",
            )
            .detail("The shard sorts otherwise than its column's type and collation say.")
            .hint("Compare the collations and settings of the shards with ringway check.")),
            Some(_) | None => Ok(()),
        }
    }
}

/// What is known once the first shard has described its columns.
#[derive(Debug)]
struct Schema {
    columns: Columns,
    order: Order,
    work: Work,
}

/// How rows pass; the plan decides it once.
#[derive(Debug)]
enum Work {
    /// In any order.
    Concat,
    /// The least of the shards' first rows.
    Merge,
    /// All rows are collected, then sorted.
    Sort(Vec<SortRow>),
    /// All rows are grouped, then sorted.
    Group(Groups),
    /// The sorted or grouped rows on their way out.
    Emit(std::vec::IntoIter<SortRow>),
}

/// The columns of a shard's row.
#[derive(Debug)]
struct Columns {
    infos: Vec<ColumnInfo>,
    /// How many of them the client sees.
    visible: usize,
}

impl Columns {
    fn new(infos: Vec<ColumnInfo>, hidden: usize) -> Result<Self> {
        let visible = infos
            .len()
            .checked_sub(hidden)
            .ok_or_else(|| defect("fewer columns than hidden ones"))?;
        Ok(Self { infos, visible })
    }

    fn len(&self) -> usize {
        self.infos.len()
    }

    /// # Errors
    /// XX000 when there is no such column, a mistake of the plan.
    fn index(&self, column: Column) -> Result<usize> {
        let index = match column {
            Column::FromStart(index) => Some(index),
            Column::Hidden(index) => self.visible.checked_add(index),
        };
        index
            .filter(|index| *index < self.len())
            .ok_or_else(|| defect("the plan names a column that the answer does not have"))
    }

    /// `index` comes from [`Columns::index`].
    fn info(&self, index: usize) -> &ColumnInfo {
        &self.infos[index]
    }
}

/// Bytes that are held before anybody is told of them.
const TOLD_STEP: usize = 16 * 1024;

/// Bytes held, against their cap.
#[derive(Debug)]
pub struct Memory {
    used: usize,
    most: usize,
    cap: usize,
    /// Where it is told how much is held.
    told: Option<Arc<MergeMemory>>,
    /// Told so far, in steps of [`TOLD_STEP`].
    told_bytes: usize,
}

impl Memory {
    pub fn new(cap: usize) -> Self {
        Self {
            used: 0,
            most: 0,
            cap,
            told: None,
            told_bytes: 0,
        }
    }

    /// What is held is told there.
    pub fn told(mut self, told: &Arc<MergeMemory>) -> Self {
        self.told = Some(Arc::clone(told));
        self
    }

    /// An empty one of the same kind.
    pub fn fresh(&self) -> Self {
        let fresh = Self::new(self.cap);
        match &self.told {
            Some(told) => fresh.told(told),
            None => fresh,
        }
    }

    fn tell(&mut self) {
        let Some(told) = &self.told else {
            return;
        };
        let bytes = self.used / TOLD_STEP * TOLD_STEP;
        match bytes.checked_sub(self.told_bytes) {
            Some(0) => return,
            Some(more) => told.take(more as u64),
            None => told.give_back((self.told_bytes - bytes) as u64),
        }
        self.told_bytes = bytes;
    }

    /// # Errors
    /// 53200 above the cap.
    pub(super) fn take(&mut self, bytes: usize) -> Result<()> {
        self.used = self.used.saturating_add(bytes);
        self.most = self.most.max(self.used);
        self.tell();
        if self.used <= self.cap {
            return Ok(());
        }
        Err(self.exhausted())
    }

    /// Whether so many bytes can ever be held.
    ///
    /// # Errors
    /// 53200 when they are above the cap alone.
    pub(super) fn check(&self, bytes: usize) -> Result<()> {
        match bytes <= self.cap {
            true => Ok(()),
            false => Err(self.exhausted()),
        }
    }

    fn exhausted(&self) -> Error {
        Error::new(
            Fault::Client,
            "53200",
            "merging the rows of several shards needs too much memory",
        )
        .detail(format!("The limit is {} bytes.", self.cap))
        .hint("Add a LIMIT or a narrower WHERE, or raise merge_memory_mib.")
    }

    fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
        self.tell();
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(told) = &self.told {
            told.give_back(self.told_bytes as u64);
            told.done(self.most as u64);
        }
    }
}

/// What a source of rows has to say.
enum Pull {
    Row(Bytes),
    Need(usize),
    Done,
}

impl Merger {
    /// `limit` and `offset` are the plan's, evaluated for this execution; `memory` bounds what has to be
    /// held at once.
    pub fn new(
        plan: &MergePlan,
        shards: usize,
        limit: Option<u64>,
        offset: u64,
        memory: Memory,
    ) -> Self {
        Self {
            plan: Arc::new(plan.clone()),
            shards: std::iter::repeat_with(Shard::default)
                .take(shards)
                .collect(),
            schema: None,
            skip: offset,
            limit,
            rows_out: 0,
            memory,
            fields: Vec::new(),
        }
    }

    /// One for the same answer, which has taken nothing yet, of one that has taken nothing yet.
    pub fn fresh(&self) -> Self {
        Self {
            plan: Arc::clone(&self.plan),
            shards: self.shards.iter().map(|_| Shard::default()).collect(),
            schema: None,
            skip: self.skip,
            limit: self.limit,
            rows_out: 0,
            memory: self.memory.fresh(),
            fields: Vec::new(),
        }
    }

    /// Takes the body (without tag and length) of a shard's RowDescription, whose formats are
    /// those of the rows to come. The first call returns the RowDescription frame for the
    /// client, without the hidden columns; later ones only compare.
    ///
    /// # Errors
    /// 0A000 when the shards' columns differ or cannot be merged exactly, 08P01 when malformed.
    pub fn row_description(&mut self, shard: usize, body: &[u8]) -> Result<Option<BytesMut>> {
        self.describe(shard, body, Description::parse(body)?)
    }

    /// As [`Merger::row_description`], for a description from Describe (statement), where
    /// formats are not known yet: `formats` are the result format codes of the client's Bind.
    /// The shards must have been bound with [`shard_formats`] of the same codes.
    ///
    /// # Errors
    /// Also 08P01 when the codes do not fit the columns.
    pub fn row_description_with_formats(
        &mut self,
        shard: usize,
        body: &[u8],
        formats: &[i16],
    ) -> Result<Option<BytesMut>> {
        let mut description = Description::parse(body)?;
        description.set_formats(&shard_formats(formats, self.plan.hidden))?;
        self.describe(shard, body, description)
    }

    /// Would rows with this RowDescription be merged, when bound with `formats`?
    ///
    /// # Errors
    /// As [`Merger::row_description_with_formats`].
    pub fn check(&self, body: &[u8], formats: &[i16]) -> Result<()> {
        let mut description = Description::parse(body)?;
        description.set_formats(&shard_formats(formats, self.plan.hidden))?;
        Schema::new(&self.plan, description.columns).map(drop)
    }

    /// The RowDescription frame for a client that asks for these formats, made of a shard's; as
    /// [`Merger::row_description_with_formats`], but nothing is merged of it.
    ///
    /// # Errors
    /// 08P01 when it is malformed, or the codes do not fit the columns.
    pub fn columns(&self, body: &[u8], formats: &[i16]) -> Result<BytesMut> {
        let mut description = Description::parse(body)?;
        description.set_formats(&shard_formats(formats, self.plan.hidden))?;
        let visible = description.columns.len().saturating_sub(self.plan.hidden);
        Ok(description.client_frame(body, visible))
    }

    /// Forgets the rows that were read ahead, as they are to come again in other formats: how many there are of
    /// each shard. The shards' columns have to be described anew.
    pub fn forget_ahead(&mut self) -> Vec<u64> {
        self.schema = None;
        let forget = |source: &mut Shard| {
            source.taken = None;
            source.ended &= source.queue.is_empty();
            self.memory
                .give_back(std::mem::take(&mut source.queued_bytes));
            source.queue.drain(..).count() as u64
        };
        self.shards.iter_mut().map(forget).collect()
    }

    /// Columns that the shards add to the client's.
    pub fn hidden(&self) -> usize {
        self.plan.hidden
    }

    /// Are all rows of all shards wanted before the first is given?
    pub fn collects(&self) -> bool {
        self.plan.group.is_some() || !(self.plan.order.is_empty() || self.plan.shards_sorted)
    }

    /// Is nothing given before this shard has delivered a row or ended?
    pub fn waits_for(&self, shard: usize) -> bool {
        let lacks = |source: &Shard| !source.ended && source.queue.is_empty();
        !self.plan.order.is_empty() && self.shards.get(shard).is_some_and(lacks)
            || self.plan.group.is_some()
    }

    fn describe(
        &mut self,
        shard: usize,
        body: &[u8],
        description: Description,
    ) -> Result<Option<BytesMut>> {
        if let Some(schema) = &self.schema {
            check_drift(shard, &schema.columns.infos, &description.columns)?;
            return Ok(None);
        }
        let visible = description.columns.len().saturating_sub(self.plan.hidden);
        let frame = description.client_frame(body, visible);
        self.schema = Some(Schema::new(&self.plan, description.columns)?);
        Ok(Some(frame))
    }

    /// Takes the body of a shard's DataRow.
    ///
    /// # Errors
    /// 08P01 for rows that do not fit their description, 0A000 for values that cannot be
    /// compared, 22003 for sums out of range, 53200 when the memory cap is reached.
    pub fn push(&mut self, shard: usize, body: Bytes) -> Result<()> {
        if self.limit_reached() {
            return Ok(());
        }
        let schema = self
            .schema
            .as_mut()
            .ok_or_else(|| malformed("a row before its description"))?;
        let source = self
            .shards
            .get_mut(shard)
            .filter(|source| !source.ended)
            .ok_or_else(|| malformed("a row of a shard that has ended"))?;
        row::split(&body, schema.columns.len(), &mut self.fields)?;
        match &mut schema.work {
            Work::Concat | Work::Merge => {
                let row = schema.order.row(body, &self.fields)?;
                source.check_order(&schema.order, &row)?;
                self.memory.take(row.size())?;
                source.queued_bytes += row.size();
                source.queue.push_back(row);
            }
            Work::Sort(rows) => {
                let row = schema.order.row(body, &self.fields)?;
                self.memory.take(row.size())?;
                rows.push(row);
            }
            Work::Group(groups) => {
                let grown = groups.add(&body, &self.fields)?;
                self.memory.take(grown)?;
            }
            Work::Emit(_) => return Err(malformed("a row after all shards have ended")),
        }
        Ok(())
    }

    /// Whether a row of so many bytes, which has only begun to come, can be taken.
    ///
    /// # Errors
    /// 53200 when it is above the memory cap alone.
    pub(super) fn check_row(&self, bytes: usize) -> Result<()> {
        self.memory.check(bytes)
    }

    /// Who takes its rows keeps so many bytes of them.
    ///
    /// # Errors
    /// 53200 when the memory cap is reached.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<()> {
        self.memory.take(bytes)
    }

    /// The shard has sent its last row.
    pub fn end(&mut self, shard: usize) {
        if let Some(source) = self.shards.get_mut(shard) {
            source.ended = true;
        }
    }

    /// The client's next row, or what is missing for it.
    ///
    /// # Errors
    /// Those of [`Merger::push`] that show only at the end.
    pub fn step(&mut self) -> Result<Step> {
        loop {
            if self.limit_reached() {
                return Ok(Step::Done);
            }
            let body = match self.pull()? {
                Pull::Row(body) => body,
                Pull::Need(shard) => return Ok(Step::Need(shard)),
                Pull::Done => return Ok(Step::Done),
            };
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            let visible = self.schema.as_ref().map_or(0, |s| s.columns.visible);
            self.rows_out += 1;
            return row::client_frame(&body, visible).map(Step::Row);
        }
    }

    /// Rows given to the client: the count of the command tag.
    pub fn rows_out(&self) -> u64 {
        self.rows_out
    }

    /// True while the caller should not read from this shard: it is ahead of the others or of
    /// the client. Never true of the shard that [`Step::Need`] names.
    pub fn is_full(&self, shard: usize) -> bool {
        self.shards.get(shard).is_some_and(|source| {
            source.queued_bytes >= HIGH_WATER_BYTES || source.queue.len() >= HIGH_WATER_ROWS
        })
    }

    /// True when the client has all rows that LIMIT allows, so the shards' remaining rows need
    /// not be read; pushed ones are dropped.
    pub fn limit_reached(&self) -> bool {
        self.limit.is_some_and(|limit| self.rows_out >= limit)
    }

    fn pull(&mut self) -> Result<Pull> {
        let unfinished = self.shards.iter().position(|source| !source.ended);
        let Some(schema) = &mut self.schema else {
            return match unfinished {
                Some(shard) => Ok(Pull::Need(shard)),
                None => Err(malformed("no shard described its columns")),
            };
        };
        match (&mut schema.work, unfinished) {
            (Work::Concat, _) => Ok(self.pull_any()),
            (Work::Merge, _) => Ok(self.pull_least()),
            (Work::Sort(_) | Work::Group(_), Some(shard)) => Ok(Pull::Need(shard)),
            (Work::Sort(_) | Work::Group(_), None) => {
                schema.finish(&mut self.memory)?;
                self.pull()
            }
            (Work::Emit(rows), _) => Ok(match rows.next() {
                Some(row) => Pull::Row(row.body),
                None => Pull::Done,
            }),
        }
    }

    fn pull_any(&mut self) -> Pull {
        if let Some(shard) = self.shards.iter().position(|s| !s.queue.is_empty()) {
            return self.take_from(shard);
        }
        match self.shards.iter().position(|source| !source.ended) {
            Some(shard) => Pull::Need(shard),
            None => Pull::Done,
        }
    }

    /// The first row of the shard whose first row is least; of equal ones the first shard's.
    fn pull_least(&mut self) -> Pull {
        let Some(schema) = &self.schema else {
            return Pull::Done;
        };
        let mut least: Option<(usize, &SortRow)> = None;
        for (shard, source) in self.shards.iter().enumerate() {
            match (source.queue.front(), least) {
                (None, _) if !source.ended => return Pull::Need(shard),
                (None, _) => {}
                (Some(row), Some((_, best)))
                    if schema.order.compare(&row.keys, &best.keys).is_ge() => {}
                (Some(row), _) => least = Some((shard, row)),
            }
        }
        match least {
            Some((shard, _)) => self.take_from(shard),
            None => Pull::Done,
        }
    }

    fn take_from(&mut self, shard: usize) -> Pull {
        let source = &mut self.shards[shard];
        let Some(row) = source.queue.pop_front() else {
            return Pull::Need(shard);
        };
        source.queued_bytes -= row.size();
        self.memory.give_back(row.size());
        source.taken = Some(row.keys);
        Pull::Row(row.body)
    }
}

impl Schema {
    fn new(plan: &MergePlan, columns: Vec<ColumnInfo>) -> Result<Self> {
        let columns = Columns::new(columns, plan.hidden)?;
        let order = Order::new(&plan.order, &columns)?;
        let work = match &plan.group {
            Some(group) => Work::Group(Groups::new(group, &columns)?),
            None if plan.order.is_empty() => Work::Concat,
            None if plan.shards_sorted => Work::Merge,
            None => Work::Sort(Vec::new()),
        };
        Ok(Self {
            columns,
            order,
            work,
        })
    }

    /// All shards have ended: turns what was collected into rows to emit.
    fn finish(&mut self, memory: &mut Memory) -> Result<()> {
        let mut rows = match std::mem::replace(&mut self.work, Work::Concat) {
            Work::Sort(rows) => rows,
            Work::Group(groups) => self.merged_rows(groups, memory)?,
            Work::Concat | Work::Merge | Work::Emit(_) => {
                return Err(defect("a stream is not to be collected"));
            }
        };
        rows.sort_by(|left, right| self.order.compare(&left.keys, &right.keys));
        self.work = Work::Emit(rows.into_iter());
        Ok(())
    }

    fn merged_rows(&self, groups: Groups, memory: &mut Memory) -> Result<Vec<SortRow>> {
        let mut fields = Vec::new();
        let mut rows = Vec::new();
        for body in groups.finish()? {
            row::split(&body, self.columns.len(), &mut fields)?;
            let row = self.order.row(body, &fields)?;
            memory.take(row.size())?;
            rows.push(row);
        }
        Ok(rows)
    }
}

/// The first OID that is given after initdb, `FirstNormalObjectId`.
/// <https://github.com/postgres/postgres/blob/master/src/include/access/transam.h>
const FIRST_NORMAL_OID: u32 = 16384;

/// The shards must agree in everything that the client relies on; names come from the statement.
fn check_drift(shard: usize, first: &[ColumnInfo], other: &[ColumnInfo]) -> Result<()> {
    let drifted = |detail| {
        Err(Error::new(
            Fault::Operator,
            "0A000",
            "the shards' tables have drifted apart",
        )
        .detail(detail)
        .hint("Bring the schemas of all shards in line; ringway check compares them."))
    };
    if first.len() != other.len() {
        return drifted(format!(
            "The first shard's answer has {} columns, that of shard number {} has {}.",
            first.len(),
            shard + 1,
            other.len()
        ));
    }
    for (a, b) in first.iter().zip(other) {
        if a.type_oid == b.type_oid && a.format == b.format {
            continue;
        }
        let oids = format!(
            "Column \"{}\" has type OID {} on the first shard and {} on shard number {}.",
            a.name,
            a.type_oid,
            b.type_oid,
            shard + 1
        );
        // Types that users make are numbered by each database: their OIDs tell nothing.
        let made_by_users = |info: &ColumnInfo| info.type_oid >= FIRST_NORMAL_OID;
        if !(made_by_users(a) && made_by_users(b) && a.format == b.format) {
            return drifted(oids);
        }
        // In binary, arrays, composites and ranges have more such numbers inside; enums do not.
        if a.format == Format::Binary && a.length < 0 {
            let message = format!(
                "values of column \"{}\" cannot be merged in binary format",
                a.name
            );
            return Err(Error::new(Fault::Client, "0A000", message)
                .detail(oids)
                .hint("Ask for it as text, with a cast to text or text[]."));
        }
    }
    Ok(())
}

/// A mistake of ours: the plan and the answer do not fit together.
fn defect(detail: &'static str) -> Error {
    Error::new(Fault::Ringway, "XX000", "internal error in the merge").detail(detail)
}
