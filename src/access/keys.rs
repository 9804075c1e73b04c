//! The keys whose signatures count, and which of them a token means.
//!
//! A token names its key in one of three ways: by a chain of certificates (`x5c`), by the key itself
//! (`jwk`), or by an identifier (`kid`). A chain counts if it ends at a certificate of the bundle. A
//! key counts if it *is* a trusted one, or is certified; that it claims the identifier of one means
//! nothing (CVE-2025-24976). Which algorithms a key takes follows from the key, never from the token,
//! so that no public key is ever used as the secret of an HMAC.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::time::SystemTime;
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert,
};

use super::der;
use super::jwt::Flaw;

/// What larder can verify, for messages.
pub(super) const ALGORITHMS: &str =
    "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, HS256, HS384, HS512";

/// Longer chains are nobody's.
const LONGEST_CHAIN: usize = 8;
/// RFC 7518 §3.3 asks for 2048 bits; more than 8192 take long.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

// RFC 8410, RFC 5480, RFC 8017.
const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const OID_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const OID_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const OID_P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// A signature algorithm, RFC 7518 §3.1 and RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
    Hs256,
    Hs384,
    Hs512,
}

impl Algorithm {
    pub(super) const ALL: [(&str, Self); 12] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
        ("HS256", Self::Hs256),
        ("HS384", Self::Hs384),
        ("HS512", Self::Hs512),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, algorithm)| *algorithm)
    }

    fn rsa(self) -> Option<&'static signature::RsaParameters> {
        match self {
            Self::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            _ => None,
        }
    }

    fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Self::Hs256 => Some(hmac::HMAC_SHA256),
            Self::Hs384 => Some(hmac::HMAC_SHA384),
            Self::Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }
}

/// A key in one spelling: two are the same if they are equal.
#[derive(Clone, PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Uncompressed points: 4, x, y.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    /// Only ever from a JWKS file.
    Secret(Vec<u8>),
}

/// A key, and what it is for.
#[derive(Clone)]
pub(super) struct Key {
    material: Material,
    /// If it says itself that it is for one algorithm only.
    only: Option<Algorithm>,
}

impl Key {
    fn of(material: Material) -> Self {
        Self {
            material,
            only: None,
        }
    }

    /// Reads a DER `SubjectPublicKeyInfo`.
    fn from_public_key_info(der: &[u8]) -> Option<Self> {
        let info = der::public_key_info(der)?;
        let key = info.key.to_vec();
        let material = match (info.algorithm, info.curve) {
            (OID_RSA, _) => {
                let key = der::rsa_key(info.key)?;
                rsa(key.n, key.e)?
            }
            (OID_EC, Some(OID_P256)) if key.len() == 65 && key[0] == 4 => Material::P256(key),
            (OID_EC, Some(OID_P384)) if key.len() == 97 && key[0] == 4 => Material::P384(key),
            (OID_ED25519, _) if key.len() == 32 => Material::Ed25519(key),
            _ => return None,
        };
        Some(Self::of(material))
    }

    /// Whether the key can have made a signature of that kind.
    fn takes(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384};
        let kind = match &self.material {
            Material::Rsa { .. } => algorithm.rsa().is_some(),
            Material::P256(_) => algorithm == Es256,
            Material::P384(_) => algorithm == Es384,
            Material::Ed25519(_) => algorithm == EdDsa,
            // RFC 7518 §3.2: a key is as long as the hash, or longer.
            Material::Secret(key) => algorithm
                .hmac()
                .is_some_and(|hmac| key.len() >= hmac.digest_algorithm().output_len()),
        };
        kind && self.only.is_none_or(|only| only == algorithm)
    }

    pub(super) fn verifies(&self, algorithm: Algorithm, text: &[u8], signature: &[u8]) -> bool {
        if !self.takes(algorithm) {
            return false;
        }
        let public = |kind: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(kind, key)
                .verify(text, signature)
                .is_ok()
        };
        match &self.material {
            Material::Rsa { n, e } => algorithm.rsa().is_some_and(|kind| {
                RsaPublicKeyComponents { n, e }
                    .verify(kind, text, signature)
                    .is_ok()
            }),
            Material::P256(key) => public(&signature::ECDSA_P256_SHA256_FIXED, key),
            Material::P384(key) => public(&signature::ECDSA_P384_SHA384_FIXED, key),
            Material::Ed25519(key) => public(&signature::ED25519, key),
            Material::Secret(key) => algorithm.hmac().is_some_and(|kind| {
                hmac::verify(&hmac::Key::new(kind, key), text, signature).is_ok()
            }),
        }
    }

    /// RFC 7638; a secret has none that may be told.
    fn thumbprint(&self) -> Option<String> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = |curve: &str, key: &[u8]| {
            let (x, y) = key[1..].split_at(key.len() / 2);
            let (x, y) = (encode(x), encode(y));
            format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#)
        };
        let json = match &self.material {
            Material::Rsa { n, e } => {
                format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, encode(e), encode(n))
            }
            Material::P256(key) => point("P-256", key),
            Material::P384(key) => point("P-384", key),
            Material::Ed25519(key) => {
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, encode(key))
            }
            Material::Secret(_) => return None,
        };
        Some(encode(&Sha256::digest(json)))
    }
}

fn rsa(n: &[u8], e: &[u8]) -> Option<Material> {
    let (n, e) = (
        der::without_zeros(n).to_vec(),
        der::without_zeros(e).to_vec(),
    );
    (RSA_BYTES.contains(&n.len()) && !e.is_empty()).then_some(Material::Rsa { n, e })
}

/// The identifier that Docker's libtrust gives a key: 240 bits of a hash, in groups of four letters.
fn libtrust_id(public_key_info: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let hash = Sha256::digest(public_key_info);
    let mut id = String::new();
    // Five bytes are eight letters of five bits.
    for five in hash[..30].chunks(5) {
        let bits = five
            .iter()
            .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for place in (0..8_usize).rev() {
            if place % 4 == 3 && !id.is_empty() {
                id.push(':');
            }
            let letter = usize::try_from(bits >> (5 * place) & 31).unwrap_or(0);
            id.push(char::from(LETTERS[letter]));
        }
    }
    id
}

/// A key as JSON, RFC 7517: of a JWKS file, or of the header of a token.
#[derive(Deserialize)]
pub(super) struct Jwk {
    kty: String,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    x5c: Option<Vec<String>>,
}

impl Jwk {
    /// The public part of it.
    fn public(&self) -> Option<Material> {
        let bytes = |field: &Option<String>| URL_SAFE_NO_PAD.decode(field.as_ref()?).ok();
        let point = |length: usize| {
            let (x, y) = (bytes(&self.x)?, bytes(&self.y)?);
            let whole = x.len() == length && y.len() == length;
            whole.then(|| [&[4], x.as_slice(), y.as_slice()].concat())
        };
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => rsa(&bytes(&self.n)?, &bytes(&self.e)?),
            ("EC", Some("P-256")) => point(32).map(Material::P256),
            ("EC", Some("P-384")) => point(48).map(Material::P384),
            ("OKP", Some("Ed25519")) => bytes(&self.x)
                .filter(|key| key.len() == 32)
                .map(Material::Ed25519),
            _ => None,
        }
    }

    /// A key of a file, or why it is of no use.
    fn trusted(&self) -> Result<Key, &'static str> {
        if self
            .purpose
            .as_deref()
            .is_some_and(|purpose| purpose != "sig")
        {
            return Err("it is not for signatures");
        }
        let verifies = |operations: &Vec<String>| operations.iter().any(|it| it == "verify");
        if self
            .key_ops
            .as_ref()
            .is_some_and(|operations| !verifies(operations))
        {
            return Err("it is not for verifying");
        }
        let only = match self.alg.as_deref().filter(|name| !name.is_empty()) {
            None => None,
            Some(name) => Some(Algorithm::named(name).ok_or("its algorithm is not supported")?),
        };
        let material = if self.kty == "oct" {
            let key = self.k.as_ref().and_then(|k| URL_SAFE_NO_PAD.decode(k).ok());
            let key = key.filter(|key| key.len() >= 32);
            Material::Secret(key.ok_or("it is shorter than 256 bits")?)
        } else {
            self.public()
                .ok_or("its kind is not supported, or it is malformed")?
        };
        Ok(Key { material, only })
    }
}

/// How a token says which key it was signed with.
#[derive(Default)]
pub(super) struct Named<'a> {
    pub(super) x5c: Option<&'a [String]>,
    pub(super) jwk: Option<&'a Jwk>,
    pub(super) kid: Option<&'a str>,
}

struct Trusted {
    ids: Vec<String>,
    key: Key,
}

/// All keys that count.
#[derive(Default)]
pub(super) struct TrustedKeys {
    keys: Vec<Trusted>,
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl TrustedKeys {
    /// Trusts a certificate: its key, by both spellings of its identifier, and what it certifies.
    pub(super) fn add_certificate(
        &mut self,
        certificate: CertificateDer<'static>,
    ) -> Result<(), String> {
        let anchor = anchor_from_trusted_cert(&certificate);
        let anchor = anchor.map_err(|error| error.to_string())?.to_owned();
        let info = der::sequence(&anchor.subject_public_key_info);
        let key = Key::from_public_key_info(&info)
            .ok_or("its key is neither RSA of 2048 bits or more, P-256, P-384 nor Ed25519")?;
        let ids = key.thumbprint().into_iter().chain([libtrust_id(&info)]);
        let ids = ids.collect();
        self.keys.push(Trusted { ids, key });
        self.certificates.push(certificate);
        self.anchors.push(anchor);
        Ok(())
    }

    /// Trusts a key of a JWKS file, by the identifier that it has there.
    pub(super) fn add_jwk(&mut self, jwk: &Jwk) -> Result<(), &'static str> {
        let key = jwk.trusted()?;
        let ids = jwk
            .kid
            .iter()
            .filter(|id| !id.is_empty())
            .cloned()
            .collect();
        self.keys.push(Trusted { ids, key });
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The trusted keys that a token can mean; several only if a file has them under one identifier.
    pub(super) fn select(&self, named: &Named<'_>, now: SystemTime) -> Result<Vec<Key>, Flaw> {
        let chain = named
            .x5c
            .filter(|chain| !chain.is_empty() && !self.anchors.is_empty());
        if let Some(chain) = chain {
            return self.certified(chain, now).map(|key| vec![key]);
        }
        if let Some(jwk) = named.jwk {
            return self.known(jwk, now).map(|key| vec![key]);
        }
        let id = named.kid.ok_or(Flaw::Key)?;
        let keys = self
            .keys
            .iter()
            .filter(|trusted| trusted.ids.iter().any(|known| known == id));
        let keys: Vec<_> = keys.map(|trusted| trusted.key.clone()).collect();
        if keys.is_empty() {
            Err(Flaw::Key)
        } else {
            Ok(keys)
        }
    }

    /// A key that a token brings along: only if it is one of ours, or certified.
    fn known(&self, jwk: &Jwk, now: SystemTime) -> Result<Key, Flaw> {
        // Secrets are not told in a header, so none is looked for.
        let material = jwk.public().ok_or(Flaw::Key)?;
        let chain = jwk.x5c.as_deref().filter(|chain| !chain.is_empty());
        if let Some(chain) = chain.filter(|_| !self.anchors.is_empty()) {
            let key = self.certified(chain, now)?;
            return if key.material == material {
                Ok(key)
            } else {
                Err(Flaw::Key)
            };
        }
        let known = self
            .keys
            .iter()
            .find(|trusted| trusted.key.material == material);
        known.map(|trusted| trusted.key.clone()).ok_or(Flaw::Key)
    }

    /// The key of the first certificate of a chain that a certificate of the bundle vouches for.
    fn certified(&self, chain: &[String], now: SystemTime) -> Result<Key, Flaw> {
        if chain.len() > LONGEST_CHAIN {
            return Err(Flaw::Key);
        }
        // RFC 7515 §4.1.6: this is not base64url.
        let chain = chain
            .iter()
            .map(|text| STANDARD.decode(text).map(CertificateDer::from));
        let chain = chain
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| Flaw::Malformed)?;
        let (leaf, others) = chain.split_first().ok_or(Flaw::Key)?;
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let parsed = EndEntityCert::try_from(leaf).map_err(|_| Flaw::Key)?;
        let verdict = parsed.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &self.anchors,
            others,
            UnixTime::since_unix_epoch(now),
            AnyUsage,
            None,
            None,
        );
        match verdict {
            Ok(_) => {}
            // A certificate of the bundle itself needs nobody to vouch for it. These two verdicts
            // come after its dates were looked at.
            Err(webpki::Error::CaUsedAsEndEntity | webpki::Error::UnknownIssuer)
                if self.certificates.contains(leaf) => {}
            Err(_) => return Err(Flaw::Key),
        }
        let info = parsed.subject_public_key_info();
        Key::from_public_key_info(&info).ok_or(Flaw::Key)
    }
}

/// Signing tokens is not a usage that certificates know of; Distribution takes any too.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::signer::{Kind, Signer};
    use super::*;
    use serde_json::{Value, json};

    fn jwk(value: Value) -> Jwk {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_thumbprint_is_that_of_the_specification() {
        // RFC 7638 §3.1.
        let key = jwk(json!({
            "kty": "RSA",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
            "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
        }));
        let thumbprint = jwk_key(&key).thumbprint();
        assert_eq!(
            thumbprint.as_deref(),
            Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")
        );
        assert!(jwk_key(&key).takes(Algorithm::Rs256) && !jwk_key(&key).takes(Algorithm::Rs512));
    }

    fn jwk_key(jwk: &Jwk) -> Key {
        jwk.trusted().unwrap()
    }

    #[test]
    fn a_certificate_gives_its_key_both_identifiers() {
        for kind in [Kind::Rs256, Kind::Es256, Kind::EdDsa] {
            let signer = Signer::new(kind);
            for authority in [true, false] {
                let mut keys = TrustedKeys::default();
                keys.add_certificate(signer.certificate(authority).into())
                    .unwrap();
                let ids = [signer.thumbprint(), signer.libtrust_id()];
                assert_eq!(keys.keys[0].ids, ids);
                assert!(keys.keys[0].key.material == jwk(signer.jwk()).public().unwrap());
            }
        }
    }

    #[test]
    fn a_key_takes_its_own_algorithms_only() {
        let takes = |key: &Key| {
            let all = Algorithm::ALL
                .iter()
                .filter(|(_, algorithm)| key.takes(*algorithm));
            all.map(|(name, _)| *name).collect::<Vec<_>>()
        };
        let of = |kind| jwk_key(&jwk(Signer::new(kind).jwk()));
        let rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
        assert_eq!(takes(&of(Kind::Rs256)), rsa);
        assert_eq!(takes(&of(Kind::Es256)), ["ES256"]);
        assert_eq!(takes(&of(Kind::EdDsa)), ["EdDSA"]);
        let secret = |bytes: usize| {
            jwk_key(&jwk(
                json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(vec![1; bytes]) }),
            ))
        };
        assert_eq!(takes(&secret(32)), ["HS256"]);
        assert_eq!(takes(&secret(64)), ["HS256", "HS384", "HS512"]);
    }

    #[test]
    fn keys_that_are_of_no_use_are_refused() {
        let with = |name: &str, value: Value| {
            let mut key = Signer::new(Kind::Es256).jwk();
            key[name] = value;
            key
        };
        for bad in [
            with("use", json!("enc")),
            with("key_ops", json!(["sign"])),
            with("alg", json!("ES512")),
            with("alg", json!("none")),
            with("crv", json!("P-521")),
            with("x", json!("AAAA")),
            with("x", json!("not base64!")),
            with("kty", json!("oct")),
            with("kty", json!("RSA")),
            json!({ "kty": "oct", "k": "c2hvcnQ" }),
            json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }),
            json!({ "kty": "OKP", "crv": "X25519", "x": "AAAA" }),
        ] {
            assert!(jwk(bad.clone()).trusted().is_err(), "{bad}");
        }
        assert!(jwk(with("use", json!("sig"))).trusted().is_ok());
        assert!(jwk(with("key_ops", json!(["verify"]))).trusted().is_ok());
    }
}
