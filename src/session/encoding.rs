//! Texts in encodings other than UTF-8. PostgreSQL reads a text after it has converted it to the
//! server's encoding, in which no character holds an ASCII byte. In a client's encoding one may.

use std::borrow::Cow;

use planner::plan::{Access, Pin, Plan, SessionEffect, Statement, Target, worse_effect};

use super::Session;
use crate::error::{Error, Fault};

/// Encodings for clients alone, whose second bytes can be letters, backslashes and the like; with
/// their other names, as PostgreSQL compares them.
/// <https://www.postgresql.org/docs/current/multibyte.html#MULTIBYTE-CHARSET-SUPPORTED>
const MISLEADING: [&str; 17] = [
    "big5",
    "gb18030",
    "gbk",
    "johab",
    "mskanji",
    "shiftjis",
    "shiftjis2004",
    "sjis",
    "uhc",
    "win932",
    "win936",
    "win949",
    "win950",
    "windows932",
    "windows936",
    "windows949",
    "windows950",
];

/// True when no byte below 0x80 is part of a longer character. `setting` is an encoding's name, or
/// ends with it.
fn is_plain(setting: &str) -> bool {
    let name: String = setting
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    !MISLEADING.iter().any(|encoding| name.ends_with(encoding))
}

/// The plan of a text that is not UTF-8, from what [`Session::readable`] made of it. The server gets
/// the text and tells what became of it; names with other characters than ASCII are not used.
pub(super) fn inexact(plan: &Plan) -> Plan {
    let known: Vec<_> = match &plan.statement {
        Statement::Multiple(known) => known.clone(),
        statement => vec![statement.clone()],
    };
    let mut effect = plan.effect.clone();
    for part in &known {
        let more = if let Statement::Set(set) = part {
            match &set.name {
                Some(name) if !name.is_ascii() => SessionEffect::Pin(Pin::Setting),
                Some(_) | None => SessionEffect::Settings,
            }
        } else if matches!(part, Statement::Prepare(_) | Statement::Execute(_)) {
            SessionEffect::Pin(Pin::Prepared)
        } else if matches!(part, Statement::Listen(_)) {
            SessionEffect::Pin(Pin::Listen)
        } else {
            SessionEffect::None
        };
        effect = worse_effect(effect, more);
    }
    let is_needed =
        |part: &Statement| matches!(part, Statement::Set(_)) || part.controls_transaction();
    Plan {
        statement: Statement::Multiple(known.into_iter().filter(is_needed).collect()),
        access: Access::Write,
        effect,
        target: Target::AnyShard,
        reason: "it is not UTF-8, so the primary runs it".into(),
    }
}

impl Session {
    /// A text as SQL can be read from it; `None` where bytes could be mistaken for SQL. What is not
    /// UTF-8 is read byte by byte: words and constants begin and end where they should, but what
    /// they say must not be used.
    pub(super) fn readable<'a>(&self, sql: &'a [u8]) -> Option<Cow<'a, str>> {
        match std::str::from_utf8(sql) {
            Ok(text) if text.is_ascii() || self.has_plain_encoding() => Some(Cow::Borrowed(text)),
            Ok(_) => None,
            Err(_) if self.db.config.is_sharded() || !self.has_plain_encoding() => None,
            Err(_) => Some(Cow::Owned(
                sql.iter().map(|byte| char::from(*byte)).collect(),
            )),
        }
    }

    fn has_plain_encoding(&self) -> bool {
        let asked = ["client_encoding", "names"];
        let mut asked = asked.iter().filter_map(|name| self.settings.get(*name));
        let mut reported = self
            .leases
            .iter()
            .filter_map(|held| held.lease.parameters.get("client_encoding"));
        let told = self.told.get("client_encoding");
        told.is_none_or(|name| is_plain(name))
            && asked.all(|setting| is_plain(setting))
            && reported.all(|name| is_plain(name))
    }
}

pub(super) fn not_utf8() -> Error {
    Error::new(Fault::Client, "0A000", "statement is not valid UTF-8")
        .detail("On a sharded database Ringway must read every statement to route it.")
        .hint("Set client_encoding to UTF8.")
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn encodings_are_known_by_each_of_their_names() {
        for name in [
            "SJIS",
            "SET client_encoding = 'Shift_JIS'",
            "windows-936",
            "GB18030",
            "'BIG5'",
        ] {
            assert!(!is_plain(name), "{name}");
        }
        for name in [
            "UTF8",
            "SET client_encoding = 'LATIN1'",
            "EUC_JP",
            "WIN1252",
            "SQL_ASCII",
        ] {
            assert!(is_plain(name), "{name}");
        }
    }
}
