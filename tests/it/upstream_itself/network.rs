//! TLS and proxies.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use larder::upstream::{Settings, Upstream, UpstreamError};

use super::{MANIFEST, get, manifest, settings, with};
use crate::support::hub::Hub;

// For localhost, its own authority, valid from 2020 to 2120. The key is for tests only.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBaDCCAQ6gAwIBAgICEAAwCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJbG9jYWxo
b3N0MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAUMRIwEAYDVQQD
DAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARrYNJktYIiXpxM
MSqvmcmvOGNUUtxNUnzMFdcuw8es1Vgsw4I+ibOUD9jFbVsMpzMFQ7tG7/FO6JQg
HQ9V6Atuo04wTDAPBgNVHRMBAf8EBTADAQH/MBoGA1UdEQQTMBGCCWxvY2FsaG9z
dIcEfwAAATAdBgNVHQ4EFgQUb/gO7Hui06y1YhMsEceoxzvnSqkwCgYIKoZIzj0E
AwIDSAAwRQIgcb1VdHLragfa/0MzwdRnbI8XxHteek2aoaIO+K48ySMCIQDk/n9n
EYg2Obdkrlr4+1lelbIjA5mQD7WAfVTM5amt9w==
-----END CERTIFICATE-----";
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgwlAyV4W7h4jeKOJL
vqgjQ8HPF/Ldz8xdFsYszVTNkHShRANCAARrYNJktYIiXpxMMSqvmcmvOGNUUtxN
UnzMFdcuw8es1Vgsw4I+ibOUD9jFbVsMpzMFQ7tG7/FO6JQgHQ9V6Atu
-----END PRIVATE KEY-----";

/// Answers every request on one port with a manifest; returns its address.
fn tls_server() -> String {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, socket.unwrap());
            // Whoever does not trust the certificate hangs up here.
            if stream.read(&mut [0; 4096]).is_ok() {
                let length = MANIFEST.len();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all((head + MANIFEST).as_bytes()).unwrap();
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            }
        }
    });
    format!("https://localhost:{}", address.port())
}

#[tokio::test]
async fn an_upstream_s_own_certificate_is_trusted_there_only() {
    let hub = Hub::start().await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(CERTIFICATE.as_bytes()).unwrap();
    let url = tls_server();
    let at = |url: &str, ca| {
        with(Settings {
            url: url.parse().unwrap(),
            ca,
            ..settings(&hub)
        })
    };
    let trusting = at(&url, Some(file.path().to_owned()));
    assert_eq!(get(&trusting).await.unwrap(), MANIFEST.as_bytes());
    for distrustful in [
        at(&url, None),
        at(&url.replace("localhost", "127.0.0.1"), None),
    ] {
        let error = get(&distrustful).await.unwrap_err();
        assert!(
            matches!(&error, UpstreamError::Unreachable { reason } if reason.contains("certificate")),
            "{error}"
        );
    }
    let missing = Settings {
        ca: Some("/nonexistent.pem".into()),
        ..settings(&hub)
    };
    assert!(
        Upstream::new(missing)
            .unwrap_err()
            .to_string()
            .contains("/nonexistent.pem")
    );
}

#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let hub = Hub::start().await;
    // The kernel accepts; nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap())
        .parse()
        .unwrap();
    let error = get(&with(Settings {
        url,
        ..settings(&hub)
    }))
    .await
    .unwrap_err();
    assert_eq!(
        error,
        UpstreamError::Timeout {
            what: "no connection"
        }
    );
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_used() {
    const INNER: &str = "LARDER_TEST_BEHIND_PROXY";
    if let Ok(direct) = std::env::var(INNER) {
        // The child: the proxy answers 404 of what it does not know, as any hub would.
        let hub = Hub::start().await;
        let at = |url: &str| {
            with(Settings {
                url: url.parse().unwrap(),
                ..settings(&hub)
            })
        };
        assert_eq!(
            get(&at("http://registry.invalid")).await,
            Err(UpstreamError::NotFound)
        );
        assert!(get(&at(&direct)).await.is_ok());
        return;
    }
    let hub = Hub::start().await;
    manifest(&hub);
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child
        .args([
            "--exact",
            "upstream_itself::network::a_proxy_of_the_environment_is_used",
        ])
        .env(INNER, hub.url())
        .env("HTTP_PROXY", hub.url().replace("127.0.0.1", "localhost"))
        .env("NO_PROXY", "127.0.0.1");
    let output = tokio::task::spawn_blocking(move || child.output())
        .await
        .unwrap()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let paths: Vec<_> = hub.asked().iter().map(|asked| asked.path.clone()).collect();
    let path = "/v2/a/b/manifests/latest";
    assert_eq!(
        paths,
        [format!("http://registry.invalid{path}"), path.to_owned()]
    );
}
