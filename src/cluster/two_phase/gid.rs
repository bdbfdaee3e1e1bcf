//! What a prepared transaction is called, so that whoever finds it knows what to do with it.
//!
//! `ringway/1/TRANSACTION/OWNER/DECISION/PART`: three numbers of 32 hexadecimal digits, and which of
//! the transaction's parts it is (two shards may be databases of one server, where names are unique).
//! PostgreSQL takes names of up to 199 bytes.

use std::fmt;
use std::str::FromStr;

/// What all names of ours begin with; the number is the version of the protocol.
pub const PREFIX: &str = "ringway/1/";

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u128);

        impl $name {
            pub fn random() -> Self {
                Self(rand::random())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                let number = Self(u128::from_str_radix(text, 16).map_err(drop)?);
                // Nothing else may be read as a number of ours: signs, capitals, other lengths.
                (number.to_string() == text).then_some(number).ok_or(())
            }
        }
    };
}

number! {
    /// A transaction over several shards, the same on all of them.
    TransactionId
}
number! {
    /// A process as a coordinator of one database's transactions.
    OwnerId
}
number! {
    /// A shard, by what `ringway.identity` says there.
    Identity
}

/// The name of one part of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gid {
    pub transaction: TransactionId,
    pub owner: OwnerId,
    /// The shard where it is decided.
    pub decision: Identity,
    pub part: u16,
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            transaction,
            owner,
            decision,
            part,
        } = self;
        write!(f, "{PREFIX}{transaction}/{owner}/{decision}/{part}")
    }
}

impl FromStr for Gid {
    type Err = ();

    /// # Errors
    /// It is not a name of ours, to the letter.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.strip_prefix(PREFIX).ok_or(())?.split('/');
        let mut next = || parts.next().ok_or(());
        let gid = Self {
            transaction: next()?.parse()?,
            owner: next()?.parse()?,
            decision: next()?.parse()?,
            part: next()?.parse().map_err(drop)?,
        };
        (gid.to_string() == text).then_some(gid).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_read() {
        let gid = Gid {
            transaction: TransactionId(7),
            owner: OwnerId(u128::MAX),
            decision: Identity::random(),
            part: u16::MAX,
        };
        let name = gid.to_string();
        assert_eq!(name.parse(), Ok(gid));
        assert!(name.len() < 200, "{name}");
        let capital = name.replace("ffff", "FFFF");
        let short = name.replacen("/0", "/", 1);
        let longer = format!("{name}/1");
        let zero = format!("{name}0").replace("655350", "0655");
        let other = name.replace("ringway/1", "ringway/2");
        for wrong in [&capital, &short, &longer, &zero, &other, "", PREFIX, "app"] {
            assert_eq!(wrong.parse::<Gid>(), Err(()), "{wrong}");
        }
    }
}
