//! The password and the certificate of the proxies that ask for a login.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringway::demo::captive::Programs;
use rustls::{ClientConfig, RootCertStore};

use crate::Failure;

pub const PASSWORD: &str = "a secret of some length";

/// A certificate on disk, and clients' settings that trust it.
pub struct Secure {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    pub client: Arc<ClientConfig>,
}

impl Secure {
    /// Makes a certificate below `directory`, readable for the servers' account.
    pub fn make(programs: &Programs, directory: &Path) -> Result<Self, Failure> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let certificate = directory.join("server.crt");
        let private_key = directory.join("server.key");
        std::fs::write(&certificate, made.cert.pem())?;
        std::fs::write(&private_key, made.key_pair.serialize_pem())?;
        programs.hand_over(&certificate)?;
        programs.hand_over(&private_key)?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            certificate,
            private_key,
            client: Arc::new(client),
        })
    }
}
