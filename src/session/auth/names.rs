//! Names that others vouch for: of a client's certificate, and of the operating system's user at
//! the other end of a Unix socket.

use nix::unistd::{Uid, User};
use x509_certificate::certificate::CapturedX509Certificate;
use x509_certificate::rfc3280::AttributeTypeAndValue;

use crate::config::hba::CertName;
use crate::net::Stream;

/// The name in the certificate that the client showed; `None` when there is none that can be read.
pub(super) fn of_certificate(stream: &Stream, kind: CertName) -> Option<String> {
    let certificate =
        CapturedX509Certificate::from_der(stream.peer_certificate()?.to_vec()).ok()?;
    let name = match kind {
        CertName::Cn => certificate.subject_common_name()?,
        CertName::Dn => distinguished(&certificate)?,
    };
    // What ends at a zero byte elsewhere would be another name there (CVE-2009-4034).
    (!name.contains('\0') && !name.is_empty()).then_some(name)
}

/// The subject in the form of RFC 2253: from the last part to the first.
fn distinguished(certificate: &CapturedX509Certificate) -> Option<String> {
    let mut parts = Vec::new();
    for part in certificate.subject_name().iter_rdn() {
        let values: Option<Vec<_>> = part.iter().map(attribute).collect();
        parts.push(values?.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute(attribute: &AttributeTypeAndValue) -> Option<String> {
    let oid = attribute.typ.to_string();
    let known = [
        ("2.5.4.3", "CN"),
        ("2.5.4.4", "SN"),
        ("2.5.4.5", "serialNumber"),
        ("2.5.4.6", "C"),
        ("2.5.4.7", "L"),
        ("2.5.4.8", "ST"),
        ("2.5.4.9", "street"),
        ("2.5.4.10", "O"),
        ("2.5.4.11", "OU"),
        ("2.5.4.12", "title"),
        ("2.5.4.42", "GN"),
        ("0.9.2342.19200300.100.1.1", "UID"),
        ("0.9.2342.19200300.100.1.25", "DC"),
        ("1.2.840.113549.1.9.1", "emailAddress"),
    ];
    let name = known.iter().find(|(number, _)| *number == oid);
    let name = name.map_or(oid.as_str(), |(_, name)| name);
    Some(format!("{name}={}", escaped(&attribute.to_string().ok()?)))
}

/// <https://www.rfc-editor.org/rfc/rfc2253#section-2.4>
fn escaped(value: &str) -> String {
    let mut text = String::new();
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let at_edge = (c == ' ' && (at == 0 || at == last)) || (c == '#' && at == 0);
        if at_edge || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// The name of the user whose process the client is.
pub(super) fn of_peer(stream: &Stream) -> Option<String> {
    let user = User::from_uid(Uid::from_raw(stream.peer_uid()?)).ok()??;
    Some(user.name)
}
