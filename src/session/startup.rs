//! The end of startup: what a client is told once it is authenticated, and the certificate that
//! it is shown.

use std::path::Path;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::backend::{scram, server::Parameters};
use crate::config::ServerTls;
use crate::error::{Error, Fault, Result};
use crate::net::TlsAcceptor;
use crate::wire::startup::ALPN;
use crate::wire::write;

/// Length in bytes of the cancel key that a client of protocol 3.`minor` is given.
pub fn cancel_key_len(minor: u16) -> usize {
    if minor >= 2 { 32 } else { 4 }
}

/// Appends what follows AuthenticationOk: the settings as the client should assume them, its
/// cancel key (see [`cancel_key_len`]) and the first ReadyForQuery.
pub fn write_welcome(out: &mut BytesMut, parameters: &Parameters, pid: i32, key: &[u8]) {
    for (name, value) in parameters {
        write::parameter_status(out, name, value);
    }
    write::frame(out, b'K', |out| {
        out.put_i32(pid);
        out.put_slice(key);
    });
    write::ready(out, b'I');
}

/// What binds a SCRAM exchange to the certificate that clients are shown; `None` for one whose
/// signature has no hash function.
pub fn end_point(tls: &ServerTls) -> Option<Vec<u8>> {
    let mut chain = CertificateDer::pem_file_iter(&tls.certificate).ok()?;
    scram::end_point(&chain.next()?.ok()?)
}

/// Loads the certificate chain and private key that clients are shown, and the authorities whose
/// certificates they may show.
///
/// # Errors
/// F0000 that names the file which cannot be read or used.
pub fn tls_acceptor(tls: &ServerTls) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable("certificate", &tls.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&tls.private_key)
        .map_err(|error| unusable("private key", &tls.private_key, &error))?;
    let provider = Arc::new(ring::default_provider());
    let clients = match &tls.client_ca {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(ca) => client_verifier(ca, &provider)?,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            let builder = builder.with_client_cert_verifier(clients);
            builder.with_single_cert(chain, key)
        })
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let why = format!("It does not belong to {}.", tls.certificate.display());
                unusable("private key", &tls.private_key, &why)
            }
            error => unusable("certificate", &tls.certificate, &error),
        })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Clients may do without a certificate; whether they must have one is for pg_hba.conf to say.
fn client_verifier(
    ca: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>> {
    let unusable = |error: &dyn std::fmt::Display| unusable("client_ca", ca, error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| unusable(&error))
}

fn unusable(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::new(
        Fault::Operator,
        "F0000",
        format!("could not load {what} file \"{}\"", path.display()),
    )
    .detail(error.to_string())
    .hint("Both files of [tls] have to be PEM, and the key has to belong to the certificate.")
}

#[cfg(test)]
mod tests;
