//! COPY: where its table or query is, and how its data is written.

use std::ops::Range;

use super::parse::Source;
use super::utility::{in_place_of, is_plain_name, other, token_text, top_level};
use super::{dml, refuse, unread};
use crate::catalog::{Catalog, ColumnDefault, KeyColumn, Table, TableClass, TableColumn};
use crate::copy::{CopyIn, CopyQuery, ForceQuote, Format, Frame, Key, Rows, Written};
use crate::lexer::Kind;
use crate::merge::MergePlan;
use crate::plan::{Access, Many, Plan, PlanOptions, SessionEffect, Statement, Target};
use crate::refusal::Refusal;

pub(super) fn plan(source: &Source<'_>, catalog: &Catalog, options: PlanOptions<'_>) -> Plan {
    let direction = top_level(source)
        .into_iter()
        .find(|at| source.is(*at, "from") || source.is(*at, "to"))
        .unwrap_or(source.tokens.len());
    let reads_in = source.is(direction, "from");
    let statement = if source.is(direction + 1, "stdin") {
        Statement::CopyIn
    } else if source.is(direction + 1, "stdout") {
        Statement::CopyOut
    } else {
        Statement::Other
    };
    let to_client = source.is(direction + 1, "stdout") || source.is(direction + 1, "stdin");
    let access = if reads_in || !to_client {
        // A file on the server, or a program there.
        Access::Write
    } else {
        Access::Primary
    };
    let plan = Plan {
        statement,
        ..other(access, SessionEffect::None, "COPY of one place")
    };
    let before_direction = direction
        .checked_sub(1)
        .and_then(|at| source.tokens.get(at));
    match (source.tokens.get(1), before_direction) {
        (Some(open), Some(close))
            if open.kind == Kind::Open
                && close.kind == Kind::Close
                && open.range.end <= close.range.start =>
        {
            let inner = open.range.end..close.range.start;
            let plan = Plan {
                access: if to_client { Access::Read } else { plan.access },
                ..plan
            };
            of_query(source, direction, plan, inner, catalog, options)
        }
        _ => of_table(source, direction, catalog, plan),
    }
}

/// `COPY (inner) TO`: shards whose rows just follow each other run it themselves.
fn of_query(
    source: &Source<'_>,
    direction: usize,
    plan: Plan,
    query: Range<usize>,
    catalog: &Catalog,
    options: PlanOptions<'_>,
) -> Plan {
    let to_client = plan.statement == Statement::CopyOut;
    let inner = &source.sql[query.clone()];
    let mut reason = None;
    let placed = in_place_of(
        plan,
        inner,
        catalog,
        options,
        refuse::copy_of_write,
        |many| match many {
            Many::Merge(_) | Many::Gather(_) if !to_client => Err(refuse::copy_to_file()),
            Many::Merge(scatter)
                if scatter.rewrite.is_none() && scatter.merge == MergePlan::default() =>
            {
                reason = Some("its rows are those of the shards, one after the other");
                Ok(Many::CopyOut(read(source, direction)?.frame()))
            }
            many @ (Many::Merge(_) | Many::Gather(_)) => {
                reason = Some("its rows are had as those of a query over several shards");
                Ok(Many::CopyQuery(Box::new(CopyQuery {
                    many,
                    query,
                    written: read(source, direction)?.written()?,
                })))
            }
            Many::Refused(refusal) => Err(refusal),
            Many::SumTags
            | Many::Write(_)
            | Many::Lock(_)
            | Many::Split(_)
            | Many::Insert(_)
            | Many::CopyIn(_)
            | Many::CopyOut(_)
            | Many::CopyQuery(_)
            | Many::Explain(_)
            | Many::Cursor(_)
            | Many::SameAnswer => Err(refuse::copy_of_write()),
        },
    );
    match reason {
        Some(reason) => Plan {
            reason: reason.into(),
            ..placed
        },
        None => placed,
    }
}

fn of_table(source: &Source<'_>, direction: usize, catalog: &Catalog, plan: Plan) -> Plan {
    let at = 1 + usize::from(source.is(1, "binary"));
    let Some(table) = unread::named_table(source, catalog, at) else {
        if is_plain_name(source, at) {
            let target = Target::Refused(refuse::not_there(source, at));
            return Plan { target, ..plan };
        }
        let target = unread::target(source, catalog, plan.access, refuse::unreadable);
        return Plan { target, ..plan };
    };
    // Out of a known table, to the client: it only reads.
    let read = match plan.access {
        Access::Primary => Access::Read,
        Access::Read | Access::Write => plan.access,
    };
    let columns = columns(source, at, direction, table);
    let target = match (&table.class, &plan.statement) {
        (TableClass::Undeclared, _) => Target::Refused(refuse::undeclared(table)),
        (TableClass::Single(shard), statement) => {
            let default_id = catalog.default_id(table);
            match default_id.filter(|_| *statement == Statement::CopyIn) {
                Some(column) if !columns.as_ref().is_some_and(|all| gives(all, column)) => {
                    Target::Refused(refuse::default_id_of_copy(&table.name, column))
                }
                Some(_) | None => Target::OneShard(*shard),
            }
        }
        (TableClass::Reference, _) if read == Access::Read => Target::AnyShard,
        (TableClass::Sharded(_) | TableClass::Reference, Statement::CopyIn) => {
            match copied_in(
                source,
                direction,
                (table, catalog.default_id(table)),
                &columns,
            ) {
                Ok(copy) => Target::AllShards(Many::CopyIn(Box::new(copy))),
                Err(refusal) => Target::Refused(refusal),
            }
        }
        (TableClass::Sharded(_), Statement::CopyOut) => match self::read(source, direction) {
            Ok(options) => Target::AllShards(Many::CopyOut(options.frame())),
            Err(refusal) => Target::Refused(refusal),
        },
        // A file or a program.
        (TableClass::Sharded(_) | TableClass::Reference, _) => {
            Target::Refused(refuse::copy_of_file(&table.name))
        }
    };
    Plan {
        access: read,
        reason: match target {
            Target::AllShards(_) => "its rows are on all shards".into(),
            _ => plan.reason,
        },
        target,
        ..plan
    }
}

/// The columns in the order of the data; `None` for a list that is not read here.
fn columns(
    source: &Source<'_>,
    table_at: usize,
    direction: usize,
    table: &Table,
) -> Option<Vec<String>> {
    let open =
        (table_at..direction).find(|at| source.tokens.get(*at).map(|t| t.kind) == Some(Kind::Open));
    let Some(open) = open else {
        // A generated column is not among them, and which is one is not known.
        let columns = table.columns.iter().map(|column| column.name.clone());
        return Some(columns.collect());
    };
    let inside = open + 1..direction.checked_sub(1)?;
    inside
        .filter(|at| source.tokens[*at].kind != Kind::Comma)
        .map(|at| source.name(at))
        .collect()
}

fn gives(columns: &[String], column: &str) -> bool {
    columns.iter().any(|given| given == column)
}

fn copied_in(
    source: &Source<'_>,
    direction: usize,
    (table, default_id): (&Table, Option<&str>),
    columns: &Option<Vec<String>>,
) -> Result<CopyIn, Refusal> {
    let columns = columns.as_ref().ok_or_else(refuse::unreadable)?;
    if let Some(column) = default_id
        && !gives(columns, column)
    {
        return Err(refuse::default_id_of_copy(&table.name, column));
    }
    let lacks = |default: ColumnDefault| {
        let is_missing = move |column: &&TableColumn| {
            column.default == default && !columns.contains(&column.name)
        };
        table.columns.iter().filter(is_missing)
    };
    let options = read(source, direction)?;
    let rows = match &table.class {
        TableClass::Sharded(key) => {
            let mut lacking = lacks(ColumnDefault::Sequence);
            if let Some(column) = lacking.find(|column| !key.has(&column.name)) {
                return Err(refuse::sequence_default(&table.name, &column.name));
            }
            let position = |column: &KeyColumn| {
                let position = columns.iter().position(|name| *name == column.name);
                position.ok_or_else(|| refuse::copy_without_key(&column.name))
            };
            let parts = key.columns.iter();
            Rows::ByKey {
                positions: parts.clone().map(position).collect::<Result<_, _>>()?,
                columns: columns.len(),
                key: Key {
                    columns: parts.map(|part| dml::inserted_part(table, part)).collect(),
                    placement: key.placement,
                },
                format: options.format()?,
            }
        }
        TableClass::Reference | TableClass::Single(_) | TableClass::Undeclared => {
            let mut unequal = lacks(ColumnDefault::Computed).chain(lacks(ColumnDefault::Sequence));
            if let Some(column) = unequal.next() {
                return Err(refuse::computed_default(&table.name, &column.name));
            }
            if source.has("where") {
                return Err(refuse::volatile_on_reference(&table.name));
            }
            Rows::All
        }
    };
    Ok(CopyIn {
        table: table.name.clone(),
        rows,
    })
}

/// The options of a COPY that matter to who divides its data or puts it together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    kind: FormatKind,
    delimiter: Option<Vec<u8>>,
    null: Option<Vec<u8>>,
    quote: Option<Vec<u8>>,
    escape: Option<Vec<u8>>,
    header: bool,
    force_quote: ForceQuote,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum FormatKind {
    #[default]
    Text,
    Csv,
    Binary,
}

impl Options {
    fn frame(&self) -> Frame {
        match self.kind {
            FormatKind::Binary => Frame::Binary,
            FormatKind::Text | FormatKind::Csv if self.header => Frame::Header,
            FormatKind::Text | FormatKind::Csv => Frame::Rows,
        }
    }

    /// # Errors
    /// 0A000 for what PostgreSQL would reject.
    fn written(self) -> Result<Written, Refusal> {
        Ok(Written {
            format: self.format()?,
            force_quote: self.force_quote,
        })
    }

    /// # Errors
    /// 0A000 for what PostgreSQL would reject.
    fn format(&self) -> Result<Format, Refusal> {
        let byte = |name: &str, value: &Option<Vec<u8>>, usual: u8| match value.as_deref() {
            None => Ok(usual),
            Some([byte]) => Ok(*byte),
            Some(_) => Err(refuse::copy_option(name)),
        };
        let null = |usual: &[u8]| self.null.clone().unwrap_or_else(|| usual.to_vec());
        Ok(match self.kind {
            FormatKind::Text => Format::Text {
                delimiter: byte("DELIMITER", &self.delimiter, b'\t')?,
                null: null(b"\\N"),
                header: self.header,
            },
            FormatKind::Csv => {
                let quote = byte("QUOTE", &self.quote, b'"')?;
                Format::Csv {
                    delimiter: byte("DELIMITER", &self.delimiter, b',')?,
                    null: null(b""),
                    quote,
                    escape: byte("ESCAPE", &self.escape, quote)?,
                    header: self.header,
                }
            }
            FormatKind::Binary => Format::Binary,
        })
    }
}

/// Reads the options, in their old form or in parentheses.
///
/// # Errors
/// Names what is not read here.
fn read(source: &Source<'_>, direction: usize) -> Result<Options, Refusal> {
    let mut options = Options::default();
    if source.is(1, "binary") {
        options.kind = FormatKind::Binary;
    }
    let mut at = direction + 2;
    at += usize::from(source.is(at, "with"));
    if source.tokens.get(at).map(|token| token.kind) == Some(Kind::Open) {
        in_parentheses(source, at + 1, &mut options)?;
    } else {
        by_keywords(source, at, &mut options)?;
    }
    Ok(options)
}

fn in_parentheses(
    source: &Source<'_>,
    mut at: usize,
    options: &mut Options,
) -> Result<(), Refusal> {
    loop {
        let name = source.word(at);
        let unread = || refuse::copy_option(&name.to_ascii_uppercase());
        let ends = |at: usize| {
            let kind = source.tokens.get(at).map(|token| token.kind);
            matches!(kind, Some(Kind::Comma | Kind::Close))
        };
        let opens = source.tokens.get(at + 1).map(|token| token.kind) == Some(Kind::Open);
        if name == "force_quote" && opens && !source.has("stdin") {
            let (names, last) = names(source, at + 2).ok_or_else(unread)?;
            if !ends(last + 1) || source.tokens[last].kind != Kind::Close {
                return Err(unread());
            }
            options.force_quote = ForceQuote::Columns(names);
            if source.tokens[last + 1].kind == Kind::Close {
                return Ok(());
            }
            at = last + 2;
            continue;
        }
        let value = (!ends(at + 1)).then_some(at + 1);
        let next = value.map_or(at + 1, |value| value + 1);
        if !ends(next) {
            return Err(unread());
        }
        let word = value.map(|at| match source.tokens[at].kind {
            Kind::String => text(source, at).unwrap_or_default(),
            _ => token_text(source, at).as_bytes().to_vec(),
        });
        let word = word.map(|word| String::from_utf8_lossy(&word).to_ascii_lowercase());
        let string = || value.and_then(|at| text(source, at)).ok_or_else(unread);
        match name.as_str() {
            "format" => {
                options.kind = match word.as_deref() {
                    Some("text") => FormatKind::Text,
                    Some("csv") => FormatKind::Csv,
                    Some("binary") => FormatKind::Binary,
                    Some(_) | None => return Err(unread()),
                }
            }
            "header" => {
                options.header = match word.as_deref() {
                    None | Some("true" | "on" | "1" | "match") => true,
                    Some("false" | "off" | "0") => false,
                    Some(_) => return Err(unread()),
                }
            }
            "freeze" => {}
            "delimiter" => options.delimiter = Some(string()?),
            "null" => options.null = Some(string()?),
            "quote" => options.quote = Some(string()?),
            "escape" => options.escape = Some(string()?),
            "encoding" if is_utf8(&string()?) => {}
            "force_quote" if !source.has("stdin") && word.as_deref() == Some("*") => {
                options.force_quote = ForceQuote::All;
            }
            _ => return Err(unread()),
        }
        if source.tokens[next].kind == Kind::Close {
            return Ok(());
        }
        at = next + 1;
    }
}

fn by_keywords(source: &Source<'_>, mut at: usize, options: &mut Options) -> Result<(), Refusal> {
    while let Some(token) = source.tokens.get(at) {
        let name = source.word(at);
        let unread = || refuse::copy_option(&name.to_ascii_uppercase());
        let value = at + 1 + usize::from(source.is(at + 1, "as"));
        let string = || text(source, value).ok_or_else(unread);
        at = match name.as_str() {
            "where" => return Ok(()),
            "" if token.kind == Kind::Semicolon => at + 1,
            "binary" => {
                options.kind = FormatKind::Binary;
                at + 1
            }
            "csv" => {
                options.kind = FormatKind::Csv;
                at + 1
            }
            "header" => {
                options.header = true;
                at + 1
            }
            "freeze" => at + 1,
            "delimiter" => {
                options.delimiter = Some(string()?);
                value + 1
            }
            "null" => {
                options.null = Some(string()?);
                value + 1
            }
            "quote" => {
                options.quote = Some(string()?);
                value + 1
            }
            "escape" => {
                options.escape = Some(string()?);
                value + 1
            }
            "encoding" => match is_utf8(&string()?) {
                true => value + 1,
                false => return Err(unread()),
            },
            "force" if source.is(at + 1, "quote") && !source.has("stdin") => {
                if token_text(source, at + 2) == "*" {
                    options.force_quote = ForceQuote::All;
                    at + 3
                } else {
                    let (names, next) = names(source, at + 2).ok_or_else(unread)?;
                    options.force_quote = ForceQuote::Columns(names);
                    next
                }
            }
            _ => return Err(unread()),
        };
    }
    Ok(())
}

/// Names with commas between, from token `at` on, and the index behind the last.
fn names(source: &Source<'_>, mut at: usize) -> Option<(Vec<String>, usize)> {
    let mut names = Vec::new();
    loop {
        names.push(source.name(at)?);
        if source.tokens.get(at + 1).map(|token| token.kind) != Some(Kind::Comma) {
            return Some((names, at + 1));
        }
        at += 2;
    }
}

fn is_utf8(encoding: &[u8]) -> bool {
    encoding.eq_ignore_ascii_case(b"utf8") || encoding.eq_ignore_ascii_case(b"utf-8")
}

/// The value of a string, also of `E'…'` with one of the usual escapes.
fn text(source: &Source<'_>, at: usize) -> Option<Vec<u8>> {
    let token = source.tokens.get(at)?;
    let written = source.text(token);
    let inner = |text: &str| Some(text.strip_prefix('\'')?.strip_suffix('\'')?.to_owned());
    match token.kind {
        Kind::String => Some(inner(written)?.replace("''", "'").into_bytes()),
        Kind::OtherString => {
            let escaped = inner(written.strip_prefix(['e', 'E'])?)?;
            Some(match escaped.as_str() {
                "\\t" => b"\t".to_vec(),
                "\\b" => b"\x08".to_vec(),
                "\\\\" => b"\\".to_vec(),
                "\\\\N" => b"\\N".to_vec(),
                "\\'" => b"'".to_vec(),
                other if !other.contains(['\\', '\'']) => other.as_bytes().to_vec(),
                _ => return None,
            })
        }
        _ => None,
    }
}
