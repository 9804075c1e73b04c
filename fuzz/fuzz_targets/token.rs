//! No text that nobody signed is a token, whatever its header and claims say.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use larder::access::TokenSettings;
use larder::access::jwt::Verifier;
use libfuzzer_sys::fuzz_target;

/// Keys of RFC 8037 §A.2, RFC 7517 §A.1 and RFC 7638 §3.1, and a certificate of `tests/it`.
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join(format!("larder-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (jwks, bundle) = (directory.join("jwks.json"), directory.join("bundle.pem"));
    std::fs::write(&jwks, include_str!("token/jwks.json")).unwrap();
    std::fs::write(&bundle, include_str!("token/bundle.pem")).unwrap();
    let verifier = Verifier::new(&TokenSettings {
        service: "s".to_owned(),
        issuer: "i".to_owned(),
        jwks: Some(jwks),
        root_cert_bundle: Some(bundle),
        ..TokenSettings::default()
    });
    std::fs::remove_dir_all(&directory).unwrap();
    verifier.unwrap()
});

fuzz_target!(|input: (&str, &str, &[u8])| {
    let (header, claims, signature) = input;
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    assert!(VERIFIER.verify(header, now).is_err());
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let token = format!(
        "{}.{}.{}",
        encode(header.as_bytes()),
        encode(claims.as_bytes()),
        encode(signature)
    );
    assert!(VERIFIER.verify(&token, now).is_err());
});
