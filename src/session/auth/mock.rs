//! What a user who does not exist is asked for: what most of those are who do, so that the question
//! does not tell them apart.

use super::Known;
use crate::config::{Method, StoredSecret};

/// How many of those who exist are asked for what. They alone count who prove a password.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    scram: i64,
    md5: i64,
    password: i64,
    /// Where a rule says md5.
    kept_as_verifier: i64,
    not_kept_as_verifier: i64,
}

impl Tally {
    pub(super) fn of<'k>(users: impl Iterator<Item = &'k Known>) -> Self {
        let mut tally = Self::default();
        users.for_each(|known| tally.add(known));
        tally
    }

    pub(super) fn add(&mut self, known: &Known) {
        self.count(known, 1);
    }

    /// Takes back what was added.
    pub(super) fn remove(&mut self, known: &Known) {
        self.count(known, -1);
    }

    fn count(&mut self, known: &Known, by: i64) {
        match known.secret {
            StoredSecret::None => return,
            StoredSecret::Scram(_) => self.kept_as_verifier += by,
            StoredSecret::Plain(_) | StoredSecret::Md5(_) => self.not_kept_as_verifier += by,
        }
        match known.method {
            Method::Scram => self.scram += by,
            Method::Md5 => self.md5 += by,
            Method::Password => self.password += by,
            Method::Trust | Method::Reject | Method::Cert | Method::Peer => {}
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept_as_verifier + self.not_kept_as_verifier == 0
    }

    /// Where no rule says what is asked for.
    pub(super) fn own(&self) -> Method {
        let Self {
            scram,
            md5,
            password,
            ..
        } = *self;
        if scram >= md5.max(password) {
            Method::Scram
        } else if md5 >= password {
            Method::Md5
        } else {
            Method::Password
        }
    }

    /// Where a rule says md5.
    pub(super) fn under_md5(&self) -> Method {
        match self.not_kept_as_verifier > self.kept_as_verifier {
            true => Method::Md5,
            false => Method::Scram,
        }
    }
}
