//! Causal tokens: where a session stands in each shard's log, as a text that any process of the
//! database can read.

use std::fmt;
use std::str::FromStr;

use planner::ShardId;

use super::lsn::Lsn;
use super::shard::ShardSnapshot;
use super::{Cluster, Mark};
use crate::error::{Error, Fault};
use crate::net::{Instant, timeout};

/// What of each shard must be seen. Shards of which nothing must be are left out.
///
/// Its text is the version, then `~shard:system identifier:timeline:LSN` for each shard. It needs no
/// quoting in a literal, a comment, a URL's query or a cookie.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Token(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    shard: String,
    /// As PostgreSQL prints it, unsigned.
    system_id: u64,
    timeline: u32,
    lsn: Lsn,
}

const VERSION: &str = "1";

/// Not the text of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidToken;

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(VERSION)?;
        for part in &self.0 {
            f.write_str("~")?;
            for byte in part.shard.bytes() {
                match byte {
                    b'_' | b'-' | b'.' => write!(f, "{}", char::from(byte))?,
                    _ if byte.is_ascii_alphanumeric() => write!(f, "{}", char::from(byte))?,
                    _ => write!(f, "%{byte:02X}")?,
                }
            }
            write!(f, ":{}:{}:{}", part.system_id, part.timeline, part.lsn)?;
        }
        Ok(())
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let mut parts = text.split('~');
        if parts.next() != Some(VERSION) {
            return Err(InvalidToken);
        }
        parts
            .map(part)
            .collect::<Option<_>>()
            .map(Self)
            .ok_or(InvalidToken)
    }
}

fn part(text: &str) -> Option<Part> {
    let mut fields = text.split(':');
    let part = Part {
        shard: shard_name(fields.next()?)?,
        system_id: fields.next()?.parse().ok()?,
        timeline: fields.next()?.parse().ok()?,
        lsn: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some(part)
}

fn shard_name(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        bytes.push(match byte {
            b'%' => {
                let (digits, after) = after.split_at_checked(2)?;
                rest = after;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            _ => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

impl Cluster {
    /// What these marks, by shard, demand. Asks the primaries for their positions where that is not
    /// known yet, until `deadline`.
    ///
    /// # Errors
    /// 57P03 when a primary does not answer in time, 55000 when it does not tell which cluster it is
    /// of.
    ///
    /// Cancel safety: yes; the marks may be resolved already.
    pub async fn token(&self, marks: &mut [Mark], deadline: Instant) -> Result<Token, Error> {
        let mut parts = Vec::new();
        for (id, mark) in (0..).map(ShardId).zip(marks) {
            let (snapshot, lsn) = self.position(id, mark, deadline).await?;
            if lsn == Lsn::default() {
                continue;
            }
            let name = &self.database.shards[usize::from(id.0)].name;
            let Some((system_id, timeline)) = identity(&snapshot) else {
                return Err(anonymous(name));
            };
            parts.push(Part {
                shard: name.clone(),
                system_id,
                timeline,
                lsn,
            });
        }
        Ok(Token(parts))
    }

    async fn position(
        &self,
        shard: ShardId,
        mark: &mut Mark,
        deadline: Instant,
    ) -> Result<(std::sync::Arc<ShardSnapshot>, Lsn), Error> {
        let state = self.shard(shard);
        let mut published = state.published.subscribe();
        loop {
            let snapshot = state.snapshot.load_full();
            mark.resolve(&snapshot.samples);
            match mark.position() {
                Some(lsn) if snapshot.primary.is_some() || lsn == Lsn::default() => {
                    return Ok((snapshot, lsn));
                }
                Some(_) | None => {}
            }
            self.hasten(shard);
            let left = deadline.saturating_duration_since(Instant::now());
            if !matches!(timeout(left, published.changed()).await, Ok(Ok(()))) {
                return Err(match snapshot.primary {
                    None => self.no_primary(shard),
                    Some(_) => unanswered(&self.database.shards[usize::from(shard.0)].name),
                });
            }
        }
    }

    /// The positions that a token demands.
    ///
    /// # Errors
    /// 22023 when it is of other shards, of other servers, or of a timeline that this process has not
    /// seen; 57P03 when nothing is known of a shard's servers.
    pub fn positions(&self, token: &Token) -> Result<Vec<(ShardId, Lsn)>, Error> {
        token.0.iter().map(|part| self.position_of(part)).collect()
    }

    fn position_of(&self, part: &Part) -> Result<(ShardId, Lsn), Error> {
        let mut shards = self.database.shards.iter();
        let Some(shard) = shards.find(|shard| shard.name == part.shard) else {
            return Err(foreign(
                format!(
                    "ringway token names shard \"{}\", which does not exist",
                    part.shard
                ),
                "It was made for another database, or before the shards were changed.",
            ));
        };
        let snapshot = self.shard(shard.id).snapshot.load();
        let (system_id, timeline) = newest(&snapshot).ok_or_else(|| self.no_primary(shard.id))?;
        if system_id.is_some_and(|known| known != part.system_id) {
            return Err(foreign(
                format!(
                    "ringway token is of other servers than those of shard \"{}\"",
                    part.shard
                ),
                "Their system identifiers differ.",
            ));
        }
        // On a later timeline all that is left of an earlier one lies below the same position, whether
        // that one led here or not. Of a timeline yet to come nothing is known.
        if part.timeline > timeline {
            self.hasten(shard.id);
            return Err(foreign(
                format!(
                    "ringway token is of timeline {}, but shard \"{}\" is on timeline {timeline}",
                    part.timeline, part.shard
                ),
                "A server was promoted and this process has not seen it yet, or it was removed.",
            )
            .hint("Try again in a moment."));
        }
        Ok((shard.id, part.lsn))
    }
}

/// System identifier and timeline of the primary.
fn identity(snapshot: &ShardSnapshot) -> Option<(u64, u32)> {
    let primary = snapshot.servers.get(usize::from(snapshot.primary?.0))?;
    let seen = primary.seen?;
    Some((seen.system_id?.cast_unsigned(), seen.timeline?))
}

/// The same, where there is no primary of the server furthest on; the identifier may be unknown.
fn newest(snapshot: &ShardSnapshot) -> Option<(Option<u64>, u32)> {
    let primary = snapshot
        .primary
        .and_then(|id| snapshot.servers.get(usize::from(id.0)));
    let servers = match primary {
        Some(primary) => std::slice::from_ref(primary),
        None => &snapshot.servers[..],
    };
    let seen = servers.iter().filter_map(|server| server.seen);
    let known =
        seen.filter_map(|seen| Some((seen.system_id.map(i64::cast_unsigned), seen.timeline?)));
    known.max_by_key(|(_, timeline)| *timeline)
}

fn foreign(message: String, detail: &'static str) -> Error {
    Error::new(Fault::Client, "22023", message).detail(detail)
}

fn anonymous(shard: &str) -> Error {
    let message = format!("system identifier of shard \"{shard}\" is not known");
    Error::new(Fault::Operator, "55000", message)
        .detail("The user that watches the servers may not read it, and a token has to name it.")
        .hint("GRANT EXECUTE ON FUNCTION pg_control_system() to that user.")
}

fn unanswered(shard: &str) -> Error {
    let message = format!("position of shard \"{shard}\" is not known");
    Error::new(Fault::Server, "57P03", message)
        .detail("Its primary has not said in time how far its log goes.")
        .hint("Try again.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Token {
        text.parse().expect(text)
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        for text in [
            "1",
            "1~main:7573213044123:1:0/3000148",
            "1~s1:18446744073709551615:2:A/B~s%2C%27%20%C3%BC:1:3:0/1",
        ] {
            assert_eq!(token(text).to_string(), text);
        }
        assert_eq!(token("1~s%2Cx:1:1:0/1").0[0].shard, "s,x");
    }

    #[test]
    fn other_texts_are_no_tokens() {
        for text in [
            "",
            "2",
            "2~main:1:1:0/1",
            "1~",
            "1~main",
            "1~main:1:1",
            "1~main:1:1:0/1:",
            "1~main:1:1:01",
            "1~main:x:1:0/1",
            "1~%:1:1:0/1",
            "1~%zz:1:1:0/1",
            "1~%FF:1:1:0/1",
            "1~é%C:1:1:0/1",
            "1~main:1:99999999999:0/1",
        ] {
            assert_eq!(text.parse::<Token>(), Err(InvalidToken), "{text}");
        }
    }
}
