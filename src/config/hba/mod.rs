//! Who may connect from where, and how they prove who they are: the rules of a pg_hba.conf.
//! <https://www.postgresql.org/docs/current/auth-pg-hba-conf.html>
//!
//! The first rule that fits decides. Rules read from a file and rules of the TOML are made of the
//! same words, in [`read`].

mod ident;
pub(super) mod read;
#[cfg(test)]
mod tests;
mod tokens;

use std::net::IpAddr;

use regex::Regex;

pub use ident::IdentMaps;
pub(super) use tokens::Token;

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Trust,
    Reject,
    Scram,
    /// md5, or SCRAM for a user of whom a SCRAM verifier is kept.
    Md5,
    /// The password as it is; over TLS only.
    Password,
    Cert,
    /// The name of the operating system's user at the other end of a Unix socket.
    Peer,
}

/// The names of the methods in pg_hba.conf and in the TOML.
pub const METHODS: [(&str, Method); 7] = [
    ("trust", Method::Trust),
    ("reject", Method::Reject),
    ("scram-sha-256", Method::Scram),
    ("md5", Method::Md5),
    ("password", Method::Password),
    ("cert", Method::Cert),
    ("peer", Method::Peer),
];

impl Method {
    pub fn name(self) -> &'static str {
        let of = |(_, method): &&(&str, Method)| *method == self;
        METHODS.iter().find(of).map_or("", |(name, _)| name)
    }
}

/// The rules of a text that has no mistakes, for tests of who uses them.
#[cfg(test)]
pub fn rules(text: &str) -> Vec<Rule> {
    let (hba, flaws) = read::read(text);
    assert_eq!(flaws, []);
    hba.rules
}

/// The table of rules.
#[derive(Debug, Clone)]
pub struct Hba {
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
pub struct Rule {
    /// Of the file it stands in, from 1.
    pub line: usize,
    transport: Transport,
    databases: Vec<DatabaseName>,
    users: Vec<UserName>,
    address: Address,
    pub method: Method,
    /// The user map that `cert` and `peer` look names up in; without one they have to be equal.
    pub map: Option<String>,
    pub client_cert: ClientCert,
    pub cert_name: CertName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Local,
    Host,
    HostSsl,
    HostNoSsl,
}

/// What a client has to show beside what its method asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCert {
    None,
    /// A certificate of the authority in `client_ca`.
    VerifyCa,
    /// One whose name belongs to the user.
    VerifyFull,
}

/// Which name of a certificate is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertName {
    Cn,
    /// In the form of RFC 2253.
    Dn,
}

#[derive(Debug, Clone)]
enum DatabaseName {
    All,
    SameUser,
    /// A physical replication connection, which no other word stands for.
    Replication,
    Name(String),
    Pattern(Regex),
}

#[derive(Debug, Clone)]
enum UserName {
    All,
    Name(String),
    Pattern(Regex),
}

/// Addresses that equal the network's where the mask has a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Address {
    /// Of a rule for Unix sockets, which have none.
    None,
    All,
    Masked {
        network: IpAddr,
        mask: IpAddr,
    },
}

/// Who comes, and from where.
#[derive(Debug, Clone, Copy)]
pub struct Visitor<'a> {
    pub database: &'a str,
    pub user: &'a str,
    /// `None` for a Unix socket.
    pub address: Option<IpAddr>,
    pub is_tls: bool,
    /// It wants physical replication, which is of no database.
    pub is_replication: bool,
}

impl Hba {
    /// The first rule that fits.
    pub fn find(&self, visitor: &Visitor<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.fits(visitor))
    }
}

impl Rule {
    pub fn wants_certificate(&self) -> bool {
        self.client_cert != ClientCert::None
    }

    fn fits(&self, visitor: &Visitor<'_>) -> bool {
        let is_remote = visitor.address.is_some();
        let transport = match self.transport {
            Transport::Local => !is_remote,
            Transport::Host => is_remote,
            Transport::HostSsl => is_remote && visitor.is_tls,
            Transport::HostNoSsl => is_remote && !visitor.is_tls,
        };
        transport
            && self.address.holds(visitor.address)
            && self.databases.iter().any(|name| name.fits(visitor))
            && self.users.iter().any(|name| name.fits(visitor.user))
    }
}

impl DatabaseName {
    fn fits(&self, visitor: &Visitor<'_>) -> bool {
        if visitor.is_replication {
            return matches!(self, Self::Replication);
        }
        match self {
            Self::Replication => false,
            Self::All => true,
            Self::SameUser => visitor.database == visitor.user,
            Self::Name(name) => name == visitor.database,
            Self::Pattern(pattern) => pattern.is_match(visitor.database),
        }
    }
}

impl UserName {
    fn fits(&self, user: &str) -> bool {
        match self {
            Self::All => true,
            Self::Name(name) => name == user,
            Self::Pattern(pattern) => pattern.is_match(user),
        }
    }
}

impl Address {
    fn holds(&self, address: Option<IpAddr>) -> bool {
        match (*self, address.map(|address| address.to_canonical())) {
            (Self::None | Self::All, _) => true,
            (
                Self::Masked {
                    network: IpAddr::V4(network),
                    mask: IpAddr::V4(mask),
                },
                Some(IpAddr::V4(address)),
            ) => (network & mask) == (address & mask),
            (
                Self::Masked {
                    network: IpAddr::V6(network),
                    mask: IpAddr::V6(mask),
                },
                Some(IpAddr::V6(address)),
            ) => (network & mask) == (address & mask),
            (Self::Masked { .. }, _) => false,
        }
    }
}
