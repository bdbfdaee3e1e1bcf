//! A certificate authority of the run's own, what it signed, and one that signed nothing.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// PEM files.
pub struct Certificates {
    /// What drivers and Ringway are told to trust.
    pub authority: PathBuf,
    /// Signed nothing: a driver that connects with it does not verify.
    pub stranger: PathBuf,
    /// Of 127.0.0.1 and localhost.
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

pub fn make(directory: &Path) -> Result<Certificates, Box<dyn std::error::Error>> {
    let (authority, authority_key) = authority("Ringway driver tests")?;
    let (stranger, _) = self::authority("stranger")?;
    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut server = CertificateParams::new(names)?;
    server
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    server.use_authority_key_identifier_extension = true;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = server.signed_by(&key, &authority, &authority_key)?;
    let write = |name: &str, pem: String| -> std::io::Result<PathBuf> {
        let path = directory.join(name);
        std::fs::write(&path, pem)?;
        Ok(path)
    };
    Ok(Certificates {
        authority: write("ca.crt", authority.pem())?,
        stranger: write("stranger.crt", stranger.pem())?,
        certificate: write("server.crt", server.pem())?,
        private_key: write("server.key", key.serialize_pem())?,
    })
}

fn authority(name: &str) -> Result<(Certificate, KeyPair), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok((certificate, key))
}
