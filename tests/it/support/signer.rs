//! Keys that sign tokens: made, shown as JWK and as certificate, and used.
//!
//! Shared by the unit tests of `access` and by the token service of the integration tests, so it
//! names nothing of either. The identifiers are computed here in another way than in `access`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair as CertificateKey};
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
    RsaPublicKeyComponents,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// An RSA key of 2048 bits, PKCS #8 in base64: ring makes none. It is for these tests, and protects
/// nothing.
const RSA: &str = "\
    MIIEugIBADANBgkqhkiG9w0BAQEFAASCBKQwggSgAgEAAoIBAQCjfpYGv+TCl4QEF1DbM+pSCVVoEOV97C8NVVVDUfWN\
    cdTprI0IqZ/9Xajbriax7um8E8TDwQ+Qh8P5eUIc2uX02dSPQrpoeZVx/CJrpsSWLo6IhPodIG6xaxyHZh3Jo6FqHUYy\
    YxJLEBa+0Tv20MK1WJ9uQo+eVEvmPVEgru7Mc2Ey/ZvxNbJawT9x2GxqHJEWhAfGU+8EWDVUJeue8FNuK6f8KuGV5QBw\
    R7T+7KSCMyoQPYNAs+d0obhgVrSNoPpvDgTZNmPnQ+he+f/auyOiPM0KPOsljurK9x6eVjpHSEitwTNVTFucB5i9mmM/\
    v6ztCJjBB0SpNUvfEHDeNEi9AgMBAAECgf8ifJEo21FlupAeTMzBcDH9G/rn+Khv52IFbfqOOLuTGm/O2pblPOKCjz8P\
    F60R21NyWLkokZC26+xqsyk+7O2UuF4d2fV4FC1x3b1k98h/5VIreeFIQ48V3YInDWM7JUjnGUW1WzCApOQnW/tKFL79\
    gbQfjeq9ewqHhmeWfU/h0B47KmvUuSl4v9bxkXwg4/GXYTnwmU4+7sgAxW7ASxZj5Y3a8xxyx12anX7Oqa5VckfFNc2X\
    /rWRPqxyWZaBCdc+QiLWdsw0tKVfAdKGYKkjY5nSH4Bm60fSvU9GMycgnWkhOQaK8cRBt1H+8H3CdXGQ2DEJmYPwSBq/\
    x6f1KSkCgYEA2QHsS9PXOT/zLTxSQbsEmwHEm2Is5h9s5U+6dHyaNHZxYAogy7A6Fh3tZU1bznrTUqlLVbMU+Pi1saYw\
    I+7oie/nqSw2vC+zxz5WckDDItxExIIGswU4f56ZVPWEWkCLBAX+ThT3PTyK3IN7kG2lxczP+wL12gRvetfWOoqG858C\
    gYEAwN8hLvIEbrLtx9AI4EUEp/IHZiKcY7Rhs+CdjFyGSyJ4LK1H39y1R1Jxi1IATJBAfEzqt/bf3ZiVjO4v4eeaXDLT\
    96onTzUtRrCBc2Ahyi4Hfg5C6ckClw/TrSZnjeHqH/CcO7JAsGHwhLQl/uoKt5odUnM0uK83Y9heN5IsxiMCgYA8HKZC\
    EvppZ2eLPkxi3NVXwtOdX0KktEvL8ZvqrKFiqvSY7/VJtxVADyY1i4pE1g03tqGhqavDk9Fw1mI7cfCEVSpM2GyJEIWy\
    SXhUyc/EFlQOQx5r9KRD5cD/ocr53SslACwDoRcjpWOp1doildz3v9ZU5+sGa3geBS/Yo4ribQKBgAfRxAWkODvIs00z\
    iPiWs76fWF9yrcZ5DLD/PUPwiF1Jc3fUOqK/zvWqSQIt++cevg6MC8QTlTXltsJ08aoF+sMcKG3VDyzt6f0AsO7dieEp\
    hpI8v8e8p4c6VAmkEfS1oQlUdvEQpADCp76pkxTHplGVRPUPyKZoLCW3IvK70WbjAoGAU8hcUZD4/MCml8gwoGzTinmU\
    CWZOtBV49+YzBqcifZ3Zy1H8aWUm6GRzy62RHt/fBAmAhnrXU6PZ3PWUhI9bDW9llfhygdDevs67XMHyeFJfla+DA6k8\
    G8lVExLFucIPil5Hi2Hbb26io/4TcisShGBWlttr4En/qqVetQ8DOOk=";

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// RSA, of which there is only one.
    Rs256,
    /// P-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// A key that signs tokens.
pub(crate) struct Signer {
    kind: Kind,
    pkcs8: Vec<u8>,
}

impl Signer {
    /// A new key, but for RSA.
    pub(crate) fn new(kind: Kind) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = match kind {
            Kind::Rs256 => STANDARD.decode(RSA).expect("base64"),
            Kind::Es256 => {
                let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random);
                key.expect("a key").as_ref().to_vec()
            }
            Kind::EdDsa => {
                let key = Ed25519KeyPair::generate_pkcs8(&random);
                key.expect("a key").as_ref().to_vec()
            }
        };
        Self { kind, pkcs8 }
    }

    /// The name of its usual algorithm.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self.kind {
            Kind::Rs256 => "RS256",
            Kind::Es256 => "ES256",
            Kind::EdDsa => "EdDSA",
        }
    }

    /// The public key as JSON, RFC 7517, without an identifier.
    pub(crate) fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self.kind {
            Kind::Rs256 => {
                let key = RsaKeyPair::from_pkcs8(&self.pkcs8).expect("a key");
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({ "kty": "RSA", "n": encode(&public.n), "e": encode(&public.e) })
            }
            Kind::Es256 => {
                let key = self.ecdsa();
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) })
            }
            Kind::EdDsa => {
                let key = Ed25519KeyPair::from_pkcs8(&self.pkcs8).expect("a key");
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key().as_ref()) })
            }
        }
    }

    /// The key's identifier of RFC 7638, by which Distribution 3 knows it.
    pub(crate) fn thumbprint(&self) -> String {
        // The members of these keys are all that counts, and serde_json sorts them.
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.jwk().to_string()))
    }

    /// The key's identifier of Docker's libtrust, by which Distribution 2 knows it.
    pub(crate) fn libtrust_id(&self) -> String {
        use rcgen::PublicKeyData as _;
        let hash = Sha256::digest(self.certificate_key().subject_public_key_info());
        let mut bits = hash[..30]
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1));
        let letters = (0..48).map(|_| (0..5).fold(0, |n, _| n << 1 | bits.next().expect("a bit")));
        let letters = letters.map(|n: u8| if n < 26 { b'A' + n } else { b'2' + n - 26 });
        let letters: String = letters.map(char::from).collect();
        let groups = letters.as_bytes().chunks(4).map(String::from_utf8_lossy);
        groups.collect::<Vec<_>>().join(":")
    }

    /// A certificate of its own making, as DER.
    pub(crate) fn certificate(&self, authority: bool) -> Vec<u8> {
        let certificate = parameters("larder-test", authority).self_signed(&self.certificate_key());
        certificate.expect("a certificate").der().to_vec()
    }

    /// A certificate that this key, as an authority, makes for another.
    pub(crate) fn certify(&self, other: &Self) -> Vec<u8> {
        let issuer = Issuer::new(parameters("larder-test", true), self.certificate_key());
        let certificate = parameters("signer", false).signed_by(&other.certificate_key(), &issuer);
        certificate.expect("a certificate").der().to_vec()
    }

    /// A token with the usual algorithm; `header` is what else its header says.
    pub(crate) fn sign(&self, header: Value, claims: &Value) -> String {
        let mut header = header;
        header["typ"] = "JWT".into();
        header["alg"] = self.algorithm().into();
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// A token of any text at all.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn signature(&self, text: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self.kind {
            Kind::Rs256 => {
                let key = RsaKeyPair::from_pkcs8(&self.pkcs8).expect("a key");
                let mut bytes = vec![0; key.public().modulus_len()];
                let signed = key.sign(&signature::RSA_PKCS1_SHA256, &random, text, &mut bytes);
                signed.expect("a signature");
                bytes
            }
            Kind::Es256 => {
                let signed = self.ecdsa().sign(&random, text);
                signed.expect("a signature").as_ref().to_vec()
            }
            Kind::EdDsa => {
                let key = Ed25519KeyPair::from_pkcs8(&self.pkcs8).expect("a key");
                key.sign(text).as_ref().to_vec()
            }
        }
    }

    fn ecdsa(&self) -> EcdsaKeyPair {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        EcdsaKeyPair::from_pkcs8(algorithm, &self.pkcs8, &SystemRandom::new()).expect("a key")
    }

    fn certificate_key(&self) -> CertificateKey {
        let algorithm = match self.kind {
            Kind::Rs256 => &rcgen::PKCS_RSA_SHA256,
            Kind::Es256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Kind::EdDsa => &rcgen::PKCS_ED25519,
        };
        let pkcs8 = PrivatePkcs8KeyDer::from(self.pkcs8.as_slice());
        CertificateKey::from_pkcs8_der_and_sign_algo(&pkcs8, algorithm).expect("a key")
    }
}

/// From 1975 to 4096, which is what rcgen says if it is not told.
fn parameters(name: &str, authority: bool) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    if authority {
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    parameters
}

/// A certificate as PEM.
pub(crate) fn pem(certificate: &[u8]) -> String {
    let encoded = STANDARD.encode(certificate);
    let lines = encoded.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines = lines.collect::<Vec<_>>().join("\n");
    format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
}
