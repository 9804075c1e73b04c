//! TLS towards upstreams: whom to trust.
//!
//! The machine's roots are read once, at the first request to any upstream, and shared: a process
//! that only serves its cache never pays for them. An upstream's own `ca` is added to them for
//! that upstream alone. There is no switch that turns verification off.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::outbound::system_roots;

/// Reads a PEM file of certificates.
pub(super) fn read_ca(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("no certificate in it: it must be PEM, with BEGIN CERTIFICATE".to_owned());
    }
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| error.to_string())?;
    }
    Ok(certificates)
}

/// How to speak TLS with an upstream that is also trusted by one of `own`.
pub(super) fn client_config(
    own: &[CertificateDer<'static>],
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    if own.is_empty() {
        return Ok(builder
            .with_root_certificates(system_roots())
            .with_no_client_auth());
    }
    let verifier = Verifier::new(&system_roots(), own, provider)?;
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(builder.with_no_client_auth())
}

/// The usual verification, and one thing more: a certificate that *is* the configured one.
///
/// Docker's own guide to a private registry makes a self-signed certificate, which is its own
/// authority (`openssl req -x509`), and Docker accepts it. webpki refuses to see an authority in
/// the place of a server (`CaUsedAsEndEntity`), although nothing could be more trusted.
#[derive(Debug)]
struct Verifier {
    usual: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(
        system: &RootCertStore,
        own: &[CertificateDer<'static>],
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, rustls::Error> {
        let mut roots = system.clone();
        for certificate in own {
            roots.add(certificate.clone())?;
        }
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self {
            usual,
            own: own.to_vec(),
        })
    }
}

/// webpki's type is not among our dependencies; its name is. It checks the dates before this.
fn is_ca_as_server(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(CertificateError::Other(other))
            if format!("{:?}", other.0) == "CaUsedAsEndEntity"
    )
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self.usual.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verdict {
            Err(error) if is_ca_as_server(&error) && self.own.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::time::Duration;

    // Valid from 2020 to 2120, for localhost. Made with `openssl ca`; the keys are not needed.
    const SELF_SIGNED: &str = "-----BEGIN CERTIFICATE-----
MIIBaDCCAQ6gAwIBAgICEAAwCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJbG9jYWxo
b3N0MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAUMRIwEAYDVQQD
DAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARrYNJktYIiXpxM
MSqvmcmvOGNUUtxNUnzMFdcuw8es1Vgsw4I+ibOUD9jFbVsMpzMFQ7tG7/FO6JQg
HQ9V6Atuo04wTDAPBgNVHRMBAf8EBTADAQH/MBoGA1UdEQQTMBGCCWxvY2FsaG9z
dIcEfwAAATAdBgNVHQ4EFgQUb/gO7Hui06y1YhMsEceoxzvnSqkwCgYIKoZIzj0E
AwIDSAAwRQIgcb1VdHLragfa/0MzwdRnbI8XxHteek2aoaIO+K48ySMCIQDk/n9n
EYg2Obdkrlr4+1lelbIjA5mQD7WAfVTM5amt9w==
-----END CERTIFICATE-----";
    const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBYzCCAQqgAwIBAgICEAEwCgYIKoZIzj0EAwIwIDEeMBwGA1UEAwwVbGFyZGVy
IHRlc3QgYXV0aG9yaXR5MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAw
WjAgMR4wHAYDVQQDDBVsYXJkZXIgdGVzdCBhdXRob3JpdHkwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAATBuDrg8czHOzbqhi5MtYjR4MX9Er8HeEZT/6eWMKFSt/mH
e4aeLL9LEqep4XcrQsAr6rXLCHTQL9fD6fZNNHcgozIwMDAPBgNVHRMBAf8EBTAD
AQH/MB0GA1UdDgQWBBT5oVMvB+XqvaADKsmS8SX8LfbINzAKBggqhkjOPQQDAgNH
ADBEAiAFk6mB8uBh86oTQGYuZL4f/AY0pqCn1DrB3CBi1yPaWgIgAfbbeAlN/MYi
Z9ZiBcJsZzP0qy2rV8E9M9rEnSuxn4U=
-----END CERTIFICATE-----";
    const SIGNED: &str = "-----BEGIN CERTIFICATE-----
MIIBjjCCATWgAwIBAgICEAIwCgYIKoZIzj0EAwIwIDEeMBwGA1UEAwwVbGFyZGVy
IHRlc3QgYXV0aG9yaXR5MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAw
WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AASxInY/Z3186ee9zXkKqMGKGO596cCD4tfBNgWH8jfJ/FlF0oG+F/IaqUxOmb6W
Ud4a+lEibz4PQsjiam0RwMt6o2kwZzAJBgNVHRMEAjAAMBoGA1UdEQQTMBGCCWxv
Y2FsaG9zdIcEfwAAATAdBgNVHQ4EFgQU4sSTbupCx4QtYraYGwiPk0A/yXkwHwYD
VR0jBBgwFoAU+aFTLwfl6r2gAyrJkvEl/C32yDcwCgYIKoZIzj0EAwIDRwAwRAIg
Xe0+JabdehVtkbXUaTUagU7s+uCS2qYMKit/6xTGt5QCICFD17HfntpEcrXIF5mW
B3J65fj5bUlG5vV1NUlBNaeO
-----END CERTIFICATE-----";

    fn certificate(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    fn verdict(
        trusted: &str,
        shown: &str,
        host: &'static str,
        year: u64,
    ) -> Result<(), rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let own = [certificate(trusted)];
        let verifier = Verifier::new(&RootCertStore::empty(), &own, provider)?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 365 * 86_400));
        let name = ServerName::try_from(host).unwrap();
        let verdict = verifier.verify_server_cert(&certificate(shown), &[], &name, &[], now);
        verdict.map(drop)
    }

    #[test]
    fn a_configured_authority_is_trusted() {
        assert_eq!(verdict(AUTHORITY, SIGNED, "localhost", 2030), Ok(()));
        assert_eq!(verdict(AUTHORITY, SIGNED, "127.0.0.1", 2030), Ok(()));
        for (trusted, shown, host, year) in [
            (AUTHORITY, SIGNED, "elsewhere", 2030),
            (AUTHORITY, SIGNED, "localhost", 2019),
            (AUTHORITY, SIGNED, "localhost", 2125),
            (AUTHORITY, SELF_SIGNED, "localhost", 2030),
            (SELF_SIGNED, SIGNED, "localhost", 2030),
        ] {
            assert!(
                verdict(trusted, shown, host, year).is_err(),
                "{host} {year}"
            );
        }
    }

    #[test]
    fn a_self_signed_certificate_is_its_own_authority() {
        assert_eq!(verdict(SELF_SIGNED, SELF_SIGNED, "localhost", 2030), Ok(()));
        for (shown, host, year) in [
            (SELF_SIGNED, "elsewhere", 2030),
            (SELF_SIGNED, "localhost", 2019),
            (SELF_SIGNED, "localhost", 2125),
            (AUTHORITY, "localhost", 2030),
        ] {
            assert!(
                verdict(SELF_SIGNED, shown, host, year).is_err(),
                "{host} {year}"
            );
        }
    }

    #[test]
    fn a_file_must_hold_certificates() {
        let read = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            read_ca(file.path()).map(|certificates| certificates.len())
        };
        assert_eq!(read(&format!("{SELF_SIGNED}\n{AUTHORITY}")), Ok(2));
        assert!(read("").unwrap_err().contains("no certificate"));
        assert!(read("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----").is_err());
        assert!(read_ca(Path::new("/nonexistent/ca.pem")).is_err());
    }
}
