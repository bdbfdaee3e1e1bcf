//! The client's half of SCRAM-SHA-256, made with a password or with the keys that a client's own
//! login gave away; and what binds an exchange to a TLS certificate.
//! <https://www.rfc-editor.org/rfc/rfc5802>, <https://www.rfc-editor.org/rfc/rfc5929#section-4>

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use pgwire::api::auth::sasl::scram::gen_salted_password;
use ring::{digest, hmac};
use x509_certificate::certificate::CapturedX509Certificate;

use crate::config::{SCRAM_KEY, ScramKeys, Secret};

/// A server that asks for more rounds would have us work for it; pgjdbc's limit.
const MAX_ITERATIONS: u32 = 100_000;

type Key = [u8; SCRAM_KEY];

/// What the exchange is made with.
pub enum Credentials<'a> {
    Password(&'a Secret),
    Keys(&'a ScramKeys),
}

/// Whether the exchange names the server's certificate.
pub enum Binding {
    /// It cannot: no TLS, or a certificate of an odd kind.
    None,
    /// It could, but the server does not offer it.
    Unoffered,
    /// The certificate's hash.
    EndPoint(Vec<u8>),
}

/// The exchange once the first message is sent.
pub struct Exchange {
    gs2: &'static str,
    /// What `c=` carries, before base64.
    binding: Vec<u8>,
    nonce: String,
}

/// The exchange once the proof is sent.
pub struct Proven {
    server_key: Key,
    auth_message: String,
}

/// Why an exchange cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server's words make no sense.
    Senseless(&'static str),
    /// The server keeps another verifier than the one the keys belong to.
    OtherVerifier,
}

impl Binding {
    fn gs2(&self) -> &'static str {
        match self {
            Self::None => "n,,",
            Self::Unoffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }
}

impl Exchange {
    pub fn new(binding: &Binding) -> Self {
        let gs2 = binding.gs2();
        let mut bytes = gs2.as_bytes().to_vec();
        if let Binding::EndPoint(hash) = binding {
            bytes.extend_from_slice(hash);
        }
        Self {
            gs2,
            binding: bytes,
            nonce: BASE64.encode(rand::random::<[u8; 18]>()),
        }
    }

    /// The name is left empty: the server knows it from the startup packet.
    pub fn first_message(&self) -> String {
        format!("{}n=,r={}", self.gs2, self.nonce)
    }

    /// Answers the server's challenge: the final message, and what its answer is checked with.
    ///
    /// # Errors
    /// A challenge that makes no sense, or that the keys do not fit.
    pub fn prove(
        self,
        challenge: &[u8],
        credentials: &Credentials<'_>,
    ) -> Result<(String, Proven), Failure> {
        let (nonce, salt, iterations, challenge) = self.read(challenge)?;
        let (client_key, server_key) = match credentials {
            Credentials::Password(password) => {
                let salted = gen_salted_password(&password.0, &salt, iterations as usize);
                (sign(&salted, b"Client Key"), sign(&salted, b"Server Key"))
            }
            Credentials::Keys(keys) if keys.salt == salt && keys.iterations == iterations => {
                (keys.client_key, keys.server_key)
            }
            Credentials::Keys(_) => return Err(Failure::OtherVerifier),
        };
        let unproven = format!("c={},r={nonce}", BASE64.encode(&self.binding));
        let auth_message = format!("n=,r={},{challenge},{unproven}", self.nonce);
        let stored_key = hash(&client_key);
        let proof = xor(client_key, &sign(&stored_key, auth_message.as_bytes()));
        let message = format!("{unproven},p={}", BASE64.encode(proof));
        let proven = Proven {
            server_key,
            auth_message,
        };
        Ok((message, proven))
    }

    /// `r=<nonce>,s=<salt>,i=<iterations>`.
    fn read<'c>(&self, challenge: &'c [u8]) -> Result<(&'c str, Vec<u8>, u32, &'c str), Failure> {
        let senseless = || Failure::Senseless("its SCRAM challenge is malformed");
        let text = std::str::from_utf8(challenge).map_err(|_| senseless())?;
        let mut parts = text.split(',');
        let mut part = |name| parts.next().and_then(|part| part.strip_prefix(name));
        let nonce = part("r=").ok_or_else(senseless)?;
        let salt = part("s=").and_then(|salt| BASE64.decode(salt).ok());
        let salt = salt.ok_or_else(senseless)?;
        let iterations = part("i=").and_then(|count| count.parse().ok());
        let iterations = iterations.ok_or_else(senseless)?;
        if parts.next().is_some() {
            return Err(senseless());
        }
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(Failure::Senseless(
                "its SCRAM nonce is not ours and its own",
            ));
        }
        if !(1..=MAX_ITERATIONS).contains(&iterations) {
            return Err(Failure::Senseless("it asks for too many SCRAM iterations"));
        }
        Ok((nonce, salt, iterations, text))
    }
}

impl Proven {
    /// Whether the server knew the password too.
    ///
    /// # Errors
    /// It did not prove so.
    pub fn check(self, outcome: &[u8]) -> Result<(), Failure> {
        let signature = outcome
            .strip_prefix(b"v=")
            .and_then(|text| BASE64.decode(text).ok())
            .ok_or(Failure::Senseless("its SCRAM signature is malformed"))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.server_key);
        hmac::verify(&key, self.auth_message.as_bytes(), &signature)
            .map_err(|_| Failure::Senseless("it does not know the password itself"))
    }
}

pub fn sign(key: &[u8], message: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut bytes = [0; SCRAM_KEY];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

pub fn hash(bytes: &[u8]) -> Key {
    let mut hash = [0; SCRAM_KEY];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

pub fn xor(mut a: Key, b: &[u8]) -> Key {
    for (a, b) in a.iter_mut().zip(b) {
        *a ^= b;
    }
    a
}

/// The hash of a certificate that binds an exchange to it: by the hash function of its signature,
/// but for MD5 and SHA-1, which SHA-256 stands in for. `None` for a signature without one.
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let parsed = CapturedX509Certificate::from_der(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm_oid().to_string().as_str() {
        // MD5, SHA-1 and SHA-256 with RSA, then with ECDSA.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" => {
            &digest::SHA256
        }
        "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}
