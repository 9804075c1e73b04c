//! Tokens as Docker's token services sign them, so that a real registry can stand behind the hub's.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::json;

/// The certificate of the signing key. Both are made for these tests, and protect nothing.
pub(crate) const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBhDCCASmgAwIBAgIUS/530vVw1LnV63XUi5fwBrUSR9cwCgYIKoZIzj0EAwIw
FjEUMBIGA1UEAwwLbGFyZGVyLXRlc3QwIBcNMjYxMTIxMDIyNTA2WhgPMjEyNjEw
MjgwMjI1MDZaMBYxFDASBgNVBAMMC2xhcmRlci10ZXN0MFkwEwYHKoZIzj0CAQYI
KoZIzj0DAQcDQgAEKRLFiMvbRJUNhEnI/UeM/E+91v9oQAFRMEQBTxfM8qI0A/sU
GYh1p9S57wS8lowbNWGPNp4jHW/rdt07ouy0e6NTMFEwHQYDVR0OBBYEFOwMIbn6
ckozc19e3w8RzUoY937GMB8GA1UdIwQYMBaAFOwMIbn6ckozc19e3w8RzUoY937G
MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAPVvnXrcMHFiNzkC
o5sGcQOkGz5VPH7rMHpNcn5QAr9RAiEAn9ZZMexk0s0n85Et6RXexdugrJ2ulMgx
30MKCjA8gdY=
-----END CERTIFICATE-----
";

/// The signing key, PKCS #8 in base64.
const KEY: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg2r2YQD3ELylmZzXM23sjYJuJOkTczsHHpwz+gLeitgKh\
    RANCAAQpEsWIy9tElQ2EScj9R4z8T73W/2hAAVEwRAFPF8zyojQD+xQZiHWn1LnvBLyWjBs1YY82niMdb+t23Tui7LR7";

/// A token for one repository: who gave it, for which service, for what.
pub(crate) fn sign(issuer: &str, service: &str, repository: &str, actions: &[&str]) -> String {
    let lines = CERTIFICATE
        .lines()
        .filter(|line| !line.starts_with("-----"));
    let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [lines.collect::<String>()] });
    let claims = json!({
        "iss": issuer, "aud": service, "sub": "", "nbf": 0, "iat": 0, "exp": 4_000_000_000_u64,
        "jti": "1", "access": [{ "type": "repository", "name": repository, "actions": actions }],
    });
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let random = SystemRandom::new();
    let key = STANDARD.decode(KEY).expect("base64");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, &random);
    let signature = key
        .expect("a key")
        .sign(&random, signed.as_bytes())
        .expect("a signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
