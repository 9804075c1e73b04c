//! Credentials: where they go, where they do not, and that nobody prints them.

use std::sync::{Arc, Mutex};

use larder::upstream::{Credentials, Settings, UpstreamError};

use super::{
    MANIFEST, TYPE, blob, carried, fetch, get, logged_in, manifest, manifests, misbehaves, name,
    settings, statuses, tag, upstream, with,
};
use crate::support::hub::{Fault, Hub, Kind, Listener, What, Where};
use crate::support::listening::listen;

#[tokio::test]
async fn credentials_open_private_repositories() {
    let hub = Hub::builder()
        .bearer()
        .credentials("me", "right")
        .start()
        .await;
    manifest(&hub);
    hub.private("a/b");
    assert!(get(&logged_in(&hub, "right")).await.is_ok());
    assert_eq!(carried(&hub, Listener::Token), ["Basic bWU6cmlnaHQ="]);
    assert!(
        carried(&hub, Listener::Registry)
            .iter()
            .all(|header| header.starts_with("Bearer "))
    );
    assert_eq!(get(&upstream(&hub)).await, Err(UpstreamError::Denied));
}

#[tokio::test]
async fn credentials_go_to_no_token_service_that_only_the_upstream_names() {
    let hub = Hub::builder()
        .bearer()
        .credentials("me", "right")
        .start()
        .await;
    manifest(&hub);
    let credentials = Some(Credentials {
        username: "me".to_owned(),
        password: "right".to_owned(),
    });
    let stranger = Settings {
        credentials,
        token_hosts: vec!["127.0.0.1".to_owned()],
        ..settings(&hub)
    };
    let stranger = with(stranger);
    assert!(get(&stranger).await.is_ok(), "anonymously");
    assert_eq!(hub.token_requests(), 1);
    assert_eq!(carried(&hub, Listener::Token), [] as [&str; 0]);
}

#[tokio::test]
async fn wrong_credentials_leave_public_images_and_are_not_hammered() {
    let hub = Hub::builder()
        .bearer()
        .credentials("me", "right")
        .start()
        .await;
    manifest(&hub);
    hub.put_manifest("secret", Some("latest"), TYPE, MANIFEST);
    hub.private("secret");
    let upstream = logged_in(&hub, "wrong");
    for _ in 0..5 {
        assert!(get(&upstream).await.is_ok());
        let secret = upstream.get_manifest(&name("secret"), &tag("latest")).await;
        assert_eq!(secret.err(), Some(UpstreamError::CredentialsRefused));
    }
    assert_eq!(carried(&hub, Listener::Token).len(), 1);

    // Not even by many at once.
    hub.clear_log();
    let upstream = logged_in(&hub, "also wrong");
    let all = (0..10).map(|n| {
        let repository = format!("public{n}");
        hub.put_manifest(&repository, Some("latest"), TYPE, MANIFEST);
        let upstream = &upstream;
        async move {
            upstream
                .get_manifest(&name(&repository), &tag("latest"))
                .await
        }
    });
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(carried(&hub, Listener::Token).len(), 1);
}

#[tokio::test]
async fn one_repository_that_they_do_not_open_does_not_discredit_them() {
    // ghcr.io's token service says 403 of what does not exist.
    let hub = Hub::builder()
        .bearer()
        .credentials("me", "right")
        .start()
        .await;
    manifest(&hub);
    hub.put_manifest("secret", Some("latest"), TYPE, MANIFEST);
    hub.private("secret");
    hub.fault(Fault::on(Where::tokens().query("missing")).does(What::Status(403, &[], "")));
    let upstream = logged_in(&hub, "right");
    assert!(get(&upstream).await.is_ok());
    for n in 0..10 {
        let missing = upstream
            .get_manifest(&name(&format!("missing{n}")), &tag("latest"))
            .await;
        assert_eq!(missing.err(), Some(UpstreamError::Denied));
    }
    assert!(
        upstream
            .get_manifest(&name("secret"), &tag("latest"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn basic_is_met_with_basic_at_home() {
    let hub = Hub::builder().basic("me", "right").start().await;
    manifest(&hub);
    let right = logged_in(&hub, "right");
    assert!(get(&right).await.is_ok() && get(&right).await.is_ok());
    assert_eq!(statuses(&hub, Kind::Manifest), [401, 200, 200]);
    assert_eq!(get(&upstream(&hub)).await, Err(UpstreamError::Denied));
    hub.clear_log();
    let wrong = logged_in(&hub, "wrong");
    for _ in 0..5 {
        assert_eq!(get(&wrong).await, Err(UpstreamError::CredentialsRefused));
    }
    assert_eq!(carried(&hub, Listener::Registry).len(), 1);
}

#[tokio::test]
async fn a_realm_must_be_somewhere_sensible() {
    let hub = Hub::builder().bearer().start().await;
    manifest(&hub);
    let evil = Hub::start().await;
    let port = evil.token_host();
    for realm in [
        "file:///etc/passwd".to_owned(),
        "gopher://127.0.0.1/".to_owned(),
        "/token".to_owned(),
        "http://169.254.169.254/token".to_owned(),
        "http://2852039166/token".to_owned(),
        "http://[fe80::1]/token".to_owned(),
        "http://[::ffff:127.0.0.1]/token".to_owned(),
        format!("http://me:secret@{port}/token"),
    ] {
        let challenge = format!(r#"Bearer realm="{realm}",service="hub.test""#);
        hub.fault(
            Fault::on(manifests())
                .does(What::Challenge(vec![challenge]))
                .times(1),
        );
        misbehaves(get(&logged_in(&hub, "secret")).await, "");
    }
    assert!(evil.asked().is_empty());
    // Elsewhere is possible, but without a name.
    let challenge = format!(r#"Bearer realm="http://{port}/token",service="hub.test""#);
    hub.fault(
        Fault::on(manifests())
            .does(What::Challenge(vec![challenge]))
            .times(1),
    );
    get(&logged_in(&hub, "secret")).await.ok();
    assert_eq!(evil.token_requests(), 1);
    assert_eq!(carried(&evil, Listener::Token), [] as [&str; 0]);
}

#[tokio::test]
async fn no_secret_is_logged() {
    let log = Capture::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false);
    let _listening = listen(subscriber.with_writer(move || writer.clone()).finish());

    let hub = Hub::builder()
        .bearer()
        .credentials("me", "hunter2")
        .cdn()
        .start()
        .await;
    let (_, digest) = blob(&hub);
    manifest(&hub);
    let right = logged_in(&hub, "hunter2");
    hub.fault(
        Fault::on(Where::blobs())
            .does(What::TruncateAfter(100_000))
            .times(1),
    );
    assert!(fetch(&right, &digest).await.is_ok() && get(&right).await.is_ok());
    assert!(get(&logged_in(&hub, "hunter3")).await.is_ok());
    hub.down().await;
    assert!(fetch(&right, &digest).await.is_err());
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for expected in [
        "asked",
        "asking for the rest",
        "refused its username and password",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(text.matches("refused its username").count(), 1);
    for secret in ["hunter", "bWU6", "-hub-token-", "sig=", "scope="] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
