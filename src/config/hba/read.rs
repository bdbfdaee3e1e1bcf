//! From words to rules: of a pg_hba.conf's lines, or of the TOML's `[[auth.hba]]`.

use std::net::IpAddr;

use regex::Regex;

use super::tokens::{Line, Token, lines};
use super::{
    Address, CertName, ClientCert, DatabaseName, Hba, METHODS, Method, Rule, Transport, UserName,
};

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// From 1.
    pub line: usize,
    pub what: String,
    pub remedy: String,
}

/// What is wrong, and what to write instead.
type Why = (String, String);

/// The words of one rule.
pub struct Words<'a> {
    pub line: usize,
    pub transport: &'a str,
    pub databases: &'a [Token],
    pub users: &'a [Token],
    /// A keyword, CIDR, or an address and its mask.
    pub address: Option<(&'a Token, Option<&'a str>)>,
    pub method: &'a str,
    /// `name=value`.
    pub options: Vec<(&'a str, &'a str)>,
}

/// Reads the text of a pg_hba.conf: all rules, and all that is wrong with it.
pub fn read(text: &str) -> (Hba, Vec<Flaw>) {
    let mut rules = Vec::new();
    let mut flaws = Vec::new();
    for line in lines(text) {
        match words(&line) {
            Ok(words) => match rule(&words) {
                Ok(rule) => rules.push(rule),
                Err(whys) => flaws.extend(whys.into_iter().map(|why| at(line.number, why))),
            },
            Err(why) => flaws.push(at(line.number, why)),
        }
    }
    (Hba { rules }, flaws)
}

fn at(line: usize, (what, remedy): Why) -> Flaw {
    Flaw { line, what, remedy }
}

fn why(what: impl Into<String>, remedy: impl Into<String>) -> Why {
    (what.into(), remedy.into())
}

fn words(line: &Line) -> Result<Words<'_>, Why> {
    if line.is_open {
        return Err(why("a quote is not closed", ""));
    }
    let mut fields = line.fields.iter().map(Vec::as_slice);
    let mut next = |what: &str| {
        let example = "write type, database, user, address (but for local) and method";
        fields
            .next()
            .ok_or_else(|| why(format!("the line ends before the {what}"), example))
    };
    let transport = one(next("type")?)?;
    if transport.starts_with("include") {
        let what = format!("\"{transport}\" is not supported");
        return Err(why(what, "write the rules into this file"));
    }
    let databases = next("database")?;
    let users = next("user")?;
    let mut address = None;
    let mut mask = None;
    if transport != "local" {
        let [token] = next("address")? else {
            return Err(why("more than one address", "write a rule for each"));
        };
        address = Some(token);
        // An address without a length is followed by its mask.
        if token.text.parse::<IpAddr>().is_ok() {
            mask = Some(one(next("mask of the address")?)?);
        }
    }
    let method = one(next("method")?)?;
    let mut options = Vec::new();
    for token in fields.flatten() {
        let option = token.text.split_once('=');
        options.push(option.ok_or_else(|| {
            let what = format!("\"{}\" is no option of a method", token.text);
            why(what, "write name=value")
        })?);
    }
    Ok(Words {
        line: line.number,
        transport,
        databases,
        users,
        address: address.map(|address| (address, mask)),
        method,
        options,
    })
}

fn one(field: &[Token]) -> Result<&str, Why> {
    match field {
        [token] => Ok(&token.text),
        _ => Err(why("several words where one belongs", "take out the comma")),
    }
}

/// Makes a rule of its words, or says all that is wrong with them.
pub fn rule(words: &Words<'_>) -> Result<Rule, Vec<Why>> {
    let mut whys = Vec::new();
    let mut note = |why| whys.push(why);
    let transport = transport(words.transport).map_err(&mut note).ok();
    let databases = each(words.databases, database, &mut note);
    let users = each(words.users, user, &mut note);
    let address = match (transport, words.address) {
        (Some(Transport::Local), None) | (None, None) => Some(Address::None),
        (Some(Transport::Local), Some(_)) => {
            note(why("a local rule has no address", "leave it out"));
            None
        }
        (_, None) => {
            note(why(
                "the address is missing",
                "write \"all\" or a network such as \"10.0.0.0/8\"",
            ));
            None
        }
        (_, Some((token, mask))) => address(token, mask).map_err(&mut note).ok(),
    };
    let method = method(words.method).map_err(&mut note).ok();
    if let (Some(transport), Some(method)) = (transport, method)
        && let Err(why) = fits(transport, method)
    {
        note(why);
    }
    let options = Options::read(words, transport, method, &mut note);
    match (transport, address, method) {
        (Some(transport), Some(address), Some(method)) if whys.is_empty() => Ok(Rule {
            line: words.line,
            transport,
            databases,
            users,
            address,
            method,
            map: options.map,
            client_cert: options.client_cert,
            cert_name: options.cert_name,
        }),
        _ => Err(whys),
    }
}

fn each<T>(
    tokens: &[Token],
    read: fn(&Token) -> Result<T, Why>,
    note: &mut impl FnMut(Why),
) -> Vec<T> {
    let read = tokens.iter().map(read);
    read.filter_map(|read| read.map_err(&mut *note).ok())
        .collect()
}

fn transport(word: &str) -> Result<Transport, Why> {
    match word {
        "local" => Ok(Transport::Local),
        // GSSAPI encryption is never there, so that every connection is without it.
        "host" | "hostnogssenc" => Ok(Transport::Host),
        "hostssl" => Ok(Transport::HostSsl),
        "hostnossl" => Ok(Transport::HostNoSsl),
        "hostgssenc" => Err(why(
            "GSSAPI encryption is not supported",
            "use hostssl, or take the line out",
        )),
        other => Err(why(
            format!("\"{other}\" is no type of connection"),
            "write local, host, hostssl or hostnossl",
        )),
    }
}

fn database(token: &Token) -> Result<DatabaseName, Why> {
    let text = &token.text;
    if let Some(text) = text.strip_prefix('/') {
        return pattern(text).map(DatabaseName::Pattern);
    }
    if token.is("samerole") || token.is("samegroup") {
        return Err(roles_unknown(text));
    }
    included(token)?;
    Ok(match () {
        () if token.is("all") => DatabaseName::All,
        () if token.is("sameuser") => DatabaseName::SameUser,
        () if token.is("replication") => DatabaseName::Replication,
        () => DatabaseName::Name(text.clone()),
    })
}

fn user(token: &Token) -> Result<UserName, Why> {
    let text = &token.text;
    if let Some(text) = text.strip_prefix('/') {
        return pattern(text).map(UserName::Pattern);
    }
    if !token.is_quoted && text.starts_with('+') {
        return Err(roles_unknown(text));
    }
    included(token)?;
    Ok(match token.is("all") {
        true => UserName::All,
        false => UserName::Name(text.clone()),
    })
}

fn roles_unknown(word: &str) -> Why {
    let what = format!("members of a role (\"{word}\") are not known here");
    why(
        what,
        "name the users, or write a regular expression as /^app_/",
    )
}

/// `@file` stands for the names in a file.
fn included(token: &Token) -> Result<(), Why> {
    if token.is_quoted || !token.text.starts_with('@') || token.text.len() == 1 {
        return Ok(());
    }
    let what = format!("names from a file (\"{}\") are not supported", token.text);
    Err(why(what, "write the names into the rule"))
}

/// A pattern is searched for anywhere in the name, as in PostgreSQL.
pub fn pattern(text: &str) -> Result<Regex, Why> {
    Regex::new(text).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().to_owned();
        let what = format!("\"/{text}\" is no regular expression that is understood: {reason}");
        why(what, "")
    })
}

fn address(token: &Token, mask: Option<&str>) -> Result<Address, Why> {
    let text = token.text.as_str();
    let wrong = |what: &str| {
        let remedy = "write \"all\", an address with a mask, or a network such as \"10.0.0.0/8\"";
        why(format!("\"{text}\" {what}"), remedy)
    };
    if token.is("all") {
        return Ok(Address::All);
    }
    if token.is("samehost") || token.is("samenet") {
        return Err(wrong(
            "is not supported: the machine's networks are not looked up",
        ));
    }
    let (host, length) = match text.split_once('/') {
        Some((host, length)) => (host, Some(length)),
        None => (text, None),
    };
    let Ok(network) = host.parse::<IpAddr>() else {
        return Err(wrong("is no address; host names are not looked up"));
    };
    let mask = match (length, mask) {
        (Some(length), _) => length
            .parse()
            .ok()
            .and_then(|length| mask_of(network, length))
            .ok_or_else(|| wrong("has a length that its kind of address does not have"))?,
        (None, Some(mask)) => mask
            .parse::<IpAddr>()
            .ok()
            .filter(|mask| mask.is_ipv4() == network.is_ipv4())
            .ok_or_else(|| wrong("is followed by something that is not its mask"))?,
        (None, None) => return Err(wrong("has neither a length nor a mask")),
    };
    Ok(Address::Masked { network, mask })
}

fn mask_of(network: IpAddr, length: u32) -> Option<IpAddr> {
    Some(match network {
        IpAddr::V4(_) => {
            let zeros = 32_u32.checked_sub(length)?;
            IpAddr::V4(u32::MAX.checked_shl(zeros).unwrap_or(0).into())
        }
        IpAddr::V6(_) => {
            let zeros = 128_u32.checked_sub(length)?;
            IpAddr::V6(u128::MAX.checked_shl(zeros).unwrap_or(0).into())
        }
    })
}

fn method(word: &str) -> Result<Method, Why> {
    let known = METHODS.iter().find(|(name, _)| *name == word);
    known.map(|(_, method)| *method).ok_or_else(|| {
        let foreign = [
            "gss", "sspi", "ident", "ldap", "radius", "pam", "bsd", "oauth",
        ];
        let what = match foreign.contains(&word) {
            true => format!("the method \"{word}\" is not supported"),
            false => format!("\"{word}\" is no method"),
        };
        let names: Vec<_> = METHODS.iter().map(|(name, _)| *name).collect();
        why(what, format!("write one of {}", names.join(", ")))
    })
}

/// Whether the method can be used on the rule's connections.
fn fits(transport: Transport, method: Method) -> Result<(), Why> {
    match (method, transport) {
        (Method::Password, Transport::HostSsl) | (Method::Cert, Transport::HostSsl) => Ok(()),
        (Method::Password, _) => Err(why(
            "\"password\" would be sent in the clear",
            "write hostssl, or scram-sha-256",
        )),
        (Method::Cert, _) => Err(why(
            "\"cert\" is only possible with hostssl",
            "write hostssl",
        )),
        (Method::Peer, Transport::Local) => Ok(()),
        (Method::Peer, _) => Err(why(
            "\"peer\" is only possible with local",
            "write local, or another method",
        )),
        (Method::Trust | Method::Reject | Method::Scram | Method::Md5, _) => Ok(()),
    }
}

struct Options {
    map: Option<String>,
    client_cert: ClientCert,
    cert_name: CertName,
}

impl Options {
    fn read(
        words: &Words<'_>,
        transport: Option<Transport>,
        method: Option<Method>,
        note: &mut impl FnMut(Why),
    ) -> Self {
        let is_cert = method == Some(Method::Cert);
        let mut options = Self {
            map: None,
            client_cert: match is_cert {
                true => ClientCert::VerifyFull,
                false => ClientCert::None,
            },
            cert_name: CertName::Cn,
        };
        for (name, value) in &words.options {
            match (*name, *value) {
                ("map", map) if is_cert || method == Some(Method::Peer) => {
                    options.map = Some(map.to_owned());
                }
                ("map", _) => note(why(
                    "map is only used by cert and peer",
                    "leave it out, or change the method",
                )),
                ("clientcert" | "clientname", _) if transport != Some(Transport::HostSsl) => {
                    let what = format!("{name} is only possible with hostssl");
                    note(why(what, "write hostssl, or leave it out"));
                }
                ("clientcert", "verify-full") => options.client_cert = ClientCert::VerifyFull,
                ("clientcert", "verify-ca") if is_cert => note(why(
                    "clientcert only accepts \"verify-full\" with the method cert",
                    "leave it out",
                )),
                ("clientcert", "verify-ca") => options.client_cert = ClientCert::VerifyCa,
                ("clientname", "CN") => options.cert_name = CertName::Cn,
                ("clientname", "DN") => options.cert_name = CertName::Dn,
                ("clientcert", value) => note(why(
                    format!("clientcert cannot be \"{value}\""),
                    "write verify-ca or verify-full",
                )),
                ("clientname", value) => note(why(
                    format!("clientname cannot be \"{value}\""),
                    "write CN or DN",
                )),
                (name, _) => note(why(
                    format!("the option \"{name}\" is not known"),
                    "known are map, clientcert and clientname",
                )),
            }
        }
        options
    }
}
