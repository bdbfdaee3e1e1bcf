//! Classes of tables from comments on them: `COMMENT ON TABLE orders IS 'ringway: key=customer_id'`.
//! Pure.

use planner::ShardId;
use planner::placement::{Rule, RuleId};

use crate::config::TableRule;

/// The line of a comment that begins so is ours.
const PREFIX: &str = "ringway:";

/// The class that a comment tells, if it tells one.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(super) fn rule(
    comment: &str,
    shards: &[&str],
    placements: &[Rule],
) -> Option<Result<TableRule, String>> {
    let line = comment
        .lines()
        .find_map(|line| line.trim().strip_prefix(PREFIX))?;
    Some(class(line, shards, placements))
}

fn class(line: &str, shards: &[&str], placements: &[Rule]) -> Result<TableRule, String> {
    let (mut key, mut by, mut shard, mut reference) = (None, None, None, false);
    for word in line.split_whitespace() {
        match word.split_once('=') {
            Some(("key", columns)) => key = Some(columns),
            Some(("by", name)) => by = Some(name),
            Some(("shard", name)) => shard = Some(name),
            None if word == "reference" => reference = true,
            Some(_) | None => return Err(format!("\"{word}\" is not known in it")),
        }
    }
    match (key, by, shard, reference) {
        (Some(key), by, None, false) => keyed(key, by, placements),
        (None, None, Some(name), false) => {
            let mut known = (0..).map(ShardId).zip(shards);
            let shard = known.find(|(_, known)| **known == name);
            let shard = shard.ok_or_else(|| format!("there is no shard \"{name}\""))?;
            Ok(TableRule::Single(shard.0))
        }
        (None, None, None, true) => Ok(TableRule::Reference),
        (Some(_) | None, Some(_) | None, Some(_) | None, _) => Err(
            "it is none of key=COLUMN, key=COLUMN by=PLACEMENT, reference and shard=NAME".into(),
        ),
    }
}

fn keyed(key: &str, by: Option<&str>, placements: &[Rule]) -> Result<TableRule, String> {
    let column = |written: &str| match written
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => written.to_ascii_lowercase(),
    };
    let key: Vec<String> = key.split(',').map(column).collect();
    if key.iter().any(String::is_empty) {
        return Err("its key has no column".to_owned());
    }
    let Some(name) = by else {
        return Ok(TableRule::Sharded { key, by: None });
    };
    if key.len() > 1 {
        return Err("a key of several columns can only be hashed".to_owned());
    }
    let at = placements.iter().position(|rule| rule.name == name);
    match at.and_then(|at| u16::try_from(at).ok()) {
        Some(at) => Ok(TableRule::Sharded {
            key,
            by: Some(RuleId(at)),
        }),
        None => Err(format!("there is no placement \"{name}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use planner::placement::Mapping;

    #[test]
    fn comments_tell_classes() {
        let by_country = Rule {
            name: "by_country".to_owned(),
            mapping: Mapping::Texts([].into()),
            default: None,
        };
        let read = |comment| rule(comment, &["s1", "s2"], std::slice::from_ref(&by_country));
        let sharded = |key: &[&str], by| {
            let key = key.iter().map(ToString::to_string).collect();
            Some(Ok(TableRule::Sharded { key, by }))
        };
        assert_eq!(
            read("ringway: key=Customer_id"),
            sharded(&["customer_id"], None)
        );
        assert_eq!(
            read("Orders of all time.\n ringway:  key=tenant,\"Code\"  \nSee wiki."),
            sharded(&["tenant", "Code"], None)
        );
        let listed = Some(RuleId(0));
        assert_eq!(
            read("ringway: key=country by=by_country"),
            sharded(&["country"], listed)
        );
        assert_eq!(read("ringway: reference"), Some(Ok(TableRule::Reference)));
        let single = TableRule::Single(ShardId(1));
        assert_eq!(read("ringway: shard=s2"), Some(Ok(single)));
        assert_eq!(read("Orders; ringway: reference"), None);
        assert_eq!(read(""), None);
        for wrong in [
            "ringway:",
            "ringway: key=",
            "ringway: key=a,",
            "ringway: key=a reference",
            "ringway: by=by_country",
            "ringway: key=a,b by=by_country",
            "ringway: key=a by=by_town",
            "ringway: shard=s3",
            "ringway: sharded",
        ] {
            assert!(matches!(read(wrong), Some(Err(_))), "{wrong}");
        }
    }
}
