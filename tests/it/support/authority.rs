//! A private authority, and the certificates that it issues.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

/// An authority that nobody knows but who is given its certificate.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate with its key.
pub(crate) struct Issued {
    /// The certificate, PEM.
    pub(crate) certificate: String,
    /// The same as DER.
    pub(crate) der: Vec<u8>,
    /// The key, PEM.
    pub(crate) key: String,
}

/// A directory with `tls.crt` and `tls.key`.
pub(crate) struct Pair {
    home: TempDir,
}

impl Authority {
    /// A new one.
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = parameters.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(parameters, key),
            certificate,
        }
    }

    /// Its own certificate, PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for loopback, of a server or of a client.
    pub(crate) fn issue(&self) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let parameters = CertificateParams::new(names).expect("names");
        let certificate = parameters.signed_by(&key, &self.issuer);
        let certificate = certificate.expect("a certificate");
        Issued {
            certificate: certificate.pem(),
            der: certificate.der().to_vec(),
            key: key.serialize_pem(),
        }
    }
}

impl Pair {
    /// In a directory of its own.
    pub(crate) fn new(issued: &Issued) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        issued.write_to(home.path());
        Self { home }
    }

    /// The directory.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The certificate's file.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.home.path().join("tls.crt")
    }

    /// The key's file.
    pub(crate) fn key(&self) -> PathBuf {
        self.home.path().join("tls.key")
    }

    /// Puts another pair in its place: two renames.
    pub(crate) fn replace(&self, issued: &Issued) {
        let new = tempfile::tempdir_in(self.home.path()).expect("a directory");
        issued.write_to(new.path());
        for file in [self.certificate(), self.key()] {
            let name = file.file_name().expect("a name");
            std::fs::rename(new.path().join(name), &file).expect("a rename");
        }
    }
}

impl Issued {
    /// Writes `tls.crt` and `tls.key`.
    pub(crate) fn write_to(&self, directory: &Path) {
        for (name, text) in [("tls.crt", &self.certificate), ("tls.key", &self.key)] {
            std::fs::write(directory.join(name), text).expect("a file");
        }
    }
}
