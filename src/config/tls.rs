//! `http.tls`: HTTPS.
//!
//! Owns the words of Distribution (Go) for versions, cipher suites and client certificates. The files are
//! not opened here.

use std::path::PathBuf;

use url::Url;

use super::Level;
use super::notice::ConfigError;
use super::reader::{Field, Section, quoted};

/// HTTPS instead of HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `certificate`: a PEM file with the certificate and those between it and the root. Empty, like `key`, where
    /// there is `letsencrypt`.
    pub certificate: PathBuf,
    /// `key`: a PEM file with the private key.
    pub key: PathBuf,
    /// `clientcas`: PEM files with the roots that clients' certificates are checked against. Empty: none is asked for.
    pub client_cas: Vec<PathBuf>,
    /// `clientauth`: what is asked of clients; without `client_cas` it means nothing.
    pub client_auth: ClientAuth,
    /// `minimumtls`: the oldest version that is spoken (default 1.2).
    pub minimum: TlsVersion,
    /// `ciphersuites`: what may be used with TLS 1.2. Empty: all that there are. Those of 1.3 cannot be chosen.
    pub cipher_suites: Vec<CipherSuite>,
    /// `letsencrypt`: a certificate that larder gets by itself.
    pub lets_encrypt: Option<LetsEncrypt>,
}

/// `http.tls.letsencrypt`: whom to ask for a certificate, and for which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetsEncrypt {
    /// `cachefile`: where account, certificate and key are kept (default `acme.json` in the data directory).
    pub cache: Option<PathBuf>,
    /// `email`: where the authority writes to (default none).
    pub email: Option<String>,
    /// `hosts`: the names of this registry, at least one.
    pub hosts: Vec<String>,
    /// `directoryurl`: any authority that speaks ACME (default Let's Encrypt's).
    pub directory: Url,
}

/// What is asked of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// `request-client-cert`: it may show any certificate, or none.
    Request,
    /// `require-any-client-cert`: it must show one, whoever issued it.
    RequireAny,
    /// `verify-client-cert-if-given`: it may show one of those issued by `client_cas`, or none.
    VerifyIfGiven,
    /// `require-and-verify-client-cert`: it must show one issued by `client_cas`. The default.
    RequireAndVerify,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246, with the cipher suites that are still good.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// A cipher suite of TLS 1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all there is to say")]
pub enum CipherSuite {
    EcdheEcdsaAes128GcmSha256,
    EcdheEcdsaAes256GcmSha384,
    EcdheEcdsaChaCha20Poly1305,
    EcdheRsaAes128GcmSha256,
    EcdheRsaAes256GcmSha384,
    EcdheRsaChaCha20Poly1305,
}

pub(super) const CLIENT_AUTHS: [(&str, ClientAuth); 4] = [
    ("request-client-cert", ClientAuth::Request),
    ("require-any-client-cert", ClientAuth::RequireAny),
    ("verify-client-cert-if-given", ClientAuth::VerifyIfGiven),
    (
        "require-and-verify-client-cert",
        ClientAuth::RequireAndVerify,
    ),
];

pub(super) const VERSIONS: [(&str, TlsVersion); 2] =
    [("tls1.2", TlsVersion::Tls12), ("tls1.3", TlsVersion::Tls13)];

/// Go's names.
pub(super) const CIPHER_SUITES: [(&str, CipherSuite); 6] = [
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::EcdheEcdsaAes128GcmSha256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::EcdheEcdsaAes256GcmSha384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::EcdheEcdsaChaCha20Poly1305,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::EcdheRsaAes128GcmSha256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::EcdheRsaAes256GcmSha384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::EcdheRsaChaCha20Poly1305,
    ),
];

/// Where Let's Encrypt is.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

const OF_TLS_13: [&str; 3] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];

/// Reads `http.tls`.
///
/// Whoever writes anything of it wants HTTPS: answering in the clear because a part is missing would
/// be worse than not starting.
pub(super) fn read(mut section: Section<'_>) -> Result<Option<Tls>, ConfigError> {
    if section.is_blank() {
        return Ok(None);
    }
    let lets_encrypt = lets_encrypt(&mut section)?;
    let (certificate, key) = if lets_encrypt.is_some() {
        if section.has("certificate") || section.has("key") {
            return Err(
                section.error("there is letsencrypt, and certificate or key; write one of the two")
            );
        }
        (PathBuf::new(), PathBuf::new())
    } else {
        let certificate = section.required("certificate", "/etc/larder/cert.pem", Field::path)?;
        (
            certificate,
            section.required("key", "/etc/larder/key.pem", Field::path)?,
        )
    };
    let cas = section.get("clientcas", Field::texts)?.unwrap_or_default();
    let client_cas: Vec<PathBuf> = cas.into_iter().map(PathBuf::from).collect();
    let client_auth = section.get("clientauth", |field| {
        let lonely = field.error(
            "without clientcas no client is asked for a certificate; write clientcas, or remove this",
        );
        let choice = field.choice(&CLIENT_AUTHS)?;
        if client_cas.is_empty() { Err(lonely) } else { Ok(choice) }
    })?;
    let minimum = section.get("minimumtls", version)?;
    let minimum = minimum.unwrap_or(TlsVersion::Tls12);
    let cipher_suites = section.get("ciphersuites", |field| cipher_suites(field, minimum))?;
    let client_auth = client_auth.unwrap_or(ClientAuth::RequireAndVerify);
    let insists = matches!(
        client_auth,
        ClientAuth::RequireAny | ClientAuth::RequireAndVerify
    );
    if lets_encrypt.is_some() && !client_cas.is_empty() && insists {
        return Err(section.error(
            "with letsencrypt the authority has to connect, and shows no certificate; write `clientauth: verify-client-cert-if-given`",
        ));
    }
    section.finish();
    Ok(Some(Tls {
        certificate,
        key,
        client_cas,
        client_auth,
        minimum,
        cipher_suites: cipher_suites.unwrap_or_default(),
        lets_encrypt,
    }))
}

/// Whoever writes a part of it wants it. Without hosts Distribution gets a certificate for any name that a
/// stranger asks for.
fn lets_encrypt(tls: &mut Section<'_>) -> Result<Option<LetsEncrypt>, ConfigError> {
    let mut section = tls.section("letsencrypt")?;
    if section.is_blank() {
        return Ok(None);
    }
    let hosts = section.required("hosts", "[registry.example.com]", |field| {
        field
            .items()
            .into_iter()
            .map(host)
            .collect::<Result<Vec<_>, _>>()
    })?;
    if hosts.is_empty() {
        return Err(section.error(
            "hosts is empty; write the names of this registry, for example [registry.example.com]",
        ));
    }
    let directory = match section.get("directoryurl", Field::url)? {
        Some(directory) => directory,
        None => Url::parse(DIRECTORY).map_err(|error| section.error(error))?,
    };
    let settings = LetsEncrypt {
        cache: section.get("cachefile", Field::path)?,
        email: section.get("email", Field::line)?,
        hosts,
        directory,
    };
    section.finish();
    Ok(Some(settings))
}

/// A name, as a certificate has it.
fn host(field: Field<'_>) -> Result<String, ConfigError> {
    let place = field.clone();
    let text = field.line()?.to_ascii_lowercase();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    if text.is_empty() || is_address || !text.bytes().all(allowed) {
        let text = quoted(&text);
        return Err(place.error(format!(
            "{text} is not a name that a certificate can be got for; write for example registry.example.com"
        )));
    }
    Ok(text)
}

fn version(field: Field<'_>) -> Result<TlsVersion, ConfigError> {
    let old = field
        .error("larder does not speak TLS 1.0 and 1.1, which are no longer safe; write tls1.2");
    match field.clone().text()?.trim() {
        "tls1.0" | "tls1.1" => Err(old),
        _ => field.choice(&VERSIONS),
    }
}

/// Those of TLS 1.3 are accepted and cannot be chosen, as in Distribution. Those of TLS 1.2 that are no
/// longer good are left out.
fn cipher_suites(field: Field<'_>, minimum: TlsVersion) -> Result<Vec<CipherSuite>, ConfigError> {
    let place = field.clone();
    let possible = || CIPHER_SUITES.map(|(name, _)| name).join(", ");
    let mut suites = Vec::new();
    let items = field.items();
    if items.is_empty() {
        return Ok(suites);
    }
    for item in items {
        let text = item.clone().text()?;
        let name = text.trim();
        // Go's older names of two.
        let matches = |known: &str| known == name || known.strip_suffix("_SHA256") == Some(name);
        if let Some((_, suite)) = CIPHER_SUITES.iter().find(|(known, _)| matches(known)) {
            suites.push(*suite);
        } else if is_weak(name) {
            item.note(Level::Warn, format!("{name} is left out: larder does not speak it, as it is weak or lacks forward secrecy"));
        } else if !OF_TLS_13.contains(&name) {
            let text = quoted(name);
            return Err(item.error(format!(
                "{text} is not a cipher suite that larder knows; possible are {}",
                possible()
            )));
        }
    }
    if suites.is_empty() && minimum < TlsVersion::Tls13 {
        return Err(place.error(format!(
            "none of these is for TLS 1.2; write `minimumtls: tls1.3` beside it, or some of {}",
            possible()
        )));
    }
    Ok(suites)
}

/// The other suites of Go: RSA key exchange, CBC, RC4 and 3DES.
fn is_weak(name: &str) -> bool {
    const OTHERS: [&str; 4] = ["_WITH_RC4_", "_WITH_3DES_", "_CBC_", "TLS_RSA_WITH_AES_"];
    let key_exchanges = ["TLS_RSA_", "TLS_ECDHE_RSA_", "TLS_ECDHE_ECDSA_"];
    key_exchanges.iter().any(|start| name.starts_with(start))
        && OTHERS.iter().any(|part| name.contains(part))
}
