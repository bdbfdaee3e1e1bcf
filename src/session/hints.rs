//! Hints: what the user says about routing. A leading comment `/* ringway: primary */`,
//! `SET ringway.route = 'primary'`, or the same as a startup option.
//!
//! `primary` keeps a read off the replicas, `replica` refuses what may write, `shard=NAME` sends the
//! text to that shard unchecked; several are separated by commas.

use std::borrow::Cow;

use planner::Topology;

use crate::error::{Error, Fault};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    pub role: Option<Role>,
    pub shard: Option<String>,
}

impl Hints {
    /// Reads `primary, shard=s1`.
    ///
    /// # Errors
    /// 22023 for an unknown hint, or two that contradict each other.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut hints = Self::default();
        for hint in text
            .split(',')
            .map(str::trim)
            .filter(|hint| !hint.is_empty())
        {
            let fresh = match hint.split_once('=').map(|(k, v)| (k.trim(), v.trim())) {
                None if hint.eq_ignore_ascii_case("primary") => {
                    hints.role.replace(Role::Primary).is_none()
                }
                None if hint.eq_ignore_ascii_case("replica") => {
                    hints.role.replace(Role::Replica).is_none()
                }
                Some((key, name)) if key.eq_ignore_ascii_case("shard") => hints
                    .shard
                    .replace(name.trim_matches(['"', '\'']).to_owned())
                    .is_none(),
                _ => return Err(unknown(hint)),
            };
            if !fresh {
                return Err(Error::new(
                    Fault::Client,
                    "22023",
                    format!("conflicting ringway hints: {text}"),
                )
                .hint("Give each kind of hint once."));
            }
        }
        Ok(hints)
    }

    /// These, overridden by a comment `/* ringway: … */` at the very start of the text.
    ///
    /// # Errors
    /// As [`Hints::parse`].
    pub fn with_leading(&self, sql: &[u8]) -> Result<Cow<'_, Self>, Error> {
        let Some(text) = leading_comment(sql) else {
            return Ok(Cow::Borrowed(self));
        };
        let here = Self::parse(text)?;
        Ok(Cow::Owned(Self {
            role: here.role.or(self.role),
            shard: here.shard.or_else(|| self.shard.clone()),
        }))
    }

    /// As SHOW ringway.route prints them.
    pub fn show(&self) -> String {
        let role = self.role.map(|role| match role {
            Role::Primary => "primary".to_owned(),
            Role::Replica => "replica".to_owned(),
        });
        let shard = self.shard.as_ref().map(|name| format!("shard={name}"));
        let parts: Vec<_> = role.into_iter().chain(shard).collect();
        if parts.is_empty() {
            "auto".to_owned()
        } else {
            parts.join(", ")
        }
    }
}

fn leading_comment(sql: &[u8]) -> Option<&str> {
    let sql = sql.trim_ascii_start();
    let comment = sql.strip_prefix(b"/*")?;
    let end = comment.windows(2).position(|w| w == b"*/")?;
    let text = std::str::from_utf8(&comment[..end]).ok()?.trim_start();
    text.strip_prefix("ringway:")
}

fn unknown(hint: &str) -> Error {
    Error::new(
        Fault::Client,
        "22023",
        format!("unknown ringway hint: {hint}"),
    )
    .hint("Known hints are primary, replica and shard=NAME.")
}

pub fn unknown_shard(name: &str, topology: &Topology) -> Error {
    let names: Vec<_> = topology
        .shards()
        .iter()
        .map(|shard| shard.name.as_str())
        .collect();
    Error::new(
        Fault::Client,
        "22023",
        format!("shard \"{name}\" does not exist"),
    )
    .detail(format!("The shards are {}.", names.join(", ")))
}

pub fn not_a_read() -> Error {
    Error::new(
        Fault::Client,
        "25006",
        "the hint asks for a replica, but the statement may write",
    )
    .detail("Only statements that provably read nothing but data may run on a replica.")
    .hint("Remove the hint, or mark the functions it calls STABLE if they are.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_override_the_session() {
        let session = Hints::parse("replica").expect("valid");
        let sql = b" /* ringway: primary, shard=s1 */ SELECT 1";
        let hints = session.with_leading(sql).expect("valid");
        assert_eq!(
            (hints.role, hints.shard.as_deref()),
            (Some(Role::Primary), Some("s1"))
        );
        assert_eq!(
            session
                .with_leading(b"/* other */ SELECT 1")
                .expect("valid")
                .role,
            Some(Role::Replica)
        );
    }

    #[test]
    fn unknown_and_conflicting_hints_are_errors() {
        assert_eq!(Hints::parse("primry").expect_err("unknown").code, "22023");
        assert_eq!(
            Hints::parse("primary, replica").expect_err("conflict").code,
            "22023"
        );
        assert!(
            Hints::default()
                .with_leading(b"/* ringway: x=1 */ SELECT 1")
                .is_err()
        );
    }
}
