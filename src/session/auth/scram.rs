//! The server's half of SCRAM-SHA-256, with and without channel binding.
//! <https://www.rfc-editor.org/rfc/rfc5802>
//!
//! pgwire's keeps the client's key, which a login is passed on with, to itself, and does not hold
//! the mechanism that was chosen against the binding that is used; so the messages are read here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::BytesMut;
use ring::hmac;

use super::exchange::{MAX_SASL_MESSAGE, read_response, request, send};
use crate::backend::scram::{hash, sign, xor};
use crate::config::{SCRAM_KEY, ScramKeys, ScramVerifier};
use crate::error::{Error, Fault, Result};
use crate::net::Stream;
use crate::wire::frame;

const PLAIN: &[u8] = b"SCRAM-SHA-256";
const PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";

/// Authentication request codes.
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// How an exchange ended.
pub(super) enum Outcome {
    /// The last message is to go out with AuthenticationOk.
    Proven { keys: ScramKeys, last: BytesMut },
    /// The messages were in order and the password wrong.
    Wrong,
}

/// Runs the exchange. `end_point` is the hash of the certificate that the client was shown.
///
/// # Errors
/// FATAL 08P01 for messages that make no sense, 28000 for a channel binding that does not hold.
pub(super) async fn run(
    stream: &mut Stream,
    buf: &mut BytesMut,
    verifier: &ScramVerifier,
    end_point: Option<&[u8]>,
) -> Result<Outcome> {
    let mut out = BytesMut::new();
    // A list of names, ended by an empty one.
    let mechanisms = match end_point {
        Some(_) => [PLUS, b"\0", PLAIN, b"\0\0"].concat(),
        None => [PLAIN, b"\0\0"].concat(),
    };
    request(&mut out, SASL, &mechanisms);
    send(stream, &out).await?;

    let initial = read_response(stream, buf, MAX_SASL_MESSAGE).await?;
    let first = First::read(&initial, end_point)?;
    let server_nonce = BASE64.encode(rand::random::<[u8; 18]>());
    let nonce = format!("{}{server_nonce}", first.nonce);
    let challenge = format!(
        "r={nonce},s={},i={}",
        BASE64.encode(&verifier.salt),
        verifier.iterations
    );
    out.clear();
    request(&mut out, SASL_CONTINUE, challenge.as_bytes());
    send(stream, &out).await?;

    let response = read_response(stream, buf, MAX_SASL_MESSAGE).await?;
    let last = Last::read(&response)?;
    if last.binding != first.expected_binding(end_point) {
        return Err(first.unbound());
    }
    if last.nonce != nonce {
        return Err(Error::protocol("invalid SCRAM response").detail("Nonce does not match."));
    }
    let auth_message = format!("{},{challenge},{}", first.bare, last.unproven);
    let signature = sign(&verifier.stored_key, auth_message.as_bytes());
    let client_key = xor(last.proof, &signature);
    if hash(&client_key) != verifier.stored_key {
        return Ok(Outcome::Wrong);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, &verifier.server_key);
    let signature = hmac::sign(&key, auth_message.as_bytes());
    let mut last = BytesMut::new();
    let text = format!("v={}", BASE64.encode(signature));
    request(&mut last, SASL_FINAL, text.as_bytes());
    Ok(Outcome::Proven {
        keys: ScramKeys {
            salt: verifier.salt.clone(),
            iterations: verifier.iterations,
            client_key,
            server_key: verifier.server_key,
        },
        last,
    })
}

fn malformed(detail: &'static str) -> Error {
    Error::protocol("malformed SCRAM message").detail(detail)
}

/// The client's first message.
struct First<'m> {
    /// Flag of the channel binding and what follows it, up to the message proper.
    gs2: &'m str,
    /// The message proper.
    bare: &'m str,
    nonce: &'m str,
}

impl<'m> First<'m> {
    /// Reads a SASLInitialResponse.
    fn read(initial: &'m [u8], end_point: Option<&[u8]>) -> Result<Self> {
        let (mechanism, message) = initial_response(initial)?;
        let is_bound = match mechanism {
            PLAIN => false,
            PLUS if end_point.is_some() => true,
            _ => {
                return Err(Error::protocol(
                    "client selected an invalid SASL authentication mechanism",
                )
                .detail("Choose one of those that were offered."));
            }
        };
        let message = text(message)?;
        let short = || malformed("The message ends too early.");
        let (flag, rest) = message.split_once(',').ok_or_else(short)?;
        let (authzid, bare) = rest.split_once(',').ok_or_else(short)?;
        check_flag(flag, is_bound, end_point.is_some())?;
        if !authzid.is_empty() {
            let what = "client uses authorization identity, but it is not supported";
            return Err(Error::new(Fault::Client, "0A000", what).fatal());
        }
        let mut parts = bare.split(',');
        let name = parts.next().unwrap_or_default();
        if name.starts_with("m=") {
            let what = "client requires an unsupported SCRAM extension";
            return Err(Error::new(Fault::Client, "0A000", what).fatal());
        }
        // The user's name is the startup packet's.
        if !name.starts_with("n=") {
            return Err(malformed("A user name is expected."));
        }
        let nonce = parts.next().and_then(|part| part.strip_prefix("r="));
        let nonce = nonce.ok_or_else(|| malformed("A nonce is expected."))?;
        if nonce.is_empty() || !nonce.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::protocol("non-printable characters in SCRAM nonce"));
        }
        Ok(Self {
            gs2: &message[..message.len() - bare.len()],
            bare,
            nonce,
        })
    }

    /// The client saw another certificate, or changed its mind about what it says of binding.
    fn unbound(&self) -> Error {
        match self.gs2.starts_with('p') {
            true => {
                let what = "SCRAM channel binding check failed";
                Error::new(Fault::Client, "28000", what).fatal()
            }
            false => Error::protocol(
                "unexpected SCRAM channel-binding attribute in client-final-message",
            ),
        }
    }

    /// What the client has to say again under its proof: the header, and the certificate it saw.
    fn expected_binding(&self, end_point: Option<&[u8]>) -> Vec<u8> {
        let mut expected = self.gs2.as_bytes().to_vec();
        if self.gs2.starts_with('p') {
            expected.extend_from_slice(end_point.unwrap_or_default());
        }
        expected
    }
}

/// Whether the flag agrees with the mechanism that was chosen and with what was offered.
fn check_flag(flag: &str, is_bound: bool, was_offered: bool) -> Result<()> {
    match (flag, is_bound) {
        ("n", false) => Ok(()),
        ("n" | "y", true) => Err(malformed(
            "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include \
             channel binding data.",
        )),
        // Somebody between us took the name out of the list.
        ("y", false) if was_offered => Err(Error::new(
            Fault::Client,
            "28000",
            "SCRAM channel binding negotiation error",
        )
        .detail(
            "The client supports SCRAM channel binding but thinks the server does not.  However, \
             this server does support channel binding.",
        )
        .fatal()),
        ("y", false) => Ok(()),
        ("p=tls-server-end-point", true) => Ok(()),
        (flag, false) if flag.starts_with("p=") => Err(malformed(
            "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message \
             includes channel binding data.",
        )),
        (flag, true) if flag.starts_with("p=") => {
            Err(Error::protocol("unsupported SCRAM channel-binding type"))
        }
        (_, _) => Err(malformed("Unexpected channel-binding flag.")),
    }
}

/// The mechanism that was chosen, and its first message.
fn initial_response(mut body: &[u8]) -> Result<(&[u8], &[u8])> {
    let body = &mut body;
    let malformed = || Error::protocol("malformed SASL response");
    let mechanism = frame::cstr(body).ok_or_else(malformed)?;
    let length = frame::i32(body).ok_or_else(malformed)?;
    match usize::try_from(length) {
        Ok(length) if length == body.len() => Ok((mechanism, body)),
        Ok(_) | Err(_) => Err(malformed()),
    }
}

/// The client's last message.
struct Last<'m> {
    /// Decoded.
    binding: Vec<u8>,
    nonce: &'m str,
    /// All but the proof.
    unproven: &'m str,
    proof: [u8; SCRAM_KEY],
}

impl<'m> Last<'m> {
    fn read(message: &'m [u8]) -> Result<Self> {
        let message = text(message)?;
        let (unproven, proof) = message
            .rsplit_once(",p=")
            .ok_or_else(|| malformed("A proof is expected."))?;
        let proof = BASE64.decode(proof).ok();
        let proof = proof.and_then(|proof| proof.try_into().ok());
        let mut parts = unproven.split(',');
        let binding = parts.next().and_then(|part| part.strip_prefix("c="));
        let binding = binding.and_then(|binding| BASE64.decode(binding).ok());
        let nonce = parts.next().and_then(|part| part.strip_prefix("r="));
        Ok(Self {
            binding: binding.ok_or_else(|| malformed("Channel-binding data is expected."))?,
            nonce: nonce.ok_or_else(|| malformed("A nonce is expected."))?,
            unproven,
            proof: proof.ok_or_else(|| malformed("The proof is malformed."))?,
        })
    }
}

fn text(message: &[u8]) -> Result<&str> {
    std::str::from_utf8(message).map_err(|_| malformed("The message is not UTF-8."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initial(mechanism: &[u8], message: &str) -> Vec<u8> {
        let length = (message.len() as u32).to_be_bytes();
        [mechanism, b"\0", &length, message.as_bytes()].concat()
    }

    /// The SQLSTATE, or what the client has to repeat.
    fn told(mechanism: &[u8], message: &str, end_point: Option<&[u8]>) -> String {
        match First::read(&initial(mechanism, message), end_point) {
            Ok(first) => String::from_utf8(first.expected_binding(end_point)).expect("text"),
            Err(error) => error.code.to_string(),
        }
    }

    #[test]
    fn what_the_client_says_of_binding_has_to_agree_with_what_it_does() {
        let shown = Some(&b"HASH"[..]);
        for (mechanism, flag, end_point, expected) in [
            (PLAIN, "n,,", None, "n,,"),
            (PLAIN, "y,,", None, "y,,"),
            (PLAIN, "n,,", shown, "n,,"),
            // The list of mechanisms was tampered with.
            (PLAIN, "y,,", shown, "28000"),
            (PLAIN, "p=tls-server-end-point,,", shown, "08P01"),
            (PLAIN, "p=tls-server-end-point,,", None, "08P01"),
            (
                PLUS,
                "p=tls-server-end-point,,",
                shown,
                "p=tls-server-end-point,,HASH",
            ),
            (PLUS, "p=tls-server-end-point,,", None, "08P01"),
            (PLUS, "p=tls-unique,,", shown, "08P01"),
            (PLUS, "n,,", shown, "08P01"),
            (PLUS, "y,,", shown, "08P01"),
            (PLAIN, "n,a=admin,", None, "0A000"),
            (PLAIN, "x,,", None, "08P01"),
            (PLAIN, "", None, "08P01"),
            (b"SCRAM-SHA-1", "n,,", None, "08P01"),
        ] {
            let found = told(mechanism, &format!("{flag}n=,r=abc"), end_point);
            assert_eq!(
                found,
                expected,
                "{} {flag}",
                String::from_utf8_lossy(mechanism)
            );
        }
        assert_eq!(told(PLAIN, "n,,m=x,n=,r=abc", None), "0A000");
        assert_eq!(told(PLAIN, "n,,n=,r=", None), "08P01");
        assert_eq!(told(PLAIN, "n,,n=,r=a\u{7f}", None), "08P01");
    }
}
