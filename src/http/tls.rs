//! HTTPS: the certificate that clients are shown, and the one they may have to show.
//!
//! The files are read again when they change, as certbot, a rename, or Kubernetes' swap of a
//! symbolic link change them: what a path leads to is looked at before every handshake. New files
//! that cannot be used change nothing; they are named in the log once.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ResolvesServerCert, WantsServerCert, WebPkiClientVerifier};
use rustls::{
    ConfigBuilder, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};

/// What HTTPS needs: `http.tls` of the configuration.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The server's certificate and those it is certified by, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Who certifies clients, PEM.
    pub client_cas: Vec<PathBuf>,
    /// What is asked of clients where there are `client_cas`.
    pub client_auth: ClientAuth,
    /// Only TLS 1.3, not 1.2 as well.
    pub only_tls13: bool,
    /// The TLS 1.2 suites to offer, by their IANA names; none stands for all.
    pub cipher_suites: Vec<String>,
    /// Where certificates come from instead of `certificate` and `key`, if not from files.
    pub resolver: Option<Arc<dyn ResolvesServerCert>>,
    /// Whether HTTP/2 is offered beside HTTP/1.1.
    pub http2: bool,
}

/// HTTP/2 and HTTP/1.1, as a handshake names them. RFC 7301 §6, RFC 9113 §3.2.
pub(super) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// A handshake that is all there is: an authority looks whether a name is ours. RFC 8737.
pub(super) const ACME: &[u8] = b"acme-tls/1";

/// What clients must show. The words are Distribution's, which are Go's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing: what they show is not looked at.
    Request,
    /// Any certificate, whoever made it.
    RequireAny,
    /// One of the authorities' if any.
    VerifyIfGiven,
    /// One of the authorities'.
    RequireAndVerify,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("http.tls: {}: {problem}", path.display())]
pub struct TlsError {
    path: PathBuf,
    problem: String,
}

/// The TLS settings in force. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    loaded: Arc<Mutex<Loaded>>,
}

#[derive(Debug)]
struct Loaded {
    settings: TlsSettings,
    config: Arc<ServerConfig>,
    /// What the files were when they were last read, successfully or not.
    seen: Vec<Option<Identity>>,
}

/// By what a file is known to be another: device, inode, size, and the time of its last change.
type Identity = (u64, u64, u64, i64, i64);

impl Tls {
    pub(super) fn new(settings: TlsSettings) -> Result<Self, TlsError> {
        let loaded = Loaded::new(settings)?;
        Ok(Self {
            loaded: Arc::new(Mutex::new(loaded)),
        })
    }

    /// Goes on with other settings, if their files can be used; else nothing changes.
    pub fn reload(&self, settings: TlsSettings) -> Result<(), TlsError> {
        let new = Loaded::new(settings)?;
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// The settings for the next handshake, read again if the files have changed.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = identities(&loaded.settings);
        if loaded.seen != seen {
            // Noted before it is known to be good: what is bad is tried, and named, once.
            loaded.seen = seen;
            match load(&loaded.settings) {
                Ok(config) => {
                    loaded.config = Arc::new(config);
                    let certificate = loaded.settings.certificate.display();
                    tracing::info!(%certificate, "the TLS certificate has been read again");
                }
                Err(error) => {
                    tracing::error!(%error, "the new TLS files cannot be used: the old certificate stays");
                }
            }
        }
        Arc::clone(&loaded.config)
    }
}

impl Loaded {
    fn new(settings: TlsSettings) -> Result<Self, TlsError> {
        let seen = identities(&settings);
        let config = Arc::new(load(&settings)?);
        Ok(Self {
            settings,
            config,
            seen,
        })
    }
}

fn identities(settings: &TlsSettings) -> Vec<Option<Identity>> {
    let own = [&settings.certificate, &settings.key];
    let identity = |path: &PathBuf| {
        let found = path.metadata().ok()?;
        Some((
            found.dev(),
            found.ino(),
            found.size(),
            found.mtime(),
            found.mtime_nsec(),
        ))
    };
    own.into_iter()
        .chain(&settings.client_cas)
        .map(identity)
        .collect()
}

fn load(settings: &TlsSettings) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(provider(&settings.cipher_suites));
    let versions: &[&rustls::SupportedProtocolVersion] = if settings.only_tls13 {
        &[&rustls::version::TLS13]
    } else {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| failed(&settings.certificate, error.to_string()))?;
    let builder = match verifier(settings, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = match &settings.resolver {
        Some(resolver) => builder.with_cert_resolver(Arc::clone(resolver)),
        None => with_files(builder, settings)?,
    };
    config.alpn_protocols = protocols(settings);
    Ok(config)
}

fn with_files(
    builder: ConfigBuilder<ServerConfig, WantsServerCert>,
    settings: &TlsSettings,
) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&settings.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key).map_err(|error| {
        let problem = format!("no private key: {error} (it must be PEM, and readable for larder)");
        failed(&settings.key, problem)
    })?;
    builder.with_single_cert(chain, key).map_err(|error| {
        let problem = format!("cannot be used with {}: {error}", settings.key.display());
        failed(&settings.certificate, problem)
    })
}

/// What a client may choose from, the preferred first.
fn protocols(settings: &TlsSettings) -> Vec<Vec<u8>> {
    let http2 = settings.http2.then_some(HTTP2);
    let acme = settings.resolver.is_some().then_some(ACME);
    http2
        .into_iter()
        .chain([HTTP1])
        .chain(acme)
        .map(<[u8]>::to_vec)
        .collect()
}

fn provider(suites: &[String]) -> CryptoProvider {
    let mut provider = ring::default_provider();
    let is_wanted = |suite: &rustls::SupportedCipherSuite| {
        let name = suite.suite().as_str().unwrap_or_default();
        suite.tls13().is_some() || suites.iter().any(|wanted| wanted == name)
    };
    if !suites.is_empty() {
        provider.cipher_suites.retain(is_wanted);
    }
    provider
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(path, error.to_string()))?;
    if read.is_empty() {
        let problem = "no certificate in it: it must be PEM, with BEGIN CERTIFICATE";
        return Err(failed(path, problem.to_owned()));
    }
    Ok(read)
}

fn failed(path: &Path, problem: String) -> TlsError {
    TlsError {
        path: path.to_owned(),
        problem,
    }
}

fn verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let Some(first) = settings.client_cas.first() else {
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    for path in &settings.client_cas {
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| failed(path, error.to_string()))?;
        }
    }
    let usual = |may_be_absent: bool| {
        let builder = WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots.clone()),
            Arc::clone(provider),
        );
        let builder = if may_be_absent {
            builder.allow_unauthenticated()
        } else {
            builder
        };
        let built = builder.build();
        built.map_err(|error| failed(first, error.to_string()))
    };
    Ok(match settings.client_auth {
        ClientAuth::Request => None,
        ClientAuth::RequireAny => Some(Arc::new(AnyCertificate(usual(false)?))),
        ClientAuth::VerifyIfGiven => Some(usual(true)?),
        ClientAuth::RequireAndVerify => Some(usual(false)?),
    })
}

/// Takes every certificate whose key its bearer has: `require-any-client-cert`.
#[derive(Debug)]
struct AnyCertificate(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
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
