//! PgBouncer's `userlist.txt`: a quoted user name and a quoted secret on each line.
//! <https://www.pgbouncer.org/config.html#authentication-file-format>

use std::collections::BTreeMap;

use super::secret::StoredSecret;

/// A line that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    /// From 1.
    pub(super) line: usize,
    pub(super) what: String,
    pub(super) remedy: &'static str,
}

const EXAMPLE: &str = "write \"name\" \"password, md5 hash or SCRAM verifier\"";

/// The users in the file's text, as far as it can be read.
pub fn listed_users(text: &str) -> BTreeMap<String, StoredSecret> {
    read(text).0
}

/// Reads the file's text: the users, and every line that is wrong.
pub(super) fn read(text: &str) -> (BTreeMap<String, StoredSecret>, Vec<Flaw>) {
    let mut users = BTreeMap::new();
    let mut flaws = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let mut flaw = |what: String, remedy| flaws.push(Flaw { line, what, remedy });
        let text = text.trim_start();
        if text.is_empty() || text.starts_with([';', '#']) {
            continue;
        }
        let Some((name, secret)) = entry(text) else {
            flaw("not a user and a secret, both in quotes".into(), EXAMPLE);
            continue;
        };
        if name.is_empty() {
            flaw("a user needs a name".into(), EXAMPLE);
            continue;
        }
        match StoredSecret::parse(&secret) {
            // The secret is not shown.
            Err(what) => flaw(
                format!("what stands for user \"{name}\" is {what}"),
                "copy rolpassword from pg_authid",
            ),
            Ok(_) if users.contains_key(&name) => {
                flaw(format!("user \"{name}\" is there already"), "");
            }
            Ok(secret) => {
                users.insert(name, secret);
            }
        }
    }
    (users, flaws)
}

/// The two quoted strings; what follows them is of no meaning.
fn entry(text: &str) -> Option<(String, String)> {
    let (name, rest) = quoted(text)?;
    let secret = rest.trim_start();
    (secret.len() < rest.len()).then_some(())?;
    let (secret, _) = quoted(secret)?;
    Some((name, secret))
}

/// A string in double quotes, where two of them stand for one; and the text after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut string = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        string.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                string.push('"');
                rest = after;
            }
            None => return Some((string, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::secret::Secret;
    use super::*;

    #[test]
    fn names_and_secrets_are_quoted() {
        let text = "; a comment\n\n\"app\" \"pencil\"\n \"o\"\"dd \" \t\"pa\"\"ss\" trailing\n\
                    \"empty\" \"\"\n\"hash\" \"md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n";
        let (users, flaws) = read(text);
        assert_eq!(flaws, []);
        let plain = |text: &str| StoredSecret::Plain(Secret(text.into()));
        let md5 = StoredSecret::Md5(Secret(format!("md5{}", "a".repeat(32))));
        let expected = [
            ("app", plain("pencil")),
            ("empty", StoredSecret::None),
            ("hash", md5),
            ("o\"dd ", plain("pa\"ss")),
        ];
        assert_eq!(users, expected.map(|(n, s)| (n.to_owned(), s)).into());
    }

    #[test]
    fn every_wrong_line_is_told() {
        let text = "app \"x\"\n\"app\"\n\"app\"\"x\"\n\"a\" \"x\n\"\" \"x\"\n\
                    \"b\" \"SCRAM-SHA-256$x\"\n\"c\" \"1\"\n\"c\" \"2\"\n";
        let (users, flaws) = read(text);
        assert_eq!(users.len(), 1);
        let lines: Vec<_> = flaws.iter().map(|flaw| flaw.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 6, 8]);
        assert_eq!(
            flaws[5].what,
            "what stands for user \"b\" is not a SCRAM-SHA-256 verifier"
        );
    }
}
