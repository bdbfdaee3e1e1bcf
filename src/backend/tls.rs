//! TLS towards servers: libpq's `require`, `verify-ca` and `verify-full`.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::config::{ClientCertificate, TlsMode};
use crate::error::{Error, Fault, Result};
use crate::net::TlsConnector;

/// The settings for a mode; `None` is no TLS at all. `ca` is read where something is verified;
/// `own` is shown to servers that ask for a certificate.
///
/// # Errors
/// F0000 without a usable CA bundle, or for a certificate of our own that cannot be used.
pub fn connector(
    mode: TlsMode,
    ca: Option<&Path>,
    own: Option<&ClientCertificate>,
) -> Result<Option<TlsConnector>> {
    let provider = Arc::new(ring::default_provider());
    let setup = |error: &dyn std::fmt::Display| {
        Error::new(Fault::Ringway, "XX000", "could not set up TLS").detail(error.to_string())
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&error))?;
    let builder = match mode {
        TlsMode::Disable => return Ok(None),
        TlsMode::Require => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
        TlsMode::VerifyCa => {
            let roots = Arc::new(load_roots(ca)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| setup(&error))?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyName(verifier)))
        }
        TlsMode::VerifyFull => builder.with_root_certificates(load_roots(ca)?),
    };
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (chain, key) = load_own(own)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable("server_certificate", &own.certificate, &error))?
        }
    };
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(Some(Arc::new(config)))
}

fn load_own(
    own: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::pem_file_iter(&own.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable("server_certificate", &own.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&own.key)
        .map_err(|error| unusable("server_key", &own.key, &error))?;
    Ok((chain, key))
}

fn unusable(key: &str, path: &Path, why: &dyn std::fmt::Display) -> Error {
    let message = format!("could not load {key} file \"{}\"", path.display());
    Error::new(Fault::Operator, "F0000", message).detail(why.to_string())
}

fn load_roots(ca: Option<&Path>) -> Result<RootCertStore> {
    let path = ca.ok_or_else(|| {
        let message = "verifying servers needs server_ca";
        Error::new(Fault::Operator, "F0000", message).hint(
            "Set server_ca to a PEM file with the authority that signed the servers' certificates.",
        )
    })?;
    let unusable = |error: &dyn std::fmt::Display| unusable("server_ca", path, error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
        roots
            .add(certificate.map_err(|error| unusable(&error))?)
            .map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"the file holds no certificate"));
    }
    Ok(roots)
}

/// libpq's `verify-ca`: the certificate counts, the name in it does not.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self
            .0
            .verify_server_cert(certificate, intermediates, name, ocsp, now);
        match verified {
            // The name is looked at last.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// libpq's `require`: whoever answers is believed, but must hold the key of the certificate
/// shown, so that a listener on the wire learns nothing.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
