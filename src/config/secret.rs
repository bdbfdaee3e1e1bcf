//! What is kept of passwords: as PostgreSQL stores them, and as a login to a server needs them.
//! None of it shows in logs, errors or SHOW.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Text that never shows in logs, errors or SHOW.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Bytes of SHA-256, and so of every SCRAM key.
pub const SCRAM_KEY: usize = 32;

/// What is known of a client's password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredSecret {
    /// Nothing: no password is right.
    None,
    Plain(Secret),
    /// `md5` and the 32 hexadecimal digits of md5(password, user), as in pg_authid.
    Md5(Secret),
    Scram(ScramVerifier),
}

/// What a server keeps of a password: enough to check a proof, not enough to make one.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    pub salt: Vec<u8>,
    pub iterations: u32,
    pub stored_key: [u8; SCRAM_KEY],
    pub server_key: [u8; SCRAM_KEY],
}

/// What a client's proof gives away to who holds its verifier: enough to log in wherever the same
/// verifier is kept, without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    pub salt: Vec<u8>,
    pub iterations: u32,
    pub client_key: [u8; SCRAM_KEY],
    pub server_key: [u8; SCRAM_KEY],
}

/// What a login to a server is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerSecret {
    None,
    Password(Secret),
    /// Serves where the server asks for md5.
    Md5(Secret),
    /// Serves where the server asks for SCRAM and keeps the verifier that these belong to.
    Scram(ScramKeys),
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SCRAM-SHA-256$***")
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl StoredSecret {
    /// Tells the forms of pg_authid.rolpassword apart, as get_password_type does. Empty text is no
    /// password at all, since an empty password never logs in.
    ///
    /// # Errors
    /// Text that starts as a SCRAM verifier and is none.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Ok(Self::None);
        }
        if text.starts_with(ScramVerifier::PREFIX) {
            let verifier = ScramVerifier::parse(text).ok_or("not a SCRAM-SHA-256 verifier")?;
            return Ok(Self::Scram(verifier));
        }
        Ok(match is_md5(text) {
            true => Self::Md5(Secret(text.to_owned())),
            false => Self::Plain(Secret(text.to_owned())),
        })
    }

    /// As far as it serves to log in to servers without the client's help.
    pub fn for_servers(&self) -> ServerSecret {
        match self {
            Self::Plain(secret) => ServerSecret::Password(secret.clone()),
            Self::Md5(hash) => ServerSecret::Md5(hash.clone()),
            Self::None | Self::Scram(_) => ServerSecret::None,
        }
    }
}

/// `md5` and 32 lower case hexadecimal digits (MD5_PASSWD_CHARSET).
pub fn is_md5(text: &str) -> bool {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("md5")
        .is_some_and(|digits| digits.len() == 32 && digits.bytes().all(digit))
}

impl ScramVerifier {
    pub const PREFIX: &str = "SCRAM-SHA-256$";

    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, the last three in base64.
    /// <https://www.postgresql.org/docs/current/catalog-pg-authid.html>
    pub fn parse(text: &str) -> Option<Self> {
        let (parameters, keys) = text.strip_prefix(Self::PREFIX)?.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text: &str| BASE64.decode(text).ok()?.try_into().ok();
        Some(Self {
            salt: BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?,
            // PostgreSQL keeps the count in a signed int.
            iterations: iterations
                .parse::<i32>()
                .ok()
                .filter(|n| *n > 0)?
                .unsigned_abs(),
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }
}

impl ServerSecret {
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    pub fn is_md5(&self) -> bool {
        matches!(self, Self::Md5(_))
    }

    /// The password itself, where it is known.
    pub fn password(&self) -> Option<&Secret> {
        match self {
            Self::Password(secret) => Some(secret),
            Self::None | Self::Md5(_) | Self::Scram(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
        $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn the_forms_of_rolpassword_are_told_apart() {
        let md5 = format!("md5{}", "0123456789abcdef".repeat(2));
        for (text, kind) in [
            ("", "none"),
            ("pencil", "plain"),
            (md5.as_str(), "md5"),
            (&md5[1..], "plain"),
            (&md5.to_uppercase(), "plain"),
            ("md5", "plain"),
            (VERIFIER, "scram"),
        ] {
            let found = match StoredSecret::parse(text).unwrap() {
                StoredSecret::None => "none",
                StoredSecret::Plain(_) => "plain",
                StoredSecret::Md5(_) => "md5",
                StoredSecret::Scram(_) => "scram",
            };
            assert_eq!(found, kind, "{text}");
        }
        assert!(StoredSecret::parse("SCRAM-SHA-256$4096:x").is_err());
    }

    #[test]
    fn a_verifier_is_read_whole_or_not_at_all() {
        let verifier = ScramVerifier::parse(VERIFIER).unwrap();
        assert_eq!((verifier.iterations, verifier.salt.len()), (4096, 16));
        for text in [
            &VERIFIER.replace("4096", "0"),
            &VERIFIER.replace("4096", "-1"),
            &VERIFIER.replace("4096", "4294967295"),
            &VERIFIER.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
            &VERIFIER.replace("WG5d", ""),
            &VERIFIER.replace("=:wf", "=:"),
            &VERIFIER.replace('$', "#"),
        ] {
            assert!(ScramVerifier::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn nothing_of_a_secret_is_printed() {
        let verifier = ScramVerifier::parse(VERIFIER).unwrap();
        let keys = ScramKeys {
            salt: verifier.salt.clone(),
            iterations: 4096,
            client_key: [77; SCRAM_KEY],
            server_key: [88; SCRAM_KEY],
        };
        let printed = format!(
            "{:?} {:?} {:?} {:?}",
            StoredSecret::Scram(verifier),
            StoredSecret::Plain(Secret("pencil".into())),
            ServerSecret::Scram(keys),
            ServerSecret::Md5(Secret("md5abc".into())),
        );
        for secret in ["pencil", "md5abc", "77", "88", "WG5d", "4096"] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }
}
