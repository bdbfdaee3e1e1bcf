//! Hints: what the user says about routing. A leading comment `/* ringway: primary */`,
//! `SET [LOCAL] ringway.route = 'primary'`, or the same as a startup option.
//!
//! `primary` keeps a read off the replicas, `replica` refuses what may write, `max_lag=500ms` narrows
//! the replicas down, `after=TOKEN` names what must be seen, `shard=NAME` and `key=VALUE` send the
//! text to a shard unchecked, `shards=all` one text to all of them. `ttl=5s` limits the time of what is
//! set. Commas or spaces part them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use planner::{ShardId, Topology};

use crate::cluster::{Cluster, Lsn, Token};
use crate::error::{Error, Fault};
use crate::net::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica,
}

/// Where a statement goes, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Shard(String),
    /// The shard that owns this key.
    Key(String),
    /// Every shard, of a statement that writes.
    All,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    pub role: Option<Role>,
    pub place: Option<Place>,
    pub max_lag: Option<Duration>,
    /// Not kept: once a session was told of it, it sees no less.
    pub after: Option<Token>,
    pub ttl: Option<Duration>,
}

impl Hints {
    /// Reads `primary, shard=s1`.
    ///
    /// # Errors
    /// 22023 for an unknown hint, or two that contradict each other.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut hints = Self::default();
        let mut rest = text;
        while let Some((name, value, after)) = next_hint(rest) {
            rest = after;
            if !hints.take(&name.to_ascii_lowercase(), value)? {
                return Err(conflicting(text, "Give each kind of hint once."));
            }
        }
        if hints.role == Some(Role::Primary) && hints.max_lag.is_some() {
            let hint = "max_lag chooses among replicas, and primary wants none of them.";
            return Err(conflicting(text, hint));
        }
        if hints.ttl.is_some() && hints.to_string().is_empty() {
            return Err(conflicting(text, "ttl needs a hint whose time it limits."));
        }
        Ok(hints)
    }

    /// Does the statement go to every shard?
    pub fn is_for_all(&self) -> bool {
        self.place == Some(Place::All)
    }

    /// False when there is one of this kind already.
    fn take(&mut self, name: &str, value: Option<&str>) -> Result<bool, Error> {
        Ok(match (name, value) {
            ("primary", None) => self.role.replace(Role::Primary).is_none(),
            ("replica", None) => self.role.replace(Role::Replica).is_none(),
            ("shard", Some(name)) => self.place.replace(Place::Shard(name.to_owned())).is_none(),
            ("key", Some(key)) => self.place.replace(Place::Key(key.to_owned())).is_none(),
            ("shards", Some("all")) => self.place.replace(Place::All).is_none(),
            ("max_lag", Some(text)) => self.max_lag.replace(duration(name, text)?).is_none(),
            ("ttl", Some(text)) => self.ttl.replace(duration(name, text)?).is_none(),
            ("after", Some(text)) => self.after.replace(token(text)?).is_none(),
            (name, None) => return Err(unknown(name)),
            (name, Some(value)) => return Err(unknown(&format!("{name}={value}"))),
        })
    }

    /// These, with `self` where they say nothing.
    fn over(self, others: &Self) -> Self {
        // One that says primary has said all there is about replicas.
        let max_lag = self.max_lag.or(match self.role {
            Some(Role::Primary) => None,
            Some(Role::Replica) | None => others.max_lag,
        });
        let role = match (self.role, self.max_lag) {
            (None, Some(_)) => others.role.filter(|role| *role == Role::Replica),
            (role, _) => role.or(others.role),
        };
        Self {
            role,
            place: self.place.or_else(|| others.place.clone()),
            max_lag,
            after: self.after,
            ttl: None,
        }
    }
}

/// As SHOW ringway.route prints them; empty when there is none.
impl std::fmt::Display for Hints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let role = self.role.map(|role| match role {
            Role::Primary => "primary".to_owned(),
            Role::Replica => "replica".to_owned(),
        });
        let place = self.place.as_ref().map(|place| match place {
            Place::Shard(name) => format!("shard={}", quoted(name)),
            Place::Key(key) => format!("key={}", quoted(key)),
            Place::All => "shards=all".to_owned(),
        });
        let max_lag = self.max_lag.map(|lag| format!("max_lag={}", millis(lag)));
        let parts: Vec<_> = role.into_iter().chain(place).chain(max_lag).collect();
        f.write_str(&parts.join(", "))
    }
}

fn quoted(value: &str) -> Cow<'_, str> {
    let plain = |c: char| !c.is_whitespace() && !",='\"".contains(c);
    match !value.is_empty() && value.chars().all(plain) {
        true => Cow::Borrowed(value),
        false => Cow::Owned(format!("\"{value}\"")),
    }
}

fn millis(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

/// Name, value and what follows of the first hint in `text`. A value may be in quotes of either kind.
fn next_hint(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let parts = |c: char| c.is_whitespace() || c == ',';
    let text = text.trim_start_matches(parts);
    let end = text.find(|c| parts(c) || c == '=').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let Some(value) = rest.trim_start().strip_prefix('=') else {
        return (!name.is_empty()).then_some((name, None, rest));
    };
    let value = value.trim_start();
    for quote in ['"', '\''] {
        if let Some((inside, rest)) = value.strip_prefix(quote).and_then(|v| v.split_once(quote)) {
            return Some((name, Some(inside), rest));
        }
    }
    let (value, rest) = value.split_at(value.find(parts).unwrap_or(value.len()));
    Some((name, Some(value), rest))
}

/// A time with PostgreSQL's units.
fn duration(name: &str, text: &str) -> Result<Duration, Error> {
    let (digits, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let unit = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "min" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number: Option<u32> = digits.parse().ok();
    let millis = unit
        .zip(number)
        .map(|(unit, number)| unit * u64::from(number));
    millis
        .filter(|millis| *millis > 0)
        .map(Duration::from_millis)
        .ok_or_else(|| {
            Error::new(
                Fault::Client,
                "22023",
                format!("invalid time in ringway hint: {name}={text}"),
            )
            .hint("Write a whole number above 0 with a unit: 500ms, 5s, 2min or 1h.")
        })
}

/// # Errors
/// 22023 when it is none.
pub fn token(text: &str) -> Result<Token, Error> {
    text.parse().map_err(|_| {
        Error::new(Fault::Client, "22023", "invalid ringway token")
            .detail("It is not what SHOW ringway.token answers, or it was cut.")
    })
}

/// Hints that are set, until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    hints: Hints,
    until: Option<Instant>,
}

/// All that a session was told in the `ringway.` namespace.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    session: Option<Box<Standing>>,
    /// Of the open transaction, instead of the session's.
    transaction: Option<Box<Standing>>,
    /// Who shares what they see.
    pub causal_key: Option<Arc<str>>,
    /// Of the statement at hand.
    pub max_lag: Option<Duration>,
}

/// What a client says at its start.
#[derive(Debug, Default)]
pub struct Told {
    pub wishes: Wishes,
    /// What its tokens demand.
    pub positions: Vec<(ShardId, Lsn)>,
}

impl Told {
    /// One of our settings in the startup packet.
    ///
    /// # Errors
    /// As SET.
    pub fn take(&mut self, name: &str, value: &str, cluster: &Cluster) -> Result<(), Error> {
        match name {
            "ringway.route" => {
                let hints = Hints::parse(value)?;
                if let Some(token) = &hints.after {
                    self.positions.extend(cluster.positions(token)?);
                }
                self.wishes.set_route(hints, Instant::now);
            }
            "ringway.token" => self.positions.extend(cluster.positions(&token(value)?)?),
            "ringway.causal_key" => self.wishes.causal_key = causal_key(value)?,
            name => return Err(super::local::unrecognized(name)),
        }
        Ok(())
    }
}

/// `None` where nothing is left to stand.
fn standing(mut hints: Hints, now: impl FnOnce() -> Instant) -> Option<Box<Standing>> {
    let until = hints.ttl.take().map(|ttl| now() + ttl);
    hints.after = None;
    (hints != Hints::default()).then(|| Box::new(Standing { hints, until }))
}

impl Wishes {
    pub fn set_route(&mut self, hints: Hints, now: impl FnOnce() -> Instant) {
        self.session = standing(hints, now);
        self.transaction = None;
    }

    pub fn set_local_route(&mut self, hints: Hints, now: impl FnOnce() -> Instant) {
        let nothing = || Standing {
            hints: Hints::default(),
            until: None,
        };
        self.transaction = standing(hints, now).or_else(|| Some(Box::new(nothing())));
    }

    pub fn end_transaction(&mut self) {
        self.transaction = None;
    }

    /// What stands. The clock is read only where something has a time to live.
    fn current(&self) -> Option<&Standing> {
        let holds =
            |standing: &&Standing| standing.until.is_none_or(|until| Instant::now() < until);
        let transaction = self.transaction.as_deref().filter(holds);
        transaction.or_else(|| self.session.as_deref().filter(holds))
    }

    /// What holds for a statement: what stands, overridden by a comment `/* ringway: … */` at the very
    /// start of the text.
    ///
    /// # Errors
    /// As [`Hints::parse`], and for a time to live in the comment.
    pub fn of_statement(&self, sql: &[u8]) -> Result<Option<Cow<'_, Hints>>, Error> {
        let current = self.current().map(|standing| &standing.hints);
        let Some(text) = leading_comment(sql) else {
            return Ok(current.map(Cow::Borrowed));
        };
        let here = Hints::parse(text)?;
        if here.ttl.is_some() {
            let message = "ringway hint for one statement has no ttl";
            return Err(Error::new(Fault::Client, "22023", message)
                .detail("A comment holds for the statement that it stands before.")
                .hint("Use SET ringway.route = '… ttl=…'."));
        }
        let nothing = Hints::default();
        Ok(Some(Cow::Owned(here.over(current.unwrap_or(&nothing)))))
    }

    /// As SHOW ringway.route prints it.
    pub fn show_route(&self) -> String {
        let shown = |standing: &Standing| {
            let hints = standing.hints.to_string();
            let left = standing
                .until
                .map(|until| until.saturating_duration_since(Instant::now()));
            match left {
                Some(left) => format!("{hints}, ttl={}", millis(left)),
                None => hints,
            }
        };
        let shown = self.current().map(shown).filter(|shown| !shown.is_empty());
        shown.unwrap_or_else(|| "auto".to_owned())
    }
}

/// # Errors
/// 22023 when it is too long.
pub fn causal_key(text: &str) -> Result<Option<Arc<str>>, Error> {
    const LONGEST: usize = 256;
    match text.len() {
        0 => Ok(None),
        1..=LONGEST => Ok(Some(text.into())),
        _ => Err(
            Error::new(Fault::Client, "22023", "ringway.causal_key is too long")
                .detail(format!("It may have {LONGEST} bytes.")),
        ),
    }
}

pub(super) fn leading_comment(sql: &[u8]) -> Option<&str> {
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
    .hint(
        "Known hints are primary, replica, max_lag=TIME, after=TOKEN, shard=NAME, key=VALUE, \
         shards=all and ttl=TIME.",
    )
}

fn conflicting(text: &str, hint: &'static str) -> Error {
    let message = format!("conflicting ringway hints: {}", text.trim());
    Error::new(Fault::Client, "22023", message).hint(hint)
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

    fn hints(text: &str) -> Hints {
        Hints::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn session(text: &str) -> Wishes {
        let mut wishes = Wishes::default();
        wishes.set_route(hints(text), Instant::now);
        wishes
    }

    fn of(wishes: &Wishes, sql: &str) -> String {
        let hints = wishes.of_statement(sql.as_bytes()).expect(sql);
        hints.map_or_else(String::new, |hints| hints.to_string())
    }

    #[test]
    fn hints_are_parted_by_commas_or_spaces() {
        let read = hints(" Replica max_lag=500ms,shard = \"s 1\" ttl=2min after=1~main:7:1:0/1");
        assert_eq!(read.role, Some(Role::Replica));
        assert_eq!(read.place, Some(Place::Shard("s 1".into())));
        assert_eq!(read.max_lag, Some(Duration::from_millis(500)));
        assert_eq!(read.ttl, Some(Duration::from_secs(120)));
        assert_eq!(
            read.after.map(|token| token.to_string()).as_deref(),
            Some("1~main:7:1:0/1")
        );
        assert_eq!(hints("key='a,b'").place, Some(Place::Key("a,b".into())));
        assert_eq!(hints(" , "), Hints::default());
        assert_eq!(hints("key=7 primary").to_string(), "primary, key=7");
    }

    #[test]
    fn unknown_and_conflicting_hints_are_errors() {
        for text in [
            "primry",
            "primary=1",
            "shard",
            "x=1",
            "=1",
            "primary, replica",
            "shard=a key=1",
            "primary max_lag=1s",
            "max_lag=500",
            "max_lag=0ms",
            "max_lag=-1s",
            "max_lag=1.5s",
            "max_lag=99999999999h",
            "ttl=5s",
            "after=1~main:7:1:0/1 ttl=5s",
            "after=x",
            "primary ttl=",
        ] {
            assert_eq!(Hints::parse(text).expect_err(text).code, "22023", "{text}");
        }
        for sql in [
            "/* ringway: x=1 */ SELECT 1",
            "/* ringway: primary ttl=5s */ SELECT 1",
        ] {
            assert!(
                Wishes::default().of_statement(sql.as_bytes()).is_err(),
                "{sql}"
            );
        }
    }

    #[test]
    fn comments_override_the_session() {
        let replica = session("replica max_lag=2s");
        assert_eq!(
            of(&replica, "/* other */ SELECT 1"),
            "replica, max_lag=2000ms"
        );
        let sql = " /* ringway: primary, shard=s1 */ SELECT 1";
        assert_eq!(of(&replica, sql), "primary, shard=s1");
        let sql = "/* ringway: max_lag=1s */ SELECT 1";
        assert_eq!(of(&replica, sql), "replica, max_lag=1000ms");
        assert_eq!(
            of(&session("primary shard=s1"), sql),
            "shard=s1, max_lag=1000ms"
        );
        let sql = "/* ringway: key=1 */ SELECT 1";
        assert_eq!(of(&session("primary shard=s1"), sql), "primary, key=1");
        assert_eq!(of(&Wishes::default(), "SELECT 1"), "");
    }

    #[test]
    fn a_transaction_has_hints_of_its_own() {
        let mut wishes = session("primary");
        wishes.set_local_route(hints("shard=s1"), Instant::now);
        assert_eq!(of(&wishes, "SELECT 1"), "shard=s1");
        wishes.set_local_route(Hints::default(), Instant::now);
        assert_eq!(
            (
                of(&wishes, "SELECT 1").as_str(),
                wishes.show_route().as_str()
            ),
            ("", "auto")
        );
        wishes.end_transaction();
        assert_eq!(wishes.show_route(), "primary");
        wishes.set_route(Hints::default(), Instant::now);
        assert_eq!(wishes.show_route(), "auto");
    }

    #[test]
    fn what_is_set_ends_with_its_time() {
        let mut wishes = Wishes::default();
        wishes.set_route(hints("primary ttl=1h"), Instant::now);
        assert_eq!(of(&wishes, "SELECT 1"), "primary");
        assert!(
            wishes.show_route().starts_with("primary, ttl=3"),
            "{}",
            wishes.show_route()
        );
        let past = || Instant::now() - Duration::from_secs(5);
        wishes.set_local_route(hints("replica ttl=5s"), past);
        assert_eq!(of(&wishes, "SELECT 1"), "primary");
        wishes.set_route(hints("primary ttl=5s"), past);
        assert_eq!(
            (
                of(&wishes, "SELECT 1").as_str(),
                wishes.show_route().as_str()
            ),
            ("", "auto")
        );
    }
}
