//! Redirects: where they may lead, and what goes along.

use larder::oci::media::MANIFESTS;
use larder::upstream::UpstreamError;

use super::{
    blob, fetch, get, logged_in, manifest, manifests, misbehaves, name, open, rest, tag, upstream,
};
use crate::support::hub::{Fault, Hub, Listener, What, Where};

#[tokio::test]
async fn redirects_are_followed_without_credentials() {
    let hub = Hub::builder()
        .bearer()
        .credentials("me", "right")
        .cdn()
        .start()
        .await;
    let (bytes, digest) = blob(&hub);
    let upstream = logged_in(&hub, "right");
    assert_eq!(fetch(&upstream, &digest).await.unwrap(), bytes);
    let mut stream = open(&upstream, &digest, 1000).await.unwrap();
    assert_eq!(stream.size(), Some(bytes.len() as u64));
    assert_eq!(rest(&mut stream).await.unwrap(), &bytes[1000..]);
    let at_cdn: Vec<_> = hub
        .asked()
        .into_iter()
        .filter(|asked| asked.listener == Listener::Cdn)
        .collect();
    let ranges: Vec<_> = at_cdn.iter().map(|asked| asked.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=1000-")]);
    for asked in at_cdn {
        for absent in ["authorization", "cookie", "referer"] {
            assert_eq!(asked.header(absent), None);
        }
    }
}

#[tokio::test]
async fn every_kind_of_redirect_is_followed_and_head_stays_head() {
    let hub = Hub::builder().bearer().start().await;
    let digest = manifest(&hub);
    let upstream = upstream(&hub);
    for status in [301, 302, 303, 307, 308] {
        for to in [
            format!("/v2/a/b/manifests/{digest}"),
            format!("{}/v2/a/b/manifests/{digest}", hub.url()),
            digest.clone().replace("sha256:", "./sha256:"),
        ] {
            let moved = manifests().path("latest").with_header("authorization");
            hub.fault(Fault::on(moved).does(What::Redirect(status, to)).times(2));
            assert!(get(&upstream).await.is_ok());
            assert!(
                upstream
                    .head_manifest(&name("a/b"), &tag("latest"))
                    .await
                    .is_ok()
            );
        }
    }
    let by_digest: Vec<_> = hub
        .asked()
        .into_iter()
        .filter(|asked| asked.path.contains("sha256"))
        .collect();
    assert_eq!(
        by_digest
            .iter()
            .filter(|asked| asked.method == "HEAD")
            .count(),
        15
    );
    for asked in by_digest {
        assert!(asked.header("authorization").is_some(), "still at home");
        assert_eq!(asked.header("accept"), Some(MANIFESTS.join(", ").as_str()));
    }
}

#[tokio::test]
async fn redirects_to_nowhere_good_are_refused() {
    let hub = Hub::start().await;
    manifest(&hub);
    let upstream = upstream(&hub);
    let secret = format!("http://me:secret@{}/", hub.cdn_host());
    for (to, about) in [
        (
            "http://169.254.169.254/latest/meta-data?sig=secret",
            "169.254.169.254",
        ),
        ("http://[::ffff:127.0.0.1]/", "may not"),
        ("http://0.0.0.0/", "may not"),
        ("//169.254.1.1/", "may not"),
        ("ftp://127.0.0.1/", "neither"),
        ("file:///etc/passwd", "neither"),
        ("http://", "no address"),
        (&secret, "username"),
    ] {
        hub.fault(
            Fault::on(manifests())
                .does(What::Redirect(307, to.to_owned()))
                .times(1),
        );
        let error = get(&upstream).await.unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        misbehaves(Err::<(), _>(error), about);
    }
    hub.fault(
        Fault::on(manifests())
            .does(What::Status(307, &[], ""))
            .times(1),
    );
    misbehaves(get(&upstream).await, "to nowhere");
    hub.clear_log();
    hub.fault(Fault::on(manifests()).does(What::RedirectLoop));
    misbehaves(get(&upstream).await, "more than 5 redirects");
    assert_eq!(hub.asked().len(), 6);
    assert!(
        hub.asked()
            .iter()
            .all(|asked| asked.listener == Listener::Registry)
    );
}

#[tokio::test]
async fn credentials_that_were_left_behind_stay_there() {
    let hub = Hub::builder().bearer().start().await;
    let digest = manifest(&hub);
    let away = format!("http://{}/away", hub.cdn_host());
    let back = format!("{}/v2/a/b/manifests/{digest}", hub.url());
    hub.fault(
        Fault::on(manifests().path("latest").with_header("authorization"))
            .does(What::Redirect(307, away)),
    );
    hub.fault(Fault::on(Where::anything().at(Listener::Cdn)).does(What::Redirect(307, back)));
    assert_eq!(get(&upstream(&hub)).await, Err(UpstreamError::Denied));
    let back: Vec<_> = hub
        .asked()
        .into_iter()
        .filter(|asked| asked.path.contains("sha256"))
        .collect();
    assert!(
        !back.is_empty()
            && back
                .iter()
                .all(|asked| asked.header("authorization").is_none())
    );
}
