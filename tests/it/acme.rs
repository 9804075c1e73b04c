//! Certificates that larder gets by itself, from a real ACME server.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::support::programs::{Curl, Larder, Options, Pebble, free_port};

/// What curl says of the certificate's issuer.
async fn issuer(larder: &Larder) -> Option<String> {
    let curl = Curl::trusting(None);
    let url = format!("{}/v2/", larder.url());
    let got = curl.fetch(&url, &["--insecure", "--verbose"]).await;
    let said = got.output.stderr;
    let line = said.lines().find(|line| line.contains("issuer:"))?;
    (got.status == "200").then(|| line.to_owned())
}

fn serial(larder: &Larder) -> String {
    let kept = std::fs::read_to_string(larder.root().join("acme.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    kept["pair"]["certificate"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_got_kept_and_got_again_when_what_was_kept_is_broken() {
    let port = free_port();
    let pebble = Pebble::looking_at(port);
    let letsencrypt = json!({
        "hosts": ["registry.example.com", "mirror.example.com"],
        "email": "me@example.com",
        "directoryurl": pebble.directory(),
    });
    let mut larder = Options::registry()
        .set(&["http", "addr"], json!(format!("127.0.0.1:{port}")))
        .set(&["http", "tls"], json!({ "letsencrypt": letsencrypt }))
        .environment("SSL_CERT_FILE", &pebble.trusted())
        .start()
        .await;
    // It listens, and says why nobody gets further.
    larder
        .logged("no certificate could be got: trying again in 5s")
        .await;
    assert_eq!(issuer(&larder).await, None);
    larder.logged("there is no certificate yet").await;
    let running = pebble.start().await;
    larder
        .logged("a certificate for registry.example.com, mirror.example.com has been got")
        .await;
    let shown = issuer(&larder).await.unwrap();
    assert!(shown.contains("Pebble"), "{shown} {}", running.log());
    let file = larder.root().join("acme.json");
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!larder.log().contains("PRIVATE"), "{}", larder.log());

    // A restart asks nobody, and there is nobody to ask.
    drop(running);
    let first = serial(&larder);
    larder.signal(rustix::process::Signal::TERM);
    assert!(larder.ended().await.success());
    larder.start_again().await;
    assert!(issuer(&larder).await.unwrap().contains("Pebble"));
    assert_eq!(serial(&larder), first);
    assert!(
        !larder.log().contains("certificate could"),
        "{}",
        larder.log()
    );

    larder.signal(rustix::process::Signal::TERM);
    assert!(larder.ended().await.success());
    std::fs::write(&file, &std::fs::read(&file).unwrap()[..100]).unwrap();
    let _running = pebble.start().await;
    larder.start_again().await;
    larder.logged("cachefile cannot be used").await;
    larder.logged("has been got").await;
    assert!(issuer(&larder).await.unwrap().contains("Pebble"));
    while std::fs::metadata(&file).unwrap().len() == 100 {
        tokio::task::yield_now().await;
    }
    assert_ne!(serial(&larder), first);
    larder.finish().await;
}
