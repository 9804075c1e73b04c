//! Tokens of a token service: JSON Web Tokens, RFC 7519, with Docker's claims.
//!
//! Pure but for the reading of keys at the start. A token is refused before anything of it is
//! verified if it is too long, and before anything of it is believed if its signature is not that of
//! a trusted key. At most one chain of certificates and one signature are verified for a token.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::AccessError;
use super::json::strict;
use super::keys::{Algorithm, Jwk, Named, TrustedKeys};
use super::settings::{TokenSettings, Wanted};

/// Longer tokens are not looked at. One for a hundred repositories has about 10 KiB.
pub const LONGEST: usize = 16 * 1024;
/// By so much the token service's clock may be off. Distribution's value.
const LEEWAY: f64 = 60.0;

/// Why a token is not good; for the log, no client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Over [`LONGEST`].
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
    /// Not three parts, not base64url, not JSON, a name twice, or a claim of the wrong kind.
    #[error("it is malformed")]
    Malformed,
    /// An algorithm that is unknown, `none`, or not among those that are set.
    #[error("its algorithm is not allowed")]
    Algorithm,
    /// It names no key, or none that is trusted.
    #[error("its key is not trusted")]
    Key,
    /// It was not signed with the key that it names.
    #[error("its signature is wrong")]
    Signature,
    /// Somebody else's.
    #[error("its issuer is not auth.token.issuer")]
    Issuer,
    /// For somebody else.
    #[error("its audience is not auth.token.service")]
    Audience,
    /// Too old, or without an end.
    #[error("it has expired")]
    Expired,
    /// Too new.
    #[error("it is not good yet")]
    NotYet,
}

/// What a good token says.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who has it, if it says so.
    pub subject: Option<String>,
    /// What it opens.
    pub access: Vec<Entry>,
}

/// One resource that a token opens.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// `repository` or `registry`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Which one.
    #[serde(default)]
    pub name: String,
    /// `pull`, `push`, `delete`, or `*` for all of them.
    #[serde(default, deserialize_with = "null_is_nothing")]
    pub actions: Vec<String>,
}

impl Grant {
    /// Whether the token alone opens that.
    pub fn allows(&self, wanted: &Wanted<'_>) -> bool {
        let (kind, name, action) = match *wanted {
            Wanted::Repository(name, action) => ("repository", name, action.as_str()),
            Wanted::Catalog => ("registry", "catalog", "*"),
        };
        self.access.iter().any(|entry| {
            let given = entry
                .actions
                .iter()
                .any(|given| given == action || given == "*");
            entry.kind == kind && entry.name == name && given
        })
    }

    /// Whether it opens that with some repository.
    pub fn allows_somewhere(&self, action: &str) -> bool {
        let mut repositories = self.access.iter().filter(|it| it.kind == "repository");
        repositories.any(|entry| {
            let mut given = entry.actions.iter();
            given.any(|given| given == action || given == "*")
        })
    }
}

/// Go writes an empty list as `null`.
fn null_is_nothing<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    jwk: Option<Jwk>,
    x5c: Option<Vec<String>>,
    /// Extensions that must be understood. None are.
    crit: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    iss: String,
    aud: Option<Audience>,
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(default, deserialize_with = "null_is_nothing")]
    access: Vec<Entry>,
}

/// RFC 7519 §4.1.3.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn includes(&self, service: &str) -> bool {
        match self {
            Self::One(one) => one == service,
            Self::Several(several) => several.iter().any(|one| one == service),
        }
    }
}

/// Tells good tokens from others.
pub struct Verifier {
    issuer: String,
    service: String,
    algorithms: Vec<Algorithm>,
    keys: TrustedKeys,
}

impl Verifier {
    /// Reads the keys. Those that larder cannot use are skipped and named; it is an error if none is
    /// left.
    pub fn new(settings: &TokenSettings) -> Result<Self, AccessError> {
        let mut keys = TrustedKeys::default();
        if settings.root_cert_bundle.is_none() && settings.jwks.is_none() {
            return Err(AccessError::NoKeys);
        }
        for (key, path, read) in [
            (
                "rootcertbundle",
                &settings.root_cert_bundle,
                read_bundle as fn(&Path, &mut _) -> _,
            ),
            ("jwks", &settings.jwks, read_jwks),
        ] {
            if let Some(path) = path {
                read(path, &mut keys).map_err(|what: String| AccessError::Keys {
                    key,
                    path: path.clone(),
                    what,
                })?;
            }
        }
        Ok(Self {
            issuer: settings.issuer.clone(),
            service: settings.service.clone(),
            algorithms: algorithms(&settings.signing_algorithms)?,
            keys,
        })
    }

    /// What a token says, if it is good.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Grant, Flaw> {
        if token.len() > LONGEST {
            return Err(Flaw::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Flaw::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Flaw::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Flaw::Malformed);
        let (header, claims, signature) = (decode(header)?, decode(claims)?, decode(signature)?);
        let header: Header = strict(&header).ok_or(Flaw::Malformed)?;
        if header.crit.is_some() {
            return Err(Flaw::Malformed);
        }
        let algorithm = Algorithm::named(&header.alg).ok_or(Flaw::Algorithm)?;
        if !self.algorithms.contains(&algorithm) {
            return Err(Flaw::Algorithm);
        }
        let named = Named {
            x5c: header.x5c.as_deref(),
            jwk: header.jwk.as_ref(),
            kid: header.kid.as_deref(),
        };
        let keys = self.keys.select(&named, now)?;
        let text = signed.as_bytes();
        if !keys
            .iter()
            .any(|key| key.verifies(algorithm, text, &signature))
        {
            return Err(Flaw::Signature);
        }
        self.check(strict(&claims).ok_or(Flaw::Malformed)?, now)
    }

    fn check(&self, claims: Claims, now: SystemTime) -> Result<Grant, Flaw> {
        if claims.iss != self.issuer {
            return Err(Flaw::Issuer);
        }
        if !claims
            .aud
            .is_some_and(|audience| audience.includes(&self.service))
        {
            return Err(Flaw::Audience);
        }
        let now = now
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        // A token without an end is refused by Distribution too.
        if claims.exp.is_none_or(|end| now > end + LEEWAY) {
            return Err(Flaw::Expired);
        }
        if claims.nbf.is_some_and(|start| now < start - LEEWAY) {
            return Err(Flaw::NotYet);
        }
        Ok(Grant {
            subject: claims.sub.filter(|subject| !subject.is_empty()),
            access: claims.access,
        })
    }
}

fn algorithms(names: &[String]) -> Result<Vec<Algorithm>, AccessError> {
    let mut algorithms = Vec::new();
    for name in names {
        match Algorithm::named(name) {
            Some(algorithm) => algorithms.push(algorithm),
            // Distribution knows it, so that it may stand in a file that is right.
            None if name == "ES512" => {
                tracing::warn!(
                    "auth.token.signingalgorithms: ES512 is not supported, and left out"
                );
            }
            None => return Err(AccessError::Algorithm(name.clone())),
        }
    }
    match (algorithms.is_empty(), names.first()) {
        (true, None) => Ok(Algorithm::ALL.map(|(_, algorithm)| algorithm).to_vec()),
        (true, Some(name)) => Err(AccessError::Algorithm(name.clone())),
        (false, _) => Ok(algorithms),
    }
}

fn read_bundle(path: &Path, keys: &mut TrustedKeys) -> Result<(), String> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    let mut found = TrustedKeys::default();
    for (index, certificate) in certificates.enumerate() {
        let certificate = certificate.map_err(|error| error.to_string())?;
        if let Err(what) = found.add_certificate(certificate.clone()) {
            let (number, path) = (index + 1, path.display());
            tracing::warn!(
                "auth.token.rootcertbundle: {path}: certificate {number} is skipped: {what}"
            );
        } else {
            keys.add_certificate(certificate)?;
        }
    }
    if found.is_empty() {
        return Err(
            "no certificate that can be used in it: it must be PEM, with BEGIN CERTIFICATE"
                .to_owned(),
        );
    }
    Ok(())
}

fn read_jwks(path: &Path, keys: &mut TrustedKeys) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Box<RawValue>>,
    }
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let set: Set = serde_json::from_slice(&text).map_err(|error| {
        format!(
            "it is not JSON with a list of keys, see line {}",
            error.line()
        )
    })?;
    let mut usable = 0;
    for (index, key) in set.keys.iter().enumerate() {
        let added = match strict::<Jwk>(key.get().as_bytes()) {
            Some(jwk) => keys.add_jwk(&jwk),
            None => Err("it is malformed"),
        };
        match added {
            Ok(()) => usable += 1,
            Err(what) => {
                let (number, path) = (index + 1, path.display());
                tracing::warn!("auth.token.jwks: {path}: key {number} is skipped: {what}");
            }
        }
    }
    if usable == 0 {
        return Err("no key that can be used in it".to_owned());
    }
    Ok(())
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests make and break files as they like"
)]
mod tests {
    use super::super::tests::signer::{Kind, Signer, pem};
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::time::Duration;

    const NOW: u64 = 1_800_000_000;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn base64(bytes: &[u8]) -> String {
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }

    fn claims() -> Value {
        json!({ "iss": "issuer", "aud": "registry", "exp": NOW + 300, "sub": "ann" })
    }

    fn settings() -> TokenSettings {
        TokenSettings {
            service: "registry".to_owned(),
            issuer: "issuer".to_owned(),
            ..TokenSettings::default()
        }
    }

    /// Trusts keys of a JWKS file and certificates of a bundle, as far as there are any.
    fn verifier(jwks: &[Value], bundle: &[Vec<u8>]) -> Verifier {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = settings();
        if !jwks.is_empty() {
            let path = directory.path().join("jwks.json");
            std::fs::write(&path, json!({ "keys": jwks }).to_string()).unwrap();
            settings.jwks = Some(path);
        }
        if !bundle.is_empty() {
            let path = directory.path().join("bundle.pem");
            let text: String = bundle.iter().map(|certificate| pem(certificate)).collect();
            std::fs::write(&path, text).unwrap();
            settings.root_cert_bundle = Some(path);
        }
        Verifier::new(&settings).unwrap()
    }

    fn jwk(signer: &Signer, id: &str) -> Value {
        let mut key = signer.jwk();
        key["kid"] = id.into();
        key
    }

    const KINDS: [Kind; 3] = [Kind::Rs256, Kind::Es256, Kind::EdDsa];

    #[test]
    fn a_key_is_named_in_every_way() {
        for kind in KINDS {
            let (signer, stranger) = (Signer::new(kind), Signer::new(Kind::Es256));
            let certificate = signer.certificate(true);
            let verifier = verifier(&[jwk(&signer, "one")], std::slice::from_ref(&certificate));
            for header in [
                json!({ "kid": "one" }),
                json!({ "kid": signer.thumbprint() }),
                json!({ "kid": signer.libtrust_id() }),
                json!({ "jwk": signer.jwk() }),
                json!({ "jwk": jwk(&signer, "whatever"), "kid": "unknown" }),
                json!({ "x5c": [base64(&certificate)] }),
                json!({ "jwk": { "x5c": [base64(&certificate)], "kty": "" } }),
            ] {
                let mut header = header;
                if header["jwk"]["kty"] == "" {
                    let chain = header["jwk"]["x5c"].clone();
                    header["jwk"] = signer.jwk();
                    header["jwk"]["x5c"] = chain;
                }
                let grant = verifier.verify(&signer.sign(header.clone(), &claims()), now());
                let grant = grant.unwrap_or_else(|flaw| panic!("{kind:?} {header}: {flaw}"));
                assert_eq!(grant.subject.as_deref(), Some("ann"));
                // The same words over another's signature.
                let forged = verifier.verify(&stranger.sign(header.clone(), &claims()), now());
                assert_eq!(forged, Err(Flaw::Signature), "{kind:?} {header}");
            }
        }
    }

    #[test]
    fn a_chain_ends_at_the_bundle() {
        let (root, signer) = (Signer::new(Kind::Es256), Signer::new(Kind::EdDsa));
        let (stranger, leaf) = (Signer::new(Kind::Es256), root.certify(&signer));
        let verifier = verifier(&[], &[root.certificate(true)]);
        let verdict = |signer: &Signer, chain: &[&[u8]], now: SystemTime| {
            let chain: Vec<_> = chain
                .iter()
                .map(|certificate| base64(certificate))
                .collect();
            verifier
                .verify(&signer.sign(json!({ "x5c": chain }), &claims()), now)
                .map(drop)
        };
        assert_eq!(verdict(&signer, &[&leaf], now()), Ok(()));
        assert_eq!(
            verdict(&signer, &[&leaf, &root.certificate(true)], now()),
            Ok(())
        );
        // Of an authority of the same name.
        let forged = stranger.certify(&signer);
        assert_eq!(verdict(&signer, &[&forged], now()), Err(Flaw::Key));
        let chain = [&forged as &[u8], &stranger.certificate(true)];
        assert_eq!(verdict(&signer, &chain, now()), Err(Flaw::Key));
        assert_eq!(
            verdict(&stranger, &[&stranger.certificate(true)], now()),
            Err(Flaw::Key)
        );
        assert_eq!(verdict(&stranger, &[&leaf], now()), Err(Flaw::Signature));
        assert_eq!(
            verdict(&signer, &[b"no certificate"], now()),
            Err(Flaw::Key)
        );
        assert_eq!(
            verdict(&signer, &[leaf.as_slice(); 9], now()),
            Err(Flaw::Key)
        );
        // Before the certificates are good, and so before the claims are looked at.
        let early = UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(verdict(&signer, &[&leaf], early), Err(Flaw::Key));
        assert_eq!(
            verdict(&root, &[&root.certificate(true)], early),
            Err(Flaw::Key)
        );
    }

    #[test]
    fn a_foreign_key_with_a_trusted_identifier_is_foreign() {
        let (signer, foreign) = (Signer::new(Kind::Es256), Signer::new(Kind::Es256));
        let certificate = signer.certificate(true);
        let verifier = verifier(&[jwk(&signer, "one")], std::slice::from_ref(&certificate));
        let mut chained = foreign.jwk();
        chained["x5c"] = json!([base64(&certificate)]);
        for header in [
            json!({ "jwk": jwk(&foreign, "one"), "kid": "one" }),
            json!({ "jwk": jwk(&foreign, &signer.thumbprint()) }),
            json!({ "jwk": jwk(&foreign, &signer.libtrust_id()) }),
            json!({ "jwk": chained }),
            json!({ "kid": "two" }),
            json!({ "kid": foreign.thumbprint() }),
            json!({}),
        ] {
            let token = foreign.sign(header.clone(), &claims());
            assert_eq!(verifier.verify(&token, now()), Err(Flaw::Key), "{header}");
        }
    }

    #[test]
    fn no_algorithm_is_confused_with_another() {
        let signer = Signer::new(Kind::Rs256);
        let verifier = verifier(&[jwk(&signer, "one")], &[signer.certificate(true)]);
        let claims = claims().to_string();
        let unsigned = |alg: &str| {
            let header = json!({ "alg": alg, "kid": "one" }).to_string();
            let token = signer.sign_text(&header, &claims);
            token.rsplit_once('.').unwrap().0.to_owned()
        };
        for alg in ["none", "None", "", "HS1", "ES512", "rs256"] {
            let token = format!("{}.", unsigned(alg));
            assert_eq!(
                verifier.verify(&token, now()),
                Err(Flaw::Algorithm),
                "{alg}"
            );
        }
        // The public key, in the forms in which it lies about, as the secret of an HMAC.
        let n = URL_SAFE_NO_PAD
            .decode(signer.jwk()["n"].as_str().unwrap())
            .unwrap();
        let pem = pem(&signer.certificate(true));
        for secret in [n.as_slice(), pem.as_bytes(), b""] {
            let text = unsigned("HS256");
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
            let tag = ring::hmac::sign(&key, text.as_bytes());
            let token = format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag));
            assert_eq!(verifier.verify(&token, now()), Err(Flaw::Signature));
        }
        // A true signature under the name of another algorithm.
        for alg in ["RS512", "PS256", "ES256", "EdDSA"] {
            let header = json!({ "alg": alg, "kid": "one" }).to_string();
            let token = signer.sign_text(&header, &claims);
            assert_eq!(
                verifier.verify(&token, now()),
                Err(Flaw::Signature),
                "{alg}"
            );
        }
    }

    #[test]
    fn a_shared_secret_counts_only_from_the_file() {
        let secret = [7; 32];
        let oct =
            |id: &str| json!({ "kty": "oct", "kid": id, "k": URL_SAFE_NO_PAD.encode(secret) });
        let verifier = verifier(&[oct("one")], &[]);
        let token = |header: Value| {
            let mut header = header;
            header["alg"] = "HS256".into();
            let token =
                Signer::new(Kind::EdDsa).sign_text(&header.to_string(), &claims().to_string());
            let text = token.rsplit_once('.').unwrap().0;
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
            let tag = ring::hmac::sign(&key, text.as_bytes());
            format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
        };
        assert!(
            verifier
                .verify(&token(json!({ "kid": "one" })), now())
                .is_ok()
        );
        let embedded = verifier.verify(&token(json!({ "jwk": oct("one") })), now());
        assert_eq!(embedded, Err(Flaw::Key));
    }

    #[test]
    fn claims_are_checked_as_distribution_checks_them() {
        let signer = Signer::new(Kind::EdDsa);
        let verifier = verifier(&[jwk(&signer, "one")], &[]);
        for (name, value, expected) in [
            ("iss", json!("other"), Some(Flaw::Issuer)),
            ("iss", json!("Issuer"), Some(Flaw::Issuer)),
            ("iss", json!(null), Some(Flaw::Malformed)),
            ("aud", json!("other"), Some(Flaw::Audience)),
            ("aud", json!(["other", "registry"]), None),
            ("aud", json!([]), Some(Flaw::Audience)),
            ("aud", json!(null), Some(Flaw::Audience)),
            ("aud", json!(5), Some(Flaw::Malformed)),
            ("exp", json!(NOW - 60), None),
            ("exp", json!(NOW - 61), Some(Flaw::Expired)),
            ("exp", json!(1.9e9), None),
            ("exp", json!(null), Some(Flaw::Expired)),
            ("exp", json!("1900000000"), Some(Flaw::Malformed)),
            ("exp", json!(-1), Some(Flaw::Expired)),
            ("nbf", json!(NOW + 60), None),
            ("nbf", json!(NOW + 61), Some(Flaw::NotYet)),
            ("nbf", json!(0), None),
            ("access", json!(null), None),
            (
                "access",
                json!([{ "type": "repository", "name": "a", "actions": null }]),
                None,
            ),
            ("access", json!("all"), Some(Flaw::Malformed)),
            ("sub", json!(""), None),
        ] {
            let mut claims = claims();
            claims[name] = value.clone();
            let verdict = verifier.verify(&signer.sign(json!({ "kid": "one" }), &claims), now());
            assert_eq!(verdict.err(), expected, "{name} {value}");
        }
    }

    #[test]
    fn malformed_tokens_are_refused() {
        let signer = Signer::new(Kind::EdDsa);
        let verifier = verifier(&[jwk(&signer, "one")], &[]);
        let header = r#"{"alg":"EdDSA","kid":"one"}"#;
        let claims = claims().to_string();
        let good = signer.sign_text(header, &claims);
        assert!(verifier.verify(&good, now()).is_ok());
        let twice = claims.replacen('{', r#"{"iss":"issuer","#, 1);
        for token in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            "a.b".to_owned(),
            format!("{good}="),
            format!("{good}.x"),
            format!(" {good}"),
            good.replace('.', ".."),
            signer.sign_text("{", &claims),
            signer.sign_text("[]", &claims),
            signer.sign_text(r#"{"alg":"EdDSA","alg":"EdDSA","kid":"one"}"#, &claims),
            signer.sign_text(r#"{"alg":"EdDSA","kid":"one","crit":["x"]}"#, &claims),
            signer.sign_text(header, "{}x"),
            signer.sign_text(header, &twice),
            signer.sign_text(header, &claims.replacen('{', r#"{"x":1,"x":2,"#, 1)),
            signer.sign_text(
                header,
                &claims.replacen('{', r#"{"access":[{"type":"a","type":"b"}],"#, 1),
            ),
        ] {
            assert_eq!(
                verifier.verify(&token, now()),
                Err(Flaw::Malformed),
                "{token}"
            );
        }
        let long = claims.replacen('{', &format!(r#"{{"x":"{}","#, "x".repeat(LONGEST)), 1);
        let token = signer.sign_text(header, &long);
        assert_eq!(verifier.verify(&token, now()), Err(Flaw::TooLong));
    }

    #[test]
    fn only_the_algorithms_that_are_set_are_taken() {
        let signer = Signer::new(Kind::EdDsa);
        let mut verifier = verifier(&[jwk(&signer, "one")], &[]);
        let token = signer.sign(json!({ "kid": "one" }), &claims());
        verifier.algorithms = algorithms(&["ES256".to_owned(), "ES512".to_owned()]).unwrap();
        assert_eq!(verifier.verify(&token, now()), Err(Flaw::Algorithm));
        verifier.algorithms = algorithms(&["EdDSA".to_owned()]).unwrap();
        assert!(verifier.verify(&token, now()).is_ok());
    }

    #[test]
    fn one_key_that_is_of_no_use_does_not_spoil_the_file() {
        let signer = Signer::new(Kind::EdDsa);
        let useless = json!({ "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA" });
        let verifier = verifier(&[useless.clone(), json!(5), jwk(&signer, "one")], &[]);
        let token = signer.sign(json!({ "kid": "one" }), &claims());
        assert!(verifier.verify(&token, now()).is_ok());
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in [
            json!({ "keys": [useless] }).to_string(),
            "{".to_owned(),
            String::new(),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let mut keys = TrustedKeys::default();
            assert!(read_jwks(file.path(), &mut keys).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_no_token(
            text in "[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}|\\PC*",
        ) {
            let signer = Signer::new(Kind::EdDsa);
            let verifier = verifier(&[jwk(&signer, "one")], &[]);
            prop_assert!(verifier.verify(&text, now()).is_err());
        }

        #[test]
        fn any_change_makes_a_token_worthless(at in 0_usize..200, bit in 0_u32..7) {
            let signer = Signer::new(Kind::EdDsa);
            let verifier = verifier(&[jwk(&signer, "one")], &[]);
            let token = signer.sign(json!({ "kid": "one" }), &claims());
            let mut changed = token.into_bytes();
            let at = at % changed.len();
            changed[at] ^= 1 << bit;
            prop_assert!(verifier.verify(&String::from_utf8(changed).unwrap(), now()).is_err());
        }
    }
}
